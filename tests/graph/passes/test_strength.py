import numpy as np
import pytest
from agree import agree, chain, inside, ops

import tinyinfer as ti
from tinyinfer import nn
from tinyinfer.graph.passes import split
from tinyinfer.graph.passes.fold import fold
from tinyinfer.graph.passes.strength import strength

R = np.random.RandomState(0)
FLOATS = "float32", "float64", "float16"
x = R.uniform(0.5, 2, (4, 3))


def cheaper(fn, *arrays, exact=False):
    return agree(strength, ti.trace(fn, *map(ti.tensor, arrays)), *arrays, exact=exact)


# fmt: off
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("fn, wanted", [
    (lambda x: x ** 2.0,                               "mul"),
    (lambda x: x ** 3,                                 "mul mul"),
    (lambda x: x ** 4,                                 "mul mul"),
    (lambda x: x ** 0.5,                               "sqrt"),
    (lambda x: x ** -1,                                "div"),
    (lambda x: x ** -0.5,                              "sqrt div"),
    (lambda x: x ** ti.full((4, 3), 3, x.dtype),       "broadcast_to pow"),
    (lambda x: x ** 2.5 + 2 ** x + x ** x,             "pow pow add pow add"),
    (lambda x: x / 3,                                  "mul"),
    (lambda x: x / 0.125,                              "mul"),
    (lambda x: (x / 3 + x / 3) / 7,                    "mul mul add mul"),
    (lambda x: 3 / x,                                  "div"),
    (lambda x: x / x[:1],                              "slice div"),
])
# fmt: on
def test_cheaper(fn, wanted, dtype):
    assert ops(cheaper(fn, x.astype(dtype))) == wanted


v = np.float32([1.5, -2, 0.3])


def test_a_negative_base():
    assert ops(cheaper(lambda x: [x**2.0, x**3, x**4, x**-1], np.float32([-2, 0.5, -0.1, 0])))


@pytest.mark.parametrize("dtype", FLOATS)
def test_powers_of_two_are_exact(dtype):
    x = R.randn(1000).astype(dtype)
    for c in 0.25, 2.0, -64.0:
        assert ops(cheaper(lambda x, c=c: x / c, x, exact=True)) == "mul"


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_vector_of_constants(dtype):
    c = v.astype(dtype)
    after = cheaper(lambda x: x / ti.tensor(c), x.astype(dtype))
    assert ops(after) == "mul" and np.array_equal(after.constants[0].value, 1 / c)


@pytest.mark.parametrize(
    "c", [0.0, -0.0, np.inf, np.nan, 1e-40, 3e38, [1.0, 0.0], [2.0, 1e-40]], ids=str
)
def test_what_has_no_normal_reciprocal_stays_a_divisor(c):
    graph = ti.trace(lambda x: x / ti.tensor(np.float32(c)), ti.ones(3, 2))
    assert strength(graph).nodes == graph.nodes


def test_what_is_wider_stays():
    graph = ti.trace(lambda x: x.double() / ti.tensor(v), ti.tensor(x.astype("f")))
    assert ops(strength(graph)) == "cast div"


def test_whole_numbers_stay():
    graph = ti.trace(lambda x: x // 2 + x % 4, ti.arange(9))
    assert strength(graph).nodes == graph.nodes


# Divisors that follow from States


def test_the_reciprocal_of_states_is_taken_before():
    w = ti.State(np.float32([1, 2, 3]), name="w")
    graph = ti.trace(lambda x: x / ti.sqrt(w * w + 1e-5), ti.tensor(x.astype("f")))
    after = agree(strength, graph, x.astype("f"))
    assert ops(after) == "mul add sqrt div mul"
    prologue, body = split(after)
    assert ops(body) == "mul" and ops(prologue).endswith("sqrt div")
    w.assign(np.float32([4, 5, 6]))
    assert np.allclose(after.run(x.astype("f")), graph.run(x.astype("f")))


@pytest.mark.parametrize(
    "name, fn",
    {
        "as large": lambda x, w: x / (w + x[0] * 0),
        "no larger": lambda x, w: x[0] / w,
        "of an input": lambda x, w: x / x[0],
        "of States alone": lambda x, w: (w * 2) / (w + 1) + x,
        "half": lambda x, w: x.astype("float16") / w.astype("float16"),
        "wider": lambda x, w: x.astype("float64") / w,
    }.items(),
)
def test_others_stay(name, fn):
    w = ti.State(np.float32([1, 2, 3]))
    graph = ti.trace(lambda x: fn(x, w), ti.tensor(x.astype("f")))
    assert strength(graph).nodes == graph.nodes


def test_states_that_change_stay():
    w = ti.State(np.float32([1, 2, 3]))

    def fn(x):
        w.assign(w * 0.9)
        return x / w.detach() + x.mean(0) / w

    graph = ti.trace(fn, ti.tensor(x.astype("f")))
    assert strength(graph).nodes == graph.nodes


def test_a_layer():
    """Layer norm divides by what it has just computed; batch norm as a formula by a State."""
    bn = nn.BatchNorm1d(3).eval()
    fn = lambda x: (x - bn.running_mean) / (bn.running_var + 1e-5) ** 0.5 + ti.layer_norm(x, 3)
    graph = ti.trace(fn, ti.tensor(x.astype("f")))
    after = agree(strength, graph, x.astype("f"))
    assert ops(split(after)[0]) == "add sqrt div"
    assert ops(split(after)[1]).count("div") == ops(graph).count("div") - 1


def test_inside():
    def fn(x):
        return ti.scan(lambda h, row: (h / 2 + row**2.0, ti.cond(h.sum() > 0, lambda: h**0.5, lambda: h)), x[0], x)

    after = agree(strength, ti.trace(fn, ti.tensor(x.astype("f"))), x.astype("f"))
    assert inside(after) == ["sum reshape greater cond tuple_get mul mul add"]
    (body,) = (n.op.body for n in after.steps if n.op.name == "scan")
    assert inside(body) == ["sqrt", ""]


def test_what_it_saves_is_in_the_history():
    graph = ti.trace(lambda x: x**2.0 + x**0.5, ti.tensor(x.astype("f")))
    assert strength(graph).history[-1].saved.flops == 4 * x.size


def test_it_goes_on_after_folding():
    graph = ti.trace(lambda x: x / (ti.tensor(1.0) + ti.tensor(2.0)), ti.tensor(x.astype("f")))
    assert ops(strength(fold(graph))) == "mul"


def test_a_long_chain():
    assert len(strength(chain(lambda x, i: x / 3 if i % 5 == 0 else ti.tanh(x))).steps) == 20_000
