# %% [markdown]
# # 1. A tensor and its tape
#
# A tensor is an array that knows how it was made. What it knows is called its *tape*, and a
# gradient is one walk back along it. Here you look at a tape by hand, see why the walk needs an
# order, write the engine in fifteen lines, and then read the real one, which is not much longer.
#
# The files this is about, in the order to read them afterwards: `core/tensor.py`, `core/op.py`,
# `core/trace.py`, `core/autograd.py`.

# %%
import inspect
from collections import deque
from itertools import permutations

from IPython.display import SVG, Code, Markdown

import tinyinfer as ti

# %% [markdown]
# ## What a tensor knows
#
# Here is one multiplication. `w` is asked to have a gradient, so what is made from it is
# recorded.

# %%
x = ti.tensor([1.0, 2.0, 3.0])
w = ti.tensor(2.0, requires_grad=True)
y = w * x
y

# %% [markdown]
# A `Tensor` has one attribute, `node`. Everything is in there: the operation, what went in, shape
# and dtype (together: the *spec*), and the value.

# %%
n = y.node
print("op     ", n.op)
print("inputs ", [i.value.tolist() for i in n.inputs])
print("spec   ", n.spec)
print("value  ", n.value)

assert n.inputs[0] is w.node and n.inputs[1] is x.node

# %% [markdown]
# The inputs of a node are nodes. `w` and `x` were given and not computed, so theirs have no op
# and no inputs. That is the whole data structure; the file `core/tensor.py` opens with it:
#
#     node ::= (op, inputs, spec, value)

# %%
assert w.node.op is None and w.node.inputs == ()

# %% [markdown]
# ## What recording means
#
# Recording means that the new node keeps its op and its inputs. Nothing else is different: the
# value is computed either way. Nobody asked for a gradient in the first line below, and in the
# second `no_grad` says that nobody will. So the result forgets how it was made, and the inputs
# can be freed.

# %%
plain = 2.0 * x
with ti.no_grad():
    silent = w * x

for t in y, plain, silent:
    print(t.numpy(), t.node.op, len(t.node.inputs), "inputs kept,", f"{t.requires_grad=}")

# %% [markdown]
# ## A tape, by hand
#
# Two more steps, and a function that collects everything behind a tensor. Every node carries a
# number, `born`, counted up as nodes are made. Sorting by it puts the oldest first.

# %%
loss = (y.sin() * y).sum()


def tape(t):
    """The nodes behind a tensor, the oldest first."""
    seen, todo = set(), [t.node]
    while todo:
        n = todo.pop()
        if n not in seen:
            seen.add(n)
            todo.extend(n.inputs)
    return sorted(seen, key=lambda n: n.born)


def show(t):
    number = {n: i for i, n in enumerate(tape(t))}
    for n, i in number.items():
        made = f"{n.op.name}({', '.join(f'%{number[x]}' for x in n.inputs)})" if n.op else "given"
        print(f"%{i} = {made:14} {n.spec!s:12} {n.value}")


show(loss)

# %% [markdown]
# `draw` makes a picture of the same nodes. An input is a funnel; `w` is a cylinder, because it
# can be re-pointed (more on that below); the result has a double line. The sum is two steps:
# `sum` keeps the axis, with size 1, and `reshape` drops it.


# %%
def picture(t, name):
    path = t.draw(f"{name}.svg")
    if path.suffix == ".svg":
        return SVG(filename=str(path))
    return Markdown(
        "**No picture here:** Graphviz's `dot` is missing. Get it with `apt install graphviz` or "
        f"`brew install graphviz`. What it would draw is in `{path}`."
    )


w.name = "w"  # for the picture alone
picture(loss, "first_tape")

# %% [markdown]
# ## One step back
#
# The chain rule for one step $y = f(a, b)$: if $g = \partial L / \partial y$ is known, then
#
# $$\frac{\partial L}{\partial a} = g \, \frac{\partial y}{\partial a}, \qquad
#   \frac{\partial L}{\partial b} = g \, \frac{\partial y}{\partial b}.$$
#
# Each op has that as its method `vjp`, short for vector-Jacobian product: the gradient `g` times
# the matrix of derivatives, without ever making the matrix. These are the rules of `Add` and
# `Sin`, as they stand in `ops/elementwise.py`:

# %%
from tinyinfer.ops.elementwise import Add, Sin

