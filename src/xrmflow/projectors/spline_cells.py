"""What one cell between knot planes adds to the line integral of a tensor-product B-spline: straight-line vector code.

Between the knot planes a spline of degree n is a polynomial, so along a ray it is one of degree 3 n, and Gauss's rule
with (3 n + 1) / 2 points integrates it exactly. The few points of the rule are the lanes of one vector; the (n + 1)^3
coefficients of the cell are contracted axis by axis. Loops this short defeat compilers
(plain numba code took 2.8 times as long at degree 2), so the code is unrolled here and handed to LLVM, which has
vectors on every processor.

The degree must be known when code is made. Kernels get it as the length of a tuple, `order`, with n + 1 entries of
any value: numba compiles a version for each length.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

INDEX = ir.IntType(32)
# Products may be fused with sums, and a sum over lanes taken in pairs: the same code always gives the same bits.
FUSED, PAIRED = ("contract",), ("contract", "reassoc")


def gauss_points(degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights on [0, 1] that integrate polynomials of degree 3 `degree` exactly."""
    points, weights = np.polynomial.legendre.leggauss(max(1, (3 * degree + 2) // 2))
    return (points + 1) / 2, weights / 2


class _Lanes:
    """A vector in the code being made, with the operators of arithmetic; numbers stand for all lanes alike."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def _other(self, other: "_Lanes | float") -> Any:
        if isinstance(other, _Lanes):
            return other.value
        return ir.Constant(self.value.type, [float(other)] * self.value.type.count)

    def __add__(self, other: "_Lanes | float") -> "_Lanes":
        return _Lanes(self.builder, self.builder.fadd(self.value, self._other(other), flags=FUSED))

    def __sub__(self, other: "_Lanes | float") -> "_Lanes":
        return _Lanes(self.builder, self.builder.fsub(self.value, self._other(other), flags=FUSED))

    def __rsub__(self, other: float) -> "_Lanes":
        return _Lanes(self.builder, self.builder.fsub(self._other(other), self.value, flags=FUSED))

    def __mul__(self, other: "_Lanes | float") -> "_Lanes":
        return _Lanes(self.builder, self.builder.fmul(self.value, self._other(other), flags=FUSED))

    __radd__, __rmul__ = __add__, __mul__

    def total(self) -> Any:
        """Sum of the lanes."""
        vector, scalar = self.value.type, self.value.type.element
        name = f"llvm.vector.reduce.fadd.v{vector.count}f{32 if isinstance(scalar, ir.FloatType) else 64}"
        kind = ir.FunctionType(scalar, [scalar, vector])
        reduce = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(reduce, [ir.Constant(scalar, 0.0), self.value], fastmath=PAIRED)


def _basis(u: Any, degree: int) -> list[Any]:
    """Values at 0 <= u <= 1 of the B-splines that are not zero there, in the order of their coefficients."""
    v = 1.0 - u
    if degree == 0:
        return [u * 0.0 + 1.0]
    if degree == 1:
        return [v, u]
    if degree == 2:
        return [0.5 * v * v, u * v + 0.5, 0.5 * u * u]
    first, last = v * v, u * u
    return [v * first * (1 / 6), 2 / 3 - last * (1.0 - 0.5 * u), 2 / 3 - first * (1.0 - 0.5 * v), u * last * (1 / 6)]


def _slopes(u: Any, degree: int) -> list[Any]:
    """Their derivatives, B^n' = B^(n-1)(. + 1/2) - B^(n-1)(. - 1/2)."""
    lower = _basis(u, degree - 1)
    return [0.0 - lower[0], *[a - b for a, b in pairwise(lower)], lower[-1]]


def _sum(terms: list[Any]) -> Any:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


class _Cell:
    """The code of one cell: where the points of the rule lie, and the coefficients around."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        order, real = signature.args[0], signature.args[2].dtype
        self.builder, self.degree = builder, len(order) - 1
        self.scalar = context.get_value_type(real)
        self.bytes = real.bitwidth // 8
        points, weights = gauss_points(self.degree)
        self.vector = ir.VectorType(self.scalar, len(points))
        self.points, self.weights = (_Lanes(builder, ir.Constant(self.vector, list(x))) for x in (points, weights))
        _, self.address, start, change, self.strides = arguments[:5]
        self.places = [
            self.spread(builder.extract_value(start, axis))
            + self.spread(builder.extract_value(change, axis)) * self.points
            for axis in range(3)
        ]

    def spread(self, scalar: ir.Value) -> _Lanes:
        """The same number in all lanes."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        one = self.builder.insert_element(undefined, scalar, INDEX(0))
        lanes = ir.Constant(ir.VectorType(INDEX, self.vector.count), [0] * self.vector.count)
        return _Lanes(self.builder, self.builder.shuffle_vector(one, undefined, lanes))

    def values(self, axis: int) -> list[_Lanes]:
        return _basis(self.places[axis], self.degree)

    def slopes(self, axis: int) -> list[_Lanes]:
        return _slopes(self.places[axis], self.degree)

    def pointer(self, *steps: int) -> ir.Value:
        """Address of the coefficient that lies `steps` further along the axes."""
        place = self.address
        for axis, step in enumerate(steps):
            stride = self.builder.extract_value(self.strides, axis)
            moved = self.builder.mul(stride, ir.Constant(stride.type, step * self.bytes))
            place = self.builder.add(place, moved)
        return self.builder.inttoptr(place, self.scalar.as_pointer())

    def coefficient(self, *steps: int) -> _Lanes:
        return self.spread(self.builder.load(self.pointer(*steps)))

    def along_first(self, basis: list[_Lanes], second: int, third: int) -> _Lanes:
        """Coefficients contracted with a basis of the first axis."""
        return _sum([self.coefficient(step, second, third) * value for step, value in enumerate(basis)])

    def across(self, basis: list[_Lanes], point: int) -> _Lanes:
        """The basis at one point, with its functions as lanes."""
        row = ir.Constant(ir.VectorType(self.scalar, len(basis)), ir.Undefined)
        for n, values in enumerate(basis):
            one = self.builder.extract_element(values.value, INDEX(point))
            row = self.builder.insert_element(row, one, INDEX(n))
        return _Lanes(self.builder, row)

    def pick(self, lanes: _Lanes, point: int) -> _Lanes:
        """One lane as all lanes of a row of coefficients."""
        places = ir.Constant(ir.VectorType(INDEX, self.degree + 1), [point] * (self.degree + 1))
        return _Lanes(self.builder, self.builder.shuffle_vector(lanes.value, lanes.value, places))

    def add_row(self, second: int, third: int, row: _Lanes) -> None:
        """Add to the coefficients that follow each other in memory."""
        place = self.builder.bitcast(self.pointer(0, second, third), row.value.type.as_pointer())
        before = self.builder.load(place)
        after = self.builder.store((row + _Lanes(self.builder, before)).value, place)
        before.align = after.align = self.bytes

    def result(self, context: Any, signature: Any, sums: list[_Lanes]) -> Any:
        return context.make_tuple(self.builder, signature.return_type, [x.total() for x in sums])


def _typed(function: Callable) -> Any:
    """Numba's `intrinsic`, whose results type checkers take for functions with one argument more."""
    return intrinsic(function)


def _cell_code(write: Callable[[_Cell, Any, Any, Any], Any]) -> Callable:
    """Code generator of an intrinsic from a function that writes it for a cell."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return write(_Cell(context, builder, signature, arguments), context, signature, arguments)

    return generate


@_typed
def cell_mean(typingctx, order, address, start, change, strides):
    """Mean of the spline along its way through a cell.

    Args:
        order: tuple whose length is the degree + 1.
        address: of the cell's first coefficient.
        start: where the ray enters, as three fractions of the cell.
        change: from there to where it leaves.
        strides: of the coefficients along these three axes, in elements.

    Returns:
        A tuple of one number.
    """

    def write(cell, context, signature, arguments):
        n = range(cell.degree + 1)
        first, second, third = (cell.values(axis) for axis in range(3))
        rows = [_sum([cell.along_first(first, j, k) * second[j] for j in n]) for k in n]
        total = _sum([row * value for row, value in zip(rows, third, strict=True)])
        return cell.result(context, signature, [total * cell.weights])

    result = types.UniTuple(start.dtype, 1)
    return result(order, address, start, change, strides), _cell_code(write)


@_typed
def cell_slopes(typingctx, order, address, start, change, strides):
    """Means, as `cell_mean`, of five functions: f, df/db, df/dc, x df/db, x df/dc.

    Here a, b, c are the three axes and x runs from 0 to 1 along the way; df/da follows from the ends of the ray.
    """

    def write(cell, context, signature, arguments):
        n = range(cell.degree + 1)
        first, second, third = (cell.values(axis) for axis in range(3))
        second_slopes, third_slopes = cell.slopes(1), cell.slopes(2)
        rows = [[cell.along_first(first, j, k) for j in n] for k in n]
        plain = [_sum([row[j] * second[j] for j in n]) for row in rows]
        sloped = [_sum([row[j] * second_slopes[j] for j in n]) for row in rows]
        value = _sum([plain[k] * third[k] for k in n]) * cell.weights
        b = _sum([sloped[k] * third[k] for k in n]) * cell.weights
        c = _sum([plain[k] * third_slopes[k] for k in n]) * cell.weights
        return cell.result(context, signature, [value, b, c, b * cell.points, c * cell.points])

    result = types.UniTuple(start.dtype, 5)
    return result(order, address, start, change, strides), _cell_code(write)


@_typed
def add_to_cell(typingctx, order, address, start, change, strides, amount):
    """Transpose of `cell_mean`: adds `amount` times each coefficient's weight to it; the first stride must be 1."""

    def write(cell, context, signature, arguments):
        first, second, third = (cell.values(axis) for axis in range(3))
        amount = cell.spread(arguments[5]) * cell.weights
        points = range(cell.vector.count)
        rows = [cell.across(first, point) for point in points]
        for k in range(cell.degree + 1):
            in_plane = third[k] * amount
            for j in range(cell.degree + 1):
                in_row = in_plane * second[j]
                cell.add_row(j, k, _sum([rows[point] * cell.pick(in_row, point) for point in points]))
        return context.get_dummy_value()

    return types.void(order, address, start, change, strides, amount), _cell_code(write)
