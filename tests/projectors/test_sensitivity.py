"""Gradients to the geometry: equal to those of the oracle, to finite differences, and through to every parameter."""

from functools import cache

import numpy as np
import pytest
import torch

from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import ScanGeometry, scan_geometry
from xrmflow.projectors import oracle
from xrmflow.projectors.transform import backproject, backproject_adjoint, project, project_adjoint

GRID = VolumeGrid((9, 13, 10), 1.07, (0.3, 0.2, -0.4))
VECTORS = ("source", "detector", "u", "v")
OPERATORS = pytest.mark.parametrize("operator", [project, project_adjoint, backproject, backproject_adjoint])


def scan(beam="cone", views=3, rows=9, cols=11, **turned):
    """Views at no special angle, so that no ray runs through voxel centres and no voxel onto a pixel's."""
    rng = np.random.default_rng(0)
    cone = beam == "cone"
    return scan_geometry(
        Acquisition(
            beam=beam,
            angles_deg=tuple(np.linspace(0, 360, views, endpoint=False) + 33),
            rows=rows,
            cols=cols,
            pixel_mm=1.6,
            source_to_axis_mm=40.0 if cone else None,
            source_to_detector_mm=60.0 if cone else None,
            centre_px=(cols - 1) / 2 + 0.3,
            midplane_px=(rows - 1) / 2 - 0.2,
            shift_u_px=tuple(rng.normal(size=views)),
            shift_v_px=tuple(rng.normal(size=views)),
            **turned,
        )
    )


def from_below(beam):
    """Rays along the rotation axis."""
    towards = torch.nn.functional.normalize(
        torch.tensor([[0.05, 0.02, 1.0], [0.3, -0.1, -1.0]], dtype=torch.float64), dim=1
    )
    u = torch.linalg.cross(towards, torch.tensor([[0.3, 1.0, 0.2]], dtype=torch.float64).expand(2, 3))
    source = -40 * towards if beam == "cone" else towards
    return ScanGeometry(beam, source, 20 * towards + 0.4, u, 0.9 * torch.linalg.cross(towards, u), 9, 11)


SCANS = {
    f"{beam}-{name}": make
    for beam in ("cone", "parallel")
    for name, make in {
        "upright": lambda beam=beam: scan(beam),
        "turned": lambda beam=beam: scan(beam, roll_deg=2.0, tilt_deg=3.0, slant_deg=1.0),
        "upside-down": lambda beam=beam: scan(beam, roll_deg=180.0),
        "from-below": lambda beam=beam: from_below(beam),
    }.items()
}


def random(shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def asking(geometry):
    """The same geometry, whose vectors want gradients."""
    vectors = {name: getattr(geometry, name).clone().requires_grad_() for name in VECTORS}
    return ScanGeometry(geometry.beam, **vectors, rows=geometry.rows, cols=geometry.cols), list(vectors.values())


def pair(operator, geometry, grid, dtype=torch.float64):
    """Data for an operator, and weights for its result."""
    volume, data = random(grid.shape), random((geometry.views, geometry.rows, geometry.cols), seed=1)
    volume, data = volume.to(dtype), data.to(dtype)
    return (volume, data) if operator in (project, backproject_adjoint) else (data, volume)


def loss(operator, data, weights, geometry, grid):
    """<operator(data), weights>, by the transform, or the oracle if `operator` is one of its functions."""
    return (operator(data, geometry, grid).double() * weights.double()).sum()


@cache
def oracle_gradients(operator, make, grid):
    """To the vectors, of <operator(data), weights> for the data and weights of `pair`."""
    geometry, vectors = asking(make())
    slow = {project: oracle.project, backproject: oracle.backproject}[operator]
    return torch.autograd.grad(loss(slow, *pair(operator, geometry, grid), geometry, grid), vectors)


def assert_gradients_equal_the_oracle(operator, make, grid, dtype, limit):
    geometry, vectors = asking(make())
    got = torch.autograd.grad(loss(operator, *pair(operator, geometry, grid, dtype), geometry, grid), vectors)
    # An adjoint is the same pairing, read the other way.
    same = {project_adjoint: project, backproject_adjoint: backproject}.get(operator, operator)
    for mine, theirs in zip(got, oracle_gradients(same, make, grid), strict=True):
        assert float(theirs.abs().max()) > 0
        torch.testing.assert_close(mine, theirs, rtol=0, atol=limit * float(theirs.abs().max()))


TYPES = pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])


