"""A scripted function does what Python does with it: values and gradients, on every path."""

import functools
import itertools

import numpy as np
import pytest
from random_programs import inputs_of, load

import tinyinfer as ti
from tinyinfer import nn, script
from tinyinfer.core.autograd import gradients
from tinyinfer.core.trace import grad_mode, mode

R = np.random.RandomState(0)
CASES = []


def case(*inputs, grad=True):
    """Register a function with inputs that take all its paths; integers stay integers."""
    inputs = [x if isinstance(x, tuple) else (x,) for x in inputs]

    def register(fn):
        CASES.append(
            pytest.param(fn, [[*map(np.asarray, xs)] for xs in inputs], grad, id=fn.__name__)
        )
        return fn

    return register


def flat(result):
    return [y for y in (result if isinstance(result, tuple | list) else [result])]


def slopes(fn, arrays):
    """The gradient of the sum of the squares of what is floating, zero where there is none."""
    xs = [ti.tensor(x, requires_grad=x.dtype.kind == "f") for x in arrays]
    args = [x * 1.0 if x.requires_grad else x for x in xs]  # a program may write x *= 2
    ys = [y for y in flat(fn(*args)) if isinstance(y, ti.Tensor) and y.requires_grad]
    wanted = [x.node for x in xs if x.requires_grad]
    if not ys:
        return [np.zeros(n.spec.shape) for n in wanted]
    found = gradients([sum((y * y).sum() for y in ys)], [ti.tensor(1.0)], wanted)
    return [found[n].numpy() if n in found else np.zeros(n.spec.shape) for n in wanted]


def agree(fn, graph, inputs, grad=True):
    for arrays in inputs:
        wanted = flat(fn(*map(ti.tensor, arrays)))
        got = flat(graph.run(*arrays))
        assert len(got) == len(wanted)
        for a, b in zip(got, wanted):
            b = b.numpy() if isinstance(b, ti.Tensor) else np.asarray(b)
            assert a.shape == b.shape and np.allclose(a, b, rtol=1e-12), (arrays, a, b)
        if grad:
            for a, b in zip(slopes(lambda *xs: graph(*xs), arrays), slopes(fn, arrays)):
                assert np.allclose(a, b, rtol=1e-12), (arrays, a, b)


def steps_of(graph):
    """The names of all steps, also of the graphs inside."""
    for n in graph.steps:
        yield n.op.name
        for inner in vars(n.op).values():
            if isinstance(inner, ti.Graph):
                yield from steps_of(inner)


# Branches


@case(3.0, -3.0, -0.5)
def elif_and_return(x):
    if x > 0:
        y = x * 2
    elif x < -1:
        return x - 1
    else:
        y = -x
    return y + 1


@case(1.0, 3.0, -1.0, -3.0)
def nested_ifs(x):
    y = x * 0.5
    if x > 0:
        if x > 2:
            y = x * x
        z = y + 1
    else:
        z = x * 3
        if x < -2:
            z = z * y
    return y, z


@case(0.5, 1.5, 2.5, 3.5, 4.5)
def guards(x):
    if x < 1:
        return x
    if x < 2:
        return x * 2
    if x < 3:
        return x * x
    y = x - 1
    if x < 4:
        return y
    return y * y


@case((1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0))
def returns_on_both_sides(x, y):
    if x > 0:
        if y > 0:
            return x * y
        x = x + 1
    else:
        if y > 0:
            return y
        x = x - 1
    return x * 2


@case(5.0, -5.0)
def numbers_and_flags(x):
    sign, big, name = 1, False, "same"
    if x > 0:
        big, scale, name = True, 2.0, "same"
    else:
        sign, scale = -1, 0.25
    if big:
        x = x * 3
    assert name == "same"  # equal on both paths: it stays a Python value
    return x * scale, sign


@case(1.0, -1.0)
def containers(x):
    state = {"h": x, "c": (x * 2, [x * 3, 0])}
    if x > 0:
        state = {"h": x * x, "c": (x, [x * 4, 1])}
    return state["h"] * state["c"][0], state["c"][1][0], state["c"][1][1]


