"""Sparse matrices against dense ones."""

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer.ops import sparse

RNG = np.random.RandomState(0)
A = lambda *shape: np.asarray(RNG.standard_normal(shape))


def holes(m, n, density=0.4):
    """Also with rows and columns in which there is nothing."""
    x = A(m, n) * (RNG.uniform(size=(m, n)) < density)
    x[m // 2 :][:1] = 0
    x[:, n // 3 :][:, :1] = 0
    return x


SHAPES = (4, 6), (7, 1), (1, 5), (0, 3), (3, 0), (0, 0), (5, 5)
forms = pytest.mark.parametrize("form", [sparse.coo, sparse.csr])
shapes = pytest.mark.parametrize("shape", SHAPES)


@shapes
@forms
def test_there_and_back(form, shape):
    x = holes(*shape)
    made = form(ti.tensor(x))
    assert made.values.size == np.count_nonzero(x)
    assert np.array_equal(made.to_dense().numpy(), x)
    assert np.array_equal(made.T.to_dense().numpy(), x.T) and made.T.shape == shape[::-1]


@shapes
@forms
def test_times_a_dense_matrix(form, shape):
    x = holes(*shape)
    for other in A(shape[1], 3), A(shape[1], 0), A(shape[1]):
        assert np.allclose((form(ti.tensor(x)) @ ti.tensor(other)).numpy(), x @ other)


@shapes
def test_of_one_form_the_other(shape):
    x = ti.tensor(holes(*shape))
    rows, coordinates = sparse.csr(x), sparse.coo(x)
    for ours, theirs in (rows, coordinates.to_csr()), (rows.to_coo(), coordinates):
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_entries_in_any_order_and_several_at_a_place():
    values, indices = A(6), np.array([[2, 0, 2, 0, 1, 2], [1, 3, 1, 0, 2, 0]])
    dense = np.zeros((3, 4))
    np.add.at(dense, tuple(indices), values)
    for dtype in "int64", "int32", "uint8", "uint64":
        made = sparse.Coo(ti.tensor(values), ti.tensor(indices.astype(dtype)), (3, 4))
        x = ti.tensor(A(4, 2))
        assert np.allclose(made.to_dense().numpy(), dense)
        assert np.allclose(made.to_csr().to_dense().numpy(), dense)
        assert np.allclose((made @ x).numpy(), dense @ x.numpy())
        assert np.allclose((made.T @ ti.ones(3)).numpy(), dense.sum(0), 1e-6)
    assert made.to_csr().values.size == 6


@pytest.mark.parametrize("batch", [(), (3,), (2, 5), (0,), (2, 0)])
def test_linear(batch):
    w, x, bias = holes(4, 6), A(*batch, 6), A(4)
    for b in None, ti.tensor(bias):
        y = sparse.linear(ti.tensor(x), sparse.csr(ti.tensor(w)), b)
        assert np.allclose(y.numpy(), x @ w.T + (0 if b is None else bias))


@forms
def test_gradients(form):
    made = form(ti.tensor(holes(4, 6)))

    def times(values, x):
        return made._replace(values=values) @ x

    def layer(values, x, bias):
        some = made._replace(values=values)
        return sparse.linear(x, some.to_csr() if form is sparse.coo else some, bias)

    assert ti.testing.gradcheck(times, [made.values, A(6, 3)])
    assert ti.testing.gradcheck(times, [made.values, A(6)])
    assert ti.testing.gradcheck(layer, [made.values, A(2, 3, 6), A(4)])
    assert ti.testing.gradcheck(lambda v: made._replace(values=v).to_dense(), [made.values])
    assert ti.testing.gradcheck(lambda v: made._replace(values=v).T.to_dense(), [made.values])


@forms
def test_the_gradient_arrives_where_the_numbers_stand(form):
    x = holes(4, 6)
    dense = ti.tensor(x, requires_grad=True)
    (form(dense) @ ti.ones(6, dtype="float64")).sum().backward()
    assert np.array_equal(dense.grad.numpy(), x != 0)


def test_where_nothing_stands_infinity_is_not_met():
    made = sparse.csr(ti.tensor([[1.0, 0.0], [0.0, 2.0]]))
    zero = made._replace(values=ti.tensor([0.0, 2.0]))
    with np.errstate(invalid="ignore"):
        assert (made @ ti.tensor([np.inf, 1.0])).tolist() == [np.inf, 2.0]
        assert np.isnan((made @ ti.tensor([np.nan, 1.0])).numpy()).tolist() == [True, False]
        assert np.isnan((zero @ ti.tensor([np.inf, 1.0])).numpy()).tolist() == [True, False]


def test_not_a_number_is_not_zero():
    assert sparse.csr(ti.tensor([[np.nan, -0.0, 0.0]])).indices.tolist() == [0]


def test_indices_without_a_value():
    """They are checked when they have one."""
    made = sparse.csr(ti.tensor(holes(4, 6)))
    graph = ti.trace(lambda *entries: sparse.Csr(*entries, (4, 6)).T @ ti.ones(4), *made[:3])
    assert np.allclose(graph.run(*made[:3]), made.to_dense().numpy().sum(0))
    with pytest.raises(ti.RangeError, match="coo_order: there is no row .. among 6"):
        graph.run(made.values.numpy(), made.indices.numpy() + 10, made.indptr.numpy())


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda w: sparse.linear(ti.ones(2, 5), w), "wants 6 as its last size"),
        (lambda w: sparse.linear(ti.ones(()), w), "wants 6 as its last size"),
        (lambda w: sparse.linear(ti.ones(2, 6), w, ti.ones(6)), r"the bias \(6,\) must be \(4,\)"),
        (lambda w: w @ ti.ones(4, 6), r"beside the sparse \(4, 6\): one of 6 x k is wanted"),
        (lambda w: sparse.csr(ti.ones(3)), r"of a matrix, not of \(3,\)"),
    ],
)
def test_refused(call, words):
    with pytest.raises(ti.ShapeError, match=words):
        call(sparse.csr(ti.tensor(holes(4, 6), dtype="float32")))
