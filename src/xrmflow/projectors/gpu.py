"""The transform on NVIDIA GPUs: the four functions of `xrmflow.projectors.cpu` by Triton kernels.

Same definitions, same `Setup`. Tensors stay on their device; data that lie on the CPU are uploaded, projections some
views at a time, when a device is named. Volumes and projections are returned in the kernels' own memory order (z, and
rows, innermost) seen as (z, y, x) and (view, row, col): feeding them back costs no transposition.

Every sum has a fixed order and there are no atomic additions: the same input gives the same bits.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xrmflow.projectors import gpu_adjoints, gpu_kernels
from xrmflow.projectors.setup import Setup


@dataclass(frozen=True)
class Tiling:
    """How the work is cut; nothing here changes results beyond rounding. Lengths are powers of two.

    Attributes:
        views: views in one launch of a kernel.
        side: voxels along x and y that share a moved matrix; a multiple of places_x and places_y.
        places_x, places_y: voxels along x and y in a program of a voxel-driven kernel.
        places: detector columns in a program of a pixel-driven kernel.
        pieces, lanes: their product is the number of z or rows in a program.
        planes: planes through which a ray is followed in float32 from a position found in float64.
        warps: of a program.
    """

    views: int = 32
    side: int = 32
    places_x: int = 4
    places_y: int = 4
    places: int = 8
    pieces: int = 8
    lanes: int = 32
    planes: int = 64
    warps: int = 4

    def pieces_of(self, length: int, *, shared: bool) -> int:
        """Pieces of `lanes` that programs take of so many z or rows; one where nothing is shared along them."""
        return min(self.pieces, 1 << (_pieces(length, self.lanes) - 1).bit_length()) if shared else 1


TILING = Tiling()


def project(volume: Tensor, setup: Setup, *, device: torch.device | None = None, tiling: Tiling = TILING) -> Tensor:
    """Joseph line integrals, (view, row, col), of a volume (z, y, x), or of each volume of a batch."""
    if volume.ndim == 4:
        return torch.stack([project(one, setup, device=device, tiling=tiling) for one in volume])
    inner = _inner_volume(volume, device)
    kernel = gpu_kernels.project_level if setup.level else gpu_kernels.project_any
    out = _new_projections(inner, setup)
    for views, rays in _rays(setup, inner.device, tiling):
        mains = main_axes(rays, setup, level=setup.level)
        _over_pixels(kernel, out[views], (inner, rays, mains), setup, tiling, shared=setup.level)
        out[views] *= plane_distances(rays, setup, out.dtype)
    return out.permute(0, 2, 1)


def project_adjoint(
    projections: Tensor, setup: Setup, *, device: torch.device | None = None, tiling: Tiling = TILING
) -> Tensor:
    """Transpose of `project`: (view, row, col) to (z, y, x), or of a batch."""
    if projections.ndim == 4:
        return torch.stack([project_adjoint(one, setup, device=device, tiling=tiling) for one in projections])
    volume = _new_volume(projections, setup, device)
    for views, rays in _rays(setup, volume.device, tiling):
        part = _inner_projections(projections[views], volume.device) * plane_distances(rays, setup, volume.dtype)
        mains = main_axes(rays, setup, level=setup.level)
        axes = torch.stack([(mains == axis).flatten(1).any(dim=1) for axis in range(3)], dim=1).to(torch.int8)
        beams = rays[:, [0, 4, 5] if setup.cone else [3, 1, 2]].reshape(-1, 9).to(volume.dtype).contiguous()
        _over_voxels(
            gpu_adjoints.project_adjoint, volume, part, (beams, mains, axes), setup, views, tiling,
            shared=setup.level, CONE=setup.cone, LEVEL=setup.level,
        )  # fmt: skip
    return volume.permute(2, 0, 1)


def backproject(
    projections: Tensor, setup: Setup, *, device: torch.device | None = None, tiling: Tiling = TILING
) -> Tensor:
    """Sum over views of projections (view, row, col) at each voxel's pixel, over U^2: (z, y, x); or of a batch."""
    if projections.ndim == 4:
        return torch.stack([backproject(one, setup, device=device, tiling=tiling) for one in projections])
    volume = _new_volume(projections, setup, device)
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
    for some in _chunks(projections.shape[0], tiling.views):
        part = _inner_projections(projections[some], volume.device)
        these = slice(views.start + some.start, views.start + some.stop)
        distances = _on(setup.distances[these], volume.device).to(volume.dtype)
        _over_voxels(
            gpu_kernels.backproject, volume, part, (distances,), setup, these, tiling,
            shared=True, UPRIGHT=setup.upright,
        )  # fmt: skip


