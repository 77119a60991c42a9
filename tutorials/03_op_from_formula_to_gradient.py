# %% [markdown]
# # 3. An op, from the formula to the gradient
#
# An operation in tinyinfer is one small class: what shapes it takes, what it computes, what its
# derivative is, what it costs. Here you make one that the package does not have, with every step
# that a real one needs: the derivation on paper, errors that teach, a check that can fail, and
# the proof that one rule serves everywhere.
#
# The op is *swish* with a learned slope (Ramachandran, Zoph and Le 2017):
#
# $$y = x \, \sigma(\beta x), \qquad \sigma(z) = \frac{1}{1 + e^{-z}}.$$
#
# With $\beta = 1$ it is `ti.silu`. With $\beta = 0$ it is the line $x / 2$, and for large $\beta$
# it comes close to `relu`; so $\beta$ says how sharp the bend is, and a network can learn it.

# %%
import inspect
from math import prod

import matplotlib.pyplot as plt
import numpy as np

import tinyinfer as ti
from tinyinfer import nn, optim
from tinyinfer.core.op import Op, watchers
from tinyinfer.core.spec import broadcast, spec_of
from tinyinfer.ops.activation import Sigmoid

# %% [markdown]
# ## The derivative, on paper
#
# Let $s = \sigma(\beta x)$. The derivative of the logistic function is known:
# $\sigma' = \sigma (1 - \sigma)$. By the product rule and the chain rule
#
# $$\frac{\partial y}{\partial x} = s + x \, s (1 - s) \, \beta, \qquad
#   \frac{\partial y}{\partial \beta} = x \, s (1 - s) \, x.$$
#
# Now look for what is computed already. $x s$ is $y$. With $t = y (1 - s)$
#
# $$\frac{\partial y}{\partial x} = s + \beta t, \qquad \frac{\partial y}{\partial \beta} = x t.$$
#
# If $g$ arrives at $y$, then $g (s + \beta t)$ arrives at $x$, and $g x t$ at $\beta$.
#
# ## The class
#
# Four methods, in the letters of the formula.


# %%
class Swish(Op):
    """y = x sigmoid(beta x)"""

    elementwise = True
    broadcasts = True

    def infer(self, x, beta):
        if not x.floating:
            raise ti.DTypeError(f"swish: of floats, not of {x}: write x.astype('float32')")
        y = broadcast(x, beta, self.name)
        if y.shape != x.shape:
            raise ti.ShapeError(
                f"swish: beta {beta.shape} would make x {x.shape} larger: give beta one number, or "
                "one for each channel, or one for each element of x"
            )
        return y

    def forward(self, x, beta):
        return x * Sigmoid().forward(beta * x)

    def vjp(self, g, y, x, beta):
        s = ti.sigmoid(beta * x)
        t = y * (1.0 - s)
        return lambda: g * (s + beta * t), lambda: g * x * t

    def flops(self, y, x, beta):
        return 5 * prod(y.shape)


swish = Swish()
swish(ti.tensor([-2.0, 0.0, 2.0]), 1.0)

# %% [markdown]
# An op without attributes is made once, and the object *is* the function. It needs no `__init__`:
# every subclass of `Op` becomes a frozen dataclass. So equal ops are equal, can be keys, and
# print as they are written. An op with attributes shows it better:

# %%
from tinyinfer.ops.activation import LeakyRelu

print(LeakyRelu(slope=0.1), LeakyRelu(0.1) == LeakyRelu(0.1), LeakyRelu(0.1) == LeakyRelu(0.2))
assert swish == Swish() and hash(swish) == hash(Swish()) and swish.name == "swish"

# %% [markdown]
# ## `infer`: shapes, dtypes, and every error
#
# `infer` sees no numbers, only specs. So it can run where there are none, on a graph that is only
# drawn, and the error is the same:


# %%
def error_of(attempt):
    try:
        attempt()
    except ti.TinyinferError as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError("this should have been refused")


eager = error_of(lambda: swish(ti.ones(3), ti.ones(2, 3)))
drawn = error_of(lambda: swish(ti.placeholder((3,)), ti.ones(2, 3)))
print(eager)
assert eager == drawn


# %% [markdown]
# Two more. The last one comes from `broadcast`, which all ops share.


# %%
def refused(attempt):
    print(error_of(attempt))


refused(lambda: swish(ti.arange(3), 1.0))
refused(lambda: swish(ti.ones(8, 3, 4, 4), ti.ones(3)))

# %% [markdown]
# A good error has three parts: the rule, what was met, and what to write instead.
#
# What `infer` promises, `forward` has to keep. This is the first test that every op gets:

# %%
for dtype in "float32", "float64":
    for shape, beta_shape in (
        ((3,), ()),
        ((2, 3), (3,)),
        ((4, 3, 2, 2), (3, 1, 1)),
        ((0, 3), (1, 3)),
    ):
        x, beta = np.ones(shape, dtype), np.ones(beta_shape, dtype)
        assert spec_of(swish.compute(x, beta)) == swish.infer(spec_of(x), spec_of(beta))

