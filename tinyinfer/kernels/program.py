"""Elementwise steps as a program for vectors, known to the compiler: so that any loop can carry it out
on what it has in registers.

    relu(x * w + b)   ->   ("mul", 0, 1), ("add", 3, 2), ("relu", 4)

Values go by their number: first the operands, then what each step makes. Floats are themselves: of
constants, and of the attributes of an op. A mask has one bit a lane, which is 0 or 1 to arithmetic.
"""

from dataclasses import fields
from math import sqrt
from typing import NamedTuple

import numpy as np

from ..core.spec import Spec
from ..ops import activation, elementwise
from ..ops.quantize import FakeQuantize
from ..ops.shape import BroadcastTo, Reshape
from . import math
from .math import of
from .simd import Value, above, below, builder, f32x16, i1, maximum, minimum, relu, select

# ---- what ops are, of vectors ----------------------------------------------------------------------


def clip(x, low, high):
    if low != low or high != high:  # NaN is an end that nothing is inside of
        return of(float("nan"))
    x = x if low is None else above(of(low), x)
    return x if high is None else below(of(high), x)


def sign(x):
    return select(x > 0.0, of(1.0), select(x < 0.0, of(-1.0), x + 0.0))


def fake_quantize(x, s, bits):
    q = 2 ** (bits - 1) - 1
    return clip(math.rint(x / s), -q, q) * s


def unequal(a, b):
    return Value(builder().fcmp_unordered("!=", of(a).ir, of(b).ir))


# fmt: off
INSTRUCTIONS = {  # some few; they take floats
    elementwise.Add:     lambda a, b: a + b,
    elementwise.Sub:     lambda a, b: a - b,
    elementwise.Mul:     lambda a, b: a * b,
    elementwise.Div:     lambda a, b: a / b,
    elementwise.Maximum: lambda a, b: maximum(of(a), of(b)),
    elementwise.Minimum: lambda a, b: minimum(of(a), of(b)),
    elementwise.Neg:     lambda x: -x,
    elementwise.Abs:     math.absolute,
    elementwise.Sign:    sign,
    elementwise.Floor:   math.floor,
    elementwise.Ceil:    math.ceil,
    elementwise.Round:   math.rint,
    elementwise.Sqrt:    math.sqrt,
    elementwise.Clip:    clip,

    elementwise.Equal:        lambda a, b: of(a).compared("==", b),
    elementwise.NotEqual:     unequal,
    elementwise.Less:         lambda a, b: a < b,
    elementwise.LessEqual:    lambda a, b: a <= b,
    elementwise.Greater:      lambda a, b: a > b,
    elementwise.GreaterEqual: lambda a, b: a >= b,

    activation.Relu:      relu,
    activation.LeakyRelu: lambda x, slope: select(x > 0.0, x, x * slope),
    activation.Hardswish: lambda x: x * clip(x + 3.0, 0, 6) / 6.0,
    FakeQuantize:         fake_quantize,
}
CURVES = {  # with a polynomial; they take floats
    elementwise.Exp:     math.exp,
    elementwise.Log:     math.log,
    elementwise.Tanh:    math.tanh,
    elementwise.Erf:     math.erf,
    activation.Elu:      lambda x, alpha: select(x > 0.0, x, math.expm1(x) * alpha),
    activation.Sigmoid:  math.sigmoid,
    activation.Silu:     lambda x: x * math.sigmoid(x),
    activation.Softplus: math.softplus,
    activation.Gelu:     lambda x: x * (math.erf(x * sqrt(0.5)) * 0.5 + 0.5),
}
CHOICES = {  # they take masks
    elementwise.Identity:   lambda x: x,
    elementwise.Detach:     lambda x: x,
    elementwise.Where:      lambda p, a, b: choose(p, a, b),
    elementwise.LogicalAnd: lambda a, b: a & b,
    elementwise.LogicalOr:  lambda a, b: a | b,
    elementwise.LogicalNot: lambda x: ~x,
}
# fmt: on


def is_mask(x):
    return isinstance(x, Value) and x.element == i1


def floats(x):
    return Value(builder().uitofp(x.ir, f32x16.ir)) if is_mask(x) else x


def choose(p, a, b):
    return select(p, a, b) if is_mask(a) and is_mask(b) else select(p, of(floats(a)), of(floats(b)))


def on_floats(f):
    return lambda *args: f(*map(floats, args))


KNOWN = INSTRUCTIONS | CURVES | CHOICES
WRITE = {op.name: f if op in CHOICES else on_floats(f) for op, f in KNOWN.items()}
COST = {op.name: 20 if op in CURVES else 1 for op in KNOWN}  # instructions, about


def emit(steps, operands) -> list[Value]:
    """The operands, and what each step makes of them, as vectors of floats or masks."""
    values = [*operands]
    for name, *args in steps:
        values.append(WRITE[name](*[values[a] if type(a) is int else a for a in args]))
    return values


# ---- programs of graphs ----------------------------------------------------------------------------


class Program(NamedTuple):
    """`operands` are inputs, by number, and how they are looked at; `results` are numbers of values."""

    operands: tuple[tuple[int, Spec], ...]
    steps: tuple[tuple, ...]
    results: tuple[int, ...]

    @property
    def cost(self):
        """Instructions for 16 numbers, about."""
        return sum(COST[name] for name, *_ in self.steps)


def program_of(op, *xs) -> Program | None:
    """Of one op."""
    if type(op) in KNOWN and all(x.dtype in KINDS for x in xs):
        return Program((*enumerate(xs),), (step(op, range(len(xs))),), (len(xs),))


def program(graph, anchor=None, end=None) -> Program | None:
    """Of all that a graph does; or of what it does after the `anchor`, a step, whose result is then the
    first operand, of number -1; or before the `end`. None, if it does something else than is known here."""
    steps = [n for n in graph.steps if not n.op.view and n not in (anchor, end)]
    if not all(type(n.op) in KNOWN and n.spec.dtype in KINDS for n in steps):
        return None
    made = {*steps}
    read = [x for n in steps for x in n.inputs if x not in made and x is not anchor]
    outside = dict.fromkeys(x for x in read if number(x) is None)
    operands = [looked_at(graph, x) for x in outside]
    before = [anchor] if anchor else []
    values = {n: i for i, n in enumerate([*before, *outside, *steps])}
    results = end.inputs if end else graph.outputs
    if None in operands or any(n not in values for n in results):
        return None
    operands = [(-1, n.spec) for n in before] + operands
    return Program(
        tuple(operands),
        tuple([step(n.op, [values.get(x, number(x)) for x in n.inputs]) for n in steps]),
        tuple([values[n] for n in results]),
    )


KINDS = np.dtype(np.float32), np.dtype(bool)


def step(op, args) -> tuple:
    attributes = [getattr(op, f.name) for f in fields(op)]
    return op.name, *args, *[x if x is None else float(x) for x in attributes]


def number(n) -> float | None:
    """The one number of a constant that holds it everywhere."""
    x = n.value
    if x is not None and x.dtype == KINDS[0] and x.size and (x.size == 1 or not any(x.strides)):
        return x.flat[0].item()


def looked_at(graph, x) -> tuple[int, Spec] | None:
    """Which input x is, and how it is looked at; None, if not as it stands in memory."""
    x = behind(graph, x, BroadcastTo)  # an operand is broadcast anyway
    spec, x = x.spec, behind(graph, x, Reshape)
    if x in graph.inputs and spec.dtype in KINDS:
        return graph.inputs.index(x), spec


def behind(graph, x, view):
    while x not in graph.inputs and isinstance(x.op, view):
        (x,) = x.inputs
    return x
