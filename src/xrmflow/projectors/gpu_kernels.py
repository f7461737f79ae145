"""Triton kernels of the X-ray transform on NVIDIA GPUs, forward and FDK backprojection.

What they compute is defined by `xrmflow.projectors.oracle`; `xrmflow.projectors.gpu` launches them.

Layouts are those of the CPU kernels without margins: projections (view, col, row) and volume (y, x, z). The innermost
index is z or the row everywhere, so that the 32 threads of a warp read neighbours. A program works on a tile of shape
(pieces, places, lanes): `places` are (x, y) positions or detector columns, and one place's z or rows are
pieces * lanes. What depends on the place alone is computed once for its `pieces` values in each thread.

Positions. float32 has 1e-4 px left at 2000 px, so no kernel computes an absolute position in it. Backprojection uses
projection matrices moved to an origin near the tile, in the volume and on the detector (`gpu_launch.moved_matrices`);
forward projection starts anew in float64 every `PLANES` planes. Either way what float32 sees is a distance of at most
some hundred pixels: at 2048 pixels a position is wrong by less than 1e-4 px (tested).

Tests run these kernels in Triton's interpreter (TRITON_INTERPRET=1 set before triton is imported).
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
    _level_grid,
    _level_ray,
    _main_axis,
    _pixels,
    _split,
    _turned_grid,
    _turned_ray,
    _voxels,
    _within,
)


@triton.jit(do_not_specialize=SIZES, do_not_specialize_on_alignment=["volume"])
def backproject(
    volume,
    projections,
    moved,
    distances,
    views,
    nx,
    ny,
    nz,
    cols,
    rows,
    blocks_x,
    blocks_y,
    UPRIGHT: tl.constexpr,
    SIDE: tl.constexpr,
    PX: tl.constexpr,
    PY: tl.constexpr,
    PIECES: tl.constexpr,
    LANES: tl.constexpr,
):
    """Add to volume (y, x, z) the samples of projections (view, col, row) at each voxel's pixel, over U^2."""
    real = volume.dtype.element_ty
    i, j, k, di, dj, dk, block = _voxels(nx, blocks_x, blocks_y, SIDE, PX, PY, PIECES, LANES, real)
    m = moved + block * MOVED
    blocks = tl.num_programs(1) * blocks_y * blocks_x
    total = tl.zeros([PIECES, PX * PY, LANES], real)
    for _view in range(views):
        w = tl.load(m + 10) + tl.load(m + 11) * di + tl.load(m + 12) * dj
        c = tl.load(m + 2) + tl.load(m + 3) * di + tl.load(m + 4) * dj
        r = tl.load(m + 6) + tl.load(m + 7) * di + tl.load(m + 8) * dj
        if not UPRIGHT:
            w += tl.load(m + 13) * dk
            c += tl.load(m + 5) * dk
        seen = w > 0
        scale = 1.0 / tl.where(seen, w, 1.0)
        column, c_share = _below(tl.where(seen, c * scale, FAR), tl.load(m))
        row, r_share = _below(r * scale + (tl.load(m + 9) * scale) * dk, tl.load(m + 1))
        u = tl.load(distances) * i + tl.load(distances + 1) * j + tl.load(distances + 2)
        left, right = _within(column, cols), _within(column + 1, cols)
        here, above = _within(row, rows), _within(row + 1, rows)
        # In 64 bits, so that the neighbour's address is a constant away.
        at = projections + (column * rows + row).to(tl.int64)
        a = tl.load(at, left & here, 0.0)
        a += r_share * (tl.load(at + 1, left & above, 0.0) - a)
        b = tl.load(at + rows, right & here, 0.0)
        b += r_share * (tl.load(at + rows + 1, right & above, 0.0) - b)
        weight = 1.0 / (u * u)
        total += ((1.0 - c_share) * weight) * a
        total += (c_share * weight) * b
        projections += cols * rows
        distances += 3
        m += blocks * MOVED
    out = volume + (j.to(tl.int64) * nx + i) * nz + k
    mask = (i < nx) & (j < ny) & (k < nz)
    tl.store(out, tl.load(out, mask, 0.0) + total, mask)


