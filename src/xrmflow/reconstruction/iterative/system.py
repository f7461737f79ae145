"""The linear system behind every iterative reconstruction: weighted line integrals of the voxels inside a mask."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import ScanGeometry, check_projections
from xrmflow.projectors.transform import project, project_adjoint

POWER_ITERATIONS, POWER_TOLERANCE, POWER_MARGIN = 30, 1e-3, 1.01


@dataclass(frozen=True)
class System:
    """B x = c with B = sqrt(W) A M: A the X-ray transform, W weights of the measurements, M a mask of voxels.

    Attributes:
        data: c = sqrt(W) b, (view, row, col).
        geometry: of the scan, mm.
        grid: of the volume, mm.
        root: sqrt(W), like the data; None where all weights are 1.
        mask: (z, y, x) of 0 and 1, float; None where all voxels take part.
    """

    data: Tensor
    geometry: ScanGeometry
    grid: VolumeGrid
    root: Tensor | None
    mask: Tensor | None

    def forward(self, volume: Tensor) -> Tensor:
        """B x, for a volume that is 0 outside the mask."""
        lines = project(volume, self.geometry, self.grid)
        return lines if self.root is None else lines.mul_(self.root)

    def adjoint(self, lines: Tensor) -> Tensor:
        """B' y."""
        volume = project_adjoint(lines if self.root is None else lines * self.root, self.geometry, self.grid)
        return volume if self.mask is None else volume.mul_(self.mask)

    def of_views(self, views: Tensor) -> "System":
        """The part of the system that some views make up."""
        root = None if self.root is None else self.root[views]
        return replace(self, data=self.data[views], geometry=self.geometry.with_views(views), root=root)

    def ones(self) -> Tensor:
        """A volume of 1 in all voxels that take part."""
        return torch.ones(self.grid.shape, device=self.data.device) if self.mask is None else self.mask.clone()

    @property
    def measurements(self) -> int:
        """Number of line integrals that take part."""
        return self.data.numel() if self.root is None else int(torch.count_nonzero(self.root))


def make_system(
    projections: Tensor,
    geometry: ScanGeometry,
    grid: VolumeGrid,
    *,
    weights: Tensor | None = None,
    mask: Tensor | None = None,
) -> System:
    """Check and gather what an iterative reconstruction works on.

    Args:
        projections: (view, row, col) line integrals; where the weight is 0 they may be anything, NaN too.
        geometry: of the scan, mm.
        grid: of the volume, mm.
        weights: of the line integrals, broadcastable to them, 0 or more, or booleans: 0 for dead pixels, columns that
            are left out; for noise, in proportion to 1 / variance.
        mask: (z, y, x) of booleans: the voxels that may differ from 0.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, weights below 0, nothing left to reconstruct.
    """
    check_projections(projections.shape, geometry)
    root = None if weights is None else _root(weights, tuple(projections.shape))
    data = projections.detach().to(torch.float32)
    if root is not None:
        root = root.to(data.device)
        data = torch.where(root > 0, data * root, torch.zeros((), device=data.device))
    if not bool(torch.isfinite(data).all()):
        bad = int((~torch.isfinite(data)).sum())
        raise ValueError(f"projections: expected finite line integrals wherever the weight is not 0, got {bad} others")
    return System(data, geometry, grid, root, None if mask is None else _mask(mask, grid.shape, data))


def start_volume(system: System, start: Tensor | None, *, nonnegative: bool = False) -> Tensor:
    """Zeros, or a copy of the start inside the mask, without negative values where those are excluded."""
    if start is None:
        return torch.zeros(system.grid.shape, device=system.data.device)
    if tuple(start.shape) != tuple(system.grid.shape):
        raise ValueError(f"start: expected shape (z, y, x) = {tuple(system.grid.shape)}, got {tuple(start.shape)}")
    if not bool(torch.isfinite(start).all()):
        raise ValueError("start: expected finite values, got NaN or infinity")
    volume = start.detach().to(system.data, copy=True)
    if nonnegative:
        volume.clamp_(min=0)
    return volume if system.mask is None else volume.mul_(system.mask)


def check_iterations(iterations: int) -> None:
    """Raise ValueError unless there is something to do."""
    if iterations < 1:
        raise ValueError(f"iterations: expected at least 1, got {iterations}")


def operator_norm(system: System) -> float:
    """Largest singular value of B in mm, by the power method; from above by about 1 %, so that steps stay stable.

    B has no negative entries, so a volume of ones is a good start and the method is quick (Perron and Frobenius).

    Raises:
        ValueError: no ray that takes part meets a voxel that takes part.
    """
    volume, last = system.ones(), 0.0
    for _ in range(POWER_ITERATIONS):
        volume /= max(norm(volume), 1e-30)
        lines = system.forward(volume)
        found = norm(lines)
        if abs(found - last) <= POWER_TOLERANCE * found:
            break
        last, volume = found, system.adjoint(lines)
    if found == 0:
        raise ValueError("grid: expected voxels that rays of the scan meet, got none")
    return POWER_MARGIN * found


def mean_column_norm(system: System, *, seed: int = 0) -> float:
    """Root mean square over the voxels of the norms of the columns of B, mm: |B|_F / sqrt(voxels).

    From one projection of random signs s: the mean of |B s|^2 is |B|_F^2 (Hutchinson).
    """
    signs = torch.randint(0, 2, system.grid.shape, generator=torch.Generator().manual_seed(seed))
    volume = system.ones()
    voxels = norm(volume)
    return norm(system.forward(volume.mul_((2 * signs - 1).to(volume)))) / voxels


def norm(values: Tensor) -> float:
    """Euclidean norm, added up in double precision slice by slice."""
    return math.sqrt(dot(values, values))


def dot(a: Tensor, b: Tensor) -> float:
    """Inner product, added up in double precision slice by slice."""
    return math.fsum(torch.stack([torch.dot(x.flatten(), y.flatten()) for x, y in zip(a, b, strict=True)]).tolist())


def _root(weights: Tensor, shape: tuple[int, ...]) -> Tensor:
    weights = torch.as_tensor(weights).detach().to(torch.float32)
    try:
        weights = weights.expand(shape)
    except RuntimeError:
        raise ValueError(f"weights: expected a shape that expands to {shape}, got {tuple(weights.shape)}") from None
    if not bool((torch.isfinite(weights) & (weights >= 0)).all()):
        raise ValueError("weights: expected finite values of 0 or more, got others")
    if not bool((weights > 0).any()):
        raise ValueError("weights: expected some above 0, got none")
    return weights.sqrt()


def _mask(mask: Tensor, shape: tuple[int, ...], like: Tensor) -> Tensor:
    if tuple(mask.shape) != tuple(shape) or mask.dtype != torch.bool:
        raise ValueError(
            f"mask: expected booleans of shape (z, y, x) = {tuple(shape)}, got {mask.dtype} of {tuple(mask.shape)}"
        )
    if not bool(mask.any()):
        raise ValueError("mask: expected some voxels to reconstruct, got none")
    return mask.to(like)
