"""Check stores chunk by chunk against their manifests."""

from pathlib import Path

from xrmflow.errors import StoreError
from xrmflow.io.manifest import MANIFEST, damaged_files, read_manifest


def run(results: Path, *, mend: bool = False) -> str:
    """Read every chunk of every store below a folder and compare it with the manifest.

    Args:
        results: a results folder, or one store.
        mend: delete the manifest of a damaged store, so that the same snakemake command makes it anew.
    """
    manifests = sorted(results.glob(f"**/*.zarr/{MANIFEST}")) + (
        [results / MANIFEST] if (results / MANIFEST).exists() else []
    )
    if not manifests:
        raise StoreError(f"{results}: no stores found")
    faults = {manifest: text for manifest in manifests if (text := _fault(manifest))}
    for manifest in faults if mend else ():
        manifest.unlink()
    if faults:
        advice = (
            "the same snakemake command makes them anew"
            if mend
            else "run again with --mend, then the same snakemake command"
        )
        raise StoreError(
            "\n".join([*faults.values(), f"{len(faults)} of {len(manifests)} stores are damaged; {advice}"])
        )
    return f"{len(manifests)} stores: every chunk matches its manifest"


def _fault(manifest: Path) -> str:
    try:
        read_manifest(manifest)
    except StoreError as error:
        return str(error)
    damaged = damaged_files(manifest)
    return f"{manifest.parent}: damaged chunks: {', '.join(damaged[:5])}" if damaged else ""
