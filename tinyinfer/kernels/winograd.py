"""Convolution by Winograd's minimal filtering, of images in blocks of 16 channels.

    for block of tiles:                                   # as many as stay in the second cache
        for tile, c in block, channels:                   # 16 channels at a time
            v[c, :, tile] = Bᵀ x[tile, c] B               # n x n elements
        for o in filters:                                 # two vectors of them at a time
            for e in range(n * n):
                s[e] = v[:, e].T @ p[o, e]                # (tiles x channels) @ (channels x filters)
            for tile in block:
                y[tile, o] = Aᵀ s[:, tile] A              # m x m outputs

The matrices, and why this is a convolution: ops/winograd.py. What makes it fast: V and the sums S of a
block are written and read in the second cache, and the filters p strictly in order; planes of V and S
are an odd number of cache lines long, so that no two of them compete for the same set of the cache; a
block holds tiles of several images, so that filters that leave the cache come past seldom. The
transforms share what rows of a matrix have in common (see `Sums`): instructions for one line of a tile

                                    inputs Bᵀ             outputs Aᵀ
                                here  all terms  Lavin    here  all terms
    F(2, 3)                        4          4      4       4          4
    F(4, 3) of 0 ±1 ±2            12         16     12      10         14
    F(4, 3) of 0 ±1 1/2 -2        16         20             12         14
    F(6, 3) of 0 ±1 ±2 ±1/2       24         36             20         32

where Lavin and Gray wrote the sums by hand. A tile of F(4, 3) has 12 lines of inputs, and 10 of outputs.

NaN and infinity: Winograd's sums spread them over all outputs of a tile. Four of its outputs have all
sums in them, so that these tell whether there was one, or a number grew too large. Such a tile is
computed again by the definition, with the filters that p is the transform of: known up to rounding, so
that below a millionth of the largest in its filter a weight is taken for zero. An infinite weight is
NaN in p, and in y.
"""

from functools import cache
from math import prod
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types

from ..core.spec import Spec
from ..ops.conv import Conv2d, Conv2dInput
from ..ops.layout import In
from ..ops.packed import Packed
from ..ops.winograd import Winograd, toom_cook, usual_points
from . import threads
from .combine import combined, exact, shared
from .kernel import Cost, Kernel, kernel
from .native import bound, inner, native
from .reorder import to_lanes, to_planes
from .simd import (
    BYTES,
    Value,
    above,
    at,
    broadcast,
    builder,
    f32x16,
    fma,
    i16,
    i64,
    is_nan,
    load,
    loop,
    maximum,
    micro,
    number,
    registers,
    select,
    splat,
    store,
    zeros,
)
from .static import Static
from .tile import multiply, none, put, shape, tile

# ---- transforms ------------------------------------------------------------------------------------


def both_ways(matrix, size, take, give):
    """Y = M X Mᵀ, of size x size vectors: `take(p, q)` is X[p, q], and `give(p, q, y)` gets Y[p, q]."""
    half = stack(size * len(matrix.rows))
    for q in loop(size):
        line = [take(p, q) for p in range(size)]
        for p, x in enumerate(combined(matrix, line)):
            store(half + q * BYTES + BYTES * size * p, x)
    for p in loop(len(matrix.rows)):
        line = [load(half + p * (BYTES * size) + BYTES * q) for q in range(size)]
        for q, x in enumerate(combined(matrix, line)):
            give(p, q, x)


def stack(count) -> Value:
    """The address of room for so many vectors, while the function runs."""
    b = builder()
    with b.goto_entry_block():
        slot = b.alloca(ir.ArrayType(f32x16.ir, count))
        slot.align = BYTES
    return Value(b.ptrtoint(slot, i64))


@cache
def matrices(m, r, points):
    """Aᵀ and Bᵀ; and what makes filters of r of their transforms, those by the first points and by
    the last."""
    outputs, g, inputs = toom_cook(m, r, points)
    inverse = np.linalg.inv(g[[*range(r - 1), -1]].astype(float))
    return shared(outputs), shared(inputs), shared(exact(inverse))


