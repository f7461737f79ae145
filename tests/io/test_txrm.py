"""Reading .txrm: round trips, every quirk known, damage, and the two real files."""

import os
import struct

import numpy as np
import olefile
import pytest

from xrmflow.config.ingest import IngestSection
from xrmflow.errors import RawFileError
from xrmflow.io.cfb import write_cfb
from xrmflow.io.nominal import nominal_acquisition
from xrmflow.io.read_txrm import read_txrm
from xrmflow.io.sniff import open_raw
from xrmflow.io.write_txrm import image_streams, txrm_streams, write_txrm

VIEWS, ROWS, COLS = 7, 40, 56
RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 60_000, (VIEWS, ROWS, COLS), dtype=np.uint16)
REFERENCE = RNG.uniform(40_000, 60_000, (ROWS, COLS)).astype(np.float32)
ANGLES = np.linspace(0, 90, VIEWS)
SHIFTS = RNG.uniform(-5, 5, (VIEWS, 2))
GEOMETRY = {"pixel_size_um": 20.0, "source_to_axis_mm": 30.0, "detector_to_axis_mm": 70.0}


def i4(value):
    return struct.pack("<i", value)


def f4(*values):
    return np.asarray(values, "<f4").tobytes()


def streams(frames=FRAMES, **changes):
    """The streams of a good scan, some replaced; None takes one away."""
    good = txrm_streams(projections=frames, angles_deg=np.linspace(0, 90, len(frames)), **GEOMETRY)
    changed = good | {name.replace("__", "/"): value for name, value in changes.items()}
    return {name: value for name, value in changed.items() if value is not None}


def read(tmp_path, content, **keywords):
    write_cfb(tmp_path / "scan.bin", content)
    return read_txrm(tmp_path / "scan.bin", **keywords)


def notes(scan, severity=None):
    return [note.text for note in scan.notes if severity in (None, note.severity)]


def has_note(scan, severity, *words):
    return any(all(word in text for word in words) for text in notes(scan, severity))


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_what_is_written_is_read(tmp_path, dtype):
    write_txrm(
        tmp_path / "a.txrm",
        projections=FRAMES.astype(dtype),
        angles_deg=ANGLES,
        reference=REFERENCE,
        shifts_px=SHIFTS,
        exposure_s=2.0,
        reference_exposure_s=1.0,
        voltage_kv=60.0,
        source_filter="LE2",
        **GEOMETRY,
    )
    with read_txrm(tmp_path / "a.txrm") as scan:
        assert scan.projections.dtype == dtype
        np.testing.assert_array_equal(scan.projections[:], FRAMES)
        np.testing.assert_array_equal(scan.projections[2:5, 3:7, ::2], FRAMES[2:5, 3:7, ::2])
        np.testing.assert_array_equal(scan.projections[-1], FRAMES[-1])
        np.testing.assert_array_equal(scan.flats[0], REFERENCE)
        np.testing.assert_allclose(scan.angles_deg, ANGLES, rtol=1e-6)
        np.testing.assert_allclose(scan.shifts_to_add_px, SHIFTS, rtol=1e-6)
        assert (scan.beam, scan.source_to_axis_mm, scan.source_to_detector_mm) == ("cone", 30.0, 100.0)
        assert scan.pixel_mm == pytest.approx(0.020 * 100 / 30)  # recorded at the axis, magnified to the detector
        assert (scan.exposure_s[0], scan.flat_exposure_s) == (2.0, 1.0)
        assert scan.metadata["voltage_kv"] == 60.0
        assert scan.metadata["source_filter"] == "LE2"
        assert (scan.already, scan.row_order) == ("counts", "bottom_up")
        assert notes(scan, "warning") == []


def test_more_than_a_hundred_frames_go_to_several_storages(tmp_path):
    frames = np.arange(205, dtype=np.uint16)[:, None, None] * np.ones((2, 3), np.uint16)
    with read(tmp_path, streams(frames)) as scan:
        np.testing.assert_array_equal(scan.projections[:], frames)


