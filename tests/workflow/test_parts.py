"""A scan that is worked on in parts has the stores of one that is not, and loses no more than a part."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter

import numpy as np
import pytest
import yaml

from xrmflow.io.write_dataexchange import write_dataexchange

IN_PARTS = {"part_gb": 0.0011}
VOLUME = "run/results/bone/volume.zarr/manifest.json"


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


@pytest.fixture
def tall(project):
    """A scan of 72 rows, which reach into a second layer of chunks, and a network trained before."""
    along, across = np.linspace(-1, 1, 72)[:, None], np.linspace(-1, 1, 32)
    seen = np.exp(-np.sqrt(np.clip(0.5 - across**2, 0, None)) * (1 + 0.3 * along))
    rng = np.random.default_rng(0)
    write_dataexchange(
        project.root / "run/tall.h5",
        projections=rng.poisson(20000 * seen, (48, 72, 32)).astype(np.uint16),
        flats=rng.poisson(20000, (4, 72, 32)).astype(np.uint16),
        angles_deg=np.linspace(0, 180, 48, endpoint=False),
        pixel_size_um=10.0,
    )
    (project.root / "run/scans.tsv").write_text("scan\tsource\ntall\ttall.h5\n")
    shutil.copytree(project.root / "run/models/default", project.root / "run/trained")
    settings = project.settings | {"measure": ["superres"], "trained_sr": "run/trained/sr.safetensors"}
    (project.root / "run/config.yaml").write_text(yaml.safe_dump(settings))
    return project


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
        for stage, number in (("flatfield", 2), ("fdk", 2), ("sr_apply", 3))
        for kind in ("part", "gather")
    }
    one, other = (tall.root / f"run/{results}/tall" for results in ("results", "cut"))
    for store in ("projections", "volume", "superres"):
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
