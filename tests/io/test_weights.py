import json
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from xrmflow.errors import StoreError
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.io.documents import read_document
from xrmflow.io.stores import create_volume, open_volume
from xrmflow.io.weights import CheckpointFolder, Model, load_model, save_model, training_checkpoints
from xrmflow.networks.normalisation import Normalisation
from xrmflow.networks.training import Losses, Plan
from xrmflow.networks.unet import UNet


@pytest.fixture
def model():
    torch.manual_seed(0)
    network = UNet(channels=3, features=2, levels=1)
    torch.nn.init.normal_(network.last.weight)
    return Model("n2i", network, Normalisation(0.4, 0.1), "attenuation_per_mm", {"splits": 4})


@pytest.fixture
def saved(model, tmp_path):
    path = tmp_path / "m" / "n2i.safetensors"
    save_model(
        path,
        path.with_suffix(".json"),
        model,
        plan=Plan(steps=20),
        losses=Losses([10, 20], [2.0, 1.0], []),
        about={"scans": ["a"]},
        provenance={"stage": "n2i_train"},
    )
    return path


def rewrite(path, change):
    """Save the file again with another header, without its card."""
    path.with_suffix(".json").unlink()
    header = {
        "format": 1,
        "task": "n2i",
        "architecture": "unet",
        "arguments": {"channels": 3, "features": 2, "levels": 1},
        "normalisation": {"mean": 0.4, "deviation": 0.1},
        "quantity": "attenuation_per_mm",
        "options": {"splits": 4},
    }
    save_file(load_file(path), path, metadata={"xrmflow": json.dumps(header | change)})


def test_what_is_saved_is_loaded(model, saved):
    again = load_model(saved, "n2i")
    image = torch.randn(1, 3, 8, 8)
    assert torch.equal(again.network(image), model.network(image))
    assert (again.normalisation, again.quantity, again.options) == (model.normalisation, model.quantity, model.options)


def test_card_says_what_people_ask(saved):
    card = read_document(saved.with_suffix(".json"), "model")
    assert card["architecture"] == "unet"
    assert card["arguments"] == {"channels": 3, "features": 2, "levels": 1, "residual": True}
    assert card["parameters"] == sum(p.numel() for p in UNet(channels=3, features=2, levels=1).parameters())
    assert card["loss"] == {"step": [10, 20], "train": [2.0, 1.0], "validation": []}
    assert (card["seed"], card["steps"], card["scans"], len(card["sha256"])) == (0, 20, ["a"], 64)


def test_saving_twice_gives_the_same_bytes(model, saved, tmp_path):
    other = tmp_path / "again.safetensors"
    save_model(
        other,
        tmp_path / "again.json",
        model,
        plan=Plan(steps=1),
        losses=Losses([1], [1.0], []),
        about={},
        provenance={},
    )
    assert other.read_bytes() == saved.read_bytes()


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("writer", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o))], ids=["torch", "pickle"])
def test_pickles_are_refused_without_running_them(writer, tmp_path):
    path = tmp_path / "n2i.safetensors"
    writer({"weights": Evil(tmp_path / "executed")}, path)
    with pytest.raises(StoreError, match="expected weights as safetensors, got a pickle, which can run code"):
        load_model(path, "n2i")
    assert not (tmp_path / "executed").exists()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"none.safetensors: no such model"):
        load_model(tmp_path / "none.safetensors", "n2i")


def test_a_truncated_file_is_named(saved):
    saved.write_bytes(saved.read_bytes()[:-40])
    with pytest.raises(StoreError, match="got a damaged or foreign file"):
        load_model(saved, "n2i")


def test_weights_of_another_program_are_refused(tmp_path):
    path = tmp_path / "n2i.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(StoreError, match="expected weights written by xrmflow"):
        load_model(path, "n2i")


