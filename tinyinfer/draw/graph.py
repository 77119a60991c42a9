"""Pictures of graphs: of what a tensor was made from, `loss.draw("graph.svg")`, and of static ones.

step    a rounded box: op, attributes, shape and dtype; a faint one hands on what it gets
input   a funnel, blue
State   a cylinder, amber: parameters, running means; green and bold what it becomes
other   a sheet, grey: constants
result  a box with a double line, green
frame   a module, by its name in the outermost one; the gradient of one; the update of a State; a
        graph inside a step
circle  with a number: the arrow into it goes on where the number stands again

The data flows down; its gradient flows up beside it, and faint arrows lead to what it uses.
"""

import sys
from dataclasses import fields
from html import escape
from subprocess import CalledProcessError

from ..core.op import Op
from ..core.tensor import Tensor
from ..errors import GraphError
from ..graph.graph import Graph
from .layout import in_columns, in_stacks
from .measure import measure
from .sketch import Figure, Sketch, Tape, number
from .style import (
    AMBER,
    ASIDE,
    BLUE,
    FAINT,
    GREEN,
    GREY,
    INK,
    MUTED,
    PAPER,
    RED,
    WASHES,
    destination,
    shade,
)

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
    return render(Sketch(Tape((tensor.node,))).root, path)


def draw_graph(graph, path, color_by=None, inputs=None):
    """Draw this graph, and the graphs inside its steps. The ending of the path says how: .svg,
    .png, .pdf, or .gv, which is Graphviz's language.

    With `color_by` the steps are coloured by their share of the "flops", of the "bytes" that are
    read and written, or of the "time" the interpreter takes; by their relative "error" against the
    same graph in double precision; or by a number of your own for each, {node: number}. For time
    and error the graph runs on `inputs`, its arrays; States stay as they are.

    Returns the path written: without Graphviz that is always a .gv, and a line says how to get it.
    Raises ArgumentError for another ending, a missing folder, another `color_by` or no `inputs`.
    """
    root, page = Sketch(graph).root, {}
    if color_by is not None:
        numbers = measure(graph, color_by, inputs)
        colour(root, numbers)
        page = {"label": scale(numbers)}
    return render(root, path, page)


Tensor.draw = draw_tensor
Graph.draw = draw_graph

# fmt: off
LOOK = {  # of a figure, by its kind
    "step":     {"shape": "box", "style": "rounded,filled", "fillcolor": PAPER, "color": MUTED},
    "view":     {"shape": "box", "style": "rounded,filled", "fillcolor": PAPER, "color": FAINT},
    "input":    {"shape": "invhouse", "fillcolor": BLUE.fill, "color": BLUE.line},
    "state":    {"shape": "cylinder", "fillcolor": AMBER.fill, "color": AMBER.line},
    "constant": {"shape": "note", "fillcolor": GREY.fill, "color": GREY.line},
    "connector": {"shape": "circle", "fillcolor": PAPER, "color": MUTED, "margin": "0.03"},
    "more":     {"shape": "plaintext", "style": "", "height": "0.1", "width": "0.1", "margin": "0.02"},
    "result":   {"shape": "box", "fillcolor": GREEN.fill, "color": GREEN.line, "peripheries": "2"},
    "update":   {"shape": "cylinder", "fillcolor": GREEN.fill, "color": GREEN.line, "penwidth": "2.2"},
}
FONT = {"fontname": "Arial,Helvetica,sans-serif", "fontsize": "11", "fontcolor": INK}
SMALL = {"fontsize": "9", "fontcolor": MUTED}
PAGE = FONT | {"bgcolor": PAPER, "pad": "0.3", "nodesep": "0.22", "ranksep": "0.28",
        "newrank": "true", "remincross": "false", "compound": "true", "labelloc": "t", "labeljust": "l"}
NODE = FONT | {"style": "filled", "penwidth": "1.2", "margin": "0.12,0.05", "height": "0.3", "width": "0.3"}
ARROW = FONT | SMALL | {"color": MUTED, "arrowsize": "0.6"}
FRAME = {"style": "rounded,filled", "color": FAINT, "labeljust": "l", "fontcolor": MUTED}
MARKS = {  # of an arrow
    "":        {},
    "unseen":  {"style": "invis"},
    "added":   {"color": GREEN.line, "penwidth": "1.8"},
    "removed": {"color": RED.line, "style": "dashed"},
}
# fmt: on


def render(root, path, page=None):
    from graphviz import ExecutableNotFound

    path, kind = destination(path, FORMATS)
    size = sum(1 for _ in root.figures())
    if size > READABLE:
        say(
            f"{path.name} will show {size:,} nodes, more than one can read: draw a part, or a layer"
        )
    dot = to_graphviz(root, (page or {}) | ({"dpi": "160"} if kind == "png" else {}))
    if kind != "gv":
        try:
            path.write_bytes(drawn(dot, kind))
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


def drawn(dot, kind) -> bytes:
    """By Graphviz; with straight arrows, if it cannot find a way for a curved one."""
    try:
        return dot.pipe(format=kind, quiet=True)
    except CalledProcessError:
        dot.graph_attr["splines"] = "line"
        return dot.pipe(format=kind, quiet=True)


def say(line):
    print(f"tinyinfer: {line}", file=sys.stderr)


def to_graphviz(root, page):
    from graphviz import Digraph

    dot = Digraph("tinyinfer", graph_attr=PAGE | page, node_attr=NODE, edge_attr=ARROW)
    in_columns(root)
    in_stacks(root)
    figures = [*root.figures()]
    ids = {figure: f"n{i}" for i, figure in enumerate(figures)}
    fill(dot, root, ids)
    for figure in figures:
        connect(dot, figure, ids)
    return dot


