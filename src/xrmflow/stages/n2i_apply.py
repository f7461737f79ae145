"""Stage n2i_apply: denoising a scan with a trained network."""

from pathlib import Path

from xrmflow.config.n2i_apply import N2iApplySection
from xrmflow.denoising.noise2inverse import denoise
from xrmflow.io import device, log
from xrmflow.io.parts import Part
from xrmflow.io.provenance import provenance
from xrmflow.io.splits import open_splits
from xrmflow.io.stores import create_volume
from xrmflow.io.weights import load_model


def run(*, splits: list[Path], model: Path, denoised: Path, part: str | None = None, params: N2iApplySection) -> None:
    """Denoise a volume: the mean of the network's outputs, each from all splits but one.

    Args:
        splits: stores of the reconstructions of interleaved views.
        model: weights of the network.
        denoised: the store to write.
        part: START-STOP, the only slices to denoise: the store is then a part of the volume.
        params: settings of this stage.
    """
    some = Part.read(part) if part else None
    (scan,) = open_splits(splits, scans=1)
    trained = load_model(model, "n2i").fits(scan[0], splits=len(scan))
    traced = provenance(stage="n2i_apply", params=params, inputs={"splits": splits, "model": model})
    with create_volume(
        denoised,
        quantity=scan[0].quantity,
        grid=scan[0].grid,
        calibrated=scan[0].calibrated,
        provenance=traced,
        part=some,
    ) as store:
        denoise(
            [split.data for split in scan],
            store.add("data", scan[0].grid.shape),
            trained.network,
            normalisation=trained.normalisation,
            tile=params.tile_px,
            slices=some.slices if some else slice(None),
            precision=params.precision,
            device=device.pick(),
            track=log.track,
        )
