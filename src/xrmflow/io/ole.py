"""Reading named streams out of a compound file (OLE2), with every defect an error in one line.

The reading itself is olefile's. Added here: typed access, case does not matter in names, and a check that no sector
belongs to two chains (a loop would otherwise be read as if it were data).
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import olefile

from xrmflow.errors import RawFileError

LAST_SECTOR = 0xFFFFFFFA
FAULTS = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    struct.error,
    ArithmeticError,
    RecursionError,
    MemoryError,
    EOFError,
)


class Container:
    """An open compound file.

    Raises:
        RawFileError: the container is truncated or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._faults_in_words():
            self._ole: Any = olefile.OleFileIO(str(path), raise_defects=olefile.DEFECT_INCORRECT)
        with self._faults_in_words():
            self._check_chains()
            self.names = {"/".join(parts).lower(): parts for parts in self._ole.listdir(streams=True, storages=False)}

    def close(self) -> None:
        """Release the file."""
        self._ole.close()

    def size(self, name: str) -> int | None:
        """Bytes in a stream, or None when there is no such stream."""
        parts = self.names.get(name.lower())
        return None if parts is None else self._ole.get_size(parts)

    def read(self, name: str) -> bytes | None:
        """A stream's content, or None when there is no such stream."""
        parts = self.names.get(name.lower())
        if parts is None:
            return None
        with self._faults_in_words():
            return self._ole.openstream(parts).read()

    def integer(self, name: str) -> int | None:
        """First little-endian int32 of a stream."""
        data = self.read(name)
        return int.from_bytes(data[:4], "little", signed=True) if data is not None and len(data) >= 4 else None

    def floats(self, name: str) -> np.ndarray | None:
        """A stream as float64 (stored as little-endian float32); never empty."""
        data = self.read(name)
        if data is None or len(data) < 4:
            return None
        with np.errstate(invalid="ignore"):  # garbage may be a signalling NaN, of which numpy warns
            return np.frombuffer(data[: len(data) // 4 * 4], "<f4").astype(np.float64)

    def number(self, name: str) -> float | None:
        """First float of a stream, or None where it is missing or not finite."""
        values = self.floats(name)
        return float(values[0]) if values is not None and np.isfinite(values[0]) else None

    def text(self, name: str) -> str | None:
        """A stream as text up to the first NUL (what follows is garbage), or None where there is none."""
        data = self.read(name)
        return (clean_text(data) or None) if data is not None else None

    def texts(self, name: str, width: int) -> list[str]:
        """A stream of fixed-width texts."""
        data = self.read(name) or b""
        return [clean_text(data[start : start + width]) for start in range(0, len(data) - width + 1, width)]

    def _check_chains(self) -> None:
        ole = self._ole
        fat = np.asarray(ole.fat, dtype=np.int64)
        starts = [ole.first_dir_sector, ole.first_mini_fat_sector]
        starts += [
            entry.isectStart
            for entry in filter(None, ole.direntries)
            if entry.entry_type == olefile.STGTY_ROOT or entry.size >= ole.mini_stream_cutoff_size
        ]
        targets = np.concatenate([fat, np.asarray(starts, dtype=np.int64)])
        targets = targets[(targets >= 0) & (targets < LAST_SECTOR)]
        if np.unique(targets).size != targets.size:
            raise ValueError("a sector belongs to two chains")

    @contextmanager
    def _faults_in_words(self) -> Iterator[None]:
        try:
            yield
        except FAULTS as error:
            why = str(error) or type(error).__name__
            raise RawFileError(
                f"{self.path}: truncated or damaged ({why}); copy the file again from its source"
            ) from None


def clean_text(data: bytes) -> str:
    """Bytes up to the first NUL as text; the microscopes write Windows-1252."""
    return data.split(b"\0", 1)[0].decode("cp1252", "replace").strip()
