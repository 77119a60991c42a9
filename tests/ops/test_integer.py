"""Whole-number products and convolutions against onnxruntime: bit for bit."""

import numpy as np
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from tinyinfer.ops.conv import Conv2d
from tinyinfer.ops.integer import BytePanels, QLinearConv, QLinearMatMul, output_scale
from tinyinfer.ops.packed import Packed

RNG = np.random.RandomState(0)
LOW = {"uint8": 0, "int8": -128}


def numbers(dtype, *shape):
    return RNG.randint(LOW[dtype], LOW[dtype] + 256, shape).astype(dtype)


def onnx(kind, x, constants, **attributes):
    """The result of a node whose other inputs are constants."""
    names = [f"c{i}" for i in range(len(constants))]
    node = helper.make_node(kind, ["x", *names], ["y"], **attributes)
    given = helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
    y = helper.make_tensor_value_info(
        "y", helper.np_dtype_to_tensor_dtype(constants[-1].dtype), None
    )
    if kind == "QLinearConv":
        y = helper.make_tensor_value_info(
            "y", helper.np_dtype_to_tensor_dtype(constants[6].dtype), None
        )
    arrays = [numpy_helper.from_array(c, n) for n, c in zip(names, constants)]
    graph = helper.make_graph([node], kind, [given], [y], arrays)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"x": x})[0]


def steps(o, per_channel):
    return RNG.uniform(0.005, 0.02, o if per_channel else ()).astype("f4")


KINDS = [("uint8", "uint8"), ("int8", "int8")]


@pytest.mark.parametrize("dtype", KINDS, ids=str)
@pytest.mark.parametrize("per_channel", [True, False])
def test_matmul_is_onnx(dtype, per_channel):
    given, made = dtype
    for m, k, n in (5, 40, 33), (1, 7, 1), (64, 300, 20):
        x, w = numbers(given, m, k), numbers("int8", k, n)
        x_zero, y_zero = numbers(given), numbers(made)
        x_scale, w_scale, y_scale = (
            np.float32(0.02),
            steps(n, per_channel),
            np.float32(0.7 * k**0.5),
        )
        zeros = np.zeros(w_scale.shape, "i1")
        wanted = onnx("QLinearMatMul", x, [np.asarray(c) for c in (x_scale, x_zero, w, w_scale, zeros, y_scale, y_zero)])  # fmt: skip
        op = QLinearMatMul(int(x_zero), int(y_zero), made)
        got = op.forward(x, w, output_scale(x_scale, w_scale, y_scale), np.zeros(n, "i4"))
        np.testing.assert_array_equal(got, wanted)
        assert len(np.unique(got)) > 2 or n == 1


@pytest.mark.parametrize("dtype", KINDS, ids=str)
@pytest.mark.parametrize("per_channel", [True, False])
def test_conv_is_onnx(dtype, per_channel):
    given, made = dtype
    for groups, stride, dilation, (top, left) in (
        (1, 1, 1, (1, 1)),
        (2, 2, 1, (0, 2)),
        (1, 1, 2, (2, 0)),
    ):
        x, w = numbers(given, 2, 6, 9, 8), numbers("int8", 10, 6 // groups, 3, 3)
        x_zero, y_zero = numbers(given), numbers(made)
        x_scale, w_scale, y_scale = np.float32(0.02), steps(10, per_channel), np.float32(3)
        bias, zeros = RNG.randint(-9000, 9000, 10).astype("i4"), np.zeros(w_scale.shape, "i1")
        constants = x_scale, x_zero, w, w_scale, zeros, y_scale, y_zero, bias
        wanted = onnx("QLinearConv", x, [np.asarray(c) for c in constants], group=groups, strides=[stride] * 2,
                      dilations=[dilation] * 2, pads=[top, left, 1, 1])  # fmt: skip
        conv = Conv2d((stride,) * 2, ((top, 1), (left, 1)), (dilation,) * 2, groups)
        op = QLinearConv(conv, int(x_zero), int(y_zero), made)
        got = op.forward(x, w, output_scale(x_scale, w_scale, y_scale), bias)
        np.testing.assert_array_equal(got, wanted)
        assert len(np.unique(got)) > 9


def test_ties_go_to_the_even_number_and_ends_are_kept():
    x, w = np.arange(-8, 8, dtype="i1")[:, None], np.ones((1, 1), "i1")
    bias = np.zeros(1, "i4")
    got = QLinearMatMul(0, 0, "int8").forward(x, w, np.float32(0.5), bias)
    assert got.ravel().tolist() == [-4, -4, -3, -2, -2, -2, -1, 0, 0, 0, 1, 2, 2, 2, 3, 4]
    got = QLinearMatMul(0, 3, "uint8").forward(x, w, np.float32(1e30), bias)
    assert got.ravel().tolist() == [0] * 8 + [3] + [255] * 7


@pytest.mark.parametrize("shape", [(40, 20, 3, 2), (7, 3, 1, 1), (30, 45), (0, 4, 1, 1)], ids=str)
def test_panels_hold_weights_and_their_sums(shape):
    w = numbers("int8", *shape)
    for form in BytePanels(2), BytePanels(1), BytePanels(1, 4):
        p = form.forward(w)
        assert form.infer(w) == (p.shape, p.dtype)
        np.testing.assert_array_equal(form.unpack(p, shape), w)
        sums = p[:, : 64 * form.vectors].copy().view("i4").ravel()
        wanted = w.sum((1, 2, 3) if w.ndim == 4 else 0, dtype="i4")
        np.testing.assert_array_equal(sums[: len(wanted)], wanted)


def test_packed_it_is_the_same():
    x, w = numbers("uint8", 4, 30), numbers("int8", 30, 45)
    op, form = QLinearMatMul(100, 9), BytePanels(2)
    rest = steps(45, True) / 9, RNG.randint(-99, 99, 45).astype("i4")
    got = Packed(op, form, w.shape).forward(x, form.forward(w), *rest)
    np.testing.assert_array_equal(got, op.forward(x, w, *rest))
