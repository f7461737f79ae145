"""What a volume cannot explain of its own scan: B q = q - A F q with F the reconstruction and A the reprojection.

A detector that is shifted, turned or tilted behind an unmoved source records the same rays elsewhere. So the images
are first drawn as an upright, centred detector would have recorded them (`Level.images`), and F, A and B stay the same
whatever the geometry that is tried: only the images move. Images drawn with the right geometry are (nearly) reproduced
by their own reconstruction, so B q is what is inconsistent. A displacement d changes it by B (gradient of q . d), in
which what the volume absorbs counts no more (variable projection, with FDK in place of the least-squares volume).

All of it is done on coarse pixels, of which each view says little that the others do not, and band-passed along the
columns, because low frequencies belong to beam hardening, scatter and truncation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.ndimage import (
    binary_dilation,
    binary_fill_holes,
    binary_opening,
    gaussian_filter,
    map_coordinates,
    spline_filter1d,
)
from torch import Tensor

from xrmflow.arrays import Reader, as_finite_float32, blocks
from xrmflow.calibration.pose import changed, number_of
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import ScanGeometry, check_projections, scan_geometry
from xrmflow.projectors.matrices import voxel_to_pixel
from xrmflow.projectors.transform import backproject, backproject_adjoint, project, project_adjoint
from xrmflow.reconstruction.filters import extend_rows, ramp_filter
from xrmflow.reconstruction.weights import cosine_weights, missing_columns, view_weights

# In coarse pixels: images are smoothed before they are sampled, and the residual is kept between these scales.
SMOOTHING_PX, FINEST_PX, COARSEST_PX = 0.6, 0.8, 6.0
# FDK is not quite the inverse: what it leaves is reconstructed again. Measured on a bone in the true geometry: the
# residual drops from 7.2 to 1.6 with the second pass, to 1.0 with the third, which no longer makes the fit better.
PASSES = 2
# Where there is an object: smoothed by this many coarse voxels, above this share of the brightest, grown by a margin.
SUPPORT_PX, SUPPORT_SHARE, SUPPORT_MARGIN = 1.0, 0.1, 2
# Of the object: about as many points.
POINTS = 300
VIEWS_AT_ONCE = 16
# The finest images are about FINE_COLS wide, binned by two at least; the coarsest half as wide, if over COARSE_COLS.
COARSE_COLS, FINE_COLS = 20, 80
# An object is cut off where an edge of some of the views is brighter than this share of the brightest column of all.
TRUNCATED_SHARE, TRUNCATED_QUANTILE = 0.1, 0.98
# Images that differ by less than this share show nothing.
UNIFORM_SHARE = 1e-5
UNIT = VolumeGrid((1, 1, 1), 1.0)


@dataclass(frozen=True)
class Level:
    """A scan at a coarse resolution, and the fixed operators of its ideal geometry.

    Attributes:
        acquisition: what was recorded, all views of it.
        splines: (view, row, col) spline coefficients of the images of `views`, smoothed and averaged over `averaged`
            pixels.
        averaged: detector pixels along the edge of an average; all rows where there are fewer.
        views: indices into the scan.
        binning: detector pixels along the edge of a coarse pixel.
        geometry: upright and centred, coarse pixels.
        grid: what is reconstructed, in coarse voxels.
        inside: (y, x) or (z, y, x) 1 in what is reconstructed: the cylinder that every view sees, or less.
        weights: (row, col) of squared residuals, 0 to 1.
        filtering: (view, row, col) weights of FDK.
        response: (col, col + added) ramp filter as a matrix.
        bands: (row, row) smoothing along rows, and (col, col) band-pass along columns, as matrices.
        added: columns without data before and after, of a scan with an offset detector.
    """

    acquisition: Acquisition
    splines: np.ndarray
    averaged: int
    views: np.ndarray
    binning: int
    geometry: ScanGeometry
    grid: VolumeGrid
    inside: Tensor
    weights: Tensor
    filtering: Tensor
    response: Tensor
    bands: tuple[Tensor, Tensor]
    added: tuple[int, int]

    @property
    def cost(self) -> float:
        """Of one reconstruction or reprojection here as a share of one of the whole scan: views times voxels."""
        a, (nz, ny, nx) = self.acquisition, self.grid.shape
        return len(self.views) / a.views * (nz * ny * nx) / (a.rows * a.cols**2)

    @property
    def truncated(self) -> bool:
        """Whether the object reaches beyond the detector on either side, in some of the views at least."""
        columns = self.splines.mean(axis=1)
        edges = np.quantile(columns[:, [0, -1]], TRUNCATED_QUANTILE, axis=0)
        return bool(edges.max() > TRUNCATED_SHARE * columns.mean(axis=0).max())

    def places(self, acquisition: Acquisition) -> np.ndarray:
        """(2, row, col): row and column on the real detector, without shifts, of what each coarse pixel looks at.

        The source stays where it is: an acquisition with another one is taken as one of an object of another size.
        """
        first = self.acquisition.with_views(self.views[:1])
        kept = ("angles_deg", "object_shift_mm", "object_turn_deg", "source_to_axis_mm")
        own = {name: getattr(first, name) for name in kept}
        one = replace(acquisition, **own, shift_u_px=(), shift_v_px=())
        ideal = self.geometry.with_views(slice(0, 1))
        rows, cols = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in (ideal.rows, ideal.cols))
        points = ideal.detector[0] + rows[:, None, None] * ideal.v[0] + cols[:, None] * ideal.u[0]
        flat = torch.cat([points.reshape(-1, 3).T, torch.ones(1, ideal.rows * ideal.cols, dtype=torch.float64)])
        column, row, w = voxel_to_pixel(scan_geometry(one), UNIT)[0] @ flat
        return torch.stack([row / w, column / w]).reshape(2, ideal.rows, ideal.cols).numpy()

    def places_of_object(self) -> Tensor:
        """(3, point): where in what is reconstructed, and seen by every view, there is an object; mm."""
        nz = self.grid.shape[0]
        margin = (nz - self.geometry.rows) // 2
        rows = torch.zeros(nz)
        rows[margin : nz - margin] = self.weights.amax(dim=1)
        where = ((self.inside * rows[:, None, None]) > 0.5).nonzero()
        some = where[:: max(1, len(where) // POINTS)].double()
        middle = (torch.tensor(self.grid.shape, dtype=torch.float64) - 1) / 2
        return (some - middle).flip(1).T * self.grid.voxel_mm + torch.tensor(self.grid.centre_mm)[:, None]

    def images(self, acquisition: Acquisition) -> tuple[Tensor, Tensor]:
        """(view, row, col) as the ideal detector would have recorded them, and 1 where the real one did, else 0."""
        base, shifts = self.places(acquisition), acquisition.shifts_px[self.views][:, ::-1]
        images = np.empty((len(self.views), *base.shape[1:]), np.float32)
        seen = np.empty(images.shape, np.float32)
        averaged = np.array([min(self.averaged, acquisition.rows), self.averaged])[:, None, None]
        limit = np.array([acquisition.rows - 1, acquisition.cols - 1])[:, None, None]
        for view, shift in enumerate(shifts):
            place = base + shift[:, None, None]
            seen[view] = np.clip(np.minimum(place, limit - place).min(axis=0) / self.binning + 0.5, 0, 1)
            coarse = (place - (averaged - 1) / 2) / averaged
            images[view] = map_coordinates(self.splines[view], coarse, order=3, mode="nearest", prefilter=False)
        return torch.from_numpy(images), torch.from_numpy(seen)

    def slopes(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Slope of the images along columns and along rows, per detector pixel."""
        up, across = (slope_of_spline(n) / self.binning for n in images.shape[1:])
        return images @ across.T, up @ images

    def changes(self, acquisition: Acquisition, numbers: Sequence[str]) -> list[Tensor]:
        """What a unit of each number, by its name, changes in the images drawn with an acquisition, (view, row, col).

        Differences of drawn images, because slopes of coarse ones err by some percent: no matter for what displaces
        views against each other, but as much as the volume leaves of a midplane.
        """
        differences = []
        for name in numbers:
            h = number_of(acquisition, name).difference
            ahead, behind = (self.images(changed(acquisition, {name: s}))[0] for s in (h, -h))
            differences.append((ahead - behind) / (2 * h))
        return differences

    def at(self, acquisition: Acquisition) -> "Level":
        """The same images of an object that moves as the acquisition says; only its motion is taken over."""
        own = replace(
            self.acquisition,
            object_shift_mm=acquisition.object_shift_mm,
            object_turn_deg=acquisition.object_turn_deg,
        )
        geometry = _ideal(own.with_views(self.views), self.geometry.rows, self.geometry.cols, self.binning)
        return replace(self, acquisition=own, geometry=geometry, filtering=_filtering(geometry))

    def reconstruct(self, images: Tensor) -> Tensor:
        """F: (z, y, x) per mm."""
        filtered = (images * self.filtering) @ self.response
        return backproject(filtered, self.geometry.widened(*self.added), self.grid) * self.inside

    def reconstruct_adjoint(self, volume: Tensor) -> Tensor:
        """Transpose of F."""
        spread = backproject_adjoint(volume * self.inside, self.geometry.widened(*self.added), self.grid)
        return (spread @ self.response.T) * self.filtering

    def unexplained(self, images: Tensor) -> Tensor:
        """B: what of the images their reconstruction does not show, reconstructed again `PASSES` times in all."""
        for _ in range(PASSES):
            images = images - project(self.reconstruct(images), self.geometry, self.grid)
        return images

    def unexplained_adjoint(self, images: Tensor) -> Tensor:
        """Transpose of B."""
        for _ in range(PASSES):
            images = images - self.reconstruct_adjoint(project_adjoint(images, self.geometry, self.grid))
        return images

    def banded(self, images: Tensor) -> Tensor:
        """Smoothed along rows, band-passed along columns, times the root of the weights."""
        up, across = self.bands
        return (up @ images @ across.T) * self.weights.sqrt()

    def banded_adjoint(self, images: Tensor) -> Tensor:
        """Transpose of `banded`."""
        up, across = self.bands
        return up.T @ (images * self.weights.sqrt()) @ across


