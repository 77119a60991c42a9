# %% [markdown]
# # 8. The arena
#
# A program asks for memory when it needs some and gives it back when it does not, and the allocator
# has to answer without knowing what comes next. A graph is different: before anything runs, it is
# known how large each value is, which step makes it, and which is the last that reads it. So all
# values can be given their places in one piece of memory, the *arena*, once and for all. Then a run
# allocates nothing, and the question is how small the arena can be.
#
# The files this is about: `runtime/lifetimes.py`, `runtime/memory.py`, `runtime/objects.py`,
# `runtime/plan.py`, `runtime/arena.py`, `draw/arena.py`.

# %%
import gc
import importlib
import sys
import tracemalloc
from itertools import count, permutations
from random import Random

import numpy as np
from IPython.display import SVG, Markdown

import tinyinfer as ti
from tinyinfer import optim
from tinyinfer.draw.arena import arena as draw_arena
from tinyinfer.graph import passes
from tinyinfer.reproduce.arena import NETWORKS, PUBLISHED, figures, graph_of, tensors
from tinyinfer.runtime.arena import Arena
from tinyinfer.runtime.memory import Buffer, lower_bound, place, shared_lower_bound

sys.path.insert(0, "../../models")
numbers = count()
ti.set_num_threads(1)  # for NumPy's products: they are small


