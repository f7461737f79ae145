"""Laws of the transform in every kind of scan, and of its gradients to the geometry, whatever the data."""

from dataclasses import replace

import pytest
import torch

from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.perturbation import perturbed
from xrmflow.geometry.scan import ScanGeometry
from xrmflow.geometry.trajectories import circular_cone, helical, offset_detector, parallel
from xrmflow.projectors.transform import backproject, backproject_adjoint, project, project_adjoint

GRID = VolumeGrid((9, 13, 10), 1.07, (0.3, 0.2, -0.4))
ANGLES = torch.arange(5, dtype=torch.float64) * 71 + 3
TALL = {"rows": 41, "cols": 7, "pixel_mm": 1.7}
CONE = {"source_to_axis_mm": 40.0, "source_to_detector_mm": 60.0}
TURNED = {"roll_deg": 2.0, "tilt_deg": 3.0, "slant_deg": 1.0}
VECTORS = ("source", "detector", "u", "v")
OPERATORS = pytest.mark.parametrize("operator", [project, project_adjoint, backproject, backproject_adjoint])


def random(shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def jittered(geometry):
    return perturbed(geometry, shifts_px=random((5, 2)), source_mm=random((5, 3), seed=1))


def anywhere():
    """Views from random directions, along the axis too."""
    towards = random((5, 3))
    towards[0] = torch.tensor([0.1, 0.05, 1.0])
    towards = torch.nn.functional.normalize(towards, dim=1)
    u = torch.linalg.cross(towards, random((5, 3), seed=1))
    return ScanGeometry("cone", -40 * towards, 20 * towards + 0.4, u, 0.9 * torch.linalg.cross(towards, u), 9, 11)


CIRCLE = circular_cone(ANGLES, **TALL, **CONE)
SCANS = {
    "cone": CIRCLE,
    "parallel": parallel(ANGLES, **TALL),
    "helical": helical(ANGLES, **TALL, **CONE, pitch_mm=4.0),
    "offset": offset_detector(ANGLES, **TALL, **CONE, offset_px=3.3),
    "tilted": perturbed(CIRCLE, **TURNED),
    "tilted-parallel": perturbed(parallel(ANGLES, **TALL), **TURNED),
    "jittered": jittered(CIRCLE),
    "truncated": circular_cone(ANGLES, rows=3, cols=3, pixel_mm=1.3, **CONE),
    "leaning-axis": perturbed(CIRCLE, axis_lean_deg=torch.tensor([2.0, 1.0])),
    "upside-down": perturbed(CIRCLE, roll_deg=180.0),
    "anywhere": anywhere(),
}
EACH = pytest.mark.parametrize("name", SCANS)


@EACH
@pytest.mark.parametrize("shape", [(9, 13, 10), (1, 5, 7), (67, 4, 5)])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_adjoints_of_batches(name, shape, dtype, limit):
    geometry, grid = SCANS[name], VolumeGrid(shape, 0.9, (0.3, 0.2, -0.4))
    x = random((2, 1, *shape), dtype)
    y = random((2, 1, geometry.views, geometry.rows, geometry.cols), dtype, seed=1)
    for forward, adjoint in ((project, project_adjoint), (backproject_adjoint, backproject)):
        ax, aty = forward(x, geometry, grid), adjoint(y, geometry, grid)
        assert (ax.shape, aty.shape) == (y.shape, x.shape)
        assert float(ax.abs().max()) > 0.5
        left, right = ((a.double() * b.double()).sum((1, 2, 3, 4)) for a, b in ((ax, y), (x, aty)))
        assert float((left - right).abs().max() / (ax.double().norm() * y.double().norm())) < limit
        torch.testing.assert_close(ax[1, 0], forward(x[1, 0], geometry, grid), rtol=0, atol=0)


def gradients(operator, geometry, grid=GRID):
    """Of the operator's result, weighted, to the vectors of the geometry."""
    geometry = replace(geometry, **{name: getattr(geometry, name).clone().requires_grad_() for name in VECTORS})
    volume, data = random(grid.shape), random((geometry.views, geometry.rows, geometry.cols), seed=1)
    given, weights = (volume, data) if operator in (project, backproject_adjoint) else (data, volume)
    vectors = [getattr(geometry, name) for name in VECTORS]
    return torch.autograd.grad((operator(given, geometry, grid) * weights).sum(), vectors)


def size(*gradients):
    return sum(float(g.abs().max()) for g in gradients)


@OPERATORS
@EACH
def test_a_detector_moved_along_its_rays_changes_nothing(operator, name):
    """Away from the source and larger in proportion; for parallel rays just away."""
    geometry = SCANS[name]
    source, detector, u, v = gradients(operator, geometry)
    if geometry.beam == "parallel":
        change = (detector * geometry.source).sum(dim=1)
    else:
        change = (detector * (geometry.detector - geometry.source) + u * geometry.u + v * geometry.v).sum(dim=1)
    assert float(change.abs().max()) < 1e-10 * size(source, detector, u, v)


@OPERATORS
@EACH
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_gradients_do_not_depend_on_the_unit_of_length(operator, name, scale):
    """Lengths times s: slopes over s, and line integrals times s."""
    geometry, grid = (
        SCANS[name],
        VolumeGrid(GRID.shape, GRID.voxel_mm * scale, tuple(scale * x for x in GRID.centre_mm)),
    )
    longer = {key: getattr(geometry, key) * scale for key in VECTORS if (geometry.beam, key) != ("parallel", "source")}
    wanted, got = gradients(operator, geometry), gradients(operator, replace(geometry, **longer), grid)
    factor = scale if operator in (project, project_adjoint) else 1.0
    for key, mine, expected in zip(VECTORS, got, wanted, strict=True):
        mine = mine * (scale if key in longer else 1.0) / factor
        torch.testing.assert_close(mine, expected, rtol=0, atol=1e-8 * size(expected))


@OPERATORS
def test_gradients_of_views_do_not_depend_on_each_other(operator):
    geometry = SCANS["tilted"]
    whole = gradients(project, geometry)
    order = torch.tensor([3, 1, 4, 0, 2])
    volume, data = random(GRID.shape), random((5, 41, 7), seed=1)[order]
    given, weights = (volume, data) if operator in (project, backproject_adjoint) else (data, volume)
    permuted = geometry.with_views(order)
    permuted = replace(permuted, detector=permuted.detector.requires_grad_())
    (got,) = torch.autograd.grad((operator(given, permuted, GRID) * weights).sum(), permuted.detector)
    wanted = whole[1] if operator in (project, project_adjoint) else gradients(backproject, geometry)[1]
    torch.testing.assert_close(got, wanted[order])


def test_a_voxel_is_seen_on_the_side_where_it_is():
    """Right-handed: at 0 degrees columns grow with x, at 90 degrees (source at +x) with y; rows with z always."""
    grid = VolumeGrid((9, 9, 9), 1.0)
    geometry = circular_cone(torch.tensor([0.0, 90.0]), rows=15, cols=15, pixel_mm=1.5, **CONE)
    for (z, y, x), columns, row in (((4, 4, 7), (10, 7), 7), ((4, 7, 4), (7, 10), 7), ((6, 4, 4), (7, 7), 9)):
        volume = torch.zeros(grid.shape)
        volume[z, y, x] = 1.0
        for view, column in zip(project(volume, geometry, grid), columns, strict=True):
            assert divmod(int(view.argmax()), 15) == (row, column)