@OPERATORS
@pytest.mark.parametrize("name", SCANS)
@TYPES
def test_gradients_to_every_vector_equal_the_oracle(operator, name, dtype, limit):
    assert_gradients_equal_the_oracle(operator, SCANS[name], GRID, dtype, limit)


TALL = {
    "upright": lambda: scan(views=2, rows=61),
    "upside-down": lambda: scan(views=2, rows=61, roll_deg=180.0),
    "turned": lambda: scan(views=2, rows=61, roll_deg=2.0, tilt_deg=3.0, slant_deg=1.0),
    "turned-parallel": lambda: scan("parallel", views=2, rows=61, roll_deg=2.0, tilt_deg=3.0, slant_deg=1.0),
}


@OPERATORS
@pytest.mark.parametrize("name", TALL)
@pytest.mark.parametrize("voxel_mm", [0.2, 0.8, 2.5])
@TYPES
def test_gradients_of_tall_columns_equal_the_oracle(operator, name, voxel_mm, dtype, limit):
    """Columns long enough for vector registers, at pitches below one, about one, and too large for them."""
    grid = VolumeGrid((83, 5, 4), voxel_mm, (0.3, 0.2, -0.4))
    assert_gradients_equal_the_oracle(operator, TALL[name], grid, dtype, limit)


@OPERATORS
def test_a_gradient_of_the_gradient_to_the_geometry_is_refused(operator):
    geometry, vectors = asking(scan())
    data, weights = pair(operator, geometry, GRID)
    first = torch.autograd.grad(
        loss(operator, data, weights.requires_grad_(), geometry, GRID), vectors[1:2], create_graph=True
    )
    with pytest.raises(RuntimeError, match="geometry: expected to be differentiated once"):
        torch.autograd.grad(first[0].sum(), weights)


@OPERATORS
def test_data_stay_twice_differentiable_where_the_geometry_wants_gradients(operator):
    grid = VolumeGrid((3, 4, 3), 1.5)
    geometry, _ = asking(scan(views=2, rows=3, cols=4))
    data, _ = pair(operator, geometry, grid)
    squared = lambda d: operator(d, geometry, grid) ** 2  # noqa: E731
    assert torch.autograd.gradgradcheck(squared, data.requires_grad_())


@OPERATORS
def test_a_gradient_to_the_data_has_one_to_the_geometry(operator):
    """Of the length of A'y, the gradient to y of <A x, y> = <x, A'y> at given x: both ways the same."""
    geometry, vectors = asking(scan(roll_deg=1.0))
    data, weights = pair(operator, geometry, GRID)
    data.requires_grad_()
    (by_data,) = torch.autograd.grad(loss(operator, data, weights, geometry, GRID), data, create_graph=True)
    got = torch.autograd.grad((by_data * data.detach()).sum(), vectors, allow_unused=True)
    wanted = torch.autograd.grad(loss(operator, data, weights, geometry, GRID), vectors, allow_unused=True)
    for mine, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


@OPERATORS
def test_batches_add_up(operator):
    geometry, vectors = asking(scan())
    pairs = [pair(operator, geometry, GRID), [x.flip(0, 1) for x in pair(operator, geometry, GRID)]]
    data, weights = (torch.stack(parts)[:, None] for parts in zip(*pairs, strict=True))
    got = torch.autograd.grad(loss(operator, data, weights, geometry, GRID), vectors)
    single = [torch.autograd.grad(loss(operator, *one, geometry, GRID), vectors) for one in pairs]
    for mine, *parts in zip(got, *single, strict=True):
        torch.testing.assert_close(mine, sum(parts))


@OPERATORS
def test_the_number_of_threads_does_not_change_a_bit(operator):
    geometry, vectors = asking(scan(roll_deg=1.0))
    data, weights = pair(operator, geometry, GRID, torch.float32)
    results, threads = [], torch.get_num_threads()
    for number in (1, 3):
        torch.set_num_threads(number)
        results.append(torch.autograd.grad(loss(operator, data, weights, geometry, GRID), vectors))
    torch.set_num_threads(threads)
    for one, three in zip(*results, strict=True):
        assert torch.equal(one, three)
