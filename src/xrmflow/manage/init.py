"""Write config.yaml and scans.tsv for some raw scans, with a comment wherever one of them needs a decision."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from xrmflow.config.ingest import IngestSection
from xrmflow.config.scans import COLUMNS
from xrmflow.errors import RawFileError, SettingsError
from xrmflow.io.manifest import write_durably
from xrmflow.io.nominal import nominal_acquisition
from xrmflow.io.raw_scan import RawScan
from xrmflow.io.sniff import open_raw
from xrmflow.io.volume_kind import volume_kind
from xrmflow.manage.config_text import config_text
from xrmflow.manage.snakefile import command_line

SETTINGS, TABLE = "config.yaml", "scans.tsv"
MAX_ID = 64
# What lies beside scans and is none: the answers of simulated ones, results of other runs.
NO_SCANS = (".truth", ".zarr")
# Noise2Inverse learns from so many scans unless the table is changed: more of the same protocol teach it little new.
TRAINING_SCANS = 4


@dataclass(frozen=True)
class Found:
    """A raw scan, or a volume that is reconstructed already, that goes into the table.

    Attributes:
        scan: its id.
        source: the file or folder.
        truth: folder with the known answer of a simulated scan, or None.
        needs: what it lacks and which setting mends it, one line each.
        is_volume: whether it is reconstructed already.
    """

    scan: str
    source: Path
    truth: Path | None
    needs: tuple[str, ...]
    is_volume: bool = False


def run(files: list[Path], *, folder: Path = Path(".")) -> str:
    """Write config.yaml and scans.tsv for some raw scans, or volumes that are reconstructed already.

    Args:
        files: raw scans or volumes, or folders of them.
        folder: where to write the two files.
    """
    return init(files, folder)


def init(files: list[Path], folder: Path) -> str:
    """Write `config.yaml` and `scans.tsv`; returns what was done, in words.

    Args:
        files: raw scans, folders of raw scans, folders of TIFF frames.
        folder: where to write; made if it does not exist.

    Raises:
        SettingsError: one of the two files exists already, or no file was given.
        RawFileError: a file given by name is not a raw scan; or no scan was found in the folders.
    """
    for name in (SETTINGS, TABLE):
        if (folder / name).exists():
            raise SettingsError(f"{folder / name}: exists already; delete it, or give another --folder")
    if not files:
        raise SettingsError("files: expected raw scans or folders of them, got none")
    skipped: list[str] = []
    found = _with_ids(_discover(files, skipped))
    if not found:
        raise RawFileError(f"{', '.join(map(str, files))}: no raw scan found{_why(skipped)}")
    folder.mkdir(parents=True, exist_ok=True)
    write_durably(folder / TABLE, table_text(found, folder))
    write_durably(folder / SETTINGS, config_text(scans=TABLE, needs=_all_needs(found)))
    return _summary(found, skipped, folder)


def table_text(scans: list[Found], folder: Path) -> str:
    """The table of scans: tab-separated, sources relative to the table's folder where they share a root."""
    lines = [
        "# One row a scan. role: train (networks learn from it, and it is measured), train-only, validation, test,",
        "# reference (high-resolution partner). pair: id of the partner that super-resolution learns from.",
        "# settings: file with what is different for this scan alone, such as  align: {centre_px: 511.3}",
        "\t".join(COLUMNS),
    ]
    # All scans wait for those that networks learn from, which therefore lack nothing where some scans do.
    raw = [scan for scan in scans if not scan.is_volume]
    whole = [scan for scan in raw if not scan.needs]
    training = [scan.scan for scan in (whole or raw)[:TRAINING_SCANS]]
    for scan in scans:
        truth = "" if scan.truth is None else _relative(scan.truth, folder)
        role = "train" if scan.scan in training else "test"
        lines.append("\t".join((scan.scan, _relative(scan.source, folder), role, "", truth)))
    return "\n".join(lines) + "\n"


def scan_id(path: Path) -> str:
    """A file's name as an id: letters, digits, _ and -, at most 64, beginning with a letter or digit."""
    name = path.name if path.is_dir() else path.stem
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_-")[:MAX_ID].rstrip("_-") or "scan"


