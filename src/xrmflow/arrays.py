"""What numerics see of anything larger than memory, and how long loops report progress.

A `Reader` or `Writer` is whatever slices like an array: a numpy array, a zarr array, a vendor file opened lazily.
Numerics ask for blocks of it and never know where the block comes from.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

T = TypeVar("T")
# Bytes of the pieces that volumes are written in: `PIECES` of them, if that keeps within these bounds.
LEAST_PIECE, MOST_PIECE, PIECES = 2**26, 2**28, 128
Already = Literal["counts", "transmission", "line_integral"]
"""What the recorded numbers of a scan are: a vendor may have done some of the corrections."""


class Reader(Protocol):
    """Sliced reading: `reader[10:20]` is a numpy array of the selected block."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __getitem__(self, selection: Any, /) -> Any: ...


class Writer(Protocol):
    """Sliced writing: `writer[10:20] = block` stores a numpy array."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __setitem__(self, selection: Any, value: Any, /) -> None: ...


class Track(Protocol):
    """Wraps an iterable and shows how far the loop over it has come, as `rich.progress.track` does."""

    def __call__(self, items: Iterable[T], *, total: int | None = None, label: str = "") -> Iterator[T]: ...


class Scratch(Protocol):
    """Makes the arrays of intermediate results, which may lie on a disk; each is gone when nothing refers to it."""

    def array(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array of zeros."""
        ...

    def release(self) -> None:
        """Say that what has been looked at so far need not stay in memory."""
        ...


class InMemory:
    """The `Scratch` of what fits into memory."""

    def array(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array of zeros."""
        return np.zeros(shape, dtype)

    def release(self) -> None:
        """Nothing to do: what is in memory stays there."""


def untracked(items: Iterable[T], *, total: int | None = None, label: str = "") -> Iterator[T]:
    """Show nothing: the default `Track`, for tests and library use."""
    del total, label
    return iter(items)


def blocks(length: int, size: int) -> list[slice]:
    """Cut `range(length)` into consecutive slices of at most `size`.

    >>> blocks(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    if size < 1:
        raise ValueError(f"size: expected at least 1, got {size}")
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def piece_bytes(shape: tuple[int, ...], itemsize: int) -> int:
    """The most that a store of few files compresses and writes at a time, before compression.

    Args:
        shape: (z, y, x) of the volume.
        itemsize: bytes of a voxel.
    """
    return min(max(math.prod(shape) * itemsize // PIECES, LEAST_PIECE), MOST_PIECE)


def as_float32(block: Any) -> np.ndarray:
    """Read a block as C-contiguous float32."""
    return np.ascontiguousarray(block, dtype=np.float32)


def as_finite_float32(block: Any) -> np.ndarray:
    """Likewise of projections that a geometry is fitted to; raises ValueError where some of them are no numbers."""
    values = as_float32(block)
    broken = values.size - int(np.count_nonzero(np.isfinite(values)))
    if broken:
        raise ValueError(f"projections: expected finite numbers, got {broken} that are not")
    return values
