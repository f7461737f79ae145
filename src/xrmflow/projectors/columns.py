"""Kernels for detectors whose columns are parallel to the rotation axis: the fast path.

There the path of a ray in the (x, y) plane does not depend on its row, nor a voxel's column on its z. So all kernels
share one form: at one place in (x, y), two neighbouring columns of the input are mixed into one contiguous buffer,
and the output column is read from (or, in the adjoints, spread into) that buffer at positions that grow linearly.

Layouts: projections (view, col, row) and volume (y, x, z), both surrounded by zeros, `MARGIN` wide, so that nothing
asks whether an index is inside. Positions are computed in float64 once per column and in the data's type along it.

What is backprojected may be some slices and rows of a larger volume and detector (`Window`).
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from xrmflow.projectors.resample import (
    BLOCK,
    COLUMNS,
    DEPTH,
    EDGE,
    FAST,
    MIN_STEP,
    PERMUTE,
    PLANES,
    TILE,
    add_permuted,
    add_plain,
    fits_registers,
    spread_permuted,
)

MARGIN = 2
# Slices that slabs begin at multiples of.
ALIGNED = 64


class Window(NamedTuple):
    """Where slices of a volume and rows of a detector lie in the whole.

    Positions are counted from the beginning of the whole, and what is worked on together begins there at multiples of
    `ALIGNED`: so do slabs, and a voxel gets the same bits whatever is cut out.

    Attributes:
        slice: first slice. slices: of the whole volume.
        row: first row. rows: of the whole detector.
    """

    slice: int
    slices: int
    row: int
    rows: int


@njit(nogil=True, cache=True, inline="always")
def _inside(start, step, count, length):
    """First and last + 1 of the n in range(count) with -1 < start + n step < length."""
    end = start + step * (count - 1)
    if -1.0 < start < length and -1.0 < end < length:
        return 0, count
    if step == 0.0:
        return (0, count) if -1.0 < start < length else (0, 0)
    a, b = (-1.0 - start) / step, (length - start) / step
    low, high = min(a, b), max(a, b)
    first = 0 if low < 0.0 else min(np.int64(low) + 1, count)
    last = count if high >= count else max(np.int64(np.ceil(high)), first)
    return first, last


@njit(nogil=True, cache=True, inline="always")
def _inside_between(start, step, low, high, count, length):
    """First and last + 1 of the n in range(low, high) that `_inside` finds in range(count)."""
    a, b = start + step * low, start + step * (high - 1)
    if 0.0 < a < length - 1.0 and 0.0 < b < length - 1.0:
        return low, high
    first, last = _inside(start, step, count, length)
    return max(first, low), min(last, high)


@njit(nogil=True, cache=True, inline="always")
def _span(start, step, first, last, length):
    """First and last + 1 padded index that positions start + n step, n in [first, last), touch, and a spare."""
    a, b = start + step * first, start + step * (last - 1)
    return np.int64(min(a, b)), min(np.int64(max(a, b)) + 3, length)


@njit(nogil=True, cache=True, inline="always")
def _places(m, distances, view, first, j, places):
    """Where the voxels (first + n, j) are seen: column (-9 for nowhere), row of z = 0, rows per z, 1 / U^2."""
    for n in range(places.shape[1]):
        i = float(first + n)
        w = m[view, 2, 0] * i + (m[view, 2, 1] * j + m[view, 2, 3])
        scale = 1.0 / w
        column = (m[view, 0, 0] * i + (m[view, 0, 1] * j + m[view, 0, 3])) * scale
        distance = distances[view, 0] * i + (distances[view, 1] * j + distances[view, 2])
        places[0, n] = column if w > 0.0 else -9.0
        places[1, n] = (m[view, 1, 0] * i + (m[view, 1, 1] * j + m[view, 1, 3])) * scale
        places[2, n] = m[view, 1, 2] * scale
        places[3, n] = 1.0 / (distance * distance)


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def _add_plain(total, out, first, last, flat, a, b, wa, wb, start, step, buffer):
    """total[out + k] += (wa a + wb b) at start + k step, k in range(first, last), in `ALIGNED` counted from 0."""
    real = flat.dtype.type
    ends = start + step * first, start + step * (last - 1)
    low, pitch = np.int64(min(ends)) - 1, real(step)
    count = min(np.int64(max(ends)) + 3 - low, len(buffer))
    left, right = flat[a + low : a + low + count], flat[b + low : b + low + count]
    for n in range(count):
        buffer[n] = wa * left[n] + wb * right[n]
    while first < last:
        stop = min((first | (ALIGNED - 1)) + 1, last)
        position = start + step * first
        base = np.int64(min(position, position + step * (stop - first - 1)))
        offset, near, into = real(position - base), buffer[base - low :], total[out + first : out + stop]
        for k in range(stop - first):
            place = offset + pitch * real(k)
            n = np.int32(place)
            into[k] += near[n] + (place - real(n)) * (near[n + 1] - near[n])
        first = stop


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def backproject(columns, m, distances, volume, window, row_first, row_last):
    """Add to volume (y, x, z, unpadded) the samples of `columns` (padded) at each voxel's pixel, over U^2.

    Both may be cut out of a whole, of which `window` and the matrices `m` speak.
    """
    views, width, height = columns.shape
    cols, rows = width - 2 * MARGIN, window.rows
    nx, nz, real = volume.shape[1], volume.shape[2], columns.dtype.type
    flat, buffer, places = columns.reshape(columns.size), np.zeros(height, columns.dtype), np.empty((4, TILE))
    # A block of voxels is summed in one piece: in the volume its columns lie powers of two apart, where caches collide.
    total = np.zeros((row_last - row_first) * TILE * DEPTH, columns.dtype)
    permute, data, to = PERMUTE and columns.itemsize == 4, columns.ctypes.data, total.ctypes.data
    for tile in range(0, nx, TILE):
        for low in range(window.slice, window.slice + nz, DEPTH):
            high, used = min(low + DEPTH, window.slice + nz), min(TILE, nx - tile)
            total[:] = 0
            for view in range(views):
                for j in range(row_first, row_last):
                    _places(m, distances, view, tile, float(j), places)
                    for n in range(used):
                        column, start, step = places[0, n], places[1, n], places[2, n]
                        if not -1.0 < column < cols:
                            continue
                        first, last = _inside_between(start, step, low, high, window.slices, rows)
                        if first >= last:
                            continue
                        left = np.int64(column + MARGIN)
                        share = column + MARGIN - left
                        wl, wr = real((1.0 - share) * places[3, n]), real(share * places[3, n])
                        a = (view * width + left) * height - window.row
                        b, begin = a + height, start + MARGIN
                        out = ((j - row_first) * TILE + n) * DEPTH - low
                        if permute and fits_registers(step, rows + 2 * MARGIN):
                            into, count = to + 4 * (out + first), last - first
                            add_permuted(into, first, count, data + 4 * a, data + 4 * b, wl, wr, begin, step)
                        else:
                            _add_plain(total, out, first, last, flat, a, b, wl, wr, begin, step, buffer)
            for j in range(row_first, row_last):
                for n in range(used):
                    out = ((j - row_first) * TILE + n) * DEPTH
                    for k in range(high - low):
                        volume[j, tile + n, low - window.slice + k] += total[out + k]


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def backproject_adjoint(volume, matrices, distances, columns, view_first, view_last):
    """Spread volume (y, x, z, unpadded) into `columns` (padded): the transpose of `backproject`."""
    cols, rows = columns.shape[1] - 2 * MARGIN, columns.shape[2] - 2 * MARGIN
    ny, nx, nz = volume.shape
    real = columns.dtype.type
    buffer = np.zeros(rows + 2 * MARGIN + 1, columns.dtype)
    for view in range(view_first, view_last):
        m = matrices[view]
        for j in range(ny):
            for i in range(nx):
                w = m[2, 0] * i + m[2, 1] * j + m[2, 3]
                if w <= 0.0:
                    continue
                column = (m[0, 0] * i + m[0, 1] * j + m[0, 3]) / w
                if not -1.0 < column < cols:
                    continue
                start, step = (m[1, 0] * i + m[1, 1] * j + m[1, 3]) / w, m[1, 2] / w
                first, last = _inside(start, step, nz, rows)
                if first >= last:
                    continue
                distance = distances[view, 0] * i + distances[view, 1] * j + distances[view, 2]
                left = np.int64(column + MARGIN)
                share = column + MARGIN - left
                wl, wr = real((1.0 - share) / distance**2), real(share / distance**2)
                low, high = _span(start + MARGIN, step, first, last, rows + 2 * MARGIN)
                buffer[: high - low + 1] = 0
                offset, pitch = real(start + MARGIN - low + step * first), real(step)
                source = volume[j, i]
                for k in range(last - first):
                    position = offset + pitch * real(k)
                    n = np.int32(position)
                    f = position - real(n)
                    value = source[first + k]
                    buffer[n] += value - f * value
                    buffer[n + 1] += f * value
                a, b = columns[view, left], columns[view, left + 1]
                for n in range(low, high):
                    a[n] += wl * buffer[n - low]
                    b[n] += wr * buffer[n - low]


@njit(nogil=True, cache=True)
def _blocks(rows, planes, cols):
    """First row, plane and column of each block."""
    starts = range(0, rows, BLOCK), range(0, planes, PLANES), range(0, cols, COLUMNS)
    return [(row, plane, column) for row in starts[0] for plane in starts[1] for column in starts[2]]


@njit(nogil=True, cache=True, inline="always")
def _path(ray, column, main, other):
    """Ray of a column in the (main, other) plane: origin and direction along each."""
    return (
        ray[0, main] + column * ray[1, main],
        ray[0, other] + column * ray[1, other],
        ray[3, main] + column * ray[4, main],
        ray[3, other] + column * ray[4, other],
    )


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def project(volume, rays, forward_only, main, columns, view_first, view_last):
    """Add to `columns` (view, col, row, unpadded) the sums along the rays whose main direction is `main` (x or y).

    Each ray is sampled where it crosses the planes of voxel centres of volume (y, x, z, padded) across its main
    direction and interpolated linearly in the other two; `scale_rays` makes line integrals of the sums. Rows and planes
    are taken in blocks, whose voxels stay in the cache for all views.
    """
    cols, rows = columns.shape[1], columns.shape[2]
    ny, nx, nz = volume.shape[0] - 2 * MARGIN, volume.shape[1] - 2 * MARGIN, volume.shape[2] - 2 * MARGIN
    planes, others, real = (nx if main == 0 else ny), (ny if main == 0 else nx), volume.dtype.type
    flat, out = volume.reshape(volume.size), columns.reshape(columns.size)
    height, across = volume.shape[2], volume.shape[1] * volume.shape[2]
    stride, pitch = (across, height) if main == 0 else (height, across)
    buffer = np.zeros(height, volume.dtype)
    permute, data, to = PERMUTE and volume.itemsize == 4, volume.ctypes.data, columns.ctypes.data
    for low, few, side in _blocks(rows, planes, cols):
        size = min(BLOCK, rows - low)
        for view in range(view_first, view_last):
            ray = rays[view]
            for column in range(side, min(side + COLUMNS, cols)):
                if main != (0 if abs(ray[3, 0] + column * ray[4, 0]) >= abs(ray[3, 1] + column * ray[4, 1]) else 1):
                    continue
                om, oo, dm, do = _path(ray, column, main, 1 - main)
                oz, dz = ray[0, 2] + column * ray[1, 2], ray[3, 2] + column * ray[4, 2] + low * ray[5, 2]
                oz, inverse, n = oz + low * ray[2, 2], 1.0 / dm, (view * cols + column) * rows + low
                for plane in range(few, min(few + PLANES, planes)):
                    t = (plane - om) * inverse
                    other = oo + t * do
                    if not -1.0 < other < others or (forward_only and t <= 0.0):
                        continue
                    start, step = oz + t * dz, ray[2, 2] + t * ray[5, 2]
                    first, last = _inside(start, step, size, nz)
                    if first >= last:
                        continue
                    near = np.int64(other + MARGIN)
                    share = other + MARGIN - near
                    wa, wb, begin = real(1.0 - share), real(share), start + MARGIN + step * first
                    a, count = near * stride + (plane + MARGIN) * pitch, last - first
                    b = a + stride
                    if permute and fits_registers(step, height):
                        add_permuted(to + 4 * (n + first), 0, count, data + 4 * a, data + 4 * b, wa, wb, begin, step)
                    else:
                        add_plain(out, n + first, count, flat, a, b, wa, wb, begin, step, height, buffer)


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def scale_rays(columns, edge, rays, voxel, view_first, view_last):
    """Multiply `columns` (view, col, row), `edge` rows on either side aside, by each ray's length between planes."""
    rows = columns.shape[2] - 2 * edge
    real = columns.dtype.type
    for view in range(view_first, view_last):
        ray = rays[view]
        for column in range(columns.shape[1]):
            x, y, z = ray[3, 0] + column * ray[4, 0], ray[3, 1] + column * ray[4, 1], ray[3, 2] + column * ray[4, 2]
            for r in range(rows):
                dx, dy, dz = x + r * ray[5, 0], y + r * ray[5, 1], z + r * ray[5, 2]
                length = np.sqrt(dx * dx + dy * dy + dz * dz) / max(abs(dx), abs(dy))
                columns[view, column, edge + r] *= real(voxel * length)


