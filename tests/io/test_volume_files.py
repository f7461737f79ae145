"""Scanco .isq and Zeiss .txm volumes, written by hand; and the command that makes a store of them."""

import struct

import numpy as np
import pytest

from xrmflow.cli import main
from xrmflow.errors import RawFileError
from xrmflow.io.cfb import SIGNATURE, write_cfb
from xrmflow.io.read_isq import read_isq, vax_double
from xrmflow.io.read_txm import read_txm
from xrmflow.io.sniff import open_raw
from xrmflow.io.stores import open_volume
from xrmflow.io.volume_files import open_volume_file

RNG = np.random.default_rng(0)
VOXELS = RNG.integers(-2000, 12_000, (5, 6, 7)).astype(np.int16)


def to_vax(value):
    """By the definition of G_floating: sign, 11 bits of exponent (bias 1024), a fraction from 1/2, words reversed."""
    fraction, exponent = np.frexp(abs(value))
    bits = (value < 0) << 63 | (int(exponent) + 1024) << 52 | int((fraction * 2 - 1) * 2**52)
    return struct.pack("<4H", *struct.unpack(">4H", struct.pack(">Q", bits)))


def write_txm(path, **changed):
    slices = VOXELS.astype(np.uint16)

    def i4(number):
        return struct.pack("<i", number)

    streams = {
        "ImageInfo/ImageWidth": i4(slices.shape[2]),
        "ImageInfo/ImageHeight": i4(slices.shape[1]),
        "ImageInfo/NoOfImages": i4(slices.shape[0]),
        "ImageInfo/DataType": i4(5),
        "ImageInfo/AcquisitionMode": i4(10),
        "ImageInfo/PixelSize": struct.pack("<f", 1.25),
    }
    streams |= {f"ImageData1/Image{k}": frame.tobytes() for k, frame in enumerate(slices, start=1)}
    streams |= {name.replace("__", "/"): data for name, data in changed.items()}
    write_cfb(path, {name: data for name, data in streams.items() if data is not None})
    return path


CALIBRATION = to_vax(365.712) + to_vax(-199.998)


@pytest.mark.parametrize("value", [1.0, -199.998, 365.712, 1e-7, 4096.5])
def test_doubles_of_a_vax(value):
    assert vax_double(to_vax(value)) == value


def test_an_isq_volume(write_isq, tmp_path):
    with read_isq(write_isq(tmp_path / "a.isq", VOXELS)) as volume:
        np.testing.assert_array_equal(volume.data[:], VOXELS)
        assert volume.voxel_mm == pytest.approx(0.060)
        assert 8192 * volume.slope == pytest.approx(0.2)  # 2.0 per cm, in Scanco's own example
        assert volume.metadata == {"mu_scaling": 4096, "sample": "tibia", "voltage_kv": 68.0, "current_ua": 1470.0}
        assert any("density calibration: none" in note.text for note in volume.notes)


def test_the_density_calibration_is_kept(write_isq, tmp_path):
    with read_isq(write_isq(tmp_path / "a.isq", VOXELS, calibration=CALIBRATION)) as volume:
        np.testing.assert_array_equal(volume.data[:], VOXELS)
        found = {name: volume.metadata[f"density_{name}"] for name in ("slope", "intercept", "unit")}
    assert found == {"slope": 365.712, "intercept": -199.998, "unit": "mg HA/ccm"}


def test_the_voxel_is_a_side_over_its_voxels(write_isq, tmp_path):
    """The file that itk-ioscanco tests with: 25 voxels of 1517 um, a slice thickness of 60 um."""
    path = write_isq(tmp_path / "a.isq", np.zeros((25, 25, 25), np.int16), sides=(1517, 1517, 1517))
    with read_isq(path) as volume:
        assert volume.voxel_mm == pytest.approx(0.06068)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"scaling": 0}, "mu_scaling: expected a positive number, got 0"),
        ({"sides": (420, 360, 900)}, "expected cubic voxels, got 60 x 60 x 180 um"),
        ({"sides": (0, 0, 0)}, "expected cubic voxels"),
    ],
)
def test_isq_headers_that_cannot_be(write_isq, tmp_path, changed, message):
    with pytest.raises(RawFileError) as caught:
        read_isq(write_isq(tmp_path / "a.isq", VOXELS, **changed))
    assert message in str(caught.value)


