"""First values by PyTorch's documented formulas, each layer as its function, and wrong inputs."""

import math

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer import nn
from tinyinfer.nn import functional as F


def rand(*shape):
    return ti.tensor(np.random.RandomState(0).standard_normal(shape).astype(np.float32))


# First values


def is_uniform(x, bound):
    x = x.numpy()
    assert x.dtype == np.float32
    assert 0.98 * bound < np.abs(x).max() <= bound
    assert x.mean() == pytest.approx(0, abs=bound / 20)
    assert x.var() == pytest.approx(bound**2 / 3, rel=0.05)


@pytest.mark.parametrize(
    "make, fan_in",
    [
        (lambda: nn.Linear(300, 4000), 300),
        (lambda: nn.Conv1d(32, 4000, 5), 32 * 5),
        (lambda: nn.Conv2d(32, 4000, (3, 5)), 32 * 15),
        (lambda: nn.Conv2d(32, 4000, 3, groups=4), 8 * 9),
        # of a transposed convolution PyTorch counts the second size of the weight: the outputs
        (lambda: nn.ConvTranspose2d(10, 2000, 3), 2000 * 9),
        (lambda: nn.ConvTranspose2d(8, 2000, 3, groups=4), 500 * 9),
    ],
    ids=[
        "Linear",
        "Conv1d",
        "Conv2d",
        "Conv2d groups",
        "ConvTranspose2d",
        "ConvTranspose2d groups",
    ],
)
def test_products_start_evenly_up_to_one_by_root_fan_in(make, fan_in):
    ti.manual_seed(0)
    layer = make()
    is_uniform(layer.weight, fan_in**-0.5)
    is_uniform(layer.bias, fan_in**-0.5)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_recurrent_nets_start_by_their_hidden_size(kind):
    ti.manual_seed(0)
    net = kind(10, 400, num_layers=2, bidirectional=True)
    for p in net.parameters():
        if p.size > 1000:
            is_uniform(p, 400**-0.5)
        assert np.abs(p.numpy()).max() <= 400**-0.5


def test_the_others():
    ti.manual_seed(0)
    words = nn.Embedding(500, 40).weight.numpy()
    assert words.mean() == pytest.approx(0, abs=0.03) and words.var() == pytest.approx(1, rel=0.03)
    for norm in (nn.BatchNorm1d(3), nn.BatchNorm2d(3), nn.LayerNorm(3)):
        assert (norm.weight.numpy() == 1).all() and (norm.bias.numpy() == 0).all()
    batch = nn.BatchNorm2d(3)
    assert (batch.running_mean.numpy() == 0).all() and (batch.running_var.numpy() == 1).all()


def test_init():
    ti.manual_seed(0)
    is_uniform(ti.tensor(nn.init.kaiming_uniform((400, 30, 3))), math.sqrt(6 / 90))
    is_uniform(ti.tensor(nn.init.xavier_uniform((400, 30, 3))), math.sqrt(6 / (90 + 1200)))
    assert nn.init.normal((400, 30), 0.5).std() == pytest.approx(0.5, rel=0.02)


def test_the_same_seed_gives_the_same_layer():
    def make():
        ti.manual_seed(7)
        return nn.Linear(3, 4)

    a, b = make(), make()
    assert np.array_equal(a.weight.numpy(), b.weight.numpy())
    assert not np.array_equal(a.weight.numpy(), nn.Linear(3, 4).weight.numpy())


# Layers are their functions

x4, x3, x2 = rand(2, 4, 9, 9), rand(2, 4, 9), rand(6, 4)
CASES = [
    (nn.Linear(4, 3), x2, lambda m, x: F.linear(x, m.weight, m.bias)),
    (nn.Linear(9, 3, bias=False), x4, lambda m, x: x @ m.weight.T),
    (nn.Conv1d(4, 6, 3, 2, 1), x3, lambda m, x: F.conv1d(x, m.weight, m.bias, 2, 1)),
    (
        nn.Conv2d(4, 6, 3, 2, 1, 2, 2),
        x4,
        lambda m, x: F.conv2d(x, m.weight, m.bias, 2, 1, 2, 2),
    ),
    (
        nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, 2),
        x4,
        lambda m, x: F.conv_transpose2d(x, m.weight, m.bias, 2, 1, 1, 2),
    ),
    (nn.LayerNorm((9, 9)), x4, lambda m, x: F.layer_norm(x, (9, 9), m.weight, m.bias)),
    (nn.LayerNorm(9, elementwise_affine=False), x4, lambda m, x: F.layer_norm(x, 9)),
    (nn.MaxPool2d(3, stride=2, padding=1), x4, lambda m, x: F.max_pool2d(x, 3, 2, 1)),
    (nn.AvgPool2d(2), x4, lambda m, x: F.avg_pool2d(x, 2)),
    (nn.AdaptiveAvgPool2d(1), x4, lambda m, x: x.mean((2, 3), keepdim=True)),
    (nn.AdaptiveMaxPool2d((1, 1)), x4, lambda m, x: x.max((2, 3), keepdim=True)),
    (nn.Flatten(), x4, lambda m, x: x.reshape(2, -1)),
    (nn.LeakyReLU(0.2), x2, lambda m, x: F.leaky_relu(x, 0.2)),
    (nn.Softmax(dim=0), x2, lambda m, x: F.softmax(x, 0)),
    (nn.Dropout(0.5).eval(), x2, lambda m, x: x),
    (nn.Identity(), x2, lambda m, x: x),
]


