import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from xrmflow.calibration.basis import load_slab
from xrmflow.calibration.loss import Homogeneity
from xrmflow.calibration.polynomial import linearise
from xrmflow.reconstruction.fdk import fdk

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "learned_linearisation.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("learned_linearisation", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def slab(example):
    p, acquisition, _ = example.simulated_scan(cols=64, rows=4, views=60)
    return load_slab(p, acquisition, degree=3, slices=4)


def test_gradient_to_the_coefficients_by_three_ways(slab):
    """Through the sum of basis volumes, through the reconstruction, and by finite differences."""
    loss_of, basis, start = Homogeneity.of(slab), slab.basis(), (0.15, 0.05)

    def gradient(volume_of):
        c = torch.tensor(start, dtype=torch.float64, requires_grad=True)
        loss_of(volume_of(c)).backward()
        assert c.grad is not None
        return c.grad.numpy()

    def with_unit_slope(c):
        return torch.cat([torch.ones(1, dtype=c.dtype), c])

    linear = gradient(lambda c: torch.tensordot(with_unit_slope(c), basis.double(), dims=1))
    # The powers are averaged over pixels before they are reconstructed; without binning that is the same.
    measured = slab.powers[0]
    through = gradient(lambda c: fdk(linearise(measured, with_unit_slope(c).float()), slab.geometry, slab.grid))

    def loss(c):
        return float(loss_of(torch.tensordot(with_unit_slope(torch.tensor(c)), basis.double(), dims=1)))

    step = 1e-4
    differences = [
        (loss(np.add(start, step * unit)) - loss(np.subtract(start, step * unit))) / (2 * step) for unit in np.eye(2)
    ]
    assert through == pytest.approx(linear, rel=1e-3)
    assert differences == pytest.approx(linear.tolist(), rel=1e-3)


def layers():
    """Depth, Z and a bone that is the same everywhere, but for its depth."""
    rng = np.random.default_rng(0)
    depth = rng.integers(0, 7, (4, 20, 20))
    return depth, rng.random(depth.shape).astype(np.float32), torch.from_numpy(depth * 0.1 + 1.0)


def test_equal_bone_costs_nothing_whatever_its_scale_and_edges():
    depth, hardening, volume = layers()
    loss = Homogeneity(depth, hardening)
    assert loss(volume) < 1e-20
    tilted = volume - 0.1 * torch.from_numpy(hardening)
    assert loss(tilted) > 1e-4
    assert float(loss(3 * tilted)) == pytest.approx(float(loss(tilted)))


def test_noise_costs_little():
    depth, hardening, volume = layers()
    loss, noise = Homogeneity(depth, hardening), torch.randn(depth.shape, generator=torch.Generator().manual_seed(0))
    assert loss(volume + 0.1 * noise) < 0.1 * 0.1**2


def test_bad_arguments(slab):
    with pytest.raises(ValueError, match="bins: expected at least 2, got 1"):
        Homogeneity(*layers()[:2], bins=1)
    depth, hardening, _ = layers()
    with pytest.raises(ValueError, match=r"hardening: expected the shape of depth, \(4, 20, 20\), got \(3, 20, 20\)"):
        Homogeneity(depth, hardening[1:])
    with pytest.raises(ValueError, match="depth: expected voxels of bone 2 or more below its surface, got none"):
        Homogeneity(np.minimum(depth, 1), hardening)
    with pytest.raises(ValueError, match=r"volume: expected shape \(4, 20, 20\), got \(5, 20, 20\)"):
        Homogeneity(depth, hardening)(torch.zeros(5, 20, 20))
    empty = load_slab(np.zeros((60, 4, 64), np.float32), example_acquisition(slab), degree=1, slices=4)
    with pytest.raises(ValueError, match="slab: expected bone"):
        Homogeneity.of(empty)


def example_acquisition(slab):
    from xrmflow.geometry.acquisition import Acquisition

    return Acquisition("parallel", tuple(np.linspace(0, 180, 60, endpoint=False)), 4, 64, 0.025, None, None, 31.5, 1.5)


def test_a_network_learns_the_correction_from_one_scan(example):
    before, after = example.train(cols=64, rows=4, views=60, steps=15)
    assert before > 0.08
    assert abs(after) < 0.35 * before


def test_the_network_is_monotone_with_slope_one_at_zero(example):
    network = example.MonotoneNetwork()
    torch.nn.init.normal_(network.u, 0, 2)
    p = torch.linspace(0, 4, 50, requires_grad=True)
    slope = torch.autograd.grad(network(p).sum(), p)[0]
    assert float(slope[0]) == pytest.approx(1.0)
    assert (slope >= 1).all()
