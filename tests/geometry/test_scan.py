"""The stated conventions, from first principles: where things land on the detector."""

import numpy as np
import pytest
import torch

from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import ScanGeometry, scan_geometry
from xrmflow.projectors.matrices import is_upright, pixel_rays, source_distances, voxel_to_pixel

POINT = VolumeGrid((1, 1, 1), 1.0)


def acquisition(**changes):
    values = {
        "beam": "cone",
        "angles_deg": (0.0, 90.0, 200.0),
        "rows": 21,
        "cols": 31,
        "pixel_mm": 2.0,
        "source_to_axis_mm": 100.0,
        "source_to_detector_mm": 200.0,
        "centre_px": 15.0,
        "midplane_px": 10.0,
    }
    if changes.get("beam") == "parallel":
        values |= {"source_to_axis_mm": None, "source_to_detector_mm": None}
    return Acquisition(**(values | changes))


def pixel_of(scan, x, y, z):
    """(column, row) per view of a point in mm."""
    grid = VolumeGrid((1, 1, 1), 1.0, (x, y, z))
    column, row, w = voxel_to_pixel(scan, grid)[:, :, 3].unbind(dim=1)
    return (column / w).numpy(), (row / w).numpy()


def test_a_point_on_plus_x_is_seen_on_the_high_columns_at_angle_0_and_magnified_twice():
    column, row = pixel_of(scan_geometry(acquisition()), 3.0, 0.0, 0.0)
    assert column[0] == pytest.approx(15 + 3 * 2 / 2)
    assert row[0] == pytest.approx(10)


def test_a_point_on_plus_y_is_seen_on_the_high_columns_at_angle_90():
    """The source has moved counter-clockwise to +x; looking along -x, +y is to the right of a detector with rows up."""
    scan = scan_geometry(acquisition())
    np.testing.assert_allclose(scan.source[1].numpy(), [100, 0, 0], atol=1e-12)
    column, _ = pixel_of(scan, 0.0, 3.0, 0.0)
    assert column[1] == pytest.approx(15 + 3 * 2 / 2)


def test_a_point_nearer_to_the_source_is_magnified_more():
    column, row = pixel_of(scan_geometry(acquisition()), 50.0, 3.0, 2.0)
    assert column[1] == pytest.approx(15 + 3 * 4 / 2)
    assert row[1] == pytest.approx(10 + 2 * 4 / 2)


@pytest.mark.parametrize("beam", ["cone", "parallel"])
@pytest.mark.parametrize("turned", [{}, {"roll_deg": 5.0, "tilt_deg": 4.0, "slant_deg": 3.0, "skew_deg": 1.0}])
def test_the_axis_midpoint_projects_onto_centre_and_midplane_plus_the_shift_of_the_view(beam, turned):
    shift_u, shift_v = (0.5, -1.25, 2.0), (1.0, 0.0, -0.75)
    scan = scan_geometry(
        acquisition(beam=beam, centre_px=13.2, midplane_px=9.4, shift_u_px=shift_u, shift_v_px=shift_v, **turned)
    )
    column, row = pixel_of(scan, 0.0, 0.0, 0.0)
    np.testing.assert_allclose(column, 13.2 + np.array(shift_u), atol=1e-9)
    np.testing.assert_allclose(row, 9.4 + np.array(shift_v), atol=1e-9)


@pytest.mark.parametrize("beam", ["cone", "parallel"])
def test_the_ray_of_a_pixel_runs_through_the_points_seen_in_it(beam):
    scan = scan_geometry(acquisition(beam=beam, centre_px=13.2, roll_deg=5.0, tilt_deg=4.0))
    rays = pixel_rays(scan, POINT)
    column, row, t = 7.3, 4.1, 0.37
    origin = rays[:, 0] + column * rays[:, 1] + row * rays[:, 2]
    direction = rays[:, 3] + column * rays[:, 4] + row * rays[:, 5]
    for view, (x, y, z) in enumerate((origin + t * direction).tolist()):
        columns, rows = pixel_of(scan, x, y, z)
        assert (columns[view], rows[view]) == pytest.approx((column, row), abs=1e-9)


def test_a_window_of_rows_sees_the_same_points_in_shifted_rows():
    scan = scan_geometry(acquisition(roll_deg=3.0))
    column, row = pixel_of(scan, 3.0, -2.0, 4.0)
    window_column, window_row = pixel_of(scan.with_rows(slice(6, 19)), 3.0, -2.0, 4.0)
    np.testing.assert_allclose(window_column, column, atol=1e-9)
    np.testing.assert_allclose(window_row, row - 6, atol=1e-9)


def test_the_relative_distance_is_one_on_the_axis_and_linear_towards_the_source():
    scan = scan_geometry(acquisition())
    coefficients = source_distances(scan, VolumeGrid((1, 1, 1), 1.0, (50.0, 20.0, 7.0)))
    # At 90 degrees the source is at x = 100: half the distance is left at x = 50.
    assert float(coefficients[1, 2]) == pytest.approx(0.5)


def test_upright_detectors_are_told_from_rolled_ones():
    grid = VolumeGrid((64, 64, 64), 1.0)
    shifted = scan_geometry(acquisition(shift_u_px=(1.0, 2.0, 3.0), slant_deg=2.0))
    assert is_upright(voxel_to_pixel(shifted, grid), grid)
    for name in ("roll_deg", "tilt_deg", "skew_deg"):
        assert not is_upright(voxel_to_pixel(scan_geometry(acquisition(**{name: 0.01})), grid), grid)


def test_geometry_parameters_keep_their_gradient():
    centre = torch.tensor(15.0, dtype=torch.float64, requires_grad=True)
    matrices = voxel_to_pixel(scan_geometry(acquisition(), centre_px=centre), POINT)
    (gradient,) = torch.autograd.grad((matrices[0, 0, 3] / matrices[0, 2, 3]), centre)
    assert float(gradient) == pytest.approx(1.0)


def test_a_detector_seen_edge_on_is_refused_with_its_view():
    scan = scan_geometry(acquisition())
    u = scan.u.clone()
    u[2] = scan.detector[2] - scan.source[2]
    edge_on = ScanGeometry("cone", scan.source, scan.detector, u, scan.v, 21, 31)
    with pytest.raises(ValueError, match=r"geometry: .*edge-on in view 2"):
        voxel_to_pixel(edge_on, POINT)


def test_a_source_on_the_axis_is_refused():
    scan = scan_geometry(acquisition())
    on_axis = ScanGeometry("cone", scan.source * torch.tensor([0, 0, 1.0]), scan.detector, scan.u, scan.v, 21, 31)
    with pytest.raises(ValueError, match=r"geometry: .*rotation axis"):
        source_distances(on_axis, POINT)


def test_vectors_that_are_not_finite_or_do_not_fit_are_refused_by_name():
    scan = scan_geometry(acquisition())
    with pytest.raises(ValueError, match="source: expected finite"):
        ScanGeometry("cone", scan.source * float("nan"), scan.detector, scan.u, scan.v, 21, 31)
    with pytest.raises(ValueError, match=r"u: expected shape"):
        ScanGeometry("cone", scan.source, scan.detector, scan.u[:2], scan.v, 21, 31)
