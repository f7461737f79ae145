"""Triton kernels for the gradients of the transform to the geometry: sums of slopes over the samples it takes.

What is summed, and what is made of the sums, is that of `xrmflow.projectors.sensitivity`. Sums within a ray or a tile
of voxels are taken here, in the type of the data and about a middle; `xrmflow.projectors.gpu` adds them up in float64.
"""

# Triton is a language of its own in Python's syntax, and not installed everywhere this is checked:
# pyright: reportMissingImports=false, reportArgumentType=false, reportAssignmentType=false
# pyright: reportOperatorIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

import triton
import triton.language as tl

from xrmflow.projectors.gpu_parts import (
    FAR,
    MOVED,
    SIZES,
    _below,
    _main_axis,
    _pixels,
    _split,
    _turned_grid,
    _turned_ray,
    _voxels,
    _within,
)


@triton.jit(do_not_specialize=SIZES, do_not_specialize_on_alignment=["sums"])
def ray_slopes(
    sums,
    volume,
    rays,
    mains,
    nx,
    ny,
    nz,
    cols,
    rows,
    CONE: tl.constexpr,
    PLANES: tl.constexpr,
    PIECES: tl.constexpr,
    PLACES: tl.constexpr,
    LANES: tl.constexpr,
):
    """Write to sums (5, view, col, row), over the planes of each ray's main axis in volume (y, x, z): the samples,
    their slopes along p and q, and these slopes times the number of planes from the middle one.
    """
    real = volume.dtype.element_ty
    view, column, row, _middle = _pixels(PIECES, PLACES, LANES)
    inside, pixel, main = _main_axis(mains, view, column, row, cols, rows)
    planes, size_p, size_q, stride, stride_p, stride_q = _turned_grid(main, nx, ny, nz)
    om, op, oq, dm, dp, dq, slope_p, slope_q, per_plane = _turned_ray(rays + view * 18, main, column, row, real)
    middle = 0.5 * (planes - 1).to(real)

    value = tl.zeros([PIECES, PLACES, LANES], real)
    by_p, by_q, by_tp, by_tq = value, value, value, value
    most = tl.max(planes)
    for start in range(0, most, PLANES):
        t = (start + PLANES // 2 - om) / dm
        near_p, share_p = _split(op + t * dp, real)
        near_q, share_q = _split(oq + t * dq, real)
        t_near = t.to(real)
        for plane in range(start, tl.minimum(start + PLANES, most)):
            step = plane - (start + PLANES // 2)
            p, q = share_p + slope_p * step, share_q + slope_q * step
            low_p, low_q = tl.floor(p), tl.floor(q)
            fp, fq = p - low_p, q - low_q
            ip, iq = near_p + low_p.to(tl.int32), near_q + low_q.to(tl.int32)
            seen = plane < planes
            if CONE:
                seen = seen & (t_near + per_plane * step > 0)
            p0, p1 = seen & _within(ip, size_p), seen & _within(ip + 1, size_p)
            q0, q1 = _within(iq, size_q), _within(iq + 1, size_q)
            corner = volume + (plane * stride + ip * stride_p + iq * stride_q)
            a, c = tl.load(corner, p0 & q0, 0.0), tl.load(corner + stride_q, p0 & q1, 0.0)
            at_low = tl.load(corner + stride_p, p1 & q0, 0.0) - a
            at_high = tl.load(corner + stride_p + stride_q, p1 & q1, 0.0) - c
            a += fp * at_low
            along_q = (c + fp * at_high) - a
            along_p = at_low + fq * (at_high - at_low)
            # A position at exactly -1 reads the first voxel's slope, but is outside: the transform has no sample there.
            on = (low_p + fp > -1.0 - near_p) & (low_q + fq > -1.0 - near_q)
            along_p, along_q = tl.where(on, along_p, 0.0), tl.where(on, along_q, 0.0)
            value += a + fq * along_q
            by_p += along_p
            by_q += along_q
            by_tp += (plane - middle) * along_p
            by_tq += (plane - middle) * along_q
    size = tl.num_programs(2).to(tl.int64) * cols * rows
    tl.store(sums + pixel, value, inside)
    tl.store(sums + size + pixel, by_p, inside)
    tl.store(sums + 2 * size + pixel, by_q, inside)
    tl.store(sums + 3 * size + pixel, by_tp, inside)
    tl.store(sums + 4 * size + pixel, by_tq, inside)


@triton.jit(do_not_specialize=SIZES, do_not_specialize_on_alignment=["volume"])
def voxel_slopes(
    volume,
    projections,
    moved,
    distances,
    sums,
    views,
    nx,
    ny,
    nz,
    cols,
    rows,
    blocks_x,
    blocks_y,
    SIDE: tl.constexpr,
    PX: tl.constexpr,
    PY: tl.constexpr,
    PIECES: tl.constexpr,
    LANES: tl.constexpr,
):
    """Write to sums (tile z, tile xy, view, 16) the gradient of <backproject(projections), volume> by tile of voxels.

    To the rows of the moved matrix (column, row, depth), each by (1, x, y, z), then to the distance's (1, x, y).
    """
    real = volume.dtype.element_ty
    i, j, k, di, dj, dk, block = _voxels(nx, blocks_x, blocks_y, SIDE, PX, PY, PIECES, LANES, real)
    m = moved + block * MOVED
    blocks = tl.num_programs(1) * blocks_y * blocks_x
    mask = (i < nx) & (j < ny) & (k < nz)
    source = tl.load(volume + ((j.to(tl.int64) * nx + i) * nz + k), mask, 0.0)
    out = sums + (tl.program_id(1).to(tl.int64) * tl.num_programs(0) + tl.program_id(0)) * views * 16
    for _view in range(views):
        w = tl.load(m + 10) + tl.load(m + 11) * di + tl.load(m + 12) * dj + tl.load(m + 13) * dk
        c = tl.load(m + 2) + tl.load(m + 3) * di + tl.load(m + 4) * dj + tl.load(m + 5) * dk
        r = tl.load(m + 6) + tl.load(m + 7) * di + tl.load(m + 8) * dj + tl.load(m + 9) * dk
        seen = w > 0
        scale = 1.0 / tl.where(seen, w, 1.0)
        c, r = c * scale, r * scale
        column, c_share = _below(tl.where(seen, c, FAR), tl.load(m))
        row, r_share = _below(r, tl.load(m + 1))
        left, right = _within(column, cols), _within(column + 1, cols)
        here, above = _within(row, rows), _within(row + 1, rows)
        at = projections + (column * rows + row).to(tl.int64)
        a = tl.load(at, left & here, 0.0)
        b = tl.load(at + rows, right & here, 0.0)
        at_low = tl.load(at + 1, left & above, 0.0) - a
        at_high = tl.load(at + rows + 1, right & above, 0.0) - b
        a += r_share * at_low
        b += r_share * at_high
        u = tl.load(distances) * i + tl.load(distances + 1) * j + tl.load(distances + 2)
        weight = source / (u * u)
        # Nowhere near the detector nothing changes; nor does it at -1 exactly, where there is no sample.
        on = (left | right) & (here | above) & (c + tl.load(m) > -1) & (r + tl.load(m + 1) > -1)
        by_c = tl.where(on, weight * scale * (b - a), 0.0)
        by_r = tl.where(on, weight * scale * (at_low + c_share * (at_high - at_low)), 0.0)
        by_w = -tl.where(on, by_c * c + by_r * r, 0.0)
        by_u = -2.0 * weight * (a + c_share * (b - a)) / u
        _store_moments(out, by_c, di, dj, dk)
        _store_moments(out + 4, by_r, di, dj, dk)
        _store_moments(out + 8, by_w, di, dj, dk)
        _store_moments(out + 12, by_u, di, dj, dk)
        projections += cols * rows
        distances += 3
        m += blocks * MOVED
        out += 16


@triton.jit
def _store_moments(out, values, x, y, z):
    """Sums over a tile of values times (1, x, y, z)."""
    column = tl.sum(tl.sum(values, 2, keep_dims=True), 0, keep_dims=True)
    tl.store(out, tl.sum(column))
    tl.store(out + 1, tl.sum(column * x))
    tl.store(out + 2, tl.sum(column * y))
    tl.store(out + 3, tl.sum(values * z))
