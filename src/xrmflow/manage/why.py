"""Say what would run for a scan and because of which setting, module or file."""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from xrmflow.config.own import own_keys
from xrmflow.errors import UserError
from xrmflow.manage.parts import stage_of
from xrmflow.manage.plan import Plan, load_plan
from xrmflow.manage.records import Change, changes
from xrmflow.manage.steps import STAGES, Step

REASONS = {
    "Missing output files": "missing",
    "Incomplete output files": "incomplete",
    "Updated input files": "updated",
    "Input files updated by another job": "after",
    "Set of input files has changed since last execution": "inputs",
    "Code has changed since last execution": "command",
    "Params have changed since last execution": "params",
    "Forced execution": "forced",
}
SPLIT = re.compile("; (?=" + "|".join(REASONS) + ")")
# What outlives a run only at a level of storage.keep: the stage and its level.
NOT_ALWAYS_KEPT = {"ingest": "all", "flatfield": "standard", "n2i_split": "standard"}


@dataclass(frozen=True)
class Job:
    """A job that would run, as Snakemake plans it.

    Attributes:
        stage: of its rule.
        scan, volume, protocol: what it works on; empty for jobs of the whole study.
        outputs: the files it writes.
        reasons: what Snakemake says, by kind (the values of `REASONS`).
        lineages: of the job that wrote the outputs there are.
    """

    stage: str
    scan: str
    volume: str
    outputs: tuple[str, ...]
    reasons: dict[str, str]
    lineages: tuple[str, ...] = ()
    protocol: str = ""

    @property
    def step(self) -> Step:
        """As lineages know it."""
        return Step(self.stage, self.scan, self.volume, self.protocol)

    def files(self, kind: str) -> list[str]:
        """The files that a reason names."""
        return [name for name in self.reasons.get(kind, "").split(", ") if name]


def run(scan: str, stage: str | None = None, *, settings: Path = Path("config/config.yaml")) -> str:
    """Say in words what would run for a scan and why. Start it where snakemake is started.

    Args:
        scan: id of the scan, as in the table of scans.
        stage: of which stage to speak; without, of all.
        settings: the settings file.
    """
    plan = load_plan(str(settings))
    if scan not in plan.scans:
        raise UserError(f"scan: expected one of {', '.join(plan.scans)}, got {scan!r}")
    if stage is not None and stage not in STAGES:
        raise UserError(f"stage: expected one of {', '.join(STAGES)}, got {stage!r}")
    return explain(planned_jobs(settings), plan, scan, stage)


def planned_jobs(settings: Path) -> list[Job]:
    """The jobs that Snakemake would run now.

    Raises:
        UserError: Snakemake cannot plan the run; the message is its own.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "jobs.json"
        command = [sys.executable, "-m", "xrmflow.manage.dry_run", str(settings), str(file)]
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            lines = done.stdout.strip().splitlines() or ["snakemake ended without a word"]
            said = next((line for line in lines if line.startswith("error: ")), lines[-1])
            raise UserError(said.removeprefix("error: "))
        return [job_of(**fields) for fields in json.loads(file.read_text())]


def job_of(rule: str, wildcards: dict[str, str], outputs: list[str], reason: str, lineages: Iterable[str] = ()) -> Job:
    """A job from what Snakemake logs of it."""
    said = (part.partition(": ") for part in SPLIT.split(reason))
    reasons = {REASONS[name]: rest for name, _, rest in said if name in REASONS}
    scan, volume, protocol = (wildcards.get(name, "") for name in ("scan", "volume", "protocol"))
    return Job(stage_of(rule), scan, volume, tuple(outputs), reasons, tuple(lineages), protocol)


def explain(jobs: list[Job], plan: Plan, scan: str, stage: str | None) -> str:
    """The text of the command."""
    asked = [job for job in jobs if job.scan in ("", scan) and job.stage == stage] if stage else []
    asked = asked or [job for job in jobs if job.scan == scan and stage is None]
    name = f"{scan}, {stage}" if stage else scan
    if not asked:
        return f"{name}: up to date, nothing would run"
    causes: dict[str, list[str]] = {}
    for job in _with_all_above(asked, jobs):
        for step, text in _causes(job, plan):
            causes.setdefault(text, []).append(_where(step, scan))
    lines = [f"{name}: would run" if stage else f"{scan}: would run: {_listed(job.stage for job in asked)}", "because"]
    return "\n".join([*lines, *(f"  {text} ({_listed(where)})" for text, where in causes.items())])


def _where(step: Step, scan: str) -> str:
    """The stage, and its scan where that is another than the one asked for."""
    return step.stage if step.scan in ("", scan) else f"{step.stage} of {step.scan}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def _with_all_above(asked: list[Job], jobs: list[Job]) -> list[Job]:
    """The jobs and all whose results they read, in the order in which Snakemake plans them."""
    writer = {name: job for job in jobs for name in job.outputs}
    found: list[Job] = []
    waiting = list(asked)
    while waiting:
        job = waiting.pop()
        if job not in found:
            found.append(job)
            waiting += [writer[name] for name in job.files("after") if name in writer]
    return [job for job in jobs if job in found]


def _causes(job: Job, plan: Plan) -> list[tuple[Step, str]]:
    """(step, words) of every cause that is a job's own or that its lineage has inherited."""
    texts = [text for name in job.files("missing") if (text := _missing(job, name, plan))]
    texts += [f"{name} was not finished" for name in job.files("incomplete")]
    texts += [f"{name} has changed" for name in job.files("updated")]
    said = {"inputs": "other input files than before", "command": "the rule's command has changed"}
    texts += [text for kind, text in said.items() if kind in job.reasons]
    results = Path(plan.settings.results)
    inherited = [change for old in job.lineages for change in changes(results, old, job.step, plan.lineages)]
    if "params" in job.reasons and not job.lineages:
        texts.append("its settings or its code have changed")
    if "forced" in job.reasons and not job.lineages:
        texts.append("nothing on record says how it was made")
    found = [(job.step, text) for text in texts] + [(change.step, _words(change, plan)) for change in inherited]
    return list(dict.fromkeys(found))


def _words(change: Change, plan: Plan) -> str:
    """The change, and the scan's own file where a key is set there."""
    own = plan.scans[change.step.scan].settings if change.step.scan and change.key else ""
    named = bool(own) and change.key in own_keys(own).get(change.step.stage, ())
    return f"{change.text}, set in {own}" if named else change.text


def _missing(job: Job, name: str, plan: Plan) -> str:
    level = NOT_ALWAYS_KEPT.get(job.stage, "final")
    if name.endswith(".zarr/manifest.json") and not plan.keeps(level):
        return f"{name} is not kept (storage.keep) and is read again"
    return f"{name} is missing"
