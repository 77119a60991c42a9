# %% [markdown]
# # 7. Scheduling
#
# A graph says what needs what. It does not say what comes first, and that is its strength: whoever
# runs it may choose. In this lesson you choose: the order in which a graph needs the least memory,
# and the one in which two threads are busy at the same time. And you will see what nobody may
# choose: a step that writes where another one still reads has to wait, though no value goes from
# one to the other.
#
# The files this is about: `runtime/order.py`, `runtime/executor.py`, `runtime/profile.py`,
# `draw/schedule.py`.

# %%
import sys
from collections import Counter
from itertools import combinations, count
from math import comb
from queue import SimpleQueue
from statistics import median
from threading import Lock, Thread
from time import perf_counter

import numpy as np
from IPython.display import SVG, Markdown

import tinyinfer as ti
from tinyinfer import nn, optim
from tinyinfer.draw.schedule import gantt
from tinyinfer.graph import passes
from tinyinfer.runtime.arena import Arena
from tinyinfer.runtime.profile import Event

sys.path.insert(0, "../../models")
numbers = count()


def show(what):
    """The picture of an order, or of a profile."""
    return SVG(filename=str(what.draw(f"schedule_{next(numbers)}.svg")))


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return Markdown("\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines))


# %% [markdown]
# ## An order
#
# A step can run when all that it needs is there. So count for each step what it still misses; those
# that miss nothing are *ready*; do one of them, and tell those that waited for it. That is the
# algorithm of Kahn (1962), and here is all of it.


# %%
def kahn(before, choose=list.pop):
    """A topological order of the steps; before = {step: those it needs}."""
    missing = {n: len(before[n]) for n in before}
    after = {n: [m for m in before if n in before[m]] for n in before}
    ready, done = [n for n in before if not missing[n]], []
    while ready:
        n = choose(ready)
        done.append(n)
        for m in after[n]:
            missing[m] -= 1
            if not missing[m]:
                ready.append(m)
    return done


diamond = {"a": "", "b": "a", "c": "a", "d": "bc"}
print(kahn(diamond), kahn(diamond, choose=lambda ready: ready.pop(0)))

# %% [markdown]
# `b` and `c` can change places: an order there is always, and often more than one. But what if two
# steps need each other?

# %%
print(kahn({"a": "", "b": "ac", "c": "b", "d": "c"}))

# %% [markdown]
# Only `a` is done: what is in a cycle is never ready, nor is what comes after it. But this cannot
# happen here. A node is made from nodes that exist already, and it never changes; so its inputs are
# always older than itself, and the order of birth is one topological order of every graph.


# %%
def three(x, a, b, c):
    p, q, r = x @ a, x @ b, x @ c
    return p.max() + q.max() + r.max()


ti.manual_seed(0)
args = [ti.randn(64, 64), *(ti.randn(64, 256) for _ in range(3))]
graph = ti.trace(three, *args)
assert all(x.born < n.born for n in graph.steps for x in n.inputs)

# %% [markdown]
# ## All orders
#
# Three products of 64 KiB, the largest number of each, and a sum. `reshape` is a view, another look
# at the same memory: there is nothing to do for it, so it is no step of the schedule, and who reads
# it needs the step behind it. The plan knows: `values.before`.

# %%
print(graph)
plan = ti.plan(graph, order="construction")
before = plan.values.before
print(plan.order)

# %% [markdown]
# How many orders are there? So few that we can have them all. Each gives the same bits, since each
# step does the same arithmetic on the same numbers, whenever it does it.


# %%
def orders(before, done=()):
    ready = [n for n in before if n not in done and before[n] <= {*done}]
    if not ready:
        yield done
    for n in ready:
        yield from orders(before, (*done, n))


every = [ti.plan(graph, order=steps) for steps in orders(before)]
arrays = [x.numpy() for x in args]
result = graph.run(*arrays)
for p in every:
    assert ti.compile(p)(*args)[0].numpy() == result
print(len(every), "orders, and always", result)

# %% [markdown]
# But while they run, they need different amounts of memory. A product needs its 64 KiB from its own
# step until its maximum has been found, and it depends on the order how many wait for that at once.
# `order.live` is what is alive at each stage, and `order.peak` the largest of that.

# %%
peaks = Counter(p.order.peak for p in every)
table(["peak, bytes", "orders"], [[f"{peak:,}", n] for peak, n in sorted(peaks.items())])

# %% [markdown]
# As it is written, and with the least:

# %%
show(plan.order)

# %%
best = min((p.order for p in every), key=lambda order: order.peak)
show(best)

# %% [markdown]
# ## Greedy
#
# Nobody wants to write every program with its peak in mind. So let the schedule choose: of all
# steps that are ready, the one after which the least is alive. A maximum sets 64 KiB free, a
# product takes as much, so each maximum comes as soon as it can.

# %%
greedy = ti.plan(graph, order="greedy").order
print([n.op.name for n in greedy.steps])
assert greedy.peak == best.peak == min(peaks)

# %% [markdown]
# Greedy looks one step ahead. So we can fool it: let each branch go up twice before it comes down,
# first by little and then by much. Greedy shuns the large step as long as there is a small one.


# %%
def hills(n):
    """n branches of 16, 64 KiB and then 4 bytes."""

    def climb(x, a):
        return ti.stack([(ti.exp(x) @ a).max() for _ in range(n)])

    return ti.trace(climb, *args[:2])


rows = []
for n in range(1, 9):
    ways = {p: ti.plan(hills(n), order=p).order.peak for p in ("greedy", "memory")}
    rows.append([n, *(f"{peak:,}" for peak in ways.values())])
    ratio = ways["greedy"] / ways["memory"]
table(["branches", "greedy", "least"], rows)

# %%
assert ratio > 2
assert ti.plan(hills(8), order="construction").order.peak == ways["memory"]
show(ti.plan(hills(4), order="greedy").order)

# %% [markdown]
# Eight branches take more than twice the memory that they need, and with more branches it would be
# any number of times as much. Here it would have been best to leave the order as it was written;
# before, that was worst. The policy `"memory"`, which is what `ti.plan` takes by itself, tries
# both, and then searches.
#
# ## Exact
#
# Searching all orders is hopeless: two chains of n steps can be merged in $\binom{2n}{n}$ ways. But
# what is alive does not depend on the order of what is done, only on *which* steps are done. And of
# such sets there are few: so far in the one chain, so far in the other, $(n + 1)^2$.


# %%
def reached(before):
    """{set of steps that are done: the number of orders that lead there}"""
    found, now = {}, {frozenset(): 1}
    while now:
        found |= now
        then = Counter()
        for done, ways in now.items():
            for n in before:
                if n not in done and before[n] <= done:
                    then[done | {n}] += ways
        now = then
    return found


def chains(*lengths):
    return {
        (c, i): {(c, i - 1)} if i else set()
        for c, length in enumerate(lengths)
        for i in range(length)
    }


assert reached(before)[frozenset(before)] == len(every)
for n in 2, 4, 8, 16:
    found = reached(chains(n, n))
    assert found[frozenset(chains(n, n))] == comb(2 * n, n) and len(found) == (n + 1) ** 2
    print(f"two chains of {n}: {comb(2 * n, n):,} orders, {len(found)} sets")

# %% [markdown]
# So the exact order is a shortest path from the empty set to the full one, where a way is as long
# as its highest peak: Dijkstra's algorithm finds it, and looks first where memory is low. For four
# hills:

# %%
four = ti.plan(hills(4), order="exact")
found = reached(four.values.before)
print(f"{found[frozenset(four.values.before)]:,} orders, {len(found)} sets")
show(four.order)

# %% [markdown]
# A small trick in `runtime/order.py` leaves most sets out: a step that leaves no more alive than
# before, and does not raise the peak, can be done at once; to wait with it never pays.
#
# With many chains the sets are many again. The problem is NP-hard (Sethi 1975, who asked how few
# registers a computation needs; it is the same question). So the search gives up after some
# thousand sets, and large graphs get the better one of greedy and as written.
#
# ## Side by side
#
# Now for speed. A network of Inception modules has four branches in each, which need nothing of
# each other. In the order `"breadth"` a step stands in the first *stage* in which all it needs is
# there; steps of one stage may run side by side. It is what `ti.compile` takes for several threads.
# (`no_grad`, since otherwise a call is prepared for a gradient, and that is another graph.)

# %%
import inception

model = inception.build().eval()
image = ti.randn(1, *inception.input_shape)
parallel = ti.compile(model, threads=2, kernels="numpy")
with ti.no_grad():
    y = parallel(image).numpy()
show(parallel.plan.order)

# %%
found = reached(parallel.plan.values.before)
every_step = frozenset(parallel.plan.values.before)
print(f"{len(every_step)} steps, {found[every_step]:.0e} orders, {len(found):,} sets of steps")

# %% [markdown]
# To be side by side costs memory: what runs at the same time is alive at the same time, and each
# step needs scratch memory of its own.

# %%
plans = {order: ti.plan(parallel.graph, order=order) for order in ("memory", "breadth")}
table(
    ["order", "stages", "bytes alive at most", "arena"],
    [
        [name, len(p.order.stages), f"{p.order.peak:,}", f"{p.arena_bytes:,}"]
        for name, p in plans.items()
    ],
)

# %%
assert plans["breadth"].arena_bytes > plans["memory"].arena_bytes

# %% [markdown]
# ## Who may run with whom
#
# Stages are for the planner: it gives no two steps of a stage the same memory. The threads do not
# wait for stages. They wait for edges, of which there are two kinds. A step waits
#
# - for those that make what it reads: `plan.values.before`, which the graph says;
# - for those that use the memory it is going to write to, as long as it is theirs. Compilers call
#   it a false dependence: another plan would not have it.
#
# `plan.before` has both. Two steps may run at the same time if there is no way from one to the
# other:


# %%
def free_pairs(steps, before):
    past = {}
    for n in steps:
        past[n] = before[n].union(*(past[m] for m in before[n]))
    return sum(n not in past[m] and m not in past[n] for n, m in combinations(steps, 2))


pairs = {"whatever the memory": free_pairs(parallel.plan.order.steps, parallel.plan.values.before)}
for order in "breadth", "memory":
    for memory in "naive", "best":
        p = ti.plan(parallel.graph, order=order, memory=memory)
        pairs[f"{order} order, {memory}: {p.arena_bytes:,} bytes"] = free_pairs(
            p.order.steps, p.before
        )
table(["plan", "pairs that may run at the same time"], pairs.items())

# %%
tight = plans["memory"]
assert free_pairs(tight.order.steps, tight.before) < pairs["whatever the memory"]

# %% [markdown]
# The less memory, the more steps have to wait for each other: that is why a plan for several
# threads is another one. And what if one does not wait? Take the tight plan of the three products,
# whose arena has room for one, and run its steps in every order that the *data* allow. (An `Arena`
# is a plan with memory under it; its `calls` are the steps, one after the other.)


# %%
def run_in(plan, steps):
    arena, y = Arena(plan), np.empty((), np.float32)
    arena.calls.sort(key=lambda entry: steps.index(entry[0]))
    arena.run(arrays, [y], {})
    return y


tight = ti.plan(graph)
right = [run_in(tight, steps) == result for steps in orders(before)]
safe = [run_in(tight, steps) == result for steps in orders(tight.before)]
print(f"{tight.arena_bytes:,} bytes; by the data alone {right.count(True)} of {len(right)} orders")
print(f"are right; by plan.before {safe.count(True)} of {len(safe)}")
assert not all(right) and all(safe)

# %% [markdown]
# ## Threads
#
# A parallel runner is Kahn's algorithm with several who choose. The ready steps stand in a queue;
# each thread takes one, does it, and puts those into the queue that waited for nothing else.


# %%
def run_parallel(before, do, threads):
    """Call do(step) for every step, after all those before it. The events of the run."""
    missing = {n: len(before[n]) for n in before}
    after = {n: [m for m in before if n in before[m]] for n in before}
    ready, lock, events = SimpleQueue(), Lock(), []

    def work(lane):
        while (n := ready.get()) is not None:
            start = perf_counter()
            do(n)
            with lock:  # one thread at a time may count
                events.append(Event(n, lane, start, perf_counter()))
                for m in after[n]:
                    missing[m] -= 1
                    if not missing[m]:
                        ready.put(m)
                if len(events) == len(before):
                    for _ in range(threads):
                        ready.put(None)  # go home

    for n in before:
        if not missing[n]:
            ready.put(n)
    crew = [Thread(target=work, args=(lane,)) for lane in range(1, threads + 1)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    return events


# %% [markdown]
# Run by the definitions of the ops, without a plan: each step makes an array, and every result has
# its own. Then data edges are all there is. (A product of NumPy can take several threads, too. Here
# each takes one, as in compiled functions: the threads are ours.)

# %%
ti.set_num_threads(1)
args = [ti.randn(512, 512) for _ in range(4)]
graph, arrays = ti.trace(three, *args), [x.numpy() for x in args]
before = {n: {x for x in n.inputs if x.op} for n in graph.steps}
value = dict(zip(graph.inputs, arrays))


def do(n):
    value[n] = n.op.forward(*(value[x] for x in n.inputs))


for _ in range(10):
    events = run_parallel(before, do, threads=2)
    assert value[graph.outputs[0]] == graph.run(*arrays)
SVG(filename=str(gantt(events, "own_runner.svg", graph.names)))

# %% [markdown]
# What is hatched is a thread that found no step ready. The runner of the library, `Crew` in
# `runtime/executor.py`, is the same, and what is more in it is care: a thread goes on with a step
# that it has just made ready, without the queue; an error in one of them ends the run; the threads
# are kept for the next run. (Is a step far longer than its like? Then another program had its
# core.)

# %%
with ti.no_grad():
    profile = parallel.profile(image)
show(profile)

# %%
serial = ti.compile(model, kernels="numpy")
spent = {"serial": [], "two threads": []}
for _ in range(21):
    for name, run in ("serial", serial), ("two threads", parallel):
        start = perf_counter()
        with ti.no_grad():
            run(image)
        spent[name].append(perf_counter() - start)
for name, seconds in spent.items():
    print(f"{name}: {1e3 * median(seconds):.2f} ms")
print(f"ratio: {median(spent['serial']) / median(spent['two threads']):.2f}")
print(f"steps at a time: {profile.abreast:.2f}")

# %% [markdown]
# Two threads are never twice as fast. There are three reasons, and the first can be computed.
#
# **The graph.** Add up what all steps take, the *work* $T_1$; and along the way through the graph
# that takes longest, the *span* $T_\infty$. No number of threads $p$ needs less than $T_1 / p$, nor
# less than $T_\infty$; and anyone who never lets a thread idle while a step is ready needs at most
# $T_1 / p + T_\infty$ (Graham 1969). So a queue is good enough if the span is short.

# %%
seconds = {row.step.node: row.seconds for row in profile.rows}
span = {}
for n in parallel.plan.order.steps:
    span[n] = seconds[n] + max((span[m] for m in parallel.plan.before[n]), default=0.0)
work = sum(seconds.values())
print(f"work {1e3 * work:.2f} ms, span {1e3 * max(span.values()):.2f} ms:")
print(f"at most {work / max(span.values()):.2f} times as fast, however many threads")

# %% [markdown]
# **The interpreter.** In most Pythons one thread at a time runs Python: whoever does holds the
# *global interpreter lock*. Between two steps everybody wants it. But NumPy lets go of it while it
# computes, and so does every compiled kernel; so long steps run side by side, and short ones take
# turns.


# %%
def loop():
    total = 0
    for i in range(200_000):
        total += i


big = np.ones(1_000_000, np.float32)


def compute():
    np.exp(big, out=np.empty_like(big))


def together(job, times=10):
    """How many times as fast two threads do it."""
    start = perf_counter()
    for _ in range(2 * times):
        job()
    alone = perf_counter() - start
    jobs = [Thread(target=lambda: [job() for _ in range(times)]) for _ in range(2)]
    start = perf_counter()
    for thread in jobs:
        thread.start()
    for thread in jobs:
        thread.join()
    return alone / (perf_counter() - start)


print(f"Python: {together(loop):.2f} times as fast, NumPy: {together(compute):.2f} times")

# %% [markdown]
# **The machine.** Two cores share a memory bus, often a cache, and sometimes a clock; and other
# programs want them too. `tinyinfer bench machine` measures what two threads reach that do nothing
# else.
#
# ## The same bits
#
# Who does which step, and when, is decided anew in each run. The result is not: each step adds up
# its numbers in its own fixed order, alone, and no two steps add to the same place. So nothing is
# left that could depend on time.

# %%
with ti.no_grad():
    results = {parallel(image).numpy().tobytes() for _ in range(50)}
    assert results == {serial(image).numpy().tobytes()} == {y.tobytes()}

# %% [markdown]
# (Where a sum is split between threads, and the parts are added as they come in, the last bits
# differ from run to run: `(a + b) + c` is not `a + (b + c)`.)
#
# And when a step fails? Its thread notes the error, the others finish what they have begun, and the
# caller is told which step it was. The next call has a clean start.


# %%
@ti.compile(threads=2)
def lookup(x, i):
    return ti.exp(x).sum() + x[i].sum()


rows, good, bad = ti.randn(10, 4), ti.tensor([1, 2]), ti.tensor([1, 12])
try:
    lookup(rows, bad)
except ti.TinyinferError as error:
    print(error)
else:
    raise AssertionError("there is no row 12")
assert np.isclose(lookup(rows, good).item(), (ti.exp(rows).sum() + rows[good].sum()).item())

# %% [markdown]
# ## What a State becomes
#
# A training step reads the weights, and writes new ones where the old ones were. Who reads the old?
# The layer, on the way forward; and, on the way back, what takes the gradient through that layer.
# The step that makes the new weights must wait for both, though neither gives it a number. It is
# the second kind of edge again.
#
# Everybody waits for one more step, `index`. It looks up the score of the right label, and it can
# fail: there may be no such label. If it came after the first new weight, an error would leave a
# model behind that is half old, half new.

# %%
ti.manual_seed(0)
net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
optimizer = optim.SGD(net.parameters(), lr=0.1)


def train(x, labels):
    optimizer.zero_grad()
    loss = ti.cross_entropy(net(x), labels)
    loss.backward()
    optimizer.step()
    return loss


training = passes.strip(ti.trace(train, ti.randn(4, 8), ti.tensor([0, 1, 2, 1])))
p = ti.plan(training)
names, rows = training.names, []
for state, n in training.updates.items():
    read = p.values.before[n]
    told = lambda steps: ", ".join(
        f"%{names[m]} {m.op.name}" + " of the way back" * m.origin.backward
        for m in p.order.steps
        if m in steps
    )
    rows.append([f"%{names[n]}", state.name, told(read), told(p.before[n] - read)])
table(["step", "becomes", "waits for what it reads", "waits for others to have read"], rows)

# %% [markdown]
# Can everybody wait for everybody? Here each of two States is made of both. The new value of either
# can only be written when the other one has been read: here is the cycle that a graph does not
# have, made by memory. Kahn's algorithm finds no order, so the library does not insist: the sum and
# the difference have memory of their own, and are copied when all is done.

# %%
a, b = ti.State(np.full(4, 3.0)), ti.State(np.full(4, 1.0))


def turn():
    total, difference = a + b, a - b
    a.assign(total)
    b.assign(difference)


turning = ti.plan(ti.trace(turn))
print(turning)
ti.compile(turn)()
assert (a.numpy() == 4).all() and (b.numpy() == 2).all()

# %% [markdown]
# ## What to remember
#
# - Any topological order gives the same results. It decides how much memory they take.
# - Greedy is quick and often right; the exact order is a shortest path over sets of steps, and
#   NP-hard in general.
# - To run side by side costs memory, and to save memory costs freedom: each reuse is an edge.
# - Threads take ready steps from a queue. Work and span say what that can give.
#
# ## Questions
#
# 1. In a chain, no order is better than another. In a tree, where each result is read once, the
#    best order can be found quickly. How? (Sethi and Ullman 1970; begin with a step of two inputs:
#    which of them first?)
# 2. Write a network with two branches in which `"breadth"` puts a long step and a short one into a
#    stage, again and again. Why does that not slow down `run_parallel`?
# 3. `tight.before` has edges that follow from others. Which of them could be left out, and what
#    would be gained?
#
# In the next lesson the values get their places in memory.
