from dataclasses import replace

import numpy as np
import pytest
import torch

from xrmflow.calibration.gauge import (
    absorbed_along_columns,
    absorbed_along_rows,
    best_motion,
    free_profiles,
    ray_displacement_px,
    seen_by_moved,
    unabsorbed,
)
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.perturbation import spline_drift
from xrmflow.geometry.scan import moved, scan_geometry
from xrmflow.projectors.analytic import project_ellipsoid

VIEWS, ROWS, COLS = 24, 20, 30
GRID = VolumeGrid((ROWS, COLS, COLS), 0.01)
ANGLES = np.arange(VIEWS) * 360 / VIEWS


def make(beam="cone", source_mm=3.0, **fields):
    cone = beam == "cone"
    given = {
        "beam": beam,
        "angles_deg": tuple(ANGLES),
        "rows": ROWS,
        "cols": COLS,
        "pixel_mm": 0.03 if cone else 0.01,
        "source_to_axis_mm": source_mm if cone else None,
        "source_to_detector_mm": 3 * source_mm if cone else None,
        "centre_px": 14.2,
        "midplane_px": 9.1,
    }
    return Acquisition(**(given | fields))


def geometry(*arguments, **fields):
    return scan_geometry(make(*arguments, **fields))


def turn_matrix(turn_deg):
    x, y, z = np.radians(turn_deg)
    return torch.linalg.matrix_exp(torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64))


