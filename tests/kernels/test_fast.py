"""Every kernel in machine code, over the whole table of ops: it makes what the definition makes."""

import numpy as np
import pytest
from kernel_check import carried_out, near
from sample_steps import OPS, every_op, steps

from tinyinfer.core.spec import spec_of
from tinyinfer.kernels.kernel import forms_of, kernels_of
from tinyinfer.ops.packed import Packed
from tinyinfer.runtime.select import load


def ways(op, xs):
    """(kernel, op, arrays): as the op stands, and with its weights in each form."""
    load()
    specs = op.infer(*map(spec_of, xs)), *map(spec_of, xs)
    for kernel in kernels_of(op, *specs):
        if kernel.cost is not None:
            yield kernel, op, xs
    if len(xs) == 2:
        for form in forms_of(op, *specs):
            packed, arrays = Packed(op, form, xs[1].shape), (xs[0], form.forward(xs[1]))
            found = [k for k in kernels_of(packed, *specs[:2], spec_of(arrays[1])) if k.cost]
            assert found, f"no kernel for {packed}"
            yield from ((k, packed, arrays) for k in found)


@every_op
def test_as_defined(name):
    for op, xs in steps("float32")[name]:
        for kernel, op_, arrays in ways(op, xs):
            before = [x.copy() for x in arrays]
            near(carried_out(kernel, op_, *arrays), op_.forward(*arrays), kernel.error + 4e-6)
            assert all(a.tobytes() == b.tobytes() for a, b in zip(before, arrays)), "inputs stay"


VIEWS = {
    "turned round": lambda x: np.ascontiguousarray(x.T).T,
    "spaced": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "backwards": lambda x: np.ascontiguousarray(x[::-1])[::-1],
}


@pytest.mark.parametrize("view", VIEWS)
@every_op
def test_of_views(name, view):
    for op, xs in steps("float32")[name]:
        turned = [VIEWS[view](x) if x.ndim else x for x in xs]
        for kernel, op_, arrays in ways(op, turned):
            near(carried_out(kernel, op_, *arrays), op_.forward(*arrays), kernel.error + 4e-6)


@pytest.mark.parametrize("name", OPS)
def test_what_is_no_number_stays_where_it_is(name):
    rng = np.random.default_rng(0)
    for op, xs in steps("float32")[name]:
        odd = [x.copy() for x in xs]
        for x in odd:
            if x.dtype.kind == "f" and x.size:
                x.reshape(-1)[rng.integers(x.size)] = rng.choice([np.nan, np.inf, -np.inf])
        with np.errstate(all="ignore"):
            for kernel, op_, arrays in ways(op, odd):
                near(carried_out(kernel, op_, *arrays), op_.forward(*arrays), kernel.error + 4e-6)
