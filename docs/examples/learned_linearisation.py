"""A learned module before the reconstruction: what hardening does to line integrals, found from one scan alone.

A small monotone network maps measured to corrected line integrals. It is trained on nothing but the scan: bone should
be as bright inside as outside (`xrmflow.calibration.loss`), and that is known only of the reconstruction, so gradients
run through FDK. It prints the difference of the true bone before and after.

    python docs/examples/learned_linearisation.py          (less than a minute on two cores)
"""

import argparse

import numpy as np
import scipy.ndimage
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from xrmflow.calibration.basis import load_slab
from xrmflow.calibration.loss import Homogeneity
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import scan_geometry
from xrmflow.projectors.transform import project
from xrmflow.reconstruction.fdk import fdk


class MonotoneNetwork(nn.Module):
    """p' = p + sum_k v_k s_k(p): convex, growing, and with slope one at zero, whatever its weights.

    s_k(p) = softplus(u_k p + b_k) less its value and slope at zero; u_k, v_k > 0.
    """

    def __init__(self, units: int = 4) -> None:
        super().__init__()
        self.u, self.v = nn.Parameter(torch.linspace(-1, 1, units)), nn.Parameter(torch.full((units,), -3.0))
        self.b = nn.Parameter(torch.linspace(0, -2, units))

    def forward(self, p: Tensor) -> Tensor:
        """Corrected line integrals of the same shape."""
        u, v, b, p = softplus(self.u), softplus(self.v), self.b, p[..., None]
        bent = softplus(u * p + b) - softplus(b) - u * p * torch.sigmoid(b)
        return (p[..., 0] + (v * bent).sum(dim=-1)).contiguous()


def simulated_scan(cols: int, rows: int, views: int) -> tuple[np.ndarray, Acquisition, np.ndarray]:
    """Line integrals of a tube and a rod of bone in tissue behind a two-energy beam, with noise; where bone is."""
    angles = tuple(np.linspace(0, 360, views, endpoint=False))
    voxel = 1.6 / cols
    acquisition = Acquisition("cone", angles, rows, cols, 2 * voxel, 40.0, 80.0, (cols - 1) / 2 + 0.4, (rows - 1) / 2)
    y, x = (np.mgrid[:cols, :cols] - (cols - 1) / 2) * voxel
    outline = np.hypot(x, y) / (1 + 0.05 * np.cos(2 * np.arctan2(y, x)))
    bone = (outline < 0.62) & (outline > 0.36) | (np.hypot(x - 0.05, y) < 0.17)
    volume = np.where(bone, 1.3, np.where(outline < 0.68, 0.15, 0.0)).astype(np.float32)
    grid = VolumeGrid((2 * rows, cols, cols), voxel)
    lengths = project(torch.from_numpy(volume).expand(grid.shape).contiguous(), scan_geometry(acquisition), grid)
    p = -torch.log(0.5 * torch.exp(-1.6 * lengths) + 0.5 * torch.exp(-0.4 * lengths)).numpy()
    return p + np.random.default_rng(0).normal(0, 0.01, p.shape).astype(np.float32), acquisition, bone


def difference(volume: Tensor, bone: np.ndarray) -> float:
    """Outer minus inner third of bone over its mean, two voxels below its surface."""
    bone = scipy.ndimage.binary_erosion(bone, iterations=2)
    radius = np.hypot(*(np.mgrid[: len(bone), : len(bone)] - (len(bone) - 1) / 2))
    inner, outer = np.quantile(radius[bone], (1 / 3, 2 / 3))
    grey = volume.detach().mean(dim=0).numpy()
    return float((grey[bone & (radius > outer)].mean() - grey[bone & (radius < inner)].mean()) / grey[bone].mean())


def train(cols: int = 96, rows: int = 6, views: int = 120, steps: int = 40) -> tuple[float, float]:
    """The difference before and after training on one scan."""
    torch.manual_seed(0)
    p, acquisition, bone = simulated_scan(cols, rows, views)
    slab = load_slab(p, acquisition, degree=1, slices=rows)
    measured, loss_of, network = slab.powers[0], Homogeneity.of(slab), MonotoneNetwork()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.1)
    for step in range(steps):
        volume = fdk(network(measured), slab.geometry, slab.grid)
        loss = loss_of(volume)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 10 == 0:
            print(f"step {step}: loss {loss.item():.2e}")
    after = fdk(network(measured), slab.geometry, slab.grid)
    return difference(slab.basis()[0], bone), difference(after, bone)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    before, after = train(steps=parser.parse_args().steps)
    print(f"outer over inner bone: {100 * before:.1f} % before, {100 * after:.1f} % after")
