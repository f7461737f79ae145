"""Memory and time a job asks for, from the size of its data.

Memory is a straight line: what the program takes by itself, and bytes for each pixel or voxel it holds at a time. Time
is counted in seconds of one core. The coefficients were read off the logs of finished runs (`xrmflow usage`) on two
cores without a GPU, with these sizes:

==========  ========================  =======================  =====================
run         projections               volume                   finer volume
==========  ========================  =======================  =====================
tiny        72 x 32 x 64              32 x 64 x 64             64 x 128 x 128
demo        320 x 96 x 160            96 x 160 x 160           192 x 320 x 320
small       600 x 192 x 256           192 x 256 x 256          none
==========  ========================  =======================  =====================

A request adds a margin, and what the workflow's own two processes take in a cluster job.
"""

from dataclasses import dataclass
from typing import Any

from xrmflow.manage.sizes import ScanSize

# Two Snakemake processes run in every cluster job beside the stage (136 and 124 MB measured).
WORKFLOW_MB = 300
MEMORY_MARGIN, BUDGET_MARGIN = 1.25, 1.1
# Nodes, file systems and neighbours differ: a limit far too long costs a place in the queue, one too short the job.
TIME_MARGIN, START_MINUTES = 4.0, 10.0
CORES_USED = 8
FLOAT = 4
# The most a network's tile has on a side, halo included, and the slices the hardening fit looks at.
TILE_PX, FIT_SLICES = 576, 48
CENTRE_SLICES, CENTRE_COLS = 150, 768
# What one update of the default network takes: 8 patches of 64 x 64 pixels, 16 features.
UPDATE_S, UPDATE_PIXELS, UPDATE_FEATURES = 0.024, 8 * 64**2, 16


@dataclass(frozen=True)
class Job:
    """What one job works on.

    Attributes:
        pixels: of the projections it reads.
        voxels: of the volume it reads or writes; for training, of all volumes it learns from.
        views: projections; rows, cols: of one of them.
        side: voxels of a slice along its longer side.
        raw_bytes: of the raw frames.
        splits: sub-reconstructions read together.
        section: settings of its stage.
    """

    pixels: float
    voxels: float
    views: int
    rows: int
    cols: int
    side: int
    raw_bytes: float
    splits: int
    section: Any

    @property
    def updates(self) -> float:
        """Voxels times views: what a backprojection does."""
        return self.voxels * self.views

    @property
    def fit_pixels(self) -> float:
        """Of the slab on which beam hardening is fitted."""
        return float(self.views) * self.cols * min(self.rows, FIT_SLICES)

    @property
    def fit_updates(self) -> float:
        """Voxels times views of that slab."""
        return float(self.views) * self.cols**2 * min(self.rows, FIT_SLICES)

    @property
    def centre_updates(self) -> float:
        """Voxels times views of the trial slices of the centre search."""
        side = min(self.cols, CENTRE_COLS)
        return float(CENTRE_SLICES) * min(self.views, 2 * side) * side**2

    @property
    def held(self) -> float:
        """Pixels and voxels together."""
        return self.pixels + self.voxels

    @property
    def split_voxels(self) -> float:
        """Of all splits."""
        return self.voxels * self.splits

    @property
    def tile_pixels(self) -> float:
        """Of a network's tile, in all its inputs."""
        return self.splits * float(min(self.side, TILE_PX)) ** 2

    @property
    def training_s(self) -> float:
        """Core-seconds of a training."""
        work = self.section.batch * self.section.patch_px**2 / UPDATE_PIXELS
        return UPDATE_S * self.section.steps * work * max(1.0, self.section.features / UPDATE_FEATURES) ** 2


@dataclass(frozen=True)
class Cost:
    """Coefficients of a stage; each of the last two holds (what it is counted in, how much for each).

    Attributes:
        base_mb: what the program takes by itself.
        memory: attribute of `Job`, and bytes for each of it.
        time: attribute of `Job`, and core-seconds for each of it.
        base_s: core-seconds to start.
        budget_gb: the most that `memory` becomes; None takes the section's `memory_gb` where it has one.
        whole: whether that budget is for the whole process, the program itself included.
    """

    base_mb: float
    memory: tuple[str, float]
    time: tuple[str, float]
    base_s: float = 3.0
    budget_gb: float | None = None
    whole: bool = False


