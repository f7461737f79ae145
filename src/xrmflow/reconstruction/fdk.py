"""Feldkamp reconstruction of circular cone-beam scans, parallel beam as its limit (Feldkamp, Davis, Kress 1984)."""

import logging
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from xrmflow.arrays import Reader, Track, Writer, as_float32, blocks, untracked
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import ScanGeometry
from xrmflow.projectors.columns import MARGIN
from xrmflow.projectors.cpu import add_backprojection
from xrmflow.projectors.matrices import is_upright, source_distances, voxel_to_pixel
from xrmflow.projectors.transform import backproject
from xrmflow.reconstruction.filters import Window, extend_rows, ramp_filter
from xrmflow.reconstruction.slabs import CHUNK, SlabPlan, plan_slabs
from xrmflow.reconstruction.weights import cosine_weights, missing_columns, view_weights

logger = logging.getLogger(__name__)


def fdk(
    projections: Tensor,
    geometry: ScanGeometry,
    grid: VolumeGrid,
    *,
    window: Window = "ram-lak",
    truncation_px: int = 0,
) -> Tensor:
    """Attenuation from line integrals by filtered backprojection.

    Full turns, short scans (Parker weights) and parallel scans are told apart by their angles, a full turn with an
    offset detector (Wang weights) by how far its rows reach on both sides of the axis; shifts, roll and tilt of the
    detector are part of the geometry. Rows are filtered as they are recorded, also where the detector is
    rolled or tilted.

    Args:
        projections: (..., view, row, col) line integrals, float32 or float64; gradients flow to them.
        geometry: the scan, mm; gradients flow to its vectors where these ask for them.
        grid: where to reconstruct, mm.
        window: of the ramp filter.
        truncation_px: columns by which rows are continued on both sides, for objects wider than the field of view.

    Returns:
        (..., z, y, x) attenuation, per mm.

    Raises:
        ValueError: shapes that do not fit, an unknown window, fewer than two views.
    """
    expected = (geometry.views, geometry.rows, geometry.cols)
    if tuple(projections.shape[-3:]) != expected:
        raise ValueError(f"projections: expected shape (view, row, col) = {expected}, got {tuple(projections.shape)}")
    added = missing_columns(geometry)
    filtered = filter_views(
        projections, geometry, view_weights(geometry), window=window, truncation_px=truncation_px, added=added
    )
    return backproject(filtered, geometry.widened(*added), grid)


def filter_views(
    projections: Tensor,
    geometry: ScanGeometry,
    weights: Tensor,
    *,
    window: Window,
    truncation_px: int,
    added: tuple[int, int] = (0, 0),
) -> Tensor:
    """Weighted and ramp-filtered projections of some views and rows, ready for `backproject`.

    Args:
        projections: (view, row, col).
        geometry: of exactly these views and rows.
        weights: (view, col), from `view_weights` of the whole scan, these views of it.
        window: as in `fdk`.
        truncation_px: as in `fdk`.
        added: columns without data to filter beyond the first and the last, from `missing_columns`.

    Returns:
        (view, row, added + col + added), per mm.
    """
    cosine = cosine_weights(geometry, projections.dtype).to(projections)
    weighted = projections * cosine * weights[:, None, :].to(projections)
    extended = extend_rows(weighted, truncation_px)
    if any(added):
        extended = torch.nn.functional.pad(extended, added)
    filtered = ramp_filter(extended, window=window)
    return filtered[..., truncation_px : truncation_px + geometry.cols + sum(added)]


