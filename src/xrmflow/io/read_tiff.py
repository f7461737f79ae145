"""Read a stack of TIFF frames: a folder, a pattern, or one file of many pages.

Angles and geometry come from the settings. Files are taken in natural order (`p_2.tif` before `p_10.tif`).
"""

import re
import struct
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import tifffile

from xrmflow.arrays import Reader
from xrmflow.config.ingest import IngestSection
from xrmflow.errors import RawFileError
from xrmflow.io.raw_scan import Frames, Note, RawScan

SUFFIXES = (".tif", ".tiff")
REFERENCE_WORDS = re.compile(r"flat|dark|white|(^|_)(ref|ff|df|bg)(_|\d|\.)", re.IGNORECASE)
FAULTS = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, MemoryError, struct.error)


def read_tiff(path: Path, params: IngestSection) -> RawScan:
    """Open a stack; frames are read when asked for.

    Args:
        path: a folder, a file of one or many pages, or a pattern such as `scan/proj_*.tif`.
        params: `projection_files`, `flat_files` and `dark_files` sort the files of a folder.

    Raises:
        RawFileError: no frames, frames of several sizes, colour images, or a damaged file.
    """
    files, flat_files, dark_files = stack_files(path, params)
    notes = [Note("missing", f"{what}: the format has none") for what in ("energy", "distances", "shifts")]
    suspects = [file.name for file in files if REFERENCE_WORDS.search(file.name)] if len(files) > 1 else []
    if suspects:
        more = f"{suspects[0]} and {len(suspects) - 1} more"
        text = f"files: {more} are read as projections; see ingest.flat_files, ingest.dark_files"
        notes.append(Note("warning", text))
    projections = tiff_stack(files)
    flats = _references(flat_files, projections, "flat", params.flat_files, notes)
    darks = _references(dark_files, projections, "dark", params.dark_files, notes)
    notes.append(Note("info", f"files: {len(files)} from {files[0].name} to {files[-1].name}"))
    return RawScan(
        format="tiff",
        source=path,
        files=tuple(files + flat_files + dark_files),
        projections=projections,
        flats=flats,
        darks=darks,
        row_order="top_down",
        notes=tuple(notes),
    )


def stack_files(path: Path, params: IngestSection) -> tuple[list[Path], list[Path], list[Path]]:
    """The files of projections, flats and darks, in natural order; none of them is opened.

    Raises:
        RawFileError: no projections.
    """
    folder = path if path.is_dir() else path.parent
    flats, darks = (matching_tiffs(folder, pattern) for pattern in (params.flat_files, params.dark_files))
    return _projection_files(path, params, set(flats + darks)), flats, darks


def natural_key(path: Path) -> list[tuple[int, int | str]]:
    """Sort key that counts numbers as numbers."""
    return [(0, int(part)) if part.isdigit() else (1, part.lower()) for part in re.split(r"(\d+)", path.name) if part]


def _projection_files(path: Path, params: IngestSection, references: set[Path]) -> list[Path]:
    if path.is_file():
        return [path]
    folder = path if path.is_dir() else path.parent
    pattern = params.projection_files if path.is_dir() else path.name
    files = matching_tiffs(folder, pattern or "*")
    if not pattern:
        files = [file for file in files if file not in references]
    if not files and not path.is_dir():
        raise RawFileError(f"{path}: no such file, and no TIFF files that match {pattern} in {folder}")
    if not files:
        wanted = f" that match {pattern}" if pattern else ""
        advice = "" if pattern else "; of another format name the file itself, of several scans each folder"
        raise RawFileError(f"{path}: no TIFF files{wanted} in {folder}{advice}")
    return files


def matching_tiffs(folder: Path, pattern: str | None) -> list[Path]:
    """TIFF files of a folder (or one below it) whose name fits a pattern such as `proj_*`, in natural order."""
    if pattern is None or not folder.is_dir():
        return []
    *parents, name = pattern.split("/")
    place = folder.joinpath(*parents)
    found = (file for file in place.iterdir() if fnmatch(file.name, name)) if place.is_dir() else ()
    return sorted((file for file in found if file.suffix.lower() in SUFFIXES), key=natural_key)


def _references(files: list[Path], frames: Reader, what: str, pattern: str | None, notes: list[Note]) -> Reader | None:
    if not files:
        why = f"no file matches {pattern}" if pattern else f"ingest.{what}_files is not set"
        notes.append(Note("missing", f"{what}s: {why}"))
        return None
    stack = tiff_stack(files)
    if stack.shape[1:] != frames.shape[1:]:
        raise RawFileError(
            f"{files[0]}: expected {what}s of {frames.shape[1:]} pixels like the projections, got {stack.shape[1:]}"
        )
    return stack


def tiff_stack(files: list[Path]) -> Frames:
    """All pages of all files as one stack; only the first page is looked at now.

    Raises:
        RawFileError: not a grey TIFF file, or several files of which the first has several pages.
    """
    pages, shape, dtype = _describe(files[0])
    if len(files) > 1 and pages > 1:
        raise RawFileError(f"{files[0]}: expected one page a file in a stack of several files, got {pages}")

    def fetch(i: int) -> np.ndarray:
        file, page = (files[0], i) if pages > 1 else (files[i], 0)
        frame = _read_page(file, page)
        if frame.shape != shape:
            raise RawFileError(
                f"{file}: expected {shape[0]} x {shape[1]} pixels like {files[0].name}, got {frame.shape}"
            )
        return frame.astype(dtype, copy=False)

    return Frames(fetch, (pages if pages > 1 else len(files), *shape), dtype)


def _describe(file: Path) -> tuple[int, tuple[int, int], np.dtype]:
    try:
        with tifffile.TiffFile(file) as tiff:
            page = tiff.pages[0]
            pages, shape, dtype = len(tiff.pages), tuple(page.shape), np.dtype(page.dtype)
    except FAULTS as error:
        raise RawFileError(f"{file}: not a readable TIFF file ({error}); copy it again from its source") from None
    if len(shape) != 2 or dtype.kind not in "iuf" or 0 in shape:
        raise RawFileError(f"{file}: expected a grey image (row, col), got {dtype} of shape {shape}")
    return pages, (shape[0], shape[1]), dtype.newbyteorder("=")


def _read_page(file: Path, page: int) -> np.ndarray:
    try:
        return tifffile.imread(file, key=page)
    except FAULTS as error:
        raise RawFileError(f"{file}: truncated or damaged ({error}); copy it again from its source") from None
