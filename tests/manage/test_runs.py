"""One run at a time; jobs of a run that died are ended, or end themselves."""

import os
import subprocess
import sys

import pytest

from xrmflow.errors import UserError
from xrmflow.manage import runs

JOB = "xrmflow_0b0c4f0e-1111-2222-3333-444455556666"


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """No number and no cluster job, and whatever a test sets is undone."""
    for name in (runs.NUMBER, "SLURM_JOB_ID", "SLURM_JOB_NAME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def in_job(monkeypatch, name=JOB):
    """Go on as a job that inherited this run's number."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NAME", name)
    monkeypatch.setattr(runs.os, "getpid", lambda: 1)


def test_a_second_run_is_refused_and_a_killed_one_leaves_no_lock(tmp_path):
    with runs.begin(tmp_path):
        code = f"from xrmflow.manage import runs; from pathlib import Path; runs.begin(Path({str(tmp_path)!r}))"
        second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "another run is working on these results" in second.stderr
    runs.begin(tmp_path).close()


def test_a_job_of_the_run_at_work_goes_on_and_is_remembered(tmp_path, monkeypatch):
    runs.enter(tmp_path)
    with runs.begin(tmp_path):
        in_job(monkeypatch)
        runs.enter(tmp_path)
        assert [file.name for file in (tmp_path / runs.JOBS).iterdir()] == [JOB]
    runs.end(tmp_path)
    assert not (tmp_path / runs.JOBS).exists()


def test_a_job_of_a_run_that_died_refuses_itself(tmp_path, monkeypatch):
    runs.enter(tmp_path)
    (tmp_path / runs.LOCK).write_text("another run")
    in_job(monkeypatch)
    with pytest.raises(UserError, match="belongs to a run that has ended"):
        runs.enter(tmp_path)


def test_a_run_inside_a_cluster_job_is_a_run_however_often_it_is_planned(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    (tmp_path / runs.LOCK).write_text("an earlier run")
    runs.enter(tmp_path)
    number = os.environ[runs.NUMBER]
    runs.enter(tmp_path)
    assert os.environ[runs.NUMBER] == number


def test_jobs_left_behind_are_cancelled_by_name_and_nothing_else_is(tmp_path, monkeypatch):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("scancel", "squeue"):
        (tools / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/called\n')
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    left = tmp_path / runs.JOBS
    left.mkdir()
    for name in (JOB, "python3", "bash"):
        (left / name).touch()
    runs.begin(tmp_path).close()
    called = (tmp_path / "called").read_text().splitlines()
    assert called[0] == f"scancel --me --name={JOB}"
    assert called[1].startswith("squeue --me --noheader")
    assert all("python3" not in line and "bash" not in line for line in called)


def test_only_the_plugins_names_are_remembered(tmp_path, monkeypatch):
    runs.enter(tmp_path)
    with runs.begin(tmp_path):
        in_job(monkeypatch, name="python3.11")
        runs.enter(tmp_path)
    assert not (tmp_path / runs.JOBS).exists()
