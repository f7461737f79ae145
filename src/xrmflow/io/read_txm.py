"""Read `.txm` files (Zeiss/Xradia): reconstructed slices in the container and with the names of `.txrm` images.

Grey values of a `.txm` have no fixed unit: the reconstruction scales them, and how is not recorded in a way that is
known. So slope and intercept to attenuation are asked for (from a phantom, or a region of known attenuation). No real
`.txm` was at hand: this is what `.txrm` files and the open readers of others say.
"""

from pathlib import Path

import numpy as np

from xrmflow.errors import RawFileError
from xrmflow.io.ole import Container
from xrmflow.io.raw_scan import Note
from xrmflow.io.raw_volume import RawVolume
from xrmflow.io.read_txrm import RECONSTRUCTED, data_type, frame_shape, frames_of, image_name, stored_images
from xrmflow.io.txrm_metadata import read_metadata

UM_PER_MM = 1000.0


def read_txm(path: Path, *, slope: float, intercept: float = 0.0) -> RawVolume:
    """Open a `.txm` file; slices are read when asked for.

    Args:
        path: the file.
        slope, intercept: attenuation per mm = slope * grey + intercept.

    Raises:
        RawFileError: not a reconstructed volume, slices missing, no voxel size, truncated or damaged.
    """
    box = Container(path)
    try:
        return _read(box, slope, intercept)
    except BaseException:
        box.close()
        raise


def _read(box: Container, slope: float, intercept: float) -> RawVolume:
    mode = box.integer("ImageInfo/AcquisitionMode")
    if mode != RECONSTRUCTED:
        raise RawFileError(f"{box.path}: ImageInfo/AcquisitionMode: expected {RECONSTRUCTED} (a volume), got {mode}")
    shape, dtype = frame_shape(box), data_type(box, "ImageInfo/DataType")
    names = [image_name(k) for k in _slices(box, shape, dtype)]
    notes = [
        Note("assumption", "axes: slices in the order of their numbers, rows upwards as stored"),
        Note("assumption", f"attenuation per mm: {slope:g} x grey {intercept:+g}, as given"),
    ]
    metadata = read_metadata(box, np.arange(len(names)), notes)
    voxel_um = metadata.get("pixel_size_at_axis_um")
    if voxel_um is None:
        raise RawFileError(f"{box.path}: ImageInfo/PixelSize: expected the voxel size in micrometres, got nothing")
    return RawVolume(
        format="txm",
        source=box.path,
        data=frames_of(box, names, shape, dtype),
        voxel_mm=voxel_um / UM_PER_MM,
        slope=slope,
        intercept=intercept,
        metadata=metadata,
        notes=tuple(notes),
        close=box.close,
    )


def _slices(box: Container, shape: tuple[int, int], dtype: np.dtype) -> list[int]:
    """Numbers of the slices: a volume with a slice missing is no volume."""
    stored, declared = stored_images(box), box.integer("ImageInfo/NoOfImages")
    wanted = range(1, max(declared or 0, max(stored, default=0)) + 1)
    size = shape[0] * shape[1] * dtype.itemsize
    complete = [k for k in stored if box.size(image_name(k)) == size]
    if not complete or len(complete) < len(wanted):
        raise RawFileError(
            f"{box.path}: expected {len(wanted)} slices of {size} bytes, got {len(complete)}; "
            "incomplete or damaged, copy it again from its source"
        )
    return complete
