"""Grey values: smoothing, thresholds, the greys of bone and soft tissue, blur, partial volumes."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy import ndimage, special

from xrmflow.arrays import Reader, as_float32
from xrmflow.morphometry.components import Mask
from xrmflow.morphometry.masks import dilated, eroded
from xrmflow.morphometry.ranks import Parts, median, percentiles
from xrmflow.morphometry.slabs import WHOLE, Workspace, loaded

SUPPORT_SIGMAS = 3.0
ENOUGH = 100
"""Voxels a median should rest on."""


@dataclass(frozen=True)
class Levels:
    """Typical greys of the two phases, in the volume's units."""

    bone: float
    soft: float

    def at(self, fraction: float) -> float:
        """The grey at a fraction of the way from soft tissue (0) to bone (1)."""
        return self.soft + fraction * (self.bone - self.soft)

    def fraction(self, grey: Any) -> Any:
        """Where greys lie between soft tissue (0) and bone (1)."""
        return (grey - self.soft) / (self.bone - self.soft)


def smooth(volume: Reader, sigma_voxels: float, *, work: Workspace = WHOLE) -> np.ndarray:
    """Gaussian filter with a support of 3 sigma, ends continued: (z, y, x) float32."""
    volume = loaded(volume, np.float32, work=work)
    reach = int(SUPPORT_SIGMAS * sigma_voxels + 0.5)
    out = work.array(volume.shape, np.float32)
    for slab in work.slabs(volume.shape):
        around = as_float32(volume[slab.around(reach)])
        if sigma_voxels > 0:
            around = ndimage.gaussian_filter(around, sigma_voxels, mode="nearest", truncate=SUPPORT_SIGMAS)
        out[slab.core] = around[slab.inner(reach)]
    return out


def otsu(volume: np.ndarray, *, bins: int = 512, work: Workspace = WHOLE) -> float:
    """Threshold that maximises the variance between two classes (Otsu 1979), from a histogram without its 0.01 % tails.

    It follows the sample: where treatment changes the bone, it changes the threshold.
    """
    low, high = percentiles(_selected(volume, _all_of(volume), 0, work), (0.01, 99.99))
    if not high > low:
        raise ValueError(f"volume: expected two kinds of grey for Otsu's threshold, got {low:.6g} everywhere")
    counts, edges = np.zeros(bins, np.int64), np.linspace(low, high, bins + 1)
    for slab in work.slabs(volume.shape):
        counts += np.histogram(volume[slab.core], bins=bins, range=(low, high))[0]
    centres = (edges[1:] + edges[:-1]) / 2
    below, above = np.cumsum(counts)[:-1], np.cumsum(counts[::-1])[::-1][1:]
    mean_below = np.cumsum(counts * centres)[:-1] / np.maximum(below, 1)
    mean_above = np.cumsum((counts * centres)[::-1])[::-1][1:] / np.maximum(above, 1)
    between = below.astype(float) * above * (mean_above - mean_below) ** 2
    # Between well separated classes the variance is flat: the middle of the plateau splits them evenly.
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))
    return float(edges[1 + int(best.mean())])


def midpoint(volume: np.ndarray, *, rounds: int = 3, work: Workspace = WHOLE) -> float:
    """Threshold halfway between the greys of the two phases, which are measured away from their surface.

    Unlike Otsu's it does not move with the amount of bone, and a blurred flat surface stays where it is. It starts
    from Otsu's.
    """
    level = otsu(volume, work=work)
    for _ in range(rounds):
        bone = partial(_at_least, volume, level)
        level = _levels(volume, bone, lambda z, bone=bone: ~bone(z), work).at(0.5)
    return level


def phase_levels(grey: np.ndarray, bone: np.ndarray, region: np.ndarray, *, work: Workspace = WHOLE) -> Levels:
    """Median greys of bone and of the rest of the region, away from the surface where there is enough away from it.

    Args:
        grey: (z, y, x) smoothed volume.
        bone: (z, y, x) bool, above the threshold.
        region: (z, y, x) bool, where to look; all of the volume is used where the region holds no soft tissue.
        work: how much to look at at a time.
    """
    soft = any((region[slab.core] & ~bone[slab.core]).any() for slab in work.slabs(grey.shape))
    return _levels(
        grey,
        lambda z: bone[z] & region[z],
        lambda z: region[z] & ~bone[z] if soft else ~bone[z],
        work,
    )


