"""Containers of tensors: lists, tuples and dicts, one inside the other."""

from copy import copy

import numpy as np

from ..core.spec import Spec
from ..core.tensor import NUMBERS, Tensor, as_tensor

ARRAYS = (*NUMBERS, np.ndarray, np.generic)


def is_container(x) -> bool:
    """A list, tuple or dict; not what is one and a function too, such as an nn.ModuleList."""
    return isinstance(x, list | tuple | dict) and not (isinstance(x, Spec) or callable(x))


def leaves(x):
    """The tensors in nested lists, tuples and dicts, in their order."""
    if isinstance(x, Tensor):
        yield x
    elif is_container(x):
        for inner in x.values() if isinstance(x, dict) else x:
            yield from leaves(inner)


def refilled(x, tensors):
    """The same containers, with the next of `tensors` in the place of each tensor."""
    tensors = iter(tensors)
    return changed(x, lambda leaf: next(tensors) if isinstance(leaf, Tensor) else leaf)


def tensors_of(x):
    """The same containers, with numbers and arrays made tensors."""
    return changed(x, lambda leaf: as_tensor(leaf) if isinstance(leaf, ARRAYS) else leaf)


def changed(x, fn):
    if not is_container(x):
        return fn(x)
    if isinstance(x, dict):
        new = copy(x)  # some know more than their items: a defaultdict its default
        new.update({k: changed(inner, fn) for k, inner in x.items()})
        return new
    inside = [changed(inner, fn) for inner in x]
    return type(x)(*inside) if hasattr(x, "_fields") else type(x)(inside)


def shape_of(x):
    """Equal for containers that differ in their tensors alone."""
    return changed(x, lambda leaf: None if isinstance(leaf, Tensor) else leaf)
