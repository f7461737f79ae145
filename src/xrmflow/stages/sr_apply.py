"""Stage sr_apply: refining a volume with a trained network."""

from dataclasses import asdict
from pathlib import Path

from xrmflow.config.sr_apply import SrApplySection
from xrmflow.io import device, log
from xrmflow.io.parts import Part
from xrmflow.io.provenance import provenance
from xrmflow.io.stores import create_volume, open_volume
from xrmflow.io.weights import load_model
from xrmflow.superresolution.interpolation import refined
from xrmflow.superresolution.paired import superresolve


def run(*, volume: Path, model: Path, superres: Path, part: str | None = None, params: SrApplySection) -> None:
    """Write the volume on a finer grid, with the detail the network has learned.

    Args:
        volume: store of the volume.
        model: weights of the network.
        superres: the store to write.
        part: START-STOP, the only slices to write, of the finer volume: the store is then a part of it.
        params: settings of this stage.
    """
    some = Part.read(part) if part else None
    coarse = open_volume(volume, ("attenuation_per_mm", "attenuation_per_voxel"))
    trained = load_model(model, "sr").fits(coarse)
    factor = trained.options["factor"]
    grid = refined(coarse.grid, factor)
    traced = provenance(stage="sr_apply", params=params, inputs={"volume": volume, "model": model})
    with create_volume(
        superres,
        quantity=coarse.quantity,
        grid=grid,
        calibrated=coarse.calibrated,
        provenance=traced,
        part=some,
        source_grid=asdict(coarse.grid),
    ) as store:
        superresolve(
            coarse.data,
            store.add("data", grid.shape),
            trained.network,
            grid=coarse.grid,
            factor=factor,
            normalisation=trained.normalisation,
            tile=params.tile_px,
            slices=some.slices if some else slice(None),
            precision=params.precision,
            device=device.pick(),
            track=log.track,
        )
