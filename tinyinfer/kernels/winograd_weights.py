"""The gradient of a convolution by its weights, by Winograd's minimal filtering: `winograd` backwards.

    for block of tiles:                                   # as many as stay in the second cache
        for tile, c in block, channels:                   # 16 at a time
            v[c, :, tile] = Bᵀ x[tile, c] B               # n x n elements, of as many inputs
        for tile, o in block, filters:
            d[o, :, tile] = A g[tile, o] Aᵀ               # of m x m numbers of the gradient
        for o, e, c in filters, range(n * n), channels:   # two vectors of filters, 8 channels
            s[o, e, c] += v[c, e].T @ d[o, e]             # over the tiles
    w[o, c] = Gᵀ s[o, :, c] G                             # once, for all tiles

y = Aᵀ [(G w Gᵀ) ∘ (Bᵀ x B)] A is linear in w: its gradient goes through the same matrices, transposed
(ops/winograd.py). The products are (channels x tiles) @ (tiles x filters), n² of them, and m² r² in the
definition.

NaN and infinity spread over all weights of a channel or a filter: then the definition is asked.
"""

from functools import cache, partial
from math import prod
from typing import NamedTuple

from ..core.spec import Spec
from ..ops.conv import Conv2d, Conv2dWeight
from ..ops.winograd import toom_cook, transforms, usual_points
from . import threads
from .blocks import Block, Tiles, part_of, pixel, strip, to_blocks
from .combine import shared
from .direct import FLOAT, Work
from .finite import unless_finite
from .kernel import Cost, Kernel, kernel
from .native import bound, inner, native, share
from .reorder import FLOATS, to_planes
from .simd import BYTES, LANES, at, fill, load, loop, micro, registers, store
from .tile import busy, multiply, none, tile, vectors_for
from .winograd import CACHE, all_meet, block_of, inputs_of, sizes, tile_in
from .winograd_tiles import both_ways, gather, matrices, room, size_of

ROWS = 8  # channels of a tile of sums
LARGEST = 8  # n of a tile: larger ones round too much


@cache
def transposed(m, r, points):
    """A and Gᵀ."""
    outputs, filters, _ = toom_cook(m, r, points)
    return shared(outputs.T), shared(filters.T)


@micro
def transform_gradient(t, g, pitch, d, plane):
    """A tile of g, whose lines lie `pitch` bytes apart; its elements go `plane` bytes apart."""
    n, (matrix, _) = size_of(t), transposed(t.m, t.r, t.points)
    take = lambda p, q: load(g + pitch * p + q * BYTES)
    both_ways(matrix, t.m, take, lambda p, q, x: store(d + p * (plane * n) + plane * q, x))


@micro
def transform_weights(t, s, plane, w):
    """r x r weights of 16 filters, one vector after the other."""
    n, (_, matrix) = size_of(t), transposed(t.m, t.r, t.points)
    take = lambda p, q: load(s + plane * (n * p) + q * plane)
    both_ways(matrix, n, take, lambda k, l, x: store(w + k * (BYTES * t.r) + BYTES * l, x))


@micro
def add_product(t, v, d, s, tiles):
    """Of `rows` channels and a panel of filters, one element."""
    sums, places = none(t), registers([v, d])
    for _ in loop(tiles):
        v, d = places
        multiply(t, sums, v, d, steps=1)
        places[0], places[1] = v + BYTES, d + BYTES * t.vectors
    for i, x in enumerate(sums):
        place = s + BYTES * i
        store(place, load(place) + x)


@inner
def gradients_of(t, g, blocks, tiles, block, d, plane):
    """D of a block of tiles."""
    n, edge = t.m + t.r - 1, room(t)
    wide = 64 * t.vectors
    for k in range(block.lines * block.columns):
        image, i, j = tile_in(t, block, tiles.down, k)
        inside = i + t.m <= g.height and j + t.m <= g.width
        for o in range(blocks):
            place, pitch = edge, 64 * t.m
            if inside:
                place, pitch = pixel(g, image, o, i, j), 64 * g.width
            else:
                gather(g, image, o, i, j, edge, t.m + 0)
            panel, v = divmod(o, t.vectors)
            there = d + (panel * n * n * plane + wide * k) + 64 * v
            transform_gradient(t, place, pitch, there, plane)


