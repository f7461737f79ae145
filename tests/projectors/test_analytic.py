"""Joseph's line integrals against the exact ones of ellipsoids."""

import numpy as np
import pytest
import torch

from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import scan_geometry
from xrmflow.projectors.analytic import ellipsoid, project_ellipsoid
from xrmflow.projectors.transform import project

BODY = {"centre_mm": (3.0, -2.0, 1.5), "semi_axes_mm": (14.0, 9.0, 11.0), "turn_rad": 0.4, "attenuation_per_mm": 0.05}


def scan(beam, **turned):
    return scan_geometry(
        Acquisition(
            beam=beam,
            angles_deg=tuple(np.linspace(0, 360, 5, endpoint=False) + 5),
            rows=48,
            cols=64,
            pixel_mm=1.6 if beam == "cone" else 1.0,
            source_to_axis_mm=200.0 if beam == "cone" else None,
            source_to_detector_mm=300.0 if beam == "cone" else None,
            centre_px=31.0,
            midplane_px=23.2,
            shift_u_px=tuple(np.linspace(-1, 1, 5)),
            **turned,
        )
    )


@pytest.fixture(scope="module")
def body():
    grid = VolumeGrid((120, 150, 150), 0.25)
    return ellipsoid(grid, **BODY, samples=2).float(), grid


@pytest.mark.parametrize("beam", ["cone", "parallel"])
@pytest.mark.parametrize("turned", [{}, {"roll_deg": 2.0, "tilt_deg": 3.0}])
def test_line_integrals_of_an_ellipsoid(beam, turned, body):
    geometry = scan(beam, **turned)
    exact = project_ellipsoid(geometry, **BODY)
    error = (project(body[0], geometry, body[1]) - exact) / exact.max()
    # At the very limb a chord falls to zero like a square root, which no voxels can follow.
    assert float(error[exact > 0.1 * exact.max()].square().mean().sqrt()) < 0.003
    assert float(error[exact > 0.3 * exact.max()].square().mean().sqrt()) < 0.0015
    assert float(error.mean().abs()) < 5e-4


def test_chord_through_a_ball_is_its_diameter():
    geometry = scan("cone")
    ball = project_ellipsoid(geometry, centre_mm=(0, 0, 0), semi_axes_mm=(5.0, 5.0, 5.0), attenuation_per_mm=0.1)
    # In the view without a shift (the middle one) the central ray hits column 31, between rows 23 and 24.
    assert float(ball[2].max()) == pytest.approx(1.0, rel=1e-3)
    assert np.unravel_index(int(ball[2].argmax()), (48, 64)) == (23, 31)


def test_volume_of_a_voxelised_ellipsoid():
    grid = VolumeGrid((80, 80, 80), 0.5)
    total = ellipsoid(grid, **BODY, samples=3).sum() * grid.voxel_mm**3
    assert float(total) == pytest.approx(0.05 * 4 / 3 * torch.pi * 14 * 9 * 11, rel=2e-3)
