"""Convolution of few images with few channels, and both its gradients: lines as in `lines.py` and
`line_weights.py`, where the lanes of a vector are sixteen neighbouring columns of a plain image.

Nothing is converted or packed. The filters step from column to column, not over some. A line that is
no multiple of sixteen ends in a vector that overlaps another; lanes that see padding load zeros.
"""

from math import prod

import numpy as np

from ..ops.conv import Conv2d, Conv2dInput, Conv2dWeight
from . import threads
from .kernel import Cost, Kernel, kernel
from .lanes import NOTHING, Work, backwards
from .line_weights import convolve_weights, weight_line
from .lines import LANES, convolve, line, tile_of
from .native import bound

FLOAT = np.dtype("f4")


def serves(conv, columns, *xs) -> bool:
    return conv.stride[1] == 1 and columns and all(x.dtype == FLOAT for x in xs)


@kernel(Conv2d)
def find(op, y, x, w, bias=None, activation="", pool=False):
    """`bias`, the spec of one number a filter, an activation, and the largest of 2 x 2 numbers are for
    what is fused with it: y has the result's shape then."""
    columns = y.shape[3] * (1 + pool)
    if not serves(op, columns, x, w):
        return None
    more = {"bias": int(bias is not None), "activation": activation, "pool": int(pool)}
    more["alone"] = int(not pool or op.padding[0] != (0, 0))
    t = of_columns(op, y.shape[1] // op.groups, columns, w.shape[3], x.shape[3], **more)
    work = Work(0, op.groups, op.stride[0], op.padding[0][0], op.dilation[0], 1, op.dilation[0])
    return made(t, work, bias, 2 * prod(y.shape) * prod(w.shape[1:]) << 2 * pool, y, x, w)


@kernel(Conv2dInput)
def find_input(op, y, g, w):
    if not serves(op.conv, y.shape[3], g, w):
        return None
    t = of_columns(op.conv, w.shape[1], y.shape[3], w.shape[3], g.shape[3], back=1)
    return made(t, backwards(op.conv, 0), None, 2 * prod(g.shape) * prod(w.shape[1:]), y, g, w)


def of_columns(conv, filters, columns, taps, seen, pool=0, **more):
    """Of short lines two make a tile: a number that is loaded is used for both."""
    vectors = -(-columns // LANES)
    lines = 2 if vectors == 1 or pool else 1
    f, b = tile_of(filters, vectors, lines=lines)
    return line(
        conv, columns, taps, seen, False, filters=f, width=b, lines=lines, pool=pool, **more
    )


def made(t, work, bias, flops, y, *xs):
    split = threads.parts(flops, y.shape[0] * y.shape[2])
    go = bound(convolve, t, (work,), split)
    run = go if bias else lambda y, x, w: go(y, x, w, NOTHING)
    return Kernel("columns in lanes", run, cost=cost(t, flops, t.filters * t.width, y, *xs))


def cost(t, flops, sums, *specs):
    """Two multiply-adds begin in a cycle, each takes four; not all lanes count."""
    flops *= -(-t.columns // LANES) * LANES / t.columns
    return Cost(flops, 4 * sum(prod(x.shape) for x in specs), 0.8 * min(1, sums / 10))


@kernel(Conv2dWeight)
def find_weight(op, y, g, x):
    conv = op.conv
    if not serves(conv, g.shape[3], g, x):
        return None
    filters, channels = g.shape[1] // conv.groups, y.shape[1]
    t = weight_line(conv, filters, channels, g.shape[3], y.shape[3], x.shape[3], False)
    numbers = conv.groups, conv.stride[0], conv.padding[0][0], conv.dilation[0], LANES * g.shape[0]
    flops = 2 * prod(g.shape) * prod(y.shape[1:])
    go = bound(convolve_weights, t, numbers, threads.parts(flops, g.shape[1] // t.filters))
    return Kernel(
        "columns in lanes", go, cost=cost(t, flops, t.filters * t.channels * t.piece, y, g, x)
    )