@case(1.0, -1.0)
def tuples_come_back(x):
    if x > 0:
        return x, x * 2
    return x * 3, x


@case(([1.0, 2.0], 1.0), ([1.0, 2.0], -1.0))
def a_number_for_a_vector(v, x):
    y = 0.0 if x > 0 else v * x
    z = v * x if x > 0 else 2.0
    return y + v, z * v


@case(0.5, -0.5, 2.0)
def a_variable_of_one_path(x):
    if x > 1:
        y = x * x
    if x > 1:
        return y
    return x


@case((2.0, 1), (2.0, 0), (-2.0, 5))
def truth_of_numbers(x, n):
    if n:
        x = x + 1
    if x:
        x = x * 2
    return x


@case(2.0, -2.0)
def python_decides(x):
    y, seen = [], None
    if x.ndim == 0 and seen is None:
        y.append(x)
        seen = "scalar"
    try:
        y.append(x * len(seen))
        if x > 0:
            y = [y[1], y[0]]
    except TypeError:
        return x
    finally:
        z = x + 1
    return y[0] * 3, y[1], z


@case(2.0, -2.0)
def other_statements(x, kind="a"):
    y: float = 1.0
    match kind:
        case "a" if x.ndim == 0:
            if x > 0:
                y: ti.Tensor = x
        case _:
            y = x * 100
    first, *rest = y, x, x * 2
    if x < 0:
        first, *rest = rest
        rest += [y]
    del y
    return first * rest[0], [z := v + 1 for v in rest][-1] * z


@case(2.0, -2.0)
def names_of_other_scopes(x):
    y, v = x * 3, x * 4
    if x > 0:
        z = [w := v * k for v in (x, y) for k in (1.0, 2.0)][0]
        on = True
    else:
        z = w = v
        on = True
    with grad_mode(on):
        v = v * z
    if x > 0:
        v = v * 2
    n = len([0 for v in (x, y)])
    return v * n, w, [v for v in (x, y)][0]


@case(2.0, -2.0, -5.0)
def with_and_return(x):
    with grad_mode(True):
        if x > 0:
            return x * 2
        x = x - 1
    if x < -3:
        return x
    return x * x


@case(2.0, -2.0)
def try_and_return(x):
    try:
        if x > 0:
            return x * 2
    except ValueError:
        return x
    else:
        return x - 5


@case(2.0, -2.0)
def new_things_may_change(x):
    found = {}
    for k in [1.0, 2.0]:
        found[k] = x * k
    if x > 0:
        mine = [found[1.0]]
        mine.append(found[2.0])
        mine += [x]
        mine[0] *= mine[2]
        x = mine[0] + mine[1]
    return x


# while


@case(1, 2, 7, 27, grad=False)
def collatz(n):
    steps = 0
    while n != 1:
        if n % 2 == 0:
            n = n // 2
        else:
            n = 3 * n + 1
        steps += 1
    return steps


@case((12, 18), (7, 0), (0, 5), (17, 5), grad=False)
def gcd(a, b):
    while b:
        a, b = b, a % b
    return a


@case(2.0, 100.0, 0.25, grad=False)
def newton_sqrt(a):
    x = a
    while True:
        new = 0.5 * (x + a / x)
        if abs(new - x) < 1e-12:
            break
        x = new
    return new


@case((0.0, 2.0), (0.0, 9.0), (3.0, 3.5), grad=False)
def bisection(low, high):
    target, turns = 2.0, 0
    while high - low > 1e-6 and turns < 60:
        turns += 1
        middle = (low + high) / 2
        if middle * middle == target:
            return middle
        if middle * middle < target:
            low = middle
        else:
            high = middle
    return (low + high) / 2


@case((10, 3), (10, 20), (0, 0), (15, 1), grad=False)
def break_continue_else(n, limit):
    total = n * 0
    while n > 0:
        n = n - 1
        if n % 3 == 1:
            continue
        if total > limit:
            break
        total = total + n
    else:
        total = total + 100
    return total, n


