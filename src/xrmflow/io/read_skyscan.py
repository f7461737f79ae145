"""Read scans of SkyScan (Bruker) machines: a `.log` beside a folder of TIFF projections.

Written from published logs of a 1272, a 1275 and a 1278 and from what the open readers of others agree on; no
projections of such a machine were at hand, so the signs are unverified.

=======================================  ============================================================================
[Acquisition]                            meaning
=======================================  ============================================================================
Filename Prefix, Number Of Files         projections are `<prefix>0000.tif` and so on; often one more than a full turn
Number Of Rows, Number Of Columns        of a projection
Object to Source, Camera to Source (mm)  source to rotation axis, source to DETECTOR
Image Pixel Size (um)                    AT THE AXIS: times the magnification it is the detector's pitch
Optical Axis (line)                      row of the stored frames in the plane of the source
Rotation Step (deg)                      between views; Scanning Start Angle: of the first
Rotation Direction                       CC: the stage turns counter-clockwise
Flat Field Correction                    ON: frames are already divided; Reference Intensity: value of the open beam
=======================================  ============================================================================
"""

import re
from pathlib import Path

import numpy as np

from xrmflow.arrays import Reader
from xrmflow.config.ingest import IngestSection
from xrmflow.errors import RawFileError
from xrmflow.io.raw_scan import Note, RawScan
from xrmflow.io.read_tiff import SUFFIXES, matching_tiffs, natural_key, tiff_stack
from xrmflow.io.text_fields import Fields

SCAN, SYSTEM = "Acquisition", "System"
NUMBERS = {
    "pixel_size_at_axis_um": "Image Pixel Size (um)",
    "voltage_kv": "Source Voltage (kV)",
    "current_ua": "Source Current (uA)",
}
TEXTS = {"source_filter": "Filter", "first_frame_taken": "Study Date and Time"}
FLAT = re.compile(r"[_ -]?(f|ff|flat|white|ref)[_ -]?\d*", re.IGNORECASE)
DARK = re.compile(r"[_ -]?(d|df|dark)[_ -]?\d*", re.IGNORECASE)
UM_PER_MM, MS_PER_S = 1000.0, 1000.0
# Slices lie beside a log of this name, and are no projections.
RECONSTRUCTED = "_rec"
MOST_BITS = 16


def read_skyscan(path: Path, params: IngestSection) -> RawScan:
    """Open a scan by its `.log` file; frames are read when asked for.

    Args:
        path: the `.log` file.
        params: `projection_files`, `flat_files` and `dark_files` name the frames, relative to the log's folder, where
            they are not called as the log says.

    Raises:
        RawFileError: no projections, projections of another size than described, or a value that is no number.
    """
    fields, notes = Fields(path), []
    files, flat_files, dark_files = skyscan_frames(path, params)
    projections = tiff_stack(files)
    _check_size(fields, projections.shape)
    corrected = _is_corrected(fields, notes)
    near, far = (fields.positive(SCAN, f"{name} to Source (mm)", notes) for name in ("Object", "Camera"))
    metadata = _metadata(fields)
    at_axis_um = metadata.get("pixel_size_at_axis_um")
    exposure_ms = fields.positive(SCAN, "Exposure (ms)", notes)
    angles = _angles(fields, files, notes)
    _note_rest(fields, notes)
    return RawScan(
        format="skyscan",
        source=path,
        files=(path, *files, *flat_files, *dark_files),
        projections=projections,
        flats=None if corrected else _references(flat_files, projections, "flats", notes),
        darks=None if corrected else _references(dark_files, projections, "darks", notes),
        angles_deg=angles,
        beam="cone",
        pixel_mm=float(at_axis_um) / UM_PER_MM * (far / near) if at_axis_um and near and far else None,
        source_to_axis_mm=near,
        source_to_detector_mm=far,
        midplane_px=_midplane_px(fields, notes),
        exposure_s=None if exposure_ms is None else exposure_ms / MS_PER_S,
        row_order="top_down",
        already="transmission" if corrected else "counts",
        white_level=_white_level(fields, notes) if corrected else None,
        metadata=metadata,
        notes=tuple(notes),
    )


def skyscan_files(path: Path, params: IngestSection) -> list[Path]:
    """Every file the scan is read from; frames are not opened.

    Raises:
        RawFileError: no projections.
    """
    return [path, *(file for files in skyscan_frames(path, params) for file in files)]


def skyscan_frames(path: Path, params: IngestSection) -> tuple[list[Path], list[Path], list[Path]]:
    """The files of projections, flats and darks, in natural order; none of them is opened.

    Raises:
        RawFileError: no projections.
    """
    named = (params.projection_files, params.flat_files, params.dark_files)
    given = [matching_tiffs(path.parent, pattern) for pattern in named]
    found = _by_prefix(path)
    files, flats, darks = (own if name is None else other for name, own, other in zip(named, found, given, strict=True))
    if not files:
        wanted = params.projection_files or f"{_prefixes(path)[0]}0000.tif and so on"
        raise RawFileError(f"{path}: no projections ({wanted}) beside it; copy them, or set ingest.projection_files")
    return files, flats, darks


def _prefixes(path: Path) -> list[str]:
    """What names of the frames may begin with: as in the log, or, after renaming, as the log itself is called."""
    recorded = Fields(path).text(SCAN, "Filename Prefix")
    own = None if path.stem.lower().endswith(RECONSTRUCTED) else path.stem
    return list(dict.fromkeys(name for name in (recorded, own) if name)) or [path.stem]


