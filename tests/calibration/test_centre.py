from dataclasses import replace

import numpy as np
import pytest
import torch

from xrmflow.calibration import fan
from xrmflow.calibration.centre import find_centre, slice_rows
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import scan_geometry
from xrmflow.projectors.transform import project
from xrmflow.reconstruction.fdk import fdk

COLS, ROWS, VIEWS = 72, 21, 120


def make(beam="cone", arc_deg=360.0, rows=ROWS, endpoint=False, offset_px=0.0, roll_deg=0.0, shift_px=0.0, views=VIEWS):
    rng = np.random.default_rng(1)
    shifts = rng.uniform(-shift_px, shift_px, (2, views))
    return Acquisition(
        beam=beam,
        angles_deg=tuple(np.linspace(0, arc_deg, views, endpoint=endpoint)),
        rows=rows,
        cols=COLS,
        pixel_mm=0.03 if beam == "cone" else 0.01,
        source_to_axis_mm=10.0 if beam == "cone" else None,
        source_to_detector_mm=30.0 if beam == "cone" else None,
        centre_px=(COLS - 1) / 2 + offset_px,
        midplane_px=(rows - 1) / 2,
        roll_deg=roll_deg,
        shift_u_px=tuple(shifts[0]),
        shift_v_px=tuple(shifts[1]),
    )


def scan(acquisition, noise=0.01):
    """Projections of rods that lean a little, with noise."""
    rng = np.random.default_rng(0)
    depth = acquisition.rows + 8
    grid = VolumeGrid((2 * depth, 2 * COLS, 2 * COLS), acquisition.voxel_mm / 2)
    z, y, x = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in grid.shape), indexing="ij", sparse=True)
    volume = np.zeros(grid.shape, np.float32)
    for _ in range(14):
        angle, distance, radius = rng.uniform(0, 2 * np.pi), rng.uniform(4, 48), rng.uniform(3, 9)
        lean = rng.uniform(-0.2, 0.2, 2)
        cx, cy = distance * np.cos(angle) + lean[0] * z, distance * np.sin(angle) + lean[1] * z
        volume += ((x - cx) ** 2 + (y - cy) ** 2 < radius**2) * rng.uniform(2, 6)
    p = project(torch.from_numpy(volume), scan_geometry(acquisition), grid).numpy()
    return p + rng.normal(0, noise, p.shape).astype(np.float32)


def nominal(acquisition):
    return replace(acquisition, centre_px=(COLS - 1) / 2, roll_deg=0.0)


@pytest.mark.parametrize(
    ("beam", "arc_deg", "offset_px"),
    [("cone", 360, 2.3), ("cone", 210, -3.4), ("parallel", 360, 5.2), ("parallel", 180, -4.7)],
)
def test_centre_to_a_tenth_of_a_pixel(beam, arc_deg, offset_px):
    truth = make(beam, arc_deg, rows=3, offset_px=offset_px, shift_px=2.0)
    fit = find_centre(scan(truth), nominal(truth))
    assert fit.trusted
    assert fit.centre_px == pytest.approx(truth.centre_px, abs=0.1)
    assert fit.acquisition.centre_px == fit.centre_px
    assert abs(fit.centre_px - truth.centre_px) < 4 * fit.uncertainty_px
    assert fit.sweep_score.max() == 1
    assert fit.slices.shape == (len(fit.sweep_px), COLS, COLS)


def bone_up_to_the_rim(acquisition):
    """Line integrals of an uneven tube of bone beside the axis, in tissue that nearly fills the field of view."""
    y, x = np.mgrid[:COLS, :COLS] - (COLS - 1) / 2
    radius = np.hypot(y + 1, x - 2) - 1.5 * np.cos(2 * np.arctan2(y, x) + 0.5)
    bone = (radius < 29) & (radius > 17) | (np.hypot(y + 2, x - 3) < 8)
    volume = np.where(bone, 1.6, np.where(np.hypot(x, y) < 32, 0.2, 0.0)).astype(np.float32)
    volume = torch.from_numpy(volume).expand(acquisition.rows + 4, COLS, COLS).contiguous()
    grid = VolumeGrid(tuple(volume.shape), acquisition.voxel_mm)
    p = project(volume, scan_geometry(acquisition), grid).numpy()
    return p + np.random.default_rng(0).normal(0, 0.004, p.shape).astype(np.float32)


@pytest.mark.parametrize(("beam", "arc_deg"), [("cone", 360), ("cone", 210), ("parallel", 180)])
def test_tissue_up_to_the_rim_does_not_mislead(beam, arc_deg):
    """Where lines are measured once, arcs of a wrong centre that leave the field of view pass for sharpness."""
    truth = make(beam, arc_deg, rows=3, offset_px=0.7)
    fit = find_centre(bone_up_to_the_rim(truth), truth)
    assert fit.trusted
    assert fit.centre_px == pytest.approx(truth.centre_px, abs=0.1)
    assert abs(fit.centre_px - truth.centre_px) < 4 * fit.uncertainty_px


def test_roll_has_its_size_and_sign():
    truth = make(roll_deg=1.2, offset_px=1.7)
    fit = find_centre(scan(truth), nominal(truth), slices=5)
    assert fit.acquisition.roll_deg == pytest.approx(1.2, abs=0.25)
    assert fit.centre_px == pytest.approx(truth.centre_px, abs=0.1)
    level = find_centre(scan(truth), nominal(truth), slices=5, roll=False)
    assert level.acquisition.roll_deg == 0