@case(([3, 1, 4, 1, 5], 4), ([3, 1, 4, 1, 5], 9), ([4, 4, 4, 4, 4], 4), grad=False)
def lazy_and(data, wanted):
    i = 0
    while i < 5 and data[i] != wanted:  # data[5] is not there, and not looked at
        i += 1
    return i


@case((20, 3), (20, 0), grad=False)
def lazy_or(a, b):
    if b == 0 or a // b > 5:
        return a
    return b


@case(3.0, 40.0, grad=False)
def python_while_around(x):
    n, k = 0, 2
    while k > 0:  # unrolled
        while x > 5:
            x = x / 2
            n += 1
        k -= 1
        x = x * 3
    return x, n


@case(3, 10, grad=False)
def assigned_in_the_test(n):
    total = 0
    while (n := n - 2) > 0:
        if n == 4:
            continue
        total += n
    else:
        total += 1000
    return total, n


# for


@case((R.randn(5, 3), R.randn(3), R.randn(3, 3)))
def rnn(xs, h, w):
    for x in xs:
        h = ti.tanh(x + h @ w)
    return h


@case((R.randn(5, 3), R.randn(3), R.randn(3, 3)))
def rnn_by_number(xs, h, w):
    for i in range(len(xs)):
        h = ti.tanh(xs[i] + h @ w)
    return h, i


@case((R.randn(4, 2), R.randn(2), R.randn(2)))
def lstm_state_as_a_tuple(xs, h, c):
    state = (h, c)
    for x in xs:
        h, c = state
        c = ti.sigmoid(x) * c + ti.tanh(h)
        state = (ti.tanh(c), c)
    return state


@case(([1.0, 2.0, 3.0],))
def numbers_become_tensors(v):
    total, n, product = 0, 0, 1
    for x in v:
        total += x
        n += 1
        product = product * 2
    return total, n, product


@case((R.randn(3, 4),))
def a_number_grows_into_a_row(m):
    s = 0
    for row in m:
        s = s + row
    return s


@case(([1, 2, 3, 4, 5],))
def steps_of_range(v):
    a = b = c = 0
    for i in range(4, -1, -2):
        a = a * 10 + v[i]
    for i in range(1, 5, 3):
        b = b * 10 + v[i]
    for i in range(3, 3):
        c = c + v[i]
    return a, b, v[c]


@case((2, 7), (2, 8), (2, 0), (2, -3), grad=False)
def range_to_a_tensor(x, n):
    s = t = u = 0
    for i in range(n):
        s = s + x * i
    for i in range(n, 0, -2):
        if i == 4:
            continue
        t = t + x * i
    for i in range(x, n, n - 4):
        u = u * 3 + i
    return s, t, u


@case(([[3, 0, 2], [1, 5, 0]], 3), ([[3, 0, 2], [1, 5, 0]], 9), ([[3, 0, 2], [1, 5, 0]], 0))
def nested_loops_with_return(m, wanted):
    for i in range(2):
        for j in range(3):
            if m[i, j] == wanted:
                return i, j
            if m[i, j] == 0:
                break
        else:
            wanted = wanted + 1
    return -1, wanted


@case(([[1.0, -2.0], [3.0, 4.0]], 2.0), ([[1.0, -2.0], [3.0, 4.0]], 9.0), ([[1.0, 2.0]] * 2, 0.0))
def early_return_in_nested_rows(m, limit):
    total = 0.0
    for row in m:
        for x in row:
            if x < 0:
                continue
            total = total + x * x
            if total > limit:
                return total * x
    return total


@case((3.0,), (0.2,), (-1.0,))
def break_keeps_the_gradient(x):
    y = x
    for i in range(6):  # noqa: B007
        y = y * 1.5
        if y > 4:
            break
        if y < 0:
            return y - 1, i
    return y, i


@case(4, 0, grad=False)
def triangle(n):
    total = 0
    for i in range(n):
        for j in range(i):
            if j == 2:
                break
            total += i * j
    return total


