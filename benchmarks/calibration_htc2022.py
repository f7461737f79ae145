"""Whether calibration does harm on measured arcs of 30 and 90 degrees: two plates of the Helsinki Tomography Challenge.

Scans of one detector row (a fan beam) of acrylic discs with holes. So little of a turn determines neither a volume nor,
by its sharpness or consistency, a geometry: what is asked for is that nothing is made worse. No volume of the full turn
and no mask come with these files, so three measures that use none of the code under test say what is worse:

- The outline: the disc is round, and both its edges are seen in every view. A circle is fitted to the places of the
  edges; what is left, rms over views, is the error of the geometry that shows in them. With the column of the axis
  fitted too they also say where it is, and how well an arc can tell at all.
- Left-out views: a TV reconstruction from every other view, and how much of the others it does not show.
- The disc is of one material: mean of the acrylic in the outer third of the radius minus that inside half of it, over
  the mean, in the TV reconstruction; acrylic is what is well above half of the brightest, two voxels from any edge.

Each for the geometry in the file (nominal), the one that calibration lets pass (used) and the one it found and may have
refused (found).
"""

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
import torch
from scipy.ndimage import binary_erosion
from scipy.optimize import least_squares

from xrmflow.calibration.alignment import align
from xrmflow.calibration.centre import find_centre
from xrmflow.calibration.cupping import fit_cupping
from xrmflow.calibration.polynomial import linearise
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import scan_geometry
from xrmflow.projectors.transform import project
from xrmflow.reconstruction.iterative.tv import tv_fista
from xrmflow.reconstruction.iterative.variation import matched_strength

ARCS = ("ta_subsample73.mat", "tb_subsample_90.mat")
DEFAULT_DATA = Path(__file__).parents[1].parent / "shared" / "data"
# The outline: p^2 is nearly a straight line in the column at the edge of a disc, read where p lies between these.
EDGE_SEEN, EDGE_LEAST, EDGE_COLUMNS = 0.5, 0.15, 10
# Noise of the line integrals, from air beside the disc; columns averaged before TV reconstructions.
NOISE, COARSE = 0.005, 4


@dataclass(frozen=True)
class Arc:
    """One scan: (view, row, col) line integrals and the geometry that its file states."""

    name: str
    projections: np.ndarray
    acquisition: Acquisition


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of this part."""
    data = os.path.join(os.environ.get("XRMFLOW_TEST_DATA", DEFAULT_DATA), "htc2022")
    parser.add_argument("--data", default=data, help="folder of the two files")
    parser.add_argument("--off-px", type=float, default=0.0, help="put the axis this far off before calibrating")
    parser.add_argument("--iterations", type=int, default=60, help="of the TV reconstructions")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Both arcs."""
    arcs = [read(Path(options.data) / name) for name in ARCS]
    return {arc.name: examined(arc, options.off_px, options.iterations) for arc in arcs}


def read(path: Path) -> Arc:
    """A scan of the challenge from its MATLAB file, of version 5 or 7.3 (which is HDF5, axes reversed)."""
    if h5py.is_hdf5(path):
        with h5py.File(path) as file:
            data = np.asarray(file["CtDataLimited/sinogram"]).T
            stated = {name: np.asarray(file[f"CtDataLimited/parameters/{name}"]) for name in STATED}
    else:
        scan = scipy.io.loadmat(path, squeeze_me=True, struct_as_record=False)["CtDataLimited"]
        data, stated = scan.sinogram, {name: getattr(scan.parameters, name) for name in STATED}
    angles, pixel, to_axis, to_detector = (np.ravel(stated[name]).astype(float) for name in STATED)
    cols = data.shape[1]
    acquisition = Acquisition(
        "cone",
        tuple(angles.tolist()),
        rows=1,
        cols=cols,
        pixel_mm=float(pixel[0]),
        source_to_axis_mm=float(to_axis[0]),
        source_to_detector_mm=float(to_detector[0]),
        centre_px=(cols - 1) / 2,
        midplane_px=0.0,
    )
    return Arc(path.stem, np.ascontiguousarray(data[:, None], dtype=np.float32), acquisition)


STATED = ("angles", "pixelSizePost", "distanceSourceOrigin", "distanceSourceDetector")


