"""Stage collect: the indices of all scans in one table."""

from pathlib import Path

from xrmflow.config.collect import CollectSection
from xrmflow.errors import SettingsError
from xrmflow.io.tables import read_table, write_table
from xrmflow.morphometry.study import stacked, widened

COLUMNS = ("scan", "volume", "compartment", "symbol", "name", "value", "unit", "method", "note")


def run(*, tables: list[Path], table: Path, wide: Path, params: CollectSection) -> None:
    """Put the indices of all scans into one table, and into one with a row a scan for statistics.

    Args:
        tables: tables of indices, one a scan and volume.
        table: where to write all their rows.
        wide: where to write one row a scan and volume, one column an index.
        params: the settings section.
    """
    found = [read_table(path) for path in tables]
    try:
        rows = stacked(found, params.symbols)
        wide_rows, columns = widened(found, params.symbols)
    except ValueError as error:
        raise SettingsError(f"collect: {error}") from error
    write_table(table, rows, columns=COLUMNS)
    write_table(wide, wide_rows, columns=columns)
