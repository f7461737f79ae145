"""Motion of the object along the axis from the sums over detector rows, which hardly depend on the angle.

In a parallel beam the sum over a row of pixels is the mass of a slice, whatever the angle, so that only motion along
the axis changes it (in a narrow cone nearly so). Profiles of such sums are brought to lie on their mean by a smooth
motion, on profiles smoothed widely first: unlike a fit of images this does not mistake one trabecula for the next.
"""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from xrmflow.arrays import Reader, as_finite_float32, blocks

# Rows by which profiles are smoothed, from coarse to fine; a detector lower than a few of the widest tells nothing.
SMOOTHING_PX = (10.0, 6.0, 4.0, 2.5)
LEAST_ROWS, STEPS, VIEWS_AT_ONCE = 32, 8, 32


def row_sums(projections: Reader) -> np.ndarray:
    """(view, row) sums over the columns of (view, row, col) line integrals."""
    parts = blocks(projections.shape[0], VIEWS_AT_ONCE)
    return np.concatenate([as_finite_float32(projections[part]).sum(axis=2, dtype=np.float64) for part in parts])


def vertical_motion_px(sums: np.ndarray, profiles: np.ndarray) -> np.ndarray:
    """By how many rows the object stands higher in each view, (view,).

    min over c of sum over views, rows of (sum(row + s(view)) - their mean over the views)^2, s = profiles c,
    by Gauss-Newton, from wide to narrow smoothing; zero for a detector of few rows, or where no motion explains more.

    Args:
        sums: (view, row), from `row_sums`.
        profiles: (view, k) what the motion is made of over time.
    """
    views, rows = sums.shape
    still = np.zeros(views)
    if rows < LEAST_ROWS:
        return still
    shift = still
    for width in SMOOTHING_PX:
        smooth = gaussian_filter1d(sums, width, axis=1, mode="nearest")
        for _ in range(STEPS):
            shift = shift + profiles @ _step(smooth, shift, profiles)
    return shift if _mismatch(smooth, shift) < _mismatch(smooth, still) else still


def _step(sums: np.ndarray, shift: np.ndarray, profiles: np.ndarray) -> np.ndarray:
    moved, seen = _moved(sums, shift)
    slope = np.gradient(moved, axis=1) * seen
    rest = moved - _mean(moved, seen)
    stiffness, pull = (slope**2).sum(axis=1), -(slope * rest).sum(axis=1)
    held = 1e-6 * max(float(stiffness.sum()), 1e-30) * np.eye(profiles.shape[1])
    return np.linalg.solve(profiles.T @ (stiffness[:, None] * profiles) + held, profiles.T @ pull)


def _moved(sums: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Profiles at row + shift, and 1 where those rows were recorded."""
    rows = np.arange(sums.shape[1])
    places = rows + shift[:, None]
    moved = np.stack([np.interp(place, rows, profile) for place, profile in zip(places, sums, strict=True)])
    return moved, ((places > 0) & (places < rows[-1])).astype(float)


def _mean(moved: np.ndarray, seen: np.ndarray) -> np.ndarray:
    return (moved * seen).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)


def _mismatch(sums: np.ndarray, shift: np.ndarray) -> float:
    moved, seen = _moved(sums, shift)
    return float((((moved - _mean(moved, seen)) * seen) ** 2).sum() / max(seen.sum(), 1))
