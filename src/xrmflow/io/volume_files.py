"""Open a reconstructed volume of a known format, and say what its store will record of it."""

from pathlib import Path
from typing import Any

from xrmflow.errors import RawFileError
from xrmflow.io.cfb import SIGNATURE as COMPOUND
from xrmflow.io.checksums import sha256
from xrmflow.io.raw_volume import RawVolume
from xrmflow.io.read_isq import read_isq
from xrmflow.io.read_txm import read_txm
from xrmflow.io.volume_kind import SCANCO


def open_volume_file(file: Path, *, slope: float | None = None, intercept: float | None = None) -> RawVolume:
    """Open a reconstructed volume by what it contains.

    Args:
        file: the volume.
        slope, intercept: attenuation per mm = slope * grey + intercept, for .txm.

    Raises:
        RawFileError: no such file, none of the known formats, damaged; or slope and intercept do not fit the format.
    """
    try:
        with file.open("rb") as opened:
            head = opened.read(len(SCANCO))
    except OSError as error:
        raise RawFileError(f"{file}: cannot be read ({error.strerror})") from None
    if head.startswith(SCANCO):
        if slope is not None or intercept is not None:
            raise RawFileError(f"{file}: --slope, --intercept: expected none, an .isq file has its own scaling")
        return read_isq(file)
    if not head.startswith(COMPOUND):
        raise RawFileError(f"{file}: expected a Scanco .isq or a Zeiss .txm volume, got another file")
    if file.suffix.lower() in (".txrm", ".xrm"):
        raise RawFileError(
            f"{file}: a raw scan, not a reconstructed volume; see `xrmflow init`, which names it for a run"
        )
    if slope is None or slope == 0:
        raise RawFileError(
            f"{file}: --slope: expected the attenuation per mm of one grey level, which a .txm does not record "
            "(in a run: import_volume.slope_per_mm)"
        )
    return read_txm(file, slope=slope, intercept=intercept or 0.0)


def volume_record(volume: RawVolume) -> dict[str, Any]:
    """What a store says of the file its volume came from: format, checksum, scaling, metadata, notes."""
    digest = sha256(volume.source)
    return {
        "format": volume.format,
        "source_file": str(volume.source),
        "source_files": [
            {"name": volume.source.name, "bytes": volume.source.stat().st_size, "sha256": digest},
        ],
        "source_sha256": digest,
        "slope_per_mm": volume.slope,
        "intercept_per_mm": volume.intercept,
        "metadata": volume.metadata,
        "notes": [note.to_dict() for note in volume.notes],
    }
