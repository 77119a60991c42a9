"""The judge of gradients is judged too."""

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer.core.op import Op
from tinyinfer.testing import gradcheck

X = np.array([0.3, -1.2, 2.0])


class Square(Op):
    """y = x^2; its gradient is `factor` times as large, and its second derivative can be wrong."""

    factor: float = 1.0
    second: float = 1.0

    def infer(self, x):
        return x

    def forward(self, x):
        return x * x

    def vjp(self, g, y, x):
        right = 2.0 * x * g
        return (right * self.factor + (1 - self.second) * (x - x.detach()),)


def test_right():
    assert gradcheck(Square(), [X]) and gradcheck(Square(), [ti.tensor(X)], order=3)
    assert gradcheck(lambda x, y: (x * y, ti.exp(x)), [X, X + 1])


def test_a_wrong_gradient():
    with pytest.raises(
        ti.GradientError, match=r"order 1, input 0, float64\[3\]: the gradient says"
    ):
        gradcheck(Square(1.001), [X])


def test_a_wrong_second_derivative():
    assert gradcheck(Square(1.0, 0.9), [X], order=1)
    with pytest.raises(ti.GradientError, match="order 2, input 0"):
        gradcheck(Square(1.0, 0.9), [X])


def test_which_input():
    with pytest.raises(ti.GradientError, match="input 2"):
        gradcheck(lambda x, i, y: x[i] + Square(1.1)(y).sum(), [X, np.array([0, 1]), X])


def test_what_is_cut_off_but_has_a_slope():
    with pytest.raises(ti.GradientError, match="the gradient says 0,"):
        gradcheck(lambda x: x.detach() * 2.0, [X])
    assert gradcheck(lambda x, y: x * 2.0, [X, X])  # y has none


def test_not_a_number_is_no_gradient():
    with pytest.raises(ti.GradientError, match="nan"):
        gradcheck(lambda x: x * np.nan, [X])


def test_integers_and_masks_are_handed_on():
    assert gradcheck(
        lambda x, i, m: ti.where(m, x[i], 0.0), [X, np.array([2, 0]), np.array([True, False])]
    )
    assert gradcheck(lambda x: (x, x.argmax()), [X])


def test_single_precision_is_refused():
    with pytest.raises(ti.DTypeError, match="gradcheck: of float64, not float32"):
        gradcheck(ti.exp, [X.astype("float32")])
    with pytest.raises(ti.DTypeError, match="gives no floats"):
        gradcheck(ti.argmax, [X])


def test_empty_and_0d():
    assert gradcheck(ti.exp, [np.zeros((0, 3))]) and gradcheck(ti.exp, [np.array(0.5)])


def test_a_gradient_of_another_shape_is_found():
    class Plus(Op):
        def infer(self, a, b):
            return a

        def forward(self, a, b):
            return a + b

        def vjp(self, g, y, a, b):
            return g, g  # b was repeated, and the engine is not told

    with pytest.raises(ti.GradientError, match=r"a gradient \(2, 3\) for an input \(3,\)"):
        ti.testing.gradcheck(Plus(), [np.ones((2, 3)), np.ones(3)], order=1)
