import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.ndimage import gaussian_filter

from xrmflow.config.n2i_apply import N2iApplySection
from xrmflow.config.n2i_train import N2iTrainSection
from xrmflow.errors import SettingsError, StoreError, UserError
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.io.documents import read_document
from xrmflow.io.splits import check_alignment, open_splits
from xrmflow.io.stores import Quantity, create_volume, open_volume
from xrmflow.networks import training
from xrmflow.stages import n2i_apply, n2i_train

PARAMS = N2iTrainSection(steps=12, features=2, levels=1, patch_px=16, batch=2, record_steps=4, precision="float32")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_splits(
    folder, *, seed=0, number=3, shape=(4, 30, 30), quantity: Quantity = "attenuation_per_mm", mismatch_px=0.02
):
    rough = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 2)
    rng = np.random.default_rng(seed + 1)
    paths = []
    for index in range(number):
        path = folder / "splits" / f"{index}.zarr"
        with create_volume(
            path,
            quantity=quantity,
            grid=VolumeGrid(shape, 0.01),
            calibrated=quantity == "attenuation_per_mm",
            provenance={"stage": "n2i_split"},
            split={"index": index, "of": number},
            alignment={"mismatch_px": mismatch_px},
        ) as store:
            store["data"] = ((rough > 0) + 0.3 * rng.standard_normal(shape)).astype(np.float32)
        paths.append(path / "manifest.json")
    return paths


def train(folder, splits, *, validation=(), params=PARAMS):
    model, card = folder / "m" / "n2i.safetensors", folder / "m" / "n2i.json"
    model.parent.mkdir(exist_ok=True)
    n2i_train.run(splits=splits, validation=list(validation), model=model, card=card, params=params)
    return model, card


def test_model_and_card_are_written_and_applied(tmp_path):
    ours, other = write_splits(tmp_path / "a"), write_splits(tmp_path / "b", seed=5)
    model, card = train(tmp_path, ours, validation=other)
    described = read_document(card, "model")
    assert (described["scans"], described["validation_scans"]) == (["a"], ["b"])
    assert described["loss"]["step"] == [4, 8, 12]
    assert len(described["loss"]["validation"]) == 3
    assert described["precision"] == "float32"
    n2i_apply.run(splits=other, model=model, denoised=tmp_path / "d.zarr", params=N2iApplySection())
    denoised = open_volume(tmp_path / "d.zarr", "attenuation_per_mm")
    first = open_volume(other[0])
    assert denoised.grid == first.grid
    noisy = np.mean([open_volume(path).data[...] for path in other], axis=0)
    assert 0 < denoised.data[...].std() < noisy.std()


def test_a_killed_training_is_resumed_to_the_same_weights(tmp_path, monkeypatch):
    splits = write_splits(tmp_path / "a")
    whole, _ = train(tmp_path, splits)
    expected = load_file(whole)
    whole.unlink()
    update = training._update

    def dies(state, batch, plan, step, dtype):
        if step == 9:
            raise KeyboardInterrupt
        return update(state, batch, plan, step, dtype)

    monkeypatch.setattr(training, "_update", dies)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, splits)
    kept = whole.with_name("n2i.safetensors.checkpoints")
    assert kept.is_dir()
    assert not whole.exists()
    steps = []
    monkeypatch.setattr(training, "_update", lambda *given: steps.append(given[3]) or update(*given))
    train(tmp_path, splits)
    assert steps == [8, 9, 10, 11]
    resumed = load_file(whole)
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)
    assert not kept.exists()


def test_a_training_with_other_settings_starts_anew(tmp_path, monkeypatch):
    splits = write_splits(tmp_path / "a")
    update = training._update

    def dies(*given):
        if given[3] == 9:
            raise KeyboardInterrupt
        return update(*given)

    monkeypatch.setattr(training, "_update", dies)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, splits)
    steps = []
    monkeypatch.setattr(training, "_update", lambda *given: steps.append(given[3]) or update(*given))
    train(tmp_path, splits, params=PARAMS.model_copy(update={"seed": 1}))
    assert steps[0] == 0


