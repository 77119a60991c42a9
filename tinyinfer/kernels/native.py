"""Machine code: how a kernel is compiled, kept, called, and split among threads.

A kernel is a function f(t, part, parts, y, *xs, *scratch, *numbers): t are numbers known to the
compiler, the arrays lie in memory without gaps, and this call does one part of the result. What is
summed is never split, so the result does not depend on how many threads there are.
"""

import hashlib
import sys
from functools import cache
from pathlib import Path
from threading import Lock, Timer

import numba
import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.core import cgutils
from numba.core.caching import IndexDataCacheFile
from numba.core.datamodel import models
from numba.extending import NativeValue, intrinsic, register_model, unbox

from .static import Static

HERE = Path(__file__).parent
SLOW = 1.0  # seconds of compiling, after which people are told


def native(f):
    """Compile it when it is first called for some types; and keep that on disk. No `fastmath`: NaN
    and infinity are as in NumPy."""
    made = njit(f, cache=True, nogil=True, error_model="numpy")
    kept = made._cache
    kept._cache_file = IndexDataCacheFile(
        kept.cache_path,
        kept._impl.filename_base,
        (kept._impl.locator.get_source_stamp(), sources()),
    )
    return made


def inner(f):
    """Of what only kernels call: it is compiled as a part of them."""
    options = dict(no_cpython_wrapper=True, no_cfunc_wrapper=True)
    return njit(f, nogil=True, error_model="numpy", **options)


@cache
def sources() -> str:
    """Of all kernels: for one of them Numba sees only that its own file has changed, not what it
    is made of."""
    text = b"".join(p.read_bytes() for p in sorted(HERE.glob("*.py")))
    return hashlib.sha256(text).hexdigest()


NOTHING = Static()


def bound(f, t=NOTHING, numbers=(), parts=1):
    """run(y, *xs, *scratch): f for these numbers, in so many parts. It is compiled by the first call."""
    return Bound(f, t, tuple(numbers), parts)


def bound_several(f, t, numbers, parts=1):
    """run(y, *xs): f(t, part, parts, ys, xs, numbers), of any number of arrays, in tuples; y is an
    array, or a tuple of them."""
    one, numbers = Bound(f, t, (), parts), tuple(numbers)

    def run(y, *xs):
        ys = y if type(y) is tuple else (y,)
        for x in ys + xs:
            if type(x) is not np.ndarray:  # machine code relies on it
                return run(tuple(map(np.asarray, ys)), *map(np.asarray, xs))
        if one.call is None:
            one.call = one.compiled((ys, xs, numbers))
        try:
            one.call(ys, xs, numbers)
        except BufferError:
            run_around(run, ys, xs)

    return run


def run_around(run, ys, xs):
    """Where there are gaps, in arrays without."""
    there = tuple(map(contiguous, ys))
    run(there, *map(contiguous, xs))
    for y, made in zip(ys, there):
        if made is not y:
            np.copyto(y, made)


def contiguous(x):
    return x if x.flags.c_contiguous else np.ascontiguousarray(x)


class Bound:
    def __init__(self, f, t, numbers, parts):
        self.f, self.t, self.numbers, self.parts = f, t, numbers, parts
        self.call = None

    def __call__(self, y, *xs):
        if not y.flags.c_contiguous:
            return into_another(self, y, xs)
        args = y, *[contiguous(x) for x in xs]
        if self.call is None:
            self.call = self.compiled(args)
        self.call(*args, *self.numbers)

    def compiled(self, arrays):
        """What of Numba's code is called. That does not look at types again."""
        given = *map(kind_of, arrays), *map(numba.typeof, self.numbers)
        kinds = (self.t.type, types.intp, types.intp, *given)
        call, t, parts = entry(self.f, kinds), self.t, self.parts
        if parts == 1:
            return lambda *args: call(t, 0, 1, *args)
        address = self.f.overloads[kinds].library.get_pointer_to_function(
            self.f.overloads[kinds].fndesc.llvm_func_name
        )
        split = entry(
            split_among_threads,
            (types.intp, self.t.type, types.intp, types.Tuple(flat_kinds(given))),
        )

        def on_several(*args):
            with LAUNCHING:
                split(address, t, parts, tuple(flat(args)))

        return on_several


LAUNCHING = Lock()  # not every library of threads lets itself be called twice at a time


def into_another(run, y, xs):
    there = np.empty(y.shape, y.dtype)
    run(there, *xs)
    np.copyto(y, there)


def kind_of(x):
    if isinstance(x, tuple):
        return types.Tuple([types.intp if isinstance(each, int) else memory for each in x])
    return types.Array(numba.from_dtype(x.dtype), x.ndim, "C")


class Memory(types.Type):
    """An array, of which only is told where it is: so machine code serves arrays of any shape."""

    def __init__(self):
        super().__init__("memory")


memory = Memory()


@register_model(Memory)
class MemoryModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, ir.IntType(64))


GAPS = "BufferError", "an array with gaps"


@unbox(Memory)
def unbox_memory(kind, x, c):
    """NumPy's objects are a struct: what every object begins with, the address of the numbers, five
    more words, and flags, of which the first says that there are no gaps."""
    b = c.builder
    field = lambda i, kind: b.load(b.bitcast(b.gep(x, [at(i)]), kind.as_pointer()))
    at = lambda i: ir.Constant(ir.IntType(64), object.__basicsize__ + 8 * i)
    flags = field(6, ir.IntType(32))
    gaps = b.not_(b.trunc(flags, ir.IntType(1)))
    with b.if_then(gaps, likely=False):
        c.pyapi.err_set_string("PyExc_" + GAPS[0], GAPS[1])
    return NativeValue(field(0, ir.IntType(64)), is_error=gaps)


def flat(args):
    """Without tuples, which threads are not given; to machine code it is the same."""
    return [each for x in args for each in (map(unboxed, x) if isinstance(x, tuple) else [x])]


def unboxed(x) -> int:
    if isinstance(x, int):
        return x
    if not x.flags.c_contiguous:
        raise BufferError(GAPS[1])
    return x.__array_interface__["data"][0]


def flat_kinds(kinds):
    return [each for k in kinds for each in ([types.intp] * len(k) if is_tuple(k) else [k])]


def is_tuple(kind):
    return isinstance(kind, types.BaseTuple)


COMPILING = Lock()


def entry(f, kinds):
    with COMPILING, told(f):
        f.compile(kinds)
    return f.overloads[kinds].entry_point


@intrinsic
def call_at(typing, address, t, part, parts, args):
    """The function at this address, of these arguments."""
    kinds = (t, types.intp, types.intp, *args.types)

    def codegen(context, b, sig, given):
        address, t, part, parts, args = given
        convention = context.call_conv
        pointer = b.inttoptr(address, convention.get_function_type(types.none, kinds).as_pointer())
        several = cgutils.unpack_tuple(b, args)
        convention.call_function(b, pointer, types.none, kinds, (t, part, parts, *several))
        return context.get_dummy_value()

    return types.none(types.intp, t, types.intp, types.intp, args), codegen


@njit(cache=True, parallel=True, nogil=True)
def split_among_threads(address, t, parts, args):
    for part in prange(parts):
        call_at(address, t, part, parts, args)


class told:
    """While it is open; if that takes long."""

    def __init__(self, f):
        self.timer = Timer(SLOW, lambda: print(f"compiling {f.__name__} ...", file=sys.stderr))

    def __enter__(self):
        self.timer.daemon = True
        self.timer.start()

    def __exit__(self, *error):
        self.timer.cancel()
