import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from xrmflow.errors import SettingsError
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.metrics.images import psnr
from xrmflow.networks.normalisation import Normalisation
from xrmflow.networks.training import Plan
from xrmflow.networks.unet import UNet
from xrmflow.superresolution.interpolation import Resampled, refined
from xrmflow.superresolution.paired import Pair, superresolve, train_superresolution

LOW = VolumeGrid((10, 24, 24), 0.02)
WHOLE = (slice(None), slice(None), slice(None))


def fine_object(seed):
    rough = gaussian_filter(np.random.default_rng(seed).standard_normal((20, 48, 48)), 2.5)
    return gaussian_filter(np.where(rough > 0, 1.0, 0.2), 0.5).astype(np.float32)


def halved(fine):
    return fine.reshape(10, 2, 24, 2, 24, 2).mean(axis=(1, 3, 5))


def pair_of(seed):
    fine = fine_object(seed)
    return Pair(halved(fine), LOW, fine, refined(LOW, 2))


def superresolved(low, network, normalisation):
    result = np.empty((20, 48, 48), dtype=np.float32)
    superresolve(low, result, network, grid=LOW, factor=2, normalisation=normalisation, precision="float32")
    return result


QUICK = Plan(steps=2, batch=2, patch_px=16, features=2, levels=1, precision="float32")


def test_beats_cubic_interpolation_on_an_unseen_object():
    plan = Plan(steps=150, batch=8, patch_px=32, features=8, levels=1, learning_rate=5e-3, precision="float32")
    network, normalisation, _ = train_superresolution([pair_of(0)], factor=2, plan=plan)
    unseen = fine_object(1)
    low = halved(unseen)
    cubic = psnr(Resampled(low, LOW, refined(LOW, 2))[WHOLE], unseen, data_range=0.8)
    assert psnr(superresolved(low, network, normalisation), unseen, data_range=0.8) > cubic + 1.0


def test_an_untrained_network_gives_the_cubic_interpolation():
    low = halved(fine_object(0))
    ours = superresolved(low, UNet(channels=3, features=2, levels=1), Normalisation(0.3, 0.2))
    np.testing.assert_allclose(ours, Resampled(low, LOW, refined(LOW, 2))[WHOLE], atol=1e-6)


def test_density_does_not_depend_on_what_else_is_in_the_volume():
    network, normalisation, _ = train_superresolution([pair_of(0)], factor=2, plan=QUICK)
    low = halved(fine_object(1))
    bright = low.copy()
    bright[:, 22:, 22:] = 50.0
    # The quick network reaches 9 pixels, the interpolation 2 voxels: far from the metal nothing may change.
    ours, theirs = (superresolved(volume, network, normalisation) for volume in (low, bright))
    np.testing.assert_allclose(ours[:, :28, :28], theirs[:, :28, :28], atol=1e-6)


def test_a_region_scan_with_a_fractional_offset_trains():
    fine = fine_object(0)
    whole = refined(LOW, 2)
    part = VolumeGrid((12, 20, 24), 0.01, (0.0133, -0.021, 0.0042))
    seen = Resampled(fine, whole, part)[WHOLE]
    pair = Pair(halved(fine), LOW, seen, part)
    upsampled = pair.upsampled[pair.common]
    assert psnr(upsampled, seen, data_range=0.8) > 17
    train_superresolution([pair], factor=2, plan=QUICK)


def test_voxel_sizes_must_have_the_ratio_of_the_factor():
    with pytest.raises(SettingsError, match=r"factor: expected the ratio of the voxel sizes, .* = 2, got 3"):
        train_superresolution([pair_of(0)], factor=3, plan=QUICK)


def test_output_must_be_on_the_refined_grid():
    with pytest.raises(ValueError, match=r"superres: expected shape \(20, 48, 48\)"):
        superresolve(
            halved(fine_object(0)),
            np.empty((10, 24, 24), np.float32),
            UNet(features=2, levels=1),
            grid=LOW,
            factor=2,
            normalisation=Normalisation(0.0, 1.0),
        )
