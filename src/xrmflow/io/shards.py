"""Few files for large volumes: chunks gathered into shards, each of them written once.

A volume of 2048 x 2048 x 2048 voxels has 32,768 chunks, which clusters' file systems do not forgive. In a shard, zarr
keeps many chunks in one file and can still read them one by one; but it writes a shard as a whole, and would read and
rewrite it for every piece. Stages write tiles, so these are collected here until a shard is complete.
"""

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from xrmflow.arrays import blocks

Region = tuple[slice, ...]


def shard_shape(
    shape: tuple[int, ...], chunks: tuple[int, ...], itemsize: int, *, limit: int
) -> tuple[int, ...] | None:
    """Edges of the shards of a volume: one chunk high, as large across as the limit allows, in whole chunks.

    Args:
        shape: (z, y, x).
        chunks: edges of its chunks.
        itemsize: bytes of a voxel.
        limit: bytes of a shard, from `xrmflow.arrays.piece_bytes`.

    Returns:
        None where a shard would be a single chunk.
    """
    across = [-(-size // chunk) for size, chunk in zip(shape[1:], chunks[1:], strict=True)]
    for parts in range(1, max(across) + 1):
        edges = [-(-count // parts) * chunk for count, chunk in zip(across, chunks[1:], strict=True)]
        if chunks[0] * math.prod(edges) * itemsize <= limit:
            shard = (chunks[0], *edges)
            return None if shard == tuple(chunks) else shard
    return None


class ShardWriter:
    """A `Writer` (and `Reader`) of a sharded zarr array that hands it whole shards.

    Pieces may come in any order and overlap; what has been written is read back. Memory: the shards that are begun.
    """

    def __init__(self, array: Any) -> None:
        self.array, self._edges = array, array.shards
        # By the corner of a shard: where it is, what has been written to it, and which of its voxels were not.
        self._begun: dict[tuple[int, ...], tuple[Region, np.ndarray, np.ndarray]] = {}
        self._done: set[tuple[int, ...]] = set()
        self.shape: tuple[int, ...] = array.shape
        self.dtype = array.dtype

    def __getitem__(self, selection: Any) -> np.ndarray:
        self.flush()
        return self.array[selection]

    def __setitem__(self, selection: Any, values: Any) -> None:
        region = _region(selection, self.shape)
        values = np.broadcast_to(values, [part.stop - part.start for part in region])
        for shard in self._shards(region):
            inside = tuple(
                slice(max(r.start, s.start), min(r.stop, s.stop)) for r, s in zip(region, shard, strict=True)
            )
            self._put(shard, inside, values[_relative(inside, region)])

    def flush(self) -> None:
        """Write the shards that are begun; what is missing in them stays as it is in the array."""
        for shard, buffer, missing in list(self._begun.values()):
            if missing.any():
                buffer = np.where(missing, self.array[shard], buffer)
            self._write(shard, buffer)

    def _shards(self, region: Region) -> Iterator[Region]:
        """Shards, cut off at the end of the array, that a region touches."""
        axes = []
        for part, edge, size in zip(region, self._edges, self.shape, strict=True):
            touched = [b for b in blocks(size, edge) if b.start < part.stop and b.stop > part.start]
            axes.append(touched)
        return product(*axes)

    def _put(self, shard: Region, inside: Region, values: np.ndarray) -> None:
        if inside == shard:
            self._write(shard, values)
        elif _corner(shard) in self._done:
            self.array[inside] = values
        else:
            shape = [part.stop - part.start for part in shard]
            fresh = (shard, np.empty(shape, self.dtype), np.ones(shape, bool))
            _, buffer, missing = self._begun.setdefault(_corner(shard), fresh)
            here = _relative(inside, shard)
            buffer[here], missing[here] = values, False
            if not missing.any():
                self._write(shard, buffer)

    def _write(self, shard: Region, values: np.ndarray) -> None:
        self.array[shard] = values
        self._begun.pop(_corner(shard), None)
        self._done.add(_corner(shard))


def _region(selection: Any, shape: tuple[int, ...]) -> Region:
    """A selection of consecutive elements as a slice along each axis."""
    given = selection if isinstance(selection, tuple) else (selection,)
    given = () if given == (Ellipsis,) else given
    if len(given) > len(shape) or not all(isinstance(part, slice) and part.step in (None, 1) for part in given):
        raise IndexError(f"selection: expected slices of step 1 along up to {len(shape)} axes, got {selection!r}")
    bounds = [part.indices(size)[:2] for part, size in zip(given, shape, strict=False)]
    rest = [(0, size) for size in shape[len(given) :]]
    return tuple(slice(start, max(start, stop)) for start, stop in (*bounds, *rest))


def _corner(region: Region) -> tuple[int, ...]:
    return tuple(part.start for part in region)


def _relative(inside: Region, outer: Region) -> Region:
    return tuple(slice(i.start - o.start, i.stop - o.start) for i, o in zip(inside, outer, strict=True))