@case((2.0, [1.0, 2.0, 3.0]), (-2.0, [1.0, 2.0, 3.0]))
def python_loops(x, v):
    layers = [lambda y: y * 2, ti.tanh, abs]
    out = []
    for i, layer in enumerate(layers):
        x = layer(x) + i
        out.append(x)
    for a, b in zip(v, out):
        if a > 2:
            break
        x = x + a * b
    for k in list(range(3)):
        x = x + [1.0, 2.0, 3.0][k]
    return x


@case((1.0, 3), (1.0, 0), (-3.0, 2))
def break_of_a_tensor_in_a_python_loop(x, n):
    for k in [1.0, 2.0, 3.0, 4.0]:
        if x > 3:
            break
        x = x + k
        if n == 0:
            return x * k
    else:
        x = -x
    return x


def test_an_endless_python_loop_ends():
    def f(x):
        for k in itertools.count():
            if k == 3:
                break
            x = x + float(k)
        return x

    assert script(f, ti.tensor(1.0)).run(np.float32(2)) == 5


# Expressions


@case((0.5, 1.0), (0.0, 2.0), (2.0, -1.0), (-1.0, 1.0))
def logic(x, y):
    a = 1.0 if 0 < x < 1 and not y == 2.0 else 2.0
    b = 1.0 if x > 1 or y > 0 else 0.5
    c = x if 0 <= x <= 1 != y else y
    return x * a, y * b, c


@case((3, 0), (0, 5), (2, 4), grad=False)
def operands_come_back(a, b):
    return a and b, a or b, a and b and a + b, not a, (a > 1) and (b > 1)


@case((1, 2.0), (0, 2.0), (1, -2.0), grad=False)
def truth_of_different_kinds(n, x):
    if n and x > 0:
        x = x * 2
    while n or x > 100:
        n = n * 0
        x = x + 1
    return x if not (n and x) else -x


@case(2.0, -2.0)
def python_operands(x):
    known = None
    y = known or x
    z = [] or (known is None and x > 0)
    if known is not None and known > 3:
        y = y * 100
    if z or known:
        y = y + 1
    return y if z else -y


@case((1.0, 2.0), (3.0, 2.0))
def a_chain_evaluates_once(x, y):
    seen = []

    def note(v):
        seen.append(v)
        return v

    ok = note(0.0) < note(2.0) < note(1.0) < note(9.0)
    assert len(seen) == 3 and ok is False
    return x if note(x) < note(y) < 5 else y


# Functions


def absolute(x):
    if x < 0:
        return -x
    return x


def power(x, n):
    return x * power(x, n - 1) if n else 1.0


def with_defaults(x, *more, scale=2.0, **options):
    for y in more:
        x = x + y if y > 0 else x
    return x * (scale if x > 0 else options["other"])


def noted(fn):
    @functools.wraps(fn)
    def around(*args):
        return fn(*args) * 2

    return around


@noted
def decorated(x):
    if x > 0:
        return x * x
    return x


class Scale:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return x * self.factor if x > 0 else x


@grad_mode(True)
def decorated_by_a_library(x):
    if x > 0:
        return x * x
    return x


@case(2.0, -2.0)
def helpers(x):
    y = functools.partial(absolute)(x) + power(x, 3)
    z = with_defaults(Scale(3.0)(x), y, -y, other=0.5)
    return y, z, decorated(x), decorated_by_a_library(x)


def outer(scale):
    def inner(x):
        if x > scale:
            return x * scale
        return x

    return inner


inner = case(2.0, 5.0)(outer(3.0))


@case(2.0, -2.0)
def functions_inside(x):
    scale = 1.0

    def scaled(y, by=3.0):
        if y > 0:
            return y * scale * by
        return y

    def count():
        nonlocal scale
        scale = scale + 1.0

    count()
    count()
    z = scaled(x)
    if x > 0:
        scale = x
    return z, scaled(x), [scaled(y) for y in (x, -x)][1], (lambda y: y if y > 0 else -y)(x)


@case(2.0, -2.0)
def passed_on(x):
    def step(h, y):
        h = h + y if y > 1 else h - y
        return h, h

    h, ys = ti.scan(step, x, ti.arange(4).astype("float64"))
    return h, ys


