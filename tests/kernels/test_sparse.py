"""Products of sparse matrices in machine code, against their definitions."""

import numpy as np
import pytest
from kernel_check import agrees, carried_out

import tinyinfer as ti
from tinyinfer.core.spec import Spec, spec_of
from tinyinfer.kernels import sparse, threads
from tinyinfer.ops.sparse import CsrMatMul, CsrMatMulDense, CsrMatMulValues

RNG = np.random.RandomState(0)
A = lambda *shape: RNG.standard_normal(shape).astype(np.float32)
FIND = {
    CsrMatMul: sparse.matmul,
    CsrMatMulDense: sparse.matmul_dense,
    CsrMatMulValues: sparse.matmul_values,
}
SHAPES = (1, 1), (3, 5), (5, 3), (17, 40), (33, 16), (1, 100), (100, 1)


def entries(m, n, density=0.4, dtype="int32"):
    """(v, c, p) with empty rows, and columns in no order, some of them twice."""
    counts = RNG.binomial(n, density, m)
    counts[m // 2 :][:1] = 0
    p = np.append(0, counts.cumsum()).astype(dtype)
    return A(p[-1]), RNG.randint(0, n, p[-1]).astype(dtype), p


def steps(m, n, k, in_rows=False, **how):
    """The three ops, with arrays for them."""
    lying = lambda count: A(k, count) if in_rows else A(count, k)
    (v, c, p), x, g = entries(m, n, **how), lying(n), lying(m)
    yield CsrMatMul((m, n), in_rows), (v, c, p, x)
    yield CsrMatMulDense((m, n), in_rows), (v, c, p, g)
    yield CsrMatMulValues((m, n), in_rows), (c, p, g, x)


def kernel_for(op, *xs):
    return FIND[type(op)](op, op.infer(*map(spec_of, xs)), *map(spec_of, xs))


def check(op, *xs):
    return agrees(FIND[type(op)], op, *xs)


in_rows = pytest.mark.parametrize("in_rows", [False, True])


@in_rows
@pytest.mark.parametrize("k", [1, 2, 15, 16, 17, 32, 64, 70, 130])
def test_as_defined(k, in_rows):
    for m, n in SHAPES:
        for op, xs in steps(m, n, k, in_rows):
            check(op, *xs)


@in_rows
def test_blocks_that_do_not_fit_into_the_cache(in_rows):
    for op, xs in steps(3, 2500, 64, in_rows, density=0.1):
        check(op, *xs)


@in_rows
@pytest.mark.parametrize("k", [1, 20])
def test_wide_indices(k, in_rows):
    for op, xs in steps(9, 20, k, in_rows, dtype="int64"):
        check(op, *xs)
    for op, xs in steps(9, 20, k, in_rows, density=0.0):
        check(op, *xs)


@in_rows
@pytest.mark.parametrize("k", [1, 40])
def test_what_is_no_number(k, in_rows):
    for op, xs in steps(9, 20, k, in_rows):
        for x in xs:
            if x.dtype == np.float32:
                x.reshape(-1)[RNG.permutation(x.size)[:3]] = np.float32([np.nan, np.inf, -np.inf])
        check(op, *xs)


def test_nothing_times_infinity_is_nothing_where_no_entry_is():
    op, c, p = CsrMatMul((2, 2)), np.array([0], "int32"), np.array([0, 1, 1], "int32")
    for k in 1, 3:
        x = np.full((2, k), np.inf, np.float32)
        x[0] = 2
        check(op, A(1), c, p, x)


@in_rows
@pytest.mark.parametrize("k", [1, 64, 100])
def test_in_parts_the_same_bits(k, in_rows, monkeypatch):
    monkeypatch.setattr(threads, "GRAIN", 1e-9)
    for op, xs in steps(50, 70, k, in_rows):
        results = []
        for threads_ in 1, 3:
            monkeypatch.setattr(threads, "chosen", threads_)
            results.append(carried_out(kernel_for(op, *xs), op, *xs).tobytes())
        assert results[0] == results[1]


def test_what_lies_elsewhere_is_read():
    for op, xs in steps(9, 20, 24):
        check(op, *[x if x.dtype.kind == "i" else np.repeat(x, 2, 0)[::2] for x in xs])
        check(op, *[x if x.dtype.kind == "i" else x.T.copy().T for x in xs])
    for op, xs in steps(9, 20, 24):
        check(op, *[np.repeat(x, 2)[::2] if x.dtype.kind == "i" else x for x in xs])


LOW, HIGH = -(2**63), 2**63 - 1


@pytest.mark.parametrize(
    "c, p, words",
    [
        ([0, 3, 1], [0, 1, 3], "no column 3"),
        ([0, -1, 1], [0, 1, 3], "no column -1"),
        ([0, LOW, 1], [0, 1, 3], "no column -9"),
        ([0, HIGH, 1], [0, 1, 3], "no column 9"),
        ([0, 2, 1], [0, 1, 2], "from 0 to 2"),
        ([0, 2, 1], [1, 1, 3], "from 1 to 3"),
        ([0, 2, 1], [0, 4, 3], "falls from 4 to 3"),
        ([0, 2, 1], [0, 3, 2, 3], "falls from 3 to 2"),
        ([0, 2, 1], [0, -1, 3], "falls from 0 to -1"),
        ([0, 2, 1], [0, HIGH, LOW + 5, 3], "falls from 9"),
    ],
)
@pytest.mark.parametrize("k", [1, 5])
def test_entries_outside(k, c, p, words):
    """With the words of the definition; nothing is read or written there."""
    m, n = len(p) - 1, 3
    v, c, p, x, g = A(3), np.array(c), np.array(p), A(n, k), A(m, k)
    for op, xs in [
        (CsrMatMul((m, n)), (v, c, p, x)),
        (CsrMatMulDense((m, n)), (v, c, p, g)),
        (CsrMatMulValues((m, n)), (c, p, g, x)),
    ]:
        with pytest.raises(ti.RangeError, match=words) as defined:
            op.forward(*xs)
        with pytest.raises(ti.RangeError) as ours:
            carried_out(kernel_for(op, *xs), op, *xs)
        assert str(ours.value) == str(defined.value)


def test_what_is_left_to_the_definition():
    def kernel(m, n, k, float_="float32", index="int32"):
        c, p = (Spec((s,), np.dtype(index)) for s in (4, m + 1))
        v, x, y = (Spec(s, np.dtype(float_)) for s in ((4,), (n, k), (m, k)))
        return sparse.matmul(CsrMatMul((m, n)), y, v, c, p, x)

    assert kernel(2, 3, 4) is not None
    assert kernel(2, 3, 4, "float64") is None and kernel(2, 3, 4, index="uint8") is None
    assert kernel(0, 3, 4) is None and kernel(2, 0, 4) is None and kernel(2, 3, 0) is None
