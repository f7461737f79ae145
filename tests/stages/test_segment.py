import hashlib
from dataclasses import asdict

import numpy as np
import pytest
import tifffile
from pydantic import ValidationError

from xrmflow.config.segment import SegmentSection
from xrmflow.errors import SettingsError, StoreError
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.io.stores import create_volume, open_volume
from xrmflow.stages import segment

SHAPE = (10, 36, 36)


def write_volume(path, calibrated=True, quantity="attenuation_per_mm", **record):
    y, x = np.indices(SHAPE[1:]) - (SHAPE[1] - 1) / 2
    radius = np.hypot(y, x)
    section = np.where((radius < 14) & (radius > 8), 2.0, 0.2)
    volume = np.tile(section.astype(np.float32), (SHAPE[0], 1, 1))
    volume[4:7, 6:9, 16:19] = 0.2
    grid = VolumeGrid(SHAPE, 0.002 if calibrated else 1.0, (0.0, 0.0, 0.1))
    traced = {"stage": "fdk"}
    with create_volume(path, quantity=quantity, grid=grid, calibrated=calibrated, provenance=traced, **record) as store:
        store["data"] = volume
    return grid


def run(folder, **settings):
    segment.run(volume=folder / "volume.zarr", bone=folder / "bone" / "volume.zarr", params=SegmentSection(**settings))
    return open_volume(folder / "bone" / "volume.zarr", "label")


def test_labels_and_how_they_came_about_are_published(tmp_path):
    grid = write_volume(tmp_path / "volume.zarr")
    found = run(tmp_path)
    assert found.grid == grid
    assert found.calibrated
    assert found.data.dtype == np.uint8
    assert set(np.unique(found.data[...])) == {0, 1, 2, 3}
    record = found.record["segmentation"]
    assert record["threshold_per_cm"] == pytest.approx(11, abs=0.5)
    assert record["sigma_um"] == pytest.approx(1.6)
    assert record["components"]["lacunae"] == 1
    assert record["notes"]
    assert found.record["provenance"]["stage"] == "segment"


def test_slices_in_mm_are_counted_from_the_lowest(tmp_path):
    write_volume(tmp_path / "volume.zarr")
    found = run(tmp_path, voi_start_mm=0.004, voi_stop_mm=0.012)
    assert found.record["segmentation"]["voi_slices"] == [2, 6]
    assert (np.asarray(found.arrays["context"][0]) > 0).any()


