"""How large a scan is: what memory, time and disk follow from. Read from its header once, then kept.

The size of each scan is kept in a small file, because every job of a run asks again, on machines where opening
forty raw files is slow.
"""

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xrmflow.config.settings import Settings
from xrmflow.errors import RawFileError
from xrmflow.io.manifest import write_durably
from xrmflow.io.volume_kind import volume_kind

if TYPE_CHECKING:
    from xrmflow.geometry.acquisition import Acquisition

# A header longer than this is not read for its factor.
HEADER_BYTES = 1 << 20
KEPT = Path(".snakemake") / "xrmflow_sizes.json"


@dataclass(frozen=True)
class ScanSize:
    """Sizes of one scan.

    Attributes:
        views, rows, cols: of the projections; 1 each of a volume that is imported.
        bytes_per_pixel: of the raw frames.
        shape: voxels (z, y, x) of the reconstruction.
    """

    views: int
    rows: int
    cols: int
    bytes_per_pixel: int
    shape: tuple[int, int, int]

    @property
    def pixels(self) -> float:
        """Of all projections."""
        return float(self.views) * self.rows * self.cols

    @property
    def voxels(self) -> float:
        """Of the reconstruction."""
        return float(math.prod(self.shape))


def measured_size(source: Path, settings: Settings) -> ScanSize | None:
    """Read the sizes from the header of a scan; None where it cannot be read: its own job will say why."""
    import numpy as np

    from xrmflow.io.nominal import nominal_acquisition
    from xrmflow.io.sniff import open_raw
    from xrmflow.io.volume_files import open_volume_file

    try:
        if kind := volume_kind(source):
            # The shape does not depend on what grey values mean.
            with open_volume_file(source, slope=None if kind == "isq" else 1.0) as volume:
                return ScanSize(1, 1, 1, np.dtype(volume.data.dtype).itemsize, volume.grid.shape)
        with open_raw(source, settings.ingest) as scan:
            acquisition, _ = nominal_acquisition(scan, settings.ingest)
            bytes_per_pixel = np.dtype(scan.projections.dtype).itemsize
    except (RawFileError, OSError):
        return None
    return size_of(acquisition, bytes_per_pixel, settings)


def size_of(acquisition: "Acquisition", bytes_per_pixel: int, settings: Settings) -> ScanSize:
    """The sizes of a scan whose geometry is known."""
    from xrmflow.reconstruction.grids import region_grid

    voxel_um = settings.fdk.voxel_size_um if acquisition.calibrated else None
    grid = region_grid(acquisition, voxel_mm=None if voxel_um is None else voxel_um / 1000, shape=settings.fdk.shape)
    return ScanSize(acquisition.views, acquisition.rows, acquisition.cols, bytes_per_pixel, grid.shape)


def superres_factor(settings: Settings) -> int:
    """How many times finer super-resolution makes a volume: as trained here, or as the given weights say."""
    trained = settings.trained_sr
    try:
        return settings.sr_train.factor if trained is None else _factor_of(Path(trained))
    except (OSError, ValueError, KeyError, TypeError):
        # Weights that cannot be read stop their own job with a clear line.
        return settings.sr_train.factor


def _factor_of(weights: Path) -> int:
    """From the header of a safetensors file (its length, little-endian, then JSON), without its numbers."""
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(min(length, HEADER_BYTES)))
    return int(json.loads(header["__metadata__"]["xrmflow"])["options"]["factor"])


class Sizes:
    """Sizes of scans, kept in a file."""

    def __init__(self, kept: Path = KEPT) -> None:
        """Start from what the file holds."""
        self._file = kept
        self._known = _read(kept)

    def of(self, wanted: Iterable[tuple[Path, Settings]]) -> list[ScanSize | None]:
        """The sizes of scans, each read once, and what is new kept in one go.

        Args:
            wanted: the file or folder of each, and its settings: they decide how it is read and on which grid it is
                reconstructed.

        Returns:
            One a scan; None where it cannot be read.
        """
        known = len(self._known)
        sizes = [self._look(source, settings) for source, settings in wanted]
        if len(self._known) > known:
            self._keep()
        return sizes

    def _look(self, source: Path, settings: Settings) -> ScanSize | None:
        key = self._key(source, settings)
        size = self._known.get(key) or measured_size(source, settings)
        if size is not None:
            self._known[key] = size
        return size

    @staticmethod
    def _key(source: Path, settings: Settings) -> str:
        """Changes with the file and with every setting that decides its size."""
        try:
            state = source.stat()
            seen = f"{state.st_size} {state.st_mtime_ns}"
        except OSError:
            seen = "absent"
        fdk = settings.fdk
        decides = f"{seen} {fdk.voxel_size_um} {fdk.shape} {settings.ingest.canonical()}"
        return f"{source} {hashlib.sha256(decides.encode()).hexdigest()[:16]}"

    def _keep(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({key: asdict(size) for key, size in self._known.items()}, indent=1)
        write_durably(self._file, text + "\n")


class KnownSize(Sizes):
    """The size of a scan that has been looked at already."""

    def __init__(self, size: ScanSize) -> None:
        self._size = size

    def of(self, wanted: Iterable[tuple[Path, Settings]]) -> list[ScanSize | None]:
        """The size, whatever the file."""
        return [self._size for _ in wanted]


def _read(file: Path) -> dict[str, ScanSize]:
    """What was kept; nothing where it is absent or damaged, because it can always be read anew."""
    try:
        kept = json.loads(file.read_text())
        return {key: ScanSize(**{**size, "shape": tuple(size["shape"])}) for key, size in kept.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
