"""From a raw scan to the record and the arrays of a raw store."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from xrmflow.arrays import Reader, Track, Writer, blocks, untracked
from xrmflow.config.ingest import IngestSection
from xrmflow.errors import RawFileError
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.io.checksums import sha256
from xrmflow.io.nominal import exposures, metadata, oriented, unattenuated, what_frames_hold
from xrmflow.io.raw_scan import Note, RawScan
from xrmflow.io.scan_checks import check_acquisition, check_brightness, sample_scan
from xrmflow.io.stores import StoreWriter

BLOCK = 32
SATURATED_FRACTION = 1e-3


def raw_record(scan: RawScan, params: IngestSection, acquisition: Acquisition, assumed: list[Note]) -> dict[str, Any]:
    """What a raw store says beside the acquisition: format, source and its checksum, notes, metadata, exposures.

    The notes are the reader's, those of what was assumed, and what is suspicious about angles, shifts, distances and a
    sample of frames.
    """
    files = [
        {"name": _name(file, scan.source), "bytes": file.stat().st_size, "sha256": sha256(file)} for file in scan.files
    ]
    listing = "".join(f"{file['sha256']}  {file['name']}\n" for file in files)
    exposure_s, flat_exposure_s = exposures(scan, params)
    return {
        "format": scan.format,
        "source_file": str(scan.source),
        "source_files": files,
        "source_sha256": files[0]["sha256"] if len(files) == 1 else hashlib.sha256(listing.encode()).hexdigest(),
        "notes": [note.to_dict() for note in (*scan.notes, *assumed, *_suspicious(scan, params, acquisition))],
        "metadata": metadata(scan, params),
        "exposure_s": exposure_s,
        "flat_exposure_s": flat_exposure_s,
        "flat_views": None if scan.flat_views is None else [int(count) for count in scan.flat_views],
        "already": what_frames_hold(scan, params),
    }


def copy_frames(scan: RawScan, params: IngestSection, store: StoreWriter, *, track: Track = untracked) -> list[Note]:
    """Copy projections, flats and darks block by block, in the package's orientation; returns what was noticed.

    uint8 and uint16 are stored as uint16, everything else as float32.
    """
    notes: list[Note] = []
    scale = unattenuated(scan, params) if what_frames_hold(scan, params) == "transmission" else 1.0
    for name, frames in {"data": scan.projections, "flats": scan.flats, "darks": scan.darks}.items():
        if frames is None:
            continue
        source = oriented(frames, scan, params)
        dtype = stored_dtype(frames.dtype) if scale == 1.0 or name != "data" else np.dtype(np.float32)
        target = store.add(name, source.shape, dtype)
        divisor = scale if name == "data" else 1.0
        notes += _copy(source, target, dtype, divisor, track=track, label="projections" if name == "data" else name)
    return notes


def stored_dtype(dtype: Any) -> np.dtype:
    """uint16 for unsigned integers of up to 16 bits, else float32."""
    dtype = np.dtype(dtype)
    return np.dtype(np.uint16 if dtype.kind == "u" and dtype.itemsize <= 2 else np.float32)


def _suspicious(scan: RawScan, params: IngestSection, acquisition: Acquisition) -> list[Note]:
    """Without saturated and lost pixels, which copying counts in all frames."""
    bright = what_frames_hold(scan, params) != "line_integral"
    return [*check_acquisition(acquisition, scan), *(check_brightness(sample_scan(scan)) if bright else [])]


def _copy(source: Reader, target: Writer, dtype: np.dtype, divisor: float, *, track: Track, label: str) -> list[Note]:
    saturated = lost = 0
    full = np.iinfo(source.dtype).max if np.dtype(source.dtype).kind in "iu" else None
    for block in track(blocks(source.shape[0], BLOCK), label=f"ingest {label}"):
        frames = np.asarray(source[block])
        saturated += 0 if full is None else int(np.count_nonzero(frames == full))
        frames = frames.astype(dtype, copy=False)
        lost += 0 if full is not None else int(np.count_nonzero(~np.isfinite(frames)))
        target[block] = frames if divisor == 1.0 else frames / np.float32(divisor)
    return _noticed(saturated, lost, int(np.prod(source.shape)), full, label)


def _noticed(saturated: int, lost: int, pixels: int, full: int | None, label: str) -> list[Note]:
    notes = []
    if saturated > SATURATED_FRACTION * pixels:
        notes.append(
            Note("warning", f"{label}: {100 * saturated / pixels:.2g} % of the pixels are saturated (at {full})")
        )
    if lost == pixels:
        raise RawFileError(f"{label}: expected finite numbers, got only NaN or infinity")
    if lost:
        notes.append(Note("warning", f"{label}: {lost} pixels are NaN or infinite"))
    return notes


def _name(file: Path, source: Path) -> str:
    """The file's name relative to the scan's folder, where it lies in there."""
    folder = (source if source.is_dir() else source.parent).resolve()
    resolved = file.resolve()
    return resolved.relative_to(folder).as_posix() if resolved.is_relative_to(folder) else str(resolved)
