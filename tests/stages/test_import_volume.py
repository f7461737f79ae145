"""Stage import_volume: what fdk would have written, from a file of another program."""

import hashlib

import numpy as np
import pytest

from xrmflow.config.import_volume import ImportVolumeSection
from xrmflow.errors import RawFileError
from xrmflow.io.cfb import SIGNATURE
from xrmflow.io.stores import open_volume
from xrmflow.manage import load
from xrmflow.stages.import_volume import run

VOXELS = np.random.default_rng(0).integers(-2000, 12_000, (5, 6, 7)).astype(np.int16)


def test_attenuation_voxel_size_and_origin_are_those_of_the_file(tmp_path, write_isq):
    source = write_isq(tmp_path / "a.isq", VOXELS)
    run(source=source, volume=tmp_path / "a" / "volume.zarr", params=ImportVolumeSection())
    volume = open_volume(tmp_path / "a" / "volume.zarr", "attenuation_per_mm")
    np.testing.assert_allclose(volume.data[:], VOXELS / 40960, rtol=1e-6)
    assert volume.grid.voxel_mm == pytest.approx(0.060)
    record = volume.record["loaded"]
    assert (record["format"], record["slope_per_mm"]) == ("isq", pytest.approx(1 / 40960))
    assert record["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert volume.record["provenance"]["stage"] == "import_volume"


def test_the_command_writes_the_same_voxels(tmp_path, write_isq):
    source = write_isq(tmp_path / "a.isq", VOXELS)
    run(source=source, volume=tmp_path / "a.zarr", params=ImportVolumeSection())
    load.run(source, tmp_path / "b.zarr")
    one, two = (open_volume(tmp_path / f"{name}.zarr") for name in "ab")
    np.testing.assert_array_equal(one.data[:], two.data[:])
    assert one.record["loaded"] == two.record["loaded"]


def test_a_file_that_states_its_scaling_is_not_told(tmp_path, write_isq):
    """Settings of a run with volumes of both kinds."""
    source = write_isq(tmp_path / "a.isq", VOXELS)
    run(source=source, volume=tmp_path / "a.zarr", params=ImportVolumeSection(slope_per_mm=3.0, intercept_per_mm=1.0))
    np.testing.assert_allclose(open_volume(tmp_path / "a.zarr").data[:], VOXELS / 40960, rtol=1e-6)


def test_a_file_that_does_not_asks_for_the_setting(tmp_path):
    (tmp_path / "a.txm").write_bytes(SIGNATURE + bytes(600))
    with pytest.raises(RawFileError, match=r"import_volume\.slope_per_mm"):
        run(source=tmp_path / "a.txm", volume=tmp_path / "a.zarr", params=ImportVolumeSection())
    assert not (tmp_path / "a.zarr").exists()
