"""Convolution of sixteen images at a time, side by side in the lanes: y = conv(x, w), and its gradient
by x. x and y lie as [image / 16][channel][row][column][16]; w as it is, a number of it in all lanes.

    for image, i in blocks of images, lines of y:    # threads share the work here
        for j in tiles of columns:
            for o in tiles of filters:
                for c, k in channels, rows of the filters inside the image:
                    for l, f, b in taps, filters and columns of the tile:          # unrolled
                        sums[f, b] += w[o + f, c, k, l] * x[image, c, s i + d k - p, s (j + b) + d l - p]

Each line is a program of its own: how many columns there are, and which taps of each lie inside the
image, the compiler knows. So padding costs nothing, and no copy of x is made. How many lines, channels
and images there are it is told when it runs. What would be beyond the image is not multiplied, by
infinite weights neither.

The gradient by x is the same sum with other places: of line h it takes the lines (h + p - d k) / s of g.
"""

from math import gcd, prod
from typing import NamedTuple

import numpy as np

from ..core.spec import Spec
from ..ops.conv import Conv2d, Conv2dInput
from ..ops.layout import In, image_shape
from . import threads
from .host import HOST
from .kernel import Cost, Kernel, kernel
from .native import bound, native
from .simd import (
    BYTES,
    LANES,
    at,
    below,
    broadcast,
    first_lanes,
    fma,
    load,
    loop,
    maximum,
    micro,
    registers,
    relu,
    select,
    splat,
    store,
    zeros,
)
from .static import Static

FLOAT = np.dtype("f4")
LAYOUT = "NCHW16n"
SUMS = min(
    21, HOST.registers * HOST.lanes // LANES * 3 // 4
)  # at most; the rest holds what is loaded
NOTHING = np.zeros(0, FLOAT)
ACTIVATIONS = {"": lambda x: x, "relu": relu}

# ---- which columns meet which taps -----------------------------------------------------------------


class Run(NamedTuple):
    """Tiles of columns that do the same."""

    first: int  # column of y
    count: int
    step: int  # columns from tile to tile
    pairs: list  # (column of the tile, tap, column of x from the first that it sees)
    seen: int  # the first column of x
    seen_step: int


def runs(t, taps=None) -> list[Run]:
    """Those of a line; the last tile overlaps another, if the width does not divide the columns."""
    found = []
    for first in [*range(0, t.columns - t.width, t.width), t.columns - t.width]:
        pairs = [(b, l, q) for b in range(t.width) for l, q in inside(t, first + b, taps)]
        seen = min((q for *_, q in pairs), default=0)
        tile = Run(first, 1, 0, [(b, l, q - seen) for b, l, q in pairs], seen, 0)
        if found and (longer := joined(found[-1], tile)):
            found[-1] = longer
        else:
            found.append(tile)
    return found


def joined(run, tile) -> Run | None:
    step, seen_step = tile.first - run.first, tile.seen - run.seen
    if run.count > 1:
        step, seen_step = run.step, run.seen_step
    follows = (run.count * step, run.count * seen_step) == (
        tile.first - run.first,
        tile.seen - run.seen,
    )
    if follows and run.pairs == tile.pairs:
        return run._replace(count=run.count + 1, step=step, seen_step=seen_step)


def inside(t, column, taps=None):
    """(tap, column of x) that a column of y sums."""
    for l in range(t.taps) if taps is None else taps:
        q, rest = t.stride * column + t.dilation * l - t.padding, 0
        if t.back:
            q, rest = divmod(column + t.padding - t.dilation * l, t.stride)
        if not rest and 0 <= q < t.seen:
            yield l, q


