"""One tile of a Winograd convolution: its transforms, and what to do where it is not as the others.

    half[:, q] = M x[:, q]      for every column: a line of n vectors, of 16 channels each
    y[p] = M half[p]            for every row

At an edge a tile is gathered into a room of its own, with zeros around the image, or scattered from it.
"""

from functools import cache

import numpy as np
from llvmlite import ir
from numba import types

from ..ops.winograd import toom_cook
from .blocks import Images, pixel
from .combine import combined, exact, shared
from .direct import ACTIVATIONS
from .simd import (
    BYTES,
    LANES,
    Value,
    above,
    below,
    broadcast,
    builder,
    f32x16,
    first_lanes,
    fma,
    i16,
    i64,
    is_nan,
    load,
    loop,
    maximum,
    micro,
    registers,
    select,
    store,
    zeros,
)


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
def transform_back(t, s, plane, y, pitch, bias):
    """A tile of outputs, from sums; and whether it is spoiled by infinity or NaN. The outputs at its
    corners are sums of everything: the first of a line has all elements in it but the last, and the
    last one all but that of the point 0."""
    n, (outputs, _, _) = size_of(t), matrices(t.m, t.r, t.points)
    spoiled = registers([zeros()])

    def give(p, q, x):
        store(y + p * pitch + BYTES * q, end(t, x + bias if t.bias else x))
        if q in (0, t.m - 1):
            spoiled[0] = fma(x, zeros(), spoiled[0])  # 0, or NaN

    both_ways(outputs, n, lambda p, q: load(s + plane * (n * p) + q * plane), give)
    return any_lane(is_nan(spoiled[0]))


def end(t, x):
    return ACTIVATIONS[t.activation](x)


def any_lane(mask) -> Value:
    b = builder()
    return Value(b.icmp_unsigned("!=", b.bitcast(mask.ir, i16), ir.Constant(i16, 0)))


# ---- at edges, and spoiled ones --------------------------------------------------------------------


@micro
def gather(x, image, block, i, j, to, n):
    """The n x n pixels from (i, j) on, with zeros around the image."""
    x = Images(*x)
    for k in loop(n * n):
        store(to + k * BYTES, zeros())
    for p in loop(below(x.height - i, n), above(-i, 0)):
        for q in loop(below(x.width - j, n), above(-j, 0)):
            store(to + (p * n + q) * BYTES, load(pixel(x, image, block, i + p, j + q)))


@micro
def scatter(t, tile, y, image, block, i, j):
    """What of a tile of outputs is in the image."""
    y = Images(*y)
    for p in loop(below(y.height - i, t.m)):
        for q in loop(below(y.width - j, t.m)):
            store(pixel(y, image, block, i + p, j + q), load(tile + (p * t.m + q) * BYTES))


def filters_again(t, p, plane, w):
    """Sixteen filters r x r, from their transforms at the first points and the last; or as they were
    kept."""
    n, r, (_, _, back) = size_of(t), t.r, matrices(t.m, t.r, t.points)
    row = lambda e: e if e < r - 1 else n - 1
    column = lambda e: select(e < r - 1, e, n - 1)
    both_ways(back, r, lambda e, f: load(p + plane * (n * row(e)) + column(f) * plane),
              lambda k, l, x: store(w + k * (BYTES * r) + BYTES * l, x))  # fmt: skip
    places = [w + BYTES * k for k in range(r * r)]
    size = lambda x: above(x, -x)
    largest = zeros()
    for x in map(load, places):
        largest = maximum(largest, size(x))
    kept = is_nan(load(p + plane * (n * n - 1)))
    for k, place in enumerate(places):
        x = load(place)
        x = select(size(x) < largest * 1e-6, zeros(), x)
        store(place, select(kept, load(p + plane * k), x))


def add_taps(t, x, w, y, meets):
    """y[i, j] += x[i + k, j + l] w[k, l], of one channel: numbers of x lie a vector apart. What of w
    an x in this row and column `meets`."""
    n, r = size_of(t), t.r
    w = [load(w + BYTES * k) for k in range(r * r)]
    for i in loop(t.m):
        for j in loop(t.m):
            place = y + i * (BYTES * t.m) + j * BYTES
            y_ = load(place)
            for k in range(r):
                for l in range(r):
                    one = broadcast(x + i * (BYTES * n) + j * BYTES + BYTES * (n * k + l))
                    y_ = fma(one, meets(i + k, j + l, w[k * r + l]), y_)
            store(place, y_)


@micro
def by_definition(t, x, blocks, image, i, j, p, bias, rest, y):
    """A tile of outputs, from the inputs at (i, j), and 16 of the filters p; `rest` of them are left:
    in the other lanes NaN would spread."""
    line, inputs, w = BYTES * t.vectors, stack(size_of(t) ** 2), stack(t.r**2)

    def meets(p, q, w):
        """Zeros beside an image are multiplied too, and those beside a gradient are not."""
        row, column, seen = i + p, j + q, Images(*x)
        inside = (row >= 0) & (row < seen.height) & (column >= 0) & (column < seen.width)
        return select(inside, w, zeros()) if t.gradient else w

    places = lambda: (y + k * BYTES for k in loop(t.m**2))
    for place in places():
        store(place, bias)
    for c in loop(blocks):
        gather(x, image, c, i, j, inputs, size_of(t))
        for lane in loop(LANES):
            filters_again(t, p + (c * LANES + lane) * line, blocks * (LANES * line), w)
            add_taps(t, inputs + lane * 4, w, y, meets)
    for place in places():
        store(place, select(first_lanes(rest), end(t, load(place)), zeros()))
