"""What print writes, parse_graph reads: the same text again, and the same numbers, bit for bit.
What nobody could have printed is told in one line."""

import re
import warnings
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lenet import batches, make
from random_graphs import arrays_for, random_graph
from samples import ENTRIES, name

import tinyinfer as ti
from tinyinfer import nn, train
from tinyinfer.core.op import Op
from tinyinfer.core.spec import DTYPES, Spec, spec_of
from tinyinfer.core.tensor import Node
from tinyinfer.graph import passes
from tinyinfer.graph.fused import Fused
from tinyinfer.graph.graph import Graph
from tinyinfer.graph.parse import DEEP, WIDE, fits, parse_graph, registry
from tinyinfer.graph.text import values

MODELS = sorted(Path(__file__).parents[2].joinpath("models").glob("*.py"))
F32 = np.dtype("float32")
A = lambda *shape: np.random.RandomState(0).randn(*shape).astype(np.float32)


def same(a, b):
    return spec_of(np.asarray(a)) == spec_of(np.asarray(b)) and a.tobytes() == b.tobytes()


def read_back(graph) -> Graph:
    text = str(graph)
    back = parse_graph(text, values(graph)).verify()
    assert str(back) == text
    return back


def round_trip(graph, *arrays) -> Graph:
    """Read back, and run beside the graph: twice, for the States go on."""
    back = read_back(graph)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for _ in range(2):
            assert all(map(same, graph.run_all(arrays), back.run_all(arrays)))
    before, after = values(graph), values(back)
    assert before.keys() == after.keys()
    assert all(same(before[key], after[key]) for key in before)
    return back


def lines(graph):
    return str(graph).split("\n")


# The form


def test_one_line_a_node():
    conv = nn.Conv2d(1, 2, 3, padding=1)
    graph = ti.trace(lambda x: ti.relu(conv(x) * 0.5).sum(0), ti.zeros(4, 1, 5, 5))
    line = f"test_text.py:{test_one_line_a_node.__code__.co_firstlineno + 2}"
    assert str(graph) == "\n".join([
        "graph(%x: f32[4, 1, 5, 5])",
        "  state %weight: f32[2, 1, 3, 3] trained",
        "  state %bias: f32[2] trained",
        f"  %0: f32[4, 2, 5, 5] = conv2d(%x, %weight, padding=((1, 1), (1, 1)))  # {line}, Conv2d",
        f"  %1: f32[2, 1, 1] = reshape(%bias, shape=(2, 1, 1))  # {line}, Conv2d",
        f"  %2: f32[4, 2, 5, 5] = add(%0, %1)  # {line}, Conv2d",
        f"  %3: f32[4, 2, 5, 5] = mul(%2, 0.5)  # {line}",
        f"  %4: f32[4, 2, 5, 5] = relu(%3)  # {line}",
        f"  %5: f32[1, 2, 5, 5] = sum(%4, axes=(0,))  # {line}",
        f"  %6: f32[2, 5, 5] = reshape(%5, shape=(2, 5, 5))  # {line}",
        "  return %6",
    ])  # fmt: skip
    round_trip(graph, A(4, 1, 5, 5))


def test_graphs_inside_are_blocks_with_names_of_their_own():
    graph = ti.trace(lambda x: ti.scan(lambda h, r: (h + r, h), ti.zeros(2), x), ti.zeros(3, 2))
    bare = [re.sub("  #.*", "", line) for line in lines(graph)]
    assert bare == [
        "graph(%x: f32[3, 2])",
        "  %0: f32[2] = broadcast_to(f32(0.0), shape=(2,))",
        "  %1: (f32[2], f32[3, 2]) = scan(%0, %x, carries=1, sequences=1)",
        "    body(%input0: f32[2], %input1: f32[2])",
        "      %0: f32[2] = add(%input0, %input1)",
        "      return %0, %input0",
        "  %2: f32[2] = tuple_get(%1, index=0)",
        "  %3: f32[3, 2] = tuple_get(%1, index=1)",
        "  return %2, %3",
    ]
    round_trip(graph, A(3, 2))


