"""Kinds of arguments: what a function is compiled for once, and what of it may change without a word."""

from operator import is_

import numpy as np

from ..core.spec import Spec
from ..core.tensor import Tensor, tensor
from ..graph.tree import is_container

KINDS = 256  # of arguments for which a function is kept compiled


def kind_of(x):
    """Equal for arguments that one graph serves: tensors count by their specs, others by value."""
    if isinstance(x, Tensor):
        return x.node.spec, x.requires_grad
    if is_container(x):
        inside = (*x.keys(), *x.values()) if isinstance(x, dict) else x
        return type(x), *map(kind_of, inside)
    if isinstance(x, np.ndarray):
        return "array", x.dtype, x.shape
    if isinstance(x, float | np.generic):
        return type(x), np.array(x).tobytes()  # 0.0 is not -0.0, and a NaN is another
    if isinstance(x, range):
        return range, x.start, x.stop, x.step
    try:
        return type(x), hash(x), x
    except TypeError:
        return Same(x)


def too_many(kinds) -> str:
    """What varied, and what to do about it."""
    seen = [*dict.fromkeys(tuple(shapes_in(kind)) for kind in kinds)]
    if 2 * len(seen) > len(kinds):
        old, new = (", ".join(map(str, shapes)) for shapes in (seen[0], seen[-1]))
        why = f"Shapes vary, as {old} and {new}: pad them, so that there are few"
    else:
        why = "Values vary that are no tensors: pass numbers as tensors, and one kind serves all"
    return (
        f"is compiled for each kind of arguments, and has met more than {KINDS}: "
        f"from now on the oldest is forgotten. {why}"
    )


def shapes_in(kind) -> list:
    match kind:
        case Spec():
            return [kind.shape]
        case "array", _, shape:
            return [shape]
        case tuple():
            return [shape for inner in kind for shape in shapes_in(inner)]
    return []


def is_changeable(x) -> bool:
    return isinstance(x, list | dict)


def items(x) -> list:
    return [*x.keys(), *x.values()] if isinstance(x, dict) else [*x]


def same(xs: list, ys: list) -> bool:
    """The very same objects?"""
    return len(xs) == len(ys) and all(map(is_, xs, ys))


class Same:
    """This very object; while it is known, no other has its id."""

    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return isinstance(other, Same) and self.x is other.x

    def __hash__(self):
        return id(self.x)


def arrays_in(x):
    """Its tensors, and its arrays as such."""
    if isinstance(x, np.ndarray):
        return [tensor(x)]
    if not is_container(x):
        return [x] if isinstance(x, Tensor) else []
    return [t for inner in (x.values() if isinstance(x, dict) else x) for t in arrays_in(inner)]
