"""A fused op is tested like any other: the graph it carries is its definition."""

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer.graph.fused import Fused


def test_same_error_in_both_modes():
    w, x = ti.ones(120, 400), ti.ones(64, 400)
    messages = []
    for run in (lambda: x @ w, lambda: ti.trace(lambda x: x @ w, x)):
        with pytest.raises(ti.ShapeError) as caught:
            run()
        messages.append(str(caught.value))
    wanted = "matmul: inner sizes differ: (64, 400) @ (120, 400). Did you mean x @ w.T ?"
    assert messages == [wanted, wanted]


def test_straight_through():
    x = ti.tensor([-3.0, -0.26, 0.1, 0.9, 2.0], requires_grad=True)
    y = ti.fake_quantize(x, ti.tensor(0.25), bits=4)
    y.sum().backward()
    assert np.allclose(y.numpy(), [-1.75, -0.25, 0, 1.0, 1.75])
    assert np.array_equal(x.grad.numpy(), [0, 1, 1, 1, 0])


def test_fused_is_an_op():
    fn = lambda x, w, b: ti.relu(ti.conv2d(x, w, stride=2, padding=1) + b)
    xs = [
        np.random.RandomState(i).randn(*s)
        for i, s in enumerate([(2, 3, 6, 6), (4, 3, 3, 3), (1, 4, 1, 1)])
    ]
    fused = Fused(ti.trace(fn, *map(ti.tensor, xs)))
    for y in (fused, fn):
        assert np.array_equal(y(*map(ti.tensor, xs)).numpy(), fn(*map(ti.tensor, xs)).numpy())
    leaves = [ti.tensor(x, requires_grad=True) for x in xs]
    got, wanted = (ti.grad(f(*leaves).sum(), leaves) for f in (fused, fn))
    assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in zip(got, wanted))
    with pytest.raises(ti.ShapeError, match="made for"):
        fused(*map(ti.tensor, (xs[0][:1], *xs[1:])))
