"""A small writer of compound files (OLE2, "Compound File Binary"), the container of `.txrm` files.

A compound file is a file system in a file: sectors of equal size, a table that chains them (FAT), a directory of named
streams in nested storages, and a "mini stream" for streams below 4096 bytes. Version 4 has 4096-byte sectors and no
2 GB limit (what X-ray microscopes write); version 3 has 512-byte sectors. Source: Microsoft [MS-CFB], revision 12.

Names: `first` is a sector number (sector 0 follows the header), `size` is in bytes.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

FREE, END, FAT_SECTOR, DIFAT_SECTOR, NOTHING = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD, 0xFFFFFFFC, 0xFFFFFFFF
SIGNATURE = bytes.fromhex("D0CF11E0A1B11AE1")
MINI_SECTOR, MINI_CUTOFF, HEADER_DIFAT = 64, 4096, 109
STORAGE, STREAM, ROOT = 1, 2, 5


@dataclass(frozen=True)
class LazyStream:
    """A stream whose bytes are made when they are written, so that not all are in memory at once."""

    size: int
    make: Callable[[], bytes]


Streams = Mapping[str, bytes | LazyStream]


@dataclass
class _Entry:
    """A directory entry; `children` are the names below a storage."""

    name: str
    kind: int
    children: dict[str, "_Entry"] = field(default_factory=dict)
    content: bytes | LazyStream = b""
    first: int = 0
    size: int = 0
    index: int = 0
    left: int = NOTHING
    right: int = NOTHING
    child: int = NOTHING
    black: bool = True


@dataclass(frozen=True)
class Layout:
    """How many sectors each part takes, in file order: streams, mini stream, mini FAT, directory, FAT, DIFAT."""

    sector: int
    streams: int
    mini_stream: int
    mini_fat: int
    directory: int
    fat: int
    difat: int

    @property
    def before_fat(self) -> int:
        """Sectors in front of the FAT."""
        return self.streams + self.mini_stream + self.mini_fat + self.directory


def plan(*, sector: int, stream_sectors: int, mini_bytes: int, entries: int) -> Layout:
    """Count the sectors of each part; the FAT also chains itself and the DIFAT, so its size is found by iteration."""
    mini_stream = _ceil(mini_bytes, sector)
    mini_fat = _ceil(4 * _ceil(mini_bytes, MINI_SECTOR), sector)
    directory = _ceil(128 * entries, sector)
    other, per_fat = stream_sectors + mini_stream + mini_fat + directory, sector // 4
    fat = difat = 0
    while (needed := _ceil(other + fat + difat, per_fat)) > fat:
        fat = needed
        difat = _ceil(max(fat - HEADER_DIFAT, 0), per_fat - 1)
    return Layout(sector, stream_sectors, mini_stream, mini_fat, directory, fat, difat)


def write_cfb(path: Path, streams: Streams, *, sector: int = 4096) -> None:
    """Write a compound file.

    Args:
        path: the file to write; it appears under this name only when complete.
        streams: content by name, storages separated by "/" (`"ImageInfo/Angles"`). Lazy streams are made one at a time.
        sector: 4096 (version 4) or 512 (version 3).

    Raises:
        ValueError: for a sector size, a name, or a lazy stream's length that is not allowed.
    """
    if sector not in (512, 4096):
        raise ValueError(f"sector: expected 512 or 4096 bytes, got {sector}")
    entries = _directory(streams)
    mini = _place_small(entries)
    stream_sectors = _place_large(entries, sector)
    layout = plan(sector=sector, stream_sectors=stream_sectors, mini_bytes=len(mini), entries=len(entries))
    root = entries[0]
    root.first, root.size = (layout.streams if mini else END), len(mini)
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as file:
            for part in _parts(entries, mini, layout):
                file.write(part)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _parts(entries: list[_Entry], mini: bytes, layout: Layout) -> Iterator[bytes]:
    """The file from header to end."""
    sector = layout.sector
    yield _padded(_header(layout, bool(mini)), sector, b"\0")
    for entry in _large(entries):
        yield _padded(_content(entry), sector, b"\0")
    yield _padded(mini, sector, b"\0")
    yield _padded(_mini_fat(entries, len(mini)), sector, b"\xff")
    yield _padded(b"".join(map(_record, entries)), sector, _record(None))
    yield from _tables(entries, layout)


def _directory(streams: Streams) -> list[_Entry]:
    """All entries, root first, each level of the tree linked as a balanced search tree."""
    root = _Entry("Root Entry", ROOT)
    for name, content in streams.items():
        *folders, leaf = name.split("/")
        place = root
        for folder in folders:
            place = place.children.setdefault(_key(folder), _Entry(folder, STORAGE))
        size = content.size if isinstance(content, LazyStream) else len(content)
        if place.kind == STREAM or _key(leaf) in place.children:
            raise ValueError(f"streams: expected distinct names, got {name!r} twice (case does not count)")
        place.children[_key(leaf)] = _Entry(leaf, STREAM, content=content, size=size)
    entries = [root]
    _number(root, entries)
    return entries


def _number(storage: _Entry, entries: list[_Entry]) -> None:
    ordered = sorted(storage.children.values(), key=lambda entry: (len(_units(entry.name)), _key(entry.name)))
    for entry in ordered:
        entry.index = len(entries)
        entries.append(entry)
    storage.child = _balance(ordered, max(len(ordered).bit_length() - 1, 1))
    for entry in ordered:
        if entry.kind == STORAGE:
            _number(entry, entries)


def _balance(ordered: list[_Entry], levels: int) -> int:
    """Link a sorted list into a balanced tree and return the index of its root.

    Every level but the last is full; the nodes of the last are red, so that all paths hold as many black nodes.
    """
    if not ordered:
        return NOTHING
    middle = len(ordered) // 2
    node = ordered[middle]
    node.black = levels > 0
    node.left = _balance(ordered[:middle], levels - 1)
    node.right = _balance(ordered[middle + 1 :], levels - 1)
    return node.index


def _units(name: str) -> bytes:
    """A name as stored: UTF-16 with a closing zero, at most 64 bytes."""
    encoded = (name + "\0").encode("utf-16-le")
    if len(encoded) > 64 or len(encoded) < 4 or set(name) & set("/\\:!"):
        raise ValueError(f"streams: expected names of 1 to 31 characters without / \\ : !, got {name!r}")
    return encoded


def _key(name: str) -> str:
    return name.upper()


def _content(entry: _Entry) -> bytes:
    data = entry.content.make() if isinstance(entry.content, LazyStream) else entry.content
    if len(data) != entry.size:
        raise ValueError(f"{entry.name}: expected {entry.size} bytes, got {len(data)}")
    return data


def _large(entries: list[_Entry]) -> list[_Entry]:
    return [entry for entry in entries if entry.kind == STREAM and entry.size >= MINI_CUTOFF]


def _small(entries: list[_Entry]) -> list[_Entry]:
    return [entry for entry in entries if entry.kind == STREAM and 0 < entry.size < MINI_CUTOFF]


def _place_small(entries: list[_Entry]) -> bytes:
    """Number the mini sectors and return the mini stream."""
    parts, first = [], 0
    for entry in entries:
        if entry.kind == STREAM and entry.size == 0:
            entry.first = END
    for entry in _small(entries):
        entry.first = first
        first += _ceil(entry.size, MINI_SECTOR)
        parts.append(_padded(_content(entry), MINI_SECTOR, b"\0"))
    return b"".join(parts)


def _place_large(entries: list[_Entry], sector: int) -> int:
    """Number the sectors of the large streams and return how many they take."""
    first = 0
    for entry in _large(entries):
        entry.first = first
        first += _ceil(entry.size, sector)
    return first


def _header(layout: Layout, has_mini: bool) -> bytes:
    version = 4 if layout.sector == 4096 else 3
    mini_fat = layout.streams + layout.mini_stream
    directory, fat = mini_fat + layout.mini_fat, layout.before_fat
    in_header = np.full(HEADER_DIFAT, FREE, "<u4")
    listed = min(layout.fat, HEADER_DIFAT)
    in_header[:listed] = fat + np.arange(listed)
    fixed = struct.pack(
        "<8s16xHHHHH6xIIIIIIIII",
        *(SIGNATURE, 0x3E, version, 0xFFFE, layout.sector.bit_length() - 1, 6),
        layout.directory if version == 4 else 0,
        *(layout.fat, directory, 0, MINI_CUTOFF),
        *(mini_fat if has_mini else END, layout.mini_fat),
        *(fat + layout.fat if layout.difat else END, layout.difat),
    )
    return fixed + in_header.tobytes()


def _record(entry: _Entry | None) -> bytes:
    """A directory entry of 128 bytes; None gives an unused one."""
    if entry is None:
        return struct.pack("<64xHBBIII36xIQ", 0, 0, 0, NOTHING, NOTHING, NOTHING, 0, 0)
    name = _units(entry.name)
    return struct.pack(
        "<64sHBBIII36xIQ",
        *(name, len(name), entry.kind, int(entry.black), entry.left, entry.right, entry.child),
        *(entry.first, entry.size),
    )


def _mini_fat(entries: list[_Entry], mini_bytes: int) -> bytes:
    chain = np.arange(1, mini_bytes // MINI_SECTOR + 1, dtype="<u4")
    for entry in _small(entries):
        chain[entry.first + _ceil(entry.size, MINI_SECTOR) - 1] = END
    return chain.tobytes()


def _tables(entries: list[_Entry], layout: Layout) -> Iterator[bytes]:
    """The FAT (each part is one run of consecutive sectors) and the DIFAT."""
    fat = np.full(layout.fat * layout.sector // 4, FREE, "<u4")
    fat[: layout.before_fat] = np.arange(1, layout.before_fat + 1)
    for entry in _large(entries):
        fat[entry.first + _ceil(entry.size, layout.sector) - 1] = END
    ends = np.cumsum([layout.streams, layout.mini_stream, layout.mini_fat, layout.directory])
    fat[ends[ends > 0] - 1] = END
    fat[layout.before_fat :][: layout.fat] = FAT_SECTOR
    fat[layout.before_fat + layout.fat :][: layout.difat] = DIFAT_SECTOR
    yield fat.tobytes()
    per_sector = layout.sector // 4 - 1
    for k in range(layout.difat):
        listed = np.arange(HEADER_DIFAT + k * per_sector, min(HEADER_DIFAT + (k + 1) * per_sector, layout.fat))
        table = np.full(per_sector + 1, FREE, "<u4")
        table[: listed.size] = layout.before_fat + listed
        table[-1] = layout.before_fat + layout.fat + k + 1 if k + 1 < layout.difat else END
        yield table.tobytes()


def _ceil(amount: int, unit: int) -> int:
    return -(-amount // unit)


def _padded(data: bytes, unit: int, fill: bytes) -> bytes:
    return data + fill * (-len(data) % unit // len(fill))
