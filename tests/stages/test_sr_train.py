import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from xrmflow.config.sr_apply import SrApplySection
from xrmflow.config.sr_train import SrTrainSection
from xrmflow.errors import SettingsError, StoreError
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.io.documents import read_document
from xrmflow.io.stores import Quantity, create_volume, open_volume
from xrmflow.stages import sr_apply, sr_train

PARAMS = SrTrainSection(steps=3, features=2, levels=1, patch_px=16, batch=2, precision="float32")


def write_volume(path, values, voxel_mm, *, quantity: Quantity = "attenuation_per_mm"):
    with create_volume(
        path,
        quantity=quantity,
        grid=VolumeGrid(values.shape, voxel_mm, (0.1, 0.0, -0.2)),
        calibrated=quantity == "attenuation_per_mm",
        provenance={"stage": "fdk"},
    ) as store:
        store["data"] = values.astype(np.float32)
    return path


def write_pair(folder):
    fine = gaussian_filter(np.random.default_rng(0).standard_normal((12, 32, 32)), 1.5)
    coarse = fine.reshape(6, 2, 16, 2, 16, 2).mean(axis=(1, 3, 5))
    return write_volume(folder / "low" / "volume.zarr", coarse, 0.02), write_volume(folder / "high.zarr", fine, 0.01)


def train(folder, low, high, params=PARAMS):
    model = folder / "m" / "sr.safetensors"
    model.parent.mkdir(exist_ok=True)
    sr_train.run(low=low, high=high, model=model, card=model.with_suffix(".json"), params=params)
    return model


def test_a_trained_model_refines_a_volume(tmp_path):
    low, high = write_pair(tmp_path)
    model = train(tmp_path, [low], [high])
    card = read_document(model.with_suffix(".json"), "model")
    assert (card["task"], card["options"], card["scans"]) == ("sr", {"factor": 2}, ["low"])
    sr_apply.run(volume=low, model=model, superres=tmp_path / "s.zarr", params=SrApplySection())
    fine = open_volume(tmp_path / "s.zarr", "attenuation_per_mm")
    assert (fine.grid.shape, fine.grid.voxel_mm, fine.grid.centre_mm) == ((12, 32, 32), 0.01, (0.1, 0.0, -0.2))
    assert np.corrcoef(fine.data[...].ravel(), open_volume(high).data[...].ravel())[0, 1] > 0.8


def test_lists_must_pair_up(tmp_path):
    low, high = write_pair(tmp_path)
    with pytest.raises(SettingsError, match="as many volumes of each, at least one, got 1 and 2"):
        train(tmp_path, [low], [high, high])


def test_voxel_sizes_must_have_the_ratio_of_the_factor(tmp_path):
    low, high = write_pair(tmp_path)
    with pytest.raises(SettingsError, match="factor: expected the ratio of the voxel sizes"):
        train(tmp_path, [low], [high], PARAMS.model_copy(update={"factor": 3}))


def test_volumes_without_a_voxel_size_cannot_be_paired(tmp_path):
    low, high = write_pair(tmp_path)
    flat = write_volume(tmp_path / "u.zarr", np.zeros((6, 16, 16)), 1.0, quantity="attenuation_per_voxel")
    with pytest.raises(StoreError, match="expected quantity attenuation_per_mm"):
        train(tmp_path, [flat], [high])
    model = train(tmp_path, [low], [high])
    with pytest.raises(StoreError, match="quantity: the model was trained with attenuation_per_mm"):
        sr_apply.run(volume=flat, model=model, superres=tmp_path / "s.zarr", params=SrApplySection())
