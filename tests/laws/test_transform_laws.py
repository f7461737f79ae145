"""Laws that hold whatever the data: adjoints, gradients, symmetries."""

import numpy as np
import pytest
import torch

from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import ScanGeometry, scan_geometry
from xrmflow.projectors.transform import backproject, project, project_adjoint

UPRIGHT, TURNED = {}, {"roll_deg": 2.0, "tilt_deg": 3.0, "slant_deg": 1.0, "skew_deg": 0.5}
ORIENTATIONS = pytest.mark.parametrize("turned", [UPRIGHT, TURNED], ids=["upright", "turned"])
BEAMS = pytest.mark.parametrize("beam", ["cone", "parallel"])


def scan(beam="cone", views=7, rows=9, cols=11, scale=1.0, shifts=True, **turned):
    rng = np.random.default_rng(0)
    far = {"cone": (40.0 * scale, 60.0 * scale), "parallel": (None, None)}[beam]
    angles = np.linspace(0, 360, views, endpoint=False) + (3.0 if shifts else 0.0)
    shift_u, shift_v = (tuple(rng.normal(size=views)) if shifts else () for _ in range(2))
    return scan_geometry(
        Acquisition(
            beam=beam,
            angles_deg=tuple(angles),
            rows=rows,
            cols=cols,
            pixel_mm=1.6 * scale,
            source_to_axis_mm=far[0],
            source_to_detector_mm=far[1],
            centre_px=(cols - 1) / 2 + (0.3 if shifts else 0.0),
            midplane_px=(rows - 1) / 2 - (0.2 if shifts else 0.0),
            shift_u_px=shift_u,
            shift_v_px=shift_v,
            **turned,
        )
    )


def random(shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def mismatch(ax, y, x, aty):
    """|<Ax, y> - <x, A'y>| over |Ax| |y|."""
    left, right = ((a.double() * b.double()).sum() for a, b in ((ax, y), (x, aty)))
    return float((left - right).abs() / (ax.double().norm() * y.double().norm()))


@BEAMS
@ORIENTATIONS
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize(
    "grid", [VolumeGrid((9, 13, 10), 1.07, (0.3, 0.2, -0.4)), VolumeGrid((1, 5, 6), 2.9), VolumeGrid((67, 4, 5), 0.6)]
)
def test_adjoints(beam, turned, dtype, limit, grid):
    geometry = scan(beam, **turned)
    x = random(grid.shape, dtype)
    y = random((geometry.views, geometry.rows, geometry.cols), dtype, seed=1).requires_grad_()
    ax = project(x, geometry, grid)
    assert float(ax.abs().max()) > 1
    assert mismatch(ax, y.detach(), x, project_adjoint(y.detach(), geometry, grid)) < limit
    by = backproject(y, geometry, grid)
    by.backward(x)
    assert mismatch(by.detach(), x, y.detach(), y.grad) < limit


@BEAMS
@ORIENTATIONS
def test_first_and_second_gradients(beam, turned):
    geometry, grid = scan(beam, views=2, rows=3, cols=4, **turned), VolumeGrid((3, 4, 3), 1.5)
    volume = random(grid.shape).requires_grad_()
    projections = random((2, 3, 4)).requires_grad_()
    for operator, data in ((project, volume), (project_adjoint, projections), (backproject, projections)):
        squared = lambda d, operator=operator: operator(d, geometry, grid) ** 2  # noqa: E731
        assert torch.autograd.gradcheck(squared, data)
        assert torch.autograd.gradgradcheck(squared, data)


@BEAMS
@ORIENTATIONS
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_unit_of_length_does_not_matter(beam, turned, scale):
    """Lengths times s and attenuation over s: the same line integrals."""
    grid, scaled = (
        VolumeGrid((9, 13, 10), 1.07, (0.3, 0.2, -0.4)),
        VolumeGrid((9, 13, 10), 1.07 * scale, (0.3 * scale, 0.2 * scale, -0.4 * scale)),
    )
    volume = random(grid.shape, torch.float32).abs()
    expected = project(volume, scan(beam, **turned), grid)
    got = project(volume / scale, scan(beam, scale=scale, **turned), scaled)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5 * float(expected.max()))
    data = random(expected.shape, torch.float32)
    expected = backproject(data, scan(beam, **turned), grid)
    got = backproject(data, scan(beam, scale=scale, **turned), scaled)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@BEAMS
def test_turning_the_object_by_one_view_permutes_the_views(beam):
    geometry, grid = scan(beam, views=4, shifts=False), VolumeGrid((5, 8, 8), 1.1)
    volume = random(grid.shape, torch.float32)
    # A quarter turn counter-clockwise seen from +z takes +x to +y: rot90 from axis x (2) to axis y (1).
    turned = torch.rot90(volume, 1, (2, 1))
    expected = project(volume, geometry, grid).roll(1, dims=0)
    torch.testing.assert_close(project(turned, geometry, grid), expected, rtol=1e-4, atol=1e-4)
    data = random(expected.shape, torch.float32)
    expected = torch.rot90(backproject(data, geometry, grid), 1, (2, 1))
    torch.testing.assert_close(backproject(data.roll(1, dims=0), geometry, grid), expected, rtol=1e-4, atol=1e-4)


def far_cone(parallel, distance):
    """The cone-beam scan whose source is `distance` away and whose detector stands where the parallel one stands."""
    return ScanGeometry(
        "cone", -parallel.source * distance, parallel.detector, parallel.u, parallel.v, parallel.rows, parallel.cols
    )


@ORIENTATIONS
def test_parallel_is_a_cone_with_a_far_source(turned):
    geometry, grid = scan("parallel", **turned), VolumeGrid((9, 13, 10), 1.07)
    volume = random(grid.shape).abs()
    far = far_cone(geometry, 1e9)
    expected = project(volume, geometry, grid)
    torch.testing.assert_close(project(volume, far, grid), expected, rtol=0, atol=1e-5 * float(expected.max()))
    data = random(expected.shape)
    expected = backproject(data, geometry, grid)
    torch.testing.assert_close(backproject(data, far, grid), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@ORIENTATIONS
def test_the_number_of_threads_does_not_change_a_bit(turned):
    geometry, grid = scan(**turned), VolumeGrid((9, 13, 10), 1.07)
    volume, data = random(grid.shape, torch.float32), random((7, 9, 11), torch.float32)
    results, threads = [], torch.get_num_threads()
    for number in (1, 3):
        torch.set_num_threads(number)
        results.append(
            [project(volume, geometry, grid), project_adjoint(data, geometry, grid), backproject(data, geometry, grid)]
        )
    torch.set_num_threads(threads)
    for one, three in zip(*results, strict=True):
        assert torch.equal(one, three)
