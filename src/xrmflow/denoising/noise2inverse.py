"""Noise2Inverse: learning to denoise reconstructions from one noisy scan, without clean images.

The views are split into K interleaved subsets and each is reconstructed. The noise of the sub-reconstructions is
independent, so a network that predicts one of them from the mean of the others (strategy "X:1") cannot learn
the noise; with a squared error it learns the mean of what the noise hides. The denoised volume is the mean of the K
outputs.

Source: Hendriksen, Pelt & Batenburg, IEEE Trans. Comput. Imaging 6:1320 (2020), doi 10.1109/TCI.2020.3019647. Ours
differs in the architecture (residual U-Net) and in that neighbouring slices may be further input channels.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from xrmflow.arrays import Reader, Track, Writer, as_float32, untracked
from xrmflow.networks.architectures import build
from xrmflow.networks.normalisation import Normalisation, evenly
from xrmflow.networks.patches import Box, PatchPool, cut_boxes, usable_neighbours, usable_patch
from xrmflow.networks.slicenet import SliceNetwork
from xrmflow.networks.tiles import Region, apply_tiled
from xrmflow.networks.training import Checkpoints, Losses, Plan, Precision, train

TRAINING, VALIDATION = 0, 1

Splits = Sequence[Reader]


def interleaved(views: int, *, splits: int) -> list[slice]:
    """Every K-th view from the k-th on, for k = 0 … K - 1.

    >>> interleaved(5, splits=2)
    [slice(0, 5, 2), slice(1, 5, 2)]

    Raises:
        ValueError: fewer than 2 splits, or fewer views than splits.
    """
    if splits < 2 or views < splits:
        raise ValueError(f"splits: expected between 2 and the number of views ({views}), got {splits}")
    return [slice(k, views, splits) for k in range(splits)]


def train_denoiser(
    scans: Sequence[Splits],
    *,
    validation: Sequence[Splits] = (),
    plan: Plan,
    features: int = 16,
    levels: int = 3,
    neighbours: int = 1,
    batch: int = 8,
    patch: int = 64,
    seed: int = 0,
    memory_gb: float = 4.0,
    checkpoints: Checkpoints | None = None,
    device: torch.device | str = "cpu",
    track: Track = untracked,
) -> tuple[SliceNetwork, Normalisation, Losses]:
    """Train a denoiser on the splits of one or more scans.

    Args:
        scans: for each scan its K sub-reconstructions, Readers (z, y, x) of one shape and unit.
        validation: the same for scans that are not trained on.
        plan: see `xrmflow.networks.training.Plan`.
        features: features of the U-Net.
        levels: halvings of the U-Net.
        neighbours: slices on each side as further input; 0 where a volume has too few slices.
        batch: patches in a step.
        patch: edge of a patch, pixels; reduced to the smallest slice, and to a multiple of 2^levels.
        seed: decides initial weights and patches.
        memory_gb: allowance for training volumes held in memory, 1e9 bytes.
        checkpoints: see `xrmflow.networks.training.train`.
        device: of the training.
        track: progress.

    Returns:
        The network, the normalisation of its inputs and outputs, and the losses.

    Raises:
        ValueError: splits of one scan differ in shape, fewer than two of them, or slices too small for the network.
    """
    for splits in (*scans, *validation):
        _check_splits(splits, len(scans[0]))
    shapes = [tuple(splits[0].shape) for splits in (*scans, *validation)]
    neighbours, patch = usable_neighbours(neighbours, shapes), usable_patch(patch, shapes, multiple=2**levels)
    normalisation = Normalisation.measured(_mean_slices(scans))
    torch.manual_seed(seed)
    network = build("unet", {"channels": 2 * neighbours + 1, "features": features, "levels": levels})

    def sampler(chosen: Sequence[Splits], stream: int, share: float) -> "_Sampler":
        pool = split_pool(chosen, patch=patch, neighbours=neighbours, seed=seed, memory_gb=share * memory_gb)
        return _Sampler(pool, normalisation, batch=batch, stream=stream)

    draw = sampler(scans, TRAINING, 0.8 if validation else 1.0)
    validate = sampler(validation, VALIDATION, 0.2) if validation else None
    trained, losses = train(
        network,
        draw,
        plan=plan,
        validate=validate,
        checkpoints=checkpoints,
        device=device,
        track=track,
        label="n2i training",
    )
    return trained, normalisation, losses


def denoise(
    splits: Splits,
    denoised: Writer,
    network: SliceNetwork,
    *,
    normalisation: Normalisation,
    tile: int = 512,
    precision: Precision = "auto",
    device: torch.device | str = "cpu",
    track: Track = untracked,
) -> None:
    """Write the mean of the network's K outputs, the k-th from the mean of all splits but the k-th.

    Args:
        splits: the K sub-reconstructions, Readers (z, y, x) in the unit of the training.
        denoised: Writer (z, y, x), the same unit.
        network: from `train_denoiser`.
        normalisation: from `train_denoiser`.
        tile: edge of a tile, pixels.
        precision: of multiplications.
        device: of the network.
        track: progress.
    """
    _check_splits(splits, len(splits))

    def others(region: Region) -> np.ndarray:
        return leave_one_out(np.stack([as_float32(split[region]) for split in splits]))

    apply_tiled(
        network,
        others,
        denoised,
        normalisation=normalisation,
        tile=tile,
        precision=precision,
        device=device,
        track=track,
        label="n2i",
    )


def leave_one_out(splits: np.ndarray) -> np.ndarray:
    """(K, …) -> (K, …): the mean of all but the k-th."""
    return (splits.sum(axis=0) - splits) / (len(splits) - 1)


def split_pool(scans: Sequence[Splits], *, patch: int, neighbours: int, seed: int, memory_gb: float) -> PatchPool:
    """Patches whose channels are the splits."""
    voxel_bytes = 4 * max(len(splits) for splits in scans)
    shapes = [tuple(splits[0].shape) for splits in scans]
    boxes = cut_boxes(shapes, voxel_bytes=voxel_bytes, memory_bytes=memory_gb * 1e9)

    def load(box: Box) -> np.ndarray:
        return np.stack([as_float32(split[box.region]) for split in scans[box.volume]])

    resident = int(memory_gb * 1e9 / (voxel_bytes * max(box.voxels for box in boxes)))
    return PatchPool(boxes, load, patch=patch, neighbours=neighbours, seed=seed, resident=resident)


def _mean_slices(scans: Sequence[Splits]) -> Iterator[np.ndarray]:
    """Slices of the mean of the splits, spread evenly through each scan."""
    for splits in scans:
        for k in evenly(splits[0].shape[0]):
            yield np.mean([as_float32(split[k]) for split in splits], axis=0)


class _Sampler:
    """Batches (input, target): for each patch another split is the target, the mean of the rest the input."""

    def __init__(self, pool: PatchPool, normalisation: Normalisation, *, batch: int, stream: int) -> None:
        self._pool, self._normalisation, self._batch, self._stream = pool, normalisation, batch, stream

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        patches = self._pool.draw(self._batch, step=step, stream=self._stream)
        which = (np.arange(len(patches)) + step) % patches.shape[1]
        target = patches[np.arange(len(patches)), which]
        image = (patches.sum(axis=1) - target) / (patches.shape[1] - 1)
        middle = target.shape[1] // 2
        return self._tensor(image), self._tensor(target[:, middle : middle + 1])

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(self._normalisation.apply(values), dtype=np.float32))


def _check_splits(splits: Splits, number: int) -> None:
    shapes = sorted({tuple(split.shape) for split in splits})
    if number < 2 or len(splits) != number or len(shapes) != 1:
        raise ValueError(
            f"splits: expected {max(number, 2)} volumes of one shape, got {len(splits)} of shapes {shapes}"
        )
