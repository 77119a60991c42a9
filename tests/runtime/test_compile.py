"""ti.compile gives what the function gives: values, gradients, changes of States, errors."""

import json
import os
import subprocess
import sys
from collections import defaultdict, namedtuple
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
from lenet import batches, lenet

import tinyinfer as ti
from tinyinfer import nn, optim
from tinyinfer.core.autograd import gradients
from tinyinfer.graph.tree import leaves
from tinyinfer.runtime.compile import Compiled
from tinyinfer.runtime.executor import Executor
from tinyinfer.runtime.plan import Plan

BACKENDS = "planned", "interpreted"


def numbers(*shape, seed=0):
    return np.random.RandomState(seed).standard_normal(shape).astype("float32")


def close(a, b) -> bool:
    return np.allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


@pytest.fixture
def net():
    ti.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    model[1].running_mean.assign(numbers(6))
    return model


# What can be compiled


def test_a_function(backend):
    calls = []

    @ti.compile(backend=backend)
    def double(x):
        """Twice."""
        calls.append(x)
        return x * 2

    assert double(ti.tensor([1.0, 2.0])).tolist() == [2, 4]
    assert double(ti.tensor([3.0, 4.0])).tolist() == [6, 8]
    assert len(calls) == 1  # traced once
    assert (double.__name__, double.__doc__) == ("double", "Twice.")


def test_a_decorator_without_options():
    @ti.compile
    def double(x):
        return x * 2

    assert isinstance(double, Compiled) and double(ti.ones(2)).tolist() == [2, 2]


def test_a_module(backend, net):
    x = ti.tensor(numbers(5, 4))
    net.eval()
    wanted = net(x)
    assert close(ti.compile(net, backend)(x), wanted)
    with ti.no_grad():
        assert close(ti.compile(net, backend)(x), wanted)


def test_a_graph(backend, net):
    x = ti.tensor(numbers(5, 4))
    graph = ti.trace(net.eval(), x)
    run = ti.compile(graph, backend)
    [y] = run(x)
    assert close(y, net(x))
    with pytest.raises(ti.GraphError, match=r"takes x: float32\[5, 4\]; and was given") as caught:
        run(x[:2])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("grad", [True, False])
def test_a_plan(net, grad):
    x = ti.tensor(numbers(5, 4))
    plan = ti.plan(ti.trace(net.eval(), x), memory="naive", order="construction")
    run = ti.compile(plan)
    with ti.no_grad() if not grad else nullcontext():
        [y] = run(x)
        assert close(y, net(x)) and y.requires_grad == grad
    assert grad or run.plan is plan
    with pytest.raises(ti.GraphError, match="and was given"):
        run(x[:2])
    net.astype("float16")
    for _ in range(3):
        with pytest.raises(ti.TinyinferError, match="float16"):
            run(x)
    assert sum(map(len, run.kinds.values())) == 1


def test_a_plan_of_a_step_that_trains():
    w = ti.State(np.float32(1))

    def step(x):
        w.assign(w * x)
        return w + 1

    run = ti.compile(ti.plan(ti.trace(step, ti.ones(()))))
    assert [run(ti.tensor(2.0))[0].item() for _ in range(3)] == [3, 5, 9] and w.item() == 8


def test_methods():
    class Scale:
        def __init__(self, by):
            self.by = ti.State(np.float32(by))

        @ti.compile
        def once(self, x):
            return x * self.by

        @ti.compile(threads=2)
        def often(self, x, *, times=1):
            return x * self.by * times

    a, b = Scale(2), Scale(5)
    for _ in range(2):
        assert (a.once(ti.ones(())).item(), b.once(ti.ones(())).item()) == (2, 5)
        assert (a.often(ti.ones(()), times=3).item(), b.often(ti.ones(())).item()) == (6, 5)
    assert isinstance(Scale.once, Compiled)


def test_methods_of_what_has_no_hash():
    @dataclass
    class Scale:
        by: float

        @ti.compile
        def __call__(self, x):
            return x * self.by

    for i in range(20):  # one comes to lie where another was
        assert Scale(i)(ti.ones(())).item() == i


