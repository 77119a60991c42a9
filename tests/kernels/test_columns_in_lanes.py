"""Convolution with neighbouring columns in the lanes, and its gradients."""

import numpy as np
import pytest
from kernel_check import agrees, carried_out

from tinyinfer.core.spec import Spec, spec_of
from tinyinfer.kernels import columns_in_lanes, threads
from tinyinfer.ops.conv import Conv2d, Conv2dInput, Conv2dWeight

FLOAT = np.dtype("f4")

# x, filters, Conv2d(stride, padding, dilation, groups)
# fmt: off
CASES = [
    ((1, 1, 32, 32), (6, 1, 5, 5), Conv2d()),
    ((1, 6, 14, 14), (16, 6, 5, 5), Conv2d()),
    ((2, 3, 9, 37), (5, 3, 3, 3), Conv2d(padding=((1, 1), (1, 1)))),
    ((3, 4, 9, 50), (6, 2, 3, 3), Conv2d((2, 1), ((1, 1), (2, 0)), (1, 2), groups=2)),
    ((1, 2, 5, 17), (7, 2, 7, 7), Conv2d(padding=((3, 3), (3, 3)))),
    ((2, 13, 3, 16), (17, 13, 1, 1), Conv2d()),
    ((1, 2, 3, 1), (3, 2, 2, 1), Conv2d((3, 1), padding=((5, 5), (20, 4)))),
    ((0, 2, 3, 3), (3, 2, 2, 2), Conv2d()),
    ((2, 0, 3, 3), (3, 0, 2, 2), Conv2d()),
    ((2, 2, 0, 0), (3, 2, 1, 1), Conv2d(padding=((1, 1), (1, 1)))),
]
# fmt: on
cases = pytest.mark.parametrize("x, w, conv", CASES)
with_pixels = pytest.mark.parametrize("x, w, conv", CASES[:-1])


def randoms(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(FLOAT)


def result(conv, x, w):
    return conv.infer(Spec(x, FLOAT), Spec(w, FLOAT)).shape


@cases
def test_forward(x, w, conv):
    agrees(columns_in_lanes.find, conv, randoms(*x), randoms(*w))


@with_pixels
def test_gradient_by_the_input(x, w, conv):
    agrees(
        columns_in_lanes.find_input, Conv2dInput(conv, x), randoms(*result(conv, x, w)), randoms(*w)
    )


@with_pixels
def test_gradient_by_the_weights(x, w, conv):
    agrees(
        columns_in_lanes.find_weight,
        Conv2dWeight(conv, w),
        randoms(*result(conv, x, w)),
        randoms(*x),
    )


@pytest.mark.parametrize("columns", [5, 21])
def test_nan_and_infinity_stay_in_their_windows(columns):
    conv, w = Conv2d(padding=((1, 1), (1, 1))), randoms(3, 2, 3, 3)
    x, g = randoms(2, 2, 6, columns), randoms(2, 3, 6, columns)
    x[0, 1, 2, 2], x[1, 0, 5, columns - 1], x[1, 0, 0, 0] = np.nan, np.inf, -np.inf
    agrees(columns_in_lanes.find, conv, x, w)
    agrees(columns_in_lanes.find_input, Conv2dInput(conv, g.shape), x, w.reshape(2, 3, 3, 3))
    agrees(columns_in_lanes.find_weight, Conv2dWeight(conv, w.shape), g, x)


def test_nothing_is_written_beyond_a_line():
    conv, x, w = Conv2d(), randoms(1, 1, 4, 7), randoms(2, 1, 2, 2)
    room = np.full(100, 7, FLOAT)
    y = room[20:56].reshape(1, 2, 3, 6)
    columns_in_lanes.find(conv, spec_of(y), spec_of(x), spec_of(w)).run(y, x, w)
    assert (room[:20] == 7).all() and (room[56:] == 7).all()


def test_threads_change_no_bit(monkeypatch):
    conv, x, w = Conv2d(padding=((1, 1), (1, 1))), randoms(3, 5, 7, 20), randoms(6, 5, 3, 3)
    g = randoms(*result(conv, x.shape, w.shape))
    for find, op, *xs in [
        (columns_in_lanes.find, conv, x, w),
        (columns_in_lanes.find_input, Conv2dInput(conv, x.shape), g, w),
        (columns_in_lanes.find_weight, Conv2dWeight(conv, w.shape), g, x),
    ]:
        made = []
        for n in 1, 2, 3:
            monkeypatch.setattr(threads, "parts", lambda operations, most, n=n: n)
            specs = [spec_of(x) for x in xs]
            made.append(carried_out(find(op, op.infer(*specs), *specs), op, *xs))
        assert (made[0] == made[1]).all() and (made[0] == made[2]).all()


@pytest.mark.parametrize("x, pad", [((2, 2, 7, 9), 0), ((1, 1, 6, 21), 1), ((1, 2, 9, 36), 0)])
@pytest.mark.parametrize("pool", [False, True])
def test_bias_relu_and_pool_in_one(x, pad, pool):
    conv = Conv2d(padding=((pad, pad), (pad, pad)))
    w, bias, x = randoms(5, x[1], 2, 2), randoms(5), randoms(*x)
    x[0, 0, 0, 0], x[0, 0, 4, 6] = np.nan, np.inf
    with np.errstate(all="ignore"):
        wanted = conv.forward(x.astype("f8"), w.astype("f8")) + bias.reshape(-1, 1, 1)
    wanted = np.maximum(wanted, 0)
    if pool:
        n, c, h, k = *wanted.shape[:2], wanted.shape[2] // 2, wanted.shape[3] // 2
        wanted = wanted[:, :, : 2 * h, : 2 * k].reshape(n, c, h, 2, k, 2).max((3, 5))
    y = np.empty(wanted.shape, FLOAT)
    more = {"bias": spec_of(bias), "activation": "relu", "pool": pool}
    columns_in_lanes.find(conv, spec_of(y), spec_of(x), spec_of(w), **more).run(y, x, w, bias)
    np.testing.assert_allclose(y, wanted, 1e-4, 1e-6)


def test_serves_no_other_step_from_column_to_column():
    x, w, y = (Spec(s, FLOAT) for s in ((1, 2, 9, 9), (3, 2, 3, 3), (1, 3, 9, 4)))
    assert columns_in_lanes.find(Conv2d((1, 2)), y, x, w) is None
    x, w, y = (Spec(s.shape, np.dtype("f8")) for s in (x, w, y))
    assert columns_in_lanes.find(Conv2d(), y, x, w) is None
