"""Who decides how many threads a product of matrices takes."""

import numpy as np
import pytest
import small_run as small
from threadpoolctl import threadpool_info, threadpool_limits

import tinyinfer as ti
from tinyinfer.kernels import threads
from tinyinfer.train import evaluate, fit


def now() -> set:
    return {
        library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"
    }


@pytest.fixture(autouse=True)
def three(monkeypatch):
    """Before each test NumPy takes three, which nobody asked for."""
    monkeypatch.setattr(threads, "chosen", threads.chosen)
    with threadpool_limits(3, "blas"):
        yield


def while_training() -> set:
    seen = set()
    fit(small.run(), watch=lambda run: seen.update(now()))
    return seen


def while_evaluating() -> set:
    run, seen = small.run(), set()
    run.model.register_forward_hook(lambda *_: seen.update(now()))
    evaluate(run.model, run.testing)
    return seen


@pytest.mark.parametrize("seen", [while_training, while_evaluating])
def test_one_unless_it_was_chosen(seen):
    assert now() == {3}
    assert seen() == {1} and now() == {3}
    ti.set_num_threads(2)
    assert now() == {2}
    assert seen() == {2} and now() == {2}


@pytest.mark.parametrize("n", [0, -1, 1.5, "2", None, True])
def test_a_number_of_threads_is_a_whole_number(n):
    with pytest.raises(ti.ArgumentError, match="set_num_threads: a whole number from 1 on, not"):
        ti.set_num_threads(n)
    assert now() == {3} and while_evaluating() == {1}


def test_numbers_of_numpy_are_numbers():
    ti.set_num_threads(np.int64(2))
    assert now() == {2}
