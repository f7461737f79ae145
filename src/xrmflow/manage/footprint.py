"""How many bytes and files each store of a scan takes, from the layout of the stores themselves.

Chunks are compressed, and noise does not compress: what an element takes is nearly its own size. The coefficients were
measured on simulated scans with as much noise as fast scans of a real bone have; cleaner data take less. Chunks are
stored whole, so what lies beyond the edge of an array takes space too, though less.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

from xrmflow.arrays import piece_bytes
from xrmflow.correction.plan import band_bytes, plan
from xrmflow.io.multiscale import COARSE_ENOUGH
from xrmflow.io.shards import shard_shape
from xrmflow.io.stores import CHUNKS
from xrmflow.manage.sizes import ScanSize
from xrmflow.morphometry.needs import MEASUREMENT, SEGMENTATION

Shape = tuple[int, ...]

# Of a store, beside its arrays: the group's description, the manifest, its listing and the lock.
FILES_OF_STORE, BYTES_OF_STORE, BYTES_OF_FILE = 4, 3000, 120
# Files beside the stores: records, pictures and the report, tables of each volume, each with its checksum; log and
# benchmark file of each job.
FILES_OF_SCAN, FILES_OF_REPORT, FILES_OF_VOLUME, FILES_OF_JOB = 18, 2, 6, 2
MONTAGE_PX = 256


@dataclass(frozen=True)
class Footprint:
    """What something takes on the disk.

    Attributes:
        bytes: of all its files.
        files: how many.
    """

    bytes: float = 0.0
    files: int = 0

    def __add__(self, other: "Footprint") -> "Footprint":
        return Footprint(self.bytes + other.bytes, self.files + other.files)


@dataclass(frozen=True)
class Kind:
    """How an array is stored.

    Attributes:
        itemsize: bytes of an element.
        stored: bytes that an element takes on the disk.
        padding: bytes that an element in a chunk at the edge takes more: beside noise, emptiness does not vanish.
    """

    itemsize: int
    stored: float
    padding: float = 0.0


COUNTS = Kind(2, 1.4)
LINE_INTEGRALS = Kind(4, 3.4)
NOISY, SMOOTH = Kind(4, 3.7, 1.45), Kind(4, 3.05, 1.45)
LABELS = Kind(1, 0.085)


def store_footprints(size: ScanSize, *, splits: int = 0, factor: int = 1) -> dict[str, Footprint]:
    """What each store of a scan takes, by name; "bone/<volume>" for the masks.

    Args:
        size: of the scan.
        splits: sub-reconstructions of Noise2Inverse, together under the name "splits".
        factor: how many times finer the super-resolved volume is.
    """
    frames, fine = (size.views, size.rows, size.cols), tuple(n * factor for n in size.shape)
    volumes = {"volume": NOISY, "iterative": SMOOTH, "denoised": SMOOTH, "superres": SMOOTH}
    shapes = {name: fine if name == "superres" else size.shape for name in volumes}
    raw = COUNTS if size.bytes_per_pixel <= COUNTS.itemsize else LINE_INTEGRALS
    split = store([(size.shape, NOISY)], "volume")
    return {
        "raw": store([(frames, raw)], "projections"),
        "projections": store([(frames, LINE_INTEGRALS)], "projections"),
        "splits": Footprint(splits * split.bytes, splits * split.files),
        **{name: image(shapes[name], kind) for name, kind in volumes.items()},
        **{f"bone/{name}": image(shapes[name], LABELS, beside=1) for name in volumes},
    }


def scratch_bytes(stage: str, shape: Shape, *, memory_gb: float) -> float:
    """Files without a name that a stage has while it works on what does not fit into its memory.

    Args:
        stage: only flatfield, segment and morphometry have any.
        shape: (z, y, x) of the volume, for flatfield (view, row, col) of the scan.
        memory_gb: of the stage, 1e9 bytes.
    """
    if stage == "flatfield":
        planned = plan(shape, memory_gb=memory_gb)
        return 0.0 if planned.in_memory else band_bytes(shape, planned.rows)
    needs = {"segment": SEGMENTATION, "morphometry": MEASUREMENT}[stage]
    return 0.0 if needs.fit(shape, memory_gb) else needs.disk_bytes * math.prod(shape)


def image(shape: Shape, kind: Kind, *, beside: int = 0) -> Footprint:
    """A volume that people open: with coarser levels.

    Args:
        shape: (z, y, x).
        kind: of its numbers.
        beside: arrays of the same shape without levels.
    """
    return store([(level, kind) for level in [shape] * beside + levels(shape)], "volume")


def store(arrays: list[tuple[Shape, Kind]], kind: str) -> Footprint:
    """A store of several arrays; those of volumes are in few files."""
    limit = piece_bytes(arrays[0][0], arrays[0][1].itemsize) if kind == "volume" else 0
    parts = [_array(shape, numbers, CHUNKS[kind], limit) for shape, numbers in arrays]
    files = FILES_OF_STORE + sum(part.files for part in parts)
    return Footprint(BYTES_OF_STORE + BYTES_OF_FILE * files + sum(part.bytes for part in parts), files)


def levels(shape: Shape) -> list[Shape]:
    """Of a multiscale image: each half of the one before, until the longest edge is short."""
    found = [shape]
    while max(found[-1]) > COARSE_ENOUGH:
        found.append(tuple(-(-n // 2) for n in found[-1]))
    return found


def _array(shape: Shape, kind: Kind, largest: Shape, limit: int) -> Footprint:
    """An array: its chunks, whole also at the edge, its shards of up to `limit` bytes (0: its chunks) as files."""
    chunks = tuple(min(chunk, max(n, 1)) for chunk, n in zip(largest, shape, strict=True))
    edges = (shard_shape(shape, chunks, kind.itemsize, limit=limit) if limit else None) or chunks
    edge = sum(_mixed(n, chunk) / n for n, chunk in zip(shape[1:], chunks[1:], strict=True))
    files = 1 + math.prod(-(-n // size) for n, size in zip(shape, edges, strict=True))
    return Footprint(math.prod(shape) * (kind.stored + kind.padding * edge), files)


def _mixed(size: int, chunk: int) -> int:
    """Elements along an axis that lie in a chunk beside nothing, as far as there is as much of it as of them."""
    inside = size % chunk
    return min(inside, chunk - inside)


def beside_stores(
    size: ScanSize, volumes: Collection[str], *, jobs: int, factor: int = 1, imported: bool = False
) -> Footprint:
    """Records, pictures, tables and the report of a scan.

    Args:
        size: of the scan.
        volumes: names of those that are measured.
        jobs: how many work on the scan.
        factor: how many times finer the super-resolved volume is.
        imported: whether it came as a volume: then there are no records and pictures of what is done before.
    """
    across = max(size.shape[1:])
    slices = sum((across * (factor if name == "superres" else 1)) ** 2 for name in volumes)
    pictures = 55 * min(size.cols, MONTAGE_PX) ** 2 + 7.5 * size.cols**2 + 6.6 * size.cols * (size.views + size.rows)
    tables = 30e3 * len(volumes)
    report = (0.3e6 + 15 * slices) if volumes else 0.0
    records = Footprint(0.0, FILES_OF_REPORT) if imported else Footprint(50e3 + pictures, FILES_OF_SCAN)
    return records + Footprint(tables + report, FILES_OF_VOLUME * len(volumes) + FILES_OF_JOB * jobs)
