"""Read scans of Nikon X-Tek machines: a `.xtekct` description beside a folder of TIFF projections.

Written from what the open readers of others agree on; no file of such a machine was at hand, so signs are unverified.

==========================================  =========================================================================
[XTekCT]                                    meaning
==========================================  =========================================================================
SrcToObject, SrcToDetector                  source to rotation axis, source to detector, mm
DetectorPixelSizeX, DetectorPixelSizeY      pitch in the detector plane, mm; DetectorPixelsX, Y: how many
Projections, InitialAngle, AngularStep      number of views; degrees
WhiteLevel                                  value of the open beam: projections are already divided by flat and dark
Name, InputSeparator, InputFolderName       projections are `<folder>/<name><separator>0001.tif` and so on
ObjectOffsetX                               mm by which the axis is off the central ray, at the axis
CentreOfRotationTop, Bottom                 the same at the detector, where ObjectOffsetX is absent
==========================================  =========================================================================

Angles as driven are in `<name>.ang` or `_ctdata.txt` beside it (number, degrees, anything), from the initial angle on;
CIL holds them for less reliable than the nominal step; they are used only where they are complete. As in CIL, columns
run from right to left seen from the source, and the angles grow while the stage turns clockwise seen from above.
"""

import re
from pathlib import Path, PureWindowsPath

import numpy as np

from xrmflow.config.ingest import IngestSection
from xrmflow.errors import RawFileError
from xrmflow.io.raw_scan import Note, RawScan
from xrmflow.io.read_tiff import SUFFIXES, matching_tiffs, natural_key, tiff_stack
from xrmflow.io.text_fields import Fields, read_text

MAIN = "XTekCT"
METADATA = {"voltage_kv": ("Xrays", "XraykV"), "current_ua": ("Xrays", "XrayuA")}
FILTER = ("Filter_Material", "Filter_ThicknessMM")
UNUSED = ("ObjectTilt", "ObjectRoll", "DetectorOffsetX", "DetectorOffsetY", "Scattering")
SQUARE = 1e-3
FULL_SCALE = 65535.0


def read_nikon(path: Path, params: IngestSection) -> RawScan:
    """Open a scan by its `.xtekct` file; frames are read when asked for.

    Args:
        path: the `.xtekct` file.
        params: `projection_files` names the projections where the description does not, relative to its folder.

    Raises:
        RawFileError: no projections, projections of another size than described, or a value that is no number.
    """
    fields, notes = Fields(path), []
    files = projection_files(path, params)
    projections = tiff_stack(files)
    angles, angle_files = _angles(fields, projections.shape[0], notes)
    near, far = (fields.positive(MAIN, name, notes) for name in ("SrcToObject", "SrcToDetector"))
    pixel_mm = _pixel_mm(fields, projections.shape[1:], notes)
    _note_unused(fields, notes)
    return RawScan(
        format="nikon",
        source=path,
        files=(path, *angle_files, *files),
        projections=projections,
        angles_deg=angles,
        beam="cone",
        pixel_mm=pixel_mm,
        source_to_axis_mm=near,
        source_to_detector_mm=far,
        centre_px=_centre_px(fields, projections.shape[2], pixel_mm, near, far, notes),
        row_order="top_down",
        column_order="right_to_left",
        already="transmission",
        white_level=_white_level(fields, notes),
        metadata=_metadata(fields),
        notes=tuple(notes),
    )


def nikon_files(path: Path, params: IngestSection) -> list[Path]:
    """Every file the scan is read from; projections are not opened.

    Raises:
        RawFileError: no projections.
    """
    files = projection_files(path, params)
    return [path, *_angles(Fields(path), len(files), [])[1], *files]


def projection_files(path: Path, params: IngestSection) -> list[Path]:
    """The projections in natural order; none of them is opened.

    Raises:
        RawFileError: there are none.
    """
    fields = Fields(path)
    if params.projection_files is not None:
        files, described = matching_tiffs(path.parent, params.projection_files), params.projection_files
    else:
        name = fields.text(MAIN, "Name") or path.stem
        separator = fields.text(MAIN, "InputSeparator") or ""
        folder = _folder(path, fields.text(MAIN, "InputFolderName"))
        wanted = re.compile(rf"{re.escape(name)}{re.escape(separator) or '[_-]?'}\d+", re.IGNORECASE)
        files = [file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and wanted.fullmatch(file.stem)]
        described = f"{name}{separator}0001.tif ... in {folder}"
    if not files:
        raise RawFileError(f"{path}: no projections ({described}); copy them beside it, or set ingest.projection_files")
    return sorted(files, key=natural_key)


