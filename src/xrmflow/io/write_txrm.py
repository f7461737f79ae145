"""Write a scan as a `.txrm` file, as an X-ray microscope would: for simulated scans and for tests.

The streams, their types and their units are those of real files as far as these are known (`xrmflow.io.read_txrm`).
"""

import struct
from pathlib import Path

import numpy as np

from xrmflow.arrays import Reader
from xrmflow.geometry.acquisition import Beam
from xrmflow.io.cfb import LazyStream, Streams, write_cfb

DATA_TYPES = {"uint16": 5, "float32": 10}
IMAGES_PER_STORAGE = 100
BLOCK = 16
RECORDED_DATE = "01/01/2024 12:00:00.000"


def write_txrm(
    path: Path | str,
    *,
    projections: Reader,
    angles_deg: np.ndarray,
    reference: np.ndarray | None = None,
    pixel_size_um: float,
    source_to_axis_mm: float,
    detector_to_axis_mm: float,
    shifts_px: np.ndarray | None = None,
    beam: Beam = "cone",
    exposure_s: float = 1.0,
    reference_exposure_s: float | None = None,
    voltage_kv: float = 80.0,
    current_ua: float = 88.0,
    source_filter: str = "Air",
    objective: str = "4X",
) -> None:
    """Write a `.txrm` file; frames are read and written a few at a time.

    Args:
        path: the file to write; it appears only when complete.
        projections: (view, row, col) uint16 or float32, row 0 the lowest.
        angles_deg: (view,) degrees.
        reference: open-beam frame(s), (row, col) or (n, row, col), or None for a file without one.
        pixel_size_um: pixel size AT THE ROTATION AXIS, i.e. the voxel size, micrometres.
        source_to_axis_mm: mm, positive (stored with a minus, as the microscopes do).
        detector_to_axis_mm: mm, positive.
        shifts_px: (view, 2) pixels along (columns, rows) to be ADDED to each projection to undo its displacement.
        beam: stored as the kind of geometry.
        exposure_s: seconds a projection.
        reference_exposure_s: seconds a reference frame; as the projections when None.
        voltage_kv: of the source, kV.
        current_ua: of the source, microampere.
        source_filter: its name.
        objective: its name.

    Raises:
        ValueError: for shapes that do not agree or a data type the format does not know.
    """
    streams = txrm_streams(
        projections=projections,
        angles_deg=angles_deg,
        pixel_size_um=pixel_size_um,
        source_to_axis_mm=source_to_axis_mm,
        detector_to_axis_mm=detector_to_axis_mm,
        beam=beam,
        exposure_s=exposure_s,
    )
    streams |= {
        "ImageInfo/Voltage": _f4(voltage_kv),
        "ImageInfo/Current": _f4(current_ua),
        "ImageInfo/SourceFilterName": _text(source_filter, 260),
        "ImageInfo/ObjectiveName": _text(objective, 260),
    }
    if shifts_px is not None:
        streams |= _shifts(shifts_px, projections.shape[0])
    if reference is not None:
        seconds = exposure_s if reference_exposure_s is None else reference_exposure_s
        streams |= _references(np.asarray(reference), projections.shape[1:], seconds)
    write_cfb(Path(path), streams)


def txrm_streams(
    *,
    projections: Reader,
    angles_deg: np.ndarray,
    pixel_size_um: float,
    source_to_axis_mm: float,
    detector_to_axis_mm: float,
    beam: Beam = "cone",
    exposure_s: float = 1.0,
) -> dict[str, bytes | LazyStream]:
    """The streams every file has: frames, sizes, angles, distances (arguments as in `write_txrm`)."""
    views, rows, cols = projections.shape
    angles_deg = np.asarray(angles_deg, dtype=float)
    if angles_deg.shape != (views,):
        raise ValueError(f"angles_deg: expected shape ({views},), one angle a view, got {angles_deg.shape}")
    streams: dict[str, bytes | LazyStream] = {
        "Version": _f4(5.0),
        "exeVersion": _text("xrmflow", 64),
        "ImageInfo/AcquisitionMode": _i4(0),
        "ImageInfo/ImageWidth": _i4(cols),
        "ImageInfo/ImageHeight": _i4(rows),
        "ImageInfo/NoOfImages": _i4(views),
        "ImageInfo/ImagesTaken": _i4(views),
        "ImageInfo/DataType": _i4(_data_type(projections)),
        "ImageInfo/Angles": _f4s(angles_deg),
        "ImageInfo/StoRADistance": _f4s(np.full(views, -abs(source_to_axis_mm))),
        "ImageInfo/DtoRADistance": _f4s(np.full(views, abs(detector_to_axis_mm))),
        "ImageInfo/PixelSize": _f4(pixel_size_um),
        "ImageInfo/XrayGeometry": _i4(1 if beam == "cone" else 2),
        "ImageInfo/ExpTimes": _f4s(np.full(views, exposure_s)),
        "ImageInfo/OriginalDataRefCorrected": _i4(0),
        "ImageInfo/Temperature": _f4(99999.0),
        "ImageInfo/Date": _text(RECORDED_DATE, 40) * views,
        "PositionInfo/TotalAxis": _i4(1),
        "PositionInfo/AxisNames": _text("Sample Theta", 25),
        "PositionInfo/AxisUnits": _text("deg", 15),
        "PositionInfo/MotorPositions": _f4s(angles_deg),
        "PositionInfo/NoOfImages": _i4(views),
    }
    return streams | image_streams(projections)


