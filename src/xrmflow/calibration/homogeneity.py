"""The equations that ask for bone as bright inside as outside, and how sure their solution is.

See `xrmflow.calibration.cupping` for what they say. Sums are kept by cell (a sector of the specimen, a block of
slices), so that leaving parts out costs nothing.
"""

from dataclasses import dataclass

import numpy as np

# Voxels deeper than this below the surface of bone count alike.
MOST_DEPTH = 6
SECTORS, BLOCKS = 12, 8
# How much denser bone may really be in its outer than in its inner third: one standard deviation, relative.
DENSITY_DIFFERENCE = 0.01


@dataclass(frozen=True)
class System:
    """The normal equations of each cell: M c = -r, with M (block, sector, j, i) and r (block, sector, j).

    `density` (j,) is what a real difference of density adds to r; `voxels` of bone that were summed over.
    """

    matrix: np.ndarray
    right: np.ndarray
    density: np.ndarray
    voxels: int

    @classmethod
    def of(
        cls, basis: np.ndarray, shape: np.ndarray, depth: np.ndarray, chosen: np.ndarray, sectors: np.ndarray
    ) -> "System":
        """Sum over bone voxels.

        Args:
            basis: (degree, z, y, x) reconstruction of each power.
            shape: (degree - 1, z, y, x) Z_2, ...
            depth: (z, y, x) int, below the surface of bone, 0 to `MOST_DEPTH`.
            chosen: (z, y, x) bool, voxels that count.
            sectors: (y, x) int, 0 to `SECTORS` - 1.
        """
        layer = depth[chosen]
        block = np.arange(len(depth)) * BLOCKS // len(depth)
        cell = (block[:, None, None] * SECTORS + sectors)[chosen]
        values = [_without_layer_means(part[chosen], layer) for part in basis]
        known = [_without_layer_means(part[chosen], layer) for part in shape]

        def sums(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            return np.bincount(cell, a * b, minlength=BLOCKS * SECTORS).reshape(BLOCKS, SECTORS)

        matrix = np.array([[sums(z, v) for v in values[1:]] for z in known]).transpose(2, 3, 0, 1)
        right = np.array([sums(z, values[0]) for z in known]).transpose(1, 2, 0)
        denser = _denser_outside(shape[0][chosen], float(basis[0][chosen].mean()))
        density = np.array([z @ _without_layer_means(denser, layer) for z in known])
        return cls(matrix, right, density, int(chosen.sum()))

    def solve(self) -> np.ndarray:
        """c_2, ... from all cells."""
        return solved(self.matrix.sum(axis=(0, 1)), self.right.sum(axis=(0, 1)))

    def statistical(self) -> np.ndarray:
        """Standard deviation of c_2, ..., from left-out sectors and blocks of slices.

        Variances clustered two ways: by sector + by block - by cell. Source: Cameron, Gelbach & Miller, J. Bus. Econ.
        Stat. 29, 238 (2011).
        """
        sectors = jackknife(self.matrix.sum(axis=0), self.right.sum(axis=0))
        blocks = jackknife(self.matrix.sum(axis=1), self.right.sum(axis=1))
        degree = self.right.shape[-1]
        cells = jackknife(self.matrix.reshape(-1, degree, degree), self.right.reshape(-1, degree))
        return np.sqrt(np.maximum(sectors + blocks - cells, np.maximum(sectors, blocks)))

    def of_density(self) -> np.ndarray:
        """Change of c_2, ... if bone really is denser outside by `DENSITY_DIFFERENCE`."""
        return np.abs(solved(self.matrix.sum(axis=(0, 1)), self.density))

    def inhomogeneity(self, coefficients: np.ndarray) -> float:
        """Squared covariance of corrected grey values with Z, relative to that of the uncorrected ones."""
        right = self.right.sum(axis=(0, 1))
        rest = self.matrix.sum(axis=(0, 1)) @ coefficients + right
        return float(np.sum(rest**2) / max(np.sum(right**2), 1e-30))


def solved(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve M c = -r for c, with M (j, i) and r (j,); least squares where M is singular."""
    return np.linalg.lstsq(matrix, -right, rcond=None)[0]


def jackknife(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Variance of the solution from leaving out each of the parts along the first axis that hold anything."""
    held = np.flatnonzero(np.abs(matrix).sum(axis=(1, 2)) > 0)
    whole, whole_right = matrix.sum(axis=0), right.sum(axis=0)
    if len(held) < 2:
        return np.zeros(len(whole_right))
    left_out = np.array([solved(whole - matrix[part], whole_right - right[part]) for part in held])
    return (len(held) - 1) / len(held) * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0)


def _denser_outside(shape: np.ndarray, mean: float) -> np.ndarray:
    """Attenuation that follows Z and differs by `DENSITY_DIFFERENCE` between the thirds of most and least Z, per mm."""
    low, high = np.quantile(shape, (1 / 3, 2 / 3))
    span = shape[shape >= high].mean() - shape[shape <= low].mean()
    return -shape.astype(np.float64) * (DENSITY_DIFFERENCE * mean / span)


def _without_layer_means(values: np.ndarray, layer: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    count = np.maximum(np.bincount(layer, minlength=MOST_DEPTH + 1), 1)
    return values - (np.bincount(layer, values, minlength=MOST_DEPTH + 1) / count)[layer]
