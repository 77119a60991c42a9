"""Convolution by an indirection buffer."""

import numpy as np
import pytest
from kernel_check import agrees, carried_out

from tinyinfer.core.spec import spec_of
from tinyinfer.kernels import indirect, threads
from tinyinfer.ops.conv import Conv2d
from tinyinfer.ops.integer import QLinearConv
from tinyinfer.ops.layout import In
from tinyinfer.ops.packed import Packed

RANDOM = np.random.default_rng(0)


def numbers(*shape):
    return RANDOM.standard_normal(shape, np.float32)


def packed(op, x, w):
    """(op, arrays) for x in NHWC."""
    (form,) = indirect.forms(In(op, "NHWC", x.shape[3]), None, spec_of(x), spec_of(w))
    return Packed(In(op, "NHWC", x.shape[3]), form, w.shape), x, form.forward(w)


def conv(stride=(1, 1), padding=(0, 0), dilation=(1, 1)):
    return Conv2d(stride, tuple((p, p) for p in padding), dilation)


WINDOWS = [
    ((1, 1), (1, 1), (0, 0), (1, 1)),
    ((3, 3), (1, 1), (1, 1), (1, 1)),
    ((2, 5), (2, 1), (1, 2), (1, 2)),
    ((3, 2), (2, 3), (4, 1), (2, 2)),
]


@pytest.mark.parametrize("size, stride, padding, dilation", WINDOWS)
def test_sizes(size, stride, padding, dilation):
    for images, image, channels, filters in (
        (1, (4, 9), 1, 1),
        (3, (7, 17), 5, 32),
        (2, (9, 13), 16, 19),
        (1, (17, 11), 6, 48),
    ):
        op, x = conv(stride, padding, dilation), numbers(images, *image, channels)
        agrees(indirect.find, *packed(op, x, numbers(filters, channels, *size)), error=1e-5)


@pytest.mark.parametrize("x_type, y_type", [("u1", "i1"), ("i1", "u1")])
@pytest.mark.parametrize("size, stride, padding, dilation", WINDOWS[1:3])
def test_bytes(size, stride, padding, dilation, x_type, y_type):
    """To the bit."""
    for images, image, channels, filters, several in (
        (2, (7, 17), 8, 32, True),
        (1, (9, 13), 20, 19, False),
    ):
        byte = lambda shape, t: RANDOM.integers(np.iinfo(t).min, np.iinfo(t).max + 1, shape).astype(
            t
        )
        x, w = byte((images, *image, channels), x_type), byte((filters, channels, *size), "i1")
        scale = RANDOM.uniform(1e-3, 3e-3, filters if several else ()).astype(np.float32)
        bias = RANDOM.integers(-20_000, 20_000, filters).astype(np.int32)
        op = QLinearConv(
            conv(stride, padding, dilation),
            17,
            -3 if y_type == "i1" else 131,
            np.dtype(y_type).name,
        )
        agrees(indirect.find_bytes, *packed(op, x, w), np.asarray(scale), bias)


def test_images_smaller_than_a_tile():
    for image in (1, 1), (1, 3), (2, 2):
        agrees(
            indirect.find,
            *packed(conv(padding=(1, 1)), numbers(2, *image, 3), numbers(16, 3, 3, 3)),
        )


def test_padding_of_all_kinds():
    for before, after in ((0, 5), (6, 0), (7, 2)):
        op = Conv2d((1, 1), ((before, after), (after, before)))
        agrees(indirect.find, *packed(op, numbers(1, 4, 5, 3), numbers(16, 3, 3, 3)))


def test_what_is_no_number():
    x, w = numbers(1, 6, 7, 5), numbers(32, 5, 3, 3)
    x[0, 0, 0, 1], x[0, 3, 3, 2], w[4, 2, 0, 0], w[7, 0, 2, 2] = np.nan, np.inf, np.inf, np.nan
    agrees(indirect.find, *packed(conv(padding=(1, 1)), x, w), error=1e-5)


def test_views_and_nothing():
    x = numbers(2, 12, 7, 5)[:, ::2].transpose(0, 2, 1, 3)
    agrees(indirect.find, *packed(conv(), x, numbers(16, 5, 3, 3)), error=1e-5)
    x = numbers(0, 6, 6, 5)
    assert [*indirect.forms(In(conv(), "NHWC", 5), None, spec_of(x), spec_of(x))] == []


def test_the_same_in_any_number_of_parts(monkeypatch):
    op, *xs = packed(conv(padding=(1, 1)), numbers(3, 9, 8, 5), numbers(32, 5, 3, 3))
    made = []
    for n in (1, 2, 3):
        monkeypatch.setattr(threads, "parts", lambda operations, most, n=n: min(n, most))
        found = indirect.find(op, op.infer(*map(spec_of, xs)), *map(spec_of, xs))
        made.append(carried_out(found, op, *xs).tobytes())
    assert len({*made}) == 1


def test_the_table_is_smaller_by_as_much_as_a_pixel_has_channels():
    moved = indirect.traffic(conv(padding=(1, 1)), (8, 64, 14, 14), (32, 64, 3, 3))
    assert moved["im2col"].buffer == 8 * 14 * 14 * 9 * 64 * 4
    assert moved["indirection"].buffer == 14 * 14 * 9 * 8
    assert moved["indirection"].read < moved["im2col"].read + moved["im2col"].written
