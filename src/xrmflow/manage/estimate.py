"""Say what a run will take before anything runs: disk, files, memory, core-hours, GPU-hours, and how long it lasts.

Memory and time are those that jobs ask for (`resources`), without their margins; disk follows from the layout of the
stores (`footprint`). Everything is counted for a run from the raw files on, whatever is finished already.
"""

import json as json_text
import os
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from xrmflow.config.scans import Scan
from xrmflow.config.settings import Settings
from xrmflow.io.scratch import SCRATCH
from xrmflow.manage.footprint import Footprint, beside_stores, scratch_bytes, store_footprints
from xrmflow.manage.jobs import planned_jobs
from xrmflow.manage.parts import Parts
from xrmflow.manage.plan import Plan, load_plan
from xrmflow.manage.resources import (
    CORES_USED,
    GATHER,
    GPU_STAGES,
    TABLES,
    THICKNESS,
    Job,
    seconds,
    threads_of,
    used_mb,
)
from xrmflow.manage.sizes import ScanSize, Sizes, superres_factor
from xrmflow.manage.steps import Step

# Of networks on a GPU, in cores that would do the same work. Assumed: nothing was measured on a GPU yet.
GPU_CORES = 50
# Snakemake itself, until the first job and after the last.
WORKFLOW_S = 8.0
# Weights and card of a trained network, with their checksums, log and benchmark file; tables of the study with theirs.
FILES_OF_MODEL, BYTES_OF_MODEL = 6, 0.6e6
FILES_OF_STUDY = 6
# The store that a stage writes; `segment` writes the masks of a volume.
STORES = {
    "ingest": "raw",
    "import_volume": "volume",
    "flatfield": "projections",
    "fdk": "volume",
    "iterative": "iterative",
    "n2i_split": "splits",
    "n2i_apply": "denoised",
    "sr_apply": "superres",
}
# Stores that a level of storage.keep deletes once they have been read.
NOT_KEPT = {"final": ("raw", "projections", "splits"), "standard": ("raw",), "all": ()}
COLUMNS = ("scan", "jobs", "kept", "peak", "scratch", "files", "memory", "in stage", "core-hours", "GPU-hours")
LEFT_ALIGNED = ("scan", "in stage")
# Stages that may keep intermediate results in files.
FROM_DISK = ("flatfield", "segment", "morphometry")


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
        rows.append(_needs("models and study", shared, plan, cores, {"others": _shared_footprint(shared)}))
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


class KnownSize(Sizes):
    """The size of a scan that has been looked at already."""

    def __init__(self, size: ScanSize) -> None:
        self._size = size

    def of(self, wanted: Iterable[tuple[Path, Settings]]) -> list[ScanSize | None]:
        """The size, whatever the file."""
        return [self._size for _ in wanted]


def scan_footprints(plan: Plan, scan: str, jobs: Iterable[Step] | None = None) -> dict[str, Footprint]:
    """What each store of a scan takes; nothing for a scan that cannot be read: its own job will say why."""
    size = plan.size(scan)
    if size is None:
        return {}
    jobs = [job for job in planned_jobs(plan) if job.scan == scan] if jobs is None else list(jobs)
    made = [f"bone/{job.volume}" if job.stage == "segment" else STORES.get(job.stage) for job in jobs]
    factor = superres_factor(plan.settings) if "superres" in made else 1
    every = store_footprints(size, splits=plan.settings.n2i_split.splits, factor=factor)
    found = {name: every[name] for name in made if name is not None}
    imported, number = plan.imports(scan), _number(plan, jobs)
    others = beside_stores(size, plan.measured(scan), jobs=number, factor=factor, imported=imported)
    return found | {"others": others}


def kept_and_passing(plan: Plan, stores: dict[str, Footprint]) -> tuple[Footprint, Footprint]:
    """What stays of a scan's stores, and what is deleted once it has been read."""
    passes = NOT_KEPT[plan.settings.storage.keep]
    passing = sum((stores[name] for name in stores if name in passes), Footprint())
    return sum((stores[name] for name in stores if name not in passes), Footprint()), passing


