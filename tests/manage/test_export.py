import gzip
import struct

import numpy as np
import pytest
import tifffile

from xrmflow.errors import StoreError
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.io import interchange
from xrmflow.io.stores import create_volume
from xrmflow.manage import export

GRID = VolumeGrid((3, 4, 5), 0.0125, (0.1, -0.2, 0.3))
VALUES = np.random.default_rng(0).random(GRID.shape).astype(np.float32)
LABELS = (4 * VALUES).astype(np.uint8)


@pytest.fixture(autouse=True)
def thin_slabs(monkeypatch):
    """Several slabs even in a tiny volume."""
    monkeypatch.setattr(interchange, "SLICES", 2)


def store(folder, values=VALUES, *, calibrated=True):
    quantity = "label" if values.dtype == np.uint8 else "attenuation_per_mm" if calibrated else "attenuation_per_voxel"
    grid = GRID if calibrated else VolumeGrid(GRID.shape, 1.0)
    path = folder / "volume.zarr"
    with create_volume(path, quantity=quantity, grid=grid, calibrated=calibrated, provenance={}) as out:
        out["data"] = values
    return path


def read_nifti(content):
    """Header fields by their offsets in nifti1.h, and the values as (z, y, x)."""

    def take(form, at):
        return struct.unpack_from(f"<{form}", content, at)

    assert take("i", 0) == (348,)
    assert content[344:348] == b"n+1\0"
    dim, code, start = take("8h", 40), take("h", 70)[0], int(take("f", 108)[0])
    values = np.frombuffer(content[start:], {2: "u1", 16: "<f4"}[code]).reshape(dim[3:0:-1])
    affine = np.array([take("4f", 280 + 16 * row) for row in range(3)])
    codes, quaternion, offset = take("2h", 252), take("3f", 256), take("3f", 268)
    return values, take("8f", 76), affine, codes, quaternion, offset, content[123], take("3f", 108)[1:]


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
@pytest.mark.parametrize("values", [VALUES, LABELS], ids=["float", "labels"])
def test_nifti_keeps_values_size_and_place(tmp_path, name, values):
    export.run(store(tmp_path, values), tmp_path / name)
    content = (tmp_path / name).read_bytes()
    found, sizes, affine, codes, quaternion, offset, units, scaling = read_nifti(
        gzip.decompress(content) if name.endswith("gz") else content
    )
    np.testing.assert_array_equal(found, values)
    np.testing.assert_allclose(sizes[:4], [1, 0.0125, 0.0125, 0.0125], rtol=1e-6)
    np.testing.assert_allclose(affine[:, :3], 0.0125 * np.eye(3), rtol=1e-6)
    np.testing.assert_allclose(affine[:, 3], GRID.first_voxel_mm, rtol=1e-6)
    np.testing.assert_allclose(offset, GRID.first_voxel_mm, rtol=1e-6)
    assert (codes, quaternion, units, scaling) == ((1, 1), (0, 0, 0), 2, (1, 0))


def test_nifti_of_unknown_size_has_no_unit(tmp_path):
    export.run(store(tmp_path, calibrated=False), tmp_path / "v.nii")
    _, sizes, *_, units, _ = read_nifti((tmp_path / "v.nii").read_bytes())
    assert (sizes[1], units) == (1, 0)


@pytest.mark.parametrize("values", [VALUES, LABELS], ids=["float", "labels"])
def test_metaimage_keeps_values_size_and_place(tmp_path, values):
    export.run(store(tmp_path, values), tmp_path / "v.mha")
    text, _, data = (tmp_path / "v.mha").read_bytes().partition(b"ElementDataFile = LOCAL\n")
    fields = dict(line.split(" = ") for line in text.decode().splitlines())
    np.testing.assert_allclose(np.array(fields["Offset"].split(), float), GRID.first_voxel_mm)
    assert fields["ElementSpacing"] == "0.0125 0.0125 0.0125"
    assert fields["DimSize"] == "5 4 3"
    kind = {"MET_FLOAT": "<f4", "MET_UCHAR": "u1"}[fields["ElementType"]]
    np.testing.assert_array_equal(np.frombuffer(data, kind).reshape(GRID.shape), values)


@pytest.mark.parametrize("limit", [2**32, 0], ids=["one directory a slice", "one for all"])
@pytest.mark.parametrize("values", [VALUES, LABELS], ids=["float", "labels"])
def test_tiff_is_a_stack_with_voxel_size(tmp_path, monkeypatch, values, limit):
    monkeypatch.setattr(interchange, "CLASSIC_TIFF_BYTES", limit)
    export.run(store(tmp_path, values), tmp_path / "v.tif")
    with tifffile.TiffFile(tmp_path / "v.tif") as file:
        found = file.imagej_metadata
        pixels, unit = file.pages[0].tags["XResolution"].value
        np.testing.assert_array_equal(file.asarray(), values)
    assert unit / pixels == pytest.approx(12.5)
    assert (found["slices"], found["unit"], found["spacing"]) == (3, "um", 12.5)
    origin = [found[f"{axis}origin"] for axis in "xyz"]
    np.testing.assert_allclose(-0.0125 * np.array(origin), GRID.first_voxel_mm, atol=1e-6)


def test_a_folder_gets_a_file_a_slice(tmp_path):
    export.run(store(tmp_path), tmp_path / "new" / "slices")
    files = sorted((tmp_path / "new" / "slices").iterdir())
    assert [file.name for file in files] == ["slice_00000.tif", "slice_00001.tif", "slice_00002.tif"]
    np.testing.assert_array_equal([tifffile.imread(file) for file in files], VALUES)
    with tifffile.TiffFile(files[0]) as file:
        assert file.imagej_metadata["unit"] == "um"


def test_nothing_is_overwritten_and_unknown_endings_are_named(tmp_path):
    path = store(tmp_path)
    (tmp_path / "v.nii").write_text("mine")
    with pytest.raises(StoreError, match="it exists"):
        export.run(path, tmp_path / "v.nii")
    assert (tmp_path / "v.nii").read_text() == "mine"
    with pytest.raises(StoreError, match=r"got '\.jpg'"):
        export.run(path, tmp_path / "v.jpg")


@pytest.mark.parametrize("name", ["v.tif", "v.mha", "v.nii", "slices"])
def test_numbers_a_format_cannot_hold_are_refused_and_leave_nothing(tmp_path, name):
    path = store(tmp_path / "in", VALUES.astype(np.complex64))
    with pytest.raises(StoreError, match="got complex64"):
        export.run(path, tmp_path / "out" / name)
    assert list((tmp_path / "out").iterdir()) == []
