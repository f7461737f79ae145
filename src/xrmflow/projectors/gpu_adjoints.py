"""Triton kernels of the adjoints: the exact transposes of those in `xrmflow.projectors.gpu_kernels`.

They gather where the transposed loop would scatter, so no two programs write the same number, nothing is added
atomically, and the same input gives the same bits. The price is a search: which rays pass a voxel within one voxel
(adjoint of the forward transform), which voxels are seen within one pixel (adjoint of the backprojection). The answer
lies in the image of a square under a projective map, hence between the images of its corners; candidates there that
are none get weight zero. Every loop is as long as the longest search in its tile.

Distances between rays and voxels are computed from their small differences, never as differences of positions.
"""

# Triton is a language of its own in Python's syntax, and not installed everywhere this is checked:
# pyright: reportMissingImports=false, reportArgumentType=false, reportAssignmentType=false
# pyright: reportOperatorIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

import triton
import triton.language as tl

from xrmflow.projectors.gpu_kernels import FAR, MOVED, SIZES, _at, _split, _turned, _voxels, _within


@triton.jit(do_not_specialize=SIZES, do_not_specialize_on_alignment=["volume"])
def project_adjoint(
    volume,
    projections,
    moved,
    beams,
    mains,
    axes,
    views,
    nx,
    ny,
    nz,
    cols,
    rows,
    blocks_x,
    blocks_y,
    CONE: tl.constexpr,
    LEVEL: tl.constexpr,
    SIDE: tl.constexpr,
    PX: tl.constexpr,
    PY: tl.constexpr,
    PIECES: tl.constexpr,
    LANES: tl.constexpr,
):
    """Add to volume (y, x, z) what projections (view, col, row), times the rays' plane distances, give each voxel.

    A ray that is a columns and b rows away from the voxel's own image, at depth w (1 for parallel rays), meets the
    voxel's plane at the distance (e_p - e_m V_p / V_m) / (1 + e_m / V_m) along p, where V is the ray through the voxel,
    e = w (a u + b v), and m the ray's main axis. For parallel rays V is infinitely long.

    `beams` (view, 9): source (or for parallel rays direction), u and v in voxels; `mains` (view, col), or
    (view, col, row) without LEVEL; `axes` (view, 3): which main axes there are.
    """
    real = volume.dtype.element_ty
    i, j, k, di, dj, dk, block = _voxels(nx, blocks_x, blocks_y, SIDE, PX, PY, PIECES, LANES, real)
    m = moved + block * MOVED
    blocks = tl.num_programs(1) * blocks_y * blocks_x
    total = tl.zeros([PIECES, PX * PY, LANES], real)
    for _view in range(views):
        w = tl.load(m + 10) + tl.load(m + 11) * di + tl.load(m + 12) * dj
        c = tl.load(m + 2) + tl.load(m + 3) * di + tl.load(m + 4) * dj
        r = tl.load(m + 6) + tl.load(m + 7) * di + tl.load(m + 8) * dj + tl.load(m + 9) * dk
        if not LEVEL:
            w += tl.load(m + 13) * dk
            c += tl.load(m + 5) * dk
        vx, vy, vz = tl.load(beams), tl.load(beams + 1), tl.load(beams + 2)
        if CONE:
            vx, vy, vz = i - vx, j - vy, k - vz
        if LEVEL:
            total = _add_level_rays(
                total, projections, beams, mains, axes, m, w, c, r, vx, vy, vz, cols, rows, CONE, 0, 1
            )
            total = _add_level_rays(
                total, projections, beams, mains, axes, m, w, c, r, vx, vy, vz, cols, rows, CONE, 1, 0
            )
        else:
            total = _add_rays(total, projections, beams, mains, axes, m, w, c, r, vx, vy, vz, cols, rows, CONE, 0, 1, 2)
            total = _add_rays(total, projections, beams, mains, axes, m, w, c, r, vx, vy, vz, cols, rows, CONE, 1, 2, 0)
            total = _add_rays(total, projections, beams, mains, axes, m, w, c, r, vx, vy, vz, cols, rows, CONE, 2, 0, 1)
        projections += cols * rows
        mains += cols if LEVEL else cols * rows
        axes += 3
        beams += 9
        m += blocks * MOVED
    out = volume + (j.to(tl.int64) * nx + i) * nz + k
    mask = (i < nx) & (j < ny) & (k < nz)
    tl.store(out, tl.load(out, mask, 0.0) + total, mask)


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
    view = tl.program_id(2)
    column = tl.program_id(0) * PLACES + tl.arange(0, PLACES)[None, :, None]
    piece, lane = tl.arange(0, PIECES)[:, None, None], tl.arange(0, LANES)[None, None, :]
    row = tl.program_id(1) * (PIECES * LANES) + piece * LANES + lane
    middle = tl.program_id(1) * (PIECES * LANES) + PIECES * LANES // 2
    dr = (row - middle).to(real)
    along_y = tl.load(mains + view * cols + column, column < cols, 0) == 1
    planes, others = tl.where(along_y, ny, nx), tl.where(along_y, nx, ny)
    stride_x, stride_y = nz.to(tl.int64), nz.to(tl.int64) * nx
    stride, across = tl.where(along_y, stride_y, stride_x), tl.where(along_y, stride_x, stride_y)

    ray = rays + view * 18
    ox, oy, oz = _at(ray, column, middle)
    dx, dy, dz = _at(ray + 9, column, middle)
    om, oo = tl.where(along_y, oy, ox), tl.where(along_y, ox, oy)
    dm, do = tl.where(along_y, dy, dx), tl.where(along_y, dx, dy)
    slope, rise = (do / dm).to(real), (dz / dm).to(real)
    per_plane, widening = (1.0 / dm).to(real), (tl.load(ray + 17) / dm).to(real)
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
    view = tl.program_id(2)
    column = tl.program_id(0) * PLACES + tl.arange(0, PLACES)[None, :, None]
    piece, lane = tl.arange(0, PIECES)[:, None, None], tl.arange(0, LANES)[None, None, :]
    row = tl.program_id(1) * (PIECES * LANES) + piece * LANES + lane
    inside = (column < cols) & (row < rows)
    pixel = (view.to(tl.int64) * cols + column) * rows + row
    main = tl.load(mains + pixel, inside, 0)
    planes, size_p, size_q = _turned(main, nx, ny, nz)
    stride_x, stride_y, stride_z = nz.to(tl.int64), nz.to(tl.int64) * nx, tl.full([], 1, tl.int64)
    stride, stride_p, stride_q = _turned(main, stride_x, stride_y, stride_z)

    ray = rays + view * 18
    ox, oy, oz = _at(ray, column, row)
    dx, dy, dz = _at(ray + 9, column, row)
    om, op, oq = _turned(main, ox, oy, oz)
    dm, dp, dq = _turned(main, dx, dy, dz)
    slope_p, slope_q, per_plane = (dp / dm).to(real), (dq / dm).to(real), (1.0 / dm).to(real)
    steps = ray + (12 if CONE else 3)
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


