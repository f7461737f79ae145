"""FDK against analytic truth: scale, flatness, handedness, short scans, shifts."""

import numpy as np
import pytest
import torch

from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.scan import scan_geometry
from xrmflow.projectors.analytic import project_ellipsoid
from xrmflow.reconstruction.fdk import fdk, fdk_slabs
from xrmflow.reconstruction.grids import natural_grid, region_grid

MU = 0.02
SIZE = 64
FULL = np.linspace(0, 360, 180, endpoint=False)


def acquisition(beam="cone", angles=FULL, rows=9, cols=SIZE, **changes):
    cone = beam == "cone"
    record = {
        "beam": beam,
        "angles_deg": tuple(float(a) for a in angles),
        "rows": rows,
        "cols": cols,
        "pixel_mm": 1.6 if cone else 1.0,
        "source_to_axis_mm": 4.0 * SIZE if cone else None,
        "source_to_detector_mm": 6.4 * SIZE if cone else None,
        "centre_px": (cols - 1) / 2,
        "midplane_px": (rows - 1) / 2,
    }
    return Acquisition(**(record | changes))


def ball(record, centre=(6.4, -3.2, 0.0), radius=19.2):
    return project_ellipsoid(
        scan_geometry(record), centre_mm=centre, semi_axes_mm=(radius,) * 3, attenuation_per_mm=MU
    ).float()


def reconstruct(record, projections=None, **options):
    projections = ball(record) if projections is None else projections
    return fdk(projections, scan_geometry(record), natural_grid(record), **options)


def radii(volume, record, centre=(6.4, -3.2)):
    """Distance of each pixel of the middle slice from the ball's centre and from the axis, mm."""
    y, x = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in volume.shape[1:]], indexing="ij")
    return np.hypot(x - centre[0], y - centre[1]), np.hypot(x, y)


def check_flat(volume, record, *, mean=5e-4, deviation=2e-3):
    """Inside, mu; outside, zero on average (streaks from few views have no sign)."""
    slice_ = volume[volume.shape[0] // 2].numpy() / MU
    from_ball, from_axis = radii(volume, record)
    inside, core = slice_[from_ball < 15.5], slice_[from_ball < 6]
    outside = slice_[(from_ball > 23) & (from_axis < 30)]
    assert inside.mean() == pytest.approx(1, abs=mean)
    assert core.mean() == pytest.approx(inside.mean(), abs=mean)
    assert np.abs(inside - 1).max() < 8 * deviation
    assert inside.std() < deviation
    assert outside.mean() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ("beam", "angles"),
    [
        ("cone", FULL),
        ("cone", np.linspace(0, 360, 181)),
        ("cone", -FULL + 33),
        ("cone", np.sort(np.random.default_rng(0).uniform(0, 360, 360))),
        ("cone", np.arange(0, 201, 2.0) + 17),
        ("cone", -np.arange(0, 201, 2.0) + 17),
        ("cone", np.arange(0, 241, 2.0)),
        ("cone", np.arange(0, 331, 2.0)),
        ("parallel", np.linspace(0, 180, 120, endpoint=False)),
        ("parallel", np.linspace(0, 180, 121)),
        ("parallel", FULL),
    ],
    ids=[
        "full",
        "closed",
        "clockwise",
        "uneven",
        "short",
        "short-",
        "longer",
        "330",
        "180",
        "180 closed",
        "parallel 360",
    ],
)
def test_a_uniform_ball_is_flat_and_right_in_scale(beam, angles):
    record = acquisition(beam, angles)
    check_flat(reconstruct(record), record)


def test_a_finer_ball_is_flat_to_a_thousandth():
    """Flatness is limited by sampling alone: no cupping made by the ramp."""
    record = acquisition(angles=np.linspace(0, 360, 300, endpoint=False), cols=128, rows=3, pixel_mm=0.8)
    volume = reconstruct(record)[1].numpy() / MU
    y, x = np.meshgrid(*[(np.arange(128) - 63.5) * 0.5] * 2, indexing="ij")
    from_ball = np.hypot(x - 6.4, y + 3.2)
    profile = [volume[(from_ball >= r) & (from_ball < r + 2)].mean() for r in range(0, 16, 2)]
    assert np.ptp(profile) < 1e-3
    assert np.mean(profile) == pytest.approx(1, abs=1e-3)
    outside = volume[(from_ball > 21) & (np.hypot(x, y) < 30)]
    assert outside.mean() == pytest.approx(0, abs=1e-3)


def test_two_rows_of_a_parallel_scan_over_slightly_less_than_180_degrees():
    record = acquisition("parallel", np.arange(181) * 180 / 181, rows=2, centre_px=30.0)
    volume = reconstruct(record)
    assert volume.shape == (2, SIZE, SIZE)
    check_flat(volume, record)


