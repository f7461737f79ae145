"""The transform on NVIDIA GPUs by Triton kernels: what `xrmflow.projectors.cpu` and `.sensitivity` are on the CPU.

Same definitions, same `Setup`. Tensors stay on their device; data that lie on the CPU are uploaded, projections some
views at a time, when a device is named. Volumes and projections are returned in the kernels' own memory order (z, and
rows, innermost) seen as (z, y, x) and (view, row, col): feeding them back costs no transposition.

Every sum has a fixed order and there are no atomic additions: the same input gives the same bits.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from xrmflow.projectors import gpu_backproject_adjoint, gpu_kernels, gpu_project_adjoint, gpu_slopes
from xrmflow.projectors.gpu_launch import (
    TILING,
    Tiling,
    blocks_of,
    ceil_div,
    chunks,
    component,
    inner_projections,
    inner_volume,
    main_axes,
    moved_matrices,
    new_projections,
    new_volume,
    on_device,
    over_pixels,
    over_voxels,
    plane_distances,
    views_with_rays,
)
from xrmflow.projectors.matrices import row_window
from xrmflow.projectors.setup import Setup


def project(volume: Tensor, setup: Setup, *, device: torch.device | None = None, tiling: Tiling = TILING) -> Tensor:
    """Joseph line integrals, (view, row, col), of a volume (z, y, x), or of each volume of a batch."""
    if volume.ndim == 4:
        return torch.stack([project(one, setup, device=device, tiling=tiling) for one in volume])
    inner = inner_volume(volume, device)
    kernel = gpu_kernels.project_level if setup.level else gpu_kernels.project_any
    out = new_projections(inner, setup)
    for views, rays in views_with_rays(setup, inner.device, tiling):
        mains = main_axes(rays, setup, level=setup.level)
        over_pixels(kernel, out[views], (inner, rays, mains), setup, tiling, shared=setup.level)
        out[views] *= plane_distances(rays, setup, out.dtype)
    return out.permute(0, 2, 1)


def project_adjoint(
    projections: Tensor, setup: Setup, *, device: torch.device | None = None, tiling: Tiling = TILING
) -> Tensor:
    """Transpose of `project`: (view, row, col) to (z, y, x), or of a batch."""
    if projections.ndim == 4:
        return torch.stack([project_adjoint(one, setup, device=device, tiling=tiling) for one in projections])
    volume = new_volume(projections, setup, device)
    for views, rays in views_with_rays(setup, volume.device, tiling):
        part = inner_projections(projections[views], volume.device) * plane_distances(rays, setup, volume.dtype)
        mains = main_axes(rays, setup, level=setup.level)
        axes = torch.stack([(mains == axis).flatten(1).any(dim=1) for axis in range(3)], dim=1).to(torch.int8)
        beams = rays[:, [0, 4, 5] if setup.cone else [3, 1, 2]].reshape(-1, 9).to(volume.dtype).contiguous()
        over_voxels(
            gpu_project_adjoint.project_adjoint, volume, part, (beams, mains, axes), setup, views, tiling,
            shared=setup.level, CONE=setup.cone, LEVEL=setup.level,
        )  # fmt: skip
    return volume.permute(2, 0, 1)


def backproject(
    projections: Tensor, setup: Setup, *, device: torch.device | None = None, tiling: Tiling = TILING
) -> Tensor:
    """Sum over views of projections (view, row, col) at each voxel's pixel, over U^2: (z, y, x); or of a batch."""
    if projections.ndim == 4:
        return torch.stack([backproject(one, setup, device=device, tiling=tiling) for one in projections])
    volume = new_volume(projections, setup, device)
    add_backprojection(volume, projections, setup, slice(0, setup.geometry.views), tiling=tiling)
    return volume.permute(2, 0, 1)


