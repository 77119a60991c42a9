"""Convolution as a product of matrices: what each window covers is written out as a column (im2col),
of a few images at a time, so that it stays in the cache."""

from math import prod

import numpy as np

from ...core.spec import Spec
from ...ops.conv import Conv2d, Conv2dInput, Conv2dWeight
from ..kernel import Kernel, kernel
from .windows import overlaps, windows

ROOM = 2**20  # bytes of columns


def lots(n, one: Spec):
    """(m, slices): as many of n images at a time as have room, if each takes what `one` does."""
    m = max(1, min(n, ROOM // max(1, prod(one.shape) * one.dtype.itemsize)))
    return m, [slice(a, a + m) for a in range(0, n, m)]


def columns_of(conv, x, size, count):
    """(scratch, each): `for lot, columns in each(x, *scratch)` gives slices of images, and their
    columns (images, group, c k l, i j)."""
    (n, c, h, w), (top, bottom), (left, right) = x.shape, *conv.padding
    matrix = conv.groups, c // conv.groups * prod(size), prod(count)
    one = Spec((c, *size, *count), x.dtype)
    m, slices = lots(n, one)
    around = Spec((m, c, top + h + bottom, left + w + right), x.dtype)
    middle = np.s_[:, :, top : top + h, left : left + w]
    look = lambda images: windows(images, size, count, conv.stride, conv.dilation)
    pads = around.shape[2:] != (h, w)
    writes = not is_view(np.empty(around.shape[1:], x.dtype)[None], look, matrix)

    def each(x, *scratch):
        around, columns = scratch[:pads], scratch[pads:]  # one of each, or none
        for a in around:
            a.fill(0)
        for lot in slices:
            images = x[lot]
            k = len(images)
            for a in around:
                np.copyto(a[:k][middle], images)
                images = a[:k]
            rows = look(images)
            for c in columns:
                np.copyto(c[:k], rows)
                rows = c[:k]
            yield lot, rows.reshape(k, *matrix)

    return (around,) * pads + (Spec((m, *one.shape), x.dtype),) * writes, each


def is_view(image, look, matrix):
    """Are the columns of an image, such as windows of one element, there without being written?"""
    return np.may_share_memory(look(image).reshape(1, *matrix), image)


@kernel(Conv2d)
def conv2d(op, y, x, w):
    if x.dtype != w.dtype:
        return None
    scratch, each = columns_of(op, x, w.shape[2:], y.shape[2:])

    def run(y, x, w, *scratch):
        w, y = op.grouped(w), op.maps(y)
        for lot, columns in each(x, *scratch):
            np.matmul(w, columns, y[lot])

    return Kernel("im2col", run, scratch)


@kernel(Conv2dWeight)
def conv2d_weight(op, y, g, x):
    if g.dtype != x.dtype:
        return None
    conv = op.conv
    scratch, each = columns_of(conv, x, y.shape[2:], g.shape[2:])
    matrix = conv.groups, y.shape[0] // conv.groups, prod(y.shape[1:])

    def run(y, g, x, one, *scratch):
        g, y = conv.maps(g), y.reshape(matrix)
        y.fill(0)
        for lot, columns in each(x, *scratch):
            for maps, column in zip(g[lot], columns):
                np.matmul(maps, column.swapaxes(1, 2), one)
                np.add(y, one, y)

    return Kernel("im2col", run, (Spec(matrix, y.dtype), *scratch))


@kernel(Conv2dInput)
def conv2d_input(op, y, g, w):
    if g.dtype != w.dtype:
        return None
    conv, size, count = op.conv, w.shape[2:], g.shape[2:]
    places = overlaps(y.shape[2:], size, count, conv.stride, conv.padding, conv.dilation)
    one = Spec((y.shape[1], *size, *count), y.dtype)
    m, slices = lots(y.shape[0], one)
    matrix = conv.groups, y.shape[1] // conv.groups * prod(size), prod(count)

    def run(y, g, w, columns):
        w, g = conv.grouped(w).swapaxes(1, 2), conv.maps(g)
        y.fill(0)
        for lot in slices:
            images = y[lot]
            k = len(images)
            np.matmul(w, g[lot], columns[:k].reshape(k, *matrix))
            for at, there, here in places:
                x = images[here]
                np.add(x, columns[:k][:, :, *at][there], x)

    return Kernel("col2im", run, (Spec((m, *one.shape), y.dtype),))
