"""Depthwise convolution of wide images in NCHW: lanes are neighbouring columns, and nothing is
transposed. (`depthwise` does the rest.)

    for n, c in images, channels:
        for band in rows:                               # of which the pixels fit into the first cache
            pixels = the rows of x[n, c] that it sees   # zeros around; columns sorted by j % stride
            for i, j in band, columns, `rows` x 16 at a time:
                for u, l in rows that the tile sees, columns of the window:
                    p = pixels[u, d l % s, j + d l // s]                    # 16 columns
                    for r, k with s r + d k = u:
                        y[n, c, i + r, j] += w[c, k, l] * p                 # in registers

With its columns sorted an image with a stride is read like one without; and a row of pixels is read
once for all rows of a tile that need it. Windows are written out: each size of them is compiled anew.
"""

from math import prod

import numpy as np

from ..core.spec import Spec
from ..ops.conv import Conv2d
from . import threads
from .host import HOST
from .kernel import Cost, Kernel, kernel
from .native import bound, native, share
from .simd import (
    BYTES,
    LANES,
    at,
    broadcast,
    fill,
    fma,
    load,
    load_some,
    loop,
    micro,
    shuffled,
    store,
    store_some,
    when,
    zeros,
)  # fmt: skip
from .static import Static

FLOAT = 4  # bytes
BAND = 24 * 1024  # bytes of pixels: half of the first cache
MOST_TAPS = 25  # that are written out
MOST_ROWS = {16: 8, 8: 4, 4: 2}[HOST.lanes]  # of a tile: sums, weights and pixels in registers

# ---- pixels, sorted --------------------------------------------------------------------------------


@micro
def lay_out(t, to, pitch, segment, before, x, pitch_of_x, n, rows):
    """Rows of n pixels, which begin at column `before`; those of column % step stand together."""
    wide = LANES * t.step
    whole = n // wide * wide
    vectors = range(t.step)
    for u in loop(rows):
        there, a = to + pitch * u, x + pitch_of_x * u
        for m in loop(whole, 0, wide):
            put(t, there, segment, before, m, [load(a + m * FLOAT + BYTES * i) for i in vectors])
        with when(whole < n):
            end, rest = a + whole * FLOAT, n - whole
            some = [load_some(end + BYTES * i, rest - LANES * i) for i in vectors]
            put(t, there, segment, before, whole, some)


def put(t, to, segment, before, m, vectors):
    for q in range(t.step):
        p = before + q
        place = p % t.step * segment + p // t.step + m // t.step
        store(to + place * FLOAT, every(t.step, q, vectors))


def every(step, first, vectors):
    """The numbers first, first + step, ... of vectors that stand one after the other."""
    while len(vectors) > 1:
        n = vectors[0].ir.type.count
        pairs = zip(vectors[::2], vectors[1::2] + vectors[-1:])
        vectors = [shuffled(a, b, range(2 * n)) for a, b in pairs]
    (x,) = vectors
    return x if step == 1 else shuffled(x, x, range(first, LANES * step, step))


# ---- a tile ----------------------------------------------------------------------------------------


def tile(t, pixels, pitch, segment, weights):
    sums = [zeros()] * t.rows
    for u, pairs in meetings(t):
        for l in range(t.width):
            p = load(
                pixels
                + pitch * u
                + segment * (l * t.across % t.step)
                + l * t.across // t.step * FLOAT
            )
            for r, k in pairs:
                sums[r] = fma(p, weights[k * t.width + l], sums[r])
    return sums


def meetings(t):
    """(row of pixels, [(row of the tile, row of the window)])"""
    meet = {}
    for r in range(t.rows):
        for k in range(t.height):
            meet.setdefault(t.stride * r + t.dilation * k, []).append((r, k))
    return sorted(meet.items())


@micro
def tiles(t, y, n, pixels, pitch, segment, w):
    """`rows` lines of n numbers each."""
    weights = [broadcast(w + FLOAT * i) for i in range(t.height * t.width)]
    whole = n // LANES * LANES
    for j in loop(whole, 0, LANES):
        for r, x in enumerate(tile(t, pixels + j * FLOAT, pitch, segment * FLOAT, weights)):
            store(y + (n * r + j) * FLOAT, x)
    with when(whole < n):
        for r, x in enumerate(tile(t, pixels + whole * FLOAT, pitch, segment * FLOAT, weights)):
            store_some(y + (n * r + whole) * FLOAT, x, n - whole)


