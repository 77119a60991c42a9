"""Reductions, softmax and normalisation of groups, against the definitions in double precision."""

import numpy as np
import pytest
from kernel_check import agrees, carried_out

import tinyinfer as ti
from tinyinfer.core.spec import spec_of
from tinyinfer.graph.fused import Fused
from tinyinfer.kernels import norm, reduce, softmax, threads
from tinyinfer.kernels.groups import fused, grouped, sizes_of
from tinyinfer.ops.norm import LayerNorm
from tinyinfer.ops.reduce import LogSoftmax, LogSumExp, Max, Mean, Min, Softmax, Sum, Var

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy, at infinities
RNG = np.random.default_rng(0)

# op: (what finds its kernel, error)
OPS = {
    Sum: (reduce.grouped, 1e-7),
    Mean: (reduce.grouped, 1e-7),
    lambda axes: Var(axes, 0): (reduce.grouped, 1e-7),
    Max: (reduce.grouped, 0),
    Min: (reduce.grouped, 0),
    Softmax: (softmax.grouped, 3e-7),
    LogSoftmax: (softmax.grouped, 3e-7),
    LogSumExp: (softmax.grouped, 3e-7),
    lambda axes: LayerNorm(axes, 1e-5): (norm.grouped, 1e-7),
}
NAMES = "sum mean var max min softmax log_softmax logsumexp layer_norm".split()
each_op = pytest.mark.parametrize("make", OPS, ids=NAMES)


def floats(*shape):
    return (4 * RNG.standard_normal(shape) + 3).astype(np.float32)


def with_special(x):
    x = x.copy()
    x.ravel()[::9] = np.resize(np.float32([np.nan, np.inf, -np.inf, 0]), x.ravel()[::9].shape)
    return x


SHAPES = [
    ((5, 10), (1,)),  # along
    ((4, 333), (1,)),
    ((3, 0), (0,)),
    ((0, 3), (1,)),
    ((5, 1), (1,)),  # across
    ((6, 7), (0,)),
    ((3, 5, 150), (1,)),
    ((2, 3, 8, 16), (1,)),
]
ROUND = [((2, 3, 4, 5), (0, 2, 3)), ((2, 3, 9, 9), (2, 3)), ((70,), (0,)), ((2, 3, 40), (0, 1, 2))]


@each_op
def test_a_group_is_what_the_definition_says(make):
    find, error = OPS[make]
    for shape, axes in SHAPES + ROUND:
        x = floats(*shape)
        agrees(find, make(axes), x, error=error)
        agrees(find, make(axes), with_special(x), error=3e-6)


@each_op
def test_infinities_and_nan_alone(make):
    x = np.float32([[np.inf] * 5, [-np.inf] * 5, [np.nan] * 5, [-np.inf, 1, 2, 3, 4], [1e30] * 5])
    for axes in (1,), (0,):
        agrees(OPS[make][0], make(axes), x)


@each_op
def test_the_result_does_not_depend_on_threads(make, monkeypatch):
    for shape, axes in ((5, 300), (1,)), ((3, 5, 150), (1,)):
        x, op, found = floats(*shape), make(axes), set()
        for n in 1, 2, 3:
            monkeypatch.setattr(threads, "parts", lambda operations, most, n=n: min(n, most))
            kernel = OPS[make][0](op, op.infer(spec_of(x)), spec_of(x))
            found.add(carried_out(kernel, op, x).tobytes())
        assert len(found) == 1


def test_axes_that_lie_between_others():
    assert sizes_of((2, 3, 4, 5), (0, 2, 3)) == (1, 2, 3, 20)
    assert sizes_of((2, 3, 4, 5), (1, 3)) == (2, 3, 4, 5)
    assert sizes_of((2, 1, 4, 5), (3,)) == (1, 1, 8, 5)
    assert sizes_of((2, 3, 4, 5), (1,)) == (2, 3, 20, 1)
    assert sizes_of((2, 3), ()) == (1, 1, 6, 1)
    assert sizes_of((2, 3, 4, 5), (0, 2)) is None
    assert sizes_of((), ()) == (1, 1, 1, 1)


def test_what_they_leave_to_others():
    x = spec_of(floats(2, 3, 4, 5))
    assert grouped(Sum((0, 2)), Sum((0, 2)).infer(x), x) is None
    double = spec_of(np.ones((2, 3)))
    for make, (find, _) in OPS.items():
        assert find(make((1,)), make((1,)).infer(double), double) is None


