"""ti.script: a graph from the source of a function, with its branches and loops as ops.

graph/lower.py rewrites the function, so that every `if`, `while`, `for`, `and`, `or`, `not` and every
call goes through the helper here; then it is recorded, as by ti.trace. Where Python decides, the
helper does what Python does. Where a tensor decides, it writes down an op:

    branch   a ti.cond. Both sides are recorded on the side; what they leave different is its result
    repeat   a ti.while_loop. A turn is recorded on symbols of what it changes
    each     for a range or a tensor a ti.scan; for a range that a tensor limits a ti.while_loop; for
             anything else a loop of Python

graph/paths.py says what becomes of variables there. Not converted: functions that are passed to
functions of libraries, unless they are written inside a converted one; properties and operators of
the user's classes. Not seen: iterators that several turns share.
"""

import os
import sysconfig
import traceback
from dataclasses import dataclass
from functools import partial
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from pathlib import Path
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType

import numpy as np

from ..core.spec import Spec
from ..core.tensor import Tensor, as_tensor, symbol, tensor
from ..core.trace import HERE, Trace, mode, user_line
from ..errors import DTypeError, GraphError, ShapeError
from ..ops import arange, logical_and, logical_not, logical_or
from .control import cond, scan, while_loop
from .graph import Graph
from .lower import HELPER, lowered
from .paths import RESULT, Cells, Loop, Recording, atoms, contents, joined
from .trace import record
from .tree import changed, leaves, refilled


def script(fn, *examples, **named) -> Graph:
    """The graph of `fn`, with its control flow, for inputs like the examples.

    fn: a function written with def in a file or a notebook, a method or a Module. The functions and
        modules of yours that it calls are converted too.
    examples: tensors, arrays or Specs, or lists, tuples and dicts of them, as for ti.trace.

    One rule: what depends on a tensor, and every `for ... in range(...)`, becomes an operation of the
    graph; what does not stays Python. So an `if` on a tensor becomes a ti.cond, a `while` on one a
    ti.while_loop, a `for` over a range or a tensor a ti.scan, also with `break`, `continue` and
    `return` inside; the number that a range gives is then an int64 tensor. A `for` over a list is
    unrolled, and so is one over list(range(3)).

    In a branch or a loop of the graph variables and States change, and nothing else. A variable keeps
    its shape and dtype there; a number becomes a tensor where it changes. A ti.while_loop has no
    gradient, the others have one.

    Raises GraphError, ShapeError or DTypeError, with your line, where there is no such operation.
    """
    helper = Script()
    try:
        return record(helper.start(fn), examples, named)[0]
    except RecursionError as error:
        raise GraphError(
            f"{place_of(error)}: a function calls itself without end, or a tensor decides when it "
            "ends: in a graph there are no calls. Write a while loop"
        ) from None
    finally:
        for module in helper.installed:
            del module.forward