def picture(draw, *what, **options):
    return SVG(filename=str(draw(*what, f"arena_{next(numbers)}.svg", **options)))


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return Markdown("\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines))


# %% [markdown]
# ## Lifetimes
#
# A value lives from the step that makes it to the last one that reads it. There is one thing to
# think of: a view is no value of its own. Who reads `a.mT` reads the memory of `a`, and keeps it
# alive.


# %%
def lifetimes(graph):
    base, lives = {}, {}
    for n in graph.steps:
        base[n] = base[n.inputs[0]] if n.op.view else n
    work = [n for n in graph.steps if base[n] is n]
    for stage, n in enumerate(work):
        lives[n] = stage, stage
        for x in n.inputs:
            if x.op:
                first, _ = lives[base[x]]
                lives[base[x]] = first, stage
    return {graph.names[n]: life for n, life in lives.items()}


def chain(x):
    a = x @ x
    b = x @ a
    c = x @ b
    d = a.mT @ c
    return d @ x


x = ti.randn(32, 32)
graph = ti.trace(chain, x)
print(graph)
print(lifetimes(graph))

# %% [markdown]
# `%0` is there until step 3, for the sake of its transpose. Here is the plan of this graph. Time
# goes to the right, a step a stage, and addresses go up: a buffer is a rectangle, as long as it
# lives and as high as it is large. It can be moved up and down, but not sideways; and no two may
# overlap.

# %%
plan = ti.plan(graph)
for b in plan.buffers:
    assert lifetimes(graph)[b.name[1:]] == (b.first, b.last)
picture(plan.draw)

# %% [markdown]
# The result is not in the picture: it is made where it is given back, and `x` belongs to the
# caller.
#
# ## A hundred, eighty, sixty
#
# The smallest interesting case: A has 100 bytes and lives in stages 0 and 1, B 80 in 1 and 2, C 60
# in 2 and 3. (As sizes are rounded up to 64 bytes otherwise, we ask for an alignment of 1 here.)

# %%
a, b, c = abc = [Buffer("A", 100, 0, 1), Buffer("B", 80, 1, 2), Buffer("C", 60, 2, 3)]
placed = place(abc, alignment=1)
print(placed)
assert placed.total == 180
picture(draw_arena, abc, placed)

# %% [markdown]
# A and C never meet, so C lies where A was. That is easily seen. And yet there is a published
# planner that takes 240. It takes the largest buffer first, looks at those that are placed already
# and live at the same time, and takes the smallest gap *between* them that is large enough; or else
# the space above. Can you see what is missing?


# %%
def by_size(buffers, below=True):
    placed = {}
    for b in sorted(buffers, key=lambda b: -b.size):
        meets = [(at, at + o.size) for o, at in placed.items() if meet(b, o)]
        gaps, top = [], 0 if below else None
        for low, high in sorted(meets):
            if top is not None and low - top >= b.size:
                gaps.append((low - top, top))
            top = high if top is None else max(top, high)
        placed[b] = min(gaps)[1] if gaps else top or 0
    return placed


def meet(a, b):
    return a.first <= b.last and b.first <= a.last


def height(placed):
    return max(at + b.size for b, at in placed.items())


print("A, B, C at", [*by_size(abc).values()], "of", height(by_size(abc)))
print("A, B, C at", [*by_size(abc, below=False).values()], "of", height(by_size(abc, below=False)))
assert height(by_size(abc)) == 180 and height(by_size(abc, below=False)) == 240

# %% [markdown]
# The gap *below* the first one. C meets only B, which begins at 100; between address 0 and there is
# room, but no buffer that is alive bounds it from below. It costs a third more, and every test of
# correctness passes.
#
# ## The lower bound
#
# How good is 180? In stage 1 A and B are alive, and two values that are alive cannot share a byte.
# So no plan needs less than the largest sum of what is alive in one stage. This is the dashed line
# in the pictures. If a plan touches it, nobody has to look for a better one.


# %%
def alive(buffers):
    stages = range(1 + max(b.last for b in buffers))
    return [sum(b.size for b in buffers if b.first <= i <= b.last) for i in stages]


print(alive(abc))
assert max(alive(abc)) == lower_bound(abc, alignment=1) == 180

# %% [markdown]
# Can it always be reached? If all buffers have the same size, yes: when one begins, some place is
# free. With different sizes, nearly always, and not always. This is a small case in which it
# cannot, with seven buffers:

# %%
seven = [
    Buffer("a", 2, 0, 0), Buffer("b", 3, 0, 1), Buffer("c", 1, 1, 2), Buffer("d", 1, 1, 3),
    Buffer("e", 2, 2, 3), Buffer("f", 2, 3, 4), Buffer("g", 3, 4, 4),
]  # fmt: skip
best = place(seven, "exact", alignment=1)
print("alive", alive(seven), "but the arena is", best.total, "proven:", best.proven)
assert best.proven and best.total == 6 > max(alive(seven)) == 5
picture(draw_arena, seven, best)

# %% [markdown]
# The reason fits into a few lines. Suppose that 5 bytes were enough. In stage 0, `a` and `b` fill
# them, so `b` lies at one end; in stage 1, `c` and `d` have the two bytes at the other end, say at
# 0 and 1. In stage 4, `f` and `g` fill all, so `f` lies at an end, too; not at 0 and 1, where it
# would meet `d` in stage 3; so at 3 and 4. Now `d` and `e` have to share 0, 1 and 2, and `e` is in
# one piece. With `d` at 1 it would not be; so `d` is at 0, and `e` at 1 and 2. But in stage 2 the
# byte at 1 is still that of `c`.
#
# Who does not believe it may try. In some smallest arena every buffer lies on the floor or on one
# that it meets, or else it could fall; so the arena can be built from below, if the buffers are
# dropped one by one in the right order. Which one is right? Try them all.


# %%
def drop(buffers):
    placed = {}
    for b in buffers:
        placed[b] = max((at + o.size for o, at in placed.items() if meet(b, o)), default=0)
    return placed


heights = [height(drop(order)) for order in permutations(seven)]
print(f"{len(heights):,} orders, and the least is {min(heights)}")
assert min(heights) == 6

# %% [markdown]
# Seven buffers have 5,040 orders, and twenty more than there will ever be time for. To find the
# smallest arena is *dynamic storage allocation*, and NP-hard (Garey and Johnson 1979, problem SR2).
# The exact planner builds from below too, but it drops what cannot be the best drawing and gives up
# a branch as soon as some stage is too high; so it solves dozens of buffers, and says by `proven`
# whether it did.
#
# ## Planners
#
# For more there are rules. All of these go through the buffers in some order, and put each into a
# gap between those it meets.
#
# | planner | the order | the gap |
# |---|---|---|
# | naive | | none: each has bytes of its own |
# | first fit | as they are made | the lowest that is large enough |
# | best fit | as they are made | the smallest that is large enough |
# | greedy by size | the largest first | the smallest that is large enough |
# | greedy by breadth | the fullest stage first, there the largest | the smallest that is large enough |
# | squeaky wheel | as by size or breadth; then who lay too high comes earlier, again and again | the same |
#
# First fit and best fit are what an allocator does at run time. The other ones use what only a plan
# knows: what is to come. These thirteen buffers were looked for until no two planners gave the
# same:

# %%
thirteen = [
    Buffer("a", 10, 0, 2), Buffer("b", 60, 0, 2), Buffer("c", 50, 1, 3), Buffer("d", 50, 1, 4),
    Buffer("e", 40, 1, 3), Buffer("f", 20, 2, 4), Buffer("g", 60, 2, 4), Buffer("h", 40, 3, 4),
    Buffer("i", 50, 3, 3), Buffer("j", 40, 4, 4), Buffer("k", 10, 4, 4), Buffer("l", 70, 4, 4),
    Buffer("m", 20, 4, 4),
]  # fmt: skip
planners = "naive", "first_fit", "best_fit", "greedy_by_size", "greedy_by_breadth"
planners += "squeaky_wheel", "exact"
placements = [place(thirteen, planner, alignment=1) for planner in planners]
assert len({p.total for p in placements}) == len(planners)
assert placements[3].total == height(by_size(thirteen))
assert placements[-1].total == max(alive(thirteen))
picture(draw_arena, thirteen, placements)

# %% [markdown]
# So which one? There is none that always wins: the fullest stage first is a good idea, and here the
# worst. `memory="best"`, which is what a plan takes by itself, tries one after the other until the
# bound is met, and searches if the buffers are few. How often is what needed? On random buffers:

# %%
random, met = Random(0), dict.fromkeys(planners, 0)
for _ in range(200):
    spans = [sorted((random.randrange(8), random.randrange(8))) for _ in range(10)]
    some = [Buffer(str(i), random.randint(1, 9), *span) for i, span in enumerate(spans)]
    for planner in planners:
        met[planner] += place(some, planner, alignment=1).total == max(alive(some))
table(["planner", "meets the bound, of 200"], met.items())

# %% [markdown]
# ## Shared objects
#
# Some memory comes in pieces: a texture of a graphics processor holds one image, and cannot be cut.
# Then a buffer gets an *object* for itself while it lives; the objects are as large as the largest
# buffer they ever hold. What is to be small is the sum of all objects.
#
# The bound is another one. Sort the sizes that are alive in each stage, the largest first. The
# largest object is at least as large as the largest buffer of any stage, the second as the second
# of any stage, and so on.


# %%
def positional_maxima(buffers):
    stages = range(1 + max(b.last for b in buffers))
    lives = [
        sorted((b.size for b in buffers if b.first <= i <= b.last), reverse=True) for i in stages
    ]
    longest = max(map(len, lives))
    return [max(sizes[k] for sizes in lives if k < len(sizes)) for k in range(longest)]


print(positional_maxima(thirteen), "sum up to", sum(positional_maxima(thirteen)))
assert sum(positional_maxima(thirteen)) == shared_lower_bound(thirteen, alignment=1)

# %%
shared = "shared_in_order", "shared_by_size", "shared_by_breadth"
placements = [place(thirteen, planner, alignment=1) for planner in shared]
assert min(p.total for p in placements) >= shared_lower_bound(thirteen, alignment=1)
picture(draw_arena, thirteen, placements, lower_bound=shared_lower_bound(thirteen, alignment=1))

# %% [markdown]
# ## As published
#
# Pisarchyk and Lee (2020) measured these planners on networks. `tinyinfer.reproduce.arena` counts
# as they do (what, is said in its first lines: fused convolutions, nothing in place, no scratch
# memory). In MiB; in bold what was published and is the same here:

# %%
networks = {name: tensors(graph_of(importlib.import_module(name))) for name in NETWORKS}
found = {name: figures(buffers) for name, buffers in networks.items()}
known = [n for n in found["lenet"] if "min cost" not in n]


def cell(name, row):
    return f"**{found[name][row]}**" if row in PUBLISHED.get(name, ()) else found[name][row]


table(["", *NETWORKS], [[row, *(cell(name, row) for name in NETWORKS)] for row in known])

# %%
for name, rows in PUBLISHED.items():
    assert rows == {row: found[name][row] for row in rows}
v2 = networks["mobilenet_v2"]
picture(draw_arena, v2, place(v2), title="MobileNet v2, 65 tensors of 26.3 MiB in 5.74 MiB")

# %% [markdown]
# The greedy rule by size reaches the lower bound on every one of them. Networks are kind: they have
# a few large values at a time, and most live for two stages. First fit, which does not know what
# comes, needs up to a third more:

# %%
for name, rows in found.items():
    assert rows["greedy by size"] == rows["lower bound"], name
v1 = networks["mobilenet_v1"]
print(f"{place(v1, 'first_fit').total / lower_bound(v1):.3f} times the bound")

# %% [markdown]
# ## To run
#
# A plan to run by has some more to tell than the paper. LeNet-5, by NumPy's kernels, each of which
# does one thing (the fast ones, of lesson 10, keep in registers much of what stands here in memory):

# %%
import lenet

model = lenet.build().eval()
images = ti.randn(1, *lenet.input_shape)
fast = ti.compile(model, kernels="numpy")
with ti.no_grad():
    fast(images)
plan = fast.plan
print(plan)

# %%
picture(plan.draw)

# %% [markdown]
# **In place of.** `relu` and the sum with the bias read each number once, and then write one: they
# can write over what they read. A step may do so if its kernel allows it, its result has the same
# size, and nobody needs the old value any more, neither itself nor a view of it; and if it is ours:
# not the caller's, not a constant, no weight. Then several values are one buffer, and in the
# picture it has several names.


# %%
def told(fn):
    rows = ti.plan(ti.trace(fn, ti.randn(16, 16)), order="construction").rows
    return [f"{r.op}: {'in place of %' + r.over if r.over else r.place}" for r in rows]


def free(x):
    return ti.relu(ti.exp(x)).sum()


def borrowed(x):
    return ti.relu(x).sum()


def needed(x):
    y = ti.exp(x)
    return (ti.relu(y) @ y).sum()


for fn in free, borrowed, needed:
    print(f"{fn.__name__}: {', '.join(told(fn))}")
    assert ("in place" in str(told(fn))) == (fn is free)

# %% [markdown]
# **Scratch.** A convolution by a product of matrices writes out every window as a column: a matrix
# that is many times larger than the image, needed for one stage. Other programs allocate it in the
# convolution. Here it is declared by the kernel, and has its place in the plan, for one stage; and
# it is seen to be most of the arena.

# %%
scratch = max(row.scratch for row in plan.rows)
print(f"{scratch:,} of {plan.arena_bytes:,} bytes")
assert scratch > plan.arena_bytes / 2

# %% [markdown]
# **Alignment.** Every buffer begins at a multiple of 64 bytes: a line of the cache, and the widest
# register there is. Sizes are rounded up first, so offsets are multiples by themselves. For large
# values that is nothing; a million scalars would feel it.

# %%
sums = ti.trace(lambda x: ti.stack([(x[i] * x).sum() for i in range(8)]).sum(), ti.randn(8))
table(
    ["alignment", "LeNet-5", "eight sums"],
    [
        [size, *(f"{ti.plan(g, alignment=size).arena_bytes:,}" for g in (plan.graph, sums))]
        for size in (1, 16, 64, 4096)
    ],
)

# %% [markdown]
# **Concatenation.** An Inception module ends with four results one behind the other. To copy them
# there is work for nothing: let each step write where its part will be. So four buffers and a copy
# become one buffer, green in the picture, which lives from the first part on.


# %%
def module(x, a, b, c, d):
    return ti.relu(ti.concat([x @ a, x @ b, x @ c, x @ d])).sum()


joined = ti.plan(ti.trace(module, *(ti.randn(32, 32) for _ in range(5))))
print(joined)
assert [*joined.lifetimes.joined.values()] == [[0, 1, 2, 3]]

# %% [markdown]
# It saves half of the memory here, since there are no parts beside the whole. It can cost some,
# too: the whole is there from the first part on, while the other branches need their scratch
# memory. `order.peak` counts parts and copies, the arena has them joined; in our Inception network
# it is the larger one.

# %%
import inception

assert joined.arena_bytes < 0.6 * joined.order.peak
model = ti.compile(inception.build().eval(), kernels="numpy")
with ti.no_grad():
    model(ti.randn(1, *inception.input_shape))
print(f"with copies {model.plan.order.peak:,}, joined {model.plan.arena_bytes:,} bytes")
assert model.plan.order.peak < model.plan.arena_bytes
picture(model.plan.draw)

# %% [markdown]
# ## Training
#
# A training step has updates: what a State becomes. The plan says `state fc1.weight` where another
# result has `arena`: the new weights are written over the old ones, as soon as everybody has read
# these. (Why that is not too soon, lesson 7 asked.)

# %%
ti.manual_seed(0)
model = lenet.build()
optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
images, labels = ti.randn(32, *lenet.input_shape), ti.tensor(np.arange(32) % 10)


def step(images, labels):
    optimizer.zero_grad()
    loss = ti.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss


fast = ti.compile(step, kernels="numpy")
fast(images, labels)
written = {row.place for row in fast.plan.rows if row.place.startswith("state")}
print(f"{len(fast.graph.updates)} updates, of which {len(written)} in place:")
print(", ".join(sorted(written)))
assert len(written) == len(fast.graph.updates)

# %%
weight = model.fc1.weight
address = weight.node.value.ctypes.data
before = weight.numpy().copy()
fast(images, labels)
assert weight.node.value.ctypes.data == address and (weight.numpy() != before).any()

# %% [markdown]
# And nothing is allocated. `tracemalloc` counts what Python and NumPy ask for: once when the step
# is run op by op, once when it is run by the plan. Of NumPy's arrays there is not one more
# afterwards; and what a planned call needs for a moment are small things of Python, and buffers
# inside NumPy's functions.

# %%
ARRAYS = [tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)]


