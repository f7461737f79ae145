"""Volumes as OME-NGFF 0.5 multiscale images: coarser copies beside the data, and the attributes that describe them.

Written by hand: it is a page of attributes, and the libraries for it bring dozens of packages. Source: OME-NGFF 0.5,
https://ngff.openmicroscopy.org/0.5/.
"""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

from xrmflow.arrays import Reader, Writer, blocks
from xrmflow.geometry.grid import VolumeGrid

VERSION = "0.5"
COARSE_ENOUGH = 64
"""Levels are added until the longest edge has no more voxels than this."""
BLOCK = 64
"""Edge of the blocks of a coarser level that are made at once: the chunks of a volume store."""
UM_PER_MM = 1000.0

Add = Callable[[str, tuple[int, ...], Any], Any]
Factors = tuple[int, int, int]


def multiscale(
    data: Reader, add: Add, *, grid: VolumeGrid, calibrated: bool, labels: bool, name: str
) -> dict[str, Any]:
    """Write the coarser levels "1", "2", ... of a volume and return its attribute "ome".

    Args:
        data: the volume (z, y, x), already an array "data" of the store.
        add: makes an array of the store from name, shape and type.
        grid: the grid of the volume, mm (voxels when not calibrated).
        calibrated: whether the voxel size is known; without it axes have no unit and lengths are voxels.
        labels: whether the numbers name materials, of which there is no mean.
        name: what the image shows.
    """
    levels: list[tuple[str, Factors]] = [("data", (1, 1, 1))]
    finer, total = data, (1, 1, 1)
    while max(finer.shape) > COARSE_ENOUGH:
        step = _step(finer.shape)
        coarser = add(str(len(levels)), _halved(finer.shape, step), finer.dtype)
        halve(finer, coarser, labels=labels)
        total = (total[0] * step[0], total[1] * step[1], total[2] * step[2])
        levels.append((str(len(levels)), total))
        finer = coarser
    return _attributes(levels, grid=grid, calibrated=calibrated, labels=labels, name=name)


def halve(fine: Reader, coarse: Writer, *, labels: bool) -> None:
    """Fill a volume of half the size, block by block: means of 2x2x2 voxels, or the most frequent label of them.

    An odd last plane stands for itself twice, so nothing is cut off; an edge of one voxel stays one voxel. Of labels
    that are equally frequent the smallest is taken.

    Args:
        fine: (z, y, x).
        coarse: (z, y, x), half as many voxels along each edge, rounded up.
        labels: whether the numbers name materials.
    """
    step = _step(fine.shape)
    merge = most_frequent if labels else _mean
    for block in product(*(blocks(size, BLOCK) for size in coarse.shape)):
        window = tuple(slice(b.start * s, b.stop * s) for b, s in zip(block, step, strict=True))
        coarse[block] = merge(_parts(np.asarray(fine[window]), step))


def most_frequent(parts: np.ndarray) -> np.ndarray:
    """The most frequent value along the first axis; of equally frequent ones the smallest."""
    values = np.unique(parts)
    counts = np.stack([(parts == value).sum(axis=0, dtype=np.uint8) for value in values])
    return values[counts.argmax(axis=0)]


def _mean(parts: np.ndarray) -> np.ndarray:
    return parts.mean(axis=0, dtype=np.float64).astype(parts.dtype)


def _parts(block: np.ndarray, step: Factors) -> np.ndarray:
    """The voxels that become one, along a new first axis; an odd last plane is repeated."""
    padded = np.pad(block, [(0, -size % s) for size, s in zip(block.shape, step, strict=True)], mode="edge")
    starts = product(*(range(s) for s in step))
    return np.stack([padded[z :: step[0], y :: step[1], x :: step[2]] for z, y, x in starts])


def _step(shape: tuple[int, ...]) -> Factors:
    z, y, x = (2 if size > 1 else 1 for size in shape)
    return z, y, x


def _halved(shape: tuple[int, ...], step: Factors) -> tuple[int, ...]:
    return tuple(-(-size // s) for size, s in zip(shape, step, strict=True))


def _attributes(
    levels: list[tuple[str, Factors]], *, grid: VolumeGrid, calibrated: bool, labels: bool, name: str
) -> dict[str, Any]:
    """The attribute "ome": axes, and for each level its voxel size and the centre of its first voxel."""
    unit = {"unit": "micrometer"} if calibrated else {}
    way = {"description": "most frequent of 2x2x2 voxels" if labels else "mean of 2x2x2 voxels"}
    image = {
        "name": name,
        "axes": [{"name": axis, "type": "space", **unit} for axis in "zyx"],
        "datasets": [
            {"path": path, "coordinateTransformations": _placement(grid, factors, UM_PER_MM if calibrated else 1.0)}
            for path, factors in levels
        ],
        "type": "mode" if labels else "mean",
        "metadata": way,
    }
    return {"version": VERSION, "multiscales": [image]}


def _placement(grid: VolumeGrid, factors: Factors, length: float) -> list[dict[str, Any]]:
    """Scale and translation along (z, y, x): voxels that were merged are centred between those they stand for."""
    first = grid.first_voxel_mm[::-1]
    scale = [grid.voxel_mm * length * factor for factor in factors]
    translation = [
        (start + grid.voxel_mm * (factor - 1) / 2) * length for start, factor in zip(first, factors, strict=True)
    ]
    return [{"type": "scale", "scale": scale}, {"type": "translation", "translation": translation}]