def test_updates_stand_after_the_return():
    state = ti.State([1.0, 2.0], name="total")
    only_written = ti.State([0.0, 0.0], name="last seen")

    def step(x):
        state.assign(state + x)
        only_written.assign(x)

    graph = ti.trace(step, ti.zeros(2))
    assert lines(graph)[1:3] == [
        "  state %total: f32[2]",
        "  state %last_seen: f32[2]  # last seen",
    ]
    assert lines(graph)[-3:] == ["  return", "  %total <- %1", "  %last_seen <- %2"]
    back = round_trip(graph, A(2))
    assert [s.name for s in back.updates] == ["total", "last seen"]
    assert np.array_equal(state.numpy(), np.float32([1, 2]) + A(2) + A(2))


def test_one_state_is_one_line_whatever_its_symbols():
    w, x = ti.State(A(3), requires_grad=True, name="w"), ti.placeholder(3, name="x")
    first = w * x
    w.requires_grad = False
    graph = ti.graph([first, w + x], x)
    assert len(graph.states) == 2 and lines(graph)[1:2] == ["  state %w: f32[3]"]
    assert len(round_trip(graph, A(3)).states) == 1


def test_names_are_not_taken_twice():
    state, other = ti.State([1.0], name="x"), ti.State([2.0])
    graph = ti.trace(lambda x: x + state + other + ti.tensor([1.0, 2.0]), ti.zeros(2))
    assert [n for n in values(graph)] == ["x_2", "state1"]
    round_trip(graph, A(2))


# Whatever there is


CALLS = [(f"{name(e.of)}-{i}", c) for e in ENTRIES for i, c in enumerate(e.calls)]


@pytest.mark.parametrize("call", [c for _, c in CALLS], ids=[n for n, _ in CALLS])
def test_every_op(call):
    round_trip(ti.trace(call, *map(ti.tensor, call.arrays)), *call.arrays)


@pytest.mark.parametrize("seed", range(150))
def test_random_graphs(seed):
    rng = np.random.RandomState(seed)
    graph = random_graph(lambda n: int(rng.randint(n)))
    graph = ti.optimize(graph) if seed % 2 else graph
    round_trip(graph, *arrays_for(graph, seed))


@pytest.mark.parametrize("file", MODELS, ids=lambda file: file.stem)
def test_models(file):
    model_file = train.modelfile.load(file)
    model = model_file.build().eval()
    c, h, w = model_file.input_shape
    x = A(2, c, min(h, 64), min(w, 64))  # the networks for large images take any
    round_trip(ti.trace(model, ti.tensor(x)), x)


@pytest.mark.parametrize("fused", [False, True])
def test_a_training_step_goes_on(fused):
    """With momentum, the statistics of a BatchNorm and the key of a dropout."""
    _, _, step = make()
    data = batches(4)
    graph = ti.trace(step, *map(ti.tensor, data[0]))
    graph = passes.fuse(passes.strip(graph)) if fused else graph
    back = read_back(graph)
    assert len(back.updates) == len(graph.updates) == 27
    losses = [graph.run(*batch) for batch in data]
    assert losses == [back.run(*batch) for batch in data]
    assert all(map(same, values(graph).values(), values(back).values()))


def nested(x):
    def turn(h, row):
        def again(c, i):
            deep = lambda: ti.scan(lambda a, b: (a + b * i.float(), a), c, row.reshape(2, 2))[0]
            return ti.cond(c.sum() > 0.0, deep, lambda: c - 1.0), i + 1

        return ti.while_loop(lambda c, i: i < 3, again, h, ti.tensor(0), bound=4)[0], row

    return ti.scan(turn, x[0, :2], x)


def test_control_flow_four_deep_and_its_gradient():
    x = ti.tensor(A(3, 4), requires_grad=True)
    graph = ti.trace(lambda x: ti.grad(nested(x)[0].sum(), x), x)
    round_trip(ti.trace(nested, x), A(3, 4))
    round_trip(graph, A(3, 4))
    assert "            body(%input0: f32[2]" in str(graph)


def test_a_graph_read_back_can_be_differentiated():
    graph = ti.trace(lambda x: nested(x)[0].sum(), ti.zeros(3, 4))
    x = ti.tensor(A(3, 4), requires_grad=True)
    a, b = (ti.grad(g(x)[0], x).numpy() for g in (graph, read_back(graph)))
    assert same(a, b) and a.any()


