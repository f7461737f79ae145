"""Line integrals of B-splines along any rays: exact, in value and in every gradient."""

import math

import pytest
import torch

from xrmflow.geometry.grid import VolumeGrid
from xrmflow.projectors import spline_oracle
from xrmflow.projectors.rays import integrate, integrate_adjoint

DEGREES = pytest.mark.parametrize("degree", [0, 1, 2, 3])
GRID = VolumeGrid((4, 6, 5), 1.3, (0.4, -0.7, 0.9))
# Rays begin 7.3 directions before they pass the grid's centre.
LIMITS = [{}, {"start": 7.0, "stop": 7.9}, {"start": 7.3}]


def random(shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def rays(count, seed=1):
    """Rays from all around through the neighbourhood of the grid's centre, with directions of different lengths."""
    directions = random((count, 3), seed)
    through = torch.tensor(GRID.centre_mm, dtype=torch.float64) + 1.5 * random((count, 3), seed + 1)
    return through - 7.3 * directions, directions


def special_rays():
    """Along axes and planes, forth and back, inside and outside, through voxel centres and knots of degree 1 to 3."""
    points, directions = [], []
    for axis in range(3):
        for place in (1.0, 1.25, 2.0, -0.75, 9.0):
            for other, sign in ((2.0, 1.0), (0.3, -2.0)):
                points.append(torch.roll(torch.tensor([0.4, place, other]), axis))
                directions.append(torch.roll(torch.tensor([sign, 0.0, 0.0]), axis))
    for height, climb in ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.3, -1.0)):
        points.append(torch.tensor([0.0, 0.0, height]))
        directions.append(torch.tensor([1.0, 1.0, climb]))
    first = torch.tensor(GRID.first_voxel_mm, dtype=torch.float64)
    return first + GRID.voxel_mm * torch.stack(points).double(), torch.stack(directions).double()


@DEGREES
@pytest.mark.parametrize("limits", LIMITS)
def test_agrees_with_the_oracle(degree, limits):
    coefficients = random(GRID.shape)
    expected = spline_oracle.integrate(coefficients, *rays(40), GRID, degree=degree, **limits)
    got = integrate(coefficients, *rays(40), GRID, degree=degree, **limits)
    assert float(expected.abs().max()) > 1
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("degree", [0, 2])
def test_single_precision(degree):
    coefficients, (origins, directions) = random(GRID.shape), rays(40)
    results = []
    for data in (coefficients, coefficients.float()):
        inputs = [x.clone().requires_grad_() for x in (data, origins, directions)]
        out = integrate(*inputs, GRID, degree=degree)  # type: ignore[call-arg]
        assert out.dtype == data.dtype
        results.append((out.detach(), *torch.autograd.grad((out.double() ** 2).sum(), inputs)))
    for double, single in zip(*results, strict=True):
        torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=1e-5 * float(double.abs().max()))


@DEGREES
def test_rays_along_axes_and_through_knots(degree):
    coefficients = random(GRID.shape)
    origins, directions = (x.requires_grad_() for x in special_rays())
    got = integrate(coefficients, origins, directions, GRID, degree=degree)
    expected = spline_oracle.integrate(coefficients, origins.detach(), directions.detach(), GRID, degree=degree)
    assert int((expected == 0).sum()) > 3
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
    got.sum().backward()
    assert torch.isfinite(origins.grad).all()
    assert torch.isfinite(directions.grad).all()


@DEGREES
@pytest.mark.parametrize("limits", LIMITS)
def test_gradients(degree, limits):
    """Degree 0 and 1 have gradients almost everywhere: these rays are nowhere special."""
    inputs = [x.requires_grad_() for x in (random(GRID.shape), *rays(3))]
    assert torch.autograd.gradcheck(lambda *x: integrate(*x, GRID, degree=degree, **limits) ** 2, inputs)
    inputs[0] = random((3,)).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *x: integrate_adjoint(*x, GRID, degree=degree, **limits) ** 2, inputs, fast_mode=True
    )


@pytest.mark.parametrize("degree", [2, 3])
def test_gradients_of_rays_along_axes_and_through_knots(degree):
    """Smooth splines have one gradient there, and it is the oracle's."""
    results = []
    for form in (integrate, spline_oracle.integrate):
        lines = [x.requires_grad_() for x in special_rays()]
        results.append(torch.autograd.grad((form(random(GRID.shape), *lines, GRID, degree=degree) ** 2).sum(), lines))
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


