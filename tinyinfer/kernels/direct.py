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
from ..ops.layout import In, image_shape, unwrapped
from ..ops.packed import Filters, Packed
from . import threads, tile
from .kernel import NO_BIAS, Cost, Kernel, kernel
from .native import bound, inner, native, share
from .reorder import FLOATS, to_lanes, to_planes, turn_line
from .simd import (
    ACTIVATIONS,
    BYTES,
    LANES,
    Value,
    at,
    builder,
    copy,
    first_lanes,
    i32,
    i32x16,
    load_some,
    loop,
    micro,
    number,
    read,
    registers,
    select,
    splat,
    store,
    store_some,
    zeros,
)
from .static import Static

FLOAT = np.dtype("f4")
ROOM = 256 << 10  # bytes that a strip sees: beside them filters have room in the second cache


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
    line = [load_some(first + BYTES * v, rest - LANES * v) for v in range(t.vectors)]
    return registers(line * t.rows)


def activated(t, sums, o, rest, y, column, bias):
    """NaN in lanes that are no filters' would spread."""
    real = [first_lanes(rest - LANES * v) for v in range(t.vectors)]
    then = lambda x, v: select(real[v], ACTIVATIONS[t.activation](x), zeros())
    tile.put(t, sums, y, BYTES, column, then)


STAGES = {"floats": (with_bias, activated)}  # how sums begin, and what becomes of them


def whole(x) -> Value:
    """A number of 32 bits, in every lane."""
    return splat(Value(builder().trunc(number(x).ir, i32)))


# ---- strips ----------------------------------------------------------------------------------------


@micro
def pad(to, byte, size):
    """Of whole words, and mostly short."""
    words = whole(byte * 0x01010101)
    for i in loop(size, step=BYTES):
        store_some(to + i, words, (size - i) >> 2)


