"""Line integrals of B-splines in plain torch: slow, readable, differentiable in everything; the kernels are tested
against it.

Nothing is shared with the kernels: the basis comes from truncated powers, its products are evaluated on whole axes,
and each ray is cut at every knot plane at once.
"""

import math

import numpy as np
import torch
from torch import Tensor

from xrmflow.geometry.grid import VolumeGrid


def integrate(
    coefficients: Tensor,
    origins: Tensor,
    directions: Tensor,
    grid: VolumeGrid,
    *,
    degree: int,
    start: float = -math.inf,
    stop: float = math.inf,
) -> Tensor:
    """Line integrals (ray,) of a B-spline volume; arguments as of `xrmflow.projectors.rays.integrate`.

    Differentiable in coefficients, origins and directions any number of times for degree 2 and 3, once for 1. The
    gradient to rays of degree 0 is not: it lives where the cuts are, which carry no gradient here.
    """
    first = origins.new_tensor(grid.first_voxel_mm)
    lines = zip((origins - first) / grid.voxel_mm, directions / grid.voxel_mm, strict=True)
    limits = (start, stop)
    parts = [_integral(coefficients, o, d, degree, limits) * d.norm() * grid.voxel_mm for o, d in lines]
    return torch.stack(parts)


def _integral(coefficients: Tensor, o: Tensor, d: Tensor, degree: int, limits: tuple[float, float]) -> Tensor:
    """Integral over t of f(o + t d), in voxel indices."""
    cuts = _cuts(o.detach(), d.detach(), coefficients.shape, degree, limits)
    points, weights = np.polynomial.legendre.leggauss(5)  # exact up to degree 9 = 3 * 3
    half, middle = cuts.diff()[:, None] / 2, (cuts[1:] + cuts[:-1])[:, None] / 2
    t = (middle + half * torch.from_numpy(points)).reshape(-1)
    x, y, z = (basis(o[axis] + t * d[axis], coefficients.shape[2 - axis], degree) for axis in range(3))
    values = torch.einsum("zyx,tx,ty,tz->t", coefficients, x, y, z)
    return (values * (half * torch.from_numpy(weights)).reshape(-1)).sum()


def _cuts(o: Tensor, d: Tensor, shape: torch.Size, degree: int, limits: tuple[float, float]) -> Tensor:
    """Sorted t at which the ray crosses knot planes, within the limits, which are cuts too where the volume is."""
    knots = [torch.arange(shape[2 - axis] + degree + 1, dtype=o.dtype) - (degree + 1) / 2 for axis in range(3)]
    times = torch.cat([(knots[axis] - o[axis]) / d[axis] for axis in range(3) if d[axis] != 0])
    low, high = max(limits[0], float(times.min())), min(limits[1], float(times.max()))
    return times.clamp(low, max(low, high)).sort().values


def basis(x: Tensor, count: int, degree: int) -> Tensor:
    """B(x - k) for k in range(count): (..., count); from truncated powers (Schoenberg 1946)."""
    shifted = x[..., None] - torch.arange(count, dtype=x.dtype) + (degree + 1) / 2
    if degree == 0:
        return ((shifted >= 0) & (shifted < 1)).to(x.dtype)
    terms = [(-1) ** k * math.comb(degree + 1, k) * (shifted - k).clamp(min=0) ** degree for k in range(degree + 2)]
    # Beyond the support the powers cancel only up to rounding.
    inside = (shifted > 0) & (shifted < degree + 1)
    return torch.stack(terms).sum(dim=0) * inside / math.factorial(degree)
