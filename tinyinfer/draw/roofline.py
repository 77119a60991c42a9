"""The roofline: how fast each step of a graph can be at best, on a machine of a given peak and
bandwidth. (Williams, Waterman and Patterson 2009.)"""

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..core.check import number
from ..errors import ArgumentError
from ..graph.analyze import Analysis
from ..runtime.machine import machine
from .measure import count
from .sketch import name_of
from .style import AMBER, BLUE, FAINT, INK, MUTED, sheet

NAMED = 10  # points at most
WORTH = 0.005  # a name: the share of the FLOPs
AREA = 900  # of a point with all FLOPs
AROUND = [(np.cos(a), np.sin(a)) for a in np.radians([-20, 160, -60, 120, 20, -160, 60, -120, -90])]


class Point(NamedTuple):
    name: str
    flops: int
    bytes: int

    @property
    def intensity(self):
        return self.flops / self.bytes


def roofline(analysis, path, peak=None, bandwidth=None) -> Path:
    """Draw the steps under the roof of a machine: .png, .svg or .pdf.

    `peak` in FLOP/s, `bandwidth` of the memory in bytes/s; without them those of one core of this
    machine, as `tinyinfer bench machine` measured it, or else of an AMD EPYC (Zen 5). A point is a
    step, or several alike, as large as its share of the FLOPs; its height is what it can reach at
    best. Returns the path.
    Raises ArgumentError if these are no positive numbers, or if no step computes.
    """
    here, own = machine(), (peak, bandwidth) != (None, None)
    peak = number("roofline: peak", here.peak if peak is None else peak, "(0, inf)")
    bandwidth = here.bandwidth if bandwidth is None else bandwidth
    bandwidth = number("roofline: bandwidth", bandwidth, "(0, inf)")
    points = points_of(analysis)
    if not points:
        raise ArgumentError("roofline: no step of this graph computes, they only move numbers")
    roofs = f"peak {count(peak, 'FLOP/s')}, memory {count(bandwidth, 'B/s')}"
    if not own:
        of = f"an {here.name}" if here.assumed else f"this machine, {here.name}"
        roofs += f": {'assumed, as ' * here.assumed}measured on one core of {of}"
    with sheet(path, 8, 5.2, "Roofline") as figure:
        ax = figure.subplots()
        ax.set_title(roofs, fontsize=9, fontweight="normal", color=MUTED)
        roof(ax, points, peak, bandwidth)
        dots(ax, points, analysis.flops, peak, bandwidth)
        figure.supxlabel(
            remark(analysis, peak, bandwidth), x=0.012, ha="left", fontsize=9, color=MUTED
        )
    return Path(path)


Analysis.draw = roofline


def points_of(analysis) -> list[Point]:
    """Steps of one op and intensity are one point; the largest first."""
    alike = defaultdict(list)
    for row in analysis.rows:
        if row.flops and row.bytes:
            alike[name_of(row.node.op), f"{row.intensity:.2g}"].append(row)
    points = [
        Point(title(rows), sum(r.flops for r in rows), sum(r.bytes for r in rows))
        for rows in alike.values()
    ]
    return sorted(points, key=lambda p: -p.flops)


def title(rows) -> str:
    """Of one step, with the module it is in: "conv1 conv2d"; of several, "conv2d ×4"."""
    n, calls = rows[0].node, rows[0].node.origin.calls
    if len(rows) > 1:
        return f"{name_of(n.op)} ×{len(rows)}"
    path, named, _ = (calls and calls[-1].title or "").partition(": ")
    return f"{path} {name_of(n.op)}" if named else name_of(n.op)


