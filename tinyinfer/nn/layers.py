"""Layers with PyTorch's names, options and first values."""

import numpy as np

from .. import ops as F
from ..core.tensor import State
from ..errors import ArgumentError
from . import init
from .module import Module, Parameter


def weight_and_bias(shape, outputs, fan_in, bias):
    """PyTorch's first values for products: evenly up to 1 / sqrt(fan in)."""
    bound = fan_in**-0.5
    weight = Parameter(init.uniform(shape, bound))
    return weight, Parameter(init.uniform((outputs,), bound)) if bias else None


class Linear(Module):
    """y = x @ weight.T + bias: (..., in_features) -> (..., out_features)."""

    def __init__(self, in_features, out_features, bias=True):
        self.in_features, self.out_features = in_features, out_features
        shape = (out_features, in_features)
        self.weight, self.bias = weight_and_bias(shape, out_features, in_features, bias)

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


class Conv(Module):
    """`dims`-dimensional; its subclasses name the function."""

    dims: int
    transposed = False

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        dilation=1,
        groups=1,
        bias=True,
    ):
        if in_channels % groups or out_channels % groups:
            raise ArgumentError(
                f"groups {groups} must divide {in_channels} and {out_channels} channels"
            )
        size = (kernel_size,) * self.dims if isinstance(kernel_size, int) else tuple(kernel_size)
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, size
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        first, second = (
            (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        )
        shape = (first, second // groups, *size)
        self.weight, self.bias = weight_and_bias(shape, out_channels, init.fan_in(shape), bias)

    def options(self):
        return {k: getattr(self, k) for k in ("stride", "padding", "dilation", "groups")}


class Conv1d(Conv):
    """(n, in_channels, t) -> (n, out_channels, t'): see ti.conv1d."""

    dims = 1

    def forward(self, x):
        return F.conv1d(x, self.weight, self.bias, **self.options())


class Conv2d(Conv):
    """(n, in_channels, h, w) -> (n, out_channels, h', w'): see ti.conv2d."""

    dims = 2

    def forward(self, x):
        return F.conv2d(x, self.weight, self.bias, **self.options())


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
        options = {"output_padding": self.output_padding, **self.options()}
        return F.conv_transpose2d(x, self.weight, self.bias, **options)


class BatchNorm2d(Module):
    """(n, c, h, w), each channel with mean 0 and variance 1, scaled and shifted: see ti.batch_norm."""

    ndims = (4,)

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.weight = Parameter(np.ones(num_features, np.float32))
        self.bias = Parameter(np.zeros(num_features, np.float32))
        self.running_mean = State(np.zeros(num_features, np.float32))
        self.running_var = State(np.ones(num_features, np.float32))

    def forward(self, x):
        F.norm.check_channels(type(self).__name__, x, self.num_features, self.ndims)
        running = self.running_mean, self.running_var
        return F.batch_norm(
            x, *running, self.weight, self.bias, self.training, self.momentum, self.eps
        )


class BatchNorm1d(BatchNorm2d):
    """(n, c) or (n, c, t): as BatchNorm2d."""

    ndims = (2, 3)


class LayerNorm(Module):
    """Mean 0 and variance 1 over the last dimensions, `normalized_shape`: see ti.layer_norm."""

    def __init__(self, normalized_shape, eps=1e-5):
        shape = (
            (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        )
        self.normalized_shape, self.eps = shape, eps
        self.weight = Parameter(np.ones(shape, np.float32))
        self.bias = Parameter(np.zeros(shape, np.float32))

    def forward(self, x):
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class Embedding(Module):
    """A row of numbers for each of `num_embeddings` words: integers (...) -> (..., embedding_dim)."""

    def __init__(self, num_embeddings, embedding_dim):
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.weight = Parameter(init.normal((num_embeddings, embedding_dim)))

    def forward(self, tokens):
        return F.embedding(tokens, self.weight)


class Dropout(Module):
    """In training, zero with probability p, and else x / (1 - p)."""

    def __init__(self, p=0.5):
        if not 0 <= p < 1:
            raise ArgumentError(f"dropout: p is a probability below 1, not {p}")
        self.p = p

    def forward(self, x):
        return F.dropout(x, self.p, self.training)
