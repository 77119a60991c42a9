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
    """In bytes, which are quick: `left` is how many elements are left in a window from the one that
    wins on. Those of a window are counted row by row, and so are those of an image."""
    (height, width), (n, c, h, w), (s, t), (p, q) = op.size, x.shape, op.stride, op.padding
    if height * width > 255:
        return None
    places = places_of(op, x, y)
    rows, columns = (np.arange(n) for n in y.shape[2:])
    corners = (s * rows[:, None] - p) * w + t * columns - q
    images = np.arange(n * c).reshape(n, c, 1, 1) * (h * w)

    def run(y, x, m, left, wins, nan):
        left.fill(0)
        some_nan = x.size and np.isnan(x.max())
        for (k, l), there, here in places:
            view, win = x[here], wins[there]
            np.equal(view, m[there], win)
            if some_nan:  # by !=, for np.isnan into strided memory is wrong (NumPy 2.4)
                np.logical_or(win, np.not_equal(view, view, nan[there]), win)
            value, best = win.view(np.uint8), left[there]
            np.multiply(value, np.uint8(height * width - k * width - l), value)
            np.maximum(best, value, out=best)
        np.logical_not(left, wins)  # where none wins, since m is not their maximum
        np.subtract(np.uint8(height * width), left, left)  # the number of the one that wins
        np.floor_divide(left, np.uint8(width), nan.view(np.uint8))  # and its row
        np.copyto(y, nan.view(np.uint8))
        np.multiply(y, w - width, y)
        np.add(y, left, y)
        np.add(y, corners, y)
        np.copyto(y, 0, where=wins)
        np.add(y, images, y)

    byte, mask = Spec(y.shape, np.dtype(np.uint8)), Spec(y.shape, np.dtype(bool))
    return Kernel("windows", run, (byte, mask, mask))


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
