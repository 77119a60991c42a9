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
    x = reader(xs[t.x])
    for g in groups(t, part, parts, sizes):
        tops = largest(g, x)
        stored = lambda v, at, lanes: put(y + at, exp(x(v, at, lanes) - tops[v]), lanes)  # noqa: B023
        sums = [narrow(s) for s in g.total(lambda *each: wide(stored(*each)))]  # noqa: B023
        g.write_ended(y, xs, lambda v, at, lanes: get(y + at, lanes) / sums[v])  # noqa: B023


@micro
def log_softmaxes(t, part, parts, y, xs, sizes):
    x = reader(xs[t.x])
    for g in groups(t, part, parts, sizes):
        tops = largest(g, x)
        logs = log_total(g, x, tops)
        g.write_ended(y, xs, lambda v, *at: x(v, *at) - tops[v] - logs[v])  # noqa: B023


@micro
def log_sum_exps(t, part, parts, y, xs, sizes):
    for g in groups(t, part, parts, sizes):
        x = g.read(xs, -inf)
        tops = [select(absolute(top) < inf, top, of(0.0)) for top in largest(g, x)]
        g.write_one(y, [log + top for log, top in zip(log_total(g, x, tops), tops)])


def reader(x):
    """make(v, at, lanes): beyond them there is nothing to add to a sum of exp."""
    return lambda v, at, lanes: get(x + at, lanes, -inf)


def largest(g, x):
    return g.fold(lambda top, new: above(new, top), of(-inf), x)


def log_total(g, x, tops):
    """log(sum(exp(x - top))): the largest is 1, and of the little that the others add nothing is lost."""
    sums = g.total(lambda v, *at: wide(exp(x(v, *at) - tops[v])))
    return [log1p(narrow(s - 1.0)) for s in sums]


CODE[Softmax] = lambda op: (softmax, {})
CODE[LogSoftmax] = lambda op: (log_softmax, {})
CODE[LogSumExp] = lambda op: (log_sum_exp, {})
kernel(Softmax, LogSoftmax, LogSumExp)(grouped)
