"""Total variation of a volume: gradient, its exact adjoint, norm, proximal map, and a strength from the noise."""

import math

import torch
from torch import Tensor

from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import ScanGeometry
from xrmflow.reconstruction.iterative.system import make_system, mean_column_norm


def gradient(volume: Tensor, out: Tensor | None = None) -> Tensor:
    """Forward differences along z, y, x, 0 beyond the last voxel (Neumann): (z, y, x) -> (3, z, y, x), per voxel."""
    out = volume.new_empty((3, *volume.shape)) if out is None else out
    for axis in range(3):
        steps = volume.shape[axis] - 1
        torch.sub(volume.narrow(axis, 1, steps), volume.narrow(axis, 0, steps), out=out[axis].narrow(axis, 0, steps))
        out[axis].narrow(axis, steps, 1).zero_()
    return out


def divergence(field: Tensor, out: Tensor | None = None) -> Tensor:
    """Minus the transpose of `gradient`: (3, z, y, x) -> (z, y, x)."""
    out = torch.zeros_like(field[0]) if out is None else out.zero_()
    for axis in range(3):
        steps = out.shape[axis] - 1
        inner = field[axis].narrow(axis, 0, steps)
        out.narrow(axis, 0, steps).add_(inner)
        out.narrow(axis, 1, steps).sub_(inner)
    return out


def total_variation(volume: Tensor) -> float:
    """Isotropic total variation: sum over voxels of the length of the gradient, in the unit of the volume."""
    return float(_lengths(gradient(volume)).sum(dtype=torch.float64))


def gradient_norm(shape: tuple[int, ...]) -> float:
    """Upper bound of the norm of `gradient`: 2 for every axis longer than one voxel, squared and added up."""
    return math.sqrt(sum(4 * (size > 1) for size in shape))


class Denoiser:
    """The proximal map of TV, argmin over x of 1/2 |x - v|^2 + strength TV(x), x >= 0 and 0 outside a mask if asked.

    Solved in the dual by fast gradient projection (Beck & Teboulle, IEEE TIP 18:2419, 2009, algorithm FGP). The dual
    field is kept from call to call, so that in an outer iteration few steps a call are enough.
    """

    def __init__(self, like: Tensor, *, nonnegative: bool, mask: Tensor | None) -> None:
        self._field = like.new_zeros((3, *like.shape))
        self._nonnegative, self._mask = nonnegative, mask
        self._bound = max(gradient_norm(tuple(like.shape)) ** 2, 1.0)

    def __call__(self, noisy: Tensor, strength: float, *, steps: int) -> Tensor:
        """The denoised volume; the dual field has unit length at most, whatever the strength."""
        if strength == 0:
            return self._inside(noisy.clone())
        field, ahead = self._field, self._field.clone()
        moved, denoised = torch.empty_like(field), torch.empty_like(noisy)
        t = 1.0
        for _ in range(steps):
            self._primal(noisy, ahead, strength, out=denoised)
            gradient(denoised, out=moved)
            moved.mul_(1 / (self._bound * strength)).add_(ahead)
            shorten(moved, 1.0)
            t, last = (1 + math.sqrt(1 + 4 * t * t)) / 2, t
            # ahead <- new + (last - 1) / t (new - old); the buffers change places.
            torch.lerp(field, moved, 1 + (last - 1) / t, out=ahead)
            field, moved = moved, field
        self._field = field
        return self._primal(noisy, field, strength, out=denoised)

    def _primal(self, noisy: Tensor, field: Tensor, strength: float, *, out: Tensor) -> Tensor:
        return self._inside(divergence(field, out=out).mul_(strength).add_(noisy))

    def _inside(self, volume: Tensor) -> Tensor:
        if self._nonnegative:
            volume.clamp_(min=0)
        return volume if self._mask is None else volume.mul_(self._mask)


def matched_strength(
    projections: Tensor,
    geometry: ScanGeometry,
    grid: VolumeGrid,
    *,
    noise: float,
    weights: Tensor | None = None,
    mask: Tensor | None = None,
) -> float:
    """The strength of TV that flattens what noise alone would draw, mm: noise times the norm of a voxel's column.

    Noise of standard deviation s in the line integrals pulls at a voxel with s |a|, a its column of sqrt(W) A (root
    mean square over the voxels); a strength of that size holds against it.

    Args:
        projections: (view, row, col) line integrals.
        geometry: the scan, mm.
        grid: where to reconstruct, mm.
        noise: standard deviation of sqrt(weights) times the line integrals, see `noise_level`.
        weights: as for the reconstruction.
        mask: as for the reconstruction.
    """
    if not (math.isfinite(noise) and noise >= 0):
        raise ValueError(f"noise: expected a standard deviation of 0 or more, got {noise}")
    return noise * mean_column_norm(make_system(projections, geometry, grid, weights=weights, mask=mask))


def noise_level(projections: Tensor, *, weights: Tensor | None = None) -> float:
    """Standard deviation of white noise in sqrt(weights) times the line integrals, estimated from neighbouring pixels.

    From the median size of (p[0,0] - p[0,1] - p[1,0] + p[1,1]) / 2 over 2 x 2 pixels, which slopes leave at 0 and edges
    move little (Donoho & Johnstone, Biometrika 81:425, 1994); of a single row from (p[0] - 2 p[1] + p[2]) / sqrt(6).
    Noise that neighbours share, as behind a thick scintillator, is underestimated.

    Args:
        projections: (view, row, col).
        weights: broadcastable to them; pixels of weight 0 and their neighbours do not count.

    Raises:
        ValueError: fewer than 2 x 2 pixels or 3 columns, or none left.
    """
    weights = torch.ones((), device=projections.device) if weights is None else weights.to(projections)
    weights = weights.expand(projections.shape)
    p = torch.where(weights > 0, projections, torch.nan)
    _, rows, cols = p.shape
    if rows > 1 and cols > 1:
        differences = (p[:, 1:, 1:] - p[:, 1:, :-1] - p[:, :-1, 1:] + p[:, :-1, :-1]) / 2
        nearby = (weights[:, 1:, 1:] + weights[:, :-1, :-1]) / 2
    elif cols > 2:
        differences = (p[..., 2:] - 2 * p[..., 1:-1] + p[..., :-2]) / math.sqrt(6)
        nearby = weights[..., 1:-1]
    else:
        raise ValueError(f"projections: expected at least 2 x 2 pixels or 3 columns, got {rows} x {cols}")
    # Weights made from the measurements share their noise: differences are taken before they are weighted.
    level = float((differences.abs() * nearby.sqrt()).nanmedian()) / 0.6745
    if math.isnan(level):
        raise ValueError("weights: expected neighbouring pixels above 0 to measure noise, got none")
    return level


def shorten(field: Tensor, longest: float) -> None:
    """Shorten the vectors of a field (3, z, y, x) that are longer than this to this."""
    if longest == 0:
        field.zero_()
    else:
        field.div_(_lengths(field).div_(longest).clamp_(min=1))


def _lengths(field: Tensor) -> Tensor:
    """Lengths of the vectors; torch's own norm along the first axis takes 50 times as long (measured)."""
    return (field[0] * field[0]).addcmul_(field[1], field[1]).addcmul_(field[2], field[2]).sqrt_()
