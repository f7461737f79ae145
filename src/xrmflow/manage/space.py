"""Refuse a run that the disk cannot hold, before any job starts."""

import shutil
from collections.abc import Collection
from pathlib import Path

from xrmflow.errors import UserError
from xrmflow.manage.estimate import kept_and_passing, scan_footprints
from xrmflow.manage.plan import Plan


def check_free_space(plan: Plan, results: Path, *, unfinished: Collection[str], at_once: int) -> None:
    """Compare what the unfinished scans will add with what the disk has left.

    Args:
        plan: of the run.
        results: the results folder.
        unfinished: ids of the scans that still have work to do.
        at_once: scans that may be worked on together: so many hold stores that `storage.keep` does not keep.

    Raises:
        UserError: the disk is too small.
    """
    parts = {scan: kept_and_passing(plan, scan_footprints(plan, scan)) for scan in unfinished}
    staying = sum(max(0.0, kept.bytes - _used(results / scan)) for scan, (kept, _) in parts.items())
    passing = sorted((passing.bytes for _, passing in parts.values()), reverse=True)[:at_once]
    needed, free = staying + sum(passing), shutil.disk_usage(results).free
    if needed > free:
        raise UserError(
            f"{results}: the run needs about {needed / 1e9:.1f} GB at its peak, and the disk has {free / 1e9:.1f} GB "
            "free; free space, put `results` on a larger disk, or set storage.keep: final (storage.check_free_space: "
            "false skips this check)"
        )


def _used(folder: Path) -> float:
    """Bytes there already."""
    return float(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()))
