"""The X-ray transform and the FDK backprojection, with exact adjoints, differentiable in data and geometry.

    project              p(view, row, col) = line integral of the volume along the pixel's ray (Joseph 1982)
    project_adjoint      its exact transpose
    backproject          f(z, y, x) = sum over views of p at the voxel's pixel / U^2 (Feldkamp, Davis, Kress 1984)
    backproject_adjoint  its exact transpose

All are linear in their data, so each one's gradient is its transpose and they are differentiable in the data any
number of times. Gradients to the geometry (`xrmflow.projectors.sensitivity`) reach its per-view vectors and whatever
these were computed from; they are sums over batches, and exist once: a gradient to the data has one to the geometry,
but not the other way round. Any number of leading batch dimensions. Conventions are those of
`xrmflow.geometry.acquisition`. Data on a GPU are transformed there.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import ScanGeometry
from xrmflow.projectors import cpu, sensitivity
from xrmflow.projectors.matrices import pixel_rays, source_distances, voxel_to_pixel
from xrmflow.projectors.setup import Setup

ONCE = "geometry: expected to be differentiated once, got a gradient of the gradient to it; detach one of them"


def project(volume: Tensor, geometry: ScanGeometry, grid: VolumeGrid) -> Tensor:
    """Line integrals of a volume along the rays of a scan.

    Sampled where the ray crosses the planes of voxel centres across its main direction, bilinear within the plane,
    zero outside the grid (Joseph, IEEE TMI 1, 1982).

    Args:
        volume: (..., z, y, x), per mm; float32 or float64; gradients flow to it.
        geometry: the scan, mm; gradients flow to its vectors where these ask for them.
        grid: the volume's grid, mm.

    Returns:
        (..., view, row, col), without unit.

    Raises:
        ValueError: a volume of another shape than the grid or of another type, a detector that sees the grid in no
            view or stands edge-on in some (a view that misses the grid is zero).
    """
    _check("volume", volume, grid.shape)
    return _Project.apply(volume, _rays(geometry, grid), _setup(geometry, grid))  # type: ignore[return-value]


def project_adjoint(projections: Tensor, geometry: ScanGeometry, grid: VolumeGrid) -> Tensor:
    """Transpose of `project`: (..., view, row, col) -> (..., z, y, x), each ray spread over its voxels, times mm."""
    _check("projections", projections, (geometry.views, geometry.rows, geometry.cols))
    return _ProjectAdjoint.apply(projections, _rays(geometry, grid), _setup(geometry, grid))  # type: ignore[return-value]


def backproject(projections: Tensor, geometry: ScanGeometry, grid: VolumeGrid) -> Tensor:
    """Sum over views of the (filtered) projections at each voxel's pixel, weighted with 1 / U^2.

    U is the voxel's distance from the source along the direction to the rotation axis, as a fraction of the axis' (1
    for a parallel beam). Bilinear in the detector, zero outside it (Feldkamp, Davis, Kress, JOSA A 1, 1984, eq. 28).

    Args:
        projections: (..., view, row, col), float32 or float64.
        geometry: the scan, mm.
        grid: where to reconstruct, mm.

    Returns:
        (..., z, y, x) in the unit of the projections.

    Raises:
        ValueError: projections of another shape than the scan or of another type, a detector as in `project`, or a
            source on the rotation axis.
    """
    _check("projections", projections, (geometry.views, geometry.rows, geometry.cols))
    return _Backproject.apply(projections, *_maps(geometry, grid), _setup(geometry, grid))  # type: ignore[return-value]


def backproject_adjoint(volume: Tensor, geometry: ScanGeometry, grid: VolumeGrid) -> Tensor:
    """Transpose of `backproject`: (..., z, y, x) -> (..., view, row, col)."""
    _check("volume", volume, grid.shape)
    return _BackprojectAdjoint.apply(volume, *_maps(geometry, grid), _setup(geometry, grid))  # type: ignore[return-value]


def _check(name: str, data: Tensor, shape: tuple[int, ...]) -> None:
    if data.ndim < 3 or tuple(data.shape[-3:]) != tuple(shape):
        raise ValueError(f"{name}: expected shape (..., {', '.join(map(str, shape))}), got {tuple(data.shape)}")
    if data.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{name}: expected float32 or float64, got {data.dtype}")


def _setup(geometry: ScanGeometry, grid: VolumeGrid) -> Setup:
    vectors = {name: getattr(geometry, name).detach() for name in ("source", "detector", "u", "v")}
    setup = Setup(replace(geometry, **vectors), grid)
    if not setup.meets.any():
        raise ValueError(
            "geometry, grid: expected voxels that rays of the scan meet, got a detector that misses the grid, "
            f"centred at {grid.centre_mm} mm, in all {geometry.views} views"
        )
    return setup


def _wants_gradient(geometry: ScanGeometry) -> bool:
    vectors = (geometry.source, geometry.detector, geometry.u, geometry.v)
    return torch.is_grad_enabled() and any(vector.requires_grad for vector in vectors)


def _rays(geometry: ScanGeometry, grid: VolumeGrid) -> Tensor | None:
    """The numbers of a scan that `project` depends on, or None where nobody asks for their gradient."""
    return pixel_rays(geometry, grid) if _wants_gradient(geometry) else None


def _maps(geometry: ScanGeometry, grid: VolumeGrid) -> tuple[Tensor | None, Tensor | None]:
    """Likewise for `backproject`."""
    if not _wants_gradient(geometry):
        return None, None
    return voxel_to_pixel(geometry, grid), source_distances(geometry, grid)


def _backend(data: Tensor) -> ModuleType:
    """The module that transforms data where they are."""
    return cpu if data.device.type == "cpu" else _gpu(data)


def _sensitivity(data: Tensor) -> ModuleType:
    """The module that finds gradients to the geometry where the data are."""
    return sensitivity if data.device.type == "cpu" else _gpu(data)


def _gpu(data: Tensor) -> ModuleType:
    try:
        from xrmflow.projectors import gpu  # type: ignore[attr-defined]
    except ImportError as error:
        raise RuntimeError(f"data on {data.device}: expected Triton to be installed, or data on the CPU") from error
    return gpu


def _each(work: Callable[[Tensor], Tensor], data: Tensor) -> Tensor:
    """Apply work to the last three dimensions, over all others."""
    if data.ndim == 3:
        return work(data)
    results = torch.stack([work(part) for part in _parts(data)])
    return results.reshape(*data.shape[:-3], *results.shape[1:])


def _parts(data: Tensor) -> Iterator[Tensor]:
    """What a batch consists of."""
    return iter(data.reshape(-1, *data.shape[-3:]))


class _Project(Function):
    @staticmethod
    def forward(ctx: Any, volume: Tensor, rays: Tensor | None, setup: Setup) -> Tensor:
        ctx.setup = setup
        ctx.save_for_backward(None if rays is None else volume, rays)
        return _each(lambda part: _backend(part).project(part, setup), volume)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        volume, rays = ctx.saved_tensors
        by_volume = _ProjectAdjoint.apply(gradient, rays, ctx.setup) if ctx.needs_input_grad[0] else None
        by_rays = _ByRays.apply(volume, gradient, rays, ctx.setup) if ctx.needs_input_grad[1] else None
        return by_volume, by_rays, None  # type: ignore[return-value]


class _ProjectAdjoint(Function):
    @staticmethod
    def forward(ctx: Any, projections: Tensor, rays: Tensor | None, setup: Setup) -> Tensor:
        ctx.setup = setup
        ctx.save_for_backward(None if rays is None else projections, rays)
        return _each(lambda part: _backend(part).project_adjoint(part, setup), projections)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        projections, rays = ctx.saved_tensors
        by_projections = _Project.apply(gradient, rays, ctx.setup) if ctx.needs_input_grad[0] else None
        by_rays = _ByRays.apply(gradient, projections, rays, ctx.setup) if ctx.needs_input_grad[1] else None
        return by_projections, by_rays, None  # type: ignore[return-value]


class _Backproject(Function):
    @staticmethod
    def forward(
        ctx: Any, projections: Tensor, matrices: Tensor | None, distances: Tensor | None, setup: Setup
    ) -> Tensor:
        ctx.setup = setup
        ctx.save_for_backward(None if matrices is None else projections, matrices, distances)
        return _each(lambda part: _backend(part).backproject(part, setup), projections)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        projections, *maps = ctx.saved_tensors
        by_data = _BackprojectAdjoint.apply(gradient, *maps, ctx.setup) if ctx.needs_input_grad[0] else None
        wanted = ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
        by_maps = _ByMaps.apply(projections, gradient, *maps, ctx.setup) if wanted else (None, None)
        return by_data, *by_maps, None  # type: ignore[return-value, misc]


class _BackprojectAdjoint(Function):
    @staticmethod
    def forward(ctx: Any, volume: Tensor, matrices: Tensor | None, distances: Tensor | None, setup: Setup) -> Tensor:
        ctx.setup = setup
        ctx.save_for_backward(None if matrices is None else volume, matrices, distances)
        return _each(lambda part: _backend(part).backproject_adjoint(part, setup), volume)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        volume, *maps = ctx.saved_tensors
        by_data = _Backproject.apply(gradient, *maps, ctx.setup) if ctx.needs_input_grad[0] else None
        wanted = ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
        by_maps = _ByMaps.apply(gradient, volume, *maps, ctx.setup) if wanted else (None, None)
        return by_data, *by_maps, None  # type: ignore[return-value, misc]


class _ByRays(Function):
    """Gradient (view, 6, 3) of <project(volume), projections>, summed over batches, to the rays.

    A function only in order to refuse clearly to be differentiated itself.
    """

    @staticmethod
    def forward(ctx: Any, volume: Tensor, projections: Tensor, rays: Tensor, setup: Setup) -> Tensor:
        work, total = _sensitivity(volume).rays_gradient, torch.zeros_like(rays)
        for part, weights in zip(_parts(volume), _parts(projections), strict=True):
            total += work(part, weights, setup).to(rays)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> None:
        raise RuntimeError(ONCE)


class _ByMaps(Function):
    """Likewise (view, 3, 4) and (view, 3), of <backproject(projections), volume> to matrices and distances."""

    @staticmethod
    def forward(
        ctx: Any, projections: Tensor, volume: Tensor, matrices: Tensor, distances: Tensor, setup: Setup
    ) -> tuple[Tensor, Tensor]:
        work, totals = _sensitivity(volume).maps_gradient, (torch.zeros_like(matrices), torch.zeros_like(distances))
        for part, weights in zip(_parts(projections), _parts(volume), strict=True):
            for total, gradient in zip(totals, work(part, weights, setup), strict=True):
                total += gradient.to(total)
        return totals

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> None:
        raise RuntimeError(ONCE)
