"""Many numbers become one. Reductions keep their axes, with size 1: so Sum and BroadcastTo are each
other's transpose; the functions drop the axes afterwards, with a Reshape, unless `keepdim`."""

from functools import lru_cache, wraps
from itertools import pairwise
from math import prod as size

import numpy as np

from ..core.op import Op
from ..core.spec import Spec
from ..errors import ArgumentError, DTypeError, ShapeError
from .elementwise import sqrt, where
from .shape import Reshape, axis_of

# fmt: off


class Reduce(Op):
    axes: tuple[int, ...]
    takes_integers = takes_empty = reduces = True
    follows = True

    def infer(self, x):
        if not (self.takes_empty or self.count(x)):
            raise ShapeError(f"{self.name}: of no elements, in {x}")
        if not (x.floating or self.takes_integers and x.dtype.kind in "iu"):
            raise DTypeError(f"{self.name}: not of {x}: write x.astype("
                             f"'{'int64' if self.takes_integers else 'float32'}')")
        return Spec(tuple([1 if i in self.axes else n for i, n in enumerate(x.shape)]), x.dtype)

    def flops(self, y, x): return size(x.shape)

    def count(self, x): return size([x.shape[a] for a in self.axes])


WIDER = {np.dtype(a): np.dtype(b) for a, b in (("float16", "float32"), ("float32", "float64"))}


def total(x, axes):
    """The sum, added up in a wider float: NumPy adds pairwise along the last axis alone."""
    return x.sum(axes, keepdims=True, dtype=WIDER.get(x.dtype, x.dtype))


class Sum(Reduce):
    images = property(lambda self: (0,) if self.axes == (0, 2, 3) else ())  # of channels

    def forward(self, x): return total(x, self.axes).astype(x.dtype)
    def vjp(self, g, y, x): return g.broadcast_to(x.shape),


class Mean(Reduce):
    takes_integers = False
    images = Sum.images

    def forward(self, x): return (total(x, self.axes) / self.count(x)).astype(x.dtype)
    def vjp(self, g, y, x): return (g / self.count(x)).broadcast_to(x.shape),


class Var(Reduce):
    """y = sum (x - mean)^2 / (n - correction)"""
    correction: float
    takes_integers = False

    def infer(self, x):
        if self.count(x) <= self.correction:
            raise ShapeError(f"{self.name}: of {self.count(x)} with correction {self.correction}, in "
                             f"{x}, there is nothing to divide by: write correction=0")
        return super().infer(x)

    def forward(self, x):
        n, wide = self.count(x), WIDER.get(x.dtype, x.dtype)
        d = x - total(x, self.axes) / n
        return ((d * d).sum(self.axes, keepdims=True, dtype=wide) / (n - self.correction)).astype(x.dtype)

    def vjp(self, g, y, x): return g * (2 / (self.count(x) - self.correction)) * (x - Mean(self.axes)(x)),
    def flops(self, y, x): return 4 * size(x.shape)


class Extreme(Reduce):
    takes_empty = False
    selects = True

    def vjp(self, g, y, x):  # equals share
        winners = (x == y).astype(g.dtype)
        return g * winners / Sum(self.axes)(winners),


class Max(Extreme):
    def forward(self, x): return x.max(self.axes, keepdims=True)


class Min(Extreme):
    def forward(self, x): return x.min(self.axes, keepdims=True)


class ArgMax(Extreme):
    """Where along the one axis the largest is; of equals, the first"""
    differentiable = selects = False

    def infer(self, x): return Spec(super().infer(x).shape, np.dtype(np.int64))
    def forward(self, x): return x.argmax(self.axes[0], keepdims=True)


class Prod(Reduce):
    """Along one axis. The gradient of a factor is the product of the others, right at zeros too"""
    def forward(self, x): return x.prod(self.axes, keepdims=True, dtype=x.dtype)

    def vjp(self, g, y, x):
        return g * Others(self.axes)(x),


class Others(Reduce):
    """y[i] = the product of all x[j] along one axis but x[i]"""
    def infer(self, x):
        super().infer(x)
        return x

    def forward(self, x):
        x = np.moveaxis(x, self.axes[0], 0)
        one = np.ones_like(x[:1])
        before = np.cumprod(np.concatenate([one, x[:-1]]), 0, dtype=x.dtype)
        behind = np.cumprod(np.concatenate([one, x[:0:-1]]), 0, dtype=x.dtype)[::-1]
        return np.moveaxis(before * behind, 0, self.axes[0])

    def vjp(self, g, y, x):
        a, = self.axes
        n, rest = x.shape[a], (1,) * (x.ndim - a - 1)
        mine = np.eye(n, dtype=bool).reshape(n, *(1,) * a, n, *rest)
        pairs = Others((a + 1,))(where(mine, 1.0, x.unsqueeze(0)))  # pairs[i][j]: without i and j
        return Sum((0,))(where(mine, 0.0, g.movedim(a, 0).unsqueeze(a + 1) * pairs)).squeeze(0),

    def flops(self, y, x): return 3 * size(x.shape)


class LogSumExp(Reduce):
    """y = log sum exp(x), without overflow"""
    takes_integers = takes_empty = False

    def forward(self, x):
        top = x.max(self.axes, keepdims=True)
        top = np.where(np.isfinite(top), top, 0)
        return (np.log(total(np.exp(x - top), self.axes)) + top).astype(x.dtype)

    def vjp(self, g, y, x): return g * (x - y).exp(),
    def flops(self, y, x): return 3 * size(x.shape)


