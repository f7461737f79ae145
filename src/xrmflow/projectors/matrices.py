"""Scan and grid as the few numbers per view that the kernels use; differentiable in the geometry.

Voxel indices are (i, j, k) along x, y, z and pixel indices (column, row), both continuous with centres at integers.
"""

import numpy as np
import torch
from torch import Tensor

from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import ScanGeometry


def voxel_to_pixel(geometry: ScanGeometry, grid: VolumeGrid) -> Tensor:
    """Projection matrices (view, 3, 4): (i, j, k, 1) -> (w column, w row, w), without unit.

    For a cone beam w is the depth of the voxel as a fraction of the detector's; for a parallel beam w = 1. Found by
    solving x - source = w (detector - source) + p u + q v.

    Raises:
        ValueError: the detector is seen edge-on in some view, so that no such map exists.
    """
    cone = geometry.beam == "cone"
    origin = geometry.source if cone else geometry.detector
    along = geometry.detector - geometry.source if cone else geometry.source
    frame = torch.stack([geometry.u, geometry.v, along], dim=2)
    _check_frame(frame)
    inverse = torch.linalg.inv(frame)
    first = origin.new_tensor(grid.first_voxel_mm)
    constant = (inverse @ (first - origin)[:, :, None])[:, :, 0]
    p, q, w = torch.cat([inverse * grid.voxel_mm, constant[:, :, None]], dim=2).unbind(dim=1)
    if not cone:
        w = torch.zeros_like(w)
        w[:, 3] = 1.0
    return torch.stack([p + w * ((geometry.cols - 1) / 2), q + w * ((geometry.rows - 1) / 2), w], dim=1)


def _check_frame(frame: Tensor) -> None:
    """Raise where detector and ray directions do not span space (relative volume of the frame below 1e-9)."""
    lengths = frame.detach().norm(dim=1)
    volume = torch.linalg.det(frame.detach() / lengths.clamp(min=torch.finfo(frame.dtype).tiny)[:, None, :])
    bad = torch.nonzero(volume.abs() < 1e-9)[:, 0]
    if bad.numel():
        raise ValueError(
            f"geometry: expected a detector that faces the source, got one seen edge-on in view {int(bad[0])}"
        )


def source_distances(geometry: ScanGeometry, grid: VolumeGrid) -> Tensor:
    """Coefficients (view, 3) of the relative distance U = a i + b j + c at which the source sees a voxel, without unit.

    U = 1 + (x, y) . e / R with R the source's distance from the rotation axis and e the direction from it to the axis:
    the divisor of the FDK backprojection, 1 on the axis. It does not depend on how the detector stands. 1 for
    parallel rays.

    Raises:
        ValueError: a source on the rotation axis.
    """
    if geometry.beam == "parallel":
        return geometry.source.new_tensor([0.0, 0.0, 1.0]).expand(geometry.views, 3)
    horizontal = geometry.source[:, :2]
    squared = (horizontal**2).sum(dim=1, keepdim=True)
    if not bool((squared > 0).all()):
        raise ValueError("geometry: expected sources away from the rotation axis, got one on it")
    slope = -horizontal / squared
    first = horizontal.new_tensor(grid.first_voxel_mm[:2])
    return torch.cat([slope * grid.voxel_mm, 1.0 + (slope * first).sum(dim=1, keepdim=True)], dim=1)


def pixel_rays(geometry: ScanGeometry, grid: VolumeGrid) -> Tensor:
    """Rays of the pixels in voxel indices: (view, 6, 3), vectors (x, y, z).

    The ray of pixel (c, r) is origin + t direction with
    origin = rays[0] + c rays[1] + r rays[2] and direction = rays[3] + c rays[4] + r rays[5].
    For a cone beam the origin is the source and t = 1 the pixel; for a parallel beam t = 0 is the pixel.
    """
    u, v = geometry.u / grid.voxel_mm, geometry.v / grid.voxel_mm
    first = geometry.source.new_tensor(grid.first_voxel_mm)
    pixel = (geometry.detector - first) / grid.voxel_mm - u * ((geometry.cols - 1) / 2) - v * ((geometry.rows - 1) / 2)
    zero = torch.zeros_like(u)
    if geometry.beam == "parallel":
        direction = geometry.source / geometry.source.norm(dim=1, keepdim=True)
        return torch.stack([pixel, u, v, direction, zero, zero], dim=1)
    source = (geometry.source - first) / grid.voxel_mm
    return torch.stack([source, zero, zero, pixel - source, u, v], dim=1)


def is_upright(matrices: Tensor, grid: VolumeGrid, *, tolerance_px: float = 1e-6) -> bool:
    """Whether detector columns are parallel to the axis in every view, so that a voxel's column is the same for all z.

    Args:
        matrices: from `voxel_to_pixel`.
        grid: their grid.
        tolerance_px: how far the column may drift over the height of the grid.
    """
    m = matrices.detach()
    height, reference = grid.shape[0], m[:, 2, 3].abs().clamp(min=1e-12)
    drift = (m[:, 0, 2].abs() + m[:, 2, 2].abs() * (m[:, 0, 3] / reference).abs()) * height / reference
    return bool((drift < tolerance_px).all())


def has_steep_rays(rays: np.ndarray, *, rows: int, cols: int) -> bool:
    """Whether some ray runs closer to the z direction than to x and y.

    Args:
        rays: from `pixel_rays`.
        rows: of the detector.
        cols: of the detector.
    """
    along = rays[:, 3, None, :] + np.arange(cols)[:, None] * rays[:, 4, None, :]
    level = np.abs(along[:, :, :2]).max(axis=2)
    steepest = np.maximum(np.abs(along[:, :, 2]), np.abs(along[:, :, 2] + (rows - 1) * rays[:, 5, None, 2]))
    return bool((steepest > level).any())


def row_window(matrices: np.ndarray, grid: VolumeGrid, slab: slice, rows: int) -> tuple[int, int]:
    """First and last + 1 detector row that voxels of a slab read, in any view; equal where they read none.

    A projective map takes the extremes over a box at its corners, as long as the box is in front of the source.
    """
    nz, ny, nx = grid.shape
    start, stop, _ = slab.indices(nz)
    corners = np.array([(i, j, k, 1) for i in (0, nx - 1) for j in (0, ny - 1) for k in (start, stop - 1)], dtype=float)
    _, row, w = np.moveaxis(matrices @ corners.T, 1, 0)
    if (w <= 0).any():
        return 0, rows
    row = row / w
    first, last = int(np.clip(np.floor(row.min()) - 1, 0, rows)), int(np.clip(np.ceil(row.max()) + 2, 0, rows))
    return first, max(first, last)
