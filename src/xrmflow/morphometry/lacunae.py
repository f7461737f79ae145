"""Each lacuna: place, volume, axes."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy import ndimage

from xrmflow.arrays import blocks
from xrmflow.metrics.labels import BONE, LACUNA, OUTSIDE
from xrmflow.morphometry.components import find_components
from xrmflow.morphometry.masks import dilated
from xrmflow.morphometry.moments import moments
from xrmflow.morphometry.pores import grow, touches_ends
from xrmflow.morphometry.slabs import WHOLE, Slab, Workspace

ROWS = 128
"""How many are looked at at a time where much is looked at around them."""
RING = 2
"""Voxels of bone beyond a lacuna's blurred edge from which its surrounding bone's grey is taken."""


@dataclass(frozen=True)
class Lacuna:
    """One lacuna.

    Attributes:
        centre: (z, y, x), voxels.
        semi_axes: longest first, of the ellipsoid with the same second moments, voxels.
        voxels: how many belong to it.
        grey_voxels: its volume from the grey values: the grey missing from bone, which blur does not change; NaN when
            unknown.
        cut: whether it reaches the edge of the volume of interest or the ends of the volume: its volume is then not
            all there.
    """

    centre: np.ndarray
    semi_axes: np.ndarray
    voxels: int
    grey_voxels: float
    cut: bool

    @property
    def stretch(self) -> float:
        """(longest - shortest) / longest axis: 0 for a ball, towards 1 for a rod (or a plate)."""
        return float(1 - self.semi_axes[2] / self.semi_axes[0])

    @property
    def oblateness(self) -> float:
        """2 (longest - middle) / (longest - shortest) - 1: -1 for a plate (two long axes), +1 for a rod."""
        longest, middle, shortest = self.semi_axes
        return float(2 * (longest - middle) / (longest - shortest) - 1) if longest > shortest else 0.0


def measure_lacunae(
    volume: np.ndarray, labels: np.ndarray, *, soft: float, blur_voxels: float, work: Workspace = WHOLE
) -> list[Lacuna]:
    """Measure the lacunae in a label volume, in raster order.

    Args:
        volume: (z, y, x) greys, not smoothed.
        labels: (z, y, x) uint8.
        soft: grey of soft tissue, taken for what fills a lacuna.
        blur_voxels: standard deviation of the blur of edges in `volume`.
        work: how much to look at at a time.
    """
    found = find_components(lambda z: labels[z] == LACUNA, labels.shape, connectivity=6, work=work)
    count = found.sizes.size
    if count == 1:
        return []
    lacunae = work.array(labels.shape, np.int32)
    for slab in work.slabs(labels.shape):
        lacunae[slab.core] = found[slab.core]
    names = np.arange(1, count)
    sums = moments(lacunae, np.ones(count, bool), work=work)
    cut = touches_ends(lacunae, count) | _touching_outside(lacunae, labels, count, work)
    reach = int(np.ceil(2.5 * blur_voxels)) + 1
    grey = grey_volumes(volume, lacunae, labels, soft=soft, reach=reach, last=sums.last, work=work)
    return [
        Lacuna(centre, axes, int(sums.sizes[label]), float(grey[label]), bool(cut[label]))
        for label, centre, axes in zip(names, sums.centres(names), sums.semi_axes(names), strict=True)
    ]


def grey_volumes(
    volume: np.ndarray,
    lacunae: np.ndarray,
    labels: np.ndarray,
    *,
    soft: float,
    reach: int,
    last: np.ndarray,
    work: Workspace = WHOLE,
) -> np.ndarray:
    """Volume of each lacuna, voxels: sum of (bone - grey) / (bone - soft) over it and `reach` voxels of bone around it.

    Blur spreads the sum and does not change it. The grey of bone is the median of a ring around. Returns (lacuna,)
    float64; NaN without a ring.

    Args:
        volume: (z, y, x) greys.
        lacunae: (z, y, x) int32, their numbers.
        labels: (z, y, x) uint8.
        soft: grey of soft tissue.
        reach: voxels.
        last: (lacuna,) the highest slice of each.
        work: how much to look at at a time.
    """
    sizes, sums = np.zeros(last.size, np.int64), np.zeros(last.size)
    local, ring_of = np.full(last.size, np.nan), _Rings(np.minimum(last + reach + RING, len(volume) - 1))
    for slab in work.slabs(volume.shape):
        wide, ring = _surroundings(lacunae, labels, slab, reach)
        values = np.ascontiguousarray(volume[slab.core], np.float32)
        _add_up(wide, values, sizes, sums)
        ring_of.add(ring[ring > 0], values[ring > 0])
        ring_of.settle(local, slab.core.stop)
    return (local * sizes - sums) / (local - soft)


def _surroundings(lacunae: np.ndarray, labels: np.ndarray, slab: Slab, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Each lacuna with `reach` voxels of bone around it, and the ring around that, in some slices: int32.

    Some rows at a time: with all that is looked at around them, thin slabs would take many times their own memory.
    """
    halo, rows = reach + RING, lacunae.shape[1]
    wide, ring = (np.empty_like(lacunae[slab.core]) for _ in range(2))
    for y in (Slab(core, rows) for core in blocks(rows, ROWS)):
        around, inner = (slab.around(halo), y.around(halo)), (slab.inner(halo), y.inner(halo))
        bone = labels[around] == BONE
        grown = grow(np.ascontiguousarray(lacunae[around]), bone, reach)
        wide[:, y.core] = grown[inner]
        ring[:, y.core] = np.where(grown > 0, 0, grow(grown, bone, RING))[inner]
    return wide, ring


class _Rings:
    """Greys of the rings that are not whole yet."""

    def __init__(self, top: np.ndarray) -> None:
        """`top` (lacuna,): the highest slice that each ring may reach."""
        self._top = top
        self._names, self._greys = np.zeros(0, np.int32), np.zeros(0, np.float32)

    def add(self, names: np.ndarray, greys: np.ndarray) -> None:
        """Take in voxels of rings."""
        self._names, self._greys = np.concatenate([self._names, names]), np.concatenate([self._greys, greys])

    def settle(self, medians: np.ndarray, seen: int) -> None:
        """Write the medians of the rings that end below slice `seen`, and forget these."""
        whole = self._top[self._names] < seen
        if whole.any():
            names = np.unique(self._names[whole])
            medians[names] = ndimage.median(self._greys[whole], self._names[whole], names)
        self._names, self._greys = self._names[~whole], self._greys[~whole]


@njit(cache=True, nogil=True)
def _add_up(labels, values, sizes, sums):
    """Voxels and sum of each label, voxel by voxel in raster order."""
    nz, ny, nx = labels.shape
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                n = labels[z, y, x]
                sizes[n] += 1
                sums[n] += values[z, y, x]


def _touching_outside(lacunae: np.ndarray, labels: np.ndarray, count: int, work: Workspace) -> np.ndarray:
    """Which lacunae have a face neighbour outside the volume of interest: (lacuna,) bool."""
    touching = np.zeros(count, bool)
    for slab in work.slabs(labels.shape):
        beside = dilated(labels[slab.around(1)] == OUTSIDE, 1)[slab.inner(1)]
        touching[lacunae[slab.core][beside]] = True
    touching[0] = False
    return touching
