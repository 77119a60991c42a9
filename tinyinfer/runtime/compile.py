"""A compiled function: for each kind of arguments it is traced once, optimized, planned, and then run.

States may change as they like: what follows from them alone, as folded weights, is computed anew when
one was re-pointed. It is traced again if their shapes, dtypes or needs of a gradient changed, or what
the attributes of a module are: its layers, its hooks, whether it is training. What else Python decided
in the trace stays as it was: a global variable, the momentum of an optimizer.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial, update_wrapper
from itertools import starmap
from threading import Lock
from types import MethodType
from warnings import warn

from ..core.op import DEBUG, Op
from ..core.spec import Specs
from ..core.tensor import Node, Tensor
from ..core.trace import Edits, mode
from ..errors import ArgumentError, GraphError
from ..graph.control import unpack
from ..graph.gradient import pullback
from ..graph.graph import Graph, accepts
from ..graph.passes import STANDARD, fuse, optimize, split
from ..graph.trace import record
from ..graph.tree import leaves, refilled
from ..graph.verify import wrong_state
from .arena import in_lines
from .executor import Executor
from .kinds import KINDS, arrays_in, is_changeable, items, kind_of, same, too_many
from .machine import machine
from .plan import Plan
from .profile import Event, Profile
from .select import select, selected

FLAT = [run for run in STANDARD if run is not fuse]  # a step is a kernel: each has its own place


def compile(
    fn=None, backend="compiled", *, passes=None, memory="best", order=None, threads=1, **selection
):
    """A faster `fn`: a function of tensors, an nn.Module, a Graph or a Plan. Also a decorator.

    It takes and gives what `fn` does, with the same gradients; what Python does in `fn` besides
    happens when it is traced, once for each kind of arguments. What `backward` leaves in a `.grad`
    does not come out: let `fn` make the step of the optimizer too, or return the gradient.

    `backend` is "compiled", into one function of machine code, whose text is `compiled.source`;
    "planned", the same steps one after the other, into one arena; or "interpreted", by the definitions.
    In `threads` the compiled function splits its kernels; the planned one carries out what can go side
    by side. `passes` as in ti.optimize, by default all but fuse; `memory` as in ti.plan, and `order`, by
    default "memory", or "breadth" for several threads. `compiled.plan` and `compiled.graph` are those
    of the last call.

    For each step the kernel is chosen that should take the least time: images are laid out and weights
    packed for it. `autotune=True` times them, once for this CPU. A kernel that rounds more than sums in
    another order do, as Winograd's does, is admitted up to `max_relative_error` (by default 2e-6): errors
    beside results, as root mean squares, of numbers of one size; single errors are larger, and much
    larger beside numbers that are. `kernels="numpy"` keeps to NumPy, whose results are those of eager
    code bit for bit; "fast" ones, the default, are compiled by Numba when they are first used, and kept
    on disk. What is usual can be said in the environment: TINYINFER_KERNELS=numpy.

    What States become is written over what they were, so that another thread which reads them meanwhile
    sees some of both. Raises ArgumentError for options that do not exist, GraphError where a gradient
    that eager code would have would be lost.
    """
    if backend not in BACKENDS:
        raise ArgumentError(f"compile: backend is one of {', '.join(BACKENDS)}, not {backend!r}")
    if type(threads) is not int or threads < 1:
        raise ArgumentError(f"compile: threads is a whole number from 1 on, not {threads!r}")
    if isinstance(fn, Plan) and (passes, memory, order, selection) != (None, "best", None, {}):
        raise ArgumentError("compile: a Plan is made: give its options to ti.plan")
    chosen = selected("compile", **selection)
    splits = backend == "compiled" and chosen.fast
    order = order or ("breadth" if threads > 1 and not splits else "memory")
    if splits:
        chosen = replace(chosen, threads=threads)
    run_by = partial(
        BACKENDS[backend], memory=memory, order=order, threads=threads, selection=chosen
    )
    passes = FLAT if passes is None else passes
    if backend != "interpreted":
        passes = [*passes, partial(select, selection=chosen)]
    wrap = partial(Compiled, run_by=run_by, passes=passes)
    return wrap if fn is None else wrap(fn)


def planned(graph, name, memory, order, threads, selection):
    return Executor(plan_of(graph, memory, order, selection), threads)


def plan_of(graph, memory, order, selection):
    plan = graph if isinstance(graph, Plan) else Plan(graph, memory, order, selection=selection)
    if DEBUG >= "3":
        print(plan, file=sys.stderr)
    return plan


def compiled(graph, name, memory, order, threads, selection):
    """Where all is NumPy's, there is nothing to compile."""
    plan = plan_of(graph, memory, order, selection)
    if not plan.selection.fast:
        return Executor(plan, threads)
    from .generated import Program, Runner  # with Numba

    program = Program(plan, name)
    if DEBUG >= "4":
        print(program.text, file=sys.stderr)
    return Runner(program)


def interpreted(graph, name, **options):
    return (graph.graph if isinstance(graph, Plan) else graph).run_all


