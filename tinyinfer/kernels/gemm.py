"""C = A B in float32.

    for block in range(0, rows, some):               # so many that A[block] takes most of the second cache
        pack A[block]                                # to (k / 16, some, 16)
        for panel in range(0, columns, 32):
            pack B[:, panel]                         # to (k, 32), if it does not come so
            for tile in block:                       # 14 rows, or as the registers allow
                sums = bias
                for i in range(k):                   # in registers
                    sums += A[tile, i] * B[i, panel]
                C[tile, panel] = activation(sums)

What is packed lies in the order in which it is read; panels are packed some at a time. Threads do not
split the sum over k. The last tile of rows overlaps the one before; the last panel is copied from a
tile of its own. A row by a matrix, and a matrix by a column, are in gemv.py: they take as long as it
takes to read the matrix once.
"""

from functools import cache
from math import prod

import numpy as np

from ..core.spec import Spec
from ..ops.linalg import MatMul
from ..ops.packed import Columns, Packed
from . import threads, tile
from .gemv import vector_run
from .kernel import NO_BIAS, Cost, Kernel, ended, forms, kernel
from .native import bound, inner, into_another, native, share
from .reorder import FLOATS, to_lanes
from .simd import (
    ACTIVATIONS,
    BYTES,
    LANES,
    at,
    below,
    broadcast,
    load,
    load_some,
    loop,
    micro,
    prefetch,
    registers,
    select,
    store,
    store_some,
)
from .static import Static, StaticType

VECTORS = tile.vectors_for(2)  # of a panel
WIDE = LANES * VECTORS
LINE = BYTES * VECTORS
SHIFT = WIDE.bit_length() - 1
CACHE = 1 << 20  # bytes of the second one
# For Numba a number that it knows would be a type of its own, and `pack` compiled once more for it.
ZERO, NEAR, FAR = np.int64(0), np.int64(BYTES), np.int64(LINE)
AHEAD = 8192  # bytes of what is packed, that are asked for before they are needed
FLOAT = np.dtype("f4")

# ---- a tile ----------------------------------------------------------------------------------------


HEIGHTS = 1, 2, 4, 6, 8, 14  # of tiles: not all, each is compiled


def tile_for(rows, bias=None, activation="", prefetch=False, alone=False) -> Static:
    """`split`: into so many sums, added in the end, if else there were too few to hide what each takes;
    `prefetch`: A, too, is asked for before it is needed; `alone`: it is one row, and not packed."""
    rows, vectors = tile.shape(rows, VECTORS, among=HEIGHTS)
    return tile.tile(rows, vectors, ahead=0 if alone else AHEAD, split=4 if rows < 4 else 1, bias=bias,
                     activation=activation, by_rows=int(bias == "rows"), prefetch=int(prefetch),
                     alone=int(alone))  # fmt: skip


def multiplied(t, a, plane, k, b, apart, c, row, bias, rest):
    """C = A B: `rows` rows of the packed A, planes `plane` bytes apart; k lines of B, `apart` bytes
    apart; of which `rest` columns matter."""
    sums = [start(t, c, row, bias, rest), *[tile.none(t) for _ in range(t.split - 1)]]
    line = registers([b])

    def steps(x, n):
        for s in range(n):
            tile.multiply(t, sums[s % t.split], x + 4 * s, line[0] + apart * s, 1)
        line[0] = line[0] + apart * n

    def many_steps(x, count):
        whole = count & -t.split
        for i in loop(whole, step=t.split):
            steps(x + (i << 2), t.split)
        for i in loop(count, whole) if t.split > 1 else ():
            steps(x + (i << 2), 1)

    for block in loop(k + (LANES - 1) >> 4) if not t.alone else ():
        x = a + plane * block
        for r in range(t.rows * t.prefetch):
            prefetch(x + (AHEAD + BYTES * r))
        many_steps(x, below(k - (block << 4), LANES))
    if t.alone:
        many_steps(a, k)
    first, *others = sums
    for more in others:
        for i, x in enumerate(more):
            first[i] = first[i] + x
    tile.put(t, first, c, row, BYTES, lambda x, v: ACTIVATIONS[t.activation](x))


def start(t, c, row, bias, rest):
    if t.bias == "columns":
        line = [load_some(bias + BYTES * v, rest - LANES * v) for v in range(t.vectors)]
        return registers(line * t.rows)
    if t.bias == "rows":
        return registers([broadcast(bias + 4 * r) for r in range(t.rows) for _ in range(t.vectors)])
    if t.bias == "there":
        places = [c + row * r + BYTES * v for r in range(t.rows) for v in range(t.vectors)]
        return registers(map(load, places))
    return tile.none(t)


@micro
def product(t, a, plane, k, b, apart, c, row, bias, rest):
    multiplied(t, a, plane, k, b, apart, c, row, bias, rest)


@micro
def narrow_product(t, a, plane, k, b, apart, c, row, bias, rest):
    """Of one vector."""
    t = StaticType({**t.what, "vectors": 1})
    multiplied(t, a, plane, k, b, apart, c, row, bias, rest)


