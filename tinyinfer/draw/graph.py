"""Pictures of graphs: of what a tensor was made from, `loss.draw("graph.svg")`, and of static ones.

step    a rounded box: op, attributes, shape and dtype; a faint one hands on what it gets
input   a funnel, blue
State   a cylinder, amber: parameters, running means; green and bold what it becomes
other   a sheet, grey: constants
result  a box with a double line, green
frame   a module, by its name in the outermost one
"""

import sys
from dataclasses import fields
from html import escape
from itertools import count
from subprocess import CalledProcessError

from ..core.op import Op
from ..core.tensor import Tensor
from ..errors import GraphError
from ..graph.graph import Graph
from .sketch import Figure, Sketch, Tape, chain_of, number
from .style import AMBER, BLUE, FAINT, GREEN, GREY, INK, MUTED, PAPER, WASHES, destination

FORMATS = ("svg", "png", "pdf", "gv")
READABLE = 1500  # figures in one picture


def draw_tensor(tensor, path):
    """Draw the steps that were recorded behind this tensor. The ending of the path says how: .svg,
    .png, .pdf, or .gv, which is Graphviz's language. Of one number the value is shown.

    Returns the path written: without Graphviz that is always a .gv, and a line says how to get it.
    Raises GraphError if nothing was recorded, ArgumentError for another ending or a missing folder.
    """
    if tensor.node.op is None:
        raise GraphError(
            f"draw: nothing was recorded behind this {tensor.spec}: it was given, or computed where "
            "nothing requires a gradient. Make what it comes from with requires_grad=True"
        )
    return render(Tape((tensor.node,)), path)


def draw_graph(graph, path):
    """Draw this graph, and the graphs inside its steps. The ending of the path says how: .svg,
    .png, .pdf, or .gv, which is Graphviz's language.

    Returns the path written: without Graphviz that is always a .gv, and a line says how to get it.
    Raises ArgumentError for another ending or a missing folder.
    """
    return render(graph, path)


Tensor.draw = draw_tensor
Graph.draw = draw_graph

# fmt: off
LOOK = {  # of a figure, by its kind
    "step":     {"shape": "box", "style": "rounded,filled", "fillcolor": PAPER, "color": MUTED},
    "view":     {"shape": "box", "style": "rounded,filled", "fillcolor": PAPER, "color": FAINT},
    "input":    {"shape": "invhouse", "fillcolor": BLUE.fill, "color": BLUE.line},
    "state":    {"shape": "cylinder", "fillcolor": AMBER.fill, "color": AMBER.line},
    "constant": {"shape": "note", "fillcolor": GREY.fill, "color": GREY.line},
    "result":   {"shape": "box", "fillcolor": GREEN.fill, "color": GREEN.line, "peripheries": "2"},
    "update":   {"shape": "cylinder", "fillcolor": GREEN.fill, "color": GREEN.line, "penwidth": "2.2"},
}
FONT = {"fontname": "Arial,Helvetica,sans-serif", "fontsize": "11", "fontcolor": INK}
SMALL = {"fontsize": "9", "fontcolor": MUTED}
PAGE = FONT | {"bgcolor": PAPER, "pad": "0.3", "nodesep": "0.22", "ranksep": "0.28"}
NODE = FONT | {"style": "filled", "penwidth": "1.2", "margin": "0.12,0.05", "height": "0.3", "width": "0.3"}
ARROW = FONT | SMALL | {"color": MUTED, "arrowsize": "0.6"}
FRAME = {"style": "rounded,filled", "color": FAINT, "labeljust": "l", "fontcolor": MUTED}
# fmt: on


def render(graph, path):
    from graphviz import ExecutableNotFound

    path, kind = destination(path, FORMATS)
    root = Sketch(graph).root
    size = sum(1 for _ in root.figures())
    if size > READABLE:
        say(
            f"{path.name} will show {size:,} nodes, more than one can read: draw a part, or a layer"
        )
    dot = to_graphviz(root, {"dpi": "160"} if kind == "png" else {})
    if kind != "gv":
        try:
            path.write_bytes(dot.pipe(format=kind, quiet=True))
            return path
        except (ExecutableNotFound, CalledProcessError) as error:
            missing = isinstance(error, ExecutableNotFound)
            path = path.with_suffix(".gv")
            say(
                f"wrote {path}, for Graphviz {'is not installed' if missing else 'failed'}: "
                f"'apt install graphviz' or 'brew install graphviz', and draw again for a {kind}"
            )
    path.write_text(dot.source, encoding="utf-8")
    return path


