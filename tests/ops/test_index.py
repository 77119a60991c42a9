"""x[key] for any key is what NumPy says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import tinyinfer as ti

X = np.arange(4 * 1 * 3 * 5, dtype=np.float64).reshape(4, 1, 3, 5)
steady = settings(max_examples=300, deadline=None, derandomize=True, database=None)


@st.composite
def keys(draw, shape=X.shape):
    """A tuple of integers, slices, None, at most one ..., and arrays or masks that fit together."""
    one = draw(st.sampled_from([(), (1,), (2,), (2, 1)]))
    key, axis, dots = [], 0, False
    while axis < len(shape) and draw(st.booleans() | st.just(True)):
        n = shape[axis]
        kind = draw(st.sampled_from(["int", "slice", "none", "array", "dots", "mask"]))
        if kind == "dots" and not dots:
            axis += draw(st.integers(0, len(shape) - axis))
            key.append(...)
            dots = True
        elif kind == "int":
            key.append(draw(st.integers(-n, n - 1)))
        elif kind == "slice":
            ends = st.none() | st.integers(-n - 2, n + 2)
            step = st.none() | st.integers(-3, 3).filter(bool)
            key.append(slice(draw(ends), draw(ends), draw(step)))
        elif kind == "array":
            dtype = draw(st.sampled_from([np.int64, np.int8]))
            key.append(draw(arrays.arrays(dtype, one, elements=st.integers(-n, n - 1))))
        elif kind == "mask":
            key.append(exactly(draw, n, one))
        elif kind == "none":
            key.append(None)
        axis += kind in ("int", "slice", "array", "mask")
    if dots:  # the axes that come after ... are counted from the end: make sizes agree
        fits = sum(k is not None and k is not ... for k in key) <= len(shape)
        key = key if fits else key[: len(shape)]
    return tuple(key)


def exactly(draw, n, shape):
    """A mask that holds once, so that it fits beside any array."""
    mask = np.zeros(n, bool)
    mask[draw(st.integers(0, n - 1))] = True
    return mask


def like_numpy(x, key, wrap=lambda k: k):
    """Both refuse, or both give the same."""
    try:
        wanted = x[key]
    except IndexError:
        with pytest.raises(ti.TinyinferError):
            ti.tensor(x)[tuple(map(wrap, key))]
        return
    y = ti.tensor(x)[tuple(map(wrap, key))]
    assert y.shape == np.shape(wanted) and np.array_equal(y.numpy(), wanted), key


@steady
@given(keys())
def test_any_key(key):
    like_numpy(X, key)


@steady
@given(keys())
def test_arrays_or_tensors(key):
    like_numpy(X, key, lambda k: ti.tensor(k) if isinstance(k, np.ndarray) else k)


@steady
@given(arrays.basic_indices(X.shape, allow_newaxis=True))
def test_integers_and_slices(key):
    like_numpy(X, key if isinstance(key, tuple) else (key,))


@steady
@given(arrays.arrays(bool, st.sampled_from([(4,), (4, 1), (4, 1, 3), X.shape, (1,), (3,), (4, 3)])))
def test_masks(mask):
    like_numpy(X, (mask,))


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(keys())
def test_the_gradient_adds_up_what_was_taken(key):
    try:
        X[key]
    except IndexError:
        return
    x = ti.tensor(X, requires_grad=True)
    x[key].sum().backward() if x[key].requires_grad else None
    wanted = np.zeros_like(X)
    np.add.at(wanted, key, 1)
    assert np.array_equal(x.grad.numpy(), wanted)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(keys())
def test_traced(key):
    try:
        wanted = X[key]
    except IndexError:
        return
    graph = ti.trace(lambda x: x[key], ti.tensor(X)).verify()
    assert np.array_equal(graph.run(X), wanted)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "uint64", "int64"])
def test_indices_of_any_integer_count_from_the_end_of_a_long_axis(dtype):
    x, i = np.arange(300.0), np.array([0, 7, 100], dtype)
    assert np.array_equal(ti.tensor(x)[ti.tensor(i)].numpy(), x[i])
    assert np.array_equal(ti.tensor(x)[i].numpy(), x[i])
    assert np.array_equal(ti.take(ti.tensor(x), i).numpy(), x[i])
    assert np.array_equal(ti.gather(ti.tensor(x), 0, ti.tensor(i)).numpy(), x[i])
    added = ti.scatter_add(ti.tensor(x), 0, ti.tensor(i), ti.ones(3, dtype="float64"))
    assert added.numpy().sum() == x.sum() + 3


def test_the_same_element_taken_twice_has_twice_the_gradient():
    x = ti.tensor([1.0, 2.0, 3.0], requires_grad=True)
    x[[0, 0, 2]].sum().backward()
    assert x.grad.tolist() == [2, 0, 1]
    table = ti.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    ti.embedding(ti.tensor([1, 1, 1]), table).sum().backward()
    assert table.grad.tolist() == [[0, 0], [3, 3]]


def test_slices_are_views_and_keep_the_gradient():
    x = ti.tensor(X)
    assert np.shares_memory(x[1:, :, ::-1].numpy(), x.numpy())
    with pytest.raises(ti.ReadOnlyError):
        x[0] = 1


@pytest.mark.parametrize("key", [True, np.True_, "a", 1.5, {1: 2}, np.array(True), [0.5]])
def test_what_is_no_index(key):
    with pytest.raises(ti.DTypeError, match="index: "):
        ti.tensor(X)[key]


@pytest.mark.parametrize(
    "key, words",
    [
        (np.ones(3, bool), r"a mask \(3,\) at axis 0 of \(4, 1, 3, 5\)"),
        ((0, np.ones((1, 2), bool)), r"a mask \(1, 2\) at axis 1"),
        ((..., np.ones(4, bool)), r"a mask \(4,\) at axis 3"),
        (slice(None, None, 0), "slice step cannot be zero"),
        ((np.array([0, 1]), 0, np.array([0, 1, 2])), "do not broadcast"),
        (4, "there is no 4 among 4: they are numbered 0 to 3"),
        (np.array([4]), "there is no 4 among the 4 of dimension 0"),
        (np.array([-5]), "there is no -1"),
    ],
)
def test_what_does_not_fit(key, words):
    with pytest.raises(ti.TinyinferError, match=words):
        ti.tensor(X)[key]


def test_a_mask_without_a_value_cannot_choose_a_shape():
    with pytest.raises(ti.GraphError, match="ti.where"):
        ti.trace(lambda x: x[x > 0], ti.ones(3))
