"""Slices as pictures: values, orientation, size, bars, outlines."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from xrmflow.report.images import busiest, data_uri, grey, outline, overlay, picture, scale_bar, shrink, window


def decode(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))))


def test_window_is_percentiles_of_what_is_finite():
    sample = np.r_[np.arange(101.0), np.nan, np.inf]
    assert window(sample, 5, 95) == (5.0, 95.0)


@pytest.mark.parametrize("sample", [np.zeros(4), np.full(3, -2.0), np.array([np.nan])])
def test_window_of_constant_values_is_not_empty(sample):
    low, high = window(sample, 1, 99)
    assert low < high


def test_grey_maps_the_window_onto_all_greys_and_nan_to_black():
    np.testing.assert_array_equal(grey(np.array([-1.0, 0, 1, 2, 5, np.nan]), 0, 2), [0, 0, 128, 255, 255, 0])


def test_row_zero_of_a_slice_is_at_the_bottom_and_of_a_sinogram_at_the_top():
    image = np.zeros((4, 6))
    image[0, 1] = 1
    common = {"grey_window": (0, 1), "alt": "a", "caption": "c"}
    assert decode(picture(image, **common).uri)[3, 1] == 255
    assert decode(picture(image, **common, rows_upwards=False).uri)[0, 1] == 255


def test_shrink_keeps_the_mean_and_the_shape_below_the_limit():
    image = np.random.default_rng(0).random((96, 64))
    np.testing.assert_allclose(shrink(image, 48), image.reshape(48, 2, 32, 2).mean((1, 3)), rtol=1e-5)
    assert shrink(image, 37).shape == (37, 25)
    assert shrink(image, 37).mean() == pytest.approx(image.mean(), rel=2e-3)
    assert shrink(image, 96) is image


def test_shrink_keeps_thin_images():
    assert shrink(np.ones((2, 900)), 300).shape == (1, 300)


@pytest.mark.parametrize("width_um", [3.0, 100.0, 777.0, 2e4])
def test_scale_bar_is_round_and_true_to_its_label(width_um):
    fraction, label = scale_bar(width_um)
    value, unit = label.split()
    assert fraction * width_um == pytest.approx(float(value) * {"µm": 1, "mm": 1000}[unit])
    assert 0.09 < fraction <= 0.25
    assert value.strip("0.")[0] in "125"


def test_picture_without_a_voxel_size_counts_voxels():
    shown = picture(np.eye(40), grey_window=(0, 1), alt="", caption="", axes="x →")
    assert shown.bar_label == "10 voxels (uncalibrated)"
    assert shown.bar_fraction == 0.25


def test_small_pictures_keep_every_value():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    np.testing.assert_array_equal(decode(data_uri(pixels)), pixels)


def test_outline_lies_inside_the_mask_and_not_on_the_edge_of_the_picture():
    mask = np.zeros((9, 9), bool)
    mask[0:6, 2:7] = True
    rim = outline(mask)
    assert not rim[~mask].any()
    assert not rim[0, 3:6].any()
    assert rim[5, 3:6].all()
    assert not rim[1:5, 3:6].any()


def test_overlay_marks_lacunae_blue_and_darkens_outside_the_voi():
    labels = np.full((20, 20), 2)
    labels[8:12, 8:12] = 3
    labels[:, :3] = 0
    shown = decode(overlay(np.ones((20, 20)), labels, grey_window=(0, 1), alt="", caption="").uri).astype(int)
    factor = shown.shape[0] // 20
    rim = shown[20 * factor - 1 - 8 * factor, 10 * factor]
    assert rim[2] > rim[0] + 80
    assert shown[5 * factor, factor].max() < 150
    assert shown[5 * factor, 15 * factor].min() > 230


def test_busiest_region_holds_the_structure():
    image = np.zeros((128, 128))
    image[70:90:4, 80:100] = 1
    rows, cols = busiest(image, 32)
    assert rows.stop - rows.start == cols.stop - cols.start == 32
    assert image[rows, cols].sum() > 0.6 * image.sum()
