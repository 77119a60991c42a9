"""Which taps of a sliding window meet what, in one direction of an image.

    taps_forward(...)[u]  = [(tap, input), ...]     what output u is made of; outside there is nothing
    taps_backward(...)[i] = [(tap, output), ...]    what input i goes into

Neighbours that meet the same taps can be computed together: that is most of a line, but for its ends;
and where a gradient has a stride, every s-th pixel.
"""

from itertools import groupby

import numpy as np


def taps_forward(outputs, inputs, size, stride, dilation, before):
    """For each output its [(tap, input)], in one direction."""
    at = lambda u, k: stride * u + dilation * k - before
    taps = lambda u: [(k, at(u, k)) for k in range(size) if 0 <= at(u, k) < inputs]
    return [taps(u) for u in range(outputs)]


def taps_backward(outputs, inputs, *window):
    """For each input its [(tap, output)]."""
    met = [[] for _ in range(inputs)]
    for u, some in enumerate(taps_forward(outputs, inputs, *window)):
        for k, i in some:
            met[i].append((k, u))
    return [sorted(some) for some in met]


def summary(taps):
    """(first tap, what it meets, how many)"""
    return (*(taps[0] if taps else (0, 0)), len(taps))


def summaries(taps):
    return table([summary(some) for some in taps])


def table(rows):
    return np.array(rows or np.empty((0, 1)), np.int64)


def runs(taps, apart):
    """Of outputs, `apart` from each other, that meet the same taps."""
    for first in range(apart):
        some = range(first, len(taps), apart)
        for _, run in groupby(some, key=lambda u: [k for k, i in taps[u]]):
            yield [*run]


def strips(taps, apart, rows):
    """(`rows` at once?, the first output, the summary of its taps)"""
    for run in runs(taps, apart):
        many = len(run) >= rows
        starts = run[::rows] if many else run
        if many and len(run) % rows:
            starts[-1] = run[-rows]  # some are done twice
        yield from ((many, u, *summary(taps[u])) for u in starts)


def met(taps, k):
    """(first output that tap k belongs to, what it meets there, how many outputs)"""
    some = [(u, i) for u, meets in enumerate(taps) for tap, i in meets if tap == k]
    return (*(some[0] if some else (0, 0)), len(some))


def pieces(taps, size, many):
    """(`many` taps at once?, the first of them, its first output, what it meets there, how many): where
    not all of them meet something, each for itself."""
    for k in range(0, size, many):
        spans = [(u, u + n) for u, _, n in (met(taps, k + l) for l in range(many))]
        first, end = max(a for a, _ in spans), min(b for _, b in spans)
        end = max(first, end)
        some = [(1, k, first, end)]
        for l, (a, b) in enumerate(spans):
            some += [(0, k + l, a, min(first, b)), (0, k + l, max(end, a), b)]
        yield from ((m, l, a, dict(taps[a])[l], b - a) for m, l, a, b in some if a < b)