def test_the_linear_part_can_be_differentiated_twice_and_the_rest_says_that_it_cannot():
    origins, directions = rays(3)
    coefficients = random((2, 3, 2)).requires_grad_()
    grid = VolumeGrid((2, 3, 2), 2.6, GRID.centre_mm)
    assert torch.autograd.gradgradcheck(lambda c: integrate(c, origins, directions, grid) ** 2, coefficients)
    out = integrate(coefficients, origins.requires_grad_(), directions, grid)
    (gradient,) = torch.autograd.grad((out**2).sum(), origins, create_graph=True)
    with pytest.raises(NotImplementedError, match="the gradient to rays has no gradient of its own"):
        gradient.sum().backward()


@DEGREES
def test_a_segment_is_the_sum_of_its_parts(degree):
    """Ends inside the volume, as of a line of response between two points."""
    coefficients, (origins, directions) = random(GRID.shape), rays(9)
    one, other = origins + 7 * directions, origins + 8 * directions
    part = lambda a, b: integrate(coefficients, one, other - one, GRID, degree=degree, start=a, stop=b)  # noqa: E731
    torch.testing.assert_close(part(0.0, 0.37) + part(0.37, 1.0), part(0.0, 1.0))
    everything = integrate(coefficients, origins, directions, GRID, degree=degree)
    torch.testing.assert_close(part(-math.inf, 0.37) + part(0.37, math.inf), everything)
    back = integrate(coefficients, other, one - other, GRID, degree=degree, start=0.0, stop=1.0)
    torch.testing.assert_close(back, part(0.0, 1.0))


def test_many_volumes_at_once():
    coefficients, values = random((2, 3, *GRID.shape)), random((2, 3, 5))
    got, back = integrate(coefficients, *rays(5), GRID), integrate_adjoint(values, *rays(5), GRID)
    assert got.shape == (2, 3, 5)
    assert back.shape == coefficients.shape
    assert torch.equal(got[1, 2], integrate(coefficients[1, 2], *rays(5), GRID))
    assert torch.equal(back[1, 2], integrate_adjoint(values[1, 2], *rays(5), GRID))
    origins = rays(5)[0].requires_grad_()
    (together,) = torch.autograd.grad(integrate(coefficients, origins, rays(5)[1], GRID).sum(), origins)
    apart = [torch.autograd.grad(integrate(c, origins, rays(5)[1], GRID).sum(), origins)[0] for c in coefficients[0]]
    apart += [torch.autograd.grad(integrate(c, origins, rays(5)[1], GRID).sum(), origins)[0] for c in coefficients[1]]
    torch.testing.assert_close(together, torch.stack(apart).sum(dim=0))


def test_the_number_of_threads_does_not_change_a_bit():
    count, grid = 1300, VolumeGrid((9, 21, 30), 0.4, GRID.centre_mm)
    results = []
    for threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        inputs = [x.requires_grad_() for x in (random(grid.shape), *rays(count))]
        out = integrate(*inputs, grid)  # type: ignore[call-arg]
        results.append((out.detach(), *torch.autograd.grad((out**2).sum(), inputs)))
        torch.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        assert float(one.abs().max()) > 0.1
        assert torch.equal(one, two)


def test_no_rays_give_nothing():
    none = torch.zeros((0, 3), dtype=torch.float64)
    assert integrate(random(GRID.shape), none, none, GRID).shape == (0,)
    assert not integrate_adjoint(torch.zeros(0), none, none, GRID).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"degree": 4}, "degree: expected 0, 1, 2 or 3, got 4"),
        ({"coefficients": torch.zeros(4, 6, 6)}, r"coefficients: expected shape \(\.\.\., 4, 6, 5\), got \(4, 6, 6\)"),
        ({"coefficients": torch.zeros(4, 6, 5).int()}, "coefficients: expected float32 or float64, got torch.int32"),
        ({"origins": torch.zeros(2, 2)}, r"origins: expected shape \(ray, 3\) = \(2, 3\), got \(2, 2\)"),
        ({"directions": torch.ones(1, 3)}, r"directions: expected shape \(ray, 3\) = \(2, 3\), got \(1, 3\)"),
        ({"origins": torch.full((2, 3), math.nan)}, "origins: expected finite vectors, got NaN or infinity"),
        ({"directions": torch.eye(2, 3) * math.inf}, "directions: expected finite vectors"),
        ({"directions": torch.eye(3)[1:] * torch.eye(3)[2]}, "directions: expected vectors of some length, got zero"),
        ({"start": 1.0, "stop": 1.0}, "start, stop: expected start < stop, got 1.0 and 1.0"),
        ({"start": math.nan}, "start, stop: expected start < stop, got nan"),
    ],
)
def test_bad_arguments(change, message):
    given = {
        "coefficients": torch.zeros(GRID.shape),
        "origins": torch.zeros(2, 3),
        "directions": torch.ones(2, 3),
        "grid": GRID,
    }
    with pytest.raises(ValueError, match=message):
        integrate(**(given | change))
