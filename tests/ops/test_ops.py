"""Whatever stands in the table of samples: in eager mode and in a trace, forwards and backwards."""

import re

import numpy as np
import pytest
from samples import ENTRIES, Entry, name

import tinyinfer as ti
from tinyinfer.core import op as heart
from tinyinfer.core.autograd import gradients
from tinyinfer.core.op import Op
from tinyinfer.core.spec import spec_of
from tinyinfer.testing import floating, slopes


def cases(entries, calls):
    """Each call of each entry, under a name that is the same in every process."""
    named = [(f"{name(e.of)}-{i}", e, c) for e in entries for i, c in enumerate(calls(e))]
    return pytest.mark.parametrize("entry, call", [n[1:] for n in named], ids=[n[0] for n in named])


def floats(xs):
    return [x for x in xs if x.dtype.kind == "f"]


every_call = cases(ENTRIES, lambda e: e.calls)
smooth_call = cases(
    [e for e in ENTRIES if e.smooth], lambda e: [c for c in e.calls if floats(c.arrays)]
)


def tensors(arrays):
    return [ti.tensor(x, requires_grad=x.dtype.kind == "f") for x in arrays]


def flat(ys):
    return [ys] if isinstance(ys, ti.Tensor | np.ndarray) else [*ys]


def same(a, b):
    """Bit for bit, the sign of zero and the kind of number included."""
    return spec_of(a) == spec_of(b) and a.tobytes() == b.tobytes()


def gradients_of(call):
    return lambda *xs: [gx for gx in slopes(call, xs).values() if gx is not None]


# The table


def leaf_classes(cls=Op):
    """The ops that nothing is derived from."""
    for sub in cls.__subclasses__():
        yield from leaf_classes(sub) if sub.__subclasses__() else [sub]


def test_every_op_and_every_function_has_an_entry():
    entered = [e.of for e in ENTRIES] + [type(e.of) for e in ENTRIES]
    ops = {cls for cls in leaf_classes() if cls.__module__.startswith("tinyinfer.ops.")}
    functions = {fn for fn in map(vars(ti.ops).get, ti.ops.__all__) if callable(fn)}
    assert len(ops) > 70 and len(functions) > 90
    assert not [x for x in ops | functions if x not in entered]


def test_an_op_without_an_entry_is_missed():
    class Lonely(Op):
        pass

    assert Lonely in leaf_classes()


@pytest.mark.parametrize("entry", [pytest.param(e, id=name(e.of)) for e in ENTRIES])
def test_an_entry_shows_what_is_right_and_what_is_smooth(entry: Entry):
    assert entry.calls
    if entry.smooth:
        assert any(floats(call.arrays) for call in entry.calls)


# One step


class Witness(list):
    """Sees every step that is computed: its spec must be the inferred one; its result is locked."""

    def __call__(self, op, xs, y):
        inferred = op.infer(*map(spec_of, xs))
        assert inferred == spec_of(y), op
        if not op.pure:
            return
        self += [*xs, y]
        y.flags.writeable = False


@pytest.fixture
def steps():
    witness = Witness()
    heart.watchers.append(witness)
    yield witness
    heart.watchers.remove(witness)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_call
def test_infer_says_what_forward_does(entry, call, dtype, steps):
    xs = tensors(call.cast(dtype))
    before = [x.numpy().copy() for x in xs]
    for x in xs:
        x.node.value.flags.writeable = False  # whoever changes an input is caught
    for y in flat(call(*xs)):
        assert y.spec == spec_of(y.numpy())
    if floats(call.arrays) and entry.smooth and dtype == "float32" and not asks_for_double(call):
        ys = floating(flat(call(*xs)))
        gradients(ys, [ti.ones_like(y) for y in ys], [x.node for x in xs], create_graph=True)
        assert not [x for x in steps if x.dtype == np.float64]
    assert all(same(a, x.numpy()) for a, x in zip(before, xs))


def asks_for_double(call):
    return {"float64", np.float64} & {x for x in call.args if isinstance(x, str | type)} or (
        getattr(call.fn, "dtype", None) == "float64"
    )


@every_call
def test_traced_is_eager(entry, call):
    xs = tensors(call.cast("float32"))
    eager = flat(call(*xs))
    graph = ti.trace(call, *xs).verify()
    traced = flat(graph.run(*[x.numpy() for x in xs])) if eager else []
    assert all(map(same, [y.numpy() for y in eager], traced)) and len(eager) == len(traced)


# The way back


@smooth_call
def test_gradcheck(entry, call):
    assert ti.testing.gradcheck(call, call.arrays)


@smooth_call
def test_a_traced_gradient_is_eager(entry, call):
    xs = tensors(call.arrays)
    eager = gradients_of(call)(*xs)
    graph = ti.trace(gradients_of(call), *xs).verify()
    traced = flat(graph.run(*call.arrays))
    assert all(map(same, [g.numpy() for g in eager], traced)) and len(eager) == len(traced)


@smooth_call
def test_a_gradient_is_like_its_input(entry, call):
    """Also where single meets double precision: every other float is single."""
    arrays = [
        x.astype("float32") if x.dtype.kind == "f" and i % 2 else x
        for i, x in enumerate(call.arrays)
    ]
    if "BatchNorm" in repr(entry.of) or entry.of is ti.batch_norm:
        arrays = call.cast("float32")  # which takes one kind of float only
    xs = tensors(arrays)
    for i, gx in slopes(call, xs).items():
        assert gx is None or gx.spec == xs[i].spec


# What is refused


NAMES = {*ti.ops.__all__, *(cls.name for cls in leaf_classes()), "index"}
refused = [(f"{name(e.of)}-{i}", e, r) for e in ENTRIES for i, r in enumerate(e.refused)]


@pytest.mark.parametrize("entry, wrong", [r[1:] for r in refused], ids=[r[0] for r in refused])
def test_refused(entry, wrong):
    xs = [ti.tensor(x) for x in wrong.call.arrays]
    with pytest.raises(wrong.error) as eager:
        wrong.call(*xs)
    with pytest.raises(wrong.error) as traced:
        ti.trace(wrong.call, *xs).run(*wrong.call.arrays)
    message = str(eager.value)
    assert type(eager.value) is wrong.error and message == str(traced.value)
    assert wrong.words in message and "\n" not in message
    assert re.split("[: ]", message)[0] in NAMES or message.startswith("no tensor of complex64")
