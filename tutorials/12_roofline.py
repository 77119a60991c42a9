# %% [markdown]
# # 12. Is it MAC-bound?
#
# People count the multiply-adds of a network, its MACs, and speak as if that were its time. Is it?
# In this lesson you measure where the time goes: what the machine could do at best, what each step
# does of that, and what stands in its way. There are only three things that can: the arithmetic,
# the memory, and everything that is neither. One picture shows all of them, the *roofline*
# (Williams, Waterman and Patterson 2009).
#
# The files this is about: `runtime/machine.py`, `graph/analyze.py`, `runtime/profile.py`,
# `draw/roofline.py`.

# %%
import os
import sys
import tempfile
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import SVG, Markdown
from matplotlib.ticker import LogLocator, NullFormatter
from numba import njit

import tinyinfer as ti
from tinyinfer import nn, optim
from tinyinfer.draw.roofline import label
from tinyinfer.draw.style import AMBER, BLUE, FAINT, GREEN, INK, MUTED, SHEET, VIOLET
from tinyinfer.runtime import peak
from tinyinfer.runtime.machine import machine

sys.path.insert(0, "../../models")
import lenet
import mlp

ti.set_num_threads(1)
ti.manual_seed(0)
plt.rcParams.update(SHEET | {"axes.titlesize": 10, "axes.titleweight": "normal"})


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return Markdown("\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines))


# %% [markdown]
# ## The machine
#
# Two numbers are enough to begin with. The *peak*: how many operations a second one core does if
# it does nothing else (lesson 10). And the *bandwidth*: how many bytes a second come from memory
# and go there. `tinyinfer bench machine` measures both, and keeps what it found for plans and
# profiles. (What is measured in a lesson, perhaps beside other programs, should not be kept: so it
# goes to a folder of our own, if you have not done so.)

# %%
if machine().assumed:
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp()
peak.float_loop(1), peak.int8_loop(1)  # compiled before somebody looks at the clock
here = machine(measure=True)
print(here)

# %% [markdown]
# Look at *balance*: so many operations have to be done with each byte, or else the arithmetic waits.
# A number of four bytes that comes from memory should take part in so many times four operations.
# Most numbers in a network do not.
#
# That is why there are caches. How fast are these? Copy arrays of many sizes, again and again:


# %%
@njit
def to_and_fro(turns, x, y):
    for _ in range(turns):
        for i in range(x.size):
            x[i] = y[i]
        for i in range(x.size):
            y[i] = x[i]


def bandwidth(size):
    """Bytes a second, read and written, of two arrays that have so many bytes together."""
    x, y = np.zeros((2, size // 8), np.float32)
    turns, best = max(1, (1 << 21) // size), np.inf
    to_and_fro(1, x, y)
    for _ in range(8):
        start = perf_counter()
        to_and_fro(turns, x, y)
        best = min(best, perf_counter() - start)
    return 2 * turns * size / best


SIZES = [1 << i for i in range(13, 28)]
found = [max(bandwidth(size) for _ in range(3)) for size in SIZES]


def told(size):
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"


figure, ax = plt.subplots(figsize=(7.4, 2.8), layout="constrained")
ax.plot(SIZES, np.array(found) / 1e9, "o-", color=BLUE.line, markersize=4)
ax.axhline(here.bandwidth / 1e9, color=INK, linewidth=1)
ax.annotate("memory, as measured above", (SIZES[0], here.bandwidth / 1e9), (0, 4),
            textcoords="offset points", fontsize=8)  # fmt: skip
ax.set_xscale("log", base=2)
ax.set_xticks(SIZES[::2], [told(size) for size in SIZES[::2]])
ax.set_ylim(0)
ax.grid(axis="y", color=FAINT, linewidth=0.6)
ax.set(xlabel="bytes that are in use")
ax.set_title("GB/s, read and written")
plt.show()

# %% [markdown]
# Each stair is a cache that has become too small. So there is not one bandwidth, there is one for
# each place where numbers can be. We remember two of them, for arrays that fit into the first and
# into the second cache of most machines:

# %%
near = {told(size): found[SIZES.index(size)] for size in (1 << 14, 1 << 18)}
print({place: f"{rate / 1e9:.0f} GB/s" for place, rate in near.items()})

# %% [markdown]
# ## The roof
#
# A step of $F$ operations that moves $B$ bytes takes no less than $F / \text{peak}$, and no less
# than $B / \text{bandwidth}$. So its operations a second are at most
#
# $$\min \bigl( \text{peak}, \; \text{bandwidth} \cdot F / B \bigr),$$
#
# and the only thing about the step that counts is $F / B$, its *arithmetic intensity*. Draw that
# with logarithmic scales: a slope, an edge, and a flat part. What is left of the edge is bound by
# memory, and what is right of it by compute.
#
# All of this is known before anything runs, from shapes alone:

# %%
model = lenet.build().eval()
images = {n: ti.randn(n, *lenet.input_shape) for n in (1, 64)}
analysis = ti.analyze(ti.trace(model, images[1]))
print(analysis)

# %%
SVG(filename=str(analysis.draw("roofline_lenet.svg", peak=here.peak, bandwidth=here.bandwidth)))

# %% [markdown]
# The convolutions are near the edge: each number of a filter is used for many pixels. The linear
# layers are on the slope: each weight is used once. And that would be the end of it, if everything
# were as good as it can be.
#
# ## Where it is
#
# `compiled.profile(x)` measures. It runs the plan step by step, with the kernels that the compiled
# function has, and looks at the clock between them. Each row has the FLOPs of the definition, the
# rates that follow, which side of the edge the step is on, and which share of its roof it reached.


# %%
def profile(f, *args, runs=60, **options):
    compiled = ti.compile(f, **options)
    with ti.no_grad():
        return compiled.profile(*args, runs=runs)


profiles = {n: profile(model, x) for n, x in images.items()}
print(profiles[1])

# %%
print(profiles[64])

# %% [markdown]
# Now put what was measured under the roof. A dot is a step, as large as its share of the time. The
# thin lines are the slopes of the caches. How far a dot is below the roof is what was lost.


# %%
def name_of(row):
    calls = row.step.node.origin.calls
    path, named, _ = (calls and calls[-1].title or "").partition(": ")
    return path if named and row.step.macs else row.step.op


def colour_of(row):
    return (AMBER if row.step.macs else BLUE).line


def points_of(profile, name=name_of, colour=colour_of):
    """(name, intensity, GFLOP/s, share of the time, colour) of the steps that compute."""
    return [
        (name(row), row.step.intensity, row.gflops, row.share, colour(row))
        for row in profile.rows
        if row.step.flops and row.step.bytes
    ]


def roof(ax, points, title=""):
    """The roof over these points, which are drawn; their names are written later."""
    _, x, y, share, colours = zip(*points)
    low, high = min(*x, 0.5) / 2.5, max(*x, here.balance) * 4
    floor, top = min(*y, here.bandwidth * low / 1e9) / 2, 3 * max(here.peak / 1e9, *y)
    edge = np.array([low, here.balance, high])
    ax.plot(edge, np.minimum(here.peak, here.bandwidth * edge) / 1e9, color=INK, linewidth=2)
    for rate in near.values():
        edge = np.array([low, max(low, here.peak / rate)])
        ax.plot(edge, np.minimum(here.peak, rate * edge) / 1e9, color=MUTED, linewidth=0.8)
    ax.scatter(x, y, 700 * np.array(share) + 14, colours, alpha=0.75, linewidths=0, zorder=3)
    ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(floor, top))
    ax.set(xlabel="FLOP for each byte moved", ylabel="GFLOP/s")
    for axis in ax.xaxis, ax.yaxis:
        axis.set_major_locator(LogLocator())
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    ax.grid(color=FAINT, linewidth=0.6)
    ax.set_title(title)


def names(ax, points, most):
    """Of those that take most time, near them, where there is room; and of the slopes."""
    some = sorted((p for p in points if p[0]), key=lambda p: -p[3])
    at = np.array([p[1:3] for p in some])
    radii = np.sqrt(700 * np.array([p[3] for p in some]) + 14) / 2
    label(ax, at, radii, [p[0] for p in some[:most]])
    for place, rate in (near | {"memory": here.bandwidth}).items():
        begin = np.array([1, rate / 1e9]) * ax.get_xlim()[0] * 1.08
        (x, y), (x2, y2) = ax.transData.transform([begin, 2 * begin])
        ax.annotate(place, begin, (-1, 4), textcoords="offset points", fontsize=6.5, color=MUTED,
                    rotation=np.degrees(np.arctan2(y2 - y, x2 - x)), rotation_mode="anchor",
                    in_layout=False)  # fmt: skip


def picture(sets, height=3.7, most=9):
    """{title: points} side by side; so many of them have names."""
    figure, axes = plt.subplots(
        1, len(sets), figsize=(4.6 * max(len(sets), 1.4), height), layout="constrained"
    )
    axes = np.ravel(axes)
    for ax, (title, points) in zip(axes, sets.items()):
        roof(ax, points, title)
    for ax, points in zip(axes, sets.values()):
        names(ax, points, most)
    return axes


picture({f"LeNet-5, {n} image{'s' * (n > 1)}": points_of(p) for n, p in profiles.items()})
plt.show()

# %% [markdown]
# With 64 images the convolutions touch the roof; that is what lesson 10 was about. The linear
# layers have moved to the right: each weight is used 64 times now. The large one is near the roof,
# too.
#
# With one image nearly all dots are lower. Some are *above* the slope of the memory: their weights
# are in a cache since the last call. (In a program that does other things between two calls they
# are not.) And some are below every line. These are too small: what they wait for is neither
# arithmetic nor memory.
#
# ## The third bound
#
# To begin takes time: a call, loops that start, a last part that does not fill a register. How long
# does it take to do nothing?

# %%
nothing = profile(ti.relu, ti.randn(1), runs=300).seconds
small = ti.compile(model)
with ti.no_grad():
    small(images[1])
    spans = []
    for _ in range(30):
        start = perf_counter()
        for _ in range(20):
            small(images[1])
        spans.append((perf_counter() - start) / 20)
p = profiles[1]
machine_time = sum(max(r.step.flops / here.peak, r.step.bytes / here.bandwidth) for r in p.rows)
rows = [
    ("one step that does nothing, as a profile sees it", nothing),
    (f"all {len(p.rows)} steps of LeNet, in a profile", p.seconds),
    ("less what doing nothing takes", p.seconds - len(p.rows) * nothing),
    ("a call of the compiled function, in all", np.median(spans)),
    ("its MACs, at the peak", 2 * p.macs / here.peak),
    ("the sum of what the roof allows its steps", machine_time),
]
table(["one image", "µs"], [[name, f"{1e6 * t:.2f}"] for name, t in rows])

# %% [markdown]
# A profile calls each step from Python and looks at the clock twice: this is part of every row, and
# for the short steps it is most of it. In the compiled function there is no Python between the steps
# (lesson 11), so the whole call may well take less than the steps of its profile together. Trust a
# profile for steps of ten microseconds and more; for shorter ones compare them with one that does
# nothing.
#
# (And the sum of the roofs can be more than the call took. The roof takes bytes from memory; here
# they were in a cache.)
#
# ## So, is it?
#
# One can mean three things by "MAC-bound".
#
# 1. *Nearly all operations are MACs.* That is true of nearly every network, and says nothing.
# 2. *Nearly all time is spent in steps with MACs.* This is what profiles show. But a step with MACs
#    may wait for memory all the time.
# 3. *Its time is what the MACs take at the peak.* Only then would fewer MACs make it faster, and
#    nothing else would.

# %%
net = lenet.build()
optimizer = optim.SGD(net.parameters(), lr=0.01, momentum=0.9)


def train(x, labels):
    optimizer.zero_grad()
    loss = ti.cross_entropy(net(x), labels)
    loss.backward()
    optimizer.step()
    return loss


training = ti.compile(train)
training = training.profile(images[64], ti.tensor(np.arange(64) % 10), runs=30)
perceptron = mlp.build().eval()
digits = {n: ti.randn(n, *mlp.input_shape) for n in (1, 64)}
works = {f"LeNet-5, {n}": p for n, p in profiles.items()}
works |= {f"MLP, {n}": profile(perceptron, x) for n, x in digits.items()}
works["LeNet-5, 64, training"] = training


def at_peak(p):
    """The share of the time that the MACs would take at the peak."""
    return 2 * p.macs / here.peak / p.seconds


head = "", "MACs, of the FLOPs", "steps with MACs, of the time", "MACs at the peak, of the time"
shares = {name: (p.mac_share, p.mac_time_share, at_peak(p)) for name, p in works.items()}
table(head, [[name, *(f"{x:.0%}" for x in each)] for name, each in shares.items()])

# %%
LOOK = {
    "MACs at the peak": AMBER.line,
    "what else steps with MACs take": AMBER.fill,
    "steps without MACs": BLUE.fill,
}
figure, ax = plt.subplots(figsize=(7.4, 2.9), layout="constrained")
for i, (_, with_macs, best) in enumerate(reversed(shares.values())):
    left = 0
    best = min(best, with_macs)
    for width, colour in zip((best, with_macs - best, 1 - with_macs), LOOK.values()):
        ax.barh(i, width, left=left, color=colour, height=0.66, edgecolor=MUTED, linewidth=0.5)
        left += width
ax.set_yticks(range(len(shares)), [*reversed(shares)], color=INK)
ax.set(xlim=(0, 1))
ax.xaxis.set_major_formatter("{x:.0%}")
ax.tick_params(axis="y", length=0)
ax.spines[:].set_visible(False)
ax.set_title("where the time of the steps goes")
keys = [plt.Rectangle((0, 0), 1, 1, color=c) for c in LOOK.values()]
figure.legend(keys, [*LOOK], loc="outside lower left", ncols=3, frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# LeNet with 64 images is MAC-bound in each sense: the only way to make it faster is to multiply
# less. With one image it is not; there the same MACs take a small part of the time. The training
# step is between them, and we come back to it.
#
# ## One image or many: the memory
#
# Take a layer of 4096 × 4096 weights, 64 MiB: no second cache holds that. Each weight is four
# bytes, and does two operations for each image. So for one image the intensity is ½, whatever you
# do; for $n$ images, nearly $n / 2$. In theory the dots walk up the slope, and along the roof:

# %%
layer = nn.Linear(4096, 4096).eval()
walk = []
for n in 1, 2, 4, 8, 16, 32, 64, 128:
    compiled, x = ti.compile(layer), ti.randn(n, 4096)
    with ti.no_grad():
        compiled(x)
        best = np.inf
        for _ in range(5):
            start = perf_counter()
            compiled(x)
            best = min(best, perf_counter() - start)
    step = ti.analyze(compiled.graph)
    walk.append((f"{n}", step.intensity, step.flops / best / 1e9, 0.02, AMBER.line, best))
points = [p[:5] for p in walk]
(ax,) = picture({"a layer of 4096 × 4096 weights, and so many images": points}, height=3.5)
ax.plot(*zip(*(p[1:3] for p in points)), color=AMBER.line, linewidth=1, zorder=1)
plt.show()

# %%
rows = [[p[0], f"{1e3 * p[5]:.2f}", f"{1e3 * p[5] / int(p[0]):.2f}"] for p in walk]
table(["images", "ms", "ms an image"], rows)

# %% [markdown]
# On the slope more images cost nearly nothing: the weights come from memory anyway. So who serves a
# large model lets requests wait for each other, and a language model that writes one word at a time
# is as fast as its memory. There, too, you see what quantising is for: weights of one byte are four
# times the intensity, before any arithmetic has become faster.
#
# The MLP of 784-256-10 has the same shape and is small: its 800 KB stay in a cache. It walks up
# another slope.

# %%
picture({f"MLP, {n} image{'s' * (n > 1)}": points_of(works[f"MLP, {n}"]) for n in (1, 64)}, 3.4)
plt.show()

# %% [markdown]
# ## Dense or depthwise
#
# MobileNet (Howard et al. 2017) takes convolutions apart: one filter for each channel, *depthwise*,
# and then a 1 × 1 convolution, *pointwise*, to mix the channels. The depthwise one has a
# sixty-fourth of the MACs of a dense one here. Does it take a sixty-fourth of the time? (And what
# is Winograd's doing above the roof? Think of lesson 9 before you read on.)

# %%
around = {"padding": 1}
convolutions = {
    "dense": (nn.Conv2d(64, 64, 3, **around), {"max_relative_error": 0.0}),
    "dense, Winograd": (nn.Conv2d(64, 64, 3, **around), {"max_relative_error": 1e-4}),
    "depthwise": (nn.Conv2d(64, 64, 3, groups=64, **around), {}),
    "pointwise": (nn.Conv2d(64, 64, 1), {}),
}
image, points, rows = ti.randn(1, 64, 56, 56), [], []
for name, (conv, options) in convolutions.items():
    p = profile(conv.eval(), image, runs=20, **options)
    row = max(p.rows, key=lambda row: row.step.macs)
    points.append((name, row.step.intensity, row.gflops, 0.05, AMBER.line))
    rows.append(
        [name, row.kernel, f"{row.step.macs:,}", f"{row.step.intensity:.1f}", f"{row.gflops:.0f}",
         f"{1e6 * row.seconds:,.0f}"]
    )  # fmt: skip
table(["3 × 3, 64 channels, 56 × 56", "kernel", "MACs", "FLOP/byte", "GFLOP/s", "µs"], rows)

# %%
picture({"convolutions of 64 channels": points}, height=3.4)
plt.show()

# %% [markdown]
# - *Depthwise* is left of the edge: each number of the image takes part in nine MACs, and not in
#   nine times sixty-four. It cannot be anywhere near the peak from memory, whoever writes the
#   kernel. Few MACs, and yet not that little time: a count of MACs is a poor guide exactly where
#   people use it to advertise.
# - *Winograd's* does fewer multiplications than the definition. We count those of the definition,
#   so that ways to do the same work can be compared. Its dot is above the roof: the roof is for those
#   who do all of it.
#
# ## What fusing moves
#
# A chain of small operations, on a million numbers; once each by itself, and once as one loop. (The
# small dots are the steps; that of what they do *together* has the sum of their operations, bytes,
# and seconds.)


# %%
def curve(x, y):
    return ti.relu(x * 2 + y) * ti.sigmoid(x) + y


def rivals(n):
    """Profiles of both; the kernels are in machine code in either."""
    xs = ti.randn(n), ti.randn(n)
    apart = ti.plan(ti.trace(curve, *xs), kernels="fast")
    return profile(apart, *xs, runs=30), profile(curve, *xs, runs=30)


apart, fused = rivals(1 << 20)
ends = []
for name, p, colour in ("together", apart, AMBER), ("fused", fused, GREEN):
    place = p.flops / (p.read + p.written), p.flops / p.seconds / 1e9
    ends.append((name, *place, p.seconds / apart.seconds / 4, colour.line))
points = [("", x, y, s / 4, BLUE.line) for _, x, y, s, _ in points_of(apart)]
(ax,) = picture({f"{len(points)} steps on a million numbers": points + ends}, height=3.6)
ax.annotate("", ends[1][1:3], ends[0][1:3], zorder=2,
            arrowprops={"arrowstyle": "->", "color": GREEN.line, "shrinkA": 9, "shrinkB": 8})  # fmt: skip
plt.show()

# %%
rows = []
for n in 1 << 10, 1 << 14, 1 << 20:
    both = rivals(n)
    rows += [
        [f"{n:,}", name, len(p.rows), f"{p.flops:,}", f"{p.read + p.written:,}",
         f"{p.flops / (p.read + p.written):.2f}", f"{1e6 * p.seconds:,.1f}"]
        for name, p in zip(("apart", "fused"), both)
    ]  # fmt: skip
table(["numbers", "", "steps", "FLOPs", "bytes moved", "FLOP/byte", "µs"], rows)

# %% [markdown]
# The operations are the same, the bytes are a fraction: what was between the steps stays in
# registers. So the dot goes *to the right*, and up the slope with it. For what is right of the edge,
# fusing can do little. For a thousand numbers bytes are no matter, and still it pays: one call
# instead of six.
#
# That is also what the bias, the ReLU and the pooling cost behind a convolution: they are done while
# its sums are in registers, and vanish from the profile.
#
# ## A step that trains
#
# Forward, backward, and the optimizer, for 64 images.

# %%
PARTS = {"forward": AMBER, "backward": VIOLET, "optimizer": GREEN}
updated = {u for n in training.graph.updates.values() for u in (n, *n.inputs)}


def part(row):
    """What makes the next value of a State; or else, whether it was recorded on the way back."""
    n = row.step.node
    if n in updated:
        return "optimizer"
    return "backward" if n.origin.backward else "forward"


groups = {name: [row for row in training.rows if part(row) == name] for name in PARTS}
rows = []
for name, some in groups.items():
    flops, size, spent = (
        sum(x) for x in zip(*((r.step.flops, r.step.bytes, r.seconds) for r in some))
    )
    rows.append(
        [name, len(some), f"{1e6 * spent:,.0f}", f"{spent / training.seconds:.0%}",
         f"{flops / 1e6:.1f}", f"{flops / size:.2f}", f"{flops / spent / 1e9:.0f}"]
    )  # fmt: skip
table(["", "steps", "µs", "of the time", "MFLOP", "FLOP/byte", "GFLOP/s"], rows)


# %%
def op_name(row):
    """Of the op in a layout, that op's; of what was fused, its first."""
    op = row.step.node.op
    if row.step.op == "fused":
        op = op.graph.steps[0].op
    while hasattr(op, "op"):
        op = op.op
    return op.name


points = points_of(training, op_name, lambda row: PARTS[part(row)].line)
points = [p for p in points if p[3] > 0.002]
(ax,) = picture({"LeNet-5, training with 64 images": points}, height=4.4, most=6)
keys = [plt.Line2D([], [], marker="o", linestyle="", color=c.line) for c in PARTS.values()]
ax.legend(keys, [*PARTS], loc="lower right", frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# (Steps of less than a five-hundredth of the time are left out.)
#
# - The *way back* has twice the MACs of the way forward: a gradient for the weights and one for the
#   input. These are convolutions and products themselves, and reach what those reach.
# - Between them are steps that only move gradients: through a pool, through a ReLU, into another
#   layout; and sums for the biases. They are far to the left. That is the difference between this
#   bar and the one of LeNet with 64 images above.
# - The *optimizer* reads a weight, a gradient and a velocity, and writes two of them: some twenty
#   bytes for four operations. Nothing can be further left. For LeNet its weights stay in a cache.
#   For a model with a billion weights an optimizer is a matter of memory alone; people hide it in
#   larger batches.
#
# ## Why not at the peak
#
# What is right of the edge should be on the roof. Here is why it is not always; two experiments
# with products of matrices that are in a cache.


# %%
def share(m, k, n, runs=40):
    """Of the peak, of (m, k) @ (k, n), the right one packed as weights are."""
    p = profile(nn.Linear(k, n, bias=False).eval(), ti.randn(m, k), runs=runs)
    return p.flops / here.peak / p.seconds


wide = range(8, 137, 8)
long = [8, 16, 32, 64, 128, 256, 512, 1024]
figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 2.9), layout="constrained", sharey=True)
left.plot(wide, [share(224, 256, n) for n in wide], "o-", color=AMBER.line, markersize=4)
left.set_xticks(range(0, 137, 32))
left.set_title("(224 × 256) @ (256 × n), share of the peak")
left.set(xlabel="n: how many columns")
right.plot(long, [share(224, k, 128) for k in long], "o-", color=AMBER.line, markersize=4)
right.set_xscale("log", base=2)
right.set_xticks(long, long)
right.set_title("(224 × k) @ (k × 128), share of the peak")
right.set(xlabel="k: how many products in a sum")
for ax in left, right:
    ax.axhline(1, color=INK, linewidth=1.4)
    ax.set_ylim(0, 1.12)
    ax.yaxis.set_major_formatter("{x:.0%}")
    ax.grid(axis="y", color=FAINT, linewidth=0.6)
plt.show()

# %% [markdown]
# - *Lanes without work.* A register holds sixteen columns, or a power of two that your CPU likes,
#   and a tile has two of them. For 33 columns one begins a second tile, of which most is thrown
#   away: so the line on the left has teeth. LeNet's last layer has 10 columns. Filters are 6 and 16
#   in number; this is why images go into the lanes where there are many (lesson 11).
# - *Beginnings and ends.* Each tile starts with empty sums, and has to be stored in the end; both is
#   work without MACs, and the shorter the sums, the more of it there is. `conv1` sums 25 products.
# - *Waiting for a cache.* The roof knows one bandwidth. A tile that is loaded from the second cache
#   waits a little in every step, and that has no place in this picture.
# - *Not alone.* The clock of a core falls when its neighbours work, and memory is shared. Compare
#   only what was measured in turns.
#
# ## What to remember
#
# - Three bounds: arithmetic, memory, and beginnings. Intensity tells the first two apart; only a
#   clock tells the third.
# - "MAC-bound" means that MACs at the peak would take nearly as long. A share of FLOPs says nothing.
# - Batches and fusing move a step to the right. Caches lift the slope. Better kernels move it up.
#   Smaller numbers do two of these. Which one helps depends on where it is.
# - Count bytes before you count MACs, when you compare networks.
# - Whoever looks changes what he sees: a profile has a cost for each step.
#
# ## Questions
#
# 1. Where are the dots of this lesson on a machine with twice the peak and the same memory? Which
#    networks get faster?
# 2. What is the intensity of an $n \times n$ product, if each number moves once? From which $n$ on is
#    it right of the edge here?
# 3. Two threads have twice the peak, and the first table says what of the bandwidth. Draw the roof
#    of two. Which steps of LeNet's training gain nothing?
# 4. Weights of two bytes, or of one: what becomes of the layer of 4096 × 4096, with one image
#    and with 128?
# 5. Profile a network of your own. Take the step with the largest distance to the roof *times its
#    share of the time*. What would you do about it?
