"""Bytes and files of stores: the arithmetic against stores that are written."""

import math

import numpy as np
import pytest

from xrmflow.geometry.grid import VolumeGrid
from xrmflow.io.stores import create_volume
from xrmflow.manage.footprint import NOISY, Footprint, image, levels, store, store_footprints
from xrmflow.manage.sizes import ScanSize

RNG = np.random.default_rng(0)


def written(folder, shape, *, multiscale):
    """A store of noise like that of a scan, as it is on the disk."""
    made = {"quantity": "attenuation_per_mm", "grid": VolumeGrid(shape, 0.01), "calibrated": True}
    with create_volume(folder, provenance={"stage": "test"}, multiscale=multiscale, **made) as volume:
        volume["data"] = RNG.normal(0.5, 0.3, shape).astype(np.float32)
    files = [file for file in folder.parent.rglob("*") if file.is_file()]
    return Footprint(sum(file.stat().st_size for file in files), len(files))


@pytest.mark.parametrize("shape", [(20, 64, 64), (70, 96, 96), (40, 130, 200)])
@pytest.mark.parametrize("multiscale", [True, False])
def test_a_written_store_takes_what_is_foreseen(tmp_path, shape, multiscale):
    found = written(tmp_path / "v.zarr", shape, multiscale=multiscale)
    foreseen = image(shape, NOISY) if multiscale else store([(shape, NOISY)], "volume")
    assert foreseen.files == found.files
    assert foreseen.bytes == pytest.approx(found.bytes, rel=0.2)


def test_levels_end_where_the_longest_edge_is_short():
    assert levels((10, 64, 3)) == [(10, 64, 3)]
    assert levels((1, 65, 200)) == [(1, 65, 200), (1, 33, 100), (1, 17, 50)]


def test_a_volume_of_2048_voxels_a_side_has_less_than_200_files_whether_it_is_kept_or_passes():
    shape = (2048,) * 3
    assert 100 < store([(shape, NOISY)], "volume").files < image(shape, NOISY).files < 200


def test_stores_follow_size_splits_and_factor():
    size = ScanSize(100, 64, 128, 2, (64, 128, 128))
    plain, finer = store_footprints(size), store_footprints(size, splits=4, factor=2)
    assert plain["splits"] == Footprint(0, 0)
    assert finer["splits"].bytes > 4 * 4 * 0.8 * math.prod(size.shape)
    assert finer["superres"].bytes == pytest.approx(8 * plain["superres"].bytes, rel=0.05)
    assert plain["bone/volume"].bytes < plain["volume"].bytes / 10
    floats = store_footprints(ScanSize(100, 64, 128, 4, (64, 128, 128)))
    assert floats["raw"].bytes > 2 * plain["raw"].bytes
