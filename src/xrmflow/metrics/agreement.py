"""How well two methods of measuring agree: the analysis of Bland and Altman."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class BlandAltman:
    """Agreement of paired measurements, in their unit.

    Attributes:
        mean: (n,) mean of each pair, the horizontal axis of the plot.
        difference: (n,) measured - reference, the vertical axis.
        bias: mean difference.
        bias_interval: its 95 % confidence interval (Student's t).
        deviation: standard deviation of the differences (n - 1).
        limits: limits of agreement, bias -+ 1.96 deviation: 95 % of differences are expected between them.
        limits_interval: half width of the 95 % confidence interval of each limit.
    """

    mean: np.ndarray
    difference: np.ndarray
    bias: float
    bias_interval: tuple[float, float]
    deviation: float
    limits: tuple[float, float]
    limits_interval: float


def bland_altman(measured: Any, reference: Any) -> BlandAltman:
    """Bias and limits of agreement of `measured` against `reference`.

    The variance of a limit is deviation^2 (1/n + 1.96^2 / (2 (n - 1))).
    Source: Bland & Altman, Stat. Methods Med. Res. 8:135 (1999), section 2.

    Args:
        measured: (n,) values, n >= 2, one a specimen (slices of one specimen are not independent).
        reference: (n,) values of the same specimens in the same unit.

    Raises:
        ValueError: lengths differ, fewer than two pairs, or values that are not finite.
    """
    measured, reference = np.asarray(measured, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if measured.ndim != 1 or measured.shape != reference.shape or measured.size < 2:
        raise ValueError(
            f"measured: expected at least 2 values, as many as reference ({reference.shape}), got {measured.shape}"
        )
    if not (np.isfinite(measured).all() and np.isfinite(reference).all()):
        raise ValueError("measured, reference: expected finite values, got NaN or infinity")
    n, difference = measured.size, measured - reference
    bias, deviation = float(difference.mean()), float(difference.std(ddof=1))
    t, z = float(stats.t.ppf(0.975, n - 1)), float(stats.norm.ppf(0.975))
    half = t * deviation / np.sqrt(n)
    return BlandAltman(
        mean=(measured + reference) / 2,
        difference=difference,
        bias=bias,
        bias_interval=(float(bias - half), float(bias + half)),
        deviation=deviation,
        limits=(bias - z * deviation, bias + z * deviation),
        limits_interval=float(t * deviation * np.sqrt(1 / n + z**2 / (2 * (n - 1)))),
    )
