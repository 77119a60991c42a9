"""What is planned gives what the definitions give, whoever carries it out; and what happens when
several do, when a step fails, and when several call.

TINYINFER_EXAMPLES=1000 pytest tests/runtime/test_executor.py: so many graphs, in a hundred runs each
"""

import os
import random
import signal
import subprocess
import sys
import time
from itertools import count, cycle, islice
from pathlib import Path
from threading import Barrier, BrokenBarrierError, Event, Thread, current_thread, main_thread

import numpy as np
import pytest
from nets import training
from random_graphs import random_graph
from test_random_graphs import Case, identical, near

import tinyinfer as ti
from tinyinfer import train
from tinyinfer.core.op import Op, watchers
from tinyinfer.runtime.executor import Executor
from tinyinfer.runtime.plan import Plan

EXAMPLES = int(os.environ.get("TINYINFER_EXAMPLES", 60))
AGAIN = 100 if EXAMPLES >= 1000 else 5  # runs of each graph by several threads
PARTS = 8  # run side by side
MODELS = Path(__file__).parents[2] / "models"
SMALLER = {"mobilenet_v1": 64, "mobilenet_v2": 64, "unet": 16, "inception": 16, "resnet": 16}
NAMES = sorted(path.stem for path in MODELS.glob("*.py"))


# The same as the definitions


class Planned:
    """Runs as a graph does."""

    def __init__(self, graph, order, threads=1):
        self.run_all = Executor(Plan(graph, order=order), threads)


def values_of(run, xs, states):
    """Copies of the outputs, and of what the States are then; nobody holds anything meanwhile, and
    the States are put back."""
    before = [s.numpy().copy() for s in states]
    with np.errstate(all="ignore"):
        outputs = [y.copy() for y in run(xs)]
    after = [s.numpy().copy() for s in states]
    for s, x in zip(states, before):
        s.assign(x)
    return [*outputs, *after]


