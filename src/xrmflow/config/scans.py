"""The table of scans: one row a scan, checked row by row."""

import codecs
import csv
import re
from dataclasses import dataclass, replace
from pathlib import Path

from xrmflow.errors import SettingsError

LABELS = ("animal", "side", "bone", "group", "timepoint", "protocol")
COLUMNS = ("scan", "source", "role", "pair", "truth", *LABELS, "settings")
# What the study's tables say of a scan: a scan that was treated differently stands out.
TOLD = (*LABELS, "settings")
SIDES = ("left", "right")
ROLES = ("train", "train-only", "validation", "test", "reference")
SCAN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
LABEL = re.compile(r"[^\W_][\w .+-]{0,63}")
# Folders beside the scans in the results.
RESERVED = ("logs", "benchmarks", "protocols")


@dataclass(frozen=True)
class Scan:
    """One row of the table.

    Attributes:
        scan: id, used in every path.
        source: the raw file, or a volume that is reconstructed already.
        role: "train" (networks learn from it, and it is measured), "train-only" (they learn from it, and that is all),
            "validation" (their loss is checked on it, and it is measured), "test" (measured only), "reference"
            (high-resolution partner of another scan: reconstructed, not measured).
        pair: id of the high-resolution partner that super-resolution learns from, or "".
        truth: folder with the known answer of a simulated scan, or "".
        animal, side, bone, group, timepoint: what was scanned, for the tables of the study; "" where not told.
        protocol: name of the way it was scanned (tube, filter, distances, kind of specimen): scans of one protocol
            share one beam-hardening correction. Also a column of the study's tables.
        settings: file with settings of this scan alone, laid over those of the run; "" for none.
    """

    scan: str
    source: str
    role: str = "test"
    pair: str = ""
    truth: str = ""
    animal: str = ""
    side: str = ""
    bone: str = ""
    group: str = ""
    timepoint: str = ""
    protocol: str = ""
    settings: str = ""

    @property
    def labels(self) -> dict[str, str]:
        """What the study's tables say of the scan, by column."""
        return {name: getattr(self, name) for name in LABELS}


def load_scans(path: Path | str) -> dict[str, Scan]:
    """Read a tab-separated table of scans; relative paths are taken from the table's folder.

    Raises:
        SettingsError: the first fault, with file, line, column and what was expected.
    """
    path = Path(path)
    scans: dict[str, Scan] = {}
    taken: dict[str, str] = {}
    for number, values in _rows(path):
        scan = _scan(values, path, number)
        # Disks of some systems, and spreadsheets, take A and a for the same.
        before = taken.setdefault(scan.scan.casefold(), scan.scan)
        if scan.scan in scans:
            raise SettingsError(f"{path}:{number}: scan: id {scan.scan!r} appears twice; ids must differ")
        if before != scan.scan:
            both = f"{scan.scan!r} and {before!r}"
            raise SettingsError(f"{path}:{number}: scan: expected ids that differ by more than capitals, got {both}")
        scans[scan.scan] = scan
    if not scans:
        raise SettingsError(
            f"{path}: expected at least one scan below the header, got none; add a row a scan, or name the settings "
            "that `xrmflow init` wrote"
        )
    _check_pairs(scans, path)
    return scans


