"""A step that may overwrite an input is its last user."""

import numpy as np
import pytest
from nets import SEEDS, chain, count, keeps, network, numbers, training

import tinyinfer as ti
from tinyinfer.graph.fused import Fused
from tinyinfer.graph.graph import Graph
from tinyinfer.graph.in_place import InPlace
from tinyinfer.graph.passes.fuse import fuse
from tinyinfer.graph.passes.in_place import in_place
from tinyinfer.graph.passes.split import split

RNG = np.random.RandomState(0)


def overwritten(graph, arrays):
    """The results, if every step that may overwrite an input does."""
    value = {n: np.array(x) for n, x in zip(graph.inputs, arrays)}
    value |= {n: n.value.copy() for n in graph.constants}
    value |= {n: s.numpy().copy() for n, s in graph.states.items()}
    for n in graph.steps:
        xs = [value[x] for x in n.inputs]
        y = n.op.compute(*xs)
        if n.op.over is not None:
            xs[n.op.over][...] = y
            y = xs[n.op.over]
        value[n] = y
    return [value[n] for n in (*graph.outputs, *graph.updates.values())]


def marked(graph, xs, least=1):
    """The graph after marking, checked: overwriting changes no result."""
    after = keeps(in_place, graph, xs)
    for a, b in zip(overwritten(graph, xs), overwritten(after, xs), strict=True):
        assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    assert sum(n.op.over is not None for n in after.steps) >= least
    return after


def marks(fn, *shapes):
    """(op, over) of the steps of fn that are marked."""
    xs = [numbers(RNG, *s) for s in shapes]
    steps = marked(ti.trace(fn, *map(ti.tensor, xs)), xs, 0).steps
    return [(n.op.op.name, n.op.over) for n in steps if isinstance(n.op, InPlace)]


@pytest.mark.parametrize("seed", SEEDS)
def test_networks(seed):
    graph, xs = network(seed)
    marked(graph, xs)
    marked(fuse(graph), xs, 0)


def test_a_training_step():
    graph, xs = training()
    marked(graph, xs, 20)
    marked(fuse(graph), xs, 5)


def test_what_may_be_overwritten():
    w = ti.State(numbers(RNG, 3))
    two = (2, 3), (2, 3)
    assert marks(lambda x: ti.relu(ti.exp(x)), (3,)) == [("relu", 0)]
    assert marks(lambda x, y: x - ti.exp(y), *two) == [("sub", 1)]
    assert marks(lambda x, y: (y := ti.exp(y)) * y, *two) == [("mul", 0)]
    assert marks(lambda x: ti.relu(x + w) * 2.0, (3,)) == [("relu", 0), ("mul", 0)]
    assert marks(lambda x: ((y := ti.exp(x)).sum(), ti.relu(y))[1], (3,)) == [("relu", 0)]
    assert marks(lambda x: (y := ti.exp(x)).sum() + ti.relu(y), (3,)) == [("relu", 0), ("add", 1)]


def test_what_may_not():
    w = ti.State(numbers(RNG, 3))
    moved = ti.State(np.zeros(3, np.float32))

    def update(x):
        moved.assign(y := ti.exp(x))
        return ti.relu(y)

    assert marks(ti.relu, (3,)) == []  # an input
    assert marks(lambda x: ti.relu(w), (3,)) == []
    assert marks(lambda x: ti.relu(x.mT), (2, 3)) == []  # a view of one
    assert marks(lambda x: (y := ti.exp(x), ti.relu(y)), (3,)) == []  # a result
    assert marks(lambda x: ((y := ti.exp(x)).mT, ti.relu(y)), (2, 3)) == []  # a view of it is one
    assert marks(update, (3,)) == []
    assert marks(lambda x: (ti.relu(y := ti.exp(x)), y.sum()), (3,)) == []  # needed later
    assert marks(lambda x: (v := (y := ti.exp(x)).mT, ti.relu(y), v.sum())[1:], (2, 3)) == []
    assert marks(lambda x: (y := ti.exp(x)) + y.mT, (3, 3)) == []  # read in another order
    assert marks(lambda x: ti.exp(x) > 0.5, (3,)) == []  # another dtype
    assert marks(lambda x, y: ti.exp(x) + y, (3,), (2, 3)) == []  # another shape
    assert marks(lambda x: ti.softmax(ti.exp(x @ x), 1), (3, 3)) == [("exp", 0)]


def test_nor_what_is_kept_for_the_next_run():
    w = ti.State(numbers(RNG, 3))
    assert marks(lambda x: x + ti.exp(w), (3,)) == []
    graph = in_place(ti.trace(lambda x: ti.relu(ti.exp(x) + ti.exp(w * 2.0)), ti.ones(3)))
    assert count(graph, "in_place") == 2
    assert all(half.verify() for half in split(graph))


def test_nor_what_a_branch_hands_out():
    fn = lambda x: ti.relu(ti.cond(x.sum() > 0.0, lambda x: x, lambda x: x * 2.0, x))
    assert marks(fn, (3,)) == []


def test_a_fused_step_carries_the_mark():
    x = numbers(RNG, 3, 4)
    fn = lambda x: ti.relu(ti.sum(x, 0, keepdim=True) * 2.0 + 1.0)
    after = marked(fuse(ti.trace(fn, ti.tensor(x))), [x])
    assert [n.op.over for n in after.steps if isinstance(n.op, Fused)] == [0]
    product = marked(
        fuse(ti.trace(lambda x: ti.relu(ti.tanh(x) @ np.eye(4, dtype="f4")), x)), [x], 0
    )
    assert not [n for n in product.steps if isinstance(n.op, Fused) and n.op.over is not None]


def test_a_wrong_mark_is_found():
    x = ti.placeholder((3,), name="x")
    relu = InPlace(ti.relu)
    y = ti.exp(x)
    rule = r"%1 = in_place.*: it may overwrite %0, which is needed after it"
    with pytest.raises(ti.GraphError, match=rule):
        ti.graph(relu(y) + y, x)
    with pytest.raises(ti.GraphError, match=r"it may overwrite %x, which is needed after it"):
        ti.graph(relu(x), x)
    with pytest.raises(ti.GraphError, match="which is needed after it"):
        ti.graph([relu(y), y.reshape(3, 1)], x)
    with pytest.raises(ti.ShapeError, match="a float32.2, 3. cannot be written over a float32.3."):
        InPlace(ti.add)(y, ti.ones(2, 3))
    fused = Fused(Graph((x.node,), (ti.relu(x).node,)), 0)
    with pytest.raises(ti.GraphError, match="it may overwrite"):
        ti.graph(fused(y) + y, x)
    ti.graph(fused(y) + 1.0, x).verify()


def test_a_marked_op_is_the_op():
    x = ti.tensor(numbers(RNG, 3), requires_grad=True)
    y = InPlace(ti.mul)(x, ti.tensor(numbers(RNG, 3)))
    assert np.array_equal(y.numpy(), x.numpy() * y.node.inputs[1].value)
    assert np.array_equal(ti.grad(y.sum(), x).numpy(), y.node.inputs[1].value)
    assert InPlace(ti.mul).flops(y.spec, x.spec, x.spec) == 3


def test_twenty_thousand_steps():
    graph = chain(lambda x, i: ti.relu(x) if i % 2 else x + 1.0)
    after = marked(graph, [np.ones((3, 3), np.float32)], 19_000)
    assert count(after, "in_place") == 19_999
