"""What the Snakefile asks: which scans, which volumes, which settings, what to keep.

Imports nothing heavy: it is read once at the start of a run and again in every cluster job.
"""

import fcntl
import logging
import os
import sys
from collections.abc import Callable
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any, NoReturn, TextIO

from xrmflow.config.loader import load_settings
from xrmflow.config.scans import Scan, load_scans
from xrmflow.config.settings import Settings
from xrmflow.errors import SettingsError, UserError
from xrmflow.manage.clean import sweep
from xrmflow.manage.lineage import PARENTS, lineage

logger = logging.getLogger(__name__)

LEVELS = ("final", "standard", "all")
BASE_MB = 1500
# Megabytes of memory a stage takes per megabyte of raw file, on top of the base, where a volume is about twice the raw
# file; at most the budget of stages that keep to one.
MEMORY_PER_RAW = {
    "ingest": 0.5,
    "flatfield": 2.0,
    "align": 2.0,
    "cupping": 3.0,
    "fdk": 4.0,
    "n2i_split": 4.0,
    "n2i_train": 8.0,
    "n2i_apply": 6.0,
    "sr_train": 8.0,
    "sr_apply": 8.0,
    "segment": 15.0,
    "morphometry": 30.0,
    "validate": 30.0,
    "collect": 0.0,
}
SUPERRES_VOXELS = 8


