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
from glob import escape
from pathlib import Path
from threading import RLock, Timer

import numpy as np
from llvmlite import binding
from numba import njit, types
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile
from numba.core.runtime import _nrt_python as _nrt

from .borrowed import kind_of
from .crew import EACH_PART, each_part, helpers
from .launch import launch
from .part import Compiler
from .recorded import Call, Place, is_place, note, without_gaps
from .static import NOTHING

HERE = Path(__file__).parent
SLOW = 1.0  # seconds of compiling, after which people are told


def native(f):
    """Compile it when it is first called for some types; and keep that on disk. No `fastmath`: NaN
    and infinity are as in NumPy. It is called from Python, or at its address: `inner` is for what
    kernels call."""
    made = njit(f, nogil=True, error_model="numpy", no_cfunc_wrapper=True)
    made._cache = Kept(f)
    return made


class Alone(CompileResultCacheImpl):
    """Of what is compiled its machine code is kept, and not what others could be compiled with too."""

    def reduce(self, made):
        (name, kind, (code, _)), *rest = super().reduce(made)
        return (name, kind, (code, binding.parse_assembly("").as_bitcode())), *rest

    def rebuild(self, context, data):
        names = data[1].llvm_func_name, data[1].llvm_cpython_wrapper_name
        context.codegen()._engine._defined_symbols.update(names)
        made = super().rebuild(context, data)
        made.library._shared_module = None  # it is an error to ask for it
        return made


class Kept(FunctionCache):
    _impl_class = Alone

    def __init__(self, f):
        super().__init__(f)
        stamp = self._impl.locator.get_source_stamp(), sources()
        self._cache_file = OnDisk(self.cache_path, self._impl.filename_base, stamp)

    def load_overload(self, sig, context):
        """Numba would first prepare to compile: that takes longer than to load all of a network."""
        know_runtime()
        found = self._load_overload(sig, context)
        if not found:
            told.begin()
        return found


@cache
def know_runtime():
    """LLVM is told where what machine code may call is."""
    for name, address in _nrt.c_helpers.items():
        binding.add_symbol(name if name.startswith("_") else f"NRT_{name}", address)


class OnDisk(IndexDataCacheFile):
    """What cannot be read is compiled again: a damaged file, or types of another version.

    A file's name tells what is in it. (Numba numbers them: of two processes that compile at once, both
    take the next number, and then one of them runs the other's code.)"""

    def load(self, key):
        return attempt(self._load_data, self.file(key))

    def save(self, key, data):
        if not attempt(self._load_index):  # what is there was made from other sources
            for old in Path(self._cache_path).glob(f"{escape(self.base)}.*.nbc"):
                old.unlink(missing_ok=True)
            self._save_index({"of": "these"})
        self._save_data(self.file(key), data)

    @property
    def base(self):
        return self._index_name.removesuffix(".nbi")

    def file(self, key) -> str:
        what = repr((key, self._source_stamp, self._version)).encode()
        made_of = hashlib.sha256(what).hexdigest()[:24]
        return f"{self.base}.{made_of}.nbc"


def attempt(f, *args):
    try:
        return f(*args)
    except Exception:  # all that comes of reading any bytes as objects
        return None


def inner(f):
    """Of what only kernels call: it is compiled as a part of them."""
    options = dict(no_cpython_wrapper=True, no_cfunc_wrapper=True, pipeline_class=Compiler)
    return njit(f, nogil=True, error_model="numpy", **options)


@inner
def share(n, part, parts, split=True):
    """From where to where this part of n goes; or all of it, where something else is split."""
    if split:
        return n * part // parts, n * (part + 1) // parts
    return 0, n


@cache
def sources() -> str:
    """A hash of all that kernels are made from: Numba looks only at a kernel's own file, not at what
    that imports."""
    paths = *HERE.glob("*.py"), *HERE.parent.glob("ops/*.py")
    text = b"".join(p.read_bytes() for p in sorted(paths))
    return hashlib.sha256(text).hexdigest()


for f in each_part, launch:
    f._cache = Kept(f.py_func)


def bound(f, t=NOTHING, numbers=(), parts=1):
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
                if is_place(ys):
                    return one.note(ys, xs)
                return run_around(one.run, ys, xs)
        try:
            one.run(ys, xs)
        except BufferError:
            run_around(one.run, ys, xs)

    return run


def run_around(run, ys, xs):
    """Where there are gaps, or something else than arrays, in arrays without."""
    there = tuple(map(contiguous, ys))
    run(there, tuple(map(contiguous, xs)))
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
        if type(y) is Place:
            return self.note(y, *xs)
        try:
            self.run(y, *xs)
        except BufferError:
            run_around(lambda ys, xs: self.run(*ys, *xs), (y,), xs)

    def note(self, *arrays):
        """Write down that it would be called with these."""
        note(Call(self.f, self.t, self.parts, without_gaps(arrays), self.numbers), *arrays)

    def run(self, *arrays):
        if self.call is None:
            self.call = self.compiled(arrays)
        self.call(self.t, 0, self.parts, *arrays, *self.numbers)

    def compiled(self, arrays):
        """What of Numba's code is called. That does not look at types again."""
        kinds = kinds_of(self.t, *arrays, *self.numbers)
        call = entry(self.f, kinds)
        if self.parts == 1:
            return call
        start = entry(
            launch, (types.intp, types.intp, self.t.type, types.intp, types.Tuple(kinds[3:]))
        )
        kernel, loop = address_of(self.f, kinds), address_of(each_part, EACH_PART)

        def on_several(t, first, parts, *args):
            helpers.wake(parts - 1)
            start(kernel, loop, t, parts, args)

        return on_several


def kinds_of(t, *args) -> tuple:
    """Of f(t, part, parts, *args), for Numba."""
    return (t.type, types.intp, types.intp, *map(kind_of, args))


def into_another(run, y, xs):
    there = np.empty(y.shape, y.dtype)
    run(there, *xs)
    np.copyto(y, there)


@cache
def address_of(f, kinds) -> int:
    entry(f, kinds)
    made = f.overloads[kinds]
    return made.library.get_pointer_to_function(made.fndesc.llvm_func_name)


COMPILING = RLock()  # what is compiled may ask for a kernel


def entry(f, kinds):
    if kinds not in f.overloads:
        with COMPILING, told(f):
            f.compile(kinds)
    return f.overloads[kinds].entry_point


def full_name(f):
    return f"{f.__module__.rpartition('.')[2]}.{f.__name__}"


class told:
    """While it is open, if that takes long, from when something has to be compiled."""

    timers = []

    def __init__(self, f):
        self.timer = Timer(SLOW, lambda: print(f"compiling {full_name(f)} ...", file=sys.stderr))
        self.timer.daemon = True

    def __enter__(self):
        self.timers.append(self.timer)

    def __exit__(self, *error):
        self.timers.pop().cancel()

    @classmethod
    def begin(cls):
        for timer in cls.timers[-1:]:
            if not timer.ident:
                timer.start()
