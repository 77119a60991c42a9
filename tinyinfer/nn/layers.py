"""Layers with PyTorch's names, options and first values."""

import numpy as np

from .. import ops as F
from ..core.check import number, sizes, whole
from ..core.tensor import State
from ..errors import ArgumentError, ShapeError
from . import init
from .module import Module, Parameter


def expect(fits, what, wanted, x, hint=""):
    if not fits:
        raise ShapeError(f"{what} is {wanted}, not {x.shape}{hint}")


def weight_and_bias(shape, outputs, fan_in, bias):
    """PyTorch's first values for products: evenly up to 1 / sqrt(fan in)."""
    bound = fan_in**-0.5
    weight = Parameter(init.uniform(shape, bound))
    return weight, Parameter(init.uniform((outputs,), bound)) if bias else None


class Linear(Module):
    """y = x @ weight.T + bias: (..., in_features) -> (..., out_features)."""

    def __init__(self, in_features, out_features, bias=True):
        self.in_features = whole("Linear in_features", in_features, 1)
        self.out_features = whole("Linear out_features", out_features, 1)
        shape = (out_features, in_features)
        self.weight, self.bias = weight_and_bias(shape, out_features, in_features, bias)

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


class Conv(Module):
    """`dims`-dimensional; its subclasses name the function. `padding="same"` is as much as keeps the
    size of the image."""

    dims: int
    transposed = False

    def __init__(
        self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1,
        bias=True,
    ):  # fmt: skip
        me = type(self).__name__
        self.groups = whole(f"{me} groups", groups, 1)
        self.in_channels = whole(f"{me} in_channels", in_channels, 1)
        self.out_channels = whole(f"{me} out_channels", out_channels, 1)
        if in_channels % groups or out_channels % groups:
            raise ArgumentError(
                f"{me}: groups {groups} must divide {in_channels} and {out_channels} channels"
            )
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.dilation = dilation
        size = tuple(whole(f"{me} kernel_size", n, 1) for n in self._each(kernel_size))
        ends = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        shape = (ends[0], ends[1] // groups, *size)
        self.weight, self.bias = weight_and_bias(shape, out_channels, init.fan_in(shape), bias)
        if padding == "same":
            self.padding = self._same(size)

    def _each(self, n):
        """One number stands for all dimensions."""
        return tuple(n) if isinstance(n, tuple | list) else (n,) * self.dims

    def _same(self, size):
        reach = [d * (k - 1) for d, k in zip(self._each(self.dilation), size)]
        if any(s != 1 for s in self._each(self.stride)) or any(r % 2 for r in reach):
            raise ArgumentError(
                f'{type(self).__name__}: padding="same" is for stride 1 and an odd kernel, not for '
                f"stride {self.stride} and kernel {size}: give the padding as a number"
            )
        return tuple(r // 2 for r in reach) if self.dims > 1 else reach[0] // 2

    def _options(self):
        return {k: getattr(self, k) for k in ("stride", "padding", "dilation", "groups")}

    def _expect_batch(self, x):
        places = "rows, columns" if self.dims == 2 else "time"
        hint = ". One image alone: x.unsqueeze(0)" if x.shape[:1] == (self.in_channels,) else ""
        hint = ". Without channels: x.unsqueeze(1)" if self.in_channels == 1 else hint
        wanted = f"(batch, {self.in_channels}, {places})"
        expect(x.ndim != self.dims + 1, "the input", wanted, x, hint)


class Conv1d(Conv):
    """(n, in_channels, t) -> (n, out_channels, t'): see ti.conv1d."""

    dims = 1

    def forward(self, x):
        self._expect_batch(x)
        return F.conv1d(x, self.weight, self.bias, **self._options())


class Conv2d(Conv):
    """(n, in_channels, h, w) -> (n, out_channels, h', w'): see ti.conv2d."""

    dims = 2

    def forward(self, x):
        self._expect_batch(x)
        return F.conv2d(x, self.weight, self.bias, **self._options())


class ConvTranspose2d(Conv):
    """(n, in_channels, h, w) -> (n, out_channels, h', w'): see ti.conv_transpose2d."""

    dims, transposed = 2, True

    def __init__(
        self, in_channels, out_channels, kernel_size, stride=1, padding=0, output_padding=0,
        groups=1, bias=True, dilation=1,
    ):  # fmt: skip
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias
        )
        self.output_padding = output_padding

    def forward(self, x):
        self._expect_batch(x)
        options = {"output_padding": self.output_padding, **self._options()}
        return F.conv_transpose2d(x, self.weight, self.bias, **options)


class BatchNorm2d(Module):
    """(n, c, h, w), each channel with mean 0 and variance 1, scaled and shifted: see ti.batch_norm."""

    ndims, wanted = (4,), "(batch, {}, rows, columns)"

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        self.num_features = whole(f"{type(self).__name__} num_features", num_features, 1)
        self.eps, self.momentum = eps, momentum
        self.weight = Parameter(np.ones(num_features, np.float32))
        self.bias = Parameter(np.zeros(num_features, np.float32))
        self.running_mean = State(np.zeros(num_features, np.float32))
        self.running_var = State(np.ones(num_features, np.float32))

    def forward(self, x):
        fits = x.ndim in self.ndims and x.shape[1] == self.num_features
        expect(fits, "the input", self.wanted.format(self.num_features), x)
        running = self.running_mean, self.running_var
        return F.batch_norm(
            x, *running, self.weight, self.bias, self.training, self.momentum, self.eps
        )


class BatchNorm1d(BatchNorm2d):
    """(n, c) or (n, c, t): as BatchNorm2d."""

    ndims, wanted = (2, 3), "(batch, {0}) or (batch, {0}, time)"


class LayerNorm(Module):
    """Mean 0 and variance 1 over the last dimensions, `normalized_shape`: see ti.layer_norm."""

    def __init__(self, normalized_shape, eps=1e-5, elementwise_affine=True):
        self.normalized_shape = sizes("LayerNorm normalized_shape", normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.weight = self.bias = None
        if elementwise_affine:
            self.weight = Parameter(np.ones(self.normalized_shape, np.float32))
            self.bias = Parameter(np.zeros(self.normalized_shape, np.float32))

    def forward(self, x):
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class Embedding(Module):
    """A row of numbers for each of `num_embeddings` words: integers (...) -> (..., embedding_dim)."""

    def __init__(self, num_embeddings, embedding_dim):
        self.num_embeddings = whole("Embedding num_embeddings", num_embeddings, 1)
        self.embedding_dim = whole("Embedding embedding_dim", embedding_dim, 1)
        self.weight = Parameter(init.normal((num_embeddings, embedding_dim)))

    def forward(self, tokens):
        return F.embedding(tokens, self.weight)


class Dropout(Module):
    """In training, zero with probability p, and else x / (1 - p)."""

    def __init__(self, p=0.5):
        self.p = number("Dropout p", p, "[0, 1)")

    def forward(self, x):
        return F.dropout(x, self.p, self.training)
