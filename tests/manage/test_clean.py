import multiprocessing
import os

import numpy as np
import pytest

from xrmflow.errors import StoreError
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.io.locks import lock
from xrmflow.io.stores import create_volume
from xrmflow.manage.clean import run, sweep, sweep_files


@pytest.fixture
def results(tmp_path):
    """A complete store, chunks without a manifest, what a killed writer left, and things that are not ours."""
    grid = VolumeGrid((2, 2, 2), 1.0)
    with create_volume(
        tmp_path / "a" / "volume.zarr", quantity="label", grid=grid, calibrated=True, provenance={}
    ) as store:
        store["data"] = np.zeros((2, 2, 2), np.uint8)
    for name in (
        "a/raw.zarr/data/c",
        "a/splits/0.zarr/data",
        "a/bone/volume.zarr",
        "a/.denoised.zarr.tmp-123",
        "a/splits/.1.zarr.old-9",
        "a/mine_ome.zarr",
        "mine.zarr",
        "a/other/mine.zarr",
        "a/b/c/volume.zarr",
    ):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


LEFTOVERS = [
    "a/bone/volume.zarr",
    "a/raw.zarr",
    "a/splits/0.zarr",
    "a/.denoised.zarr.tmp-123",
    "a/splits/.1.zarr.old-9",
]


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(StoreError, match="no such folder; name the folder of the results"):
        run(tmp_path / "reslts")


def test_only_leftovers_of_stages_are_removed(results):
    assert [folder.relative_to(results).as_posix() for folder in sweep(results)] == LEFTOVERS
    for name in ("a/volume.zarr", "a/mine_ome.zarr", "mine.zarr", "a/other/mine.zarr", "a/b/c/volume.zarr"):
        assert (results / name).is_dir()
    assert sweep(results) == []


def _hold(folder, ready, done):
    with lock(folder):
        ready.set()
        done.wait(20)


def test_a_store_being_written_is_left_alone(results):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(results / "a" / "denoised.zarr", ready, done))
    holder.start()
    try:
        assert ready.wait(20)
        sweep(results)
        assert (results / "a" / ".denoised.zarr.tmp-123").is_dir()
    finally:
        done.set()
        holder.join()


def test_files_that_nobody_can_be_writing_are_removed(tmp_path):
    """Documents and tables have no lock: what a killed writer left is told by its age."""
    left = [
        ".morphometry.csv.tmp-1",
        "a/.geometry.json.tmp-23",
        "a/morphometry/..v.csv.sha256.tmp-4",
        ".lineages/.0f.json.tmp-5",
    ]
    others = ["a/.mine.txt.tmp-1", "a/.geometry.json", "a/geometry.json.tmp-1", "a/b/c/.geometry.json.tmp-1"]
    for name in (*left, *others):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert sweep_files(tmp_path) == []
    for name in (*left, *others):
        os.utime(tmp_path / name, (0, 0))
    assert {str(file.relative_to(tmp_path)) for file in sweep_files(tmp_path)} == set(left)
    assert {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()} == set(others)


def test_the_command_says_what_it_did(results):
    assert run(results).endswith("5 leftovers removed")
