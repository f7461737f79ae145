"""A real SLURM of one machine: jobs killed, late, too large; the scheduler killed; and the same numbers in the end."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "slurm"
NEEDED = ("slurmctld", "slurmd", "munged", "sbatch", "squeue")
# A look at the queue that finds no job ended puts off the next by ten seconds more: after 2 and 14 s, and jobs take 7
# to 13.
QUICK = [
    "--seconds-between-status-checks=2",
    "--slurm-init-seconds-before-status-checks=2",
    "--latency-wait=10",
    "--slurm-delete-logfiles-older-than=0",
    "--max-threads=2",
]
PATIENCE_S = 900

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """SLURM on this machine, up for as long as the tests of this module take."""
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="needs pip install 'xrmflow[slurm]'")
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root and apt-get install slurm-wlm munge; root: {os.geteuid() == 0}, missing: {missing}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1] % 20000 + 20000
    # Not below pytest's own folders: SLURM wants every folder above its socket readable.
    folder = Path("/tmp") / f"xrmflow-slurm-{os.getpid()}"
    up = subprocess.run([HERE / "cluster.sh", "up", folder, str(port)], capture_output=True, text=True, check=False)
    if up.returncode == 3:
        pytest.skip(up.stderr.strip())
    try:
        assert up.returncode == 0, up.stdout + up.stderr
        yield folder
    finally:
        subprocess.run([HERE / "cluster.sh", "down", folder], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


class Watch(threading.Thread):
    """Looks at the queue all the time: which jobs ran, and whether two ever ran for the same outputs at once."""

    def __init__(self):
        super().__init__(daemon=True)
        self.twice, self.seen, self.over = set(), {}, threading.Event()

    def run(self):
        while not self.over.wait(0.3):
            running = [tuple(line.split("|")) for line in queue("%A|%k", "RUNNING")]
            self.seen.update(dict(running))
            self.twice |= {what for what, count in Counter(what for _, what in running).items() if count > 1}


def queue(columns, state="RUNNING,PENDING,COMPLETING"):
    done = subprocess.run(
        ["squeue", "--noheader", f"--format={columns}", f"--states={state}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.split("\n")[:-1]


def running(comment):
    """The number of the running job of a rule and scan."""
    found = dict(reversed(line.split("|")) for line in queue("%A|%k", "RUNNING"))
    return found.get(comment)


def wait_for(what, seconds=PATIENCE_S):
    give_up = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < give_up, "waited in vain"
        time.sleep(0.3)
    return found


@pytest.fixture
def submitted(project, monkeypatch):
    """The tiny project with faults built in, and its results removed: two scans, a training, one measured volume."""
    run = project.root / "run"
    for left in ("results", "models"):
        shutil.rmtree(run / left)
    (run / "config.yaml").write_text((run / "config.yaml").read_text() + "\nmeasure: [denoised]\n")
    rows = (run / "scans.tsv").read_text().splitlines()
    (run / "scans.tsv").write_text(
        "".join(f"{row.replace(chr(9) + 'pair_high', chr(9))}\n" for row in rows if row[:9] != "pair_high")
    )
    call = '__import__("faults").at'
    project.edit(
        "io/stores.py",
        "        _sweep(folder)\n",
        f"        _sweep(folder)\n        {call}(folder.parent.name + folder.stem)\n",
    )
    project.edit(
        "networks/training.py", "        window.append(", f"        {call}(f'step{{step}}')\n        window.append("
    )
    shutil.copy2(HERE / "faults.py", project.root / "src")
    (run / "faults").mkdir()
    monkeypatch.setenv("XRMFLOW_FAULTS", str(run / "faults"))
    return project


def start(project, log, *arguments):
    options = ["--workflow-profile", "profiles/slurm", "--set-resources", "n2i_train:runtime=attempt", *QUICK]
    command = [*options, *arguments]
    command = [part for part in project.command(*command) if part not in ("--cores", "2")]
    with log.open("w") as text:
        return subprocess.Popen(
            command, cwd=project.root, env=project.environment, stdout=text, stderr=subprocess.STDOUT
        )


@pytest.mark.usefixtures("cluster")
def test_a_run_on_a_cluster_survives_every_misfortune(submitted, finished, tmp_path):
    orders = submitted.root / "run" / "faults"
    for order in ("pair_lowprojections.memory", "bonevolume.hang", "pair_lowvolume.hang", "step15.hang"):
        (orders / order).touch()
    watch = Watch()
    watch.start()
    first = start(submitted, tmp_path / "first.log")
    try:
        # One job is killed.
        wait_for(lambda: (orders / "bonevolume.hang.met").exists() or first.poll() is not None)
        subprocess.run(["scancel", "--signal=KILL", running("rule_fdk_wildcards_bone")], check=True)
        # The scheduler is killed while a job holds the lock of its store.
        wait_for(lambda: (orders / "pair_lowvolume.hang.met").exists() or first.poll() is not None)
        left_over = running("rule_fdk_wildcards_pair_low")
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert left_over in queue("%A", "RUNNING")
        # The same command again: memory and time run out for two more jobs on the way.
        second = start(submitted, tmp_path / "second.log")
        status = second.wait(timeout=PATIENCE_S)
    finally:
        watch.over.set()
        first.kill()
    text = (tmp_path / "first.log").read_text() + (tmp_path / "second.log").read_text()
    assert status == 0, text
    assert len(list(orders.glob("*.met"))) == 4
    assert watch.twice == set()
    assert len(watch.seen) >= 15
    assert "SLURM status is: 'TIMEOUT'" in text
    assert "resuming at step 10" in (submitted.root / "run/models/default/logs/n2i_train.log").read_text()
    for name in ("denoised.csv", "denoised_slices.csv", "denoised_lacunae.csv"):
        same = [p.root / "run/results/bone/morphometry" / name for p in (submitted, finished)]
        assert same[0].read_bytes() == same[1].read_bytes(), name
    assert submitted.xrmflow("verify", "run/results").returncode == 0
    assert submitted.planned() == set()


@pytest.mark.usefixtures("cluster")
def test_snakemake_itself_runs_as_a_job(project):
    """For sites that forbid it on login nodes: a job that submits jobs."""
    project.change("report", title="Written on a cluster")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["sbatch", "--wait", "--output=head.log", "workflow/slurm/head.sbatch", "run/config.yaml", *QUICK]
    done = subprocess.run(command, cwd=project.root, env=project.environment | {"PATH": path}, check=False)
    said = (project.root / "head.log").read_text()
    assert done.returncode == 0, said
    assert "has been submitted with SLURM jobid" in said
    assert "Written on a cluster" in (project.root / "run/results/bone/report.html").read_text()


@pytest.mark.usefixtures("cluster")
def test_parts_of_a_volume_are_jobs_of_their_own_with_the_bits_of_one(cut, tmp_path):
    """Every job plans the run again, on its own: what it takes for a part must be what the submitting process does."""
    target = "run/results/bone/volume.zarr"
    whole = (cut.root / target / "chunks.txt").read_bytes()
    (cut.root / target / "manifest.json").unlink()
    cut.change("jobs", part_gb=0.0011)
    watch = Watch()
    watch.start()
    try:
        status = start(cut, tmp_path / "run.log", "--", f"{target}/manifest.json").wait(timeout=PATIENCE_S)
    finally:
        watch.over.set()
    assert status == 0, (tmp_path / "run.log").read_text()
    assert {what for what in watch.seen.values() if "fdk_part" in what} == {
        f"rule_fdk_part_wildcards_bone_{part}" for part in ("0-64", "64-128", "128-150")
    }
    assert (cut.root / target / "chunks.txt").read_bytes() == whole
