"""The B-spline transform of a scan: against closed forms, and with gradients to every parameter of the geometry."""

import math
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import torch

from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.perturbation import perturbed, spline_drift
from xrmflow.geometry.scan import scan_geometry
from xrmflow.geometry.trajectories import circular_cone, parallel
from xrmflow.projectors.matrices import pixel_rays
from xrmflow.projectors.rays import integrate
from xrmflow.projectors.splines import coefficients_of, project, project_adjoint, values_of

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "gradient_roughness.py"
DEGREES = pytest.mark.parametrize("degree", [0, 1, 2, 3])
BEAMS = pytest.mark.parametrize("beam", ["cone", "parallel"])


def random(shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def record(beam="cone", **changes):
    far = {"cone": (40.0, 60.0), "parallel": (None, None)}[beam]
    given = {"angles_deg": (10.0, 100.0, 230.0), "rows": 3, "cols": 4, "pixel_mm": 1.6} | changes
    return Acquisition(
        beam, source_to_axis_mm=far[0], source_to_detector_mm=far[1], centre_px=1.6, midplane_px=0.9, **given
    )


def two_boxes(s, a, b, degree):
    """Convolution of two B-splines stretched to widths a and b of their pieces, each of unit integral, at s."""
    total, m, order = np.zeros_like(s), degree + 1, 2 * degree + 1
    for i in range(m + 1):
        for j in range(m + 1):
            power = np.maximum(s + m * (a + b) / 2 - i * a - j * b, 0.0) ** order
            total += (-1) ** (i + j) * math.comb(m, i) * math.comb(m, j) * power
    return total / (math.factorial(order) * (a * b) ** m)


@DEGREES
@pytest.mark.parametrize("angle_deg", [20.0, 45.0, 118.0])
def test_a_single_spline_against_its_closed_form(degree, angle_deg):
    """Level parallel rays: what B(x) B(y) leaves on a line is B stretched by |cos| convolved with B by |sin|."""
    voxel, grid = 0.7, VolumeGrid((1, 1, 1), 0.7)
    geometry = parallel(torch.tensor([angle_deg]), rows=5, cols=41, pixel_mm=0.1)
    got = project(torch.ones((1, 1, 1), dtype=torch.float64), geometry, grid, degree=degree)[0]
    angle = math.radians(angle_deg)
    across = (np.arange(41) - 20) * 0.1 / voxel
    line = two_boxes(across, abs(math.cos(angle)), abs(math.sin(angle)), degree)
    upright = values_at((torch.arange(5).double() - 2) * 0.1 / voxel, degree)
    assert line.max() > 0.4
    torch.testing.assert_close(got, voxel * upright[:, None] * torch.from_numpy(line), rtol=1e-9, atol=1e-9)


def values_at(x, degree):
    """B-spline by its textbook pieces."""
    x = x.abs()
    if degree == 0:
        return (x < 0.5).double()
    if degree == 1:
        return (1 - x).clamp(min=0)
    if degree == 2:
        return torch.where(x < 0.5, 0.75 - x**2, 0.5 * (1.5 - x).clamp(min=0) ** 2)
    return torch.where(x < 1, 2 / 3 - x**2 + x**3 / 2, (2 - x).clamp(min=0) ** 3 / 6)


@DEGREES
def test_equal_coefficients_give_the_chord(degree):
    """They make f = 1 in the box where all splines of a point exist; segments in it have the length of f's integral."""
    grid, rng = VolumeGrid((9, 11, 10), 0.8, (0.3, -0.2, 0.5)), np.random.default_rng(0)
    half = (np.array([10, 11, 9]) - degree) / 2 * grid.voxel_mm
    one, other = (torch.from_numpy(grid.centre_mm + half * rng.uniform(-1, 1, (50, 3))) for _ in range(2))
    got = integrate(torch.ones(grid.shape).double(), one, other - one, grid, degree=degree, start=0.0, stop=1.0)
    torch.testing.assert_close(got, (other - one).norm(dim=1), rtol=1e-12, atol=0)


@BEAMS
def test_degree_0_weighs_voxels_by_the_length_within_them(beam):
    """Each voxel alone: the chord of its box, by the method of slabs."""
    geometry, grid = (
        scan_geometry(record(beam, tilt_deg=3.0, roll_deg=2.0)),
        VolumeGrid((2, 3, 2), 1.9, (0.2, 0.1, -0.3)),
    )
    rays = pixel_rays(geometry, grid).numpy()
    row, column = np.arange(3)[:, None, None], np.arange(4)[:, None]
    o, d = (
        rays[:, None, None, n] + column * rays[:, None, None, n + 1] + row * rays[:, None, None, n + 2] for n in (0, 3)
    )
    for place in np.ndindex(grid.shape):
        volume = torch.zeros(grid.shape, dtype=torch.float64)
        volume[place] = 1.0
        with np.errstate(divide="ignore"):  # level rays reach the faces above and below at infinity
            ends = np.sort([(np.array(place)[::-1] + side - o) / d for side in (-0.5, 0.5)], axis=0)
        length = np.maximum(ends[1].min(-1) - ends[0].max(-1), 0) * np.linalg.norm(d, axis=-1) * grid.voxel_mm
        np.testing.assert_allclose(project(volume, geometry, grid, degree=0), length, atol=1e-12)


def test_a_cone_beam_begins_at_its_source():
    """A source inside the volume: what lies behind it does not count."""
    geometry, grid = (
        circular_cone(torch.zeros(1), rows=1, cols=1, pixel_mm=1.0, source_to_axis_mm=1.0, source_to_detector_mm=20.0),
        VolumeGrid((5, 9, 5), 1.0),
    )
    got = project(torch.ones(grid.shape).double(), geometry, grid, degree=0)
    torch.testing.assert_close(got, torch.full((1, 1, 1), 5.5).double())


def test_the_scan_is_the_same_as_its_rays():
    geometry, grid = scan_geometry(record(tilt_deg=3.0)), VolumeGrid((4, 5, 6), 1.3, (0.3, 0.2, -0.4))
    coefficients = random(grid.shape)
    at = lambda row, column: geometry.detector + (column - 1.5) * geometry.u + (row - 1.0) * geometry.v  # noqa: E731
    pixels = torch.stack([torch.stack([at(r, c) for c in range(4)], 1) for r in range(3)], 1)
    origins = geometry.source[:, None, None].expand_as(pixels)
    lines = (origins.reshape(-1, 3), (pixels - origins).reshape(-1, 3))
    expected = integrate(coefficients, *lines, grid, degree=2, start=0.0).reshape(3, 3, 4)
    torch.testing.assert_close(project(coefficients, geometry, grid), expected, rtol=1e-12, atol=1e-12)


@BEAMS
@pytest.mark.parametrize("degree", [1, 2, 3])
def test_gradients_to_scalar_parameters_of_the_scan(beam, degree):
    grid = VolumeGrid((3, 4, 5), 1.3, (0.3, 0.2, -0.4))
    coefficients = random(grid.shape)

    def projected(centre, roll, tilt, slant, shifts):
        geometry = scan_geometry(
            record(beam), centre_px=centre, roll_deg=roll, tilt_deg=tilt, slant_deg=slant, shifts_px=shifts
        )
        return project(coefficients, geometry, grid, degree=degree)

    given = [torch.tensor(x, dtype=torch.float64) for x in (1.63, 2.0, -3.0, 1.5)] + [0.3 * random((3, 2))]
    assert torch.autograd.gradcheck(projected, [x.requires_grad_() for x in given], atol=1e-5)


@pytest.mark.parametrize("degree", [0, 2])
def test_gradients_to_distances_displacements_and_drift(degree):
    grid = VolumeGrid((3, 4, 5), 1.3, (0.3, 0.2, -0.4))
    coefficients = random(grid.shape)

    def projected(to_axis, to_detector, source, detector, axis, lean, drift):
        geometry = circular_cone(
            torch.tensor([10.0, 130.0]),
            rows=3,
            cols=3,
            pixel_mm=1.6,
            source_to_axis_mm=to_axis,
            source_to_detector_mm=to_detector,
        )
        shifts = spline_drift(drift, 2)
        moved = perturbed(
            geometry, source_mm=source, detector_mm=detector, shifts_px=shifts, axis_mm=axis, axis_lean_deg=lean
        )
        return project(coefficients, moved, grid, degree=degree)

    given = [torch.tensor(x, dtype=torch.float64) for x in (40.0, 60.0)]
    given += [0.2 * random(shape, seed) for seed, shape in enumerate([(3,), (2, 3), (3,), (2,), (4, 2)])]
    assert torch.autograd.gradcheck(projected, [x.requires_grad_() for x in given], atol=1e-5)


@BEAMS
def test_the_adjoint_has_the_same_gradients(beam):
    geometry, grid = scan_geometry(record(beam, roll_deg=2.0)), VolumeGrid((3, 4, 5), 1.3, (0.3, 0.2, -0.4))
    values = random((3, 3, 4)).requires_grad_()
    detector = geometry.detector.clone().requires_grad_()
    spread_out = lambda v, d: project_adjoint(v, replace(geometry, detector=d), grid)  # noqa: E731
    assert torch.autograd.gradcheck(spread_out, (values, detector))


@DEGREES
def test_values_and_coefficients(degree):
    volume = random((2, 7, 1, 9)).requires_grad_()
    coefficients = coefficients_of(volume, degree=degree)
    torch.testing.assert_close(values_of(coefficients, degree=degree), volume)
    if degree > 1:
        assert float((coefficients - volume).detach().abs().max()) > 0.5
    assert torch.autograd.gradcheck(lambda v: coefficients_of(v, degree=degree), volume, fast_mode=True)
    assert coefficients_of(volume.float(), degree=degree).dtype == torch.float32


@pytest.mark.parametrize("degree", [2, 3])
def test_coefficients_are_those_of_scipy_away_from_the_edges(degree):
    volume = random((31, 33, 32)).numpy()
    expected = scipy.ndimage.spline_filter(volume, order=degree)
    got = coefficients_of(torch.from_numpy(volume), degree=degree).numpy()
    np.testing.assert_allclose(got[12:-12, 12:-12, 12:-12], expected[12:-12, 12:-12, 12:-12], atol=1e-5)


def test_a_degree_that_does_not_exist():
    for function in (values_of, coefficients_of):
        with pytest.raises(ValueError, match="degree: expected 0, 1, 2 or 3, got 5"):
            function(torch.zeros(1, 1, 1), degree=5)


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLE))