@native
def convolve(t, part, parts, y, x, w, room, band, pitch, segment, lead, above, before):
    """band: rows of y for which there is room. Numbers of pixels, but for the pitch, which is bytes."""
    images, channels, height, width = x.shape
    _, filters, rows, columns = y.shape
    window, each = t.height * t.width, filters // channels
    count = t.stride * (band - 1) + t.dilation * (t.height - 1) + 1
    pixels = at(room, part * room.shape[1] + lead)
    fill(at(room, part * room.shape[1]), 0, room.shape[1] * FLOAT)
    for plane in range(*share(images * channels, part, parts)):
        f = at(w, plane % channels * each * window)
        for b in range(0, rows, band):
            b = min(b, rows - band)
            top = t.stride * b - above
            first = min(max(0, top), top + count)
            end = max(first, min(height, top + count))
            if band < rows:  # another band was there
                fill(pixels, 0, pitch * (first - top))
                fill(pixels + pitch * (end - top), 0, pitch * (top + count - end))
            lay_out(t, pixels + pitch * (first - top), pitch, segment, before,
                    at(x, (plane * height + first) * width), width * FLOAT, width, end - first)  # fmt: skip
            for e in range(each):
                for i in range(0, band, t.rows):
                    i = min(i, band - t.rows)
                    there = at(y, ((plane * each + e) * rows + b + i) * columns)
                    a = pixels + t.stride * i * pitch
                    tiles(t, there, columns, a, pitch, segment, f + e * window * FLOAT)


# ---- who is served ---------------------------------------------------------------------------------


@kernel(Conv2d)
def find(op, y, x, w):
    if x.dtype != np.float32 or w.dtype != np.float32 or op.groups != x.shape[1]:
        return None
    (above, below), (left, right) = op.padding
    (_, _, rows, columns), size = y.shape, w.shape[2:]
    narrow = columns <= LANES * (op.stride[1] > 1) or columns < 12
    if (
        narrow
        or not 0 < prod(size) <= MOST_TAPS
        or not prod(x.shape)
        or max(*op.stride, *op.dilation) > 4
    ):
        return None
    at_once = rows_at_once(rows)
    t = Static(rows=at_once, height=size[0], width=size[1], stride=op.stride[0], step=op.stride[1],
               dilation=op.dilation[0], across=op.dilation[1])  # fmt: skip
    lead, segment, pitch = line(t, columns, x.shape[3], left)
    reach = t.dilation * (t.height - 1) + 1
    band = max((BAND // FLOAT // pitch - reach) // t.stride, at_once)
    band = max(-(-rows // -(-rows // min(rows, band))), at_once)  # all alike
    parts = threads.parts(op.flops(y, x, w), prod(x.shape[:2]))
    room = Spec((parts, LANES + (t.stride * (band - 1) + reach) * pitch), np.dtype(np.float32))
    numbers = band, pitch * FLOAT, segment, lead, above, left
    cost = Cost(op.flops(y, x, w), FLOAT * (prod(x.shape) + prod(y.shape)), 0.6)
    return Kernel("columns", bound(convolve, t, numbers, parts), (room,), cost=cost)


def line(t, columns, width, left):
    """Of a row of pixels: where it begins, so that most are stored to whole lines of the cache; numbers
    between columns of one remainder and the next; and from row to row, an odd number of lines."""
    whole = lambda n: -(-n // LANES) * LANES
    lead = -(left // t.step) % LANES
    stored = left // t.step + 1 + whole(-(-width // t.step)) + LANES
    read = whole(columns) + (t.width - 1) * t.across // t.step + 1
    segment = whole(max(stored, read))
    return lead, segment, (lead + segment * t.step + LANES) // 32 * 32 + LANES


def rows_at_once(rows):
    """Few are done twice."""
    most = min(MOST_ROWS, rows)
    return min(range(most, 0, -1), key=lambda n: -(-rows // n) * (n + 0.5))
