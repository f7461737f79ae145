"""Centre of rotation and detector roll from the scan itself: the geometry in which slices are sharpest.

A few slices spread over the detector's height are reconstructed for many trial centres, first binned over a wide range,
then at full size around the best. Sharpness is the gradient energy where it depends on the centre: a full turn, in
which a wrong centre doubles every edge. A parallel scan over half a turn draws each edge once whatever the centre;
there, and in short scans in which both disagree, it is the order (negative entropy) of the grey values, which the arcs
of a wrong centre spoil. The centre of each slice is the vertex of a parabola; a straight line through the centres over
height gives the centre at the midplane and the roll of the detector. The same slices from the even and from the odd
views alone tell how far noise moves the result.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xrmflow.arrays import Reader, Track, untracked
from xrmflow.calibration.centre_sweep import FineSweep, angle_factor, coarse_sweep, fine_sweep, with_step
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.scan import check_projections, scan_geometry
from xrmflow.reconstruction.weights import limited_arc_deg

# The least drop of the order of grey values, nats, three pixels off the centre (gradient energy is only used where it
# drops by `centre_sweep.GRADIENT_CONTRAST`).
LEAST_CONTRAST = 0.01
LARGEST_UNCERTAINTY_PX = 0.5
# Slices of fewer views are streaks, which are sharpest anywhere.
LEAST_VIEWS = 12
# What interpolation and sampling leave even without noise.
FLOOR_PX = 0.02
ROLL_SIGMAS = 3.0
# Slices off the midplane are taken for fans; how many rows of height that may mix up.
MIXED_ROWS = 4.0
# The search goes this share of the detector's width either way, and so many pixels at least.
SEARCH_SHARE, LEAST_SEARCH_PX = 1 / 8, 4.0


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
        ValueError: projections of another shape than the acquisition or that are no finite numbers, fewer than three
            columns, a search range that is not positive.
    """
    check_projections(projections.shape, acquisition)
    if acquisition.cols < 3:
        raise ValueError(f"cols: expected at least 3 to tell a centre from, got {acquisition.cols}")
    search = max(LEAST_SEARCH_PX, acquisition.cols * SEARCH_SHARE) if search_px is None else search_px
    if not search > 0:
        raise ValueError(f"search_px: expected a positive number of pixels, got {search_px}")
    rows = slice_rows(acquisition, slices)
    coarse = coarse_sweep(projections, acquisition, row=rows[len(rows) // 2], search_px=search)
    some = rows[:: max(1, len(rows) // 3)]
    factor = angle_factor(projections, acquisition, rows=some, start_px=coarse.best_px) if check_angles else 1.0
    turned = with_step(acquisition, factor)
    sweep = fine_sweep(projections, turned, rows=rows, start_px=coarse.best_px, track=track)
    line = _line(sweep, roll=roll)
    before = acquisition.centre_px
    at_edge = max(abs(coarse.best_px - before) + coarse.step_px, abs(line.centre_px - before)) > search
    arc_deg = limited_arc_deg(scan_geometry(acquisition))
    trusted, message = _judge(line, sweep, acquisition.views, at_edge=at_edge, search=search, arc_deg=arc_deg)
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
        notes=(_angle_note(acquisition, factor),) if trusted and factor != 1 else (),
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
class _Line:
    centre_px: float
    uncertainty_px: float
    roll_deg: float
    roll_uncertainty_deg: float | None


def _angle_note(acquisition: Acquisition, factor: float) -> str:
    recorded = acquisition.angles_deg[-1] - acquisition.angles_deg[0]
    return (
        f"recorded angles span {recorded:.3f} deg, but slices are clearly sharper when they span "
        f"{recorded * factor:.3f} deg (end of the arc counted in or out): that was used (align.check_angles)"
    )


def _unit(scores: np.ndarray) -> np.ndarray:
    return (scores - scores.min()) / max(float(np.ptp(scores)), 1e-30)


def _line(sweep: FineSweep, *, roll: bool) -> _Line:
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


def _judge(
    line: _Line, sweep: FineSweep, views: int, *, at_edge: bool, search: float, arc_deg: float | None
) -> tuple[bool, str]:
    found = f"centre {line.centre_px:.2f} +- {line.uncertainty_px:.2f} px"
    contrast = float(np.median(sweep.contrasts))
    if arc_deg is not None:
        return False, f"{found} from an arc of {arc_deg:.0f} degrees, where sharpness misleads: nominal geometry kept"
    if views < LEAST_VIEWS:
        return False, f"{found} from {views} views, too few to make slices of: nominal geometry kept"
    if at_edge:
        return False, f"{found} lies at the end of the search range of {search:g} px: nominal geometry kept"
    if not contrast > LEAST_CONTRAST:
        return False, f"{found}, but sharpness hardly depends on it (contrast {contrast:.4f}): nominal geometry kept"
    if line.uncertainty_px > LARGEST_UNCERTAINTY_PX:
        return False, f"{found} is too uncertain: nominal geometry kept"
    tilt = f", roll {line.roll_deg:.3f} +- {line.roll_uncertainty_deg:.3f} deg" if line.roll_deg else ""
    return True, f"{found}{tilt} from {len(sweep.heights_px)} slices, by {sweep.method}"
