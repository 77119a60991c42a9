"""Every equation alone: what becomes of its left side, and that the numbers stay."""

import ast
import inspect
import sys

import numpy as np
import pytest
from agree import agree, chain, inside, ops

import tinyinfer as ti
from tinyinfer.graph.passes.simplify import simplify
from tinyinfer.ops.shape import PutSlice

RNG = np.random.RandomState(0)
FLOATS = "float32", "float64", "float16"
full = lambda number, x: ti.full(x.shape, number, x.dtype)

# (left side, the ops of the right side). x, y, z are floats (2, 3), i and j whole numbers, p and q
# masks, all of one shape; a is (3, 2), t is (2, 3, 4).
# fmt: off
EXACT = [
    (lambda x: x + 0,                                      ""),
    (lambda x: 0 + x,                                      ""),
    (lambda x: ti.add(ti.zeros(2, 3, dtype=x.dtype), x),   ""),
    (lambda i: i + 0,                                      ""),
    (lambda x: x - 0,                                      ""),
    (lambda x: x * 1,                                      ""),
    (lambda x: ti.mul(full(1, x), x),                      ""),
    (lambda x: x / 1,                                      ""),
    (lambda x: x ** 1,                                     ""),
    (lambda x, y: x ** 0 * y,                              ""),
    (lambda x: x * -1,                                     "neg"),
    (lambda x: x / -1,                                     "neg"),
    (lambda x: 0 - x,                                      "neg"),
    (lambda i: i * 0,                                      ""),
    (lambda i, j: (i - i) + j,                             ""),
    (lambda x: ti.neg(-x),                                 ""),
    (lambda x: ti.neg(-ti.neg(-ti.neg(-x))) * -1,          "neg"),
    (lambda x, y: -(x - y),                                "sub"),
    (lambda x, y: x + -y,                                  "sub"),
    (lambda x, y: -x + y,                                  "sub"),
    (lambda x, y: x - -y,                                  "add"),
    (lambda x, y: -x * -y,                                 "mul"),
    (lambda x, y: -x / -y,                                 "div"),
    (lambda x: -x * 2,                                     "mul"),
    (lambda x: -x / 3,                                     "div"),
    (lambda i: i + 2 + 3,                                  "add"),
    (lambda i: i * 2 * 3,                                  "mul"),
    (lambda x: x * 2 * 4,                                  "mul"),
    (lambda x: ti.abs(-x),                                 "abs"),
    (lambda x: ti.abs(ti.abs(x)),                          "abs"),
    (lambda x: ti.abs(ti.relu(x)),                         "relu"),
    (lambda x: ti.sign(ti.sign(x)),                        "sign"),
    (lambda x: ti.floor(ti.round(x)),                      "round"),
    (lambda x, y: ti.where(ti.tensor(True), x, y),         ""),
    (lambda x, y: ti.where(ti.zeros(2, 3, dtype=bool), x, y), ""),
    (lambda x, p: ti.where(p, x, x),                       ""),
    (lambda x, y, p: ti.where(~p, x, y),                   "where"),
    (lambda x, y, z, p: ti.where(p, ti.where(p, x, y), z), "where"),
    (lambda x, y, z, p: ti.where(p, x, ti.where(p, y, z)), "where"),
    (lambda p: ~~p,                                        ""),
    (lambda x, y: ~(x == y),                               "not_equal"),
    (lambda x, y: ~(x != y),                               "equal"),
    (lambda p: p & True,                                   ""),
    (lambda p, q: p & ti.zeros(2, 3, dtype=bool) | q,      ""),
    (lambda p: p | False,                                  ""),
    (lambda p, q: (p | ti.ones(2, 3, dtype=bool)) & q,     ""),
    (lambda p: p & p,                                      ""),
    (lambda p: p | p,                                      ""),
    (lambda p, q: (p & ~p) | q,                            ""),
    (lambda p, q: (~p | p) & q,                            ""),
    (lambda x: ti.maximum(x, x),                           ""),
    (lambda x: ti.minimum(x, x),                           ""),
    (lambda x: ti.maximum(x, 0),                           "relu"),
    (lambda x: ti.maximum(0, x),                           "relu"),
    (lambda i: ti.maximum(i, 0),                           "relu"),
    (lambda x: ti.relu(ti.relu(x)),                        "relu"),
    (lambda x: ti.minimum(ti.relu(x), 0.5),                "clip"),
    (lambda x: ti.minimum(0.5, ti.maximum(x, -1)),         "clip"),
    (lambda x: ti.maximum(-1, ti.minimum(x, 0.5)),         "clip"),
    (lambda i: ti.maximum(ti.minimum(i, 2), 1),            "clip"),
    (lambda x: ti.clip(ti.clip(x, -1, 0.5), 0, 2),         "clip"),
    (lambda x: ti.clip(ti.relu(x), max=0.5),               "clip"),
    (lambda x: ti.relu(ti.clip(x, -1, 1)),                 "clip"),
    (lambda x: ti.clip(ti.clip(x, min=-1), max=1),         "clip"),
    (lambda x: ti.sum(x[:1], 0, keepdim=True),             "slice"),
    (lambda x: x[:1].mean(0, True) + x[:1].max(0, True) + x[:1].min(0, True),
                                                           "slice slice slice add add"),
    (lambda x: ti.prod(x[:1], 0, True) * ti.logsumexp(x[:1], 0, True), "slice slice mul"),
    (lambda t: t.max(0).max(0, True),                      "max reshape max"),
    (lambda t: t.max(0, True).max(2, True),                "max"),
    (lambda t: t.min(0, True).min((0, 2), True),           "min"),
    (lambda x: x.expand(4, 2, 3).mean(0),                  ""),
    (lambda x: x.expand(4, 2, 3).max(0, True),             "reshape"),
    (lambda x: ti.Tensor.reshape(x, 6).reshape(3, 2).reshape(2, 3), ""),
    (lambda x: x.reshape(3, 2).reshape(6),                 "reshape"),
    (lambda x: x.unsqueeze(0).squeeze(0),                  ""),
    (lambda x: x.expand(2, 2, 3).expand(4, 2, 2, 3),       "broadcast_to"),
    (lambda x: x.unsqueeze(0).expand(4, 2, 3),             "broadcast_to"),
    (lambda x: x.permute(0, 1),                            ""),
    (lambda x: x.mT.mT,                                    ""),
    (lambda t: t.permute(1, 2, 0).permute(1, 2, 0).permute(1, 2, 0), ""),
    (lambda t: t.permute(1, 2, 0).permute(0, 2, 1),        "transpose"),
    (lambda x: x.unsqueeze(1).permute(1, 0, 2).reshape(6), "reshape"),
    (lambda x: x[:, :] + x[0:2],                           "add"),
    (lambda x: x[::-1][::-1],                              ""),
    (lambda t: t[:, 1:][:, 1:, ::2][:, :, ::-1],           "slice"),
    (lambda t: t[:, 1:][:, 1:][:, 1:],                     "slice"),
    (lambda t: t[0:1, 2:0:-1][:, ::-1],                    "slice"),
    (lambda x: ti.pad(x, (0, 0)),                          ""),
    (lambda x: ti.concat([x]),                             ""),
    (lambda x: ti.stack([x]).reshape(2, 3),                ""),
    (lambda x: PutSlice(((0, 2, 1), (0, 3, 1)), (2, 3))(x), ""),
    (lambda x: PutSlice(((3, 1, -1), (0, 3, 1)), (4, 3))(x)[:1:-1], ""),
    (lambda p: p.astype("int8").astype("float32").astype("float64"), "cast"),
    (lambda i: i.astype("int64"),                          ""),
    (lambda i: i.astype("int8").astype("float32").astype("int64"), "cast cast"),
    (lambda p: p.astype("float32").astype("bool"),         ""),
    (lambda x, p: x * p.astype("int8").astype(x.dtype),    "cast mul"),
    (lambda x, y: x[:1].expand(2, 3) + y,                  "slice add"),
    (lambda x, y: x[:1].expand(2, 3) + y[:, :1].expand(2, 3), "slice slice add"),
    (lambda x, y, p: ti.where(p, x[:1].expand(2, 3), y[:, :1].expand(2, 3)), "slice slice where"),
    (lambda x, t: ti.conv2d(ti.pad(x.reshape(1, 1, 2, 3), (1, 0, 2, 1)), t[:, None, :, :2]),
                                                           "reshape slice reshape conv2d"),
]