def fill(canvas, frame, ids, depth=0):
    """The figures and frames in this one; ids gets the names of the frames too."""
    from graphviz import escape

    for x in frame.items:
        if isinstance(x, Figure):
            place(canvas, x, ids)
        elif (
            x.title and len(x.items) == 1 and isinstance(x.items[0], Figure)
        ):  # its title fits in there
            place(canvas, x.items[0], ids, x.title)
        else:
            ids[x] = f"cluster{len(ids)}"
            title = escape(x.title)
            look = FRAME | {"fillcolor": WASHES[depth % 2]} if title else {"style": "invis"}
            look |= x.look
            with canvas.subgraph(name=ids[x]) as inner:
                inner.attr(label=title, tooltip=title, **look)
                fill(inner, x, ids, depth + bool(title))


def place(canvas, figure, ids, title=""):
    look = LOOK[figure.kind] | figure.look
    canvas.node(ids[figure], label(figure, title), tooltip=tip(figure.node), **look)
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
    for tail, role, mark in figure.feeds:
        text = f" {role}" if role and in_doubt and tail not in near else None
        look = MARKS[mark]
        if tail in near[1:]:
            dot.edge(ids[figure], ids[tail], dir="back", **look)  # so that it stands to the right
        elif tail in near:
            dot.edge(ids[tail], ids[figure], **look)
        elif figure.rises and tail.rises:
            dot.edge(ids[figure], ids[tail], text, **{"dir": "back", "weight": "8"} | look)
        elif figure.rises and tail.node.op:
            # Graphviz forgets which side a figure is on, if it has to go below it from there
            aside = {"color": ASIDE, "constraint": str(not tail.moves)}
            dot.edge(ids[tail], ids[figure], text, **aside | look)
        elif figure.kind == "input":  # of a graph inside a step
            dot.edge(ids[tail], ids[figure], style="dashed")
        elif tail.inside and tail.inside not in figure.frame.outwards():
            leave(dot, tail, figure, ids, look)
        else:
            weight = {"weight": "8" if tail.feeds else "1"}
            dot.edge(ids[tail], ids[figure], text, **weight | look)


def leave(dot, step, figure, ids, look):
    """What the graphs inside a step give comes out of its frame, below them all."""
    ends = [x for x in step.inside.figures() if x.kind == "result"]
    for x in ends:
        style = {"ltail": ids[step.inside]} | look if x is ends[-1] else MARKS["unseen"]
        dot.edge(ids[x], ids[figure], **style)


# Colours


def colour(root, measure):
    """By the number of its step; the leaves step back."""
    for figure in root.figures():
        x = measure.numbers.get(figure.node, 0)
        if figure.kind in ("step", "view", "result"):
            fill, ink = shade(measure.place(x))
            figure.look, figure.share = {"fillcolor": fill, "fontcolor": ink}, measure.text(x)
        else:
            figure.look = {"fillcolor": PAPER}


def scale(measure) -> str:
    """The legend: colours, and the numbers they stand for."""
    cells = []
    for i in range(6):
        fill, ink = shade(i / 5)
        number = measure.text((i / 5) ** 2 * measure.largest) or "0"
        text = f'<font point-size="9" color="{ink}">{escape(number)}</font>'
        cells.append(f'<td bgcolor="{fill}" width="48">{text}</td>')
    title = f'<tr><td colspan="6" align="left" border="0">{escape(measure.title)}</td></tr>'
    table = 'border="0" cellborder="0" cellspacing="0" cellpadding="4"'
    return f"<<table {table}>{title}<tr>{''.join(cells)}</tr></table>>"


# Text


def label(figure, title="") -> str:
    """In Graphviz's HTML."""
    if figure.kind in ("connector", "more"):
        return figure.name
    if figure.members:
        return f"<{'<br/>'.join(line(x) for x in figure.members)}>"
    n, name = figure.node, escape(figure.name)
    name = name if figure.kind == "view" or not name else f"<b>{name}</b>"
    name = f"<s>{name}</s>" if figure.mark == "removed" else name
    is_step = n.op and figure.kind in ("step", "view", "result")
    soft = figure.look.get("fontcolor", MUTED)
    above = small(", ".join(filter(None, (title, figure.note))), soft)
    detail = small(f"  {details(n.op, n.spec)}" if is_step else "", soft)
    share = figure.share and f"  <b>{escape(figure.share)}</b>"
    lines = above, name + escape(figure.args) + detail + share, small(about(n), soft)
    return f"<{'<br/>'.join(filter(None, lines))}>"


def line(figure):
    return f"<b>{escape(figure.name)}</b>{small(f'  {figure.node.spec}')}"


def small(text, colour=MUTED):
    return text.strip() and f'<font point-size="9" color="{colour}">{escape(text)}</font>'


def about(n):
    known = n.value is not None and not n.spec.shape
    return f"{n.spec} = {number(n.value)}" if known else str(n.spec)


def details(op, spec) -> str:
    """The attributes that are not as usual, and not as the spec says anyhow."""
    meant = [f.name for f in fields(op) if f.compare and getattr(op, f.name) != f.default]
    values = {name: getattr(op, name) for name in meant}
    said = (getattr(spec, "shape", None), str(getattr(spec, "dtype", None)))
    parts = (
        details(v, spec) if isinstance(v, Op) else f"{name} {short(v)}".removeprefix("ranges ")
        for name, v in values.items()
        if not isinstance(v, Graph) and v not in said
    )
    text = ", ".join(filter(None, parts))
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
