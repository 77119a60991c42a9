"""Are gradients right? A slope that is measured, by a small step both ways, knows no rules."""

import numpy as np

from .core.autograd import gradients
from .core.tensor import Tensor, tensor
from .errors import DTypeError, GradientError

STEP, TOLERANCE = 1e-6, 1e-5


def gradcheck(fn, inputs, order=2) -> bool:
    """Compare the gradients of `fn` with central differences.

    fn: maps tensors to a tensor, or to several, of which the floating ones count. It must give the
        same result for the same inputs, and be smooth around them: no corner, no tie.
    inputs: tensors or arrays; the float64 ones are varied, integers and masks are handed on.

    With random r and v, and L(x) = sum(r * fn(x)), for each input in turn

        (L(x + h v) - L(x - h v)) / 2h = sum(v * dL/dx)      up to 1e-5 (1 + its size), h = 1e-6

    For each further order fn becomes the gradient of sum(r * fn(x)^3), cubed so that of what is
    linear the derivatives are not all zero, and the tolerance becomes ten times as large.

    Returns True. Raises GradientError if a gradient is another, DTypeError for floats that are not
    float64, in which the differences would be rounding errors.
    """
    inputs = [np.array(x.numpy() if isinstance(x, Tensor) else x) for x in inputs]
    if bad := [x.dtype for x in inputs if x.dtype.kind == "f" and x.dtype != np.float64]:
        raise DTypeError(f"gradcheck: of float64, not {bad[0]}: write x.astype('float64')")
    for k in range(1, order + 1):
        compare(fn, inputs, k)
        fn = derivative(fn)
    return True


def compare(fn, inputs, order):
    rng = np.random.RandomState(order)
    for i, gx in slopes(fn, as_states(inputs)).items():
        if gx is not None and gx.shape != inputs[i].shape:
            raise GradientError(
                f"gradcheck: order {order}, input {i}: a gradient {gx.shape} for an input "
                f"{inputs[i].shape}: does the op lack `broadcasts = True`?"
            )
        v = rng.standard_normal(inputs[i].shape)
        numeric = (moved(fn, inputs, i, STEP * v) - moved(fn, inputs, i, -STEP * v)) / (2 * STEP)
        analytic = 0.0 if gx is None else (v * gx.numpy()).sum()
        if not abs(numeric - analytic) <= TOLERANCE * 10 ** (order - 1) * (1 + abs(numeric)):
            raise GradientError(
                f"gradcheck: order {order}, input {i}, {inputs[i].dtype}{list(inputs[i].shape)}: "
                f"the gradient says {analytic:.8g}, the differences say {numeric:.8g}"
            )


def moved(fn, inputs, i, step) -> float:
    """L, when input i has made a step."""
    return project(fn(*as_states([*inputs[:i], inputs[i] + step, *inputs[i + 1 :]]))).item()


def slopes(fn, xs) -> dict:
    """{i: dL/dx[i]} for the floating inputs; None where nothing depends on one."""
    y = project(fn(*xs))
    wanted = {i: x.node for i, x in enumerate(xs) if x.spec.floating}
    found = gradients([y], [tensor(1.0, y.dtype)], wanted.values(), create_graph=True)
    return {i: found.get(n) for i, n in wanted.items()}


def derivative(fn):
    """The gradient of sum(r * fn(x)^3)."""
    cubes = lambda *xs: [y * y * y for y in floating(fn(*xs))]

    def gradient(*xs):
        return [xs[i] * 0.0 if gx is None else gx for i, gx in slopes(cubes, xs).items()]

    return gradient


def as_states(arrays):
    return [tensor(x, requires_grad=x.dtype.kind == "f") for x in arrays]


def floating(ys):
    ys = [y for y in ([ys] if isinstance(ys, Tensor) else ys) if y.spec.floating]
    if not ys:
        raise DTypeError("gradcheck: the function gives no floats, so nothing has a gradient")
    return ys


def project(ys):
    """sum(r * y), with numbers r that are always the same"""
    rng = np.random.RandomState(0)
    return sum((y * rng.standard_normal(y.shape)).sum() for y in floating(ys))
