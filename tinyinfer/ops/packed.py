"""Weights as the loops of a kernel want them to lie. To pack them is a step of the graph: where they
are constants or States it is done once, beside the folded numbers; and an op that takes them so is
that op still, by the definition here.

    conv2d(x, w)  ->  packed(x, panels(w))        op = conv2d, form = panels, shape = that of w
"""

from math import prod

import numpy as np

from ..core.op import Op
from ..core.spec import Spec
from ..errors import ShapeError
from .wrapped import Wrapped

# fmt: off


class Form(Op):
    """p = the weights w, so laid out; zeros fill what is left of the last panel"""
    differentiable = False

    def unpack(self, p, shape):
        """The weights, of this shape."""
        raise NotImplementedError

    def carry_out(self, op, x, p, shape, *rest):
        """y = op(x, w, ...), from the packed weights."""
        return op.forward(x, self.unpack(p, shape), *rest)


class Packed(Wrapped):
    """y = op(x, w, ...), where w has this shape, and is given in a form"""
    form: Form
    shape: tuple[int, ...]
    differentiable = False

    def infer(self, x, p, *rest):
        w = Spec(self.shape, p.dtype)
        if self.form.infer(w) != p:
            raise ShapeError(f"packed: weights {w} in the form {self.form} are {self.form.infer(w)}, not {p}")
        return self.op.infer(x, w, *rest)

    def forward(self, x, p, *rest): return self.form.carry_out(self.op, x, p, self.shape, *rest)
    def flops(self, y, x, p, *rest): return self.op.flops(y, x, Spec(self.shape, p.dtype), *rest)


class Columns(Form):
    """A matrix (k, n) as panels, of so many columns: p[j, k, l] = w[k, width j + l]"""
    width: int

    def infer(self, w): return Spec((-(-w.shape[1] // self.width), w.shape[0], self.width), w.dtype)

    def forward(self, w):
        w = filled(w, 1, self.width)
        k, n = w.shape
        return np.ascontiguousarray(w.reshape(k, n // self.width, self.width).swapaxes(0, 1))

    def unpack(self, p, shape):
        j, k, l = p.shape
        return p.swapaxes(0, 1).reshape(k, j * l)[:, :shape[1]]


class Rows(Form):
    """Filters (o, ...) as a matrix (o, k), `height` rows at a time, and 16 columns: p[i, j, r, l] =
    w[height i + r, 16 j + l]; so a kernel that goes through k for some rows reads what lies nearby. The
    last rows of a group overlap those before."""
    height: int
    groups: int = 1

    def infer(self, w):
        return Spec((len(self.order(w.shape)), -(-prod(w.shape[1:]) // 16), self.height, 16), w.dtype)

    def order(self, shape):
        """The rows of each block."""
        n = shape[0] // self.groups
        first = np.minimum(np.arange(0, n, self.height), n - self.height)
        blocks = np.arange(self.groups)[:, None, None] * n + first[:, None] + np.arange(self.height)
        return blocks.reshape(-1, self.height)

    def forward(self, w):
        matrix = filled(w.reshape(w.shape[0], prod(w.shape[1:])), 1, 16)
        blocks = matrix[self.order(w.shape)]
        i, r, k = blocks.shape
        return np.ascontiguousarray(blocks.reshape(i, r, k // 16, 16).swapaxes(1, 2))

    def unpack(self, p, shape):
        i, j, r, l = p.shape
        w = np.empty((shape[0], j * l), p.dtype)
        w[self.order(shape)] = p.swapaxes(1, 2).reshape(i, r, j * l)
        return w[:, :prod(shape[1:])].reshape(shape)


class Filters(Form):
    """Filters (o, c, k, l) for images in blocks of 16 channels, in panels of 16 `vectors` filters:
    p[o', c', k, l, i, v] = w[16 vectors o' + v, 16 c' + i, k, l]. Of few channels, `block` of them
    at a time, and not 16."""
    vectors: int
    block: int = 16

    def infer(self, w):
        o, c, k, l = w.shape
        wide = 16 * self.vectors
        return Spec((-(-o // wide), -(-c // self.block), k, l, self.block, wide), w.dtype)

    def forward(self, w):
        wide, block = 16 * self.vectors, self.block
        w = filled(filled(w, 0, wide), 1, block)
        o, c, k, l = w.shape
        w = w.reshape(o // wide, wide, c // block, block, k, l)
        return np.ascontiguousarray(w.transpose(0, 2, 4, 5, 3, 1))

    def unpack(self, p, shape):
        o, c, k, l, i, v = p.shape
        return p.transpose(0, 5, 1, 4, 2, 3).reshape(o * v, c * i, k, l)[:shape[0], :shape[1]]


class Turned(Form):
    """Filters as the gradient by the image needs them, where stride is 1: with (r - 1 - p) for padding
    p that is a convolution by w'[c, o, k, l] = w[o, c, r - 1 - k, r - 1 - l]; these in a form"""
    form: Form

    def infer(self, w): return self.form.infer(Spec(turned_shape(w.shape), w.dtype))
    def forward(self, w): return self.form.forward(turned(w))
    def unpack(self, p, shape): return turned(self.form.unpack(p, turned_shape(shape)))


def turned(w): return np.ascontiguousarray(w.swapaxes(0, 1)[:, :, ::-1, ::-1])
def turned_shape(shape): return shape[1], shape[0], *shape[2:]


def filled(w, axis, block):
    """With zeros after it, so that blocks are full."""
    ends = [(0, -n % block if i == axis else 0) for i, n in enumerate(w.shape)]
    return np.pad(w, ends) if -w.shape[axis] % block else w


# fmt: on
