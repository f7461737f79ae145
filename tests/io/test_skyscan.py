"""SkyScan .log: a log after published ones, frames written by hand."""

import numpy as np
import pytest
import tifffile

from xrmflow.config.ingest import IngestSection
from xrmflow.errors import RawFileError
from xrmflow.io.nominal import nominal_acquisition, oriented, unattenuated
from xrmflow.io.read_skyscan import skyscan_files
from xrmflow.io.sniff import open_raw, sniff
from xrmflow.manage.init import init
from xrmflow.manage.sources import files_of

ROWS, COLS, VIEWS = 4, 6, 5
FRAMES = np.random.default_rng(0).integers(1000, 50_000, (VIEWS, ROWS, COLS), dtype=np.uint16)
DEFAULTS = IngestSection()
LOG = {
    "Filename Prefix": "tibia~00",
    "Number Of Files": f"  {VIEWS}",
    "Number Of Rows": f" {ROWS}",
    "Number Of Columns": f" {COLS}",
    "Optical Axis (line)": "  1",
    "Object to Source (mm)": "24.0",
    "Camera to Source (mm)": "240.0",
    "Source Voltage (kV)": "  80",
    "Source Current (uA)": " 124",
    "Image Pixel Size (um)": "7.000817",
    "Depth (bits)": "16",
    "Reference Intensity": "58000",
    "Exposure (ms)": "57",
    "Rotation Step (deg)": "0.600",
    "Frame Averaging": "ON (4)",
    "Random Movement": "ON (30)",
    "Flat Field Correction": "ON",
    "Filter": "Al 1mm",
    "Rotation Direction": "CC",
    "Scanning Start Angle": "10.0",
    "Number of connected scans": "2",
}


@pytest.fixture
def log(tmp_path):
    """Writes the frames and the log, with other or further values; gives the log's path."""

    def write(**changed):
        for k, frame in enumerate(FRAMES):
            tifffile.imwrite(tmp_path / f"tibia~00{k:08d}.tif", frame)
        lines = [f"{name}={value}" for name, value in (LOG | changed).items() if value is not None]
        head = ["[System]", "Scanner=SkyScan1275", "[User]", "User Name=Núria", "[Acquisition]"]
        rest = ["[Reconstruction]", "Postalignment=-1.00", "[File name convention]", "Filename Prefix=tibia_rec"]
        path = tmp_path / "tibia~00.log"
        path.write_text("\r\n".join(head + lines + rest), encoding="latin-1")
        return path

    return write


def has_note(scan, severity, *words):
    return any(note.severity == severity and all(word in note.text for word in words) for note in scan.notes)


def test_what_the_log_says(log):
    path = log()
    assert sniff(path) == "skyscan"
    with open_raw(path) as scan:
        assert (scan.format, scan.already, scan.white_level) == ("skyscan", "transmission", 58_000)
        assert unattenuated(scan, DEFAULTS) == 58_000
        np.testing.assert_array_equal(scan.projections[:], FRAMES)
        assert scan.angles_deg is not None
        np.testing.assert_allclose(scan.angles_deg, -(10 + 0.6 * np.arange(VIEWS)))
        assert scan.exposure_s == pytest.approx(0.057)
        assert scan.metadata["voltage_kv"] == 80
        assert (scan.metadata["source_filter"], scan.metadata["scanner"]) == ("Al 1mm", "SkyScan1275")
        assert has_note(scan, "info", "Postalignment: -1")
        assert has_note(scan, "warning", "one of 2 connected scans")
        assert has_note(scan, "assumption", "Rotation Direction CC", "counter-clockwise")


def test_voxels_are_as_large_as_the_log_says(log):
    with open_raw(log()) as scan:
        acquisition, _ = nominal_acquisition(scan, DEFAULTS)
        assert acquisition.voxel_mm == pytest.approx(7.000817e-3)
        assert acquisition.pixel_mm == pytest.approx(70.00817e-3)
        nearer, _ = nominal_acquisition(scan, IngestSection(source_to_axis_mm=20.0))
    assert nearer.voxel_mm == pytest.approx(7.000817e-3)  # it is the size at the axis that is recorded


def test_the_optical_axis_is_a_row_of_the_stored_frames(log):
    with open_raw(log()) as scan:
        acquisition, _ = nominal_acquisition(scan, DEFAULTS)
        rows = oriented(np.arange(ROWS)[None, :, None] * np.ones((1, 1, COLS)), scan, DEFAULTS)[0, :, 0]
    assert rows[int(acquisition.midplane_px)] == 1
    with open_raw(log(**{"Optical Axis (line)": "5000"})) as scan:
        acquisition, notes = nominal_acquisition(scan, DEFAULTS)
    assert acquisition.midplane_px == (ROWS - 1) / 2
    assert any("midplane: 5000 px in the file, far outside" in note.text for note in notes)