@triton.jit
def _add_level_rays(
    total,
    projections,
    beams,
    mains,
    axes,
    m,
    w,
    c,
    r,
    vx,
    vy,
    vz,
    cols,
    rows,
    CONE: tl.constexpr,
    main: tl.constexpr,
    p: tl.constexpr,
):
    """As `_add_rays` for upright detectors and rays along x or y: columns are found for all z at once."""
    wp, cp = tl.load(m + 11 + p), tl.load(m + 3 + p)
    one = (c + cp) / tl.where(w + wp > 0, w + wp, 1.0)
    two = (c - cp) / tl.where(w - wp > 0, w - wp, 1.0)
    first_c, last_c = _range(
        tl.minimum(one, two), tl.maximum(one, two), w - tl.abs(wp), w + tl.abs(wp), tl.load(m), cols
    )
    most_c = tl.where(tl.load(axes + main) > 0, tl.max(last_c - first_c), -1)
    vm, vp = _pick(main, vx, vy, vz), _pick(p, vx, vy, vz)
    inverse = 1.0 / tl.where(vm == 0, 1e-30, vm)
    slope_p, slope_z = vp * inverse, vz * inverse
    if not CONE:
        inverse = 0.0 * inverse
    depth = 1.0 / tl.where(w == 0, 1e-30, w)
    own_c, own_r = c * depth, r * depth
    from_c, from_r = tl.load(m).to(tl.int32), tl.load(m + 1)
    um, up, uz = tl.load(beams + 3 + main), tl.load(beams + 3 + p), tl.load(beams + 5)
    for n in range(most_c + 1):
        column = first_c + n
        a = ((column - from_c) - own_c) * w
        near = (column <= last_c) & _within(column, cols)
        near = near & (tl.load(mains + column, near, 9) == main)
        nearness = 1.0 + a * um * inverse
        scale = 1.0 / tl.where(nearness == 0, 1.0, nearness)
        share = tl.maximum(1.0 - tl.abs(a * (up - slope_p * um) * scale), 0.0)
        share = tl.where(near & (w * nearness > 0), share, 0.0)
        # Along z the rays of this column lie `step` apart: those within 1 of the voxel are 2 / step rows.
        step = tl.load(beams + 8) * w * scale
        per_step = 1.0 / tl.where(step == 0, 1e-30, step)
        offset = (a * scale) * (uz - slope_z * um)
        lowest = own_r - offset * per_step - tl.abs(per_step)
        lowest = tl.ceil(tl.minimum(tl.maximum(lowest, -from_r), rows - from_r))
        far = offset + step * (lowest - own_r)
        row = (lowest + from_r).to(tl.int32)
        most_r = tl.max(tl.where(share > 0, tl.ceil(tl.minimum(2.0 * tl.abs(per_step), 1.0 * rows)), 0.0))
        found = 0.0 * total
        for _o in range(most_r.to(tl.int32)):
            at = projections + (column * rows + row).to(tl.int64)
            value = tl.load(at, (share > 0) & _within(row, rows), 0.0)
            found += tl.maximum(1.0 - tl.abs(far), 0.0) * value
            far += step
            row += 1
        total += share * found
    return total