@pytest.mark.parametrize("fn, inputs, grad", CASES)
def test_scripted_is_eager(fn, inputs, grad):
    agree(fn, script(fn, *map(ti.tensor, inputs[0])).verify(), inputs, grad)
    assert mode.trace is None


# Modules


class Gate(nn.Module):
    """Its class is the user's, so its forward is converted, wherever it is called."""

    def __init__(self, n):
        self.linear = nn.Linear(n, n)
        self.count = ti.State(np.array(0))
        self.__limit = 0.5

    def forward(self, x):
        __limit = self.__limit
        if x.max() > 5:
            __limit = __limit * 2
        y = self.linear(x)
        if y.sum() > __limit:
            self.count.assign(self.count + 1)
            return ti.relu(y)
        return self.shrunk(y)

    def shrunk(self, y):
        for _ in range(2):
            if y.max() > 0:
                self.count.assign(self.count + 10)
                y = y * 0.5
        return y


class LoudGate(Gate):
    def forward(self, x):
        if x.sum() > 0:
            x = super().forward(x) * 2.0
        return super().forward(x)


class Model(nn.Module):
    def __init__(self):
        self.body = nn.Sequential(nn.Linear(3, 4), LoudGate(4), nn.ReLU(), Gate(4))
        self.cell = nn.RNN(4, 2)

    def forward(self, x):
        h = self.body(x)
        return self.cell(h)[0] if h.mean() < 10 else h[:, :2]


def states_of(model):
    return [s.numpy().copy() for s in model.states()]


def put_back(model, values):
    for state, value in zip(model.states(), values):
        state.assign(value)


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: m.forward, lambda m: calls(m)])
def test_modules(wrap):
    ti.manual_seed(3)
    model = Model()
    start = states_of(model)
    xs = [R.randn(5, 3).astype(np.float32) * 3 for _ in range(8)]
    eager = [model(ti.tensor(x)).numpy() for x in xs]
    ends = states_of(model)
    put_back(model, start)
    graph = script(wrap(model), ti.Spec((5, 3), np.dtype("float32"))).verify()
    assert all(map(np.array_equal, states_of(model), start))  # scripting changes nothing
    assert not any("forward" in vars(m) for m in model.modules())
    for x, y in zip(xs, eager):
        assert np.allclose(graph.run(x), y, atol=1e-6)
    assert all(map(np.array_equal, states_of(model), ends))
    assert "cond" in steps_of(graph) and sum(int(x) for x in ends if x.shape == ()) > 0


def calls(model):
    """A function of the user that calls the model."""

    def predict(x):
        y = model(x)
        return y if y.sum() > -1e9 else -y

    return predict


def test_gradients_of_modules():
    ti.manual_seed(3)
    model = Model()

    def step(x):
        model.zero_grad()
        loss = (model(x) ** 2).sum()
        loss.backward()
        for p in model.parameters():
            p.assign(p - p.grad * 0.01)
        return loss

    start = states_of(model)
    xs = [R.randn(5, 3).astype(np.float32) for _ in range(5)]
    eager = [step(ti.tensor(x)).item() for x in xs]
    ends = states_of(model)
    put_back(model, start)
    graph = script(step, ti.tensor(xs[0]))
    assert np.allclose([graph.run(x) for x in xs], eager, rtol=1e-4)
    for a, b in zip(states_of(model), ends):
        assert np.allclose(a, b, atol=1e-5)


def test_forward_comes_back_after_an_error():
    class Bad(Gate):
        def forward(self, x):
            if x.sum() > 0:
                self.last = x
            return x

    model = nn.Sequential(Bad(2))
    with pytest.raises(ti.GraphError, match="this would change a Bad"):
        script(model, ti.tensor([1.0, 2.0]))
    assert "forward" not in vars(model[0]) and mode.trace is None


