"""What the Snakefile asks: which scans, which volumes, which settings, what to keep.

Imports nothing heavy: it is read once at the start of a run and again in every cluster job.
"""

import os
import sys
from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, NoReturn

from xrmflow.config.loader import read_settings, validated
from xrmflow.config.own import all_own_settings
from xrmflow.config.scans import Scan, load_scans
from xrmflow.config.settings import Settings
from xrmflow.errors import SettingsError, UserError
from xrmflow.io.volume_kind import volume_kind
from xrmflow.manage import records, resources
from xrmflow.manage.jobs import planned_jobs
from xrmflow.manage.lineage import Lineages
from xrmflow.manage.sizes import ScanSize, Sizes, superres_factor
from xrmflow.manage.steps import Step

LEVELS = ("final", "standard", "all")
# What `snakemake --config` may say.
GIVEN = ("settings", "container")
# How many GPUs the profile lets the run hold, for its jobs to inherit.
GPUS = "XRMFLOW_GPUS"
# A scan that cannot be read: its own job will say why.
NOTHING = ScanSize(1, 1, 1, 2, (1, 1, 1))


class Plan:
    """Settings and scans of one run, with the questions the rules ask of them."""

    def __init__(
        self,
        settings: Settings,
        scans: dict[str, Scan],
        table: Path = Path("scans.tsv"),
        *,
        own: Mapping[str, Settings] | None = None,
        sizes: Sizes | None = None,
    ) -> None:
        """Plan a run.

        Args:
            settings: of the run.
            scans: by id.
            table: the table of scans.
            own: whole settings of the scans that have some of their own, by id.
            sizes: says how large scans are; by default from the scans themselves.
        """
        self.settings = settings
        self.scans = scans
        self.table = table
        self._own = own or {}
        self._sizes = sizes or Sizes()
        self._check()

    # which settings ----------------------------------------------------------------------------------------------

    def settings_of(self, scan: str) -> Settings:
        """The settings of a scan: the run's, with its own laid over them where it has some; the run's for ""."""
        return self._own.get(scan, self.settings)

    def own_file(self, scan: str) -> str:
        """The file with a scan's own settings; "" where it has none, or none that differs from the run's."""
        return self.scans[scan].settings if self.settings_of(scan) != self.settings else ""

    @lru_cache  # noqa: B019 (one plan lives as long as the process)
    def section(self, stage: str, scan: str = "") -> str:
        """A stage's settings as one JSON line: the run's, or those of a scan."""
        return self.settings_of(scan).section(stage).canonical()

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
    def learned(self) -> list[str]:
        """Ids of the scans that the trainings of this run read."""
        n2i = self.with_role("train", "train-only", "validation") * self.trains_n2i
        return n2i + [*self.pairs, *self.pairs.values()] * self.trains_sr

    @property
    def has_n2i(self) -> bool:
        """Whether a Noise2Inverse network is to be had."""
        return self.trains_n2i or bool(self.settings.trained_n2i)

    @property
    def has_sr(self) -> bool:
        """Whether a super-resolution network is to be had."""
        return self.trains_sr or bool(self.settings.trained_sr)

    # which scans share a beam-hardening correction --------------------------------------------------------------------

    @cached_property
    def protocols(self) -> dict[str, list[str]]:
        """Protocol -> ids of the scans that share its beam-hardening correction: not those with another or none."""
        found: dict[str, list[str]] = {}
        if self.settings.cupping_protocol.scope != "scan":
            for name in filter(self.reconstructs, self.scans):
                if self.scans[name].protocol and self.settings_of(name).cupping.method == "homogeneity":
                    found.setdefault(self.scans[name].protocol, []).append(name)
        return found

    def protocol_of(self, scan: str) -> str:
        """The protocol whose correction a scan gets; "" where it has its own."""
        name = self.scans[scan].protocol
        return name if scan in self.protocols.get(name, ()) else ""

    # which scans and volumes -------------------------------------------------------------------------------------

    def with_role(self, *roles: str) -> list[str]:
        """Ids of the scans with one of the roles."""
        return [scan.scan for scan in self.scans.values() if scan.role in roles]

    @cached_property
    def _imported(self) -> frozenset[str]:
        return frozenset(name for name, scan in self.scans.items() if volume_kind(Path(scan.source)))

    def imports(self, scan: str) -> bool:
        """Whether a scan comes as a volume that is reconstructed already."""
        return scan in self._imported

    def reconstructs(self, scan: str) -> bool:
        """Whether a scan comes as raw frames."""
        return not self.imports(scan)

    def is_measured(self, scan: str) -> bool:
        """Whether a scan gets a report: all but those that only networks learn from."""
        return self.scans[scan].role not in ("train-only", "reference")

    def is_denoised(self, scan: str) -> bool:
        """Whether a scan has a denoised volume that is measured."""
        return "denoised" in self.measured(scan)

    def is_iterated(self, scan: str) -> bool:
        """Whether a scan has an iterative reconstruction: it is made only to be measured."""
        return "iterative" in self.measured(scan)

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
        raw = self.reconstructs(scan)
        possible = {"volume": True, "iterative": raw, "denoised": raw and self.has_n2i, "superres": raw and self.has_sr}
        return [name for name in self.settings.measure if possible[name]]

    def cards(self, scan: str, n2i: str, sr: str) -> list[str]:
        """Model cards for a report: of the networks trained in this run, and those beside weights trained earlier."""
        if self.imports(scan):
            return []
        wanted = {"n2i": bool({"denoised", "superres"} & set(self.settings.measure))}
        wanted["sr"] = "superres" in self.settings.measure
        weights = {"n2i": self.settings.trained_n2i, "sr": self.settings.trained_sr}
        earlier = [str(Path(path).with_suffix(".json")) for name, path in weights.items() if path and wanted[name]]
        return [n2i] * self.trains_n2i + [sr] * self.trains_sr + [card for card in earlier if Path(card).is_file()]

    # params of the rules -----------------------------------------------------------------------------------------

    def lineage(self, stage: str, scan: str = "", volume: str = "", protocol: str = "") -> str:
        """Fingerprint of code and settings of a step and its ancestors."""
        return self.lineages.of(Step(stage, scan, volume, protocol))

    @cached_property
    def lineages(self) -> Lineages:
        """Of all steps."""
        return Lineages(self)

    @property
    def made_of(self) -> dict[str, records.Record]:
        """What the present lineages are made of, by lineage."""
        return {self.lineages.of(step): records.record(step, self.lineages) for step in planned_jobs(self)}

    # what a job asks for -----------------------------------------------------------------------------------------

    def memory_mb(self, stage: str) -> Callable[..., int]:
        """Memory a job of a stage declares, scaled by the number of the attempt."""

        def of(wildcards: Any, attempt: int = 1) -> int:
            return attempt * resources.memory_mb(stage, self.work(stage, wildcards))

        return of

    def minutes(self, stage: str) -> Callable[..., int]:
        """Time limit a job of a stage declares, scaled by the number of the attempt."""

        def of(wildcards: Any, threads: int = 1, attempt: int = 1) -> int:
            return attempt * resources.minutes(stage, self.work(stage, wildcards), threads=threads)

        return of

    def offer_gpus(self, limit: int | None, *, cluster: bool) -> None:
        """Note how many GPUs the profile lets the run hold at once; jobs inherit it from the process that plans.

        Args:
            limit: of the profile (`resources: [gpu=N]`); None where it says nothing.
            cluster: whether jobs run on other machines than this one.
        """
        here = cluster or Path("/dev/nvidia0").exists()
        os.environ.setdefault(GPUS, str((limit if limit is not None else int(not cluster)) * here))

    @property
    def gpu(self) -> int:
        """GPUs a training or inference job asks for: one for cuda, and for auto where the profile offers some."""
        wish = self.settings.device
        return int(wish == "cuda" or (wish == "auto" and int(os.environ.get(GPUS, "0")) > 0))

    def threads(self, stage: str) -> int:
        """Threads a job of a stage declares; Snakemake gives it no more than the run has."""
        return resources.threads_of(stage)

    def work(self, stage: str, wildcards: Any) -> resources.Job:
        """What a job works on."""
        scan, splits = getattr(wildcards, "scan", ""), self.settings.n2i_split.splits
        section = self.settings_of(scan).section(stage)
        network = self.settings.sr_train if stage.startswith("sr") else self.settings.n2i_train
        job_of = partial(resources.job_of, section=section, features=network.features)
        if scan:
            finer = stage == "sr_apply" or getattr(wildcards, "volume", "") == "superres"
            factor, volumes = superres_factor(self.settings), len(self.measured(scan))
            return job_of(
                self.size(scan) or NOTHING,
                finer=factor if finer else 1,
                splits=splits if stage.startswith("n2i") else 1,
                volumes=volumes,
                refined=factor if self.is_superresolved(scan) else 0,
            )
        learned = (
            list(self.pairs.values()) if stage == "sr_train" else self.with_role("train", "train-only", "validation")
        )
        sizes = [self.size(name) or NOTHING for name in learned] or [NOTHING]
        largest = max(sizes, key=lambda size: size.voxels)
        return job_of(largest, voxels=sum(size.voxels for size in sizes), splits=splits)

    @property
    def doubts(self) -> list[str]:
        """What may be a slip in the table of scans, in words: rows that nothing but their names tells apart."""
        found: dict[tuple[Path, str, str], list[str]] = {}
        for scan in self.scans.values():
            found.setdefault((Path(scan.source).resolve(), scan.settings, scan.protocol), []).append(scan.scan)
        return [
            f"{self.table}: scans {', '.join(names)} have the same source, {source.name}, and so the same numbers"
            for (source, _, _), names in found.items()
            if len(names) > 1
        ]

    def size(self, scan: str) -> ScanSize | None:
        """How large a scan is; None where it cannot be read: its own job will say why."""
        return self._known_sizes[scan]

    @cached_property
    def _known_sizes(self) -> dict[str, ScanSize | None]:
        wanted = [(Path(scan.source), self.settings_of(name)) for name, scan in self.scans.items()]
        return dict(zip(self.scans, self._sizes.of(wanted), strict=True))

    # storage -----------------------------------------------------------------------------------------------------

    def keeps(self, level: str) -> bool:
        """Whether stores of a level outlive the run."""
        return LEVELS.index(self.settings.storage.keep) >= LEVELS.index(level)

    # faults of the settings --------------------------------------------------------------------------------------

    def _check(self) -> None:
        for name in ("trained_n2i", "trained_sr"):
            weights = getattr(self.settings, name)
            if weights and not Path(weights).is_file():
                raise SettingsError(f"{name}: no such file {weights} (paths begin where snakemake is started)")
            own = Path(self.settings.models, self.settings.model, f"{name.removeprefix('trained_')}.safetensors")
            if weights and own.resolve() == Path(weights).resolve():
                raise SettingsError(
                    f"{name}: expected weights of another run, got {weights}, which a run with model: "
                    f"{self.settings.model} trains itself; name another model, or leave {name} out"
                )
        for curve in {self.settings_of(scan).cupping.curve for scan in ("", *self.scans)}:
            if curve and not Path(curve).is_file():
                raise SettingsError(f"cupping.curve: no such file {curve} (paths begin where snakemake is started)")
        for scan in self._imported:
            self._check_imported(self.scans[scan])
        for scan in filter(self.is_measured, self.scans):
            if not self.measured(scan):
                raise SettingsError(
                    f"measure: expected a volume that scan {scan} can have, got {', '.join(self.settings.measure)}: "
                    "denoised takes a scan with role train, superres one with a pair (or weights trained earlier); add "
                    "volume, or give a scan that role or pair"
                )
        for protocol, scans in self.protocols.items():
            degrees = {scan: self.settings_of(scan).cupping.degree for scan in scans}
            if len(set(degrees.values())) > 1:
                got = ", ".join(f"{degree} ({scan})" for scan, degree in degrees.items())
                raise SettingsError(f"cupping.degree: expected one for all scans of protocol {protocol}, got {got}")

    def _check_imported(self, scan: Scan) -> None:
        """A volume without its raw frames is measured, and that is all."""
        place = f"{self.table}: scan {scan.scan}: its source is a reconstructed volume"
        partners = [low for low, high in self.pairs.items() if high == scan.scan]
        wrong = {"role": scan.role if scan.role != "test" else "", "pair": scan.pair, "truth": scan.truth}
        wrong["partner"] = ", ".join(partners)
        for column, got in wrong.items():
            if got:
                wanted = "test" if column == "role" else "none"
                raise SettingsError(f"{place}; {column}: expected {wanted}, got {got}")
        if "volume" not in self.settings.measure:
            raise SettingsError(f"{place}, and measure does not name volume; add it")