def say(line):
    print(f"tinyinfer: {line}", file=sys.stderr)


def to_graphviz(root, page):
    from graphviz import Digraph

    dot = Digraph("tinyinfer", graph_attr=PAGE | page, node_attr=NODE, edge_attr=ARROW)
    ids = {figure: f"n{i}" for i, figure in enumerate(root.figures())}
    fill(dot, root, ids, map("cluster{}".format, count()))
    for figure in ids:
        connect(dot, figure, ids)
    return dot


def fill(canvas, frame, ids, names, depth=0):
    from graphviz import escape

    for x in frame.items:
        if isinstance(x, Figure):
            place(canvas, x, ids)
        elif len(x.items) == 1 and isinstance(x.items[0], Figure):  # its title fits in there
            place(canvas, x.items[0], ids, x.title)
        else:
            with canvas.subgraph(name=next(names)) as inner:
                inner.attr(
                    label=escape(x.title),
                    tooltip=escape(x.title),
                    fillcolor=WASHES[depth % 2],
                    **FRAME,
                )
                fill(inner, x, ids, names, depth + 1)


def place(canvas, figure, ids, title=""):
    canvas.node(ids[figure], label(figure, title), tooltip=tip(figure.node), **LOOK[figure.kind])
    if 0 < len(near := figure.beside()) < 3:
        with canvas.subgraph(graph_attr={"rank": "same"}) as row:
            for x in (*near, figure):
                row.node(ids[x])


def connect(dot, figure, ids):
    near = figure.beside()
    far = [x for x in figure.tails if x not in near]
    if len(near) > 2:  # more than a row takes: they come from above too, below the rest
        for x in near:
            dot.edge(ids[far[0]], ids[x], style="invis")
        near = []
    in_doubt = len(far) > 1 or figure.node.op and figure.node.op.elementwise
    look = {"style": "dashed"} if figure.kind == "input" else {}  # into a graph inside a step
    for tail, role in figure.feeds:
        if tail in near[1:]:
            dot.edge(ids[figure], ids[tail], dir="back")  # so that it stands to the right
        elif tail in near:
            dot.edge(ids[tail], ids[figure])
        else:
            straight = "8" if tail.feeds else "1"
            text = f" {role}" if role and in_doubt else None
            dot.edge(ids[tail], ids[figure], text, weight=straight, **look)


# Text


def label(figure, title="") -> str:
    """In Graphviz's HTML."""
    n, name = figure.node, escape(figure.name)
    name = name if figure.kind == "view" or not name else f"<b>{name}</b>"
    is_step = n.op and figure.kind in ("step", "view", "result")
    above = small(", ".join(filter(None, (title, figure.note))))
    first = name + escape(figure.args) + small(f"  {details(n.op, n.spec)}" if is_step else "")
    return f"<{'<br/>'.join(filter(None, (above, first, small(about(n)))))}>"


def small(text):
    return text.strip() and f'<font point-size="9" color="{MUTED}">{escape(text)}</font>'


def about(n):
    known = n.value is not None and not n.spec.shape
    return f"{n.spec} = {number(n.value)}" if known else str(n.spec)


def details(op, spec) -> str:
    """The attributes that are not as usual, and not as the spec says anyhow."""
    if steps := chain_of(op):
        return " → ".join(step.name for step in steps)
    meant = [f.name for f in fields(op) if f.compare and getattr(op, f.name) != f.default]
    values = {name: getattr(op, name) for name in meant}
    said = (getattr(spec, "shape", None), str(getattr(spec, "dtype", None)))
    text = ", ".join(
        details(v, spec) if isinstance(v, Op) else f"{name} {short(v)}".removeprefix("ranges ")
        for name, v in values.items()
        if not isinstance(v, Graph) and v not in said
    )
    return text if len(text) <= 40 else text[:39] + "…"


def short(value) -> str:
    match value:
        case ((_, _, _), *_):
            return f"[{', '.join(map(span, value))}]"
        case (a, b) if a == b:  # of rows and columns
            return short(a)
        case tuple():
            return ", ".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def span(triple):
    start, stop, step = triple
    return f"{start}:{stop}" + (f":{step}" if step != 1 else "")


def tip(n):
    from graphviz import escape

    return escape("\n".join(filter(None, (repr(n.op) if n.op else str(n.spec), n.origin.line))))
