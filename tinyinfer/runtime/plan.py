"""A plan: the order of the steps, how each is carried out, and where in memory its result lies."""

import json
from bisect import bisect_right
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from ..core.tensor import Node
from ..errors import ArgumentError
from ..graph.graph import Graph, expect_graph, nbytes
from ..graph.table import table
from ..kernels.kernel import Kernel
from . import memory as planners
from .lifetimes import Home, Lifetimes
from .order import Order, Work
from .order import order as ordered
from .select import NUMPY, selected
from .values import Block, Values


@dataclass(frozen=True)
class Row:
    """A step: what it makes, how, and where. `first` and `last`, both included, are the stages in which
    that place is needed: by all that lies there."""

    stage: int
    name: str  # as in print(graph)
    op: str
    spec: str
    kernel: str  # "" if there is nothing to do: what is concatenated lies side by side
    why: str  # how long it should take, and what comes next
    size: int  # bytes
    scratch: int  # bytes that its kernel needs besides
    place: str  # "arena", "output 0", "state fc1.weight"
    offset: int | None  # in the arena
    first: int
    last: int
    over: str | None  # what it is written over


class Plan:
    """`arena_bytes` is what the plan needs; `lower_bound` what no placement of its buffers can go below,
    and `shared_lower_bound`, if they share objects; `naive_bytes` what it would be if each had bytes of
    its own. `print` gives a table, `json` the same for tools, `draw("arena.svg")` a picture."""

    def __init__(
        self,
        graph: Graph,
        memory="best",
        order="memory",
        alignment=planners.ALIGNMENT,
        selection=NUMPY,
    ):
        if selection.fast and alignment < 4:
            raise ArgumentError(
                f"alignment: kernels in machine code need floats at multiples of 4 bytes, not of {alignment}: "
                "or kernels='numpy'"
            )
        self.graph, self.alignment, self.selection = graph, alignment, selection
        self.values = Values(graph)
        self.rankings = {n: selection.ranking(n) for n in self.values.work}
        self.kernels: dict[Node, Kernel] = {n: r[0].kernel for n, r in self.rankings.items()}
        work = Work(self.values, self.kernels)
        self.order: Order = ordered(work, order)
        self.lifetimes = Lifetimes(work, self.order, alignment)
        self.buffers = tuple(self.lifetimes.buffers)
        self.placement = planners.place(self.buffers, memory, alignment)

    @property
    def arena_bytes(self) -> int:
        return self.placement.total

    @cached_property
    def lower_bound(self) -> int:
        return planners.lower_bound(self.buffers, self.alignment)

    @cached_property
    def shared_lower_bound(self) -> int:
        return planners.shared_lower_bound(self.buffers, self.alignment)

    @cached_property
    def naive_bytes(self) -> int:
        return planners.place(self.buffers, "naive", self.alignment).total

    def home(self, block: Block) -> Home:
        return self.lifetimes.home[block]

    def offset(self, home: Home) -> int:
        """Where in the arena a home begins."""
        return self.placement.offsets[self.lifetimes.number[home.root]] + home.start

    @cached_property
    def before(self) -> dict[Node, set[Node]]:
        """The steps that have to be done before each step: those that make what it reads; and those
        that use the memory it writes to, while that is still somebody else's."""
        before = {n: self.values.before[n] | self.lifetimes.waits[n] for n in self.order.steps}
        occupied: list[tuple[int, int, int]] = []  # (start, end, buffer), by start
        for i in sorted(range(len(self.buffers)), key=lambda i: self.buffers[i].first):
            start = self.placement.offsets[i]
            for j in moved_in(occupied, start, start + self.buffers[i].size, i):
                for n in self.lifetimes.makers[i]:
                    before[n] |= self.lifetimes.users[j]
        return before

    @cached_property
    def rows(self) -> list[Row]:
        return [self._row(i, n) for i, stage in enumerate(self.order.stages) for n in stage]

    def _row(self, stage, n) -> Row:
        names, kernel = self.graph.names, self.kernels[n]
        homes = [self.home(block) for block in self.values.blocks_of(n)]
        over = self.lifetimes.over.get(n)
        joined = len(self.lifetimes.joined.get(n, ())) == len(n.inputs) > 0
        return Row(
            stage, names[n], n.op.name, str(n.spec), "" if joined else kernel.name,
            self.selection.why(n, self.rankings[n]) if self.selection.fast and not joined else "",
            nbytes(n.spec), sum(map(nbytes, kernel.scratch)), place_of(homes[0].root),
            self.offset(homes[0]) if homes[0].root.kind == "arena" else None,
            min(h.root.first for h in homes), max(h.root.last for h in homes),
            over and names[self.values.block[over].source],
        )  # fmt: skip

    def json(self) -> str:
        """The plan for tools: {"arena_bytes": ..., "buffers": [...], "steps": [...]}."""
        what = {
            "arena_bytes": self.arena_bytes,
            "lower_bound": self.lower_bound,
            "shared_lower_bound": self.shared_lower_bound,
            "naive_bytes": self.naive_bytes,
            "alignment": self.alignment,
            "memory": self.placement.planner,
            "order": self.order.policy,
            "buffers": [
                b._asdict() | {"offset": offset}
                for b, offset in zip(self.buffers, self.placement.offsets)
            ],
            "steps": [asdict(row) for row in self.rows],
        }
        return json.dumps(what, indent=1)

    def save(self, path) -> Path:
        """Write `json` to a file."""
        Path(path).write_text(self.json())
        return Path(path)

    def __str__(self):
        head = "stage", "step", "op", "result", "kernel", "why", "in place of", "where"
        head += "size", "scratch", "offset", "alive"
        cells = [
            (
                str(r.stage), f"%{r.name}", r.op, r.spec, r.kernel, r.why, f"%{r.over}" if r.over else "",
                r.place, f"{r.size:,}", f"{r.scratch:,}" if r.scratch else "",
                "" if r.offset is None else f"{r.offset:,}", f"{r.first}-{r.last}",
            )
            for r in self.rows
        ]  # fmt: skip
        return f"{self.told}\n{table(head, cells, left=8)}"

    def __repr__(self):
        return f"<{self.told}>"

    @property
    def told(self) -> str:
        """In a sentence: how much memory, by which planner, and how good that is."""
        total, shared = self.arena_bytes, self.placement.planner in planners.SHARED
        bound = self.shared_lower_bound if shared else self.lower_bound
        what = "lower bound of shared objects" if shared else "lower bound"
        near = f"which is the {what}" if total == bound else f"{what} {bound:,}"
        return (
            f"arena of {total:,} bytes ({self.placement.planner}, {self.order.policy} order), {near};"
            f" without taking turns {self.naive_bytes:,}"
        )


