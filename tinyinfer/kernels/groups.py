"""Groups: the numbers of an array that become one, or that belong together, as in a mean or a softmax.

    x[k0, r0, k1, r1]                                   # k: which group, r: where in it

    for k0, k1                                          # split among threads
        for r0
            for c in range(0, r1, 16 VECTORS)           # lanes along the group
                x[k0, r0, k1, c ...]

    for k0, k1 in steps of 16 vectors, if r1 is 1       # lanes across groups, which lie side by side
        for r0
            x[k0, r0, k1 ...]

What is added up, or compared, is so in several vectors side by side: those of one group are combined
when it ends. Sums are in double precision, in an order that depends on the shape alone.

Elementwise steps that follow are a program (program.py), carried out when the result is written.
"""

from itertools import groupby
from math import prod

from . import threads
from .chain import share
from .kernel import Cost, Kernel
from .math import of
from .native import bound_several
from .program import KINDS, Program, emit, program
from .simd import (
    BYTES,
    LANES,
    Value,
    broadcast,
    builder,
    constant,
    f64,
    f64x16,
    first_lanes,
    load,
    load_some,
    loop,
    number,
    registers,
    select,
    shuffled,
    splat,
    store,
    store_some,
)
from .static import Static

VECTORS = 4


def sizes_of(shape, axes) -> tuple[int, int, int, int] | None:
    """(k0, r0, k1, r1), where the axes are r; None, if they lie otherwise."""
    marked = [(i in axes, n) for i, n in enumerate(shape) if n != 1]
    blocks = [(r, prod(n for _, n in b)) for r, b in groupby(marked, lambda axis: axis[0])]
    found = {}
    for place in 3, 2, 1, 0:
        if blocks and blocks[-1][0] == place % 2:
            found[place] = blocks.pop()[1]
    return None if blocks else tuple([found.get(place, 1) for place in range(4)])


