"""Kernels of `rays_gradient`: slopes of line integrals to the numbers that rays are made of, view by view."""

import numpy as np
from numba import njit

from xrmflow.projectors.columns import MARGIN, _inside, _path
from xrmflow.projectors.lanes import LANES
from xrmflow.projectors.pixelwise import _at, _main, _planes
from xrmflow.projectors.resample import MIN_LENGTH, PERMUTE, PLANES, fits_registers
from xrmflow.projectors.slopes import SUMS, add_slopes, from_middles, slopes_bent, slopes_permuted, slopes_plain
from xrmflow.projectors.tilted import _all_seen, _behind, _crossing

FAST = {"contract", "nsz", "arcp", "reassoc"}


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
def any_rays(volume, weights, rays, forward_only, voxel, sums):
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
def level_rays(volume, weights, rays, forward_only, voxel, sums):
    """`any_rays` where a column of rays shares its path in the (x, y) plane: column by column, plane by plane.

    Moments of the slopes along the column, and about the middle plane along the rays, are all that is needed.
    """
    views, cols, rows = weights.shape
    ny, nx, nz = volume.shape[0] - 2 * MARGIN, volume.shape[1] - 2 * MARGIN, volume.shape[2] - 2 * MARGIN
    real, middle, deep = volume.dtype.type, 0.5 * (rows - 1), rows + LANES
    height, width = volume.shape[2], volume.shape[1]
    flat, moments = volume.reshape(volume.size), np.zeros((views, cols, 2, 5))
    values, lengths = np.zeros((views, cols, deep), volume.dtype), np.zeros((views, cols, deep), volume.dtype)
    part, buffer = np.zeros(SUMS, volume.dtype), np.zeros((2, height), volume.dtype)
    permute, data = PERMUTE and volume.itemsize == 4, volume.ctypes.data
    to, by, out = values.ctypes.data, lengths.ctypes.data, part.ctypes.data
    for view in range(views):
        for column in range(cols):
            end = rows if _along_x(rays[view], column) else 0
            _lengths(rays[view], column, 0, end, voxel, weights[view, column], lengths[view, column])
    # A few planes at a time, so that they stay in the cache while rays of all views pass.
    for low in range(0, max(nx, ny), PLANES):
        for view in range(views):
            ray = rays[view]
            for column in range(cols):
                main = 0 if _along_x(ray, column) else 1
                planes, others = (nx, ny) if main == 0 else (ny, nx)
                om, oo, dm, do = _path(ray, column, main, 1 - main)
                oz, dz = ray[0, 2] + column * ray[1, 2], ray[3, 2] + column * ray[4, 2]
                away, moment, shift = (
                    (0.5 * (planes - 1) - om) / dm,
                    moments[view, column],
                    (view * cols + column) * deep,
                )
                for plane in range(low, min(low + PLANES, planes)):
                    t = (plane - om) / dm
                    other = oo + t * do
                    if not -1.0 < other < others or (forward_only and t <= 0.0):
                        continue
                    start, step = oz + t * dz, ray[2, 2] + t * ray[5, 2]
                    first, last = _inside(start, step, rows, nz)
                    if first >= last:
                        continue
                    near = np.int64(other + MARGIN)
                    share = real(other + MARGIN - near)
                    if main == 0:
                        a, stride = (near * width + plane + MARGIN) * height, width * height
                    else:
                        a, stride = ((plane + MARGIN) * width + near) * height, height
                    b, count, begin, k = a + stride, last - first, start + MARGIN + step * first, first - middle
                    if permute and fits_registers(step, height):
                        n = 4 * (shift + first)
                        slopes_permuted(out, to + n, by + n, count, data + 4 * a, data + 4 * b, share, begin, step, k)  # type: ignore[call-arg]
                    else:
                        seen, given = values[view, column, first:], lengths[view, column, first:]
                        slopes_plain(part, seen, given, count, flat, a, b, share, begin, step, k, height, buffer)
                    for n in range(5):
                        moment[0, n] += part[n]
                        moment[1, n] += (t - away) * part[n]
    for view in range(views):
        ray = rays[view]
        for column in range(cols):
            main = 0 if _along_x(ray, column) else 1
            om, _, dm, do = _path(ray, column, main, 1 - main)
            direction = dm, do, ray[3, 2] + column * ray[4, 2], ray[5, 2]
            away, moment = (0.5 * ((nx if main == 0 else ny) - 1) - om) / dm, moments[view, column]
            _add_path(
                sums[view], column, main, direction, away, moment, values[view, column], lengths[view, column], middle
            )


