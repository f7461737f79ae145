import runpy
from pathlib import Path

import pytest
import torch

from xrmflow.chain import Linearise, ToLineIntegrals, reconstruct
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import scan_geometry
from xrmflow.projectors.transform import project

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "chain.py"
GRID = VolumeGrid((3, 8, 8), 0.2)


def scan(beam="cone"):
    angles = tuple(float(a) for a in range(0, 360, 30))
    distances = (30.0, 60.0) if beam == "cone" else (None, None)
    pixel = 0.4 if beam == "cone" else 0.2
    return scan_geometry(Acquisition(beam, angles, 4, 10, pixel, *distances, 4.6, 1.5))


def raw(geometry, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    volume = torch.rand(GRID.shape, generator=generator, dtype=dtype)
    darks = 5 + torch.rand((2, geometry.rows, geometry.cols), generator=generator, dtype=dtype)
    flats = 900 + 50 * torch.rand((3, geometry.rows, geometry.cols), generator=generator, dtype=dtype)
    beam = flats.mean(0) - darks.mean(0)
    return darks.mean(0) + beam * torch.exp(-project(volume, geometry, GRID)), flats, darks


@pytest.mark.parametrize("beam", ["cone", "parallel"])
@pytest.mark.parametrize("gain", [None, 2.0])
def test_gradient_of_a_loss_on_the_volume_equals_finite_differences(beam, gain):
    geometry = scan(beam)
    counts, flats, darks = raw(geometry)
    smooth = torch.nn.Conv3d(1, 1, 3, padding=1, bias=False, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    smooth.weight.data = torch.rand(smooth.weight.shape, generator=generator, dtype=torch.float64)
    scale = torch.tensor(1.1, dtype=torch.float64, requires_grad=True)
    cupping = Linearise((0.05, 0.01))

    def loss(counts, flats, darks):
        volume = reconstruct(
            counts,
            flats,
            darks,
            geometry,
            GRID,
            cupping=cupping,
            before=lambda p: scale * p,
            after=lambda v: smooth(v[None])[0],
            photons_per_count=gain,
        )
        return volume.square().sum()

    inputs = [t.clone().requires_grad_() for t in (counts, flats, darks)]
    loss(*inputs).backward()
    for position, tensor in enumerate(inputs):
        direction = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
        step = 1e-3
        ahead, behind = ([t.detach().clone() for t in inputs] for _ in range(2))
        ahead[position] += step * direction
        behind[position] -= step * direction
        difference = (loss(*ahead) - loss(*behind)).item() / (2 * step)
        assert float((tensor.grad * direction).sum()) == pytest.approx(difference, rel=1e-3)
    assert scale.grad is not None
    assert scale.grad != 0
    assert cupping.coefficients.grad.abs().min() > 0


def test_one_pixel_of_the_counts_by_itself():
    geometry = scan()
    counts, flats, darks = raw(geometry)
    counts.requires_grad_()
    weights = torch.rand(GRID.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (reconstruct(counts, flats, darks, geometry, GRID) * weights).sum().backward()
    for pixel in [(0, 1, 4), (5, 2, 7), (11, 3, 0)]:
        moved = [counts.detach().clone() for _ in range(2)]
        moved[0][pixel] += 0.1
        moved[1][pixel] -= 0.1
        values = [float((reconstruct(c, flats, darks, geometry, GRID) * weights).sum()) for c in moved]
        assert float(counts.grad[pixel]) == pytest.approx((values[0] - values[1]) / 0.2, rel=1e-3)


def test_slope_at_zero_stays_one():
    small = torch.full((1, 1, 1), 1e-6, dtype=torch.float64)
    assert Linearise((3.0, -2.0))(small).item() == pytest.approx(1e-6, rel=1e-5)


def test_a_step_without_gradient_can_be_put_in():
    geometry = scan()
    counts, flats, darks = raw(geometry)
    counts[3, 2, 5] = 1e6
    spoiled = reconstruct(counts, flats, darks, geometry, GRID)
    mended = reconstruct(counts, flats, darks, geometry, GRID, repair=lambda t: t.clamp(max=1.0))
    assert mended.abs().max() < spoiled.abs().max()


def test_frames_of_another_size_are_named():
    with pytest.raises(ValueError, match="flats: expected frames of"):
        ToLineIntegrals(torch.ones(3, 4))(torch.ones(2, 3, 5))


def test_the_example_runs_and_finds_the_hardening(capsys):
    found = runpy.run_path(str(EXAMPLE))
    # Two lines 0.3 apart about 1: the exact expansion begins with p + 0.3^2 / 2 p^2.
    assert found["cupping"].coefficients[0].item() == pytest.approx(0.045, abs=0.025)
    assert found["loss"].item() < 0.01
    assert "spread of the grey value" in capsys.readouterr().out
