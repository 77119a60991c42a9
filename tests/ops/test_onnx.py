"""Single-precision results against onnxruntime: a model of one node for every op ONNX has."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import tinyinfer as ti

RTOL, ATOL = 2e-5, 2e-6  # float32 has an epsilon of 1.2e-7; sums and polynomials lose some of it
RNG = np.random.RandomState(0)
A = lambda *shape: np.asarray(RNG.standard_normal(shape), np.float32)
P = lambda *shape: np.asarray(RNG.uniform(0.5, 1.5, shape), np.float32)
I = lambda high, *shape: np.asarray(RNG.randint(0, high, shape), np.int64)
M = lambda *shape: np.asarray(RNG.uniform(size=shape) < 0.5)
ints = lambda *numbers: np.array(numbers, np.int64)
one = lambda x: np.asarray(x, np.float32)


def run(op, inputs, attributes):
    kinds = {
        n: helper.np_dtype_to_tensor_dtype(x.dtype) for n, x in inputs.items() if x is not None
    }
    names = [n if x is not None else "" for n, x in inputs.items()]
    node = helper.make_node(op, names, ["y"], **attributes)
    given = [helper.make_tensor_value_info(n, k, inputs[n].shape) for n, k in kinds.items()]
    result = helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)
    graph = helper.make_graph([node], op, given, [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    model = onnx.shape_inference.infer_shapes(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {n: inputs[n] for n in kinds})[0]


CASES = {}


def case(op, ours, *arrays, constants=(), **attributes):
    """`ours` takes the arrays; ONNX takes the constants too, where we have options."""
    label = op + "".join("'" for k in CASES if k.rstrip("'") == op)
    CASES[label] = op, ours, arrays, constants, attributes


# fmt: off

for op, fn in dict(
    Abs=ti.abs, Neg=ti.neg, Exp=ti.exp, Sin=ti.sin, Cos=ti.cos, Tanh=ti.tanh, Erf=ti.erf,
    Sigmoid=ti.sigmoid, Softplus=ti.softplus, HardSwish=ti.hardswish, Relu=ti.relu, Sign=ti.sign,
    Floor=ti.floor, Ceil=ti.ceil, Gelu=ti.gelu, Identity=ti.identity,
).items():
    case(op, fn, 4 * A(3, 50))
for op, fn in dict(
    Log=ti.log, Sqrt=ti.sqrt,
).items():
    case(op, fn, P(3, 50))
case("Round", ti.round, np.concatenate([4 * A(50), one([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])]))
case("Gelu", lambda x: ti.gelu(x, approximate="tanh"), 3 * A(50), approximate="tanh")
case("LeakyRelu", lambda x: ti.leaky_relu(x, 0.3), A(50), alpha=0.3)
case("Elu", lambda x: ti.elu(x, 0.7), A(50), alpha=0.7)
case("Clip", lambda x: ti.clip(x, -0.5, 0.5), A(50), constants=[one(-0.5), one(0.5)])
case("Clip", lambda x: ti.clip(x, max=0.5), A(50), constants=[None, one(0.5)])
case("Cast", lambda x: ti.cast(x, "int32"), 9 * A(50), to=TensorProto.INT32)

for op, fn in dict(
    Add=ti.add, Sub=ti.sub, Mul=ti.mul, Max=ti.maximum, Min=ti.minimum, Equal=ti.equal,
    Less=ti.less, LessOrEqual=ti.less_equal, Greater=ti.greater, GreaterOrEqual=ti.greater_equal,
).items():
    case(op, fn, A(2, 3, 1), A(3, 4))
for op, fn in dict(
    Equal=ti.equal, Less=ti.less, GreaterOrEqual=ti.greater_equal, Mod=ti.remainder,
).items():
    case(op, fn, I(9, 4, 5) - 4, I(3, 5) + 1)
case("Div", ti.div, A(2, 3, 1), P(3, 4))
case("Pow", ti.pow, P(2, 3, 1), A(3, 4))
case("And", ti.logical_and, M(2, 3), M(3))
case("Or", ti.logical_or, M(2, 3), M(3))
case("Not", ti.logical_not, M(2, 3))
case("Where", ti.where, M(2, 3, 1), A(3, 4), A(4))

for op, fn in dict(
    ReduceSum=ti.sum, ReduceMean=ti.mean, ReduceMax=ti.max, ReduceMin=ti.min, ReduceProd=ti.prod,
    ReduceLogSumExp=ti.logsumexp,
).items():
    case(op, lambda x, fn=fn: fn(x, (0, -1)), A(2, 3, 4), constants=[ints(0, -1)], keepdims=0)
    case(op, lambda x, fn=fn: fn(x, 1, keepdim=True), A(2, 3, 4), constants=[ints(1)], keepdims=1)
case("ArgMax", lambda x: ti.argmax(x, 1), A(3, 5, 2), axis=1, keepdims=0)
case("ArgMax", lambda x: ti.argmax(x, -1, keepdim=True), one([[1, 3, 3], [2, 2, 0]]), axis=-1)
case("Softmax", lambda x: ti.softmax(x, 1), 5 * A(3, 5, 2), axis=1)
case("LogSoftmax", lambda x: ti.log_softmax(x, -1), 5 * A(3, 5), axis=-1)

case("Reshape", lambda x: ti.reshape(x, 3, -1), A(2, 3, 4), constants=[ints(3, -1)])
case("Transpose", lambda x: ti.permute(x, 2, 0, 1), A(2, 3, 4), perm=[2, 0, 1])
case("Expand", lambda x: ti.expand(x, 2, 3, 4), A(3, 1), constants=[ints(2, 3, 4)])
case("Flatten", lambda x: ti.flatten(x, 1), A(2, 3, 4), axis=1)
case("Squeeze", lambda x: ti.squeeze(x, 1), A(2, 1, 4), constants=[ints(1)])
case("Unsqueeze", lambda x: ti.unsqueeze(x, -1), A(2, 4), constants=[ints(-1)])
case("Concat", lambda *xs: ti.concat(xs, 1), A(2, 3), A(2, 1), A(2, 2), axis=1)
case("Pad", lambda x: ti.pad(x, (1, 2, 0, 3), 0.5), A(2, 3), constants=[ints(0, 1, 3, 2), one(0.5)])
case("Slice", lambda x: x[1:3, ::-2], A(4, 5),
      constants=[ints(1, 4), ints(3, -9), ints(0, 1), ints(1, -2)])
case("Gather", lambda x, i: ti.embedding(i, x), A(5, 3), I(5, 2, 2))
case("GatherElements", lambda x, i: ti.gather(x, 1, i), A(3, 5), I(5, 3, 4), axis=1)
case("ScatterElements", lambda x, i, src: ti.scatter_add(x, 0, i, src), A(3, 5), I(3, 6, 5),
      A(6, 5), axis=0, reduction="add")
case("OneHot", lambda i: ti.one_hot(i, 4), I(4, 2, 3), constants=[np.array(4), ints(0, 1)])

case("MatMul", ti.matmul, A(2, 1, 3, 4), A(5, 4, 2))
case("MatMul", ti.matmul, A(4), A(2, 4, 3))
case("Gemm", ti.linear, A(3, 4), A(5, 4), A(5), transB=1)
for equation, *shapes in (("bik,bkj->bij", (2, 3, 4), (2, 4, 2)),
      ("...ij,jk->...ik", (2, 5, 3, 4), (4, 2)), ("ii->i", (3, 3)),
                          ("ij,ij->", (3, 4), (3, 4)), ("bhqd,bhkd->bhqk", (1, 2, 3, 4),
                          (1, 2, 5, 4))):
    case("Einsum", lambda *xs, equation=equation: ti.einsum(equation, *xs),
          *(A(*s) for s in shapes), equation=equation)

case("Conv", ti.conv2d, A(2, 3, 6, 7), A(4, 3, 3, 2), A(4))
case("Conv", lambda x, w: ti.conv2d(x, w, stride=(2, 1), padding=(1, 2), dilation=(1, 2)),
      A(2, 3, 7, 8), A(4, 3, 3, 3),
     strides=[2, 1], pads=[1, 2, 1, 2], dilations=[1, 2])
case("Conv", lambda x, w, b: ti.conv2d(x, w, b, groups=2, padding=1), A(1, 4, 5, 5),
      A(6, 2, 3, 3), A(6), group=2, pads=[1] * 4)
case("Conv", lambda x, w: ti.conv2d(x, w, groups=4, stride=2), A(1, 4, 6, 6), A(8, 1, 2, 2),
      group=4, strides=[2, 2])
case("Conv", lambda x, w, b: ti.conv1d(x, w, b, stride=2, padding=2, dilation=2), A(2, 3, 9),
      A(4, 3, 3), A(4), strides=[2], pads=[2, 2], dilations=[2])
case("ConvTranspose", ti.conv_transpose2d, A(2, 3, 4, 5), A(3, 2, 3, 2), A(2))
case("ConvTranspose", lambda x, w: ti.conv_transpose2d(x, w, stride=(2, 3),
      padding=1, output_padding=(1, 2), groups=2), A(1, 4, 3, 4), A(4, 2, 3, 3),
     strides=[2, 3], pads=[1] * 4, output_padding=[1, 2], group=2)
case("ConvTranspose", lambda x, w: ti.conv_transpose2d(x, w, stride=2, dilation=2),
      A(1, 2, 3, 3), A(2, 2, 2, 2), strides=[2, 2], dilations=[2, 2])
case("MaxPool", lambda x: ti.max_pool2d(x, 2), A(2, 3, 6, 7), kernel_shape=[2, 2], strides=[2, 2])
case("MaxPool", lambda x: ti.max_pool2d(x, (3, 2), (1, 2), (1, 0)), A(2, 3, 6, 7),
      kernel_shape=[3, 2], strides=[1, 2], pads=[1, 0, 1, 0])
case("AveragePool", lambda x: ti.avg_pool2d(x, 3, 2, 1), A(2, 3, 6, 7), kernel_shape=[3, 3],
      strides=[2, 2], pads=[1] * 4, count_include_pad=1)
case("GlobalAveragePool", lambda x: ti.adaptive_avg_pool2d(x, 1), A(2, 3, 4, 5))
case("GlobalMaxPool", lambda x: ti.adaptive_max_pool2d(x, 1), A(2, 3, 4, 5))
case("LayerNormalization", lambda x, w, b: ti.layer_norm(x, (4, 5), w, b, 1e-3), A(3, 4, 5),
      A(4, 5), A(4, 5), axis=1, epsilon=1e-3)
case("BatchNormalization",
      lambda x, w, b, mean, var: ti.batch_norm(x, mean, var, w, b, eps=1e-3), A(2, 3, 4, 5),
      A(3), A(3), A(3), P(3), epsilon=1e-3)
# fmt: on


@pytest.mark.parametrize("label", CASES)
def test_against_onnxruntime(label):
    op, ours, arrays, constants, attributes = CASES[label]
    inputs = {f"x{i}": x for i, x in enumerate([*arrays, *constants])}
    wanted = run(op, inputs, attributes)
    y = ours(*map(ti.tensor, arrays)).numpy()
    assert y.shape == wanted.shape and y.dtype == wanted.dtype
    assert np.allclose(y, wanted, RTOL, ATOL)
    traced = ti.trace(ours, *map(ti.tensor, arrays)).run(*arrays)
    assert np.array_equal(traced, y)
