"""Images in blocks of 16 channels, and parts of them: some lines of tiles, turned from NCHW when they
are needed, and back when they are made, so that both are still in the cache.

Lines of tiles, and of pixels, are counted through all images: those of one follow those of another.
"""

from typing import NamedTuple

from numba import types

from .native import inner
from .reorder import FLOATS, to_lanes, to_planes
from .simd import BYTES, above, below, micro


class Images(NamedTuple):
    """In blocks of 16 channels: the address, and bytes from image to image and from block to block."""

    base: int
    image: int
    block: int
    height: int
    width: int


class Tiles(NamedTuple):
    """All of them: in an image, and how far the first one begins above and left of it."""

    down: int
    across: int
    top: int
    left: int


class Block(NamedTuple):
    """Some lines of tiles, of one image or of several; and of each some, if they are long."""

    line: int
    lines: int
    column: int
    columns: int


class Part(NamedTuple):
    """Of the lines of pixels of all images, one after the other; and of each the columns."""

    first: int
    last: int
    left: int
    right: int


@micro(types.intp)
def pixel(x, image, block, i, j):
    """The address of 16 channels."""
    x = Images(*x)
    return x.base + x.image * image + x.block * block + (x.width * i + j) * BYTES


@micro(types.intp)
def clip(i, most):
    return below(above(i, 0), most)


@inner
def part_of(t, block, tiles, H, W, size):
    """The pixels that its tiles have, of so many rows and columns each."""
    last = block.line + block.lines - 1
    image, other = block.line // tiles.down, last // tiles.down
    top, bottom = block.line % tiles.down * t.m, last % tiles.down * t.m + size
    left, right = block.column * t.m, (block.column + block.columns - 1) * t.m + size
    return Part(
        image * H + clip(top - tiles.top, H),
        other * H + clip(bottom - tiles.top, H),
        clip(left - tiles.left, W),
        clip(right - tiles.left, W),
    )


@inner
def runs(part, image, H, W):
    """Pixels of an image that lie one after the other: where the first run begins, how many there are,
    W pixels apart, and of how many pixels each. Whole lines are one run."""
    first, last = max(part.first - image * H, 0), min(part.last - image * H, H)
    if part.right - part.left == W:
        return first * W, 1, (last - first) * W
    return first * W + part.left, last - first, part.right - part.left


@inner
def to_blocks(x, channels, first, last, part, y):
    """Part of the images x (n, c, h, w), in NCHW: of these blocks of channels."""
    H, W = y.height, y.width
    for c in range(first, last):
        for image in range(part.first // H, (part.last + H - 1) // H):
            start, count, length = runs(part, image, H, W)
            for p in range(start, start + count * W, W):
                source = x + 4 * ((image * channels + 16 * c) * H * W + p)
                to_lanes(FLOATS, source, 4 * H * W, min(16, channels - 16 * c),
                         pixel(y, image, c - first, 0, p), 64, 16, length, 0, (length + 15) // 16)  # fmt: skip


@inner
def from_blocks(x, first, part, y, channels, c):
    """Block c of channels to the images y, in NCHW; it is the `first` one of x."""
    H, W = x.height, x.width
    for image in range(part.first // H, (part.last + H - 1) // H):
        start, count, length = runs(part, image, H, W)
        for p in range(start, start + count * W, W):
            to = y + 4 * ((image * channels + 16 * c) * H * W + p)
            to_planes(FLOATS, pixel(x, image, first, 0, p), 64, to, 4 * H * W,
                      min(16, channels - 16 * c), length, 0, (length + 15) // 16)  # fmt: skip


@inner
def strip(base, part, H, W):
    """Part of images, one below the other, as if all of them were there."""
    return Images(base - 64 * W * part.first, 64 * H * W, 64 * W * (part.last - part.first), H, W)