@njit(nogil=True, cache=True, inline="always")
def _along_x(ray, column):
    """Whether the rays of a column are closer to x than to y."""
    return abs(ray[3, 0] + column * ray[4, 0]) >= abs(ray[3, 1] + column * ray[4, 1])


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def _add_path(sums, column, main, direction, away, moments, values, lengths, middle):
    """Add the gradients of a column of rays, from its moments: those of `slopes`, times 1 and t from the middle."""
    dm, do, dz, ddz = direction
    x0, x1, x2, y0, y1 = 0.0, 0.0, 0.0, 0.0, 0.0
    for row in range(len(values) - LANES):
        y = np.float64(values[row]) * lengths[row]
        x = y / (dm * dm + do * do + (dz + row * ddz) ** 2)
        x0, x1, x2, y0, y1 = x0 + x, x1 + row * x, x2 + row * row * x, y0 + y, y1 + row * y
    other = 1 - main
    for n in range(2):
        a0, a1, s0, s1, s2 = moments[n]
        if n == 1:
            b0, b1, c0, c1, c2 = moments[0]
            a0, a1, s0, s1, s2 = a0 + away * b0, a1 + away * b1, s0 + away * c0, s1 + away * c1, s2 + away * c2
        # From moments about the middle row to those about row 0.
        a1, s1, s2 = a1 + middle * a0, s1 + middle * s0, s2 + middle * (2 * s1 + middle * s0)
        m0, m1 = -(do * a0 + dz * s0 + ddz * s1) / dm, -(do * a1 + dz * s1 + ddz * s2) / dm
        if n == 1:  # The length between planes depends on the direction.
            a0, a1 = a0 + do * x0, a1 + do * x1
            s0, s1 = s0 + dz * x0 + ddz * x1, s1 + dz * x1 + ddz * x2
            m0, m1 = m0 + dm * x0 - y0 / dm, m1 + dm * x1 - y1 / dm
        for axis, one, by_row in ((main, m0, m1), (other, a0, a1), (2, s0, s1)):
            sums[3 * n, axis] += one
            sums[3 * n + 1, axis] += column * one
            sums[3 * n + 2, axis] += by_row


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def bent_rays(volume, weights, rays, bounds, forward_only, voxel, sums):
    """`any_rays` sixteen rays at a time, as `tilted.project` follows them; `bounds` are from `tilted.main_rows`."""
    views, cols, rows = weights.shape
    deep = rows + LANES
    sizes = (volume.shape[1] - 2 * MARGIN, volume.shape[0] - 2 * MARGIN, volume.shape[2] - 2 * MARGIN)
    strides = (volume.shape[2], volume.shape[1] * volume.shape[2])
    values, lengths = np.zeros((views, cols, deep), volume.dtype), np.zeros((views, cols, deep), volume.dtype)
    part, totals, flat = np.zeros(SUMS), np.zeros((views, cols, 3, 10)), volume.reshape(volume.size)
    data, to, by, out = volume.ctypes.data, values.ctypes.data, lengths.ctypes.data, part.ctypes.data
    permute = strides[0] >= MIN_LENGTH
    for view in range(views):
        for column in range(cols):
            a, b = bounds[view, column]
            _lengths(rays[view], column, a, b, voxel, weights[view, column], lengths[view, column])
    for low in range(0, max(sizes[0], sizes[1]), PLANES):
        for view in range(views):
            ray = rays[view]
            for column in range(cols):
                for third in range(3):
                    main, begin, end = _third(third, bounds[view, column], rows)
                    if begin >= end:
                        continue
                    height, pitch, total = strides[1 - main], strides[main], totals[view, column, third]
                    for plane in range(low, min(low + PLANES, sizes[main])):
                        c, cz, w, wz = _crossing(ray, column, begin, 1 - main, main, plane)
                        r, rz, _, _ = _crossing(ray, column, begin, 2, main, plane)
                        first, last = _all_seen(c, cz, r, rz, w, wz, sizes[1 - main], sizes[2], end - begin)
                        if first >= last or (forward_only and _behind(ray, column, begin, main, plane)):
                            continue
                        at, k = (plane + MARGIN) * pitch, 0.5 * (first + last - 1)
                        c_middle, r_middle = (c + k * cz) / (w + k * wz), (r + k * rz) / (w + k * wz)
                        c, r, part[:] = c + MARGIN * w, r + MARGIN * w, 0.0
                        dc, dr, c_at, r_at = cz + MARGIN * wz, rz + MARGIN * wz, c_middle + MARGIN, r_middle + MARGIN
                        if permute:
                            n, s = (view * cols + column) * deep + begin + first, first
                            first += slopes_bent(
                                out, to + 4 * n, by + 4 * n, last - s, data + 4 * at, height,
                                c + s * dc, dc, r + s * dr, dr, w + s * wz, wz, s - k, c_at, r_at,
                            )  # fmt: skip
                        for n in range(first, last):
                            g, x, y, d = lengths[view, column, begin + n], c + n * dc, r + n * dr, w + n * wz
                            values[view, column, begin + n] += add_slopes(
                                part, flat, at, height, g, n - k, x, y, d, c_at, r_at
                            )
                        by_c, by_ck, by_r, by_rk, by_w, by_wk = from_middles(part, k, c_middle, r_middle)
                        for n, x in enumerate((by_c, by_ck, by_r, by_rk)):
                            total[n] += x
                            total[4 + n] += x * plane
                        total[8] += by_w
                        total[9] += by_wk
    for view in range(views):
        for column in range(cols):
            a, b = bounds[view, column]
            for third in range(3):
                main, begin, end = _third(third, bounds[view, column], rows)
                if begin < end:
                    _add_crossings(sums[view], rays[view], column, begin, main, totals[view, column, third])
            _add_lengths(sums[view], rays[view], column, a, b, values[view, column, :rows], lengths[view, column])