def test_a_damaged_frame_is_found_when_it_is_read(tmp_path):
    write_cfb(tmp_path / "a", streams(np.ones((2, 64, 64), np.uint16)))
    with read_txrm(tmp_path / "a") as scan:
        os.truncate(tmp_path / "a", 4096 * 2)
        with pytest.raises(RawFileError, match="truncated or damaged"):
            scan.projections[1]


@pytest.mark.parametrize("frames_stored", [120, 77])
@pytest.mark.parametrize("angles_stored", [120, 77])
def test_aborted_scan(tmp_path, frames_stored, angles_stored):
    frames = np.ones((frames_stored, 2, 3), np.uint16)
    changes = {"ImageInfo__NoOfImages": i4(120), "ImageInfo__ImagesTaken": i4(77)}
    with read(tmp_path, streams(frames, **changes, ImageInfo__Angles=f4(*range(angles_stored)))) as scan:
        assert scan.projections.shape == (77, 2, 3)
        np.testing.assert_array_equal(scan.angles_deg, np.arange(77))
        assert notes(scan, "warning") == ["aborted scan: 120 images declared, 77 complete ones are used"]


def test_aborted_scan_without_images_taken_and_short_shifts(tmp_path):
    content = streams(ImageInfo__ImagesTaken=None, ImageInfo__NoOfImages=i4(12), ImageInfo__Angles=f4(*range(5)))
    content |= {"Alignment/X-Shifts": f4(1, 2, 3), "Alignment/Y-Shifts": f4(1, np.nan, 3, 4, 5)}
    with read(tmp_path, content) as scan:
        assert scan.views == 5
        assert has_note(scan, "warning", "angles: 5 for 7 images")
        assert has_note(scan, "warning", "X-Shifts lacks 2 of 5")
        assert has_note(scan, "warning", "Y-Shifts lacks 1 of 5")
        np.testing.assert_array_equal(scan.shifts_to_add_px[:, 0], [1, 2, 3, 0, 0])


def test_an_image_that_is_missing_or_cut_short_loses_its_angle_too(tmp_path):
    content = streams()
    del content["ImageData1/Image3"]
    content["ImageData1/Image7"] = b"cut short"
    with read(tmp_path, content) as scan:
        np.testing.assert_array_equal(scan.projections[:], FRAMES[[0, 1, 3, 4, 5]])
        np.testing.assert_allclose(scan.angles_deg, ANGLES[[0, 1, 3, 4, 5]], rtol=1e-6)
        assert has_note(scan, "warning", "Image3")


@pytest.mark.parametrize("declared", [0, -1, 3])
def test_a_wrong_number_of_images(tmp_path, declared):
    with read(tmp_path, streams(ImageInfo__NoOfImages=i4(declared), ImageInfo__ImagesTaken=None)) as scan:
        assert scan.views == (3 if declared == 3 else VIEWS)
        assert has_note(scan, "warning", "NoOfImages says")


def test_arrays_longer_than_the_scan_and_garbage_after_nul(tmp_path):
    energies = f4(9200.0, *[0.0] * 60)
    date = b"11/09/15 18:19:21\0garbage\xb5\xff".ljust(40, b"\x17")
    content = streams(ImageInfo__Energy=energies, ImageInfo__Date=date * VIEWS, SampleInfo__SampleID=b"bone\0\xb5\x81")
    with read(tmp_path, content) as scan:
        assert scan.metadata["energy_kev"] == pytest.approx(9.2)
        assert scan.metadata["first_frame_taken"] == "2015-11-09T18:19:21"
        assert scan.metadata["sample"] == "bone"
        assert has_note(scan, "info", "Energy: 61 values for 7 views")


def test_units_are_windows_1252(tmp_path):
    content = streams(PositionInfo__AxisUnits="µm".encode("cp1252").ljust(15, b"\0"))
    with read(tmp_path, content) as scan:
        assert list(scan.metadata["motors"]) == ["Sample Theta [µm]"]


