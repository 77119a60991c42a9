"""y[i] = f(x[i]): the functions of NumPy behind the operators, with y as their last argument."""

import numpy as np

from ...ops import elementwise as op
from ...ops.quantize import FakeQuantize
from ..kernel import Kernel, kernel

# fmt: off
UFUNCS = {
    op.Add: np.add,              op.Sub: np.subtract,            op.Mul: np.multiply,
    op.Div: np.divide,           op.Pow: np.power,               op.Neg: np.negative,
    op.Maximum: np.maximum,      op.Minimum: np.minimum,         op.Abs: np.abs,
    op.Sign: np.sign,            op.Floor: np.floor,             op.Ceil: np.ceil,
    op.Round: np.rint,           op.Exp: np.exp,                 op.Log: np.log,
    op.Sqrt: np.sqrt,            op.Sin: np.sin,                 op.Cos: np.cos,
    op.Tanh: np.tanh,            op.Equal: np.equal,             op.NotEqual: np.not_equal,
    op.Less: np.less,            op.LessEqual: np.less_equal,    op.Greater: np.greater,
    op.LogicalAnd: np.bitwise_and, op.LogicalOr: np.bitwise_or,  op.LogicalNot: np.invert,
    op.GreaterEqual: np.greater_equal,
}
DIVISIONS = {op.FloorDivide: np.floor_divide, op.Remainder: np.remainder}
# fmt: on


def alike(y, xs) -> tuple[int, ...]:
    """The inputs that y may be written over: each element is read before it is written."""
    return tuple(i for i, x in enumerate(xs) if x == y)


@kernel(*UFUNCS)
def ufunc(op, y, *xs):
    f = UFUNCS[type(op)]
    return Kernel("ufunc", lambda y, *xs: f(*xs, out=y), over=alike(y, xs))


@kernel(*DIVISIONS)
def division(division, y, a, b):
    f, what = DIVISIONS[type(division)], division.name
    return Kernel("ufunc", lambda y, a, b: f(a, op.divisor(what, b), out=y), over=alike(y, (a, b)))


@kernel(op.Identity, op.Detach, op.Cast)
def copy(op, y, x):
    run = lambda y, x: np.copyto(y, x, casting="unsafe")
    return Kernel("copy", run, over=alike(y, [x]))


@kernel(op.Clip)
def clip(op, y, x):
    return Kernel("ufunc", lambda y, x: np.clip(x, op.low, op.high, y), over=(0,))


@kernel(op.Where)
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
