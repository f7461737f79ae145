"""Trial centres of rotation: how sharp slices are at each of them, coarsely over a wide range and finely near the best.

A coarse sweep reconstructs one binned slice for centres over the whole range. A fine sweep reconstructs several slices
for `OFFSETS_PX` around the best, from all views and from the even and the odd ones alone. Which measure of sharpness
tells centres apart is seen from the sweep itself (`xrmflow.calibration.centre` says why there are two).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn.functional import interpolate

from xrmflow.arrays import Reader, Track
from xrmflow.calibration import fan
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.scan import scan_geometry
from xrmflow.reconstruction.weights import scanned_arc, view_angles

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
# Over shorter arcs than this it may drop by 0.2 for another reason: of an object that nearly fills the field of view,
# the arcs of a wrong centre leave it. There it was 0.3 to 0.7 px off (2.5 with the axis far off the middle), the order
# 0.1. So it decides only where the order, which noise moves more, agrees within so many pixels or standard errors.
GRADIENT_ARC_DEG, AGREEMENT_PX, AGREEMENT_SIGMAS = 270.0, 0.15, 3.0
# How much sharper, as a share of the drop three pixels off the centre, another angular step has to be.
STEP_GAIN = 0.03
# A fine sweep whose best trial is near its edge is done again around that, this often at most.
MOST_SWEEPS = 4


@dataclass(frozen=True)
class CoarseSweep:
    """Result of `coarse_sweep`.

    Attributes:
        best_px: the best centre.
        step_px: binning of the first slice: how finely its trials lay.
        trials_px, scores: (n,) trial centres of the first slice, and their sharpness.
    """

    best_px: float
    step_px: float
    trials_px: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class FineSweep:
    """Result of `fine_sweep`.

    Attributes:
        method: the measure of sharpness that tells centres apart here.
        trials_px: (trial,) trial centres.
        scores: (slice, [all, even, odd views], trial) sharpness.
        heights_px: (slice,) row of each slice relative to the midplane.
        centres_px: (slice, [all, even, odd views]) best centre, between the trials.
        contrasts: (slice,) by how much sharpness drops three pixels off the centre.
        pictures: (trial, y, x) the middle slice.
    """

    method: str
    trials_px: np.ndarray
    scores: np.ndarray
    heights_px: np.ndarray
    centres_px: np.ndarray
    contrasts: np.ndarray
    pictures: np.ndarray


def coarse_sweep(projections: Reader, acquisition: Acquisition, *, row: float, search_px: float) -> CoarseSweep:
    """Best centre on a slice of about `COARSE_COLS` columns by steps of half a binned pixel, then finer by fours."""
    binning = max(1, acquisition.cols // COARSE_COLS)
    best, reach = acquisition.centre_px, search_px
    first: CoarseSweep | None = None
    while True:
        lines = fan.sinogram(projections, acquisition, row=row, binning=binning, view_step=_step(acquisition, binning))
        trials = best + np.arange(-reach, reach + 0.25 * binning, 0.5 * binning)
        images = fan.slices(lines, trials, smoothing_px=SMOOTHING_PX).sum(axis=0)
        scores = fan.gradient_energy(images)
        if 1 - np.median(scores) / max(scores.max(), 1e-30) < GRADIENT_CONTRAST:
            scores = fan.order(images, fan.grey_range(images[len(images) // 2]))
        best = float(trials[scores.argmax()])
        first = replace(first, best_px=best) if first else CoarseSweep(best, float(binning), trials, scores)
        if binning <= 4:
            return first
        reach, binning = float(binning), max(1, binning // 4)


def fine_sweep(
    projections: Reader, acquisition: Acquisition, *, rows: Sequence[float], start_px: float, track: Track
) -> FineSweep:
    """Score trial centres around `start_px` in the slices at some rows, moving on until the best lies well inside."""
    lines = [_fine_sinogram(projections, acquisition, row) for row in rows]
    heights = np.array(rows) - acquisition.midplane_px
    return _swept(lines, heights, start_px, track, MOST_SWEEPS, doubled=edges_double(acquisition))


def edges_double(acquisition: Acquisition) -> bool:
    """Whether most lines are measured from both sides, so that a wrong centre draws each edge twice."""
    arc = scanned_arc(view_angles(scan_geometry(acquisition)))
    return arc is None or math.degrees(arc[1]) >= GRADIENT_ARC_DEG


def _swept(
    lines: list[fan.Sinogram], heights: np.ndarray, start: float, track: Track, sweeps: int, *, doubled: bool
) -> FineSweep:
    unit = lines[0].binning
    trials = start + np.array(OFFSETS_PX) * unit
    gradients, orders, pictures = _scored(lines, trials, start, track)
    agreed = doubled or _agree(_centres(trials, gradients, unit), _centres(trials, orders, unit), unit)
    method, scores, contrast = _choose(gradients, orders, by_gradient=agreed)
    best = float(trials[_over_slices(scores[:, 0]).argmax()])
    if abs(best - start) > NEAR_PX * unit and sweeps > 1:
        return _swept(lines, heights, best, track, sweeps - 1, doubled=doubled)
    centres = _centres(trials, scores, unit)
    return FineSweep(method, trials, scores, heights, centres, np.maximum(contrast(scores[:, 0]), 1e-9), pictures)


def _centres(trials: np.ndarray, scores: np.ndarray, unit: float) -> np.ndarray:
    """(slice, [all, even, odd views]) best centre of each slice, between the trials."""
    return np.array([[_vertex(trials, curve, unit) for curve in curves] for curves in scores])


def _agree(by_gradient: np.ndarray, by_order: np.ndarray, unit: float) -> bool:
    """Whether both measures see the same centre, in the mean over slices, as far as noise lets the order tell."""
    apart = abs(float((by_gradient - by_order)[:, 0].mean()))
    error = float(np.sqrt(((by_order[:, 1] - by_order[:, 2]) ** 2).mean() / 4 / len(by_order)))
    return apart <= max(AGREEMENT_PX * unit, AGREEMENT_SIGMAS * error)


def _scored(
    lines: list[fan.Sinogram], trials: np.ndarray, start: float, track: Track
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradient energy and order of all slices, each (slice, [all, even, odd views], trial); the middle slice."""
    gradients, orders, pictures = [], [], np.zeros((1, 1, 1), np.float32)
    for number, line in enumerate(track(lines, total=len(lines), label="centre sweep")):
        images = fan.slices(line, trials, smoothing_px=SMOOTHING_PX)
        gradient, order = _measures(images, _limits(line, start))
        gradients.append(gradient)
        orders.append(order)
        if number == len(lines) // 2:
            pictures = _pictures(images.sum(axis=0))
    return np.stack(gradients), np.stack(orders), pictures


