"""Exact line integrals of ellipsoids: the truth that projectors and reconstructions are measured against."""

import torch
from torch import Tensor

from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import ScanGeometry
from xrmflow.projectors.matrices import pixel_rays


def project_ellipsoid(
    geometry: ScanGeometry,
    *,
    centre_mm: tuple[float, float, float],
    semi_axes_mm: tuple[float, float, float],
    turn_rad: float = 0.0,
    attenuation_per_mm: float = 1.0,
) -> Tensor:
    """Line integrals of a uniform ellipsoid: attenuation times the chord each ray cuts.

    Args:
        geometry: the scan, mm.
        centre_mm: (x, y, z).
        semi_axes_mm: along x, y, z before turning.
        turn_rad: counter-clockwise turn about z.
        attenuation_per_mm: of the ellipsoid.

    Returns:
        (view, row, col) float64.
    """
    # In a grid of one 1 mm voxel at the origin, voxel indices are mm.
    rays = pixel_rays(geometry, VolumeGrid((1, 1, 1), 1.0))[:, :, None, None, :]
    row = torch.arange(geometry.rows, dtype=rays.dtype)[:, None, None]
    column = torch.arange(geometry.cols, dtype=rays.dtype)[:, None]
    origin = rays[:, 0] + column * rays[:, 1] + row * rays[:, 2] - torch.tensor(centre_mm, dtype=rays.dtype)
    direction = rays[:, 3] + column * rays[:, 4] + row * rays[:, 5]
    direction = direction / direction.norm(dim=-1, keepdim=True)
    to_sphere = _to_unit_sphere(semi_axes_mm, turn_rad)
    return attenuation_per_mm * _chord(origin @ to_sphere.T, direction @ to_sphere.T)


def ellipsoid(
    grid: VolumeGrid,
    *,
    centre_mm: tuple[float, float, float],
    semi_axes_mm: tuple[float, float, float],
    turn_rad: float = 0.0,
    attenuation_per_mm: float = 1.0,
    samples: int = 1,
) -> Tensor:
    """The same ellipsoid on a grid, (z, y, x) float64; each voxel averaged over `samples`^3 points in it."""
    fine = VolumeGrid(tuple(size * samples for size in grid.shape), grid.voxel_mm / samples, grid.centre_mm)  # type: ignore[arg-type]
    z, y, x = (
        first + fine.voxel_mm * torch.arange(size, dtype=torch.float64) - centre
        for first, size, centre in zip(fine.first_voxel_mm[::-1], fine.shape, centre_mm[::-1], strict=True)
    )
    a, b, c = _to_unit_sphere(semi_axes_mm, turn_rad)
    # The turn is about z: two coordinates depend on (x, y) only, the third on z only. Slice by slice, to stay small.
    flat = (a[0] * x + a[1] * y[:, None]) ** 2 + (b[0] * x + b[1] * y[:, None]) ** 2
    slices = [(flat + (c[2] * heights[:, None, None]) ** 2 <= 1).double() for heights in z.split(samples)]
    averaged = [torch.nn.functional.avg_pool3d(part[None], samples)[0, 0] for part in slices]
    return attenuation_per_mm * torch.stack(averaged)


def _to_unit_sphere(semi_axes_mm: tuple[float, float, float], turn_rad: float) -> Tensor:
    """Matrix that takes the ellipsoid to the unit sphere."""
    turn = torch.tensor(turn_rad, dtype=torch.float64)
    cosine, sine = torch.cos(turn), torch.sin(turn)
    back = torch.eye(3, dtype=torch.float64)
    back[:2, :2] = torch.stack([torch.stack([cosine, sine]), torch.stack([-sine, cosine])])
    return back / torch.tensor(semi_axes_mm, dtype=torch.float64)[:, None]


def _chord(origin: Tensor, direction: Tensor) -> Tensor:
    """Length of the parameter interval in which origin + t direction lies in the unit sphere."""
    a = (direction**2).sum(dim=-1)
    b = (origin * direction).sum(dim=-1)
    c = (origin**2).sum(dim=-1) - 1
    return 2 * (b**2 - a * c).clamp(min=0).sqrt() / a
