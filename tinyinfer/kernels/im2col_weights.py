"""The gradient of filters as a product of matrices: their columns (im2col.py) by the gradient g.

    for cut in pixels:                                   # some rows of an image, or some images
        turn g[cut]                                      # to (pixels, filters), in panels of 32 filters
        for tile of lines (c, k, l):                     # 14, or as the registers allow
            lines[(c, k, l), :] = x[n, c, s i + d k - p, s j + d l - p]    # n, i, j: the pixels of the cut
            for panel of filters:
                sums[tile, panel] += lines @ g[cut, panel]    # gemm.py
    w[o, c, k, l] = sums[(c, k, l), o]

Here the sum goes through the pixels, so a line is used as it was copied. Cuts are added in their order.
"""

from math import prod
from typing import NamedTuple

import numpy as np

from ..core.spec import Spec
from ..ops.conv import Conv2dWeight
from . import threads
from .columns import forward_grid, line_of, one_row, stride_of, within
from .gemm import (
    FAR,
    FLOAT,
    LINE,
    NEAR,
    WIDE,
    ZERO,
    narrow_product,
    pack,
    product,
    tile_for,
)
from .im2col import serves
from .kernel import Cost, Kernel, kernel
from .native import bound, inner, native, share
from .reorder import FLOATS, to_planes
from .simd import BYTES, LANES, at, fill, load_one, loop, micro, prefetch, store, store_some, zeros
from .static import Static

COPY = 10  # filters, by as many multiplications as to copy a line takes the time of
TURNED = np.int64(1)
PIXELS = 256  # of a cut, at most
STEP = (
    4 * PIXELS + BYTES
)  # bytes from line to line; of a power of two they would compete in the cache


class Cut(NamedTuple):
    """Pixels of images first to last: these rows and columns. What lies between is read as one."""

    first: int
    last: int
    top: int
    bottom: int
    left: int
    right: int


def cuts(g) -> list[Cut]:
    n, rows, columns = g.images, g.rows, g.columns
    if columns > PIXELS:
        return [
            Cut(i, i + 1, r, r + 1, *c)
            for i in range(n)
            for r in range(rows)
            for c in evenly(columns, PIXELS)
        ]
    if rows * columns > PIXELS:
        some = PIXELS // columns
        return [Cut(i, i + 1, *r, 0, columns) for i in range(n) for r in evenly(rows, some)]
    some = PIXELS // max(1, rows * columns)
    return [Cut(i, min(n, i + some), 0, rows, 0, columns) for i in range(0, n, some)]


