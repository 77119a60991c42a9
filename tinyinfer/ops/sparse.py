"""Matrices of which most numbers are zero: only the others are kept, as plain tensors.

    COO    values (z,), indices (2, z)              the row and the column of every entry, in any order
    CSR    values (z,), indices (z,), indptr (m+1,) the columns, row by row; row i: indptr[i] to [i+1]

An entry may be zero, and several may stand at one place: they add up. A place without entry has no
part in anything, so nothing times infinity is nothing there.

Multiply A x by g and sum: sum_p v[p] g[row p] . x[column p], a number that is linear in v, in g and
in x. Its derivatives by them are the three ops below; so they are closed under differentiation.
"""

from itertools import pairwise
from math import prod
from typing import NamedTuple

import numpy as np

from ..core.op import Op
from ..core.spec import Spec, promote
from ..core.tensor import Tensor
from ..errors import DTypeError, RangeError, ShapeError
from .conv import by
from .index import IndexPut, pick
from .shape import stack

INT32, INT64 = np.dtype(np.int32), np.dtype(np.int64)
Size = tuple[int, int]

# fmt: off


class Trilinear(Op):
    """A sparse matrix A (m, n), and dense ones (m, k) and (n, k); or, in rows, (k, m) and (k, n)"""
    shape: Size
    in_rows: bool = False
    mac = broadcasts = raises = True  # the second so that the engine casts gradients back

    def lines(self, x): return x.T if self.in_rows else x
    def lying(self, count, k): return (k, count) if self.in_rows else (count, k)

    def across(self, x, axis) -> int:
        """k, of a dense matrix that has as many lines as A has rows (axis 0) or columns (1)"""
        count = self.shape[axis]
        k = x.shape[0 if self.in_rows else -1] if x.shape else 0
        if x.shape != self.lying(count, k):
            raise ShapeError(f"{self.name}: a matrix {x.shape} beside the sparse {self.shape}: one of "
                             f"{by(self.lying(count, 'k'))} is wanted")
        return k

    def entries(self, c, p) -> int:
        """How many there are."""
        if bad := [i for i in (c, p) if i.dtype.kind not in "iu"]:
            raise DTypeError(f"{self.name}: indices and indptr are of integers, not {bad[0]}")
        if p.shape != (self.shape[0] + 1,):
            raise ShapeError(f"{self.name}: an indptr {p.shape} for a matrix {self.shape}: it must be "
                             f"({self.shape[0] + 1},), one number more than there are rows")
        if len(c.shape) != 1:
            raise ShapeError(f"{self.name}: indices {c.shape}: they must be (z,), for z entries")
        return c.shape[0]

    def beside(self, v, c):
        if v.shape != c.shape:
            raise ShapeError(f"{self.name}: values {v.shape}, indices {c.shape}: every value has one column")

    def rows(self, c, p):
        """Pairs of i and the slice of the entries of row i."""
        check_columns(self.name, self.shape, c)
        check_starts(self.name, p, len(c))
        return ((i, slice(a, b)) for i, (a, b) in enumerate(pairwise(p.tolist())))

    def like(self, op): return op(self.shape, self.in_rows)


class CsrMatMul(Trilinear, name="csr_matmul"):
    """y[i, j] = sum_p v[p] x[c[p], j], over the entries p of row i"""

    def infer(self, v, c, p, x):
        self.entries(c, p), self.beside(v, c)
        return Spec(self.lying(self.shape[0], self.across(x, 1)), promote(v.dtype, x.dtype, self.name))

    def forward(self, v, c, p, x):
        y = np.zeros(self.lying(self.shape[0], self.across(x, 1)), np.result_type(v, x))
        for i, row in self.rows(c, p):
            self.lines(y)[i] = v[row] @ self.lines(x)[c[row]]
        return y

    def vjp(self, g, y, v, c, p, x):
        return (lambda: self.like(CsrMatMulValues)(c, p, g, x)), None, None, (
                lambda: self.like(CsrMatMulDense)(v, c, p, g))

    def flops(self, y, v, c, p, x): return 2 * prod(v.shape) * self.across(x, 1)