def test_parameters_are_still_trained():
    w = ti.State(A(3), requires_grad=True, name="w")
    back = read_back(ti.trace(lambda x: (x * w).sum(), ti.zeros(3)))
    [state] = back.states.values()
    back(ti.tensor(A(3) * 2))[0].backward()
    assert state is not w and w.grad is None and np.array_equal(state.grad.numpy(), A(3) * 2)


# Numbers


def with_constant(array, use=lambda x, c: (x, c)):
    """A graph of an input f32[] and this constant."""
    x, c = ti.placeholder((), name="x").node, Node(None, (), spec_of(array), array)
    return Graph((x,), use(x, c))


SPECIAL = ["0", "-0", "1", "0.1", "1e-5", "nan", "-nan", "inf", "-inf", "6e-8", "1e-45", "65504"]


@pytest.mark.parametrize("text", SPECIAL)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_floats_come_back_bit_for_bit(text, dtype, count):
    array = np.array(float(text), dtype) if not count else np.full(count, float(text), dtype)
    [_, c] = read_back(with_constant(array)).outputs
    assert same(c.value, array)


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1), st.sampled_from(["float16", "float32", "float64"]))
def test_all_bits_come_back(bits, dtype):
    size = np.dtype(dtype).itemsize
    array = np.array(bits % 2 ** (8 * size), f"u{size}").view(dtype)
    [_, c] = read_back(with_constant(array)).outputs
    assert same(c.value, array)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype):
    extremes = [0, 1] if dtype.kind in "bf" else [np.iinfo(dtype).min, np.iinfo(dtype).max]
    for array in (np.array(extremes, dtype), np.array(extremes[1], dtype)):
        [_, c] = read_back(with_constant(array)).outputs
        assert same(c.value, array)


@pytest.mark.parametrize(
    "number, written",
    [
        (np.float32(0.1), "0.1"),
        (np.float64(0.1), "f64(0.1)"),
        (np.float32(np.nan), "nan"),
        (np.int64(2), "i64(2)"),
        (np.bool_(True), "bool(True)"),
        (np.array(0x7FC00001, np.uint32).view(np.float32)[()], "nan(0x7fc00001)"),
    ],
)
def test_a_number_is_bare_where_it_has_the_dtype_beside_it(number, written):
    mul = ti.ops.mul
    use = lambda x, c: (Node(mul, (x, c), mul.infer(x.spec, c.spec)),)
    if number.dtype.kind == "i":
        use = lambda x, c: (Node(ti.ops.index.pick, (ti.placeholder(3).node, c), x.spec), x)
        x, c = ti.placeholder(3, name="x").node, Node(None, (), spec_of(number), np.array(number))
        graph = Graph((x,), (Node(ti.ops.index.pick, (x, c), Spec((), F32)),))
    else:
        graph = with_constant(np.array(number), use)
    assert f"(%x, {written})" in lines(graph)[1]
    read_back(graph)


def test_a_number_alone_says_its_dtype():
    graph = with_constant(np.array(0.5), lambda x, c: (Node(ti.exp, (c,), c.spec), c))
    assert lines(graph)[1:] == ["  %0: f64[] = exp(f64(0.5))", "  return %0, f64(0.5)"]
    read_back(graph)


def test_small_constants_are_written_out_and_large_ones_kept_apart():
    few, many = A(4, 4), A(17)
    graph = ti.trace(
        lambda x: (x * few, ti.scan(lambda c, r: (c, r * many), x, A(2, 17))[1]), A(4, 1)
    )
    assert f"  %c0: f32[4, 4] = constant([{few[0, 0]!s}, " in str(graph)
    assert "      %c0: f32[17] = constant(...)" in str(graph)
    assert [*values(graph)] == ["c1", "1/body/c0"] and same(values(graph)["1/body/c0"], many)
    round_trip(graph, A(4, 1))


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 10**9), (1, 1), (16,), (2, 2, 2)])
def test_constants_of_many_shapes(shape):
    [_, c] = read_back(with_constant(np.ones(shape, np.int8))).outputs
    assert same(c.value, np.ones(shape, np.int8))