@njit(nogil=True, cache=True, inline="always")
def _third(number, bounds, rows):
    """Main direction and rows of the rays closer to x, and of those closer to y before and behind them."""
    if number == 0:
        return 0, np.int64(bounds[0]), np.int64(bounds[1])
    if number == 1:
        return 1, np.int64(0), np.int64(bounds[0])
    return 1, np.int64(bounds[1]), np.int64(rows)


@njit(nogil=True, cache=True, inline="always")
def _lengths(ray, column, a, b, voxel, weights, lengths):
    """Weights of a column's rays times their length between planes; rows a to b are closer to x than to y."""
    for row in range(len(weights)):
        d = _at(ray, 3, column, row)
        main = abs(d[0]) if a <= row < b else abs(d[1])
        lengths[row] = weights[row] * voxel * np.sqrt(d[0] ** 2 + d[1] ** 2 + d[2] ** 2) / main


@njit(nogil=True, cache=True)
def _add_lengths(sums, ray, column, a, b, values, lengths):
    """Add the gradient of the lengths between planes."""
    none, change = np.zeros(3), np.zeros(3)
    for row in range(len(values)):
        d, y = _at(ray, 3, column, row), np.float64(values[row]) * lengths[row]
        main = 0 if a <= row < b else 1
        x = y / (d[0] ** 2 + d[1] ** 2 + d[2] ** 2)
        change[0], change[1], change[2] = x * d[0], x * d[1], x * d[2]
        change[main] -= y / d[main]
        _add_ray(sums, column, row, none, change)


@njit(nogil=True, cache=True)
def _add_crossings(sums, ray, column, begin, main, total):
    """Add the gradient of where rays cross planes: `tilted._crossing` backwards, summed over the planes.

    `total` holds the gradients to c, cz, r, rz, then the same times the plane, then those to w, wz.
    """
    o, d = _at(ray, 0, column, begin), _at(ray, 3, column, begin)
    om, omr, dm, dmr = o[main], ray[2, main], d[main], ray[5, main]
    sign = 1.0 if dm > 0.0 else -1.0
    main_o, main_or, main_d, main_dr = 0.0, 0.0, total[8], total[9]
    for number in range(2):
        n, axis = 2 * number, 1 - main if number == 0 else 2
        x, xk, xp, xkp = total[n], total[n + 1], total[n + 4] - om * total[n], total[n + 5] - om * total[n + 1]
        by_o, by_or = x * dm + xk * dmr, xk * dm
        by_d, by_dr = xp - xk * omr, xkp
        main_o -= x * d[axis] + xk * ray[5, axis]
        main_or -= xk * d[axis]
        main_d += x * o[axis] + xk * ray[2, axis]
        main_dr += xk * o[axis]
        _add_coefficients(sums, 0, axis, column, begin, sign * by_o, sign * by_or)
        _add_coefficients(sums, 3, axis, column, begin, sign * by_d, sign * by_dr)
    _add_coefficients(sums, 0, main, column, begin, sign * main_o, sign * main_or)
    _add_coefficients(sums, 3, main, column, begin, sign * main_d, sign * main_dr)


@njit(nogil=True, cache=True, inline="always")
def _add_coefficients(sums, n, axis, column, begin, one, by_row):
    """Add the gradients to a column's vector at row `begin` and to its change with the row."""
    sums[n, axis] += one
    sums[n + 1, axis] += column * one
    sums[n + 2, axis] += begin * one + by_row
