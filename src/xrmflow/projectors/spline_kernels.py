"""Kernels of the X-ray transform of B-splines: one walks a ray through the cells, three do something in each of them.

Cells lie between knot planes. Coefficients (z, y, x) are surrounded by `margin(degree)` zeros, so that every cell the
spline reaches has all its (degree + 1)^3 coefficients; cell (i, j, k) begins at padded coefficient (i, j, k). Rays are
(view, 6, 3) as from `xrmflow.projectors.matrices.pixel_rays`, a ray for each pixel, or (ray, 2, 3) with origin and
direction alone; both in voxel indices. Axes are numbered x, y, z; the main axis of a ray is the one its direction is
closest to.
"""

import numpy as np
from numba import njit

from xrmflow.projectors.spline_cells import add_to_cell, cell_mean, cell_slopes

# A direction with a smaller share along an axis is parallel to the planes across it: drifts stay below rounding.
PARALLEL = 1e-14


def margin(degree: int) -> int:
    """Zeros around the coefficients; at least one, so that a ray also crosses the surface of piecewise constants."""
    return max(degree, 1)


def knot_shift(degree: int) -> float:
    """What takes voxel indices to cells: the spline of coefficient 0 begins (degree + 1) / 2 before its centre."""
    return margin(degree) - degree + (degree + 1) / 2


@njit(nogil=True, cache=True, inline="always")
def _vector(ray, n, column, row):
    """Vector n (0 origin, 1 direction) of a ray, given by two vectors or by six and the pixel."""
    if ray.shape[0] == 2:
        return ray[n, 0], ray[n, 1], ray[n, 2]
    a, b, c = ray[3 * n], ray[3 * n + 1], ray[3 * n + 2]
    return (
        a[0] + column * b[0] + row * c[0],
        a[1] + column * b[1] + row * c[1],
        a[2] + column * b[2] + row * c[2],
    )


@njit(nogil=True, cache=True, inline="always")
def _main(d):
    """The axis a direction is closest to; x before y before z where equal."""
    if abs(d[0]) >= abs(d[1]) and abs(d[0]) >= abs(d[2]):
        return 0
    return 1 if abs(d[1]) >= abs(d[2]) else 2


@njit(nogil=True, cache=True, inline="always")
def _turned(v, main):
    """Three numbers for x, y, z in the order main axis, next, next."""
    return v[main], v[(main + 1) % 3], v[(main + 2) % 3]


@njit(nogil=True, cache=True, inline="always", error_model="numpy")
def _clip(o, d, low, high, t_in, t_out, parallel):
    """The part of [t_in, t_out] in which low <= o + t d <= high along one axis; all of it for rays along the planes."""
    if parallel:
        return t_in, t_out
    a, b = (low - o) / d, (high - o) / d
    return max(t_in, min(a, b)), min(t_out, max(a, b))


@njit(nogil=True, cache=True, inline="always")
def _cell(o, d, t, low, high):
    """The cell in [low, high) that contains o + t d, or the nearest."""
    return min(max(np.int64(np.floor(o + t * d)), low), high - 1)


