"""Products and convolutions of bytes: four at a time are multiplied and added by one instruction.

    for strip in rows of x:                      # threads share the work here
        room[c, r, 0:16] = x[r, 16 c : 16 c + 16]
        for o in panels:                         # of 16 or 32 columns of w
            for i in range(0, strip, rows):      # sums of rows x 16 or 32 results stay in registers
                sums[r, v] = bias[v] - x_zero * (sum of column v)
                for c in range(0, k, 4):
                    sums[r, v] += x[i + r, c : c + 4] . w[c : c + 4, v]
                y[i + r, v] = saturate(round(sums[r, v] * scale[v]) + y_zero)

Convolution goes the way of floats (`direct`): there a number is a float, here it is four bytes. Unsigned
bytes are multiplied by signed ones; of a signed x, 128 is added to it and to its zero point.
"""

from collections.abc import Iterator
from math import prod

from ..core.spec import Spec
from ..ops.integer import BytePanels, QLinearConv, QLinearMatMul
from ..ops.layout import In, unwrapped
from ..ops.packed import Packed
from . import direct, threads, tile
from .direct import whole
from .kernel import Cost, Kernel, kernel
from .native import bound, inner, native, share
from .reorder import ONE_BYTE
from .simd import (
    BYTES,
    LANES,
    WHOLE,
    WHOLE_BITS,
    Value,
    above,
    at,
    below,
    builder,
    cast,
    first_lanes,
    i32x16,
    load_one,
    load_some,
    loop,
    micro,
    read,
    read_some,
    registers,
    select,
    shuffled,
    splat,
    store,
    store_some,
    to_bytes,
    to_float,
    u8x16,
    zeros,
)

# ---- how sums begin and end ------------------------------------------------------------------------


def with_zero_point(t, o, rest, p, more):
    """What they are where x is 0. A panel begins with the sums of its columns."""
    _, bias, x_zero, *_ = more
    bias, zero, line = bias + o * (t.vectors * BYTES), whole(x_zero), []
    for v in range(t.vectors):
        some = read_some(bias + BYTES * v, rest - LANES * v, i32x16)
        line.append(some - zero * read(p + BYTES * v, i32x16))
    return registers(line * t.rows)


def requantized(t, sums, o, rest, more) -> Iterator[Value]:
    """Sums as numbers on the grid of the result."""
    scale, _, _, y_zero, _ = more
    zero, least = whole(y_zero), -128 if t.signed_result else 0
    low, high = to_float(least - zero), to_float(least + 255 - zero)
    line = scales(t, scale, o, rest)
    for i, x in enumerate(sums):
        x = below(above(to_float(x) * line[i % t.vectors], low), high)
        yield cast(x + WHOLE, i32x16) + (zero - WHOLE_BITS)


def scales(t, scale, o, rest) -> list[Value]:
    if not t.per_channel:
        return [splat(load_one(scale))] * t.vectors
    scale += o * (t.vectors * BYTES)
    return [load_some(scale + BYTES * v, rest - LANES * v) for v in range(t.vectors)]


def as_pixels(t, sums, o, rest, y, column, more):
    """Sixteen channels side by side, zeros where there are none."""
    real = [first_lanes(rest - LANES * v) for v in range(t.vectors)]
    for i, x in enumerate(requantized(t, sums, o, rest, more)):
        r, v = divmod(i, t.vectors)
        store(y + (LANES * r + column * v), to_bytes(select(real[v], x, zeros(i32x16))))


