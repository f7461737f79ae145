"""The X-ray transform and the FDK backprojection, with exact adjoints, as differentiable functions of their data.

    project          p(view, row, col) = line integral of the volume along the pixel's ray (Joseph 1982)
    project_adjoint  its exact transpose
    backproject      f(z, y, x) = sum over views of p at the voxel's pixel / U^2 (Feldkamp, Davis, Kress 1984)

All are linear, so each one's gradient is its transpose, and they are differentiable any number of times. Conventions
are those of `xrmflow.geometry.acquisition`. Gradients to the geometry come from `xrmflow.projectors.oracle`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import ScanGeometry
from xrmflow.projectors import columns, pixelwise
from xrmflow.projectors.matrices import has_steep_rays, is_upright, pixel_rays, source_distances, voxel_to_pixel
from xrmflow.projectors.threads import in_pieces

# Views transposed to column layout at a time: bounds the extra memory.
VIEWS_AT_ONCE = 32


def project(volume: Tensor, geometry: ScanGeometry, grid: VolumeGrid) -> Tensor:
    """Line integrals of a volume along the rays of a scan.

    Sampled where the ray crosses the planes of voxel centres across its main direction, bilinear within the plane,
    zero outside the grid (Joseph, IEEE TMI 1, 1982).

    Args:
        volume: (z, y, x), per mm; float32 or float64.
        geometry: the scan, mm.
        grid: the volume's grid, mm.

    Returns:
        (view, row, col), without unit.

    Raises:
        ValueError: a volume of another shape than the grid, or a geometry that asks for gradients.
    """
    _check("volume", volume, grid.shape)
    return _Project.apply(volume, _Scan.of(geometry, grid))  # type: ignore[return-value]


def project_adjoint(projections: Tensor, geometry: ScanGeometry, grid: VolumeGrid) -> Tensor:
    """Transpose of `project`: (view, row, col) -> (z, y, x), each ray spread over its voxels, times mm."""
    _check("projections", projections, (geometry.views, geometry.rows, geometry.cols))
    return _ProjectAdjoint.apply(projections, _Scan.of(geometry, grid))  # type: ignore[return-value]


def backproject(projections: Tensor, geometry: ScanGeometry, grid: VolumeGrid) -> Tensor:
    """Sum over views of the (filtered) projections at each voxel's pixel, weighted with 1 / U^2.

    U is the voxel's distance from the source along the direction to the rotation axis, as a fraction of the axis' (1
    for a parallel beam). Bilinear in the detector, zero outside it (Feldkamp, Davis, Kress, JOSA A 1, 1984, eq. 28).

    Args:
        projections: (view, row, col), float32 or float64.
        geometry: the scan, mm.
        grid: where to reconstruct, mm.

    Returns:
        (z, y, x) in the unit of the projections.

    Raises:
        ValueError: projections of another shape than the scan, a source on the rotation axis, or a geometry that
        asks for gradients.
    """
    _check("projections", projections, (geometry.views, geometry.rows, geometry.cols))
    return _Backproject.apply(projections, _Scan.of(geometry, grid))  # type: ignore[return-value]


def _check(name: str, data: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(data.shape) != tuple(shape):
        raise ValueError(f"{name}: expected shape {tuple(shape)}, got {tuple(data.shape)}")
    if data.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{name}: expected float32 or float64, got {data.dtype}")


@dataclass(frozen=True)
class _Scan:
    """What the kernels need of a scan and a grid, as numpy arrays."""

    geometry: ScanGeometry
    grid: VolumeGrid
    matrices: np.ndarray
    rays: np.ndarray
    upright: bool

    @classmethod
    def of(cls, geometry: ScanGeometry, grid: VolumeGrid) -> "_Scan":
        vectors = (geometry.source, geometry.detector, geometry.u, geometry.v)
        if torch.is_grad_enabled() and any(v.requires_grad for v in vectors):
            raise ValueError(
                "geometry: expected vectors without gradient (use xrmflow.projectors.oracle, or detach them)"
            )
        matrices = voxel_to_pixel(geometry, grid)
        return cls(geometry, grid, _array(matrices), _array(pixel_rays(geometry, grid)), is_upright(matrices, grid))

    @property
    def level(self) -> bool:
        """Whether rays can be followed column by column: upright detectors, and no ray closer to z than to x and y."""
        return self.upright and not has_steep_rays(self.rays, rows=self.geometry.rows, cols=self.geometry.cols)

    @property
    def cone(self) -> bool:
        return self.geometry.beam == "cone"


def _array(values: Tensor) -> np.ndarray:
    return np.ascontiguousarray(values.detach().cpu().numpy(), dtype=np.float64)


class _Project(Function):
    @staticmethod
    def forward(ctx: Any, volume: Tensor, scan: _Scan) -> Tensor:
        ctx.scan = scan
        return _project(volume, scan)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _ProjectAdjoint.apply(gradient, ctx.scan), None  # type: ignore[return-value]


class _ProjectAdjoint(Function):
    @staticmethod
    def forward(ctx: Any, projections: Tensor, scan: _Scan) -> Tensor:
        ctx.scan = scan
        return _project_adjoint(projections, scan)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Project.apply(gradient, ctx.scan), None  # type: ignore[return-value]


class _Backproject(Function):
    @staticmethod
    def forward(ctx: Any, projections: Tensor, scan: _Scan) -> Tensor:
        ctx.scan = scan
        return _backproject(projections, scan)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _BackprojectAdjoint.apply(gradient, ctx.scan), None  # type: ignore[return-value]


class _BackprojectAdjoint(Function):
    @staticmethod
    def forward(ctx: Any, volume: Tensor, scan: _Scan) -> Tensor:
        ctx.scan = scan
        return _backproject_adjoint(volume, scan)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Backproject.apply(gradient, ctx.scan), None  # type: ignore[return-value]


def _project(volume: Tensor, scan: _Scan) -> Tensor:
    """Views are independent: pieces are views."""
    geometry, margin = scan.geometry, columns.MARGIN
    padded = _padded(volume.detach().permute(1, 2, 0), (margin, margin, margin))
    kernels = columns if scan.level else pixelwise
    out = np.empty((geometry.views, geometry.rows, geometry.cols), padded.dtype)

    def work(start: int, stop: int) -> None:
        part = np.empty((stop - start, geometry.cols, geometry.rows), padded.dtype)
        kernels.project(padded, scan.rays[start:stop], scan.cone, scan.grid.voxel_mm, part, 0, stop - start)
        out[start:stop] = part.transpose(0, 2, 1)

    in_pieces(work, geometry.views)
    return torch.from_numpy(out).to(volume.device)


def _project_adjoint(projections: Tensor, scan: _Scan) -> Tensor:
    """Every voxel is crossed by rays of all views: pieces are planes across the main direction, one after the other."""
    nz, ny, nx = scan.grid.shape
    margin = columns.MARGIN
    turned = np.ascontiguousarray(projections.detach().cpu().numpy().transpose(0, 2, 1))
    kernels, axes = (columns, (nx, ny)) if scan.level else (pixelwise, (nx, ny, nz))
    volume = np.zeros((ny + 2 * margin, nx + 2 * margin, nz + 2 * margin), turned.dtype)
    for main, planes in enumerate(axes):

        def work(start: int, stop: int, main: int = main) -> None:
            kernels.project_adjoint(turned, scan.rays, scan.cone, scan.grid.voxel_mm, main, volume, start, stop)

        in_pieces(work, planes, size=max(8, planes // 16))
    inner = volume[margin:-margin, margin:-margin, margin:-margin]
    return _tensor(inner.transpose(2, 0, 1)).to(projections.device)


def _backproject(projections: Tensor, scan: _Scan) -> Tensor:
    """Voxels are independent: pieces are rows of voxels."""
    nz, ny, nx = scan.grid.shape
    distances = _array(source_distances(scan.geometry, scan.grid))
    data = projections.detach().permute(0, 2, 1)
    volume = np.zeros((ny, nx, nz), _dtype(projections))
    for first in range(0, scan.geometry.views, VIEWS_AT_ONCE):
        views = slice(first, first + VIEWS_AT_ONCE)
        padded = _padded(data[views], (0, columns.MARGIN, columns.MARGIN))
        add_backprojection(
            volume, padded, matrices=scan.matrices[views], distances=distances[views], upright=scan.upright
        )
    return _tensor(volume.transpose(2, 0, 1)).to(projections.device)


def add_backprojection(
    volume: np.ndarray, padded: np.ndarray, *, matrices: np.ndarray, distances: np.ndarray, upright: bool
) -> None:
    """Add the backprojection of some views to a volume, in the kernels' own layouts.

    Args:
        volume: (y, x, z), changed.
        padded: (view, col, row), with `columns.MARGIN` zeros around columns and rows.
        matrices: from `voxel_to_pixel`, of these views.
        distances: from `source_distances`, of these views.
        upright: from `is_upright`.
    """
    kernels = columns if upright else pixelwise

    def work(start: int, stop: int) -> None:
        kernels.backproject(padded, matrices, distances, volume, start, stop)

    in_pieces(work, volume.shape[0], size=4)


def _backproject_adjoint(volume: Tensor, scan: _Scan) -> Tensor:
    """Views are independent: pieces are views."""
    geometry, margin = scan.geometry, columns.MARGIN
    turned = np.ascontiguousarray(volume.detach().cpu().numpy().transpose(1, 2, 0))
    distances = _array(source_distances(geometry, scan.grid))
    kernels = columns if scan.upright else pixelwise
    out = np.empty((geometry.views, geometry.rows, geometry.cols), turned.dtype)

    def work(start: int, stop: int) -> None:
        part = np.zeros((stop - start, geometry.cols + 2 * margin, geometry.rows + 2 * margin), turned.dtype)
        kernels.backproject_adjoint(turned, scan.matrices[start:stop], distances[start:stop], part, 0, stop - start)
        out[start:stop] = part[:, margin:-margin, margin:-margin].transpose(0, 2, 1)

    in_pieces(work, geometry.views)
    return torch.from_numpy(out).to(volume.device)


def _padded(data: Tensor, margins: tuple[int, int, int]) -> np.ndarray:
    """A copy surrounded by zeros."""
    shape = tuple(size + 2 * margin for size, margin in zip(data.shape, margins, strict=True))
    padded = torch.zeros(shape, dtype=data.dtype)
    inner = tuple(slice(margin, margin + size) for size, margin in zip(data.shape, margins, strict=True))
    padded[inner] = data
    return padded.numpy()


def _dtype(data: Tensor) -> type:
    return np.float64 if data.dtype == torch.float64 else np.float32


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array).contiguous()
