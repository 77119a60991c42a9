"""Which kernel carries out a step: the one that should take the least time.

    candidates of a step op(x, w)
        every kernel that is registered for op                    its guard holds, or it gives none
        every kernel for packed(op, form)(x, form(w))             for every form that is proposed
    seconds of a kernel
        operations / (efficiency * peak) + bytes / bandwidth      as the machine was measured
        or, with autotune, the shortest of some runs              remembered for this CPU

In which layout the images lie is decided for a graph as a whole: it is laid out in each, and the one
counts whose steps, reorders among them, take least time. So what is chosen for one step does not
depend on its neighbours, and what lies between two of them is not reordered.
"""

import json
import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import local
from time import perf_counter

import numpy as np

from ..core.spec import Spec
from ..core.tensor import Node
from ..errors import ArgumentError
from ..graph.file import write
from ..graph.fused import Fused
from ..graph.graph import Graph, made, nbytes
from ..graph.history import Change, History
from ..graph.passes.fuse import fuse
from ..graph.passes.layout import layout
from ..graph.passes.rewrite import fixed
from ..graph.passes.together import together
from ..graph.passes.turn import turn
from ..kernels.kernel import Kernel, forms_of, kernels_of, numpy_kernel_of
from ..kernels.threads import split_among
from ..ops.layout import In, Reorder
from ..ops.packed import Form, Packed
from .machine import DAMAGED, key, known_machines, machine

LAYOUTS = "NCHW", "NCHW16c", "NCHW16n"
SHARE = 0.2  # of the peak, where NumPy multiplies matrices
CALL = 2e-6  # seconds: of Python, for one of NumPy's calls
CACHES = (1 << 20, 3), (16 << 20, 2)  # bytes: how many times faster than memory they deliver
TRIES, TRY = 5, 2e-3  # of a timing; seconds


@dataclass(frozen=True)
class Choice:
    """One way to carry out a step; `form` is that of its weights, if they are packed for it."""

    kernel: Kernel
    seconds: float
    form: Form | None = None

    def __str__(self):
        return f"{self.kernel.name} {told(self.seconds)}"


@dataclass(frozen=True)
class Selection:
    """`max_relative_error` admits kernels that round more than sums in another order do, such as
    Winograd's; `fast` those in machine code."""

    autotune: bool = False
    max_relative_error: float = 2e-6
    fast: bool = True
    threads: int = 1  # or as many as ti.set_num_threads was told

    def __post_init__(self):
        if not 0 <= self.max_relative_error < 1:
            wrong = self.max_relative_error
            raise ArgumentError(f"max_relative_error is a number from 0 to 1, not {wrong!r}")

    @cached_property
    def machine(self):
        return machine()

    def kernel(self, n) -> Kernel:
        """For this step, as it stands in the graph."""
        return self.ranking(n)[0].kernel

    def ranking(self, n) -> list[Choice]:
        """The ways to carry out this step as it stands; the fastest first. Of NumPy's alone
        there is but one."""
        specs = n.spec, *[x.spec for x in n.inputs]
        if self.fast:
            return self.ranked(n.op, specs)
        return [Choice(numpy_kernel_of(n.op, *specs), np.nan)]

    def ranked(self, op, specs, form=None) -> list[Choice]:
        if self.fast:
            load()
        with split_among(self.threads), within(self):
            found = [k for k in kernels_of(op, *specs) if k.error <= self.max_relative_error]
        if not self.fast:
            found = [k for k in found if k.cost is None]
        choices = [Choice(k, self.seconds(k, op, specs), form) for k in found]
        return sorted(choices, key=lambda c: c.seconds)

    def seconds(self, kernel, op, specs) -> float:
        if self.autotune and kernel.cost is not None and not op.raises:  # not of any numbers
            return timed(kernel, op, specs)
        return estimated(kernel, op, specs, self.machine)

    def alternatives(self, op, specs, found=None) -> list[Choice]:
        """The ways with packed weights, too; `found` are those without, if they are known."""
        found = [*(found or self.ranked(op, specs))]
        if self.fast and len(specs) > 2:
            y, x, w, *rest = specs
            for form in forms_of(op, *specs):
                packed = Packed(op, form, w.shape)
                found += self.ranked(packed, (y, x, form.infer(w), *rest), form)
        return sorted(found, key=lambda c: c.seconds)

    def why(self, n, ranking) -> str:
        """What was chosen, and before what."""
        op, specs, found = n.op, (n.spec, *[x.spec for x in n.inputs]), ranking
        if isinstance(op, Packed):
            specs = (*specs[:2], Spec(op.shape, specs[2].dtype), *specs[3:])
            op, found = op.op, None
        first, *others = self.alternatives(op, specs, found)
        return f"{told(first.seconds)}" + (f"; {others[0]}" if others else "")


