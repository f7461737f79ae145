"""One coefficient for bone and one for soft tissue."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from xrmflow.calibration.bone import bone_depth
from xrmflow.calibration.cupping import fit_cupping
from xrmflow.calibration.materials import bone_integrals, correct_two_materials, fit_two_materials
from xrmflow.calibration.polynomial import linearise
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import scan_geometry
from xrmflow.projectors.transform import project
from xrmflow.reconstruction.fdk import fdk

COLS, ROWS, VIEWS, VOXEL = 72, 16, 90, 0.1
BONE, TISSUE = 0.4, 0.08
C_BONE, C_SOFT = 0.25, 0.05
GRID = VolumeGrid((2, COLS, COLS), VOXEL)


def acquisition():
    angles = tuple(np.linspace(0, 180, VIEWS, endpoint=False).tolist())
    return Acquisition("parallel", angles, ROWS, COLS, VOXEL, None, None, (COLS - 1) / 2 + 0.7, (ROWS - 1) / 2)


def limb():
    """Masks of soft tissue and of two bones, (y, x)."""
    y, x = np.mgrid[:COLS, :COLS] - (COLS - 1) / 2
    outer = 14 + np.cos(2 * np.arctan2(y, x + 14))
    large, small = np.hypot(x + 14, y), np.hypot(x - 15, y - 4)
    bone = (large < outer) & (large > outer - 9) | (small < 9)
    return (np.hypot(x / 1.05, y) < 31) & ~bone, bone


def scan(c_bone=C_BONE, c_soft=C_SOFT, noise=0.003):
    """Line integrals that the form corrects exactly to those of bone and soft tissue, and those of bone alone.

    The root p of q = p + p (c_b b + c_s (p - b)).
    """
    soft, bone = limb()
    grid = VolumeGrid((ROWS + 4, COLS, COLS), VOXEL)

    def lengths(volume):
        repeated = torch.from_numpy(np.repeat(volume[None].astype(np.float32), ROWS + 4, axis=0))
        return project(repeated, scan_geometry(acquisition()), grid).numpy().astype(np.float64)

    q, b = lengths(TISSUE * soft + BONE * bone), lengths(BONE * bone)
    linear = 1 + (c_bone - c_soft) * b
    p = q / linear if c_soft == 0 else (np.sqrt(linear**2 + 4 * c_soft * q) - linear) / (2 * c_soft)
    return (p + np.random.default_rng(0).normal(0, noise, p.shape)).astype(np.float32), b.astype(np.float32)


def unevenness(p, truth):
    """Spread of what is missing in soft tissue, and the mean error of it, relative."""
    soft, _ = limb()
    away = bone_depth(np.broadcast_to(soft, (1, COLS, COLS)))[0] >= 3
    volume = fdk(p, scan_geometry(acquisition()), GRID).numpy().mean(axis=0)
    difference = (volume - truth)[away] / TISSUE
    return float(difference.std()), float(difference.mean())


def test_the_right_coefficients_give_back_what_there_is():
    p, bone = (torch.from_numpy(values) for values in scan(noise=0.0))
    unhardened, _ = scan(0.0, 0.0, noise=0.0)
    assert float((p - torch.from_numpy(unhardened)).abs().max()) > 0.5
    corrected = correct_two_materials(p, bone, (C_BONE, C_SOFT))
    assert torch.allclose(corrected, torch.from_numpy(unhardened), atol=1e-5)


def test_both_coefficients_are_found_and_soft_tissue_is_more_even_than_with_one():
    p, bone = scan(noise=0.003)
    fit = fit_two_materials(p, acquisition())
    assert fit.applied
    assert 0 < fit.coefficients[1] < 0.7 * fit.coefficients[0]
    exact = torch.from_numpy(scan(noise=0.0)[0])
    one = fit_cupping(p, acquisition())
    truth = np.where(limb()[1], BONE, TISSUE * limb()[0])
    of_bone = torch.from_numpy(bone) * fit.bone_per_mm / BONE
    spread, error = unevenness(correct_two_materials(exact, of_bone, fit.coefficients), truth)
    spread_one, error_one = unevenness(linearise(exact, one.coefficients), truth)
    assert spread < 0.8 * spread_one
    assert abs(error) < 0.5 * abs(error_one)


def test_a_scan_without_hardening_is_left_alone():
    fit = fit_two_materials(scan(0.0, 0.0)[0], acquisition())
    assert not fit.applied
    assert fit.coefficients == (0.0, 0.0)
    assert "no significant hardening" in fit.message


def test_the_wrong_way_round_is_refused():
    p, _ = scan(0.0, 0.0)
    over = linearise(torch.from_numpy(p), [1.0, 0.3]).numpy()
    assert fit_two_materials(over, acquisition()).coefficients == (0.0, 0.0)


def test_arcs_and_scans_without_bone_are_refused():
    arc = slice(0, VIEWS // 3)
    assert "views span" in fit_two_materials(scan()[0][arc], acquisition().with_views(arc)).message
    nothing = np.random.default_rng(0).normal(0, 0.01, (VIEWS, ROWS, COLS)).astype(np.float32)
    assert "nothing like bone" in fit_two_materials(nothing, acquisition()).message
    broken, _ = scan()
    broken[3, 4, 5] = np.nan
    assert "no finite numbers" in fit_two_materials(broken, acquisition()).message
    narrow = replace(acquisition(), cols=COLS - 24, centre_px=acquisition().centre_px - 12)
    assert "bone goes on beyond the field of view" in fit_two_materials(scan()[0][:, :, 12:-12], narrow).message
    thin = replace(acquisition(), rows=1, midplane_px=0.0)
    assert "voxels of bone" in fit_two_materials(scan(0.1, 0.0)[0][:, 5:6], thin).message


def test_equal_coefficients_are_the_polynomial_of_degree_two():
    p, bone = torch.rand(5, 4), torch.rand(5, 4)
    assert torch.allclose(correct_two_materials(p, bone, (0.3, 0.3)), linearise(p, [1.0, 0.3]))
    assert torch.equal(correct_two_materials(p, bone, (0.0, 0.0)), p)
    with pytest.raises(ValueError, match="expected two"):
        correct_two_materials(p, bone, (0.3,))


def test_the_slope_at_zero_is_one_and_gradients_are_right():
    p = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    correct_two_materials(p, torch.zeros(3, dtype=torch.float64), (0.4, 0.2)).sum().backward()
    assert p.grad is not None
    assert torch.equal(p.grad, torch.ones(3, dtype=torch.float64))
    inputs = [torch.rand(4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    coefficients = torch.tensor([0.4, 0.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(correct_two_materials, (*inputs, coefficients))


def test_bone_integrals_are_the_path_in_bone_times_its_attenuation():
    bone = torch.zeros(3, 20, 20, dtype=torch.bool)
    bone[:, 5:15, 5:15] = True
    side = Acquisition("parallel", (0.0,), 1, 20, 0.1, None, None, 9.5, 0.0)
    found = bone_integrals(bone, 0.4, scan_geometry(side), VolumeGrid((3, 20, 20), 0.1))
    assert found[0, 0, 10] == pytest.approx(0.4 * 1.0, rel=1e-5)
    assert found[0, 0, 2] == 0
