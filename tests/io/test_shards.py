"""Shards hold what was written, however it came, and make few files."""

import math

import numpy as np
import pytest
import zarr

from xrmflow.arrays import LEAST_PIECE, MOST_PIECE, piece_bytes
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.io.shards import ShardWriter, shard_shape
from xrmflow.io.stores import create_volume, open_volume

SHAPE, CHUNKS = (10, 22, 17), (4, 4, 4)


@pytest.fixture
def array(tmp_path):
    return zarr.create_array(tmp_path / "a", shape=SHAPE, chunks=CHUNKS, shards=(4, 12, 8), dtype="f4")


class Watched:
    """A zarr array that notes which regions are written to it."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.shards = array, array.shape, array.dtype, array.shards
        self.written = []

    def __getitem__(self, selection):
        return self.array[selection]

    def __setitem__(self, selection, values):
        self.written.append(selection)
        self.array[selection] = values


def values():
    return np.random.default_rng(0).random(SHAPE, np.float32)


@pytest.mark.parametrize("tile", [(4, 5, 3), (3, 22, 17), (10, 22, 17), (1, 1, 17), (4, 12, 8)])
def test_tiles_in_any_order_give_the_array_and_each_shard_is_written_once(array, tile):
    watched, data = Watched(array), values()
    writer = ShardWriter(watched)
    starts = [(z, y, x) for z in range(0, 10, tile[0]) for y in range(0, 22, tile[1]) for x in range(0, 17, tile[2])]
    for n in np.random.default_rng(1).permutation(len(starts)):
        region = tuple(slice(s, s + t) for s, t in zip(starts[n], tile, strict=True))
        writer[region] = data[region]
    writer.flush()
    np.testing.assert_array_equal(array[...], data)
    assert len(watched.written) == math.prod([3, 2, 3])


def test_what_was_written_is_read_back_and_can_be_written_again(array):
    writer, data = ShardWriter(array), values()
    writer[2:5, :7] = data[2:5, :7]
    np.testing.assert_array_equal(writer[3:5, 1:7], data[3:5, 1:7])
    writer[...] = data
    writer[1:3, 4:6, 9:11] = 5
    data[1:3, 4:6, 9:11] = 5
    writer.flush()
    np.testing.assert_array_equal(array[...], data)


@pytest.mark.parametrize("selection", [3, slice(0, 4, 2), (slice(0, 1), Ellipsis), (slice(None),) * 4], ids=str)
def test_other_selections_are_refused(array, selection):
    with pytest.raises(IndexError, match="selection: expected slices of step 1"):
        ShardWriter(array)[selection] = 0


@pytest.mark.parametrize("shape", [(2048, 2048, 2048), (4096, 2000, 2300), (512, 512, 512), (64, 64, 65), (1, 4, 70)])
def test_shards_are_whole_chunks_within_the_limit(shape):
    chunks = tuple(min(64, size) for size in shape)
    limit = piece_bytes(shape, 4)
    shard = shard_shape(shape, chunks, 4, limit=limit)
    assert shard is not None
    assert all(edge % chunk == 0 for edge, chunk in zip(shard, chunks, strict=True))
    assert 4 * math.prod(shard) <= limit <= MOST_PIECE


@pytest.mark.parametrize(("size", "files"), [(512, 8), (1024, 64), (2048, 128)])
def test_small_volumes_have_small_shards_and_large_ones_few(size, files):
    """What is written at a time has to fit into memory beside the slab it is cut from."""
    shape = (size,) * 3
    shard = shard_shape(shape, (64, 64, 64), 4, limit=piece_bytes(shape, 4))
    assert shard is not None
    assert math.prod(-(-size // edge) for edge in shard) == files


def test_a_single_chunk_needs_no_shard():
    assert shard_shape((64, 64, 64), (64, 64, 64), 4, limit=LEAST_PIECE) is None


def files_of_image(size):
    """Files of a kept volume: shards of all levels, an array's and the group's description, manifest and listing."""
    count, limit = 3, piece_bytes((size,) * 3, 4)
    while True:
        chunks = (min(size, 64),) * 3
        shard = shard_shape((size,) * 3, chunks, 4, limit=limit) or chunks
        count += 1 + math.prod(-(-size // edge) for edge in shard)
        if size <= 64:
            return count
        size //= 2


def test_a_kept_volume_of_2048_voxels_a_side_has_less_than_200_files():
    assert files_of_image(2048) < 200


def test_the_arithmetic_holds_for_a_real_store(tmp_path):
    grid, data = VolumeGrid((256, 256, 256), 0.01), np.arange(256**3, dtype=np.float32).reshape(256, 256, 256)
    made = {"quantity": "attenuation_per_mm", "grid": grid, "calibrated": True, "provenance": {"stage": "test"}}
    with create_volume(tmp_path / "v.zarr", **made) as store:
        store["data"] = data
    assert sum(file.is_file() for file in (tmp_path / "v.zarr").rglob("*")) == files_of_image(256)
    volume = open_volume(tmp_path / "v.zarr")
    np.testing.assert_array_equal(volume.data[70:72, 100:180], data[70:72, 100:180])
    np.testing.assert_array_equal(volume.arrays["1"][3, 4, 5], data[6:8, 8:10, 10:12].mean())
