"""Volumes larger than memory: where intermediate ones lie, and how much is looked at at a time.

Everything here runs over slabs of slices with as many slices around them as an operation looks at, so that results do
not depend on where a volume is cut. Whole volumes (z, y, x) are arrays that may be mapped from a disk.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from xrmflow.arrays import InMemory, Reader, Scratch, Writer, blocks

SLAB_VOXELS = 2**22
"""More at a time makes nothing faster, as long as it is many slices."""
MANY_SLICES = 32
CHUNK = 64
"""Edge of a chunk in a store."""


@dataclass(frozen=True)
class Slab:
    """Some slices of a volume.

    Attributes:
        core: their range.
        slices: of the whole volume.
    """

    core: slice
    slices: int

    def around(self, halo: int) -> slice:
        """The slices and `halo` more on either side, as far as there are any."""
        return slice(max(self.core.start - halo, 0), min(self.core.stop + halo, self.slices))

    def inner(self, halo: int) -> slice:
        """The slices themselves, as indices of what `around` gives."""
        start = self.core.start - self.around(halo).start
        return slice(start, start + self.core.stop - self.core.start)


def usual_slab(shape: tuple[int, ...]) -> int:
    """Voxels of a slab where memory allows it."""
    return max(SLAB_VOXELS, MANY_SLICES * math.prod(shape[1:]))


@dataclass(frozen=True)
class Needs:
    """Memory that arrays take in work on a volume, at its peak, and the disk where it works from there.

    Attributes:
        volume_bytes: for each voxel of the volume.
        slab_bytes: while a slab is worked on, for each of its voxels.
        halo_bytes: for what lies around it, for each voxel of a slice.
        disk_bytes: of files, for each voxel of the volume, where whole volumes do not fit into memory: less than
            `volume_bytes`, because phases that run side by side in memory then take turns.
    """

    volume_bytes: float
    slab_bytes: float
    halo_bytes: float
    disk_bytes: float = 0.0

    def fit(self, shape: tuple[int, ...], memory_gb: float) -> bool:
        """Whether whole volumes fit into an amount of memory, 1e9 bytes, beside a slab of the usual size."""
        voxels = min(usual_slab(shape), math.prod(shape))
        return self.slab_voxels(shape, memory_gb, on_disk=False) >= voxels

    def slab_voxels(self, shape: tuple[int, ...], memory_gb: float, *, on_disk: bool) -> float:
        """Of the slabs that fit into an amount of memory, 1e9 bytes, beside all the rest.

        Args:
            shape: of the volume.
            memory_gb: for arrays.
            on_disk: whether those of the whole volume lie on a disk.
        """
        held = 0.0 if on_disk else self.volume_bytes * math.prod(shape)
        rest = held + self.halo_bytes * math.prod(shape[1:])
        return (1e9 * memory_gb - rest) / self.slab_bytes

    def least_gb(self, shape: tuple[int, ...]) -> float:
        """What slabs of one slice take, 1e9 bytes."""
        return (self.halo_bytes + self.slab_bytes) * math.prod(shape[1:]) / 1e9


@dataclass(frozen=True)
class Workspace:
    """Where whole volumes of intermediate results lie, and how many voxels are worked on at a time.

    Attributes:
        scratch: makes arrays.
        slab_voxels: of a slab; at least one slice is taken.
    """

    scratch: Scratch = field(default_factory=InMemory)
    slab_voxels: float = SLAB_VOXELS

    def array(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """A volume of zeros."""
        return self.scratch.array(shape, dtype)

    def slabs(self, shape: tuple[int, ...]) -> Iterator[Slab]:
        """The slabs of a volume, from the lowest; memory for a slab is given back before the next."""
        for core in self.cores(shape):
            yield Slab(core, shape[0])
            self.scratch.release()

    def cores(self, shape: tuple[int, ...]) -> list[slice]:
        """The ranges of their slices."""
        return blocks(shape[0], int(max(self.slab_voxels // math.prod(shape[1:]), 1)))


def summed(parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[float, int]:
    """Sum and number of values in a mask, slice by slice: rounded in the same way wherever a volume is cut.

    Args:
        parts: values (z, y, x) and masks of consecutive slices.
    """
    total, count = 0.0, 0
    for values, mask in parts:
        for one, kept in zip(values, mask, strict=True):
            found = one[kept]
            total, count = total + float(found.sum(dtype=np.float64)), count + found.size
    return total, count


def loaded(source: Reader, dtype: type, *, work: Workspace) -> np.ndarray:
    """Copy a volume from where it lies, chunk by chunk, so that none is read twice."""
    array = work.array(source.shape, dtype)
    for z, y in product(blocks(source.shape[0], CHUNK), blocks(source.shape[1], CHUNK)):
        array[z, y] = source[z, y]
        work.scratch.release()
    return array


def written(array: np.ndarray, target: Writer, *, work: Workspace) -> None:
    """Copy a volume to where it stays, in pieces as high as its chunks."""
    for z in blocks(len(array), CHUNK):
        target[z] = array[z]
        work.scratch.release()


WHOLE = Workspace()
"""For volumes that fit into memory."""
