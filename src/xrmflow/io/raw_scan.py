"""What every raw-format reader returns: the frames, lazily, and what the file says about them.

A `RawScan` repeats the file: rows, columns, angles and shifts are as recorded. Turning them into the package's own
convention, and filling what the file lacks from the settings, is the job of `xrmflow.io.nominal`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from xrmflow.arrays import Already, Reader
from xrmflow.geometry.acquisition import Beam

Severity = Literal["info", "assumption", "warning", "missing"]
RowOrder = Literal["bottom_up", "top_down"]
ColumnOrder = Literal["left_to_right", "right_to_left"]


@dataclass(frozen=True)
class Note:
    """One line about the scan: what was found, assumed, suspicious or missing."""

    severity: Severity
    text: str

    def to_dict(self) -> dict[str, str]:
        """The note as the record of a store holds it."""
        return {"severity": self.severity, "text": self.text}


@dataclass(frozen=True)
class RawScan:
    """A raw scan as its file records it.

    Attributes:
        format: "txrm", "data_exchange", "nxtomo", "nikon", "skyscan" or "tiff".
        source: the file (or folder) that was opened.
        files: every file the numbers come from; all of them are hashed at ingest.
        projections: (view, row, col), frames of the scan, in the order and orientation of the file.
        flats: (n, row, col) open-beam frames, or None.
        darks: (n, row, col) beam-off frames, or None.
        angles_deg: (view,) degrees as recorded, or None; with the other sign where the format says that they grow while
            the stage turns counter-clockwise seen from above.
        beam: "cone", "parallel", or None when the file does not say.
        pixel_mm: pitch of the pixels in the detector plane, mm, or None.
        source_to_axis_mm, source_to_detector_mm: mm, or None.
        centre_px, midplane_px: column and row of the stored frames onto which the rotation axis, and the plane of the
            source, fall; None when not recorded.
        shifts_to_add_px: (view, 2), pixels along (columns, rows) of the stored frames that must be ADDED to a frame's
            position to bring it where it belongs; None when not recorded.
        flat_views: (n,) how many projections were taken before each flat, or None when not recorded.
        exposure_s: (view,) or one value, seconds a frame, or None. flat_exposure_s: seconds a flat, or None.
        row_order: "bottom_up" when row 0 is the lowest row of the image as displayed.
        column_order: how the columns run when one looks from the source to the detector.
        already: "counts" for raw frames; "transmission" or "line_integral" when the instrument corrected them.
        white_level: value of an unattenuated pixel in frames that hold transmission; None when not recorded.
        metadata: further values by name, the unit in the name.
        notes: what is wrong, missing or worth knowing, one line each.
        close: releases the file.
    """

    format: str
    source: Path
    files: tuple[Path, ...]
    projections: Reader
    flats: Reader | None = None
    darks: Reader | None = None
    angles_deg: np.ndarray | None = None
    beam: Beam | None = None
    pixel_mm: float | None = None
    source_to_axis_mm: float | None = None
    source_to_detector_mm: float | None = None
    centre_px: float | None = None
    midplane_px: float | None = None
    shifts_to_add_px: np.ndarray | None = None
    flat_views: np.ndarray | None = None
    exposure_s: np.ndarray | float | None = None
    flat_exposure_s: float | None = None
    row_order: RowOrder = "bottom_up"
    column_order: ColumnOrder = "left_to_right"
    already: Already = "counts"
    white_level: float | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    close: Callable[[], None] = lambda: None

    def __enter__(self) -> "RawScan":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def views(self) -> int:
        """Number of projections."""
        return self.projections.shape[0]


class Frames:
    """A `Reader` over frames that are fetched one at a time.

    Args:
        fetch: `fetch(i)` returns frame i, (row, col).
        shape: (frame, row, col).
        dtype: of the frames.
    """

    def __init__(self, fetch: Callable[[int], np.ndarray], shape: tuple[int, int, int], dtype: Any) -> None:
        self._fetch = fetch
        self.shape = shape
        self.dtype = np.dtype(dtype)

    def __getitem__(self, selection: Any, /) -> np.ndarray:
        first, rest = split_selection(selection)
        if isinstance(first, int | np.integer):
            return self._fetch(int(np.arange(self.shape[0])[first]))[rest]
        picked = np.arange(self.shape[0])[first]
        block = np.empty((picked.size, *self.shape[1:]), self.dtype)
        for place, index in enumerate(picked):
            block[place] = self._fetch(int(index))
        return block[(slice(None), *rest)]


class Selected:
    """A `Reader` of some frames of another, e.g. those whose image key says "projection"."""

    def __init__(self, reader: Reader, frames: np.ndarray) -> None:
        self._reader, self._frames = reader, np.asarray(frames, dtype=np.int64)
        self.shape = (self._frames.size, *reader.shape[1:])
        self.dtype = np.dtype(reader.dtype)

    def __getitem__(self, selection: Any, /) -> np.ndarray:
        first, rest = split_selection(selection)
        picked = self._frames[first]
        if picked.ndim == 0:
            return np.asarray(self._reader[int(picked)])[rest]
        runs = np.split(picked, np.flatnonzero(np.diff(picked) != 1) + 1) if picked.size else []
        parts = [np.asarray(self._reader[int(run[0]) : int(run[-1]) + 1]) for run in runs]
        block = np.concatenate(parts) if parts else np.empty((0, *self.shape[1:]), self.dtype)
        return block[(slice(None), *rest)]


class Oriented:
    """A `Reader` of the same frames with rows and/or columns in reverse order."""

    def __init__(self, reader: Reader, *, reverse_rows: bool, reverse_cols: bool) -> None:
        self._reader, self._rows, self._cols = reader, -1 if reverse_rows else 1, -1 if reverse_cols else 1
        self.shape = reader.shape
        self.dtype = np.dtype(reader.dtype)

    def __getitem__(self, selection: Any, /) -> np.ndarray:
        first, rest = split_selection(selection)
        block = np.asarray(self._reader[first])[..., :: self._rows, :: self._cols]
        return block[rest] if isinstance(first, int | np.integer) else block[(slice(None), *rest)]


def split_selection(selection: Any) -> tuple[Any, tuple[Any, ...]]:
    """Separate what selects frames from what selects within a frame."""
    parts = selection if isinstance(selection, tuple) else (selection,)
    if parts and parts[0] is Ellipsis:
        parts = (slice(None), *([slice(None)] * (3 - len(parts))), *parts[1:])
    return (parts[0], parts[1:]) if parts else (slice(None), ())
