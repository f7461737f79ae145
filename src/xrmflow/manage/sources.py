"""Every file that a scan is read from, so that a change in any of them is noticed.

Asked for each scan while a run is planned: of HDF5 files only their description is read, of scans described by a text
only that text.
"""

import os
from pathlib import Path
from typing import Any

from xrmflow.config.ingest import IngestSection
from xrmflow.config.segment import SegmentSection
from xrmflow.errors import RawFileError, StoreError
from xrmflow.io import checksums
from xrmflow.io.documents import read_document
from xrmflow.io.manifest import MANIFEST, read_manifest

HDF5 = b"\x89HDF\r\n\x1a\n"
# What begins a section of the text that describes a scan (Nikon, SkyScan).
SECTIONS = (b"[xtekct]", b"[acquisition]")
HEAD_BYTES = 1 << 14


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
        head = _head(source)
        if not head.startswith(HDF5) and any(section in head.lower() for section in SECTIONS):
            return _described_files(source, params)
        if head.startswith(HDF5):
            from xrmflow.io.sniff import open_raw

            with open_raw(source, params) as scan:
                return [_as_named(file, source.parent) for file in scan.files]
    except (RawFileError, OSError):
        pass
    return [source]


def _described_files(source: Path, params: IngestSection) -> list[Path]:
    """The files of a scan whose description is a text."""
    from xrmflow.io.read_nikon import nikon_files
    from xrmflow.io.read_skyscan import skyscan_files
    from xrmflow.io.sniff import sniff

    of_kind = {"nikon": nikon_files, "skyscan": skyscan_files}.get(sniff(source))
    return [source] if of_kind is None else of_kind(source, params)


def _as_named(file: Path, folder: Path) -> Path:
    """A file within the scan's folder by the folder's own name: HDF5 makes paths absolute, but a project may move."""
    whole = Path(os.path.abspath(file))
    for base in (Path(os.path.abspath(folder)), folder.resolve()):
        if whole.is_relative_to(base):
            return folder / whole.relative_to(base)
    return file


def _head(source: Path) -> bytes:
    with source.open("rb") as file:
        return file.read(HEAD_BYTES)


def mask_of(section: SegmentSection, scan: str) -> Path | None:
    """The file by which a change of a scan's mask is noticed, of a store its manifest; None where there is none."""
    drawn = section.mask_of(scan)
    if drawn is None:
        return None
    file = drawn / MANIFEST if drawn.is_dir() else drawn
    return file if file.is_file() else None


def is_as_ingested(file: Path, document: Path) -> bool:
    """Whether a large file that is newer than what was made from it still holds that, by its checksum.

    Smaller files are left to Snakemake, which compares them itself, and so are files that are not newer.

    Args:
        file: the raw file, one it is read with, or a mask drawn by hand.
        document: the scan's flatfield.json, which says what was ingested, or the manifest of the imported volume or of
            the labels.
    """
    try:
        made, seen = document.stat().st_mtime_ns, file.stat()
        if not file.is_file() or seen.st_size < checksums.LARGE_BYTES or seen.st_mtime_ns <= made:
            return False
        wanted = {known["sha256"] for known in _source_files(document) if Path(known["name"]).name == file.name}
        return checksums.sha256(file) in wanted
    except (OSError, StoreError, KeyError, TypeError):
        return False


def _source_files(document: Path) -> list[dict[str, Any]]:
    """Name and checksum of the files that a scan, an imported volume, or a mask was read from."""
    if document.name == MANIFEST:
        record = read_manifest(document)["record"]
        return record["segmentation" if "segmentation" in record else "loaded"]["source_files"]
    return read_document(document, kind="flatfield")["raw"]["source_files"]
