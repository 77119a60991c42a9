"""Convolution of images in NHWC by an indirection buffer, as QNNPACK does it (Dukhan 2019, "The Indirect
Convolution Algorithm").

    for pixels of y, `rows` at a time:
        for filters, 16 `vectors` at a time:
            for k, l in window:
                places = table[pixels][k, l]               # where the pixels of x begin that meet the tap
                for c in channels:
                    y[pixels, filters] += places[c] * w[k, l, c, filters]     # in registers

It is a product of matrices like that of im2col, but the rows of its left factor, pieces of c numbers,
stay where they are in the image: what is laid out is where they begin. That is made once for all images
of one shape, and is smaller by as much as a pixel has channels. Outside of the image a piece begins at a
row of zeros.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

from ..core.spec import Spec
from ..ops.conv import Conv2d
from ..ops.layout import In
from ..ops.packed import Filters, Packed
from . import threads
from .host import HOST
from .kernel import Cost, Kernel, kernel
from .native import bound, native
from .simd import (
    BYTES,
    LANES,
    at,
    broadcast,
    fma,
    i64,
    load,
    loop,
    micro,
    read,
    registers,
    select,
    store,
    store_some,
    zeros,
)  # fmt: skip
from .static import Static
from .taps import taps_forward

OUTSIDE = -1  # in a table
STEPS = 4  # channels that are written out


@micro
def tile(t, y, pixel, filters, table, x, nothing, w, taps, channels):
    """rows x (16 vectors) sums, of which so many filters are stored; from pixel to pixel of y so many
    bytes."""
    sums = registers([zeros()] * (t.rows * t.vectors))
    panel = registers([w])
    for tap in loop(taps):
        places = []
        for r in range(t.rows):
            place = read(table + (tap * t.rows + r) * 8, i64)
            places.append(select(place < 0, nothing, x + place))
        whole = channels // STEPS * STEPS
        for steps, first, end in ((STEPS, 0, whole), (1, whole, channels)):
            for c in loop(end, first, steps):
                multiply(
                    t, sums, [p + c * 4 for p in places], panel[0] + c * (BYTES * t.vectors), steps
                )
        panel[0] = panel[0] + channels * (BYTES * t.vectors)
    for r in range(t.rows):
        for v in range(t.vectors):
            there, x = y + pixel * r + BYTES * v, sums[r * t.vectors + v]
            store(there, x) if t.full else store_some(there, x, filters - LANES * v)


def multiply(t, sums, places, w, steps):
    """sums += the numbers at these places times the lines of w, one after the other."""
    for k in range(steps):
        line = [load(w + BYTES * (k * t.vectors + v)) for v in range(t.vectors)]
        for r, place in enumerate(places):
            left = broadcast(place + 4 * k)
            for v, f in enumerate(line):
                sums[r * t.vectors + v] = fma(left, f, sums[r * t.vectors + v])


@micro
def clear(y, n):
    for i in loop(n):
        store(y + BYTES * i, zeros())


@native
def convolve(t, part, parts, y, x, w, room, table, starts):
    images, _, _, filters = y.shape
    channels, blocks, taps = x.shape[3], table.shape[0], table.shape[1]
    nothing = at(room, part * room.shape[1])
    clear(nothing, room.shape[1] // 16)
    wide, size = 16 * t.vectors, x.shape[1] * x.shape[2] * channels
    pixels = y.shape[1] * y.shape[2]
    for item in range(images * blocks * part // parts, images * blocks * (part + 1) // parts):
        image, block = divmod(item, blocks)
        here, first = at(x, image * size), image * pixels + starts[block]
        for panel in range(w.shape[0]):
            there = at(y, first * filters + wide * panel)
            f = at(w, panel * taps * channels * wide)
            places = at(table, block * taps * t.rows)
            tile(
                t,
                there,
                4 * filters,
                filters - wide * panel,
                places,
                here,
                nothing,
                f,
                taps,
                channels,
            )


# ---- who is served ---------------------------------------------------------------------------------


def indirection(op, x, w, y, rows):
    """(table, starts): table[block, tap, r] is where the piece of x begins, in bytes, that pixel
    starts[block] + r of y has for a tap; x, w and y are shapes, as if in NCHW."""
    c, height, width = x[1:]
    axes = zip(y[2:], x[2:], w[2:], op.stride, op.dilation, op.padding)
    met = []
    for outputs, inputs, size, stride, dilation, (before, _) in axes:
        places = np.full((outputs, size), OUTSIDE, np.int64)
        for u, some in enumerate(taps_forward(outputs, inputs, size, stride, dilation, before)):
            for k, i in some:
                places[u, k] = i
        met.append(places)
    i, j = met[0][:, None, :, None], met[1][None, :, None, :]
    places = np.where((i == OUTSIDE) | (j == OUTSIDE), OUTSIDE, (i * width + j) * c * 4)
    places = places.reshape(prod(y[2:]), prod(w[2:]))
    starts = np.minimum(np.arange(0, len(places), rows), len(places) - rows)
    table = places[starts[:, None] + np.arange(rows)].swapaxes(1, 2)
    return np.ascontiguousarray(table), starts


def form_for(w):
    """Of the shape of the filters: whole vectors, four at a time if the registers hold them."""
    vectors = -(-w[0] // LANES)
    several = HOST.lanes == LANES and HOST.registers == 32
    return Filters(next(v for v in (2, 1) if several and vectors % v == 0 or v == 1), max(1, w[1]))


def rows_for(vectors, pixels):
    """Sums, the vectors of a line of filters and a number in every lane have registers."""
    held = HOST.registers * HOST.lanes // LANES
    return max(1, min((held - vectors - 1) // vectors, 12, pixels))


def served(op, x, w):
    """A convolution of images in NHWC, of float32, in one group."""
    inside = isinstance(op, In) and isinstance(op.op, Conv2d) and op.layout == "NHWC"
    some = inside and op.source in (None, "NHWC") and op.op.groups == 1
    return some and x.dtype == w.dtype == np.float32 and prod(w.shape) and prod(x.shape)


def forms(op, y, x, w):
    """How `find` wants filters to be packed."""
    if served(op, x, w):
        yield form_for(w.shape)


@kernel((Packed, In, Conv2d))
def find(op, y, x, p):
    inner, w = op.op, Spec(op.shape, p.dtype)
    if not served(inner, x, w) or op.form != form_for(op.shape):
        return None
    n, h, width, c = x.shape
    (_, oh, ow, o), vectors = y.shape, op.form.vectors
    rows = rows_for(vectors, oh * ow)
    table, starts = indirection(inner.op, (n, c, h, width), op.shape, (n, o, oh, ow), rows)
    flops = op.flops(y, x, p)
    parts = threads.parts(flops, n * len(starts))
    room = Spec((parts, -(-c // LANES) * LANES), np.dtype(np.float32))
    t = Static(rows=rows, vectors=vectors, full=int(o % (LANES * vectors) == 0))
    cost = Cost(flops, 4 * (prod(x.shape) + prod(y.shape) + prod(p.shape)), 0.8)
    run = bound(convolve, t, (table, starts), parts)
    return Kernel("indirect", run, (room,), cost=cost)


# ---- beside im2col ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Traffic:
    """Bytes of a convolution of float32: of the buffer; and those that are written and read, beside the
    result and the filters, which are the same for both."""

    buffer: int
    made_once: bool  # for all images of a shape
    written: int
    read: int


def traffic(op, x, w) -> dict[str, Traffic]:
    """What im2col and indirection move, for shapes x (n, c, h, w) and w: the first writes every element of
    every window and reads it in the product; the second reads pixels where they are, by way of a
    table with one place for each tap of each pixel, which serves all images and all their channels."""
    f = np.dtype(np.float32)
    n, _, h, width = op.infer(Spec(x, f), Spec(w, f)).shape
    taps = n * h * width * prod(w[2:])
    columns, table = 4 * taps * x[1], 8 * taps // max(1, n)
    return {
        "im2col": Traffic(columns, False, columns, 4 * prod(x) + columns),
        "indirection": Traffic(table, True, 0, columns + n * table),
    }
