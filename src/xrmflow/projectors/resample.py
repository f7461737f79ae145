"""Reading two neighbouring columns at positions that grow linearly: the innermost loop of the column kernels.

Plain code mixes the columns into a buffer and reads that, which compilers turn into slow gathers. Where the processor
has AVX-512, float32 data take another way: sixteen consecutive positions at a pitch below 2 lie within 32 neighbouring
values, which two registers hold and one permute instruction (vpermi2ps, reached through an LLVM intrinsic: no compiler
needed) picks from.
"""

import os

import llvmlite.binding as llvm
import numpy as np
from numba import njit

from xrmflow.projectors.lanes import LANES, add_bent_sixteen, add_sixteen, spread_sixteen

FAST = {"contract", "nsz"}
# Voxels along x, and places along z or rows, that are worked on together: what they touch fits a processor's caches.
# DEPTH is BLOCK for the backprojection onto upright detectors, which touches less.
TILE, BLOCK, DEPTH = 16, 128, 256
# Planes across the main direction of rays, and columns of the detector, that are worked on together: likewise.
PLANES, COLUMNS = 8, 64
# A pitch up to which 16 positions and their successors stay within 32 values: 15 pitch + 2 <= 32.
MAX_PITCH = 1.99
# From this step on `spread_permuted` finds its values in 32: 15 / step + 5 <= 32; it needs EDGE zeros around them.
MIN_STEP, EDGE = 0.556, 4
# Change of the perspective from one of sixteen positions to the next, up to which `lanes` inverts it.
MAX_BEND = 1 / 256
# Shorter columns are not worth a register, and reading 32 values could leave the array.
MIN_LENGTH = 2 * LANES


def has_permute() -> bool:
    """Whether code may use AVX-512; numba's own CPU settings, which its cache knows about, switch it off."""
    overridden = os.environ.get("NUMBA_CPU_NAME") or os.environ.get("NUMBA_CPU_FEATURES")
    return not overridden and bool(llvm.get_host_cpu_features().get("avx512f", False))


PERMUTE = has_permute()