def test_a_card_of_other_weights_is_noticed(saved):
    data = bytearray(saved.read_bytes())
    data[-1] ^= 1
    saved.write_bytes(data)
    with pytest.raises(StoreError, match=r"does not belong to its card n2i.json"):
        load_model(saved, "n2i")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "sr"}, "expected a model trained for n2i, got one for sr"),
        ({"architecture": "msd"}, "architecture: expected one of unet, got 'msd'"),
        (
            {"arguments": {"channels": 3, "features": 4, "levels": 1}},
            r"does not fit its architecture unet: down.0.0.bias",
        ),
        ({"arguments": {"channels": 3, "features": 10**9}}, "features, levels: expected 1 to 1024"),
        ({"arguments": {"width": 3}}, "arguments of unet: .*width"),
        ({"arguments": {"channels": "3"}}, "not a model this version can build"),
        ({"normalisation": {"mean": 0.0, "deviation": 0.0}}, "deviation: expected finite numbers"),
        ({"normalisation": {}}, "not a model this version can build"),
        ({"format": 99}, "written by a newer version"),
    ],
)
def test_headers_that_do_not_fit_are_named(saved, change, message):
    rewrite(saved, change)
    with pytest.raises(StoreError, match=message):
        load_model(saved, "n2i")


def test_damaged_weights_are_refused(model, saved):
    with torch.no_grad():
        model.network.last.bias.fill_(float("nan"))
    save_model(
        saved,
        saved.with_suffix(".json"),
        model,
        plan=Plan(steps=1),
        losses=Losses([1], [1.0], []),
        about={},
        provenance={},
    )
    with pytest.raises(StoreError, match=r"last.bias: expected finite float32 weights"):
        load_model(saved, "n2i")


def test_a_model_is_applied_to_what_it_was_trained_on_only(model, tmp_path):
    with create_volume(
        tmp_path / "v.zarr",
        quantity="attenuation_per_mm",
        grid=VolumeGrid((1, 2, 2), 0.1),
        calibrated=True,
        provenance={},
    ) as store:
        store["data"] = np.zeros((1, 2, 2), np.float32)
    volume = open_volume(tmp_path / "v.zarr")
    assert model.fits(volume, splits=4) is model
    with pytest.raises(StoreError, match="splits: the model was trained with 4, this scan has 3"):
        model.fits(volume, splits=3)


def test_checkpoints_are_resumed_by_the_same_training_only(tmp_path):
    state = {"step": torch.tensor(7), "a": torch.arange(3.0)}
    kept = CheckpointFolder(tmp_path / "c", key="one")
    assert kept.load() is None
    kept.save(state)
    again = CheckpointFolder(tmp_path / "c", key="one").load()
    assert again is not None
    assert all(torch.equal(again[name], state[name]) for name in state)
    assert CheckpointFolder(tmp_path / "c", key="other").load() is None


def test_a_torn_checkpoint_is_passed_over(tmp_path):
    kept = CheckpointFolder(tmp_path / "c", key="one")
    kept.save({"step": torch.tensor(7)})
    file = tmp_path / "c" / "state.safetensors"
    file.write_bytes(file.read_bytes()[:20])
    assert kept.load() is None


def test_checkpoints_outlive_a_failure_and_go_with_success(tmp_path):
    model = tmp_path / "n2i.safetensors"
    what = {"stage": "n2i_train", "settings": {"steps": 1}, "inputs": {}, "lineage": "", "xrmflow": "0"}

    def fails():
        with training_checkpoints(model, what) as kept:
            kept.save({"step": torch.tensor(1)})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    with training_checkpoints(model, what) as kept:
        assert kept.load() is not None
    with pytest.raises(RuntimeError):
        fails()
    with training_checkpoints(model, what | {"settings": {"steps": 2}}) as other:
        assert other.load() is None
        other.save({"step": torch.tensor(1)})
    assert not list(tmp_path.iterdir())


def test_what_decides_a_training_decides_its_key(tmp_path):
    what = {"stage": "n2i_train", "settings": {"steps": 1}, "inputs": {"s": "x"}, "lineage": "l", "xrmflow": "0"}
    changed = [what | change for change in ({}, {"settings": {}}, {"inputs": {}}, {"lineage": "m"}, {"device": "cuda"})]
    keys = []
    for one in changed:
        with training_checkpoints(tmp_path / "m", one) as kept:
            keys.append(kept._key)
    assert len(set(keys)) == 4
    assert keys[0] == keys[-1]
    assert all(a != b for a, b in pairwise(keys[:4]))
