"""Convolution. Multiply its result by g and sum: a number that is linear in x, in w and in g. Its
derivative by g is Conv2d, by x and by w the two ops below; so the three are closed under
differentiation, and the transposed convolution is the second of them."""

from math import prod

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..core.check import whole
from ..core.op import Op
from ..core.spec import Spec, promote
from ..errors import ArgumentError, ShapeError

Pair = tuple[int, int]


def windows(x, size, stride, padding=((0, 0), (0, 0)), dilation=(1, 1), fill=0):
    """(n, c, k, l, i, j) -> x[n, c, stride i + dilation k - padding, stride j + dilation l - padding]

    A view: no element is copied, unless padding makes x larger."""
    if padding != ((0, 0), (0, 0)):
        x = np.pad(x, ((0, 0), (0, 0), *padding), constant_values=fill)
    reach = tuple(d * (k - 1) + 1 for k, d in zip(size, dilation))
    x = sliding_window_view(x, reach, axis=(2, 3))
    return x[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]].transpose(
        0, 1, 4, 5, 2, 3
    )


def add_windows(rows, shape, stride, padding, dilation=(1, 1)):
    """The transpose of `windows`: every element is added to where it was read."""
    (n, c, height, width), (top, bottom), (left, right) = shape, *padding
    x = np.zeros((n, c, height + top + bottom, width + left + right), rows.dtype)
    for k, l in np.ndindex(rows.shape[2:4]):
        i, j = (slice(o * d, o * d + s * m, s)
                for o, d, s, m in zip((k, l), dilation, stride, rows.shape[4:]))  # fmt: skip
        x[:, :, i, j] += rows[:, :, k, l]
    return x[:, :, top : top + height, left : left + width]


def by(sizes) -> str:
    return " x ".join(map(str, sizes))


def check_channels(what, x, w, groups, places):
    rank = 3 + places.count(",")
    if len(x.shape) != rank or len(w.shape) != rank:
        raise ShapeError(
            f"{what}: input {x.shape} and weight {w.shape} must be (batch, channels, {places}) "
            f"and (out, in, {places})"
        )
    if x.shape[1] != w.shape[1] * groups or w.shape[0] % groups:
        raise ShapeError(
            f"{what}: channels differ: input {x.shape}, weight {w.shape}, groups {groups}: "
            f"{x.shape[1]} in, {w.shape[1]} * {groups} wanted"
        )


