# %% [markdown]
# # 11. The code generator
#
# A plan says which kernel runs when, and where in memory everything lies. Up to now somebody has
# walked along that list in every call. But it is the same list each time; so one can write it down
# once, as a program, and compile that. This is what `ti.compile` does by itself. In this lesson you
# first write a generator, of twenty lines; then you read what the real one writes, line by line;
# and then you look at what it leaves to Python, and at what a call costs.
#
# The files this is about: `runtime/codegen.py`, `runtime/generated.py`, `kernels/written.py`,
# `kernels/recorded.py`.

# %%
import ast
import copy
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown

import tinyinfer as ti
from tinyinfer import nn, optim
from tinyinfer.core.op import Op
from tinyinfer.draw.style import BLUE, GREEN, INK, SHEET
from tinyinfer.kernels.recorded import NotNative, place
from tinyinfer.runtime.generated import Generated, Program

sys.path.insert(0, "../../models")
ti.set_num_threads(1)
ti.manual_seed(0)


def code(text):
    return Markdown(f"```python\n{text}\n```")


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return Markdown("\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines))


# %% [markdown]
# ## A text from a plan
#
# Take a small function, trace it, plan it. Each row of the plan becomes two lines: a name for a
# piece of the arena, and a call that writes into it.


# %%
def layers(x, a, b, c):
    return ti.relu(x @ a + b) @ c


CALLS = {
    "matmul": "np.matmul({1}, {2}, out={0})",
    "add": "np.add({1}, {2}, out={0})",
    "relu": "np.maximum({1}, 0, out={0})",
}


def written(plan):
    names = {n: f"v{name}" if n.op else name for n, name in plan.graph.names.items()}
    lines = [f"def layers(arena, {', '.join(names[n] for n in plan.graph.inputs)}, result):"]
    for row, n in zip(plan.rows, plan.order.steps):
        where = "result"
        if row.offset is not None:
            piece = f"arena[{row.offset}:{row.offset + row.size}]"
            where = f"{piece}.view('{n.spec.dtype}').reshape{n.spec.shape}"
        call = CALLS[n.op.name].format(names[n], *[names[x] for x in n.inputs])
        lines += [f"    {names[n]} = {where}", f"    {call}"]
    return "\n".join(lines)


args = ti.randn(1, 64), ti.randn(64, 32), ti.randn(32), ti.randn(32, 10)
plan = ti.plan(ti.trace(layers, *args))
text = written(plan)
code(text)

# %% [markdown]
# `exec` makes a function of it. (`v2` lies where `v1` did: the plan knows that nobody needs `v1`
# any more. And the last product is made where the caller wants it.)

# %%
scope = {"np": np}
exec(text, scope)
arena, result = np.empty(plan.arena_bytes, np.uint8), np.empty((1, 10), np.float32)
arrays = [x.numpy() for x in args]
scope["layers"](arena, *arrays, result)
assert np.array_equal(result, layers(*args).numpy())


# %% [markdown]
# Is it faster? To compare, we call each way many times in a row, and take turns between them.


# %%
def times(ways, rounds=15, calls=40):
    """{name: f} -> {name: µs of a call}, the median of the rounds."""
    spent = {name: [] for name in ways}
    for _ in range(rounds):
        for name, f in ways.items():
            f()  # what the others left in the caches is not its fault
            start = perf_counter()
            for _ in range(calls):
                f()
            spent[name].append(1e6 * (perf_counter() - start) / calls)
    return {name: median(each) for name, each in spent.items()}


fast = ti.compile(layers)
found = times(
    {
        "op by op": lambda: layers(*args),
        "the text, by Python": lambda: scope["layers"](arena, *arrays, result),
        "by ti.compile": lambda: fast(*args),
    }
)
assert np.allclose(fast(*args).numpy(), result, atol=1e-5)
table(["", "µs"], [[name, f"{t:.1f}"] for name, t in found.items()])

# %% [markdown]
# Better than op by op, which checks shapes, allocates, and records a tape. But each line is still a
# call from Python: it looks up names, makes views, looks at types, and chooses a loop; about a
# microsecond each. The arithmetic of these little matrices takes less. To be rid of this, the text
# has to be machine code, and so has everything that it calls.
#
# ## Reading what it wrote
#
# `compiled.source` is the text that the last call ran. Take a small network, in four parts. A
# generated file opens with its plan:

# %%
net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10), nn.Softmax()).eval()
model, x = ti.compile(net), ti.randn(4, 64)
with ti.no_grad():
    y = model(x)