@pytest.mark.parametrize("calibration", [b"", CALIBRATION])
def test_every_truncation_of_an_isq_is_refused(write_isq, tmp_path, calibration):
    path = write_isq(tmp_path / "a.isq", VOXELS, calibration=calibration)
    whole = path.read_bytes()
    for end in (0, 10, 16, 200, 511, 512, 700, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(RawFileError) as caught:
            read_isq(path)
        assert "\n" not in str(caught.value)


def test_headers_with_flipped_bytes_are_read_or_refused(write_isq, tmp_path):
    path = write_isq(tmp_path / "a.isq", VOXELS, calibration=CALIBRATION)
    whole = path.read_bytes()
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        for at in RNG.integers(16, 2560, 6):
            data[at] = RNG.integers(0, 256)
        for at in RNG.choice([44, 56, 88, 508, 1024 + 24], 1):
            data[at : at + 4] = RNG.bytes(4)
        path.write_bytes(bytes(data))
        try:
            with read_isq(path) as volume:
                assert np.isfinite(volume.data[-1] * volume.slope).all()
        except RawFileError:
            refused += 1
    assert 100 < refused < 300


def test_a_txm_volume(tmp_path):
    with read_txm(write_txm(tmp_path / "a.txm"), slope=1e-5, intercept=-0.1) as volume:
        np.testing.assert_array_equal(volume.data[:], VOXELS.astype(np.uint16))
        assert volume.voxel_mm == pytest.approx(1.25e-3)
        assert (volume.slope, volume.intercept) == (1e-5, -0.1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ImageInfo__AcquisitionMode": struct.pack("<i", 0)}, "expected 10 (a volume), got 0"),
        ({"ImageInfo__NoOfImages": struct.pack("<i", 9)}, "expected 9 slices of 84 bytes, got 5"),
        ({"ImageData1__Image3": None}, "expected 5 slices of 84 bytes, got 4"),
        ({"ImageInfo__PixelSize": None}, "PixelSize: expected the voxel size in micrometres"),
    ],
)
def test_txm_files_that_are_no_volume(tmp_path, changed, message):
    with pytest.raises(RawFileError) as caught:
        read_txm(write_txm(tmp_path / "a.txm", **changed), slope=1.0)
    assert message in str(caught.value)


def test_ingest_says_what_to_do_with_a_volume(write_isq, tmp_path):
    for path in (write_isq(tmp_path / "a.isq", VOXELS), write_txm(tmp_path / "a.txm")):
        with pytest.raises(RawFileError, match="xrmflow load"):
            open_raw(path)


def test_scaling_is_asked_for_where_the_file_has_none(write_isq, tmp_path):
    isq, txm, text = write_isq(tmp_path / "a", VOXELS), write_txm(tmp_path / "b"), tmp_path / "c"
    text.write_text("hello")
    with pytest.raises(RawFileError, match="--slope: expected the attenuation per mm"):
        open_volume_file(txm)
    with pytest.raises(RawFileError, match=r"an \.isq file has its own scaling"):
        open_volume_file(isq, slope=1.0)
    with pytest.raises(RawFileError, match=r"expected a Scanco \.isq or a Zeiss \.txm"):
        open_volume_file(text)


def test_a_bone_in_an_isq_is_segmented_and_measured(write_isq, tmp_path, capsys):
    """The command line all the way: a tube of bone of known volume fraction."""
    _, y, x = np.mgrid[:24, :40, :40]
    radius = np.hypot(y - 19.5, x - 19.5)
    bone = (radius < 15) & (radius > 9)
    voxels = np.where(bone, 8192, 400).astype(np.int16)  # 2 per cm
    isq, store, labels = (
        write_isq(tmp_path / "b.isq", voxels),
        tmp_path / "s" / "volume.zarr",
        tmp_path / "s/bone",
    )
    assert main(["load", str(isq), str(store)]) == 0
    assert "40 x 40 x 24 voxels (x, y, z) of 60 um" in capsys.readouterr().out
    volume = open_volume(store, "attenuation_per_mm")
    np.testing.assert_allclose(volume.data[:], voxels / 40960, rtol=1e-6)
    assert volume.record["loaded"]["format"] == "isq"
    assert main(["segment", "--volume", str(store), "--bone", str(labels / "volume.zarr"), "--params", "{}"]) == 0
    tables = {name: str(tmp_path / f"{name}.csv") for name in ("table", "slices", "lacunae")}
    options = [part for name, path in tables.items() for part in (f"--{name}", path)]
    bone_store = str(labels / "volume.zarr")
    assert main(["morphometry", "--volume", str(store), "--bone", bone_store, *options, "--params", "{}"]) == 0
    rows = (line.split(",") for line in (tmp_path / "table.csv").read_text().splitlines())
    by_symbol = {row[3]: row for row in rows}
    assert float(by_symbol["BV"][5]) == pytest.approx(bone.sum() * 0.06**3, rel=0.05)
    assert main(["load", str(isq), str(store)]) == 1
    assert "expected a name that is free" in capsys.readouterr().err


def test_a_raw_scan_is_no_volume(tmp_path):
    (tmp_path / "a.txrm").write_bytes(SIGNATURE + bytes(600))
    with pytest.raises(RawFileError, match=r"a\.txrm: a raw scan, not a reconstructed volume; see `xrmflow init`"):
        open_volume_file(tmp_path / "a.txrm")
