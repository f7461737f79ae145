import numpy as np
import pytest
import torch

from xrmflow.errors import UserError
from xrmflow.networks.normalisation import Normalisation
from xrmflow.networks.tiles import apply_tiled
from xrmflow.networks.unet import UNet

UNIT = Normalisation(0.0, 1.0)


def randomised(**arguments):
    torch.manual_seed(0)
    network = UNet(**arguments)
    torch.nn.init.normal_(network.last.weight)
    return network.eval()


def tiled(network, volumes, **options):
    output = np.full(volumes.shape[1:], np.nan, dtype=np.float32)
    given = {"normalisation": UNIT, "precision": "float32"} | options
    apply_tiled(network, lambda region: volumes[(slice(None), *region)], output, **given)
    return output


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("size", [(3, 150, 200), (2, 129, 70)])
def test_tiles_equal_the_whole_slice(levels, size):
    network = randomised(features=2, levels=levels)
    volume = np.random.default_rng(0).standard_normal((1, *size)).astype(np.float32)
    np.testing.assert_allclose(tiled(network, volume, tile=64), tiled(network, volume, tile=256), atol=2e-5)


def test_whole_slices_equal_the_network_called_directly():
    network = randomised(features=2, levels=2, channels=3)
    volume = np.random.default_rng(0).standard_normal((1, 4, 16, 24)).astype(np.float32)
    padded = torch.from_numpy(np.pad(volume[0], ((1, 1), (0, 0), (0, 0)), mode="edge"))
    with torch.no_grad():
        direct = torch.cat([network(padded[None, k : k + 3])[0] for k in range(4)])
    np.testing.assert_allclose(tiled(network, volume), direct.numpy(), atol=1e-5)


def test_slabs_meet_without_a_step():
    network = randomised(features=2, levels=1, channels=3)
    volume = np.random.default_rng(0).standard_normal((1, 70, 16, 16)).astype(np.float32)
    near = tiled(network, volume[:, 60:])
    np.testing.assert_allclose(tiled(network, volume)[61:], near[1:], atol=1e-5)


def test_slices_asked_for_alone_have_the_same_bits():
    network = randomised(features=2, levels=1, channels=3)
    volume = np.random.default_rng(0).standard_normal((1, 140, 16, 70)).astype(np.float32)
    whole, part = tiled(network, volume, tile=64), tiled(network, volume, tile=64, slices=slice(64, 128))
    np.testing.assert_array_equal(part[64:128], whole[64:128])
    assert np.isnan(np.delete(part, slice(64, 128), axis=0)).all()
    np.testing.assert_array_equal(tiled(network, volume, tile=64, slices=slice(128, 140))[128:], whole[128:])
    with pytest.raises(ValueError, match="slices: expected multiples of 64, or the end at 140"):
        tiled(network, volume, slices=slice(1, 140))


def test_several_inputs_give_the_mean_of_their_outputs():
    network = randomised(features=2, levels=1)
    volumes = np.random.default_rng(0).standard_normal((3, 2, 16, 16)).astype(np.float32)
    each = np.mean([tiled(network, one[None]) for one in volumes], axis=0)
    np.testing.assert_allclose(tiled(network, volumes), each, atol=1e-5)


def test_an_untrained_network_returns_the_input_in_its_unit():
    volume = np.random.default_rng(0).random((1, 3, 17, 19)).astype(np.float32)
    result = tiled(UNet(channels=3), volume, normalisation=Normalisation(0.4, 0.02))
    np.testing.assert_allclose(result, volume[0], atol=1e-6)


def test_normalisation_is_undone():
    values = np.array([-1.0, 0.0, 2.5])
    normalisation = Normalisation.measured([values])
    np.testing.assert_allclose(normalisation.undo(normalisation.apply(values)), values, atol=1e-12)
    assert normalisation.apply(values).std() == pytest.approx(1.0)


@pytest.mark.parametrize("values", [[1.0, 1.0], [1.0, np.nan]])
def test_constant_or_damaged_volumes_have_no_normalisation(values):
    with pytest.raises(UserError, match="expected finite values that are not all equal"):
        Normalisation.measured([np.array(values)])
