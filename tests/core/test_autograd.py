"""Reverse mode: sums over paths, directions, second derivatives, switches, and no leftovers."""

import gc
import weakref

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer import nn, optim
from tinyinfer.core.trace import mode


def leaf(x):
    return ti.tensor(x, requires_grad=True)


def test_the_sum_over_both_paths_travels_on():
    a = leaf(3.0)
    b = a + a
    c = b + b
    c.backward()
    assert a.grad.item() == 4
    c.backward()  # once more adds up
    assert a.grad.item() == 8
    a.grad = None
    (c * b).backward()
    assert a.grad.item() == 48  # 8 a^2


def test_what_is_used_twice():
    x = leaf([1.0, 2.0])
    y = ti.exp(x)
    (y * y + y).sum().backward()
    assert np.allclose(x.grad.numpy(), 2 * np.exp([2.0, 4.0]) + np.exp([1.0, 2.0]))
    w = leaf([[2.0]])
    (w @ w @ w).sum().backward()
    assert w.grad.item() == 12


@pytest.mark.parametrize("length", [5_000, 20_000])
def test_a_long_chain(length):
    x = leaf(1.0)
    y = x
    for _ in range(length):
        y = y + 1.0
    y.backward()
    assert y.item() == length + 1 and x.grad.item() == 1
    del y  # which takes the chain apart


def test_a_long_chain_in_a_trace():
    def chain(x):
        y = x
        for _ in range(5_000):
            y = y * 1.0
        return ti.grad(y, x)

    graph = ti.trace(chain, leaf(2.0))
    assert graph.run(np.float32(2.0).reshape(())) == 1


def test_a_long_chain_of_second_order():
    x = leaf(1.0)
    y = x
    for _ in range(1_000):
        y = y * x
    first = ti.grad(y, x, create_graph=True)
    assert first.item() == 1001 and ti.grad(first, x).item() == 1001 * 1000


# Directions


def test_more_than_one_number_needs_a_direction():
    x = leaf([1.0, 2.0])
    with pytest.raises(
        ti.GraphError, match=r"a float32\[2\] has a gradient only in a direction.*\.sum"
    ):
        (x * x).backward()
    (x * x).backward(ti.tensor([1.0, 10.0]))
    assert x.grad.tolist() == [2, 40]
    assert ti.grad(x * x, x, gradient=3.0).tolist() == [6, 12]
    with pytest.raises(ti.ShapeError, match="does not fit into"):
        (x * x).backward(ti.ones(3))
    assert x.grad.tolist() == [2, 40]


def test_one_number_in_any_shape_needs_none():
    x = leaf([[3.0]])
    (x * x).backward()
    assert x.grad.tolist() == [[6]]


def test_nothing_requires_a_gradient():
    for y in ti.ones(()), ti.arange(3).sum(), leaf(1.0).detach(), ti.floor(leaf(1.5)):
        with pytest.raises(ti.GraphError, match="nothing here requires a gradient"):
            y.backward()


def test_what_is_not_behind_the_output():
    x, y = leaf(1.0), leaf(2.0)
    with pytest.raises(ti.GraphError, match=r"input 1, a float32\[\], is not behind the output"):
        ti.grad(x * 2.0, [x, y])


def test_broadcast_inputs_collect_the_sum_in_their_dtype():
    a, b = leaf(np.ones((2, 1), np.float32)), leaf(np.ones((3,), np.float64))
    (a * b).sum().backward()
    assert a.grad.tolist() == [[3], [3]] and b.grad.tolist() == [2, 2, 2]
    assert (a.grad.dtype, b.grad.dtype) == (np.float32, np.float64)


def test_grad_of_what_lies_between():
    x = leaf(3.0)
    y = x * x
    z = y * y
    assert ti.grad(z, y).item() == 18 and ti.grad(z, [x, y])[0].item() == 108
    assert x.grad is None and ti.grad(z, z).item() == 1


# Second derivatives