def test_a_repeated_number_stays_one_number():
    zeros = ti.zeros(10**6, 10**6)
    graph = with_constant(zeros.numpy())
    assert "  %c0: f32[1000000, 1000000] = constant(0.0)" in lines(graph) and not values(graph)
    [_, c] = read_back(graph).outputs
    assert c.spec == zeros.spec and not any(c.value.strides)


def test_what_comes_in_is_copied():
    graph = with_constant(A(20))
    given = {"c0": A(20)}
    back = parse_graph(str(graph), given)
    given["c0"][:] = 0
    assert same(back.outputs[1].value, A(20))


# Attributes and ops


def test_attributes_that_are_as_usual_are_left_out():
    conv = ti.ops.conv.Conv2d((2, 2))
    graph = ti.trace(
        lambda g, w: ti.ops.conv.Conv2dInput(conv, (1, 1, 5, 5))(g, w), A(1, 1, 2, 2), A(1, 1, 3, 3)
    )
    assert "conv2d_input(%g, %w, conv=conv2d(stride=(2, 2)), shape=(1, 1, 5, 5))" in str(graph)
    assert read_back(graph).steps[0].op == graph.steps[0].op


def test_an_attribute_that_does_not_count_survives():
    """In errors at run time an index has the name of what the user called."""
    graph = ti.trace(lambda x, i: ti.embedding(i, x), A(5, 2), np.array([1, 2]))
    back = read_back(graph)
    with pytest.raises(ti.RangeError, match="embedding: there is no 7"):
        back.run(A(5, 2), np.array([1, 7]))


def test_the_sign_of_a_zero_in_an_attribute_survives():
    pad = ti.ops.shape.Pad(((1, 0),), -0.0)
    back = read_back(ti.trace(pad, A(2)))
    assert np.signbit(back.steps[0].op.value)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1, True, 0.1])
def test_numbers_as_attributes(value):
    pad = ti.ops.shape.Pad(((1, 0),), value)
    back = read_back(ti.trace(pad, A(2)))
    assert repr(back.steps[0].op.value) == repr(value)


def test_numbers_of_numpy_are_numbers():
    shape = np.int64(3), np.int32(2)
    x = ti.placeholder(6, name="x").node
    graph = Graph((x,), (Node(ti.ops.shape.Reshape(shape), (x,), Spec(shape, F32)),))
    assert lines(graph)[1] == "  %0: f32[3, 2] = reshape(%x, shape=(3, 2))"
    round_trip(graph, A(6))


@pytest.mark.parametrize(
    "text", ["a  # b", "it's", "both \" and '", "%x, ) \\", "\n\t\0", "größe", "\udc80"]
)
def test_text_as_an_attribute(text):
    graph = ti.trace(lambda x, i: ti.ops.index.Index(text)(x, i), A(5), np.array([1, 2]))
    assert read_back(graph).steps[0].op.called == text


def ops():
    classes = [Op]
    for cls in classes:
        classes += cls.__subclasses__()
    return [c for c in classes[1:] if c.__module__.startswith("tinyinfer.")]


def test_the_names_of_ops_are_unique():
    names = [cls.name for cls in ops()]
    assert len(names) > 90 and len(names) == len(set(names)) and "constant" not in names
    assert {"conv2d", "scan", "while", "cond", "fused", "index"} <= registry().keys()


def test_every_attribute_is_of_a_kind_that_can_be_checked():
    for cls in ops():
        for f in fields(cls):
            assert not isinstance(f.type, str) and fits(object(), f.type) is False, (cls, f)


# Where a step comes from


def test_lines_calls_and_gradients_come_back():
    _, _, step = make()
    graph = ti.trace(step, *map(ti.tensor, batches(1)[0]))
    back = read_back(graph)
    calls = {}
    for a, b in zip(graph.steps, back.steps, strict=True):
        assert (a.origin.line, a.origin.backward) == (b.origin.line, b.origin.backward)
        assert [c.title for c in a.origin.calls] == [c.title for c in b.origin.calls]
        calls |= dict(zip(a.origin.calls, b.origin.calls))
        assert [calls[c] for c in a.origin.calls] == [*b.origin.calls]
    assert len(set(calls.values())) == len(calls) == 15  # of the model and of its layers
    assert any(n.origin.backward and len(n.origin.calls) == 2 for n in back.steps)
    assert "gradient of lenet.py:" in str(graph) and "4: Conv2d" in str(graph)


