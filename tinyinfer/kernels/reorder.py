"""Images, from channels that lie apart to channels side by side, and back.

    for block in range(0, planes, 16):           # of channels; in NCHW16n, of images
        for p in range(0, pixels, 16):
            for l in range(16):                  # 16 loads, a transposition in registers, 16 stores
                y[block][p : p + 16, l] = x[block + l, p : p + 16]

Both ways a matrix is transposed; layouts differ in how far apart its numbers lie. The last 16 pixels
overlap those before them; where there are fewer pixels, or fewer planes, loads and stores are masked.
"""

from math import prod

from ..ops.layout import Reorder, image_shape
from . import threads
from .kernel import Cost, Kernel, kernel
from .native import bound, inner, native, share
from .simd import (
    at,
    f32x16,
    micro,
    read,
    read_some,
    select,
    store,
    store_some,
    transposed,
    u8x16,
)
from .static import Static

FLOATS, ONE_BYTE = Static(bytes=4), Static(bytes=1)  # what is moved: numbers of so many bytes


def element(t):
    return f32x16 if t.bytes == 4 else u8x16


@micro
def turn(t, x, row, y, column):
    """y[j, i] = x[i, j], 16 by 16. Rows of x lie `row` bytes apart, of y `column` bytes."""
    rows = [read(x + row * i, element(t)) for i in range(16)]
    for j, v in enumerate(transposed(rows)):
        store(y + column * j, v)


@micro
def turn_some(t, x, row, rows, columns, y, column, wide):
    """Of x so many rows and columns; a row of y gets `wide` numbers, zeros where x has no rows."""
    if_there = lambda i, n, x: select(n > i, x, 0)  # to mask what is no memory takes long
    x = [
        read_some(x + if_there(i, rows, row * i), if_there(i, rows, columns), element(t))
        for i in range(16)
    ]
    for j, v in enumerate(transposed(x)):
        store_some(y + if_there(j, columns, column * j), v, if_there(j, columns, wide))


@micro
def turn_line(t, x, row, columns, y, column):
    """Of 16 rows and less columns; but 16 rows of y are written."""
    rows = [read_some(x + row * i, columns, element(t)) for i in range(16)]
    for j, v in enumerate(transposed(rows)):
        store(y + column * j, v)


@inner
def to_lanes(t, x, plane, planes, y, pixel, wide, pixels, first, last):
    """Up to 16 planes side by side, in strips of 16 pixels from `first` to `last`. Here and below:
    addresses; bytes from plane to plane, and from pixel to pixel; `wide` numbers are written for each."""
    for strip in range(first, last):
        p = max(0, min(16 * strip, pixels - 16))
        if planes == 16 and pixels >= 16:
            turn(t, x + t.bytes * p, plane, y + pixel * p, pixel)
        else:
            n = min(16, pixels - p)
            turn_some(t, x + t.bytes * p, plane, planes, n, y + pixel * p, pixel, wide)


@inner
def to_planes(t, x, pixel, y, plane, planes, pixels, first, last):
    for strip in range(first, last):
        p = max(0, min(16 * strip, pixels - 16))
        if planes == 16 and pixels >= 16:
            turn(t, x + pixel * p, pixel, y + t.bytes * p, plane)
        else:
            n = min(16, pixels - p)
            turn_some(t, x + pixel * p, pixel, n, planes, y + t.bytes * p, plane, n)


@native
def reorder(t, part, parts, y, x, images, planes, pixels, pixel, block, image):
    """Of y, or of x, whichever has lanes: numbers from pixel to pixel, block to block, image to image."""
    blocks, strips = (planes + 15) // 16, (pixels + 15) // 16
    total = images * blocks * strips
    start, stop = share(total, part, parts)
    while start < stop:
        i, first = divmod(start, strips)
        last = min(strips, first + stop - start)
        n, b = divmod(i, blocks)
        apart, beside = (n * planes + 16 * b) * pixels, n * image + b * block
        count = min(16, planes - 16 * b)
        if t.back:
            to_planes(t, at(x, beside), pixel * t.bytes, at(y, apart), pixels * t.bytes, count,
                      pixels, first, last)  # fmt: skip
        else:
            to_lanes(t, at(x, apart), pixels * t.bytes, count, at(y, beside), pixel * t.bytes,
                     min(pixel - 16 * b * (block == 16), 16), pixels, first, last)  # fmt: skip
        start += last - first


def lanes(layout, n, c, h, w):
    """An image in a layout, for `reorder`: images, planes, pixels, and where they lie."""
    if layout == "NHWC":
        return n, c, h * w, c, 16, c * h * w
    if layout == "NCHW16n":
        return 1, n, c * h * w, 16, 16 * c * h * w, 0
    return n, c, h * w, 16, 16 * h * w, 16 * h * w * -(-c // 16)


@kernel(Reorder)
def find(op, y, x):
    ways = {op.source, op.target} - {"NCHW"}
    if (
        len(ways) != 1
        or not ways < {"NHWC", "NCHW16c", "NCHW16n"}
        or x.dtype.itemsize not in (1, 4)
    ):
        return None
    numbers = lanes(*ways, *image_shape(op.source, x.shape, op.count))
    t = Static(bytes=x.dtype.itemsize, back=int(op.target == "NCHW"))
    moved = (prod(x.shape) + prod(y.shape)) * x.dtype.itemsize
    strips = -(-numbers[1] // 16) * -(-numbers[2] // 16) * numbers[0]
    run = bound(reorder, t, numbers, threads.parts(2 * moved, strips))
    return Kernel("transposed", run, cost=Cost(0, moved))
