"""Refuse a run that the disk cannot hold, before any job starts."""

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from xrmflow.errors import UserError
from xrmflow.io.scratch import SCRATCH
from xrmflow.manage.disk import kept_and_passing, scan_footprints, scratch
from xrmflow.manage.estimate import size_text
from xrmflow.manage.jobs import planned_jobs
from xrmflow.manage.plan import Plan


def check_free_space(plan: Plan, results: Path, *, unfinished: Collection[str], cores: int | None) -> None:
    """Compare what the unfinished scans will add with what the disk has left.

    As many scans as there are cores may be worked on together: so many hold stores that `storage.keep` does not keep.
    Scratch counts where it lies beside the results.

    Args:
        plan: of the run.
        results: the results folder.
        unfinished: ids of the scans that still have work to do.
        cores: that the run uses at once; None where the cluster decides, and all scans may be worked on together.

    Raises:
        UserError: the disk is too small.
    """
    parts = {scan: kept_and_passing(plan, scan_footprints(plan, scan)) for scan in unfinished}
    staying = sum(max(0.0, kept.bytes - _used(results / scan)) for scan, (kept, _) in parts.items())
    passing = sorted((passing.bytes for _, passing in parts.values()), reverse=True)[:cores]
    jobs = [job for job in planned_jobs(plan) if job.scan in unfinished]
    beside = 0.0 if os.environ.get(SCRATCH) else scratch(plan, jobs, cores=cores)
    needed, free = staying + sum(passing) + beside, shutil.disk_usage(results).free
    if needed > free:
        raise UserError(
            f"{results}: the run needs about {size_text(needed / 1e9)} at its peak, and the disk has "
            f"{size_text(free / 1e9)} free; free space, put `results` on a larger disk, or set storage.keep: final "
            "(storage.check_free_space: false skips this check)"
        )


def _used(folder: Path) -> float:
    """Bytes there already."""
    return float(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()))