def test_states_in_branches_and_loops():
    count, last = ti.State(np.array(0)), ti.State(np.array(0.0), name="last")
    limits = ti.tensor([0.0, 0.5, 1.0, 1.5])

    def f(x):
        for i in range(4):
            if x > limits[i]:
                count.assign(count + 1)
                last.assign(x * 2)
                x = x - last * 0.25
        while last > 1:
            last.assign(last / 2)
        if last > 0.7:
            count.assign(count + 100)
        return x

    xs = [0.3, 5.0, -1.0, 2.0]
    eager = [f(ti.tensor(np.array(x))).item() for x in xs]
    ends = count.item(), last.item()
    count.assign(np.array(0)), last.assign(np.array(0.0))
    graph = script(f, ti.tensor(np.array(0.0)))
    assert count.item() == 0
    assert np.allclose([graph.run(np.array(x)) for x in xs], eager)
    assert (count.item(), last.item()) == ends and ends[0] > 0


# Graphs


def straight(x, w):
    h = (
        (x @ w)
        .tanh()
        .sum()
    )  # fmt: skip
    parts = [h * k for k in (1.0, 2.0)]
    if x.shape[0] == 2 and not w.requires_grad:
        parts = parts[::-1]
    return {"h": h, "more": [p + 1 for p in parts]}


@pytest.mark.parametrize("fn", [straight, nn.Linear(3, 3).forward, nn.LSTM(3, 4), ti.relu])
def test_without_control_flow_it_is_the_traced_graph(fn):
    xs = [ti.tensor(R.randn(2, 3).astype(np.float32)), ti.tensor(R.randn(3, 2).astype(np.float32))]
    xs = xs if fn is straight else xs[:1]
    assert str(script(fn, *xs)) == str(ti.trace(fn, *xs))


def test_what_becomes_of_loops():
    def names(fn, *xs):
        return {*steps_of(script(fn, *map(ti.tensor, xs)))} & {"cond", "while", "scan"}

    assert names(rnn, R.randn(5, 3), R.randn(3), R.randn(3, 3)) == {"scan"}
    assert names(collatz, 3) == {"while", "cond"}
    assert names(gcd, 3, 4) == {"while"}
    assert names(elif_and_return, 1.0) == {"cond"}
    assert names(python_loops, 1.0, [1.0, 2.0, 3.0]) == {"cond"}
    assert names(triangle, 3) == {"while", "cond"}


def test_only_what_is_asked_for_is_carried():
    def f(x, n):
        unused = 0
        for i in range(3):
            square = x * x
            x = square + n[i]
            unused = x + 1  # noqa: F841
        return x

    def g(x):
        if x > 0:
            double = x * 2
            y = double + 1
        else:
            y = x
        return y

    (scan,) = [
        n
        for n in script(f, ti.tensor(np.array(1.0)), ti.tensor(R.randn(3))).steps
        if n.op.name == "scan"
    ]
    assert scan.op.carries == 1

    def h(x):
        if x > 0:
            y, z = [x], x * 2
        else:
            y, z = [x], x
        return y[0], z

    for fn in g, h:
        (cond,) = [n for n in script(fn, ti.tensor(1.0)).steps if n.op.name == "cond"]
        assert len(cond.spec) == 1


def test_a_break_ends_a_while_loop():
    def f(x, n):
        for i in range(n):
            if x > 5:
                break
            x = x + i
        return x

    graph = script(f, ti.tensor(0), ti.tensor(0))
    assert [graph.run(np.array(1), np.array(n)) for n in (0, 3, 99)] == [1, 4, 7]
    assert [*steps_of(graph)].count("cond") == 1  # that of the break


def test_values_of_python_are_told_apart():
    def zero(x):
        return 0.0 if x > 0 else -0.0

    def one(x):
        return 1 if x > 0 else 1.0

    assert [np.signbit(script(zero, ti.tensor(1.0)).run(np.float32(x))) for x in (1, -1)] == [0, 1]
    assert script(one, ti.tensor(1.0)).run(np.float32(1)).dtype == np.float32


def test_what_is_the_same_on_both_paths_is_still_that():
    known = []

    def f(x):
        if x > 0:
            y, found = x, known
        else:
            y, found = -x, known
        found.append("seen")
        return y

    assert script(f, ti.tensor(1.0)).run(np.float32(-2)) == 2 and known == ["seen"]


