"""Stage sr_train: learning super-resolution from pairs of scans of one object."""

from functools import partial
from pathlib import Path

from xrmflow.config.sr_train import SrTrainSection
from xrmflow.io import device, log
from xrmflow.io.locks import lock
from xrmflow.io.pairs import open_pairs
from xrmflow.io.provenance import provenance
from xrmflow.io.weights import Model, save_model, training_checkpoints
from xrmflow.networks.training import Plan
from xrmflow.superresolution.paired import Pair, train_superresolution


def run(*, low: list[Path], high: list[Path], model: Path, card: Path, params: SrTrainSection) -> None:
    """Train a super-resolution network on volumes of the same objects at low and high resolution."""
    pairs = open_pairs(low, high)
    traced = partial(provenance, stage="sr_train", params=params, inputs={"low": low, "high": high})
    plan = Plan(**params.model_dump(exclude={"factor"}))
    with lock(model), training_checkpoints(model, traced()) as checkpoints:
        network, normalisation, losses = train_superresolution(
            [Pair(coarse.data, coarse.grid, fine.data, fine.grid) for coarse, fine in pairs],
            factor=params.factor,
            plan=plan,
            checkpoints=checkpoints,
            device=device.pick(),
            track=log.track,
        )
        coarse, _ = pairs[0]
        trained = Model("sr", network, normalisation, coarse.quantity, {"factor": params.factor})
        about = {"scans": [one.path.parent.name for one, _ in pairs], "voxel_mm": coarse.grid.voxel_mm}
        save_model(model, card, trained, losses=losses, plan=plan, about=about, provenance=traced())