@pytest.mark.parametrize("layer, x, formula", CASES, ids=[repr(c[0]) for c in CASES])
def test_a_layer_is_its_function(layer, x, formula):
    np.testing.assert_allclose(layer(x).numpy(), formula(layer, x).numpy(), atol=1e-6)


def test_losses_take_two_tensors():
    logits, labels = rand(4, 3), ti.tensor([0, 2, 1, 1])
    loss = nn.CrossEntropyLoss(reduction="sum", label_smoothing=0.1)
    assert loss(logits, labels).item() == F.cross_entropy(logits, labels, "sum", 0.1).item()
    assert nn.MSELoss()(logits, logits).item() == 0


def test_dropout_in_training():
    ti.manual_seed(0)
    y = nn.Dropout(0.25)(ti.ones(10_000)).numpy()
    assert {*np.unique(y)} == {np.float32(0), np.float32(1 / 0.75)}
    assert (y == 0).mean() == pytest.approx(0.25, abs=0.02)


def test_batch_norm_in_training_and_in_use():
    norm, x = nn.BatchNorm2d(4, momentum=0.25), rand(5, 4, 3, 3)
    y = norm(x).numpy()
    np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(y.var((0, 2, 3)), 1, atol=1e-4)
    mean, var = x.numpy().mean((0, 2, 3)), x.numpy().var((0, 2, 3), ddof=1)
    np.testing.assert_allclose(norm.running_mean.numpy(), 0.25 * mean, rtol=1e-5)
    np.testing.assert_allclose(norm.running_var.numpy(), 0.75 + 0.25 * var, rtol=1e-5)
    norm.eval()
    kept = norm.state_dict()
    wanted = (x - kept["running_mean"].reshape(4, 1, 1)) / ti.sqrt(
        kept["running_var"].reshape(4, 1, 1) + norm.eps
    )
    np.testing.assert_allclose(norm(x).numpy(), wanted.numpy(), rtol=1e-4, atol=1e-6)
    assert np.array_equal(kept["running_mean"].numpy(), norm.running_mean.numpy())


@pytest.mark.parametrize("size, dilation", [(3, 1), (5, 1), ((1, 7), 1), (3, 2), (2, 2)])
def test_same_padding_keeps_the_size(size, dilation):
    layer = nn.Conv2d(4, 6, size, padding="same", dilation=dilation)
    assert layer(x4).shape == (2, 6, 9, 9)
    assert repr(layer).startswith("Conv2d(4, 6, ")


def test_same_padding_of_one_dimension():
    assert nn.Conv1d(4, 6, 5, padding="same")(x3).shape == (2, 6, 9)


# Mistakes


