"""Products of a sparse matrix, by rows (CSR), with a dense one.

    for block of columns of x:                   # up to 64 of them, side by side: [column of A][64]
        for i in rows:
            sums = 0                             # in registers
            for p in row i:
                sums += v[p] * x[c[p], block]
            y[i, block] = sums

That is y = A x. A.T g goes through the same loops, and adds v[p] g[i, block] to x[c[p], block]; the
gradient by v sums g[i, k] x[c[p], k] over k, a vector at a time, the lanes in the end.

Blocks are copies, so that the lines of cache that they take do not compete; where the vectors are the
rows of x, they are transposed on that way. Every entry reads a piece of x that it shares with no
other: so it is the second cache that limits how fast this goes, at some 45 bytes a cycle, a third of
what a dense product reaches. A single vector is not worth a block: there an entry takes three loads.
"""

from math import prod

import numpy as np
from llvmlite import ir
from numba import types

from ..core.spec import Spec
from ..ops.sparse import CsrMatMul, CsrMatMulDense, CsrMatMulValues
from . import threads
from .kernel import Cost, Kernel, kernel
from .native import bound, native, share
from .recorded import NotNative, is_place
from .reorder import FLOATS, to_lanes, to_planes
from .simd import (
    BYTES,
    LANES,
    Value,
    at,
    broadcast,
    builder,
    constant,
    f32,
    fill,
    fma,
    i64,
    load,
    load_some,
    loop,
    micro,
    read,
    registers,
    shuffled,
    store,
    store_some,
    total,
    zeros,
)
from .static import Static

FLOAT = np.dtype(np.float32)
CACHE = 1 << 19  # bytes of the second one, for a block
CHAINS = 4  # sums, by turns, that hide how long one takes

# ---- one row ---------------------------------------------------------------------------------------


def column(t, c, p) -> Value:
    """Of entry p."""
    index = read(c + p * t.index, ir.IntType(8 * t.index))
    return Value(builder().sext(index.ir, i64)) if t.index < 8 else index


