"""Before and after of the corrections."""

from dataclasses import replace

import numpy as np

from xrmflow.config.report import ReportSection
from xrmflow.report.blocks import NotRun
from xrmflow.report.corrections import centre, plain_sinogram
from xrmflow.report.results import open_results
from xrmflow.report.volumes import display_scale, read_shown, zooms


def test_plain_sinogram_is_the_log_of_dark_and_flat_corrected_counts(full):
    raw = open_results(scan="s", raw=full.paths["raw"], geometry=full.paths["geometry"]).raw
    row = 5
    flat, dark = raw.arrays["flats"][:, row].mean(axis=0), raw.arrays["darks"][:, row].mean(axis=0)
    expected = -np.log((raw.data[:, row] - dark) / (flat - dark))
    sinogram, how = plain_sinogram(raw, row)
    np.testing.assert_allclose(sinogram, expected, rtol=1e-5, atol=1e-5)
    assert how == "dark and flat only"


def test_slices_of_all_volumes_lie_at_the_same_heights(full):
    volumes = open_results(
        scan="s", raw=full.paths["raw"], geometry=full.paths["geometry"], volumes=full.paths["volumes"]
    ).volumes
    shown = read_shown(volumes, 6, 560)
    heights = [[one.volume.grid.first_voxel_mm[2] + one.volume.grid.voxel_mm * k for k in one.indices] for one in shown]
    np.testing.assert_allclose(heights[1], heights[0])
    np.testing.assert_allclose(heights[2], heights[0], atol=0.0011)
    np.testing.assert_allclose(shown[0].frames[2], volumes["volume"].data[shown[0].indices[2]] * 10, rtol=1e-6)


def test_magnified_regions_cover_the_same_square(full):
    volumes = open_results(
        scan="s", raw=full.paths["raw"], geometry=full.paths["geometry"], volumes=full.paths["volumes"]
    ).volumes
    pictures = zooms(read_shown(volumes, 2, 48), (0, 5), ReportSection(zoom_px=32)).pictures
    assert [p.width for p in pictures] == [32, 32, 64, 32]
    assert len({(p.bar_fraction, p.bar_label) for p in pictures}) == 1


def test_attenuation_is_shown_per_centimetre():
    assert display_scale("attenuation_per_mm") == 10
    assert display_scale("attenuation_per_voxel") == 1


def test_a_nominal_centre_is_not_shown_as_fitted(full):
    results = open_results(scan="s", raw=full.paths["raw"], geometry=full.paths["geometry"])
    fit = {"method": "none", "trusted": True, "message": "as the settings ask", "sweep": {"centre_px": [], "score": []}}
    (block,) = centre(replace(results, geometry={"fit": fit}, sweep={"centre_px": np.zeros(0)}), ReportSection())
    assert block == NotRun("Centre of rotation", "as the settings ask")