# %% [markdown]
# ## `forward`: the definition
#
# It is NumPy, works on arrays, and knows nothing of tapes. It is the definition, and the oracle
# of any faster kernel. So it should be right before it is fast. Why `Sigmoid().forward`, and not
# the formula? Because the formula overflows, in a place where the result is a plain 0:

# %%
x = np.float32([-200.0])
with np.errstate(over="ignore"):
    print("exp:", np.exp(-x), " formula:", 1 / (1 + np.exp(-x)), " op:", Sigmoid().forward(x))

print(inspect.getsource(Sigmoid.forward))

# %% [markdown]
# ## `flops`: what it costs
#
# One multiplication, a sigmoid (counted as three operations), one more multiplication. `watchers`
# see every op that is computed, so we can let the composition of existing ops count itself:


# %%
def watched(fn):
    """The ops that are computed when fn runs, and what they cost together."""
    seen = []
    watch = lambda op, xs, y: seen.append((op, op.flops(spec_of(y), *map(spec_of, xs))))
    watchers.append(watch)
    try:
        fn()
    finally:
        watchers.remove(watch)
    return [op.name for op, _ in seen], sum(cost for _, cost in seen)


x, beta = ti.randn(10), ti.ones(10)
composed = watched(lambda: x * ti.sigmoid(beta * x))
ours = watched(lambda: swish(x, beta))
print(composed, ours, sep="\n")
assert composed[1] == ours[1]

# %% [markdown]
# The composition would be right too, with gradients and all. Then why an op? It is one step in
# the place of three: fewer things on the tape, fewer arrays kept, and a name that a pass or a
# kernel can look for.
#
# ## Is the gradient right?
#
# `gradcheck` compares with central differences, in float64 (in float32 the differences would be
# rounding errors). For order 2 it takes the gradients as functions, and checks *their* gradients.

# %%
rng = np.random.default_rng(0)
X = rng.standard_normal((2, 3, 4))
BETA = rng.uniform(0.5, 2.0, (3, 1))

assert ti.testing.gradcheck(swish, [X, BETA], order=2)
assert ti.testing.gradcheck(swish, [X, np.array(-0.7)], order=2)


# %% [markdown]
# Silence is a weak argument. Does the check see a mistake? A likely one: forgetting that the
# inner derivative has a factor $\beta$.


# %%
class WithoutBeta(Swish):
    def vjp(self, g, y, x, beta):
        s = ti.sigmoid(beta * x)
        t = y * (1.0 - s)
        return lambda: g * (s + t), lambda: g * x * t


refused(lambda: ti.testing.gradcheck(WithoutBeta(), [X, BETA]))

# %% [markdown]
# Caught. And now the same mistake, at a point that somebody chose because it is simple:

# %%
assert ti.testing.gradcheck(WithoutBeta(), [X, np.ones(())], order=1)

# %% [markdown]
# It passes: with $\beta = 1$ the forgotten factor is 1. *A check is made at a point, so let the
# point be arbitrary.* That is why the samples in `tests/samples.py` are random numbers, away from
# corners.
#
# ## Why is the rule written in ops?
#
# Here is the same rule in NumPy. It is right, and would be a little faster.


# %%
class InNumpy(Swish):
    def vjp(self, g, y, x, beta):
        g, y, x, beta = (v.numpy() for v in (g, y, x, beta))
        s = Sigmoid().forward(beta * x)
        t = y * (1 - s)
        return ti.tensor(g * (s + beta * t)), ti.tensor(g * x * t)


assert ti.testing.gradcheck(InNumpy(), [X, BETA], order=1)
refused(lambda: ti.testing.gradcheck(InNumpy(), [X, BETA], order=2))

# %% [markdown]
# The first order is right. But the gradient has no tape: nobody knows any more how it depends on
# `x`, and its own gradient comes out as zero. On a graph without numbers the rule could not even
# run.
#
# Written in ops, the one rule serves three times.
#
# **Eagerly**, these ops are computed on the way back:

# %%
x = ti.tensor(X, requires_grad=True)
beta = ti.tensor(BETA, requires_grad=True)
y = swish(x, beta).sum()

eagerly, _ = watched(lambda: ti.grad(y, [x, beta]))
print(*eagerly)


# %% [markdown]
# **Traced**, the same ops become steps of a graph: forward, and the way back. Two `detach` come after
# them: these gradients were not asked to have gradients of their own, and the graph says so.


# %%
def value_and_gradients(x, beta):
    y = swish(x, beta).sum()
    return y, *ti.grad(y, [x, beta])


graph = ti.trace(value_and_gradients, x, beta)
print(graph)

assert [*eagerly, "detach", "detach"] == [n.op.name for n in graph.steps[-len(eagerly) - 2 :]]
for a, b in zip(graph.run(X, BETA), (y, *ti.grad(y, [x, beta]))):
    np.testing.assert_array_equal(a, b.numpy())

# %% [markdown]
# **Once more**, the gradient is differentiated: that is what order 2 above has checked. Here it
# draws the curves. None of the three panels needed a formula besides the rule.

