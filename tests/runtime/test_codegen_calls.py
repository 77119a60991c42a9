"""A generated function is called: from several threads, with any arrays, with steps that Python does."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer import nn, optim
from tinyinfer.core.op import Op

RNG = np.random.RandomState(0)


def numbers(*shape):
    return RNG.standard_normal(shape).astype("f4")


W = ti.tensor(numbers(64, 64))


def fast(fn, **options):
    return ti.compile(fn, kernels="fast", **options)


def at_once(fn, callers=4):
    """[fn(0), fn(1), ...] of threads that begin together."""
    start = threading.Barrier(callers)

    def run(i):
        start.wait(30)
        return fn(i)

    with ThreadPoolExecutor(callers) as pool:
        return [*pool.map(run, range(callers), timeout=120)]


class Doing(Op):
    """y = 2 x, and `fn(x)` besides"""

    fn: object
    infer = lambda self, x: x

    def forward(self, x):
        self.fn(x)
        return 2 * x


# ---- threads ---------------------------------------------------------------------------------------


def layers(x):
    return ti.tanh(ti.relu(x @ W) @ W), x.sum()


def with_python(x):
    x = Doing(lambda x: None)(x @ W)
    return ti.tanh(x), x.sum()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("fn", [layers, with_python])
def test_each_thread_gets_its_own_results(fn, threads):
    run, inputs = fast(fn, threads=threads), [ti.tensor(numbers(96, 64)) for _ in range(4)]

    def bits(i):
        return [y.numpy().tobytes() for y in run(inputs[i])]

    wanted = [bits(i) for i in range(4)]
    assert at_once(lambda i: all(bits(i) == wanted[i] for _ in range(250))) == [True] * 4
    assert ("python(callback, " in run.source) == (fn is with_python)


def test_parts_of_kernels_in_threads_and_several_callers():
    w = ti.tensor(numbers(512, 512))
    run, inputs = (
        fast(lambda x: ti.relu(x @ w) @ w, threads=2),
        [numbers(64, 512) for _ in range(3)],
    )
    bits = lambda i: run(ti.tensor(inputs[i])).numpy().tobytes()
    wanted = [bits(i) for i in range(3)]
    assert ".in_parts(" in run.source
    assert at_once(lambda i: all(bits(i) == wanted[i] for _ in range(50)), 3) == [True] * 3


def test_first_calls_at_once():
    run = fast(lambda x: ti.exp(x) * 3 - x)
    found = at_once(lambda i: run(ti.full((5,), float(i), "float32")).numpy())
    assert all(np.allclose(y, np.exp(i) * 3 - i) for i, y in enumerate(found))


@pytest.mark.parametrize("threads", [1, 2])
def test_steps_that_train_take_turns(threads):
    """As many as were called, each from where the one before came to."""
    total, rate = ti.State(np.zeros(3, "f4")), ti.State(np.float32(0))

    def step(x):
        rate.assign(rate + 1.0)
        total.assign(total + x * 2.0)
        return rate + total.sum() * 0.0

    run = fast(step, threads=threads)
    found = at_once(lambda i: [run(ti.ones(3)).item() for _ in range(200)])
    assert sorted(x for seen in found for x in seen) == [*range(1, 801)]
    assert total.tolist() == [1600] * 3 and rate.item() == 800


def test_training_by_two_threads():
    ti.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 5))
    opt = optim.Adam(model.parameters(), lr=0.01)
    x, labels = ti.tensor(numbers(16, 64)), ti.tensor(RNG.randint(0, 5, 16))

    def step(x, labels):
        opt.zero_grad()
        loss = ti.cross_entropy(model(x), labels)
        loss.backward()
        opt.step()
        return loss

    states = [*model.states(), *opt.states()]
    before = [s.numpy().copy() for s in states]

    def trained(callers):
        for s, value in zip(states, before):
            s.assign(value)
        run = fast(step)
        losses = at_once(lambda i: [run(x, labels).item() for _ in range(200 // callers)], callers)
        return sorted(sum(losses, [])), [s.numpy().tobytes() for s in states]

    assert trained(1) == trained(2)


# ---- arrays ----------------------------------------------------------------------------------------


def unaligned(x):
    return np.frombuffer(b"." + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape)


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


LIES = {
    "transposed": lambda x: x.T.copy().T,
    "with gaps": lambda x: np.repeat(x, 2, 1)[:, ::2],
    "backwards": lambda x: x[::-1].copy()[::-1],
    "rows again": lambda x: np.broadcast_to(x[:1], x.shape),
    "read only": read_only,
    "unaligned": unaligned,
}


@pytest.mark.parametrize("lies", LIES.values(), ids=LIES)
def test_inputs_may_lie_anyhow(lies):
    fn = lambda x: (ti.relu(x) @ W, x.sum(-1), ti.softmax(x), x.reshape(-1)[::2] * 2, x)
    run, w = fast(fn), ti.State(numbers(6, 64))
    state = fast(lambda x: ti.tanh(w @ W) + x[:, :1])
    for _ in range(2):
        x = lies(numbers(6, 64))
        before = x.copy()
        for got, wanted in zip(run(ti.tensor(x)), fn(ti.tensor(x)), strict=True):
            assert np.allclose(got.numpy(), wanted.numpy(), rtol=1e-5, atol=1e-5)
        w.assign(x)
        assert np.allclose(state(ti.tensor(x)).numpy(), state.fn(ti.tensor(x)).numpy(), 1e-5, 1e-5)
        assert np.array_equal(x, before)


@pytest.mark.parametrize("shape", [(0, 64), (1, 64), (3, 1, 64), (0, 2, 64)])
def test_few_numbers_or_none(shape):
    fn = lambda x: (ti.relu(x @ W + W[0]), ti.softmax(x) * 2, x.sum(), x.sum(0), ti.concat([x, x]))
    for got, wanted in zip(fast(fn)(x := ti.tensor(numbers(*shape))), fn(x), strict=True):
        assert got.shape == wanted.shape
        assert np.allclose(got.numpy(), wanted.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", "float64 float16 int64 int32 uint8 int8 bool".split())
def test_other_numbers(dtype):
    x = ti.tensor((RNG.uniform(size=(3, 4)) * 5).astype(dtype))
    number = lambda x: x if dtype == "bool" else x + x

    def fn(x):
        half = x.astype("float32") * 0.5
        kept = ti.where(x.astype("bool"), x, x)
        return number(x), half, kept, x.T, x[1:, ::2], ti.concat([x, x], 1), x == x

    for got, wanted in zip(fast(fn)(x), fn(x), strict=True):
        assert got.dtype == wanted.dtype and np.array_equal(got.numpy(), wanted.numpy())


def test_results_that_are_kept_stay_what_they_are():
    run, kept = fast(lambda x: (x * 2 + 1, x - 1)), []
    for i in range(10):
        y, z = run(ti.full((3,), float(i), "float32"))
        kept.append([y, y.numpy()[1:], memoryview(z.numpy()), z[::2]])
    for i, (y, part, view, some) in enumerate(kept):
        assert y.tolist() == [2 * i + 1] * 3 and part.tolist() == [2 * i + 1] * 2
        assert view.tolist() == [i - 1] * 3 and some.tolist() == [i - 1] * 2


def test_a_result_is_the_next_input():
    run, x = fast(lambda x: (x * 2 + 1, x - 1)), ti.zeros(3)
    for _ in range(6):
        x, _ = run(x)
    assert x.tolist() == [63] * 3


def test_a_state_that_is_the_input_too():
    w = ti.State(np.ones(4, "f4"))

    def step(x):
        w.assign(w * 2 + x)
        return x * 1.0, w * 1.0

    run, found = fast(step), []
    for _ in range(3):
        x, after = run(w)  # what it was before
        found.append((x.tolist()[0], after.tolist()[0]))
    array = np.ones(4, "f4")
    w.assign(array)
    x, after = run(array)
    assert found == [(1, 3), (3, 9), (9, 27)] and (array == 1).all()
    assert x.tolist() == [1] * 4 and after.tolist() == w.tolist() == [3] * 4


def test_states_that_change_places():
    a, b = ti.State(np.full(3, 1, "f4")), ti.State(np.full(3, 2, "f4"))

    def swap():
        x = ti.Tensor(a.node)
        a.assign(b)
        b.assign(x)

    run = fast(swap)
    for i in range(4):
        assert (a.tolist()[0], b.tolist()[0]) == ((1, 2) if i % 2 == 0 else (2, 1))
        run()


def test_very_different_batches():
    net, run = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3)), None
    run = fast(net)
    with ti.no_grad():
        for n in (1, 20_000, 3, 1, 20_000):
            x = ti.tensor(numbers(n, 6))
            assert np.allclose(run(x).numpy(), net(x).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, -0.0, 1e-45, 3e38])
def test_numbers_of_any_kind_in_the_source(number):
    """As of a mask: what is hidden becomes -inf."""
    fn = lambda x: ti.where(x > 0.0, x * 0.5, number) + ti.clip(x, -np.inf, 1.0)
    x = ti.tensor(numbers(3, 5))
    with np.errstate(all="ignore"):
        assert np.array_equal(fast(fn)(x).numpy(), fn(x).numpy(), equal_nan=True)


NAMES = "class run native arena constants float32 flag T0 inf nan result chain λ _".split()


@pytest.mark.parametrize("name", [*NAMES, "two words", "0.weight", 'a"""b\\', "very_" * 60, ""])
def test_names_of_any_kind(name):
    w = ti.State(numbers(3), name=name)

    def fn(x):
        return ti.tanh(x + w) * np.inf

    fn.__name__ = name
    assert fast(fn)(ti.ones(3)).shape == (3,)


