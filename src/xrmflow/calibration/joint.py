"""The joint route of `align`: Gauss-Newton on what the volume cannot explain of the scan.

    min over theta of |S B q(theta)|^2 + priors        q: images, B: `Level.unexplained`, S: `Level.banded`

theta are numbers of the whole scan (centre, roll, tilt, slant), of smooth drifts of the detector along columns and
rows, and two shifts of each view (jitter). The columns S B (gradient of q . displacement) of the first two are
computed once a step; shifts of views, of which there are many, stay implicit in conjugate gradients on the normal
equations. Priors are Gaussian, weighed by the residual's own variance, so they only hold what data do not.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from xrmflow.calibration.consistency import PASSES, Level
from xrmflow.calibration.gauge import absorbed_along_columns, absorbed_along_rows, free_profiles
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.perturbation import spline_drift

NUMBERS = ("centre_px", "roll_deg", "tilt_deg", "slant_deg")
# Standard deviations of the priors, and the largest step taken.
PRIOR = {"centre_px": 20.0, "roll_deg": 2.0, "tilt_deg": 1.5, "slant_deg": 1.5, "drift": 5.0, "jitter": 1.0}
LARGEST = {"centre_px": 8.0, "roll_deg": 2.0, "tilt_deg": 1.0, "slant_deg": 1.0, "drift": 5.0, "jitter": 2.0}
# Smoothing makes neighbouring pixels of the residual say the same: this many count as one.
CORRELATED = 8.0
CG_STEPS = 4
# What the fit leaves even without noise (measured: up to 0.02 of the centre), because FDK is not quite the inverse.
FLOOR_PX = 0.025
# The same where the object reaches beyond the detector: the edges pull (measured on five bones: 0.07 to 0.26).
TRUNCATED_FLOOR_PX = 0.3


@dataclass(frozen=True)
class Model:
    """Which parameters are free.

    Attributes:
        numbers: names of fields of the acquisition.
        along_columns, along_rows: (view, k) profiles over time of the drift, orthogonal, rms 1.
        kept_columns, kept_rows: (view, k) orthonormal profiles that jitter must not have.
        jitter: whether each view may shift by itself.
    """

    numbers: tuple[str, ...]
    along_columns: np.ndarray
    along_rows: np.ndarray
    kept_columns: np.ndarray
    kept_rows: np.ndarray
    jitter: bool

    @property
    def size(self) -> int:
        """Parameters without jitter."""
        return len(self.numbers) + self.along_columns.shape[1] + self.along_rows.shape[1]

    def names(self) -> list[str]:
        """Of these parameters, drifts by their direction."""
        drifts = ["drift"] * (self.along_columns.shape[1] + self.along_rows.shape[1])
        return [*self.numbers, *drifts]


def make_model(
    acquisition: Acquisition, *, numbers: tuple[str, ...] = NUMBERS, knots: int = 0, jitter: bool = False
) -> Model:
    """Free parameters of a scan, without what a motion of the object absorbs.

    Args:
        acquisition: the scan.
        numbers: which of `NUMBERS`.
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
        along[1], numbers = along[1][:, :0], tuple(name for name in numbers if name == "centre_px")
    return Model(numbers, along[0], along[1], kept[0], kept[1], jitter)


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
        names = model.names()
        limits = np.array([LARGEST[name] for name in names])
        change = share * np.clip(self.change, -limits, limits)
        fields = {name: getattr(self.acquisition, name) + float(change[k]) for k, name in enumerate(model.numbers)}
        shifts = self.acquisition.shifts_px.copy()
        middle = numbers + model.along_columns.shape[1]
        shifts[:, 0] += model.along_columns @ change[numbers:middle]
        shifts[:, 1] += model.along_rows @ change[middle:]
        shifts[self.level.views] += share * np.clip(self.jitter_px, -LARGEST["jitter"], LARGEST["jitter"])
        return replace(self.acquisition, **fields, shift_u_px=_floats(shifts[:, 0]), shift_v_px=_floats(shifts[:, 1]))


def loss(level: Level, acquisition: Acquisition) -> tuple[Tensor, Tensor, Tensor]:
    """Residual S B q, the images q, and where they were recorded: (view, row, col) each."""
    images, seen = level.images(acquisition)
    return level.banded(level.unexplained(images)) * seen, images, seen


def step(level: Level, acquisition: Acquisition, model: Model, *, start: Acquisition, cg_steps: int = CG_STEPS) -> Step:
    """Linearise at a geometry and solve.

    Args:
        level: the data.
        acquisition: where to linearise.
        model: what is free.
        start: the nominal geometry, about which priors are centred.
        cg_steps: of the joint solution with jitter.
    """
    residual, images, seen = loss(level, acquisition)
    slopes = level.slopes(images)
    columns = [
        (level.banded(level.unexplained(change)) * seen).flatten()
        for change in _changes(level, acquisition, model, images, slopes)
    ]
    matrix = torch.stack(columns) if columns else torch.zeros((0, residual.numel()))
    noise = noise_variance(residual)
    floors = smallest(level, acquisition, model.numbers, slopes)
    held, observable = _held(model, matrix, noise, floors)
    away = _away(model, acquisition, start)
    operations = 2 * PASSES * (1 + len(columns))
    system = _System(level, model, matrix, held, noise, slopes, seen)
    if model.jitter:
        change, jitter = system.solve(residual, away, acquisition.shifts_px[level.views], steps=cg_steps)
        operations += 4 * PASSES * cg_steps + 2 * PASSES
    else:
        normal = (matrix @ matrix.T).double() + torch.diag(held)
        right = -(matrix @ residual.flatten()).double() - held * away
        change, jitter = torch.linalg.solve(normal, right).numpy(), np.zeros((len(level.views), 2))
    return Step(level, model, acquisition, residual, seen, matrix, held, observable, floors, change, jitter, operations)


