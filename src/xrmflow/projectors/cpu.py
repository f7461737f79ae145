"""The transform on the CPU: tensors into the kernels' layouts, kernels over threads, and back.

Four functions of one array and a `Setup`, without autograd and without checks: `xrmflow.projectors.transform` is
their public face, and `xrmflow.projectors.gpu` offers the same four.
"""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from xrmflow.projectors import columns, pixelwise, tilted
from xrmflow.projectors.lanes import LANES
from xrmflow.projectors.setup import Setup
from xrmflow.projectors.threads import in_pieces

# Views transposed to column layout at a time: bounds the extra memory.
VIEWS_AT_ONCE = 32
# Views projected one after the other, whose rays read the same voxels.
VIEWS_IN_PIECE = 16
# Rows and columns copied at a time where the order of axes changes.
BLOCK = 64


def project(volume: Tensor, setup: Setup) -> Tensor:
    """Views are independent: pieces are views."""
    geometry, margin, voxel = setup.geometry, columns.MARGIN, setup.grid.voxel_mm
    padded = _padded(volume.detach().permute(1, 2, 0), (margin, margin, margin))
    out = np.empty((geometry.views, geometry.rows, geometry.cols), padded.dtype)
    bent = _bounds(padded, setup)

    def work(start: int, stop: int) -> None:
        part, rays = np.zeros((stop - start, geometry.cols, geometry.rows), padded.dtype), setup.rays[start:stop]
        if not setup.level and bent is None:
            pixelwise.project(padded, rays, setup.cone, voxel, part, 0, len(part))
        else:
            for main in (0, 1):
                if bent is None:
                    columns.project(padded, rays, setup.cone, main, part, 0, len(part))
                else:
                    tilted.project(padded, rays, setup.cone, main, bent[start:stop], part, 0, len(part))
            columns.scale_rays(part, 0, rays, voxel, 0, len(part))
        out[start:stop] = part.transpose(0, 2, 1)

    in_pieces(work, geometry.views, size=max(1, min(VIEWS_IN_PIECE, geometry.views // 8)))
    return torch.from_numpy(out).to(volume.device)


def _bounds(data: np.ndarray, setup: Setup) -> np.ndarray | None:
    """From `tilted.main_rows` where its kernels can follow the rays, and columns alone cannot."""
    if setup.level or not tilted.can(data):
        return None
    bounds, fits = tilted.main_rows(setup.rays, setup.geometry.cols, setup.geometry.rows)
    return bounds if fits else None


def project_adjoint(projections: Tensor, setup: Setup) -> Tensor:
    """Every voxel is crossed by rays of all views: pieces are planes across the main direction, one after the other."""
    nz, ny, nx = setup.grid.shape
    margin, voxel = columns.MARGIN, setup.grid.voxel_mm
    volume = np.zeros((ny + 2 * margin, nx + 2 * margin, nz + 2 * margin), _dtype(projections))
    if setup.level:
        rays = _scaled_rays(projections, setup)
        for main, planes in enumerate((nx, ny)):
            in_pieces(
                partial(columns.project_adjoint, rays, setup.rays, setup.cone, main, volume),
                planes,
                size=columns.PLANES,
            )
    else:
        turned = np.ascontiguousarray(projections.detach().cpu().numpy().transpose(0, 2, 1))
        for main, planes in enumerate((nx, ny, nz)):
            work = partial(pixelwise.project_adjoint, turned, setup.rays, setup.cone, voxel, main, volume)
            in_pieces(work, planes, size=max(8, planes // 16))
    inner = volume[margin:-margin, margin:-margin, margin:-margin]
    return _slices(inner).to(projections.device)


def _scaled_rays(projections: Tensor, setup: Setup) -> np.ndarray:
    """(view, col, row) with `columns.EDGE` zeros around rows: projections times the length of rays between planes."""
    views, rows, cols = projections.shape
    edge, data = columns.EDGE, projections.detach().cpu().numpy()
    shape = (views, cols, rows + 2 * edge)
    scaled = np.zeros(np.prod(shape) + 2 * LANES, data.dtype)[: np.prod(shape)].reshape(shape)

    def work(start: int, stop: int) -> None:
        scaled[start:stop, :, edge:-edge] = data[start:stop].transpose(0, 2, 1)
        columns.scale_rays(scaled, edge, setup.rays, setup.grid.voxel_mm, start, stop)

    in_pieces(work, views)
    return scaled


def backproject(projections: Tensor, setup: Setup) -> Tensor:
    """Voxels are independent: pieces are rows of voxels."""
    nz, ny, nx = setup.grid.shape
    whole = columns.Window(slice=0, slices=nz, row=0, rows=setup.geometry.rows)
    data = projections.detach().permute(0, 2, 1)
    volume = np.zeros((ny, nx, nz), _dtype(projections))
    for first in range(0, setup.geometry.views, VIEWS_AT_ONCE):
        views = slice(first, first + VIEWS_AT_ONCE)
        padded = _padded(data[views], (0, columns.MARGIN, columns.MARGIN))
        add_backprojection(
            volume,
            padded,
            matrices=setup.matrices[views],
            distances=setup.distances[views],
            upright=setup.upright,
            window=whole,
        )
    return _slices(volume).to(projections.device)


def add_backprojection(
    volume: np.ndarray,
    padded: np.ndarray,
    *,
    matrices: np.ndarray,
    distances: np.ndarray,
    upright: bool,
    window: columns.Window,
) -> None:
    """Add the backprojection of some views to a volume, or to some of its slices, in the kernels' own layouts.

    Args:
        volume: (y, x, z), changed.
        padded: (view, col, row), with `columns.MARGIN` zeros around columns and rows.
        matrices: from `voxel_to_pixel`, of these views.
        distances: from `source_distances`, of these views.
        upright: from `is_upright`.
        window: where slices and rows lie in the volume and on the detector that the matrices speak of.
    """
    kernels = columns if upright else tilted if tilted.can(volume) else pixelwise

    def work(start: int, stop: int) -> None:
        kernels.backproject(padded, matrices, distances, volume, window, start, stop)

    in_pieces(work, volume.shape[0], size=columns.TILE)


def backproject_adjoint(volume: Tensor, setup: Setup) -> Tensor:
    """Views are independent: pieces are views."""
    geometry, margin = setup.geometry, columns.MARGIN
    turned = np.ascontiguousarray(volume.detach().cpu().numpy().transpose(1, 2, 0))
    distances = setup.distances
    kernels = columns if setup.upright else pixelwise
    out = np.empty((geometry.views, geometry.rows, geometry.cols), turned.dtype)

    def work(start: int, stop: int) -> None:
        part = np.zeros((stop - start, geometry.cols + 2 * margin, geometry.rows + 2 * margin), turned.dtype)
        kernels.backproject_adjoint(turned, setup.matrices[start:stop], distances[start:stop], part, 0, stop - start)
        out[start:stop] = part[:, margin:-margin, margin:-margin].transpose(0, 2, 1)

    in_pieces(work, geometry.views)
    return torch.from_numpy(out).to(volume.device)


def _padded(data: Tensor, margins: tuple[int, int, int]) -> np.ndarray:
    """A copy surrounded by zeros; made by numpy, whose large arrays lie in large pages."""
    shape = tuple(size + 2 * margin for size, margin in zip(data.shape, margins, strict=True))
    padded = np.zeros(shape, _dtype(data))
    inner = tuple(slice(margin, margin + size) for size, margin in zip(data.shape, margins, strict=True))
    _fill(padded[inner], data.cpu().numpy())
    return padded


def _fill(target: np.ndarray, source: np.ndarray) -> None:
    """Copy between arrays of different order along the last two axes; in blocks, which take a quarter of the time."""
    for into, plane in zip(target, source, strict=True):
        for i in range(0, plane.shape[0], BLOCK):
            for j in range(0, plane.shape[1], BLOCK):
                into[i : i + BLOCK, j : j + BLOCK] = plane[i : i + BLOCK, j : j + BLOCK]


def _dtype(data: Tensor) -> type:
    return np.float64 if data.dtype == torch.float64 else np.float32


def _slices(volume: np.ndarray) -> Tensor:
    """A volume (y, x, z) as (z, y, x)."""
    ny, nx, nz = volume.shape
    slices = np.empty((nz, ny, nx), volume.dtype)
    _fill(slices.transpose(1, 0, 2), volume.transpose(0, 2, 1))
    return torch.from_numpy(slices)
