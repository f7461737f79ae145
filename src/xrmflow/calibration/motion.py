"""A slow rigid motion of the object during the scan (a living animal, a settling sample), fitted from the scan itself.

    min over m of |S B(m) q|^2 + priors        q: images, B(m) = I - A(m) F(m), S: `Level.banded`

m(view) are six smooth functions of time: the shift of the object along x, y, z and its rotation vector, each a cubic
spline whose mean over the views, the place of the object as a whole, is left out (`xrmflow.calibration.gauge`). In a
cone beam no displacement of the images stands for such a motion, because what is nearer to the source moves farther.
So images stay as they are, and reconstruction F and reprojection A follow the motion: source and detector move the
inverse way, view by view. With the volume v of a step, the Gauss-Newton column of profile j of direction k is

    - S B (profile_j * dA(m)v / dm_k)

(variable projection: what the volume absorbs counts no more). The six derivatives are differences of reprojections.
What one scan hardly tells, such as shifts along a narrow beam, is held by priors, and its band is wide.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xrmflow.arrays import Reader, Track, untracked
from xrmflow.calibration.consistency import (
    PASSES,
    Level,
    band_pass,
    binnings,
    cropped,
    make_level,
    supported,
    with_object,
)
from xrmflow.calibration.gauge import free_profiles, ray_displacement_px
from xrmflow.calibration.vertical import row_sums, vertical_motion_px
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.perturbation import spline_drift
from xrmflow.geometry.scan import check_projections, scan_geometry
from xrmflow.projectors.transform import project

DIRECTIONS = ("shift_x", "shift_y", "shift_z", "turn_x", "turn_y", "turn_z")
VIEWS_A_COLUMN, LEAST_VIEWS = 1.4, 90
# Standard deviations of the priors of each profile: detector pixels seen at the axis, and degrees.
PRIOR_PX, PRIOR_DEG = 5.0, 0.5
# Central differences: coarse voxels, degrees.
DIFFERENCE_PX, DIFFERENCE_DEG = 0.25, 0.5
# Share of their mean stiffness by which directions are held in a step, so that those that hardly show, such as shifts
# along the beam, do not run away while the volume is still blurred: at the coarse levels and at the finest.
DAMPING = {"coarse": 1e-2, "fine": 1e-4}
MOST_STEPS = 12
# Coefficients of the splines of the first steps.
START_KNOTS = 6
# Multiples of a step that are tried, in this order, as long as they make the residual smaller.
LONGER, SHORTER = (1.0, 2.0, 4.0, 8.0), (0.5,)
# What is left even in the true geometry is alike over large areas: as many pixels count as one against the priors.
CORRELATED = 2000.0
# Rows that may lose their object to a shift along the axis, pixels of the finest level, count nothing.
REACH_PX = 6.0
# A level is done when a step leaves more than this part of the residual; one that is not after its last step is no fit.
SETTLED, UNSETTLED = 0.995, 0.97
LARGEST_SHARE, LEAST_SHARPNESS = 0.5, 0.98
# Of the finest level: what is found in scans of objects that do not move.
STILL_PX = 0.15


@dataclass(frozen=True)
class MotionFit:
    """Result of `fit_motion`.

    Attributes:
        acquisition: with the fitted motion, or as given when it is not trusted or the object stood still.
        motion: (view, 6) fitted shift x, y, z, mm, and rotation vector x, y, z, degrees.
        band: (view, 6) half width of their 95 % band.
        displacement_px: rms by which the motion displaces the images of voxels, less the best rigid motion.
        inconsistent: share of the (band-passed) images that their reconstruction does not show, before and after.
        sharpness: energy of the band-passed reconstruction after, relative to before.
        trusted: whether the result may be used.
        message: why, or why not.
        operations: cost in reconstructions or reprojections of the whole scan.
        history: what each step reached.
    """

    acquisition: Acquisition
    motion: np.ndarray
    band: np.ndarray
    displacement_px: float
    inconsistent: tuple[float, float]
    sharpness: float
    trusted: bool
    message: str
    operations: float
    history: tuple[dict[str, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the acquisition; trajectories by direction, one number a view."""
        units = ["mm"] * 3 + ["deg"] * 3
        return {
            "trusted": self.trusted,
            "message": self.message,
            "trajectories": [
                {
                    "name": name,
                    "unit": unit,
                    "rms": float(np.sqrt((values**2).mean())),
                    "values": values.tolist(),
                    "band": band.tolist(),
                }
                for name, unit, values, band in zip(DIRECTIONS, units, self.motion.T, self.band.T, strict=True)
            ],
            "displacement_px": self.displacement_px,
            "inconsistent": {"before": self.inconsistent[0], "after": self.inconsistent[1]},
            "sharpness": self.sharpness,
            "cost_in_reconstructions": self.operations,
            "history": list(self.history),
        }


