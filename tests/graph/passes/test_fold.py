import numpy as np
import pytest
from agree import agree, chain, inside, ops

import tinyinfer as ti
from tinyinfer.graph.passes.fold import LARGEST, fold, held

R = np.random.RandomState(0)
x = R.randn(2, 3).astype("f")


def folded(fn, *arrays, exact=True):
    return agree(fold, ti.trace(fn, *map(ti.tensor, arrays)), *arrays, exact=exact)


def constants(graph):
    return [n.value for n in graph.constants]


@pytest.mark.parametrize(
    "fn, wanted",
    [
        (lambda x: x + ti.tensor(2.0) * ti.tensor(3.0), "add"),
        (lambda x: ti.exp(ti.tensor(x0) @ ti.tensor(x0).mT) @ x, "matmul"),
        (lambda x: x * ti.where(ti.arange(3) > 1, ti.tensor(2.0), ti.tensor(1.0)), "mul"),
        (lambda x: x + ti.tensor(1.0) / ti.tensor(0.0), "add"),
        (lambda x: x.sum() * 0 + ti.log(ti.tensor([-1.0])), "sum reshape mul add"),
        (lambda x: ti.tensor([1.0]) + ti.tensor([2.0]), ""),
        (lambda x: ti.softmax(ti.tensor(x0)) * x, "mul"),
        (lambda x: x + x, "add"),
    ],
)
def test_steps_on_constants(fn, wanted):
    assert ops(folded(fn, x)) == wanted


x0 = R.randn(2, 3).astype("f")


NUMBERS = [
    lambda a, b: ti.maximum(a, b) * 2,
    lambda a, b: a * b + a,
    lambda a, b: ti.where(a == b, a, b),
    lambda a, b: a.expand(4, 2, 3)[1:3, :, ::-1].max(0),
    lambda a, b: a.reshape(3, 2).mT.mT.reshape(2, 3) - b.mT.reshape(2, 3),
]
MASKS = [
    lambda a, b: a & ~b,
    lambda a, b: ti.where(a, b, a | b),
    lambda a, b: a.reshape(3, 2).mT.mT.reshape(2, 3) == b.mT.reshape(2, 3),
]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "uint8", "bool"])
@pytest.mark.parametrize("seed", range(20))
def test_random_expressions(dtype, seed):
    """Of constants alone, each as the interpreter computes it; some are of one number."""
    rng, rules = np.random.RandomState(seed), MASKS if dtype == "bool" else NUMBERS
    first = [rng.randint(0, 3, (2, 3)), np.ones(()), rng.randint(0, 3, ())]

    def fn(x):
        pool = [ti.tensor(c.astype(dtype)).expand(2, 3) for c in first]
        for _ in range(8):
            a, b = (pool[rng.randint(len(pool))] for _ in range(2))
            pool.append(rules[rng.randint(len(rules))](a, b))
        return [x, *pool]

    graph = ti.trace(fn, ti.tensor(x))
    assert ops(agree(fold, graph, x, exact=True)) == ""


def test_one_number_is_held_once():
    fn = lambda x: (ti.zeros(1000, 1000) + 1).mT.reshape(10, 100_000) * x
    (one,) = constants(folded(fn, np.float32(2)))
    assert one.shape == (10, 100_000) and held(one) == 4


def test_what_would_grow_is_left():
    row = R.randn(1000).astype("f")

    def fn(x):
        a = ti.tensor(row)
        return x + a.unsqueeze(1) * a, x + ti.tensor(row[:10]).unsqueeze(1) * ti.tensor(row[:10])

    after = folded(fn, np.float32(1))
    assert ops(after) == "mul add add"  # a million products are left, a hundred are not
    assert max(map(held, constants(after))) <= LARGEST


def test_a_product_of_what_is_large_already():
    a = R.randn(300, 300).astype("f")
    assert ops(folded(lambda x: x + ti.tensor(a) @ ti.tensor(a), np.float32(1))) == "add"


def test_what_fails_is_left_where_it_is():
    table = ti.tensor([1.0, 2.0])

    def fn(x):
        far = lambda: ti.take(table, ti.tensor(0) + 5) * x
        return ti.cond(x.sum() > 100, far, lambda: x)

    after = folded(fn, x)
    assert inside(after) == ["index mul", ""]
    with pytest.raises(ti.RangeError):
        after.run(x + 1000)


def test_random_numbers_from_a_state_are_not_constant():
    graph = ti.trace(lambda x: x + ti.rand(3), ti.tensor(x))
    assert "uniform" in ops(fold(graph))


def test_states_are_not_constant():
    w = ti.State(np.float32([1, 2, 3]))
    graph = ti.trace(lambda x: x + w * 2, ti.tensor(x))
    assert ops(fold(graph)) == "mul add"


# Propagation


def two():
    """A constant made outside, in the trace: it is captured."""
    return ti.tensor(1.0) + ti.tensor(1.0)


def test_into_branches():
    def fn(x, p):
        a, b = two(), ti.tensor(x0) * 1
        return ti.cond(p, lambda: x * (a + 1), lambda: x + b * a)

    after = folded(fn, x, np.array(True))
    assert inside(after) == ["mul", "add"]
    assert [len(n.inputs) for n in after.steps if n.op.control] == [2]


@pytest.mark.parametrize("reverse", [False, True])
def test_into_scans(reverse):
    def fn(x):
        a, b = two(), ti.tensor(x0[0]) * 1
        turn = lambda h, row: (h * (a + 1) + b * a, (row * a, a))
        return ti.scan(turn, b, x, reverse)

    after = folded(fn, x)
    assert ops(after) == "scan tuple_get tuple_get tuple_get"
    assert inside(after) == ["mul mul add"]
    assert [len(n.inputs) for n in after.steps if n.op.control] == [2]  # carry and sequence


def test_into_loops():
    def fn(x):
        a, n = two(), ti.tensor(2) + 3
        return ti.while_loop(lambda h, i: i < n * 2, lambda h, i: (h * a, i + n), x, ti.tensor(0))

    after = folded(fn, x)
    assert inside(after) == ["less", "mul add"]
    assert [len(n.inputs) for n in after.steps if n.op.control] == [2]


def test_into_what_is_nested():
    def fn(x, p):
        a = two()
        inner = lambda h: ti.cond(h.sum() > a, lambda: h * (a * a), lambda: h - a / 2)
        return ti.scan(lambda h, row: (ti.cond(p, lambda: inner(h), lambda: row), a), x[0], x)

    after = folded(fn, x, np.array(True))
    (body,) = (n.op.body for n in after.steps if n.op.name == "scan")
    then = next(n.op.then for n in body.steps if n.op.control)
    assert inside(then) == ["mul", "sub"]


def test_a_first_carry_is_not_captured():
    after = folded(lambda x: ti.scan(lambda h, row: (h + row, h), two(), x.sum(1)), x, exact=True)
    assert inside(after) == ["add"]


def test_a_long_chain():
    after = fold(chain(lambda x, i: x + ti.exp(ti.tensor(1.0)) if i % 2 else ti.tanh(x), 10_000))
    assert len(after.steps) == 10_000
    assert len(fold(ti.trace(lambda x: x + long_constant(), ti.ones(3))).steps) == 1


def long_constant():
    c = ti.tensor(1.0)
    for _ in range(20_000):
        c = ti.tanh(c)
    return c