@pytest.mark.parametrize("angles", [FULL, np.arange(0, 201, 2.0)], ids=["full", "short"])
@pytest.mark.parametrize("turned", [{"slant_deg": 1.0}, {"roll_deg": 1.0, "tilt_deg": 1.0}])
def test_turned_detectors_still_give_the_right_value(angles, turned):
    record = acquisition(angles=angles, **turned)
    check_flat(reconstruct(record), record, mean=1e-3)


def test_the_chirality_phantom_is_right_handed():
    """Balls of three sizes on +x, +y and +z: a mirrored reconstruction would put one of them on the wrong side.

    The projections are made from the stated convention alone, without the geometry's code.
    """
    angles = np.deg2rad(FULL)
    record = acquisition(rows=SIZE)
    distance, to_detector, middle = 4.0 * SIZE, 6.4 * SIZE, (SIZE - 1) / 2
    projections = np.zeros((len(FULL), SIZE, SIZE), np.float32)
    for centre, radius in ((np.array([15.0, 0, 0]), 5), (np.array([0, 15.0, 0]), 4), (np.array([0, 0, 15.0]), 3)):
        for view, a in enumerate(angles):
            across = centre[0] * np.cos(a) + centre[1] * np.sin(a)
            along = -centre[0] * np.sin(a) + centre[1] * np.cos(a)
            magnification = to_detector / (distance + along) / 1.6
            row, column = np.mgrid[:SIZE, :SIZE]
            away = np.hypot(column - middle - across * magnification, row - middle - centre[2] * magnification)
            projections[view] += 2 * np.sqrt(np.clip(radius**2 - (away / magnification) ** 2, 0, None))
    volume = reconstruct(record, torch.from_numpy(projections))
    near = lambda x, y, z: float(volume[round(middle + z), round(middle + y), round(middle + x)])  # noqa: E731
    for point in ((15, 0, 0), (0, 15, 0), (0, 0, 15)):
        assert near(*point) == pytest.approx(1, abs=0.1)
        assert near(*(-n for n in point)) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("beam", ["cone", "parallel"])
def test_whole_pixel_shifts_of_the_images_are_undone_exactly_by_the_geometry(beam):
    rng = np.random.default_rng(0)
    still = acquisition(beam, rows=24, cols=SIZE + 20)
    shift_u, shift_v = rng.integers(-3, 4, len(FULL)), rng.integers(-3, 4, len(FULL))
    moved = acquisition(
        beam, rows=24, cols=SIZE + 20, shift_u_px=tuple(map(float, shift_u)), shift_v_px=tuple(map(float, shift_v))
    )
    body = {"centre": (3.0, 0.0, 0.0), "radius": 12.0}
    images = ball(still, **body)
    rolled = torch.stack([images[n].roll((shift_v[n], shift_u[n]), dims=(0, 1)) for n in range(len(FULL))])
    expected, got = reconstruct(still, images), reconstruct(moved, rolled)
    # The outermost voxels may look past the edge of a moved detector.
    inner = (slice(8, -8), slice(14, -14), slice(14, -14))
    torch.testing.assert_close(got[inner], expected[inner], rtol=0, atol=2e-5 * MU / 0.02)


@pytest.mark.parametrize("beam", ["cone", "parallel"])
@pytest.mark.parametrize("side", [-1, 1])
def test_an_offset_detector_reconstructs_what_a_full_one_does(beam, side):
    """60 % of the columns, the axis near one edge; the ball reaches far beyond that edge."""
    whole = acquisition(beam)
    cols, middle = 38, (SIZE - 1) / 2
    first = 0 if side < 0 else SIZE - cols
    part = acquisition(beam, cols=cols, centre_px=middle - first)
    projections = ball(whole)
    cut = projections[..., first : first + cols]
    grid = natural_grid(whole)
    full = fdk(projections, scan_geometry(whole), grid)
    volume = fdk(cut, scan_geometry(part), grid)
    check_flat(volume, whole)
    near = radii(volume, whole, (0.0, 0.0))[1] < 30
    difference = (volume - full)[4][torch.from_numpy(near)] / MU
    assert float(difference.square().mean().sqrt()) < 0.01
    slabs = np.empty(grid.shape, np.float32)
    fdk_slabs(cut.numpy(), slabs, scan_geometry(part), grid)
    np.testing.assert_allclose(slabs, volume.numpy(), rtol=0, atol=4e-6 * float(volume.max()))


def test_a_wrong_shift_is_noticed():
    record = acquisition(shift_u_px=tuple(np.random.default_rng(0).normal(size=180)))
    straight = acquisition()
    sharp, blurred = reconstruct(record), reconstruct(straight, ball(record))
    truth = reconstruct(straight)
    assert float((sharp - truth).square().mean()) < 0.3 * float((blurred - truth).square().mean())


