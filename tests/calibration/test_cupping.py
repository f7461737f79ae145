from dataclasses import replace

import numpy as np
import pytest
import torch

from xrmflow.calibration.basis import load_slab, pooled_geometry
from xrmflow.calibration.bone import bone_depth, segment_bone
from xrmflow.calibration.cupping import fit_cupping, unchanged
from xrmflow.calibration.polynomial import linearise
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import scan_geometry
from xrmflow.projectors.transform import project
from xrmflow.reconstruction.fdk import fdk

COLS, ROWS, VIEWS, VOXEL = 72, 10, 90, 0.01
BONE, TISSUE = 1.6, 0.2
# Two energies, at which everything attenuates more and less than at the effective one.
SHARES, FACTORS = (0.5, 0.5), (1.5, 0.5)


def acquisition(beam="parallel"):
    arc = np.linspace(0, 180 if beam == "parallel" else 360, VIEWS, endpoint=False)
    distances = (None, None) if beam == "parallel" else (20.0, 60.0)
    pixel = VOXEL if beam == "parallel" else 3 * VOXEL
    return Acquisition(beam, tuple(arc), ROWS, COLS, pixel, *distances, (COLS - 1) / 2 + 0.7, (ROWS - 1) / 2)


def bone():
    """A thick, uneven tube and a rod in tissue: attenuation at the effective energy, and a mask of what is well inside
    bone."""
    depth = ROWS + 4
    y, x = np.mgrid[:COLS, :COLS] - (COLS - 1) / 2
    angle, radius = np.arctan2(y + 1, x - 2), np.hypot(y + 1, x - 2)
    outer = 29 + 1.5 * np.cos(2 * angle + 0.5)
    part = (radius < outer) & (radius > outer - 12) | (np.hypot(x - 3, y + 2) < 8)
    volume = np.where(part, BONE, np.where(radius < 32, TISSUE, 0.0)).astype(np.float32)
    inside = bone_depth(np.broadcast_to(part, (3, COLS, COLS)))[1] >= 3
    return np.repeat(volume[None], depth, axis=0), inside


def scan(geometry, *, hardened=True, noise=0.004, denser_outside=0.0):
    volume, _ = bone()
    y, x = np.mgrid[:COLS, :COLS] - (COLS - 1) / 2
    volume = volume * (1 + denser_outside * np.hypot(y, x) / 25).astype(np.float32)
    grid = VolumeGrid(volume.shape, VOXEL)
    lengths = project(torch.from_numpy(volume), scan_geometry(geometry), grid).numpy().astype(np.float64)
    p = lengths
    if hardened:
        p = -np.log(sum(s * np.exp(-f * lengths) for s, f in zip(SHARES, FACTORS, strict=True)))
    return (p + np.random.default_rng(0).normal(0, noise, p.shape)).astype(np.float32)


def bone_mean(p, geometry, coefficients=(1.0,)):
    corrected = linearise(torch.from_numpy(p), coefficients)
    volume = fdk(corrected, scan_geometry(geometry), VolumeGrid((2, COLS, COLS), VOXEL)).numpy()
    return float(volume[:, bone()[1]].mean())


@pytest.mark.parametrize("beam", ["parallel", "cone"])
def test_hardening_is_found_and_density_restored(beam):
    geometry = acquisition(beam)
    p = scan(geometry)
    truth = bone_mean(scan(geometry, hardened=False), geometry)
    fit = fit_cupping(p, geometry)
    assert fit.applied
    assert fit.trusted
    assert fit.coefficients[0] == 1.0
    assert bone_mean(p, geometry) < 0.95 * truth
    assert bone_mean(p, geometry, fit.coefficients) == pytest.approx(truth, rel=0.02)
    assert abs(fit.grey_difference_after) < 0.15 * fit.grey_difference_before
    assert fit.loss[1] < 0.01 * fit.loss[0]
    pictures = fit.pictures
    assert np.allclose(np.tensordot(fit.coefficients, pictures["powers"], axes=1), pictures["after"], atol=1e-5)
    assert np.allclose(fit.coefficients @ pictures["profile_powers"], pictures["profile_after"])