@njit(nogil=True, cache=True, error_model="numpy")
def walk(o, d, low, high, strides, limits, place, local, crossed):
    """Follow a ray through the cells of a box, in the order it meets them.

    Args:
        o: origin in cells, three axes.
        d: direction, likewise.
        low: first cell along each axis.
        high: last + 1.
        strides: of the coefficients along these axes.
        limits: where to begin and to end, as multiples of d from o.
        place: filled with the index of each cell's first coefficient.
        local: filled with (t, length in t, three fractions of the cell) where the ray enters each cell.
        crossed: filled with the axis across whose knot plane the ray enters each cell; 3 for none.

    Returns:
        The number of cells.
    """
    least = PARALLEL * (abs(d[0]) + abs(d[1]) + abs(d[2]))
    pa, pb, pc = abs(d[0]) <= least, abs(d[1]) <= least, abs(d[2]) <= least
    t, t_out = _clip(o[0], d[0], low[0], high[0], limits[0], limits[1], pa)
    t, t_out = _clip(o[1], d[1], low[1], high[1], t, t_out, pb)
    t, t_out = _clip(o[2], d[2], low[2], high[2], t, t_out, pc)
    if not t < t_out:
        return 0
    for axis in range(3):  # along planes: inside or not is the same everywhere
        if abs(d[axis]) <= least and not low[axis] <= o[axis] + t * d[axis] < high[axis]:
            return 0
    a, b = _cell(o[0], d[0], t, low[0], high[0]), _cell(o[1], d[1], t, low[1], high[1])
    c = _cell(o[2], d[2], t, low[2], high[2])
    step_a, step_b, step_c = (1 if d[0] > 0 else -1), (1 if d[1] > 0 else -1), (1 if d[2] > 0 else -1)
    # From o to the first plane ahead of cell 0, and the time from plane to plane.
    ahead_a = (1 if d[0] > 0 else 0) - o[0]
    ahead_b = (1 if d[1] > 0 else 0) - o[1]
    ahead_c = (1 if d[2] > 0 else 0) - o[2]
    pace_a, pace_b, pace_c = 1.0 / d[0], 1.0 / d[1], 1.0 / d[2]
    next_a = np.inf if pa else (a + ahead_a) * pace_a
    next_b = np.inf if pb else (b + ahead_b) * pace_b
    next_c = np.inf if pc else (c + ahead_c) * pace_c
    count, axis = 0, 3
    while t < t_out and low[0] <= a < high[0] and low[1] <= b < high[1] and low[2] <= c < high[2]:
        end = min(min(next_a, next_b), min(next_c, t_out))
        if end > t:
            place[count], crossed[count] = a * strides[0] + b * strides[1] + c * strides[2], axis
            local[count, 0], local[count, 1] = t, end - t
            local[count, 2] = o[0] + t * d[0] - a
            local[count, 3] = o[1] + t * d[1] - b
            local[count, 4] = o[2] + t * d[2] - c
            count += 1
            t = end
        if next_a <= end:
            a, axis = a + step_a, 0
            next_a = (a + ahead_a) * pace_a
        if next_b <= end:
            b, axis = b + step_b, 1
            next_b = (b + ahead_b) * pace_b
        if next_c <= end:
            c, axis = c + step_c, 2
            next_c = (c + ahead_c) * pace_c
    return count


@njit(nogil=True, cache=True, inline="always")
def _room(shape):
    """Arrays for `walk`: a ray crosses no more planes than there are."""
    most = shape[0] + shape[1] + shape[2] + 4
    return np.empty(most, np.int64), np.empty((most, 5)), np.empty(most, np.int8)


@njit(nogil=True, cache=True, inline="always")
def _ray(ray, column, row, shift):
    """Origin in cells and direction of a pixel's ray, its main axis and its length in voxels for one unit of t."""
    o, d = _vector(ray, 0, column, row), _vector(ray, 1, column, row)
    main = _main(d)
    o = (o[0] + shift, o[1] + shift, o[2] + shift)
    return _turned(o, main), _turned(d, main), main, np.sqrt(d[0] ** 2 + d[1] ** 2 + d[2] ** 2)


@njit(nogil=True, cache=True, inline="always")
def _box(padded, degree, main):
    """Cells and strides along the axes, in the order main axis, next, next."""
    strides = (1, padded.shape[2], padded.shape[1] * padded.shape[2])
    cells = (padded.shape[2] - degree, padded.shape[1] - degree, padded.shape[0] - degree)
    return _turned(cells, main), _turned(strides, main)


