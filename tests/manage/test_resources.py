"""Requests cover what was measured, without waste, and follow budgets and attempts."""

import os

import numpy as np
import pytest

from xrmflow.config.settings import Settings
from xrmflow.io.write_txrm import write_txrm
from xrmflow.manage import sizes
from xrmflow.manage.plan import GPUS, load_plan
from xrmflow.manage.resources import COSTS, GATHER, WORKFLOW_MB, job_of, memory_mb, minutes, seconds, used_mb
from xrmflow.manage.sizes import ScanSize, Sizes
from xrmflow.manage.steps import STAGES

DEMO = ScanSize(320, 96, 160, 2, (96, 160, 160))
SMALL = ScanSize(600, 192, 256, 2, (192, 256, 256))
LARGE = ScanSize(400, 1024, 1024, 2, (1024, 1024, 1024))
TINY = ScanSize(72, 32, 64, 2, (32, 64, 64))
PAIR = ScanSize(360, 96, 192, 2, (96, 192, 192))
# Peak MB in the logs of finished runs on two cores without a GPU: tiny, demo, and its finer scan.
MEASURED = {
    "ingest": (78, 92, 109),
    "flatfield": (283, 360, 402),
    "align": (405, 518, 522),
    "cupping": (418, 682, 687),
    "fdk": (402, 480, 498),
    "n2i_split": (407, 524, None),
    "segment": (208, 287, 322),
    "morphometry": (216, 399, 427),
}
# What small took, which the coefficients were not fitted to.
LARGER = {
    "flatfield": 564,
    "align": 611,
    "cupping": 903,
    "fdk": 709,
    "n2i_split": 645,
    "n2i_train": 638,
    "n2i_apply": 896,
    "segment": 495,
    "morphometry": 735,
}


def job(size, stage, finer=1, **settings):
    section = Settings.model_validate({stage: settings}).section(stage)
    return job_of(size, section, finer=finer, splits=4 if stage.startswith("n2i") else 1)


def test_every_stage_has_its_cost():
    assert set(COSTS) >= set(STAGES) - {"iterative"}


@pytest.mark.parametrize("stage", MEASURED)
def test_a_request_covers_what_was_measured(stage):
    for size, used in zip((TINY, DEMO, PAIR), MEASURED[stage], strict=True):
        if used:
            assert used < memory_mb(stage, job(size, stage)) - WORKFLOW_MB < 1.5 * used + 100, size


@pytest.mark.parametrize("stage", LARGER)
def test_memory_of_a_run_that_nothing_was_fitted_to(stage):
    assert used_mb(stage, job(SMALL, stage)) == pytest.approx(LARGER[stage], rel=0.2)


@pytest.mark.parametrize(("stage", "used"), [("segment", 590), ("morphometry", 880), ("sr_apply", 722)])
def test_a_finer_volume_takes_its_own_size(stage, used):
    assert used_mb(stage, job(DEMO, stage, finer=2)) == pytest.approx(used, rel=0.2)
    assert memory_mb(stage, job(DEMO, stage, finer=2)) > used + WORKFLOW_MB


@pytest.mark.parametrize(("slices", "side", "used"), [(128, 256, 155), (256, 512, 237), (128, 1024, 387)])
def test_putting_parts_together_takes_memory_of_a_layer(slices, side, used):
    work = job(ScanSize(100, side, side, 2, (slices, side, side)), "fdk")
    assert used_mb(GATHER, work) == pytest.approx(used, rel=0.2)


def test_what_is_beside_a_volume_counts_where_it_is_read():
    def job_of_demo(stage, *, volumes, refined):
        return job_of(DEMO, Settings().section(stage), volumes=volumes, refined=refined)

    alone, beside = (job_of_demo("validate", volumes=v, refined=r) for v, r in ((1, 0), (3, 2)))
    assert used_mb("validate", beside) == pytest.approx(304, rel=0.2)
    assert used_mb("report", job_of_demo("report", volumes=3, refined=2)) == pytest.approx(355, rel=0.2)
    assert used_mb("validate", alone) == pytest.approx(203, rel=0.2)
    assert used_mb("segment", alone) == used_mb("segment", beside)


def test_memory_follows_the_budget_that_the_stage_keeps():
    large = ScanSize(3000, 2048, 2048, 2, (2048, 2048, 2048))
    assert memory_mb("fdk", job(large, "fdk", memory_gb=2.0)) == pytest.approx(2200 + WORKFLOW_MB, abs=50)
    assert memory_mb("fdk", job(large, "fdk", memory_gb=16.0)) == pytest.approx(17600 + WORKFLOW_MB, abs=50)
    assert memory_mb("fdk", job(DEMO, "fdk", memory_gb=16.0)) < 1000


def test_time_grows_with_the_work_and_falls_with_threads():
    large = ScanSize(3000, 2048, 2048, 2, (2048, 2048, 2048))
    slow, fast = (minutes("fdk", job(large, "fdk"), threads=threads) for threads in (1, 8))
    assert slow > 4 * fast > 4 * minutes("fdk", job(DEMO, "fdk"), threads=8)
    trained = [minutes("n2i_train", job(DEMO, "n2i_train", steps=steps), threads=1) for steps in (10**4, 10**6)]
    assert trained[1] > 50 * trained[0]


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "mouse.txrm"
    distances = {"source_to_axis_mm": 30.0, "detector_to_axis_mm": 70.0}
    frames = np.zeros((50, 20, 100), np.uint16)
    write_txrm(path, projections=frames, angles_deg=np.arange(50) * 7.2, pixel_size_um=5.0, **distances)
    return path


