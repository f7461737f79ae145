"""Say what a run will take before anything runs: disk, files, memory, core-hours, GPU-hours, and how long it lasts.

Memory and time are those of its jobs (`pieces`); disk follows from the layout of the stores (`disk`). Everything is
counted for a run from the raw files on, whatever is finished already.
"""

import json as json_text
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xrmflow.config.scans import Scan
from xrmflow.config.settings import Settings
from xrmflow.errors import UserError
from xrmflow.io.scratch import SCRATCH
from xrmflow.manage.disk import kept_and_passing, scan_footprints, scratch, shared_footprint
from xrmflow.manage.footprint import Footprint
from xrmflow.manage.jobs import planned_jobs
from xrmflow.manage.pieces import GPU_CORES, busy_s, core_seconds, expected_mb, largest_of, longest_s, number_of, on_gpu
from xrmflow.manage.plan import Plan, load_plan
from xrmflow.manage.sizes import KnownSize, ScanSize
from xrmflow.manage.steps import Step

# Snakemake itself, until the first job and after the last.
WORKFLOW_S = 8.0
COLUMNS = ("scan", "jobs", "kept", "peak", "scratch", "files", "memory", "in stage", "core-hours", "GPU-hours")
LEFT_ALIGNED = ("scan", "in stage")


