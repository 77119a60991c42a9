"""Ties, corners, infinities, NaN, and numbers beside tensors."""

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer.core.op import watchers

NAN, INF = np.nan, np.inf


def gradient(fn, *xs):
    xs = [ti.tensor(x, requires_grad=True) for x in xs]
    fn(*xs).sum().backward()
    grads = [x.grad.tolist() for x in xs]
    return grads[0] if len(grads) == 1 else grads


# Corners: PyTorch's choices, but for equals, which share


@pytest.mark.parametrize(
    "fn, x, slopes",
    [
        (ti.relu, [-1.0, -0.0, 0.0, 1.0], [0, 0, 0, 1]),
        (ti.leaky_relu, [-1.0, 0.0, 1.0], [0.01, 0.01, 1]),
        (ti.elu, [0.0, 1.0], [1, 1]),
        (ti.abs, [-2.0, 0.0, 2.0], [-1, 0, 1]),
        (ti.hardswish, [-4.0, -3.0, 0.0, 3.0, 4.0], [0, 0, 0.5, 1.5, 1]),
        (lambda x: ti.clip(x, -1, 1), [-2.0, -1.0, 0.0, 1.0, 2.0], [0, 1, 1, 1, 0]),
        (ti.max, [1.0, 3.0, 3.0], [0, 0.5, 0.5]),
        (ti.min, [1.0, 1.0, 3.0], [0.5, 0.5, 0]),
        (ti.prod, [2.0, 0.0, 3.0], [0, 6, 0]),
        (ti.prod, [0.0, 0.0, 3.0], [0, 0, 0]),
        (lambda x: x**0, [0.0, 2.0], [0, 0]),
        (lambda x: x**1, [0.0, 2.0], [1, 1]),
        (lambda x: x**2, [0.0, -2.0], [0, -4]),
        (lambda x: x**3.0, [0.0, -2.0], [0, 12]),
        (lambda x: 0.0**x, [1.0, 2.0], [0, 0]),
        (ti.softplus, [-1000.0, 0.0, 1000.0], [0, 0.5, 1]),
        (ti.sigmoid, [-1000.0, 0.0, 1000.0], [0, 0.25, 0]),
        (ti.silu, [-1000.0, 0.0, 1000.0], [0, 0.5, 1]),
    ],
)
def test_slopes_at_corners(fn, x, slopes):
    assert np.allclose(gradient(fn, x), slopes)


def test_equals_share_between_two_tensors():
    assert gradient(ti.maximum, [1.0, 2.0, 3.0], [2.0, 2.0, 2.0]) == [[0, 0.5, 1], [1, 0.5, 0]]
    assert gradient(ti.minimum, [1.0, 2.0, 3.0], [2.0, 2.0, 2.0]) == [[1, 0.5, 0], [0, 0.5, 1]]


def test_the_first_of_equals_wins_in_a_window():
    x = np.ones((1, 1, 2, 4))
    grad = gradient(lambda x: ti.max_pool2d(x, 2), x)
    assert grad == [[[[1, 0, 1, 0], [0, 0, 0, 0]]]]


def test_padding_never_wins_in_a_window():
    x = np.full((2, 1, 2, 2), -INF)
    grad = np.array(gradient(lambda x: ti.max_pool2d(x, 2, padding=1), x))
    assert np.array_equal(grad, np.ones((2, 1, 2, 2)))  # four windows, one element in each


def test_where_keeps_the_other_side_out():
    grad = gradient(lambda x: ti.where(x > 0, ti.log(ti.where(x > 0, x, 1.0)), 0.0), [-1.0, 2.0])
    assert grad == [0, 0.5]


def test_steps_pass_no_gradient():
    for fn in ti.floor, ti.ceil, ti.round, ti.sign:
        assert not fn(ti.tensor([0.5], requires_grad=True)).requires_grad
        x = ti.tensor([0.5, 1.5], requires_grad=True)
        (fn(x) * x).sum().backward()
        assert x.grad.tolist() == fn(x).tolist()


def test_the_straight_through_estimator():
    x = ti.tensor([-3.0, -0.26, 0.1, 0.9, 2.0], requires_grad=True)
    y = ti.fake_quantize(x, ti.tensor(0.25), bits=4)
    y.sum().backward()
    assert y.tolist() == [-1.75, -0.25, 0, 1, 1.75] and x.grad.tolist() == [0, 1, 1, 1, 0]


# Not a number


