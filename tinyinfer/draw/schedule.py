"""Schedules: in which order the steps are to run, and when they ran.

An order is drawn from left to right, stage by stage; the steps of one stage, one above the other, may
run side by side. Beneath, the bytes that are alive. What happened in a run is a Gantt chart: a lane for
each thread, a bar for each step.
"""

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from ..errors import ArgumentError
from ..runtime.order import Order
from ..runtime.profile import Profile
from .arena import begins_with, told, unit_of
from .measure import count
from .style import (
    AMBER,
    ASIDE,
    BLUE,
    GREEN,
    GREY,
    HATCHED,
    VIOLET,
    legend,
    sheet,
    write_in,
)

NARROW, WIDE = 7, 18  # inches, of a picture of an order
STEP = 0.75, 0.42  # inches, that a box takes if there is room
BOX = 0.84, 0.76  # of its place
COLOURS = BLUE, AMBER, GREEN, VIOLET  # of the ops that take most of the time, and GREY
LANE = 0.8  # inches
TALL = 9  # inches at most


def draw_order(order, path, title=None) -> Path:
    """Draw the stages from left to right, with a line from each step to those that need its result,
    and the bytes alive at each stage: .png, .svg or .pdf; returns the path.

    Raises ArgumentError if there are no steps.
    """
    if not order.steps:
        raise ArgumentError("order: there are no steps to draw: all of this graph are views")
    at, arrows = positions(order), arrows_of(order)
    bows = {arrow: bow(*arrow, order, at) for arrow in arrows}
    heights = [y for _, y in at.values()] + [y for y in bows.values() if y is not None]
    low, top = min(heights) - 0.6, max(heights) + 0.6
    width = min(max(NARROW, STEP[0] * len(order.stages) + 1), WIDE)
    tall = min(STEP[1] * (top - low), TALL)
    with sheet(path, width, tall + 2.2, title or headline(order)) as figure:
        ax, below = figure.subplots(2, 1, height_ratios=[tall, 1], sharex=True)
        ax.set(xlim=(0, len(order.stages)), ylim=(low, top))
        ax.set_axis_off()
        peak = int(np.argmax(order.live))
        for each in ax, below:
            each.axvspan(peak, peak + 1, color=AMBER.fill, linewidth=0, zorder=0)
        curves(ax, at, bows)
        alive(below, order.live, peak)
        name_stages(below, len(order.stages))
        figure.draw_without_rendering()  # so that it is known what there is room for
        boxes(ax, order, at)
    return Path(path)


Order.draw = draw_order


def headline(order) -> str:
    steps, stages = len(order.steps), len(order.stages)
    said = f"{steps:,} step{'s' * (steps > 1)} in {order.policy} order"
    if steps > stages:
        together = max(map(len, order.stages))
        said += f", {stages:,} stage{'s' * (stages > 1)}, up to {together} side by side"
    return f"{said}; at most {told(order.peak)} alive"


def positions(order) -> dict:
    """(stage, height) of each step. In a stage the steps are in the order of the mean heights of
    their makers, then of their users, and again: so few arrows cross."""
    makers = makers_of(order)
    users = defaultdict(list)
    for n, each in makers.items():
        for m in each:
            users[m].append(n)
    height = dict.fromkeys(order.steps, 0.0)
    for stages, near in (order.stages, makers), (order.stages[::-1], users), (order.stages, makers):
        for stage in stages:
            wanted = {n: np.mean([height[m] for m in near[n]] or height[n]) for n in stage}
            for i, n in enumerate(sorted(stage, key=wanted.get)):
                height[n] = i - (len(stage) - 1) / 2
    return {n: (x, height[n]) for x, stage in enumerate(order.stages) for n in stage}


def makers_of(order) -> dict:
    """Of each step those whose results it reads, through views."""
    steps, found = set(order.steps), {}
    for n in order.graph.steps:
        each = [(x,) if x in steps else found.get(x, ()) for x in n.inputs]
        found[n] = tuple(dict.fromkeys(m for makers in each for m in makers))
    return {n: found[n] for n in steps}


def arrows_of(order) -> list:
    return [(m, n) for n, makers in makers_of(order).items() for m in makers]