@pytest.mark.parametrize(
    "layer, x, said",
    [
        (
            nn.Linear(324, 3),
            x4,
            r"Linear\(324, 3\): .*\(2, 4, 9, 9\); .*\(3, 324\), wants 324 .*x.flatten\(1\)$",
        ),
        (
            nn.Linear(5, 3),
            x2,
            r"Linear\(5, 3\): .*\(6, 4\); the weight, \(3, 5\), wants 5 as its last size$",
        ),
        (nn.Linear(1, 3), ti.ones(), r"Linear\(1, 3\): .*x is \(\);"),
        (
            nn.Conv2d(3, 6, 3),
            x4,
            r"Conv2d\(3, 6, 3\): .*channels differ: input \(2, 4, 9, 9\), weight \(6, 3, 3, 3\)",
        ),
        (nn.Conv2d(1, 6, 3), x3, r"Without channels: x.unsqueeze\(1\)"),
        (nn.Conv2d(2, 6, 3), x3, r"One image alone: x.unsqueeze\(0\)"),
        (nn.Conv2d(4, 6, 10), x4, "does not fit into an image of 9 x 9"),
        (
            nn.Conv1d(4, 6, 3),
            x4,
            r"Conv1d\(4, 6, 3\): .*\(2, 4, 9, 9\) and .*\(6, 4, 3\) must be \(batch, channels, time\)",
        ),
        (
            nn.ConvTranspose2d(3, 6, 3),
            x4,
            r"ConvTranspose2d\(3, 6, 3\): .*\(2, 4, 9, 9\), .*\(3, 6, 3, 3\): the first size",
        ),
        (
            nn.BatchNorm2d(4),
            x3,
            r"BatchNorm2d\(4\): .*\(batch, 4, rows, columns\), not \(2, 4, 9\)",
        ),
        (nn.BatchNorm1d(5), x3, r"BatchNorm1d\(5\): .*\(batch, 5\) or \(batch, 5, time\)"),
        (
            nn.LayerNorm((9, 8)),
            x4,
            r"LayerNorm\(\(9, 8\)\): .*\(2, 4, 9, 9\) does not end in \(9, 8\)",
        ),
        (nn.MaxPool2d(2), x3, "max_pool2d"),
        (nn.MSELoss(), (x2, x3), "differ in shape"),
    ],
    ids=lambda x: repr(x) if isinstance(x, nn.Module) else "",
)
@pytest.mark.parametrize("traced", [False, True], ids=["eager", "traced"])
def test_a_wrong_shape_names_the_layer(layer, x, said, traced):
    inputs = x if isinstance(x, tuple) else (x,)
    with pytest.raises(ti.ShapeError, match=said):
        ti.trace(layer, *inputs) if traced else layer(*inputs)


def test_words_are_known_integers():
    words = nn.Embedding(10, 3)
    with pytest.raises(ti.DTypeError, match=r"Embedding\(10, 3\): .*of integers, not a float32"):
        words(x2)
    with pytest.raises(ti.RangeError, match="there is no 10 among the 10"):
        words(ti.tensor([[1, 10]]))


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: nn.Conv2d(4, 6, 3, groups=4), "groups 4 must divide 4 and 6"),
        (lambda: nn.Conv2d(4, 6, 3, groups=0), "groups: a whole number from 1 on, not 0"),
        (lambda: nn.Conv2d(4, 6, 3, stride=2, padding="same"), "stride 1.*not for stride 2"),
        (lambda: nn.Conv2d(4, 6, 4, padding="same"), r"odd kernel.*kernel \(4, 4\)"),
        (lambda: nn.Conv2d(4, 6, 3, padding="valid")(x4), "padding"),
        (lambda: nn.Conv2d(4, 6, 3, stride=0)(x4), "stride"),
        (lambda: nn.Dropout(1.0), r"Dropout p: a number in \[0, 1\), not 1.0"),
        (lambda: nn.MultiheadAttention(4, 2, dropout=-0.1), "dropout: a number in"),
        (lambda: nn.Linear(0, 3), "Linear in_features: a whole number from 1 on, not 0"),
        (lambda: nn.Linear(-1, 3), "Linear in_features: a whole number from 1 on, not -1"),
        (lambda: nn.Linear(3, 2.0), "Linear out_features: a whole number from 1 on, not 2.0"),
        (lambda: nn.Conv2d(3, 4, 0), "Conv2d kernel_size: a whole number from 1 on, not 0"),
        (lambda: nn.Conv1d("3", 4, 1), "Conv1d in_channels: a whole number from 1 on, not '3'"),
        (lambda: nn.ConvTranspose2d(3, 0, 1), "ConvTranspose2d out_channels: .*, not 0"),
        (lambda: nn.BatchNorm1d(-1), "BatchNorm1d num_features: .*, not -1"),
        (lambda: nn.Embedding(0, 3), "Embedding num_embeddings: .*, not 0"),
        (lambda: nn.Embedding(3, -3), "Embedding embedding_dim: .*, not -3"),
        (lambda: nn.MultiheadAttention(0, 1), "embed_dim: a whole number from 1 on, not 0"),
        (lambda: nn.MultiheadAttention(4, 0), "num_heads: a whole number from 1 on, not 0"),
        (lambda: nn.CrossEntropyLoss(reduction="avg")(x2, ti.tensor([0] * 6)), "reduction"),
    ],
)
def test_wrong_options(make, said):
    with pytest.raises(ti.ArgumentError, match=said):
        make()
