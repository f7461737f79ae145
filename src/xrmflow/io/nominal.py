"""From what a file records to the package's convention: the nominal acquisition, and the frames oriented to fit it.

The convention is stated in `xrmflow.geometry.acquisition`: row 0 is the lowest, columns run along +x seen from the
source, angles grow as the stage turns clockwise seen from above, and a shift is the displacement of the recorded image.
A recorded shift is what must be ADDED to a frame's position to undo the displacement, so the signs are opposite::

    recorded (+3, -2) in a frame stored bottom up   ->  shift_u_px = -3, shift_v_px = +2
    recorded (+3, -2) in a frame stored top down    ->  shift_u_px = -3, shift_v_px = -2   (rows are reversed)
"""

from pathlib import Path
from typing import Any

import numpy as np

from xrmflow.arrays import Reader
from xrmflow.config.ingest import IngestSection
from xrmflow.errors import RawFileError
from xrmflow.geometry.acquisition import Acquisition, Beam
from xrmflow.io.raw_scan import Note, Oriented, RawScan

ANGLES_MENDED_BY = "set ingest.angles_first_deg and ingest.angles_last_deg, or ingest.angles_file"
UM_PER_MM = 1000.0
# Binning and lenses change a pixel by less; a slip of the unit by more.
UNLIKELY_FACTOR = 20.0


def nominal_acquisition(scan: RawScan, params: IngestSection) -> tuple[Acquisition, list[Note]]:
    """The geometry as recorded and set, in the package's convention, and a note for each thing assumed or overridden.

    Raises:
        RawFileError: something that a reconstruction needs is neither in the file nor in the settings.
    """
    notes: list[Note] = []
    angles = _angles(scan, params, notes)
    beam = _beam(scan, params, notes)
    near, far = _distances(scan, params, beam, notes)
    pixel_mm = _pixel_mm(scan, params, beam, (near, far), notes)
    shifts = _shifts(scan, params, notes)
    notes += _orientation_notes(scan, params)
    rows, cols = scan.projections.shape[1:]
    centre, midplane = _middle(scan, params, notes)
    try:
        acquisition = Acquisition(
            beam=beam,
            angles_deg=tuple(float(angle) for angle in angles),
            rows=rows,
            cols=cols,
            pixel_mm=1.0 if pixel_mm is None else pixel_mm,
            source_to_axis_mm=near,
            source_to_detector_mm=far,
            centre_px=centre,
            midplane_px=midplane,
            shift_u_px=tuple(float(u) for u in shifts[:, 0]) if shifts is not None else (),
            shift_v_px=tuple(float(v) for v in shifts[:, 1]) if shifts is not None else (),
            calibrated=pixel_mm is not None,
        )
    except ValueError as error:
        raise RawFileError(f"{scan.source}: {error}") from None
    return acquisition, notes


def oriented(frames: Reader, scan: RawScan, params: IngestSection) -> Reader:
    """The frames with row 0 lowest and columns from left to right seen from the source."""
    rows, cols = reversed_axes(scan, params)
    return Oriented(frames, reverse_rows=rows, reverse_cols=cols) if rows or cols else frames


def reversed_axes(scan: RawScan, params: IngestSection) -> tuple[bool, bool]:
    """Whether the stored (rows, columns) run against the package's convention."""
    row_order = scan.row_order if params.row_order == "format" else params.row_order
    column_order = scan.column_order if params.column_order == "format" else params.column_order
    return row_order == "top_down", column_order == "right_to_left"


def what_frames_hold(scan: RawScan, params: IngestSection) -> str:
    """ "counts", "transmission" or "line_integral", as recorded or set."""
    return scan.already if params.already == "file" else params.already


def unattenuated(scan: RawScan, params: IngestSection) -> float:
    """Value of an unattenuated pixel in frames that hold transmission, as set or recorded; 1 where neither."""
    return params.transmission_scale or scan.white_level or 1.0


def metadata(scan: RawScan, params: IngestSection) -> dict[str, Any]:
    """The scan's metadata with the values that the settings override."""
    return scan.metadata | ({} if params.energy_kev is None else {"energy_kev": params.energy_kev})


