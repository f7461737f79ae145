"""Conjugate gradients for least squares."""

import torch
from torch import Tensor

from xrmflow.arrays import Track, untracked
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import ScanGeometry
from xrmflow.reconstruction.iterative.stopping import NEVER, Monitor, Result, Stop, rounds
from xrmflow.reconstruction.iterative.system import check_iterations, dot, make_system, norm, start_volume


@torch.no_grad()
def cgls(
    projections: Tensor,
    geometry: ScanGeometry,
    grid: VolumeGrid,
    *,
    iterations: int,
    start: Tensor | None = None,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    stop: Stop = NEVER,
    track: Track = untracked,
) -> Result:
    """Minimise |sqrt(W) (b - A x)| by conjugate gradients on the normal equations (Björck 1996, algorithm 7.4.1).

    After k iterations the residual is the smallest in a Krylov space of k dimensions, so it never rises and few
    iterations go far; with noise, too many reconstruct it: the number of iterations, or `stop`, is the regularisation.
    Values below 0 cannot be excluded.

    Args:
        projections: (view, row, col) line integrals.
        geometry: the scan, mm.
        grid: where to reconstruct, mm.
        iterations: at most.
        start: (z, y, x), per mm; default 0.
        mask: (z, y, x) of booleans: voxels that may differ from 0.
        weights: of the line integrals, broadcastable to them; 0 leaves one out.
        stop: when to end earlier.
        track: shows progress.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, rays that miss the volume.
    """
    check_iterations(iterations)
    system = make_system(projections, geometry, grid, weights=weights, mask=mask)
    volume = start_volume(system, start)
    reference = norm(system.adjoint(system.data))
    if reference == 0 and norm(system.forward(system.ones())) == 0:
        raise ValueError("grid: expected voxels that rays of the scan meet, got none")
    residual = system.data.clone() if start is None else system.data - system.forward(volume)
    direction = system.adjoint(residual)
    gamma = dot(direction, direction)
    monitor = Monitor(stop, iterations=iterations, measurements=system.measurements)
    for number in rounds(track, iterations, "cgls"):
        if monitor.done(norm(residual), gradient=_relative(gamma, reference)) or number == iterations:
            break
        lines = system.forward(direction)
        step = gamma / dot(lines, lines)
        volume.add_(direction, alpha=step)
        residual.sub_(lines, alpha=step)
        gradient = system.adjoint(residual)
        gamma, last = dot(gradient, gradient), gamma
        direction.mul_(gamma / last).add_(gradient)
    return monitor.result(volume)


def _relative(gamma: float, reference: float) -> float:
    return gamma**0.5 / reference if reference > 0 else 0.0
