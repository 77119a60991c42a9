"""A kernel carries out a step: it writes the result into memory that it is given, and makes no array.

What room it needs besides, it declares: so that every byte has its place in the plan of memory. An op
without a kernel is carried out by its definition, and the result is copied.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..core.op import Op
from ..core.spec import Spec
from ..ops.wrapped import Wrapped

NO_BIAS = np.zeros(64, np.float32)  # for machine code that takes one: as much as a tile may read
NO_BIAS.flags.writeable = False


@dataclass(frozen=True)
class Cost:
    """What a kernel takes, for a guess at its time."""

    flops: float  # that it carries out: Winograd less than the definition, tiles that are not full more
    bytes: float  # that go through memory, or through the last cache
    efficiency: float = 0.9  # which part of the peak it reaches, where memory does not hold it up
    integer: bool = False  # operations on bytes, of which the peak is another

    @property
    def work(self) -> float:
        """To compare kernels where no machine was measured: most do ten operations in the time of a
        byte."""
        return (self.flops and self.flops / self.efficiency) + 10 * self.bytes  # of none: 0 / 0


@dataclass(frozen=True)
class Kernel:
    name: str  # how it does it: "im2col"
    run: Callable  # run(y, *xs, *scratch); if the op has several outputs, y is a tuple of arrays
    scratch: tuple[Spec, ...] = ()  # arrays whose contents do not matter before and after
    over: tuple[int, ...] = ()  # the inputs, by number, that y may be written over: same memory
    cost: Cost | None = None  # None: as NumPy takes
    error: float = 0.0  # relative, of float32, beyond that of sums in another order

    def bind(self, scratch) -> tuple[Callable, tuple]:
        """(run, more): `run(y, *xs, *more)` carries out the step in these scratch arrays."""
        return self.run, scratch


KERNELS = {}  # type of op -> functions that may have a kernel for it


def kernel(*ops):
    """Make `find(op, y, *xs)`, of specs, serve these types of ops, or ops in others: (In, Conv2d). It
    gives a Kernel; or None, where it cannot. All that are found are compared; of those by NumPy the last
    one counts."""

    def register(find):
        for op in ops:
            KERNELS.setdefault(op, []).insert(0, find)
        return find

    return register


ENDS = {}  # type of op -> functions that may have a kernel for it with what follows it


def ended(*ops, pool=False):
    """Make `find(op, y, x, w, bias=None, activation="")`, of specs, serve these types of ops with what
    is done to the sums while they are in registers: one number for each channel, or column of a
    product, is added; an activation. With `pool` the largest of each 2 x 2 is taken: pool=True."""

    def register(find):
        for op in ops:
            ENDS.setdefault(op, []).append((find, pool))
        return find

    return register


def ended_kernel(op, *specs, bias, activation, pool) -> Kernel | None:
    """The one of least work. It stands for its op in a graph where what is best without an end is
    chosen already: so the machine is not asked again."""
    more = {"bias": bias, "activation": activation} | ({"pool": True} if pool else {})
    finds = [
        find for kind in kinds_of(op) for find, pools in ENDS.get(kind, ()) if pools or not pool
    ]
    found = filter(None, (find(op, *specs, **more) for find in finds))
    return min(found, key=lambda k: k.cost.work, default=None)


FORMS = {}  # type of op -> functions that give forms in which its weights may lie


def forms(*ops):
    """Make `f(op, y, x, w, ...)`, of specs, say in which forms the weights w of these types of ops could
    be packed: those for which there is a kernel."""

    def register(f):
        for op in ops:
            FORMS.setdefault(op, []).append(f)
        return f

    return register


def forms_of(op, *specs) -> Iterator[Op]:
    return (form for kind in kinds_of(op) for f in FORMS.get(kind, ()) for form in f(op, *specs))


def numpy_kernel_of(op, *specs) -> Kernel:
    """The kernel by NumPy of an op that makes y from xs; `specs` are theirs."""
    return next(k for k in kernels_of(op, *specs) if k.cost is None)


def kernels_of(op, *specs) -> Iterator[Kernel]:
    """All that can carry it out, the definition last. One made for its class goes before one for
    what that is derived from."""
    found = (find(op, *specs) for kind in kinds_of(op) for find in KERNELS.get(kind, ()))
    yield from filter(None, found)
    yield definition(op, *specs)


def kinds_of(op):
    """(In, Conv2d), then In: by which its kernels are found."""
    around, inner = [], op
    while isinstance(inner, Wrapped):
        around.append(type(inner))
        inner = inner.op
    if around:
        yield from ((*around, cls) for cls in type(inner).__mro__)
    yield from type(op).__mro__


def definition(op, y, *xs) -> Kernel:
    def run(y, *xs):
        np.copyto(y, op.forward(*xs))

    def run_several(ys, *xs):
        for y, got in zip(ys, op.forward(*xs)):
            np.copyto(y, got)

    over = range(len(xs)) if op.elementwise else ()  # all is computed before any is written
    return Kernel("definition", run if isinstance(y, Spec) else run_several, over=tuple(over))