@dataclass(frozen=True)
class Part:
    """Up to `most` steps with the same data and the same free parameters: `directions` of the six, so many knots."""

    binning: int
    directions: int
    knots: int
    most: int
    damping: float


@dataclass(frozen=True)
class Step:
    """A linearised problem at some motion, and its solution.

    Attributes:
        level, images, seen: the data, at that motion.
        profiles: (view, k) of all views, orthogonal, rms 1, mean 0.
        residual: (view, row, col) S B q.
        stiffness: (n, n) normal matrix without priors and damping; directions slowest.
        change: (view, directions) of the motion.
        operations: reconstructions and reprojections made.
    """

    level: Level
    images: Tensor
    seen: Tensor
    profiles: np.ndarray
    residual: Tensor
    stiffness: Tensor
    change: np.ndarray
    operations: int

    def applied(self, share: float = 1.0) -> Acquisition:
        """The acquisition after the step, or part of it."""
        motion = self.level.acquisition.object_motion
        motion[:, : self.change.shape[1]] += share * self.change
        return self.level.acquisition.with_object_motion(motion)

    def band(self) -> np.ndarray:
        """(view, directions) half width of the 95 % band of the motion.

        What the fit leaves is not noise but what FDK is not the inverse of, alike all over the images. So a standard
        deviation is the change of the motion that changes the residual by its own norm, within the priors.
        """
        total, directions, k = float((self.residual.double() ** 2).sum()), self.change.shape[1], self.profiles.shape[1]
        held = total / _prior(self.level.acquisition, directions).repeat_interleave(k) ** 2
        covariance = (torch.linalg.inv(self.stiffness + torch.diag(held)) * total).numpy()
        by_direction = [covariance[i : i + k, i : i + k] for i in range(0, len(covariance), k)]
        return 1.96 * np.stack([np.sqrt(((self.profiles @ c) * self.profiles).sum(axis=1)) for c in by_direction], 1)


def fit_motion(
    projections: Reader, acquisition: Acquisition, *, knots: int = 12, track: Track = untracked
) -> MotionFit:
    """Fit the motion of the object to a cone or parallel scan.

    Args:
        projections: (view, row, col) line integrals.
        acquisition: geometry to start from; a motion that it has already is used and corrected.
        knots: coefficients of the cubic splines over time, at least 4; more for faster motions.
        track: shows progress over steps.

    Raises:
        ValueError: projections of another shape than the acquisition, that are no finite numbers or the same
            everywhere; too few knots.
    """
    check_projections(projections.shape, acquisition)
    if knots < 4:
        raise ValueError(f"knots: expected at least 4 for a cubic spline, got {knots}")
    now, last, left = _raised(projections, acquisition, min(knots, START_KNOTS)), None, 1.0
    history: list[dict[str, float]] = []
    parts = plan(acquisition, knots=knots)
    for part in track(parts, total=len(parts), label="motion"):
        level = with_object(motion_level(projections, now, binning=part.binning))
        images, seen = level.images(now)
        level = cropped(supported(level, now))
        for _ in range(part.most):
            last = step(level.at(now), images, seen, part)
            now, left, tries = _accepted(last)
            history.append(_record(last, now, (last.operations + 2 * PASSES * tries) * level.cost))
            if left > SETTLED:
                break
    assert last is not None
    return _judged(last, acquisition, now, history, left=left)


