"""What a `.txrm` file records beside frames and geometry: source, optics, dates, motors."""

from datetime import datetime
from typing import Any

import numpy as np

from xrmflow.io.ole import Container
from xrmflow.io.raw_scan import Note

DATE_WIDTH, AXIS_NAME_WIDTH, AXIS_UNIT_WIDTH = 40, 25, 15
DATE_FORMATS = ("%m/%d/%y %H:%M:%S", "%m/%d/%Y %H:%M:%S.%f", "%m/%d/%Y %H:%M:%S")
POSITIVE = {
    "pixel_size_at_axis_um": "ImageInfo/PixelSize",
    "camera_pixel_size_um": "ImageInfo/CamPixelSize",
    "voltage_kv": "ImageInfo/Voltage",
    "current_ua": "ImageInfo/Current",
    "source_power_w": "AcquisitionSettings/SrcPower",
    "optical_magnification": "ImageInfo/OpticalMagnification",
}
TEXTS = {
    "source_filter": "ImageInfo/SourceFilterName",
    "objective": "ImageInfo/ObjectiveName",
    "camera": "ImageInfo/CameraName",
    "reference_file": "ImageInfo/ReferenceFile",
    "sample": "SampleInfo/SampleID",
    "acquisition_software": "exeVersion",
}
COUNTS = {"horizontal_binning": "ImageInfo/HorizontalBin", "frames_averaged": "ImageInfo/NoOfImagesAveraged"}
UNUSED = {"CameraOffset": "ImageInfo/CameraOffset", "CameraFineRotation": "ImageInfo/CameraFineRotation"}
SHIFT_SOURCES = ("Encoder", "Metrology", "Reference", "Stage")
EV_PER_KEV = 1000.0


def read_metadata(box: Container, views: np.ndarray, notes: list[Note]) -> dict[str, Any]:
    """Values by name, the unit in the name; what is missing or zero is left out."""
    found: dict[str, Any] = {}
    for name, stream in POSITIVE.items():
        value = box.number(stream)
        if value is not None and value > 0:
            found[name] = value
    found |= {name: value for name, stream in TEXTS.items() if (value := box.text(stream))}
    found |= {name: value for name, stream in COUNTS.items() if (value := box.integer(stream))}
    found |= _energy(box, views, notes) | _dates(box, views) | _motors(box)
    applied = [source for source in SHIFT_SOURCES if box.integer(f"Alignment/{source}ShiftsApplied")]
    if applied:
        found["shifts_contain"] = ", ".join(applied)
    for stream in ("ReconSettings/CenterShift", "AutoRecon/CenterShift"):
        shift = box.number(stream)
        if shift:
            found["centre_shift_px"] = shift
            notes.append(Note("info", f"centre: {stream} says {shift:g} px; align finds it from the scan itself"))
            break
    for name, stream in UNUSED.items():
        value = box.number(stream)
        if value:
            notes.append(Note("info", f"{name}: {value:g} in the file, of unknown unit; not used, align finds it"))
    return found


def _energy(box: Container, views: np.ndarray, notes: list[Note]) -> dict[str, float]:
    """The first recorded photon energy; nano-XRMs record eV."""
    values = box.floats("ImageInfo/Energy")
    if values is None or not (np.isfinite(values) & (values > 0)).any():
        return {}
    first = float(values[np.isfinite(values) & (values > 0)][0])
    if values.size not in (1, views.size):
        notes.append(Note("info", f"Energy: {values.size} values for {views.size} views; the first is used"))
    if first < EV_PER_KEV:
        notes.append(Note("info", f"Energy: {first:g} in the file, of unknown unit (too small for eV); not used"))
        return {}
    return {"energy_kev": first / EV_PER_KEV}


def _dates(box: Container, views: np.ndarray) -> dict[str, str]:
    """When the first and last used frames were taken, local time of the instrument."""
    texts = box.texts("ImageInfo/Date", DATE_WIDTH)
    times = [_parse_date(texts[int(k)]) for k in (views[0], views[-1]) if k < len(texts)]
    names = ("first_frame_taken", "last_frame_taken")
    return {name: time for name, time in zip(names, times, strict=False) if time}


def _parse_date(text: str) -> str | None:
    for form in DATE_FORMATS:
        try:
            return datetime.strptime(text, form).isoformat()  # the file states no time zone
        except ValueError:
            continue
    return None


def _motors(box: Container) -> dict[str, dict[str, float]]:
    """Motor positions at the first view by name and unit."""
    names = box.texts("PositionInfo/AxisNames", AXIS_NAME_WIDTH)
    units = box.texts("PositionInfo/AxisUnits", AXIS_UNIT_WIDTH)
    values = box.floats("PositionInfo/MotorPositions")
    if values is None or not names:
        return {}
    labels = [f"{name} [{unit}]" if unit else name for name, unit in zip(names, units, strict=False)]
    positions = {
        label: round(float(v), 6) for label, v in zip(labels, values, strict=False) if label and np.isfinite(v)
    }
    return {"motors": positions} if positions else {}