def test_create_graph():
    x = leaf(2.0)
    first = ti.grad(x**3.0, x, create_graph=True)
    second = ti.grad(first, x, create_graph=True)
    third = ti.grad(second, x)
    assert [g.item() for g in (first, second, third)] == [12, 12, 6]
    assert second.requires_grad and not third.requires_grad
    assert not ti.grad(x**3.0, x).requires_grad


def test_a_penalty_on_the_gradient():
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    slope = ti.grad((w * w * x).sum(), x, create_graph=True)
    (slope * slope).sum().backward()  # sum w^4
    assert w.grad.tolist() == [108, 256] and x.grad is None


# Switches


def test_no_grad():
    x = leaf(2.0)
    with ti.no_grad():
        assert not (x * x).requires_grad
        with ti.no_grad():
            pass
        assert not mode.grad
    assert mode.grad and (x * x).requires_grad

    @ti.no_grad()
    def frozen(x):
        return x * x

    assert not frozen(x).requires_grad and not frozen(x).requires_grad and mode.grad
    with pytest.raises(ZeroDivisionError), ti.no_grad():
        1 / 0  # noqa: B018
    assert mode.grad


def test_no_grad_cuts_a_path():
    x = leaf(2.0)
    with ti.no_grad():
        y = x * x
    (y * x).backward()
    assert x.grad.item() == 4


def test_detach():
    x = leaf(2.0)
    y = x * x
    (y.detach() * x + y).backward()
    assert x.grad.item() == 8 and not y.detach().requires_grad
    assert np.shares_memory(y.detach().numpy(), y.numpy())


def test_requires_grad_can_be_turned_off():
    p = ti.State([1.0], requires_grad=True)
    p.requires_grad = False
    assert not (p * 2.0).requires_grad
    p.requires_grad = True
    (p * 2.0).sum().backward()
    assert p.grad.tolist() == [2]


def test_an_exception_on_the_way_back_leaves_the_mode():
    class Broken(ti.core.op.Op):
        def infer(self, x):
            return x

        def forward(self, x):
            return x

        def vjp(self, g, y, x):
            raise ZeroDivisionError

    x = leaf(1.0)
    with pytest.raises(ZeroDivisionError):
        Broken()(x).backward()
    assert mode.grad and mode.origin.calls == () and x.grad is None
    (x * 2.0).backward()
    assert x.grad.item() == 2


def test_an_op_without_a_rule_says_so():
    class Plain(ti.core.op.Op):
        def infer(self, x):
            return x

        def forward(self, x):
            return x

    with pytest.raises(NotImplementedError, match="plain has no gradient"):
        Plain()(leaf(1.0)).backward()


# What is left behind


def train_step():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    opt = optim.Adam(model.parameters(), lr=0.01)

    def step(x, labels):
        opt.zero_grad()
        loss = ti.cross_entropy(model(x), labels)
        loss.backward()
        opt.step()
        return loss

    return model, step


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_the_tape_has_no_cycles(no_collector):
    model, step = train_step()
    x, labels = ti.ones(5, 4), ti.tensor([0, 1, 2, 0, 1])
    step(x, labels)
    gc.collect()
    for _ in range(3):
        step(x, labels)
    ti.grad(ti.grad(ti.exp(leaf(1.0)).sum() * (y := leaf(2.0)) * y, y, create_graph=True), y)
    assert gc.collect() == 0


def test_what_is_forgotten_is_gone_at_once(no_collector):
    state = leaf(np.ones(3))
    loss = (state * state).sum()
    loss.backward()
    seen = weakref.ref(state)
    del state, loss
    assert seen() is None


def test_a_trace_has_no_cycles(no_collector):
    graph = ti.trace(lambda x: ti.relu(x) @ x, ti.ones(2, 2))
    gc.collect()
    graph = ti.trace(lambda x: ti.relu(x) @ x, ti.ones(2, 2))
    assert graph.steps
    del graph
    assert gc.collect() == 0
