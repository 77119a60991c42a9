"""A plan with memory under it: it runs, one call at a time, and makes no array.

What lies in the arena is found once. What changes from call to call (inputs, results, the arrays of
States, and views of them) leaves holes in the arguments of the steps, which are filled before a run
and emptied after it.
"""

from time import perf_counter

import numpy as np

from ..core.op import watchers
from ..core.spec import Spec
from ..errors import TinyinferError
from ..graph.verify import called
from .plan import Plan
from .values import carve


def aligned(size: int, alignment: int) -> np.ndarray:
    """So many bytes, from an address that the alignment divides."""
    memory = np.empty(size + alignment, np.uint8)
    start = -memory.ctypes.data % alignment
    return memory[start : start + size]


LINE = 64  # bytes of a line of the cache, and of the widest vector


def in_lines(array: np.ndarray) -> np.ndarray:
    """The same, where a line of the cache begins: vectors that lie across two take twice as long to
    read, and a product with one image does little but read weights."""
    if array.ctypes.data % LINE == 0 or not array.flags.c_contiguous:
        return array
    moved = aligned(array.nbytes, LINE).view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved


class Arena:
    """`calls`: (step, function, its arguments), in the order of the plan."""

    def __init__(self, plan: Plan, memory: np.ndarray | None = None):
        self.plan, self.values = plan, plan.values
        self.memory = aligned(plan.arena_bytes, plan.alignment) if memory is None else memory
        self.fixed = {}  # node -> its value, if that is always in the same place
        self.loose = []  # (node, how to find its value), of the others, from old to young
        for n in (*plan.graph.sources, *plan.graph.steps):
            self._place(n)
        self.calls, self.holes = [], []  # holes: (arguments, which of them, node)
        for n in plan.order.steps:
            run, more = self._carried_out(n)
            nodes = n, *n.inputs
            args = [*map(self.fixed.get, nodes), *more]
            self.calls.append((n, run, args))
            self.holes += [(args, i, x) for i, x in enumerate(nodes) if x not in self.fixed]
        self.copies = [(c, self._stash(c)) for c in plan.lifetimes.copies]

    # Made once

    def _place(self, n):
        find = self._find_view(n) if n not in self.values.own else self._find(n)
        if callable(find):
            self.loose.append((n, find))
        else:
            self.fixed[n] = find

    def _find_view(self, n):
        op, (x,) = n.op, n.inputs
        if x in self.fixed:
            return op.forward(self.fixed[x])
        return lambda now, inputs, results, states: op.forward(now[x])

    def _find(self, n):
        """The array of a value, or a function that finds it: of a tuple, of each of its parts."""
        parts = [self._find_block(b) for b in self.values.blocks_of(n)]
        if isinstance(n.spec, Spec):
            return parts[0]
        if not any(map(callable, parts)):
            return tuple(parts)
        return lambda *outside: tuple(p(*outside) if callable(p) else p for p in parts)

    def _find_block(self, block):
        home = self.plan.home(block)
        root, key, spec = home.root, home.root.key, block.spec
        if root.kind == "arena":
            return carve(self.memory, self.plan.offset(home), spec)
        if root.kind == "constant":
            return block.source.value
        if root.kind == "input":
            return lambda now, inputs, results, states: inputs[key]
        if root.kind == "state":
            return lambda now, inputs, results, states: states[key]
        start = home.start
        return lambda now, inputs, results, states: carve(flat(results[key]), start, spec)

    def _carried_out(self, n):
        """(function, arguments behind the result and the inputs)"""
        kernel, numbers = self.plan.kernels[n], self.plan.lifetimes.scratch[n]
        if joined := self.plan.lifetimes.joined.get(n):
            return Joined(n, joined), ()
        return kernel.bind(tuple(map(self._buffer, numbers, kernel.scratch)))

    def _buffer(self, number, spec):
        return carve(self.memory, self.plan.placement.offsets[number], spec)

    def _stash(self, copy):
        return None if copy.stash is None else self._buffer(copy.stash, copy.node.spec)

    # For each call

    def run(self, inputs, results, states, watch=None):
        """Carry out every step: from arrays of the inputs into arrays of the outputs, both contiguous;
        `states`, {State: array}, are read, and those that the graph updates written to.

        `watch(step, lane, start, end)` is told of each step. An error of a step names it.
        """
        self.fill(inputs, results, states)
        try:
            n = None
            if watch or watchers:
                for n, run, args in self.calls:
                    watched(n, run, args, watch)
            else:
                for n, run, args in self.calls:  # noqa: B007 (n is for the error)
                    run(*args)
            self.finish(results, states)
        except BaseException as error:
            if (told := explained(error, n, self.plan.graph)) is error:
                raise
            raise told from error
        finally:
            self.empty()

    def fill(self, inputs, results, states):
        self.now = now = {}
        for n, find in self.loose:
            now[n] = find(now, inputs, results, states)
        for args, i, n in self.holes:
            args[i] = now[n]

    def finish(self, results, states):
        """Copy what could not be made where it belongs."""
        value = lambda n: self.fixed[n] if n in self.fixed else self.now[n]
        for copy, stash in self.copies:
            if stash is not None:
                np.copyto(stash, value(copy.node))
            elif copy.kind == "output":
                np.copyto(results[copy.key], value(copy.node))
        for copy, stash in self.copies:
            if copy.kind == "state":
                np.copyto(states[copy.key], value(copy.node) if stash is None else stash)

    def empty(self):
        """Hold nothing of a call any longer."""
        self.now = None
        for args, i, _ in self.holes:
            args[i] = None


def flat(array) -> np.ndarray:
    """The bytes of a contiguous array."""
    return array.reshape(-1).view(np.uint8)


class Joined:
    """What is left of a concatenation: the inputs that were not made in their places."""

    def __init__(self, n, joined):
        ends = np.cumsum([0, *(int(np.prod(x.spec.shape)) for x in n.inputs)]).tolist()
        self.left = [(i, *ends[i : i + 2]) for i in range(len(n.inputs)) if i not in joined]

    def copies(self, y, *xs):
        """(to, from)"""
        y = y.reshape(-1)
        return [(y[a:b].reshape(xs[i].shape), xs[i]) for i, a, b in self.left]

    def __call__(self, y, *xs):
        for to, x in self.copies(y, *xs):
            np.copyto(to, x)


def watched(n, run, args, watch, lane=0):
    start = perf_counter()
    run(*args)
    end = perf_counter()
    if watch:
        watch(n, lane, start, end)
    for see in watchers:
        see(n.op, args[1 : 1 + len(n.inputs)], args[0])


def tell(error, n, graph):
    """Raise it where the run is waited for, and not where the step was."""
    told = explained(error, n, graph)
    try:
        raise told from (error.__cause__ if told is error else error)
    finally:
        del error, told  # they hold this frame


def explained(error, n, graph) -> BaseException:
    """The error, which says of which step it is."""
    where = f"in {called(graph, n)}" if n else "in a graph"
    if isinstance(error, TinyinferError):
        return type(error)(f"{error}; {where}")
    error.add_note(where)
    return error