ROUNDS = [
    (lambda x: x * 0.1 * 3,                                "mul"),
    (lambda x: ti.log(ti.exp(x)),                          ""),
    (lambda x: ti.sqrt(x * x),                             "abs"),
    (lambda x: ti.log(ti.softmax(x)),                      "log_softmax"),
    (lambda t: ti.log(ti.softmax(t, 1)),                   "log_softmax"),
    (lambda t: ti.log(ti.exp(t).sum(1, True)),             "log_sum_exp"),
    (lambda t: ti.log(ti.exp(t).sum((0, 2))),              "log_sum_exp reshape"),
    (lambda t: ti.exp(t) / ti.exp(t).sum(1, True),         "softmax"),
    (lambda t: ti.exp(t) / ti.exp(t).sum(1).unsqueeze(1),  "softmax"),
    (lambda x: x - ti.logsumexp(x, 1, True),               "log_softmax"),
    (lambda x: ti.softmax(x - x.max(1, True)),             "softmax"),
    (lambda x: ti.log_softmax(x - x.max(1, True)),         "log_softmax"),
    (lambda x: ti.exp(x - x.max(1, True)) / ti.exp(x - x.max(1, True)).sum(1, True),
                                                           "max sub exp max sub exp sum div"),
    (lambda x: softmax_by_hand(x),                         "softmax"),
    (lambda x: logsumexp_by_hand(x),                       "log_sum_exp"),
    (lambda x: 1 / (1 + ti.exp(-x)),                       "sigmoid"),
    (lambda x: 1 / (ti.exp(x) + 1),                        "neg sigmoid"),
    (lambda x: ti.div(1, ti.add(1, ti.exp(-x))),           "sigmoid"),
    (lambda x: ti.log(1 + ti.exp(x)),                      "softplus"),
    (lambda x: x * ti.sigmoid(x),                          "silu"),
    (lambda x: ti.sigmoid(x) * x,                          "silu"),
    (lambda x: x / (1 + ti.exp(-x)) * 1,                   "neg exp add div"),
    (lambda x: x * (1 / (1 + ti.exp(-x))),                 "silu"),
    (lambda x: x * ti.clip(x + 3, 0, 6) / 6,               "hardswish"),
    (lambda x: x * ti.minimum(ti.relu(3 + x), 6) / 6,      "hardswish"),
    (lambda x: ti.where(x > 0, x, 0.1 * x),                "leaky_relu"),
    (lambda t: t.sum(0, True).sum(1, True),                "sum"),
    (lambda t: t.mean(0, True).mean((1, 2), True),         "mean"),
    (lambda x: x.expand(5, 2, 3).sum(0),                   "mul"),
    (lambda x: x[:1].expand(4, 3).sum(0, True),            "slice mul"),
    (lambda x: x[:1].expand(5, 4, 3).sum(1, True),         "slice mul broadcast_to"),
    (lambda x, a: x.mT @ a.mT,                             "matmul transpose"),
    (lambda x, a: (x.mT @ a.mT).mT,                        "matmul"),
    (lambda t: t.mT @ t[0].mT[:2].mT,                      "slice reshape transpose slice matmul transpose"),
]

