"""Pools and their gradients."""

import numpy as np
import pytest
from kernel_check import agrees, carried_out

from tinyinfer.core.spec import spec_of
from tinyinfer.kernels import pool, threads
from tinyinfer.ops.layout import In, pack
from tinyinfer.ops.pool import AvgPool2d, AvgPool2dInput, MaxPool2d, MaxPool2dInput

RANDOM = np.random.default_rng(0)
SIZES = (3, 3), (7, 7), (17, 5), (4, 33)
WINDOWS = [
    ((2, 2), (2, 2), (0, 0)),
    ((3, 3), (2, 2), (1, 1)),
    ((3, 3), (1, 1), (1, 1)),
    ((2, 3), (1, 3), (1, 0)),
    ((3, 2), (4, 3), (0, 1)),
]


def ties(*shape):
    """Many numbers are equal, so that the first has to be found."""
    return RANDOM.integers(-2, 3, shape).astype(np.float32)


def all_four(x, *window):
    largest, mean = MaxPool2d(*window), AvgPool2d(*window)
    y = largest.forward(x)
    g = RANDOM.standard_normal(y.shape, np.float32)
    yield largest, (x,)
    yield mean, (x,)
    yield MaxPool2dInput(largest), (g, x, y)
    yield AvgPool2dInput(mean, x.shape), (g,)


def in_layout(op, xs, layout):
    count = xs[0].shape["nc".index(layout[-1])]
    return In(op, layout, count), *[pack(x, layout) for x in xs]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("layout", ["NCHW", "NCHW16c", "NCHW16n"])
def test_sizes(layout, window):
    for image in SIZES:
        for images, channels in (1, 1), (2, 19), (17, 3):
            for op, xs in all_four(ties(images, channels, *image), *window):
                agrees(pool.find, *((op, *xs) if layout == "NCHW" else in_layout(op, xs, layout)))


@pytest.mark.parametrize("window", WINDOWS[:2])
def test_images_that_are_many_bands(window):
    for op, xs in all_four(ties(1, 18, 150, 60), *window):
        agrees(pool.find, op, *xs)


def test_what_is_no_number():
    x = ties(2, 3, 6, 6)
    x[0, 0, 1:3, 1], x[0, 1], x[1, 1, 2:4, 2:4], x[1, 2, 0, 0] = np.nan, -np.inf, np.inf, np.nan
    for window in WINDOWS[:3]:
        for op, xs in all_four(x, *window):
            xs[0][1, 0, 0] = np.nan, np.inf, -np.inf, *xs[0][1, 0, 0, 3:]
            agrees(pool.find, op, *xs)
            agrees(pool.find, *in_layout(op, xs, "NCHW16c"))


def test_what_is_no_maximum():
    """Where none is the maximum none gets the gradient; so in the definition."""
    x, y = ties(2, 3, 7, 7), ties(2, 3, 3, 3)
    y[0, 0, 0] = np.nan
    for window in WINDOWS[:2]:
        op = MaxPool2d(*window)
        m = np.resize(y, op.forward(x).shape)
        agrees(pool.find, MaxPool2dInput(op), m + 1, x, m)


def test_views_and_nothing():
    for op, xs in all_four(ties(5, 4, 8, 9), *WINDOWS[0]):
        agrees(pool.find, op, *[np.asfortranarray(x) for x in xs])
    assert pool.find(MaxPool2d(*WINDOWS[0]), *[spec_of(ties(0, 3, n, n)) for n in (2, 4)]) is None


def test_the_same_in_any_number_of_parts(monkeypatch):
    for op, xs in all_four(ties(3, 7, 30, 41), *WINDOWS[1]):
        made = []
        for n in (1, 2, 3):
            monkeypatch.setattr(threads, "parts", lambda operations, most, n=n: min(n, most))
            found = pool.find(op, op.infer(*map(spec_of, xs)), *map(spec_of, xs))
            made.append(carried_out(found, op, *xs).tobytes())
        assert len({*made}) == 1
