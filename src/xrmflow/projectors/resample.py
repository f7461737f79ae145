"""Reading two neighbouring columns at positions that grow linearly: the innermost loop of the column kernels.

Plain code mixes the columns into a buffer and reads that, which compilers turn into slow gathers. Where the processor
has AVX-512, float32 data take another way: sixteen consecutive positions at a pitch below 2 lie within 32 neighbouring
values, which two registers hold and one permute instruction (vpermi2ps, reached through an LLVM intrinsic: no compiler
needed) picks from.
"""

import os

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

FAST = {"contract", "nsz"}
LANES = 16
# A pitch up to which 16 positions and their successors stay within 32 values: 15 pitch + 2 <= 32.
MAX_PITCH = 1.99
# Shorter columns are not worth a register, and reading 32 values could leave the array.
MIN_LENGTH = 2 * LANES
# Fewer positions than this are read one by one, without a buffer.
FEW = 10


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
def add_permuted(out, count, a, b, wa, wb, start, step):
    """out[k] += (wa * a + wb * b) at start + k step, k in range(count), for float32 given by address.

    Addresses, not arrays: counting references to arrays would cost more than the work on short columns.

    Args:
        out: address of the first output; LANES values behind the last one must exist, and keep their value.
        count: number of outputs.
        a: address of a column.
        b: address of another; at least one column lies behind both in memory.
        wa: weight of column a.
        wb: weight of column b.
        start: position of the first output in the columns, at least 0.
        step: from one position to the next.
    """
    back = min((LANES - 1) * step, 0.0)
    for k in range(0, count, LANES):
        position = start + k * step
        base = np.int64(max(position + back, 0.0))
        offset, left = np.float32(position - base), np.int32(count - k)
        _add_sixteen(out + 4 * k, left, a + 4 * base, b + 4 * base, wa, wb, offset, np.float32(step))  # type: ignore[call-arg]


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


@intrinsic
def _add_sixteen(typingctx, out, count, a, b, wa, wb, offset, pitch):
    """The lanes l < min(count, 16) of out[l] += (wa a + wb b) at offset + l pitch, everything given by address."""
    f32, i32 = ir.FloatType(), ir.IntType(32)
    floats, integers = ir.VectorType(f32, LANES), ir.VectorType(i32, LANES)

    def generate(context, builder, signature, arguments):
        out, count, a, b, wa, wb, offset, pitch = arguments

        def at(address, shift=0):
            moved = builder.add(address, ir.Constant(address.type, 4 * shift))
            return builder.inttoptr(moved, floats.as_pointer())

        def load(address, shift=0):
            value = builder.load(at(address, shift))
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
            return add(times(spread(wa), load(a, shift)), times(spread(wb), load(b, shift)))

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
        before = load(out)
        total = add(before, add(value, times(share, builder.fsub(following, value))))
        wanted = builder.icmp_signed("<", ir.Constant(integers, list(range(LANES))), spread(count, integers))
        builder.store(builder.select(wanted, total, before), at(out)).align = 4
        return context.get_dummy_value()

    address, real = types.intp, types.float32
    return types.void(address, types.int32, address, address, real, real, real, real), generate
