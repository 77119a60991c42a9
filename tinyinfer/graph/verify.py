"""What must hold in every graph. Each rule has a sentence, which is what is said when it is broken.

1. Every value is defined once, and before it is used: so there is no cycle.
2. Every value is an input, a constant, the symbol of a living State of its spec, or made by a step.
3. The spec of a step is what its op infers: that checks shapes, dtypes, and the graphs inside.
4. The spec of a constant is that of its array; what a State becomes has the spec of the State.
5. A graph inside a step is closed: what it uses comes in through its inputs.
6. A value that a step may overwrite is not used by a younger one.
"""

from collections import Counter
from inspect import signature

import numpy as np

from ..core.op import Op
from ..core.spec import spec_of
from ..core.tensor import Node, State
from ..errors import GraphError, TinyinferError
from .in_place import misplaced


def verify(graph):
    expect_nodes(graph)
    if twice := [n for n, count in Counter(graph.inputs).items() if count > 1]:
        raise GraphError(f"{twice[0]!r}{at(twice[0], ',')} is among the inputs twice")
    for n in graph.steps:
        if any(x.born >= n.born for x in n.inputs):
            expect_no_cycle(graph)
            raise GraphError(f"{called(graph, n)} is older than one of its inputs")
        if wrong := wrong_step(n):
            raise GraphError(f"{called(graph, n)}: {wrong}")
    for n in graph.constants:
        if wrong := wrong_constant(n):
            raise GraphError(f"{called(graph, n)}: {wrong}")
    for n, state in graph.states.items():
        if wrong := wrong_state(n, state):
            raise GraphError(f"{user(graph, n)} depends on {wrong}")
    for state, n in graph.updates.items():
        if wrong := wrong_update(state, n):
            raise GraphError(f"{wrong}: {called(graph, n)}")
    for n in misplaced(graph):
        value = f"%{graph.names[n.inputs[n.op.over]]}"
        raise GraphError(
            f"{called(graph, n)}: it may overwrite {value}, which is "
            "needed after it. in_place is to be the last pass"
        )


def expect_nodes(graph):
    ends = (*graph.inputs, *graph.outputs, *graph.updates.values())
    if strange := [x for x in ends if not isinstance(x, Node)]:
        raise GraphError(f"a graph lies between nodes, not {strange[0]!r}: see ti.graph, ti.trace")
    if strange := [x for x in graph.updates if not isinstance(x, State)]:
        raise GraphError(f"updates are {{State: what it becomes}}, and {strange[0]!r} is no State")


def expect_no_cycle(graph):
    if path := cycle({n: n.inputs for n in graph.steps}):
        way = " -> ".join(f"%{graph.names[n]} {n.op.name}{at(n)}" for n in path)
        raise GraphError(f"a graph has no cycles, and here is one: {way}")


def wrong_step(n) -> str:
    """The spec of a step is what its op infers."""
    if not isinstance(n.op, Op):
        return f"{n.op!r} is no op"
    try:
        spec = n.op.infer(*[x.spec for x in n.inputs])
    except TinyinferError as error:
        return str(error)
    except Exception as error:  # attributes or numbers of inputs that no function lets pass
        return wrong_count(n) or f"it cannot be: {error}"
    fits = spec == n.spec and type(spec) is type(n.spec)
    return "" if fits else f"it gives a {spec}, and the graph says {n.spec}"


def wrong_count(n) -> str:
    takes = signature(n.op.infer)
    try:
        takes.bind(*n.inputs)
    except TypeError:
        names = ", ".join(map(str, takes.parameters.values()))
        return f"{n.op.name} takes {names}; and has {len(n.inputs)} inputs"
    return ""


def wrong_constant(n) -> str:
    if not isinstance(n.value, np.ndarray):
        return f"the value of a constant is an array, not {n.value!r}"
    spec = spec_of(n.value)
    return "" if spec == n.spec else f"its array is a {spec}"


def wrong_state(n, state) -> str:
    """A free symbol is that of a State, which is alive and as it was."""
    if state is not None:
        spec = state.spec
        if spec is n.spec or spec == n.spec:
            return ""
        was = f"{state.name or 'a State'} as it was, a {n.spec}"
        return f"{was}: now it is a {spec}. Trace again"
    if n.owner is not None:
        return f"the symbol of a State {n.spec} that is gone: keep it, or its module, alive"
    return (
        f"{n!r}, which is not among the inputs. Pass it in; and keep no tensor of one trace for "
        "the next"
    )


def wrong_update(state, n) -> str:
    name = state.name or "a State"
    return "" if state.spec == n.spec else f"{name}, a {state.spec}, cannot become a {n.spec}"


def cycle(before) -> list:
    """A cycle in {node: the nodes before it}, its first node again at its end; or nothing."""
    done = set()
    for start in before:
        path, ways = [start], [iter(before[start])]
        on_path = {start}
        while path:
            x = next((x for x in ways[-1] if x in before and x not in done), None)
            if x in on_path:
                return [*path[path.index(x) :], x]
            if x is None:
                done.add(path[-1])
                on_path.remove(path.pop())
                ways.pop()
            else:
                path.append(x)
                on_path.add(x)
                ways.append(iter(before[x]))
    return []


def user(graph, leaf) -> str:
    """The first that uses it."""
    return next((called(graph, n) for n in graph.steps if leaf in n.inputs), "an output")


def called(graph, n) -> str:
    """A node for people: "%7 = add(float32[3], float32[3]) -> float32[3], at lenet.py:14"."""
    what = f" = {n!r}" if isinstance(n.op, Op) else f": {n.spec}"
    return f"%{graph.names[n]}{what}{at(n, ',')}"


def at(n, comma="") -> str:
    return f"{comma} at {n.origin.line}" if n.origin.line else ""