# Arguments and results

Pair = namedtuple("Pair", "first second")


def test_containers_in_and_out(backend):
    @ti.compile(backend=backend)
    def fn(pair, more, *rest, scale, **named):
        out = defaultdict(list, total=pair.first + more["x"][0] * scale)
        return out, (pair.second, *rest), Pair(named["y"], None), "text", [[], 3]

    one, two = ti.ones(2), ti.ones(2) * 2
    for _ in range(2):
        out, rest, pair, text, more = fn(Pair(one, two), {"x": [two]}, one, two, scale=10, y=two)
        assert out["total"].tolist() == [21, 21] and out["new"] == [] and type(out) is defaultdict
        assert [x.tolist() for x in rest] == [[2, 2], [1, 1], [2, 2]] and type(rest) is tuple
        assert pair.first.tolist() == [2, 2] and pair.second is None and type(pair) is Pair
        assert text == "text" and more[0] == [] and more[1].item() == 3


def test_python_values_decide(backend):
    seen = []

    @ti.compile(backend=backend)
    def fn(x, k=2, how="mul", more=()):
        seen.append((k, how))
        return x * k if how == "mul" else x + k

    x = ti.ones(())
    assert [fn(x, k).item() for k in (2, 3, 2, 2.5, -1)] == [2, 3, 2, 2.5, -1]
    assert fn(x).item() == 2 and fn(x, how="add").item() == 3 and fn(x, k=2).item() == 2
    assert len(seen) == 7  # an argument that is not given is another kind than one that is
    assert fn(x, 2, "mul", more=frozenset([1])).item() == 2
    assert fn(x, True).dtype == np.float32


def test_numbers_that_are_equal_but_not_the_same(backend):
    f = ti.compile(lambda x, k: x * k, backend)
    signs = [np.signbit(f(ti.ones(()), k).item()) for k in (0.0, -0.0, 0.0)]
    assert signs == [False, True, False]
    assert f(ti.tensor(3), True).dtype == f(ti.tensor(3), 1).dtype == np.int64
    for _ in range(3):
        assert np.isnan(f(ti.ones(()), float("nan")).item())
    assert len(f.kinds) == 5


def test_arrays_are_arguments(backend):
    f = ti.compile(lambda x, y: x + y, backend)
    assert f(np.ones(2, "float32"), np.ones(2, "float32")).tolist() == [2, 2]
    assert f(np.full(2, 3, "float32"), y=ti.ones(2)).tolist() == [4, 4]
    x = np.ones(2, "float32")
    y = f(x, x)
    x += 1
    assert y.tolist() == [2, 2]


def test_the_same_tensor_twice():
    f, x = ti.compile(lambda a, b: a * b), ti.tensor([3.0], requires_grad=True)
    f(x, x).sum().backward()
    assert x.grad.tolist() == [6]


def test_other_shapes_and_dtypes(backend):
    f, count = ti.compile(lambda x: x.sum(0) + x.shape[0], backend), 0
    for n in 1, 2, 3, 2, 1:
        assert f(ti.ones(n)).item() == 2 * n
    for dtype in "float64", "float16", "int64":
        assert f(ti.ones(2).astype(dtype)).dtype == dtype
        count += 1
    assert len(f.kinds) == 3 + count


def test_a_result_that_is_an_argument_or_a_constant(backend):
    c = ti.tensor([7.0])
    f = ti.compile(lambda x: (x, x, c, x.reshape(1, -1)), backend)
    for i in range(3):
        x, again, seven, row = f(ti.tensor([float(i), 1.0]))
        assert x.tolist() == again.tolist() == row.tolist()[0] == [i, 1] and seven.item() == 7


# Python values that are not arguments


