"""A volume seen on another grid, by cubic interpolation, block by block."""

from typing import Any

import numpy as np

from xrmflow.arrays import Reader, as_float32
from xrmflow.geometry.grid import VolumeGrid


def refined(grid: VolumeGrid, factor: int) -> VolumeGrid:
    """The same extent in voxels `factor` times finer."""
    if factor < 1:
        raise ValueError(f"factor: expected at least 1, got {factor}")
    nz, ny, nx = grid.shape
    return VolumeGrid((nz * factor, ny * factor, nx * factor), grid.voxel_mm / factor, grid.centre_mm)


class Resampled:
    """A `Reader` of a volume on another grid: separable cubic convolution of what lies around each position.

    The kernel is that of Keys, IEEE Trans. ASSP 29:1153 (1981), a = -1/2 (exact for quadratics); beyond the volume its
    outermost voxels continue.

    Args:
        volume: Reader (z, y, x).
        grid: its grid.
        onto: the grid on which it is read.
    """

    def __init__(self, volume: Reader, grid: VolumeGrid, onto: VolumeGrid) -> None:
        if tuple(volume.shape) != tuple(grid.shape):
            raise ValueError(f"volume: expected the shape of its grid, {grid.shape}, got {tuple(volume.shape)}")
        self._volume, self._onto = volume, onto
        self._positions = _positions(grid, onto)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the grid it is read on."""
        return self._onto.shape

    @property
    def dtype(self) -> Any:
        """Interpolated values are float32."""
        return np.dtype(np.float32)

    def __getitem__(self, region: tuple[slice, slice, slice], /) -> np.ndarray:
        """The block of a region given by three slices (z, y, x)."""
        wanted = [positions[part] for positions, part in zip(self._positions, region, strict=True)]
        near = [_reach(positions, n) for positions, n in zip(wanted, self._volume.shape, strict=True)]
        block = as_float32(self._volume[tuple(near)])
        for axis, (positions, source) in enumerate(zip(wanted, near, strict=True)):
            weights = _weights(positions, source, self._volume.shape[axis])
            block = np.moveaxis(np.tensordot(weights, block, axes=(1, axis)), 0, axis)
        return np.ascontiguousarray(block)


def overlap(grid: VolumeGrid, onto: VolumeGrid) -> tuple[slice, slice, slice]:
    """Region (z, y, x) of `onto` whose voxel centres lie within the voxels of `grid`.

    Raises:
        ValueError: there is none.
    """
    parts = []
    for positions, n in zip(_positions(grid, onto), grid.shape, strict=True):
        inside = np.flatnonzero((positions > -0.5 - 1e-6) & (positions < n - 0.5 + 1e-6))
        if not len(inside):
            raise ValueError(f"grid: expected grids that overlap, got centres {grid.centre_mm} and {onto.centre_mm} mm")
        parts.append(slice(int(inside[0]), int(inside[-1]) + 1))
    return parts[0], parts[1], parts[2]


def _positions(grid: VolumeGrid, onto: VolumeGrid) -> list[np.ndarray]:
    """Along z, y, x: where the voxels of `onto` lie, in voxel indices of `grid`."""
    first = zip(onto.first_voxel_mm[::-1], grid.first_voxel_mm[::-1], onto.shape, strict=True)
    return [(a - b + onto.voxel_mm * np.arange(n)) / grid.voxel_mm for a, b, n in first]


def _reach(positions: np.ndarray, n: int) -> slice:
    """Voxels that the kernel touches, within the volume."""
    low = int(np.clip(np.floor(positions.min()) - 1, 0, n - 1))
    high = int(np.clip(np.floor(positions.max()) + 2, 0, n - 1))
    return slice(low, high + 1)


def _weights(positions: np.ndarray, source: slice, n: int) -> np.ndarray:
    """(positions, source voxels) interpolation matrix."""
    weights = np.zeros((len(positions), source.stop - source.start), dtype=np.float32)
    base = np.floor(positions).astype(int)
    for tap in range(-1, 3):
        index = np.clip(base + tap, 0, n - 1) - source.start
        np.add.at(weights, (np.arange(len(positions)), index), _keys(positions - base - tap).astype(np.float32))
    return weights


def _keys(distance: np.ndarray) -> np.ndarray:
    """Keys' kernel for a = -1/2."""
    d = np.abs(distance)
    near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))
