"""Parts put together are the store that one process writes, file by file; what does not make one up is refused."""

import itertools

import numpy as np
import pytest

from xrmflow.errors import StoreError, UserError
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.io.manifest import damaged_files, read_manifest
from xrmflow.io.parts import Part
from xrmflow.io.stores import create_projections, create_volume, gather, gathered, open_projections, open_volume

GRID = VolumeGrid((150, 70, 80), 0.01)
VALUES = np.random.default_rng(0).random(GRID.shape, np.float32)
MADE = {"stage": "fdk", "settings": {}, "inputs": {}, "lineage": "0123456789abcdef"}


def write(path, part=None, *, grid=GRID, lineage=MADE["lineage"], **options):
    described = {"quantity": "attenuation_per_mm", "grid": grid, "calibrated": True, **options}
    with create_volume(path, provenance=MADE | {"lineage": lineage}, part=part, **described) as store:
        slices = part.slices if part else slice(None)
        store.add("data", grid.shape)[slices] = np.resize(VALUES, grid.shape)[slices]
    return path


def write_parts(folder, *cuts, **options):
    ranges = [Part(start, stop) for start, stop in itertools.pairwise(cuts)]
    return [write(folder / f"fdk_{part}.zarr", part, **options) for part in ranges]


@pytest.mark.parametrize("multiscale", [True, False], ids=["image in shards", "plain chunks"])
@pytest.mark.parametrize("cuts", [(0, 64, 128, 150), (0, 128, 150), (0, 150)], ids=str)
def test_parts_put_together_are_what_one_process_writes(tmp_path, cuts, multiscale):
    whole = write(tmp_path / "whole.zarr", multiscale=multiscale)
    parts = write_parts(tmp_path, *cuts, multiscale=multiscale)
    gather(parts[::-1], tmp_path / "volume.zarr")
    assert (tmp_path / "volume.zarr/chunks.txt").read_text() == (whole / "chunks.txt").read_text()
    assert damaged_files(tmp_path / "volume.zarr") == []
    np.testing.assert_array_equal(open_volume(tmp_path / "volume.zarr").data[...], VALUES)
    said, expected = read_manifest(tmp_path / "volume.zarr"), read_manifest(whole)
    assert {key: said[key] for key in ("kind", "quantity", "arrays", "record", "root_sha256")} == {
        key: expected[key] for key in ("kind", "quantity", "arrays", "record", "root_sha256")
    }
    assert said["provenance"] == expected["provenance"] | {"parts": len(parts), "finished": ""}


def test_chunks_are_linked_and_outlive_their_parts(tmp_path):
    parts = write_parts(tmp_path, 0, 64, 150)
    gather(parts, tmp_path / "volume.zarr")
    linked = [file for file in (tmp_path / "volume.zarr/data/c").rglob("*") if file.is_file()]
    assert linked
    assert all(file.stat().st_nlink == 2 for file in linked)
    for file in parts[0].rglob("*"):
        if file.is_file():
            file.unlink()
    assert damaged_files(tmp_path / "volume.zarr") == []


def test_a_part_is_no_volume(tmp_path):
    (part,) = write_parts(tmp_path, 64, 150)
    with pytest.raises(StoreError, match=r"expected a volume store, got part of volume \(written by stage fdk\)"):
        open_volume(part)


@pytest.mark.parametrize(
    ("cuts", "message"),
    [
        ([(64, 128, 150)], "slices 0 to 64 are missing"),
        ([(0, 64), (128, 150)], "slices 64 to 128 are missing"),
        ([(0, 64, 128)], "slices 128 to 150 are missing"),
        ([(0, 128), (64, 150)], "slices 64 to 128 are there twice"),
    ],
    ids=str,
)
def test_missing_and_doubled_slices_are_refused(tmp_path, cuts, message):
    parts = [path for some in cuts for path in write_parts(tmp_path, *some)]
    with pytest.raises(StoreError, match=f"parts that make up 150 slices, {message}"):
        gather(parts, tmp_path / "volume.zarr")
    assert not (tmp_path / "volume.zarr").exists()