def size_of(t):
    return t.m + t.r - 1


@micro(types.intp)
def room(t):
    """Of a tile of inputs."""
    return stack(size_of(t) ** 2)


@micro
def transform(t, x, pitch, v, plane):
    """A tile of inputs, whose lines lie `pitch` bytes apart; its elements go `plane` bytes apart."""
    n, (_, inputs, _) = size_of(t), matrices(t.m, t.r, t.points)
    take = lambda p, q: load(x + pitch * p + q * BYTES)
    both_ways(inputs, n, take, lambda p, q, x: store(v + p * (plane * n) + plane * q, x))


@micro(types.boolean)
def transform_back(t, s, plane, y, pitch):
    """A tile of outputs, from sums; and whether it is spoiled by infinity or NaN. The outputs at its
    corners are sums of everything: the first of a line has all elements in it but the last, and the
    last one all but that of the point 0."""
    n, (outputs, _, _) = size_of(t), matrices(t.m, t.r, t.points)
    spoiled = registers([zeros()])

    def give(p, q, x):
        store(y + p * pitch + BYTES * q, x)
        if q in (0, t.m - 1):
            spoiled[0] = fma(x, zeros(), spoiled[0])

    both_ways(outputs, n, lambda p, q: load(s + plane * (n * p) + q * plane), give)
    return any_lane(is_nan(spoiled[0]))


def any_lane(mask) -> Value:
    b = builder()
    return Value(b.icmp_unsigned("!=", b.bitcast(mask.ir, i16), ir.Constant(i16, 0)))


# ---- where things lie ------------------------------------------------------------------------------


class Images(NamedTuple):
    """In blocks of 16 channels: the address, and bytes from image to image and from block to block."""

    base: int
    image: int
    block: int
    height: int
    width: int


class Tiles(NamedTuple):
    """All of them: in an image, and how far the first one begins above and left of it."""

    down: int
    across: int
    top: int
    left: int


class Block(NamedTuple):
    """Some lines of tiles, of one image or of several; and of each some, if they are long."""

    line: int
    lines: int
    column: int
    columns: int


class Part(NamedTuple):
    """Of the lines of pixels of all images, one after the other; and of each the columns."""

    first: int
    last: int
    left: int
    right: int


@inner
def pixel(x, image, block, i, j):
    """The address of 16 channels."""
    return x.base + image * x.image + block * x.block + 64 * (i * x.width + j)


@inner
def tile_in(t, block, down, k):
    """Image, row and column where the outputs of a tile begin."""
    line, column = divmod(k, block.columns)
    image, i = divmod(block.line + line, down)
    return image, i * t.m, (block.column + column) * t.m


@inner
def part_of(t, block, tiles, H, W, size):
    """The pixels that its tiles have, of so many rows and columns each."""
    last = block.line + block.lines - 1
    image, other = block.line // tiles.down, last // tiles.down
    top, bottom = block.line % tiles.down * t.m, last % tiles.down * t.m + size
    left, right = block.column * t.m, (block.column + block.columns - 1) * t.m + size
    return Part(
        image * H + clip(top - tiles.top, H),
        other * H + clip(bottom - tiles.top, H),
        clip(left - tiles.left, W),
        clip(right - tiles.left, W),
    )


@inner
def clip(i, most):
    return max(0, min(i, most))


@inner
def runs(part, image, H, W):
    """Pixels of an image that lie one after the other: where the first run begins, how many there are,
    W pixels apart, and of how many pixels each. Whole lines are one run."""
    first, last = max(part.first - image * H, 0), min(part.last - image * H, H)
    if part.right - part.left == W:
        return first * W, 1, (last - first) * W
    return first * W + part.left, last - first, part.right - part.left