def test_names_are_case_insensitive(tmp_path):
    content = {name.lower(): value for name, value in streams().items()}
    with read(tmp_path, content) as scan:
        assert scan.views == VIEWS
        assert scan.pixel_mm is not None


def test_no_reference_no_shifts_no_darks_are_one_line_each(tmp_path):
    with read(tmp_path, streams(ImageInfo__ReferenceFile=b"D:\\ref.xrm\0junk")) as scan:
        assert scan.flats is None
        assert has_note(scan, "missing", "reference:", "D:\\ref.xrm", "ingest.reference_file")
        assert has_note(scan, "missing", "shifts:", "taken as zero")
        assert has_note(scan, "missing", "darks:")
        assert all("\n" not in text for text in notes(scan))


def test_several_references(tmp_path):
    references = np.stack([REFERENCE, REFERENCE + 1])
    write_txrm(tmp_path / "a", projections=FRAMES, angles_deg=ANGLES, reference=references, **GEOMETRY)
    with read_txrm(tmp_path / "a") as scan:
        np.testing.assert_array_equal(scan.flats[:], references)
        assert has_note(scan, "info", "2 frames in MultiReferenceData")


def test_reference_of_another_size_or_without_a_type(tmp_path):
    with read(tmp_path, streams(ReferenceData__Image=b"\0" * 99, ReferenceData__DataType=i4(5))) as scan:
        assert scan.flats is None
        assert has_note(scan, "warning", "holds 99 bytes")
    with read(tmp_path, streams(ReferenceData__Image=REFERENCE.tobytes())) as scan:
        np.testing.assert_array_equal(scan.flats[0], REFERENCE)
        assert has_note(scan, "missing", "no DataType", "float32")


def test_external_reference(tmp_path):
    write_cfb(tmp_path / "flat.xrm", streams(REFERENCE[None], ImageInfo__ExpTimes=f4(3.0)))
    with read(tmp_path, streams(), reference_file=tmp_path / "flat.xrm") as scan:
        np.testing.assert_array_equal(scan.flats[0], REFERENCE)
        assert scan.flat_exposure_s == 3.0
        assert [file.name for file in scan.files] == ["scan.bin", "flat.xrm"]
    with open_raw(tmp_path / "scan.bin", IngestSection(reference_file="flat.xrm")) as scan:
        assert scan.flats is not None
    write_cfb(tmp_path / "small.xrm", streams(REFERENCE[None, :5]))
    with pytest.raises(RawFileError, match="expected frames of 40 x 56 pixels, got 5 x 56"):
        read(tmp_path, streams(), reference_file=tmp_path / "small.xrm")
    with pytest.raises(RawFileError, match=r"ingest\.reference_file: no such file"):
        read(tmp_path, streams(), reference_file=tmp_path / "absent.xrm")


def test_frames_that_are_already_corrected(tmp_path):
    with read(tmp_path, streams(ImageInfo__OriginalDataRefCorrected=i4(1))) as scan:
        assert scan.already == "transmission"
        assert has_note(scan, "assumption", "transmission_scale")


def test_parallel_beam_has_no_distances_and_no_magnification(tmp_path):
    with read(tmp_path, streams(ImageInfo__XrayGeometry=i4(2))) as scan:
        assert (scan.beam, scan.source_to_axis_mm, scan.pixel_mm) == ("parallel", None, 0.020)
    with read(tmp_path, streams(ImageInfo__XrayGeometry=None)) as scan:
        acquisition, assumed = nominal_acquisition(scan, IngestSection())
        assert acquisition.beam == "cone"
        assert any("beam: taken as cone" in note.text for note in assumed)


