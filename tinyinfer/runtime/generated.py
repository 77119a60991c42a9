"""A generated function at work: where its text lies, how it becomes machine code, and how it is called.

The text is in the user's cache, in a file whose name ends with a hash of it and of all that kernels are
made from. Numba keeps the machine code beside it: so in the next process nothing is compiled, and what
has changed in the meantime is never taken for what it was.
"""

import ctypes
import hashlib
import importlib.util
import sys
import tempfile
from functools import cache, partial
from pathlib import Path
from threading import Lock

import numpy as np
from numba import types

from ..core.op import watchers
from ..core.trace import Edits
from ..graph.file import write
from ..kernels.aside import compile_all
from ..kernels.borrowed import memory
from ..kernels.crew import EACH_PART, each_part, helpers
from ..kernels.native import contiguous, entry, kinds_of, sources
from ..kernels.threads import chosen_threads
from ..kernels.written import symbol
from .arena import Arena, in_lines, tell
from .codegen import Writer, states_of
from .executor import Executor, own, writable
from .machine import known_machines
from .plan import Plan

LONGEST = 60  # letters of a function's name in that of its file
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int64)


class Program:
    """A plan, and the function that carries it out: run(arena, *inputs, *results, *states, constants)."""

    def __init__(self, plan: Plan, name: str):
        writer = Writer(plan, name)
        self.plan, self.text, self.asks = plan, writer.text, bool(writer.python)
        self.states = states_of(plan.graph)
        self.kept = [*map(in_lines, writer.constants)]  # whose addresses these are:
        self.constants = np.array([x.ctypes.data for x in self.kept], np.int64)
        self.parts = max((call.parts for call in writer.calls), default=1)
        self.path = kept_at(self.text, writer.name)
        if self.parts > 1:
            symbol(each_part, EACH_PART)
        jobs = [(c.f, kinds_of(c.t, *c.arrays, *c.numbers)) for c in writer.calls]
        compile_all(dict.fromkeys(jobs))
        for job in jobs:  # LLVM has to know them before it loads what calls them
            symbol(*job)
        kinds = [memory] * len(writer.addresses)
        if self.asks:
            kinds[-1] = types.intp
        self.run = entry(module_at(self.path).run, tuple(kinds))


class Generated(Arena):
    """An arena in which the function of a program runs, one call at a time."""

    def __init__(self, program: Program, plan: Plan):
        super().__init__(plan)
        self.run_all, self.after = program.run, (program.constants,)

    def call(self, inputs, results, states):
        """`states` are the arrays of those of the program."""
        arrays = self.memory, *inputs, *results, *states, *self.after
        try:
            self.run_all(*arrays)
        except BufferError:  # there are gaps in some
            self.run_all(*[contiguous(x) if isinstance(x, np.ndarray) else x for x in arrays])


class Asking(Generated):
    """The same, where some steps are for Python."""

    def __init__(self, program: Program, plan: Plan):
        super().__init__(program, plan)
        self.program, self.error = program, None
        self.callback = CALLBACK(self.ask)
        self.after += (ctypes.cast(self.callback, ctypes.c_void_p).value,)

    def call(self, inputs, results, states):
        self.given, self.filled = (inputs, results, states), False
        try:
            super().call(inputs, results, states)
            if self.error:
                tell(*self.error, self.plan.graph)
        finally:
            self.error = self.given = None
            if self.filled:
                self.empty()

    def ask(self, i):
        """Do step number i, or, behind the last one, copy what is left to copy; 1 if there was an error."""
        n = None
        try:
            inputs, results, states = self.given
            states = dict(zip(self.program.states, states))
            if not self.filled:
                self.fill(inputs, results, states)
                self.filled = True
            with chosen_threads:
                if i == len(self.calls):
                    self.finish(results, states)
                else:
                    n, run, args = self.calls[i]
                    run(*args)
        except BaseException as error:
            self.error = error, n
            return 1
        return 0


class Runner(Executor):
    """Calls the function of a program."""

    def __init__(self, program: Program):
        arena = Asking if program.asks else Generated
        super().__init__(program.plan, arena=partial(arena, program))
        self.program, self.sure = program, None
        self.states = [(s, s in program.plan.graph.updates) for s in program.states]
        self.made = [n.spec for n in program.plan.graph.outputs]
        give_back()

    def _call(self, inputs, watch):
        if watch or watchers:  # they look at each step
            return super()._call(inputs, watch)
        program, graph = self.program, self.plan.graph
        if self.sure != Edits.kinds:
            self.sure = Edits.kinds
            graph.expect_states()
        arena, kept = self._idle_or_new()
        results = [*map(writable, kept, self.made)]
        states = self.states and [own(s) if mine else s.held.value for s, mine in self.states]
        if program.parts > 1:
            helpers.wake(program.parts - 1)
        try:
            arena.call(inputs, results, states)
        finally:
            if graph.updates:
                for (s, mine), array in zip(self.states, states):
                    if mine:
                        s.hold(array)
        self.idle.append((arena, kept))  # not after an error: who knows what is at work in it
        return results


def give_back():
    """To the system, what was only needed to compile: the arena comes next."""
    if trim := getattr(ctypes.pythonapi, "malloc_trim", None):  # of glibc
        trim(0)


# ---- files -----------------------------------------------------------------------------------------


def kept_at(text, name) -> Path:
    """The file of this text."""
    made_of = hashlib.sha256((text + sources()).encode()).hexdigest()[:16]
    for folder in (known_machines().parent / "generated", fallback()):
        path = folder / f"{name[:LONGEST]}_{made_of}.py"
        try:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                folder.mkdir(parents=True, exist_ok=True)
                write(path, text.encode())
            return path
        except OSError:  # a home that cannot be written
            pass
    raise OSError(f"neither in the cache nor in {fallback()} a file can be written")


@cache
def fallback() -> Path:
    return Path(tempfile.mkdtemp(prefix="tinyinfer-"))


LOADING = Lock()


def module_at(path):
    name = f"tinyinfer.generated.{path.stem}"
    with LOADING:
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(name, path)
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module  # Numba looks there for it
            try:
                spec.loader.exec_module(module)
            except BaseException:
                del sys.modules[name]
                raise
    return sys.modules[name]
