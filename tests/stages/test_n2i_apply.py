import numpy as np
import pytest
import torch

from xrmflow.config.n2i_apply import N2iApplySection
from xrmflow.denoising.noise2inverse import leave_one_out
from xrmflow.errors import StoreError
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.io.stores import create_volume, open_volume
from xrmflow.io.weights import Model, save_model
from xrmflow.networks.architectures import fresh_network
from xrmflow.networks.normalisation import Normalisation
from xrmflow.networks.training import Losses, Plan
from xrmflow.stages import n2i_apply

SHAPE = (3, 12, 12)
PLAN = Plan(steps=1, features=2, levels=1, neighbours=0, patch_px=8, batch=1, precision="float32")
PARAMS = N2iApplySection(precision="float32")


def write_splits(folder, values):
    paths = []
    for index, split in enumerate(values):
        path = folder / "splits" / f"{index}.zarr"
        grid, about = VolumeGrid(SHAPE, 0.01), {"index": index, "of": len(values)}
        origin = {"stage": "n2i_split"}
        with create_volume(
            path, quantity="attenuation_per_mm", grid=grid, calibrated=True, provenance=origin, split=about
        ) as store:
            store["data"] = split
        paths.append(path)
    return paths


@pytest.fixture
def model(tmp_path):
    """A model with weights drawn at random, and its network."""
    torch.manual_seed(0)
    network = fresh_network(PLAN, residual=False)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    trained = Model("n2i", network, Normalisation(0.5, 2.0), "attenuation_per_mm", {"splits": 4})
    path = tmp_path / "n2i.safetensors"
    about = {"scans": ["a"], "validation_scans": [], "voxel_mm": 0.01}
    save_model(
        path, tmp_path / "n2i.json", trained, losses=Losses([1], [0.5], []), plan=PLAN, about=about, provenance={}
    )
    return path, network.eval()


def test_the_output_is_the_mean_over_leaving_each_split_out(tmp_path, model):
    path, network = model
    values = np.random.default_rng(0).standard_normal((4, *SHAPE)).astype(np.float32)
    n2i_apply.run(splits=write_splits(tmp_path / "a", values), model=path, denoised=tmp_path / "d.zarr", params=PARAMS)
    inputs = torch.from_numpy((leave_one_out(values) - 0.5) / 2.0)
    with torch.no_grad():
        outputs = torch.stack([network(volume[:, None])[:, 0] for volume in inputs]) * 2.0 + 0.5
    denoised = open_volume(tmp_path / "d.zarr", "attenuation_per_mm")
    np.testing.assert_allclose(denoised.data[...], outputs.mean(dim=0).numpy(), atol=1e-4)


def test_another_number_of_splits_is_refused(tmp_path, model):
    splits = write_splits(tmp_path / "a", np.zeros((3, *SHAPE), np.float32))
    with pytest.raises(StoreError, match="splits"):
        n2i_apply.run(splits=splits, model=model[0], denoised=tmp_path / "d.zarr", params=PARAMS)
    assert not (tmp_path / "d.zarr").exists()
