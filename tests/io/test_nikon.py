"""Nikon .xtekct: files written by hand as the open readers describe them; geometry against CIL's description of it."""

import contextlib

import numpy as np
import pytest
import tifffile

from xrmflow.config.ingest import IngestSection
from xrmflow.errors import RawFileError
from xrmflow.geometry.scan import scan_geometry
from xrmflow.io.nominal import nominal_acquisition, oriented, unattenuated
from xrmflow.io.read_nikon import nikon_files, read_angle_table
from xrmflow.io.sniff import open_raw, sniff
from xrmflow.manage.inspect import inspect
from xrmflow.manage.sources import files_of

ROWS, COLS, VIEWS = 4, 6, 5
FRAMES = np.random.default_rng(0).integers(1000, 60_000, (VIEWS, ROWS, COLS), dtype=np.uint16)
DEFAULTS = IngestSection()
DESCRIPTION = {
    "Name": "bone",
    "InputSeparator": "_",
    "InputFolderName": "",
    "SrcToObject": "20.0",
    "SrcToDetector": "100.0",
    "DetectorPixelsX": COLS,
    "DetectorPixelsY": ROWS,
    "DetectorPixelSizeX": "0.2",
    "DetectorPixelSizeY": "0.2",
    "WhiteLevel": "50000",
    "Projections": VIEWS,
    "InitialAngle": "30",
    "AngularStep": "72",
}


@pytest.fixture
def describe(tmp_path):
    """Writes the frames and the description, with other or further values; gives the description's path."""

    def write(folder=".", **changed):
        (tmp_path / folder).mkdir(exist_ok=True)
        for k, frame in enumerate(FRAMES, start=1):
            tifffile.imwrite(tmp_path / folder / f"bone_{k:04d}.tif", frame)
        tifffile.imwrite(tmp_path / folder / "bone_sum.tif", FRAMES[0])
        lines = [f"{name}={value}" for name, value in (DESCRIPTION | changed).items() if value is not None]
        rest = ["[Xrays]", "XraykV=90", "XrayuA=110", "[CTPro]", "Filter_Material=Copper", "Filter_ThicknessMM=0.5"]
        path = tmp_path / "scan.xtekct"
        path.write_text("\r\n".join(["[XTekCT]", *lines, *rest]), encoding="latin-1")
        return path

    return write


def has_note(scan, severity, *words):
    return any(note.severity == severity and all(word in note.text for word in words) for note in scan.notes)


def test_what_the_description_says(describe):
    path = describe()
    assert sniff(path) == "nikon"
    with open_raw(path) as scan:
        assert (scan.format, scan.already, scan.white_level) == ("nikon", "transmission", 50_000)
        assert (scan.source_to_axis_mm, scan.source_to_detector_mm, scan.pixel_mm) == (20.0, 100.0, 0.2)
        np.testing.assert_array_equal(scan.projections[:], FRAMES)
        np.testing.assert_array_equal(scan.angles_deg, 30 + 72.0 * np.arange(VIEWS))
        assert scan.metadata == {"voltage_kv": 90.0, "current_ua": 110.0, "source_filter": "Copper 0.5 mm"}
        assert unattenuated(scan, DEFAULTS) == 50_000
        assert unattenuated(scan, IngestSection(transmission_scale=3.0)) == 3.0


def test_pixels_lie_where_cil_puts_them(describe):
    """CIL: the panel's first pixel is top right seen from the source; the system turns by initial + i step - 180."""
    with open_raw(describe()) as scan:
        acquisition, _ = nominal_acquisition(scan, DEFAULTS)
        geometry = scan_geometry(acquisition)
        numbered = np.arange(ROWS * COLS).reshape(1, ROWS, COLS)
        number = oriented(numbered, scan, DEFAULTS)[0]
    for view in range(VIEWS):
        turn = np.radians(30 + 72 * view - 180)
        rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
        half_turn = np.diag([-1.0, -1.0, 1.0])  # the volume's, which is free
        np.testing.assert_allclose(geometry.source[view], half_turn @ rotation @ [0, -20, 0], atol=1e-9)
        for row, col in ((0, 0), (0, COLS - 1), (ROWS - 1, 2)):
            panel = [-0.2 * (col - (COLS - 1) / 2), 80.0, -0.2 * (row - (ROWS - 1) / 2)]
            our_row, our_col = np.argwhere(number == row * COLS + col)[0]
            steps = (our_col - (COLS - 1) / 2) * geometry.u[view] + (our_row - (ROWS - 1) / 2) * geometry.v[view]
            np.testing.assert_allclose(geometry.detector[view] + steps, half_turn @ rotation @ panel, atol=1e-9)


