"""Which files a scan is read from: linked, in a folder, named by the settings; and what is left to ingest."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from xrmflow.config.ingest import IngestSection
from xrmflow.config.segment import SegmentSection
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.io import checksums, sniff
from xrmflow.io.documents import write_document
from xrmflow.io.stores import create_volume
from xrmflow.io.write_dataexchange import write_dataexchange
from xrmflow.manage.sources import files_of, is_as_ingested, mask_of

FRAMES = np.random.default_rng(0).integers(0, 60_000, (5, 4, 6), dtype=np.uint16)
DEFAULTS = IngestSection()


def nexus(path, data):
    """A NeXus file whose frames are reached through an external link."""
    with h5py.File(path, "w") as file:
        detector = file.create_group("entry/instrument/detector")
        file["entry"].attrs["NX_class"] = "NXentry"
        detector.parent.attrs["NX_class"] = "NXinstrument"
        detector.attrs["NX_class"] = "NXdetector"
        detector["data"] = h5py.ExternalLink(data, "frames")
        detector["image_key"] = np.zeros(5, int)
        file["entry/sample/rotation_angle"] = np.arange(5.0)
    return path


def test_frames_behind_an_external_link(tmp_path, monkeypatch):
    scan = nexus(tmp_path / "a.nxs", "frames.h5")
    assert files_of(scan, DEFAULTS) == [scan]  # ingest says what is absent
    with h5py.File(tmp_path / "frames.h5", "w") as file:
        file["frames"] = FRAMES
    assert files_of(scan, DEFAULTS) == [scan, tmp_path / "frames.h5"]
    monkeypatch.chdir(tmp_path)
    assert files_of(Path("a.nxs"), DEFAULTS) == [Path("a.nxs"), Path("frames.h5")]  # a project may move


def test_parts_of_virtual_frames(tmp_path):
    write_dataexchange(tmp_path / "a", projections=FRAMES, angles_deg=np.arange(5.0))
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file["data"] = FRAMES
    layout = h5py.VirtualLayout((5, 4, 6), np.uint16)
    layout[:] = h5py.VirtualSource(str(tmp_path / "part.h5"), "data", (5, 4, 6))
    with h5py.File(tmp_path / "a", "a") as file:
        del file["exchange/data"]
        file.create_virtual_dataset("exchange/data", layout)
    assert files_of(tmp_path / "a", DEFAULTS) == [tmp_path / "a", tmp_path / "part.h5"]


def test_the_frames_of_a_folder_and_nothing_else_in_it(tmp_path):
    (tmp_path / "white").mkdir()
    for name in ("p_2.tif", "p_10.tif", "white/w.tif"):
        tifffile.imwrite(tmp_path / name, FRAMES[0])
    (tmp_path / "log.txt").touch()
    (tmp_path / "angles.txt").touch()
    names = {"flat_files": "white/*.tif", "angles_file": "angles.txt"}
    found = files_of(tmp_path, IngestSection(**names))
    assert found == [tmp_path / name for name in ("p_2.tif", "p_10.tif", "white/w.tif", "angles.txt")]
    (tmp_path / "empty").mkdir()
    assert files_of(tmp_path / "empty", DEFAULTS) == [tmp_path / "empty"]


def test_files_named_by_the_settings_where_they_exist(tmp_path):
    scan = tmp_path / "a.txrm"
    scan.touch()
    (tmp_path / "ref.xrm").touch()
    assert files_of(scan, IngestSection(reference_file="ref.xrm", angles_file="absent.txt")) == [
        scan,
        tmp_path / "ref.xrm",
    ]


def test_what_cannot_be_read_is_left_to_ingest(tmp_path):
    assert files_of(tmp_path / "absent.txrm", DEFAULTS) == [tmp_path / "absent.txrm"]
    (tmp_path / "a").write_bytes(b"\x89HDF\r\n\x1a\n and no more")
    assert files_of(tmp_path / "a", DEFAULTS) == [tmp_path / "a"]


def test_only_hdf5_files_are_opened(tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("opened")

    monkeypatch.setattr(sniff, "open_raw", refuse)
    (tmp_path / "a.txrm").write_bytes(b"anything else")
    assert files_of(tmp_path / "a.txrm", DEFAULTS) == [tmp_path / "a.txrm"]


def test_only_a_large_file_that_is_newer_and_the_same_is_as_ingested(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where nothing is kept
    monkeypatch.setattr(checksums, "LARGE_BYTES", 1000)
    scan, document = tmp_path / "a.txrm", tmp_path / "flatfield.json"
    scan.write_bytes(b"a" * 2000)

    def ingested():
        return is_as_ingested(scan, document)

    assert not ingested()  # nothing was
    files = [{"name": "a.txrm", "sha256": checksums.sha256(scan)}]
    write_document(document, kind="flatfield", payload={"raw": {"source_files": files}}, provenance={})
    os.utime(scan, (1, 1))
    assert not ingested()  # older: Snakemake asks for nothing
    os.utime(scan, (4e9, 4e9))
    assert ingested()
    scan.write_bytes(b"b" * 2000)
    os.utime(scan, (4e9, 4e9))
    assert not ingested()
    scan.write_bytes(b"a" * 2000)
    os.utime(scan, (4e9, 4e9))
    assert ingested()
    monkeypatch.setattr(checksums, "LARGE_BYTES", 5000)
    assert not ingested()  # Snakemake compares it itself
    monkeypatch.setattr(checksums, "LARGE_BYTES", 1000)
    for damaged in ("{}", '{"kind": "flatfield", "schema_version": 1, "raw": {"source_files": [3]}}'):
        document.write_text(damaged)
        os.utime(document, (1, 1))
        assert not ingested()


@pytest.mark.parametrize("made", [{"loaded": {}}, {"segmentation": {}}], ids=str)
def test_the_manifest_of_an_imported_volume_or_of_labels_tells_the_same_of_its_files(tmp_path, monkeypatch, made):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checksums, "LARGE_BYTES", 1000)
    file = tmp_path / "mask.npy"
    file.write_bytes(b"a" * 2000)
    record = {name: {"source_files": [{"name": "mask.npy", "sha256": checksums.sha256(file)}]} for name in made}
    grid = VolumeGrid((1, 2, 2), 0.01)
    with create_volume(tmp_path / "v.zarr", quantity="label", grid=grid, calibrated=True, provenance={}, **record) as v:
        v["data"] = np.zeros(grid.shape, np.uint8)
    os.utime(file, (4e9, 4e9))
    assert is_as_ingested(file, tmp_path / "v.zarr" / "manifest.json")
    file.write_bytes(b"b" * 2000)
    os.utime(file, (4e9, 4e9))
    assert not is_as_ingested(file, tmp_path / "v.zarr" / "manifest.json")


def test_a_mask_is_noticed_by_its_file_or_by_the_manifest_of_its_store(tmp_path):
    section = SegmentSection(voi_mask=str(tmp_path / "{scan}" / "mask"))
    assert mask_of(SegmentSection(), "a") is None
    assert mask_of(section, "a") is None  # its own job says so
    (tmp_path / "a" / "mask").mkdir(parents=True)
    assert mask_of(section, "a") is None
    (tmp_path / "a" / "mask" / "manifest.json").write_text("{}")
    assert mask_of(section, "a") == tmp_path / "a" / "mask" / "manifest.json"
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mask").write_bytes(b"drawn")
    assert mask_of(section, "b") == tmp_path / "b" / "mask"
