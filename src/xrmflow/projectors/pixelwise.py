"""Kernels for detectors in any orientation (rolled, tilted): the general path, one ray or voxel at a time.

Layouts and margins are those of `xrmflow.projectors.columns`; the arithmetic differs only in that nothing is shared
along z.
"""

import numpy as np
from numba import njit

from xrmflow.projectors.columns import MARGIN


@njit(nogil=True, cache=True, inline="always")
def _keep(constant, slope, first, last):
    """The part of [first, last) where constant + k slope > 0."""
    if slope == 0.0:
        return (first, last) if constant > 0.0 else (first, first)
    root = -constant / slope
    if slope > 0.0:
        return (first if root < first else min(np.int64(root) + 1, last)), last
    return first, (last if root >= last else max(np.int64(np.ceil(root)), first))


@njit(nogil=True, cache=True, inline="always")
def _seen(c, cz, r, rz, w, wz, cols, rows, nz):
    """First and last + 1 of the k in range(nz) with pixel (c + k cz, r + k rz) / (w + k wz) on the detector."""
    first, last = _keep(w, wz, 0, nz)
    first, last = _keep(c + w, cz + wz, first, last)
    first, last = _keep(cols * w - c, cols * wz - cz, first, last)
    first, last = _keep(r + w, rz + wz, first, last)
    return _keep(rows * w - r, rows * wz - rz, first, last)


@njit(nogil=True, cache=True, inline="always")
def _read(flat, at, height, c, r, w):
    """Value at column c / w and row r / w of a padded array that starts at flat[at], bilinear."""
    scale = 1.0 / w
    column, row = c * scale + MARGIN, r * scale + MARGIN
    p, q = np.int32(column), np.int32(row)
    fc, fr = flat.dtype.type(column - p), flat.dtype.type(row - q)
    n = at + p * height + q
    a = flat[n] + fr * (flat[n + 1] - flat[n])
    b = flat[n + height] + fr * (flat[n + height + 1] - flat[n + height])
    return a + fc * (b - a)


@njit(nogil=True, cache=True, inline="always")
def _seen_between(c, cz, r, rz, w, wz, cols, window, low, high):
    """First and last + 1 of the k in range(low, high) that `_seen` finds in the whole volume of a window."""
    rows, end = window.rows, high - 1
    a, b, d = c + low * cz, r + low * rz, w + low * wz
    e, f, g = c + end * cz, r + end * rz, w + end * wz
    begins_inside = d > 0 and 0 < a < (cols - 1) * d and 0 < b < (rows - 1) * d
    if begins_inside and g > 0 and 0 < e < (cols - 1) * g and 0 < f < (rows - 1) * g:
        return low, high
    first, last = _seen(c, cz, r, rz, w, wz, cols, rows, window.slices)
    return max(first, low), min(last, high)


@njit(nogil=True, cache=True, fastmath={"contract", "nsz", "arcp"}, error_model="numpy")
def backproject(columns, matrices, distances, volume, window, row_first, row_last):
    """Add to volume (y, x, z, unpadded) the samples of `columns` (padded) at each voxel's pixel, over U^2.

    Both may be cut out of a whole, of which `window` and the matrices speak: see `xrmflow.projectors.columns.Window`.
    """
    views, width, height = columns.shape
    nx, low, high = volume.shape[1], window.slice, window.slice + volume.shape[2]
    real = columns.dtype.type
    for j in range(row_first, row_last):
        for i in range(nx):
            out = volume[j, i]
            for view in range(views):
                m = matrices[view]
                c, cz = m[0, 0] * i + m[0, 1] * j + m[0, 3], m[0, 2]
                r, rz = m[1, 0] * i + m[1, 1] * j + m[1, 3], m[1, 2]
                w, wz = m[2, 0] * i + m[2, 1] * j + m[2, 3], m[2, 2]
                first, last = _seen_between(c, cz, r, rz, w, wz, width - 2 * MARGIN, window, low, high)
                distance = distances[view, 0] * i + distances[view, 1] * j + distances[view, 2]
                weight = real(1.0 / distance**2)
                flat = columns[view].reshape(width * height)
                for k in range(first, last):
                    value = _read(flat, -window.row, height, c + k * cz, r + k * rz, w + k * wz)
                    out[k - low] += weight * value