print(inspect.getsource(Add))
print(inspect.getsource(Sin))

# %% [markdown]
# `g` and the results are tensors. So we can call a rule ourselves:

# %%
a = ti.tensor(3.0, requires_grad=True)
one = ti.tensor(1.0)
b = a + a
b.node.op.vjp(one, b, a, a)

# %% [markdown]
# Two gradients arrive, one for each input. Both inputs are `a`, so they have to be added up; the
# derivative of $2a$ is 2.
#
# ## Why a topological sort?
#
# It looks as if one could walk back recursively: compute the gradients of the inputs, go on to
# the inputs. Here is the smallest tape on which this goes wrong. The derivative of $c = 4a$ is 4,
# everywhere.

# %%
a = ti.tensor(3.0, requires_grad=True)
a.name = "a"
b = a + a
c = b + b
picture(c, "why_sort")


# %% [markdown]
# The obvious recursive walk: add what arrives to the node's gradient, and pass the gradient on.


# %%
def back(n, g, *inputs):
    """The rule of one step, in plain numbers. Our steps here are additions: (g, g)."""
    tensors = map(ti.Tensor, inputs)
    return [float(gx) for gx in n.op.vjp(ti.tensor(g), ti.Tensor(n), *tensors)]


def naive(n, g, grads):
    grads[n] = grads.get(n, 0.0) + g
    if n.op:
        for x, gx in zip(n.inputs, back(n, grads[n], *n.inputs)):
            naive(x, gx, grads)
    return grads


wrong = naive(c.node, 1.0, {})[a.node]
print(wrong)
assert wrong == 6.0

# %% [markdown]
# Six, and no error. `b` is visited twice. The first time it has gradient 1 and hands 1 to each of
# its two inputs. The second time it has gradient 2, and hands on 2 each, *which contains the
# first 1 again*.
#
# Then visit each node only once? That is wrong the other way: `b` hands on its gradient before
# all of it has arrived.


# %%
def once(n, g, grads, seen):
    grads[n] = grads.get(n, 0.0) + g
    if n.op and n not in seen:
        seen.add(n)
        for x, gx in zip(n.inputs, back(n, grads[n], *n.inputs)):
            once(x, gx, grads, seen)
    return grads


wrong = once(c.node, 1.0, {}, set())[a.node]
print(wrong)
assert wrong == 2.0


# %% [markdown]
# And if only what *newly* arrived is passed on? Then the result is right: this is the sum over
# all paths from the output to `a`. But each doubling doubles the paths.


# %%
def every_path(n, g, grads):
    grads[n] = grads.get(n, 0.0) + g
    visits = 1
    if n.op:
        for x, gx in zip(n.inputs, back(n, g, *n.inputs)):
            visits += every_path(x, gx, grads)
    return visits


for depth in 2, 4, 8, 12:
    t = a
    for _ in range(depth):
        t = t + t
    grads = {}
    visits = every_path(t.node, 1.0, grads)
    assert grads[a.node] == 2**depth
    print(f"{depth:2} steps: {visits:5} visits, for a tape of {len(tape(t)):2} nodes")


# %% [markdown]
# So each node must hand on once, *and* only when everything has arrived: after all its users. An
# order of the nodes in which that holds is a topological order.
#
# Here is a slightly larger tape, and its gradient in all orders in which its four steps can be
# gone through. $e = c + d = (2a + a) + (2a + 2a)$, so the derivative is 7.


# %%
def backward_in(order, output):
    grads = dict.fromkeys(order, 0.0) | {output: 1.0}
    for n in order:
        for x, gx in zip(n.inputs, back(n, grads[n], *n.inputs)):
            grads[x] = grads.get(x, 0.0) + gx
    return grads[a.node]


b = a + a
c = b + a
d = b + b
e = c + d
steps = {b.node: "b", c.node: "c", d.node: "d", e.node: "e"}
found = {}
for order in permutations(steps):
    where = {n: i for i, n in enumerate(order)}
    users_first = all(where[x] > where[n] for n in steps for x in n.inputs if x in steps)
    label = "".join(steps[n] for n in order)
    found.setdefault((backward_in(order, e.node), users_first), []).append(label)

for (gradient, users_first), orders in sorted(found.items()):
    print(gradient, "users first  " if users_first else "not an order ", *orders)

assert [key for key in found if key[0] == 7.0] == [key for key in found if key[1]]