def add_backprojection(
    volume: Tensor, projections: Tensor, setup: Setup, views: slice, *, tiling: Tiling = TILING
) -> None:
    """Add the backprojection of some views to a volume in the kernels' memory order, for data that come in parts.

    Args:
        volume: (y, x, z), contiguous, on a GPU; changed.
        projections: (view, row, col) of these views only, anywhere.
        setup: the whole scan and the volume's grid.
        views: which views of the scan.
        tiling: how to cut the work.
    """
    for some in chunks(projections.shape[0], tiling.views):
        part = inner_projections(projections[some], volume.device)
        these = slice(views.start + some.start, views.start + some.stop)
        distances = on_device(setup.distances[these], volume.device).to(volume.dtype)
        over_voxels(
            gpu_kernels.backproject, volume, part, (distances,), setup, these, tiling,
            shared=True, UPRIGHT=setup.upright,
        )  # fmt: skip


def backproject_adjoint(
    volume: Tensor, setup: Setup, *, device: torch.device | None = None, tiling: Tiling = TILING
) -> Tensor:
    """Transpose of `backproject`: (z, y, x) to (view, row, col), or of a batch."""
    if volume.ndim == 4:
        return torch.stack([backproject_adjoint(one, setup, device=device, tiling=tiling) for one in volume])
    inner = inner_volume(volume, device)
    kernels = gpu_backproject_adjoint
    kernel = kernels.backproject_adjoint_upright if setup.upright else kernels.backproject_adjoint_any
    out = new_projections(inner, setup)
    for views, rays in views_with_rays(setup, inner.device, tiling):
        matrices, distances = (on_device(table[views], inner.device) for table in (setup.matrices, setup.distances))
        tables = (inner, rays, matrices, distances.to(inner.dtype), main_axes(rays, setup, level=setup.upright))
        over_pixels(kernel, out[views], tables, setup, tiling, shared=setup.upright)
    return out.permute(0, 2, 1)


def rays_gradient(volume: Tensor, projections: Tensor, setup: Setup, *, tiling: Tiling = TILING) -> Tensor:
    """Gradient (view, 6, 3) float64 of <project(volume), projections> to the rays, as on the CPU."""
    inner = inner_volume(volume, None)
    out = torch.zeros((setup.geometry.views, 6, 3), dtype=torch.float64, device=inner.device)
    for views, rays in views_with_rays(setup, inner.device, tiling):
        mains = main_axes(rays, setup, level=False)
        sums = inner.new_empty((5, *mains.shape))
        over_pixels(gpu_slopes.ray_slopes, sums, (inner, rays, mains), setup, tiling, shared=False)
        part = inner_projections(projections[views], inner.device)
        for n in range(len(rays)):
            out[views.start + n] = _ray_chain(sums[:, n].double(), part[n].double(), mains[n].long(), rays[n], setup)
    # Numbers that are zero in every scan with such a beam.
    out[:, slice(1, 3) if setup.cone else slice(4, 6)] = 0
    return out


def _ray_chain(sums: Tensor, weights: Tensor, main: Tensor, ray: Tensor, setup: Setup) -> Tensor:
    """From sums of slopes (5, col, row) to the gradient (6, 3) to one view's ray coefficients."""
    value, by_p, by_q, by_tp, by_tq = sums
    o, d = (torch.cat([component(ray[None], axis, setup, first=n) for axis in range(3)]) for n in (0, 3))
    axes = torch.stack([main, (main + 1) % 3, (main + 2) % 3])
    (om, _, _), (dm, dp, dq) = o.gather(0, axes), d.gather(0, axes)
    squared = d.square().sum(dim=0)
    length = weights * setup.grid.voxel_mm * squared.sqrt() / dm.abs()
    away = ((main.new_tensor(setup.grid.shape[::-1]) - 1)[main] / 2 - om) / dm
    by_direction = [by_tp / dm + away * by_p + value * dp / squared, by_tq / dm + away * by_q + value * dq / squared]
    gradients = []
    for p, q in ((by_p, by_q), by_direction):
        turned = length * torch.stack([-(p * dp + q * dq) / dm, p, q])
        gradients.append(torch.zeros_like(turned).scatter(0, axes, turned))
    column = torch.arange(weights.shape[0], device=ray.device)[:, None]
    row = torch.arange(weights.shape[1], device=ray.device)
    return torch.stack([(part * by).sum(dim=(1, 2)) for part in gradients for by in (1.0, column, row)])


