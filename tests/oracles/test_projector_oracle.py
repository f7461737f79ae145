"""The kernels against plain torch, in every orientation, and the oracle's own gradients to the geometry."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.perturbation import perturbed
from xrmflow.geometry.scan import ScanGeometry, scan_geometry
from xrmflow.geometry.trajectories import parallel
from xrmflow.projectors import oracle
from xrmflow.projectors.transform import backproject, backproject_adjoint, project, project_adjoint

GRID = VolumeGrid((9, 13, 10), 1.07, (0.3, 0.2, -0.4))
MISSED = "geometry, grid: expected voxels that rays of the scan meet"
OPERATORS = (
    (project, GRID.shape),
    (project_adjoint, (7, 9, 11)),
    (backproject, (7, 9, 11)),
    (backproject_adjoint, GRID.shape),
)


def acquisition(beam="cone", **turned):
    rng = np.random.default_rng(0)
    return Acquisition(
        beam=beam,
        angles_deg=tuple(np.linspace(0, 360, 7, endpoint=False) + 3),
        rows=9,
        cols=11,
        pixel_mm=1.6,
        source_to_axis_mm=40.0 if beam == "cone" else None,
        source_to_detector_mm=60.0 if beam == "cone" else None,
        centre_px=5.3,
        midplane_px=3.8,
        shift_u_px=tuple(rng.normal(size=7)),
        shift_v_px=tuple(rng.normal(size=7)),
        **turned,
    )


def random(shape, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


def anywhere(beam):
    """Views from random directions, the pole included: nothing lines up with anything."""
    generator = torch.Generator().manual_seed(3)
    towards = torch.nn.functional.normalize(torch.randn((6, 3), dtype=torch.float64, generator=generator), dim=1)
    towards[0] = torch.tensor([0.05, 0.02, 1.0])
    u = torch.linalg.cross(towards, torch.randn((6, 3), dtype=torch.float64, generator=generator))
    v = torch.linalg.cross(towards, u) * 0.9
    source = -40 * towards if beam == "cone" else towards
    return ScanGeometry(beam, source, 20 * towards + 0.4, u, v, 9, 11)


@pytest.mark.parametrize("beam", ["cone", "parallel"])
@pytest.mark.parametrize("turned", [{}, {"slant_deg": 4.0}, {"roll_deg": 2.0, "tilt_deg": 3.0}, {"roll_deg": 180.0}])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 2e-6), (torch.float64, 1e-12)])
def test_kernels_equal_the_oracle(beam, turned, dtype, limit):
    geometry = scan_geometry(acquisition(beam, **turned))
    for fast, slow, shape in ((project, oracle.project, GRID.shape), (backproject, oracle.backproject, (7, 9, 11))):
        data = random(shape, dtype)
        expected = slow(data, geometry, GRID)
        torch.testing.assert_close(
            fast(data, geometry, GRID), expected, rtol=0, atol=limit * float(expected.abs().max())
        )


@pytest.mark.parametrize("beam", ["cone", "parallel"])
@pytest.mark.parametrize("turned", [{}, {"roll_deg": 180.0}])
@pytest.mark.parametrize("voxel_mm", [0.2, 0.8, 2.5])
def test_tall_columns_equal_the_oracle(beam, turned, voxel_mm):
    """Columns long enough for vector registers, at pitches below one, about one, and too large for them."""
    record = replace(acquisition(beam, **turned), rows=61, midplane_px=29.3, pixel_mm=0.8).with_views(slice(2, 5))
    geometry, grid = scan_geometry(record), VolumeGrid((83, 5, 4), voxel_mm, (0.3, 0.2, -0.4))
    for fast, slow, shape in ((project, oracle.project, grid.shape), (backproject, oracle.backproject, (3, 61, 11))):
        data = random(shape)
        expected = slow(data, geometry, grid)
        got = fast(data.float(), geometry, grid).double()
        torch.testing.assert_close(got, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))


def test_rays_steeper_than_half_a_right_angle_equal_the_oracle():
    """Their main direction is the rotation axis, also where detector columns are parallel to it."""
    record = replace(acquisition(), rows=61, midplane_px=29.3, pixel_mm=4.0)
    geometry, grid = scan_geometry(record), VolumeGrid((40, 6, 7), 1.6)
    data = random(grid.shape)
    torch.testing.assert_close(project(data, geometry, grid), oracle.project(data, geometry, grid))


@pytest.mark.parametrize("beam", ["cone", "parallel"])
def test_kernels_equal_the_oracle_from_any_direction(beam):
    geometry = anywhere(beam)
    for fast, slow, shape in ((project, oracle.project, GRID.shape), (backproject, oracle.backproject, (6, 9, 11))):
        data = random(shape)
        expected = slow(data, geometry, GRID)
        assert float(expected.abs().max()) > 0
        torch.testing.assert_close(
            fast(data, geometry, GRID), expected, rtol=0, atol=1e-12 * float(expected.abs().max())
        )


@pytest.mark.parametrize("operator", [oracle.project, oracle.backproject])
def test_oracle_has_gradients_to_scalar_parameters_and_shifts(operator):
    record = acquisition(roll_deg=1.0, tilt_deg=0.5).with_views(slice(2, 4))
    data = random(GRID.shape if operator is oracle.project else (2, 9, 11))
    names = ("centre_px", "roll_deg", "tilt_deg", "slant_deg")
    values = [torch.tensor(getattr(record, name), dtype=torch.float64, requires_grad=True) for name in names]
    shifts = torch.tensor(record.shifts_px, requires_grad=True)
    weights = random((2, 9, 11) if operator is oracle.project else GRID.shape)

    def loss(shifts, *values):
        geometry = scan_geometry(record, shifts_px=shifts, **dict(zip(names, values, strict=True)))
        return (operator(data, geometry, GRID) * weights).sum()

    assert torch.autograd.gradcheck(loss, (shifts, *values), eps=1e-7, atol=1e-4, rtol=1e-4)


def test_data_of_another_shape_or_type_is_refused():
    geometry = scan_geometry(acquisition())
    for operator, shape in OPERATORS:
        name = "volume" if shape == GRID.shape else "projections"
        expected = ", ".join(map(str, shape))
        for other in ((*shape[:2], shape[2] + 1), shape[::-1], shape[1:], (2, *shape[1:])):
            with pytest.raises(ValueError, match=rf"{name}: expected shape \(\.\.\., {expected}\), got \({other[0]}, "):
                operator(random(other), geometry, GRID)
        with pytest.raises(ValueError, match=f"{name}: expected float32 or float64, got torch.int32"):
            operator(torch.ones(shape, dtype=torch.int32), geometry, GRID)


def test_a_view_that_misses_the_volume_is_zero_but_a_scan_that_misses_it_is_refused():
    geometry = scan_geometry(acquisition())
    aside = torch.zeros((7, 2), dtype=torch.float64)
    aside[2] = 1000.0
    image = project(random(GRID.shape), perturbed(geometry, shifts_px=aside), GRID)
    assert (image.flatten(1).abs().amax(dim=1) > 0).tolist() == [view != 2 for view in range(7)]
    for shifts in ([1000.0, 0.0], [-1000.0, 0.0], [0.0, 1000.0], [0.0, -1000.0]):
        astray = perturbed(geometry, shifts_px=torch.tensor(shifts))
        for operator, shape in OPERATORS:
            with pytest.raises(
                ValueError, match=r"geometry, grid: expected voxels that rays of the scan meet, .* in all 7"
            ):
                operator(random(shape), astray, GRID)
    turned_away = replace(geometry, detector=2 * geometry.source - geometry.detector)
    with pytest.raises(ValueError, match=MISSED):
        project(random(GRID.shape), turned_away, GRID)


@pytest.mark.parametrize(("column", "seen"), [(-2.01, False), (-0.99, True), (10.99, True), (12.01, False)])
def test_a_voxel_is_seen_as_far_as_its_hat_reaches_and_refused_a_pixel_further_on(column, seen):
    """One voxel as large as a pixel, parallel rays: it reaches one pixel to either side."""
    grid, views = VolumeGrid((1, 1, 1), 1.0), torch.zeros(1, dtype=torch.float64)
    geometry = parallel(views, rows=9, cols=11, pixel_mm=1.0, centre_px=column)
    if seen:
        assert float(project(torch.ones(1, 1, 1), geometry, grid).max()) == pytest.approx(0.01, rel=1e-3)
    else:
        with pytest.raises(ValueError, match=MISSED):
            project(torch.ones(1, 1, 1), geometry, grid)


@pytest.mark.parametrize("name", ["source", "detector", "u", "v"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_geometry_that_is_not_finite_is_refused(name, bad):
    geometry = scan_geometry(acquisition())
    vectors = getattr(geometry, name).clone()
    vectors[3, 1] = bad
    with pytest.raises(ValueError, match=f"{name}: expected finite vectors, got NaN or infinity"):
        replace(geometry, **{name: vectors})
    with pytest.raises(ValueError, match=r"u: expected shape \(view, 3\) = \(7, 3\), got \(6, 3\)"):
        replace(geometry, u=geometry.u[1:])


def test_a_detector_seen_edge_on_is_refused():
    geometry = scan_geometry(acquisition())
    u = geometry.u.clone()
    u[4] = geometry.detector[4] - geometry.source[4]
    for operator, shape in OPERATORS:
        with pytest.raises(ValueError, match=r"geometry: expected a detector that faces the source, .* in view 4"):
            operator(random(shape), replace(geometry, u=u), GRID)


def test_a_grid_without_voxels_is_refused():
    for shape in ((0, 3, 3), (3, 0, 3), (3, 3, 0)):
        with pytest.raises(ValueError, match="shape: expected three sizes"):
            VolumeGrid(shape, 1.0)
    for voxel_mm in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="voxel_mm: expected a positive length in mm"):
            VolumeGrid((3, 3, 3), voxel_mm)


def test_sources_on_the_axis_are_refused():
    geometry = scan_geometry(acquisition())
    source = geometry.source * geometry.source.new_tensor([0.0, 0.0, 1.0])
    with pytest.raises(ValueError, match="geometry: expected sources away from the rotation axis"):
        backproject(random((7, 9, 11)), replace(geometry, source=source), GRID)
