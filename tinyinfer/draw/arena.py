"""The arena over time: which bytes hold what, at which stage of a run.

A buffer is a block, as wide as it lives and as high as it is large, and a plan is a packing of them.
What is free beneath a live block is hatched: it is of no use. No arena is lower than the dashed line,
the most bytes that are alive at once.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import ArgumentError
from ..runtime.memory import FEW, PLANNERS, place
from ..runtime.plan import Plan
from .sketch import name_of
from .style import (
    AMBER,
    BLUE,
    GREEN,
    GREY,
    HATCHED,
    INK,
    LINE_OF_SMALL,
    MUTED,
    SMALL,
    WASHES,
    legend,
    sheet,
    width_of,
    write_in,
)

KINDS = {  # what a buffer holds: its colour, and the words of the legend
    "result": (BLUE, "result"),
    "group": (GREEN, "results side by side, parts of one"),
    "scratch": (AMBER, "scratch memory"),
}
UNITS = "B", "KiB", "MiB", "GiB", "TiB"
COLUMNS = 4  # of small pictures
WIDTH = 3.9  # of one, in inches
CUT = 1.5  # times as high as all others: a placement that is higher is cut off
LONG = 20  # characters: a name of a stage that is longer is cut
DASHED = {"color": INK, "linewidth": 1.2, "linestyle": (0, (4, 2)), "zorder": 4}


class Hole(NamedTuple):
    """The bytes from low to high, free beneath a live block from the stage first to the stage last."""

    low: int
    high: int
    first: int
    last: int


def arena(buffers, placements, path, lower_bound=None, kinds=None, stages=None, title=None) -> Path:
    """Draw where each buffer lies, and for how long: .png, .svg or .pdf.

    Beneath, the bytes alive at each stage. Of several placements of the same buffers small pictures
    side by side, of one scale; one that is far higher than all others is cut off. `lower_bound` is
    in bytes, without it the most bytes alive at once; `kinds` has for each buffer what it holds,
    "result", "group" or "scratch"; `stages` are the names of the stages, for the picture of one
    placement. A name of a buffer may have several lines; those are shown that there is room for.
    Returns the path.
    Raises ArgumentError if there are no buffers or no placements, or if these do not fit together.
    """
    buffers = tuple(buffers)
    placements = (placements,) if hasattr(placements, "offsets") else tuple(placements)
    kinds = ("result",) * len(buffers) if kinds is None else tuple(kinds)
    check(buffers, placements, kinds, stages)
    alive = live_bytes(buffers, len(stages or ()))
    bound = int(alive.max()) if lower_bound is None else lower_bound
    scene = Scene(buffers, placements, kinds, alive, bound, stages)
    return (one if len(placements) == 1 else several)(scene, path, title)


def draw_plan(plan, path, compare=False, title=None) -> Path:
    """Draw the arena over time, step by step: .png, .svg or .pdf; returns the path.

    With `compare`, the same buffers as other planners place them, side by side: those of these
    names, or if it is True those of offsets (exact only if the buffers are few). What lies in the
    arena is named as in print(graph), with the op that writes there first.
    Raises ArgumentError if nothing lies in the arena, or if there is no such planner.
    """
    placements = plan.placement
    if compare:
        few = len(plan.buffers) <= FEW
        names = [p for p in PLANNERS if few or p != "exact"] if compare is True else compare
        placements = [place(plan.buffers, name, plan.alignment) for name in names]
    ops, kinds = held_by(plan)
    buffers = [b._replace(name=f"{b.name}\n{op}".strip()) for b, op in zip(plan.buffers, ops)]
    stages = [*stage_names(plan.order), "end"]
    return arena(buffers, placements, path, plan.lower_bound, kinds, stages, title)


Plan.draw = draw_plan


def held_by(plan):
    """Of each buffer the op of the step that is the first to write there, and the kind."""
    ops, kinds = [""] * len(plan.buffers), ["result"] * len(plan.buffers)
    for n in reversed(plan.order.steps):
        for home in map(plan.home, plan.values.blocks_of(n)):
            i = plan.lifetimes.number.get(home.root)
            if i is not None and home.within:
                kinds[i] = "group"
            elif i is not None:
                ops[i] = begins_with(n.op)
        for i in plan.lifetimes.scratch[n]:
            ops[i], kinds[i] = begins_with(n.op), "scratch"
    return ops, kinds


def stage_names(order) -> list[str]:
    names = order.graph.names
    told = lambda n: f"%{names[n]} {begins_with(n.op)}"
    some = lambda stage: ", ".join(f"%{names[n]}" for n in stage)
    return [some(stage) if stage[1:] else told(*stage) for stage in order.stages]


def begins_with(op) -> str:
    """The name of an op, or of the first of those that are fused."""
    first, *more = name_of(op).split(" → ")
    return f"{first} …" if more else first


def check(buffers, placements, kinds, stages):
    if not buffers:
        raise ArgumentError("arena: there are no buffers to draw: no step writes into the arena")
    if not placements:
        raise ArgumentError("arena: there is no placement to draw: give one, or a list of them")
    for p in placements:
        if len(p.offsets) != len(buffers):
            raise ArgumentError(
                f"arena: {p.planner} has {len(p.offsets)} offsets for {len(buffers)} buffers: "
                "give placements of these buffers"
            )
    if stages is not None and len(stages) <= (last := max(b.last for b in buffers)):
        raise ArgumentError(f"arena: {len(stages)} names of stages for {last + 1} stages")
    if len(kinds) != len(buffers) or not KINDS.keys() >= set(kinds):
        raise ArgumentError(
            f"arena: kinds has for each of the {len(buffers)} buffers one of {', '.join(KINDS)}"
        )


# What there is to be seen


class Scene(NamedTuple):
    buffers: tuple
    placements: tuple
    kinds: tuple
    alive: np.ndarray  # bytes, at each stage
    bound: int
    stages: tuple | None  # names

    @property
    def top(self) -> int:
        """Up to where all is shown."""
        *others, last = sorted(p.total for p in self.placements)
        return (others[-1] if others and last > CUT * others[-1] else last) or 1


def live_bytes(buffers, stages=0) -> np.ndarray:
    """At each stage; up to the last one of a buffer, or more."""
    change = np.zeros(max(stages, *[b.last + 1 for b in buffers]) + 1, np.int64)
    for b in buffers:
        change[b.first] += b.size
        change[b.last + 1] -= b.size
    return change.cumsum()[:-1]


def holes(buffers, placement) -> list[Hole]:
    """With the blocks they are all that lies beneath the highest block of each stage."""
    found, before = [], {}
    for stage, spans in enumerate([*live_spans(buffers, placement), []]):
        now, top = {}, 0
        for low, high in sorted(spans):
            if low > top:
                now[top, low] = before.pop((top, low), stage)
            top = max(top, high)
        found += [Hole(*gap, first, stage - 1) for gap, first in before.items()]
        before = now
    return found


def live_spans(buffers, placement):
    spans = [[] for _ in range(max(b.last for b in buffers) + 1)]
    for b, offset in zip(buffers, placement.offsets):
        for stage in range(b.first, b.last + 1):
            spans[stage].append((offset, offset + b.size))
    return spans


def wasted(buffers, placement) -> int:
    """Bytes times stages, of the holes."""
    return sum((h.high - h.low) * (h.last + 1 - h.first) for h in holes(buffers, placement))


class Unit(NamedTuple):
    name: str
    size: int


def unit_of(size) -> Unit:
    power = min(max(int(size).bit_length() - 1, 0) // 10, len(UNITS) - 1)
    return Unit(UNITS[power], 1024**power)


def told(size) -> str:
    """4816896 -> "4.59 MiB"."""
    unit = unit_of(size)
    x = size / unit.size
    return f"{x:.0f} {unit.name}" if x >= 100 else f"{x:.3g} {unit.name}"


def times(placement, bound) -> str:
    """The total, and how far it is above the bound."""
    total = placement.total
    if not bound or total == bound:
        return f"{told(total)}, the lower bound"
    return f"{told(total)}, {total / bound:.2f}× the bound{', proven' * placement.proven}"


# The pictures


def one(scene, path, title):
    (placement,) = scene.placements
    unit = unit_of(placement.total)
    hatched = wasted(scene.buffers, placement) / (placement.total * len(scene.alive) or 1)
    says = f"Placed by {in_words(placement)}; {100 * hatched:.0f} % is hatched: free, but of no use"
    with sheet(path, 9, 5.6, title or headline(scene)) as figure:
        ax, below = figure.subplots(2, 1, height_ratios=[5, 1], sharex=True)
        ax.set_title(says, fontsize=9, fontweight="normal", color=MUTED)
        ax.set_ylabel(unit.name)
        ax.tick_params(bottom=False, labelbottom=False)
        room(ax, scene, placement, unit)
        name_lines(ax, {"total": placement.total, "lower bound": scene.bound}, unit)
        living(below, scene, unit)
        below.set(ylim=(0, 1.2 * (scene.alive.max() or 1) / unit.size), ylabel="alive")
        name_stages(below, scene, 7.5)
        explain(figure, scene)
        figure.draw_without_rendering()  # so that it is known what there is room for
        blocks(ax, scene, placement, unit)
    return Path(path)


def several(scene, path, title):
    """The first of the small pictures is the bytes alive: what all of them have to hold."""
    count, unit = 1 + len(scene.placements), unit_of(scene.top)
    rows = -(-count // COLUMNS)
    columns = -(-count // rows)
    with sheet(path, WIDTH * columns, 2.7 * rows + 1.3, title or headline(scene)) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        axes = grid.flat[:count]
        for ax in grid.flat[count:]:
            ax.set_axis_off()
        for ax in axes[:-columns]:
            ax.tick_params(bottom=False, labelbottom=False)
        for ax in grid[:, 1:].flat:
            ax.tick_params(left=False, labelleft=False)
        for ax in grid[:, 0]:
            ax.set_ylabel(unit.name)
        living(axes[0], scene, unit)
        entitle(axes[0], "alive at each stage", told(scene.alive.max()))
        for ax, placement in zip(axes[1:], scene.placements):
            room(ax, scene, placement, unit)
            cut = ", cut off" if placement.total > scene.top else ""
            entitle(ax, in_words(placement), times(placement, scene.bound) + cut)
        for ax in axes[-columns:]:
            name_stages(ax, scene._replace(stages=None), WIDTH)
        explain(figure, scene)
        figure.draw_without_rendering()
        for ax, placement in zip(axes[1:], scene.placements):
            blocks(ax, scene, placement, unit)
    return Path(path)


def headline(scene) -> str:
    count = f"{len(scene.buffers):,} buffer{'s' * (len(scene.buffers) > 1)}"
    totals = [p.total for p in scene.placements]
    if len(totals) > 1:
        span = " to ".join(dict.fromkeys(map(told, (min(totals), max(totals)))))
        return f"{count}, placed by {len(totals)} planners in {span}"
    above = "as small as can be"
    if scene.bound < totals[0]:
        above = f"{100 * (totals[0] / scene.bound - 1):.2g} % above the lower bound"
    return f"{count} in an arena of {told(totals[0])}, {above}"


def in_words(placement) -> str:
    return placement.planner.replace("_", " ")


def entitle(ax, name, says):
    ax.set_title(name, fontsize=10)
    ax.set_title(says, loc="right", fontsize=8, fontweight="normal", color=MUTED)


def room(ax, scene, placement, unit):
    """The arena, still empty."""
    stages, top, total = len(scene.alive), scene.top / unit.size, placement.total / unit.size
    ax.set(xlim=(-0.003 * stages, 1.003 * stages), ylim=(-0.003 * top, 1.04 * top))
    ax.spines[:].set_visible(False)
    ax.fill_between([0, stages], total, color=WASHES[0], linewidth=0)
    ax.hlines(total, 0, stages, MUTED, linewidth=0.9)
    ax.hlines(scene.bound / unit.size, 0, stages, **DASHED)


def name_lines(ax, lines, unit):
    """To the right of them, apart from one another."""
    low, high = min(lines.values()), max(lines.values())
    push = max(13 - 150 * (high - low) / (high or 1), 0)  # points
    if low == high:
        lines, push = {" =\n".join(lines): high}, 0
    for name, y in lines.items():
        ax.annotate(
            f"{name}\n{told(y)}", (ax.get_xlim()[1], y / unit.size),
            (4, push if y == high else -push), textcoords="offset points",
            va="center", fontsize=8, annotation_clip=False,
        )  # fmt: skip


def living(ax, scene, unit):
    stages, alive = len(scene.alive), scene.alive / unit.size
    ax.stairs(alive, fill=True, color=GREY.fill)
    ax.stairs(alive, color=GREY.line, linewidth=1 if stages < 200 else 0.4)
    ax.hlines(scene.bound / unit.size, 0, stages, **DASHED)
    ax.set(xlim=(-0.003 * stages, 1.003 * stages), ylim=(0, 1.04 * scene.top / unit.size))


def name_stages(ax, scene, width):
    """The names lie flat or stand, as there is room in so many inches; else there are numbers."""
    from matplotlib.ticker import MaxNLocator

    count, names = len(scene.alive), scene.stages
    points = 72 * width / count
    if names is None or points < LINE_OF_SMALL:
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        ax.set_xlabel("stage")
        return
    names = [name if len(name) <= LONG else f"{name[: LONG - 1]}…" for name in names]
    flat = max(map(width_of, names)) < points - 4
    ax.set_xticks(np.arange(count) + 0.5, names, rotation=0 if flat else 90, fontsize=SMALL)
    ax.tick_params(axis="x", length=0)


def explain(figure, scene):
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    there = [KINDS[kind] for kind in KINDS if kind in scene.kinds]
    keys = [Patch(facecolor=c.fill, edgecolor=c.line, label=words) for c, words in there]
    keys.append(Patch(label="free beneath a block", **HATCHED))
    keys.append(Line2D([], [], label=f"lower bound, {told(scene.bound)}", **DASHED))
    legend(figure, keys)


def blocks(ax, scene, placement, unit):
    from matplotlib.collections import PolyCollection
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    gaps = [(h.first, h.last + 1, h.low, h.high) for h in holes(scene.buffers, placement)]
    if gaps:
        outline = Outline.make_compound_path_from_polys(corners(gaps, unit))
        ax.add_patch(PathPatch(outline, linewidth=0, **HATCHED))
    boxes = [(b.first, b.last + 1, o, o + b.size) for b, o in zip(scene.buffers, placement.offsets)]
    boxes = corners(boxes, unit)
    fills, lines = zip(*[KINDS[kind][0] for kind in scene.kinds])
    width = 0.9 if len(boxes) < 200 else 0.4
    ax.add_collection(PolyCollection(boxes, facecolors=fills, edgecolors="none", zorder=2))
    ax.add_collection(  # above the names, which keep the dashed line off
        PolyCollection(boxes, facecolors="none", edgecolors=lines, linewidths=width, zorder=6)
    )
    for b, box, fill in zip(scene.buffers, boxes, fills):
        write_in(ax, box, [*b.name.split("\n"), told(b.size)], fill)


def corners(boxes, unit) -> np.ndarray:
    """(n, 4, 2), of n boxes: left, right, low, high."""
    left, right, low, high = np.array(boxes).T
    low, high = low / unit.size, high / unit.size
    return np.stack([left, low, right, low, right, high, left, high], 1).reshape(-1, 4, 2)
