"""Products and convolutions of bytes, against their definition: bit for bit."""

from functools import partial

import numpy as np
import pytest
from kernel_check import agrees, carried_out

from tinyinfer.core.spec import spec_of
from tinyinfer.kernels import direct, int8, threads
from tinyinfer.ops.conv import Conv2d
from tinyinfer.ops.integer import QLinearConv, QLinearMatMul
from tinyinfer.ops.layout import In, Reorder
from tinyinfer.ops.packed import Packed

RNG = np.random.RandomState(0)
SAME = Conv2d(padding=((1, 1), (1, 1)))
# fmt: off
CONVOLUTIONS = {  # convolution, image, filters
    "tails":        (SAME, (2, 20, 4, 7), (25, 20, 3, 3)),
    "blocks":       (SAME, (1, 32, 3, 7), (32, 32, 3, 3)),
    "padding":      (Conv2d(padding=((2, 0), (1, 3))), (1, 17, 3, 5), (32, 17, 2, 3)),
    "no padding":   (Conv2d(), (1, 18, 4, 9), (32, 18, 3, 3)),
    "strides":      (Conv2d((3, 2), ((1, 1), (1, 1))), (2, 16, 11, 14), (32, 16, 5, 3)),
    "dilation":     (Conv2d((2, 1), ((0, 0), (2, 2)), (1, 2)), (1, 16, 5, 7), (32, 16, 3, 3)),
    "pixels":       (Conv2d(), (2, 33, 7, 5), (32, 33, 1, 1)),
    "groups":       (Conv2d(padding=((1, 1), (1, 1)), groups=2), (2, 64, 3, 7), (64, 32, 3, 3)),
    "few channels": (Conv2d((2, 2), ((3, 3), (3, 3))), (2, 3, 9, 13), (20, 3, 7, 7)),
    "some more":    (Conv2d(padding=((1, 1), (1, 1))), (1, 6, 4, 7), (32, 6, 3, 3)),
    "no images":    (SAME, (0, 20, 7, 7), (25, 20, 3, 3)),
    "no channels":  (SAME, (1, 0, 7, 7), (32, 0, 3, 3)),
}
PRODUCTS = (20, 40, 33), (70, 5, 64), (14, 128, 32), (33, 0, 20), (0, 40, 33), (20, 40, 0)
# fmt: on
KINDS = ("uint8", "uint8"), ("int8", "int8"), ("uint8", "int8")


def numbers(dtype, *shape):
    ends = np.iinfo(dtype)
    return RNG.randint(ends.min, ends.max + 1, shape).astype(dtype)


def steps(w, o, per_channel=True):
    """A scale that lets results fill the bytes, and a bias."""
    size = 90 * max(1, w.size / max(1, o)) ** 0.5
    scale = RNG.uniform(0.5, 1, o if per_channel else ()) / size
    return np.asarray(scale, "f4"), RNG.randint(-999, 999, o).astype("i4")


def zeros(*kinds):
    return [int(numbers(kind)) for kind in kinds]


def packed(op, x, w, *rest):
    specs = [spec_of(a) for a in (x, w, *rest)]
    [form] = int8.forms(op, op.infer(*specs), *specs)
    return Packed(op, form, w.shape), x, form.forward(w), *rest


def convolution(case, kinds, layout, source, per_channel=True):
    conv, shape, filters = case
    x, w = numbers(kinds[0], *shape), numbers("int8", *filters)
    op = QLinearConv(conv, *zeros(*kinds), kinds[1])
    if layout == "NCHW16c":
        op = In(op, layout, shape[1], source)
        x = x if source else Reorder("NCHW", layout).forward(x)
    return packed(op, x, w, *steps(w, len(w), per_channel))


def product(m, k, n, kinds=KINDS[0], per_channel=True):
    w = numbers("int8", k, n)
    op = QLinearMatMul(*zeros(*kinds), kinds[1])
    return packed(op, numbers(kinds[0], m, k), w, *steps(w, n, per_channel))


@pytest.mark.parametrize("case", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolution(case):
    agrees(int8.find_convolution, *convolution(case, KINDS[0], "NCHW", None))


@pytest.mark.parametrize("source", [None, "NCHW"])
@pytest.mark.parametrize("case", ["tails", "padding", "no padding", "few channels", "no channels"])
def test_convolution_in_blocks(case, source):
    case = CONVOLUTIONS[case]
    agrees(int8.find_convolution, *convolution(case, KINDS[0], "NCHW16c", source))


@pytest.mark.parametrize("kinds", KINDS[1:], ids=str)
def test_convolution_of_signed_bytes(kinds):
    for case in CONVOLUTIONS["tails"], CONVOLUTIONS["padding"], CONVOLUTIONS["pixels"]:
        agrees(int8.find_convolution, *convolution(case, kinds, "NCHW", None))
    agrees(int8.find_convolution, *convolution(CONVOLUTIONS["tails"], kinds, "NCHW16c", None))


@pytest.mark.parametrize("size", PRODUCTS, ids=str)
def test_product(size):
    agrees(int8.find_product, *product(*size))


@pytest.mark.parametrize("kinds", KINDS, ids=str)
def test_product_of_signed_bytes(kinds):
    agrees(int8.find_product, *product(20, 40, 33, kinds, per_channel=False))


def test_product_of_stacks_and_of_one_row():
    op, x, *rest = product(12, 40, 33)
    agrees(int8.find_product, op, x.reshape(2, 6, 40), *rest)
    agrees(int8.find_product, op, x[0], *rest)
    agrees(int8.find_product, op, np.repeat(x, 2, 1)[:, ::2], *rest)


def test_the_largest_sums_are_exact():
    """Where an instruction for 16 bits would saturate."""
    x, w = np.full((14, 64), 255, "u1"), np.full((64, 32), -128, "i1")
    scale, bias = np.float32([2**-14] * 32), np.arange(32, dtype="i4")
    agrees(int8.find_product, *packed(QLinearMatMul(0, 200), x, w, scale, bias))


@pytest.mark.parametrize(
    "find, call",
    [
        (int8.find_convolution, partial(convolution, (SAME, (3, 20, 7, 7), (70, 20, 3, 3)))),
        (int8.find_product, lambda kinds, *rest: product(70, 40, 130, kinds)),
    ],
    ids=["convolution", "product"],
)
def test_in_strips_and_in_parts(find, call, monkeypatch):
    op, *xs = call(KINDS[1], "NCHW", None)
    specs = [spec_of(x) for x in xs]
    alone = carried_out(agrees(find, op, *xs), op, *xs)
    monkeypatch.setattr(direct, "ROOM", 2000)
    monkeypatch.setattr(threads, "GRAIN", 1)
    for several in 1, 2, 3:
        monkeypatch.setattr(threads, "chosen", several)
        kernel = find(op, op.infer(*specs), *specs)
        assert kernel.scratch[0].shape[0] == several
        np.testing.assert_array_equal(carried_out(kernel, op, *xs), alone)


def test_what_it_does_not_do():
    def refused(find, op, *xs):
        return find(op, op.infer(*map(spec_of, xs)), *map(spec_of, xs)) is None

    op, x, p, scale, bias = product(20, 40, 33)
    assert refused(int8.find_product, op, x, p, scale.astype("f8"), bias)
    assert refused(int8.find_convolution, op, x, p, scale, bias)
    convolved = convolution(CONVOLUTIONS["tails"], KINDS[0], "NCHW", None)
    assert refused(int8.find_product, *convolved)
    assert not refused(int8.find_convolution, *convolved)
