"""Grey values: smoothing, thresholds, the greys of bone and soft tissue, blur, partial volumes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage, special

from xrmflow.morphometry.masks import dilated, eroded

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


def smooth(volume: np.ndarray, sigma_voxels: float) -> np.ndarray:
    """Gaussian filter with a support of 3 sigma, ends continued: (z, y, x) float32."""
    volume = np.ascontiguousarray(volume, dtype=np.float32)
    if sigma_voxels <= 0:
        return volume
    return ndimage.gaussian_filter(volume, sigma_voxels, mode="nearest", truncate=SUPPORT_SIGMAS)


def otsu(volume: np.ndarray, *, bins: int = 512) -> float:
    """Threshold that maximises the variance between two classes (Otsu 1979), from a histogram without its 0.01 % tails.

    It follows the sample: where treatment changes the bone, it changes the threshold.
    """
    low, high = np.percentile(volume, (0.01, 99.99))
    if not high > low:
        raise ValueError(f"volume: expected two kinds of grey for Otsu's threshold, got {low:.6g} everywhere")
    counts, edges = np.histogram(volume, bins=bins, range=(low, high))
    centres = (edges[1:] + edges[:-1]) / 2
    below, above = np.cumsum(counts)[:-1], np.cumsum(counts[::-1])[::-1][1:]
    mean_below = np.cumsum(counts * centres)[:-1] / np.maximum(below, 1)
    mean_above = np.cumsum((counts * centres)[::-1])[::-1][1:] / np.maximum(above, 1)
    between = below.astype(float) * above * (mean_above - mean_below) ** 2
    # Between well separated classes the variance is flat: the middle of the plateau splits them evenly.
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))
    return float(edges[1 + int(best.mean())])


def midpoint(volume: np.ndarray, *, rounds: int = 3) -> float:
    """Threshold halfway between the greys of the two phases, which are measured away from their surface.

    Unlike Otsu's it does not move with the amount of bone, and a blurred flat surface stays where it is. It starts
    from Otsu's.
    """
    level = otsu(volume)
    everywhere = np.ones(volume.shape, bool)
    for _ in range(rounds):
        level = phase_levels(volume, volume >= level, everywhere).at(0.5)
    return level


def phase_levels(grey: np.ndarray, bone: np.ndarray, region: np.ndarray) -> Levels:
    """Median greys of bone and of the rest of the region, away from the surface where there is enough away from it.

    Args:
        grey: (z, y, x) smoothed volume.
        bone: (z, y, x) bool, above the threshold.
        region: (z, y, x) bool, where to look; all of the volume is used where the region holds no soft tissue.
    """
    if not bone.any() or bone.all():
        raise ValueError(f"bone: expected a mask with and without bone, got {bone.mean():.0%} bone")
    soft = region & ~bone
    return Levels(_core_median(grey, bone & region), _core_median(grey, soft if soft.any() else ~bone))


def _core_median(grey: np.ndarray, mask: np.ndarray) -> float:
    for depth in (2, 1):
        core = eroded(mask, depth)
        if np.count_nonzero(core) >= ENOUGH:
            return float(np.median(grey[core]))
    return float(np.median(grey[mask]))


def edge_blur(grey: np.ndarray, bone: np.ndarray, levels: Levels) -> float:
    """Standard deviation of the blur that the edges of bone show, voxels: scanner, voxel size and filters together.

    A blurred edge f = Phi(u / sigma) has the slope exp(-q^2/2) / (sigma sqrt(2 pi)) where f = Phi(q). The median of
    the sigma that solves it over the voxels beside the surface of the mask `bone` with f between 1/4 and 3/4.
    """
    fraction = levels.fraction(grey)
    beside = dilated(bone, 1) & ~eroded(bone, 1)
    edge = np.nonzero(beside & (fraction > 0.25) & (fraction < 0.75))
    if edge[0].size == 0:
        return 0.0
    slope = np.sqrt(sum(_difference(fraction, edge, axis) ** 2 for axis in range(3)))
    q = special.ndtri(fraction[edge].astype(np.float64))
    sigma = float(np.median(np.exp(-(q**2) / 2) / (np.sqrt(2 * np.pi) * np.maximum(slope, 1e-6))))
    # A central difference averages the slope over two voxels.
    return float(np.sqrt(max(sigma**2 - DIFFERENCE_VARIANCE, 0.0)))


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
