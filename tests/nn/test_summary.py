"""What a summary counts, against arithmetic by hand."""

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer import nn


def lenet():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def test_lenet():
    summary = lenet().summary((1, 1, 32, 32))
    assert summary.parameters == summary.trainable == 61_706
    assert summary.macs == 416_520
    assert summary.bytes == 4 * 61_706
    macs = {row.name: row.macs for row in summary.rows if row.macs}
    conv1, conv2 = 6 * 25 * 28 * 28, 16 * 150 * 10 * 10
    assert macs == {"0": conv1, "3": conv2, "7": 400 * 120, "9": 120 * 84, "11": 840}
    assert summary.rows[3] == ("3", "Conv2d", (1, 16, 10, 10), 2_416, 240_000)
    assert summary.rows[6].output == (1, 400)


def test_the_table():
    model = nn.Sequential({"flat": nn.Flatten(), "fc": nn.Linear(784, 1000, bias=False)})
    model["fc"].requires_grad_(False)
    assert (
        str(model.summary((2, 28, 28)))
        == """\
layer  type     output    parameters       MACs
-----------------------------------------------
flat   Flatten  2 x 784            0          0
fc     Linear   2 x 1000     784,000  1,568,000
-----------------------------------------------
total                        784,000  1,568,000
3,136,000 bytes, 784,000 parameters frozen"""
    )


@pytest.mark.parametrize("training", [True, False])
def test_the_model_stays_as_it_is(training):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).train(training)
    before, key = model.state_dict(), ti.ops.default_key.numpy()
    summary = model.summary(ti.ones(2, 3, 8, 8))
    assert summary.macs == 2 * 4 * 27 * 36
    assert summary.parameters == 4 * 27 + 4 + 8 and summary.bytes == 4 * (120 + 8)
    assert [row.output for row in summary.rows] == [(2, 4, 6, 6)] * 3
    assert all(np.array_equal(before[k], x) for k, x in model.state_dict().items())
    assert np.array_equal(ti.ops.default_key.numpy(), key)
    assert not any(m._hooks for m in model.modules())
    assert model.training is training


class Tied(nn.Module):
    """A layer used twice, a parameter held twice, and a product of its own."""

    def __init__(self):
        self.words = nn.Embedding(10, 4)
        self.layer = nn.Linear(4, 4)
        self.again = [self.layer]
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.words.weight
        self.unused = nn.Linear(2, 3)

    def forward(self, tokens):
        x = self.words(tokens)
        for layer in (self.layer, *self.again):
            x = layer(x)
        return self.head(x @ x.mT @ x)


def test_what_is_shared_counts_once_as_parameters_and_every_time_as_work():
    summary = Tied().summary(ti.tensor([[1, 2, 3]]))
    assert summary.parameters == 40 + 20 + 9
    rows = {row.name: row for row in summary.rows}
    assert [*rows] == ["", "words", "layer", "head", "unused"]
    assert rows[""].macs == 2 * 3 * 3 * 4 and rows[""].parameters == 0
    assert rows["layer"].macs == 2 * 3 * 16 and rows["layer"].parameters == 20
    assert rows["head"].macs == 3 * 40 and rows["head"].parameters == 0
    assert rows["unused"].output is None and rows["unused"].parameters == 9
    assert "never called" in str(summary)


def test_a_loop_counts_for_every_turn():
    time, batch, size, hidden = 7, 2, 3, 5
    summary = nn.LSTM(size, hidden).summary((time, batch, size))
    assert summary.macs == time * batch * 4 * hidden * (size + hidden)
    assert summary.rows[0].output == (time, batch, hidden)


def test_a_wrong_shape_is_the_layers_error():
    model = lenet()
    with pytest.raises(ti.ShapeError, match=r"Conv2d\(1, 6, 5\)"):
        model.summary((1, 3, 32, 32))
    assert not any(m._hooks for m in model.modules())


def test_a_shape_is_a_tuple():
    with pytest.raises(ti.ArgumentError, match=r"summary\(\(1, 1, 28, 28\)\)"):
        lenet().summary(1, 1, 32, 32)
