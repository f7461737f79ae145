"""Refuse a run that the disk cannot hold, before any job starts."""

import json
import shutil
from collections.abc import Collection
from pathlib import Path

import numpy as np

from xrmflow.config.settings import Settings
from xrmflow.errors import RawFileError, UserError
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.io.nominal import nominal_acquisition
from xrmflow.io.sniff import open_raw
from xrmflow.manage.estimate import needs
from xrmflow.reconstruction.grids import region_grid

NOT_KEPT = {"final": ("raw", "projections", "splits"), "standard": ("raw",), "all": ()}
# A header longer than this is not read for its factor.
HEADER_BYTES = 1 << 20


def check_free_space(
    results: Path,
    sources: dict[str, str],
    settings: Settings,
    *,
    unfinished: Collection[str],
    denoised: bool,
    superresolved: Collection[str],
) -> None:
    """Compare what the unfinished scans will add with what the disk has left.

    Args:
        results: the results folder.
        sources: raw file of each scan.
        settings: of the run; stores that `storage.keep` does not keep count for one scan at a time.
        unfinished: ids of the scans that still have work to do.
        denoised: whether the run has a Noise2Inverse network.
        superresolved: ids of the scans that get a super-resolved volume.

    Raises:
        UserError: the disk is too small.
    """
    kept, passing = 0.0, 0.0
    passes = NOT_KEPT[settings.storage.keep]
    factor = superres_factor(settings) if superresolved else None
    for scan in unfinished:
        stores = stores_gb(
            Path(sources[scan]), settings, denoised=denoised, factor=factor if scan in superresolved else None
        )
        passing = max(passing, sum(size for name, size in stores.items() if name in passes))
        staying = sum(size for name, size in stores.items() if name not in passes)
        kept += max(0.0, staying - _used_gb(results / scan))
    free = shutil.disk_usage(results).free / 1e9
    if kept + passing > free:
        raise UserError(
            f"{results}: the run needs about {kept + passing:.1f} GB at its peak, and the disk has {free:.1f} GB free; "
            "free space, put `results` on a larger disk, or set storage.keep: final (storage.check_free_space: false "
            "skips this check)"
        )


def stores_gb(source: Path, settings: Settings, *, denoised: bool, factor: int | None) -> dict[str, float]:
    """Size of each store of a scan, 1e9 bytes; nothing for one that cannot be read: its own job will say why."""
    try:
        with open_raw(source, settings.ingest) as scan:
            acquisition, _ = nominal_acquisition(scan, settings.ingest)
            bytes_per_pixel = np.dtype(scan.projections.dtype).itemsize
    except (RawFileError, OSError):
        return {}
    return needs(
        views=acquisition.views,
        rows=acquisition.rows,
        cols=acquisition.cols,
        bytes_per_pixel=bytes_per_pixel,
        shape=_shape(acquisition, settings),
        splits=settings.n2i_split.splits,
        denoise=denoised,
        superres_factor=factor,
        memory_budget_gb=settings.fdk.memory_gb,
    ).disk_gb


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


def _shape(acquisition: Acquisition, settings: Settings) -> tuple[int, int, int]:
    voxel_um = settings.fdk.voxel_size_um if acquisition.calibrated else None
    return region_grid(
        acquisition, voxel_mm=None if voxel_um is None else voxel_um / 1000, shape=settings.fdk.shape
    ).shape


def _used_gb(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e9
