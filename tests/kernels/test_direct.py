"""Direct convolution against its definition. Most images here have lines of 7 outputs, so that one
tile is compiled for many."""

import numpy as np
import pytest
from kernel_check import agrees, carried_out

from tinyinfer.core.spec import spec_of
from tinyinfer.kernels import direct, threads
from tinyinfer.ops.conv import Conv2d
from tinyinfer.ops.layout import In, Reorder
from tinyinfer.ops.packed import Filters, Packed

RNG = np.random.RandomState(0)
SAME = Conv2d(padding=((1, 1), (1, 1)))
# fmt: off
CASES = {  # convolution, image, filters
    "blocks":       (SAME, (2, 32, 7, 7), (32, 32, 3, 3)),
    "tails":        (SAME, (3, 20, 4, 7), (25, 20, 3, 3)),
    "padding":      (Conv2d(padding=((2, 0), (1, 3))), (1, 17, 3, 5), (32, 17, 2, 3)),
    "no padding":   (Conv2d(), (1, 18, 4, 9), (32, 18, 3, 3)),
    "stride":       (Conv2d((2, 1), ((1, 1), (1, 1))), (1, 16, 9, 7), (32, 16, 3, 3)),
    "strides":      (Conv2d((3, 2), ((1, 1), (1, 1))), (2, 16, 11, 14), (32, 16, 5, 3)),
    "dilation":     (Conv2d((1, 1), ((0, 0), (2, 2)), (2, 2)), (1, 16, 5, 7), (32, 16, 3, 3)),
    "one line":     (Conv2d(padding=((1, 1), (0, 0))), (1, 16, 1, 7), (32, 16, 3, 1)),
    "pixels":       (Conv2d(), (2, 33, 7, 5), (32, 33, 1, 1)),
    "groups":       (Conv2d(padding=((1, 1), (1, 1)), groups=2), (2, 64, 3, 7), (64, 32, 3, 3)),
    "one panel":    (SAME, (1, 16, 5, 20), (7, 16, 3, 3)),
    "few channels": (Conv2d((2, 2), ((3, 3), (3, 3))), (2, 3, 9, 13), (20, 3, 7, 7)),
    "few in place": (Conv2d(dilation=(1, 2)), (2, 5, 4, 11), (32, 5, 2, 3)),
    "no images":    (SAME, (0, 32, 7, 7), (32, 32, 3, 3)),
    "no channels":  (SAME, (1, 0, 7, 7), (32, 0, 3, 3)),
}
# fmt: on
LAYOUTS = ("NCHW", None), ("NCHW16c", None), ("NCHW16c", "NCHW")


def floats(*shape):
    return RNG.standard_normal(shape).astype("f4")


def packed(conv, x, w, layout="NCHW", source=None):
    """(op, image, packed filters) in these layouts."""
    op = conv if layout == "NCHW" else In(conv, layout, x.shape[1], source)
    if layout == "NCHW16c" and source is None:
        x = Reorder("NCHW", layout).forward(x)
    [form] = direct.forms(op, op.infer(spec_of(x), spec_of(w)), spec_of(x), spec_of(w))
    return Packed(op, form, w.shape), x, form.forward(w)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_against_the_definition(case, layout):
    conv, x, w = case
    agrees(direct.find, *packed(conv, floats(*x), floats(*w), *layout))


def test_what_lies_elsewhere_is_read():
    op, x, p = packed(SAME, floats(2, 32, 7, 14)[..., ::2], floats(32, 32, 3, 3))
    agrees(direct.find, op, x, p)


@pytest.mark.parametrize("layout", LAYOUTS[:2], ids=str)
def test_numbers_that_are_none(layout):
    """In lanes that are no channels they would reach the next layer."""
    x, w = floats(1, 20, 5, 7), floats(25, 20, 3, 3)
    x[0, 3, 2, 2], x[0, 7, 4, 6], w[5, 0, 0, 0] = np.nan, np.inf, np.inf
    agrees(direct.find, *packed(SAME, x, w, *layout))


def test_in_strips_and_in_parts(monkeypatch):
    """The same numbers, bit for bit, however many threads there are."""
    op, x, p = packed(SAME, floats(3, 32, 7, 7), floats(96, 32, 3, 3))
    xs = spec_of(x), spec_of(p)
    alone = carried_out(agrees(direct.find, op, x, p), op, x, p)
    monkeypatch.setattr(
        direct, "ROOM", 32 * 9 * 4 * 4
    )  # four lines of the image: two of the result
    monkeypatch.setattr(threads, "GRAIN", 1)
    for several in 1, 2, 3:
        monkeypatch.setattr(threads, "chosen", several)
        kernel = direct.find(op, op.infer(*xs), *xs)
        assert kernel.scratch[0].shape[0] == several
        np.testing.assert_array_equal(carried_out(kernel, op, x, p), alone)


def test_bias_and_activation():
    op, x, p = packed(SAME, floats(2, 20, 7, 7), floats(25, 20, 3, 3))
    bias = floats(25)
    y = op.infer(spec_of(x), spec_of(p))
    kernel = direct.find(op, y, spec_of(x), spec_of(p), spec_of(bias), "relu")
    got, *scratch = (np.empty(s.shape, s.dtype) for s in (y, *kernel.scratch))
    kernel.run(got, x, p, bias, *scratch)
    wanted = np.maximum(op.forward(x, p) + bias[:, None, None], 0)
    np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_what_it_does_not_do():
    def kernel(conv, x, w, form):
        op, w = Packed(conv, form, w.shape), form.forward(w)
        return direct.find(op, op.infer(spec_of(x), spec_of(w)), spec_of(x), spec_of(w))

    x, w = floats(1, 32, 7, 7), floats(32, 32, 3, 3)
    [form] = direct.forms(SAME, None, spec_of(x), spec_of(w))
    assert kernel(SAME, x, w, form)
    assert kernel(SAME, x.astype("f8"), w.astype("f8"), form) is None
    assert kernel(SAME, x, w, Filters(form.vectors, 1)) is None  # that is for less than 16 channels
    in_groups = Conv2d(groups=4)  # of 8 channels
    assert [*direct.forms(in_groups, None, spec_of(x), spec_of(w[:, :8]))] == []
