"""Numbers of one bit: 32 signs are packed into a word, and words are multiplied by XOR.

    bit b of word i is 1 where x[32 i + b] < 0       so -0.0, 0.0 and NaN count as +1
    x . w = k - 2 popcount(x ^ w)                    of k signs: minus one wherever two of them differ

Bits beyond k are zeros in both, so that they do not differ. The scale of a filter that makes up for
the sizes that the signs have lost (XNOR-Net, Rastegari et al. 2016, section 3.1), is a number that
the result is multiplied by.
"""

from math import prod

import numpy as np

from ..core.check import whole
from ..core.op import Op
from ..core.spec import Spec, as_dtype
from ..errors import DTypeError, RangeError, ShapeError
from .conv import Pair, conv_op, window_counts
from .packed import Form, filled

BITS = 32  # of a word
WORD = np.dtype(np.uint32)

# fmt: off


class PackBits(Op):
    """y[..., i] = sum_b 2^b (x[32 i + b] < 0) along an axis, which becomes the last"""
    axis: int
    differentiable = False

    def infer(self, x):
        if x.dtype.kind not in "fi":
            raise DTypeError(f"pack_bits: of signed numbers, not of {x}")
        axes = len(x.shape)
        if not -axes <= self.axis < axes:
            raise RangeError(f"pack_bits: there is no dimension {self.axis} in {x.shape}")
        n = self.axis % axes
        return Spec((*x.shape[:n], *x.shape[n + 1:], words(x.shape[n])), WORD)

    def forward(self, x):
        negative = filled(np.moveaxis(x, self.axis, -1) < 0, x.ndim - 1, BITS)
        packed = np.packbits(negative, -1, bitorder="little")
        return np.ascontiguousarray(packed).view("<u4").astype(WORD)


class BinaryMatMul(Op, name="binary_matmul"):
    """y[..., j] = k - 2 sum_i popcount(x[..., i] ^ w[j, i]), of words that hold k signs"""
    size: int
    dtype: str = "float32"
    mac = True
    differentiable = False

    def infer(self, x, w):
        check_words("binary_matmul", x, w, self.size)
        if len(w.shape) != 2 or not x.shape:
            raise ShapeError(f"binary_matmul: words (..., k) and (n, k), not {x.shape} and {w.shape}")
        return Spec((*x.shape[:-1], w.shape[0]), as_dtype(self.dtype))

    def forward(self, x, w):
        beyond = BITS * w.shape[1] - self.size  # bits, of which each adds 1 where two are equal
        return (signs(x) @ signs(w).T - np.float32(beyond)).astype(self.dtype)

    def flops(self, y, x, w): return 2 * prod(y.shape) * self.size


class BinaryConv2d(Op):
    """y[n, i, j, o] = sum_{k, l} channels - 2 popcount(x[n, s i + d k - p, s j + d l - p] ^ w[o, k, l])

    The words of a pixel hold its channels. What lies in the padding is left out, as if the sign of
    nothing were zero: this is conv2d of the signs.
    """
    channels: int
    stride: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))  # before and after, of rows and of columns
    dilation: Pair = (1, 1)
    dtype: str = "float32"
    mac = True
    differentiable = False

    def count(self, x, w):
        """How many windows there are, below and beside one another."""
        return window_counts("binary_conv2d", x.shape[1:3], w.shape[1:3], self.stride, self.padding, self.dilation)

    def infer(self, x, w):
        check_words("binary_conv2d", x, w, self.channels)
        if len(x.shape) != 4 or len(w.shape) != 4:
            raise ShapeError(f"binary_conv2d: {x.shape} and {w.shape} must be (batch, rows, columns, "
                             "words) and (out, rows, columns, words)")
        return Spec((x.shape[0], *self.count(x, w), w.shape[0]), as_dtype(self.dtype))

    def forward(self, x, w):
        y = np.zeros(self.infer(x, w).shape, np.float32)
        product = BinaryMatMul(self.channels)
        for k, l in np.ndindex(w.shape[1:3]):
            (i, rows), (j, columns) = (
                reach(n, m, s, d * at - before) for n, m, s, d, at, (before, _) in
                zip(x.shape[1:], y.shape[1:], self.stride, self.dilation, (k, l), self.padding)
            )
            y[:, i, j] += product.forward(x[:, rows, columns], w[:, k, l])
        return y.astype(self.dtype)

    def flops(self, y, x, w): return 2 * prod(y.shape) * prod(w.shape[1:3]) * self.channels


