import json
import multiprocessing
import subprocess
import sys

import numpy as np
import pytest

from xrmflow.errors import StoreError
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.io.locks import lock
from xrmflow.io.manifest import CHUNKS, MANIFEST, damaged_files, read_manifest
from xrmflow.io.stores import create_projections, create_volume, open_projections, open_volume

ACQUISITION = Acquisition("cone", (0.0, 90.0), 4, 5, 0.02, 30.0, 100.0, 2.0, 1.5, shift_u_px=(0.5, -0.5))
GRID = VolumeGrid((3, 4, 5), 0.01, (0.0, 0.1, -0.2))


def write_volume(path, value=1.0):
    with create_volume(
        path, quantity="attenuation_per_mm", grid=GRID, calibrated=True, provenance={"stage": "fdk"}
    ) as store:
        store["data"] = np.full(GRID.shape, value, np.float32)


def test_projections_come_back_as_written(tmp_path):
    frames = np.arange(40, dtype=np.uint16).reshape(2, 4, 5)
    with create_projections(
        tmp_path / "raw.zarr", quantity="counts", acquisition=ACQUISITION, provenance={"stage": "ingest"}, note="n"
    ) as store:
        store.add("data", frames.shape, frames.dtype)[:] = frames
        store["flats"] = frames[:1]
    opened = open_projections(tmp_path / "raw.zarr" / MANIFEST, "counts")
    assert opened.acquisition == ACQUISITION
    assert opened.record["note"] == "n"
    np.testing.assert_array_equal(opened.data[:], frames)
    np.testing.assert_array_equal(opened.arrays["flats"][:], frames[:1])


def test_volume_keeps_its_grid(tmp_path):
    write_volume(tmp_path / "v.zarr")
    assert open_volume(tmp_path / "v.zarr").grid == GRID


def test_a_store_of_zeros_has_all_its_chunks(tmp_path):
    write_volume(tmp_path / "v.zarr", value=0.0)
    assert any(
        line.split()[2].startswith("data/c/") for line in (tmp_path / "v.zarr" / CHUNKS).read_text().splitlines()
    )


def test_an_exception_publishes_nothing_and_keeps_the_old_store(tmp_path):
    write_volume(tmp_path / "v.zarr", 1.0)
    with (
        pytest.raises(RuntimeError),
        create_volume(tmp_path / "v.zarr", quantity="label", grid=GRID, calibrated=True, provenance={}),
    ):
        raise RuntimeError
    assert open_volume(tmp_path / "v.zarr").data[0, 0, 0] == 1.0
    assert [p.name for p in tmp_path.iterdir() if "tmp" in p.name] == []


def test_a_new_store_replaces_the_old_one(tmp_path):
    write_volume(tmp_path / "v.zarr", 1.0)
    write_volume(tmp_path / "v.zarr", 2.0)
    assert open_volume(tmp_path / "v.zarr").data[0, 0, 0] == 2.0


def test_wrong_quantity_and_kind_name_the_writer(tmp_path):
    write_volume(tmp_path / "v.zarr")
    with pytest.raises(StoreError, match=r"expected quantity label, got attenuation_per_mm \(written by stage fdk\)"):
        open_volume(tmp_path / "v.zarr", "label")
    with pytest.raises(StoreError, match="expected a projections store, got volume"):
        open_projections(tmp_path / "v.zarr")


def test_missing_incomplete_and_newer_stores_are_refused(tmp_path):
    with pytest.raises(StoreError, match="no such store"):
        open_volume(tmp_path / "absent.zarr")
    write_volume(tmp_path / "v.zarr")
    manifest = tmp_path / "v.zarr" / MANIFEST
    record = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(record | {"schema_version": 99}))
    with pytest.raises(StoreError, match="newer version"):
        open_volume(tmp_path / "v.zarr")
    manifest.write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        open_volume(tmp_path / "v.zarr")
    manifest.unlink()
    with pytest.raises(StoreError, match="incomplete store"):
        open_volume(tmp_path / "v.zarr")


def chunk_of(folder):
    return next(file for file in (folder / "data" / "c").rglob("*") if file.is_file())


