"""Machine code: how a kernel is compiled, kept, called, and split among threads.

A kernel is a function f(t, part, parts, y, *xs, *scratch, *numbers): t are numbers known to the
compiler, the arrays lie in memory without gaps, and this call does one part of the result. What is
summed is never split, so the result does not depend on how many threads there are.

`bound` passes arrays; `bound_several` passes addresses, so that one machine code serves any shape. Both
read NumPy's object as it lies, and count no references. Where there are gaps, they raise BufferError,
and copies without gaps are made.
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
from numba.np.arrayobj import populate_array

from .part import Compiler
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
    options = dict(no_cpython_wrapper=True, no_cfunc_wrapper=True, pipeline_class=Compiler)
    return njit(f, nogil=True, error_model="numpy", **options)


@inner
def share(n, part, parts):
    """From where to where this part of n goes."""
    return n * part // parts, n * (part + 1) // parts


@cache
def sources() -> str:
    """A hash of all that kernels are made from: Numba looks only at a kernel's own file, not at what
    that imports."""
    paths = *HERE.glob("*.py"), *HERE.parent.glob("ops/*.py")
    text = b"".join(p.read_bytes() for p in sorted(paths))
    return hashlib.sha256(text).hexdigest()


NO_NUMBERS = Static()


def bound(f, t=NO_NUMBERS, numbers=(), parts=1):
    """run(y, *xs, *scratch): f for these numbers, in so many parts. It is compiled by the first call."""
    return Bound(f, t, tuple(numbers), parts)


def bound_several(f, t, numbers, parts=1):
    """run(y, *xs): f(t, part, parts, ys, xs, numbers), of any number of arrays, in tuples; y is an
    array, or a tuple of them."""
    one = Bound(f, t, (tuple(numbers),), parts)

    def run(y, *xs):
        ys = y if type(y) is tuple else (y,)
        for x in ys + xs:
            if type(x) is not np.ndarray:  # machine code relies on it
                return run(tuple(map(np.asarray, ys)), *map(np.asarray, xs))
        try:
            one.run(ys, xs)
        except BufferError:
            run_around(run, ys, xs)

    return run


def run_around(run, ys, xs):
    """Where there are gaps, in arrays without."""
    there = tuple(map(contiguous, ys))
    run(there if len(there) > 1 else there[0], *map(contiguous, xs))
    for y, made in zip(ys, there):
        if made is not y:
            np.copyto(y, made)


def contiguous(x):
    return np.asarray(x, order="C")


class Bound:
    def __init__(self, f, t, numbers, parts):
        self.f, self.t, self.parts = f, t, parts
        self.numbers = tuple(contiguous(x) if isinstance(x, np.ndarray) else x for x in numbers)
        self.call = None

    def __call__(self, y, *xs):
        try:
            self.run(y, *xs)
        except BufferError:
            run_around(self, (y,), xs)

    def run(self, *arrays):
        if self.call is None:
            self.call = self.compiled(arrays)
        self.call(self.t, 0, self.parts, *arrays, *self.numbers)

    def compiled(self, arrays):
        """What of Numba's code is called. That does not look at types again."""
        given = tuple(map(kind_of, (*arrays, *self.numbers)))
        kinds = (self.t.type, types.intp, types.intp, *given)
        call = entry(self.f, kinds)
        if self.parts == 1:
            return call
        library, made = self.f.overloads[kinds].library, self.f.overloads[kinds].fndesc
        address = library.get_pointer_to_function(made.llvm_func_name)
        several = types.intp, self.t.type, types.intp, types.Tuple(flat_kinds(given))
        split = entry(split_among_threads, several)

        def on_several(t, first, parts, *args):
            with LAUNCHING:
                split(address, t, parts, tuple(flat(args)))

        return on_several


LAUNCHING = Lock()  # not every library of threads lets itself be called twice at a time


def into_another(run, y, xs):
    there = np.empty(y.shape, y.dtype)
    run(there, *xs)
    np.copyto(y, there)


def kind_of(x):
    if isinstance(x, np.ndarray):
        return Borrowed(numba.from_dtype(x.dtype), x.ndim, "C")
    if type(x) is tuple:
        return types.Tuple([types.intp if isinstance(each, int) else memory for each in x])
    return numba.typeof(x)


class Borrowed(types.Array):
    """An array without gaps, that somebody else keeps while a kernel runs."""


class Memory(types.Type):
    """An array, of which only is told where it is: so machine code serves arrays of any shape."""

    def __init__(self):
        super().__init__("memory")


memory = Memory()
register_model(Borrowed)(models.ArrayModel)


@register_model(Memory)
class MemoryModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, i64)


GAPS = "BufferError", "an array with gaps"
i64 = ir.IntType(64)


def member(c, x, i, kind=i64):
    """Of NumPy's object x: after what every object begins with there are the address of the numbers, how
    many dimensions, their sizes, their strides, two more words, and flags."""
    place = c.builder.gep(x, [ir.Constant(i64, object.__basicsize__ + 8 * i)])
    return c.builder.load(c.builder.bitcast(place, kind.as_pointer()))


def with_gaps(c, x):
    """Whether it has, which is an error then."""
    b = c.builder
    gaps = b.not_(b.trunc(member(c, x, 6, ir.IntType(32)), ir.IntType(1)))
    with b.if_then(gaps, likely=False):
        c.pyapi.err_set_string("PyExc_" + GAPS[0], GAPS[1])
    return gaps


@unbox(Memory)
def unbox_memory(kind, x, c):
    return NativeValue(member(c, x, 0), is_error=with_gaps(c, x))


@unbox(Borrowed)
def unbox_borrowed(kind, x, c):
    """Nobody counts who holds it."""
    b, size = c.builder, c.context.get_abi_sizeof(c.context.get_data_type(kind.dtype))
    made = c.context.make_array(kind)(c.context, b)
    sizes = member(c, x, 2, i64.as_pointer())
    shape = [b.load(b.gep(sizes, [ir.Constant(i64, i)])) for i in range(kind.ndim)]
    strides = [ir.Constant(i64, size)]
    for n in shape[:0:-1]:
        strides.insert(0, b.mul(strides[0], n))
    count = ir.Constant(i64, 1)
    for n in shape:
        count = b.mul(count, n)
    nothing = c.context.get_constant_null(types.MemInfoPointer(types.voidptr))
    numbers = b.inttoptr(member(c, x, 0), made.data.type)
    populate_array(made, numbers, shape, strides[: kind.ndim], size, nothing)
    return NativeValue(made._getvalue(), is_error=with_gaps(c, x))


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


def full_name(f):
    return f"{f.__module__.rpartition('.')[2]}.{f.__name__}"


class told:
    """While it is open; if that takes long."""

    def __init__(self, f):
        self.timer = Timer(SLOW, lambda: print(f"compiling {full_name(f)} ...", file=sys.stderr))

    def __enter__(self):
        self.timer.daemon = True
        self.timer.start()

    def __exit__(self, *error):
        self.timer.cancel()