def roof(ax, points, peak, bandwidth):
    ridge = peak / bandwidth
    known = [p.intensity for p in points] + [ridge]
    low, high = min(known) / 2, max(known) * 4
    x = np.array([low, ridge, high])
    y = np.minimum(peak, bandwidth * x) / 1e9
    floor = y[0] / 3
    ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(floor, 3 * peak / 1e9))
    ax.set(xlabel="FLOP for each byte moved", ylabel="GFLOP/s at best")
    plain(ax)
    ax.grid(color=FAINT, linewidth=0.6)
    ax.plot(x, y, color=INK, linewidth=2, zorder=2)
    ax.axvline(ridge, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
    for side, text, colour in ("right", "memory-bound ", BLUE), ("left", " compute-bound", AMBER):
        ax.text(
            ridge, floor * 1.15, text, ha=side, va="bottom", color=colour.line, fontweight="bold"
        )


def plain(ax):
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for axis in ax.xaxis, ax.yaxis:
        axis.set_major_locator(LogLocator())
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())


def dots(ax, points, flops, peak, bandwidth):
    x = np.array([p.intensity for p in points])
    y = np.minimum(peak, bandwidth * x) / 1e9
    share = np.array([p.flops / flops for p in points])
    colours = [(BLUE if i < peak / bandwidth else AMBER).line for i in x]
    ax.scatter(x, y, AREA * share + 12, colours, alpha=0.75, linewidths=0, zorder=3)
    named = [text(p, s) for p, s in zip(points[:NAMED], share) if s >= WORTH]
    label(ax, np.stack([x, y], 1), np.sqrt(AREA * share + 12) / 2, named)


def text(point, share):
    return f"{point.name}  {100 * share:.{int(share < 0.1)}f} %"


def label(ax, at, radii, texts):
    """Each near its point where there is room, the first first; a line leads there."""
    ax.figure.draw_without_rendering()  # so that it is known where everything is
    unit = ax.figure.dpi / 72
    spots = ax.transData.transform(at)
    x, y = ax.lines[0].get_data()
    line = np.stack([np.geomspace(x[0], x[-1], 200), np.zeros(200)], 1)
    line[:, 1] = np.exp(np.interp(np.log(line[:, 0]), np.log(x), np.log(y)))
    taken = [*around(spots, radii * unit), *around(ax.transData.transform(line), 2 * unit)]
    inside = ax.get_window_extent()
    for name, xy, spot, radius in zip(texts, at, spots, radii):
        size = size_of(ax, name)
        box = room(spot, radius * unit, size, taken, inside)
        taken.append(box)
        end = (box[2] < spot[0], 0.5)  # of the text, from where the line goes
        arrow = {"arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "relpos": end}
        ax.annotate(
            name, xy, (np.array([box[0], (box[1] + box[3]) / 2]) - spot) / unit, fontsize=8,
            textcoords="offset points", va="center", in_layout=False, zorder=4,
            arrowprops=arrow | {"shrinkA": 0, "shrinkB": radius},
        )  # fmt: skip


def size_of(ax, text):
    drawn = ax.text(0, 0, text, fontsize=8)
    box = drawn.get_window_extent()
    drawn.remove()
    return np.array([box.width, box.height])


def around(spots, radius):
    """[left, bottom, right, top] of what is there."""
    radius = np.broadcast_to(radius, len(spots))[:, None]
    return np.concatenate([spots - radius, spots + radius], 1)


def room(spot, radius, size, taken, inside):
    """The nearest box of this size that is free."""
    taken, ways = np.array(taken), np.array(AROUND)
    for far in range(1, 40):
        x, y = (spot + ways * (radius + 0.6 * size[1] * far)).T
        corner = np.stack([x - size[0] * (ways[:, 0] < 0), y - size[1] / 2], 1)
        boxes = np.concatenate([corner, corner + size], 1)
        within = (boxes[:, :2] > inside.min).all(1) & (boxes[:, 2:] < inside.max).all(1)
        left = (boxes[:, None, :2] > taken[:, 2:]) | (boxes[:, None, 2:] < taken[:, :2])
        if (free := within & left.any(2).all(1)).any():
            break
    return boxes[free.argmax()]


def remark(analysis, peak, bandwidth) -> str:
    seconds = sum(max(r.flops / peak, r.bytes / bandwidth) for r in analysis.rows)
    return (
        f"{count(analysis.flops, 'FLOP')} and {count(analysis.bytes, 'B')}: no less than "
        f"{count(seconds, 's')}. A point is as large as its share of the FLOPs."
    )
