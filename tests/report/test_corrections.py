"""Before and after of the corrections."""

from dataclasses import replace

import numpy as np
import pytest

from xrmflow.calibration.motion import DIRECTIONS
from xrmflow.config.report import ReportSection
from xrmflow.report import corrections
from xrmflow.report.blocks import Gallery, NotRun
from xrmflow.report.corrections import centre, detector, hardening, motion, pose
from xrmflow.report.results import open_results
from xrmflow.report.volumes import display_scale, read_shown, zooms


@pytest.mark.parametrize("averaged_px", [1, 2])
def test_the_view_says_when_it_is_reduced(full, params, averaged_px):
    results = open_results(scan="s", **{name: full.paths[name] for name in ("flatfield", "views", "geometry")})
    views = results.flatfield["views"] | {"averaged_px": averaged_px}
    changed = replace(results, flatfield=results.flatfield | {"views": views})
    gallery = next(b for b in detector(changed, params) if isinstance(b, Gallery) and b.title == "One view")
    assert gallery.note == ("" if averaged_px == 1 else "Averaged over squares of 2 × 2 detector pixels.")
    assert [p.caption.split(":")[0] for p in gallery.pictures] == ["Raw, view 45", "Corrected, view 45"]


def test_what_was_taken_away_is_the_ring_of_the_bad_column(full, params):
    views = open_results(
        scan="s", flatfield=full.paths["flatfield"], views=full.paths["views"], geometry=full.paths["geometry"]
    ).views
    removed = np.median(views["plain_sinogram"] - views["corrected_sinogram"], axis=0)
    assert np.argmax(removed) == 20
    assert removed[20] == pytest.approx(-np.log(0.93), abs=0.02)


def test_slices_of_all_volumes_lie_at_the_same_heights(full):
    volumes = open_results(
        scan="s", flatfield=full.paths["flatfield"], geometry=full.paths["geometry"], volumes=full.paths["volumes"]
    ).volumes
    shown = read_shown(volumes, 6, 560)
    heights = [[one.volume.grid.first_voxel_mm[2] + one.volume.grid.voxel_mm * k for k in one.indices] for one in shown]
    np.testing.assert_allclose(heights[1], heights[0])
    np.testing.assert_allclose(heights[2], heights[0], atol=0.0011)
    np.testing.assert_allclose(shown[0].frames[2], volumes["volume"].data[shown[0].indices[2]] * 10, rtol=1e-6)


def test_magnified_regions_cover_the_same_square(full):
    volumes = open_results(
        scan="s", flatfield=full.paths["flatfield"], geometry=full.paths["geometry"], volumes=full.paths["volumes"]
    ).volumes
    pictures = zooms(read_shown(volumes, 2, 48), (0, 5), ReportSection(zoom_px=32)).pictures
    assert [p.width for p in pictures] == [32, 32, 64, 32]
    assert len({(p.bar_fraction, p.bar_label) for p in pictures}) == 1


def test_attenuation_is_shown_per_centimetre():
    assert display_scale("attenuation_per_mm") == 10
    assert display_scale("attenuation_per_voxel") == 1


def test_a_nominal_centre_is_not_shown_as_fitted(full):
    results = open_results(scan="s", flatfield=full.paths["flatfield"], geometry=full.paths["geometry"])
    fit = {"method": "none", "trusted": True, "message": "as the settings ask", "sweep": {"centre_px": [], "score": []}}
    (block,) = centre(replace(results, geometry={"fit": fit}, sweep={"centre_px": np.zeros(0)}), ReportSection())
    assert block == NotRun("Centre of rotation", "as the settings ask")


@pytest.mark.parametrize(("evaluations", "shown"), [([1.0, 0.4, 0.2], True), ([1.0, 0.0], False)])
def test_a_fit_solved_in_one_step_is_not_drawn_as_a_descent(full, params, evaluations, shown):
    results = open_results(scan="s", flatfield=full.paths["flatfield"], geometry=full.paths["geometry"])
    document = {"coefficients": [1.0, 0.1], "applied": True, "trusted": True, "loss": {"evaluations": evaluations}}
    titles = [getattr(block, "title", "") for block in hardening(replace(results, cupping=document), params)]
    assert ("Fit" in titles) == shown


