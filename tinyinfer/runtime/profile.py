"""Where the time of a run goes: what each step takes, and what the machine would allow at best.

A step takes no less than its FLOPs take at the peak of a core, nor than its bytes at the bandwidth of
the memory: the longer of the two is its roof. (Williams, Waterman and Patterson 2009, "Roofline".)
The bandwidth is that of the memory: a step that finds its numbers in a cache can be above its roof.
"""

import json
from collections import Counter
from itertools import accumulate
from math import fsum
from operator import attrgetter
from pathlib import Path
from statistics import median
from typing import NamedTuple

from ..core.tensor import Node
from ..errors import ArgumentError
from ..graph import analyze
from ..graph.fused import Fused
from ..graph.graph import expect_graph
from ..graph.table import table
from .machine import Machine


class Event(NamedTuple):
    """A step was carried out."""

    node: Node
    lane: int  # number of the thread: 0 is the caller's
    start: float  # seconds of time.perf_counter
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


class Row(NamedTuple):
    step: analyze.Row  # what it is, and what it costs
    kernel: str  # how it was done, if that is known
    seconds: float  # the median of the runs
    share: float  # of the time of all steps
    bound: str  # by the "memory" or by "compute"; what only names a value anew, by neither
    reach: float  # 1, if it was as fast as the machine allows

    @property
    def gflops(self) -> float:
        """10⁹ FLOPs a second."""
        return ratio(self.step.flops, self.seconds) / 1e9

    @property
    def gbs(self) -> float:
        """10⁹ bytes a second, read and written."""
        return ratio(self.step.bytes, self.seconds) / 1e9


class Profile:
    """Made of the events of several runs of a graph, and the machine's roof; `kernels`: {step: name}.

    `rows`, one for each step that ran; `seconds`, what they took together; `flops`, `macs`, `read`,
    `written`; `events`, those of the run that took the median time, from its start on; `wall`, from
    its start to its end, and `overhead`, of the median run the time when no step ran: in seconds.
    `str(profile)` is a table; `profile.save("trace.json")` is for Perfetto.
    Raises ArgumentError if there are no runs, or steps of another graph in them.
    """

    def __init__(self, graph, runs, machine: Machine, kernels=()):
        self.graph, self.machine, self.runs = expect_graph("profile", graph), machine, len(runs)
        if not runs:
            raise ArgumentError("profile: at least one run, not none")
        spent = times(runs)
        if not spent.keys() <= set(graph.steps):
            raise ArgumentError("profile: a step ran that is none of this graph")
        self.events = median_run(runs)
        self.wall = span(self.events)
        self.overhead = median(map(idle, runs))
        self.seconds = fsum(spent.values())
        kernels = dict(kernels)
        self.rows = [
            self.row(step, kernels.get(step.node, ""), spent[step.node])
            for step in analyze.Analysis(graph).rows
            if step.node in spent
        ]
        self.flops, self.macs, self.read, self.written = (
            sum(getattr(row.step, what) for row in self.rows)
            for what in ("flops", "macs", "read", "written")
        )

    def row(self, step, kernel, seconds) -> Row:
        compute, memory = roofs(step, self.machine)
        bound = ("compute" if compute > memory else "memory") if step.flops or step.bytes else ""
        share, reach = ratio(seconds, self.seconds), ratio(max(compute, memory), seconds)
        return Row(step, kernel, seconds, share, bound, reach)

    @property
    def lanes(self) -> list[int]:
        return sorted({e.lane for e in self.events})

    @property
    def abreast(self) -> float:
        """How many steps ran at a time, on average."""
        return ratio(sum(e.seconds for e in self.events), self.wall)

    @property
    def mac_share(self) -> float:
        """Of the FLOPs, those that are MACs: from 0 to 1."""
        return ratio(2 * self.macs, self.flops)

    @property
    def mac_time_share(self) -> float:
        """Of the time of the steps, that of steps with MACs: from 0 to 1."""
        return sum(row.share for row in self.rows if row.step.macs)

    def __str__(self):
        head = "step", "op", "result", "kernel", "µs", "share", "FLOPs"
        head += "GFLOP/s", "GB/s", "bound by", "of roof"
        return "\n".join([table(head, map(cells, self.rows), self.total, 4), *self.remarks()])

    __repr__ = __str__

    @property
    def total(self) -> tuple[str, ...]:
        rates = (
            f"{ratio(n, self.seconds) / 1e9:.1f}" for n in (self.flops, self.read + self.written)
        )
        share = f"{ratio(self.seconds, self.seconds):.1%}"
        return "total", "", "", "", micro(self.seconds), share, f"{self.flops:,}", *rates, "", ""

    def remarks(self):
        m = self.machine
        threads = f"; on {len(self.lanes)} threads, {self.abreast:.2f} steps at a time"
        yield (
            f"{self.runs} runs, medians: from start to end {micro(self.wall)} µs, of which "
            f"{micro(self.overhead)} µs between steps{threads if len(self.lanes) > 1 else ''}"
        )
        yield (
            f"steps with MACs take {self.mac_time_share:.1%} of the time, "
            f"MACs are {self.mac_share:.1%} of the FLOPs"
        )
        assumed = ", assumed: `tinyinfer bench machine` measures this one" if m.assumed else ""
        yield (
            f"roof: {m.peak / 1e9:.3g} GFLOP/s and {m.bandwidth / 1e9:.3g} GB/s, of one core of "
            f"{m.name}{assumed}"
        )
        yield "bound by: which of the two allows less; above 100% the numbers came from the caches"

    # For other tools

    def save(self, path) -> Path:
        """Write `events` for chrome://tracing or ui.perfetto.dev. Returns the path.
        (Google, "Trace Event Format".)"""
        path = Path(path)
        if path.suffix != ".json":
            raise ArgumentError(f"a trace cannot be {path.name!r}: end it in .json")
        path.write_text(json.dumps(self.trace(), indent=1), encoding="utf-8")
        return path

    def trace(self) -> dict:
        rows = {row.step.node: row for row in self.rows}
        names = [about("process_name", 0, "tinyinfer")]
        names += [about("thread_name", i, f"thread {i}" if i else "caller") for i in self.lanes]
        events = [complete(e, rows[e.node]) for e in self.events]
        return {"traceEvents": names + events, "displayTimeUnit": "ns"}