def window_counts(what, image, size, stride, padding, dilation) -> tuple[int, int]:
    """How many windows fit below and beside one another."""
    reach = [d * (k - 1) + 1 for k, d in zip(size, dilation)]
    room = [n + sum(p) - r for n, p, r in zip(image, padding, reach)]
    if min(room) < 0:
        around = ", ".join(str(a) if a == b else f"{a} + {b}" for a, b in padding)
        raise ShapeError(
            f"{what}: a window of {by(reach)} does not fit into an image of {by(image)} with "
            f"padding {around}"
        )
    return tuple(r // s + 1 for r, s in zip(room, stride))


# fmt: off


class Conv2d(Op):
    """y[n, o, i, j] = sum_{c, k, l} x[n, c, s i + d k - p, s j + d l - p] w[o, c, k, l]

    With groups, channels c and o are cut into as many parts, and a part of y sees its part of x.
    """
    stride: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))  # before and after, of rows and of columns
    dilation: Pair = (1, 1)
    groups: int = 1
    anchor = mac = gives_image = True
    broadcasts = True  # so that the engine casts gradients back
    images = 0,

    def infer(self, x, w):
        check_channels(self.name, x, w, self.groups, "rows, columns")
        size = window_counts(self.name, x.shape[2:], w.shape[2:], self.stride, self.padding, self.dilation)
        return Spec((x.shape[0], w.shape[0], *size), promote(x.dtype, w.dtype, self.name))

    def columns(self, x, size):
        """im2col: (n, group, c k l, i j)"""
        rows = windows(x, size, self.stride, self.padding, self.dilation)
        n, c, k, l, i, j = rows.shape
        return rows.reshape(n, self.groups, c // self.groups * k * l, i * j)

    def grouped(self, w): return w.reshape(self.groups, w.shape[0] // self.groups, -1)

    def maps(self, g):
        """(n, group, o, i j)"""
        return g.reshape(g.shape[0], self.groups, g.shape[1] // self.groups, prod(g.shape[2:]))

    def forward(self, x, w):
        y = self.grouped(w) @ self.columns(x, w.shape[2:])
        return y.reshape(self.infer(x, w).shape)

    def vjp(self, g, y, x, w):
        return lambda: Conv2dInput(self, x.shape)(g, w), lambda: Conv2dWeight(self, w.shape)(g, x)

    def flops(self, y, x, w): return 2 * prod(y.shape) * prod(w.shape[1:])


class Conv2dInput(Op):
    """x[n, c, s i + d k - p, s j + d l - p] += sum_o g[n, o, i, j] w[o, c, k, l]"""
    conv: Conv2d
    shape: tuple[int, ...]
    anchor = mac = gives_image = broadcasts = True
    images = 0,

    def infer(self, g, w):
        x = Spec(self.shape, g.dtype)
        if self.conv.infer(x, w).shape != g.shape:
            raise ShapeError(f"conv_transpose2d: {g.shape} with weight {w.shape} does not give {self.shape}")
        return Spec(self.shape, promote(g.dtype, w.dtype, self.name))

    def forward(self, g, w):
        rows = self.conv.grouped(w).swapaxes(1, 2) @ self.conv.maps(g)
        rows = rows.reshape(*self.shape[:2], *w.shape[2:], *g.shape[2:])
        return add_windows(rows, self.shape, self.conv.stride, self.conv.padding, self.conv.dilation)

    def vjp(self, u, y, g, w):
        return lambda: self.conv(u, w), lambda: Conv2dWeight(self.conv, w.shape)(g, u)

    def flops(self, y, g, w): return 2 * prod(g.shape) * prod(w.shape[1:])


class Conv2dWeight(Op):
    """w[o, c, k, l] = sum_{n, i, j} g[n, o, i, j] x[n, c, s i + d k - p, s j + d l - p]"""
    conv: Conv2d
    shape: tuple[int, ...]
    anchor = mac = broadcasts = True
    images = 0, 1

    def infer(self, g, x): return Spec(self.shape, promote(g.dtype, x.dtype, self.name))

    def forward(self, g, x):
        w = np.zeros((self.conv.groups, self.shape[0] // self.conv.groups, prod(self.shape[1:])),
                     np.result_type(g, x))
        for maps, columns in zip(self.conv.maps(g), self.conv.columns(x, self.shape[2:])):
            w += maps @ columns.swapaxes(1, 2)  # all at once would take the room of a w for each
        return w.reshape(self.shape)

    def vjp(self, u, y, g, x):
        return lambda: self.conv(x, u), lambda: Conv2dInput(self.conv, x.shape)(g, u)

    def flops(self, y, g, x): return 2 * prod(g.shape) * prod(self.shape[1:])


# fmt: on


def pair(n, what, least=0) -> Pair:
    """3 or (3, 5), as rows and columns."""
    both = n if isinstance(n, tuple | list) else (n, n)
    if len(both) != 2:
        raise ArgumentError(f"{what}: one whole number from {least} on, or a pair, not {n!r}")
    return tuple([whole(what, m, least) for m in both])


def conv_op(what, stride, padding, dilation, groups) -> Conv2d:
    if not isinstance(groups, int) or groups < 1:
        raise ArgumentError(f"{what}: groups is a whole number from 1 on, not {groups!r}")
    p, q = pair(padding, f"{what}: padding")
    s, d = pair(stride, f"{what}: stride", 1), pair(dilation, f"{what}: dilation", 1)
    return Conv2d(s, ((p, p), (q, q)), d, groups)


def with_bias(what, y, bias):
    if bias is None:
        return y
    if bias.shape != y.shape[1:2]:
        raise ShapeError(
            f"{what}: bias {bias.shape} for {y.shape[1]} channels: it must be {y.shape[1:2]}"
        )
    return y + bias.reshape(-1, *[1] * (y.ndim - 2))


def conv2d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """x (n, in, h, w), weight (out, in / groups, kh, kw), bias (out,) -> (n, out, h', w') with
    h' = (h + 2 padding - dilation (kh - 1) - 1) // stride + 1.

    Raises ShapeError if channels do not fit, or the kernel not into the image.
    """
    conv = conv_op("conv2d", stride, padding, dilation, groups)
    return with_bias("conv2d", conv(x, weight), bias)


def conv1d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """x (n, in, t), weight (out, in / groups, k) -> (n, out, t'): conv2d on images of one row."""
    one = conv_op("conv1d", (1, stride), (0, padding), (1, dilation), groups)
    check_channels("conv1d", x, weight, groups, "time")
    window_counts("conv1d", x.shape[2:], weight.shape[2:], [stride], [(padding,) * 2], [dilation])
    return with_bias("conv1d", one(x.unsqueeze(2), weight.unsqueeze(2)).squeeze(2), bias)


def conv_transpose2d(
    x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
):
    """The gradient of conv2d by its input, used forwards: x (n, in, h, w), weight
    (in, out / groups, kh, kw) -> (n, out, h', w') with
    h' = (h - 1) stride - 2 padding + dilation (kh - 1) + output_padding + 1.
    """
    conv = conv_op("conv_transpose2d", stride, padding, dilation, groups)
    if x.ndim != 4 or weight.ndim != 4 or x.shape[1] != weight.shape[0]:
        raise ShapeError(
            f"conv_transpose2d: channels differ: input {x.shape}, weight {weight.shape}: the first "
            "size of the weight is the number of input channels"
        )
    extra = pair(output_padding, "conv_transpose2d: output_padding")
    size = [
        (n - 1) * s - sum(p) + d * (k - 1) + e + 1
        for n, s, p, d, k, e in zip(
            x.shape[2:], conv.stride, conv.padding, conv.dilation, weight.shape[2:], extra
        )
    ]
    if min(size) < 1:
        raise ShapeError(f"conv_transpose2d: nothing of an image is left by padding {conv.padding}")
    shape = (x.shape[0], weight.shape[1] * groups, *size)
    return with_bias("conv_transpose2d", Conv2dInput(conv, shape)(x, weight), bias)
