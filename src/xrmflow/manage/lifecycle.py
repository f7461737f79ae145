"""How a run begins and ends: its lock, the space it needs, what is left behind, and what it says at its end.

Imports nothing heavy, like `xrmflow.manage.plan`: it is read once at the start of a run and again in every cluster job.
"""

import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TextIO

from xrmflow.errors import UserError
from xrmflow.io import sums
from xrmflow.manage import failures, records, runs
from xrmflow.manage.clean import forget_parts, sweep, sweep_files
from xrmflow.manage.failures import Ended
from xrmflow.manage.plan import Plan, fault

# The study's tables of a run in which some scans failed.
PARTIAL = ("morphometry_partial.csv", "morphometry_partial_wide.csv")
# At the end of a run so many reports are named one by one.
REPORTS_NAMED = 5


class Run:
    """A run of the workflow over its results folder."""

    def __init__(self, plan: Plan) -> None:
        """Of a plan; nothing happens before `enter`."""
        self.plan = plan
        self.results = Path(plan.settings.results)
        self._lock: TextIO | None = None

    def enter(self) -> None:
        """Number the run; in a cluster job, refuse to go on where another run has taken over."""
        try:
            runs.enter(self.results)
        except UserError as error:
            fault(error)

    def begin(self, cores: int | None = None, written: Collection[str] = ()) -> None:
        """Refuse a second run over the same results, and one that the disk cannot hold; end jobs of one that died.

        Args:
            cores: that jobs use at once; None where the cluster decides.
            written: scans with a volume that the run writes: a changed setting may make it larger than what is there.
        """
        try:
            self._lock = runs.begin(self.results)
            records.keep(self.results, self.plan.made_of)
            for doubt in self.plan.doubts:
                print(f"warning: {doubt}", file=sys.stderr)
            if self.plan.settings.storage.check_free_space:
                self._check_free_space(cores, written)
        except UserError as error:
            fault(error)

    def end(self) -> None:
        """Remove stores that are not kept and what an earlier run said of failures, and say what there is now."""
        self._tidy_up()
        forget_parts(self.results)
        for name in (failures.TABLE, *PARTIAL):
            sums.forget(self.results / name)
        if said := self.what_there_is():
            print(said, file=sys.stderr)

    def end_with_failures(
        self, failed: list[Ended], unfinished: set[str], tables: list[str], run_log: str, earlier: list[str]
    ) -> None:
        """Say which scans failed and why, and put the numbers of the finished ones into one table all the same.

        Args:
            failed: jobs that ended badly.
            unfinished: scans that have work left.
            tables: tables of bone numbers that are up to date.
            run_log: text of the run's log.
            earlier: tables of the study that an earlier run has left.
        """
        self._tidy_up()
        found = [failures.failure(job, run_log) for job in failed]
        failures.write_table(self.results / failures.TABLE, found)
        scans = self.plan.scans
        said = failures.summary(
            found,
            waiting=unfinished,
            finished=len(set(scans) - unfinished),
            scans=len(scans),
            protocols=self.plan.protocols,
            learned=self.plan.learned,
        )
        print(said, *(f"numbers of an earlier run: {table}" for table in earlier), sep="\n", file=sys.stderr)
        if tables:
            self._collect(tables)

    def what_there_is(self) -> str:
        """Where the reports and the study's table of a finished run are, in words; "" where nothing was measured."""
        reports = [path for scan in self.plan.scans if (path := self.results / scan / "report.html").is_file()]
        lines = [f"warning: {doubt}" for doubt in self.plan.doubts]
        lines += [f"report: {path}" for path in reports[:REPORTS_NAMED]]
        if len(reports) > REPORTS_NAMED:
            lines.append(f"report: ... {len(reports)} in all, one a scan")
        table = self.results / "morphometry.csv"
        return "\n".join([*lines, f"numbers of all scans: {table}"] if table.is_file() else lines)

    def _tidy_up(self) -> None:
        """Forget the jobs of this run, and remove what killed ones of any run have left."""
        runs.end(self.results)
        sweep(self.results)
        for folder in (self.results, Path(self.plan.settings.models)):
            sweep_files(folder)

    def _collect(self, tables: list[str]) -> None:
        """Run stage collect over the tables there are, under names that the workflow does not take for the whole."""
        table, wide = (str(self.results / name) for name in PARTIAL)
        command = [sys.executable, "-m", "xrmflow.cli", "collect", "--table", table, "--wide", wide]
        command += ["--params", self.plan.section("collect"), "--scans", str(self.plan.table), "--tables", *tables]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        said = f"numbers of the finished scans: {table}" if done.returncode == 0 else done.stderr.strip()
        print(said, file=sys.stderr)

    def _check_free_space(self, cores: int | None, written: Collection[str]) -> None:
        from xrmflow.manage.space import check_free_space  # numpy and readers are needed only now

        last = {scan: "report.html" if self.plan.is_measured(scan) else "volume.zarr" for scan in self.plan.scans}
        finished = {scan for scan, result in last.items() if (self.results / scan / result).exists()}
        unfinished = [scan for scan in self.plan.scans if scan in written or scan not in finished]
        check_free_space(self.plan, self.results, unfinished=unfinished, cores=cores)