def test_distances_that_change_or_are_missing(tmp_path):
    with read(tmp_path, streams(ImageInfo__StoRADistance=f4(*[-30.0] * 6, -31.0))) as scan:
        assert scan.source_to_axis_mm == 30.0
        assert has_note(scan, "warning", "StoRADistance: changes")
    with read(tmp_path, streams(ImageInfo__DtoRADistance=None)) as scan:
        assert has_note(scan, "missing", "DtoRADistance")
        with pytest.raises(RawFileError, match=r"source_to_detector_mm is not in the file; set ingest\."):
            nominal_acquisition(scan, IngestSection())
        acquisition, _ = nominal_acquisition(scan, IngestSection(source_to_detector_mm=90.0))
        assert acquisition.voxel_mm == pytest.approx(0.020)  # what is recorded at the axis stays


@pytest.mark.parametrize("distance", [-70.0, 0.0, np.nan, np.inf])
def test_impossible_distances_are_named(tmp_path, distance):
    with read(tmp_path, streams(ImageInfo__DtoRADistance=f4(*[distance] * VIEWS))) as scan:
        assert has_note(scan, "warning", "DtoRADistance: expected a")
        with pytest.raises(RawFileError, match="source_to_detector_mm"):
            nominal_acquisition(scan, IngestSection())


def test_without_angles_the_message_names_the_settings(tmp_path):
    with read(tmp_path, streams(ImageInfo__Angles=None)) as scan:
        with pytest.raises(RawFileError, match=r"no angles in the file; set ingest\.angles_first_deg"):
            nominal_acquisition(scan, IngestSection())
        settings = IngestSection(angles_first_deg=0.0, angles_last_deg=60.0)
        assert nominal_acquisition(scan, settings)[0].angles_deg == pytest.approx(range(0, 61, 10))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ImageInfo__ImageWidth": i4(0)}, "ImageWidth: expected 1 to 65536 pixels, got 0"),
        ({"ImageInfo__ImageHeight": i4(2**31 - 1)}, "ImageHeight: expected 1 to 65536"),
        ({"ImageInfo__ImageHeight": None}, "ImageHeight: expected 1 to 65536 pixels, got nothing"),
        ({"ImageInfo__ImageHeight": b""}, "ImageHeight: expected 1 to 65536 pixels, got nothing"),
        ({"ImageInfo__ImageWidth": i4(57)}, "Image1: expected 40 x 57 uint16 = 4560 bytes, got 4480"),
        ({"ImageInfo__DataType": i4(99)}, "DataType: expected one of the numbers .*, got 99"),
        ({"ImageInfo__DataType": None}, "DataType: .* got nothing"),
        ({"ImageInfo__AcquisitionMode": i4(10)}, "a reconstructed volume"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path, changes, message):
    with pytest.raises(RawFileError, match=message) as caught:
        read(tmp_path, streams(**changes))
    assert "\n" not in str(caught.value)


def test_no_images_and_no_scan(tmp_path):
    without = {name: value for name, value in streams().items() if not name.startswith("ImageData")}
    with pytest.raises(RawFileError, match="no images in the file"):
        read(tmp_path, without)
    with pytest.raises(RawFileError, match="not an X-ray microscope scan"):
        read(tmp_path, {"WordDocument": b"text"})


def test_truncated_and_flipped_files_end_in_one_line(tmp_path):
    path = tmp_path / "a.txrm"
    write_txrm(path, projections=FRAMES, angles_deg=ANGLES, reference=REFERENCE, shifts_px=SHIFTS, **GEOMETRY)
    good = path.read_bytes()
    generator = np.random.default_rng(1)
    damaged = [good[:end] for end in generator.integers(16, len(good) - 4096, 60)]
    for _ in range(120):
        one = bytearray(good)
        for at in generator.integers(8, len(good), 8):
            one[at] ^= 1 << int(generator.integers(8))
        damaged.append(bytes(one))
    refused = lines = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            with read_txrm(path) as scan:
                scan.projections[:]
                nominal_acquisition(scan, IngestSection())
        except RawFileError as error:
            refused += 1
            lines += str(error).count("\n")
    assert lines == 0
    assert refused >= 60  # every truncation; a flipped bit inside a frame cannot be seen


