"""What becomes of variables where a tensor decides which way a function goes.

Two ways through a branch leave two values in a variable. They become one:

    the same value                       that, whatever it is
    two numbers, that differ             two tensors; the op has a third one as its result
    a number and a tensor                so too: the number takes the spec of the tensor
    two tensors of one spec              so too
    lists, tuples or dicts of one form   so with each part
    nothing and a value                  zeros in the places of its tensors
    anything else                        an error

The two ways of a loop are no turn and a turn. What is a tensor then is a symbol when a turn is
recorded again, until nothing new becomes a tensor.

A variable is a cell that functions share. To record one way, the helper sets the cells, runs the
function in a Trace of its own, reads the cells and puts them back. In the graph of the op the same
steps are then written once more.
"""

from dataclasses import dataclass

from ..core.autograd import ancestors
from ..core.tensor import NUMBERS, Node, Tensor, as_tensor, tensor
from ..core.trace import mode, user_line
from ..errors import DTypeError, GraphError, ShapeError
from ..ops import full
from .control import like
from .graph import nodes
from .lower import VALUE
from .tree import ARRAYS, changed, leaves, refilled

RESULT = ""  # what a function returned, beside the variables
PLAIN = *NUMBERS, str, bytes, type(None)
NUMERIC = Tensor, *ARRAYS


class Nothing:
    """The value of a variable that has none."""

    def __repr__(self):
        return "nothing"


NOTHING = Nothing()


class Cells(dict):
    """The variables of functions: {name: cell}."""

    def __init__(self, *fns):
        super().__init__(x for f in fns for x in zip(f.__code__.co_freevars, f.__closure__ or ()))
        self.functions = fns

    def read(self):
        return {name: contents(cell) for name, cell in self.items()}

    def without_value(self):
        return [name for name, x in self.read().items() if x is NOTHING]

    def write(self, values):
        for name, x in values.items():
            if x is not NOTHING:
                self[name].cell_contents = x
            elif contents(self[name]) is not NOTHING:
                del self[name].cell_contents


def contents(cell):
    try:
        return cell.cell_contents
    except ValueError:
        return NOTHING


class Recording:
    """One way: {name: value} as it left the variables, and what the States became."""

    def __init__(self, trace, left):
        self.has, self.updates, self.left = trace.has, trace.updates, left

    def replay(self, outputs, symbols=(), xs=()):
        """The same steps once more, in the open trace, with xs in the places of the symbols."""
        new = dict(zip(nodes(symbols), nodes(xs)))
        ends = *nodes(outputs), *self.updates.values()
        for n in filter(self.has, ancestors(ends, self.has)):
            inputs = tuple([new.get(x, x) for x in n.inputs])
            new[n] = Node(n.op, inputs, n.spec, None, n.needs_grad, n.owner, n.origin)
        mode.trace.nodes.update((s, new.get(n, n)) for s, n in self.updates.items())
        return tuple([Tensor(new.get(n, n)) for n in nodes(outputs)])


class Loop:
    """A turn, recorded on symbols: record(values) does it, `items` are symbols of its own."""

    def __init__(self, live, record, *items):
        self.live, self.values, before = live, live.read(), None
        while before != (before := [*map(id, atoms(self.values))]):
            self.inside = like(self.values)
            self.once = record(self.inside)
            ways = joined(self.values, self.once.left, "before the loop", "after a turn")
            self.values = changed(ways, lambda two: two.a)
        self.start = (*leaves(self.values),)
        self.after = [two.b for two in atoms(ways) if isinstance(two.a, Tensor)]
        self.symbols = [*items, *leaves(self.inside)]

    def turn(self, *xs):
        return self.once.replay(self.after, self.symbols, xs)

    def end(self, results):
        self.live.write(refilled(self.values, leaves(results)))


@dataclass(eq=False)
class Two:
    """What is left on two ways: one value, or two tensors of one spec."""

    a: object
    b: object

    @property
    def differ(self):
        return isinstance(self.a, Tensor) and self.a.node is not self.b.node


def joined(a: dict, b: dict, here, there) -> dict:
    """{name: value} of two ways, as one, with Two in the places of all that is no container.

    Raises GraphError, ShapeError or DTypeError if they cannot become one.
    """
    ways = {}
    for name, x in a.items():
        y = b[name]
        x = changed(y, blank) if x is NOTHING else x
        y = changed(x, blank) if y is NOTHING else y
        form = changed(x, lambda _: None)
        pairs = [*zip(atoms(x), atoms(y))] if form == changed(y, lambda _: None) else [(x, y)]
        twos = [alike(*pair) for pair in pairs]
        if None in twos:
            raise misfit(name, *pairs[twos.index(None)], here, there)
        ways[name] = filled(x, twos)
    return ways


def alike(x, y):
    """Two, of what is no container; None, if they are of different kinds."""
    if not isinstance(x, Tensor) and x is y or same(x, y):
        return Two(x, x)
    if isinstance(x, NUMBERS) and isinstance(y, NUMBERS):
        dtype = tensor([x, y]).dtype
        return Two(tensor(x, dtype), tensor(y, dtype))
    if not (isinstance(x, NUMERIC) and isinstance(y, NUMERIC)):
        return None
    a, b = as_tensor(x, (y,)), as_tensor(y, (x,))
    a = a.broadcast_to(b.shape) if isinstance(x, NUMBERS) else a
    b = b.broadcast_to(a.shape) if isinstance(y, NUMBERS) else b
    return Two(a, b) if a.spec == b.spec else None


def same(x, y):
    """Two Python values that need not be told apart; 1 and 1.0, 0.0 and -0.0 need."""
    return type(x) is type(y) and isinstance(x, PLAIN) and repr(x) == repr(y)


def misfit(name, x, y, here, there):
    what = {VALUE: "what is returned", RESULT: "the value"}.get(name, name)
    says = f"{user_line()}: {what} is {shown(x)} {here} and {shown(y)} {there}"
    if not (isinstance(x, NUMERIC) and isinstance(y, NUMERIC)):
        return GraphError(
            f"{says}: a graph decides about numbers and tensors, in containers of one form. Give it "
            "that form on every path, or decide with a Python value"
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


def atoms(x) -> list:
    """What is in nested containers and is none."""
    found = []
    changed(x, found.append)
    return found


def filled(x, new):
    """x with the next of `new` in the place of everything in it that is no container."""
    new = iter(new)
    return changed(x, lambda _: next(new))
