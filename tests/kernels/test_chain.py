"""Elementwise steps in one loop, against the definitions: bit for bit but for curves."""

import numpy as np
import pytest
from kernel_check import agrees, carried_out

import tinyinfer as ti
from tinyinfer.core.spec import Specs, spec_of
from tinyinfer.graph.fused import Fused
from tinyinfer.kernels import chain, threads
from tinyinfer.kernels.program import CURVES, KNOWN
from tinyinfer.ops import activation, elementwise, quantize

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy, at infinities
RNG = np.random.default_rng(0)
SPECIAL = np.float32([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 1e30, -1e30])


def floats(*shape):
    """Some of them not finite."""
    x = RNG.standard_normal(shape).astype(np.float32)
    x.ravel()[::5] = np.resize(SPECIAL, x.ravel()[::5].shape)
    return x


def masks(*shape):
    return RNG.random(shape) < 0.5


ATTRIBUTES = {
    elementwise.Clip: (-0.5, 0.5),
    activation.LeakyRelu: (0.1,),
    activation.Elu: (0.7,),
}
GIVEN = {
    elementwise.Where: (masks(70), floats(70), floats(70)),
    elementwise.LogicalAnd: (masks(70), masks(70)),
    elementwise.LogicalOr: (masks(70), masks(70)),
    elementwise.LogicalNot: (masks(70),),
    quantize.FakeQuantize: (floats(70), floats(70)),
}
UNARY = (elementwise.Unary,)


@pytest.mark.parametrize("kind", KNOWN, ids=lambda kind: kind.name)
def test_each_op_is_what_its_definition_says(kind):
    op = kind(*ATTRIBUTES.get(kind, ()))
    xs = GIVEN.get(kind) or (floats(70),) * (1 if issubclass(kind, UNARY) else 2)
    xs = (xs[0], *[np.roll(x, 7) for x in xs[1:]])
    if kind in CURVES:
        agrees(chain.one, op, *xs)
    else:
        kernel = chain.one(op, op.infer(*map(spec_of, xs)), *map(spec_of, xs))
        np.testing.assert_array_equal(carried_out(kernel, op, *xs), op.forward(*xs))


def fused(fn, *xs):
    """(what the kernel makes of a function, what its definition makes, the kernel)"""
    op = Fused(ti.trace(fn, *map(ti.tensor, xs)))
    kernel = chain.fused(op.graph, op.graph.outputs[0].spec, *map(spec_of, xs))
    return carried_out(kernel, op, *xs), op.forward(*xs), kernel


def steps(a, *others):
    y = a * 2.0 + 1.0
    for b in others:
        y = ti.maximum(y, b) - b * 0.5
    return ti.relu(y)


@pytest.mark.parametrize(
    "shapes",
    [
        [(3, 5, 7)],
        [()],
        [(0, 4)],
        [(1,)],
        [(1000,)],
        [(70,), ()],
        [(5, 33), (33,)],
        [(5, 33), (5, 1)],
        [(5, 1), (1, 33)],
        [(2, 3, 5, 7), (3, 1, 1)],
        [(2, 3, 5, 7), (3, 1, 7)],
        [(2, 3, 5, 7), (2, 1, 5, 1), (1, 3, 1, 7)],
        [(2, 0, 3), (3,)],
    ],
)
def test_operands_broadcast(shapes):
    got, wanted, _ = fused(steps, *[floats(*s) for s in shapes])
    np.testing.assert_array_equal(got, wanted)


def test_a_view_of_an_input_is_an_operand():
    fn = lambda x, b: ti.relu(x * b.reshape(-1, 1, 1) + b.unsqueeze(1).unsqueeze(2).expand(4, 5, 6))
    got, wanted, kernel = fused(fn, floats(3, 4, 5, 6), RNG.random(4).astype(np.float32))
    np.testing.assert_array_equal(got, wanted)
    assert kernel.over == (0,)


def test_masks_are_zeros_and_ones_to_arithmetic():
    got, wanted, _ = fused(lambda g, x: g * (x > 0.5) + (x == x), floats(40), floats(40))
    np.testing.assert_array_equal(got, wanted)


