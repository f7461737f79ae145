"""Kernels of `maps_gradient`: slopes of the backprojection to the maps from voxels to pixels, view by view."""

import numpy as np
from numba import njit

from xrmflow.projectors.columns import MARGIN, _inside
from xrmflow.projectors.lanes import LANES
from xrmflow.projectors.resample import MIN_LENGTH, PERMUTE, TILE, fits_registers
from xrmflow.projectors.slopes import SUMS, add_slopes, from_middles, slopes_bent, slopes_permuted, slopes_plain
from xrmflow.projectors.tilted import _all_seen

FAST = {"contract", "nsz", "arcp", "reassoc"}


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def any_maps(columns, volume, matrices, distances, sums, row_first, row_last):
    """Add to sums (view, 12 + 3); columns (view, col, row, padded), volume (y, x, z, unpadded): voxel by voxel."""
    views, width, height = columns.shape
    cols, rows = width - 2 * MARGIN, height - 2 * MARGIN
    nx, nz = volume.shape[1], volume.shape[2]
    flat, part, values = columns.reshape(columns.size), np.zeros(SUMS), np.zeros(nz, columns.dtype)
    permute = PERMUTE and columns.itemsize == 4 and height >= MIN_LENGTH
    data, source, to, out = columns.ctypes.data, volume.ctypes.data, values.ctypes.data, part.ctypes.data
    for j in range(row_first, row_last):
        for tile in range(0, nx, TILE):
            values[:] = 0
            for view in range(views):
                m, total, at = matrices[view], sums[view], view * width * height
                w0, wz = m[2, 1] * j + m[2, 3], m[2, 2]
                c0, cz = m[0, 1] * j + m[0, 3], m[0, 2]
                r0, rz = m[1, 1] * j + m[1, 3], m[1, 2]
                for i in range(tile, min(tile + TILE, nx)):
                    c, r, w = m[0, 0] * i + c0, m[1, 0] * i + r0, m[2, 0] * i + w0
                    first, last = _all_seen(c, cz, r, rz, w, wz, cols, rows, nz)
                    if first >= last:
                        continue
                    k = 0.5 * (first + last - 1)
                    c_middle, r_middle = (c + k * cz) / (w + k * wz), (r + k * rz) / (w + k * wz)
                    c, r, part[:] = c + MARGIN * w, r + MARGIN * w, 0.0
                    dc, dr, c_at, r_at = cz + MARGIN * wz, rz + MARGIN * wz, c_middle + MARGIN, r_middle + MARGIN
                    if permute:
                        by, s = source + 4 * ((j * nx + i) * nz + first), first
                        first += slopes_bent(
                            out, to, by, last - s, data + 4 * at, height,
                            c + s * dc, dc, r + s * dr, dr, w + s * wz, wz, s - k, c_at, r_at,
                        )  # fmt: skip
                    for n in range(first, last):
                        g, a, b, d = volume[j, i, n], c + n * dc, r + n * dr, w + n * wz
                        add_slopes(part, flat, at, height, g, n - k, a, b, d, c_at, r_at)
                    by_c, by_ck, by_r, by_rk, by_w, by_wk = from_middles(part, k, c_middle, r_middle)
                    distance = distances[view, 0] * i + distances[view, 1] * j + distances[view, 2]
                    weight = 1.0 / (distance * distance)
                    _add_row(total, 0, i, j, weight * by_c, weight * by_ck)
                    _add_row(total, 4, i, j, weight * by_r, weight * by_rk)
                    _add_row(total, 8, i, j, weight * by_w, weight * by_wk)
                    _add_distance(total, i, j, -2.0 * weight * part[6] / distance)


@njit(nogil=True, cache=True, inline="always")
def _add_distance(total, i, j, by_distance):
    """Add to the gradient of the distances."""
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


@njit(nogil=True, cache=True, inline="always")
def _places(m, distances, first, j, places):
    """Where the voxels (first + n, j) are seen: column (-9 for nowhere), row of z = 0, 1 / w, U."""
    for n in range(places.shape[1]):
        i = float(first + n)
        w = m[2, 0] * i + (m[2, 1] * j + m[2, 3])
        scale = 1.0 / w
        column = (m[0, 0] * i + (m[0, 1] * j + m[0, 3])) * scale
        places[0, n] = column if w > 0.0 else -9.0
        places[1, n] = (m[1, 0] * i + (m[1, 1] * j + m[1, 3])) * scale
        places[2, n] = scale
        places[3, n] = distances[0] * i + (distances[1] * j + distances[2])


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def upright_maps(columns, volume, matrices, distances, sums, row_first, row_last):
    """`any_maps` where a voxel's column on the detector is the same for all z: column by column."""
    views, width, height = columns.shape
    cols, rows = width - 2 * MARGIN, height - 2 * MARGIN
    nx, nz = volume.shape[1], volume.shape[2]
    real, middle = columns.dtype.type, 0.5 * (nz - 1)
    flat = columns.reshape(columns.size)
    values, part = np.zeros(nz + LANES, columns.dtype), np.zeros(SUMS, columns.dtype)
    buffer, places = np.zeros((2, height), columns.dtype), np.empty((4, TILE))
    permute, data, source = PERMUTE and columns.itemsize == 4, columns.ctypes.data, volume.ctypes.data
    to, out = values.ctypes.data, part.ctypes.data
    for j in range(row_first, row_last):
        for tile in range(0, nx, TILE):
            values[:] = 0
            for view in range(views):
                m, total = matrices[view], sums[view]
                _places(m, distances[view], tile, float(j), places)
                for n in range(min(TILE, nx - tile)):
                    column, start, scale, distance = places[0, n], places[1, n], places[2, n], places[3, n]
                    if not -1.0 < column < cols:
                        continue
                    step = m[1, 2] * scale
                    first, last = _inside(start, step, nz, rows)
                    if first >= last:
                        continue
                    i, left = tile + n, np.int64(column + MARGIN)
                    share = real(column + MARGIN - left)
                    a, count = (view * width + left) * height, last - first
                    b, begin, k = a + height, start + MARGIN + step * first, first - middle
                    if permute and fits_registers(step, height):
                        by = source + 4 * ((j * nx + i) * nz + first)
                        slopes_permuted(out, to, by, count, data + 4 * a, data + 4 * b, share, begin, step, k)  # type: ignore[call-arg]
                    else:
                        weights = volume[j, i, first:]
                        slopes_plain(part, values, weights, count, flat, a, b, share, begin, step, k, height, buffer)
                    weight = 1.0 / (distance * distance)
                    each = weight * scale
                    c, r, v = each * part[0], each * part[2], weight * part[5]
                    kc, kr = each * part[1] + middle * c, each * part[3] + middle * r
                    kkr = each * part[4] + middle * (2.0 * each * part[3] + middle * r)
                    _add_row(total, 0, i, j, c, kc)
                    _add_row(total, 4, i, j, r, kr)
                    _add_row(
                        total, 8, i, j, -(column * c + start * r + step * kr), -(column * kc + start * kr + step * kkr)
                    )
                    _add_distance(total, i, j, -2.0 * v / distance)
