"""How the process takes memory from the system."""

import ctypes
import sys

ARENA_MAX = -8  # M_ARENA_MAX of glibc's malloc.h


def share_heap() -> None:
    """Let all threads allocate from one heap, called before any are started; only glibc has others.

    By default each thread keeps a heap of its own, and what one has freed no other uses: threads that compress chunks
    left 0.1 GB beyond what was planned (measured on a reconstruction within 0.7 GB), at the same speed.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(ARENA_MAX, 1)