def test_training_and_evaluation(backend, net):
    x, f = ti.tensor(numbers(5, 4)), ti.compile(net, backend)
    with ti.no_grad():
        for _ in range(2):
            f.eval()
            assert not net.training and close(f(x), net(x))
            f.train()
            mean = net[1].running_mean.tolist()
            state = net.state_dict()
            y, after = f(x), net.state_dict()
            net.load_state_dict(state)
            assert close(y, net(x)) and net[1].running_mean.tolist() != mean
            assert all(close(after[name], value) for name, value in net.state_dict().items())
    assert len(f.kinds) == 1 and len(*f.kinds.values()) == 2


def test_parameters_that_are_frozen_and_set_free(net):
    x, f = ti.tensor(numbers(5, 4)), ti.compile(net.eval())
    assert f(x).requires_grad
    for flag in False, True, False, True:
        for p in net.parameters():
            p.requires_grad = flag
        assert f(x).requires_grad == flag
    net[0].weight.requires_grad = False
    f(x).sum().backward()
    assert net[0].weight.grad is None and net[3].weight.grad is not None
    assert len(*f.kinds.values()) == 3


def test_parameters_of_another_dtype(backend, net):
    f = ti.compile(net.eval(), backend)
    assert f(ti.tensor(numbers(5, 4))).dtype == "float32"
    net.astype("float64")
    x = ti.tensor(numbers(5, 4)).astype("float64")
    assert f(x).dtype == "float64" and np.allclose(f(x), net(x), atol=1e-12)
    net.astype("float32")
    assert f(x.astype("float32")).dtype == "float32"


def test_parameters_that_are_assigned(backend, net):
    f, x = ti.compile(net.eval(), backend), ti.tensor(numbers(5, 4))
    for grad in True, False:
        for i in range(3):
            net[0].weight.assign(numbers(6, 4, seed=i))
            net[1].running_var.assign(np.full(6, 1 + i, "float32"))
            with nullcontext() if grad else ti.no_grad():
                assert close(f(x), net(x))
    assert len(f.kinds) == 2


# Inside other things


def test_in_a_trace_it_is_inlined(backend):
    inner = ti.compile(lambda x: ti.relu(x) * 2, backend)
    graph = ti.trace(lambda x: inner(x) + 1, ti.ones(2))
    assert [n.op.name for n in graph.steps] == ["relu", "mul", "add"]
    assert ti.compile(lambda x: inner(inner(x)))(ti.ones(2)).tolist() == [4, 4]
    x = ti.placeholder((2,))
    assert [n.op.name for n in ti.graph(inner(x), x).steps] == ["relu", "mul"]
    assert not inner.kinds


def test_a_plan_in_a_trace_is_inlined():
    inner = ti.compile(ti.plan(ti.trace(lambda x: x * 2, ti.ones(2))))
    graph = ti.trace(lambda x: inner(x)[0] + 1, ti.ones(2))
    assert [n.op.name for n in graph.steps] == ["mul", "add"]


def test_a_part_of_a_loop():
    turn = ti.compile(lambda h, x: ti.tanh(h + x))
    run = lambda h, xs: ti.scan(lambda h, x: (turn(h, x), h), h, xs)
    h, xs = ti.zeros(3), ti.tensor(numbers(5, 3))
    for a, b in zip(run(h, xs), ti.compile(run)(h, xs), strict=True):
        assert close(a, b)


# Gradients


def leaf(*shape, seed=0):
    return ti.tensor(numbers(*shape, seed=seed), requires_grad=True)


FUNCTIONS = {
    "one": (lambda x, w: ti.tanh(x @ w), [(2, 3), (3, 4)]),
    "several": (lambda x, w: (x @ w, x.sum(), ti.exp(w)), [(2, 3), (3, 3)]),
    "an input": (lambda x, w: (x, x * w.sum()), [(2, 3), (2, 2)]),
    "views": (lambda x, w: (x.T, w[1:], (x * 1).reshape(-1)), [(2, 3), (4,)]),
    "a loop": (
        lambda h, xs: ti.scan(lambda h, x: (ti.tanh(h * x), h + x), h, xs), [(3,), (4, 3)],
    ),
    "a branch": (
        lambda x, y: ti.cond(x.sum() > 0, lambda: x * y, lambda: y - x), [(3,), (3,)],
    ),
    "a part without": (lambda x, w: x.detach() * w + x, [(3,), (3,)]),
}  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("fn, shapes", FUNCTIONS.values(), ids=FUNCTIONS)
def test_gradients(fn, shapes, threads, backend):
    """Of a random combination of the outputs; of only one; and of the norm of the gradient."""
    f = ti.compile(fn, backend, threads=threads)
    for seed in range(3):
        xs = [leaf(*shape, seed=seed) for shape in shapes]
        for count in 1, None:
            ours, wanted = (flat(derivatives(g, xs, count)) for g in (f, fn))
            assert len(ours) == len(wanted) and all(map(close, ours, wanted))


