from dataclasses import replace

import numpy as np
import pytest
import torch

from xrmflow.geometry.scan import scan_geometry
from xrmflow.metrics.labels import BONE
from xrmflow.phantom import scan as module
from xrmflow.phantom.scan import object_margin, simulate_scan, true_acquisition
from xrmflow.phantom.truth import coarse_attenuation
from xrmflow.reconstruction.fdk import fdk
from xrmflow.reconstruction.grids import natural_grid

INNER = slice(5, -5)


def reconstructed(scan, acquisition) -> np.ndarray:
    geometry = scan_geometry(acquisition)
    return fdk(torch.from_numpy(scan.line_integrals), geometry, natural_grid(acquisition)).numpy()[INNER]


def error(bone, scan, acquisition) -> float:
    energy, rows = scan.effective_energy_kev, scan.recipe.rows
    truth = coarse_attenuation(bone, energy, factor=2, slices=slice(0, rows))[INNER]
    return float(np.sqrt(np.mean((reconstructed(scan, acquisition) - truth) ** 2)))


def test_true_geometry_reconstructs_the_object(bone, scan):
    """Shifts, centre and roll have the signs that the geometry states: leaving out any of them makes it worse."""
    true = scan.acquisition
    best = error(bone, scan, true)
    wrong = {
        "no shifts": replace(true, shift_u_px=(), shift_v_px=()),
        "columns shifted the other way": replace(true, shift_u_px=tuple(-s for s in true.shift_u_px)),
        "rows shifted the other way": replace(true, shift_v_px=tuple(-s for s in true.shift_v_px)),
        "file's centre": replace(true, centre_px=scan.nominal.centre_px),
        "rolled the other way": replace(true, roll_deg=-true.roll_deg),
    }
    for name, acquisition in wrong.items():
        assert error(bone, scan, acquisition) > 1.03 * best, name


def test_mean_bone_is_the_monochromatic_truth(bone, scan):
    from xrmflow.phantom.comparison import solid

    inside = solid(bone.labels[bone.core], BONE, factor=2, erosion=1)[INNER]
    truth = coarse_attenuation(bone, scan.effective_energy_kev, factor=2, slices=slice(0, scan.recipe.rows))[INNER]
    assert reconstructed(scan, scan.acquisition)[inside].mean() == pytest.approx(truth[inside].mean(), rel=0.015)


def test_counts_follow_the_open_beam_and_the_transmission(scan):
    """Beside the bone frames are open beam; behind it line integrals lie below the monochromatic ones."""
    beam = scan.detector.beam
    seen = (scan.counts - scan.detector.dark) / beam
    air = scan.line_integrals < 1e-6
    assert air.mean() > 0.1
    assert seen[air].mean() == pytest.approx(1, abs=1e-3)
    assert seen[air].std() == pytest.approx(1 / np.sqrt(beam.mean()), rel=0.05)
    thick = scan.line_integrals > 0.7 * scan.line_integrals.max()
    hardened = -np.log(seen[thick]).mean() / scan.line_integrals[thick].mean()
    assert 0.75 < hardened < 0.97


def test_shift_displaces_the_image(bone, recipe):
    """A view shifted by whole pixels is the unshifted view moved by them: features of column c at c + shift."""
    still = replace(recipe, views=1, shift_px=0.0, roll_deg=0.0, rows=24)
    plain = simulate_scan(bone, still, seed=1)
    geometry = replace(plain.acquisition, shift_u_px=(3.0,), shift_v_px=(-2.0,))
    blocks = module._paths(bone, geometry, still, lambda items, **_: iter(items))
    _, mineral, water = next(blocks)
    moved = -np.log(module._seen(mineral, water, module.monochromatic(plain.effective_energy_kev), still))[0]
    inner = plain.line_integrals[0][4:-4, 4:-4]
    np.testing.assert_allclose(moved[2:-6, 7:-1], inner, atol=0.01 * inner.max())


def test_views_do_not_depend_on_how_they_are_blocked(bone, recipe, monkeypatch):
    few = replace(recipe, views=5)
    together = simulate_scan(bone, few, seed=9)
    monkeypatch.setattr("xrmflow.phantom.scan.SUBPIXELS_AT_ONCE", 1)
    apart = simulate_scan(bone, few, seed=9)
    np.testing.assert_allclose(together.line_integrals, apart.line_integrals, atol=1e-5)
    np.testing.assert_array_equal(together.flats, apart.flats)
    assert np.mean(together.counts != apart.counts) < 0.05


def test_same_seed_gives_the_same_bits(bone, recipe):
    few = replace(recipe, views=3)
    first, again, other = (simulate_scan(bone, few, seed=seed) for seed in (1, 1, 2))
    for name in ("counts", "flats", "darks", "line_integrals"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert np.mean(first.counts != other.counts) > 0.5


def test_the_file_does_not_know_centre_and_roll_but_knows_shifts(scan):
    nominal, true = scan.nominal, scan.acquisition
    assert (nominal.centre_px, nominal.roll_deg) == (31.5, 0.0)
    assert (true.centre_px, true.roll_deg) == (32.8, 2.0)
    assert nominal.shift_u_px == true.shift_u_px
    assert 1 < max(true.shift_u_px) <= 1.5


def test_no_ray_leaves_the_object_through_its_ends(bone, recipe):
    """Every ray of every view passes the object's column below its top."""
    acquisition = true_acquisition(recipe, np.random.default_rng(0))
    geometry = scan_geometry(acquisition)
    corners = [
        geometry.detector + a * (recipe.rows / 2) * geometry.v + b * (recipe.cols / 2) * geometry.u
        for a in (-1, 1)
        for b in (-1, 1)
    ]
    reach = recipe.cols / 2 * acquisition.voxel_mm
    depth = recipe.source_to_axis_mm + recipe.axis_to_detector_mm
    top = max(float(abs(c[:, 2]).max()) for c in corners) * (recipe.source_to_axis_mm + reach) / depth
    assert top <= bone.grid.shape[0] * bone.grid.voxel_mm / 2
    assert object_margin(recipe) == bone.margin


@pytest.mark.parametrize("roll_deg", [0.15, -2.0])
def test_a_rolled_detector_turns_the_image_by_as_much_as_it_says(bone, recipe, roll_deg):
    """Rows of an upright detector, shifted along columns by roll times height, are those of the rolled one."""
    size = {"views": 6, "shift_px": 0.0, "centre_offset_px": 0.0}
    rolled, upright = (
        simulate_scan(bone, replace(recipe, roll_deg=roll, **size), seed=0).line_integrals for roll in (roll_deg, 0.0)
    )
    slope = np.gradient(upright, axis=2)
    height = (np.arange(recipe.rows) - (recipe.rows - 1) / 2)[:, None]
    across, along = -height * slope, (np.arange(recipe.cols) - (recipe.cols - 1) / 2) * np.gradient(upright, axis=1)
    turned = np.radians(roll_deg) * (across + along)
    inner = (slice(None), slice(4, -4), slice(4, -4))
    found = float((turned * (rolled - upright))[inner].sum() / (turned[inner] ** 2).sum())
    assert found == pytest.approx(1.0, abs=0.1)
