"""What has to hold of every plan, found out anew: from the addresses that its values have in the end.

TINYINFER_EXAMPLES=10000 pytest tests/runtime/test_plan.py
"""

import json
import os
import random
from dataclasses import asdict
from itertools import combinations

import numpy as np
import pytest
from lenet import lenet
from nets import network, training
from numpy.lib.array_utils import byte_bounds
from plans import FLAT, Replay, some_graphs
from random_graphs import arrays_for

import tinyinfer as ti
from tinyinfer.runtime.memory import ALIGNMENT, PLANNERS, SHARED
from tinyinfer.runtime.plan import Plan
from tinyinfer.runtime.values import Values

EXAMPLES = int(os.environ.get("TINYINFER_EXAMPLES", 80))
PARTS = 8  # run side by side
POLICIES = "memory", "construction", "greedy", "breadth"
ALIGNMENTS = ALIGNMENT, 1, 16, 256
PLACERS = ["best", *(p for p in (*PLANNERS, *SHARED) if p != "shared_min_cost_flow")]  # needs SciPy


class Memory:
    """Where the values of a plan lie, and from when to when they are looked at."""

    def __init__(self, plan, arrays=None):
        self.plan, self.graph, self.end = plan, plan.graph, len(plan.order.stages)
        self.run = Replay(plan, arrays or arrays_for(plan.graph, 0))
        self.at = {n: i for i, stage in enumerate(plan.order.stages) for n in stage}
        self.looks = {}  # node -> the values, (node, number of the output), that it is or looks at
        self.array, self.first, self.last = {}, {}, {}
        for n in (*self.graph.sources, *self.graph.steps):
            self._note(n)
        for n in self.at:
            for x in n.inputs:
                self._look(x, self.at[n])
        for n in (*self.graph.outputs, *self.graph.updates.values()):
            self._look(n, self.end)

    def _note(self, n):
        array = self.run.value(n)
        if n in self.at or not n.op or n not in self.graph.steps:
            parts = array if isinstance(array, tuple) else (array,)
            self.looks[n] = [(n, i) for i in range(len(parts))]
            self.array |= zip(self.looks[n], parts)
            self.first |= dict.fromkeys(self.looks[n], self.at.get(n, 0))
            self.last |= dict.fromkeys(self.looks[n], self.at.get(n, 0))
        elif isinstance(self.run.value(n.inputs[0]), tuple):
            self.looks[n] = [self.looks[n.inputs[0]][n.op.index]]
        else:
            assert array.size == 0 or np.shares_memory(array, self.run.value(n.inputs[0]))
            self.looks[n] = self.looks[n.inputs[0]]

    def _look(self, n, stage):
        for value in self.looks[n]:
            self.last[value] = max(self.last[value], stage)

    def place(self, value):
        return byte_bounds(self.array[value])

    @property
    def values(self):
        return [v for v in self.array if self.array[v].nbytes]

    def in_arena(self, value) -> bool:
        low, high = byte_bounds(self.run.arena.memory)
        return bool(self.run.arena.memory.size) and low <= self.place(value)[0] < high

    def part(self, value, whole) -> bool:
        """Is one where the other, a concatenation, would put it? Through several of them, too."""
        n, _ = whole
        if not n.op or n not in self.at or not n.op.joins(n.spec, *[x.spec for x in n.inputs]):
            return False
        start = self.place(whole)[0]
        for x in n.inputs:
            [inner] = self.looks[x]
            here = self.array[inner].nbytes and self.place(inner)[0] == start
            if here and (inner == value or self.part(value, inner)):
                return True
            start += self.run.value(x).nbytes
        return False

    def takes_over(self, old, new) -> bool:
        """May the step that makes `new` write it over `old`, which it is the last to read?"""
        n, _ = new
        if n not in self.at or self.at[n] != self.last[old] or self.place(old) != self.place(new):
            return False
        readers = [m for m in self.at if self.at[m] == self.last[old] and self.reads(m, old)]
        over = [n.inputs[i] for i in self.plan.kernels[n].over]
        looks = [x for x in n.inputs if old in self.looks[x]]
        same = {(self.place_of(x), x.spec, self.run.value(x).strides) for x in looks}
        return readers == [n] and any(x in over for x in looks) and len(same) == 1

    def place_of(self, n):
        return byte_bounds(self.run.value(n))

    def reads(self, n, value) -> bool:
        return any(value in self.looks[x] for x in n.inputs)


