import numpy as np
import pytest
from agree import agree, chain, inside, ops

import tinyinfer as ti
from tinyinfer.graph.passes.cse import cse

R = np.random.RandomState(0)
x, y = R.randn(2, 3, 3).astype("f")


def merged(fn, *arrays):
    return agree(cse, ti.trace(fn, *map(ti.tensor, arrays)), *arrays, exact=True)


# fmt: off
@pytest.mark.parametrize("fn, wanted", [
    (lambda x, y: ti.exp(x) + ti.exp(x),                    "exp add"),
    (lambda x, y: (x * y) - (y * x),                        "mul sub"),
    (lambda x, y: (x + y) / (y + x),                        "add div"),
    (lambda x, y: (x == y) & (y == x),                      "equal logical_and"),
    (lambda x, y: (x != y) & (y != x),                      "not_equal logical_and"),
    (lambda x, y: ((x < y) & (x > y)) == ((x > y) & (x < y)), "less greater logical_and equal"),
    (lambda x, y: x * 2 + x * ti.tensor(2.0),               "mul add"),
    (lambda x, y: x.mT @ y + x.mT @ y,                      "transpose matmul add"),
    (lambda x, y: (x - y) + (y - x),                        "sub sub add"),
    (lambda x, y: ti.maximum(x, y) + ti.maximum(y, x),      "maximum maximum add"),  # of 0.0 and -0.0
    (lambda x, y: ti.clip(x, 0, 1) + ti.clip(x, 0, 2),      "clip clip add"),
    (lambda x, y: ti.clip(x, 0.0, 1) + ti.clip(x, -0.0, 1), "clip clip add"),
])
# fmt: on
def test_equal_steps(fn, wanted):
    assert ops(merged(fn, x, y)) == wanted


def nan(bits):
    return np.uint32([bits]).view("f")


@pytest.mark.parametrize(
    "a, b, equal",
    [
        (y, y.copy(), True),
        (y, np.ascontiguousarray(y.T).T, True),
        (y, y.T, False),
        (y, y.astype("d"), False),
        (np.float32([0.0]), np.float32([-0.0]), False),
        (nan(0x7FC00000), nan(0x7FC00000), True),
        (nan(0x7FC00000), nan(0x7FC00001), False),
        (np.zeros(3, "f"), np.zeros((1, 3), "f"), False),
    ],
)
def test_constants_are_equal_if_their_bits_are(a, b, equal):
    fn = lambda x: [x + ti.tensor(a), x + ti.tensor(b)]
    assert (len(cse(ti.trace(fn, ti.tensor(x))).constants) == 1) == equal


def test_a_view_of_one_number_is_not_copied():
    a, b = ti.zeros(100_000, 100_000), ti.zeros(100_000, 100_000)  # 40 GB each
    after = cse(ti.trace(lambda x: [a[:1, :1] + x, b[:1, :1] + x], ti.tensor(1.0)))
    assert after.outputs[0] is after.outputs[1]


def test_random_numbers_are_drawn_anew():
    graph = ti.trace(lambda x: x + ti.rand(3) + ti.rand(3), ti.tensor(x))
    assert ops(agree(cse, graph, x, exact=True)).count("uniform") == 2


def test_inside():
    def fn(x, y):
        turn = lambda h, row: (h * row + row * h, ti.cond(h.sum() > 0, lambda: y * y + y * y, lambda: y))
        return ti.scan(turn, x[0], x)

    after = merged(fn, x, y)
    assert inside(after) == ["mul sum reshape greater cond tuple_get add"]
    (body,) = (n.op.body for n in after.steps if n.op.name == "scan")
    assert inside(body) == ["mul add", ""]


def test_a_long_chain():
    graph = chain(lambda x, i: x + ti.tanh(x) * ti.tanh(x), 5_000)
    assert len(cse(graph).steps) == 15_000
