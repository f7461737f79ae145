"""A scan that is worked on in parts has the stores of one that is not, and loses no more than a part."""

import os
import re
import signal
import subprocess
import time

import pytest

SHAPE = (150, 64, 64)
IN_PARTS = {"part_gb": 0.0011}
VOLUME = "run/results/bone/volume.zarr/manifest.json"


@pytest.fixture
def cut(project):
    """The finished run with a taller volume, made by one job."""
    project.change("fdk", shape=list(SHAPE))
    done = project.make(VOLUME)
    assert done.returncode == 0, done.stdout
    assert "fdk_part" not in done.stdout
    return project


def test_parts_change_neither_bits_nor_what_is_stale_and_lose_no_more_than_one(cut):
    scan = cut.root / "run/results/bone"
    whole = (scan / "volume.zarr/chunks.txt").read_text()
    cut.change("jobs", **IN_PARTS)
    assert "Nothing to be done" in cut.make(VOLUME, "--dry-run").stdout

    (cut.root / VOLUME).unlink()
    kill_in_the_second_part(cut, scan / "parts")
    left = 3 - len(list(scan.glob("parts/*.zarr/manifest.json")))
    assert 0 < left < 3
    done = cut.make(VOLUME)
    assert done.returncode == 0, done.stdout
    assert len(re.findall(r"Finished jobid: \d+ \(Rule: fdk_part\)", done.stdout)) == left
    assert (scan / "volume.zarr/chunks.txt").read_text() == whole

    for changed in ({"part_gb": 0.0022}, {"part_gb": 8.0}):
        cut.change("jobs", **changed)
        assert "Nothing to be done" in cut.make(VOLUME, "--dry-run").stdout
    cut.change("cupping", degree=3)
    said = cut.xrmflow("why", "bone", "fdk", "--settings", "run/config.yaml").stdout
    assert "cupping.degree: 2 -> 3 (cupping" in said


def kill_in_the_second_part(project, folder):
    """Kill the whole run as soon as one part is there and another is being written: one is, at a time."""
    command = project.command()
    command[command.index("--cores") : command.index("--cores")] = [VOLUME]
    running = subprocess.Popen(
        command,
        cwd=project.root,
        env=project.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while not (list(folder.glob("*.zarr")) and list(folder.glob(".*.zarr.tmp-*"))) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert list(folder.glob(".*.zarr.tmp-*"))
