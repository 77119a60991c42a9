"""Orders of steps: that they are some, what is alive in them, and that the exact one is the best."""

import random

import numpy as np
import pytest
from lenet import lenet
from nets import network, training
from plans import some_graphs, work_of

import tinyinfer as ti
from tinyinfer.graph.graph import nbytes
from tinyinfer.runtime.order import POLICIES, SMALL, floor, order, peak

GRAPHS = 30
EVERY = [p for p in POLICIES if p != "exact"]


def is_an_order(found):
    """Each step once, behind all stages in which what it reads is made; views are none."""
    stage = {n: i for i, ns in enumerate(found.stages) for n in ns}
    assert len(stage) == len(found.steps) == sum(map(len, found.stages))
    assert all(found.stages)

    def there(n):
        """The first stage behind n."""
        if n in stage:
            return stage[n] + 1
        return max((there(x) for x in n.inputs if x in steps), default=0)

    steps = set(found.graph.steps)
    assert stage.keys() <= steps and all(n.op.view or n.op.alias for n in steps - stage.keys())
    for n, i in stage.items():
        assert all(there(x) <= i for x in n.inputs if x in steps)
    return True


def alive_in(work, stages):
    """Bytes in each stage, counted anew: of a block from its maker to its last reader, or to the end."""
    stage = {n: i for i, ns in enumerate(stages) for n in ns}
    last = {}
    for b in work.values.blocks:
        if b.maker:
            users = [stage[n] for n in (b.maker, *b.readers)]
            last[b] = len(stages) if b in work.held else max(users)

    def needed(i):
        found = sum(work.size[b] for b in last if stage[b.maker] <= i <= last[b])
        return found + sum(scratch_and_taken(n, i) for n in stages[i])

    def scratch_and_taken(n, i):
        alone = lambda b: b.maker and last[b] == i and not set(b.readers) & {*stages[i]} - {n}
        taken = max((work.size[b] for b in work.over[n] if alone(b)), default=0)
        made = sum(work.size[b] for b in work.makes[n])  # none, if it is made in a State
        return sum(map(nbytes, work.kernels[n].scratch)) - min(taken, made)

    return tuple(map(needed, range(len(stages))))


def every_order(work):
    done = []

    def extended():
        if len(done) == len(work.steps):
            yield [*done]
        for n in work.steps:
            if n not in done and work.before[n].issubset(done):
                done.append(n)
                yield from extended()
                done.pop()

    return extended()


def graphs():
    yield from some_graphs(GRAPHS)
    yield from (network(seed)[0] for seed in range(3))
    yield training()[0]
    yield ti.trace(lenet(), ti.zeros(2, 1, 28, 28))


@pytest.mark.parametrize("policy", EVERY)
def test_every_policy_gives_an_order(policy):
    for graph in graphs():
        work = work_of(graph)
        found = order(work, policy)
        assert is_an_order(found) and found.policy == policy and found.graph is graph
        assert found.live == alive_in(work, found.stages)
        assert found.peak == max(found.live, default=0)
        assert policy == "breadth" or all(len(stage) == 1 for stage in found.stages)


def test_construction_is_as_written():
    work = work_of(ti.trace(lenet().eval(), ti.zeros(2, 1, 28, 28)))
    assert order(work, "construction").steps == work.steps


def test_memory_is_the_best_there_is():
    better, searched = 0, 0
    for graph in graphs():
        work = work_of(graph)
        found = {policy: order(work, policy).peak for policy in EVERY}
        assert found["memory"] <= min(found["construction"], found["greedy"])
        assert found["memory"] >= floor(work)
        better += found["memory"] < found["construction"]
        if len(work.steps) <= SMALL and found["memory"] > floor(work):
            try:
                assert found["memory"] == order(work, "exact").peak
                searched += 1
            except ti.ArgumentError:  # too many sets of steps
                pass
    assert better and searched


def small_works():
    """Few steps, and many orders of them."""
    yield from map(work_of, some_graphs(GRAPHS, most=3))
    yield from (work_of(tangle(random.Random(seed))) for seed in range(GRAPHS))


def tangle(rng):
    """Six steps with results of very different sizes; each reads one or two of those before it."""

    def program(x):
        made = [x]
        for _ in range(6):
            a, b = rng.choice(made), rng.choice(made)
            made.append(rng.choice([ti.relu(a), a[:1] + b[:1], ti.concat([a, b])]))
        return ti.concat(made)

    return ti.trace(program, ti.zeros(rng.randint(1, 9), 16))


def test_exact_is_the_least_of_all_orders():
    beaten = {policy: 0 for policy in ("construction", "greedy")}
    tried = 0
    for work in small_works():
        orders = [*every_order(work)] if len(work.steps) <= 7 else []
        if len(orders) > 1:
            least = min(peak(work, steps) for steps in orders)
            assert least == min(max(alive_in(work, [(n,) for n in steps])) for steps in orders)
            assert order(work, "exact").peak == least == order(work, "memory").peak
            tried += 1
            for policy in beaten:
                beaten[policy] += order(work, policy).peak > least
    assert tried > GRAPHS and all(beaten.values())  # else it would not be worth a search


