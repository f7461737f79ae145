"""What the scans of a run take on the disk: stores that stay, stores that pass, and scratch."""

from collections.abc import Collection, Iterable
from typing import Any

from xrmflow.manage.footprint import Footprint, beside_stores, scratch_bytes, store_footprints
from xrmflow.manage.jobs import planned_jobs
from xrmflow.manage.parts import Parts
from xrmflow.manage.pieces import number_of
from xrmflow.manage.plan import Plan
from xrmflow.manage.resources import threads_of
from xrmflow.manage.sizes import superres_factor
from xrmflow.manage.steps import Step

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
# Stages that may keep intermediate results in files.
FROM_DISK = ("flatfield", "segment", "morphometry")


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
    imported, number = plan.imports(scan), number_of(plan, jobs)
    others = beside_stores(size, plan.measured(scan), jobs=number, factor=factor, imported=imported)
    return found | {"others": others}


def shared_footprint(jobs: Collection[Step]) -> Footprint:
    """What jobs take that belong to no single scan: networks, and the tables of the study."""
    models = sum(job.stage.endswith("_train") for job in jobs)
    return Footprint(models * BYTES_OF_MODEL, models * FILES_OF_MODEL + (len(jobs) - models) * FILES_OF_STUDY)


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
