"""Kernels for detectors in any orientation (rolled, tilted, slanted) where the processor has AVX-512, for float32.

A voxel moving along z is seen moving along the detector in perspective: column (c + k cz) / (w + k wz), row
(r + k rz) / (w + k wz). Sixteen steps at a time touch few columns (two, and one more for each that is crossed), so that
each of them is read with permutes and weighted lane by lane: nothing is resampled, the result is that of
`xrmflow.projectors.pixelwise`, which also does what does not fit. Layouts and margins are those of
`xrmflow.projectors.columns`.
"""

import numpy as np
from numba import njit

from xrmflow.projectors.columns import MARGIN, _blocks
from xrmflow.projectors.lanes import LANES
from xrmflow.projectors.pixelwise import _read, _seen, _seen_between
from xrmflow.projectors.resample import BLOCK, COLUMNS, FAST, MIN_LENGTH, PERMUTE, PLANES, TILE, add_bent


def can(data: np.ndarray) -> bool:
    """Whether data of this type can be transformed here."""
    return PERMUTE and data.dtype == np.float32


@njit(nogil=True, cache=True, inline="always")
def _all_seen(c, cz, r, rz, w, wz, cols, rows, nz):
    """`_seen`, without its divisions where both ends are seen: so is then what lies between them."""
    n = nz - 1.0
    a, b, d = c + n * cz, r + n * rz, w + n * wz
    if w > 0 and d > 0 and -w < c < cols * w and -d < a < cols * d and -w < r < rows * w and -d < b < rows * d:
        return 0, nz
    return _seen(c, cz, r, rz, w, wz, cols, rows, nz)


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def backproject(columns, matrices, distances, volume, window, row_first, row_last):
    """Add to volume (y, x, z, unpadded) the samples of `columns` (padded) at each voxel's pixel, over U^2.

    Both may be cut out of a whole, of which `window` and the matrices speak: see `xrmflow.projectors.columns.Window`.
    """
    views, width, height = columns.shape
    nx, nz = volume.shape[1], volume.shape[2]
    flat, out = columns.reshape(columns.size), volume.reshape(volume.size)
    data, to, permute = columns.ctypes.data, volume.ctypes.data, window.rows + 2 * MARGIN >= MIN_LENGTH
    for tile in range(0, nx, TILE):
        for low in range(window.slice, window.slice + nz, BLOCK):
            high = min(low + BLOCK, window.slice + nz)
            for view in range(views):
                m, view_at = matrices[view], view * width * height - window.row
                cz, rz, wz = m[0, 2], m[1, 2], m[2, 2]
                for j in range(row_first, row_last):
                    for i in range(tile, min(tile + TILE, nx)):
                        c = m[0, 0] * i + m[0, 1] * j + m[0, 3]
                        r = m[1, 0] * i + m[1, 1] * j + m[1, 3]
                        w = m[2, 0] * i + m[2, 1] * j + m[2, 3]
                        first, last = _seen_between(c, cz, r, rz, w, wz, width - 2 * MARGIN, window, low, high)
                        if first >= last:
                            continue
                        distance = distances[view, 0] * i + distances[view, 1] * j + distances[view, 2]
                        weight = np.float32(1.0 / distance**2)
                        at = (j * nx + i) * nz - window.slice
                        while first < last:
                            count, done = min(LANES - (first & (LANES - 1)), last - first), 0
                            w_first = w + first * wz
                            if permute:
                                done = add_bent(
                                    to + 4 * (at + first),
                                    count,
                                    data + 4 * view_at,
                                    height,
                                    weight,
                                    c + first * cz + MARGIN * w_first,
                                    cz + MARGIN * wz,
                                    r + first * rz + MARGIN * w_first,
                                    rz + MARGIN * wz,
                                    w_first,
                                    wz,
                                )
                            for k in range(first + done, first + count):
                                value = _read(flat, view_at, height, c + k * cz, r + k * rz, w + k * wz)
                                out[at + k] += weight * value
                            first += count


