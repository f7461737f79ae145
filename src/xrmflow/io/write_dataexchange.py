"""Write a scan as Data Exchange HDF5: for simulated scans, conversions and tests.

Frames go to `/exchange`, as the format says. Data Exchange has no fixed place for the distances of a cone beam nor for
per-view shifts; they are written below `/measurement/instrument`, each with a `units` attribute::

    /measurement/instrument/geometry/source_to_axis_distance         mm
    /measurement/instrument/geometry/source_to_detector_distance     mm
    /measurement/instrument/geometry/shifts_to_add                   (view, 2) pixels along (columns, rows)
    /measurement/instrument/detector/pixel_size_x, pixel_size_y      um, in the detector plane
    /measurement/instrument/detector/exposure_time                   s
    /measurement/instrument/source/voltage, current                  kV, uA
    /measurement/instrument/monochromator/energy                     keV

Row 0 of a stored frame is the HIGHEST row of the image, as cameras deliver it; `/exchange/data` carries the attribute
`row_order = "top_down"`.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from xrmflow.arrays import Reader, blocks
from xrmflow.io.raw_scan import Oriented

BLOCK = 16
GEOMETRY, DETECTOR = "measurement/instrument/geometry", "measurement/instrument/detector"


def write_dataexchange(
    path: Path | str,
    *,
    projections: Reader,
    flats: Reader | None = None,
    darks: Reader | None = None,
    angles_deg: np.ndarray | None = None,
    pixel_size_um: float | None = None,
    source_to_axis_mm: float | None = None,
    source_to_detector_mm: float | None = None,
    shifts_px: np.ndarray | None = None,
    exposure_s: float | None = None,
    voltage_kv: float | None = None,
    current_ua: float | None = None,
    energy_kev: float | None = None,
    sample: str | None = None,
    metadata: dict[str, Any] | None = None,
) -> None:
    """Write a Data Exchange file; frames are read and written a few at a time.

    Args:
        path: the file to write; it appears only when complete.
        projections: (view, row, col), row 0 the LOWEST (the package's convention; stored top down).
        flats: (n, row, col) likewise, or None.
        darks: (n, row, col) likewise, or None.
        angles_deg: (view,) degrees, or None for a file without angles.
        pixel_size_um: pitch in the DETECTOR plane, micrometres.
        source_to_axis_mm: mm; None for a parallel beam.
        source_to_detector_mm: mm; None for a parallel beam.
        shifts_px: (view, 2) pixels along (columns, rows) of `projections` to be ADDED to undo each view's displacement.
        exposure_s: seconds a frame.
        voltage_kv: of the source, kV.
        current_ua: of the source, microampere.
        energy_kev: of a monochromatic beam, keV.
        sample: its name.
        metadata: further values, written as datasets below `/measurement/simulation` (or whatever path the key names).

    Raises:
        ValueError: for shapes that do not agree.
    """
    path = Path(path)
    _check_shapes(projections, flats, darks, angles_deg)
    temporary = path.with_name(f".{path.name}.part")
    try:
        with h5py.File(temporary, "w") as file:
            file["implements"] = "exchange:measurement:instrument"
            for name, frames in {"data": projections, "data_white": flats, "data_dark": darks}.items():
                if frames is not None:
                    _write_frames(file, f"exchange/{name}", frames)
            _put(file, "exchange/theta", angles_deg, "degrees")
            _put(file, f"{DETECTOR}/pixel_size_x", pixel_size_um, "um")
            _put(file, f"{DETECTOR}/pixel_size_y", pixel_size_um, "um")
            _put(file, f"{DETECTOR}/exposure_time", exposure_s, "s")
            _put(file, f"{GEOMETRY}/source_to_axis_distance", source_to_axis_mm, "mm")
            _put(file, f"{GEOMETRY}/source_to_detector_distance", source_to_detector_mm, "mm")
            stored = None if shifts_px is None else np.asarray(shifts_px, dtype=float) * (1.0, -1.0)
            _put(file, f"{GEOMETRY}/shifts_to_add", stored, "pixels")
            _put(file, "measurement/instrument/source/voltage", voltage_kv, "kV")
            _put(file, "measurement/instrument/source/current", current_ua, "uA")
            _put(file, "measurement/instrument/monochromator/energy", energy_kev, "keV")
            _put(file, "measurement/sample/name", sample, None)
            for name, value in (metadata or {}).items():
                _put(file, name if "/" in name else f"measurement/simulation/{name}", value, None)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _check_shapes(projections: Reader, flats: Reader | None, darks: Reader | None, angles_deg: Any) -> None:
    for name, frames in {"flats": flats, "darks": darks}.items():
        if frames is not None and frames.shape[1:] != projections.shape[1:]:
            raise ValueError(f"{name}: expected frames of {projections.shape[1:]} pixels, got {frames.shape[1:]}")
    if angles_deg is not None and np.shape(angles_deg) != (projections.shape[0],):
        raise ValueError(f"angles_deg: expected shape ({projections.shape[0]},), got {np.shape(angles_deg)}")


def _write_frames(file: h5py.File, name: str, frames: Reader) -> None:
    stored = Oriented(frames, reverse_rows=True, reverse_cols=False)
    data = file.create_dataset(name, shape=stored.shape, dtype=stored.dtype, chunks=(1, *stored.shape[1:]))
    data.attrs.update({"axes": "theta:y:x", "units": "counts", "row_order": "top_down"})
    for block in blocks(stored.shape[0], BLOCK):
        data[block] = stored[block]


def _put(file: h5py.File, name: str, value: Any, units: str | None) -> None:
    if value is None:
        return
    file[name] = value
    if units:
        file[name].attrs["units"] = units
