"""Basis volumes: the reconstruction of each power of the line integrals, on a slab of slices.

FDK is linear, so a volume corrected with p' = sum c_i p^i is sum c_i FDK(p^i): each power is reconstructed once, and
every trial of coefficients costs a sum of volumes.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from xrmflow.arrays import Reader, as_float32
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import ScanGeometry, check_projections, scan_geometry
from xrmflow.projectors.matrices import row_window, voxel_to_pixel
from xrmflow.reconstruction.fdk import fdk

MOST_COLS = 320
VIEWS_A_COLUMN = 2.0
ROUNDING_PX = 1e-6
# An object is cut off where the outermost columns show this share of the brightest.
TRUNCATED_SHARE, EDGE_COLS = 0.05, 3


@dataclass(frozen=True)
class Slab:
    """A slab of slices and the (binned) projections it is made of.

    Attributes:
        powers: (degree, view, row, col) p, p^2, ..., each averaged over the pixels of a bin.
        geometry: of these views, rows and columns.
        grid: the slab.
        largest: largest line integral, leaving out the rarest 1 in 10,000.
    """

    powers: Tensor
    geometry: ScanGeometry
    grid: VolumeGrid
    largest: float

    def basis(self) -> Tensor:
        """(degree, z, y, x) reconstruction of each power, per mm."""
        return torch.stack([fdk(power, self.geometry, self.grid) for power in self.powers])

    def whole_rows(self) -> slice:
        """Rows of which every ray stays within the height of the slab, wherever it crosses its grid."""
        lowest, highest = (_rows_of(self.geometry, self.grid, k) for k in (0, self.grid.shape[0] - 1))
        start = max(0, int(np.ceil(lowest.max() - 0.5)))
        return slice(start, max(start, min(self.geometry.rows, int(np.floor(highest.min() + 0.5)) + 1)))

    def is_cut_off(self) -> bool:
        """Whether the object reaches beyond both edges of the detector: an offset one sees past it with one of them."""
        columns = self.powers[0].mean(dim=1)
        ends = [columns[:, side].mean(dim=1).max() for side in (slice(EDGE_COLS), slice(-EDGE_COLS, None))]
        return bool(min(ends) > TRUNCATED_SHARE * columns.mean(dim=0).max())

    def is_finite(self) -> bool:
        """Whether all line integrals, and their powers, are numbers."""
        return bool(torch.isfinite(self.powers).all())

    def halves(self) -> Tensor:
        """(2, z, y, x) reconstruction of p from the even and from the odd views."""
        parts = [slice(first, None, 2) for first in (0, 1)]
        return torch.stack([fdk(self.powers[0][part], self.geometry.with_views(part), self.grid) for part in parts])


def load_slab(
    projections: Reader,
    acquisition: Acquisition,
    *,
    degree: int,
    slices: int,
    device: torch.device | str = "cpu",
) -> Slab:
    """Read what a slab of slices around the middle of the detector needs; large detectors are binned.

    Args:
        projections: (view, row, col) line integrals.
        acquisition: calibrated geometry.
        degree: highest power.
        slices: natural slices, one detector pixel at the axis high each.
        device: where the slab lives.

    Raises:
        ValueError: projections of another shape than the acquisition, degree or slices below one.
    """
    check_projections(projections.shape, acquisition)
    if degree < 1 or slices < 1:
        raise ValueError(f"degree, slices: expected at least 1 each, got {degree}, {slices}")
    binning = -(-acquisition.cols // MOST_COLS)
    step = max(1, int(acquisition.views / (VIEWS_A_COLUMN * acquisition.cols / binning)))
    kept = acquisition.with_views(slice(None, None, step))
    voxel = acquisition.voxel_mm * binning
    middle = acquisition.voxel_mm * ((acquisition.rows - 1) / 2 - acquisition.midplane_px)
    size = acquisition.cols // binning
    geometry = scan_geometry(kept)
    height = max(1, min(slices, acquisition.rows) // binning)
    grid = VolumeGrid((height, size, size), voxel, (0.0, 0.0, middle))
    while grid.shape[0] > 1 and not _is_seen(geometry, grid):
        grid = VolumeGrid((grid.shape[0] - 1, size, size), voxel, (0.0, 0.0, middle))
    start, stop = row_window(voxel_to_pixel(geometry, grid).numpy(), grid, slice(0, grid.shape[0]), acquisition.rows)
    stop = min(acquisition.rows, start + max(binning, (stop - start) // binning * binning))
    p = torch.from_numpy(as_float32(projections[:, start:stop][::step])).to(device)
    largest = float(np.quantile(p.flatten()[:: max(1, p.numel() // 1_000_000)].cpu().numpy(), 0.9999))
    powers = torch.stack([_pooled(p**power, binning) for power in range(1, degree + 1)])
    return Slab(powers, pooled_geometry(geometry.with_rows(slice(start, stop)), binning), grid, largest)


def _is_seen(geometry: ScanGeometry, grid: VolumeGrid) -> bool:
    """Whether every view sees the whole height of the slab.

    A voxel must project between the centres of the first and the last row: beyond them interpolation counts half of
    what is missing as nothing. End slices that a few views see so made a coefficient 9 % too small.
    """
    row = np.concatenate([_rows_of(geometry, grid, k) for k in (0, grid.shape[0] - 1)])
    return bool(row.min() >= -ROUNDING_PX and row.max() <= geometry.rows - 1 + ROUNDING_PX)


def _rows_of(geometry: ScanGeometry, grid: VolumeGrid, k: int) -> np.ndarray:
    """Rows at which the corners of slice k are seen in each view."""
    _, ny, nx = grid.shape
    corners = np.array([(i, j, k, 1) for i in (0, nx - 1) for j in (0, ny - 1)], dtype=float)
    _, row, w = np.moveaxis(voxel_to_pixel(geometry, grid).numpy() @ corners.T, 1, 0)
    return row / w


def _pooled(images: Tensor, binning: int) -> Tensor:
    return images if binning == 1 else avg_pool2d(images, (_high(images.shape[1], binning), binning))


def _high(rows: int, binning: int) -> int:
    """Rows in a group: as many as columns, or as the detector has."""
    return min(binning, rows)


def pooled_geometry(geometry: ScanGeometry, binning: int) -> ScanGeometry:
    """The scan as seen by square groups of pixels; rows and columns that fill no group are left out.

    Where there are fewer rows than a group is high, groups are as high as the detector.
    """
    if binning == 1:
        return geometry
    high = _high(geometry.rows, binning)
    rows, cols = geometry.rows // high, geometry.cols // binning
    across = (cols * binning - 1) / 2 - (geometry.cols - 1) / 2
    up = (rows * high - 1) / 2 - (geometry.rows - 1) / 2
    moved = geometry.detector + geometry.u * across + geometry.v * up
    return replace(geometry, detector=moved, u=geometry.u * binning, v=geometry.v * high, rows=rows, cols=cols)