def _by_prefix(path: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Projections, flats and darks by what follows the prefix: a number, or a word for what they are."""
    tiffs = sorted((file for file in path.parent.iterdir() if file.suffix.lower() in SUFFIXES), key=natural_key)
    for prefix in _prefixes(path):
        rest = {file: file.stem[len(prefix) :] for file in tiffs if file.stem.lower().startswith(prefix.lower())}
        projections = [file for file, end in rest.items() if end.isdecimal()]
        if projections:
            alone = {file: file.stem for file in tiffs if file not in rest} | rest
            flats = [file for file, end in alone.items() if FLAT.fullmatch(end)]
            return projections, flats, [file for file, end in alone.items() if DARK.fullmatch(end)]
    return [], [], []


def _check_size(fields: Fields, shape: tuple[int, ...]) -> None:
    for name, size in (("Number Of Rows", shape[1]), ("Number Of Columns", shape[2])):
        declared = fields.number(SCAN, name)
        if declared is not None and declared != size:
            raise RawFileError(f"{fields.path}: {name}: expected the projections' {size} pixels, got {declared:g}")


def _angles(fields: Fields, files: list[Path], notes: list[Note]) -> np.ndarray | None:
    """Degrees in the sense of `RawScan`, by the numbers in the files' names: a projection may be missing."""
    views, declared = len(files), fields.number(SCAN, "Number Of Files")
    if declared is not None and declared != views:
        notes.append(Note("warning", f"Number Of Files says {declared:g}, {views} were found; those are used"))
    step = fields.positive(SCAN, "Rotation Step (deg)", notes)
    if step is None:
        return None
    last_digits = [re.search(r"\d+$", file.stem) for file in files]
    numbers = [int(found[0]) for found in last_digits if found]
    if len(numbers) < views or numbers[-1] - numbers[0] >= 2 * max(views, declared or 0):
        numbers = list(range(views))
    turned = step * (np.array(numbers, dtype=float) - numbers[0]) + (fields.number(SCAN, "Scanning Start Angle") or 0.0)
    direction = fields.text(SCAN, "Rotation Direction")
    against = direction is None or direction.upper().startswith("CC")
    way = "counter-clockwise" if against else "clockwise"
    text = (
        f"angles: Rotation Direction {direction or 'is not in the file'}: the stage is taken to turn {way} from above"
    )
    notes.append(Note("assumption", f"{text}, so that angles {'fall' if against else 'grow'}"))
    return -turned if against else turned


def _is_corrected(fields: Fields, notes: list[Note]) -> bool:
    switch = fields.text(SCAN, "Flat Field Correction")
    if switch is None:
        notes.append(Note("assumption", "Flat Field Correction: not in the file; frames are taken for counts"))
    corrected = switch is not None and switch.upper().startswith("ON")
    if corrected:
        notes.append(Note("info", "Flat Field Correction is ON: frames are already divided by the flat"))
    return corrected


def _white_level(fields: Fields, notes: list[Note]) -> float:
    white = fields.number(SCAN, "Reference Intensity")
    if white is not None and white > 0:
        return white
    bits = min(fields.number(SCAN, "Depth (bits)") or MOST_BITS, MOST_BITS)
    full = 2.0**bits - 1
    text = f"Reference Intensity: not in the file; the full scale {full:g} is taken, see ingest.transmission_scale"
    notes.append(Note("assumption", text))
    return full


def _midplane_px(fields: Fields, notes: list[Note]) -> float | None:
    line = fields.number(SCAN, "Optical Axis (line)")
    if line is None:
        notes.append(Note("missing", "Optical Axis (line): not in the file; taken as the middle row"))
    else:
        notes.append(Note("assumption", f"Optical Axis (line): {line:g}, taken as counted from the first stored row"))
    return line


def _references(files: list[Path], frames: Reader, what: str, notes: list[Note]) -> Reader | None:
    if not files:
        notes.append(Note("missing", f"{what}: no such files beside the projections"))
        return None
    stack = tiff_stack(files)
    if stack.shape[1:] != frames.shape[1:]:
        raise RawFileError(f"{files[0]}: expected {what} of {frames.shape[1:]} pixels, got {stack.shape[1:]}")
    return stack


def _metadata(fields: Fields) -> dict[str, float | str]:
    found: dict[str, float | str] = {}
    for name, key in NUMBERS.items():
        value = fields.number(SCAN, key)
        if value is not None and value > 0:
            found[name] = value
    found |= {name: text for name, key in TEXTS.items() if (text := fields.text(SCAN, key))}
    scanner = fields.text(SYSTEM, "Scanner")
    return found | ({"scanner": scanner} if scanner else {})


def _note_rest(fields: Fields, notes: list[Note]) -> None:
    for section, name in ((SCAN, "Image Rotation"), ("Reconstruction", "Postalignment")):
        value = fields.number(section, name)
        if value:
            notes.append(Note("info", f"{name}: {value:g} in the log; not used, align finds centre and roll"))
    if (fields.text(SCAN, "Random Movement") or "").upper().startswith("ON"):
        notes.append(Note("info", "Random Movement is ON: frames are taken as moved back by the machine"))
    scans = fields.number(SCAN, "Number of connected scans")
    if scans is not None and scans > 1:
        notes.append(Note("warning", f"one of {scans:g} connected scans: each is reconstructed by itself"))
