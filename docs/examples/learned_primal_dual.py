"""Learned primal-dual on the operators: a network that iterates (Adler & Öktem, IEEE TMI 37:1322, 2018).

    python docs/examples/learned_primal_dual.py

The primal-dual method alternates between measurements and image. Here small convolutions take the place of its two
proximal maps, and everything is trained together: gradients flow through the projector and its adjoint, which are
layers like any other. Fan beam, random ellipses, few noisy views; line integrals are exact, not projected voxels.
"""

import argparse

import numpy as np
import torch
from torch import Tensor, nn

from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.trajectories import circular_cone
from xrmflow.metrics.images import psnr
from xrmflow.projectors.analytic import ellipsoid, project_ellipsoid
from xrmflow.projectors.transform import project, project_adjoint
from xrmflow.reconstruction.fdk import fdk
from xrmflow.reconstruction.iterative.system import make_system, operator_norm

PHOTONS = 2000.0


def fan_beam(size: int, views: int):
    """A full turn with a detector of one row, and the slice it sees: 1 mm wide."""
    angles = torch.linspace(0, 360, views + 1)[:-1]
    distances = {"source_to_axis_mm": 4.0, "source_to_detector_mm": 8.0}
    return circular_cone(angles, rows=1, cols=size, pixel_mm=2.2 / size, **distances), VolumeGrid(
        (1, size, size), 1 / size
    )


def phantoms(number: int, geometry, grid, *, seed: int) -> tuple[Tensor, Tensor]:
    """Random ellipses (number, 1, y, x), per mm, and their noisy line integrals (number, view, 1, col)."""
    rng, slices, scans = np.random.default_rng(seed), [], []
    for _ in range(number):
        bodies = [{"centre_mm": (0, 0, 0), "semi_axes_mm": (0.4, 0.35, 9), "attenuation_per_mm": rng.uniform(1, 2)}]
        for _ in range(rng.integers(4, 9)):
            x, y = rng.uniform(-0.2, 0.2, 2)
            axes, turn = (*rng.uniform(0.03, 0.15, 2), 9), rng.uniform(0, np.pi)
            value = rng.uniform(-0.5, 0.5)
            bodies.append({"centre_mm": (x, y, 0), "semi_axes_mm": axes, "turn_rad": turn, "attenuation_per_mm": value})
        slices.append(sum(ellipsoid(grid, samples=2, **body) for body in bodies).float())
        scans.append(sum(project_ellipsoid(geometry, **body) for body in bodies))
    counts = torch.poisson(
        PHOTONS * torch.exp(-torch.stack(scans)), generator=torch.Generator().manual_seed(seed)
    ).clamp(min=1)
    return torch.stack(slices), -torch.log(counts / PHOTONS).float()


class Step(nn.Sequential):
    """What takes the place of a proximal map: three convolutions."""

    def __init__(self, channels: int, memory: int) -> None:
        layers = [nn.Conv2d(channels, 24, 3, padding=1), nn.PReLU(), nn.Conv2d(24, 24, 3, padding=1), nn.PReLU()]
        super().__init__(*layers, nn.Conv2d(24, memory, 3, padding=1))


class LearnedPrimalDual(nn.Module):
    """Measurements (batch, view, 1, col) to slices (batch, 1, y, x); both sides keep `memory` channels."""

    def __init__(self, geometry, grid, *, rounds: int, memory: int = 4) -> None:
        super().__init__()
        self.geometry, self.grid, self.memory = geometry, grid, memory
        none = torch.zeros(geometry.views, geometry.rows, geometry.cols)
        self.scale = operator_norm(make_system(none, geometry, grid))  # brings the operator to norm 1
        self.dual = nn.ModuleList(Step(memory + 2, memory) for _ in range(rounds))
        self.primal = nn.ModuleList(Step(memory + 1, memory) for _ in range(rounds))

    def forward(self, measured: Tensor) -> Tensor:
        geometry, grid = self.geometry, self.grid
        image = fdk(measured, geometry, grid).expand(-1, self.memory, -1, -1)  # a better start than zeros
        dual = torch.zeros_like(measured).swapaxes(1, 2).repeat(1, self.memory, 1, 1)
        data = measured.swapaxes(1, 2)  # (batch, channel, view, col): an image to the convolutions
        for of_dual, of_primal in zip(self.dual, self.primal, strict=True):
            seen = project(image[:, 1:2].contiguous(), geometry, grid).swapaxes(1, 2)
            dual = dual + of_dual(torch.cat([dual, seen, data], 1) / self.scale)
            back = project_adjoint(dual[:, :1].swapaxes(1, 2).contiguous(), geometry, grid)
            image = image + of_primal(torch.cat([image, back / self.scale], 1))
        return image[:, :1]


def main(arguments=None) -> dict[str, float]:
    """Train on random ellipses, compare on others; returns PSNR in dB by method."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=48, help="detector columns and voxels a side")
    parser.add_argument("--views", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=4, help="of the unrolled iteration")
    parser.add_argument("--steps", type=int, default=400, help="of training")
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    geometry, grid = fan_beam(options.size, options.views)
    slices, scans = phantoms(min(160, 4 * options.steps), geometry, grid, seed=0)
    unseen, measured = phantoms(16, geometry, grid, seed=1)
    network = LearnedPrimalDual(geometry, grid, rounds=options.rounds)
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.steps)
    for step in range(options.steps):
        some = torch.randint(len(slices), (4,))
        loss = nn.functional.mse_loss(network(scans[some]), slices[some])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step:4d}: mean squared error {loss.item():.5f}", flush=True)
    with torch.no_grad():
        found = {
            "FDK, ram-lak": fdk(measured, geometry, grid),
            "FDK, Hann": fdk(measured, geometry, grid, window="hann"),
            "learned primal-dual": network(measured),
        }
    quality = {name: psnr(volume, unseen, data_range=2.0) for name, volume in found.items()}
    for name, value in quality.items():
        print(f"{name:<20} {value:5.1f} dB on {len(unseen)} phantoms it has not seen")
    return quality


if __name__ == "__main__":
    main()
