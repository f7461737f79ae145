"""Reconstruction with total variation: for scans of few or noisy views of something made of few materials."""

import math

import torch
from torch import Tensor

from xrmflow.arrays import Track, untracked
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import ScanGeometry
from xrmflow.reconstruction.iterative.stopping import NEVER, Monitor, Result, Stop, rounds
from xrmflow.reconstruction.iterative.system import (
    System,
    check_iterations,
    dot,
    make_system,
    mean_column_norm,
    norm,
    operator_norm,
    start_volume,
)
from xrmflow.reconstruction.iterative.variation import (
    Denoiser,
    divergence,
    gradient,
    gradient_norm,
    shorten,
    total_variation,
)


@torch.no_grad()
def tv_fista(
    projections: Tensor,
    geometry: ScanGeometry,
    grid: VolumeGrid,
    *,
    strength: float,
    iterations: int,
    start: Tensor | None = None,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    nonnegative: bool = True,
    denoising_steps: int = 6,
    stop: Stop = NEVER,
    track: Track = untracked,
) -> Result:
    """Minimise 1/2 |sqrt(W) (A x - b)|^2 + strength TV(x) by accelerated proximal gradient steps (FISTA).

    Step 1 / |sqrt(W) A|^2 from the power method; acceleration starts anew whenever it points uphill (Beck & Teboulle,
    SIAM J Imaging Sci 2:183, 2009; O'Donoghue & Candès, Found Comput Math 15:715, 2015).

    Args:
        projections: (view, row, col) line integrals.
        geometry: the scan, mm.
        grid: where to reconstruct, mm.
        strength: of TV, mm; `variation.matched_strength` finds one from the noise.
        iterations: at most.
        start: (z, y, x), per mm; default 0.
        mask: (z, y, x) of booleans: voxels that may differ from 0.
        weights: of the line integrals, broadcastable to them; 0 leaves one out.
        nonnegative: whether values below 0 are excluded.
        denoising_steps: inner steps for the proximal map of TV in each iteration.
        stop: when to end earlier; `relative_change` is of the objective.
        track: shows progress.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, rays that miss the volume.
    """
    system, volume = _begin(projections, geometry, grid, weights, mask, start, nonnegative, strength, iterations, stop)
    step = 1 / operator_norm(system) ** 2
    denoise = Denoiser(volume, nonnegative=nonnegative, mask=system.mask)
    monitor = Monitor(stop, iterations=iterations, measurements=system.measurements)
    lines = torch.zeros_like(system.data) if start is None else system.forward(volume)
    ahead, lines_ahead, t = volume, lines, 1.0
    for number in rounds(track, iterations, "tv (fista)"):
        residual = norm(lines - system.data)
        if monitor.done(residual, objective=_objective(residual, strength, volume)) or number == iterations:
            break
        moved = denoise(
            torch.sub(ahead, system.adjoint(lines_ahead - system.data), alpha=step),
            step * strength,
            steps=denoising_steps,
        )
        lines_moved = system.forward(moved)
        if dot(ahead - moved, moved - volume) > 0:
            t = 1.0
        t, last = (1 + math.sqrt(1 + 4 * t * t)) / 2, t
        push = 1 + (last - 1) / t
        # Projections are linear: those of the extrapolated volume need no projector.
        ahead, lines_ahead = torch.lerp(volume, moved, push), torch.lerp(lines, lines_moved, push)
        volume, lines = moved, lines_moved
    return monitor.result(volume)


