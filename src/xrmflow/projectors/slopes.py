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

from xrmflow.projectors.resample import LANES

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

    LANES values behind the last ones of `values` and `weights` must exist, and keep their value.
    """
    f32, f64, i32, i64 = ir.FloatType(), ir.DoubleType(), ir.IntType(32), ir.IntType(64)
    floats, integers = ir.VectorType(f32, LANES), ir.VectorType(i32, LANES)

    def generate(context, builder, signature, arguments):
        sums, values, weights, count, a, b, share, start, step, k_first = arguments

        def at(address):
            return builder.inttoptr(address, floats.as_pointer())

        def load(address):
            value = builder.load(at(address))
            value.align = 4
            return value

        def spread(scalar, kind=floats):
            undefined = ir.Constant(kind, ir.Undefined)
            one = builder.insert_element(undefined, scalar, ir.Constant(i32, 0))
            return builder.shuffle_vector(one, undefined, ir.Constant(integers, [0] * LANES))

        def add(x, y):
            return builder.fadd(x, y, flags=("contract",))

        def times(x, y):
            return builder.fmul(x, y, flags=("contract",))

        def shifted(address, number):
            return builder.add(address, builder.mul(number, ir.Constant(i64, 4)))

        def pick(index, near, far):
            return builder.call(permute, [near, index, far])

        def add_pairs(x, y):
            """The sums of neighbouring lanes, those of x before those of y."""
            even, odd = (ir.Constant(integers, list(range(first, 2 * LANES, 2))) for first in (0, 1))
            return add(builder.shuffle_vector(x, y, even), builder.shuffle_vector(x, y, odd))

        permute = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(floats, [floats, integers, floats]), "llvm.x86.avx512.vpermi2var.ps.512"
        )
        lanes = ir.Constant(floats, [float(lane) for lane in range(LANES)])
        zero = ir.Constant(floats, [0.0] * LANES)
        back = builder.fmul(step, ir.Constant(f64, float(LANES - 1)))
        back = builder.select(builder.fcmp_ordered("<", back, ir.Constant(f64, 0.0)), back, ir.Constant(f64, 0.0))
        ramp = times(spread(builder.fptrunc(step, f32)), lanes)
        totals = [cgutils.alloca_once_value(builder, zero) for _ in range(6)]
        groups = builder.udiv(builder.add(count, ir.Constant(i64, LANES - 1)), ir.Constant(i64, LANES))
        with cgutils.for_range(builder, groups, intp=i64) as loop:
            done = builder.mul(loop.index, ir.Constant(i64, LANES))
            position = builder.fadd(start, builder.fmul(builder.sitofp(done, f64), step))
            lowest = builder.fadd(position, back)
            lowest = builder.select(
                builder.fcmp_ordered(">", lowest, ir.Constant(f64, 0.0)), lowest, ir.Constant(f64, 0.0)
            )
            base = builder.fptosi(lowest, i64)
            offset = builder.fptrunc(builder.fsub(position, builder.sitofp(base, f64)), f32)
            where = add(spread(offset), ramp)
            index = builder.fptosi(where, integers)
            following = builder.add(index, ir.Constant(integers, [1] * LANES))
            f = builder.fsub(where, builder.sitofp(index, floats))
            left = builder.trunc(builder.sub(count, done), i32)
            wanted = builder.icmp_signed("<", ir.Constant(integers, list(range(LANES))), spread(left, integers))
            # Two registers of each column, their difference, and the mix.
            column_a = [load(shifted(a, builder.add(base, ir.Constant(i64, n)))) for n in (0, LANES)]
            column_b = [load(shifted(b, builder.add(base, ir.Constant(i64, n)))) for n in (0, LANES)]
            difference = [builder.fsub(y, x) for x, y in zip(column_a, column_b, strict=True)]
            mix = [add(x, times(spread(share), d)) for x, d in zip(column_a, difference, strict=True)]
            first = pick(index, *mix)
            slope = builder.fsub(pick(following, *mix), first)
            value = add(first, times(f, slope))
            first = pick(index, *difference)
            across = add(first, times(f, builder.fsub(pick(following, *difference), first)))
            before = load(shifted(values, done))
            builder.store(builder.select(wanted, add(before, value), before), at(shifted(values, done))).align = 4
            g = builder.select(wanted, load(shifted(weights, done)), zero)
            k = add(spread(builder.fptrunc(builder.fadd(k_first, builder.sitofp(done, f64)), f32)), lanes)
            gk = builder.fmul(g, k)
            terms = [(g, across), (gk, across), (g, slope), (gk, slope), (builder.fmul(gk, k), slope), (g, value)]
            for total, (x, y) in zip(totals, terms, strict=True):
                builder.store(add(builder.load(total), times(x, y)), total)
        tree = [*map(builder.load, totals), zero, zero]
        while len(tree) > 1:
            tree = [add_pairs(x, y) for x, y in zip(tree[::2], tree[1::2], strict=True)]
        result = add_pairs(tree[0], zero)
        eight = builder.shuffle_vector(result, result, ir.Constant(ir.VectorType(i32, SUMS), list(range(SUMS))))
        builder.store(eight, builder.inttoptr(sums, ir.VectorType(f32, SUMS).as_pointer())).align = 4
        return context.get_dummy_value()

    address, real = types.intp, types.float32
    return types.void(
        address, address, address, types.int64, address, address, real, types.float64, types.float64, types.float64
    ), generate
