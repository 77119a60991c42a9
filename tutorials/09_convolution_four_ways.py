# %% [markdown]
# # 9. Convolution four ways
#
# A convolution is one line of mathematics, and there are at least four ways to compute it. They
# give the same numbers and differ in everything else: how often they multiply, how much they copy,
# how much they err. In this lesson you write all four in NumPy, and count.
#
# 1. *Loops*: the definition.
# 2. *im2col*: copy the image into a matrix, and let the fastest routine that people have do the
#    rest.
# 3. *Winograd*: a 3 × 3 convolution with less than half of the multiplications.
# 4. *Indirection*: im2col without the copy.
#
# The files this is about: `ops/conv.py`, `ops/winograd.py`, `ops/packed.py`,
# `kernels/im2col.py`, `kernels/winograd.py`, `kernels/indirect.py`, `reproduce/winograd.py`.

# %%
from fractions import Fraction
from itertools import combinations
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import SVG, Markdown

import tinyinfer as ti
from tinyinfer.draw.style import AMBER, ASIDE, FAINT, GREEN, INK, WASHES, shade
from tinyinfer.ops.conv import Conv2d, add_windows, windows
from tinyinfer.ops.packed import Packed
from tinyinfer.ops.winograd import Winograd, convolve, filters, multiplications, toom_cook
from tinyinfer.reproduce import winograd as reproduced

ti.set_num_threads(1)
rng = np.random.default_rng(0)