@inner
def add_products(t, tiles, v, v_plane, d, d_plane, s, panels, elements, blocks):
    for _ in range(panels):
        for e in range(elements):
            for c in range(0, 16 * blocks, t.rows):
                block, row = divmod(c, 16)
                left = v + (block * elements + e) * v_plane + 4 * row
                add_product(t, left, d, s, tiles)
                s += 64 * t.vectors * t.rows
            d += d_plane


class Geometry(NamedTuple):
    """Padding; lines and columns of tiles in a block, and vectors in a plane of V and D. What is
    split: filters (0) or channels (1)."""

    top: int
    left: int
    lines: int
    columns: int
    plane: int
    by: int


@native
def convolve_weights(t, part, parts, w, d, x, v, u, s, xs, ds, g):
    filters, channels, elements = w.shape[0], w.shape[1], (t.m + t.r - 1) ** 2
    H, W, OH, OW = x.shape[2], x.shape[3], d.shape[2], d.shape[3]
    outs, blocks = (filters + 15) // 16, (channels + 15) // 16
    tiles = Tiles((OH + t.m - 1) // t.m, (OW + t.m - 1) // t.m, g.top, g.left)
    around = Tiles(tiles.down, tiles.across, 0, 0)
    panel, last_panel = share((outs + t.vectors - 1) // t.vectors, part, parts, g.by == 0)
    first, last = panel * t.vectors, min(outs, last_panel * t.vectors)
    begin, end = share(blocks, part, parts, g.by == 1)
    v_, u_, s_ = at(v, part * v.shape[1]), at(u, part * u.shape[1]), at(s, part * s.shape[1])
    v_plane, u_plane, s_plane = (
        64 * g.plane,
        64 * t.vectors * g.plane,
        1024 * t.vectors * (end - begin),
    )
    fill(s_, 0, (last_panel - panel) * elements * s_plane)
    lines = x.shape[0] * tiles.down
    for line in range(0, lines, g.lines):
        for column in range(0, tiles.across, g.columns):
            across = min(g.columns, tiles.across - column)
            block = Block(line, min(g.lines, lines - line), column, across)
            seen = part_of(t, block, tiles, H, W, t.m + t.r - 1)
            source = strip(at(xs, part * xs.shape[1]), seen, H, W)
            to_blocks(at(x, 0), channels, begin, end, seen, source)
            inputs_of(t, source, end - begin, tiles, block, v_, v_plane)
            seen = part_of(t, block, around, OH, OW, t.m + 0)
            source = strip(at(ds, part * ds.shape[1]), seen, OH, OW)
            to_blocks(at(d, 0), filters, first, last, seen, source)
            gradients_of(t, source, last - first, around, block, u_, u_plane)
            add_products(t, block.lines * across, v_, v_plane, u_, u_plane, s_,
                         last_panel - panel, elements, end - begin)  # fmt: skip
    for o in range(first, last):
        i, vector = divmod(o - first, t.vectors)
        for c in range(16 * begin, min(channels, 16 * end)):
            sums = s_ + i * elements * s_plane + 64 * (t.vectors * (c - 16 * begin) + vector)
            put(t, sums, s_plane, at(w, (16 * o * channels + c) * t.r * t.r), channels,
                min(16, filters - 16 * o))  # fmt: skip


@inner
def put(t, sums, plane, w, channels, filters):
    """The weights of a channel, of up to 16 filters."""
    size, some = t.r * t.r, room(t)
    transform_weights(t, sums, plane, some)
    to_planes(FLOATS, some, 64, w, 4 * channels * size, filters, size, 0, (size + 15) // 16)


# ---- which blocks, and when ------------------------------------------------------------------------


def find(op, w, d, x, m):
    work = d.dtype == x.dtype == FLOAT and work_of(op, d, x)
    r = w.shape[2]
    if not work or m + r - 1 > LARGEST or not prod(work.x) * prod(work.y) * prod(w.shape):
        return None
    t, g, parts, scratch, cost = planned(work, m)
    run = unless_finite(bound(convolve_weights, t, (g,), parts), op)
    return Kernel(f"Winograd F({m}, {r})", run, scratch, cost=cost, error=error(m, r))


for m in (2, 4, 6):
    kernel(Conv2dWeight)(partial(find, m=m))


def work_of(op, d, x) -> Work | None:
    """Of a convolution with the same square filters at every place."""
    conv, (_, _, r, columns) = op.conv, op.shape
    if type(conv) is not Conv2d or conv != Conv2d(padding=conv.padding) or r != columns or r == 1:
        return None
    work = Work(conv, "NCHW", "NCHW", x.shape, op.shape, d.shape)
    return work if all_meet(work) else None


def planned(work, m):
    (images, _, H, W), (filters, channels, r, _), (*_, OH, OW) = work.x, work.w, work.y
    outs, blocks, elements = -(-filters // LANES), -(-channels // LANES), (m + r - 1) ** 2
    vectors = vectors_for(outs)
    panels, down, across = -(-outs // vectors), -(-OH // m), -(-OW // m)
    products = 2 * elements * images * down * across * LANES**2 * blocks * panels * vectors
    parts = threads.parts(products, max(panels, blocks))
    by = int(blocks > panels)
    here = [-(-n // (parts if by == i else 1)) for i, n in enumerate((panels, blocks))]
    panels_here, blocks_here = here
    # Bytes of V and D, a tile: of all, so that blocks are the same however many threads there are.
    each = 4 * LANES * elements * (blocks + panels * vectors)
    lines, columns = block_of(images * down, across, max(1, CACHE // 2 // each))
    counts = sizes(images * down, lines, columns, across)
    (top, _), (left, _) = work.conv.padding
    many = min(images, (lines + down - 2) // down + 1)  # images that a block may have tiles of
    plane = max(counts) | 1
    rooms = (
        elements * plane * blocks_here,
        elements * plane * panels_here * vectors,
        elements * LANES * panels_here * vectors * blocks_here,
        blocks_here * W * min(many * H, lines * m + many * (r - 1)),
        panels_here * vectors * OW * min(many * OH, lines * m),
    )
    scratch = tuple([Spec((parts, LANES * n), FLOAT) for n in rooms])
    t = tile(ROWS, vectors, step=4, m=m, r=r, points=usual_points(m, r))
    g = Geometry(top, left, lines, columns, plane, by)
    return t, g, parts, scratch, cost(work, t, products, parts, by)


def cost(work, t, products, parts, by) -> Cost:
    """As in `winograd`: products, and the instructions of the transforms, which each part makes of all
    that is not split."""
    n, tiles = size_of(t), work.y[0] * -(-work.y[2] // t.m) * -(-work.y[3] // t.m)
    inputs, outputs = matrices(t.m, t.r, t.points)[1], transposed(t.m, t.r, t.points)[0]
    filters, channels = (-(-c // LANES) * LANES for c in work.w[:2])
    lines = channels * 2 * n * inputs.instructions * (parts if by == 0 else 1)
    lines += filters * (n + t.m) * outputs.instructions * (parts if by == 1 else 1)
    moved = 4 * (prod(work.x) + prod(work.y))
    return Cost(products / busy(t.rows, t.vectors) + 6 * tiles * lines, moved, 0.95)


def error(m, r) -> float:
    """As of the outputs (winograd.py): of m products in each direction."""
    at, g, bt = (matrix**2 for matrix in transforms(m, r, usual_points(m, r)))
    return 1.3e-7 * (g.T @ (at.sum(0) * bt.sum(1))).mean() / m
