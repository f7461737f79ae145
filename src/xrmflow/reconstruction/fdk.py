"""Feldkamp reconstruction of circular cone-beam scans, parallel beam as its limit (Feldkamp, Davis, Kress 1984)."""

from torch import Tensor

from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import ScanGeometry
from xrmflow.projectors.transform import backproject
from xrmflow.reconstruction.filters import Window, extend_rows, ramp_filter
from xrmflow.reconstruction.weights import cosine_weights, view_weights


def natural_grid(acquisition: Acquisition) -> VolumeGrid:
    """One voxel a pixel: (rows, cols, cols) voxels of the pixel size at the axis, centred on it, slices at detector rows."""
    voxel = acquisition.voxel_mm
    height = voxel * ((acquisition.rows - 1) / 2 - acquisition.midplane_px)
    return VolumeGrid((acquisition.rows, acquisition.cols, acquisition.cols), voxel, (0.0, 0.0, height))


def fdk(
    projections: Tensor,
    geometry: ScanGeometry,
    grid: VolumeGrid,
    *,
    window: Window = "ram-lak",
    truncation_px: int = 0,
) -> Tensor:
    """Attenuation from line integrals by filtered backprojection.

    Full turns, short scans (Parker weights) and parallel scans are told apart by their angles; shifts, roll and tilt
    of the detector are part of the geometry. Rows are filtered as they are recorded, also where the detector is
    rolled or tilted.

    Args:
        projections: (view, row, col) line integrals, float32 or float64; gradients flow to them.
        geometry: the scan, mm.
        grid: where to reconstruct, mm.
        window: of the ramp filter.
        truncation_px: columns by which rows are continued on both sides, for objects wider than the field of view.

    Returns:
        (z, y, x) attenuation, per mm.

    Raises:
        ValueError: shapes that do not fit, an unknown window, fewer than two views.
    """
    expected = (geometry.views, geometry.rows, geometry.cols)
    if tuple(projections.shape) != expected:
        raise ValueError(f"projections: expected shape (view, row, col) = {expected}, got {tuple(projections.shape)}")
    filtered = filter_views(projections, geometry, view_weights(geometry), window=window, truncation_px=truncation_px)
    return backproject(filtered, geometry, grid)


def filter_views(
    projections: Tensor, geometry: ScanGeometry, weights: Tensor, *, window: Window, truncation_px: int
) -> Tensor:
    """Weighted and ramp-filtered projections of some views and rows, ready for `backproject`.

    Args:
        projections: (view, row, col).
        geometry: of exactly these views and rows.
        weights: (view, col), from `view_weights` of the whole scan, these views of it.
        window: as in `fdk`.
        truncation_px: as in `fdk`.

    Returns:
        (view, row, col), per mm.
    """
    weights = (cosine_weights(geometry) * weights[:, None, :]).to(projections)
    extended = extend_rows(projections * weights, truncation_px)
    filtered = ramp_filter(extended, window=window)
    return filtered[..., truncation_px : truncation_px + geometry.cols]
