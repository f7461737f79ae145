"""Runs that are killed at any time are finished by the same command, with the same numbers; two runs are refused."""

import os
import re
import shutil
import signal
import subprocess
import time

import pytest

pytestmark = pytest.mark.faults

# What is missing when a run begins; all results, or one that leaves seconds to a minute of work.
STARTS = (
    "",
    "volume.zarr/manifest.json",
    "geometry.json",
    "denoised.zarr/manifest.json",
    "bone/volume.zarr/manifest.json",
)
STARTS_OF_PARTS = (
    "",
    "projections.zarr/manifest.json",
    "volume.zarr/manifest.json",
    "splits/0.zarr/manifest.json",
    "denoised.zarr/manifest.json",
    "superres.zarr/manifest.json",
    "morphometry/superres.csv",
)
LONGEST_S = 60.0


def tables(project):
    results = project.root / "run" / "results"
    return {str(file.relative_to(results)): file.read_bytes() for file in sorted(results.rglob("*.csv"))}


def take_away(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def start(project):
    return subprocess.Popen(
        project.command(),
        cwd=project.root,
        env=project.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )


@pytest.fixture
def in_parts(tall, cases):
    """A finished run in which every stage that can works in parts, flat field to thickness."""
    if not cases(0):
        pytest.skip("runs of minutes: --faults-n N kills N of them")
    tall.change("jobs", part_gb=1e-5)
    done = tall.snakemake()
    assert done.returncode == 0, done.stdout
    return tall


def test_a_run_killed_at_any_time_is_finished_by_the_same_command(project, cases, draws):
    for _ in range(cases(1)):
        kill_and_finish(project, project.root / "run/results/bone", STARTS, draws)


def test_a_run_in_parts_is_finished_likewise(in_parts, cases, draws):
    for _ in range(cases(0)):
        kill_and_finish(in_parts, in_parts.root / "run/results/tall", STARTS_OF_PARTS, draws)


def kill_and_finish(project, scan, starts, draws):
    """Take a result away, kill the run that makes it anew, and give the same command again: all is as it was."""
    before = tables(project)
    missing = starts[draws.integers(len(starts))]
    take_away(scan / missing)
    after, alone = LONGEST_S * draws.random() ** 2, bool(draws.integers(2))
    running = start(project)
    try:
        said, _ = running.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        (os.kill if alone else os.killpg)(running.pid, signal.SIGKILL)
        # Jobs that outlive their scheduler may still write to the pipe: wait for its end, then close it.
        said, _ = running.communicate()
    what = f"{missing or 'all'} taken away, killed after {after:.1f} s, scheduler alone: {alone}, at {under_way(said)}"
    done = project.snakemake()
    assert done.returncode == 0, f"{what}\n{done.stdout}"
    assert tables(project) == before, what
    checked = project.xrmflow("verify", "run/results")
    assert checked.returncode == 0, f"{what}\n{checked.stderr}"
    assert project.planned() == set(), what
    print(what)


def under_way(said):
    """The jobs that a run had begun and not ended, by what it said."""
    ended = set(re.findall(r"^Finished jobid: (\d+) ", said, flags=re.MULTILINE))
    return [text for number, text in re.findall(r"^Job (\d+): (.+)$", said, flags=re.MULTILINE) if number not in ended]


def test_a_second_run_in_the_same_folder_is_refused(project):
    """The first one goes on undisturbed; a dry run beside it is allowed."""
    before = tables(project)
    (project.root / "run/results/bone/bone/volume.zarr/manifest.json").unlink()
    lock = project.root / "run/results/.run.lock"
    lock.unlink(missing_ok=True)
    first = start(project)
    deadline = time.monotonic() + 120
    while not (lock.exists() and lock.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    second = project.snakemake()
    planned = project.snakemake("--dry-run", "--quiet", "reason")
    assert planned.returncode == 0, planned.stdout
    assert second.returncode != 0
    assert "another run is working on these results" in second.stdout
    assert "Traceback" not in second.stdout
    said, _ = first.communicate(timeout=600)
    assert first.returncode == 0, said
    assert tables(project) == before