def arrays():
    """Bytes in arrays of NumPy."""
    return sum(t.size for t in tracemalloc.take_snapshot().filter_traces(ARRAYS).traces)


def allocated(step, calls=5):
    """Bytes: what calls need at their peak, and what more there is in arrays after them."""
    gc.collect()
    tracemalloc.start()
    step(images, labels)
    start = arrays()
    tracemalloc.reset_peak()
    now, _ = tracemalloc.get_traced_memory()
    for _ in range(calls):
        step(images, labels)
    _, peak = tracemalloc.get_traced_memory()
    more = arrays() - start
    tracemalloc.stop()
    return peak - now, more


for _ in range(3):
    fast(images, labels)
(eager, _), (planned, more) = allocated(step), allocated(fast)
print(f"at the peak {eager:,} bytes op by op, {planned:,} by the plan; {more} bytes more in arrays")
assert planned < eager / 20 and more == 0

# %% [markdown]
# ## Poison
#
# A wrong plan is a nasty thing. Suppose somebody forgets that `a.mT` keeps `a` alive. The program
# runs, and the result is wrong; or it is right today, since nothing happened to be placed there,
# and wrong tomorrow with another planner. So we do not wait for chance. As soon as a buffer is
# dead, fill it with NaN (in bytes: 255, again and again). Who reads it then gets NaN, and so does
# the result.