def randn(*shape):
    return rng.standard_normal(shape, "float32")


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return Markdown("\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines))


def error(y, right):
    assert y.shape == right.shape
    return float(np.linalg.norm(y - right) / np.linalg.norm(right))


# %% [markdown]
# ## Loops
#
# The output $y_{oij}$ of filter $o$ at pixel $(i, j)$ is what the filter sees there, weighted:
#
# $$y_{oij} = \sum_{c, k, l} x_{c, i + k, j + l} \, w_{ockl}.$$
#
# Six letters are six loops (and a seventh over the images of a batch). Padding is a frame of zeros.
# In deep learning this is called convolution. Strictly it is a correlation: there is no minus sign,
# the filter is not turned round. Remember that, we will need it.


# %%
def by_loops(x, w, padding):
    x = np.pad(x, ((0, 0), (0, 0), *padding))
    (n, c, height, width), (o, _, k, l) = x.shape, w.shape
    y = np.zeros((n, o, height - k + 1, width - l + 1), x.dtype)
    for n, o, i, j in np.ndindex(y.shape):
        for c, k, l in np.ndindex(w.shape[1:]):
            y[n, o, i, j] += x[n, c, i + k, j + l] * w[o, c, k, l]
    return y


around = (1, 1), (1, 1)
x, w = randn(1, 4, 12, 12), randn(8, 4, 3, 3)
start = perf_counter()
right = by_loops(x, w, around)
by_loops_seconds = perf_counter() - start
assert error(right, ti.conv2d(x, w, padding=1).numpy()) < 1e-5
print(f"{right.size * w[0].size:,} multiplications in {by_loops_seconds * 1e3:.0f} ms")

# %% [markdown]
# In which order the loops stand is free: it is a sum. Put `k` and `l` outside. Then what is inside,
# over all channels, filters and pixels, is a product of two matrices: a convolution of 3 × 3 is
# nine convolutions of 1 × 1, each of a shifted image. Nothing is copied but the frame.


# %%
def by_taps(x, w, padding):
    x = np.pad(x, ((0, 0), (0, 0), *padding))
    i, j = (size - taps + 1 for size, taps in zip(x.shape[2:], w.shape[2:]))
    shifted = lambda k, l: x[:, :, k : k + i, l : l + j]
    return sum(
        np.einsum("ncij,oc->noij", shifted(k, l), w[:, :, k, l], optimize=True)
        for k, l in np.ndindex(w.shape[2:])
    )


print(f"error {error(by_taps(x, w, around), right):.1e}")
assert error(by_taps(x, w, around), right) < 1e-5

# %% [markdown]
# ## im2col
#
# Nine products of small matrices, or one of a large one? The large one is faster: its sums stay in
# registers nine times longer. For that, write what the filter sees at each pixel as a column (hence
# the name). Here is an image of 4 × 4, and the matrix of its windows of 3 × 3 with padding: a row
# for each place in the window, a column for each pixel of the output. The numbers are addresses,
# and pixels of one address have one colour.


# %%
def tiles_of(ax, numbers, title):
    rows, columns = numbers.shape
    for (i, j), number in np.ndenumerate(numbers):
        fill, ink = (WASHES[0], ASIDE) if number < 0 else shade(0.1 + 0.75 * number / 15)
        ax.add_patch(plt.Rectangle((j, i), 1, 1, facecolor=fill, edgecolor="white"))
        text = "·" if number < 0 else number
        ax.text(j + 0.5, i + 0.5, text, ha="center", va="center", color=ink, fontsize=8)
    ax.set(xlim=(0, columns), ylim=(rows, 0), aspect="equal")
    ax.set_title(title, loc="left", fontsize=10, color=INK)
    ax.axis("off")


addresses = np.arange(16).reshape(1, 1, 4, 4)
seen = windows(addresses, (3, 3), (1, 1), around, fill=-1)
figure, axes = plt.subplots(1, 2, figsize=(9, 4), width_ratios=[4, 16], layout="constrained")
tiles_of(axes[0], addresses[0, 0], "the image")
tiles_of(axes[1], seen.reshape(9, 16), "its windows, as columns; a dot is padding")
plt.show()

# %% [markdown]
# `windows` is a view: the strides of NumPy say that a step down, in the window or in the output, is
# the same step in memory. Only the `reshape` to a matrix copies. Then the convolution is a product,
# and a stride or a dilation is another view.


# %%
def by_columns(x, w, padding, stride=(1, 1), dilation=(1, 1)):
    seen = windows(x, w.shape[2:], stride, padding, dilation)
    n, c, k, l, i, j = seen.shape
    return (w.reshape(len(w), -1) @ seen.reshape(n, c * k * l, i * j)).reshape(n, -1, i, j)


assert error(by_columns(x, w, around), right) < 1e-5
seen = windows(x[:, :, :9, :9], (3, 3), (1, 1))
print("the view:", seen.shape, "of strides", seen.strides)
print(f"as a matrix, {seen.reshape(-1).nbytes / x[:, :, :9, :9].nbytes:.1f} times the image")
assert np.shares_memory(seen, x)

# %% [markdown]
# The way back is the transpose. A column was read from the image; its gradient is *added* to where
# it was read. So two lines make the gradient of the image, and this is what `conv_transpose2d` is,
# too.

# %%
image, g = ti.tensor(x, requires_grad=True), randn(*right.shape)
ti.conv2d(image, w, padding=1).backward(g)
columns = w.reshape(8, -1).T @ g.reshape(1, 8, -1)
gx = add_windows(columns.reshape(1, 4, 3, 3, 12, 12), x.shape, (1, 1), around)
assert error(gx, image.grad.numpy()) < 1e-5

# %% [markdown]
# How much does it help? On a layer of a real network:

# %%
x, w = randn(1, 64, 56, 56), randn(64, 64, 3, 3)


def seconds(fn, *args):
    times = []
    for _ in range(5):
        start = perf_counter()
        fn(*args)
        times.append(perf_counter() - start)
    return min(times)


whole = seconds(by_columns, x, w, around)
copied = seconds(lambda: windows(x, (3, 3), (1, 1), around).reshape(576, -1))
rate = 64 * 56 * 56 * w[0].size / whole
print(f"{rate / (8 * 12 * 12 * 4 * 9 / by_loops_seconds):,.0f} times the multiplications a second")
print(f"of the time {copied / whole:.0%} go into the copy")
assert rate * by_loops_seconds > 30 * 8 * 12 * 12 * 4 * 9

# %% [markdown]
# That is hard to beat with as many multiplications. So two questions remain. Do we need as many
# multiplications? And do we need the copy?
#
# ## Winograd: fewer multiplications
#
# Begin with one line, and a filter of three weights. Two outputs are six multiplications:
#
# $$y_0 = d_0 w_0 + d_1 w_1 + d_2 w_2, \qquad y_1 = d_1 w_0 + d_2 w_1 + d_3 w_2.$$
#
# Now look at this:
#
# $$m_0 = (d_0 - d_2) \, w_0, \quad m_1 = (d_1 + d_2) \, \tfrac{w_0 + w_1 + w_2}{2}, \quad
#   m_2 = (d_2 - d_1) \, \tfrac{w_0 - w_1 + w_2}{2}, \quad m_3 = (d_3 - d_1) \, w_2$$
#
# $$y_0 = m_0 + m_1 + m_2, \qquad y_1 = m_1 - m_2 + m_3.$$
#
# Four. (The sums of weights are made once for all pixels.) You can check it by hand; but who would
# have found it? Nobody has to: it follows from how polynomials are multiplied.
#
# **Polynomials.** Take $w$ as the coefficients of a polynomial, and two more numbers $h$. The
# product
#
# $$(h_0 + h_1 t) (w_0 + w_1 t + w_2 t^2) = s_0 + s_1 t + s_2 t^2 + s_3 t^3$$
#
# costs six multiplications, as in school. But a cubic is known from its values at four points; and
# the value of a product is the product of the values. So: compute both factors at four points,
# multiply there, *four times*, and find the cubic through these values. Points such as 0, 1 and −1
# cost nothing to compute at. Infinity is the fourth: the "value" there is the highest coefficient.

# %%
h, w1 = np.array([1, 0.8]), np.array([-1, 0.5, 1])
t = np.linspace(-1.4, 1.4, 200)
points = np.array([-1, 0, 1])
figure, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
lines = {"h": (h, AMBER.line), "w": (w1, GREEN.line), "h w": (np.convolve(h, w1), INK)}
for name, (c, colour) in lines.items():
    value = np.polynomial.Polynomial(c)
    ax.plot(t, value(t), color=colour)
    ax.plot(points, value(points), "o", color=colour)
    ax.text(t[-1] + 0.05, value(t[-1]), name, color=colour, va="center", fontweight="bold")
ax.set_xticks(points)
ax.grid(color=FAINT)
ax.spines[:].set_visible(False)
ax.set_title("the value of the product is the product of the values", loc="left", fontsize=10)
plt.show()

# %% [markdown]
# All three steps are linear, so they are matrices. $A$ and $G$ compute values, $B$ makes
# coefficients of values:
#
# $$s = B \, \bigl[ (A h) \circ (G w) \bigr].$$
#
# `toom_cook` makes them for any number $m$ of coefficients $h$ and $r$ of $w$, and any points. They
# are exact: arrays of fractions. The divisions of Lagrange's formula are all put into $G$, which is
# applied once, to the weights.


# %%
def show(**matrices):
    for name, matrix in matrices.items():
        text = [[str(x) for x in row] for row in matrix]
        widths = [max(map(len, column)) for column in zip(*text)]
        print(name)
        for row in text:
            print("   ", "  ".join(map(str.rjust, row, widths)))


at, g, bt = toom_cook(2, 3, points=(0, 1, -1))
show(A=at.T, G=g, B=bt.T)
h, w1 = np.array([5, 7]), np.array([2, 3, -4])
s = bt.T @ ((at.T @ h) * (g @ w1))
print("product", *s, "as in school", *np.convolve(h, w1))
assert (s == np.convolve(h, w1)).all()

# %% [markdown]
# That is the algorithm of Toom and Cook, and it is how computers multiply large whole numbers.
# (With $m = r = 2$ it is Karatsuba's.) But we have no polynomials to multiply: we have a filter.
#
# **Turning it round.** Multiply each output with a number $h_i$ and sum. This is the same double
# sum as above, sorted by $d$:
#
# $$\sum_i h_i y_i = \sum_{i, k} h_i \, w_k \, d_{i + k} = \sum_j s_j d_j = s \cdot d.$$
#
# Put in what $s$ is, and move the matrices to the other side of the dot:
#
# $$B \, \bigl[ (A h) \circ (G w) \bigr] \cdot d = \bigl[ (A h) \circ (G w) \bigr] \cdot B^\top d
#   = A h \cdot \bigl[ (G w) \circ (B^\top d) \bigr]
#   = h \cdot A^\top \bigl[ (G w) \circ (B^\top d) \bigr].$$
#
# It holds for every $h$, so what stands behind the dot is $y$:
#
# $$y = A^\top \bigl[ (G w) \circ (B^\top d) \bigr].$$
#
# A fast product of polynomials, transposed, is a fast filter; with the same number of
# multiplications, $m + r - 1$. One writes $F(m, r)$. Here it is, with our four multiplications from
# above. (Find them in the matrices.)

# %%
show(At=at, G=g, Bt=bt)
d = np.array([3, 1, 4, 1])
y = at @ ((g @ w1) * (bt @ d))
print("filtered", *y)
assert (y == np.correlate(d, w1)).all()

# %% [markdown]
# **Two dimensions.** Do it to the rows, and to the columns of what you have then:
#
# $$Y = A^\top \bigl[ (G w G^\top) \circ (B^\top d \, B) \bigr] A.$$
#
# To see that nobody cheats, here is a number that counts how often it is multiplied with its like.
# Products with constants are not counted: they are shifts and additions, or made once.


# %%
class Counted:
    total = 0

    def __init__(self, value):
        self.value = value

    def __add__(self, other):
        return Counted(self.value + getattr(other, "value", other))

    def __mul__(self, other):
        Counted.total += isinstance(other, Counted)
        return Counted(self.value * getattr(other, "value", other))

    __radd__, __rmul__ = __add__, __mul__


def counted(fn, *args):
    Counted.total = 0
    y = fn(*args)
    return Counted.total, [[x.value for x in row] for row in y]


def defined(d, w, m):
    return [[(d[i : i + 3, j : j + 3] * w).sum() for j in range(m)] for i in range(m)]


def tile(d, w, m, points):
    at, g, bt = toom_cook(m, 3, points)
    return at @ ((g @ w @ g.T) * (bt @ d @ bt.T)) @ at.T


numbers = np.vectorize(lambda x: Counted(Fraction(int(x))), otypes=[object])
POINTS = {2: (0, 1, -1), 4: (0, 1, -1, 0.5, -2), 6: (0, 1, -1, 2, -2, 0.5, -0.5)}
rows = []
for m, points in POINTS.items():
    d, w2 = numbers(rng.integers(-9, 9, (m + 2, m + 2))), numbers(rng.integers(-9, 9, (3, 3)))
    many, y = counted(defined, d, w2, m)
    few, same = counted(tile, d, w2, m, points)
    assert y == same  # exactly
    assert many / few == 9 / multiplications(m, 3)
    rows.append([f"F({m} × {m}, 3 × 3)", many, few, f"{many / few:g}"])
table(["a tile of", "defined", "Winograd", "saved, times"], rows)

# %% [markdown]
# These are the figures of Lavin and Gray (2015), who brought Winograd's filters (1980) into deep
# learning.
#
# **Channels.** What is left to do is to sum over the channels, and that can be done before
# $A^\top$ and $A$, since they are linear. So a tile of inputs is transformed once for *all*
# filters, a tile of outputs once for *all* channels, and between them, for each of the
# $(m + 2)^2$ elements there is a product of matrices: filters by channels by tiles. We are back at
# the fastest routine that people have.


# %%
def both_ways(a, x):
    return np.einsum("pi,qj,ij...->pq...", a, a, x, optimize=True)


def by_winograd(x, w, padding, m, points):
    at, g, bt = (matrix.astype(x.dtype) for matrix in toom_cook(m, 3, points))
    tiles = windows(x, (m + 2, m + 2), (m, m), padding).transpose(2, 3, 1, 0, 4, 5)
    u, v = both_ways(g, w.transpose(2, 3, 0, 1)), both_ways(bt, tiles)
    products = np.einsum("pqoc,pqcnij->pqonij", u, v, optimize=True)
    y = both_ways(at, products)
    return y.transpose(3, 2, 4, 0, 5, 1).reshape(len(x), len(w), m * y.shape[4], m * y.shape[5])


right = by_columns(x.astype("float64"), w.astype("float64"), around)
for m in 2, 4:
    y = by_winograd(x, w, around, m, POINTS[m])
    assert error(y, right) < 2e-6
    assert error(convolve(x, filters(w, m, POINTS[m]), m, 3, POINTS[m], around), right) < 2e-6

# %% [markdown]
# `ops/winograd.py` has the same in a few lines more, for any filter, any padding, and images that
# the tiles do not fit into. There, the transformed filters are a *form* of the weights, like a
# packed matrix. To transform them is a step of the graph; where weights do not change, it is done
# once.

# %%
form = Winograd(4, POINTS[4], vectors=2)
conv = Packed(Conv2d(padding=around), form, w.shape)
print(ti.trace(lambda x, w: conv(x, form(w)), x, w))
assert error(conv(x, form(ti.tensor(w))).numpy(), right) < 2e-6

# %% [markdown]
# ## What it costs
#
# A fourth of the multiplications; and why not F(6 × 6), or F(12 × 12)? Because these matrices have
# large numbers in them, and results are differences of what they make large. The more points, the
# further out they lie. How large do numbers become on the way, and what do they lose?


# %%
def on_the_way(m, points):
    """The largest product there is, and the error."""
    largest = []
    u = filters(w, m, points).astype("float32")
    keep = lambda products: largest.append(np.abs(products).max()) or products
    y = convolve(x, u, m, 3, points, around, keep_m=keep)
    return largest[0] / np.abs(right).max(), error(y, right)


rows = [["loops, im2col", "", 1, f"{error(by_columns(x, w, around), right):.1e}"]]
for method in reproduced.METHODS[1:]:
    large, lost = on_the_way(*method)
    name, points = str(method).split("  ")
    rows.append([name, points, f"{large:.2g}", f"{lost:.1e}"])
table(["", "points", "largest product ÷ largest result", "error in fp32"], rows)

# %% [markdown]
# F(2 × 2) is as exact as the definition. For larger tiles it depends on the points: −2 with ½ is
# better than −2 with 2, and 3 is a very bad point. There is no formula for the best (Barabasz et
# al. 2018 searched). So let us try all pairs from a list, beside 0, 1 and −1.

# %%
near = [sign * p for p in (0.25, 0.5, 0.75, 1.5, 2, 3, 4) for sign in (1, -1)]
small, right_of_small = (
    x[:, :, :26, :26],
    by_columns(x[:, :, :26, :26].astype("float64"), w, around),
)


def error_of(points):
    u = filters(w, 4, points).astype("float32")
    return error(convolve(small, u, 4, 3, points, around), right_of_small)


tried = sorted((error_of((0, 1, -1, *pair)), pair) for pair in combinations(near, 2))
told = [[f"{p:g} and {q:g}", f"{e:.1e}"] for e, (p, q) in tried]
assert {*tried[0][1]} in ({0.5, -2}, {-0.5, 2})
table([f"of {len(tried)} pairs", "error"], [*told[:5], ["...", ""], *told[-2:]])

# %% [markdown]
# Single precision has room for that: an error of $10^{-6}$ harms no network. Half precision and
# int8 have not. `tinyinfer reproduce winograd` measures all of them, and compares:

# %%
errors = reproduced.errors(seed=0)
SVG(filename=str(reproduced.draw(errors, "winograd.svg")))

# %% [markdown]
# In int8 with one scale for all numbers, F(4 × 4) with the points of the textbook is *above the
# line*: there is more error than result. The elements of a transformed filter differ in size by a
# factor of nearly thirty, and the small ones are rounded away, which the way back makes large
# again. A scale for each element, *by tap* (Andri et al. 2022), and better points bring much of it
# back. What remains is worse than F(2 × 2); and a kernel that multiplies bytes by the definition
# makes no error of its own at all. That is why Winograd should only be taken where an error budget
# admits it.

# %%
assert errors["int8", reproduced.F4[0]] > 1 > 20 * errors["int8", reproduced.F2]
assert errors["int8, by tap", reproduced.F4[2]] < errors["int8", reproduced.F4[2]] / 2

# %% [markdown]
# ## Indirection: no copy
#
# Back to the copy. Look at the picture of im2col again. It showed addresses. Why not keep it at
# that? Make the matrix of *addresses*, and let the product load its numbers from there. This is the
# *indirection buffer* of QNNPACK (Dukhan 2019).
#
# - The channels of a pixel stand side by side (NHWC), so one address serves all of them. The buffer
#   is smaller than the columns by the number of channels.
# - Padding is the address of a row of zeros, which all share.
# - Strides and dilations are other addresses: the loop over them never changes.
# - It does not depend on the numbers. In a planned network it is made once.
#
# And in NumPy it is, literally, im2col of addresses:


# %%
def addresses_of(height, width, size, padding, stride=(1, 1), dilation=(1, 1)):
    """(pixels of the output, taps); the last address is that of zeros."""
    pixels = np.arange(height * width).reshape(1, 1, height, width)
    seen = windows(pixels, size, stride, padding, dilation, fill=height * width)
    return seen.reshape(size[0] * size[1], -1).T


def by_indirection(x, w, at, block=64):
    """x (h, w, c), w (o, c, k, l) -> y (pixels, o), a block of pixels at a time."""
    channels = x.shape[2]
    pixels = np.concatenate([x.reshape(-1, channels), np.zeros((1, channels), x.dtype)])
    taps = w.transpose(2, 3, 1, 0).reshape(-1, channels, len(w))
    y = np.zeros((len(at), len(w)), x.dtype)
    for i in range(0, len(at), block):
        for k, tap in enumerate(taps):
            y[i : i + block] += pixels[at[i : i + block, k]] @ tap
    return y


nhwc = np.ascontiguousarray(x[0].transpose(1, 2, 0))
options = [
    {},
    {"stride": (2, 2)},
    {"dilation": (2, 3)},
    {"stride": (3, 1), "dilation": (1, 2)},
]
for option in options:
    at = addresses_of(56, 56, (3, 3), around, **option)
    y = by_indirection(nhwc, w, at)
    one = by_columns(x, w, around, **option)[0]
    assert error(y.T.reshape(one.shape), one) < 1e-5

# %% [markdown]
# `pixels[at[...]]` makes a small copy here, since NumPy cannot do without: 64 pixels, which stay in
# the nearest cache. A kernel in machine code loads from the address into a register and multiplies.
#
# What must go through memory? im2col reads the image, writes the columns, and reads them again.
# Indirection reads the image and the addresses, 8 bytes each. (Both read the weights, and write the
# result.) For some layers of ResNet-50, in single precision and for bytes:

# %%
LAYERS = {  # channels, pixels in a row of the output, taps in a row, stride
    "7 × 7, stride 2, 3 @ 224²": (3, 112, 7, 2),
    "3 × 3, 64 @ 56²": (64, 56, 3, 1),
    "3 × 3, 128 @ 28²": (128, 28, 3, 1),
    "3 × 3, 512 @ 7²": (512, 7, 3, 1),
    "1 × 1, 256 @ 56²": (256, 56, 1, 1),
}


def traffic(channels, size, taps, stride, itemsize):
    image = (size * stride) ** 2 * channels * itemsize
    columns = size**2 * taps**2 * channels * itemsize
    buffer = size**2 * taps**2 * 8
    return image + 2 * columns, image + buffer


copied, pointed = traffic(*LAYERS["3 × 3, 64 @ 56²"], 4)
assert copied == x.nbytes + 2 * windows(x, (3, 3), (1, 1), around).reshape(-1).nbytes
assert pointed == x.nbytes + addresses_of(56, 56, (3, 3), around).nbytes

rows = []
for name, layer in LAYERS.items():
    cells = [traffic(*layer, itemsize) for itemsize in (4, 1)]
    told = [[f"{a / 2**20:.2f}", f"{b / 2**20:.2f}", f"{a / b:.1f} ×"] for a, b in cells]
    rows.append([name, *told[0], *told[1]])
head = ["MiB", "fp32: im2col", "indirection", "less by", "int8: im2col", "indirection", "less by"]
table(head, rows)

# %% [markdown]
# With three channels, an address is nearly as large as what it points to, or larger; and a 1 × 1
# convolution needs neither: the image *is* the matrix. Everywhere between, indirection moves an
# order of magnitude less. That matters most where arithmetic is fast: for bytes, on phones, which
# is where it comes from.
#
# ## Which one?
#
# | | multiplications | extra memory | strides, dilations, any filter | rounding |
# |---|---|---|---|---|
# | loops | all | none | yes | the least |
# | im2col | all | the image, times the taps | yes | the same |
# | Winograd | all ÷ 2.25, 4, 5 | tiles; filters times 1.8, 4, 7 | no | grows with the tile |
# | indirection | all | 8 bytes for each pixel and tap | yes | the same |
#
# There is no winner. Winograd loses where filters leave the cache (512 channels on 7 × 7 pixels),
# or where strides are; im2col is best where nobody wants to write a kernel; and "loops", in the
# right order and in registers, beat them all on a first layer of one channel. The next lesson
# writes loops so.
#
# ## What to remember
#
# - A convolution is a product of matrices, and the question is who makes the matrix.
# - Values of a product are products of values: from that follows every fast convolution.
# - Multiplications that are saved are paid for in precision, and points are the currency.
# - What depends on shapes alone, such as addresses, can be made before anything runs.
#
# ## Questions
#
# 1. F(2 × 2, 5 × 5) and F(4 × 4, 3 × 3) have tiles of the same size. Which matrices are the same?
# 2. `toom_cook(m, 3, points)` for $m = 2$ takes three points. What if one of them is 1/3? Which
#    matrix cannot be stored exactly any more, and does it matter?
# 3. A Fourier transform is the same idea. What are the points? Why are their powers never large?
# 4. Write the gradient of the image by indirection: which addresses point to a pixel? Can two
#    threads do it at once?
