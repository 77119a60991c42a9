"""Zeros beside an image are multiplied too, says the definition: by an infinite weight, that is NaN. The
loops that leave them out are right if what they would meet is finite; else the definition is asked."""

import numpy as np
from numba import types

from ..ops.layout import In
from ..ops.pool import MaxPool2d
from .native import native
from .recorded import Check, is_place, note
from .simd import BYTES, LANES, at, fma, load, load_some, loop, micro, registers, total, zeros

HALVES = MaxPool2d((2, 2), (2, 2))


@micro(types.float32)
def zero_times(x, n):
    """0, or NaN if one of the n numbers from this address on is not finite."""
    sums = registers([zeros()])
    for i in loop(n >> 4):
        sums[0] = fma(load(x + BYTES * i), zeros(), sums[0])
    last = load_some(x + BYTES * (n >> 4), n & (LANES - 1))
    return total(fma(last, zeros(), sums[0]))


@native
def zero_times_all(x):
    return zero_times(at(x, 0), x.size)


def is_finite(x) -> bool:
    return zero_times_all(np.ascontiguousarray(x).reshape(-1)) == 0


def guarded(run, op, watched, bias=False, activation="", pool=False):
    """`run(y, a, b, ...)` where input number `watched` is finite; else what the definition makes of a, b
    and a bias, if there is one; what comes behind them is scratch memory."""

    def safe(y, *xs):
        if is_place(y):
            note(Check("finite", xs[watched]), y)
            run(y, *xs)
        elif is_finite(xs[watched]):
            run(y, *xs)
        else:
            np.copyto(y, defined(op, activation, pool, *xs[: 2 + bias]))

    return safe


def unless_finite(run, op):
    """`run(y, a, b, ...)`; and if y is not finite, what the definition makes of a and b."""

    def safe(y, a, b, *scratch):
        run(y, a, b, *scratch)
        if is_place(y):
            note(Check("finite", y), y)
        elif not is_finite(y):
            np.copyto(y, op.forward(a, b))

    return safe


def defined(op, activation, pool, a, b, *bias):
    y = op.forward(a, b)
    if bias:
        y = y + bias[0].reshape(-1, *(1,) * (y.ndim - 2))
    if pool:
        y = (In(HALVES, op.layout, op.count) if isinstance(op, In) else HALVES).forward(y)
    return np.maximum(y, 0) if activation else y
