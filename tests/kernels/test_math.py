"""Vectors of floats against double precision, over all of their range."""

import math

import numpy as np
import pytest

from tinyinfer.kernels import math as curves
from tinyinfer.kernels.native import bound, native
from tinyinfer.kernels.simd import at, load, loop, micro, store
from tinyinfer.kernels.static import Static


@micro
def to_each(t, y, x, n):
    for i in loop(n):
        store(y + 64 * i, getattr(curves, t.curve)(load(x + 64 * i)))


@native
def all_of(t, part, parts, y, x):
    to_each(t, at(y, 0), at(x, 0), x.size // 16)


def floats():
    """Of all kinds: every exponent with some mantissas, both signs, denormals, NaN, infinities, zeros."""
    bits = np.concatenate([np.arange(0, 2**32, 49_999), np.arange(0, 2**32, 2**16)])
    return np.resize(bits.astype(np.uint32), -(-len(bits) // 16) * 16).view(np.float32)


erf = np.vectorize(math.erf, otypes=[np.float64])

# what it is called: (in double precision, units in the last place that it may be away)
CURVES = {
    "exp": (np.exp, 1),
    "expm1": (np.expm1, 1.5),
    "log": (np.log, 1),
    "log1p": (np.log1p, 1.5),
    "tanh": (np.tanh, 2.5),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), 2),
    "softplus": (lambda x: np.logaddexp(0, x), 1.5),
    "erf": (erf, 1.5),
    "sqrt": (np.sqrt, 0.5),
    "floor": (np.floor, 0),
    "ceil": (np.ceil, 0),
    "rint": (np.rint, 0),
}


@pytest.mark.parametrize("curve", CURVES)
def test_a_curve_is_right_in_all_but_the_last_bits(curve):
    exact, error = CURVES[curve]
    x, y = floats(), np.empty_like(floats())
    bound(all_of, Static(curve=curve))(y, x)
    with np.errstate(all="ignore"):
        wanted = exact(x.astype(np.float64))
        nearest = wanted.astype(np.float32)
    assert (np.isnan(y) == np.isnan(nearest)).all()
    infinite = np.isinf(nearest) | np.isinf(y)
    assert (y[infinite] == nearest[infinite]).all()
    zero = nearest == 0
    assert (np.signbit(y[zero]) == np.signbit(nearest[zero])).all()
    finite = np.isfinite(nearest)
    unit = np.spacing(np.abs(nearest[finite])).astype(np.float64)
    assert (np.abs(y[finite] - wanted[finite]) <= error * unit).all()
