"""Products and convolutions of small whole numbers, with the result on the grid of the next layer.

A byte x stands for the real number x_scale (x - x_zero), a weight for w_scale w, the result for
y_scale (y - y_zero). The sums are whole numbers, and exact; only the last step rounds:

    sum = bias + sum (x - x_zero) w                         bias is a whole number on the grid of sums
    y = saturate(round(sum * scale) + y_zero)               scale = x_scale w_scale / y_scale

This is QLinearMatMul and QLinearConv of ONNX to the bit, for weights that are symmetric: scale is
float32, ties go to the even number. (Jacob et al. 2018, Quantization and training of neural networks
for efficient integer-arithmetic-only inference.)
"""

from math import prod

import numpy as np

from ..core.op import Op
from ..core.spec import Spec, as_dtype
from ..errors import ArgumentError, DTypeError, ShapeError
from .conv import Conv2d
from .packed import Form, filled

LANES = 16
BYTES = np.dtype("u1"), np.dtype("i1")
INT8, INT32 = np.dtype("i1"), np.dtype("i4")

# fmt: off


class QLinear(Op):
    """What both have in common; channels are the axis `channel` of the result"""
    differentiable = False
    mac = True
    channel = -1

    def requantized(self, what, x, w, scale, bias, y) -> Spec:
        """The spec of y, which has so many channels; or what is wrong."""
        if x.dtype not in BYTES or w.dtype != INT8:
            raise DTypeError(f"{what}: input of uint8 or int8 and weights of int8, not {x} and {w}: quantize them first")
        if scale.dtype.kind != "f" or bias.dtype != INT32:
            raise DTypeError(f"{what}: a scale of floats and a bias of int32, not {scale} and {bias}")
        o = y[self.channel]
        if scale.shape not in ((), (o,)) or bias.shape != (o,):
            raise ShapeError(f"{what}: {o} channels want a scale () or ({o},) and a bias ({o},), "
                             f"not {scale.shape} and {bias.shape}")
        if as_dtype(self.dtype) not in BYTES:
            raise DTypeError(f"{what}: the result is of uint8 or int8, not of {self.dtype}")
        for zero, dtype in (self.x_zero, x.dtype), (self.y_zero, as_dtype(self.dtype)):
            if not np.iinfo(dtype).min <= zero <= np.iinfo(dtype).max:
                raise ArgumentError(f"{what}: the zero point {zero} is no {dtype}")
        return Spec(y, as_dtype(self.dtype))

    def finish(self, sums, scale, bias):
        along = lambda v: v.reshape(-1, *(1,) * (-1 - self.channel))
        sums = (sums + along(bias)).astype(np.float32)
        y = np.rint(sums * along(scale.astype(np.float32))) + np.float32(self.y_zero)
        ends = np.iinfo(self.dtype)
        return np.clip(y, ends.min, ends.max).astype(self.dtype)


class QLinearMatMul(QLinear, name="qlinear_matmul"):
    """y[..., j] = saturate(round(scale[j] (bias[j] + sum_k (x[..., k] - x_zero) w[k, j])) + y_zero)"""
    x_zero: int
    y_zero: int
    dtype: str = "uint8"

    def infer(self, x, w, scale, bias):
        if not x.shape or len(w.shape) != 2 or x.shape[-1] != w.shape[0]:
            raise ShapeError(f"{self.name}: (..., k) times (k, n) is wanted, not {x.shape} times {w.shape}")
        return self.requantized(self.name, x, w, scale, bias, (*x.shape[:-1], w.shape[1]))

    def forward(self, x, w, scale, bias):
        return self.finish((x.astype(INT32) - self.x_zero) @ w.astype(INT32), scale, bias)

    def flops(self, y, x, w, scale, bias): return 2 * prod(y.shape) * w.shape[0]


class QLinearConv(QLinear, name="qlinear_conv"):
    """y[n, o, i, j] = saturate(round(scale[o] (bias[o] + conv(x - x_zero, w)[n, o, i, j])) + y_zero)"""
    conv: Conv2d
    x_zero: int
    y_zero: int
    dtype: str = "uint8"
    channel = -3
    images = 0,
    gives_image = True

    def infer(self, x, w, scale, bias):
        y = self.conv.infer(Spec(x.shape, INT32), Spec(w.shape, INT32))
        return self.requantized(self.name, x, w, scale, bias, y.shape)

    def forward(self, x, w, scale, bias):
        return self.finish(self.conv.forward(x.astype(INT32) - self.x_zero, w.astype(INT32)), scale, bias)

    def flops(self, y, x, w, scale, bias): return self.conv.flops(y, x, w)


class BytePanels(Form):
    """Filters (o, c, k, l) of int8 in panels of 16 `vectors`, for images in blocks of 16 channels (of
    few channels, of 4). A panel begins with the sums of its filters, as int32, for what x_zero adds to
    each result; then come p[o', c', k, l, i, v, b] = w[16 vectors o' + v, block c' + 4 i + b, k, l].
    A matrix (k, n) is packed as n filters."""
    vectors: int
    block: int = 16

    def filters(self, shape):
        """Of weights: (o, c, k, l)."""
        return shape if len(shape) == 4 else (shape[1], shape[0], 1, 1)

    def infer(self, w):
        o, c, k, l = self.filters(w.shape)
        wide = LANES * self.vectors
        return Spec((-(-o // wide), (4 + -(-c // self.block) * self.block * k * l) * wide), w.dtype)

    def forward(self, w):
        w = w if w.ndim == 4 else w.T[:, :, None, None]
        wide = LANES * self.vectors
        w = filled(filled(w, 0, wide), 1, self.block)
        o, c, k, l = w.shape
        sums = w.sum((1, 2, 3), dtype=INT32).view(INT8).reshape(o // wide, 4 * wide)
        w = w.reshape(o // wide, wide, c // self.block, self.block // 4, 4, k, l)
        return np.concatenate([sums, w.transpose(0, 2, 5, 6, 3, 1, 4).reshape(o // wide, c * k * l * wide)], 1)

    def unpack(self, p, shape):
        o, c, k, l = self.filters(shape)
        wide = LANES * self.vectors
        p = p[:, 4 * wide:].reshape(len(p), -(-c // self.block), k, l, self.block // 4, wide, 4)
        w = p.transpose(0, 5, 1, 4, 6, 2, 3)
        w = w.reshape(w.shape[0] * wide, w.shape[2] * self.block, k, l)[:o, :c]
        return w if len(shape) == 4 else w[:, :, 0, 0].T


# fmt: on


def output_scale(x_scale, w_scale, y_scale) -> np.ndarray:
    """By which sums are multiplied, from the steps of input, weights and result: rounded as ONNX's
    runtime rounds it."""
    x_scale, w_scale, y_scale = (np.asarray(s, np.float32) for s in (x_scale, w_scale, y_scale))
    return x_scale * w_scale / y_scale
