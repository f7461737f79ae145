"""Say in seconds what a raw scan holds, what is missing or suspicious, and what a run will take."""

import json as json_text
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xrmflow.config.ingest import IngestSection
from xrmflow.config.loader import load_settings
from xrmflow.config.settings import Settings
from xrmflow.errors import RawFileError
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.io.nominal import exposures, metadata, nominal_acquisition, what_frames_hold
from xrmflow.io.raw_scan import Note, RawScan
from xrmflow.io.scan_checks import check_acquisition, check_angles, check_brightness, check_values, sample_scan
from xrmflow.io.sniff import open_raw
from xrmflow.manage.estimate import Needs, needs_of, size_text, time_text
from xrmflow.manage.sizes import ScanSize, size_of

MARKS = {"blocking": "red", "warning": "yellow", "missing": "magenta", "assumption": "cyan", "info": "dim"}


@dataclass(frozen=True)
class Inspection:
    """What a raw scan holds.

    Attributes:
        path: the file or folder.
        holds: values by name, units in the names; JSON-ready.
        findings: what is suspicious, missing, assumed, worth knowing, in this order.
        blocking: why it cannot be reconstructed as it is, or None.
        needs: what a run will take.
    """

    path: Path
    holds: dict[str, Any]
    findings: tuple[Note, ...]
    blocking: str | None
    needs: Needs

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return {
            "path": str(self.path),
            "holds": self.holds,
            "findings": [note.to_dict() for note in self.findings],
            "blocking": self.blocking,
            "needs": self.needs.to_dict(),
        }


def run(file: Path, *, settings: Path | None = None, json: bool = False) -> str | None:
    """Say in seconds what a raw scan holds, what is missing or suspicious, and what a run will take.

    Exits with an error when the scan cannot be reconstructed as it is.

    Args:
        file: raw scan: a file, or a folder of TIFF frames.
        settings: settings file of the run: how the scan is read, and what is done with it.
        json: print JSON instead of a table.
    """
    inspection = inspect(file, run_settings(settings))
    shown = json_text.dumps(inspection.to_dict(), indent=1, ensure_ascii=False)
    if json and not inspection.blocking:
        return shown
    if json:
        print(shown)
    else:
        from rich.console import Console

        # In a log or a pipe each finding is one line.
        Console(width=None if sys.stdout.isatty() else 200).print(render(inspection))
    if inspection.blocking:
        raise RawFileError(inspection.blocking)
    return None


def inspect(path: Path | str, settings: Settings | None = None) -> Inspection:
    """Look at a raw scan without reading all of it.

    Args:
        path: a file, or a folder of TIFF frames.
        settings: of the run; the defaults when None.

    Raises:
        RawFileError: not a raw scan, truncated or damaged.
    """
    settings = settings or Settings()
    params = settings.ingest
    with open_raw(path, params) as scan:
        blocking, acquisition, assumed = None, None, []
        try:
            acquisition, assumed = nominal_acquisition(scan, params)
        except RawFileError as error:
            blocking = str(error)
        sample = sample_scan(scan)
        bright = check_brightness(sample) if what_frames_hold(scan, params) != "line_integral" else []
        checks = [*check_values(sample), *bright, *_decisions(scan, params)]
        if acquisition is not None:
            checks += check_acquisition(acquisition, scan)
        elif scan.angles_deg is not None:
            checks += check_angles(scan.angles_deg, needed_deg=180.0, cols=scan.projections.shape[2])
        return Inspection(
            path=Path(path),
            holds=_describe(scan, acquisition, params),
            findings=_sorted([*checks, *scan.notes, *assumed]),
            blocking=blocking,
            needs=_needs(scan, acquisition, settings),
        )


def ingest_settings(path: Path | None) -> IngestSection:
    """The ingest section of a settings file, the defaults for None."""
    return run_settings(path).ingest


def run_settings(path: Path | None) -> Settings:
    """A settings file, the defaults for None."""
    return Settings() if path is None else load_settings(path, Settings)