def bow(m, n, order, at) -> float | None:
    """How high, or how low, an arrow goes around what lies between; None if nothing is in its way."""
    (start, low), (end, high) = at[m], at[n]
    between = [(at[k], k) for stage in order.stages[start + 1 : end] for k in stage]
    line = lambda x: low + (high - low) * (x - start) / (end - start)
    if not any(abs(y - line(x)) < 0.6 for (x, y), _ in between):
        return None
    over = max(y for (_, y), _ in between) + 0.3 + 0.35 * np.log2(end - start)
    return -over if low + high < 0 else over


def curves(ax, at, bows):
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    codes = [Outline.MOVETO] + [Outline.CURVE4] * 3
    patches = [
        PathPatch(Outline(way(at[m], at[n], middle), codes)) for (m, n), middle in bows.items()
    ]
    thin = 1 if len(patches) < 300 else 0.4
    ax.add_collection(
        PatchCollection(patches, facecolor="none", edgecolor=ASIDE, linewidth=thin, zorder=1)
    )


def way(start, end, middle) -> list:
    """The four points of a Bézier curve, whose middle is so high."""
    (x, y), (end_x, end_y) = start, end
    left, right = x + (1 + BOX[0]) / 2, end_x + (1 - BOX[0]) / 2
    if middle is None:
        turn = (left + right) / 2
        return [(left, y), (turn, y), (turn, end_y), (right, end_y)]
    side = np.sign(middle) * BOX[1] / 2
    left, right, y, end_y = x + 0.5, end_x + 0.5, y + side, end_y + side
    pull = (8 * middle - y - end_y) / 6
    return [(left, y), (left, pull), (right, pull), (right, end_y)]


def boxes(ax, order, at):
    from matplotlib.collections import PolyCollection

    (w, h), names = BOX, order.graph.names
    middles = np.array([(x + 0.5, y) for x, y in at.values()])
    corners = np.array([(-w, -h), (w, -h), (w, h), (-w, h)]) / 2
    blocks = middles[:, None] + corners
    thin = 0.9 if len(blocks) < 200 else 0.4
    look = {"facecolor": BLUE.fill, "edgecolor": BLUE.line, "linewidth": thin, "zorder": 2}
    ax.add_collection(PolyCollection(blocks, **look))
    for n, block in zip(at, blocks):
        write_in(ax, block, [f"%{names[n]}", begins_with(n.op)])


def alive(ax, live, peak):
    unit = unit_of(live[peak])
    ax.stairs(np.array(live) / unit.size, fill=True, color=GREY.fill)
    ax.stairs(np.array(live) / unit.size, color=GREY.line, linewidth=1 if len(live) < 200 else 0.4)
    ax.set(ylim=(0, 1.5 * max(live[peak] / unit.size, 1e-9)), ylabel=f"alive, {unit.name}")
    right = peak > len(live) / 2
    ax.annotate(
        f" {told(live[peak])} at stage {peak} ", (peak + right, live[peak] / unit.size), (0, 3),
        textcoords="offset points", ha="right" if right else "left", color=AMBER.line,
        fontsize=8, fontweight="bold",
    )  # fmt: skip


