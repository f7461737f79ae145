"""init: the two files it writes are valid, and say what has to be decided."""

import re

import numpy as np
import pytest
import tifffile

from xrmflow.config.loader import load_settings
from xrmflow.config.scans import load_scans
from xrmflow.config.settings import Settings
from xrmflow.errors import RawFileError, SettingsError
from xrmflow.io.cfb import SIGNATURE
from xrmflow.io.write_dataexchange import write_dataexchange
from xrmflow.io.write_txrm import write_txrm
from xrmflow.manage.config_text import config_text
from xrmflow.manage.init import init, scan_id

FRAMES = np.random.default_rng(0).integers(0, 60_000, (5, 4, 6), dtype=np.uint16)
ANGLES = np.linspace(0, 180, 5)


@pytest.fixture
def scans(tmp_path):
    """A folder with two scans of the same stem, a reference, a truth folder, and something else."""
    folder = tmp_path / "raw data"
    (folder / "mouse 3.truth").mkdir(parents=True)
    (folder / "mouse 3.truth" / "truth.json").touch()
    geometry = {"pixel_size_um": 1.0, "source_to_axis_mm": 5.0, "detector_to_axis_mm": 9.0}
    write_txrm(folder / "mouse 3.txrm", projections=FRAMES, angles_deg=ANGLES, reference=FRAMES[0], **geometry)
    write_dataexchange(folder / "mouse 3.h5", projections=FRAMES, angles_deg=ANGLES)
    write_txrm(folder / "flat.xrm", projections=FRAMES[:1], angles_deg=ANGLES[:1], **geometry)
    (folder / "readme.txt").write_text("hello")
    return folder


def test_a_folder_of_scans(scans, tmp_path):
    said = init([scans], tmp_path / "study")
    table = load_scans(tmp_path / "study" / "scans.tsv")
    assert sorted(table) == ["mouse_3", "mouse_3_2"]
    assert {name: scan.role for name, scan in table.items()} == {"mouse_3": "test", "mouse_3_2": "train"}
    assert [bool(scan.truth) for scan in table.values()] == [True, True]
    assert "left out: flat.xrm (a single view" in said
    assert "left out: readme.txt (not a known raw format" in said
    assert "to decide in config.yaml: mouse_3: no flats: decide with flatfield.missing_flat" in said
    config = (tmp_path / "study" / "config.yaml").read_text()
    assert "# - mouse_3: no pixel size: set ingest.pixel_size_um" in config


def test_a_folder_of_frames_is_one_scan(tmp_path):
    folder = tmp_path / "scan-1"
    folder.mkdir()
    for k, frame in enumerate(FRAMES):
        tifffile.imwrite(folder / f"p{k}.tif", frame)
    said = init([folder], tmp_path)
    assert list(load_scans(tmp_path / "scans.tsv")) == ["scan-1"]
    assert "scan-1: no angles in the file; set ingest.angles_first_deg" in said


def test_folders_beside_the_scans_are_named_and_answers_are_not(scans, tmp_path):
    (scans / "frames").mkdir()
    said = init([scans], tmp_path / "study")
    assert "left out: frames (a folder: give it by name" in said
    assert "mouse 3.truth" not in said
    for k, frame in enumerate(FRAMES):
        tifffile.imwrite(scans / "frames" / f"p{k}.tif", frame)
    assert "left out: frames" not in init([scans, scans / "frames"], tmp_path / "whole")


def test_networks_learn_from_scans_that_lack_nothing(tmp_path):
    """A scan that waits for a decision would make all others wait."""
    for name in ("a", "b", "c", "d", "e"):
        reference = {} if name == "a" else {"reference": FRAMES[0]}
        distances = {"pixel_size_um": 1.0, "source_to_axis_mm": 5.0, "detector_to_axis_mm": 9.0}
        write_txrm(tmp_path / f"{name}.txrm", projections=FRAMES, angles_deg=ANGLES, **distances, **reference)
    init([tmp_path], tmp_path)
    roles = {name: scan.role for name, scan in load_scans(tmp_path / "scans.tsv").items()}
    assert roles == {"a": "test", "b": "train", "c": "train", "d": "train", "e": "train"}
    init([tmp_path / "a.txrm"], tmp_path / "alone")
    assert load_scans(tmp_path / "alone" / "scans.tsv")["a"].role == "train"