# %%
def run(plan, x, buffers, planner, poison):
    """The result of a plan, if these were its buffers."""
    plan.placement = place(buffers, planner)
    arena, y = Arena(plan), np.empty(*plan.graph.outputs[0].spec)
    states = {s: s.node.value for s in plan.graph.states.values()}
    arena.fill([x], [y], states)
    for stage, (_, step, args) in enumerate(arena.calls):
        with np.errstate(invalid="ignore"):  # else NumPy warns of the NaN
            step(*args)
        for b, offset in zip(buffers, plan.placement.offsets):
            if poison and b.last == stage:
                arena.memory[offset : offset + b.size] = 255
    arena.finish([y], states)
    return y


x = ti.randn(32, 32)
plan = ti.plan(ti.trace(chain, x))
forgotten = [b._replace(last=1) if b.name == "%0" else b for b in plan.buffers]
for buffers in plan.buffers, forgotten:
    for poison in False, True:
        y = run(plan, x.numpy(), buffers, "naive", poison)
        print("forgotten:" if buffers is forgotten else "right:", y[0, :3])
assert np.isnan(y).all()

# %% [markdown]
# Where each buffer has bytes of its own, the mistake does no harm; but with poison it is seen.
#
# Now every mistake of this kind, in the Inception network: one buffer after the other is said to be
# dead a stage too early. In how many of these plans is the result wrong?

