"""What the steps of a graph cost, before any of them runs: operations, and bytes moved.

Arithmetic intensity, operations for each byte moved, says what bounds a step: below the machine's
peak FLOP/s divided by its bytes/s the memory, above it the arithmetic. (Williams, Waterman and
Patterson 2009, "Roofline".) Bytes are counted as if each step fetched its inputs and stored its
result: so fusing two steps saves what was between them.
"""

from typing import NamedTuple

from ..core.tensor import Node
from .graph import Graph, expect_graph, flops, macs, traffic
from .table import table


class Row(NamedTuple):
    name: str  # as in print(graph)
    op: str
    spec: str
    flops: int  # additions, multiplications and the like; of a loop, in all its turns
    macs: int  # multiplications with an addition after them
    read: int  # bytes
    written: int
    node: Node

    @property
    def bytes(self) -> int:
        return self.read + self.written

    @property
    def intensity(self) -> float:
        """FLOPs for each byte moved."""
        return self.flops / self.bytes if self.bytes else 0.0


class Analysis:
    """`rows`, one for each step, and the totals `flops`, `macs`, `read`, `written`, `intensity`.

    `str(analysis)` is a table, `analysis.draw("roofline.svg")` a picture."""

    def __init__(self, graph: Graph):
        self.rows = [
            Row(graph.names[n], n.op.name, str(n.spec), flops(n), macs(n), *traffic(n), n)
            for n in graph.steps
        ]
        self.flops, self.macs, self.read, self.written = (
            sum(getattr(row, what) for row in self.rows)
            for what in ("flops", "macs", "read", "written")
        )

    bytes = property(lambda self: self.read + self.written)
    intensity = property(lambda self: self.flops / self.bytes if self.bytes else 0.0)

    def share(self, row) -> float:
        """Of the graph's MACs, those of this step: from 0 to 1."""
        return row.macs / self.macs if self.macs else 0.0

    @property
    def mac_share(self) -> float:
        """Of the graph's FLOPs, those that are MACs: from 0 to 1."""
        return 2 * self.macs / self.flops if self.flops else 0.0

    def __str__(self):
        head = "step", "op", "result", "FLOPs", "MACs", "of all", "read", "written", "FLOP/byte"
        cells = [
            (f"%{row.name}", row.op, row.spec, *numbers(row, self.share(row))) for row in self.rows
        ]
        end = f"{self.mac_share:.1%} of the FLOPs are MACs; bytes as if each step ran alone"
        return table(head, cells, ("total", "", "", *numbers(self, 1.0)), 3) + f"\n{end}"

    __repr__ = __str__


def numbers(x, share):
    part = f"{share:.1%}" if x.macs else ""
    counts = map("{:,}".format, (x.flops, x.macs, x.read, x.written))
    flops, macs, read, written = counts
    return flops, macs, part, read, written, f"{x.intensity:.2f}"


def analyze(graph: Graph) -> Analysis:
    """What each step of the graph costs: FLOPs, MACs, bytes read and written, FLOPs for each byte."""
    return Analysis(expect_graph("analyze", graph))
