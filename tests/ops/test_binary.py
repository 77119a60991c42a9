"""Products of signs against products of floats."""

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer.ops import binary

RNG = np.random.RandomState(0)
A = lambda *shape: np.asarray(RNG.standard_normal(shape), np.float32)
sign = lambda x: np.where(x < 0, -1, 1).astype(np.float32)


def test_bits():
    x = np.array([[1.0, -1.0, 0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, -1e-45]], "float32")
    assert binary.pack_bits(ti.tensor(x)).tolist() == [[0b110000010]]
    assert binary.pack_bits(ti.tensor(-np.ones(70))).tolist() == [2**32 - 1, 2**32 - 1, 2**6 - 1]
    assert binary.pack_bits(ti.tensor(np.arange(-2, 2))).tolist() == [0b11]


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_along_an_axis(axis):
    x = A(33, 40, 3)
    bits = np.packbits(np.moveaxis(x, axis, -1) < 0, -1, bitorder="little")
    packed = binary.pack_bits(ti.tensor(x), axis).numpy()
    assert packed.dtype == np.uint32 and packed.shape[-1] == (x.shape[axis] + 31) // 32
    assert np.array_equal(packed.view(np.uint8)[..., : bits.shape[-1]], bits)
    assert not packed.view(np.uint8)[..., bits.shape[-1] :].any()


@pytest.mark.parametrize("k", [0, 1, 31, 32, 33, 64, 100])
def test_products(k):
    x, w, scale = A(2, 5, k), A(7, k), A(7)
    wanted = sign(x) @ sign(w).T
    packed = binary.pack_bits(ti.tensor(x)), binary.pack_bits(ti.tensor(w))
    for dtype in "float32", "int32":
        y = binary.binary_matmul(*packed, k, dtype)
        assert y.dtype == dtype and np.array_equal(y.numpy(), wanted)
    y = binary.linear(ti.tensor(x), ti.tensor(w), ti.tensor(scale))
    assert np.array_equal(y.numpy(), wanted * scale)


CONVS = [
    ((2, 3, 5, 6), (4, 3, 3, 2), {}),
    ((1, 40, 5, 5), (2, 40, 3, 3), dict(stride=2, padding=1)),
    ((2, 2, 6, 5), (2, 2, 2, 3), dict(stride=(2, 1), padding=(0, 2), dilation=(1, 2))),
    ((1, 32, 2, 2), (3, 32, 1, 1), dict(padding=3)),  # windows that see padding alone
    ((1, 1, 7, 8), (1, 1, 3, 3), dict(dilation=2, stride=3, padding=2)),
    ((0, 2, 3, 3), (3, 2, 2, 2), {}),
]


@pytest.mark.parametrize("x, w, options", CONVS)
def test_convolution(x, w, options):
    x, w, scale = ti.tensor(A(*x)), ti.tensor(A(*w)), A(w[0])
    floats = ti.conv2d(ti.tensor(sign(x.numpy())), ti.tensor(sign(w.numpy())), **options).numpy()
    assert np.array_equal(binary.conv2d(x, w, **options).numpy(), floats)
    scaled = binary.conv2d(x, w, ti.tensor(scale), **options).numpy()
    assert np.array_equal(scaled, floats * scale[:, None, None])


def test_the_scale_of_a_filter_is_the_best_one():
    w = A(3, 2, 3, 3)
    scale = binary.filter_scale(ti.tensor(w)).numpy()
    miss = lambda a: np.sum((w - a[:, None, None, None] * sign(w)) ** 2, (1, 2, 3))
    assert (miss(scale) < np.minimum(miss(scale * 0.99), miss(scale * 1.01))).all()


@pytest.mark.parametrize("shape", [(1, 3), (16, 2, 5), (17, 3, 3, 1), (0, 4), (3, 0)])
def test_panels(shape):
    w = RNG.randint(0, 2**32, shape, np.uint32)
    p = binary.WordPanels().forward(w)
    assert p.shape == binary.WordPanels().infer(ti.Spec(shape, w.dtype)).shape
    assert np.array_equal(binary.WordPanels().unpack(p, shape), w)
    flat = w.reshape(shape[0], np.prod(shape[1:]))
    assert all(p[o // 16, k, o % 16] == flat[o, k] for o, k in np.ndindex(flat.shape))


def test_products_have_no_gradient():
    x = ti.tensor(A(2, 3), requires_grad=True)
    assert not binary.linear(x, ti.tensor(A(2, 3))).requires_grad
