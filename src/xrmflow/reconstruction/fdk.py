"""Feldkamp reconstruction of circular cone-beam scans, parallel beam as its limit (Feldkamp, Davis, Kress 1984)."""

from collections.abc import Callable

import torch
from torch import Tensor

from xrmflow.arrays import Reader, Track, Writer, untracked
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import ScanGeometry, check_projections
from xrmflow.projectors.columns import ALIGNED
from xrmflow.projectors.transform import backproject
from xrmflow.reconstruction import fdk_cpu
from xrmflow.reconstruction.filters import Window, extend_rows, ramp_filter
from xrmflow.reconstruction.weights import cosine_weights, missing_columns, view_weights


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
    check_projections(projections.shape[-3:], geometry)
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
    rows: slice = slice(None),
    window: Window,
    truncation_px: int,
    added: tuple[int, int] = (0, 0),
) -> Tensor:
    """Weighted and ramp-filtered projections of some views and rows, ready for `backproject`.

    Args:
        projections: (view, row, col).
        geometry: of exactly these views, all rows.
        weights: (view, col), from `view_weights` of the whole scan, these views of it.
        rows: the detector rows that are given.
        window: as in `fdk`.
        truncation_px: as in `fdk`.
        added: columns without data to filter beyond the first and the last, from `missing_columns`.

    Returns:
        (view, row, added + col + added), per mm.
    """
    cosine = cosine_weights(geometry, projections.dtype, rows=rows).to(projections)
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
    slices: slice = slice(None),
    window: Window = "ram-lak",
    truncation_px: int = 0,
    prepare: Callable[[Tensor], Tensor] | None = None,
    memory_gb: float = 4.0,
    device: torch.device | str = "cpu",
    track: Track = untracked,
) -> None:
    """`fdk` from a Reader to a Writer, slab by slab, within a memory budget; logs what it will do before it starts.

    A slab needs only a window of detector rows. The window slides with the slabs and its filtered rows are kept, so
    that each row is read and filtered once; where memory does not allow that, every slab reads its own window. On a
    CPU the result is the same bit by bit whatever the budget and whichever slices are asked for.

    Args:
        projections: (view, row, col) line integrals.
        volume: (z, y, x), receives attenuation per mm.
        geometry: the scan, mm.
        grid: where to reconstruct, mm.
        slices: of the volume, the only ones that are reconstructed and written; from a multiple of 64 on.
        window: of the ramp filter.
        truncation_px: columns by which rows are continued on both sides.
        prepare: applied to each block (view, row, col) of line integrals before anything else, e.g. a linearisation.
        memory_gb: what the whole process may use, 1e9 bytes; on a GPU its own free memory decides.
        device: where to work: the CPU, or an NVIDIA GPU.
        track: shows progress.

    Raises:
        ValueError: shapes or slices that do not fit, or projections that are not finite.
        SettingsError: too small a budget for a single slice.
    """
    _check_shapes(projections, volume, geometry, grid)
    some = _checked(slices, grid)
    added, weights = missing_columns(geometry), view_weights(geometry)
    wide = geometry.widened(*added)

    @torch.no_grad()
    def filtered(block: Tensor, views: slice, rows: slice) -> Tensor:
        _check_finite(block, views, rows)
        data = block if prepare is None else prepare(block)
        return filter_views(
            data,
            geometry.with_views(views),
            weights[views],
            rows=rows,
            window=window,
            truncation_px=truncation_px,
            added=added,
        )

    if torch.device(device).type == "cpu":
        return fdk_cpu.fdk_slabs(
            projections,
            volume,
            wide,
            grid,
            slices=some,
            filtered=filtered,
            truncation_px=truncation_px,
            memory_gb=memory_gb,
            track=track,
        )
    # Not imported where there is no GPU: it needs Triton.
    from xrmflow.reconstruction import fdk_gpu

    return fdk_gpu.fdk_slabs(
        projections, volume, wide, grid, slices=some, filtered=filtered, device=torch.device(device), track=track
    )


def _checked(slices: slice, grid: VolumeGrid) -> slice:
    """The slices with both ends."""
    start, stop, step = slices.indices(grid.shape[0])
    if start >= stop or step != 1 or start % ALIGNED:
        raise ValueError(f"slices: expected some of {grid.shape[0]} from a multiple of {ALIGNED} on, got {slices}")
    return slice(start, stop)


def _check_finite(block: Tensor, views: slice, rows: slice) -> None:
    if not bool(torch.isfinite(block).all()):
        where = f"views {views.start} to {views.stop}, rows {rows.start} to {rows.stop}"
        raise ValueError(f"projections: expected finite line integrals, got NaN or infinity in {where}")


def _check_shapes(projections: Reader, volume: Writer, geometry: ScanGeometry, grid: VolumeGrid) -> None:
    check_projections(projections.shape, geometry)
    if tuple(volume.shape) != tuple(grid.shape):
        raise ValueError(f"volume: expected shape (z, y, x) = {tuple(grid.shape)}, got {tuple(volume.shape)}")