def test_a_monochromatic_scan_is_left_alone():
    geometry = acquisition()
    fit = fit_cupping(scan(geometry, hardened=False), geometry)
    assert not fit.applied
    assert fit.trusted
    assert fit.coefficients == (1.0, 0.0)
    assert abs(fit.found[1]) * 0.5 < 0.02
    assert "no significant hardening" in fit.message


def test_noise_does_not_bias_the_fit():
    geometry = acquisition()
    found = [fit_cupping(scan(geometry, noise=n), geometry, smoothing_px=1.0).found[1] for n in (0.0, 0.02)]
    assert found[1] == pytest.approx(found[0], rel=0.12)


def test_the_uncertainty_covers_rings():
    geometry = acquisition()
    clean = scan(geometry, noise=0.0)
    truth = fit_cupping(clean, geometry).found[1]
    errors = []
    for seed in range(8):
        rings = np.random.default_rng(seed).normal(0, 0.02, (1, ROWS, COLS)).astype(np.float32)
        fit = fit_cupping(clean + rings, geometry)
        errors.append((fit.found[1] - truth) / fit.statistical[0])
    assert np.sqrt(np.mean(np.square(errors))) < 1.15


def test_bone_that_really_is_a_little_denser_outside_is_left_alone():
    geometry = acquisition()
    fit = fit_cupping(scan(geometry, hardened=False, denser_outside=0.01), geometry)
    assert not fit.applied
    assert fit.coefficients == (1.0, 0.0)
    assert abs(fit.found[1]) < 2 * fit.uncertainty[0]


def test_brightness_that_grows_outwards_for_another_reason_is_refused():
    geometry = acquisition()
    p = scan(geometry, hardened=False)
    over = linearise(torch.from_numpy(p), [1.0, 0.4]).numpy()
    fit = fit_cupping(over, geometry)
    assert not fit.applied
    assert not fit.trusted
    assert "wrong way round" in fit.message


