"""How a reconstruction larger than memory is cut: slabs of slices, and the detector rows each of them needs."""

from dataclasses import dataclass

import numpy as np

from xrmflow.arrays import blocks, piece_bytes
from xrmflow.errors import SettingsError
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.projectors.columns import ALIGNED, MARGIN
from xrmflow.projectors.matrices import row_window
from xrmflow.projectors.resample import MIN_LENGTH

# Slab heights below the whole are multiples of this: the chunk height of volume stores, which collect as many slices
# before they write, and what keeps the bits of a voxel independent of the slab it lies in.
CHUNK = ALIGNED
# What interpreter, libraries and compiled kernels take before any array.
RUNTIME_BYTES = int(0.4e9)
# Pixels filtered at a time, and the working copies of them in units of float32 (measured).
FILTER_PIXELS, FILTER_COPIES = 2**21, 6
# Compressed copies of a piece that a store holds while it writes it.
WRITE_COPIES = 2
# Views backprojected at a time, as many as a chunk of projection stores holds: always the same, because a voxel is
# summed over them before it is added to the volume.
VIEWS_AT_ONCE = 32
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


def slabs_of(slices: slice, height: int) -> list[slice]:
    """Cut slices into slabs of at most a height."""
    start = slices.start
    return [slice(start + part.start, start + part.stop) for part in blocks(slices.stop - start, height)]


def plan_slabs(
    matrices: np.ndarray,
    grid: VolumeGrid,
    *,
    detector: tuple[int, int],
    memory_bytes: float,
    truncation_px: int = 0,
    slices: slice | None = None,
) -> SlabPlan:
    """The tallest slabs that fit, holding filtered rows between slabs if at all possible.

    Args:
        matrices: (view, 3, 4), from `voxel_to_pixel`.
        grid: what to reconstruct.
        detector: rows, columns.
        memory_bytes: what the whole process may use.
        truncation_px: columns added on each side before filtering.
        slices: those of the grid that are wanted; by default all.

    Raises:
        SettingsError: not even the thinnest slabs fit.
    """
    some = slices or slice(0, grid.shape[0])
    whole = some.stop - some.start
    heights = [whole, *range((whole - 1) // CHUNK * CHUNK, 0, -CHUNK)]
    smallest = 0
    for hold in (True, False):
        for height in heights:
            slabs = slabs_of(some, height)
            plan = _plan(matrices, grid, slabs, detector=detector, truncation_px=truncation_px, hold=hold)
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
    slabs: list[slice],
    *,
    detector: tuple[int, int],
    truncation_px: int,
    hold: bool,
) -> SlabPlan:
    rows, cols = detector
    windows = [row_window(matrices, grid, slab, rows) for slab in slabs]
    # Kernels read sixteen rows twice; which kernel it is must not depend on the window.
    tallest = max(1, min(rows, MIN_LENGTH - 2 * MARGIN), *(stop - start for start, stop in windows))
    starts = tuple(max(0, min(start, rows - tallest)) for start, _ in windows)
    views = len(matrices)
    height, at_once = slabs[0].stop - slabs[0].start, min(VIEWS_AT_ONCE, views)
    view_pixels = tallest * (cols + 2 * truncation_px)
    filter_views = max(1, min(at_once, FILTER_PIXELS // view_pixels))
    column_bytes = FLOAT * (cols + 2 * MARGIN) * (tallest + 2 * MARGIN)
    slice_bytes = FLOAT * grid.shape[1] * grid.shape[2]
    total = (
        RUNTIME_BYTES
        + column_bytes * (views if hold else at_once)
        + FLOAT * at_once * tallest * cols
        + FLOAT * FILTER_COPIES * filter_views * view_pixels
        + slice_bytes * height
        + WRITE_COPIES * min(slice_bytes * min(height, CHUNK), piece_bytes(grid.shape, FLOAT))
    )
    return SlabPlan(tuple(slabs), starts, tallest, tuple(blocks(views, at_once)), filter_views, hold, int(total))