def fdk_slabs(
    projections: Reader,
    volume: Writer,
    geometry: ScanGeometry,
    grid: VolumeGrid,
    *,
    window: Window = "ram-lak",
    truncation_px: int = 0,
    prepare: Callable[[Tensor], Tensor] | None = None,
    memory_gb: float = 4.0,
    device: torch.device | str = "cpu",
    track: Track = untracked,
) -> None:
    """`fdk` from a Reader to a Writer, slab by slab, within a memory budget; logs what it will do before it starts.

    A slab needs only a window of detector rows. The window slides with the slabs and its filtered rows are kept, so
    that each row is read and filtered once; where memory does not allow that, every slab reads its own window.

    Args:
        projections: (view, row, col) line integrals.
        volume: (z, y, x), receives attenuation per mm.
        geometry: the scan, mm.
        grid: where to reconstruct, mm.
        window: of the ramp filter.
        truncation_px: columns by which rows are continued on both sides.
        prepare: applied to each block (view, row, col) of line integrals before anything else, e.g. a linearisation.
        memory_gb: what the whole process may use, 1e9 bytes; on a GPU its own free memory decides.
        device: where to work: the CPU, or an NVIDIA GPU.
        track: shows progress.

    Raises:
        ValueError: shapes that do not fit, or projections that are not finite.
        SettingsError: too small a budget for a single slice.
    """
    _check_shapes(projections, volume, geometry, grid)
    added, weights = missing_columns(geometry), view_weights(geometry)
    wide = geometry.widened(*added)

    @torch.no_grad()
    def filter_block(block: Tensor, views: slice, rows: slice) -> Tensor:
        seen = geometry.with_views(views).with_rows(rows)
        data = block if prepare is None else prepare(block)
        return filter_views(data, seen, weights[views], window=window, truncation_px=truncation_px, added=added)

    if torch.device(device).type == "cuda":
        # Not imported where there is no GPU: it needs Triton.
        from xrmflow.reconstruction import fdk_gpu

        return fdk_gpu.fdk_slabs(
            projections, volume, wide, grid, filtered=filter_block, device=torch.device(device), track=track
        )
    matrices = voxel_to_pixel(wide, grid)
    plan = plan_slabs(
        matrices.numpy(),
        grid,
        detector=(wide.rows, wide.cols),
        memory_bytes=memory_gb * 1e9,
        truncation_px=truncation_px,
    )
    _log_plan(plan, geometry, grid)
    upright = is_upright(matrices, grid)

    def filtered(views: slice, rows: slice) -> Iterator[tuple[slice, np.ndarray]]:
        block = _finite(as_float32(projections[views, rows]), views, rows)
        for part in blocks(len(block), plan.filter_views):
            some = slice(views.start + part.start, views.start + part.stop)
            yield part, filter_block(torch.from_numpy(block[part]), some, rows).numpy()

    windows = _Windows(plan, cols=wide.cols, filtered=filtered)
    slab = np.empty(0, np.float32)
    for number, views in track(plan.steps, total=len(plan.steps), label="fdk"):
        part = grid.slab(plan.slabs[number])
        seen = wide.with_views(views).with_rows(plan.window(number))
        if views.start == 0:
            slab = np.zeros((*part.shape[1:], part.shape[0]), np.float32)
        add_backprojection(
            slab,
            windows.fill(number, views),
            matrices=voxel_to_pixel(seen, part).numpy(),
            distances=np.ascontiguousarray(source_distances(seen, part).numpy()),
            upright=upright,
        )
        if views.stop == geometry.views:
            _write(volume, plan.slabs[number], slab)


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
    """Write a slab (y, x, z) chunk by chunk, so that the turned copy stays small."""
    for rows in blocks(slab.shape[2], CHUNK):
        target = slice(where.start + rows.start, where.start + rows.stop)
        volume[target] = np.ascontiguousarray(slab[:, :, rows].transpose(2, 0, 1))


def _finite(block: np.ndarray, views: slice, rows: slice) -> np.ndarray:
    if not np.isfinite(block).all():
        where = f"views {views.start} to {views.stop}, rows {rows.start} to {rows.stop}"
        raise ValueError(f"projections: expected finite line integrals, got NaN or infinity in {where}")
    return block


def _check_shapes(projections: Reader, volume: Writer, geometry: ScanGeometry, grid: VolumeGrid) -> None:
    expected = (geometry.views, geometry.rows, geometry.cols)
    if tuple(projections.shape) != expected:
        raise ValueError(f"projections: expected shape (view, row, col) = {expected}, got {tuple(projections.shape)}")
    if tuple(volume.shape) != tuple(grid.shape):
        raise ValueError(f"volume: expected shape (z, y, x) = {tuple(grid.shape)}, got {tuple(volume.shape)}")


def _log_plan(plan: SlabPlan, geometry: ScanGeometry, grid: VolumeGrid) -> None:
    row_bytes = 4e-9 * geometry.views * geometry.cols
    logger.info(
        "fdk: %d x %d x %d voxels from %d views in %d slab(s) of up to %d slices, windows of %d of %d detector rows; "
        "reads %.2f GB (%d rows), writes %.2f GB, needs %.3f GB of memory",
        *grid.shape,
        geometry.views,
        len(plan.slabs),
        plan.slabs[0].stop,
        plan.height,
        geometry.rows,
        row_bytes * plan.rows_filtered,
        plan.rows_filtered,
        4e-9 * float(np.prod(grid.shape)),
        plan.total_bytes / 1e9,
    )
