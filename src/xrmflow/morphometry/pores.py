"""Pores in bone: lacunae told from canals, marrow, open pits and noise.

A pore is a component of what is darker than bone. Cores are found at a deep grey, so that noise does not make pores
and thin walls hold; they are then grown to the level halfway between bone and soft tissue, where their volume is
measured.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product

import edt
import numpy as np
from numba import njit
from scipy import ndimage

from xrmflow.arrays import blocks
from xrmflow.morphometry.components import find_components, label_counts, looked_up
from xrmflow.morphometry.grey import Levels
from xrmflow.morphometry.masks import beside_in_slice
from xrmflow.morphometry.moments import Moments, moments
from xrmflow.morphometry.slabs import WHOLE, Workspace

GROWTH_STEPS = 4
TILE = 128
"""Voxels: edge of the cubes in which the width of a pore is measured."""


@dataclass(frozen=True)
class Gates:
    """What counts as a lacuna.

    Attributes:
        level: grey fraction between soft tissue (0) and bone (1) at which a pore ends.
        seed_level: fraction its darkest part must fall below.
        least, most: volume, voxels.
        elongation: largest ratio of the longest to the middle axis.
        canal_width: diameter of the largest ball inside, voxels, above which a pore is marrow and not a canal.
        marrow_fraction: fraction of the envelope above which a pore is marrow.
    """

    level: float
    seed_level: float
    least: float
    most: float
    elongation: float
    canal_width: float
    marrow_fraction: float


NOISE, LACUNA, CANAL, OPEN = 0, 1, 2, 3


@dataclass(frozen=True)
class Pores:
    """What kind of pore each voxel belongs to, and how many components each gate rejected.

    Attributes:
        kinds: (z, y, x) uint8: LACUNA, CANAL, OPEN (marrow, and pits in the outer surface), or NOISE (nothing).
        counts: by the reason.
    """

    kinds: np.ndarray
    counts: dict[str, int]


def find_pores(
    grey: np.ndarray, envelope: np.ndarray, levels: Levels, gates: Gates, *, work: Workspace = WHOLE
) -> Pores:
    """Find lacunae and canals inside the envelope of a bone; lacunae cut by the ends of the volume are included.

    Args:
        grey: (z, y, x) float32, smoothed.
        envelope: (z, y, x) bool, what lies inside the outer surface.
        levels: greys of bone and soft tissue.
        gates: what counts as a lacuna.
        work: how much to look at at a time.
    """

    def darker(level: float, z: slice) -> np.ndarray:
        return envelope[z] & (grey[z] < levels.at(level))

    pores, sizes = _grown_cores(darker, gates, grey.shape, work)
    table, counts = _classify(pores, sizes, envelope, gates, work)
    missed = find_components(lambda z: darker(gates.level, z) & (pores[z] == 0), grey.shape, connectivity=6, work=work)
    counts["too_shallow"] = int(np.count_nonzero(missed.sizes[1:] >= gates.least))
    kinds = work.array(grey.shape, np.uint8)
    for slab in work.slabs(grey.shape):
        kinds[slab.core] = looked_up(table, pores[slab.core])
    return Pores(kinds, counts)


def _grown_cores(
    darker: Callable[[float, slice], np.ndarray], gates: Gates, shape: tuple[int, ...], work: Workspace
) -> tuple[np.ndarray, np.ndarray]:
    """Components of what is dark, grown into what is half as dark: (z, y, x) int32; and their sizes."""
    cores = find_components(partial(darker, gates.seed_level), shape, connectivity=6, work=work)
    pores, sizes = work.array(shape, np.int32), np.zeros(cores.sizes.size, np.int64)
    for slab in work.slabs(shape):
        around = slab.around(GROWTH_STEPS)
        pores[slab.core] = grow(cores[around], darker(gates.level, around))[slab.inner(GROWTH_STEPS)]
        sizes += label_counts(pores[slab.core], sizes.size)
    return pores, sizes


def grow(labels: np.ndarray, mask: np.ndarray, steps: int = GROWTH_STEPS) -> np.ndarray:
    """Grow labels by face neighbours into `mask`, at most `steps` voxels; where two meet the higher label wins."""
    grown = labels.copy()
    for _ in range(steps):
        if not _grow_once(labels, mask, grown):
            break
        labels = grown.copy()
    return grown


@njit(cache=True, nogil=True)
def _grow_once(labels, mask, grown):
    """Write the highest label beside each free voxel of the mask to `grown`, and return whether there was any."""
    nz, ny, nx = labels.shape
    news = False
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                if labels[z, y, x] != 0 or not mask[z, y, x]:
                    continue
                best = max(labels[max(z - 1, 0), y, x], labels[min(z + 1, nz - 1), y, x])
                best = max(best, labels[z, max(y - 1, 0), x], labels[z, min(y + 1, ny - 1), x])
                best = max(best, labels[z, y, max(x - 1, 0)], labels[z, y, min(x + 1, nx - 1)])
                if best > 0:
                    grown[z, y, x] = best
                    news = True
    return news


def _classify(
    pores: np.ndarray, sizes: np.ndarray, envelope: np.ndarray, gates: Gates, work: Workspace
) -> tuple[np.ndarray, dict[str, int]]:
    """Kind of each label, (label,) uint8, and how many of each."""
    total = sum(int(np.count_nonzero(envelope[slab.core])) for slab in work.slabs(pores.shape))
    sizes[0] = 0
    small, large = sizes < gates.least, sizes > gates.most
    fit = ~small & ~large
    elongated = fit & (_elongation(moments(pores, fit, work=work)) > gates.elongation)
    pits = ~small & _touching_outside(pores, envelope, sizes.size, work)
    marrow = large & (sizes >= gates.marrow_fraction * total)
    marrow |= _wider(pores, large & ~marrow & ~pits, gates.canal_width, work)
    kinds = np.full(sizes.size, LACUNA, np.uint8)
    kinds[large | elongated] = CANAL
    kinds[pits | marrow] = OPEN
    kinds[small] = NOISE
    return kinds, {
        "lacunae": int(np.count_nonzero(kinds == LACUNA)),
        "too_small": int(np.count_nonzero(small[1:])),
        "too_large": int(np.count_nonzero(large & (kinds == CANAL))),
        "too_elongated": int(np.count_nonzero(elongated & (kinds == CANAL))),
        "open_to_outside": int(np.count_nonzero(pits & ~marrow)),
        "marrow": int(np.count_nonzero(marrow)),
    }


def _elongation(found: Moments) -> np.ndarray:
    """Longest over middle axis of each label; 0 for labels without voxels."""
    ratio = np.zeros(found.sizes.size)
    known = np.flatnonzero(found.sizes)
    axes = found.semi_axes(known)
    ratio[known] = axes[:, 0] / axes[:, 1]
    return ratio


def _touching_outside(labels: np.ndarray, region: np.ndarray, count: int, work: Workspace) -> np.ndarray:
    touching = np.zeros(count, bool)
    for slab in work.slabs(labels.shape):
        touching |= touches_outside(labels[slab.core], region[slab.core], count)
    return touching


def touches_outside(labels: np.ndarray, region: np.ndarray, count: int) -> np.ndarray:
    """Which labels have a face neighbour in their slice that is outside the region or the volume: (count,) bool."""
    touching = np.zeros(count, bool)
    touching[labels[region & beside_in_slice(~region)]] = True
    touching[0] = False
    return touching


def touches_ends(labels: np.ndarray, count: int) -> np.ndarray:
    """Which labels reach the first or the last slice: (count,) bool."""
    touching = np.zeros(count, bool)
    touching[labels[0]] = touching[labels[-1]] = True
    touching[0] = False
    return touching


def _wider(labels: np.ndarray, candidates: np.ndarray, width: float, work: Workspace) -> np.ndarray:
    """Which of the candidates (label,) hold a ball of more than a diameter, voxels."""
    wider = np.zeros(candidates.size, bool)
    for label, box in _boxes(labels, np.flatnonzero(candidates), work).items():
        wider[label] = any(_holds_ball(labels, label, tile, width) for tile in product(*(_tiles(b) for b in box)))
        work.scratch.release()
    return wider


def _boxes(labels: np.ndarray, wanted: np.ndarray, work: Workspace) -> dict[int, tuple[slice, ...]]:
    """The smallest box around each of some labels."""
    boxes: dict[int, tuple[slice, ...]] = {}
    if not wanted.size:
        return boxes
    table = np.zeros(int(wanted.max()) + 1, np.int32)
    table[wanted] = np.arange(1, wanted.size + 1)
    for slab in work.slabs(labels.shape):
        here = labels[slab.core]
        numbers = looked_up(table, np.where(here < table.size, here, 0))
        for label, box in zip(wanted, ndimage.find_objects(numbers, wanted.size), strict=True):
            if box is not None:
                z = slice(box[0].start + slab.core.start, box[0].stop + slab.core.start)
                boxes[int(label)] = _union(boxes.get(int(label)), (z, box[1], box[2]))
    return boxes


def _union(first: tuple[slice, ...] | None, second: tuple[slice, ...]) -> tuple[slice, ...]:
    if first is None:
        return second
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first, second, strict=True))


def _tiles(part: slice) -> list[slice]:
    """A range cut into pieces."""
    return [slice(part.start + b.start, part.start + b.stop) for b in blocks(part.stop - part.start, TILE)]


def _holds_ball(labels: np.ndarray, label: int, tile: tuple[slice, ...], width: float) -> bool:
    """Whether a ball of more than a diameter fits into a label with its centre in a tile.

    At the ends of the volume the label goes on, at its sides it does not. The distance is right as far as the ball
    reaches, which is all that is asked.
    """
    if not (labels[tile] == label).any():
        return False
    reach = int(np.ceil(width / 2)) + 1
    around = tuple(slice(max(t.start - reach, 0), t.stop + reach) for t in tile)
    inner = tuple(slice(t.start - a.start, t.stop - a.start) for t, a in zip(tile, around, strict=True))
    depth = edt.edt(np.pad(labels[around] == label, ((0, 0), (1, 1), (1, 1))), black_border=False)[:, 1:-1, 1:-1]
    return bool(2 * depth[inner].max() > width)