def test_the_gradient_to_the_geometry_is_smooth_from_degree_2_on(example):
    """Published for such a scan: .88, .09, .01. Even a parabola would have .02 / 1.8, as its slope is not constant."""
    zero, one, two = (example["roughness"](example["slopes"](degree)) for degree in (0, 1, 2))
    assert 0.7 < zero < 1.0
    assert 0.05 < one < 0.15
    assert two < 0.02


def test_a_smooth_object_is_projected_the_better_the_higher_the_degree(example):
    errors = [example["error"](degree, 16, 8.0) for degree in (0, 1, 2, 3)]
    assert errors[1] < errors[0] / 2
    assert errors[2] < errors[1] / 5
    assert errors[3] < errors[2] / 2
    assert errors[3] < 1e-3


def test_descent_finds_the_geometry():
    """Centre, roll and tilt from a known object, noise-free, starting at nothing."""
    geometry, grid = scan_geometry(record(rows=12, cols=12, pixel_mm=1.5)), VolumeGrid((9, 9, 9), 1.0)
    z, y, x = torch.meshgrid(*[torch.arange(9, dtype=torch.float64) - 4] * 3, indexing="ij")
    blobs = torch.exp(-((x - 2) ** 2 + y**2 + (z - 1) ** 2) / 3) + torch.exp(-((x + 1) ** 2 + (y + 2) ** 2 + z**2) / 3)
    coefficients, truth = coefficients_of(blobs), torch.tensor([0.37, 1.2, -2.0], dtype=torch.float64)

    def projected(p):
        moved = perturbed(geometry, centre_px=p[0], roll_deg=p[1], tilt_deg=p[2])
        return project(coefficients, moved, grid)

    data, found = projected(truth), torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([found], max_iter=60, line_search_fn="strong_wolfe", tolerance_change=1e-14)

    def loss():
        optimiser.zero_grad()
        misfit = ((projected(found) - data) ** 2).sum()
        misfit.backward()
        return misfit

    optimiser.step(loss)
    missed = (found.detach() - truth).abs()
    assert float(missed[0]) < 1e-3
    assert float(missed[1:].max()) < 0.02