def _folder(path: Path, named: str | None) -> Path:
    """The folder of the projections below the description's own, which stands in for one that is not there."""
    parts = PureWindowsPath(named or "").parts
    inside = path.parent.joinpath(*parts) if parts and not {"..", "/", "\\"} & set(parts) else path.parent
    return inside if inside.is_dir() and inside.is_relative_to(path.parent) else path.parent


def _angles(fields: Fields, views: int, notes: list[Note]) -> tuple[np.ndarray | None, list[Path]]:
    """Degrees, and the files they were read from beside the description."""
    declared = fields.number(MAIN, "Projections")
    if declared is not None and declared != views:
        notes.append(Note("warning", f"Projections says {declared:g}, {views} files were found; those are used"))
    first = fields.number(MAIN, "InitialAngle") or 0.0
    file = _angle_file(fields)
    if file is not None:
        driven = read_angle_table(file)
        if driven.size == views:
            notes.append(Note("info", f"angles: as driven, from {file.name}"))
            return first + driven, [file]
        text = f"angles: {file.name} has {driven.size} for {views} projections; the nominal step is used"
        notes.append(Note("warning", text))
    step = fields.number(MAIN, "AngularStep")
    if not step:
        notes.append(Note("missing", "angles: no AngularStep in the file"))
        return None, []
    return first + step * np.arange(views), []


def _angle_file(fields: Fields) -> Path | None:
    folder, name = fields.path.parent, fields.text(MAIN, "Name") or fields.path.stem
    candidates = (f"{name}.ang", f"{fields.path.stem}.ang", "_ctdata.txt", f"{name}_ctdata.txt")
    return next((folder / file for file in candidates if Path(file).name == file and (folder / file).is_file()), None)


def read_angle_table(path: Path) -> np.ndarray:
    """Degrees by the number of the view from a table of (number, degrees, ...) with any header and delimiters.

    Some writers list the last view first, and head the table with a line of numbers that the rows then replace.
    """
    rows: dict[int, float] = {}
    for line in read_text(path).splitlines():
        cells = re.split(r"[\s:,;]+", line.strip())
        try:
            rows[int(cells[0])] = float(cells[1])
        except (ValueError, IndexError):
            continue
    angles = np.array([rows[number] for number in sorted(rows)], dtype=float)
    return angles if np.isfinite(angles).all() else angles[:0]


def _pixel_mm(fields: Fields, shape: tuple[int, ...], notes: list[Note]) -> float | None:
    for name, size in (("DetectorPixelsY", shape[0]), ("DetectorPixelsX", shape[1])):
        declared = fields.number(MAIN, name)
        if declared is not None and declared != size:
            raise RawFileError(f"{fields.path}: {name}: expected the projections' {size} pixels, got {declared:g}")
    across = fields.positive(MAIN, "DetectorPixelSizeX", notes)
    along = fields.number(MAIN, "DetectorPixelSizeY")
    if across and along and abs(across - along) > SQUARE * across:
        raise RawFileError(f"{fields.path}: expected square pixels, got {across:g} x {along:g} mm")
    return across


def _centre_px(
    fields: Fields, cols: int, pixel_mm: float | None, near: float | None, far: float | None, notes: list[Note]
) -> float | None:
    """Column of the axis in the stored frames: the axis is at -offset along +x, along which columns run backwards."""
    if pixel_mm is None or near is None or far is None:
        return None
    offset = fields.number(MAIN, "ObjectOffsetX")
    top, bottom = (fields.number(MAIN, f"CentreOfRotation{end}") or 0.0 for end in ("Top", "Bottom"))
    at_detector = (top + bottom) / 2 if offset is None else offset * far / near
    if at_detector:
        text = f"centre: {at_detector / pixel_mm:+.2f} px off the middle, from the file; align finds it from the scan"
        notes.append(Note("info", text))
    return (cols - 1) / 2 + at_detector / pixel_mm


def _white_level(fields: Fields, notes: list[Note]) -> float:
    white = fields.positive(MAIN, "WhiteLevel", notes)
    notes.append(Note("info", "frames are already divided by flat and dark, as the machine writes them"))
    if white is None:
        text = f"WhiteLevel: taken as {FULL_SCALE:g}, the full scale; see ingest.transmission_scale"
        notes.append(Note("assumption", text))
    return white or FULL_SCALE


def _metadata(fields: Fields) -> dict[str, float | str]:
    found: dict[str, float | str] = {}
    for name, (section, key) in METADATA.items():
        if value := fields.number(section, key):
            found[name] = value
    material, thickness = (fields.text("CTPro", key) for key in FILTER)
    if material and material.lower() != "none":
        found["source_filter"] = f"{material} {thickness} mm" if thickness else material
    return found


def _note_unused(fields: Fields, notes: list[Note]) -> None:
    for name in UNUSED:
        value = fields.number(MAIN, name)
        if value:
            notes.append(Note("info", f"{name}: {value:g} in the file; not used, align finds centre and roll"))
