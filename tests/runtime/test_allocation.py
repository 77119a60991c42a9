"""In the steady state a call makes no array; and no array that somebody holds is written to.

NumPy's functions look at so many numbers of each operand in buffers of their own, which are no arrays,
but are counted too: here these are made as small as they can be.
"""

import gc
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from lenet import batches, make

import tinyinfer as ti
from tinyinfer import nn, optim, train
from tinyinfer.core.op import Op
from tinyinfer.core.tensor import Tensor

MODELS = Path(__file__).parents[2] / "models"
KB = 1024
ARRAYS = [tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)]


@pytest.fixture(autouse=True)
def small_buffers():
    before = np.setbufsize(16)
    yield
    np.setbufsize(before)


def numbers(*shape):
    return np.random.RandomState(sum(shape)).standard_normal(shape).astype("float32")


def steady(call, calls=10) -> tuple[list, int]:
    """(the arrays that have become more or fewer after so many calls, what one call needs for a
    moment: bytes of anything)."""
    for _ in range(5):
        call()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        call(), call()
        before = tracemalloc.take_snapshot().filter_traces(ARRAYS)
        for _ in range(calls):
            call()
        after = tracemalloc.take_snapshot().filter_traces(ARRAYS)
        peaks = [peak(call) for _ in range(3)]
    finally:
        tracemalloc.stop()
        gc.enable()
    more = [d for d in after.compare_to(before, "lineno") if d.size_diff or d.count_diff]
    return more, min(peaks)


def peak(call) -> int:
    tracemalloc.reset_peak()
    start, _ = tracemalloc.get_traced_memory()
    call()
    return tracemalloc.get_traced_memory()[1] - start


def inference(name, batch, **options):
    file = train.modelfile.load(MODELS / f"{name}.py")
    model = ti.compile(file.build().eval(), **options)
    x = ti.tensor(numbers(batch, *file.input_shape))

    def call():
        with ti.no_grad():
            model(x)

    return call


def training(name, batch, **options):
    file = train.modelfile.load(MODELS / f"{name}.py")
    x, labels = ti.tensor(numbers(batch, *file.input_shape)), ti.tensor(np.arange(batch) % 10)
    step = training_step(file.build(), **options)[1]
    return lambda: step(x, labels)


def training_all(batch, **options):
    """Of LeNet with batch norm and dropout."""
    step = ti.compile(make()[2], **options)
    x, labels = map(ti.tensor, batches(1, batch)[0])
    return lambda: step(x, labels)


def training_step(model, **options):
    opt = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    @ti.compile(**options)
    def step(x, labels):
        opt.zero_grad()
        loss = ti.cross_entropy(model(x), labels)
        loss.backward()
        opt.step()
        return loss

    return opt, step


WAYS = [{}, {"threads": 2}, {"order": "breadth"}, {"memory": "naive"}]


@pytest.mark.parametrize("options", WAYS, ids=str)
@pytest.mark.parametrize("call, room", [
    (partial(inference, "mlp"), 16), (partial(training, "mlp"), 32), (partial(inference, "lenet"), 16),
    (partial(training, "lenet"), 48), (training_all, 48),
])  # fmt: skip
def test_no_array_is_made(call, room, options):
    """`room` KB is for Python: the hidden layer of the MLP, of 64 images, takes 64 KB, and what
    learns in LeNet 240 KB. It does not become more with the images, as an array of them would (what
    threads have to tell each other differs from call to call)."""
    more, needed = steady(call(64, **options))
    assert not more and needed < room * KB
    more, again = steady(call(256, **options))
    assert not more and again < needed + (16 if "threads" in options else 1) * KB


class Wasteful(Op):
    """y = x, by a copy"""

    infer = lambda self, x: x
    forward = lambda self, x: x.copy()


def test_an_array_that_is_made_is_seen():
    x = ti.tensor(numbers(64, 16))
    call = lambda fn: (f := ti.compile(fn), lambda: f(x))[1]
    assert steady(call(lambda x: x * 2 + 1))[1] < 4 * KB
    assert steady(call(lambda x: Wasteful()(x * 2) + 1))[1] >= 4 * KB
    kept, f = [], ti.compile(lambda x: x * 2)
    [more], _ = steady(lambda: kept.append(f(x)))
    assert more.count_diff == 10 and more.size_diff == 10 * 64 * 16 * 4


