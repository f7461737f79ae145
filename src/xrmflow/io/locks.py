"""A lock a store, freed by the system when its holder dies."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xrmflow.errors import StoreError


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a store, so that a job left over from a killed run cannot write beside its successor.

    Raises:
        StoreError: another process holds it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(f"{folder}: another process is writing this store; wait for it or end it") from None
        yield
