"""Angular, redundancy and obliquity weights."""

import math

import numpy as np
import pytest
import torch

from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.scan import scan_geometry
from xrmflow.reconstruction.weights import (
    angular_steps,
    cosine_weights,
    fan_angles,
    is_offset,
    limited_arc_deg,
    missing_columns,
    parker,
    scanned_arc,
    view_weights,
)


def degrees(*values):
    return torch.deg2rad(torch.tensor(np.concatenate([np.atleast_1d(v) for v in values]), dtype=torch.float64))


def scan(angles, beam="cone", cols=33, **changes):
    record = {
        "beam": beam,
        "angles_deg": tuple(float(a) for a in angles),
        "rows": 5,
        "cols": cols,
        "pixel_mm": 1.5,
        "source_to_axis_mm": 100.0 if beam == "cone" else None,
        "source_to_detector_mm": 150.0 if beam == "cone" else None,
        "centre_px": (cols - 1) / 2,
        "midplane_px": 2.0,
    }
    return scan_geometry(Acquisition(**(record | changes)))


@pytest.mark.parametrize(
    ("angles", "period"),
    [
        (np.arange(0, 360, 3.0), 2 * math.pi),
        (np.arange(0, 361, 3.0), 2 * math.pi),  # the last view repeats the first
        (np.arange(0, 720, 3.0) + 7, 2 * math.pi),
        (np.linspace(0, 180, 61), math.pi),
        (np.linspace(0, 360, 61), math.pi),
        (np.arange(0, 360, 2.0) + np.random.default_rng(0).uniform(-0.9, 0.9, 180), 2 * math.pi),
        (-np.arange(0, 180, 0.7), math.pi),
    ],
)
def test_steps_add_up_to_the_period(angles, period):
    steps = angular_steps(degrees(angles), period)
    assert float(steps.sum()) == pytest.approx(period)
    assert bool((steps >= 0).all())


def test_steps_follow_the_local_density_of_views():
    steps = angular_steps(degrees(np.arange(0, 90, 1.0), np.arange(90, 180, 2.0)), math.pi)
    assert float(torch.rad2deg(steps[45])) == pytest.approx(1.0)
    assert float(torch.rad2deg(steps[110])) == pytest.approx(2.0)


def test_a_missing_wedge_gets_no_weight():
    steps = angular_steps(degrees(np.arange(0, 121, 1.0)), math.pi)
    assert float(torch.rad2deg(steps.sum())) == pytest.approx(121.0)


@pytest.mark.parametrize(
    ("angles", "arc"),
    [
        (np.arange(0, 360, 2.0), None),
        (np.arange(0, 361, 2.0), None),
        (np.arange(0, 201, 2.0) + 300, (299, 202)),
        (-np.arange(0, 201, 2.0), (159, 202)),
        (np.random.default_rng(0).permutation(np.arange(0, 201, 2.0)) + 300, (299, 202)),
    ],
)
def test_the_scanned_arc_is_found_in_any_order_and_direction(angles, arc):
    found = scanned_arc(degrees(angles))
    if arc is None:
        assert found is None
    else:
        assert np.rad2deg(found) == pytest.approx(arc)


@pytest.mark.parametrize("span_deg", [200.0, 230.0, 340.0])
def test_both_measurements_of_a_ray_add_up_to_one(span_deg):
    """The ray at (angle, fan) is the ray at (angle + 180 + 2 fan, -fan) seen from the other side."""
    span = math.radians(span_deg)
    angles = torch.linspace(0, span, 400, dtype=torch.float64)[:, None]
    fan = torch.deg2rad(torch.linspace(-9.9, 9.9, 21, dtype=torch.float64))
    weights = parker(angles, fan, span)
    ahead = parker(angles + math.pi + 2 * fan, -fan, span)
    back = parker(angles - math.pi + 2 * fan, -fan, span)
    torch.testing.assert_close(weights + ahead + back, torch.ones_like(weights), rtol=0, atol=1e-12)
    assert float(weights.min()) >= 0