@pytest.mark.parametrize("part", range(PARTS))
def test_random_graphs(part):
    for i, graph in islice(graphs(part), -(-EXAMPLES // PARTS)):
        case = Case(graph)
        for order in "memory", "breadth":
            check(case, Planned(graph, order), [Planned(graph, order, n) for n in (2, 4)], i)


def graphs(part):
    for i in count(part, PARTS):
        yield i, random_graph(random.Random(i).randrange)


def check(case, serial, threaded, i):
    case.check(serial, exact=False)
    wanted = [case.run(serial, xs) for xs in case.inputs]
    for xs, values in zip(case.inputs, wanted):
        assert all(map(identical, values, values_of(serial.run_all, xs, case.states))), i
    for way in threaded:
        for _, (xs, values) in zip(range(AGAIN), cycle(zip(case.inputs, wanted))):
            assert all(map(identical, values, values_of(way.run_all, xs, case.states))), i


@pytest.fixture(params=NAMES)
def network(request):
    file = train.modelfile.load(MODELS / f"{request.param}.py")
    channels, rows, columns = file.input_shape
    side = SMALLER.get(request.param)
    shape = (channels, side or rows, side or columns)
    ti.manual_seed(0)
    x = ti.tensor(np.random.RandomState(0).standard_normal((2, *shape)).astype("float32"))
    return file.build().eval(), x


def test_networks(network):
    model, x = network
    with ti.no_grad():
        wanted = model(x).numpy()
        interpreted = ti.compile(model, backend="interpreted")(x).numpy()
        assert close(wanted, interpreted)
        for order in "memory", "breadth":
            one = ti.compile(model, order=order)(x).numpy()
            assert close(interpreted, one)
            for threads in 2, 4:
                several = ti.compile(model, order=order, threads=threads)
                assert all(identical(one, several(x).numpy()) for _ in range(3))


def close(a, b) -> bool:
    return a.shape == b.shape and np.allclose(a, b, rtol=0, atol=1e-5 * np.abs(a).max())


@pytest.mark.parametrize("order", ["memory", "breadth", "construction"])
def test_a_training_step(order):
    graph, arrays = training()
    states = [*graph.updates]
    wanted = values_of(graph.run_all, arrays, states)
    serial = Planned(graph, order)
    found = values_of(serial.run_all, arrays, states)
    assert all(a.dtype == b.dtype and np.allclose(a, b, 1e-4, 1e-6) for a, b in zip(wanted, found))
    for threads in 2, 4:
        run = Planned(graph, order, threads).run_all
        for _ in range(5):
            assert all(map(identical, found, values_of(run, arrays, states)))


def test_a_hundred_training_steps_by_threads():
    graph, arrays = training()
    states, before = [*graph.updates], [s.numpy().copy() for s in graph.updates]
    found = []
    for threads in 1, 2:
        run = Planned(graph, "breadth", threads).run_all
        losses = [float(run(arrays)[0]) for _ in range(100)]
        found.append([losses, *(s.numpy().copy() for s in states)])
        for s, x in zip(states, before):
            s.assign(x)
    assert found[0][0] == found[1][0] and found[0][0][-1] < found[0][0][0]
    assert all(map(identical, found[0][1:], found[1][1:]))


def test_what_lies_anyhow_in_memory():
    @ti.compile
    def f(x):
        return x.reshape(-1) * 2, ti.relu(x) @ ti.ones(3, 2), x.sum(0), ti.concat([x, x]), x

    x = ti.tensor(np.arange(12, dtype="float32").reshape(3, 4))
    w = ti.State(np.zeros((4, 3), "float32"))
    w.assign(x.T)
    for given in x.T, x.T[::-1], x.expand(2, 3, 4)[1].T, w:
        assert all(map(identical, arrays(f.fn(given)), arrays(f(given))))


def arrays(tensors):
    return [y.numpy() for y in tensors]


def test_no_steps_no_outputs():
    s = ti.State(np.ones(3, "float32"))
    for threads in 1, 2:
        run = Executor(Plan(ti.trace(lambda x: [x, s], ti.zeros(2))), threads)
        assert [y.tolist() for y in run([np.ones(2, "float32")])] == [[1, 1], [1, 1, 1]]
        assert Executor(Plan(ti.trace(lambda x: [], ti.zeros(2))), threads)([np.ones(2)]) == []


# Several threads


class Meet(Op):
    """y = x, as soon as somebody else is here too"""

    barrier: Barrier
    infer = lambda self, x: x

    def forward(self, x):
        self.barrier.wait(30)
        return x


class Do(Op):
    """y = x, and `fn()` besides"""

    fn: object
    infer = lambda self, x: x

    def forward(self, x):
        self.fn()
        return x


def finishes(fn, seconds=60):
    """What `fn` gives or raises: it has to be done in time."""
    found = []

    def run():
        try:
            found.append(("gave", fn()))
        except BaseException as error:
            found.append(("raised", error))

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert found, "it hangs"
    [(how, what)] = found
    if how == "raised":
        raise what
    return what


def side_by_side(a, b, threads):
    return ti.compile(lambda x: a(x + 1) * b(x * 2), threads=threads)


def test_branches_run_at_the_same_time():
    meet = Meet(Barrier(2))
    f, x = side_by_side(meet, meet, 2), ti.tensor([1.0, 2.0])
    for _ in range(20):
        assert finishes(lambda: f(x)).tolist() == [4, 12]


def test_one_thread_meets_nobody():
    meet = Meet(barrier := Barrier(2))
    barrier.abort()
    with pytest.raises(BrokenBarrierError):
        side_by_side(meet, meet, 1)(ti.ones(2))


def test_more_threads_than_steps():
    f = ti.compile(lambda x: x * 2 + 1, threads=20)
    assert [finishes(lambda: f(ti.ones(1))).item() for _ in range(20)] == [3] * 20


def test_lanes_are_threads():
    meet, seen = Meet(Barrier(2)), []
    graph = ti.trace(lambda x: meet(x + 1) * meet(x * 2), ti.ones(2))
    run = Executor(Plan(graph, order="breadth"), 2)
    finishes(lambda: run([np.ones(2, "float32")], watch=lambda *event: seen.append(event)))
    assert {n for n, *_ in seen} == {*graph.steps} and len(seen) == len(graph.steps)
    assert {lane for n, lane, *_ in seen if n.op is meet} == {0, 1}
    assert all(start <= end for *_, start, end in seen)
    (a, b), (c, d) = [(start, end) for n, _, start, end in seen if n.op is meet]
    assert max(a, c) <= min(b, d)


@pytest.mark.parametrize("threads", [1, 2])
def test_those_who_watch_ops_are_told(threads):
    f, x, seen = ti.compile(lambda x: ti.exp(x) + ti.sin(x), threads=threads), ti.zeros(2), []
    f(x)
    watch = lambda op, xs, y: seen.append((op.name, len(xs), y.tolist()))
    watchers.append(watch)
    try:
        f(x)
    finally:
        watchers.remove(watch)
    assert sorted(seen) == [("add", 2, [1, 1]), ("exp", 1, [1, 1]), ("sin", 1, [0, 0])]


@pytest.mark.parametrize("threads", [1, 4])
def test_helpers_have_the_errstate_of_the_caller(threads):
    f = ti.compile(lambda x: [ti.log(x - i) for i in range(20)], threads=threads)
    for _ in range(10):
        with np.errstate(all="ignore"):
            assert all(np.isnan(y.item()) for y in f(ti.tensor(-1.0)))
        with np.errstate(all="raise"), pytest.raises(FloatingPointError, match="invalid value"):
            f(ti.tensor(-1.0))


# Errors


class Switch:
    """Calling it raises, while it is on."""

    def __init__(self, error):
        self.error, self.on = error, False

    def __call__(self):
        if self.on:
            raise self.error


def said(caught) -> str:
    return "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("error", [ValueError("no luck"), ti.RangeError("too far"), SystemError()])
def test_an_error_names_its_step(threads, error):
    switch = Switch(error)
    do = Do(switch)
    f, x = side_by_side(do, ti.exp, threads), ti.zeros(2)
    wanted = f(x).tolist()
    for _ in range(20):
        switch.on = True
        with pytest.raises(type(error)) as caught:
            finishes(lambda: f(x))
        name = next(f.graph.names[n] for n in f.graph.steps if n.op is do)
        words = str(error), f"in %{name} = do(float32[2]) -> float32[2], at test_executor.py:"
        assert all(word in said(caught) for word in words) and "\n" not in str(caught.value)
        switch.on = False
        assert finishes(lambda: f(x)).tolist() == wanted


@pytest.mark.parametrize("threads", [1, 2])
def test_a_label_that_is_no_class(threads):
    f = ti.compile(ti.cross_entropy, threads=threads)
    x, labels = ti.zeros(2, 3), [ti.tensor([0, 2]), ti.tensor([0, 3])]
    for _ in range(3):
        assert f(x, labels[0]).item() == pytest.approx(np.log(3))
        with pytest.raises(
            ti.RangeError, match=r"3.* in %\d+ = index\(.*test_executor.py:"
        ) as caught:
            finishes(lambda: f(x, labels[1]))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_an_interrupt_in_a_step(threads):
    switch = Switch(KeyboardInterrupt())
    f, x = side_by_side(Do(switch), ti.exp, threads), ti.zeros(2)
    wanted = f(x).tolist()
    for _ in range(5):
        switch.on = True
        with pytest.raises(KeyboardInterrupt):
            finishes(lambda: f(x))
        switch.on = False
        assert finishes(lambda: f(x)).tolist() == wanted


def test_an_interrupt_while_others_work():
    barrier, on = Barrier(2), []

    def meet():
        barrier.wait(30)
        if on and current_thread() is not main_thread():
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.05)

    f, x = side_by_side(Do(meet), Do(meet), 2), ti.ones(1)
    for _ in range(5):
        assert f(x).item() == 4
        on.append(True)
        with pytest.raises(KeyboardInterrupt):
            f(x)
        on.clear()


@pytest.mark.parametrize("threads", [2, 4])
def test_after_an_error_no_step_begins(threads):
    started, log = Event(), []

    def fail():
        started.wait(30)
        raise ValueError

    def slow():
        log.append(started.set())
        time.sleep(0.01)

    def chain(x):
        for _ in range(100):
            x = Do(slow)(x * 1.5)
        return x

    f = ti.compile(lambda x: [Do(fail)(x), chain(x)], threads=threads)
    with pytest.raises(ValueError):
        finishes(lambda: f(ti.ones(1)))
    begun = len(log)
    assert begun < 50
    time.sleep(0.1)
    assert len(log) == begun


def test_the_first_of_two_errors_is_raised():
    barrier = Barrier(2)

    def fail():
        barrier.wait(30)
        raise ValueError

    f = side_by_side(Do(fail), Do(fail), 2)
    for _ in range(20):
        with pytest.raises(ValueError):
            finishes(lambda: f(ti.ones(1)))


# Several callers


def at_once(callers, fn):
    """fn(0), fn(1), ... in threads that begin together."""
    start, found = Barrier(callers), [None] * callers

    def run(i):
        start.wait(30)
        found[i] = finishes(lambda: fn(i), 120)

    threads = [Thread(target=run, args=[i], daemon=True) for i in range(callers)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(150)
    return found


@pytest.mark.parametrize("threads", [1, 2])
def test_each_caller_gets_its_own_result(threads):
    w = ti.tensor(np.random.RandomState(0).randn(16, 16).astype("float32"))

    def fn(x):
        for _ in range(5):
            x = ti.concat([ti.relu(x @ w), ti.tanh(x)], 1)[:, 8:24]
        return x, x.sum()

    f = ti.compile(fn, threads=threads)
    inputs = [ti.ones(4, 16) * i for i in range(4)]
    wanted = [arrays(ti.compile(fn)(x)) for x in inputs]
    same = lambda i: all(all(map(identical, wanted[i], arrays(f(inputs[i])))) for _ in range(50))
    assert at_once(4, same) == [True] * 4
    assert 1 <= len(f.last.run.idle) <= 4


def test_each_call_has_an_arena():
    barrier, arenas = Barrier(4), []

    def meet():
        barrier.wait(30)

    graph = ti.trace(lambda x: Do(meet)(x + 1) * 2, ti.ones(3))
    run = Executor(Plan(graph))
    found = at_once(4, lambda i: run([np.full(3, i, "float32")])[0].tolist())
    assert found == [[2 * (i + 1)] * 3 for i in range(4)]
    arenas = [arena for arena, _ in run.idle]
    assert len({id(a) for a in arenas}) == 4
    assert not any(
        np.shares_memory(a.memory, b.memory) for a in arenas for b in arenas if a is not b
    )


@pytest.mark.parametrize("threads", [1, 2])
def test_callers_that_change_a_state_wait_for_one_another(threads):
    total, calls = ti.State(0.0), 200

    @ti.compile(threads=threads)
    def add(x):
        before = total * 1
        total.assign(before + x.sum())
        return before

    found = at_once(4, lambda i: [add(ti.ones(1 + i % 2)).item() for _ in range(calls)])
    assert total.item() == 2 * calls * (1 + 2)
    assert all(a < b for seen in found for a, b in zip(seen, seen[1:]))
    assert len({x for seen in found for x in seen}) == 4 * calls


INTERRUPTED = """
import signal, sys, threading
import tinyinfer as ti

states, free = [ti.State(0.0) for _ in range(40)], []

@ti.compile(threads=int(sys.argv[1]))
def step(x):
    for state in states:
        state.assign(state + x)

def look():
    free.append(all(lock.acquire(False) and not lock.release() for lock in step.last.run.locks))

step(1.0)
signal.signal(signal.SIGALRM, signal.default_int_handler)
for i in range(1500):
    try:
        signal.setitimer(signal.ITIMER_REAL, 1e-6 * (10 + i % 500))
        step(1.0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        other = threading.Thread(target=look)
        other.start()
        other.join()
assert free and all(free)
"""


@pytest.mark.parametrize("threads", ["1", "2"])
def test_after_interrupts_anywhere_no_state_stays_locked(threads):
    subprocess.run([sys.executable, "-c", INTERRUPTED, threads], check=True, timeout=120)


def test_near_is_not_anything():
    assert near(np.ones(2), np.ones(2)) and not near(np.ones(2), np.array([1, 1.1]))