@pytest.mark.parametrize("calibrated", [True, False])
@pytest.mark.parametrize(("factor", "slices"), [(2, [4, 8]), (5, [5, 10])])
def test_slices_are_those_of_the_fdk_volume_at_the_same_height(tmp_path, calibrated, factor, slices):
    voxel = 0.002 if calibrated else 1.0
    quantity = "attenuation_per_mm" if calibrated else "attenuation_per_voxel"
    coarse = VolumeGrid((10 // factor, 36 // factor, 36 // factor), voxel * factor, (0.0, 0.0, 0.1))
    write_volume(tmp_path / "volume.zarr", calibrated, quantity, source_grid=asdict(coarse))
    first, stop = slices[0] // factor, slices[1] // factor
    found = run(tmp_path, voi_start_slice=first, voi_stop_slice=stop)
    assert found.record["segmentation"]["voi_slices"] == slices


@pytest.mark.parametrize("name", ["mask.npy", "mask.tif", "mask.zarr"])
def test_a_mask_file_cuts_the_region(tmp_path, name):
    grid = write_volume(tmp_path / "volume.zarr")
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, :, 18:] = 1
    path = tmp_path / name
    if name.endswith("npy"):
        np.save(path, mask)
    elif name.endswith("tif"):
        tifffile.imwrite(path, mask)
    else:
        with create_volume(path, quantity="label", grid=grid, calibrated=True, provenance={}) as store:
            store["data"] = mask
    found = run(tmp_path, voi_mask=str(tmp_path.parent / "{scan}" / name))
    assert not (found.data[...][:, :, :18] > 0).any()
    assert (found.data[...][:, :, 18:] > 0).any()
    record = found.record["segmentation"]
    assert len(record["voi_mask_sha256"]) == 64
    files = [] if path.is_dir() else [{"name": name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}]
    assert record["source_files"] == files
    assert found.record["provenance"]["inputs"]["voi_mask"]["path"] == str(path)


def test_a_missing_or_unfit_mask_is_named(tmp_path):
    write_volume(tmp_path / "volume.zarr")
    with pytest.raises(SettingsError, match=r"segment.voi_mask: expected a mask in .*none.npy"):
        run(tmp_path, voi_mask=str(tmp_path / "none.npy"))
    np.save(tmp_path / "small.npy", np.ones((2, 2, 2)))
    with pytest.raises(
        SettingsError, match=r"voi mask: expected the shape of the volume \(10, 36, 36\), got \(2, 2, 2\)"
    ):
        run(tmp_path, voi_mask=str(tmp_path / "small.npy"))
    assert not (tmp_path / "bone" / "volume.zarr").exists()


def test_uncalibrated_volumes_are_segmented_in_voxels(tmp_path):
    write_volume(tmp_path / "volume.zarr", calibrated=False, quantity="attenuation_per_voxel")
    found = run(tmp_path, threshold_method="otsu")
    assert not found.calibrated
    assert "threshold_per_voxel" in found.record["segmentation"]
    with pytest.raises(SettingsError, match=r"voi_start_mm: expected null for a scan without a voxel size, got 0.1"):
        run(tmp_path, voi_start_mm=0.1)
    with pytest.raises(SettingsError, match="expected midpoint, otsu or grey for data without a voxel size"):
        run(tmp_path, threshold_method="attenuation_per_cm", threshold=5)


@pytest.mark.parametrize(
    ("settings", "got"), [({"voi_start_mm": 3.0}, "1500 to 10"), ({"voi_stop_slice": 11}, "0 to 11")]
)
def test_a_volume_of_interest_beside_the_volume_is_named_as_it_was_set(tmp_path, settings, got):
    write_volume(tmp_path / "volume.zarr")
    said = rf"segment\.voi_start_\*, .* within 0 to 10 of the volume, which is 0\.02 mm high, got {got}"
    with pytest.raises(SettingsError, match=said):
        run(tmp_path, **settings)


def test_only_attenuation_is_segmented(tmp_path):
    write_volume(tmp_path / "volume.zarr", quantity="length_um")
    with pytest.raises(
        StoreError, match="expected quantity attenuation_per_mm or attenuation_per_voxel, got length_um"
    ):
        run(tmp_path)


def test_a_threshold_above_everything_is_one_clear_line(tmp_path):
    write_volume(tmp_path / "volume.zarr")
    with pytest.raises(SettingsError, match=r"segment: threshold: expected some bone above 5 1/mm, got none") as raised:
        run(tmp_path, threshold_method="attenuation_per_cm", threshold=50)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"threshold": 5}, "threshold: expected null with threshold_method midpoint"),
        ({"threshold_method": "grey"}, "threshold: expected a number with threshold_method grey, got null"),
        ({"threshold_method": "density_mgha_per_cm3", "threshold": 5}, "expected both numbers of the calibration line"),
        ({"density_slope_mgha_per_cm2": 5}, "expected both numbers of the calibration line, got 5.0 and None"),
        ({"voi_start_slice": 1, "voi_start_mm": 1}, "voi_start_slice, voi_start_mm: expected one of the two"),
        (
            {"voi_start_slice": 5, "voi_stop_slice": 5},
            r"voi_stop_slice: expected more than voi_start_slice \(5\), got 5",
        ),
        ({"lacuna_seed_level": 0.6}, r"lacuna_seed_level: expected at most lacuna_level \(0.5\), got 0.6"),
        ({"lacuna_least_um3": 3000}, r"lacuna_least_um3: expected at most lacuna_most_um3 \(2000.0\), got 3000"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, words):
    with pytest.raises(ValidationError, match=words):
        SegmentSection(**settings)
