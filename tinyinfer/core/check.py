"""Is an argument what it has to be? ArgumentError, if not."""

from numbers import Integral, Real

from ..errors import ArgumentError


def whole(what: str, n, least=0) -> int:
    """n, a whole number from `least` on, as a Python int."""
    if not isinstance(n, Integral) or isinstance(n, bool) or n < least:
        raise ArgumentError(f"{what}: a whole number from {least} on, not {n!r}")
    return int(n)


def number(what: str, x, interval: str) -> float:
    """x, a number in the interval, "[0, 1)" for one, as a Python float."""
    low, high = map(float, interval[1:-1].split(","))
    inside = isinstance(x, Real) and not isinstance(x, bool) and low <= x <= high
    if not inside or x == low and interval[0] == "(" or x == high and interval[-1] == ")":
        raise ArgumentError(f"{what}: a number in {interval}, not {x!r}")
    return float(x)


def sizes(what: str, shape) -> tuple[int, ...]:
    """A shape, given as (2, 3), as [2, 3] or, of one dimension, as 3."""
    shape = shape if isinstance(shape, list | tuple) else [shape]
    return tuple([whole(what, n) for n in shape])