@inner
def to_blocks(x, channels, part, y):
    """Part of the images x (n, c, h, w), in NCHW."""
    H, W = y.height, y.width
    for c in range((channels + 15) // 16):
        for image in range(part.first // H, (part.last + H - 1) // H):
            start, count, length = runs(part, image, H, W)
            for p in range(start, start + count * W, W):
                source = x + 4 * ((image * channels + 16 * c) * H * W + p)
                to_lanes(FLOATS, source, 4 * H * W, min(16, channels - 16 * c),
                         pixel(y, image, c, 0, p), 64, 16, length, 0, (length + 15) // 16)  # fmt: skip


@inner
def from_blocks(x, first, part, y, channels, c):
    """Block c of channels to the images y, in NCHW; it is the `first` one of x."""
    H, W = x.height, x.width
    for image in range(part.first // H, (part.last + H - 1) // H):
        start, count, length = runs(part, image, H, W)
        for p in range(start, start + count * W, W):
            to = y + 4 * ((image * channels + 16 * c) * H * W + p)
            to_planes(FLOATS, pixel(x, image, first, 0, p), 64, to, 4 * H * W,
                      min(16, channels - 16 * c), length, 0, (length + 15) // 16)  # fmt: skip


# ---- tiles that are not as the others --------------------------------------------------------------


@inner
def gather(t, x, image, block, i, j, to):
    """The tile of inputs from (i, j), with zeros around the image."""
    n = t.m + t.r - 1
    for k in range(n * n):
        store(to + 64 * k, splat(np.float32(0)))
    for p in range(max(0, -i), min(n, x.height - i)):
        for q in range(max(0, -j), min(n, x.width - j)):
            store(to + 64 * (n * p + q), load(pixel(x, image, block, i + p, j + q)))


@inner
def scatter(t, tile, y, image, block, i, j):
    """What of a tile of outputs is in the image."""
    for p in range(min(t.m, y.height - i)):
        for q in range(min(t.m, y.width - j)):
            store(pixel(y, image, block, i + p, j + q), load(tile + 64 * (t.m * p + q)))


@micro
def filters_again(t, p, plane, w):
    """Sixteen filters r x r, from their transforms at the first points and the last."""
    n, r, (_, _, back) = size_of(t), t.r, matrices(t.m, t.r, t.points)
    row = lambda e: e if e < r - 1 else n - 1
    column = lambda e: select(e < r - 1, e, number(n - 1))
    both_ways(back, r, lambda e, f: load(p + plane * (n * row(e)) + column(f) * plane),
              lambda k, l, x: store(w + k * (BYTES * r) + BYTES * l, x))  # fmt: skip
    places = [w + BYTES * k for k in range(r * r)]
    size = lambda x: above(x, -x)
    largest = zeros()
    for x in map(load, places):
        largest = maximum(largest, size(x))
    for place in places:
        x = load(place)
        store(place, select(size(x) < largest * 1e-6, zeros(), x))


@micro
def add_taps(t, x, w, y):
    """y[i, j] += x[i + k, j + l] w[k, l], of one channel: numbers of x lie a vector apart."""
    n, r = size_of(t), t.r
    w = [load(w + BYTES * k) for k in range(r * r)]
    for i in loop(t.m):
        for j in loop(t.m):
            place = y + i * (BYTES * t.m) + j * BYTES
            y_ = load(place)
            for k in range(r):
                for l in range(r):
                    one = broadcast(x + i * (BYTES * n) + j * BYTES + BYTES * (n * k + l))
                    y_ = fma(one, w[k * r + l], y_)
            store(place, y_)


@inner
def by_definition(t, x, blocks, image, i, j, p, y):
    """A tile of outputs, from the inputs at (i, j), and 16 of the filters p."""
    line, inputs, w = 64 * t.vectors, room(t), room(t)
    for k in range(t.m * t.m):
        store(y + 64 * k, splat(np.float32(0)))
    for c in range(16 * blocks):
        if c % 16 == 0:
            gather(t, x, image, c // 16, i, j, inputs)
        filters_again(t, p + line * c, line * 16 * blocks, w)
        add_taps(t, inputs + 4 * (c % 16), w, y)


# ---- the convolution -------------------------------------------------------------------------------


@inner
def inputs_of(t, x, blocks, tiles, block, v, plane):
    """V of a block of tiles."""
    n = t.m + t.r - 1
    edge = room(t)
    for k in range(block.lines * block.columns):
        image, i, j = tile_in(t, block, tiles.down, k)
        i, j = i - tiles.top, j - tiles.left
        inside = i >= 0 and j >= 0 and i + n <= x.height and j + n <= x.width
        for c in range(blocks):
            to = v + c * n * n * plane + 64 * k
            if inside:
                transform(t, pixel(x, image, c, i, j), 64 * x.width, to, plane)
            else:
                gather(t, x, image, c, i, j, edge)
                transform(t, edge, 64 * n, to, plane)


@micro
def product(t, v, pitch, p, s, column, blocks):
    """`rows` tiles times a panel of filters, of one element."""
    sums, places = none(t), registers([v, p])
    for _ in loop(blocks):
        for k in loop(16 // t.steps):
            v, p = places
            multiply(t, sums, v + k * (4 * t.steps), p)
            places[1] = p + BYTES * t.vectors * t.steps
        places[0] = places[0] + pitch
    put(t, sums, s, BYTES, column)


@inner
def outputs_of(t, s, plane, x, blocks, tiles, block, p, y, out):
    """16 channels of Y of a block of tiles: those of block `out`, for which p are the filters."""
    edge = room(t)
    for k in range(block.lines * block.columns):
        image, i, j = tile_in(t, block, tiles.down, k)
        inside = i + t.m <= y.height and j + t.m <= y.width
        if inside:
            to = pixel(y, image, out, i, j)
            spoiled = transform_back(t, s + 64 * k, plane, to, 64 * y.width)
        else:
            spoiled = transform_back(t, s + 64 * k, plane, edge, 64 * t.m)
        if spoiled:
            by_definition(t, x, blocks, image, i - tiles.top, j - tiles.left, p, edge)
        if spoiled or not inside:
            scatter(t, edge, y, image, out, i, j)


FLOATS = Static(bytes=4)


@native
def convolve(t, part, parts, y, x, p, v, s, xs, ys, top, left, lines, columns, split):
    """In blocks of so many lines and columns of tiles. There are `split` parts of the filters, times
    parts of the lines."""
    n, plane, elements = t.m + t.r - 1, 64 * (lines * columns | 1), p.shape[1]
    blocks, panel = p.shape[2] // 16, 64 * t.vectors * p.shape[2]
    H, W, OH, OW = x.shape[2], x.shape[3], y.shape[2], y.shape[3]
    tiles = Tiles((OH + t.m - 1) // t.m, (OW + t.m - 1) // t.m, top, left)
    around = Tiles(tiles.down, tiles.across, 0, 0)
    source = Images(at(x, 0), 64 * blocks * H * W, 64 * H * W, H, W)
    outs = (y.shape[1] + 15) // 16 if t.plain else y.shape[1]
    result = Images(at(y, 0), 64 * outs * OH * OW, 64 * OH * OW, OH, OW)
    v_, s_ = at(v, part * v.shape[1]), at(s, part * s.shape[1])
    all_, share, shares = x.shape[0] * tiles.down, part // split, parts // split
    begin, end = all_ * share // shares, all_ * (share + 1) // shares
    low, high = p.shape[0] * (part % split) // split, p.shape[0] * (part % split + 1) // split
    for line in range(begin, end, lines):
        for column in range(0, tiles.across, columns):
            block = Block(line, min(lines, end - line), column, min(columns, tiles.across - column))
            taken, made = part_of(t, block, tiles, H, W, n), part_of(t, block, around, OH, OW, t.m)
            if t.plain:
                source = strip(at(xs, part * xs.shape[1]), taken, H, W)
                result = strip(at(ys, part * ys.shape[1]), made, OH, OW)
                to_blocks(at(x, 0), x.shape[1], taken, source)
            inputs_of(t, source, blocks, tiles, block, v_, plane)
            for o in range(low, high):
                filters = at(p, 0) + elements * panel * o
                for e in range(elements):
                    for r in range(0, block.lines * block.columns, t.rows):
                        product(t, v_ + e * plane + 64 * r, elements * plane, filters + panel * e,
                                s_ + e * plane + 64 * r, elements * plane, blocks)  # fmt: skip
                for k in range(min(t.vectors, outs - o * t.vectors)):
                    out = o * t.vectors + k
                    outputs_of(t, s_ + k * elements * plane, plane, source, blocks, tiles, block,
                               filters + 64 * k, result, k if t.plain else out)  # fmt: skip
                    if t.plain:
                        from_blocks(result, k, made, at(y, 0), y.shape[1], out)


@inner
def strip(base, part, H, W):
    """Part of images, one below the other, as if all of them were there."""
    return Images(base - 64 * W * part.first, 64 * H * W, 64 * W * (part.last - part.first), H, W)


# ---- which blocks, and when ------------------------------------------------------------------------

CACHE = 1 << 20  # bytes: the second one of a core
ERRORS = {2: 2.2e-7, 4: 8.8e-7, 6: 2.9e-6}  # relative; of 64 channels, and the usual points


@kernel(Packed)
def find(op, y, x, p):
    if not isinstance(op.form, Winograd) or not y.dtype == x.dtype == p.dtype == np.float32:
        return None
    plain = not isinstance(op.op, In)
    conv = op.op if plain else op.op.op
    if not (plain or op.op.layout == "NCHW16c") or not serves(conv, op.shape) or not prod(y.shape):
        return None
    m, r, vectors, (panels, elements, channels, wide) = op.form.m, op.shape[2], op.form.vectors, p.shape
    (top, _), (left, _) = conv.padding
    images, (H, W), (OH, OW) = x.shape[0], x.shape[2:4], y.shape[2:4]
    down, across = -(-OH // m), -(-OW // m)
    parts, split = shares(images * down, p.shape, across)
    fit = tiles_at_a_time(p.shape)
    lines, columns = block_of(-(-images * down // (parts // split)), across, fit)
    rows = shape(lines * columns, vectors)[0]
    t = tile(rows, vectors, ahead=8192, m=m, r=r, points=op.form.points, plain=int(plain))
    many = min(images, (lines + down - 2) // down + 1)  # images that a block may have tiles of
    numbers = 16 * elements * (lines * columns | 1)
    room = (
        numbers * channels // 16,
        numbers * vectors,
        plain * channels * W * min(many * H, lines * m + many * (r - 1)),
        plain * wide * OW * min(many * OH, lines * m),
    )
    return Kernel(
        f"F({m}, {r})",
        bound(convolve, t, (top, left, lines, columns, split), parts),
        tuple([Spec((parts, n), x.dtype) for n in room]),
        cost=Cost(2 * prod(p.shape) * images * down * across, 4 * (prod(x.shape) + prod(y.shape) + prod(p.shape))),
        error=ERRORS.get(m, 1e-5),
    )


def serves(conv, w) -> bool:
    """The same square filters at every place."""
    plain = (1, 1), (1, 1), 1
    return isinstance(conv, Conv2d) and w[2] == w[3] and plain == (conv.stride, conv.dilation, conv.groups)


def tiles_at_a_time(p):
    """V and S fill half of what filters leave of the cache. If these do not fit, they come past once
    for each block, and V and S fill it all."""
    panels, elements, channels, wide = p
    left = CACHE - 4 * prod(p)
    room = left // 2 if left > CACHE // 8 else CACHE
    return max(1, room // (4 * elements * (channels + wide)))


def block_of(lines, across, fit):
    """Of equal size: whole lines, or parts of one."""
    evenly = lambda n, most: -(-n // -(-n // most))
    if fit < across:
        return 1, evenly(across, fit)
    return evenly(lines, fit // across), across


def shares(lines, p, across):
    """(parts, split): how many parts; and how many of the filters, rather than of the tiles."""
    panels, elements, channels, wide = p
    parts = threads.parts(2 * prod(p) * lines * across, max(lines, panels))
    uneven = lambda n: -(-n // parts) * parts / n
    return parts, parts if uneven(panels) < uneven(lines) else 1
