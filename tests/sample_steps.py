"""All steps of all samples, by the name of their op."""

from functools import cache

import pytest
from samples import ENTRIES

import tinyinfer as ti
from tinyinfer.core import op as heart
from tinyinfer.core.autograd import gradients
from tinyinfer.core.op import Op
from tinyinfer.core.spec import spec_of


def leaf_classes(cls=Op):
    for sub in cls.__subclasses__():
        yield from leaf_classes(sub) if sub.__subclasses__() else [sub]


OPS = sorted({cls.name for cls in leaf_classes() if cls.__module__.startswith("tinyinfer.ops.")})
every_op = pytest.mark.parametrize("name", OPS)
every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])


@cache
def steps(dtype) -> dict:
    """Name of an op -> (op, arrays) for all that is computed when every sample is called, and for
    its gradient; of equal specs once."""
    seen = {}
    watch = lambda op, xs, y: seen.setdefault((op, *map(spec_of, xs)), xs)
    heart.watchers.append(watch)
    for entry in ENTRIES:
        for call in entry.calls:
            xs = [ti.tensor(x, requires_grad=x.dtype.kind == "f") for x in call.cast(dtype)]
            ys = call(*xs)
            ys = [y for y in ([ys] if isinstance(ys, ti.Tensor) else ys) if y.requires_grad]
            gradients(ys, [ti.ones_like(y) for y in ys], [x.node for x in xs])
    heart.watchers.remove(watch)
    by_name = {}
    for (op, *_), xs in seen.items():
        by_name.setdefault(op.name, []).append((op, xs))
    return by_name
