"""cond, while_loop and scan in a generated function: `if`, `while` and `for` of it, and nothing that
Python would have to do; the results are those of the interpreter."""

import signal

import numpy as np
import pytest

import tinyinfer as ti

RNG = np.random.RandomState(0)
X, ROWS, NONE = RNG.randn(4).astype("f4"), RNG.randn(5, 4).astype("f4"), np.zeros(4, "f4")
W = ti.tensor(RNG.randn(4, 4).astype("f4"))


def words(text) -> set:
    """That its lines begin with: of those of the function."""
    body = text[text.index("@whole") : text.index("@native")]
    return {line.split()[0].rstrip(":") for line in body.splitlines() if line.strip()}


def agree(fn, *arguments, has, python=False):
    """Compiled once, for all arguments; the function, and what it gave the last time."""
    compiled, interpreted = ti.compile(fn, kernels="fast"), ti.compile(fn, "interpreted")
    with ti.no_grad():
        for xs in arguments:
            got, wanted = (flat(run(*map(ti.tensor, xs))) for run in (compiled, interpreted))
            for a, b in zip(got, wanted, strict=True):
                assert a.dtype == b.dtype and a.shape == b.shape
                assert np.allclose(a, b, rtol=1e-5, atol=1e-6), xs
    assert words(compiled.source) >= {*has.split()}
    assert ("python(callback" in compiled.source) == python
    return compiled


def flat(ys):
    if isinstance(ys, tuple | list):
        return [y for inner in ys for y in flat(inner)]
    return [ys.numpy().copy()]


def test_a_branch():
    fn = lambda x: ti.cond(x.sum() > 0.0, lambda: ti.tanh(x) @ W, lambda: x * 2.0)
    agree(fn, [X], [-X], [NONE], has="if else")


def test_a_branch_that_does_nothing():
    agree(lambda x: ti.cond(x.sum() > 0.0, lambda: x, lambda: ti.exp(x)), [X], [-X], has="if else")


def halved(x):
    return ti.while_loop(lambda x: ti.abs(x).max() > 0.5, lambda x: x * 0.7 - 0.01, x)


def test_a_loop():
    agree(halved, [X], [100 * X], [NONE], has="while")


def counted(x, n):
    """Up to a number that is known when it runs; and how often an element was positive."""

    def turn(i, x, hits):
        return i + 1, ti.tanh(x @ W), hits + ti.where(x[0] > 0.0, 1, 0)

    return ti.while_loop(lambda i, *_: i < n, turn, ti.tensor(0), x, ti.tensor(0))


def test_a_loop_that_counts():
    numbers = [np.array(n) for n in (0, 1, 7, -3)]
    agree(counted, *([X, n] for n in numbers), has="while")


@pytest.mark.parametrize("bound", [1, 4])
def test_a_bound(bound):
    def fn(x, n):
        turn = lambda i, x: (i + 1, x * 1.5)
        return ti.while_loop(lambda i, x: i < n, turn, ti.tensor(0), x, bound=bound)

    has = "if for" if bound > 1 else "if"  # a loop of one turn is none
    agree(fn, *([X, np.array(n)] for n in (0, 1, 3, 9)), has=has)


def turn(h, x):
    return ti.tanh(h + x @ W), (h.sum(), x * 2.0)


@pytest.mark.parametrize("reverse", [False, True])
def test_rows(reverse):
    agree(lambda h, xs: ti.scan(turn, h, xs, reverse), [X, ROWS], [NONE, -ROWS], has="for")


@pytest.mark.parametrize("reverse", [False, True])
def test_rows_and_a_first_carry_that_never_change(reverse):
    agree(lambda xs: ti.scan(turn, ti.zeros(4), xs, reverse), [ROWS], has="for")
    agree(lambda h: ti.scan(turn, h, ti.tensor(ROWS), reverse), [X], has="for")
    every = lambda h: ti.scan(
        lambda h, x: (h + x[0] * x[1].sum(), h), h, (ROWS, ti.ones(5, 3)), reverse
    )
    agree(every, [X], has="for")


def test_rows_are_counted():
    def numbered(carry, x):
        h, n = carry
        return (h + x, n + 1), (n * 2, h.max())

    agree(lambda h, xs: ti.scan(numbered, (h, ti.tensor(0)), xs), [X, ROWS], has="for")