def test_masks_come_out_and_go_in():
    got, wanted, _ = fused(lambda x, p: (x > 0.0) & ~p | (x != x), floats(3, 50), masks(50))
    np.testing.assert_array_equal(got, wanted)


def test_what_is_not_known_is_left_to_others():
    whole = ti.trace(lambda x: x * 2 + 1, ti.tensor(np.arange(3)))
    double = ti.trace(lambda x: x * 2 + 1, ti.tensor(np.ones(3)))
    sine = ti.trace(lambda x: ti.sin(x) + 1, ti.tensor(np.float32([1, 2])))
    turned = ti.trace(lambda x, b: x + b.T, *map(ti.tensor, [floats(3, 4), floats(4, 3)]))
    for graph in whole, double, sine, turned:
        assert chain.fused(graph, graph.outputs[0].spec, *[x.spec for x in graph.inputs]) is None


def test_it_writes_over_an_input_and_around_gaps():
    op, x = elementwise.Mul(), floats(40, 6)
    kernel = chain.one(op, *[spec_of(x)] * 3)
    assert kernel.over == (0, 1)
    wanted, y, spread = x * x, np.zeros((40, 9), np.float32), np.repeat(x, 2, 1)[:, ::2]
    kernel.run(y[:, 2:8], x, spread)
    np.testing.assert_array_equal(y[:, 2:8], wanted)
    assert not y[:, :2].any() and not y[:, 8:].any()
    kernel.run(x, x, x)
    np.testing.assert_array_equal(x, wanted)


def test_what_is_smaller_is_not_written_over():
    a, b = floats(4, 4), floats(4, 4)
    graph = ti.trace(lambda a, b: a + b.reshape(4, 2, 2)[:1].reshape(4), *map(ti.tensor, [a, b]))
    assert chain.fused(graph, graph.outputs[0].spec, spec_of(a), spec_of(b)) is None
    assert chain.one(elementwise.Add(), spec_of(a), spec_of(a), spec_of(b[0])).over == (0,)


@pytest.mark.parametrize("n", [1, 1000, 4103])
def test_results_stored_past_the_caches_are_the_same(n, monkeypatch):
    monkeypatch.setattr(chain, "LARGE", 0)
    x = floats(n + 3)
    kernel = chain.one(elementwise.Mul(), *[spec_of(x[:n])] * 3)
    for start in range(3):  # wherever a line of the cache begins
        y = np.full(n + 3, 7, np.float32)
        kernel.run(y[start : start + n], x[:n], x[1 : n + 1])
        np.testing.assert_array_equal(y[start : start + n], x[:n] * x[1 : n + 1])
        assert (y[:start] == 7).all() and (y[start + n :] == 7).all()


@pytest.mark.parametrize("shapes", [[(5000,), (5000,)], [(5, 300), (300,)], [(2, 3, 50), (3, 1)]])
def test_the_result_does_not_depend_on_threads(shapes, monkeypatch):
    xs, results = [floats(*s) for s in shapes], []
    fn = lambda a, b: ti.exp(a) * b + ti.tanh(b)
    for n in 1, 2, 3:
        monkeypatch.setattr(threads, "parts", lambda operations, most, n=n: min(n, most))
        results.append(fused(fn, *xs)[0].tobytes())
    assert len({*results}) == 1


def test_several_results_of_one_loop():
    def step(p, g, v):
        v = v * 0.9 + g
        return p - v * 0.1, v

    xs = [floats(3, 70) for _ in range(3)]
    graph = ti.trace(step, *map(ti.tensor, xs))
    ys = tuple(np.empty_like(xs[0]) for _ in range(2))
    kernel = chain.fused(graph, Specs(map(spec_of, ys)), *map(spec_of, xs))
    wanted = graph.run(*xs)
    kernel.run(ys, *xs)
    for y, w in zip(ys, wanted, strict=True):
        np.testing.assert_array_equal(y, w)
