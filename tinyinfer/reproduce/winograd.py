"""How many multiplications Winograd's convolution saves, and what it costs: its rounding errors in
four kinds of numbers, for tiles of three sizes and for several sets of points.

The images are normal random numbers after a ReLU, 64 channels of 28 x 28; the 64 filters of 3 x 3
are normal random numbers of variance 2 / (9 64), as He et al. begin; padding 1. Right is what
double precision gives. An error is ‖y - right‖ / ‖right‖, and for int8, as usual there, 20 log10 of
its inverse, in decibels.

    fp32           all in single precision
    fp16           what is stored between the steps, U = G w Gᵀ, V = Bᵀ d B and the products M, is
                   rounded to half precision; sums are single
    int8           U and V are rounded to 255 levels, with one scale for all of U and one for all of
                   V; the products and what follows are exact
    int8, by tap   ... with a scale for each of the n x n elements, the taps, of U and of V

The convolution by its definition, "direct", has w and x rounded where the others have U and V.

The multiplications are counted by A. Lavin and S. Gray, Fast algorithms for convolutional neural
networks, 2015, arXiv 1509.09308; better points by B. Barabasz et al., Error analysis and improving
the accuracy of Winograd convolution for deep neural networks, 2018, arXiv 1803.10986; taps by R.
Andri et al., Going further with Winograd convolutions, 2022, arXiv 2209.12982. These measure errors
on networks of their own. The reference figures of errors are not theirs, but of another
implementation, of which only the 64 channels are known. The ReLU was chosen after them: without it,
errors in single precision are 15 to 40 % larger. What depends on the order of sums (direct), or on
the largest of all numbers (int8 with one scale), need not be the same.
"""

import statistics
from decimal import Decimal
from math import log10, sqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from ..draw.style import AMBER, BLUE, FAINT, GREEN, INK, MUTED, PAPER, SMALL, VIOLET, legend, sheet
from ..ops.conv import Conv2d
from ..ops.winograd import convolve, filters, multiplications

CHANNELS, SIZE, PADDING = 64, 28, ((1, 1), (1, 1))


class Method(NamedTuple):
    m: int  # outputs of a tile are m x m; 0 is the definition
    points: tuple = ()

    def __str__(self):
        return f"F({self.m}×{self.m})  {written(self.points)}" if self.m else "direct"


def written(points) -> str:
    """0 ±1 ½ −2"""
    once = [p for p in points if p >= 0 or -p not in points]
    text = {0.5: "½", -2: "−2"}
    return " ".join("±" * (p > 0 and -p in points) + text.get(p, str(p)) for p in once)


DIRECT, F2 = Method(0), Method(2, (0, 1, -1))
F4 = [Method(4, (0, 1, -1, *rest)) for rest in [(2, -2), (0.5, -0.5), (0.5, -2)]]
F6 = [Method(6, (0, 1, -1, 2, -2, *rest)) for rest in [(3, -3), (0.5, -0.5)]]
METHODS = DIRECT, F2, *F4, *F6

SAVED = {2: "2.25", 4: "4", 6: "5.0625"}
# fmt: off
REFERENCE = {
    "fp32": {DIRECT: "1.6e-7", F2: "2.2e-7", F4[0]: "1.3e-6", F4[2]: "8.8e-7", F6[1]: "2.9e-6"},
    "fp16": {},
    "int8": {DIRECT: "37", F2: "32", F4[0]: "0.1", F4[2]: "12"},
    "int8, by tap": {F2: "35", F4[0]: "19", F4[2]: "23"},
}
# fmt: on


# Kinds of numbers


class Numbers(NamedTuple):
    dtype: str  # of sums, and of all that is not rounded
    factors: object  # how U and V are kept
    products: object  # and M


def as_is(z):
    return z


def half(z):
    return z.astype("float16").astype(z.dtype)


def int8(z, axes=None):
    """Rounded to -127 ... 127 times a scale, which the numbers along these axes share."""
    scale = np.abs(z).max(axes, keepdims=True) / 127
    return np.round(z / scale) * scale


def int8_by_tap(z):
    """z (n, n, ...)"""
    return int8(z, tuple(range(2, z.ndim)))


NUMBERS = {
    "fp32": Numbers("float32", as_is, as_is),
    "fp16": Numbers("float32", half, half),
    "int8": Numbers("float64", int8, as_is),
    "int8, by tap": Numbers("float64", int8_by_tap, as_is),
}


# Errors


def errors(seed) -> dict:
    """{(kind of numbers, method): relative error}"""
    random = np.random.default_rng(seed)
    x = np.maximum(random.standard_normal((1, CHANNELS, SIZE, SIZE), "float32"), 0)
    w = random.standard_normal((CHANNELS, CHANNELS, 3, 3), "float32") * np.float32(
        sqrt(2 / (9 * CHANNELS))
    )
    right = direct(x, w, Numbers("float64", as_is, as_is))
    return {
        (kind, method): relative(convolved(x, w, method, numbers), right)
        for kind, numbers in NUMBERS.items()
        for method in METHODS
        if method.m or numbers.factors is not int8_by_tap  # the definition has no taps
    }


def relative(y, right) -> float:
    return float(np.linalg.norm(y - right) / np.linalg.norm(right))