def derivatives(fn, xs, count):
    ys = [*leaves(fn(*xs))]
    total = sum((y * numbers(*y.shape, seed=i)).sum() for i, y in enumerate(ys[:count]))
    first = gradient(total, xs)
    return ys, first, gradient(sum((g * g).sum() for g in first), xs)


def gradient(y, xs):
    """Zero, where x has no influence: a compiled function is one step, so all that goes in is behind
    all that comes out."""
    found = gradients([y], [ti.ones(())], [x.node for x in xs], True) if y.requires_grad else {}
    return [found.get(x.node, ti.zeros(x.shape)) for x in xs]


def flat(x):
    return [y.numpy() for y in leaves(x)]


def test_integers_have_no_gradient(backend):
    f = ti.compile(lambda x, i: (ti.take(x, i), i + 1, x.sum()), backend)
    x, i = leaf(4), ti.tensor([0, 2, 2])
    y, j, s = f(x, i)
    assert y.requires_grad and s.requires_grad and not j.requires_grad and j.tolist() == [1, 3, 3]
    (y.sum() + s).backward()
    assert x.grad.tolist() == [2, 1, 3, 1]


def test_an_input_without_influence(backend):
    f = ti.compile(lambda x, y: x * 2, backend)
    x, y = leaf(2), leaf(2, seed=1)
    ti.grad(f(x, y).sum(), x)
    f(x, y).sum().backward()
    assert x.grad.tolist() == [2, 2] and (y.grad is None or y.grad.tolist() == [0, 0])


def test_what_needs_no_gradient_is_not_on_the_tape(backend):
    f, x = ti.compile(lambda x: x * 2, backend), leaf(2)
    assert f(x).requires_grad and not f(ti.ones(2)).requires_grad
    with ti.no_grad():
        assert not f(x).requires_grad
    assert not f(x.detach()).requires_grad and f(x).node.inputs


def test_no_grad_inside(backend):
    @ti.compile(backend=backend)
    def f(x):
        with ti.no_grad():
            scale = x.sum()
        return x * scale, scale

    x = leaf(3)
    y, scale = f(x)
    assert y.requires_grad and not scale.requires_grad
    y.sum().backward()
    assert close(x.grad, np.full(3, x.numpy().sum()))


def test_a_tape_keeps_what_it_recorded(backend):
    """Neither later calls nor later steps change what the gradient is of."""
    w = leaf(3)
    f = ti.compile(lambda x: x * w * w, backend)
    x, was = ti.tensor(numbers(3, seed=1)), w.numpy().copy()
    y = f(x)
    w.assign(w * 0)
    for i in range(5):
        f(x * i)
    y.sum().backward()
    assert close(w.grad, 2 * x.numpy() * was)


def test_a_gradient_inside(backend):
    def f(x):
        return ti.grad((x**3).sum(), x, create_graph=True)

    x = leaf(3)
    y = ti.compile(f, backend)(x)
    assert close(y, 3 * x.numpy() ** 2)
    assert close(ti.grad(y.sum(), x), 6 * x.numpy())


# Training


def trained(make, steps=12):
    """What comes of a loop, and what the States are then: batch norm, dropout and momentum."""
    ti.manual_seed(3)
    model = lenet(16)
    opt = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    step = make(model, opt)
    losses = [step(*map(ti.tensor, batch)).item() for batch in batches(steps, 8, 16)]
    return losses, [s.numpy().copy() for s in [*model.states(), *opt.states()]], key()


