"""A matrix by a vector, in float32. It takes as long as to read the matrix, which lies one way or the
other, and is read in the order in which it lies:

    y[r] = sum_i x[r, i] v[i]              # the lanes go along the sum, 8 rows at a time
    y[j] = sum_i v[i] x[i, j]              # the lanes go along the result, 8 lines at a time
"""

from . import threads
from .native import bound, native, share
from .simd import (
    BYTES,
    LANES,
    at,
    broadcast,
    fma,
    load,
    load_some,
    loop,
    micro,
    registers,
    store,
    store_some,
    total,
    zeros,
)
from .static import Static

SOME, ONE = Static(lines=8), Static(lines=1)
CHUNK = 4096  # numbers of a result that stay in the first cache


@micro
def dots(t, x, pitch, n, v, y):
    """The products of some lines, of n numbers, with v."""
    sums = registers([zeros()] * t.lines)

    def add(i, read):
        beside = read(v + BYTES * i)
        for r in range(t.lines):
            sums[r] = fma(read(x + pitch * r + BYTES * i), beside, sums[r])

    for i in loop(n >> 4):
        add(i, load)
    add(n >> 4, lambda address: load_some(address, n & 15))
    for r in range(t.lines):
        store(y + 4 * r, total(sums[r]))


@micro
def add_lines(t, v, x, pitch, n, y):
    """y += some lines, each times its number in v"""
    times = [broadcast(v + 4 * r) for r in range(t.lines)]

    def summed(i, read):
        y_ = read(y + BYTES * i)
        for r in range(t.lines):
            y_ = fma(times[r], read(x + pitch * r + BYTES * i), y_)
        return y_

    for i in loop(n >> 4):
        store(y + BYTES * i, summed(i, load))
    last = n >> 4
    store_some(y + BYTES * last, summed(last, lambda a: load_some(a, n & 15)), n & 15)


@native
def by_rows(t, part, parts, y, x, v, from_x, from_v, m, n):
    """y[i] = x[i] v[i], matrices (m, n): here and below, as many as there are places where they begin."""
    first, last = share(m, part, parts)
    for i in range(from_x.size):
        for r in range(first, last - 7, 8):
            dots(SOME, at(x, from_x[i] + n * r), 4 * n, n, at(v, from_v[i]), at(y, m * i + r))
        for r in range(max(first, last - (last - first) % 8), last):
            dots(ONE, at(x, from_x[i] + n * r), 4 * n, n, at(v, from_v[i]), at(y, m * i + r))


@native
def by_columns(t, part, parts, y, x, v, from_x, from_v, m, n):
    """y[i] = v[i] x[i]"""
    first, last = share((n + 15) // LANES, part, parts)
    first, last = first * LANES, min(n, last * LANES)
    for i in range(from_x.size):
        for j in range(first, last, CHUNK):
            count = min(CHUNK, last - j)
            there = at(y, n * i + j)
            y.reshape(-1)[n * i + j : n * i + j + count] = 0
            for r in range(0, m - 7, 8):
                line = at(x, from_x[i] + n * r + j)
                add_lines(SOME, at(v, from_v[i] + r), line, 4 * n, count, there)
            for r in range(m // 8 * 8, m):
                line = at(x, from_x[i] + n * r + j)
                add_lines(ONE, at(v, from_v[i] + r), line, 4 * n, count, there)


def vector_run(from_a, from_b, m, k, n, left, right):
    """run(y, a, b, ...) where a has one row, or b one column. `left`, `right`: they lie by columns."""
    row = m == 1
    size, lies = (n, right) if row else (m, not left)
    parts = threads.parts(2 * k * size * len(from_a), -(-size // LANES))
    starts = (from_b, from_a) if row else (from_a, from_b)
    f, shape = (by_rows, (size, k)) if lies else (by_columns, (k, size))
    run = bound(f, numbers=(*starts, *shape), parts=parts)
    return lambda y, a, b, *more: run(y, *((b, a) if row else (a, b)))
