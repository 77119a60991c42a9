"""Pooling: one number for each window of an image."""

from math import prod

import numpy as np

from ..core.op import Op
from ..core.spec import Spec
from ..errors import ArgumentError, DTypeError, ShapeError
from .conv import Pair, add_windows, pair, window_counts, windows
from .shape import concat

# fmt: off


class Pool2d(Op):
    size: Pair
    stride: Pair
    padding: Pair = (0, 0)
    kinds = "iuf"
    gives_image = epilogue = True
    images = 0,

    def infer(self, x):
        check_image(self.name, x)
        if x.dtype.kind not in self.kinds:
            raise DTypeError(f"{self.name}: not of {x}: write x.astype('float32')")
        count = window_counts(self.name, x.shape[2:], self.size, self.stride, self.sides, (1, 1))
        return Spec((*x.shape[:2], *count), x.dtype)

    def flops(self, y, *xs): return prod(y.shape) * prod(self.size)

    @property
    def sides(self): return tuple((p, p) for p in self.padding)

    def windows(self, x, fill=0):
        return windows(x, self.size, self.stride, self.sides, fill=fill)


class MaxPool2d(Pool2d):
    """y[n, c, i, j] = max_{k, l} x[n, c, s i + k - p, s j + l - p]; the first of equals wins"""
    selects = True

    def forward(self, x):
        views = self.windows(x, lowest(x.dtype))
        y = views[:, :, 0, 0].copy()
        for k, l in np.ndindex(self.size):
            np.maximum(y, views[:, :, k, l], out=y)
        return y

    def vjp(self, g, y, x): return MaxPool2dInput(self)(g, x, y),

    def winners(self, x, y):
        """(k, l), and in which windows it is their element k, l that is the maximum y, and none before:
        padding never is, and NaN is, as in maximum. If y is no maximum there may be no such element."""
        views = self.windows(x, lowest(x.dtype))
        inside = self.windows(np.ones((1, 1, *x.shape[2:]), bool))
        free = np.ones(y.shape, bool)
        for k, l in np.ndindex(self.size):
            view = views[:, :, k, l]
            wins = ((view == y) | (view != view)) & inside[:, :, k, l] & free
            free &= ~wins
            yield (k, l), wins


class OfMaximum(Op):
    """Of images: of gradients, of x, and of its maxima y"""
    pool: MaxPool2d
    images = 0, 1, 2
    gives_image = True

    def check(self, x, y, *, given, like):
        if self.pool.infer(x).shape != y.shape or given.shape != like.shape:
            raise ShapeError(f"{self.name}: {given.shape}, of an image {x.shape} with maxima {y.shape}")

    def flops(self, y, *xs): return prod(xs[2].shape) * prod(self.pool.size)


class MaxPool2dInput(OfMaximum):
    """x'[n, c, s i + k - p, s j + l - p] += g[n, c, i, j], where x[...] is the first maximum y[n, c, i, j]"""
    begins = True

    def infer(self, g, x, y):
        self.check(x, y, given=g, like=y)
        return Spec(x.shape, g.dtype)

    def forward(self, g, x, y):
        rows = np.zeros((*y.shape[:2], *self.pool.size, *y.shape[2:]), g.dtype)
        for (k, l), wins in self.pool.winners(x, y):
            np.copyto(rows[:, :, k, l], g, where=wins)
        return add_windows(rows, x.shape, self.pool.stride, self.pool.sides)

    def vjp(self, u, gx, g, x, y): return MaxPool2dAt(self.pool)(u, x, y), None, None


class MaxPool2dAt(OfMaximum):
    """y'[n, c, i, j] = u[n, c, s i + k - p, s j + l - p], where x[...] is the first maximum y[n, c, i, j]:
    the transpose of MaxPool2dInput"""

    def infer(self, u, x, y):
        self.check(x, y, given=u, like=x)
        return Spec(y.shape, u.dtype)

    def forward(self, u, x, y):
        views, at = self.pool.windows(u), np.zeros(y.shape, u.dtype)
        for (k, l), wins in self.pool.winners(x, y):
            np.copyto(at, views[:, :, k, l], where=wins)
        return at

    def vjp(self, g, at, u, x, y): return MaxPool2dInput(self.pool)(g, x, y), None, None