def test_an_end_point_counted_out_by_mistake_is_found():
    truth = make("parallel", 180.0, rows=2, endpoint=True, offset_px=3.3, views=61)
    p, slip = scan(truth), 60 / 61
    wrong = replace(nominal(truth), angles_deg=tuple(slip * a for a in truth.angles_deg))
    fit = find_centre(p, wrong)
    assert fit.acquisition.angles_deg == pytest.approx(truth.angles_deg)
    assert "span 180.000 deg" in fit.notes[0]
    kept = find_centre(p, wrong, check_angles=False)
    assert kept.acquisition.angles_deg == wrong.angles_deg
    assert find_centre(p, nominal(truth)).angle_factor == 1


def test_nothing_to_see_is_not_trusted_and_changes_nothing():
    truth = make(rows=2, offset_px=2.0)
    noise = np.random.default_rng(0).normal(0, 0.01, (VIEWS, 2, COLS)).astype(np.float32)
    start = nominal(truth)
    fit = find_centre(noise, start)
    assert not fit.trusted
    assert fit.acquisition == start
    assert "nominal geometry kept" in fit.message
    assert fit.to_dict()["fit"]["centre_px"] == start.centre_px


def test_a_centre_out_of_reach_is_not_trusted():
    truth = make("parallel", 360, rows=2, offset_px=5.0)
    fit = find_centre(scan(truth), nominal(truth), search_px=4.0)
    assert not fit.trusted
    assert "end of the search range" in fit.message


def test_trial_slices_are_the_reconstruction_at_that_centre():
    truth = make(rows=5, offset_px=1.5, shift_px=1.0)
    p = scan(truth, noise=0.0)
    grid = VolumeGrid((1, COLS, COLS), truth.voxel_mm)
    trials = np.array([truth.centre_px, truth.centre_px + 2.25])
    slices = fan.slices(fan.sinogram(p, nominal(truth), row=truth.midplane_px), trials, smoothing_px=0.0).sum(axis=0)
    for trial, image in zip(trials, slices, strict=True):
        expected = fdk(torch.from_numpy(p), scan_geometry(truth, centre_px=trial), grid, window="hann")[0].numpy()
        inside = fan.field_of_view(COLS, 0.9)
        assert np.abs(image - expected)[inside].mean() < 0.05 * np.abs(expected[inside]).mean()


def test_binned_trials_keep_scale_and_place():
    truth = make("parallel", 360, rows=1)
    p = scan(truth, noise=0.0)
    fine, coarse = (
        fan.slices(fan.sinogram(p, truth, row=0.0, binning=b), np.array([truth.centre_px]), smoothing_px=6.0 / b).sum(
            axis=0
        )[0]
        for b in (1, 2)
    )
    averaged = fine.reshape(COLS // 2, 2, COLS // 2, 2).mean(axis=(1, 3))
    inside = fan.field_of_view(COLS // 2, 0.9)
    assert np.abs(averaged - coarse)[inside].mean() < 0.03 * np.abs(averaged[inside]).mean()


def test_rows_near_the_midplane_of_a_wide_cone():
    wide = replace(make(rows=101), source_to_axis_mm=0.6, source_to_detector_mm=1.8)
    rows = np.array(slice_rows(wide, 5))
    assert rows.mean() == pytest.approx(50)
    assert np.ptp(rows) < 20
    assert slice_rows(make(rows=3), 5) == [0.0, 1.0, 2.0]


def test_bad_arguments():
    truth = make(rows=2)
    with pytest.raises(ValueError, match=r"projections: expected shape \(view, row, col\)"):
        find_centre(np.zeros((1, 2, 3), np.float32), truth)
    with pytest.raises(ValueError, match="search_px: expected a positive number"):
        find_centre(np.zeros((VIEWS, 2, COLS), np.float32), truth, search_px=0)
    with pytest.raises(ValueError, match="slices: expected at least 1"):
        slice_rows(truth, 0)
    with pytest.raises(ValueError, match="cols: expected at least 3 to tell a centre from, got 2"):
        find_centre(np.zeros((VIEWS, 2, 2), np.float32), replace(truth, cols=2, centre_px=0.5))
    for broken in (np.nan, np.inf):
        p = np.zeros((VIEWS, 2, COLS), np.float32)
        p[3, 1, 4] = broken
        with pytest.raises(ValueError, match="projections: expected finite numbers, got 1 that are not"):
            find_centre(p, truth)


def test_scans_that_say_nothing_of_the_centre_are_not_trusted():
    """An object that was not turned, and fewer views than make a slice."""
    truth = make(rows=3, offset_px=0.7)
    p = bone_up_to_the_rim(truth)
    still = replace(truth, angles_deg=(30.0,) * VIEWS)
    assert "an arc of 0 degrees" in find_centre(p, still).message
    few = slice(None, None, VIEWS // 5)
    fit = find_centre(p[few], truth.with_views(few))
    assert not fit.trusted
    assert "5 views" in fit.message


@pytest.mark.real_data
def test_tooth(real_data):
    import h5py

    from xrmflow.correction.flatfield import correct
    from xrmflow.correction.references import references_for
    from xrmflow.correction.steps import Steps

    path = real_data / "tomopy_tooth" / "tooth.h5"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    with h5py.File(path) as file:
        raw, flats, darks = (file[f"exchange/{name}"][...] for name in ("data", "data_white", "data_dark"))
        angles = tuple(file["exchange/theta"][...].tolist())
    steps = Steps()
    p = np.zeros(raw.shape, np.float32)
    correct(raw, p, references_for(raw, flats=flats, darks=darks, steps=steps), steps=steps)
    start = Acquisition("parallel", angles, 2, 640, 1.0, None, None, 319.5, 0.5, calibrated=False)
    fit = find_centre(p, start)
    assert fit.trusted
    assert fit.centre_px == pytest.approx(295.5, abs=0.25)
    assert fit.acquisition.angles_deg[-1] == pytest.approx(180.0, abs=1e-3)
