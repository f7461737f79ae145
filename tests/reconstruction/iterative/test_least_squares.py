"""SIRT, OS-SART and CGLS against a dense solver, and what each promises on its way there."""

import numpy as np
import pytest
import torch

from xrmflow.geometry.grid import VolumeGrid
from xrmflow.projectors.transform import project
from xrmflow.reconstruction.iterative.cgls import cgls
from xrmflow.reconstruction.iterative.sart import ordered_subsets, os_sart, sirt
from xrmflow.reconstruction.iterative.stopping import Stop
from xrmflow.reconstruction.iterative.system import make_system, mean_column_norm, operator_norm

METHODS = pytest.mark.parametrize("method", [sirt, os_sart, cgls])


def test_cgls_ends_at_the_least_squares_volume(tiny, least_squares):
    found = cgls(*tiny.scan, iterations=60, **least_squares.options)
    torch.testing.assert_close(found.volume, least_squares.volume, rtol=0, atol=1e-4)
    assert found.residuals[-1] == pytest.approx(least_squares.residual, rel=1e-3)


def test_sirt_ends_at_the_volume_of_its_own_weights(tiny, least_squares):
    """SIRT minimises the residual weighted with one over the length of each ray, on top of the given weights."""
    options = least_squares.options
    system = make_system(*tiny.scan, **options)
    by_length = 1 / system.forward(system.ones()).flatten().double()
    by_length[~torch.isfinite(by_length)] = 0
    root = (by_length * options.get("weights", torch.ones(())).expand(tiny.noisy.shape).flatten().double()).sqrt()
    if "weights" in options:
        # The system's lengths are weighted already.
        root = (by_length * options["weights"].flatten().double() ** 1.5).sqrt()
        root[~torch.isfinite(root)] = 0
    inside = options.get("mask", torch.ones(tiny.grid.shape, dtype=torch.bool)).flatten()
    expected = torch.zeros(75, dtype=torch.float64)
    solved = torch.linalg.lstsq(
        (root[:, None] * tiny.matrix)[:, inside], (root * tiny.noisy.flatten().double())[:, None], driver="gelsd"
    )
    expected[inside] = solved.solution[:, 0]
    found = sirt(*tiny.scan, iterations=500, nonnegative=False, relaxation=1.8, **options)
    torch.testing.assert_close(found.volume.flatten().double(), expected, rtol=0, atol=2e-4)


def test_os_sart_comes_close_in_a_fraction_of_the_rounds(tiny):
    simultaneous = sirt(tiny.projections, *tiny.scan[1:], iterations=8)
    subsets = os_sart(tiny.projections, *tiny.scan[1:], iterations=4)
    error = [float((found.volume - tiny.truth).norm()) for found in (simultaneous, subsets)]
    assert error[1] < error[0]


def test_residuals_of_cgls_never_rise(tiny):
    found = cgls(*tiny.scan, iterations=40)
    assert np.all(np.diff(found.residuals) <= 1e-6 * found.residuals[0])
    assert len(found.residuals) == 41


@METHODS
def test_residuals_are_those_of_the_volumes(tiny, method):
    found = method(*tiny.scan, iterations=3)
    before = method(*tiny.scan, iterations=2)
    last = before if method is os_sart else found
    expected = float((project(last.volume, tiny.geometry, tiny.grid) - tiny.noisy).norm())
    # OS-SART meets its subsets one by one, while the volume moves.
    assert found.residuals[-1] == pytest.approx(expected, rel=0.2 if method is os_sart else 1e-4)


@METHODS
def test_the_truth_of_consistent_data_stays_where_it_is(tiny, method):
    found = method(tiny.projections, *tiny.scan[1:], iterations=3, start=tiny.truth)
    torch.testing.assert_close(found.volume, tiny.truth, rtol=0, atol=1e-5)
    assert found.residuals[0] < 1e-5


