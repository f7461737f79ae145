"""What a person looks at to judge the correction: one view and one detector row, before and after it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from xrmflow.arrays import Already, Reader

LONGEST_PX = 1024
SINOGRAM_VIEWS = 720
LEAST_TRANSMISSION, LEAST_COUNTS = 1e-4, 0.5


@dataclass(frozen=True)
class Views:
    """The middle view and the middle detector row, before and after the correction.

    Attributes:
        view: index of the view.
        row: index of the detector row.
        averaged_px: the views are means of squares of this edge, detector pixels; 1: full resolution.
        view_step: the sinograms hold every so many-th view, all columns (a ring is one column wide).
        plain: how `plain_sinogram` was made, in words.
        raw_view: (row, col) as recorded.
        corrected_view: (row, col) line integrals.
        plain_sinogram: (view, col) line integrals with nothing but dark and flat applied.
        corrected_sinogram: (view, col) line integrals.
    """

    view: int
    row: int
    averaged_px: int
    view_step: int
    plain: str
    raw_view: np.ndarray
    corrected_view: np.ndarray
    plain_sinogram: np.ndarray
    corrected_sinogram: np.ndarray

    def pictures(self) -> dict[str, np.ndarray]:
        """The arrays by name, float32."""
        names = ("raw_view", "corrected_view", "plain_sinogram", "corrected_sinogram")
        return {name: getattr(self, name).astype(np.float32) for name in names}

    def to_dict(self) -> dict[str, Any]:
        """What the arrays are of, JSON-ready."""
        return {name: getattr(self, name) for name in ("view", "row", "averaged_px", "view_step", "plain")}


def pick_views(
    raw: Reader,
    corrected: Reader,
    *,
    flats: np.ndarray | None,
    darks: np.ndarray | None,
    already: Already = "counts",
    exposure_ratio: float = 1.0,
) -> Views:
    """Read the middle view and the middle row of a scan, before and after the correction.

    Args:
        raw: (view, row, col) as recorded: what `already` says.
        corrected: (view, row, col) line integrals.
        flats: (n, row, col) grey levels, or None.
        darks: the same.
        already: what `raw` holds.
        exposure_ratio: exposure of a projection over that of a flat.

    Raises:
        ValueError: the shapes of `raw` and `corrected` differ.
    """
    if tuple(corrected.shape) != tuple(raw.shape):
        raise ValueError(f"corrected: expected the shape of raw {tuple(raw.shape)}, got {tuple(corrected.shape)}")
    view, row = raw.shape[0] // 2, raw.shape[1] // 2
    averaged = -(-max(raw.shape[1:]) // LONGEST_PX)
    step = -(-raw.shape[0] // SINOGRAM_VIEWS)
    sinogram, words = plain_line_integrals(
        np.asarray(raw[::step, row]),
        flat=_mean_row(flats, row),
        dark=_mean_row(darks, row),
        already=already,
        exposure_ratio=exposure_ratio,
    )
    return Views(
        view=view,
        row=row,
        averaged_px=averaged,
        view_step=step,
        plain=words,
        raw_view=averaged_down(np.asarray(raw[view]), averaged),
        corrected_view=averaged_down(np.asarray(corrected[view]), averaged),
        plain_sinogram=sinogram,
        corrected_sinogram=np.asarray(corrected[::step, row]),
    )


def plain_line_integrals(
    recorded: np.ndarray,
    *,
    flat: np.ndarray | None,
    dark: np.ndarray | None,
    already: Already = "counts",
    exposure_ratio: float = 1.0,
) -> tuple[np.ndarray, str]:
    """Line integrals of a row with nothing but dark and flat applied, p = -ln((I - D) / r(F - D)), to compare with.

    Args:
        recorded: (view, col) as recorded: what `already` says.
        flat: (col,) grey levels F; None takes the brightest counts (their 99.9 percentile) for the open beam.
        dark: (col,) grey levels D; None: subtracted by the detector.
        already: what `recorded` holds; what was done before is not done again.
        exposure_ratio: exposure of a projection over that of a flat, r.

    Returns:
        (view, col) dimensionless line integrals, float64, and how they were made, in words.
    """
    recorded = recorded.astype(np.float64)
    if already == "line_integral":
        return recorded, "as recorded (already line integrals)"
    if already == "transmission":
        return -np.log(np.maximum(recorded, LEAST_TRANSMISSION)), "minus log of the recorded transmission"
    words = "dark and flat only" if flat is not None else "no flat: scaled to the brightest counts"
    offset = np.zeros(1) if dark is None else dark
    signal = np.percentile(recorded, 99.9) - offset if flat is None else (flat - offset) * exposure_ratio
    return -np.log(np.maximum(recorded - offset, LEAST_COUNTS) / np.maximum(signal, LEAST_COUNTS)), words


def averaged_down(image: np.ndarray, edge_px: int) -> np.ndarray:
    """Means over squares of `edge_px` pixels (float64); rows and columns that fill no square are left out.

    Args:
        image: (row, col) of any unit.
        edge_px: edge of a square, at least 1; a side shorter than it is averaged as a whole.
    """
    if edge_px < 1:
        raise ValueError(f"edge_px: expected at least 1, got {edge_px}")
    high, wide = (min(edge_px, n) for n in image.shape)
    rows, cols = image.shape[0] // high, image.shape[1] // wide
    whole = image[: rows * high, : cols * wide].astype(np.float64)
    return whole.reshape(rows, high, cols, wide).mean(axis=(1, 3))


def _mean_row(frames: np.ndarray | None, row: int) -> np.ndarray | None:
    return None if frames is None or not len(frames) else frames[:, row].mean(axis=0, dtype=np.float64)