def test_lines():
    graph, first = script(guards, ti.tensor(1.0)), guards.__code__.co_firstlineno + 1
    (cond,) = [n for n in graph.steps if n.op.name == "cond"]
    (inner,) = [n for n in cond.op.otherwise.steps if n.op.name == "cond"]
    assert cond.origin.line == f"test_script.py:{first + 1}"
    assert inner.origin.line == f"test_script.py:{first + 3}"
    (twice,) = inner.op.then.steps
    assert twice.origin.line == f"test_script.py:{first + 4}"


def test_traced_they_are_refused():
    for fn in elif_and_return, newton_sqrt, guards:
        with pytest.raises(ti.GraphError, match=r"test_script\.py:\d+ asks .* ti\.script"):
            ti.trace(fn, ti.tensor(1.0))


def test_converted_code_outside_of_a_trace_is_python():
    kept = []

    def f(x):
        def g(y):
            while y > 1:
                y = y / 2
            for i in range(3):
                y = y + 1 if i > 0 else y
            return y if y > 0 else -y

        kept.append(g)
        return g(x)

    script(f, ti.tensor(5.0))
    assert kept[0](ti.tensor(8.0)).item() == 3 and kept[0](-9) == 7


# What cannot be


def grows(x):
    out = []
    for i in range(3):
        out.append(x * i)
    return out


def assigns_items(x):
    known = {"y": x}
    if x > 0:
        known["y"] = -x
    return known["y"]


def adds_in_place(x):
    out = [x]
    if x > 0:
        out += [x]
    return out[-1]


class Box:
    def __init__(self):
        self.value, self.items = 0.0, []


BOX = Box()


def assigns_attributes(x):
    while x > 0:
        BOX.value = x
        x = x - 1
    return x


def reaches_a_list(x):
    if x > 0:
        BOX.items.append(x)
    return x


def changes_shape(x):
    y = x * 1.0
    for _ in x:
        y = ti.concat([y, y])
    return y


def changes_dtype(x):
    n = ti.tensor(0)
    while x > 0:
        n = n * 0.5 if False else x
        x = x - 1
    return n


def differs_in_shape(x):
    return x if x.sum() > 0 else x.sum()


def differs_in_kind(x):
    if x > 0:
        name = "positive"
    else:
        name = "negative"
    return {"positive": x, "negative": -x}[name]


def differs_in_form(x):
    if x > 0:
        return x, x
    return x


def returns_nothing(x):
    if x > 0:
        return x


def not_yet(x):
    for i in range(3):
        if i > 0:
            y = y + x  # noqa: F821
        else:
            y = x
    return y


def not_on_this_side(x):
    if x > 0:
        y = x
    else:
        x = y * 2
    return x


def tries(x):
    if x > 0:
        try:
            x = x * 2
        except ValueError:
            x = x * 3
    return x


def imports(x):
    if x > 0:
        import math

        x = x * math.pi
    return x


def deletes(x):
    y = x * 2
    if x > 0:
        del y
        y = x
    return y


def assigns_global(x):
    global CASES
    if x > 0:
        CASES = None
    return x


def assigns_nonlocal(x):
    n = 0

    def count():
        nonlocal n
        n = n + 1

    if x > 0:
        count()
    return x * n


def raises(x):
    if x < 0:
        raise ValueError("negative")
    return x


def asserts(x):
    assert x > 0, "positive numbers only"
    return x


def factorial(n):
    return n * factorial(n - 1) if n > 1 else n


def condition_of_many(x):
    return x if ti.stack([x, x]) > 0 else -x


def counts_in_floats(x):
    y = x
    for _ in range(x):
        y = y + x
    return y


def generator(x):
    yield x


def lists_a_range(x):
    return [x * i for i in range(x.astype("int64"))]