def test_exact_gives_up():
    def program(x):
        ys = [ti.tanh(x[: i + 1]) for i in range(40)]
        while len(ys) > 1:
            ys = [ti.concat([a, b]) for a, b in zip(ys[::2], ys[1::2])] + ys[len(ys) // 2 * 2 :]
        return ys[0]

    work = work_of(ti.trace(program, ti.zeros(64, 8)))
    with pytest.raises(ti.ArgumentError, match="exact order of .* take order='memory'"):
        order(work, "exact")


def branches(x):
    return ti.concat([ti.tanh(ti.relu(x * i)) for i in (2.0, 3.0, 4.0)]).sum()


def test_breadth_puts_branches_side_by_side():
    found = order(work_of(ti.trace(branches, ti.zeros(4, 4))), "breadth")
    ops = [[n.op.name for n in stage] for stage in found.stages]
    assert ops[:4] == [["mul"] * 3, ["relu"] * 3, ["tanh"] * 3, ["concat"]]


def test_in_breadth_a_step_stands_as_early_as_it_can():
    for graph in some_graphs(GRAPHS):
        work = work_of(graph)
        found = order(work, "breadth")
        stage = {n: i for i, ns in enumerate(found.stages) for n in ns}
        for n, i in stage.items():
            assert i == 1 + max((stage[m] for m in work.before[n]), default=-1)


def test_an_update_waits_until_all_have_read_what_was():
    s = ti.State(np.zeros(4, "float32"), name="s")

    def reads_late(x):
        new = x * 2.0
        old = s + x
        s.assign(new)
        return old

    graph = ti.optimize(ti.trace(reads_late, ti.zeros(4)), ["strip"])
    work = work_of(graph)
    assert [n.op.name for n in work.steps] == ["mul", "add"]
    for policy in EVERY:
        assert [n.op.name for n in order(work, policy).steps] == ["add", "mul"]
    assert order(work, work.steps).steps == work.steps  # who supplies an order has it


# Given


@pytest.fixture
def work():
    return work_of(ti.trace(branches, ti.zeros(4, 4)))


def test_steps_can_be_given(work):
    upside_down = order(work, "greedy").steps
    for given in upside_down, [*upside_down], iter(upside_down), [[n] for n in upside_down]:
        found = order(work, given)
        assert found.steps == upside_down and found.policy == "given"
        assert found.live == order(work, "greedy").live


def test_stages_can_be_given(work):
    breadth = order(work, "breadth")
    assert order(work, breadth.stages).stages == breadth.stages
    assert order(work, breadth.stages).live == breadth.live


def test_an_order_can_be_given(work):
    for policy in EVERY:
        before = order(work, policy)
        found = order(work, before)
        assert (found.stages, found.live, found.policy) == (before.stages, before.live, policy)


def test_views_may_be_given_and_are_left_out(work):
    assert order(work, work.graph.steps).steps == work.steps
    assert len(work.graph.steps) > len(work.steps)


def test_what_is_no_order(work):
    mul, relu = work.steps[:2]
    other = work_of(ti.trace(branches, ti.zeros(4, 4)))
    says = lambda given: pytest.raises(ti.GraphError, match=given)
    with says(r"in this order %1 = relu\(.*, at test_order.py:\d+ is missing"):
        order(work, [n for n in work.steps if n is not relu and relu not in work.before[n]][:1])
    with says(r"%0 = mul\(.* comes twice"):
        order(work, [mul, mul, *work.steps[1:]])
    with says(r"%0 = mul\(.* comes twice"):
        order(work, [(mul, mul), *work.steps[1:]])
    with says(r"%1 = relu\(.* comes before %0 = mul\("):
        order(work, [relu, mul, *work.steps[2:]])
    with says(r"%1 = relu\(.* comes before %0 = mul\("):
        order(work, [(mul, relu), *work.steps[2:]])
    with says("is of the steps of this graph, not mul"):
        order(work, other.steps)
    with says("is of the steps of this graph, not mul"):
        order(work, order(other, "memory"))
    with says("is of the steps of this graph, not 3"):
        order(work, [3])


def test_what_is_no_policy(work):
    with pytest.raises(ti.ArgumentError, match="construction, greedy.*, not 'fast'"):
        order(work, "fast")
    with pytest.raises(ti.ArgumentError, match="or steps of the graph, not 3"):
        order(work, 3)
    with pytest.raises(ti.ArgumentError, match="not None"):
        ti.plan(work.graph, order=None)


def test_errors_are_one_line(work):
    for given in "fast", 3, [3], work.steps[:1], work.steps[::-1]:
        with pytest.raises(ti.TinyinferError) as error:
            order(work, given)
        assert "\n" not in str(error.value)


def test_print(work):
    lines = str(order(work, "breadth")).splitlines()
    assert lines[0] == "breadth order" and lines[1].split() == ["stage", "steps", "bytes", "alive"]
    assert lines[3].split() == "0 %0 mul, %3 mul, %6 mul 192".split()
    assert len(lines) == 3 + len(order(work, "breadth").stages)


def test_nothing_to_do():
    empty = work_of(ti.trace(lambda x: x, ti.zeros(3)))
    for policy in POLICIES:
        found = order(empty, policy)
        assert found.steps == () and found.peak == 0 and str(found)
    assert order(empty, []).steps == ()
