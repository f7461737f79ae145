"""Exact medians and percentiles of more values than memory holds.

The bits of a float32 order as an integer does. A first pass over the values counts them by the upper 16 bits, a second
one counts those that share the upper bits with what is looked for by the lower 16.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numba import njit

Parts = Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]]
"""Gives the values, part by part, anew each time: float32 arrays, each with a mask of those that count."""
HALF = 1 << 16


def median(parts: Parts, *, least: int = 1) -> float | None:
    """Median; None when there are fewer than `least` values."""
    upper = _upper_counts(parts)
    count = int(upper.sum())
    if count < max(least, 1):
        return None
    middle = _at_ranks(parts, upper, [(count - 1) // 2, count // 2])
    return float(middle.mean())


def percentiles(parts: Parts, percents: Sequence[float]) -> list[float]:
    """Percentiles with linear interpolation between neighbours in rank."""
    upper = _upper_counts(parts)
    places = [percent / 100 * (int(upper.sum()) - 1) for percent in percents]
    ranks = [rank for place in places for rank in (int(np.floor(place)), int(np.ceil(place)))]
    low, high = _at_ranks(parts, upper, ranks).astype(np.float64).reshape(-1, 2).T
    return [float(a + (b - a) * (place % 1)) for a, b, place in zip(low, high, places, strict=True)]


def _upper_counts(parts: Parts) -> np.ndarray:
    """How many values have each upper half of their key."""
    counts = np.zeros(HALF, np.int64)
    for values, mask in parts():
        _count_upper(_bits(values), mask.reshape(-1), counts)
    return counts


def _at_ranks(parts: Parts, upper: np.ndarray, ranks: list[int]) -> np.ndarray:
    """Values by their rank from 0: float32."""
    before = np.concatenate([[0], np.cumsum(upper)])
    halves = np.searchsorted(before, ranks, side="right") - 1
    kept, row_of = np.unique(halves, return_inverse=True)
    row = np.full(HALF, -1, np.int64)
    row[kept] = np.arange(kept.size)
    lower = np.zeros((kept.size, HALF), np.int64)
    for values, mask in parts():
        _count_lower(_bits(values), mask.reshape(-1), row, lower)
    within = np.cumsum(lower, axis=1)
    lows = [
        int(np.searchsorted(within[n], rank - before[half], side="right"))
        for n, rank, half in zip(row_of, ranks, halves, strict=True)
    ]
    keys = halves.astype(np.int64) * HALF + lows
    bits = np.where(keys >= 2**31, keys - 2**31, 2**32 - 1 - keys)
    return bits.astype(np.uint32).view(np.float32)


def _bits(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=np.float32).reshape(-1).view(np.uint32)


@njit(cache=True)
def _key(bits):
    """An integer that orders as the float does."""
    bits = np.int64(bits)
    return 4294967295 - bits if bits >= 2147483648 else bits + 2147483648


@njit(cache=True, nogil=True)
def _count_upper(bits, mask, counts):
    for i in range(bits.size):
        if mask[i]:
            counts[_key(bits[i]) >> 16] += 1


@njit(cache=True, nogil=True)
def _count_lower(bits, mask, row, counts):
    for i in range(bits.size):
        if mask[i]:
            key = _key(bits[i])
            n = row[key >> 16]
            if n >= 0:
                counts[n, key & 65535] += 1
