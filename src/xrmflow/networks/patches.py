"""Random training patches out of volumes that may be larger than memory.

The volumes are cut into boxes. As many boxes as the memory allowance holds are resident; where that is not all of them,
the resident ones are drawn anew every `refresh_steps`. Which boxes, and which patches out of them, depends on the seed
and the number of the step alone, so that training resumed at step n sees what uninterrupted training sees.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from xrmflow.arrays import blocks
from xrmflow.errors import SettingsError
from xrmflow.networks.training import Plan

BOX = (64, 256, 256)


@dataclass(frozen=True)
class Box:
    """A box (z, y, x) of one of several volumes."""

    volume: int
    region: tuple[slice, slice, slice]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along z, y, x."""
        z, y, x = (axis.stop - axis.start for axis in self.region)
        return z, y, x

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return int(np.prod(self.shape))


def cut_boxes(shapes: Sequence[tuple[int, ...]], *, voxel_bytes: int, memory_bytes: float) -> list[Box]:
    """One box a volume where all volumes fit the allowance together, else boxes of at most 64 x 256 x 256.

    Args:
        shapes: (z, y, x) of each volume.
        voxel_bytes: what a voxel of a loaded box takes.
        memory_bytes: allowance for resident boxes.
    """
    whole = sum(float(np.prod(shape)) for shape in shapes) * voxel_bytes <= memory_bytes
    sizes = [tuple(shape) if whole else BOX for shape in shapes]
    return [
        Box(volume, (z, y, x))
        for volume, (shape, size) in enumerate(zip(shapes, sizes, strict=True))
        for z in blocks(shape[0], size[0])
        for y in blocks(shape[1], size[1])
        for x in blocks(shape[2], size[2])
    ]


def fitted_plan(plan: Plan, shapes: Sequence[tuple[int, ...]]) -> Plan:
    """The plan with a patch that fits every slice, and only as many neighbours as every volume has around a slice.

    Args:
        plan: as asked for.
        shapes: (z, y, x) of all volumes.

    Raises:
        SettingsError: slices smaller than the pooling factor 2^levels.
    """
    multiple, smallest = 2**plan.levels, min(min(shape[1:]) for shape in shapes)
    patch = min(plan.patch_px, smallest) // multiple * multiple
    if patch < 1:
        raise SettingsError(
            f"levels: expected 2^levels to be at most the patch and the slice, {min(plan.patch_px, smallest)} pixels, "
            f"got {multiple}; lower levels"
        )
    neighbours = min(plan.neighbours, *((shape[0] - 1) // 2 for shape in shapes))
    return replace(plan, patch_px=patch, neighbours=neighbours)


def patch_pool(
    shapes: Sequence[tuple[int, ...]],
    load: Callable[[Box], np.ndarray],
    plan: Plan,
    *,
    channels: int,
    share: float = 1.0,
) -> "PatchPool":
    """The pool of a plan.

    Args:
        shapes: (z, y, x) of each volume.
        load: reads a box as float32 (channel, z, y, x).
        plan: see `xrmflow.networks.training.Plan`.
        channels: of a loaded box.
        share: of the plan's memory.
    """
    voxel_bytes, memory_bytes = 4 * channels, share * plan.memory_gb * 1e9
    boxes = cut_boxes(shapes, voxel_bytes=voxel_bytes, memory_bytes=memory_bytes)
    resident = int(memory_bytes / (voxel_bytes * max(box.voxels for box in boxes)))
    return PatchPool(
        boxes,
        load,
        patch=plan.patch_px,
        neighbours=plan.neighbours,
        seed=plan.seed,
        resident=len(boxes) if len(boxes) == len(shapes) else resident,
    )


class PatchPool:
    """Draws patches of (channel, 2 neighbours + 1, patch, patch) from resident boxes.

    Args:
        boxes: from `cut_boxes`.
        load: reads a box as float32 (channel, z, y, x).
        patch: edge of a patch, pixels.
        neighbours: slices on each side of the middle one.
        seed: decides all draws.
        resident: how many boxes are held at once.
        refresh_steps: after how many steps other boxes are loaded, where not all are resident.

    Raises:
        ValueError: no box is large enough for a patch.
    """

    def __init__(
        self,
        boxes: Sequence[Box],
        load: Callable[[Box], np.ndarray],
        *,
        patch: int,
        neighbours: int,
        seed: int,
        resident: int,
        refresh_steps: int = 500,
    ) -> None:
        size = np.array([2 * neighbours + 1, patch, patch])
        self._boxes = [box for box in boxes if (np.array(box.shape) >= size).all()]
        if not self._boxes:
            largest = max((box.shape for box in boxes), default=(0, 0, 0))
            raise ValueError(f"patch: expected volumes of at least {tuple(size.tolist())} voxels, got {largest}")
        self._load, self._size, self._seed = load, size, seed
        self._resident, self._refresh_steps = max(1, resident), refresh_steps
        self._epoch, self._held = -1, list[np.ndarray]()

    def draw(self, count: int, *, step: int, stream: int = 0) -> np.ndarray:
        """Patches (count, channel, 2 neighbours + 1, patch, patch), randomly turned and mirrored.

        Args:
            count: how many.
            step: number of the training step.
            stream: keeps apart draws of the same step (training, validation).
        """
        self._hold(step)
        rng = np.random.default_rng([self._seed, stream, step])
        weights = np.array([np.prod(held.shape[1:]) for held in self._held], dtype=float)
        chosen = rng.choice(len(self._held), size=count, p=weights / weights.sum())
        return np.stack([self._crop(self._held[i], rng) for i in chosen])

    def _hold(self, step: int) -> None:
        """Load the boxes of this step's epoch."""
        everything = len(self._boxes) <= self._resident
        epoch = 0 if everything else step // self._refresh_steps
        if epoch == self._epoch:
            return
        order = np.arange(len(self._boxes))
        if not everything:
            order = np.random.default_rng([self._seed, epoch]).permutation(len(self._boxes))[: self._resident]
        self._held.clear()
        self._held.extend(self._load(self._boxes[i]) for i in order)
        self._epoch = epoch

    def _crop(self, held: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One patch: turned by a multiple of 90 degrees, mirrored along x and z."""
        start = rng.integers(np.array(held.shape[1:]) - self._size, endpoint=True)
        z, y, x = (slice(a, a + n) for a, n in zip(start, self._size, strict=True))
        patch = np.rot90(held[:, z, y, x], int(rng.integers(4)), axes=(2, 3))
        if rng.integers(2):
            patch = patch[..., ::-1]
        return patch[:, ::-1] if rng.integers(2) else patch
