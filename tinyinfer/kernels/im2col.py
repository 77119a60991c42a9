"""Convolution as a product of matrices, without writing the columns of the whole image (im2col).

    for panel in range(0, pixels, 32):               # of all images, one after the other
        for c, k, l in taps:                         # gathered from the image; zeros around it
            columns[c, k, l, :] = x[n, c, s i + d k - p, s j + d l - p]    # n, i, j: the pixels of the panel
        for tile in filters:                         # 14 of them, or as the registers allow
            y[tile, panel] = w[tile, (c, k, l)] @ columns    # gemm.py

Panels go through all images. A 1 x 1 convolution at stride 1 sees one row of pixels. The same loops make
the gradient of the input: where it was read with stride s, x falls into s * s grids of pixels, each of
which is a convolution of g, at stride 1, with every s-th of the taps.
"""

from dataclasses import replace
from math import prod

import numpy as np

from ..core.spec import Spec
from ..ops.conv import Conv2d, Conv2dInput
from ..ops.packed import Packed, Rows
from . import threads
from .columns import copy_columns, forward_grid, gather, input_grids, one_row, stride_of
from .finite import guarded
from .gemm import (
    CACHE,
    FLOAT,
    GIVEN,
    LINE,
    NEAR,
    ROWS,
    TURNED,
    VECTORS,
    WIDE,
    ZERO,
    narrow_product,
    pack,
    planes,
    product,
    tile_for,
)
from .kernel import NO_BIAS, Cost, Kernel, ended, forms, kernel
from .native import bound, inner, into_another, native, share
from .simd import (
    ACTIVATIONS,
    BYTES,
    LANES,
    at,
    fma,
    load,
    load_one,
    load_some,
    loop,
    micro,
    registers,
    splat,
    store,
    store_some,
    total,
    zeros,
)
from .static import Static

FEW = 6  # pixels, for which vectors along the sum are better
GATHER = 8  # filters, by as many multiplications as to gather a column takes the time of
APART = 32  # steps of the sum, that take as long as to put a line of pixels that lie apart
PACK, TURN = 4, 100  # multiplications, that take as long as to pack a number


# ---- tiles -----------------------------------------------------------------------------------------


@micro
def single(t, a, k, x, c, bias):
    """Filters by one pixel, whose column is x: here the lanes go along the sum."""
    sums = registers([zeros()] * t.rows)

    def add(i, read):
        column = read(x + BYTES * i)
        for r in range(t.rows):
            sums[r] = fma(read(a + BYTES * (t.rows * i + r)), column, sums[r])

    for i in loop(k >> 4):
        add(i, load)
    add(k >> 4, lambda address: load_some(address, k & 15))
    for r in range(t.rows):
        y = total(sums[r])
        y = splat(y + load_one(bias + 4 * r) if t.by_rows else y)
        store_some(c + LINE * r, ACTIVATIONS[t.activation](y), 1)


@micro
def put_run(t, to, plane, x, count, stride):
    for r in range(t.rows):
        if t.apart:
            for j in loop(count):
                store(to + plane * r + stride * (j << 2), load_one(x + LINE * r + (j << 2)))
        else:
            for v in range(VECTORS):
                line = load(x + (LINE * r + BYTES * v))
                store_some(to + plane * r + BYTES * v, line, count - LANES * v)


@inner
def put(t, g, y, image, plane, x, first, count):
    """A tile, of filters by pixels, to where its pixels belong."""
    done = 0
    while done < count:
        n, pixel = divmod(first + done, g.rows * g.columns)
        i, j = divmod(pixel, g.columns)
        left = g.columns - j if t.apart else g.rows * g.columns - pixel
        run = min(left, count - done)
        place = (g.top + g.to_down * i) * g.to_width + g.left + g.to_right * j
        put_run(t, y + image * n + 4 * place, plane, x + 4 * done, run, g.to_right)
        done += run