@torch.no_grad()
def tv_pdhg(
    projections: Tensor,
    geometry: ScanGeometry,
    grid: VolumeGrid,
    *,
    strength: float,
    iterations: int,
    start: Tensor | None = None,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    nonnegative: bool = True,
    balance: float | None = None,
    stop: Stop = NEVER,
    track: Track = untracked,
) -> Result:
    """Minimise what `tv_fista` minimises by the primal-dual hybrid gradient method.

    Both operators are brought to norm 1, gradient and projection alike, so that one step serves both; no inner
    iteration, but more outer ones (Chambolle & Pock, J Math Imaging Vis 40:120, 2011, algorithm 1; for tomography
    Sidky, Jørgensen & Pan, Phys Med Biol 57:3065, 2012).

    Args:
        projections: (view, row, col) line integrals.
        geometry: the scan, mm.
        grid: where to reconstruct, mm.
        strength: of TV, mm.
        iterations: at most.
        start: (z, y, x), per mm; default 0.
        mask: (z, y, x) of booleans: voxels that may differ from 0.
        weights: of the line integrals, broadcastable to them; 0 leaves one out.
        nonnegative: whether values below 0 are excluded.
        balance: size of the volume over that of the dual variables (residual and strength): the primal step is times,
            the dual step over this. Any gives the same volume in the end; default from the data and the strength.
        stop: when to end earlier; `relative_change` is of the objective.
        track: shows progress.

    Raises:
        ValueError: as `tv_fista`.
    """
    system, volume = _begin(projections, geometry, grid, weights, mask, start, nonnegative, strength, iterations, stop)
    if balance is not None and not balance > 0:
        raise ValueError(f"balance: expected more than 0, got {balance}")
    size = operator_norm(system)
    balance = _balance(system, size, strength) if balance is None else balance
    steeper = size / max(gradient_norm(grid.shape), 1.0)
    primal, dual = balance / (math.sqrt(2) * size), 1 / (balance * math.sqrt(2) * size)
    monitor = Monitor(stop, iterations=iterations, measurements=system.measurements)
    lines = torch.zeros_like(system.data) if start is None else system.forward(volume)
    lines_ahead, ahead = lines, volume
    of_lines, of_gradient = torch.zeros_like(system.data), volume.new_zeros((3, *volume.shape))
    for number in rounds(track, iterations, "tv (pdhg)"):
        residual = norm(lines - system.data)
        if monitor.done(residual, objective=_objective(residual, strength, volume)) or number == iterations:
            break
        of_lines.add_(lines_ahead - system.data, alpha=dual).div_(1 + dual)
        of_gradient.add_(gradient(ahead), alpha=dual * steeper)
        shorten(of_gradient, strength / steeper)
        downhill = system.adjoint(of_lines).sub_(divergence(of_gradient), alpha=steeper)
        moved = torch.sub(volume, downhill, alpha=primal)
        if nonnegative:
            moved.clamp_(min=0)
        if system.mask is not None:
            moved.mul_(system.mask)
        lines_moved = system.forward(moved)
        ahead, lines_ahead = torch.lerp(volume, moved, 2.0), torch.lerp(lines, lines_moved, 2.0)
        volume, lines = moved, lines_moved
    return monitor.result(volume)


def _begin(
    projections: Tensor,
    geometry: ScanGeometry,
    grid: VolumeGrid,
    weights: Tensor | None,
    mask: Tensor | None,
    start: Tensor | None,
    nonnegative: bool,
    strength: float,
    iterations: int,
    stop: Stop,
) -> tuple[System, Tensor]:
    check_iterations(iterations)
    if not (math.isfinite(strength) and strength >= 0):
        raise ValueError(f"strength: expected 0 mm or more, got {strength}")
    if stop.gradient:
        raise ValueError(f"stop.gradient: expected 0 for all methods but CGLS, got {stop.gradient}")
    system = make_system(projections, geometry, grid, weights=weights, mask=mask)
    return system, start_volume(system, start, nonnegative=nonnegative)


def _balance(system: System, size: float, strength: float) -> float:
    """About |x| / |residual| of the solution: a residual of the noise that `matched_strength` would take as known."""
    of_data = norm(system.data)
    of_residual = strength / mean_column_norm(system) * math.sqrt(system.measurements)
    return of_data / size / max(of_residual, 0.05 * of_data) if of_data > 0 else 1.0


def _objective(residual: float, strength: float, volume: Tensor) -> float:
    return 0.5 * residual**2 + strength * total_variation(volume)
