from dataclasses import replace

from ...core.spec import Spec
from ...core.tensor import Node, Tensor, symbol
from ...errors import ArgumentError
from ...ops import concat, stack
from ..control import Scan, TupleGet
from ..graph import Graph, nodes
from .rewrite import graph_pass, rewrite


@graph_pass
def unroll(graph, limit=256, turns=None):
    """A scan becomes its turns, one after the other, if these are no more than `limit` steps:
    scan(f, c, [x0, x1]) -> c, y0 = f(c, x0); c, y1 = f(c, x1); c, [y0, y1]

    With `turns` it remains a scan, of which one turn does that many; those that remain at the end
    come after it. Raises ArgumentError if `turns` is not a whole number from 2 on.
    """
    if turns is not None and (not isinstance(turns, int) or turns < 2):
        raise ArgumentError(f"unroll: turns is a whole number from 2 on, not {turns!r}")
    opened = {}  # a scan -> what it gives

    def rule(n):
        match n:
            case Node(Scan() as op, args) if turns:
                opened[n] = in_blocks(op, args, turns)
            case Node(Scan() as op, args) if length(op, args) * len(op.body.steps) <= limit:
                opened[n] = in_turns(op, args)
            case Node(TupleGet(i), (t,)) if t in opened:
                return opened[t][i]

    return rewrite(graph, rule)


def length(op, args) -> int:
    return op.turns(*[x.spec for x in args])


def in_turns(op, args) -> list[Node]:
    """What the scan gives, without a loop."""
    carry, xs, captured = op.parts(args)
    ys, way = [], -1 if op.reverse else 1
    for t in range(length(op, args))[::way]:
        rows = nodes(Tensor(x)[t] for x in xs)
        outs = op.body.inlined((*carry, *rows, *captured))
        carry = outs[: op.carries]
        ys.append(outs[op.carries :])
    return [*carry, *nodes(stack(map(Tensor, y[::way])) for y in zip(*ys))]


def in_blocks(op, args, k) -> list[Node]:
    """What the scan gives, by a scan over blocks of k rows, and the rest without a loop."""
    carry, xs, captured = op.parts(args)
    n = length(op, args)
    if n < k:
        return in_turns(op, args)
    blocks, rest = slice(n - n % k), slice(n - n % k, n)
    if op.reverse:
        blocks, rest = slice(n % k, n), slice(n % k)
    xs, captured = [Tensor(x) for x in xs], [Tensor(x) for x in captured]
    rows = [x[blocks].reshape(n // k, k, *x.shape[1:]) for x in xs]
    t = replace(op, body=block_body(op, k))(*map(Tensor, carry), *rows, *captured)
    outs = [TupleGet(i)(t) for i in range(len(t.spec))]
    carry, ys = outs[: op.carries], [y.flatten(0, 1) for y in outs[op.carries :]]
    if n % k:
        outs = in_turns(op, nodes([*carry, *(x[rest] for x in xs), *captured]))
        carry, after = outs[: op.carries], map(Tensor, outs[op.carries :])
        ys = [concat([z, y] if op.reverse else [y, z]) for y, z in zip(ys, after)]
    return [*carry, *nodes(ys)]


def block_body(op, k) -> Graph:
    """k turns of the scan, of which one row is k of its rows."""
    _, rows, _ = op.parts(op.body.inputs)
    specs = {n: Spec((k, *n.spec.shape), n.spec.dtype) for n in rows}
    ins = nodes(symbol(specs.get(n, n.spec), name=n.origin.name) for n in op.body.inputs)
    return Graph(ins, in_turns(op, ins))
