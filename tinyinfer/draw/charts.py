"""Charts of a training run: how it went, and what the network gets wrong."""

import math
from pathlib import Path

import numpy as np

from ..errors import ArgumentError, ShapeError
from .style import AMBER, BLUE, FAINT, GREEN, MUTED, PAPER, sheet

LINES = {
    "train": {"color": AMBER.line, "linestyle": (0, (4, 1.5)), "linewidth": 1.6},
    "test": {"color": BLUE.line, "linestyle": "-", "linewidth": 2.2},
}
SPAN = 10  # a chart whose largest value is so many times the smallest has a logarithmic scale
LINE_HEIGHT = 0.075  # of a line of text, as a part of the height of a chart
SHOWN = 36  # images
COLUMNS = 9
ROW, HALF = 1.4, 0.42  # inches: of a row, and half of an image
GAP = math.nan, math.nan
FEWEST = 6  # columns: narrower, the words do not fit


def curves(rows, path, title=None) -> Path:
    """Loss and error over the epochs, side by side, with the best epoch marked: .png, .svg or .pdf.

    `rows` are the lines of a run's metrics.jsonl: {"epoch": 1, "train_loss": 0.3, "test_loss": 0.2,
    "train_accuracy": 0.9, "test_accuracy": 0.95}, accuracies as fractions. What is missing, None or
    not finite is left out. Returns the path; raises ArgumentError if there are no rows.
    """
    epochs = np.array([row["epoch"] for row in rows])
    charts = {
        "Loss": {name: column(rows, f"{name}_loss") for name in LINES},
        "Error in %": {name: 100 - 100 * column(rows, f"{name}_accuracy") for name in LINES},
    }
    charts = {what: known for what, lines in charts.items() if (known := finite(lines))}
    if not charts:
        raise ArgumentError("curves: there is no epoch with a loss to draw: train for one at least")
    with sheet(path, 4.5 * len(charts), 3.6, title) as figure:
        axes = figure.subplots(1, len(charts), squeeze=False)[0]
        for ax, (what, lines) in zip(axes, charts.items()):
            ax.set_title(what)
            panel(ax, epochs, lines)
        mark_best(axes, epochs, charts)
    return Path(path)


def column(rows, key):
    values = [math.nan if row.get(key) is None else row[key] for row in rows]
    return np.where(np.isfinite(values), values, math.nan)


def finite(lines):
    return {name: y for name, y in lines.items() if np.isfinite(y).any()}


def panel(ax, epochs, lines):
    for name, y in lines.items():
        ax.plot(epochs, y, marker="o" if len(y) < 3 else "", clip_on=False, **LINES[name])
    ax.grid(axis="y", color=FAINT, linewidth=0.6)
    ax.set_xlabel("epoch")
    ax.xaxis.get_major_locator().set_params(integer=True)
    if len(epochs) == 1:
        ax.set_xticks(epochs)
    scale(ax, np.concatenate([*lines.values()]))
    names_at_the_end(ax, lines)


def scale(ax, values):
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    low, high = np.nanmin(values), np.nanmax(values)
    if 0 < SPAN * low < high:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.yaxis.set_minor_locator(NullLocator())
    elif low >= 0:
        ax.set_ylim(0, 1.06 * high or 1)


def names_at_the_end(ax, lines):
    """Instead of a legend; far enough apart to be read."""
    to_height = ax.transScale + ax.transLimits
    ends = [to_height.transform((0, y[np.isfinite(y)][-1]))[1] for y in lines.values()]
    if len(ends) == 2 and abs(ends[0] - ends[1]) < LINE_HEIGHT:
        way = math.copysign(LINE_HEIGHT / 2, ends[0] - ends[1])
        ends = [np.mean(ends) + way, np.mean(ends) - way]
    for name, end in zip(lines, ends):
        style = {"color": LINES[name]["color"], "va": "center", "fontweight": "bold"}
        ax.text(1.02, end, name, transform=ax.transAxes, **style)


def mark_best(axes, epochs, charts):
    """The first epoch with the least error, or loss; of the test set, if there is one."""
    what, lines = [*charts.items()][-1]
    name = "test" if "test" in lines else "train"
    best = np.nanargmin(lines[name])
    value = f"{100 - lines[name][best]:.2f} % right" if "%" in what else f"{lines[name][best]:.3g}"
    text = f"best {name}: {value}, epoch {epochs[best]}"
    axes[-1].set_title(text, loc="right", fontsize=9, fontweight="normal")
    ring = {"markersize": 6.5, "markerfacecolor": PAPER, "markeredgewidth": 1.6, "clip_on": False}
    for ax, lines in zip(axes, charts.values()):
        ax.axvline(epochs[best], color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)), zorder=0)
        for name, y in lines.items():
            ax.plot(epochs[best], y[best], "o", color=LINES[name]["color"], zorder=3, **ring)