class WordPanels(Form):
    """Rows of words (o, ...), 16 of them side by side: p[j, k, l] = word k of row 16 j + l"""

    def infer(self, w): return Spec((-(-w.shape[0] // 16), prod(w.shape[1:]), 16), w.dtype)

    def forward(self, w):
        w = filled(w.reshape(w.shape[0], prod(w.shape[1:])), 0, 16)
        return np.ascontiguousarray(w.reshape(len(w) // 16, 16, w.shape[1]).swapaxes(1, 2))

    def unpack(self, p, shape):
        return p.swapaxes(1, 2).reshape(16 * len(p), p.shape[1])[:shape[0]].reshape(shape)


# fmt: on


def words(bits) -> int:
    return -(-bits // BITS)


def signs(x):
    """+1 and -1, of all bits of the words along the last axis."""
    bits = np.unpackbits(np.ascontiguousarray(x, "<u4").view(np.uint8), axis=-1, bitorder="little")
    return 1 - 2 * bits.astype(np.float32)


def reach(n, count, stride, shift):
    """The windows i with 0 <= stride i + shift < n, and these numbers."""
    first, end = max(0, -(shift // stride)), min(count, (n - 1 - shift) // stride + 1)
    if end <= first:
        return slice(0), slice(0)
    return slice(first, end), slice(stride * first + shift, stride * (end - 1) + shift + 1, stride)


def check_words(what, x, w, bits):
    if x.dtype != WORD or w.dtype != WORD:
        raise DTypeError(f"{what}: of words of 32 signs, not of {x} and {w}: pack_bits makes them")
    if not x.shape[-1:] == w.shape[-1:] == (words(bits),):
        raise ShapeError(
            f"{what}: {x.shape} and {w.shape}: {bits} signs are {words(bits)} words, the last size"
        )


def pack_bits(x, axis=-1):
    """The signs of x along an axis, 32 to a word: uint32, in a new last dimension instead of it.

    Raises DTypeError for numbers without sign.
    """
    return PackBits(axis)(x)


def binary_matmul(x, w, k, dtype="float32"):
    """x (..., words) and w (n, words), packed from k signs -> (..., n), whole numbers -k to k."""
    return BinaryMatMul(whole("binary_matmul: k", k), dtype)(x, w)


def filter_scale(weight):
    """The mean size of the numbers of every filter (out, ...) -> (out,): the scale with which its
    signs come nearest to it (XNOR-Net, equation 6)."""
    return weight.abs().flatten(1).mean(1)


def linear(x, weight, scale=None):
    """y = (sign(x) @ sign(weight).T) * scale: x (..., in), weight (out, in), scale (out,)
    -> (..., out), with +1 for the sign of zero. It has no gradient."""
    y = binary_matmul(pack_bits(x), pack_bits(weight), weight.shape[-1])
    return y if scale is None else y * scale


def conv2d(x, weight, scale=None, stride=1, padding=0, dilation=1):
    """conv2d(sign(x), sign(weight)) * scale: x (n, in, h, w), weight (out, in, kh, kw), scale (out,)
    -> (n, out, h', w'), with +1 for the sign of zero, and zeros for padding. It has no gradient."""
    like = conv_op("binary_conv2d", stride, padding, dilation, 1)
    op = BinaryConv2d(weight.shape[1], like.stride, like.padding, like.dilation)
    y = op(pack_bits(x, 1), pack_bits(weight, 1))
    return (y if scale is None else y * scale).permute(0, 3, 1, 2)
