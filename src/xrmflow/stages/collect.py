"""Stage collect: the indices of all scans in one table."""

from pathlib import Path

from xrmflow.config.collect import CollectSection
from xrmflow.config.scans import read_labels
from xrmflow.errors import SettingsError
from xrmflow.io.tables import read_table, write_table
from xrmflow.morphometry.rows import COLUMNS
from xrmflow.morphometry.study import labelled, stacked, widened


def run(*, tables: list[Path], table: Path, wide: Path, params: CollectSection, scans: Path | None = None) -> None:
    """Put the indices of all scans into one table, and into one with a row for each scan and volume.

    Args:
        tables: tables of indices, one a scan and volume.
        table: where to write all their rows.
        wide: where to write one row a scan and volume, one column an index.
        params: the settings section.
        scans: table of scans; its columns animal, side, bone, group, timepoint and protocol come after the scan's id.
    """
    labels = read_labels(scans) if scans else {}
    found = [read_table(path) for path in tables]
    try:
        rows = stacked(found, params.symbols)
        wide_rows, columns = widened(found, params.symbols)
    except ValueError as error:
        raise SettingsError(f"collect: {error}") from error
    for path, values, names in ((table, rows, COLUMNS), (wide, wide_rows, columns)):
        told, names_told = labelled(values, names, labels)
        write_table(path, told, columns=names_told)
