"""The joint route of `align`: Gauss-Newton on what the volume cannot explain of the scan.

    min over theta of |S B q(theta)|^2 + priors        q: images, B: `Level.unexplained`, S: `Level.banded`

theta are numbers of the whole scan (`xrmflow.calibration.pose`), of smooth drifts of the detector along columns and
rows, and two shifts of each view (jitter). The columns S B (gradient of q . displacement) of the first two are
computed once a step; shifts of views, of which there are many, stay implicit in conjugate gradients on the normal
equations. Priors are Gaussian, weighed by the residual's own variance, so they only hold what data do not.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xrmflow.calibration.consistency import PASSES, Level
from xrmflow.calibration.gauge import absorbed_along_columns, absorbed_along_rows, free_profiles, unabsorbed
from xrmflow.calibration.pose import NUMBERS, changed, fittable, number_of
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.perturbation import spline_drift
from xrmflow.geometry.scan import scan_geometry
from xrmflow.reconstruction.weights import scanned_arc, view_angles

# Standard deviations of the priors of shifts, and the largest step taken, pixels; those of numbers are in `pose`.
PRIOR_PX = {"drift": 5.0, "jitter": 1.0}
LARGEST_PX = {"drift": 5.0, "jitter": 2.0}
# Smoothing makes neighbouring pixels of the residual say the same: this many count as one.
CORRELATED = 8.0
CG_STEPS = 4
# Of views, whose pulls at parameters are compared.
BLOCKS = 12
# Data hold a number if they say more than this part of its prior.
KNOWN = 0.5
VIEWS_OF_PLACES = 48
# What the fit leaves even without noise, because FDK is not quite the inverse: rms displacements in coarse pixels along
# what a number changes. In a full turn, in less (rays are not seen from both sides, drifts take up more), and where the
# object reaches beyond the detector (the edges pull); measured on simulated bones.
FLOOR_PX, ARC_FLOOR_PX, TRUNCATED_FLOOR_PX = 0.002, 0.008, 0.15


@dataclass(frozen=True)
class Model:
    """Which parameters are free.

    Attributes:
        numbers: names of fields of the acquisition.
        along_columns, along_rows: (view, k) profiles over time of the drift, orthogonal, rms 1.
        kept_columns, kept_rows: (view, k) orthonormal profiles that jitter must not have.
        jitter: whether each view may shift by itself.
        prior, largest: (n,) standard deviations of the priors, and largest steps, of the parameters without jitter.
    """

    numbers: tuple[str, ...]
    along_columns: np.ndarray
    along_rows: np.ndarray
    kept_columns: np.ndarray
    kept_rows: np.ndarray
    jitter: bool
    prior: np.ndarray
    largest: np.ndarray

    @property
    def size(self) -> int:
        """Parameters without jitter."""
        return len(self.prior)


def make_model(
    acquisition: Acquisition, *, numbers: tuple[str, ...] = tuple(NUMBERS), knots: int = 0, jitter: bool = False
) -> Model:
    """Free parameters of a scan, without what a motion of the object absorbs.

    Args:
        acquisition: the scan.
        numbers: which of `pose.NUMBERS`.
        knots: coefficients of the cubic spline of each drift, at least 4; 0 for no drift.
        jitter: whether each view may shift by itself.
    """
    angles, views = np.asarray(acquisition.angles_deg), acquisition.views
    splines = np.zeros((views, 0))
    if knots:
        splines = spline_drift(torch.eye(knots, dtype=torch.float64), views).numpy()
    # In a cone the waves of an object off its place are known by its size, if weakly: priors hold them.
    waves = absorbed_along_columns(angles)
    absorbed = (waves if acquisition.beam == "parallel" else waves[:, :1]), absorbed_along_rows(angles)
    along = [free_profiles(splines, gone) for gone in absorbed]
    kept = [np.linalg.qr(np.hstack([gone, own]))[0] for gone, own in zip(absorbed, along, strict=True)]
    if acquisition.rows < 8:  # nothing to see of a shift along so few rows
        along[1] = along[1][:, :0]
    numbers, drifts = fittable(acquisition, numbers), along[0].shape[1] + along[1].shape[1]
    known = [number_of(acquisition, name) for name in numbers]
    prior = np.array([*(one.prior for one in known), *[PRIOR_PX["drift"]] * drifts])
    largest = np.array([*(one.largest for one in known), *[LARGEST_PX["drift"]] * drifts])
    return Model(numbers, along[0], along[1], kept[0], kept[1], jitter, prior, largest)


@dataclass(frozen=True)
class Step:
    """A linearised problem at some geometry, and its solution.

    Attributes:
        level, model, acquisition: where.
        residual: (view, row, col) S B q.
        seen: (view, row, col) 1 where it was recorded.
        columns: (n, view * row * col), of the parameters but jitter.
        held: (n,) what priors add to the diagonal of the normal matrix.
        observable: for each of the model's numbers, whether data hold it; those that they do not stay nominal.
        floors: of each number, the change that displaces images by what fits leave.
        change: (n,) of these parameters.
        jitter_px: (view, 2) change of the shifts of `level.views` along columns and rows.
        operations: reconstructions and reprojections made.
    """

    level: Level
    model: Model
    acquisition: Acquisition
    residual: Tensor
    seen: Tensor
    columns: Tensor
    held: Tensor
    observable: tuple[bool, ...]
    floors: dict[str, float]
    change: np.ndarray
    jitter_px: np.ndarray
    operations: int

    def applied(self, share: float = 1.0) -> Acquisition:
        """The geometry after the step, or part of it."""
        model, numbers = self.model, len(self.model.numbers)
        change = share * np.clip(self.change, -model.largest, model.largest)
        there = changed(self.acquisition, dict(zip(model.numbers, change.tolist(), strict=False)))
        shifts = self.acquisition.shifts_px.copy()
        middle = numbers + model.along_columns.shape[1]
        shifts[:, 0] += model.along_columns @ change[numbers:middle]
        shifts[:, 1] += model.along_rows @ change[middle:]
        shifts[self.level.views] += share * np.clip(self.jitter_px, -LARGEST_PX["jitter"], LARGEST_PX["jitter"])
        return replace(there, shift_u_px=_floats(shifts[:, 0]), shift_v_px=_floats(shifts[:, 1]))


def loss(level: Level, acquisition: Acquisition) -> tuple[Tensor, Tensor, Tensor]:
    """Residual S B q, the images q, and where they were recorded: (view, row, col) each."""
    images, seen = level.images(acquisition)
    return level.banded(level.unexplained(images)) * seen, images, seen


def step(
    level: Level,
    acquisition: Acquisition,
    model: Model,
    *,
    start: Acquisition,
    columns: Tensor | None = None,
    cg_steps: int = CG_STEPS,
) -> Step:
    """Linearise at a geometry and solve.

    Args:
        level: the data.
        acquisition: where to linearise.
        model: what is free.
        start: the nominal geometry, about which priors are centred.
        columns: of a step from a geometry nearby, with the same level and a model with jitter. They cost most of a
            step and change little: only the preconditioner and the uncertainty are made of them, not the gradient.
        cg_steps: of the joint solution with jitter.
    """
    residual, images, seen = loss(level, acquisition)
    slopes = level.slopes(images)
    noise = noise_variance(residual)
    floors = smallest(level, acquisition, model.numbers)
    changes, found = _changes(level, acquisition, model, images, slopes, floors)
    operations, matrix = 2 * PASSES, columns
    if matrix is None:
        matrix = torch.zeros((model.size, residual.numel()))
        for k in found:
            matrix[k] = (level.banded(level.unexplained(changes[k])) * seen).flatten()
        operations += 2 * PASSES * len(found)
    held, observable = _held(model, acquisition, matrix, residual, floors)
    free = torch.tensor([*observable, *[True] * (model.size - len(observable))])[:, None]
    changes.flatten(1).mul_(free)
    away = _away(model, acquisition, start)
    system = _System(level, model, changes, matrix * free, held, noise, slopes, seen)
    if model.jitter:
        change, jitter = system.solve(residual, away, acquisition.shifts_px[level.views], steps=cg_steps)
        operations += 4 * PASSES * cg_steps + 2 * PASSES
    else:
        own = matrix * free
        normal = (own @ own.T).double() + torch.diag(held)
        right = -(own @ residual.flatten()).double() - held * away
        change, jitter = torch.linalg.solve(normal, right).numpy(), np.zeros((len(level.views), 2))
    return Step(level, model, acquisition, residual, seen, matrix, held, observable, floors, change, jitter, operations)


def _changes(
    level: Level,
    acquisition: Acquisition,
    model: Model,
    images: Tensor,
    slopes: tuple[Tensor, Tensor],
    floors: dict[str, float],
) -> tuple[Tensor, list[int]]:
    """(n, view, row, col) what each parameter but jitter changes in the images, and those of which that is known: of
    numbers only those that can be found.
    """
    first = len(model.numbers)
    found = [k for k, name in enumerate(model.numbers) if _holds(acquisition, name, floors[name])]
    changes = torch.zeros((model.size, *images.shape))
    for k, change in zip(found, level.changes(acquisition, [model.numbers[k] for k in found]), strict=True):
        changes[k] = change
    for slope, profiles in zip(slopes, (model.along_columns, model.along_rows), strict=True):
        for k, profile in enumerate(profiles.T, start=first):
            changes[k] = slope * _per_view(profile[level.views])
        found += range(first, first + profiles.shape[1])
        first += profiles.shape[1]
    return changes, found


def _holds(acquisition: Acquisition, name: str, error: float) -> bool:
    """Whether a number is to be fitted that may come out wrong by this standard deviation."""
    known = number_of(acquisition, name)
    return known.tight or error < KNOWN * known.prior


def _held(
    model: Model, acquisition: Acquisition, matrix: Tensor, residual: Tensor, floors: dict[str, float]
) -> tuple[Tensor, tuple[bool, ...]]:
    """What priors add to the diagonal of the normal matrix, and which numbers the data hold.

    A number stays at its nominal value if its error by the residual's variance, by its scatter between views, or by
    displacements too small to be found, is no less than half its prior's: left free it would take up what FDK leaves.
    """
    variance = noise_variance(residual)
    held = torch.from_numpy(variance / model.prior**2)
    if not model.size:
        return held, ()
    normal = (matrix @ matrix.T).double()
    formal = torch.linalg.inv(normal + torch.diag(held)).diagonal() * variance
    errors = torch.maximum(formal, scattered(matrix, held, residual).diagonal()).sqrt()
    parts = zip(model.numbers, errors.tolist(), strict=False)
    known = [_holds(acquisition, name, max(error, floors[name])) for name, error in parts]
    for k, one in enumerate(known):
        held[k] = held[k] if one else 1e4 * float(normal.diagonal().max())
    return held, tuple(known)


def scattered(columns: Tensor, held: Tensor, residual: Tensor) -> Tensor:
    """Covariance (n, n) of parameters from how differently blocks of views pull at them (sandwich estimator).

    Args:
        columns: (n, view * row * col) what they change in the residual.
        held: (n,) what priors add to the diagonal of the normal matrix.
        residual: (view, row, col).
    """
    inverse = torch.linalg.inv((columns @ columns.T).double() + torch.diag(held)) if len(held) else held.diag()
    by_view = columns.reshape(len(columns), len(residual), -1)
    blocks = torch.tensor_split(torch.arange(len(residual)), min(BLOCKS, len(residual)))
    pulls = torch.stack([(by_view[:, b] * residual[b].flatten(1)).sum((1, 2)).double() for b in blocks])
    pulls = pulls - pulls.mean(dim=0)
    return inverse @ (pulls.T @ pulls) @ inverse * len(blocks) / max(1, len(blocks) - 1)


def smallest(level: Level, acquisition: Acquisition, numbers: tuple[str, ...]) -> dict[str, float]:
    """How far off each number may be because of displacements by what fits leave, if all are fitted under their priors.

    Only displacements count that no deformation of the object stands for (`gauge.unabsorbed`): of a tilt that is
    nothing, whatever the cone. Of numbers that are not known so, and stay nominal, two standard deviations of their
    priors are added to those that take up part of their displacements, as the centre does of a slant's.
    """
    every = [name for name in fittable(acquisition, tuple(NUMBERS)) if not NUMBERS[name].gauge]
    views = level.views[:: max(1, len(level.views) // VIEWS_OF_PLACES)]
    still: dict[str, Any] = {"shift_u_px": (), "shift_v_px": (), "object_shift_mm": (), "object_turn_deg": ()}
    there = replace(acquisition.with_views(views), **still)
    known = [number_of(there, name) for name in every]
    pairs = [
        [scan_geometry(changed(there, {name: sign * one.difference})) for sign in (1.0, -1.0)]
        for name, one in zip(every, known, strict=True)
    ]
    left = unabsorbed(pairs, scan_geometry(there), level.places_of_object())
    per_unit = left.flatten(1) / torch.tensor([2 * one.difference for one in known])[:, None]
    floor = _floor_px(level) * level.binning
    precision = per_unit @ per_unit.T * (2 / left[0].numel() / floor**2)
    prior = torch.tensor([one.prior for one in known], dtype=torch.float64)
    precision += torch.diag(prior**-2)
    bias = torch.tensor([one.bias for one in known])
    asked = torch.tensor([name in numbers for name in every])
    error = prior.clone()
    error[asked] = torch.linalg.inv(precision[asked][:, asked]).diagonal().sqrt() * bias[asked]
    free = asked & torch.tensor([_holds(there, name, e) for name, e in zip(every, error.tolist(), strict=True)])
    spread = torch.linalg.inv(precision[free][:, free])
    taken_up = spread @ precision[free][:, ~free] * (2 * prior[~free])
    error[free] = (spread.diagonal() + (taken_up**2).sum(dim=1)).sqrt() * bias[free]
    found = dict(zip(every, error.tolist(), strict=True))
    return {name: found.get(name, math.inf) for name in numbers}


def _floor_px(level: Level) -> float:
    if level.truncated:
        return TRUNCATED_FLOOR_PX
    return FLOOR_PX if scanned_arc(view_angles(level.geometry)) is None else ARC_FLOOR_PX


def _away(model: Model, acquisition: Acquisition, start: Acquisition) -> Tensor:
    """How far the parameters are from where their priors are centred."""
    numbers = [getattr(acquisition, name) - getattr(start, name) for name in model.numbers]
    off = acquisition.shifts_px - start.shifts_px
    u = (off[:, :1] * model.along_columns).mean(axis=0)
    v = (off[:, 1:] * model.along_rows).mean(axis=0)
    return torch.tensor([*numbers, *u, *v], dtype=torch.float64)


def noise_variance(residual: Tensor) -> float:
    """Of independent pixels of a residual, of which smoothing leaves fewer."""
    return float((residual.double() ** 2).sum()) / max(1.0, residual.numel() / CORRELATED)


def _per_view(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).float()[:, None, None]


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


@dataclass(frozen=True)
class _System:
    """Normal equations in all parameters; those of jitter are never formed."""

    level: Level
    model: Model
    changes: Tensor
    matrix: Tensor
    held: Tensor
    variance: float
    slopes: tuple[Tensor, Tensor]
    seen: Tensor

    def solve(self, residual: Tensor, away: Tensor, shifts: np.ndarray, *, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Preconditioned conjugate gradients: changes of the parameters (n,) and of the shifts (view, 2)."""
        views, n = len(self.level.views), len(self.matrix)
        stiff = torch.stack([(s**2 * self.level.weights).sum((1, 2)).mean() for s in self.slopes]).double()
        hold = self.variance / PRIOR_PX["jitter"] ** 2
        normal = (self.matrix @ self.matrix.T).double() + torch.diag(self.held)
        inverse = torch.linalg.inv(normal) if n else normal

        def precondition(x: Tensor) -> Tensor:
            return torch.cat([inverse @ x[:n], (x[n:].reshape(views, 2) / (stiff + hold)).flatten()])

        def transposed(y: Tensor) -> Tensor:
            """Gradient to all parameters of <y, change of the residual>."""
            back = self.level.unexplained_adjoint(self.level.banded_adjoint(y * self.seen))
            jitter = torch.stack([(back * s).sum((1, 2)) for s in self.slopes], dim=1).double()
            own = (self.changes.flatten(1) @ back.flatten()).double()
            return torch.cat([own, self._free(jitter).flatten()])

        def apply(x: Tensor) -> Tensor:
            jitter = self._free(x[n:].reshape(views, 2))
            image = sum(s * jitter[:, k].float()[:, None, None] for k, s in enumerate(self.slopes))
            image = image + torch.tensordot(x[:n].float(), self.changes, dims=1)
            y = self.level.banded(self.level.unexplained(image)) * self.seen
            return transposed(y) + torch.cat([self.held * x[:n], hold * jitter.flatten()])

        own = self._free(torch.from_numpy(shifts - shifts.mean(axis=0)))
        right = -transposed(residual) - torch.cat([self.held * away, hold * own.flatten()])
        x = conjugate_gradients(apply, right, precondition, steps=steps)
        return x[:n].numpy(), self._free(x[n:].reshape(views, 2)).numpy()

    def _free(self, jitter: Tensor) -> Tensor:
        """Jitter (view, 2) without what drift and motions of the object stand for."""
        left = jitter.clone()
        for k, kept in enumerate((self.model.kept_columns, self.model.kept_rows)):
            basis = torch.from_numpy(np.linalg.qr(kept[self.level.views])[0])
            left[:, k] -= basis @ (basis.T @ jitter[:, k])
        return left


def conjugate_gradients(
    apply: Callable[[Tensor], Tensor], right: Tensor, precondition: Callable[[Tensor], Tensor], *, steps: int
) -> Tensor:
    """Solve apply(x) = right for a symmetric positive operator, from zero (Hestenes and Stiefel 1952)."""
    x, rest = torch.zeros_like(right), right.clone()
    z = precondition(rest)
    direction, rho = z.clone(), rest @ z
    for _ in range(steps):
        turned = apply(direction)
        bent = direction @ turned
        if not bool(bent > 0):
            break
        alpha = rho / bent
        x, rest = x + alpha * direction, rest - alpha * turned
        z = precondition(rest)
        rho, before = rest @ z, rho
        direction = z + (rho / before) * direction
    return x
