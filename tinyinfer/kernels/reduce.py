"""Many numbers become one: sums, means, variances, the largest and the smallest of each group.

for group                               # see groups.py
    y = sum(x)                          # or max(x)

    mean = sum(x) / n                   # the variance goes through a group twice
    y = sum((x - mean)**2) / (n - correction)
"""

from math import inf

from ..core.spec import Spec
from ..ops.layout import In
from ..ops.reduce import Max, Mean, Min, Sum, Var
from .groups import CODE, grouped, groups
from .kernel import kernel
from .math import of
from .native import native
from .simd import (
    LANES,
    constant,
    f64x16,
    first_lanes,
    maximum,
    micro,
    minimum,
    narrow,
    select,
    wide,
)


@native
def sums(t, part, parts, ys, xs, sizes):
    sum_groups(t, part, parts, ys[0], xs, sizes)


@native
def variances(t, part, parts, ys, xs, sizes):
    variance_of_groups(t, part, parts, ys[0], xs, sizes)


@native
def extremes(t, part, parts, ys, xs, sizes):
    extremes_of_groups(t, part, parts, ys[0], xs, sizes)


@micro
def sum_groups(t, part, parts, y, xs, sizes):
    for g in groups(t, part, parts, sizes):
        g.write_one(y, [narrow(s / g.count if t.mean else s) for s in total(g, g.read(xs))])


@micro
def variance_of_groups(t, part, parts, y, xs, sizes):
    for g in groups(t, part, parts, sizes):
        x = g.read(xs)
        squares = squared_distance(g, x, mean(g, x))
        g.write_one(y, [narrow(s / (g.count - t.correction)) for s in squares])


@micro
def extremes_of_groups(t, part, parts, y, xs, sizes):
    combine, start = (maximum, -inf) if t.largest else (minimum, inf)
    for g in groups(t, part, parts, sizes):
        g.write_one(y, g.fold(combine, of(start), g.read(xs, start)))


def total(g, x):
    return g.total(lambda *each: wide(x(*each)))


def mean(g, x):
    return [s / g.count for s in total(g, x)]


def squared_distance(g, x, means):
    """The sum of (x - mean)**2"""

    def square(v, at, lanes):
        d = wide(x(v, at, lanes)) - means[v]
        d = d if lanes is None else select(first_lanes(lanes), d, constant(f64x16, 0))
        return d * d

    return g.total(square)


CODE[Sum] = lambda op: (sums, {"mean": 0})
CODE[Mean] = lambda op: (sums, {"mean": 1})
CODE[Var] = lambda op: (variances, {"correction": float(op.correction)})
CODE[Max] = lambda op: (extremes, {"largest": 1})
CODE[Min] = lambda op: (extremes, {"largest": 0})
kernel(Sum, Mean, Var, Max, Min)(grouped)


@kernel((In, Sum), (In, Mean))
def in_lanes(op, y, x):
    """Of each channel of images that lie in the lanes, all of which there are."""
    if op.layout == "NCHW16n" and op.count % LANES == 0:
        return grouped(type(op.op)((0, 2, 3, 4)), Spec((1, y.shape[1], 1, 1, 1), y.dtype), x)
