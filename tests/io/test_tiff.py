"""TIFF stacks: folders, patterns, pages."""

import numpy as np
import pytest
import tifffile

from xrmflow.config.ingest import IngestSection
from xrmflow.errors import RawFileError
from xrmflow.io.read_tiff import read_tiff

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 60_000, (12, 4, 6), dtype=np.uint16)


@pytest.fixture
def folder(tmp_path):
    for k, frame in enumerate(FRAMES):
        name = f"proj_{k}.tif" if k < 9 else f"flat_{k}.tif" if k < 11 else f"dark_{k}.tif"
        tifffile.imwrite(tmp_path / name, frame)
    (tmp_path / "notes.txt").write_text("not a frame")
    return tmp_path


def has_note(scan, severity, *words):
    return any(note.severity == severity and all(word in note.text for word in words) for note in scan.notes)


def test_a_folder_sorted_by_patterns(folder):
    scan = read_tiff(folder, IngestSection(flat_files="flat_*.tif", dark_files="dark_*.tif"))
    np.testing.assert_array_equal(scan.projections[:], FRAMES[:9])
    np.testing.assert_array_equal(scan.flats[:], FRAMES[9:11])
    np.testing.assert_array_equal(scan.darks[:], FRAMES[11:])
    assert len(scan.files) == 12
    assert not has_note(scan, "warning")


def test_natural_order(tmp_path):
    for k in range(12):
        tifffile.imwrite(tmp_path / f"p{k}.TIF", FRAMES[k])
    np.testing.assert_array_equal(read_tiff(tmp_path, IngestSection()).projections[:], FRAMES)


def test_references_among_the_projections_are_suspicious(folder):
    scan = read_tiff(folder, IngestSection())
    assert scan.views == 12
    assert has_note(scan, "warning", "dark_11.tif and 2 more are read as projections")
    assert has_note(scan, "missing", "flats: ingest.flat_files is not set")


def test_projection_pattern_and_path_pattern(folder):
    np.testing.assert_array_equal(
        read_tiff(folder, IngestSection(projection_files="proj_*.tif")).projections[:], FRAMES[:9]
    )
    np.testing.assert_array_equal(read_tiff(folder / "proj_*.tif", IngestSection()).projections[:], FRAMES[:9])


def test_one_file_of_many_pages(tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", FRAMES.astype(np.float32), photometric="minisblack")
    scan = read_tiff(tmp_path / "stack.tif", IngestSection())
    assert scan.projections.dtype == np.float32
    np.testing.assert_array_equal(scan.projections[3:5], FRAMES[3:5])


def test_what_cannot_be_read_is_refused_in_one_line(folder):
    with pytest.raises(RawFileError, match=r"\*\.txrm: no such file, and no TIFF files that match \*\.txrm in"):
        read_tiff(folder / "*.txrm", IngestSection())
    with pytest.raises(RawFileError, match=r"no TIFF files that match absent_\*"):
        read_tiff(folder, IngestSection(projection_files="absent_*"))
    tifffile.imwrite(folder / "flat_9.tif", FRAMES[0, :2])
    with pytest.raises(RawFileError, match=r"expected flats of \(4, 6\) pixels like the projections, got \(2, 6\)"):
        read_tiff(folder, IngestSection(projection_files="proj_*", flat_files="flat_*"))
    tifffile.imwrite(folder / "proj_5.tif", FRAMES[0, :2])
    scan = read_tiff(folder, IngestSection(projection_files="proj_*"))
    with pytest.raises(RawFileError, match=r"proj_5\.tif: expected 4 x 6 pixels like proj_0\.tif, got \(2, 6\)"):
        scan.projections[:]
    tifffile.imwrite(folder / "proj_0.tif", np.zeros((4, 6, 3), np.uint8), photometric="rgb")
    with pytest.raises(RawFileError, match="expected a grey image"):
        read_tiff(folder, IngestSection(projection_files="proj_*"))


def test_truncated_files(folder):
    whole = (folder / "proj_0.tif").read_bytes()
    for end in (5, 20, len(whole) - 30):
        (folder / "proj_0.tif").write_bytes(whole[:end])
        with pytest.raises(RawFileError, match=r"proj_0\.tif") as caught:
            read_tiff(folder, IngestSection()).projections[:]
        assert "\n" not in str(caught.value)
