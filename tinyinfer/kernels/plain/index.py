"""Elements picked by number: several indices become one, into the flattened array."""

from math import prod

import numpy as np

from ...core.spec import Spec
from ...ops.index import Index, IndexPut, OneHot, inside
from ..kernel import Kernel, kernel

INT64, FLOAT64 = np.dtype(np.int64), np.dtype(np.float64)


def flat_spec(indices) -> Spec:
    return Spec(np.broadcast_shapes(*[i.shape for i in indices]), INT64)


def flatten(what, shape, indices, flat):
    """flat = (i shape[1] + j) shape[2] + k, ..., if none points outside of `shape`"""
    inside(what, shape, indices)
    np.copyto(flat, indices[0], casting="unsafe")
    for n, i in zip(shape[1:], indices[1:]):
        np.multiply(flat, n, flat)
        np.add(flat, i, flat, dtype=INT64, casting="unsafe")


@kernel(Index)
def index(op, y, x, *indices):
    n = len(indices)
    rows = (prod(x.shape[:n]), *x.shape[n:])

    def run(y, x, *rest):
        *indices, flat = rest
        if not x.flags.c_contiguous:  # take would copy all of it
            return np.copyto(y, op.forward(x, *indices))
        flatten(op.called, x.shape, indices, flat)
        x.reshape(rows).take(flat, 0, y, "clip")

    return Kernel("take", run, (flat_spec(indices),)) if n else None


@kernel(IndexPut)
def index_put(op, y, x, *indices):
    n = len(indices)
    if not n:
        return None
    flat, rows = flat_spec(indices), (prod(y.shape[:n]), prod(y.shape[n:]))
    if rows[1] == 1 and y.floating:
        return index_put_numbers(op, y, x, flat)
    columns = prod(flat.shape), rows[1]

    def run(y, x, *rest):
        *indices, flat = rest
        flatten(op.called, y.shape, indices, flat)
        y.fill(0)
        np.add.at(y.reshape(rows), flat.reshape(-1), x.reshape(columns))

    return Kernel("add.at", run, (flat,))


def index_put_numbers(op, y, x, flat):
    """Added up in float64, as bincount does."""

    def run(y, x, *rest):
        *indices, flat, sums, numbers = rest
        flatten(op.called, y.shape, indices, flat)
        sums.fill(0)
        np.copyto(numbers.reshape(x.shape), x)
        np.add.at(sums, flat.reshape(-1), numbers)
        np.copyto(y.reshape(-1), sums, casting="same_kind")

    sums, numbers = (Spec((prod(s.shape),), FLOAT64) for s in (y, x))
    return Kernel("add.at", run, (flat, sums, numbers))


@kernel(OneHot)
def one_hot(op, y, x):
    numbers = np.arange(op.classes)

    def run(y, x):
        inside(op.name, (op.classes,), (x,))
        np.equal(x[..., None], numbers, y)

    return Kernel("ufunc", run)
