"""Many scans' indices in one table: one line a value, or one line for each scan and volume."""

from collections.abc import Mapping, Sequence

Row = Mapping[str, str]
KEYS = ("scan", "volume", "compartment")


def stacked(tables: Sequence[Sequence[Row]], symbols: Sequence[str] = ()) -> list[Row]:
    """Rows of all tables, one after the other.

    Args:
        tables: rows of each scan and volume, fields as text.
        symbols: what to keep, in this order within each table; empty: everything as it is.

    Raises:
        ValueError: a symbol that no table has.
    """
    known = dict.fromkeys(row["symbol"] for table in tables for row in table)
    unknown = [symbol for symbol in symbols if symbol not in known]
    if unknown:
        raise ValueError(f"symbols: expected some of {', '.join(known)}; got {', '.join(unknown)}")
    return [row for table in tables for row in _kept(table, symbols)]


def widened(tables: Sequence[Sequence[Row]], symbols: Sequence[str] = ()) -> tuple[list[Row], list[str]]:
    """One row a scan and volume, one column an index.

    A column is named "symbol [unit]", so that lengths in mm and in voxels never share one. An index of another
    compartment than the volume of interest (that of a table's first row) has the compartment's name before it.

    Args:
        tables: rows of each scan and volume, fields as text.
        symbols: as for `stacked`.

    Returns:
        rows: with the columns scan, volume and compartment, and one an index.
        columns: all of them, in the order in which they first appear.

    Raises:
        ValueError: an index that a table has twice.
    """
    rows = [_wide(table, symbols) for table in tables if table]
    return rows, list(dict.fromkeys([*KEYS, *(name for row in rows for name in row)]))


def labelled(
    rows: Sequence[Row], columns: Sequence[str], labels: Mapping[str, Mapping[str, str]]
) -> tuple[list[Row], list[str]]:
    """Rows with what is known of each scan (its animal, group, ...) after its id.

    Args:
        rows: with a field "scan".
        columns: their columns, "scan" first.
        labels: fields to add, by scan; the same fields for each.

    Returns:
        rows: those of scans without labels have none.
        columns: all of them.
    """
    names = list(dict.fromkeys(name for fields in labels.values() for name in fields))
    return [{**row, **labels.get(row["scan"], {})} for row in rows], [*columns[:1], *names, *columns[1:]]


def _kept(table: Sequence[Row], symbols: Sequence[str]) -> list[Row]:
    """Rows of the symbols, in their order; all when there are none."""
    return [row for symbol in symbols for row in table if row["symbol"] == symbol] if symbols else list(table)


def _wide(table: Sequence[Row], symbols: Sequence[str]) -> Row:
    wide = {key: table[0][key] for key in KEYS}
    for row in _kept(table, symbols):
        before = "" if row["compartment"] == wide["compartment"] else f"{row['compartment']} "
        name = f"{before}{row['symbol']} [{row['unit']}]"
        if name in wide:
            raise ValueError(f"{name}: expected one value for {row['scan']}, {row['volume']}; got two")
        wide[name] = row["value"]
    return wide
