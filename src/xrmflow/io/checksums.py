"""Checksums of raw files, each read once: kept by path, size, modification time and inode.

A raw scan may have 100 GB. Its checksum is part of every result's provenance, and decides whether a file that looks
newer holds anything new. One small file a raw file, in Snakemake's folder, so that jobs on other machines share them.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from xrmflow.io.manifest import write_durably

logger = logging.getLogger(__name__)

FOLDER = Path(".snakemake")
KEPT = FOLDER / "xrmflow_checksums"
# Smaller files are read in less time than it takes to wonder.
LARGE_BYTES = 50_000_000


def sha256(path: Path) -> str:
    """SHA-256 of a file, streamed; that of a large one is looked up where it has been read before and not touched."""
    seen = _state(path)
    kept = _kept(path)
    if kept.get("state") == seen and isinstance(kept.get("sha256"), str):
        return kept["sha256"]
    if seen["size"] >= LARGE_BYTES:
        logger.info("checksum of %s: reading %.1f GB", path, seen["size"] / 1e9)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if seen["size"] >= LARGE_BYTES and FOLDER.is_dir() and _state(path) == seen:
        KEPT.mkdir(exist_ok=True)
        write_durably(_file(path), json.dumps({"path": str(path), "state": seen, "sha256": digest}) + "\n")
    return digest


def _state(path: Path) -> dict[str, int]:
    state = path.stat()
    return {"size": state.st_size, "mtime_ns": state.st_mtime_ns, "inode": state.st_ino}


def _kept(path: Path) -> dict[str, Any]:
    """What was kept of a file; nothing where it is absent or damaged, because it can always be read anew."""
    try:
        kept = json.loads(_file(path).read_text())
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _file(path: Path) -> Path:
    return KEPT / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]}.json"
