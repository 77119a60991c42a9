"""Is an option of a layer, an optimizer or a recipe what it has to be?"""

from numbers import Real

from ..errors import ArgumentError


def number(what: str, x, interval: str) -> float:
    """x as a Python float. Raises ArgumentError if it is no number in the interval, "[0, 1)"."""
    low, high = map(float, interval[1:-1].split(","))
    inside = isinstance(x, Real) and not isinstance(x, bool) and low <= x <= high
    if not inside or x == low and interval[0] == "(" or x == high and interval[-1] == ")":
        raise ArgumentError(f"{what}: a number in {interval}, not {x!r}")
    return float(x)