BAD = [
    (
        grows,
        3,
        "in a branch or a loop of the graph .* this would change a list from outside.*ti.scan",
    ),
    (assigns_items, 3, "would change a dict from outside"),
    (adds_in_place, 3, "would change a list from outside"),
    (assigns_attributes, 2, "would change a Box from outside"),
    (reaches_a_list, 2, "would change a list from outside"),
    (changes_dtype, 2, r"n is int64\[\] before the loop and float32\[\] after a turn.*astype"),
    (
        differs_in_kind,
        1,
        "name is 'positive' on one path and 'negative' on the other.*Python value",
    ),
    (differs_in_form, 1, "what is returned is a tuple of 2 on one path and float32.. on the other"),
    (returns_nothing, 1, "what is returned is float32.. on one path and None on the other"),
    (not_yet, 3, "y has no value here on one of the paths.*give it one before"),
    (not_on_this_side, 4, "y has no value here on one of the paths.*give it one before"),
    (tries, 2, "in a branch or a loop of the graph .* try would happen once"),
    (imports, 2, "import would happen once"),
    (deletes, 3, "del would happen once"),
    (assigns_global, 3, "an assignment to CASES from outside would happen once"),
    (assigns_nonlocal, 5, "an assignment to n from outside would happen once"),
    (raises, 2, r"in a branch.*ValueError\('negative'\) is raised.*a graph raises nothing"),
    (asserts, 1, r"assert of a bool\[\]: a graph raises nothing"),
    (factorial, 1, "a function calls itself.*while loop"),
    (condition_of_many, 1, r"a condition is one number, not a bool\[2\]: ti.where"),
    (counts_in_floats, 2, r"range counts in whole numbers, not to float32\[\]"),
    (lists_a_range, 1, "only a for can go through a range that a tensor limits"),
]


@pytest.mark.parametrize("fn, offset, message", [pytest.param(*b, id=b[0].__name__) for b in BAD])
def test_errors(fn, offset, message):
    line = fn.__code__.co_firstlineno + offset
    with pytest.raises((ti.GraphError, ti.DTypeError, ti.ShapeError)) as caught:
        script(fn, ti.tensor(1.0))
    assert caught.match(rf"^test_script\.py:{line}: .*{message}"), caught.value
    assert mode.trace is None


def test_shape_errors():
    with pytest.raises(
        ti.ShapeError, match=r"y is float32\[2\] before the loop and float32\[4\] after"
    ):
        script(changes_shape, ti.tensor([1.0, 2.0]))
    with pytest.raises(
        ti.ShapeError, match=r"the value is float32\[2\] on one path and float32\[\]"
    ):
        script(differs_in_shape, ti.tensor([1.0, 2.0]))


made = {}
exec("def without_source(x):\n    return x if x > 0 else -x", made)


@pytest.mark.parametrize("fn", [lambda x: x, len, generator, made["without_source"]])
def test_functions_without_a_def(fn):
    with pytest.raises(ti.GraphError, match="no source of a def .* write it as a def.* in a file"):
        script(fn, ti.tensor(1.0))


def test_a_file_that_has_changed(tmp_path):
    path = tmp_path / "user.py"
    path.write_text("def f(x):\n    return x if x > 0 else -x\n")
    names = {}
    exec(compile(path.read_text(), str(path), "exec"), names)
    path.write_text("\n\ndef f(x):\n    return x\n")
    with pytest.raises(ti.GraphError, match="user.py has changed since it was imported"):
        script(names["f"], ti.tensor(1.0))


# Random programs


@pytest.mark.parametrize("seed", range(150))
def test_random_programs(seed, tmp_path):
    fn = load(seed, tmp_path)
    inputs = [inputs_of(seed, i) for i in range(5)]
    graph = script(fn, *map(ti.tensor, inputs[0])).verify()
    for arrays in inputs:
        wanted = [y for y in fn(*map(ti.tensor, arrays))]
        for a, b in zip(flat(graph.run(*arrays)), wanted):  # what is always the same number is none
            assert np.allclose(a, b.numpy() if isinstance(b, ti.Tensor) else b, rtol=1e-10)
        if "while" not in steps_of(graph):
            for a, b in zip(slopes(lambda *xs: graph(*xs), arrays), slopes(fn, arrays)):
                assert np.allclose(a, b, rtol=1e-9)
