from dataclasses import replace

import numpy as np
import pytest

from xrmflow.phantom.detector import Detector, DetectorRecipe, binned, blur, dark_subtracted, make_detector

PLAIN = DetectorRecipe(
    counts=400,
    readout_counts=0.0,
    dark_counts=50.0,
    vignetting=0.0,
    pattern=0.0,
    drift=0.0,
    dead_fraction=0.0,
    unstable_fraction=0.0,
    outlier_fraction=0.0,
)
SHAPE = (60, 80)


def frames(detector: Detector, count: int, transmission: float = 1.0) -> np.ndarray:
    ones = np.full(SHAPE, transmission)
    dark = detector.dark
    return np.stack([detector.view(ones, 0.0, np.random.default_rng([7, i])) - dark for i in range(count)])


def test_open_beam_has_the_counts_asked_for():
    detector = make_detector(replace(PLAIN, vignetting=0.3, pattern=0.05), SHAPE, np.random.default_rng(0))
    assert detector.open_beam(0.0).mean() == pytest.approx(400)
    assert frames(detector, 20).mean() == pytest.approx(400, rel=2e-3)


@pytest.mark.parametrize(("readout", "transmission"), [(0.0, 1.0), (0.0, 0.25), (6.0, 0.25)])
def test_variance_is_that_of_counted_photons_and_read_out(readout, transmission):
    detector = make_detector(replace(PLAIN, readout_counts=readout), SHAPE, np.random.default_rng(0))
    sample = frames(detector, 60, transmission)
    rounding = 1 / 12
    assert sample.var(axis=0, ddof=1).mean() == pytest.approx(400 * transmission + readout**2 + rounding, rel=0.02)


def test_flats_drift_and_frames_of_the_scan_with_them():
    recipe = replace(PLAIN, counts=20000, drift=0.05, flats=20)
    detector = make_detector(recipe, SHAPE, np.random.default_rng(4))
    flats = detector.flats(np.random.default_rng(5))
    before, after = flats[:10].mean(axis=0), flats[10:].mean(axis=0)
    change = (after - before).mean(axis=0) / 20000
    np.testing.assert_allclose(change, 0.05 * np.linspace(-1, 1, SHAPE[1]), atol=4e-3)
    swing = detector.open_beam(0.5).mean() / detector.open_beam(0.0).mean() - 1
    assert swing == pytest.approx(-0.1 * np.sin(detector.drift_phase), rel=1e-6)


def test_faults_come_in_the_numbers_asked_for():
    recipe = replace(PLAIN, dead_fraction=0.02, unstable_fraction=0.03, outlier_fraction=0.01)
    detector = make_detector(recipe, (300, 300), np.random.default_rng(0))
    assert np.mean(~np.isnan(detector.stuck)) == pytest.approx(0.02, rel=0.15)
    assert np.mean(detector.unstable != 1) == pytest.approx(0.03, rel=0.15)
    ones = np.ones((300, 300))
    frame = detector.view(ones, 0.0, np.random.default_rng(1))
    dead = ~np.isnan(detector.stuck)
    assert np.mean(frame[~dead] > 400 + 50 + 8 * 20) == pytest.approx(0.01, rel=0.3)
    quiet = detector.expose(detector.open_beam(0.0), np.random.default_rng(2))
    np.testing.assert_array_equal(quiet[dead], detector.stuck[dead])


def test_blur_keeps_the_beam_and_has_the_width_asked_for():
    point = np.zeros((1, 41, 41), np.float32)
    point[0, 20, 20] = 1
    spread = blur(point, 4.0)[0]
    assert spread.sum() == pytest.approx(1, rel=1e-4)
    distance = np.arange(41) - 20
    sigma = np.sqrt((spread.sum(axis=0) * distance**2).sum())
    assert sigma * 2.3548 == pytest.approx(4.0, rel=0.03)


def test_binning_is_the_mean_over_sub_pixels():
    fine = np.arange(48, dtype=np.float32).reshape(1, 4, 12)
    assert binned(fine, 2)[0, 1, 2] == fine[0, 2:4, 4:6].mean()


def test_dark_subtraction_never_goes_below_zero():
    stored = dark_subtracted(np.array([[[40, 120]]], np.uint16), np.full((3, 1, 2), 50, np.uint16))
    np.testing.assert_array_equal(stored, [[[0, 70]]])
    assert stored.dtype == np.uint16
