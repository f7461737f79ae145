"""How well the views hold together in the reconstruction: in the right geometry, best.

    C(theta) = |G F q(theta)|^2 / sum over views of |G F q_view(theta)|^2

q: images, F: reconstruction, G: band-pass within slices. The energy of a sharp reconstruction (Parseval: blurring
takes energy away) is divided by what its views carry by themselves (semblance: Neidell and Taner, Geophysics 36,
1971), which also changes when a displacement brings other parts of the object into view: the energy alone is largest
0.02 degrees off the true roll, C within 0.004. The gradient goes back through the reconstruction once for all
parameters,

    dE/dtheta_k = 2 < F' G' G F q, dq/dtheta_k >

and Newton's step takes one such gradient more for each parameter. Where every line is measured once (parallel beam over
half a turn) C hardly depends on the centre: this is then called blind. What changes the size of the object (tilt and
slant) changes C too, so only centre and roll are judged by it.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from xrmflow.calibration.consistency import COARSEST_PX, FINEST_PX, Level, gaussian, supported
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.projectors.transform import project
from xrmflow.reconstruction.weights import cosine_weights, view_weights

NUMBERS = ("centre_px", "roll_deg")
DIFFERENCE = {"centre_px": 0.25, "roll_deg": 0.1}
# Least relative drop of C by a displacement of one coarse pixel for it to tell.
LEAST_DROP = 0.01


@dataclass(frozen=True)
class Sharpness:
    """C at a geometry, and where it would be largest.

    Attributes:
        coherence: C.
        free: those of `NUMBERS` that may change.
        by_view: (view, 2) what each view adds to the gradient of C to `NUMBERS`.
        curvature: (2, 2), minus one for what may not change.
        change: Newton's step of `NUMBERS`, an uphill one where C is not concave.
        drop: relative drop of C for a centre one coarse pixel off, from its curvature.
        concave: whether there is a maximum near.
        operations: reconstructions and their transposes made.
    """

    coherence: float
    free: tuple[str, ...]
    by_view: np.ndarray
    curvature: np.ndarray
    change: np.ndarray
    drop: float
    concave: bool
    operations: int

    @property
    def blind(self) -> bool:
        """Whether C has no clear maximum near."""
        return not self.concave or self.drop < LEAST_DROP

    def applied(self, acquisition: Acquisition, share: float = 1.0) -> Acquisition:
        """The geometry after the step, or part of it."""
        change = share * self.change
        moved = {name: getattr(acquisition, name) + float(c) for name, c in zip(NUMBERS, change, strict=True)}
        return replace(acquisition, **moved)


class Coherence:
    """C of a level, whose images and ideal geometry stay the same.

    Attributes:
        level: see `doubly_seen`.
        paths: (view, row, col) length of each pixel's ray in what is judged, voxels: by Parseval what a view has of
            energy by itself.
    """

    def __init__(self, level: Level) -> None:
        self.level = doubly_seen(level)
        judged = self._core(torch.ones(self.level.grid.shape) * self.level.inside) ** 2
        self.paths = project(judged, self.level.geometry, self.level.grid) / self.level.grid.voxel_mm

    def of(self, acquisition: Acquisition) -> float:
        """C."""
        images, _ = self.level.images(acquisition)
        return _energy(self._together(images)) / self._apart(self._own(images))

    def by_view(self, acquisition: Acquisition) -> tuple[float, np.ndarray]:
        """C, and what each view adds to its gradient to `NUMBERS` through the reconstruction, (view, 2)."""
        level = self.level
        images, _ = level.images(acquisition)
        together, own = self._together(images), self._own(images)
        apart = self._apart(own)
        coherence = _energy(together) / apart
        band, own_band = _band(level.grid.shape[1]), _band(level.geometry.cols)
        back = level.reconstruct_adjoint(band.T @ self._core(together) @ band)
        own_back = (((own * self.paths) @ own_band) @ level.response.T) * level.filtering
        back = (back - own_back * coherence) * (2 / apart)
        changes = level.changes(acquisition, NUMBERS)
        return coherence, torch.stack([(back * one).sum((1, 2)).double() for one in changes], dim=1).numpy()

    def _together(self, images: Tensor) -> Tensor:
        band = _band(self.level.grid.shape[1])
        return self._core(band @ self.level.reconstruct(images) @ band.T)

    def _own(self, images: Tensor) -> Tensor:
        """Images filtered and band-passed: slices of a single view are these, drawn out along its rays."""
        return ((images * self.level.filtering) @ self.level.response) @ _band(self.level.geometry.cols).T

    def _apart(self, own: Tensor) -> float:
        return max(float((own.double() ** 2 * self.paths).sum()), 1e-30)

    def _core(self, volume: Tensor) -> Tensor:
        """The slices that every view sees."""
        level = self.level
        weights = torch.zeros(level.grid.shape[0])
        margin = (level.grid.shape[0] - level.geometry.rows) // 2
        weights[margin : margin + level.geometry.rows] = level.weights.amax(dim=1)
        return volume * weights[:, None, None]


def sharper(judge: Coherence, acquisition: Acquisition, *, roll: bool = True) -> Sharpness:
    """Newton's step towards the sharpest reconstruction, from a geometry near it; with `roll` False of the centre."""
    binning = judge.level.binning
    free = NUMBERS if roll and judge.level.geometry.rows > 1 else NUMBERS[:1]
    coherence, by_view = judge.by_view(acquisition)
    by_view = by_view * [name in free for name in NUMBERS]
    gradient = by_view.sum(axis=0)
    curvature = -np.eye(2)
    for k, name in enumerate(free):
        h = DIFFERENCE[name] * binning
        ahead = replace(acquisition, **{name: getattr(acquisition, name) + h})
        curvature[k] = (judge.by_view(ahead)[1].sum(axis=0) - gradient) / h
    curvature = 0.5 * (curvature + curvature.T)
    if len(free) == 1:
        curvature[:, 1] = curvature[1] = 0, -1
    drop = -0.5 * curvature[0, 0] * binning**2 / max(coherence, 1e-30)
    concave = bool((np.linalg.eigvalsh(curvature) < 0).all())
    uphill = np.sign(gradient) * [DIFFERENCE[name] * binning for name in NUMBERS]
    change = -np.linalg.solve(curvature, gradient) if concave else uphill
    limit = np.array([2.0 * binning, 1.0])
    operations = 2 * (1 + len(free)) + 1
    return Sharpness(coherence, free, by_view, curvature, np.clip(change, -limit, limit), drop, concave, operations)