def test_ids_differ_by_more_than_capitals(tmp_path):
    for name in ("Tibia.h5", "tibia.h5"):
        write_dataexchange(tmp_path / name, projections=FRAMES, angles_deg=ANGLES)
    init([tmp_path], tmp_path)
    assert list(load_scans(tmp_path / "scans.tsv")) == ["Tibia", "tibia_2"]


def test_nothing_is_overwritten(scans, tmp_path):
    init([scans], tmp_path)
    before = (tmp_path / "config.yaml").read_text()
    with pytest.raises(SettingsError, match=r"config\.yaml: exists already"):
        init([scans], tmp_path)
    assert (tmp_path / "config.yaml").read_text() == before


def test_what_is_not_a_scan_is_refused(scans, tmp_path):
    with pytest.raises(RawFileError, match=r"readme\.txt: not a known raw format"):
        init([scans / "readme.txt"], tmp_path)
    with pytest.raises(SettingsError, match="expected raw scans"):
        init([], tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RawFileError, match=r"no TIFF files in .*empty; of another format name the file itself"):
        init([tmp_path / "empty"], tmp_path)
    assert not (tmp_path / "config.yaml").exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.txrm", "a"),
        ("mouse 3 (left).txrm", "mouse_3_left"),
        ("-x.h5", "x"),
        ("ä.h5", "scan"),
        ("n" * 90 + ".h5", "n" * 64),
    ],
)
def test_ids(tmp_path, name, expected):
    assert scan_id(tmp_path / name) == expected


def test_the_settings_are_valid_as_written_and_with_every_comment_taken_off(scans, tmp_path):
    settings = pytest.importorskip("xrmflow.config.settings").Settings
    from xrmflow.config.loader import load_settings

    init([scans], tmp_path)
    assert load_settings(tmp_path / "config.yaml", settings) == settings()
    text = (tmp_path / "config.yaml").read_text()
    lines = [
        line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ") and ":" in line.split("#")[1]
    ]
    keys = [line for line in lines if line.split(":")[0].strip().isidentifier()]
    (tmp_path / "all.yaml").write_text("\n".join(keys) + "\n")
    assert load_settings(tmp_path / "all.yaml", settings) == settings()


def test_volumes_that_are_reconstructed_already(scans, tmp_path, write_isq):
    """Rows like any other, from which no network learns; what a file does not say is asked for."""
    write_isq(scans / "tibia.isq", np.zeros((5, 6, 7), np.int16))
    (scans / "femur.txm").write_bytes(SIGNATURE + bytes(600))
    init([scans], tmp_path / "study")
    table = load_scans(tmp_path / "study" / "scans.tsv")
    assert {table[name].role for name in ("tibia", "femur")} == {"test"}
    assert [name for name, scan in table.items() if scan.role == "train"] == ["mouse_3_2"]
    said = (tmp_path / "study" / "config.yaml").read_text()
    assert "femur: no unit of its grey values: set import_volume.slope_per_mm" in said
    assert "tibia" not in said


def test_what_is_commented_out_in_the_settings_shows_the_default(tmp_path):
    text = config_text(scans="scans.tsv", needs=[])
    uncommented = re.sub(r"^# (?=[a-z_]+:| )", "", text, flags=re.MULTILINE)
    (tmp_path / "config.yaml").write_text(uncommented)
    assert "\n  threshold_method: midpoint\n" in uncommented
    assert load_settings(tmp_path / "config.yaml", Settings) == Settings()
