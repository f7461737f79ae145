"""The job that runs Snakemake itself: what it asks of a stand-in for that. A real SLURM runs it in test_slurm.py."""

import os
import subprocess
from pathlib import Path

import pytest

HEAD = Path(__file__).parents[2] / "workflow" / "slurm" / "head.sbatch"


@pytest.fixture
def head(tmp_path):
    """A function that runs the script beside a stand-in that prints what it is given, an argument a line."""
    stand_in = tmp_path / "snakemake"
    stand_in.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    stand_in.chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "XRMFLOW_PROFILE": ""}

    def run(*arguments):
        command = ["bash", HEAD, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=os.environ | path, capture_output=True, text=True, check=False)

    return run


def test_values_after_the_settings_go_with_them(head):
    done = head("my study/config.yaml", "container=xrmflow.sif", "--sdm", "apptainer")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        *("--workflow-profile", "profiles/slurm"),
        *("--config", "settings=my study/config.yaml", "container=xrmflow.sif"),
        *("--sdm", "apptainer"),
    ]


@pytest.mark.parametrize("option", ["--config", "-C", "--config=container=xrmflow.sif"])
def test_values_that_would_replace_the_settings_are_refused(head, option):
    done = head("study/config.yaml", option, "container=xrmflow.sif")
    assert done.returncode == 2
    assert done.stderr == f"expected KEY=VALUE right after the settings, got {option}, which would replace them\n"
    assert not done.stdout