def backproject_adjoint(
    volume: Tensor, setup: Setup, *, device: torch.device | None = None, tiling: Tiling = TILING
) -> Tensor:
    """Transpose of `backproject`: (z, y, x) to (view, row, col), or of a batch."""
    if volume.ndim == 4:
        return torch.stack([backproject_adjoint(one, setup, device=device, tiling=tiling) for one in volume])
    inner = _inner_volume(volume, device)
    kernel = gpu_adjoints.backproject_adjoint_upright if setup.upright else gpu_adjoints.backproject_adjoint_any
    out = _new_projections(inner, setup)
    for views, rays in _rays(setup, inner.device, tiling):
        matrices, distances = (_on(table[views], inner.device) for table in (setup.matrices, setup.distances))
        tables = (inner, rays, matrices, distances.to(inner.dtype), main_axes(rays, setup, level=setup.upright))
        _over_pixels(kernel, out[views], tables, setup, tiling, shared=setup.upright)
    return out.permute(0, 2, 1)


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
            rows = rows_seen(Setup(setup.geometry, slab))
            part = Setup(setup.geometry.with_rows(rows), slab)
            parts[n] = backproject(projections[:, rows], part, device=device, tiling=tiling).to(projections.device)

    with ThreadPoolExecutor(len(set(devices))) as pool:
        list(pool.map(work, dict.fromkeys(devices)))
    return torch.cat(parts)


def rows_seen(setup: Setup) -> slice:
    """Detector rows onto which the grid projects in some view, with the neighbours that interpolation reads.

    The image of a box lies within those of its corners, unless part of it lies behind the source: then all rows.
    """
    nz, ny, nx = setup.grid.shape
    corners = np.array([(i, j, k, 1) for i in (0, nx - 1) for j in (0, ny - 1) for k in (0, nz - 1)])
    _, row, depth = np.moveaxis(setup.matrices @ corners.T, 1, 0)
    if not (depth > 0).all():
        return slice(0, setup.geometry.rows)
    image, last = row / depth, setup.geometry.rows - 1
    first, stop = np.clip([np.floor(image.min()), np.ceil(image.max())], 0, last).astype(int)
    return slice(int(first), int(stop) + 1)


