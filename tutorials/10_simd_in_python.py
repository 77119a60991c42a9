# %% [markdown]
# # 10. SIMD in Python
#
# How does a kernel reach the peak of the hardware? A core of your computer can do some hundred
# billion operations a second. A loop, as anyone would write it, does two or three billion, even
# when it is compiled. Lesson 9 spoke of loops "in the right order and in registers". In this one
# you write them, in Python, climb from one percent of the peak to ninety, and see at each step what
# was in the way:
#
# 1. *lanes*: an instruction works on many numbers;
# 2. *latency*: several sums have to be under way at once;
# 3. *loads*: a number that was fetched has to be used often;
# 4. *caches*: what is read next has to lie next.
#
# These four are the whole secret of a matrix product, and of the kernels that tinyinfer runs.
#
# The files this is about: `runtime/peak.py`, `kernels/simd.py`, `kernels/tile.py`,
# `kernels/dot.py`, `kernels/gemm.py`, `runtime/select.py`.

# %%
import re
from functools import cache
from time import get_clock_info, perf_counter, thread_time

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown
from numba import njit, types
from threadpoolctl import threadpool_info

import tinyinfer as ti
from tinyinfer.draw.style import AMBER, BLUE, FAINT, GREEN, INK, MUTED, PAPER, SHEET, shade
from tinyinfer.kernels import simd
from tinyinfer.kernels.dot import dot4
from tinyinfer.kernels.host import HOST
from tinyinfer.kernels.simd import at, fma, load, load_some, loop, micro, registers, store
from tinyinfer.kernels.static import Static
from tinyinfer.runtime import peak
from tinyinfer.runtime.machine import cpu

ti.set_num_threads(1)  # of NumPy, too: we look at one core
plt.rcParams.update(SHEET | {"axes.titlesize": 10, "axes.titleweight": "normal"})
rng = np.random.default_rng(0)


def chart(height, *parts, **how):
    """Axes for shares of the peak."""
    figure, axes = plt.subplots(*parts, figsize=(7.4, height), layout="constrained", **how)
    ax = np.ravel(axes)[0]
    ax.yaxis.set_major_formatter("{x:.0%}")
    ax.grid(axis="y", color=FAINT, linewidth=0.6)
    return figure, axes


