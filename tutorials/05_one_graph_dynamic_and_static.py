# %% [markdown]
# # 5. One graph, dynamic and static
#
# In lesson 1 a tensor remembered how it was made, and the memory was a graph: it grew while the
# program ran, with a number in every node. That is a *dynamic* graph. A *static* graph is there
# before anything runs, has no numbers, and can be printed, checked, rewritten, saved, and run many
# times. People argue which of the two a framework should have. Here they are the same structure,
# and you will see that the argument is about something else: about what Python decides, and what
# the graph decides.
#
# The files this is about: `graph/graph.py`, `graph/trace.py`, `graph/control.py`,
# `graph/script.py`, `graph/text.py`.

# %%
import re
from itertools import islice
from pathlib import Path

import numpy as np
from IPython.display import SVG, Markdown

import tinyinfer as ti
from tinyinfer import data, nn, optim
from tinyinfer.core.autograd import ancestors

# %% [markdown]
# ## The same drawing, with and without numbers
#
# A function, run twice: once as usual, and once by `ti.trace`, which gives it symbols in the place
# of numbers and keeps what it wrote down.

# %%
w = ti.tensor([[1.0, -1.0], [0.5, 2.0]], requires_grad=True, dtype="float32")


def f(x):
    return ti.relu(x @ w).sum()


x = ti.tensor([[1.0, 2.0], [3.0, 4.0]])
tape = [n for n in ancestors([f(x).node], through=lambda n: True) if n.op]
graph = ti.trace(f, x)

rows = ["| step | spec | on the tape | in the graph |", "|---|---|---|---|"]
for a, b in zip(tape, graph.steps, strict=True):
    assert (a.op, a.spec) == (b.op, b.spec)
    rows.append(f"| `{a.op}` | `{a.spec}` | {a.value.tolist()} | {b.value} |")
Markdown("\n".join(rows))

# %% [markdown]
# The same ops, the same specs, the same class `Node`; one has its numbers filled in. So nothing had
# to be written twice: the shape check that `x @ w` makes when it runs is the one it makes when it is
# traced, and the rule of the derivative is the same too.
#
# This is the graph as text. Each line is a node; a name is given once and used below; behind the
# `#` stands the line of *your* program that made it (a cell of a notebook has a number for its
# name). The parameter is no number in there but a
# `state`: the graph looks its value up when it runs.

# %%
print(graph)

# %%
before = graph.run(x.numpy())
w.assign(w * 2.0)
assert graph.run(x.numpy()) == 2 * before == f(x).item()

# %% [markdown]
# ## Three ways in
#
# **Trace** a function, as above. **Define, then run**: make placeholders, compute with them as if
# they were numbers, and say what is between input and output. Or **script**: read the *source* of
# the function instead of running it; more on this below. For a straight line of steps all three
# write the same text.


# %%
def without_lines(graph):
    return re.sub(r" +#.*", "", str(graph))


placeholder = ti.placeholder((2, 2), name="x")


class Layer(nn.Module):
    def __init__(self):
        self.w = w

    def forward(self, x):
        return ti.relu(x @ self.w).sum()


layer = Layer()
defined = ti.graph(layer(placeholder), placeholder)
traced = ti.trace(layer, x)
scripted = ti.script(layer, x)
assert without_lines(defined) == without_lines(traced) == without_lines(scripted)
print(without_lines(scripted))

# %% [markdown]
# ## What a trace does not see
#
# A trace runs your Python once. So what Python decides is decided: a loop over a list is unrolled,
# `if` on a *shape* takes its branch, `print` prints once. That is often what one wants, and costs
# nothing: the graph is what was left after Python had done its part.


# %%
def power(x, n):
    y = x
    for _ in range(n - 1):
        y = y * x
    return y


for n in 2, 4:
    print([step.op.name for step in ti.trace(power, x, n).steps])

# %% [markdown]
# But when Python asks for a *number* that only a run would give, there is no honest answer. Some
# frameworks record the branch that the example happened to take, and say nothing. Here it is an
# error, with the two lines that matter: where the tensor was made, and where it was asked.


