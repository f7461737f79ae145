"""Pores in bone: lacunae told from canals, marrow, open pits and noise.

A pore is a component of what is darker than bone. Cores are found at a deep grey, so that noise does not make pores
and thin walls hold; they are then grown to the level halfway between bone and soft tissue, where their volume is
measured.
"""

from dataclasses import dataclass

import cc3d
import edt
import numpy as np
from scipy import ndimage

from xrmflow.morphometry.grey import Levels

GROWTH_STEPS = 4


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


@dataclass(frozen=True)
class Pores:
    """Masks (z, y, x) bool, and how many components each gate rejected."""

    lacunae: np.ndarray
    canals: np.ndarray
    open: np.ndarray
    counts: dict[str, int]


def find_pores(grey: np.ndarray, envelope: np.ndarray, levels: Levels, gates: Gates) -> Pores:
    """Find lacunae and canals inside the envelope of a bone.

    Args:
        grey: (z, y, x) float32, smoothed.
        envelope: (z, y, x) bool, what lies inside the outer surface.
        levels: greys of bone and soft tissue.
        gates: what counts as a lacuna.

    Returns:
        lacunae (those cut by the ends of the volume included), canals, what is open (marrow, and pits in the outer
        surface), and counts.
    """
    shallow = envelope & (grey < levels.at(gates.level))
    cores = cc3d.connected_components(envelope & (grey < levels.at(gates.seed_level)), connectivity=6)
    pores = grow(cores.astype(np.int32), shallow)
    kinds, counts = _classify(pores, envelope, gates)
    counts["too_shallow"] = _count_at_least(shallow & (pores == 0), gates.least)
    found = kinds[pores]
    return Pores(found == LACUNA, found == CANAL, found == OPEN, counts)


NOISE, LACUNA, CANAL, OPEN = 0, 1, 2, 3


def grow(labels: np.ndarray, mask: np.ndarray, steps: int = GROWTH_STEPS) -> np.ndarray:
    """Grow labels by face neighbours into `mask`, at most `steps` voxels; where two meet the higher label wins."""
    labels = labels.copy()
    for _ in range(steps):
        grown = np.zeros_like(labels)
        for axis in range(3):
            ahead, behind = [slice(None)] * 3, [slice(None)] * 3
            ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
            for to, source in ((tuple(ahead), tuple(behind)), (tuple(behind), tuple(ahead))):
                np.maximum(grown[to], labels[source], out=grown[to])
        free = mask & (labels == 0) & (grown > 0)
        if not free.any():
            break
        labels[free] = grown[free]
    return labels


def _classify(pores: np.ndarray, envelope: np.ndarray, gates: Gates) -> tuple[np.ndarray, dict[str, int]]:
    """Kind of each label, (label,) uint8, and how many of each."""
    sizes = np.bincount(pores.ravel())
    sizes[0] = 0
    kinds = np.full(sizes.size, LACUNA, np.uint8)
    small, large = sizes < gates.least, sizes > gates.most
    fit = ~small & ~large
    elongated = fit & (_elongation(np.where(fit[pores], pores, 0), sizes.size) > gates.elongation)
    pits = ~small & touches_outside(pores, envelope, sizes.size)
    marrow = large & (sizes >= gates.marrow_fraction * np.count_nonzero(envelope))
    boxes = ndimage.find_objects(pores)
    for label in np.flatnonzero(large & ~marrow & ~pits):
        marrow[label] = _width(pores, int(label), boxes[label - 1]) > gates.canal_width
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


def _elongation(labels: np.ndarray, count: int) -> np.ndarray:
    """Longest over middle axis of each label; 0 for labels without voxels."""
    ratio = np.zeros(count)
    for label, (_, axes, _) in moments(labels).items():
        ratio[label] = axes[0] / axes[1]
    return ratio


def moments(labels: np.ndarray) -> dict[int, tuple[np.ndarray, np.ndarray, int]]:
    """Centroid (z, y, x), semi-axes (longest first) and voxels of each label above 0.

    The semi-axes are those of the ellipsoid with the same second moments, sqrt(5 eigenvalue), each voxel counted as a
    cube.
    """
    places = np.nonzero(labels)
    _, index, sizes = np.unique(labels[places], return_inverse=True, return_counts=True)
    names = np.unique(labels[places])
    centre = np.stack([np.bincount(index, p) / sizes for p in places], axis=-1)
    offset = [p - centre[index, axis] for axis, p in enumerate(places)]
    second = np.empty((names.size, 3, 3))
    for a in range(3):
        for b in range(3):
            second[:, a, b] = np.bincount(index, offset[a] * offset[b]) / sizes + (a == b) / 12
    axes = np.sqrt(5 * np.linalg.eigvalsh(second)[:, ::-1])
    return {int(name): (centre[n], axes[n], int(sizes[n])) for n, name in enumerate(names)}


def touches_outside(labels: np.ndarray, region: np.ndarray, count: int) -> np.ndarray:
    """Which labels have a face neighbour in their slice that is outside the region or the volume: (count,) bool."""
    padded = np.pad(region, ((0, 0), (1, 1), (1, 1)))
    enclosed = padded[:, :-2, 1:-1] & padded[:, 2:, 1:-1] & padded[:, 1:-1, :-2] & padded[:, 1:-1, 2:]
    touching = np.zeros(count, bool)
    touching[labels[region & ~enclosed]] = True
    touching[0] = False
    return touching


def touches_ends(labels: np.ndarray, count: int) -> np.ndarray:
    """Which labels reach the first or the last slice: (count,) bool."""
    touching = np.zeros(count, bool)
    touching[labels[0]] = touching[labels[-1]] = True
    touching[0] = False
    return touching


def _width(labels: np.ndarray, label: int, box: tuple[slice, ...]) -> float:
    """Diameter, voxels, of the largest ball in one label, which lies in `box`; at the ends of the volume it goes on."""
    ends = (int(box[0].start > 0), int(box[0].stop < labels.shape[0]))
    return 2 * float(edt.edt(np.pad(labels[box] == label, (ends, (1, 1), (1, 1))), black_border=False).max())


def _count_at_least(mask: np.ndarray, least: float) -> int:
    components = cc3d.connected_components(mask, connectivity=6)
    return int(np.count_nonzero(np.bincount(components.ravel())[1:] >= least))
