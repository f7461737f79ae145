"""How a reconstruction larger than memory is cut: slabs of slices, and the detector rows each of them needs."""

import itertools
from dataclasses import dataclass

import numpy as np

from xrmflow.arrays import blocks
from xrmflow.errors import SettingsError
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.projectors.columns import MARGIN
from xrmflow.projectors.matrices import row_window

# Slab heights to choose from below the whole: multiples of the chunk height of volume stores, then what memory leaves.
CHUNK = 64
SMALL = (32, 16, 8, 4, 2, 1)
# What interpreter, libraries and compiled kernels take before any array.
RUNTIME_BYTES = int(0.4e9)
# Pixels filtered at a time, and the working copies of them in units of float32 (measured).
FILTER_PIXELS, FILTER_COPIES = 2**21, 6
# Views backprojected at a time; as many as a chunk of projection stores holds, fewer where memory is scarce.
VIEWS_AT_ONCE = (32, 8, 1)
FLOAT = 4


@dataclass(frozen=True)
class SlabPlan:
    """What will be done.

    Attributes:
        slabs: slices along z, in order.
        starts: first detector row of each slab's window.
        height: rows in every window.
        views: slices of views that are read and backprojected at a time.
        filter_views: views among them that are filtered at a time.
        hold: whether windows of all views stay in memory, so that each row is filtered once.
        total_bytes: peak memory, the program itself included.
    """

    slabs: tuple[slice, ...]
    starts: tuple[int, ...]
    height: int
    views: tuple[slice, ...]
    filter_views: int
    hold: bool
    total_bytes: int

    @property
    def steps(self) -> list[tuple[int, slice]]:
        """Every (slab number, views) to be done, in order."""
        return [(number, views) for number in range(len(self.slabs)) for views in self.views]

    def window(self, number: int) -> slice:
        """Detector rows of a slab."""
        return slice(self.starts[number], self.starts[number] + self.height)

    @property
    def rows_filtered(self) -> int:
        """Detector rows filtered, counting repeats."""
        if not self.hold:
            return self.height * len(self.starts)
        moves = np.abs(np.diff(self.starts))
        return self.height + int(np.minimum(moves, self.height).sum())


def plan_slabs(
    matrices: np.ndarray, grid: VolumeGrid, *, detector: tuple[int, int], memory_bytes: float, truncation_px: int = 0
) -> SlabPlan:
    """The tallest slabs that fit, holding filtered rows between slabs if at all possible.

    Args:
        matrices: (view, 3, 4), from `voxel_to_pixel`.
        grid: what to reconstruct.
        detector: rows, columns.
        memory_bytes: what the whole process may use.
        truncation_px: columns added on each side before filtering.

    Raises:
        SettingsError: not even single slices fit.
    """
    heights = [grid.shape[0], *range((grid.shape[0] - 1) // CHUNK * CHUNK, 0, -CHUNK), *SMALL]
    smallest = 0
    for hold, at_once in itertools.product((True, False), VIEWS_AT_ONCE):
        for height in (h for h in heights if h <= grid.shape[0]):
            if hold and height < min(SMALL[1], grid.shape[0]):
                continue
            plan = _plan(
                matrices, grid, height, detector=detector, truncation_px=truncation_px, hold=hold, at_once=at_once
            )
            if plan.total_bytes <= memory_bytes:
                return plan
            smallest = plan.total_bytes
    needed, given = smallest / 1e9, memory_bytes / 1e9
    raise SettingsError(
        f"fdk.memory_gb: expected at least {needed:.2f} for this scan and grid, got {given:.2f}; "
        "allow more, or reconstruct fewer or larger voxels"
    )


def _plan(
    matrices: np.ndarray,
    grid: VolumeGrid,
    height: int,
    *,
    detector: tuple[int, int],
    truncation_px: int,
    hold: bool,
    at_once: int,
) -> SlabPlan:
    rows, cols = detector
    slabs = blocks(grid.shape[0], height)
    windows = [row_window(matrices, grid, slab, rows) for slab in slabs]
    tallest = max(1, *(stop - start for start, stop in windows))
    starts = tuple(max(0, min(start, rows - tallest)) for start, _ in windows)
    views = len(matrices)
    at_once = min(at_once, views)
    view_pixels = tallest * (cols + 2 * truncation_px)
    filter_views = max(1, min(at_once, FILTER_PIXELS // view_pixels))
    column_bytes = FLOAT * (cols + 2 * MARGIN) * (tallest + 2 * MARGIN)
    slice_bytes = FLOAT * grid.shape[1] * grid.shape[2]
    total = (
        RUNTIME_BYTES
        + column_bytes * (views if hold else at_once)
        + FLOAT * at_once * tallest * cols
        + FLOAT * FILTER_COPIES * filter_views * view_pixels
        + slice_bytes * (height + min(height, CHUNK))
    )
    return SlabPlan(tuple(slabs), starts, tallest, tuple(blocks(views, at_once)), filter_views, hold, int(total))
