"""What the passes did to a graph: print(graph.history); graph.history.draw(i, "diff.svg")."""

from typing import NamedTuple

from .graph import Graph


class Change(NamedTuple):
    """One pass over one graph."""

    name: str
    before: Graph
    after: Graph
    seconds: float

    @property
    def saved(self) -> "Cost":
        before, after = cost(self.before), cost(self.after)
        return Cost(*(b - a for b, a in zip(before, after)))


class Cost(NamedTuple):
    nodes: int
    flops: int
    bytes: int


def cost(graph) -> Cost:
    return Cost(len(graph.steps), graph.flops(), graph.bytes())


class History(tuple):
    """The Changes that led to a graph, the oldest first."""

    __slots__ = ()

    def __str__(self):
        if not self:
            return "no pass has run"
        head = "pass", "nodes", "FLOPs", "bytes", "ms"
        rows = [("", *map("{:,}".format, cost(self[0].before)), "")]
        for c in self:
            rows.append((c.name, *map("{:,}".format, cost(c.after)), f"{c.seconds * 1e3:.1f}"))
        widths = [max(map(len, column)) for column in zip(head, *rows)]
        return "\n".join(
            f"{name:{widths[0]}}  {'  '.join(map(str.rjust, rest, widths[1:]))}".rstrip()
            for name, *rest in (head, *rows)
        )

    __repr__ = __str__