def render(inspection: Inspection) -> Any:
    """The inspection as something that rich prints."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _lines(inspection.holds):
        table.add_row(name, value)
    for name, value in _need_lines(inspection.needs):
        table.add_row(name, value)
    notes = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    notes.add_column(no_wrap=True)
    notes.add_column(overflow="fold")
    for note in inspection.findings:
        notes.add_row(Text(note.severity, style=MARKS[note.severity]), Text(note.text))
    if inspection.blocking:
        notes.add_row(Text("blocking", style=MARKS["blocking"]), Text(inspection.blocking))
    return Group(Text(str(inspection.path), style="bold"), table, Text(), notes)


def _decisions(scan: RawScan, params: IngestSection) -> list[Note]:
    """What the settings of a later stage must decide for this scan."""
    if scan.flats is not None or what_frames_hold(scan, params) != "counts":
        return []
    return [
        Note("warning", "flats: none, so flatfield.missing_flat must be set (estimate or none), or a reference given")
    ]


def _describe(scan: RawScan, acquisition: Acquisition | None, params: IngestSection) -> dict[str, Any]:
    views, rows, cols = scan.projections.shape
    exposure_s, flat_exposure_s = exposures(scan, params)
    holds: dict[str, Any] = {
        "format": scan.format,
        "files": len(scan.files),
        "size_gb": round(sum(file.stat().st_size for file in scan.files) / 1e9, 6),
        "views": views,
        "rows": rows,
        "cols": cols,
        "dtype": np.dtype(scan.projections.dtype).name,
        "frames_hold": what_frames_hold(scan, params),
        "flats": 0 if scan.flats is None else scan.flats.shape[0],
        "darks": 0 if scan.darks is None else scan.darks.shape[0],
        "exposure_s": exposure_s,
        "flat_exposure_s": flat_exposure_s,
        "angles_deg": _angle_summary(scan, acquisition),
        "shifts_px": _shift_summary(scan),
    }
    return holds | _geometry_summary(scan, acquisition) | {"metadata": metadata(scan, params)}


def _angle_summary(scan: RawScan, acquisition: Acquisition | None) -> dict[str, float] | None:
    angles = scan.angles_deg if acquisition is None else np.asarray(acquisition.angles_deg)
    if angles is None or not angles.size:
        return None
    step = float(np.median(np.diff(np.sort(angles)))) if angles.size > 1 else 0.0
    values = {"first": angles[0], "last": angles[-1], "step": step, "span": np.ptp(angles)}
    return {name: round(float(value), 6) for name, value in values.items()}


def _shift_summary(scan: RawScan) -> dict[str, list[float]] | None:
    """Smallest and largest recorded shift across (x) and along the rotation axis (y)."""
    shifts = scan.shifts_to_add_px
    if shifts is None:
        return None
    return {axis: [round(float(v), 4) for v in (shifts[:, k].min(), shifts[:, k].max())] for k, axis in enumerate("xy")}


def _geometry_summary(scan: RawScan, acquisition: Acquisition | None) -> dict[str, Any]:
    if acquisition is None:
        return {
            "beam": scan.beam,
            "source_to_axis_mm": scan.source_to_axis_mm,
            "source_to_detector_mm": scan.source_to_detector_mm,
            "pixel_um": None if scan.pixel_mm is None else scan.pixel_mm * 1000,
            "voxel_um": None,
        }
    known = acquisition.calibrated
    return {
        "beam": acquisition.beam,
        "source_to_axis_mm": acquisition.source_to_axis_mm,
        "source_to_detector_mm": acquisition.source_to_detector_mm,
        "pixel_um": round(acquisition.pixel_mm * 1000, 6) if known else None,
        "voxel_um": round(acquisition.voxel_mm * 1000, 6) if known else None,
    }


def _needs(scan: RawScan, acquisition: Acquisition | None, settings: Settings) -> Needs:
    views, rows, cols = scan.projections.shape
    itemsize = np.dtype(scan.projections.dtype).itemsize
    known = acquisition and size_of(acquisition, itemsize, settings)
    size = known or ScanSize(views, rows, cols, itemsize, (rows, cols, cols))
    return needs_of(size, settings, cores=os.cpu_count() or 1)


def _sorted(notes: list[Note]) -> tuple[Note, ...]:
    order = list(MARKS)
    return tuple(sorted(dict.fromkeys(notes), key=lambda note: order.index(note.severity)))


def _lines(holds: dict[str, Any]) -> list[tuple[str, str]]:
    """The values as a reader wants them: one line a matter, units written out."""
    angles, shifts = holds["angles_deg"], holds["shifts_px"]
    lines = [
        ("format", f"{holds['format']}, {holds['files']} file(s), {size_text(holds['size_gb'])}"),
        (
            "frames",
            f"{holds['views']} views of {holds['rows']} x {holds['cols']} {holds['dtype']}, {holds['frames_hold']}",
        ),
        ("flats, darks", f"{holds['flats']}, {holds['darks']}"),
        ("exposure", _or_unknown(holds["exposure_s"], "s") + _flat_exposure(holds)),
        ("angles", _angle_line(angles) if angles else "none"),
        ("shifts", _shift_line(shifts) if shifts else "none recorded"),
        ("beam", _beam_line(holds)),
        ("pixel, voxel", f"{_or_unknown(holds['pixel_um'], 'um')}, {_or_unknown(holds['voxel_um'], 'um')}"),
    ]
    plain = {name: value for name, value in holds["metadata"].items() if not isinstance(value, dict)}
    return lines + [(_title(name), _value(name, value)) for name, value in plain.items()]


def _need_lines(needed: Needs) -> list[tuple[str, str]]:
    stores = ", ".join(f"{name} {size_text(size)}" for name, size in needed.disk_gb.items() if size)
    stages = ", ".join(f"{name} {time_text(value)}" for name, value in needed.seconds.items() if value)
    return [
        (
            "disk",
            f"about {size_text(needed.kept_gb)}, {needed.files} files, at most {size_text(needed.peak_gb)} ({stores})",
        ),
        ("memory", f"about {needed.memory_gb:.1f} GB"),
        ("time", f"about {time_text(needed.wall_s)} on {needed.cores} cores without a GPU ({stages})"),
    ]


def _angle_line(angles: dict[str, float]) -> str:
    return f"{angles['first']:g} to {angles['last']:g} deg, step {angles['step']:.4g}, span {angles['span']:g}"


def _shift_line(shifts: dict[str, list[float]]) -> str:
    return f"x {shifts['x'][0]:.2f} to {shifts['x'][1]:.2f} px, y {shifts['y'][0]:.2f} to {shifts['y'][1]:.2f} px"


def _flat_exposure(holds: dict[str, Any]) -> str:
    return f" (flats {holds['flat_exposure_s']:g} s)" if holds["flat_exposure_s"] and holds["flats"] else ""


def _beam_line(holds: dict[str, Any]) -> str:
    if holds["beam"] != "cone":
        return holds["beam"] or "unknown"
    near, far = (_or_unknown(holds[name], "mm") for name in ("source_to_axis_mm", "source_to_detector_mm"))
    return f"cone, source to axis {near}, source to detector {far}"


def _or_unknown(value: float | None, unit: str) -> str:
    return "unknown" if value is None else f"{value:.6g} {unit}"


def _title(name: str) -> str:
    words = name.split("_")
    return " ".join(words[:-1] if words[-1] in UNITS else words)


def _value(name: str, value: Any) -> str:
    shown = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f"{shown} {UNITS.get(name.split('_')[-1], '')}".strip()


UNITS = {"um": "um", "kv": "kV", "ua": "uA", "kev": "keV", "w": "W", "px": "px", "mm": "mm"}
