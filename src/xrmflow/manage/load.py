"""Make a volume store of a reconstructed volume (Scanco .isq, Zeiss .txm), to be segmented and measured."""

from pathlib import Path

from xrmflow.errors import RawFileError, StoreError
from xrmflow.io.cfb import SIGNATURE as COMPOUND
from xrmflow.io.log import track
from xrmflow.io.provenance import provenance
from xrmflow.io.raw_store import sha256
from xrmflow.io.raw_volume import RawVolume, copy_voxels
from xrmflow.io.read_isq import MAGIC, read_isq
from xrmflow.io.read_txm import read_txm
from xrmflow.io.stores import create_volume


def run(file: Path, store: Path, *, slope: float | None = None, intercept: float | None = None) -> str:
    """Make a volume store of a reconstructed volume, to be segmented and measured without its raw scan.

    Read are Scanco .isq, whose header says what attenuation is, and Zeiss .txm, whose grey values have no fixed unit.
    What comes out is what stage fdk writes: `xrmflow segment --volume STORE ...` goes on from there.

    Args:
        file: the volume.
        store: the store to write, a .zarr folder; it must not exist yet.
        slope: attenuation per mm of one grey level, for .txm.
        intercept: attenuation per mm of grey level 0, for .txm.
    """
    if store.exists():
        raise StoreError(f"{store}: expected a name that is free, but it exists; remove it or give another name")
    with open_volume_file(file, slope=slope, intercept=intercept) as volume:
        record = {
            "format": volume.format,
            "source_file": str(file),
            "source_sha256": sha256(file),
            "metadata": volume.metadata,
            "notes": [note.to_dict() for note in volume.notes],
        }
        origin = provenance(stage="load", inputs={"file": file}) | {
            "slope": volume.slope,
            "intercept": volume.intercept,
        }
        with create_volume(
            store, quantity="attenuation_per_mm", grid=volume.grid, calibrated=True, provenance=origin, loaded=record
        ) as out:
            copy_voxels(volume, out, track=track)
    z, y, x = volume.data.shape
    said = [f"{store}: {x} x {y} x {z} voxels (x, y, z) of {volume.voxel_mm * 1000:.4g} um, attenuation per mm"]
    return "\n".join([*said, *(f"{note.severity}: {note.text}" for note in volume.notes)])


def open_volume_file(file: Path, *, slope: float | None = None, intercept: float | None = None) -> RawVolume:
    """Open a reconstructed volume by what it contains.

    Raises:
        RawFileError: no such file, none of the known formats, damaged; or slope and intercept do not fit the format.
    """
    try:
        with file.open("rb") as opened:
            head = opened.read(len(MAGIC))
    except OSError as error:
        raise RawFileError(f"{file}: cannot be read ({error.strerror})") from None
    if head.startswith(MAGIC):
        if slope is not None or intercept is not None:
            raise RawFileError(f"{file}: --slope, --intercept: expected none, an .isq file has its own scaling")
        return read_isq(file)
    if not head.startswith(COMPOUND):
        raise RawFileError(f"{file}: expected a Scanco .isq or a Zeiss .txm volume, got another file")
    if slope is None or slope == 0:
        raise RawFileError(
            f"{file}: --slope: expected the attenuation per mm of one grey level, which a .txm does not record"
        )
    return read_txm(file, slope=slope, intercept=intercept or 0.0)
