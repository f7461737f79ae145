"""NXtomo and relatives: keys, links, and the real K11 scan."""

import h5py
import numpy as np
import pytest

from xrmflow.errors import RawFileError
from xrmflow.io.read_nexus import read_nexus

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 60_000, (10, 4, 6), dtype=np.uint16)
KEYS = np.array([2, 1, 1, 0, 0, 0, 3, 0, 1, 2])
ANGLES = np.arange(10.0) * 5


def write(path, *, frames=FRAMES, keys=KEYS, angles=ANGLES, detector="detector"):
    """A plain NXtomo file."""
    with h5py.File(path, "w") as file:
        group(file, "entry", "NXentry")
        group(file, "entry/instrument", "NXinstrument")
        place = group(file, f"entry/instrument/{detector}", "NXdetector")
        group(file, "entry/sample", "NXsample")
        if frames is not None:
            place["data"] = frames
        if keys is not None:
            place["image_key"] = keys
        if angles is not None:
            file["entry/sample/rotation_angle"] = angles
            file["entry/sample/rotation_angle"].attrs["units"] = "deg"
    return path


def group(file, name, nexus_class):
    made = file.create_group(name)
    made.attrs["NX_class"] = nexus_class
    return made


def has_note(scan, severity, *words):
    return any(note.severity == severity and all(word in note.text for word in words) for note in scan.notes)


def test_keys_sort_the_frames(tmp_path):
    with read_nexus(write(tmp_path / "a")) as scan:
        np.testing.assert_array_equal(scan.projections[:], FRAMES[KEYS == 0])
        np.testing.assert_array_equal(scan.flats[:], FRAMES[KEYS == 1])
        np.testing.assert_array_equal(scan.darks[:], FRAMES[KEYS == 2])
        np.testing.assert_array_equal(scan.angles_deg, ANGLES[KEYS == 0])
        np.testing.assert_array_equal(scan.projections[1:4, 2], FRAMES[KEYS == 0][1:4, 2])
        np.testing.assert_array_equal(scan.projections[3], FRAMES[7])
        np.testing.assert_array_equal(scan.flat_views, [0, 0, 4])
        assert scan.row_order == "top_down"
        assert has_note(scan, "info", "image_key: 1 frames are marked invalid")


def test_alignment_frames_are_left_out(tmp_path):
    with h5py.File(write(tmp_path / "a"), "a") as file:
        control = np.where(np.arange(10) == 7, -1, KEYS)
        file["entry/instrument/detector/image_key_control"] = control
    with read_nexus(tmp_path / "a") as scan:
        np.testing.assert_array_equal(scan.projections[:], FRAMES[[3, 4, 5]])


def test_one_angle_a_projection_is_accepted(tmp_path):
    with read_nexus(write(tmp_path / "a", angles=np.array([1.0, 2.0, 3.0, 4.0]))) as scan:
        np.testing.assert_array_equal(scan.angles_deg, [1, 2, 3, 4])


def test_each_missing_piece_is_named(tmp_path):
    with read_nexus(write(tmp_path / "a", keys=None, angles=None)) as scan:
        missing = [note.text.split(":")[0] for note in scan.notes if note.severity == "missing"]
        assert missing == ["image_key", "angles", "flats", "darks", "energy"]
        assert scan.views == 10
    with read_nexus(write(tmp_path / "a", angles=ANGLES[:7])) as scan:
        assert has_note(scan, "warning", "has 7 for 10 frames")
        assert scan.angles_deg is None


def test_fewer_keys_than_frames(tmp_path):
    with read_nexus(write(tmp_path / "a", keys=KEYS[:6])) as scan:
        assert scan.views == 3
        assert has_note(scan, "warning", "image_key: 6 for 10 frames")


def test_units_of_sizes_and_energies(tmp_path):
    with h5py.File(write(tmp_path / "a"), "a") as file:
        file["entry/instrument/detector/x_pixel_size"] = 6.5e-6
        file["entry/instrument/beam/incident_energy"] = 20_000.0
        file["entry/instrument/beam/incident_energy"].attrs["units"] = "eV"
        group(file, "entry/instrument/source", "NXsource")["energy"] = 3.0  # of the ring, not of the photons
    with read_nexus(tmp_path / "a") as scan:
        assert scan.pixel_mm == pytest.approx(6.5e-3)
        assert scan.metadata["energy_kev"] == 20.0
        assert has_note(scan, "assumption", "x_pixel_size: no unit in the file; taken as m")


def test_data_behind_an_external_link(tmp_path):
    with h5py.File(tmp_path / "frames.h5", "w") as file:
        file["stack"] = FRAMES
    with h5py.File(write(tmp_path / "a", frames=None), "a") as file:
        file["entry/instrument/detector/data"] = h5py.ExternalLink("frames.h5", "stack")
        file["entry/monitor"] = h5py.ExternalLink("gone.h5", "current")
    with read_nexus(tmp_path / "a") as scan:
        np.testing.assert_array_equal(scan.projections[:], FRAMES[KEYS == 0])
        assert [file.name for file in scan.files] == ["a", "frames.h5"]
        assert has_note(scan, "warning", "1 lead nowhere: gone.h5 (1)")
    (tmp_path / "frames.h5").unlink()
    with pytest.raises(RawFileError, match=r"leads to /?stack in frames\.h5, which is absent"):
        read_nexus(tmp_path / "a")


def test_the_detector_that_has_frames_is_read_and_others_can_be_asked_for(tmp_path):
    with h5py.File(write(tmp_path / "a", detector="zebra"), "a") as file:
        group(file, "entry/instrument/apart", "NXdetector")["data"] = FRAMES[:4]
        group(file, "entry/instrument/lost", "NXdetector")["data"] = h5py.ExternalLink("gone.h5", "x")
    with read_nexus(tmp_path / "a") as scan:
        assert scan.views == 4  # zebra: it has keys
        assert has_note(scan, "assumption", "detectors: zebra, apart; zebra is read")
        assert has_note(scan, "info", "lost", "gone.h5")
    with read_nexus(tmp_path / "a", detector="apart") as scan:
        np.testing.assert_array_equal(scan.projections[:], FRAMES[:4])
    with pytest.raises(RawFileError, match="no detector 'absent'"):
        read_nexus(tmp_path / "a", detector="absent")


def test_no_projection_among_the_keys(tmp_path):
    with pytest.raises(RawFileError, match="marks no frame as a projection"):
        read_nexus(write(tmp_path / "a", keys=np.ones(10, int)))


@pytest.mark.real_data
def test_k11(real_data):
    with read_nexus(real_data / "httomo_k11" / "k11_diad" / "k11-18014.nxs") as scan:
        assert scan.projections.shape == (3001, 22, 26)
        assert scan.flats.shape == scan.darks.shape == (100, 22, 26)
        assert scan.projections.dtype == np.uint16
        assert (scan.angles_deg[0], scan.angles_deg[-1]) == (
            pytest.approx(89.995, abs=1e-3),
            pytest.approx(269.995, abs=1e-3),
        )
        assert scan.flats[::20].mean() > 30_000 > 1000 > scan.darks[::20].mean()
        assert scan.exposure_s == 0.02
        assert len(scan.files) == 3
        assert has_note(scan, "warning", "lead nowhere", "EtherCAT.h5", "detectorPanda.h5")
        assert [note.text.split(":")[0] for note in scan.notes if note.severity == "missing"] == ["energy"]