def cut(source, *kinds):
    """The pieces of these kinds, one after the other."""
    lines = source.splitlines()
    for n in ast.parse(source).body:
        if isinstance(n, kinds):
            start = min([n.lineno, *(d.lineno for d in getattr(n, "decorator_list", ()))])
            yield "\n".join(lines[start - 1 : n.end_lineno])


print(*cut(model.source, ast.Expr))

# %% [markdown]
# You know it from lesson 8. The column *why* is from lesson 10: it tells how long the chosen kernel
# should take, and the next best one. The column *offset* is what you will meet again below.
#
# Then come the kernels:

# %%
code("\n".join(cut(model.source, ast.Import, ast.ImportFrom, ast.Assign)))

# %% [markdown]
# `there(...)` is a kernel *where its machine code lies*. It was compiled once, for whoever uses it,
# and is kept on disk; the generated function has its address and jumps there. Nothing is copied or
# compiled again; so the generated function, in which there is nothing but jumps, is compiled in a
# moment.
#
# A `Static` has the numbers that a kernel was compiled for: how many rows a tile has, which
# activation follows. In lesson 10 it was called `t`, and loops over such numbers were unrolled. Two
# layers with the same `Static` use the same machine code, whatever their sizes are.
#
# Now the function itself:

# %%
whole, run = cut(model.source, ast.FunctionDef)
code(whole)

# %% [markdown]
# Line by line.
#
# - Its arguments are *addresses*: of the arena, of what goes in and comes out, of the weights, and
#   of a table of constants.
# - `x = float32(x, 4, 64)` is not a conversion. It says what lies at this address. All that is not
#   known is the place; the shape is part of the machine code.
# - Each step opens with a comment: its formula, and which kernel it is. The names are those of the
#   plan.
# - `v0 = float32(arena + ..., 4, 32)`: the number is the offset of the plan. At run time this is
#   one addition, or none, since an instruction can add by itself.
# - Then the call: its `Static`; part 0 of 1, since one thread does all of it; where the result
#   goes; the inputs; scratch memory, which lies in the arena too; and sizes. These are the numbers
#   that the kernel's own Python would have found out, in every call.
# - The last step writes to `result`, which is the array that you get.
#
# There is no loop over steps, no shape to check, no memory to allocate. The comments alone are the
# program in short:


# %%
def comments(source):
    lines = map(str.strip, source.splitlines())
    return "\n".join(line[2:] for line in lines if line.startswith("# "))


print(comments(whole))

# %% [markdown]
# The fourth part is the door: what Python calls.

# %%
code(run)

# %% [markdown]
# `@whole` is what makes machine code of the text. You know its trick from lesson 10: a function
# under `@micro` is run by Numba while it compiles, and its values write instructions.
# `@whole` is the same for a function that calls kernels.
#
# ## Who knows what to call?
#
# The first argument of `gemm` was chosen by a planner, the last by its author. The generator knows
# neither. It would need to know for each kernel how it wants to be called, and that is a fact which
# would stand in two places. Instead it calls the kernel's own Python, with arrays that are *nowhere*,
# and a log. Whoever comes to machine code then does not run it, but notes what it would have run:

# %%
step = model.plan.order.steps[0]
log = []
there = [place(log, *n.spec) for n in (step, *step.inputs)]
kernel, more = model.plan.kernels[step].bind(
    tuple(place(log, *spec) for spec in model.plan.kernels[step].scratch)
)
kernel(*there, *more)
for call in log:
    print(f"{call.f.__module__}.{call.f.__name__}")
    print("   ", call.t)
    print("    arrays ", *[a.shape for a in call.arrays if isinstance(a, np.ndarray)])
    print("    numbers", *[x for x in call.numbers if isinstance(x, int)])

