"""Reading two neighbouring columns at positions that grow linearly: the innermost loop of the column kernels.

Plain code mixes the columns into a buffer and reads that, which compilers turn into slow gathers. Where the processor
has AVX-512, float32 data take another way: sixteen consecutive positions at a pitch below 2 lie within 32 neighbouring
values, which two registers hold and one permute instruction (vpermi2ps, reached through an LLVM intrinsic: no compiler
needed) picks from.
"""

import os
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

FAST = {"contract", "nsz"}
LANES = 16
# A pitch up to which 16 positions and their successors stay within 32 values: 15 pitch + 2 <= 32.
MAX_PITCH = 1.99
# Shorter columns are not worth a register, and reading 32 values could leave the array.
MIN_LENGTH = 2 * LANES


def has_permute() -> bool:
    """Whether code may use AVX-512; numba's own CPU settings, which its cache knows about, switch it off."""
    overridden = os.environ.get("NUMBA_CPU_NAME") or os.environ.get("NUMBA_CPU_FEATURES")
    return not overridden and bool(llvm.get_host_cpu_features().get("avx512f", False))


PERMUTE = has_permute()


def add_mixed(
    out: Any,
    first: Any,
    count: Any,
    flat: Any,
    a: Any,
    b: Any,
    wa: Any,
    wb: Any,
    start: Any,
    step: Any,
    length: Any,
    buffer: Any,
) -> None:
    """out[first + k] += (wa * column a + wb * column b) at start + k step, k in range(count); in compiled code only.

    Args:
        out: as long as first + count + LANES.
        first: first output.
        count: number of outputs.
        flat: the array that holds the columns.
        a: index of the first value of one column.
        b: index of the first value of the other; at least one column lies behind both in `flat`.
        wa: weight of column a.
        wb: weight of column b.
        start: position of the first output in the columns, at least 0.
        step: from one position to the next; all of them below length - 1.
        length: values in a column.
        buffer: room for a column.
    """
    raise NotImplementedError("called from compiled code only")


@overload(add_mixed, jit_options={"nogil": True, "fastmath": FAST, "error_model": "numpy"})
def _add_mixed(out, first, count, flat, a, b, wa, wb, start, step, length, buffer):
    return _by_permute if PERMUTE and flat.dtype == types.float32 else _plain


def _plain(out, first, count, flat, a, b, wa, wb, start, step, length, buffer):
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


def _by_permute(out, first, count, flat, a, b, wa, wb, start, step, length, buffer):
    if abs(step) > MAX_PITCH or length < MIN_LENGTH:
        plain(out, first, count, flat, a, b, wa, wb, start, step, length, buffer)
        return
    back = min((LANES - 1) * step, 0.0)
    for k in range(0, count, LANES):
        position = start + k * step
        base = np.int64(max(position + back, 0.0))
        offset, left = np.float32(position - base), np.int32(count - k)
        _add_sixteen(out, first + k, left, flat, a + base, b + base, wa, wb, offset, np.float32(step))  # type: ignore[call-arg]


plain = njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")(_plain)


@intrinsic
def _add_sixteen(typingctx, out, at, count, flat, a, b, wa, wb, offset, pitch):
    """out[at + l] += (wa flat[a + ...] + wb flat[b + ...]) at offset + l pitch, for the lanes l < min(count, 16)."""
    f32, i32 = ir.FloatType(), ir.IntType(32)
    floats, integers = ir.VectorType(f32, LANES), ir.VectorType(i32, LANES)

    def generate(context, builder, signature, arguments):
        out, at, count, flat, a, b, wa, wb, offset, pitch = arguments

        def address(kind, array, index):
            data = context.make_array(kind)(context, builder, value=array).data
            return builder.bitcast(builder.gep(data, [index]), floats.as_pointer())

        def load(where):
            value = builder.load(where)
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

        def mixed(shift):
            left, right = (
                load(address(signature.args[3], flat, builder.add(index, index.type(shift)))) for index in (a, b)
            )
            return add(times(spread(wa), left), times(spread(wb), right))

        def pick(index):
            return builder.call(permute, [near, index, far])

        permute = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(floats, [floats, integers, floats]), "llvm.x86.avx512.vpermi2var.ps.512"
        )
        lanes = ir.Constant(floats, [float(lane) for lane in range(LANES)])
        position = add(spread(offset), times(spread(pitch), lanes))
        index = builder.fptosi(position, integers)
        share = builder.fsub(position, builder.sitofp(index, floats))
        near, far = mixed(0), mixed(LANES)
        value, following = pick(index), pick(builder.add(index, ir.Constant(integers, [1] * LANES)))
        target = address(signature.args[0], out, at)
        before = load(target)
        total = add(before, add(value, times(share, builder.fsub(following, value))))
        wanted = builder.icmp_signed("<", ir.Constant(integers, list(range(LANES))), spread(count, integers))
        builder.store(builder.select(wanted, total, before), target).align = 4
        return context.get_dummy_value()

    index, real = types.intp, types.float32
    return types.void(out, index, types.int32, flat, index, index, real, real, real, real), generate
