"""ti.script: a graph from the source of a function, with its branches and loops as ops.

graph/lower.py writes the function anew, so that every `if`, `while`, `for`, `and`, `or`, `not` and
every call goes through the helper here. The function is recorded as ti.trace does it, and where
Python decides, the helper does what Python does. Where a tensor decides, it writes down an op:

    branch   both sides are recorded on the side; what they leave different becomes the result of
             a ti.cond
    repeat   a turn is recorded on symbols for what it changes; this becomes a ti.while_loop
    each     for a range or a tensor the same, as a ti.scan; for a range that a tensor limits, as a
             ti.while_loop; for anything else Python's loop

A variable is a cell, that the functions of a branch or a body share: it is set before and read
after they are recorded. What variables become in an op are tensors; Python values stay, if they are
the same on all paths. A number becomes a tensor where it differs, and a variable that has no value
yet is zero, where another path has given it one.

Not converted: functions that are passed to functions of libraries, unless they are written inside a
converted one; properties and operators of the user's classes; iterators that are shared by turns.
"""

import os
import sysconfig
import traceback
from dataclasses import dataclass
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from pathlib import Path
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType

import numpy as np

from ..core.autograd import ancestors
from ..core.spec import Spec
from ..core.tensor import NUMBERS, Node, Tensor, as_tensor, symbol, tensor
from ..core.trace import HERE, Trace, mode, user_line
from ..errors import DTypeError, GraphError, ShapeError
from ..ops import arange, full, logical_and, logical_not, logical_or
from .control import cond, scan, while_loop
from .graph import Graph, nodes
from .lower import HELPER, VALUE, lowered
from .trace import record
from .tree import ARRAYS, changed


def script(fn, *examples, **named) -> Graph:
    """The graph of `fn`, with its control flow, for inputs like the examples.

    fn: a function written with def in a file or a notebook, a method or a Module. So are the
        functions and modules of yours that it calls, and they are converted too.
    examples: tensors, arrays or Specs, or lists, tuples and dicts of them, as for ti.trace.

    One rule: what depends on a tensor, and every `for ... in range(...)`, becomes an operation of the
    graph; what does not stays Python. So an `if` on a tensor becomes a ti.cond, a `while` on one a
    ti.while_loop, a `for` over a range or a tensor a ti.scan, also with `break`, `continue` and
    `return` inside. A `for` over a list is unrolled, and so is one over list(range(3)).

    In a branch or a loop of the graph variables and States change, nothing else: what is assigned
    to attributes or appended to lists there is refused.

    Raises GraphError, ShapeError or DTypeError, with the line, where there is no such operation.
    """
    helper = Script()
    try:
        return record(helper.start(fn), examples, named)[0]
    except RecursionError as error:
        raise GraphError(
            f"{line_of(error)}: a function calls itself and a tensor decides how often: in a graph "
            "there are no calls. Write it as a while loop"
        ) from None
    finally:
        for module in helper.installed:
            del module.forward


class Nothing:
    def __repr__(self):
        return "nothing"


NOTHING = Nothing()  # the value of a variable that has none


