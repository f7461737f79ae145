"""Stage iterative: line integrals to attenuation by iteration, on the grid of the FDK volume."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from xrmflow.config.iterative import IterativeSection
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.scan import scan_geometry
from xrmflow.io import device, log
from xrmflow.io.cupping import read_linearisation
from xrmflow.io.documents import read_document
from xrmflow.io.provenance import provenance
from xrmflow.io.stores import create_volume, open_projections, open_volume
from xrmflow.reconstruction.iterative.reconstruct import Recipe, reconstruct


def run(
    *,
    projections: Path,
    geometry: Path,
    cupping: Path | None,
    volume: Path,
    iterative: Path,
    params: IterativeSection,
) -> None:
    """Reconstruct attenuation by iteration (TV, OS-SART, SIRT or CGLS), voxel for voxel beside the FDK volume."""
    scan, beside = open_projections(projections, "line_integral"), open_volume(volume)
    acquisition = Acquisition.from_dict(read_document(geometry, kind="geometry")["acquisition"])
    inputs = {"projections": projections, "geometry": geometry, "cupping": cupping, "volume": volume}
    # Filled in below; the store writes its record when it is complete.
    summary: dict[str, Any] = {}
    with create_volume(
        iterative,
        quantity=beside.quantity,
        grid=beside.grid,
        calibrated=beside.calibrated,
        provenance=provenance(stage="iterative", params=params, inputs=inputs),
        iteration=summary,
    ) as store:
        done = reconstruct(
            scan.data,
            store.add("data", beside.grid.shape),
            scan_geometry(acquisition),
            beside.grid,
            _recipe(params),
            prepare=read_linearisation(cupping),
            memory_gb=params.memory_gb,
            device=device.pick(),
            track=log.track,
        )
        summary.update(asdict(done))


def _recipe(params: IterativeSection) -> Recipe:
    given = params.model_dump(exclude={"memory_gb", "tv_strength", "truncation_padding"})
    return Recipe(**given, strength=params.tv_strength, padding=params.truncation_padding)
