"""Products of signs, 32 to a word: what differs is counted.

    for panel in w:                        # 16 or 32 filters, a word of each side by side: [word][32]
        for tile in rows of x:             # up to 8 rows; of a convolution, pixels beside each other
            for line in kernel rows:       # a convolution reads runs of words in every line; a product
                for k in words:            # of matrices has one line
                    for r in tile:                                          # unrolled
                        differ[r] += popcount(x[r, line, k] ^ panel[line, k])
            y[tile, panel] = signs - 2 differ

Three instructions for 512 signs (vpxord, vpopcntd, vpaddd, where the CPU has them), so with four a
cycle no more than 1365 operations a cycle, twenty times as many as with floats. To add up bits before
they are counted does not help: a full adder takes two instructions, and saves two.

Taps in the padding are left out: pixels that see some are done one by one, from the first tap inside
to the last. Nothing is copied for that (no im2col), since the taps of a line are neighbouring words.
"""

from dataclasses import replace
from math import prod

import numpy as np
from llvmlite import ir

from ..core.spec import Spec
from ..ops.binary import BITS, BinaryConv2d, BinaryMatMul, PackBits, WordPanels
from ..ops.packed import Packed
from . import threads
from .host import HOST
from .kernel import Cost, Kernel, forms, kernel
from .native import bound, inner, native, share
from .reorder import FLOATS, to_lanes
from .simd import (
    BYTES,
    LANES,
    Value,
    at,
    broadcast,
    builder,
    call,
    constant,
    i16,
    i32,
    i32x16,
    load,
    load_some,
    loop,
    micro,
    read,
    registers,
    select,
    splat,
    store,
    store_some,
    to_float,
    zeros,
)
from .static import Static, StaticType

# ---- a tile ----------------------------------------------------------------------------------------