@pytest.mark.parametrize("beam", ["cone", "parallel"])
def test_a_moved_object_looks_as_if_the_scanner_had_moved_the_other_way(beam):
    shift, turn = torch.tensor([0.02, -0.01, 0.015]).double(), torch.tensor([3.0, -5.0, 8.0])
    centre = torch.tensor([0.03, 0.01, -0.02], dtype=torch.float64)
    there = turn_matrix(turn.tolist()) @ centre + shift
    axes = (0.05, 0.05, 0.05)
    of_moved_ball = project_ellipsoid(geometry(beam), centre_mm=tuple(there.tolist()), semi_axes_mm=axes)
    scanner = moved(geometry(beam), shift_mm=shift, turn_deg=turn)
    by_moved_scanner = project_ellipsoid(scanner, centre_mm=tuple(centre.tolist()), semi_axes_mm=axes)
    assert of_moved_ball.max() > 0.09
    torch.testing.assert_close(by_moved_scanner, of_moved_ball, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("beam", ["cone", "parallel"])
def test_a_motion_of_the_whole_object_is_no_error_of_the_geometry(beam):
    truth = geometry(beam, roll_deg=1.0, tilt_deg=2.0)
    shift, turn = torch.tensor([0.02, -0.03, 0.01]).double(), torch.tensor([1.0, -2.0, 3.0])
    seen = moved(truth, shift_mm=shift, turn_deg=turn)
    assert ray_displacement_px(seen, truth, GRID) < 1e-9
    # The motion found brings every point to where the moved scanner sees it as before: R m(x) + t = x.
    motion = best_motion(seen, truth, GRID)
    x = torch.tensor([0.04, -0.02, 0.05], dtype=torch.float64)
    there = turn_matrix(motion[3:6].tolist()) @ x + motion[:3]
    torch.testing.assert_close(turn_matrix(turn.tolist()) @ there + shift, x, rtol=0, atol=1e-9)


def test_a_wave_of_shifts_is_a_motion_of_the_object_in_a_narrow_beam():
    waves = absorbed_along_columns(ANGLES) @ [0.0, 2.0, -1.0]
    lifts = absorbed_along_rows(ANGLES) @ [1.5]
    changed = {"shift_u_px": tuple(waves), "shift_v_px": tuple(lifts)}
    assert ray_displacement_px(geometry("parallel", **changed), geometry("parallel"), GRID) < 1e-9
    assert ray_displacement_px(geometry(source_mm=300.0, **changed), geometry(source_mm=300.0), GRID) < 1e-3
    other = {"shift_u_px": tuple(np.cos(np.radians(2 * ANGLES)))}
    assert ray_displacement_px(geometry("parallel", **other), geometry("parallel"), GRID) == pytest.approx(
        np.sqrt(0.5), rel=0.01
    )


def test_a_wrong_centre_is_displaced_by_as_much():
    assert ray_displacement_px(geometry("parallel", centre_px=14.7), geometry("parallel"), GRID) == pytest.approx(0.5)


def test_distances_and_size_go_together():
    larger = make(source_mm=3.3, pixel_mm=0.033)
    assert ray_displacement_px(scan_geometry(larger), geometry(), GRID) > 0.01
    assert ray_displacement_px(scan_geometry(larger), geometry(), GRID, deformed=True) < 1e-6


def test_a_tilt_of_the_detector_tapers_the_object_and_shows_nothing_else():
    tilted = geometry(source_mm=0.6, tilt_deg=2.0)
    assert ray_displacement_px(tilted, geometry(source_mm=0.6), GRID) > 0.02
    assert ray_displacement_px(tilted, geometry(source_mm=0.6), GRID, deformed=True) < 1e-6
    slanted = geometry(source_mm=0.6, slant_deg=2.0)
    assert ray_displacement_px(slanted, geometry(source_mm=0.6), GRID, deformed=True) > 0.02


def test_a_tilt_of_a_slanted_detector_skews_its_image_too():
    """By the product of both angles; nothing else is left of the tilt."""
    both = geometry(source_mm=0.6, tilt_deg=2.0, slant_deg=1.5)
    product = float(np.degrees(np.radians(2.0) * np.radians(1.5)))
    without, skewed = (geometry(source_mm=0.6, slant_deg=1.5, skew_deg=skew) for skew in (0.0, product))
    assert ray_displacement_px(without, both, GRID, deformed=True) > 0.004
    assert ray_displacement_px(skewed, both, GRID, deformed=True) < 1e-6


def test_best_motion_finds_a_deformation():
    change = torch.tensor([0.01, -0.02, 0.005, 1.0, 2.0, -1.0, 0.01, 0.03, 0.02], dtype=torch.float64)
    found = best_motion(geometry(), seen_by_moved(geometry(), change), GRID, deformed=True)
    torch.testing.assert_close(found, change, rtol=0, atol=1e-7)


def test_what_a_deformed_object_stands_for():
    """Voxels that move as each likes: a tilt and a size show nothing, a centre all of itself, others some of it."""
    scan = make(source_mm=0.6)
    places = torch.from_numpy(np.random.default_rng(0).uniform(-0.07, 0.07, (3, 40)))

    def left(**change):
        pair = [{name: getattr(scan, name) + sign * by for name, by in change.items()} for sign in (1, -1)]
        geometries = [scan_geometry(replace(scan, **fields)) for fields in pair]
        return float(unabsorbed([geometries], scan_geometry(scan), places).square().sum(dim=-1).mean().sqrt()) / 2

    assert left(tilt_deg=2.0) < 1e-5
    assert left(source_to_axis_mm=1e-4) < 1e-6
    assert left(centre_px=0.1) == pytest.approx(0.1, rel=0.02)
    assert 0.01 < left(slant_deg=2.0) < 0.03
    assert 0.05 < left(midplane_px=1.0) < 0.1
    assert 0.003 < left(source_to_axis_mm=0.006, source_to_detector_mm=0.018) < 0.006


def test_geometries_of_different_size_have_no_distance():
    with pytest.raises(ValueError, match="fitted: expected 24 views of 20 x 30 pixels"):
        ray_displacement_px(geometry(rows=19), geometry(), GRID)


def test_free_profiles_leave_out_what_a_motion_absorbs():
    splines = spline_drift(torch.eye(7, dtype=torch.float64), VIEWS).numpy()
    absorbed = absorbed_along_columns(ANGLES)
    free = free_profiles(splines, absorbed)
    np.testing.assert_allclose(free.T @ free, VIEWS * np.eye(free.shape[1]), atol=1e-9)
    np.testing.assert_allclose(free.T @ absorbed, 0, atol=1e-9)
    # Together they still say all that the splines said, but for combinations that hardly differ from a motion.
    both = np.linalg.qr(np.hstack([free, absorbed]))[0]
    assert np.linalg.norm(splines - both @ (both.T @ splines)) < 0.05 * np.linalg.norm(splines)
    assert 4 <= free.shape[1] <= 6
    assert free_profiles(absorbed, absorbed).shape == (VIEWS, 0)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"shift_mm: expected shape \(3,\) or \(24, 3\), got \(2,\)"):
        moved(geometry(), shift_mm=torch.zeros(2), turn_deg=torch.zeros(3))


def test_gradients_flow_to_the_motion():
    shift = torch.zeros(VIEWS, 3, dtype=torch.float64, requires_grad=True)
    turn = torch.full((VIEWS, 3), 0.1, dtype=torch.float64, requires_grad=True)

    def vectors(shift, turn):
        seen = moved(geometry(), shift_mm=shift, turn_deg=turn)
        return seen.source, seen.detector, seen.u, seen.v

    assert torch.autograd.gradcheck(vectors, (shift, turn))