# What looks like it, and is something else.
STAYS = [
    lambda x: x * 0,                                        # NaN, infinity
    lambda x, y: x - x + y,
    lambda x: x / x,
    lambda x: ti.exp(ti.log(x)),                            # not below 0
    lambda x: x + 1e4 - 1e4,                                # a way to round
    lambda x: x * 1e-30 * 1e-30,                            # 0 in float32
    lambda x: x * ti.full((4, 2, 3), 1, x.dtype),           # another shape
    lambda x: x + ti.zeros(1, 1, 2, 3, dtype=x.dtype),
    lambda x, y: ti.where(ti.tensor(True), x[:1], y),
    lambda x, p: ti.where(p, x, 0.0) + ti.where(x > 0, x, 0.0),
    lambda x, y: ~(x < y),                                  # NaN is neither
    lambda x: ti.clip(ti.clip(x, 1, 2), -2, -1),            # nothing in common
    lambda x: ti.clip(ti.clip(x, 1, -1), -2, 2),            # the wrong way round
    lambda x: ti.relu(ti.abs(x)),                           # of whole numbers |-128| is -128
    lambda x: ti.softmax(x - x.max(0, True)),               # along another axis
    lambda x, y: ti.exp(x) / ti.exp(y).sum(1, True),
    lambda x: 1 / (2 + ti.exp(x)),
    lambda x, y: x * ti.sigmoid(y),
    lambda x: x.astype("float16").astype(x.dtype) if x.dtype != "float16" else x.sum(),
    lambda i: i.astype("float32").astype("int64"),          # not beyond 2 ** 24
    lambda t: t.permute(1, 0, 2).reshape(24),
    lambda t: t.sum(0, True).max(1, True),
    lambda x: x.expand(4, 2, 3).sum(1),
    lambda x: ti.expand(x, 4, 2, 3) * x,
    lambda t: t.permute(1, 0, 2) @ t.permute(1, 2, 0),
    lambda x: ti.conv2d(ti.pad(x.reshape(1, 1, 2, 3), (1, 1), 2.0), x.reshape(1, 1, 2, 3)),
    lambda x: ti.conv2d(ti.pad(x.reshape(1, 1, 2, 3), (0, 0, 0, 0, 1, 0)), x.expand(1, 2, 2, 3)),
]
# fmt: on