@njit(nogil=True, cache=True, fastmath={"contract", "nsz", "arcp"}, error_model="numpy")
def backproject_adjoint(volume, matrices, distances, columns, view_first, view_last):
    """Spread volume (y, x, z, unpadded) into `columns` (padded): the transpose of `backproject`."""
    width, height = columns.shape[1], columns.shape[2]
    ny, nx, nz = volume.shape
    real = columns.dtype.type
    for view in range(view_first, view_last):
        m = matrices[view]
        flat = columns[view].reshape(width * height)
        for j in range(ny):
            for i in range(nx):
                c, cz = m[0, 0] * i + m[0, 1] * j + m[0, 3], m[0, 2]
                r, rz = m[1, 0] * i + m[1, 1] * j + m[1, 3], m[1, 2]
                w, wz = m[2, 0] * i + m[2, 1] * j + m[2, 3], m[2, 2]
                first, last = _seen(c, cz, r, rz, w, wz, width - 2 * MARGIN, height - 2 * MARGIN, nz)
                distance = distances[view, 0] * i + distances[view, 1] * j + distances[view, 2]
                weight = real(1.0 / distance**2)
                source = volume[j, i]
                for k in range(first, last):
                    scale = 1.0 / (w + k * wz)
                    column, row = (c + k * cz) * scale + MARGIN, (r + k * rz) * scale + MARGIN
                    p, q = np.int32(column), np.int32(row)
                    fc, fr = real(column - p), real(row - q)
                    n = p * height + q
                    value = weight * source[k]
                    a, b = value - fc * value, fc * value
                    flat[n] += a - fr * a
                    flat[n + 1] += fr * a
                    flat[n + height] += b - fr * b
                    flat[n + height + 1] += fr * b


@njit(nogil=True, cache=True, inline="always")
def _at(ray, n, column, row):
    """Vector n of a view's ray coefficients (0 origin, 3 direction), at a pixel."""
    a, b, c = ray[n], ray[n + 1], ray[n + 2]
    return (
        a[0] + column * b[0] + row * c[0],
        a[1] + column * b[1] + row * c[1],
        a[2] + column * b[2] + row * c[2],
    )


@njit(nogil=True, cache=True, inline="always")
def _main(dx, dy, dz):
    """The axis a direction is closest to; x before y before z where equal."""
    if abs(dx) >= abs(dy) and abs(dx) >= abs(dz):
        return 0
    return 1 if abs(dy) >= abs(dz) else 2


@njit(nogil=True, cache=True, inline="always")
def _planes(o, d, om, dm, sizes, first, last, forward_only):
    """The part of [first, last) among the planes across the main axis where the ray passes near voxels.

    `o`, `d`, `sizes` are the ray and the grid along the two other axes; positions must lie strictly in (-1, size).
    """
    for n in range(2):
        slope = d[n] / dm
        constant = o[n] - om * slope
        first, last = _keep(constant + 1.0, slope, first, last)
        first, last = _keep(sizes[n] - constant, -slope, first, last)
    if forward_only:
        first, last = _keep(-om / dm, 1.0 / dm, first, last)
    return first, last