# %%
model, image = inception.build().eval(), ti.randn(1, *inception.input_shape)
plan = ti.plan(passes.strip(ti.trace(model, image)))
right = plan.graph.run(image.numpy())
early = [
    [*plan.buffers[:i], b._replace(last=b.last - 1), *plan.buffers[i + 1 :]]
    for i, b in enumerate(plan.buffers)
    if b.first < b.last
]


def wrong(*how):
    return not np.array_equal(run(plan, image.numpy(), *how), right)


rows = []
for planner in "naive", "first_fit", "greedy_by_size":
    for poison in False, True:
        assert not wrong(plan.buffers, planner, poison)
        found = [wrong(buffers, planner, poison) for buffers in early]
        assert all(found) or not poison
        rows.append([planner, "with" if poison else "without", f"{sum(found)} of {len(found)}"])
table(["planner", "poison", "mistakes that show"], rows)

# %% [markdown]
# ## What to remember
#
# - Lifetimes are known before anything runs. A view keeps alive what it looks at.
# - No arena is smaller than what is alive at once. Greedy planners reach that in networks; that it
#   can always be reached is not true, and whether it can is NP-hard to say.
# - What a planner is given matters as much as how good it is: the order, what is written in place or
#   joined, and how much scratch memory the kernels need.
# - A step that trains by a plan writes over its own weights, and allocates nothing.
# - Memory plans are tested with poison, not with luck.
#
# ## Questions
#
# 1. Take `below=False` in `by_size`, and random buffers. How much does the missing gap cost on
#    average?
# 2. There are eleven buffers of sizes 1 and 2, never more than 4 bytes alive, for which 4 bytes are
#    too few. Find them: fill every stage by chance, and ask the exact planner.
# 3. If steps of one stage run side by side, who is alive at the same time? What becomes of LeNet's
#    arena, and of Inception's, with `order="breadth"`?
# 4. In a training step nearly everything that was computed on the way forward is kept for the way
#    back. So the peak is in the middle. What if some of it were computed again? (Chen et al. 2016,
#    "Training deep nets with sublinear memory cost".)
