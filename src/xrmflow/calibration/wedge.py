"""The beam-hardening correction from a step wedge that was measured on the same scanner, in place of the scan itself.

Steps of known thickness t and line integrals p(t) give t = b_1 p + b_2 p^2 + ..., fitted with equal relative weight to
all steps; the degree is the one that predicts steps best that were left out. The corrected p' = mu t is proportional to
thickness. Its scale mu is what the thinnest step attenuates per mm, p(t_1) / t_1: the thinnest step is left as it is.
The slope at zero is not one, as it is where the scan itself is fitted, because no step says what happens below the
thinnest: for tubes of 40 to 80 kV slopes extrapolated from 0.5 mm of aluminium came out 9 to 17 % too small.

What a wedge cannot know is the specimen: bone hardens as the wedge does only if it is of something alike, such as
aluminium, or a calcium phosphate. Nor is a curve worth anything beyond its thickest step: then the data are left alone.
"""

from dataclasses import dataclass

import numpy as np
import torch

from xrmflow.arrays import Reader
from xrmflow.calibration.basis import Slab, load_slab
from xrmflow.calibration.bone import LEAST_DEPTH, bone_depth, segment_bone
from xrmflow.calibration.cupping import NO_NUMBERS, CuppingFit, pictures, unchanged
from xrmflow.calibration.polynomial import is_monotone, linearise
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.reconstruction.fdk import fdk

LEAST_STEPS, LARGEST_DEGREE = 4, 7
# A scan may exceed the thickest step by this share.
BEYOND = 1.05
SOURCE = "a step wedge measured on the same scanner"


@dataclass(frozen=True)
class Wedge:
    """Steps of one material.

    Attributes:
        thickness_mm: (n,) growing.
        line_integral: (n,) measured, dimensionless.
    """

    thickness_mm: np.ndarray
    line_integral: np.ndarray


@dataclass(frozen=True)
class WedgeFit:
    """Result of `fit_wedge`.

    Attributes:
        coefficients: c_1, c_2, ... of p' = c_1 p + c_2 p^2 + ...
        attenuation_per_mm: of the wedge where it is as thin as its thinnest step, the scale of p'.
        largest_error: of p' at any step, relative to its thickness.
        fault: why it may not be used; empty if it may.
    """

    coefficients: tuple[float, ...]
    attenuation_per_mm: float
    largest_error: float
    fault: str


def fit_wedge(wedge: Wedge) -> WedgeFit:
    """Fit the polynomial that makes line integrals of the steps proportional to their thickness.

    Raises:
        ValueError: too few steps, thicknesses or line integrals that are not positive.
    """
    t, p = (np.asarray(values, dtype=float) for values in (wedge.thickness_mm, wedge.line_integral))
    if t.shape != p.shape or t.ndim != 1 or len(t) < LEAST_STEPS:
        raise ValueError(f"wedge: expected at least {LEAST_STEPS} steps, got {t.size} thicknesses and {p.size} values")
    if not (np.isfinite(t) & np.isfinite(p) & (t > 0) & (p > 0)).all():
        raise ValueError("wedge: expected positive thicknesses and line integrals")
    order = np.argsort(t)
    t, p = t[order], p[order]
    degree = min(range(1, min(LARGEST_DEGREE, len(t) - 2) + 1), key=lambda n: _left_out_error(t, p, n))
    b = _solved(t, p, degree)
    scale = float(p[0] / _thickness(p[:1], b)[0])
    coefficients = scale * b
    error = float(np.abs(_thickness(p, b) / t - 1).max())
    return WedgeFit(
        coefficients=tuple(float(c) for c in coefficients),
        attenuation_per_mm=scale,
        largest_error=error,
        fault=_fault(t, p, coefficients),
    )


