"""Elements picked by number: by slices, by integers, by masks. Index and IndexPut are each other's
transpose: what one takes from several places, the other adds up there."""

from dataclasses import field
from math import prod

import numpy as np

from ..core.op import Op
from ..core.spec import Spec
from ..core.tensor import Tensor, as_tensor
from ..errors import ArgumentError, DTypeError, RangeError, ShapeError
from .elementwise import where
from .shape import Slice, Transpose, axis_of

# fmt: off


class Index(Op):
    """y[i...] = x[p[i...], q[i...], ...]: an index for each of the first axes, all of one shape"""
    called: str = field(default="index", compare=False, repr=False)  # by the user, for errors
    raises = True

    def infer(self, x, *indices):
        return Spec((*places(self.called, x, indices), *x.shape[len(indices):]), x.dtype)

    def forward(self, x, *indices): return x[inside(self.called, x.shape, indices)]

    def vjp(self, g, y, x, *indices):
        return IndexPut(x.shape, self.called)(g, *indices), *(None for _ in indices)


class IndexPut(Op):
    """y[p[i...], q[i...], ...] += x[i...], from zero: the transpose of Index"""
    shape: tuple[int, ...]
    called: str = field(default="index", compare=False, repr=False)

    def infer(self, x, *indices):
        shape = places(self.called, Spec(self.shape, x.dtype), indices)
        if x.shape != (wanted := (*shape, *self.shape[len(indices):])):
            raise ShapeError(f"{self.called}: {x.shape} put where {wanted} is taken")
        return Spec(self.shape, x.dtype)

    def forward(self, x, *indices):
        n = len(indices)
        indices = np.broadcast_arrays(*inside(self.called, self.shape, indices))
        flat = np.ravel_multi_index(indices, self.shape[:n]).reshape(-1)
        y = np.zeros((prod(self.shape[:n]), prod(self.shape[n:])), x.dtype)
        if y.shape[1] == 1 and x.dtype.kind == "f":
            return np.bincount(flat, x.reshape(-1), len(y)).astype(x.dtype).reshape(self.shape)
        np.add.at(y, flat, x.reshape(len(flat), y.shape[1]))
        return y.reshape(self.shape)

    def vjp(self, g, y, x, *indices):
        return Index(self.called)(g, *indices), *(None for _ in indices)

    def flops(self, y, x, *indices): return prod(x.shape)


def places(what, x, indices):
    """The common shape of the indices."""
    if bad := [i for i in indices if i.dtype.kind not in "iu"]:
        raise DTypeError(f"{what}: an index must be of integers, not a {bad[0]}")
    if len(indices) > len(x.shape):
        raise ShapeError(f"{what}: {len(indices)} indices into {x}")
    try:
        return np.broadcast_shapes(*[i.shape for i in indices])
    except ValueError:
        raise ShapeError(f"{what}: indices of shapes {', '.join(str(i.shape) for i in indices)} "
                         "do not broadcast") from None


def inside(what, shape, indices):
    """The indices, if none points outside of `shape`."""
    for axis, (n, i) in enumerate(zip(shape, indices)):
        if i.size and not (0 <= i.min() and i.max() < n):
            wrong = i.max() if i.max() >= n else i.min()
            raise RangeError(f"{what}: there is no {wrong} among the {n} of dimension {axis}: they "
                             f"are numbered 0 to {n - 1}")
    return indices


class OneHot(Op):
    """y[..., k] = 1 where x = k, else 0"""
    classes: int
    raises = True

    def infer(self, x):
        if x.dtype.kind not in "iu":
            raise DTypeError(f"one_hot: of integers, not of {x}")
        return Spec((*x.shape, self.classes), np.dtype(np.int64))

    def forward(self, x):
        inside(self.name, (self.classes,), (x,))
        return (x[..., None] == np.arange(self.classes)).astype(np.int64)


pick = Index()
# fmt: on


def getitem(x, key):
    """x[key] as NumPy has it: integers, slices, None, ..., masks, and arrays or tensors of integers.

    A view where there are only integers and slices. Raises RangeError for what is not there.
    """
    keys = spelled_out(key if isinstance(key, tuple) else (key,), x.shape)
    fancy = any(isinstance(k, Tensor | np.ndarray) for k in keys)
    ranges, shape, at, indices = [], [], [], []  # at: the axes that the indices are for
    for k in keys:
        if k is None:
            shape.append(1)
            continue
        n = x.shape[len(ranges)]
        if isinstance(k, slice):
            ranges.append(bounds(k, n))
            shape.append(len(range(*ranges[-1])))
        elif isinstance(k, int) and not fancy:
            ranges.append((from_end(k, n), from_end(k, n) + 1, 1))
        else:
            indices.append(as_tensor(from_end(k, n)))
            at.append(len(shape))
            ranges.append((0, n, 1))
            shape.append(n)
    whole = all(r == (0, n, 1) for r, n in zip(ranges, x.shape))
    x = (x if whole else Slice(tuple(ranges))(x)).reshape(shape)
    return at_indices(x, at, indices) if indices else x