def overlap(a, b) -> bool:
    return a[0] < b[1] and b[0] < a[1]


def check_values(memory):
    """Of two values that are needed in one stage none lies in the memory of the other, unless it is a
    part of it, or the step that makes it writes it over the other."""
    for a, b in combinations(memory.values, 2):
        written = a[0] in memory.at or b[0] in memory.at  # constants may be views of one array
        if written and overlap(memory.place(a), memory.place(b)):
            old, new = sorted((a, b), key=lambda v: (memory.first[v], memory.last[v]))
            if memory.last[old] >= memory.first[new]:
                good = memory.part(old, new) or memory.part(new, old)
                assert good or memory.takes_over(old, new), (old, new)


def check_sources(memory):
    """Nothing is written to inputs and constants, and the arena is for what steps make."""
    own = [v for v in memory.values if v[0] not in memory.at and v[0] not in memory.graph.states]
    for a in own:
        assert not memory.in_arena(a)
        steps = (b for b in memory.values if b[0] in memory.at)
        assert not any(overlap(memory.place(a), memory.place(b)) for b in steps)
    ends = [*memory.run.results, *memory.run.states.values()]
    assert not any(np.shares_memory(x, memory.run.arena.memory) for x in ends)


def check_updates(memory):
    """In its State lies what it becomes only if all have read what it was, and nothing can fail."""
    raising = [i for n, i in memory.at.items() if n.op.raises]
    symbols = {s: n for n, s in memory.graph.states.items()}
    for state, array in memory.run.states.items():
        made = [v for v in memory.values if v[0] in memory.at]
        for v in (v for v in made if overlap(memory.place(v), byte_bounds(array))):
            assert memory.looks[memory.graph.updates[state]] == [v]
            assert memory.array[v].shape == array.shape and memory.place(v) == byte_bounds(array)
            assert all(i < memory.first[v] for i in raising)
            if state in symbols:
                readers = [n for n in memory.at if memory.reads(n, (symbols[state], 0))]
                assert all(memory.at[n] < memory.first[v] for n in readers if n is not v[0])


def check_buffers(memory):
    """What lies in the arena lies in a buffer; these do not meet, and are as the plan says."""
    plan, base = memory.plan, byte_bounds(memory.run.arena.memory)[0]
    assert memory.run.arena.memory.size == plan.arena_bytes
    assert base % plan.alignment == 0 or not plan.arena_bytes
    places = [(o, o + b.size) for b, o in zip(plan.buffers, plan.placement.offsets)]
    for i, (a, b) in enumerate(zip(plan.buffers, places)):
        assert b[0] % plan.alignment == 0 and 0 <= b[0] and b[1] <= plan.arena_bytes
        for other, place in zip(plan.buffers[:i], places):
            assert a.last < other.first or other.last < a.first or not overlap(b, place)
    for value in memory.values:
        if memory.in_arena(value):
            low, high = (x - base for x in memory.place(value))
            assert low % plan.alignment == 0
            assert any(
                a <= low and high <= b and buffer.first <= memory.first[value]
                for buffer, (a, b) in zip(plan.buffers, places)
                if memory.last[value] <= buffer.last
            )
    assert plan.arena_bytes >= plan.lower_bound == most_alive(plan)
    assert plan.arena_bytes <= plan.naive_bytes


