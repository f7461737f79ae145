"""From recorded to own convention: a hand example, and what happens when things are missing."""

import numpy as np
import pytest
import torch

from xrmflow.config.ingest import IngestSection
from xrmflow.errors import RawFileError
from xrmflow.geometry.scan import scan_geometry
from xrmflow.io.nominal import nominal_acquisition, oriented
from xrmflow.io.raw_scan import RawScan
from xrmflow.io.sniff import open_raw
from xrmflow.io.write_dataexchange import write_dataexchange
from xrmflow.io.write_txrm import write_txrm

ROWS, COLS = 9, 11
GEOMETRY = {"source_to_axis_mm": 20.0, "pixel_size_um": 10.0}


def scan_of(frames, tmp_path, **recorded):
    defaults = {"angles_deg": np.arange(len(frames), dtype=float), "row_order": "bottom_up"}
    return RawScan("test", tmp_path / "scan", (), frames, **(defaults | recorded))


def bead(row, col):
    """A frame with one bright pixel."""
    frame = np.zeros((ROWS, COLS), np.uint16)
    frame[row, col] = 1000
    return frame


def test_shift_is_the_displacement_of_the_oriented_image(tmp_path):
    # A bead that belongs at row 4, column 5 was recorded at row 6, column 2 (rows upwards):
    # (x, y) = (+3, -2) must be added to the frame, the image is displaced by (-3, +2).
    scan = scan_of(bead(6, 2)[None], tmp_path, shifts_to_add_px=np.array([[3.0, -2.0]]))
    acquisition, _ = nominal_acquisition(scan, IngestSection())
    assert (acquisition.shift_u_px, acquisition.shift_v_px) == ((-3.0,), (2.0,))


@pytest.mark.parametrize("rows", ["bottom_up", "top_down"])
@pytest.mark.parametrize("columns", ["left_to_right", "right_to_left"])
def test_a_bead_is_traced_to_the_same_ray_however_frames_are_stored(tmp_path, rows, columns):
    """The recorded pixel of the shifted detector lies where an unshifted one has the pixel the bead belongs to."""
    flip = (
        slice(None, None, -1 if rows == "top_down" else 1),
        slice(None, None, -1 if columns == "right_to_left" else 1),
    )
    recorded_at, belongs_at = (6, 2), (4, 5)  # in the package's orientation
    stored = bead(*recorded_at)[flip]
    to_add = np.argwhere(bead(*belongs_at)[flip])[0] - np.argwhere(stored)[0]  # (rows, cols) of the stored frame
    scan = scan_of(stored[None], tmp_path, shifts_to_add_px=to_add[None, ::-1].astype(float))
    params = IngestSection(row_order=rows, column_order=columns, voxel_size_um=10.0)

    frame = oriented(scan.projections, scan, params)[0]
    row, col = np.argwhere(frame)[0]
    assert (row, col) == recorded_at
    acquisition, _ = nominal_acquisition(scan, params)
    shifted = position(scan_geometry(acquisition), row, col)
    ideal = position(scan_geometry(acquisition, shifts_px=torch.zeros(1, 2)), *belongs_at)
    np.testing.assert_allclose(shifted, ideal, atol=1e-12)


def position(geometry, row, col):
    """Where a pixel of view 0 is, mm."""
    from_centre = (col - (COLS - 1) / 2) * geometry.u[0] + (row - (ROWS - 1) / 2) * geometry.v[0]
    return (geometry.detector[0] + from_centre).numpy()


def test_both_writers_agree_on_the_convention(tmp_path):
    frames = np.stack([bead(6, 2), bead(1, 8)])
    shifts = np.array([[3.0, -2.0], [-0.5, 0.25]])
    common = {
        "projections": frames,
        "angles_deg": np.array([0.0, 90.0]),
        "shifts_px": shifts,
        "source_to_axis_mm": 20.0,
    }
    write_txrm(tmp_path / "a", **common, pixel_size_um=10.0, detector_to_axis_mm=30.0)
    write_dataexchange(tmp_path / "b", **common, pixel_size_um=25.0, source_to_detector_mm=50.0)
    opened = []
    for name in ("a", "b"):
        with open_raw(tmp_path / name) as scan:
            acquisition, _ = nominal_acquisition(scan, IngestSection())
            np.testing.assert_array_equal(oriented(scan.projections, scan, IngestSection())[:], frames)
            opened.append(acquisition)
    one, other = opened
    assert one.shift_u_px == other.shift_u_px == (-3.0, 0.5)
    assert one.shift_v_px == other.shift_v_px == (2.0, -0.25)
    assert (one.beam, one.angles_deg, one.source_to_detector_mm) == (other.beam, other.angles_deg, 50.0)
    assert one.pixel_mm == pytest.approx(other.pixel_mm) == pytest.approx(0.025)
    assert one.voxel_mm == pytest.approx(0.010)


