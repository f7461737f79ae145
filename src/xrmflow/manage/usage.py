"""Memory and time each rule asked for and used, from the benchmark files and logs of finished jobs."""

import csv
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from xrmflow.errors import UserError

# How a stage's log ends, see `xrmflow.cli`: the system's own count, which short jobs have too.
USED = re.compile(r"used ([\d.]+) s, (\d+) MB\s*$")
HEAD = ("rule", "jobs", "asked MB", "used MB", "share", "asked min", "used min", "seconds in all")


@dataclass(frozen=True)
class JobUse:
    """One finished job.

    Attributes:
        rule: its name, with the volume where there are several.
        asked_mb, used_mb: memory, 1e6 bytes; None where it was not recorded.
        asked_min: time limit, minutes.
        seconds: it took.
    """

    rule: str
    asked_mb: float | None
    used_mb: float | None
    asked_min: float | None
    seconds: float


def run(folders: list[Path]) -> str:
    """Print a table: memory and time that each rule asked for and used, the largest job of each.

    Args:
        folders: the results of a run and, for the trainings, its models; or a folder that holds both.
    """
    return table(jobs(folders))


def jobs(folders: Iterable[Path]) -> list[JobUse]:
    """Every finished job below the folders.

    Raises:
        UserError: none found.
    """
    files = sorted({file for folder in folders for file in folder.rglob("benchmarks/*.tsv")})
    if not files:
        raise UserError("no benchmark files found; name the folder of the results of a finished run")
    return [_job(file) for file in files]


def table(found: Iterable[JobUse]) -> str:
    """One line a rule, those that took longest first."""
    rules: dict[str, list[JobUse]] = {}
    for job in found:
        rules.setdefault(job.rule, []).append(job)
    rows = [_row(rule, members) for rule, members in rules.items()]
    rows.sort(key=lambda row: -float(row[-1]))
    widths = [max(len(row[k]) for row in [HEAD, *rows]) for k in range(len(HEAD))]
    return "\n".join("  ".join(_cell(row[k], widths[k], k) for k in range(len(HEAD))).rstrip() for row in [HEAD, *rows])


def _row(rule: str, members: list[JobUse]) -> tuple[str, ...]:
    """The job that came nearest to its memory, and the longest one."""
    near = max(members, key=lambda job: (job.used_mb or 0) / (job.asked_mb or 1e9))
    longest = max(members, key=lambda job: job.seconds)
    share = f"{near.used_mb / near.asked_mb:.0%}" if near.used_mb and near.asked_mb else "-"
    return (
        rule,
        str(len(members)),
        _number(near.asked_mb),
        _number(near.used_mb),
        share,
        _number(longest.asked_min),
        f"{longest.seconds / 60:.1f}",
        f"{sum(job.seconds for job in members):.1f}",
    )


def _job(file: Path) -> JobUse:
    with file.open() as text:
        row = next(csv.DictReader(text, delimiter="\t"), {})
    asked = _resources(row.get("resources"))
    log = file.parent.parent / "logs" / f"{file.stem}.log"
    return JobUse(
        rule=re.sub(r"_\d+-\d+$", "_part", file.stem),
        asked_mb=asked.get("mem_mb"),
        used_mb=logged_mb(log) or _value(row.get("max_rss")),
        asked_min=asked.get("runtime"),
        seconds=_value(row.get("s")) or 0.0,
    )


def _resources(text: str | None) -> dict[str, float]:
    """What the job was given, which Snakemake records with `benchmark-extended`."""
    try:
        given = json.loads((text or "{}").replace("'", '"'))
    except json.JSONDecodeError:
        return {}
    return {name: value for name, value in given.items() if isinstance(value, int | float)}


def logged_mb(log: Path) -> float | None:
    """Peak memory of a finished stage, 1e6 bytes, as its log says; None where it does not."""
    try:
        found = USED.search(log.read_text(errors="replace"))
    except OSError:
        return None
    return float(found[2]) if found else None


def _value(text: str | None) -> float | None:
    """Jobs shorter than a sampling interval have no memory figure."""
    try:
        return float(text or "")
    except ValueError:
        return None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _cell(text: str, width: int, column: int) -> str:
    return text.ljust(width) if column == 0 else text.rjust(width)