@pytest.mark.parametrize(
    "fn, numpy",
    [
        (ti.relu, lambda x: np.maximum(x, 0)),
        (lambda x: ti.clip(x, -1, 1), lambda x: np.clip(x, -1, 1)),
        (lambda x: ti.clip(x, min=0), lambda x: np.clip(x, 0, None)),
        (lambda x: ti.maximum(x, 0.5), lambda x: np.maximum(x, 0.5)),
        (lambda x: ti.minimum(0.5, x), lambda x: np.minimum(x, 0.5)),
        (lambda x: ti.where(x > 0, x, 2.0), lambda x: np.where(x > 0, x, 2)),
        (ti.max, np.max),
        (ti.min, np.min),
        (lambda x: x.max(dim=0), lambda x: x.max(0)),
        (lambda x: x.argmax(), np.argmax),
        (ti.abs, np.abs),
        (ti.sign, np.sign),
        (ti.leaky_relu, lambda x: np.where(x > 0, x, np.float32(0.01) * x)),
        (ti.tanh, np.tanh),
        (ti.sigmoid, lambda x: np.where(np.isnan(x), x, x > 0)),
        (ti.softplus, lambda x: np.where(x < 0, 0, x)),
        (ti.elu, lambda x: np.where(x < 0, -1, x)),
        (lambda x: x == x, lambda x: x == x),
        (lambda x: x < x, lambda x: x < x),
    ],
)
@pytest.mark.parametrize("numbers", [[NAN, INF], [-INF, INF], [NAN, -INF], [INF, INF]])
def test_nan_and_infinity_as_in_numpy(fn, numpy, numbers):
    x = np.array(numbers, np.float32)
    y, wanted = fn(ti.tensor(x)).numpy(), numpy(x)
    assert np.array_equal(y, wanted, equal_nan=y.dtype.kind == "f"), (y, wanted)


def test_a_nan_in_a_window_wins():
    x = np.zeros((1, 1, 4, 4), np.float32)
    x[0, 0, 1, 2] = NAN
    for pool in ti.max_pool2d, ti.avg_pool2d:
        assert np.isnan(pool(ti.tensor(x), 2).numpy()).tolist() == [
            [[[False, True], [False, False]]]
        ]
    grad = np.array(gradient(lambda x: ti.max_pool2d(x, 2), x))
    assert np.argwhere(grad[0, 0]).tolist() == [[0, 0], [1, 2], [2, 0], [2, 2]]


def test_no_overflow_where_the_formula_has_some():
    x = ti.tensor([-1000.0, 0.0, 1000.0])
    assert ti.softmax(x).tolist() == [0, 0, 1]
    assert ti.log_softmax(x).tolist() == [-2000, -1000, 0]
    assert ti.logsumexp(x, 0).item() == 1000
    assert ti.sigmoid(x).tolist() == [0, 0.5, 1]
    assert np.allclose(ti.softplus(x).tolist(), [0, np.log(2), 1000])
    loss = ti.binary_cross_entropy_with_logits(x, ti.tensor([1.0, 0.5, 0.0]), "none")
    assert np.allclose(loss.tolist(), [1000, np.log(2), 1000])


def test_a_masked_softmax():
    assert ti.softmax(ti.tensor([-INF, 0.0, 0.0])).tolist() == [0, 0.5, 0.5]
    assert gradient(lambda x: ti.softmax(x)[1], [-INF, 0.0, 0.0]) == [0, 0.25, -0.25]


def test_kl_div_of_what_never_happens():
    logp = ti.tensor(np.log([[0.5, 0.25, 0.25]]), requires_grad=True)
    ti.kl_div(logp, ti.tensor(np.array([[0.5, 0.5, 0.0]])), "sum").backward()
    assert np.allclose(logp.grad.numpy(), [[-0.5, -0.5, 0]])


# What PyTorch's users write


def test_spellings():
    x = ti.tensor(np.arange(24.0).reshape(2, 3, 4))
    n = x.numpy()
    assert np.allclose(x.mean(dim=(1, 2)).numpy(), n.mean((1, 2)))
    assert np.allclose(x.sum(axis=0, keepdims=True).numpy(), n.sum(0, keepdims=True))
    assert np.allclose(x.std(dim=1, correction=0).numpy(), n.std(1))
    assert x.permute(0, 2, 1).shape == (2, 4, 3) and x.transpose(0, 2).shape == (4, 3, 2)
    assert x.flip(-1)[0, 0].tolist() == [3, 2, 1, 0] and x.mT.shape == (2, 4, 3)
    assert x.view(6, -1).shape == x.reshape((6, 4)).shape == (6, 4)
    assert ti.clip(x, min=3).min().item() == 3 and x.clamp(max=3).max().item() == 3
    assert ti.cat is ti.concat and x.add(1).sub(1).mul(2).div(2).tolist() == n.tolist()
    assert (x + 1).log().exp().astype("int32").dtype == np.int32 and x.float().dtype == np.float32
    assert x.argmax().item() == 23 and x.argmax(dim=1).shape == (2, 4)
    assert (x > 3).sum().dtype == np.int64 and (x > 3).long().max().item() == 1
    assert [part.shape for part in x.split(2, dim=1)] == [(2, 2, 4), (2, 1, 4)]


