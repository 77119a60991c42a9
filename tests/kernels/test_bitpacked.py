"""Products of signs by counting bits, against their definitions: every number is whole, and equal."""

import numpy as np
import pytest
from kernel_check import carried_out
from numba import njit

from tinyinfer.core.spec import spec_of
from tinyinfer.kernels import bitpacked, threads
from tinyinfer.kernels.simd import HOST
from tinyinfer.ops.binary import BinaryConv2d, BinaryMatMul, PackBits, WordPanels
from tinyinfer.ops.packed import Packed

RNG = np.random.RandomState(0)
PANELS = WordPanels()


def packed(k, *shape):
    return PackBits(-1).forward(RNG.standard_normal((*shape, k)).astype(np.float32))


def check(find, op, *xs):
    kernel = find(op, op.infer(*map(spec_of, xs)), *map(spec_of, xs))
    got, wanted = carried_out(kernel, op, *xs), op.forward(*xs)
    assert got.dtype == wanted.dtype
    np.testing.assert_array_equal(got, wanted)


def check_product(find, op, x, w):
    """Also of weights that are given in panels."""
    check(find, op, x, w)
    assert [
        *bitpacked.side_by_side(op, op.infer(*map(spec_of, [x, w])), *map(spec_of, [x, w]))
    ] == [PANELS]
    check(bitpacked.packed, Packed(op, PANELS, w.shape), x, PANELS.forward(w))


@pytest.fixture(params=[1, 3])
def parts(request, monkeypatch):
    monkeypatch.setattr(threads, "chosen", request.param)
    monkeypatch.setattr(threads, "GRAIN", 1e-9)


@pytest.mark.parametrize("k", [1, 31, 32, 33, 500])
def test_products(parts, k):
    for m, n, dtype in (1, 1, "int32"), (3, 17, "float32"), (13, 33, "float32"), (16, 64, "int32"):
        check_product(bitpacked.matmul, BinaryMatMul(k, dtype), packed(k, m), packed(k, n))


def test_products_of_several_dimensions():
    check_product(bitpacked.matmul, BinaryMatMul(40), packed(40, 2, 3), packed(40, 5))
    check_product(bitpacked.matmul, BinaryMatMul(40), packed(40), packed(40, 5))


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_convolutions(parts, size):
    for stride, padding, dilation in (1, 0, 1), (1, 1, 1), (2, 2, 1), (1, 2, 2), (3, 4, 2):
        around = (padding, padding // 2), (padding // 2, padding)
        op = BinaryConv2d(33, (stride, 1), around, (1, dilation))
        turned = BinaryConv2d(33, (1, stride), around[::-1], (dilation, 1), "int32")
        x, w = packed(33, 2, 9, 9), packed(33, 18, size, min(3, size))
        check_product(bitpacked.conv2d, op, x, w)
        check_product(bitpacked.conv2d, turned, x.swapaxes(1, 2), w.swapaxes(1, 2))


@pytest.mark.parametrize("columns", [1, 2, 3, 5, 10, 13])
def test_images_of_any_width(columns):
    op = BinaryConv2d(8, padding=((1, 1), (1, 1)))
    check(bitpacked.conv2d, op, packed(8, 1, 2, columns), packed(8, 16, 3, 3))


def test_windows_that_see_padding_alone():
    op = BinaryConv2d(8, padding=((3, 3), (5, 4)))
    check(bitpacked.conv2d, op, packed(8, 1, 2, 2), packed(8, 3, 2, 2))


def special(*shape):
    x = RNG.standard_normal(shape).astype(np.float32)
    some = x.reshape(-1)[:: max(1, x.size // 7)]
    some[:] = np.resize(
        np.float32([np.nan, -np.nan, -0.0, 0.0, -np.inf, -1e-45, 1e-45]), some.shape
    )
    return x


@pytest.mark.parametrize("channels", [1, 15, 16, 17, 31, 32, 33, 64, 70])
def test_signs(parts, channels):
    check(bitpacked.pack_bits, PackBits(-1), special(3, channels))
    check(bitpacked.pack_bits, PackBits(1), special(2, channels, 4, 5))
    check(bitpacked.pack_bits, PackBits(-3), special(channels, 1, 16))
    check(bitpacked.pack_bits, PackBits(1), special(2, channels, 1))


@pytest.mark.parametrize("shape", [(1, 1), (16, 2), (33, 3, 3, 2), (7, 40)])
def test_panels(shape):
    check(bitpacked.panels, PANELS, RNG.randint(0, 2**32, shape, np.uint32))


def test_what_lies_elsewhere_is_read():
    check(bitpacked.matmul, BinaryMatMul(64), packed(64, 9)[::-2], packed(64, 6)[::3])
    check(bitpacked.pack_bits, PackBits(1), special(2, 20, 8, 9)[:, ::2, ::-1])


def test_what_is_left_to_the_definition():
    find = lambda find, op, *xs: find(op, op.infer(*map(spec_of, xs)), *map(spec_of, xs))
    assert find(bitpacked.matmul, BinaryMatMul(0), packed(0, 2), packed(0, 3)) is None
    assert find(bitpacked.matmul, BinaryMatMul(9), packed(9, 0), packed(9, 3)) is None
    assert find(bitpacked.matmul, BinaryMatMul(9, "int8"), packed(9, 2), packed(9, 3)) is None
    assert find(bitpacked.conv2d, BinaryConv2d(9), packed(9, 0, 2, 2), packed(9, 3, 1, 1)) is None
    assert find(bitpacked.pack_bits, PackBits(0), np.ones(3)) is None
    assert find(bitpacked.pack_bits, PackBits(0), np.ones((0, 3), np.float32)) is None
    assert find(bitpacked.panels, PANELS, packed(9, 0)) is None


@pytest.mark.skipif("avx512vpopcntdq" not in HOST.features, reason="the CPU cannot count bits")
def test_bits_are_counted_by_an_instruction():
    check(bitpacked.matmul, BinaryMatMul(70), packed(70, 8), packed(70, 32))
    made = njit(bitpacked.multiply.py_func)  # what was on disk cannot be looked at
    for kinds in bitpacked.multiply.overloads:
        made.compile(kinds)
    code = "".join(made.inspect_asm().values())
    assert "vpopcntd" in code and "vpshufb" not in code