def test_what_is_read_back_is_drawn_as_before(tmp_path):
    graph = ti.trace(make()[2], *map(ti.tensor, batches(1)[0]))
    pictures = [g.draw(tmp_path / "x.gv").read_text() for g in (graph, read_back(graph))]
    assert pictures[0] == pictures[1] and "4: Conv2d" in pictures[0]


def test_two_calls_of_one_module_stay_two():
    layer = nn.Linear(3, 3)
    graph = ti.trace(lambda x: layer(layer(x)), A(1, 3))
    assert str(graph).count(", Linear #2") == 3
    one, two = dict.fromkeys(n.origin.calls for n in read_back(graph).steps)
    assert one != two and one[0].title == two[0].title == "Linear"


@pytest.mark.parametrize(
    "line, title", [("a, b.py:3", "x # 2: y"), ("ab.py:1", "a,b"), (None, "a"), ("#", "#")]
)
def test_odd_places_are_printed_so_that_they_can_be_read(line, title):
    call = ti.core.trace.Call(None, title)
    origin = ti.core.trace.Origin((call,), line, None, True)
    x = ti.placeholder(3).node
    read_back(Graph((x,), (Node(ti.exp, (x,), x.spec, origin=origin),)))


# What is refused


# fmt: off
WHOLE = {  # a text, and what is said of it
    "": "line 1: the text ends here",
    "x": r"line 1: 'x' should look like graph\(%x: f32",
    "graph(%x: f32[3]": r"line 1: .* should look like graph\(%x: f32",
    "graph(%x f32[3])": "line 1: .* should look like graph",
    "graph(%x: f32[-3])\n  return %x": "line 1: .* should look like graph",
    "fn(%x: f32[3])\n  return %x": "line 1: .* should look like graph",
    "graph(%x: f32[3], %x: f32[3])\n  return %x": "line 1: %x is defined twice, first in line 1",
    "graph(%x: f33[3])\n  return %x": "line 1: there is no dtype f33: choose from bool, i8",
    "graph(%x: f32[3,3])\n  return %x": r"line 1: 'f32\[3,3\]' should look like f32\[64, 10\]",
    f"graph(%x: f32[{'1, ' * 64}1])\n  return %x": "line 1: .* up to 64 dimensions, and not 65",
    "graph(%x: f32[3])": r"line 1: graph\(...\) ends here without a return",
    "graph(%x: f32[3])\n return %x": "line 2: 1 blanks stand before it, and 2 are wanted",
    "graph(%x: f32[3])\n    return %x": "line 2: 4 blanks .* 2 are wanted: 'return %x'",
    "graph(%x: f32[3])\n  return %x\n  return %x": "line 3: updates come after the return, all else",
    "graph(%x: f32[3])\n  return %x\n%1": "line 3: the graph has ended, and here is more",
}
LINES = {  # lines of a graph of %x: f32[3], %i: i64[] and %m: f32[3, 3], and what is said of them
    # Lines that are none
    "what": r"line 2: 'what' should look like .*%0: f32\[3\] = add\(%x, %w\)",
    "return %x %i": "line 2: 'return %x %i' should look like",
    "return %x, a=1": "line 2: .* should look like",
    "return 0.5": r"line 2: a number has the dtype of a value beside it; alone, write f32\(0.5\)",
    "%0: f32[3] = exp(%x": "line 2: %0: .* should look like",
    "%0: f32[3] = exp(%x)(%x)": "line 2: %0: .* should look like",
    "%0: f32[3] = exp(%x) + 1": "line 2: %0: .* should look like",
    "%0: f32[3 = exp(%x)": r"line 2: %0: 'f32\[3' should look like f32\[64, 10\]",
    "%0: () = tuple_get(%i, index=0)": r"line 2: %0: '\(\)' should look like",
    # Values
    "%0: f32[3] = exp(%y)  # a.py:3": "line 2: %0, at a.py:3: there is no %y in this graph",
    "%0: f32[3] = exp(%1)\n%1: f32[3] = exp(%x)": "line 2: %0: %1 is used before it is defined, in line 3",
    "%3: f32[3] = exp(%5)  # a.py:3\n%4: f32[3] = exp(%x)\n%5: f32[3] = add(%4, %3)":
        "line 2: %3, at a.py:3: a graph has no cycles, and here is one: %3 -> %5 -> %3$",
    "%0: f32[3] = exp(%0)": "line 2: %0: .* here is one: %0 -> %0$",
    "%0: f32[3] = exp(%x)\n%0: f32[3] = exp(%x)": "line 3: %0: %0 is defined twice, first in line 2",
    # Ops
    "%0: f32[3] = exq(%x)": "line 2: %0: there is no op 'exq'; is it exp?",
    "%0: f32[3] = unary(%x)": "line 2: %0: there is no op 'unary'",
    "%0: f32[4] = exp(%x)  # a.py:3": r"line 2: %0, at a.py:3: it gives a float32\[3\], and the graph says float32\[4\]",
    "%0: f64[3] = exp(%x)": r"line 2: %0: it gives a float32\[3\], and the graph says float64\[3\]",
    "%0: f32[3] = exp(%i)": r"line 2: %0: exp: of floats, not of int64\[\]",
    "%0: f32[3] = exp(%x, %x)": "line 2: %0: exp takes x; and has 2 inputs",
    "%0: f32[3] = add(%x)": "line 2: %0: add takes a, b; and has 1 inputs",
    "%0: f32[3] = exp(%x)\n  body(%a: f32[3])\n    return %a": "line 2: %0: exp has no attribute 'body'",
    # Attributes
    "%0: f32[3] = leaky_relu(%x, slop=0.1)": "line 2: %0: leaky_relu has no attribute 'slop'; is it slope?",
    "%0: f32[3] = leaky_relu(%x, slope=0.1, slope=0.2)": "leaky_relu is given an attribute twice",
    "%0: f32[3] = leaky_relu(%x, slope='a')": "leaky_relu: slope is of the kind float, and not 'a'",
    "%0: f32[3] = leaky_relu(%x, slope=(1,))": r"of the kind float, and not \(1,\)",
    "%0: f32[3] = leaky_relu(%x, slope=exp())": r"of the kind float, and not exp\(\)",
    "%0: f32[3] = leaky_relu(%x, slope=None)": r"of the kind float, and not None",
    "%0: f32[3] = leaky_relu(%x, slope=[1])": "an attribute is a number",
    "%0: f32[3] = leaky_relu(%x, slope=1+1)": "an attribute is a number",
    "%0: f32[3] = leaky_relu(%x, slope=1j)": "an attribute is a number",
    "%0: f32[3] = leaky_relu(%x, **{1: 2})": "an attribute is a number",
    "%0: f32[3] = leaky_relu(%x, slope=print('a'))": "an attribute is a number",
    "%0: f32[3] = leaky_relu(%x, slope=print())": "there is no op 'print'",
    "%0: f32[3] = reshape(%x)": "line 2: %0: reshape lacks shape",
    "%0: f32[3] = reshape(%x, shape=3)": r"shape is of the kind tuple\[int, ...\], and not 3",
    "%0: f32[3] = reshape(%x, shape=(3.0,))": r"shape is of the kind tuple\[int, ...\], and not \(3.0,\)",
    "%0: f32[3] = reshape(%x, shape=(18446744073709551616,))": "an attribute is a number",
    # Numbers and constants
    "%0: f32[3] = add(%x, 1e39)": r"line 2: %0: 1e\+39 is no f32",
    "%0: f32[3] = add(%x, True)": "line 2: %0: True is no f32",
    "%0: f32[3] = add(%x, nan(3))": r"line 2: %0: nan\(3\) is no f32",
    "%0: f32[3] = add(%x, u8(256))": "line 2: %0: 256 is no u8",
    "%0: f32[3] = add(%x, u8(1.0))": "line 2: %0: 1.0 is no u8",
    "%c: f32[3] = constant([1.0, 2.0])": r"line 2: %c: 2 elements for a float32\[3\]",
    "%c: f32[3] = constant()": r"line 2: %c: .* should look like %c0: f32\[3\] = constant\(\[1.0",
    "%c: f32[3] = constant(1.0, 2.0, 3.0)": "line 2: %c: .* should look like %c0",
    "%c: (f32[1], f32[1]) = constant([1.0, 1.0])": "line 2: %c: .* should look like %c0",
    "%c: i8[1] = constant([128])": "line 2: %c: 128 is no i8",
    "%c: f32[1] = constant([[1.0]])": "line 2: %c: an attribute is a number",
    "%c: f32[999999999999999999, 999999999999999999] = constant(0.0)": "line 2: %c: there is no array",
    "%c: f32[3] = constant(...)":
        r"line 2: %c: its value is not in the text: pass parse_graph\(text, values\) an array 'c', a float32\[3\]",
    # States and updates
    "state %w: f32[3]": r"line 2: %w: its value is not in the text: .* an array 'w', a float32\[3\]",
    "state %v: f32[3]": r"line 2: %v: the text says float32\[3\], and its value is a float32\[2\]",
    "state %n: i64[] trained": r"line 2: %n: a int64\[\] has no gradient",
    "state %v: f32[2]\nstate %v: f32[2]": "line 3: %v: %v is defined twice, first in line 2",
    "return %x\n%w <- %x": "line 3: %w: only a State is updated, and there is none of that name",
    "return %x\n%x <- %x": "line 3: %x: only a State is updated",
    "state %v: f32[2]\n%v <- %v\nreturn %x": "line 3: updates come after the return",
    "state %v: f32[2]\nreturn %x\n%v <- %z": "line 4: %v: there is no %z in this graph",
    "state %v: f32[2]\nreturn %x\n%v <- %x": r"line 4: %v: v, a float32\[2\], cannot become a float32\[3\]",
    "state %v: f32[2]\nreturn %x\n%v <- %v\n%v <- %v": "line 5: %v: a State becomes one value",
    "state %v: f32[2]\nreturn %x\n%v <- %v, %v": "line 4: %v: a State becomes one value",
}
LOOP = {  # what follows on `%0: (f32[3], f32[3, 3]) = scan(%x, %m, carries=1, sequences=1)`
    "": "line 2: %0: scan lacks body",
    "  body(%a: f32[3], %b: f32[3])\n": r"line 3: body\(...\) ends here without a return",
    "  body(%a: f32[3])\n    return %a, %a": r"line 2: %0: .*made for float32\[3\]; and was given float32\[3\], float32\[3\]",
    "  body(%a: f32[3], %b: f32[3])\n    return %x": "line 4: there is no %x in this graph",
    "  body(%a: f32[3], %b: f32[3])\n    return %a":
        r"line 2: %0: it gives a \(float32\[3\]\), and the graph says \(float32\[3\], float32\[3, 3\]\)",
    "  test(%a: f32[3], %b: f32[3])\n    return %a, %b": "line 2: %0: scan has no attribute 'test'",
    2 * "  body(%a: f32[3], %b: f32[3])\n    return %a, %b\n": r"line 2: %0: body\(...\) is given twice",
    "  body(%a: f32[3], %b: f32[3])\n    state %0: f32[3]\n    return %0, %b":
        "line 2: %0: .*a graph inside a step is closed",
}
# fmt: on


