"""Super-resolution learned from pairs of scans of one object, at low and at high resolution.

The low-resolution volume is interpolated onto the high-resolution grid (cubic) and a residual network learns the
difference to the high-resolution volume with a squared error, in a normalisation fixed by the training volumes. An
untrained network returns the interpolation. Grids are matched by their coordinates: the high-resolution scan may cover
part of the object only, as in Hendriksen et al., Appl. Sci. 9:2445 (2019), doi 10.3390/app9122445.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xrmflow.arrays import Reader, Track, Writer, as_float32, untracked
from xrmflow.errors import SettingsError
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.networks.architectures import fresh_network
from xrmflow.networks.normalisation import Normalisation, evenly
from xrmflow.networks.patches import Box, fitted_plan, patch_pool
from xrmflow.networks.slicenet import SliceNetwork
from xrmflow.networks.tiles import Region, apply_tiled
from xrmflow.networks.training import Checkpoints, Losses, Plan, Precision, train
from xrmflow.superresolution.interpolation import Resampled, overlap, refined

LARGEST_MISMATCH = 0.01


@dataclass(frozen=True)
class Pair:
    """One object at two resolutions, in one unit and one coordinate system.

    Attributes:
        low, high: Readers (z, y, x).
        low_grid, high_grid: their grids.
    """

    low: Reader
    low_grid: VolumeGrid
    high: Reader
    high_grid: VolumeGrid

    @property
    def upsampled(self) -> Resampled:
        """The low-resolution volume on the grid of the other."""
        return Resampled(self.low, self.low_grid, self.high_grid)

    @property
    def common(self) -> Region:
        """The region of the high-resolution grid that both cover."""
        return overlap(self.low_grid, self.high_grid)


def train_superresolution(
    pairs: Sequence[Pair],
    *,
    factor: int,
    plan: Plan,
    checkpoints: Checkpoints | None = None,
    device: torch.device | str = "cpu",
    track: Track = untracked,
) -> tuple[SliceNetwork, Normalisation, Losses]:
    """Train a network that corrects the cubic interpolation of a low-resolution volume.

    Args:
        pairs: the training objects.
        factor: voxel size of the low over that of the high-resolution volumes.
        plan: see `xrmflow.networks.training.Plan`; patches and neighbours are those of the high resolution.
        checkpoints: see `xrmflow.networks.training.train`.
        device: of the training.
        track: progress.

    Returns:
        The network, the normalisation of its inputs and outputs, and the losses.

    Raises:
        SettingsError: voxel sizes do not have the ratio `factor`, or slices too small for the network.
        ValueError: the volumes of a pair do not overlap.
    """
    for pair in pairs:
        _check_factor(pair, factor)
    plan = fitted_plan(plan, [_extent(pair.common) for pair in pairs])
    normalisation = Normalisation.measured(_high_slices(pairs))
    trained, losses = train(
        fresh_network(plan, residual=True),
        _Sampler(pairs, normalisation, plan),
        plan=plan,
        checkpoints=checkpoints,
        device=device,
        track=track,
        label="sr training",
    )
    return trained, normalisation, losses


def superresolve(
    volume: Reader,
    superres: Writer,
    network: SliceNetwork,
    *,
    grid: VolumeGrid,
    factor: int,
    normalisation: Normalisation,
    tile: int = 512,
    slices: slice = slice(None),
    precision: Precision = "auto",
    device: torch.device | str = "cpu",
    track: Track = untracked,
) -> None:
    """Write the corrected interpolation of a volume on the grid `refined(grid, factor)`.

    Args:
        volume: Reader (z, y, x) in the unit of the training.
        superres: Writer (factor z, factor y, factor x).
        network: from `train_superresolution`.
        grid: of the volume.
        factor: of the training.
        normalisation: from `train_superresolution`.
        tile: edge of a tile, pixels of the output.
        slices: the only ones that are written, in multiples of 64.
        precision: of multiplications.
        device: of the network.
        track: progress.
    """
    upsampled = Resampled(volume, grid, refined(grid, factor))
    if tuple(superres.shape) != upsampled.shape:
        raise ValueError(f"superres: expected shape {upsampled.shape}, got {tuple(superres.shape)}")
    apply_tiled(
        network,
        lambda region: upsampled[region][None],
        superres,
        slices=slices,
        normalisation=normalisation,
        tile=tile,
        precision=precision,
        device=device,
        track=track,
        label="sr",
    )


def _check_factor(pair: Pair, factor: int) -> None:
    ratio = pair.low_grid.voxel_mm / pair.high_grid.voxel_mm
    if abs(ratio / factor - 1) > LARGEST_MISMATCH:
        raise SettingsError(
            f"factor: expected the ratio of the voxel sizes, {pair.low_grid.voxel_mm:g} mm over "
            f"{pair.high_grid.voxel_mm:g} mm = {ratio:.4g}, got {factor}"
        )


def _extent(region: Region) -> tuple[int, ...]:
    return tuple(part.stop - part.start for part in region)


def _high_slices(pairs: Sequence[Pair]) -> Iterator[np.ndarray]:
    """Slices of the high-resolution volumes, spread evenly through what both of a pair cover."""
    for pair in pairs:
        z, y, x = pair.common
        for k in evenly(z.stop - z.start):
            yield as_float32(pair.high[z.start + k, y, x])


class _Sampler:
    """Batches (input, target): interpolated low resolution, high resolution."""

    def __init__(self, pairs: Sequence[Pair], normalisation: Normalisation, plan: Plan) -> None:
        regions, upsampled = [pair.common for pair in pairs], [pair.upsampled for pair in pairs]

        def load(box: Box) -> np.ndarray:
            z, y, x = (
                slice(part.start + of.start, part.stop + of.start)
                for part, of in zip(box.region, regions[box.volume], strict=True)
            )
            return np.stack([upsampled[box.volume][z, y, x], as_float32(pairs[box.volume].high[z, y, x])])

        self._pool = patch_pool([_extent(region) for region in regions], load, plan, channels=2)
        self._normalisation, self._plan = normalisation, plan

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        patches = self._normalisation.apply(self._pool.draw(self._plan.batch, step=step))
        middle = self._plan.neighbours
        low, high = patches[:, 0], patches[:, 1, middle : middle + 1]
        return torch.from_numpy(np.ascontiguousarray(low)), torch.from_numpy(np.ascontiguousarray(high))
