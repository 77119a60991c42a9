"""Many numbers become one. Sums are added up in a wider float, in scratch memory: t is like y, but so
wide."""

import numpy as np

from ...core.spec import Spec
from ...ops import reduce as ops
from ...ops.reduce import WIDER
from ..kernel import Kernel, kernel

EXTREMES = {ops.Max: np.maximum, ops.Min: np.minimum}


def wide(s: Spec) -> Spec:
    return Spec(s.shape, WIDER.get(s.dtype, s.dtype))


def kept(x: Spec, axes) -> Spec:
    """What a reduction of x leaves."""
    return Spec(tuple(1 if i in axes else n for i, n in enumerate(x.shape)), x.dtype)


def total(x, axes, t):
    np.add.reduce(x, axes, t.dtype, t, True)


def narrow(y, t):
    np.copyto(y, t, casting="same_kind")


@kernel(ops.Sum)
def sum(op, y, x):
    def run(y, x, t):
        total(x, op.axes, t)
        narrow(y, t)

    return Kernel("reduce", run, (wide(y),))


@kernel(ops.Mean)
def mean(op, y, x):
    n = op.count(x)

    def run(y, x, t):
        total(x, op.axes, t)
        np.divide(t, n, t)
        narrow(y, t)

    return Kernel("reduce", run, (wide(y),))


@kernel(ops.Var)
def var(op, y, x):
    n = op.count(x)

    def run(y, x, t, d):
        deviation(d, x, op.axes, n, t)
        np.multiply(d, d, d)
        total(d, op.axes, t)
        np.divide(t, n - op.correction, t)
        narrow(y, t)

    return Kernel("reduce", run, (wide(y), wide(x)))


def deviation(d, x, axes, n, t):
    """d = x - mean"""
    total(x, axes, t)
    np.divide(t, n, t)
    np.copyto(d, x)
    np.subtract(d, t, d)


@kernel(*EXTREMES)
def extreme(op, y, x):
    f = EXTREMES[type(op)]
    return Kernel("reduce", lambda y, x: f.reduce(x, op.axes, None, y, True))


@kernel(ops.ArgMax)
def argmax(op, y, x):
    (axis,) = op.axes
    if axis == len(x.shape) - 1:
        return Kernel("reduce", lambda y, x: x.argmax(axis, y, keepdims=True))
    others = (*x.shape[:axis], *x.shape[axis + 1 :])

    def run(y, x, t):  # NumPy would move the axis to the end in memory of its own
        np.copyto(t, np.moveaxis(x, axis, -1))
        t.argmax(-1, y.reshape(others))

    return Kernel("reduce", run, (Spec((*others, x.shape[axis]), x.dtype),))


@kernel(ops.Prod)
def prod(op, y, x):
    return Kernel("reduce", lambda y, x: np.multiply.reduce(x, op.axes, x.dtype, y, True))


@kernel(ops.Others)
def others(op, y, x):
    (axis,) = op.axes
    moved = Spec((x.shape[axis], *x.shape[:axis], *x.shape[axis + 1 :]), x.dtype)

    def run(y, x, t, before, behind):
        x = np.moveaxis(x, axis, 0)
        t[:1] = 1
        np.copyto(t[1:], x[:-1])
        np.cumprod(t, 0, t.dtype, before)
        np.copyto(t[1:], x[:0:-1])
        np.cumprod(t, 0, t.dtype, behind)
        np.multiply(before, behind[::-1], np.moveaxis(y, axis, 0))

    return Kernel("reduce", run, (moved,) * 3)


@kernel(ops.LogSumExp)
def logsumexp(op, y, x):
    def run(y, x, e, t, infinite):
        np.maximum.reduce(x, op.axes, None, y, True)
        np.isfinite(y, infinite)
        np.logical_not(infinite, infinite)
        np.copyto(y, 0, where=infinite)
        np.subtract(x, y, e)
        np.exp(e, e)
        total(e, op.axes, t)
        np.log(t, t)
        np.add(t, y, t)
        narrow(y, t)

    return Kernel("reduce", run, (x, wide(y), Spec(y.shape, np.dtype(bool))))


@kernel(ops.Softmax)
def softmax(op, y, x):
    def run(y, x, top, t):
        below_top(y, x, op.axes, top)
        np.exp(y, y)
        total(y, op.axes, t)
        np.divide(y, t, y, casting="same_kind")

    top = kept(x, op.axes)
    return Kernel("reduce", run, (top, wide(top)), over=(0,))


@kernel(ops.LogSoftmax)
def log_softmax(op, y, x):
    def run(y, x, e, top, t):
        below_top(y, x, op.axes, top)
        np.exp(y, e)
        total(e, op.axes, t)
        np.log(t, t)
        np.subtract(y, t, y, casting="same_kind")

    top = kept(x, op.axes)
    return Kernel("reduce", run, (x, top, wide(top)), over=(0,))


def below_top(y, x, axes, top):
    np.maximum.reduce(x, axes, None, top, True)
    np.subtract(x, top, y)
