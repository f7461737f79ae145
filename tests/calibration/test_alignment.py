import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from ellipsoids import line_integrals

from xrmflow.calibration import alignment
from xrmflow.calibration.alignment import align, mismatch_px
from xrmflow.calibration.consistency import make_level, supported
from xrmflow.calibration.gauge import ray_displacement_px
from xrmflow.calibration.joint import (
    FLOOR_PX,
    KNOWN,
    TRUNCATED_FLOOR_PX,
    conjugate_gradients,
    loss,
    make_model,
    smallest,
    step,
)
from xrmflow.calibration.pose import NUMBERS, changed, number_of
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.perturbation import spline_drift
from xrmflow.geometry.scan import scan_geometry

COLS, ROWS, VIEWS, VOXEL = 48, 32, 60, 0.02


def make(beam="cone", arc_deg=360.0, views=VIEWS, rows=ROWS, **fields):
    cone = beam == "cone"
    given = {
        "beam": beam,
        "angles_deg": tuple(np.arange(views) * arc_deg / views),
        "rows": rows,
        "cols": COLS,
        "pixel_mm": 3 * VOXEL if cone else VOXEL,
        "source_to_axis_mm": 6.0 if cone else None,
        "source_to_detector_mm": 18.0 if cone else None,
        "centre_px": (COLS - 1) / 2,
        "midplane_px": (rows - 1) / 2,
    }
    return Acquisition(**(given | fields))


def misaligned(drift_px=2.0, jitter_px=0.7, **fields):
    rng = np.random.default_rng(3)
    smooth = spline_drift(torch.from_numpy(rng.uniform(-drift_px, drift_px, (7, 2))), fields.get("views", VIEWS))
    shifts = smooth.numpy() + rng.normal(0, jitter_px, smooth.shape)
    shifts -= shifts.mean(axis=0)
    pose = {"centre_px": 24.3, "roll_deg": 1.1, "tilt_deg": 0.8, "slant_deg": -0.9}
    return make(**fields, **pose, shift_u_px=tuple(shifts[:, 0]), shift_v_px=tuple(shifts[:, 1]))


def nominal(acquisition):
    still = {"roll_deg": 0.0, "tilt_deg": 0.0, "slant_deg": 0.0, "shift_u_px": (), "shift_v_px": ()}
    return replace(acquisition, centre_px=(COLS - 1) / 2, **still)


def displacement(fitted, truth, **options):
    grid = VolumeGrid((truth.rows, COLS, COLS), VOXEL)
    return ray_displacement_px(scan_geometry(fitted), scan_geometry(truth), grid, points=100, **options)


@pytest.mark.parametrize("beam", ["cone", "parallel"])
def test_images_are_drawn_as_an_upright_detector_records_them(beam):
    truth = misaligned(beam=beam)
    upright = replace(nominal(truth), centre_px=truth.centre_px)
    drawn, seen = make_level(line_integrals(truth), truth, binning=2).images(truth)
    expected, _ = make_level(line_integrals(upright), upright, binning=2).images(upright)
    wrong, _ = make_level(line_integrals(truth), upright, binning=2).images(upright)
    error = ((drawn - expected) * seen).square().mean().sqrt()
    # What is left is aliasing: a point sample of a pixel does not band-limit the edges of ellipsoids.
    assert error < 0.07 * (wrong - expected).square().mean().sqrt()
    assert seen.mean() > 0.8


def test_few_rows_of_a_wide_detector_make_one_coarse_row():
    wide = replace(make(rows=2), cols=256, centre_px=127.5)
    data = np.random.default_rng(0).normal(1, 0.1, (VIEWS, 2, 256)).astype(np.float32)
    images, seen = make_level(data, wide, binning=8).images(wide)
    assert images.shape == (VIEWS, 1, 32)
    assert float(images.mean()) == pytest.approx(1.0, abs=0.01)
    assert seen.min() > 0