def tile_for(rows, filters, dtype) -> Static:
    """As many sums as registers hold, with little of them in vain; eight rows read x seldom enough."""
    vectors = 1 if -(-filters // LANES) % 2 else 2
    most = HOST.registers * HOST.lanes // LANES // vectors - 2
    tall = range(max(1, min(most, rows, 8)), 0, -1)
    height = min(tall, key=lambda r: -(-rows // r) * (r + 0.5))
    return Static(rows=height, vectors=vectors, floats=int(np.dtype(dtype).kind == "f"))


def popcount(x) -> Value:
    return call("llvm.ctpop.v16i32", x.ir.type, x)


def counted(t, x, w, count, signs, y):
    """x: the address of the first row; the bytes from row to row, line to line, run to run; w: from line
    to line, panel to panel; count: of lines, of runs in a line, of words in a run; y: from row to row,
    and how many filters are left."""
    (x, row, x_line, x_run), (w, w_line, panel), (y, y_row, left) = x, w, y
    lines, runs, words = count
    differ = registers([zeros(i32x16)] * (t.rows * t.vectors))
    for line in loop(lines):
        for run in loop(runs):
            there, panels = x + x_line * line + x_run * run, w + w_line * line + words * run * BYTES
            for k in loop(words):
                right = [read(panels + panel * v + k * BYTES, i32x16) for v in range(t.vectors)]
                for r in range(t.rows):
                    word = broadcast(there + row * r + k * 4, i32)
                    for v in range(t.vectors):
                        i = r * t.vectors + v
                        differ[i] = differ[i] + popcount(word ^ right[v])
    signs = splat(Value(builder().trunc(signs.ir, i32)))
    for r in range(t.rows):
        for v in range(t.vectors):
            z = signs - (differ[r * t.vectors + v] << 1)
            store_some(y + y_row * r + BYTES * v, to_float(z) if t.floats else z, left - LANES * v)


@micro
def tile(t, x, w, count, signs, y):
    counted(t, x, w, count, signs, y)


@micro
def single(t, x, w, count, signs, y):
    """Of one row."""
    counted(StaticType({**t.what, "rows": 1}), x, w, count, signs, y)


# ---- matrices --------------------------------------------------------------------------------------


@native
def multiply(t, part, parts, y, x, w, rows, filters, words, signs):
    wide, tiles = LANES * t.vectors, (rows + t.rows - 1) // t.rows
    total = (filters + wide - 1) // wide * tiles
    for n in range(*share(total, part, parts)):
        j, i = n // tiles * wide, min(n % tiles * t.rows, rows - t.rows)
        from_x = at(x, i * words), words * 4, 0, 0
        from_w = at(w, j * words), 0, words * BYTES
        to_y = at(y, i * filters + j), filters * 4, filters - j
        tile(t, from_x, from_w, (1, 1, words), signs, to_y)


@kernel(BinaryMatMul)
def matmul(op, y, x, w):
    return with_panels(op, y, x, w) if fits(op, y, x) else None


def matmul_kernel(op, y, x, shape):
    rows, filters = prod(y.shape[:-1]), y.shape[-1]
    t = tile_for(rows, filters, y.dtype)
    tiles = -(-rows // t.rows) * -(-filters // (LANES * t.vectors))
    numbers = rows, filters, x.shape[-1], op.size
    return t, multiply, numbers, tiles


# ---- images ----------------------------------------------------------------------------------------


@native
def convolve(t, part, parts, y, x, w, height, width, channels, stride, padding, dilation):
    """height, width: of the window; pairs: of rows, and of columns."""
    _, h, wide, words = x.shape
    images, lines, columns, filters = y.shape
    start, stop = whole_windows(columns, wide, width, stride[1], padding[1], dilation[1])
    x_line, w_line = dilation[0] * wide * words * 4, width * words * BYTES
    most, step = (width, dilation[1] * words * 4) if dilation[1] > 1 else (1, 0)
    total = images * lines
    for n in range(*share(total, part, parts)):
        image, top = n // lines, stride[0] * (n % lines) - padding[0]
        k, count = inside(h, height, top, dilation[0])
        first = (image * h + top + dilation[0] * k) * wide
        for j in range(0, filters, LANES * t.vectors):
            panel = at(w, j * height * width * words) + k * w_line
            i = 0
            while i < columns:
                whole = start <= i < stop
                if whole:
                    i = min(i, stop - t.rows)
                at_left = stride[1] * i - padding[1]
                l, taps = inside(wide, width, at_left, dilation[1])
                runs = min(taps, most)  # one, of all taps, where they are neighbours
                pixel = at(x, (first + at_left + dilation[1] * l) * words)
                from_x = pixel, stride[1] * words * 4, x_line, step
                from_w = panel + l * words * BYTES, w_line, height * w_line
                counts = count, runs, words * taps // max(1, runs)
                to_y = at(y, (n * columns + i) * filters + j), filters * 4, filters - j
                if whole:
                    tile(t, from_x, from_w, counts, count * taps * channels, to_y)
                    i += t.rows
                else:
                    single(t, from_x, from_w, counts, count * taps * channels, to_y)
                    i += 1


@inner
def inside(size, taps, start, step):
    """(the first tap, how many) that lie inside, where tap k is at start + step k."""
    first = max(0, -(start // step))
    return first, max(0, min(taps, (size - 1 - start) // step + 1) - first)


@inner
def whole_windows(count, size, taps, stride, padding, dilation):
    """From the first to behind the last that sees no padding."""
    first = (padding + stride - 1) // stride
    last = (size - 1 + padding - dilation * (taps - 1)) // stride
    return min(first, count), max(min(last + 1, count), min(first, count))


@kernel(BinaryConv2d)
def conv2d(op, y, x, w):
    return with_panels(op, y, x, w) if fits(op, y, x) else None


def conv2d_kernel(op, y, x, shape):
    _, height, width, _ = shape
    before = tuple(p for p, _ in op.padding)
    start, stop = whole_windows.py_func(
        y.shape[2], x.shape[2], width, op.stride[1], before[1], op.dilation[1]
    )
    t = tile_for(max(1, stop - start), y.shape[3], y.dtype)
    numbers = height, width, op.channels, op.stride, before, op.dilation
    return t, convolve, numbers, y.shape[0] * y.shape[1]


# ---- filters side by side --------------------------------------------------------------------------


@native
def lay_side_by_side(t, part, parts, p, w, filters):
    words = w.size // filters
    for j in range((filters + 15) // 16):
        to_lanes(t, at(w, 16 * j * words), 4 * words, min(16, filters - 16 * j), at(p, 16 * j * words),
                 BYTES, LANES, words, 0, (words + 15) // 16)  # fmt: skip


def packing(shape):
    """Words are moved as floats are."""
    return bound(lay_side_by_side, FLOATS, shape[:1])


WITH_PANELS = {BinaryMatMul: matmul_kernel, BinaryConv2d: conv2d_kernel}


def fits(op, y, x) -> bool:
    return prod(y.shape) > 0 and x.shape[-1] > 0 and y.dtype in (np.float32, np.int32)


def on_panels(op, y, x, shape) -> Kernel:
    """From the panels of weights of this shape."""
    t, f, numbers, most = WITH_PANELS[type(op)](op, y, x, shape)
    flops = op.flops(y, x, Spec(shape, x.dtype))
    run = bound(f, t, numbers, threads.parts(flops // 16, most))
    moved = 4 * (prod(x.shape) + prod(y.shape) + prod(shape))
    # Of bytes, two instructions a cycle multiply 64 each.
    return Kernel("popcount", run, cost=Cost(flops * 3 / 16, moved, integer=True))


def with_panels(op, y, x, w) -> Kernel:
    pack, panels = packing(w.shape), WordPanels().infer(w)
    found = on_panels(op, y, x, w.shape)
    taken = replace(found.cost, bytes=found.cost.bytes + 8 * prod(w.shape))

    def run(y, x, w, p):
        pack(p, w)
        found.run(y, x, p)

    return Kernel("popcount", run, (panels,), cost=taken)


@kernel((Packed, BinaryMatMul), (Packed, BinaryConv2d))
def packed(op, y, x, p):
    if type(op.form) is WordPanels and fits(op.op, y, x):
        return on_panels(op.op, y, x, op.shape)


@forms(BinaryMatMul, BinaryConv2d)
def side_by_side(op, y, x, w):
    """Filters that do not change."""
    if fits(op, y, x):
        yield WordPanels()


@kernel(WordPanels)
def panels(op, p, w):
    if prod(w.shape):
        return Kernel("transposed", packing(w.shape), cost=Cost(0, 8 * prod(w.shape)))


# ---- signs -----------------------------------------------------------------------------------------


def negative(x) -> Value:
    """A bit for each lane."""
    bits = builder().bitcast((x < 0.0).ir, i16)
    return Value(builder().zext(bits, i32))


@micro
def pack_row(x, n, y):
    for i in loop(n >> 5):
        low, high = (negative(load(x + i * 128 + 64 * v)) for v in range(2))
        store(y + i * 4, low | (high << 16))
    for i in loop((n + 31) >> 5, n >> 5):
        some = (load_some(x + i * 128 + 64 * v, n - i * BITS - LANES * v) for v in range(2))
        low, high = map(negative, some)
        store(y + i * 4, low | (high << 16))


@micro
def pack_pixels(x, plane, channels, y, pixel):
    """A word of sixteen pixels, from up to 32 planes."""
    word, bit = registers([zeros(i32x16), constant(i32x16.ir, 1)])
    kept = registers([word, bit])
    for c in loop(channels):
        word, bit = kept
        kept[0] = word | select(load(x + plane * c) < 0.0, bit, zeros(i32x16))
        kept[1] = bit + bit
    for lane in range(LANES):
        one = builder().extract_element(kept[0].ir, ir.Constant(i32, lane))
        store(y + pixel * lane, Value(one))


@native
def pack_rows(t, part, parts, y, x, n):
    rows, words = x.size // n, (n + 31) // 32
    for i in range(*share(rows, part, parts)):
        pack_row(at(x, i * n), n, at(y, i * words))


@native
def pack_planes(t, part, parts, y, x, channels, pixels):
    images, words = x.size // (channels * pixels), (channels + 31) // 32
    total = images * words
    for n in range(*share(total, part, parts)):
        image, word = n // words, n % words
        there, here = (image * channels + 32 * word) * pixels, image * pixels * words + word
        for p in range(0, pixels, LANES):
            p = min(p, pixels - LANES)
            to = at(y, here + p * words)
            pack_pixels(at(x, there + p), 4 * pixels, min(32, channels - 32 * word), to, 4 * words)


@kernel(PackBits)
def pack_bits(op, y, x):
    if x.dtype != np.float32 or not prod(x.shape):
        return None
    axis = op.axis % len(x.shape)
    channels, pixels = x.shape[axis], prod(x.shape[axis + 1 :])
    numbers, f, most = (channels,), pack_rows, prod(x.shape[:axis])
    if pixels > 1:
        numbers, f, most = (channels, pixels), pack_planes, most * y.shape[-1]
        if pixels < LANES:
            return None
    count = prod(x.shape)
    run = bound(f, Static(), numbers, threads.parts(count, most))
    return Kernel("signs", run, cost=Cost(0, 4 * count))
