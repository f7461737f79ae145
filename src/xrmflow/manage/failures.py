"""What failed in a run and why: one line a failed job, printed at the end and written to `failures.tsv`."""

import csv
import io
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from xrmflow.io.manifest import write_durably
from xrmflow.manage.parts import stage_of

TABLE = "failures.tsv"
# Stages that the correction shared by a protocol waits for.
BEFORE_PROTOCOL = {"ingest", "flatfield", "align", "cupping"}
# Stages that the training of a network waits for.
BEFORE_TRAINING = {*BEFORE_PROTOCOL, "cupping_protocol", "fdk", "n2i_split"}
# How the cluster plugin and Snakemake say that a job ended: for a job whose own log ends without a cause.
STATUS = re.compile(r"SLURM status is: '(\w+)'")
MEANING = {
    "TIMEOUT": "took longer than its time limit",
    "OUT_OF_MEMORY": "took more memory than it had asked for",
    "CANCELLED": "was cancelled",
    "PREEMPTED": "was preempted",
    "NODE_FAIL": "its machine failed",
}
UNKNOWN = "ended without a word: out of memory, or killed from outside"


@dataclass(frozen=True)
class Ended:
    """A job of the workflow that did not end well.

    Attributes:
        stage: its rule.
        scan, volume: what it worked on; empty for jobs of the whole study.
        log: its log file; None where it has none.
    """

    stage: str
    scan: str
    volume: str
    log: Path | None


@dataclass(frozen=True)
class Failure:
    """A row of the table of failures."""

    scan: str
    stage: str
    volume: str
    cause: str
    log: str


def failure(job: Ended, run_log: str = "") -> Failure:
    """The row of a failed job: the last line of its log that names a fault, else what the cluster says of it."""
    return Failure(job.scan or "all", job.stage, job.volume, _cause(job, run_log), str(job.log or ""))


def summary(
    failures: Sequence[Failure],
    *,
    waiting: Iterable[str],
    finished: int,
    scans: int,
    protocols: Mapping[str, Sequence[str]] = {},
    learned: Collection[str] = (),
) -> str:
    """A few lines for the end of a run.

    Args:
        failures: of the run.
        waiting: scans with work left.
        finished: how many scans are done.
        scans: of the run.
        protocols: scans that share a beam-hardening correction, by protocol.
        learned: scans that the networks of the run learn from.
    """
    lines = [f"{finished} of {scans} scans are finished; not: {', '.join(sorted(waiting)) or 'none'}"]
    for one in failures:
        volume = f" ({one.volume})" if one.volume else ""
        lines.append(f"  {one.scan}: {one.stage}{volume}: {one.cause}")
    for protocol, members in protocols.items():
        missing = sorted({one.scan for one in failures if one.scan in members and one.stage in BEFORE_PROTOCOL})
        if missing:
            lines.append(
                f"  protocol {protocol} ({len(members)} scans) waits for the beam hardening of {', '.join(missing)}: "
                "mend what failed, or empty their protocol in the table of scans to go on without them"
            )
    if missing := sorted({one.scan for one in failures if one.scan in learned and one.stage in BEFORE_TRAINING}):
        lines.append(
            f"  networks, and the scans they are applied to, wait for {', '.join(missing)}, from which they learn: "
            "mend what failed, or give it the role test and no pair in the table of scans to go on without it"
        )
    return "\n".join([*lines, "The same command tries again what failed, and nothing else."])


def write_table(file: Path, failures: Sequence[Failure]) -> None:
    """Write one row a failure, tab-separated."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow([field.name for field in fields(Failure)])
    writer.writerows(astuple(one) for one in failures)
    write_durably(file, text.getvalue())


def _cause(job: Ended, run_log: str) -> str:
    if said := _last_error(job.log):
        return said.removeprefix("error: ").removeprefix(f"{stage_of(job.stage)}: ").removeprefix("gather: ")
    status = _status(job, run_log)
    return f"{status}: {MEANING.get(status, 'ended by the cluster')}" if status else UNKNOWN


def _last_error(log: Path | None) -> str:
    """The last line of a log, where it names a fault: an earlier one may have been got over."""
    try:
        lines = log.read_text(errors="replace").strip().splitlines() if log else []
    except OSError:
        return ""
    return next((line for line in reversed(lines) if line.startswith("error: ")), "")


def _status(job: Ended, run_log: str) -> str:
    """The state the cluster reported for the job, from the block of the run's log that names the job's log."""
    found = ""
    for block in run_log.split(f"Error in rule {job.stage}:")[1:]:
        block = block.split("\n[", 1)[0]
        state = STATUS.search(block)
        if state and str(job.log) in block:
            found = state[1]
    return found