def test_truncated_rows_get_no_bright_rim():
    record = acquisition("parallel", np.linspace(0, 180, 120, endpoint=False), rows=2)
    projections = ball(record, centre=(0.0, 0.0, 0.0), radius=60.0)
    from_axis = radii(torch.empty(2, SIZE, SIZE), record, centre=(0.0, 0.0))[1]
    rim, core = (from_axis > 26) & (from_axis < 29), from_axis < 10
    ratios = []
    for columns in (0, SIZE):
        volume = reconstruct(record, projections, truncation_px=columns)[0].numpy()
        ratios.append(volume[rim].mean() / volume[core].mean())
    assert ratios[0] > 1.25
    assert ratios[1] < 1.0 + 0.3 * (ratios[0] - 1.0)


def test_gradients_reach_the_projections():
    record = acquisition(angles=np.arange(0, 360, 90.0), rows=3, cols=5, roll_deg=1.0)
    geometry, grid = scan_geometry(record), region_grid(record, shape=(2, 3, 4))
    projections = torch.rand((4, 3, 5), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(
        lambda p: fdk(p, geometry, grid, window="hann", truncation_px=2), projections.requires_grad_()
    )


@pytest.mark.parametrize(
    "at",
    [{"centre_px": 4.137}, {"centre_px": 4.137, "roll_deg": 2.0, "tilt_deg": 1.0, "slant_deg": 0.5}],
    ids=["upright", "turned"],
)
@pytest.mark.parametrize("last_deg", [360.0, 230.0], ids=["full turn", "short scan"])
def test_gradients_reach_the_geometry(at, last_deg):
    """By finite differences, at a generic place: the interpolation has kinks where voxels project onto pixels."""
    record = acquisition(angles=np.arange(0, last_deg, 11.0), rows=5, cols=9)
    grid = region_grid(record, shape=(3, 5, 4), centre_mm=(0.11, -0.07, 0.13))
    generator = torch.Generator().manual_seed(0)
    projections = torch.rand((record.views, 5, 9), dtype=torch.float64, generator=generator)
    weights = torch.rand(grid.shape, dtype=torch.float64, generator=generator)

    def loss(*values):
        geometry = scan_geometry(record, **dict(zip(at, values, strict=True)))
        return (fdk(projections, geometry, grid) * weights).sum()

    values = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in at.values()]
    assert torch.autograd.gradcheck(loss, values, eps=1e-6, atol=1e-6, rtol=1e-4)


def test_a_batch_is_reconstructed_one_by_one():
    record = acquisition(angles=np.arange(0, 360, 30.0), rows=3, cols=7)
    geometry, grid = scan_geometry(record), region_grid(record, shape=(2, 5, 4))
    projections = torch.rand((2, 3, 12, 3, 7), generator=torch.Generator().manual_seed(0))
    volumes = fdk(projections, geometry, grid)
    assert volumes.shape == (2, 3, 2, 5, 4)
    torch.testing.assert_close(volumes[1, 2], fdk(projections[1, 2], geometry, grid), rtol=0, atol=0)


def test_a_region_of_interest_has_the_voxels_of_the_whole():
    record = acquisition(angles=np.arange(0, 360, 10.0), rows=SIZE)
    whole = natural_grid(record)
    voxel = whole.voxel_mm
    region = region_grid(record, shape=(5, 6, 8), centre_mm=(3 * voxel, -2 * voxel, 4.5 * voxel))
    geometry, projections = scan_geometry(record), ball(record)
    part = fdk(projections, geometry, whole)[34:39, 27:33, 31:39]
    torch.testing.assert_close(fdk(projections, geometry, region), part, rtol=0, atol=1e-6 * MU)


def test_natural_grid_has_its_slices_at_the_rows():
    record = acquisition("parallel", rows=6, midplane_px=1.0)
    grid = natural_grid(record)
    assert grid.shape == (6, SIZE, SIZE)
    assert grid.first_voxel_mm[2] == pytest.approx(-1.0)


def test_the_natural_grid_of_an_offset_detector_reaches_to_its_far_edge():
    record = acquisition(cols=38, centre_px=31.5)
    assert natural_grid(record).shape == (9, 64, 64)


def test_larger_voxels_cover_the_same_field():
    record = acquisition(rows=SIZE)
    grid = region_grid(record, voxel_mm=3 * record.voxel_mm)
    assert grid.shape == (22, 22, 22)


def test_projections_of_another_shape_are_refused():
    record = acquisition(angles=(0.0, 1.0))
    with pytest.raises(ValueError, match=r"projections: expected shape \(view, row, col\) = \(2, 9, 64\)"):
        fdk(torch.ones(2, 9, 63), scan_geometry(record), natural_grid(record))