class Within(local):
    selection = Selection(fast=False)


WITHIN = Within()  # which selection the kernels that are made meanwhile are for


@contextmanager
def within(selection):
    before, WITHIN.selection = WITHIN.selection, selection
    try:
        yield
    finally:
        WITHIN.selection = before


def load():
    """With Numba: when the first kernel is looked for."""
    from ..kernels import fast  # noqa: F401
    from . import fusing, generated  # noqa: F401


NUMPY = Selection(fast=False)


def selected(what, kernels=None, autotune=False, max_relative_error=2e-6) -> Selection:
    """Of the options of ti.compile and ti.plan."""
    name, usual = "TINYINFER_KERNELS", os.environ.get("TINYINFER_KERNELS", "fast")
    said, kernels = ("kernels", kernels) if kernels else (name, usual)
    if kernels not in ("fast", "numpy"):
        raise ArgumentError(f"{what}: {said} is 'fast' or 'numpy', not {kernels!r}")
    return Selection(bool(autotune), max_relative_error, kernels == "fast")


def told(seconds) -> str:
    unit, size = next((u for u in UNITS if seconds >= u[1]), UNITS[-1])
    return f"{seconds / size:.3g} {unit}"


UNITS = ("s", 1), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9)


# ---- the graph, as the kernels want it -------------------------------------------------------------


def select(graph: Graph, selection=None, layouts=None) -> Graph:
    """The graph with its images laid out, and its weights packed, as is fastest; of these `layouts`, if
    they are given, where None is the one that it has."""
    selection = selection or Selection()
    if not selection.fast:
        return graph
    start = perf_counter()
    layouts = layouts or layouts_for(graph)
    turned = turn(graph)
    known = {}
    ways = [Way(layout(turned, to=to) if to else turned, selection, known) for to in layouts]
    best = min(ways, key=lambda way: way.seconds).graph()
    new = fuse(together(best, fits=has_kernel), fits=has_kernel)
    change = Change("select", graph, new, perf_counter() - start)
    return new.remembering(History((*graph.history, change)))


def layouts_for(graph):
    """Without convolutions there is nothing to gain."""
    asked = any(n.op.images and n.op.mac and n.spec.dtype == np.float32 for n in graph.steps)
    return LAYOUTS if asked else LAYOUTS[:1]


def has_kernel(n) -> bool:
    """In machine code, for all of it: else it is better not fused."""
    return any(k.cost is not None for k in kernels_of(n.op, n.spec, *[x.spec for x in n.inputs]))


class Way:
    """The graph in one layout, with the best choice for each step. Those that are `known` are of all
    layouts: most steps are equal to others."""

    def __init__(self, laid_out: Graph, selection, known):
        self.laid_out, self.selection, self.known = laid_out, selection, known
        self.fixed = fixed(laid_out)
        self.chosen = {n: self.best(n) for n in laid_out.steps}

    @property
    def seconds(self) -> float:
        """What follows from constants and States alone is not done again."""
        return sum(c.seconds for n, (c, _) in self.chosen.items() if n not in self.fixed)

    def best(self, n) -> tuple[Choice, Node]:
        """And the step, perhaps on an image that it takes as it was."""
        found = [(self.cheapest(m), m) for m in (n, *as_it_came(n))]
        return min(found, key=lambda f: f[0].seconds)

    def cheapest(self, n) -> Choice:
        specs = n.spec, *[x.spec for x in n.inputs]
        once = len(n.inputs) > 1 and n.inputs[1] in self.fixed
        what = n.op, specs, once
        if what not in self.known:
            found = self.selection.alternatives(n.op, specs)
            found = [replace(c, seconds=c.seconds + self.packing(c, specs, once)) for c in found]
            self.known[what] = min(found, key=lambda c: c.seconds)
        return self.known[what]

    def packing(self, choice, specs, once) -> float:
        """To pack weights takes a while, if they change."""
        if choice.form is None or once:
            return 0.0
        return CALL * 5 + 8 * nbytes(specs[2]) / self.selection.machine.bandwidth

    def graph(self) -> Graph:
        new = {n: n for n in self.laid_out.sources}
        for n in self.laid_out.steps:
            choice, step = self.chosen[n]
            xs = [new[x] for x in step.inputs]
            op = step.op
            if choice.form is not None:
                op = Packed(op, choice.form, xs[1].spec.shape)
                xs[1] = made(choice.form, (xs[1],), n)
            same = op == n.op and all(a is b for a, b in zip(xs, n.inputs))
            new[n] = n if same else made(op, tuple(xs), n)
        return self.laid_out.mapped(new)


