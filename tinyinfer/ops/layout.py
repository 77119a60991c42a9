"""Where the channels of an image stand in memory. A layout is an attribute of the ops that care,
written as a wrapper around them, with visible reorderings between.

    NCHW      [n, c, h, w]                 what every op is defined on
    NHWC      [n, h, w, c]                 the channels of a pixel side by side
    NCHW8c    [n, ceil(c / 8), h, w, 8]    so many of them, as a vector register holds; the channels
    NCHW16c   [n, ceil(c / 16), h, w, 16]  that are missing in the last block are zeros
"""

import numpy as np

from ..core.op import Op
from ..core.spec import Spec
from ..errors import ArgumentError, ShapeError
from .wrapped import Wrapped

BLOCKS = {"NCHW": 0, "NHWC": 0, "NCHW8c": 8, "NCHW16c": 16}  # layout -> channels in a block

# fmt: off


class Reorder(Op):
    """y = the image x, laid out as `target`; `channels` are those that a blocked source has"""
    source: str
    target: str
    channels: int | None = None

    def infer(self, x):
        return Spec(laid_out(image_shape(self.source, x.shape, self.channels), self.target), x.dtype)

    def forward(self, x): return pack(unpack(x, self.source, self.channels), self.target)

    def vjp(self, g, y, x):  # a permutation, and zeros that are put in or dropped
        channels = image_shape(self.source, x.shape, self.channels)[1]
        return Reorder(self.target, self.source, channels)(g),


class In(Wrapped, name="in_layout"):
    """y = op(x, ...), with the images x, of so many channels, and y in a layout"""
    layout: str
    channels: int

    def back(self, channels): return Reorder(self.layout, "NCHW", channels)

    def infer(self, x, *rest):
        y = self.op.infer(self.back(self.channels).infer(x), *rest)
        return Spec(laid_out(y.shape, self.layout), y.dtype)

    def forward(self, x, *rest):
        image = np.ascontiguousarray(unpack(x, self.layout, self.channels))  # sums in the same order
        return pack(self.op.forward(image, *rest), self.layout)

    def vjp(self, g, y, x, *rest):
        image = self.back(self.channels)(x)
        back = self.back(self.op.infer(image.spec, *[r.spec for r in rest]).shape[1])
        gx, *others = self.op.vjp(back(g), back(y), image, *rest)
        there = Reorder("NCHW", self.layout)
        return (lambda: there(gx() if callable(gx) else gx)), *others

    def flops(self, y, x, *rest):
        image = self.back(self.channels).infer(x)
        return self.op.flops(self.op.infer(image, *rest), image, *rest)


def block(layout) -> int:
    if layout not in BLOCKS:
        raise ArgumentError(f"reorder: a layout is one of {', '.join(BLOCKS)}, not {layout!r}")
    return BLOCKS[layout]


def laid_out(shape, layout):
    """The shape of an image (n, c, h, w) in a layout."""
    n, c, h, w = shape
    if b := block(layout):
        return n, -(-c // b), h, w, b
    return (n, h, w, c) if layout == "NHWC" else (n, c, h, w)


def image_shape(layout, shape, channels):
    """The (n, c, h, w) of what has this shape in a layout."""
    b = block(layout)
    if len(shape) != (5 if b else 4) or b and shape[4] != b:
        raise ShapeError(f"reorder: {shape} is no image in {layout}, which has {5 if b else 4} axes")
    n, c, h, w = (shape[i] for i in ((0, 3, 1, 2) if layout == "NHWC" else (0, 1, 2, 3)))
    if channels is not None and (-(-channels // b) if b else channels) != c:
        raise ShapeError(f"reorder: {shape} in {layout} are not {channels} channels")
    return n, channels if channels is not None else c * max(b, 1), h, w


def unpack(x, layout, channels):
    """The image (n, c, h, w)."""
    shape = image_shape(layout, x.shape, channels)
    if block(layout):
        n, blocks, h, w, b = x.shape
        return x.transpose(0, 1, 4, 2, 3).reshape(n, blocks * b, h, w)[:, :shape[1]]
    return x.transpose(0, 3, 1, 2) if layout == "NHWC" else x


def pack(x, layout):
    """The image (n, c, h, w) in a layout, as it stands in memory."""
    if b := block(layout):
        n, c, h, w = x.shape
        x = np.pad(x, ((0, 0), (0, -c % b), (0, 0), (0, 0)))
        x = x.reshape(n, -(-c // b), b, h, w).transpose(0, 1, 3, 4, 2)
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1) if layout == "NHWC" else x)


# fmt: on
