"""The free-disk check: what fits, what does not and what it says, and what the settings change."""

import json
from collections import namedtuple

import numpy as np
import pytest

from xrmflow.config.scans import Scan
from xrmflow.config.settings import Settings
from xrmflow.errors import UserError
from xrmflow.io.write_txrm import write_txrm
from xrmflow.manage import space
from xrmflow.manage.disk import kept_and_passing, scan_footprints
from xrmflow.manage.plan import Plan
from xrmflow.manage.sizes import Sizes, superres_factor
from xrmflow.manage.space import check_free_space
from xrmflow.morphometry.needs import MEASUREMENT

VIEWS, ROWS, COLS = 50, 20, 100
Usage = namedtuple("Usage", "free")


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "a.txrm"
    frames = np.zeros((VIEWS, ROWS, COLS), np.uint16)
    distances = {"source_to_axis_mm": 30.0, "detector_to_axis_mm": 70.0}
    write_txrm(path, projections=frames, angles_deg=np.arange(VIEWS) * 7.2, pixel_size_um=5.0, **distances)
    return path


@pytest.fixture
def disk(monkeypatch):
    """Sets the free space, bytes."""

    def free(size):
        monkeypatch.setattr(space.shutil, "disk_usage", lambda _: Usage(size))

    return free


def plan_of(tmp_path, sources, settings=None, role="train"):
    scans = {str(k): Scan(scan=str(k), source=str(source), role=role) for k, source in enumerate(sources)}
    settings = settings or Settings()
    return Plan(settings, scans, sizes=Sizes(tmp_path / "sizes.json"))


def check(plan, results, cores: int | None = 1):
    check_free_space(plan, results, unfinished=list(plan.scans), cores=cores)


def test_a_run_that_fits_passes_and_one_that_does_not_says_what_to_do(tmp_path, scan, disk):
    plan = plan_of(tmp_path, [scan])
    disk(1e9)
    check(plan, tmp_path / "results")
    disk(1e5)
    with pytest.raises(UserError, match=r"needs about [\d.]+ MB at its peak, and the disk has 0\.1 MB free; "):
        check(plan, tmp_path / "results")


def test_a_file_that_cannot_be_read_is_left_to_its_own_job(tmp_path, disk):
    (tmp_path / "bad.txrm").write_bytes(b"nothing")
    disk(0.0)
    check(plan_of(tmp_path, [tmp_path / "bad.txrm", tmp_path / "absent.txrm"]), tmp_path)


@pytest.mark.parametrize(
    ("keep", "passes"), [("final", ("raw", "projections", "splits")), ("standard", ("raw",)), ("all", ())]
)
@pytest.mark.parametrize("cores", [1, 2, 5, None])
def test_what_is_not_kept_counts_for_the_scans_worked_on_together(tmp_path, scan, disk, keep, passes, cores):
    plan = plan_of(tmp_path, [scan, scan], Settings.model_validate({"storage": {"keep": keep}}))
    stores = {name: footprint.bytes for name, footprint in scan_footprints(plan, "0").items()}
    passing = sum(stores[name] for name in passes)
    peak = 2 * (sum(stores.values()) - passing) + min(cores or 2, 2) * passing
    disk(peak + 1)
    check(plan, tmp_path / "results", cores)
    disk(peak - 1)
    with pytest.raises(UserError):
        check(plan, tmp_path / "results", cores)


def test_scratch_of_the_jobs_at_a_time_counts_where_it_lies_beside_the_results(tmp_path, scan, disk, monkeypatch):
    monkeypatch.delenv("XRMFLOW_SCRATCH", raising=False)
    settings = {"measure": ("volume",), "storage": {"keep": "all"}, "morphometry": {"memory_gb": 0.001}}
    plan = plan_of(tmp_path, [scan, scan], Settings.model_validate(settings), role="test")
    stores = sum(kept_and_passing(plan, scan_footprints(plan, name))[0].bytes for name in ("0", "1"))
    size = plan.size("0")
    assert size is not None
    for cores, jobs in ((2, 1), (4, 2), (None, 2)):
        needed = stores + jobs * MEASUREMENT.disk_bytes * size.voxels
        disk(needed + 1)
        check(plan, tmp_path / "results", cores)
        disk(needed - 1)
        with pytest.raises(UserError):
            check(plan, tmp_path / "results", cores)
    monkeypatch.setenv("XRMFLOW_SCRATCH", "$NODE_DISK")
    disk(stores + 1)
    check(plan, tmp_path / "results")


def test_what_is_on_the_disk_already_is_not_needed_again(tmp_path, scan, disk):
    plan = plan_of(tmp_path, [scan])
    kept, passing = kept_and_passing(plan, scan_footprints(plan, "0"))
    disk(passing.bytes + 1e5)
    with pytest.raises(UserError):
        check(plan, tmp_path)
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "volume").write_bytes(bytes(int(kept.bytes)))
    check(plan, tmp_path)


def test_the_factor_is_that_of_the_given_weights(tmp_path):
    assert superres_factor(Settings.model_validate({"sr_train": {"factor": 3}})) == 3
    header = json.dumps({"__metadata__": {"xrmflow": json.dumps({"options": {"factor": 4}})}}).encode()
    (tmp_path / "sr.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert superres_factor(Settings(trained_sr=str(tmp_path / "sr.safetensors"))) == 4
    (tmp_path / "sr.safetensors").write_bytes(b"damaged")
    assert superres_factor(Settings(trained_sr=str(tmp_path / "sr.safetensors"))) == 2
