"""Typed, checksummed zarr stores, published atomically.

Two kinds: `Projections` (view, row, col) and `Volume` (z, y, x). A store is written under a temporary name, sealed
with a manifest, and renamed into place: it exists if and only if it is complete. Chunks carry crc32c checksums and
empty chunks are written, so a missing chunk is damage and never zeros.
"""

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from xrmflow.arrays import Reader, piece_bytes
from xrmflow.errors import StoreError
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.io.locks import lock
from xrmflow.io.manifest import read_manifest, seal, store_folder
from xrmflow.io.multiscale import multiscale as write_multiscale
from xrmflow.io.parts import AXES, PREFIX, Kind, Part, adopt, kind_of, read_parts
from xrmflow.io.shards import ShardWriter, shard_shape

Quantity = Literal[
    "counts",
    "transmission",
    "line_integral",
    "attenuation_per_mm",
    "attenuation_per_voxel",
    "label",
    "length_um",
    "length_voxel",
]
DIMENSIONS = {"projections": ("view", "row", "col"), "volume": ("z", "y", "x")}
CHUNKS = {"projections": (32, 64, 1024), "volume": (64, 64, 64)}
PICTURES = ("attenuation_per_mm", "attenuation_per_voxel", "label")
"""Quantities that people open in a viewer: their volumes are OME-NGFF images."""