# ---- steps that Python does ------------------------------------------------------------------------


def lines_of(source):
    return [line.strip() for line in source.splitlines() if "python(callback" in line]


def test_an_op_without_a_kernel_is_called_and_the_source_says_so():
    run = fast(lambda x: ti.tanh(Doing(lambda x: None)(x + 1)) * 2)
    x = numbers(5)
    assert np.allclose(run(ti.tensor(x)).numpy(), np.tanh(2 * (x + 1)) * 2, rtol=1e-5)
    assert lines_of(run.source) == ["python(callback, 1)  # there is only NumPy for it"]
    assert "# v1 = doing(v0)  (definition)" in run.source


def test_an_error_of_python_names_its_step():
    """And nothing is done after it; the next call is as if there was none."""
    wrong, after, x = [], [], ti.ones(2)

    def fail(x):
        if wrong:
            raise wrong[0]

    def fn(x):
        return Doing(after.append)(Doing(fail)(x + 1) * 3)

    run = fast(fn)
    wanted, done = run(x).tolist(), len(after)
    for error in (
        ValueError("no luck"),
        ti.RangeError("too far"),
        KeyboardInterrupt(),
        SystemExit(3),
    ):
        wrong[:] = [error]
        with pytest.raises(type(error)) as caught:
            run(x)
        said = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
        assert "doing(float32[2]) -> float32[2], at test_codegen_calls.py:" in said
        assert len(after) == done
        wrong.clear()
        assert run(x).tolist() == wanted
        done = len(after)


def test_a_label_that_is_no_class():
    run, x = fast(ti.cross_entropy), ti.zeros(2, 3)
    for _ in range(3):
        assert run(x, ti.tensor([0, 2])).item() == pytest.approx(np.log(3))
        with pytest.raises(ti.RangeError, match=r"3.* in %\d+ = index\(.*test_codegen_calls.py:"):
            run(x, ti.tensor([0, 3]))


def test_python_may_call_the_function_again():
    def again(x):
        if x[0] > 0:
            seen.append(run(ti.tensor(x - 1)).tolist()[0])

    seen = []
    run = fast(lambda x: Doing(again)(x + 0.0) * 3)
    assert run(ti.full((2,), 3.0, "float32")).tolist() == [18, 18] and seen == [0, 6, 12]


def test_np_errstate_is_that_of_the_caller():
    run, x = fast(lambda x: ti.sin(x) + 1), ti.tensor(np.float32([np.inf]))
    with np.errstate(all="ignore"):
        assert np.isnan(run(x).item())
    with np.errstate(all="raise"), pytest.raises(FloatingPointError, match="invalid value"):
        run(x)
