"""First values of parameters, float32 arrays. They come from the hidden random key: ti.manual_seed."""

import math

import numpy as np

from ..ops import rand, randn


def uniform(shape, bound) -> np.ndarray:
    """Evenly between -bound and bound."""
    return (rand(*shape).numpy() * 2 - 1) * np.float32(bound)


def normal(shape, std=1.0) -> np.ndarray:
    return randn(*shape).numpy() * np.float32(std)


def fan_in(shape) -> int:
    """How many numbers one output of a weight (out, in, ...) is made of."""
    return math.prod(shape[1:])


def kaiming_uniform(shape, gain=math.sqrt(2)) -> np.ndarray:
    """He et al. 2015, for a weight (out, in, ...): the variance of the signal is kept forwards."""
    return uniform(shape, gain * math.sqrt(3 / fan_in(shape)))


def xavier_uniform(shape) -> np.ndarray:
    """Glorot and Bengio 2010, for a weight (out, in, ...): a middle way for forwards and backwards."""
    return uniform(shape, math.sqrt(6 / (fan_in(shape) + shape[0] * math.prod(shape[2:]))))