def exposures(scan: RawScan, params: IngestSection) -> tuple[float | None, float | None]:
    """Seconds a projection (the median, where one is recorded for each view) and a flat."""
    recorded = None if scan.exposure_s is None else float(np.median(np.asarray(scan.exposure_s)))
    return params.exposure_s or recorded, params.flat_exposure_s or scan.flat_exposure_s


def _angles(scan: RawScan, params: IngestSection, notes: list[Note]) -> np.ndarray:
    if params.angles_file is not None:
        angles = _read_angles(beside(scan.source, params.angles_file), scan.views)
        notes.append(Note("info", f"angles: read from {params.angles_file}"))
    elif params.angles_first_deg is not None and params.angles_last_deg is not None:
        first, last = params.angles_first_deg, params.angles_last_deg
        angles = np.linspace(first, last, scan.views)
        notes.append(Note("assumption", f"angles: evenly spaced from {first:g} to {last:g} deg (settings)"))
    elif scan.angles_deg is None:
        raise RawFileError(f"{scan.source}: no angles in the file; {ANGLES_MENDED_BY}")
    else:
        angles = np.asarray(scan.angles_deg, dtype=float)
    if not np.isfinite(angles).all():
        raise RawFileError(f"{scan.source}: angles: expected finite numbers, got NaN or infinity; {ANGLES_MENDED_BY}")
    if scan.views > 1 and np.ptp(angles) == 0:
        raise RawFileError(
            f"{scan.source}: angles: all {scan.views} views are at {angles[0]:g} deg; {ANGLES_MENDED_BY}"
        )
    direction = "clockwise" if params.angle_sign == 1 else "counter-clockwise"
    notes.append(
        Note("assumption", f"angles: growing angles are taken as the stage turning {direction} seen from above")
    )
    return params.angle_sign * angles


def _read_angles(path: Path, views: int) -> np.ndarray:
    try:
        angles = np.loadtxt(path, ndmin=1, dtype=float)
    except (OSError, ValueError) as error:
        raise RawFileError(f"ingest.angles_file: cannot read {path} as one angle a line ({error})") from None
    if angles.shape != (views,):
        raise RawFileError(f"ingest.angles_file: {path}: expected {views} angles, one a view, got {angles.size}")
    return angles


def _beam(scan: RawScan, params: IngestSection, notes: list[Note]) -> Beam:
    if params.beam != "file":
        return params.beam
    if scan.beam is not None:
        return scan.beam
    near = params.source_to_axis_mm or scan.source_to_axis_mm
    far = params.source_to_detector_mm or scan.source_to_detector_mm
    beam: Beam = "cone" if near and far else "parallel"
    because = "distances are known" if beam == "cone" else "the file records no distances"
    notes.append(Note("assumption", f"beam: taken as {beam}, since {because} (ingest.beam)"))
    return beam


def _distances(
    scan: RawScan, params: IngestSection, beam: Beam, notes: list[Note]
) -> tuple[float, float] | tuple[None, None]:
    if beam == "parallel":
        return None, None
    found = []
    for name in ("source_to_axis_mm", "source_to_detector_mm"):
        recorded, given = getattr(scan, name), getattr(params, name)
        value = recorded if given is None else given
        if value is None:
            raise RawFileError(f"{scan.source}: cone beam, but {name} is not in the file; set ingest.{name}")
        if not np.isfinite(value) or value <= 0:
            raise RawFileError(
                f"{scan.source}: {name}: expected a positive length in mm, got {value:g} in the file; set ingest.{name}"
            )
        if given is not None and recorded is not None:
            notes.append(Note("info", f"{name}: {given:g} from the settings replaces the recorded {recorded:g}"))
        found.append(float(value))
    return found[0], found[1]


