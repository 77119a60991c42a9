"""Traces: nothing outside changes, whatever happens in them and whoever else is at work."""

import threading

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer import nn, optim
from tinyinfer.core.trace import Trace, mode


def network(seed):
    ti.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    opt = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(x, labels):
        opt.zero_grad()
        loss = ti.cross_entropy(model(x), labels)
        loss.backward()
        opt.step()
        return loss

    return model, step


def batch(seed):
    rng = np.random.RandomState(seed)
    return rng.randn(12, 6).astype(np.float32), rng.randint(0, 3, 12)


def at_once(*jobs):
    """Run in one thread each, all starting together; what they give."""
    results, start = [None] * len(jobs), threading.Barrier(len(jobs))

    def run(i):
        start.wait()
        try:
            results[i] = jobs[i]()
        except BaseException as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(jobs))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def test_nothing_changes_after_an_exception():
    model, step = network(0)
    x, labels = map(ti.tensor, batch(0))
    step(x, labels)
    before = [(s.node, s.grad) for s in model.states()]
    for boom in ZeroDivisionError, KeyboardInterrupt:

        def failing(x, labels, boom=boom):
            step(x, labels)
            with ti.no_grad():
                raise boom

        with pytest.raises(boom):
            ti.trace(failing, x, labels)
        assert mode.trace is None and mode.grad and mode.origin.calls == ()
        assert [(s.node, s.grad) for s in model.states()] == before


def test_an_error_in_an_op_leaves_no_trace_open():
    with pytest.raises(ti.ShapeError):
        ti.ones(2) + ti.placeholder((3,))
    assert mode.trace is None
    with pytest.raises(ti.ShapeError):
        ti.trace(lambda x: ti.trace(lambda y: y + ti.ones(7), x), ti.ones(2))
    assert mode.trace is None


def test_in_a_trace_a_state_is_what_was_assigned_to_it():
    p = ti.State([1.0])

    def twice(x):
        p.assign(p + x)
        p.assign(p * 2.0)
        return p + 0.0

    graph = ti.trace(twice, ti.ones(1))
    assert p.tolist() == [1] and [*graph.updates] == [p]
    assert graph.run(np.ones(1, np.float32)).tolist() == [4] and p.tolist() == [4]


def test_traces_in_traces():
    p = ti.State([1.0])
    with Trace() as outer:
        p.assign(p * 3.0)
        with Trace() as inner:
            p.assign(p + 1.0)
        assert [*inner.updates] == [p] and p.node is outer.nodes[p]
    assert p.tolist() == [1] and mode.trace is None


@pytest.mark.parametrize("traced", [[True, True], [True, False], [False, False]])
def test_two_threads_train_two_models(traced):
    def job(k):
        _, step = network(k)
        batches = [batch(10 * k + i) for i in range(15)]

        def train():
            tensors = [[*map(ti.tensor, b)] for b in batches]
            if not traced[k]:
                return [step(*b).item() for b in tensors]
            run = ti.trace(step, *tensors[0]).run
            return [float(run(*b)) for b in batches]

        return train

    alone = [job(k)() for k in range(2)]
    assert at_once(*map(job, range(2))) == alone


def test_one_model_is_traced_while_it_is_used():
    model, _ = network(0)
    model.eval()
    x, _ = map(ti.tensor, batch(0))
    wanted = model(x).numpy()
    done = threading.Event()

    def trace():
        graphs = [ti.trace(model, x) for _ in range(60)]
        done.set()
        return [g.run(x.numpy()) for g in graphs]

    def use():
        seen = []
        while not done.is_set() or not seen:
            seen.append(model(x).numpy())
        return seen

    traced, used = at_once(trace, use)
    assert all(np.array_equal(y, wanted) for y in [*traced, *used])


def test_a_model_in_training_is_traced_while_it_is_used():
    model, step = network(0)
    x, labels = map(ti.tensor, batch(0))
    before = [s.numpy().copy() for s in model.states()]
    weights = lambda: sum(np.abs(p.numpy()).sum() for p in model.parameters())
    total, done = weights(), threading.Event()

    def trace():
        graphs = [ti.trace(step, x, labels) for _ in range(20)]
        done.set()
        return graphs

    def look():
        seen = {weights()}
        while not done.is_set():
            seen.add(weights())
        return seen

    graphs, seen = at_once(trace, look)
    assert seen == {total} and len(graphs[0].updates) > 4
    assert all(np.array_equal(a, s.numpy()) for a, s in zip(before, model.states()))


def test_no_grad_is_of_its_thread():
    inside, leave = threading.Event(), threading.Event()

    def without():
        with ti.no_grad():
            inside.set()
            leave.wait(10)
            return mode.grad

    def beside():
        inside.wait(10)
        grad = mode.grad
        leave.set()
        return grad

    assert at_once(without, beside) == [False, True]
