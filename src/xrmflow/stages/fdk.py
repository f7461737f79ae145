"""Stage fdk: line integrals to attenuation, slab by slab."""

from pathlib import Path

from xrmflow.config.fdk import FdkSection
from xrmflow.errors import SettingsError
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import scan_geometry
from xrmflow.io import device, log
from xrmflow.io.cupping import read_linearisation
from xrmflow.io.documents import read_document
from xrmflow.io.parts import Part
from xrmflow.io.provenance import provenance
from xrmflow.io.stores import create_volume, open_projections
from xrmflow.reconstruction.fdk import fdk_slabs
from xrmflow.reconstruction.grids import region_grid


def run(
    *,
    projections: Path,
    geometry: Path,
    cupping: Path | None,
    volume: Path,
    part: str | None = None,
    params: FdkSection,
) -> None:
    """Reconstruct attenuation by filtered backprojection (Feldkamp), cone or parallel beam.

    Args:
        projections: store of the line integrals.
        geometry: the geometry they were taken in.
        cupping: the correction of beam hardening; without, none.
        volume: the store to write.
        part: START-STOP, the only slices to reconstruct: the store is then a part of the volume.
        params: settings of this stage.
    """
    some = Part.read(part) if part else None
    scan = open_projections(projections, "line_integral")
    acquisition = Acquisition.from_dict(read_document(geometry, kind="geometry")["acquisition"])
    grid = _grid(acquisition, params)
    quantity = "attenuation_per_mm" if acquisition.calibrated else "attenuation_per_voxel"
    traced = provenance(
        stage="fdk", params=params, inputs={"projections": projections, "geometry": geometry, "cupping": cupping}
    )
    with create_volume(
        volume, quantity=quantity, grid=grid, calibrated=acquisition.calibrated, provenance=traced, part=some
    ) as store:
        fdk_slabs(
            scan.data,
            store.add("data", grid.shape),
            scan_geometry(acquisition),
            grid,
            slices=some.slices if some else slice(None),
            window=params.window,
            truncation_px=round(params.truncation_padding * acquisition.cols),
            prepare=read_linearisation(cupping),
            memory_gb=params.memory_gb,
            device=device.pick(),
            track=log.track,
        )


def _grid(acquisition: Acquisition, params: FdkSection) -> VolumeGrid:
    """The grid asked for; lengths of a scan without a pixel size are in voxels."""
    if params.voxel_size_um is not None and not acquisition.calibrated:
        raise SettingsError(
            f"fdk.voxel_size_um: expected null for a scan without a pixel size, got {params.voxel_size_um}; "
            "set ingest.pixel_size_um, or leave it out"
        )
    mm = 1e-3 if acquisition.calibrated else 1.0
    voxel_mm = None if params.voxel_size_um is None else params.voxel_size_um * mm
    centre_mm = None if params.centre_um is None else tuple(mm * length for length in params.centre_um)
    return region_grid(acquisition, voxel_mm=voxel_mm, shape=params.shape, centre_mm=centre_mm)
