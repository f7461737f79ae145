"""The transform in plain torch: slow, readable, differentiable in data AND geometry; the kernels are tested against it.

Same definitions as `xrmflow.projectors.transform`. Every step is a torch operation on the arrays of one view, so
gradients reach the vectors of the geometry and, through `xrmflow.geometry.scan.scan_geometry`, its scalar parameters.
"""

import torch
from torch import Tensor

from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import ScanGeometry
from xrmflow.projectors.matrices import pixel_rays, source_distances, voxel_to_pixel


def project(volume: Tensor, geometry: ScanGeometry, grid: VolumeGrid) -> Tensor:
    """Line integrals (view, row, col) of a volume (z, y, x) per mm (Joseph, IEEE TMI 1, 1982)."""
    turned = volume.permute(2, 1, 0)  # (x, y, z), so that axes are numbered as in vectors
    rays = pixel_rays(geometry, grid)
    return torch.stack([_project_view(turned, view, geometry, grid.voxel_mm) for view in rays])


def _project_view(volume: Tensor, ray: Tensor, geometry: ScanGeometry, voxel_mm: float) -> Tensor:
    """One view, (row, col): every ray summed along its main axis."""
    row = torch.arange(geometry.rows, dtype=ray.dtype)[:, None, None]
    column = torch.arange(geometry.cols, dtype=ray.dtype)[:, None]
    origin = ray[0] + column * ray[1] + row * ray[2]
    direction = ray[3] + column * ray[4] + row * ray[5]
    # argmax takes the first of equals: x before y before z, as the kernels do.
    main = direction.detach().abs().argmax(dim=-1)
    parts = [_sum_planes(volume, origin, direction, axis, geometry.beam == "cone") for axis in range(3)]
    total = torch.stack(parts, dim=-1).gather(-1, main[..., None])[..., 0]
    length = direction.norm(dim=-1) / direction.gather(-1, main[..., None])[..., 0].abs()
    return voxel_mm * length.to(volume) * total


def _sum_planes(volume: Tensor, origin: Tensor, direction: Tensor, axis: int, forward_only: bool) -> Tensor:
    """Sum of the volume, interpolated where rays (row, col, 3) cross the planes of voxel centres across an axis."""
    planes = torch.arange(volume.shape[axis], dtype=origin.dtype)
    slope = direction[..., axis, None]
    slope = torch.where(slope == 0, torch.full_like(slope, 1e-300), slope)  # such rays have another main axis
    t = (planes - origin[..., axis, None]) / slope
    first, second = (axis + 1) % 3, (axis + 2) % 3
    a = origin[..., first, None] + t * direction[..., first, None]
    b = origin[..., second, None] + t * direction[..., second, None]
    stack = volume.permute(axis, first, second)
    index = planes.to(torch.int64).expand(a.shape)
    values = bilinear(stack, index, a, b)
    return (values * (t.detach() > 0) if forward_only else values).sum(dim=-1)


def backproject(projections: Tensor, geometry: ScanGeometry, grid: VolumeGrid) -> Tensor:
    """Sum over views of projections (view, row, col) at each voxel's pixel, over U^2: (z, y, x)."""
    matrices, distances = voxel_to_pixel(geometry, grid), source_distances(geometry, grid)
    k, j, i = torch.meshgrid(*[torch.arange(size, dtype=matrices.dtype) for size in grid.shape], indexing="ij")
    points = torch.stack([i, j, k, torch.ones_like(i)], dim=-1)
    total = torch.zeros(grid.shape, dtype=projections.dtype)
    for view in range(geometry.views):
        column, row, depth = (points @ matrices[view].T).unbind(dim=-1)
        distance = points[..., [0, 1, 3]] @ distances[view]
        index = torch.full(column.shape, view)
        values = bilinear(projections, index, row / depth, column / depth)
        total = total + values * (depth.detach() > 0) / (distance**2).to(projections)
    return total


def bilinear(stack: Tensor, index: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """stack[index] at the continuous position (a, b), zero outside; differentiable in the stack and the position."""
    low_a, low_b = torch.floor(a.detach()), torch.floor(b.detach())
    share_a, share_b = (a - low_a).to(stack), (b - low_b).to(stack)
    corners = [
        _pixel(stack, index, low_a + da, low_b + db)
        * (share_a if da else 1 - share_a)
        * (share_b if db else 1 - share_b)
        for da in (0, 1)
        for db in (0, 1)
    ]
    return corners[0] + corners[1] + corners[2] + corners[3]


def _pixel(stack: Tensor, index: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """stack[index, a, b] for whole numbers a, b; zero outside."""
    inside = (a >= 0) & (a < stack.shape[1]) & (b >= 0) & (b < stack.shape[2])
    p, q = (torch.where(inside, position, 0.0).to(torch.int64) for position in (a, b))
    return stack[index, p, q] * inside
