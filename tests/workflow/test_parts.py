"""A scan that is worked on in parts has the stores of one that is not, and loses no more than a part."""

import json
import os
import re
import signal
import subprocess
import time
from collections import Counter

import yaml

VOLUME = "run/results/bone/volume.zarr/manifest.json"


def test_parts_change_neither_bits_nor_what_is_stale_and_lose_no_more_than_one(cut):
    scan = cut.root / "run/results/bone"
    whole = (scan / "volume.zarr/chunks.txt").read_text()
    cut.change("jobs", part_gb=0.0011)
    assert "Nothing to be done" in cut.make(VOLUME, "--dry-run").stdout

    (cut.root / VOLUME).unlink()
    kill_in_the_second_part(cut, scan / "parts")
    left = 3 - len(list(scan.glob("parts/*.zarr/manifest.json")))
    assert 0 < left < 3
    done = cut.make(VOLUME)
    assert done.returncode == 0, done.stdout
    assert len(re.findall(r"Finished jobid: \d+ \(Rule: fdk_part\)", done.stdout)) == left
    assert (scan / "volume.zarr/chunks.txt").read_text() == whole

    cut.change("jobs", part_gb=0.0022)
    assert "Nothing to be done" in cut.make(VOLUME, "--dry-run").stdout
    cut.change("cupping", degree=3)
    said = cut.xrmflow("why", "bone", "fdk", "--settings", "run/config.yaml").stdout
    assert "cupping.degree: 2 -> 3 (cupping" in said


def test_a_chain_of_parts_has_the_bits_of_one_of_whole_stores(tall):
    target = "run/{}/tall/morphometry/superres.csv"
    whole = tall.make(target.format("results"))
    assert whole.returncode == 0, whole.stdout
    settings = tall.settings | {"results": "run/cut", "jobs": {"part_gb": 1e-5}}
    (tall.root / "run/config.yaml").write_text(yaml.safe_dump(settings))
    cut = tall.make(target.format("cut"))
    assert cut.returncode == 0, cut.stdout
    ran = Counter(re.findall(r"Finished jobid: \d+ \(Rule: (\w+)\)", cut.stdout))
    alone = ("ingest", "align", "cupping", "segment", "morphometry")
    assert ran == dict.fromkeys(alone, 1) | {"morphometry_part": 2} | {
        f"{stage}_{kind}": number if kind == "part" else 1
        for stage, number in (("flatfield", 2), ("fdk", 2), ("n2i_split", 2), ("n2i_apply", 2), ("sr_apply", 3))
        for kind in ("part", "gather")
    }
    one, other = (tall.root / f"run/{results}/tall" for results in ("results", "cut"))
    for store in ("projections", "volume", *(f"splits/{k}" for k in range(4)), "denoised", "superres"):
        assert (one / f"{store}.zarr/chunks.txt").read_text() == (other / f"{store}.zarr/chunks.txt").read_text(), store
    for file in ("flatfield_views.npz", "morphometry/superres.csv", "morphometry/superres_slices.csv"):
        assert (one / file).read_bytes() == (other / file).read_bytes(), file
    said = [json.loads((scan / "flatfield.json").read_text())["flatfield"] for scan in (one, other)]
    assert said[0] == said[1]
    tall.change("jobs", part_gb=8.0)
    assert "Nothing to be done" in tall.make(target.format("cut"), "--dry-run").stdout


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
