"""Kernels of lines (`lines.py`, `line_weights.py`), and of which work they are: for images in the lanes of
a vector, and, where `images` is None, for columns.
"""

from dataclasses import replace
from math import gcd, prod

import numpy as np

from ..core.spec import Spec
from . import threads
from .finite import guarded
from .kernel import NO_BIAS, Cost, Kernel
from .line_weights import convolve_weights, weight_tile
from .lines import LANES, Line, Work, convolve, runs, spanned, work_ratio
from .native import bound
from .tile import busy

FLOAT = np.dtype("f4")
NO_ROOM = np.zeros((1, 0), FLOAT)
NO_ROOM.flags.writeable = False


def line(conv, columns, seen, taps, images, back=False) -> Line:
    (_, stride), (_, dilation), (_, (padding, _)) = conv.stride, conv.dilation, conv.padding
    return Line(columns, seen, taps, stride, padding, dilation, images, back)


def forward(op, images, columns, y, x, w, bias=None, activation="", pool=False):
    if not columns:
        return None
    conv = op if images is None else op.op
    filters, padded = y.shape[1] // conv.groups, conv.padding[0] != (0, 0)
    t = line(conv, columns, x.shape[3], w.shape[3], images is not None).tile(
        filters, bias is not None, activation, pool, padded,
        flat=int(w.shape[2] == 1 and not padded), copied=int(shares_cache(images, filters, x, w) and not pool),
    )  # fmt: skip
    work = Work(images or 0, conv.groups, conv.stride[0], conv.padding[0][0], conv.dilation[0],
                1, conv.dilation[0])  # fmt: skip
    found = made(t, work, 2 * prod(y.shape) * prod(w.shape[1:]) << 2 * pool, y, x, w)
    if conv.padding == ((0, 0), (0, 0)):
        return found
    return replace(found, run=guarded(found.run, op, 1, bias is not None, activation, pool))


def backward(op, images, y, g, w):
    if not y.shape[3]:
        return None
    conv = op.conv if images is None else op.op.conv
    (s, _), (d, _), ((p, end), _) = conv.stride, conv.dilation, conv.padding
    t = line(conv, y.shape[3], g.shape[3], w.shape[3], images is not None, back=True).tile(
        w.shape[1], flat=int(w.shape[2] == s == 1 and p == end == 0),
        copied=int(shares_cache(images, w.shape[1], g, w)),
    )  # fmt: skip
    work = Work(images or 0, conv.groups, s, p, d, s // gcd(s, d), -d // gcd(s, d))
    found = made(t, work, 2 * prod(g.shape) * prod(w.shape[1:]), y, g, w)
    if images is not None:
        return found
    return replace(found, run=guarded(found.run, op, 1))  # lanes beside g are zeros


def shares_cache(images, filters, x, w) -> bool:
    """Planes of a multiple of 4096 bytes: a pixel of all channels has few lines of the first cache for
    itself. Each tile of filters sees it again; and of several taps one finds what another has seen."""
    return (
        images is not None
        and prod(w.shape[2:]) == 1
        and filters > 8
        and prod(x.shape[2:4]) % 64 == 0 < prod(x.shape[2:4])
    )


def made(t, work, flops, y, x, w):
    parts = threads.parts(flops, y.shape[0] * y.shape[2])
    go = bound(convolve, t, (work,), parts)
    before, after = () if t.bias else (NO_BIAS,), () if t.copied else (NO_ROOM,)
    run = lambda y, x, w, *bias_and_room: go(y, x, w, *before, *bias_and_room, *after)
    room = Spec((parts, x.shape[1] // work.groups * spanned(runs(t)) * LANES), FLOAT)
    filters = max(1, y.shape[1] // work.groups)
    flops *= -(-filters // t.filters) * t.filters / filters
    sums = t.filters * t.width * t.lines
    return Kernel(name(t), run, (room,) * t.copied, cost=cost(t, flops, sums, y, x, w))


def of_weights(op, images, y, g, x):
    if not x.shape[3]:
        return None
    conv = op.conv if images is None else op.op.conv
    one = line(conv, g.shape[3], x.shape[3], y.shape[3], images is not None)
    t = weight_tile(one, g.shape[1] // conv.groups, y.shape[1])
    images = LANES * g.shape[0] if images is None else images  # lanes beyond do not count
    numbers = conv.groups, conv.stride[0], conv.padding[0][0], conv.dilation[0], images
    flops = 2 * prod(g.shape) * prod(y.shape[1:])
    go = bound(convolve_weights, t, numbers, threads.parts(flops, g.shape[1] // t.filters))
    run = go if conv.padding == ((0, 0), (0, 0)) else guarded(go, op, 0)
    made = cost(t, flops, t.filters * t.channels * t.piece, y, g, x)
    if (
        not t.images
    ):  # most vectors of x lie in two lines of the cache; and planes are short streams
        made = replace(made, flops=made.flops * 4 / 3, bytes=2 * made.bytes)
    return Kernel(name(t), run, cost=made)


def name(t):
    return "images in lanes" if t.images else "columns in lanes"


def cost(t, flops, sums, *specs):
    """Two loads begin in a cycle; if there is one filter, each multiply-add needs one."""
    moved = 4 * sum(prod(x.shape) for x in specs)
    return Cost(flops * work_ratio(t), moved, 0.9 * min(busy(sums, 1), t.filters / 2))
