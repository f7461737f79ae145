import json

import numpy as np
import pytest
import yaozarrs

from xrmflow.geometry.grid import VolumeGrid
from xrmflow.io import multiscale
from xrmflow.io.manifest import CHUNKS, damaged_files
from xrmflow.io.stores import create_volume, open_volume

GRID = VolumeGrid((5, 130, 70), 0.01, (0.1, -0.2, 0.3))


def written(path, values, *, quantity="attenuation_per_mm", calibrated=True, **more):
    grid = GRID if calibrated else VolumeGrid(GRID.shape, 1.0)
    with create_volume(path, quantity=quantity, grid=grid, calibrated=calibrated, provenance={}, **more) as store:
        store["data"] = values
    return open_volume(path)


def image(path):
    return json.loads((path / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]


def noise(dtype=np.float32):
    return np.random.default_rng(0).random(GRID.shape).astype(dtype)


@pytest.mark.parametrize("calibrated", [True, False])
@pytest.mark.parametrize("quantity", ["attenuation_per_mm", "label"])
def test_a_volume_is_a_valid_ome_image(tmp_path, quantity, calibrated):
    values = noise() if quantity != "label" else (5 * noise()).astype(np.uint8)
    written(tmp_path / "v.zarr", values, quantity=quantity, calibrated=calibrated)
    yaozarrs.validate_zarr_store(str(tmp_path / "v.zarr"))
    units = [axis.get("unit") for axis in image(tmp_path / "v.zarr")["axes"]]
    assert units == ["micrometer" if calibrated else None] * 3


def test_levels_lie_where_their_voxels_lie(tmp_path):
    """The weighted centre of a blob, computed in micrometres from each level, is the same place."""
    z, y, x = np.indices(GRID.shape)
    blob = np.exp(-((z - 2.0) ** 2) / 0.3 - ((y - 61.0) ** 2 + (x - 31.3) ** 2) / 200).astype(np.float32)
    store = written(tmp_path / "v.zarr", blob)
    datasets = image(tmp_path / "v.zarr")["datasets"]
    assert [one["path"] for one in datasets] == ["data", "1", "2"]
    scale, translation = (step for step in datasets[0]["coordinateTransformations"])
    np.testing.assert_allclose(scale["scale"], [10.0] * 3)
    np.testing.assert_allclose(translation["translation"], np.multiply(GRID.first_voxel_mm[::-1], 1000))
    centres = []
    for one in datasets:
        values = np.asarray(store.arrays[one["path"]][...], np.float64)
        scale, translation = one["coordinateTransformations"]
        mean_index = [(np.indices(values.shape)[axis] * values).sum() / values.sum() for axis in (1, 2)]
        centres.append(np.multiply(mean_index, scale["scale"][1:]) + translation["translation"][1:])
    np.testing.assert_allclose(centres[1:], [centres[0]] * 2, atol=0.1)


def test_values_are_means_and_an_odd_plane_stands_for_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(multiscale, "BLOCK", 16)
    values = noise()
    store = written(tmp_path / "v.zarr", values)
    level = np.asarray(store.arrays["1"][...])
    assert level.shape == (3, 65, 35)
    means = values[:4].reshape(2, 2, 65, 2, 35, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(level[:2], means, rtol=1e-6)
    np.testing.assert_allclose(level[2], values[4].reshape(65, 2, 35, 2).mean(axis=(1, 3)), rtol=1e-6)


def test_a_flat_volume_stays_as_thick_as_it_is():
    fine, coarse = np.arange(8, dtype=np.float32).reshape(1, 2, 4), np.zeros((1, 1, 2), np.float32)
    multiscale.halve(fine, coarse, labels=False)
    np.testing.assert_array_equal(coarse, [[[2.5, 4.5]]])


def test_labels_are_never_averaged(tmp_path):
    values = np.zeros(GRID.shape, np.uint8)
    values[:, 64:] = 4
    values[0, 0, :2] = 2
    level = np.asarray(written(tmp_path / "v.zarr", values, quantity="label").arrays["1"][...])
    assert set(np.unique(level)) == {0, 4}
    assert (level[:, 32:] == 4).all()
    parts = np.array([[3, 1], [3, 2], [0, 1], [1, 2]], np.uint8)
    np.testing.assert_array_equal(multiscale.most_frequent(parts), [3, 1])


def test_no_more_than_a_block_is_read_at_once(monkeypatch):
    monkeypatch.setattr(multiscale, "BLOCK", 8)

    class Watched:
        shape, dtype = GRID.shape, np.dtype(np.float32)
        largest = 0

        def __getitem__(self, window):
            block = noise()[window]
            self.largest = max(self.largest, block.size)
            return block

    fine, coarse = Watched(), np.zeros((3, 65, 35), np.float32)
    multiscale.halve(fine, coarse, labels=False)
    assert 0 < fine.largest <= 16**3
    assert coarse.min() > 0


def test_levels_are_hashed_with_the_store(tmp_path):
    written(tmp_path / "v.zarr", noise())
    assert "1/c/0/0/0" in (tmp_path / "v.zarr" / CHUNKS).read_text()
    assert damaged_files(tmp_path / "v.zarr") == []


@pytest.mark.parametrize(
    ("quantity", "more"), [("attenuation_per_mm", {"multiscale": False}), ("length_um", {})], ids=["unasked", "lengths"]
)
def test_what_nobody_opens_has_no_levels(tmp_path, quantity, more):
    store = written(tmp_path / "v.zarr", noise(), quantity=quantity, **more)
    assert list(store.arrays) == ["data"]
    assert "ome" not in json.loads((tmp_path / "v.zarr" / "zarr.json").read_text()).get("attributes", {})
