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
large       400 x 1024 x 1024         1024 x 1024 x 1024       none
==========  ========================  =======================  =====================

Large was run with 0.5 GB for arrays (`benchmarks/budget.py`); from it are the times of reconstructions, whose start
hides all else in small scans.

A request adds a margin, and what the workflow's own two processes take in a cluster job.
"""

import math
from dataclasses import dataclass
from typing import Any

from xrmflow.arrays import piece_bytes
from xrmflow.correction.plan import COPIES, VIEWS
from xrmflow.manage.sizes import ScanSize
from xrmflow.morphometry.needs import MEASUREMENT

# Two Snakemake processes run in every cluster job beside the stage (136 and 124 MB measured).
WORKFLOW_MB = 300
MEMORY_MARGIN, BUDGET_MARGIN = 1.25, 1.1
# Nodes, file systems and neighbours differ: a limit far too long costs a place in the queue, one too short the job.
TIME_MARGIN, START_MINUTES = 4.0, 10.0
CORES_USED = 8
FLOAT = 4
# What takes a GPU where one is offered.
GPU_STAGES = ("n2i_train", "n2i_apply", "sr_train", "sr_apply")
# What puts the parts of a stage together; and of morphometry in parts the thickness of a phase, and the rest.
GATHER, THICKNESS, TABLES = "gather", "thickness", "tables"
# What a network sees around a tile, on both sides together.
TILE_HALO_PX = 64
# Filtering, reading and writing an element takes as long as so many updates of the backprojection.
UPDATES_PER_ELEMENT = 40
CENTRE_SLICES, CENTRE_COLS = 150, 768
# Slices on which filters are tuned against the truth, and those around them.
COMPARED_SLICES = 22
# What one update of the default network takes: 8 patches of 64 x 64 pixels, 16 features.
UPDATE_S, UPDATE_PIXELS, DEFAULT_FEATURES = 0.024, 8 * 64**2, 16
BLOCK_VIEWS, BLOCK_SLICES = 32, 64


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
        features: of the network it trains or applies.
        section: settings of its stage.
        volumes: how many are measured of the scan.
        refined: how many times finer the super-resolved one is; 0 where there is none.
    """

    pixels: float
    voxels: float
    views: int
    rows: int
    cols: int
    side: int
    raw_bytes: float
    splits: int
    features: int
    section: Any
    volumes: int = 1
    refined: int = 0

    @property
    def updates(self) -> float:
        """Voxels times views: what a backprojection does."""
        return self.voxels * self.views

    @property
    def reconstruction(self) -> float:
        """What a filtered backprojection does, in updates: of all views, or of each split's own."""
        return self.updates + UPDATES_PER_ELEMENT * (self.pixels + self.split_voxels)

    @property
    def band_pixels(self) -> float:
        """Of all rows in all views, with the copies of those views that are worked on."""
        return self.pixels * (1 + COPIES * min(VIEWS, self.views) / self.views)

    @property
    def fit_pixels(self) -> float:
        """Of the slab on which beam hardening is fitted."""
        return float(self.views) * self.cols * min(self.rows, self.section.slices)

    @property
    def fit_updates(self) -> float:
        """Voxels times views of that slab."""
        return float(self.views) * self.cols**2 * min(self.rows, self.section.slices)

    @property
    def centre_updates(self) -> float:
        """Voxels times views of the trial slices of the centre search."""
        return CENTRE_SLICES * self.centre_pixels * min(self.cols, CENTRE_COLS)

    @property
    def centre_pixels(self) -> float:
        """Of a sinogram in the centre search."""
        side = min(self.cols, CENTRE_COLS)
        return float(side) * min(self.views, 2 * side)

    @property
    def block_pixels(self) -> float:
        """Of the frames that are copied together."""
        return float(min(self.views, BLOCK_VIEWS)) * self.rows * self.cols

    @property
    def block_voxels(self) -> float:
        """Of the slices that are copied together."""
        return min(self.voxels, float(BLOCK_SLICES) * self.side**2)

    @property
    def shown_pixels(self) -> float:
        """Of a slice of every volume that is measured."""
        return float(self.side) ** 2 * (self.volumes + max(0, self.refined**2 - 1))

    @property
    def pictured_pixels(self) -> float:
        """Of the pictures of them on a page."""
        own, refined = (min(self.side * factor, self.section.picture_px) for factor in (1, max(1, self.refined)))
        return float(own) ** 2 * (self.volumes - 1) + float(refined) ** 2

    @property
    def compared(self) -> float:
        """Voxels of the slices that are compared with the truth; of the super-resolved ones by what they count for."""
        slices = min(self.voxels / self.side**2, COMPARED_SLICES)
        return self.side**2 * slices * (1 + self.refined**3 / 6)

    @property
    def held(self) -> float:
        """Pixels and voxels together."""
        return self.pixels + self.voxels

    @property
    def split_voxels(self) -> float:
        """Of all splits."""
        return self.voxels * self.splits

    @property
    def network_pixels(self) -> float:
        """Of a network's tile in all its inputs, for each feature of the default network."""
        tile = min(self.side, self.section.tile_px + TILE_HALO_PX)
        return self.splits * float(tile) ** 2 * self.features / DEFAULT_FEATURES

    @property
    def network_voxels(self) -> float:
        """Of the volume, for each feature of the default network; what lies around each tile is worked on, too."""
        tile = self.section.tile_px
        around = (1 + TILE_HALO_PX / tile) ** 2 if self.side > tile else 1.0
        return self.voxels * around * self.features / DEFAULT_FEATURES

    @property
    def begun_voxels(self) -> float:
        """Of the pieces of the written volume that tiles have begun: a row of them."""
        piece = piece_bytes((round(self.voxels / self.side**2), self.side, self.side), FLOAT) / FLOAT
        across = math.ceil(self.side / (piece / BLOCK_SLICES) ** 0.5)
        return min(self.block_voxels, across * piece)

    @property
    def training_s(self) -> float:
        """Core-seconds of a training."""
        work = self.section.batch * self.section.patch_px**2 / UPDATE_PIXELS
        return UPDATE_S * self.section.steps * work * max(1.0, self.features / DEFAULT_FEATURES) ** 2