class AvgPool2d(Pool2d):
    """y[n, c, i, j] = mean_{k, l} x[n, c, s i + k - p, s j + l - p]; padding counts as zeros"""
    kinds = "f"

    def forward(self, x): return self.windows(x).mean((2, 3))
    def vjp(self, g, y, x): return AvgPool2dInput(self, x.shape)(g),


class AvgPool2dInput(Op):
    """x[n, c, s i + k - p, s j + l - p] += g[n, c, i, j] / (size of a window): its transpose"""
    pool: AvgPool2d
    shape: tuple[int, ...]
    gives_image = True
    images = 0,

    def infer(self, g): return Spec(self.shape, g.dtype)

    def forward(self, g):
        rows = np.broadcast_to((g / prod(self.pool.size))[:, :, None, None],
                               (*g.shape[:2], *self.pool.size, *g.shape[2:]))
        return add_windows(rows, self.shape, self.pool.stride, self.pool.sides)

    def vjp(self, u, y, g): return self.pool(u),
    def flops(self, y, g): return prod(g.shape) * prod(self.pool.size)


def check_image(what, x):
    if len(x.shape) != 4:
        raise ShapeError(f"{what}: of (batch, channels, rows, columns), not of {x.shape}")


def lowest(dtype):
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


# fmt: on


def pool_op(op, kernel_size, stride, padding):
    size = pair(kernel_size, f"{op.name}: kernel_size", 1)
    p = pair(padding, f"{op.name}: padding")
    if any(2 * a > k for a, k in zip(p, size)):
        raise ArgumentError(f"{op.name}: padding {p} is more than half of the kernel {size}")
    return op(size, size if stride is None else pair(stride, f"{op.name}: stride", 1), p)


def max_pool2d(x, kernel_size, stride=None, padding=0):
    """The largest of each window: x (n, c, h, w) -> (n, c, h', w') with
    h' = (h + 2 padding - kernel_size) // stride + 1. Without `stride`, windows do not overlap."""
    return pool_op(MaxPool2d, kernel_size, stride, padding)(x)


def avg_pool2d(x, kernel_size, stride=None, padding=0):
    """The mean of each window, padding counted as zeros: shapes as in max_pool2d."""
    return pool_op(AvgPool2d, kernel_size, stride, padding)(x)


def bins(n, parts) -> list[tuple[int, int]]:
    """Where `parts` windows that cover n begin and end: equal, but for rounding outwards."""
    return [(i * n // parts, -(-(i + 1) * n // parts)) for i in range(parts)]


def averaging(n, parts, dtype) -> np.ndarray:
    """The matrix (parts, n) whose product with n numbers is the mean of each bin."""
    matrix = np.zeros((parts, n), dtype)
    for row, (a, b) in zip(matrix, bins(n, parts)):
        row[a:b] = 1 / (b - a)
    return matrix


def adaptive_avg_pool2d(x, output_size):
    """Means of windows chosen so that (h', w') = `output_size`; 1 is the mean of the image."""
    height, width = pair(output_size, "adaptive_avg_pool2d: output_size", 1)
    check_image("adaptive_avg_pool2d", x)
    if (height, width) == (1, 1):
        return x.mean((2, 3), keepdim=True)
    if not x.spec.floating:
        raise DTypeError(f"adaptive_avg_pool2d: not of {x.spec}: write x.astype('float32')")
    h, w = x.shape[2:]
    return averaging(h, height, x.dtype) @ x @ averaging(w, width, x.dtype).T


def adaptive_max_pool2d(x, output_size):
    """Maxima of windows chosen so that (h', w') = `output_size`; 1 is the maximum of the image."""
    check_image("adaptive_max_pool2d", x)
    size = pair(output_size, "adaptive_max_pool2d: output_size", 1)
    rows, columns = (bins(n, m) for n, m in zip(x.shape[2:], size))
    largest = lambda i, j: x[:, :, slice(*i), slice(*j)].max((2, 3), keepdim=True)
    return concat([concat([largest(i, j) for j in columns], 3) for i in rows], 2)
