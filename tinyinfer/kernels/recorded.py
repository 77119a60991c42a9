"""What a kernel would do: it is called with Places, arrays whose numbers do not matter. What would run in
machine code is then written down instead; so the very same kernels serve who calls them one after the
other, and who writes a program of them.

Whatever else is done to a Place than to look at it in another shape is refused: such a step is one for
Python.
"""

from typing import NamedTuple

import numpy as np

from ..errors import TinyinferError


class NotNative(TinyinferError):
    """Something is done outside of machine code."""


class Place(np.ndarray):
    """`log` is where calls are written down. `moves`: in each turn of a loop it is elsewhere: by so many
    bytes times a number of that name."""

    log: list
    moves: tuple[tuple[str, int], ...] = ()

    def __array_finalize__(self, other):
        self.log = getattr(other, "log", None)
        self.moves = getattr(other, "moves", ())

    def __bool__(self):
        raise NotNative("what is done depends on numbers")

    __int__ = __float__ = __index__ = __bool__

    def __array_ufunc__(self, *args, **options):
        raise NotNative("NumPy computes something")

    def moving(self, name, stride) -> "Place":
        self.moves = (*self.moves, (name, stride))
        return self


class Call(NamedTuple):
    """f(t, part, parts, *arrays, *numbers); arrays may lie in tuples"""

    f: object
    t: object
    parts: int
    arrays: tuple
    numbers: tuple


class Check(NamedTuple):
    """What follows, or if nothing does, what was done, is right if some function of this name, of
    kernels/written.py, says so of the array; else it is a step for Python."""

    name: str
    array: Place
    numbers: tuple = ()


def place(log, shape, dtype) -> Place:
    """Somewhere; nobody writes there."""
    made = np.empty(shape, dtype).view(Place)
    made.flags.writeable = False
    made.log = log
    return made


def is_place(x) -> bool:
    """Or does it hold one?"""
    return any(map(is_place, x)) if type(x) is tuple else isinstance(x, Place)


def note(what, *places):
    """In the log of those."""
    next(p.log for p in leaves(places) if isinstance(p, Place)).append(what)


def leaves(xs):
    for x in xs:
        yield from leaves(x) if type(x) is tuple else (x,)


def without_gaps(xs):
    """The arrays; what is no Place is copied, if there are gaps: it is the same in each call."""
    return tuple(without_gaps(x) if type(x) is tuple else without_gap(x) for x in xs)


def without_gap(x):
    if x.flags.c_contiguous:
        return x
    if isinstance(x, Place):
        raise NotNative("it would be copied: there are gaps between the numbers")
    made = np.ascontiguousarray(x)
    made.flags.writeable = x.flags.writeable
    return made