def doubly_seen(level: Level) -> Level:
    """The level as if an offset detector ended where its nearer side does: what every view sees, and all of it twice.

    Weights that leave out what is measured twice would leave nothing to compare.
    """
    if not any(level.added):
        return level
    before, cols = level.added[0], level.geometry.cols
    # Where only one side is seen the weights of an offset detector are one, twice those of a full turn.
    steps = 0.5 * view_weights(level.geometry).amax(dim=1)
    filtering = cosine_weights(level.geometry) * steps[:, None, None].float()
    off = torch.arange(cols) - (cols - 1) / 2
    inside = ((cols - max(level.added)) / 2 - torch.sqrt(off[:, None] ** 2 + off**2)).clamp(0, 1)
    response = level.response[:, before : before + cols].contiguous()
    return replace(level, filtering=filtering, response=response, inside=level.inside * inside, added=(0, 0))


def fitting(level: Level, acquisition: Acquisition) -> Level:
    """The level kept to where there is an object, without the weights of an offset detector if that needs none.

    These weights leave more unexplained than those of a full turn, as much as a slant of 1 degree would.
    """
    kept, both = supported(level, acquisition), doubly_seen(level)
    reached = (both.inside > 0).to(kept.inside) * kept.inside
    return supported(both, acquisition) if torch.equal(reached, kept.inside) else kept


def _energy(volume: Tensor) -> float:
    return float((volume.double() ** 2).sum())


def _band(size: int) -> Tensor:
    fine = gaussian(size, FINEST_PX)
    return fine - gaussian(size, COARSEST_PX) @ fine
