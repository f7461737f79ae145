"""Noise2Inverse: learning to denoise reconstructions from one noisy scan, without clean images.

The views are split into K interleaved subsets and each is reconstructed. The noise of the sub-reconstructions is
independent, so a network that predicts one of them from the mean of the others (strategy "X:1") cannot learn
the noise; with a squared error it learns the mean of what the noise hides. The denoised volume is the mean of the K
outputs.

Source: Hendriksen, Pelt & Batenburg, IEEE Trans. Comput. Imaging 6:1320 (2020), doi 10.1109/TCI.2020.3019647. Ours
differs in the architecture (a plain U-Net) and in that neighbouring slices may be further input channels.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xrmflow.arrays import Reader, Track, Writer, as_float32, untracked
from xrmflow.errors import SettingsError
from xrmflow.networks.architectures import fresh_network
from xrmflow.networks.normalisation import Normalisation, evenly
from xrmflow.networks.patches import Box, fitted_plan, patch_pool
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
        SettingsError: fewer than 2 splits, or fewer views than splits.
    """
    if splits < 2 or views < splits:
        raise SettingsError(f"splits: expected between 2 and the number of views ({views}), got {splits}")
    return [slice(k, views, splits) for k in range(splits)]


class Interleaved:
    """A `Reader` of every K-th view of projections (view, row, col).

    Args:
        projections: Reader of all views.
        views: the chosen ones, from `interleaved`.
    """

    def __init__(self, projections: Reader, views: slice) -> None:
        self._projections = projections
        self._views = range(projections.shape[0])[views]

    @property
    def shape(self) -> tuple[int, ...]:
        """(chosen views, row, col)."""
        return (len(self._views), *self._projections.shape[1:])

    @property
    def dtype(self) -> Any:
        """That of the projections."""
        return self._projections.dtype

    def __getitem__(self, selection: Any, /) -> Any:
        """A block; the first selection is a slice of the chosen views."""
        first, *rest = selection if isinstance(selection, tuple) else (selection,)
        chosen = self._views[first]
        return self._projections[(slice(chosen.start, chosen.stop, chosen.step), *rest)]


def train_denoiser(
    scans: Sequence[Splits],
    *,
    validation: Sequence[Splits] = (),
    plan: Plan,
    checkpoints: Checkpoints | None = None,
    device: torch.device | str = "cpu",
    track: Track = untracked,
) -> tuple[SliceNetwork, Normalisation, Losses]:
    """Train a denoiser on the splits of one or more scans.

    Args:
        scans: for each scan its K sub-reconstructions, Readers (z, y, x) of one shape and unit.
        validation: the same for scans that are not trained on.
        plan: see `xrmflow.networks.training.Plan`.
        checkpoints: see `xrmflow.networks.training.train`.
        device: of the training.
        track: progress.

    Returns:
        The network, the normalisation of its inputs and outputs, and the losses.

    Raises:
        ValueError: scans of different numbers of splits, or splits of one scan of different shapes.
        SettingsError: slices too small for the network.
    """
    for splits in (*scans, *validation):
        _check_splits(splits, len(scans[0]))
    plan = fitted_plan(plan, [tuple(splits[0].shape) for splits in (*scans, *validation)])
    normalisation = Normalisation.measured(_mean_slices(scans))
    share = 0.2 if validation else 0.0
    trained, losses = train(
        fresh_network(plan, residual=False),
        _Sampler(scans, normalisation, plan, stream=TRAINING, share=1 - share),
        plan=plan,
        validate=_Sampler(validation, normalisation, plan, stream=VALIDATION, share=share) if validation else None,
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
    slices: slice = slice(None),
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
        slices: the only ones that are written, in multiples of 64.
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
        slices=slices,
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


def _mean_slices(scans: Sequence[Splits]) -> Iterator[np.ndarray]:
    """Slices of the mean of the splits, spread evenly through each scan."""
    for splits in scans:
        for k in evenly(splits[0].shape[0]):
            yield np.mean([as_float32(split[k]) for split in splits], axis=0)


class _Sampler:
    """Batches (input, target): for each patch another split is the target, the mean of the rest the input."""

    def __init__(
        self, scans: Sequence[Splits], normalisation: Normalisation, plan: Plan, *, stream: int, share: float
    ) -> None:
        def load(box: Box) -> np.ndarray:
            return np.stack([as_float32(split[box.region]) for split in scans[box.volume]])

        shapes = [tuple(splits[0].shape) for splits in scans]
        self._pool = patch_pool(shapes, load, plan, channels=len(scans[0]), share=share)
        self._normalisation, self._batch, self._stream = normalisation, plan.batch, stream

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
