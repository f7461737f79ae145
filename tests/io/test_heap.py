"""Threads of a stage share one heap."""

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys, threading
from xrmflow.io.heap import share_heap
if sys.argv[1] == "shared":
    share_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(4)

def work():
    libc.malloc(1000)
    together.wait()

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


def heaps(which):
    command = [sys.executable, "-c", PROGRAM, which]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.count("<heap nr")


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_threads_share_a_heap_that_they_would_not_share_by_default():
    assert heaps("shared") == 1
    assert heaps("as it is") > 1
