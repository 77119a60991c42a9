"""In which order the steps of a graph run: one after the other, or in stages whose steps may run side
by side. (Kahn 1962, "Topological sorting of large networks".)

Any topological order gives the same results. It decides how much is alive at once: a value needs
memory from the step that makes it to the last that reads it. To find the order with the least peak is
NP-hard (Sethi 1975, "Complete register allocation problems"), so it is searched for in small graphs,
and in large ones the next step is each time one that adds the least.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from heapq import heapify, heappop, heappush

from ..core.tensor import Node
from ..errors import ArgumentError, GraphError
from ..graph.graph import Graph, nbytes
from ..graph.table import table
from ..graph.verify import called
from .values import Block, Values

SMALL = 64  # steps of a graph that is searched for its best order without being asked to
SEARCHED = 3_000  # sets of steps that the search looks at, before it gives up


@dataclass(frozen=True, eq=False)
class Order:
    """`stages` of steps; views are none. `live[i]`: bytes that are needed while stage i runs."""

    graph: Graph
    stages: tuple[tuple[Node, ...], ...]
    policy: str
    live: tuple[int, ...]

    @cached_property
    def steps(self) -> tuple[Node, ...]:
        return tuple(n for stage in self.stages for n in stage)

    @property
    def peak(self) -> int:
        """The most bytes that are needed at once: of what steps make, and of their scratch."""
        return max(self.live, default=0)

    def __str__(self):
        names = self.graph.names
        rows = [
            (str(i), ", ".join(f"%{names[n]} {n.op.name}" for n in stage), f"{live:,}")
            for i, (stage, live) in enumerate(zip(self.stages, self.live))
        ]
        return f"{self.policy} order\n{table(('stage', 'steps', 'bytes alive'), rows, left=2)}"


class Work:
    """What has to be done: `steps`. Of each, the blocks that it `makes`, those of other steps that it
    `reads`, and those it may write `over`; its bytes of `scratch`; and who comes `before` and `after`.

    `held` are the blocks that are needed in the end. Those in `into` have no `size`: into[block] is the
    State in whose memory it can be made."""

    def __init__(self, values: Values, kernels):
        self.values, self.graph, self.steps = values, values.graph, values.work
        self.kernels = kernels
        ends = (*self.graph.outputs, *self.graph.updates.values())
        self.held = {b for n in ends for b in values.blocks_of(n)}
        self.makes = {n: values.blocks_of(n) for n in self.steps}
        self.reads = {n: {b for b in values.reads(n) if b.maker} for n in self.steps}
        self.over = {n: written_over(n, kernels[n], values) for n in self.steps}
        self.scratch = {n: sum(map(nbytes, kernels[n].scratch)) for n in self.steps}
        self.before, self.into = in_place_updates(self)
        for b in self.into:  # what is made in a State takes over nothing else
            self.over[b.maker] = {x for x in self.over[b.maker] if x.maker is None}
        self.after = users_of(self.steps, self.before)
        self.size = {b: 0 if b in self.into else b.size for b in values.blocks}


def written_over(n, kernel, values) -> set[Block]:
    """The blocks that the result of n could take over, if nothing else needs them. Of several results
    each only may be what a State becomes."""
    can, results = set(), [b.spec for b in values.blocks_of(n)]
    for x in (n.inputs[i] for i in kernel.over):
        if x.spec in results and values.fills(x) and (len(results) == 1 or not x.op):
            block = values.block[x]
            looks = [y for y in n.inputs if block in values.blocks_of(y)]
            if all(values.same_look(x, y) for y in looks):
                can.add(block)
    return can


def in_place_updates(work) -> tuple[dict, dict]:
    """(before, into): what a State becomes, into[block] = state, is written into its memory; for that
    its step waits, before[step], until all have read the old value, and nothing can fail any more:
    else half of the States would be old and half new."""
    values, graph = work.values, work.graph
    symbols = {state: values.block[n] for n, state in graph.states.items()}
    past = ancestors_of(work.steps, values.before) if graph.updates else {}
    failing, into, waits = [n for n in work.steps if n.op.raises], {}, []
    for state, n in graph.updates.items():
        new, old = values.block[n], symbols.get(state)
        if new in into or not can_replace(work, n, old):
            continue
        maker, readers = new.maker, old.readers if old else ()
        first = [m for m in (*readers, *failing) if m is not maker]
        number, _ = past[maker]
        if not any(past[m][1] >> number & 1 for m in first):  # none of them is made of it
            into[new] = state
            waits += [(maker, m) for m in first]
    before = waiting(values.before, waits)
    if waits and (stuck := {*work.steps} - {*kahn(work.steps, before, lambda n: n.born)}):
        # some wait for each other: neither they nor what waits for them is made in place
        into = {b: state for b, state in into.items() if b.maker not in stuck}
        before = waiting(values.before, [(n, m) for n, m in waits if n not in stuck])
    return before, into


def waiting(before, waits) -> dict:
    """The same, and for each pair that the first waits for the second."""
    before = {n: set(ms) for n, ms in before.items()}
    for n, m in waits:
        before[n].add(m)
    return before


def can_replace(work, n, old) -> bool:
    """Can the step that makes n write it over the old value of a State, if all others have read that?"""
    new = work.values.block[n]
    maker = new.maker
    if maker is None or maker.op.raises or new.spec != n.spec or not work.values.fills(n):
        return False
    needs_both = old and maker in old.readers and old not in work.over[maker]
    return not (needs_both or old in work.held)


def ancestors_of(steps, before) -> dict:
    """{step: (its number, the numbers of itself and of all before it, as bits)}"""
    past = {}
    for i, n in enumerate(steps):
        bits = 1 << i
        for m in before[n]:
            bits |= past[m][1]
        past[n] = i, bits
    return past


class Alive:
    """The bytes that are alive while steps are done one after the other."""

    def __init__(self, work: Work):
        self.work, self.size, self.bytes = work, work.size, 0
        self.waiting = {b: len(b.readers) + (b in work.held) for b in work.values.blocks}

    def during(self, n) -> int:
        """What is needed while n runs."""
        made = sum(self.size[b] for b in self.work.makes[n])
        return self.bytes + self.work.scratch[n] + made - self._taken(n)

    def growth(self, n) -> int:
        """How much more is alive after it, or less."""
        made = sum(self.size[b] for b in self.work.makes[n] if self.waiting[b])
        return made - sum(self.size[b] for b in self.work.reads[n] if self.waiting[b] == 1)

    def _taken(self, n):
        can = (b for b in self.work.over[n] & self.work.reads[n] if self.waiting[b] == 1)
        return max((self.size[b] for b in can), default=0)

    def do(self, n) -> list:
        """n has run. The blocks that have only one reader left."""
        self.bytes += self.growth(n)
        for b in self.work.reads[n]:
            self.waiting[b] -= 1
        return [b for b in self.work.reads[n] if self.waiting[b] == 1]


def users_of(steps, before) -> dict[Node, list[Node]]:
    """What has to wait for each step."""
    after = {n: [] for n in steps}
    for n in steps:
        for m in before[n]:
            after[m].append(n)
    return after


def kahn(steps, before, key) -> list[Node]:
    """A topological order: of the steps that are ready, the one with the least key comes next. If
    there is a cycle, it and what is behind it is missing."""
    missing, after = {n: len(before[n]) for n in steps}, users_of(steps, before)
    ready = [(key(n), n.born, n) for n in steps if not missing[n]]
    heapify(ready)
    done = []
    while ready:
        n = heappop(ready)[2]
        done.append(n)
        for m in after[n]:
            missing[m] -= 1
            if not missing[m]:
                heappush(ready, (key(m), m.born, m))
    return done


def construction(work: Work) -> list[Node]:
    """As they were written down, as far as that goes: an update may have to wait."""
    return kahn(work.steps, work.before, lambda n: n.born)


def greedy(work: Work) -> list[Node]:
    """Next comes the step after which the least is alive; of equals the oldest."""
    now, done = Alive(work), {}
    missing = {n: len(work.before[n]) for n in work.steps}
    ready = [(now.growth(n), n.born, n) for n in work.steps if not missing[n]]
    heapify(ready)
    while ready:
        growth, _, n = heappop(ready)
        if n in done or growth != now.growth(n):
            continue  # it has become cheaper since, and stands further ahead
        done[n] = None
        last = now.do(n)
        for m in work.after[n]:
            missing[m] -= 1
            if not missing[m]:
                heappush(ready, (now.growth(m), m.born, m))
        for b in last:  # who is the last reader sets it free
            for m in b.readers:
                if m not in done and not missing[m]:
                    heappush(ready, (now.growth(m), m.born, m))
    return [*done]


def exact(work: Work, most=SEARCHED) -> list[Node] | None:
    """The order of the least peak; None, if more than `most` sets of steps would have to be seen.

    A set of steps that are done determines what is alive. So this is a shortest path from no step to
    all steps, where the length of a way is the largest peak on it (Dijkstra 1959). A step that
    neither raises the peak nor leaves more alive is never worth waiting with.
    """
    number, size = {n: i for i, n in enumerate(work.steps)}, work.size
    needs = [sum(1 << number[m] for m in work.before[n]) for n in work.steps]
    everything = (1 << len(work.steps)) - 1
    come_from, todo, settled = {0: None}, [(0, 0, 0)], set()
    readers = {b: sum(1 << number[n] for n in b.readers) for b in work.values.blocks}

    def waiting(b, done):
        return b in work.held or readers[b] & ~done

    def last(b, n, done):
        return b not in work.held and readers[b] & ~done == 1 << number[n]

    def moves(done):
        """(number, bytes more while it runs, and after it) of each step that is ready, as by Alive."""
        for i, n in enumerate(work.steps):
            if not done >> i & 1 and needs[i] & ~done == 0:
                dying = [b for b in work.reads[n] if last(b, n, done)]
                taken = max((size[b] for b in dying if b in work.over[n]), default=0)
                made = sum(size[b] for b in work.makes[n])
                kept = sum(size[b] for b in work.makes[n] if waiting(b, done))
                yield i, made + work.scratch[n] - taken, kept - sum(size[b] for b in dying)

    while todo:
        peak, alive, done = heappop(todo)
        if done in settled:
            continue
        settled.add(done)
        if done == everything:
            return way(work.steps, come_from, done)
        if len(settled) > most:
            return None
        ways = [*moves(done)]
        free = [(i, d, growth) for i, d, growth in ways if growth <= 0 and alive + d <= peak]
        for i, during, growth in free[:1] or ways:
            there = done | 1 << i
            if there not in settled:
                reached = max(peak, alive + during)
                if there not in come_from or reached < come_from[there][0]:
                    come_from[there] = reached, done, i
                    heappush(todo, (reached, alive + growth, there))


def way(steps, come_from, done) -> list[Node]:
    found = []
    while done:
        _, done, i = come_from[done]
        found.append(steps[i])
    return found[::-1]


def least(work: Work) -> list[Node]:
    """The exact order, if it is found; else the better one of two."""
    found = min(construction(work), greedy(work), key=lambda steps: peak(work, steps))
    if len(work.steps) <= SMALL and peak(work, found) > floor(work):
        found = exact(work) or found
    return found


def floor(work: Work) -> int:
    """No order needs less: what a single step needs, and nothing else alive."""
    size = work.size
    taken = lambda n: max((size[b] for b in work.over[n] & work.reads[n]), default=0)
    there = lambda n: sum(size[b] for b in (*work.reads[n], *work.makes[n])) + work.scratch[n]
    return max((there(n) - taken(n) for n in work.steps), default=0)


def breadth(work: Work) -> list[tuple[Node, ...]]:
    """A step stands in the first stage in which all that it needs is there: branches run side by
    side."""
    stage = {}
    for n in construction(work):
        stage[n] = 1 + max((stage[m] for m in work.before[n]), default=-1)
    stages = [[] for _ in range(max(stage.values(), default=-1) + 1)]
    for n in work.steps:
        stages[stage[n]].append(n)
    return [*map(tuple, stages)]


def peak(work: Work, steps) -> int:
    return max(alive(work, [(n,) for n in steps]), default=0)


def alive(work: Work, stages) -> list[int]:
    """Bytes that are needed while each stage runs."""
    now, found = Alive(work), []
    for stage in stages:
        before = now.bytes
        found.append(before + sum(now.during(n) - before for n in stage))
        for n in stage:
            now.do(n)
    return found


POLICIES = {
    "construction": construction,
    "greedy": greedy,
    "exact": exact,
    "memory": least,
    "breadth": breadth,
}


def order(work: Work, policy="memory") -> Order:
    """By a policy; or as given: an Order, or steps, or stages of steps.

    Raises ArgumentError for a policy that does not exist, or for an exact search that is too long;
    GraphError for an order that leaves out a step, or has it before what it needs.
    """
    if isinstance(policy, Order):
        return made(work, checked(work, policy.stages), policy.policy)
    if not isinstance(policy, str):
        return made(work, checked(work, policy), "given")
    if policy not in POLICIES:
        raise ArgumentError(
            f"plan: order is one of {', '.join(POLICIES)}, or steps, not {policy!r}"
        )
    if (found := POLICIES[policy](work)) is None:
        raise ArgumentError(
            f"plan: the exact order of {len(work.steps)} steps is not found among {SEARCHED:,} "
            "sets of them: take order='memory'"
        )
    return made(work, found, policy)


def made(work, stages, policy) -> Order:
    stages = tuple(s if isinstance(s, tuple) else (s,) for s in stages)
    return Order(work.graph, stages, policy, tuple(alive(work, stages)))


def checked(work, stages) -> list[tuple[Node, ...]]:
    """The stages, without views, if they are an order of the graph."""
    if not isinstance(stages, Iterable):
        raise ArgumentError(f"plan: an order is a policy, or steps of the graph, not {stages!r}")
    stages = [tuple(s) if isinstance(s, Iterable) else (s,) for s in stages]
    known, done = set(work.steps), set()
    for stage in stages:
        for n in stage:
            if n not in work.graph.names:
                raise GraphError(f"an order is of the steps of this graph, not {n!r}")
            if early := [m for m in work.values.before.get(n, ()) if m not in done]:
                needed = called(work.graph, early[0])
                raise GraphError(f"in this order {called(work.graph, n)} comes before {needed}")
        if twice := [n for n in stage if n in done or stage.count(n) > 1]:
            raise GraphError(f"in this order {called(work.graph, twice[0])} comes twice")
        done.update(stage)
    if left := [n for n in work.steps if n not in done]:
        raise GraphError(f"in this order {called(work.graph, left[0])} is missing")
    return [s for stage in stages if (s := tuple(n for n in stage if n in known))]
