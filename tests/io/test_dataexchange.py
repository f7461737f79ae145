"""Data Exchange: round trip, what is missing, damage, and the real tooth."""

import h5py
import numpy as np
import pytest

from xrmflow.config.ingest import IngestSection
from xrmflow.errors import RawFileError
from xrmflow.io.nominal import nominal_acquisition
from xrmflow.io.read_dataexchange import read_dataexchange
from xrmflow.io.write_dataexchange import write_dataexchange

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 60_000, (5, 4, 6), dtype=np.uint16)
ANGLES = np.linspace(0, 90, 5)


def has_note(scan, severity, *words):
    return any(note.severity == severity and all(word in note.text for word in words) for note in scan.notes)


def test_what_is_written_is_read(tmp_path):
    write_dataexchange(
        tmp_path / "a",
        projections=FRAMES,
        flats=FRAMES[:2],
        darks=FRAMES[2:],
        angles_deg=ANGLES,
        pixel_size_um=50.0,
        source_to_axis_mm=20.0,
        source_to_detector_mm=100.0,
        exposure_s=0.5,
        voltage_kv=70.0,
        sample="bone",
        metadata={"seed": 3},
    )
    with read_dataexchange(tmp_path / "a") as scan:
        np.testing.assert_array_equal(scan.projections[:, ::-1], FRAMES)  # stored top down
        np.testing.assert_array_equal(scan.flats[:, ::-1], FRAMES[:2])
        np.testing.assert_array_equal(scan.darks[:, ::-1], FRAMES[2:])
        np.testing.assert_array_equal(scan.angles_deg, ANGLES)
        assert (scan.beam, scan.source_to_axis_mm, scan.source_to_detector_mm) == ("cone", 20.0, 100.0)
        assert scan.pixel_mm == pytest.approx(0.05)
        assert (scan.exposure_s, scan.row_order) == (0.5, "top_down")
        assert scan.metadata["voltage_kv"] == 70.0
        assert scan.metadata["sample"] == "bone"
    with h5py.File(tmp_path / "a") as file:
        assert file["measurement/simulation/seed"][()] == 3


def edit(path, **changes):
    """Write a good file and replace datasets; None takes one away."""
    write_dataexchange(path, projections=FRAMES, flats=FRAMES[:2], angles_deg=ANGLES)
    with h5py.File(path, "a") as file:
        for name, value in changes.items():
            if f"exchange/{name}" in file:
                del file[f"exchange/{name}"]
            if value is not None:
                file[f"exchange/{name}"] = value
    return path


def test_each_missing_piece_is_named(tmp_path):
    with read_dataexchange(edit(tmp_path / "a", theta=None, data_white=None)) as scan:
        missing = [note.text.split(":")[0] for note in scan.notes if note.severity == "missing"]
        assert missing == ["angles", "flats", "darks", "energy"]
        assert (scan.beam, scan.pixel_mm, scan.angles_deg) == (None, None, None)


def test_angles_in_radians_or_without_a_unit(tmp_path):
    with h5py.File(edit(tmp_path / "a", theta=np.radians(ANGLES)), "a") as file:
        file["exchange/theta"].attrs["units"] = "radians"
    with read_dataexchange(tmp_path / "a") as scan:
        np.testing.assert_allclose(scan.angles_deg, ANGLES)
    with read_dataexchange(edit(tmp_path / "a", theta=ANGLES)) as scan:
        assert has_note(scan, "assumption", "theta states no unit")


def test_an_aborted_scan_uses_what_has_both_frame_and_angle(tmp_path):
    with read_dataexchange(edit(tmp_path / "a", theta=np.arange(9.0))) as scan:
        assert scan.views == 5
        assert has_note(scan, "warning", "9 for 5 projections; the first 5")
    with read_dataexchange(edit(tmp_path / "a", theta=np.arange(3.0))) as scan:
        np.testing.assert_array_equal(scan.projections[:, ::-1], FRAMES[:3])


def test_flats_of_another_size_are_left_out(tmp_path):
    with read_dataexchange(edit(tmp_path / "a", data_white=np.ones((2, 4, 7)))) as scan:
        assert scan.flats is None
        assert has_note(scan, "warning", "flats: frames of (4, 7) pixels")


@pytest.mark.parametrize(
    "unit_and_size", [("um", 3.45), ("microns", 3.45), ("mm", 0.00345), ("m", 3.45e-6), ("", 3.45)]
)
def test_pixel_size_in_any_unit(tmp_path, unit_and_size):
    unit, size = unit_and_size
    with h5py.File(edit(tmp_path / "a"), "a") as file:
        file["measurement/instrument/detector/pixel_size_x"] = size
        if unit:
            file["measurement/instrument/detector/pixel_size_x"].attrs["units"] = unit
    with read_dataexchange(tmp_path / "a") as scan:
        assert scan.pixel_mm == pytest.approx(0.00345)
        assert has_note(scan, "assumption", "no unit") == (not unit)


