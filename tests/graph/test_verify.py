"""There is no wrong graph: each rule of graph/verify.py, broken on purpose, is told with the name
of the node, what was expected and what came, and the line of the user."""

import gc
import re

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer.core.spec import Spec
from tinyinfer.core.tensor import Node
from tinyinfer.core.trace import Origin
from tinyinfer.graph.control import Cond, Scan
from tinyinfer.graph.fused import Fused
from tinyinfer.graph.graph import Graph
from tinyinfer.graph.in_place import InPlace
from tinyinfer.graph.verify import cycle

F32 = np.dtype("float32")
VECTOR, NUMBER, FLAG = Spec((3,), F32), Spec((), F32), Spec((), np.dtype(bool))


def given(name="x", spec=VECTOR):
    return Node(None, (), spec, origin=Origin(name=name))


def step(op, *inputs, spec=VECTOR, line="net.py:7"):
    return Node(op, inputs, spec, origin=Origin(line=line))


def refused(words, inputs, outputs, updates=()):
    with pytest.raises(ti.GraphError) as raised:
        Graph(inputs, outputs, dict(updates))
    assert re.search(words, str(raised.value)), str(raised.value)
    assert "\n" not in str(raised.value)


# 1. Every value is defined once, and before it is used


def test_one_input_twice():
    x = given()
    refused(r"^x: float32\[3\] is among the inputs twice$", (x, given("y"), x), (x,))


def test_a_cycle_is_told_with_its_path():
    x = given()
    a = step(ti.exp, x, line="net.py:1")
    b = step(ti.neg, a, line="net.py:2")
    c = step(ti.add, b, x, line="net.py:3")
    a.inputs = (c,)
    path = "%0 exp at net.py:1 -> %2 add at net.py:3 -> %1 neg at net.py:2 -> %0 exp at net.py:1"
    refused(f"^a graph has no cycles, and here is one: {path}$", (x,), (c,))


def test_a_step_that_uses_itself():
    x = given()
    a = step(ti.add, x, x, line=None)
    a.inputs = (x, a)
    refused("here is one: %0 add -> %0 add$", (x,), (a,))


def test_a_step_that_is_older_than_its_input():
    x = given()
    old = step(ti.exp, x)
    old.inputs = (step(ti.neg, x, line="net.py:8"),)
    refused(r"^%0 = exp\(.*\) -> .*, at net.py:7 is older than one of its inputs$", (x,), (old,))


@pytest.mark.parametrize(
    "before, path",
    [
        ({}, []),
        ({1: [], 2: [1], 3: [1, 2], 4: [2, 3]}, []),
        ({1: [1]}, [1, 1]),
        ({1: [2], 2: [3], 3: [2]}, [2, 3, 2]),
        ({1: [9], 2: [1, 4], 3: [], 4: [3, 5], 5: [2]}, [2, 4, 5, 2]),
    ],
)
def test_cycle(before, path):
    assert cycle(before) == path


def test_a_cycle_is_found_without_recursion_and_without_looking_twice():
    n = 20_000
    ring = {i: [(i + 1) % n] for i in range(n)}
    assert len(cycle(ring)) == n + 1
    ladder = {i: [i + 1, i + 2] for i in range(n)}  # with ever more ways from the start
    assert cycle(ladder) == []


# 2. Every value is an input, a constant, the symbol of a living State, or made by a step


def test_what_is_not_among_the_inputs():
    x, y = given(), given("y")
    refused(
        r"^%0 = add\(.*\) -> .*, at net.py:7 depends on y: float32\[3\], which is not among the inputs. "
        "Pass it in",
        (x,),
        (step(ti.add, x, y),),
    )
    refused(r"^an output depends on y: float32\[3\], which is not", (x,), (y,))


def test_a_state_that_is_gone():
    state, x = ti.State(np.zeros(3, np.float32), name="w"), ti.placeholder(3)
    last = (x * state).node
    Graph((x.node,), (last,))
    del state
    gc.collect()
    refused(r"%0 = mul.*, at test_verify.py:\d+ depends on the symbol of a State float32\[3\] that is "
            "gone: keep it", (x.node,), (last,))  # fmt: skip