def angle_factor(projections: Reader, acquisition: Acquisition, *, rows: Sequence[float], start_px: float) -> float:
    """Factor on the angular step that counts the arc's end in (or out); 1 unless every slice is clearly sharper.

    Only tried for parallel half turns in even steps: elsewhere it is 1.
    """
    if not _is_half_turn(acquisition):
        return 1.0
    views = acquisition.views
    factors = (1.0, views / (views - 1), (views - 1) / views)
    scores, limits = [], []
    for factor in factors:
        turned = with_step(acquisition, factor)
        lines = [_fine_sinogram(projections, turned, row) for row in rows]
        trials = start_px + np.array([-3.0, *np.arange(-1.0, 1.01, 0.25), 3.0]) * lines[0].binning
        limits = limits or [_limits(line, start_px) for line in lines]
        images = (fan.slices(line, trials, smoothing_px=SMOOTHING_PX) for line in lines)
        scores.append(np.stack([_measures(image, limit)[1] for image, limit in zip(images, limits, strict=True)]))
    recorded = scores[0]
    drop = recorded.max(axis=2) - 0.5 * (recorded[:, :, 0] + recorded[:, :, -1])
    gains = [(s.max(axis=2) - recorded.max(axis=2)) / np.maximum(drop, 1e-30) for s in scores]
    best = int(np.argmax([gain[:, 0].mean() for gain in gains]))
    # Slices, and the even and odd views by themselves, have to agree.
    return factors[best] if best and gains[best].min() > STEP_GAIN else 1.0


def with_step(acquisition: Acquisition, factor: float) -> Acquisition:
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


def _fine_sinogram(projections: Reader, acquisition: Acquisition, row: float) -> fan.Sinogram:
    binning = -(-acquisition.cols // FINE_COLS)
    return fan.sinogram(projections, acquisition, row=row, binning=binning, view_step=_step(acquisition, binning))


def _step(acquisition: Acquisition, binning: int) -> int:
    """One view in so many is enough for slices of binned columns."""
    return max(1, int(acquisition.views / (VIEWS_A_COLUMN * acquisition.cols / binning)))


def _measures(images: np.ndarray, limits: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Gradient energy and order, each ([all, even, odd views], trial), of images (2, trial, y, x)."""
    sets = (images[0] + images[1], 2 * images[0], 2 * images[1])
    return np.stack([fan.gradient_energy(s) for s in sets]), np.stack([fan.order(s, limits) for s in sets])


def _limits(line: fan.Sinogram, centre: float) -> tuple[float, float]:
    """The range of grey values of a slice."""
    image = fan.slices(line, np.array([centre]), smoothing_px=SMOOTHING_PX)
    return fan.grey_range(image.sum(axis=(0, 1)))


def _choose(
    gradient: np.ndarray, order: np.ndarray, *, by_gradient: bool
) -> tuple[str, np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """The measure that tells centres apart: its name, its values (slice, 3, trial), and how to take its contrast."""

    def relative(whole: np.ndarray) -> np.ndarray:
        return 1 - 0.5 * (whole[:, 0] + whole[:, -1]) / np.maximum(whole.max(axis=1), 1e-30)

    def absolute(whole: np.ndarray) -> np.ndarray:
        return whole.max(axis=1) - 0.5 * (whole[:, 0] + whole[:, -1])

    if by_gradient and np.median(relative(gradient[:, 0])) >= GRADIENT_CONTRAST:
        return "gradient energy", gradient, relative
    return "order of grey values", order, absolute


def _over_slices(scores: np.ndarray) -> np.ndarray:
    """Scores (slice, trial) added up, each slice relative to its largest."""
    return (scores / np.maximum(np.abs(scores).max(axis=1, keepdims=True), 1e-30)).sum(axis=0)


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


def _pictures(images: np.ndarray) -> np.ndarray:
    """Slices averaged down to at most `MONTAGE_PX` pixels, (n, y, x) float32."""
    if images.shape[-1] <= MONTAGE_PX:
        return images
    return interpolate(torch.from_numpy(images)[:, None], size=(MONTAGE_PX, MONTAGE_PX), mode="area")[:, 0].numpy()
