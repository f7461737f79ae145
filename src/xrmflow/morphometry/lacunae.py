"""Each lacuna: place, volume, axes."""

from dataclasses import dataclass

import cc3d
import numpy as np
from scipy import ndimage

from xrmflow.metrics.labels import BONE, LACUNA, OUTSIDE
from xrmflow.morphometry.masks import dilated
from xrmflow.morphometry.pores import grow, moments, touches_ends

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


def measure_lacunae(volume: np.ndarray, labels: np.ndarray, *, soft: float, blur_voxels: float) -> list[Lacuna]:
    """Measure the lacunae in a label volume, in raster order.

    Args:
        volume: (z, y, x) greys, not smoothed.
        labels: (z, y, x) uint8.
        soft: grey of soft tissue, taken for what fills a lacuna.
        blur_voxels: standard deviation of the blur of edges in `volume`.
    """
    lacunae, count = cc3d.connected_components(labels == LACUNA, connectivity=6, return_N=True)
    if count == 0:
        return []
    lacunae = lacunae.astype(np.int32)
    cut = touches_ends(lacunae, count + 1) | _touches_label(lacunae, labels == OUTSIDE, count + 1)
    grey = grey_volumes(volume, lacunae, labels == BONE, soft=soft, reach=int(np.ceil(2.5 * blur_voxels)) + 1)
    return [
        Lacuna(centre, axes, size, float(grey[label]), bool(cut[label]))
        for label, (centre, axes, size) in moments(lacunae).items()
    ]


def grey_volumes(volume: np.ndarray, lacunae: np.ndarray, bone: np.ndarray, *, soft: float, reach: int) -> np.ndarray:
    """Volume of each lacuna, voxels: sum of (bone - grey) / (bone - soft) over it and `reach` voxels of bone around it.

    Blur spreads the sum and does not change it. The grey of bone is the median of a ring around. Returns (label,)
    float64; NaN without a ring.
    """
    wide = grow(lacunae, bone, reach)
    ring = np.where(wide > 0, 0, grow(wide, bone, RING))
    names = np.arange(int(lacunae.max()) + 1)
    present = np.isin(names, ring[ring > 0])
    local = np.full(names.size, np.nan)
    local[present] = ndimage.median(volume, ring, names[present])
    sizes, sums = np.bincount(wide.ravel(), minlength=names.size), np.bincount(wide.ravel(), volume.ravel())
    return (local * sizes - sums) / (local - soft)


def _touches_label(labels: np.ndarray, other: np.ndarray, count: int) -> np.ndarray:
    touching = np.zeros(count, bool)
    touching[labels[dilated(other, 1)]] = True
    touching[0] = False
    return touching
