"""Direct convolution: where channels lie side by side, each sum is a sum of runs of neighbours.

    for strip in images:                        # some lines of the result; threads share the work here
        room = the lines of x that it sees, 16 channels side by side, with zeros around
        for o in panels:                        # of 16 or 32 filters
            for i in strip:
                for j in range(0, across, rows):                       # rows x 16 or 32 sums in registers
                    for c in blocks:                                   # of 16 channels
                        for k in range(lines of a filter):
                            for l in range(taps of a line * 16):       # a run
                                sums[r, v] += x[c, s i + k, 16 s (j + r) + l] * w[o, c, k, l, v]

An image in blocks of 16 channels that needs no padding is read where it lies. A plain one is turned into
blocks on its way into the room, and the result back; of less than 16 channels it stays as it is, and a
run is a line of the filter in one channel.
"""

from math import prod
from typing import NamedTuple

import numpy as np

from ..core.spec import Spec
from ..ops.conv import Conv2d
from ..ops.layout import In, image_shape
from ..ops.packed import Filters, Packed
from . import threads, tile
from .kernel import Cost, Kernel, kernel
from .native import bound, inner, native
from .reorder import to_lanes, to_planes
from .simd import (
    BYTES,
    LANES,
    at,
    copy,
    fill,
    first_lanes,
    load_some,
    loop,
    micro,
    registers,
    relu,
    select,
    zeros,
)
from .static import Static

FLOAT = np.dtype("f4")
FLOATS = Static(bytes=4)
NOTHING = np.zeros(0, FLOAT)
ROOM = 256 << 10  # bytes that a strip sees: beside them filters have room in the second cache
ACTIVATIONS = {"": lambda x: x, "relu": relu}


class Geometry(NamedTuple):
    """Of an image, filters and the result; in numbers, not bytes."""

    images: int
    channels: int
    height: int
    width: int
    wide: int  # with padding
    top: int  # padding
    left: int
    filters: int
    groups: int
    panels: int  # of filters
    blocks: int  # of channels, that a filter sees
    lines: int  # of a filter
    taps: int
    panel: int  # elements in one
    stride: int  # of lines; that of columns is in the tile
    dilated: int
    apart: int  # dilation of columns
    down: int  # height of the result
    across: int
    strip: int  # lines of it at a time
    seen: int  # lines of the image for them


# ---- a tile ----------------------------------------------------------------------------------------


@micro
def outputs(t, x, plane, planes, line, lines, tap, taps, run, p, o, rest, y, column, more):
    """The sums of one tile, of filters of which `rest` are left, to y. What its first row sees begins
    at x; p is the panel, number o."""
    start, finish = STAGES[t.stages]
    sums, panel = start(t, o, rest, p, more), registers([p + t.head])
    for c in loop(planes):
        for k in loop(lines):
            for l in loop(taps):
                a = x + plane * c + line * k + tap * l
                for i in loop(run):
                    tile.multiply(t, sums, a + i * (4 * t.steps), panel[0])
                    panel[0] = panel[0] + t.steps * t.vectors * BYTES
    finish(t, sums, o, rest, y, column, more)


def with_bias(t, o, rest, p, bias):
    if not t.bias:
        return tile.none(t)
    first = bias[0] + o * (t.vectors * BYTES)
    return registers(
        [load_some(first + BYTES * v, rest - LANES * v) for v in range(t.vectors)] * t.rows
    )


def activated(t, sums, o, rest, y, column, bias):
    """NaN in lanes that are no filters' would spread."""
    real = [first_lanes(rest - LANES * v) for v in range(t.vectors)]
    then = lambda x, v: select(real[v], ACTIVATIONS[t.activation](x), zeros())
    tile.put(t, sums, y, BYTES, column, then)


STAGES = {"floats": (with_bias, activated)}  # how sums begin, and what becomes of them


# ---- strips ----------------------------------------------------------------------------------------


