"""Whether a fitted beam-hardening correction is to be believed, and applied."""

import numpy as np

from xrmflow.calibration.polynomial import is_monotone
from xrmflow.calibration.totals import Totals

# The least signal to be believed, in statistical standard errors and in those of density; how many statistical ones
# must lie below a tenth for "no hardening" to be believed; the least and largest correction of the strongest line
# integral.
SIGNIFICANCE, DENSITY_SIGNIFICANCE, CLEAN_SIGMAS = 2.0, 1.5, 3.0
LEAST_EFFECT, LARGEST_EFFECT, CLEAN_EFFECT = 0.01, 3.0, 0.1
# The sums over slices must ask for the correction within this factor. A polynomial of degree two that follows the true
# curve where bone is need not do so where rays are summed: measured on simulated scenes, 0.7 to 1.3.
AGREEMENT = 2.0
# Standard errors of density that a correction must exceed which they do not confirm: bone 3 % denser outside.
UNCONFIRMED_SIGNIFICANCE = 3.0


def judge(
    coefficients: tuple[float, ...],
    statistical: np.ndarray,
    density: np.ndarray,
    largest: float,
    totals: Totals | None = None,
) -> tuple[bool, bool, str]:
    """Whether to apply the correction, whether the fit is trusted, and why.

    Args:
        coefficients: 1, c_2, ...
        statistical: standard deviation of c_2, ... from noise.
        density: and from bone that really is denser outside.
        largest: line integral to be corrected.
        totals: the second opinion, where there is one.
    """
    each = enumerate(zip(coefficients[1:], statistical, density, strict=True), 2)
    words = ", ".join(f"c{i} = {c:.3g} +- {s:.2g} (noise) +- {d:.2g} (density)" for i, (c, s, d) in each)
    powers = largest ** np.arange(1, len(coefficients))
    effect = float(np.dot(coefficients[1:], powers))
    uncertain, unclear = (float(np.linalg.norm(part * powers)) for part in (statistical, density))
    words = f"{words}: up to {100 * effect:+.1f} % at the largest line integral, {largest:.2f}"
    if not np.isfinite(effect) or not np.isfinite(uncertain + unclear):
        return False, False, f"{words}; no solution: data left unchanged"
    if effect > LARGEST_EFFECT or not is_monotone(coefficients, largest):
        return False, False, f"{words}; out of bounds: data left unchanged"
    if abs(effect) < max(LEAST_EFFECT, SIGNIFICANCE * uncertain, DENSITY_SIGNIFICANCE * unclear):
        # Nothing found, and it would have been found: a monochromatic scan, or a weakly absorbing one.
        clean = CLEAN_SIGMAS * uncertain < CLEAN_EFFECT
        doubt = _hidden(totals, largest) if clean else ""
        text = doubt or ("no significant hardening" if clean else "too uncertain to tell")
        return False, clean and not doubt, f"{words}; {text}: data left unchanged"
    if effect < 0:
        return False, False, f"{words}; the wrong way round for beam hardening: data left unchanged"
    asked = totals.share(coefficients) if totals else None
    words = f"{words}; {_opinion(asked)}"
    doubt = _contradiction(asked)
    if not doubt and not _confirmed(asked) and effect < UNCONFIRMED_SIGNIFICANCE * unclear:
        doubt = "bone a few per cent denser outside would look the same"
    return (False, False, f"{words}; {doubt}: data left unchanged") if doubt else (True, True, words)


def _opinion(asked: tuple[float, float] | None) -> str:
    """What sums over slices say of a correction, in words."""
    if asked is None:
        return "nothing to check it against: slices look alike from all sides, or are not seen whole"
    share = f"{100 * asked[0]:.0f} +- {100 * asked[1]:.0f} %"
    return f"what slices absorb in all, the same from all sides, asks for {share} of that"


def _confirmed(asked: tuple[float, float] | None) -> bool:
    return asked is not None and asked[0] > CLEAN_SIGMAS * asked[1]


def _contradiction(asked: tuple[float, float] | None) -> str:
    """Why a correction of which sums over slices ask for this share cannot be, or nothing."""
    if asked is not None and asked[0] + CLEAN_SIGMAS * asked[1] < 1 / AGREEMENT:
        return "bone may be denser outside rather than hardened"
    if asked is not None and asked[0] - CLEAN_SIGMAS * asked[1] > AGREEMENT:
        return "bone may be denser inside, or hardened by what is around it"
    return ""


def _hidden(totals: Totals | None, largest: float) -> str:
    """Why there is hardening although bone does not show it, or nothing."""
    asked = totals.share((1.0, 1.0)) if totals else None
    if asked is None or (asked[0] - CLEAN_SIGMAS * asked[1]) * largest < CLEAN_EFFECT:
        return ""
    return (
        f"but what slices absorb in all, the same from all sides, asks for c2 = {asked[0]:.3g} +- {asked[1]:.2g}: "
        "bone that is denser inside may hide its hardening"
    )
