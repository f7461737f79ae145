"""Numbers as people read them, and the same metric of several volumes side by side."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xrmflow.report.blocks import Cell, State
from xrmflow.report.results import Row

NOTHING = "–"


def number(value: float | str | None, digits: int = 4, *, zeros: bool = False) -> str:
    """Round to significant digits, with a true minus sign; what is not a number is returned as it is.

    Args:
        value: a number, a text that may hold one, or None.
        digits: significant digits; whole numbers keep all of theirs.
        zeros: keep trailing zeros, for columns of measured values.

    >>> number(0.123456), number(123456.0), number(-0.5), number(0.5, zeros=True), number("n/a"), number(None)
    ('0.1235', '123456', '−0.5', '0.5000', 'n/a', '–')
    """
    parsed = parse(value)
    if parsed is None:
        return str(value) if value not in (None, "") else NOTHING
    if not math.isfinite(parsed):
        return NOTHING
    if 1e4 <= abs(parsed) < 1e9 or (parsed == int(parsed) and abs(parsed) < 1e9):
        return f"{parsed:.0f}".replace("-", "−")
    text = f"{parsed:#.{digits}g}" if zeros else f"{parsed:.{digits}g}"
    return text.rstrip(".").replace("-", "−")


def unit(text: str) -> str:
    """A unit as it is printed.

    >>> unit("1/mm3"), unit("um3"), unit("mgHA/cm3"), unit("1")
    ('1/mm³', 'µm³', 'mgHA/cm³', '1')
    """
    for plain, printed in (("um", "µm"), ("m2", "m²"), ("m3", "m³"), ("voxel2", "voxel²"), ("voxel3", "voxel³")):
        text = text.replace(plain, printed)
    return text


def plain(message: object) -> str:
    """What a stage says, as it is printed; nothing for None.

    >>> plain("centre 81.8 +- 0.02 px"), plain(None)
    ('centre 81.8 ± 0.02 px', '')
    """
    return str(message or "").replace("+-", "±").strip()


def sentence(message: object) -> str:
    """What a stage says, with a capital first letter and a full stop."""
    text = plain(message)
    return text and capital(text) + ("" if text[-1] in ".!?" else ".")


def capital(text: str) -> str:
    """The text with a capital first letter, unless it begins with a symbol such as c2; the others as they are."""
    word = text.split(" ", 1)[0]
    return text if any(letter in "_0123456789" for letter in word) else text[:1].upper() + text[1:]


def parse(value: float | str | None) -> float | None:
    """A number, or None."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def column(rows: Sequence[Row], *names: str) -> tuple[str, list[float]] | None:
    """The first of the named columns that holds a number: its name and values (NaN where empty); None without any."""
    for name in names:
        parsed = [parse(row.get(name)) for row in rows]
        if any(value is not None for value in parsed):
            return name, [math.nan if value is None else value for value in parsed]
    return None


@dataclass(frozen=True)
class Comparison:
    """One metric over the volumes.

    Attributes:
        compartment, symbol, name, unit: as written by morphometry.
        values: the text of the value by volume name; missing where the volume has none.
        difference_percent: change against the first volume, percent of its value; missing where it cannot be told.
        notes: the notes by volume name, those that there are.
    """

    compartment: str
    symbol: str
    name: str
    unit: str
    values: dict[str, str]
    difference_percent: dict[str, float]
    notes: dict[str, str]


def compare(tables: Mapping[str, Sequence[Row]]) -> list[Comparison]:
    """Set the same metric (compartment, symbol, unit) of each volume beside that of the first, the reference."""
    keys = dict.fromkeys((row["compartment"], row["symbol"], row["unit"]) for rows in tables.values() for row in rows)
    return [_comparison(key, tables) for key in keys]


def difference_cell(percent: float | None, limit_percent: float) -> Cell:
    """A signed change; beyond the limit it is marked."""
    if percent is None:
        return Cell(NOTHING)
    text = "±0 %" if abs(percent) < 0.05 else f"{percent:+.1f} %".replace("-", "−")
    return Cell(text, f"{percent:.6g} %", "look" if abs(percent) > limit_percent else "")


def value_cell(value: str | None) -> Cell:
    """A value rounded for reading; the tool tip holds it as written."""
    return Cell(number(value, zeros=True), value or "")


def passed(text: str) -> State:
    """The state of a `passed` field: true, false, or empty for what has no limit."""
    word = text.strip().lower()
    return (
        "pass" if word in ("true", "1", "yes", "pass") else "fail" if word in ("false", "0", "no", "fail") else "info"
    )


def as_csv(tables: Sequence[Sequence[Row]]) -> str:
    """The rows of several tables as one CSV text, with the columns of the first row that has any."""
    rows = [row for table in tables for row in table]
    if not rows:
        return ""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), extrasaction="ignore", restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _comparison(key: tuple[str, str, str], tables: Mapping[str, Sequence[Row]]) -> Comparison:
    found = {volume: row for volume, rows in tables.items() if (row := _find(rows, key)) is not None}
    first = next(iter(found.values()))
    reference = parse(found[volume]["value"]) if (volume := next(iter(tables))) in found else None
    differences = {}
    for name, row in found.items():
        value = parse(row["value"])
        if name != volume and value is not None and reference:
            differences[name] = 100 * (value - reference) / abs(reference)
    notes = {name: row["note"] for name, row in found.items() if row.get("note")}
    values = {name: row["value"] for name, row in found.items()}
    return Comparison(key[0], key[1], first.get("name", ""), key[2], values, differences, notes)


def _find(rows: Sequence[Row], key: tuple[str, str, str]) -> Row | None:
    return next((row for row in rows if (row["compartment"], row["symbol"], row["unit"]) == key), None)