@njit(nogil=True, inline="always")
def fits_registers(step, length):
    """Whether columns of this length may be read at this pitch by `add_permuted`."""
    return abs(step) <= MAX_PITCH and length >= MIN_LENGTH


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def add_permuted(out, first, count, a, b, wa, wb, start, step):
    """out[k] += (wa * a + wb * b) at start + (first + k) step, k in range(count), for float32 given by address.

    Addresses, not arrays: counting references to arrays would cost more than the work on short columns. Sixteens are
    counted from where first + k is 0, so that a place gets the same bits wherever the outputs begin.

    Args:
        out: address of the first output.
        first: its number.
        count: number of outputs.
        a: address of position 0 in a column; the column may begin further on.
        b: address of it in another; at least one column lies behind both in memory.
        wa: weight of column a.
        wb: weight of column b.
        start: position of number 0; those of the outputs are at least 0.
        step: from one position to the next.
    """
    k, lanes, pitch = 0, min(LANES - (first & (LANES - 1)), count), np.float32(step)
    while k < count:
        position = start + (first + k) * step
        base = np.int64(position if step >= 0.0 else position + (lanes - 1) * step)
        offset = np.float32(position - base)
        add_sixteen(out + 4 * k, np.int32(lanes), a + 4 * base, b + 4 * base, wa, wb, offset, pitch)  # type: ignore[call-arg]
        k += lanes
        lanes = min(LANES, count - k)


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def add_plain(out, first, count, flat, a, b, wa, wb, start, step, length, buffer):
    """The same for any data: out[first + k] from the columns that start at flat[a] and flat[b], by way of a buffer.

    Args:
        out: outputs.
        first: index of the first one.
        count: number of outputs.
        flat: the array that holds the columns.
        a: index of the first value of one column.
        b: index of the first value of the other.
        wa: weight of column a.
        wb: weight of column b.
        start: position of the first output in the columns, at least 0.
        step: from one position to the next; all of them below length - 1.
        length: values in a column.
        buffer: room for a column.
    """
    real = flat.dtype.type
    end = start + step * (count - 1)
    low, high = np.int64(min(start, end)), min(np.int64(max(start, end)) + 3, length)
    left, right = flat[a + low : a + high], flat[b + low : b + high]
    for n in range(high - low):
        buffer[n] = wa * left[n] + wb * right[n]
    offset, pitch, target = real(start - low), real(step), out[first : first + count]
    for k in range(count):
        position = offset + pitch * real(k)
        n = np.int32(position)
        f = position - real(n)
        target[k] += buffer[n] + f * (buffer[n + 1] - buffer[n])


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def spread_permuted(out_a, out_b, count, source, wa, wb, start, step):
    """Transpose of reading two columns at positions that grow by `step`, gathered by the columns; float32 by address.

    out_a[k] += wa s[k], out_b[k] += wb s[k], k in range(count), with
    s[k] = sum over n of hat(step (start + k / step - n)) source[n], where hat(x) = max(0, 1 - |x|).

    Args:
        out_a: address of the first place of one column.
        out_b: address of the first place of the other.
        count: number of places.
        source: address of values with EDGE zeros on either side, then LANES more values of any kind.
        wa: weight of column a.
        wb: weight of column b.
        start: where among the values place 0 lies, EDGE included.
        step: from one value to the next, in places.
    """
    size = np.float32(abs(step))
    pitch = 1.0 / step
    half = abs(pitch)
    back = min((LANES - 1) * pitch, 0.0)
    low = start - half
    for k in range(0, count, LANES):
        position = low + k * pitch
        base = np.int64(max(position + back, 0.0))
        at, left = source + 4 * base, np.int32(count - k)
        offset, slope = np.float32(position - base), np.float32(pitch)
        if half <= 1.0:
            spread_sixteen(out_a + 4 * k, out_b + 4 * k, left, at, wa, wb, offset, slope, size, 2)  # type: ignore[call-arg]
        elif half <= 1.5:
            spread_sixteen(out_a + 4 * k, out_b + 4 * k, left, at, wa, wb, offset, slope, size, 3)  # type: ignore[call-arg]
        else:
            spread_sixteen(out_a + 4 * k, out_b + 4 * k, left, at, wa, wb, offset, slope, size, 4)  # type: ignore[call-arg]


@njit(nogil=True, inline="always")
def add_bent(out, count, data, height, weight, c, cz, r, rz, w, wz):
    """Read an array at positions that move on a straight line through space, seen in perspective; float32 by address.

    out[k] += weight * array at column (c + k cz) / (w + k wz), row (r + k rz) / (w + k wz), bilinear, for k from 0 on.
    Stops where sixteen positions do not lie within 32 rows or where perspective changes too fast, and returns how
    many outputs were done.

    Args:
        out: address of the first output.
        count: number of outputs.
        data: address of the array (column, row), with a row and a column of zeros around what is seen.
        height: values from one column to the next.
        weight: factor.
        c: of the first position.
        cz: its change.
        r: of the first position.
        rz: its change.
        w: of the first position.
        wz: its change; w + k wz > 0 for all outputs.
    """
    for k in range(0, count, LANES):
        scale = 1.0 / (w + k * wz)
        column, row, bend = (c + k * cz) * scale, (r + k * rz) * scale, wz * scale
        # With these slopes both are exact: (c + l cz) / (w + l wz) - c / w = l (cz - wz c / w) / (w + l wz).
        column_slope, row_slope = (cz - column * wz) * scale, (rz - row * wz) * scale
        end = min(LANES, count - k) - 1
        along = end / (1.0 + end * bend)
        last_column, last_row = column + column_slope * along, row + row_slope * along
        left, low = np.int64(min(column, last_column)), np.int64(min(row, last_row))
        if abs(bend) > MAX_BEND or np.int64(max(row, last_row)) - low > 2 * LANES - 2:
            return k
        columns = np.int64(max(column, last_column)) + 2 - left
        place = np.float32(column - left), np.float32(column_slope), np.float32(bend)
        place_row = np.float32(row - low), np.float32(row_slope)
        at, left_over = data + 4 * (left * height + low), np.int32(count - k)
        add_bent_sixteen(out + 4 * k, left_over, at, 4 * height, columns, np.float32(weight), place, place_row)  # type: ignore[call-arg]
    return count