class Script:
    """What the converted functions of one graph call as @script."""

    def __init__(self):
        self.outside = []  # for every branch or turn that is being recorded: what was there before
        self.installed = []  # modules whose forward is converted

    # Calls

    def start(self, fn):
        new, plain = self.call(fn), getattr(fn, "__func__", fn)
        if new is fn and isinstance(plain, FunctionType | BuiltinFunctionType | type):
            if not isinstance(plain, FunctionType) or users(plain):
                raise GraphError(
                    f"script: {plain.__qualname__} has no source of a def that could be converted: "
                    "write it as a def, without yield or async, in a file; or use ti.trace"
                )
        return new

    def call(self, f):
        """What is called in the place of f."""
        match f:
            case FunctionType():
                return self.converted(f)
            case MethodType():
                new = self.call(f.__func__)
                return f if new is f.__func__ else MethodType(new, f.__self__)
            case partial():
                return partial(self.call(f.func), *f.args, **f.keywords)
            case BuiltinFunctionType() if f.__name__ in MUTATORS:
                self.own(f.__self__)
            case _ if f is range:
                return steps
            case _ if hasattr(f, "named_modules") and not isinstance(f, type):
                self.install(f)
            case _ if callable(f) and users(type(f).__call__):
                return MethodType(self.call(type(f).__call__), f)
        return f

    def converted(self, f):
        code, cells = f.__code__, dict(zip(f.__code__.co_freevars, f.__closure__ or ()))
        if not users(f):
            inner = getattr(f, "__wrapped__", None)  # a decorator's function has it in a cell
            names = [name for name, cell in cells.items() if contents(cell) is inner]
            if not names or not isinstance(inner, FunctionType):
                return f
            cells[names[0]] = CellType(self.call(inner))
        elif HELPER in cells or code.co_flags & NOT_PLAIN or code.co_name == "<lambda>":
            return f
        else:
            try:
                code = lowered(code, code.co_filename)
            except OSError:
                return f
            cells[HELPER] = CellType(self)
        cells = tuple([cells[name] for name in code.co_freevars])
        new = FunctionType(code, f.__globals__, f.__name__, f.__defaults__, cells)
        new.__kwdefaults__ = f.__kwdefaults__
        return new

    def install(self, model):
        """Convert forward in its modules, wherever they are called from."""
        for module in model.modules():
            forward = type(module).forward
            new = self.call(forward) if "forward" not in vars(module) else forward
            if new is not forward:
                module.forward = MethodType(new, module)
                self.installed.append(module)

    # Expressions

    def logic(self, a, b, every, dear, asked):
        """`a and b()` if `every`, else `a or b()`; if `asked`, only its truth."""
        if not decides(a):
            return (a and b()) if every else (a or b())
        a, right = (flag(a), lambda: flag(b())) if asked else (a, b)
        if not dear:
            value = right()
            if is_flag(a) and is_flag(value):
                return (logical_and if every else logical_or)(a, value)
            right = lambda: value
        left = lambda: a
        return self.branch(a, *((right, left) if every else (left, right)))

    def negated(self, a):
        return logical_not(flag(a)) if decides(a) else not a

    # Statements

    def branch(self, test, then, otherwise, live=lambda: ()):
        if not decides(test):
            return then() if test else otherwise()
        test, live, cells = flag(test), Cells(live), Cells(then, otherwise)
        one, other = (self.recorded(cells, live, run) for run in (then, otherwise))
        new = {name: x for name, x in one.left.items() if x is other.left[name]}
        a = {name: x for name, x in one.left.items() if name not in new}
        ways = joined(a, other.left, "on one path", "on the other")
        differ = [two for two in atoms(ways) if two.differ]
        if differ or one.updates or other.updates:
            xs, ys = [two.a for two in differ], [two.b for two in differ]
            results = iter(cond(test, lambda: one.replay(xs), lambda: other.replay(ys)))
        new |= changed(ways, lambda two: next(results) if two.differ else two.a)
        value = new.pop(RESULT)
        live.write(new)
        return value

    def repeat(self, test, body, live):
        while not decides(go := test()):
            if not go:
                return
            body()
        cells, live = Cells(test, body), Cells(live)
        loop = Loop(live, lambda values: self.recorded(cells, live, body, values))
        again = self.recorded(cells, Cells(), lambda: as_tensor(flag(test())), loop.inside)
        more = lambda *xs: again.replay([again.left[RESULT]], loop.symbols, xs)[0]
        loop.end(while_loop(more, loop.turn, *loop.start))

    def each(self, items, body, live, go):
        cells, live = Cells(body), Cells(live)
        if mode.trace is None or not isinstance(items, Steps | range | Tensor):
            for item in items:
                body(item)
                if go and contents(cells[go]) is False:
                    break
        elif isinstance(items, Steps):
            self.counted(items, body, cells, live, go)
        elif len(items):
            xs = items if isinstance(items, Tensor) else arange(items.start, items.stop, items.step)
            x = symbol(Spec(xs.shape[1:], xs.dtype), xs.spec.floating)
            run = lambda: body(x)
            loop = Loop(live, lambda values: self.recorded(cells, live, run, values), x)
            turn = lambda carry, x: (loop.turn(x, *carry), ())
            loop.end(scan(turn, loop.start, xs)[0])

    def counted(self, items, body, cells, live, go):
        k = symbol(Spec((), np.dtype(np.int64)))

        def run():
            if go:
                cells[go].cell_contents = True  # else there would not be this turn
            body(items.start + k * items.step)

        def more(k, *xs):
            going = refilled(loop.inside, xs).get(go)
            return logical_and(k < items.turns, going) if decides(going) else k < items.turns

        loop = Loop(live, lambda values: self.recorded(cells, live, run, values), k)
        turn = lambda k, *xs: (k + 1, *loop.turn(k, *xs))
        _, *ends = leaves(while_loop(more, turn, tensor(0), *loop.start))
        loop.end(ends)

    def recorded(self, cells, live, run, values=()):
        """Run it on the side, from these values of its variables; afterwards they are as before."""
        before = cells.read()
        self.outside.append(reachable(cells))
        try:
            with Trace() as trace:
                cells.write(dict(values))
                left = {RESULT: run(), **live.read()}
        except NameError as error:
            if error.name in cells.without_value():
                raise GraphError(
                    f"{place_of(error)}: {error.name} has no value here on one of the paths through "
                    "the graph: give it one before"
                ) from None
            raise
        finally:
            self.outside.pop()
            cells.write(before)
        return Recording(trace, left)

    # What a graph cannot do

    def own(self, x):
        """x, to be changed in place."""
        if any(id(x) in objects for objects in self.outside):
            raise GraphError(
                f"{user_line()}: {PLACE} this would change a {type(x).__name__} from outside, "
                "once, while the graph is made. Change variables or States there; ti.scan collects, "
                "and a for over list(range(n)) is unrolled"
            )
        return x

    def grown(self, x):
        """x += y changes some things in place."""
        if isinstance(x, list | set | dict | np.ndarray):
            self.own(x)

    def python(self, what):
        if self.outside:
            raise GraphError(
                f"{user_line()}: {PLACE} {what} would happen once, while the graph is made: "
                "write it outside"
            )

    def raised(self, error):
        if not self.outside:
            return error
        return GraphError(
            f"{user_line()}: {PLACE} {error!r} is raised. If a tensor decides about that, it "
            "cannot be: a graph raises nothing"
        )

    def asserted(self, test):
        if decides(test):
            raise GraphError(
                f"{user_line()}: assert of a {test.spec}: a graph raises nothing. Return what is to "
                "be checked, or assert facts about shapes"
            )
        return test