@njit(nogil=True, cache=True, fastmath={"contract", "nsz"}, error_model="numpy")
def project(volume, rays, forward_only, voxel, columns, view_first, view_last):
    """Joseph line integrals of volume (y, x, z, padded) into `columns` (view, col, row, unpadded)."""
    real = volume.dtype.type
    strides = (volume.shape[2], volume.shape[1] * volume.shape[2], 1)
    sizes = (volume.shape[1] - 2 * MARGIN, volume.shape[0] - 2 * MARGIN, volume.shape[2] - 2 * MARGIN)
    flat = volume.reshape(volume.size)
    corner = MARGIN * (strides[0] + strides[1] + strides[2])
    for view in range(view_first, view_last):
        for column in range(columns.shape[1]):
            for row in range(columns.shape[2]):
                ray = rays[view]
                o, d = _at(ray, 0, column, row), _at(ray, 3, column, row)
                m = _main(d[0], d[1], d[2])
                p, q = (m + 1) % 3, (m + 2) % 3
                first, last = _planes(
                    (o[p], o[q]), (d[p], d[q]), o[m], d[m], (sizes[p], sizes[q]), 0, sizes[m], forward_only
                )
                sp, sq = strides[p], strides[q]
                total = real(0)
                for plane in range(first, last):
                    t = (plane - o[m]) / d[m]
                    x, y = o[p] + t * d[p] + MARGIN, o[q] + t * d[q] + MARGIN
                    i, j = np.int64(x), np.int64(y)
                    fx, fy = real(x - i), real(y - j)
                    n = corner + plane * strides[m] + (i - MARGIN) * sp + (j - MARGIN) * sq
                    a = flat[n] + fx * (flat[n + sp] - flat[n])
                    b = flat[n + sq] + fx * (flat[n + sp + sq] - flat[n + sq])
                    total += a + fy * (b - a)
                length = voxel * np.sqrt(d[0] ** 2 + d[1] ** 2 + d[2] ** 2) / abs(d[m])
                columns[view, column, row] = total * real(length)


@njit(nogil=True, cache=True, fastmath={"contract", "nsz"}, error_model="numpy")
def project_adjoint(columns, rays, forward_only, voxel, main, volume, plane_first, plane_last):
    """Spread `columns` (unpadded) along the rays whose main direction is `main` into planes of `volume` (padded).

    Calls for different planes write different voxels. The transpose of `project` is this for main = 0, 1 and 2.
    """
    real = volume.dtype.type
    strides = (volume.shape[2], volume.shape[1] * volume.shape[2], 1)
    sizes = (volume.shape[1] - 2 * MARGIN, volume.shape[0] - 2 * MARGIN, volume.shape[2] - 2 * MARGIN)
    flat = volume.reshape(volume.size)
    corner = MARGIN * (strides[0] + strides[1] + strides[2])
    p, q = (main + 1) % 3, (main + 2) % 3
    sp, sq = strides[p], strides[q]
    for view in range(columns.shape[0]):
        for column in range(columns.shape[1]):
            for row in range(columns.shape[2]):
                ray = rays[view]
                o, d = _at(ray, 0, column, row), _at(ray, 3, column, row)
                if _main(d[0], d[1], d[2]) != main:
                    continue
                first, last = _planes(
                    (o[p], o[q]),
                    (d[p], d[q]),
                    o[main],
                    d[main],
                    (sizes[p], sizes[q]),
                    plane_first,
                    plane_last,
                    forward_only,
                )
                length = voxel * np.sqrt(d[0] ** 2 + d[1] ** 2 + d[2] ** 2) / abs(d[main])
                value = columns[view, column, row] * real(length)
                for plane in range(first, last):
                    t = (plane - o[main]) / d[main]
                    x, y = o[p] + t * d[p] + MARGIN, o[q] + t * d[q] + MARGIN
                    i, j = np.int64(x), np.int64(y)
                    fx, fy = real(x - i), real(y - j)
                    n = corner + plane * strides[main] + (i - MARGIN) * sp + (j - MARGIN) * sq
                    a, b = value - fy * value, fy * value
                    flat[n] += a - fx * a
                    flat[n + sp] += fx * a
                    flat[n + sq] += b - fx * b
                    flat[n + sp + sq] += fx * b