def maps_gradient(
    projections: Tensor, volume: Tensor, setup: Setup, *, tiling: Tiling = TILING
) -> tuple[Tensor, Tensor]:
    """Gradients (view, 3, 4), (view, 3) float64 of <backproject(projections), volume>, as on the CPU."""
    inner = inner_volume(volume, None)
    nz, ny, nx = setup.grid.shape
    blocks, size = blocks_of(setup, tiling, tiling.pieces_of(nz, shared=True))
    tiles = (blocks[0], ceil_div(ny, tiling.places_y), ceil_div(nx, tiling.places_x))
    results = []
    # Every tile has sums of its own for each view: few views at a time.
    for views in chunks(setup.geometry.views, max(1, tiling.views // 4)):
        part = inner_projections(projections[views], inner.device)
        distances = on_device(setup.distances[views], inner.device).to(inner.dtype)
        sums = inner.new_empty((*tiles, len(part), 4, 4))
        over_voxels(gpu_slopes.voxel_slopes, inner, part, (distances, sums), setup, views, tiling, shared=True)
        corners = moved_matrices(on_device(setup.matrices[views], inner.device), setup, blocks, size)[..., :2]
        results.append(_map_chain(sums.double(), corners, size, tiling))
    total = torch.cat(results)
    return total[:, :3, [1, 2, 3, 0]], total[:, 3, [1, 2, 0]]


def _map_chain(sums: Tensor, corners: Tensor, size: tuple[int, ...], tiling: Tiling) -> Tensor:
    """From sums by tile (z, y, x, view, 4, 4) about their blocks' origins to those of the scan (view, 4, 4).

    Columns of the last two dimensions: (column, row, depth, distance) by (1, x, y, z).
    """
    step = (size[0], tiling.places_y, tiling.places_x)
    where = [
        torch.arange(n, device=sums.device) * s // edge for n, s, edge in zip(sums.shape, step, size, strict=False)
    ]
    for axis, (block, edge) in enumerate(zip(where, size, strict=True)):
        middle = (block * edge + edge // 2).reshape([-1 if n == axis else 1 for n in range(5)])
        sums[..., 3 - axis] += middle * sums[..., 0]
    z, y, x = torch.meshgrid(*where, indexing="ij")
    corner = corners[:, z, y, x].permute(1, 2, 3, 0, 4)[..., None]
    sums[..., 2, :] -= (corner * sums[..., :2, :]).sum(dim=-2)
    return sums.sum(dim=(0, 1, 2))


def backproject_slabs(
    projections: Tensor, setup: Setup, *, devices: list[torch.device], slabs: int | None = None, tiling: Tiling = TILING
) -> Tensor:
    """As `backproject` with the volume cut along z over several GPUs, each given the detector rows its slabs need.

    Args:
        projections: (view, row, col), on the CPU.
        setup: the whole scan and grid.
        devices: where to work, for instance [cuda:0, cuda:1].
        slabs: how many; the number of devices when not given, more where their memory is short.
        tiling: how each cuts its work.

    Returns:
        (z, y, x), on the device of the projections.
    """
    nz = setup.grid.shape[0]
    cuts = np.linspace(0, nz, min(slabs or len(devices), nz) + 1).round().astype(int).tolist()
    parts: list[Tensor] = [projections] * (len(cuts) - 1)

    def work(device: torch.device) -> None:
        for n in [n for n in range(len(parts)) if devices[n % len(devices)] == device]:
            slab = setup.grid.slab(slice(cuts[n], cuts[n + 1]))
            rows = slice(*row_window(setup.matrices, setup.grid, slice(cuts[n], cuts[n + 1]), setup.geometry.rows))
            part = Setup(setup.geometry.with_rows(rows), slab)
            parts[n] = backproject(projections[:, rows], part, device=device, tiling=tiling).to(projections.device)

    with ThreadPoolExecutor(len(set(devices))) as pool:
        list(pool.map(work, dict.fromkeys(devices)))
    return torch.cat(parts)
