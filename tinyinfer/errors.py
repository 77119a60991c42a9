"""The errors. Each names the rule that was broken, what was met, and what to write instead."""


class TinyinferError(Exception):
    """Every error that tinyinfer raises on purpose."""

    module = None  # the nn.Module in which it was raised, as people call it


class ShapeError(TinyinferError, ValueError):
    """Sizes do not fit together."""


class DTypeError(TinyinferError, TypeError):
    """Kinds of numbers do not fit together."""


class ArgumentError(TinyinferError, ValueError):
    """An option has a value it cannot have."""


class RangeError(TinyinferError, IndexError):
    """An index or a label lies outside."""


class GraphError(TinyinferError, RuntimeError):
    """A graph or a tape cannot be what was asked."""


class GradientError(TinyinferError, AssertionError):
    """A gradient is not the derivative."""


class ReadOnlyError(TinyinferError, TypeError):
    """Recorded values do not change."""


class LoadError(TinyinferError, ValueError):
    """What was read from disk is damaged or does not fit."""


class NonFiniteError(TinyinferError, ArithmeticError):
    """A value became NaN or infinite."""