def _raised(projections: Reader, acquisition: Acquisition, knots: int) -> Acquisition:
    """With the motion along the axis that the sums over detector rows tell."""
    motion = acquisition.object_motion
    if motion.any():
        return acquisition
    raised = vertical_motion_px(row_sums(projections), motion_profiles(acquisition.views, knots))
    motion[:, 2] = raised * acquisition.voxel_mm
    return acquisition.with_object_motion(motion)


def plan(acquisition: Acquisition, *, knots: int) -> list[Part]:
    """Shifts alone with few knots first, then all six, then on finer images."""
    fine, coarse = binnings(acquisition)
    return [
        Part(coarse, 3, min(knots, START_KNOTS), 2, DAMPING["coarse"]),
        Part(coarse, 6, knots, MOST_STEPS, DAMPING["coarse"]),
        Part(fine, 6, knots, MOST_STEPS, DAMPING["fine"]),
    ]


def motion_level(projections: Reader, acquisition: Acquisition, *, binning: int) -> Level:
    """The scan on coarse pixels, with more slices than the detector has rows by what the object may move."""
    wanted = max(LEAST_VIEWS, VIEWS_A_COLUMN * acquisition.cols / binning)
    reach = REACH_PX * binnings(acquisition)[0]
    return make_level(
        projections,
        acquisition,
        binning=binning,
        view_step=max(1, int(acquisition.views / wanted)),
        reach_px=reach,
        travel_px=reach,
    )


def step(level: Level, images: Tensor, seen: Tensor, part: Part) -> Step:
    """Linearise at the motion of a level's acquisition and solve.

    Args:
        level: operators that follow the motion.
        images: (view, row, col) from `Level.images`.
        seen: likewise, where they were recorded.
        part: what is free.
    """
    profiles = motion_profiles(level.acquisition.views, part.knots)
    size = profiles.shape[1]
    volume = _volume(level, images)
    own = torch.from_numpy(np.ascontiguousarray(profiles[level.views].T)).float()[:, :, None, None]
    columns = []
    for change in generators(level, volume, part.directions):
        weighted = own * change
        # One pass instead of two at half the cost: steps end at the same place.
        unexplained = project(level.reconstruct(weighted), level.geometry, level.grid) - weighted
        columns.append((level.banded(unexplained) * seen).flatten(1))
    matrix, residual = torch.cat(columns), _residual(level, images, seen)
    stiffness = (matrix @ matrix.T).double()
    held = _variance(residual) / _prior(level.acquisition, part.directions).repeat_interleave(size) ** 2
    damped = stiffness.diagonal().reshape(-1, size).mean(dim=1).repeat_interleave(size) * part.damping
    away = torch.from_numpy(profiles.T @ level.acquisition.object_motion[:, : part.directions]).T.flatten()
    right = -(matrix @ residual.flatten()).double() - held * away / len(profiles)
    solved = torch.linalg.solve(stiffness + torch.diag(held + damped), right).reshape(-1, size)
    operations = 2 * len(matrix) + 2 * part.directions + 2 * PASSES + 3
    return Step(level, images, seen, profiles, residual, stiffness, profiles @ solved.numpy().T, operations)


def motion_profiles(views: int, knots: int) -> np.ndarray:
    """(view, knots - 1) cubic splines over time without their constant, orthogonal, rms 1."""
    splines = spline_drift(torch.eye(knots, dtype=torch.float64), views).numpy()
    return free_profiles(splines, np.ones((views, 1)))


def generators(level: Level, volume: Tensor, directions: int = 6) -> list[Tensor]:
    """(view, row, col) each: derivatives of the reprojected volume to the motion of each view, per mm, degree."""
    voxel = level.grid.voxel_mm
    found = []
    for direction in range(directions):
        change = np.zeros(6)
        change[direction] = DIFFERENCE_PX * voxel if direction < 3 else DIFFERENCE_DEG
        here = level.acquisition
        ahead, behind = (
            project(volume, level.at(here.with_object_motion(here.object_motion + sign * change)).geometry, level.grid)
            for sign in (1, -1)
        )
        found.append((ahead - behind) / (2 * change[direction]))
    return found


def _volume(level: Level, images: Tensor) -> Tensor:
    """Reconstruction, with what it leaves reconstructed again."""
    volume = level.reconstruct(images)
    return volume + level.reconstruct(images - project(volume, level.geometry, level.grid))


