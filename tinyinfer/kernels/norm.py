"""(x - mean) / sqrt(var + eps): of each group its own mean and variance, or those of a channel.

    for group                               # see groups.py
        mean, var = ...                     # see reduce.py
        y = (x - mean) / sqrt(var + eps)    # in double precision, rounded once

Of channels it is a chain of elementwise steps, in which a channel has one number of each (chain.py).
"""

from ..core.spec import Spec
from ..ops.norm import BatchNorm, LayerNorm
from .chain import chain
from .groups import CODE, get, grouped, groups
from .kernel import kernel
from .native import native
from .program import Program
from .reduce import mean, squared_distance
from .simd import call, micro, narrow, wide


@native
def normalize(t, part, parts, ys, xs, sizes):
    normalize_groups(t, part, parts, ys[0], xs, sizes)


@micro
def normalize_groups(t, part, parts, y, xs, sizes):
    x = lambda v, at, lanes: get(xs[t.x] + at, lanes)
    for g in groups(t, part, parts, sizes):
        means = mean(g, x)
        rates = [rate(s / g.count + t.eps) for s in squared_distance(g, x, means)]
        distance = lambda v, *at: wide(x(v, *at)) - means[v]  # noqa: B023
        g.write_ended(y, xs, lambda v, *at: narrow(distance(v, *at) * rates[v]))  # noqa: B023


def rate(x):
    """1 / sqrt(x)"""
    return 1.0 / call("llvm.sqrt.v16f64", x.ir.type, x)


CODE[LayerNorm] = lambda op: (normalize, {"eps": float(op.eps)})
kernel(LayerNorm)(grouped)

X, MEAN, VAR, W, B = range(5)


@kernel(BatchNorm)
def batch_norm(op, y, x, *channels):
    if x.dtype != "float32":
        return None
    steps = ("sub", X, MEAN), ("add", VAR, float(op.eps)), ("sqrt", 6), ("div", W, 7)
    steps += ("mul", 5, 8), ("add", 9, B)
    column = (-1, *[1] * (len(x.shape) - 2))
    as_column = lambda c: Spec((*c.shape, *column[1:]), c.dtype)
    operands = (X, x), *((i, as_column(c)) for i, c in enumerate(channels, 1))
    return chain(Program(operands, steps, (10,)), y, x, *channels)
