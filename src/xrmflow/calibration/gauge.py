"""What a scan cannot tell: motions of the object as a whole, and how to measure errors of a geometry without them.

An object that is moved rigidly, x -> R x + t, by the same motion in every view, gives another volume but no other
kind of data. Seen by an unmoved object it is source and detector that moved, the other way round
(`xrmflow.geometry.scan.moved`). So two geometries that differ by such a motion explain a scan equally well:

    project(volume moved by m, geometry) = project(volume, moved(geometry, m))

To first order in a narrow beam a shift of the object in its plane is a wave of the images along the columns,
du = a cos(angle) + b sin(angle), and a shift along the axis a constant dv: these are the time profiles that
`free_profiles` leaves out, so that a fit does not wander along what nothing holds. A turn about the axis is a constant
in all angles, which no parameter of a fit changes.

A circular scan cannot tell some deformations either. Another size of the object is another distance of source and
axis. A taper and a stretch along the axis, x -> x / (1 + a z), z -> b z / (1 + a z), leave the plane of the source
alone and take straight rays to straight rays; they are what a tilt of the detector does: two scans that differ by a
tilt show objects that differ so (exactly where there is no slant, and but for the lengths of rays).

What is left is measured where it matters, `ray_displacement_px`: how far voxels' images lie apart on the detector,
after the motion of the object that brings them closest.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import ScanGeometry, moved
from xrmflow.projectors.matrices import voxel_to_pixel

POINTS = 400
STEPS = 4


def ray_displacement_px(
    fitted: ScanGeometry,
    truth: ScanGeometry,
    grid: VolumeGrid,
    *,
    deformed: bool = False,
    points: int = POINTS,
) -> float:
    """Gauge-free distance of two geometries: rms displacement on the detector of the images of voxels, pixels.

    min over rigid motions m of sqrt(mean over views and voxels of |image(x; truth) - image(m x; fitted)|^2), over the
    voxels of the cylinder about the axis whose true image lies on the detector.

    Args:
        fitted: one geometry.
        truth: the other; of as many views on as large a detector.
        grid: the field of view, mm.
        deformed: let the object also change its size, taper and stretch.
        points: voxels, drawn at random but always the same.

    Raises:
        ValueError: geometries of different size.
    """
    motion = best_motion(fitted, truth, grid, deformed=deformed, points=points)
    places = _places(grid, points)
    apart, seen = _apart(fitted, truth, grid, places, motion)
    return float(torch.sqrt((apart**2).sum(-1)[seen].mean()))


def best_motion(
    fitted: ScanGeometry, truth: ScanGeometry, grid: VolumeGrid, *, deformed: bool = False, points: int = POINTS
) -> Tensor:
    """The motion of the object that makes `fitted` show what `truth` shows: (9,) float64.

    Shift x, y, z in mm, rotation vector x, y, z in degrees, and, zero unless `deformed`, logarithm of the size, taper
    per mm and logarithm of the stretch along the axis; by Gauss-Newton on the images.
    """
    if (fitted.views, fitted.rows, fitted.cols) != (truth.views, truth.rows, truth.cols):
        raise ValueError(
            f"fitted: expected {truth.views} views of {truth.rows} x {truth.cols} pixels as in truth, "
            f"got {fitted.views} of {fitted.rows} x {fitted.cols}"
        )
    places = _places(grid, points)
    unit = torch.tensor([grid.voxel_mm] * 3 + [0.1] * 3 + [0.001] * 3, dtype=torch.float64)
    free = 9 if deformed else 6
    motion = torch.zeros(9, dtype=torch.float64)
    for _ in range(STEPS):
        apart, seen = _apart(fitted, truth, grid, places, motion)
        columns = []
        for k in range(free):
            step = torch.zeros(9, dtype=torch.float64)
            step[k] = unit[k]
            columns.append((_apart(fitted, truth, grid, places, motion + step)[0] - apart)[seen].flatten())
        matrix = torch.stack(columns, dim=1)
        change = torch.linalg.lstsq(matrix, -apart[seen].flatten()[:, None]).solution[:, 0]
        motion = motion + torch.nn.functional.pad(change, (0, 9 - free)) * unit
    return motion


def seen_by_moved(geometry: ScanGeometry, motion: Tensor) -> ScanGeometry:
    """The scan as an object sees it that itself changes as `best_motion` says: size, turn and shift, then the rest."""
    cone = geometry.beam == "cone"
    source = geometry.source if cone else torch.zeros_like(geometry.source)

    def tapered(ray: Tensor) -> Tensor:
        level, up = (ray + motion[7] * ray[:, 2:] * source).split((2, 1), dim=1)
        return torch.cat([level, up * torch.exp(-motion[8])], dim=1)

    detector = source + tapered(geometry.detector - source)
    there = replace(geometry, detector=detector, u=tapered(geometry.u), v=tapered(geometry.v))
    there = moved(there, shift_mm=motion[:3], turn_deg=motion[3:6])
    size = torch.exp(motion[6])
    source = there.source / size if cone else there.source
    return replace(there, source=source, detector=there.detector / size, u=there.u / size, v=there.v / size)


def free_profiles(profiles: np.ndarray, absorbed: np.ndarray, *, least: float = 0.05) -> np.ndarray:
    """An orthonormal basis of what profiles over time say beyond those that a motion of the object absorbs.

    Args:
        profiles: (view, n) profiles over the views.
        absorbed: (view, m) profiles to leave out.
        least: combinations of which less than this share is left are dropped.

    Returns:
        (view, k) with columns of root mean square 1, orthogonal to each other and to `absorbed`.
    """
    views = len(profiles)
    basis = np.linalg.qr(absorbed)[0] if absorbed.shape[1] else np.zeros((views, 0))
    ortho = np.linalg.qr(profiles)[0]
    left, share, _ = np.linalg.svd(ortho - basis @ (basis.T @ ortho), full_matrices=False)
    return left[:, share > least] * np.sqrt(views)


def unabsorbed(
    changes: Sequence[Sequence[ScanGeometry]], geometry: ScanGeometry, places: Tensor, *, step: float = 1e-3
) -> Tensor:
    """Displacements of images between pairs of geometries, beyond what a deformed object stands for.

    A point that is displaced by w, the same in all views, is seen displaced by J(view) w. Reconstructions put each
    voxel where its views agree best, whatever its neighbours do, so that what is left of displacements d(view) is
    their distance from the span of J. Nothing is left of a change of the object's size, nor of a tilt of the detector:
    that is what z -> z / (1 + a z), x -> x / (1 + a z), y -> y / (1 + a z) of the object does, which leaves the plane
    of the source alone and takes straight rays to straight rays.

    Args:
        changes: pairs of geometries, the second is subtracted.
        geometry: about which they lie, for J.
        places: (3, point) mm.
        step: of differences, as a share of the largest coordinate.

    Returns:
        (n, view, point, 2) pixels along columns and rows, in orthogonal complement of J at each point.
    """
    h = step * float(places.abs().max())
    units = torch.eye(3, dtype=torch.float64)[:, :, None] * h
    spans = torch.stack([_images(geometry, places + unit) - _images(geometry, places - unit) for unit in units])
    moved = torch.stack([_images(ahead, places) - _images(behind, places) for ahead, behind in changes])
    # (point, view * 2, 3) and (point, view * 2, n)
    span, fields = (x.permute(2, 1, 3, 0).flatten(1, 2) for x in (spans, moved))
    left = fields - span @ (torch.linalg.pinv(span, rtol=1e-6) @ fields)
    return left.unflatten(1, (geometry.views, 2)).permute(3, 1, 0, 2)


def absorbed_along_columns(angles_deg: np.ndarray) -> np.ndarray:
    """Profiles (view, 3) of du: a constant, which is the centre's, and the waves of an object shifted in its plane."""
    angles = np.radians(np.asarray(angles_deg, dtype=float))
    return np.stack([np.ones_like(angles), np.cos(angles), np.sin(angles)], axis=1)


