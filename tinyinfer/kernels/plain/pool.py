"""Pooling: for every element (k, l) of a window, all windows at once. Padding is left out: where an
element would lie in it, the window has none."""

from math import prod

import numpy as np

from ...core.spec import Spec
from ...ops.pool import AvgPool2d, AvgPool2dInput, MaxPool2d, MaxPool2dIndex, lowest
from ..kernel import Kernel, kernel
from .windows import overlaps, windows


def places_of(pool, x, y):
    return overlaps(x.shape[2:], pool.size, y.shape[2:], pool.stride, pool.sides)


@kernel(MaxPool2d)
def max_pool2d(op, y, x):
    places, low = places_of(op, x, y), lowest(x.dtype)

    def run(y, x):
        y.fill(low)
        for _, there, here in places:
            best = y[there]
            np.maximum(best, x[here], out=best)

    return Kernel("windows", run)


@kernel(MaxPool2dIndex)
def max_pool2d_index(op, y, x, m):
    images, (h, w) = np.arange(prod(x.shape[:2])).reshape(*x.shape[:2], 1, 1), x.shape[2:]
    numbers, mask = np.arange(h * w).reshape(h, w), Spec(y.shape, np.dtype(bool))
    places = [(there, here, numbers[here]) for _, there, here in places_of(op, x, y)]

    def run(y, x, m, wins, nan):
        y.fill(0)
        for there, here, number in reversed(places):  # so that the first of equals wins
            view, win = x[here], wins[there]
            np.equal(view, m[there], win)
            np.not_equal(view, view, nan[there])
            np.logical_or(win, nan[there], win)
            np.copyto(y[there], number, where=win)
        np.add(y, images * (h * w), y)

    return Kernel("windows", run, (mask, mask))


@kernel(AvgPool2d)
def avg_pool2d(op, y, x):
    (n, c, h, w), (p, q) = x.shape, op.padding
    middle = np.s_[:, :, p : p + h, q : q + w]

    def run(y, x, *around):
        for a in around:
            a.fill(0)
            np.copyto(a[middle], x)
            x = a
        np.add.reduce(windows(x, op.size, y.shape[2:], op.stride), (2, 3), None, y)
        np.divide(y, prod(op.size), y)

    around = [Spec((n, c, h + 2 * p, w + 2 * q), x.dtype)] if p or q else []
    return Kernel("windows", run, tuple(around)) if x.dtype != np.float16 else None


@kernel(AvgPool2dInput)
def avg_pool2d_input(op, y, g):
    places = places_of(op.pool, y, g)

    def run(y, g, share):
        np.divide(g, prod(op.pool.size), share)
        y.fill(0)
        for _, there, here in places:
            x = y[here]
            np.add(x, share[there], x)

    return Kernel("windows", run, (g,))