class Plan:
    """Settings and scans of one run, with the questions the rules ask of them."""

    def __init__(self, settings: Settings, scans: dict[str, Scan]) -> None:
        self.settings = settings
        self.scans = scans
        self._run_lock: TextIO | None = None
        self._check()

    # which networks ----------------------------------------------------------------------------------------------

    @property
    def pairs(self) -> dict[str, str]:
        """Low-resolution scan -> its high-resolution partner, for the scans super-resolution learns from."""
        return {scan.scan: scan.pair for scan in self.scans.values() if scan.pair}

    @property
    def trains_n2i(self) -> bool:
        """Whether this run trains a Noise2Inverse network."""
        wanted = {"denoised", "superres"} & set(self.settings.measure)
        return bool(wanted and self.with_role("train", "train-only") and not self.settings.trained_n2i)

    @property
    def trains_sr(self) -> bool:
        """Whether this run trains a super-resolution network."""
        return bool("superres" in self.settings.measure and self.pairs and not self.settings.trained_sr)

    @property
    def has_n2i(self) -> bool:
        """Whether a Noise2Inverse network is to be had."""
        return self.trains_n2i or bool(self.settings.trained_n2i)

    @property
    def has_sr(self) -> bool:
        """Whether a super-resolution network is to be had."""
        return self.trains_sr or bool(self.settings.trained_sr)

    @property
    def gpu(self) -> int:
        """GPUs a training or inference job asks for: one where the settings ask for it, or this machine has one."""
        wish = self.settings.device
        return int(wish == "cuda" or (wish == "auto" and Path("/dev/nvidia0").exists()))

    # which scans and volumes -------------------------------------------------------------------------------------

    def with_role(self, *roles: str) -> list[str]:
        """Ids of the scans with one of the roles."""
        return [scan.scan for scan in self.scans.values() if scan.role in roles]

    def is_measured(self, scan: str) -> bool:
        """Whether a scan gets a report: all but those that only networks learn from."""
        return self.scans[scan].role not in ("train-only", "reference")

    def is_denoised(self, scan: str) -> bool:
        """Whether a scan has a denoised volume that is measured."""
        return "denoised" in self.measured(scan)

    def is_superresolved(self, scan: str) -> bool:
        """Whether a scan has a super-resolved volume that is measured."""
        return "superres" in self.measured(scan)

    def is_simulated(self, scan: str) -> bool:
        """Whether the truth of a scan is known."""
        return bool(self.scans[scan].truth)

    def measured(self, scan: str) -> list[str]:
        """The volumes of a scan that are measured."""
        if not self.is_measured(scan):
            return []
        possible = {"volume": True, "denoised": self.has_n2i, "superres": self.has_sr}
        return [name for name in self.settings.measure if possible[name]]

    def cards(self, n2i: str, sr: str) -> list[str]:
        """Model cards for the report: of the networks trained in this run, and those beside weights trained earlier."""
        wanted = {"n2i": bool({"denoised", "superres"} & set(self.settings.measure))}
        wanted["sr"] = "superres" in self.settings.measure
        weights = {"n2i": self.settings.trained_n2i, "sr": self.settings.trained_sr}
        earlier = [str(Path(path).with_suffix(".json")) for name, path in weights.items() if path and wanted[name]]
        return [n2i] * self.trains_n2i + [sr] * self.trains_sr + [card for card in earlier if Path(card).is_file()]

    # params of the rules -----------------------------------------------------------------------------------------

    @cached_property
    def sections(self) -> dict[str, str]:
        """Every stage's settings as one JSON line."""
        return {stage: self.settings.section(stage).canonical() for stage in PARENTS}

    @cached_property
    def active(self) -> dict[str, str]:
        """The sections of the stages that take part in this run."""
        left_out = {name for name in PARENTS if name.startswith("n2i") and not self.has_n2i}
        left_out |= {name for name in PARENTS if name.startswith("sr") and not self.has_sr}
        return {stage: section for stage, section in self.sections.items() if stage not in left_out}

    @lru_cache  # noqa: B019 (one plan lives as long as the process)
    def lineage(self, stage: str, volume: str = "volume") -> str:
        """Fingerprint of code and settings of a stage and its ancestors."""
        return lineage(stage, self.sections if stage not in self.active else self.active, volume=volume)

    def memory_mb(self, stage: str) -> Callable[..., int]:
        """Memory a job of a stage declares, scaled by the number of the attempt."""

        def of(wildcards: Any, attempt: int = 1) -> int:
            scan = self.scans.get(getattr(wildcards, "scan", ""))
            scans = [scan] if scan else [self.scans[name] for name in self.with_role("train", "train-only")]
            size = MEMORY_PER_RAW.get(stage, 1.0) * max((_megabytes(Path(one.source)) for one in scans), default=0.0)
            if getattr(wildcards, "volume", "") == "superres" or stage == "sr_apply":
                size *= SUPERRES_VOXELS
            budget_gb = getattr(self.settings.section(stage), "memory_gb", None)
            return int(attempt * (BASE_MB + (size if budget_gb is None else min(size, 1000 * budget_gb))))

        return of

    # storage -----------------------------------------------------------------------------------------------------

    def keeps(self, level: str) -> bool:
        """Whether stores of a level outlive the run."""
        return LEVELS.index(self.settings.storage.keep) >= LEVELS.index(level)

    def begin(self) -> None:
        """Refuse a second run over the same results, and one that the disk cannot hold."""
        results = Path(self.settings.results)
        results.mkdir(parents=True, exist_ok=True)
        self._run_lock = (results / ".run.lock").open("w")
        try:
            fcntl.flock(self._run_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fault(UserError(f"{results}: another run is working on these results; wait for it or end it"))
        if self.settings.storage.check_free_space:
            self._check_free_space(results)

    def end(self) -> None:
        """Remove the chunks of stores that are not kept."""
        sweep(Path(self.settings.results))

    def _check_free_space(self, results: Path) -> None:
        from xrmflow.manage.space import check_free_space  # numpy and readers are needed only now

        unfinished = [scan for scan in self.scans if not (results / scan / "report.html").exists()]
        sources = {scan.scan: scan.source for scan in self.scans.values()}
        finer = [scan for scan in unfinished if self.is_superresolved(scan)]
        try:
            check_free_space(
                results, sources, self.settings, unfinished=unfinished, denoised=self.has_n2i, superresolved=finer
            )
        except UserError as error:
            fault(error)

    def _check(self) -> None:
        for name in ("trained_n2i", "trained_sr"):
            weights = getattr(self.settings, name)
            if weights and not Path(weights).is_file():
                raise SettingsError(f"{name}: no such file {weights}")


def load_plan(settings: str) -> Plan:
    """Read settings and scans for the Snakefile; a fault ends the run with its one clear line."""
    try:
        path = Path(settings)
        loaded = load_settings(path, Settings)
        return Plan(loaded, load_scans(path.parent / loaded.scans))
    except UserError as error:
        fault(error)


@cache
def _megabytes(source: Path) -> float:
    """Size of a raw file, or of all files in a folder of frames."""
    files = [source] if source.is_file() else [file for file in source.glob("**/*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def fault(error: UserError) -> NoReturn:
    """End the process as a command-line tool does: the message, no traceback, exit status 1."""
    print(f"error: {error}", file=sys.stderr, flush=True)
    os._exit(1) if _inside_snakemake() else sys.exit(1)


def _inside_snakemake() -> bool:
    """Snakemake turns SystemExit in a Snakefile into a traceback of its own."""
    return "snakemake.workflow" in sys.modules
