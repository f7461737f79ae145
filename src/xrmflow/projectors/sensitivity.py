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
from numba import njit
from torch import Tensor

from xrmflow.projectors.columns import MARGIN
from xrmflow.projectors.pixelwise import _at, _main, _planes, _seen
from xrmflow.projectors.setup import Setup
from xrmflow.projectors.threads import in_pieces

FAST = {"contract", "nsz", "arcp", "reassoc"}
# Pieces that rows of voxels are cut into: fixed, because sums of pieces must not depend on the number of threads.
PIECES = 32


def rays_gradient(volume: Tensor, projections: Tensor, setup: Setup) -> Tensor:
    """Gradient of <project(volume), projections> to the rays.

    Args:
        volume: (z, y, x).
        projections: (view, row, col), of the same type.
        setup: the scan and the grid.

    Returns:
        (view, 6, 3) float64, in the order of `pixel_rays`.
    """
    padded = _padded(volume.detach().permute(1, 2, 0), MARGIN)
    data = projections.detach()
    sums = np.zeros((setup.geometry.views, 6, 3))

    def work(start: int, stop: int) -> None:
        weights = np.ascontiguousarray(data[start:stop].numpy().transpose(0, 2, 1))
        _rays(padded, weights, setup.rays[start:stop], setup.cone, setup.grid.voxel_mm, sums[start:stop])

    in_pieces(work, setup.geometry.views)
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
    turned = np.ascontiguousarray(volume.detach().numpy().transpose(1, 2, 0))
    size = -(-len(turned) // PIECES)
    sums = np.zeros((-(-len(turned) // size), setup.geometry.views, 15))

    def work(start: int, stop: int) -> None:
        _maps(columns, turned, setup.matrices, setup.distances, sums[start // size], start, stop)

    in_pieces(work, len(turned), size=size)
    total = torch.from_numpy(sums.sum(axis=0))
    return total[:, :12].reshape(-1, 3, 4), total[:, 12:]


def _padded(data: Tensor, margin: int, along: tuple[int, ...] = (0, 1, 2)) -> np.ndarray:
    """A contiguous copy surrounded by zeros along some axes."""
    margins = [margin if axis in along else 0 for axis in range(3)]
    padded = np.zeros([size + 2 * m for size, m in zip(data.shape, margins, strict=True)], data.numpy().dtype)
    padded[tuple(slice(m, m + size) for size, m in zip(data.shape, margins, strict=True))] = data.numpy()
    return padded


@njit(nogil=True, cache=True, inline="always")
def _add_ray(sums, column, row, o, d):
    """Add the gradient to one ray's origin and direction, to those of the coefficients (6, 3) it is made of."""
    for axis in range(3):
        sums[0, axis] += o[axis]
        sums[1, axis] += column * o[axis]
        sums[2, axis] += row * o[axis]
        sums[3, axis] += d[axis]
        sums[4, axis] += column * d[axis]
        sums[5, axis] += row * d[axis]


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def _rays(volume, weights, rays, forward_only, voxel, sums):
    """Add to sums (view, 6, 3); volume (y, x, z, padded), weights (view, col, row): ray by ray.

    A ray's integral depends on its position in the middle plane (middle + t direction, t = 0) and its direction across
    the planes only: moving the origin along the ray, or making the direction longer, changes nothing.
    """
    real = volume.dtype.type
    strides = (volume.shape[2], volume.shape[1] * volume.shape[2], 1)
    sizes = (volume.shape[1] - 2 * MARGIN, volume.shape[0] - 2 * MARGIN, volume.shape[2] - 2 * MARGIN)
    flat = volume.reshape(volume.size)
    corner = MARGIN * (strides[0] + strides[1] + strides[2])
    by_origin, by_direction = np.zeros(3), np.zeros(3)
    for view in range(weights.shape[0]):
        for column in range(weights.shape[1]):
            for row in range(weights.shape[2]):
                o, d = _at(rays[view], 0, column, row), _at(rays[view], 3, column, row)
                m = _main(d[0], d[1], d[2])
                p, q = (m + 1) % 3, (m + 2) % 3
                first, last = _planes(
                    (o[p], o[q]), (d[p], d[q]), o[m], d[m], (sizes[p], sizes[q]), 0, sizes[m], forward_only
                )
                sp, sq = strides[p], strides[q]
                middle = 0.5 * (sizes[m] - 1)
                away = (middle - o[m]) / d[m]
                value, by_p, by_q, by_tp, by_tq = real(0), real(0), real(0), real(0), real(0)
                for plane in range(first, last):
                    t = (plane - o[m]) / d[m]
                    x, y = o[p] + t * d[p] + MARGIN, o[q] + t * d[q] + MARGIN
                    i, j = np.int64(x), np.int64(y)
                    fx, fy = real(x - i), real(y - j)
                    n = corner + plane * strides[m] + (i - MARGIN) * sp + (j - MARGIN) * sq
                    at_low, at_high = flat[n + sp] - flat[n], flat[n + sp + sq] - flat[n + sq]
                    a, b = flat[n] + fx * at_low, flat[n + sq] + fx * at_high
                    slope_p, slope_q, from_middle = at_low + fy * (at_high - at_low), b - a, real(t - away)
                    value += a + fy * slope_q
                    by_p += slope_p
                    by_q += slope_q
                    by_tp += from_middle * slope_p
                    by_tq += from_middle * slope_q
                squared = d[0] ** 2 + d[1] ** 2 + d[2] ** 2
                length = weights[view, column, row] * voxel * np.sqrt(squared) / abs(d[m])
                by_origin[p], by_origin[q] = length * by_p, length * by_q
                by_direction[p] = length * (by_tp + away * by_p + value * d[p] / squared)
                by_direction[q] = length * (by_tq + away * by_q + value * d[q] / squared)
                by_origin[m] = -(by_origin[p] * d[p] + by_origin[q] * d[q]) / d[m]
                by_direction[m] = -(by_direction[p] * d[p] + by_direction[q] * d[q]) / d[m]
                _add_ray(sums[view], column, row, by_origin, by_direction)


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def _maps(columns, volume, matrices, distances, sums, row_first, row_last):
    """Add to sums (view, 12 + 3); columns (view, col, row, padded), volume (y, x, z, unpadded): voxel by voxel."""
    views, width, height = columns.shape
    nx, nz = volume.shape[1], volume.shape[2]
    real, middle = columns.dtype.type, 0.5 * (volume.shape[2] - 1)
    for j in range(row_first, row_last):
        for i in range(nx):
            source = volume[j, i]
            for view in range(views):
                m = matrices[view]
                c, cz = m[0, 0] * i + m[0, 1] * j + m[0, 3], m[0, 2]
                r, rz = m[1, 0] * i + m[1, 1] * j + m[1, 3], m[1, 2]
                w, wz = m[2, 0] * i + m[2, 1] * j + m[2, 3], m[2, 2]
                first, last = _seen(c, cz, r, rz, w, wz, width - 2 * MARGIN, height - 2 * MARGIN, nz)
                flat = columns[view].reshape(width * height)
                value, by_c, by_r, by_w = real(0), real(0), real(0), real(0)
                by_kc, by_kr, by_kw = real(0), real(0), real(0)
                for k in range(first, last):
                    scale = 1.0 / (w + k * wz)
                    column, row = (c + k * cz) * scale, (r + k * rz) * scale
                    p, q = np.int32(column + MARGIN), np.int32(row + MARGIN)
                    fc, fr = real(column + MARGIN - p), real(row + MARGIN - q)
                    n = p * height + q
                    at_low, at_high = flat[n + 1] - flat[n], flat[n + height + 1] - flat[n + height]
                    a, b = flat[n] + fr * at_low, flat[n + height] + fr * at_high
                    here, from_middle = source[k], real(k - middle)
                    slope_c, slope_r = (
                        here * real(scale) * (b - a),
                        here * real(scale) * (at_low + fc * (at_high - at_low)),
                    )
                    slope_w = slope_c * real(column) + slope_r * real(row)
                    value += here * (a + fc * (b - a))
                    by_c += slope_c
                    by_r += slope_r
                    by_w -= slope_w
                    by_kc += from_middle * slope_c
                    by_kr += from_middle * slope_r
                    by_kw -= from_middle * slope_w
                distance = distances[view, 0] * i + distances[view, 1] * j + distances[view, 2]
                weight = 1.0 / distance**2
                total = sums[view]
                _add_row(total, 0, i, j, weight * by_c, weight * (by_kc + middle * by_c))
                _add_row(total, 4, i, j, weight * by_r, weight * (by_kr + middle * by_r))
                _add_row(total, 8, i, j, weight * by_w, weight * (by_kw + middle * by_w))
                by_distance = -2.0 * weight * value / distance
                total[12] += i * by_distance
                total[13] += j * by_distance
                total[14] += by_distance


@njit(nogil=True, cache=True, inline="always")
def _add_row(total, n, i, j, one, by_k):
    """Add to the gradient of one row of a map: of its coefficients of i, j, k and 1."""
    total[n] += i * one
    total[n + 1] += j * one
    total[n + 2] += by_k
    total[n + 3] += one
