import numpy as np
import pytest
import scipy.ndimage
import torch

from xrmflow.correction import outliers
from xrmflow.correction.defects import defects_in_flat, defects_in_scan, fill, mean_step
from xrmflow.correction.outliers import find_outliers, median_in_time, median_of_neighbours, replace_outliers


def noisy(shape=(12, 20, 30), counts=1000.0, seed=0):
    """Smooth object seen with Poisson noise."""
    rng = np.random.default_rng(seed)
    x = np.linspace(-1, 1, shape[2])
    object_ = np.exp(-1.5 * np.sqrt(np.clip(1 - x**2 / 0.5, 0, None)))
    return torch.from_numpy(rng.poisson(counts * np.broadcast_to(object_, shape)) / counts).float()


def test_medians_agree_with_scipy():
    images = torch.rand(5, 6, 7, generator=torch.Generator().manual_seed(0))
    space = scipy.ndimage.median_filter(images.numpy(), size=(1, 3, 3), mode="nearest")
    time = scipy.ndimage.median_filter(images.numpy(), size=(3, 1, 1))
    assert np.array_equal(median_of_neighbours(images).numpy(), space)
    assert np.array_equal(median_in_time(images).numpy()[1:-1], time[1:-1])


@pytest.mark.parametrize("value", [5.0, 0.0])
def test_outliers_of_both_signs_are_found_and_replaced(value):
    clean = noisy()
    spoiled = clean.clone()
    at = (3, 7, 28)
    spoiled[at] = value
    found = find_outliers(spoiled, sigmas=8.0)
    assert found[at]
    assert found.sum() == 1
    assert abs(replace_outliers(spoiled, found)[at] - 1.0) < 0.1


def test_nothing_is_found_in_clean_noise():
    assert not find_outliers(noisy(), sigmas=8.0).any()


def test_a_corner_of_the_object_is_not_an_outlier():
    images = torch.ones(8, 9, 9) + 1e-3 * torch.randn(8, 9, 9, generator=torch.Generator().manual_seed(0))
    images[:, 4:, 4:] *= 0.3
    assert not find_outliers(images, sigmas=8.0).any()


def test_dead_pixels_in_the_flat():
    flat = 1000 + torch.rand(16, 16, generator=torch.Generator().manual_seed(0))
    for at, value in {(2, 3): 0.0, (8, 8): 5000.0, (12, 1): float("nan")}.items():
        flat[at] = value
    found = defects_in_flat(flat, tolerance=0.5)
    assert {tuple(p) for p in torch.nonzero(found).tolist()} == {(2, 3), (8, 8), (12, 1)}


def test_stuck_and_flickering_pixels_in_the_scan():
    scan = noisy((60, 16, 16))
    scan[:, 4, 5] = 0.7
    scan[:, 10, 9] = torch.rand(60, generator=torch.Generator().manual_seed(1)) * 3
    found = defects_in_scan(mean_step(scan))
    assert {tuple(p) for p in torch.nonzero(found).tolist()} == {(4, 5), (10, 9)}


def test_filling_reproduces_a_plane_and_is_linear():
    rows, cols = torch.meshgrid(torch.arange(9.0), torch.arange(8.0), indexing="ij")
    plane = (2 * rows - 3 * cols + 1)[None]
    defects = torch.zeros(9, 8, dtype=torch.bool)
    defects[4, 4] = defects[2, 6] = True
    spoiled = torch.where(defects, torch.nan, plane)
    assert torch.allclose(fill(spoiled, defects), plane, atol=1e-5)
    a, b = torch.rand(2, 3, 9, 8, generator=torch.Generator().manual_seed(0))
    defects[4:7, 3:6] = True
    assert torch.allclose(fill(2 * a + b, defects), 2 * fill(a, defects) + fill(b, defects), atol=1e-6)


def test_a_cluster_larger_than_the_window_is_filled():
    defects = torch.zeros(12, 12, dtype=torch.bool)
    defects[3:9, 3:9] = True
    assert torch.allclose(fill(torch.ones(2, 12, 12), defects), torch.ones(2, 12, 12))


def test_deep_in_a_cluster_pixels_are_filled_along_their_row():
    """So what is filled does not depend on rows farther off than the blocks of a scan overlap."""
    defects = torch.zeros(12, 12, dtype=torch.bool)
    defects[2:10, 2:10] = True
    images = torch.rand(2, 12, 12, generator=torch.Generator().manual_seed(0))
    other = images.clone()
    other[:, :2] += 1
    assert torch.equal(fill(other, defects)[:, 4:], fill(images, defects)[:, 4:])
    assert not torch.equal(fill(other, defects)[:, 3], fill(images, defects)[:, 3])


def test_without_anything_good_there_is_nothing_to_fill_from():
    assert not fill(torch.ones(2, 3, 4), torch.ones(3, 4, dtype=torch.bool)).any()


def test_fill_lets_gradients_through():
    defects = torch.zeros(4, 5, dtype=torch.bool)
    defects[1, 2] = defects[1, 3] = True
    images = torch.rand(2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: fill(x, defects), images)


@pytest.mark.parametrize("views", [2, 3, 7, 8])
def test_views_can_be_looked_at_some_at_a_time(views, monkeypatch):
    images = noisy()[:views]
    images[views // 2, 3, 4], images[0, 5, 5], images[-1, 2, 2] = 9.0, 9.0, 0.0
    expected = find_outliers(images, sigmas=8.0, noise=(0.01, 0.01)), median_of_neighbours(images)
    assert expected[0].any()
    monkeypatch.setattr(outliers, "PIXELS_AT_ONCE", 3 * images[0].numel())
    assert torch.equal(find_outliers(images, sigmas=8.0, noise=(0.01, 0.01)), expected[0])
    assert torch.equal(median_of_neighbours(images), expected[1])
