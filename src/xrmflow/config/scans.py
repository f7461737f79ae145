"""The table of scans: one row a scan, checked row by row."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from xrmflow.errors import SettingsError

COLUMNS = ("scan", "source", "role", "pair", "truth")
ROLES = ("train", "train-only", "validation", "test", "reference")
SCAN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
# Folders beside the scans in the results.
RESERVED = ("logs", "benchmarks")


@dataclass(frozen=True)
class Scan:
    """One row of the table.

    Attributes:
        scan: id, used in every path.
        source: the raw file.
        role: "train" (networks learn from it, and it is measured), "train-only" (they learn from it, and that is all),
            "validation" (their loss is checked on it, and it is measured), "test" (measured only), "reference"
            (high-resolution partner of another scan: reconstructed, not measured).
        pair: id of the high-resolution partner that super-resolution learns from, or "".
        truth: folder with the known answer of a simulated scan, or "".
    """

    scan: str
    source: str
    role: str = "test"
    pair: str = ""
    truth: str = ""


def load_scans(path: Path | str) -> dict[str, Scan]:
    """Read a tab-separated table of scans; relative paths are taken from the table's folder.

    Raises:
        SettingsError: the first fault, with file, line, column and what was expected.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot read the table of scans ({error})") from None
    lines = [
        (n, line) for n, line in enumerate(text.splitlines(), start=1) if line.strip() and not line.startswith("#")
    ]
    if not lines:
        raise SettingsError(
            f"{path}:1: expected a header line with the columns {', '.join(COLUMNS)}, got an empty table"
        )
    rows = list(csv.reader((line for _, line in lines), delimiter="\t"))
    header = [name.strip() for name in rows[0]]
    _check_header(header, f"{path}:{lines[0][0]}")
    scans: dict[str, Scan] = {}
    for (number, _), cells in zip(lines[1:], rows[1:], strict=True):
        scan = _row(header, cells, path, number)
        if scan.scan in scans:
            raise SettingsError(f"{path}:{number}: scan: id {scan.scan!r} appears twice; ids must differ")
        scans[scan.scan] = scan
    if not scans:
        raise SettingsError(f"{path}: expected at least one scan below the header")
    _check_pairs(scans, path)
    return scans


def _check_header(header: list[str], place: str) -> None:
    unknown = [name for name in header if name not in COLUMNS]
    missing = [name for name in ("scan", "source") if name not in header]
    if unknown or missing or len(set(header)) != len(header):
        raise SettingsError(
            f"{place}: expected tab-separated columns out of {', '.join(COLUMNS)} (scan and source required), "
            f"got {', '.join(header)}"
        )


def _row(header: list[str], cells: list[str], path: Path, number: int) -> Scan:
    place = f"{path}:{number}"
    if len(cells) > len(header):
        raise SettingsError(f"{place}: expected {len(header)} tab-separated cells, got {len(cells)}")
    values = {name: cell.strip() for name, cell in zip(header, cells, strict=False)}
    scan = Scan(
        **{name: value for name, value in values.items() if value or name in ("scan", "source", "pair", "truth")}
    )
    if not SCAN_ID.fullmatch(scan.scan):
        raise SettingsError(f"{place}: scan: expected letters, digits, _ and - (at most 64), got {scan.scan!r}")
    if scan.scan in RESERVED:
        raise SettingsError(f"{place}: scan: the name {scan.scan!r} is taken by the run itself; choose another")
    if scan.role not in ROLES:
        raise SettingsError(f"{place}: role: expected one of {', '.join(ROLES)}, got {scan.role!r}")
    source = path.parent / scan.source
    if not scan.source or not source.exists():
        raise SettingsError(f"{place}: source: no such file {source}")
    truth = str(path.parent / scan.truth) if scan.truth else ""
    if truth and not Path(truth).is_dir():
        raise SettingsError(f"{place}: truth: no such folder {truth}")
    return Scan(scan.scan, str(source), scan.role, scan.pair, truth)


def _check_pairs(scans: dict[str, Scan], path: Path) -> None:
    for scan in scans.values():
        if scan.pair and (scan.pair not in scans or scan.pair == scan.scan):
            raise SettingsError(f"{path}: scan {scan.scan}: pair: expected the id of another row, got {scan.pair!r}")
