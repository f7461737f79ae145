"""Read Scanco's `.isq` volumes: a header of 512-byte blocks, then 16-bit voxels. Everything is little-endian.

=========  ==========================================================================================================
byte       meaning
=========  ==========================================================================================================
0          CTDATA-HEADER_V1
44, 56     int32 x 3: voxels along x, y, z; and the lengths of the sides, micrometres
88         int32 mu_scaling: attenuation in 1/cm = voxel / mu_scaling
128        40 letters: name of the sample
168, 172   int32: tube voltage, V, and current, microampere
508        int32 data_offset: voxels (int16, x fastest, then y, z) begin at block data_offset + 1
=========  ==========================================================================================================

Where data_offset leaves room, further blocks are listed by name; "Calibration" holds the density calibration, density
= slope * attenuation (1/cm) + intercept, as the doubles of a VAX (words in reverse order, a quarter of IEEE's value).

The header is as in a file that itk-ioscanco publishes for its tests, read by hand and by that reader alike; density
calibrations are as that reader has them, none in a file was at hand. The voxel is side over number: the slice
thickness also recorded is rounded.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xrmflow.errors import RawFileError
from xrmflow.io.raw_scan import Note
from xrmflow.io.raw_volume import RawVolume
from xrmflow.io.volume_kind import SCANCO

BLOCK = 512
MOST_VOXELS = 1 << 16
MOST_BLOCKS = 1 << 12
CUBIC = 2e-3
UM_PER_MM, MM_PER_CM = 1000.0, 10.0
SHORT = 3
LISTED, ENTRY = 4, 128


@dataclass(frozen=True)
class _Voxels:
    """Voxels, mapped for each read alone: what stays mapped counts as memory of the process, up to the whole file."""

    path: Path
    begin: int
    shape: tuple[int, int, int]
    dtype: str = "<i2"

    def __getitem__(self, part: Any) -> np.ndarray:
        return np.array(np.memmap(self.path, self.dtype, "r", offset=self.begin, shape=self.shape)[part])


def read_isq(path: Path) -> RawVolume:
    """Open an `.isq` file; voxels are read when asked for.

    Raises:
        RawFileError: no such file, another format, truncated, voxels that are not cubic, or no scaling.
    """
    try:
        with path.open("rb") as file:
            head = file.read(BLOCK)
            offset = _number(head, 508) if len(head) == BLOCK else 0
            head += file.read(BLOCK * min(max(offset, 0), MOST_BLOCKS))
        size = path.stat().st_size
    except OSError as error:
        raise RawFileError(f"{path}: cannot be read ({error.strerror})") from None
    if not head.startswith(SCANCO) or len(head) < BLOCK:
        raise RawFileError(f"{path}: expected a Scanco volume ({SCANCO.decode()} and {BLOCK} bytes), got another file")
    shape, voxel_mm = _shape_and_voxel(path, head)
    scaling = _number(head, 88)
    if scaling < 1:
        raise RawFileError(f"{path}: mu_scaling: expected a positive number, got {scaling}")
    begin, expected = BLOCK * (offset + 1), 2 * int(np.prod(shape, dtype=np.int64))
    if not 0 <= offset <= MOST_BLOCKS or size < begin + expected:
        raise RawFileError(
            f"{path}: expected {expected} bytes of voxels from byte {begin}, got {max(size - begin, 0)}; "
            "truncated or damaged, copy it again from its source"
        )
    notes = [Note("assumption", "axes: kept as in the file; whether it mirrors the bone is not known")]
    if _number(head, 16) != SHORT:
        notes.append(Note("warning", f"type: expected {SHORT} (int16), got {_number(head, 16)}; voxels may be wrong"))
    return RawVolume(
        format="isq",
        source=path,
        data=_Voxels(path, begin, shape),
        voxel_mm=voxel_mm,
        slope=1 / (scaling * MM_PER_CM),
        metadata=_metadata(head, scaling, notes),
        notes=tuple(notes),
    )


def _number(head: bytes, at: int) -> int:
    return struct.unpack_from("<i", head, at)[0]


def _shape_and_voxel(path: Path, head: bytes) -> tuple[tuple[int, int, int], float]:
    """(z, y, x) voxels, and their edge in mm."""
    counts, sides = struct.unpack_from("<3i", head, 44), struct.unpack_from("<3i", head, 56)
    if min(counts) < 1 or max(counts) > MOST_VOXELS:
        raise RawFileError(f"{path}: expected 1 to {MOST_VOXELS} voxels along x, y, z, got {counts}")
    edges = [side / count for side, count in zip(sides, counts, strict=True)]
    # Sides are whole micrometres, so that those of few voxels say little.
    rounding = max(0.5 / count for count in counts)
    if min(edges) <= 0 or max(edges) - min(edges) > CUBIC * max(edges) + 2 * rounding:
        shown = " x ".join(f"{edge:.4g}" for edge in edges)
        raise RawFileError(f"{path}: expected cubic voxels, got {shown} um (sides {sides} um of {counts} voxels)")
    longest = int(np.argmax(counts))
    x, y, z = counts
    return (z, y, x), edges[longest] / UM_PER_MM


def _metadata(head: bytes, scaling: int, notes: list[Note]) -> dict[str, Any]:
    found: dict[str, Any] = {"mu_scaling": scaling}
    name = head[128:168].split(b"\0", 1)[0].decode("cp1252", "replace").strip()
    found |= {"sample": name} if name else {}
    voltage, current = _number(head, 168), _number(head, 172)
    found |= {"voltage_kv": voltage / 1000} if voltage > 0 else {}
    found |= {"current_ua": float(current)} if current > 0 else {}
    calibration = _calibration(head)
    if calibration is None:
        notes.append(Note("missing", "density calibration: none in the file"))
        return found
    slope, intercept, unit = calibration
    text = f"density calibration: {slope:g} x attenuation (1/cm) {intercept:+g} {unit}; kept, attenuation is measured"
    notes.append(Note("info", text))
    return found | {"density_slope": slope, "density_intercept": intercept, "density_unit": unit}


def _calibration(head: bytes) -> tuple[float, float, str] | None:
    """Slope, intercept and unit of density over attenuation in 1/cm."""
    listing = BLOCK
    if head[listing + 8 : listing + 24].strip() == b"MultiHeader":
        listing += BLOCK
    block = listing + BLOCK
    for entry in range(listing, listing + LISTED * ENTRY, ENTRY):
        if len(head) < entry + ENTRY:
            return None
        size = BLOCK * _number(head, entry + 24)
        if size < 0 or block + size > len(head):
            return None
        if head[entry + 8 : entry + 24].rstrip(b"\0 ") == b"Calibration" and size >= 2 * BLOCK:
            slope, intercept = (vax_double(head[block + at : block + at + 8]) for at in (664, 672))
            unit = head[block + 648 : block + 664].split(b"\0", 1)[0].decode("cp1252", "replace").strip()
            return (slope, intercept, unit) if np.isfinite([slope, intercept]).all() and slope else None
        block += size
    return None


def vax_double(data: bytes) -> float:
    """A VAX's double (G_floating) of 8 bytes."""
    words = struct.unpack("<4H", data)
    return 0.25 * struct.unpack(">d", struct.pack(">4H", *words))[0]