# (graph, name) -> a function of arrays
BACKENDS = {"compiled": compiled, "planned": planned, "interpreted": interpreted}


class Compiled:
    """What ti.compile gives."""

    def __init__(self, fn, run_by, passes):
        if not callable(fn) and not isinstance(fn, Plan):
            raise ArgumentError(f"compile: a function, module, graph or plan, not {fn!r}")
        self.fn, self.run_by, self.passes = fn, run_by, passes
        self.eager = fn.graph if isinstance(fn, Plan) else fn
        self.kinds = {}  # of arguments -> Specializations, for different Python values
        self.lock = Lock()
        self.last, self.warned = None, False
        update_wrapper(self, fn, updated=())

    def __call__(self, *args, **named):
        last = self.last
        if last is not None and not named and last.serves(args):
            return last.call(args)
        tensors = arrays_in((args, named))
        if mode.trace or any(x.node.value is None for x in tensors):
            return self.eager(*args, **named)
        known = self._known((mode.grad, kind_of((args, named))))
        found = next((s for s in known if s.holds()), None)
        if found is None:
            found = Specialization(self, args, named)
            known[:] = [s for s in known if s.can_hold()] + [found]
        self.last = found
        return found.call(tensors)

    def _known(self, kind) -> list:
        """The Specializations for such arguments. Of very many kinds the oldest is forgotten."""
        with self.lock:
            found = self.kinds[kind] = self.kinds.pop(kind, [])  # the last is the youngest
            first = False
            if len(self.kinds) > KINDS:
                del self.kinds[next(iter(self.kinds))]
                first, self.warned = not self.warned, True
        if first:
            warn(f"compile: {self.called} {too_many([*self.kinds])}", stacklevel=3)
        return found

    def __repr__(self):
        return f"<compiled {self.fn!r}>"

    def __getstate__(self):  # a copy has run nothing
        return vars(self) | {"kinds": {}, "last": None, "lock": None}

    def __setstate__(self, state):
        vars(self).update(state, lock=Lock())

    def __get__(self, instance, owner=None):
        return self if instance is None else MethodType(self, instance)

    def __getattr__(self, name):  # model = ti.compile(model); model.eval()
        if name.startswith("__") or "fn" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.fn, name)

    @property
    def graph(self) -> Graph:
        """What the last call ran, after all passes."""
        body = self._last().body
        return body.graph if isinstance(body, Plan) else body

    @property
    def plan(self) -> Plan:
        """Of the last call. Raises ArgumentError before the first, and of the interpreter."""
        run = self._last().run
        if not isinstance(run, Executor):
            raise ArgumentError(
                "plan: the interpreter has none: ti.compile(..., backend='planned')"
            )
        return run.plan

    @property
    def source(self) -> str:
        """The text of the function that the last call ran. Raises ArgumentError before the first, and
        where none was written: by other backends, or of NumPy's kernels alone."""
        program = getattr(self._last().run, "program", None)
        if program is None:
            raise ArgumentError(
                "source: nothing was written: ti.compile(..., backend='compiled', kernels='fast') does"
            )
        return program.text

    @property
    def called(self) -> str:
        """What its function is called."""
        return getattr(self.fn, "__name__", type(self.fn).__name__).lower()

    def _last(self):
        if self.last is None:
            raise ArgumentError("this function has not been called: what it runs depends on that")
        return self.last

    def profile(self, *args, runs=20, **named) -> Profile:
        """How long each step takes, the median of `runs` calls. What trains does so as many times."""
        self(*args, **named)
        last, plan, watched = self.last, self.plan, []
        for _ in range(runs):
            watched.append([])
            tensors = arrays_in((args, named))
            last.compute(tensors, watch=lambda *event: watched[-1].append(Event(*event)))
        kernels = {n: kernel.name for n, kernel in plan.kernels.items()}
        return Profile(plan.graph, watched, machine(), kernels)


def prepared(graph, passes=FLAT) -> tuple[Graph, Graph]:
    """What of the optimized graph follows from constants and States alone, and what takes that and
    the inputs."""
    return split(optimize(graph, passes))


