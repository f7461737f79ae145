"""Volumes as TIFF stacks, NIfTI-1 and MetaImage: for programs that do not read zarr.

All keep the order of voxels (x fastest, then y, then z), the voxel size and the place of the first voxel; lengths are
mm in NIfTI and MetaImage, micrometres in TIFF. Nothing is turned or mirrored: the axes of the file are the axes of the
scan (`xrmflow.geometry.acquisition`), whatever anatomical names a program gives them. A volume is read and written a
few slices at a time. Sources: the header nifti1.h of the NIfTI-1 standard; the MetaIO documentation of ITK; ImageJ's
FileInfo and TiffDecoder.
"""

import gzip
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile

from xrmflow.arrays import Track, blocks, untracked
from xrmflow.errors import StoreError
from xrmflow.io.stores import Volume

SLICES = 64
"""Slices read at once: one chunk of a store."""
NIFTI_TYPES = {"uint8": 2, "int16": 4, "int32": 8, "float32": 16, "float64": 64, "int8": 256, "uint16": 512}
META_TYPES = {
    "uint8": "MET_UCHAR",
    "int8": "MET_CHAR",
    "int16": "MET_SHORT",
    "uint16": "MET_USHORT",
    "int32": "MET_INT",
    "float32": "MET_FLOAT",
    "float64": "MET_DOUBLE",
}
TIFF_TYPES = ("uint8", "uint16", "float32")
NIFTI_HEADER, NIFTI_LONGEST = 348, 32767
NIFTI_DATA = 352
MILLIMETRE, SCANNER = 2, 1
CLASSIC_TIFF_BYTES = 2**32 - 2**25
"""Larger stacks get one directory followed by all slices, as ImageJ itself writes them."""


def write_nifti(path: Path, volume: Volume, *, track: Track = untracked) -> None:
    """Write NIfTI-1, compressed when the name ends in .gz; mm, or no unit when the voxel size is not known.

    Raises:
        StoreError: numbers or a size that the format cannot hold.
    """
    header = nifti_header(volume)
    with path.open("wb") as file:
        if path.suffix != ".gz":
            _write_after(header, file, volume, track)
            return
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=4, mtime=0) as packed:
            _write_after(header, packed, volume, track)


def write_metaimage(path: Path, volume: Volume, *, track: Track = untracked) -> None:
    """Write MetaImage, header and data in one file (.mha); mm, or voxels when the voxel size is not known.

    Raises:
        StoreError: numbers that the format cannot hold.
    """
    with path.open("wb") as file:
        _write_after(metaimage_header(volume), file, volume, track)


def write_tiff(path: Path, volume: Volume, *, track: Track = untracked) -> None:
    """Write one multi-page TIFF that ImageJ opens as a stack with voxel size, unit and origin.

    Raises:
        StoreError: numbers that ImageJ cannot hold.
    """
    kind = _type(volume, TIFF_TYPES, "TIFF")
    shape = tuple(volume.data.shape)
    large = int(np.prod(shape)) * kind.itemsize > CLASSIC_TIFF_BYTES
    tifffile.imwrite(
        path, _slices(volume, track), shape=shape, dtype=kind, imagej=True, truncate=large, **_imagej(volume, "ZYX")
    )


def write_tiff_folder(path: Path, volume: Volume, *, track: Track = untracked) -> None:
    """Write one TIFF a slice, named slice_00000.tif and so on, into a new folder.

    Raises:
        StoreError: numbers that ImageJ cannot hold.
    """
    kind = _type(volume, TIFF_TYPES, "TIFF")
    path.mkdir()
    for index, image in enumerate(_slices(volume, track)):
        name = path / f"slice_{index:05d}.tif"
        tifffile.imwrite(name, image.astype(kind, copy=False), imagej=True, **_imagej(volume, "YX"))


