import numpy as np
import pytest
from scipy import ndimage, special

from xrmflow.morphometry.grey import Levels, bone_share, edge_blur, midpoint, otsu, phase_levels, smooth

SHAPE = (24, 24, 24)


def test_otsu_splits_two_kinds_of_grey():
    rng = np.random.default_rng(0)
    volume = np.concatenate([rng.normal(1, 0.1, 5000), rng.normal(3, 0.1, 5000)])
    assert otsu(volume) == pytest.approx(2, abs=0.1)


def test_otsu_is_the_split_of_least_variance_within():
    rng = np.random.default_rng(0)
    volume = np.concatenate([rng.normal(0, 1, 3000), rng.normal(4, 1.5, 1000)])

    def within(level):
        parts = (volume[volume < level], volume[volume >= level])
        return sum(part.size * part.var() for part in parts)

    levels = np.linspace(-1, 6, 300)
    best = levels[np.argmin([within(level) for level in levels])]
    assert otsu(volume) == pytest.approx(best, abs=0.1)


def test_otsu_of_one_grey_is_refused():
    with pytest.raises(ValueError, match="expected two kinds of grey for Otsu's threshold, got 2 everywhere"):
        otsu(np.full(SHAPE, 2.0))


def test_midpoint_does_not_move_with_the_amount_of_bone(shapes):
    levels = []
    for thickness in (6, 12):
        grey = smooth(0.2 + 1.8 * shapes.rendered(shapes.plate(thickness), SHAPE), 1.0)
        levels.append(midpoint(grey))
    assert levels == pytest.approx([1.1, 1.1], abs=0.02)


def test_levels_are_those_of_the_phases(shapes):
    grey = smooth(0.2 + 1.8 * shapes.rendered(shapes.ball(14), SHAPE), 0.8)
    found = phase_levels(grey, grey > 1.1, np.ones(SHAPE, bool))
    assert (found.bone, found.soft) == pytest.approx((2.0, 0.2), abs=0.01)
    assert found.at(0.5) == pytest.approx(1.1, abs=0.01)


@pytest.mark.parametrize("full", [True, False])
def test_levels_need_both_phases(full):
    with pytest.raises(ValueError, match="bone: expected a mask with and without bone"):
        phase_levels(np.ones(SHAPE, np.float32), np.full(SHAPE, full), np.ones(SHAPE, bool))


@pytest.mark.parametrize("blur", [0.6, 1.0, 1.6])
@pytest.mark.parametrize("axis", [(1, 0, 0), (1, 0.7, 0.4)])
def test_blur_of_edges_is_measured(shapes, blur, axis):
    grey = 3 + 2 * ndimage.gaussian_filter(shapes.rendered(shapes.plate(9, axis, (0.3, 0, 0)), SHAPE), blur)
    found = edge_blur(grey, grey > 4, Levels(5.0, 3.0))
    assert found == pytest.approx(np.sqrt(blur**2 + 1 / 12), abs=0.12)


def test_blur_of_nothing_is_nothing():
    assert edge_blur(np.zeros((4, 4, 4), np.float32), np.ones((4, 4, 4), bool), Levels(1.0, 0.0)) == 0.0


def test_smoothing_spreads_a_voxel_as_a_gaussian():
    point = np.zeros((17, 17, 17), np.float32)
    point[8, 8, 8] = 1
    found = smooth(point, 1.5)
    assert found.sum() == pytest.approx(1, abs=1e-3)
    assert found[8, 8, 8] / found[8, 8, 9] == pytest.approx(np.exp(1 / (2 * 1.5**2)), rel=1e-3)
    np.testing.assert_array_equal(smooth(point, 0), point)


def test_partial_volumes_give_the_volume_of_a_blurred_noisy_ball(shapes):
    rng = np.random.default_rng(0)
    truth = np.pi / 6 * 12.0**3
    grey = ndimage.gaussian_filter(shapes.rendered(shapes.ball(12, centre=(0.3, 0.2, 0.1)), SHAPE), 1.2)
    noisy = 0.5 + 1.5 * (grey + 0.1 * rng.standard_normal(SHAPE).astype(np.float32))
    share = bone_share(noisy, grey > 0.5, np.ones(SHAPE, bool), Levels(2.0, 0.5), reach=3)
    counted = np.count_nonzero(grey > 0.5)
    assert share.sum() == pytest.approx(truth, rel=0.015)
    assert abs(share.sum() - truth) < abs(counted - truth)


def test_edge_model_is_the_error_function():
    # The slope that `edge_blur` solves for is that of f = Phi(u / s) at f.
    s, u = 1.3, 0.4
    slope = (special.ndtr((u + 1e-5) / s) - special.ndtr((u - 1e-5) / s)) / 2e-5
    q = special.ndtri(special.ndtr(u / s))
    assert np.exp(-(q**2) / 2) / (np.sqrt(2 * np.pi) * slope) == pytest.approx(s, rel=1e-6)
