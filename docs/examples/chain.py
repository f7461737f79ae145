"""From counts to a volume with gradients all the way: fit a beam-hardening coefficient on the volume itself."""

import torch

from xrmflow.chain import Linearise, reconstruct
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import scan_geometry
from xrmflow.projectors.transform import project

angles = tuple(float(a) for a in range(0, 360, 4))
geometry = scan_geometry(Acquisition("cone", angles, 2, 64, 0.1, 30.0, 60.0, 31.5, 0.5))
grid = VolumeGrid((2, 64, 64), 0.05)
y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
radius = (x**2 + y**2).sqrt()
truth = torch.sigmoid((0.7 - radius) * 40).expand(2, 64, 64).contiguous()  # a rod of 1 per mm

flats = torch.full((2, 64), 1e4)
thickness = project(truth, geometry, grid)
counts = flats * (torch.exp(-1.3 * thickness) + torch.exp(-0.7 * thickness)) / 2  # two energies: the beam hardens

cupping = Linearise((0.0,))
optimiser = torch.optim.Adam(cupping.parameters(), lr=0.01)
inside = (radius < 0.55).expand(2, 64, 64)  # away from the blurred edge
for _ in range(30):
    volume = reconstruct(counts, flats, None, geometry, grid, cupping=cupping)
    loss = volume[inside].std() / volume[inside].mean()  # one material should have one grey value
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
print(f"spread of the grey value {loss.item():.3f} with c_2 = {cupping.coefficients[0].item():.3f}")
