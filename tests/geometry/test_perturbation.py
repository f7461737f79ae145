"""Perturbations: the record's parameters mean the same; object motions are inverse motions of the scanner."""

import numpy as np
import pytest
import torch

from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.perturbation import perturbed, spline_drift
from xrmflow.geometry.scan import scan_geometry
from xrmflow.geometry.trajectories import circular_cone, helical, parallel
from xrmflow.projectors.matrices import voxel_to_pixel

ANGLES = torch.tensor([0.0, 31.0, 90.0, 200.0, 350.0], dtype=torch.float64)
DETECTOR = {"rows": 9, "cols": 12, "pixel_mm": 0.4}
CONE = {**DETECTOR, "source_to_axis_mm": 50.0, "source_to_detector_mm": 80.0}
VECTORS = ("source", "detector", "u", "v")
TURNS = {"roll_deg": 2.0, "tilt_deg": -3.0, "slant_deg": 1.5}


def ideal(beam, **place):
    return circular_cone(ANGLES, **CONE, **place) if beam == "cone" else parallel(ANGLES, **DETECTOR, **place)


def random(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def pixel_of(scan, point):
    """(column, row) per view of a point (x, y, z) in mm."""
    column, row, w = voxel_to_pixel(scan, VolumeGrid((1, 1, 1), 1.0, tuple(point)))[:, :, 3].unbind(dim=1)
    return torch.stack([column / w, row / w])


@pytest.mark.parametrize("beam", ["cone", "parallel"])
def test_the_parameters_mean_what_they_mean_in_the_record(beam):
    shifts = random(5, 2)
    acquisition = Acquisition(
        beam=beam,
        angles_deg=tuple(ANGLES.tolist()),
        source_to_axis_mm=50.0 if beam == "cone" else None,
        source_to_detector_mm=80.0 if beam == "cone" else None,
        centre_px=6.3,
        midplane_px=3.1,
        shift_u_px=tuple(shifts[:, 0].tolist()),
        shift_v_px=tuple(shifts[:, 1].tolist()),
        **DETECTOR,
        **TURNS,
    )
    expected = scan_geometry(acquisition)
    got = perturbed(ideal(beam, centre_px=6.0, midplane_px=3.1), centre_px=0.3, shifts_px=shifts, **TURNS)
    for name in VECTORS:
        torch.testing.assert_close(getattr(got, name), getattr(expected, name), rtol=0, atol=1e-12)


def test_no_perturbation_changes_nothing():
    scan = helical(ANGLES, **CONE, pitch_mm=3.0)
    for name in VECTORS:
        torch.testing.assert_close(getattr(perturbed(scan), name), getattr(scan, name), rtol=0, atol=1e-12)


def test_source_and_detector_move_across_along_and_up():
    scan = ideal("cone")
    moved = perturbed(scan, source_mm=torch.tensor([1.0, 2.0, 3.0]), detector_mm=torch.tensor([4.0, 5.0, 6.0]))
    # At angle 0 across is x, along is y; at 90 degrees across is y, along is -x.
    np.testing.assert_allclose((moved.source - scan.source)[[0, 2]], [[1, 2, 3], [-2, 1, 3]], atol=1e-12)
    np.testing.assert_allclose((moved.detector - scan.detector)[[0, 2]], [[4, 5, 6], [-5, 4, 6]], atol=1e-12)


@pytest.mark.parametrize("beam", ["cone", "parallel"])
def test_a_moved_axis_is_a_moved_object(beam):
    """In view 0, across, along, up are x, y, z: the point is seen where the displaced point was."""
    scan, shift, point = ideal(beam), torch.tensor([0.5, -0.7, 0.9]), torch.tensor([1.0, 2.0, -0.5])
    moved = perturbed(scan, axis_mm=shift)
    got, expected = pixel_of(moved, point.tolist()), pixel_of(scan, (point + shift).tolist())
    torch.testing.assert_close(got[:, 0], expected[:, 0])


@pytest.mark.parametrize("beam", ["cone", "parallel"])
@pytest.mark.parametrize(("lean", "towards"), [((5.0, 0.0), 0), ((0.0, 5.0), 1)])
def test_the_top_of_a_leaning_axis_moves_the_stated_way(beam, lean, towards):
    scan, angle = ideal(beam), np.deg2rad(5.0)
    tipped = np.zeros(3)
    tipped[towards], tipped[2] = 2 * np.sin(angle), 2 * np.cos(angle)
    got = pixel_of(perturbed(scan, axis_lean_deg=torch.tensor(lean)), (0.0, 0.0, 2.0))
    torch.testing.assert_close(got[:, 0], pixel_of(scan, tipped.tolist())[:, 0])


@pytest.mark.parametrize("beam", ["cone", "parallel"])
def test_every_perturbation_is_differentiable(beam):
    scan = ideal(beam)
    sizes = {"detector_mm": 3, "shifts_px": 2, "axis_mm": 3, "axis_lean_deg": 2} | (
        {"source_mm": 3} if beam == "cone" else {}
    )
    vectors = {name: random(5, size).requires_grad_() for name, size in sizes.items()}
    scalars = {name: random(5, seed=1).requires_grad_() for name in ("centre_px", *TURNS)}
    names = [*vectors, *scalars]

    def moved(*values):
        got = perturbed(scan, **dict(zip(names, values, strict=True)))
        return torch.cat([getattr(got, name) for name in VECTORS])

    values = [*vectors.values(), *scalars.values()]
    assert torch.autograd.gradcheck(moved, values)
    # Gradients also exist where everything starts: at zero.
    zeros = [torch.zeros_like(v).requires_grad_() for v in values]
    weights = random(20, 3, seed=2)
    for name, gradient in zip(names, torch.autograd.grad((moved(*zeros) * weights).sum(), zeros), strict=True):
        assert bool(torch.isfinite(gradient).all()), name
        assert float(gradient.abs().max()) > 0, name


def test_a_drift_of_equal_coefficients_is_constant_and_of_a_ramp_straight():
    np.testing.assert_allclose(spline_drift(torch.full((6, 2), 3.0, dtype=torch.float64), 11), 3.0)
    line = spline_drift(torch.arange(7, dtype=torch.float64), 9)
    np.testing.assert_allclose(line, np.linspace(1, 5, 9), atol=1e-12)


def test_a_drift_is_the_cubic_b_spline():
    from scipy.interpolate import BSpline

    coefficients = random(8, 2)
    expected = BSpline(np.arange(-3, 9), coefficients.numpy(), 3)(np.linspace(0, 5, 23))
    np.testing.assert_allclose(spline_drift(coefficients, 23), expected, atol=1e-12)


def test_a_drift_reaches_the_geometry_and_its_gradient_comes_back():
    scan, coefficients = ideal("cone"), torch.zeros((4, 3), dtype=torch.float64, requires_grad=True)
    moved = perturbed(scan, source_mm=spline_drift(coefficients, scan.views))
    (gradient,) = torch.autograd.grad(moved.source.square().sum(), coefficients)
    assert float(gradient[:, 1].abs().min()) > 0


def test_parameters_that_do_not_fit_are_refused_by_name():
    with pytest.raises(ValueError, match=r"source_mm: expected none for a parallel beam"):
        perturbed(ideal("parallel"), source_mm=torch.ones(3))
    with pytest.raises(ValueError, match=r"roll_deg: expected one number"):
        perturbed(ideal("cone"), roll_deg=torch.ones(4))
    with pytest.raises(ValueError, match=r"axis_mm: expected shape \(3,\)"):
        perturbed(ideal("cone"), axis_mm=torch.ones(4, 3))
    with pytest.raises(ValueError, match=r"coefficients: expected at least 4"):
        spline_drift(torch.ones(3), 5)
