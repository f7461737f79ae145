"""Conversions lose nothing, and say what the other toolkit's documentation says."""

import numpy as np
import pytest
import torch

from xrmflow.geometry.conversion import RtkParameters, from_astra, from_rtk, to_astra, to_rtk
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.perturbation import perturbed
from xrmflow.geometry.trajectories import circular_cone, helical, parallel, per_view
from xrmflow.projectors.matrices import voxel_to_pixel

ANGLES = torch.tensor([0.0, 31.0, 90.0, 200.0, 350.0], dtype=torch.float64)
DETECTOR = {"rows": 9, "cols": 12, "pixel_mm": 0.4, "centre_px": 4.0, "midplane_px": 5.0}
CONE = {**DETECTOR, "source_to_axis_mm": 50.0, "source_to_detector_mm": 80.0}
VECTORS = ("source", "detector", "u", "v")
TURNS = {"roll_deg": 12.0, "tilt_deg": -23.0, "slant_deg": 31.5}
SCANS = {
    "cone": circular_cone(ANGLES, **CONE),
    "turned": perturbed(circular_cone(ANGLES, **CONE), **TURNS),
    "jittered": perturbed(
        helical(ANGLES, **CONE, pitch_mm=4.0),
        source_mm=torch.randn((5, 3), generator=torch.Generator().manual_seed(0)),
        axis_lean_deg=torch.randn((5, 2), generator=torch.Generator().manual_seed(1)),
        **TURNS,
    ),
    "parallel": parallel(ANGLES, **DETECTOR),
    "parallel rolled": perturbed(parallel(ANGLES, **DETECTOR), roll_deg=7.0, axis_lean_deg=torch.tensor([2.0, 30.0])),
}
EVERY = pytest.mark.parametrize("scan", SCANS.values(), ids=list(SCANS))


def assert_same(got, expected):
    assert (got.beam, got.rows, got.cols) == (expected.beam, expected.rows, expected.cols)
    for name in VECTORS:
        torch.testing.assert_close(getattr(got, name), getattr(expected, name), rtol=0, atol=1e-12 * 80)


@EVERY
def test_to_astra_and_back(scan):
    vectors = to_astra(scan)
    assert vectors.shape == (5, 12)
    assert_same(from_astra(vectors, beam=scan.beam, rows=scan.rows, cols=scan.cols), scan)


def test_astra_vectors_are_in_the_order_of_its_manual():
    """source, detector centre, pixel (0, 0) to (0, 1), pixel (0, 0) to (1, 0)."""
    first = to_astra(circular_cone(ANGLES, **CONE))[0]
    np.testing.assert_allclose(first, [0, -50, 0, 1.5 * 0.4, 30, -1 * 0.4, 0.4, 0, 0, 0, 0, 0.4], atol=1e-12)


@EVERY
def test_to_rtk_and_back(scan):
    assert_same(from_rtk(to_rtk(scan)), scan)


def test_rtk_parameters_of_an_ideal_scan_are_its_distances_and_angles():
    p = to_rtk(circular_cone(ANGLES, **CONE))
    np.testing.assert_allclose(p.sid_mm, 50)
    np.testing.assert_allclose(p.sdd_mm, 80)
    torch.testing.assert_close(p.gantry_angle_deg.remainder(360), ANGLES)
    np.testing.assert_allclose(p.proj_offset_x_mm, 1.5 * 0.4)
    np.testing.assert_allclose(p.proj_offset_y_mm, -1 * 0.4)
    for name in ("out_of_plane_angle_deg", "in_plane_angle_deg", "source_offset_x_mm", "source_offset_y_mm"):
        np.testing.assert_allclose(getattr(p, name), 0, atol=1e-12)


def test_a_roll_is_an_in_plane_angle():
    p = to_rtk(perturbed(circular_cone(ANGLES, **CONE), roll_deg=3.0))
    np.testing.assert_allclose(p.in_plane_angle_deg.abs(), 3.0, atol=1e-9)
    np.testing.assert_allclose(p.out_of_plane_angle_deg, 0, atol=1e-9)


def test_rtk_itself_sees_points_at_the_same_places():
    """Recorded from GetMatrix of RTK 2.7.0: view with every parameter set, points in RTK's axes -> (p, q) in mm."""
    values = {
        "sid_mm": 1000, "sdd_mm": 1500, "gantry_angle_deg": 25, "proj_offset_x_mm": 7, "proj_offset_y_mm": -3,
        "out_of_plane_angle_deg": 4, "in_plane_angle_deg": -6, "source_offset_x_mm": 2, "source_offset_y_mm": 5,
        "spacing_x_mm": 0.5, "spacing_y_mm": 0.25,
    }  # fmt: skip
    tensors = {name: torch.tensor([value], dtype=torch.float64) for name, value in values.items()}
    scan = from_rtk(RtkParameters(**tensors, rows=9, cols=12))
    seen = {
        (10, 20, 30): (-17.231570422697644, 33.73586362494175),
        (-40, 5, 0): (-61.70176810857434, 0.6244654331470744),
        (0, -15, 25): (-22.06662564161817, -21.826386188721248),
    }
    for (x, y, z), expected in seen.items():
        column, row, w = voxel_to_pixel(scan, VolumeGrid((1, 1, 1), 1.0, (x, -z, y)))[0, :, 3]
        got = [0.5 * float(column / w - 5.5), 0.25 * float(row / w - 4.0)]
        np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_what_rtk_cannot_say_is_refused():
    scan = circular_cone(ANGLES, **CONE)
    vectors = {name: getattr(scan, name) for name in VECTORS}
    skewed = per_view("cone", **(vectors | {"v": scan.v + 0.1 * scan.u}), rows=9, cols=12)
    mirrored = per_view("cone", **(vectors | {"v": -scan.v}), rows=9, cols=12)
    slanted = perturbed(parallel(ANGLES, **DETECTOR), slant_deg=5.0)
    for bad, message in (
        (skewed, "v: expected rows perp"),
        (mirrored, "u, v: expected"),
        (slanted, "source: expected"),
    ):
        with pytest.raises(ValueError, match=message):
            to_rtk(bad)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"vectors: expected shape \(view, 12\)"):
        from_astra(torch.ones(3, 11), beam="cone", rows=3, cols=3)


def test_conversions_keep_gradients():
    angles = ANGLES.clone().requires_grad_()
    to_rtk(circular_cone(angles, **CONE)).gantry_angle_deg.sum().backward()
    torch.testing.assert_close(angles.grad, torch.ones_like(angles))