def test_transposes_are_transposes():
    level = supported(make_level(line_integrals(make()), make(), binning=2), make())
    generator = torch.Generator().manual_seed(0)
    shape = (VIEWS, ROWS // 2, COLS // 2)
    x, y = (torch.randn(shape, generator=generator) for _ in range(2))
    for forward, back in ((level.unexplained, level.unexplained_adjoint), (level.banded, level.banded_adjoint)):
        assert float((forward(x) * y).sum()) == pytest.approx(float((x * back(y)).sum()), rel=1e-3)


def test_the_true_geometry_leaves_little_unexplained():
    truth = misaligned()
    level = make_level(line_integrals(truth), truth, binning=2)
    right, start = (float(loss(level, one)[0].norm()) for one in (truth, nominal(truth)))
    assert right < 0.15 * start


def test_changes_of_numbers_are_the_derivatives_of_the_residual():
    truth = misaligned(drift_px=0.0, jitter_px=0.0)
    level = make_level(line_integrals(truth), truth, binning=2)
    seen = level.images(truth)[1]
    steps = {"centre_px": 0.2, "roll_deg": 0.1, "tilt_deg": 1.0, "slant_deg": 1.0, "midplane_px": 0.3}
    for name, h in (steps | {"source_to_detector_mm": 0.2}).items():
        column = level.banded(level.unexplained(level.changes(truth, [name])[0])) * seen
        ahead, behind = (loss(level, changed(truth, {name: s}))[0] for s in (h, -h))
        assert float(((ahead - behind) / (2 * h) - column).norm()) < 0.05 * float(column.norm()), name


def test_columns_from_nearby_speed_up_a_step_and_do_not_bend_it():
    """They only precondition: both go to the same solution."""
    truth = misaligned(views=30, rows=16)
    level = make_level(line_integrals(truth), truth, binning=2)
    model = make_model(truth, numbers=("centre_px", "roll_deg"), knots=5, jitter=True)
    nearby, here = replace(truth, centre_px=truth.centre_px + 0.8), replace(truth, centre_px=truth.centre_px + 0.4)
    columns = step(level, nearby, model, start=here).columns
    few, many = ({"start": here, "cg_steps": steps} for steps in (1, 60))
    fresh, kept = step(level, here, model, **many), step(level, here, model, columns=columns.clone(), **many)
    assert np.abs(kept.jitter_px - fresh.jitter_px).max() < 0.02 * np.abs(fresh.jitter_px).max()
    np.testing.assert_allclose(kept.change, fresh.change, rtol=0.02, atol=2e-3)
    assert step(level, here, model, columns=columns, **few).operations < step(level, here, model, **few).operations


def test_conjugate_gradients_solve():
    rng = np.random.default_rng(0)
    root = torch.from_numpy(rng.normal(size=(6, 6)))
    matrix, right = root @ root.T + torch.eye(6), torch.from_numpy(rng.normal(size=6))
    found = conjugate_gradients(lambda x: matrix @ x, right, lambda x: x / matrix.diagonal(), steps=20)
    torch.testing.assert_close(found, torch.linalg.solve(matrix, right))


def test_drift_and_jitter_are_found_to_a_small_part_of_a_pixel():
    truth = misaligned()
    start = nominal(truth)
    fit = align(line_integrals(truth, noise=0.002), start)
    assert fit.trusted, fit.message
    assert displacement(start, truth) > 1.0
    assert displacement(fit.acquisition, truth) < 0.05
    assert fit.acquisition.roll_deg == pytest.approx(1.1, abs=0.05)
    found = {one.name: one for one in fit.estimates}
    assert abs(found["centre_px"].value - truth.centre_px) < found["centre_px"].interval + 0.02
    assert abs(found["slant_deg"].value - truth.slant_deg) < found["slant_deg"].interval
    assert fit.mismatch_px[1] < 0.1 < fit.mismatch_px[0]
    assert fit.sharpness > 1
    # What data do not hold stays as it was, to the bit.
    for name in ("tilt_deg", "source_to_detector_mm", "source_to_axis_mm"):
        assert getattr(fit.acquisition, name) == getattr(start, name)
    assert "source to detector not observable" in fit.message


def test_a_wide_cone_holds_slant_and_midplane_but_no_tilt():
    """Tilted by 2 degrees, which no cone shows: what is left is a taper of the object."""
    wide = {"source_to_axis_mm": 1.0, "source_to_detector_mm": 3.0}
    truth = make(**wide, centre_px=24.3, roll_deg=1.0, tilt_deg=2.0, slant_deg=-1.7, midplane_px=17.0)
    start = make(**wide)
    fit = align(line_integrals(truth, noise=0.002), start, drift_knots=0, jitter=False)
    assert fit.trusted, fit.message
    found = {one.name: one for one in fit.estimates}
    for name in ("centre_px", "slant_deg", "midplane_px"):
        assert abs(found[name].value - getattr(truth, name)) < found[name].interval, name
    assert abs(fit.acquisition.slant_deg + 1.7) < 0.4
    assert not found["tilt_deg"].observable
    skew = found["skew_deg"]
    assert abs(skew.value - math.degrees(math.radians(2.0) * math.radians(-1.7))) < skew.interval
    assert displacement(fit.acquisition, truth, deformed=True) < 0.1 * displacement(start, truth, deformed=True)


@pytest.mark.parametrize("source_mm", [24.0, 6.0, 0.75])
def test_wider_cones_hold_more_and_none_a_tilt(source_mm):
    scan = make(source_to_axis_mm=source_mm, source_to_detector_mm=3 * source_mm)
    level = make_level(line_integrals(scan), scan, binning=2)
    error = smallest(level, scan, tuple(NUMBERS))
    known = {name for name in NUMBERS if error[name] < KNOWN * number_of(scan, name).prior} - {"skew_deg"}
    more = {24.0: set(), 6.0: {"slant_deg", "midplane_px"}, 0.75: {"slant_deg", "midplane_px", "source_to_detector_mm"}}
    assert known == {"centre_px", "roll_deg"} | more[source_mm]
    assert error["tilt_deg"] == math.inf


def test_a_change_of_distance_keeps_voxels():
    longer = changed(make(), {"source_to_detector_mm": 0.9})
    assert longer.source_to_detector_mm == pytest.approx(18.9)
    assert longer.voxel_mm == pytest.approx(make().voxel_mm, rel=1e-12)
    assert changed(make(), {"source_to_detector_mm": 0.0}) == make()


@pytest.mark.parametrize(
    "fields",
    [
        {"beam": "parallel", "arc_deg": 180.0},
        {"arc_deg": 215.0},
        {"views": 24},
        {"centre_offset": 9.0},
        {"rows": 1},
    ],
    ids=["parallel half turn", "short scan", "few views", "offset detector", "one row"],
)
def test_other_scans_are_made_no_worse(fields):
    offset = fields.pop("centre_offset", 0.0)
    truth = misaligned(drift_px=0.0, jitter_px=0.0, **fields)
    truth = replace(truth, centre_px=truth.centre_px + offset, tilt_deg=0.0, slant_deg=0.0)
    if fields.get("rows") == 1:
        truth = replace(truth, roll_deg=0.0)
    start = replace(truth, centre_px=truth.centre_px - 0.6, roll_deg=0.0)
    fit = align(line_integrals(truth, noise=0.002), start, drift_knots=0, jitter=False)
    assert displacement(fit.acquisition, truth) <= 0.5 * displacement(start, truth), fit.message


def test_nothing_to_see_changes_nothing():
    noise = np.random.default_rng(0).normal(0, 0.01, (VIEWS, ROWS, COLS)).astype(np.float32)
    fit = align(noise, make(), jitter=False)
    assert not fit.trusted
    assert fit.acquisition == make()
    assert "geometry kept as it was" in fit.message


def test_the_joint_fit_without_its_shifts_is_used_where_that_with_them_is_not(monkeypatch):
    """A fit with drift that must not be used is done again with centre and roll alone."""
    truth = misaligned(drift_px=0.0, jitter_px=0.0)
    start = replace(truth, centre_px=truth.centre_px - 0.6)
    judge = alignment.unusable

    def never_with_shifts(before, after, sharpness, disagreement, estimates):
        return "no" if len(estimates) > 2 else judge(before, after, sharpness, disagreement, estimates)

    monkeypatch.setattr(alignment, "unusable", never_with_shifts)
    fit = align(line_integrals(truth, noise=0.002), start, jitter=False)
    assert fit.trusted
    assert "without drift and jitter" in fit.message
    assert [one.name for one in fit.estimates] == ["centre_px", "roll_deg"]
    assert fit.acquisition.centre_px == pytest.approx(truth.centre_px, abs=0.1)


def test_a_fit_without_shifts_is_as_uncertain_as_that_with_them_disagrees():
    """In a parallel half turn a drift may stand for a wrong centre, and which of both it is nobody knows."""
    truth = misaligned(beam="parallel", arc_deg=180.0, drift_px=1.0)
    truth = replace(truth, tilt_deg=0.0, slant_deg=0.0)
    start = replace(truth, centre_px=truth.centre_px - 0.3, roll_deg=0.0, shift_u_px=(), shift_v_px=())
    data = line_integrals(truth, noise=0.002)
    fit, alone = align(data, start), align(data, start, drift_knots=0, jitter=False)
    assert "without drift and jitter, because with them" in fit.message
    (centre, roll), (plain, plain_roll) = (one.estimates[:2] for one in (fit, alone))
    assert centre.interval > plain.interval + 0.05
    assert roll.interval > plain_roll.interval
    assert abs(centre.value - truth.centre_px) < centre.interval


def test_an_object_cut_off_by_the_detector_is_known_less_certainly():
    narrow = replace(make(), cols=24, centre_px=11.5)
    whole, cut = (make_level(line_integrals(one), one, binning=1) for one in (make(), narrow))
    assert (whole.truncated, cut.truncated) == (False, True)
    floors = []
    for level, one in ((whole, make()), (cut, narrow)):
        floors.append(smallest(level, one, ("centre_px",))["centre_px"])
    assert FLOOR_PX < 5 * floors[0] < TRUNCATED_FLOOR_PX < floors[1]


def test_arguments_are_checked():
    data = np.zeros((VIEWS, ROWS, COLS), np.float32)
    with pytest.raises(ValueError, match=r"projections: expected shape \(view, row, col\) = \(60, 32, 48\)"):
        align(data[1:], make())
    with pytest.raises(ValueError, match=r"numbers: expected some of centre_px, .*, got lean_deg"):
        align(data, make(), numbers=("lean_deg",))
    with pytest.raises(ValueError, match="drift_knots: expected 0 or at least 4"):
        align(data, make(), drift_knots=3)
    with pytest.raises(ValueError, match=r"projections: expected shape \(view, row, col\) = \(60, 32, 48\)"):
        mismatch_px(data[1:], make())
    with pytest.raises(ValueError, match="projections: expected an object in the beam, got the same value everywhere"):
        align(data, make())
    with pytest.raises(ValueError, match="cols: expected at least 8 to find a geometry from, got 4"):
        align(data[..., :4], replace(make(), cols=4, centre_px=1.5))
    with pytest.raises(ValueError, match="angles_deg: expected views from several angles, got one"):
        align(data, replace(make(), angles_deg=(30.0,) * VIEWS))
    data[3, 4, 5] = np.nan
    with pytest.raises(ValueError, match="projections: expected finite numbers, got 1 that are not"):
        align(data, make())