@njit(nogil=True, cache=True, error_model="numpy")
def project(padded, rays, limits, shift, voxel, order, out, first, last):
    """Line integrals into out[first:last] (view, row, col), per mm times mm.

    Args:
        padded: coefficients (z, y, x) with their margins.
        rays: (view, 6, 3) or (view, 2, 3).
        limits: part of each ray to integrate over, as multiples of its direction.
        shift: from `knot_shift`.
        voxel: edge of a voxel, mm.
        order: see `xrmflow.projectors.spline_cells`.
        out: the result.
        first: view to begin with.
        last: view to end before.
    """
    real, data, size = padded.dtype.type, padded.ctypes.data, padded.itemsize
    place, local, crossed = _room(padded.shape)
    for view in range(first, last):
        for row in range(out.shape[1]):
            for column in range(out.shape[2]):
                o, d, main, length = _ray(rays[view], column, row, shift)
                cells, strides = _box(padded, len(order) - 1, main)
                count = walk(o, d, (0, 0, 0), cells, strides, limits, place, local, crossed)
                total = 0.0
                for n in range(count):
                    h = local[n, 1]
                    start = (real(local[n, 2]), real(local[n, 3]), real(local[n, 4]))
                    change = (real(h * d[0]), real(h * d[1]), real(h * d[2]))
                    total += h * cell_mean(order, data + size * place[n], start, change, strides)[0]
                out[view, row, column] = real(voxel * length * total)


@njit(nogil=True, cache=True, error_model="numpy")
def project_adjoint(values, rays, limits, shift, voxel, order, main, first, last, padded):
    """Spread values (view, row, col) over the cells first <= cell < last along the rays' main axis, if it is `main`.

    The transpose of `project` is this for the three axes. Calls write coefficients first to last + degree - 1.
    """
    real, data, size = padded.dtype.type, padded.ctypes.data, padded.itemsize
    place, local, crossed = _room(padded.shape)
    cells, strides = _box(padded, len(order) - 1, 0)
    low = (first if main == 0 else 0, first if main == 1 else 0, first if main == 2 else 0)
    high = (last if main == 0 else cells[0], last if main == 1 else cells[1], last if main == 2 else cells[2])
    for view in range(values.shape[0]):
        for row in range(values.shape[1]):
            for column in range(values.shape[2]):
                o, d = _vector(rays[view], 0, column, row), _vector(rays[view], 1, column, row)
                value = voxel * np.sqrt(d[0] ** 2 + d[1] ** 2 + d[2] ** 2) * values[view, row, column]
                if _main(d) != main or value == 0.0:
                    continue
                o = (o[0] + shift, o[1] + shift, o[2] + shift)
                count = walk(o, d, low, high, strides, limits, place, local, crossed)
                for n in range(count):
                    h = local[n, 1]
                    start = (real(local[n, 2]), real(local[n, 3]), real(local[n, 4]))
                    change = (real(h * d[0]), real(h * d[1]), real(h * d[2]))
                    add_to_cell(order, data + size * place[n], start, change, strides, real(h * value))


@njit(nogil=True, cache=True, inline="always")
def _collect(out, column, row, by_origin, by_direction):
    """Add the gradient to a ray's origin and direction to that of the vectors it is made of."""
    if out.shape[0] == 2:
        for axis in range(3):
            out[0, axis] += by_origin[axis]
            out[1, axis] += by_direction[axis]
        return
    for axis in range(3):
        out[0, axis] += by_origin[axis]
        out[1, axis] += column * by_origin[axis]
        out[2, axis] += row * by_origin[axis]
        out[3, axis] += by_direction[axis]
        out[4, axis] += column * by_direction[axis]
        out[5, axis] += row * by_direction[axis]


