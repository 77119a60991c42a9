"""Is an argument what it has to be?"""

from numbers import Integral

from ..errors import ArgumentError


def whole(what: str, n, least=0) -> int:
    """n as a Python int. Raises ArgumentError if it is not a whole number from `least` on."""
    if not isinstance(n, Integral) or isinstance(n, bool) or n < least:
        raise ArgumentError(f"{what}: a whole number from {least} on, not {n!r}")
    return int(n)


def sizes(what: str, shape) -> tuple[int, ...]:
    """A shape, given as (2, 3), as [2, 3] or, of one dimension, as 3."""
    shape = shape if isinstance(shape, list | tuple) else [shape]
    return tuple([whole(what, n) for n in shape])