@inner
def fetch(t, cell, x, first, g, room, outside):
    """The lines from `first` on that a strip sees, with what pads them."""
    pixel = t.bytes * t.block
    line, around = g.width * pixel, (g.wide - g.width - g.left) * pixel
    for b in range(g.groups * g.blocks):
        for h in range(first, first + g.seen):
            if h < 0 or h >= g.height:
                fill(room, outside, g.wide * pixel)
            else:
                to = room + g.left * pixel
                fill(room, outside, g.left * pixel)
                if t.turned:
                    plane = g.height * g.width * t.bytes
                    to_lanes(cell, x + b * t.block * plane + h * g.width * t.bytes, plane,
                             min(16, g.channels - 16 * b), to, pixel, 16, g.width,
                             0, (g.width + 15) // 16)  # fmt: skip
                else:
                    copy(to, x + (b * g.height + h) * line, line)
                fill(to + line, outside, around)
            room += g.wide * pixel


@inner
def strip_of(t, x, plane, p, o, y, column, more, g):
    """A panel's outputs."""
    pixel, rest = t.bytes * t.block, g.filters - o * t.vectors * 16
    taps = 1 if g.apart == 1 else g.taps
    run = g.taps // taps * t.block * t.bytes // (4 * t.steps)
    line = g.wide * pixel
    for i in range(g.strip):
        for j in range(0, g.across, t.rows):
            j = min(j, g.across - t.rows)
            outputs(t, x + i * g.stride * line + j * t.step, plane, g.blocks, g.dilated * line, g.lines,
                    g.apart * pixel, taps, run, p, o, rest,
                    y + (i * g.across + j) * 16 * t.bytes, column, more)  # fmt: skip


@inner
def convolve(t, cell, part, parts, y, x, p, room, kept, more, outside, g):
    """All from here on are addresses; each part has a room, and keeps a strip to turn it back."""
    pixel, strips, held = t.bytes * t.block, -(-g.down // g.strip), -1
    size, area = g.height * g.width * pixel, g.down * g.across * t.bytes
    units = g.images * strips * g.panels
    for unit in range(units * part // parts, units * (part + 1) // parts):
        s, o = divmod(unit, g.panels)
        n, i = divmod(s, strips)
        i = min(i * g.strip, g.down - g.strip)
        first = i * g.stride - g.top
        if t.fetched:
            source, plane = room, g.seen * g.wide * pixel
            if s != held:
                planes = g.channels if t.turned else g.groups * g.blocks * t.block
                fetch(
                    t, cell, x + n * planes * g.height * g.width * t.bytes, first, g, room, outside
                )
            held = s
        else:
            source, plane = x + n * g.groups * g.blocks * size + first * g.width * pixel, size
        source += o // (g.panels // g.groups) * g.blocks * plane
        panel = p + o * g.panel * t.bytes
        if t.back:
            strip_of(t, source, plane, panel, o, kept, g.strip * g.across * 16 * t.bytes, more, g)
            for v in range(t.vectors):
                b = o * t.vectors + v
                to_planes(cell, kept + v * g.strip * g.across * 16 * t.bytes, 16 * t.bytes,
                          y + (n * g.filters + 16 * b) * area + i * g.across * t.bytes, area,
                          min(16, g.filters - 16 * b), g.strip * g.across,
                          0, (g.strip * g.across + 15) // 16)  # fmt: skip
        else:
            b = n * -(-g.filters // 16) + o * t.vectors
            strip_of(t, source, plane, panel, o, y + (b * g.down + i) * g.across * 16 * t.bytes,
                     area * 16, more, g)  # fmt: skip


@native
def convolve_floats(t, part, parts, y, x, p, bias, room, kept, g):
    convolve(t, FLOATS, part, parts, at(y, 0), at(x, 0), at(p, 0), at(room, part * room.shape[1]),
             at(kept, part * kept.shape[1]), (at(bias, 0),), 0, g)  # fmt: skip


# ---- which tile, which strips ----------------------------------------------------------------------


class Work(NamedTuple):
    """A convolution of images in one layout into such in another; shapes are those of plain ones."""

    conv: Conv2d
    source: str
    target: str
    x: tuple[int, ...]
    w: tuple[int, ...]
    y: tuple[int, ...]


def asked(op, x, w) -> Work | None:
    """Of a convolution, plain or in blocks, if it is one."""
    conv, target, source, count = op, "NCHW", "NCHW", None
    if isinstance(op, In):
        conv, target, source, count = op.op, op.layout, op.source or op.layout, op.count
    if not isinstance(conv, Conv2d) or not {source, target} <= {"NCHW", "NCHW16c"}:
        return None
    image = image_shape(source, x.shape, count if source == "NCHW16c" else None)
    return Work(
        conv, source, target, image, w, conv.infer(Spec(image, FLOAT), Spec(w, FLOAT)).shape
    )


def form_for(work) -> Filters | None:
    """Groups are made of whole blocks and panels."""
    (o, c), groups = work.w[:2], work.conv.groups
    vectors = tile.shape(LANES, -(-o // groups // LANES))[1]
    if groups > 1 and (c % LANES or o // groups % (LANES * vectors)):
        return None
    return Filters(vectors, 1 if work.source == "NCHW" and groups == 1 and c < LANES else LANES)


def geometry(work, rows_for, panels, panel, block, cell) -> tuple[Geometry, int]:
    """And the rows of a tile. A number is `cell` bytes."""
    conv, (n, c, height, width) = work.conv, work.x
    o, blocks, lines, taps = work.w[0], -(-work.w[1] // block), *work.w[2:]
    (top, _), (left, right), (down, across) = *conv.padding, work.y[2:]
    if lines == taps == 1 and conv == Conv2d(groups=conv.groups):  # each pixel for itself
        across = line_of(down * across, rows_for)
        down = height * width // across
        height, width = down, across
    wide, groups = left + width + right, conv.groups
    reach = conv.dilation[0] * (lines - 1) + 1
    line, stride = groups * blocks * wide * block * cell, conv.stride[0]
    fit = min((ROOM // max(1, line) - reach) // stride + 1, ROOM // (across * BYTES * 2))
    strip = -(-down // -(-down // max(1, min(down, fit))))
    seen = (strip - 1) * stride + reach
    return Geometry(n, c, height, width, wide, top, left, o, groups, panels, blocks, lines, taps, panel,
                    stride, *conv.dilation, down, across, strip, seen), rows_for(across)  # fmt: skip


def line_of(pixels, rows_for):
    """How many at a time: those that tiles divide well."""
    some = [d for d in range(1, min(pixels, 512) + 1) if pixels % d == 0]
    return max(some, key=lambda d: (d / (-(-d // rows_for(d)) * max(10, rows_for(d))), d))


@kernel(Packed)
def find(op, y, x, p, bias=None, activation=""):
    """`bias`, the spec of one number a filter, and an activation are for what is fused with it."""
    work = x.dtype == p.dtype == FLOAT and asked(op.op, x, op.shape)
    form = work and form_for(work)
    if not form or op.form != form:
        return None
    rows_for = lambda across: tile.shape(across, form.vectors)[0]
    g, rows = geometry(work, rows_for, p.shape[0], prod(p.shape[1:]), form.block, 4)
    turned, back = work.source == "NCHW" and form.block > 1, work.target == "NCHW"
    fetched = turned or work.conv.padding != ((0, 0), (0, 0))
    t = tile.tile(
        rows,
        form.vectors,
        work.conv.stride[1] * form.block * 4,
        min(4, form.block),
        ahead=4096,
        head=0,
        bytes=4,
        block=form.block,
        turned=int(turned),
        back=int(back),
        fetched=int(fetched),
        stages="floats",
        bias=bias is not None,
        activation=activation,
    )
    flops = 2 * prod(p.shape) * g.images * g.down * -(-g.across // rows) * rows
    parts = threads.parts(flops, g.images * -(-g.down // g.strip) * g.panels)
    room = fetched * g.groups * g.blocks * g.seen * g.wide * form.block
    kept = back * g.strip * g.across * form.vectors * LANES
    scratch = Spec((parts, room), FLOAT), Spec((parts, kept), FLOAT)
    go = bound(convolve_floats, t, (g,), parts)
    run = go if bias else lambda y, x, p, *scratch: go(y, x, p, NOTHING, *scratch)
    moved = 4 * (prod(x.shape) + prod(p.shape) + prod(y.shape))
    busy = min(
        1, rows * form.vectors / 12
    )  # a multiply-add takes four cycles, and two begin in each
    return Kernel("direct", run, scratch, cost=Cost(flops, moved, 0.92 * busy))


def forms(op, y, x, w):
    """How `find` wants filters to be packed."""
    work = x.dtype == w.dtype == FLOAT and asked(op, x, w.shape)
    form = work and form_for(work)
    if form:
        yield form
