"""What the passes did to a graph: print(graph.history); graph.history.draw(i, "diff.svg")."""

from typing import TYPE_CHECKING, NamedTuple

from .table import table

if TYPE_CHECKING:
    from .graph import Graph


class Change(NamedTuple):
    """One pass over one graph."""

    name: str
    before: "Graph"
    after: "Graph"
    seconds: float

    @property
    def saved(self) -> "Cost":
        """Steps, FLOPs and bytes: how many fewer."""
        before, after = cost(self.before), cost(self.after)
        return Cost(*(b - a for b, a in zip(before, after)))

    @property
    def told(self) -> str:
        """What it did to the costs: 22 → 6 steps, FLOPs ±0 %, bytes −78 %"""
        (before, *was), (after, *now) = cost(self.before), cost(self.after)
        steps = f"{before} → {after} steps" if before != after else f"{after} steps"
        shares = [
            f"{what} {percent(a, b)}" for what, a, b in zip(("FLOPs", "bytes"), was, now) if a
        ]
        return ", ".join([steps, *shares])


class Cost(NamedTuple):
    steps: int
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
        rows = [("as it was", *counted(self[0].before), "")]
        for c in self:
            rows.append((c.name, *counted(c.after), f"{c.seconds * 1e3:.1f}"))
        return table(("pass", "steps", "FLOPs", "bytes", "ms"), rows)

    __repr__ = __str__


def counted(graph):
    return map("{:,}".format, cost(graph))


def percent(before, after) -> str:
    change = 100 * (after - before) / before
    number = f"{change:+.{int(abs(change) < 0.95)}f}" if abs(change) >= 0.05 else "±0"
    return f"{number} %".replace("-", "−")
