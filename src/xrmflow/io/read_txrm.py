"""Read `.txrm` and `.xrm` files (Zeiss/Xradia X-ray microscopes): a compound file of named binary streams.

What is known about the streams comes from real files of a nano-XRM and from what the open readers of others agree on;
no real cone-beam file was at hand. Little-endian throughout; names are case-insensitive; streams carry no type.
N = NoOfImages.

================================  ==============  =====================================================================
stream                            type            meaning
================================  ==============  =====================================================================
ImageInfo/ImageWidth, Height      int32           columns, rows
ImageInfo/NoOfImages              int32           images declared; ImagesTaken: really written (fewer when aborted)
ImageInfo/DataType                int32           5 uint16, 10 float32 (see `DATA_TYPES`)
ImageData{n}/Image{k}             DataType        frame k = 1 …, n = ceil(k / 100); row 0 is the lowest as displayed
ImageInfo/Angles                  float32[N]      degrees
ImageInfo/StoRADistance           float32[N]      source to rotation axis, mm, NEGATIVE on some systems
ImageInfo/DtoRADistance           float32[N]      detector to rotation axis, mm
ImageInfo/PixelSize               float32         micrometres AT THE AXIS; times the magnification = detector pitch
ImageInfo/XrayGeometry            int32           1 cone, anything else parallel
Alignment/X-Shifts, Y-Shifts      float32[N]      pixels to be ADDED to the projection
ReferenceData/Image               its DataType    open-beam frame; MultiReferenceData/Image{i}: several
ImageInfo/OriginalDataRefCorrected int32          1: frames are already divided by the reference
================================  ==============  =====================================================================

Arrays may be longer than N (61 energies for 7 images were seen) or shorter (aborted scans).
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from xrmflow.arrays import Already, Reader
from xrmflow.errors import RawFileError
from xrmflow.geometry.acquisition import Beam
from xrmflow.io.ole import Container
from xrmflow.io.raw_scan import Frames, Note, RawScan
from xrmflow.io.txrm_metadata import read_metadata

DATA_TYPES = {
    2: "<i1",
    3: "<u1",
    4: "<i2",
    5: "<u2",
    6: "<i4",
    7: "<u4",
    8: "<i8",
    9: "<u8",
    10: "<f4",
    11: "<f8",
}
RECONSTRUCTED = 10
MAX_PIXELS = 1 << 16
IMAGE_NAME = re.compile(r"imagedata(\d+)/image(\d+)")
REFERENCE_NAME = re.compile(r"multireferencedata/image(\d+)")
UM_PER_MM = 1000.0


def read_txrm(path: Path, *, reference_file: Path | None = None) -> RawScan:
    """Open a `.txrm` or `.xrm` file; frames are read when asked for.

    Args:
        path: the file.
        reference_file: a separate `.xrm` whose images are the flats, in place of the file's own reference.

    Raises:
        RawFileError: not a scan, truncated, damaged, or without a single complete frame.
    """
    box = Container(path)
    try:
        return _read(box, reference_file)
    except BaseException:
        box.close()
        raise


def _read(box: Container, reference_file: Path | None) -> RawScan:
    notes: list[Note] = []
    _check_kind(box, notes)
    shape, dtype = frame_shape(box), data_type(box, "ImageInfo/DataType")
    images, angles = _images_and_angles(box, shape, dtype, notes)
    views = np.asarray([k - 1 for k in images])
    beam = _beam(box, notes)
    near, far = _distances(box, views, beam, notes)
    metadata = read_metadata(box, views, notes)
    pixel_mm = _pixel_mm(metadata, near, far, notes)
    shifts, exposure_s = _shifts(box, views, notes), _exposure_s(box, views, notes)
    flats, flat_exposure_s, files = _flats(box, shape, dtype, reference_file, notes)
    notes.append(Note("missing", "darks: the format has none; frames are taken as dark-subtracted by the instrument"))
    already = _already(box, dtype, notes)
    return RawScan(
        format="txrm",
        source=box.path,
        files=(box.path, *files),
        projections=frames_of(box, [image_name(k) for k in images], shape, dtype),
        flats=flats,
        angles_deg=angles,
        beam=beam,
        pixel_mm=pixel_mm,
        source_to_axis_mm=near,
        source_to_detector_mm=far,
        shifts_to_add_px=shifts,
        exposure_s=exposure_s,
        flat_exposure_s=flat_exposure_s,
        row_order="bottom_up",
        already=already,
        metadata=metadata,
        notes=tuple(notes),
        close=box.close,
    )


def _check_kind(box: Container, notes: list[Note]) -> None:
    """Refuse compound files that are not scans, and reconstructed volumes."""
    if not any(name.startswith("imageinfo/") for name in box.names):
        raise RawFileError(f"{box.path}: a compound (OLE2) file, but not an X-ray microscope scan (no ImageInfo)")
    if box.integer("ImageInfo/AcquisitionMode") == RECONSTRUCTED:
        raise RawFileError(
            f"{box.path}: a reconstructed volume (.txm), not a raw scan; give the .txrm it was made from, "
            "or call it .txm: a row of scans.tsv may be a volume (see also `xrmflow load`)"
        )
    version = box.number("Version")
    if version not in (None, 3.0, 5.0):
        notes.append(Note("warning", f"Version: expected 3 or 5, got {version:g}; streams may mean something else"))


def frame_shape(box: Container) -> tuple[int, int]:
    """(rows, cols) of an image.

    Raises:
        RawFileError: not recorded, or no size that can be.
    """
    sizes = []
    for name in ("ImageHeight", "ImageWidth"):
        size = box.integer(f"ImageInfo/{name}")
        if size is None or not 0 < size <= MAX_PIXELS:
            got = "nothing" if size is None else size
            raise RawFileError(f"{box.path}: ImageInfo/{name}: expected 1 to {MAX_PIXELS} pixels, got {got}")
        sizes.append(size)
    return sizes[0], sizes[1]


def data_type(box: Container, name: str) -> np.dtype:
    """Of the pixels, as a stream says.

    Raises:
        RawFileError: the stream is missing or says something else.
    """
    code = box.integer(name)
    if code not in DATA_TYPES:
        got = "nothing" if code is None else code
        raise RawFileError(
            f"{box.path}: {name}: expected one of the numbers {', '.join(map(str, DATA_TYPES))}, got {got}"
        )
    return np.dtype(DATA_TYPES[code])


def _images_and_angles(
    box: Container, shape: tuple[int, int], dtype: np.dtype, notes: list[Note]
) -> tuple[list[int], np.ndarray | None]:
    """Numbers (from 1) of the images that can be used, and their angles."""
    stored = stored_images(box)
    declared, taken = box.integer("ImageInfo/NoOfImages"), box.integer("ImageInfo/ImagesTaken")
    limits = [n for n in (declared, taken) if n is not None and 0 < n <= max(stored, default=0)]
    images = [k for k in stored if k <= min(limits, default=max(stored, default=0))]
    complete = [k for k in images if box.size(image_name(k)) == shape[0] * shape[1] * dtype.itemsize]
    if not complete:
        _refuse_images(box, images, shape, dtype)
    _note_counts(declared, taken, stored, complete, notes)
    angles = box.floats("ImageInfo/Angles")
    if angles is None:
        notes.append(Note("missing", "angles: no ImageInfo/Angles in the file"))
        return complete, None
    usable = [k for k in complete if k <= angles.size]
    if len(usable) < len(complete):
        notes.append(
            Note("warning", f"angles: {angles.size} for {len(complete)} images; images without an angle are left out")
        )
    elif angles.size > max(complete) and angles.size not in (declared, taken):
        notes.append(Note("info", f"angles: {angles.size} values for {len(complete)} images; the first ones are used"))
    return usable, angles[[k - 1 for k in usable]]


def stored_images(box: Container) -> list[int]:
    """Numbers (from 1) of the images that have a stream."""
    found = (IMAGE_NAME.fullmatch(name) for name in box.names)
    numbers = ((int(match[1]), int(match[2])) for match in found if match)
    return sorted(k for folder, k in numbers if k > 0 and folder == (k - 1) // 100 + 1)


def image_name(k: int) -> str:
    """Stream of image k, from 1."""
    return f"ImageData{(k - 1) // 100 + 1}/Image{k}"


def _refuse_images(box: Container, images: list[int], shape: tuple[int, int], dtype: np.dtype) -> None:
    if not images:
        raise RawFileError(f"{box.path}: no images in the file (no ImageData1/Image1); was the scan started?")
    rows, cols = shape
    expected, first = rows * cols * dtype.itemsize, image_name(images[0])
    raise RawFileError(
        f"{box.path}: {first}: expected {rows} x {cols} {dtype.name} = {expected} bytes, got {box.size(first)}; "
        "mosaics and damaged files cannot be read"
    )


def _note_counts(
    declared: int | None, taken: int | None, stored: list[int], used: list[int], notes: list[Note]
) -> None:
    if declared is None:
        notes.append(Note("missing", f"NoOfImages: not in the file; {len(used)} images were found and are used"))
    elif declared > len(used):
        notes.append(Note("warning", f"aborted scan: {declared} images declared, {len(used)} complete ones are used"))
    elif declared < 1 or declared < len(stored):
        notes.append(Note("warning", f"NoOfImages says {declared}, the file holds {len(stored)}; {len(used)} are used"))
    if taken is not None and declared is not None and not 0 < taken <= declared:
        notes.append(Note("warning", f"ImagesTaken says {taken} of {declared}; {len(used)} are used"))
    gaps = sorted(set(range(1, max(used) + 1)) - set(used))
    if gaps:
        notes.append(Note("warning", f"images: {_list(gaps)} missing or incomplete; their views are left out"))


def _list(numbers: list[int]) -> str:
    shown = ", ".join(f"Image{k}" for k in numbers[:3])
    return f"{shown} and {len(numbers) - 3} more" if len(numbers) > 3 else shown


def frames_of(box: Container, names: list[str], shape: tuple[int, int], dtype: np.dtype) -> Frames:
    """Images by the names of their streams, read when asked for."""

    def fetch(i: int) -> np.ndarray:
        data = box.read(names[i]) or b""
        if len(data) != shape[0] * shape[1] * dtype.itemsize:
            raise RawFileError(f"{box.path}: {names[i]} cannot be read in full; copy the file again from its source")
        return np.frombuffer(data, dtype).reshape(shape)

    return Frames(fetch, (len(names), *shape), dtype.newbyteorder("="))


def _beam(box: Container, notes: list[Note]) -> Beam | None:
    geometry = box.integer("ImageInfo/XrayGeometry")
    if geometry is None:
        notes.append(Note("missing", "XrayGeometry: not in the file"))
        return None
    if geometry == 1:
        return "cone"
    notes.append(Note("info", f"XrayGeometry is {geometry}, not 1 (cone): parallel beam"))
    return "parallel"


def _distances(
    box: Container, views: np.ndarray, beam: Beam | None, notes: list[Note]
) -> tuple[float | None, float | None]:
    """Source to axis and source to detector, mm."""
    if beam == "parallel":
        return None, None
    near, away = (_constant(box, f"ImageInfo/{name}", views, notes) for name in ("StoRADistance", "DtoRADistance"))
    if away is not None and away <= 0:
        notes.append(Note("warning", f"DtoRADistance: expected a positive length in mm, got {away:g}"))
    near = None if near is None else abs(near)
    return near, None if near is None or away is None else near + away


def _constant(box: Container, name: str, views: np.ndarray, notes: list[Note]) -> float | None:
    """The median over the views of a value that should not change."""
    values = box.floats(name)
    if values is None:
        notes.append(Note("missing", f"{name.split('/')[1]}: not in the file"))
        return None
    values = values[views[views < values.size]] if values.size > 1 else values
    finite = values[np.isfinite(values)]
    if not finite.size:
        notes.append(Note("warning", f"{name.split('/')[1]}: expected a finite length in mm, got {values[:1]}"))
        return None
    middle = float(np.median(finite))
    if np.ptp(finite) > 1e-3 * abs(middle):
        span = f"{finite.min():g} to {finite.max():g} mm"
        notes.append(Note("warning", f"{name.split('/')[1]}: changes during the scan, {span}; the median is used"))
    return middle


def _pixel_mm(metadata: dict[str, Any], near: float | None, far: float | None, notes: list[Note]) -> float | None:
    """Pitch in the detector plane from the recorded size at the axis."""
    at_axis_um = metadata.get("pixel_size_at_axis_um")
    if at_axis_um is None:
        notes.append(Note("missing", "PixelSize: not in the file, or not a positive number"))
        return None
    return at_axis_um / UM_PER_MM * (far / near if near and far else 1.0)


def _shifts(box: Container, views: np.ndarray, notes: list[Note]) -> np.ndarray | None:
    """(view, 2) as recorded; views without a finite value get zero, and a note says so."""
    recorded = [box.floats(f"Alignment/{axis}-Shifts") for axis in "XY"]
    if all(values is None for values in recorded):
        notes.append(Note("missing", "shifts: no Alignment/X-Shifts, Y-Shifts in the file; taken as zero"))
        return None
    shifts = np.zeros((views.size, 2))
    for column, (axis, values) in enumerate(zip("XY", recorded, strict=True)):
        if values is None:
            notes.append(Note("missing", f"shifts: no Alignment/{axis}-Shifts in the file; taken as zero"))
            continue
        known = views < values.size
        shifts[known, column] = values[views[known]]
        lacking = np.count_nonzero(~known) + np.count_nonzero(~np.isfinite(shifts[:, column]))
        if lacking:
            notes.append(
                Note("warning", f"shifts: {axis}-Shifts lacks {lacking} of {views.size} views; taken as zero there")
            )
    return np.where(np.isfinite(shifts), shifts, 0.0)


def _exposure_s(box: Container, views: np.ndarray, notes: list[Note]) -> np.ndarray | None:
    seconds = box.floats("ImageInfo/ExpTimes")
    if seconds is None:
        seconds = box.floats("ImageInfo/ExpTime")
    if seconds is None or not (np.isfinite(seconds[0]) and seconds[0] > 0):
        notes.append(Note("missing", "exposure: no ExpTimes in the file"))
        return None
    seconds = seconds[views] if seconds.size > views.max() else seconds[:1]
    if np.ptp(seconds) > 1e-3 * seconds[0]:
        text = f"exposure: changes during the scan, {seconds.min():g} to {seconds.max():g} s"
        notes.append(Note("warning", text))
    return seconds


def _already(box: Container, dtype: np.dtype, notes: list[Note]) -> Already:
    if box.integer("ImageInfo/OriginalDataRefCorrected") != 1:
        return "counts"
    notes.append(Note("info", "OriginalDataRefCorrected is 1: frames are already divided by the reference"))
    if dtype.kind in "iu":
        notes.append(
            Note("assumption", f"corrected frames are {dtype.name}: ingest.transmission_scale says what 1 stands for")
        )
    return "transmission"


def _flats(
    box: Container, shape: tuple[int, int], dtype: np.dtype, reference_file: Path | None, notes: list[Note]
) -> tuple[Reader | None, float | None, tuple[Path, ...]]:
    """Flats, their exposure, and the files they came from beside the scan."""
    if reference_file is not None:
        return _external_flats(reference_file, shape, notes)
    numbers = sorted(int(m[1]) for m in map(REFERENCE_NAME.fullmatch, box.names) if m)
    names = [f"MultiReferenceData/Image{i}" for i in numbers] or ["ReferenceData/Image"]
    group = names[0].split("/")[0]
    sizes = {box.size(name) for name in names}
    if sizes == {None}:
        notes.append(Note("missing", _no_reference(box)))
        return None, None, ()
    of_reference = DATA_TYPES.get(box.integer(f"{group}/DataType") or -1)
    kinds = [np.dtype(kind) for kind in (of_reference, dtype, "<f4", "<u2") if kind is not None]
    fitting = [kind for kind in kinds if sizes == {shape[0] * shape[1] * kind.itemsize}]
    if not fitting:
        what = f"{names[0]} holds {box.size(names[0])} bytes, which is no frame of {shape[0]} x {shape[1]}"
        notes.append(Note("warning", f"reference: {what}; left out"))
        return None, None, ()
    if of_reference is None:
        notes.append(Note("missing", f"reference: no DataType in the file; taken as {fitting[0].name} from its size"))
    if len(names) > 1:
        notes.append(Note("info", f"reference: {len(names)} frames in MultiReferenceData"))
    return frames_of(box, names, shape, fitting[0]), _reference_exposure_s(box, group), ()


def _no_reference(box: Container) -> str:
    named = box.text("ImageInfo/ReferenceFile")
    where = f" (it names {named})" if named else ""
    return f"reference: no open-beam frame in the file{where}; set ingest.reference_file to a separate .xrm"


def _reference_exposure_s(box: Container, group: str) -> float | None:
    for name in ("ExpTime", "ImageInfo/ExpTimes", "ImageInfo/ExpTime"):
        seconds = box.number(f"{group}/{name}")
        if seconds is not None and seconds > 0:
            return seconds
    return None


def _external_flats(
    path: Path, shape: tuple[int, int], notes: list[Note]
) -> tuple[Reader, float | None, tuple[Path, ...]]:
    if not path.is_file():
        raise RawFileError(f"ingest.reference_file: no such file {path}")
    reference = read_txrm(path)
    if reference.projections.shape[1:] != shape:
        reference.close()
        rows, cols = reference.projections.shape[1:]
        raise RawFileError(
            f"ingest.reference_file: {path}: expected frames of {shape[0]} x {shape[1]} pixels, got {rows} x {cols}"
        )
    notes.append(Note("info", f"reference: {reference.views} frame(s) of {path.name} (ingest.reference_file)"))
    seconds = None if reference.exposure_s is None else float(np.median(reference.exposure_s))
    return reference.projections, seconds, (path,)