def nifti_header(volume: Volume) -> bytes:
    """The 348 bytes of a NIfTI-1 header and the four that say that no extension follows."""
    kind = _type(volume, NIFTI_TYPES, "NIfTI")
    if max(volume.data.shape) > NIFTI_LONGEST:
        raise StoreError(
            f"{volume.path}: expected at most {NIFTI_LONGEST} voxels along an edge for NIfTI, got "
            f"{max(volume.data.shape)}; export .mha or .tif"
        )
    z, y, x = volume.data.shape
    edge, first = volume.grid.voxel_mm, volume.grid.first_voxel_mm
    header = bytearray(NIFTI_DATA)
    struct.pack_into("<i", header, 0, NIFTI_HEADER)
    struct.pack_into("<8h", header, 40, 3, x, y, z, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, NIFTI_TYPES[kind.name], 8 * kind.itemsize)
    struct.pack_into("<8f", header, 76, 1.0, edge, edge, edge, 0, 0, 0, 0)
    struct.pack_into("<3f", header, 108, NIFTI_DATA, 1.0, 0.0)  # where data begin, slope, intercept
    struct.pack_into("<B", header, 123, MILLIMETRE if volume.calibrated else 0)
    struct.pack_into("<80s", header, 148, f"xrmflow {volume.quantity}".encode())
    struct.pack_into("<2h", header, 252, SCANNER, SCANNER)
    struct.pack_into("<6f", header, 256, 0, 0, 0, *first)
    for row in range(3):
        struct.pack_into("<4f", header, 280 + 16 * row, *(edge * (row == axis) for axis in range(3)), first[row])
    struct.pack_into("<4s", header, 344, b"n+1\0")
    return bytes(header)


def metaimage_header(volume: Volume) -> bytes:
    """The text before the data of a MetaImage."""
    kind = _type(volume, META_TYPES, "MetaImage")
    edge = volume.grid.voxel_mm
    fields = {
        "ObjectType": "Image",
        "NDims": "3",
        "Comment": f"xrmflow {volume.quantity}, lengths in {'mm' if volume.calibrated else 'voxels'}",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": " ".join(f"{value:.12g}" for value in volume.grid.first_voxel_mm),
        "ElementSpacing": f"{edge:.12g} {edge:.12g} {edge:.12g}",
        "DimSize": " ".join(str(size) for size in volume.data.shape[::-1]),
        "ElementType": META_TYPES[kind.name],
        "ElementDataFile": "LOCAL",
    }
    return "".join(f"{name} = {value}\n" for name, value in fields.items()).encode()


def _imagej(volume: Volume, axes: str) -> dict[str, Any]:
    """Tags and description by which ImageJ knows voxel size, unit and the place of the first voxel."""
    edge, first = volume.grid.voxel_mm, volume.grid.first_voxel_mm
    size = 1000 * edge if volume.calibrated else edge
    origin = {f"{axis}origin": -start / edge for axis, start in zip("xyz", first, strict=True)}
    unit = "um" if volume.calibrated else "pixel"
    metadata = {"axes": axes, "spacing": size, "unit": unit, **origin, "info": f"xrmflow {volume.quantity}"}
    return {"resolution": (1 / size, 1 / size), "metadata": metadata}


def _type(volume: Volume, known: Any, name: str) -> np.dtype[Any]:
    kind = np.dtype(volume.data.dtype)
    if kind.name not in known:
        raise StoreError(f"{volume.path}: expected numbers of type {', '.join(known)} for {name}, got {kind.name}")
    return kind


def _write_after(header: bytes, file: BinaryIO | gzip.GzipFile, volume: Volume, track: Track) -> None:
    file.write(header)
    kind = np.dtype(volume.data.dtype).newbyteorder("<")
    for slices in _slabs(volume, track):
        file.write(np.ascontiguousarray(slices, dtype=kind).data)


def _slices(volume: Volume, track: Track) -> Iterator[np.ndarray]:
    for slab in _slabs(volume, track):
        yield from slab


def _slabs(volume: Volume, track: Track) -> Iterator[np.ndarray]:
    for slices in track(blocks(volume.data.shape[0], SLICES), label="exporting"):
        yield np.asarray(volume.data[slices])