def place_of(home) -> str:
    if home.kind == "state":
        return f"state {home.key.name or ''}".rstrip()
    return home.kind if home.key is None else f"{home.kind} {home.key}"


def moved_in(occupied, start, end, i) -> set[int]:
    """Those who had bytes start to end, up to now; then these are buffer i's."""
    if start == end:
        return set()
    a = max(bisect_right(occupied, (start,)) - 1, 0)
    b = bisect_right(occupied, (end,))
    there = [s for s in occupied[a:b] if s[0] < end and s[1] > start]
    rest = [s for s in occupied[a:b] if s not in there]
    rest += [(s, start, j) for s, _, j in there if s < start]
    rest += [(end, e, j) for _, e, j in there if e > end]
    occupied[a:b] = sorted([*rest, (start, end, i)])
    return {j for _, _, j in there}


def plan(
    graph: Graph, memory="best", order="memory", alignment=planners.ALIGNMENT, **selection
) -> Plan:
    """When each step of the graph runs, how, and where in one arena its result lies.

    `order`: "memory" (the least peak), "greedy", "exact", "construction", "breadth" (branches side by
    side), or steps of the graph. `memory`: a planner of offsets, "naive", "first_fit", "best_fit",
    "greedy_by_size", "greedy_by_breadth", "squeaky_wheel", "exact", or the "best" of these; or one of
    shared objects, "shared_in_order", "shared_by_size", "shared_by_breadth", "shared_min_cost_flow".
    `alignment` of what lies in the arena, in bytes, a power of two. The steps are carried out by NumPy;
    with `kernels="fast"` by machine code, chosen as ti.compile does.
    Raises ArgumentError for what does not exist, GraphError for an order that is none.
    """
    expect_graph("plan", graph)
    return Plan(
        graph, memory, order, alignment, selected("plan", **{"kernels": "numpy"} | selection)
    )
