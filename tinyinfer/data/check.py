from numbers import Integral

from ..errors import ArgumentError


def whole(what, number, least=0):
    """Raises ArgumentError unless `number` is a whole number from `least` on."""
    if not isinstance(number, Integral) or number < least:
        raise ArgumentError(f"{what}: give a whole number from {least} on, not {number!r}")
