from itertools import combinations, permutations

import numpy as np
import pytest

from xrmflow.metrics.detection import match_points


def brute_force(found, truth, tolerance):
    """Most pairs, then least distance, over all one-to-one matchings."""
    distance = np.linalg.norm(found[:, None] - truth[None], axis=2)
    best = (0, 0.0)
    for size in range(1, min(len(found), len(truth)) + 1):
        for rows in combinations(range(len(found)), size):
            for columns in permutations(range(len(truth)), size):
                d = distance[list(rows), list(columns)]
                if (d <= tolerance).all():
                    best = max(best, (size, -d.sum()))
    return best


@pytest.mark.parametrize("seed", range(12))
def test_equals_exhaustive_search(seed):
    rng = np.random.default_rng(seed)
    found, truth = rng.random((4, 2)), rng.random((5, 2))
    match = match_points(found, truth, tolerance=0.4)
    count, distance = brute_force(found, truth, 0.4)
    assert len(match.pairs) == count
    assert match.distance.sum() == pytest.approx(-distance)


def test_more_pairs_beat_a_closer_pair():
    # Greedy nearest matching would pair (0.0, 0.1) and lose the other two.
    match = match_points([[0.0], [0.9]], [[0.1], [-0.8]], tolerance=1.0)
    assert match.pairs.tolist() == [[0, 1], [1, 0]]


def test_scores():
    match = match_points(
        [[0.0, 0, 0], [5, 0, 0], [9, 9, 9]], [[0, 0, 0.5], [5, 0, 0], [50, 0, 0], [60, 0, 0]], tolerance=1.0
    )
    assert (match.precision, match.recall, match.f1) == pytest.approx((2 / 3, 2 / 4, 4 / 7))


def test_each_point_is_used_once():
    match = match_points(np.zeros((3, 3)), np.zeros((1, 3)), tolerance=1.0)
    assert (match.precision, match.recall) == pytest.approx((1 / 3, 1.0))


def test_tolerance_of_each_true_point():
    match = match_points([[0.4], [10.4]], [[0.0], [10.0]], tolerance=np.array([0.5, 0.3]))
    assert match.pairs.tolist() == [[0, 0]]


def test_nothing_found_and_nothing_there():
    assert match_points(np.empty((0, 3)), np.zeros((2, 3)), tolerance=1.0).recall == 0.0
    assert np.isnan(match_points(np.empty((0, 3)), np.zeros((2, 3)), tolerance=1.0).precision)
    assert np.isnan(match_points([], [], tolerance=1.0).f1)
    assert match_points([[0.0]], [[5.0]], tolerance=1.0).f1 == 0.0


def test_many_points_match_themselves():
    points = np.random.default_rng(0).random((5000, 3))
    match = match_points(points + 1e-6, points, tolerance=1e-3)
    assert match.f1 == 1.0


@pytest.mark.parametrize(
    ("found", "tolerance", "message"),
    [
        ([[0.0, 0.0]], 1.0, "found: expected 3 coordinates a point"),
        ([[np.nan, 0.0, 0.0]], 1.0, "found: expected finite coordinates"),
        ([[0.0, 0.0, 0.0]], -1.0, "tolerance: expected distances of 0 or more"),
    ],
)
def test_bad_arguments_are_named(found, tolerance, message):
    with pytest.raises(ValueError, match=message):
        match_points(found, np.zeros((1, 3)), tolerance=tolerance)