# Results


def place(x) -> int:
    """Where in memory its numbers begin."""
    return x.node.value.ctypes.data


@pytest.mark.parametrize("threads", [1, 2])
def test_results_take_turns(threads):
    f, x = ti.compile(lambda x: (x * 2, x.sum()), threads=threads), ti.tensor(numbers(8, 8))
    places = set()
    for _ in range(10):
        y, s = f(x)
        places.add((place(y), place(s)))
    assert len(places) <= 2


HOLD = {
    "node": lambda y: y.node,
    "array": lambda y: y.numpy(),
    "row": lambda y: y.numpy()[1:],
    "view": lambda y: y[:, 1:].T[0],
    "detached": lambda y: y.detach(),
    "state": lambda y: (s := ti.State(np.zeros(y.shape, "float32"))).assign(y) or s,
    "buffer": lambda y: memoryview(y.numpy()),
}


def look(held):
    return np.array(getattr(held, "value", held))


@pytest.mark.parametrize("backend", ["planned", "interpreted"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("hold", [lambda y: y, *HOLD.values()], ids=["tensor", *HOLD])
def test_a_result_that_is_held_does_not_change(hold, threads, backend):
    f = ti.compile(lambda x: [ti.relu(x @ x) - 1, x + 1, x], backend, threads=threads)
    held, was = [], []
    for i in range(12):
        ys = f(ti.tensor(numbers(3, 3) * i))
        if i % 2 == 0:
            held += [hold(y) for y in ys]
            was += [look(x).copy() for x in held[-3:]]
    del ys
    for i in range(5):
        f(ti.ones(3, 3) * i)
    assert all(map(np.array_equal, map(look, held), was))


def test_a_result_that_is_held_by_a_tape_does_not_change():
    f, w = ti.compile(lambda x: x * x), ti.tensor([2.0], requires_grad=True)
    with ti.no_grad():
        y = f(w)
        loss = None
    with_tape = (w * y).sum()
    del y
    for i in range(5):
        f(ti.tensor([float(i)]))
    with_tape.backward()
    assert loss is None and w.grad.item() == 4


def test_a_result_may_be_the_next_argument():
    f, x = ti.compile(lambda x: x * 2 + x.flip(0)), ti.tensor([1.0, 2.0])
    wanted = x
    for _ in range(10):
        x, wanted = f(x), f.fn(wanted)
        assert x.tolist() == wanted.tolist()


# States


class Plain(nn.Module):
    def __init__(self):
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(x)


@pytest.fixture(params=[1, 2])
def trained(request):
    """(model, optimizer, one step)"""
    ti.manual_seed(0)
    model = Plain()
    opt, step = training_step(model, threads=request.param)
    x, labels = ti.tensor(numbers(6, 4)), ti.tensor([0, 1, 2, 0, 1, 2])
    step(x, labels), step(x, labels)
    return model, opt, lambda labels=labels: step(x, labels)


def states(model, opt):
    return [*model.states(), *opt.states()]


def test_a_step_changes_its_states_in_place(trained):
    model, opt, step = trained
    all_states = [s for s in states(model, opt) if not (s.name or "").startswith("lr")]
    assert len(all_states) == 4
    places, values = [*map(place, all_states)], [s.tolist() for s in all_states]
    for _ in range(3):
        step()
    assert [*map(place, all_states)] == places
    assert all(s.tolist() != x for s, x in zip(all_states, values))


HOLD_STATE = HOLD | {
    "symbol": lambda w: Tensor(w.node),
    "tape": lambda w: (w * 2).node.inputs[0],
}


@pytest.mark.parametrize("hold", HOLD_STATE.values(), ids=HOLD_STATE)
def test_what_was_recorded_of_a_state_does_not_change(trained, hold):
    model, opt, step = trained
    w = model.fc.weight
    before, held = place(w), hold(w)
    was, w_was = look(held).copy(), w.tolist()
    step()
    assert np.array_equal(look(held), was) and w.tolist() != w_was
    step()
    assert np.array_equal(look(held), was) and place(w) != before


def test_a_copy_is_made_once(trained):
    model, opt, step = trained
    w = model.fc.weight
    held, before = w.numpy(), place(w)
    step()
    copied = place(w)
    assert copied != before == held.ctypes.data
    step()
    assert place(w) == copied


def test_states_that_share_an_array(trained):
    model, opt, step = trained
    w, other = model.fc.weight, ti.State(np.zeros((3, 4), "float32"))
    other.assign(w)
    assert place(other) == place(w)
    was = other.tolist()
    step()
    assert other.tolist() == was != w.tolist()


def test_two_states_that_share_an_array_both_change():
    a, b = ti.State(np.zeros(3, "float32")), ti.State(np.ones(3, "float32"))

    @ti.compile
    def step(x):
        a.assign(a + x)
        b.assign(b - x)

    b.assign(a)
    for _ in range(3):
        step(ti.ones(3))
    assert a.tolist() == [3] * 3 and b.tolist() == [-3] * 3


def test_states_may_change_places():
    a, b = ti.State(np.zeros(3, "float32")), ti.State(np.ones(3, "float32"))

    @ti.compile
    def swap():
        x = a * 1
        a.assign(b)
        b.assign(x)
        return a + b * 2

    for i in range(6):
        assert swap().tolist() == [1 + i % 2] * 3
        assert a.tolist() == [1 - i % 2] * 3 and b.tolist() == [i % 2] * 3
    places = place(a), place(b)
    swap()
    assert (place(a), place(b)) == places


def test_a_state_is_an_argument_of_the_step_that_changes_it():
    w = ti.State(np.ones(3, "float32"))

    @ti.compile
    def step(x):
        w.assign(w * 2)
        return x + w

    assert step(w).tolist() == [3] * 3 and step(w).tolist() == [6] * 3


def test_a_state_given_anew(trained):
    """The step goes on from where the State is, and does not touch what it was given."""
    model, opt, step = trained
    again = Plain()
    again.load_state_dict(model.state_dict())
    given = ti.tensor(numbers(3, 4))
    was = given.tolist()
    model.fc.weight.assign(given)
    step()
    assert given.tolist() == was != model.fc.weight.tolist()
    saved = model.state_dict()
    kept = {name: np.array(x) for name, x in saved.items()}
    step()
    assert all(np.array_equal(saved[name], kept[name]) for name in kept)
    model.load_state_dict(saved)
    step()
    assert all(np.array_equal(saved[name], kept[name]) for name in kept)


def test_a_step_that_fails_changes_nothing(trained):
    model, opt, step = trained
    before = [s.numpy().copy() for s in states(model, opt)]
    for _ in range(3):
        with pytest.raises(ti.RangeError, match="label|index"):
            step(ti.tensor([0, 1, 2, 0, 1, 3]))
        assert all(map(np.array_equal, before, (s.numpy() for s in states(model, opt))))
    step()
    assert not np.array_equal(before[0], model.fc.weight.numpy())


class Net(nn.Module):
    def __init__(self):
        self.conv, self.norm = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)
        self.fc = nn.Linear(12, 3)

    def forward(self, x):
        return self.fc(ti.relu(self.norm(self.conv(x))).flatten(1))


@pytest.mark.parametrize("threads", [1, 2])
def test_two_compiled_functions_share_their_states(threads):
    """What the one folded from weights follows what the other makes of them."""
    ti.manual_seed(0)
    model = Net()
    x, labels = ti.tensor(numbers(6, 1, 4, 4)), ti.tensor([0, 1, 2, 0, 1, 2])
    opt, step = training_step(model, threads=threads)
    compiled, seen = ti.compile(model, threads=threads), []
    for _ in range(5):
        step(x, labels)
        model.eval()
        with ti.no_grad():
            seen.append(compiled(x).numpy())
            assert np.allclose(seen[-1], model(x).numpy(), atol=1e-5)
        assert compiled.last.prologue.steps
        model.train()
    assert len({y.tobytes() for y in seen}) == 5


def test_values_for_evaluation_are_computed_once_for_the_same_states():
    model = Net().eval()
    compiled, x = ti.compile(model), ti.tensor(numbers(2, 1, 4, 4))
    with ti.no_grad():
        compiled(x)
        ready = compiled.last.from_states()
        compiled(x)
        assert compiled.last.from_states() is ready
        model.conv.weight.assign(model.conv.weight * 2)
        assert compiled.last.from_states() is not ready