@pytest.mark.parametrize(
    "other",
    [{"grid": VolumeGrid((150, 70, 81), 0.01)}, {"grid": VolumeGrid((150, 70, 80), 0.02)}, {"lineage": "f" * 16},
     {"multiscale": False}, {"quantity": "attenuation_per_voxel"}],
    ids=str,
)  # fmt: skip
def test_parts_of_another_store_are_refused(tmp_path, other):
    parts = write_parts(tmp_path, 0, 64) + write_parts(tmp_path, 64, 150, **other)
    with pytest.raises(StoreError, match=r"fdk_64-150.zarr: expected a part of the same store as .*fdk_0-64.zarr"):
        gather(parts, tmp_path / "volume.zarr")


def test_what_is_no_part_or_lost_a_chunk_is_refused(tmp_path):
    first, second = write_parts(tmp_path, 0, 64, 150)
    with pytest.raises(StoreError, match="expected a part of a store, got a volume store"):
        gather([first, write(tmp_path / "whole.zarr")], tmp_path / "volume.zarr")
    with pytest.raises(StoreError, match="expected at least one, got none"):
        gather([], tmp_path / "volume.zarr")
    max(second.rglob("c/*/*/*")).unlink()
    with pytest.raises(StoreError, match="damaged store"):
        gather([first, second], tmp_path / "volume.zarr")


def test_a_part_that_was_written_beside_its_slices_is_refused(tmp_path):
    part = Part(0, 64)
    with create_volume(
        tmp_path / "p.zarr", quantity="attenuation_per_mm", grid=GRID, calibrated=True, provenance=MADE, part=part
    ) as store:
        store.add("data", GRID.shape)[...] = VALUES
    with pytest.raises(StoreError, match=r"p\.zarr: expected the chunks of slices 0-64"):
        gather([tmp_path / "p.zarr", *write_parts(tmp_path, 64, 150)], tmp_path / "volume.zarr")


@pytest.mark.parametrize("text", ["", "0", "64-0", "a-b", "0-64-128", "-1-5"])
def test_a_part_is_named_by_its_slices(text):
    with pytest.raises(UserError, match="part: expected START-STOP"):
        Part.read(text)
    assert str(Part.read("64-150")) == "64-150"


@pytest.mark.parametrize("part", [Part(1, 64), Part(0, 63), Part(128, 151)], ids=str)
def test_parts_are_whole_layers_of_chunks(tmp_path, part):
    with pytest.raises(UserError, match=f"part: expected some of 150 slices, in multiples of 64, got {part}"):
        write(tmp_path / "p.zarr", part)


def test_projections_are_cut_along_rows(tmp_path):
    acquisition = Acquisition(
        beam="parallel",
        angles_deg=tuple(range(40)),
        rows=100,
        cols=3,
        pixel_mm=0.01,
        source_to_axis_mm=None,
        source_to_detector_mm=None,
        centre_px=1.0,
        midplane_px=49.5,
    )
    values = VALUES.ravel()[: 40 * 100 * 3].reshape(40, 100, 3)

    def written(name, part):
        described = {"quantity": "line_integral", "acquisition": acquisition, "provenance": MADE, "part": part}
        rows = part.slices if part else slice(None)
        with create_projections(tmp_path / name, **described, share={"dead": rows.start}, note="") as store:
            store.add("data", values.shape)[:, rows] = values[:, rows]
        return tmp_path / name

    parts = [written("b.zarr", Part(64, 100)), written("a.zarr", Part(0, 64))]
    with gathered(parts, tmp_path / "gathered.zarr") as (record, shares):
        record["note"] = [share["dead"] for share in shares]
    whole, made = written("whole.zarr", None), open_projections(tmp_path / "gathered.zarr")
    assert (made.path / "chunks.txt").read_text() == (whole / "chunks.txt").read_text()
    assert (made.acquisition, made.record["note"]) == (acquisition, [0, 64])
    with pytest.raises(StoreError, match=r"parts that make up 100 rows, rows 0 to 64 are missing"):
        gather(parts[:1], tmp_path / "gathered.zarr")
    with pytest.raises(UserError, match="part: expected some of 100 rows, in multiples of 64, got 0-63"):
        written("c.zarr", Part(0, 63))