def read_labels(path: Path | str) -> dict[str, dict[str, str]]:
    """What the table says of each scan for the study, by id and column; the raw files need not be there any more.

    Columns of `TOLD` that say nothing of any scan are left out.
    """
    rows = [values for _, values in _rows(Path(path))]
    told = [name for name in TOLD if any(values.get(name) for values in rows)]
    return {values.get("scan", ""): {name: values.get(name, "") for name in told} for values in rows}


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Line number and cells by column of every row; empty cells at the end of a line, as spreadsheets add, are none."""
    lines = [
        (n, line.rstrip("\t"))
        for n, line in enumerate(_text(path).splitlines(), start=1)
        if line.strip() and not line.startswith("#")
    ]
    if not lines:
        raise SettingsError(
            f"{path}:1: expected a header line with the columns {', '.join(COLUMNS)}, got an empty table"
        )
    # Each line for itself: a quote that is not closed would swallow the rows after it.
    rows = [next(csv.reader([line], delimiter="\t"), []) for _, line in lines]
    header = [name.strip() for name in rows[0]]
    _check_header(header, f"{path}:{lines[0][0]}")
    return [(n, _cells(header, cells, f"{path}:{n}")) for (n, _), cells in zip(lines[1:], rows[1:], strict=True)]


def _text(path: Path) -> str:
    """UTF-8, or UTF-16 with its mark: what Excel calls Unicode text."""
    try:
        raw = path.read_bytes()
        return raw.decode("utf-16" if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig")
    except OSError as error:
        raise SettingsError(f"{path}: cannot read the table of scans ({error.strerror})") from None
    except UnicodeDecodeError:
        raise SettingsError(
            f"{path}: expected a table of text in UTF-8, got other bytes; save it as tab-separated text in UTF-8 "
            "(in Excel: Unicode Text)"
        ) from None


def _cells(header: list[str], cells: list[str], place: str) -> dict[str, str]:
    if len(cells) > len(header):
        raise SettingsError(f"{place}: expected {len(header)} tab-separated cells, got {len(cells)}")
    if len(cells) == 1:
        raise SettingsError(f"{place}: expected cells with tabs between them, got a single one: {cells[0]!r}")
    return {name: cell.strip() for name, cell in zip(header, cells, strict=False)}


def _check_header(header: list[str], place: str) -> None:
    unknown = [name for name in header if name not in COLUMNS]
    missing = [name for name in ("scan", "source") if name not in header]
    twice = [name for name in COLUMNS if header.count(name) > 1]
    if unknown or missing or twice:
        named = {"unknown": unknown, "without": missing, "twice": twice}
        faults = "; ".join(f"{what} {', '.join(map(repr, names))}" for what, names in named.items() if names)
        raise SettingsError(
            f"{place}: expected tab-separated columns out of {', '.join(COLUMNS)} (scan and source required), "
            f"got {', '.join(header)} ({faults})"
        )


def _scan(values: dict[str, str], path: Path, number: int) -> Scan:
    place = f"{path}:{number}"
    scan = Scan(**{"scan": "", "source": ""} | {name: value for name, value in values.items() if value})
    if not SCAN_ID.fullmatch(scan.scan):
        raise SettingsError(f"{place}: scan: expected letters, digits, _ and - (at most 64), got {scan.scan!r}")
    if scan.scan in RESERVED:
        raise SettingsError(f"{place}: scan: the name {scan.scan!r} is taken by the run itself; choose another")
    if scan.role not in ROLES:
        raise SettingsError(f"{place}: role: expected one of {', '.join(ROLES)}, got {scan.role!r}")
    _check_labels(scan, place)
    if not scan.source:
        raise SettingsError(f"{place}: source: expected the file or folder of scan {scan.scan}, got an empty cell")
    source = path.parent / scan.source
    if not source.exists():
        raise SettingsError(f"{place}: source: no such file {source} (paths begin at the table's folder)")
    truth = str(path.parent / scan.truth) if scan.truth else ""
    if truth and not Path(truth).is_dir():
        raise SettingsError(f"{place}: truth: no such folder {truth} (paths begin at the table's folder)")
    if truth and not Path(truth, "truth.json").is_file():
        raise SettingsError(
            f"{place}: truth: expected the folder of a simulated scan's answer, got {truth} without truth.json; "
            "leave the cell empty for a measured scan"
        )
    settings = str(path.parent / scan.settings) if scan.settings else ""
    if settings and not Path(settings).is_file():
        raise SettingsError(
            f"{place}: settings: no such file {settings} (paths are taken from the folder of the table)"
        )
    return replace(scan, source=str(source), truth=truth, settings=settings)


def _check_labels(scan: Scan, place: str) -> None:
    for name, value in scan.labels.items():
        if value and not LABEL.fullmatch(value):
            raise SettingsError(
                f"{place}: {name}: expected letters, digits, spaces and _ . + - (at most 64), got {value!r}"
            )
    if scan.side and scan.side not in SIDES:
        raise SettingsError(f"{place}: side: expected one of {', '.join(SIDES)}, got {scan.side!r}")
    if scan.protocol and not SCAN_ID.fullmatch(scan.protocol):
        raise SettingsError(
            f"{place}: protocol: expected letters, digits, _ and - (at most 64: it names a folder), "
            f"got {scan.protocol!r}"
        )


def _check_pairs(scans: dict[str, Scan], path: Path) -> None:
    for scan in scans.values():
        if scan.pair and (scan.pair not in scans or scan.pair == scan.scan):
            raise SettingsError(f"{path}: scan {scan.scan}: pair: expected the id of another row, got {scan.pair!r}")
