"""How the transform changes with the geometry: slopes of the interpolation times the chain rule, view by view.

    rays_gradient  of <project(volume), projections> to the numbers of `pixel_rays`, (view, 6, 3)
    maps_gradient  of <backproject(projections), volume> to those of `voxel_to_pixel` and `source_distances`

Both are sums over exactly the samples that the transform takes, so they cost about as much. Between voxels (pixels)
the slopes are those of the bilinear interpolation; on them, where it has a kink, the slope towards larger indices.
Sums along a ray or a column of voxels are taken in the type of the data, about its middle; all further ones in
float64, in an order that does not depend on the number of threads.
"""

import numpy as np
import torch
from torch import Tensor

from xrmflow.projectors.columns import MARGIN
from xrmflow.projectors.cpu import VIEWS_IN_PIECE, _bounds
from xrmflow.projectors.lanes import LANES
from xrmflow.projectors.map_slopes import any_maps, upright_maps
from xrmflow.projectors.ray_slopes import any_rays, bent_rays, level_rays
from xrmflow.projectors.setup import Setup
from xrmflow.projectors.threads import in_pieces

# Pieces that rows of voxels are cut into: fixed, because sums of pieces must not depend on the number of threads.
PIECES = 32


def rays_gradient(volume: Tensor, projections: Tensor, setup: Setup) -> Tensor:
    """Gradient of <project(volume), projections> to the rays.

    Args:
        volume: (z, y, x).
        projections: (view, row, col), of the same type.
        setup: the scan and the grid.

    Returns:
        (view, 6, 3) float64, in the order of `pixel_rays`; zero for those of its numbers that are zero in every scan
        with such a beam.
    """
    padded = _padded(volume.detach().permute(1, 2, 0), MARGIN)
    data = projections.detach()
    sums = np.zeros((setup.geometry.views, 6, 3))
    bounds = _bounds(padded, setup)
    kernel = level_rays if setup.level else any_rays

    def work(start: int, stop: int) -> None:
        weights = np.ascontiguousarray(data[start:stop].numpy().transpose(0, 2, 1))
        scan = setup.cone, setup.grid.voxel_mm, sums[start:stop]
        if bounds is None:
            kernel(padded, weights, setup.rays[start:stop], *scan)
        else:
            bent_rays(padded, weights, setup.rays[start:stop], bounds[start:stop], *scan)

    in_pieces(work, setup.geometry.views, size=max(1, min(VIEWS_IN_PIECE, setup.geometry.views // 8)))
    sums[:, slice(1, 3) if setup.cone else slice(4, 6)] = 0
    return torch.from_numpy(sums)


def maps_gradient(projections: Tensor, volume: Tensor, setup: Setup) -> tuple[Tensor, Tensor]:
    """Gradients of <backproject(projections), volume> to the maps from voxels to pixels and to the distances.

    Args:
        projections: (view, row, col).
        volume: (z, y, x), of the same type.
        setup: the scan and the grid.

    Returns:
        (view, 3, 4) and (view, 3), float64, in the orders of `voxel_to_pixel` and `source_distances`.
    """
    columns = _padded(projections.detach().permute(0, 2, 1), MARGIN, along=(1, 2))
    turned = _turned(volume.detach())
    kernel = upright_maps if setup.upright else any_maps
    size = -(-len(turned) // PIECES)
    sums = np.zeros((-(-len(turned) // size), setup.geometry.views, 15))

    def work(start: int, stop: int) -> None:
        kernel(columns, turned, setup.matrices, setup.distances, sums[start // size], start, stop)

    in_pieces(work, len(turned), size=size)
    total = torch.from_numpy(sums.sum(axis=0))
    return total[:, :12].reshape(-1, 3, 4), total[:, 12:]


def _padded(data: Tensor, margin: int, along: tuple[int, ...] = (0, 1, 2)) -> np.ndarray:
    """A contiguous copy surrounded by zeros along some axes."""
    margins = [margin if axis in along else 0 for axis in range(3)]
    padded = np.zeros([size + 2 * m for size, m in zip(data.shape, margins, strict=True)], data.numpy().dtype)
    padded[tuple(slice(m, m + size) for size, m in zip(data.shape, margins, strict=True))] = data.numpy()
    return padded


def _turned(volume: Tensor) -> np.ndarray:
    """A copy (y, x, z) of a volume (z, y, x), with room for a register behind its end."""
    nz, ny, nx = volume.shape
    turned = np.zeros(nz * ny * nx + LANES, volume.numpy().dtype)[:-LANES].reshape(ny, nx, nz)
    turned[:] = volume.numpy().transpose(1, 2, 0)
    return turned