def _pieces(length: int, size: int) -> int:
    return -(-length // size)


def _chunks(length: int, size: int) -> list[slice]:
    return [slice(first, min(first + size, length)) for first in range(0, length, size)]


def _rays(setup: Setup, device: torch.device, tiling: Tiling) -> Iterator[tuple[slice, Tensor]]:
    """Views of one launch after the other, with their rays on the device."""
    for views in _chunks(setup.geometry.views, tiling.views):
        yield views, _on(setup.rays[views], device)


def _on(table: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(table)).to(device)


def _inner_volume(volume: Tensor, device: torch.device | None) -> Tensor:
    """(y, x, z)."""
    return volume.detach().to(device or volume.device).permute(1, 2, 0).contiguous()


def _inner_projections(projections: Tensor, device: torch.device) -> Tensor:
    """(view, col, row)."""
    return projections.detach().to(device).permute(0, 2, 1).contiguous()


def _new_volume(projections: Tensor, setup: Setup, device: torch.device | None) -> Tensor:
    nz, ny, nx = setup.grid.shape
    return torch.zeros((ny, nx, nz), dtype=projections.dtype, device=device or projections.device)


def _new_projections(inner: Tensor, setup: Setup) -> Tensor:
    return inner.new_empty((setup.geometry.views, setup.geometry.cols, setup.geometry.rows))


def _over_voxels(
    kernel: Any, volume: Tensor, part: Tensor, tables: tuple[Tensor, ...], setup: Setup, views: slice, tiling: Tiling,
    *, shared: bool, **flags: bool,
) -> None:  # fmt: skip
    """Launch a voxel-driven kernel that adds some views to a volume (y, x, z)."""
    ny, nx, nz = volume.shape
    pieces = tiling.pieces_of(nz, shared=shared)
    size = (pieces * tiling.lanes, tiling.side, tiling.side)
    blocks = tuple(_pieces(length, edge) for length, edge in zip((nz, ny, nx), size, strict=True))
    moved = moved_matrices(_on(setup.matrices[views], volume.device), setup, blocks, size).to(volume.dtype)
    programs = (_pieces(nx, tiling.places_x) * _pieces(ny, tiling.places_y), blocks[0])
    with torch.cuda.device_of(volume):
        kernel[programs](
            volume, part, moved, *tables, part.shape[0], nx, ny, nz, *part.shape[1:], blocks[2], blocks[1],
            SIDE=tiling.side, PX=tiling.places_x, PY=tiling.places_y, PIECES=pieces, LANES=tiling.lanes,
            num_warps=tiling.warps, enable_fp_fusion=True, **flags,
        )  # fmt: skip


def _over_pixels(
    kernel: Any, out: Tensor, tables: tuple[Tensor, ...], setup: Setup, tiling: Tiling, *, shared: bool
) -> None:
    """Launch a pixel-driven kernel that writes projections (view, col, row)."""
    (views, cols, rows), (nz, ny, nx) = out.shape, setup.grid.shape
    pieces = tiling.pieces_of(rows, shared=shared)
    programs = (_pieces(cols, tiling.places), _pieces(rows, pieces * tiling.lanes), views)
    with torch.cuda.device_of(out):
        kernel[programs](
            out, *tables, nx, ny, nz, cols, rows,
            CONE=setup.cone, PLANES=tiling.planes, PIECES=pieces, PLACES=tiling.places, LANES=tiling.lanes,
            num_warps=tiling.warps, enable_fp_fusion=True,
        )  # fmt: skip


def moved_matrices(matrices: Tensor, setup: Setup, blocks: tuple[int, ...], size: tuple[int, ...]) -> Tensor:
    """Projection matrices moved to an origin in each block of voxels and near its image, float64.

    With voxel indices counted from the block's middle and pixels from (c0, r0), whole numbers on the detector, the map
    voxel -> pixel is again a 3 x 4 matrix M' = [[1, 0, -c0], [0, 1, -r0], [0, 0, 1]] M [[1, middle], [0, 1]]. It is
    exact for any (c0, r0); near the block's image its numbers stay small, so that float32 suffices to use it.

    Args:
        matrices: (view, 3, 4) float64, from `voxel_to_pixel`.
        setup: scan and grid.
        blocks: numbers of blocks along z, y, x.
        size: voxels of a block along z, y, x.

    Returns:
        (view, block z, block y, block x, 16): c0, r0, then column, row and depth as (constant, x, y, z), two unused.
    """
    middles = [torch.arange(n).to(matrices) * s + s // 2 for n, s in zip(blocks, size, strict=True)]
    origin = torch.stack(torch.meshgrid(*middles, indexing="ij")[::-1], dim=-1)
    constant = torch.einsum("vrc,zyxc->vzyxr", matrices[:, :, :3], origin) + matrices[:, None, None, None, :, 3]
    last = constant.new_tensor([setup.geometry.cols - 1, setup.geometry.rows - 1])
    image = torch.nan_to_num(constant[..., :2] / constant[..., 2:], nan=0.0)
    corner = torch.minimum(image.clamp(min=0.0), last).round()
    table = constant.new_zeros((*constant.shape[:-1], 16))
    table[..., :2] = corner
    for n in range(3):
        shift = corner[..., n, None] if n < 2 else 0.0
        depth = torch.cat([constant[..., 2:], matrices[:, None, None, None, 2, :3].expand_as(constant)], dim=-1)
        number = torch.cat([constant[..., n, None], matrices[:, None, None, None, n, :3].expand_as(constant)], dim=-1)
        table[..., 2 + 4 * n : 6 + 4 * n] = number - shift * depth
    return table


def main_axes(rays: Tensor, setup: Setup, *, level: bool) -> Tensor:
    """Axis that each ray is closest to, x before y before z where equal: (view, col, row), int8.

    With `level` only x and y are considered, and upright detectors assumed: (view, col).

    Computed once in float64, so that a ray between two axes has the same axis in the forward transform and its adjoint.
    """
    if level:
        column = torch.arange(setup.geometry.cols, dtype=rays.dtype, device=rays.device)[:, None]
        direction = rays[:, None, 3, :2] + column * rays[:, None, 4, :2]
        return direction.abs().argmax(dim=-1).to(torch.int8)
    # One view at a time: float64 for a chunk of them would take gigabytes.
    return torch.cat([_main_axis(*(_directions(ray, axis, setup).abs() for axis in range(3))) for ray in rays.split(1)])


def _main_axis(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    return torch.where((x >= y) & (x >= z), 0, torch.where(y >= z, 1, 2)).to(torch.int8)


def plane_distances(rays: Tensor, setup: Setup, dtype: torch.dtype) -> Tensor:
    """Length in mm of each ray between two planes across its main axis: (view, col, row)."""
    x, y, z = (_directions(rays.to(dtype), axis, setup) for axis in range(3))
    longest = torch.maximum(torch.maximum(x.abs(), y.abs()), z.abs())
    return (x.square() + y.square() + z.square()).sqrt_().div_(longest).mul_(setup.grid.voxel_mm)


def _directions(rays: Tensor, axis: int, setup: Setup) -> Tensor:
    """One component of the directions of the rays, (view, col, row)."""
    column = torch.arange(setup.geometry.cols, dtype=rays.dtype, device=rays.device)[:, None]
    row = torch.arange(setup.geometry.rows, dtype=rays.dtype, device=rays.device)
    start, per_column, per_row = rays[:, 3:, axis, None, None].unbind(dim=1)
    return start + column * per_column + row * per_row