class CsrMatMulDense(Trilinear, name="csr_matmul_dense"):
    """x[c[p], j] += v[p] g[i, j], for the entries p of row i: a product with A.T"""

    def infer(self, v, c, p, g):
        self.entries(c, p), self.beside(v, c)
        return Spec(self.lying(self.shape[1], self.across(g, 0)), promote(v.dtype, g.dtype, self.name))

    def forward(self, v, c, p, g):
        x = np.zeros(self.lying(self.shape[1], self.across(g, 0)), np.result_type(v, g))
        for i, row in self.rows(c, p):
            np.add.at(self.lines(x), c[row], np.multiply.outer(v[row], self.lines(g)[i]))
        return x

    def vjp(self, u, x, v, c, p, g):
        return (lambda: self.like(CsrMatMulValues)(c, p, g, u)), None, None, (
                lambda: self.like(CsrMatMul)(v, c, p, u))

    def flops(self, x, v, c, p, g): return 2 * prod(v.shape) * self.across(g, 0)


class CsrMatMulValues(Trilinear, name="csr_matmul_values"):
    """v[p] = sum_j g[i, j] x[c[p], j], for the entries p of row i"""

    def infer(self, c, p, g, x):
        if self.across(g, 0) != self.across(x, 1):
            raise ShapeError(f"{self.name}: {g.shape} and {x.shape} are not equally many vectors")
        return Spec((self.entries(c, p),), promote(g.dtype, x.dtype, self.name))

    def forward(self, c, p, g, x):
        v = np.zeros(len(c), np.result_type(g, x))
        for i, row in self.rows(c, p):
            v[row] = self.lines(x)[c[row]] @ self.lines(g)[i]
        return v

    def vjp(self, u, v, c, p, g, x):
        return None, None, (lambda: self.like(CsrMatMul)(u, c, p, x)), (
                lambda: self.like(CsrMatMulDense)(u, c, p, g))

    def flops(self, v, c, p, g, x): return 2 * prod(v.shape) * self.across(x, 1)


def check_columns(what, shape, c):
    if c.size and not (0 <= c.min() and c.max() < shape[1]):
        wrong = c.max() if c.max() >= shape[1] else c.min()
        raise RangeError(f"{what}: there is no column {wrong} in a matrix {shape}: they are numbered "
                         f"0 to {shape[1] - 1}")


def check_starts(what, p, z):
    if p[0] != 0 or p[-1] != z:
        raise RangeError(f"{what}: indptr goes from {p[0]} to {p[-1]}: it must go from 0 to {z}, the "
                         "number of entries")
    if (falls := p[1:] < p[:-1]).any():
        i = falls.argmax()
        raise RangeError(f"{what}: indptr falls from {p[i]} to {p[i + 1]} at row {i}: a row cannot end "
                         "before it begins")


# What is known of the entries, otherwise written:


class CooOrder(Op):
    """The numbers of the entries, row by row, and in a row by columns; of equal ones as they stand"""
    shape: Size
    raises = True

    def infer(self, indices):
        if indices.dtype.kind not in "iu":
            raise DTypeError(f"{self.name}: indices are of integers, not {indices}")
        if len(indices.shape) != 2 or indices.shape[0] != 2:
            raise ShapeError(f"{self.name}: indices {indices.shape}: they must be (2, z), the row and "
                             "the column of every entry")
        return Spec(indices.shape[1:], INT64)

    def forward(self, indices):
        rows, columns = indices
        check_rows(self.name, self.shape[0], rows)
        check_columns(self.name, self.shape, columns)
        return np.lexsort((columns, rows))


class RowStarts(Op):
    """p[i] = how many entries stand before row i, from the row of every entry: indptr"""
    count: int
    raises = True

    def infer(self, rows):
        if rows.dtype.kind not in "iu" or len(rows.shape) != 1:
            raise DTypeError(f"{self.name}: rows are integers (z,), one for every entry, not {rows}")
        return Spec((self.count + 1,), INT32)

    def forward(self, rows):
        check_rows(self.name, self.count, rows)
        counts = np.bincount(rows.astype(INT64), minlength=self.count)
        return np.append(0, counts.cumsum()).astype(INT32)