# %% [markdown]
# The orders with all users first agree, and give what is right. Every other order gives something
# too, and none complains. This makes the mistake hard to notice.
#
# What about going breadth first, level by level from the output? It has the same flaw: a level
# says how *near* the output a user is, and a node can have one near and one far.


# %%
def breadth_first(output):
    order, todo = [], deque([output])
    while todo:
        n = todo.popleft()
        if n.op and n not in order:
            order.append(n)
            todo.extend(n.inputs)
    return order


f = b + (b + b)  # b is one step from the output, and also two
wrong = backward_in(breadth_first(f.node), f.node)
print(wrong, "where f = 3b = 6a")
assert wrong == 2.0

# %% [markdown]
# ## Age is a topological order
#
# Frameworks usually find the order by a depth-first search or by counting users. Here none of
# that is needed. A node is made from nodes that exist already, and it never changes afterwards.
# So every input is older than its users, there can be no cycles, and going *from young to old*
# meets all users first.

# %%
for t in loss, c, e, f:
    assert all(x.born < n.born for n in tape(t) for x in n.inputs)

for t, derivative in (e, 7.0), (f, 6.0):
    from_young_to_old = [n for n in reversed(tape(t)) if n.op]
    print(backward_in(from_young_to_old, t.node))
    assert backward_in(from_young_to_old, t.node) == derivative

# %% [markdown]
# ## The engine in fifteen lines
#
# With the order settled, the rest is bookkeeping: a dictionary of gradients, popped when used.
# Some rules return a function in the place of a gradient that costs work, so that it can be left
# out if nobody wants it; here we always call it.


# %%
def gradients(output):
    """{node: d output / d node} for everything that was given."""
    grads = {output.node: ti.tensor(1.0)}
    for n in reversed(tape(output)):
        if n.op is None or n not in grads:
            continue
        g = grads.pop(n)
        inputs = [ti.Tensor(x) for x in n.inputs]
        for x, gx in zip(n.inputs, n.op.vjp(g, ti.Tensor(n), *inputs)):
            if gx is not None:
                gx = gx() if callable(gx) else gx
                grads[x] = grads[x] + gx if x in grads else gx
    return grads


gradient = gradients(e)[a.node]
print(gradient)

assert gradient.item() == 7.0
assert len(inspect.getsource(gradients).splitlines()) <= 15

# %% [markdown]
# On the first tape it gives almost the right thing:

# %%
ours = gradients(loss)[w.node]
loss.backward()
print("ours:      ", ours.numpy())
print("tinyinfer: ", w.grad.numpy())

# %% [markdown]
# `w` is one number, and `w * x` used it three times: it was *broadcast*. Each use has its own
# gradient, and they have to be added up, as with `a + a`. The engine does this in one place,
# `unbroadcast`, for all ops that say `broadcasts = True`; so no rule has to think of it.

# %%
assert abs(ours.numpy().sum() - w.grad.item()) < 1e-5

# %% [markdown]
# ## The real one
#
# This is the source of `gradients` in `core/autograd.py`, word for word. You know its middle
# already.

# %%
from tinyinfer.core import autograd

source = inspect.getsource(autograd.gradients)
for words in (
    "past =",
    "targets =",
    "path =",
    "grad_mode(create_graph)",
    "grads.pop(n)",
    "mode.origin",
):
    assert words in source
Code(source, language="python")

# %% [markdown]
# What is new, from above:
#
# - **`past`** is our `tape`, and **`targets`** are the nodes whose gradient is wanted; for
#   `backward` these are all leaves that require one.
# - **`path`** are the nodes that lie between a target and the output. A gradient for anything
#   else would be work for nothing. This is where a rule that returned a function is *not* called.
# - **`grad_mode(create_graph)`**: the rules are made of ordinary ops. If these are recorded too,
#   the gradient has a tape of its own, and can be differentiated again.
# - **`grads.pop(n)`**, unless `n` is a target: a gradient that was used is dropped at once.
# - **`mode.origin`** is a note for drawings: to which module a step belongs.
#
# There is no recursion, so a long tape is no problem. A recursive walk would meet Python's limit.

# %%
import sys

t = a
for _ in range(5000):
    t = t * 1.0001
slope = ti.grad(t, a)
print("a chain of", len([n for n in tape(t) if n.op]), "steps; gradient", slope.item())
print("Python's limit for recursion:", sys.getrecursionlimit())