def test_a_size_is_read_once_and_kept_until_the_file_or_the_grid_changes(scan, tmp_path, monkeypatch):
    kept, read = tmp_path / "kept.json", []
    monkeypatch.setattr(
        sizes,
        "measured_size",
        lambda source, settings, real=sizes.measured_size: read.append(1) or real(source, settings),
    )
    whole, smaller = Settings(), Settings.model_validate({"fdk": {"shape": (4, 5, 6)}})
    assert Sizes(kept).of([(scan, whole)]) == [ScanSize(50, 20, 100, 2, (20, 100, 100))]
    assert Sizes(kept).of([(scan, whole)]) == [ScanSize(50, 20, 100, 2, (20, 100, 100))]
    assert len(read) == 1
    assert Sizes(kept).of([(scan, whole), (scan, smaller)])[1] == ScanSize(50, 20, 100, 2, (4, 5, 6))
    os.utime(scan, (1, 1))
    Sizes(kept).of([(scan, whole)])
    assert len(read) == 3
    kept.write_text('{"damaged": ')
    (found,) = Sizes(kept).of([(scan, whole)])
    assert found is not None
    assert Sizes(kept).of([(tmp_path / "absent.txrm", whole)]) == [None]


def test_each_scan_of_a_plan_is_looked_at_once_and_all_are_kept_at_once(scan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.txrm").write_bytes(b"nothing")
    rows = "".join(f"{name}\t{file}\n" for name, file in (("a", scan), ("b", scan), ("c", "bad.txrm")))
    (tmp_path / "scans.tsv").write_text(f"scan\tsource\n{rows}")
    (tmp_path / "config.yaml").write_text("")
    looked, kept = [], []
    real, write = sizes.measured_size, sizes.write_durably
    monkeypatch.setattr(
        sizes, "measured_size", lambda source, settings: looked.append(source) or real(source, settings)
    )
    monkeypatch.setattr(sizes, "write_durably", lambda *what: kept.append(what) or write(*what))
    plan = load_plan("config.yaml")
    assert [plan.size(name) is None for name in "abcabc"] == [False, False, True] * 2
    assert len(kept) == 1
    assert sorted(path.name for path in looked) == ["bad.txrm", "mouse.txrm"]


class Wildcards:
    scan = "mouse"


def test_a_job_that_failed_asks_for_more(scan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans.tsv").write_text(f"scan\tsource\trole\nmouse\t{scan}\ttrain\n")
    (tmp_path / "config.yaml").write_text("")
    plan = load_plan("config.yaml")
    memory, time = plan.memory_mb("fdk"), plan.minutes("fdk")
    assert memory(Wildcards(), attempt=2) == 2 * memory(Wildcards(), attempt=1)
    assert time(Wildcards(), threads=4, attempt=3) == 3 * time(Wildcards(), threads=4, attempt=1)
    assert plan.memory_mb("n2i_train")(object()) > 500


@pytest.mark.parametrize(
    ("device", "limit", "cluster", "asked"),
    [("auto", 2, True, 1), ("auto", 0, True, 0), ("auto", None, True, 0), ("cpu", 2, True, 0), ("cuda", 0, True, 1)],
)
def test_a_gpu_is_asked_for_where_settings_and_profile_say_so(
    device, limit, cluster, asked, scan, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(GPUS, "")
    monkeypatch.delenv(GPUS)
    (tmp_path / "scans.tsv").write_text(f"scan\tsource\trole\nmouse\t{scan}\ttrain\n")
    (tmp_path / "config.yaml").write_text(f"device: {device}\n")
    plan = load_plan("config.yaml")
    plan.offer_gpus(limit, cluster=cluster)
    assert plan.gpu == asked
    # A job inherits what was decided where the run was planned.
    plan.offer_gpus(None, cluster=False)
    assert plan.gpu == asked


def test_from_the_disk_bone_is_measured_on_one_core():
    whole, large = job(SMALL, "morphometry"), job(SMALL, "morphometry", memory_gb=0.1)
    assert seconds("morphometry", whole, threads=2) < 0.6 * seconds("morphometry", whole, threads=1)
    assert seconds("morphometry", large, threads=2) == seconds("morphometry", large, threads=1)


@pytest.mark.parametrize(
    ("stage", "core_s"),
    [("ingest", 3.7), ("flatfield", 111), ("align", 23), ("fdk", 268), ("n2i_split", 361), ("segment", 359)],
)
def test_time_of_a_scan_of_a_thousand_voxels_a_side(stage, core_s):
    """Processor time of a run on 400 views, 2 cores shared with other work; flatfield from some of its rows."""
    assert seconds(stage, job(LARGE, stage), threads=1) == pytest.approx(core_s, rel=0.5)


def test_networks_take_memory_of_a_tile():
    whole, quarter = (used_mb("n2i_apply", job(LARGE, "n2i_apply", tile_px=edge)) for edge in (960, 448))
    cost = COSTS["n2i_apply"]
    beside = cost.base_mb + cost.more[1] * job(LARGE, "n2i_apply").begun_voxels / 1e6
    assert whole - beside == pytest.approx(4 * (quarter - beside))
    # Measured with tiles of 128 pixels.
    assert used_mb("n2i_apply", job(LARGE, "n2i_apply", tile_px=128)) == pytest.approx(924, rel=0.2)


def test_pictures_of_a_page_are_no_larger_than_asked_for():
    section = Settings().section("report")
    assert used_mb("report", job_of(LARGE, section, volumes=2)) == pytest.approx(512, rel=0.2)
