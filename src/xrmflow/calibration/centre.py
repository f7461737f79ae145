"""Centre of rotation and detector roll from the scan itself: the geometry in which slices are sharpest.

A few slices spread over the detector's height are reconstructed for many trial centres, first binned over a wide
range, then at full size around the best. Sharpness is the gradient energy where it depends on the centre: a full
turn, in which a wrong centre doubles every edge. A parallel scan over half a turn draws each edge once whatever the
centre; there it is the order (negative entropy) of the grey values, which the arcs of a wrong centre spoil. The
centre of each slice is the vertex of a parabola; a straight line through the centres over height gives the centre at
the midplane and the roll of the detector. The same slices from the even and from the odd views alone tell how far
noise moves the result.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from xrmflow.arrays import Reader, Track, untracked
from xrmflow.calibration import fan
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.scan import scan_geometry
from xrmflow.reconstruction.weights import limited_arc_deg

SMOOTHING_PX = 1.5
OFFSETS_PX = (-3.0, -2.0, -1.5, -1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
# The parabola is fitted this far around the best.
NEAR_PX = 0.75
COARSE_COLS, FINE_COLS, MONTAGE_PX = 128, 768, 256
VIEWS_A_COLUMN = 2.0
# Gradient energy decides where it drops at least this much (relative) three pixels off the best. Measured: over 0.4
# for full turns, 0.05 to 0.09 for short scans, below 0.03 for parallel half turns, where it is off by 0.2 px and
# the order is not.
GRADIENT_CONTRAST = 0.04
LEAST_GRADIENT_CONTRAST, LEAST_ORDER_CONTRAST = 0.01, 0.01
LARGEST_UNCERTAINTY_PX = 0.5
# What interpolation and sampling leave even without noise.
FLOOR_PX = 0.02
ROLL_SIGMAS = 3.0
# Slices off the midplane are taken for fans; how many rows of height that may mix up.
MIXED_ROWS = 4.0
# How much sharper, as a share of the drop three pixels off the centre, another angular step has to be.
STEP_GAIN = 0.03


@dataclass(frozen=True)
class CentreFit:
    """Result of `find_centre`.

    Attributes:
        acquisition: with the fitted centre, roll and angles, or as given when the fit is not trusted.
        centre_px: fitted column of the rotation axis at the midplane row.
        uncertainty_px: one standard deviation, pixels; None without a fit.
        roll_deg: fitted rotation of the detector in its plane, degrees; 0 when not resolved.
        roll_uncertainty_deg: one standard deviation, degrees; None with fewer than three slices.
        angle_factor: by which the recorded angular step was multiplied; 1 unless that is clearly sharper.
        trusted: whether the result may be used.
        message: why, or why not.
        notes: what was assumed or changed, one sentence each.
        method: the measure of sharpness that decided.
        sweep_px: (n,) trial centres of the final sweep.
        sweep_score: (n,) sharpness, mean over slices, 0 for the worst and 1 for the best.
        slices: (n, y, x) the middle slice for each trial centre, for a person to judge.
        coarse_px: trial centres of the first sweep.
        coarse_score: their sharpness, 0 to 1.
        heights_px: row of each slice relative to the midplane.
        centres_px: centre found in each slice.
    """

    acquisition: Acquisition
    centre_px: float
    uncertainty_px: float | None
    roll_deg: float
    roll_uncertainty_deg: float | None
    angle_factor: float
    trusted: bool
    message: str
    notes: tuple[str, ...]
    method: str
    sweep_px: np.ndarray
    sweep_score: np.ndarray
    slices: np.ndarray
    coarse_px: np.ndarray
    coarse_score: np.ndarray
    heights_px: np.ndarray
    centres_px: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the acquisition to use, how it was found, and notes."""
        fit = {
            "method": self.method,
            # The centre that is used: the nominal one when the fit is not trusted.
            "centre_px": self.acquisition.centre_px,
            "uncertainty_px": self.uncertainty_px,
            "roll_deg": self.acquisition.roll_deg,
            "roll_uncertainty_deg": self.roll_uncertainty_deg,
            "angle_factor": self.angle_factor,
            "trusted": self.trusted,
            "message": self.message,
            "sweep": {"centre_px": self.sweep_px.tolist(), "score": self.sweep_score.tolist()},
            "coarse_sweep": {"centre_px": self.coarse_px.tolist(), "score": self.coarse_score.tolist()},
            "slices": {"height_px": self.heights_px.tolist(), "centre_px": self.centres_px.tolist()},
        }
        notes = [{"severity": "assumption", "text": note} for note in self.notes]
        return {"acquisition": self.acquisition.to_dict(), "fit": fit, "notes": notes}

    def pictures(self) -> dict[str, np.ndarray]:
        """The montage of trial slices by name, for a person to judge."""
        named = {"centre_px": self.sweep_px, "slices": self.slices}
        return named if len(self.slices) else {"centre_px": self.sweep_px}