def test_pictures_show_the_correction_of_the_protocol(full, params, monkeypatch):
    """A scan's own archive holds what its own correction makes of it; in use is another."""
    drawn = {}
    monkeypatch.setattr(corrections, "picture", lambda image, *, caption, **_: drawn.update({caption: image}))
    results = open_results(scan="s", flatfield=full.paths["flatfield"], geometry=full.paths["geometry"])
    powers = np.stack([np.full((8, 8), 0.04), np.full((8, 8), 0.01)])
    arrays = {"before": powers[0], "after": powers[0] + 0.9 * powers[1], "powers": powers}
    document = {"coefficients": [1.0, 0.5], "applied": True, "trusted": True, "protocol": "femur", "scans": [{}, {}]}
    blocks = hardening(replace(results, cupping=document, cupping_slices=arrays), params)
    assert "all scans of protocol femur" in getattr(blocks[0], "text", "")
    assert drawn["After the correction"] == pytest.approx(10 * (powers[0] + 0.5 * powers[1]))


def test_the_pose_stands_in_a_table_with_its_intervals(full):
    results = open_results(scan="s", flatfield=full.paths["flatfield"], geometry=full.paths["geometry"])
    known = {"name": "roll_deg", "value": 0.1234, "interval": 0.02, "unit": "deg", "observable": True}
    unknown = {"name": "tilt_deg", "value": 0.0, "interval": None, "unit": "deg", "observable": False}
    joint = {"trusted": True, "message": "roll 0.123 +- 0.020 deg", "parameters": [known, unknown], "drift_rms_px": 1.5}
    joint["history"] = [{"binning": 2, "residual": r} for r in (1.0, 0.2)]
    words, table, steps = pose(replace(results, geometry={"joint": joint, "score": {"mismatch_px": 0.031}}))
    assert "Roll 0.123 ± 0.020 deg" in words.text
    assert "0.031 px rms" in words.text
    texts = [[cell.text for cell in row] for row in table.rows]
    assert texts[0] == ["roll", "0.1234", "0.02 °"]
    assert texts[1][2] == "not observable"
    assert texts[2][:2] == ["drift, rms", "1.5 px"]
    assert steps.title == "Steps of the fit"


def test_the_motion_of_the_object_is_drawn_with_what_was_said_of_it(full):
    results = open_results(scan="s", flatfield=full.paths["flatfield"], geometry=full.paths["geometry"])
    path = [{"name": name, "values": [0.1, -0.1], "band": [0.05, 0.05]} for name in DIRECTIONS]
    found = {"trusted": True, "message": "the object moved: images displaced by 3.10 px rms", "trajectories": path}
    words, plot = motion(replace(results, geometry={"motion": found}))
    assert (words.state, words.text) == ("pass", "The object moved: images displaced by 3.10 px rms.")
    assert "shift of the object" in str(plot.svg)
    assert motion(replace(results, geometry={})) == []


def test_a_bad_score_is_to_be_looked_at_even_without_a_fit(full):
    results = open_results(scan="s", flatfield=full.paths["flatfield"], geometry=full.paths["geometry"])
    (block,) = pose(replace(results, geometry={"score": {"mismatch_px": 0.9}}))
    assert block.state == "look"
    assert pose(replace(results, geometry={})) == []


def test_a_value_is_shown_to_the_digits_its_uncertainty_leaves():
    shown = [[cell.text for cell in corrections._measured(*one)] for one in ((0.1983, 0.0213, "°"), (-0.5687, 0.126))]
    assert shown == [["0.198°", "0.021°"], ["−0.57", "0.13"]]
    assert [cell.text for cell in corrections._measured(81.8155, None)] == ["81.82", "unknown"]


def test_coefficients_stand_in_a_table_with_their_uncertainty(full, params):
    document = {"found": [1.0, 0.5], "uncertainty": [0.1], "statistical_uncertainty": [0.05], "coefficients": [1.0]}
    results = open_results(scan="s", flatfield=full.paths["flatfield"], geometry=full.paths["geometry"])
    blocks = hardening(replace(results, cupping=document), params)
    (table,) = [block for block in blocks if block.kind == "table"]
    assert [cell.text for cell in table.rows[0]] == ["c2", "0.50", "0.10", "0.050"]


def test_a_fit_by_sharpness_has_no_residual_to_draw():
    assert corrections._steps({"history": [{"binning": 2.0, "centre_px": 24.4}] * 2}) == []