def _residual(level: Level, images: Tensor, seen: Tensor) -> Tensor:
    return level.banded(level.unexplained(images)) * seen


def _prior(acquisition: Acquisition, directions: int) -> Tensor:
    shift = PRIOR_PX * acquisition.voxel_mm
    return torch.tensor([shift] * 3 + [PRIOR_DEG] * 3, dtype=torch.float64)[:directions]


def _variance(residual: Tensor) -> float:
    return float((residual.double() ** 2).sum()) / max(1.0, residual.numel() / CORRELATED)


def _accepted(last: Step) -> tuple[Acquisition, float, int]:
    """The step, or the multiple of it that makes the residual smallest; what part it leaves; residuals that took.

    While the volume is still blurred steps are too short by far, and trying longer ones costs little.
    """
    before = best = float(last.residual.norm())
    there, tries = last.level.acquisition, 0
    for shares in (LONGER, SHORTER):
        for share in shares:
            trial = last.applied(share)
            left = float(_residual(last.level.at(trial), last.images, last.seen).norm())
            tries += 1
            if left >= best:
                break
            best, there = left, trial
        if there is not last.level.acquisition:
            break
    return there, best / max(before, 1e-30), tries


def _record(last: Step, now: Acquisition, cost: float) -> dict[str, float]:
    rms = np.sqrt((now.object_motion**2).mean(axis=0))
    return {
        "binning": last.level.binning,
        "residual": float((last.residual.double() ** 2).mean()) ** 0.5,
        **{f"{name}_rms": float(value) for name, value in zip(DIRECTIONS, rms, strict=True)},
        "cost_in_reconstructions": cost,
    }


def _judged(
    last: Step, start: Acquisition, found: Acquisition, history: list[dict[str, float]], *, left: float
) -> MotionFit:
    before, after = (_look(last.level.at(one), last.images, last.seen) for one in (start, found))
    sharpness = after[1] / max(before[1], 1e-30)
    shape = (start.rows, start.cols, start.cols)
    displaced = ray_displacement_px(scan_geometry(start), scan_geometry(found), VolumeGrid(shape, start.voxel_mm))
    fault = _fault(before[0], after[0], sharpness, left)
    words = f"the object moved: images displaced by {displaced:.2f} px rms"
    still = displaced < STILL_PX * last.level.binning
    if still:
        words = f"the object stood still to {displaced:.2f} px rms: no motion taken over"
    return MotionFit(
        acquisition=start if fault or still else found,
        motion=found.object_motion,
        band=last.band(),
        displacement_px=displaced,
        inconsistent=(before[0], after[0]),
        sharpness=sharpness,
        trusted=still or not fault,
        message=f"{words}, but {fault}: geometry kept as it was" if fault and not still else words,
        operations=sum(record["cost_in_reconstructions"] for record in history),
        history=tuple(history),
    )


def _look(level: Level, images: Tensor, seen: Tensor) -> tuple[float, float]:
    """Share of the images that the volume does not show, and energy of the band-passed slices that all views see."""
    residual, banded = _residual(level, images, seen), level.banded(images) * seen
    band = band_pass(level.grid.shape[1])
    margin = (level.grid.shape[0] - level.geometry.rows) // 2
    weights = level.weights.amax(dim=1)
    slices = (band @ level.reconstruct(images) @ band.T)[margin : margin + len(weights)]
    energy = float(((slices * weights[:, None, None]).double() ** 2).sum())
    return float(residual.norm() / banded.norm().clamp(min=1e-30)), energy


def _fault(before: float, after: float, sharpness: float, left: float) -> str:
    """Why a fit may not be used; empty if it may."""
    if left < UNSETTLED:
        return f"the last step still changed it much ({left:.2f} of the residual was left)"
    if after > before:
        return f"the volume explains the images no better ({after:.3g} of them is left, {before:.3g} before)"
    if after > LARGEST_SHARE:
        return f"the volume hardly explains the images ({after:.2f} of them is left)"
    if sharpness < LEAST_SHARPNESS:
        return f"slices are less sharp ({sharpness:.3f} of the energy before)"
    return ""
