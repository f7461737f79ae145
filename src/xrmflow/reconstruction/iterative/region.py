"""Where an iterative reconstruction needs voxels: wherever its rays meet matter, also outside the grid asked for."""

import math

import torch
from torch import Tensor

from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import ScanGeometry

Box = tuple[slice, slice, slice]
# Rays looked at along each edge of the detector: heights vary smoothly between them.
EDGE_RAYS = 33


def field_of_view(geometry: ScanGeometry, *, padding: float = 0.0) -> tuple[float, float, float]:
    """The upright cylinder about the rotation axis that the rays sweep: radius, lowest and highest z, mm.

    The radius is that of the ray furthest from the axis in any view, the heights those at which rays enter or leave
    the cylinder; the long bones of a cone-beam scan are seen beyond its top and bottom slices. `padding` widens it by
    this fraction of the radius.
    """
    origin, direction = _edge_rays(geometry)
    length = direction[..., :2].norm(dim=-1).clamp(min=1e-12)
    aside = (origin[..., 0] * direction[..., 1] - origin[..., 1] * direction[..., 0]).abs() / length
    radius = float(aside.max()) * (1 + padding)
    nearest = -(origin[..., :2] * direction[..., :2]).sum(-1) / length**2
    half = (radius**2 - aside**2).clamp(min=0).sqrt() / length
    heights = torch.stack([origin[..., 2] + (nearest + side * half) * direction[..., 2] for side in (-1, 1)])
    return radius, float(heights.min()), float(heights.max())


def surrounding_grid(grid: VolumeGrid, geometry: ScanGeometry, *, padding: float = 0.0) -> tuple[VolumeGrid, Box]:
    """A grid continued by whole voxels on every side until it covers the field of view, and where it was.

    Args:
        grid: what is asked for, mm.
        geometry: the scan, mm.
        padding: how far beyond the radius of the field of view, as a fraction of it, for objects wider than it.

    Returns:
        The larger grid, and the slices that cut the given one out of it.
    """
    radius, low, high = field_of_view(geometry, padding=padding)
    wanted = ((low, high), (-radius, radius), (-radius, radius))
    added = [
        _missing(first, size, ends, grid.voxel_mm)
        for first, size, ends in zip(grid.first_voxel_mm[::-1], grid.shape, wanted, strict=True)
    ]
    nz, ny, nx = (size + sum(sides) for size, sides in zip(grid.shape, added, strict=True))
    moved = [0.5 * grid.voxel_mm * (after - before) for before, after in added[::-1]]
    x, y, z = (centre + by for centre, by in zip(grid.centre_mm, moved, strict=True))
    box = tuple(slice(before, before + size) for (before, _), size in zip(added, grid.shape, strict=True))
    return VolumeGrid((nz, ny, nx), grid.voxel_mm, (x, y, z)), box  # type: ignore[return-value]


def inside_field_of_view(grid: VolumeGrid, geometry: ScanGeometry) -> Tensor:
    """The voxels whose centres lie in the field of view, (z, y, x) booleans: a mask for objects that end within it."""
    radius, low, high = field_of_view(geometry)
    x, y, z = (
        first + grid.voxel_mm * torch.arange(size, dtype=torch.float64)
        for first, size in zip(grid.first_voxel_mm, grid.shape[::-1], strict=True)
    )
    disc = x**2 + y[:, None] ** 2 <= radius**2
    return disc & ((z >= low) & (z <= high))[:, None, None]


def _missing(first: float, size: int, ends: tuple[float, float], voxel: float) -> tuple[int, int]:
    """Voxels to add before the first and after the last so that their faces reach both ends."""
    before = math.ceil((first - 0.5 * voxel - ends[0]) / voxel - 1e-6)
    after = math.ceil((ends[1] - (first + (size - 0.5) * voxel)) / voxel - 1e-6)
    return max(0, before), max(0, after)


def _edge_rays(geometry: ScanGeometry) -> tuple[Tensor, Tensor]:
    """Origin and direction of rays to the upper and lower edge of the detector, both corners included: (n, view, 3)."""
    edges = [
        geometry.detector + (float(column) * geometry.cols) * geometry.u + (row * geometry.rows) * geometry.v
        for column in torch.linspace(-0.5, 0.5, EDGE_RAYS)
        for row in (-0.5, 0.5)
    ]
    ends = torch.stack(edges)
    if geometry.beam == "parallel":
        return ends, geometry.source.expand_as(ends)
    return geometry.source.expand_as(ends), ends - geometry.source
