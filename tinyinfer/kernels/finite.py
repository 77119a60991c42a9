"""Zeros beside an image are multiplied too, says the definition: by an infinite weight, that is NaN. The
loops that leave them out are right if what they would meet is finite; else the definition is asked."""

import numpy as np

from ..ops.layout import In
from ..ops.pool import MaxPool2d
from .native import native
from .simd import LANES, at, fma, load, load_some, splat, total

HALVES = MaxPool2d((2, 2), (2, 2))


@native
def zero_times(x):
    """0, or NaN if one of the numbers is not finite."""
    zero = splat(np.float32(0))
    sums, n = zero, x.size // LANES * LANES
    for i in range(0, n, LANES):
        sums = fma(load(at(x, i)), zero, sums)
    return total(fma(load_some(at(x, n), x.size - n), zero, sums))


def is_finite(x) -> bool:
    return zero_times(np.ascontiguousarray(x).reshape(-1)) == 0


def guarded(run, op, watched, bias=False, activation="", pool=False):
    """`run(y, a, b, ...)` where input number `watched` is finite; else what the definition makes of a, b
    and a bias, if there is one; what comes behind them is scratch memory."""

    def safe(y, *xs):
        if is_finite(xs[watched]):
            run(y, *xs)
        else:
            np.copyto(y, defined(op, activation, pool, *xs[: 2 + bias]))

    return safe


def defined(op, activation, pool, a, b, *bias):
    y = op.forward(a, b)
    if bias:
        y = y + bias[0].reshape(-1, *(1,) * (y.ndim - 2))
    if pool:
        y = (In(HALVES, op.layout, op.count) if isinstance(op, In) else HALVES).forward(y)
    return np.maximum(y, 0) if activation else y
