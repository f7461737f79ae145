"""Which stages work on a scan in parts, jobs of their own, and where their volumes and projections are cut.

Size decides, with one exception: what is there and up to date stays as it was made, in one job or in parts of whatever
size. Snakemake would make it anew, because another rule with other inputs writes it; but its bits are the same.
"""

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xrmflow.manage import resources
from xrmflow.manage.jobs import planned_jobs
from xrmflow.manage.origin import record_of, recorded_lineage
from xrmflow.manage.sizes import superres_factor
from xrmflow.manage.steps import Step

if TYPE_CHECKING:
    from xrmflow.manage.plan import Plan

# What the process that plans a run has found made otherwise than size would have it, for its jobs to inherit.
MADE = "XRMFLOW_PARTS"
# Parts are whole layers of the chunks of stores.
LAYER, FLOAT = 64, 4
# Thickness, which looks at whole volumes, is not cut into slices: each phase is a part.
PHASES = ["bone", "marrow"]
# Each stage that can work in parts, and a file that it always leaves, from the folder of a scan.
RESULTS = {
    "flatfield": "flatfield.json",
    "fdk": "volume.zarr/manifest.json",
    "n2i_split": "splits/0.zarr/manifest.json",
    "n2i_apply": "denoised.zarr/manifest.json",
    "sr_apply": "superres.zarr/manifest.json",
    "morphometry": "morphometry/{volume}.csv",
}
NAME = re.compile(r"/parts/\w+?_(\d+-\d+|bone|marrow)\.(?:zarr/manifest\.)?json$")
RULE = re.compile(r"(\w+)_(?:part|gather)")


def stage_of(rule: str) -> str:
    """The stage that a rule belongs to."""
    found = RULE.fullmatch(rule)
    return found[1] if found else rule


