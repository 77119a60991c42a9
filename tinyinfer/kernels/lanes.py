"""Convolution of sixteen images at a time, side by side in the lanes, and both its gradients: lines as
in `lines.py` and `line_weights.py`, of images that lie as [image / 16][channel][row][column][16].

That fills all lanes however few channels there are, and nothing is packed. What images the last block
lacks are zeros before and after.
"""

from math import gcd, prod

import numpy as np

from ..core.spec import Spec
from ..ops.conv import Conv2d, Conv2dInput, Conv2dWeight
from ..ops.layout import In, image_shape
from . import threads
from .kernel import Cost, Kernel, kernel
from .line_weights import convolve_weights, weight_line
from .lines import Work, convolve, line, tile_of
from .native import bound

FLOAT = np.dtype("f4")
LAYOUT = "NCHW16n"
NOTHING = np.zeros(0, FLOAT)


def asked(op, kind, *xs) -> bool:
    """Floats, in lanes."""
    return (
        isinstance(op.op, kind)
        and op.layout == LAYOUT == (op.source or LAYOUT)
        and all(x.dtype == FLOAT for x in xs)
    )


@kernel((In, Conv2d))
def find(op, y, x, w, bias=None, activation="", pool=False):
    """`bias`, the spec of one number a filter, an activation, and the largest of 2 x 2 numbers are for
    what is fused with it: y has the result's shape then."""
    if not asked(op, Conv2d, x, w):
        return None
    conv = op.op
    columns = conv.infer(Spec(image_shape(LAYOUT, x.shape, op.count), FLOAT), w).shape[3]
    columns = columns // 2 * 2 if pool else columns
    if not columns:
        return None
    lines = 1 + pool
    f, b = tile_of(y.shape[1] // conv.groups, columns, lines, lines)
    more = {"bias": int(bias is not None), "activation": activation, "pool": int(pool)}
    more |= {"lines": lines, "alone": int(lines == 1 or conv.padding[0] != (0, 0))}
    t = line(conv, columns, w.shape[3], x.shape[3], True, filters=f, width=b, **more)
    work = Work(op.count, conv.groups, conv.stride[0], conv.padding[0][0], conv.dilation[0],
                1, conv.dilation[0])  # fmt: skip
    return made(t, work, bias, 2 * prod(y.shape) * prod(w.shape[1:]) << 2 * pool, y, x, w)


@kernel((In, Conv2dInput))
def find_input(op, y, g, w):
    if not asked(op, Conv2dInput, g, w) or not y.shape[3]:
        return None
    conv = op.op.conv
    f, b = tile_of(w.shape[1], y.shape[3], conv.stride[1])
    t = line(conv, y.shape[3], w.shape[3], g.shape[3], True, filters=f, width=b, back=1)
    flops = 2 * prod(g.shape) * prod(w.shape[1:])
    return made(t, backwards(conv, op.count), None, flops, y, g, w)


def backwards(conv, images) -> Work:
    (s, d), p = (conv.stride[0], conv.dilation[0]), conv.padding[0][0]
    return Work(images, conv.groups, s, p, d, s // gcd(s, d), -d // gcd(s, d))


def made(t, work, bias, flops, y, *xs):
    split = threads.parts(flops, y.shape[0] * y.shape[2])
    go = bound(convolve, t, (work,), split)
    run = go if bias else lambda y, x, w: go(y, x, w, NOTHING)
    return Kernel("images in lanes", run, cost=cost(flops, t.filters * t.width, y, *xs))


def cost(flops, sums, *specs):
    """Two multiply-adds begin in a cycle, each takes four."""
    return Cost(flops, 4 * sum(prod(x.shape) for x in specs), 0.9 * min(1, sums / 10))


@kernel((In, Conv2dWeight))
def find_weight(op, y, g, x):
    if not asked(op, Conv2dWeight, g, x) or not x.shape[3]:
        return None
    conv = op.op.conv
    filters, channels = g.shape[1] // conv.groups, y.shape[1]
    t = weight_line(conv, filters, channels, g.shape[3], y.shape[3], x.shape[3], True)
    numbers = conv.groups, conv.stride[0], conv.padding[0][0], conv.dilation[0], op.count
    flops = 2 * prod(g.shape) * prod(y.shape[1:])
    go = bound(convolve_weights, t, numbers, threads.parts(flops, g.shape[1] // t.filters))
    return Kernel(
        "images in lanes", go, cost=cost(flops, t.filters * t.channels * t.piece, y, g, x)
    )
