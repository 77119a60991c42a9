"""Reorderings of images in registers, against their definition: bit for bit."""

import numpy as np
import pytest
from kernel_check import carried_out

from tinyinfer.core.spec import spec_of
from tinyinfer.kernels import reorder
from tinyinfer.kernels.native import bound
from tinyinfer.ops.layout import Reorder, image_shape, laid_out

RNG = np.random.RandomState(0)
SIZES = (1, 16, 4, 4), (2, 3, 5, 7), (1, 1, 1, 1), (3, 33, 2, 9), (17, 20, 3, 1), (2, 48, 1, 31)
EMPTY = (0, 16, 4, 4), (2, 0, 3, 3), (2, 3, 0, 5)
LAYOUTS = "NCHW16c", "NHWC", "NCHW16n"


def numbers(shape, dtype):
    x = RNG.randint(-100, 100, shape).astype(dtype)
    if dtype == "float32" and x.size:
        x.flat[0], x.flat[-1] = np.nan, -np.inf
    return x


def check(op, x):
    kernel = reorder.find(op, op.infer(spec_of(x)), spec_of(x))
    np.testing.assert_array_equal(carried_out(kernel, op, x), op.forward(x))


@pytest.mark.parametrize("dtype", ["float32", "uint8", "int8", "int32"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_there_and_back(layout, dtype):
    for shape in SIZES + EMPTY:
        x = numbers(shape, dtype)
        there = Reorder("NCHW", layout)
        check(there, x)
        check(Reorder(layout, "NCHW", shape[layout != "NCHW16n"]), there.forward(x))


def test_what_lies_elsewhere_is_read():
    check(Reorder("NCHW", "NCHW16c"), numbers((2, 9, 8, 20), "float32")[:, ::2, ::-1])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_in_parts(layout):
    n, c, h, w = shape = 3, 20, 5, 7
    x = numbers(shape, "float32")
    for source, target, back in ("NCHW", layout, 0), (layout, "NCHW", 1):
        given = Reorder("NCHW", source).forward(x) if back else x
        wanted = Reorder(source, target, shape[layout != "NCHW16n"] if back else None).forward(
            given
        )
        for parts in 2, 3, 50:
            y = np.full_like(wanted, 7)
            t = reorder.Static(bytes=4, back=back)
            bound(reorder.reorder, t, reorder.lanes(layout, *shape), parts)(y, given)
            np.testing.assert_array_equal(y, wanted)


def test_what_it_does_not_do():
    x = numbers((1, 16, 2, 2), "float32")
    assert reorder.find(Reorder("NCHW", "NCHW8c"), None, spec_of(x)) is None
    assert reorder.find(Reorder("NCHW", "NCHW"), None, spec_of(x)) is None
    assert reorder.find(Reorder("NCHW", "NHWC"), None, spec_of(x.astype("float64"))) is None
    assert image_shape("NCHW16c", laid_out((1, 3, 2, 2), "NCHW16c"), 3) == (1, 3, 2, 2)
