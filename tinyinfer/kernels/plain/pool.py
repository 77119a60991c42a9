"""Pooling: for every element (k, l) of a window, all windows at once. Padding is left out: where an
element would lie in it, the window has none."""

from math import prod

import numpy as np

from ...core.spec import Spec
from ...ops.pool import AvgPool2d, AvgPool2dInput, MaxPool2d, MaxPool2dAt, MaxPool2dInput, lowest
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


def winners(pool, x, y):
    """(scratch, each): `for there, here, wins in each(x, y, *scratch)` gives, for every element of a
    window, the windows that have it, where it lies, and whether it is their maximum and the first."""
    places, mask = places_of(pool, x, y), Spec(y.shape, np.dtype(bool))

    def each(x, y, free, wins, nan):
        free.fill(True)
        some_nan = x.size and np.isnan(x.max())
        for _, there, here in places:
            view, win, left = x[here], wins[there], free[there]
            np.equal(view, y[there], win)
            if some_nan:  # by !=, for np.isnan into strided memory is wrong (NumPy 2.4)
                np.logical_or(win, np.not_equal(view, view, nan[there]), win)
            np.logical_and(win, left, win)
            np.greater(left, win, left)  # and not this one
            yield there, here, win

    return (mask, mask, mask), each


@kernel(MaxPool2dInput)
def max_pool2d_input(op, y, g, x, m):
    scratch, each = winners(op.pool, x, m)
    bits = np.dtype(
        f"i{g.dtype.itemsize}"
    )  # to multiply them by 0 or 1 is quick, and inf stays out

    def run(y, g, x, m, won, *scratch):
        y.fill(0)
        for there, here, win in each(x, m, *scratch):
            view, part = y[here], won[there]
            np.multiply(g[there].view(bits), win, part.view(bits))
            np.add(view, part, view)

    return Kernel("windows", run, (Spec(m.shape, g.dtype), *scratch))


@kernel(MaxPool2dAt)
def max_pool2d_at(op, y, u, x, m):
    scratch, each = winners(op.pool, x, m)

    def run(y, u, x, m, *scratch):
        y.fill(0)
        for there, here, win in each(x, m, *scratch):
            np.copyto(y[there], u[here], where=win)

    return Kernel("windows", run, scratch)


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