def name_ends(ax, ends, apart=0.075):
    """{name: (x, y, colour)}: at the ends of lines, and no two names over one another."""
    ax.set_ylim(0, max(1.12, 1.05 * ax.dataLim.y1))
    last = {}
    for name, (x, y, colour) in sorted(ends.items(), key=lambda end: end[1][1]):
        last[x] = max(y, last.get(x, -1) + apart)
        ax.annotate(name, (x, last[x]), (7, 0), textcoords="offset points", color=colour,
                    va="center", fontweight="bold")  # fmt: skip


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return Markdown("\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines))


# %% [markdown]
# ## The peak
#
# How fast could it be? Three numbers multiply.
#
# - A register holds several numbers side by side, its *lanes*, and one instruction does the same to
#   all of them: single instruction, multiple data.
# - The best of these instructions is the *fused multiply-add*, $a b + c$. It counts as two
#   operations, and a matrix product consists of nothing else.
# - A core has several *units* for it, mostly two, and each begins a new instruction every cycle.
#
# And then there is the clock. What the compiler knows of this CPU:

# %%
print(cpu())
print(f"{HOST.registers} registers of {HOST.lanes} floats; fused: {HOST.fma}")

# %% [markdown]
# Figures in data sheets are not measured, and a virtual machine hides what it runs on. So we
# measure. `peak.float_loop` multiplies and adds in registers, and does nothing else: there is no
# faster way to spend time on this core. All that follows is told as a share of it.
#
# Two rules make such a share worth something, even when others use the machine. Take the *short*
# ones of many runs, since whatever disturbs makes them longer. (We take the first tenth; the very
# shortest may be a slip of the clock.) And measure what you compare *in turns*, since a CPU changes
# its clock from moment to moment. A thread's own time, where there is such a clock, stands still
# while somebody else has the core.

# %%
TURNS = 30_000
PEAK = "peak", (peak.FLOPS * TURNS, peak.float_loop, TURNS)
seconds = thread_time if get_clock_info("thread_time").resolution < 1e-6 else perf_counter


def rates(works, least=3, budget=0.15):
    """{name: (operations, f, *args)} -> {name: operations/s}"""
    times = {name: [] for name in works}
    for _, f, *args in works.values():
        f(*args)  # compile it
    end, rounds = perf_counter() + budget * len(works), 0
    while rounds < least or perf_counter() < end:
        for name, (_, f, *args) in works.items():
            start = seconds()
            f(*args)
            times[name].append(seconds() - start)
        rounds += 1
    return {name: works[name][0] / np.quantile(times[name], 0.1) for name in works}


def shares(works, **how):
    """Of the peak."""
    whole, *found = rates(dict([PEAK]) | works, **how).values()
    return {name: rate / whole for name, rate in zip(works, found)}


# %% [markdown]
# How long is a cycle? Take a sum and an exclusive or, of which each waits for the other. On every
# CPU either takes one cycle. And nobody can do two at once, neither the CPU nor the compiler.


# %%
@njit
def wait(turns):
    x, y = turns, 1
    for _ in range(turns):
        x += y
        y ^= x
    return y


found = rates(dict([PEAK]) | {"clock": (20 * TURNS, wait, 10 * TURNS)}, budget=0.3)
clock = found["clock"]
units = found["peak"] / (clock * HOST.lanes * 2)
print(f"{clock / 1e9:.2f} GHz x {HOST.lanes} lanes x 2 operations x {units:.2f} units")
print(f"  = {found['peak'] / 1e9:.0f} GFLOP/s, the peak of one core")
assert 0.2 < units < 8

# %% [markdown]
# ## A loop
#
# Now something that could be useful: the sum of products of two vectors. They are small enough to
# stay in the nearest cache, so that memory is no excuse.


# %%
@njit
def dot_by_loop(turns, x, y):
    total = np.float32(0)
    for _ in range(turns):
        for i in range(x.size):
            total += x[i] * y[i]
    return total


def aligned(x):
    """A copy of it, at an address that 64 divides."""
    room = np.empty(x.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    y = room[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
    y[:] = x
    return y


def randn(*shape):
    return aligned(rng.standard_normal(shape, "float32"))


x, y = randn(2, 3072)
ladder = shares({"a loop": (2 * 20 * x.size, dot_by_loop, 20, x, y)})
print(f"{ladder['a loop']:.2%} of the peak")

# %% [markdown]
# This *is* machine code. To see what is wrong, we read it. All of it is long, so let us look for
# the loop that does most of the arithmetic, and mark the instructions that count.

# %%
LABEL = re.compile(r"(\.?L\w+):")
JUMP = re.compile(r"(?:j\w+|b|b\.\w+|cbn?z\s.*|tbn?z\s.*)\s+(\.?L\w+)$")
FLOATS, BYTES = r"v?(mul|add)[ps]s|vf\w+[ps]s|f(mul|add|madd|mla)", r"v?p(dpbusd|maddwd)|sdot"
ARITHMETIC = re.compile(rf"({{vex}} )?({FLOATS}|{BYTES})\b")
STACK = re.compile(r"mm\d.*\(%rsp|\(%rsp.*mm\d|[qv]\d.*\[sp")


def hot_loop(f, t=None):
    """Its instructions. `t` is one of those that f was compiled for."""
    kinds = next(s for s in f.signatures if t is None or t.type in s)
    lines = [" ".join(line.split()) for line in f.inspect_asm(kinds).splitlines()]
    labels, loops = {}, []
    for i, line in enumerate(lines):
        if label := LABEL.match(line):
            labels[label[1]] = i
        elif (jump := JUMP.match(line)) and jump[1] in labels:
            loops.append([x for x in lines[labels[jump[1]] + 1 : i + 1] if x[0] != "."])
            labels.clear()  # what begins before and ends behind is not an innermost loop
    return max(loops, key=lambda loop: sum(bool(ARITHMETIC.match(x)) for x in loop), default=[])


def show(lines, most=12):
    for line in lines[:most]:
        print("->" if ARITHMETIC.match(line) else "  ", line)
    if len(lines) > most:
        print("  ", f"... and {len(lines) - most} more")


show(hot_loop(dot_by_loop))

# %% [markdown]
# Two things are wrong. Each instruction works on *one* number: the `ss` of x86 is "scalar, single".
# And each addition waits for the one before, since they all add to the same register.
#
# Why does the compiler not do better? Because it must not. To use the lanes, it had to add the
# numbers in another order, and of rounded numbers $(a + b) + c$ is not $a + (b + c)$. What you
# wrote is what you get. (There is a switch that lifts the ban. We come to that.) So write what you
# want.
#
# ## Sixteen lanes
#
# Numba has no type for a vector. But it lets us add types, and functions that write LLVM's
# instructions by themselves; LLVM is the compiler behind Numba. That is all `kernels/simd.py` does.
# A function under `@micro` is run by Numba *while it compiles a call*. What it gets are `Value`s:
# numbers and vectors that the machine will have. Their operators compute nothing, they write an
# instruction each.
#
# You know this from lesson 5: there a function was run once, and what it did became a graph. Here
# it becomes machine code. And the consequence is the same: a loop of Python is gone afterwards. It
# is *unrolled*.


# %%
@micro
def tell(x, y, to):
    """x, y, to: addresses, in bytes."""
    total = load(x) * load(y)
    for _ in range(2):  # of Python
        total = total + load(x)
    print("writes", total.ir)
    store(to, total)


@njit
def told(x, y, to):
    tell(at(x, 0), at(y, 0), at(to, 0))


to = np.zeros(16, np.float32)
told(x, y, to)
assert np.array_equal(to, x[:16] * y[:16] + x[:16] + x[:16])
for line in told.inspect_llvm(told.signatures[0]).splitlines():
    if "<16 x float>" in line:
        print(line.split(", align")[0])

# %% [markdown]
# The `print` was at compile time: call `told` again, and it says nothing. Below it is what LLVM has
# made of it. There are two loads, though we wrote four: LLVM still does what compilers are good at.
#
# A vector has 16 lanes on *every* CPU. Where registers are smaller, LLVM takes two or four of them
# for one vector. So a layout in memory is the same everywhere, and a kernel is written once.
#
# The sum of products, then. `loop` is a loop of the machine, `registers` hold what it changes. `t`
# are numbers that the compiler knows; here, in how many vectors we sum. `t.sums` vectors are read
# in each turn.


# %%
@micro(types.float32)
def sum_of_products(t, x, y, size):
    sums = registers([simd.zeros()] * t.sums)
    for i in loop(size, step=16 * t.sums):
        for s in range(t.sums):
            place = 4 * i + 64 * s
            sums[s] = fma(load(x + place), load(y + place), sums[s])
    first, *others = sums
    return simd.total(sum(others, first))


@njit
def dot(t, turns, x, y):
    total = np.float32(0)
    for _ in range(turns):
        total += sum_of_products(t, at(x, 0), at(y, 0), x.size)
    return total


one = Static(sums=1)
assert np.isclose(dot(one, 1, x, y), x.astype("float64") @ y, atol=1e-2)
show(hot_loop(dot, one))

# %%
ladder |= shares({"lanes": (2 * 1000 * x.size, dot, one, 1000, x, y)})
print(f"{ladder['lanes']:.1%} of the peak: {ladder['lanes'] / ladder['a loop']:.0f} times the loop")
assert ladder["lanes"] > ladder["a loop"]

# %% [markdown]
# The arrow marks the instruction that all of this is about. It multiplies 16 numbers with 16 others
# and adds them to 16 sums. (On a CPU with smaller registers there are two or four of them.) On x86
# the second load is a part of it.
#
# ## One sum is not enough
#
# Better, and far from good. An fma can begin in every cycle, but its result is there some cycles
# *later*: its *latency*, mostly 4. The next one of our loop needs that result. So it waits, while
# the units are idle.
#
# The cure is to have something else to do: several sums, each in a register of its own, of which
# none waits for another. How many? Two units times four cycles are eight fmas under way. It is the
# law of every queue (Little 1961): how many are inside is how many come in a cycle, times how many
# cycles each stays.
#
# Let us try. And beside it the same without any loads, $s \leftarrow s \, c + 1$ in registers, to
# see what the arithmetic alone would do.


# %%
@micro(types.float32)
def chains(t, c, turns):
    c = simd.splat(c)
    sums = registers([c * float(s + 2) for s in range(t.sums)])
    for _ in loop(turns):
        for s in range(t.sums):
            sums[s] = fma(sums[s], c, simd.constant(c.ir.type, 1))
    first, *others = sums
    return simd.total(sum(others, first))


@njit
def chained(t, c, turns):
    return chains(t, c, turns)


PER = simd.LANES // HOST.lanes  # registers for one vector
COUNTS = [n for n in (1, 2, 3, 4, 6, 8, 12, 16, 24) if n * PER <= HOST.registers - 4]
works, half = {}, np.float32(0.5)
shifted = randn(2 * x.size + 1)[1:].reshape(2, -1)  # no address is a multiple of 64
for n in COUNTS:
    t, part = Static(sums=n), x[: x.size // (16 * n) * 16 * n]
    works["loads", n] = 2 * 500 * part.size, dot, t, 500, part, y
    works["shifted", n] = 2 * 500 * part.size, dot, t, 500, *shifted[:, : part.size]
    works["none", n] = 2 * 16 * n * 50_000, chained, t, half, 50_000
found = shares(works, budget=0.05)
ladder["several sums"] = max(found["loads", n] for n in COUNTS)
under_way = PER / found["none", 1]
print(f"done after {under_way / units:.1f} cycles; so {under_way:.0f} have to be under way")

# %%
chains_at_once = [n * PER for n in COUNTS]
figure, ax = chart(3.6)
model = [0, under_way, max(under_way, chains_at_once[-1])]
ax.plot(model, [0, 1, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 2)))
lines = {
    "none": ("in registers", GREEN.line),
    "loads": ("sum of products", BLUE.line),
    "shifted": ("not aligned", AMBER.line),
}
ends = {}
for kind, (name, colour) in lines.items():
    ys = [found[kind, n] for n in COUNTS]
    ax.plot(chains_at_once, ys, "o-", color=colour, markersize=4)
    ends[name] = chains_at_once[-1], ys[-1], colour
name_ends(ax, ends)
ax.set(xlim=(0, chains_at_once[-1]), xlabel="sums under way (registers)")
ax.set_xticks(chains_at_once)
ax.set_title("share of the peak; dashed: the number of sums over latency times units")
plt.show()
assert found["none", COUNTS[-1]] > found["none", 1] / 2

# %% [markdown]
# The green line is the law: it goes up evenly, and is bent where enough are under way. The blue one
# stops earlier. It reads *two* vectors for each fma, and a core reads two in a cycle, or three; so
# with two units it can never reach the peak.
#
# The amber one is a sting in the tail. It is the same machine code, on arrays that begin four bytes
# later. A load that crosses the border of two lines of the cache, 64 bytes each, is two loads; and
# of vectors of 64 bytes, every one does. That is why the arena of lesson 8 begins all buffers at
# multiples of 64.
#
# A sum of products uses each number once. More sums cannot help: we need another problem.
#
# ## A tile
#
# In a product of matrices each number is used many times: $a_{ik}$ with all numbers of line $k$ of
# $B$, and $b_{kj}$ with all of column $k$ of $A$. So let a *tile* of $C$ live in registers, some
# rows high and some vectors wide. In step $k$, load what is needed of line $k$ of $B$ as vectors;
# for each row take one number of $A$, put it into every lane (a *broadcast*), and multiply-add it
# to the row.

# %%
ROWS, VECTORS = 4, 2  # for the picture
figure, ax = plt.subplots(figsize=(7.4, 2.6), layout="constrained")


def box(x, y, width, text, look, ink=INK):
    ax.add_patch(plt.Rectangle((x, y), width, 0.9, facecolor=look, edgecolor=PAPER))
    ax.text(x + width / 2, y + 0.43, text, ha="center", va="center", color=ink, fontsize=9)


for v in range(VECTORS):
    box(2 + 4 * v, -1.3, 3.9, f"line k of B, vector {v}", GREEN.fill)
for r in range(ROWS):
    box(0, r, 1.4, f"$a_{{{r}k}}$", AMBER.fill)
    for v in range(VECTORS):
        box(2 + 4 * v, r, 3.9, f"sums[{r}, {v}] += $a_{{{r}k}}$ · vector {v}", BLUE.fill)
ax.text(10.3, 1.9, f"{ROWS * VECTORS} multiply-adds\nfor {ROWS + VECTORS} loads", fontsize=10)
ax.set(xlim=(-0.2, 13), ylim=(ROWS + 0.1, -1.5))
ax.axis("off")
plt.show()

# %% [markdown]
# Rows + vectors are loaded for rows × vectors multiply-adds: the larger the tile, the less. And a
# tile of eight vectors or more has enough sums under way by itself. Latency and loads are cured by
# one medicine.
#
# This is the micro-kernel. A is given as `rows` numbers for each step, one after the other; the
# lines of B lie `apart` bytes apart. Mind what is Python: the loops over rows and vectors are, and
# all that they make is one long block of fmas.


# %%
@micro
def tile(t, a, b, apart, k, c, pitch):
    """C = A B: for t.rows rows, t.vectors vectors; the rows of C are `pitch` bytes apart."""
    vector, number = (simd.i32x16, simd.i32) if t.bytes else (simd.f32x16, simd.f32)
    multiply_add = (lambda a, b, c: dot4(c, a, b)) if t.bytes else fma
    sums = registers([simd.zeros(vector)] * (t.rows * t.vectors))
    for i in loop(k):
        right = [simd.read(b + apart * i + 64 * v, vector) for v in range(t.vectors)]
        for r in range(t.rows):
            left = simd.broadcast(a + 4 * (t.rows * i + r), number)
            for v, x in enumerate(right):
                s = r * t.vectors + v
                sums[s] = multiply_add(left, x, sums[s])
    for r in range(t.rows):
        for v in range(t.vectors):
            store(c + pitch * r + 64 * v, sums[r * t.vectors + v])


@njit
def tiles(t, turns, a, b, apart, k, c):
    for _ in range(turns):
        tile(t, at(a, 0), at(b, 0), apart, k, at(c, 0), 64 * t.vectors)


# %% [markdown]
# How large? As large as the registers allow: all sums, a line of B, and two to work with. More sums
# than that have to go to memory and back in each step; the compiler *spills* them, onto the stack,
# and we can count that in the loop.

# %%
VECTORS = 2 if PER == 1 else 1
WIDE = 16 * VECTORS  # columns of a tile
BEST = (HOST.registers - 2 - PER * VECTORS) // (PER * VECTORS)
HEIGHTS = [r for r in (1, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20) if r <= BEST + 6]
works = {}
for rows in HEIGHTS:
    t, k = Static(rows=rows, vectors=VECTORS, bytes=0), 128
    a, b, c = randn(k, rows), randn(k, WIDE), randn(rows, WIDE)
    tiles(t, 1, a, b, 4 * WIDE, k, c)
    assert np.allclose(c, a.T @ b, atol=1e-3)
    works[rows] = 2 * 100 * k * c.size, tiles, t, 100, a, b, 4 * WIDE, k, c
found = shares(works, budget=0.05)
ladder["a tile in registers"] = found[BEST]


def spilled(rows):
    return sum(bool(STACK.search(x)) for x in hot_loop(tiles, works[rows][2]))


spills = {rows: spilled(rows) for rows in HEIGHTS}
figure, (ax, below) = chart(4.4, 2, height_ratios=[3, 1], sharex=True)
ax.plot(HEIGHTS, found.values(), "o-", color=BLUE.line, markersize=4)
for rows in HEIGHTS:
    loads = (rows + VECTORS) / (rows * VECTORS)
    ax.annotate(f"{loads:.2f}", (rows, found[rows]), (3, -12), textcoords="offset points",
                color=MUTED, fontsize=8)  # fmt: skip
ax.axvline(BEST + 1, color=MUTED, linewidth=1, linestyle=(0, (4, 2)))
ax.text(BEST + 1.1, 0.05, "more than the registers hold", color=MUTED, fontsize=8)
ax.set_title("share of the peak; the small numbers: loads for each multiply-add")
ax.set_ylim(0, max(1.12, 1.05 * ax.dataLim.y1))
below.bar(HEIGHTS, spills.values(), color=AMBER.line, width=0.5)
below.set_xticks(HEIGHTS)
below.set_xlabel(f"rows of a tile of {VECTORS} × 16 columns")
below.set_title("instructions of a step that go to the stack")
below.grid(axis="y", color=FAINT, linewidth=0.6)
plt.show()
assert found[BEST] > found[1] / 2 and spills[BEST] <= spills[HEIGHTS[-1]]

# %% [markdown]
# That is what the peak looks like from a useful kernel. A spill is not the end of the world, since
# the stack is in the nearest cache; but each is a load or a store, and it was to save those that we
# built a tile.
#
# Here is the loop of the best one, as far as it fits:

# %%
best = Static(rows=BEST, vectors=VECTORS, bytes=0)
lines = hot_loop(tiles, best)
fmas = sum(bool(ARITHMETIC.match(x)) for x in lines)
show(lines, most=12)
print(f"{fmas} of {len(lines)} instructions are arithmetic")

# %% [markdown]
# ## Panels
#
# So far everything lay in the nearest cache, in the order in which it is read. Now take a larger
# matrix. A tile walks down a *panel* of $B$: all lines, and as many columns as the tile has. As the
# matrix lies in memory, the next line of a panel is a whole row of the matrix away.
#
# That is bad in three ways. Memory comes in pages, and the core remembers where some of them are:
# here every line is on another page. It guesses what will be read next, but not across pages. And
# the lower bits of an address say where in the cache it may be: when rows are a power of two apart,
# as they like to be, all lines of the panel compete for the same few places, while the rest of the
# cache is empty.
#
# The cure is to copy the panel once, line after line. This is called *packing*. All tiles of rows
# use the panel, so the copy pays. How much does it help, for the best tile and for a low one?

# %%
low = Static(rows=max(1, BEST // 3), vectors=VECTORS, bytes=0)
DEPTHS = [64, 128, 256, 512, 1024, 2048, 4096]
wide, a, c = randn(DEPTHS[-1], 1024), randn(DEPTHS[-1] * 16), randn(16 * WIDE)
works = {}
for k in DEPTHS:
    turns, panel = max(1, 16384 // k), aligned(wide[:k, :WIDE])
    for t in (low, best):
        operations = 2 * turns * k * t.type.rows * WIDE
        works[t, "as it lies", k] = operations, tiles, t, turns, a, wide, 4 * 1024, k, c
        works[t, "packed", k] = operations, tiles, t, turns, a, panel, 4 * WIDE, k, c
found = shares(works, budget=0.03)

# %%
figure, ax = chart(3.8)
sizes = [4 * WIDE * k / 1024 for k in DEPTHS]
ends = {}
for t, look in (best, "-"), (low, (0, (4, 1.5))):
    for name, colour in {"packed": GREEN.line, "as it lies": AMBER.line}.items():
        ys = [found[t, name, k] for k in DEPTHS]
        ax.plot(sizes, ys, "o", linestyle=look, color=colour, markersize=4)
        ends[f"{t.type.rows} rows, {name}"] = sizes[-1], ys[-1], colour
name_ends(ax, ends)
ax.set_xscale("log", base=2)
ax.set_xticks(sizes, [f"{s:g}" for s in sizes])
ax.set(xlabel="KiB of a panel of B")
ax.set_title("share of the peak, for a panel that is read again and again")
plt.show()

# %% [markdown]
# The nearest cache (L1) has 32 KiB or some more, the second (L2) half a MiB or more. Where a packed
# panel leaves the first one, hardly anything happens to the high tile: the second cache delivers a
# line in the time that the multiply-adds of a step take, if it is told early what to bring, and who
# reads line after line tells early. Where it is not packed, the low tile starves; and it does so
# from the start, when the panel would have room in L1 many times over. These are the few places:
# rows are 4096 bytes apart.
#
# The high tile is hurt less, as it needs a line of $B$ less often. So a tile has a second use: its
# rows divide what is asked of the nearest cache *and* of all behind it. How much is left for
# packing to save depends on the machine, its pages, and how well it guesses.
#
# ## The whole product
#
# We have all the parts. This is the plan of Goto and van de Geijn (2008, "Anatomy of
# high-performance matrix multiplication"), on which most libraries are built:
#
# - $A$ is packed into strips as high as a tile, $B$ into panels as wide as a tile;
# - so many strips are taken at a time as fit into the second cache;
# - for each of them, every panel comes into the first cache, and all these strips are multiplied
#   with it.


# %%
@njit
def pack_rows(a, to):
    """(m, k) -> (strips, k, rows)"""
    strips, k, rows = to.shape
    for s in range(strips):
        for r in range(min(rows, a.shape[0] - s * rows)):
            for i in range(k):
                to[s, i, r] = a[s * rows + r, i]


@njit
def pack_columns(b, to):
    """(k, n) -> (panels, k, wide), sixteen numbers at a time"""
    (panels, k, wide), n = to.shape, b.shape[1]
    for p in range(panels):
        for i in range(k):
            for j in range(p * wide, (p + 1) * wide, 16):
                source = at(b, i * n + j)
                x = load(source) if j + 16 <= n else load_some(source, n - j)
                store(at(to, (p * k + i) * wide + j - p * wide), x)


@njit
def products(t, a, b, c):
    (strips, k, rows), (panels, _, wide) = a.shape, b.shape
    some = max(1, (1 << 19) // (4 * k * rows))  # strips, in half a MiB
    for block in range(0, strips, some):
        for j in range(panels):
            for i in range(block, min(block + some, strips)):
                to = at(c, (i * rows * panels + j) * wide)
                tile(
                    t, at(a, i * k * rows), at(b, j * k * wide), 4 * wide, k, to, 4 * panels * wide
                )


@cache
def room(*shape):
    """Memory to pack into. It is kept: new memory is slow when it is first written to."""
    return aligned(np.zeros(shape, "float32"))


def gemm(a, b):
    (m, k), n = a.shape, b.shape[1]
    left, right = room(-(-m // BEST), k, BEST), room(-(-n // WIDE), k, WIDE)
    pack_rows(a, left)
    pack_columns(b, right)
    c = np.empty((len(left) * BEST, len(right) * WIDE), "float32")
    products(best, left, right, c)
    return c[:m, :n]


a, b = randn(201, 303), randn(303, 77)
assert np.allclose(gemm(a, b), a @ b, atol=1e-3)

# %% [markdown]
# Some forty lines. Sizes that are no multiples of the tile are rounded up, and what is too much is
# cut off in the end. Now compare it with NumPy, whose product is written by hand for each kind of
# CPU by people who do nothing else; with tinyinfer's own; and with loops in Numba, in two orders:


# %%
@njit
def by_dots(a, b):
    c = np.zeros((a.shape[0], b.shape[1]), np.float32)
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            for k in range(b.shape[0]):
                c[i, j] += a[i, k] * b[k, j]
    return c


@njit
def by_lines(a, b):
    c = np.zeros((a.shape[0], b.shape[1]), np.float32)
    for i in range(a.shape[0]):
        for k in range(b.shape[0]):
            for j in range(b.shape[1]):
                c[i, j] += a[i, k] * b[k, j]
    return c


SIZES = [56, 112, 224, 336, 448, 672, 896]
compiled = ti.compile(ti.matmul)
ways = {"NumPy": np.matmul, "yours": gemm, "tinyinfer": lambda a, b: compiled(a, b).numpy()}
loops = {"loops i, k, j": by_lines, "loops i, j, k": by_dots}
found = {}
for n in reversed(SIZES):  # what was memory for large ones serves the small ones
    a, b = randn(2, n, n)
    for some in (ways, loops) if n <= 224 else (ways,):
        works = {(name, n): (2 * n**3, way, a, b) for name, way in some.items()}
        found |= shares(works, budget=0.08)
        assert all(np.allclose(way(a, b), a @ b, atol=1e-2) for way in some.values())
ladder["a loop over matrices"] = found["loops i, j, k", 224]
ladder["the whole product"] = max(found["yours", n] for n in SIZES)

# %%
figure, ax = chart(4.2)
ax.axhline(1, color=INK, linewidth=1.4)
ax.text(SIZES[0], 1.02, "the roof: what one core can do", color=INK, fontsize=8)
COLOURS = dict(zip([*ways, *loops], (AMBER.line, GREEN.line, BLUE.line, MUTED, MUTED)))
ends = {}
for name, colour in COLOURS.items():
    there = [n for n in SIZES if (name, n) in found]
    ys = [found[name, n] for n in there]
    ax.plot(there, ys, "o-", color=colour, markersize=4)
    ends[name] = there[-1], ys[-1], colour
name_ends(ax, ends)
ax.set_xscale("log", base=2)
ax.set_xticks(SIZES, SIZES)
ax.set(xlabel="n, of a product of n × n matrices")
ax.set_title("share of the peak of one core")
plt.show()
assert found["yours", 224] > found["loops i, j, k", 224]

# %% [markdown]
# What is missing to the roof is packing, which is $n^2$ numbers beside $n^3$ multiply-adds, and the
# calls from Python, which are a few microseconds each; so all lines go up to the right. tinyinfer
# packs sixteen vectors at a time, in registers, and takes tiles of other heights where these fit
# better. When the right factor is a weight, it is packed once and for all, before anything runs.
#
# Did NumPy stop at half of the roof? Then its library does not know your CPU yet, and takes the
# kernels for an older one, whose registers are half as wide. It says so:

# %%
for library in threadpool_info():
    print(library["internal_api"], library["version"], library.get("architecture", ""))

# %% [markdown]
# Look at the grey ones, too. They are the same three loops. With `k` inside, each is a sum of
# products, and the compiler has its hands tied. With `j` inside, no sum has to be reordered, so it
# uses the lanes by itself: "the compiler vectorizes" is true, if you put the loops right. But each
# fma then reads and writes $c_{ij}$ in memory, and there it ends.
#
# ## Bytes
#
# Networks are quantised to bytes. Is that faster, or only smaller? A lane of 32 bits holds four
# bytes. `dot4` multiplies the four bytes of each lane with four others, adds the four products, and
# adds that to an integer of 32 bits. CPUs of recent years have one instruction for it (`vpdpbusd`
# on x86, `sdot` on Arm), as fast as an fma, with four times the operations. Where there is none,
# `dot4` is made of several; the result is the same.

# %%
print("the instruction:", HOST.dot or "none")
most = 2 if HOST.dot else 4  # registers to work with
high = max(1, (HOST.registers - most - PER * VECTORS) // (PER * VECTORS))
quads = Static(rows=high, vectors=VECTORS, bytes=1)
k = 512
u = rng.integers(0, 256, (high, k), "uint8")
s = rng.integers(-128, 128, (k, WIDE), "int8")

left = aligned(u.reshape(high, k // 4, 4).swapaxes(0, 1).copy())  # (k / 4, rows, 4)
right = aligned(s.reshape(k // 4, 4, WIDE).swapaxes(1, 2).copy())  # (k / 4, columns, 4)
c = np.zeros((high, WIDE), "int32")
tiles(quads, 1, left, right, 4 * WIDE, k // 4, c)
assert np.array_equal(c, u.astype("int32") @ s.astype("int32"))
show([x for x in hot_loop(tiles, quads) if ARITHMETIC.match(x)], most=3)

# %% [markdown]
# *Equal*, not close: sums of integers are exact, in whichever order. So a kernel for bytes can be
# tested to the last bit, and so can a quantised network. `tile` did not change for this: packing
# four steps side by side did it, and one other instruction.

# %%
found = shares(
    {
        "bytes": (2 * 100 * k * c.size, tiles, quads, 100, left, right, 4 * WIDE, k // 4, c),
        "the peak for bytes": (peak.INT8_OPS * 10_000, peak.int8_loop, 10_000),
    },
    budget=0.3,
)
ladder["a tile of bytes"] = found["bytes"]
table(["", "operations a second, in peaks of float32"], [[n, f"{x:.2f}"] for n, x in found.items()])

# %% [markdown]
# ## What the compiler cannot do for you
#
# Numba and LLVM allocate registers, order the instructions, fold loads into them, and unroll. We
# did not write a line of that. Four things they cannot do.
#
# **Change the order of a sum.** It would change the result. `fastmath` allows it, and more: it
# promises that there is no NaN.


# %%
@njit(fastmath=True)
def dot_by_promise(turns, x, y):
    total = np.float32(0)
    for _ in range(turns):
        for i in range(x.size):
            total += x[i] * y[i]
    return total


@njit(fastmath=True)
def cleaned(x):
    return 0.0 if np.isnan(x) else x


promised = shares({"fastmath": (2 * 2000 * x.size, dot_by_promise, 2000, x, y)})["fastmath"]
print(f"the same loop with fastmath: {promised:.0%}; by hand {ladder['several sums']:.0%}")
print("cleaned(nan) =", cleaned(np.nan), "with fastmath, and without", cleaned.py_func(np.nan))

# %% [markdown]
# The loop is fast now, and a program that looks for NaN may no longer find it. In tinyinfer a NaN
# that comes in has to come out, as in NumPy; so there is no `fastmath` in it.
#
# **Keep an array in registers.** These are the loops of our tile, in plain Numba. The compiler has
# to assume that `sums` may lie where `a` or `b` do, and that `rows` may be any number. So all sums
# go to memory and back in every step.


# %%
@njit
def plain_tile(turns, a, b, sums):
    for _ in range(turns):
        sums[:] = 0
        for k in range(a.shape[0]):
            for r in range(a.shape[1]):
                for j in range(b.shape[1]):
                    sums[r, j] += a[k, r] * b[k, j]


a, b, c = randn(128, BEST), randn(128, WIDE), randn(BEST, WIDE)
plain_tile(1, a, b, c)
assert np.allclose(c, a.T @ b, atol=1e-3)
ladder["a tile, left to the compiler"] = shares(
    {"": (40 * a.size * WIDE, plain_tile, 20, a, b, c)}
)[""]
print(f"{ladder['a tile, left to the compiler']:.0%} of the peak")

# %% [markdown]
# **Move your data.** Packing, alignment, channels in lanes: where numbers lie is up to you. So is
# what is computed at all: no compiler finds Winograd's.
#
# **Know your sizes.** How high is the tile, how many strips stay in a cache, is it worth packing?
# It would have to know the matrix and the machine.
#
# All rungs of the ladder:

# %%
rungs = sorted(ladder.items(), key=lambda rung: rung[1])
figure, ax = plt.subplots(figsize=(7.4, 3.2), layout="constrained")
for i, (_, share) in enumerate(rungs):
    fill, _ = shade(0.25 + 0.6 * i / len(rungs))
    ax.barh(i, share, color=fill, height=0.7)
    told = f"{share:.1%}" if share < 0.1 else f"{share:.0%}"
    ax.annotate(told, (share, i), (5, 0), textcoords="offset points", va="center",
                bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1})  # fmt: skip
ax.axvline(1, color=INK, linewidth=1.4, zorder=0)
ax.set_yticks(range(len(rungs)), [name for name, _ in rungs], color=INK)
ax.set(xlim=(0, 1.1 * max(1, rungs[-1][1])))
ax.xaxis.set_major_formatter("{x:.0%}")
ax.tick_params(axis="y", length=0)
ax.set_title("share of the peak of float32")
plt.show()

# %% [markdown]
# ## Where to go on
#
# You can read the kernels now. They open with their loop nest, and you know the words.
#
# - `kernels/gemm.py`: the whole product, with all that we left out: tails, transposes, threads,
#   biases, activations in registers before the tile is stored.
# - `kernels/direct.py`: a convolution as tiles, whose rows are pixels and whose vectors are
#   filters.
# - `kernels/winograd.py`: its transforms are additions of vectors, between them are products.
# - `kernels/int8.py`: what quantised networks run.
#
# Threads come last, and change nothing of this: the result is cut into parts, and each core makes
# some of them. No sum is cut, so the numbers do not depend on how many threads there are.
#
# Which kernel runs? Each says how many operations it does, how many bytes it moves, and what share
# of the peak it reaches; `runtime/select.py` takes the one that should be done first. The column
# *why* of a plan tells its time, and the next best kernel with its own:

# %%
compiled(*randn(2, 448, 448))
print(compiled.plan)

# %% [markdown]
# ## What to remember
#
# - The peak is clock × units × lanes × 2. Measure it, and tell a kernel's speed as a share of it.
# - Latency times throughput says how much has to be under way.
# - A number that was loaded has to be used often: that is what tiles are for, of registers and of
#   caches alike. A tile is as large as the registers allow, and no larger.
# - Lay data in the order in which it is read, at multiples of 64 bytes.
# - Bytes are four times as fast, and exact.
# - A compiler orders instructions. It does not order your sums, your loops, or your data.
#
# ## Questions
#
# 1. Why is the best tile wider than one vector, where a vector is one register? Count the loads of
#    28 × 1 and 14 × 2.
# 2. In `products`, put the loop over panels inside that over strips. What has to stay in which
#    cache now? Is it slower here, and for which shapes would it be?
# 3. A product with a matrix of one column needs each number of the other one once. What bounds it?
#    Which share of the peak can it reach, if memory gives 40 GB/s?
# 4. Sum numbers instead of products, with `t.sums` vectors. How accurate is the sum, next to that
#    of the plain loop and `np.sum`? Why is the fast one the more accurate one?
# 5. Write the softmax of a row with `@micro`. You need an exponential function: `kernels/math.py`
#    shows how to make one of multiply-adds.
