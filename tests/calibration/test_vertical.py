import numpy as np
import pytest

from xrmflow.calibration.motion import motion_profiles
from xrmflow.calibration.vertical import row_sums, vertical_motion_px

VIEWS, ROWS = 40, 64
PROFILES = motion_profiles(VIEWS, 5)


def mass(z):
    """Mass of a slice at a height, in rows: trabeculae every 14 rows, and a trend."""
    return 5 + np.sin(2 * np.pi * z / 14) + np.sin(z / 17.0) + 0.3 * np.sin(2 * np.pi * z / 5.3)


def path(largest_px):
    shift = PROFILES @ np.random.default_rng(1).uniform(-1, 1, PROFILES.shape[1])
    return largest_px * shift / np.abs(shift).max()


@pytest.mark.parametrize("largest_px", [3.0, 10.0])
def test_a_rise_of_most_of_a_period_is_not_taken_for_its_complement(largest_px):
    raised = path(largest_px)
    sums = mass(np.arange(ROWS) - raised[:, None]) + np.random.default_rng(0).normal(0, 0.02, (VIEWS, ROWS))
    np.testing.assert_allclose(vertical_motion_px(sums, PROFILES), raised, atol=0.3)


def test_the_same_profile_in_every_view_is_no_motion():
    sums = np.tile(mass(np.arange(ROWS)), (VIEWS, 1))
    np.testing.assert_allclose(vertical_motion_px(sums, PROFILES), 0, atol=1e-6)


def test_few_rows_tell_nothing():
    sums = mass(np.arange(8) - path(3.0)[:, None])
    assert not vertical_motion_px(sums, PROFILES).any()


def test_sums_are_those_of_every_row():
    projections = np.random.default_rng(0).random((70, 3, 5), np.float32)
    np.testing.assert_allclose(row_sums(projections), projections.sum(axis=2), rtol=1e-6)