def test_a_graph_keeps_its_states_alive():
    x, state = ti.placeholder(3), ti.State(np.ones(3, np.float32))
    graph = Graph((x.node,), ((x * state).node,))
    del state
    gc.collect()
    assert graph.verify().run(np.ones(3, np.float32)).tolist() == [1, 1, 1]


def test_what_is_no_node():
    x = given()
    refused(r"a graph lies between nodes, not tensor\(float32\[3\], no value\): see ti.graph",
            (x,), (ti.placeholder(3),))  # fmt: skip
    refused("between nodes, not 3: ", (3,), (x,))
    refused(
        "updates are {State: what it becomes}, and 'w' is no State", (x,), (x,), {"w": x}.items()
    )


def test_a_step_without_an_op():
    x = given()
    refused(r"^%0: float32\[3\], at net.py:7: 'relu' is no op$", (x,), (step("relu", x),))


# 3. The spec of a step is what its op infers


def test_another_spec_than_inferred():
    x = given()
    for wrong in Spec((4,), F32), Spec((3,), np.dtype("float64")), Spec((3, 1), F32):
        words = rf"^%0 = exp\(float32\[3\]\) -> {re.escape(str(wrong))}, at net.py:7: it gives a float32"
        refused(words, (x,), (step(ti.exp, x, spec=wrong),))
    x = given(spec=NUMBER)
    bare = (), F32  # equal to a Spec, and none
    refused(r"it gives a float32\[\], and the graph says", (x,), (step(ti.exp, x, spec=bare),))


def test_shapes_and_dtypes_that_do_not_fit():
    x, y, i = given(), given("y", Spec((4,), F32)), given("i", Spec((3,), np.dtype("int64")))
    words = r"^%0 = add\(float32\[3\], float32\[4\]\) -> .*, at net.py:7: .*\(3,\) and \(4,\) do not broadcast"
    refused(words, (x, y), (step(ti.add, x, y),))
    refused("at net.py:7: .*float32 and int64 do not mix", (x, i), (step(ti.add, x, i),))
    refused("at net.py:7: exp: of floats, not of int64", (i,), (step(ti.exp, i),))


def test_the_number_of_inputs():
    x = given()
    refused("at net.py:7: exp takes x; and has 0 inputs$", (x,), (step(ti.exp),))
    refused("at net.py:7: add takes a, b; and has 3 inputs$", (x,), (step(ti.add, x, x, x),))
    inner = Graph((y := given("y"),), (y,))
    refused(
        r"at net.py:7: cond takes p, \*xs; and has 0 inputs$", (x,), (step(Cond(inner, inner)),)
    )


def test_attributes_that_cannot_be():
    x = given("x", Spec((1, 1, 4, 4), F32))
    conv = ti.ops.conv.Conv2d(stride=(0, 1))
    refused("^%0 = conv2d.*, at net.py:7: it cannot be: ", (x,), (step(conv, x, x, spec=x.spec),))


def test_the_graphs_inside():
    x, p = given(), given("p", FLAG)
    inner = Graph((y := given("y"),), (step(ti.exp, y),))
    other = Graph((y := given("y", NUMBER),), (step(ti.exp, y, spec=NUMBER),))
    refused(r"^%0 = cond\(.*, at net.py:7: cond: both branches must return the same", (p, x),
            (step(Cond(inner, other), p, x),))  # fmt: skip
    refused(r"at net.py:7: this fused op: made for float32\[\]; and was given float32\[3\]", (x,),
            (step(Fused(other), x),))  # fmt: skip
    refused(
        r"the condition is one bool\[\], not a float32\[3\]",
        (x,),
        (step(Cond(inner, inner), x, x),),
    )
    refused("one length for all sequences", (x,), (step(Scan(inner, 1, 0), x),))


# 4. The spec of a constant is that of its array; what a State becomes has the spec of the State


def test_constants():
    x = given()
    wrong = Node(None, (), VECTOR, np.zeros(4, np.float32))
    refused(r"^%c0: float32\[3\]: its array is a float32\[4\]$", (x,), (step(ti.add, x, wrong),))
    wrong = Node(None, (), NUMBER, 0.5)
    refused(r"^%c0: float32\[\]: the value of a constant is an array, not 0.5$", (x,),
            (step(ti.add, x, wrong),))  # fmt: skip


