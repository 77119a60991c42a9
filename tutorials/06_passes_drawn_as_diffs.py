# %% [markdown]
# # 6. Passes, drawn as diffs
#
# A graph is a value. A *pass* is a function from graph to graph that changes what is written and
# not what is meant; a compiler is a list of them. Here you meet each pass of tinyinfer with the
# equation it stands for, on the smallest graph that shows it, as a picture of what it removed (red)
# and what it put there (green). Then all of them, on LeNet-5.
#
# The files: `graph/passes/`, one a pass; `graph/history.py`; `graph/analyze.py`.

# %%
import sys
from itertools import count

import numpy as np
from IPython.display import SVG, Markdown

import tinyinfer as ti
from tinyinfer.graph import passes

sys.path.insert(0, "../../models")

# %% [markdown]
# ## A pass in five lines
#
# Nodes never change, so a pass does not change them either: it walks the graph from old to young and
# says of each node what takes its place. `rewrite` does the walking. The rule sees a node whose
# inputs are rebuilt already, and returns another node or tensor, or nothing: then it stays. What no
# result needs any more is gone by itself, for a graph is what lies behind its results.

# %%
from tinyinfer.core.tensor import Node, Tensor
from tinyinfer.graph.passes.rewrite import graph_pass, rewrite
from tinyinfer.ops.elementwise import Exp, Mul


@graph_pass
def one_exp(graph):
    """exp(x) * exp(y) -> exp(x + y)"""

    def rule(n):
        match n:
            case Node(Mul(), (Node(Exp(), (x,)), Node(Exp(), (y,)))):
                return ti.exp(Tensor(x) + Tensor(y))

    return rewrite(graph, rule)


numbers = count()


def show(run, fn, *examples, exact=True, **options):
    """Trace fn, run a pass, check that the values are the same, and draw what it did."""
    before = ti.trace(fn, *examples)
    after = run(before, **options)
    inputs = [x.numpy() for x in examples]
    for a, b in zip(before.run_all(inputs), after.run_all(inputs)):
        assert np.array_equal(a, b) if exact else np.allclose(a, b, rtol=1e-5, atol=1e-6)
    assert after.history[-1].saved != (0, 0, 0) or str(before) != str(after), "it did nothing"
    path = after.history.draw(-1, f"pass_{next(numbers)}.svg")
    if path.suffix != ".svg":
        return Markdown(f"*Graphviz is not installed; what it would draw is in `{path}`.*")
    return SVG(filename=str(path))


x, y = ti.randn(4, 4), ti.randn(4, 4)
show(one_exp, lambda x, y: ti.relu(ti.exp(x) * ti.exp(y)), x, y, exact=False)

# %% [markdown]
# The decorator did the rest. It ran the pass in the graphs inside loops and branches first; every
# graph checks itself when it is made, so a pass that breaks a rule of `graph/verify.py` is found
# at once; and it kept what was there before, which is what the picture compares.
#
# One rule holds for all passes: they keep *values*, not gradients. So differentiate first. The
# gradient is a graph too, and is optimized like any other.
#
# ## Less of the same
#
# **strip**: a step that hands on its input is its input. `detach` is one; its work was done when the
# gradient was taken.

# %%
show(passes.strip, lambda x: ti.exp(x.detach()) + 1.0, x)

# %% [markdown]
# **cse**, common subexpressions: two equal steps on the same inputs are one. Ops are frozen
# dataclasses, so *equal* is Python's `==`, and the pass is a dictionary.

# %%
show(passes.cse, lambda x: ti.exp(x * 2.0) + ti.tanh(x * 2.0), x)

# %% [markdown]
# **fold**: a step on constants is a constant. It is computed now, by the definition of the op.

# %%
scale = ti.tensor([1.0, 2.0, 3.0, 4.0])
show(passes.fold, lambda x: x * ti.sqrt(scale * scale + 1.0), x)

# %% [markdown]
# **dead**: what nothing needs vanishes on any rebuild. This pass finds what is harder to see: a
# branch that is never taken, a result of a loop that nobody reads, and what was carried for it.

# %%
show(passes.dead, lambda x: ti.cond(ti.tensor(True), lambda: ti.relu(x), lambda: x @ x), x)


# %%
def two_sums(x):
    turn = lambda c, row: ((c[0] + row.sum(), c[1] * ti.exp(row).sum()), row)
    return ti.scan(turn, (0.0, 1.0), x)[0][0]


show(passes.dead, two_sums, x)

# %% [markdown]
# ## Algebra
#
# **simplify** is a table of equations, one a line, each with its comment, tried until none fits.
# Some are as you would expect; some replace a whole subgraph by the one op that means it. That is
# faster, and often better: `log(softmax(x))` is minus infinity where `log_softmax(x)` is -100.

# %%
show(passes.simplify, lambda x: ti.relu(x * 1.0 + 0.0).mT.mT, x)

# %%
show(
    passes.simplify,
    lambda x: ti.log(ti.exp(x) / ti.exp(x).sum(1, keepdim=True)),
    x,
    exact=False,
)

