"""Refuse a run that the disk cannot hold, before any job starts."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from xrmflow.config.ingest import IngestSection
from xrmflow.errors import RawFileError, UserError
from xrmflow.manage.inspect import inspect

NOT_KEPT = {"final": ("raw", "projections", "splits"), "standard": ("raw",), "all": ()}


def check_free_space(
    results: Path, sources: dict[str, str], params: IngestSection, *, keep: str, unfinished: Iterable[str]
) -> None:
    """Compare what the unfinished scans will add with what the disk has left.

    Args:
        results: the results folder.
        sources: raw file of each scan.
        params: how raw files are read.
        keep: which stores outlive the run; the others count for one scan at a time.
        unfinished: ids of the scans that still have work to do.

    Raises:
        UserError: the disk is too small.
    """
    kept, passing = 0.0, 0.0
    for scan in unfinished:
        stores = _stores_gb(sources[scan], params)
        passing = max(passing, sum(size for name, size in stores.items() if name in NOT_KEPT[keep]))
        kept += max(
            0.0, sum(size for name, size in stores.items() if name not in NOT_KEPT[keep]) - _used_gb(results / scan)
        )
    free = shutil.disk_usage(results).free / 1e9
    if kept + passing > free:
        raise UserError(
            f"{results}: the run needs about {kept + passing:.1f} GB at its peak, and the disk has {free:.1f} GB free; "
            "free space, put `results` on a larger disk, or set storage.keep: final (storage.check_free_space: false "
            "skips this check)"
        )


def _stores_gb(source: str, params: IngestSection) -> dict[str, float]:
    """Size of each store, 1e9 bytes; nothing for a file that cannot be read: its own job will say why."""
    try:
        found = inspect(source, params)
    except (RawFileError, OSError):
        return {}
    return found.needs.disk_gb if found.needs else {}


def _used_gb(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e9
