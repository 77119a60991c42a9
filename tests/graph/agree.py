"""What holds of every pass: the graph before and after it give the same."""

import numpy as np

import tinyinfer as ti
from tinyinfer.graph.graph import subgraphs


def agree(run, graph, *arrays, exact=False):
    """The graph after a pass, if it gives what the one before gives, bit for bit or to rounding, each
    of its steps knows its line and modules, and the pass finds nothing more to do in it."""
    after = run(graph).verify()
    for a, b in zip(outcome(graph, arrays), outcome(after, arrays), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        if exact or a.dtype.kind != "f":
            assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        else:
            size = np.max(np.abs(a), initial=0, where=np.isfinite(a))
            near = 64 * np.finfo(a.dtype).eps * size
            assert np.allclose(a, b, rtol=0, atol=near, equal_nan=True), abs(a - b).max() / size
    places = {place(n) for n in every_step(graph)}
    assert places.issuperset(place(n) for n in every_step(after))
    assert run(after).nodes == after.nodes
    return after


def outcome(graph, arrays):
    """Its outputs, and what the States become; they are put back."""
    held = {state: state.numpy() for state in graph.updates}
    with np.errstate(all="ignore"):
        outputs = graph.run_all(arrays)
    after = [state.numpy() for state in held]
    for state, value in held.items():
        state.assign(value)
    return [*outputs, *after]


def every_step(graph):
    """Those in loops and branches too."""
    for n in graph.steps:
        yield n
        for inner in subgraphs(n.op).values():
            yield from every_step(inner)


def place(n):
    return n.origin.line, n.origin.calls


def ops(graph) -> str:
    return " ".join(n.op.name for n in graph.steps)


def inside(graph):
    """The ops of the graphs in its loops and branches."""
    return [ops(g) for n in graph.steps for g in subgraphs(n.op).values()]


def chain(fn, n=20_000):
    """The graph of fn(fn(...fn(x)))."""

    def repeated(x):
        for i in range(n):
            x = fn(x, i)
        return x

    return ti.trace(repeated, ti.ones(2, 3))
