"""Recurrent networks against onnxruntime, against measured slopes, and in a graph."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import tinyinfer as ti
from tinyinfer import nn
from tinyinfer.graph.control import Scan
from tinyinfer.testing import gradcheck

TIME, BATCH, SIZE, HIDDEN = 5, 3, 4, 6
# ONNX has the gates in another order: i o f c of an LSTM, z r h of a GRU.
ORDER = {nn.RNN: [0], nn.LSTM: [0, 3, 1, 2], nn.GRU: [1, 0, 2]}
KINDS = pytest.mark.parametrize("kind", ORDER, ids=lambda kind: kind.__name__)
STATES = {nn.RNN: 1, nn.LSTM: 2, nn.GRU: 1}


def rand(*shape):
    return np.random.RandomState(len(shape)).standard_normal(shape).astype(np.float32)


def as_tuple(x):
    return x if isinstance(x, tuple) else (x,)


def onnx_layer(kind, net, x, starts):
    """One layer, by onnxruntime: y (time, batch, ways * hidden), and the last states."""
    ways = ("", "_reverse") if net.bidirectional else ("",)

    def stacked(name):
        arrays = [getattr(net, f"{name}_l0{way}").numpy() for way in ways]
        gates = [np.split(a, len(ORDER[kind])) for a in arrays]
        return np.stack([np.concatenate([g[i] for i in ORDER[kind]]) for g in gates])

    bias = np.zeros((len(ways), 2 * len(ORDER[kind]) * HIDDEN), np.float32)
    if net.bias:
        bias = np.concatenate([stacked("bias_ih"), stacked("bias_hh")], 1)
    inputs = {"X": x, "W": stacked("weight_ih"), "R": stacked("weight_hh"), "B": bias}
    inputs |= dict(zip(("h", "c"), starts))
    extra = {"linear_before_reset": 1} if kind is nn.GRU else {}
    if kind is nn.RNN:
        extra = {"activations": [net.nonlinearity.title()] * len(ways)}
    outputs = ["Y", "Y_h", "Y_c"][: 1 + STATES[kind]]
    node = helper.make_node(
        kind.__name__,
        ["X", "W", "R", "B", "", *list(inputs)[4:]],
        outputs,
        hidden_size=HIDDEN,
        direction="bidirectional" if net.bidirectional else "forward",
        **extra,
    )
    graph = helper.make_graph(
        [node],
        "layer",
        [],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
        [numpy_helper.from_array(a, name) for name, a in inputs.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    y, *last = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    ).run(None, {})
    return y.transpose(0, 2, 1, 3).reshape(TIME, BATCH, -1), last


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(
    "kind, options",
    [(nn.RNN, {}), (nn.RNN, {"nonlinearity": "relu"}), (nn.LSTM, {}), (nn.GRU, {})],
    ids=["RNN", "RNN relu", "LSTM", "GRU"],
)
def test_one_layer_against_onnxruntime(kind, options, bidirectional, bias):
    net = kind(SIZE, HIDDEN, bidirectional=bidirectional, bias=bias, **options)
    x = rand(TIME, BATCH, SIZE)
    starts = [rand(1 + bidirectional, BATCH, HIDDEN) + k for k in range(STATES[kind])]
    given = tuple(map(ti.tensor, starts))
    y, last = net(ti.tensor(x), given if kind is nn.LSTM else given[0])
    wanted, wanted_last = onnx_layer(kind, net, x, starts)
    np.testing.assert_allclose(y.numpy(), wanted, atol=1e-5)
    for a, b in zip(as_tuple(last), wanted_last, strict=True):
        np.testing.assert_allclose(a.numpy(), b, atol=1e-5)


def layer(net, k):
    """Layer k of a deep net, as a net of one."""
    kind = type(net)
    size = SIZE if k == 0 else HIDDEN * (1 + net.bidirectional)
    one = kind(size, HIDDEN, bidirectional=net.bidirectional)
    mine = {n.replace(f"_l{k}", "_l0"): x for n, x in net.state_dict().items() if f"_l{k}" in n}
    one.load_state_dict(mine)
    return one


@KINDS
def test_two_layers_are_one_after_the_other(kind):
    net = kind(SIZE, HIDDEN, num_layers=2, bidirectional=True)
    x = ti.tensor(rand(TIME, BATCH, SIZE))
    middle, first = layer(net, 0)(x)
    y, second = layer(net, 1)(middle)
    got, last = net(x)
    assert np.array_equal(got.numpy(), y.numpy())
    for a, b, both in zip(as_tuple(first), as_tuple(second), as_tuple(last)):
        assert np.array_equal(both.numpy(), np.concatenate([a.numpy(), b.numpy()]))


@KINDS
def test_the_batch_first_or_none(kind):
    net = kind(SIZE, HIDDEN)
    x = ti.tensor(rand(TIME, BATCH, SIZE))
    y, last = net(x)
    turned = kind(SIZE, HIDDEN, batch_first=True)
    turned.load_state_dict(net.state_dict())
    y1, last1 = turned(x.transpose(0, 1))
    assert np.array_equal(y1.numpy(), y.numpy().swapaxes(0, 1))
    assert all(map(np.array_equal, as_tuple(last1), as_tuple(last)))
    y2, last2 = net(x[:, 1])
    np.testing.assert_allclose(y2.numpy(), y.numpy()[:, 1], atol=1e-6)
    for a, b in zip(as_tuple(last2), as_tuple(last)):
        assert a.shape == (1, HIDDEN)
        np.testing.assert_allclose(a.numpy(), b.numpy()[:, 1], atol=1e-6)
    net(x[:, 1], tuple(as_tuple(last2)) if kind is nn.LSTM else last2)


@KINDS
def test_in_a_graph_it_is_one_loop_with_the_same_numbers(kind):
    net = kind(SIZE, HIDDEN, bidirectional=True)
    x = ti.tensor(rand(TIME, BATCH, SIZE))
    graph = ti.trace(lambda x: net(x)[0], x).verify()
    assert sum(isinstance(n.op, Scan) for n in graph.steps) == 2
    assert np.array_equal(graph.run(x.numpy()), net(x)[0].numpy())


@KINDS
def test_training_in_a_graph_is_training(kind):
    def make():
        ti.manual_seed(1)
        net = kind(SIZE, HIDDEN, num_layers=2, dropout=0.5)
        optimizer = ti.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

        def step(x):
            optimizer.zero_grad()
            loss = (net(x)[0] * net(x)[0]).mean()
            loss.backward()
            optimizer.step()
            return loss

        return net, step

    x = ti.tensor(rand(TIME, BATCH, SIZE))
    net, step = make()
    losses = [step(x).item() for _ in range(3)]
    wanted = net.state_dict()
    net, step = make()
    graph = ti.trace(step, x)
    np.testing.assert_allclose([graph.run(x.numpy()) for _ in range(3)], losses, rtol=1e-6)
    for name, value in net.state_dict().items():
        np.testing.assert_allclose(value.numpy(), wanted[name].numpy(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("traced", [False, True], ids=["eager", "in a graph"])
@KINDS
def test_gradients(kind, traced):
    net = kind(2, 3, bidirectional=True)
    parameters = dict(net.named_parameters())

    def run(x, *weights):
        vars(net).update(zip(parameters, weights))
        y, last = net(x)
        return [y, *as_tuple(last)]

    def through_a_graph(*inputs):
        return ti.trace(run, *inputs)(*inputs)

    inputs = [rand(3, 2, 2), *(p.numpy() for p in parameters.values())]
    inputs = [x.astype(np.float64) for x in inputs]
    assert gradcheck(through_a_graph if traced else run, inputs)


def test_names_shapes_and_order_are_pytorchs():
    net = nn.LSTM(SIZE, HIDDEN, num_layers=2, bidirectional=True)
    shapes = {name: p.shape for name, p in net.named_parameters()}
    assert [*shapes] == [
        f"{kind}_l{k}{way}"
        for k in (0, 1)
        for way in ("", "_reverse")
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ]
    assert shapes["weight_ih_l0"] == (4 * HIDDEN, SIZE)
    assert shapes["weight_ih_l1_reverse"] == (4 * HIDDEN, 2 * HIDDEN)
    assert shapes["weight_hh_l1"] == (4 * HIDDEN, HIDDEN)
    assert nn.GRU(SIZE, HIDDEN).weight_ih_l0.shape == (3 * HIDDEN, SIZE)
    assert nn.RNN(SIZE, HIDDEN).bias_hh_l0.shape == (HIDDEN,)
    assert len(nn.GRU(SIZE, HIDDEN, bias=False).parameters()) == 2
    assert repr(net) == "LSTM(4, 6, num_layers=2, bidirectional=True)"
    assert repr(nn.RNN(4, 6, nonlinearity="relu", bias=False)) == (
        "RNN(4, 6, nonlinearity='relu', bias=False)"
    )


def test_dropout_is_between_the_layers_in_training_alone():
    net = nn.GRU(SIZE, HIDDEN, num_layers=2, dropout=0.5)
    x = ti.tensor(rand(TIME, BATCH, SIZE))
    (a, first), (b, second) = net(x), net(x)
    assert np.array_equal(first.numpy()[0], second.numpy()[0])
    assert not np.array_equal(a.numpy(), b.numpy())
    net.eval()
    assert np.array_equal(net(x)[0].numpy(), net(x)[0].numpy())
    one = nn.GRU(SIZE, HIDDEN, dropout=0.5)
    assert np.array_equal(one(x)[0].numpy(), one(x)[0].numpy())


@pytest.mark.parametrize(
    "run, said",
    [
        (
            lambda: nn.LSTM(4, 6)(ti.zeros(5, 3, 7)),
            r"LSTM\(4, 6\): .* \(time, batch, 4\).*\(5, 3, 7\)",
        ),
        (lambda: nn.GRU(4, 6, batch_first=True)(ti.zeros(4)), r"\(batch, time, 4\)"),
        (lambda: nn.GRU(4, 6)(ti.zeros(0, 3, 4)), "one moment at least"),
        (lambda: nn.GRU(4, 6)(ti.zeros(5, 3, 4), ti.zeros(3, 6)), r"\(1, 3, 6\), not \(3, 6\)"),
        (
            lambda: nn.LSTM(4, 6)(ti.zeros(5, 3, 4), ti.zeros(1, 3, 6)),
            r"a pair \(h, c\), \(1, 3, 6\) and \(1, 3, 6\), not \(1, 3, 6\)$",
        ),
    ],
)
def test_wrong_shapes(run, said):
    with pytest.raises(ti.ShapeError, match=said):
        run()


def test_wrong_options():
    with pytest.raises(ti.ArgumentError, match="nonlinearity"):
        nn.RNN(4, 6, nonlinearity="gelu")
    with pytest.raises(ti.ArgumentError, match="LSTM num_layers: a whole number from 1 on, not 0"):
        nn.LSTM(4, 6, num_layers=0)
    with pytest.raises(ti.ArgumentError, match="LSTM hidden_size: a whole number from 1 on, not 0"):
        nn.LSTM(4, 0)
    with pytest.raises(ti.ArgumentError, match="GRU input_size: a whole number from 1 on, not -4"):
        nn.GRU(-4, 6)
    with pytest.raises(ti.ArgumentError, match=r"LSTM dropout: a number in \[0, 1\), not 1.0"):
        nn.LSTM(4, 6, dropout=1.0)
