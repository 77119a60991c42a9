"""A number for each step of a graph, by which a picture colours them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from operator import attrgetter
from statistics import median
from time import perf_counter

import numpy as np

from ..core.spec import spec_of
from ..core.tensor import Node
from ..errors import ArgumentError
from ..graph.graph import flops, traffic

RUNS = 5
FLOATS = "float16", "float32"


@dataclass(frozen=True)
class Measure:
    """The numbers of steps, and how they are told."""

    title: str
    numbers: Mapping[Node, float]
    adds_up: bool = False  # then a step has a share of the whole

    @cached_property
    def largest(self) -> float:
        return max(filter(np.isfinite, self.numbers.values()), default=0) or 1

    @cached_property
    def whole(self) -> float:
        return sum(self.numbers.values()) or 1

    def place(self, x) -> float:
        """On the scale, from 0 to 1: by the square root, so that small ones differ too."""
        return np.sqrt(np.clip(x / self.largest, 0, 1)) if np.isfinite(x) else 1.0

    def text(self, x) -> str:
        if not self.adds_up:
            return f"{x:.2g}" if x else ""
        percent = 100 * x / self.whole
        return f"{percent:.0f} %" if percent >= 1 else "< 1 %" if x else ""


def measure(graph, by, inputs=None) -> Measure:
    """Of every step of the graph, see Graph.draw. Raises ArgumentError for what cannot be measured."""
    if isinstance(by, Mapping):
        if by.keys().isdisjoint(graph.nodes):
            raise ArgumentError("draw: no key of color_by is a node of this graph: see graph.nodes")
        return Measure("Numbers of the steps", by)
    if by not in ("flops", "bytes", "time", "error"):
        raise ArgumentError(
            f"draw: color_by is 'flops', 'bytes', 'time', 'error' or {{node: number}}, not {by!r}"
        )
    if by == "flops":
        numbers = {n: flops(n) for n in graph.steps}
        return Measure(f"FLOPs: {count(graph.flops())} in all", numbers, True)
    if by == "bytes":
        numbers = {n: sum(traffic(n)) for n in graph.steps}
        return Measure(f"Read and written: {count(graph.bytes(), 'B')} in all", numbers, True)
    arrays = given(graph, by, inputs)
    if by == "error":
        return Measure("Relative error, against float64", errors(graph, arrays))
    numbers = seconds(graph, arrays)
    whole = count(sum(numbers.values()), "s")
    return Measure(f"Time: {whole} in all, of the interpreter", numbers, True)


def given(graph, by, inputs) -> list[np.ndarray]:
    if inputs is None:
        wanted = ", ".join(f"{graph.names[n]}: {n.spec}" for n in graph.inputs)
        raise ArgumentError(
            f"draw: color_by={by!r} runs the graph: pass inputs=(...), arrays for {wanted}"
        )
    arrays = [np.asarray(x) for x in (inputs if isinstance(inputs, tuple | list) else [inputs])]
    graph.expect([spec_of(x) for x in arrays])
    return arrays


def seconds(graph, arrays) -> dict[Node, float]:
    """The median of a few runs."""
    times = {n: [] for n in graph.steps}

    def call(n, xs):
        start = perf_counter()
        y = n.op.compute(*xs)
        times[n].append(perf_counter() - start)
        return y

    for _ in range(RUNS):
        graph.interpret(arrays, attrgetter("value"), call)
    return {n: median(found) for n, found in times.items()}


def errors(graph, arrays) -> dict[Node, float]:
    """|y - exact| / |exact|, where the exact value comes from the exact inputs."""
    found = graph.interpret(arrays, attrgetter("value"), lambda n, xs: n.op.compute(*xs))
    call = lambda n, xs: wide(in_float64(n).compute(*xs))
    exact = graph.interpret(map(wide, arrays), lambda n: wide(n.value), call)
    return {n: distance(found[n], exact[n]) for n in graph.steps}


def wide(y):
    if not isinstance(y, np.ndarray):
        return [wide(part) for part in y]
    return y.astype(float) if y.dtype.kind == "f" else y


def in_float64(n):
    """The op of a step; if it names the dtype of its result, which is a float as its input, another."""
    if not n.spec.floating or not any(x.spec.floating for x in n.inputs):
        return n.op
    told = [f.name for f in fields(n.op) if getattr(n.op, f.name) in FLOATS]
    return replace(n.op, **dict.fromkeys(told, "float64"))


def distance(y, exact) -> float:
    y, exact = (flat(x) for x in (y, exact))
    with np.errstate(all="ignore"):
        off = np.where(y == exact, 0, y - exact)
        error, size = np.linalg.norm(off), np.linalg.norm(exact)
        return float(error / size) if size and error else float(error)


def flat(y):
    parts = [y] if isinstance(y, np.ndarray) else y
    return np.concatenate([np.ravel(x).astype(float) for x in parts])


def count(x, unit="") -> str:
    """1234567 -> "1.2 M"."""
    from matplotlib.ticker import EngFormatter

    return EngFormatter(unit, places=1)(x)
