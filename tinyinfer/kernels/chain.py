"""Elementwise steps in one pass over memory; their results are one or several arrays of one shape.

    for row in rows                              # split among threads; of a single row, the columns
        for c in range(0, columns, 16 UNROLL)
            for u in range(UNROLL)               # unrolled
                y[row, c + 16 u] = program(x0[row, c + 16 u], x1[row, c + 16 u], ...)    # 16 at a time

Axes along which every operand moves, or every one stays, with those beside them, become one. The last
one are the columns: an operand has vectors there, or one number, which is fetched once a row. The
others are the rows; where in an operand a row begins, its number says. The end of a row is masked.

A result that is larger than the caches is stored past them: else each line of it would be fetched
before it is written.
"""

from itertools import groupby
from math import prod

from ..core.spec import Spec
from . import threads
from .kernel import Cost, Kernel, kernel
from .native import bound_several, native, share
from .program import KNOWN, Program, emit, is_mask, program, program_of
from .simd import (
    LANES,
    Value,
    below,
    broadcast,
    builder,
    f32x16,
    i8,
    loop,
    micro,
    read,
    read_some,
    store,
    store_some,
    stream,
    streamed,
    u8x16,
)
from .static import Static

UNROLL = 4
LARGE = 12 << 20  # bytes: a result so large is not in a cache any more when it is read


@native
def carry_out(t, part, parts, ys, xs, numbers):
    rows(t, part, parts, ys, xs, numbers)


@micro
def rows(t, part, parts, ys, xs, numbers):
    *sizes, columns = numbers
    first, last, left, right = 0, 1, 0, columns
    if sizes:
        first, last = share.py_func(prod(sizes), part, parts)
    else:
        left, right = share_in_blocks(columns, LANES * UNROLL, part, parts)
    for row in loop(last, first):
        places = [begin(moves, row, sizes, columns) for _, _, moves in t.operands]
        operands = [
            Operand(xs[i], place, mask, moves[-1])
            for place, (i, mask, moves) in zip(places, t.operands)
        ]
        results = [Result(y, row * columns, t.stream) for y in ys]
        sweep(t, results, operands, left, right)
    if t.stream:
        streamed()


def share_in_blocks(n, block, part, parts):
    """`share` by whole blocks, of which the last may be less."""
    blocks = (n + (block - 1)) // block
    return [below(end * block, n) for end in share.py_func(blocks, part, parts)]


def begin(moves, row, sizes, columns):
    """The number of the element of an operand with which a row begins."""
    if all(moves):
        return row * columns
    place, below = row * 0, 1
    stride = columns if moves[-1] else 1
    for size, move in reversed([*zip(sizes, moves)]):
        if move:
            place, stride = place + row // below % size * stride, size * stride
        below = size * below
    return place


def sweep(t, results, operands, left, right):
    """The columns of a row from `left` to `right`."""

    def compute(c, n=None):
        values = emit(t.steps, [x.get(c, n) for x in operands])
        return [values[i] for i in t.results]

    def piece(c, n):
        for y, x in zip(results, compute(c, n)):
            y.put(c, x, n)

    if t.stream:
        n = below((-results[0].at(left, 4) >> 2) & (LANES - 1), right - left)
        piece(left, n)
        left = left + n
    step = LANES * UNROLL
    whole = (right - left) // step * step + left
    for c in loop(whole, left, step):
        places = [c + LANES * u for u in range(UNROLL)]
        for place, made in [(p, compute(p)) for p in places]:
            for y, x in zip(results, made):
                y.put(place, x)
    for c in loop(right, whole, LANES):
        piece(c, below(right - c, LANES))


class Operand:
    """Of a row."""

    def __init__(self, address, place, mask, moves):
        self.size = 1 if mask else 4
        self.begin, self.mask = address + place * self.size, mask
        self.number = None if moves else self.flags(broadcast(self.begin, *[i8] * mask))

    def get(self, c, n=None) -> Value:
        """16 from column c on, or n, and zeros."""
        if self.number:
            return self.number
        at, kind = self.begin + c * self.size, u8x16 if self.mask else f32x16
        return self.flags(read(at, kind) if n is None else read_some(at, n, kind))

    def flags(self, x):
        return x.compared("!=", 0) if self.mask else x


class Result:
    def __init__(self, address, place, streams):
        self.address, self.place, self.streams = address, place, streams

    def at(self, c, size):
        return self.address + (self.place + c) * size

    def put(self, c, x, n=None):
        at = self.at(c, 1 if is_mask(x) else 4)
        x = Value(builder().zext(x.ir, u8x16.ir)) if is_mask(x) else x
        if n is not None:
            store_some(at, x, n)
        elif self.streams:
            stream(at, x)
        else:
            store(at, x)


# ---- which ----------------------------------------------------------------------------------------


@kernel(*KNOWN)
def one(op, y, *xs):
    """Of a single op."""
    return chain(program_of(op, *xs), y, *xs)


def fused(graph, y, *xs) -> Kernel | None:
    """Of a graph of elementwise steps; y are several specs, if it has several outputs."""
    return chain(program(graph), y, *xs)


def chain(p: Program | None, y, *xs) -> Kernel | None:
    single = isinstance(y, Spec)
    ys = (y,) if single else tuple(y)
    if not (p and p.steps and p.operands) or any(s.shape != ys[0].shape for s in ys):
        return None
    sizes, moves = collapsed(ys[0].shape, [spec.shape for _, spec in p.operands])
    t = Static(
        steps=p.steps,
        results=p.results,
        operands=tuple((i, int(is_flags(s)), m) for (i, s), m in zip(p.operands, moves)),
        stream=int(single and not is_flags(y) and nbytes(y) >= LARGE),
    )
    size, work = sum(map(nbytes, (*ys, *xs))), p.cost * prod(ys[0].shape)
    most = prod(sizes[:-1]) if sizes[1:] else sizes[0] // 1024
    parts = threads.parts(2 * work + 3 * size, most)
    run = bound_several(carry_out, t, sizes, parts)
    return Kernel("chain", run, over=alike(p, ys, xs), cost=Cost(0, size))  # memory holds it up


def alike(p, ys, xs) -> tuple[int, ...]:
    """The inputs of which each element is read, and not later, where results are written."""
    smaller = {i for i, spec in p.operands if spec.shape != ys[0].shape}
    return tuple(i for i, x in enumerate(xs) if x in ys and i not in smaller)


def collapsed(shape, operands):
    """(sizes of the axes that remain, for each operand along which of them it moves)"""
    aligned = [(1,) * (len(shape) - len(s)) + tuple(s) for s in operands]
    axes = [(n, [s[i] == n for s in aligned]) for i, n in enumerate(shape) if n != 1]
    axes = axes or [(1, [True] * len(operands))]
    groups = [(moves, [n for n, _ in g]) for moves, g in groupby(axes, lambda axis: axis[1])]
    return [prod(g) for _, g in groups], [*zip(*[moves for moves, _ in groups])]


def is_flags(s):
    return s.dtype.kind == "b"


def nbytes(s):
    return prod(s.shape) * s.dtype.itemsize
