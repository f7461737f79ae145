"""Places and second moments of labelled objects, summed in whole numbers, so that the order does not matter."""

from dataclasses import dataclass

import numpy as np
from numba import njit

from xrmflow.morphometry.slabs import WHOLE, Workspace

SUMS = 10
"""Number of voxels, sums of z, y, x, zz, yy, xx, zy, zx, yx."""
SECOND = ((4, 7, 8), (7, 5, 9), (8, 9, 6))


@dataclass(frozen=True)
class Moments:
    """Sums over the voxels of each label.

    Attributes:
        sums: (label, SUMS) int64.
        last: (label,) int64, the highest slice that holds some of it.
    """

    sums: np.ndarray
    last: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """Voxels of each label; 0 for those that were not asked for."""
        return self.sums[:, 0]

    def centres(self, labels: np.ndarray) -> np.ndarray:
        """Centroids of some labels, (label, 3), (z, y, x)."""
        return self.sums[labels, 1:4] / self.sizes[labels, None]

    def semi_axes(self, labels: np.ndarray) -> np.ndarray:
        """Semi-axes of some labels, (label, 3), longest first.

        Those of the ellipsoid with the same second moments, sqrt(5 eigenvalue), each voxel counted as a cube.
        """
        # The sums are exact: long doubles keep enough of the small difference of two large ones.
        mean = self.sums[labels].astype(np.longdouble) / self.sizes[labels, None]
        second = mean[:, SECOND] - mean[:, 1:4, None] * mean[:, None, 1:4]
        return np.sqrt(5 * np.linalg.eigvalsh(second.astype(np.float64) + np.eye(3) / 12)[:, ::-1])


def moments(labels: np.ndarray, wanted: np.ndarray, *, work: Workspace = WHOLE) -> Moments:
    """Sums over the voxels of each label.

    Args:
        labels: (z, y, x) int32.
        wanted: (label,) bool, which ones; never 0.
        work: how much to look at at a time.
    """
    found = Moments(np.zeros((wanted.size, SUMS), np.int64), np.zeros(wanted.size, np.int64))
    wanted = wanted & (np.arange(wanted.size) > 0)
    for slab in work.slabs(labels.shape):
        _add(labels[slab.core], slab.core.start, wanted, found.sums, found.last)
    return found


@njit(cache=True, nogil=True)
def _add(labels, first, wanted, sums, last):
    nz, ny, nx = labels.shape
    for k in range(nz):
        for y in range(ny):
            for x in range(nx):
                n = labels[k, y, x]
                if not wanted[n]:
                    continue
                z = k + first
                terms = (1, z, y, x, z * z, y * y, x * x, z * y, z * x, y * x)
                for m in range(10):
                    sums[n, m] += terms[m]
                last[n] = z