# %% [markdown]
# Compare it with the call in the text. So the very same lines of a kernel serve the one who calls
# it now and the one who writes a program of it. What does a `Place` do when somebody wants to know
# its numbers? There are none, and it says so:

# %%
for attempt in np.exp, np.ndarray.max, bool:
    try:
        attempt(there[0])
    except NotNative as refused:
        print(refused)
    else:
        raise AssertionError("a place has no numbers")

# %% [markdown]
# This is the third time that you see the idea. A function was called with tensors that had no
# numbers, and a graph came out (lesson 5); with values of a machine that was not there yet, and
# instructions came out (lesson 10); and now a kernel with arrays that are nowhere, and a call comes
# out. *Run it once with something that remembers* is how all of this library is made.
#
# ## What changes and what does not
#
# The weights are arguments, not constants: they belong to you, and you may change them.
# `gemm` wants them packed. To pack them is a part of the graph that follows from weights alone, so
# it is cut off, done once, and done again only when they were changed:

# %%
print("the graph has", ", ".join(str(n.spec) for n in model.graph.inputs))
print(model.last.prologue)
before = model.source
with ti.no_grad():
    net[0].weight.assign(net[0].weight * 2)
    assert np.allclose(model(x).numpy(), net(x).numpy(), atol=1e-5)
assert model.source == before and not np.allclose(model(x).numpy(), y.numpy())

# %% [markdown]
# *Constants* are what cannot change: tables of where windows begin, numbers in your code. The
# function gets a list of their addresses, and `constant(constants, 0)` is the first. Why not their
# addresses themselves? Because they are other ones in the next process, and the text would be another,
# too.

# %%
program = Program(model.plan, model.called)
print([x.shape for x in program.kept], "called from Python:", program.asks)

# %% [markdown]
# ## Fused steps are formulas
#
# Steps without sums, one behind the other, are one loop. In the text there is one call for it, of
# `chain`, whose `Static` has the little program that the loop consists of: registers have numbers,
# as in every such machine. `kernels/program.py` unrolls it into instructions while it compiles.


# %%
@ti.compile
def curve(x, y):
    return x * ti.sigmoid(1.702 * x) + y / (1 + y * y)


@ti.compile
def block(x, gain, bias):
    return x + ti.layer_norm(x * ti.sigmoid(1.702 * x), (64,), gain, bias)


curve(x, ti.randn(4, 64))
print(comments(curve.source))
code("\n".join(t for t in cut(curve.source, ast.Assign) if "Static(" in t))

# %%
block(x, ti.ones(64), ti.zeros(64))
print(comments(block.source))

# %% [markdown]
# A dozen steps of Python have become a few calls. Lesson 12 says what that is worth.
#
# ## What is left for Python
#
# Not everything has a kernel in machine code. Here are two such things: rows are looked up by
# numbers, and an op of your own. (Lesson 3 tells how to make one.)


# %%
class Median(Op):
    """y = the number in the middle"""

    def infer(self, x):
        return x._replace(shape=())

    def forward(self, x):
        return np.median(x)


middle = Median()


@ti.compile
def lookup(rows, i):
    return ti.exp(rows)[i].sum() + middle(rows)


rows = ti.randn(10, 4)
with ti.no_grad():
    z = lookup(rows, ti.tensor([1, 3])).item()
    assert np.isclose(z, (ti.exp(rows)[ti.tensor([1, 3])].sum() + middle(rows)).item())
code([*cut(lookup.source, ast.FunctionDef)][0])

# %% [markdown]
# `python(callback, i)` asks Python to do step number `i`, now, in the same arena, and behind it is
# the reason. So every graph compiles, whatever is in it, and each step that is not machine code
# says why. There are three kinds of reasons:
#
# - *there is only NumPy for it*: nobody has written a kernel for this op and these types;
# - *what is done depends on numbers*, or an array would be copied or made on the way: then there is
#   no fixed call to write down;
# - it stands behind an `else`: the kernel is right only for numbers as they usually are. Places of
#   rows have to be inside; and who multiplies with zeros, instead of leaving them out, needs numbers
#   that are finite. So the machine looks first, and Python has the rare case.
#
# The rare case here is an error. It ends the function, and you are told which line of yours it was:

# %%
with ti.no_grad():
    try:
        lookup(rows, ti.tensor([1, 13]))
    except ti.RangeError as error:
        print(error)
    else:
        raise AssertionError("there is no row 13")
    assert lookup(rows, ti.tensor([1, 3])).item() == z

# %% [markdown]
# ## If and while
#
# `cond`, `while_loop` and `scan` hold graphs of their own (lesson 5). Their plans are written into
# the same function, as what they are: `if`, `while`, `for`. This is the power method, which finds
# the largest eigenvalue's vector:


# %%
@ti.compile
def largest(a, x):
    def turn(x, change):
        y = a @ x
        y = y / ti.sqrt((y * y).sum())
        return y, ti.abs(y - x).max()

    return ti.while_loop(lambda x, change: change > 1e-5, turn, x, ti.tensor(1.0))[0]


a = ti.randn(8, 8)
a = a @ a.mT
v = largest(a, ti.ones(8, 1)).numpy()
assert np.allclose(a.numpy() @ v, np.linalg.norm(a.numpy() @ v) * v, atol=1e-2)
code([*cut(largest.source, ast.FunctionDef)][0])

# %% [markdown]
# The same trick with one thing more. The text is Python, and its `while` would ask for the truth of
# a value that has none yet. So `@whole` reads the text before it runs it, and turns every `if`,
# `while` and `for` into one of the machine. `flag(...)` is one byte of the arena. In the end the
# whole loop runs without Python, though nobody knows how many turns it takes.
#
# A `scan` is a `for`, and `48 * t` is how far row `t` is from the first one:


# %%
@ti.compile
def rnn(h, x, w):
    def turn(h, x):
        h = ti.tanh(x @ w + h)
        return h, h

    return ti.scan(turn, h, x)[1]


rnn(ti.zeros(3, 4), ti.randn(5, 3, 4), ti.randn(4, 4))
code([*cut(rnn.source, ast.FunctionDef)][0])

# %% [markdown]
# ## One text for each kind of arguments
#
# Every shape in the text is a number. So another batch size is another text, and it may be quite
# another one: which kernels, which layout, which offsets, all of it is decided anew. Here is LeNet:

# %%
import lenet

lenet5 = ti.compile(lenet.build().eval())
told = []
with ti.no_grad():
    for batch in 1, 4, 64, 1:
        images = ti.randn(batch, *lenet.input_shape)
        start = perf_counter()
        lenet5(images)
        first = perf_counter() - start
        later = times({"": lambda images=images: lenet5(images)}, rounds=9, calls=10)[""]
        kernels = " · ".join(lenet5.plan.kernels[n].name for n in lenet5.plan.order.steps)
        arena = f"{lenet5.plan.arena_bytes:,}"
        told.append([batch, f"{1e3 * first:,.1f}", f"{later / batch:.1f}", arena, kernels])
assert len(lenet5.kinds) == 3
head = "images", "first call, ms", "later, µs an image", "arena, bytes", "kernels"
table(head, told)

# %% [markdown]
# For 64 images, sixteen of them lie side by side in the lanes of a register; for one image that
# would be fifteen lanes too many. The last row is a batch that was seen before: it is found by what
# its arguments are, and there is nothing to do. (A first call takes as long as it does mostly for
# kernels that this machine has not seen before.)
#
# A dictionary holds a text for each *kind* of arguments: of tensors the shape, dtype, and whether a
# gradient is wanted; of everything else the value. So a batch that is never of the same size twice
# is a program that compiles forever; the oldest of very many kinds is forgotten. Pad the last
# batch, or leave it out.
#
# ## The file
#
# The text is written into a file, whose name ends with a hash of it and of all the kernels. Numba
# keeps its machine code beside it. So who starts the same program again compiles nothing. Let us
# see that: three processes, one after the other, with a cache that is empty at first.