def among(lines):
    text = "graph(%x: f32[3], %i: i64[], %m: f32[3, 3])\n" + re.sub("^", "  ", lines, flags=re.M)
    return text if "return %x\n" in text else f"{text}\n  return %x"


SCAN = "%0: (f32[3], f32[3, 3]) = scan(%x, %m, carries=1, sequences=1)\n"
REFUSED = [*WHOLE.items(), *((among(k), v) for k, v in LINES.items())]
REFUSED += [(among(SCAN + k), v) for k, v in LOOP.items()]


@pytest.mark.parametrize("text, words", REFUSED, ids=[words for _, words in REFUSED])
def test_what_is_no_graph_is_refused_with_its_line(text, words):
    arrays = {"v": np.zeros(2, "f4"), "n": np.array(3), "0/body/0": np.zeros(3, "f4")}
    with pytest.raises(ti.GraphError, match=words) as raised:
        parse_graph(text, arrays)
    assert "\n" not in str(raised.value)


DEEP_TEXTS = {
    "parentheses": "  %0: f32[3] = exp(" + "(" * 10_000 + "%x" + ")" * 10_000 + ")",
    "signs": "  %0: f32[3] = add(%x, " + "-" * 10_000 + "1)",
    "sums": "  %0: f32[3] = add(%x, " + "1+" * 10_000 + "1)",
    "dots": "  %0: f32[3] = add(%x, a" + ".a" * 10_000 + ")",
    "tuples": "  %0: f32[3] = reshape(%x, shape=" + "(" * 150 + "3" + ",)" * 150 + ")",
    "ops": "  %0: f32[3] = exp(%x, a=" + "exp(a=" * 150 + "1" + ")" * 150 + ")",
    "graphs": "".join(
        f"{'  ' * (2 * i + 1)}%0: f32[3] = fused(%x)\n{'  ' * (2 * i + 2)}graph(%x: f32[3])\n"
        for i in range(2_000)
    ),
    "escapes": "  %0: f32[3] = index(%x, called='" + "\\'" * 100_000,
    "wide": "  %0: f32[3] = reshape(%x, shape=(" + "3, " * WIDE + "))",
    "long": "  %0: f32[3] = reshape(%x, shape=(" + "9, " * 50_000 + "))",
}


