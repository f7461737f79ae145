"""Where rays pass, and the grid that covers it."""

import math

import numpy as np
import pytest
import torch

from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.trajectories import circular_cone, helical, parallel
from xrmflow.projectors.transform import project, project_adjoint
from xrmflow.reconstruction.iterative.region import field_of_view, inside_field_of_view, surrounding_grid

ANGLES = torch.linspace(0, 360, 13)[:-1]
DETECTOR = {"rows": 8, "cols": 20, "pixel_mm": 0.1}
FAR = {"source_to_axis_mm": 5.0, "source_to_detector_mm": 10.0}


def test_the_field_of_view_of_a_cone():
    """The outermost ray passes the axis at the sine of the fan angle; the middle one leaves the cylinder highest."""
    radius, low, high = field_of_view(circular_cone(ANGLES, **DETECTOR, **FAR))
    assert radius == pytest.approx(5 * 1.0 / math.hypot(1.0, 10.0))
    assert high == pytest.approx(0.4 * (5 + radius) / 10)
    assert low == pytest.approx(-high)


def test_the_field_of_view_of_a_parallel_beam_and_of_a_helix():
    radius, low, high = field_of_view(parallel(ANGLES, **DETECTOR, centre_px=7.5))
    assert radius == pytest.approx(0.1 * (20 - 0.5 - 7.5))
    assert (low, high) == (pytest.approx(-0.4), pytest.approx(0.4))
    flat = field_of_view(circular_cone(ANGLES, **DETECTOR, **FAR))
    climbing = field_of_view(helical(ANGLES, **DETECTOR, **FAR, pitch_mm=3.0))
    assert climbing[2] - climbing[1] == pytest.approx(flat[2] - flat[1] + 3.0 * 11 / 12)


def test_the_surrounding_grid_holds_every_ray_and_the_given_grid():
    geometry = circular_cone(ANGLES, **DETECTOR, **FAR)
    grid = VolumeGrid((3, 4, 6), 0.05, (0.1, -0.05, 0.02))
    wide, box = surrounding_grid(grid, geometry)
    assert tuple(len(range(*part.indices(size))) for part, size in zip(box, wide.shape, strict=True)) == grid.shape
    offset = np.array([part.start for part in box][::-1]) * 0.05
    np.testing.assert_allclose(np.array(wide.first_voxel_mm) + offset, grid.first_voxel_mm, atol=1e-12)
    radius, low, high = field_of_view(geometry)
    assert wide.face_mm(0) <= low
    assert wide.face_mm(wide.shape[0]) >= high
    # A disc that fills the field of view is seen in full: nothing of its line integrals is cut off.
    larger, _ = surrounding_grid(wide, geometry, padding=0.3)
    assert larger.shape[1] > wide.shape[1]
    assert larger.shape[0] >= wide.shape[0]
    inside = inside_field_of_view(wide, geometry)
    cut = inside_field_of_view(larger, geometry)
    lines = [project(mask.float(), geometry, on) for mask, on in ((inside, wide), (cut, larger))]
    torch.testing.assert_close(lines[0], lines[1], rtol=1e-4, atol=1e-5)
    area = int(inside[inside.shape[0] // 2].sum()) * 0.05**2
    assert radius == pytest.approx(math.sqrt(area / math.pi), rel=0.03)


def test_a_grid_that_covers_it_all_stays_as_it_is():
    geometry = circular_cone(ANGLES, **DETECTOR, **FAR)
    grid = VolumeGrid((10, 22, 22), 0.05)
    wide, box = surrounding_grid(grid, geometry)
    assert wide == grid
    assert box == (slice(0, 10), slice(0, 22), slice(0, 22))


def test_rays_meet_nothing_outside_the_field_of_view():
    geometry = circular_cone(ANGLES, **DETECTOR, **FAR)
    grid = VolumeGrid((20, 30, 30), 0.05)
    seen = project_adjoint(torch.ones(12, 8, 20), geometry, grid) > 0
    x = 0.05 * (torch.arange(30) - 14.5)
    disc = (x**2 + x[:, None] ** 2).sqrt()
    radius, low, high = field_of_view(geometry)
    z = 0.05 * (torch.arange(20) - 9.5)
    reached = seen & (disc < radius)
    assert bool((z[reached.any(dim=2).any(dim=1)] <= high + 0.05).all())
    assert bool((z[reached.any(dim=2).any(dim=1)] >= low - 0.05).all())