def as_rows(t, sums, o, rest, y, column, more):
    """Rows of a matrix, `pitch` bytes apart, as far as there are columns."""
    pitch = more[-1]
    results = [to_bytes(x) for x in requantized(t, sums, o, rest, more)]
    place = lambda i: y + (pitch * (i // t.vectors) + LANES * (i % t.vectors))
    with builder().if_else((rest >= LANES * t.vectors).ir) as (all_of_them, some):
        with all_of_them:
            for i, x in enumerate(results):
                store(place(i), x)
        with some:
            for i, x in enumerate(results):
                store_some(place(i), x, rest - LANES * (i % t.vectors))


direct.STAGES["pixels"] = with_zero_point, as_pixels
direct.STAGES["rows"] = with_zero_point, as_rows

# ---- convolution -----------------------------------------------------------------------------------


@native
def convolve_bytes(t, part, parts, y, x, p, scale, bias, room, kept, outside, x_zero, y_zero, g):
    direct.convolve(t, ONE_BYTE, part, parts, at(y, 0), at(x, 0), at(p, 0), at(room, part * room.shape[1]),
                    at(kept, part * kept.shape[1]),
                    (at(scale, 0), at(bias, 0), x_zero, y_zero, 0), outside, g)  # fmt: skip


def panels_for(work) -> BytePanels | None:
    return work.vectors and BytePanels(work.vectors, 4 if work.few else LANES)


@kernel((Packed, QLinearConv), (Packed, In, QLinearConv))
def find_convolution(op, y, x, p, scale, bias):
    work = direct.asked(op.op, x, op.shape, QLinearConv)
    if not work or scale.dtype != "f4" or op.form != panels_for(work):
        return None
    quantized, *_ = unwrapped(op.op)
    how = stages(quantized, op.form, scale)
    t, g, parts, scratch, cost = direct.planned(work, op.form, p, x, stages="pixels", **how)
    numbers = quantized.x_zero & 255, quantized.x_zero + 128 * t.signed, quantized.y_zero, g
    return Kernel("direct int8", bound(convolve_bytes, t, numbers, parts), scratch, cost=cost)


def stages(op, form, scale):
    signed = int(op.dtype == "int8")
    per_channel = int(scale.shape != ())
    return dict(head=BYTES * form.vectors, signed_result=signed, per_channel=per_channel)


def forms(op, y, x, w, scale, bias):
    """How weights want to be packed."""
    if isinstance(op, QLinearMatMul):
        yield BytePanels(tile.vectors_for(-(-w.shape[1] // LANES)))
    elif (work := direct.asked(op, x, w.shape, QLinearConv)) and work.vectors:
        yield panels_for(work)


# ---- product of matrices ---------------------------------------------------------------------------


@micro
def pack_row(x, k, to, plane):
    """Sixteen bytes to each plane; zeros after the last."""
    for j in loop(k >> 6):
        four = read(x + (j << 6), i32x16)
        for q in range(4):
            store(to + plane * ((j << 2) + q), shuffled(four, four, range(4 * q, 4 * q + 4)))
    for j in loop((k + LANES - 1) >> 4, k >> 6 << 2):
        at_most = k - (j << 4)
        store(to + plane * j, read_some(x + (j << 4), at_most, u8x16))


@inner
def pack_rows(t, x, rows, k, room, plane):
    for r in range(rows):
        pack_row(x + k * r, k, room + 16 * r, plane)
    if t.signed:
        direct.flip(room, plane * ((k + 15) // 16))


@native
def multiply_bytes(t, part, parts, y, x, p, scale, bias, room, m, k, n, strip, x_zero, y_zero):
    blocks, strips, held = (k + 15) // 16, -(-m // strip), -1
    mine, more = at(room, part * room.shape[1]), (at(scale, 0), at(bias, 0), x_zero, y_zero, n)
    units, wide = strips * p.shape[0], 16 * t.vectors
    plane = 16 * (strip | 1)
    for unit in range(*share(units, part, parts)):
        s, o = divmod(unit, p.shape[0])
        first = min(s * strip, m - t.rows)
        rows = min(strip, m - first)
        if s != held:
            pack_rows(t, at(x, first * k), rows, k, mine, plane)
        held = s
        for i in range(0, rows, t.rows):
            i = min(i, rows - t.rows)
            direct.outputs(t, mine + 16 * i, plane, blocks, 0, 1, 0, 1, 1, at(p, o * p.shape[1]), o,
                           n - o * wide, at(y, (first + i) * n + o * wide), 0, more)  # fmt: skip


@kernel((Packed, QLinearMatMul))
def find_product(op, y, x, p, scale, bias):
    if (
        not isinstance(op.op, QLinearMatMul)
        or not isinstance(op.form, BytePanels)
        or scale.dtype != "f4"
    ):
        return None
    m, (k, n), vectors = prod(x.shape[:-1]), op.shape, op.form.vectors
    rows, most = tile.shape(max(1, m), vectors, integer=True)
    if vectors > most or op.form.block != LANES:
        return None
    fit = max(1, min(-(-m // rows), direct.ROOM // (max(1, k) * rows)))
    strip = rows * -(-m // (rows * -(-m // (rows * fit)))) if m else rows
    signed = int(x.dtype.kind == "i")
    t = tile.tile(
        rows,
        vectors,
        LANES,
        4,
        True,
        ahead=4096,
        signed=signed,
        stages="rows",
        **stages(op.op, op.form, scale),
    )
    flops = 2 * -(-m // rows) * rows * prod(p.shape)
    parts = threads.parts(flops / 4, -(-m // strip) * p.shape[0])
    numbers = m, k, n, strip, op.op.x_zero + 128 * signed, op.op.y_zero
    room = Spec((parts, LANES * (strip | 1) * -(-k // LANES) + BYTES), x.dtype)
    moved = prod(x.shape) + prod(p.shape) + prod(y.shape)
    cost = Cost(flops, moved, 0.92 * tile.busy(rows, vectors), integer=True)
    return Kernel("int8", bound(multiply_bytes, t, numbers, parts), (room,), cost=cost)