def _pixel_mm(
    scan: RawScan, params: IngestSection, beam: Beam, distances: tuple[float | None, float | None], notes: list[Note]
) -> float | None:
    near, far = distances
    magnification = far / near if near and far else 1.0
    if params.pixel_size_um is not None or params.voxel_size_um is not None:
        given = params.pixel_size_um or float(params.voxel_size_um or 0) * magnification
        name = "pixel_size_um" if params.pixel_size_um else "voxel_size_um"
        notes.append(_given_pixel(given, name, (scan.pixel_mm or 0.0) * UM_PER_MM))
        return given / UM_PER_MM
    if scan.pixel_mm is not None and np.isfinite(scan.pixel_mm) and scan.pixel_mm > 0:
        return _voxel_kept(scan, magnification)
    if beam == "cone":
        raise RawFileError(
            f"{scan.source}: cone beam, but no pixel size in the file; set ingest.pixel_size_um or ingest.voxel_size_um"
        )
    notes.append(
        Note(
            "missing",
            "pixel size: not in the file; lengths are in voxels (uncalibrated) until ingest.pixel_size_um is set",
        )
    )
    return None


def _given_pixel(given_um: float, name: str, recorded_um: float) -> Note:
    """What to say of a pixel size that the settings give, beside the recorded one where there is one."""
    text = f"pixel size: {given_um:.6g} um in the detector plane, from ingest.{name}"
    if not np.isfinite(recorded_um) or recorded_um <= 0:
        return Note("info", text)
    text += f", in place of the recorded {recorded_um:.6g} um"
    apart = abs(np.log(given_um / recorded_um)) > np.log(UNLIKELY_FACTOR)
    return Note("warning", f"{text}; are both in micrometres?") if apart else Note("info", text)


def _voxel_kept(scan: RawScan, magnification: float) -> float:
    """The recorded pitch; where the file records the size at the axis, that one stays when distances are overridden."""
    voxel_um = scan.metadata.get("pixel_size_at_axis_um")
    if voxel_um is not None:
        return float(voxel_um) / UM_PER_MM * magnification
    return float(scan.pixel_mm or 0)


def _shifts(scan: RawScan, params: IngestSection, notes: list[Note]) -> np.ndarray | None:
    """(view, 2) displacement of the oriented image along (u, v)."""
    if scan.shifts_to_add_px is None:
        return None
    rows, cols = reversed_axes(scan, params)
    signs = np.array([params.shift_sign_x * (-1 if cols else 1), params.shift_sign_y * (-1 if rows else 1)])
    if not signs.all():
        notes.append(Note("info", "shifts: recorded per-view shifts are ignored where the settings' shift_sign is 0"))
    notes.append(Note("assumption", "shifts: recorded values are taken as to be added to each projection's position"))
    return -signs * np.asarray(scan.shifts_to_add_px, dtype=float)


def _middle(scan: RawScan, params: IngestSection, notes: list[Note]) -> tuple[float, float]:
    """Column of the axis and row of the source's plane in the oriented frames; the middle where none is recorded."""
    rows, cols = scan.projections.shape[1:]
    reverse_rows, reverse_cols = reversed_axes(scan, params)
    found = []
    for name, recorded, size, reverse in (
        ("centre", scan.centre_px, cols, reverse_cols),
        ("midplane", scan.midplane_px, rows, reverse_rows),
    ):
        if recorded is not None and -size < recorded < 2 * size:
            found.append(size - 1 - recorded if reverse else recorded)
            continue
        if recorded is not None:
            text = f"{name}: {recorded:g} px in the file, far outside {size} pixels; taken as the middle"
            notes.append(Note("warning", text))
        found.append((size - 1) / 2)
    return found[0], found[1]


def _orientation_notes(scan: RawScan, params: IngestSection) -> list[Note]:
    rows, cols = reversed_axes(scan, params)
    first = "highest" if rows else "lowest"
    by = f"default for {scan.format}" if params.row_order == "format" else "settings"
    notes = [Note("assumption", f"rows: row 0 of the stored frames is taken as the {first} ({by})")]
    direction = "right to left" if cols else "left to right"
    by = f" (default for {scan.format})" if params.column_order == "format" else " (settings)"
    notes.append(Note("assumption", f"columns: taken as running {direction} seen from the source{by}"))
    return notes


def beside(source: Path, name: str) -> Path:
    """A file named in the settings: relative names are taken from the scan's folder."""
    folder = source if source.is_dir() else source.parent
    return folder / name
