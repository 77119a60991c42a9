"""Pooling and its gradients, of float32. Lanes are what stands side by side: channels (NCHW16c), images
(NCHW16n), or, in NCHW, planes that are transposed band by band.

A mean is a depthwise convolution whose weights are all the same, and a maximum is that loop with another
operation; both are done in `depthwise`. The gradient of a maximum goes through the windows:

    for p in planes by 16:
        for i, j in windows:
            left = g[p, i, j]
            for k, l in window:                          # the first that is the maximum takes all
                wins = x[p, s i + k, s j + l] = y[p, i, j]
                gx[p, s i + k, s j + l] += left where wins
                left = 0 where wins

`gated`: where the maximum is not above 0, left is 0: so comes back through the pool of relu(x).
"""

from dataclasses import replace
from math import prod

import numpy as np

from ..core.spec import Spec
from ..ops.conv import Conv2d
from ..ops.layout import In, unwrapped
from ..ops.pool import AvgPool2d, AvgPool2dInput, MaxPool2d, MaxPool2dInput
from . import threads
from .depthwise import BAND, Layer, image_kernel, lay_back, pixels, sizes_of
from .kernel import Cost, Kernel, kernel
from .native import bound, native, share
from .simd import (
    BYTES,
    LANES,
    at,
    constant,
    f32,
    fill,
    is_nan,
    load,
    loop,
    micro,
    registers,
    select,
    splat,
    store,
    zeros,
)
from .static import Static
from .taps import summaries, table, taps_forward

LAYOUTS = "NCHW", "NCHW16c", "NCHW16n"


@micro
def give(t, gx, g, m, x, row, down, across):
    """Of one window: rows of x and of gx lie so many bytes apart."""
    left, best = load(g), load(m)
    if t.gated:
        left = left * select(best > 0, splat(constant(f32, 1)), zeros())
    left = registers([left])
    for k in loop(down):
        for l in loop(across):
            there = row * k + l * BYTES
            p = load(x + there)
            wins = is_nan(p) | p.compared("==", best)
            store(gx + there, load(gx + there) + select(wins, left[0], zeros()))
            left[0] = select(wins, zeros(), left[0])


@native
def give_to_largest(t, part, parts, y, g, x, m, room, bands, rows, columns, sizes, first_room,
                    second_room):  # fmt: skip
    height, width, line, planar = sizes.height, sizes.width, sizes.columns, sizes.planar
    x_size, g_size = (sizes.channels, height, width), (sizes.filters, sizes.lines, line)
    blocks = (sizes.channels + 15) // 16
    gs = at(room, part * room.shape[1])
    ms, xs = gs + 64 * first_room, gs + 64 * 2 * first_room
    to = xs + 64 * second_room
    total = blocks * len(bands)
    for item in range(*share(total, part, parts)):
        block, b = divmod(item, len(bands))
        first, end, top, bottom, start, stop = bands[b]
        p = pixels(planar, gs, g, 0, block, g_size, first, end)
        q = pixels(planar, ms, m, 0, block, g_size, first, end)
        a = pixels(planar, xs, x, 0, block, x_size, top, bottom)
        if not planar:
            to = pixels(planar, 0, y, 0, block, x_size, top, bottom)
        fill(to, 0, BYTES * (bottom - top) * width)
        for i in range(first, end):
            _, row, down = rows[i]
            for j in range(len(columns)):
                _, column, across = columns[j]
                window = 64 * ((i - first) * line + j)
                pixel = 64 * ((row - top) * width + column)
                give(t, to + pixel, p + window, q + window, a + pixel, 64 * width, down, across)
        if planar:
            there = (16 * block * height + start) * width
            planes = min(16, sizes.channels - 16 * block)
            size = (stop - start) * width
            lay_back(to + 64 * (start - top) * width, y, there, height * width, planes, size)


# ---- who is served ---------------------------------------------------------------------------------


