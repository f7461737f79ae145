"""The streamed FDK on the CPU: slabs of slices, and windows of filtered detector rows that slide along with them."""

import logging
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from xrmflow.arrays import Reader, Track, Writer, as_float32, blocks, untracked
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import ScanGeometry
from xrmflow.projectors.columns import MARGIN, Window
from xrmflow.projectors.cpu import add_backprojection
from xrmflow.projectors.matrices import is_upright, source_distances, voxel_to_pixel
from xrmflow.reconstruction.slabs import CHUNK, SlabPlan, plan_slabs

logger = logging.getLogger(__name__)


def fdk_slabs(
    projections: Reader,
    volume: Writer,
    geometry: ScanGeometry,
    grid: VolumeGrid,
    *,
    slices: slice,
    filtered: Callable[[Tensor, slice, slice], Tensor],
    truncation_px: int,
    memory_gb: float,
    track: Track = untracked,
) -> None:
    """Reconstruct from a Reader to a Writer within a memory budget; arguments as checked by the caller.

    A slab needs only a window of detector rows. The window slides with the slabs and its filtered rows are kept, so
    that each row is read and filtered once; where memory does not allow that, every slab reads its own window.

    Args:
        projections: (view, row, col) line integrals.
        volume: (z, y, x), receives attenuation per mm.
        geometry: the scan as filtered: an offset detector with the columns that filtering adds.
        grid: the volume's grid, mm.
        slices: of it, those to reconstruct.
        filtered: from a block and its views and rows to filtered projections.
        truncation_px: columns by which filtering continues rows on both sides; it decides what memory that takes.
        memory_gb: what the whole process may use, 1e9 bytes.
        track: shows progress.

    Raises:
        SettingsError: too small a budget for the thinnest slabs.
    """
    matrices, distances = voxel_to_pixel(geometry, grid), source_distances(geometry, grid).contiguous()
    plan = plan_slabs(
        matrices.numpy(),
        grid,
        detector=(geometry.rows, geometry.cols),
        memory_bytes=memory_gb * 1e9,
        truncation_px=truncation_px,
        slices=slices,
    )
    _log_plan(plan, projections, grid)
    upright = is_upright(matrices, grid)

    def filtered_parts(views: slice, rows: slice) -> Iterator[tuple[slice, np.ndarray]]:
        block = as_float32(projections[views, rows])
        for part in blocks(len(block), plan.filter_views):
            some = slice(views.start + part.start, views.start + part.stop)
            yield part, filtered(torch.from_numpy(block[part]), some, rows).numpy()

    windows = _Windows(plan, cols=geometry.cols, filtered=filtered_parts)
    slab = np.empty(0, np.float32)
    for number, views in track(plan.steps, total=len(plan.steps), label="fdk"):
        part = plan.slabs[number]
        if views.start == 0:
            slab = np.zeros((*grid.shape[1:], part.stop - part.start), np.float32)
        add_backprojection(
            slab,
            windows.fill(number, views),
            matrices=matrices[views].numpy(),
            distances=distances[views].numpy(),
            upright=upright,
            window=Window(slice=part.start, slices=grid.shape[0], row=plan.starts[number], rows=geometry.rows),
        )
        if views.stop == geometry.views:
            _write(volume, part, slab)


class _Windows:
    """Filtered detector rows in the layout of the backprojector, sliding from slab to slab."""

    def __init__(
        self, plan: SlabPlan, *, cols: int, filtered: Callable[[slice, slice], Iterator[tuple[slice, np.ndarray]]]
    ) -> None:
        self._plan, self._filtered = plan, filtered
        self._shape = (cols + 2 * MARGIN, plan.height + 2 * MARGIN)
        self._held: dict[int, np.ndarray] = {}

    def fill(self, number: int, views: slice) -> np.ndarray:
        """(view, col, row) with margins, of the window of slab `number`; valid until the next call."""
        key = views.start if self._plan.hold else 0
        held = self._held.get(key)
        if held is None or len(held) != views.stop - views.start:
            held = self._held[key] = np.zeros((views.stop - views.start, *self._shape), np.float32)
        start, height = self._plan.starts[number], self._plan.height
        fresh = slice(0, height)
        if self._plan.hold and number > 0:
            fresh = _slide(held, start - self._plan.starts[number - 1], height)
        if fresh.stop > fresh.start:
            rows = slice(MARGIN + fresh.start, MARGIN + fresh.stop)
            for part, values in self._filtered(views, slice(start + fresh.start, start + fresh.stop)):
                held[part, MARGIN:-MARGIN, rows] = values.transpose(0, 2, 1)
        return held


def _slide(held: np.ndarray, by: int, height: int) -> slice:
    """Move the rows of a window that starts `by` rows further on; returns the rows that are new in it."""
    kept = max(0, height - abs(by))
    into = slice(MARGIN, MARGIN + kept) if by >= 0 else slice(MARGIN - by, MARGIN - by + kept)
    if by != 0 and kept:
        for view in held:
            view[:, into] = view[:, into.start + by : into.stop + by].copy()
    return slice(kept, height) if by >= 0 else slice(0, height - kept)


def _write(volume: Writer, where: slice, slab: np.ndarray) -> None:
    """Write a slab (y, x, z) chunk by chunk. The writer turns what it writes, so that no turned copy is held."""
    for rows in blocks(slab.shape[2], CHUNK):
        target = slice(where.start + rows.start, where.start + rows.stop)
        volume[target] = slab[:, :, rows].transpose(2, 0, 1)


def _log_plan(plan: SlabPlan, projections: Reader, grid: VolumeGrid) -> None:
    views, rows, cols = projections.shape
    row_bytes, slices = 4e-9 * views * cols, plan.slabs[-1].stop - plan.slabs[0].start
    logger.info(
        "fdk: %d x %d x %d voxels from %d views in %d slab(s) of up to %d slices, windows of %d of %d detector rows; "
        "reads %.2f GB (%d rows), writes %.2f GB, needs %.3f GB of memory",
        slices,
        *grid.shape[1:],
        views,
        len(plan.slabs),
        plan.slabs[0].stop - plan.slabs[0].start,
        plan.height,
        rows,
        row_bytes * plan.rows_filtered,
        plan.rows_filtered,
        4e-9 * slices * float(np.prod(grid.shape[1:])),
        plan.total_bytes / 1e9,
    )