assert abs(slope.item() - 1.0001**5000) < 1e-3

# %% [markdown]
# And a gradient of a gradient, with the same engine: $(a^3)' = 3a^2$ and $(a^3)'' = 6a$, at 3.

# %%
first = ti.grad(a * a * a, a, create_graph=True)
second = ti.grad(first, a)
print(first.item(), second.item())

assert (first.item(), second.item()) == (27.0, 18.0)

# %% [markdown]
# ## Two kinds of handles
#
# Nodes never change. Then how can a weight be trained? By letting a *handle* point to another
# node. There are two kinds of them:
#
# - a `Tensor` names one node for good;
# - a `State` can be re-pointed, with `assign`. `ti.tensor(..., requires_grad=True)` gives one,
#   and so are parameters, running averages, what an optimizer remembers, and the random key.

# %%
w = ti.tensor(3.0, requires_grad=True)
before = w.node
y = w * w

w.assign(10.0)
print(type(w).__name__, w.item(), "- the node that y was made from still says", before.value)

# %% [markdown]
# Now: what is the gradient of `y`? It was computed when `w` was 3, so it is $2 \cdot 3$. The tape
# holds the node, not the handle, and the node still has its value.

# %%
y.backward()
print(w.grad)
assert w.grad.item() == 6.0

# %% [markdown]
# In a framework where `w` is changed *in place*, the 3 would be overwritten, and the gradient
# would be wrong. PyTorch guards against it with a version counter on each tensor: the tape notes
# the number, and backward complains if it has changed. Here nothing recorded is ever overwritten,
# so there is nothing to count.
#
# `y.backward()` adds to `w.grad` because the node remembers its owner. It can be called twice,
# since nothing on the tape is used up.

# %%
y.backward()
print(w.grad)
assert w.grad.item() == 12.0

# %% [markdown]
# That is why a training loop begins each step by setting gradients to `None`:
# `optimizer.zero_grad()`.
#
# ## What an error looks like
#
# Everything here rests on recorded values not changing, so an attempt to change one is refused.
# An error names the rule that was broken, and says what to write in its place.


# %%
def refused(attempt):
    try:
        attempt()
    except ti.TinyinferError as error:
        return print(f"{type(error).__name__}: {error}")
    raise AssertionError("this should have been refused")


t = ti.tensor([1.0, 2.0, 3.0])


def change_an_element():
    t[0] = 1


def change_in_place():
    global w
    w += 1


refused(change_an_element)
refused(change_in_place)
refused(lambda: (w * t).backward())
refused(lambda: ti.tensor([1, 2, 3], requires_grad=True))
refused(lambda: ti.ones(64, 400) @ ti.ones(120, 400))

# %% [markdown]
# Take the one about `backward`: a gradient is the slope of *one* number, and `w * t` has several.
# What the error suggests works:

# %%
(w * t).sum().backward()
print(w.grad)

# %% [markdown]
# Two doors are left through which an array could be changed behind the tape's back: the array
# that a tensor was made from, and the one that `numpy()` gives. The first is copied, and the
# second is read-only.

# %%
import numpy as np

array = np.ones(3)
t = ti.tensor(array)
array[0] = 7.0
print(t)

try:
    t.numpy()[0] = 7.0
except ValueError as error:
    print("NumPy says:", error)

assert t.tolist() == [1.0, 1.0, 1.0]

# %% [markdown]
# ## The same drawing without numbers
#
# One last thing about a node: its value may be missing. A placeholder has none, and what is made
# from it has none either; everything else is the same node with the same op.

# %%
p = ti.placeholder((3,), name="p")
q = (p.sin() * p).sum()
show(q)
assert q.node.value is None

# %%
picture(q, "no_numbers")

# %% [markdown]
# This is a static graph: it can be checked, rewritten and compiled before it runs. *The dynamic
# graph and the static graph are the same drawing; one has its numbers filled in.* The room
# `graph/` is about the other one.
#
# ## To try
#
# 1. What does `naive` give for three doublings, where 8 is right? Say a number first, then run
#    it.
# 2. Make `gradients` above pass the test that it failed: sum what was broadcast. Compare with
#    `unbroadcast` in `core/autograd.py`.
# 3. Open `core/tensor.py` at `class Node`. What would break if `born` were set when a node is
#    first *used*?
#
# Next: [three ways to differentiate a program](02_autodiff_three_ways.ipynb).