@pytest.mark.parametrize("kind", DEEP_TEXTS)
def test_deep_and_long_texts_are_refused(kind):
    with pytest.raises(ti.GraphError, match="line"):
        parse_graph("graph(%x: f32[3])\n" + DEEP_TEXTS[kind])


def test_graphs_inside_graphs_up_to_a_depth():
    x = ti.placeholder(3, name="x").node
    graph = Graph((x,), (Node(ti.exp, (x,), x.spec),))
    for _ in range(DEEP):
        x = ti.placeholder(3, name="x").node
        graph = Graph((x,), (Node(Fused(graph), (x,), x.spec),))
    round_trip(graph, A(3))


def test_reading_takes_time_in_proportion_to_the_text(monkeypatch):
    """Counted, not timed: every step is inferred a fixed number of times."""
    calls = []
    infer = ti.ops.elementwise.Neg.infer
    monkeypatch.setattr(ti.ops.elementwise.Neg, "infer", lambda *a: calls.append(0) or infer(*a))
    steps = "".join(f"  %{b}: f32[3] = neg(%{a})\n" for a, b in pairwise(["x", *range(3000)]))
    graph = parse_graph(f"graph(%x: f32[3])\n{steps}  return %2999")
    assert len(graph.steps) == 3000 and len(calls) == 6000


