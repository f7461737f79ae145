"""Remove what earlier runs left behind: chunks of stores that are no longer complete, temporary folders and files."""

import re
import shutil
import time
from pathlib import Path

from xrmflow.errors import StoreError
from xrmflow.io.locks import lock
from xrmflow.io.manifest import MANIFEST

# Where stages keep stores, from the results folder. Nothing else is ever touched, whoever put it there.
NAMES = ("raw", "projections", "volume", "iterative", "denoised", "superres")
STORES = (*(f"*/{name}.zarr" for name in NAMES), "*/*/*.zarr")
FOLDERS = ("splits", "bone", "parts")
TEMPORARY = re.compile(r"\.(?P<store>[^/]+\.zarr)\.(tmp|old)-\d+")
# Of documents, tables, weights and reports, which have no lock: none is written for as long as this.
TEMPORARY_FILE = re.compile(r"\..+\.(json|csv|tsv|npz|html|safetensors|sha256)\.tmp-\d+")
WRITTEN_S = 3600


def run(results: Path) -> str:
    """Remove leftovers of killed runs: stores without a manifest, temporary folders and files. Complete stores stay.

    Args:
        results: the results folder of a run, or its folder of models.
    """
    if not results.is_dir():
        raise StoreError(f"{results}: no such folder; name the folder of the results of a run")
    removed = sweep(results) + sweep_files(results)
    return "\n".join([*(f"removed {folder}" for folder in removed), f"{len(removed)} leftovers removed"])


def sweep(results: Path) -> list[Path]:
    """Remove the leftovers of stages below `results` that nobody is writing; returns what was removed."""
    stores = [store for store in _stores(results) if not (store / MANIFEST).exists()]
    removed = [store for store in stores if _remove(store, store)]
    return removed + [folder for folder, store in _temporary(results) if _remove(folder, store)]


def sweep_files(results: Path) -> list[Path]:
    """Remove the temporary files below `results` or models that nobody can be writing; returns what was removed."""
    found = {*results.glob(".*.tmp-*"), *results.glob("*/.*.tmp-*"), *results.glob("*/*/.*.tmp-*")}
    return [file for file in sorted(found) if TEMPORARY_FILE.fullmatch(file.name) and _remove_file(file)]


def forget_parts(results: Path) -> None:
    """Remove the parts of volumes that are whole by now, of whatever size they were."""
    for folder in results.glob("*/parts"):
        shutil.rmtree(folder, ignore_errors=True)


def _stores(results: Path) -> list[Path]:
    found = {folder for pattern in STORES for folder in results.glob(pattern) if folder.is_dir()}
    return sorted(folder for folder in found if _is_ours(folder, results))


def _temporary(results: Path) -> list[tuple[Path, Path]]:
    """Folders a killed writer left, each with the store it was meant for."""
    found = []
    for folder in sorted({*results.glob("*/.*.zarr.*-*"), *results.glob("*/*/.*.zarr.*-*")}):
        name = TEMPORARY.fullmatch(folder.name)
        store = folder.with_name(name["store"]) if name else folder
        if name and folder.is_dir() and _is_ours(store, results):
            found.append((folder, store))
    return found


def _is_ours(store: Path, results: Path) -> bool:
    parts = store.relative_to(results).parts
    named = any(store.match(pattern) for pattern in STORES[:-1])
    return not parts[0].startswith(".") and (named if len(parts) == 2 else parts[1] in FOLDERS)


def _remove(folder: Path, store: Path) -> bool:
    """Remove under the store's lock: whoever writes it holds that until the new store is in place."""
    try:
        with lock(store, wait_s=0):
            if folder == store and (folder / MANIFEST).exists():
                return False
            shutil.rmtree(folder, ignore_errors=True)
            return True
    except (StoreError, OSError):
        return False


def _remove_file(file: Path) -> bool:
    """Remove a file unless it may still be written: it has no lock, and gets another name when it is whole."""
    try:
        abandoned = time.time() - file.stat().st_mtime > WRITTEN_S
        if abandoned:
            file.unlink()
    except OSError:
        return False
    return abandoned