class Script:
    """What the converted functions of one graph call as @script."""

    def __init__(self):
        self.outside = []  # for every branch or turn that is being recorded, what was there before
        self.installed = []  # modules whose forward is converted

    # Calls

    def start(self, fn):
        """fn, converted, if it can be."""
        plain = getattr(fn, "__func__", fn)
        new = self.call(fn)
        if new is fn and isinstance(plain, FunctionType | BuiltinFunctionType | type):
            if not foreign(getattr(getattr(plain, "__code__", None), "co_filename", "")):
                raise GraphError(
                    f"script: {plain.__qualname__} has no source of a def that could be converted: "
                    "write it as a def, without yield or async, in a file, or use ti.trace"
                )
        return new

    def call(self, f):
        """What is to be called in the place of f."""
        if isinstance(f, MethodType):
            return MethodType(self.call(f.__func__), f.__self__)
        if isinstance(f, FunctionType):
            return self.converted(f)
        if f is range:
            return steps
        if isinstance(f, BuiltinFunctionType) and f.__name__ in MUTATORS:
            self.own(f.__self__)
        elif hasattr(f, "named_modules") and not isinstance(f, type):
            self.install(f)
        return f

    def converted(self, f):
        code, cells = f.__code__, dict(zip(f.__code__.co_freevars, f.__closure__ or ()))
        if foreign(code.co_filename):
            inner = vars(f).get("__wrapped__")  # a decorator's function calls it from a cell
            for name, cell in cells.items():
                if isinstance(inner, FunctionType) and contents(cell) is inner:
                    cells[name] = CellType(self.call(inner))
        elif HELPER in cells or code.co_flags & NOT_PLAIN or code.co_name == "<lambda>":
            return f
        else:
            try:
                code = lowered(code, code.co_filename)
            except OSError:
                return f
            cells[HELPER] = CellType(self)
        cells = tuple(cells[name] for name in code.co_freevars)
        new = FunctionType(code, f.__globals__, f.__name__, f.__defaults__, cells)
        new.__kwdefaults__ = f.__kwdefaults__
        return new

    def install(self, model):
        """In the modules of the user, wherever they are called from."""
        for module in model.modules():
            forward = type(module).forward
            if "forward" not in vars(module) and isinstance(forward, FunctionType):
                new = self.converted(forward)
                if new is not forward and not foreign(forward.__code__.co_filename):
                    module.forward = MethodType(new, module)
                    self.installed.append(module)

    # Expressions

    def logic(self, a, b, every, dear, asked):
        """`a and b()` if `every`, else `a or b()`; only its truth, if that is asked."""
        if not decides(a):
            return (a and b()) if every else (a or b())
        a, right = (flag(a), lambda: truth(b())) if asked else (a, b)
        if not dear:
            value = right()
            if is_flag(a) and is_flag(value):
                return (logical_and if every else logical_or)(a, value)
            right = lambda: value
        return self.branch(a, right, lambda: a) if every else self.branch(a, lambda: a, right)

    def negated(self, a):
        return logical_not(flag(a)) if decides(a) else not a

    # Statements

    def branch(self, test, then, otherwise, names=()):
        if not decides(test):
            return then() if test else otherwise()
        test, cells = flag(test), Cells(then, otherwise)
        sides = [self.recorded(cells, names, side) for side in (then, otherwise)]
        a, b = fitted(*(side.left for side in sides), "on one path", "on the other")
        pairs = [(x, y) for x, y in zip(tensors(a), tensors(b))]
        differ = [(x, y) for x, y in pairs if x.node is not y.node]
        results = iter(())
        if differ or any(side.updates for side in sides):
            xs, ys = zip(*differ) if differ else ((), ())
            results = iter(cond(test, lambda: sides[0].replay(xs), lambda: sides[1].replay(ys)))
        merged = [x if x.node is y.node else next(results) for x, y in pairs]
        new = with_tensors(a, merged)
        new = {name: a[name] if a[name] is b[name] else new[name] for name in a}
        cells.write({name: new[name] for name in names})
        return new[RESULT]

    def repeat(self, test, body, names):
        while not decides(go := test()):
            if not go:
                return
            body()
        loop = Loop(self, Cells(test, body), names, body)
        again = self.recorded(loop.cells, (), lambda: flag(test()), loop.inside)
        more = lambda *xs: again.replay([again.left[RESULT]], loop.symbols, xs)[0]
        loop.end(while_loop(more, loop.turn, *loop.start))

    def each(self, items, body, names, go):
        cells = Cells(body)
        if mode.trace is None or not isinstance(items, Steps | range | Tensor):
            for item in items:
                body(item)
                if go and cells.read([go])[go] is False:
                    break
        elif isinstance(items, Steps):
            self.counted(items, body, names, go)
        elif len(items):
            xs = items if isinstance(items, Tensor) else arange(items.start, items.stop, items.step)
            item = symbol(Spec(xs.shape[1:], xs.dtype), xs.spec.floating)
            loop = Loop(self, cells, names, lambda: body(item), item)
            turn = lambda carry, x: (loop.turn(x, *carry), ())
            loop.end(scan(turn, loop.start, xs)[0])

    def counted(self, items, body, names, go):
        k = symbol(Spec((), np.dtype(np.int64)))
        cells = Cells(body)

        def turn():
            if go:
                cells.write({go: True})  # else there would be no further turn
            body(items.start + k * items.step)

        loop = Loop(self, cells, names, turn, k)

        def more(k, *xs):
            going = with_tensors(loop.inside, xs).get(go)
            return logical_and(k < items.turns, going) if decides(going) else k < items.turns

        turn = lambda k, *xs: (k + 1, *loop.turn(k, *xs))
        loop.end(tensors(while_loop(more, turn, tensor(0), *loop.start))[1:])

    def recorded(self, cells, names, run, values=()):
        """Run it on the side, on these values of its variables; afterwards they are as before."""
        before = cells.read(cells)
        self.outside.append(reachable(cells))
        try:
            with Trace() as trace:
                cells.write(dict(values))
                left = {RESULT: run(), **cells.read(names)}
        except NameError as error:
            if error.name in cells and cells.read([error.name])[error.name] is NOTHING:
                raise GraphError(
                    f"{line_of(error)}: {error.name} has no value here on one of the paths through "
                    "the graph: give it one before"
                ) from None
            raise
        finally:
            self.outside.pop()
            cells.write(before)
        return Recording(trace, left)

    # What cannot be

    def own(self, x):
        if any(id(x) in objects for objects in self.outside):
            raise GraphError(
                f"{user_line()}: in a branch or a loop of the graph this would change a "
                f"{type(x).__name__} of outside, which happens once, while the graph is made. Change "
                "variables or States there; ti.scan collects, and a for over a list is unrolled"
            )
        return x

    def grown(self, x):
        """x += y changes some things in place."""
        if isinstance(x, list | set | dict | np.ndarray):
            self.own(x)

    def python(self, what):
        if self.outside:
            raise GraphError(
                f"{user_line()}: {what} in a branch or a loop of the graph would happen once, while "
                "the graph is made: write it outside"
            )

    def raised(self, error):
        if not self.outside:
            return error
        return GraphError(
            f"{user_line()}: {error!r} is raised in a branch or a loop of the graph. Where a tensor "
            "decides about that, it cannot be: a graph raises nothing"
        )

    def asserted(self, test):
        if decides(test):
            raise GraphError(
                f"{user_line()}: assert of {test.spec}: a graph raises nothing. Return what is to "
                "be checked, or assert facts about shapes"
            )
        return test


