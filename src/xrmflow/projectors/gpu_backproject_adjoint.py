"""Triton kernels of the adjoint of the backprojection: the exact transposes of that in `gpu_kernels`.

They gather like `gpu_project_adjoint`, the other way round: the search is for the voxels seen within one pixel.
"""

# Triton is a language of its own in Python's syntax, and not installed everywhere this is checked:
# pyright: reportMissingImports=false, reportArgumentType=false, reportAssignmentType=false
# pyright: reportOperatorIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

import triton
import triton.language as tl

from xrmflow.projectors.gpu_parts import (
    FAR,
    SIZES,
    _level_grid,
    _level_ray,
    _main_axis,
    _pixels,
    _split,
    _turned,
    _turned_grid,
    _turned_ray,
    _within,
)


@triton.jit(do_not_specialize=SIZES, do_not_specialize_on_alignment=["projections"])
def backproject_adjoint_upright(
    projections,
    volume,
    rays,
    matrices,
    distances,
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
    """Write to projections (view, col, row) what volume (y, x, z), over U^2, gives each pixel; for upright detectors.

    The pixel's ray meets a plane of voxels, at depth w, in some point. A voxel of that plane that is (d, e) away from
    the point, along the other horizontal axis and along z, is seen (c_o - col w_o) d / (w + w_o d) columns and
    ((r_o - row w_o) d + r_z e) / (w + w_o d) rows away from the pixel, with c, r, w the view's projection matrix.
    """
    real = volume.dtype.element_ty
    view, column, row, middle = _pixels(PIECES, PLACES, LANES)
    dr, ray = (row - middle).to(real), rays + view * 18
    along_y = tl.load(mains + view * cols + column, column < cols, 0) == 1
    planes, others, stride, across = _level_grid(along_y, nx, ny, nz)
    om, oo, oz, dz, dm, do, slope, rise, per_plane, widening = _level_ray(ray, along_y, column, middle, real)
    steps = ray + (12 if CONE else 3)
    ux, uy = tl.load(steps), tl.load(steps + 1)
    um, uo = tl.where(along_y, uy, ux), tl.where(along_y, ux, uy)
    turn, aside = (um / dm).to(real) if CONE else 0.0, (uo - do / dm * um).to(real)
    m = matrices + view * 12
    c_other = tl.where(along_y, tl.load(m), tl.load(m + 1))
    r_other = tl.where(along_y, tl.load(m + 4), tl.load(m + 5))
    w_other = tl.where(along_y, tl.load(m + 8), tl.load(m + 9))
    per_other = (c_other - column * w_other).to(real)
    tilt, tilting = (r_other - middle * w_other).to(real), w_other.to(real)
    pitch = tl.load(m + 6).to(real)
    u = distances + view * 3
    u_main = tl.where(along_y, tl.load(u + 1), tl.load(u))
    u_other = tl.where(along_y, tl.load(u), tl.load(u + 1))

    total = tl.zeros([PIECES, PLACES, LANES], real)
    most = tl.max(planes)
    for start in range(0, most, PLANES):
        t = (start + PLANES // 2 - om) / dm
        near, near_share = _split(oo + t * do, real)
        level, level_share = _split(oz + t * dz, real)
        t_near, spread = t.to(real), (tl.load(ray + 8) + t * tl.load(ray + 17)).to(real)
        for plane in range(start, tl.minimum(start + PLANES, most)):
            step = plane - (start + PLANES // 2)
            w = t_near + per_plane * step if CONE else 1.0 + 0.0 * per_plane
            point = near_share + slope * step
            point_z = (level_share + rise * step) + (spread + widening * step) * dr
            # Where the rays of the two neighbouring columns meet the plane bounds the search.
            one, two = point + aside * w / (1.0 + turn), point - aside * w / (1.0 - turn)
            bounded = tl.abs(turn) < 1.0
            low = tl.where(bounded, tl.minimum(one, two), FAR) + near
            high = tl.where(bounded, tl.maximum(one, two), -FAR) + near
            first = tl.ceil(tl.minimum(tl.maximum(low, 0.0), others)).to(tl.int32)
            last = tl.floor(tl.maximum(tl.minimum(high, others - 1.0), -1.0)).to(tl.int32)
            last = tl.where(plane < planes, last, -1)
            for n in range(tl.max(last - first) + 1):
                other = first + n
                d = (other - near) - point
                depth = w + tilting * d
                ok = (other <= last) & (depth > 0)
                scale = 1.0 / tl.where(ok, depth, 1.0)
                share = tl.where(ok, tl.maximum(1.0 - tl.abs(per_other * d * scale), 0.0), 0.0)
                distance = u_main * plane + u_other * other + tl.load(u + 2)
                share = share / (distance * distance)
                # Rows grow linearly along z: find the voxels within one row of the pixel's.
                per_z = pitch * scale
                offset = (tilt - tilting * dr) * d * scale
                reach = 1.0 / tl.abs(per_z)
                centre = point_z - offset / per_z
                first_k = tl.ceil(tl.minimum(tl.maximum(centre - reach, -level), nz - level)).to(tl.int32)
                away = offset + per_z * (first_k - point_z)
                searched = tl.ceil(tl.max(tl.where(share > 0, tl.minimum(2.0 * reach, 1.0 * nz), 0.0))).to(tl.int32)
                line = volume + plane * stride + other * across
                for o in range(searched):
                    k = first_k + level + o
                    weight = share * tl.maximum(1.0 - tl.abs(away + per_z * o), 0.0)
                    total += weight * tl.load(line + k, (share > 0) & _within(k, nz), 0.0)
    out = projections + (view.to(tl.int64) * cols + column) * rows + row
    tl.store(out, total, (column < cols) & (row < rows))


@triton.jit(do_not_specialize=SIZES, do_not_specialize_on_alignment=["projections"])
def backproject_adjoint_any(
    projections,
    volume,
    rays,
    matrices,
    distances,
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
    """As `backproject_adjoint_upright` for detectors in any orientation; `mains` is (view, col, row)."""
    real = volume.dtype.element_ty
    view, column, row, _middle = _pixels(PIECES, PLACES, LANES)
    inside, pixel, main = _main_axis(mains, view, column, row, cols, rows)
    planes, size_p, size_q, stride, stride_p, stride_q = _turned_grid(main, nx, ny, nz)
    om, op, oq, dm, dp, dq, slope_p, slope_q, per_plane = _turned_ray(rays + view * 18, main, column, row, real)
    steps = rays + view * 18 + (12 if CONE else 3)
    um, up, uq = _turned(main, tl.load(steps), tl.load(steps + 1), tl.load(steps + 2))
    vm, vp, vq = _turned(main, tl.load(steps + 3), tl.load(steps + 4), tl.load(steps + 5))
    turn_u, aside_up, aside_uq = (um / dm).to(real), (up - dp / dm * um).to(real), (uq - dq / dm * um).to(real)
    turn_v, aside_vp, aside_vq = (vm / dm).to(real), (vp - dp / dm * vm).to(real), (vq - dq / dm * vm).to(real)
    if not CONE:
        # Parallel rays stay parallel however far aside: neighbours do not turn.
        turn_u, turn_v = 0.0 * turn_u, 0.0 * turn_v
    m = matrices + view * 12
    _wm, wp, wq = _turned(main, tl.load(m + 8), tl.load(m + 9), tl.load(m + 10))
    _cm, cp, cq = _turned(main, tl.load(m), tl.load(m + 1), tl.load(m + 2))
    _rm, rp, rq = _turned(main, tl.load(m + 4), tl.load(m + 5), tl.load(m + 6))
    cp, cq = (cp - column * wp).to(real), (cq - column * wq).to(real)
    rp, rq = (rp - row * wp).to(real), (rq - row * wq).to(real)
    wp, wq = wp.to(real), wq.to(real)
    u = distances + view * 3
    u_main, u_p, u_q = _turned(main, tl.load(u), tl.load(u + 1), 0.0 * tl.load(u))

    total = tl.zeros([PIECES, PLACES, LANES], real)
    most = tl.max(planes)
    for start in range(0, most, PLANES):
        t = (start + PLANES // 2 - om) / dm
        near_p, share_p = _split(op + t * dp, real)
        near_q, share_q = _split(oq + t * dq, real)
        t_near = t.to(real)
        for plane in range(start, tl.minimum(start + PLANES, most)):
            step = plane - (start + PLANES // 2)
            w = t_near + per_plane * step if CONE else 1.0 + 0.0 * per_plane
            point_p, point_q = share_p + slope_p * step, share_q + slope_q * step
            bounded = tl.abs(turn_u) + tl.abs(turn_v) < 1.0
            low_p, high_p, low_q, high_q = -FAR + 0.0 * w, FAR + 0.0 * w, -FAR + 0.0 * w, FAR + 0.0 * w
            for corner in tl.static_range(4):
                nearness = 1.0 + (1 - 2 * (corner % 2)) * turn_u + (1 - 2 * (corner // 2)) * turn_v
                scale = w / tl.where(bounded, nearness, 1.0)
                at_p = point_p + ((1 - 2 * (corner % 2)) * aside_up + (1 - 2 * (corner // 2)) * aside_vp) * scale
                at_q = point_q + ((1 - 2 * (corner % 2)) * aside_uq + (1 - 2 * (corner // 2)) * aside_vq) * scale
                low_p, high_p = tl.minimum(low_p, at_p), tl.maximum(high_p, at_p)
                low_q, high_q = tl.minimum(low_q, at_q), tl.maximum(high_q, at_q)
            first_p, last_p = _indices(low_p, high_p, bounded, near_p, size_p)
            first_q, last_q = _indices(low_q, high_q, bounded, near_q, size_q)
            last_p = tl.where(inside & (plane < planes), last_p, -1)
            last_p = tl.where(last_q >= first_q, last_p, -1)
            most_q = tl.max(tl.where(last_p >= first_p, last_q - first_q, -1))
            for n in range(tl.max(last_p - first_p) + 1):
                ip = first_p + n
                d = (ip - near_p) - point_p
                for o in range(most_q + 1):
                    iq = first_q + o
                    e = (iq - near_q) - point_q
                    depth = w + wp * d + wq * e
                    ok = (ip <= last_p) & (iq <= last_q) & (depth > 0)
                    scale = 1.0 / tl.where(ok, depth, 1.0)
                    far_c, far_r = tl.abs((cp * d + cq * e) * scale), tl.abs((rp * d + rq * e) * scale)
                    distance = u_main * plane + u_p * ip + u_q * iq + tl.load(u + 2)
                    weight = tl.maximum(1.0 - far_c, 0.0) * tl.maximum(1.0 - far_r, 0.0) / (distance * distance)
                    total += weight * tl.load(volume + plane * stride + ip * stride_p + iq * stride_q, ok, 0.0)
    tl.store(projections + pixel, total, inside)


@triton.jit
def _indices(low, high, bounded, near, size):
    """Whole numbers between two positions given from `near`, within [0, size): first and last; or all of them."""
    low, high = tl.where(bounded, low + near, 0.0), tl.where(bounded, high + near, size - 1.0)
    first = tl.ceil(tl.minimum(tl.maximum(low, 0.0), 1.0 * size)).to(tl.int32)
    last = tl.floor(tl.maximum(tl.minimum(high, size - 1.0), -1.0)).to(tl.int32)
    return first, last
