"""Register tiles: rows x (16 vectors) sums that stay in registers while a product is added up.

    for k in range(steps):
        for r in range(rows):                     # unrolled
            for v in range(vectors):
                sums[r, v] += a[r, k] * b[k, v]   # a number, in every lane, times a vector

Each step loads `vectors` vectors and `rows` numbers for rows * vectors multiplications with additions.
Of floats a[r, k] is a float; of bytes, both are four bytes, and their four products are added.
"""

from .dot import dot4
from .host import HOST
from .simd import (
    BYTES,
    LANES,
    f32,
    f32x16,
    fma,
    i32,
    i32x16,
    prefetch,
    read,
    registers,
    splat,
    store,
    zeros,
)
from .static import Static


def tile(rows, vectors, step=BYTES, steps=4, integer=False, ahead=0, **more) -> Static:
    """Row r of the left factor lies `step` bytes after row r - 1. One `multiply` makes `steps` steps,
    and asks for the right factor `ahead` bytes before it is needed."""
    return Static(
        rows=rows,
        vectors=vectors,
        step=step,
        steps=steps,
        integer=int(integer),
        ahead=ahead,
        **more,
    )


CHAINS = 10  # sums under way: two begin in a cycle, each takes four; some wait for what is loaded


def sums_of(rows, vectors):
    """Of a tile, by registers."""
    return rows * vectors * LANES // HOST.lanes


def pace(rows, vectors):
    """Half cycles from one step of a tile to the next."""
    return max(CHAINS, sums_of(rows, vectors))


def busy(rows, vectors) -> float:
    """Which part of all multiply-adds begins that could, while a tile is added up."""
    return sums_of(rows, vectors) / pace(rows, vectors)


def vectors_for(blocks):
    """Of a tile, where lines have so many blocks of 16: two, if the registers hold their sums, and both
    are needed."""
    return 2 if HOST.lanes == LANES and HOST.registers == 32 and blocks % 2 == 0 else 1


def shape(width, blocks, integer=False, among=range(1, 17)) -> tuple[int, int]:
    """(rows, vectors) for lines of `width` rows and `blocks` vectors: what the registers hold, with
    little of it in vain. Where lines differ, `width` are the widths of all of them. Numbers of rows
    are from `among`, which has a one."""
    widths = width if isinstance(width, tuple) else (width,)
    per, vectors = sums_of(1, 1), vectors_for(blocks)
    spare = 1 if HOST.fma else 2  # a broadcast; a product, where it is not fused with the sum
    if integer and not HOST.dot:
        spare += vectors * per + 1  # even and odd bytes
    most = (HOST.registers - spare - vectors * per) // (vectors * per)
    most = max(1, min(most, max(widths), 16))

    def cost(rows):
        return sum(-(-w // rows) for w in widths) * max(CHAINS, sums_of(rows, vectors) + 0.5)

    return min((r for r in reversed(among) if r <= most), key=cost), vectors


# What micro-kernels are made of:


def vector_of(t):
    return i32x16 if t.integer else f32x16


def none(t) -> registers:
    """Sums of nothing yet."""
    return registers([zeros(vector_of(t))] * (t.rows * t.vectors))


def multiply(t, sums, a, b, steps=None, apart=None, cell=read):
    """sums += A B. The numbers of a row of A lie four bytes apart, and each is read by `cell`; `a` is where
    the first row begins, or a list of where each does. The lines of B lie one after the other, or so many
    bytes apart."""
    rows = a if isinstance(a, list) else [a + r * t.step for r in range(t.rows)]
    apart = BYTES * t.vectors if apart is None else apart
    for k in range(t.steps if steps is None else steps):
        places = [b + (apart * k + BYTES * v) for v in range(t.vectors)]
        if t.ahead:
            for p in places:
                prefetch(p + t.ahead)
        right = [read(p, vector_of(t)) for p in places]
        for r, row in enumerate(rows):
            left = splat(cell(row + 4 * k, i32 if t.integer else f32))
            for v, x in enumerate(right):
                i = r * t.vectors + v
                sums[i] = dot4(sums[i], left, x) if t.integer else fma(left, x, sums[i])


def put(t, sums, address, row, column, then=lambda x, v: x):
    """Each sum x of vector v as `then` makes it, `row` bytes from row to row, `column` from vector to
    vector."""
    for r in range(t.rows):
        for v in range(t.vectors):
            store(address + row * r + column * v, then(sums[r * t.vectors + v], v))