def absorbed_along_rows(angles_deg: np.ndarray) -> np.ndarray:
    """Profiles (view, 1) of dv: a constant, an object shifted along the axis."""
    return np.ones((len(angles_deg), 1))


def _places(grid: VolumeGrid, points: int) -> Tensor:
    """(3, n) positions in the cylinder about the axis that the grid holds, mm."""
    rng = np.random.default_rng(0)
    half = 0.5 * grid.voxel_mm * np.array(grid.shape[::-1])
    radius, angle = half[:2].min() * np.sqrt(rng.uniform(0, 1, points)), rng.uniform(0, 2 * np.pi, points)
    local = np.stack([radius * np.cos(angle), radius * np.sin(angle), rng.uniform(-half[2], half[2], points)])
    return torch.from_numpy(local + np.array(grid.centre_mm)[:, None])


def _apart(
    fitted: ScanGeometry, truth: ScanGeometry, grid: VolumeGrid, places: Tensor, motion: Tensor
) -> tuple[Tensor, Tensor]:
    """Displacements (view, point, 2) of images, and which of them are on the detector."""
    found, expected = _images(seen_by_moved(fitted, motion), places), _images(truth, places)
    size = torch.tensor([truth.cols, truth.rows], dtype=torch.float64)
    seen = ((expected >= -0.5) & (expected <= size - 0.5)).all(dim=-1)
    return found - expected, seen


def _images(geometry: ScanGeometry, places: Tensor) -> Tensor:
    """Column and row (view, point, 2) of positions (3, point), mm."""
    unit = VolumeGrid((1, 1, 1), 1.0)
    ones = torch.cat([places, torch.ones_like(places[:1])])
    column, row, w = (voxel_to_pixel(geometry, unit).to(torch.float64) @ ones).unbind(dim=1)
    return torch.stack([column / w, row / w], dim=-1)