@METHODS
def test_the_unit_of_length_does_not_matter(tiny, method):
    geometry = tiny.geometry
    scaled = type(geometry)(
        geometry.beam, *(1e3 * getattr(geometry, name) for name in ("source", "detector", "u", "v")), 6, 12
    )
    one = method(*tiny.scan, iterations=4)
    other = method(tiny.noisy, scaled, VolumeGrid(tiny.grid.shape, tiny.grid.voxel_mm * 1e3), iterations=4)
    torch.testing.assert_close(1e3 * other.volume, one.volume, rtol=1e-4, atol=1e-5)


@METHODS
def test_what_has_no_weight_and_what_is_masked_takes_no_part(tiny, method):
    spoiled = torch.where(tiny.weights > 0, tiny.noisy, torch.nan)
    found = method(spoiled, *tiny.scan[1:], iterations=5, weights=tiny.weights, mask=tiny.mask)
    clean = method(*tiny.scan, iterations=5, weights=tiny.weights, mask=tiny.mask, start=torch.zeros(tiny.grid.shape))
    torch.testing.assert_close(found.volume, clean.volume)
    assert bool((found.volume[~tiny.mask] == 0).all())
    booleans = method(spoiled, *tiny.scan[1:], iterations=2, weights=tiny.weights > 0)
    assert bool(torch.isfinite(booleans.volume).all())


@pytest.mark.parametrize("method", [sirt, os_sart])
def test_negative_values_are_excluded_when_asked(tiny, method):
    lowered = project(tiny.truth - 0.5, tiny.geometry, tiny.grid)
    free = method(lowered, *tiny.scan[1:], iterations=30, nonnegative=False)
    held = method(lowered, *tiny.scan[1:], iterations=30, start=-tiny.truth)
    assert float(free.volume.min()) < -0.2
    assert float(held.volume.min()) == 0


def test_stops_when_the_residual_is_the_noise(tiny):
    enough = 0.002 * np.sqrt(tiny.noisy.numel())
    for method in (sirt, os_sart, cgls):
        found = method(*tiny.scan, iterations=500, stop=Stop(noise=0.002))
        assert found.stopped_because == "noise"
        assert found.residuals[-1] <= enough < found.residuals[-2]


def test_stops_when_nothing_changes_any_more(tiny):
    for method in (sirt, os_sart, cgls):
        found = method(*tiny.scan, iterations=400, stop=Stop(relative_change=1e-3))
        assert found.stopped_because == "relative change"
        last = np.array(found.residuals[-4:])
        assert np.all(np.abs(np.diff(last)) < 1e-3 * last[1:])


def test_cgls_stops_at_a_small_gradient(tiny):
    found = cgls(*tiny.scan, iterations=100, stop=Stop(gradient=1e-2))
    assert found.stopped_because == "gradient"
    system = make_system(*tiny.scan)
    gradient = system.adjoint(system.data - system.forward(found.volume)).norm()
    assert gradient <= 1.01e-2 * system.adjoint(system.data).norm()
    assert cgls(torch.zeros_like(tiny.noisy), *tiny.scan[1:], iterations=5).stopped_because == "gradient"


@METHODS
def test_otherwise_the_iterations_end_it_and_progress_is_shown(tiny, method):
    seen = []

    def track(items, *, total=None, label=""):
        for item in items:
            seen.append((total, label))
            yield item

    assert method(*tiny.scan, iterations=3, track=track).stopped_because == "iterations"
    assert [total for total, _ in seen] == [3, 3, 3]
    assert seen[0][1] in ("sirt", "os-sart", "cgls")


def test_subsets_share_the_views_and_follow_far_from_each_other():
    parts = [part.tolist() for part in ordered_subsets(20, subsets=6)]
    assert sorted(view for part in parts for view in part) == list(range(20))
    assert [part[0] for part in parts] == [0, 4, 2, 1, 5, 3]
    assert len(ordered_subsets(100)) == 10
    assert [part.tolist() for part in ordered_subsets(3, subsets=1)] == [[0, 1, 2]]


