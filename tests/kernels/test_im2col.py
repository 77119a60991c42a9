"""Convolutions of every kind, and their gradients, against the definition."""

from itertools import product

import numpy as np
import pytest
from kernel_check import agrees, poisoned

from tinyinfer.core.spec import spec_of
from tinyinfer.kernels import im2col, im2col_weights, threads
from tinyinfer.ops.conv import Conv2d, Conv2dInput, Conv2dWeight
from tinyinfer.ops.packed import Packed

rng = np.random.default_rng(0)


def normal(*shape):
    return rng.standard_normal(shape).astype("f4")


def both(n):
    return ((n, n), (n, n))


def forward(op, x, w):
    agrees(im2col.find, op, x, w)
    form = im2col.form_for(op, w.shape)
    agrees(im2col.find_packed, Packed(op, form, w.shape), x, form.forward(w))


def to_input(op, x, w):
    g = normal(*op.infer(spec_of(x), spec_of(w)).shape)
    agrees(im2col.find_input, Conv2dInput(op, x.shape), g, w)


def to_weight(op, x, w):
    g = normal(*op.infer(spec_of(x), spec_of(w)).shape)
    agrees(im2col_weights.find, Conv2dWeight(op, w.shape), g, x)


WAYS = {"forward": forward, "input": to_input, "weight": to_weight}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)

KINDS = [
    Conv2d(),
    Conv2d((1, 1), both(1)),
    Conv2d((2, 2), both(1)),
    Conv2d((1, 2), ((0, 2), (1, 0)), (2, 1)),
    Conv2d((3, 2), both(3), (1, 2), groups=2),
    Conv2d((1, 1), ((2, 0), (0, 1)), (2, 3), groups=2),
]


@every_way
@pytest.mark.parametrize(
    "op", KINDS, ids=lambda op: f"{op.stride}{op.padding}{op.dilation}{op.groups}"
)
@pytest.mark.parametrize("window", [(1, 1), (3, 3), (2, 5)])
def test_kinds(way, op, window):
    for n, h, w in (1, 9, 15), (3, 11, 13), (2, 17, 40):
        way(op, normal(n, 4, h, w), normal(8, 4 // op.groups, *window))


@every_way
@pytest.mark.parametrize("channels", [(1, 1), (5, 8), (17, 8)])
def test_channels(way, channels):
    c, o = channels
    for op, window in (Conv2d(), 1), (Conv2d((2, 2)), 1), (Conv2d((1, 1), both(1)), 3):
        way(op, normal(2, c, 7, 7), normal(o, c, window, window))


@every_way
def test_sizes_of_images(way):
    op, w = Conv2d(), normal(8, 4, 1, 1)
    for n, size in product((1, 3), range(1, 18)):
        way(op, normal(n, 4, size, size + 1), w)


@every_way
@pytest.mark.parametrize("x, w", [((0, 4, 5, 5), (8, 4, 3, 3)), ((1, 0, 5, 5), (8, 0, 3, 3)),
                                  ((1, 4, 2, 2), (8, 4, 3, 3))])  # fmt: skip
def test_nothing(way, x, w):
    way(Conv2d((1, 1), ((0, 0), (1, 1)) if x[2] == 5 else ((1, 0), (1, 0))), normal(*x), normal(*w))


@pytest.mark.parametrize("op", [Conv2d((1, 1), both(1)), Conv2d((2, 2), both(1))])
def test_what_is_no_number(op):
    x, w = normal(1, 4, 9, 9), normal(8, 4, 3, 3)
    to_some = lambda x: x.put([1, 40, x.size - 1], [np.nan, np.inf, -np.inf])
    g = op.forward(x, w)
    to_some(g)
    agrees(im2col_weights.find, Conv2dWeight(op, w.shape), g, x)
    agrees(im2col.find_input, Conv2dInput(op, x.shape), g, w)
    to_some(x)
    w[3, 1, 0, 2] = np.inf
    agrees(im2col.find_input, Conv2dInput(op, x.shape), g, w)
    forward(op, x, w)


@every_way
def test_as_they_lie(way):
    x, w = normal(9, 9, 4, 2).transpose(3, 2, 0, 1), normal(8, 4, 6, 3)[:, :, ::2]
    way(Conv2d((1, 1), both(1)), x, w)


def in_parts(monkeypatch, find, op, *xs):
    """The result in one, two and three parts."""
    y = op.infer(*map(spec_of, xs))
    for parts in 1, 2, 3:
        monkeypatch.setattr(threads, "parts", lambda flops, most, n=parts: min(n, most))
        k = find(op, y, *map(spec_of, xs))
        out, *scratch = map(poisoned, (y, *k.scratch))
        k.run(out, *xs, *scratch)
        yield out.tobytes()


@pytest.mark.parametrize("c, o, size", [(4, 8, 20), (4, 60, 5)])
def test_the_same_bits_in_parts(monkeypatch, c, o, size):
    op, x, w = Conv2d((2, 1), both(1)), normal(2, c, size, size), normal(o, c, 3, 3)
    g = normal(*op.infer(spec_of(x), spec_of(w)).shape)
    assert len({*in_parts(monkeypatch, im2col.find, op, x, w)}) == 1
    assert len({*in_parts(monkeypatch, im2col.find_input, Conv2dInput(op, x.shape), g, w)}) == 1
    assert len({*in_parts(monkeypatch, im2col_weights.find, Conv2dWeight(op, w.shape), g, x)}) == 1


@pytest.mark.parametrize("shape", [(2, 2, 20, 30), (1, 2, 1, 600), (20, 2, 5, 5)])
def test_weights_of_many_pixels(shape):
    for stride in 1, 2, 3:
        op = Conv2d((1, stride), ((0, 0), (1, 1)), (1, 2))
        to_weight(op, normal(*shape), normal(8, 2, 1, 3))
    to_weight(Conv2d(), normal(*shape), normal(40, 2, 1, 1))


def test_bias_and_activation():
    x, w, b = normal(2, 4, 7, 7), normal(8, 4, 3, 3), normal(8)
    y = Conv2d().infer(spec_of(x), spec_of(w))
    k = im2col.find(Conv2d(), y, spec_of(x), spec_of(w), spec_of(b), "relu")
    out, room = poisoned(y), poisoned(k.scratch[0])
    k.run(out, x, w, b, room)
    wanted = np.maximum(Conv2d().forward(x.astype("f8"), w) + b.reshape(-1, 1, 1), 0)
    assert np.abs(out - wanted).max() < 2e-6 * wanted.max()


def test_where_others_serve():
    x, w = spec_of(normal(1, 8, 5, 5)), spec_of(normal(8, 1, 3, 3))
    op = Conv2d(groups=8)
    assert im2col.find(op, op.infer(x, w), x, w) is None and [*im2col.rows(op, None, x, w)] == []