def _changes(
    level: Level, acquisition: Acquisition, model: Model, images: Tensor, slopes: tuple[Tensor, Tensor]
) -> list[Tensor]:
    """What each parameter but jitter changes in the images, (view, row, col)."""
    changes = level.changes(acquisition, model.numbers, images)
    for slope, profiles in zip(slopes, (model.along_columns, model.along_rows), strict=True):
        changes += [slope * _per_view(profile[level.views]) for profile in profiles.T]
    return changes


def _priors(model: Model, variance: float) -> Tensor:
    return torch.tensor([variance / PRIOR[name] ** 2 for name in model.names()], dtype=torch.float64)


def _held(model: Model, matrix: Tensor, variance: float, floors: dict[str, float]) -> tuple[Tensor, tuple[bool, ...]]:
    """What priors add to the diagonal of the normal matrix, and which numbers the data hold.

    A number stays at its nominal value if the formal error, or that of displacements too small to be found, is no less
    than half its prior's. (Left free under its prior, tilt takes up what FDK leaves: measured, 3 degrees off.)
    """
    held = _priors(model, variance)
    if not model.size:
        return held, ()
    normal = (matrix @ matrix.T).double()
    errors = torch.sqrt(torch.linalg.inv(normal + torch.diag(held)).diagonal() * variance)
    known = [max(float(e), floors[name]) < 0.5 * PRIOR[name] for e, name in zip(errors, model.numbers, strict=False)]
    for k, one in enumerate(known):
        held[k] = held[k] if one else 1e4 * float(normal.diagonal().max())
    return held, tuple(known)


def smallest(
    level: Level, acquisition: Acquisition, numbers: tuple[str, ...], slopes: tuple[Tensor, Tensor]
) -> dict[str, float]:
    """What each number has to change for images to move by what fits leave, rms over where they have edges.

    Tilt and slant in all but wide cones hardly do more than stretch and shear, which is absorbed elsewhere: of theirs
    only what is left of the displacement after its best affine map counts.
    """
    edges = sum((level.banded(slope) ** 2).sum(dim=0) for slope in slopes).double().numpy().ravel()  # type: ignore[union-attr]
    edges = edges / max(edges.sum(), 1e-30)
    place = level.places(acquisition).reshape(2, -1)
    affine = np.stack([np.ones_like(place[0]), *place]).T * np.sqrt(edges)[:, None]
    floor = TRUNCATED_FLOOR_PX if level.truncated else FLOOR_PX
    changes = {}
    for name in numbers:
        field = level.displacement(acquisition, name).reshape(2, -1).T * np.sqrt(edges)[:, None]
        if name in ("tilt_deg", "slant_deg"):
            field = field - affine @ np.linalg.lstsq(affine, field, rcond=None)[0]
        changes[name] = floor / max(float(np.sqrt((field**2).sum())), 1e-30)
    return changes


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
    matrix: Tensor
    held: Tensor
    variance: float
    slopes: tuple[Tensor, Tensor]
    seen: Tensor

    def solve(self, residual: Tensor, away: Tensor, shifts: np.ndarray, *, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Preconditioned conjugate gradients: changes of the parameters (n,) and of the shifts (view, 2)."""
        views, n = len(self.level.views), len(self.matrix)
        stiff = torch.stack([(s**2 * self.level.weights).sum((1, 2)).mean() for s in self.slopes]).double()
        hold = self.variance / PRIOR["jitter"] ** 2
        normal = (self.matrix @ self.matrix.T).double() + torch.diag(self.held)
        inverse = torch.linalg.inv(normal) if n else normal

        def precondition(x: Tensor) -> Tensor:
            return torch.cat([inverse @ x[:n], (x[n:].reshape(views, 2) / (stiff + hold)).flatten()])

        def transposed(y: Tensor) -> Tensor:
            """Gradient to all parameters of <y, change of the residual>."""
            back = self.level.unexplained_adjoint(self.level.banded_adjoint(y * self.seen))
            jitter = torch.stack([(back * s).sum((1, 2)) for s in self.slopes], dim=1).double()
            return torch.cat([(self.matrix @ y.flatten()).double(), self._free(jitter).flatten()])

        def apply(x: Tensor) -> Tensor:
            jitter = self._free(x[n:].reshape(views, 2))
            image = sum(s * jitter[:, k].float()[:, None, None] for k, s in enumerate(self.slopes))
            y = self.level.banded(self.level.unexplained(image)) * self.seen  # type: ignore[arg-type]
            y = y + (x[:n].float() @ self.matrix).reshape(y.shape)
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
