"""What segment and morphometry keep on the disk of a volume beyond their memory, against what is foreseen."""

import math
import mmap
import weakref

import numpy as np
import pytest

from xrmflow.config.morphometry import MorphometrySection
from xrmflow.config.segment import SegmentSection
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.io import scratch
from xrmflow.io.stores import create_volume
from xrmflow.manage.footprint import scratch_bytes
from xrmflow.stages import morphometry, segment

SHAPE = (60, 96, 80)
# A quarter of what the smaller of the two holds in memory.
MEMORY_GB = 4e-9 * math.prod(SHAPE)


class Files:
    """Counts the files that `OnDisk` maps, and the most bytes of those there were at a time."""

    MADV_DONTNEED = mmap.MADV_DONTNEED

    def __init__(self):
        self.there, self.most = weakref.WeakSet(), 0

    def mmap(self, number, size):
        mapped = mmap.mmap(number, size)
        self.there.add(mapped)
        self.most = max(self.most, sum(len(one) for one in self.there))
        return mapped


def write_bone(folder):
    """A tube with rods in it, and noise."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    radius = np.hypot(x, y)
    rods = (radius < 0.6) & (np.sin(9 * x) * np.sin(9 * y) * np.sin(9 * z) > 0.25)
    tissue = 0.05 * (rods | ((radius < 0.8) & (radius > 0.55))) + 0.01 * (radius < 0.9)
    made = {"quantity": "attenuation_per_mm", "grid": VolumeGrid(SHAPE, 0.01), "calibrated": True}
    with create_volume(folder / "volume.zarr", provenance={"stage": "fdk"}, **made) as store:
        store["data"] = (tissue + np.random.default_rng(0).normal(0, 0.003, SHAPE)).astype(np.float32)


def test_files_on_the_disk_are_those_foreseen(tmp_path, monkeypatch):
    monkeypatch.delenv("XRMFLOW_SCRATCH", raising=False)
    write_bone(tmp_path)
    volume, bone = tmp_path / "volume.zarr", tmp_path / "bone" / "volume.zarr"
    tables = {name: tmp_path / f"{name}.csv" for name in ("table", "slices", "lacunae")}
    for memory_gb in (MEMORY_GB, 4.0):
        monkeypatch.setattr(scratch, "mmap", files := Files())
        segment.run(volume=volume, bone=bone, params=SegmentSection(memory_gb=memory_gb))
        assert scratch_bytes("segment", SHAPE, memory_gb=memory_gb) == pytest.approx(files.most, rel=0.2)
        monkeypatch.setattr(scratch, "mmap", files := Files())
        morphometry.run(volume=volume, bone=bone, **tables, params=MorphometrySection(memory_gb=memory_gb))
        assert scratch_bytes("morphometry", SHAPE, memory_gb=memory_gb) == pytest.approx(files.most, rel=0.2)
        assert bool(files.most) == (memory_gb == MEMORY_GB)