@dataclass(frozen=True)
class Cost:
    """Coefficients of a stage; each of memory, more and time holds (what it is counted in, how much for each).

    Attributes:
        base_mb: what the program takes by itself.
        memory: attribute of `Job`, and bytes for each of it.
        more: likewise, on top of that.
        time: attribute of `Job`, and core-seconds for each of it.
        base_s: core-seconds to start.
        whole: whether the section's `memory_gb` is for the whole process, the program itself included.
        threads: it declares.
        taken: what is taken of the section's `memory_gb` at most.
    """

    base_mb: float
    memory: tuple[str, float]
    time: tuple[str, float]
    base_s: float = 3.0
    whole: bool = False
    threads: int = 1
    more: tuple[str, float] = ("pixels", 0)
    taken: float = 1.0


# Read off runs of tiny and demo, with what small took as a check; docs/benchmarks.md has model and measurement side by
# side. Memory of `iterative` is that of tv, the largest.
COSTS: dict[str, Cost] = {
    "ingest": Cost(95, ("block_pixels", 7), ("raw_bytes", 1 / 160e6), base_s=0.3),  # the disk decides the time
    "import_volume": Cost(90, ("block_voxels", 22), ("voxels", 0.06e-6), base_s=0.3),
    "flatfield": Cost(300, ("band_pixels", 4), ("pixels", 0.2e-6), base_s=1.8, threads=8),
    "align": Cost(415, ("centre_pixels", 1300), ("centre_updates", 0.7e-9), base_s=2.2, threads=8),
    "cupping": Cost(430, ("fit_pixels", 65), ("fit_updates", 10e-9), base_s=2.5, threads=8),
    "cupping_protocol": Cost(330, ("pixels", 0), ("pixels", 0), base_s=2.0),
    "fdk": Cost(405, ("held", 8), ("reconstruction", 0.55e-9), base_s=1.8, whole=True, threads=8),
    # Links files and makes coarser levels; measured on volumes of 128 x 256 x 256 to 128 x 1024 x 1024 voxels.
    GATHER: Cost(120, ("block_voxels", 5), ("voxels", 13e-9), base_s=0.5),
    "iterative": Cost(450, ("held", 48), ("updates", 110e-9), base_s=3.0, whole=True, threads=8),
    "n2i_split": Cost(410, ("held", 8), ("reconstruction", 0.55e-9), base_s=1.8, whole=True, threads=8),
    "n2i_train": Cost(440, ("split_voxels", 4), ("training_s", 0.9), base_s=3.5, threads=16),
    "n2i_apply": Cost(
        290, ("network_pixels", 2700), ("network_voxels", 1e-6), base_s=1.6, threads=16, more=("begun_voxels", 5)
    ),
    "sr_train": Cost(445, ("voxels", 2 * FLOAT), ("training_s", 0.5), base_s=4.0, threads=16),
    "sr_apply": Cost(
        320, ("network_pixels", 3900), ("network_voxels", 0.18e-6), base_s=1.8, threads=16, more=("begun_voxels", 5)
    ),
    "segment": Cost(225, ("voxels", 19.5), ("voxels", 0.26e-6), base_s=0.5, threads=2),
    "morphometry": Cost(285, ("voxels", 33), ("voxels", 1e-6), base_s=0.9, threads=2, taken=0.7),
    # Of the time of morphometry on 256 x 256 x 256 voxels.
    THICKNESS: Cost(285, ("voxels", 33), ("voxels", 0.5e-6), base_s=0.9, taken=0.7),
    TABLES: Cost(285, ("voxels", 33), ("voxels", 0.15e-6), base_s=0.9, taken=0.7),
    "validate": Cost(155, ("compared", 112), ("compared", 9e-6), base_s=1.9, threads=2),
    "collect": Cost(40, ("pixels", 0), ("pixels", 0), base_s=0.4),
    "report": Cost(200, ("pictured_pixels", 600), ("shown_pixels", 5e-6), base_s=1.4),
}
# A stage nobody has measured yet is taken for one that holds three copies of its volume and projections.
UNKNOWN = Cost(500, ("voxels", 3 * FLOAT + 10), ("updates", 100e-9))