def test_a_stage_that_turns_clockwise(log):
    with open_raw(log(**{"Rotation Direction": "CW", "Scanning Start Angle": None})) as scan:
        assert scan.angles_deg is not None
        np.testing.assert_allclose(scan.angles_deg, 0.6 * np.arange(VIEWS))


def test_a_projection_that_is_not_there_leaves_a_gap(log, tmp_path):
    path = log()
    (tmp_path / "tibia~0000000002.tif").unlink()
    with open_raw(path) as scan:
        assert scan.angles_deg is not None
        np.testing.assert_allclose(scan.angles_deg, -(10 + 0.6 * np.array([0, 1, 3, 4])))
        assert has_note(scan, "warning", "Number Of Files says 5, 4 were found")


def test_counts_with_flats_and_darks_beside_them(log, tmp_path):
    path = log(**{"Flat Field Correction": "OFF"})
    for name, frame in (("tibia~00_f", 0), ("flat_1", 1), ("tibia~00_d", 2), ("tibia~00_arc", 3)):
        tifffile.imwrite(tmp_path / f"{name}.tif", FRAMES[frame])
    with open_raw(path) as scan:
        assert (scan.already, scan.views) == ("counts", VIEWS)
        assert scan.flats is not None
        assert scan.darks is not None
        np.testing.assert_array_equal(sorted(scan.flats[:].sum(axis=(1, 2))), sorted(FRAMES[:2].sum(axis=(1, 2))))
        np.testing.assert_array_equal(scan.darks[:], FRAMES[2:3])
        files = set(scan.files)
    assert set(files_of(path, DEFAULTS)) == set(skyscan_files(path, DEFAULTS)) == files
    assert len(files) == 1 + VIEWS + 3
    with open_raw(path, IngestSection(flat_files="*_arc.tif")) as scan:
        assert scan.flats is not None
        np.testing.assert_array_equal(scan.flats[:], FRAMES[3:4])
    with open_raw(log()) as scan:  # already divided: references are not used
        assert scan.flats is None


def test_missing_values_are_noted(log):
    gone = ("Reference Intensity", "Flat Field Correction", "Optical Axis (line)", "Rotation Step (deg)")
    with open_raw(log(**dict.fromkeys(gone))) as scan:
        assert scan.angles_deg is None
        assert has_note(scan, "assumption", "frames are taken for counts")
        assert has_note(scan, "missing", "Optical Axis")
    with open_raw(log(**{"Reference Intensity": None, "Depth (bits)": "12"})) as scan:
        assert scan.white_level == 4095
        assert has_note(scan, "assumption", "the full scale 4095 is taken")


def test_renamed_frames_and_slices_of_a_reconstruction(log, tmp_path):
    path = log()
    for file in tmp_path.glob("tibia*.tif"):
        file.rename(file.with_name(file.name.replace("tibia~00", "left")))
    with pytest.raises(RawFileError, match=r"no projections \(tibia~000000.tif and so on\)"):
        open_raw(path)
    path.rename(tmp_path / "left.log")
    with open_raw(tmp_path / "left.log") as scan:
        assert scan.views == VIEWS
    (tmp_path / "left.log").rename(tmp_path / "left_rec.log")
    for k, frame in enumerate(FRAMES):
        tifffile.imwrite(tmp_path / f"left_rec{k:04d}.tif", frame)
    with pytest.raises(RawFileError, match="no projections"):
        open_raw(tmp_path / "left_rec.log")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"Number Of Rows": 9}, "Number Of Rows: expected the projections' 4 pixels, got 9"),
        ({"Image Pixel Size (um)": "seven"}, "Image Pixel Size (um): expected a number, got 'seven'"),
    ],
)
def test_faults_are_one_line(log, changed, message):
    with pytest.raises(RawFileError) as caught:
        open_raw(log(**changed))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_log_alone_is_not_taken_for_a_scan(tmp_path):
    (tmp_path / "a.log").write_text("[Acquisition]\nFilename Prefix=x\n")
    with pytest.raises(RawFileError, match="no projections"):
        open_raw(tmp_path / "a.log")
    (tmp_path / "b.log").write_text("finished\n")
    with pytest.raises(RawFileError, match="not a known raw format"):
        open_raw(tmp_path / "b.log")


def test_init_finds_the_scan_in_its_folder(log, tmp_path):
    path = log()
    said = init([tmp_path], tmp_path / "project")
    assert "1 scan(s): tibia_00" in said
    assert path.name in (tmp_path / "project" / "scans.tsv").read_text()