def spelled_out(keys, shape) -> list:
    """One key an axis: ... and what is missing become slices, a mask the indices where it holds."""
    keys = [as_key(k) for k in keys]
    taken = sum(k.ndim if is_mask(k) else k is not None and k is not ... for k in keys)
    if taken > len(shape):
        raise RangeError(f"index: {taken} indices into a tensor of {len(shape)} dimensions")
    dots = [i for i, k in enumerate(keys) if k is ...] or [len(keys)]
    if len(dots) > 1:
        raise ArgumentError("index: only one ... can stand for the axes that are not named")
    keys[dots[0] : dots[0] + 1] = [slice(None)] * (len(shape) - taken)
    spelled, axis = [], 0
    for k in keys:
        if is_mask(k) and k.shape != shape[axis : axis + k.ndim]:
            raise ShapeError(f"index: a mask {k.shape} at axis {axis} of {shape}")
        spelled += np.nonzero(as_tensor(k).numpy()) if is_mask(k) else [k]
        axis += k.ndim if is_mask(k) else k is not None
    return spelled


def as_key(k):
    if isinstance(k, list | tuple):
        k = np.array(k) if len(k) else np.zeros(0, np.int64)
    if isinstance(k, np.integer):
        return int(k)
    known = isinstance(k, int | slice | Tensor | np.ndarray) or k is None or k is ...
    if not known or isinstance(k, bool) or is_mask(k) and k.ndim == 0:
        raise DTypeError(f"index: {k!r} is no integer, slice, None, ..., mask or array of integers")
    return k


def is_mask(k):
    return isinstance(k, Tensor | np.ndarray) and k.dtype == bool


def bounds(k, n):
    """A slice of n elements as a triple."""
    try:
        return k.indices(n)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"index: {error}") from None


def from_end(k, n):
    """Indices in which those below zero count from the end."""
    if isinstance(k, int):
        if not -n <= k < n:
            raise RangeError(f"index: there is no {k} among {n}: they are numbered 0 to {n - 1}")
        return k % n
    if k.dtype.kind not in "iu":
        raise DTypeError(f"index: of integers, not of {k.dtype}")
    k = k.astype("int64")  # in uint8 there may be no n to add
    return where(k < 0, k + n, k) if isinstance(k, Tensor) else np.where(k < 0, k + n, k)


def at_indices(x, at, indices):
    """Take `indices` along the axes `at`; what they give stands where those axes were, if they
    were neighbours, else in front."""
    rest = [i for i in range(x.ndim) if i not in at]
    order = (*at, *rest)
    y = pick(x if order == (*range(x.ndim),) else Transpose(order)(x), *indices)
    new, before = y.ndim - len(rest), at[0] if at[-1] - at[0] == len(at) - 1 else 0
    axes = (*range(new, new + before), *range(new), *range(new + before, y.ndim))
    return Transpose(axes)(y) if before else y


def take(x, index):
    """y[i...] = x.flat[index[i...]]: elements of the flattened tensor, by number."""
    return Index("take")(x.reshape(-1), from_end(as_tensor(index), x.size))


def gather(x, dim, index):
    """y[i, j, k] = x[i, index[i, j, k], k], for dim = 1: `index`, of integers, has x's rank."""
    return Index("gather")(x, *grid(x.shape, dim, index, "gather"))


def scatter_add(x, dim, index, src):
    """x, and src[i, j, k] added at [i, index[i, j, k], k], for dim = 1."""
    return x + IndexPut(x.shape, "scatter_add")(src, *grid(x.shape, dim, index, "scatter_add"))


def grid(shape, dim, index, what):
    """For each axis the place of every element of `index`, which says it for `dim` itself."""
    dim, index = axis_of(dim, len(shape), what), as_tensor(index)
    outside = any(m > n for i, (m, n) in enumerate(zip(index.shape, shape)) if i != dim)
    if index.ndim != len(shape) or outside:
        raise ShapeError(f"{what}: an index of shape {index.shape} does not fit into {shape}")
    places = np.ogrid[tuple(slice(n) for n in index.shape)]
    return [index if i == dim else p for i, p in enumerate(places)]


def one_hot(x, num_classes):
    """int64, 1 at [..., x[...]] of a new last dimension. Raises RangeError for other numbers."""
    if num_classes < 1:
        raise ArgumentError(f"one_hot: {num_classes} classes: there is at least one")
    return OneHot(num_classes)(x)
