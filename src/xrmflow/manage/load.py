"""Make a volume store of a reconstructed volume (Scanco .isq, Zeiss .txm), to be segmented and measured."""

from pathlib import Path

from xrmflow.errors import StoreError
from xrmflow.io.log import track
from xrmflow.io.provenance import provenance
from xrmflow.io.raw_volume import copy_voxels
from xrmflow.io.stores import create_volume
from xrmflow.io.volume_files import open_volume_file, volume_record


def run(file: Path, store: Path, *, slope: float | None = None, intercept: float | None = None) -> str:
    """Make a volume store of a reconstructed volume, to be segmented and measured without its raw scan.

    Read are Scanco .isq, whose header says what attenuation is, and Zeiss .txm, whose grey values have no fixed unit.
    What comes out is what stage fdk writes: `xrmflow segment --volume STORE ...` goes on from there. In a run a volume
    is a row of the table of scans like any other, and stage import_volume does this.

    Args:
        file: the volume.
        store: the store to write, a .zarr folder; it must not exist yet.
        slope: attenuation per mm of one grey level, for .txm.
        intercept: attenuation per mm of grey level 0, for .txm.
    """
    if store.exists():
        raise StoreError(f"{store}: expected a name that is free, but it exists; remove it or give another name")
    with open_volume_file(file, slope=slope, intercept=intercept) as volume:
        origin = provenance(stage="load", inputs={"file": file}) | {
            "slope": volume.slope,
            "intercept": volume.intercept,
        }
        with create_volume(
            store,
            quantity="attenuation_per_mm",
            grid=volume.grid,
            calibrated=True,
            provenance=origin,
            loaded=volume_record(volume),
        ) as out:
            copy_voxels(volume, out, track=track)
    z, y, x = volume.data.shape
    said = [f"{store}: {x} x {y} x {z} voxels (x, y, z) of {volume.voxel_mm * 1000:.4g} um, attenuation per mm"]
    return "\n".join([*said, *(f"{note.severity}: {note.text}" for note in volume.notes)])