# %%
z = ti.tensor(np.linspace(-5, 5, 201), requires_grad=True)
figure, panels = plt.subplots(1, 3, figsize=(10, 3.2), sharex=True, layout="constrained")
for slope, colour in zip((0.0, 0.5, 1.0, 3.0), ("0.6", "tab:blue", "tab:orange", "tab:red")):
    y = swish(z, slope)
    first = ti.grad(y.sum(), z, create_graph=True)
    second = ti.grad(first.sum(), z)
    for panel, curve in zip(panels, (y, first, second)):
        panel.plot(z.numpy(), curve.numpy(), color=colour, label=f"β = {slope:g}")
for panel, title in zip(panels, ("swish", "first derivative", "second derivative")):
    panel.set_title(title)
    panel.grid(alpha=0.3)
panels[0].legend(frameon=False)
plt.show()

# %% [markdown]
# ## Broadcasting, undone once
#
# `beta` had shape (3, 1), and was used for all of (2, 3, 4). The rule does not care: what it
# gives for `beta` has the shape of `x`. A number that was used many times collects the sum of its
# gradients, and the engine sees to it for all ops that say `broadcasts = True`.

# %%
g = ti.ones(*X.shape).double()
by_rule = swish.vjp(g, swish(x, beta), x, beta)[1]()
by_engine = ti.grad(swish(x, beta).sum(), beta)
print("the rule:  ", by_rule.shape)
print("the engine:", by_engine.shape)

np.testing.assert_allclose(by_rule.numpy().sum((0, 2))[:, None], by_engine.numpy())


# %% [markdown]
# Without the flag the gradient keeps the wrong shape:


# %%
class Unmarked(Swish):
    broadcasts = False


print(ti.grad(Unmarked()(x, beta).sum(), beta).shape, "is no gradient of a", beta.shape)
refused(lambda: ti.testing.gradcheck(Unmarked(), [X, BETA]))

# %% [markdown]
# ## A gradient that nobody wants
#
# The rule returned two *functions*. The engine calls the one for an input only if a gradient
# travels on from there. When `beta` is fixed, its part of the work is not done:

# %%
fixed = ti.tensor(BETA)
both, cost = watched(lambda: ti.grad(swish(x, beta).sum(), [x, beta]))
alone, less = watched(lambda: ti.grad(swish(x, fixed).sum(), x))
print(f"both: {cost} operations,", *both)
print(f"x alone: {less} operations,", *alone)
assert less < cost and len(alone) < len(both)

# %% [markdown]
# For a convolution this is the difference between one large product and two: the gradient by the
# image is not needed in the first layer. When a gradient costs next to nothing, a rule may return
# it as it is; `Add` returns `g, g`.
#
# ## In use
#
# A layer with one $\beta$ for each channel. As a test, three channels of data that were made with
# known slopes. Can it find them?


# %%
class LearnedSwish(nn.Module):
    def __init__(self, channels):
        self.beta = nn.Parameter(np.ones(channels, np.float32))

    def forward(self, x):
        return swish(x, self.beta)


true = np.float32([0.3, 1.5, 3.0])
ti.manual_seed(0)
x = ti.randn(256, 3)
target = swish(x, true)
layer = LearnedSwish(3)
optimizer = optim.Adam(layer.parameters(), lr=0.05)
path = []
for _ in range(400):
    optimizer.zero_grad()
    loss = ti.mse_loss(layer(x), target)
    loss.backward()
    optimizer.step()
    path.append(layer.beta.tolist())

print("found", np.round(path[-1], 3), "true", true)
np.testing.assert_allclose(path[-1], true, rtol=0.05)

# %%
figure, panel = plt.subplots(figsize=(6, 3), layout="constrained")
panel.plot(path, label=["channel 0", "channel 1", "channel 2"])
for value in true:
    panel.axhline(value, color="0.6", linestyle=":", zorder=0)
panel.set(xlabel="step", ylabel="β", title="The slopes that the data was made with, found again")
panel.legend(frameon=False, loc=(0.76, 0.5))
plt.show()

# %% [markdown]
# ## Into the package
#
# To make this op a part of tinyinfer takes three places:
#
# 1. the class, in `ops/activation.py`, beside `Silu`;
# 2. the name `swish`, in `ops/__init__.py`;
# 3. one entry in `tests/samples.py`, from which every op gets the same tests: `infer` against
#    `forward`, eager against traced, gradients to order 2, the count of operations, and the
#    refusals with their words:
#
# ```python
# entry(ti.swish, call(A(2, 3, 4), P(3, 1)), call(A(5), P()),
#       refused=[(DTypeError, "astype('float32')", call(I(4, 3), P())),
#                (ShapeError, "would make x (3,) larger", call(A(3), P(2, 3)))])
# ```
#
# ## To try
#
# 1. Write `Mish`, $y = x \tanh(\log(1 + e^x))$. First on paper: which parts of `forward` does the
#    derivative use again?
# 2. Change `flops` to `4 *`. Which cell of this page notices?
# 3. In `vjp`, replace `y` by `x * s`. Is it still right? What is the difference on the tape of
#    the gradient?
#
# Next: [LeNet on digits](04_lenet_on_digits.ipynb).
