"""Total variation: its pieces, both solvers, and what it is for."""

import math

import pytest
import torch

from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.trajectories import circular_cone
from xrmflow.metrics.images import psnr
from xrmflow.projectors.analytic import ellipsoid, project_ellipsoid
from xrmflow.projectors.transform import project
from xrmflow.reconstruction.fdk import fdk
from xrmflow.reconstruction.iterative.cgls import cgls
from xrmflow.reconstruction.iterative.stopping import Stop
from xrmflow.reconstruction.iterative.tv import tv_fista, tv_pdhg
from xrmflow.reconstruction.iterative.variation import (
    Denoiser,
    divergence,
    gradient,
    gradient_norm,
    matched_strength,
    noise_level,
    total_variation,
)

SOLVERS = pytest.mark.parametrize("solver", [tv_fista, tv_pdhg])
SHAPES = pytest.mark.parametrize("shape", [(4, 5, 6), (1, 7, 3), (1, 1, 5), (1, 1, 1)])
STRENGTH = 5e-4


def random(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@SHAPES
def test_divergence_is_minus_the_transpose_of_the_gradient(shape):
    x, y = random(*shape), random(3, *shape, seed=1)
    torch.testing.assert_close((gradient(x) * y).sum(), -(x * divergence(y)).sum(), rtol=1e-12, atol=1e-12)


@SHAPES
def test_the_norm_of_the_gradient_is_bounded(shape):
    size = math.prod(shape)
    matrix = torch.stack([gradient(unit.reshape(shape)).flatten() for unit in torch.eye(size, dtype=torch.float64)])
    assert float(torch.linalg.matrix_norm(matrix, ord=2)) <= gradient_norm(shape) + 1e-12


def test_total_variation_of_known_volumes():
    step = torch.zeros(4, 5, 6)
    step[:, :, 3:] = 2.0
    assert total_variation(step) == pytest.approx(2.0 * 4 * 5)
    corner = torch.zeros(1, 2, 2)
    corner[0, 0, 0] = 1.0
    assert total_variation(corner) == pytest.approx(math.sqrt(2))
    assert total_variation(torch.full((3, 3, 3), 7.0)) == 0


def test_denoising_a_step_takes_the_same_from_both_sides():
    """Two plateaus of n voxels: the proximal map moves each by strength / n towards the other, in closed form."""
    step = torch.zeros(1, 1, 12, dtype=torch.float64)
    step[..., 4:] = 1.0
    denoise = Denoiser(step, nonnegative=False, mask=None)
    denoised = denoise(step, 0.8, steps=400)[0, 0]
    torch.testing.assert_close(denoised[:4], torch.full((4,), 0.2, dtype=torch.float64), rtol=0, atol=1e-3)
    torch.testing.assert_close(denoised[4:], torch.full((8,), 0.9, dtype=torch.float64), rtol=0, atol=1e-3)
    torch.testing.assert_close(denoise(step, 0.0, steps=1), step)


def test_fista_and_pdhg_end_at_the_same_volume_and_no_other_is_better(tiny):
    options = {"strength": STRENGTH, "weights": tiny.weights, "mask": tiny.mask}
    found = [
        tv_fista(*tiny.scan, iterations=100, denoising_steps=15, **options),
        tv_pdhg(*tiny.scan, iterations=400, **options),
    ]

    def objective(volume):
        lines = (project(volume, tiny.geometry, tiny.grid) - tiny.noisy) * tiny.weights.sqrt()
        return 0.5 * float((lines.double() ** 2).sum()) + STRENGTH * total_variation(volume)

    values = [objective(one.volume) for one in found]
    assert values[0] == pytest.approx(values[1], rel=1e-4)
    torch.testing.assert_close(found[0].volume, found[1].volume, rtol=0, atol=3e-3)
    for seed in range(5):
        moved = (found[1].volume + 0.01 * random(3, 5, 5, seed=seed).float() * tiny.mask).clamp(min=0)
        assert objective(moved) > values[1]
    assert all(bool((one.volume[~tiny.mask] == 0).all()) for one in found)


@SOLVERS
def test_without_strength_it_is_least_squares(tiny, solver):
    found = solver(*tiny.scan, strength=0.0, iterations=300, nonnegative=False)
    torch.testing.assert_close(found.volume, cgls(*tiny.scan, iterations=60).volume, rtol=0, atol=3e-3)


@SOLVERS
def test_the_more_strength_the_flatter(tiny, solver):
    flat = [
        total_variation(solver(*tiny.scan, strength=s, iterations=80).volume) for s in (0.0, STRENGTH, 20 * STRENGTH)
    ]
    assert flat[0] > 1.02 * flat[1] > 1.5 * flat[2]


@SOLVERS
def test_a_flat_volume_stays_where_it_is(tiny, solver):
    flat = torch.full(tiny.grid.shape, 0.7)
    projections = project(flat, tiny.geometry, tiny.grid)
    found = solver(projections, *tiny.scan[1:], strength=STRENGTH, iterations=3, start=flat)
    torch.testing.assert_close(found.volume, flat, rtol=0, atol=1e-5)


@SOLVERS
def test_negative_values_are_excluded_when_asked(tiny, solver):
    lowered = project(tiny.truth - 0.5, tiny.geometry, tiny.grid)
    free = solver(lowered, *tiny.scan[1:], strength=1e-5, iterations=60, nonnegative=False)
    held = solver(lowered, *tiny.scan[1:], strength=1e-5, iterations=60, start=-tiny.truth)
    assert float(free.volume.min()) < -0.2
    assert float(held.volume.min()) == 0


@SOLVERS
def test_each_rule_stops_it(tiny, solver):
    flat = solver(*tiny.scan, strength=STRENGTH, iterations=500, stop=Stop(relative_change=1e-4))
    assert flat.stopped_because == "relative change"
    noisy = solver(*tiny.scan, strength=1e-6, iterations=500, stop=Stop(noise=0.003))
    assert noisy.stopped_because == "noise"
    assert noisy.residuals[-1] <= 0.003 * math.sqrt(tiny.noisy.numel()) < noisy.residuals[-2]
    assert solver(*tiny.scan, strength=STRENGTH, iterations=2).stopped_because == "iterations"
    residual = (project(noisy.volume, tiny.geometry, tiny.grid) - tiny.noisy).norm()
    assert noisy.residuals[-1] == pytest.approx(float(residual), rel=1e-3)


def test_bad_arguments_are_named(tiny):
    for bad in (-1.0, math.nan):
        with pytest.raises(ValueError, match="strength: expected 0 mm or more"):
            tv_fista(*tiny.scan, strength=bad, iterations=1)
    with pytest.raises(ValueError, match=r"balance: expected more than 0, got 0\.0"):
        tv_pdhg(*tiny.scan, strength=0.0, iterations=1, balance=0.0)
    with pytest.raises(ValueError, match=r"stop\.gradient: expected 0 for all methods but CGLS"):
        tv_pdhg(*tiny.scan, strength=0.0, iterations=1, stop=Stop(gradient=0.1))
    with pytest.raises(ValueError, match="noise: expected a standard deviation of 0 or more, got -1"):
        matched_strength(*tiny.scan, noise=-1.0)
    with pytest.raises(ValueError, match="grid: expected voxels that rays of the scan meet"):
        tv_fista(*tiny.scan[:2], VolumeGrid((3, 5, 5), 0.02, (0.0, 0.0, 9.0)), strength=0.0, iterations=1)


@pytest.fixture(scope="module")
def few_views():
    """A tube with rods in it, from 20 views of 2000 photons a pixel."""
    geometry = circular_cone(
        torch.linspace(0, 360, 21)[:-1],
        rows=6,
        cols=40,
        pixel_mm=0.03,
        source_to_axis_mm=10.0,
        source_to_detector_mm=20.0,
    )
    grid = VolumeGrid((8, 40, 40), 0.015)
    bodies = [((0.0, 0.0), (0.24, 0.2), 2.0), ((0.02, 0.0), (0.15, 0.13), -1.5), ((0.05, 0.04), (0.03, 0.04), 1.0)]
    bodies = [
        {"centre_mm": (*at, 0.0), "semi_axes_mm": (*axes, 20.0), "attenuation_per_mm": mu} for at, axes, mu in bodies
    ]
    clean = sum(project_ellipsoid(geometry, **body) for body in bodies)
    truth = sum(ellipsoid(grid, samples=2, **body) for body in bodies).float()
    counts = torch.poisson(2000 * torch.exp(-clean), generator=torch.Generator().manual_seed(0)).clamp(min=1)
    return (-torch.log(counts / 2000)).float(), geometry, grid, truth


def test_the_noise_is_found_in_the_projections(few_views):
    projections, _, _, _ = few_views
    assert noise_level(projections, weights=torch.exp(-projections)) == pytest.approx(2000**-0.5, rel=0.08)
    white = 0.3 * random(4, 30, 40) + torch.linspace(0, 5, 40)
    weights = torch.ones(4, 30, 40)
    weights[:, :, 7] = 0
    spoiled = torch.where(weights > 0, white, torch.nan)
    for rows in (slice(None), slice(0, 1)):
        assert noise_level(spoiled[:, rows], weights=weights[:, rows]) == pytest.approx(0.3, rel=0.2)
    with pytest.raises(ValueError, match="projections: expected at least 2 x 2 pixels or 3 columns, got 1 x 2"):
        noise_level(white[:, :1, :2])
    with pytest.raises(ValueError, match="weights: expected neighbouring pixels above 0"):
        noise_level(white, weights=torch.zeros(40))


def test_tv_of_few_noisy_views_is_far_better_than_fdk(few_views):
    projections, geometry, grid, truth = few_views
    weights = torch.exp(-projections)
    noise = noise_level(projections, weights=weights)
    strength = matched_strength(projections, geometry, grid, noise=noise, weights=weights)
    core = slice(2, -2)
    quality = [
        psnr(volume[core], truth[core], data_range=2.0)
        for volume in (
            fdk(projections, geometry, grid, window="hann"),
            tv_pdhg(projections, geometry, grid, strength=strength, weights=weights, iterations=60).volume,
            tv_fista(projections, geometry, grid, strength=strength, weights=weights, iterations=30).volume,
        )
    ]
    assert quality[1] > quality[0] + 6
    assert quality[2] > quality[0] + 6