def convolved(x, w, method, numbers):
    if not method.m:
        return direct(x, w, numbers)
    u = numbers.factors(filters(w, *method).astype(numbers.dtype))
    x, how = x.astype(numbers.dtype), (numbers.factors, numbers.products)
    return convolve(x, u, method.m, 3, method.points, PADDING, *how)


def direct(x, w, numbers):
    x, w = (numbers.factors(z.astype(numbers.dtype)) for z in (x, w))
    return Conv2d(padding=PADDING).forward(x, w)


# What is printed


def table(seeds=3, out="runs/reproduce-winograd") -> Table:
    """A row for each figure: the reference, ours as mean and spread, and how they differ. A picture
    of the errors is in `out`."""
    runs = [errors(seed) for seed in range(seeds)]
    Path(out).mkdir(parents=True, exist_ok=True)
    Console().print(str(draw(means(runs), Path(out, "errors.svg"))))
    return shown(runs)


def means(runs) -> dict:
    return {key: statistics.mean(run[key] for run in runs) for key in runs[0]}


def shown(runs) -> Table:
    caption = f"{CHANNELS} → {CHANNELS} channels of {SIZE} × {SIZE}, {len(runs)} seeds"
    made = Table(box=None, padding=(0, 1), pad_edge=False, caption=caption)
    for head in "", "reference", "ours", "spread", "difference":
        made.add_column(head, justify="right" if head else "left", no_wrap=True)
    made.add_row("multiplications saved, times", style="bold")
    for m, reference in SAVED.items():
        ours = float(9 / multiplications(m, 3))
        made.add_row(f"F({m}×{m})", reference, f"{ours:g}", "", apart(ours, reference, ""))
    for kind, references in REFERENCE.items():
        unit = "dB" if kind.startswith("int8") else "%"
        made.add_row()
        made.add_row(
            kind + (", signal to error" if unit == "dB" else ", relative error"), style="bold"
        )
        for method in METHODS:
            if found := [run[kind, method] for run in runs if (kind, method) in run]:
                made.add_row(str(method), *cells(found, references.get(method, ""), unit))
    return made


def cells(errors, reference, unit) -> list[str]:
    """The reference; ours, its spread, and how it differs: in decibels, or in percent of it."""
    if unit == "dB":
        errors = [decibels(e) for e in errors]
    mean, spread = statistics.mean(errors), statistics.stdev(errors) if len(errors) > 1 else 0
    if unit == "dB":
        told = f"{reference} dB" if reference else "", f"{mean:.1f} dB", f"± {spread:.1f} dB"
    else:
        told = reference, f"{mean:.2e}".replace("e-0", "e-"), f"± {spread / mean:.1%}"
    return [*told, apart(mean, reference, unit)]


def apart(ours, reference, unit) -> str:
    """Of ours; the same, if they are so to the last digit of the reference."""
    if not reference:
        return ""
    if Decimal(ours).quantize(Decimal(reference)) == Decimal(reference):
        return "same"
    difference = ours - float(reference)
    return f"{difference:+.1f} dB" if unit == "dB" else f"{difference / float(reference):+.0%}"


def decibels(error) -> float:
    return -20 * log10(error)


# The picture

BARS = {"fp32": BLUE, "fp16": GREEN, "int8, by tap": VIOLET, "int8": AMBER}
WIDTH = 0.21  # of a bar, where methods are 1 apart


def draw(errors, path, title="Rounding errors of a 3 × 3 convolution") -> Path:
    """The errors, as `errors` gives them, a bar each: .png, .svg or .pdf. Returns the path."""
    from matplotlib.patches import Patch

    with sheet(path, 9, 4.4, title) as figure:
        ax = figure.subplots()
        ax.set_title(
            "relative; where it is above 1, there is more error than result",
            fontsize=9, fontweight="normal", color=MUTED,
        )  # fmt: skip
        logarithmic(ax)
        for i, (kind, colour) in enumerate(BARS.items()):
            known = [(x, errors[kind, m]) for x, m in enumerate(METHODS) if (kind, m) in errors]
            for x, error in known:
                bar(ax, x + WIDTH * (i - 1.5), error, colour)
        names = [str(m).replace("  ", "\n") for m in METHODS]
        ax.set_xticks(range(len(METHODS)), names, color=INK, fontsize=9)
        legend(
            figure, [Patch(facecolor=c.fill, edgecolor=c.line, label=k) for k, c in BARS.items()]
        )
    return Path(path)


def logarithmic(ax):
    from matplotlib.ticker import LogLocator, NullFormatter

    ax.set(yscale="log", ylim=(3e-8, 5000), xlim=(-0.6, len(METHODS) - 0.4))
    ax.yaxis.set_major_locator(LogLocator(numticks=12))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.tick_params(axis="x", length=0)
    ax.grid(axis="y", color=FAINT, linewidth=0.6)
    ax.axhline(1, color=INK, linewidth=1.2, linestyle=(0, (4, 2)))


def bar(ax, x, error, colour):
    ax.bar(x, error, 0.9 * WIDTH, facecolor=colour.fill, edgecolor=colour.line, linewidth=1)
    text = f"{error:.1e}".replace("e-0", "e-") if error < 0.01 else f"{error:#.2g}"
    ax.text(
        x, 1.25 * error, f"{error:.0f}" if error >= 10 else text, rotation=90, fontsize=SMALL,
        ha="center", va="bottom", color=colour.line,
        bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.3},
    )  # fmt: skip