def evenly(n, most):
    """0 ... n in as few pieces as have at most so many."""
    pieces = -(-n // most)
    return [(n * i // pieces, n * (i + 1) // pieces) for i in range(pieces)]


@micro
def copy_block(t, x, pitch, low, high, width, top, bottom, rows, to, stride, ahead):
    """Some rows of a line, where those from top to bottom exist, and in these pixels from low to high.
    `ahead`: bytes to what is copied next."""
    for v in loop(width + (LANES - 1) >> 4):
        there, place, done = x + BYTES * t.stride * v, to + BYTES * v, v << 4
        some = width - done
        for i in loop(top):
            store_some(place + width * (i << 2), zeros(), some)
        for i in loop(bottom, top):
            prefetch(there + pitch * i + ahead)
            line = line_of(t, there + pitch * i, low - done, high - done) if t.stride else zeros()
            store_some(place + width * (i << 2), line, some)
        for i in loop(rows, bottom):
            store_some(place + width * (i << 2), zeros(), some)
    if not t.stride:
        for i in loop(bottom, top):
            for j in loop(high, low):
                store(to + (width * i + j << 2), load_one(x + pitch * i + stride * (j << 2)))


@inner
def copy_lines(t, g, x, group, taps, line, cut, to):
    """The lines of a tile from this one on."""
    first, last, top, bottom, left, right = cut
    rows, width, plane = bottom - top, right - left, g.height * g.width
    c, tap = divmod(line, len(taps))
    for r in range(t.rows):
        row, column = g.down * top + taps[tap, 0], g.right * left + taps[tap, 1]
        low, high = within(column, t.stride or g.right, g.width, width)
        start, stop = within(row, t.stride or g.down, g.height, rows)
        for n in range(first, last):
            image = (n * g.groups + group) * g.channels + c
            there = at(x, 0) + 4 * (image * plane + row * g.width + column)
            place = to + STEP * r + 4 * (n - first) * rows * width
            copy_block(
                t,
                there,
                4 * g.width * g.down,
                low,
                high,
                width,
                start,
                stop,
                rows,
                place,
                g.right,
                8 * plane,
            )
        tap += 1
        if tap == len(taps):
            c, tap = c + 1, 0


@inner
def turn(g, d, group, filters, cut, to):
    """to[pixel, o] = d[n, o, pixel]: of up to 32 filters from `filters` on."""
    first, last, top, bottom, left, right = cut
    pixels, size = (bottom - top) * (right - left), g.rows * g.columns
    for n in range(first, last):
        image = at(d, (n * g.groups + group) * g.filters * size)
        pack(image, TURNED, size, g.filters, top * g.columns + left, pixels, filters,
             min(WIDE, g.filters - filters), to + (n - first) * pixels * LINE, NEAR, FAR, ZERO)  # fmt: skip


@native
def weights(t, part, parts, y, d, x, room, taps, cuts, g, by):
    """`by`: what is split: lines or filters."""
    lines = g.channels * len(taps)
    top, bottom = share((lines + t.rows - 1) // t.rows, part, parts, by == 0)
    start, stop = share((g.filters + WIDE - 1) // WIDE, part, parts, by == 1)
    left = at(room, part * (room.size // parts))
    right = left + STEP * t.rows
    sums, size = right + (stop - start) * PIXELS * LINE, t.rows * LINE
    for group in range(g.groups):
        fill(sums, 0, (bottom - top) * (stop - start) * size)
        for cut in cuts:
            pixels = (cut[1] - cut[0]) * (cut[3] - cut[2]) * (cut[5] - cut[4])
            cut = cut[0], cut[1], cut[2], cut[3], cut[4], cut[5]
            for j in range(start, stop):
                turn(g, d, group, j * WIDE, cut, right + (j - start) * PIXELS * LINE)
            c = sums
            for i in range(top, bottom):
                copy_lines(t, g, x, group, taps, min(i * t.rows, lines - t.rows), cut, left)
                for j in range(start, stop):
                    b = right + (j - start) * PIXELS * LINE
                    if g.filters - j * WIDE > LANES:
                        product(t, left, BYTES, pixels, b, LINE, c, LINE, c, WIDE)
                    else:
                        narrow_product(t, left, BYTES, pixels, b, LINE, c, LINE, c, LANES)
                    c += size
        c = sums
        for i in range(top, bottom):
            line = min(i * t.rows, lines - t.rows)
            for j in range(start, stop):
                put(t, y, group * g.filters + j * WIDE, g.filters - j * WIDE, line, lines, c)
                c += size


@inner
def put(t, y, o, left, line, lines, c):
    """y[o, line] = c[line, o]"""
    for v in range(0, min(left, WIDE), LANES):
        to_planes(FLOATS, c + 4 * v, LINE, at(y, (o + v) * lines + line), 4 * lines,
                  min(LANES, left - v), t.rows, 0, 1)  # fmt: skip


@kernel(Conv2dWeight)
def find(op, w, d, x):
    if not serves(op.conv, w, d, x):
        return None
    g, taps = forward_grid(op.conv, d, x, w)
    g = one_row(g, taps)
    lines, pixels = g.channels * len(taps), g.images * g.rows * g.columns
    t = tile_for(lines, "there")
    t = Static(**{**t.type.what, "step": STEP, "stride": stride_of(g)})
    tiles, panels = -(-lines // t.rows), -(-g.filters // WIDE)
    by = int(panels > tiles)
    flops = 2 * g.groups * tiles * t.rows * pixels * (panels * WIDE + COPY)
    parts = threads.parts(flops, max(tiles, panels))
    down, across = (-(-n // (parts if by == i else 1)) for i, n in enumerate((tiles, panels)))
    room = t.rows * STEP // 4 + across * WIDE * (PIXELS + down * t.rows)
    numbers = np.array(taps, int).reshape(-1, 2), np.array(cuts(g), int).reshape(-1, 6), g, by
    bytes_ = 4 * sum(prod(s.shape) for s in (w, d, x))
    run = bound(weights, t, numbers, parts)
    return Kernel("im2col", run, (Spec((parts * room,), FLOAT),), cost=Cost(flops, bytes_))
