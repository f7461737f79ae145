"""Checksums of documents, tables, weights and reports: a hidden file beside each, as `sha256sum -c` reads it.

Stores have their own (`xrmflow.io.manifest`).
"""

import hashlib
from pathlib import Path

from xrmflow.io.manifest import write_durably

PATTERN = ".*.sha256"


def note(file: Path) -> None:
    """Write the checksum of a file that has just been written."""
    write_durably(_beside(file), f"{_sha256(file)}  {file.name}\n")


def noted(folder: Path) -> list[Path]:
    """The files below a folder that have a checksum, whether they are still there or not."""
    return sorted(sums.with_name(sums.name[1:].removesuffix(".sha256")) for sums in folder.rglob(PATTERN))


def fault(file: Path) -> str:
    """What is wrong with a file that has a checksum, or ""."""
    if not file.is_file():
        return f"{file}: is missing"
    expected = f"{_sha256(file)}  {file.name}\n".encode()
    return "" if _beside(file).read_bytes() == expected else f"{file}: damaged (not as its stage wrote it)"


def forget(file: Path) -> None:
    """Delete a file and its checksum."""
    file.unlink(missing_ok=True)
    _beside(file).unlink(missing_ok=True)


def _beside(file: Path) -> Path:
    return file.with_name(f".{file.name}.sha256")


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