@njit(nogil=True, cache=True)
def main_rows(rays, cols, rows):
    """Rows of each column whose rays are closer to x than to y: (view, col, first and last + 1); whether that holds.

    It does not where some ray runs closer to z than to both, or where such rows are not one after the other.
    """
    bounds = np.zeros((rays.shape[0], cols, 2), np.int32)
    for view in range(rays.shape[0]):
        ray = rays[view]
        for column in range(cols):
            first, last, number = rows, 0, 0
            for r in range(rows):
                dx = abs(ray[3, 0] + column * ray[4, 0] + r * ray[5, 0])
                dy = abs(ray[3, 1] + column * ray[4, 1] + r * ray[5, 1])
                if abs(ray[3, 2] + column * ray[4, 2] + r * ray[5, 2]) > max(dx, dy):
                    return bounds, False
                if dx >= dy:
                    first, last, number = min(first, r), r + 1, number + 1
            if number and number != last - first:
                return bounds, False
            bounds[view, column] = min(first, last), last
    return bounds, True


@njit(nogil=True, cache=True, inline="always")
def _crossing(ray, column, row, axis, main, plane):
    """Where the ray of (column, row + k) crosses a plane, along `axis`: (c + k cz) / (w + k wz), w > 0."""
    om, omr = ray[0, main] + column * ray[1, main] + row * ray[2, main], ray[2, main]
    oo, oor = ray[0, axis] + column * ray[1, axis] + row * ray[2, axis], ray[2, axis]
    dm, dmr = ray[3, main] + column * ray[4, main] + row * ray[5, main], ray[5, main]
    do, dor = ray[3, axis] + column * ray[4, axis] + row * ray[5, axis], ray[5, axis]
    sign = 1.0 if dm > 0.0 else -1.0
    # Either all rays share their origin or all have the same direction, so no term grows with k squared.
    change = oo * dmr + oor * dm + (plane - om) * dor - omr * do
    return sign * (oo * dm + (plane - om) * do), sign * change, sign * dm, sign * dmr


@njit(nogil=True, cache=True, inline="always")
def _behind(ray, column, row, main, plane):
    """Whether a plane lies behind the source."""
    direction = ray[3, main] + column * ray[4, main] + row * ray[5, main]
    return (plane - ray[0, main]) * direction <= 0.0


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def project(volume, rays, forward_only, main, bounds, columns, view_first, view_last):
    """Add to `columns` the sums along the rays whose main direction is `main`: see `columns.project`.

    `bounds` are from `main_rows`.
    """
    cols, rows = columns.shape[1], columns.shape[2]
    ny, nx, nz = volume.shape[0] - 2 * MARGIN, volume.shape[1] - 2 * MARGIN, volume.shape[2] - 2 * MARGIN
    planes, others = (nx if main == 0 else ny), (ny if main == 0 else nx)
    flat, out = volume.reshape(volume.size), columns.reshape(columns.size)
    height, across = volume.shape[2], volume.shape[1] * volume.shape[2]
    stride, pitch = (across, height) if main == 0 else (height, across)
    data, to, permute = volume.ctypes.data, columns.ctypes.data, height >= MIN_LENGTH
    for low, few, side in _blocks(rows, planes, cols):
        high = min(low + BLOCK, rows)
        for view in range(view_first, view_last):
            for column in range(side, min(side + COLUMNS, cols)):
                a, b = bounds[view, column]
                for part in range(1 + main):
                    # Rays closer to y are those before and behind the ones closer to x.
                    begin, end = (a, b) if main == 0 else (0, a) if part == 0 else (b, rows)
                    begin, end = max(begin, low), min(end, high)
                    if begin >= end:
                        continue
                    n = (view * cols + column) * rows + begin
                    for plane in range(few, min(few + PLANES, planes)):
                        c, cz, w, wz = _crossing(rays[view], column, begin, 1 - main, main, plane)
                        r, rz, _, _ = _crossing(rays[view], column, begin, 2, main, plane)
                        first, last = _all_seen(c, cz, r, rz, w, wz, others, nz, end - begin)
                        if first >= last or (forward_only and _behind(rays[view], column, begin, main, plane)):
                            continue
                        at = (plane + MARGIN) * pitch
                        if permute:
                            w_first = w + first * wz
                            first += add_bent(
                                to + 4 * (n + first),
                                last - first,
                                data + 4 * at,
                                stride,
                                1.0,
                                c + first * cz + MARGIN * w_first,
                                cz + MARGIN * wz,
                                r + first * rz + MARGIN * w_first,
                                rz + MARGIN * wz,
                                w_first,
                                wz,
                            )
                        for k in range(first, last):
                            out[n + k] += _read(flat, at, stride, c + k * cz, r + k * rz, w + k * wz)