# %%
def halve_until_small(x):
    while x.sum() > 1.0:
        x = x * 0.5
    return x


print(halve_until_small(x))
try:
    ti.trace(halve_until_small, x)
except ti.GraphError as error:
    print(error)
else:
    raise AssertionError("a trace cannot know how often")

# %% [markdown]
# ## Control flow inside the graph
#
# The loop has to become a step of the graph: an op that *holds graphs*. `while_loop` has two, the
# test and the body; what is carried from turn to turn goes in and comes out.

# %%
loop = ti.trace(lambda x: ti.while_loop(lambda x: x.sum() > 1.0, lambda x: x * 0.5, x), x)
print(loop)

for scale in 0.01, 1.0, 1e6:
    start = x * scale
    assert np.array_equal(loop.run(start.numpy()), halve_until_small(start).numpy())

# %% [markdown]
# `cond` chooses between two graphs, and `scan` goes along the first axis of a tensor. `scan` and
# `cond` have gradients; a `while_loop` has one if you say how many turns there are at most
# (`bound=`), since the way back must know what to remember.
#
# Called outside a trace, the same functions are plain Python: `ti.cond(p, a, b)` *is*
# `a() if p else b()`. So a model that uses them needs no second version.

# %%
leaf = ti.tensor(2.0, requires_grad=True)


def root(x):
    return ti.while_loop(
        lambda y: ti.abs(y * y - x) > 1e-4, lambda y: (y + x / y) / 2.0, x, bound=9
    )


slope = ti.grad(root(leaf), leaf)
inside = ti.trace(lambda x: ti.grad(root(x), x), leaf).run(leaf.numpy())
print(f"root {root(leaf).item():.6f}, its slope {slope.item():.6f} eager, {inside:.6f} in a graph")
assert abs(slope.item() - 0.5 / 2**0.5) < 1e-4 and abs(inside - slope.item()) < 1e-6

# %% [markdown]
# ## From the source
#
# Writing `lambda`s for loops is no joy. `ti.script` reads the source of a function, finds `if`,
# `while`, `for ... in range`, `break`, `continue`, early `return`, `and`, `or`, and makes `cond`,
# `while_loop` and `scan` of those that depend on a tensor. The rest stays Python.


# %%
def collatz(n):
    """How many steps to 1; negative numbers have none."""
    if n < 1:
        return n * 0 - 1
    steps = 0
    while n != 1:
        if n % 2 == 0:
            n = n // 2
        else:
            n = 3 * n + 1
        steps = steps + 1
    return steps


number = ti.tensor(27)
graph = ti.script(collatz, number)
for n in 1, 6, 27, -5:
    assert graph.run(np.array(n)) == int(collatz(ti.tensor(n)))
print("27:", graph.run(np.array(27)), "steps")
print(without_lines(graph))

# %% [markdown]
# How? It rewrites the function into another Python function, in which every branch and every body
# is a function of the variables that matter, and then traces that. `graph/lower.py` shows
# the rewriting as a table.
#
# ## One recurrent network, inside and outside
#
# The loop of a recurrent network can be in either place. Outside, Python runs it, and a trace of
# $T$ turns has $T$ copies of the cell. Inside it is one step, whatever $T$. The numbers and the
# gradients are the same, since it is the same arithmetic in the same order.

# %%
ti.manual_seed(0)
u, v = (ti.tensor(ti.randn(n, 8) * 0.3, requires_grad=True) for n in (4, 8))


def cell(h, x):
    return ti.tanh(x @ u + h @ v)


def outside(xs):
    h = ti.zeros(2, 8)
    for t in range(len(xs)):
        h = cell(h, xs[t])
    return h


def inside(xs):
    return ti.scan(lambda h, x: (cell(h, x), None), ti.zeros(2, 8), xs)[0]


def with_gradient(rnn):
    def run(xs):
        h = rnn(xs)
        return h, *ti.grad((h * h).sum(), [u, v])

    return run