class StoreWriter:
    """The store while it is being written; its arrays serve as `Writer`s.

    Args:
        folder: where.
        kind: of store; three-dimensional arrays of volumes get few files rather than one a chunk.
    """

    def __init__(self, folder: Path, kind: Kind) -> None:
        self.folder = folder
        self._group = zarr.open_group(folder, mode="w", zarr_format=3)
        self._kind: Kind = kind
        self._arrays: dict[str, Any] = {}
        self._shard_bytes = 0

    @property
    def names(self) -> list[str]:
        """Of the arrays added so far."""
        return list(self._arrays)

    def add(self, name: str, shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
        """Create an array and return it for writing. `name` is "data" for the main array."""
        chunks = tuple(min(c, max(s, 1)) for c, s in zip(CHUNKS[self._kind][-len(shape) :], shape, strict=True))
        few = self._kind == "volume" and len(shape) == 3
        shards = self._shards(shape, chunks, np.dtype(dtype).itemsize) if few else None
        array = self._group.create_array(
            name,
            shape=shape,
            dtype=dtype,
            chunks=chunks,
            shards=shards,
            compressors=[BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"), Crc32cCodec()],
            dimension_names=DIMENSIONS[self._kind][-len(shape) :],
            config={"write_empty_chunks": True},
        )
        self._arrays[name] = array if shards is None else ShardWriter(array)
        return self._arrays[name]

    def _shards(self, shape: tuple[int, ...], chunks: tuple[int, ...], itemsize: int) -> tuple[int, ...] | None:
        """Edges of shards, as large in coarser levels as in the array that was added first: so files stay few."""
        self._shard_bytes = self._shard_bytes or piece_bytes(shape, itemsize)
        return shard_shape(shape, chunks, itemsize, limit=self._shard_bytes)

    def files_of(self, name: str, part: slice) -> list[str]:
        """The files, from the store's folder, that hold a part of an array: some of its slices or rows."""
        array = self._arrays[name]
        array = array.array if isinstance(array, ShardWriter) else array
        edges, axis = array.shards or array.chunks, AXES[self._kind]
        keys = [range(-(-size // edge)) for size, edge in zip(array.shape, edges, strict=True)]
        keys[axis] = range(part.start // edges[axis], -(-part.stop // edges[axis]))
        return [f"{name}/{array.metadata.encode_chunk_key(key)}" for key in product(*keys)]

    def flush(self) -> None:
        """Write what shards still hold back."""
        for array in self._arrays.values():
            if isinstance(array, ShardWriter):
                array.flush()

    def __setitem__(self, name: str, values: np.ndarray) -> None:
        """Create an array and fill it at once."""
        self.add(name, values.shape, values.dtype)[...] = values

    def make_image(self, quantity: Quantity, *, grid: VolumeGrid, calibrated: bool) -> None:
        """Make the store an OME-NGFF image: coarser levels of "data", and the attribute that describes them."""
        self._group.attrs["ome"] = write_multiscale(
            self._arrays["data"],
            self.add,
            grid=grid,
            calibrated=calibrated,
            labels=quantity == "label",
            name=quantity,
        )


@dataclass(frozen=True)
class Store:
    """An opened, complete store.

    Attributes:
        path: its folder.
        quantity: what the numbers in `data` are.
        data: the main array, a `Reader`.
        record: the manifest's typed record (geometry or grid, notes, provenance …).
        arrays: every array by name.
    """

    path: Path
    quantity: Quantity
    data: Reader
    record: dict[str, Any]
    arrays: dict[str, Reader]


@dataclass(frozen=True)
class Projections(Store):
    """Projections with the acquisition they were taken in."""

    @property
    def acquisition(self) -> Acquisition:
        """The geometry stored with the projections."""
        return Acquisition.from_dict(self.record["acquisition"])


@dataclass(frozen=True)
class Volume(Store):
    """A volume with its grid; `calibrated` is False when the voxel size is not known (lengths in voxels)."""

    @property
    def grid(self) -> VolumeGrid:
        """The grid, mm (voxel 1.0 when uncalibrated)."""
        return _grid(self.record)

    @property
    def calibrated(self) -> bool:
        """Whether the voxel size is known."""
        return bool(self.record["calibrated"])


@contextmanager
def create_projections(
    path: Path | str,
    *,
    quantity: Quantity,
    acquisition: Acquisition,
    provenance: dict[str, Any],
    part: Part | None = None,
    share: Mapping[str, Any] | None = None,
    **record: Any,
) -> Iterator[StoreWriter]:
    """Write a projections store, or a part of one; it is sealed and published when the block ends without an exception.

    Args:
        path: the store's folder or its manifest.
        quantity: what the main array "data" holds.
        acquisition: the geometry, stored in the record.
        provenance: from `xrmflow.io.provenance.provenance`.
        part: the rows that are written; None for all. From parts `gathered` makes the store.
        share: what a part adds to the record of the whole, JSON-ready; it may be filled until the block ends.
        record: anything else JSON-ready that readers need.
    """
    full = {"acquisition": acquisition.to_dict(), **record}
    shape = (acquisition.views, acquisition.rows, acquisition.cols)
    described = _described(part, "projections", shape) | ({"share": share} if part else {})
    with _create(store_folder(path), "projections", quantity, full, provenance, part=described) as store:
        yield store


@contextmanager
def create_volume(
    path: Path | str,
    *,
    quantity: Quantity,
    grid: VolumeGrid,
    calibrated: bool,
    provenance: dict[str, Any],
    multiscale: bool = True,
    part: Part | None = None,
    **record: Any,
) -> Iterator[StoreWriter]:
    """Write a volume store, or a part of one; it is sealed and published when the block ends without an exception.

    Args:
        path: the store's folder or its manifest.
        quantity: what the main array "data" holds.
        grid: the grid of "data".
        calibrated: whether the voxel size is known.
        provenance: from `xrmflow.io.provenance.provenance`.
        multiscale: whether volumes of attenuation and labels become OME-NGFF images with coarser levels; False for what
            only the next stage reads.
        part: the slices that are written; None for all. From parts `gather` makes the store.
        record: anything else JSON-ready that readers need.
    """
    described = {"shape": list(grid.shape), "voxel_mm": grid.voxel_mm, "centre_mm": list(grid.centre_mm)}
    full = {"grid": described, "calibrated": calibrated, **record}
    image = multiscale and quantity in PICTURES
    described = _described(part, "volume", grid.shape, image=image)
    with _create(store_folder(path), "volume", quantity, full, provenance, part=described) as store:
        yield store
        if image and part is None:
            store.make_image(quantity, grid=grid, calibrated=calibrated)


def gather(parts: Sequence[Path], path: Path | str) -> None:
    """Publish the store that sealed parts make up: the same files that one process would have written.

    Raises:
        StoreError: parts that do not make up a store, from `read_parts` and `adopt`.
    """
    with gathered(parts, path):
        pass


@contextmanager
def gathered(parts: Sequence[Path], path: Path | str) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """The same where parts have shares of the record: it may be completed before the store is published.

    Chunks are linked, not copied, and their checksums taken over; coarser levels of an image are made here.

    Yields:
        The record that the parts have in common, and the shares, part after part.
    """
    manifests = read_parts(parts)
    first, record = manifests[0], manifests[0]["record"]
    made = first["provenance"] | {"finished": max(m["provenance"].get("finished", "") for m in manifests)}
    known: dict[str, str] = {}
    kind, quantity, traced = kind_of(first), first["quantity"], made | {"parts": len(parts)}
    with _create(store_folder(path), kind, quantity, record, traced, known=known) as store:
        known.update(adopt(store, manifests))
        yield record, [manifest.get("share", {}) for manifest in manifests]
        if first["image"]:
            store.make_image(quantity, grid=_grid(record), calibrated=bool(record["calibrated"]))


def _described(part: Part | None, kind: Kind, shape: Sequence[int], *, image: bool = False) -> dict[str, Any]:
    """What the manifest of a part says beside that of a store; nothing for a whole one."""
    if part is None:
        return {}
    part.check(kind, shape, CHUNKS[kind])
    whole = {"image": image, "shape": list(shape), "dtype": "float32"}
    return {"part": [part.start, part.stop], **whole}


def _grid(record: dict[str, Any]) -> VolumeGrid:
    g = record["grid"]
    return VolumeGrid(tuple(g["shape"]), g["voxel_mm"], tuple(g["centre_mm"]))


def open_projections(path: Path | str, quantity: Quantity | None = None) -> Projections:
    """Open a complete projections store; raises StoreError for anything else."""
    return Projections(*_open(path, "projections", quantity))


def open_volume(path: Path | str, quantity: Quantity | tuple[Quantity, ...] | None = None) -> Volume:
    """Open a complete volume store; raises StoreError for anything else."""
    return Volume(*_open(path, "volume", quantity))


@contextmanager
def _create(
    folder: Path,
    kind: Kind,
    quantity: Quantity,
    record: dict[str, Any],
    provenance: dict[str, Any],
    *,
    part: Mapping[str, Any] | None = None,
    known: Mapping[str, str] | None = None,
) -> Iterator[StoreWriter]:
    if quantity not in get_args(Quantity):
        raise ValueError(f"quantity: expected one of {get_args(Quantity)}, got {quantity!r}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
    with lock(folder):
        _sweep(folder)
        try:
            store = StoreWriter(temporary, kind)
            yield store
            store.flush()
            called = f"{PREFIX}{kind}" if part else kind
            described = {"kind": called, "quantity": quantity, "arrays": store.names, "record": record}
            seal(temporary, {**described, **(part or {}), "provenance": provenance}, known)
            _publish(temporary, folder)
        finally:
            _discard(temporary)


def _publish(temporary: Path, folder: Path) -> None:
    """Move the old store aside, the new one in, and delete the old: a plain rename over a full folder fails."""
    aside = folder.with_name(f".{folder.name}.old-{os.getpid()}")
    if folder.exists():
        folder.rename(aside)
    temporary.rename(folder)
    shutil.rmtree(aside, ignore_errors=True)


def _discard(folder: Path) -> None:
    """Remove a folder that chunks may still be written to: after a fault, zarr's other writes go on for a moment."""
    quiet = 0
    while quiet < 3 and (quiet or folder.exists()):
        quiet = 0 if folder.exists() else quiet + 1
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.2)


def _sweep(folder: Path) -> None:
    """Remove what a killed predecessor left (we hold the lock, so nobody is writing it)."""
    for pattern in (f".{folder.name}.tmp-*", f".{folder.name}.old-*"):
        for left in folder.parent.glob(pattern):
            shutil.rmtree(left, ignore_errors=True)


def _open(path: Path | str, kind: Kind, quantity: Quantity | tuple[Quantity, ...] | None) -> tuple[Any, ...]:
    manifest = read_manifest(path)
    folder = store_folder(path)
    if manifest["kind"] != kind:
        raise StoreError(f"{folder}: expected a {kind} store, got {manifest['kind']} (written by {_stage(manifest)})")
    wanted = (quantity,) if isinstance(quantity, str) else quantity
    if wanted and manifest["quantity"] not in wanted:
        raise StoreError(
            f"{folder}: expected quantity {' or '.join(wanted)}, got {manifest['quantity']} "
            f"(written by {_stage(manifest)})"
        )
    group = zarr.open_group(folder, mode="r", zarr_format=3)
    arrays: dict[str, Any] = {name: group[name] for name in manifest["arrays"]}
    return (
        folder,
        manifest["quantity"],
        arrays["data"],
        manifest["record"] | {"provenance": manifest["provenance"]},
        arrays,
    )


def _stage(manifest: dict[str, Any]) -> str:
    return f"stage {manifest['provenance'].get('stage', 'unknown')}"
