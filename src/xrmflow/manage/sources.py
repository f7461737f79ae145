"""Every file that a scan is read from, so that a change in any of them is noticed.

Asked for each scan while a run is planned: only HDF5 files are opened, and only their description is read.
"""

import os
from pathlib import Path

from xrmflow.config.ingest import IngestSection
from xrmflow.errors import RawFileError

HDF5 = b"\x89HDF\r\n\x1a\n"


def files_of(source: Path, params: IngestSection) -> list[Path]:
    """The files that ingest takes numbers from; what is absent or cannot be read is left to ingest, which says why.

    Args:
        source: a file, or a folder of TIFF frames.
        params: how the scan is read.

    Returns:
        The source or the frames of its folder, the files an HDF5 file links to, then the files the settings name.
    """
    named = (params.reference_file, params.angles_file)
    folder = source if source.is_dir() else source.parent
    beside = [folder / name for name in named if name is not None]
    return [*_own_files(source, params), *(file for file in beside if file.is_file())]


def _own_files(source: Path, params: IngestSection) -> list[Path]:
    try:
        if source.is_dir():
            from xrmflow.io.read_tiff import stack_files

            return [file for files in stack_files(source, params) for file in files]
        if _is_hdf5(source):
            from xrmflow.io.sniff import open_raw

            with open_raw(source, params) as scan:
                return [_as_named(file, source.parent) for file in scan.files]
    except (RawFileError, OSError):
        pass
    return [source]


def _as_named(file: Path, folder: Path) -> Path:
    """A file within the scan's folder by the folder's own name: HDF5 makes paths absolute, but a project may move."""
    whole = Path(os.path.abspath(file))
    for base in (Path(os.path.abspath(folder)), folder.resolve()):
        if whole.is_relative_to(base):
            return folder / whole.relative_to(base)
    return file


def _is_hdf5(source: Path) -> bool:
    with source.open("rb") as file:
        return file.read(len(HDF5)) == HDF5
