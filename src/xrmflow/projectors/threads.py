"""Kernels that release the interpreter lock, spread over threads by pieces of their output.

Threads rather than numba's own parallel loops: they compile in a fraction of the time, cannot collide with other
users of the threading layer, and since every piece of output belongs to one call, the result never depends on their
number.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch


def in_pieces(work: Callable[[int, int], None], length: int, *, size: int = 1) -> None:
    """Call `work(start, stop)` for consecutive pieces of `range(length)`, on as many threads as torch may use.

    Args:
        work: fills the part start <= index < stop of its output; must release the lock to gain anything.
        length: what to cut.
        size: indices in a piece.
    """
    starts = range(0, length, size)
    threads = min(torch.get_num_threads(), len(starts))
    if threads < 2:
        for start in starts:
            work(start, min(start + size, length))
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, start, min(start + size, length)) for start in starts]:
            done.result()