def nominal(acquisition: Acquisition) -> CentreFit:
    """The geometry as it is, without a fit."""
    none = np.zeros(0)
    return CentreFit(
        acquisition=acquisition,
        centre_px=acquisition.centre_px,
        uncertainty_px=None,
        roll_deg=0.0,
        roll_uncertainty_deg=None,
        angle_factor=1.0,
        trusted=True,
        message="nominal geometry, as the settings ask (align.method: none)",
        notes=(),
        method="none",
        sweep_px=none,
        sweep_score=none,
        slices=np.zeros((0, 1, 1), np.float32),
        coarse_px=none,
        coarse_score=none,
        heights_px=none,
        centres_px=none,
    )


def find_centre(
    projections: Reader,
    acquisition: Acquisition,
    *,
    search_px: float | None = None,
    slices: int = 7,
    roll: bool = True,
    check_angles: bool = True,
    track: Track = untracked,
) -> CentreFit:
    """Find the centre of rotation (and the detector's roll) of a cone or parallel scan over any arc.

    Args:
        projections: (view, row, col) line integrals.
        acquisition: nominal geometry; its per-view shifts are used, its centre is where the search begins.
        search_px: how far from the nominal centre to search, pixels; None means an eighth of the detector's width.
        slices: how many slices, spread over the height of the detector; fewer when it has fewer rows.
        roll: fit the detector's roll where at least three slices allow it.
        check_angles: in a parallel half turn, try the angular step with the end of the arc counted in, or not, and take
            it where clearly sharper: a common slip of file writers that moves the centre.
        track: shows progress over slices.

    Raises:
        ValueError: projections of another shape than the acquisition, or a search range that is not positive.
    """
    expected = (acquisition.views, acquisition.rows, acquisition.cols)
    if tuple(projections.shape) != expected:
        raise ValueError(f"projections: expected shape (view, row, col) = {expected}, got {tuple(projections.shape)}")
    search = max(4.0, acquisition.cols / 8) if search_px is None else search_px
    if not search > 0:
        raise ValueError(f"search_px: expected a positive number of pixels, got {search_px}")
    rows = slice_rows(acquisition, slices)
    coarse = _coarse(projections, acquisition, rows[len(rows) // 2], search)
    start = coarse.best_px
    factor = 1.0
    if check_angles and _is_half_turn(acquisition):
        factor = _angle_factor(projections, acquisition, rows[:: max(1, len(rows) // 3)], start)
    turned = _with_step(acquisition, factor)
    lines = [_fine_sinogram(projections, turned, row) for row in rows]
    sweep = _sweep(lines, np.array(rows) - acquisition.midplane_px, start, track)
    line = _line(sweep, roll=roll)
    at_edge = (
        max(abs(start - acquisition.centre_px) + coarse.step_px, abs(line.centre_px - acquisition.centre_px)) > search
    )
    arc_deg = limited_arc_deg(scan_geometry(acquisition))
    trusted, message = _judge(line, sweep, at_edge=at_edge, search=search, arc_deg=arc_deg)
    notes = [] if factor == 1 else [_angle_note(acquisition, factor)]
    fitted = acquisition
    if trusted:
        fitted = replace(turned, centre_px=line.centre_px, roll_deg=acquisition.roll_deg + line.roll_deg)
    return CentreFit(
        acquisition=fitted,
        centre_px=line.centre_px,
        uncertainty_px=line.uncertainty_px,
        roll_deg=line.roll_deg,
        roll_uncertainty_deg=line.roll_uncertainty_deg,
        angle_factor=factor,
        trusted=trusted,
        message=message,
        notes=tuple(notes) if trusted else (),
        method=f"sharpest slices ({sweep.method})",
        sweep_px=sweep.trials_px,
        sweep_score=_unit(sweep.scores[:, 0].mean(axis=0)),
        slices=sweep.pictures,
        coarse_px=coarse.trials_px,
        coarse_score=_unit(coarse.scores),
        heights_px=sweep.heights_px,
        centres_px=sweep.centres_px[:, 0],
    )


def slice_rows(acquisition: Acquisition, slices: int) -> list[float]:
    """Detector rows at which slices are judged: all when there are few, else spread over the height.

    Rows within the middle 80 percent are used, and not so far from the midplane of a cone that the height at which a
    ray crosses the object varies by more than `MIXED_ROWS`.
    """
    if slices < 1:
        raise ValueError(f"slices: expected at least 1, got {slices}")
    rows = acquisition.rows
    if rows <= slices:
        return [float(row) for row in range(rows)]
    low, high = 0.1 * (rows - 1), 0.9 * (rows - 1)
    if acquisition.beam == "cone":
        half_width = acquisition.voxel_mm * acquisition.cols / 2
        reach = MIXED_ROWS * float(acquisition.source_to_axis_mm or 1) / half_width
        middle = float(np.clip(acquisition.midplane_px, low, high))
        low, high = max(low, middle - reach), min(high, middle + reach)
    return [0.5 * (low + high)] if slices == 1 else [float(row) for row in np.linspace(low, high, slices)]


@dataclass(frozen=True)
class _Coarse:
    best_px: float
    step_px: float
    trials_px: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class _Sweep:
    """Scores (slice, [all, even, odd views], trial), and what was read off them."""

    method: str
    trials_px: np.ndarray
    scores: np.ndarray
    heights_px: np.ndarray
    centres_px: np.ndarray
    contrasts: np.ndarray
    pictures: np.ndarray


@dataclass(frozen=True)
class _Line:
    centre_px: float
    uncertainty_px: float
    roll_deg: float
    roll_uncertainty_deg: float | None


def _coarse(projections: Reader, acquisition: Acquisition, row: float, search: float) -> _Coarse:
    """Best centre on a slice of about `COARSE_COLS` columns by steps of half a binned pixel, then finer by fours."""
    binning = max(1, acquisition.cols // COARSE_COLS)
    best, reach = acquisition.centre_px, search
    first: _Coarse | None = None
    while True:
        lines = fan.sinogram(projections, acquisition, row=row, binning=binning, view_step=_step(acquisition, binning))
        trials = best + np.arange(-reach, reach + 0.25 * binning, 0.5 * binning)
        images = fan.slices(lines, trials, smoothing_px=SMOOTHING_PX).sum(axis=0)
        scores = fan.gradient_energy(images)
        if 1 - np.median(scores) / max(scores.max(), 1e-30) < GRADIENT_CONTRAST:
            scores = fan.order(images, fan.grey_range(images[len(images) // 2]))
        best = float(trials[scores.argmax()])
        first = replace(first, best_px=best) if first else _Coarse(best, float(binning), trials, scores)
        if binning <= 4:
            return first
        reach, binning = float(binning), max(1, binning // 4)


def _fine_sinogram(projections: Reader, acquisition: Acquisition, row: float) -> fan.Sinogram:
    binning = -(-acquisition.cols // FINE_COLS)
    return fan.sinogram(projections, acquisition, row=row, binning=binning, view_step=_step(acquisition, binning))


def _step(acquisition: Acquisition, binning: int) -> int:
    return max(1, int(acquisition.views / (VIEWS_A_COLUMN * acquisition.cols / binning)))


def _measures(images: np.ndarray, limits: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Gradient energy and order, each ([all, even, odd views], trial), of images (2, trial, y, x)."""
    sets = (images[0] + images[1], 2 * images[0], 2 * images[1])
    return np.stack([fan.gradient_energy(s) for s in sets]), np.stack([fan.order(s, limits) for s in sets])


def _limits(line: fan.Sinogram, centre: float) -> tuple[float, float]:
    image = fan.slices(line, np.array([centre]), smoothing_px=SMOOTHING_PX)
    return fan.grey_range(image.sum(axis=(0, 1)))


def _choose(gradient: np.ndarray, order: np.ndarray) -> tuple[str, np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """The measure that tells centres apart: its name, its values (slice, 3, trial), and how to take its contrast."""

    def relative(whole: np.ndarray) -> np.ndarray:
        return 1 - 0.5 * (whole[:, 0] + whole[:, -1]) / np.maximum(whole.max(axis=1), 1e-30)

    def absolute(whole: np.ndarray) -> np.ndarray:
        return whole.max(axis=1) - 0.5 * (whole[:, 0] + whole[:, -1])

    if np.median(relative(gradient[:, 0])) >= GRADIENT_CONTRAST:
        return "gradient energy", gradient, relative
    return "order of grey values", order, absolute


def _sweep(lines: list[fan.Sinogram], heights: np.ndarray, start: float, track: Track) -> _Sweep:
    """Score trial centres around `start` in every slice, moving on until the best lies well inside."""
    unit = lines[0].binning
    offsets = np.array(OFFSETS_PX) * unit
    method, scores, contrast = "", np.zeros((1, 3, 1)), np.ptp
    trials, pictures = start + offsets, np.zeros((1, 1, 1), np.float32)
    for _ in range(4):
        trials = start + offsets
        gradients, orders = [], []
        for number, line in enumerate(track(lines, total=len(lines), label="centre sweep")):
            images = fan.slices(line, trials, smoothing_px=SMOOTHING_PX)
            for values, measured in zip((gradients, orders), _measures(images, _limits(line, start)), strict=True):
                values.append(measured)
            if number == len(lines) // 2:
                pictures = _pictures(images.sum(axis=0))
        method, scores, contrast = _choose(np.stack(gradients), np.stack(orders))
        best = float(trials[_joint(scores[:, 0]).argmax()])
        if abs(best - start) <= NEAR_PX * unit:
            break
        start = best
    centres = np.array([[_vertex(trials, curve, unit) for curve in curves] for curves in scores])
    return _Sweep(method, trials, scores, heights, centres, np.maximum(contrast(scores[:, 0]), 1e-9), pictures)


def _joint(scores: np.ndarray) -> np.ndarray:
    return (scores / np.maximum(np.abs(scores).max(axis=1, keepdims=True), 1e-30)).sum(axis=0)


def _with_step(acquisition: Acquisition, factor: float) -> Acquisition:
    """The acquisition with its angular step multiplied."""
    if factor == 1:
        return acquisition
    first = acquisition.angles_deg[0]
    return replace(acquisition, angles_deg=tuple(first + (a - first) * factor for a in acquisition.angles_deg))


def _is_half_turn(acquisition: Acquisition) -> bool:
    """Whether this is a parallel scan over about half a turn in even steps, as a file writer's formula gives."""
    steps = np.diff(acquisition.angles_deg)
    if acquisition.beam != "parallel" or len(steps) < 15:
        return False
    even = bool(np.abs(steps - steps.mean()).max() < 0.01 * abs(steps.mean()))
    return even and abs(abs(float(steps.sum())) - 180) < 2 * abs(float(steps.mean()))


def _angle_factor(projections: Reader, acquisition: Acquisition, rows: list[float], start: float) -> float:
    """Factor on the angular step that counts the arc's end in (or out); 1 unless every slice is clearly sharper."""
    views = acquisition.views
    factors = (1.0, views / (views - 1), (views - 1) / views)
    scores, limits = [], []
    for factor in factors:
        turned = _with_step(acquisition, factor)
        lines = [_fine_sinogram(projections, turned, row) for row in rows]
        trials = start + np.array([-3.0, *np.arange(-1.0, 1.01, 0.25), 3.0]) * lines[0].binning
        limits = limits or [_limits(line, start) for line in lines]
        images = (fan.slices(line, trials, smoothing_px=SMOOTHING_PX) for line in lines)
        scores.append(np.stack([_measures(image, limit)[1] for image, limit in zip(images, limits, strict=True)]))
    recorded = scores[0]
    drop = recorded.max(axis=2) - 0.5 * (recorded[:, :, 0] + recorded[:, :, -1])
    gains = [(s.max(axis=2) - recorded.max(axis=2)) / np.maximum(drop, 1e-30) for s in scores]
    best = int(np.argmax([gain[:, 0].mean() for gain in gains]))
    # Slices, and the even and odd views by themselves, have to agree.
    return factors[best] if best and gains[best].min() > STEP_GAIN else 1.0


def _angle_note(acquisition: Acquisition, factor: float) -> str:
    recorded = acquisition.angles_deg[-1] - acquisition.angles_deg[0]
    return (
        f"recorded angles span {recorded:.3f} deg, but slices are clearly sharper when they span "
        f"{recorded * factor:.3f} deg (end of the arc counted in or out): that was used (align.check_angles)"
    )


def _pictures(images: np.ndarray) -> np.ndarray:
    """Slices averaged down to at most `MONTAGE_PX` pixels, (n, y, x) float32."""
    if images.shape[-1] <= MONTAGE_PX:
        return images
    return interpolate(torch.from_numpy(images)[:, None], size=(MONTAGE_PX, MONTAGE_PX), mode="area")[:, 0].numpy()


def _unit(scores: np.ndarray) -> np.ndarray:
    return (scores - scores.min()) / max(float(np.ptp(scores)), 1e-30)


def _vertex(trials: np.ndarray, scores: np.ndarray, unit: float) -> float:
    """Position of the maximum of the parabola fitted around the best trial; the best trial where there is none."""
    best = int(scores.argmax())
    near = np.abs(trials - trials[best]) <= NEAR_PX * unit * 1.001
    if near.sum() < 3:
        return float(trials[best])
    curve = np.polyfit(trials[near] - trials[best], scores[near] / max(abs(scores[best]), 1e-30), 2)
    if curve[0] >= 0:
        return float(trials[best])
    return float(trials[best] + np.clip(-0.5 * curve[1] / curve[0], -unit, unit))


def _line(sweep: _Sweep, *, roll: bool) -> _Line:
    """Weighted straight line through the centres over height: the value at the midplane, and its slope as a roll."""
    heights, centres = sweep.heights_px, sweep.centres_px[:, 0]
    count = len(heights)
    weights = sweep.contrasts**2 / np.sum(sweep.contrasts**2)
    # Half the difference of two halves scatters like their mean.
    noise = float(np.sum(weights * (sweep.centres_px[:, 1] - sweep.centres_px[:, 2]) ** 2)) / 4
    mean = float(np.sum(weights * centres))
    scatter = float(np.sum(weights * (centres - mean) ** 2)) * count / max(1, count - 1)
    level = _Line(mean, float(np.sqrt(max(noise, scatter) / count + FLOOR_PX**2)), 0.0, None)
    if count < 3 or np.ptp(heights) < 8 or not roll:
        return level
    design = np.stack([np.ones_like(heights), heights], axis=1)
    normal = design.T @ (weights[:, None] * design)
    offset, slope = np.linalg.solve(normal, design.T @ (weights * centres))
    rest = float(np.sum(weights * (centres - design @ [offset, slope]) ** 2)) * count / (count - 2)
    covariance = np.linalg.inv(normal) / count * max(noise, rest)
    slope_error = float(np.sqrt(covariance[1, 1]))
    turn, turn_error = float(np.degrees(np.arctan(slope))), float(np.degrees(slope_error))
    if abs(slope) < ROLL_SIGMAS * slope_error:
        return replace(level, roll_uncertainty_deg=turn_error)
    return _Line(float(offset), float(np.sqrt(covariance[0, 0] + FLOOR_PX**2)), turn, turn_error)


def _judge(line: _Line, sweep: _Sweep, *, at_edge: bool, search: float, arc_deg: float | None) -> tuple[bool, str]:
    found = f"centre {line.centre_px:.2f} +- {line.uncertainty_px:.2f} px"
    contrast = float(np.median(sweep.contrasts))
    least = LEAST_GRADIENT_CONTRAST if sweep.method == "gradient energy" else LEAST_ORDER_CONTRAST
    if arc_deg is not None:
        return False, f"{found} from an arc of {arc_deg:.0f} degrees, where sharpness misleads: nominal geometry kept"
    if at_edge:
        return False, f"{found} lies at the end of the search range of {search:g} px: nominal geometry kept"
    if not contrast > least:
        return False, f"{found}, but sharpness hardly depends on it (contrast {contrast:.4f}): nominal geometry kept"
    if line.uncertainty_px > LARGEST_UNCERTAINTY_PX:
        return False, f"{found} is too uncertain: nominal geometry kept"
    tilt = f", roll {line.roll_deg:.3f} +- {line.roll_uncertainty_deg:.3f} deg" if line.roll_deg else ""
    return True, f"{found}{tilt} from {len(sweep.heights_px)} slices, by {sweep.method}"
