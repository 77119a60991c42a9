"""What goes into models/weights. The table itself takes long, and the weights have tests
of their own."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer.nn import file
from tinyinfer.reproduce import mnist

ABOUT = {"mean": "[0.5]"}


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """The folders of finished runs, with weights of 4 bytes, or of a little over a megabyte."""
    monkeypatch.chdir(tmp_path)
    Path("models").mkdir()
    for name in mnist.PUBLISHED:
        folder = Path("runs", "reproduce-mnist", f"{name}-0")
        folder.mkdir(parents=True)
        size = 250_001 if name == "mlp" else 1
        weights = {"w": np.full(size, 0.1, np.float32)}
        file.save(weights, folder / "model.safetensors", ABOUT)


def test_large_weights_are_shipped_in_half_precision(runs):
    subprocess.run([sys.executable, "-m", "tinyinfer.reproduce.mnist"], check=True)
    for name in mnist.PUBLISHED:
        weights, about = file.read(Path("models", "weights", f"{name}.safetensors"))
        assert weights["w"].dtype == ("float16" if name == "mlp" else "float32") and about == ABOUT
        np.testing.assert_allclose(weights["w"].numpy(), 0.1, rtol=1e-3)


def test_all_runs_have_to_be_finished(runs):
    Path("runs", "reproduce-mnist", "lenet-0", "model.safetensors").unlink()
    with pytest.raises(ti.LoadError, match="lenet-0/model.safetensors: there is no such file"):
        mnist.ship()