def test_a_sum_of_many_is_that_of_double_precision():
    x = np.full((1, 1 << 20), 0.1, np.float32)
    got = carried_out(grouped(Sum((1,)), *[Sum((1,)).infer(spec_of(x)), spec_of(x)]), Sum((1,)), x)
    assert got.item() == np.float32(x.astype(np.float64).sum())


@pytest.mark.parametrize("op, wanted", [(LogSumExp((1,)), [[0]]), (LogSoftmax((1,)), [[0, -15]])])
def test_what_the_others_add_to_the_largest_is_not_lost(op, wanted):
    x = np.float32([[0, -15]])
    got = carried_out(grouped(op, op.infer(spec_of(x)), spec_of(x)), op, x)
    little = np.log1p(np.exp(-15.0)) * (1 if isinstance(op, LogSumExp) else -1)
    np.testing.assert_allclose(got, np.add(wanted, little), rtol=1e-6)


@pytest.mark.parametrize("make", [Softmax, LogSoftmax, lambda a: LayerNorm(a, 1e-5)])
def test_it_may_be_written_over_what_it_is_made_of(make):
    for axes in (1,), (0,):
        x, op = floats(20, 70), make(axes)
        kernel = OPS.get(make, (grouped,))[0](op, spec_of(x), spec_of(x))
        assert kernel.over == (0,)
        wanted = carried_out(kernel, op, x)
        kernel.run(x, x)
        np.testing.assert_array_equal(x, wanted)


def affine(x, w, b):
    return ti.layer_norm(x, x.shape[-1], w, b)


FUSED = [
    (affine, [(6, 70), (70,), (70,)], (0,)),
    (affine, [(2, 3, 70), (70,), (70,)], (0,)),
    (lambda x, w: ti.layer_norm(x, (3, 30)) * w + 1.0, [(2, 3, 30), (3, 30)], (0,)),
    (lambda x: x + ti.layer_norm(x, 33).relu(), [(5, 33)], ()),
    (lambda t, x: t * x.log_softmax(1), [(5, 33), (5, 33)], (1,)),
    (lambda x, s, one: x.softmax(-1) * s - one, [(4, 5, 33), (4, 5, 1), ()], (0,)),
    (lambda x, g: x.softmax(1) * g, [(2, 40, 17), (2, 40, 17)], (0,)),
    (lambda x, w: x.softmax(0) * w, [(5, 33), (33,)], (0,)),
]


@pytest.mark.parametrize("fn, shapes, over", FUSED)
def test_steps_that_follow(fn, shapes, over):
    xs = [floats(*s) for s in shapes]
    op = Fused(ti.trace(fn, *map(ti.tensor, xs)))
    find = lambda op, *specs: fused(op.graph, *specs)
    assert agrees(find, op, *xs, error=5e-7).over == over


def test_steps_that_are_left_to_others():
    across = lambda x, w: x.softmax(0) * w
    twice = lambda x, w: (x.softmax(1) * w).softmax(1)
    before = lambda x, w: (x * w).softmax(1) + 1.0
    sums = lambda x, w: x.sum(1, keepdim=True) * 2.0
    along = lambda x, w: (x * w).sum(0, keepdim=True)
    for fn in across, twice, before, sums, along:
        xs = [floats(5, 7), floats(5, 1) if fn in (across, along) else floats(7)]
        graph = ti.trace(fn, *map(ti.tensor, xs))
        assert fused(graph, graph.outputs[0].spec, *map(spec_of, xs)) is None


REDUCED = [
    (lambda g, x: (g * x).sum(-1, keepdim=True), [(5, 70), (5, 70)]),
    (lambda g, x, m: (g * (x - m)).sum((0, 2, 3), keepdim=True), [(2, 3, 5, 5)] * 2 + [(3, 1, 1)]),
    (lambda x, t: ((x - t) * (x - t)).mean((0, 1), keepdim=True), [(6, 33), (6, 33)]),
    (lambda x, w: ti.exp(x - w).sum(1, keepdim=True), [(5, 33), (33,)]),
    (lambda x, s: (x * s).max(0, keepdim=True), [(5, 33), (33,)]),
    (lambda x: (x + 1.0).var(1, keepdim=True), [(5, 33)]),
    (lambda x, w: (x * w).logsumexp(1, keepdim=True), [(5, 33), (33,)]),
]


@pytest.mark.parametrize("fn, shapes", REDUCED)
def test_steps_that_go_before(fn, shapes):
    xs = [floats(*s) for s in shapes]
    op = Fused(ti.trace(fn, *map(ti.tensor, xs)))
    agrees(lambda op, *specs: fused(op.graph, *specs), op, *xs, error=5e-7)
