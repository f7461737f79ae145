"""Joint calibration of the detector's pose and drift from the scan itself: `align`.

Coarse to fine, by the Gauss-Newton steps of `xrmflow.calibration.joint` on images that are binned by two or more:
centre and roll first, then with them smooth drifts along columns and rows, then all numbers of the pose together with
drifts and a shift of each view. Where the object stands is left alone (`xrmflow.calibration.gauge`). The sharpness of
the reconstruction (`xrmflow.calibration.sharpness`), which the fit does not use, checks its centre and roll. A fit that
is no better than the start, or that its check contradicts, is done again with centre and roll alone; if that is no
better either, nothing is changed, and the fit says so.

Start from a centre within a few pixels, such as that of `xrmflow.calibration.centre`.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import t as student
from torch import Tensor

from xrmflow.arrays import Reader, Track, untracked
from xrmflow.calibration.alignment_fit import AlignmentFit, Estimate, Look, check_scan, too_short, unusable, words
from xrmflow.calibration.centre import CentreFit
from xrmflow.calibration.consistency import PASSES, Level, binnings, make_level, with_object
from xrmflow.calibration.gauge import absorbed_along_columns, absorbed_along_rows
from xrmflow.calibration.joint import BLOCKS, Step, loss, make_model, noise_variance, scattered, step
from xrmflow.calibration.pose import NUMBERS
from xrmflow.calibration.sharpness import Coherence, Sharpness, fitting, sharper
from xrmflow.geometry.acquisition import Acquisition

VIEWS_A_COLUMN = 3.0
PLAIN = ("centre_px", "roll_deg")
LOSS_OPERATIONS = 2 * PASSES
# Steps on the finest images after the first: they converge slowly, but cost two fifths of it.
FINE_STEPS = 5
# Jitter scatters more than the residual's variance says, and FDK's own shortcomings leave slow drifts, most along rows
# (both measured on simulated bones).
JITTER_INFLATION, SHIFT_FLOORS_PX = 3.0, (0.01, 0.08)
# How far the centre may be moved while views drift and sharpness cannot confirm it.
LARGEST_UNCONFIRMED_PX = 0.3


@dataclass(frozen=True)
class _Part:
    """A number of steps with the same data and the same free parameters.

    Attributes:
        steps: with columns of their own.
        more: after these, with the columns of the last of them; only with jitter.
    """

    binning: int
    numbers: tuple[str, ...]
    knots: int
    jitter: bool
    steps: int
    more: int = 0


def align(
    projections: Reader,
    acquisition: Acquisition,
    *,
    numbers: tuple[str, ...] = tuple(NUMBERS),
    drift_knots: int = 7,
    jitter: bool = True,
    track: Track = untracked,
) -> AlignmentFit:
    """Fit the pose, drift and jitter of the detector, and the angle of the cone, to a cone or parallel scan.

    Args:
        projections: (view, row, col) line integrals.
        acquisition: geometry to start from; its per-view shifts are used and corrected.
        numbers: which of `pose.NUMBERS` to fit, where data hold them.
        drift_knots: coefficients of the cubic splines over time of the drifts, at least 4; 0 for none.
        jitter: whether each view may be shifted by itself.
        track: shows progress over steps.

    Raises:
        ValueError: projections of another shape than the acquisition, that are no finite numbers or the same
            everywhere; fewer than eight columns, views from one angle, unknown names, 1 to 3 knots.
    """
    check_scan(projections, acquisition)
    if unknown := set(numbers) - set(NUMBERS):
        raise ValueError(f"numbers: expected some of {', '.join(NUMBERS)}, got {', '.join(sorted(unknown))}")
    if 0 < drift_knots < 4:
        raise ValueError(f"drift_knots: expected 0 or at least 4 for a cubic spline, got {drift_knots}")
    fit = _fitted(
        projections, acquisition, plan(acquisition, numbers=numbers, drift_knots=drift_knots, jitter=jitter), track
    )
    if fit.trusted or not (drift_knots or jitter):
        return fit
    plain = tuple(name for name in numbers if name in PLAIN)
    parts = plan(acquisition, numbers=plain, drift_knots=0, jitter=False)
    alone = _fitted(projections, acquisition, parts, untracked)
    operations = fit.operations + alone.operations
    if not alone.trusted:
        return replace(fit, operations=operations)
    estimates = tuple(_less_certain(one, fit.estimates) for one in alone.estimates)
    message = f"{alone.message}; without drift and jitter, because with them: {fit.message}"
    return replace(alone, estimates=estimates, operations=operations, message=message)


def _less_certain(one: Estimate, others: tuple[Estimate, ...]) -> Estimate:
    """By as much as another fit disagrees, which let views drift: whether they do is not known."""
    (other,) = (other for other in others if other.name == one.name)
    if one.interval is None or other.interval is None:
        return one
    return replace(one, interval=one.interval + abs(one.value - other.value))


def _fitted(projections: Reader, acquisition: Acquisition, parts: list[_Part], track: Track) -> AlignmentFit:
    now, last = acquisition, None
    history: list[dict[str, float]] = []
    for part in track(parts, total=len(parts), label="align"):
        level = with_object(_level(projections, now, part))
        model = make_model(acquisition, numbers=part.numbers, knots=part.knots, jitter=part.jitter)
        for number in range(part.steps + part.more):
            kept = last.columns if last is not None and number >= part.steps else None
            last = step(level, now, model, start=acquisition, columns=kept)
            now, tries = _accepted(last)
            history.append(_record(last, (last.operations + tries * LOSS_OPERATIONS) * level.cost))
    assert last is not None
    return _judged(last, acquisition, now, history)


def geometry_record(projections: Reader, centre: CentreFit, pose: AlignmentFit | None) -> dict[str, Any]:
    """JSON-ready: the acquisition to use, how it was found, notes, and an alignment score.

    The score `mismatch_px` is the rms over the views of the shift that would bring the image best to what the volume
    made of all of them shows: near zero in the right geometry, and too small for errors that the volume absorbs.
    """
    record = centre.to_dict()
    if pose is not None:
        record["acquisition"] = pose.acquisition.to_dict()
        record["joint"] = pose.to_dict()
    used = centre.acquisition if pose is None else pose.acquisition
    record["score"] = {"mismatch_px": mismatch_px(projections, used)}
    return record


def mismatch_px(projections: Reader, acquisition: Acquisition) -> float:
    """Alignment score of a geometry, see `geometry_record`; pixels."""
    part = plan(acquisition, numbers=tuple(NUMBERS), drift_knots=0, jitter=False)[-1]
    return Look(_level(projections, acquisition, part), acquisition).mismatch_px


def plan(acquisition: Acquisition, *, numbers: tuple[str, ...], drift_knots: int, jitter: bool) -> list[_Part]:
    """From few parameters on coarse images to all of them on finer ones."""
    fine, coarse = binnings(acquisition)
    first = tuple(name for name in numbers if name in PLAIN)
    parts = [_Part(coarse, first, 0, False, 2)]
    parts += [_Part(coarse, first, drift_knots, False, 2)] if drift_knots else []
    parts += [_Part(coarse, numbers, drift_knots, True, 2)] if jitter else []
    steps, more = (1, FINE_STEPS) if jitter else (3, 0)  # without jitter there are few columns, and no other gradient
    return [*parts, _Part(fine, numbers, drift_knots, jitter, steps, more)]


def _level(projections: Reader, now: Acquisition, part: _Part) -> Level:
    wanted = VIEWS_A_COLUMN * now.cols / part.binning
    view_step = 1 if part.jitter else max(1, int(now.views / wanted))
    reach = max(2.0, float(np.abs(now.shifts_px[:, 1]).max()) + 1.0)
    level = make_level(projections, now, binning=part.binning, view_step=view_step, reach_px=reach)
    return fitting(level, now)


def _accepted(last: Step) -> tuple[Acquisition, int]:
    """The step, or the part of it that makes the residual smaller; how many residuals that took."""
    before = _per_pixel(last.residual, last.seen)
    for tries, share in enumerate((1.0, 0.5, 0.25), start=1):
        there = last.applied(share)
        residual, _, seen = loss(last.level, there)
        if _per_pixel(residual, seen) < before:
            return there, tries
    return last.acquisition, 3


def _per_pixel(residual: Tensor, seen: Tensor) -> float:
    return float((residual.double() ** 2).sum() / seen.double().sum().clamp(min=1.0))


def _record(last: Step, cost: float) -> dict[str, float]:
    numbers = {name: float(getattr(last.acquisition, name)) for name in last.model.numbers}
    return {"binning": last.level.binning, "residual": _per_pixel(last.residual, last.seen) ** 0.5, **numbers} | {
        "cost_in_reconstructions": cost
    }


def _judged(last: Step, start: Acquisition, found: Acquisition, history: list[dict[str, float]]) -> AlignmentFit:
    level = last.level
    before, after = (Look(level, one) for one in (start, found))
    judge = Coherence(level)
    sharp_before, sharp = judge.of(start), sharper(judge, found)
    disagreement = _disagreement_px(sharp, found)
    operations = sum(record["cost_in_reconstructions"] for record in history)
    operations += (2 * LOSS_OPERATIONS + sharp.operations + 1) * level.cost
    scatter = scattered(last.columns, last.held, after.residual).numpy()
    quantile = float(student.ppf(0.975, min(BLOCKS, len(after.residual)) - 1))
    estimates = _estimates(last, start, found, scatter, quantile)
    sharpness = sharp.coherence / max(sharp_before, 1e-30)
    drift, jitter = _parts_of_shifts(last, found.shifts_px - start.shifts_px)
    fault = too_short(start) or unusable(before, after, sharpness, disagreement, estimates)
    moved = abs(found.centre_px - start.centre_px)
    if not fault and disagreement is None and last.model.along_columns.size and moved > LARGEST_UNCONFIRMED_PX:
        # Over half a turn of parallel rays a drift can stand for a wrong centre.
        fault = f"sharpness cannot confirm that the centre is {moved:.2f} px from where it was when views drift"
    found_words = words(estimates, drift, jitter, before, after)
    found_words += ", less certain because the object reaches beyond the detector" * level.truncated
    return AlignmentFit(
        route="joint",
        acquisition=start if fault else found,
        estimates=estimates,
        drift_px=drift,
        jitter_px=jitter,
        shift_interval_px=_shift_interval(last, after.residual, scatter, quantile),
        mismatch_px=(before.mismatch_px, after.mismatch_px),
        inconsistent=(before.share, after.share),
        sharpness=sharpness,
        disagreement_px=disagreement,
        trusted=not fault,
        message=f"{found_words}, but {fault}: geometry kept as it was" if fault else found_words,
        operations=operations,
        history=tuple(history),
    )


def _disagreement_px(sharp: Sharpness, found: Acquisition) -> float | None:
    """By how much sharpness would move the outermost rows of the images; None where it tells nothing."""
    if sharp.blind:
        return None
    shown = sharp.applied(found)
    turn = math.radians(abs(shown.roll_deg - found.roll_deg))
    return math.hypot(shown.centre_px - found.centre_px, 0.5 * turn * found.rows)


def _estimates(
    last: Step, start: Acquisition, found: Acquisition, scatter: np.ndarray, quantile: float
) -> tuple[Estimate, ...]:
    errors = np.sqrt(scatter.diagonal().clip(min=0))
    estimates = []
    for k, name in enumerate(last.model.numbers):
        known = last.observable[k]
        # What the last step still changed, steps that converge slowly have yet to go.
        interval = quantile * float(errors[k]) + last.floors[name] + abs(float(last.change[k])) if known else None
        if interval is not None and name == "centre_px" and last.model.along_columns.size:
            interval += SHIFT_FLOORS_PX[0]
        estimates.append(
            Estimate(name, float(getattr(found if known else start, name)), interval, NUMBERS[name].unit, known)
        )
    return tuple(estimates)


def _shift_interval(last: Step, residual: Tensor, scatter: np.ndarray, quantile: float) -> np.ndarray:
    """Half widths (view, 2) of the 95 % bands of the shifts along columns and rows, drift and jitter together, beyond
    what a motion of the object stands for.
    """
    model, level = last.model, last.level
    images, _ = level.images(last.acquisition)
    angles = np.asarray(last.acquisition.angles_deg)
    absorbed = absorbed_along_columns(angles), absorbed_along_rows(angles)
    first, band = len(model.numbers), np.zeros((last.acquisition.views, 2))
    for k, profiles in enumerate((model.along_columns, model.along_rows)):
        own = slice(first, first + profiles.shape[1])
        free = profiles - absorbed[k] @ np.linalg.lstsq(absorbed[k], profiles, rcond=None)[0]
        drift = quantile**2 * np.einsum("vi,ij,vj->v", free, scatter[own, own], free).clip(min=0)
        stiff = float(((level.slopes(images)[k] ** 2) * level.weights).sum((1, 2)).mean())
        jitter = (1.96 * JITTER_INFLATION) ** 2 * noise_variance(residual) / max(stiff, 1e-30) if model.jitter else 0.0
        band[:, k] = np.sqrt(drift + jitter) + SHIFT_FLOORS_PX[k]
        first = own.stop
    return band


def _parts_of_shifts(last: Step, shifts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fitted shifts (view, 2) as drift and jitter."""
    drift = np.zeros_like(shifts)
    for k, profiles in enumerate((last.model.along_columns, last.model.along_rows)):
        drift[:, k] = profiles @ (profiles.T @ shifts[:, k]) / len(shifts)
    return drift, shifts - drift
