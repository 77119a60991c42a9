"""Quantization: numbers on a grid, for the gradient as if they were not."""

from math import prod

import numpy as np

from ..core.op import Op
from ..core.spec import broadcast

# fmt: off


class FakeQuantize(Op):
    """y = s round(x / s), clipped to `bits`; for the gradient, round is the identity (STE)."""
    bits: int = 8
    elementwise = broadcasts = True

    def infer(self, x, s): return broadcast(x, s, self.name)

    def forward(self, x, s):
        q = 2 ** (self.bits - 1) - 1
        return np.clip(np.rint(x / s), -q, q) * s

    def vjp(self, g, y, x, s):
        q = 2 ** (self.bits - 1) - 1
        return g * (x > -q * s) * (x < q * s), None

    def flops(self, y, x, s): return 4 * prod(y.shape)


# fmt: on


def fake_quantize(x, scale, bits=8):
    """x on the grid of `bits` bits and step `scale`; the gradient passes where nothing is clipped."""
    return FakeQuantize(bits)(x, scale)
