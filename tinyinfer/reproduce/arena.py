"""How small an arena is under each planner; and the figures of Y. Pisarchyk, J. Lee, Efficient memory
management for deep neural net inference, 2020, arXiv 2001.03288, for MobileNet v1 and v2.

What is counted, there and here, for one image in single precision: what a step makes is a tensor with
memory of its own, from that step to the last that reads it or a view of it. Steps run in the order in
which they are written. BatchNorm is folded into the weights; an activation is part of its convolution,
but a sum of two results is a step of its own. The image, the weights and what follows from weights
alone are not counted, nor what a kernel needs besides; nothing is written in place.

So v1 has 29 tensors: of 27 convolutions, the mean, and the logits; 30 were published. v2 has 64, and
65 were published. By the sum of their sizes, the missing one is as large as the logits. Here it is the
softmax of the logits, with which all networks of the table end. In TFLite it may as well be the logits
without two dimensions of size 1, a copy there and a view here, if the paper does not count the result
of a network. TFLite has 1,001 classes, and here there are 1,000: less than the digits show.

A plan for running counts otherwise: there sums are part of convolutions, steps write over what nobody
needs any more, and kernels need scratch memory.
"""

from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .. import train
from ..core.tensor import Tensor
from ..draw.arena import arena as draw
from ..graph.passes import STANDARD, fuse, optimize
from ..graph.passes.rewrite import fixed, rewrite
from ..graph.passes.split import split
from ..graph.trace import trace
from ..ops import softmax, zeros
from ..ops.elementwise import Add
from ..ops.shape import Reshape
from ..runtime.memory import PLANNERS, SHARED, Buffer, lower_bound, place, shared_lower_bound
from ..runtime.values import Values

NETWORKS = "mobilenet_v1", "mobilenet_v2", "lenet", "resnet", "inception", "unet"
# fmt: off
PUBLISHED = {
    "mobilenet_v1": {
        "tensors": "30", "naive": "19.248", "lower bound": "4.594", "greedy by size": "4.594",
        "shared lower bound": "4.594", "shared in order": "4.594", "shared by size": "4.594",
        "shared by breadth": "4.594",
    },
    "mobilenet_v2": {
        "tensors": "65", "naive": "26.313", "lower bound": "5.742", "greedy by size": "5.742",
        "shared lower bound": "6.604", "shared in order": "8.039", "shared by size": "7.178",
        "shared by breadth": "6.891",
    },
}
# fmt: on
HEADS = {"lower bound": "offsets", "shared lower bound": "shared objects"}


def table(models="models", out="runs/reproduce-arena") -> Table:
    """A row for each planner, a column for each network, in MiB. Pictures of the arenas are in `out`."""
    console = Console()
    Path(out).mkdir(parents=True, exist_ok=True)
    columns = {}
    for name in NETWORKS:
        buffers = tensors(graph_of(train.modelfile.load(Path(models, f"{name}.py"))))
        placements = [place(buffers, planner) for planner in PLANNERS]
        console.print(str(draw(buffers, placements, Path(out, f"{name}.svg"))))
        columns[name] = figures(buffers)
    return shown(columns)


# What is counted


def graph_of(model_file):
    """The steps of a network on one image, but for those that follow from weights alone."""
    model = model_file.build().eval()
    image = zeros(1, *model_file.input_shape)
    graph = trace(lambda x: softmax(model(x), 1), image)
    first = STANDARD[: STANDARD.index(fuse)]
    return split(optimize(graph, [*first, sums_apart, fuse]))[1]


def sums_apart(graph):
    """Sums of two results as steps of their own: fuse joins no view. a + b -> view(a) + view(b)"""
    known = fixed(graph)
    sums = {n for n in graph.steps if isinstance(n.op, Add) and known.isdisjoint(n.inputs)}
    view = lambda x: Reshape(x.spec.shape)(Tensor(x))
    return rewrite(graph, lambda n: n.op(*map(view, n.inputs)), among=sums)


def tensors(graph) -> list[Buffer]:
    values = Values(graph)
    at = {n: i for i, n in enumerate(values.work)}
    made = [block for block in values.blocks if block.maker]
    return [
        Buffer(called(b.spec), b.size, at[b.maker], max(at[n] for n in (b.maker, *b.readers)))
        for b in made
    ]


def called(spec) -> str:
    return "×".join(map(str, spec.shape[1:]))


# What is printed


def figures(buffers) -> dict[str, str]:
    """What each row of the table says."""
    bound, shared_bound = lower_bound(buffers), shared_lower_bound(buffers)
    offsets, shared = totals(buffers, PLANNERS), totals(buffers, SHARED)
    return {
        "tensors": str(len(buffers)),
        "lower bound": mib(bound),
        **{name: mib(total) for name, total in offsets.items()},
        "best": above(min(offsets.values()), bound),
        "shared lower bound": mib(shared_bound),
        **{name: mib(total) for name, total in shared.items()},
        "shared best": above(min(shared.values()), shared_bound),
    }


def totals(buffers, planners) -> dict[str, int]:
    able = [p for p in planners if p != "shared_min_cost_flow" or find_spec("scipy")]
    return {p.replace("_", " "): place(buffers, p).total for p in able}


def mib(size) -> str:
    x = size / 2**20
    return f"{x:.3f}" if x >= 0.1 else f"{x:.5f}"


def above(total, bound) -> str:
    return f"+{total / bound - 1:.1%}"


def shown(columns) -> Table:
    """What was published is beside our figure, in bold where it is the same."""
    figures = [(x, row, said) for x, rows in PUBLISHED.items() for row, said in rows.items()]
    same = sum(columns[x][row] == said for x, row, said in figures)
    caption = (
        f"MiB; best: above the lower bound. {same} of {len(figures)} published figures are met."
    )
    made = Table(box=None, padding=(0, 1), collapse_padding=True, pad_edge=False, caption=caption)
    made.add_column()
    for name in columns:
        made.add_column(name.replace("_", "\n"), justify="right", no_wrap=True)
        if name in PUBLISHED:
            made.add_column("paper", justify="right", no_wrap=True)
    for row in columns["mobilenet_v1"]:
        if row in HEADS:
            made.add_row()
            made.add_row(HEADS[row], style="bold")
        cells = [cell for name in columns for cell in beside(name, row, columns[name][row])]
        made.add_row(row.removeprefix("shared ").removeprefix("greedy "), *cells)
    return made


def beside(name, row, ours) -> list:
    if name not in PUBLISHED:
        return [ours]
    published = PUBLISHED[name].get(row, "")
    return [ours, Text(published, "bold" if published == ours else "")]
