import numpy as np
import pytest
from scipy import ndimage

from xrmflow.metrics.images import psnr
from xrmflow.phantom.comparison import best_gaussian, best_non_local_means, cubic_upsampled, detected, share, solid


@pytest.fixture(scope="module")
def volumes():
    rng = np.random.default_rng(0)
    clean = (ndimage.gaussian_filter(rng.normal(size=(9, 32, 32)), 3) > 0).astype(np.float32)
    return clean + 0.4 * rng.normal(size=clean.shape).astype(np.float32), clean, np.ones(clean.shape, bool)


def test_no_other_gaussian_does_better(volumes):
    noisy, clean, mask = volumes
    best = best_gaussian(noisy, clean, data_range=1.0, mask=mask)
    others = [psnr(ndimage.gaussian_filter(noisy, s), clean, data_range=1.0) for s in np.arange(0.3, 3, 0.05)]
    assert best.psnr_db == pytest.approx(max(others), abs=0.02)
    assert best.psnr_db > psnr(noisy, clean, data_range=1.0) + 3


def test_no_other_non_local_means_does_better(volumes):
    from skimage.restoration import denoise_nl_means

    noisy, clean, mask = volumes
    best = best_non_local_means(noisy, clean, data_range=1.0, mask=mask)
    for patch in (5, 7):
        for h in (0.12, 0.25):
            other = denoise_nl_means(noisy, patch_size=patch, patch_distance=3, h=h, sigma=0.4, preserve_range=True)
            assert psnr(other, clean, data_range=1.0) < best.psnr_db + 0.15


def test_upsampling_reproduces_what_is_smooth():
    """Fine voxel centres lie a quarter of a voxel beside the coarse ones, on both sides."""

    def wave(n):
        z, y, x = np.meshgrid(*[(np.arange(n) + 0.5) / n] * 3, indexing="ij")
        return np.cos(2 * np.pi * x) * np.cos(np.pi * y) + z

    fine = cubic_upsampled(wave(16), 2)
    np.testing.assert_allclose(fine[8:-8, 8:-8, 8:-8], wave(32)[8:-8, 8:-8, 8:-8], atol=2e-3)


def test_solid_is_full_and_away_from_the_surface():
    labels = np.zeros((16, 16, 16), np.uint8)
    labels[2:15, 2:14, 2:14] = 2
    inside = solid(labels, 2, factor=2, erosion=1)
    expected = np.zeros((8, 8, 8), bool)
    expected[2:6, 2:6, 2:6] = True
    np.testing.assert_array_equal(inside, expected)
    assert share(labels == 2, factor=2)[7, 3, 3] == 0.5


def test_detection_counts_only_within_the_heights():
    def lacuna(z):
        return {"centroid_mm": [0, 0, z], "volume_um3": 4 / 3 * np.pi * 5.0**3}

    truth = [lacuna(0.01), lacuna(0.05), lacuna(0.10), lacuna(0.19)]
    found = np.array([[0.001, 0, 0.05], [0, 0.004, 0.10], [0, 0, 0.15], [0, 0, 0.012], [0, 0, 0.18]])
    result = detected(found, truth, z_range_mm=(0.02, 0.17), reach=1.0)
    assert (result.found, result.true) == (3, 2)
    assert result.precision == pytest.approx(2 / 3)
    assert result.recall == 1.0
    assert result.f1 == pytest.approx(0.8)
    nothing = detected(np.empty((0, 3)), truth, z_range_mm=(0.02, 0.17), reach=1.0)
    assert (nothing.f1, nothing.recall) == (0, 0)
