# The only place for path patterns and helpers. Settings are read by our own strict loader, because Snakemake's own
# --configfile would run templates found in the file before our first line.

import os
import shlex
import sys
from functools import cache
from pathlib import Path

from snakemake.io import IOFile
from snakemake.settings.types import DeploymentMethod

import xrmflow
from xrmflow.manage.failures import Ended
from xrmflow.manage.jobs import planned_jobs
from xrmflow.manage.lifecycle import Run
from xrmflow.manage.origin import unvouched
from xrmflow.manage.parts import PHASES, Parts, stage_of
from xrmflow.manage.plan import load_plan, settings_file
from xrmflow.manage.sources import files_of, is_as_ingested, mask_of
from xrmflow.manage.steps import WRITERS


def where_the_package_is():
    """Environment variables by which a job's command finds the package."""
    if DeploymentMethod.APPTAINER not in workflow.deployment_settings.deployment_method:
        return f"PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH"
    source = Path(xrmflow.__file__).parents[1]
    return f"PYTHONPATH={shlex.quote(str(source))}" if source.name == "src" else "PYTHONPATH="


PLAN = load_plan(settings_file(config))

# A job left over from a run that was killed finishes its store within this time, or its successor says who holds it.
LOCK_WAIT_S = 3600

SCAN = f"{PLAN.settings.results}/{{scan}}"
RAW = f"{SCAN}/raw.zarr/manifest.json"
PROJECTIONS = f"{SCAN}/projections.zarr/manifest.json"
FLATFIELD = f"{SCAN}/flatfield.json"
VIEWS = f"{SCAN}/flatfield_views.npz"
GEOMETRY = f"{SCAN}/geometry.json"
SWEEP = f"{SCAN}/align_sweep.npz"
CUPPING = f"{SCAN}/cupping.json"
CUPPING_SLICES = f"{SCAN}/cupping_slices.npz"
CUPPING_EQUATIONS = f"{SCAN}/cupping_equations.npz"
PROTOCOL = f"{PLAN.settings.results}/protocols/{{protocol}}"
PROTOCOL_CUPPING = f"{PROTOCOL}/cupping.json"
SPLITS = [f"{SCAN}/splits/{k}.zarr/manifest.json" for k in range(PLAN.settings.n2i_split.splits)]
STORE = f"{SCAN}/{{volume}}.zarr/manifest.json"
VOLUME, ITERATIVE, DENOISED, SUPERRES = (
    STORE.replace("{volume}", name) for name in ("volume", "iterative", "denoised", "superres")
)
BONE = f"{SCAN}/bone/{{volume}}.zarr/manifest.json"
TABLE = f"{SCAN}/morphometry/{{volume}}.csv"
SLICES = f"{SCAN}/morphometry/{{volume}}_slices.csv"
LACUNAE = f"{SCAN}/morphometry/{{volume}}_lacunae.csv"
VALIDATION = f"{SCAN}/validation.csv"
SPLIT_NAMES = [f"split{k}" for k in range(PLAN.settings.n2i_split.splits)]
PART = f"{SCAN}/parts/{{store}}_{{part}}.zarr/manifest.json"
THICKNESS = f"{SCAN}/parts/{{volume}}_{{part}}.json"
REPORT = f"{SCAN}/report.html"
STUDY, STUDY_WIDE = f"{PLAN.settings.results}/morphometry.csv", f"{PLAN.settings.results}/morphometry_wide.csv"
MODEL = f"{PLAN.settings.models}/{PLAN.settings.model}"
N2I_WEIGHTS, N2I_CARD = f"{MODEL}/n2i.safetensors", f"{MODEL}/n2i.json"
SR_WEIGHTS, SR_CARD = f"{MODEL}/sr.safetensors", f"{MODEL}/sr.json"

# One image for all jobs of a run: --sdm apptainer --config container=xrmflow.sif, see docs/cluster.md.
if config.get("container"):

    container: config["container"]


# What the process that plans the run decides, its jobs inherit: they read this file again, on other machines.
RUN = Run(PLAN)
RUN.enter()
PARTS = Parts.of_run(PLAN)
PLAN.offer_gpus(
    limit=getattr(workflow.global_resources.get("gpu"), "value", None),
    cluster=workflow.global_resources["_nodes"].value is not None,
)

# Every command finds the package next to the Python that runs Snakemake (in a container its own Python, and the code
# that Snakemake's lineages speak of), and takes the place of its shell, so that a signal to the job reaches the stage.
# A prefix never causes a rerun.
shell.prefix(
    f"export {where_the_package_is()}"
    f" XRMFLOW_DEVICE={PLAN.settings.device} XRMFLOW_GPU=0 XRMFLOW_LOCK_WAIT_S={LOCK_WAIT_S}"
    f" XRMFLOW_RESULTS={shlex.quote(PLAN.settings.results)}; exec env "
)


