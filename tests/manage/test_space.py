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
from xrmflow.manage.plan import Plan
from xrmflow.manage.sizes import superres_factor
from xrmflow.manage.space import check_free_space, stores_gb

VIEWS, ROWS, COLS = 50, 20, 100
RAW, PROJECTIONS, VOLUME = (n / 1e9 for n in (2 * VIEWS * ROWS * COLS, 4 * VIEWS * ROWS * COLS, 4 * ROWS * COLS**2))
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
    """Sets the free space, 1e9 bytes."""

    def free(gigabytes):
        monkeypatch.setattr(space.shutil, "disk_usage", lambda _: Usage(gigabytes * 1e9))

    return free


def check(tmp_path, sources, settings=None, *, denoised=False, superresolved=()):
    sources = {str(k): str(source) for k, source in enumerate(sources)}
    check_free_space(
        tmp_path,
        sources,
        settings or Settings(),
        unfinished=list(sources),
        denoised=denoised,
        superresolved=superresolved,
    )


def test_a_run_that_fits_passes_and_one_that_does_not_says_what_to_do(tmp_path, scan, disk):
    disk(1.0)
    check(tmp_path, [scan])
    disk(0.0001)
    with pytest.raises(UserError, match=r"needs about 0\.0 GB at its peak, and the disk has 0\.0 GB free; free space"):
        check(tmp_path, [scan])


def test_a_file_that_cannot_be_read_is_left_to_its_own_job(tmp_path, disk):
    (tmp_path / "bad.txrm").write_bytes(b"nothing")
    disk(0.0)
    check(tmp_path, [tmp_path / "bad.txrm", tmp_path / "absent.txrm"])


@pytest.mark.parametrize(
    ("keep", "peak"),
    [
        ("final", 2 * VOLUME + RAW + PROJECTIONS + 4 * VOLUME),
        ("standard", 2 * (VOLUME + PROJECTIONS + 4 * VOLUME) + RAW),
        ("all", 2 * (VOLUME + PROJECTIONS + 4 * VOLUME + RAW)),
    ],
)
def test_what_is_not_kept_counts_for_one_scan_at_a_time(tmp_path, scan, disk, keep, peak):
    peak += 2 * VOLUME + 2 * 2 * VOLUME / 4  # denoised volumes, and masks of a byte a voxel of both
    settings = Settings.model_validate({"storage": {"keep": keep}})
    rounding = 2 * 8 * 1e-6
    disk(peak + rounding)
    check(tmp_path, [scan, scan], settings, denoised=True)
    disk(peak - rounding)
    with pytest.raises(UserError):
        check(tmp_path, [scan, scan], settings, denoised=True)


def test_what_is_on_the_disk_already_is_not_needed_again(tmp_path, scan, disk):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "volume").write_bytes(bytes(int(2e6)))
    disk(RAW + 1e-5)
    check(tmp_path, [scan])


def test_stores_follow_the_settings(scan):
    plain = stores_gb(scan, Settings(), denoised=False, factor=None)
    assert (plain["splits"], plain["denoised"], plain["superres"]) == (0, 0, 0)
    assert plain["volume"] == pytest.approx(VOLUME, abs=1e-6)
    iterated = stores_gb(scan, Settings(measure=("volume", "iterative")), denoised=False, factor=None)
    assert plain["iterative"] == 0
    assert iterated["iterative"] == pytest.approx(VOLUME, abs=1e-6)
    assert iterated["masks"] == pytest.approx(2 * VOLUME / 4, abs=1e-6)
    finer = stores_gb(scan, Settings(), denoised=True, factor=3)
    assert finer["superres"] == pytest.approx(27 * VOLUME, abs=1e-6)
    assert finer["masks"] == pytest.approx((2 + 27) * VOLUME / 4, abs=1e-6)
    coarse = Settings.model_validate({"fdk": {"voxel_size_um": 10.0}, "n2i_split": {"splits": 2}})
    coarse = stores_gb(scan, coarse, denoised=True, factor=None)
    assert coarse["volume"] == pytest.approx(VOLUME / 8, abs=1e-6)
    assert coarse["splits"] == pytest.approx(VOLUME / 4, abs=1e-6)
    region = Settings.model_validate_json('{"fdk": {"shape": [10, 100, 100]}}')
    assert stores_gb(scan, region, denoised=False, factor=None)["volume"] == pytest.approx(VOLUME / 2, abs=1e-6)


def test_the_factor_is_that_of_the_given_weights(tmp_path):
    assert superres_factor(Settings.model_validate({"sr_train": {"factor": 3}})) == 3
    header = json.dumps({"__metadata__": {"xrmflow": json.dumps({"options": {"factor": 4}})}}).encode()
    (tmp_path / "sr.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert superres_factor(Settings(trained_sr=str(tmp_path / "sr.safetensors"))) == 4
    (tmp_path / "sr.safetensors").write_bytes(b"damaged")
    assert superres_factor(Settings(trained_sr=str(tmp_path / "sr.safetensors"))) == 2


def test_the_plan_counts_super_resolution_only_where_it_is_measured(tmp_path, scan, monkeypatch):
    weights = tmp_path / "sr.safetensors"
    weights.write_bytes(b"")
    settings = Settings(results=str(tmp_path / "results"), trained_sr=str(weights))
    scans = {name: Scan(scan=name, source=str(scan), role=role) for name, role in (("a", "test"), ("b", "reference"))}
    asked = {}
    monkeypatch.setattr(space, "check_free_space", lambda *_, **named: asked.update(named))
    Plan(settings, scans)._check_free_space(tmp_path / "results")
    assert asked == {"unfinished": ["a", "b"], "denoised": False, "superresolved": ["a"]}
