import numpy as np
import pytest
from agree import agree, inside, ops
from lenet import lenet, make

import tinyinfer as ti
from tinyinfer import nn, optim
from tinyinfer.graph.graph import Graph
from tinyinfer.graph.passes import split
from tinyinfer.graph.passes.batch_norm import batch_norm
from tinyinfer.graph.passes.fold import fold

DTYPES = "float32", "float64"


def rng(seed=0):
    return np.random.RandomState(seed)


def numbers(seed, *shape, dtype="float32"):
    return rng(seed).standard_normal(shape).astype(dtype)


def with_statistics(model, seed=0, dtype="float32"):
    """In evaluation, with random numbers in all norms."""
    R = rng(seed)
    for module in (m for _, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)):
        shape = module.running_mean.shape
        for state in module.running_mean, module.bias, module.weight:
            state.assign(R.standard_normal(shape).astype("f"))
        module.running_var.assign(R.uniform(0.1, 3, shape).astype("f"))
    model.astype(dtype)
    return model.eval()


def graph_of(model, *shape, dtype="float32"):
    return ti.trace(model, ti.tensor(numbers(9, *shape, dtype=dtype)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(4))
def test_lenet(seed, dtype):
    model = with_statistics(lenet(), seed, dtype)
    graph, x = graph_of(model, 2, 1, 28, 28, dtype=dtype), numbers(seed, 2, 1, 28, 28, dtype=dtype)
    after = agree(batch_norm, graph, x)
    assert "batch_norm" in ops(graph) and "batch_norm" not in ops(after)
    prologue, body = split(after)
    assert len(body.steps) == len(split(graph)[1].steps) - 1
    assert body.flops() == split(graph)[1].flops() - 2 * 2 * 6 * 28 * 28


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"dilation": 2}])
def test_convolutions(options, bias, groups, dtype):
    conv = nn.Conv2d(4, 8, 3, groups=groups, bias=bias, **options)
    model = with_statistics(nn.Sequential(conv, nn.BatchNorm2d(8), nn.ReLU()), groups, dtype)
    x = numbers(1, 2, 4, 7, 6, dtype=dtype)
    after = agree(batch_norm, graph_of(model, *x.shape, dtype=dtype), x)
    assert ops(split(after)[1]) == "conv2d add relu"


@pytest.mark.parametrize("bias", [True, False])
def test_convolutions_in_time(bias):
    model = nn.Sequential(nn.Conv1d(3, 4, 3, bias=bias), nn.BatchNorm1d(4))
    x = numbers(1, 2, 3, 9)
    after = agree(batch_norm, graph_of(with_statistics(model), *x.shape), x)
    assert ops(split(after)[1]) == "reshape conv2d reshape add"


@pytest.mark.parametrize("bias", [True, False])
def test_products(bias):
    model = nn.Sequential(nn.Linear(5, 4, bias=bias), nn.BatchNorm1d(4), nn.Linear(4, 3))
    x = numbers(1, 6, 5)
    after = agree(batch_norm, graph_of(with_statistics(model), *x.shape), x)
    assert ops(split(after)[1]) == "matmul add matmul add"


def test_a_deep_network():
    """One after the other: each sees a convolution on what was folded before."""
    block = lambda: [nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU()]
    model = nn.Sequential(*[layer for _ in range(60) for layer in block()])
    for module in (m for _, m in model.named_modules() if isinstance(m, nn.Conv2d)):
        module.weight.assign(np.eye(3, dtype="f").reshape(3, 3, 1, 1))
    x = np.abs(numbers(1, 1, 3, 2, 2))
    after = agree(batch_norm, graph_of(model.eval(), *x.shape), x)
    assert ops(split(after)[1]) == " ".join(["conv2d add relu"] * 60)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 4, 1, 1)])
def test_a_bias_of_any_form(shape, swapped):
    w, b = ti.State(numbers(2, 4, 3, 3, 3)), ti.State(numbers(3, *shape))
    norm = with_statistics(nn.BatchNorm2d(4))

    def fn(x):
        y = ti.conv2d(x, w)
        return norm(b + y if not swapped else ti.add(b, y))

    x = numbers(1, 2, 3, 5, 5)
    after = agree(batch_norm, ti.trace(fn, ti.tensor(x)), x)
    assert ops(split(after)[1]) == "conv2d add"


