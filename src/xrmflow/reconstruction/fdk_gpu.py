"""The streamed FDK on an NVIDIA GPU: the slab, its detector rows and all arithmetic stay on the card.

Filtering is cheap there, so that every slab filters its own window of rows and nothing is held between slabs.
"""

import logging
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from xrmflow.arrays import Reader, Track, Writer, as_float32, blocks, untracked
from xrmflow.errors import SettingsError
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import ScanGeometry
from xrmflow.projectors import gpu
from xrmflow.projectors.gpu_launch import TILING, Tiling
from xrmflow.projectors.matrices import row_window
from xrmflow.projectors.setup import Setup
from xrmflow.reconstruction.slabs import CHUNK, FILTER_COPIES, FLOAT, slabs_of

logger = logging.getLogger(__name__)

# Views uploaded at a time: as many as a chunk of projection stores holds.
VIEWS_AT_ONCE = 32
# The part of the card's free memory that is planned with.
SHARE = 0.85


def fdk_slabs(
    projections: Reader,
    volume: Writer,
    geometry: ScanGeometry,
    grid: VolumeGrid,
    *,
    slices: slice,
    filtered: Callable[[Tensor, slice, slice], Tensor],
    device: torch.device,
    memory_bytes: float | None = None,
    track: Track = untracked,
    tiling: Tiling = TILING,
) -> None:
    """Reconstruct from a Reader to a Writer, in slabs that the card holds; arguments as checked by the caller.

    Args:
        projections: (view, row, col) line integrals.
        volume: (z, y, x), receives attenuation per mm.
        geometry: the scan as filtered: an offset detector with the columns that filtering adds.
        grid: the volume's grid, mm.
        slices: of it, those to reconstruct.
        filtered: from a block and its views and rows to filtered projections, on the block's device.
        device: where to work.
        memory_bytes: of the card; found out when not given.
        track: shows progress.
        tiling: how kernels cut their work.

    Raises:
        SettingsError: a card that does not hold a single slice.
    """
    free = SHARE * torch.cuda.mem_get_info(device)[0] if memory_bytes is None else memory_bytes
    setup = Setup(geometry, grid)
    slabs = _slabs(setup, slices, free)
    logger.info("fdk: %d x %d x %d voxels in %d slab(s) of up to %d slices on %s",
                *grid.shape, len(slabs), slabs[0].stop - slabs[0].start, device)  # fmt: skip
    steps = [(slab, views) for slab in slabs for views in blocks(geometry.views, VIEWS_AT_ONCE)]
    part = torch.empty(0)
    for slab, views in track(steps, total=len(steps), label="fdk"):
        where = grid.slab(slab)
        rows = slice(*row_window(setup.matrices, grid, slab, geometry.rows))
        if views.start == 0:
            part = torch.zeros((*where.shape[1:], where.shape[0]), device=device)
        if rows.stop > rows.start:
            block = torch.from_numpy(as_float32(projections[views, rows])).to(device)
            seen = Setup(geometry.with_rows(rows), where)
            gpu.add_backprojection(part, filtered(block, views, rows), seen, views, tiling=tiling)
        if views.stop == geometry.views:
            _write(volume, slab, part)


def _slabs(setup: Setup, slices: slice, free: float) -> list[slice]:
    """The tallest slabs, in multiples of a chunk of volume stores, that fit with the rows they need."""
    _, ny, nx = setup.grid.shape
    nz = slices.stop - slices.start
    rows, cols = setup.geometry.rows, setup.geometry.cols
    for height in [nz, *range((nz - 1) // CHUNK * CHUNK, 0, -CHUNK), *(h for h in (16, 4, 1) if h < nz)]:
        slabs = slabs_of(slices, height)
        windows = (row_window(setup.matrices, setup.grid, slab, rows) for slab in slabs)
        tallest = max(stop - start for start, stop in windows)
        needed = FLOAT * (height * ny * nx + FILTER_COPIES * VIEWS_AT_ONCE * tallest * cols)
        if needed <= free:
            return slabs
    raise SettingsError(
        f"device: expected a GPU with at least {needed / 1e9:.2f} GB free for this scan, got {free / 1e9:.2f}; "
        "reconstruct on the CPU (device: cpu), or fewer or larger voxels"
    )


def _write(volume: Writer, where: slice, slab: Tensor) -> None:
    """Write a slab (y, x, z) chunk by chunk, so that the turned copy stays small."""
    for rows in blocks(slab.shape[2], CHUNK):
        values = slab[:, :, rows].permute(2, 0, 1).contiguous().cpu().numpy()
        volume[slice(where.start + rows.start, where.start + rows.stop)] = np.ascontiguousarray(values)
