"""The jobs of a run as Snakemake sees them, whole or in parts, with the memory and time that each is expected to take.

Memory and time are those that jobs ask for (`resources`), without their margins.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any

from xrmflow.manage.parts import Parts
from xrmflow.manage.plan import Plan
from xrmflow.manage.resources import (
    CORES_USED,
    GATHER,
    GPU_STAGES,
    TABLES,
    THICKNESS,
    Job,
    seconds,
    threads_of,
    used_mb,
)
from xrmflow.manage.steps import Step

# Of networks on a GPU, in cores that would do the same work. Assumed: nothing was measured on a GPU yet.
GPU_CORES = 50


@dataclass(frozen=True)
class Piece:
    """One job as Snakemake sees it.

    Attributes:
        stage: its name; GATHER for what puts parts together; THICKNESS or TABLES for a part of morphometry or the rest.
        work: what it works on.
    """

    stage: str
    work: Job


def pieces(plan: Plan, job: Step) -> list[Piece]:
    """The jobs that a job is: itself, or those of its parts and one that puts these together."""
    parts, whole = Parts(plan), plan.work(job.stage, _wildcards(job))
    cut = parts.by_size(job.stage, job.scan, job.volume)
    if not cut:
        return [Piece(job.stage, whole)]
    works = [parts.work(job.stage, SimpleNamespace(**vars(_wildcards(job)), part=part)) for part in cut]
    part, rest = (THICKNESS, TABLES) if job.stage == "morphometry" else (job.stage, GATHER)
    return [*(Piece(part, work) for work in works), Piece(rest, whole)]


def number_of(plan: Plan, jobs: Iterable[Step]) -> int:
    """How many jobs there are."""
    return sum(len(pieces(plan, job)) for job in jobs)


def expected_mb(plan: Plan, job: Step) -> float:
    """Megabytes a job is expected to take at its peak; of one that is cut into parts the largest of these."""
    return max(used_mb(piece.stage, piece.work) for piece in pieces(plan, job))


def core_seconds(plan: Plan, job: Step) -> float:
    """Of one core; for a job on a GPU the seconds it lasts, because one core waits for it."""
    return sum(seconds(piece.stage, piece.work, threads=_speed(plan, piece, 1)) for piece in pieces(plan, job))


def busy_s(plan: Plan, job: Step, cores: int) -> float:
    """Seconds that a job and its parts keep so many cores busy."""
    each = (_seconds(plan, piece, cores) * min(threads_of(piece.stage), cores) for piece in pieces(plan, job))
    return sum(each) / cores


def longest_s(plan: Plan, job: Step, cores: int) -> float:
    """Seconds from a job's start to its end where all its parts run at once."""
    longest = largest_of((piece.stage, _seconds(plan, piece, cores)) for piece in pieces(plan, job))
    return sum(longest.values())


def _seconds(plan: Plan, piece: Piece, cores: int) -> float:
    return seconds(piece.stage, piece.work, threads=_speed(plan, piece, cores))


def _speed(plan: Plan, piece: Piece, cores: int) -> int:
    """Cores that a job makes use of."""
    return GPU_CORES if on_gpu(plan, piece) else min(threads_of(piece.stage), cores, CORES_USED)


def on_gpu(plan: Plan, job: Step | Piece) -> bool:
    """Whether a job takes a GPU."""
    return bool(plan.gpu) and job.stage in GPU_STAGES


def largest_of(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The largest value of each name."""
    found: dict[str, float] = {}
    for name, value in pairs:
        found[name] = max(found.get(name, 0.0), value)
    return found


def _wildcards(job: Step) -> Any:
    return SimpleNamespace(**{name: value for name, value in asdict(job).items() if value and name != "stage"})
