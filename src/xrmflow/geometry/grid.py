"""The volume grid as a value."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class VolumeGrid:
    """A regular grid of cubic voxels.

    Attributes:
        shape: (z, y, x) voxels.
        voxel_mm: edge of a voxel, mm.
        centre_mm: (x, y, z) of the grid's centre, mm; the rotation axis runs through x = y = 0.

    Voxel (k, j, i) is centred at centre_mm + voxel_mm * ((i, j, k) - (shape_xyz - 1) / 2).
    """

    shape: tuple[int, int, int]
    voxel_mm: float
    centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"shape: expected three sizes (z, y, x) of at least 1, got {self.shape}")
        if not np.isfinite(self.voxel_mm) or self.voxel_mm <= 0:
            raise ValueError(f"voxel_mm: expected a positive length in mm, got {self.voxel_mm}")
        if len(self.centre_mm) != 3 or not np.isfinite(self.centre_mm).all():
            raise ValueError(f"centre_mm: expected three finite numbers (x, y, z), got {self.centre_mm}")

    @property
    def first_voxel_mm(self) -> tuple[float, float, float]:
        """(x, y, z) of the centre of voxel (0, 0, 0), mm."""
        nz, ny, nx = self.shape
        x, y, z = self.centre_mm
        return (
            x - self.voxel_mm * (nx - 1) / 2,
            y - self.voxel_mm * (ny - 1) / 2,
            z - self.voxel_mm * (nz - 1) / 2,
        )

    def matches(self, other: "VolumeGrid") -> bool:
        """Whether the voxels of two grids coincide, to a tenth of a voxel."""
        return self.shape == other.shape and self.covers_same(other)

    def covers_same(self, other: "VolumeGrid") -> bool:
        """Whether two grids cover the same box, to a tenth of a voxel of this one, in voxels of whatever size."""
        size, other_size = (np.array(grid.shape) * grid.voxel_mm for grid in (self, other))
        moved = np.abs(np.subtract(self.centre_mm, other.centre_mm))
        return bool((moved + np.abs(size - other_size)[::-1] / 2).max() < 0.1 * self.voxel_mm)

    def face_mm(self, index: int) -> float:
        """Z of the lower face of slice `index`, mm; with the number of slices that of the top."""
        return self.first_voxel_mm[2] + self.voxel_mm * (index - 0.5)

    def index_from(self, z_mm: float) -> int:
        """Index of the slice whose lower face is nearest to a height, mm; the number of slices for the top."""
        return math.floor((z_mm - self.face_mm(0)) / self.voxel_mm + 0.5)

    def slab(self, rows: slice) -> "VolumeGrid":
        """The part of the grid with z indices in `rows` (a slice with start and stop)."""
        start, stop, _ = rows.indices(self.shape[0])
        middle = (start + stop - 1) / 2 - (self.shape[0] - 1) / 2
        x, y, z = self.centre_mm
        return VolumeGrid((stop - start, *self.shape[1:]), self.voxel_mm, (x, y, z + self.voxel_mm * middle))