def image_streams(frames: Reader) -> dict[str, LazyStream]:
    """`ImageData{n}/Image{k}`, a hundred a storage, made block by block."""
    views, rows, cols = frames.shape
    size = rows * cols * np.dtype(frames.dtype).itemsize
    source = _Blocks(frames)
    names = [f"ImageData{k // IMAGES_PER_STORAGE + 1}/Image{k + 1}" for k in range(views)]
    return {name: LazyStream(size, lambda k=k: source.frame(k)) for k, name in enumerate(names)}


class _Blocks:
    """Reads frames a block at a time, as a chunked store wants to be read, and hands them out singly."""

    def __init__(self, frames: Reader) -> None:
        self._frames, self._start, self._block = frames, -1, np.empty(0)

    def frame(self, k: int) -> bytes:
        start = k - k % BLOCK
        if start != self._start:
            self._start, self._block = start, np.asarray(self._frames[start : start + BLOCK])
        little_endian = self._block.dtype.newbyteorder("<")
        return np.ascontiguousarray(self._block[k - start], dtype=little_endian).tobytes()


def _shifts(shifts_px: np.ndarray, views: int) -> Streams:
    shifts_px = np.asarray(shifts_px, dtype=float)
    if shifts_px.shape != (views, 2):
        raise ValueError(f"shifts_px: expected shape ({views}, 2), (x, y) a view, got {shifts_px.shape}")
    return {"Alignment/X-Shifts": _f4s(shifts_px[:, 0]), "Alignment/Y-Shifts": _f4s(shifts_px[:, 1])}


def _references(reference: np.ndarray, shape: tuple[int, ...], exposure_s: float) -> dict[str, bytes]:
    """One reference as `ReferenceData/Image`, several as `MultiReferenceData/Image{i}`."""
    if reference.shape[-2:] != tuple(shape) or reference.ndim not in (2, 3):
        raise ValueError(f"reference: expected (row, col) = {tuple(shape)} or (n, row, col), got {reference.shape}")
    group = "ReferenceData" if reference.ndim == 2 else "MultiReferenceData"
    names = ["Image"] if reference.ndim == 2 else [f"Image{i}" for i in range(1, len(reference) + 1)]
    frames = reference.reshape(-1, *shape).astype(reference.dtype.newbyteorder("<"))
    images = {f"{group}/{name}": frame.tobytes() for name, frame in zip(names, frames, strict=True)}
    return images | {
        f"{group}/DataType": _i4(_data_type(reference)),
        f"{group}/ExpTime": _f4(exposure_s),
        f"{group}/ImageInfo/NoOfImages": _i4(len(frames)),
        f"{group}/ImageInfo/ImageHeight": _i4(shape[0]),
        f"{group}/ImageInfo/ImageWidth": _i4(shape[1]),
        f"{group}/ImageInfo/ExpTimes": _f4s(np.full(len(frames), exposure_s)),
    }


def _data_type(frames: Reader) -> int:
    name = np.dtype(frames.dtype).name
    if name not in DATA_TYPES:
        raise ValueError(f"projections, reference: expected dtype {' or '.join(DATA_TYPES)}, got {name}")
    return DATA_TYPES[name]


def _i4(value: int) -> bytes:
    return struct.pack("<i", value)


def _f4(value: float) -> bytes:
    return struct.pack("<f", value)


def _f4s(values: np.ndarray) -> bytes:
    return np.asarray(values, dtype="<f4").tobytes()


def _text(value: str, size: int) -> bytes:
    return value.encode("cp1252", "replace")[: size - 1].ljust(size, b"\0")