PLACE = "in a branch or a loop of the graph (what follows an early return is one)"
NOT_PLAIN = CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR
MUTATORS = set(
    "append extend insert pop remove clear sort reverse add discard update popitem setdefault "
    "appendleft extendleft popleft rotate fill".split()
)
KINDS = "stdlib", "platstdlib", "purelib", "platlib"
FOREIGN = HERE, "<frozen", *(sysconfig.get_path(kind) + os.sep for kind in KINDS)


def foreign(file) -> bool:
    """Of tinyinfer, the standard library or a package that is installed."""
    return file.startswith(FOREIGN)


def users(f) -> bool:
    """A function of the user."""
    return isinstance(f, FunctionType) and not foreign(f.__code__.co_filename)


def place_of(error):
    """The innermost line of the user's that the error went through."""
    places = [(f.f_code.co_filename, n) for f, n in traceback.walk_tb(error.__traceback__)]
    lines = [f"{Path(file).name}:{n}" for file, n in places if not foreign(file)]
    return lines[-1] if lines else user_line()


def reachable(cells) -> dict:
    """{id: object} of what the variables and globals of functions hold, and of what is in there."""
    known = [(f.__globals__, name) for f in cells.functions for name in names_in(f.__code__)]
    todo = [names[name] for names, name in known if name in names]
    todo += [contents(cell) for name, cell in cells.items() if name != HELPER]
    found = {}
    while todo:
        x = todo.pop()
        if id(x) in found or isinstance(x, type | ModuleType | FunctionType | Tensor):
            continue
        found[id(x)] = x
        if isinstance(x, list | tuple | set | dict):
            todo += x.values() if isinstance(x, dict) else x
        todo += getattr(x, "__dict__", {}).values()
    return found


def names_in(code):
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from names_in(inner)


# Conditions and ranges


def decides(x) -> bool:
    return isinstance(x, Tensor) and mode.trace is not None


def is_flag(x):
    return isinstance(x, bool) or isinstance(x, Tensor) and x.spec == ((), np.dtype(bool))


def flag(x):
    """One bool[], or bool, true where Python would have it so."""
    if not isinstance(x, Tensor):
        return bool(x)
    if x.size != 1:
        raise ShapeError(
            f"{user_line()}: a condition is one number, not a {x.spec}: ti.where chooses element by "
            "element"
        )
    x = x.reshape(())
    return x if is_flag(x) else x != 0


@dataclass
class Steps:
    """A range that a tensor limits: start + k step, for k < turns."""

    start: Tensor
    step: Tensor
    turns: Tensor

    def __iter__(self):
        raise GraphError(f"{user_line()}: only a for can go through a range that a tensor limits")


def steps(*limits):
    """range(...)"""
    if not any(map(decides, limits)):
        return range(*limits)
    start, stop, step = map(limit, (0, *limits, 1) if len(limits) == 1 else (*limits, 1)[:3])
    return Steps(start, step, -((start - stop) // step))


def limit(x):
    """Of a range: a whole number, as int64[]."""
    if isinstance(x, Tensor) and (x.dtype.kind not in "iu" or x.size != 1):
        raise DTypeError(f"{user_line()}: range counts in whole numbers, not to {x.spec}")
    return as_tensor(x).reshape(()).astype("int64")