def layer_of(op, x, y, *specs):
    """As if it were a depthwise convolution of one image, whose channels are all planes there are."""
    pool, layout, source, _ = unwrapped(op)
    pool = getattr(pool, "pool", pool)
    if layout not in LAYOUTS or source != layout:
        return None
    if any(s.dtype != np.float32 for s in specs) or not prod(x.shape):
        return None
    planes, size = lambda s: (1, prod(s.shape) // prod(size(s)), *size(s)), lambda s: s.shape[2:4]
    conv = Conv2d(pool.stride, pool.sides, (1, 1), planes(x)[1])
    return Layer(conv, planes(x), (planes(x)[1], 1, *pool.size), planes(y), layout == "NCHW")


OPS = MaxPool2d, AvgPool2d, AvgPool2dInput, MaxPool2dInput


@kernel(*OPS, *((In, op) for op in OPS))
def find(op, y, *xs, gated=False):
    """`gated`, of the gradient of a maximum: relu's gradient, too."""
    found, (_, layout, _, count) = pooling(op, y, *xs, gated=gated), unwrapped(op)
    rest = count and count % LANES
    if not found or not rest:
        return found
    last = np.s_[:, -1, :, :, rest:] if layout == "NCHW16c" else np.s_[-1, :, :, :, rest:]

    def run(y, *more):
        found.run(y, *more)
        y[last] = 0  # where nothing is

    return replace(found, run=run)


def pooling(op, y, *xs, gated=False):
    pool, *_ = unwrapped(op)
    if isinstance(pool, MaxPool2dInput):
        layer = layer_of(op, y, xs[0], *xs)
        return layer and largest_input(layer, gated)
    forward = not isinstance(pool, AvgPool2dInput)
    layer = layer_of(op, *((xs[0], y) if forward else (y, xs[0])), *xs)
    if layer is None:
        return None
    largest = isinstance(pool, MaxPool2d)
    made = image_kernel(layer, forward, 1.0 if largest else 1 / prod(layer.w[2:]), int(largest))
    return replace(made, name="strips", run=lambda y, x, room: made.run(y, x, x, room))


def largest_input(layer, gated):
    rows, columns = layer.taps(taps_forward)
    blocks = -(-layer.x[1] // LANES)
    operations = 4 * prod(layer.y) * prod(layer.w[2:])
    bands = table([*bands_of(rows, layer)])
    parts = threads.parts(operations, blocks * len(bands))
    gs = max(bands[:, 1] - bands[:, 0]) * layer.y[3]
    xs = max(bands[:, 3] - bands[:, 2]) * layer.x[3]
    room = Spec((parts, int(LANES * 2 * (gs + xs)) * layer.planes), np.dtype(np.float32))
    sizes = sizes_of(layer.x, layer.y, layer.planes)
    numbers = bands, summaries(rows), summaries(columns), sizes, int(gs), int(xs)
    run = bound(give_to_largest, Static(gated=int(gated)), numbers, parts)
    cost = Cost(operations, 8 * (prod(layer.x) + prod(layer.y)), 0.3)
    return Kernel("windows", run, (room,), cost=cost)


def bands_of(rows, layer):
    """(first and end window, first and end row that they see, first and end row of the gradient, to
    which these windows give): planes are done in bands, of which each row has all its windows."""
    height, width = layer.x[2:]
    count = 1
    if layer.planes:
        count = min(height, -(-2 * BYTES * (height * width + prod(layer.y[2:])) // BAND))
    ends = [height * b // count for b in range(count + 1)]
    for start, stop in zip(ends, ends[1:]):
        some = [i for i, taps in enumerate(rows) if any(start <= u < stop for _, u in taps)]
        seen = [u for i in some for _, u in rows[i]] + [start, stop - 1]
        yield (
            min(some, default=0),
            max(some, default=-1) + 1,
            min(seen),
            max(seen) + 1,
            start,
            stop,
        )
