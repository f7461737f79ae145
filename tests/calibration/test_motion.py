from dataclasses import replace

import numpy as np
import pytest
import torch
from ellipsoids import line_integrals

from xrmflow.calibration import motion
from xrmflow.calibration.consistency import cropped, make_level
from xrmflow.calibration.gauge import ray_displacement_px
from xrmflow.calibration.motion import DIRECTIONS, fit_motion, generators, motion_profiles
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import moved, scan_geometry
from xrmflow.projectors.transform import project
from xrmflow.reconstruction.fdk import fdk

COLS, ROWS, VIEWS, VOXEL = 48, 32, 48, 0.02


def make(views=VIEWS):
    return Acquisition(
        beam="cone",
        angles_deg=tuple(np.arange(views) * 360 / views),
        rows=ROWS,
        cols=COLS,
        pixel_mm=3 * VOXEL,
        source_to_axis_mm=6.0,
        source_to_detector_mm=18.0,
        centre_px=(COLS - 1) / 2,
        midplane_px=(ROWS - 1) / 2,
    )


def moving(scan, shift_px=2.0, turn_deg=0.8):
    path = motion_profiles(scan.views, 5) @ np.random.default_rng(3).uniform(-1, 1, (4, 6))
    path /= np.abs(path).max(axis=0)
    return scan.with_object_motion(path * ([shift_px * VOXEL] * 3 + [turn_deg] * 3))


def displacement(one, other):
    grid = VolumeGrid((ROWS, COLS, COLS), VOXEL)
    return ray_displacement_px(scan_geometry(one), scan_geometry(other), grid, points=100)


def test_a_moving_object_is_seen_where_it_has_moved_to():
    """A small ball displaced in the volume is the same as an acquisition that says so."""
    scan, grid = make(), VolumeGrid((ROWS, COLS, COLS), VOXEL)
    volume = torch.zeros(grid.shape)
    volume[18, 20, 27] = 1.0
    two_up = torch.roll(volume, 2, dims=0)
    shift = np.zeros((VIEWS, 6))
    shift[:, 2] = 2 * VOXEL
    seen = project(volume, scan_geometry(scan.with_object_motion(shift)), grid)
    torch.testing.assert_close(seen, project(two_up, scan_geometry(scan), grid), atol=1e-6, rtol=1e-4)


def test_the_scan_of_a_moving_object_is_reconstructed_where_the_object_is_on_the_whole():
    scan, grid = make(views=90), VolumeGrid((ROWS, COLS, COLS), VOXEL)
    truth = moving(scan)
    still, found, blurred = (
        fdk(torch.from_numpy(line_integrals(one, noise=0.0)), scan_geometry(other), grid, window="hann")[10:-10]
        for one, other in ((scan, scan), (truth, truth), (truth, scan))
    )
    assert float((found - still).norm()) < 0.3 * float((blurred - still).norm())


def test_generators_are_derivatives_of_the_reprojected_volume():
    scan = moving(make())
    level = make_level(line_integrals(scan, noise=0.002), scan, binning=2)
    volume = level.reconstruct(level.images(scan)[0])
    for direction, found in enumerate(generators(level, volume)):
        h = 0.1 * level.grid.voxel_mm if direction < 3 else 0.2
        change = np.zeros(6)
        change[direction] = h
        ahead, behind = (
            project(volume, moved(level.geometry, shift_mm=turn[:3], turn_deg=turn[3:]), level.grid)
            for turn in (torch.from_numpy(change), torch.from_numpy(-change))
        )
        # A further motion of an object that has turned already is not quite a change of its motion, to about a degree.
        assert float((found - (ahead - behind) / (2 * h)).norm()) < 0.15 * float(found.norm()), DIRECTIONS[direction]


def test_levels_follow_the_motion_they_are_given():
    scan, truth = make(), moving(make())
    given = make_level(line_integrals(truth, noise=0.002), truth, binning=2)
    later = make_level(line_integrals(truth, noise=0.002), scan, binning=2, travel_px=2.0).at(truth)
    for name in ("source", "detector", "u", "v"):
        torch.testing.assert_close(getattr(later.geometry, name), getattr(given.geometry, name))
    torch.testing.assert_close(later.filtering, given.filtering)


def test_a_smaller_grid_holds_all_that_is_reconstructed():
    scan = make()
    level = make_level(line_integrals(scan, noise=0.002), scan, binning=2)
    places = torch.arange(COLS // 2) - (COLS // 2 - 1) / 2
    level = replace(level, inside=(torch.hypot(places[:, None], places) < 6).float())
    small, images = cropped(level), level.images(scan)[0]
    assert small.grid.shape == (level.grid.shape[0], 12, 12)
    torch.testing.assert_close(small.unexplained(images), level.unexplained(images), atol=1e-5, rtol=1e-3)


def test_profiles_leave_out_where_the_object_is_on_the_whole():
    profiles = motion_profiles(50, 7)
    assert profiles.shape == (50, 6)
    np.testing.assert_allclose(profiles.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(profiles.T @ profiles / 50, np.eye(6), atol=1e-12)


@pytest.fixture(scope="module")
def fitted():
    scan = make()
    truth = moving(scan)
    return scan, truth, fit_motion(line_integrals(truth, noise=0.002), scan, knots=5)


def test_a_motion_is_found(fitted):
    scan, truth, fit = fitted
    assert fit.trusted, fit.message
    assert displacement(scan, truth) > 1.0
    assert displacement(fit.acquisition, truth) < 0.3
    assert fit.inconsistent[1] < fit.inconsistent[0]
    assert fit.sharpness > 1
    np.testing.assert_allclose(fit.motion.mean(axis=0), 0, atol=1e-9)
    record = fit.to_dict()
    assert [one["name"] for one in record["trajectories"]] == list(DIRECTIONS)
    assert len(record["trajectories"][0]["band"]) == VIEWS


def test_a_motion_of_the_object_as_a_whole_changes_nothing_that_a_fit_sees():
    """An object that moves alike somewhere else is explained as well by the motion found for the first."""
    truth = moving(make())
    motion = truth.object_motion
    motion[:, :2] += 0.01, -0.01
    aside = truth.with_object_motion(motion)
    assert displacement(truth, aside) < 0.02


def test_steps_that_have_not_settled_are_no_fit(monkeypatch):
    monkeypatch.setattr(motion, "plan", lambda scan, knots: [motion.Part(2, 6, knots, 1, motion.DAMPING["coarse"])])
    scan = make()
    fit = fit_motion(line_integrals(moving(scan), noise=0.002), scan, knots=5)
    assert not fit.trusted
    assert "the last step still changed it much" in fit.message
    assert fit.acquisition == scan


def test_an_object_that_stands_still_is_left_alone():
    fit = fit_motion(line_integrals(make(), noise=0.002), make(), knots=4)
    assert fit.acquisition == make()
    assert fit.trusted
    assert "stood still" in fit.message


def test_nothing_to_see_changes_nothing():
    noise = np.random.default_rng(0).normal(0, 0.01, (VIEWS, ROWS, COLS)).astype(np.float32)
    fit = fit_motion(noise, make(), knots=4)
    assert fit.acquisition == make()
    assert not fit.trusted
    assert "geometry kept as it was" in fit.message


def test_arguments_are_checked():
    data = np.zeros((VIEWS, ROWS, COLS), np.float32)
    with pytest.raises(ValueError, match=r"projections: expected shape \(view, row, col\) = \(48, 32, 48\)"):
        fit_motion(data[1:], make())
    with pytest.raises(ValueError, match="knots: expected at least 4"):
        fit_motion(data, make(), knots=3)