def binnings(acquisition: Acquisition) -> tuple[int, int]:
    """Detector pixels along the edge of a pixel of the finest images that a fit uses, and of the coarsest."""
    if acquisition.cols < 2 * COARSE_COLS:
        return 1, 1
    fine = 2 ** max(1, round(math.log2(acquisition.cols / FINE_COLS)))
    return fine, 2 * fine if acquisition.cols >= 2 * fine * COARSE_COLS else fine


def make_level(
    projections: Reader,
    acquisition: Acquisition,
    *,
    binning: int,
    view_step: int = 1,
    reach_px: float = 2.0,
    travel_px: float = 0.0,
) -> Level:
    """Bring a scan to a coarse resolution.

    Args:
        projections: (view, row, col) line integrals.
        acquisition: geometry whose centre and midplane the ideal detector takes over.
        binning: detector pixels along the edge of a coarse pixel.
        view_step: every how manieth view.
        reach_px: how far images may be displaced along rows, pixels; rows that may lose their object count nothing.
        travel_px: likewise how far the object may move along the axis: by so much more is reconstructed. Both are at
            least what it is known to move.

    Raises:
        ValueError: projections of another shape than the acquisition, or that are no finite numbers.
    """
    check_projections(projections.shape, acquisition)
    views = np.arange(0, acquisition.views, view_step)
    averaged = max(1, binning // 2)
    splines = _splines(projections, views, averaged, SMOOTHING_PX * binning / averaged)
    rows, cols = max(1, acquisition.rows // binning), acquisition.cols // binning
    geometry = _ideal(acquisition.with_views(views), rows, cols, binning)
    flare = 0.0
    if acquisition.beam == "cone":
        flare = 0.5 * acquisition.cols * acquisition.voxel_mm / float(acquisition.source_to_axis_mm or 1)
    known = float(np.abs(acquisition.object_motion[:, 2]).max()) / acquisition.voxel_mm
    reach_px, travel_px = max(reach_px, known), max(travel_px, known)
    margin = int(np.ceil(rows / 2 * flare) + np.ceil(travel_px / binning)) + 1 if rows > 1 else 0
    voxel = acquisition.voxel_mm * binning
    height = acquisition.voxel_mm * ((acquisition.rows - 1) / 2 - acquisition.midplane_px)
    grid = VolumeGrid((rows + 2 * margin, cols, cols), voxel, (0.0, 0.0, height))
    off = torch.arange(cols) - (cols - 1) / 2
    added = missing_columns(geometry)
    return Level(
        acquisition=acquisition,
        splines=splines,
        averaged=averaged,
        views=views,
        binning=binning,
        geometry=geometry,
        grid=grid,
        inside=(cols / 2 - torch.sqrt(off[:, None] ** 2 + off**2)).clamp(0, 1),
        weights=_weights(rows, cols, flare, reach_px / binning),
        filtering=_filtering(geometry),
        response=_response(cols, added),
        bands=(gaussian(rows, FINEST_PX if rows > 1 else 0), band_pass(cols)),
        added=added,
    )


def with_object(level: Level) -> Level:
    """The level, if it shows an object at all.

    Raises:
        ValueError: the same value in all pixels of all views.
    """
    if np.ptp(level.splines) <= UNIFORM_SHARE * np.abs(level.splines).max():
        raise ValueError("projections: expected an object in the beam, got the same value everywhere")
    return level


def supported(level: Level, acquisition: Acquisition) -> Level:
    """The level with the reconstruction kept to where, at some geometry, there is an object at all.

    A displaced image puts matter where there is none. Without this, drifts that come back after half a turn (along
    columns the other way round) hardly show: the volume absorbs them.
    """
    images, _ = level.images(acquisition)
    volume = gaussian_filter(level.reconstruct(images).numpy(), SUPPORT_PX)
    matter = volume > SUPPORT_SHARE * np.percentile(volume, 99)
    matter = binary_opening(np.stack([np.asarray(binary_fill_holes(part)) for part in matter]))
    grown = np.asarray(binary_dilation(matter, iterations=SUPPORT_MARGIN))
    if not grown.any():
        return level
    soft = gaussian_filter(grown.astype(np.float32), 0.5)
    return replace(level, inside=level.inside * torch.from_numpy(soft))


def cropped(level: Level) -> Level:
    """The level reconstructed in no larger a square about the axis than holds what is reconstructed at all."""
    used = level.inside.expand(level.grid.shape).amax(dim=0) > 0
    away = (torch.arange(len(used)) - (len(used) - 1) / 2).abs()
    half = float(away[used.any(dim=0) | used.any(dim=1)].max())
    core = (away <= half).nonzero().flatten()
    part = slice(int(core[0]), int(core[-1]) + 1)
    grid = replace(level.grid, shape=(level.grid.shape[0], len(core), len(core)))
    return replace(level, grid=grid, inside=level.inside[..., part, part].contiguous())


def _splines(projections: Reader, views: np.ndarray, averaged: int, sigma_px: float) -> np.ndarray:
    """Cubic spline coefficients of the averaged and smoothed images."""
    high = min(averaged, projections.shape[1])
    rows, cols = projections.shape[1] // high, projections.shape[2] // averaged
    up, across = (gaussian(n, sigma_px).numpy() for n in (rows, cols))
    out, step = np.empty((len(views), rows, cols), np.float32), int(views[1] - views[0]) if len(views) > 1 else 1
    for block in blocks(len(views), VIEWS_AT_ONCE):
        some = views[block]
        images = as_finite_float32(projections[int(some[0]) : int(some[-1]) + 1 : step])
        images = images[:, : rows * averaged, : cols * averaged]
        images = images.reshape(-1, rows, high, cols, averaged).mean(axis=(2, 4))
        images = (up @ images if rows > 1 else images) @ across.T
        images = spline_filter1d(images, axis=2, mode="nearest") if cols > 1 else images
        out[block] = spline_filter1d(images, axis=1, mode="nearest") if rows > 1 else images
    return out


def _ideal(acquisition: Acquisition, rows: int, cols: int, binning: int) -> ScanGeometry:
    """Upright, unshifted, in coarse pixels about the middle of the real detector."""
    middle = {"centre_px": (acquisition.cols - 1, cols), "midplane_px": (acquisition.rows - 1, rows)}
    places = {
        name: (getattr(acquisition, name) - last / 2) / binning + (count - 1) / 2
        for name, (last, count) in middle.items()
    }
    upright = {"roll_deg": 0.0, "tilt_deg": 0.0, "slant_deg": 0.0, "skew_deg": 0.0}
    upright |= {"shift_u_px": (), "shift_v_px": ()}
    coarse = {"rows": rows, "cols": cols, "pixel_mm": acquisition.pixel_mm * binning}
    return scan_geometry(replace(acquisition, **upright, **coarse, **places))  # type: ignore[arg-type]


def _filtering(geometry: ScanGeometry) -> Tensor:
    return cosine_weights(geometry) * view_weights(geometry)[:, None, :].float()


def _weights(rows: int, cols: int, flare: float, reach: float) -> Tensor:
    """Rows whose rays stay among slices that every view sees count in full; the outermost columns less."""
    half = rows / 2
    trusted = max(half * (1 - flare) / (1 + flare) - reach, min(half, 2.0))
    away = (torch.arange(rows) - (rows - 1) / 2).abs()
    edge = torch.minimum(torch.arange(cols), torch.arange(cols).flip(0))
    along_rows = torch.ones(1) if rows == 1 else ((trusted - away) / 2 + 0.5).clamp(0, 1)
    return along_rows[:, None] * ((edge + 0.5) / 4).clamp(0, 1)


def _response(cols: int, added: tuple[int, int]) -> Tensor:
    """(col, added + col + added): a filtered row is a row times this; rows are continued beyond both edges."""
    extra = cols // 4
    rows = torch.nn.functional.pad(extend_rows(torch.eye(cols), extra), added)
    return ramp_filter(rows)[:, extra : extra + cols + sum(added)].contiguous()


def gaussian(size: int, sigma: float) -> Tensor:
    """(size, size) smoothing along an axis; edges are continued."""
    if sigma <= 0 or size == 1:
        return torch.eye(size)
    reach = int(np.ceil(4 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    matrix = np.zeros((size, size))
    for offset, weight in zip(range(-reach, reach + 1), kernel / kernel.sum(), strict=True):
        np.add.at(matrix, (np.arange(size), np.clip(np.arange(size) + offset, 0, size - 1)), weight)
    return torch.from_numpy(matrix.astype(np.float32))


def slope_of_spline(size: int) -> Tensor:
    """(size, size) slope, at samples along an axis, of the cubic spline through them; zeros for a single one.

    Inside, slopes d of samples s obey d[i-1] + 4 d[i] + d[i+1] = 3 (s[i+1] - s[i-1]); both ends go on straight.
    """
    if size == 1:
        return torch.zeros(1, 1)
    left, right = 4.0 * np.eye(size), np.zeros((size, size))
    for i in range(1, size - 1):
        left[i, [i - 1, i + 1]], right[i, [i - 1, i + 1]] = 1.0, (-3.0, 3.0)
    for end, inner in ((0, 1), (size - 1, size - 2)):
        left[end, end] = 1.0
        right[end, [min(end, inner), max(end, inner)]] = -1.0, 1.0
    return torch.from_numpy(np.linalg.solve(left, right).astype(np.float32))


def band_pass(cols: int) -> Tensor:
    """(col, col): what lies between `FINEST_PX` and `COARSEST_PX` along an axis."""
    fine = gaussian(cols, FINEST_PX)
    return fine - gaussian(cols, COARSEST_PX) @ fine