def test_numbers_on_either_side():
    x = ti.tensor([1.0, 2.0, 4.0])
    assert (1 / x).tolist() == (x**-1).tolist() == [1, 0.5, 0.25]
    assert (2**x).tolist() == [2, 4, 16] and (x**x).tolist() == [1, 4, 256]
    assert (5 - x).tolist() == [4, 3, 1] and (5 // x).tolist() == [5, 2, 1]
    assert (
        (5 % x).tolist() == [0, 1, 1]
        and (x // 2).tolist() == [0, 1, 2]
        and (x % 3).tolist() == [1, 2, 1]
    )
    assert (-x).tolist() == [-1, -2, -4] and abs(-x).tolist() == [1, 2, 4]
    assert (~(x > 1) | (x > 3)).tolist() == [True, False, True]
    assert (np.array([True, False, True]) & (x > 1)).tolist() == [False, False, True]
    assert (np.eye(3, dtype=np.float32) @ x).tolist() == (x @ np.eye(3, dtype=np.float32)).tolist()
    assert (1 <= x).tolist() == [True] * 3 and (x != 2).tolist() == [True, False, True]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_numbers_keep_the_kind_of_float(dtype):
    x = ti.tensor([0.5, -2.0], dtype)
    made = x + 1, 2.5 * x, x**2, ti.where(x > 0, x, 0.1), ti.where(x > 0, 1, x), ti.clip(x, -1, 1)
    made += ti.gelu(x), ti.sigmoid(x), ti.elu(x), ti.hardswish(x), x.mean(), x.var(), ti.softmax(x)
    made += (
        ti.relu(x),
        ti.leaky_relu(x),
        ti.softplus(x),
        ti.silu(x),
        x.abs().sqrt(),
        ti.maximum(x, 0),
    )
    assert {y.dtype for y in made} == {np.dtype(dtype)}
    assert ti.where(x > 9, x, 0.1).numpy()[0] == np.dtype(dtype).type(0.1)


def test_sums_of_small_integers_have_room():
    assert ti.sum(ti.full(300, 1, "uint8")).item() == 300
    assert ti.prod(ti.tensor([100, 100], "int8")).item() == 10_000
    assert ti.tensor([True] * 300).sum().item() == 300


def test_a_mean_of_half_precision_has_room():
    assert ti.full(70_000, 1.0, "float16").mean().item() == 1
    assert ti.avg_pool2d(ti.full((1, 1, 4, 4), 30_000.0, "float16"), 4).item() == 30_000


def test_making():
    assert ti.arange(5).dtype == np.int64 and ti.arange(0, 1, 0.25).dtype == np.float32
    assert ti.arange(3, dtype="float64").dtype == np.float64
    assert ti.zeros(2, dtype=bool).dtype == bool and ti.ones(2, 2).dtype == np.float32
    assert ti.full(2, True).dtype == bool and ti.full(2, 7).dtype == np.int64
    assert ti.full((2, 3), 0.5).dtype == np.float32 and ti.full((), 2.5, "int64").item() == 2
    assert ti.zeros_like(ti.ones(2, 3), dtype="int8").dtype == np.int8
    assert (
        np.signbit(ti.full(1, -0.0).numpy()).all() and not np.signbit(ti.full(1, 0.0).numpy()).any()
    )


def test_arrays_where_tensors_could_be():
    assert ti.sum(np.ones((2, 3)), 1).tolist() == [3, 3] and ti.relu([1.0, -1.0]).tolist() == [1, 0]
    assert ti.mean(np.ones(3)).item() == 1 and (ti.ones(1, 2) @ np.ones(2)).item() == 2


@pytest.mark.parametrize(
    "make", [ti.ones, ti.zeros, ti.rand, ti.ones(4).reshape, ti.ones(1).expand]
)
def test_sizes_are_whole_numbers(make):
    assert make(np.int64(4)).shape == make((4,)).shape == make([4]).shape == (4,)
    with pytest.raises(ti.ArgumentError, match="sizes are whole numbers"):
        make(2.0)


def test_labels_from_numpy():
    labels = np.array([0, 2], np.uint8)
    assert ti.cross_entropy(ti.zeros(2, 3), labels).item() == pytest.approx(np.log(3))
    with pytest.raises(ti.DTypeError, match="astype"):
        ti.cross_entropy(ti.zeros(2, 3), ti.tensor([0.0, 2.0]))


# Accumulating


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("dtype, n, error", [("float32", 300_000, 1e-6), ("float16", 20_000, 2e-3)])
def test_long_sums_keep_their_digits(dim, dtype, n, error):
    x = np.random.RandomState(0).uniform(size=(n, 2)).astype(dtype)
    exact, x = x.astype(np.float64), ti.tensor(x if dim == 0 else x.T)
    near = lambda y, wanted: np.allclose(y.numpy(), wanted, rtol=error, atol=0)
    assert near(x.mean(dim), exact.mean(0)) and near(x.var(dim), exact.var(0, ddof=1))
    assert near(x.softmax(dim).astype("float64").sum(dim), 1.0)
    assert near(x.logsumexp(dim), np.log(np.exp(exact).sum(0)))
    assert near((x * 0.01).sum(dim), (x * 0.01).numpy().astype(np.float64).sum(dim))


def test_the_product_of_many_numbers_has_a_gradient():
    x = np.ones(30_000)
    x[7] = 0.0
    x = ti.tensor(x, requires_grad=True)
    x.prod().backward()
    assert x.grad.numpy()[7] == 1.0 and x.grad.numpy().sum() == 1.0


def test_one_of_many_classes():
    y = ti.one_hot(ti.tensor([99_999]), 100_000)
    assert y.shape == (1, 100_000) and y[0, -1].item() == 1 and y.sum().item() == 1


def test_the_gradient_of_many_parts_costs_no_whole_for_each():
    x = ti.tensor(np.ones((1024, 2)), requires_grad=True)
    sizes = []
    watchers.append(lambda op, xs, y: sizes.append(y.size))
    try:
        sum(row.sum() for row in x).backward()
    finally:
        watchers.pop()
    assert np.array_equal(x.grad.numpy(), np.ones((1024, 2)))
    assert sum(sizes) < 100 * x.size  # with a whole for each part it would be 1,024 of them


def test_equal_numbers_spread_not_at_all():
    x = ti.tensor([2.0, 2.0], requires_grad=True)
    x.std().backward()
    assert x.std().item() == 0 and x.grad.tolist() == [0, 0]


def test_whole_numbers_are_not_divided_by_zero():
    for fn in ti.floor_divide, ti.remainder:
        with pytest.raises(ti.RangeError, match=f"{fn.name}: whole numbers"):
            fn(ti.tensor([1, 2]), ti.tensor([1, 0]))


def test_what_is_no_number_is_not_equal():
    x = ti.ones(2)
    assert (x == None) is False and (x != "abc") is True and None not in [x]  # noqa: E711


def test_numbers_are_formatted():
    assert f"{ti.tensor(2.345):.2f} {ti.tensor([7]):3d} {ti.tensor(1.5)}" == "2.35   7 tensor(1.5)"


def test_one_example_needs_no_batch():
    x = ti.tensor([1.0, 2.0, 0.5])
    alone = ti.cross_entropy(x, ti.tensor(1))
    assert alone.item() == ti.cross_entropy(x.unsqueeze(0), ti.tensor([1])).item()
    assert ti.cross_entropy(x, ti.tensor(1), "none").shape == ()
    with pytest.raises(ti.ArgumentError, match="label_smoothing"):
        ti.cross_entropy(x, ti.tensor(1), label_smoothing=5)


def test_batch_norm_without_running_statistics():
    x = ti.tensor(np.random.RandomState(0).standard_normal((8, 3, 2, 2)))
    state = lambda value: ti.State(np.full(3, value))
    with_them = ti.batch_norm(x, state(0.0), state(1.0), training=True)
    for training in (True, False):
        y = ti.batch_norm(x, None, None, training=training)
        assert np.array_equal(y.numpy(), with_them.numpy())
    with pytest.raises(ti.ArgumentError, match="running statistics are States"):
        ti.batch_norm(x, ti.zeros(3, dtype="float64"), state(1.0), training=True)