# Of a run


def times(runs) -> dict[Node, float]:
    """The median time of each step."""
    spent = [Counter() for _ in runs]
    for run, seconds in zip(runs, spent):
        for e in run:
            seconds[e.node] += e.seconds
    return {n: median(seconds[n] for seconds in spent) for n in set().union(*spent)}


def median_run(runs) -> list[Event]:
    """Its events in the order of their starts, the first at 0."""
    run = sorted(runs, key=span)[(len(runs) - 1) // 2]  # of two in the middle, the faster
    begin = min((e.start for e in run), default=0)
    moved = [e._replace(start=e.start - begin, end=e.end - begin) for e in run]
    return sorted(moved, key=lambda e: (e.start, e.lane))


def span(run) -> float:
    return max((e.end for e in run), default=0) - min((e.start for e in run), default=0)


def idle(run) -> float:
    """How long, between the first step and the last, no lane had one."""
    run = sorted(run, key=attrgetter("start"))
    busy_until = accumulate((e.end for e in run), max)
    return sum(max(0.0, e.start - end) for e, end in zip(run[1:], busy_until))


def roofs(step, machine) -> tuple[float, float]:
    """The least seconds for its arithmetic, and for its bytes."""
    n = step.node
    of_bytes = n.op.mac and n.inputs[0].spec.dtype.itemsize == 1
    peak = machine.int8 if of_bytes else machine.peak
    return step.flops / peak, step.bytes / machine.bandwidth


# Of the table


def cells(row) -> tuple[str, ...]:
    step = row.step
    rates = f"{row.gflops:.1f}", f"{row.gbs:.1f}", row.bound, f"{row.reach:.0%}"
    what = f"%{step.name}", step.op, step.spec, row.kernel
    return *what, micro(row.seconds), f"{row.share:.1%}", f"{step.flops:,}", *rates


def micro(seconds) -> str:
    return f"{1e6 * seconds:,.1f}"


def ratio(a, b) -> float:
    return a / b if b else 0.0


# Of the trace


def about(what, lane, name) -> dict:
    return {"ph": "M", "name": what, "pid": 0, "tid": lane, "args": {"name": name}}


def complete(e, row) -> dict:
    """Of a step, from its start to its end, in µs."""
    step, (calls, line, *_) = row.step, e.node.origin
    args = {
        "module": calls and calls[-1].title,
        "line": line,
        "result": step.spec,
        "inputs": [str(x.spec) for x in e.node.inputs],
        "kernel": row.kernel,
        "FLOPs": step.flops,
        "MACs": step.macs,
        "bytes": step.bytes,
        "bound by": row.bound,
    }
    return {
        "ph": "X", "cat": "step", "name": f"%{step.name} {doing(e.node.op)}", "pid": 0,
        "tid": e.lane, "ts": 1e6 * e.start, "dur": 1e6 * e.seconds,
        "args": {key: value for key, value in args.items() if value},
    }  # fmt: skip


def doing(op) -> str:
    return " → ".join(part.name for part in op.parts()) if isinstance(op, Fused) else op.name