wildcard_constraints:
    scan="|".join(PLAN.scans),
    protocol="|".join(PLAN.protocols) or "none",
    volume="volume|iterative|denoised|superres",
    part=r"\d+-\d+",


def one_of(scans, wanted):
    """A wildcard constraint: the scans for which `wanted(scan)` holds; nothing at all where there is none."""
    return "|".join(filter(wanted, scans)) or "(?!)"


def kept(path, level):
    """Mark what the settings do not keep: it is deleted once every stage that reads it is done."""
    return path if PLAN.keeps(level) else temp(path)


def section(stage):
    """A stage's settings as one JSON line, those of the scan: the first of the two params of every rule."""

    def of(wildcards):
        return PLAN.section(stage, getattr(wildcards, "scan", ""))

    return of


def lineage(stage):
    """The fingerprint of code and settings of a job and its ancestors, a part's that of its whole: the second param."""

    def of(wildcards):
        return PLAN.lineage(stage, **{name: value for name, value in wildcards.items() if name != "part"})

    return of


@cache
def unless_touched(file, document):
    """A file; where it is large, newer than what was made from it, and still the same, its time does not count."""
    return ancient(file) if is_as_ingested(Path(file), Path(document)) else file


def as_ingested(file, scan):
    """A raw file, unless touched."""
    return unless_touched(file, (VOLUME if PLAN.imports(scan) else FLATFIELD).format(scan=scan))


def source(wildcards):
    return as_ingested(PLAN.scans[wildcards.scan].source, wildcards.scan)


@cache
def files_of_scan(scan):
    """The files a scan is read from beside its source: looked up once, because Snakemake asks often."""
    source = Path(PLAN.scans[scan].source)
    return [str(file) for file in files_of(source, PLAN.settings_of(scan).ingest) if file != source]


def files(wildcards):
    return [as_ingested(file, wildcards.scan) for file in files_of_scan(wildcards.scan)]


def mask(wildcards):
    """The volume of interest drawn by hand, where there is one; what is absent is left to the job, which says so."""
    file = mask_of(PLAN.settings_of(wildcards.scan).segment, wildcards.scan)
    return [] if file is None else unless_touched(str(file), BONE.format(**wildcards))


def own_settings(wildcards):
    """The file with a scan's own settings, where it has some that differ from the run's."""
    return PLAN.own_file(wildcards.scan) or []


def truth(wildcards):
    return f"{PLAN.scans[wildcards.scan].truth}/truth.json"


def curve(wildcards):
    """The step wedge that a scan is corrected by, where there is one."""
    return PLAN.settings_of(wildcards.scan).cupping.curve or []


def cupping(wildcards):
    """The correction that a scan gets: its protocol's, or its own where the table of scans names no protocol."""
    if PLAN.imports(wildcards.scan):
        return []
    protocol = PLAN.protocol_of(wildcards.scan)
    return expand(PROTOCOL_CUPPING if protocol else CUPPING, scan=wildcards.scan, protocol=protocol)


def of_protocol(pattern):
    """The pattern for every scan of a protocol."""

    def of(wildcards):
        return expand(pattern, scan=PLAN.protocols[wildcards.protocol])

    return of


def when(pattern, wanted):
    """An input that exists only for some scans: the pattern where `wanted(scan)` holds, nothing elsewhere."""

    def of(wildcards):
        return expand(pattern, scan=wildcards.scan) if wanted(wildcards.scan) else []

    return of


def measured(pattern):
    """The pattern for every volume that is measured of a scan."""

    def of(wildcards):
        return expand(pattern, scan=wildcards.scan, volume=PLAN.measured(wildcards.scan))

    return of


def all_measured(pattern):
    """The pattern for every scan that is measured and every volume of it."""
    scans = [scan for scan in PLAN.scans if PLAN.is_measured(scan)]
    return [path for scan in scans for path in expand(pattern, scan=scan, volume=PLAN.measured(scan))]


def parts_of(stage, *stores):
    """The parts of the stores that a stage writes for a scan, store after store."""

    def of(wildcards):
        parts = PARTS.of(stage, wildcards.scan)
        return [
            path for store in stores or (stage,) for path in expand(PART, scan=wildcards.scan, store=store, part=parts)
        ]

    return of


def thickness_of(wildcards):
    """The thickness of each phase of a volume, where jobs of their own measure it."""
    scan, volume = wildcards.scan, wildcards.volume
    return expand(THICKNESS, scan=scan, volume=volume, part=PARTS.of("morphometry", scan, volume))


