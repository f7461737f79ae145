import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from xrmflow.denoising.noise2inverse import Interleaved, denoise, interleaved, leave_one_out, train_denoiser
from xrmflow.errors import SettingsError
from xrmflow.metrics.images import psnr
from xrmflow.networks.normalisation import Normalisation
from xrmflow.networks.training import Plan
from xrmflow.networks.unet import UNet


def object_of(seed, shape=(10, 48, 48)):
    """Two materials with smooth interfaces, attenuation 0.2 and 1.0."""
    rough = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 3)
    return np.where(rough > 0, 1.0, 0.2).astype(np.float32)


def splits_of(clean, seed, number=4, deviation=0.6):
    rng = np.random.default_rng(seed)
    return [(clean + deviation * rng.standard_normal(clean.shape)).astype(np.float32) for _ in range(number)]


def denoised(splits, trained):
    network, normalisation, _ = trained
    result = np.empty(splits[0].shape, dtype=np.float32)
    denoise(splits, result, network, normalisation=normalisation, precision="float32")
    return result


QUICK = Plan(steps=4, batch=2, patch_px=16, features=2, levels=1, record_steps=2, precision="float32")


def test_interleaved_views_are_each_in_one_split():
    views = np.arange(11)
    parts = [views[part] for part in interleaved(11, splits=4)]
    assert sorted(np.concatenate(parts).tolist()) == views.tolist()
    assert all((np.diff(part) == 4).all() for part in parts)


@pytest.mark.parametrize("splits", [1, 12])
def test_impossible_numbers_of_splits_are_refused(splits):
    with pytest.raises(
        SettingsError, match=rf"splits: expected between 2 and the number of views \(11\), got {splits}"
    ):
        interleaved(11, splits=splits)


@pytest.mark.parametrize("split", range(4))
def test_reading_every_kth_view_equals_slicing_at_once(split):
    projections = np.random.default_rng(0).random((11, 3, 5))
    views = slice(split, 11, 4)
    reader = Interleaved(projections, views)
    whole = projections[views]
    assert reader.shape == whole.shape
    for selection in [slice(0, 1), slice(1, 3), slice(None), (slice(0, 2), slice(1, 3)), (slice(1, 99), slice(0, 1))]:
        np.testing.assert_array_equal(reader[selection], whole[selection])


def test_leave_one_out_is_the_mean_of_the_others():
    splits = np.random.default_rng(0).random((4, 2, 3))
    np.testing.assert_allclose(leave_one_out(splits)[1], splits[[0, 2, 3]].mean(axis=0))


def test_beats_the_best_gaussian_tuned_against_the_truth():
    clean, unseen = object_of(0), object_of(1)
    plan = Plan(steps=300, patch_px=32, features=8, levels=1, neighbours=2, learning_rate=1e-2, precision="float32")
    trained = train_denoiser([splits_of(clean, 2)], plan=plan)
    splits = splits_of(unseen, 3)
    noisy = np.mean(splits, axis=0)
    blurred = max(psnr(gaussian_filter(noisy, s), unseen, data_range=0.8) for s in np.arange(0.4, 1.8, 0.1))
    assert psnr(denoised(splits, trained), unseen, data_range=0.8) > blurred + 2.0


def test_two_slices_are_denoised_in_two_dimensions():
    splits = splits_of(object_of(0, (2, 40, 40)), 0)
    trained = train_denoiser([splits], validation=[splits], plan=QUICK)
    assert trained[0].channels == 1
    assert len(trained[2].validation) == 2
    assert np.isfinite(denoised(splits, trained)).all()


def test_scans_of_different_sizes_train_together():
    scans = [splits_of(object_of(0, (6, 40, 30)), 0), splits_of(object_of(1, (4, 25, 50)), 1)]
    network, _, losses = train_denoiser(scans, plan=QUICK)
    assert network.channels == 3
    assert losses.step == [2, 4]


def test_more_than_memory_holds_is_trained_on_in_turn():
    splits = splits_of(np.tile(object_of(0, (4, 48, 48)), (1, 6, 1)), 0)
    small = Plan(steps=4, batch=2, patch_px=16, features=2, levels=1, precision="float32", memory_gb=1e-6)
    network, _, _ = train_denoiser([splits], plan=small)
    assert all(torch.isfinite(p).all() for p in network.parameters())


def test_an_untrained_network_gives_the_mean_of_the_splits():
    splits = splits_of(object_of(0), 0)
    trained = UNet(channels=3, features=2, levels=1), Normalisation(0.5, 0.2), None
    np.testing.assert_allclose(denoised(splits, trained), np.mean(splits, axis=0), atol=1e-5)


def test_scale_of_the_values_does_not_matter():
    splits = splits_of(object_of(0), 0)
    scaled = [split * 1e-3 for split in splits]
    ours, theirs = denoised(splits, train_denoiser([splits], plan=QUICK)), train_denoiser([scaled], plan=QUICK)
    np.testing.assert_allclose(1e3 * denoised(scaled, theirs), ours, atol=1e-3)


@pytest.mark.parametrize(
    "splits",
    [[np.zeros((3, 20, 20))], [np.zeros((3, 20, 20)), np.zeros((3, 20, 21))]],
    ids=["one split", "different shapes"],
)
def test_splits_that_cannot_be_compared_are_refused(splits):
    with pytest.raises(ValueError, match="splits: expected 2 volumes of one shape"):
        train_denoiser([splits], plan=QUICK)


def test_slices_too_small_for_the_network_are_named():
    splits = splits_of(object_of(0, (4, 7, 7)), 0)
    with pytest.raises(SettingsError, match=r"levels: .* 7 pixels, got 16; lower levels"):
        train_denoiser([splits], plan=Plan(steps=1, levels=4))