class Specialization:
    """A function for one kind of arguments: what follows from States alone, and the rest."""

    def __init__(self, compiled, args, named):
        self.compiled = compiled
        self.traced, trace = record(compiled.eager, args, named)
        self.guards, self.result = trace.guards, trace.result
        self.alone = isinstance(self.result, Tensor)
        self.sure = Edits.modules, Edits.kinds
        self.faces = {m: m.face() for m in trace.called}
        # Lists and dicts are changed without a word.
        seen = (x for m, face in self.faces.items() for x in (m, *face) if is_changeable(x))
        self.open = [(x, items(x)) for x in {id(x): x for x in seen}.values()]
        simple = not named and all(isinstance(x, Tensor) for x in args)
        self.simple = [(x.node.spec, x.requires_grad) for x in args] if simple else None
        self.grad = mode.grad
        # A step that trains changes what its gradient would be of: its results are values.
        moved = [state for state in self.traced.updates if state.requires_grad]
        trains = bool(moved) and any(n.origin.backward for n in self.traced.steps)
        self.taped = mode.grad and not trains and any(x.requires_grad for x in leaves(self.result))
        if wrong := hidden_gradient(self.traced, trace.grads, moved, self.taped):
            raise GraphError(f"compile: {wrong}")
        self.prologue, self.body = self.halves()
        self.ready = None, None, ()

    def halves(self) -> tuple[Graph, Graph | Plan]:
        """What follows from States alone, and the rest. On the tape States are arguments."""
        fn, passes = self.compiled.fn, self.compiled.passes
        if self.taped:
            return Graph((), ()), optimize(self.closed, passes)
        if isinstance(fn, Plan):
            return Graph((), ()), fn
        return prepared(self.traced, passes)

    def holds(self) -> bool:
        """Is all that was relied on as it was?"""
        now = Edits.modules, Edits.kinds
        if now != self.sure:
            if not (
                all(module.training == flag for module, flag in self.guards.items())
                and all(n.needs_grad == s.requires_grad for n, s in self.traced.states.items())
                and self.can_hold()
            ):
                return False
            self.sure = now
        for x, those in self.open:
            if not same(items(x), those):
                return False
        return True

    def serves(self, args) -> bool:
        """Are these tensors what it was made for, and holds all the rest?"""
        simple = self.simple
        if simple is None or len(args) != len(simple) or mode.trace or mode.grad is not self.grad:
            return False
        for x, (spec, needs_grad) in zip(args, simple):
            if not isinstance(x, Tensor):
                return False
            n = x.node
            if n.value is None or n.needs_grad is not needs_grad or n.spec != spec:
                return False
        return self.holds()

    def can_hold(self) -> bool:
        """Or will it hardly be again?"""
        return not any(starmap(wrong_state, self.traced.states.items())) and all(
            same(m.face(), face) for m, face in self.faces.items()
        )

    def call(self, tensors):
        if self.taped:
            return refilled(self.result, self.on_tape(tensors))
        made = self.compute(tensors)
        if self.alone:
            return held(made[0], self.result.node.spec)
        return refilled(self.result, map(held, made, [x.node.spec for x in leaves(self.result)]))

    def compute(self, tensors, **options):
        given = (*tensors, *self.traced.states.values()) if self.taped else tensors
        return self.run([*[x.node.value for x in given], *self.from_states()], **options)

    @cached_property
    def run(self) -> Callable:
        return self.compiled.run_by(self.body, self.compiled.called)

    def from_states(self):
        """What the prologue gives; it runs again if one of its States was re-pointed."""
        now = Edits.states
        last, seen, ready = self.ready
        if now != last:
            born = [state.node.born for state in self.prologue.states.values()]
            if seen != born:
                ready = [*map(in_lines, self.prologue.run_all(()))]
            self.ready = now, born, ready
        return ready

    def on_tape(self, tensors):
        """One step on the tape, of the arguments and of the States."""
        graph = self.traced
        ys = unpack(self.step(*tensors, *graph.states.values()), graph.updates)
        return [y if x.requires_grad else y.detach() for y, x in zip(ys, leaves(self.result))]

    @cached_property
    def step(self) -> Op:
        compiled, closed = self.compiled, self.closed
        back = Compiled(partial(pullback, closed), compiled.run_by, compiled.passes)
        return Call(closed, self.run, back)

    @cached_property
    def closed(self) -> Graph:
        graph = self.traced
        ends = (*graph.updates.values(), *graph.outputs)
        return Graph((*graph.inputs, *graph.states), ends)


def hidden_gradient(graph, grads, moved, taped) -> str:
    """What a gradient would come to, or from, that nobody sees outside of the compiled function: of
    the `grads` that backward left, the States with a gradient that it `moved`, and its constants."""
    if not moved and any(g is not None for g in grads.values()):
        return (
            "backward() leaves gradients in .grad, which stay inside: let the function make the step of "
            "the optimizer too, or return ti.grad(...)"
        )
    if taped and moved:
        name = moved[0].name or f"a State {moved[0].spec}"
        return f"it assigns {name}, which needs a gradient: assign it outside, or call it in ti.no_grad()"
    if taped and (made := [n for n in graph.constants if n.needs_grad]):
        return f"a {made[0].spec} made outside of it needs a gradient: pass it as an argument"
    return ""


class Call(Op):
    """ys = graph(*xs), compiled, and so is its gradient"""

    graph: Graph
    run: Callable
    back: Callable

    def infer(self, *xs):
        accepts("a compiled function", self.graph, xs)
        return Specs(n.spec for n in self.graph.outputs)

    def forward(self, *xs):
        return tuple(self.run(xs))

    def vjp(self, g, y, *xs):
        return self.back(xs, g.of(y.spec))

    def flops(self, y, *xs):
        return self.graph.flops()


def held(array, spec) -> Tensor:
    """A tensor of this very array."""
    return Tensor(Node(None, (), spec, array))
