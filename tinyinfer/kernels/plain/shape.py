"""The same numbers, arranged otherwise: copies between views."""

import numpy as np

from ...ops import shape as op
from ..kernel import Kernel, kernel


@kernel(op.Reshape)
def reshape(op, y, x):
    return Kernel("copy", lambda y, x: np.copyto(y.reshape(x.shape), x))


@kernel(op.Transpose)
def transpose(op, y, x):
    return Kernel("copy", lambda y, x: np.copyto(y, x.transpose(op.axes)))


@kernel(op.BroadcastTo)
def broadcast_to(op, y, x):
    return Kernel("copy", lambda y, x: np.copyto(y, x))


@kernel(op.Slice)
def slice_(slice, y, x):
    place = op.slices(slice.ranges)
    return Kernel("copy", lambda y, x: np.copyto(y, x[place]))


@kernel(op.PutSlice)
def put_slice(put, y, x):
    return into(op.slices(put.ranges), 0)


@kernel(op.Pad)
def pad(op, y, x):
    return into(tuple(slice(a, a + n) for n, (a, _) in zip(x.shape, op.widths)), op.value)


def into(place, value) -> Kernel:
    """y = x in this place, and `value` elsewhere."""

    def run(y, x):
        y.fill(value)
        np.copyto(y[place], x)

    return Kernel("copy", run)


@kernel(op.Concat)
def concat(op, y, *xs):
    return Kernel("copy", lambda y, *xs: np.concatenate(xs, op.axis, y))