def key():
    return ti.ops.random.default_key.tolist()


def loop(opt):
    def step(forward, x, labels):
        opt.zero_grad()
        loss = ti.cross_entropy(forward(x), labels)
        loss.backward()
        opt.step()
        return loss

    return step


def forward_compiled(model, opt, **options):
    step, forward = loop(opt), ti.compile(model, **options)
    return lambda x, labels: step(forward, x, labels)


def loss_compiled(model, opt, **options):
    loss_of = ti.compile(lambda x, labels: ti.cross_entropy(model(x), labels), **options)

    def step(x, labels):
        opt.zero_grad()
        loss = loss_of(x, labels)
        loss.backward()
        opt.step()
        return loss

    return step


def step_compiled(model, opt, **options):
    step = loop(opt)
    return ti.compile(lambda x, labels: step(model, x, labels), **options)


@pytest.mark.parametrize("options", [{}, {"threads": 2}, {"backend": "interpreted"}], ids=str)
@pytest.mark.parametrize("make", [forward_compiled, loss_compiled, step_compiled])
def test_training_is_as_without(make, options):
    losses, states, end = trained(lambda model, opt: partial(loop(opt), model))
    ours, our_states, our_end = trained(partial(make, **options))
    assert end == our_end != [3, 0]
    assert np.allclose(losses, ours, rtol=1e-3, atol=1e-3)
    assert all(np.allclose(a, b, rtol=1e-2, atol=2e-3) for a, b in zip(states, our_states))


def test_dropout_draws_anew(backend):
    drop, x = nn.Dropout(0.5), ti.ones(100)
    f = ti.compile(drop, backend)
    ti.manual_seed(1)
    ours = [f(x).tolist() for _ in range(3)]
    ti.manual_seed(1)
    assert ours == [drop(x).tolist() for _ in range(3)]
    assert ours[0] != ours[1] != ours[2]


def test_the_mask_of_a_gradient_is_that_of_the_value(backend):
    f, x = (
        ti.compile(nn.Dropout(0.5), backend),
        ti.tensor(np.ones(50, "float32"), requires_grad=True),
    )
    y = f(x)
    f(x)
    assert ti.grad(y.sum(), x).tolist() == y.tolist()


def test_a_step_gives_values():
    model = nn.Linear(2, 1)
    opt = optim.SGD(model.parameters(), lr=0.1)
    step = ti.compile(loop(opt))
    loss = step(lambda x: ti.concat([model(x), x[:, :1]], 1), ti.ones(2, 2), ti.tensor([0, 1]))
    assert not loss.requires_grad and model.weight.grad is None


# Options and errors