def test_it_follows_its_states():
    model = with_statistics(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    x = numbers(1, 2, 3, 5, 5)
    after = batch_norm(graph_of(model, *x.shape))
    for i, state in enumerate(model.states()):
        state.assign(np.abs(numbers(i, *state.shape)) + 0.5)
        assert np.allclose(after.run(x), model(ti.tensor(x)).numpy(), atol=1e-4)


def test_statistics_far_from_zero():
    """(b - mean) is taken first: the large part of both goes there."""
    model = with_statistics(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))
    model[0].bias.assign(np.full(4, 1000, "f"))
    model[1].running_mean.assign(np.full(4, 1000, "f"))
    x = numbers(1, 2, 3, 5, 5)
    graph = graph_of(model, *x.shape)
    exact = batch_norm(graph_of(model.astype("float64"), *x.shape, dtype="float64")).run(
        x.astype("d")
    )
    model.astype("float32")
    assert np.abs(batch_norm(graph).run(x) - exact).max() <= np.abs(graph.run(x) - exact).max()


# What must stay


def stays(graph):
    assert batch_norm(graph).nodes == graph.nodes


def test_training_stays():
    x, y = numbers(1, 4, 1, 28, 28), np.arange(4)
    stays(ti.trace(make()[2], ti.tensor(x), ti.tensor(y)))


def test_weights_that_change_stay():
    model = with_statistics(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    opt = optim.SGD([model[0].weight], 0.1)

    def step(x):
        opt.zero_grad()
        (model(x) * model(x)).sum().backward()
        opt.step()

    stays(ti.trace(step, ti.tensor(numbers(1, 2, 3, 5, 5))))


def test_what_has_another_user_stays():
    conv, norm = nn.Conv2d(3, 4, 3), with_statistics(nn.BatchNorm2d(4))
    x = ti.tensor(numbers(1, 2, 3, 5, 5))
    stays(ti.trace(lambda x: norm(y := conv(x)) + y, x))
    stays(ti.trace(lambda x: (norm(y := conv(x)), y), x))
    product = lambda x: ti.conv2d(x, conv.weight)
    stays(ti.trace(lambda x: norm((y := product(x)) + conv.bias.reshape(4, 1, 1)) * y, x))


def test_what_is_an_input_stays():
    norm, conv = with_statistics(nn.BatchNorm2d(4)), nn.Conv2d(3, 4, 3)
    x = ti.tensor(numbers(1, 2, 3, 5, 5))
    stays(ti.trace(lambda x, w: norm(ti.conv2d(x, w)), x, conv.weight.detach()))
    stays(ti.trace(lambda x, b: norm(conv(x) + b.reshape(4, 1, 1)), x, ti.ones(4)))
    whole = ti.trace(lambda x: norm(conv(x)), x)
    (norm_step,) = (n for n in whole.steps if n.op.name == "batch_norm")
    stays(Graph((norm_step.inputs[0],), whole.outputs))


def test_what_is_no_product_stays():
    norm, pool = with_statistics(nn.BatchNorm2d(3)), nn.MaxPool2d(2)
    x = ti.tensor(numbers(1, 2, 3, 4, 4))
    stays(ti.trace(lambda x: norm(pool(x)), x))
    stays(ti.trace(lambda x: norm(x + ti.ones(3, 1, 1)), x))
    tokens = with_statistics(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(3)))
    stays(ti.trace(tokens, ti.tensor(numbers(1, 2, 3, 4))))  # its channels are not the product's


def test_in_a_branch_whose_weights_are_constant():
    w, norm = numbers(2, 4, 3, 3, 3), with_statistics(nn.BatchNorm2d(4))
    one = [
        ti.tensor(s.numpy()) for s in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    ]

    def fn(x):
        parts = [ti.tensor(w), *one]
        branch = lambda: ti.batch_norm(ti.conv2d(x, parts[0]), *parts[1:])
        return ti.cond(x.sum() > 0, branch, lambda: ti.zeros(2, 4, 3, 3))

    x = numbers(1, 2, 3, 5, 5)
    after = agree(batch_norm, ti.trace(fn, ti.tensor(x)), x)
    assert inside(fold(after))[0] == "conv2d add"
    captured = ti.trace(
        lambda x: ti.cond(x.sum() > 0, lambda: norm(ti.conv2d(x, w)), lambda: ti.zeros(2, 4, 3, 3)),
        ti.tensor(x),
    )
    stays(captured)  # States come in as inputs