# %% [markdown]
# **strength**: a dear step becomes a cheap one. Dividing costs many times what multiplying does; so
# for constants the reciprocal is taken once.

# %%
show(passes.strength, lambda x: x**2.0 / 3.0, x, exact=False)

# %% [markdown]
# **batch_norm**: in use, a batch norm is a line for each channel, and so is a convolution. One line
# after the other is a line:
#
# $$ s\,(w * x + b - \mu) + \beta = (s\,w) * x + s\,(b - \mu) + \beta,
#    \qquad s = \gamma / \sqrt{\sigma^2 + \epsilon}. $$
#
# The new weights are steps of the graph, made of States. They are in the *prologue* that `split`
# takes out, and which runs again only when one of those States is assigned to: a folded network
# never goes stale.

# %%
from tinyinfer import nn

image = ti.randn(1, 3, 8, 8)
block = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
for _ in range(3):
    block(image * 3.0 + 1.0)  # so that its statistics are not 0 and 1
block.eval()
show(passes.batch_norm, block, image, exact=False)

# %%
prologue, body = passes.split(passes.batch_norm(ti.trace(block, image)))
print([n.op.name for n in prologue.steps])
print([n.op.name for n in body.steps])

# %% [markdown]
# ## Moving
#
# **move**: a transpose computes nothing, but it stands between steps that could be one loop. It
# moves past elementwise steps towards the result, and where it meets its inverse, both are gone. The
# other way go steps that make less: `relu` after the pool has a quarter of the work, and the same
# result, since it never changes which of four numbers is the largest.

# %%
show(passes.move, lambda x: ti.relu(x.mT * 2.0).mT, x)

# %%
show(passes.move, lambda x: ti.max_pool2d(ti.relu(x), 2), image)

# %% [markdown]
# **layout**: an image is stored channel by channel, NCHW, or with its channels innermost, NHWC, or in
# blocks of channels that fill a vector register. Here the layout of an op is written in the graph,
# and so is each change of it. The pass puts a change before and after each op over images, moves them
# along, and cancels pairs: what stays stands at the ends.

# %%
convs = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.MaxPool2d(2))
show(passes.layout, convs, image, exact=False, to="NHWC")

# %% [markdown]
# ## Loops
#
# **unroll**: a scan of few turns becomes its turns. More steps, but no loop around them, and the
# other passes can work across turns.

# %%
show(
    passes.unroll, lambda x: ti.scan(lambda h, row: (ti.tanh(h + row), None), ti.zeros(4), x)[0], x
)

# %% [markdown]
# **fuse** is about memory. Elementwise steps do little with each number, and spend their time
# fetching and storing it. Steps that one loop nest can do become one step, which carries the small
# graph of what it fuses: its definition is to run that.

# %%
show(passes.fuse, lambda x, y: ti.relu(x @ y + 1.0) * 2.0 + x, x, y)

# %% [markdown]
# **in_place** marks steps that may write their result over an input, because nobody needs that input
# afterwards. `relu` cannot overwrite `x`, which belongs to the caller, but the sum before it.

# %%
show(passes.in_place, lambda x: ti.relu(x + 1.0) @ x, x)

# %% [markdown]
# ## All of them, on LeNet-5
#
# `ti.optimize(graph)` is the standard pipeline; `passes=[...]` is any other. The history says what
# each pass left: steps, operations, and bytes that go through memory.

# %%
import lenet

model = lenet.build().eval()
images = ti.randn(16, *lenet.input_shape)
graph = ti.trace(model, images)
fast = ti.optimize(graph)
print(fast.history)
np.testing.assert_allclose(
    fast.run(images.numpy()), graph.run(images.numpy()), rtol=1e-4, atol=1e-5
)

# %% [markdown]
# Each layer is one step now: convolution, bias, activation and pool.

# %%
print(fast)

# %%
path = fast.history.draw("fuse", "lenet_fuse.svg")
SVG(filename=str(path)) if path.suffix == ".svg" else path

# %% [markdown]
# ## Where the time has to go
#
# What is a step bound by? It has to do its FLOPs, and to move its bytes. FLOPs per byte, its
# *arithmetic intensity*, says which of the two lasts longer on a given machine: below the corner of
# the roof the memory, beyond it the arithmetic (Williams, Waterman and Patterson 2009).

# %%
print(ti.analyze(fast))

# %%
path = ti.analyze(fast).draw("lenet_roofline.svg")
SVG(filename=str(path))

# %% [markdown]
# The articles say that 80 to 90 % of the work of a network are multiplications with an addition. For
# LeNet-5 it is more:

# %%
share = ti.analyze(graph).mac_share
print(f"{share:.1%} of the FLOPs are MACs")
assert share > 0.9

# %% [markdown]
# ## What to remember
#
# - A pass is a function from graph to graph; most are a rule about one node.
# - Since each keeps the values, they can be tested one by one and in any order, on random graphs:
#   `tests/graph/test_random_graphs.py` does.
# - FLOPs hardly change. What a compiler saves in a small network is memory traffic, and steps.