rows = ["| T | steps, loop outside | steps, loop inside |", "|---|---|---|"]
for T in 1, 10, 100:
    xs = ti.randn(T, 2, 4)
    out, ins = (ti.trace(with_gradient(rnn), xs) for rnn in (outside, inside))
    eager = [t.numpy() for t in with_gradient(outside)(xs)]
    for a, b, c in zip(eager, out.run(xs.numpy()), ins.run(xs.numpy())):
        assert np.array_equal(a, b) and np.allclose(a, c, rtol=1e-4, atol=1e-6)
    rows.append(f"| {T} | {len(out.steps)} | {len(ins.steps)} |")
Markdown("\n".join(rows))

# %% [markdown]
# And `ti.script` makes the one from the other: a `for` over `range` becomes the scan.

# %%
scripted = ti.script(outside, xs)
print([n.op.name for n in scripted.steps])
assert np.allclose(scripted.run(xs.numpy()), outside(xs).numpy(), atol=1e-6)

# %% [markdown]
# A graph inside a step is drawn inside it:


# %%
def show(graph, name):
    path = graph.draw(f"{name}.svg")
    if path.suffix == ".svg":
        return SVG(filename=str(path))
    return Markdown(f"*Graphviz is not installed; what it would draw is in `{path}`.*")


show(scripted, "rnn")

# %% [markdown]
# ## Training is a graph too
#
# A training step reads parameters and changes them: where is that in a graph of values that never
# change? While a trace is open, assigning to a State only notes the new value. When it closes, the
# notes are the graph's `updates`: what each State becomes when the graph has run. Gradients, the
# momentum of the optimizer, running statistics and the random key of dropout are all in there.


# %%
def make():
    ti.manual_seed(1)
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 32),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(32, 10),
    )
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(images, labels):
        optimizer.zero_grad()
        loss = ti.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return model, step


train, test = data.digits()
loader = data.DataLoader(train, batch_size=32, shuffle=True, seed=0)
batches = list(islice(loader, 25))

model, step = make()
eager = [step(*batch).item() for batch in batches[:20]]

model, step = make()
training = ti.trace(step, *batches[0])
static = [training.run(*(x.numpy() for x in batch)).item() for batch in batches[:20]]

assert eager == static
print(f"{len(training.steps)} steps, {len(training.updates)} updates")
print(f"loss {static[0]:.3f}, after 20 runs {static[-1]:.3f}")
print(*str(training).splitlines()[-6:], sep="\n")

# %% [markdown]
# Twenty steps, equal bit for bit. And since a graph is text and arrays, it can be saved in the middle
# of training, and go on elsewhere. To load it takes no Python of the model, and runs none.

# %%
training.save("training.tig")
elsewhere = ti.load_graph("training.tig")
for batch in batches[20:]:
    arrays = [x.numpy() for x in batch]
    here, there = training.run(*arrays), elsewhere.run(*arrays)
    assert here == there
print(f"{Path('training.tig').stat().st_size:,} bytes; loss {here:.3f} here, {there:.3f} there")

# %% [markdown]
# ## What a wrong graph says
#
# Every graph is checked when it is made: each value is defined once and before it is used, each
# spec is what the op infers. The text can be read back, so you can see the checks at work by
# breaking it.

# %%
text = without_lines(ti.trace(lambda a, b: ti.relu(a @ b), ti.ones(2, 3), ti.ones(3, 2)))
print(text)
for what, broken in {
    "a wrong spec": text.replace("%0: f32[2, 2]", "%0: f32[2, 5]"),
    "an unknown op": text.replace("relu", "rely"),
    "a value used before it is there": text.replace("matmul(%a", "matmul(%1"),
}.items():
    try:
        ti.parse_graph(broken)
    except ti.GraphError as error:
        print(f"{what}: {error}")
    else:
        raise AssertionError(what)

# %% [markdown]
# ## What to remember
#
# - A dynamic and a static graph are one structure; one has its numbers filled in.
# - Tracing keeps what Python did not decide. What depends on values must be a step: write `cond`,
#   `while_loop`, `scan`, or let `ti.script` write them.
# - A loop inside is small and bounded by nothing; a loop outside is unrolled, and can be optimized
#   across its turns.
# - What changes is not in the graph but at its edge: `updates`.
#
# In the next lesson graphs are rewritten.
