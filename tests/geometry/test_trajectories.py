"""Constructors: equal to the record's geometry where both exist, and to first principles where not."""

import numpy as np
import pytest
import torch

from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.scan import scan_geometry
from xrmflow.geometry.trajectories import circular_cone, helical, offset_detector, parallel, per_view

ANGLES = torch.tensor([0.0, 31.0, 90.0, 200.0, 350.0], dtype=torch.float64)
DETECTOR = {"rows": 9, "cols": 12, "pixel_mm": 0.4}
CONE = {**DETECTOR, "source_to_axis_mm": 50.0, "source_to_detector_mm": 80.0}
VECTORS = ("source", "detector", "u", "v")


def record(beam, **changes):
    far = (50.0, 80.0) if beam == "cone" else (None, None)
    values = {"centre_px": 5.5, "midplane_px": 4.0, **DETECTOR, **changes}
    return scan_geometry(
        Acquisition(
            beam=beam,
            angles_deg=tuple(ANGLES.tolist()),
            source_to_axis_mm=far[0],
            source_to_detector_mm=far[1],
            **values,
        )
    )


def assert_same(got, expected):
    assert (got.beam, got.rows, got.cols) == (expected.beam, expected.rows, expected.cols)
    for name in VECTORS:
        torch.testing.assert_close(getattr(got, name), getattr(expected, name), rtol=0, atol=1e-12)


@pytest.mark.parametrize("place", [{}, {"centre_px": 4.2, "midplane_px": 4.9}])
def test_circle_and_parallel_are_those_of_the_record(place):
    assert_same(circular_cone(ANGLES, **CONE, **place), record("cone", **place))
    assert_same(parallel(ANGLES, **DETECTOR, **place), record("parallel", **place))


def test_an_offset_detector_sees_the_axis_on_a_lower_column():
    assert_same(offset_detector(ANGLES, **CONE, offset_px=3.25), record("cone", centre_px=5.5 - 3.25))


def test_a_helix_climbs_one_pitch_a_turn_around_zero():
    angles = torch.tensor([-360.0, 0.0, 90.0, 360.0], dtype=torch.float64)
    climbing, flat = helical(angles, **CONE, pitch_mm=2.0), circular_cone(angles, **CONE)
    for name in ("source", "detector"):
        rise = getattr(climbing, name) - getattr(flat, name)
        np.testing.assert_allclose(rise[:, 2], [-2.0, 0.0, 0.5, 2.0], atol=1e-12)
        assert float(rise[:, :2].abs().max()) == 0
    assert torch.equal(climbing.u, flat.u)


def test_any_views_from_their_vectors():
    expected = record("parallel")
    got = per_view(
        "parallel",
        source=expected.source * 7,
        detector=expected.detector,
        u=expected.u,
        v=expected.v[0],
        rows=9,
        cols=12,
    )
    assert_same(got, expected)


@pytest.mark.parametrize(
    "build",
    [
        lambda p: circular_cone(ANGLES + p[0], **{**CONE, "source_to_axis_mm": 50 + p[1]}, centre_px=5 + p[2]),
        lambda p: helical(ANGLES, **{**CONE, "pixel_mm": 0.4 + p[0]}, pitch_mm=p[1], midplane_px=4 + p[2]),
        lambda p: parallel(ANGLES + p[0], **DETECTOR, centre_px=5 + p[1], midplane_px=4 + p[2]),
        lambda p: offset_detector(ANGLES + p[0], **{**CONE, "source_to_detector_mm": 80 + p[1]}, offset_px=p[2]),
    ],
)
def test_every_parameter_is_differentiable(build):
    def vectors(p):
        return torch.cat([getattr(build(p), name) for name in VECTORS])

    parameters = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(vectors, parameters)
    weights = torch.randn((20, 3), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert all(torch.autograd.grad((vectors(parameters) * weights).sum(), parameters)[0] != 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixel_mm": 0.0}, "pixel_mm: expected a positive length"),
        ({"source_to_detector_mm": 40.0}, "source_to_detector_mm: expected more than source_to_axis_mm"),
        ({"source_to_axis_mm": float("nan")}, "source_to_axis_mm: expected a positive length"),
    ],
)
def test_impossible_lengths_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        circular_cone(ANGLES, **(CONE | changes))


def test_vectors_of_other_shapes_are_refused_by_name():
    vectors = {name: getattr(record("cone"), name) for name in VECTORS}
    with pytest.raises(ValueError, match=r"u: expected shape \(view, 3\)"):
        per_view("cone", **(vectors | {"u": torch.ones(5, 2)}), rows=9, cols=12)
    with pytest.raises(ValueError, match="source: expected directions"):
        per_view("parallel", **(vectors | {"source": torch.zeros(3)}), rows=9, cols=12)