def job_of(
    size: ScanSize,
    section: Any,
    *,
    finer: int = 1,
    voxels: float | None = None,
    splits: int = 1,
    features: int = DEFAULT_FEATURES,
    volumes: int = 1,
    refined: int = 0,
) -> Job:
    """What a job of a stage on a scan works on.

    Args:
        size: of the scan.
        section: settings of the stage.
        finer: how many times finer its volume is than the scan's own.
        voxels: of all its volumes, where it is more than one.
        splits: sub-reconstructions read together.
        features: of the network it trains or applies.
        volumes: how many are measured of the scan.
        refined: how many times finer the super-resolved one is; 0 where there is none.
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
        features=features,
        volumes=volumes,
        refined=refined,
        section=section,
    )


def memory_mb(stage: str, job: Job) -> int:
    """Megabytes (1e6 bytes) a job asks for: follows the stage's `memory_gb`, a budget that the stage keeps."""
    needed = _memory_mb(stage, job, margin=MEMORY_MARGIN, budget_margin=BUDGET_MARGIN)
    return _rounded(WORKFLOW_MB + needed, 50)


def used_mb(stage: str, job: Job) -> float:
    """Megabytes (1e6 bytes) a job is expected to take at its peak: what it asks for, without margins."""
    return _memory_mb(stage, job, margin=1.0, budget_margin=COSTS.get(stage, UNKNOWN).taken)


def _memory_mb(stage: str, job: Job, *, margin: float, budget_margin: float) -> float:
    cost = COSTS.get(stage, UNKNOWN)
    needed = margin * (cost.base_mb + sum(each * getattr(job, name) for name, each in (cost.memory, cost.more)) / 1e6)
    budget_gb = getattr(job.section, "memory_gb", None)
    if budget_gb is not None:
        own = 0.0 if cost.whole else margin * cost.base_mb
        needed = min(needed, own + budget_margin * 1000 * budget_gb)
    return needed


def minutes(stage: str, job: Job, *, threads: int) -> int:
    """Time limit of a job, minutes.

    Args:
        stage: its name.
        job: what it works on.
        threads: it has.
    """
    return _rounded(START_MINUTES + TIME_MARGIN * seconds(stage, job, threads=min(threads, CORES_USED)) / 60, 5)


def seconds(stage: str, job: Job, *, threads: int) -> float:
    """Seconds a job is expected to take on an otherwise quiet machine; core-seconds for one thread."""
    cost = COSTS.get(stage, UNKNOWN)
    name, each = cost.time
    used = 1 if stage == "morphometry" and _from_disk(job) else max(1, threads)
    return cost.base_s + each * getattr(job, name) / used


def _from_disk(job: Job) -> bool:
    """Whether bone is measured with arrays on a disk: then it is one phase after the other."""
    return MEASUREMENT.volume_bytes * job.voxels > 1e9 * getattr(job.section, "memory_gb", math.inf)


def threads_of(stage: str) -> int:
    """Threads a job declares; where a run has fewer cores, Snakemake gives it those."""
    return COSTS.get(stage, UNKNOWN).threads


def _rounded(value: float, step: int) -> int:
    """Up to the next multiple."""
    return int(-(-value // step) * step)