def test_a_deleted_or_truncated_chunk_is_refused_on_opening(tmp_path):
    write_volume(tmp_path / "v.zarr")
    chunk = chunk_of(tmp_path / "v.zarr")
    content = chunk.read_bytes()
    chunk.write_bytes(content[:-1])
    with pytest.raises(StoreError, match="another size"):
        open_volume(tmp_path / "v.zarr")
    chunk.unlink()
    with pytest.raises(StoreError, match="is missing"):
        open_volume(tmp_path / "v.zarr")


def test_a_flipped_bit_is_seen_on_reading_and_by_verify(tmp_path):
    write_volume(tmp_path / "v.zarr")
    chunk = chunk_of(tmp_path / "v.zarr")
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    store = open_volume(tmp_path / "v.zarr")
    with pytest.raises(ValueError, match=r"(?i)crc|checksum"):
        store.data[:]
    assert damaged_files(tmp_path / "v.zarr") == [chunk.relative_to(tmp_path / "v.zarr").as_posix()]


def _hold(folder, ready, done):
    with lock(folder):
        ready.set()
        done.wait(20)


def test_two_writers_of_one_store_cannot_be(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path / "v.zarr", ready, done))
    holder.start()
    try:
        assert ready.wait(20)
        with pytest.raises(StoreError, match="another process is writing"):
            write_volume(tmp_path / "v.zarr")
    finally:
        done.set()
        holder.join()
    write_volume(tmp_path / "v.zarr")


KILLED = """
import os, sys, numpy as np
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.io.stores import create_volume
grid = VolumeGrid((3, 4, 5), 1.0)
with create_volume(sys.argv[1], quantity="label", grid=grid, calibrated=True, provenance={}) as store:
    store["data"] = np.zeros((3, 4, 5), np.uint8)
    os.kill(os.getpid(), 9)
"""


def test_a_killed_writer_leaves_no_store_and_its_successor_sweeps(tmp_path):
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "v.zarr")], check=False)
    assert not (tmp_path / "v.zarr").exists()
    assert any("tmp" in p.name for p in tmp_path.iterdir())
    write_volume(tmp_path / "v.zarr")
    assert read_manifest(tmp_path / "v.zarr")["quantity"] == "attenuation_per_mm"
    assert not any("tmp" in p.name for p in tmp_path.iterdir())


@pytest.mark.parametrize("flipped", [0x01, 0x80], ids=["another letter", "no text any more"])
def test_an_altered_list_of_chunks_is_damage(tmp_path, flipped):
    grid = VolumeGrid((2, 2, 2), 0.0125)
    with create_volume(
        tmp_path / "v.zarr", quantity="attenuation_per_mm", grid=grid, calibrated=True, provenance={}
    ) as store:
        store["data"] = np.zeros(grid.shape, np.float32)
    listing = bytearray((tmp_path / "v.zarr" / CHUNKS).read_bytes())
    listing[70] ^= flipped
    (tmp_path / "v.zarr" / CHUNKS).write_bytes(listing)
    with pytest.raises(StoreError, match=r"chunks\.txt does not match the manifest"):
        open_volume(tmp_path / "v.zarr")


def test_an_altered_manifest_is_damage(tmp_path):
    """A digit of a voxel size that has changed would otherwise be read as if nothing had happened."""
    grid = VolumeGrid((2, 2, 2), 0.0125)
    with create_volume(
        tmp_path / "v.zarr", quantity="attenuation_per_mm", grid=grid, calibrated=True, provenance={}
    ) as store:
        store["data"] = np.zeros(grid.shape, np.float32)
    manifest = tmp_path / "v.zarr" / "manifest.json"
    whole = manifest.read_text()
    assert "0.0125" in whole
    for damaged in (whole.replace("0.0125", "0.0135"), "[]", "[" * 100_000, whole.replace("schema_version", "x")):
        manifest.write_text(damaged)
        with pytest.raises(StoreError, match=r"damaged manifest\.json"):
            open_volume(tmp_path / "v.zarr")
    manifest.write_bytes(b"\xff" + whole.encode())
    with pytest.raises(StoreError, match=r"damaged manifest\.json"):
        open_volume(tmp_path / "v.zarr")