def test_conjugate_rays_coincide_in_space():
    """Pins the sign of the fan angle: the pair named above is one line, from first principles."""
    geometry = scan([40.0])
    fan = fan_angles(geometry)[0]
    angle, column = math.radians(40.0), 3
    other = scan([math.degrees(angle + math.pi + 2 * float(fan[column]))])
    pixel = lambda g, c: g.detector[0] + (c - 16) * g.u[0]  # noqa: E731
    line = pixel(geometry, column) - geometry.source[0]
    back = pixel(other, 32 - column) - other.source[0]
    assert float(torch.nn.functional.cosine_similarity(line, back, dim=0)) == pytest.approx(-1.0)
    between = other.source[0] - geometry.source[0]
    assert float(torch.nn.functional.cosine_similarity(line, between, dim=0)) == pytest.approx(1.0)


def test_cosine_weight_of_a_facing_detector():
    weights = cosine_weights(scan([0.0, 90.0]))
    u = (torch.arange(33) - 16) * 1.5
    v = (torch.arange(5) - 2) * 1.5
    expected = 150 / torch.sqrt(150**2 + u**2 + v[:, None] ** 2)
    torch.testing.assert_close(weights[1], expected)


def test_opposite_views_of_a_full_turn_share_their_weight():
    weights = view_weights(scan(np.arange(0, 360, 4.0)))
    # Half the angular step over the pitch at the axis, 1 mm.
    torch.testing.assert_close(weights, torch.full((90, 33), 0.5 * math.radians(4.0), dtype=torch.float64))


def test_one_view_is_not_a_scan():
    with pytest.raises(ValueError, match="geometry: expected at least 2 views"):
        view_weights(scan([0.0]))


@pytest.mark.parametrize("beam", ["cone", "parallel"])
@pytest.mark.parametrize("centre", [6.0, 24.5])
def test_both_measurements_of_an_offset_scan_add_up_to_one(beam, centre):
    """The ray at distance s from the axis is seen again, half a turn later, at -s."""
    geometry = scan(np.arange(0, 360, 4.0), beam, centre_px=centre)
    weights = view_weights(geometry)[0] * (1.5 if beam == "parallel" else 1.0) / math.radians(4.0)
    near = min(centre, 32 - centre)
    s = torch.arange(33) - centre
    both = s.abs() <= near
    order = torch.argsort(s[both])
    pairs = weights[both][order] + weights[both][order].flip(0)
    torch.testing.assert_close(pairs, torch.ones_like(pairs), rtol=0, atol=1e-5)
    torch.testing.assert_close(weights[~both], torch.ones(int((~both).sum()), dtype=torch.float64), rtol=0, atol=1e-5)


def test_the_detector_is_made_as_wide_on_both_sides_of_the_axis():
    assert missing_columns(scan(np.arange(0, 360, 4.0), centre_px=6.0)) == (20, 0)
    assert missing_columns(scan(np.arange(0, 360, 4.0), centre_px=24.5)) == (0, 17)


@pytest.mark.parametrize(
    ("angles", "centre"),
    [(np.arange(0, 360, 4.0), 16.0), (np.arange(0, 360, 4.0), 17.5), (np.arange(0, 201, 4.0), 6.0)],
)
def test_a_nearly_centred_or_short_scan_is_not_an_offset_scan(angles, centre):
    geometry = scan(angles, centre_px=centre)
    assert not is_offset(geometry)
    assert missing_columns(geometry) == (0, 0)


@pytest.mark.parametrize(
    ("angles", "expected"),
    [
        (np.arange(0, 360, 3.0), None),
        (np.arange(0, 180, 15.0), None),
        (np.arange(0, 176, 1.0), None),
        (np.arange(0, 90.5, 0.5), 90.5),
        (np.arange(330, 391, 1.0), 61.0),
    ],
)
def test_arcs_of_less_than_half_a_turn_are_limited(angles, expected):
    found = limited_arc_deg(scan(angles))
    assert found == (None if expected is None else pytest.approx(expected))
