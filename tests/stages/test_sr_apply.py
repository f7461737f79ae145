import numpy as np
import pytest

from xrmflow.config.sr_apply import SrApplySection
from xrmflow.errors import StoreError
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.io.stores import create_volume, open_volume
from xrmflow.io.weights import Model, save_model
from xrmflow.manage import gather
from xrmflow.networks.architectures import fresh_network
from xrmflow.networks.normalisation import Normalisation
from xrmflow.networks.training import Losses, Plan
from xrmflow.stages import sr_apply
from xrmflow.superresolution.interpolation import Resampled, refined

PLAN = Plan(steps=1, features=2, levels=1, neighbours=0, patch_px=8, batch=1, precision="float32")
GRID = VolumeGrid((5, 10, 12), 0.02, (0.1, 0.0, -0.2))


@pytest.fixture
def untrained(tmp_path):
    """A model that has learned nothing: its correction of the interpolation is zero."""
    path = tmp_path / "sr.safetensors"
    network = fresh_network(PLAN, residual=True)
    trained = Model("sr", network, Normalisation(0.0, 1.0), "attenuation_per_mm", {"factor": 2})
    about = {"scans": ["low"], "voxel_mm": GRID.voxel_mm}
    save_model(
        path, tmp_path / "sr.json", trained, losses=Losses([1], [0.5], []), plan=PLAN, about=about, provenance={}
    )
    return path


def write_volume(path, values):
    grid = VolumeGrid(values.shape, GRID.voxel_mm, GRID.centre_mm)
    with create_volume(
        path, quantity="attenuation_per_mm", grid=grid, calibrated=True, provenance={"stage": "fdk"}
    ) as store:
        store["data"] = values
    return path


def test_without_training_it_is_cubic_interpolation_on_the_finer_grid(tmp_path, untrained):
    values = np.random.default_rng(0).standard_normal(GRID.shape).astype(np.float32)
    volume = write_volume(tmp_path / "volume.zarr", values)
    sr_apply.run(
        volume=volume, model=untrained, superres=tmp_path / "s.zarr", params=SrApplySection(precision="float32")
    )
    fine = open_volume(tmp_path / "s.zarr", "attenuation_per_mm")
    assert fine.grid == refined(GRID, 2)
    assert fine.record["source_grid"] == {"shape": list(GRID.shape), "voxel_mm": 0.02, "centre_mm": [0.1, 0.0, -0.2]}
    assert fine.grid.voxel_mm * fine.grid.shape[0] == pytest.approx(GRID.voxel_mm * GRID.shape[0])
    expected = Resampled(values, GRID, fine.grid)[slice(None), slice(None), slice(None)]
    np.testing.assert_allclose(fine.data[...], expected, atol=1e-5)


def test_parts_put_together_are_what_one_job_writes(tmp_path, untrained):
    values = np.random.default_rng(0).standard_normal((70, 10, 12)).astype(np.float32)
    given = {"volume": write_volume(tmp_path / "volume.zarr", values), "model": untrained}
    params = SrApplySection(precision="float32")
    sr_apply.run(**given, superres=tmp_path / "whole.zarr", params=params)
    for cut in ("0-64", "64-128", "128-140"):
        sr_apply.run(**given, superres=tmp_path / f"{cut}.zarr", part=cut, params=params)
    gather.run(parts=[tmp_path / f"{cut}.zarr" for cut in ("0-64", "64-128", "128-140")], stores=[tmp_path / "s.zarr"])
    assert (tmp_path / "s.zarr/chunks.txt").read_text() == (tmp_path / "whole.zarr/chunks.txt").read_text()
    assert open_volume(tmp_path / "s.zarr").record["source_grid"]["shape"] == [70, 10, 12]


def test_an_absent_model_is_refused_and_nothing_is_written(tmp_path, untrained):
    volume = write_volume(tmp_path / "volume.zarr", np.zeros(GRID.shape, np.float32))
    with pytest.raises(StoreError, match="no such model"):
        sr_apply.run(
            volume=volume, model=tmp_path / "absent.safetensors", superres=tmp_path / "s.zarr", params=SrApplySection()
        )
    assert not (tmp_path / "s.zarr").exists()