# %%
CHILD = """
from time import perf_counter as now
start = now()
import tinyinfer as ti
from tinyinfer import nn
imported = now()
ti.manual_seed(0)
net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).eval()
fast, x = ti.compile(net), ti.randn(4, 64)
with ti.no_grad():
    fast(x)
    first = now()
    fast(x)
print(imported - start, first - imported, now() - first)
"""
rows, kept = [], None
with tempfile.TemporaryDirectory() as folder:
    own = os.environ | {"XDG_CACHE_HOME": folder, "NUMBA_CACHE_DIR": folder}
    child = [sys.executable, "-W", "ignore", "-c", CHILD]
    for i in range(3):
        done = subprocess.run(child, env=own, capture_output=True, text=True, check=True)
        files = {p.name: p.stat().st_mtime_ns for p in Path(folder).rglob("*.nb*")}
        assert kept in (None, files)  # nothing was compiled, or else there were another file
        kept = files
        spent = [f"{1e3 * float(t):,.1f}" for t in done.stdout.split()]
        rows.append([i + 1, *spent, len(files)])
    names = sorted(str(p.relative_to(folder)) for p in Path(folder).rglob("*.py"))
assert len(names) == 1
print(*names)
table(["process", "import, ms", "first call", "second call", "files of machine code"], rows)

# %% [markdown]
# What the second process still does is to load Numba, to trace, to plan, to write the text, and to
# see that it is the one in the file. If you change a kernel, or update the library, the hash is
# another, and so is the file: old machine code is never taken for new.
#
# ## What a call costs
#
# LeNet with one image, in every way there is. (Its weights are 61,706 numbers; the arithmetic is
# less than a million operations, which take four microseconds at the peak of a good core.)

# %%
eager, image = lenet5.fn, ti.randn(1, *lenet.input_shape)
ways = {
    "eager": eager,
    "interpreted": ti.compile(eager, backend="interpreted"),
    "planned, NumPy": ti.compile(eager, backend="planned", kernels="numpy"),
    "planned, machine code": ti.compile(eager, backend="planned"),
    "compiled": lenet5,
}
with ti.no_grad():
    results = [f(image).numpy() for f in ways.values()]
    assert all(np.allclose(r, results[0], atol=1e-5) for r in results)
    assert np.array_equal(results[-1], results[-2])  # the same kernels: the same bits

    plan = lenet5.plan
    alone, y = Generated(Program(plan, lenet5.called), plan), np.empty_like(results[0])
    states = {s: s.node.value for s in plan.graph.states.values()}
    inputs = [image.numpy(), *lenet5.last.from_states()]
    calls = {name: lambda f=f: f(image) for name, f in ways.items()}
    calls["its function alone"] = lambda: alone.run(inputs, [y], states)
    found = times(calls)
assert np.array_equal(y, results[-1])

plt.rcParams.update(SHEET | {"axes.titlesize": 10, "axes.titleweight": "normal"})
figure, ax = plt.subplots(figsize=(7.4, 2.9), layout="constrained")
for i, (name, t) in enumerate(reversed(found.items())):
    mine = name in ("compiled", "its function alone")
    ax.barh(i, t, color=(GREEN if mine else BLUE).line, height=0.66)
    ax.annotate(f"{t:,.1f} µs" if t < 100 else f"{t:,.0f} µs", (t, i), (5, 0),
                textcoords="offset points", va="center")  # fmt: skip
ax.set_yticks(range(len(found)), [*reversed(found)], color=INK)
ax.set_xlim(0, 1.15 * max(found.values()))
ax.tick_params(axis="y", length=0)
ax.spines["left"].set_visible(False)
ax.set(xlabel="µs a call")
ax.set_title("LeNet-5, one image, one thread")
plt.show()

# %% [markdown]
# From above:
#
# - *eager* checks every op, allocates every result, and would record a tape if it was asked to;
# - *interpreted* runs the optimized graph by the definitions: fewer steps;
# - *planned* with NumPy allocates nothing any more;
# - with kernels in machine code the arithmetic is fast, and Python is what one waits for: for each
#   step a few microseconds of calling;
# - *compiled* calls Python once.
#
# Between the last two bars is what `ti.compile` does around the function: find the text for these
# arguments, take an arena, make a tensor of the result. What a call costs beside its function is the
# same for a network of any size. So this chart flatters us: for 64 images all bars grow, and what
# was saved is the same few microseconds. Small networks are where a compiler shines.
#
# ## A step that trains
#
# Now forward, backward, and the optimizer, in one function. It is the same generator: a gradient is
# a graph like any other (lesson 2), and an optimizer writes States.


