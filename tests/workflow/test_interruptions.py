"""Runs that are killed at any time are finished by the same command, with the same numbers; two runs are refused."""

import os
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


def test_a_run_killed_at_any_time_is_finished_by_the_same_command(project, cases, draws):
    before = tables(project)
    for number in range(cases(1)):
        missing = STARTS[draws.integers(len(STARTS))]
        take_away(project.root / "run/results/bone" / missing)
        after, alone = LONGEST_S * draws.random() ** 2, bool(draws.integers(2))
        what = f"case {number}: {missing or 'all'}, killed after {after:.1f} s, scheduler alone: {alone}"
        running = start(project)
        try:
            running.communicate(timeout=after)
        except subprocess.TimeoutExpired:
            (os.kill if alone else os.killpg)(running.pid, signal.SIGKILL)
            # Jobs that outlive their scheduler may still write to the pipe: wait for its end, then close it.
            running.communicate()
        done = project.snakemake()
        assert done.returncode == 0, f"{what}\n{done.stdout}"
        assert tables(project) == before, what
        checked = project.xrmflow("verify", "run/results")
        assert checked.returncode == 0, f"{what}\n{checked.stderr}"
        assert project.planned() == set(), what
        print(what)


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
