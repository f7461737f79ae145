"""Read Data Exchange HDF5 (synchrotron tomography): `/exchange/data`, `data_white`, `data_dark`, `theta`.

Sizes, distances and energies are often absent, or lie in places that differ from site to site; those looked up are
listed in `SIZES_AT_SAMPLE`, `PITCHES` and below. Where our own writer puts what the format has no place for is said in
`xrmflow.io.write_dataexchange`.
Reference: De Carlo et al., J. Synchrotron Rad. 21, 1224 (2014).
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from xrmflow.arrays import Reader
from xrmflow.errors import RawFileError
from xrmflow.io.hdf5 import (
    DEG_PER,
    KEV_PER,
    MM_PER,
    S_PER,
    DatasetFrames,
    check_frames,
    dataset,
    factor,
    faults_in_words,
    open_hdf5,
    quantity,
    text,
    virtual_files,
)
from xrmflow.io.raw_scan import Note, RawScan, RowOrder

UM_PER_MM = 1000.0
INSTRUMENT = "measurement/instrument"
GEOMETRY = f"{INSTRUMENT}/geometry"
# The first that is found counts: the size at the sample, behind an objective, then the detector's pitch.
SIZES_AT_SAMPLE = (f"{INSTRUMENT}/detection_system/objective/resolution", f"{INSTRUMENT}/objective/resolution")
PITCHES = (
    f"{INSTRUMENT}/detector/pixel_size_x",
    f"{INSTRUMENT}/detector/actual_pixel_size_x",
)
SECONDS = (f"{INSTRUMENT}/detector/exposure_time", f"{INSTRUMENT}/camera_motor_stack/setup/camera_exposure")


def read_dataexchange(path: Path) -> RawScan:
    """Open a Data Exchange file; frames are read when asked for.

    Raises:
        RawFileError: truncated, damaged, or without `/exchange/data` of shape (theta, y, x).
    """
    file = open_hdf5(path)
    try:
        with faults_in_words(path):
            return _read(path, file)
    except BaseException:
        file.close()
        raise


def _read(path: Path, file: h5py.File) -> RawScan:
    notes: list[Note] = []
    data = dataset(file, "exchange/data")
    if data is None:
        raise RawFileError(f"{path}: no /exchange/data in this Data Exchange file")
    check_frames(data, path)
    _check_axes(path, data)
    angles = _angles(file, data.shape[0], notes)
    views = data.shape[0] if angles is None else angles.size
    flats = _references(path, file, data, ("data_white", "white"), "flats", notes)
    darks = _references(path, file, data, ("data_dark", "dark"), "darks", notes)
    near = quantity(file, f"{GEOMETRY}/source_to_axis_distance", MM_PER, "mm", notes)
    far = quantity(file, f"{GEOMETRY}/source_to_detector_distance", MM_PER, "mm", notes)
    at_axis_mm = _first_size_mm(file, SIZES_AT_SAMPLE, notes)
    if at_axis_mm is None:
        pixel_mm, at_axis = _first_size_mm(file, PITCHES, notes), {}
    else:
        pixel_mm = at_axis_mm * (far / near if near and far else 1.0)
        at_axis = {"pixel_size_at_axis_um": at_axis_mm * UM_PER_MM}
    return RawScan(
        format="data_exchange",
        source=path,
        files=(path, *virtual_files(data)),
        projections=DatasetFrames(data, path, views),
        flats=flats,
        darks=darks,
        angles_deg=angles,
        beam="cone" if near is not None and far is not None else None,
        pixel_mm=pixel_mm,
        source_to_axis_mm=near,
        source_to_detector_mm=far,
        shifts_to_add_px=_shifts(file, views, notes),
        exposure_s=next((s for s in (quantity(file, name, S_PER, "s", notes) for name in SECONDS) if s), None),
        row_order=_row_order(data, notes),
        metadata=_metadata(file, notes) | at_axis,
        notes=tuple(notes),
        close=file.close,
    )


def _check_axes(path: Path, data: h5py.Dataset) -> None:
    axes = text(data.attrs.get("axes", "theta:y:x"))
    if axes.replace(" ", "") not in ("theta:y:x", "angle:y:x"):
        raise RawFileError(f"{path}: /exchange/data: expected axes theta:y:x, got {axes}; reorder the array")


def _angles(file: h5py.File, views: int, notes: list[Note]) -> np.ndarray | None:
    theta = dataset(file, "exchange/theta")
    if theta is None or not theta.size or theta.dtype.kind not in "iuf":
        notes.append(Note("missing", "angles: no /exchange/theta in the file"))
        return None
    if "units" not in theta.attrs:
        notes.append(Note("assumption", "angles: theta states no unit; taken as degrees"))
    angles = np.asarray(theta[()], dtype=float).ravel()
    angles = angles * (factor(theta, DEG_PER, "degrees", notes) if "units" in theta.attrs else 1.0)
    if angles.size != views:
        used = min(angles.size, views)
        notes.append(Note("warning", f"angles: {angles.size} for {views} projections; the first {used} are used"))
        angles = angles[:used]
    return angles


def _references(
    path: Path, file: h5py.File, data: h5py.Dataset, names: tuple[str, ...], what: str, notes: list[Note]
) -> Reader | None:
    found = next((d for d in (dataset(file, f"exchange/{name}") for name in names) if d is not None), None)
    if found is None or 0 in found.shape:
        notes.append(Note("missing", f"{what}: no /exchange/{names[0]} in the file"))
        return None
    check_frames(found, path)
    if found.shape[1:] != data.shape[1:]:
        text_ = f"{what}: frames of {found.shape[1:]} pixels, projections of {data.shape[1:]}; left out"
        notes.append(Note("warning", text_))
        return None
    return DatasetFrames(found, path)


def _first_size_mm(file: h5py.File, names: tuple[str, ...], notes: list[Note]) -> float | None:
    for name in names:
        size = quantity(file, name, MM_PER, "um", notes)
        if size is not None and size > 0:
            notes.append(Note("info", f"pixel size: {size * UM_PER_MM:g} um from /{name}"))
            return size
    return None


def _shifts(file: h5py.File, views: int, notes: list[Note]) -> np.ndarray | None:
    found = dataset(file, f"{GEOMETRY}/shifts_to_add")
    if found is None:
        return None
    if found.ndim != 2 or found.shape[1] != 2 or found.shape[0] < views:
        notes.append(Note("warning", f"shifts: expected shape ({views}, 2), got {found.shape}; not used"))
        return None
    return np.asarray(found[:views], dtype=float)


def _row_order(data: h5py.Dataset, notes: list[Note]) -> RowOrder:
    stated = text(data.attrs.get("row_order", ""))
    if stated == "bottom_up":
        notes.append(Note("info", "rows: /exchange/data states row_order bottom_up"))
        return "bottom_up"
    return "top_down"


def _metadata(file: h5py.File, notes: list[Note]) -> dict[str, Any]:
    energy = quantity(file, f"{INSTRUMENT}/monochromator/energy", KEV_PER, "keV", notes)
    numbers = {
        "energy_kev": energy,
        "voltage_kv": _plain(file, f"{INSTRUMENT}/source/voltage"),
        "current_ua": _plain(file, f"{INSTRUMENT}/source/current") if energy is None else None,
    }
    names = {"sample": "measurement/sample/name", "instrument": f"{INSTRUMENT}/name", "title": "exchange/title"}
    texts = {key: _text(file, name) for key, name in names.items()}
    if energy is None:
        notes.append(Note("missing", "energy: no monochromator/energy in the file"))
    return {key: value for key, value in (numbers | texts).items() if value}


def _plain(file: h5py.File, name: str) -> float | None:
    found = dataset(file, name)
    return float(found[()]) if found is not None and found.size == 1 and found.dtype.kind in "iuf" else None


def _text(file: h5py.File, name: str) -> str | None:
    found = dataset(file, name)
    return text(found[()]) if found is not None and found.size == 1 and found.dtype.kind in "OSU" else None
