"""inspect: what is reported, what is noticed, and what stops a scan."""

import json

import numpy as np
import pytest

from xrmflow.config.settings import Settings
from xrmflow.errors import RawFileError
from xrmflow.io.write_dataexchange import write_dataexchange
from xrmflow.io.write_txrm import write_txrm
from xrmflow.manage.inspect import inspect, run

RNG = np.random.default_rng(0)
VIEWS, ROWS, COLS = 120, 12, 64
FRAMES = RNG.integers(20_000, 40_000, (VIEWS, ROWS, COLS), dtype=np.uint16)
FLATS = np.full((3, ROWS, COLS), 41_000, np.uint16)
ANGLES = np.arange(VIEWS) * 3.0
GEOMETRY = {"pixel_size_um": 5.0, "source_to_axis_mm": 30.0, "detector_to_axis_mm": 70.0}


def texts(inspection, severity):
    return [note.text for note in inspection.findings if note.severity == severity]


def test_a_good_scan(tmp_path):
    shifts = RNG.uniform(-2, 2, (VIEWS, 2))
    write_txrm(
        tmp_path / "a.txrm",
        projections=FRAMES,
        angles_deg=ANGLES,
        reference=FLATS[0] + RNG.uniform(size=(ROWS, COLS)).astype(np.float32),
        shifts_px=shifts,
        **GEOMETRY,
    )
    found = inspect(tmp_path / "a.txrm")
    holds = found.holds
    assert (holds["format"], holds["views"], holds["rows"], holds["cols"]) == ("txrm", VIEWS, ROWS, COLS)
    assert (holds["dtype"], holds["flats"], holds["darks"], holds["beam"]) == ("uint16", 1, 0, "cone")
    assert holds["angles_deg"] == {"first": 0.0, "last": 357.0, "step": 3.0, "span": 357.0}
    assert holds["shifts_px"]["x"] == pytest.approx([shifts[:, 0].min(), shifts[:, 0].max()], abs=1e-3)
    assert holds["voxel_um"] == pytest.approx(5.0)
    assert holds["pixel_um"] == pytest.approx(5.0 * 100 / 30)
    assert holds["metadata"]["voltage_kv"] == 80.0
    assert texts(found, "warning") == []
    assert found.blocking is None
    assert json.loads(json.dumps(found.to_dict()))["holds"]["views"] == VIEWS


def test_findings_come_worst_first(tmp_path):
    write_dataexchange(tmp_path / "a", projections=FRAMES, angles_deg=ANGLES[::-1] / 10)
    severities = [note.severity for note in inspect(tmp_path / "a").findings]
    assert severities == sorted(severities, key=["warning", "missing", "assumption", "info"].index)
    assert "warning" in severities


def test_what_stops_a_scan_is_one_line_and_an_error_of_the_command(tmp_path, capsys):
    write_dataexchange(tmp_path / "a", projections=FRAMES)
    found = inspect(tmp_path / "a")
    assert "no angles in the file; set ingest.angles_first_deg" in found.blocking
    assert found.holds["views"] == VIEWS
    with pytest.raises(RawFileError, match="no angles"):
        run(tmp_path / "a")
    assert "120 views of 12 x 64 uint16" in capsys.readouterr().out
    with pytest.raises(RawFileError, match="no angles"):
        run(tmp_path / "a", json=True)
    assert json.loads(capsys.readouterr().out)["blocking"] == found.blocking
    mended = inspect(
        tmp_path / "a", Settings.model_validate({"ingest": {"angles_first_deg": 0.0, "angles_last_deg": 180.0}})
    )
    assert mended.blocking is None


def test_the_table_and_the_json_say_the_same(tmp_path, capsys):
    write_dataexchange(tmp_path / "a", projections=FRAMES, flats=FLATS, angles_deg=ANGLES, energy_kev=22.0)
    assert run(tmp_path / "a") is None
    shown = capsys.readouterr().out
    for words in ("120 views", "0 to 357 deg", "22 keV", "data_exchange", "pixel size: not in the file", "memory"):
        assert words in shown
    assert json.loads(run(tmp_path / "a", json=True))["holds"]["metadata"] == {"energy_kev": 22.0}


def test_frames_that_cannot_be_right(tmp_path):
    frames, flats = FRAMES.copy(), np.full((2, ROWS, COLS), 9_000, np.uint16)
    frames[60:76] = 500  # the beam was lost
    frames[0, :, :8] = 65535
    darks = np.full((2, ROWS, COLS), 25_000, np.uint16)
    write_dataexchange(tmp_path / "a", projections=frames, flats=flats, darks=darks, angles_deg=ANGLES)
    found = "\n".join(texts(inspect(tmp_path / "a"), "warning"))
    for words in (
        "% of the sampled pixels are saturated (at 65535)",
        "was the beam lost?",
        "flats: median 9000, dimmer",
    ):
        assert words in found
    assert "darks: median 2.5e+04, no darker than half" in found


def test_missing_flats_ask_for_a_decision(tmp_path):
    write_dataexchange(tmp_path / "a", projections=FRAMES, angles_deg=ANGLES)
    assert any("flatfield.missing_flat must be set" in text for text in texts(inspect(tmp_path / "a"), "warning"))
    assert not texts(
        inspect(tmp_path / "a", Settings.model_validate({"ingest": {"already": "line_integral"}})), "warning"
    )


def test_what_a_run_will_take_follows_the_settings(tmp_path):
    write_txrm(tmp_path / "a.txrm", projections=FRAMES, angles_deg=ANGLES, reference=FLATS[0], **GEOMETRY)
    whole = inspect(tmp_path / "a.txrm").needs
    region = inspect(tmp_path / "a.txrm", Settings.model_validate_json('{"fdk": {"shape": [6, 64, 64]}}')).needs
    assert region.disk_gb["volume"] == pytest.approx(whole.disk_gb["volume"] / 2, rel=0.1)
    assert region.disk_gb["projections"] == whole.disk_gb["projections"]
    assert "n2i_train" in whole.seconds


@pytest.mark.real_data
def test_real_scans(real_data):
    tooth = inspect(real_data / "tomopy_tooth" / "tooth.h5")
    assert (tooth.holds["views"], tooth.holds["rows"], tooth.holds["cols"]) == (181, 2, 640)
    assert (tooth.holds["flats"], tooth.holds["darks"], tooth.blocking) == (10, 10, None)
    assert tooth.holds["angles_deg"]["last"] == pytest.approx(179.0055, abs=1e-3)
    nano = inspect(real_data / "dxchange" / "txrm_test_chip_tomo.txrm")
    assert nano.holds["metadata"]["energy_kev"] == pytest.approx(9.2, abs=1e-3)
    assert nano.holds["shifts_px"] == {"x": [-1.0771, 1.2806], "y": [-0.2484, 0.244]}
    assert any(text.startswith("angles: limited, 90 of the 180") for text in texts(nano, "warning"))
    assert any(text.startswith("flats: none") for text in texts(nano, "warning"))
    image = inspect(real_data / "dxchange" / "test_chip00.xrm")
    assert (image.holds["flats"], image.holds["flat_exposure_s"]) == (1, 40.0)
    assert any("a single view" in text for text in texts(image, "warning"))
    k11 = inspect(real_data / "httomo_k11" / "k11_diad" / "k11-18014.nxs")
    assert (k11.holds["views"], k11.holds["flats"], k11.holds["darks"], k11.holds["files"]) == (3001, 100, 100, 3)
    assert k11.holds["angles_deg"]["span"] == pytest.approx(180, abs=1e-2)
    for one in (tooth, nano, image, k11):
        assert all("\n" not in note.text for note in one.findings)