class EntryRows(Op):
    """The row of every entry, from indptr (and the columns, which tell how many there are)"""
    raises = True

    def infer(self, p, c):
        if p.dtype.kind not in "iu" or len(p.shape) != 1 or not p.shape[0]:
            raise DTypeError(f"{self.name}: indptr is integers (m + 1,), not {p}")
        return Spec(c.shape, INT32)

    def forward(self, p, c):
        check_starts(self.name, p, len(c))
        return np.repeat(np.arange(len(p) - 1, dtype=INT32), np.diff(p.astype(INT64)))


def check_rows(what, count, rows):
    if rows.size and not (0 <= rows.min() and rows.max() < count):
        wrong = rows.max() if rows.max() >= count else rows.min()
        raise RangeError(f"{what}: there is no row {wrong} among {count}: they are numbered 0 to "
                         f"{count - 1}")


# fmt: on
entry_rows = EntryRows()


class Coo(NamedTuple):
    """A sparse matrix by coordinates; `indices` are integers, the rows and the columns."""

    values: Tensor  # (z,)
    indices: Tensor  # (2, z)
    shape: Size

    def to_dense(self) -> Tensor:
        return IndexPut(self.shape, "to_dense")(self.values, *self.indices)

    def to_csr(self) -> "Csr":
        """Sorted; entries at one place stay apart."""
        order = CooOrder(self.shape)(self.indices)
        rows, columns = self.indices
        starts = RowStarts(self.shape[0])(rows)
        return Csr(pick(self.values, order), pick(columns, order), starts, self.shape)

    @property
    def T(self) -> "Coo":
        return Coo(self.values, self.indices.flip(0), self.shape[::-1])

    def __matmul__(self, x) -> Tensor:
        """As CSR. Where the indices are constants of a graph, to convert them is done once."""
        return self.to_csr() @ x


class Csr(NamedTuple):
    """A sparse matrix by rows."""

    values: Tensor  # (z,)
    indices: Tensor  # (z,), columns
    indptr: Tensor  # (m + 1,)
    shape: Size

    def to_dense(self) -> Tensor:
        rows = entry_rows(self.indptr, self.indices)
        return IndexPut(self.shape, "to_dense")(self.values, rows, self.indices)

    def to_coo(self) -> Coo:
        rows = entry_rows(self.indptr, self.indices)
        return Coo(self.values, stack([rows, self.indices.astype(rows.dtype)]), self.shape)

    @property
    def T(self) -> "Csr":
        return self.to_coo().T.to_csr()

    def __matmul__(self, x) -> Tensor:
        """A (m, n) @ x (n, k) -> (m, k), or x (n,) -> (m,)."""
        y = CsrMatMul(self.shape)(*self[:3], x if x.ndim != 1 else x.unsqueeze(-1))
        return y if x.ndim != 1 else y.squeeze(-1)


def coo(x) -> Coo:
    """The numbers of a matrix x that are not zero; a gradient arrives where they stand."""
    if x.ndim != 2:
        raise ShapeError(f"coo: of a matrix, not of {x.shape}")
    rows, columns = (i.astype(INT32) for i in np.nonzero(x.numpy()))
    return Coo(pick(x, rows, columns), stack([rows, columns]), x.shape)


def csr(x) -> Csr:
    """The numbers of a matrix x that are not zero, row by row."""
    values, (rows, columns), shape = coo(x)
    return Csr(values, columns, RowStarts(shape[0])(rows), shape)


def linear(x, weight: Csr, bias=None) -> Tensor:
    """y = x @ weight.T + bias: x (..., in), weight (out, in), bias (out,) -> (..., out).

    Raises ShapeError if the sizes do not fit, RangeError for entries outside of the weight.
    """
    m, n = weight.shape
    if x.ndim == 0 or x.shape[-1] != n:
        raise ShapeError(
            f"linear: x is {x.shape}; the sparse weight, {weight.shape}, wants {n} as its last size"
        )
    if bias is not None and bias.shape != (m,):
        raise ShapeError(f"linear: the bias {bias.shape} must be ({m},), as the weight gives")
    rows = x if x.ndim == 2 else x.reshape(prod(x.shape[:-1]), n)
    y = CsrMatMul(weight.shape, in_rows=True)(*weight[:3], rows)
    y = y if bias is None else y + bias
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], m)
