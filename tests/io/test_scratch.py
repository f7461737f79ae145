import os

import numpy as np
import pytest

from xrmflow.arrays import InMemory
from xrmflow.errors import SettingsError, StoreError
from xrmflow.io.scratch import OnDisk, scratch_folder, workspace
from xrmflow.morphometry.slabs import SLAB_VOXELS, Needs

SHAPE = (128, 256, 256)
NEEDS = Needs(volume_bytes=10, slab_bytes=20, halo_bytes=100)


def test_arrays_keep_what_is_written_to_them_when_memory_is_released(tmp_path):
    scratch = OnDisk(tmp_path)
    values = scratch.array((3, 4, 5), np.float32)
    assert not values.any()
    values[1] = 7
    scratch.release()
    assert values[1].tolist() == np.full((4, 5), 7.0).tolist()
    assert scratch.array((0, 4), np.int32).shape == (0, 4)


def test_there_is_nothing_to_clean_up(tmp_path):
    values = OnDisk(tmp_path).array((64, 64), np.float64)
    values[:] = 1
    assert list(tmp_path.iterdir()) == []


def test_released_memory_is_given_back(tmp_path):
    scratch = OnDisk(tmp_path)
    before = resident()
    values = scratch.array((50, 1000, 1000), np.uint8)
    values[:] = 3
    assert resident() - before > 40e6
    scratch.release()
    assert resident() - before < 10e6
    assert values.max() == 3


def resident():
    """Bytes of the process in memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_full_disk_is_one_clear_line(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StoreError, match=r"expected 8e-06 GB of room for intermediate results, got .*No space left"):
        OnDisk(tmp_path).array((1000,), np.float64)


def test_what_fits_is_held_in_memory_and_the_rest_on_the_disk(tmp_path):
    folder = tmp_path / "new"
    small = workspace(folder, SHAPE, memory_gb=1.0, needs=NEEDS)
    assert isinstance(small.scratch, InMemory)
    assert small.slab_voxels == SLAB_VOXELS
    assert not folder.exists()
    large = workspace(folder, SHAPE, memory_gb=0.0565536, needs=NEEDS)
    assert isinstance(large.scratch, OnDisk)
    assert large.slab_voxels == pytest.approx(0.05e9 / 20)
    assert folder.exists()


def test_too_little_memory_for_a_slice_is_refused(tmp_path):
    words = "memory_gb: expected at least 0.0079 for slices of 256 x 256 voxels, got 0.007"
    with pytest.raises(SettingsError, match=words):
        workspace(tmp_path, SHAPE, memory_gb=0.007, needs=NEEDS)


def test_the_disk_of_the_node_takes_intermediate_results(tmp_path, monkeypatch):
    monkeypatch.delenv("XRMFLOW_SCRATCH", raising=False)
    assert scratch_folder(tmp_path / "results") == tmp_path / "results"
    monkeypatch.setenv("NODE_DISK", str(tmp_path))
    monkeypatch.setenv("XRMFLOW_SCRATCH", "$NODE_DISK")
    assert scratch_folder(tmp_path / "results") == tmp_path
    for wrong in ("$NOT_SET_HERE", str(tmp_path / "absent")):
        monkeypatch.setenv("XRMFLOW_SCRATCH", wrong)
        with pytest.raises(SettingsError, match="XRMFLOW_SCRATCH: expected a folder"):
            scratch_folder(tmp_path)
