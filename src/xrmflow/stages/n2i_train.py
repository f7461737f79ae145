"""Stage n2i_train: learning to denoise from the splits of noisy scans."""

from functools import partial
from pathlib import Path

from xrmflow.config.n2i_train import N2iTrainSection
from xrmflow.denoising.noise2inverse import train_denoiser
from xrmflow.io import device, log
from xrmflow.io.locks import lock
from xrmflow.io.provenance import provenance
from xrmflow.io.splits import check_alignment, names, open_splits
from xrmflow.io.weights import Model, save_model, training_checkpoints
from xrmflow.networks.training import Plan


def run(*, splits: list[Path], validation: list[Path], model: Path, card: Path, params: N2iTrainSection) -> None:
    """Train a Noise2Inverse network on the splits of one or more scans."""
    scans, held_out = open_splits(splits), open_splits(validation)
    traced = partial(provenance, stage="n2i_train", params=params, inputs={"splits": splits, "validation": validation})
    check_alignment([*scans, *held_out], params.geometry_check, largest_px=params.geometry_limit_px)
    plan = Plan(**params.model_dump(exclude={"geometry_check", "geometry_limit_px"}))
    with lock(model), training_checkpoints(model, traced()) as checkpoints:
        network, normalisation, losses = train_denoiser(
            [[split.data for split in scan] for scan in scans],
            validation=[[split.data for split in scan] for scan in held_out],
            plan=plan,
            checkpoints=checkpoints,
            device=device.pick(),
            track=log.track,
        )
        first = scans[0][0]
        trained = Model("n2i", network, normalisation, first.quantity, {"splits": len(scans[0])})
        about = {"scans": names(scans), "validation_scans": names(held_out), "voxel_mm": first.grid.voxel_mm}
        save_model(model, card, trained, losses=losses, plan=plan, about=about, provenance=traced())