def scratch(plan: Plan, jobs: Iterable[Step], *, cores: int | None) -> float:
    """Bytes of scratch that as many of the jobs as run at the same time have at most.

    Args:
        plan: of the run.
        jobs: of all stages.
        cores: that the run may use at once; None where all jobs may run together.
    """
    each = sorted((size for job in jobs if job.stage in FROM_DISK for size in _scratch(plan, job)), reverse=True)
    return sum(each if cores is None else each[: max(1, cores // threads_of("morphometry"))])


def _scratch(plan: Plan, job: Step) -> list[float]:
    """Of a job, or of each of the parts that it is cut into: they run side by side."""
    size = plan.size(job.scan)
    if size is None:
        return []
    factor = superres_factor(plan.settings) if job.volume == "superres" else 1
    section: Any = plan.settings_of(job.scan).section(job.stage)
    frames, volume = (size.views, size.rows, size.cols), tuple(factor * n for n in size.shape)
    shape = frames if job.stage == "flatfield" else volume
    needed = scratch_bytes(job.stage, shape, memory_gb=section.memory_gb)
    return [needed] * (len(Parts(plan).by_size(job.stage, job.scan, job.volume)) or 1)


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
    memory = {job.stage: 0.0 for job in jobs} | _largest((job.stage, expected_mb(plan, job)) for job in jobs)
    times = _by_stage(jobs, plan, cores)
    largest = max(memory, key=lambda stage: memory[stage], default="")
    return Needs(
        name=name,
        jobs=_number(plan, jobs),
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
        gpu_hours=sum(core_seconds(plan, job) for job in jobs if _on_gpu(plan, job)) / 3600,
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
    longest = _largest((job.stage, _longest_s(plan, job, cores)) for job in jobs)
    return Needs(
        name="total",
        jobs=_number(plan, jobs),
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
        times[job.stage] = times.get(job.stage, 0.0) + _busy_s(plan, job, cores)
    return times


def expected_mb(plan: Plan, job: Step) -> float:
    """Megabytes a job is expected to take at its peak; of one that is cut into parts the largest of these."""
    return max(used_mb(piece.stage, piece.work) for piece in pieces(plan, job))


def core_seconds(plan: Plan, job: Step) -> float:
    """Of one core; for a job on a GPU the seconds it lasts, because one core waits for it."""
    return sum(seconds(piece.stage, piece.work, threads=_speed(plan, piece, 1)) for piece in pieces(plan, job))


def pieces(plan: Plan, job: Step) -> list["Piece"]:
    """The jobs that a job is: itself, or those of its parts and one that puts these together."""
    parts, whole = Parts(plan), plan.work(job.stage, _wildcards(job))
    cut = parts.by_size(job.stage, job.scan, job.volume)
    if not cut:
        return [Piece(job.stage, whole)]
    works = [parts.work(job.stage, SimpleNamespace(**vars(_wildcards(job)), part=part)) for part in cut]
    part, rest = (THICKNESS, TABLES) if job.stage == "morphometry" else (job.stage, GATHER)
    return [*(Piece(part, work) for work in works), Piece(rest, whole)]


@dataclass(frozen=True)
class Piece:
    """One job as Snakemake sees it.

    Attributes:
        stage: its name, or that of the part of it: "gather" for what puts parts together.
        work: what it works on.
    """

    stage: str
    work: Job


def _number(plan: Plan, jobs: Iterable[Step]) -> int:
    """How many jobs there are."""
    return sum(len(pieces(plan, job)) for job in jobs)


def _busy_s(plan: Plan, job: Step, cores: int) -> float:
    """Seconds that a job and its parts keep so many cores busy."""
    each = (_seconds(plan, piece, cores) * min(threads_of(piece.stage), cores) for piece in pieces(plan, job))
    return sum(each) / cores


def _longest_s(plan: Plan, job: Step, cores: int) -> float:
    """Seconds from a job's start to its end where all its parts run at once."""
    longest = _largest((piece.stage, _seconds(plan, piece, cores)) for piece in pieces(plan, job))
    return sum(longest.values())


def _seconds(plan: Plan, piece: Piece, cores: int) -> float:
    return seconds(piece.stage, piece.work, threads=_speed(plan, piece, cores))


def _speed(plan: Plan, piece: Piece, cores: int) -> int:
    """Cores that a job makes use of."""
    return GPU_CORES if _on_gpu(plan, piece) else min(threads_of(piece.stage), cores, CORES_USED)


def _on_gpu(plan: Plan, job: Step | Piece) -> bool:
    return bool(plan.gpu) and job.stage in GPU_STAGES


def _wildcards(job: Step) -> Any:
    return SimpleNamespace(**{name: value for name, value in asdict(job).items() if value and name != "stage"})


def _shared_footprint(jobs: Collection[Step]) -> Footprint:
    models = sum(job.stage.endswith("_train") for job in jobs)
    return Footprint(models * BYTES_OF_MODEL, models * FILES_OF_MODEL + (len(jobs) - models) * FILES_OF_STUDY)


def _largest(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The largest value of each name."""
    found: dict[str, float] = {}
    for name, value in pairs:
        found[name] = max(found.get(name, 0.0), value)
    return found


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
