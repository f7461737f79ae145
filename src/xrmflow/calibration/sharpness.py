"""The sharpness route of `align`: in the right geometry the reconstruction has most energy between coarse and fine.

    E(theta) = |G F q(theta)|^2        q: images, F: reconstruction, G: band-pass within slices

By Parseval's theorem the energy of a slice hardly depends on the centre where lines are measured once (parallel beam
over half a turn, offset detector); there this route is blind and says so. Over a full turn every edge is drawn twice,
and together only in the right place. The gradient goes back through the reconstruction once for all parameters,

    dE/dtheta_k = 2 < F' G' G F q, dq/dtheta_k >

and Newton's step takes one such gradient more for each parameter. What changes the size of the object (tilt and slant)
changes its energy too, so only centre and roll are judged by it.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from xrmflow.calibration.consistency import COARSEST_PX, FINEST_PX, Level, gaussian
from xrmflow.geometry.acquisition import Acquisition

NUMBERS = ("centre_px", "roll_deg")
DIFFERENCE = {"centre_px": 0.25, "roll_deg": 0.1}
# Least relative drop of the energy by a displacement of one coarse pixel for the energy to tell.
LEAST_DROP = 0.01


@dataclass(frozen=True)
class Sharpness:
    """Energy at a geometry, and where it would be largest.

    Attributes:
        energy: E, arbitrary unit.
        change: Newton's step of `NUMBERS`; zeros where blind.
        drop: relative drop of the energy for a centre one coarse pixel off, from its curvature.
        blind: whether the energy has no clear maximum.
        operations: reconstructions and their transposes made.
    """

    energy: float
    change: np.ndarray
    drop: float
    blind: bool
    operations: int

    def applied(self, acquisition: Acquisition) -> Acquisition:
        """The geometry after the step."""
        moved = {name: getattr(acquisition, name) + float(c) for name, c in zip(NUMBERS, self.change, strict=True)}
        return replace(acquisition, **moved)


def sharper(level: Level, acquisition: Acquisition) -> Sharpness:
    """Newton's step towards the sharpest reconstruction, from a geometry near it."""
    energy, gradient = energy_gradient(level, acquisition)
    curvature = np.zeros((2, 2))
    for k, name in enumerate(NUMBERS):
        h = DIFFERENCE[name] * level.binning
        ahead = replace(acquisition, **{name: getattr(acquisition, name) + h})
        curvature[k] = (energy_gradient(level, ahead)[1] - gradient) / h
    curvature = 0.5 * (curvature + curvature.T)
    operations = 2 * (1 + len(NUMBERS))
    drop = -0.5 * curvature[0, 0] * level.binning**2 / max(energy, 1e-30)
    bent = bool((np.linalg.eigvalsh(curvature) < 0).all())
    flat = level.geometry.rows == 1
    if flat:
        curvature[1, 1], bent = -1.0, bool(curvature[0, 0] < 0)
    if not bent or drop < LEAST_DROP or any(level.added):
        return Sharpness(energy, np.zeros(2), drop, True, operations)
    change = -np.linalg.solve(curvature, gradient)
    limit = np.array([2.0 * level.binning, 1.0])
    return Sharpness(energy, np.clip(change, -limit, limit), drop, False, operations)


def energy_gradient(level: Level, acquisition: Acquisition) -> tuple[float, np.ndarray]:
    """E, and its gradient to `NUMBERS` through the reconstruction."""
    images, _ = level.images(acquisition)
    band = _band(level.grid.shape[1])
    volume = level.reconstruct(images)
    seen = _core(level, band @ volume @ band.T)
    back = level.reconstruct_adjoint(band.T @ _core(level, seen) @ band)
    gradient = [2 * float((back * change).double().sum()) for change in level.changes(acquisition, NUMBERS, images)]
    return float((seen.double() ** 2).sum()), np.array(gradient)


def _core(level: Level, volume: Tensor) -> Tensor:
    """The slices that every view sees."""
    weights = torch.zeros(level.grid.shape[0])
    margin = (level.grid.shape[0] - level.geometry.rows) // 2
    weights[margin : margin + level.geometry.rows] = level.weights.amax(dim=1)
    return volume * weights[:, None, None]


def _band(size: int) -> Tensor:
    fine = gaussian(size, FINEST_PX)
    return fine - gaussian(size, COARSEST_PX) @ fine
