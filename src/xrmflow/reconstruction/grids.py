"""Which voxels to reconstruct."""

import math

from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import scan_geometry
from xrmflow.reconstruction.weights import missing_columns


def natural_grid(acquisition: Acquisition) -> VolumeGrid:
    """One voxel a pixel: (rows, cols, cols) voxels of a pixel's size at the axis, centred on it, slices at the rows.

    An offset detector sees farther than its width: there the slices reach as far as its far edge on all sides.
    """
    return region_grid(acquisition)


def region_grid(
    acquisition: Acquisition,
    *,
    voxel_mm: float | None = None,
    shape: tuple[int, int, int] | None = None,
    centre_mm: tuple[float, ...] | None = None,
) -> VolumeGrid:
    """A grid of any voxel size and extent; what is not given is taken from the detector.

    Args:
        acquisition: the scan.
        voxel_mm: edge of a voxel, mm; default the size of a pixel at the rotation axis.
        shape: (z, y, x) voxels; default covers the detector as seen at the axis.
        centre_mm: (x, y, z), mm; default the axis at the height of the detector's middle row.

    Raises:
        ValueError: a size that is not positive.
    """
    natural = acquisition.voxel_mm
    voxel = natural if voxel_mm is None else voxel_mm
    if centre_mm is None:
        centre_mm = (0.0, 0.0, natural * ((acquisition.rows - 1) / 2 - acquisition.midplane_px))
    x, y, z = centre_mm
    if shape is None:
        seen = acquisition.cols + sum(missing_columns(scan_geometry(acquisition)))
        height, width = (math.ceil(size * natural / voxel - 1e-6) for size in (acquisition.rows, seen))
        shape = (height, width, width)
    return VolumeGrid(shape, voxel, (x, y, z))