def softmax_by_hand(x):
    top = x - x.max(1, True)
    e = ti.exp(top)
    return e / e.sum(1, True)


def logsumexp_by_hand(x):
    top = x.max(1, True)
    return ti.log(ti.exp(x - top).sum(1, True)) + top


def arrays(fn, dtype):
    """For its parameters, by their letters."""
    of = {
        "x": lambda: RNG.uniform(-2, 2, (2, 3)).astype(dtype),
        "i": lambda: RNG.randint(-4, 5, (2, 3)),
        "p": lambda: RNG.uniform(size=(2, 3)) < 0.5,
        "a": lambda: RNG.uniform(-2, 2, (3, 2)).astype(dtype),
        "t": lambda: RNG.uniform(-2, 2, (2, 3, 4)).astype(dtype),
    }
    kind = dict(zip("xyzijpqat", "xxxiippat"))
    return [of[kind[name]]() for name in inspect.signature(fn).parameters]


def traced(fn, xs):
    return ti.trace(fn, *[ti.tensor(x, requires_grad=x.dtype.kind == "f") for x in xs])


def source(fn):
    return (
        inspect.getsource(fn) if fn.__name__ != "<lambda>" else f"line {fn.__code__.co_firstlineno}"
    )


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("fn, wanted", EXACT, ids=[source(fn) for fn, _ in EXACT])
def test_exact(fn, wanted, dtype):
    xs = arrays(fn, dtype)
    assert ops(agree(simplify, traced(fn, xs), *xs, exact=True)) == wanted


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("fn, wanted", ROUNDS, ids=[source(fn) for fn, _ in ROUNDS])
def test_to_rounding(fn, wanted, dtype):
    xs = arrays(fn, dtype)
    assert ops(agree(simplify, traced(fn, xs), *xs)) == wanted