@micro
def gather(t, v, c, count, x, y):
    """y = the sum of the lines of x that the entries want, each times its number."""
    chains = max(1, CHAINS // t.vectors)
    sums = registers([zeros()] * (chains * t.vectors))

    def add(p, first):
        number, a = broadcast(v + p * 4), x + column(t, c, p) * (BYTES * t.vectors)
        for j in range(t.vectors):
            sums[first + j] = fma(number, load(a + BYTES * j), sums[first + j])

    whole = count & -chains
    for p in loop(whole, 0, chains):
        for chain in range(chains):
            add(p + chain, chain * t.vectors)
    for p in loop(count, whole):
        add(p, 0)
    for j in range(t.vectors):
        store(y + BYTES * j, added([*sums][j :: t.vectors]))


def added(sums):
    while len(sums) > 1:
        sums = [a + b for a, b in zip(sums[::2], sums[1::2])]
    return sums[0]


@micro
def scatter(t, v, c, count, x, g):
    """To each of those lines g is added, times the number of the entry."""
    row = [load(g + BYTES * j) for j in range(t.vectors)]
    for p in loop(count):
        number, a = broadcast(v + p * 4), x + column(t, c, p) * (BYTES * t.vectors)
        for j in range(t.vectors):
            store(a + BYTES * j, fma(number, row[j], load(a + BYTES * j)))


@micro
def products(t, v, c, count, x, pitch, g, k):
    """Each v = the product of its line of x with g, of k numbers. Lines lie `pitch` bytes apart."""
    entry = lambda p: x + column(t, c, p) * pitch
    whole = count & -4
    for p in loop(whole, 0, 4):
        store(v + p * 4, totals(with_lines([entry(p + i) for i in range(4)], g, k)))
    for p in loop(count, whole):
        store(v + p * 4, total(*with_lines([entry(p)], g, k)))


def with_lines(lines, g, k):
    """For each of them a vector of sums, one in each lane, that are to be added up."""
    sums, whole = registers([zeros()] * len(lines)), k & -LANES

    def add(some):
        row = some(g)
        for i, a in enumerate(lines):
            sums[i] = fma(some(a), row, sums[i])

    for q in loop(whole, 0, LANES):
        add(lambda a, q=q: load(a + q * 4))
    for q in loop(k, whole, LANES):
        add(lambda a, q=q: load_some(a + q * 4, k - q))
    return [*sums]


def totals(vectors) -> Value:
    """The sums of all lanes of each, side by side: two vectors are folded into one, and that again."""
    fold = LANES // 2
    while fold:
        pairs = zip(vectors[::2], vectors[1::2]) if len(vectors) > 1 else [vectors * 2]
        vectors = [halves(a, b, fold) for a, b in pairs]
        fold //= 2
    return vectors[0]


def halves(a, b, fold):
    """Every `fold` lanes, and the next ones added to them; of a, and of b where that is another."""
    lanes = range(a.ir.type.count * (1 if a is b else 2))
    low = [i for i in lanes if i // fold % 2 == 0]
    return shuffled(a, b, low) + shuffled(a, b, [i + fold for i in low])


@micro(types.float32)
def gather_one(t, v, c, count, x):
    """The same for lines of a single number."""
    sums, whole = registers([constant(f32, 0)] * CHAINS), count & -CHAINS

    def add(p, chain):
        sums[chain] = sums[chain] + read(v + p * 4, f32) * read(x + column(t, c, p) * 4, f32)

    for p in loop(whole, 0, CHAINS):
        for chain in range(CHAINS):
            add(p + chain, chain)
    for p in loop(count, whole):
        add(p, 0)
    return added([*sums])


@micro
def scatter_one(t, v, c, count, x, g):
    for p in loop(count):
        there = x + column(t, c, p) * 4
        store(there, read(there, f32) + read(v + p * 4, f32) * g)


# ---- blocks ----------------------------------------------------------------------------------------


@micro
def copy_lines(x, pitch, lines, to, wide, left):
    """Lines of `wide` numbers, from a matrix of which so many columns are left; behind them zeros."""
    for i in loop(lines):
        for j in loop(wide, 0, LANES):
            store(to + (i * wide + j) * 4, load_some(x + pitch * i + j * 4, left - j))


@micro
def copy_back(x, wide, lines, y, pitch, left):
    for i in loop(lines):
        for j in loop(wide, 0, LANES):
            store_some(y + pitch * i + j * 4, load(x + (i * wide + j) * 4), left - j)


@native
def lay_out(t, part, parts, blocks, x, k):
    """blocks[b, i, j] = x[i, wide b + j], or x[wide b + j, i]; zeros behind its k columns, or rows."""
    count, lines, wide = blocks.shape
    for b in range(*share(count, part, parts)):
        to = at(blocks, b * lines * wide)
        if not t.in_rows:
            copy_lines(at(x, b * wide), 4 * k, lines, to, wide, k - b * wide)
            continue
        for j in range(0, wide, LANES):
            row = b * wide + j
            to_lanes(FLOATS, at(x, row * lines), 4 * lines, max(0, min(LANES, k - row)), to + 4 * j, 4 * wide,
                     LANES, lines, 0, (lines + 15) // 16)  # fmt: skip


@native
def put_back(t, part, parts, y, blocks, k):
    count, lines, wide = blocks.shape
    for b in range(*share(count, part, parts)):
        there = at(blocks, b * lines * wide)
        if not t.in_rows:
            copy_back(there, wide, lines, at(y, b * wide), 4 * k, k - b * wide)
            continue
        for row in range(b * wide, min(k, (b + 1) * wide), LANES):
            to_planes(FLOATS, there + (row - b * wide) * 4, 4 * wide, at(y, row * lines), 4 * lines,
                      min(LANES, k - row), lines, 0, (lines + 15) // 16)  # fmt: skip


# ---- products --------------------------------------------------------------------------------------


@native
def multiply(t, part, parts, y, v, c, p, x):
    """y = A x, of blocks"""
    (count, n, wide), m = x.shape, y.shape[1]
    for u in range(*share(count * m, part, parts)):
        b, i = u // m, u % m
        gather(t, at(v, p[i]), at(c, p[i]), p[i + 1] - p[i], at(x, b * n * wide), at(y, u * wide))


@native
def multiply_transposed(t, part, parts, x, v, c, p, g):
    """x = A.T g, of blocks"""
    (count, n, wide), m = x.shape, g.shape[1]
    for b in range(*share(count, part, parts)):
        there = at(x, b * n * wide)
        fill(there, 0, n * wide * 4)
        for i in range(m):
            scatter(t, at(v, p[i]), at(c, p[i]), p[i + 1] - p[i], there, at(g, (b * m + i) * wide))


@native
def gradient(t, part, parts, v, c, p, g, x, k):
    """v[p] = sum_k g[i, k] x[c[p], k]"""
    m = len(p) - 1
    for i in range(*share(m, part, parts)):
        products(t, at(v, p[i]), at(c, p[i]), p[i + 1] - p[i], at(x, 0), 4 * k, at(g, i * k), k)


# ---- one vector ------------------------------------------------------------------------------------


@native
def multiply_one(t, part, parts, y, v, c, p, x):
    m = len(p) - 1
    y = y.reshape(-1)
    for i in range(*share(m, part, parts)):
        y[i] = gather_one(t, at(v, p[i]), at(c, p[i]), p[i + 1] - p[i], at(x, 0))


@native
def multiply_one_transposed(t, part, parts, x, v, c, p, g):
    g, there = g.reshape(-1), x.reshape(-1)
    there[:] = 0
    for i in range(len(p) - 1):
        scatter_one(t, at(v, p[i]), at(c, p[i]), p[i + 1] - p[i], at(x, 0), g[i])


# ---- kernels ---------------------------------------------------------------------------------------


@native
def sound(c, p, columns):
    """Do all entries lie inside? One of these numbers is negative, if not."""
    wrong = 0 if p[0] == 0 and p[-1] == len(c) else -1
    for i in range(len(p) - 1):
        wrong |= p[i] | (len(c) - p[i]) | (p[i + 1] - p[i])
    for i in range(len(c)):
        wrong |= c[i] | (columns - 1 - c[i])
    return wrong >= 0


def checked(op, run, first):
    """After a look at the indices, which are arguments `first` and the next one."""

    def after_a_look(y, *xs):
        c, p = xs[first : first + 2]
        if is_place(y):
            raise NotNative("indices are looked at first")
        if not sound(np.ascontiguousarray(c), np.ascontiguousarray(p), op.shape[1]):
            op.rows(c, p)  # which says what is wrong
        run(y, *xs)

    return after_a_look


def serves(op, c, p, *floats) -> bool:
    """Floats, something of everything, and indices as they mostly are."""
    whole = c.dtype in (np.int32, np.int64) and p.dtype in (np.int32, np.int64)
    some = min(*op.shape, *floats[-1].shape) > 0
    return whole and some and all(s.dtype == FLOAT for s in floats)


def blocks(k, lines) -> tuple[int, int]:
    """How many there are, and their vectors: four sums hide how long each takes, and a piece of four
    lines of cache comes faster than four of one."""
    many = -(-k // LANES)
    wide = next((w for w in (4, 2, 1) if many % w == 0 and lines * w * BYTES <= CACHE), 1)
    return many // wide, wide


def cost(flops, c, *dense, efficiency=0.35) -> Cost:
    moved = 4 * sum(prod(s.shape) for s in dense) + 8 * prod(c.shape)
    return Cost(flops, moved, efficiency)


@kernel(CsrMatMul)
def matmul(op, y, v, c, p, x):
    if not serves(op, c, p, y, v, x):
        return None
    (m, n), k, flops = op.shape, op.across(x, 1), op.flops(y, v, c, p, x)
    if k == 1:
        t = Static(index=c.dtype.itemsize)
        run = bound(multiply_one, t, parts=threads.parts(flops, m))
        return Kernel("csr", checked(op, run, 1), cost=cost(flops, c, x, y, efficiency=0.03))
    count, vectors = blocks(k, n)
    t = Static(vectors=vectors, index=c.dtype.itemsize)
    product = bound(multiply, t, parts=threads.parts(flops, count * m))
    run, scratch = between_blocks(op, product, k, count, LANES * vectors, n, m)
    return Kernel("csr", checked(op, run, 1), scratch, cost=cost(flops, c, x, y))


@kernel(CsrMatMulDense)
def matmul_dense(op, x, v, c, p, g):
    if not serves(op, c, p, x, v, g):
        return None
    (m, n), k, flops = op.shape, op.across(g, 0), op.flops(x, v, c, p, g)
    if k == 1:
        t = Static(index=c.dtype.itemsize)
        run = checked(op, bound(multiply_one_transposed, t), 1)
        return Kernel("csr", run, cost=cost(flops, c, x, g, efficiency=0.02))
    count, vectors = blocks(k, n)
    t = Static(vectors=vectors, index=c.dtype.itemsize)
    product = bound(multiply_transposed, t, parts=threads.parts(flops, count))
    run, scratch = between_blocks(op, product, k, count, LANES * vectors, m, n)
    taken = cost(flops, c, x, g, efficiency=0.2)
    return Kernel("csr", checked(op, run, 1), scratch, cost=taken)


def between_blocks(op, product, k, count, wide, lines, others):
    """(run, scratch): a matrix of so many lines becomes blocks, of which the product makes blocks of
    the result, that has `others`."""
    t, parts = Static(in_rows=int(op.in_rows)), threads.parts(4 * lines * k, count)
    lay, put = bound(lay_out, t, (k,), parts), bound(put_back, t, (k,), parts)

    def run(y, v, c, p, x, given, made):
        lay(given, x)
        product(made, v, c, p, given)
        put(y, made)

    return run, (Spec((count, lines, wide), FLOAT), Spec((count, others, wide), FLOAT))


@kernel(CsrMatMulValues)
def matmul_values(op, v, c, p, g, x):
    if not serves(op, c, p, v, g, x):
        return None
    (m, n), k, flops = op.shape, op.across(x, 1), op.flops(v, c, p, g, x)
    t, parts = Static(index=c.dtype.itemsize), threads.parts(flops, m)
    taken = cost(flops, c, x, g, efficiency=0.2)
    if not op.in_rows:
        return Kernel("csr", checked(op, bound(gradient, t, (k,), parts), 0), cost=taken)
    wide = -(-k // LANES) * LANES
    product, lay = bound(gradient, t, (wide,), parts), bound(lay_out, Static(in_rows=1), (k,))

    def run(v, c, p, g, x, gs, xs):
        lay(gs, g)
        lay(xs, x)
        product(v, c, p, gs, xs)

    scratch = Spec((1, m, wide), FLOAT), Spec((1, n, wide), FLOAT)
    return Kernel("csr", checked(op, run, 0), scratch, cost=taken)
