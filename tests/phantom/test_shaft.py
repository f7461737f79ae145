import numpy as np
import pytest

from xrmflow.phantom.pores import Canal, Lacuna
from xrmflow.phantom.shaft import EllipticCylinder, covered

CYLINDER = EllipticCylinder((0.01, -0.02), (0.3, 0.2))


def test_chord_through_the_centre_is_the_diameter():
    along_x = CYLINDER.chord_mm(np.array([-5.0, -0.02, 0.0]), np.array([5.0, -0.02, 0.0]))
    along_y = CYLINDER.chord_mm(np.array([0.01, -5.0, 0.0]), np.array([0.01, 5.0, 0.0]))
    assert (along_x, along_y) == (pytest.approx(0.6), pytest.approx(0.4))


def test_inclined_ray_has_a_longer_chord():
    steep = CYLINDER.chord_mm(np.array([-5.0, -0.02, -5.0]), np.array([5.0, -0.02, 5.0]))
    assert steep == pytest.approx(0.6 * np.sqrt(2))


def test_chords_equal_sampling_along_the_ray():
    rng = np.random.default_rng(0)
    source, target = np.array([0.3, -2.0, 0.1]), rng.uniform(-0.5, 0.5, (40, 3)) + np.array([0, 2.0, 0])
    steps = np.linspace(0, 1, 20001)[:, None, None]
    points = source + steps * (target - source)
    inside = ((points[..., 0] - 0.01) / 0.3) ** 2 + ((points[..., 1] + 0.02) / 0.2) ** 2 < 1
    sampled = inside.mean(axis=0) * np.linalg.norm(target - source, axis=1)
    np.testing.assert_allclose(CYLINDER.chord_mm(source, target), sampled, atol=5e-4)


def test_fraction_sums_to_the_area():
    x = np.linspace(-0.5, 0.5, 101)
    area = CYLINDER.fraction(x, x).sum() * 0.01**2
    assert area == pytest.approx(np.pi * 0.3 * 0.2, rel=2e-3)


def test_coverage_is_linear_across_one_voxel():
    np.testing.assert_allclose(covered(np.array([-2.0, -0.5, 0.0, 0.25, 3.0]), 1.0), [0, 0, 0.5, 0.75, 1])


def test_depth_vanishes_on_the_surface_of_a_lacuna():
    rng = np.random.default_rng(1)
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    lacuna = Lacuna(np.array([0.1, 0.2, 0.3]), axes, np.array([0.003, 0.004, 0.007]))
    direction = rng.normal(size=(50, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    surface = lacuna.centre_mm + (direction * lacuna.semi_axes_mm) @ axes
    np.testing.assert_allclose(lacuna.depth_mm(surface), 0, atol=1e-12)
    assert np.all(lacuna.depth_mm(lacuna.centre_mm + 0.9 * (surface - lacuna.centre_mm)) > 0)
    for axis, length in zip(axes, lacuna.semi_axes_mm, strict=True):
        assert lacuna.reach_mm(axis) == pytest.approx(length)


def test_distance_from_a_canal():
    canal = Canal(np.array([[0.0, 0, 0], [0, 0, 1], [1, 0, 1]]), 0.1)
    points = np.array([[0.3, 0, 0.5], [0.5, 0.2, 1.0], [0, 0, -0.4], [2.0, 0, 1]])
    np.testing.assert_allclose(canal.distance_mm(points), [0.3, 0.2, 0.4, 1.0])
