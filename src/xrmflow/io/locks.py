"""A lock a store, freed by the system when its holder dies.

The lock is `flock`: it holds between machines on NFS 4, and on Lustre and BeeGFS where they are mounted with global
locks. Its file says who holds it.
"""

import fcntl
import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from xrmflow.errors import StoreError

SECONDS_BETWEEN_LINES = 60.0
SECONDS_BETWEEN_TRIES = 0.5

logger = logging.getLogger(__name__)


@contextmanager
def lock(folder: Path, *, wait_s: float | None = None) -> Iterator[None]:
    """Hold the lock of a store, so that a job left over from a killed run cannot write beside its successor.

    Args:
        folder: the store.
        wait_s: how long to wait for another holder; None takes XRMFLOW_LOCK_WAIT_S, which the workflow sets for its
            jobs, and else does not wait.

    Raises:
        StoreError: another process holds it.
    """
    wait_s = float(os.environ.get("XRMFLOW_LOCK_WAIT_S", 0)) if wait_s is None else wait_s
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("a+") as file:
        _acquire(file, folder, wait_s)
        file.truncate(0)
        file.write(f"{_holder()}\n")
        file.flush()
        yield


def _acquire(file: TextIO, folder: Path, wait_s: float) -> None:
    begin, said = time.monotonic(), -SECONDS_BETWEEN_LINES
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = time.monotonic() - begin
        if waited >= wait_s:
            raise StoreError(
                f"{folder}: another process is writing this store ({_named(file)}); wait for it or end it"
            ) from None
        if waited - said >= SECONDS_BETWEEN_LINES:
            logger.info("%s: waiting for another process that is writing it (%s)", folder, _named(file))
            said = waited
        time.sleep(SECONDS_BETWEEN_TRIES)


def _holder() -> str:
    job = os.environ.get("SLURM_JOB_ID")
    return f"process {os.getpid()} on {platform.node()}" + (f", cluster job {job}" if job else "")


def _named(file: TextIO) -> str:
    file.seek(0)
    return file.read(200).strip() or "unknown"
