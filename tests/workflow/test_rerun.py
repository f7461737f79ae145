"""Exactly what changed is run again."""

import csv
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from xrmflow.io.stores import open_volume
from xrmflow.io.tables import read_table
from xrmflow.manage.plan import read_plan
from xrmflow.manage.steps import STAGES, Step
from xrmflow.manage.why import planned_jobs

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


def estimate_of(project):
    """What `xrmflow estimate` says of a project's run."""
    return json.loads(project.xrmflow("estimate", "--settings", "run/config.yaml", "--json").stdout)


def name_columns(table, **columns):
    """Set columns of the table of scans: each by scan."""
    with table.open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    with table.open("w") as file:
        names = list(dict.fromkeys([*rows[0], *columns]))
        writer = csv.DictWriter(file, names, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(row | {name: of.get(row["scan"], "") for name, of in columns.items()} for row in rows)


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
    estimated = estimate_of(finished)
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
    """Each with settings of its own. Of processor time, because other work may run beside this."""
    folder = project.root / "run"
    names = [f"s{number:03d}" for number in range(200)]
    for number, name in enumerate(names):
        shutil.copyfile(folder / "bone.txrm", folder / f"{name}.txrm")
        (folder / f"{name}.yaml").write_text(f"align: {{centre_px: {30 + number / 100}}}\n")
    rows = "".join(f"{name}\t{name}.txrm\ttrain\t{name}.yaml\n" for name in names)
    (folder / "scans.tsv").write_text(f"scan\tsource\trole\tsettings\n{rows}")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    shown = project.snakemake("--dry-run", "--quiet", "reason").stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert re.search(r"^ingest +200$", shown, flags=re.MULTILINE), shown[-2000:]
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 30


def test_lineages_follow_what_the_rules_read(project, monkeypatch, write_isq):
    """What a step depends on by the graph of lineages is what Snakemake makes before it: no more and no less."""
    settings = project.settings | {"measure": ["volume", "iterative", "denoised", "superres"]}
    (project.root / "run" / "config.yaml").write_text(yaml.safe_dump(settings))
    table = project.root / "run" / "scans.tsv"
    write_isq(project.root / "run" / "tibia.isq", np.zeros((5, 6, 7), np.int16))
    table.write_text(f"{table.read_text()}tibia\ttibia.isq\n")
    name_columns(table, protocol={"bone": "p", "pair_low": "p", "tibia": "p"})
    for folder in ("run/results", "run/models", ".snakemake"):
        shutil.rmtree(project.root / folder)
    monkeypatch.chdir(project.root)
    lineages, jobs = read_plan(Path("run/config.yaml")).lineages, planned_jobs(Path("run/config.yaml"))
    writer = {name: job.step for job in jobs for name in job.outputs}
    by_files = {job.step: [writer[name] for name in job.files("after")] for job in jobs}
    by_graph = {step: list(lineages.steps_above(step).values()) for step in by_files}

    def all_above(step, reads):
        return {found for parent in reads[step] for found in (parent, *all_above(parent, reads))}

    steps = by_files.keys() - {Step("all")}
    assert {step.stage for step in steps} == set(STAGES)
    assert all(all_above(step, by_graph) == all_above(step, by_files) for step in steps)


def test_a_scan_with_settings_of_its_own_stands_out(project):
    """Only it is run again; the report, the study's tables and `why` say what was set where."""
    (project.root / "run" / "bone.yaml").write_text("morphometry: {thickness: false}\n")
    name_columns(project.root / "run" / "scans.tsv", settings={"bone": "bone.yaml"})
    said = project.xrmflow("why", "bone", "morphometry", "--settings", "run/config.yaml").stdout
    assert "morphometry.thickness: true -> false, set in run/bone.yaml (morphometry)" in said
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    assert project.planned() == set()
    results = project.root / "run" / "results"
    assert "skipped: switched off in the settings" in (results / "bone" / "morphometry" / "volume.csv").read_text()
    assert "morphometry.thickness: false (bone.yaml)" in (results / "bone" / "report.html").read_text()
    header, first = (results / "morphometry_wide.csv").read_text().splitlines()[:2]
    assert "bone.yaml" in first
    assert "settings" in header
    (project.root / "run" / "bone.yaml").write_text("morphometri: {thickness: false}\n")
    refused = project.snakemake()
    assert refused.returncode == 1
    assert "run/bone.yaml:1: morphometri: unknown key 'morphometri'; did you mean 'morphometry'?" in refused.stdout
    assert "Traceback" not in refused.stdout


def test_a_volume_is_measured_as_the_scan_it_was_made_from(project, write_isq):
    """A row of the table whose source another program has reconstructed: here, the volume of a scan of this run."""
    run = project.root / "run"
    source = open_volume(run / "results/bone/volume.zarr")
    data = source.data[...]
    scaling = int(30_000 / (10 * data.max()))
    # The size of a voxel counts: lacunae are known by theirs.
    sides = tuple(round(count * source.grid.voxel_mm * 1000) for count in reversed(data.shape))
    write_isq(run / "tibia.isq", np.rint(data * 10 * scaling).astype(np.int16), scaling=scaling, sides=sides)
    table = run / "scans.tsv"
    table.write_text(f"{table.read_text()}tibia\ttibia.isq\n")
    expected = {"import_volume", "segment", "morphometry", "report", "collect"}
    assert project.planned() == expected
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    assert project.planned() == set()
    imported, scanned = (read_table(run / f"results/{scan}/morphometry/volume.csv") for scan in ("tibia", "bone"))
    for symbol in ("BV/TV", "Lc.N", "mu"):
        found = [next(float(row["value"]) for row in rows if row["symbol"] == symbol) for rows in (imported, scanned)]
        assert found[0] == pytest.approx(found[1], rel=1e-3), symbol
    assert {row["scan"] for row in read_table(run / "results/morphometry.csv")} == {"bone", "tibia"}
    assert "Detector correction" not in (run / "results/tibia/report.html").read_text()
    assert "every chunk matches" in project.xrmflow("verify", "run/results").stdout
    (estimated,) = (row for row in estimate_of(project)["scans"] if row["name"] == "tibia")
    files = [file for file in (run / "results/tibia").rglob("*") if file.is_file()]
    assert estimated["jobs"] == len(list((run / "results/tibia").glob("benchmarks/*.tsv")))
    assert estimated["files"] == pytest.approx(len(files), rel=0.2)
    (run / "tibia.isq").touch()
    assert project.planned() == set()
    project.change("fdk", window="hann")
    assert project.planned("--", "run/results/tibia/report.html") == set()
    with (run / "tibia.isq").open("r+b") as file:
        file.seek(-1000, os.SEEK_END)
        file.write(b"xyz")
    said = project.xrmflow("why", "tibia", "segment", "--settings", "run/config.yaml").stdout
    assert "run/tibia.isq has changed (import_volume)" in said


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
    project.measure("volume")
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


def test_without_snakemakes_records_results_answer_for_themselves(project):
    """Stores and documents say how they were made; tables and reports, which do not, are made anew."""
    shutil.rmtree(project.root / ".snakemake/metadata")
    unsaid = {"morphometry", "validate", "report", "collect"}
    assert project.planned() == unsaid
    why = ("why", "bone", "morphometry", "--settings", "run/config.yaml")
    assert "nothing on record says how it was made (morphometry)" in project.xrmflow(*why).stdout
    project.change("segment", sigma_um=9.0)
    assert project.planned() == unsaid | {"segment"}
    assert "segment.sigma_um: null -> 9.0 (segment)" in project.xrmflow(*why).stdout


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
