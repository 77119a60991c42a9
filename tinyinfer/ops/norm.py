"""Normalisation, and embedding and dropout beside it: what layers do between the products."""

from math import prod

import numpy as np

from ..core.check import number
from ..core.op import Op
from ..core.spec import Spec
from ..core.tensor import State, Tensor
from ..core.trace import no_grad
from ..errors import ArgumentError, DTypeError, ShapeError
from .elementwise import sqrt
from .index import Index
from .random import rand
from .reduce import WIDER, Mean, Share, Var, total
from .shape import ones_like, zeros_like

# fmt: off


class BatchNorm(Op):
    """y[n, c, ...] = w[c] (x[n, c, ...] - mean[c]) / sqrt(var[c] + eps) + b[c]"""
    eps: float
    anchor = gives_image = True
    images = 0,

    def infer(self, x, mean, var, w, b):
        if not x.floating:
            raise DTypeError(f"batch_norm: of floats, not of {x}: write x.astype('float32')")
        wanted = Spec(x.shape[1:2], x.dtype)
        for what, s in ("mean", mean), ("variance", var), ("weight", w), ("bias", b):
            if s != wanted:
                raise ShapeError(f"batch_norm: the {what} for {x} must be {wanted}, not {s}")
        return x

    def forward(self, x, mean, var, w, b):
        mean, scale, b = (v.reshape(-1, *[1] * (x.ndim - 2)) for v in (mean, w / (var + self.eps) ** 0.5, b))
        return ((x - mean) * scale + b).astype(x.dtype, copy=False)

    def vjp(self, g, y, x, mean, var, w, b):
        column = lambda v: v.reshape(-1, *[1] * (x.ndim - 2))
        total = lambda v: v.sum([i for i in range(x.ndim) if i != 1])
        rate = 1.0 / sqrt(var + self.eps)
        deviation = total(g * (x - column(mean)))
        return (lambda: g * column(w * rate), lambda: -total(g) * w * rate,
                lambda: deviation * w * rate * rate * rate * -0.5, lambda: deviation * rate, lambda: total(g))

    def flops(self, y, x, *rest): return 2 * prod(x.shape)


class LayerNorm(Share):
    """y = (x - mean) / sqrt(var + eps), with the mean and variance of x over the axes"""
    eps: float

    def forward(self, x):
        n, wide = self.count(x), WIDER.get(x.dtype, x.dtype)
        d = x - total(x, self.axes) / n
        var = (d * d).sum(self.axes, keepdims=True, dtype=wide) / n
        return (d / np.sqrt(var + self.eps)).astype(x.dtype)

    def vjp(self, g, y, x):
        mean, var = Mean(self.axes), Var(self.axes, 0)
        return (g - mean(g) - y * mean(g * y)) / sqrt(var(x) + self.eps),

    def flops(self, y, x): return 5 * prod(x.shape)


# fmt: on


def batch_norm(
    x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5
):
    """x (n, c, ...) with mean 0 and variance 1 in each channel, times weight (c,), plus bias (c,).

    In training the mean and variance are the batch's, and the States `running_mean` and
    `running_var` move towards them by `momentum`; else those are used. If they are None, it is
    always the batch's. Ioffe and Szegedy 2015, algorithms 1 and 2.
    """
    mean, var = running_mean, running_var
    if training or mean is None:
        others = [i for i in range(x.ndim) if i != 1]
        count = prod(x.shape) // x.shape[1]
        if count < 2:
            raise ShapeError(f"batch_norm: one number a channel, in {x.shape}, has no variance")
        mean, var = x.mean(others), x.var(others, correction=0)
        with no_grad():
            for running, now in (running_mean, mean), (running_var, var * (count / (count - 1))):
                if running is not None:
                    moved(running, now, momentum)
    weight = ones_like(mean) if weight is None else weight
    bias = zeros_like(mean) if bias is None else bias
    return BatchNorm(eps)(x, mean, var, weight, bias)


def moved(running, now, momentum):
    if not isinstance(running, State):
        raise ArgumentError(
            "batch_norm: running statistics are States, for in training they change"
        )
    running.assign(running * (1 - momentum) + now * momentum)


def layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5):
    """x with mean 0 and variance 1 over its last dimensions, `normalized_shape`; then times
    weight, plus bias. Ba, Kiros and Hinton 2016."""
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if x.shape[-len(shape) :] != shape:
        raise ShapeError(f"layer_norm: {x.shape} does not end in {shape}")
    if not x.spec.floating:
        raise DTypeError(f"layer_norm: of floats, not of {x.spec}: write x.astype('float32')")
    y = LayerNorm(tuple(range(x.ndim - len(shape), x.ndim)), eps)(x)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def embedding(tokens, weight) -> Tensor:
    """The rows of weight (words, size) named by the integers in tokens (...) -> (..., size).

    Raises RangeError for a token that has no row.
    """
    return Index("embedding")(weight, tokens)


def dropout(x, p=0.5, training=True):
    """In training, zero with probability p, and else x / (1 - p). Srivastava et al. 2014."""
    p = number("dropout: p", p, "[0, 1)")
    return x * (rand(*x.shape) >= p) / (1 - p) if training and p else x
