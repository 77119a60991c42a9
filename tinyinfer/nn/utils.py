"""Gradient clipping, between `backward` and `step`."""

import numpy as np

from ..core.tensor import Tensor
from ..core.trace import no_grad
from ..errors import ArgumentError
from ..ops import minimum, sqrt, zeros


def wide(x):
    """x in single precision at least: half has no square of 300, and none of 0.0001."""
    return x.astype(np.float32) if x.dtype == np.float16 else x


def with_grad(parameters, limit):
    if not limit > 0:
        raise ArgumentError(f"clipping: the limit is {limit}, and must be above 0")
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    return [p for p in parameters if p.grad is not None]


def clip_grad_norm_(parameters, max_norm):
    """Scale all gradients by one factor, so that together they are no longer than `max_norm`.

    Returns their length before (Pascanu et al. 2013). Raises ArgumentError for a limit not above 0.
    """
    parameters = with_grad(parameters, max_norm)
    with no_grad():
        norm = sqrt(sum([(wide(p.grad) * wide(p.grad)).sum() for p in parameters], zeros()))
        factor = minimum(max_norm / (norm + 1e-6), 1.0)
        for p in parameters:
            p.grad = p.grad * factor.astype(p.dtype)
    return norm


def clip_grad_value_(parameters, clip_value):
    """No element of a gradient beyond -clip_value or clip_value."""
    with no_grad():
        for p in with_grad(parameters, clip_value):
            p.grad = p.grad.clip(-clip_value, clip_value)