def binned(p: np.ndarray, a: Acquisition, columns: int) -> tuple[np.ndarray, Acquisition]:
    """A scan with columns averaged."""
    coarse = replace(
        a,
        cols=a.cols // columns,
        pixel_mm=a.pixel_mm * columns,
        centre_px=(a.centre_px - (columns - 1) / 2) / columns,
        shift_u_px=tuple((a.shifts_px[:, 0] / columns).tolist()),
        shift_v_px=(),
    )
    return p.reshape(a.views, 1, coarse.cols, columns).mean(axis=3), coarse


def examined(arc: Arc, off_px: float, iterations: int) -> dict[str, Any]:
    """What calibration does to a scan."""
    start = replace(arc.acquisition, centre_px=arc.acquisition.centre_px + off_px)
    edges = outline(arc.projections)
    volume, grid = tv(arc.projections, arc.acquisition, iterations)
    return {
        "views": start.views,
        "arc_deg": round(float(np.ptp(start.angles_deg)), 1),
        "outline": outline_figures(edges, arc.acquisition),
        "geometry": {name: _geometry(arc, start, edges, fit, iterations) for name, fit in GEOMETRY.items()},
        "cupping": _cupping(arc, volume, grid, iterations),
    }


def _sharpness(p: np.ndarray, start: Acquisition) -> tuple[bool, str, Acquisition, Acquisition]:
    fit = find_centre(p, start)
    return fit.trusted, fit.message, fit.acquisition, replace(start, centre_px=fit.centre_px)


def _joint(p: np.ndarray, start: Acquisition) -> tuple[bool, str, Acquisition, Acquisition]:
    fit = align(p, start)
    shifts = (start.shifts_px + fit.drift_px + fit.jitter_px).T
    centre = next(one.value for one in fit.estimates if one.name == "centre_px")
    found = replace(start, centre_px=centre, shift_u_px=tuple(shifts[0]), shift_v_px=tuple(shifts[1]))
    return fit.trusted, fit.message, fit.acquisition, found


GEOMETRY: dict[str, Callable] = {"sharpness": _sharpness, "joint": _joint}


def _geometry(arc: Arc, start: Acquisition, edges: np.ndarray, fit: Callable, iterations: int) -> dict[str, Any]:
    """A way to calibrate the geometry: what it said, and how good the geometries are."""
    trusted, message, used, found = fit(arc.projections, start)
    tried = {"nominal": start, "used": used, "found": found}
    return {
        "trusted": trusted,
        "unchanged": used == start,
        "message": message,
        "found_centre_px": round(found.centre_px, 2),
        "outline_rms_px": {name: round(circle(edges, one)[0], 3) for name, one in tried.items()},
        "left_out_percent": {name: round(100 * left_out(arc, one, iterations), 2) for name, one in tried.items()},
    }


def outline(projections: np.ndarray) -> np.ndarray:
    """(view, 2) columns of the two edges of the disc, pixels: where p^2, a parabola there, goes through zero."""
    return np.array([[_edge(row), len(row) - 1 - _edge(row[::-1])] for row in projections[:, 0]])


def _edge(row: np.ndarray) -> float:
    inside = int(np.flatnonzero(row > EDGE_SEEN)[0])
    u = np.arange(max(inside - 4, 0), inside + EDGE_COLUMNS)
    u = u[row[u] > EDGE_LEAST]
    roots = np.roots(np.polyfit(u - inside, row[u] ** 2, 2)).real
    return inside + float(roots[np.abs(roots).argmin()])


def circle(edges: np.ndarray, acquisition: Acquisition, *, free_centre: bool = False) -> tuple[float, np.ndarray]:
    """Fit a circle to the edges of its shadow.

    Returns:
        What is left, rms pixels, and x, y, radius (mm) of the circle, with the column of the axis if that is free, each
        with its standard deviation (n, 2).
    """
    start = np.array([0.0, 0.0, 30.0, *([acquisition.centre_px] if free_centre else [])])

    def rest(parameters: np.ndarray) -> np.ndarray:
        centre = parameters[3] if free_centre else acquisition.centre_px
        return (shadow(parameters[:3], acquisition, float(centre)) - edges).ravel()

    fit = least_squares(rest, start)
    # Neighbouring views err alike: as many independent ones as there are runs of about ten.
    variance = 10 * np.mean(fit.fun**2) * np.linalg.inv(fit.jac.T @ fit.jac)
    return float(np.sqrt(np.mean(fit.fun**2))), np.stack([fit.x, np.sqrt(np.diag(variance))], axis=1)