@pytest.mark.parametrize("options, message", [
    ({"backend": "fast"}, "compile: backend is one of compiled, planned, interpreted, not 'fast'"),
    ({"threads": 0}, "compile: threads is a whole number from 1 on, not 0"),
    ({"threads": 1.5}, "compile: threads is a whole number from 1 on, not 1.5"),
    ({"threads": True}, "compile: threads is a whole number from 1 on, not True"),
    ({"memory": "good"}, "no planner 'good': there are .*greedy_by_size"),
    ({"order": "any"}, "order is one of .*breadth.* not 'any'"),
    ({"passes": ["any"]}, "no pass is called 'any': there are .*fold"),
])  # fmt: skip
def test_options_that_do_not_exist(options, message):
    with pytest.raises(ti.ArgumentError, match=message) as caught:
        ti.compile(lambda x: x + 1, **options)(ti.ones(1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("what", [3, "relu", ti.ones(2)])
def test_what_cannot_be_compiled(what):
    with pytest.raises(ti.ArgumentError, match="compile: a function, module, graph or plan, not"):
        ti.compile(what)


def test_before_the_first_call():
    f = ti.compile(lambda x: x)
    for ask in "plan", "graph":
        with pytest.raises(ti.ArgumentError, match="has not been called: what it runs depends"):
            getattr(f, ask)


def test_the_interpreter_has_no_plan():
    f = ti.compile(lambda x: x + 1, backend="interpreted")
    f(ti.ones(2))
    assert [n.op.name for n in f.graph.steps] == ["add"]
    for ask in (lambda: f.plan), (lambda: f.profile(ti.ones(2))):
        with pytest.raises(ti.ArgumentError, match="the interpreter has none: .*'planned'"):
            ask()


def test_errors_of_the_function_are_its_own(backend):
    f = ti.compile(lambda x, y: x @ y, backend)
    with pytest.raises(ti.ShapeError, match="matmul: inner sizes differ"):
        f(ti.ones(2, 3), ti.ones(2, 3))
    with pytest.raises(ZeroDivisionError):
        ti.compile(lambda x: x * (1 // 0), backend)(ti.ones(1))
    with pytest.raises(ti.GraphError, match="has no value yet"):
        ti.compile(lambda x: x if x.sum() > 0 else -x, backend)(ti.ones(1))
    assert f(ti.ones(2, 3), ti.ones(3, 2)).tolist() == [[3, 3], [3, 3]]


def test_the_options_are_those_of_the_plan():
    fn = lambda x: ti.exp(x) + ti.sin(x) * ti.cos(x)
    for memory, order in ("naive", "construction"), ("exact", "breadth"), ("first_fit", "memory"):
        f = ti.compile(fn, memory=memory, order=order)
        f(ti.ones(50))
        assert (f.plan.placement.planner, f.plan.order.policy) == (memory, order)
    f = ti.compile(fn, "planned", threads=2)
    f(ti.ones(50))
    assert f.plan.order.policy == "breadth" and f.last.run.threads == 2
    f = ti.compile(lambda x: (x + 1) * 1 - 0, passes=[])
    f(ti.ones(2))
    assert [n.op.name for n in f.graph.steps] == ["add", "mul", "sub"]


@pytest.mark.parametrize("grad", [True, False])
def test_the_plan_is_that_of_the_last_call(net, grad):
    """What ran: on the tape the parameters are its arguments, else folded into fewer."""
    f = ti.compile(net.eval())
    for n in 2, 5, 2:
        with nullcontext() if grad else ti.no_grad():
            f(ti.ones(n, 4))
        plan = f.plan
        assert isinstance(plan, Plan) and f.graph is plan.graph
        assert plan.graph.outputs[0].spec.shape == (n, 3)
        given = [*net.states()] if grad else f.last.from_states()
        assert len(plan.graph.inputs) == 1 + len(given)
        assert isinstance(f.last.run, Executor) and len(f.last.run.idle) == 1


def test_it_has_what_the_function_has(net):
    f = ti.compile(net)
    f.eval()
    assert not net.training and all(p is q for p, q in zip(f.parameters(), net.parameters()))
    assert f.state_dict().keys() == net.state_dict().keys()
    with pytest.raises(AttributeError, match="nothing_like_this"):
        f.nothing_like_this()


def test_debug_prints_the_plan():
    code = "import tinyinfer as ti; ti.compile(lambda x: x * 2 + x)(ti.ones(3)); print('end')"
    for level, tells in ("2", False), ("3", True):
        env = os.environ | {"TINYINFER_DEBUG": level}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout == "end\n"
        assert ("arena of" in done.stderr and "in place of" in done.stderr) == tells


# Profile


@pytest.mark.parametrize("threads", [1, 2])
def test_profile(net, threads, tmp_path):
    x = ti.tensor(numbers(5, 4))
    f = ti.compile(net.eval(), threads=threads)
    p = f.profile(x, runs=7)
    assert p.runs == 7 and {row.step.node for row in p.rows} == {*f.plan.order.steps}
    assert [row.kernel for row in p.rows] == [f.plan.kernels[row.step.node].name for row in p.rows]
    assert "blas" in {row.kernel for row in p.rows} and all(row.seconds > 0 for row in p.rows)
    assert {*p.lanes} <= {*range(threads)}
    events = json.loads(p.save(tmp_path / "trace.json").read_text())["traceEvents"]
    assert len([e for e in events if e["ph"] == "X"]) == len(p.rows)
    assert str(p).count("\n") >= len(p.rows)


def test_profile_runs_steps_that_train():
    total = ti.State(np.float32(0))

    @ti.compile
    def add(x):
        total.assign(total + x)

    p = add.profile(ti.ones(()), runs=5)
    assert total.item() == 6 and p.runs == 5
    with pytest.raises(ti.ArgumentError, match="at least one run"):
        add.profile(ti.ones(()), runs=0)


def test_a_state_that_is_returned_is_what_it_has_become():
    s, w = ti.State(np.zeros(2)), ti.tensor(np.ones(2), requires_grad=True)

    def count():
        s.assign(s + 1.0)
        return s, w

    f = ti.compile(count)
    assert [f()[0].tolist() for _ in range(3)] == [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]
    w.assign(w * 5.0)
    assert f()[1].tolist() == [5.0, 5.0]


def test_the_options_of_a_plan_are_its_own():
    plan = ti.plan(ti.trace(lambda x: ti.relu(x), ti.zeros(3)))
    for option in {"memory": "naive"}, {"order": "breadth"}, {"passes": []}:
        with pytest.raises(ti.ArgumentError, match="give its options to ti.plan"):
            ti.compile(plan, **option)


VARYING = {
    "values": (lambda i: (ti.ones(1), float(i)), "Values vary that are no tensors: pass numbers"),
    "shapes": (lambda i: (ti.ones(i), 1.0), r"Shapes vary, as \(2,\) and \(257,\): pad"),
    "arrays": (lambda i: (np.ones((2, i), "float32"), 1), r"as \(2, 2\) and \(2, 257\): pad"),
    "a last batch": (lambda i: (ti.ones(1 + i % 2), i), "Values vary"),
}


@pytest.mark.parametrize("arguments, message", VARYING.values(), ids=VARYING)
def test_of_very_many_kinds_the_oldest_is_forgotten_with_one_warning(arguments, message):
    @ti.compile
    def scale(x, c):
        return x * c

    with pytest.warns(UserWarning, match=f"compile: scale .* 256: .*{message}") as told:
        for i in range(1, 301):
            x, c = arguments(i)
            assert (scale(x, c).numpy() == c).all()
    assert len(told) == 1 and told[0].filename == __file__ and "\n" not in str(told[0].message)
    assert len(scale.kinds) == 256


def test_random_numbers_in_memory_of_any_alignment():
    graph = ti.trace(lambda x: (ti.tanh(x[:1]), ti.rand(5) * 2.0 + x.sum()), ti.zeros(3))
    ti.manual_seed(0)
    wanted = graph.run(np.zeros(3, "float32"))
    ti.manual_seed(0)
    got = ti.compile(ti.plan(graph, memory="naive", alignment=1))(ti.zeros(3))
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(wanted, got))


# What could go wrong without a word


def test_a_gradient_that_would_be_lost_is_an_error():
    encode, decode = nn.Linear(3, 2), nn.Linear(2, 1)
    hidden = encode(ti.ones(1, 3))
    with pytest.raises(ti.GraphError, match="pass it as an argument"):
        ti.compile(lambda: decode(hidden).sum())()
    inside = ti.compile(lambda h: decode(h).sum())
    inside(hidden).backward()
    assert np.allclose(encode.weight.grad.numpy(), np.repeat(decode.weight.numpy().T, 3, 1))

    def clipped(x):
        with ti.no_grad():
            decode.weight.assign(ti.clip(decode.weight, -0.1, 0.1))
        return decode(x).sum()

    with pytest.raises(ti.GraphError, match="which needs a gradient: assign it outside"):
        ti.compile(clipped)(ti.ones(1, 2))
    with ti.no_grad():
        ti.compile(clipped)(ti.ones(1, 2))
    decode = nn.Linear(2, 1)
    with pytest.raises(ti.GraphError, match="leaves gradients in .grad"):
        ti.compile(lambda x: decode(x).sum().backward())(ti.ones(1, 2))


def test_a_gradient_inside_can_be_differentiated():
    net = nn.Linear(3, 1)

    def penalty(x):
        slope = ti.grad(ti.tanh(net(x)).sum(), x, create_graph=True)
        return (slope * slope).sum()

    x = ti.tensor(np.ones((2, 3), "float32"), requires_grad=True)
    penalty(x).backward()
    wanted, net.weight.grad = net.weight.grad.numpy(), None
    ti.compile(penalty)(x).backward()
    assert np.allclose(net.weight.grad.numpy(), wanted, atol=1e-6)


def test_a_compiled_layer_is_a_layer():
    net = nn.Sequential(ti.compile(nn.Linear(3, 2)), nn.Dropout(0.5), nn.Linear(2, 1))
    assert len(net.parameters()) == 4 and "0.weight" in net.state_dict()
    assert not any(m.training for _, m in net.eval().named_modules())


def test_a_module_that_is_a_list_stays_one():
    class Net(nn.ModuleList):
        scale = 3.0

        @ti.compile
        def forward(self, x):
            for layer in self:
                x = layer(x)
            return nn.functional.dropout(x, 0.5, self.training) * self.scale

    net = Net([nn.Linear(3, 64)]).eval()
    x = ti.ones(2, 3)
    assert np.allclose(net(x).numpy(), net[0](x).numpy() * 3, atol=1e-6)


def test_equal_arguments_that_differ():
    by_key = ti.compile(lambda d: next(iter(d.values())) * float(next(iter(d)) is True))
    assert [by_key({k: ti.ones(1)}).item() for k in (1, True)] == [0.0, 1.0]
    start = ti.compile(lambda x, r: x * r.start)
    assert [start(ti.ones(1), r).item() for r in (range(1, 1), range(5, 5))] == [1.0, 5.0]
    inverse = ti.compile(lambda x, s: x / float(s))
    with np.errstate(all="ignore"):
        got = [inverse(ti.ones(1), np.float32(s)).item() for s in (0.0, -0.0)]
    assert got == [np.inf, -np.inf]


def test_a_copy_has_run_nothing():
    from copy import deepcopy

    f = ti.compile(nn.Linear(3, 2))
    y = f(ti.ones(1, 3))
    other = deepcopy(f)
    other.weight.assign(other.weight * 2.0)
    assert other.last is None and np.array_equal(f(ti.ones(1, 3)).numpy(), y.numpy())
    assert not np.array_equal(other(ti.ones(1, 3)).numpy(), y.numpy())


def test_a_long_chain_of_concatenations():
    def grow(x):
        y = x
        for i in range(1500):
            y = ti.concat([y, x * (i + 1.0)])
        return y.sum()

    x = ti.ones(1, 16)
    assert np.allclose(ti.compile(grow)(x).item(), grow(x).item(), rtol=1e-5)


def test_a_layer_that_is_replaced_is_noticed():
    net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.0), nn.Linear(4, 2))
    wrapped, f, x = nn.ModuleList([net]), ti.compile(lambda x: net(x)), ti.ones(5, 3)
    g = ti.compile(lambda x: wrapped[0](x))

    def both_follow():
        with ti.no_grad():
            ti.manual_seed(0)
            wanted = net(x).numpy()
            for compiled in f, g:
                ti.manual_seed(0)
                assert np.allclose(compiled(x).numpy(), wanted, atol=1e-6)

    both_follow()
    net[0] = nn.Linear(3, 4)
    both_follow()
    net[1].p = 0.5
    both_follow()
    net.register_forward_hook(lambda module, xs, y: y * 2.0)
    both_follow()
    first = f.last
    both_follow()
    assert f.last is first and sum(map(len, f.kinds.values())) == 1


def test_what_a_module_keeps_of_a_call_is_no_change():
    class Keeps(nn.Module):
        def forward(self, x):
            self.last = x * 2.0
            return self.last + 1.0

    f = ti.compile(Keeps())
    f(ti.ones(3))
    first = f.last
    assert all(f(ti.ones(3)).tolist() == [3.0] * 3 and f.last is first for _ in range(3))