def nested(x, xs):
    """if in while in for, and a for in the if."""

    def sums(h):
        return ti.scan(lambda s, r: (s + r * 0.1, s.sum()), h, ti.tensor(ROWS[:3]))[0]

    def row(h, r):
        def again(i, h):
            change = ti.cond(h.sum() > 0.0, lambda: sums(h) - r, lambda: ti.exp(-h * h))
            return i + 1, ti.tanh(change)

        i, h = ti.while_loop(lambda i, h: (i < 4) & (h.max() > 0.1), again, ti.tensor(0), h)
        return h, i

    return ti.scan(row, x, xs)


def test_in_one_another():
    f = agree(nested, [X, ROWS], [-X, -ROWS], [NONE, 0 * ROWS], has="for while if else")
    inside = [
        line for line in f.source.splitlines() if line.strip().startswith(("for", "while", "if"))
    ]
    depths = [len(line) - len(line.lstrip()) for line in inside]
    assert depths == [4, 8, 12, 16]


def test_a_state_in_a_loop():
    total, turns = ti.State(np.zeros(4, "f4")), ti.State(np.array(0))

    def fn(x):
        def turn(x):
            total.assign(total + x)
            turns.assign(turns + 1)
            return x * 0.5

        return ti.while_loop(lambda x: x.max() > 0.3, turn, x)

    def both_states(run):
        total.assign(np.zeros(4, "f4"))
        turns.assign(np.array(0))
        for _ in range(2):
            run(ti.tensor(np.float32([1, 2, 3, 4])))
        return total.tolist(), turns.item()

    f = ti.compile(fn, kernels="fast")
    assert (
        both_states(f) == both_states(ti.compile(fn, "interpreted")) == ([3.75, 7.5, 11.25, 15], 8)
    )
    assert "while" in words(f.source) and "python(callback" not in f.source


def test_the_gradient_of_a_loop_is_a_loop():
    def fn(h, xs):
        def loss(h):
            end, ys = ti.scan(lambda h, x: (ti.tanh(h @ W + x), h), h, xs)
            return (end * end).sum() + ys.sum()

        h = ti.Tensor(h.node) if h.requires_grad else h
        return ti.grad(loss(h), h)

    compiled, x = ti.compile(fn, kernels="fast"), ti.tensor(X, requires_grad=True)
    got, wanted = compiled(x, ti.tensor(ROWS)), fn(x, ti.tensor(ROWS))
    assert np.allclose(got.numpy(), wanted.numpy(), rtol=1e-5, atol=1e-6)
    assert compiled.source.count("    for ") >= 2


def test_a_body_with_a_step_for_python():
    """Then the whole loop is one: it goes on where its steps are called one by one."""

    def fn(x):
        return ti.while_loop(lambda x: x.max() > 0.5, lambda x: ti.sin(x) * 0.9, x)

    f = agree(fn, [X], [NONE], has="python(callback,", python=True)
    assert "while" not in words(f.source) and "there is only NumPy for it" in f.source


@pytest.mark.parametrize("depth", [5, 14])
def test_deep_in_one_another(depth):
    """Python reads no source that is deeper than some blocks: then it is its step."""

    def fn(x, depth):
        if depth == 0:
            return x * 2.0
        return ti.cond(x.sum() > 0.0, lambda: fn(ti.tanh(x), depth - 1), lambda: x - 1.0)

    f = agree(lambda x: fn(x, depth), [X], [-X], [abs(X)], has="", python=depth > 10)
    assert ("it is deep in others" in f.source) == (depth > 10)


class Stopped(Exception):
    pass


@pytest.fixture
def stopped_soon():
    """A signal comes in a moment, as of Ctrl-C."""

    def stop(*_):
        raise Stopped

    before = signal.signal(signal.SIGALRM, stop)
    yield lambda: signal.setitimer(signal.ITIMER_REAL, 0.1)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="this system has no timer that signals")
@pytest.mark.parametrize("bound", [None, 10**15])
def test_a_loop_without_end_hears_a_signal(stopped_soon, bound):
    @ti.compile
    def grown(x):
        return ti.while_loop(lambda x: x.max() < 9.0, lambda x: x * 2.0, x, bound=bound)

    with ti.no_grad():
        assert grown(ti.ones(3)).tolist() == [16.0] * 3
        stopped_soon()
        with pytest.raises(Stopped):
            grown(ti.zeros(3))
        assert grown(ti.ones(3)).tolist() == [16.0] * 3
