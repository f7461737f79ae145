"""Parts of a store: each made by a job of its own, sealed, and put together without copying.

A part is a store of the whole's shape and grid of chunks in which only its own chunks exist. So each chunk has the
name that it has in the whole: gathering links files and merges lists of checksums.
"""

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from xrmflow.errors import StoreError, UserError
from xrmflow.io.manifest import listed, read_manifest, store_folder

if TYPE_CHECKING:
    from xrmflow.io.stores import StoreWriter

PREFIX = "part of "
ARRAY = "data"
Kind = Literal["projections", "volume"]
# The axis along which a kind of store is cut, and what lies along it.
AXES: dict[Kind, int] = {"volume": 0, "projections": 1}
NAMES: dict[Kind, str] = {"volume": "slices", "projections": "rows"}
# What parts of one store have in common in their manifests.
COMMON = ("kind", "quantity", "arrays", "record", "image")
TRACED = ("stage", "settings", "inputs", "lineage")


@dataclass(frozen=True)
class Part:
    """The slices start <= z < stop of a volume, or rows of projections, written as "start-stop"."""

    start: int
    stop: int

    @classmethod
    def read(cls, text: str) -> "Part":
        """The part that a text names."""
        found = re.fullmatch(r"(\d+)-(\d+)", text)
        if not found or int(found[1]) >= int(found[2]):
            raise UserError(f"part: expected START-STOP, the slices or rows it has, got {text!r}")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.start}-{self.stop}"

    def check(self, kind: Kind, shape: Sequence[int], chunks: Sequence[int]) -> None:
        """Raise unless this is a part, in whole chunks, of a store of a kind with an array of a shape."""
        size, edge = shape[AXES[kind]], chunks[AXES[kind]]
        if self.start % edge or self.stop > size or (self.stop % edge and self.stop != size):
            raise UserError(f"part: expected some of {size} {NAMES[kind]}, in multiples of {edge}, got {self}")

    @property
    def slices(self) -> slice:
        """As a selection along the axis that is cut."""
        return slice(self.start, self.stop)


def read_parts(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The manifests of all parts of one store, in order.

    Raises:
        StoreError: a store that is no part, parts of different stores, or slices that are missing or there twice.
    """
    if not paths:
        raise StoreError("parts: expected at least one, got none")
    manifests: list[dict[str, Any]] = [read_manifest(path) | {"folder": store_folder(path)} for path in paths]
    for manifest in manifests:
        if not manifest["kind"].startswith(PREFIX):
            raise StoreError(f"{manifest['folder']}: expected a part of a store, got a {manifest['kind']} store")
    manifests.sort(key=lambda manifest: manifest["part"])
    first = manifests[0]
    for other in manifests[1:]:
        _check_alike(first, other)
    _check_complete([manifest["part"] for manifest in manifests], first)
    return manifests


def kind_of(manifest: dict[str, Any]) -> Kind:
    """The kind of store that a part is one of."""
    return manifest["kind"].removeprefix(PREFIX)


def adopt(writer: "StoreWriter", manifests: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Link the chunks of all parts into a store that is being written.

    Args:
        writer: of the store; receives the array.
        manifests: from `read_parts`.

    Returns:
        The lines of the lists of checksums, by name of the file.

    Raises:
        StoreError: a part whose array is stored in another way, or that does not have exactly its own chunks.
    """
    first = manifests[0]
    writer.add(ARRAY, tuple(first["shape"]), first["dtype"])
    ours = (writer.folder / ARRAY / "zarr.json").read_bytes()
    lines: dict[str, str] = {}
    for manifest in manifests:
        folder = manifest["folder"]
        if (folder / ARRAY / "zarr.json").read_bytes() != ours:
            raise StoreError(f"{folder}: its chunks are not those of the other parts; run its stage again")
        chunks = {name: line for name, line in listed(folder).items() if name.startswith(f"{ARRAY}/c/")}
        if chunks.keys() != set(writer.files_of(ARRAY, slice(*manifest["part"]))):
            what = f"{NAMES[kind_of(manifest)]} {Part(*manifest['part'])}"
            raise StoreError(f"{folder}: expected the chunks of {what}; run its stage again")
        lines |= chunks
        for name in chunks:
            _link(folder / name, writer.folder / name)
    return lines


def _check_alike(first: dict[str, Any], other: dict[str, Any]) -> None:
    same = all(first.get(key) == other.get(key) for key in (*COMMON, "shape", "dtype"))
    made = all(first["provenance"].get(key) == other["provenance"].get(key) for key in TRACED)
    if not (same and made):
        raise StoreError(f"{other['folder']}: expected a part of the same store as {first['folder']}")


def _check_complete(ranges: list[list[int]], first: dict[str, Any]) -> None:
    size, name = first["shape"][AXES[kind_of(first)]], NAMES[kind_of(first)]
    for (_, stop), (start, _) in pairwise([[0, 0], *ranges, [size, size]]):
        if stop != start:
            fault = "missing" if stop < start else "there twice"
            what = f"{name} {min(start, stop)} to {max(start, stop)} are {fault}"
            raise StoreError(f"{first['folder'].parent}: expected parts that make up {size} {name}, {what}")


def _link(source: Path, target: Path) -> None:
    """A second name for a file; a copy where the file system has no such thing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
