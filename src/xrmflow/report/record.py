"""What stands behind the pictures: acquisition, notes, settings, provenance."""

from typing import Any

from xrmflow.geometry.acquisition import Acquisition
from xrmflow.report.blocks import Block, Cell, Facts, NotRun, State, Table
from xrmflow.report.checks import notes
from xrmflow.report.methods import named, settings_of
from xrmflow.report.numbers import number
from xrmflow.report.results import Results

SEVERITY_STATE: dict[str, State] = {"missing": "fail", "warning": "look", "assumption": "info", "info": "info"}


def remarks(results: Results) -> list[Block]:
    """Every note of every stage."""
    found = notes(results)
    if not found:
        return [NotRun("Notes", "no stage had anything to note")]
    rows = [
        [Cell(severity, "", SEVERITY_STATE.get(severity, "info")), Cell(part), Cell(text)]
        for severity, part, text in found
    ]
    return [Table("", ["Kind", "Where", "Note"], rows)]


def acquisition(results: Results) -> list[Block]:
    """How the scan was taken, as the raw file and the settings say; of an imported volume, what its file says."""
    if results.imported:
        return [Facts("Volume", _volume(results))]
    a, source = results.acquisition, results.raw
    if a is None:
        return [NotRun("Acquisition", "no record of how the scan was taken was given")]
    frames = results.flatfield.get("frames") or {}
    length = "mm" if a.calibrated else "px (uncalibrated)"
    items = [
        ("source file", str(source.get("source_file", "not stated"))),
        ("format", str(source.get("format", "not stated"))),
        ("beam", a.beam),
        ("views", str(a.views)),
        ("angles", f"{number(min(a.angles_deg), 6)}° to {number(max(a.angles_deg), 6)}°"),
        ("detector", f"{a.rows} rows × {a.cols} columns"),
        ("pixel pitch", f"{number(a.pixel_mm)} {length}"),
        *_cone(a),
        ("voxel at the axis", f"{number(a.voxel_mm * 1000)} µm" if a.calibrated else "not known (uncalibrated)"),
        ("nominal centre", f"{number(a.centre_px, 6)} px"),
        ("recorded shifts", _shifts(a)),
        ("flats, darks", ", ".join(f"{frames.get(name, 0)} {name}" for name in ("flats", "darks"))),
        ("recorded as", str(source.get("already", "counts")).replace("_", " ")),
    ]
    items += [named(name, _words(value)) for name, value in source.get("metadata", {}).items()]
    return [Facts("Acquisition", items)]


def settings(results: Results) -> list[Block]:
    """The settings of this scan alone, then those of each stage, one row a key."""
    own = [
        [Cell(section), Cell(key), Cell(_words(value))]
        for section, keys in results.own.items()
        for key, value in keys.items()
    ]
    note = f"From {results.own_file}, laid over the settings of the run: this scan was treated differently."
    alone: list[Block] = (
        [Table("Settings of this scan alone", ["Stage", "Key", "Value"], own, note=note)] if own else []
    )
    rows = [
        [Cell(stage), Cell(key), Cell(_words(value))]
        for stage, record in _by_stage(results).items()
        for key, value in settings_of(record).items()
    ]
    if not rows:
        return [*alone, NotRun("Settings", "no stage recorded any")]
    return [*alone, Table("Settings of every stage", ["Stage", "Key", "Value"], rows, folded=True)]


def provenance(results: Results) -> list[Block]:
    """Where each result came from: stage, code, time, inputs; versions; checksum of the source."""
    rows = []
    for name, record in results.parts.items():
        p = record.get("provenance", {})
        inputs = "; ".join(_input(key, value) for key, value in (p.get("inputs") or {}).items() if value)
        cells = (
            name,
            p.get("stage"),
            p.get("lineage") or "not recorded",
            p.get("finished"),
            p.get("xrmflow"),
            p.get("device") or ("no choice" if "device_asked" in p else None),
            inputs,
        )
        rows.append([Cell(str(text or "not recorded")) for text in cells])
    about = [
        ("file", str(results.raw.get("source_file", "not stated"))),
        ("sha256", str(results.raw.get("source_sha256", "not recorded"))),
    ]
    columns = ["Result", "Stage", "Code and settings", "Finished", "xrmflow", "Device", "Inputs (chunk root)"]
    note = "“Code and settings” is a fingerprint of the stage's code, its settings, and those of the stages before it."
    return [
        Facts("Source", about, single=True),
        Table("Results", columns, rows, note=note, folded=True),
        Facts("Versions", _versions(results), folded=True),
    ]


def _volume(results: Results) -> list[tuple[str, str]]:
    """Of an imported volume: file, grid, and what attenuation was made from."""
    source, grid = results.imported, next(iter(results.volumes.values())).grid
    items = [
        ("source file", str(source.get("source_file", "not stated"))),
        ("format", str(source.get("format", "not stated"))),
        ("reconstructed", "elsewhere; imported as it is"),
        ("voxels", " × ".join(str(n) for n in reversed(grid.shape)) + " (x × y × z)"),
        ("voxel size", f"{number(grid.voxel_mm * 1000)} µm"),
        ("attenuation per mm", f"{source.get('slope_per_mm')} × grey + {source.get('intercept_per_mm')}"),
    ]
    return items + [named(name, _words(value)) for name, value in source.get("metadata", {}).items()]


def _cone(a: Acquisition) -> list[tuple[str, str]]:
    if a.beam == "parallel":
        return []
    unit = "mm" if a.calibrated else "px"
    return [
        ("source to axis", f"{number(a.source_to_axis_mm)} {unit}"),
        ("source to detector", f"{number(a.source_to_detector_mm)} {unit}"),
        ("magnification", number(a.magnification)),
    ]


def _shifts(a: Acquisition) -> str:
    shifts = a.shifts_px
    if not shifts.any():
        return "none"
    low, high = shifts.min(axis=0), shifts.max(axis=0)
    return (
        f"columns {number(low[0], 3)} to {number(high[0], 3)} px, rows {number(low[1], 3)} to {number(high[1], 3)} px"
    )


def _by_stage(results: Results) -> dict[str, dict[str, Any]]:
    """One record a stage: a stage that wrote several results was told the same for each, unless it says otherwise."""
    found: dict[str, dict[str, Any]] = {}
    for name, record in results.parts.items():
        stage = record.get("provenance", {}).get("stage", name)
        if stage in found and settings_of(found[stage]) != settings_of(record):
            stage = f"{stage} ({name})"
        found.setdefault(stage, record)
    return found


def _input(key: str, value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(_input(key, item) for item in value)
    root = value.get("root_sha256") if isinstance(value, dict) else None
    return f"{key} {root[:12]}" if root else key


def _versions(results: Results) -> list[tuple[str, str]]:
    """Versions over all results; where stages ran with different ones, all are named."""
    seen: dict[str, dict[str, None]] = {}
    for record in results.parts.values():
        p = record.get("provenance", {})
        for name, value in {
            "xrmflow": p.get("xrmflow"),
            "python": p.get("python"),
            "machine": p.get("machine"),
            **(p.get("packages") or {}),
        }.items():
            if value:
                seen.setdefault(name, {})[str(value)] = None
    return [(name, ", ".join(values)) for name, values in seen.items()]


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_words(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        shown = ", ".join(_words(v) for v in value[:8])
        return f"{shown} … ({len(value)} values)" if len(value) > 8 else shown
    if value is None:
        return "none"
    return number(value, 6) if isinstance(value, float) else str(value)
