"""Convolution with sixteen images side by side, and its gradients."""

import numpy as np
import pytest
from kernel_check import agrees, carried_out

from tinyinfer.core.spec import Spec, spec_of
from tinyinfer.kernels import images_in_lanes, threads
from tinyinfer.ops.conv import Conv2d, Conv2dInput, Conv2dWeight
from tinyinfer.ops.layout import In, pack

FLOAT = np.dtype("f4")
LAYOUT = "NCHW16n"

# x, filters, Conv2d(stride, padding, dilation, groups)
# fmt: off
CASES = [
    ((5, 1, 12, 12), (6, 1, 5, 5), Conv2d()),
    ((33, 6, 7, 9), (16, 6, 3, 3), Conv2d(padding=((1, 1), (1, 1)))),
    ((16, 3, 17, 11), (7, 3, 3, 5), Conv2d(padding=((2, 0), (1, 3)))),
    ((1, 4, 9, 8), (6, 2, 3, 3), Conv2d((2, 2), ((1, 1), (1, 1)), groups=2)),
    ((3, 2, 11, 10), (3, 2, 3, 2), Conv2d((3, 1), ((2, 2), (2, 2)), (1, 3))),
    ((2, 2, 7, 6), (5, 2, 3, 3), Conv2d((1, 3), ((3, 4), (4, 3)), (2, 2))),
    ((17, 2, 4, 3), (1, 2, 7, 7), Conv2d(padding=((3, 3), (3, 3)))),
    ((4, 13, 1, 5), (17, 13, 1, 1), Conv2d()),
    ((2, 3, 6, 6), (4, 3, 1, 1), Conv2d((2, 2))),
    ((17, 9, 16, 8), (10, 9, 1, 1), Conv2d()),
    ((2, 9, 9, 9), (10, 9, 1, 1), Conv2d((3, 2), ((1, 2), (2, 1)))),
    ((2, 5, 6, 5), (5, 1, 3, 3), Conv2d(padding=((1, 1), (1, 1)), groups=5)),
    ((2, 2, 3, 2), (3, 2, 2, 1), Conv2d(padding=((5, 5), (4, 4)))),
    ((0, 2, 3, 3), (3, 2, 2, 2), Conv2d()),
    ((2, 0, 3, 3), (3, 0, 2, 2), Conv2d()),
    ((2, 2, 0, 0), (3, 2, 1, 1), Conv2d(padding=((1, 1), (1, 1)))),
]
# fmt: on
cases = pytest.mark.parametrize("x, w, conv", CASES)


