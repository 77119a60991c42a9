"""y[i] = f(x[i]): the functions of NumPy behind the operators, with y as their last argument."""

import numpy as np

from ...ops import elementwise as ops
from ...ops.quantize import FakeQuantize
from ..kernel import Kernel, kernel

# fmt: off
UFUNCS = {
    ops.Add: np.add,              ops.Sub: np.subtract,            ops.Mul: np.multiply,
    ops.Div: np.divide,           ops.Pow: np.power,               ops.Neg: np.negative,
    ops.Maximum: np.maximum,      ops.Minimum: np.minimum,         ops.Abs: np.abs,
    ops.Sign: np.sign,            ops.Floor: np.floor,             ops.Ceil: np.ceil,
    ops.Round: np.rint,           ops.Exp: np.exp,                 ops.Log: np.log,
    ops.Sqrt: np.sqrt,            ops.Sin: np.sin,                 ops.Cos: np.cos,
    ops.Tanh: np.tanh,            ops.Equal: np.equal,             ops.NotEqual: np.not_equal,
    ops.Less: np.less,            ops.LessEqual: np.less_equal,    ops.Greater: np.greater,
    ops.LogicalAnd: np.bitwise_and, ops.LogicalOr: np.bitwise_or,  ops.LogicalNot: np.invert,
    ops.GreaterEqual: np.greater_equal,
}
DIVISIONS = {ops.FloorDivide: np.floor_divide, ops.Remainder: np.remainder}
# fmt: on


def alike(y, xs) -> tuple[int, ...]:
    """The inputs that y may be written over: each element is read before it is written."""
    return tuple(i for i, x in enumerate(xs) if x == y)


@kernel(*UFUNCS)
def ufunc(op, y, *xs):
    f = UFUNCS[type(op)]
    return Kernel("ufunc", lambda y, *xs: f(*xs, out=y), over=alike(y, xs))


@kernel(*DIVISIONS)
def division(op, y, a, b):
    f, name = DIVISIONS[type(op)], op.name
    return Kernel("ufunc", lambda y, a, b: f(a, ops.divisor(name, b), out=y), over=alike(y, (a, b)))


@kernel(ops.Identity, ops.Detach, ops.Cast)
def copy(op, y, x):
    run = lambda y, x: np.copyto(y, x, casting="unsafe")
    return Kernel("copy", run, over=alike(y, [x]))


@kernel(ops.Clip)
def clip(op, y, x):
    return Kernel("ufunc", lambda y, x: np.clip(x, op.low, op.high, y), over=(0,))


@kernel(ops.Where)
def where(op, y, p, a, b):
    def run(y, p, a, b):
        np.copyto(y, b)
        np.copyto(y, a, where=p)

    return Kernel("copy", run, over=(2,) if b == y else ())


@kernel(FakeQuantize)
def fake_quantize(op, y, x, s):
    q = 2 ** (op.bits - 1) - 1

    def run(y, x, s, t):
        np.divide(x, s, t)
        np.rint(t, t)
        np.clip(t, -q, q, t)
        np.multiply(t, s, y)

    return Kernel("ufuncs", run, (y,), over=alike(y, (x, s))) if y.floating else None
