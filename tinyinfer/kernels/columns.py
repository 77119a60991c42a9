"""What convolutions read of images: columns, of a panel of pixels at a time (im2col).

    for run of neighbouring pixels in the panel:     # in a row of an image
        for k, l in taps:
            for c in channels:                       # a vector, or two; zeros beside the image
                columns[c, k, l, run] = x[n, c, s i + d k - p, s j + d l - p]

At stride 2 a vector is every other number of two of them.
"""

from typing import NamedTuple

import numpy as np

from .gemm import LINE, VECTORS, WIDE
from .native import inner
from .simd import (
    BYTES,
    LANES,
    first_lanes,
    load_one,
    loop,
    micro,
    prefetch,
    read_masked,
    shuffled,
    store,
    store_some,
    zeros,
)


class Grid(NamedTuple):
    """Pixels (rows, columns) of each image; what of an image of (height, width) they read, and where
    they are written to in another one."""

    images: int
    groups: int
    channels: int  # of a group, that are read
    filters: int  # of a group
    height: int
    width: int
    rows: int
    columns: int
    down: int  # stride, with which it is read
    right: int
    to_height: int
    to_width: int
    top: int  # the first pixel
    left: int
    to_down: int  # from pixel to pixel
    to_right: int


def forward_grid(op, y, x, w):
    """(Grid, taps): where what is read for a pixel lies."""
    (n, c, *size), (o, _, *window) = x.shape, w.shape
    g = Grid(n, op.groups, c // op.groups, o // op.groups, *size, *y.shape[2:], *op.stride,
             *y.shape[2:], 0, 0, 1, 1)  # fmt: skip
    before = op.padding[0][0], op.padding[1][0]
    return g, [
        tuple(d * k - p for d, k, p in zip(op.dilation, tap, before)) for tap in np.ndindex(*window)
    ]


def input_grids(op, y, g, w):
    """Grid, taps and which ones these are: for each grid of pixels that see the same taps. Pixel h is
    read by window (h + p - d k) / s, if that is whole."""
    (n, c, *size), (o, _, *window) = y.shape, w.shape
    s, d, before = op.stride, op.dilation, (op.padding[0][0], op.padding[1][0])
    for phase in np.ndindex(*s):
        first = [(a - p) % b for a, p, b in zip(phase, before, s)]
        count = [max(0, -((f - m) // b)) for f, m, b in zip(first, size, s)]
        kinds = [tap for tap in np.ndindex(*window)
                 if all(d_ * k % b == a for d_, k, b, a in zip(d, tap, s, phase))]  # fmt: skip
        taps = [tuple((f + p - d_ * k) // b for f, p, d_, k, b in zip(first, before, d, tap, s))
                for tap in kinds]  # fmt: skip
        grid = Grid(n, op.groups, o // op.groups, c // op.groups, *g.shape[2:], *count, 1, 1, *size,
                    *first, *s)  # fmt: skip
        yield grid, taps, [k * window[1] + l for k, l in kinds]


def stride_of(g):
    """Where vectors are read; otherwise 0."""
    return g.right if g.right in (1, 2) and (g.down == g.right or g.rows == 1) else 0


def one_row(g, taps):
    """Where every pixel is read as it lies, an image is one row of pixels."""
    if (
        taps == [(0, 0)]
        and (g.rows, g.columns) == (g.height, g.width)
        and (g.down, g.right) == (g.to_down, g.to_right) == (1, 1)
    ):
        row = 1, g.rows * g.columns
        g = g._replace(**dict(zip(("height", "width", "rows", "columns"), row * 2)))
        return g._replace(to_height=1, to_width=row[1])
    return g


# ---- columns ---------------------------------------------------------------------------------------


def line_of(t, address, low, high):
    """Neighbouring pixels: those from low to high, of up to 16; zeros for the others."""
    between = lambda first, last: first_lanes(last) & ~first_lanes(first)
    if t.stride == 1:
        return read_masked(address, between(low, high))
    low, high = low * 2, high * 2 - 1
    halves = [
        read_masked(address + BYTES * h, between(low - LANES * h, high - LANES * h)) for h in (0, 1)
    ]
    return shuffled(*halves, range(0, 2 * LANES, 2))


def copied(t, vectors, x, plane, channels, low, high, to, step, count, stride):
    for c in loop(channels):
        for v in range(vectors):
            there = x + plane * c + BYTES * t.stride * v
            prefetch(there + LINE * t.stride)  # the next panel
            line = line_of(t, there, low - LANES * v, high - LANES * v) if t.stride else zeros()
            store_some(to + step * c + BYTES * v, line, count - LANES * v)
        if not t.stride:
            for j in loop(high, low):
                store(to + step * c + (j << 2), load_one(x + plane * c + stride * (j << 2)))


@micro
def copy_run(t, x, plane, channels, low, high, to, step, count, stride):
    """Of so many channels the run of up to 16 pixels, of which those from low to high exist."""
    copied(t, 1, x, plane, channels, low, high, to, step, count, stride)


@micro
def copy_runs(t, x, plane, channels, low, high, to, step, count, stride):
    """The same of up to 32."""
    copied(t, VECTORS, x, plane, channels, low, high, to, step, count, stride)


@inner
def within(offset, stride, size, count):
    """Of positions offset + stride * (0 ... count): which ones are from 0 to size."""
    low = min(count, max(0, -(offset // stride)))
    return low, max(low, min(count, -((offset - size) // stride)))


@inner
def gather(t, g, x, group, taps, first, count, to, panel):
    """The columns of pixels from `first` on, in panels."""
    done, step = 0, LINE * len(taps)
    plane = 4 * g.height * g.width
    image = plane * g.channels * g.groups
    x += plane * g.channels * group
    while done < count:
        n, pixel = divmod(first + done, g.rows * g.columns)
        i, j = divmod(pixel, g.columns)
        beside = done % WIDE
        run = min(g.columns - j, count - done, WIDE - beside)
        for k in range(len(taps)):
            row, column = g.down * i + taps[k, 0], g.right * j + taps[k, 1]
            low, high = within(column, t.stride or g.right, g.width, run)
            if row < 0 or row >= g.height:
                low, high = 0, 0
            there = x + image * n + 4 * (row * g.width + column)
            line = to + panel * (done // WIDE) + 4 * beside + LINE * k
            if run <= LANES:
                copy_run(t, there, plane, g.channels, low, high, line, step, run, g.right)
            else:
                copy_runs(t, there, plane, g.channels, low, high, line, step, run, g.right)
        done += run


@micro
def copy_columns(x, k, count, to, step):
    """The last columns of a panel as rows."""
    for j in loop(count):
        for i in loop(k):
            store(to + step * j + (i << 2), load_one(x + (j << 2) + LINE * i))
