"""Rows of a table, by number; each is of `row` floats.

    for i in range(n)
        y[i] = x[p[i], q[i], ...]
        y[p[i], q[i], ...] += x[i]           # from zero, one after the other

Whether all numbers are inside is looked at before: if one is not, the definition says which.
"""

from math import prod

import numpy as np

from ..ops.index import Index, IndexPut
from .kernel import Cost, Kernel, kernel
from .native import bound_several, entry, native
from .recorded import Check, is_place, note
from .simd import (
    LANES,
    below,
    constant,
    i64,
    load_some,
    loop,
    micro,
    number,
    read,
    registers,
    store_some,
    types,
    zeros,
)
from .static import NOTHING

FLOAT, WHOLE = np.dtype("f4"), np.dtype("i8")


@native
def take_rows(t, part, parts, ys, xs, numbers):
    take(ys, xs, numbers)


@native
def add_rows(t, part, parts, ys, xs, numbers):
    add(ys, xs, numbers)


@micro
def take(ys, xs, numbers):
    (y,), (x, *indices) = ys, xs
    n, row, _, *strides = numbers
    for i in loop(n):
        for c, some in pieces(row):
            to = y + (i * row + c) * 4
            store_some(to, load_some(x + place(indices, strides, i) + c * 4, some), some)


@micro
def add(ys, xs, numbers):
    (y,), (x, *indices) = ys, xs
    n, row, size, *strides = numbers
    for c, some in pieces(size):
        store_some(y + c * 4, zeros(), some)
    for i in loop(n):
        for c, some in pieces(row):
            to = y + place(indices, strides, i) + c * 4
            store_some(to, load_some(to, some) + load_some(x + (i * row + c) * 4, some), some)


def pieces(size):
    for c in loop(size, step=LANES):
        yield c, below(size - c, LANES)


def place(indices, strides, i):
    """In bytes."""
    found = number(0)
    for index, stride in zip(indices, strides):
        found = found + read(index + i * 8, i64) * stride
    return found


@micro(types.intp)
def outside(x, size, n):
    """Below zero, if one of the numbers from this address on is not among 0 ... n - 1."""
    signs = registers([constant(i64, 0)])
    for i in loop(size):
        k = read(x + i * 8, i64)
        signs[0] = signs[0] | k | (n - 1 - k)
    return signs[0]


@native
def any_outside(x, size, n):
    return outside(x, size, n) < 0


def is_outside(index, n) -> bool:
    call = entry(
        any_outside, (types.intp,) * 3
    )  # Numba would look at types, for 20 ms the first time
    return call(index.ctypes.data, index.size, n)


def checked(run, op, shape):
    def safe(y, x, *indices):
        for index, n in zip(indices, shape):
            if is_place(y):
                note(Check("inside", index, (n,)), y)
            elif is_outside(np.ascontiguousarray(index), n):
                return np.copyto(y, op.forward(x, *indices))
        run(y, x, *indices)

    return safe


def rows(op, f, table, y, x, indices):
    """A kernel for rows of a table of this shape, or None."""
    n, places = len(indices), {s.shape for s in indices}
    if len(places) != 1 or {s.dtype for s in indices} != {WHOLE} or {x.dtype, y.dtype} != {FLOAT}:
        return None
    row, count = prod(table[n:]), prod(*places)
    strides = [4 * prod(table[i + 1 :]) for i in range(n)]
    run = bound_several(f, NOTHING, (count, row, prod(y.shape), *strides))
    return Kernel("rows", checked(run, op, table), cost=Cost(0, 4 * prod(y.shape) + 8 * count * n))


@kernel(Index)
def index(op, y, x, *indices):
    return rows(op, take_rows, x.shape, y, x, indices)


@kernel(IndexPut)
def index_put(op, y, x, *indices):
    return rows(op, add_rows, op.shape, y, x, indices)