RESULT = ""  # what a function returned, beside the variables
NOT_PLAIN = CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR
MUTATORS = set(
    "append extend insert pop remove clear sort reverse add discard update popitem setdefault "
    "appendleft popleft extendleft rotate fill".split()
)
KEYS = "stdlib", "platstdlib", "purelib", "platlib"
FOREIGN = HERE, "<frozen", *(sysconfig.get_path(key) + os.sep for key in KEYS)


def foreign(file) -> bool:
    """Of tinyinfer, the standard library or a package that is installed."""
    return file.startswith(FOREIGN)


# Variables and what was recorded


class Cells(dict):
    """The variables that functions share: {name: cell}."""

    def __init__(self, *fns):
        super().__init__(x for f in fns for x in zip(f.__code__.co_freevars, f.__closure__ or ()))
        self.fns = fns

    def read(self, names):
        return {name: contents(self[name]) for name in names}

    def write(self, values):
        for name, x in values.items():
            if x is not NOTHING:
                self[name].cell_contents = x
            elif contents(self[name]) is not NOTHING:
                del self[name].cell_contents

    def globals(self):
        used = [(f.__globals__, name) for f in self.fns for name in names_in(f.__code__)]
        return [known[name] for known, name in used if name in known]


def contents(cell):
    try:
        return cell.cell_contents
    except ValueError:
        return NOTHING


def names_in(code):
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from names_in(inner)


def reachable(cells) -> dict:
    """{id: object} of what the variables and globals hold, and the lists and objects there."""
    found, todo = {}, [*cells.read(cells.keys() - {HELPER}).values(), *cells.globals()]
    while todo:
        x = todo.pop()
        if id(x) in found or isinstance(x, type | ModuleType | FunctionType | Tensor):
            continue
        found[id(x)] = x
        if isinstance(x, list | tuple | set | dict):
            todo += x.values() if isinstance(x, dict) else x
        todo += getattr(x, "__dict__", {}).values()
    return found


class Recording:
    """What a function did on the side: what it left, and what the States became."""

    def __init__(self, trace, left):
        self.born, self.updates, self.left = trace.born, trace.updates, left

    def replay(self, outputs, symbols=(), xs=()):
        """The same steps once more, in the open trace, with xs in the places of the symbols."""
        new = dict(zip(nodes(symbols), nodes(xs)))
        has = lambda n: n.op is not None and n.value is None and n.born > self.born
        for n in filter(has, ancestors([*nodes(outputs), *self.updates.values()], has)):
            inputs = tuple([new.get(x, x) for x in n.inputs])
            new[n] = Node(n.op, inputs, n.spec, None, n.needs_grad, n.owner, n.origin)
        mode.trace.nodes.update((s, new.get(n, n)) for s, n in self.updates.items())
        return tuple([Tensor(new.get(n, n)) for n in nodes(outputs)])


class Loop:
    """A turn, recorded on symbols until the kinds of what it carries do not change any more."""

    def __init__(self, script, cells, names, run, *items):
        values, before = cells.read(names), None
        while before is None or [*map(id, atoms(values))] != [*map(id, atoms(before))]:
            self.inside = changed(values, like)
            self.once = script.recorded(cells, names, run, self.inside)
            after = {name: self.once.left[name] for name in names}
            before, (values, self.after) = (
                values,
                fitted(values, after, "before the loop", "after a turn"),
            )
        self.cells, self.values, self.start = cells, values, tensors(values)
        self.symbols = [*items, *tensors(self.inside)]

    def turn(self, *xs):
        return self.once.replay(tensors(self.after), self.symbols, xs)

    def end(self, results):
        self.cells.write(with_tensors(self.values, tensors(results)))


# Values on two paths


