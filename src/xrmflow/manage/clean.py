"""Remove what earlier runs left behind: chunks of stores that are no longer complete, temporary folders."""

import os
import shutil
from pathlib import Path

from xrmflow.errors import StoreError
from xrmflow.io.locks import lock
from xrmflow.io.manifest import MANIFEST


def run(results: Path) -> str:
    """Remove leftovers below a results folder: stores without a manifest, temporary folders. Complete stores stay.

    Args:
        results: the results folder of a run.
    """
    removed = sweep(results)
    return "\n".join([*(f"removed {folder}" for folder in removed), f"{len(removed)} leftovers removed"])


def sweep(results: Path) -> list[Path]:
    """Remove every store folder below `results` that has no manifest and that nobody is writing; returns those."""
    return [folder for folder in _stores(results) if not (folder / MANIFEST).exists() and _remove(folder)]


def _stores(results: Path) -> list[Path]:
    """Store folders below a folder, without walking into their chunks."""
    found = []
    for parent, folders, _ in os.walk(results):
        found += [Path(parent, name) for name in folders if name.endswith(".zarr") and not name.startswith(".")]
        folders[:] = [name for name in folders if not name.endswith(".zarr") and ".zarr.tmp-" not in name]
    return sorted(found)


def _remove(folder: Path) -> bool:
    """Remove under the store's lock: whoever writes it holds that until the new store is in place."""
    try:
        with lock(folder):
            if (folder / MANIFEST).exists():
                return False
            shutil.rmtree(folder, ignore_errors=True)
            return True
    except (StoreError, OSError):
        return False