def test_an_arc_of_less_than_half_a_turn_is_refused():
    geometry = acquisition("cone")
    p = scan(geometry)
    assert fit_cupping(p, geometry).applied
    arc = slice(0, VIEWS // 3)
    fit = fit_cupping(p[arc], geometry.with_views(arc))
    assert not fit.applied
    assert not fit.trusted
    assert "views span 120 degrees" in fit.message


def test_a_wide_detector_of_one_row_is_binned_along_columns_only():
    row = replace(acquisition("cone"), rows=1, cols=700, midplane_px=0.0, centre_px=349.5)
    slab = load_slab(np.ones((VIEWS, 1, 700), np.float32), row, degree=2, slices=4)
    assert slab.powers.shape[2:] == (1, 233)
    assert torch.allclose(slab.geometry.v, scan_geometry(row).v)


def test_values_that_are_no_numbers_hold_up_nobody():
    geometry = acquisition()
    p = scan(geometry)
    p[3, 4, 5] = np.nan
    fit = fit_cupping(p, geometry)
    assert not fit.applied
    assert "no finite numbers" in fit.message
    assert fit.system is None
    assert fit.largest == 0


@pytest.mark.parametrize("views", [1, 2, 3])
def test_too_few_views_hold_up_nobody(views):
    geometry = acquisition("cone")
    few = slice(None, None, -(-VIEWS // views))
    fit = fit_cupping(scan(geometry)[few], geometry.with_views(few))
    assert not fit.applied
    assert not fit.trusted
    assert f"{views} views" in fit.message


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_air_is_nothing_like_bone(value):
    fit = fit_cupping(np.full((VIEWS, ROWS, COLS), value, np.float32), acquisition())
    assert not fit.applied
    assert "data left unchanged" in fit.message


def test_nothing_like_bone():
    geometry = acquisition()
    noise = np.random.default_rng(0).normal(0, 0.01, (VIEWS, ROWS, COLS)).astype(np.float32)
    fit = fit_cupping(noise, geometry)
    assert not fit.applied
    assert not fit.trusted
    assert "data left unchanged" in fit.message


def test_basis_volumes_add_up_to_the_corrected_reconstruction():
    geometry = acquisition()
    p = scan(geometry)
    slab = load_slab(p, geometry, degree=3, slices=4)
    coefficients = [1.0, 0.3, -0.05]
    summed = torch.tensordot(torch.tensor(coefficients), slab.basis(), dims=1)
    direct = fdk(linearise(torch.from_numpy(p), coefficients), scan_geometry(geometry), slab.grid)
    assert torch.allclose(summed, direct, atol=1e-4 * float(direct.abs().max()))


def test_gradient_to_the_coefficients_is_the_same_both_ways():
    geometry = acquisition()
    p = torch.from_numpy(scan(geometry))
    slab = load_slab(p.numpy(), geometry, degree=2, slices=2)
    weights = torch.rand(slab.grid.shape, generator=torch.Generator().manual_seed(0))
    through = torch.tensor(0.2, requires_grad=True)
    volume = fdk(linearise(p, [1.0, through]), scan_geometry(geometry), slab.grid)
    (weights * volume.square()).sum().backward()
    basis = slab.basis()
    linear = torch.tensor(0.2, requires_grad=True)
    (weights * (basis[0] + linear * basis[1]).square()).sum().backward()
    assert float(through.grad) == pytest.approx(float(linear.grad), rel=1e-3)


def test_binned_pixels_keep_their_place():
    geometry = scan_geometry(acquisition("cone")).with_rows(slice(2, 8))
    pooled = pooled_geometry(geometry, 2)

    def pixel(g, row, col):
        return g.detector + (row - (g.rows - 1) / 2) * g.v + (col - (g.cols - 1) / 2) * g.u

    group = [pixel(geometry, row, col) for row in (2, 3) for col in (6, 7)]
    assert torch.allclose(pixel(pooled, 1, 3), sum(group) / 4)


def test_slices_that_some_views_miss_are_left_out():
    cone = replace(acquisition("cone"), source_to_axis_mm=1.5, source_to_detector_mm=4.5)
    slab = load_slab(np.zeros((VIEWS, ROWS, COLS), np.float32), cone, degree=1, slices=ROWS)
    assert 1 <= slab.grid.shape[0] < ROWS
    parallel = load_slab(np.zeros((VIEWS, ROWS, COLS), np.float32), acquisition(), degree=1, slices=ROWS)
    assert parallel.grid.shape[0] == ROWS


def test_end_slices_are_as_bright_as_the_middle():
    geometry = replace(acquisition("cone"), source_to_axis_mm=8.0, source_to_detector_mm=24.0)
    volume, inside = bone()
    volume = np.repeat(volume[:1], 2 * ROWS, axis=0)
    p = project(torch.from_numpy(volume), scan_geometry(geometry), VolumeGrid(volume.shape, VOXEL)).numpy()
    slices = load_slab(p, geometry, degree=1, slices=ROWS).basis()[0].numpy()[:, inside].mean(axis=1)
    assert len(slices) >= ROWS - 2
    assert slices[[0, -1]] == pytest.approx(slices[len(slices) // 2], rel=2e-3)


def test_of_two_bright_materials_the_brighter_is_taken():
    y, x = np.mgrid[:90, :90] - 44.5
    radius = np.hypot(x, y)
    volume = np.where(radius < 22, 0.6, np.where(radius < 38, 1.0, 0.0))[None].repeat(6, axis=0)
    noisy = volume + np.random.default_rng(0).normal(0, 0.03, volume.shape)
    mask, _ = segment_bone(noisy, smoothing_px=1.0)
    assert mask[3, 44, 44 + 30]
    assert not mask[3, 44, 44]
    assert mask[:, radius < 15].mean() < 0.01


def test_depth_counts_from_the_surface():
    slab = np.zeros((3, 20, 20), bool)
    slab[:, 5:15, 5:15] = True
    depth = bone_depth(slab)
    assert depth[1, 5, 9] == 1
    assert depth[1, 7, 9] == 3
    assert depth[1, 0, 0] == 0


def test_bad_degree_and_doing_nothing():
    with pytest.raises(ValueError, match="degree: expected at least 2, got 1"):
        fit_cupping(np.zeros((VIEWS, ROWS, COLS), np.float32), acquisition(), degree=1)
    with pytest.raises(ValueError, match="smoothing_px: expected at least 0, got -1"):
        fit_cupping(np.zeros((VIEWS, ROWS, COLS), np.float32), acquisition(), smoothing_px=-1)
    assert unchanged("why", degree=3).to_dict()["coefficients"] == [1.0, 0.0, 0.0]
