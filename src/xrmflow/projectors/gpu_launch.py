"""How the Triton kernels are launched: sizes of tiles, tables of the geometry on the GPU, memory order of the data."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

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
        return min(self.pieces, 1 << (ceil_div(length, self.lanes) - 1).bit_length()) if shared else 1


TILING = Tiling()


def ceil_div(length: int, size: int) -> int:
    """How many of this size cover the length."""
    return -(-length // size)


def chunks(length: int, size: int) -> list[slice]:
    """Consecutive slices of at most this size."""
    return [slice(first, min(first + size, length)) for first in range(0, length, size)]


def views_with_rays(setup: Setup, device: torch.device, tiling: Tiling) -> Iterator[tuple[slice, Tensor]]:
    """Views of one launch after the other, with their rays on the device."""
    for views in chunks(setup.geometry.views, tiling.views):
        yield views, on_device(setup.rays[views], device)


def on_device(table: np.ndarray, device: torch.device) -> Tensor:
    """A table as a tensor where it is needed."""
    return torch.from_numpy(np.ascontiguousarray(table)).to(device)


def inner_volume(volume: Tensor, device: torch.device | None) -> Tensor:
    """(y, x, z)."""
    return volume.detach().to(device or volume.device).permute(1, 2, 0).contiguous()


def inner_projections(projections: Tensor, device: torch.device) -> Tensor:
    """(view, col, row)."""
    return projections.detach().to(device).permute(0, 2, 1).contiguous()


def new_volume(projections: Tensor, setup: Setup, device: torch.device | None) -> Tensor:
    """Zeros (y, x, z)."""
    nz, ny, nx = setup.grid.shape
    return torch.zeros((ny, nx, nz), dtype=projections.dtype, device=device or projections.device)


def new_projections(inner: Tensor, setup: Setup) -> Tensor:
    """Room for (view, col, row)."""
    return inner.new_empty((setup.geometry.views, setup.geometry.cols, setup.geometry.rows))


def over_voxels(
    kernel: Any, volume: Tensor, part: Tensor, tables: tuple[Tensor, ...], setup: Setup, views: slice, tiling: Tiling,
    *, shared: bool, **flags: bool,
) -> None:  # fmt: skip
    """Launch a voxel-driven kernel for some views, `part`, and a volume (y, x, z)."""
    ny, nx, nz = volume.shape
    pieces = tiling.pieces_of(nz, shared=shared)
    blocks, size = blocks_of(setup, tiling, pieces)
    moved = moved_matrices(on_device(setup.matrices[views], volume.device), setup, blocks, size).to(volume.dtype)
    programs = (ceil_div(nx, tiling.places_x) * ceil_div(ny, tiling.places_y), blocks[0])
    with torch.cuda.device_of(volume):
        kernel[programs](
            volume, part, moved, *tables, part.shape[0], nx, ny, nz, *part.shape[1:], blocks[2], blocks[1],
            SIDE=tiling.side, PX=tiling.places_x, PY=tiling.places_y, PIECES=pieces, LANES=tiling.lanes,
            num_warps=tiling.warps, enable_fp_fusion=True, **flags,
        )  # fmt: skip


def blocks_of(setup: Setup, tiling: Tiling, pieces: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Number and size of the blocks that share a moved matrix, along z, y, x."""
    size = (pieces * tiling.lanes, tiling.side, tiling.side)
    return tuple(ceil_div(length, edge) for length, edge in zip(setup.grid.shape, size, strict=True)), size


def over_pixels(
    kernel: Any, out: Tensor, tables: tuple[Tensor, ...], setup: Setup, tiling: Tiling, *, shared: bool
) -> None:
    """Launch a pixel-driven kernel that writes (..., view, col, row)."""
    (views, cols, rows), (nz, ny, nx) = out.shape[-3:], setup.grid.shape
    pieces = tiling.pieces_of(rows, shared=shared)
    programs = (ceil_div(cols, tiling.places), ceil_div(rows, pieces * tiling.lanes), views)
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
    return torch.cat([_main_axis(*(component(ray, axis, setup).abs() for axis in range(3))) for ray in rays.split(1)])


def _main_axis(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    return torch.where((x >= y) & (x >= z), 0, torch.where(y >= z, 1, 2)).to(torch.int8)


def plane_distances(rays: Tensor, setup: Setup, dtype: torch.dtype) -> Tensor:
    """Length in mm of each ray between two planes across its main axis: (view, col, row)."""
    x, y, z = (component(rays.to(dtype), axis, setup) for axis in range(3))
    longest = torch.maximum(torch.maximum(x.abs(), y.abs()), z.abs())
    return (x.square() + y.square() + z.square()).sqrt_().div_(longest).mul_(setup.grid.voxel_mm)


def component(rays: Tensor, axis: int, setup: Setup, *, first: int = 3) -> Tensor:
    """One component of the directions (or with first=0 the origins) of the rays, (view, col, row)."""
    column = torch.arange(setup.geometry.cols, dtype=rays.dtype, device=rays.device)[:, None]
    row = torch.arange(setup.geometry.rows, dtype=rays.dtype, device=rays.device)
    start, per_column, per_row = rays[:, first : first + 3, axis, None, None].unbind(dim=1)
    return start + column * per_column + row * per_row
