"""Sixteen float32 at once, in LLVM's own terms: what numba cannot be brought to say about AVX-512.

Sixteen positions at a pitch below 2 lie within 32 neighbouring values, which two registers hold and one permute
instruction (vpermi2ps) picks from: no gathers, and no compiler needed. Everything is given by address, since counting
references to arrays would cost more than the work on short columns. `xrmflow.projectors.resample` wraps these.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
_F32, _I32 = ir.FloatType(), ir.IntType(32)
_FLOATS, _INTEGERS, _BITS = ir.VectorType(_F32, LANES), ir.VectorType(_I32, LANES), ir.VectorType(ir.IntType(1), LANES)
ADDRESS, REAL, INTEGER = types.intp, types.float32, types.int32


class _Vectors:
    """Instructions on sixteen lanes, appended to a builder."""

    def __init__(self, builder):
        self._builder = builder
        module, pointer = builder.module, _FLOATS.as_pointer()
        self._permute = cgutils.get_or_insert_function(
            module, ir.FunctionType(_FLOATS, [_FLOATS, _INTEGERS, _FLOATS]), "llvm.x86.avx512.vpermi2var.ps.512"
        )
        self._store = cgutils.get_or_insert_function(
            module, ir.FunctionType(ir.VoidType(), [_FLOATS, pointer, _I32, _BITS]), "llvm.masked.store.v16f32.p0"
        )
        self._load = cgutils.get_or_insert_function(
            module, ir.FunctionType(_FLOATS, [pointer, _I32, _BITS, _FLOATS]), "llvm.masked.load.v16f32.p0"
        )
        self._maximum, self._magnitude = (
            cgutils.get_or_insert_function(module, ir.FunctionType(_FLOATS, [_FLOATS] * n), f"llvm.{name}.v16f32")
            for name, n in (("maxnum", 2), ("fabs", 1))
        )
        self.numbers = ir.Constant(_FLOATS, [float(lane) for lane in range(LANES)])
        self.one = self.constant(1.0)

    def constant(self, value):
        return ir.Constant(_FLOATS, [value] * LANES)

    def spread(self, scalar):
        """One number in all lanes."""
        kind = ir.VectorType(scalar.type, LANES)
        undefined = ir.Constant(kind, ir.Undefined)
        one = self._builder.insert_element(undefined, scalar, ir.Constant(_I32, 0))
        return self._builder.shuffle_vector(one, undefined, ir.Constant(_INTEGERS, [0] * LANES))

    def add(self, x, y):
        return self._builder.fadd(x, y, flags=("contract", "nsz"))

    def minus(self, x, y):
        return self._builder.fsub(x, y, flags=("contract", "nsz"))

    def times(self, x, y):
        return self._builder.fmul(x, y, flags=("contract", "nsz"))

    def line(self, offset, slope, x=None):
        """Give offset + slope x, by default x the number of the lane."""
        return self.add(self.spread(offset), self.times(self.spread(slope), self.numbers if x is None else x))

    def hat(self, distance):
        """max(0, 1 - |distance|)."""
        falling = self.minus(self.one, self._builder.call(self._magnitude, [distance]))
        return self._builder.call(self._maximum, [falling, self.constant(0.0)])

    def inverse(self, x):
        """1 / (1 + x) to float32 precision for |x| < 1/16, by one Newton step: a division would take longer."""
        guess = self.add(self.minus(self.one, x), self.times(x, x))
        rest = self.minus(self.constant(2.0), self.times(self.add(self.one, x), guess))
        return self.times(guess, rest)

    def split(self, position):
        """Whole part of positions that are not negative, and the rest."""
        index = self._builder.fptosi(position, _INTEGERS)
        return index, self.minus(position, self._builder.sitofp(index, _FLOATS))

    def at(self, address, shift=0):
        moved = self._builder.add(address, ir.Constant(address.type, 4 * shift))
        return self._builder.inttoptr(moved, _FLOATS.as_pointer())

    def load(self, address, shift=0):
        value = self._builder.load(self.at(address, shift))
        value.align = 4
        return value

    def pick(self, near, far, index, shift=0):
        """Values number index + shift of near and far, one after the other."""
        moved = self._builder.add(index, ir.Constant(_INTEGERS, [shift] * LANES)) if shift else index
        return self._builder.call(self._permute, [near, moved, far])

    def below(self, count):
        """The lanes whose number is below count."""
        numbers = ir.Constant(_INTEGERS, list(range(LANES)))
        return self._builder.icmp_signed("<", numbers, self.spread(count))

    def add_to(self, address, value, lanes):
        """Add to memory, in some lanes; the memory of the others is not touched."""
        place, alignment = self.at(address), ir.Constant(_I32, 4)
        before = self._builder.call(self._load, [place, alignment, lanes, self.constant(0.0)])
        self._builder.call(self._store, [self.add(before, value), place, alignment, lanes])


@intrinsic
def add_sixteen(typingctx, out, count, a, b, wa, wb, offset, pitch):
    """The lanes l < min(count, 16) of out[l] += (wa a + wb b) at offset + l pitch, read linearly."""

    def generate(context, builder, signature, arguments):
        out, count, a, b, wa, wb, offset, pitch = arguments
        v = _Vectors(builder)
        index, share = v.split(v.line(offset, pitch))
        near, far = (
            v.add(v.times(v.spread(wa), v.load(a, shift)), v.times(v.spread(wb), v.load(b, shift)))
            for shift in (0, LANES)
        )
        value, following = v.pick(near, far, index), v.pick(near, far, index, 1)
        v.add_to(out, v.add(value, v.times(share, v.minus(following, value))), v.below(count))
        return context.get_dummy_value()

    return types.void(ADDRESS, INTEGER, ADDRESS, ADDRESS, REAL, REAL, REAL, REAL), generate


@intrinsic
def spread_sixteen(typingctx, out_a, out_b, count, source, wa, wb, offset, pitch, step, taps):
    """The transpose of reading linearly, gathered: out_a[l] += wa s[l], out_b[l] += wb s[l], l < min(count, 16).

    s[l] = sum over n of source[n] hat(step (offset + half + l pitch - n)), half = 1 / step, pitch = +- half:
    what linear interpolation at positions `step` apart takes from place l, given back. `taps` (a literal) values of
    source have weight: as many whole numbers as may lie between offset + l pitch and 2 half further on.
    """

    def generate(context, builder, signature, arguments):
        out_a, out_b, count, source, wa, wb, offset, pitch, step, _ = arguments
        v = _Vectors(builder)
        index, share = v.split(v.line(offset, pitch))
        near, far = v.load(source), v.load(source, LANES)
        # Distance of the first value in units of 1 / step: (share + half - 1) step = 1 + (share - 1) step.
        slope = v.spread(step)
        distance = v.add(v.one, v.times(v.minus(share, v.one), slope))
        total = v.constant(0.0)
        for tap in range(taps.literal_value):
            weight = v.hat(v.minus(distance, v.times(v.constant(float(tap)), slope)))
            total = v.add(total, v.times(weight, v.pick(near, far, index, tap + 1)))
        lanes = v.below(count)
        for out, weight in ((out_a, wa), (out_b, wb)):
            v.add_to(out, v.times(v.spread(weight), total), lanes)
        return context.get_dummy_value()

    if not isinstance(taps, types.IntegerLiteral):
        return None
    return types.void(ADDRESS, ADDRESS, INTEGER, ADDRESS, REAL, REAL, REAL, REAL, REAL, taps), generate


@intrinsic
def add_bent_sixteen(typingctx, out, count, data, apart, columns, weight, place, row):
    """The lanes l < min(count, 16) of out[l] += weight * data at (column, row), read bilinearly.

    column = place[0] + place[1] l / (1 + place[2] l) and row = row[0] + row[1] l / (1 + place[2] l), both counted from
    where `data` points to; all of them lie between the first and the last of `columns` columns, `apart` bytes apart.
    """

    def generate(context, builder, signature, arguments):
        out, count, data, apart, columns, weight, place, row = arguments
        v = _Vectors(builder)
        (c, cz, bend), (r, rz) = (cgutils.unpack_tuple(builder, packed) for packed in (place, row))
        along = v.times(v.numbers, v.inverse(v.times(v.spread(bend), v.numbers)))
        index, share = v.split(v.line(r, rz, along))
        total, distance = (
            cgutils.alloca_once_value(builder, start) for start in (v.constant(0.0), v.line(c, cz, along))
        )
        with cgutils.for_range(builder, columns) as loop:
            address = builder.add(data, builder.mul(loop.index, apart))
            near, far = v.load(address), v.load(address, LANES)
            value, following = v.pick(near, far, index), v.pick(near, far, index, 1)
            value = v.add(value, v.times(share, v.minus(following, value)))
            left = builder.load(distance)
            builder.store(v.add(builder.load(total), v.times(v.hat(left), value)), total)
            builder.store(v.minus(left, v.one), distance)
        v.add_to(out, v.times(v.spread(weight), builder.load(total)), v.below(count))
        return context.get_dummy_value()

    place_type, row_type = types.UniTuple(REAL, 3), types.UniTuple(REAL, 2)
    return types.void(ADDRESS, INTEGER, ADDRESS, ADDRESS, types.intp, REAL, place_type, row_type), generate