@njit(nogil=True, cache=True, inline="always")
def _spread_plain(volume, a, b, count, source, n, rows, wa, wb, start, step, buffer):
    """Values source[n + r] at positions start + r step, r in range(rows), spread into `count` places from a and b."""
    real = volume.dtype.type
    first, last = _inside(start, step, rows, count)
    buffer[: count + 2] = 0
    offset, pitch = real(start + 1.0 + step * first), real(step)
    for r in range(last - first):
        position = offset + pitch * real(r)
        k = np.int32(position)
        f = position - real(k)
        value = source[n + first + r]
        buffer[k] += value - f * value
        buffer[k + 1] += f * value
    for k in range(count):
        volume[a + k] += wa * buffer[k + 1]
        volume[b + k] += wb * buffer[k + 1]


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def project_adjoint(columns, rays, forward_only, main, volume, plane_first, plane_last):
    """Spread `columns`, scaled by `scale_rays`, along the rays whose main direction is `main` into planes of `volume`.

    `volume` (y, x, z) is padded. Calls for different planes write different voxels. The transpose of `project` is this
    for main = 0 and for main = 1. Slices are taken in blocks, so that what is written stays in the cache.
    """
    views, cols, height = columns.shape
    rows = height - 2 * EDGE
    ny, nx, nz = volume.shape[0] - 2 * MARGIN, volume.shape[1] - 2 * MARGIN, volume.shape[2] - 2 * MARGIN
    others, real = (ny if main == 0 else nx), volume.dtype.type
    flat, source = volume.reshape(volume.size), columns.reshape(columns.size)
    along, across = volume.shape[2], volume.shape[1] * volume.shape[2]
    stride, pitch = (across, along) if main == 0 else (along, across)
    buffer = np.zeros(BLOCK + 3, volume.dtype)
    permute, data, to = PERMUTE and volume.itemsize == 4, columns.ctypes.data, volume.ctypes.data
    for low, _, side in _blocks(nz, 1, cols):
        size = min(BLOCK, nz - low)
        for view in range(views):
            ray = rays[view]
            for column in range(side, min(side + COLUMNS, cols)):
                if main != (0 if abs(ray[3, 0] + column * ray[4, 0]) >= abs(ray[3, 1] + column * ray[4, 1]) else 1):
                    continue
                om, oo, dm, do = _path(ray, column, main, 1 - main)
                oz, dz = ray[0, 2] + column * ray[1, 2] - low, ray[3, 2] + column * ray[4, 2]
                n, inverse = (view * cols + column) * height, 1.0 / dm
                for plane in range(plane_first, plane_last):
                    t = (plane - om) * inverse
                    other = oo + t * do
                    if not -1.0 < other < others or (forward_only and t <= 0.0):
                        continue
                    start, step = oz + t * dz, ray[2, 2] + t * ray[5, 2]
                    near = np.int64(other + MARGIN)
                    share = other + MARGIN - near
                    wa, wb = real(1.0 - share), real(share)
                    a = near * stride + (plane + MARGIN) * pitch + MARGIN + low
                    if permute and abs(step) >= MIN_STEP:
                        inner = 1.0 / step
                        half = abs(inner)
                        row = -start * inner
                        first, last = _inside(row + half - 1.0, inner, size, rows - 2.0 + 2.0 * half)
                        o, begin = to + 4 * (a + first), row + EDGE + inner * first
                        spread_permuted(o, o + 4 * stride, last - first, data + 4 * n, wa, wb, begin, step)
                    else:
                        _spread_plain(flat, a, a + stride, size, source, n + EDGE, rows, wa, wb, start, step, buffer)
