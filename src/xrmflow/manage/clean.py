"""Remove what earlier runs left behind: chunks of stores that are no longer complete, temporary folders."""

import shutil
from pathlib import Path

from xrmflow.errors import StoreError
from xrmflow.io.manifest import MANIFEST
from xrmflow.io.locks import lock


def run(results: Path) -> str:
    """Remove leftovers below a results folder: stores without a manifest, temporary folders. Complete stores stay.

    Args:
        results: the results folder of a run.
    """
    removed = sweep(results)
    return "\n".join([*(f"removed {folder}" for folder in removed), f"{len(removed)} leftovers removed"])


def sweep(results: Path) -> list[Path]:
    """Remove every store folder below `results` that has no manifest and that nobody is writing; returns what was removed."""
    return [folder for folder in sorted(results.glob("**/*.zarr")) if _is_leftover(folder) and _remove(folder)]


def _is_leftover(folder: Path) -> bool:
    inside_store = any(parent.suffix == ".zarr" for parent in folder.parents)
    return folder.is_dir() and not inside_store and not (folder / MANIFEST).exists()


def _remove(folder: Path) -> bool:
    """Remove under the store's lock: whoever writes it holds that until the new store is in place."""
    try:
        with lock(folder):
            if not _is_leftover(folder):
                return False
            shutil.rmtree(folder, ignore_errors=True)
            return True
    except (StoreError, OSError):
        return False
