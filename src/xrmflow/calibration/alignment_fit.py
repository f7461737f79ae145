"""What a fit of the detector's geometry found, by either route of `align`, and whether it may be used.

Both, `xrmflow.calibration.alignment` (joint) and `xrmflow.calibration.sharpening`, are judged alike: by what the volume
leaves unexplained of the scan, by how sharp it is, and by how certain the centre is.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from xrmflow.arrays import Reader
from xrmflow.calibration.consistency import Level
from xrmflow.calibration.joint import loss
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.scan import check_projections, scan_geometry
from xrmflow.reconstruction.weights import limited_arc_deg

# Narrower detectors hold nothing between what is smoothed and where they end.
LEAST_COLS = 8
LARGEST_SHARE, LEAST_SHARPNESS = 0.5, 0.98
LARGEST_DISAGREEMENT_PX, LARGEST_INTERVAL_PX = 1.0, 0.5


@dataclass(frozen=True)
class Estimate:
    """A parameter of the whole scan.

    Attributes:
        name: field of the acquisition.
        value: fitted, or nominal where not observable.
        interval: half width of the 95 % interval; None where not observable.
        unit: px, deg or mm.
        observable: whether data hold it.
    """

    name: str
    value: float
    interval: float | None
    unit: str
    observable: bool


@dataclass(frozen=True)
class AlignmentFit:
    """Result of `xrmflow.calibration.alignment.align`, or of `xrmflow.calibration.sharpening.sharpen`.

    Attributes:
        route: "joint" or "sharpness".
        acquisition: with the fitted numbers and per-view shifts, or as given when the fit is not trusted.
        estimates: of the numbers, with 95 % intervals.
        drift_px: (view, 2) smooth part of the fitted shifts along columns and rows, beyond those recorded.
        jitter_px: (view, 2) the rest of them.
        shift_interval_px: (view, 2) half widths of the 95 % bands of drift and jitter together; None if not estimated.
        mismatch_px: rms over the views of the shift that would explain their residual best, before and after: the
            alignment score.
        inconsistent: share of the (band-passed) images that their reconstruction does not show, before and after.
        sharpness: coherence of the reconstruction after, relative to before.
        disagreement_px: by how much sharpness would move the outermost rows of the fitted images; None where blind.
        trusted: whether the result may be used.
        message: why, or why not.
        operations: cost in reconstructions or reprojections of the whole scan.
        history: what each step reached.
    """

    route: str
    acquisition: Acquisition
    estimates: tuple[Estimate, ...]
    drift_px: np.ndarray
    jitter_px: np.ndarray
    shift_interval_px: np.ndarray | None
    mismatch_px: tuple[float, float]
    inconsistent: tuple[float, float]
    sharpness: float
    disagreement_px: float | None
    trusted: bool
    message: str
    operations: float
    history: tuple[dict[str, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the acquisition."""
        return {
            "route": self.route,
            "trusted": self.trusted,
            "message": self.message,
            "parameters": [vars(estimate) for estimate in self.estimates],
            "drift_rms_px": rms(self.drift_px),
            "jitter_rms_px": rms(self.jitter_px),
            "shift_interval_px": None
            if self.shift_interval_px is None
            else self.shift_interval_px.mean(axis=0).tolist(),
            "mismatch_px": {"before": self.mismatch_px[0], "after": self.mismatch_px[1]},
            "inconsistent": {"before": self.inconsistent[0], "after": self.inconsistent[1]},
            "sharpness": self.sharpness,
            "disagreement_px": self.disagreement_px,
            "cost_in_reconstructions": self.operations,
            "history": list(self.history),
        }


class Look:
    """What a geometry leaves unexplained.

    Attributes:
        residual: (view, row, col).
        share: its norm over that of the images, band-passed alike.
        shifts_px: (view, 2) shifts along columns and rows that would explain it best, each view by itself.
        mismatch_px: their rms.
    """

    def __init__(self, level: Level, acquisition: Acquisition) -> None:
        self.residual, images, seen = loss(level, acquisition)
        banded = level.banded(images) * seen
        self.share = float(self.residual.norm() / banded.norm().clamp(min=1e-30))
        u, v = (level.banded(slope) * seen for slope in level.slopes(images))
        uu, uv, vv = ((a * b).sum((1, 2)).double() for a, b in ((u, u), (u, v), (v, v)))
        ru, rv = ((a * self.residual).sum((1, 2)).double() for a in (u, v))
        floor = 1e-2 * (uu + vv).mean() + 1e-30
        uu, vv = uu + floor, vv + floor
        determinant = uu * vv - uv**2
        shift_u, shift_v = (vv * ru - uv * rv) / determinant, (uu * rv - uv * ru) / determinant
        self.shifts_px = torch.stack([shift_u, shift_v], dim=1).numpy()
        self.mismatch_px = rms(self.shifts_px)


def check_scan(projections: Reader, acquisition: Acquisition) -> None:
    """Raise ValueError unless these are projections of the scan, and enough to find a geometry from."""
    check_projections(projections.shape, acquisition)
    if acquisition.cols < LEAST_COLS:
        raise ValueError(f"cols: expected at least {LEAST_COLS} to find a geometry from, got {acquisition.cols}")
    if acquisition.views > 1 and len(set(acquisition.angles_deg)) == 1:
        raise ValueError(f"angles_deg: expected views from several angles, got one, {acquisition.angles_deg[0]:g}")


def too_short(acquisition: Acquisition) -> str:
    """Why no fit to this scan may be used, however well it seems to explain the images; empty if it may."""
    arc = limited_arc_deg(scan_geometry(acquisition))
    return "" if arc is None else f"views span {arc:.0f} degrees, too little for a volume that explains its own images"


def unusable(
    before: Look,
    after: Look,
    sharpness: float,
    disagreement: float | None,
    estimates: tuple[Estimate, ...],
) -> str:
    """Why a fit may not be used; empty if it may."""
    if after.share > before.share:
        return (
            f"the volume explains the images no better ({after.share:.3g} of them is left, {before.share:.3g} before)"
        )
    if after.share > LARGEST_SHARE:
        return f"the volume hardly explains the images ({after.share:.2f} of them is left)"
    if sharpness < LEAST_SHARPNESS:
        return f"slices are less sharp ({sharpness:.3f} of the coherence before)"
    if disagreement is not None and disagreement > LARGEST_DISAGREEMENT_PX:
        return f"slices are sharpest with images displaced by {disagreement:.2f} px"
    for one in estimates:
        if one.name == "centre_px" and (one.interval is None or one.interval > LARGEST_INTERVAL_PX):
            return "the centre is too uncertain"
    return ""


def words(estimates: tuple[Estimate, ...], drift: np.ndarray, jitter: np.ndarray, before: Look, after: Look) -> str:
    """What a fit found, in a line."""
    numbers = [
        f"{name} {one.value:.3f} +- {one.interval:.3f} {one.unit}" if one.observable else f"{name} not observable"
        for name, one in ((one.name.rpartition("_")[0].replace("_", " "), one) for one in estimates)
    ]
    shifts = [f"{name} {rms(values):.2f} px rms" for name, values in (("drift", drift), ("jitter", jitter))]
    rest = f"views displaced by {after.mismatch_px:.3f} px rms ({before.mismatch_px:.3f} before)"
    return ", ".join([*numbers, *shifts, rest])


def rms(values: np.ndarray) -> float:
    """Root mean square over the views of the length of shifts (view, 2)."""
    return float(np.sqrt((values**2).sum(axis=1).mean()))
