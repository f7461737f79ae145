"""The benchmark runs and prints one line of JSON; without the peer it says so in one line."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "projector.py"
SMALL = ["--size", "16", "--views", "4", "--repeats", "1"]


def run(*arguments):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *SMALL, *arguments], capture_output=True, text=True, check=False
    )


def test_it_prints_one_line_of_rates():
    done = run()
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    rates = line["giga_updates_per_cpu_second"]
    assert set(rates) == {"backproject", "fdk", "project", "adjoint", "tilted"}
    assert min(rates.values()) > 0


@pytest.mark.skipif(importlib.util.find_spec("itk") is not None, reason="itk is installed here")
def test_a_missing_peer_is_one_line():
    done = run("--peer", "rtk")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("itk-rtk is missing in ")
    assert done.stderr.count("\n") == 1