@dataclass(frozen=True)
class Needs:
    """What a scan, or a whole run, will take.

    Attributes:
        name: the scan's id; "models and study" for what all scans share, "total" for the run.
        jobs: how many.
        disk_gb: by store, 1e9 bytes; "others" for records, pictures and reports.
        kept_gb: what is left at the end. peak_gb: the most there is at a time, without scratch.
        scratch_gb: files without a name that jobs have at a time, on the same disk or a node's.
        files: left at the end.
        memory_gb: the largest job, 1e9 bytes. largest: its stage.
        seconds: by stage, on `cores` cores. wall_s: from start to end.
        core_hours, gpu_hours: computed.
        cores: the times are for.
    """

    name: str
    jobs: int
    disk_gb: dict[str, float]
    kept_gb: float
    peak_gb: float
    scratch_gb: float
    files: int
    memory_gb: float
    largest: str
    seconds: dict[str, float]
    wall_s: float
    core_hours: float
    gpu_hours: float
    cores: int

    def to_dict(self) -> dict[str, Any]:
        """The needs as plain values, rounded."""
        return {name: _rounded(value) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        scans: needs of each, and of the networks and the study.
        total: of the run.
        unread: ids of scans that could not be read, and count for nothing.
    """

    scans: tuple[Needs, ...]
    total: Needs
    unread: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        rows = [needs.to_dict() for needs in self.scans]
        return {"scans": rows, "total": self.total.to_dict(), "unread": list(self.unread)}


def run(*, settings: Path = Path("config/config.yaml"), cores: int | None = None, json: bool = False) -> str:
    """Say what a run will take before anything runs: disk, files, memory, core-hours, GPU-hours, and how long it lasts.

    Args:
        settings: settings file of the run, as for snakemake.
        cores: cores the run may use at once; default those of this machine.
        json: print JSON instead of a table.
    """
    if cores is not None and cores < 1:
        raise UserError(f"--cores: expected at least 1, got {cores}")
    plan = load_plan(str(settings))
    plan.offer_gpus(None, cluster=False)
    found = estimate(plan, cores=cores or os.cpu_count() or 1)
    return json_text.dumps(found.to_dict(), indent=1) if json else table(found)


def estimate(plan: Plan, *, cores: int) -> Estimate:
    """Estimate a run of all scans of a plan.

    Args:
        plan: of the run.
        cores: that it may use at once, on one machine or many.
    """
    jobs = planned_jobs(plan)
    rows = []
    for scan in plan.scans:
        own = [job for job in jobs if job.scan == scan]
        rows.append(_needs(scan, own, plan, cores, scan_footprints(plan, scan, own)))
    shared = [job for job in jobs if not job.scan]
    if shared:
        rows.append(_needs("models and study", shared, plan, cores, {"others": shared_footprint(shared)}))
    unread = tuple(scan for scan in plan.scans if plan.size(scan) is None)
    return Estimate(tuple(rows), _total(rows, jobs, plan, cores), unread)


def needs_of(size: ScanSize, settings: Settings, *, cores: int) -> Needs:
    """What a run on a single scan, whose networks are trained on itself, will take.

    Args:
        size: of the scan.
        settings: of the run.
        cores: that it may use at once.
    """
    plan = Plan(settings, {"scan": Scan(scan="scan", source="scan", role="train")}, sizes=KnownSize(size))
    return estimate(plan, cores=cores).total


def table(found: Estimate) -> str:
    """One line a scan, then the total in words."""
    rows = [_row(needs) for needs in (*found.scans, found.total)]
    widths = [max(len(row[k]) for row in [COLUMNS, *rows]) for k in range(len(COLUMNS))]
    lines = ["  ".join(_cell(row[k], widths[k], k) for k in range(len(COLUMNS))).rstrip() for row in [COLUMNS, *rows]]
    total = found.total
    lines += [
        "",
        f"disk: {size_text(total.kept_gb)} kept in {total.files} files, {size_text(total.peak_gb)} at the peak",
        *_scratch_line(total),
        f"memory: {size_text(total.memory_gb)} for the largest job ({total.largest})",
        f"time: about {time_text(total.wall_s)} on {total.cores} cores",
    ]
    if total.gpu_hours:
        lines.append(f"GPU-hours are a guess (a GPU taken for {GPU_CORES} cores): nothing was measured on one yet")
    if found.unread:
        lines.append(f"not counted, because they cannot be read: {', '.join(found.unread)}")
    return "\n".join(lines)


def _scratch_line(total: Needs) -> list[str]:
    where = "on the disk that XRMFLOW_SCRATCH names" if os.environ.get(SCRATCH) else "beside the results"
    return [f"scratch: {size_text(total.scratch_gb)} {where} while jobs work"] if total.scratch_gb else []


def _needs(name: str, jobs: list[Step], plan: Plan, cores: int, stores: dict[str, Footprint]) -> Needs:
    kept, passing = kept_and_passing(plan, stores)
    memory = {job.stage: 0.0 for job in jobs} | largest_of((job.stage, expected_mb(plan, job)) for job in jobs)
    times = _by_stage(jobs, plan, cores)
    largest = max(memory, key=lambda stage: memory[stage], default="")
    return Needs(
        name=name,
        jobs=number_of(plan, jobs),
        disk_gb={store: footprint.bytes / 1e9 for store, footprint in stores.items()},
        kept_gb=kept.bytes / 1e9,
        peak_gb=(kept + passing).bytes / 1e9,
        scratch_gb=scratch(plan, jobs, cores=cores) / 1e9,
        files=kept.files,
        memory_gb=memory.get(largest, 0.0) / 1000,
        largest=largest,
        seconds=times,
        wall_s=sum(times.values()),
        core_hours=sum(core_seconds(plan, job) for job in jobs) / 3600,
        gpu_hours=sum(core_seconds(plan, job) for job in jobs if on_gpu(plan, job)) / 3600,
        cores=cores,
    )


def _total(rows: list[Needs], jobs: list[Step], plan: Plan, cores: int) -> Needs:
    """The run: as many scans as there are cores may have stores that are deleted later."""
    stores: dict[str, float] = {}
    for row in rows:
        for name, size in row.disk_gb.items():
            stores[name] = stores.get(name, 0.0) + size
    kept = sum(row.kept_gb for row in rows)
    passing = sorted((row.peak_gb - row.kept_gb for row in rows), reverse=True)[:cores]
    widest = max(rows, key=lambda row: row.memory_gb)
    times = _by_stage(jobs, plan, cores)
    longest = largest_of((job.stage, longest_s(plan, job, cores)) for job in jobs)
    return Needs(
        name="total",
        jobs=number_of(plan, jobs),
        disk_gb=stores,
        kept_gb=kept,
        peak_gb=kept + sum(passing),
        scratch_gb=scratch(plan, jobs, cores=cores) / 1e9,
        files=sum(row.files for row in rows),
        memory_gb=widest.memory_gb,
        largest=f"{widest.largest} of {widest.name}",
        seconds=times,
        wall_s=WORKFLOW_S + max(sum(times.values()), sum(longest.values())),
        core_hours=sum(row.core_hours for row in rows),
        gpu_hours=sum(row.gpu_hours for row in rows),
        cores=cores,
    )


def _by_stage(jobs: list[Step], plan: Plan, cores: int) -> dict[str, float]:
    """Seconds that the jobs of each stage take of a machine with so many cores."""
    times: dict[str, float] = {}
    for job in jobs:
        times[job.stage] = times.get(job.stage, 0.0) + busy_s(plan, job, cores)
    return times


def _row(needs: Needs) -> tuple[str, ...]:
    return (
        needs.name,
        str(needs.jobs),
        size_text(needs.kept_gb),
        size_text(needs.peak_gb),
        size_text(needs.scratch_gb),
        str(needs.files),
        size_text(needs.memory_gb),
        needs.largest,
        f"{needs.core_hours:.2f}",
        f"{needs.gpu_hours:.2f}",
    )


def _cell(text: str, width: int, column: int) -> str:
    return text.ljust(width) if COLUMNS[column] in LEFT_ALIGNED else text.rjust(width)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    return round(value, 6) if isinstance(value, float) else value


def size_text(gigabytes: float) -> str:
    """A size as a person writes it."""
    return f"{gigabytes:.1f} GB" if gigabytes >= 1 else f"{gigabytes * 1000:.1f} MB"


def time_text(seconds: float) -> str:
    """A time as a person writes it."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