def test_a_size_at_the_sample_is_the_voxel_whatever_the_distances(tmp_path):
    distances = {"source_to_axis_mm": 20.0, "source_to_detector_mm": 100.0}
    write_dataexchange(tmp_path / "a", projections=FRAMES, angles_deg=ANGLES, pixel_size_um=50.0, **distances)
    with h5py.File(tmp_path / "a", "a") as file:
        file["measurement/instrument/objective/resolution"] = 2.0
        file["measurement/instrument/objective/resolution"].attrs["units"] = "um"
    with read_dataexchange(tmp_path / "a") as scan:
        assert scan.metadata["pixel_size_at_axis_um"] == pytest.approx(2.0)
        assert scan.pixel_mm == pytest.approx(0.010)
        assert nominal_acquisition(scan, IngestSection())[0].voxel_mm == pytest.approx(0.002)
        moved = IngestSection(source_to_axis_mm=25.0)
        assert nominal_acquisition(scan, moved)[0].voxel_mm == pytest.approx(0.002)


def test_a_negative_distance_reaches_the_scan_as_recorded(tmp_path):
    write_dataexchange(
        tmp_path / "a", projections=FRAMES, angles_deg=ANGLES, source_to_axis_mm=-20.0, source_to_detector_mm=100.0
    )
    with read_dataexchange(tmp_path / "a") as scan:
        assert scan.source_to_axis_mm == -20.0  # the nominal geometry refuses it by name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": None}, "no /exchange/data"),
        ({"data": np.ones((3, 4))}, "expected numbers"),
        ({"data": "x"}, "expected"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, changes, message):
    with pytest.raises(RawFileError, match=message):
        read_dataexchange(edit(tmp_path / "a", **changes))


def test_other_axis_orders_are_refused(tmp_path):
    with h5py.File(edit(tmp_path / "a"), "a") as file:
        file["exchange/data"].attrs["axes"] = "y:theta:x"
    with pytest.raises(RawFileError, match="expected axes theta:y:x, got y:theta:x"):
        read_dataexchange(tmp_path / "a")


def test_truncated_files_end_in_one_line(tmp_path):
    write_dataexchange(tmp_path / "a", projections=np.zeros((20, 64, 64), np.uint16), angles_deg=np.arange(20))
    good = (tmp_path / "a").read_bytes()
    for end in (100, 2000, len(good) // 2, len(good) - 10):
        (tmp_path / "a").write_bytes(good[:end])
        with pytest.raises(RawFileError, match="truncated or damaged") as caught:
            read_dataexchange(tmp_path / "a")
        assert "\n" not in str(caught.value)


def test_virtual_data_whose_parts_are_absent_are_refused(tmp_path):
    layout = h5py.VirtualLayout((5, 4, 6), np.uint16)
    layout[:] = h5py.VirtualSource(str(tmp_path / "part.h5"), "data", (5, 4, 6))
    with h5py.File(edit(tmp_path / "a", data=None), "a") as file:
        file.create_virtual_dataset("exchange/data", layout)
    with pytest.raises(RawFileError, match=r"part\.h5 is absent"):
        read_dataexchange(tmp_path / "a")
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file["data"] = FRAMES
    with read_dataexchange(tmp_path / "a") as scan:
        np.testing.assert_array_equal(scan.projections[:], FRAMES)
        assert [file.name for file in scan.files] == ["a", "part.h5"]


def test_writer_refuses_shapes_that_do_not_agree(tmp_path):
    with pytest.raises(ValueError, match=r"angles_deg: expected shape \(5,\)"):
        write_dataexchange(tmp_path / "a", projections=FRAMES, angles_deg=ANGLES[:2])
    with pytest.raises(ValueError, match=r"flats: expected frames of \(4, 6\)"):
        write_dataexchange(tmp_path / "a", projections=FRAMES, flats=FRAMES[:, :2])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real_data
def test_tooth(real_data):
    with read_dataexchange(real_data / "tomopy_tooth" / "tooth.h5") as scan:
        assert scan.projections.shape == (181, 2, 640)
        assert scan.projections.dtype == np.float32
        assert scan.flats.shape == scan.darks.shape == (10, 2, 640)
        assert (scan.angles_deg[0], scan.angles_deg[-1]) == (0.0, pytest.approx(179.0055, abs=1e-4))
        assert (scan.flats[:].mean(), scan.darks[:].mean()) == (pytest.approx(27931, abs=50), pytest.approx(106, abs=1))
        assert scan.metadata["sample"] == "Tooth"
        assert (scan.beam, scan.pixel_mm) == (None, None)
        assert [note.text.split(":")[0] for note in scan.notes if note.severity == "missing"] == ["energy"]
