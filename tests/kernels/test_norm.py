"""Batch norm as a chain, in inference; in training, its mean and variance are reductions."""

import numpy as np
import pytest
from kernel_check import agrees

from tinyinfer.core.spec import spec_of
from tinyinfer.kernels import norm
from tinyinfer.ops.norm import BatchNorm

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy, at infinities
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 40), (2, 17, 7, 7), (2, 4, 1, 1), (0, 3, 4, 4)])
def test_batch_norm(shape):
    x = RNG.standard_normal(shape).astype(np.float32)
    mean, var, w, b = (RNG.random(shape[1]).astype(np.float32) for _ in range(4))
    kernel = agrees(norm.batch_norm, BatchNorm(1e-5), x, mean, var, w, b)
    assert kernel.over == (0,)


def test_what_is_not_finite():
    x = np.ones((2, 3, 20), np.float32)
    x[0, 0, 0], x[1, 1, 1], x[0, 1, 19] = np.nan, np.inf, -np.inf
    channels = np.float32([[0, 1, 2], [1, 2, np.inf], [1, 0, 1], [1, 1, np.nan]])
    agrees(norm.batch_norm, BatchNorm(1e-5), x, *channels)


def test_double_precision_is_left_to_others():
    x, c = np.ones((2, 3, 4)), np.ones(3)
    assert norm.batch_norm(BatchNorm(0.1), spec_of(x), spec_of(x), *[spec_of(c)] * 4) is None
