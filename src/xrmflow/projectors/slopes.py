"""Slopes along two neighbouring columns at positions that grow linearly: the innermost loop of the sensitivities.

The same reading as in `xrmflow.projectors.resample`, in plain code and with AVX-512, but instead of values its sums are
wanted: with M the mix (1 - share) a + share b, read linearly at the positions start + n step, and weights g,

    sums[0, 1]     of g, g k times dM/dshare
    sums[2, 3, 4]  of g, g k, g k^2 times dM/dposition (within its interval)
    sums[5]        of g M

where k counts positions from a middle, so that sums of float32 numbers do not cancel when they are combined.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from xrmflow.projectors.lanes import LANES, _Vectors
from xrmflow.projectors.resample import MAX_BEND

SUMS = 8


@njit(nogil=True, cache=True, fastmath={"contract", "nsz", "reassoc"}, error_model="numpy")
def slopes_plain(sums, values, weights, count, flat, a, b, share, start, step, k_first, length, buffer):
    """Fill `sums`, and add M to `values`.

    Args:
        sums: (8,), of which 6 are used.
        values: outputs, at least `count`.
        weights: g, at least `count`.
        count: number of positions.
        flat: the array that holds the columns.
        a: index of the first value of one column.
        b: index of the first value of the other.
        share: of column b in the mix.
        start: first position in the columns, at least 0.
        step: from one position to the next; all of them below length - 1.
        k_first: k of the first position.
        length: values in a column.
        buffer: (2, length), room for the mix and the difference.
    """
    real = flat.dtype.type
    end = start + step * (count - 1)
    low, high = np.int64(min(start, end)), min(np.int64(max(start, end)) + 3, length)
    mix, difference = buffer[0], buffer[1]
    for n in range(high - low):
        difference[n] = flat[b + low + n] - flat[a + low + n]
        mix[n] = flat[a + low + n] + share * difference[n]
    offset, pitch = real(start - low), real(step)
    d, dk, s, sk, skk, v = real(0), real(0), real(0), real(0), real(0), real(0)
    for n in range(count):
        position = offset + pitch * real(n)
        at = np.int32(position)
        f = position - real(at)
        slope, across = mix[at + 1] - mix[at], difference[at] + f * (difference[at + 1] - difference[at])
        value, g, k = mix[at] + f * slope, weights[n], real(k_first + n)
        values[n] += value
        d += g * across
        dk += g * k * across
        s += g * slope
        sk += g * k * slope
        skk += g * k * k * slope
        v += g * value
    sums[0], sums[1], sums[2], sums[3], sums[4], sums[5] = d, dk, s, sk, skk, v


@intrinsic
def slopes_permuted(typingctx, sums, values, weights, count, a, b, share, start, step, k_first):
    """The same for float32 given by address, at pitches and lengths that `fits_registers`.

    LANES values behind the last one of `weights` must exist.
    """
    f32, f64, i32, i64 = ir.FloatType(), ir.DoubleType(), ir.IntType(32), ir.IntType(64)

    def generate(context, builder, signature, arguments):
        sums, values, weights, count, a, b, share, start, step, k_first = arguments
        v = _Vectors(builder)
        zero, none = v.constant(0.0), ir.Constant(f64, 0.0)

        def shifted(address, number):
            return builder.add(address, builder.mul(number, ir.Constant(i64, 4)))

        back = builder.fmul(step, ir.Constant(f64, float(LANES - 1)))
        back = builder.select(builder.fcmp_ordered("<", back, none), back, none)
        ramp = v.times(v.spread(builder.fptrunc(step, f32)), v.numbers)
        totals = [cgutils.alloca_once_value(builder, zero) for _ in range(6)]
        groups = builder.udiv(builder.add(count, ir.Constant(i64, LANES - 1)), ir.Constant(i64, LANES))
        with cgutils.for_range(builder, groups, intp=i64) as loop:
            done = builder.mul(loop.index, ir.Constant(i64, LANES))
            position = builder.fadd(start, builder.fmul(builder.sitofp(done, f64), step))
            lowest = builder.fadd(position, back)
            base = builder.fptosi(builder.select(builder.fcmp_ordered(">", lowest, none), lowest, none), i64)
            offset = builder.fptrunc(builder.fsub(position, builder.sitofp(base, f64)), f32)
            index, f = v.split(v.add(v.spread(offset), ramp))
            # Two registers of each column, their difference, and the mix.
            column_a, column_b = ([v.load(shifted(x, base), n) for n in (0, LANES)] for x in (a, b))
            difference = [v.minus(y, x) for x, y in zip(column_a, column_b, strict=True)]
            mix = [v.add(x, v.times(v.spread(share), d)) for x, d in zip(column_a, difference, strict=True)]
            first = v.pick(mix[0], mix[1], index)
            slope = v.minus(v.pick(mix[0], mix[1], index, 1), first)
            value = v.add(first, v.times(f, slope))
            first = v.pick(difference[0], difference[1], index)
            across = v.add(first, v.times(f, v.minus(v.pick(difference[0], difference[1], index, 1), first)))
            wanted = v.below(builder.trunc(builder.sub(count, done), i32))
            before = v.load(shifted(values, done))
            total = builder.select(wanted, v.add(before, value), before)
            builder.store(total, v.at(shifted(values, done))).align = 4
            g = builder.select(wanted, v.load(shifted(weights, done)), zero)
            k = v.add(v.spread(builder.fptrunc(builder.fadd(k_first, builder.sitofp(done, f64)), f32)), v.numbers)
            gk = v.times(g, k)
            terms = [(g, across), (gk, across), (g, slope), (gk, slope), (v.times(gk, k), slope), (g, value)]
            for total, (x, y) in zip(totals, terms, strict=True):
                builder.store(v.add(builder.load(total), v.times(x, y)), total)
        eight = _lane_sums(builder, [*map(builder.load, totals), zero, zero])
        builder.store(eight, builder.inttoptr(sums, eight.type.as_pointer())).align = 4
        return context.get_dummy_value()

    address, real = types.intp, types.float32
    return types.void(
        address, address, address, types.int64, address, address, real, types.float64, types.float64, types.float64
    ), generate


@njit(nogil=True, inline="always")
def slopes_bent(sums, values, weights, count, data, height, c, cz, r, rz, w, wz, k_first, c_middle, r_middle):
    """The same along a straight line through space, seen in perspective: see `add_bent` in `resample`; float32.

    With V the array at column (c + k cz) / (w + k wz), row (r + k rz) / (w + k wz), adds V to `values`, and to `sums`

        [0, 1]  of g, g k times dV/dcolumn / (w + k wz)
        [2, 3]  likewise of dV/drow
        [4, 5]  likewise of dV/dcolumn (column - c_middle) + dV/drow (row - r_middle)
        [6]     of g V

    Args:
        sums: address of SUMS float64.
        values: address of the outputs.
        weights: address of g; LANES values behind the last one must exist.
        count: number of positions.
        data: address of the array (column, row), with a row and a column of zeros around what is seen.
        height: values from one column to the next.
        c, cz, r, rz, w, wz: position and perspective of the first one, and their changes.
        k_first: k of the first one in the sums.
        c_middle, r_middle: place on the array.

    Returns:
        How many positions were done before sixteen did not fit into registers.
    """
    for k in range(0, count, LANES):
        scale = 1.0 / (w + k * wz)
        column, row, bend = (c + k * cz) * scale, (r + k * rz) * scale, wz * scale
        column_slope, row_slope = (cz - column * wz) * scale, (rz - row * wz) * scale
        end = min(LANES, count - k) - 1
        along = end / (1.0 + end * bend)
        last_column, last_row = column + column_slope * along, row + row_slope * along
        left, low = np.int64(min(column, last_column)), np.int64(min(row, last_row))
        if abs(bend) > MAX_BEND or np.int64(max(row, last_row)) - low > 2 * LANES - 2:
            return k
        number = np.int64(max(column, last_column)) + 2 - left
        line = (
            np.float32(column - left),
            np.float32(column_slope),
            np.float32(row - low),
            np.float32(row_slope),
            np.float32(bend),
            np.float32(scale),
            np.float32(left - c_middle),
            np.float32(low - r_middle),
            np.float32(k_first + k),
        )
        at = data + 4 * (left * height + low)
        _bent_sixteen(sums, values + 4 * k, weights + 4 * k, np.int32(count - k), at, 4 * height, number, line)  # type: ignore[call-arg]
    return count


@intrinsic
def _bent_sixteen(typingctx, sums, values, weights, count, data, apart, columns, line):
    """Sixteen positions of `slopes_bent`; `line` holds its float32 numbers, counted from where `data` points to."""

    def generate(context, builder, signature, arguments):
        sums, values, weights, count, data, apart, columns, line = arguments
        v = _Vectors(builder)
        c, cz, r, rz, bend, scale, c_from, r_from, k_first = cgutils.unpack_tuple(builder, line)
        inverse = v.inverse(v.times(v.spread(bend), v.numbers))
        along = v.times(v.numbers, inverse)
        column, row = v.line(c, cz, along), v.line(r, rz, along)
        (left, share_c), (index, share_r) = v.split(column), v.split(row)
        # Value and slope along the row in the columns before and behind each position.
        found = [cgutils.alloca_once_value(builder, v.constant(0.0)) for _ in range(4)]
        with cgutils.for_range(builder, columns) as loop:
            address = builder.add(data, builder.mul(loop.index, apart))
            near, far = v.load(address), v.load(address, LANES)
            value = v.pick(near, far, index)
            slope = v.minus(v.pick(near, far, index, 1), value)
            value = v.add(value, v.times(share_r, slope))
            number = builder.trunc(loop.index, ir.IntType(32))
            for side, (at_value, at_slope) in enumerate((found[:2], found[2:])):
                here = builder.icmp_signed("==", left, v.spread(builder.sub(number, ir.Constant(number.type, side))))
                builder.store(builder.select(here, value, builder.load(at_value)), at_value)
                builder.store(builder.select(here, slope, builder.load(at_slope)), at_slope)
        value, slope, next_value, next_slope = map(builder.load, found)
        by_column = v.minus(next_value, value)
        by_row = v.add(slope, v.times(share_c, v.minus(next_slope, slope)))
        value = v.add(value, v.times(share_c, by_column))
        wanted = v.below(count)
        v.add_to(values, value, wanted)
        g = builder.select(wanted, v.load(weights), v.constant(0.0))
        scaled = v.times(g, v.times(v.spread(scale), inverse))
        by_column, by_row = v.times(scaled, by_column), v.times(scaled, by_row)
        outward = v.add(
            v.times(by_column, v.add(column, v.spread(c_from))), v.times(by_row, v.add(row, v.spread(r_from)))
        )
        k = v.add(v.spread(k_first), v.numbers)
        terms = [x for term in (by_column, by_row, outward) for x in (term, v.times(k, term))]
        eight = builder.fpext(
            _lane_sums(builder, [*terms, v.times(g, value), v.constant(0.0)]), ir.VectorType(ir.DoubleType(), SUMS)
        )
        address = builder.inttoptr(sums, eight.type.as_pointer())
        before = builder.load(address)
        before.align = 8
        builder.store(builder.fadd(before, eight), address).align = 8
        return context.get_dummy_value()

    address, real = types.intp, types.float32
    numbers = types.UniTuple(real, 9)
    return types.void(address, address, address, types.int32, address, types.intp, types.intp, numbers), generate


def _lane_sums(builder, vectors):
    """The sums over the lanes of each of eight vectors, as one vector of eight."""
    integers = ir.VectorType(ir.IntType(32), LANES)
    even, odd = (ir.Constant(integers, list(range(first, 2 * LANES, 2))) for first in (0, 1))

    def pairs(x, y):
        return builder.fadd(builder.shuffle_vector(x, y, even), builder.shuffle_vector(x, y, odd))

    while len(vectors) > 1:
        vectors = [pairs(x, y) for x, y in zip(vectors[::2], vectors[1::2], strict=True)]
    total = pairs(vectors[0], vectors[0])
    return builder.shuffle_vector(total, total, ir.Constant(ir.VectorType(ir.IntType(32), SUMS), list(range(SUMS))))


@njit(nogil=True, cache=True, inline="always")
def add_slopes(part, source, at, height, g, k, c, r, w, c_middle, r_middle):
    """Add to `part` what one position contributes to the sums of `slopes_bent`; returns the value there."""
    real, scale = source.dtype.type, 1.0 / w
    column, row = c * scale, r * scale
    p, q = np.int64(column), np.int64(row)
    fc, fr = real(column - p), real(row - q)
    n = at + p * height + q
    slope_low, slope_high = source[n + 1] - source[n], source[n + height + 1] - source[n + height]
    a, b = source[n] + fr * slope_low, source[n + height] + fr * slope_high
    by_c, by_r = g * scale * (b - a), g * scale * (slope_low + fc * (slope_high - slope_low))
    outward = by_c * (column - c_middle) + by_r * (row - r_middle)
    value = a + fc * (b - a)
    part[0] += by_c
    part[1] += k * by_c
    part[2] += by_r
    part[3] += k * by_r
    part[4] += outward
    part[5] += k * outward
    part[6] += g * value
    return value


@njit(nogil=True, cache=True, inline="always")
def from_middles(part, k_middle, c_middle, r_middle):
    """Gradients to (c, cz, r, rz, w, wz), without margins, from the sums about a middle."""
    c, r = part[0], part[2]
    ck, rk = part[1] + k_middle * c, part[3] + k_middle * r
    w, wk = part[4] + c_middle * c + r_middle * r, part[5] + c_middle * part[1] + r_middle * part[3]
    return c, ck, r, rk, -w, -(wk + k_middle * w)