TEXTS = [
    (str(g), values(g))
    for g in (
        ti.trace(nested, ti.zeros(3, 4)),
        ti.trace(lambda x: ti.max_pool2d(ti.relu(x * A(6)), 2).sum(), ti.zeros(1, 1, 6, 6)),
        ti.trace(make()[2], *map(ti.tensor, batches(1, 2)[0])),
    )
]
PIECES = [
    "",
    "(",
    ")",
    "[",
    "]",
    "%",
    "'",
    '"',
    "\\",
    "#",
    ",",
    "0",
    "-",
    " ",
    "\n",
    "  ",
    "=",
    "nan",
]
PIECES += [
    "9" * 30,
    "\0",
    "\udc80",
    "\r",
    "**",
    "...",
    "{",
    "@",
    "%x",
    "f32",
    "<-",
    "return",
    "state",
]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_changed_texts_are_graphs_or_refused(data):
    text, arrays = data.draw(st.sampled_from(TEXTS))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        stop = start + data.draw(st.sampled_from([0, 1, 2, 30]))
        there = data.draw(st.integers(0, len(text)))
        piece = data.draw(st.sampled_from([*PIECES, text[there : there + 30]]))
        text = text[:start] + piece + text[stop:]
    try:
        graph = parse_graph(text, arrays)
    except ti.GraphError as error:
        assert "\n" not in str(error)
    else:
        read_back(graph)
