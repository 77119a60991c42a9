"""Passes: one a file, each a pure function Graph -> Graph. `optimize` runs them one after the other."""

from collections.abc import Iterable

from ...errors import ArgumentError
from ..graph import expect_graph
from ..trace import no_collecting
from .batch_norm import batch_norm
from .cse import cse
from .dead import dead
from .fold import fold
from .freeze import freeze
from .fuse import fuse
from .in_place import in_place
from .layout import layout
from .move import move
from .rewrite import PASSES
from .simplify import simplify
from .split import split
from .strength import strength
from .strip import strip
from .together import together
from .turn import turn
from .unroll import unroll

STANDARD = strip, dead, fold, simplify, batch_norm, move, strength, fold, cse, fuse


def optimize(graph, passes=None):
    """The graph after the standard pipeline, or after these passes: names, or functions of a graph.

    What each did is in `.history` of the result. Passes keep values, not gradients: differentiate
    first. Raises ArgumentError for a name that no pass has, and for what is no graph.
    """
    expect_graph("optimize", graph)
    if isinstance(passes, str) or not isinstance(passes, Iterable | None):
        raise ArgumentError(f"optimize: passes are a list, such as ['fold', 'cse'], not {passes!r}")
    with no_collecting():
        for run in STANDARD if passes is None else passes:
            graph = expect_graph(f"optimize: after {run!r}", named(run)(graph))
    return graph


def named(run):
    if callable(run):
        return run
    if not isinstance(run, str) or run not in PASSES:
        raise ArgumentError(f"no pass is called {run!r}: there are {', '.join(sorted(PASSES))}")
    return PASSES[run]
