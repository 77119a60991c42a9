"""Depthwise convolution: every channel has filters of its own, and sees no other channel.

    for n, block in images, channels by 16:             # lanes are channels
        for band in rows:                               # of which the pixels stay in the cache
            for i, j in band, columns by `rows`:        # so many pixels in registers
                for k, l in window:
                    y[i, j + r] += w[k, l] * x[s i + d k - p, s (j + r) + d l - p]     # r = 0 ... rows - 1

Pixels of NCHW are laid out so before, band by band, and back after that. Where a window reaches over
the edge of an image it has fewer taps; which pixels have the same, and so can be done together, is found
out before (taps.py). The gradient by x is the same loop with other taps: with a stride only some of
them meet a pixel, and neighbours have different ones. The gradient by w goes through a row for all taps
in it at once:

    for k in rows of the window:
        for i, j in image:
            for l in columns of the window:             # in registers
                gw[k, l] += g[i, j] * x[s i + d k - p, s j + d l - p]
"""

from dataclasses import dataclass
from math import gcd, inf, prod
from typing import NamedTuple

import numpy as np

from ..core.spec import Spec
from ..ops.conv import Conv2d, Conv2dInput, Conv2dWeight
from ..ops.layout import In, image_shape, unwrapped
from . import threads
from .finite import zero_times
from .host import HOST
from .kernel import Cost, Kernel, kernel
from .native import bound, inner, native, share
from .reorder import FLOATS, to_lanes, to_planes
from .simd import (
    BYTES,
    LANES,
    at,
    constant,
    f32x16,
    fill,
    fma,
    load,
    loop,
    maximum,
    micro,
    registers,
    splat,
    store,
    zeros,
)  # fmt: skip
from .static import Static
from .taps import met, pieces, runs, strips, summaries, table, taps_backward, taps_forward

BAND = 128 * 1024  # bytes of pixels, of x and y together
SUMS = 12  # in registers, of the gradient by w
AT_ONCE = 14, 12, 7, 6, 5, 1  # pixels: not any number, since each is compiled


# ---- registers -------------------------------------------------------------------------------------


@micro
def strip(t, y, apart, x, down, row, w_row, across, column, w_column, w):
    """`rows` pixels of y, from down * across taps. x and w: bytes from one tap to the next. Of a pool the
    largest pixel."""
    sums = registers([constant(f32x16.ir, -inf if t.largest else 0)] * t.rows)
    for k in loop(down):
        for l in loop(across):
            a, f = x + row * k + column * l, load(w + w_row * k + w_column * l)
            for r in range(t.rows):
                p = load(a + BYTES * t.stride * r)
                sums[r] = maximum(p, sums[r]) if t.largest else fma(p, f, sums[r])
    for r in range(t.rows):
        store(y + apart * r, sums[r])


@micro
def correlate(t, y, g, g_row, x, x_row, column, rows, n):
    """y[l] += g[i, j] * x[stride (i, j) + dilation l], summed over i, j, for `taps` of l: for
    `apiece` pixels at a time, since each sum waits for the one before."""
    sums = registers([zeros()] * (t.taps * t.apiece))
    whole = n // t.apiece * t.apiece
    for i in loop(rows):
        gs, xs = g + g_row * i, x + x_row * i
        for many, first, end in ((t.apiece, 0, whole), (1, whole, n)):
            for j in loop(end, first, many):
                for r in range(many):
                    p, a = load(gs + (j + r) * BYTES), xs + (j + r) * (BYTES * t.stride)
                    for l in range(t.taps):
                        s = r * t.taps + l
                        sums[s] = fma(p, load(a + column * l), sums[s])
    for l in range(t.taps):
        store(y + BYTES * l, sum([*sums][l :: t.taps], load(y + BYTES * l)))


@micro
def repeat(y, n, x):
    for i in loop(n):
        store(y + BYTES * i, splat(x))


@micro
def add_zero_times(y, x):
    store(y, fma(load(x), zeros(), load(y)))