@njit(nogil=True, cache=True, error_model="numpy")
def sensitivity(padded, rays, limits, shift, voxel, order, values, out, first, last):
    """Gradient of sum(values * project) to rays[first:last], into `out` of their shape; degree 1 and more.

    With the integral I of f over t: dI/d origin = int grad f dt, dI/d direction = int t grad f dt. Along the ray,
    int d . grad f dt is the difference of f at the ends, and int t d . grad f dt that of t f less I: so only two of
    the three derivatives are summed, the one along the main axis follows. The line integral is I |d|.
    """
    real, data, size = padded.dtype.type, padded.ctypes.data, padded.itemsize
    place, local, crossed = _room(padded.shape)
    by_origin, by_direction = np.zeros(3), np.zeros(3)
    for view in range(first, last):
        for row in range(values.shape[1]):
            for column in range(values.shape[2]):
                o, d, main, length = _ray(rays[view], column, row, shift)
                cells, strides = _box(padded, len(order) - 1, main)
                count = walk(o, d, (0, 0, 0), cells, strides, limits, place, local, crossed)
                weight = voxel * length * values[view, row, column]
                if count == 0 or weight == 0.0:
                    continue
                total, b, c, tb, tc = 0.0, 0.0, 0.0, 0.0, 0.0
                for n in range(count):
                    t, h = local[n, 0], local[n, 1]
                    start = (real(local[n, 2]), real(local[n, 3]), real(local[n, 4]))
                    change = (real(h * d[0]), real(h * d[1]), real(h * d[2]))
                    f, fb, fc, xb, xc = cell_slopes(order, data + size * place[n], start, change, strides)
                    total += h * f
                    b += h * fb
                    c += h * fc
                    tb += h * (t * fb + h * xb)
                    tc += h * (t * fc + h * xc)
                entry, exit = _ends(order, data, size, place, local, count, d, strides, real(0))
                t_in, t_out = local[0, 0], local[count - 1, 0] + local[count - 1, 1]
                a = (exit - entry - d[1] * b - d[2] * c) / d[0]
                ta = (t_out * exit - t_in * entry - total - d[1] * tb - d[2] * tc) / d[0]
                _place(by_origin, main, weight * a, weight * b, weight * c)
                share = total / length**2
                ta, tb, tc = ta + share * d[0], tb + share * d[1], tc + share * d[2]
                _place(by_direction, main, weight * ta, weight * tb, weight * tc)
                _collect(out[view], column, row, by_origin, by_direction)


@njit(nogil=True, cache=True, inline="always")
def _place(vector, main, a, b, c):
    """Fill a vector (x, y, z) from its parts along main axis, next, next."""
    vector[main], vector[(main + 1) % 3], vector[(main + 2) % 3] = a, b, c


@njit(nogil=True, cache=True)
def _ends(order, data, size, place, local, count, d, strides, zero):
    """The spline where the ray enters the first cell and where it leaves the last: not zero if limits cut it short."""
    real, rest, last = type(zero), (zero, zero, zero), count - 1
    start = (real(local[0, 2]), real(local[0, 3]), real(local[0, 4]))
    entry = cell_mean(order, data + size * place[0], start, rest, strides)[0]
    h = local[last, 1]
    stop = (real(local[last, 2] + h * d[0]), real(local[last, 3] + h * d[1]), real(local[last, 4] + h * d[2]))
    return entry, cell_mean(order, data + size * place[last], stop, rest, strides)[0]


@njit(nogil=True, cache=True, error_model="numpy")
def sensitivity_of_constants(padded, rays, limits, shift, voxel, values, out, first, last):
    """The same for degree 0, whose gradient is all at the faces of voxels: I = sum of t (f before - f after) there."""
    flat = padded.reshape(padded.size)
    place, local, crossed = _room(padded.shape)
    by_origin, by_direction = np.zeros(3), np.zeros(3)
    for view in range(first, last):
        for row in range(values.shape[1]):
            for column in range(values.shape[2]):
                o, d, main, length = _ray(rays[view], column, row, shift)
                cells, strides = _box(padded, 0, main)
                count = walk(o, d, (0, 0, 0), cells, strides, limits, place, local, crossed)
                weight = voxel * length * values[view, row, column]
                by_origin[:], by_direction[:], total = 0.0, 0.0, 0.0
                for n in range(count):
                    total += local[n, 1] * flat[place[n]]
                    if n > 0:
                        turned = crossed[n]
                        step = weight * (flat[place[n]] - flat[place[n - 1]]) / d[turned]
                        axis = (main + turned) % 3
                        by_origin[axis] += step
                        by_direction[axis] += step * local[n, 0]
                share = weight * total / length**2
                for turned in range(3):
                    by_direction[(main + turned) % 3] += share * d[turned]
                _collect(out[view], column, row, by_origin, by_direction)