def read_plan(file: Path) -> Plan:
    """Read the settings of a run, its table of scans, and the settings of single scans.

    Raises:
        SettingsError: faults with file, line, key, what was expected, and the nearest valid key.
    """
    run = read_settings(file)
    settings = validated(run, Settings)
    table = file.parent / settings.scans
    scans = load_scans(table)
    files = {scan.scan: scan.settings for scan in scans.values() if scan.settings}
    return Plan(settings, scans, table, own=all_own_settings(run, files))


def settings_file(config: Mapping[str, Any]) -> str:
    """The settings file that `snakemake --config settings=FILE` names; anything else given there ends the run."""
    unknown = [name for name in config if name not in GIVEN]
    if unknown:
        said = f"--config: expected settings=FILE (or container=IMAGE), got {unknown[0]}=..."
        fault(SettingsError(f"{said}; all else is set in that file"))
    return str(config.get("settings", "config/config.yaml"))


def load_plan(settings: str) -> Plan:
    """Read settings and scans for the Snakefile; a fault ends the run with its one clear line."""
    try:
        return read_plan(Path(settings))
    except UserError as error:
        fault(error)


def fault(error: UserError) -> NoReturn:
    """End the process as a command-line tool does: the message, no traceback, exit status 1."""
    print(f"error: {error}", file=sys.stderr, flush=True)
    os._exit(1) if _inside_snakemake() else sys.exit(1)


def _inside_snakemake() -> bool:
    """Snakemake turns SystemExit in a Snakefile into a traceback of its own."""
    return "snakemake.workflow" in sys.modules
