"""Check stores chunk by chunk against their manifests, and documents, tables and reports against their checksums."""

from pathlib import Path

from xrmflow.errors import StoreError
from xrmflow.io import sums
from xrmflow.io.manifest import MANIFEST, damaged_files, read_manifest


def run(results: Path, *, mend: bool = False) -> str:
    """Read every chunk of every store and every other result below a folder, and compare it with its checksum.

    Args:
        results: a results folder, a folder of models, or one store.
        mend: delete the manifest of a damaged store and any other damaged result, so that the same snakemake command
            makes them anew.
    """
    stores = [results] if (results / MANIFEST).exists() else _stores(results)
    files = sums.noted(results)
    if not stores and not files:
        raise StoreError(f"{results}: no stores found; name a folder of results or models, or one store")
    damaged_stores = {store: text for store in stores if (text := _fault(store))}
    damaged = {file: text for file in files if (text := sums.fault(file))}
    if mend:
        for store in damaged_stores:
            (store / MANIFEST).unlink(missing_ok=True)
        for file in damaged:
            sums.forget(file)
    counted = f"{len(stores)} stores" + (f" and {len(files)} other files" if files else "")
    if damaged_stores or damaged:
        advice = (
            "the same snakemake command makes them anew"
            if mend
            else "run again with --mend, then the same snakemake command"
        )
        how_many = len(damaged_stores) + len(damaged)
        total = f"{how_many} of {len(stores) + len(files)} results ({counted}) are damaged or missing; {advice}"
        lines = [*damaged_stores.values(), *damaged.values(), total]
        raise StoreError("\n".join(lines))
    return f"{counted}: every chunk matches its manifest"


def _stores(results: Path) -> list[Path]:
    """Folders of stores, those without a manifest too; not what a writer has not published."""
    folders = (folder for folder in results.rglob("*.zarr") if folder.is_dir() and not folder.name.startswith("."))
    return sorted(folders)


def _fault(store: Path) -> str:
    try:
        read_manifest(store)
    except StoreError as error:
        return str(error)
    damaged = damaged_files(store)
    return f"{store}: damaged chunks: {', '.join(damaged[:5])}" if damaged else ""