@pytest.mark.parametrize(
    ("recorded", "offset_px"),
    [
        ({"ObjectOffsetX": "0.04"}, 1.0),  # 0.04 mm at the axis, five times magnified, pixels of 0.2 mm
        ({"CentreOfRotationTop": "0.3", "CentreOfRotationBottom": "0.1"}, 1.0),  # already at the detector
        ({"ObjectOffsetX": "-0.02", "CentreOfRotationTop": "9"}, -0.5),
        ({}, 0.0),
    ],
)
def test_the_axis_is_off_the_middle_by_the_recorded_offset(describe, recorded, offset_px):
    """CIL: the axis is at x = -offset, where x runs against the stored columns."""
    with open_raw(describe(**recorded)) as scan:
        acquisition, _ = nominal_acquisition(scan, DEFAULTS)
    assert acquisition.centre_px == pytest.approx((COLS - 1) / 2 - offset_px)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bone.ang", "Proj  Angle(deg)\n" + "\n".join(f"{k}:\t{k * 71.5}" for k in (4, 3, 2, 1, 0))),
        (
            "_ctdata.txt",
            "scan\n4 5\nProjection Angle Time\n" + "\n".join(f"{k}\t{k * 71.5}\t{9 * k}" for k in range(5)),
        ),
    ],
)
def test_angles_as_driven(describe, tmp_path, name, text):
    path = describe()
    (tmp_path / name).write_text(text)
    with open_raw(path) as scan:
        assert scan.angles_deg is not None
        np.testing.assert_allclose(scan.angles_deg, 30 + 71.5 * np.arange(VIEWS))
        assert tmp_path / name in scan.files
    assert tmp_path / name in files_of(path, DEFAULTS)


def test_an_incomplete_table_of_angles_is_not_used(describe, tmp_path):
    path = describe()
    (tmp_path / "bone.ang").write_text("Proj Angle\n1 0.0\n2 nonsense\n")
    with open_raw(path) as scan:
        assert scan.angles_deg is not None
        assert scan.angles_deg[1] == 102.0
        assert has_note(scan, "warning", "bone.ang has 1 for 5 projections")
    (tmp_path / "bone.ang").write_text("1 nan\n2 1\n")
    assert read_angle_table(tmp_path / "bone.ang").size == 0


def test_projections_in_a_folder_and_every_file_is_known(describe, tmp_path):
    path = describe(folder="frames", InputFolderName="frames")
    files = [path, *(tmp_path / "frames" / f"bone_{k:04d}.tif" for k in range(1, VIEWS + 1))]
    assert files_of(path, DEFAULTS) == nikon_files(path, DEFAULTS) == files
    with open_raw(path) as scan:
        assert list(scan.files) == files
    named = IngestSection(projection_files="frames/bone_000[12].tif")
    assert files_of(path, named) == files[:3]


def test_a_folder_outside_is_not_entered(describe, tmp_path):
    path = describe(InputFolderName="..\\..\\elsewhere")
    assert files_of(path, DEFAULTS)[1] == tmp_path / "bone_0001.tif"


def test_what_is_missing_is_noted_and_inspect_says_what_to_set(describe):
    path = describe(WhiteLevel=None, AngularStep=None, SrcToDetector=None, Projections=9, DetectorOffsetX="1.5")
    with open_raw(path) as scan:
        assert has_note(scan, "assumption", "WhiteLevel: taken as 65535")
        assert has_note(scan, "missing", "no AngularStep")
        assert has_note(scan, "warning", "Projections says 9, 5 files")
        assert has_note(scan, "info", "DetectorOffsetX: 1.5")
    assert "no angles in the file" in (inspect(path).blocking or "")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"DetectorPixelsX": 7}, "DetectorPixelsX: expected the projections' 6 pixels, got 7"),
        ({"DetectorPixelSizeY": "0.3"}, "expected square pixels, got 0.2 x 0.3 mm"),
        ({"SrcToObject": "near"}, "SrcToObject: expected a number, got 'near'"),
        ({"SrcToObject": "1e999"}, "SrcToObject: expected a number"),
        ({"Name": "other"}, "no projections (other_0001.tif ... in"),
    ],
)
def test_faults_are_one_line(describe, changed, message):
    path = describe(**changed)
    with pytest.raises(RawFileError) as caught:
        open_raw(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_truncation_of_the_description_is_read_or_refused(describe):
    path = describe()
    whole = path.read_bytes()
    for end in range(0, len(whole), 23):
        path.write_bytes(whole[:end])
        with contextlib.suppress(RawFileError):
            open_raw(path).close()