def fit_curve(
    projections: Reader,
    acquisition: Acquisition,
    wedge: Wedge,
    *,
    slices: int = 48,
    device: torch.device | str = "cpu",
) -> CuppingFit:
    """The correction of a wedge for a scan: refused where the curve is not monotone or ends below the scan's integrals.

    Args:
        projections: (view, row, col) line integrals, dimensionless.
        acquisition: calibrated geometry.
        wedge: the steps.
        slices: how many slices around the middle are reconstructed, to show what the correction does.
        device: where slices are reconstructed.

    Raises:
        ValueError: steps that are no wedge, see `fit_wedge`.
    """
    curve = fit_wedge(wedge)
    degree = len(curve.coefficients)
    slab = load_slab(projections, acquisition, degree=1, slices=slices, device=device)
    end = float(np.max(wedge.line_integral))
    fault = curve.fault if slab.is_finite() else NO_NUMBERS
    if not fault and slab.largest > BEYOND * end:
        fault = f"line integrals of the scan go up to {slab.largest:.2f}, those of the step wedge only to {end:.2f}"
    if fault:
        largest = slab.largest if slab.is_finite() else 0.0
        return unchanged(f"{fault}: data left unchanged", degree=max(2, degree), largest=largest)
    effect = sum(c * slab.largest**n for n, c in enumerate(curve.coefficients)) - 1
    return CuppingFit(
        coefficients=curve.coefficients,
        found=curve.coefficients,
        uncertainty=(),
        applied=True,
        trusted=True,
        message=(
            f"from {len(wedge.thickness_mm)} steps of a wedge, {curve.attenuation_per_mm:.4g} per mm as in the "
            f"thinnest, steps hit to {100 * curve.largest_error:.2f} %: up to {100 * effect:+.1f} % at the "
            f"largest line integral, {slab.largest:.2f}"
        ),
        pictures=_pictures(slab, curve.coefficients),
        largest=slab.largest,
        source=SOURCE,
    )


def _pictures(slab: Slab, coefficients: tuple[float, ...]) -> dict[str, np.ndarray]:
    """A slice, and the profile of bone where there is any, before and after."""
    both = (slab.powers[0], linearise(slab.powers[0], coefficients))
    volumes = np.stack([fdk(p, slab.geometry, slab.grid).cpu().numpy() for p in both])
    segmented = segment_bone(volumes[0], smoothing_px=1.0)
    chosen = np.zeros(volumes[0].shape, bool) if segmented is None else bone_depth(segmented[0]) >= LEAST_DEPTH
    shown = pictures(volumes, (0.0, 1.0), chosen, slab.grid.voxel_mm)
    return {name: values for name, values in shown.items() if values.size and "powers" not in name}


def _solved(t: np.ndarray, p: np.ndarray, degree: int) -> np.ndarray:
    """b_1 ... of t = sum b_i p^i, all steps with equal relative weight."""
    return np.linalg.lstsq(p[:, None] ** np.arange(1, degree + 1) / t[:, None], np.ones(len(t)), rcond=None)[0]


def _thickness(p: np.ndarray, b: np.ndarray) -> np.ndarray:
    return p[:, None] ** np.arange(1, len(b) + 1) @ b


def _without(values: np.ndarray) -> list[np.ndarray]:
    """The values with each of them left out once."""
    return [np.delete(values, k) for k in range(len(values))]


def _left_out_error(t: np.ndarray, p: np.ndarray, degree: int) -> float:
    """Mean squared relative error of the steps, but for the first and last, each predicted from the others."""
    fits = [_solved(*some, degree) for some in zip(_without(t), _without(p), strict=True)]
    return float(np.mean([(_thickness(p[k : k + 1], fits[k])[0] / t[k] - 1) ** 2 for k in range(1, len(t) - 1)]))


def _fault(t: np.ndarray, p: np.ndarray, coefficients: np.ndarray) -> str:
    if not ((np.diff(t) > 0) & (np.diff(p) > 0)).all():
        return "line integrals of the step wedge do not grow from step to step"
    if not is_monotone(tuple(coefficients), BEYOND * float(p[-1])):
        return "the curve through the steps of the wedge is not monotone"
    return ""
