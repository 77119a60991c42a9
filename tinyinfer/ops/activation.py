"""y[i] = f(x[i]), the curves that stand between the products of a network."""

import math

import numpy as np

from ..errors import ArgumentError
from .elementwise import OfFloats, OfNumbers, erf, erf_of, exp, tanh, where

# fmt: off


class Relu(OfNumbers):
    monotone = True

    def forward(self, x): return np.maximum(x, 0)
    def vjp(self, g, y, x): return g * (y > 0),  # many times faster than where; of y, so that x can be forgotten


class LeakyRelu(OfFloats):
    """y = x where x > 0, else slope x"""
    slope: float = 0.01
    cost = 2
    monotone = property(lambda self: self.slope > 0)

    def forward(self, x): return np.where(x > 0, x, x.dtype.type(self.slope) * x)
    def vjp(self, g, y, x): return where(x > 0.0, g, g * self.slope),


class Elu(OfFloats):
    """y = x where x > 0, else alpha (exp(x) - 1)"""
    alpha: float = 1.0
    cost = 3

    def forward(self, x): return np.where(x > 0, x, x.dtype.type(self.alpha) * np.expm1(np.minimum(x, 0)))
    def vjp(self, g, y, x): return where(x > 0.0, g, g * (y + self.alpha)),


class Sigmoid(OfFloats):
    """y = 1 / (1 + exp(-x)), without overflow"""
    cost = 3

    def forward(self, x):
        small = np.exp(-np.abs(x))
        return np.where(x < 0, small, 1) / (1 + small)

    def vjp(self, g, y, x): return g * y * (1.0 - y),


class Silu(OfFloats):
    """y = x sigmoid(x), also called swish"""
    cost = 4

    def forward(self, x): return x * Sigmoid().forward(x)

    def vjp(self, g, y, x):
        s = sigmoid(x)
        return g * (s + y * (1.0 - s)),


class Softplus(OfFloats):
    """y = log(1 + exp(x)), without overflow"""
    cost = 3

    def forward(self, x): return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
    def vjp(self, g, y, x): return g * sigmoid(x),


class Gelu(OfFloats):
    """y = x Phi(x), with Phi(x) = (1 + erf(x / sqrt 2)) / 2 the normal distribution's"""
    cost = 5

    def forward(self, x): return (x * (0.5 + 0.5 * erf_of(x / math.sqrt(2)))).astype(x.dtype)

    def vjp(self, g, y, x):
        density = exp(-0.5 * x * x) * (1.0 / math.sqrt(2 * math.pi))
        return g * (0.5 + 0.5 * erf(x * math.sqrt(0.5)) + x * density),


class Hardswish(OfFloats):
    """y = x clip(x + 3, 0, 6) / 6"""
    cost = 5

    def forward(self, x): return x * np.clip(x + 3, 0, 6) / 6
    def vjp(self, g, y, x): return g * where(x > 3.0, 1.0, where(x > -3.0, x / 3.0 + 0.5, 0.0)),


relu, sigmoid, silu, softplus, hardswish = Relu(), Sigmoid(), Silu(), Softplus(), Hardswish()
# fmt: on


def leaky_relu(x, negative_slope=0.01):
    """x where x > 0, else negative_slope x"""
    return LeakyRelu(negative_slope)(x)


def elu(x, alpha=1.0):
    """x where x > 0, else alpha (exp(x) - 1)"""
    return Elu(alpha)(x)


def gelu(x, approximate="none"):
    """x Phi(x) (Hendrycks and Gimpel 2016); with approximate="tanh" their approximation."""
    if approximate not in ("none", "tanh"):
        raise ArgumentError(f'gelu: approximate="none" or "tanh", not {approximate!r}')
    if approximate == "none":
        return Gelu()(x)
    return 0.5 * x * (1.0 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