def as_it_came(n):
    """The first convolution of a network may read the image in the layout that it came in."""
    x = n.inputs[0] if n.inputs else None
    if isinstance(n.op, In) and n.op.source is None and isinstance(x.op, Reorder):
        if x.op.source == "NCHW":
            op = replace(n.op, source="NCHW")
            yield made(op, (*x.inputs, *n.inputs[1:]), n)


# ---- how long it takes -----------------------------------------------------------------------------


def estimated(kernel, op, specs, machine) -> float:
    cost = kernel.cost
    if cost is not None:
        peak = machine.int8 if cost.integer else machine.peak
        work = cost.flops and cost.flops / (cost.efficiency * peak)
        return 1e-6 + work + fetched(cost.bytes, machine)
    if isinstance(op, Fused):
        steps = [n for n in op.graph.steps if not n.op.view]
        inside = [(n.op, (n.spec, *[x.spec for x in n.inputs])) for n in steps]
        return CALL + sum(estimated(numpy_kernel_of(o, *s), o, s, machine) for o, s in inside)
    if op.control:  # its steps have been chosen
        return CALL * (10 if kernel.name == "definition" else 1)
    flat = [s for s in specs if isinstance(s, Spec)]
    moved = sum(map(nbytes, flat)) + 2 * sum(map(nbytes, kernel.scratch))
    work, operations = 0, op.flops(*specs)
    if op.mac:
        work = operations / (SHARE * machine.peak)
    else:  # each reads two numbers, and writes one
        moved = max(moved, 12 * operations)
    slow = 4 if kernel.name == "definition" and not op.view else 1  # it makes arrays on its way
    return CALL + slow * (work + fetched(moved, machine))


def fetched(size, machine) -> float:
    """Seconds for so many bytes: what is few enough was left in a cache by the step before."""
    near = next((times for most, times in CACHES if size <= most), 1)
    return size / (near * machine.bandwidth)


def timed(kernel, op, specs) -> float:
    """The shortest of some runs, on random numbers; remembered for the CPU."""
    known = remembered()
    name = f"{kernel.name}: {op!r} {', '.join(map(str, specs))}"
    if name not in known:
        known[name] = measured(kernel, specs)
        remember(known)
    return known[name]


def measured(kernel, specs) -> float:
    y, *xs = map(random, specs)
    run, more = kernel.bind(tuple(map(random, kernel.scratch)))
    best, end = np.inf, perf_counter() + TRIES * TRY
    run(y, *xs, *more)  # compiles it
    for i in range(1000):
        start = perf_counter()
        run(y, *xs, *more)
        best = min(best, perf_counter() - start)
        if i >= TRIES and perf_counter() > end:
            break
    return best


def random(spec):
    if not isinstance(spec, Spec):
        return tuple(map(random, spec))
    if spec.dtype.kind == "f":
        return np.random.default_rng(0).standard_normal(spec.shape).astype(spec.dtype)
    return np.ones(spec.shape, spec.dtype)


TUNED = {}  # key of the machine -> {kernel and specs: seconds}


def tuned_kernels() -> Path:
    """The file of all timings, by machine, in the user's cache."""
    return known_machines().with_name("kernels.json")


def remembered() -> dict[str, float]:
    if not TUNED:
        try:
            TUNED.update(timings(json.loads(tuned_kernels().read_text(encoding="utf-8"))))
        except DAMAGED:
            pass
    return TUNED.setdefault(key(), {})


def timings(found) -> dict[str, dict[str, float]]:
    """What of it can be some."""
    is_time = lambda x: type(x) in (int, float) and 0 < x < np.inf
    times = found.items() if isinstance(found, dict) else ()
    some = [(machine, known) for machine, known in times if isinstance(known, dict)]
    return {machine: {k: x for k, x in known.items() if is_time(x)} for machine, known in some}


def remember(known):
    try:
        tuned_kernels().parent.mkdir(parents=True, exist_ok=True)
        write(tuned_kernels(), json.dumps(TUNED, indent=1).encode())
    except OSError:
        pass
