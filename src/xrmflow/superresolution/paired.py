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
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.networks.architectures import build
from xrmflow.networks.normalisation import Normalisation, evenly
from xrmflow.networks.patches import Box, PatchPool, cut_boxes, usable_neighbours, usable_patch
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
    features: int = 16,
    levels: int = 2,
    neighbours: int = 1,
    batch: int = 8,
    patch: int = 64,
    seed: int = 0,
    memory_gb: float = 4.0,
    checkpoints: Checkpoints | None = None,
    device: torch.device | str = "cpu",
    track: Track = untracked,
) -> tuple[SliceNetwork, Normalisation, Losses]:
    """Train a network that corrects the cubic interpolation of a low-resolution volume.

    Args:
        pairs: the training objects.
        factor: voxel size of the low over that of the high-resolution volumes.
        plan: see `xrmflow.networks.training.Plan`.
        features: features of the U-Net.
        levels: halvings of the U-Net.
        neighbours: slices on each side as further input; 0 where a volume has too few slices.
        batch: patches in a step.
        patch: edge of a patch, pixels of the high resolution.
        seed: decides initial weights and patches.
        memory_gb: allowance for training volumes held in memory, 1e9 bytes.
        checkpoints: see `xrmflow.networks.training.train`.
        device: of the training.
        track: progress.

    Returns:
        The network, the normalisation of its inputs and outputs, and the losses.

    Raises:
        ValueError: voxel sizes do not have the ratio `factor`, or the volumes do not overlap or are too small.
    """
    for pair in pairs:
        _check_factor(pair, factor)
    shapes = [_extent(pair.common) for pair in pairs]
    neighbours, patch = usable_neighbours(neighbours, shapes), usable_patch(patch, shapes, multiple=2**levels)
    normalisation = Normalisation.measured(_high_slices(pairs))
    pool = _pair_pool(pairs, patch=patch, neighbours=neighbours, seed=seed, memory_gb=memory_gb)
    torch.manual_seed(seed)
    network = build("unet", {"channels": 2 * neighbours + 1, "features": features, "levels": levels})

    def draw(step: int) -> tuple[Tensor, Tensor]:
        low, high = np.moveaxis(normalisation.apply(pool.draw(batch, step=step)), 1, 0)
        target = high[:, neighbours : neighbours + 1]
        return torch.from_numpy(np.ascontiguousarray(low)), torch.from_numpy(np.ascontiguousarray(target))

    trained, losses = train(
        network, draw, plan=plan, checkpoints=checkpoints, device=device, track=track, label="sr training"
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
        raise ValueError(
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


def _pair_pool(pairs: Sequence[Pair], *, patch: int, neighbours: int, seed: int, memory_gb: float) -> PatchPool:
    """Patches with two channels: interpolated low resolution, high resolution."""
    regions, upsampled = [pair.common for pair in pairs], [pair.upsampled for pair in pairs]
    boxes = cut_boxes([_extent(region) for region in regions], voxel_bytes=8, memory_bytes=memory_gb * 1e9)

    def load(box: Box) -> np.ndarray:
        z, y, x = (
            slice(part.start + of.start, part.stop + of.start)
            for part, of in zip(box.region, regions[box.volume], strict=True)
        )
        return np.stack([upsampled[box.volume][z, y, x], as_float32(pairs[box.volume].high[z, y, x])])

    resident = int(memory_gb * 1e9 / (8 * max(box.voxels for box in boxes)))
    return PatchPool(boxes, load, patch=patch, neighbours=neighbours, seed=seed, resident=resident)
