"""Write a volume as a TIFF stack, NIfTI or MetaImage, for other programs."""

import os
import shutil
from pathlib import Path

from xrmflow.errors import StoreError
from xrmflow.io.interchange import write_metaimage, write_nifti, write_tiff, write_tiff_folder
from xrmflow.io.log import track
from xrmflow.io.stores import open_volume

WRITERS = {
    ".tif": write_tiff,
    ".tiff": write_tiff,
    ".nii": write_nifti,
    ".nii.gz": write_nifti,
    ".mha": write_metaimage,
    "": write_tiff_folder,
}


def run(store: Path, out: Path) -> str:
    """Write a volume for other programs, with its voxel size and the place of its first voxel.

    The ending of the output decides the format: .tif (one file, opened by ImageJ as a stack), .nii, .nii.gz, .mha, or
    none for a folder with one TIFF a slice. Values and the order of voxels are kept; lengths are micrometres in TIFF
    and mm elsewhere. Anatomical directions are not known, so axes are those of the scanner.

    Args:
        store: the volume, a .zarr folder.
        out: the file or folder to write; it must not exist yet.
    """
    ending = _ending(out)
    if ending not in WRITERS:
        known = ", ".join(name for name in WRITERS if name)
        raise StoreError(f"{out}: expected a name ending in {known}, or a folder without ending, got {ending!r}")
    volume = open_volume(store)
    if out.exists():
        raise StoreError(f"{out}: expected a name that is free, but it exists; remove it or give another name")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".tmp-{os.getpid()}-{out.name}")
    try:
        WRITERS[ending](temporary, volume, track=track)
        temporary.rename(out)
    finally:
        temporary.unlink(missing_ok=True) if temporary.is_file() else shutil.rmtree(temporary, ignore_errors=True)
    z, y, x = volume.data.shape
    return f"{out}: {x} x {y} x {z} voxels (x, y, z) of {volume.quantity}"


def _ending(path: Path) -> str:
    """The ending that decides the format; that of scan.1.nii.gz is .nii.gz."""
    return ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()