def _discover(files: list[Path], skipped: list[str]) -> list[tuple[Path, tuple[str, ...]]]:
    found: list[tuple[Path, tuple[str, ...]]] = []
    for path in files:
        if path.is_dir() and (inside := _scans_in(path, skipped, files)):
            found += inside
        else:
            found.append((path, _examine(path)))
    return found


def _scans_in(folder: Path, skipped: list[str], given: list[Path]) -> list[tuple[Path, tuple[str, ...]]]:
    """The scans among the files of a folder; TIFF frames are not scans of their own."""
    found = []
    for path in sorted(
        file for file in folder.iterdir() if file.is_file() and file.suffix.lower() not in (".tif", ".tiff")
    ):
        if volume_kind(path):
            found.append((path, _examine(path)))
            continue
        try:
            with open_raw(path) as scan:
                if scan.views > 1:
                    found.append((path, _needs(scan)))
                else:
                    skipped.append(f"{path.name} (a single view: a reference?)")
        except RawFileError as error:
            skipped.append(f"{path.name} ({str(error).removeprefix(f'{path}: ')})")
    if found:
        others = [inside for inside in _folders(folder) if not any(path.is_relative_to(inside) for path in given)]
        skipped += [f"{inside.name} (a folder: give it by name if it is or holds scans)" for inside in others]
    return found


def _folders(folder: Path) -> list[Path]:
    """Folders in a folder that may hold scans."""
    inside = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return sorted(path for path in inside if path.suffix not in NO_SCANS)


def _examine(path: Path) -> tuple[str, ...]:
    if kind := volume_kind(path):
        lacks = "no unit of its grey values: set import_volume.slope_per_mm (and intercept_per_mm)"
        return (lacks,) if kind == "txm" else ()
    with open_raw(path) as scan:
        return _needs(scan)


def _needs(scan: RawScan) -> tuple[str, ...]:
    """What the scan lacks and which setting mends it."""
    lines = []
    try:
        acquisition, _ = nominal_acquisition(scan, IngestSection())
        if not acquisition.calibrated:
            lines.append("no pixel size: set ingest.pixel_size_um, or measure it in voxels, in a study of its own")
    except RawFileError as error:
        lines.append(str(error).removeprefix(f"{scan.source}: "))
    if scan.flats is None and scan.already == "counts":
        lines.append("no flats: decide with flatfield.missing_flat (estimate or none), or give ingest.reference_file")
    return tuple(lines)


def _with_ids(found: list[tuple[Path, tuple[str, ...]]]) -> list[Found]:
    """Ids from the names; later ones of the same name get a number."""
    unique = dict.fromkeys(path.resolve() for path, _ in found)
    needs = {path.resolve(): lines for path, lines in found}
    taken: set[str] = set()
    scans = []
    for path in unique:
        name, number = scan_id(path), 1
        while (candidate := name if number == 1 else f"{name[: MAX_ID - 4]}_{number}").casefold() in taken:
            number += 1
        taken.add(candidate.casefold())
        truth = path.with_name(f"{path.stem}.truth")
        is_volume = bool(volume_kind(path))
        known = truth if (truth / "truth.json").is_file() and not is_volume else None
        scans.append(Found(candidate, path, known, needs[path], is_volume))
    return scans


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder.resolve())).as_posix()


def _all_needs(scans: list[Found]) -> list[str]:
    return [f"{scan.scan}: {line}" for scan in scans for line in scan.needs]


def _why(skipped: list[str]) -> str:
    return f"; left out: {'; '.join(skipped[:5])}" if skipped else ""


def _summary(scans: list[Found], skipped: list[str], folder: Path) -> str:
    lines = [f"{folder / TABLE}: {len(scans)} scan(s): {', '.join(scan.scan for scan in scans)}"]
    lines += [f"left out: {line}" for line in skipped]
    lines += [f"to decide in {SETTINGS}: {line}" for line in _all_needs(scans)]
    lines.append(f"next: {command_line(folder / SETTINGS)}")
    return "\n".join(lines)
