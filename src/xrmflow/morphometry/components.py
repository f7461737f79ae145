"""Connected components of masks larger than memory: found slab by slab, joined where slabs meet."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Literal

import cc3d
import numpy as np
from numba import njit
from scipy.sparse import coo_array, csgraph

from xrmflow.morphometry.slabs import Workspace

Mask = Callable[[slice], np.ndarray]
"""Gives some slices of a mask: (z, y, x) bool."""


@dataclass(frozen=True)
class Components:
    """Components of a mask, numbered from 1 in the order of their first voxels, wherever the volume was cut.

    Attributes:
        pieces: (z, y, x) int32, the piece of a component within its slab, numbered through the volume; 0 for none.
        names: (piece + 1,) int32, the component that each piece belongs to.
        sizes: (component + 1,) int64, voxels.
    """

    pieces: np.ndarray
    names: np.ndarray
    sizes: np.ndarray

    def __getitem__(self, z: slice) -> np.ndarray:
        """Components of some slices: int32."""
        return looked_up(self.names, self.pieces[z])

    def having(self, kept: np.ndarray, z: slice) -> np.ndarray:
        """What a table (component + 1,) says about each voxel of some slices."""
        return looked_up(kept[self.names], self.pieces[z])


def find_components(mask: Mask, shape: tuple[int, ...], *, connectivity: Literal[6, 26], work: Workspace) -> Components:
    """Components of a mask.

    Args:
        mask: gives slices of it.
        shape: of the volume.
        connectivity: 6 (faces) or 26 (faces, edges and corners).
        work: where they are kept.
    """
    pieces = work.array(shape, np.int32)
    counts, pairs, total = [np.zeros(1, np.int64)], [np.zeros((0, 2), np.int64)], 0
    for slab in work.slabs(shape):
        found, here = cc3d.connected_components(
            np.ascontiguousarray(mask(slab.core)), connectivity=connectivity, return_N=True
        )
        counts.append(label_counts(found, here + 1)[1:])
        _shift(found.reshape(-1), total, pieces[slab.core].reshape(-1))
        if slab.core.start:
            pairs.append(_touching(pieces[slab.core.start - 1], pieces[slab.core.start], connectivity))
        total += here
    names = _joined(np.concatenate(pairs), total)
    return Components(pieces, names, np.bincount(names, np.concatenate(counts)).astype(np.int64))


def _touching(below: np.ndarray, above: np.ndarray, connectivity: int) -> np.ndarray:
    """Pairs of pieces in two neighbouring slices that belong together."""
    reach = (0,) if connectivity == 6 else (-1, 0, 1)
    padded = np.pad(below, 1)
    found = []
    for dy, dx in product(reach, reach):
        other = padded[1 + dy : 1 + dy + above.shape[0], 1 + dx : 1 + dx + above.shape[1]]
        both = (other > 0) & (above > 0)
        found.append(np.unique(np.column_stack([other[both], above[both]]), axis=0))
    return np.concatenate(found).astype(np.int64)


def _joined(pairs: np.ndarray, pieces: int) -> np.ndarray:
    """The component of each piece, numbered by its first piece; 0 stays 0."""
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(pieces + 1, pieces + 1))
    _, group = csgraph.connected_components(graph, directed=False)
    _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
    order = np.empty(first.size, np.int32)
    order[np.argsort(first)] = np.arange(first.size, dtype=np.int32)
    return order[inverse]


def label_counts(labels: np.ndarray, count: int) -> np.ndarray:
    """How many voxels have each label below `count`: int64."""
    counts = np.zeros(count, np.int64)
    _count(labels.reshape(-1), counts)
    return counts


def looked_up(table: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """table[labels], without the 64-bit copy of the labels that numpy makes for it."""
    out = np.empty(labels.shape, table.dtype)
    _look_up(table, np.ascontiguousarray(labels).reshape(-1), out.reshape(-1))
    return out


@njit(cache=True, nogil=True)
def _count(labels, counts):
    for i in range(labels.size):
        counts[labels[i]] += 1


@njit(cache=True, nogil=True)
def _look_up(table, labels, out):
    for i in range(labels.size):
        out[i] = table[labels[i]]


@njit(cache=True, nogil=True)
def _shift(labels, offset, out):
    """Number labels on from `offset`; 0 stays 0."""
    for i in range(labels.size):
        out[i] = labels[i] + offset if labels[i] else 0
