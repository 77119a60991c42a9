"""Where Graphviz needs help: it puts each figure below those it comes from, and all else follows.

A deep network would be a strip. As the text of a newspaper it is put in columns, cut where no more
than one value or two are handed on; a connector, a numbered circle at the end of a column, is where
those go on in another. The updates of many States would be a row. They are put in a few stacks.
"""

from collections import Counter
from itertools import accumulate, count
from math import ceil, sqrt

from .sketch import UPDATE, Arrow, Figure, Frame

DEEP = 24  # rows that one column takes
SLENDER = 9  # rows of a column are as high as it is wide
WIDE = 5  # rows are as high as an update is wide
WAIST = 2  # values that are handed on from one column to the next


def in_columns(root):
    """Put the parts of a deep network into frames, beside each other, with connectors between."""
    depth = depths(root)
    deepest = max(depth.values(), default=0)
    few = round(sqrt(deepest / SLENDER))
    if few < 2 or deepest <= DEEP or any(f.rises for f in depth):
        return
    frame = trunk(root)
    parts = [figures_of(item) for item in frame.items]
    ends = [max(map(depth.get, part)) for part in parts]
    narrow = waists(parts)
    for high in count(ceil(deepest / few)):
        found = filled(zip(frame.items, ends, narrow), high)
        if len(found) <= few:
            break
    if len(found) > 1:
        frame.items = [Frame(parent=frame, items=items) for items in found]
        with_connectors(frame.items)
        frame.items.reverse()  # Graphviz begins on the right


def in_stacks(root):
    """Put the updates of many States below each other, in few stacks."""
    updates = [x for x in root.items if isinstance(x, Frame) and x.title.startswith(UPDATE)]
    if len(updates) < 2:
        return
    inside = {f for frame in updates for f in frame.figures()}
    rest = [row for f, row in depths(root).items() if f not in inside and not f.rises]
    high = max(rest, default=0) + 1
    rows = sum(1 + max(depths(frame).values()) for frame in updates)
    few = max(1, min(ceil(rows / high), round(sqrt(rows / WIDE))))
    for above, below in zip(updates, updates[few:]):
        depth = depths(above)
        first = next((f for f in below.figures() if not f.moves), below.items[0])
        first.feed(Arrow(max(depth, key=depth.get), mark="unseen"))


def depths(root) -> dict[Figure, int]:
    """The row of each figure, if every arrow goes down."""
    depth = {}
    for figure in root.figures():
        near = figure.beside()
        above = [bottom(t, figure, depth) for t in figure.tails if t not in near]
        depth[figure] = max(above, default=-1) + 1
    return depth


def bottom(tail, figure, depth):
    left = tail.inside and tail.inside not in figure.frame.outwards()
    return max(depth.get(x, 0) for x in (tail.inside.figures() if left else [tail]))


def trunk(frame) -> Frame:
    """The frame in which the network goes from part to part."""
    inner = [x for x in frame.items if isinstance(x, Frame)]
    steps = [x for x in frame.items if isinstance(x, Figure) and x.node.op]
    return trunk(inner[0]) if len(inner) == 1 and not steps else frame


def figures_of(item):
    return [*item.figures()] if isinstance(item, Frame) else [item]


def filled(items, high):
    """Each column gets items as long as it stays below `high` rows, or cannot end there."""
    found, start, before = [[]], 0, 0
    for item, end, narrow in items:
        if found[-1] and narrow and end - start >= high:
            found.append([])
            start = before
        found[-1].append(item)
        before = end
    return found


def waists(parts) -> list[bool]:
    """May a column begin with this part? Few values come from before it into it and what follows."""
    place = {f: i for i, part in enumerate(parts) for f in part}
    last = {t: i for f, i in place.items() for t in f.tails}  # parts are in the order of the data
    more = Counter(place.get(t, -1) + 1 for t in last)  # values on their way, from here on
    more.subtract(end + 1 for end in last.values())
    return [on_way <= WAIST for on_way in accumulate(more[i] for i in range(len(parts)))]


def with_connectors(columns):
    """An arrow between columns ends in a connector, and goes on at the head of the other column."""
    column = {f: c for c in columns for f in c.figures()}
    inputs = [t for f in columns[0].figures() for t in f.tails if t not in column]
    ends, heads = {}, {}
    for f, c in column.items():
        for k, (tail, *rest) in enumerate(f.feeds):
            home = column.get(tail)
            if home in (None, c):
                continue
            if tail not in ends:
                ends[tail] = connector(home, tail, len(ends) + 1, [Arrow(tail)])
            if (tail, c) not in heads:
                above = [Arrow(x, mark="unseen") for x in inputs]
                heads[tail, c] = connector(c, tail, ends[tail].name, above)
            f.feeds[k] = Arrow(heads[tail, c], *rest)


def connector(frame, tail, name, feeds):
    return Figure(frame, "connector", tail.node, str(name), feeds=feeds)
