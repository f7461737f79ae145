import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from xrmflow.metrics.images import psnr, ssim


@pytest.fixture(params=[(40, 33), (16, 20, 13)], ids=["2-D", "3-D"])
def pair(request):
    rng = np.random.default_rng(0)
    reference = rng.random(request.param)
    return reference + 0.2 * rng.standard_normal(request.param), reference


def test_psnr_equals_scikit_image(pair):
    assert psnr(*pair, data_range=2.5) == pytest.approx(peak_signal_noise_ratio(pair[1], pair[0], data_range=2.5))


def test_ssim_equals_scikit_image(pair):
    peer = structural_similarity(
        pair[1], pair[0], data_range=2.5, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(*pair, data_range=2.5) == pytest.approx(peer, rel=1e-12)


def test_ssim_with_mask_averages_the_local_map_inside(pair):
    _, local = structural_similarity(
        pair[1], pair[0], data_range=1.0, gaussian_weights=True, use_sample_covariance=False, full=True
    )
    mask = np.zeros(pair[0].shape, dtype=bool)
    mask[(slice(6, 8),) * mask.ndim] = True
    assert ssim(*pair, data_range=1.0, mask=mask) == pytest.approx(local[mask].mean())


def test_psnr_of_a_known_error():
    assert psnr(np.full(10, 0.1), np.zeros(10), data_range=1.0) == pytest.approx(20.0)


def test_mask_hides_an_error_outside_it():
    image, mask = np.zeros((4, 4)), np.ones((4, 4), dtype=bool)
    image[0, 0], mask[0, 0] = 100.0, False
    image[1, 1] = 1.0
    assert psnr(image, np.zeros((4, 4)), data_range=1.0, mask=mask) == pytest.approx(10 * np.log10(15))


def test_scale_of_values_and_range_together_does_not_matter(pair):
    a, b = pair
    assert psnr(1e-6 * a, 1e-6 * b, data_range=1e-6) == pytest.approx(psnr(a, b, data_range=1.0))
    assert ssim(1e-6 * a, 1e-6 * b, data_range=1e-6) == pytest.approx(ssim(a, b, data_range=1.0))


def test_equal_images_are_perfect():
    image = np.random.default_rng(0).random((12, 12))
    assert psnr(image, image, data_range=1.0) == float("inf")
    assert ssim(image, image, data_range=1.0) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": np.zeros((12, 13))}, r"image: expected the shape of reference, \(12, 13\)"),
        ({"data_range": 0.0}, "data_range: expected a positive number, got 0.0"),
        ({"mask": np.zeros((12, 12), dtype=bool)}, "mask: expected some True voxels"),
        ({"mask": np.zeros((12, 12))}, "mask: expected booleans of shape"),
    ],
)
@pytest.mark.parametrize("measure", [psnr, ssim])
def test_bad_arguments_are_named(measure, change, message):
    good = {"reference": np.zeros((12, 12)), "data_range": 1.0}
    with pytest.raises(ValueError, match=message):
        measure(np.ones((12, 12)), **good | change)


def test_ssim_of_a_thin_volume_is_refused():
    with pytest.raises(ValueError, match="at least 11 voxels along each axis"):
        ssim(np.zeros((2, 30, 30)), np.zeros((2, 30, 30)), data_range=1.0)