# Behind each line the peak MB that decided it: of small; of demo's bone, its finer scan (pair, 360 x 96 x 192) or its
# finer volume; of tiny. Those of demo's bone are from Snakemake's sampling, which misses short peaks.
COSTS: dict[str, Cost] = {
    "ingest": Cost(200, ("raw_bytes", 0.0), ("raw_bytes", 1 / 80e6)),  # small 114; the disk decides the time
    "flatfield": Cost(650, ("pixels", 61), ("pixels", 0.5e-6), budget_gb=2.0),  # small 2254, pair 1054
    "align": Cost(490, ("pixels", 4.5), ("centre_updates", 1e-9)),  # small 611, pair 528
    "cupping": Cost(550, ("fit_pixels", 49), ("fit_updates", 14e-9)),  # small 903, pair 705
    "cupping_protocol": Cost(250, ("pixels", 0), ("pixels", 0)),
    "fdk": Cost(430, ("held", 6.6), ("updates", 3.3e-9), whole=True),  # small 709, demo 459
    "iterative": Cost(450, ("held", 48), ("updates", 240e-9), base_s=5, whole=True),  # tv, the largest and longest
    "n2i_split": Cost(470, ("voxels", 14), ("updates", 3.3e-9), whole=True),  # small 645, demo 500
    "n2i_train": Cost(500, ("split_voxels", 4), ("training_s", 1.0), base_s=10),  # small 638, demo 501; four splits
    "n2i_apply": Cost(420, ("tile_pixels", 1800), ("voxels", 1.2e-6)),  # small 896, demo 530; four splits
    "sr_train": Cost(450, ("voxels", 2 * FLOAT), ("training_s", 1.0), base_s=10),  # demo 469
    "sr_apply": Cost(460, ("tile_pixels", 2000), ("voxels", 0.5e-6)),  # demo's finer (sampled) 571
    "segment": Cost(160, ("voxels", 36), ("voxels", 0.4e-6)),  # small 581, demo's finer (sampled) 731
    "morphometry": Cost(280, ("voxels", 69), ("voxels", 1.5e-6)),  # small 1142, tiny 284
    "validate": Cost(320, ("voxels", 56), ("voxels", 4e-6), base_s=15),  # small 1001, demo 421
    "collect": Cost(250, ("pixels", 0), ("pixels", 0)),
    "report": Cost(300, ("voxels", 2), ("voxels", 0.1e-6), base_s=5),  # small 235, demo 223
}
# A stage nobody has measured yet is taken for one that holds three copies of its volume and projections.
UNKNOWN = Cost(500, ("voxels", 3 * FLOAT + 10), ("updates", 100e-9))


def job_of(size: ScanSize, section: Any, *, finer: int = 1, voxels: float | None = None, splits: int = 1) -> Job:
    """What a job of a stage on a scan works on.

    Args:
        size: of the scan.
        section: settings of the stage.
        finer: how many times finer its volume is than the scan's own.
        voxels: of all its volumes, where it is more than one.
        splits: sub-reconstructions read together.
    """
    return Job(
        pixels=size.pixels,
        voxels=size.voxels * finer**3 if voxels is None else voxels,
        views=size.views,
        rows=size.rows,
        cols=size.cols,
        side=max(size.shape[1:]) * finer,
        raw_bytes=size.pixels * size.bytes_per_pixel,
        splits=splits,
        section=section,
    )


def memory_mb(stage: str, job: Job) -> int:
    """Megabytes (1e6 bytes) a job asks for: follows the stage's `memory_gb`, a budget that the stage keeps."""
    cost = COSTS.get(stage, UNKNOWN)
    name, each = cost.memory
    needed = MEMORY_MARGIN * (cost.base_mb + each * getattr(job, name) / 1e6)
    budget_gb = cost.budget_gb or getattr(job.section, "memory_gb", None)
    if budget_gb is not None:
        own = 0.0 if cost.whole else MEMORY_MARGIN * cost.base_mb
        needed = min(needed, own + BUDGET_MARGIN * 1000 * budget_gb)
    return _rounded(WORKFLOW_MB + needed, 50)


def minutes(stage: str, job: Job, *, threads: int) -> int:
    """Time limit of a job, minutes.

    Args:
        stage: its name.
        job: what it works on.
        threads: it has.
    """
    cost = COSTS.get(stage, UNKNOWN)
    name, each = cost.time
    seconds = cost.base_s + each * getattr(job, name) / max(1, min(threads, CORES_USED))
    return _rounded(START_MINUTES + TIME_MARGIN * seconds / 60, 5)


def _rounded(value: float, step: int) -> int:
    """Up to the next multiple."""
    return int(-(-value // step) * step)
