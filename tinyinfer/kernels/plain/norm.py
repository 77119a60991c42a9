"""Normalisation."""

import numpy as np

from ...core.spec import Spec
from ...ops.norm import BatchNorm, LayerNorm
from ..kernel import Kernel, kernel
from .reduce import deviation, kept, narrow, total, wide


@kernel(BatchNorm)
def batch_norm(op, y, x, mean, var, w, b):
    column = (-1, *[1] * (len(x.shape) - 2))

    def run(y, x, mean, var, w, b, scale):
        np.add(var, op.eps, scale)
        np.sqrt(scale, scale)
        np.divide(w, scale, scale)
        np.subtract(x, mean.reshape(column), y)
        np.multiply(y, scale.reshape(column), y)
        np.add(y, b.reshape(column), y)

    return Kernel("ufuncs", run, (w,), over=(0,))


@kernel(LayerNorm)
def layer_norm(op, y, x):
    n, one = op.count(x), wide(kept(x, op.axes))

    def run(y, x, d, mean, var):
        deviation(d, x, op.axes, n, mean)
        np.multiply(d, d, d)
        total(d, op.axes, var)
        np.divide(var, n, var)
        np.add(var, op.eps, var)
        np.sqrt(var, var)
        np.copyto(d, x)  # once more, instead of memory for both d and its square
        np.subtract(d, mean, d)
        np.divide(d, var, d)
        narrow(y, d)

    return Kernel("reduce", run, (Spec(x.shape, one.dtype), one, one), over=(0,))