class Share(Reduce):
    """Every element stays, but depends on all along the axes"""
    takes_integers = takes_empty = reduces = False
    anchor = True

    def infer(self, x):
        super().infer(x)
        return x

    def flops(self, y, x): return 4 * size(x.shape)


class Softmax(Share):
    """y = exp(x) / sum exp(x)"""
    def forward(self, x):
        y = np.exp(x - x.max(self.axes, keepdims=True))
        return (y / total(y, self.axes)).astype(x.dtype)

    def vjp(self, g, y, x): return y * (g - Sum(self.axes)(g * y)),


class LogSoftmax(Share):
    """y = x - log sum exp(x)"""
    def forward(self, x):
        x = x - x.max(self.axes, keepdims=True)
        return (x - np.log(total(np.exp(x), self.axes))).astype(x.dtype)

    def vjp(self, g, y, x): return g - y.exp() * Sum(self.axes)(g),


# fmt: on


def axes_of(dim, ndim: int, what: str) -> tuple[int, ...]:
    """`dim`, a number, several or None for all, as axes counted from 0."""
    dims = range(ndim) if dim is None else dim if isinstance(dim, tuple | list) else (dim,)
    axes = sorted(axis_of(d, ndim, what) for d in dims)
    if twice := [a for a, b in pairwise(axes) if a == b]:
        raise ArgumentError(f"{what}: dimension {twice[0]} is named twice in {dim}")
    return tuple(axes)


def numpy_names(fn):
    """Let NumPy's names `axis`, `keepdims` stand for PyTorch's `dim`, `keepdim`."""

    @wraps(fn)
    def call(*args, **options):
        return fn(*args, **{OTHER_NAMES.get(k, k): v for k, v in options.items()})

    return call


OTHER_NAMES = {"axis": "dim", "keepdims": "keepdim"}


@lru_cache(maxsize=1024)
def steps(op, shape, dim, keepdim, options) -> tuple[Op, ...]:
    """The reduction, and the dropping of its axes."""
    axes = axes_of(dim, len(shape), op.name)
    kept = tuple(n for i, n in enumerate(shape) if i not in axes)
    return (op(axes, *options),) if keepdim else (op(axes, *options), Reshape(kept))


def reduce(op, x, dim, keepdim, *options):
    dim = tuple(dim) if isinstance(dim, list) else dim
    for step in steps(op, x.shape, dim, keepdim, options):
        x = step(x)
    return x


def counted(x):
    """Masks and integers are added up in int64, where there is room."""
    return x if x.dtype.kind == "f" else x.astype("int64")


@numpy_names
def sum(x, dim=None, keepdim=False):
    """The sum over `dim` (a number, several, or None: all); of masks and integers in int64."""
    return reduce(Sum, counted(x), dim, keepdim)


@numpy_names
def mean(x, dim=None, keepdim=False):
    """The mean over `dim` (a number, several, or None: all)."""
    return reduce(Mean, x, dim, keepdim)


@numpy_names
def var(x, dim=None, correction=1, keepdim=False):
    """The mean squared distance from the mean over `dim`, with n - correction for n."""
    return reduce(Var, x, dim, keepdim, correction)


@numpy_names
def std(x, dim=None, correction=1, keepdim=False):
    """The square root of var; where that is 0, so is the gradient."""
    v = var(x, dim, correction, keepdim)
    return where(v > 0.0, sqrt(where(v > 0.0, v, 1.0)), v)


@numpy_names
def max(x, dim=None, keepdim=False):
    """The largest element over `dim` (a number, several, or None: all); equals share the gradient.

    Unlike PyTorch's, the result is the values alone; see also argmax."""
    return reduce(Max, x, dim, keepdim)


@numpy_names
def min(x, dim=None, keepdim=False):
    """The smallest element over `dim` (a number, several, or None: all)."""
    return reduce(Min, x, dim, keepdim)


@numpy_names
def argmax(x, dim=None, keepdim=False):
    """Where the largest element along `dim` is, int64, of equals the first; without `dim` in the
    flattened tensor."""
    if isinstance(dim, tuple | list):
        raise ArgumentError(f"argmax: along one dimension, or None: all, not {dim}")
    if dim is None:
        return argmax(x.reshape(-1), 0).reshape([1] * x.ndim if keepdim else [])
    return reduce(ArgMax, x, dim, keepdim)


@numpy_names
def prod(x, dim=None, keepdim=False):
    """The product over `dim` (a number, several, or None: all); of masks and integers in int64."""
    x = counted(x)
    for axis in reversed(axes_of(dim, x.ndim, "prod")):
        x = reduce(Prod, x, axis, keepdim)
    return x


@numpy_names
def logsumexp(x, dim, keepdim=False):
    """log sum exp(x) over `dim`, without overflow."""
    return reduce(LogSumExp, x, dim, keepdim)


@numpy_names
def softmax(x, dim=-1):
    """exp(x) / sum exp(x) along `dim`."""
    return reduce(Softmax, x, dim, True)


@numpy_names
def log_softmax(x, dim=-1):
    """The logarithm of softmax along `dim`, exact where softmax is near 0."""
    return reduce(LogSoftmax, x, dim, True)
