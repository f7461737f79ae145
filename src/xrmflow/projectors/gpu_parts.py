"""What the Triton kernels share: indices of a program's voxels and pixels, rays, positions."""

# Triton is a language of its own in Python's syntax, and not installed everywhere this is checked:
# pyright: reportMissingImports=false, reportArgumentType=false, reportAssignmentType=false
# pyright: reportOperatorIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

import triton
import triton.language as tl

# Numbers a block of voxels has in the table of moved matrices.
MOVED = tl.constexpr(16)
# Where a position is put that no ray or pixel can have.
FAR = tl.constexpr(-1e9)
# One compiled kernel for all sizes. It also keeps Triton from giving a thread four neighbouring z for the sake of the
# few loads and stores of the result: gathers are fastest when neighbouring threads hold neighbouring z.
SIZES = ["views", "nx", "ny", "nz", "cols", "rows", "blocks_x", "blocks_y"]


@triton.jit
def _pixels(PIECES, PLACES, LANES):
    """The view of a program, the columns and rows of its pixels, and its middle row."""
    column = tl.program_id(0) * PLACES + tl.arange(0, PLACES)[None, :, None]
    depth = PIECES * LANES
    row = tl.arange(0, PIECES)[:, None, None] * LANES + tl.arange(0, LANES)[None, None, :]
    return tl.program_id(2), column, tl.program_id(1) * depth + row, tl.program_id(1) * depth + depth // 2


@triton.jit
def _main_axis(mains, view, column, row, cols, rows):
    """Whether pixels are on the detector, where they lie in (view, col, row), and the main axes of their rays."""
    inside = (column < cols) & (row < rows)
    pixel = (view.to(tl.int64) * cols + column) * rows + row
    return inside, pixel, tl.load(mains + pixel, inside, 0)


@triton.jit
def _turned_grid(main, nx, ny, nz):
    """Sizes and strides of a volume (y, x, z) in cyclic order from the main axis on."""
    size, size_p, size_q = _turned(main, nx, ny, nz)
    stride, stride_p, stride_q = _turned(main, nz.to(tl.int64), nz.to(tl.int64) * nx, tl.full([], 1, tl.int64))
    return size, size_p, size_q, stride, stride_p, stride_q


@triton.jit
def _turned_ray(ray, main, column, row, real: tl.constexpr):
    """Origin and direction of pixels' rays in that order, float64, and what a step from plane to plane adds."""
    ox, oy, oz = _at(ray, column, row)
    dx, dy, dz = _at(ray + 9, column, row)
    om, op, oq = _turned(main, ox, oy, oz)
    dm, dp, dq = _turned(main, dx, dy, dz)
    return om, op, oq, dm, dp, dq, (dp / dm).to(real), (dq / dm).to(real), (1.0 / dm).to(real)


@triton.jit
def _level_grid(along_y, nx, ny, nz):
    """Sizes and strides of a volume (y, x, z) along the main axis, x or y, and along the other one."""
    stride_x, stride_y = nz.to(tl.int64), nz.to(tl.int64) * nx
    planes, others = tl.where(along_y, ny, nx), tl.where(along_y, nx, ny)
    return planes, others, tl.where(along_y, stride_y, stride_x), tl.where(along_y, stride_x, stride_y)


@triton.jit
def _level_ray(ray, along_y, column, middle, real: tl.constexpr):
    """Rays of columns of an upright detector, at a row: along the main axis, the other one and z, float64.

    And what a step from plane to plane adds to the other position, to z, to the depth, and to the distance of rows.
    """
    ox, oy, oz = _at(ray, column, middle)
    dx, dy, dz = _at(ray + 9, column, middle)
    om, oo = tl.where(along_y, oy, ox), tl.where(along_y, ox, oy)
    dm, do = tl.where(along_y, dy, dx), tl.where(along_y, dx, dy)
    slope, rise = (do / dm).to(real), (dz / dm).to(real)
    return om, oo, oz, dz, dm, do, slope, rise, (1.0 / dm).to(real), (tl.load(ray + 17) / dm).to(real)


@triton.jit
def _voxels(nx, blocks_x, blocks_y, SIDE, PX, PY, PIECES, LANES, real: tl.constexpr):
    """Indices of a program's voxels, the same from the middle of their block as floats, and the block's number."""
    tiles_x = tl.cdiv(nx, PX)
    p = tl.arange(0, PX * PY)[None, :, None]
    i, j = tl.program_id(0) % tiles_x * PX + p % PX, tl.program_id(0) // tiles_x * PY + p // PX
    depth = PIECES * LANES
    k = tl.program_id(1) * depth
    k += tl.arange(0, PIECES)[:, None, None] * LANES + tl.arange(0, LANES)[None, None, :]
    block_x, block_y = tl.program_id(0) % tiles_x * PX // SIDE, tl.program_id(0) // tiles_x * PY // SIDE
    di, dj = (i - (block_x * SIDE + SIDE // 2)).to(real), (j - (block_y * SIDE + SIDE // 2)).to(real)
    dk = (k - (tl.program_id(1) * depth + depth // 2)).to(real)
    return i, j, k, di, dj, dk, (tl.program_id(1) * blocks_y + block_y) * blocks_x + block_x


@triton.jit
def _below(position, origin):
    """The whole number below a position given from an origin (a whole number too), and the rest.

    Converting a number that int32 cannot hold gives the largest it can, or on the CPU the smallest: outside of
    everything in either case.
    """
    low = tl.floor(position)
    return low.to(tl.int32) + origin.to(tl.int32), position - low


@triton.jit
def _within(index, size):
    """Whether 0 <= index < size, in one comparison: negative numbers are large ones without sign."""
    return index.to(tl.uint32, bitcast=True) < size.to(tl.uint32, bitcast=True)


@triton.jit
def _split(position, real: tl.constexpr):
    """A float64 position as the whole number below it and the rest."""
    low = tl.floor(position)
    return low.to(tl.int32), (position - low).to(real)


@triton.jit
def _turned(main, x, y, z):
    """(x, y, z) in cyclic order from the main axis on."""
    a = tl.where(main == 0, x, tl.where(main == 1, y, z))
    b = tl.where(main == 0, y, tl.where(main == 1, z, x))
    c = tl.where(main == 0, z, tl.where(main == 1, x, y))
    return a, b, c


@triton.jit
def _at(ray, column, row):
    """A vector of a view's ray coefficients (origin or direction) at a pixel, float64."""
    c, r = column.to(tl.float64), row.to(tl.float64)
    x = tl.load(ray) + c * tl.load(ray + 3) + r * tl.load(ray + 6)
    y = tl.load(ray + 1) + c * tl.load(ray + 4) + r * tl.load(ray + 7)
    z = tl.load(ray + 2) + c * tl.load(ray + 5) + r * tl.load(ray + 8)
    return x, y, z
