"""Attention against loops over batches and heads."""

import math

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer import nn
from tinyinfer.nn import functional as F
from tinyinfer.testing import gradcheck

BATCH, N, M, SIZE, HEADS = 2, 3, 5, 8, 4


def rand(*shape):
    return np.random.RandomState(sum(shape)).standard_normal(shape).astype(np.float32)


def attend(q, k, v, bias):
    """One head of one example: output (n, d), weights (n, m)."""
    scores = q @ k.T / math.sqrt(q.shape[1]) + bias
    weights = np.exp(scores - scores.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    return weights @ v, weights


def reference(net, query, key, value, bias=0.0):
    """Batch first; bias (batch, heads, n, m) is added to the scores."""
    bias = np.broadcast_to(bias, (len(query), net.num_heads, query.shape[1], key.shape[1]))
    w, b = net.in_proj_weight.numpy(), net.in_proj_bias.numpy()
    q, k, v = (
        x @ w[i * SIZE : (i + 1) * SIZE].T + b[i * SIZE : (i + 1) * SIZE]
        for i, x in enumerate((query, key, value))
    )
    outputs, weights = [], []
    for i in range(len(query)):
        parts = [np.split(x[i], net.num_heads, axis=1) for x in (q, k, v)]
        heads = [attend(*part, bias[i, h]) for h, part in enumerate(zip(*parts))]
        outputs.append(np.concatenate([y for y, _ in heads], 1))
        weights.append(np.stack([w for _, w in heads]))
    y = np.stack(outputs) @ net.out_proj.weight.numpy().T + net.out_proj.bias.numpy()
    return y, np.stack(weights)


@pytest.fixture
def net():
    ti.manual_seed(0)
    net = nn.MultiheadAttention(SIZE, HEADS, batch_first=True)
    net.in_proj_bias.assign(ti.randn(3 * SIZE))  # they are zeros at first
    net.out_proj.bias.assign(ti.randn(SIZE))
    return net


INPUTS = rand(BATCH, N, SIZE), rand(BATCH, M, SIZE), rand(BATCH, M, SIZE) + 1
close = lambda a, b: np.testing.assert_allclose(a.numpy(), b, atol=2e-6)


def test_numbers(net):
    y, weights = net(*map(ti.tensor, INPUTS))
    wanted, each = reference(net, *INPUTS)
    close(y, wanted)
    close(weights, each.mean(1))
    close(net(*map(ti.tensor, INPUTS), average_attn_weights=False)[1], each)
    assert net(*map(ti.tensor, INPUTS), need_weights=False)[1] is None


def test_the_batch_second_or_none(net):
    wanted, each = reference(net, *INPUTS)
    single, weights = net(*(ti.tensor(x[1]) for x in INPUTS))
    close(single, wanted[1])
    close(weights, each[1].mean(0))
    second = nn.MultiheadAttention(SIZE, HEADS)
    second.load_state_dict(net.state_dict())
    y, weights = second(*(ti.tensor(x.swapaxes(0, 1)) for x in INPUTS))
    close(y, wanted.swapaxes(0, 1))
    close(weights, each.mean(1))


HIDDEN = np.random.RandomState(0).rand(N, M) < 0.4
PADDING = np.array([[False] * M, [False] * 3 + [True] * 2])
FAR = np.float32(-1e30)


def test_masks(net):
    inputs = [*map(ti.tensor, INPUTS)]
    y, weights = net(*inputs, key_padding_mask=ti.tensor(PADDING), attn_mask=ti.tensor(HIDDEN))
    hidden = HIDDEN | PADDING[:, None, None]
    wanted, each = reference(net, *INPUTS, FAR * hidden)
    close(y, wanted)
    assert not weights.numpy()[np.broadcast_to(hidden[:, 0], weights.shape)].any()
    numbers = rand(BATCH * HEADS, N, M)
    y, _ = net(*inputs, attn_mask=ti.tensor(numbers))
    close(y, reference(net, *INPUTS, numbers.reshape(BATCH, HEADS, N, M))[0])
    y, _ = net(*(x[1] for x in inputs), key_padding_mask=ti.tensor(PADDING[1]))
    close(y, reference(net, *INPUTS, FAR * PADDING[:, None, None])[0][1])


def test_a_row_that_may_look_nowhere_is_no_nan(net):
    _, weights = net(*map(ti.tensor, INPUTS), attn_mask=ti.tensor(np.ones((N, M), bool)))
    close(weights, np.full((BATCH, N, M), 1 / M))


def test_scaled_dot_product_attention():
    q, k, v = (rand(BATCH, HEADS, n, 4) for n in (M, M, M))
    tensors = [*map(ti.tensor, (q, k, v))]
    causal = np.tri(M, dtype=bool)
    for got, bias in (
        (F.scaled_dot_product_attention(*tensors), 0),
        (F.scaled_dot_product_attention(*tensors, is_causal=True), FAR * ~causal),
        (F.scaled_dot_product_attention(*tensors, ti.tensor(causal)), FAR * ~causal),
        (F.scaled_dot_product_attention(*tensors, ti.tensor(rand(M, M))), rand(M, M)),
    ):
        wanted = [
            [attend(q[i, h], k[i, h], v[i, h], bias)[0] for h in range(HEADS)] for i in (0, 1)
        ]
        close(got, wanted)
    flat = F.scaled_dot_product_attention(*tensors, scale=0.0).numpy()
    np.testing.assert_allclose(flat, np.broadcast_to(v.mean(2, keepdims=True), v.shape), atol=1e-6)
    with pytest.raises(ti.ShapeError, match="last size"):
        F.scaled_dot_product_attention(tensors[0], ti.zeros(BATCH, HEADS, M, 3), tensors[2])


def test_gradients():
    net = nn.MultiheadAttention(4, 2).double()
    parameters = {"in_proj_weight": net.in_proj_weight, "in_proj_bias": net.in_proj_bias}

    def run(query, key, w, b):
        vars(net).update(in_proj_weight=w, in_proj_bias=b)
        return net(query, key, key, attn_mask=ti.tensor(HIDDEN))

    arrays = [rand(N, BATCH, 4), rand(M, BATCH, 4), *(p.numpy() for p in parameters.values())]
    assert gradcheck(run, [a.astype(np.float64) for a in arrays])


def test_in_a_graph(net):
    arrays = INPUTS
    graph = ti.trace(net, *map(ti.tensor, arrays)).verify()
    assert all(map(np.array_equal, graph.run(*arrays), net(*map(ti.tensor, arrays))))


def test_dropout_is_for_training():
    net = nn.MultiheadAttention(SIZE, HEADS, dropout=0.5, batch_first=True)
    run = lambda: net(*map(ti.tensor, INPUTS))[0].numpy()
    assert not np.array_equal(run(), run())
    net.eval()
    assert np.array_equal(run(), run())


def test_names_and_first_values():
    ti.manual_seed(0)
    net = nn.MultiheadAttention(64, 4)
    shapes = {name: p.shape for name, p in net.named_parameters()}
    assert shapes == {
        "in_proj_weight": (192, 64), "in_proj_bias": (192,),
        "out_proj.weight": (64, 64), "out_proj.bias": (64,),
    }  # fmt: skip
    assert not net.in_proj_bias.numpy().any() and not net.out_proj.bias.numpy().any()
    bound = math.sqrt(6 / (64 + 192))  # Glorot's, of the three projections as one
    weight = net.in_proj_weight.numpy()
    assert 0.99 * bound < np.abs(weight).max() <= bound
    assert weight.var() == pytest.approx(bound**2 / 3, rel=0.05)
    assert len(nn.MultiheadAttention(8, 2, bias=False).parameters()) == 2
    assert repr(net) == "MultiheadAttention(64, 4)"


@pytest.mark.parametrize(
    "shapes, options, said",
    [
        ([(N, SIZE + 1), (M, SIZE), (M, SIZE)], {}, r"\(batch, length, 8\)"),
        ([(1, N, SIZE), (2, M, SIZE), (2, M, SIZE)], {}, r"\(batch, length, 8\)"),
        ([(N, SIZE), (M, SIZE), (N, SIZE)], {}, "of one shape"),
        ([(1, N, SIZE)] * 3, {"attn_mask": ti.ones(N, M)}, "attn_mask.*not .3, 5."),
        ([(1, N, SIZE)] * 3, {"key_padding_mask": ti.ones(N, N)}, r"key_padding_mask.*\(1, 3\)"),
    ],
)
def test_wrong_shapes(net, shapes, options, said):
    with pytest.raises(ti.ShapeError, match=said):
        net(*map(ti.zeros, shapes), **options)


def test_heads_divide_the_size():
    with pytest.raises(ti.ArgumentError, match="3 heads must divide embed_dim 8"):
        nn.MultiheadAttention(8, 3)
