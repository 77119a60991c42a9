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
transforms share what rows of a matrix have in common (combine.py). Instructions for a line of a tile:

                                  inputs Bᵀ            outputs Aᵀ
                              here   all terms      here   all terms
    F(2, 3)                      4           4         4           4
    F(4, 3) of 0 ±1 ±2          12          16        10          14
    F(4, 3) of 0 ±1 1/2 -2      16          20        12          14
    F(6, 3) of 0 ±1 ±2 ±1/2     24          36        20          32

Where points come as ±p that is as few as by hand; F(2, 3) is Lavin and Gray's. A tile of inputs has 2 n
lines, and one of outputs n + m.

The error is measured by the largest numbers of a tile: beside a pixel that is a million times larger than
others, these lose as many digits.

NaN and infinity: Winograd's sums spread them over all outputs of a tile. Four of its outputs have all
sums in them, so that these tell whether there was one, or a number grew too large. Such a tile is
computed again by the definition, with the filters that p is the transform of: known up to rounding, so
that below a millionth of the largest in its filter a weight is taken for zero. A filter with an infinite
weight, or NaN, is kept as it is, and makes NaN of all its sums: so it takes the same way.
"""

from dataclasses import replace
from math import prod
from typing import NamedTuple

import numpy as np

from ..core.spec import Spec
from ..ops.conv import Conv2d, Conv2dInput
from ..ops.layout import In, unwrapped
from ..ops.packed import Packed, Turned, turned_shape
from ..ops.winograd import POINTS, Winograd, transforms, usual_points
from . import threads
from .blocks import Block, Images, Tiles, from_blocks, part_of, pixel, strip, to_blocks
from .direct import FLOAT, Work, asked
from .kernel import NO_BIAS, Cost, Kernel, kernel
from .native import bound, inner, native, share
from .simd import BYTES, at, load_some, loop, micro, registers, splat
from .tile import busy, multiply, none, put, shape, tile, vectors_for
from .winograd_tiles import (
    by_definition,
    gather,
    matrices,
    room,
    scatter,
    size_of,
    transform,
    transform_back,
)


@inner
def inputs_of(t, x, blocks, tiles, block, v, plane):
    """V of a block of tiles."""
    n, edge = t.m + t.r - 1, room(t)
    for k in range(block.lines * block.columns):
        image, i, j = tile_in(t, block, tiles.down, k)
        i, j = i - tiles.top, j - tiles.left
        inside = i >= 0 and j >= 0 and i + n <= x.height and j + n <= x.width
        for c in range(blocks):
            place, pitch = edge, 64 * n
            if inside:
                place, pitch = pixel(x, image, c, i, j), 64 * x.width
            else:
                gather(x, image, c, i, j, edge, n)
            transform(t, place, pitch, v + c * n * n * plane + 64 * k, plane)


@inner
def tile_in(t, block, down, k):
    """Image, row and column where the outputs of a tile begin."""
    line, column = divmod(k, block.columns)
    image, i = divmod(block.line + line, down)
    return image, i * t.m, (block.column + column) * t.m


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
def outputs_of(t, s, plane, x, blocks, tiles, block, p, bias, rest, y, out):
    """16 channels of Y of a block of tiles: those of block `out`, for which p are the filters."""
    edge = room(t)
    for k in range(block.lines * block.columns):
        image, i, j = tile_in(t, block, tiles.down, k)
        place, pitch = edge, 64 * t.m
        inside = i + t.m <= y.height and j + t.m <= y.width
        if inside:
            place, pitch = pixel(y, image, out, i, j), 64 * y.width
        spoiled = transform_back(t, s + 64 * k, plane, place, pitch, bias)
        if spoiled:
            i_, j_ = i - tiles.top, j - tiles.left
            by_definition(t, x, blocks, image, i_, j_, p, bias, rest, edge)
        if spoiled or not inside:
            scatter(t, edge, y, image, out, i, j)


@inner
def products(t, count, v, p, s, plane, elements, blocks):
    """S of a block of tiles, and of a panel of filters."""
    for _ in range(elements):
        for k in range(0, count, t.rows):
            product(t, v + 64 * k, elements * plane, p, s + 64 * k, elements * plane, blocks)
        v, s, p = v + plane, s + plane, p + 64 * t.vectors * 16 * blocks


@native
def convolve(t, part, parts, y, x, p, bias, v, s, xs, ys, g):
    panels, elements, blocks = p.shape[0], p.shape[1], p.shape[2] // 16
    H, W, OH, OW = x.shape[2], x.shape[3], y.shape[2], y.shape[3]
    plane, outs = 64 * g.plane, (g.filters + 15) // 16
    tiles = Tiles((OH + t.m - 1) // t.m, (OW + t.m - 1) // t.m, g.top, g.left)
    around = Tiles(tiles.down, tiles.across, 0, 0)
    source = Images(at(x, 0), 64 * blocks * H * W, 64 * H * W, H, W)
    result = Images(at(y, 0), 64 * outs * OH * OW, 64 * OH * OW, OH, OW)
    v_, s_ = at(v, part * v.shape[1]), at(s, part * s.shape[1])
    here, filters, lines = part // g.split, part % g.split, x.shape[0] * tiles.down
    begin, end = share(lines, here, parts // g.split)
    first, last = share(panels, filters, g.split)
    for line in range(begin, end, g.lines):
        for column in range(0, tiles.across, g.columns):
            across = min(g.columns, tiles.across - column)
            block = Block(line, min(g.lines, end - line), column, across)
            if t.turned:
                taken = part_of(t, block, tiles, H, W, t.m + t.r - 1)
                source = strip(at(xs, part * xs.shape[1]), taken, H, W)
                to_blocks(at(x, 0), x.shape[1], 0, blocks, taken, source)
            if t.back:
                made = part_of(t, block, around, OH, OW, t.m + 0)
                result = strip(at(ys, part * ys.shape[1]), made, OH, OW)
            inputs_of(t, source, blocks, tiles, block, v_, plane)
            for o in range(first, last):
                panel = at(p, o * elements * blocks * 256 * t.vectors)
                products(t, block.lines * across, v_, panel, s_, plane, elements, blocks)
                for k in range(min(t.vectors, outs - o * t.vectors)):
                    out = o * t.vectors + k
                    rest = min(16, g.filters - 16 * out)
                    add = load_some(at(bias, 16 * out), rest) if t.bias else splat(np.float32(0))
                    outputs_of(t, s_ + k * elements * plane, plane, source, blocks, tiles, block,
                               panel + 64 * k, add, rest, result, k if t.back else out)  # fmt: skip
                    if t.back:
                        from_blocks(result, k, made, at(y, 0), g.filters, out)


# ---- which blocks, and when ------------------------------------------------------------------------

CACHE, LAST = 1 << 20, 16 << 20  # bytes: of the second cache of a core, and what stays in the last


@kernel(Packed)
def find(op, y, x, p, bias=None, activation=""):
    """`bias`, the spec of one number a filter, and an activation are for what is fused with it."""
    gradient = isinstance(op.form, Turned)
    form = op.form.form if gradient else op.form
    if not isinstance(form, Winograd) or gradient != is_gradient(op.op):
        return None
    work = x.dtype == p.dtype == FLOAT and work_of(op.op, x, op.shape)
    if not work or not prod(work.x) * prod(work.y) * prod(work.w):
        return None
    t, g, parts, scratch, cost = planned(
        work, form, p.shape, gradient, bias is not None, activation
    )
    go = bound(convolve, t, (g,), parts)
    run = go if bias else lambda y, x, p, *scratch: go(y, x, p, NO_BIAS, *scratch)
    far = error(form.m, t.r, form.points)
    return Kernel(f"Winograd F({form.m}, {t.r})", run, scratch, cost=cost, error=far)


def is_gradient(op) -> bool:
    return isinstance(unwrapped(op)[0], Conv2dInput)


def work_of(op, x, w) -> Work | None:
    """Of a convolution with the same square filters at every place; or of such a gradient by the image:
    that is one, too."""
    gradient, (conv, *_) = is_gradient(op), unwrapped(op)
    conv = conv.conv if gradient else conv
    if not isinstance(conv, Conv2d) or conv != Conv2d(padding=conv.padding) or w[2] != w[3]:
        return None
    if gradient:
        conv = Conv2d(padding=tuple([tuple([w[2] - 1 - p for p in ends]) for ends in conv.padding]))
        op, w = replace(op, op=conv) if isinstance(op, In) else conv, turned_shape(w)
        if min(map(min, conv.padding)) < 0:
            return None
    work = asked(op, x, w)
    return work if work and all_meet(work) else None


def all_meet(work) -> bool:
    """Do all weights meet some pixel? Those that meet nothing but padding would leave their rounding
    errors."""
    sides = zip(work.conv.padding, work.x[2:], work.y[2:])
    return all(
        before < outputs and work.w[2] - 1 - before < size for (before, _), size, outputs in sides
    )


class Geometry(NamedTuple):
    """Padding; how many filters there are; lines and columns of tiles in a block, and vectors in a
    plane of V and S. There are `split` parts of the filters, times parts of the lines of tiles."""

    top: int
    left: int
    filters: int
    lines: int
    columns: int
    plane: int
    split: int


def planned(work, form, p, gradient, bias, activation):
    m, r, (images, _, H, W), (_, filters, OH, OW) = form.m, work.w[2], work.x, work.y
    panels, elements, channels, wide = p
    down, across = -(-OH // m), -(-OW // m)
    parts, split = shares(images * down, p, across)
    most = -(-images * down // (parts // split))
    lines, columns = block_of(most, across, tiles_at_a_time(p))
    counts = sizes(most, lines, columns, across)
    turned, back = work.source == "NCHW", work.target == "NCHW"
    rows = shape(counts, form.vectors)[0]
    t = tile(rows, form.vectors, ahead=8192, m=m, r=r, points=form.points,
             turned=int(turned), back=int(back), gradient=int(gradient), bias=int(bias), activation=activation)  # fmt: skip
    (top, _), (left, _) = work.conv.padding
    many = min(images, (lines + down - 2) // down + 1)  # images that a block may have tiles of
    plane = -(-max(counts) // rows) * rows | 1
    numbers = 16 * elements * plane
    room = (
        numbers * channels // 16,
        numbers * form.vectors,
        turned * channels * W * min(many * H, lines * m + many * (r - 1)),
        back * wide * OW * min(many * OH, lines * m),
    )
    scratch = tuple([Spec((parts, n), FLOAT) for n in room])
    g = Geometry(top, left, filters, lines, columns, plane, split)
    return t, g, parts, scratch, cost(work, t, p, counts, parts // split)


def tiles_at_a_time(p):
    """V and S fill half of what filters leave of the cache. If these do not fit, they come past once
    for each block, and V and S fill it all; and more, if filters come from memory."""
    panels, elements, channels, wide = p
    filters = 4 * prod(p)
    left = CACHE - filters
    room = left // 2 if left > CACHE // 8 else CACHE if filters < LAST else 3 * CACHE
    return max(1, room // (4 * elements * (channels + wide)))


def block_of(lines, across, fit):
    """Of equal size: whole lines, or parts of one."""
    evenly = lambda n, most: -(-n // -(-n // most))
    if fit < across:
        return 1, evenly(across, fit)
    return evenly(lines, fit // across), across


def sizes(lines, most, columns, across) -> tuple[int, ...]:
    """How many tiles are in each block of a part."""
    cut = lambda n, size: [min(size, n - a) for a in range(0, n, size)]
    return tuple([a * b for a in cut(lines, most) for b in cut(across, columns)])


def shares(lines, p, across):
    """(parts, split): how many parts; and how many of the filters, rather than of the tiles."""
    panels, elements, channels, wide = p
    parts = threads.parts(2 * prod(p) * lines * across, max(lines, panels))
    uneven = lambda n: -(-n // parts) * parts / n
    return parts, parts if uneven(panels) < uneven(lines) else 1


def cost(work, t, p, counts, shares) -> Cost:
    """Products, of whole tiles; instructions of the transforms, of which three take as long as two
    multiply-adds each; and what comes from memory. From the last cache filters come three times as
    fast, and from the second one at once."""
    outputs, inputs, _ = matrices(t.m, t.r, t.points)
    n, tiles = size_of(t), shares * sum(counts)
    rows = shares * sum(-(-count // t.rows) for count in counts) * t.rows
    lines = p[2] * 2 * n * inputs.instructions
    lines += p[0] * p[3] * (n + t.m) * outputs.instructions
    filters = 4 * prod(p)
    passes = 0 if filters < CACHE else len(counts) * (1 if filters > LAST else 1 / 3)
    moved = 4 * (prod(work.x) + prod(work.y)) + passes * filters
    return Cost(2 * prod(p) * rows / busy(t.rows, t.vectors) + 6 * tiles * lines, moved, 0.95)


def error(m, r, points) -> float:
    """Of outputs: independent errors of the products, as the matrices enlarge them; in the definition
    there are r of them in each direction. `tinyinfer reproduce winograd` measures
    the same, within a sixth."""
    at, g, bt = (matrix**2 for matrix in transforms(m, r, points))
    return 1.3e-7 * (at @ (g.sum(1) * bt.sum(1))).mean() / r


def forms(op, y, x, w):
    """How `find` could want filters to be packed."""
    work = x.dtype == w.dtype == FLOAT and work_of(op, x, w.shape)
    for m in (2, 4, 6) if work and prod(work.y) else ():
        r = w.shape[2]
        if r > 1 and m + r - 2 <= len(POINTS):
            vectors = vectors_for(-(-work.w[0] // 16))
            form = Winograd(m, usual_points(m, r), vectors)
            yield Turned(form) if is_gradient(op) else form
