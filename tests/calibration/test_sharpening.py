"""The sharpness route: its measure is largest in the true geometry, its gradient true, and it finds the way there."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ellipsoids import line_integrals

from xrmflow.calibration.consistency import make_level
from xrmflow.calibration.gauge import ray_displacement_px
from xrmflow.calibration.sharpening import _gone, _share, _stages, _Way, accelerated, sharpen
from xrmflow.calibration.sharpness import NUMBERS, Coherence, sharper
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.perturbation import spline_drift
from xrmflow.geometry.scan import scan_geometry

COLS, ROWS, VIEWS, VOXEL = 48, 32, 60, 0.02


def misaligned(*, drift_px=0.0, jitter_px=0.0, **fields):
    rng = np.random.default_rng(3)
    shifts = spline_drift(torch.from_numpy(rng.uniform(-drift_px, drift_px, (7, 2))), VIEWS).numpy()
    shifts = shifts + rng.normal(0, jitter_px, shifts.shape)
    shifts -= shifts.mean(axis=0)
    given = {
        "beam": "cone",
        "angles_deg": tuple(np.arange(VIEWS) * 360.0 / VIEWS),
        "rows": ROWS,
        "cols": COLS,
        "pixel_mm": 3 * VOXEL,
        "source_to_axis_mm": 6.0,
        "source_to_detector_mm": 18.0,
        "centre_px": 24.3,
        "midplane_px": (ROWS - 1) / 2,
        "roll_deg": 1.1,
        "shift_u_px": tuple(shifts[:, 0]),
        "shift_v_px": tuple(shifts[:, 1]),
    }
    return Acquisition(**(given | fields))


def displacement(fitted, truth):
    grid = VolumeGrid((ROWS, COLS, COLS), VOXEL)
    return ray_displacement_px(scan_geometry(fitted), scan_geometry(truth), grid, points=100)


@pytest.mark.parametrize(("offset_px", "close_px"), [(0.0, 0.02), (4.0, 0.1)], ids=["middle", "offset detector"])
def test_views_hold_together_best_in_the_true_geometry(offset_px, close_px):
    truth = misaligned(centre_px=24.3 + offset_px)
    judge = Coherence(make_level(line_integrals(truth), truth, binning=2))
    right = judge.of(truth)
    for off in ({"centre_px": 0.5}, {"centre_px": -0.5}, {"roll_deg": 1.0}, {"roll_deg": -1.0}):
        ((name, by),) = off.items()
        assert judge.of(replace(truth, **{name: getattr(truth, name) + by})) < right
    near = sharper(judge, truth)
    assert not near.blind
    assert near.applied(truth).centre_px == pytest.approx(truth.centre_px, abs=close_px)
    assert near.applied(truth).roll_deg == pytest.approx(truth.roll_deg, abs=0.15)
    aside = replace(truth, centre_px=truth.centre_px + 0.4)
    assert sharper(judge, aside).applied(aside).centre_px == pytest.approx(truth.centre_px, abs=0.1)


def test_the_gradient_through_the_reconstruction_is_true():
    truth = misaligned()
    judge = Coherence(make_level(line_integrals(truth), truth, binning=2))
    off = replace(truth, centre_px=truth.centre_px + 1.0, roll_deg=truth.roll_deg + 2.0)
    coherence, by_view = judge.by_view(off)
    assert coherence == pytest.approx(judge.of(off), rel=1e-5)
    for k, (name, h) in enumerate(zip(NUMBERS, (0.1, 0.2), strict=True)):
        ahead, behind = (judge.of(replace(off, **{name: getattr(off, name) + s})) for s in (h, -h))
        assert by_view.sum(axis=0)[k] == pytest.approx((ahead - behind) / (2 * h), rel=0.06)


def test_acceleration_ends_a_creeping_iteration_at_once():
    """x -> A x + b with three slow directions is solved by the fourth step."""
    matrix, right = np.diag([0.9, 0.8, 0.5]), np.array([1.0, -2.0, 3.0])
    points, steps = [], []
    x = np.zeros(3)
    for _ in range(4):
        points.append(x)
        steps.append(matrix @ x + right - x)
        x = accelerated(points, steps)
    np.testing.assert_allclose(x, np.linalg.solve(np.eye(3) - matrix, right), rtol=1e-6)


def test_centre_and_roll_are_found_among_drift_and_jitter():
    truth = misaligned(drift_px=2.0, jitter_px=0.7)
    start = replace(truth, centre_px=(COLS - 1) / 2, roll_deg=0.0, shift_u_px=(), shift_v_px=())
    fit = sharpen(line_integrals(truth, noise=0.002), start)
    assert fit.trusted, fit.message
    assert fit.route == "sharpness"
    assert fit.operations <= 15
    for one, widest in zip(fit.estimates, (0.3, 1.0), strict=True):
        assert one.interval is not None
        assert abs(one.value - getattr(truth, one.name)) < one.interval < widest
    assert displacement(fit.acquisition, truth) < 0.1 < 1.0 < displacement(start, truth)


def test_of_two_ways_over_coarse_images_the_one_that_explains_more_is_gone_on_with():
    """Wide enough for two coarser sizes of images: with moves along rows on the coarsest, and without."""
    truth = misaligned(cols=128, pixel_mm=1.125 * VOXEL, centre_px=64.8, drift_px=2.0, jitter_px=0.7)
    start = replace(truth, centre_px=63.5, roll_deg=0.0, shift_u_px=(), shift_v_px=())
    data = line_integrals(truth, noise=0.002)
    fit = sharpen(data, start)
    assert [record["binning"] for record in fit.history] == [8, 8, 8, 4, 4, 2, 2]
    assert fit.trusted, fit.message
    assert fit.operations <= 15
    shares = [_share(_gone(_Way(start), data, _stages(start)[:-1], roll=True, shifts=True, still=k)) for k in (0, 1)]
    chosen = _gone(_Way(start), data, _stages(start)[:-1], roll=True, shifts=True, still=int(np.argmin(shares)))
    assert fit.history[:5] == chosen.history


def test_a_parallel_half_turn_keeps_its_geometry():
    fields = {"beam": "parallel", "pixel_mm": VOXEL, "source_to_axis_mm": None, "source_to_detector_mm": None}
    truth = misaligned(angles_deg=tuple(np.arange(VIEWS) * 180.0 / VIEWS), **fields)
    start = replace(truth, centre_px=truth.centre_px + 0.3)
    fit = sharpen(line_integrals(truth, noise=0.002), start)
    assert not fit.trusted
    assert fit.acquisition == start
    assert "sharpness hardly depends on the centre: geometry kept as it was" in fit.message


def test_projections_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"projections: expected shape \(view, row, col\)"):
        sharpen(np.zeros((VIEWS, ROWS, COLS - 1), np.float32), misaligned())
    with pytest.raises(ValueError, match="projections: expected an object in the beam"):
        sharpen(np.ones((VIEWS, ROWS, COLS), np.float32), misaligned())
