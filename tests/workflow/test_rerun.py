"""Exactly what changed is run again."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import time

import pytest

HEIRS_OF_CUPPING = {
    "cupping",
    "fdk",
    "n2i_split",
    "n2i_train",
    "n2i_apply",
    "sr_train",
    "sr_apply",
    "segment",
    "morphometry",
    "validate",
    "collect",
    "report",
}


def test_the_run_ends_with_a_report_and_all_tables(finished):
    scan = finished.root / "run" / "results" / "bone"
    assert "<html" in (scan / "report.html").read_text()[:2000]
    for volume in ("volume", "denoised", "superres"):
        assert (scan / "morphometry" / f"{volume}.csv").read_text().count("\n") > 5
    assert (scan / "validation.csv").is_file()


def test_the_second_time_nothing_is_run(finished):
    assert finished.planned() == set()


def test_the_jobs_were_those_that_the_estimate_counts(finished):
    """Each job leaves a benchmark file: of a scan, of a network, or of the study."""
    estimated = json.loads(finished.xrmflow("estimate", "--settings", "run/config.yaml", "--json").stdout)
    ran = list(finished.root.joinpath("run").rglob("benchmarks/*.tsv"))
    assert estimated["total"]["jobs"] == len(ran)
    for scan in ("bone", "pair_high", "pair_low"):
        (needs,) = (row for row in estimated["scans"] if row["name"] == scan)
        results = finished.root / "run" / "results" / scan
        assert needs["jobs"] == len(list(results.glob("benchmarks/*.tsv")))
        files = [file for file in results.rglob("*") if file.is_file()]
        assert needs["files"] == pytest.approx(len(files), rel=0.1)
        assert needs["kept_gb"] == pytest.approx(sum(file.stat().st_size for file in files) / 1e9, rel=0.2)


def test_what_is_not_kept_is_gone(finished):
    results = finished.root / "run" / "results"
    assert list(results.glob("*/raw.zarr")) == []
    assert len(list(results.glob("*/projections.zarr"))) == len(list(results.glob("*/geometry.json")))


def test_two_hundred_scans_are_planned_in_half_a_minute(project):
    """Of processor time, because other work may run beside this."""
    folder = project.root / "run"
    names = [f"s{number:03d}" for number in range(200)]
    for name in names:
        shutil.copyfile(folder / "bone.txrm", folder / f"{name}.txrm")
    rows = "".join(f"{name}\t{name}.txrm\ttrain\n" for name in names)
    (folder / "scans.tsv").write_text(f"scan\tsource\trole\n{rows}")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    shown = project.snakemake("--dry-run", "--quiet", "reason").stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert re.search(r"^ingest +200$", shown, flags=re.MULTILINE), shown[-2000:]
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 30


def test_a_large_raw_file_counts_by_what_it_holds(project):
    """Larger than what Snakemake compares by content itself."""
    run = project.root / "run"
    scan = run / "large.txrm"
    shutil.copyfile(run / "bone.txrm", scan)
    os.truncate(scan, scan.stat().st_size + 110_000_000)
    (run / "scans.tsv").write_text("scan\tsource\nlarge\tlarge.txrm\n")
    done = project.snakemake("--until", "flatfield")
    assert done.returncode == 0, done.stdout[-2000:]
    scan.touch()
    assert project.planned("--until", "flatfield") == set()
    with scan.open("r+b") as file:
        file.seek(-1000, os.SEEK_END)
        file.write(b"x")
    assert project.planned("--until", "flatfield") == {"ingest", "flatfield"}
    with scan.open("r+b") as file:
        file.seek(-1000, os.SEEK_END)
        file.write(b"\0")
    assert project.planned("--until", "flatfield") == set()


def test_a_changed_key_reruns_its_stage_and_the_heirs(project):
    project.change("cupping", degree=3)
    assert project.planned() == HEIRS_OF_CUPPING


def test_an_edited_report_module_reruns_the_report_only(project):
    project.edit("report/page.py", "\n\n\ndef ", "\n\n\nUNUSED = 1\n\n\ndef ")
    assert project.planned() == {"report"}


def test_an_edited_style_sheet_reruns_the_report_only(project):
    style = project.root / "src/xrmflow/report/templates/style.css"
    style.write_text(style.read_text() + "\np { margin: 0 }\n")
    assert project.planned() == {"report"}


@pytest.mark.parametrize("keep", ["final", "all"])
def test_what_is_kept_decides_what_is_there(project, keep):
    """With less to keep nothing is run again; with more, what is missing is made and then kept."""
    project.change("storage", keep=keep)
    if keep == "final":
        assert project.planned() == set()
        project.edit("report/page.py", "\n\n\ndef ", "\n\n\nUNUSED = 1\n\n\ndef ")
        assert project.planned() == {"report"}
    else:
        assert "ingest" in project.planned()


def test_a_comment_reruns_nothing(project):
    project.edit("io/stores.py", "import os\n", "import os  # a comment\n\n\n")
    project.edit("stages/fdk.py", '"""', '"""Another docstring. ')
    assert project.planned() == set()


def test_a_changed_device_or_thread_count_reruns_nothing(project):
    settings = project.root / "run" / "config.yaml"
    settings.write_text(settings.read_text() + "\ndevice: cpu\n")
    assert project.planned("--cores", "1") == set()


def test_a_failed_rerun_is_retried_by_the_same_command(project):
    project.change("report", title="Another title")
    project.edit("stages/report.py", "    results = ", '    raise ValueError("planned fault")\n    results = ')
    failed = project.snakemake()
    assert failed.returncode != 0
    assert "error: report: ValueError: planned fault" in failed.stdout
    log = (project.root / "run/results/bone/logs/report.log").read_text()
    assert log.splitlines()[-1] == "error: report: ValueError: planned fault"
    assert project.planned() == {"report"}
    project.edit("stages/report.py", '    raise ValueError("planned fault")\n', "")
    assert project.snakemake().returncode == 0
    assert "Another title" in (project.root / "run/results/bone/report.html").read_text()


@pytest.mark.parametrize("killed", ["the whole run", "the scheduler alone"])
def test_a_killed_run_is_finished_by_the_same_command(project, killed):
    """Where the scheduler alone is killed, its stage goes on and may yet finish its store."""
    tables = {p.name: p.read_bytes() for p in (project.root / "run/results/bone/morphometry").glob("*.csv")}
    (project.root / "run/results/bone/volume.zarr/manifest.json").unlink()
    running = subprocess.Popen(
        project.command(),
        cwd=project.root,
        env=project.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    scan = project.root / "run/results/bone"
    deadline = time.monotonic() + 120
    while not list(scan.glob(".volume.zarr.tmp-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    (os.killpg if killed == "the whole run" else os.kill)(running.pid, signal.SIGKILL)
    running.wait()
    if killed == "the whole run":
        assert list(scan.glob(".volume.zarr.tmp-*")), "killed while the volume was being written"
        assert not (scan / "volume.zarr/manifest.json").exists()
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    assert project.planned() == set()
    assert {p.name: p.read_bytes() for p in (project.root / "run/results/bone/morphometry").glob("*.csv")} == tables


def test_why_names_key_module_and_file(project):
    assert "up to date" in project.xrmflow("why", "bone", "--settings", "run/config.yaml").stdout
    project.change("cupping", degree=3)
    project.edit("calibration/centre.py", "\n\n\ndef ", "\n\n\nUNUSED = 1\n\n\ndef ")
    with (project.root / "run/bone.txrm").open("ab") as raw:
        raw.write(bytes(512))
    said = project.xrmflow("why", "bone", "fdk", "--settings", "run/config.yaml").stdout
    for cause in ("cupping.degree: 2 -> 3 (cupping", "module xrmflow.calibration.centre has changed (align"):
        assert cause in said
    assert "run/bone.txrm has changed (ingest)" in said
    assert "report" not in said
