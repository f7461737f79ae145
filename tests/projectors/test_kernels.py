"""Kernels of sixteen lanes against obvious sums, and all kernels of float32 against float64's, which go another way."""

import numpy as np
import pytest
import torch
from numba import njit

from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.perturbation import perturbed
from xrmflow.geometry.trajectories import circular_cone
from xrmflow.projectors import resample, tilted
from xrmflow.projectors.matrices import pixel_rays
from xrmflow.projectors.transform import backproject, project, project_adjoint

needs_permute = pytest.mark.skipif(not resample.PERMUTE, reason="this processor has no AVX-512, or it is switched off")
TURNS = {
    "upright": {},
    "flipped": {"roll_deg": 180.0},
    "tilted": {"tilt_deg": 1.0},
    "rolled": {"roll_deg": -3.0, "tilt_deg": 2.0, "slant_deg": 1.0},
    "far": {"roll_deg": 25.0, "tilt_deg": 12.0},
    "across": {"roll_deg": 85.0},
}


def hat(x):
    return np.maximum(0.0, 1.0 - np.abs(x))


@njit
def spread(a, b, count, source, wa, wb, start, step):
    resample.spread_permuted(a.ctypes.data, b.ctypes.data, count, source.ctypes.data, wa, wb, start, step)


@needs_permute
@pytest.mark.parametrize("step", [0.56, 0.8, -0.9, 1.0, 1.7, -3.3])
@pytest.mark.parametrize("count", [3, 16, 37])
def test_spreading_is_the_transpose_of_linear_reading(step, count):
    rng = np.random.default_rng(0)
    source = np.zeros(60 + 2 * resample.EDGE + 32, np.float32)
    source[resample.EDGE : 60 + resample.EDGE] = rng.normal(size=60)
    start = resample.EDGE + (20.3 if step > 0 else 55.2)
    a, b = np.zeros((2, count + 5), np.float32)
    spread(a, b, count, source, np.float32(0.3), np.float32(0.7), start, step)
    places = start + np.arange(count) / step
    expected = hat(step * (places[:, None] - np.arange(len(source)))) @ source
    assert np.allclose(a[:count], 0.3 * expected, atol=2e-5)
    assert np.allclose(b[:count], 0.7 * expected, atol=2e-5)
    assert not a[count:].any()
    assert not b[count:].any()


def task(turn, rows, pixel_mm):
    scan = circular_cone(
        torch.arange(3, dtype=torch.float64) * 50 + 45,
        rows=rows,
        cols=37,
        pixel_mm=pixel_mm,
        source_to_axis_mm=150.0,
        source_to_detector_mm=225.0,
    )
    shifts = torch.tensor([[0.3, -0.6], [1.2, 0.1], [-0.7, 0.4]], dtype=torch.float64)
    return perturbed(scan, shifts_px=shifts, **TURNS[turn])


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize(
    ("rows", "pixel_mm", "grid"),
    [
        (133, 0.5, VolumeGrid((139, 21, 19), 0.34, (0.5, -0.3, 0.2))),
        (70, 1.6, VolumeGrid((40, 33, 30), 1.9)),
        (45, 1.6, VolumeGrid((150, 11, 12), 0.35)),
        (140, 0.5, VolumeGrid((40, 11, 12), 2.1)),
    ],
    ids=["blocks", "usual", "fine voxels", "fine pixels"],
)
def test_single_precision_follows_double(turn, rows, pixel_mm, grid):
    scan, generator = task(turn, rows, pixel_mm), torch.Generator().manual_seed(0)
    volume = torch.randn(grid.shape, generator=generator)
    data = torch.randn((scan.views, scan.rows, scan.cols), generator=generator)
    for transform, given in ((project, volume), (project_adjoint, data), (backproject, data)):
        got, expected = transform(given, scan, grid).double(), transform(given.double(), scan, grid)
        assert float(expected.norm()) > 1
        assert float((got - expected).norm() / expected.norm()) < 1e-5


def test_main_directions_of_rays_are_those_of_each_ray():
    grid, scan = VolumeGrid((20, 20, 20), 1.0), task("across", 60, 1.6)
    rays = pixel_rays(scan, grid).numpy()
    bounds, fits = tilted.main_rows(rays, scan.cols, scan.rows)
    assert fits
    row, col = np.arange(scan.rows), np.arange(scan.cols)[:, None]
    for view, (first, last) in enumerate(np.moveaxis(bounds, 2, 1)):
        x, y = (rays[view, 3, n] + col * rays[view, 4, n] + row * rays[view, 5, n] for n in (0, 1))
        inside = (row >= first[:, None]) & (row < last[:, None])
        assert (inside == (np.abs(x) >= np.abs(y))).all()
    assert 0 < inside.sum() < inside.size


def test_steep_rays_are_left_to_the_general_kernels():
    grid, scan = VolumeGrid((20, 20, 20), 1.0), task("tilted", 400, 1.6)
    assert not tilted.main_rows(pixel_rays(scan, grid).numpy(), scan.cols, scan.rows)[1]
