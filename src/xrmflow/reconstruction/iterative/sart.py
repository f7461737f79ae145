"""SIRT and OS-SART: every voxel moves by the mean of the corrections that its rays ask for."""

import math

import torch
from torch import Tensor

from xrmflow.arrays import Track, untracked
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import ScanGeometry
from xrmflow.reconstruction.iterative.stopping import NEVER, Monitor, Result, Stop, rounds
from xrmflow.reconstruction.iterative.system import System, check_iterations, make_system, norm, start_volume


@torch.no_grad()
def sirt(
    projections: Tensor,
    geometry: ScanGeometry,
    grid: VolumeGrid,
    *,
    iterations: int,
    start: Tensor | None = None,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    nonnegative: bool = True,
    relaxation: float = 1.0,
    stop: Stop = NEVER,
    track: Track = untracked,
) -> Result:
    """Simultaneous iterative reconstruction: x <- x + relaxation C A' W R (b - A x).

    R is one over the length of each ray in the volume and C one over the weighted sum of each voxel's column, so the
    step needs no tuning, and the iteration converges for a relaxation in (0, 2) to a weighted least-squares solution
    (Gregor & Benson, IEEE TMI 27:918, 2008).

    Args:
        projections: (view, row, col) line integrals.
        geometry: the scan, mm.
        grid: where to reconstruct, mm.
        iterations: at most.
        start: (z, y, x), per mm; default 0.
        mask: (z, y, x) of booleans: voxels that may differ from 0.
        weights: of the line integrals, broadcastable to them; 0 leaves one out.
        nonnegative: whether values below 0 are set to 0 after each iteration.
        relaxation: fraction of the step.
        stop: when to end earlier.
        track: shows progress.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, rays that miss the volume.
    """
    _check(iterations, relaxation, stop)
    system = make_system(projections, geometry, grid, weights=weights, mask=mask)
    volume = start_volume(system, start, nonnegative=nonnegative)
    by_ray, by_voxel = _inverse_lengths(system), _inverse_columns([system])
    monitor = Monitor(stop, iterations=iterations, measurements=system.measurements)
    for number in rounds(track, iterations, "sirt"):
        residual = system.data - system.forward(volume)
        if monitor.done(norm(residual)) or number == iterations:
            break
        volume.addcmul_(system.adjoint(residual.mul_(by_ray)), by_voxel, value=relaxation)
        if nonnegative:
            volume.clamp_(min=0)
    return monitor.result(volume)


@torch.no_grad()
def os_sart(
    projections: Tensor,
    geometry: ScanGeometry,
    grid: VolumeGrid,
    *,
    iterations: int,
    subsets: int | None = None,
    start: Tensor | None = None,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    nonnegative: bool = True,
    relaxation: float = 1.0,
    decay: float = 0.05,
    stop: Stop = NEVER,
    track: Track = untracked,
) -> Result:
    """SIRT on one subset of views after the other: as many steps in a round as there are subsets.

    A round costs one iteration of SIRT and comes as far as nearly that many. Subsets interleave the views, and each is
    followed by one far from it (`ordered_subsets`). Subsets that disagree, because of noise, leave the volume going
    round in circles unless the steps shrink: round k takes relaxation / (1 + decay k) of a step (Wang & Jiang, J X-ray
    Sci Technol 12:169, 2004). A voxel's step is that of the subset that sees it most.

    Args:
        projections: (view, row, col) line integrals.
        geometry: the scan, mm.
        grid: where to reconstruct, mm.
        iterations: rounds through all views, at most.
        subsets: number of subsets; default the root of the number of views.
        start: (z, y, x), per mm; default 0.
        mask: (z, y, x) of booleans: voxels that may differ from 0.
        weights: of the line integrals, broadcastable to them; 0 leaves one out.
        nonnegative: whether values below 0 are set to 0 after each step.
        relaxation: fraction of the step in the first round.
        decay: how fast the steps shrink.
        stop: when to end earlier.
        track: shows progress.

    Raises:
        ValueError: as `sirt`; more subsets than views.
    """
    _check(iterations, relaxation, stop)
    if decay < 0:
        raise ValueError(f"decay: expected 0 or more, got {decay}")
    system = make_system(projections, geometry, grid, weights=weights, mask=mask)
    volume = start_volume(system, start, nonnegative=nonnegative)
    parts = [system.of_views(views) for views in ordered_subsets(geometry.views, subsets=subsets)]
    by_ray, by_voxel = [_inverse_lengths(part) for part in parts], _inverse_columns(parts)
    monitor = Monitor(stop, iterations=iterations, measurements=system.measurements)
    for number in track(range(iterations), total=iterations, label="os-sart"):
        met = []
        for part, inverse in zip(parts, by_ray, strict=True):
            residual = part.data - part.forward(volume)
            met.append(norm(residual))
            step = relaxation / (1 + decay * number)
            volume.addcmul_(part.adjoint(residual.mul_(inverse)), by_voxel, value=step)
            if nonnegative:
                volume.clamp_(min=0)
        if monitor.done(math.hypot(*met)):
            break
    return monitor.result(volume)


def ordered_subsets(views: int, *, subsets: int | None = None) -> list[Tensor]:
    """Interleaved subsets of views, each followed by one about as far from those before it as possible.

    Subset k holds views k, k + subsets, ...; they are taken in the order of the van der Corput sequence (0, 1/2, 1/4,
    3/4, ...; Guan & Gordon, Phys Med Biol 39:2005, 1994, for single views).

    >>> [part.tolist() for part in ordered_subsets(8, subsets=4)]
    [[0, 4], [2, 6], [1, 5], [3, 7]]
    """
    subsets = round(math.sqrt(views)) if subsets is None else subsets
    if not 1 <= subsets <= views:
        raise ValueError(f"subsets: expected 1 to {views}, as many as there are views, got {subsets}")
    bits = max(1, (subsets - 1).bit_length())
    reversed_ = (int(f"{number:0{bits}b}"[::-1], 2) for number in range(2**bits))
    return [torch.arange(first, views, subsets) for first in reversed_ if first < subsets]


def _inverse_lengths(system: System) -> Tensor:
    """R: one over the length of each ray inside the mask, per mm; 0 for rays that miss it or do not take part."""
    lengths = system.forward(system.ones())
    inverse = torch.where(lengths > 0, 1 / lengths, torch.zeros((), device=lengths.device))
    return inverse if system.root is None else inverse.mul_(system.root)


def _inverse_columns(parts: list[System]) -> Tensor:
    """C: one over the largest of the parts' weighted column sums, per mm; 0 for voxels that no ray meets."""
    sums = torch.zeros(parts[0].grid.shape, device=parts[0].data.device)
    for part in parts:
        torch.maximum(sums, part.adjoint(torch.ones_like(part.data) if part.root is None else part.root), out=sums)
    if not bool((sums > 0).any()):
        raise ValueError("grid: expected voxels that rays of the scan meet, got none")
    return torch.where(sums > 0, 1 / sums, torch.zeros((), device=sums.device))


def _check(iterations: int, relaxation: float, stop: Stop) -> None:
    check_iterations(iterations)
    if not 0 < relaxation < 2:
        raise ValueError(f"relaxation: expected more than 0 and less than 2, got {relaxation}")
    if stop.gradient:
        raise ValueError(f"stop.gradient: expected 0 for all methods but CGLS, got {stop.gradient}")