@inner
def fetch(t, cell, x, first, g, room, outside):
    """The lines from `first` on that a strip sees, with what pads them."""
    pixel = t.bytes * t.block
    line, around = g.width * pixel, (g.wide - g.width - g.left) * pixel
    for b in range(g.groups * g.blocks):
        for h in range(first, first + g.seen):
            if h < 0 or h >= g.height:
                pad(room, outside, g.wide * pixel)
            else:
                to = room + g.left * pixel
                pad(room, outside, g.left * pixel)
                if t.turned:
                    plane, count = g.height * g.width * t.bytes, g.channels - t.block * b
                    lines = x + b * t.block * plane + h * g.width * t.bytes
                    if g.width < 16 and t.block == 16 and count >= 16:
                        turn_line(cell, lines, plane, g.width, to, pixel)
                    else:
                        to_lanes(cell, lines, plane, min(t.block, count), to, pixel, t.block,
                                 g.width, 0, (g.width + 15) // 16)  # fmt: skip
                else:
                    copy(to, x + (b * g.height + h) * line, line)
                pad(to + line, outside, around)
            room += g.wide * pixel


@micro
def flip(to, size):
    """Signed bytes plus 128, unsigned; with what comes up to 63 bytes after them."""
    for i in loop(size, step=BYTES):
        store(to + i, read(to + i, i32x16) ^ -0x7F7F7F80)


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
def turn_back(t, cell, kept, y, n, o, i, g):
    """The kept strip, from line i of image n on, of panel o, to a plain y."""
    pixels, area = g.strip * g.across, g.down * g.across
    for b in range(o * t.vectors, (o + 1) * t.vectors):
        to = y + ((n * g.filters + 16 * b) * area + i * g.across) * t.bytes
        to_planes(cell, kept, 16 * t.bytes, to, area * t.bytes, min(16, g.filters - 16 * b), pixels,
                  0, (pixels + 15) // 16)  # fmt: skip
        kept += pixels * 16 * t.bytes


@inner
def convolve(t, cell, part, parts, y, x, p, room, kept, more, outside, g):
    """All from here on are addresses; each part has a room, and keeps a strip to turn it back."""
    pixel, strips, held = t.bytes * t.block, -(-g.down // g.strip), -1
    channels = g.channels if t.turned else g.groups * g.blocks * t.block
    units, image = g.images * strips * g.panels, channels * g.height * g.width * t.bytes
    for unit in range(*share(units, part, parts)):
        s, o = divmod(unit, g.panels)
        n, i = divmod(s, strips)
        i = min(i * g.strip, g.down - g.strip)
        first = i * g.stride - g.top
        if t.fetched:
            source, plane = room, g.seen * g.wide * pixel
            if s != held:
                fetch(t, cell, x + n * image, first, g, room, outside)
                if t.signed:
                    flip(room, g.groups * g.blocks * plane)
            held = s
        else:
            source, plane = x + n * image + first * g.width * pixel, g.height * g.width * pixel
        source += o // (g.panels // g.groups) * g.blocks * plane
        panel = p + o * g.panel * t.bytes
        if t.back:
            strip_of(t, source, plane, panel, o, kept, g.strip * g.across * 16 * t.bytes, more, g)
            turn_back(t, cell, kept, y, n, o, i, g)
        else:
            line = (n * -(-g.filters // 16) + o * t.vectors) * g.down + i
            strip_of(t, source, plane, panel, o, y + line * g.across * 16 * t.bytes,
                     g.down * g.across * 16 * t.bytes, more, g)  # fmt: skip


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

    @property
    def vectors(self):
        """Of a panel; None where groups are not made of whole blocks and panels."""
        (o, c), groups = self.w[:2], self.conv.groups
        vectors = tile.vectors_for(-(-o // groups // LANES))
        whole = groups == 1 or not (c % LANES or o // groups % (LANES * vectors))
        return vectors if whole else None

    @property
    def few(self):
        """A plain image of less than 16 channels."""
        return self.source == "NCHW" and self.conv.groups == 1 and self.w[1] < LANES


def asked(op, x, w, kind=Conv2d) -> Work | None:
    """Of a convolution of this kind, plain or in blocks, if it is one."""
    op, target, source, count = unwrapped(op)
    if not isinstance(op, kind) or not {source, target} <= {"NCHW", "NCHW16c"}:
        return None
    conv = op if kind is Conv2d else op.conv
    image = image_shape(source, x.shape, count if source == "NCHW16c" else None)
    y = conv.infer(Spec(image, FLOAT), Spec(w, FLOAT)).shape
    return Work(conv, source, target, image, w, y)


class Plan(NamedTuple):
    t: Static
    g: Geometry
    parts: int
    scratch: tuple[Spec, Spec]
    cost: Cost


def planned(work, form, p, x, **how) -> Plan:
    """Of specs of the image and of filters in this form; `how` is for the stages of a tile."""
    cell, integer, signed = x.dtype.itemsize, x.dtype.itemsize == 1, x.dtype.kind == "i"
    rows_for = lambda across: tile.shape(across, form.vectors, integer)[0]
    turned, back = work.source == "NCHW" and form.block > 1, work.target == "NCHW"
    fetched = turned or signed or work.conv.padding != ((0, 0), (0, 0))
    pixel = form.block * cell
    g = geometry(work, pixel, form.block, p.shape, rows_for)
    rows, steps = rows_for(g.across), min(4, pixel // 4)
    if form.block == work.conv.dilation[1] == 1 and work.w[3] <= 16:
        steps = work.w[3]  # a line of the filter is written out
    t = tile.tile(rows, form.vectors, work.conv.stride[1] * pixel, steps, integer, ahead=4096,
                  bytes=cell, block=form.block, turned=int(turned), back=int(back), fetched=int(fetched),
                  signed=int(signed), **how)  # fmt: skip
    flops = 2 * prod(p.shape) * g.images * g.down * -(-g.across // rows) * rows
    parts = threads.parts(flops * cell / 4, g.images * -(-g.down // g.strip) * g.panels)
    room = fetched * (g.groups * g.blocks * g.seen * g.wide + LANES) * form.block
    kept = back * g.strip * g.across * form.vectors * LANES
    scratch = Spec((parts, room + -room % BYTES), x.dtype), Spec((parts, kept), x.dtype)
    moved = cell * (prod(work.x) * (1 + turned) + prod(p.shape) + prod(work.y) * (1 + back))
    cost = Cost(flops, moved, 0.92 * tile.busy(rows, form.vectors), integer)
    return Plan(t, g, parts, scratch, cost)


def geometry(work, pixel, block, p, rows_for) -> Geometry:
    conv, (n, c, height, width) = work.conv, work.x
    o, blocks, lines, taps = work.w[0], -(-work.w[1] // block), *work.w[2:]
    (top, _), (left, right), (down, across) = *conv.padding, work.y[2:]
    if lines == taps == 1 and conv == Conv2d(groups=conv.groups):  # each pixel for itself
        width = across = line_of(down * across, rows_for)
        height = down = prod(work.y[2:]) // across
    wide, stride, reach = left + width + right, conv.stride[0], conv.dilation[0] * (lines - 1) + 1
    line = max(1, conv.groups * blocks * wide * pixel)
    fit = min((ROOM // line - reach) // stride + 1, ROOM // (across * BYTES * 2))
    strip = -(-down // -(-down // max(1, min(down, fit))))
    return Geometry(
        images=n, channels=c, height=height, width=width, wide=wide, top=top, left=left,
        filters=o, groups=conv.groups, panels=p[0], blocks=blocks, lines=lines, taps=taps,
        panel=prod(p[1:]), stride=stride, dilated=conv.dilation[0], apart=conv.dilation[1],
        down=down, across=across, strip=strip, seen=(strip - 1) * stride + reach,
    )  # fmt: skip


def line_of(pixels, rows_for):
    """How many at a time: those that tiles divide well."""
    some = [d for d in range(1, min(pixels, 512) + 1) if pixels % d == 0]
    taken = lambda d: -(-d // rows_for(d)) * tile.pace(rows_for(d), 1)
    return max(some, key=lambda d: (d / taken(d), d))


def form_for(work) -> Filters | None:
    return work.vectors and Filters(work.vectors, 1 if work.few else LANES)


@kernel((Packed, Conv2d), (Packed, In, Conv2d))
def find(op, y, x, p, bias=None, activation=""):
    """`bias`, the spec of one number a filter, and an activation are for what is fused with it."""
    work = x.dtype == p.dtype == FLOAT and asked(op.op, x, op.shape)
    if not work or op.form != form_for(work) or activation not in ACTIVATIONS:
        return None
    t, g, parts, scratch, cost = planned(
        work, op.form, p, x, stages="floats", head=0, bias=bias is not None, activation=activation
    )
    go = bound(convolve_floats, t, (g,), parts)
    without = lambda y, x, p, *scratch: go(y, x, p, NO_BIAS, *scratch)
    return Kernel("direct", go if bias else without, scratch, cost=cost)


def forms(op, y, x, w):
    """How `find` wants filters to be packed."""
    work = x.dtype == w.dtype == FLOAT and asked(op, x, w.shape)
    if form := work and form_for(work):
        yield form