def test_signs_in_the_settings(tmp_path):
    scan = scan_of(np.ones((2, 3, 4)), tmp_path, shifts_to_add_px=np.array([[1.0, 2.0], [3.0, 4.0]]))
    acquisition, notes = nominal_acquisition(scan, IngestSection(angle_sign=-1, shift_sign_x=-1, shift_sign_y=0))
    assert acquisition.angles_deg == (0.0, -1.0)
    assert acquisition.shift_u_px == (1.0, 3.0)
    assert acquisition.shift_v_px == (0.0, 0.0)
    assert any("counter-clockwise" in note.text for note in notes)
    assert any("ignored" in note.text for note in notes)


def test_every_assumption_is_noted(tmp_path):
    _, notes = nominal_acquisition(scan_of(np.ones((2, 3, 4)), tmp_path), IngestSection())
    kinds = {note.text.split(":")[0]: note.severity for note in notes}
    assert kinds == {
        "angles": "assumption",
        "beam": "assumption",
        "pixel size": "missing",
        "rows": "assumption",
        "columns": "assumption",
    }


def test_uncalibrated_parallel_scan_has_unit_pixels(tmp_path):
    acquisition, _ = nominal_acquisition(scan_of(np.ones((2, 3, 4)), tmp_path), IngestSection())
    assert (acquisition.beam, acquisition.calibrated, acquisition.pixel_mm) == ("parallel", False, 1.0)
    assert (acquisition.centre_px, acquisition.midplane_px) == (1.5, 1.0)


def test_settings_replace_what_is_recorded(tmp_path):
    recorded = {"beam": "cone", "source_to_axis_mm": 20.0, "source_to_detector_mm": 50.0, "pixel_mm": 0.025}
    scan = scan_of(np.ones((2, 3, 4)), tmp_path, **recorded, metadata={"energy_kev": 30.0})
    acquisition, notes = nominal_acquisition(scan, IngestSection(source_to_axis_mm=25.0, pixel_size_um=30.0))
    assert (acquisition.source_to_axis_mm, acquisition.pixel_mm) == (25.0, 0.030)
    assert any("25 from the settings replaces the recorded 20" in note.text for note in notes)


def test_angles_from_a_file(tmp_path):
    scan = scan_of(np.ones((3, 3, 4)), tmp_path)
    (tmp_path / "angles.txt").write_text("0\n10.5\n20\n")
    assert nominal_acquisition(scan, IngestSection(angles_file="angles.txt"))[0].angles_deg == (0.0, 10.5, 20.0)
    (tmp_path / "angles.txt").write_text("0\n10.5\n")
    with pytest.raises(RawFileError, match="expected 3 angles, one a view, got 2"):
        nominal_acquisition(scan, IngestSection(angles_file="angles.txt"))
    with pytest.raises(RawFileError, match=r"ingest\.angles_file: cannot read"):
        nominal_acquisition(scan, IngestSection(angles_file="absent.txt"))


@pytest.mark.parametrize(
    ("recorded", "message"),
    [
        ({"angles_deg": None}, "no angles in the file; set ingest.angles_first_deg"),
        ({"angles_deg": np.array([0.0, np.nan])}, "angles: expected finite numbers"),
        ({"angles_deg": np.zeros(2)}, "all 2 views are at 0 deg"),
        ({"beam": "cone"}, "source_to_axis_mm is not in the file; set ingest.source_to_axis_mm"),
        ({"beam": "cone", "source_to_axis_mm": -20.0}, "source_to_axis_mm: expected a positive length in mm, got -20"),
        ({"beam": "cone", "source_to_axis_mm": 5.0, "source_to_detector_mm": 9.0}, "set ingest.pixel_size_um"),
        (
            {"beam": "cone", "source_to_axis_mm": 20.0, "source_to_detector_mm": 10.0, "pixel_mm": 0.1},
            "source_to_detector_mm: expected more than source_to_axis_mm",
        ),
    ],
)
def test_what_a_reconstruction_cannot_do_without(tmp_path, recorded, message):
    with pytest.raises(RawFileError) as caught:
        nominal_acquisition(scan_of(np.ones((2, 3, 4)), tmp_path, **recorded), IngestSection())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source_to_axis_mm": -5.0}, "source_to_axis_mm"),
        ({"source_to_axis_mm": 5.0, "source_to_detector_mm": 4.0}, "expected more than source_to_axis_mm"),
        ({"pixel_size_um": 1.0, "voxel_size_um": 1.0}, "expected one of them"),
        ({"angles_first_deg": 0.0}, "expected both or neither"),
        ({"angles_first_deg": 0.0, "angles_last_deg": 1.0, "angles_file": "a"}, "expected one of them"),
        ({"angle_sign": 2}, "angle_sign"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        IngestSection(**settings)


@pytest.mark.parametrize(
    ("given_um", "severity"), [(3.0, "info"), (7.0, "info"), (0.0035, "warning"), (3500.0, "warning")]
)
def test_a_pixel_size_that_replaces_a_recorded_one_names_it(tmp_path, given_um, severity):
    scan = scan_of(np.zeros((3, ROWS, COLS)), tmp_path, pixel_mm=0.0035)
    _, notes = nominal_acquisition(scan, IngestSection(pixel_size_um=given_um))
    (note,) = (note for note in notes if note.text.startswith("pixel size: "))
    assert "in place of the recorded 3.5 um" in note.text
    assert note.severity == severity
