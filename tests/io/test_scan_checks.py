"""Checks of a raw scan: suspicious angles, shifts and frames, and none where all is well."""

import numpy as np
import pytest

from xrmflow.geometry.acquisition import Acquisition
from xrmflow.io.scan_checks import check_angles, check_brightness, check_shifts, check_voxel


@pytest.mark.parametrize(
    ("angles", "finding"),
    [
        (
            np.delete(np.arange(0, 360, 2.0), slice(40, 60)),
            "angles: 1 gap(s), widest 42 deg after 78 deg, usual step 2",
        ),
        (np.r_[np.arange(0, 180, 1.0), 17.0], "angles: 1 repeated, first 17 deg at views 17 and 180"),
        (np.arange(0, 90, 1.0), "angles: limited, 89 of the 180 deg"),
        (np.linspace(0, np.pi, 200), "are they in radians?"),
        (np.arange(0, 180, 10.0), "views: 18, full sampling of 128 columns takes about"),
        (np.array([3.0]), "a single view, which is no scan"),
        (np.linspace(0, 360, 361), "the last view repeats the first"),
    ],
)
def test_suspicious_angles(angles, finding):
    notes = check_angles(angles, needed_deg=180.0, cols=128)
    assert any(finding in note.text for note in notes), notes


def test_good_angles_are_not_suspicious():
    jitter = np.random.default_rng(0).normal(0, 0.01, 360)
    assert check_angles(np.arange(360) + jitter, needed_deg=200.0, cols=128) == []
    assert check_angles(np.arange(0, 180, 0.5), needed_deg=180.0, cols=128) == []
    golden = (np.arange(400) * 137.508) % 360
    assert [note.severity for note in check_angles(golden, needed_deg=200.0, cols=64)] in (
        ["info"],
        ["warning", "info"],
    )


def test_suspicious_shifts():
    assert check_shifts(np.array([[3.0, -2.0]]), rows=100, cols=100) == []
    assert "up to 30.0 px across" in check_shifts(np.array([[30.0, 1.0]]), rows=100, cols=100)[0].text
    assert "zero" in check_shifts(np.zeros((5, 2)), rows=100, cols=100)[0].text


@pytest.mark.parametrize(
    ("angles", "needed_deg", "limited"),
    [
        (np.arange(0, 180, 1.0), 180.0, False),
        (np.arange(0, 170, 1.0), 180.0, True),
        (np.arange(0, 180, 1.0), 200.0, True),
        (np.arange(0, 200, 1.0), 200.0, False),
        (np.arange(-95, 95, 1.0) % 360, 200.0, True),  # recorded across zero: the numbers span 360
        (np.r_[np.arange(0, 90, 1.0), np.arange(270, 360, 1.0)], 180.0, False),
        (np.arange(0, 720, 1.0), 200.0, False),
    ],
)
def test_an_arc_that_is_too_short_makes_attenuation_too_low(angles, needed_deg, limited):
    texts = [note.text for note in check_angles(angles, needed_deg=needed_deg, cols=16)]
    assert any("limited" in text and "attenuation will be too low" in text for text in texts) == limited


def test_frames_without_a_finite_value_are_no_fault_of_the_checks():
    frames = np.full((3, 4, 5), np.nan, np.float32)
    assert check_brightness({"projections": frames, "flats": frames}) == []


@pytest.mark.parametrize(
    ("pixel_mm", "calibrated", "doubted"),
    [
        (0.0014, True, False),
        (0.082, True, False),
        (1.4e-6, True, True),
        (1.4, True, True),
        (1.0, False, False),
    ],
)
def test_a_voxel_of_another_unit_is_doubted(pixel_mm, calibrated, doubted):
    acquisition = Acquisition("parallel", (0.0, 90.0), 4, 4, pixel_mm, None, None, 1.5, 1.5, calibrated=calibrated)
    texts = [note.text for note in check_voxel(acquisition)]
    assert any("is the pixel size in micrometres" in text for text in texts) == doubted