@triton.jit
def _add_rays(
    total,
    projections,
    beams,
    mains,
    axes,
    m,
    w,
    c,
    r,
    vx,
    vy,
    vz,
    cols,
    rows,
    CONE: tl.constexpr,
    main: tl.constexpr,
    p: tl.constexpr,
    q: tl.constexpr,
):
    """Add to each voxel's total the rays of one main axis that pass it within a voxel along the other two, p and q."""
    first_c, last_c, first_r, last_r = _seen_near(m, w, c, r, p, q, cols, rows)
    most_c = tl.where(tl.load(axes + main) > 0, tl.max(last_c - first_c), -1)
    most_r = tl.max(last_r - first_r)
    vm, vp, vq = _pick(main, vx, vy, vz), _pick(p, vx, vy, vz), _pick(q, vx, vy, vz)
    vm = tl.where(vm == 0, 1e-30, vm)
    slope_p, slope_q = vp / vm, vq / vm
    inverse = 1.0 / vm if CONE else 0.0
    depth = tl.where(w == 0, 1e-30, w)
    own_c, own_r = c / depth, r / depth
    from_c, from_r = tl.load(m).to(tl.int32), tl.load(m + 1).to(tl.int32)
    um, up, uq = tl.load(beams + 3 + main), tl.load(beams + 3 + p), tl.load(beams + 3 + q)
    vm, vp, vq = tl.load(beams + 6 + main), tl.load(beams + 6 + p), tl.load(beams + 6 + q)
    for n in range(most_c + 1):
        column = first_c + n
        a = ((column - from_c) - own_c) * w
        near_c = (column <= last_c) & _within(column, cols)
        for o in range(most_r + 1):
            row = first_r + o
            b = ((row - from_r) - own_r) * w
            near = near_c & (row <= last_r) & _within(row, rows)
            pixel = column * rows + row
            near = near & (tl.load(mains + pixel, near, 9) == main)
            em, ep, eq = a * um + b * vm, a * up + b * vp, a * uq + b * vq
            nearness = 1.0 + em * inverse
            near = near & (w * nearness > 0)
            scale = 1.0 / tl.where(nearness == 0, 1.0, nearness)
            far_p, far_q = tl.abs((ep - slope_p * em) * scale), tl.abs((eq - slope_q * em) * scale)
            weight = tl.maximum(1.0 - far_p, 0.0) * tl.maximum(1.0 - far_q, 0.0)
            total += weight * tl.load(projections + pixel, near, 0.0)
    return total


@triton.jit
def _pick(axis: tl.constexpr, x, y, z):
    if axis == 0:
        return x
    elif axis == 1:
        return y
    else:
        return z


@triton.jit
def _seen_near(m, w, c, r, p: tl.constexpr, q: tl.constexpr, cols, rows):
    """First and last column and row of the pixels whose rays pass within one voxel along p and q.

    Images of the corners of that square bound them. Where part of the square lies behind the source its image has no
    bound: all columns and rows.
    """
    wp, cp, rp = tl.load(m + 11 + p), tl.load(m + 3 + p), tl.load(m + 7 + p)
    wq, cq, rq = tl.load(m + 11 + q), tl.load(m + 3 + q), tl.load(m + 7 + q)
    ahead, behind = w - tl.abs(wp) - tl.abs(wq), w + tl.abs(wp) + tl.abs(wq)
    low_c, high_c = -FAR + 0.0 * w, FAR + 0.0 * w
    low_r, high_r = -FAR + 0.0 * r, FAR + 0.0 * r
    for corner in tl.static_range(4):
        depth = w + (1 - 2 * (corner % 2)) * wp + (1 - 2 * (corner // 2)) * wq
        scale = 1.0 / tl.where(depth > 0, depth, 1.0)
        column = (c + (1 - 2 * (corner % 2)) * cp + (1 - 2 * (corner // 2)) * cq) * scale
        row = (r + (1 - 2 * (corner % 2)) * rp + (1 - 2 * (corner // 2)) * rq) * scale
        low_c, high_c = tl.minimum(low_c, column), tl.maximum(high_c, column)
        low_r, high_r = tl.minimum(low_r, row), tl.maximum(high_r, row)
    first_c, last_c = _range(low_c, high_c, ahead, behind, tl.load(m), cols)
    first_r, last_r = _range(low_r, high_r, ahead, behind, tl.load(m + 1), rows)
    return first_c, last_c, first_r, last_r


@triton.jit
def _range(low, high, ahead, behind, origin, size):
    """Whole numbers between two positions given from an origin, within [0, size): first and last."""
    low, high = tl.where(ahead > 0, low, -origin), tl.where(ahead > 0, high, size - origin)
    high = tl.where(behind > 0, high, -1.0 - origin)
    first = tl.ceil(tl.minimum(tl.maximum(low, -origin), size - origin))
    last = tl.floor(tl.minimum(tl.maximum(high, -1.0 - origin), size - 1 - origin))
    return (first + origin).to(tl.int32), (last + origin).to(tl.int32)
