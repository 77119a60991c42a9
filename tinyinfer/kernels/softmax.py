"""exp(x) / sum exp(x) of each group (see groups.py), and its logarithm.

    for group
        top = max(x)                        # so that no exp is infinite
        y = exp(x - top), and their sum
        y = y / sum                         # or y = x - top - log(sum)

Through a group it goes three times: a cache near the core holds it. In the first turn NaN is passed
over; in the sum it is found.
"""

from math import inf

from ..ops.reduce import LogSoftmax, LogSumExp, Softmax
from .groups import CODE, get, grouped, groups, put
from .kernel import kernel
from .math import absolute, exp, log1p, of
from .native import native
from .simd import above, micro, narrow, select, wide


@native
def softmax(t, part, parts, ys, xs, sizes):
    softmaxes(t, part, parts, ys[0], xs, sizes)


@native
def log_softmax(t, part, parts, ys, xs, sizes):
    log_softmaxes(t, part, parts, ys[0], xs, sizes)


@native
def log_sum_exp(t, part, parts, ys, xs, sizes):
    log_sum_exps(t, part, parts, ys[0], xs, sizes)


@micro
def softmaxes(t, part, parts, y, xs, sizes):
    x = xs[t.x]
    for g in groups(t, part, parts, sizes):
        tops = largest(g, x)
        stored = lambda v, at, lanes: put(y + at, small(x + at, lanes, tops[v]), lanes)  # noqa: B023
        sums = [narrow(s) for s in g.total(lambda *each: wide(stored(*each)))]  # noqa: B023
        g.write_ended(y, xs, lambda v, at, lanes: get(y + at, lanes) / sums[v])  # noqa: B023


@micro
def log_softmaxes(t, part, parts, y, xs, sizes):
    x = xs[t.x]
    for g in groups(t, part, parts, sizes):
        tops = largest(g, x)
        logs = log_total(g, x, tops)
        distance = lambda v, at, lanes: get(x + at, lanes) - tops[v] - logs[v]  # noqa: B023
        g.write_ended(y, xs, distance)


@micro
def log_sum_exps(t, part, parts, y, xs, sizes):
    x = xs[t.x]
    for g in groups(t, part, parts, sizes):
        tops = [select(absolute(top) < inf, top, of(0.0)) for top in largest(g, x)]
        g.write_one(y, [log + top for log, top in zip(log_total(g, x, tops), tops)])


def largest(g, x):
    keep_old = lambda top, new: above(new, top)
    return g.fold(keep_old, of(-inf), lambda v, at, lanes: get(x + at, lanes, -inf))


def small(address, lanes, top):
    """exp(x - top), zero where there are no lanes"""
    return exp(get(address, lanes, -inf) - top)


def log_total(g, x, tops):
    """log(sum(exp(x - top))): the largest is 1, and of the little that the others add nothing is lost."""
    sums = g.total(lambda v, at, lanes: wide(small(x + at, lanes, tops[v])))
    return [log1p(narrow(s - 1.0)) for s in sums]


CODE[Softmax] = lambda op: (softmax, {})
CODE[LogSoftmax] = lambda op: (log_softmax, {})
CODE[LogSumExp] = lambda op: (log_sum_exp, {})
kernel(Softmax, LogSoftmax, LogSumExp)(grouped)
