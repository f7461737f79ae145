"""The sharpness route of `align`: centre and roll where slices are sharpest, each view where their volume shows it.

Two things take turns, from images of about 20 columns to those of about 80:

1. centre and roll go by a Newton step to where the views hold together best (`xrmflow.calibration.sharpness`);
2. each view moves by the shift that brings it best to what the volume made of all views shows of it (projection
   matching: Penczek et al., Ultramicroscopy 53, 1994), without what a motion of the object stands for. The volume
   follows the views, so this creeps; Anderson's acceleration (J. ACM 12, 1965) takes it there in a few moves.

A bone hardly changes along its axis, so on the coarsest images moves along rows may run away, and without them finer
images may not be within reach. Both ways are gone, and that whose volume explains more is gone on with.

It shares with the joint fit how images are drawn, but neither its equations nor its priors, and centre and roll are
judged by the reconstruction instead of by what it leaves unexplained. So the two check each other. Tilt and slant stay
as they are.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import t as student

from xrmflow.arrays import Reader, Track, untracked
from xrmflow.calibration.alignment_fit import AlignmentFit, Estimate, Look, check_scan, too_short, unusable, words
from xrmflow.calibration.consistency import PASSES, Level, binnings, make_level, with_object
from xrmflow.calibration.gauge import absorbed_along_columns, absorbed_along_rows
from xrmflow.calibration.joint import BLOCKS, make_model, smallest
from xrmflow.calibration.pose import NUMBERS as POSE
from xrmflow.calibration.sharpness import NUMBERS, Coherence, Sharpness, fitting, sharper
from xrmflow.geometry.acquisition import Acquisition

# How many turns on images of a size (one more on the coarsest), and moves of the views in each.
TURNS, MOVES = 2, 5
LEAST_COLS, LEAST_ROWS = 16, 8
# Of a view at once, in coarse pixels.
LARGEST_MOVE = 2.0
# What of the shifts found is called drift: as many cubic splines over time as the joint route fits by default.
DRIFT_KNOTS = 7


def sharpen(
    projections: Reader,
    acquisition: Acquisition,
    *,
    roll: bool = True,
    shifts: bool = True,
    track: Track = untracked,
) -> AlignmentFit:
    """Centre and roll by sharpness, drift and jitter by matching views to their volume, of a cone or parallel scan.

    Args:
        projections: (view, row, col) line integrals.
        acquisition: geometry to start from, with a centre within a few pixels such as that of
            `xrmflow.calibration.centre`; its per-view shifts are used and corrected.
        roll: whether to fit the detector's roll.
        shifts: whether each view may be shifted.
        track: shows progress.

    Raises:
        ValueError: projections of another shape than the acquisition, that are no finite numbers or the same
            everywhere; fewer than eight columns, views from one angle.
    """
    check_scan(projections, acquisition)
    *coarse, finest = _stages(acquisition)
    ways = [_Way(acquisition)]
    if coarse:
        stills = (0, 1) if shifts and len(coarse) > 1 else (0,)
        tried = track(stills, total=len(stills), label="sharpen coarse images")
        ways = [_gone(ways[0], projections, coarse, roll=roll, shifts=shifts, still=still) for still in tried]
    cost = sum(way.cost + 2 * PASSES * way.level.cost for way in ways if way.level)
    (stage,) = track([finest], total=1, label="sharpen")
    best = replace(min(ways, key=_share), cost=cost)
    way = _gone(best, projections, [stage], roll=roll, shifts=shifts)
    assert way.level is not None
    judge = Coherence(way.level)
    last = sharper(judge, way.now, roll=roll)
    cost = way.cost + (last.operations + 1 + 4 * PASSES) * way.level.cost
    return _judged(judge, acquisition, last, last.applied(way.now), way.history, cost)


@dataclass(frozen=True)
class _Way:
    """How far the views have been turned and moved.

    Attributes:
        now: the geometry.
        cost: of it, in reconstructions of the whole scan.
        history: what each turn reached.
        level: the images last looked at.
    """

    now: Acquisition
    cost: float = 0.0
    history: tuple[dict[str, float], ...] = ()
    level: Level | None = None


def _gone(
    way: _Way,
    projections: Reader,
    stages: list[tuple[int, int]],
    *,
    roll: bool,
    shifts: bool,
    still: int = 0,
) -> _Way:
    """The way after these stages, in the first `still` of which views are not moved along rows."""
    now, cost, history, level = way.now, way.cost, list(way.history), way.level
    for stage, (binning, turns) in enumerate(stages):
        plain = with_object(make_level(projections, now, binning=binning, reach_px=max(2.0, _highest(now) + 1.0)))
        for _ in range(turns):
            level = fitting(plain, now)
            now, operations = sharpest(Coherence(level), now, roll=roll)
            if shifts:
                now = matched(level, now, moves=MOVES, along_rows=stage >= still)
                operations += 2 * PASSES * MOVES
            cost += operations * level.cost
            history.append({"binning": float(binning), **{n: float(getattr(now, n)) for n in NUMBERS}, "cost": cost})
    return _Way(now, cost, tuple(history), level)


def _share(way: _Way) -> float:
    """Of the images, what their reconstruction does not show."""
    return Look(way.level, way.now).share if way.level else 1.0


def sharpest(judge: Coherence, acquisition: Acquisition, *, roll: bool) -> tuple[Acquisition, int]:
    """The acquisition after a step of centre and roll, or the part of it that is sharper; how many operations."""
    sharp = sharper(judge, acquisition, roll=roll)
    if sharp.concave and sharp.blind:
        return acquisition, sharp.operations
    for tries, share in enumerate((1.0, 0.5, 0.25), start=1):
        there = sharp.applied(acquisition, share)
        if judge.of(there) > sharp.coherence:
            return there, sharp.operations + tries
    return acquisition, sharp.operations + 3


def matched(level: Level, acquisition: Acquisition, *, moves: int, along_rows: bool = True) -> Acquisition:
    """The acquisition with the views of a level moved to where the volume of all of them shows them."""
    points: list[np.ndarray] = []
    steps: list[np.ndarray] = []
    for _ in range(moves):
        points.append(acquisition.shifts_px)
        steps.append(_free(-Look(level, acquisition).shifts_px, acquisition, level, along_rows=along_rows))
        shifts = accelerated(points, steps)
        acquisition = replace(acquisition, shift_u_px=tuple(shifts[:, 0]), shift_v_px=tuple(shifts[:, 1]))
    return acquisition


def accelerated(points: list[np.ndarray], steps: list[np.ndarray]) -> np.ndarray:
    """Where the steps of a creeping iteration x -> x + step(x) would end, from its last points (Anderson 1965).

    The combination of the points whose steps cancel best, moved by what is left of the step.
    """
    if len(points) == 1:
        return points[0] + steps[0]
    changes = np.stack([(step - steps[-1]).ravel() for step in steps[:-1]], axis=1)
    weights = np.linalg.lstsq(changes, -steps[-1].ravel(), rcond=1e-6)[0]
    there = points[-1] + steps[-1]
    for weight, point, step in zip(weights, points, steps, strict=False):
        there = there + weight * (point + step - points[-1] - steps[-1])
    return there


def _stages(acquisition: Acquisition) -> list[tuple[int, int]]:
    """Binning of the images and turns taken with them."""
    fine, _ = binnings(acquisition)
    turns = {4 * fine: TURNS + 1, 2 * fine: TURNS}
    coarser = [(binning, turns[binning]) for binning in turns if acquisition.cols >= binning * LEAST_COLS]
    return [*coarser, (fine, TURNS)]


def _highest(acquisition: Acquisition) -> float:
    return float(np.abs(acquisition.shifts_px[:, 1]).max())


def _free(moves: np.ndarray, acquisition: Acquisition, level: Level, *, along_rows: bool) -> np.ndarray:
    """Shifts (view, 2) of limited size, without what a motion of the object or the centre stands for."""
    limit = LARGEST_MOVE * level.binning
    left = np.clip(moves, -limit, limit)
    absorbed = absorbed_along_columns(np.asarray(acquisition.angles_deg)), absorbed_along_rows(left)
    for k, profiles in enumerate(absorbed):
        basis = np.linalg.qr(profiles)[0]
        left[:, k] -= basis @ (basis.T @ left[:, k])
    return left if acquisition.rows >= LEAST_ROWS and along_rows else left * [1.0, 0.0]


def _judged(
    judge: Coherence,
    start: Acquisition,
    last: Sharpness,
    found: Acquisition,
    history: tuple[dict[str, float], ...],
    cost: float,
) -> AlignmentFit:
    level = judge.level
    before, after = Look(level, start), Look(level, found)
    sharpness = last.coherence / max(judge.of(start), 1e-30)
    estimates = _estimates(level, start, found, last)
    shifts = found.shifts_px - start.shifts_px
    model = make_model(start, knots=DRIFT_KNOTS)
    smooth = zip((model.along_columns, model.along_rows), shifts.T, strict=True)
    drift = np.stack([profiles @ (profiles.T @ one) / len(one) for profiles, one in smooth], axis=1)
    blind = "sharpness hardly depends on the centre"
    fault = too_short(start) or (blind if last.blind else "") or unusable(before, after, sharpness, None, estimates)
    found_words = words(estimates, drift, shifts - drift, before, after)
    return AlignmentFit(
        route="sharpness",
        acquisition=start if fault else found,
        estimates=estimates,
        drift_px=drift,
        jitter_px=shifts - drift,
        shift_interval_px=None,
        mismatch_px=(before.mismatch_px, after.mismatch_px),
        inconsistent=(before.share, after.share),
        sharpness=sharpness,
        disagreement_px=None,
        trusted=not fault,
        message=f"{found_words}, but {fault}: geometry kept as it was" if fault else found_words,
        operations=cost,
        history=history,
    )


def _estimates(level: Level, start: Acquisition, found: Acquisition, last: Sharpness) -> tuple[Estimate, ...]:
    """Centre and roll with 95 % intervals, from how differently blocks of views pull at them (sandwich estimator)."""
    floors = smallest(level, found, NUMBERS)
    blocks = np.array_split(last.by_view, min(BLOCKS, len(last.by_view)))
    pulls = np.stack([block.sum(axis=0) for block in blocks])
    pulls = pulls - pulls.mean(axis=0)
    inverse = np.linalg.inv(last.curvature)
    scatter = inverse @ (pulls.T @ pulls) @ inverse * len(blocks) / max(1, len(blocks) - 1)
    errors = student.ppf(0.975, max(1, len(blocks) - 1)) * np.sqrt(scatter.diagonal().clip(min=0))
    estimates = []
    for k, name in enumerate(NUMBERS):
        known = not last.blind and name in last.free
        interval = float(errors[k]) + floors[name] if known else None
        estimates.append(
            Estimate(name, float(getattr(found if known else start, name)), interval, POSE[name].unit, known)
        )
    return tuple(estimates)