def mistakes(images, truth, predicted, confidence, path, classes=None, title=None) -> Path:
    """The mistakes, the surest first, up to 36: .png, .svg or .pdf. Without mistakes, the closest
    calls.

    Of n examples, right and wrong ones: images (n, h, w), (n, 1, h, w) or (n, 3, h, w) of any
    range; truth and predicted (n,), places in `classes`, the names; confidence (n,), the
    probability of what was predicted. Returns the path.
    Raises ShapeError if these do not fit together, ArgumentError if n is 0.
    """
    images, truth, predicted, confidence = map(np.asarray, (images, truth, predicted, confidence))
    check(images, truth, predicted, confidence)
    wrong = np.flatnonzero(truth != predicted)
    if wrong.size:
        order = wrong[np.argsort(-confidence[wrong], kind="stable")][:SHOWN]
        count = f"{len(wrong):,} mistake{'s' if len(wrong) > 1 else ''}"
        found = f"{count} in {len(truth):,} images ({100 * len(wrong) / len(truth):.3g} %)"
        legend = "truth → prediction, and how sure the network was of it; the surest first"
    else:
        order = np.argsort(confidence, kind="stable")[: SHOWN // 2]
        found = f"No mistakes in {len(truth):,} images"
        legend = "the closest calls, and how sure the network was; the least sure first"
    captions = [caption(t, p, classes) for t, p in zip(truth[order], predicted[order])]
    columns = min(max(len(order), FEWEST), COLUMNS)
    rows = -(-len(order) // columns)
    with sheet(path, columns, 0.8 + 1.4 * rows, f"{title}: {found}" if title else found) as figure:
        figure.supxlabel(legend, x=0.012, ha="left", fontsize=9, color=MUTED)
        colour = AMBER.line if wrong.size else GREEN.line
        tiles(figure, (rows, columns), pixels(images[order]), captions, confidence[order], colour)
    return Path(path)


def caption(truth, predicted, classes):
    truth, predicted = ((str(k) if classes is None else classes[k]) for k in (truth, predicted))
    if truth == predicted:
        return truth
    return f"{truth} → {predicted}" if len(truth + predicted) < 8 else f"{truth}\n→ {predicted}"


def check(images, truth, predicted, confidence):
    n = len(images)
    if not truth.shape == predicted.shape == confidence.shape == (n,):
        raise ShapeError(
            f"mistakes: {n} images, truth {truth.shape}, predicted {predicted.shape}, confidence "
            f"{confidence.shape}: give each image one of them"
        )
    if images.ndim not in (3, 4) or images.ndim == 4 and images.shape[1] not in (1, 3):
        raise ShapeError(
            f"mistakes: images are (n, h, w), (n, 1, h, w) or (n, 3, h, w), not {images.shape}"
        )
    if not n:
        raise ArgumentError("mistakes: there are no images")


def pixels(images):
    """(n, h, w) or (n, h, w, 3), from 0 to 1 over all of them."""
    images = images.astype(float)
    low, high = images.min(), images.max()
    images = (images - low) / (high - low or 1)
    if images.ndim == 3:
        return images
    return images[:, 0] if images.shape[1] == 1 else images.transpose(0, 2, 3, 1)


def tiles(figure, shape, images, captions, confidence, colour):
    """In one coordinate system, of inches: to have one for each image takes four times as long."""
    rows, columns = shape
    ax = figure.add_subplot(aspect="equal", xlim=(0, columns), ylim=(ROW * rows, 0))
    ax.set_axis_off()
    small = any(len(caption) > 9 for caption in captions)
    half = HALF * np.array(images.shape[2:0:-1]) / max(images.shape[1:3])  # of an image
    inside = {"in_layout": False}  # of the axes, whose size is known
    text = {"ha": "center", **inside}
    frames = []
    for i, (image, caption, sure) in enumerate(zip(images, captions, confidence)):
        row, column = divmod(i, columns)
        x, y = column + 0.5, ROW * (row + 0.5)
        (left, top), (right, bottom) = (x, y) - half, (x, y) + half
        box = left, right, bottom, top
        ax.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest", extent=box, **inside)
        frames += [(left, top), (right, top), (right, bottom), (left, bottom), (left, top), GAP]
        style = {"fontsize": 8 if small else 10, "fontweight": "bold", "va": "bottom"}
        ax.text(x, top - 0.05, caption, **text, **style)
        ax.text(x, bottom + 0.05, f"{100 * sure:.0f} %", fontsize=8, color=MUTED, va="top", **text)
    ax.plot(*zip(*frames), color=colour, linewidth=1.2, **inside)
    ax.set(xlim=(0, columns), ylim=(ROW * rows, 0))
