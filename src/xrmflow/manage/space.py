"""Refuse a run that the disk cannot hold, before any job starts."""

import shutil
from collections.abc import Collection
from pathlib import Path

from xrmflow.config.settings import Settings
from xrmflow.errors import UserError
from xrmflow.manage.estimate import needs
from xrmflow.manage.sizes import measured_size, superres_factor

NOT_KEPT = {"final": ("raw", "projections", "splits"), "standard": ("raw",), "all": ()}


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
    size = measured_size(source, settings)
    if size is None:
        return {}
    return needs(
        views=size.views,
        rows=size.rows,
        cols=size.cols,
        bytes_per_pixel=size.bytes_per_pixel,
        shape=size.shape,
        splits=settings.n2i_split.splits,
        denoise=denoised,
        superres_factor=factor,
        memory_budget_gb=settings.fdk.memory_gb,
        iterate="iterative" in settings.measure,
    ).disk_gb


def _used_gb(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e9
