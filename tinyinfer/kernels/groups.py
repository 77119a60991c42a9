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

Elementwise steps before a reduction, or after a softmax, are a program (program.py), carried out on
what has been read, or is about to be written.
"""

from itertools import groupby
from math import prod

from . import threads
from .kernel import Cost, Kernel
from .math import of
from .native import bound_several, share
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
    first, last = share.py_func(sizes[0] * blocks, part, parts)
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
        self.write(y, lambda *each: self.program(xs, *each, make(*each)))

    def read(self, xs, beyond=0.0):
        """make(v, at, lanes): what the program gives; where there are no lanes, another number."""

        def make(v, at, lanes):
            x = self.program(xs, v, at, lanes)
            return x if lanes is None else select(first_lanes(lanes), x, of(beyond))

        return make

    def program(self, xs, v, at, lanes, *made) -> Value:
        """Of what is made, and operands."""
        operands = [self.operand(xs[i], lies, v, at, lanes) for i, lies in self.t.operands]
        return emit(self.t.steps, [*made, *operands])[self.t.result]

    def operand(self, x, lies, v, at, lanes) -> Value:
        if lies == "everywhere":
            return get(x + at, lanes)
        if lies == "within":
            return get(x + (at - self.begin * 4), lanes)
        if lies == "one":
            return broadcast(x)
        x = x + self.number * 4
        return broadcast(x) if self.t.along else get(x + BYTES * v, lanes)

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


def grouped(op, y, x) -> Kernel | None:
    """Of an op alone."""
    operands = () if op.anchor else ((0, x),)
    return of_groups(op, y, (x,), x, 0, Program(operands, (), (0,)))


def fused(graph, y, *xs) -> Kernel | None:
    """Of a graph: an op on groups with elementwise steps, after it, or, if it reduces them, before."""
    found = [n for n in graph.steps if type(n.op) in CODE]
    if len(found) != 1:
        return None
    (n,) = found
    x = n.inputs[0]
    if not n.op.anchor:
        p = program(graph, end=n) if graph.outputs == (n,) else None
        return p and of_groups(n.op, y, xs, x.spec, None, p)
    p = program(graph, anchor=n) if x in graph.inputs and n.spec == y else None
    at = graph.inputs.index(x) if p else 0
    return p and of_groups(n.op, y, xs, x.spec, at, p._replace(operands=p.operands[1:]))


def of_groups(op, y, xs, x, at, p) -> Kernel | None:
    """Of an op, on groups of x, which is input number `at`, and the program before or after it."""
    sizes = sizes_of(x.shape, op.axes)
    if sizes is None or x.dtype != KINDS[0] or y.dtype != KINDS[0]:
        return None
    operands = tuple([(i, lies(spec, x.shape, op.axes, sizes)) for i, spec in p.operands])
    if any(how is None for _, how in operands):
        return None
    f, known = CODE[type(op)](op)
    t = static(sizes, x=at, steps=p.steps, operands=operands, result=p.results[0], **known)
    n, used = prod(x.shape), {at, *dict(operands)} - {None}
    run = bound_several(f, t, sizes, threads.parts((40 + 2 * p.cost) * n, units(t, sizes)))
    over = (at,) if x == y and op.anchor and at not in dict(operands) else ()
    size = 4 * (prod(y.shape) + sum(prod(xs[i].shape) for i in used))
    return Kernel("groups", run, over=over, cost=Cost(0, size))  # memory holds it up


def lies(spec, shape, axes, sizes) -> str | None:
    """How an operand lies, beside groups of that shape along these axes."""
    own = (1,) * (len(shape) - len(spec.shape)) + spec.shape
    moves = {i for i, n in enumerate(own) if n != 1}
    all_axes = {i for i, n in enumerate(shape) if n != 1}
    _, r0, _, r1 = sizes
    if spec.dtype != KINDS[0] or any(own[i] != shape[i] for i in moves):
        return None
    if moves == all_axes:
        return "everywhere"
    if not moves:
        return "one"
    if moves == all_axes - {*axes}:
        return "a group"
    return "within" if moves == all_axes & {*axes} and r0 == 1 != r1 else None