def fitted(a: dict, b: dict, here, there) -> tuple[dict, dict]:
    """Variables as two paths leave them, {name: value}, with tensors where they differ.

    Raises GraphError, ShapeError or DTypeError if they differ in what a tensor cannot be.
    """
    a, b = dict(a), dict(b)
    for name in a:
        x, y = a[name], b[name]
        if x is y:
            continue
        x = changed(y, blank) if x is NOTHING else x
        y = changed(x, blank) if y is NOTHING else y
        if changed(x, lambda _: None) != changed(y, lambda _: None):
            raise misfit(name, x, y, here, there)
        pairs = []
        for u, v in zip(atoms(x), atoms(y)):
            pairs.append(pair := alike(u, v))
            if pair is None:
                raise misfit(name, u, v, here, there)
        a[name], b[name] = (with_atoms(x, [pair[i] for pair in pairs]) for i in (0, 1))
    return a, b


def alike(x, y):
    """Two leaves: as they are, if they are the same; else as tensors, if these are of one spec."""
    if x is y or type(x) is type(y) and isinstance(x, PLAIN) and repr(x) == repr(y):
        return x, y
    if isinstance(x, NUMBERS) and isinstance(y, NUMBERS):
        dtype = tensor([x, y]).dtype
        return tensor(x, dtype), tensor(y, dtype)
    if not (isinstance(x, VALUES) and isinstance(y, VALUES)):
        return None
    u, v = as_tensor(x, (y,)), as_tensor(y, (x,))
    u = u.broadcast_to(v.shape) if isinstance(x, NUMBERS) else u
    v = v.broadcast_to(u.shape) if isinstance(y, NUMBERS) else v
    return (u, v) if u.spec == v.spec else None


PLAIN = *NUMBERS, str, bytes, type(None)
VALUES = Tensor, *ARRAYS


def misfit(name, x, y, here, there):
    what = {VALUE: "what is returned", RESULT: "the value"}.get(name, name)
    says = f"{user_line()}: {what} is {shown(x)} {here} and {shown(y)} {there}"
    if not (isinstance(x, VALUES) and isinstance(y, VALUES)):
        return GraphError(
            f"{says}: what the graph decides about can be numbers and tensors, in containers of one "
            "form. Give it the same form everywhere, or decide with a Python value"
        )
    if as_tensor(x).shape != as_tensor(y).shape:
        return ShapeError(f"{says}: it keeps its shape. Use ti.zeros, .reshape or .expand before")
    return DTypeError(f"{says}: it keeps its dtype. Use .astype before")


def shown(x):
    if isinstance(x, Tensor):
        return str(x.spec)
    size = f" of {len(x)}" if isinstance(x, list | tuple | dict) else ""
    return repr(x) if isinstance(x, PLAIN) else f"a {type(x).__name__}{size}"


def blank(x):
    return full(x.shape, 0, x.dtype) if isinstance(x, Tensor) else x


def like(x):
    return symbol(x.spec, x.spec.floating) if isinstance(x, Tensor) else x


def atoms(x) -> list:
    """All that is in nested containers and is none."""
    found = []
    changed(x, found.append)
    return found


def tensors(x) -> tuple:
    return tuple([leaf for leaf in atoms(x) if isinstance(leaf, Tensor)])


def with_atoms(x, new):
    new = iter(new)
    return changed(x, lambda _: next(new))


def with_tensors(x, new):
    new = iter(new)
    return changed(x, lambda leaf: next(new) if isinstance(leaf, Tensor) else leaf)


# Conditions and ranges


def decides(x) -> bool:
    return isinstance(x, Tensor) and mode.trace is not None


def is_flag(x):
    return isinstance(x, bool) or isinstance(x, Tensor) and x.spec == ((), np.dtype(bool))


def flag(x):
    """A condition as one bool[], true where Python would have it so."""
    x = as_tensor(x)
    if x.size != 1:
        raise ShapeError(
            f"{user_line()}: a condition is one number, not a {x.spec}: ti.where chooses element by "
            "element"
        )
    x = x.reshape(())
    return x if is_flag(x) else x != 0


def truth(x):
    return flag(x) if isinstance(x, Tensor) else bool(x)


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
    start, stop, step = map(whole, (0, *limits, 1) if len(limits) == 1 else (*limits, 1)[:3])
    return Steps(start, step, -((start - stop) // step))


def whole(x):
    if isinstance(x, Tensor) and (x.dtype.kind not in "iu" or x.size != 1):
        raise DTypeError(f"{user_line()}: range counts in whole numbers, not to {x.spec}")
    return as_tensor(x).reshape(()).astype("int64")


def line_of(error):
    """The innermost line of the user's that the error went through."""
    places = [(f.f_code.co_filename, n) for f, n in traceback.walk_tb(error.__traceback__)]
    return [f"{Path(file).name}:{n}" for file, n in places if not foreign(file)][-1]