def _levels(grey: np.ndarray, bone: Mask, soft: Mask, work: Workspace) -> Levels:
    found = [_core_median(grey, mask, work) for mask in (bone, soft)]
    if None in found:
        share = 0 if found[0] is None else 1
        raise ValueError(f"bone: expected a mask with and without bone, got {share:.0%} bone")
    return Levels(*found)  # type: ignore[arg-type]


def _core_median(grey: np.ndarray, mask: Mask, work: Workspace) -> float | None:
    """Median away from the mask's surface; None where the mask is empty."""
    for depth, least in ((2, ENOUGH), (1, ENOUGH), (0, 1)):
        found = median(_selected(grey, mask, depth, work), least=least)
        if found is not None:
            return found
    return None


def _selected(grey: np.ndarray, mask: Mask, depth: int, work: Workspace) -> Parts:
    """Greys more than `depth` voxels inside a mask, slab by slab."""

    def parts() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for slab in work.slabs(grey.shape):
            yield grey[slab.core], eroded(mask(slab.around(depth)), depth)[slab.inner(depth)]

    return parts


def _at_least(volume: np.ndarray, level: float, z: slice) -> np.ndarray:
    return volume[z] >= level


def _all_of(volume: np.ndarray) -> Mask:
    return lambda z: np.ones(volume[z].shape, bool)


def edge_blur(grey: np.ndarray, bone: np.ndarray, levels: Levels, *, work: Workspace = WHOLE) -> float:
    """Standard deviation of the blur that the edges of bone show, voxels: scanner, voxel size and filters together.

    A blurred edge f = Phi(u / sigma) has the slope exp(-q^2/2) / (sigma sqrt(2 pi)) where f = Phi(q). The median of
    the sigma that solves it over the voxels beside the surface of the mask `bone` with f between 1/4 and 3/4.
    """

    def parts() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for slab in work.slabs(grey.shape):
            around = slab.around(1)
            found = _edge_widths(levels.fraction(grey[around]), bone[around], slab.inner(1))
            yield found, np.ones(found.shape, bool)

    sigma = median(parts) or 0.0
    # A central difference averages the slope over two voxels.
    return float(np.sqrt(max(sigma**2 - DIFFERENCE_VARIANCE, 0.0)))


def _edge_widths(fraction: np.ndarray, bone: np.ndarray, rows: slice) -> np.ndarray:
    """Sigma as each voxel beside the surface in some slices has it: (voxel,)."""
    beside = (dilated(bone, 1) & ~eroded(bone, 1) & (fraction > 0.25) & (fraction < 0.75))[rows]
    z, y, x = np.nonzero(beside)
    edge = (z + rows.start, y, x)
    slope = np.sqrt(sum(_difference(fraction, edge, axis) ** 2 for axis in range(3)))
    q = special.ndtri(fraction[edge].astype(np.float64))
    return np.exp(-(q**2) / 2) / (np.sqrt(2 * np.pi) * np.maximum(slope, 1e-6))


DIFFERENCE_VARIANCE = 0.25
"""Voxels squared: between 1/3 (edges along the lattice) and 1/9 (along its diagonals)."""


def _difference(values: np.ndarray, places: tuple[np.ndarray, ...], axis: int) -> np.ndarray:
    """Central difference at some voxels, one-sided at the ends; zero along an axis of one voxel."""
    last = values.shape[axis] - 1
    ahead, behind = list(places), list(places)
    ahead[axis], behind[axis] = np.minimum(places[axis] + 1, last), np.maximum(places[axis] - 1, 0)
    span = np.maximum(ahead[axis] - behind[axis], 1)
    return (values[tuple(ahead)] - values[tuple(behind)]) / span


def bone_share(volume: np.ndarray, bone: np.ndarray, inside: np.ndarray, levels: Levels, *, reach: int) -> np.ndarray:
    """How much of each voxel is bone, from its grey: (z, y, x) float32.

    Within `reach` voxels of a surface between bone and other tissue the linear fraction between the two levels, not
    clipped (so that noise averages out); elsewhere, and near the edge of the region, 0 or 1 as in the mask.

    Args:
        volume: (z, y, x), not smoothed.
        bone: (z, y, x) bool.
        inside: (z, y, x) bool, the region; beyond it lies what was not looked at.
        levels: greys of the phases.
        reach: voxels, at least twice the blur.
    """
    near = dilated(bone, reach) & ~eroded(bone, reach)
    near &= eroded(inside, reach + 1)
    share = bone.astype(np.float32)
    share[near] = levels.fraction(volume[near])
    return share