def test_a_chain_that_loops_is_refused(tmp_path):
    path = tmp_path / "a.txrm"
    write_cfb(path, streams(np.ones((3, 64, 64), np.uint16)))
    content = bytearray(path.read_bytes())
    fat = 4096 + 4096 * int.from_bytes(content[76:80], "little")
    content[fat : fat + 4] = i4(0)  # the first sector leads to itself
    path.write_bytes(content)
    with pytest.raises(RawFileError, match="a sector belongs to two chains"):
        read_txrm(path)


def test_writer_refuses_shapes_that_do_not_agree(tmp_path):
    with pytest.raises(ValueError, match=r"angles_deg: expected shape \(7,\)"):
        write_txrm(tmp_path / "a", projections=FRAMES, angles_deg=ANGLES[:-1], **GEOMETRY)
    with pytest.raises(ValueError, match=r"shifts_px: expected shape \(7, 2\)"):
        write_txrm(tmp_path / "a", projections=FRAMES, angles_deg=ANGLES, shifts_px=SHIFTS.T, **GEOMETRY)
    with pytest.raises(ValueError, match="reference: expected"):
        write_txrm(tmp_path / "a", projections=FRAMES, angles_deg=ANGLES, reference=REFERENCE.T, **GEOMETRY)
    with pytest.raises(ValueError, match="expected dtype uint16 or float32, got float64"):
        write_txrm(tmp_path / "a", projections=FRAMES.astype(float), angles_deg=ANGLES, **GEOMETRY)


def test_frames_are_read_in_blocks_when_written():
    class Counting:
        shape, dtype, reads = FRAMES.shape, FRAMES.dtype, 0

        def __getitem__(self, selection):
            self.reads += 1
            return FRAMES[selection]

    source = Counting()
    made = [stream.make() for stream in image_streams(source).values()]
    assert source.reads == 1
    assert made == [frame.tobytes() for frame in FRAMES]


@pytest.mark.real_data
def test_real_txrm(real_data):
    with read_txrm(real_data / "dxchange" / "txrm_test_chip_tomo.txrm") as scan:
        assert scan.projections.shape == (7, 256, 256)
        assert scan.projections.dtype == np.uint16
        np.testing.assert_allclose(
            scan.angles_deg, [-45.018, -30.014, -15.014, -0.014, 14.986, 29.986, 44.986], atol=1e-3
        )
        np.testing.assert_allclose(scan.shifts_to_add_px[0], [0.25915927, 0.24399558], rtol=1e-6)
        assert scan.beam == "parallel"
        assert scan.pixel_mm * 1000 == pytest.approx(0.155789, rel=1e-5)
        assert scan.metadata["energy_kev"] == pytest.approx(9.200017)
        assert scan.metadata["motors"]["Sample X [µm]"] == pytest.approx(1019.44, abs=1e-3)
        assert scan.flats is None
        with olefile.OleFileIO(scan.source) as ole:
            stream = ole.openstream("ImageData1/Image4").read()
        np.testing.assert_array_equal(scan.projections[3].ravel(), np.frombuffer(stream, "<u2"))
        assert [text.split(":")[0] for text in notes(scan, "missing")] == ["reference", "darks"]
        assert notes(scan, "warning") == []


@pytest.mark.real_data
def test_real_xrm(real_data):
    with read_txrm(real_data / "dxchange" / "test_chip00.xrm") as scan:
        assert scan.projections.shape == (1, 512, 512)
        assert scan.flats is not None
        assert scan.flats.shape == (1, 512, 512)
        assert scan.flats[0].mean() == pytest.approx(297.48, abs=0.01)
        assert (scan.angles_deg[0], scan.flat_exposure_s) == (pytest.approx(-0.06), 40.0)
        assert scan.metadata["energy_kev"] == pytest.approx(7.19105, rel=1e-5)
        assert [text.split(":")[0] for text in notes(scan, "missing")] == ["shifts", "darks"]
