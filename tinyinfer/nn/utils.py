"""Gradient clipping, between `backward` and `step`."""

from ..core.trace import no_grad
from ..ops import minimum, sqrt


def with_grad(parameters):
    return [p for p in parameters if p.grad is not None]


def clip_grad_norm_(parameters, max_norm):
    """Scale all gradients by one factor, so that together they are no longer than `max_norm`.

    Returns their length before (Pascanu et al. 2013).
    """
    parameters = with_grad(parameters)
    with no_grad():
        norm = sqrt(sum((p.grad * p.grad).sum() for p in parameters))
        factor = minimum(max_norm / (norm + 1e-6), 1.0)
        for p in parameters:
            p.grad = p.grad * factor
    return norm


def clip_grad_value_(parameters, clip_value):
    """No element of a gradient beyond -clip_value or clip_value."""
    with no_grad():
        for p in with_grad(parameters):
            p.grad = p.grad.clip(-clip_value, clip_value)