# %%
def trainer(model):
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    def step(x, labels):
        optimizer.zero_grad()
        loss = ti.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


ti.manual_seed(0)
mlp = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
by_plan, by_hand = copy.deepcopy(mlp), copy.deepcopy(mlp)
step = ti.compile(trainer(mlp))
x, labels = ti.randn(32, 64), ti.tensor(np.arange(32) % 10)
step(x, labels)
print(comments(step.source))

# %% [markdown]
# Read it from above: the way forward; the loss; from there the gradients, layer by layer, the
# last one first; and between them, as soon as nobody needs the old weights, the new ones. Two lines
# with a name each are one step with two results: the velocity, and the weight.
#
# (A formula leaves out what only looks at numbers in another order: `matmul(x, v)` of the way
# back is a product with `x` transposed. The call below it says so with a number.)
#
# Where are the new weights made? Look at what these names stand for:

# %%
whole = next(cut(step.source, ast.FunctionDef))
parts = whole.split("\n\n")
update = [p for p in parts if "bias" in p and "0.9" in p]
code("\n\n".join(update[:2]))

# %% [markdown]
# A name of a result is the name of a State: the sum is made, the velocity is written over the old
# velocity, the bias over the old bias, all in one loop. There is no copy, and no memory besides. And
# it is right, since the plan knows who still has to read the old numbers (lesson 7).
#
# Is it the same as without a compiler? Bit for bit the same as the plan, step by step; and up to
# rounding the same as eager code, whose sums are NumPy's.

# %%
planned, eager = ti.compile(trainer(by_plan), backend="planned"), trainer(by_hand)
planned(x, labels), eager(x, labels)
for _ in range(20):
    losses = [f(x, labels).item() for f in (step, planned, eager)]
weights = [m[0].weight.numpy() for m in (mlp, by_plan, by_hand)]
print("loss", *losses, " weights differ from eager by", np.abs(weights[0] - weights[2]).max())
assert np.array_equal(weights[0], weights[1]) and losses[0] == losses[1]
assert np.allclose(weights[0], weights[2], atol=1e-4)

# %%
asked = sum("python(" in line for line in whole.splitlines())
found = times({f: lambda f=f: f(x, labels) for f in (step, planned, eager)}, calls=10)
names = {step: "compiled", planned: "planned, the same kernels", eager: "eager"}
print(f"{len(step.plan.order.steps)} steps, of which Python does {asked}")
table(["", "µs a step of training"], [[names[f], f"{t:,.0f}"] for f, t in found.items()])

# %% [markdown]
# ## What to remember
#
# - A plan is a list, and a list that never changes is a program.
# - Code is written as text in one place of this library, and it is short, since kernels say
#   themselves what they would run.
# - What is known before a call (shapes, offsets, sizes, order) is written as numbers; what may
#   change (images, weights) comes as addresses.
# - Kernels are compiled once and jumped to. Who compiles everything anew for each graph waits for
#   it.
# - What has no machine code is done by Python, in its place, and the text says why.
# - A compiler saves what is between the steps. For what is in them, see the next lesson.
#
# ## Questions
#
# 1. Add softmax to `written`. NumPy has none: it takes several calls, and room for what is between
#    them. Who has to know how much room, and when?
# 2. `largest` ends when the change is small. What if it never is? Give `while_loop` a `bound`, and
#    read what becomes of the `while`.
# 3. Take whole numbers in a `while_loop`, such as $n \to n / 2$ or $3 n + 1$ until $n = 1$. Who
#    does it, and what does the text say? What would have to be written to change that?
# 4. `ti.compile(..., threads=2)` writes `.in_parts` behind the kernels that are worth it. Which of
#    LeNet's are, for 1 image and for 64?
# 5. Why must a generated function not be called by two threads at once with the same arena? What
#    does `Executor` do about it?
# 6. The layers of a deep network are often alike. The text has a call for each of them. When would
#    a `for` in it be better, and what would its offsets look like?
