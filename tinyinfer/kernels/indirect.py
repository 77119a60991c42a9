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
row of zeros; of bytes, of what stands for zero.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

from ..core.spec import Spec
from ..ops.conv import Conv2d
from ..ops.integer import BytePanels, QLinearConv
from ..ops.layout import In, unwrapped
from ..ops.packed import Filters, Packed
from . import threads, tile
from .direct import STAGES, with_bias
from .host import HOST
from .int8 import stages
from .kernel import Cost, Kernel, kernel
from .native import bound, inner, native, share
from .simd import (
    BYTES,
    LANES,
    at,
    i64,
    loop,
    micro,
    read,
    registers,
    select,
    store,
    store_some,
)
from .taps import taps_forward

OUTSIDE = -1  # in a table
SIGNS = -0x7F7F7F80  # 0x80808080: of four bytes


def add_products(t, sums, table, x, nothing, w, taps, cells):
    """sums += pieces of x times the filters. A piece is so many cells, of a float or of four bytes."""
    panel = registers([w])
    for tap in loop(taps):
        places = []
        for r in range(t.rows):
            place = read(table + (tap * t.rows + r) * 8, i64)
            places.append(select(place < 0, nothing, x + place))
        whole = cells // t.steps * t.steps
        for steps, first, end in ((t.steps, 0, whole), (1, whole, cells)):
            for c in loop(end, first, steps):
                there = [p + c * 4 for p in places]
                w = panel[0] + c * (BYTES * t.vectors)
                tile.multiply(t, sums, there, w, steps, cell=unsigned if t.signed else read)
        panel[0] = panel[0] + cells * (BYTES * t.vectors)


def unsigned(address, kind):
    """Here, since of a vector LLVM does not get done with it."""
    return read(address, kind) ^ SIGNS


@micro
def outputs(t, y, rest, table, x, nothing, w, o, taps, cells, more):
    """rows x (16 vectors) sums, of panel number o, of which so many filters are stored."""
    start, finish = STAGES[t.stages]
    sums = start(t, o, rest, w, more)
    add_products(t, sums, table, x, nothing, w + t.head, taps, cells)
    finish(t, sums, o, rest, y, None, more)


def as_float_rows(t, sums, o, rest, y, column, more):
    """From row to row so many bytes."""
    (pitch,) = more
    for r in range(t.rows):
        for v in range(t.vectors):
            there, x = y + pitch * r + BYTES * v, sums[r * t.vectors + v]
            store(there, x) if t.full else store_some(there, x, rest - LANES * v)


STAGES["float rows"] = with_bias, as_float_rows


