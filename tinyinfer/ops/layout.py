"""How an image stands in memory. A layout is an attribute of the ops that care, written as a wrapper
around them, with visible reorderings between.

    NCHW      [n, c, h, w]                 what every op is defined on
    NHWC      [n, h, w, c]                 the channels of a pixel side by side
    NCHW8c    [n, ceil(c / 8), h, w, 8]    so many of them, as a vector register holds
    NCHW16c   [n, ceil(c / 16), h, w, 16]
    NCHW16n   [ceil(n / 16), c, h, w, 16]  a pixel of so many images side by side

What is missing in the last block, channels or images, is zeros.
"""

import numpy as np

from ..core.op import Op
from ..core.spec import Spec
from ..errors import ArgumentError, ShapeError
from .wrapped import Wrapped

# layout -> (the axis of NCHW that is cut into blocks, or that comes last; how many are in a block)
BLOCKS = {"NCHW": (1, 0), "NHWC": (1, 0), "NCHW8c": (1, 8), "NCHW16c": (1, 16), "NCHW16n": (0, 16)}

# fmt: off


class Reorder(Op):
    """y = the image x, laid out as `target`; `count` is how many channels, or images, of a source in
    blocks there are"""
    source: str
    target: str
    count: int | None = None

    def infer(self, x):
        return Spec(laid_out(image_shape(self.source, x.shape, self.count), self.target), x.dtype)

    def forward(self, x): return pack(unpack(x, self.source, self.count), self.target)

    def vjp(self, g, y, x):  # a permutation, and zeros that are put in or dropped
        shape = image_shape(self.source, x.shape, self.count)
        return Reorder(self.target, self.source, shape[axis(self.target)])(g),


class In(Wrapped, name="in_layout"):
    """y = op(x, ...), with images, of so many channels or images, in a layout: those of op.images,
    and y, if it is one. The first may lie in a `source` of its own."""
    layout: str
    count: int
    source: str | None = None

    def infer(self, *xs):
        y = self.op.infer(*[self.way(i).infer(x) if self.way(i) else x for i, x in enumerate(xs)])
        return Spec(laid_out(y.shape, self.layout), y.dtype) if self.op.gives_image else y

    def way(self, i) -> Reorder | None:
        """How the i-th input becomes what the op is defined on."""
        if i not in self.op.images:
            return None
        source = self.source if i == 0 and self.source else self.layout
        return Reorder(source, "NCHW", self.count if source == self.layout else None)

    def forward(self, *xs):
        # in a row, so that sums are added up in the same order
        image = lambda way, x: np.ascontiguousarray(unpack(x, way.source, way.count)) if way else x
        y = self.op.forward(*[image(self.way(i), x) for i, x in enumerate(xs)])
        return pack(y, self.layout) if self.op.gives_image else y

    def vjp(self, g, y, *xs):
        images = [self.way(i)(x) if self.way(i) else x for i, x in enumerate(xs)]
        if self.op.gives_image:
            count = self.op.infer(*[x.spec for x in images]).shape[axis(self.layout)]
            g, y = (Reorder(self.layout, "NCHW", count)(x) for x in (g, y))
        gxs = self.op.vjp(g, y, *images)
        return tuple(self.laid_out(i, gx) for i, gx in enumerate(gxs))

    def laid_out(self, i, gx):
        if gx is None or not self.way(i):
            return gx
        there = Reorder("NCHW", self.way(i).source)
        return lambda: there(gx() if callable(gx) else gx)

    def flops(self, y, *xs):
        xs = [self.way(i).infer(x) if self.way(i) else x for i, x in enumerate(xs)]
        return self.op.flops(self.op.infer(*xs), *xs)


def unwrapped(op):
    """(the op itself, the layout of its images, that of the first one, and how many channels or images
    there are): one without a layout is defined on NCHW."""
    if isinstance(op, In):
        return op.op, op.layout, op.source or op.layout, op.count
    return op, "NCHW", "NCHW", None


def known(layout):
    if layout not in BLOCKS:
        raise ArgumentError(f"reorder: a layout is one of {', '.join(BLOCKS)}, not {layout!r}")
    return BLOCKS[layout]


def block(layout) -> int:
    return known(layout)[1]


def axis(layout) -> int:
    """Of NCHW, that `count` counts."""
    return known(layout)[0]


def laid_out(shape, layout):
    """The shape of an image (n, c, h, w) in a layout."""
    a, b = known(layout)
    if b:
        return *(-(-n // b) if i == a else n for i, n in enumerate(shape)), b
    n, c, h, w = shape
    return (n, h, w, c) if layout == "NHWC" else (n, c, h, w)


def image_shape(layout, shape, count):
    """The (n, c, h, w) of what has this shape in a layout."""
    a, b = known(layout)
    if len(shape) != (5 if b else 4) or b and shape[4] != b:
        raise ShapeError(f"reorder: {shape} is no image in {layout}, which has {5 if b else 4} axes")
    image = [shape[i] for i in ((0, 3, 1, 2) if layout == "NHWC" else (0, 1, 2, 3))]
    if count is not None and (-(-count // b) if b else count) != image[a]:
        raise ShapeError(f"reorder: {shape} in {layout} are not {count} {('images', 'channels')[a]}")
    image[a] = count if count is not None else image[a] * max(b, 1)
    return tuple(image)


def unpack(x, layout, count):
    """The image (n, c, h, w)."""
    shape = image_shape(layout, x.shape, count)
    a, b = known(layout)
    if b:
        x = np.moveaxis(x, 4, a + 1)
        x = x.reshape(*x.shape[:a], x.shape[a] * b, *x.shape[a + 2:])
        return x[:, :shape[1]] if a else x[:shape[0]]
    return x.transpose(0, 3, 1, 2) if layout == "NHWC" else x


def pack(x, layout):
    """The image (n, c, h, w) in a layout, as it stands in memory."""
    a, b = known(layout)
    if b:
        x = np.pad(x, [(0, -n % b if i == a else 0) for i, n in enumerate(x.shape)])
        x = np.moveaxis(x.reshape(*x.shape[:a], x.shape[a] // b, b, *x.shape[a + 1:]), a + 1, 4)
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1) if layout == "NHWC" else x)


# fmt: on