@inner
def padding(y, y_pixel, y_tap, x, x_pixel, x_tap, first, end, rows, columns, size):
    """y += 0 * x where a tap meets padding, as NumPy does: there infinity leaves NaN. Of both, bytes
    from pixel to pixel, and from tap to tap."""
    for i in range(first, end):
        for j in range(len(columns)):
            for k in range(size[0]):
                for l in range(size[1]):
                    (a, _, m), (b, _, n) = rows[i], columns[j]
                    if not (a <= k < a + m and b <= l < b + n):
                        p, q = (i - first) * len(columns) + j, k * size[1] + l
                        add_zero_times(y + y_pixel * p + y_tap * q, x + x_pixel * p + x_tap * q)


# ---- pixels side by side ---------------------------------------------------------------------------


@inner
def lay_out(to, x, first, apart, planes, pixels):
    """x[first], x[first + apart] ..., up to 16 planes."""
    to_lanes(FLOATS, at(x, first), 4 * apart, planes, to, 64, 16, pixels, 0, (pixels + 15) // 16)


@inner
def weights(to, w, first, apart, filters, window, scale):
    """Those of 16 channels; if there is a scale, that for all."""
    if scale != 0:
        repeat(to, window, scale)
    else:
        lay_out(to, w, first * window, apart * window, filters, window)


@inner
def lay_back(x, y, first, apart, planes, pixels):
    to_planes(FLOATS, x, 64, at(y, first), 4 * apart, planes, pixels, 0, (pixels + 15) // 16)


@inner
def pixels(planar, to, x, image, block, size, first, end):
    """The address of rows first ... end of 16 channels; they are `to`, if the channels lie apart."""
    channels, height, width = size
    if planar:
        there = ((image * channels + 16 * block) * height + first) * width
        count = min(16, channels - 16 * block)
        lay_out(to, x, there, height * width, count, (end - first) * width)
        return to
    return at(x, ((image * ((channels + 15) // 16) + block) * height + first) * width * 16)


class Sizes(NamedTuple):
    """Of what is read, and of what is computed or, for the gradient by w, is read too."""

    images: int
    channels: int
    height: int
    width: int
    filters: int
    lines: int
    columns: int
    planar: int  # 1: the channels lie apart


# ---- forward, and the gradient by x ----------------------------------------------------------------


class Window(NamedTuple):
    down: int  # taps
    across: int
    step_down: int  # taps from one that is met to the next
    step_across: int
    reach_down: int  # pixels between those that they meet
    reach_across: int
    apart: int  # pixels of y from one to the next that sees the same taps
    room: int  # for pixels of x
    padded: int  # 1: where taps meet padding, infinite weights leave NaN


@native
def convolve(
    t, part, parts, y, x, w, room, one, bands, rows, columns, strips, sizes, window, scale
):
    """scale: in place of all weights, unless it is 0."""
    channels, height, width = sizes.channels, sizes.height, sizes.width
    filters, lines, line = sizes.filters, sizes.lines, sizes.columns
    planar, x_size, y_size = sizes.planar, (channels, height, width), (filters, lines, line)
    each, blocks, taps = filters // channels, (channels + 15) // 16, window.down * window.across
    f = at(room, part * room.shape[1])
    source, target = f + 64 * taps, f + 64 * (taps + window.room)
    row, w_row = 64 * width * window.reach_down, 64 * window.across * window.step_down
    column, w_column = 64 * window.reach_across, 64 * window.step_across
    target_step = 64 * window.apart
    total = sizes.images * blocks * each * len(bands)
    for item in range(*share(total, part, parts)):
        i, b = divmod(item, len(bands))
        i, e = divmod(i, each)
        image, block = divmod(i, blocks)
        first, end, top, bottom = bands[b]
        planes, o = min(16, channels - 16 * block), 16 * block * each + e
        weights(f, w, o, each, planes, taps, scale)
        a = pixels(planar, source, x, image, block, x_size, top, bottom)
        if not planar:
            target = pixels(planar, 0, y, image, block, y_size, first, end)
        for i in range(first, end):
            tap, place, down = rows[i]
            for s in range(len(strips)):
                many, j, tap_1, place_1, across = strips[s]
                there = target + 64 * ((i - first) * line + j)
                p = a + 64 * ((place - top) * width + place_1)
                v = f + 64 * (tap * window.across + tap_1)
                if many:
                    strip(t, there, target_step, p, down, row, w_row, across, column, w_column, v)
                else:
                    strip(one, there, 64, p, down, row, w_row, across, column, w_column, v)
        if window.padded and zero_times(f, LANES * taps) != 0:
            size = window.down, window.across
            padding(target, 64, 0, f, 0, 64, first, end, rows, columns, size)
        if planar:
            there = ((image * filters + o) * lines + first) * line
            lay_back(target, y, there, each * lines * line, planes, (end - first) * line)


@native
def convolve_weight(t, part, parts, y, g, x, room, one, bands, rows, columns, down, across, sizes,
                    stride, dilation, room_of_g):  # fmt: skip
    """stride: of rows; dilation: of columns."""
    channels, width, line, planar = sizes.channels, sizes.width, sizes.columns, sizes.planar
    x_size, g_size = (channels, sizes.height, width), (sizes.filters, sizes.lines, line)
    size = y.shape[2], y.shape[3]
    window, blocks = size[0] * size[1], (channels + 15) // 16
    sums = at(room, part * room.shape[1])
    to_g, to_x = sums + 64 * window, sums + 64 * (window + room_of_g)
    row, x_row, column = 64 * line, 64 * width * stride, 64 * dilation
    for block in range(*share(blocks, part, parts)):
        fill(sums, 0, BYTES * window)
        for image in range(sizes.images):
            for b in range(len(bands)):
                first, end, top, bottom = bands[b]
                gs = pixels(planar, to_g, g, image, block, g_size, first, end)
                xs = pixels(planar, to_x, x, image, block, x_size, top, bottom)
                for k in range(size[0]):
                    i, place, count = down[k]
                    skip = max(0, first - i)
                    i, place = i + skip - first, place + skip * stride - top
                    count = min(count - skip, end - first - i)
                    for s in range(len(across)):
                        many, l, j, place_1, n = across[s]
                        p, q = gs + 64 * (i * line + j), xs + 64 * (place * width + place_1)
                        there = sums + 64 * (k * size[1] + l)
                        if many:
                            correlate(t, there, p, row, q, x_row, column, count, n)
                        else:
                            correlate(one, there, p, row, q, x_row, column, count, n)
                if zero_times(gs, LANES * (end - first) * line) != 0:
                    padding(sums, 0, 64, gs, 64, 0, first, end, rows, columns, size)
        lay_back(sums, y, 16 * block * window, window, min(16, channels - 16 * block), window)


# ---- who is served ---------------------------------------------------------------------------------


@dataclass
class Layer:
    """A convolution of float32, with as many groups as channels."""

    conv: Conv2d
    x: tuple[int, ...]  # shapes, as if in NCHW
    w: tuple[int, ...]
    y: tuple[int, ...]
    planes: bool  # the images are NCHW

    def taps(self, way):
        """Those of rows and of columns."""
        c = self.conv
        before = [p for p, _ in c.padding]
        return [
            way(*axis)
            for axis in zip(self.y[2:], self.x[2:], self.w[2:], c.stride, c.dilation, before)
        ]

    def bands(self, rows, least):
        """(first and end row that is computed, first and end row that it takes): so many that their
        pixels have room at once; but at least so many."""
        count = least
        if self.planes:
            count = max(least, -(-BYTES * (prod(self.x[2:]) + prod(self.y[2:])) // BAND))
        count = min(count, len(rows))
        ends = [len(rows) * b // count for b in range(count + 1)]
        met = [[i for some in rows[a:b] for _, i in some] or [0] for a, b in zip(ends, ends[1:])]
        return [(a, b, min(m), max(m) + 1) for a, b, m in zip(ends, ends[1:], met)]

    def room(self, parts, first, second):
        """For filters and, of planes, for pixels."""
        taken = prod(self.w[2:]) + self.planes * (first + second)
        return Spec((parts, LANES * taken), np.dtype(np.float32))

    def kernel(self, f, t, numbers, parts, room):
        flops = 2 * prod(self.y) * prod(self.w[2:])
        cost = Cost(flops, 4 * (prod(self.x) + prod(self.y)), 0.3 if self.planes else 0.5)
        return Kernel("depthwise", bound(f, t, numbers, parts), (room,), cost=cost)


def layer_of(op, *xs) -> Layer | None:
    op, layout, source, count = unwrapped(op)
    if not isinstance(op, OPS) or source != layout or layout not in ("NCHW", "NCHW16c"):
        return None
    conv = op if isinstance(op, Conv2d) else op.conv
    w = op.shape if isinstance(op, Conv2dWeight) else xs[1].shape
    image = xs[isinstance(op, Conv2dWeight)].shape
    x = op.shape if isinstance(op, Conv2dInput) else image_shape(layout, image, count)
    if not all(x[1:]) and not isinstance(op, Conv2d):
        return None
    single = conv.groups == x[1] and (w[0] == x[1] or layout == "NCHW" and isinstance(op, Conv2d))
    if not single or not all(w) or any(s.dtype != np.float32 for s in xs):
        return None
    f = np.dtype(np.float32)
    return Layer(conv, x, w, conv.infer(Spec(x, f), Spec(w, f)).shape, layout == "NCHW")


OPS = Conv2d, Conv2dInput, Conv2dWeight


@kernel(*OPS, *((In, op) for op in OPS))
def find(op, y, *xs):
    layer = layer_of(op, *xs)
    if layer is None:
        return None
    op, *_ = unwrapped(op)
    if isinstance(op, Conv2dWeight):
        return weight_kernel(layer)
    return image_kernel(layer, isinstance(op, Conv2d))


def image_kernel(layer, forward, scale=0.0, largest=0):
    x, y = (layer.x, layer.y) if forward else (layer.y, layer.x)
    rows, columns = layer.taps(taps_forward if forward else taps_backward)
    stride, dilation = layer.conv.stride, layer.conv.dilation
    apart = 1 if forward else stride[1]
    at_once = pixels_at_once(max(map(len, runs(columns, apart)), default=1))
    each = y[1] // x[1]
    work = x[0] * -(-x[1] // LANES) * each
    parts = threads.parts(2 * prod(layer.y) * prod(layer.w[2:]), max(1, work * len(rows)))
    bands = layer.bands(rows, -(-parts // max(1, work)))
    source = max(b - a for _, _, a, b in bands) * x[3]
    target = max(b - a for a, b, _, _ in bands) * y[3]
    same = dict(stride=stride[1] if forward else 1, largest=largest)
    t, one = Static(rows=at_once, **same), Static(rows=1, **same)
    step = [1 if forward else s // gcd(s, d) for s, d in zip(stride, dilation)]
    reach = [d if forward else -d * k // s for s, d, k in zip(stride, dilation, step)]
    padded = int(forward and not scale)
    window = Window(*layer.w[2:], *step, *reach, apart=apart, room=source, padded=padded)
    numbers = (
        one, table(bands), summaries(rows), summaries(columns), table([*strips(columns, apart, at_once)]),
        sizes_of(x, y, layer.planes), window, np.float32(scale),
    )  # fmt: skip
    return layer.kernel(convolve, t, numbers, parts, layer.room(parts, source, target))


def sizes_of(x, y, planes) -> Sizes:
    return Sizes(*x, *y[1:], planar=int(planes))


def weight_kernel(layer):
    rows, columns = layer.taps(taps_forward)
    blocks = -(-layer.x[1] // LANES)
    parts = threads.parts(2 * prod(layer.y) * prod(layer.w[2:]), blocks)
    bands = layer.bands(rows, 1)
    g = max(b - a for a, b, _, _ in bands) * layer.y[3]
    x = max(b - a for _, _, a, b in bands) * layer.x[3]
    (s, stride), (_, dilation) = layer.conv.stride, layer.conv.dilation
    taps = layer.w[3] if layer.w[3] <= 7 else 1
    t = Static(taps=taps, apiece=max(1, SUMS // taps), stride=stride)
    one = Static(taps=1, apiece=SUMS, stride=stride)
    numbers = (
        one, table(bands), summaries(rows), summaries(columns),
        table([met(rows, k) for k in range(layer.w[2])]), table([*pieces(columns, layer.w[3], taps)]),
        sizes_of(layer.x, layer.y, layer.planes), s, dilation, g,
    )  # fmt: skip
    return layer.kernel(convolve_weight, t, numbers, parts, layer.room(parts, g, x))


def pixels_at_once(width):
    """Of a line so wide: what the registers hold beside a weight and a pixel, and few done twice; of
    less than eight, each sum waits for the one before."""
    most = min(HOST.registers * HOST.lanes // LANES - 2, max(1, width))
    cost = lambda n: -(-width // n) * max(8, n + 1)
    return min((n for n in AT_ONCE if n <= most), key=cost)
