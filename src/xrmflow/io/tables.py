"""Tidy tables as CSV: one line a value, written whole or not at all."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from xrmflow.errors import StoreError
from xrmflow.io.manifest import write_durably

DIGITS = 9
"""Significant digits of a number: more than float32 holds."""


def write_table(path: Path | str, rows: Iterable[Mapping[str, Any]], *, columns: Sequence[str]) -> None:
    """Write rows under the given columns; what is unknown (None, not a number) becomes an empty field.

    Raises:
        ValueError: a row with a column that is not listed.
    """
    path = Path(path)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _field(value) for name, value in row.items()} for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, buffer.getvalue())


def read_table(path: Path | str) -> list[dict[str, str]]:
    """Rows of a table, every field as written.

    Raises:
        StoreError: missing, empty, not text, or with a line that has other columns than the first.
    """
    path = Path(path)
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise StoreError(f"{path}: no such table; run the stage that writes it") from None
    except UnicodeDecodeError:
        raise StoreError(f"{path}: not a table of text; delete it and run its stage again") from None
    reader = csv.DictReader(io.StringIO(text))
    rows = list(reader)
    if not reader.fieldnames:
        raise StoreError(f"{path}: an empty file, not a table; delete it and run its stage again")
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise StoreError(f"{path}: damaged table, line {number} has other columns than line 1; run its stage again")
    return rows


def number(field: str) -> float | None:
    """A field as a number; None when it is empty."""
    return float(field) if field else None


def _field(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else str(value)
