"""Line integrals of a B-spline volume along any rays: lines of response, list-mode events, single beams.

    p = integral of f along the ray, mm        f(x) = sum_k c_k B(x - k), x and k in voxels

with B the tensor-product B-spline of degree 0, 1, 2 or 3 and coefficients c on the voxel grid, zero outside it. The
integral is exact (Gauss's rule in every cell between knot planes), and so are its gradients: to the coefficients by the
transposed kernel, to origin and direction of every ray by dp/d origin = int grad f dt, dp/d direction = int t grad f
dt (arXiv 2606.21405). They are continuous from degree 2 on. `xrmflow.projectors.splines` is the same for a scan.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from xrmflow.geometry.grid import VolumeGrid
from xrmflow.projectors import spline_kernels as kernels
from xrmflow.projectors.threads import in_pieces

# Cells across the main axis that one call of the adjoint fills; neighbours overlap by fewer.
BLOCK = 8


def integrate(
    coefficients: Tensor,
    origins: Tensor,
    directions: Tensor,
    grid: VolumeGrid,
    *,
    degree: int = 2,
    start: float = -math.inf,
    stop: float = math.inf,
) -> Tensor:
    """Line integrals of a B-spline volume along rays origin + t direction, start < t < stop.

    For the segment between two points, such as a pair of detectors: origins = one, directions = other - one,
    start = 0, stop = 1. Gradients flow to coefficients, origins and directions; that to the coefficients can be
    differentiated again. At degree 0 and 1 the gradient to rays jumps where a ray crosses the edge of a voxel or runs
    within a plane of knots; there it is that of one side.

    Args:
        coefficients: (..., z, y, x), per mm; float32 or float64. For degree 0 and 1 these are the voxels' values; for 2
            and 3 see `xrmflow.projectors.splines.coefficients_of`.
        origins: (ray, 3) points on the rays, (x, y, z) mm.
        directions: (ray, 3) of any length but zero, mm.
        grid: the voxels, mm.
        degree: of the spline, 0 to 3.
        start: where each ray begins, as a multiple of its direction from its origin.
        stop: where it ends.

    Returns:
        (..., ray) without unit, of the coefficients' type.

    Raises:
        ValueError: shapes that do not fit, a degree that does not exist, rays that are not finite or have no
            direction, start beyond stop.
    """
    rays, bundle = _bundle(origins, directions, grid, degree=degree, start=start, stop=stop)
    return line_integrals(coefficients, rays, bundle)[..., 0, 0]


def integrate_adjoint(
    values: Tensor,
    origins: Tensor,
    directions: Tensor,
    grid: VolumeGrid,
    *,
    degree: int = 2,
    start: float = -math.inf,
    stop: float = math.inf,
) -> Tensor:
    """Transpose of `integrate`: (..., ray) -> (..., z, y, x). The same arguments and errors; the same gradients."""
    rays, bundle = _bundle(origins, directions, grid, degree=degree, start=start, stop=stop)
    return spread(values[..., None, None], rays, bundle)


def _bundle(
    origins: Tensor, directions: Tensor, grid: VolumeGrid, *, degree: int, start: float, stop: float
) -> tuple[Tensor, "Bundle"]:
    for name, vectors in (("origins", origins), ("directions", directions)):
        if vectors.ndim != 2 or vectors.shape[1] != 3 or len(vectors) != len(origins):
            raise ValueError(f"{name}: expected shape (ray, 3) = ({len(origins)}, 3), got {tuple(vectors.shape)}")
        if not torch.isfinite(vectors).all():
            raise ValueError(f"{name}: expected finite vectors, got NaN or infinity")
    if not bool((directions.detach() != 0).any(dim=1).all()):
        raise ValueError("directions: expected vectors of some length, got zero")
    if not start < stop:
        raise ValueError(f"start, stop: expected start < stop, got {start} and {stop}")
    first = torch.tensor(grid.first_voxel_mm, dtype=torch.float64, device=origins.device)
    rays = torch.stack([origins.double() - first, directions.double()], dim=1) / grid.voxel_mm
    return rays, Bundle(grid, degree, 1, 1, (float(start), float(stop)))


@dataclass(frozen=True)
class Bundle:
    """What is common to all rays of a family.

    Attributes:
        grid: the voxels.
        degree: of the spline.
        rows, cols: rays of each view.
        limits: part of each ray that counts, as multiples of its direction from its origin.
    """

    grid: VolumeGrid
    degree: int
    rows: int
    cols: int
    limits: tuple[float, float]

    def __post_init__(self) -> None:
        if self.degree not in (0, 1, 2, 3):
            raise ValueError(f"degree: expected 0, 1, 2 or 3, got {self.degree}")

    @property
    def order(self) -> tuple[int, ...]:
        """The degree as the kernels take it: by the length of a tuple."""
        return (0,) * (self.degree + 1)

    @property
    def common(self) -> tuple[tuple[float, float], float, float, tuple[int, ...]]:
        """Arguments of every kernel: limits, shift from voxel indices to cells, mm in a voxel, degree."""
        return self.limits, kernels.knot_shift(self.degree), self.grid.voxel_mm, self.order


def line_integrals(coefficients: Tensor, rays: Tensor, bundle: Bundle) -> Tensor:
    """Integrals (..., view, row, col) along rays in voxel indices: (view, 6, 3) as of `pixel_rays`, or (view, 2, 3)."""
    _check("coefficients", coefficients, bundle.grid.shape)
    flat = coefficients.reshape(math.prod(coefficients.shape[:-3]), *bundle.grid.shape)
    out: Tensor = _Integrate.apply(flat, rays, bundle)  # type: ignore[assignment]
    return out.reshape(*coefficients.shape[:-3], *out.shape[1:])


def spread(values: Tensor, rays: Tensor, bundle: Bundle) -> Tensor:
    """Transpose of `line_integrals`: (..., view, row, col) -> (..., z, y, x)."""
    shape = (len(rays), bundle.rows, bundle.cols)
    _check("values", values, shape)
    flat = values.reshape(math.prod(values.shape[:-3]), *shape)
    out: Tensor = _Spread.apply(flat, rays, bundle)  # type: ignore[assignment]
    return out.reshape(*values.shape[:-3], *out.shape[1:])


def _check(name: str, data: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(data.shape[-3:]) != tuple(shape):
        raise ValueError(f"{name}: expected shape (..., {', '.join(map(str, shape))}), got {tuple(data.shape)}")
    if data.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{name}: expected float32 or float64, got {data.dtype}")


class _Integrate(Function):
    @staticmethod
    def forward(ctx: Any, coefficients: Tensor, rays: Tensor, bundle: Bundle) -> Tensor:
        ctx.save_for_backward(coefficients, rays)
        ctx.bundle = bundle
        return torch.stack([_project(c, rays, bundle) for c in coefficients])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        coefficients, rays = ctx.saved_tensors
        wanted, wanted_rays, _ = ctx.needs_input_grad
        by_data = _Spread.apply(gradient, rays, ctx.bundle) if wanted else None
        by_rays = _Sensitivity.apply(coefficients, rays, gradient, ctx.bundle) if wanted_rays else None
        return by_data, by_rays, None  # type: ignore[return-value]


class _Spread(Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, rays: Tensor, bundle: Bundle) -> Tensor:
        ctx.save_for_backward(values, rays)
        ctx.bundle = bundle
        return torch.stack([_project_adjoint(v, rays, bundle) for v in values])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        values, rays = ctx.saved_tensors
        wanted, wanted_rays, _ = ctx.needs_input_grad
        by_data = _Integrate.apply(gradient, rays, ctx.bundle) if wanted else None
        by_rays = _Sensitivity.apply(gradient, rays, values, ctx.bundle) if wanted_rays else None
        return by_data, by_rays, None  # type: ignore[return-value]


class _Sensitivity(Function):
    """Gradient of <values, integrals of the coefficients> to the rays."""

    @staticmethod
    def forward(ctx: Any, coefficients: Tensor, rays: Tensor, values: Tensor, bundle: Bundle) -> Tensor:
        parts = [_sensitivity(c, rays, v, bundle) for c, v in zip(coefficients, values, strict=True)]
        return torch.stack(parts).sum(dim=0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        raise NotImplementedError("the gradient to rays has no gradient of its own: detach it, or the geometry")


def _project(coefficients: Tensor, rays: Tensor, bundle: Bundle) -> Tensor:
    """Rays are independent: pieces are views."""
    padded, lines = _padded(coefficients, bundle), _array(rays)
    out = np.empty((len(lines), bundle.rows, bundle.cols), padded.dtype)

    def work(first: int, last: int) -> None:
        kernels.project(padded, lines, *bundle.common, out, first, last)

    in_pieces(work, len(lines), size=_views_at_once(bundle))
    return torch.from_numpy(out).to(coefficients.device)


def _sensitivity(coefficients: Tensor, rays: Tensor, values: Tensor, bundle: Bundle) -> Tensor:
    """Likewise."""
    padded, lines, weights = _padded(coefficients, bundle), _array(rays), _data(values)
    out, (limits, shift, voxel, order) = np.zeros(lines.shape), bundle.common

    def work(first: int, last: int) -> None:
        if bundle.degree == 0:
            kernels.sensitivity_of_constants(padded, lines, limits, shift, voxel, weights, out, first, last)
        else:
            kernels.sensitivity(padded, lines, limits, shift, voxel, order, weights, out, first, last)

    in_pieces(work, len(lines), size=_views_at_once(bundle))
    return torch.from_numpy(out).to(rays)


def _project_adjoint(values: Tensor, rays: Tensor, bundle: Bundle) -> Tensor:
    """Rays cross each other's cells: pieces are blocks of cells across the main axis, every other one at a time.

    A block writes `degree` coefficients beyond its cells, which its neighbour writes too; every other block does not.
    """
    lines, weights, edge = _array(rays), _data(values), kernels.margin(bundle.degree)
    padded = np.zeros([size + 2 * edge for size in bundle.grid.shape], weights.dtype)
    for main, size in enumerate(reversed(padded.shape)):
        cells = size - bundle.degree
        blocks = [(first, min(first + BLOCK, cells)) for first in range(0, cells, BLOCK)]
        for part in (blocks[::2], blocks[1::2]):

            def work(start: int, stop: int, main: int = main, part: list[tuple[int, int]] = part) -> None:
                for first, last in part[start:stop]:
                    kernels.project_adjoint(weights, lines, *bundle.common, main, first, last, padded)

            in_pieces(work, len(part))
    inner = tuple(slice(edge, -edge) for _ in range(3))
    return torch.from_numpy(np.ascontiguousarray(padded[inner])).to(values.device)


def _views_at_once(bundle: Bundle) -> int:
    """Views to a piece, so that a piece is worth a call: some hundred rays."""
    return max(1, 512 // (bundle.rows * bundle.cols))


def _padded(coefficients: Tensor, bundle: Bundle) -> np.ndarray:
    """A copy surrounded by zeros."""
    return np.pad(_data(coefficients), kernels.margin(bundle.degree))


def _data(values: Tensor) -> np.ndarray:
    return np.ascontiguousarray(values.detach().cpu().numpy())


def _array(rays: Tensor) -> np.ndarray:
    return np.ascontiguousarray(rays.detach().cpu().numpy(), dtype=np.float64)