def static(sizes, **more) -> Static:
    """What the compiler has to know of them."""
    k1, along = sizes[2], sizes[3] != 1
    vectors = VECTORS if along else max(1, min(VECTORS, -(-k1 // LANES)))
    full = not along and k1 % (vectors * LANES) == 0
    return Static(along=int(along), vectors=vectors, full=int(full), **more)


def units(t, sizes) -> int:
    """Into how many pieces the work can be split."""
    return sizes[0] * -(-sizes[2] // width(t))


def width(t):
    return 1 if t.along else t.vectors * LANES


def groups(t, part, parts, sizes):
    """This part of them, one after the other, or so many side by side."""
    blocks = (sizes[2] + (width(t) - 1)) // width(t)
    first, last = share(part, parts, sizes[0] * blocks, 1)
    for unit in loop(last, first):
        yield Groups(t, unit // blocks, unit % blocks * width(t), sizes)


class Groups:
    """One group; or several side by side, from number k1 on."""

    def __init__(self, t, k0, k1, sizes):
        self.t, (_, self.r0, self.k1, self.r1) = t, sizes
        self.number = k0 * self.k1 + k1
        self.begin = (k0 * self.r0 * self.k1 + k1) * self.r1
        self.left = self.k1 - k1

    @property
    def count(self) -> Value:
        """The numbers in a group, in double precision."""
        return splat(Value(builder().sitofp((self.r0 * self.r1).ir, f64)))

    def walk(self):
        """Lists of (v, at, lanes), of vectors side by side: its number; where it is, in bytes; and how
        many lanes there are, None being all. Those at the end of r1 come alone."""
        for r in loop(self.r0):
            begin = self.begin + r * self.k1 * self.r1
            yield from self.along(begin) if self.t.along else self.across(begin)

    def along(self, begin):
        at_once = self.t.vectors * LANES
        whole = self.r1 // at_once * at_once
        for c in loop(whole, 0, at_once):
            yield [(v, (begin + c) * 4 + BYTES * v, None) for v in range(self.t.vectors)]
        for c in loop(self.r1, whole, LANES):
            yield [(0, (begin + c) * 4, self.r1 - c)]

    def across(self, begin):
        yield [(v, begin * 4 + BYTES * v, self.lanes(v)) for v in range(self.t.vectors)]

    def lanes(self, v):
        return None if self.t.full else self.left - LANES * v

    def fold(self, combine, start, make) -> list[Value]:
        """combine(combine(start, x), x) ... of each group, for each v: if that is one group, the same
        in all lanes. `make(v, at, lanes)` gives vectors x."""
        found = registers([start] * self.t.vectors)
        for vectors in self.walk():
            for (v, *_), x in [(each, make(*each)) for each in vectors]:
                found[v] = combine(found[v], x)
        found = [*found]
        if not self.t.along:
            return found
        while len(found) > 1:
            found = [combine(a, b) for a, b in zip(found[::2], found[1::2])]
        return [in_all_lanes(combine, found[0])] * self.t.vectors

    def total(self, make) -> list[Value]:
        """The sums of what is in double precision, and zero where there are no lanes."""
        return self.fold(Value.__add__, constant(f64x16, 0), make)

    def write(self, y, make):
        """y = make(v, at, lanes), everywhere."""
        for vectors in self.walk():
            for (_, at, lanes), x in [(each, make(*each)) for each in vectors]:
                put(y + at, x, lanes)

    def write_ended(self, y, xs, make):
        """The same, after the program."""

        def ended(v, at, lanes):
            others = [self.operand(xs[i], lies, v, at, lanes) for i, lies in self.t.operands]
            return emit(self.t.steps, [make(v, at, lanes), *others])[self.t.result]

        self.write(y, ended)

    def operand(self, x, lies, v, at, lanes) -> Value:
        if lies == "everywhere":
            return get(x + at, lanes)
        if lies == "within":
            return get(x + (at - self.begin * 4), lanes)
        return broadcast(x + self.number * 4) if lies == "a group" else broadcast(x)

    def write_one(self, y, found):
        """One number of each group."""
        y = y + self.number * 4
        if self.t.along:
            return put(y, found[0], number(1))
        for v, x in enumerate(found):
            put(y + BYTES * v, x, self.lanes(v))


def get(address, lanes, beyond=0.0) -> Value:
    """A vector; where there are no lanes, another number."""
    if lanes is None:
        return load(address)
    x = load_some(address, lanes)
    return x if beyond == 0.0 else select(first_lanes(lanes), x, of(beyond))


def put(address, x, lanes) -> Value:
    if lanes is None:
        store(address, x)
    else:
        store_some(address, x, lanes)
    return x


def in_all_lanes(combine, x) -> Value:
    """Each lane meets the one that is 8, 4, 2, 1 away."""
    for n in 8, 4, 2, 1:
        x = combine(x, shuffled(x, x, [i ^ n for i in range(LANES)]))
    return x


# ---- which ----------------------------------------------------------------------------------------

CODE = {}  # type of op: of the op, (machine code, what else the compiler has to know)
NOTHING = Program((), (), (0,))


def grouped(op, y, *xs, at=0, then=NOTHING) -> Kernel | None:
    """Of an op on groups of xs[at], and the program `then`, of its result and others of the xs."""
    x = xs[at]
    sizes = sizes_of(x.shape, op.axes)
    if sizes is None or x.dtype != KINDS[0] or y.dtype != KINDS[0]:
        return None
    operands = tuple([(i, lies(spec, x.shape, op.axes, sizes)) for i, spec in then.operands])
    if any(how is None for _, how in operands):
        return None
    f, known = CODE[type(op)](op)
    after = {"steps": then.steps, "operands": operands, "result": then.results[0]}
    t = static(sizes, x=at, **after, **known)
    n = prod(x.shape)
    run = bound_several(f, t, sizes, threads.parts(40 * n, units(t, sizes)))
    over = (at,) if x == y and at not in dict(operands) else ()
    size = 4 * (n + prod(y.shape) + sum(prod(xs[i].shape) for i, _ in operands))
    return Kernel("groups", run, over=over, cost=Cost(0, size))  # memory holds it up


def lies(spec, shape, axes, sizes) -> str | None:
    """How an operand lies, beside groups of that shape along these axes."""
    own = (1,) * (len(shape) - len(spec.shape)) + spec.shape
    moves = {i for i, n in enumerate(own) if n != 1}
    in_group = {i for i in axes if shape[i] != 1}
    k0, r0, k1, r1 = sizes
    if spec.dtype != KINDS[0]:
        return None
    if own == shape:
        return "everywhere"
    if not moves:
        return "one"
    if r1 == 1 or r0 != 1:
        return None
    others = {i for i, n in enumerate(shape) if n != 1} - in_group
    return "within" if moves == in_group else "a group" if moves == others else None


def fused(graph, y, *xs) -> Kernel | None:
    """Of a graph: an op on groups of an input, and elementwise steps."""
    found = [n for n in graph.steps if n.op.anchor and type(n.op) in CODE and n.spec == y]
    if len(found) != 1 or found[0].inputs[0] not in graph.inputs:
        return None
    (n,) = found
    then, at = program(graph, anchor=n), graph.inputs.index(n.inputs[0])
    return then and grouped(n.op, y, *xs, at=at, then=then._replace(operands=then.operands[1:]))
