"""Products of matrices against NumPy's, of all sizes, and as they lie."""

import numpy as np
import pytest
from kernel_check import agrees, poisoned

from tinyinfer.core.spec import spec_of
from tinyinfer.kernels import gemm, threads
from tinyinfer.ops.linalg import MatMul
from tinyinfer.ops.packed import Columns, Packed

rng = np.random.default_rng(0)
FORM = Columns(gemm.WIDE)


def normal(*shape):
    return rng.standard_normal(shape).astype("f4")


def lying(x, how):
    """The same matrices in another order in memory."""
    if how == "columns":
        return np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)
    return np.repeat(x, 2, axis=-1)[..., ::2] if how == "spaced" else x


def packed_agrees(a, b, **options):
    op = Packed(MatMul(), FORM, b.shape)
    return agrees(gemm.find_packed, op, a, FORM.forward(b), **options)


SIZES = [(m, k, n) for m in (1, 2, 3, 8, 17) for k in (1, 5, 16, 17) for n in (1, 3, 16, 17, 33)]


@pytest.mark.parametrize("m, k, n", [*SIZES, (64, 400, 120), (33, 64, 70), (5, 300, 9000)])
def test_sizes(m, k, n):
    a, b = normal(m, k), normal(k, n)
    agrees(gemm.find, MatMul(), a, b)
    packed_agrees(a, b)


@pytest.mark.parametrize("a", ["rows", "columns", "spaced"])
@pytest.mark.parametrize("b", ["rows", "columns", "spaced"])
@pytest.mark.parametrize("m, k, n", [(1, 37, 50), (50, 37, 1), (17, 35, 41), (100, 70, 90)])
def test_as_they_lie(a, b, m, k, n):
    agrees(gemm.find, MatMul(), lying(normal(m, k), a), lying(normal(k, n), b))


@pytest.mark.parametrize(
    "m, k, n", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (1, 0, 4), (1, 4, 0), (4, 0, 1)]
)
def test_nothing(m, k, n):
    agrees(gemm.find, MatMul(), normal(m, k), normal(k, n))


@pytest.mark.parametrize("shapes", [
    ((3, 4, 5), (5, 6)), ((4, 5), (3, 5, 6)), ((3, 1, 4, 5), (2, 5, 6)), ((0, 4, 5), (5, 6)),
    ((3, 1, 5), (3, 5, 6)), ((3, 4, 5), (3, 5, 1)), ((2, 20, 30), (2, 30, 40)),
])  # fmt: skip
@pytest.mark.parametrize("how", ["rows", "columns"])
def test_batches(shapes, how):
    a, b = (lying(normal(*s), how) for s in shapes)
    agrees(gemm.find, MatMul(), a, b)


def test_a_batch_of_rows_by_a_packed_matrix():
    packed_agrees(normal(2, 3, 20), normal(20, 40))


def test_many_blocks_of_rows(monkeypatch):
    monkeypatch.setattr(gemm, "CACHE", 1 << 12)
    for how in "rows", "columns":
        agrees(gemm.find, MatMul(), lying(normal(65, 33), how), lying(normal(33, 100), how))
    packed_agrees(normal(65, 33), normal(33, 100))


@pytest.mark.parametrize("shapes", [((40, 20), (20, 70)), ((17, 9), (9, 300)), ((5, 3, 9), (5, 9, 11)),
                                    ((1, 70), (70, 300)), ((300, 70), (70, 1))])  # fmt: skip
def test_the_same_bits_in_parts(monkeypatch, shapes):
    a, b = (normal(*s) for s in shapes)
    op = MatMul()
    y = op.infer(spec_of(a), spec_of(b))

    def product(parts):
        monkeypatch.setattr(threads, "parts", lambda flops, most: min(parts, most))
        k = gemm.find(op, y, spec_of(a), spec_of(b))
        out, *scratch = map(poisoned, (y, *k.scratch))
        k.run(out, a, b, *scratch)
        return out.tobytes()

    assert product(1) == product(2) == product(3)


def test_large_ones_are_split(monkeypatch):
    monkeypatch.setattr(threads, "chosen", 2)
    k = agrees(gemm.find, MatMul(), normal(200, 200), normal(200, 300))
    assert k.scratch[0].shape[0] == 2


@pytest.mark.parametrize("m, n", [(1, 40), (17, 40)])
def test_what_is_no_number(m, n):
    a, b = normal(m, 20), normal(20, n)
    a[0, 3], b[5, 7], b[6, 8], a[m - 1, 19] = np.nan, np.inf, np.nan, -np.inf
    agrees(gemm.find, MatMul(), a, b)
    packed_agrees(a, b)


@pytest.mark.parametrize("bias, shape", [("columns", (1, 70)), ("rows", (19, 1))])
@pytest.mark.parametrize("m", [1, 19])
def test_bias_and_activation(bias, shape, m):
    a, b, c = normal(m, 30), normal(30, 70), normal(*shape)[:m]
    y = spec_of(normal(m, 70))
    k = gemm.product_kernel(y, spec_of(a), spec_of(b), bias, "relu")
    out, room = poisoned(y), poisoned(k.scratch[0])
    k.run(out, a, b, c.reshape(-1), room)
    wanted = np.maximum(a.astype("f8") @ b + c, 0)
    assert np.abs(out - wanted).max() < 2e-6 * np.abs(wanted).max()


def test_of_other_types_there_is_none():
    a = spec_of(normal(3, 3).astype("f8"))
    assert gemm.find(MatMul(), a, a, a) is None


def test_a_form_for_matrices():
    x, w, batch = (spec_of(normal(*s)) for s in [(2, 3), (3, 4), (2, 3, 4)])
    assert [*gemm.panels(MatMul(), None, x, w)] == [FORM]
    assert [*gemm.panels(MatMul(), None, x, batch)] == []
