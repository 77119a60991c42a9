"""Depthwise convolution and its gradients."""

from itertools import product

import numpy as np
import pytest
from kernel_check import agrees, carried_out

from tinyinfer.core.spec import spec_of
from tinyinfer.kernels import depthwise, depthwise_columns, threads
from tinyinfer.ops.conv import Conv2d, Conv2dInput, Conv2dWeight
from tinyinfer.ops.layout import In, pack

RANDOM = np.random.default_rng(0)
BOTH = [depthwise.find, depthwise_columns.find]


def numbers(*shape):
    return RANDOM.standard_normal(shape, np.float32)


def conv(channels, stride=(1, 1), padding=(0, 0), dilation=(1, 1)):
    return Conv2d(stride, tuple((p, p) for p in padding), dilation, channels)


def all_three(op, x, w):
    """The convolution of x by w, and its gradients: (op, arrays)."""
    g = numbers(*op.infer(spec_of(x), spec_of(w)).shape)
    yield op, (x, w)
    if len(w) == x.shape[1]:
        yield Conv2dInput(op, x.shape), (g, w)
        yield Conv2dWeight(op, w.shape), (g, x)


def in_blocks(op, xs, channels):
    """The same of images in blocks of 16 channels."""
    xs = [pack(x, "NCHW16c") if i in op.images else x for i, x in enumerate(xs)]
    return In(op, "NCHW16c", channels), *xs


SIZES = (1, 1), (7, 7), (17, 5), (9, 33)
WINDOWS = [
    ((1, 1), (1, 1), (0, 0), (1, 1)),
    ((3, 3), (1, 1), (1, 1), (1, 1)),
    ((3, 3), (2, 2), (1, 1), (1, 1)),
    ((2, 5), (2, 1), (1, 2), (1, 2)),
    ((3, 2), (2, 3), (2, 1), (2, 2)),
    ((7, 9), (1, 2), (3, 4), (1, 1)),
]


@pytest.mark.parametrize("size, stride, padding, dilation", WINDOWS)
def test_sizes(size, stride, padding, dilation):
    for n, (image, channels) in enumerate(product(SIZES, (5, 19))):
        op = conv(channels, stride, padding, dilation)
        reach = [d * (k - 1) + 1 - 2 * p for d, k, p in zip(dilation, size, padding)]
        if any(a < b for a, b in zip(image, reach)):
            continue
        x, w = numbers(1 + n % 3, channels, *image), numbers(channels, 1, *size)
        for each, xs in all_three(op, x, w):
            agrees(depthwise.find, each, *xs)
            agrees(depthwise.find, *in_blocks(each, xs, channels))


@pytest.mark.parametrize("size, stride, padding, dilation", WINDOWS[:-1])
def test_columns(size, stride, padding, dilation):
    """Wide images, whose bands of rows are several."""
    for channels, image in (3, (12, 55)), (1, (40, 130)), (2, (9, 64)), (2, (5, 60)):
        op, w = conv(channels, stride, padding, dilation), numbers(2 * channels, 1, *size)
        agrees(depthwise_columns.find, op, numbers(2, channels, *image), w)


def test_padding_of_all_kinds():
    for before, after in ((0, 5), (6, 0), (7, 2), (9, 9)):
        op = Conv2d((1, 1), ((before, after), (after, before)), (1, 1), 2)
        for each, xs in all_three(op, numbers(2, 2, 4, 15), numbers(2, 1, 3, 3)):
            agrees(depthwise.find, each, *xs)
        agrees(depthwise_columns.find, op, numbers(2, 2, 4, 15), numbers(2, 1, 3, 3))


def test_several_filters_a_channel():
    for find in BOTH:
        agrees(find, conv(18), numbers(2, 18, 6, 20), numbers(54, 1, 3, 3))


@pytest.mark.parametrize("find", BOTH)
def test_images_that_are_many_bands(find):
    op = conv(2, padding=(1, 1))
    for each, xs in all_three(op, numbers(1, 2, 150, 150), numbers(2, 1, 3, 3)):
        if find is depthwise.find or isinstance(each, Conv2d):
            agrees(find, each, *xs, error=1e-5)


def test_empty():
    op, w = conv(3, padding=(1, 1)), numbers(3, 1, 2, 3)
    for each, xs in all_three(op, numbers(0, 3, 5, 5), w):
        agrees(depthwise.find, each, *xs)
    agrees(depthwise.find, op, numbers(2, 3, 0, 5), w)


def test_views():
    x, w = numbers(2, 40, 3, 20)[:, ::2].transpose(0, 1, 3, 2), numbers(20, 1, 3, 3)[..., ::-1]
    agrees(depthwise.find, conv(20), x, w)
    agrees(depthwise_columns.find, conv(20), x.transpose(0, 1, 3, 2), w)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_is_no_number(bad):
    """Also padding times infinity is NaN, where the definition has padding."""
    op, x, w = conv(3, (1, 1), (1, 1)), numbers(1, 3, 5, 15), numbers(3, 1, 3, 3)
    x[0, 0, 0, 3] = x[0, 1, 2, 2] = w[1, 0, 0, 1] = w[2, 0, 2, 2] = bad
    for each, xs in all_three(op, x, w):
        xs[0][0, 0, 4, 0] = bad
        agrees(depthwise.find, each, *xs)
        agrees(depthwise.find, *in_blocks(each, xs, 3))
    agrees(depthwise_columns.find, op, x, w)


def test_the_same_in_any_number_of_parts(monkeypatch):
    op, x, w = conv(35, (2, 1), (1, 1)), numbers(2, 35, 13, 15), numbers(35, 1, 3, 3)
    for each, xs in all_three(op, x, w):
        for find in BOTH if isinstance(each, Conv2d) else BOTH[:1]:
            made = []
            for n in (1, 2, 3):
                monkeypatch.setattr(threads, "parts", lambda operations, most, n=n: min(n, most))
                k = find(each, each.infer(*map(spec_of, xs)), *map(spec_of, xs))
                made.append(carried_out(k, each, *xs).tobytes())
            assert len({*made}) == 1


def test_who_is_not_served():
    x, w = numbers(1, 4, 5, 20), numbers(4, 2, 3, 3)
    for op, xs in (Conv2d(groups=2), (x, w)), (conv(4), (x.astype("f8"), w[:, :1].astype("f8"))):
        for find in BOTH:
            assert find(op, op.infer(*map(spec_of, xs)), *map(spec_of, xs)) is None