@triton.jit(do_not_specialize=SIZES, do_not_specialize_on_alignment=["projections"])
def project_level(
    projections,
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
    """Write to projections (view, col, row) the sums of volume (y, x, z) where rays cross planes of voxel centres.

    For upright detectors and rays that run along x or y: the path in the (x, y) plane does not depend on the row.
    `mains` (view, col) is the axis of the planes. Times the length between planes it is Joseph's line integral.
    """
    real = volume.dtype.element_ty
    view, column, row, middle = _pixels(PIECES, PLACES, LANES)
    dr, ray = (row - middle).to(real), rays + view * 18
    along_y = tl.load(mains + view * cols + column, column < cols, 0) == 1
    planes, others, stride, across = _level_grid(along_y, nx, ny, nz)
    om, oo, oz, dz, dm, do, slope, rise, per_plane, widening = _level_ray(ray, along_y, column, middle, real)

    total = tl.zeros([PIECES, PLACES, LANES], real)
    most = tl.max(planes)
    for start in range(0, most, PLANES):
        t = (start + PLANES // 2 - om) / dm
        near, near_share = _split(oo + t * do, real)
        level, level_share = _split(oz + t * dz, real)
        t_near, spread = t.to(real), (tl.load(ray + 8) + t * tl.load(ray + 17)).to(real)
        for plane in range(start, tl.minimum(start + PLANES, most)):
            step = plane - (start + PLANES // 2)
            position = near_share + slope * step
            low = tl.floor(position)
            share = position - low
            other = near + low.to(tl.int32)
            seen = plane < planes
            if CONE:
                seen = seen & (t_near + per_plane * step > 0)
            left, right = seen & _within(other, others), seen & _within(other + 1, others)
            z = (level_share + rise * step) + (spread + widening * step) * dr
            below = tl.floor(z)
            f = z - below
            k = below.to(tl.int32) + level
            here, above = _within(k, nz), _within(k + 1, nz)
            corner = volume + (plane * stride + other * across + k)
            a = tl.load(corner, left & here, 0.0)
            a += f * (tl.load(corner + 1, left & above, 0.0) - a)
            b = tl.load(corner + across, right & here, 0.0)
            b += f * (tl.load(corner + across + 1, right & above, 0.0) - b)
            total += (1.0 - share) * a
            total += share * b
    out = projections + (view.to(tl.int64) * cols + column) * rows + row
    tl.store(out, total, (column < cols) & (row < rows))


@triton.jit(do_not_specialize=SIZES, do_not_specialize_on_alignment=["projections"])
def project_any(
    projections,
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
    """As `project_level` for rays in any direction: `mains` (view, col, row), nothing shared along columns."""
    real = volume.dtype.element_ty
    view, column, row, _middle = _pixels(PIECES, PLACES, LANES)
    inside, pixel, main = _main_axis(mains, view, column, row, cols, rows)
    planes, size_p, size_q, stride, stride_p, stride_q = _turned_grid(main, nx, ny, nz)
    om, op, oq, dm, dp, dq, slope_p, slope_q, per_plane = _turned_ray(rays + view * 18, main, column, row, real)

    total = tl.zeros([PIECES, PLACES, LANES], real)
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
            p0, p1 = seen & (ip >= 0) & (ip < size_p), seen & (ip >= -1) & (ip < size_p - 1)
            q0, q1 = (iq >= 0) & (iq < size_q), (iq >= -1) & (iq < size_q - 1)
            corner = volume + plane * stride + ip * stride_p + iq * stride_q
            bottom = tl.load(corner, p0 & q0, 0.0)
            bottom += fp * (tl.load(corner + stride_p, p1 & q0, 0.0) - bottom)
            top = tl.load(corner + stride_q, p0 & q1, 0.0)
            top += fp * (tl.load(corner + stride_p + stride_q, p1 & q1, 0.0) - top)
            total += bottom + fq * (top - bottom)
    tl.store(projections + pixel, total, inside)
