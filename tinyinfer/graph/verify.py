"""What must hold in every graph. Each rule has a sentence, which is what is said when it is broken.

1. Every value is defined once, and before it is used: so there is no cycle.
2. Every value is an input, a constant, the symbol of a living State, or made by a step.
3. The spec of a step is what its op infers: that checks shapes, dtypes, and the graphs inside.
4. The spec of a constant is that of its array; what a State becomes has the spec of the State.
5. A graph inside a step is closed: what it uses comes in through its inputs.
6. A value that a step may overwrite is not used by a younger one.
"""

from ..core.spec import spec_of
from ..errors import GraphError, TinyinferError


def verify(graph):
    if twice := [n for i, n in enumerate(graph.inputs) if n in graph.inputs[:i]]:
        raise GraphError(f"{called(twice[0])} is among the inputs twice")
    for n in graph.steps:
        if any(x.born >= n.born for x in n.inputs):
            if path := cycle({m: m.inputs for m in graph.steps}):
                way = " -> ".join(f"{m.op.name} {at(m)}".strip() for m in path)
                raise GraphError(f"a graph has no cycles, and here is one: {way}")
            raise GraphError(f"{called(n)} is older than one of its inputs")
        expect_spec(n)
    for n in graph.constants:
        if (spec := spec_of(n.value)) != n.spec:
            raise GraphError(f"a constant is a {spec}, and the graph says {n.spec}")
    for n, state in graph.states.items():
        if state is None:
            raise GraphError(
                f"an output depends on a {n.spec}{at(n, ', ')} that is not among the inputs. Pass "
                "it in; and keep no tensor of one trace for the next"
            )
    for state, n in graph.updates.items():
        if n.spec != state.spec:
            raise GraphError(
                f"{state.name or 'a State'}, a {state.spec}, cannot become a {n.spec}: {called(n)}"
            )


def expect_spec(n):
    """The spec of a step is what its op infers."""
    try:
        spec = n.op.infer(*[x.spec for x in n.inputs])
    except TinyinferError as error:
        raise GraphError(f"{called(n)}: {error}") from error
    except Exception as error:  # attributes or numbers of inputs that no function lets pass
        raise GraphError(f"{called(n)} cannot be: {error}") from error
    if spec != n.spec:
        raise GraphError(f"{called(n)} gives a {spec}, and the graph says {n.spec}")


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


def called(n) -> str:
    """A step for people: what it is and where it was written."""
    return f"{n!r}{at(n, ', ')}"


def at(n, before="") -> str:
    return f"{before}at {n.origin.line}" if n.origin.line else ""
