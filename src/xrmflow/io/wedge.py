"""A measured step wedge, from its CSV file."""

import csv
from pathlib import Path

import numpy as np

from xrmflow.calibration.wedge import LEAST_STEPS, Wedge
from xrmflow.errors import RawFileError

EXPECTED = "expected the columns thickness_mm and transmission (or line_integral), a number each"


def read_wedge(path: Path) -> Wedge:
    """Steps of a wedge; those of no thickness are the open beam and left out.

    Raises:
        RawFileError: other columns, no numbers, too few steps, transmissions that are not between 0 and 1.
    """
    thickness, values, name = _columns(path)
    steps = thickness != 0
    thickness, values = thickness[steps], values[steps]
    if name == "transmission":
        if not ((values > 0) & (values < 1)).all():
            raise RawFileError(f"{path}: transmission: expected numbers between 0 and 1, got {values.tolist()}")
        values = -np.log(values)
    if len(thickness) < LEAST_STEPS:
        raise RawFileError(f"{path}: expected at least {LEAST_STEPS} steps, got {len(thickness)}")
    if not ((thickness > 0) & (values > 0)).all():
        raise RawFileError(f"{path}: expected positive thicknesses and line integrals")
    return Wedge(thickness, values)


def _columns(path: Path) -> tuple[np.ndarray, np.ndarray, str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        name = "line_integral" if rows and "line_integral" in rows[0] else "transmission"
        table = np.array([[float(row["thickness_mm"]), float(row[name])] for row in rows]).reshape(-1, 2)
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise RawFileError(f"{path}: {EXPECTED}; not readable so ({error!r})") from None
    if not np.isfinite(table).all():
        raise RawFileError(f"{path}: {EXPECTED}; got some that are not finite")
    return table[:, 0], table[:, 1], name