def test_nan_in_a_split_ends_in_words(tmp_path):
    splits = write_splits(tmp_path / "a")
    with create_volume(
        splits[1],
        quantity="attenuation_per_mm",
        grid=VolumeGrid((4, 30, 30), 0.01),
        calibrated=True,
        provenance={"stage": "n2i_split"},
        split={"index": 1, "of": 3},
    ) as store:
        store["data"] = np.full((4, 30, 30), np.nan, np.float32)
    with pytest.raises(UserError, match="finite values"):
        train(tmp_path, splits)
    assert not (tmp_path / "m" / "n2i.safetensors").exists()


@pytest.mark.parametrize(
    ("pick", "message"),
    [
        (lambda a, b: a[:2], "expected 3 splits of this scan, got 2"),
        (lambda a, b: [a[0], a[2], a[1]], "expected the splits of each scan in order"),
        (lambda a, b: a[1:], "expected the splits of each scan in order"),
        (lambda a, b: a + b, "expected 3 splits as in"),
    ],
)
def test_lists_of_splits_that_cannot_be_are_named(tmp_path, pick, message):
    a, b = write_splits(tmp_path / "a"), write_splits(tmp_path / "b", number=2)
    with pytest.raises(StoreError, match=message):
        train(tmp_path, pick(a, b))


def test_a_plain_volume_is_no_split(tmp_path):
    with create_volume(
        tmp_path / "v.zarr",
        quantity="attenuation_per_mm",
        grid=VolumeGrid((2, 8, 8), 0.01),
        calibrated=True,
        provenance={"stage": "fdk"},
    ) as store:
        store["data"] = np.zeros((2, 8, 8), np.float32)
    with pytest.raises(StoreError, match="written by n2i_split"):
        train(tmp_path, [tmp_path / "v.zarr"])


def test_quantities_are_not_mixed(tmp_path):
    a = write_splits(tmp_path / "a")
    b = write_splits(tmp_path / "b", quantity="attenuation_per_voxel")
    with pytest.raises(StoreError, match="expected attenuation_per_mm as in"):
        train(tmp_path, a + b)
    model, _ = train(tmp_path, a)
    with pytest.raises(StoreError, match="quantity: the model was trained with attenuation_per_mm"):
        n2i_apply.run(splits=b, model=model, denoised=tmp_path / "d.zarr", params=N2iApplySection())


def test_only_one_scan_is_denoised_at_a_time(tmp_path):
    a, b = write_splits(tmp_path / "a"), write_splits(tmp_path / "b")
    model, _ = train(tmp_path, a)
    with pytest.raises(StoreError, match=r"splits: expected those of 1 scan\(s\), got 2"):
        n2i_apply.run(splits=a + b, model=model, denoised=tmp_path / "d.zarr", params=N2iApplySection())


def test_a_geometry_that_is_off_is_told_before_the_training(tmp_path, caplog):
    off = write_splits(tmp_path / "a", mismatch_px=1.3)
    with pytest.raises(SettingsError, match=r"n2i_train.geometry_limit_px \(0.5 px\) in a \(1.30 px\): .*align"):
        train(tmp_path, off, params=PARAMS.model_copy(update={"geometry_check": "refuse"}))
    train(tmp_path, off, params=PARAMS.model_copy(update={"geometry_check": "ignore"}))
    assert "geometry" not in caplog.text
    train(tmp_path, off)
    assert "the geometry is off by more than" in caplog.text


def test_a_good_geometry_and_one_without_a_score_pass(tmp_path):
    for name, score in (("a", 0.2), ("b", None)):
        splits = write_splits(tmp_path / name, mismatch_px=score)
        check_alignment(open_splits(splits), "refuse", largest_px=0.5)