def tile_of(filters, columns, multiple=1):
    """(filters, columns) of a tile. Two multiply-adds begin in a cycle, if there are ten to wait for;
    what is loaded takes some time too."""

    def cost(tile):
        f, b = tile
        return -(-filters // f) * -(-columns // b) * (max(f * b, 10) + (f + b) / 10)

    some = range(1, max(1, filters) + 1), range(1, columns + 1)
    fits = lambda f, b: f * b <= SUMS and (b % multiple == 0 or b == columns)
    tiles = [(f, b) for f in some[0] for b in some[1] if fits(f, b)]
    return min(tiles or [(1, min(multiple, columns))], key=cost)


# ---- a line ----------------------------------------------------------------------------------------


class Steps(NamedTuple):
    """In bytes."""

    y_filter: int
    x_channel: int
    x_row: int  # from a row of the filter, that lies inside the image, to the next
    w_filter: int
    w_channel: int
    w_row: int


@micro
def one_line(t, y, x, w, bias, filters, channels, rows, images, second, steps):
    """So many rows of the filters lie inside the image. `second`: of two lines of a pool."""
    steps = Steps(*steps)
    there = first_lanes(images)
    for run in runs(t):
        for i in loop(run.count):
            x_tile = x + (i * (BYTES * run.seen_step) + BYTES * run.seen)
            y_tile = y + (i * (BYTES * run.step >> t.pool) + (BYTES * run.first >> t.pool))
            for j in loop((filters + (t.filters - 1)) // t.filters):
                f = below(j * t.filters, filters - t.filters)  # the last tile may overlap another
                sums = start(t, bias + f * 4)
                add_taps(t, run, sums, x_tile, w + f * steps.w_filter, channels, rows, steps)
                put(t, sums, y_tile + f * steps.y_filter, steps.y_filter, there, second)


def start(t, bias):
    numbers = [broadcast(bias + 4 * f) if t.bias else zeros() for f in range(t.filters)]
    return registers([x for x in numbers for _ in range(t.width)])


def add_taps(t, run, sums, x, w, channels, rows, steps):
    for c in loop(channels):
        for k in loop(rows):
            line, numbers = x + c * steps.x_channel + k * steps.x_row, w + c * steps.w_channel
            numbers, columns = numbers + k * steps.w_row, {}
            for l in range(t.taps):
                met = [(b, q) for b, tap, q in run.pairs if tap == l]
                columns |= {q: load(line + BYTES * q) for _, q in met if q not in columns}
                for f in range(t.filters if met else 0):
                    number = broadcast(numbers + steps.w_filter * f + 4 * l)
                    for b, q in met:
                        s = f * t.width + b
                        sums[s] = fma(number, columns[q], sums[s])


def put(t, sums, y, apart, there, second):
    """Images that do not exist are zeros, not what becomes of zeros."""
    for f in range(t.filters):
        line = [sums[f * t.width + b] for b in range(t.width)]
        if t.pool:
            line = [maximum(a, b) for a, b in zip(line[::2], line[1::2])]
        for b, v in enumerate(line):
            place, v = y + apart * f + BYTES * b, ACTIVATIONS[t.activation](v)
            if t.pool:
                v = select(splat(second) > 0, maximum(v, load(place)), v)
            store(place, select(there, v, zeros()))


# ---- all lines -------------------------------------------------------------------------------------


class Work(NamedTuple):
    images: int
    groups: int
    stride: int  # here, and in what follows, of rows
    padding: int
    dilation: int
    row: int  # rows of the filter from one that lies inside the image to the next
    seen: int  # rows of the image meanwhile


@native
def rows_inside(t, i, kernel, height, work):
    """(how many rows of the filter line i sees, the first of them, and of the image)"""
    count = first = seen = 0
    for k in range(kernel):
        r = work.stride * i + work.dilation * k - work.padding
        if t.back:
            r = i + work.padding - work.dilation * k
            if r % work.stride:
                continue
            r //= work.stride
        if 0 <= r < height:
            if not count:
                first, seen = k, r
            count += 1
    return count, first, seen


@native
def convolve(t, part, parts, y, x, w, bias, work):
    blocks, lines, height = y.shape[0], y.shape[2], x.shape[2]
    filters, channels = y.shape[1] // work.groups, x.shape[1] // work.groups
    y_line, x_line, tap = y.shape[3] * 16, t.seen * 16, w.shape[2] * t.taps
    w_filter, w_channel = (tap, w.shape[1] * tap) if t.back else (w.shape[1] * tap, tap)
    steps = (4 * lines * y_line, 4 * height * x_line, 4 * work.seen * x_line,
             4 * w_filter, 4 * w_channel, 4 * work.row * t.taps)  # fmt: skip
    for n in range(blocks * lines * part // parts, blocks * lines * (part + 1) // parts):
        b, i = divmod(n, lines)
        for second in range(1 + t.pool):
            rows, k, r = rows_inside(t, i * (1 + t.pool) + second, w.shape[2], height, work)
            for g in range(work.groups):
                one_line(t,
                         at(y, (b * y.shape[1] + g * filters) * lines * y_line + i * y_line),
                         at(x, ((b * x.shape[1] + g * channels) * height + r) * x_line),
                         at(w, g * (w.size // work.groups) + k * t.taps),
                         at(bias, g * filters), filters, channels, rows, images_of(work, b), second,
                         steps)  # fmt: skip


@native
def images_of(work, block):
    return min(16, work.images - 16 * block)


# ---- for which steps -------------------------------------------------------------------------------


def asked(op, kind, *xs) -> bool:
    """Floats, in lanes."""
    return (
        isinstance(op.op, kind)
        and op.layout == LAYOUT == (op.source or LAYOUT)
        and all(x.dtype == FLOAT for x in xs)
    )


def line(conv, filters, columns, taps, seen, back=False, **more) -> Static:
    multiple = conv.stride[1] if back else 1 + more.get("pool", 0)
    rows, width = tile_of(filters, columns, multiple)
    more = {"bias": 0, "activation": "", "pool": 0} | more
    return Static(filters=rows, width=width, columns=columns, seen=seen, taps=taps,
                  stride=conv.stride[1], padding=conv.padding[1][0], dilation=conv.dilation[1],
                  back=int(back), **more)  # fmt: skip


@kernel(In)
def find(op, y, x, w, bias=None, activation="", pool=False):
    """`bias`, the spec of one number a filter, an activation, and the largest of 2 x 2 numbers are for
    what is fused with it: y has the result's shape then."""
    if not asked(op, Conv2d, x, w) or not prod(w.shape[2:]):
        return None
    conv, more = op.op, {"bias": int(bias is not None), "activation": activation, "pool": int(pool)}
    columns = conv.infer(Spec(image_shape(LAYOUT, x.shape, op.count), FLOAT), w).shape[3]
    columns = columns // 2 * 2 if pool else columns
    if not columns:
        return None
    t = line(conv, y.shape[1] // conv.groups, columns, w.shape[3], x.shape[3], **more)
    work = Work(op.count, conv.groups, conv.stride[0], conv.padding[0][0], conv.dilation[0],
                1, conv.dilation[0])  # fmt: skip
    return made(t, work, bias, 2 * prod(y.shape) * prod(w.shape[1:]) << 2 * int(pool), y, x, w)


@kernel(In)
def find_input(op, y, g, w):
    if not asked(op, Conv2dInput, g, w) or not prod(w.shape[2:]) or not y.shape[3]:
        return None
    conv = op.op.conv
    t = line(conv, w.shape[1], y.shape[3], w.shape[3], g.shape[3], back=True)
    (s, d), p = (conv.stride[0], conv.dilation[0]), conv.padding[0][0]
    work = Work(op.count, conv.groups, s, p, d, s // gcd(s, d), -d // gcd(s, d))
    return made(t, work, None, 2 * prod(g.shape) * prod(w.shape[1:]), y, g, w)


def made(t, work, bias, flops, y, *xs):
    split = threads.parts(flops, y.shape[0] * y.shape[2])
    go = bound(convolve, t, (work,), split)
    run = go if bias else lambda y, x, w: go(y, x, w, NOTHING)
    moved = 4 * sum(prod(x.shape) for x in (y, *xs))
    return Kernel("images in lanes", run, cost=Cost(flops, moved, efficiency(t)))


def efficiency(t):
    """Two multiply-adds begin in a cycle, each takes four."""
    filled = -(-t.columns // t.width) * t.width / t.columns
    return 0.9 * min(1, t.filters * t.width / 10) / filled
