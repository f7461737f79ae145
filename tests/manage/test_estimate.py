"""xrmflow estimate: which jobs, what they add up to, and what is said of scans that cannot be read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xrmflow.errors import UserError
from xrmflow.io.write_txrm import write_txrm
from xrmflow.manage.estimate import estimate, run
from xrmflow.manage.jobs import planned_jobs
from xrmflow.manage.plan import load_plan
from xrmflow.morphometry.needs import MEASUREMENT

ROWS = {"a": "train\tb\t", "b": "reference\t\t", "c": "test\t\t"}


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """A function that plans a run of three scans, one of them the finer partner of another."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XRMFLOW_GPUS", raising=False)
    geometry: dict[str, Any] = {"pixel_size_um": 5.0, "source_to_axis_mm": 30.0, "detector_to_axis_mm": 70.0}
    for name in ROWS:
        frames = np.zeros((50, 20, 100), np.uint16)
        angles = np.arange(50) * 7.2
        write_txrm(tmp_path / f"{name}.txrm", projections=frames, angles_deg=angles, **geometry)

    def plan(text="", rows=ROWS):
        table = "".join(f"{name}\t{name}.txrm\t{row}\n" for name, row in rows.items())
        (tmp_path / "scans.tsv").write_text(f"scan\tsource\trole\tpair\ttruth\n{table}")
        (tmp_path / "config.yaml").write_text(text)
        return load_plan("config.yaml")

    return plan


def stages(plan, scan):
    return [job.stage for job in planned_jobs(plan) if job.scan == scan]


def test_jobs_follow_roles_and_settings(planned):
    every = ["ingest", "flatfield", "align", "cupping", "fdk"]
    plan = planned()
    assert stages(plan, "b") == every
    measured = ["segment", "morphometry"] * 3
    assert stages(plan, "c") == [*every, "n2i_split", "n2i_apply", "sr_apply", "report", *measured]
    assert [job.stage for job in planned_jobs(plan) if not job.scan] == ["n2i_train", "sr_train", "collect"]
    plain = planned("measure: [volume, iterative]\n")
    assert stages(plain, "c") == [*every, "iterative", "report", *measured[:4]]
    assert [job.stage for job in planned_jobs(plain) if not job.scan] == ["collect"]


def test_a_total_is_the_sum_of_its_scans(planned):
    found = estimate(planned(), cores=2)
    rows, total = found.scans, found.total
    assert [row.name for row in rows] == ["a", "b", "c", "models and study"]
    for name in ("jobs", "kept_gb", "files", "core_hours"):
        assert getattr(total, name) == pytest.approx(sum(getattr(row, name) for row in rows))
    assert total.memory_gb == max(row.memory_gb for row in rows)
    passing = sorted(row.peak_gb - row.kept_gb for row in rows)
    assert total.peak_gb == pytest.approx(total.kept_gb + sum(passing[-2:]))
    assert total.disk_gb["superres"] > 5 * total.disk_gb["volume"] / 3
    assert total.gpu_hours == 0


def test_more_cores_shorten_a_run_down_to_its_longest_chain(planned):
    plan = planned()
    one, four, many = (estimate(plan, cores=cores).total for cores in (1, 4, 1000))
    assert one.wall_s > four.wall_s > many.wall_s > 20
    assert one.wall_s > 3600 * one.core_hours
    assert one.core_hours == pytest.approx(many.core_hours)


def test_networks_on_a_gpu_count_for_it(planned):
    plan = planned("device: cuda\n")
    assert 0 < estimate(plan, cores=2).total.gpu_hours < estimate(planned(), cores=2).total.core_hours


def test_a_scan_that_cannot_be_read_is_named_and_not_counted(planned, tmp_path):
    whole = estimate(planned(), cores=2).total
    (tmp_path / "c.txrm").write_bytes(b"nothing")
    found = estimate(planned(), cores=2)
    assert found.unread == ("c",)
    assert found.total.kept_gb < whole.kept_gb
    assert "not counted, because they cannot be read: c" in run(settings=Path("config.yaml"))


def test_the_table_and_the_json_say_the_same(planned):
    planned()
    shown, plain = (
        run(settings=Path("config.yaml"), cores=2),
        json.loads(run(settings=Path("config.yaml"), cores=2, json=True)),
    )
    assert f"in {plain['total']['files']} files" in shown
    assert "on 2 cores" in shown
    assert [row["name"] for row in plain["scans"]] == ["a", "b", "c", "models and study"]
    assert plain["unread"] == []


def test_scratch_stands_apart_and_only_where_volumes_exceed_the_memory_of_a_stage(planned, monkeypatch):
    monkeypatch.delenv("XRMFLOW_SCRATCH", raising=False)
    whole = estimate(planned(), cores=2).total
    assert whole.scratch_gb == 0
    assert "scratch:" not in run(settings=Path("config.yaml"))
    plan = planned("morphometry: {memory_gb: 0.001}\n")
    two, four = (estimate(plan, cores=cores).total for cores in (2, 4))
    size = plan.size("c")
    assert size is not None
    # Two scans have a super-resolved volume, of eight times the voxels; two jobs of two threads run on four cores.
    assert two.scratch_gb == pytest.approx(8e-9 * MEASUREMENT.disk_bytes * size.voxels)
    assert four.scratch_gb == pytest.approx(2 * two.scratch_gb)
    cut = estimate(planned("morphometry: {memory_gb: 0.001}\njobs: {part_gb: 1.0e-6}\n"), cores=8).total
    assert cut.scratch_gb == pytest.approx(4 * two.scratch_gb)
    assert two.peak_gb == pytest.approx(whole.peak_gb)
    assert "beside the results while jobs work" in run(settings=Path("config.yaml"))


def test_fewer_cores_than_one_are_refused(tmp_path):
    with pytest.raises(UserError, match="--cores: expected at least 1, got -3"):
        run(settings=tmp_path / "config.yaml", cores=-3)