def name_stages(ax, count):
    step = -(-count // 40)
    step = next(s for k in range(9) for s in (10**k, 2 * 10**k, 5 * 10**k) if s >= step)
    stages = np.arange(0, count, step)
    ax.set_xticks(stages + 0.5, stages, fontsize=8)
    ax.set_xlabel("stage")


# What happened


def gantt(events, path, names=None, title=None) -> Path:
    """Draw when each step ran, on which thread: .png, .svg or .pdf; returns the path.

    Of each event `node`, `lane`, the number of the thread, and `start` and `end`, in seconds; `names`
    of the nodes, as print(graph) calls them. The ops that take most of the time have a colour; time
    in which a thread had no step is hatched.
    Raises ArgumentError if there are no events.
    """
    events, names = list(events), names or {}
    if not events:
        raise ArgumentError("gantt: there are no events to draw: no step ran")
    begin, end = min(e.start for e in events), max(e.end for e in events)
    lanes = sorted({e.lane for e in events})
    colours = colours_of(events)
    with sheet(path, 12, min(LANE * len(lanes), TALL) + 2, title or happened(events)) as figure:
        ax = figure.subplots()
        unit, size = next(u for u in TIMES if end - begin >= u[1] or u is TIMES[-1])
        whole = (end - begin) / size or 1
        ax.set(xlim=(-0.002 * whole, 1.002 * whole), ylim=(len(lanes) - 0.4, -0.6), xlabel=unit)
        ax.spines[["left", "bottom"]].set_visible(False)
        shares = {lane: busy(events, lane) / (end - begin or 1) for lane in lanes}
        told = [f"{lane_name(k)}\n{100 * share:.0f} % busy" for k, share in shares.items()]
        ax.set_yticks(range(len(lanes)), told)
        ax.tick_params(axis="y", length=0)
        ax.barh(range(len(lanes)), whole, 0.8, **HATCHED, linewidth=0)
        key(figure, events, colours)
        figure.draw_without_rendering()
        bars(ax, events, lanes, names, colours, begin, size)
    return Path(path)


def draw_profile(profile, path, title=None) -> Path:
    """Draw when each step of the run of median time ran, on which thread: .png, .svg or .pdf; returns
    the path. Time in which a thread had no step is hatched."""
    return gantt(profile.events, path, profile.graph.names, title)


Profile.draw = draw_profile

TIMES = ("s", 1), ("ms", 1e-3), ("µs", 1e-6)


def lane_name(lane) -> str:
    return f"thread {lane}" if lane else "caller"


def busy(events, lane) -> float:
    return sum(e.end - e.start for e in events if e.lane == lane)


def happened(events) -> str:
    wall = max(e.end for e in events) - min(e.start for e in events)
    lanes = len({e.lane for e in events})
    said = f"{len(events):,} step{'s' * (len(events) > 1)} in {count(wall, 's')}"
    if lanes == 1:
        return said
    abreast = sum(e.end - e.start for e in events) / (wall or 1)
    return f"{said} on {lanes} threads, {abreast:.2f} at a time"


def colours_of(events) -> dict:
    """The ops by the time they take, those with the most in a colour of their own."""
    spent = Counter()
    for e in events:
        spent[begins_with(e.node.op)] += e.end - e.start
    return {
        op: COLOURS[i] if i < len(COLOURS) else GREY
        for i, (op, _) in enumerate(spent.most_common())
    }


def percent(x) -> str:
    return f"{x:.0f} %" if x >= 1 else "< 1 %"


def key(figure, events, colours):
    from matplotlib.patches import Patch

    spent, whole = defaultdict(float), sum(e.end - e.start for e in events) or 1
    for e in events:
        op = begins_with(e.node.op)
        spent[op if colours[op] is not GREY else "other steps"] += 100 * (e.end - e.start) / whole
    shown = sorted(spent, key=lambda op: (op == "other steps", -spent[op]))
    keys = [
        Patch(facecolor=c.fill, edgecolor=c.line, label=f"{op}  {percent(spent[op])}")
        for op in shown for c in [colours.get(op, GREY)]
    ]  # fmt: skip
    legend(figure, [*keys, Patch(label="idle", **HATCHED)])


def bars(ax, events, lanes, names, colours, begin, size):
    from matplotlib.collections import PolyCollection

    row = {lane: i for i, lane in enumerate(lanes)}
    start = np.array([e.start - begin for e in events]) / size
    end = np.array([e.end - begin for e in events]) / size
    y = np.array([row[e.lane] for e in events])
    blocks = np.stack([start, y + 0.4, end, y + 0.4, end, y - 0.4, start, y - 0.4], 1)
    blocks = blocks.reshape(-1, 4, 2)
    ops = [begins_with(e.node.op) for e in events]
    fills, lines = zip(*[colours[op] for op in ops])
    thin = 0.9 if len(blocks) < 200 else 0.3
    ax.add_collection(
        PolyCollection(blocks, facecolors=fills, edgecolors=lines, linewidths=thin, zorder=2)
    )
    for e, op, block in zip(events, ops, blocks):
        name = f"%{names[e.node]}" if e.node in names else op
        write_in(ax, block, [*dict.fromkeys((name, op)), count(e.end - e.start, "s")])