def most_alive(plan):
    up = lambda size: -(-size // plan.alignment) * plan.alignment
    living = lambda i: sum(up(b.size) for b in plan.buffers if b.first <= i <= b.last)
    return max(map(living, range(len(plan.order.stages) + 1)), default=0)


def check_waiting(memory):
    """Of two steps that touch the same bytes, one of them to write, one waits for the other: then
    threads cannot find an order that gives something else."""
    plan, past = memory.plan, {}
    for n in memory.at:
        past[n] = {n}.union(
            *(past[m] for m in plan.before[n])
        )  # KeyError: it waits for a later one
    touched = {n: touches(memory, n) for n in memory.at}
    for m, n in combinations(memory.at, 2):
        (reads, writes), (others, written) = touched[m], touched[n]
        met = meet(writes, written) or meet(writes, others) or meet(reads, written)
        assert not met or m in past[n] or n in past[m], (m, n)


def touches(memory, n):
    """The bytes that it reads and that it writes; what lies in its place already is not written."""
    arrays = [memory.run.value(x) for x in n.inputs]
    reads = [byte_bounds(x) for x in arrays if x.nbytes]
    if joined := memory.plan.lifetimes.joined.get(n):
        ends = memory.place(memory.looks[n][0])[0] + np.cumsum([0, *(x.nbytes for x in arrays)])
        writes = [(ends[i], ends[i + 1]) for i in range(len(arrays)) if i not in joined]
    else:
        writes = [memory.place(v) for v in memory.looks[n] if memory.array[v].nbytes]
    scratch = zip(memory.plan.lifetimes.scratch[n], memory.plan.kernels[n].scratch)
    rooms = [memory.run.arena._buffer(i, spec) for i, spec in scratch]
    return reads, writes + [byte_bounds(x) for x in rooms if x.nbytes]


def meet(places, others) -> bool:
    return any(overlap(a, b) for a in places for b in others)


def check_rows(memory):
    """The table says what is."""
    plan, names = memory.plan, memory.graph.names
    base, steps = byte_bounds(memory.run.arena.memory)[0], iter(plan.order.steps)
    for row, n in zip(plan.rows, steps, strict=True):
        value = memory.looks[n][0]
        assert (row.name, row.op, row.stage) == (names[n], n.op.name, memory.at[n])
        assert row.size == sum(memory.array[v].nbytes for v in memory.looks[n])
        nothing_to_do = len(plan.lifetimes.joined.get(n, ())) == len(n.inputs) > 0
        assert row.kernel == ("" if nothing_to_do else plan.kernels[n].name)
        assert row.spec == str(n.spec)
        assert row.first <= memory.first[value] and memory.last[value] <= row.last
        assert (row.place == "arena") == (row.offset is not None)
        if row.size and len(memory.looks[n]) == 1:
            assert memory.in_arena(value) == (row.place == "arena")
            assert row.offset in (None, memory.place(value)[0] - base)
        if row.over and row.size:
            source = lambda x: names[plan.values.block[x].source]  # of a view, what has the memory
            [old] = memory.looks[next(x for x in n.inputs if source(x) == row.over)]
            assert memory.takes_over(old, value)
    found = json.loads(plan.json())
    assert found["steps"] == [asdict(row) for row in plan.rows]
    assert found["arena_bytes"] == plan.arena_bytes and found["lower_bound"] == plan.lower_bound
    assert found["memory"] == plan.placement.planner and found["order"] == plan.order.policy
    kept = ("name", "size", "first", "last", "offset")
    buffers = [(*b, o) for b, o in zip(plan.buffers, plan.placement.offsets)]
    assert [tuple(b[k] for k in kept) for b in found["buffers"]] == buffers


CHECKS = check_values, check_sources, check_updates, check_buffers, check_waiting, check_rows


def check(plan, arrays=None):
    memory = Memory(plan, arrays)
    for holds in CHECKS:
        holds(memory)
    lines = str(plan).splitlines()
    assert len(lines) == 3 + len(plan.rows) and f"{plan.arena_bytes:,} bytes" in lines[0]
    return memory


def some_plans(graph, rng):
    for policy in (*POLICIES, any_stages(graph, rng)):
        yield Plan(graph, rng.choice(PLACERS), policy, rng.choice(ALIGNMENTS))


def any_stages(graph, rng):
    """An order that nobody would choose: whatever is ready, any number at a time."""
    values = Values(graph)
    done, stages, left = set(), [], [*values.work]
    while left:
        ready = [n for n in left if values.before[n] <= done]
        stage = rng.sample(ready, rng.randint(1, len(ready)))
        stages.append(stage)
        done.update(stage)
        left = [n for n in left if n not in done]
    return stages


@pytest.mark.parametrize("part", range(PARTS))
def test_of_random_graphs(part):
    rng = random.Random(part)
    for i, graph in enumerate(some_graphs(EXAMPLES // PARTS, seed=part << 32)):
        for plan in some_plans(graph, rng):
            try:
                check(plan)
            except Exception as error:
                made = f"{plan.placement.planner}, {plan.order.policy}, {plan.alignment}"
                error.add_note(f"graph {i} of part {part}: {made}\n{graph}\n{plan}")
                raise


# Side by side


def wide(x, factor):
    """A multiple of the alignment."""
    return ti.tanh(x * float(factor))


def inception(x):
    return ti.relu(ti.concat([wide(x, 2), ti.relu(x * 3.0), wide(x, 4)])) * 2.0


def dense(x):
    for i in range(3):
        x = ti.concat([wide(x, 1), ti.tanh(x[:4] * (i + 2.0))])
    return x @ x.T


def read_later(x):
    p, q = wide(x, 2), wide(x, 3)
    y = ti.concat([p, q]) @ x.T
    return y.sum() + ti.exp(p)


def given_back_too(x):
    p, q = wide(x, 2), wide(x, 3)
    return ti.concat([p, q]) @ x.T, p


def unaligned(x):
    x = x[0, :3]
    return ti.concat([wide(x, 2), wide(x, 3), wide(x, 4)]).sum() + x


def twice(x):
    p = wide(x, 2)
    return ti.concat([p, p]) @ x.T


def in_two(x):
    p, q = wide(x, 2), wide(x, 3)
    return (ti.concat([p, q]) - ti.concat([q, p])) @ x.T


def of_views(x):
    p, q = wide(x, 2), wide(x, 3)
    return ti.concat([p.reshape(-1), q.T.reshape(-1), q[1:].reshape(-1)]).sum() * x


def of_what_is_there(x):
    return ti.concat([x, ti.tensor(np.ones((4, 16), "float32")), wide(x, 2)]) @ x.T


def other_axis(x):
    return ti.concat([wide(x, 2), wide(x, 3)], 1).sum() * x


def one_image(x):
    x = x.reshape(1, 4, 4, 4)
    return ti.concat([wide(x, 2), wide(x, 3)], 1).sum() * x


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("program, joined", [
    (inception, [{0, 1, 2}]), (dense, [{0, 1}] * 3), (read_later, [{0, 1}]),
    (given_back_too, [{1}]), (unaligned, [{0}]), (twice, [{0}]), (in_two, [{0, 1}, set()]),
    (of_views, [{0, 1}]), (of_what_is_there, [{2}]), (other_axis, []), (one_image, [{0, 1}]),
])  # fmt: skip
def test_parts_are_made_side_by_side(program, joined, policy):
    graph = ti.optimize(ti.trace(program, ti.zeros(4, 16)), ["strip"])
    plan = Plan(graph, order=policy)
    memory = check(plan)
    wholes = [n for n in plan.order.steps if n.op.joins(n.spec, *[x.spec for x in n.inputs])]
    assert sorted(map(sorted, joined)) == sorted(plan.lifetimes.joined[n] for n in wholes)
    for n in wholes:
        start = memory.place(memory.looks[n][0])[0]
        for i, x in enumerate(n.inputs):
            there = memory.place_of(x)[0] == start
            assert there == (i in plan.lifetimes.joined[n])
            start += memory.run.value(x).nbytes


def test_where_all_begin_anywhere_all_are_side_by_side():
    plan = Plan(ti.trace(unaligned, ti.zeros(4, 16)), alignment=4)
    assert [*map(len, check(plan).plan.lifetimes.joined.values())] == [3]


def test_what_is_side_by_side_is_not_copied():
    graph = ti.trace(inception, ti.zeros(4, 16))
    plan = Plan(graph)
    [concat] = plan.lifetimes.joined
    run = Replay(plan, arrays_for(graph, 0))
    run.value(concat)[:] = 7.0
    run.step(concat)
    assert (run.value(concat) == 7.0).all()


def test_a_whole_that_is_given_back_is_made_there():
    graph = ti.trace(lambda x: ti.concat([wide(x, 2), wide(x, 3)]), ti.zeros(4, 16))
    plan = Plan(graph)
    assert plan.arena_bytes == 0 and {row.place for row in plan.rows} == {"output 0"}
    check(plan)


# In place


def in_place(program, *shapes, **options):
    """Which step is written over which input."""
    x = [ti.zeros(*shape) for shape in shapes or [(8, 8)]]
    graph = ti.optimize(ti.trace(program, *x), ["strip"])
    plan = check(Plan(graph, **options)).plan
    return {row.op: next((r.op for r in plan.rows if r.name == row.over), "input")
            for row in plan.rows if row.over}  # fmt: skip


def beside_its_part(p, q, v):
    p, q = ti.tanh(p), ti.tanh(q)
    return ti.batch_norm(ti.concat([p, q]), p.reshape(-1), v).sum(0)


@pytest.mark.parametrize("program, shapes, over", [
    (lambda x: ti.relu(ti.tanh(x @ x)).sum(0), [], {"tanh": "matmul", "relu": "tanh"}),
    (lambda x: ti.relu(x).sum(0), [], {}),  # never an input
    (lambda x: (x @ x) @ x, [], {}),  # a product needs both to the end
    (lambda x: ti.relu(h := x @ x) + h * 2.0, [], {"mul": "matmul", "add": "relu"}),  # not relu
    (lambda x: ti.relu(h := x @ x) @ h.T, [], {}),  # a view of it is alive
    (lambda x: ((h := x @ x) * h).sum(0), [], {"mul": "matmul"}),  # one look, twice
    (lambda x: ((h := x @ x) * h.T).sum(0), [], {}),  # two looks at one memory
    (lambda x: ((x @ x) + (x @ x).sum(0)).sum(0), [], {"add": "matmul"}),
    (lambda x: ((x @ x) > 0.0) & (x > 0.0), [], {"logical_and": "greater"}),
    (beside_its_part, [(1, 16), (1, 16), (16,)], {}),  # of the whole, which holds its part
])  # fmt: skip
def test_a_step_is_written_over_what_dies_with_it(program, shapes, over):
    assert in_place(program, *shapes, order="construction") == over


def test_a_result_is_made_where_it_is_given_back():
    graph = ti.trace(lambda x: ti.relu(ti.tanh(x * 2.0)), ti.zeros(8, 8))
    plan = check(Plan(graph)).plan
    assert plan.arena_bytes == 0 and [row.place for row in plan.rows] == ["output 0"] * 3


# States


def updated(program, *states):
    """Where each step is made, of a graph that changes these States."""
    graph = ti.optimize(ti.trace(program, ti.zeros(4), np.array([0, 1])), ["strip"])
    plan = check(Plan(graph)).plan
    return {row.op: row.place for row in plan.rows}, len(plan.lifetimes.copies)


def label(i):
    return ti.take(ti.tensor([0.5, 1.5]), i)


def test_what_a_state_becomes_is_made_in_it():
    s, r = (ti.State(np.ones(4, "float32"), name=name) for name in "sr")

    def simple(x, i):
        s.assign(s * 0.5 + x)

    def read_before(x, i):
        y = ti.tanh(s)
        s.assign(ti.exp(x))
        return y

    def given_back(x, i):
        before = s + 0.0
        was = ti.Tensor(s.node)
        s.assign(ti.exp(x))
        return was, before

    def fails_before(x, i):
        s.assign(ti.exp(x))
        return label(i)

    def fails_later(x, i):
        s.assign(ti.exp(x))
        return label(i + s.sum().astype("int64") * 0)

    def fails_itself(x, i):
        s.assign(ti.take(x, ti.concat([i, i])))

    def one_for_two(x, i):
        y = ti.exp(x)
        s.assign(y)
        r.assign(y)

    def turned(x, i):
        s.assign(s[::-1])

    assert updated(simple) == ({"mul": "arena", "add": "state s"}, 0)
    assert updated(read_before) == ({"tanh": "output 0", "exp": "state s"}, 0)
    assert updated(given_back) == ({"add": "output 1", "exp": "arena"}, 2)
    places, copies = updated(fails_before)
    assert places["exp"] == "state s" and [*places][-1] == "exp" and copies == 0
    places, copies = updated(fails_later)
    assert places["exp"] == "arena" and copies == 1
    places, copies = updated(fails_itself)
    assert places["index"] == "arena" and copies == 1
    assert updated(one_for_two) == ({"exp": "state s"}, 1)
    assert updated(turned)[1] == 1


def test_in_training_all_states_are_updated_in_place():
    graph = ti.optimize(training()[0], FLAT)
    plan = check(Plan(graph), training()[1]).plan
    assert not any(copy.kind == "state" for copy in plan.lifetimes.copies)
    assert {row.place for row in plan.rows if row.place.startswith("state")} == {
        f"state {state.name}" for state in graph.updates
    }


# Whole networks, and how a plan shows itself


@pytest.mark.parametrize("policy", POLICIES)
def test_of_networks(policy):
    for graph, arrays in (network(0), network(1), training()):
        check(Plan(ti.optimize(graph, FLAT), order=policy), arrays)


@pytest.mark.parametrize("planner", [*PLANNERS, *SHARED])
def test_of_every_planner(planner):
    if planner == "shared_min_cost_flow":
        pytest.importorskip("scipy", reason="this planner needs SciPy")
    graph = ti.trace(lenet().eval(), ti.zeros(2, 1, 28, 28))
    plan = check(Plan(graph, planner)).plan
    assert plan.placement.planner == planner and plan.arena_bytes >= Plan(graph).arena_bytes


def test_the_table():
    lines = str(ti.plan(ti.trace(lambda x: ti.relu(x @ x) @ x, ti.zeros(8, 8)))).splitlines()
    assert lines[0] == (
        "arena of 256 bytes (greedy_by_size, memory order), which is the lower bound; "
        "without taking turns 256"
    )
    head = "stage step op result kernel why in place of where size scratch offset alive"
    assert " ".join(lines[1].split()) == head
    cells = [line.split() for line in lines[3:]]
    assert cells[0][:4] == ["0", "%0", "matmul", "float32[8,"]
    assert cells[1][-5:] == ["%0", "arena", "256", "0", "0-2"]
    assert cells[2][-4:] == ["output", "0", "256", "2-3"]


def test_a_plan_is_saved(tmp_path):
    plan = ti.plan(ti.trace(lenet().eval(), ti.zeros(2, 1, 28, 28)))
    found = json.loads(plan.save(tmp_path / "plan.json").read_text())
    assert found == json.loads(plan.json()) and len(found["steps"]) == len(plan.rows)


def test_what_cannot_be_planned():
    graph = ti.trace(lambda x: x * 2.0, ti.zeros(3))
    for options, message in [
        ({"memory": "small"}, "no planner 'small': there are"),
        ({"order": "fast"}, "order is one of"),
        ({"alignment": 48}, "a power of two"),
    ]:
        with pytest.raises(ti.ArgumentError, match=message):
            ti.plan(graph, **options)
    with pytest.raises(ti.ArgumentError, match="plan: a Graph, .* not a function"):
        ti.plan(lambda x: x)


def test_a_wrong_plan_is_found():
    """Each check has something to find."""
    graph = ti.optimize(training()[0], FLAT)
    arrays = training()[1]
    plan = Plan(graph)
    good, [*buffers] = plan.placement, plan.buffers
    plan.placement = good._replace(offsets=(0,) * len(buffers))
    with pytest.raises(AssertionError):
        check_values(Memory(plan, arrays))
    with pytest.raises(AssertionError):
        check_buffers(Memory(plan, arrays))
    plan.placement = good._replace(offsets=tuple(o + 4 for o in good.offsets), total=good.total + 4)
    with pytest.raises(AssertionError):
        check_buffers(Memory(plan, arrays))
    plan = Plan(graph)
    check(plan, arrays)
    plan.before = dict(plan.values.before)  # what reads the same memory does not wait
    with pytest.raises(AssertionError):
        check_waiting(Memory(plan, arrays))


def test_only_what_waits_for_each_other_is_copied():
    a, b, w = (ti.State(np.ones(64, "float32"), name=name) for name in "abw")

    def program(x, i):
        was = ti.Tensor(a.node)
        a.assign(ti.exp(b))
        b.assign(ti.tanh(was))
        w.assign(w * 0.9)

    where, copies = updated(program)
    assert where["mul"] == "state w" and copies == 2


def test_the_bound_is_that_of_the_planner():
    graph = ti.trace(lambda x: ti.relu(x @ x) @ x, ti.zeros(8, 8))
    for memory, what in (
        ("best", "lower bound"),
        ("shared_by_size", "lower bound of shared objects"),
    ):
        plan = Plan(graph, memory)
        assert f"the {what};" in str(plan) and repr(plan) == f"<{plan.told}>"
    found = json.loads(plan.json())
    assert found["shared_lower_bound"] == plan.shared_lower_bound >= plan.lower_bound
