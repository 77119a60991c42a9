"""The same numbers, arranged otherwise: copies between views."""

import numpy as np

from ...ops import shape as ops
from ..kernel import Kernel, kernel


@kernel(ops.Reshape)
def reshape(op, y, x):
    return Kernel("copy", lambda y, x: np.copyto(y.reshape(x.shape), x))


@kernel(ops.Transpose)
def transpose(op, y, x):
    return Kernel("copy", lambda y, x: np.copyto(y, x.transpose(op.axes)))


@kernel(ops.BroadcastTo)
def broadcast_to(op, y, x):
    return Kernel("copy", lambda y, x: np.copyto(y, x))


@kernel(ops.Slice)
def slice_(op, y, x):
    place = ops.slices(op.ranges)
    return Kernel("copy", lambda y, x: np.copyto(y, x[place]))


@kernel(ops.PutSlice)
def put_slice(op, y, x):
    return into(ops.slices(op.ranges), 0)


@kernel(ops.Pad)
def pad(op, y, x):
    return into(tuple(slice(a, a + n) for n, (a, _) in zip(x.shape, op.widths)), op.value)


def into(place, value) -> Kernel:
    """y = x in this place, and `value` elsewhere."""

    def run(y, x):
        y.fill(value)
        np.copyto(y[place], x)

    return Kernel("copy", run)


@kernel(ops.Concat)
def concat(op, y, *xs):
    return Kernel("copy", lambda y, *xs: np.concatenate(xs, op.axis, y))