def test_one_subset_is_sirt(tiny):
    options = {"iterations": 3, "weights": tiny.weights, "mask": tiny.mask}
    torch.testing.assert_close(
        os_sart(*tiny.scan, subsets=1, decay=0.0, **options).volume, sirt(*tiny.scan, **options).volume
    )


def test_operator_norm_is_the_largest_singular_value(tiny, least_squares):
    system = make_system(*tiny.scan, **least_squares.options)
    largest = float(torch.linalg.svdvals(least_squares.matrix)[0])
    assert largest <= operator_norm(system) < 1.02 * largest


def test_mean_column_norm_is_that_of_the_matrix(tiny, least_squares):
    system = make_system(*tiny.scan, **least_squares.options)
    estimates = [mean_column_norm(system, seed=seed) for seed in range(30)]
    expected = float(least_squares.matrix.norm()) / least_squares.matrix.shape[1] ** 0.5
    assert np.sqrt(np.mean(np.square(estimates))) == pytest.approx(expected, rel=0.1)


@METHODS
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"projections": torch.zeros(3, 4, 5)}, r"projections: expected shape \(view, row, col\) = \(9, 6, 12\)"),
        ({"projections": torch.full((9, 6, 12), torch.nan)}, "projections: expected finite line integrals"),
        ({"grid": VolumeGrid((3, 5, 5), 0.02, (0.0, 0.0, 9.0))}, "grid: expected voxels that rays of the scan meet"),
        ({"iterations": 0}, "iterations: expected at least 1, got 0"),
        ({"weights": torch.ones(7)}, r"weights: expected a shape that expands to \(9, 6, 12\), got \(7,\)"),
        ({"weights": -torch.ones(12)}, "weights: expected finite values of 0 or more"),
        ({"weights": torch.zeros(12)}, "weights: expected some above 0, got none"),
        ({"mask": torch.ones(3, 5, 5)}, r"mask: expected booleans of shape \(z, y, x\) = \(3, 5, 5\)"),
        ({"mask": torch.zeros(3, 5, 5, dtype=torch.bool)}, "mask: expected some voxels to reconstruct, got none"),
        ({"start": torch.zeros(2, 2, 2)}, r"start: expected shape \(z, y, x\) = \(3, 5, 5\), got \(2, 2, 2\)"),
        ({"start": torch.full((3, 5, 5), torch.inf)}, "start: expected finite values"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_arguments_are_named(tiny, method, changed, message):
    given = {"projections": tiny.noisy, "geometry": tiny.geometry, "grid": tiny.grid, "iterations": 2} | changed
    scan = [given.pop(name) for name in ("projections", "geometry", "grid")]
    with pytest.raises(ValueError, match=message):
        method(*scan, **given)


def test_bad_steps_and_rules_are_named(tiny):
    for bad in (0.0, 2.0):
        with pytest.raises(ValueError, match="relaxation: expected more than 0 and less than 2"):
            sirt(*tiny.scan, iterations=1, relaxation=bad)
    with pytest.raises(ValueError, match=r"decay: expected 0 or more, got -1"):
        os_sart(*tiny.scan, iterations=1, decay=-1)
    with pytest.raises(ValueError, match="subsets: expected 1 to 9, as many as there are views, got 10"):
        os_sart(*tiny.scan, iterations=1, subsets=10)
    with pytest.raises(ValueError, match=r"stop\.gradient: expected 0 for all methods but CGLS"):
        sirt(*tiny.scan, iterations=1, stop=Stop(gradient=0.1))
    with pytest.raises(ValueError, match=r"stop\.relative_change: expected a fraction"):
        Stop(relative_change=1.0)
    with pytest.raises(ValueError, match=r"stop\.noise: expected a standard deviation of 0 or more, got nan"):
        Stop(noise=float("nan"))