def test_updates():
    x, state = given(), ti.State(np.zeros(4, np.float32), name="w")
    refused(r"^w, a float32\[4\], cannot become a float32\[3\]: %0 = exp\(.*\) -> .*, at net.py:7$", (x,), (),
            {state: step(ti.exp, x)}.items())  # fmt: skip
    state.name = None
    refused(r"^a State, a float32\[4\], cannot become a float32\[3\]: %x: ", (x,), (), [(state, x)])


# 5. A graph inside a step is closed


def test_a_state_inside_a_step():
    x, state = ti.placeholder(3), ti.State(np.zeros(3, np.float32))
    inner = Graph((x.node,), ((x * state).node,))
    assert len(inner.states) == 1
    outer = given()
    words = "at net.py:7: .*a graph inside a step is closed: States come in as inputs"
    refused(words, (outer,), (step(Fused(inner), outer),))


def test_an_update_inside_a_step():
    x, state = given(), ti.State(np.zeros(3, np.float32))
    inner, outer = Graph((x,), (x,), {state: x}), given()
    refused("a graph inside a step is closed", (outer,), (step(Fused(inner), outer),))


def test_verify_goes_inside():
    inner = Graph((y := given("y"),), (last := step(ti.exp, y, line="net.py:3"),))
    graph = Graph((x := given(),), (step(Fused(inner), x),))
    assert graph.verify() is graph
    last.inputs = (y, y)
    with pytest.raises(ti.GraphError, match="at net.py:3: exp takes x; and has 2 inputs"):
        graph.verify()


# 6. A value that a step may overwrite is not used by a younger one


def test_overwriting_what_is_still_needed():
    x = given()
    a = step(ti.exp, x, line="net.py:1")
    b = step(InPlace(ti.neg), a, line="net.py:2")
    Graph((x,), (b,))
    words = (
        r"^%1 = in_place\(.*, at net.py:2: it may overwrite %0, which is needed after it\. in_place"
    )
    refused(words, (x,), (step(ti.add, a, b),))
    refused(words, (x,), (a, b))
    refused("may overwrite %x, which is needed", (x,), (step(InPlace(ti.neg), x),))


# What a graph is given


@pytest.mark.parametrize(
    "arrays, words",
    [
        (
            (),
            r"this graph takes a: float32\[3\], b: float32\[2\]; and was given nothing: 0 instead of 2",
        ),
        ((3,), r"and was given float32\[3\]: 1 instead of 2"),
        ((3, 2, 2), r"and was given float32\[3\], float32\[2\], float32\[2\]: 3 instead of 2"),
        ((3, 4), r"and was given float32\[3\], float32\[4\]: b does not fit"),
        ((2, 3), r"and was given float32\[2\], float32\[3\]: a does not fit"),
    ],
)
def test_arrays_that_a_graph_does_not_take(arrays, words):
    graph = ti.trace(lambda a, b: (a, b), ti.zeros(3), ti.zeros(2))
    arrays = [np.zeros(n, np.float32) for n in arrays]
    for run in graph.run, lambda *xs: graph(*map(ti.tensor, xs)):
        with pytest.raises(ti.GraphError, match=words):
            run(*arrays)
    with pytest.raises(ti.GraphError, match="b does not fit"):
        graph.run(np.zeros(3, np.float32), np.zeros(2))


def test_a_graph_that_takes_nothing():
    graph = ti.trace(lambda: ti.zeros(3))
    assert graph.run().shape == (3,)
    with pytest.raises(
        ti.GraphError, match=r"takes nothing; and was given float32\[\]: 1 instead of 0"
    ):
        graph.run(np.float32(1))


# How long it takes


def test_many_inputs_are_looked_at_once():
    """Counted: comparing each with each would be 2 * 10**8 comparisons."""

    class Counted(Node):
        __slots__ = ()
        compared = 0

        def __eq__(self, other):
            Counted.compared += 1
            return self is other

        __hash__ = Node.__hash__

    inputs = [Counted(None, (), VECTOR) for _ in range(20_000)]
    Graph(inputs, (inputs[0],))
    assert Counted.compared < 200_000


def test_a_long_graph_is_verified_without_recursion():
    x = last = given()
    for _ in range(20_000):
        last = step(ti.neg, last)
    assert len(Graph((x,), (last,)).verify().steps) == 20_000