@inner
def convolve(t, part, parts, y, x, w, room, table, starts, cells, more):
    """Beside the image is what this part's room holds."""
    images, _, _, filters = y.shape
    channels, blocks, taps = x.shape[3], table.shape[0], table.shape[1]
    nothing = at(room, part * room.shape[1])
    wide, size = 16 * t.vectors, x.shape[1] * x.shape[2] * channels
    pixels = y.shape[1] * y.shape[2]
    for item in range(*share(images * blocks, part, parts)):
        image, block = divmod(item, blocks)
        here, first = at(x, image * size), image * pixels + starts[block]
        for panel in range(w.shape[0]):
            there, f = at(y, first * filters + wide * panel), at(w, panel * (w.size // w.shape[0]))
            places, rest = at(table, block * taps * t.rows), filters - wide * panel
            outputs(t, there, rest, places, here, nothing, f, panel, taps, cells, more)


@native
def convolve_floats(t, part, parts, y, x, w, room, table, starts):
    room[part] = 0
    convolve(t, part, parts, y, x, w, room, table, starts, x.shape[3], (4 * y.shape[3],))


@native
def convolve_bytes(
    t, part, parts, y, x, w, scale, bias, room, table, starts, x_zero, y_zero, outside
):
    room[part] = outside
    more = at(scale, 0), at(bias, 0), x_zero, y_zero, y.shape[3]
    convolve(t, part, parts, y, x, w, room, table, starts, x.shape[3] // 4, more)


# ---- who is served ---------------------------------------------------------------------------------


def indirection(op, x, w, y, rows, itemsize):
    """(table, starts): table[block, tap, r] is where the piece of x begins, in bytes, that pixel
    starts[block] + r of y has for a tap; x, w and y are shapes, as if in NCHW; of numbers of so many
    bytes."""
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
    places = np.where((i == OUTSIDE) | (j == OUTSIDE), OUTSIDE, (i * width + j) * c * itemsize)
    places = places.reshape(prod(y[2:]), prod(w[2:]))
    starts = np.minimum(np.arange(0, len(places), rows), len(places) - rows)
    table = places[starts[:, None] + np.arange(rows)].swapaxes(1, 2)
    return np.ascontiguousarray(table), starts


def rows_for(vectors, pixels):
    """Sums, the vectors of a line of filters and a cell in every lane have registers."""
    held = HOST.registers * HOST.lanes // LANES
    return max(1, min((held - vectors - 1) // vectors, 12, pixels))


def form_for(op, x, w):
    """How filters are packed for the op in a convolution of NHWC in one group; None for others."""
    op, layout, source, _ = unwrapped(op)
    if not layout == source == "NHWC" or not prod(w.shape) or not prod(x.shape):
        return None
    (o, c, _, _), floats = w.shape, x.dtype == w.dtype == np.float32
    vectors = tile.vectors_for(-(-o // LANES))
    if isinstance(op, Conv2d) and op.groups == 1 and floats:
        return Filters(vectors, c)
    if isinstance(op, QLinearConv) and op.conv.groups == 1 and c % 4 == 0:
        return BytePanels(vectors, c)
    return None


def forms(op, y, x, w, *rest):
    """How weights want to be packed."""
    if form := form_for(op, x, w):
        yield form


@kernel((Packed, In, Conv2d))
def find(op, y, x, p):
    if op.form != form_for(op.op, x, Spec(op.shape, p.dtype)):
        return None
    how = dict(stages="float rows", head=0, signed=0, bias=0)
    how["full"] = int(y.shape[3] % (LANES * op.form.vectors) == 0)
    t, tables, parts, cost = planned(op, y, x, p, **how)
    room = Spec((parts, -(-x.shape[3] // LANES) * LANES), x.dtype)
    return Kernel("indirect", bound(convolve_floats, t, tables, parts), (room,), cost=cost)


@kernel((Packed, In, QLinearConv))
def find_bytes(op, y, x, p, scale, bias):
    if op.form != form_for(op.op, x, Spec(op.shape, p.dtype)) or scale.dtype != np.float32:
        return None
    (quantized, *_), signed = unwrapped(op.op), int(x.dtype == np.int8)
    how = dict(stages="rows", signed=signed, **stages(quantized, op.form, scale))
    t, tables, parts, cost = planned(op, y, x, p, scale, bias, **how)
    numbers = *tables, quantized.x_zero + 128 * signed, quantized.y_zero, quantized.x_zero
    room = Spec((parts, x.shape[3]), x.dtype)
    return Kernel("indirect int8", bound(convolve_bytes, t, numbers, parts), (room,), cost=cost)


def planned(op, y, x, *more, **how):
    (n, h, width, c), (_, oh, ow, o) = x.shape, y.shape
    size, (conv, *_) = x.dtype.itemsize, unwrapped(op.op)
    conv = getattr(conv, "conv", conv)
    rows = rows_for(op.form.vectors, oh * ow)
    tables = indirection(conv, (n, c, h, width), op.shape, (n, o, oh, ow), rows, size)
    flops = op.flops(y, x, *more)
    parts = threads.parts(flops, n * len(tables[0]))
    moved = sum(prod(s.shape) * s.dtype.itemsize for s in (y, x, more[0]))
    t = tile.tile(rows, op.form.vectors, integer=size == 1, **how)
    return t, tables, parts, Cost(flops, moved, 0.8, integer=size == 1)


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