def splits_of(scans):
    """The splits of some scans, scan after scan."""
    return [path for scan in scans for path in expand(SPLITS, scan=scan)]


def best_volume(scan):
    """The volume super-resolution works on: denoised where a Noise2Inverse network is to be had."""
    return expand(DENOISED if PLAN.has_n2i else VOLUME, scan=scan)


def durable_results():
    """Everything a finished run has, asked for by name, so that the same command mends whatever is missing."""
    planned = {(job.stage, job.scan) for job in planned_jobs(PLAN)}
    wanted = [N2I_WEIGHTS, N2I_CARD] * PLAN.trains_n2i + [SR_WEIGHTS, SR_CARD] * PLAN.trains_sr
    for scan in PLAN.scans:
        wanted += expand(VOLUME, scan=scan)
        if PLAN.reconstructs(scan):
            wanted += expand([FLATFIELD, VIEWS, GEOMETRY, SWEEP], scan=scan)
            wanted += expand([CUPPING, CUPPING_SLICES, CUPPING_EQUATIONS], scan=scan)
            wanted += expand(PROJECTIONS, scan=scan) * PLAN.keeps("standard")
            wanted += expand(RAW, scan=scan) * PLAN.keeps("all")
            wanted += expand(SPLITS, scan=scan) * (("n2i_split", scan) in planned and PLAN.keeps("standard"))
            wanted += expand(DENOISED, scan=scan) * (("n2i_apply", scan) in planned)
        if PLAN.is_measured(scan):
            wanted += expand([STORE, BONE, TABLE, SLICES, LACUNAE], scan=scan, volume=PLAN.measured(scan))
            wanted += expand(REPORT, scan=scan) + expand(VALIDATION, scan=scan) * PLAN.is_simulated(scan)
    wanted += expand(PROTOCOL_CUPPING, protocol=PLAN.protocols)
    return wanted + [STUDY, STUDY_WIDE] * bool(all_measured(TABLE))


def nothing_but_force_the_unknown(wildcards):
    """No input; makes anew results of which neither Snakemake's records nor they themselves say how they were made.

    Snakemake takes what it has no record of for up to date. It asks for the inputs of `all` before it decides what to
    run, and after it has read what the command line forces, so that this adds to that.
    """
    first = {
        "ingest": RAW,
        "import_volume": VOLUME,
        "flatfield": FLATFIELD,
        "align": GEOMETRY,
        "cupping": CUPPING,
        "cupping_protocol": PROTOCOL_CUPPING,
        **{writer: STORE.replace("{volume}", name) for name, writer in WRITERS.items()},
        "n2i_split": SPLITS[0],
        "n2i_train": N2I_CARD,
        "sr_train": SR_CARD,
        "segment": BONE,
        "morphometry": TABLE,
        "validate": VALIDATION,
        "collect": STUDY,
        "report": REPORT,
    }
    planned = {first[step.stage].format(**vars(step)): PLAN.lineages.of(step) for step in planned_jobs(PLAN)}
    unknown = unvouched(planned, lambda file: bool(workflow.persistence.metadata(IOFile(file))))
    workflow.dag.forcefiles.update(unknown)
    if unknown:
        named = ", ".join(unknown[:5] + ["..."] * (len(unknown) > 5))
        print(
            f"warning: nothing says how {len(unknown)} results were made, which are made anew: {named}", file=sys.stderr
        )
    return []


def scans_written_anew():
    """Scans with a volume that this run writes, whatever an earlier one has left of them."""
    jobs = [job for job in workflow.dag.needrun_jobs() if stage_of(job.rule.name) in WRITERS.values()]
    return {job.wildcards.scan for job in jobs}


def end_with_failures(logs):
    """Say what failed, and collect the tables that are up to date: those that no job left undone would write."""
    left = list(workflow.dag.needrun_jobs())
    failed = [job for job in left if job in getattr(workflow.scheduler, "failed", left)]
    stale = {str(file) for job in left for file in job.output}
    RUN.end_with_failures(
        [
            Ended(
                stage=job.rule.name,
                scan=getattr(job.wildcards, "scan", ""),
                volume=getattr(job.wildcards, "volume", ""),
                log=Path(job.log[0]) if job.log else None,
            )
            for job in failed
        ],
        unfinished={getattr(job.wildcards, "scan", "") for job in left} - {""},
        tables=[path for path in all_measured(TABLE) if path not in stale and Path(path).is_file()],
        earlier=[path for path in (STUDY,) if path in stale and Path(path).is_file()],
        run_log="".join(Path(log).read_text(errors="replace") for log in logs if Path(log).is_file()),
    )
