"""The manifest: the small file, written last, that makes a folder of chunks a complete store.

A store exists if and only if its `manifest.json` does. The manifest records what the store holds and the root of the
chunk hashes, which are listed one a line in `chunks.txt` beside it.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xrmflow.errors import StoreError
from xrmflow.io.strict_json import parse

# 2: the manifest carries a checksum of itself.
SCHEMA_VERSION = 2
MANIFEST = "manifest.json"
CHUNKS = "chunks.txt"


def store_folder(path: Path | str) -> Path:
    """The store's folder, whether the folder or its manifest was named."""
    path = Path(path)
    return path.parent if path.name == MANIFEST else path


def seal(folder: Path, record: dict[str, Any], known: Mapping[str, str] | None = None) -> None:
    """Hash every file below `folder`, write `chunks.txt` and then the manifest, each flushed to disk.

    Args:
        folder: of the store.
        record: what the manifest says.
        known: lines of `chunks.txt`, by name of the file, that need no hashing any more.
    """
    given = known or {}
    lines = [given.get(file.relative_to(folder).as_posix()) or _describe(file, folder) for file in _files(folder)]
    listing = "".join(lines)
    write_durably(folder / CHUNKS, listing)
    manifest = {
        "schema_version": SCHEMA_VERSION,
        **record,
        "files": len(lines),
        "bytes": sum(int(line.split()[1]) for line in lines),
        "root_sha256": hashlib.sha256(listing.encode()).hexdigest(),
    }
    manifest["manifest_sha256"] = _own_sha256(manifest)
    write_durably(folder / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def read_manifest(path: Path | str) -> dict[str, Any]:
    """Read and check the manifest of a store.

    Raises:
        StoreError: no store there, no, unreadable or altered manifest, a newer schema, or files listed that are missing
        or of another size.
    """
    folder = store_folder(path)
    if not folder.exists():
        raise StoreError(f"{folder}: no such store; run the stage that writes it")
    try:
        manifest = parse((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise StoreError(
            f"{folder}: incomplete store (no {MANIFEST}); name a .zarr folder, or run the stage that writes it again"
        ) from None
    except ValueError as error:
        raise StoreError(f"{folder}: damaged {MANIFEST} ({error}); delete the store and run its stage again") from None
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise StoreError(
            f"{folder}: written by a newer version (schema {version}, this version reads up to {SCHEMA_VERSION}); "
            "update xrmflow"
        )
    if not isinstance(manifest, dict) or not (version == 1 or manifest.get("manifest_sha256") == _own_sha256(manifest)):
        raise StoreError(f"{folder}: damaged {MANIFEST} (altered); delete the store and run its stage again")
    _check_listing(folder, manifest)
    return manifest


def damaged_files(path: Path | str) -> list[str]:
    """Names of the files in a store whose content no longer matches `chunks.txt` (slow: reads everything)."""
    folder = store_folder(path)
    lines = (folder / CHUNKS).read_text().splitlines(keepends=True)
    return [line.split(maxsplit=2)[2].rstrip("\n") for line in lines if not _matches(line, folder)]


def listed(path: Path | str) -> dict[str, str]:
    """The lines of a store's `chunks.txt`, by name of the file."""
    lines = (store_folder(path) / CHUNKS).read_text().splitlines(keepends=True)
    return {line.split(maxsplit=2)[2].rstrip("\n"): line for line in lines}


def write_durably(path: Path, text: str | bytes) -> None:
    """Write a file so that after a crash it is whole or absent: temporary name, fsync, rename."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    data = text.encode() if isinstance(text, str) else text
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _own_sha256(manifest: dict[str, Any]) -> str:
    """Of everything a manifest says but this: a changed digit in a length would otherwise go unnoticed."""
    said = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _files(folder: Path) -> list[Path]:
    names = (file for file in folder.rglob("*") if file.is_file())
    return sorted(file for file in names if file.name not in (MANIFEST, CHUNKS) and file.name[0] != ".")


def _describe(file: Path, folder: Path) -> str:
    with file.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return f"{digest} {file.stat().st_size} {file.relative_to(folder).as_posix()}\n"


def _check_listing(folder: Path, manifest: dict[str, Any]) -> None:
    try:
        listing = (folder / CHUNKS).read_bytes()
    except FileNotFoundError:
        raise StoreError(f"{folder}: damaged store ({CHUNKS} is missing); delete it and run its stage again") from None
    if hashlib.sha256(listing).hexdigest() != manifest.get("root_sha256"):
        raise StoreError(
            f"{folder}: damaged store ({CHUNKS} does not match the manifest); delete it and run its stage again"
        )
    for line in listing.decode().splitlines():
        _, size, name = line.split(maxsplit=2)
        file = folder / name
        if not file.is_file():
            raise StoreError(f"{folder}: damaged store (chunk {name} is missing); delete it and run its stage again")
        if file.stat().st_size != int(size):
            raise StoreError(
                f"{folder}: damaged store (chunk {name} has another size); delete it and run its stage again"
            )


def _matches(line: str, folder: Path) -> bool:
    file = folder / line.split(maxsplit=2)[2].rstrip("\n")
    return file.is_file() and _describe(file, folder) == line