def layers(shape: tuple[int, int, int], part_gb: float) -> list[str]:
    """Where an array of float32 is cut: "start-stop" of each part; nothing where it is small enough for one job.

    Args:
        shape: (z, y, x) of a volume, (row, view, col) of projections.
        part_gb: the most that a part has, 1e9 bytes; one layer may have more.
    """
    slices, slice_bytes = shape[0], FLOAT * shape[1] * shape[2]
    height = max(1, int(part_gb * 1e9 / slice_bytes) // LAYER) * LAYER
    if slices <= height or slices * slice_bytes <= part_gb * 1e9:
        return []
    return [f"{start}-{min(start + height, slices)}" for start in range(0, slices, height)]


class Parts:
    """Where the volumes and projections of a run are cut.

    Args:
        plan: of the run.
        made: cuts that the process which planned the run has found, in one of its jobs: stage, with the volume that is
            measured -> scan -> parts.
    """

    def __init__(self, plan: "Plan", made: Mapping[str, Mapping[str, list[str]]] | None = None) -> None:
        self._plan = plan
        self._made = made

    @classmethod
    def of_run(cls, plan: "Plan") -> "Parts":
        """As the process decides that plans the run; its jobs inherit that."""
        if MADE in os.environ:
            return cls(plan, json.loads(os.environ[MADE]))
        parts = cls(plan)
        os.environ[MADE] = json.dumps(parts.otherwise)
        return parts

    def of(self, stage: str, scan: str, volume: str = "") -> list[str]:
        """Parts in which a stage works on a scan, or on a volume that is measured; nothing where one job does."""
        found = self.otherwise.get(f"{stage} {volume}".strip(), {}).get(scan)
        return self.by_size(stage, scan, volume) if found is None else list(found)

    def by_size(self, stage: str, scan: str, volume: str = "") -> list[str]:
        """The same for a result that is yet to be made."""
        shape = self._shape(stage, scan, volume) if scan and stage in RESULTS else None
        if shape is None:
            return []
        part_gb = self._plan.settings.jobs.part_gb
        if stage == "morphometry":
            thickness = self._plan.settings_of(scan).morphometry.thickness
            return PHASES if thickness and FLOAT * math.prod(shape) > part_gb * 1e9 else []
        return layers(shape, part_gb)

    def _shape(self, stage: str, scan: str, volume: str = "") -> tuple[int, int, int] | None:
        """What a stage writes, with the axis first that may be cut; None where none may, or the scan cannot be read."""
        size = self._plan.size(scan)
        if size is None:
            return None
        if stage == "flatfield":
            # The phase filter looks at whole views.
            whole = self._plan.settings_of(scan).flatfield.phase != "none"
            return None if whole else (size.rows, size.views, size.cols)
        z, y, x = size.shape
        finer = superres_factor(self._plan.settings) if stage == "sr_apply" or volume == "superres" else 1
        return z * finer, y * finer, x * finer

    @cached_property
    def otherwise(self) -> Mapping[str, Mapping[str, list[str]]]:
        """Stage (and volume) -> scan -> parts of results that are up to date and not made as size would have it."""
        if self._made is not None:
            return self._made
        found: dict[str, dict[str, list[str]]] = {}
        for step in planned_jobs(self._plan):
            made = self._made_of(step) if step.stage in RESULTS else None
            if made is not None and made != self.by_size(step.stage, step.scan, step.volume):
                found.setdefault(f"{step.stage} {step.volume}".strip(), {})[step.scan] = made
        return found

    def _made_of(self, step: Step) -> list[str] | None:
        """Parts that the present result was made of; None where there is none, or one that is made anew anyway."""
        output = f"{self._plan.settings.results}/{step.scan}/{RESULTS[step.stage].format(volume=step.volume)}"
        lineage = self._plan.lineage(step.stage, step.scan, step.volume)
        if not Path(output).is_file() or lineage not in recorded_lineage(output):
            return None
        names = (NAME.search(name) for name in record_of(output).get("input") or ())
        parts = {found[1] for found in names if found}
        return sorted(parts, key=lambda part: (0 if part in PHASES else int(part.split("-")[0]), part))

    # for the rules -----------------------------------------------------------------------------------------------

    def scans(self, stage: str, *, cut: bool) -> str:
        """Pattern of the scans on which a stage works in parts, or does not; volumes that are imported are neither."""
        scans = filter(self._plan.reconstructs, self._plan.scans)
        chosen = [scan for scan in scans if bool(self.of(stage, scan)) == cut]
        return "|".join(chosen) or "(?!)"

    def memory_mb(self, stage: str) -> Callable[..., int]:
        """Memory that the job of a part declares, scaled by the number of the attempt."""

        def of(wildcards: Any, attempt: int = 1) -> int:
            return attempt * resources.memory_mb(stage, self.work(stage, wildcards))

        return of

    def minutes(self, stage: str) -> Callable[..., int]:
        """Time limit that the job of a part declares, scaled by the number of the attempt."""

        def of(wildcards: Any, threads: int = 1, attempt: int = 1) -> int:
            return attempt * resources.minutes(stage, self.work(stage, wildcards), threads=threads)

        return of

    def gather_mb(self, stage: str) -> Callable[..., int]:
        """Memory that the job declares which puts the parts of a stage together."""

        def of(wildcards: Any, attempt: int = 1) -> int:
            return attempt * resources.memory_mb(resources.GATHER, self._plan.work(stage, wildcards))

        return of

    def gather_minutes(self, stage: str) -> Callable[..., int]:
        """Time limit that the job declares which puts the parts of a stage together."""

        def of(wildcards: Any, attempt: int = 1) -> int:
            return attempt * resources.minutes(resources.GATHER, self._plan.work(stage, wildcards), threads=1)

        return of

    def work(self, stage: str, wildcards: Any) -> resources.Job:
        """What the job of a part works on: its slices or rows, and detector rows above and below them."""
        whole = self._plan.work(stage, wildcards)
        if wildcards.part in PHASES:
            return whole
        start, stop = map(int, wildcards.part.split("-"))
        shape = self._shape(stage, wildcards.scan)
        share = (stop - start) / shape[0] if shape else 1.0
        # Slices are seen by up to twice as many rows; what corrects rows looks at few around them.
        seen = share if stage == "flatfield" else min(1.0, 2 * share)
        return replace(whole, voxels=share * whole.voxels, pixels=seen * whole.pixels)
