"""One run at a time over a results folder: its lock, its number, and the cluster jobs of a run that died.

The process that plans a run gives it a number, which its jobs inherit. A run that is killed leaves cluster jobs behind:
some working, some still in the queue. The next run ends the first, and the second refuse themselves when they start,
because the number has changed: before the workflow could remove a single file that the next run has made.
"""

import fcntl
import os
import platform
import re
import shutil
import subprocess
import time
import uuid
from pathlib import Path
from typing import TextIO

from xrmflow.errors import UserError

NUMBER = "XRMFLOW_RUN"
LOCK, JOBS = ".run.lock", ".run.jobs"
SECONDS_TO_END = 120.0
# What the cluster plugin calls the jobs of a run. Nothing else is ever cancelled.
NAME = re.compile(r"([A-Za-z0-9-]+_)*[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def enter(results: Path) -> None:
    """Number the run, or, in a cluster job, make sure that the run which submitted it still is the one at work.

    Raises:
        UserError: another run has taken over.
    """
    here = f"-{platform.node()}-{os.getpid()}"
    number = os.environ.get(NUMBER, "")
    if not number or "SLURM_JOB_ID" not in os.environ or number.endswith(here):
        os.environ[NUMBER] = number if number.endswith(here) else uuid.uuid4().hex + here
        return
    current = _read(results / LOCK)
    if current and current != number:
        raise UserError(f"{results}: this job belongs to a run that has ended; another run has taken over")
    name = os.environ.get("SLURM_JOB_NAME", "")
    if NAME.fullmatch(name):
        (results / JOBS).mkdir(parents=True, exist_ok=True)
        (results / JOBS / name).touch()


def begin(results: Path) -> TextIO:
    """Take the lock of a results folder for as long as the returned file is open, and end jobs of a run that died.

    Raises:
        UserError: another run holds it, or jobs of an earlier run do not end.
    """
    results.mkdir(parents=True, exist_ok=True)
    file = (results / LOCK).open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UserError(f"{results}: another run is working on these results; wait for it or end it") from None
    file.truncate(0)
    file.write(os.environ.get(NUMBER, ""))
    file.flush()
    os.fsync(file.fileno())
    _end_jobs(results / JOBS)
    return file


def end(results: Path) -> None:
    """Forget the jobs of this run, which have all ended."""
    shutil.rmtree(results / JOBS, ignore_errors=True)


def _end_jobs(folder: Path) -> None:
    """Cancel what is left of earlier runs in the queue, by the names their jobs have in common."""
    names = sorted(file.name for file in folder.glob("*") if NAME.fullmatch(file.name))
    if not names or shutil.which("scancel") is None:
        return
    listed = ",".join(names)
    subprocess.run(["scancel", "--me", f"--name={listed}"], check=False, capture_output=True)
    give_up = time.monotonic() + SECONDS_TO_END
    while alive := _alive(listed):
        if time.monotonic() > give_up:
            raise UserError(f"jobs of an earlier run do not end: {', '.join(alive)}; end them with scancel")
        time.sleep(1)
    for name in names:
        (folder / name).unlink(missing_ok=True)


def _alive(names: str) -> list[str]:
    """Numbers of the jobs in the queue with one of the names."""
    command = ["squeue", "--me", "--noheader", "--format=%i", f"--name={names}"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.split()


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""