# ---- the loops -------------------------------------------------------------------------------------


@native
def convolve(t, part, parts, y, x, w, bias, room, taps, kinds, g, how, by, many):
    """`how` w is given; `by`: what is split: filters, or pixels; `many` panels at a time."""
    k, pixels = g.channels * len(taps), g.images * g.rows * g.columns
    tiles, panels = (g.filters + t.rows - 1) // t.rows, (pixels + WIDE - 1) // WIDE
    top, bottom = share(tiles, part, parts, by == 0)
    start, stop = share(panels, part, parts, by == 1)
    edge = at(room, part * (room.size // parts))
    columns = edge + LINE * t.rows
    singles = columns + many * k * LINE
    packed = singles + FEW * k * 4
    size = (k + 15) // 16 * BYTES * t.rows if how == GIVEN else planes(k) * BYTES * t.rows
    for group in range(g.groups):
        a = packed
        if how == GIVEN:
            a = at(w, 0) + group * tiles * size
        else:
            pack_filters(t, w, how, kinds, g, group, k, top, bottom, packed, size)
        for first in range(start, stop, many):
            count = min(many * WIDE, stop * WIDE - first * WIDE, pixels - first * WIDE)
            gather(t, g, at(x, 0), group, taps, first * WIDE, count, columns, k * LINE)
            alone, end = singles_of(count), count - singles_of(count)
            copy_columns(
                columns + end // WIDE * k * LINE + 4 * (end % WIDE), k, alone, singles, 4 * k
            )
            for i in range(top, bottom):
                o = group * g.filters + min(i * t.rows, g.filters - t.rows)
                for j in range(0, count, WIDE):
                    one_tile(t, g, a + size * i, k, columns + j * k * 4, singles, at(y, 0), o,
                             at(bias, t.by_rows * o), first * WIDE + j, min(WIDE, count - j), edge)  # fmt: skip


@inner
def singles_of(count):
    """The last pixels, if a vector of them would be mostly empty."""
    return count % LANES if count % LANES <= FEW else 0


@inner
def one_tile(t, g, a, k, b, singles, y, o, bias, pixel, count, edge):
    """Filters from o on, at up to 32 pixels."""
    plane, row = BYTES * t.rows, 4 * g.to_height * g.to_width
    image = row * g.filters * g.groups
    n, inside = divmod(pixel, g.rows * g.columns)
    if not t.apart and count == WIDE and inside + WIDE <= g.rows * g.columns:
        product(t, a, plane, k, b, LINE, y + row * o + image * n + 4 * inside, row, bias, WIDE)
    else:
        some = count - singles_of(count)
        if some > LANES:
            product(t, a, plane, k, b, LINE, edge, LINE, bias, some)
        elif some > 0:
            narrow_product(t, a, plane, k, b, LINE, edge, LINE, bias, some)
        for j in range(some, count):
            single(t, a, k, singles + 4 * k * (j - some), edge + 4 * j, bias)
        put(t, g, y + row * o, image, row, edge, pixel, count)


@inner
def pack_filters(t, w, how, kinds, g, group, k, top, bottom, to, size):
    for i in range(top, bottom):
        o = min(i * t.rows, g.filters - t.rows)
        if how == ROWS:
            pack(at(w, group * g.filters * k), ZERO, g.filters, k, o, np.int64(t.rows), ZERO, k,
                 to + size * i, np.int64(BYTES * t.rows), NEAR,
                 np.int64(LINE * t.rows))  # fmt: skip
        else:
            turn_filters(t, w, kinds, g, group, o, to + size * i)


@inner
def turn_filters(t, w, kinds, g, group, o, to):
    """Of filters (c, o, tap): to[q, r] = w[c, o + r, tap], where q counts (c, tap)."""
    size = w.size // (g.channels * g.groups * g.filters)  # all taps
    q = 0
    for c in range(group * g.channels, (group + 1) * g.channels):
        for tap in kinds:
            line = to + (q >> 4) * BYTES * t.rows + (q & 15) * 4
            for r in range(t.rows):
                store(line + BYTES * r, load_one(at(w, (c * g.filters + o + r) * size + tap)))
            q += 1


# ---- kernels ---------------------------------------------------------------------------------------


def run_for(g, taps, kinds, how, bias=None, activation=""):
    """(run, floats of scratch, cost): of a grid."""
    g = one_row(g, taps)
    k, pixels = g.channels * len(taps), g.images * g.rows * g.columns
    t = tile_for(g.filters, bias, activation, prefetch=True)
    apart = int((g.to_down, g.to_right) != (1, 1))
    t = Static(**t.type.what, stride=stride_of(g), apart=apart)
    tiles, panels = -(-g.filters // t.rows), -(-pixels // WIDE)
    rows = tiles * t.rows
    flops = 2 * g.groups * WIDE * panels * (rows * (k + APART * apart) + GATHER * k)
    flops += 2 * g.groups * rows * k * {GIVEN: 0, ROWS: PACK, TURNED: TURN}[how]
    parts = threads.parts(flops, max(tiles, panels))
    many = max(1, min(panels, CACHE // 4 // max(1, k * LINE)))
    room = t.rows * WIDE + many * k * WIDE + FEW * k
    room += (how != GIVEN) * planes.py_func(k) * LANES * t.rows * tiles
    numbers = np.array(taps, np.int64).reshape(-1, 2), np.array(kinds, np.int64), g
    run = bound(convolve, t, (*numbers, how, int(panels >= tiles), many), parts)
    return run, parts * room, flops


def serves(op, w, *specs):
    """There are kernels for images of which each filter sees one channel."""
    return {s.dtype for s in (w, *specs)} == {FLOAT} and not 1 == w.shape[1] < op.groups


def kernel_of_runs(runs, shapes, bias=False):
    runs, rooms, flops = zip(*runs)

    def run(y, *more):
        if not y.flags.c_contiguous:
            return into_another(run, y, more)
        for one in runs:
            one(y, *(more if bias else (*more[:2], NO_BIAS, *more[2:])))

    cost = Cost(sum(flops), 4 * sum(map(prod, shapes)))
    return Kernel("im2col", run, (Spec((max(rooms),), FLOAT),), cost=cost)


def conv_kernel(op, y, x, w, bias, activation, how):
    """y = activation(conv2d(x, w) + bias), of specs; or None. The bias is one number a filter, if any."""
    if serves(op, w, x, y) and activation in ACTIVATIONS:
        run = run_for(*forward_grid(op, y, x, w), [], how, bias and "rows", activation)
        return kernel_of_runs([run], [x.shape, y.shape, w.shape], bias is not None)


def form_for(op, shape):
    return Rows(tile_for(shape[0] // op.groups).rows, op.groups)


@ended(Conv2d)
@kernel(Conv2d)
def find(op, y, x, w, bias=None, activation=""):
    return conv_kernel(op, y, x, w, bias, activation, ROWS)


@ended((Packed, Conv2d))
@kernel((Packed, Conv2d))
def find_packed(op, y, x, p, bias=None, activation=""):
    if op.form == form_for(op.op, op.shape):
        return conv_kernel(op.op, y, x, Spec(op.shape, p.dtype), bias, activation, GIVEN)


@kernel(Conv2dInput)
def find_input(op, y, g, w):
    if serves(op.conv, w, g, y):
        k = kernel_of_runs(
            [run_for(*grid, TURNED) for grid in input_grids(op.conv, y, g, w)],
            [y.shape, g.shape, w.shape],
        )
        return replace(k, run=guarded(k.run, op, 1))  # taps that fall beside g are zeros here


@forms(Conv2d)
def rows(op, y, x, w):
    """Filters that do not change."""
    if serves(op, w, x):
        yield form_for(op, w.shape)
