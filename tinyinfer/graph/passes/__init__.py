"""Passes: one a file, each a pure function Graph -> Graph. `optimize` runs them one after the other."""

from ...errors import ArgumentError
from .cse import cse
from .fold import fold
from .fuse import fuse
from .rewrite import PASSES
from .split import split
from .strip import strip

STANDARD = strip, fold, cse, fuse


def optimize(graph, passes=None):
    """The graph after the standard pipeline, or after these passes: names, or functions of a graph.

    What each did is in `.history` of the result. Passes keep values, not gradients: differentiate
    first. Raises ArgumentError for a name that no pass has.
    """
    for run in STANDARD if passes is None else passes:
        graph = named(run)(graph)
    return graph


def named(run):
    if callable(run):
        return run
    if run not in PASSES:
        raise ArgumentError(f"no pass is called {run!r}: there are {', '.join(sorted(PASSES))}")
    return PASSES[run]