@micro
def put_some(t, c, row, columns, x):
    """A tile to where it belongs, as far as there are columns."""
    for r in range(t.rows):
        for v in range(t.vectors):
            some = columns - LANES * v
            store_some(c + row * r + BYTES * v, load(x + (LINE * r + BYTES * v)), some)


# ---- packing ---------------------------------------------------------------------------------------


BAND = 4  # rows that are packed at a time: so many runs of memory the machine foresees


@micro
def pack_rows(x, pitch, rows, columns, to, plane, line, panel):
    for band in loop(rows, step=BAND):
        end = below(rows - band, BAND)
        for j in loop(columns + (WIDE - 1) >> SHIFT):
            from_, to_ = x + pitch * band + LINE * j, to + panel * j + line * band
            rest = columns - WIDE * j
            full = select(rest >= WIDE, end, 0)
            for r in loop(full):
                for v in range(VECTORS):
                    store(to_ + plane * v + line * r, load(from_ + pitch * r + BYTES * v))
            for r in loop(end, full):
                for v in range(VECTORS):
                    some = load_some(from_ + pitch * r + BYTES * v, rest - LANES * v)
                    store(to_ + plane * v + line * r, some)


@inner
def pack(x, turned, height, width, row, rows, column, columns, to, plane, line, panel):
    """Of a matrix (height, width) these rows and columns: to[j, r, l] = x[row + r, column + 16 j + l].
    `turned`: it lies by columns. Planes j lie in panels of VECTORS."""
    if turned:
        x, pitch = x + 4 * (column * height + row), 4 * height
        for j in range(0, columns, LANES):
            to_lanes(FLOATS, x + pitch * j, pitch, min(LANES, columns - j),
                     to + panel * (j // WIDE) + plane * (j % WIDE // LANES), line, LANES, rows, 0,
                     (rows + 15) // LANES)  # fmt: skip
    else:
        x = x + 4 * (row * width + column)
        pack_rows(x, 4 * width, rows, columns, to, plane, line, panel)


# ---- the loops -------------------------------------------------------------------------------------

# How B lies: by rows, by columns, in panels, or by rows and is not to be packed.
ROWS, TURNED, GIVEN, THERE = range(4)


@inner
def panel_products(t, a, plane, rows, k, b, apart, c, row, bias, column, rest, edge):
    """All tiles of a block of rows, by one panel."""
    for i in range(0, rows, t.rows):
        i = min(i, rows - t.rows)
        x, y = a + BYTES * i, c + row * i
        z = bias + column * 4 + t.by_rows * 4 * i
        if rest >= WIDE:
            product(t, x, plane, k, b, apart, y, row, z, rest)
        else:
            if rest <= LANES:
                narrow_product(t, x, plane, k, b, apart, edge, LINE, z, rest)
            else:
                product(t, x, plane, k, b, apart, edge, LINE, z, rest)
            put_some(t, y, row, rest, edge)


@native
def gemm(t, part, parts, y, a, b, bias, room, from_a, from_b, m, k, n, left, right, by, some, kept,
         group, biased):  # fmt: skip
    """from_a, from_b: where the matrices of each product begin; `by`: what is split: products, rows
    or columns; `some` rows are packed at a time, and a `group` of panels, of which the last ones are
    `kept`; `biased`: 1 if each column has a bias of its own."""
    panels, tiles = (n + WIDE - 1) // WIDE, (m + t.rows - 1) // t.rows
    first, last = share(from_a.size, part, parts, by == 0)
    top, bottom = share(tiles, part, parts, by == 1)
    start, stop = share(panels, part, parts, by == 2)
    top, bottom = top * t.rows, min(bottom * t.rows, m)
    turned = np.int64(right == TURNED)
    edge = at(room, part * (room.size // parts))
    packed = edge + LINE * t.rows
    plane = BYTES * (min(some, m) | 1)  # an odd number of lines of cache: no two planes compete
    panel = packed + plane * planes(k)
    for i in range(first, last):
        for block in range(top, bottom, some):
            rows = max(t.rows, min(some, bottom - block))
            row = min(block, m - rows)
            x = at(a, from_a[i])
            if m > 1:
                pack(x, left, m, k, row, rows, ZERO, k, packed, plane, NEAR, VECTORS * plane)
                x = packed
            for j in range(start, stop):
                column, z = j * WIDE, at(b, from_b[i])
                place = (j - start) % kept
                there, apart = panel + place * k * LINE, LINE
                if right == GIVEN:
                    there = z + 4 * column * k
                elif right == THERE and n - column >= WIDE:
                    there, apart = z + 4 * column, 4 * n
                elif place % group == 0 and (block == top or kept < stop - start):
                    columns = min(min(j + group, stop) * WIDE, n) - column
                    pack(z, turned, k, n, ZERO, k, column, columns, there, NEAR, FAR, k * LINE)
                panel_products(t, x, plane, rows, k, there, apart, at(y, (i * m + row) * n + column), 4 * n,
                               at(bias, t.by_rows * row), biased * column, n - column, edge)  # fmt: skip


@inner
def planes(k):
    """Of a packed A."""
    return (k + WIDE - 1) // WIDE * VECTORS


def product_kernel(y, a, b, bias=None, activation="", given=False):
    """y = activation(a b + bias), of specs; or None. The bias is a third input, of one number for each
    of the "rows" or "columns"; `given`: b is the spec of a matrix that comes in the form Columns."""
    if {s.dtype for s in (y, a, b)} != {FLOAT} or activation not in ACTIVATIONS:
        return None
    (*batch, m, n), k = y.shape, a.shape[-1]
    from_a, from_b = (offsets(x.shape, batch) for x in (a, b))
    if len(b.shape) == 2 and bias != "rows":  # one b: all rows are those of one matrix
        m, from_a, from_b = m * prod(batch), np.zeros(1, int), from_b[:1]
    t = tile_for(m, bias or "columns", activation, alone=m == 1)
    flops = 2 * len(from_a) * m * k * n
    lengths = len(from_a), -(-m // t.rows), -(-n // WIDE)
    by = lengths.index(max(lengths))
    parts = threads.parts(flops, lengths[by])
    tiles = -(-lengths[1] // (parts if by == 1 else 1))  # of a part
    blocks = -(-tiles // max(1, CACHE * 5 // 8 // max(1, 4 * k) // t.rows)) or 1
    some = max(1, -(-tiles // blocks)) * t.rows
    kept = 0 if given else -(-lengths[2] // (parts if by == 2 else 1))
    group = max(1, min(kept, CACHE // 4 // max(1, k * LINE)))
    if blocks == 1 and kept:
        kept = group
    room = t.rows * WIDE + planes.py_func(k) * LANES * (min(some, m) | 1) + kept * k * WIDE

    def run_for(left, right):
        if not (given or bias or activation) and 1 in (m, n):
            return vector_run(from_a, from_b, m, k, n, left, right)
        right = GIVEN if given else TURNED if right else THERE if m <= 2 * t.rows else ROWS
        panels = (1, 1) if right == THERE else (max(1, kept), group)
        numbers = from_a, from_b, m, k, n, left, right, by, some, *panels, int(bias == "columns")
        return bound(gemm, t, numbers, parts)

    bytes_ = 4 * (m * k + (2 - given) * k * n + m * n) * len(from_a)  # a right factor is packed
    wanted = m * n / max(1, lengths[1] * t.rows * lengths[2] * WIDE)  # of what is computed
    run = Run(run_for, given, bool(bias), flat=len(from_a) == 1)
    return Kernel(
        "gemm", run, (Spec((parts, room), FLOAT),), cost=Cost(flops, bytes_, 0.9 * wanted)
    )


def offsets(shape, batch):
    """Where the matrix of each product begins, in numbers."""
    *own, m, n = shape
    each = np.arange(prod(own), dtype=np.int64).reshape(own) * (m * n)
    return np.ascontiguousarray(np.broadcast_to(each, batch)).reshape(-1)


class Run:
    """It looks how the matrices lie."""

    def __init__(self, run_for, given, bias, flat):
        self.run_for, self.given, self.bias, self.flat = cache(run_for), given, bias, flat

    def __call__(self, y, a, b, *more):
        if not y.flags.c_contiguous:
            return into_another(self, y, (a, b, *more))
        a, left = by_rows(a) if len(a.shape) == 2 or not self.flat else (np.ascontiguousarray(a), 0)
        b, right = (b, 0) if self.given else by_rows(b)
        if not self.bias:
            more = NO_BIAS, *more
        self.run_for(left, right)(as_matrix(y), as_matrix(a), as_matrix(b), *more)


def by_rows(x):
    """(x as it lies in memory, 1 if that is its columns)"""
    if x.flags.c_contiguous:
        return x, 0
    turned = x.swapaxes(-1, -2)
    return (turned, 1) if turned.flags.c_contiguous else (np.ascontiguousarray(x), 0)


def as_matrix(x):
    """So that there is one code for all numbers of dimensions."""
    return x if x.ndim == 2 else x.reshape(1, -1)


@ended(MatMul)
@kernel(MatMul)
def find(op, y, a, b, bias=None, activation=""):
    return product_kernel(y, a, b, bias and "columns", activation)


@ended((Packed, MatMul))
@kernel((Packed, MatMul))
def find_packed(op, y, a, p, bias=None, activation=""):
    if op.form == Columns(WIDE):
        b = Spec(op.shape, p.dtype)
        return product_kernel(y, a, b, bias and "columns", activation, given=True)


@forms(MatMul)
def panels(op, y, a, b):
    """A right factor that does not change."""
    if len(b.shape) == 2 and a.dtype == b.dtype == FLOAT:
        yield Columns(WIDE)
