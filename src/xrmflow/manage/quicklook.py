"""A coarse look at a scan: some of the views, binned, corrected in the plainest way, and a few slices of it."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from xrmflow.arrays import Reader, Track, untracked
from xrmflow.config.ingest import IngestSection
from xrmflow.correction.defects import defects_in_flat, fill
from xrmflow.correction.outliers import find_outliers, replace_outliers
from xrmflow.correction.references import estimated_flat
from xrmflow.correction.transmission import line_integrals, open_beam, transmission
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.scan import scan_geometry
from xrmflow.io.nominal import exposures, nominal_acquisition, oriented, unattenuated, what_frames_hold
from xrmflow.io.raw_scan import RawScan
from xrmflow.reconstruction.fdk import fdk
from xrmflow.reconstruction.grids import region_grid

DEAD_PIXEL_TOLERANCE = 0.5
OUTLIER_SIGMAS = 8.0


@dataclass(frozen=True)
class Quicklook:
    """A scan made small.

    Attributes:
        projections: (view, row, col) line integrals, dimensionless.
        acquisition: of exactly these views and pixels.
        binning: pixels of the scan to one of these, along rows and columns.
        view_step: every how many views one was taken.
        views_recorded: views of the whole scan.
    """

    projections: Tensor
    acquisition: Acquisition
    binning: tuple[int, int]
    view_step: int
    views_recorded: int


def quicklook(
    scan: RawScan, params: IngestSection, *, max_cols: int = 256, max_views: int = 360, track: Track = untracked
) -> Quicklook:
    """Read every n-th view, bin it, and take minus the logarithm of what was transmitted.

    Args:
        scan: the opened scan.
        params: its ingest settings.
        max_cols: columns at most.
        max_views: views at most.
        track: shows progress.
    """
    acquisition, _ = nominal_acquisition(scan, params)
    across = -(-acquisition.cols // max_cols)
    binning = (min(across, acquisition.rows), across)
    step = -(-acquisition.views // max_views)
    counts = _binned_stack(oriented(scan.projections, scan, params), binning, step, track)
    small = binned_acquisition(acquisition.with_views(slice(None, None, step)), binning)
    return Quicklook(_line_integrals(counts, scan, params, binning), small, binning, step, acquisition.views)


def binned_acquisition(acquisition: Acquisition, binning: tuple[int, int]) -> Acquisition:
    """The acquisition of frames binned by (rows, columns); what does not fill a pixel at the end is dropped.

    Column c of the scan becomes (c + 1/2) / b - 1/2. A pixel that is not square any more keeps the columns' pitch, so
    rows should be binned alike unless there are too few of them to matter (a parallel beam's slices are independent).
    """
    along, across = binning
    return replace(
        acquisition,
        rows=acquisition.rows // along,
        cols=acquisition.cols // across,
        pixel_mm=acquisition.pixel_mm * across,
        centre_px=(acquisition.centre_px + 0.5) / across - 0.5,
        midplane_px=(acquisition.midplane_px + 0.5) / along - 0.5,
        shift_u_px=tuple(u / across for u in acquisition.shift_u_px),
        shift_v_px=tuple(v / along for v in acquisition.shift_v_px),
    )


def slices(look: Quicklook, *, rows: list[float], centre_px: float, window: str = "hann") -> np.ndarray:
    """Reconstruct single slices.

    Args:
        look: the small scan.
        rows: detector rows (of the small scan) at whose height, seen at the axis, the slices lie.
        centre_px: column of the rotation axis in the small scan.
        window: of the ramp filter.

    Returns:
        (slice, y, x) attenuation per mm, or per voxel when uncalibrated.
    """
    acquisition = replace(look.acquisition, centre_px=centre_px)
    geometry = scan_geometry(acquisition)
    shape = (1, acquisition.cols, acquisition.cols)
    found = []
    for row in rows:
        height = (row - acquisition.midplane_px) * acquisition.voxel_mm
        grid = region_grid(acquisition, shape=shape, centre_mm=(0.0, 0.0, height))
        found.append(fdk(look.projections, geometry, grid, window=window)[0].numpy())  # type: ignore[arg-type]
    return np.stack(found)


def bin_frames(frames: np.ndarray, binning: tuple[int, int]) -> np.ndarray:
    """Mean over blocks of (rows, columns) pixels, float32; (..., row, col)."""
    along, across = binning
    rows, cols = frames.shape[-2] // along, frames.shape[-1] // across
    cut = frames[..., : rows * along, : cols * across].astype(np.float32, copy=False)
    return cut.reshape(*frames.shape[:-2], rows, along, cols, across).mean(axis=(-3, -1))


def _binned_stack(frames: Reader, binning: tuple[int, int], step: int, track: Track) -> np.ndarray:
    picked = range(0, frames.shape[0], step)
    parts = [bin_frames(np.asarray(frames[k]), binning) for k in track(picked, total=len(picked), label="reading")]
    return np.stack(parts)


def _line_integrals(counts: np.ndarray, scan: RawScan, params: IngestSection, binning: tuple[int, int]) -> Tensor:
    data = torch.from_numpy(counts)
    holds = what_frames_hold(scan, params)
    if holds == "line_integral":
        return data
    if holds == "transmission":
        return line_integrals(_without_zingers(data / unattenuated(scan, params)))
    dark = _mean_reference(scan.darks, scan, params, binning)
    flat = _mean_reference(scan.flats, scan, params, binning)
    if flat is None:
        beam = estimated_flat(counts, width=max(2, counts.shape[2] // 32))
        return line_integrals(_without_zingers(transmission(data, 0.0, beam)))
    exposure_s, flat_exposure_s = exposures(scan, params)
    ratio = exposure_s / flat_exposure_s if exposure_s and flat_exposure_s else 1.0
    offset = 0.0 if dark is None else dark
    beam = open_beam(flat, offset, exposure_ratio=ratio)
    dead = defects_in_flat(beam, tolerance=DEAD_PIXEL_TOLERANCE)
    return line_integrals(_without_zingers(fill(transmission(data, offset, beam), dead)))


def _without_zingers(transmitted: Tensor) -> Tensor:
    return replace_outliers(transmitted, find_outliers(transmitted, sigmas=OUTLIER_SIGMAS))


def _mean_reference(
    frames: Reader | None, scan: RawScan, params: IngestSection, binning: tuple[int, int], most: int = 20
) -> Tensor | None:
    if frames is None:
        return None
    source = oriented(frames, scan, params)
    picked = range(0, source.shape[0], -(-source.shape[0] // most))
    return torch.from_numpy(np.mean([bin_frames(np.asarray(source[k]), binning) for k in picked], axis=0))
