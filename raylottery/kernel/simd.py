"""Vectors of floats as values in compiled code: what a C compiler calls intrinsics.

Numba leaves it to LLVM to find vectors in a loop, which it does not do for tiles of sums that
stay in registers. Here they are written out: a `wide` value holds 64 floats, one for each example
of a batch, a `narrow` one 16, and LLVM lays them into as many registers as they need. Products are
fused with their additions where the processor can; sums across a vector add in an order that is
written here. So results do not depend on alignment, on the compiler's mood or on neighbours.

Nothing here looks at bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.extending import intrinsic as numba_intrinsic
from numba.extending import register_model


NARROW, WIDE = 16, 64
FLOAT = ir.FloatType()


def intrinsic(function: Callable) -> Callable[..., Any]:
    """As Numba has it; what it is called with in compiled code is not what is declared."""
    return numba_intrinsic(function)


class Lanes(types.Type):
    """The type of a vector, by its width."""

    def __init__(self, width: int):
        self.width = width
        super().__init__(name=f"Lanes({width})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, kind: Lanes):
        super().__init__(manager, kind, _vector(kind.width))


_KINDS = {width: Lanes(width) for width in (NARROW, WIDE)}


def _vector(width: int) -> ir.VectorType:
    return ir.VectorType(FLOAT, width)


def _integers(values) -> ir.Constant:
    return ir.Constant(ir.VectorType(ir.IntType(32), len(values)), list(values))


def _shuffled(builder, a, b, order):
    return builder.shuffle_vector(a, b, _integers(order))


def _filled(builder, scalar, width: int):
    blank = ir.Constant(_vector(width), ir.Undefined)
    first = builder.insert_element(blank, scalar, ir.Constant(ir.IntType(32), 0))
    return _shuffled(builder, first, blank, [0] * width)


def _zero(width: int) -> ir.Constant:
    return ir.Constant(_vector(width), [0.0] * width)


def _call(builder, name: str, kind, *values):
    module = builder.module
    full = f"llvm.{name}.v{kind.width}f32"
    vector = _vector(kind.width)
    function = module.globals.get(full)
    if function is None:
        function = ir.Function(module, ir.FunctionType(vector, [vector] * len(values)), full)
    return builder.call(function, values)


def _address(context, builder, kind, array, index, width: int):
    data = context.make_array(kind)(context, builder, array).data
    place = builder.gep(data, [index], inbounds=True)
    return builder.bitcast(place, ir.PointerType(_vector(width)))


@intrinsic
def wide(typing):
    """64 zeros."""
    return _KINDS[WIDE](), lambda context, builder, signature, args: _zero(WIDE)


@intrinsic
def narrow(typing):
    """16 zeros."""
    return _KINDS[NARROW](), lambda context, builder, signature, args: _zero(NARROW)


@intrinsic
def peek(typing, array, index):
    """One number of an array."""

    def code(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.load(builder.gep(data, [args[1]], inbounds=True))

    return array.dtype(array, types.intp), code


@intrinsic
def load(typing, array, index, like):
    """The numbers of an array from an index on, as many as `like` has."""

    def code(context, builder, signature, args):
        width = signature.return_type.width
        place = _address(context, builder, signature.args[0], args[0], args[1], width)
        return builder.load(place, align=4)

    return like(array, types.intp, like), code


@intrinsic
def store(typing, array, index, vector):
    """Put a vector into an array, from an index on."""

    def code(context, builder, signature, args):
        width = signature.args[2].width
        place = _address(context, builder, signature.args[0], args[0], args[1], width)
        builder.store(args[2], place, align=4)
        return context.get_dummy_value()

    return types.none(array, types.intp, vector), code


@intrinsic
def fill(typing, scalar, like):
    """One number in all lanes."""

    def code(context, builder, signature, args):
        return _filled(builder, args[0], signature.return_type.width)

    return like(types.float32, like), code


@intrinsic
def fma(typing, a, b, c):
    """a * b + c, rounded once."""

    def code(context, builder, signature, args):
        return _call(builder, "fmuladd", signature.return_type, *args)

    return a(a, a, a), code


@intrinsic
def root(typing, a):
    """Square roots."""

    def code(context, builder, signature, args):
        return _call(builder, "sqrt", signature.return_type, *args)

    return a(a), code


def _binary(operation: str, doc: str):
    def function(typing, a, b):
        def code(context, builder, signature, args):
            return getattr(builder, operation)(*args)

        return a(a, a), code

    function.__doc__ = doc
    return intrinsic(function)


add = _binary("fadd", "a + b")
sub = _binary("fsub", "a - b")
mul = _binary("fmul", "a * b")
div = _binary("fdiv", "a / b")


@intrinsic
def rectified(typing, a):
    """a, with zero where it is negative; what is no number stays none."""

    def code(context, builder, signature, args):
        zero = _zero(signature.return_type.width)
        return builder.select(builder.fcmp_ordered("<=", args[0], zero), zero, args[0])

    return a(a), code


@intrinsic
def where_positive(typing, gate, a):
    """a where the gate is above zero, zero elsewhere."""

    def code(context, builder, signature, args):
        zero = _zero(signature.return_type.width)
        return builder.select(builder.fcmp_ordered(">", args[0], zero), args[1], zero)

    return a(gate, a), code


@intrinsic
def larger(typing, a, b):
    """Lane by lane, the larger one; b where one of them is no number."""

    def code(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return a(a, a), code


@intrinsic
def exponential(typing, a):
    """e to the power of what is at most 0, and 1e-38 at least; what is no number stays none."""

    def code(context, builder, signature, args):
        kind, [x] = signature.return_type, args
        integers = ir.VectorType(ir.IntType(32), kind.width)

        def every(value: float) -> ir.Constant:
            return ir.Constant(_vector(kind.width), [value] * kind.width)

        least = every(-87.0)
        power = builder.select(builder.fcmp_ordered(">", x, least), x, least)
        # Twos come off as a whole number of times, with their logarithm in two parts, of which
        # the first has so few digits that its multiples are exact. A series does the rest.
        twos = _call(builder, "rint", kind, builder.fmul(power, every(1 / math.log(2))))
        high = round(math.log(2) * 512) / 512
        for part in (high, math.log(2) - high):
            power = _call(builder, "fmuladd", kind, twos, every(-part), power)
        total = every(1 / math.factorial(7))
        for order in range(6, -1, -1):
            coefficient = every(1 / math.factorial(order))
            total = _call(builder, "fmuladd", kind, total, power, coefficient)
        exponents = builder.add(builder.fptosi(twos, integers), _integers([127] * kind.width))
        bits = builder.shl(exponents, _integers([23] * kind.width))
        found = builder.fmul(total, builder.bitcast(bits, _vector(kind.width)))
        return builder.fadd(found, builder.fsub(x, x))

    return a(a), code


@intrinsic
def pick(typing, a, lane):
    """The number in one lane."""

    def code(context, builder, signature, args):
        return builder.extract_element(*args)

    return types.float32(a, types.intp), code


@intrinsic
def dot(typing, a, b):
    """Products of lanes, summed down to 16 lanes."""

    def code(context, builder, signature, args):
        kind, width = signature.return_type, signature.args[0].width
        parts = [
            [_shuffled(builder, x, x, range(at, at + NARROW)) for x in args]
            for at in range(0, width, NARROW)
        ]
        total = builder.fmul(*parts[0])
        for x, y in parts[1:]:
            total = _call(builder, "fmuladd", kind, x, y, total)
        return total

    return _KINDS[NARROW](a, b), code


@intrinsic
def folded(typing, a):
    """Lanes summed down to 16 of them."""

    def code(context, builder, signature, args):
        [x] = args
        parts = [
            _shuffled(builder, x, x, range(at, at + NARROW))
            for at in range(0, signature.args[0].width, NARROW)
        ]
        total = parts[0]
        for part in parts[1:]:
            total = builder.fadd(total, part)
        return total

    return _KINDS[NARROW](a), code


def _sums(builder, vectors):
    """The sums of sixteen vectors, as one vector."""

    def pairs(first, second, vectors):
        return [
            builder.fadd(_shuffled(builder, a, b, first), _shuffled(builder, a, b, second))
            for a, b in zip(vectors[::2], vectors[1::2], strict=True)
        ]

    # First within blocks of four lanes, which shuffle most cheaply, then across blocks.
    def blocks(order):
        return [block + lane for block in range(0, NARROW, 4) for lane in order]

    half = pairs(blocks([0, 16, 1, 17]), blocks([2, 18, 3, 19]), vectors)
    quarter = pairs(blocks([0, 1, 16, 17]), blocks([2, 3, 18, 19]), half)
    even = [*range(4), *range(8, 12), *range(16, 20), *range(24, 28)]
    odd = [lane + 4 for lane in even]
    [total] = pairs(even, odd, pairs(even, odd, quarter))
    return total


@intrinsic
def sums(typing, array, index):
    """The sums of sixteen vectors of 16 that lie one after the other in an array."""

    def code(context, builder, signature, args):
        vectors = []
        for at in range(NARROW):
            place = builder.add(args[1], ir.Constant(args[1].type, NARROW * at))
            address = _address(context, builder, signature.args[0], args[0], place, NARROW)
            vectors.append(builder.load(address, align=4))
        return _sums(builder, vectors)

    return _KINDS[NARROW](array, types.intp), code


@intrinsic
def total(typing, a):
    """The sum of 16 lanes."""

    def code(context, builder, signature, args):
        [x] = args
        for reach in (8, 4, 2, 1):
            order = [lane ^ reach for lane in range(NARROW)]
            x = builder.fadd(x, _shuffled(builder, x, x, order))
        return builder.extract_element(x, ir.Constant(ir.IntType(32), 0))

    return types.float32(a), code


@intrinsic
def transposed(typing, source, at, stride, target, to, row):
    """A block of 16 rows by 16 columns, turned round, from one array into another."""

    def code(context, builder, signature, args):
        source, at, stride, target, to, row = args
        rows = []
        for index in range(NARROW):
            step = builder.mul(stride, ir.Constant(stride.type, index))
            place = builder.add(at, step)
            address = _address(context, builder, signature.args[0], source, place, NARROW)
            rows.append(builder.load(address, align=4))
        # Halves, quarters, eighths and single lanes change sides in turn.
        for reach in (8, 4, 2, 1):
            turned = list(rows)
            for index in range(NARROW):
                if not index & reach:
                    a, b = rows[index], rows[index | reach]
                    lanes = range(NARROW)
                    low = [x if not x & reach else NARROW + (x ^ reach) for x in lanes]
                    high = [(x | reach) if not x & reach else NARROW + x for x in lanes]
                    turned[index] = _shuffled(builder, a, b, low)
                    turned[index | reach] = _shuffled(builder, a, b, high)
            rows = turned
        for index, vector in enumerate(rows):
            step = builder.mul(row, ir.Constant(row.type, index))
            place = builder.add(to, step)
            address = _address(context, builder, signature.args[3], target, place, NARROW)
            builder.store(vector, address, align=4)
        return context.get_dummy_value()

    intp = types.intp
    return types.none(source, intp, intp, target, intp, intp), code
