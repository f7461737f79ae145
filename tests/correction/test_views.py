"""What is picked to judge the correction by."""

import numpy as np
import pytest

from xrmflow.correction.views import averaged_down, pick_views, plain_line_integrals

TRUTH = np.random.default_rng(0).uniform(0, 2, (6, 16))


@pytest.mark.parametrize("ratio", [1.0, 0.25])
def test_counts_become_the_line_integrals_they_came_from(ratio):
    dark, flat = np.linspace(90, 110, 16), np.linspace(2e4, 4e4, 16)
    counts = dark + (flat - dark) * ratio * np.exp(-TRUTH)
    found, how = plain_line_integrals(counts, flat=flat, dark=dark, exposure_ratio=ratio)
    np.testing.assert_allclose(found, TRUTH, rtol=0, atol=1e-12)
    assert how == "dark and flat only"


@pytest.mark.parametrize(
    ("already", "recorded", "how"),
    [
        ("line_integral", TRUTH, "as recorded (already line integrals)"),
        ("transmission", np.exp(-TRUTH), "minus log of the recorded transmission"),
    ],
)
def test_what_was_done_before_is_not_done_again(already, recorded, how):
    found, words = plain_line_integrals(recorded, flat=np.full(16, 7.0), dark=None, already=already)
    np.testing.assert_allclose(found, TRUTH, rtol=0, atol=1e-12)
    assert words == how


def test_without_a_flat_the_brightest_counts_are_the_beam():
    counts = 100 + 1e4 * np.exp(-TRUTH)
    found, how = plain_line_integrals(counts, flat=None, dark=np.full(16, 100.0))
    difference = found - TRUTH
    np.testing.assert_allclose(difference, difference[0, 0], atol=1e-12)
    assert abs(found.min()) < 1e-2
    assert how.startswith("no flat")


def test_dead_pixels_give_finite_values():
    found, _ = plain_line_integrals(np.zeros((2, 3)), flat=np.zeros(3), dark=np.full(3, 5.0))
    assert np.isfinite(found).all()


def test_middle_view_and_row_are_picked_from_the_scan():
    rng = np.random.default_rng(1)
    raw, corrected = rng.integers(1, 60000, (9, 7, 5), dtype=np.uint16), rng.random((9, 7, 5), dtype=np.float32)
    seen = pick_views(raw, corrected, flats=None, darks=None)
    assert seen.to_dict() | {"plain": ""} == {"view": 4, "row": 3, "averaged_px": 1, "view_step": 1, "plain": ""}
    pictures = seen.pictures()
    np.testing.assert_array_equal(pictures["raw_view"], raw[4])
    np.testing.assert_array_equal(pictures["corrected_view"], corrected[4])
    np.testing.assert_array_equal(pictures["corrected_sinogram"], corrected[:, 3])
    assert {array.dtype for array in pictures.values()} == {np.dtype(np.float32)}


def test_large_scans_are_thinned_out():
    raw = np.ones((1500, 2, 2500), np.uint8)
    seen = pick_views(raw, raw, flats=np.ones((2, 2, 2500)), darks=None)
    assert (seen.averaged_px, seen.view_step) == (3, 3)
    assert seen.raw_view.shape == (1, 833)
    assert seen.plain_sinogram.shape == seen.corrected_sinogram.shape == (500, 2500)


def test_averages_are_those_of_squares():
    image = np.arange(35.0).reshape(5, 7)
    expected = [[image[r : r + 2, c : c + 2].mean() for c in (0, 2, 4)] for r in (0, 2)]
    np.testing.assert_allclose(averaged_down(image, 2), expected)


def test_faults_are_named():
    with pytest.raises(ValueError, match=r"corrected: expected the shape of raw \(2, 3, 4\), got \(2, 3, 5\)"):
        pick_views(np.zeros((2, 3, 4)), np.zeros((2, 3, 5)), flats=None, darks=None)
    with pytest.raises(ValueError, match="edge_px: expected at least 1, got 0"):
        averaged_down(np.zeros((2, 2)), 0)
