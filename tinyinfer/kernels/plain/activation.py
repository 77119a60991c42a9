"""y[i] = f(x[i]), curves of several steps. All of them read x for the last time before, or as, they
write y: so it may be written over x."""

from functools import partial

import numpy as np

from ...core.spec import Spec
from ...ops import activation as ops
from ..kernel import Kernel, kernel


def curve(op, floats=0, masks=0):
    """Make run(op, y, x, *scratch) the kernel, with scratch like x and masks of its shape."""

    def register(run):
        @kernel(op)
        def find(op, y, x):
            scratch = (x,) * floats + (Spec(x.shape, np.dtype(bool)),) * masks
            return Kernel("ufuncs", partial(run, op), scratch, over=(0,))

        return run

    return register


@curve(ops.Relu)
def relu(op, y, x):
    np.maximum(x, 0, out=y)


@curve(ops.LeakyRelu, floats=1, masks=1)
def leaky_relu(op, y, x, t, above):
    np.multiply(x.dtype.type(op.slope), x, t)
    choose(y, x, t, above)


@curve(ops.Elu, floats=1, masks=1)
def elu(op, y, x, t, above):
    np.minimum(x, 0, out=t)
    np.expm1(t, t)
    np.multiply(x.dtype.type(op.alpha), t, t)
    choose(y, x, t, above)


def choose(y, x, t, above):
    """y = x where x > 0, else t"""
    np.greater(x, 0, above)
    np.copyto(t, x, where=above)
    np.copyto(y, t)


def small(x, t):
    """t = exp(-|x|)"""
    np.abs(x, t)
    np.negative(t, t)
    np.exp(t, t)


def logistic(y, x, t):
    small(x, t)
    np.greater_equal(x, 0, y)
    np.maximum(y, t, out=y)  # 1 where x >= 0, else t
    np.add(1, t, t)
    np.divide(y, t, y)


@curve(ops.Sigmoid, floats=1)
def sigmoid(op, y, x, t):
    logistic(y, x, t)


@curve(ops.Silu, floats=2)
def silu(op, y, x, s, t):
    logistic(s, x, t)
    np.multiply(x, s, y)


@curve(ops.Softplus, floats=1)
def softplus(op, y, x, t):
    small(x, t)
    np.log1p(t, t)
    np.maximum(x, 0, out=y)
    np.add(y, t, y)


@curve(ops.Hardswish, floats=1)
def hardswish(op, y, x, t):
    np.add(x, 3, t)
    np.clip(t, 0, 6, t)
    np.multiply(x, t, y)
    np.divide(y, 6, y)