def shadow(disc: np.ndarray, acquisition: Acquisition, centre_px: float) -> np.ndarray:
    """(view, 2) columns of the tangents to a circle (x, y, radius in mm)."""
    angle = np.radians(acquisition.angles_deg)
    to_axis, to_detector = float(acquisition.source_to_axis_mm or 0), float(acquisition.source_to_detector_mm or 0)
    x, y, radius = disc
    ahead = to_axis - x * np.sin(angle) + y * np.cos(angle)
    aside = x * np.cos(angle) + y * np.sin(angle)
    middle, half = np.arctan2(aside, ahead), np.arcsin(radius / np.hypot(ahead, aside))
    columns = np.tan(np.stack([middle - half, middle + half], axis=1)) * to_detector / acquisition.pixel_mm
    return centre_px + columns + acquisition.shifts_px[:, :1]


def outline_figures(edges: np.ndarray, acquisition: Acquisition) -> dict[str, Any]:
    """What the edges say of the geometry in the file."""
    rms, disc = circle(edges, acquisition)
    free = circle(edges, acquisition, free_centre=True)[1][3]
    mirrored = replace(acquisition, angles_deg=tuple(-angle for angle in acquisition.angles_deg))
    return {
        "rms_px": round(rms, 3),
        "rms_px_turned_the_other_way": round(circle(edges, mirrored)[0], 3),
        "radius_mm": round(float(disc[2, 0]), 2),
        "centre_px_of_edges_minus_nominal": [round(float(c), 2) for c in (free[0] - acquisition.centre_px, free[1])],
    }


def tv(projections: np.ndarray, acquisition: Acquisition, iterations: int) -> tuple[np.ndarray, VolumeGrid]:
    """(y, x) TV reconstruction, per mm, and its grid."""
    coarse_p, coarse = binned(projections, acquisition, COARSE)
    grid = VolumeGrid((1, coarse.cols, coarse.cols), coarse.voxel_mm)
    p, geometry = torch.from_numpy(coarse_p), scan_geometry(coarse)
    strength = matched_strength(p, geometry, grid, noise=NOISE)
    return tv_fista(p, geometry, grid, strength=strength, iterations=iterations).volume[0].numpy(), grid


def left_out(arc: Arc, acquisition: Acquisition, iterations: int) -> float:
    """Share of the odd views that the reconstruction from the even ones does not show."""
    even, odd = slice(0, None, 2), slice(1, None, 2)
    volume, grid = tv(arc.projections[even], acquisition.with_views(even), iterations)
    kept, coarse = binned(arc.projections[odd], acquisition.with_views(odd), COARSE)
    shown = project(torch.from_numpy(volume[None]), scan_geometry(coarse), grid).numpy()
    return float(np.linalg.norm(shown - kept) / np.linalg.norm(kept))


def _cupping(arc: Arc, volume: np.ndarray, grid: VolumeGrid, iterations: int) -> dict[str, Any]:
    """What the beam-hardening correction said and did."""
    fit = fit_cupping(arc.projections, arc.acquisition)
    corrected = linearise(torch.from_numpy(arc.projections), fit.coefficients).numpy()
    after = tv(corrected, arc.acquisition, iterations)[0] if fit.applied else volume
    acrylic = volume > 0.5 * np.quantile(volume, 0.99)
    disc = circle(outline(arc.projections), arc.acquisition)[1][:, 0]
    return {
        "applied": fit.applied,
        "trusted": fit.trusted,
        "message": fit.message,
        "projections_unchanged": bool(np.array_equal(corrected, arc.projections)),
        "grey_difference_percent": {
            name: round(100 * grey_difference(slice_, acrylic, disc, grid), 2)
            for name, slice_ in (("before", volume), ("after", after))
        },
    }


def grey_difference(volume: np.ndarray, acrylic: np.ndarray, disc: np.ndarray, grid: VolumeGrid) -> float:
    """(outer - inner) / mean of the acrylic."""
    inside = np.asarray(binary_erosion(acrylic, iterations=2), bool)
    along = (np.arange(len(volume)) - (len(volume) - 1) / 2) * grid.voxel_mm
    radius = np.hypot(along - disc[0], along[:, None] - disc[1]) / disc[2]
    outer, inner = volume[inside & (radius > 2 / 3)].mean(), volume[inside & (radius < 1 / 2)].mean()
    return float((outer - inner) / volume[inside].mean())
