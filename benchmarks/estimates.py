"""What `xrmflow estimate` says of a run against what the finished run took, as a table.

python benchmarks/estimates.py demo/config.yaml

Disk and files are counted in the results, memory is the peak in each job's log, time the seconds of processor that
Snakemake counted for each job (benchmark-extended), which other work on the machine changes little. Run it where
snakemake was started.
"""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

from xrmflow.manage.estimate import Estimate, estimate
from xrmflow.manage.jobs import planned_jobs
from xrmflow.manage.pieces import core_seconds, expected_mb
from xrmflow.manage.plan import Plan, load_plan
from xrmflow.manage.steps import Step
from xrmflow.manage.usage import logged_mb


def main(settings: str) -> None:
    """Print the table."""
    plan = load_plan(settings)
    print("| what | estimated | measured | ratio |\n|---|---|---|---|")
    for what, unit, estimated, measured in [*disk_rows(plan, estimate(plan, cores=2)), *job_rows(plan)]:
        print(f"| {what} | {estimated:.4g} {unit} | {measured:.4g} {unit} | {estimated / measured:.2f} |")


def disk_rows(plan: Plan, found: Estimate) -> Iterator[tuple[str, str, float, float]]:
    """(what, unit, estimated, measured) of what each scan keeps."""
    results = Path(plan.settings.results)
    for needs in found.scans:
        if needs.name in plan.scans:
            files = [file for file in (results / needs.name).rglob("*") if file.is_file()]
            yield f"{needs.name}: kept", "MB", needs.kept_gb * 1000, sum(f.stat().st_size for f in files) / 1e6
            yield f"{needs.name}: files", "", needs.files, len(files)


def job_rows(plan: Plan) -> Iterator[tuple[str, str, float, float]]:
    """(what, unit, estimated, measured) of the memory and time of each job."""
    expected_s = measured_s = 0.0
    for job in planned_jobs(plan):
        name, folder = _place(plan, job)
        row = next(csv.DictReader((folder / "benchmarks" / f"{name}.tsv").open(), delimiter="\t"))
        used = logged_mb(folder / "logs" / f"{name}.log")
        if used:
            yield f"{job.scan or 'all'}: {name}, memory", "MB", expected_mb(plan, job), used
        measured, expected = float(row["cpu_time"] or 0), core_seconds(plan, job)
        expected_s, measured_s = expected_s + expected, measured_s + measured
        if measured:
            yield f"{job.scan or 'all'}: {name}, time", "s", expected, measured
    yield "all jobs, time", "s", expected_s, measured_s


def _place(plan: Plan, job: Step) -> tuple[str, Path]:
    name = f"{job.stage}_{job.volume}" if job.volume else job.stage
    results, models = Path(plan.settings.results), Path(plan.settings.models)
    if job.stage.endswith("_train"):
        return name, models / plan.settings.model
    return name, results / "protocols" / job.protocol if job.protocol else results / job.scan


if __name__ == "__main__":
    main(sys.argv[1])
