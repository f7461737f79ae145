"""Triton kernel of the adjoint of the forward transform: the exact transpose of those in `gpu_kernels`.

It gathers where the transposed loop would scatter, so no two programs write the same number, nothing is added
atomically, and the same input gives the same bits. The price is a search for the rays that pass a voxel within one
voxel: it lies in the image of a square under a projective map, hence between the images of its corners; candidates
there that are none get weight zero. Every loop is as long as the longest search in its tile.

Distances between rays and voxels are computed from their small differences, never as differences of positions.
"""

# Triton is a language of its own in Python's syntax, and not installed everywhere this is checked:
# pyright: reportMissingImports=false, reportArgumentType=false, reportAssignmentType=false
# pyright: reportOperatorIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

import triton
import triton.language as tl

from xrmflow.projectors.gpu_parts import FAR, MOVED, SIZES, _voxels, _within


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
