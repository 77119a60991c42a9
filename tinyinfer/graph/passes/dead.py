from collections import defaultdict
from typing import NamedTuple
from weakref import WeakSet

from ...core.op import Op
from ...core.spec import Specs
from ...core.tensor import Node
from ..control import Cond, Scan, TupleGet, While
from ..graph import Graph, made, nbytes, rebuilt, subgraphs
from .cse import cse
from .rewrite import graph_pass, rewrite, settled, users


@graph_pass
def dead(graph):
    """What cannot be reached, and what a branch or a loop does for nobody.

        cond(True, f, g)(x)         ->  f(x)
        cond(p, f, f)(x)            ->  f(x)
        while False: x = f(x)       ->  x
        a, b = loop(x, y); use(a)   ->  a, = smaller_loop(x); use(a)

    A carry that each turn hands on as it was is captured instead; one that only feeds itself goes.
    What nothing needs at all is not in a graph anyway.
    """
    return alive(graph)


FINISHED = WeakSet()  # there is no more to find: a graph in a loop is asked about again and again


def alive(graph):
    if graph not in FINISHED:
        graph = settled(graph, lambda g: asked_for(decided(g)))
        FINISHED.add(graph)
    return graph


# What is known without running


def decided(graph):
    """What a branch or a loop is known to return takes the place of what was taken from it."""
    returned = {}  # a step with several outputs -> {number: what it is}

    def rule(n):
        match n:
            case Node(Cond()):
                returned[n] = of_branches(n)
            case Node(While() | Scan()):
                returned[n] = of_loop(n)
            case Node(TupleGet(i), (t,)):
                return returned.get(t, {}).get(i)

    return rewrite(graph, rule)


def of_branches(n) -> dict[int, Node]:
    (p, *xs), then, otherwise = n.inputs, n.op.then, n.op.otherwise
    if p.value is not None:
        return dict(enumerate((then if p.value else otherwise).inlined(xs)))
    count = len(then.outputs)
    both = cse(Graph(then.inputs, (*then.outputs, *otherwise.inlined(then.inputs))))
    a, b = both.outputs[:count], both.outputs[count:]
    free = {*both.outputs} if a == b else {*both.inputs, *both.constants}  # nothing is done for it
    returned = both.inlined(xs)
    return {i: returned[i] for i in range(count) if a[i] is b[i] and a[i] in free}


def of_loop(n) -> dict[int, Node]:
    match n.op:
        case While(test) if test.outputs[0] in test.constants and not test.outputs[0].value:
            return dict(enumerate(n.inputs[: n.op.carries]))
    return {i: n.inputs[i] for i in handed_on(n.op)}


def handed_on(op) -> set[int]:
    """The carries that each turn leaves as they were."""
    turn = zip(range(op.carries), op.body.inputs, op.body.outputs) if op.carries else ()
    return {i for i, before, after in turn if before is after}


# What is asked for


def asked_for(graph):
    """Branches and loops, and the graphs in them, without what nobody asks for."""
    wanted, parts = defaultdict(set), {}
    for n in (*graph.outputs, *graph.updates.values()):
        wanted[n].update(numbers(n))
    for n in reversed(graph.steps):
        if n not in wanted:
            continue
        if isinstance(n.op, TupleGet):
            wanted[n.inputs[0]].add(n.op.index)
            continue
        parts[n] = part(n, wanted[n])
        for i in parts[n].ins:
            wanted[n.inputs[i]].update(numbers(n.inputs[i]))
    new = {n: n for n in graph.sources}
    for n in graph.steps:
        if n in parts:
            new[n] = parts[n].of(n, new)
        elif n in wanted and n.inputs[0] in parts:
            new[n] = parts[n.inputs[0]].get(n, new)
        elif n in wanted:  # of a tuple that comes in
            new[n] = n
    return graph if all(new.get(n) is n for n in graph.steps) else graph.mapped(new)


def numbers(n):
    """Of its outputs, if there are several."""
    return range(len(n.spec)) if isinstance(n.spec, Specs) else ()


class Part(NamedTuple):
    """What remains of a step, by the numbers of its inputs and outputs."""

    op: Op
    ins: list[int]
    outs: list[int]

    def of(self, n, new):
        inputs = tuple([new[n.inputs[i]] for i in self.ins])
        return rebuilt(n, inputs) if self.op is n.op else made(self.op, inputs, n)

    def get(self, n, new):
        i = self.outs.index(n.op.index)
        return rebuilt(n, (new[n.inputs[0]],), n.op if i == n.op.index else TupleGet(i))


def part(n, wanted) -> Part:
    if not n.op.control:
        return Part(n.op, range(len(n.inputs)), numbers(n))
    graphs, ins, outs = needs(n.op, wanted)
    own = range(n.op.first)
    rows = range(n.op.carries, n.op.carries + n.op.sequences)
    captured = lambda i: i >= rows.stop or i < rows.start and i not in outs
    ins, outs = sorted(ins, key=lambda i: (captured(i), i)), sorted(outs)
    whole = ins == [*range(len(n.inputs) - len(own))] and outs == [*numbers(n)]
    same = whole and graphs == subgraphs(n.op)
    op = n.op if same else n.op.only(ins, outs, graphs)
    return Part(op, [*own, *[i + len(own) for i in ins]], outs)


def needs(op, outs) -> tuple[dict[str, Graph], set[int], set[int]]:
    """The graphs with these outputs, and the inputs and outputs that they need. A carry that is
    needed needs what it becomes; and that perhaps other carries."""
    idle = handed_on(op)
    while True:
        graphs = {
            name: alive(with_outputs(g, outs) if name in op.giving else g)
            for name, g in subgraphs(op).items()
        }
        ins = set().union(*map(used_inputs, graphs.values()))
        more = {i for i in ins if i < op.carries} - idle - outs
        if not more:
            break
        outs = outs | more
    ins |= {i for i in outs if i < op.carries}
    rows = range(op.carries, op.carries + op.sequences)
    if rows and ins.isdisjoint(rows):  # something has to tell how many turns there are
        ins.add(min(rows, key=lambda i: nbytes(op.body.inputs[i].spec)))
    return graphs, ins, outs


def used_inputs(graph) -> set[int]:
    used = users(graph)
    return {i for i, x in enumerate(graph.inputs) if used[x]}


def with_outputs(graph, outs):
    if len(outs) == len(graph.outputs):
        return graph
    return Graph(graph.inputs, [graph.outputs[i] for i in sorted(outs)])