@pytest.mark.parametrize("fn", STAYS, ids=map(source, STAYS))
def test_stays(fn):
    graph = traced(fn, xs := arrays(fn, "float32"))
    before = simplify(graph)
    assert ops(agree(simplify, graph, *xs, exact=True)) == ops(graph) == ops(before)


def equations_of(module):
    """The lines of the `return`s in its tables."""
    cases = [
        n for n in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(n, ast.match_case)
    ]
    return {n.lineno for case in cases for n in ast.walk(case) if isinstance(n, ast.Return)}


def test_every_equation_has_a_sample():
    module, used = inspect.getmodule(simplify), set()
    graphs = [traced(fn, arrays(fn, "float32")) for fn, _ in EXACT + ROUNDS]

    def look(frame, event, value):
        if event == "return" and value is not None:
            used.add(frame.f_lineno)
        return look if frame.f_code.co_filename == module.__file__ else None

    before = sys.gettrace()
    sys.settrace(look)
    try:
        for graph in graphs:
            simplify(graph)
    finally:
        sys.settrace(before)
    assert equations_of(module) - used == set()


def test_in_branches_and_loops():
    def fn(x, y):
        x = ti.cond(x.sum() > 0, lambda: ti.neg(-x) * 1, lambda: ti.log(ti.softmax(x)))
        return ti.scan(lambda h, row: (ti.maximum(h + row, 0), ~(h == row)), x, y)

    xs = [RNG.randn(2, 3).astype("f"), RNG.randn(4, 2, 3).astype("f")]
    after = agree(simplify, traced(fn, xs), *xs)
    assert inside(after) == ["", "log_softmax", "add relu not_equal"]


def test_what_is_behind_an_input_is_not_seen():
    """A branch captures -x: in it, that is an input like any other."""
    fn = lambda x: (y := -x) * ti.cond(x.sum() > 0, lambda: -y, lambda: y + 1)
    graph = traced(fn, [x := RNG.randn(3).astype("f")])
    assert inside(agree(simplify, graph, x, exact=True)) == ["neg", "add"]


def test_what_an_op_refuses_does_not_hold():
    """A mask has no negative."""
    p = ti.placeholder(3, "bool", name="p")
    assert ops(simplify(ti.graph([p * -1, (p * 2) * -1], [p]))) == "mul mul neg"


@pytest.mark.parametrize(
    "fn, x, wanted",
    [
        (lambda x: ti.log(ti.exp(x)), [1000.0, -1000.0], [1000.0, -1000.0]),
        (lambda x: ti.sqrt(x * x), [1e30, -1e-30], [1e30, 1e-30]),
        (lambda x: ti.log(ti.softmax(x)), [0.0, 1000.0], [-1000.0, 0.0]),
        (lambda x: ti.log(ti.exp(x).sum()), [1000.0, 1000.0], 1000 + np.log(2)),
        (lambda x: ti.exp(x) / ti.exp(x).sum(0, True), [1000.0, 1000.0], [0.5, 0.5]),
        (lambda x: ti.log(1 + ti.exp(x)), [1000.0, -1000.0], [1000.0, 0.0]),
    ],
)
def test_without_overflow(fn, x, wanted):
    x = np.float32(x)
    graph = traced(fn, [x])
    with np.errstate(all="ignore"):
        assert not np.allclose(graph.run(x), wanted)
    assert np.allclose(simplify(graph).run(x), wanted)


def test_a_long_chain():
    graph = chain(lambda x, i: ti.tanh(x) if i % 4 else x.mT.mT * 1)
    assert ops(simplify(graph)) == " ".join(["tanh"] * 15_000)
