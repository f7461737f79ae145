"""Laws of the B-spline transform that hold whatever the data."""

import numpy as np
import pytest
import torch

from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import scan_geometry
from xrmflow.projectors.splines import project, project_adjoint

UPRIGHT, TURNED = {}, {"roll_deg": 2.0, "tilt_deg": 3.0, "slant_deg": 1.0, "skew_deg": 0.5}
ORIENTATIONS = pytest.mark.parametrize("turned", [UPRIGHT, TURNED], ids=["upright", "turned"])
BEAMS = pytest.mark.parametrize("beam", ["cone", "parallel"])
GRIDS = [VolumeGrid((9, 13, 10), 1.07, (0.3, 0.2, -0.4)), VolumeGrid((1, 5, 6), 2.9), VolumeGrid((37, 4, 5), 0.6)]


def scan(beam="cone", views=5, rows=9, cols=11, scale=1.0, first_deg=3.0, **turned):
    far = {"cone": (40.0 * scale, 60.0 * scale), "parallel": (None, None)}[beam]
    angles = np.linspace(0, 360, views, endpoint=False) + first_deg
    middle = ((cols - 1) / 2, (rows - 1) / 2)
    return scan_geometry(Acquisition(beam, tuple(angles), rows, cols, 1.6 * scale, *far, *middle, **turned))


def random(shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@BEAMS
@ORIENTATIONS
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("first_deg", [0.0, 3.0], ids=["along axes", "between"])
def test_adjoints(beam, turned, degree, dtype, limit, first_deg):
    geometry = scan(beam, first_deg=first_deg, **turned)
    y = random((geometry.views, geometry.rows, geometry.cols), dtype, seed=1)
    for grid in GRIDS:
        x = random(grid.shape, dtype)
        ax, aty = project(x, geometry, grid, degree=degree), project_adjoint(y, geometry, grid, degree=degree)
        left, right = ((a.double() * b.double()).sum() for a, b in ((ax, y), (x, aty)))
        assert float(ax.abs().max()) > 1
        assert float((left - right).abs() / (ax.double().norm() * y.double().norm())) < limit


@BEAMS
@ORIENTATIONS
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_unit_of_length_does_not_matter(beam, turned, scale):
    grid = VolumeGrid((9, 13, 10), 1.07, (0.3, 0.2, -0.4))
    scaled = VolumeGrid(grid.shape, 1.07 * scale, (0.3 * scale, 0.2 * scale, -0.4 * scale))
    volume = random(grid.shape, torch.float32)
    expected = project(volume, scan(beam, **turned), grid)
    got = project(volume / scale, scan(beam, scale=scale, **turned), scaled)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5 * float(expected.max()))


@BEAMS
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_turning_the_object_by_one_view_permutes_the_views(beam, degree):
    geometry, grid = scan(beam, views=4), VolumeGrid((5, 8, 8), 1.1)
    volume = random(grid.shape)
    expected = project(volume, geometry, grid, degree=degree).roll(1, dims=0)
    got = project(torch.rot90(volume, 1, (2, 1)), geometry, grid, degree=degree)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