def randoms(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(FLOAT)


def result(conv, x, w):
    return conv.infer(Spec(x, FLOAT), Spec(w, FLOAT)).shape


def laid(x):
    return pack(x, LAYOUT)


@cases
def test_forward(x, w, conv):
    agrees(images_in_lanes.find, In(conv, LAYOUT, x[0]), laid(randoms(*x)), randoms(*w))


@pytest.mark.parametrize("x, w, conv", CASES[:-1])  # but for the one that has no pixel
def test_gradient_by_the_input(x, w, conv):
    g = laid(randoms(*result(conv, x, w)))
    agrees(images_in_lanes.find_input, In(Conv2dInput(conv, x), LAYOUT, x[0]), g, randoms(*w))


@pytest.mark.parametrize("x, w, conv", CASES[:-1])
def test_gradient_by_the_weights(x, w, conv):
    op = In(Conv2dWeight(conv, w), LAYOUT, x[0])
    agrees(images_in_lanes.find_weight, op, laid(randoms(*result(conv, x, w))), laid(randoms(*x)))


def test_nan_and_infinity_stay_in_their_images():
    conv = Conv2d(padding=((1, 1), (1, 1)))
    x, w = randoms(17, 2, 6, 7), randoms(3, 2, 3, 3)
    x[3, 1, 2, 2], x[16, 0, 5, 6], x[4, 0, 0, 0] = np.nan, np.inf, -np.inf
    agrees(images_in_lanes.find, In(conv, LAYOUT, 17), laid(x), w)
    g = Conv2dInput(conv, (17, 3, 6, 7))
    agrees(images_in_lanes.find_input, In(g, LAYOUT, 17), laid(x), w.reshape(2, 3, 3, 3))
    g = randoms(17, 3, 6, 7)
    agrees(
        images_in_lanes.find_weight, In(Conv2dWeight(conv, w.shape), LAYOUT, 17), laid(g), laid(x)
    )


def test_images_that_do_not_exist_stay_zeros():
    w = randoms(3, 2, 3, 3)
    w[1, 0, 1, 1], w[2, 1, 0, 0] = np.nan, np.inf
    op, x = In(Conv2d(), LAYOUT, 3), laid(randoms(3, 2, 6, 7))
    y = carried_out(
        images_in_lanes.find(op, op.infer(spec_of(x), spec_of(w)), spec_of(x), spec_of(w)), op, x, w
    )
    assert np.isnan(y[0, 1, :, :, :3]).all() and not y[..., 3:].any()


def test_what_lies_where_no_image_is_does_not_count():
    conv, w = Conv2d(), (3, 2, 3, 3)
    x, g = randoms(19, 2, 6, 7), randoms(19, 3, 4, 5)
    x, g = laid(x), laid(g)
    x[1, ..., 3:] = g[1, ..., 3:] = np.nan
    agrees(images_in_lanes.find_weight, In(Conv2dWeight(conv, w), LAYOUT, 19), g, x)


def test_threads_change_no_bit(monkeypatch):
    conv, w = Conv2d(padding=((1, 1), (1, 1))), randoms(6, 5, 3, 3)
    x = randoms(37, 5, 7, 6)
    g, x = laid(randoms(*result(conv, x.shape, w.shape))), laid(x)
    for find, op, *xs in [
        (images_in_lanes.find, conv, x, w),
        (images_in_lanes.find_input, Conv2dInput(conv, (37, 5, 7, 6)), g, w),
        (images_in_lanes.find_weight, Conv2dWeight(conv, w.shape), g, x),
    ]:
        op, made = In(op, LAYOUT, 37), []
        for n in 1, 2, 3:
            monkeypatch.setattr(threads, "parts", lambda operations, most, n=n: n)
            specs = [spec_of(x) for x in xs]
            made.append(carried_out(find(op, op.infer(*specs), *specs), op, *xs))
        assert (made[0] == made[1]).all() and (made[0] == made[2]).all()


@pytest.mark.parametrize("x", [(3, 2, 7, 9), (16, 2, 6, 6), (2, 3, 2, 3)])
@pytest.mark.parametrize("pad", [0, 1])
def test_bias_relu_and_pool_in_one(x, pad):
    conv, w, bias = Conv2d(padding=((pad, pad), (pad, pad))), randoms(5, x[1], 2, 2), randoms(5)
    x = randoms(*x)
    x[0, 0, 0, 0] = np.nan
    wide = conv.forward(x.astype("f8"), w.astype("f8")) + bias.reshape(-1, 1, 1)
    wide = np.maximum(wide, 0)
    n, c, h, k = *wide.shape[:2], wide.shape[2] // 2, wide.shape[3] // 2
    wanted = wide[:, :, : 2 * h, : 2 * k].reshape(n, c, h, 2, k, 2).max((3, 5))
    for pool, made in (False, wide), (True, wanted):
        y = np.full_like(laid(made.astype(FLOAT)), np.nan)
        op, xs = In(conv, LAYOUT, n), (laid(x), w)
        more = {"bias": spec_of(bias), "activation": "relu", "pool": pool}
        kernel = images_in_lanes.find(op, spec_of(y), *map(spec_of, xs), **more)
        if y.size:
            kernel.run(y, *xs, bias)
            np.testing.assert_allclose(y, laid(made), 1e-4, 1e-6)


@pytest.mark.parametrize(
    "op, dtype",
    [
        (In(Conv2d(), "NCHW16c", 2), "f4"),
        (In(Conv2d(), LAYOUT, 2, "NCHW"), "f4"),
        (In(Conv2d(), LAYOUT, 2), "f8"),
    ],
)
def test_serves_nothing_else(op, dtype):
    x = Spec((1, 2, 5, 5, 16) if op.source != "NCHW" else (2, 2, 5, 5), np.dtype(dtype))
    w = Spec((3, 2, 3, 3), np.dtype(dtype))
    y = Spec((1, 3, 3, 3, 16), np.dtype(dtype))
    assert images_in_lanes.find(op, y, x, w) is None


def test_an_infinite_weight_beside_the_image():
    """By the definition it meets zeros there; also where a kernel has scratch memory, or a bias."""
    rng = np.random.default_rng(0)
    op = In(Conv2d(padding=((1, 1), (1, 1))), "NCHW16n", 16)
    x = pack(rng.standard_normal((16, 3, 8, 8), np.float32), "NCHW16n")
    w = rng.standard_normal((16, 3, 1, 1), np.float32)
    w[3, 1] = np.inf
    with np.errstate(all="ignore"):
        assert np.isnan(op.forward(x, w)).any()
    agrees(images_in_lanes.find, op, x, w)
