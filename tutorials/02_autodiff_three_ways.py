# %% [markdown]
# # 2. Automatic differentiation, three ways
#
# A program computes a function; we want another program that computes its derivative, exactly,
# and without doing calculus on paper. There are three ways to get it, and they differ in *who
# looks at the program, and when*:
#
# 1. an **elemental library**: nobody does. You call functions that give a value and a way back,
#    and put the ways back together by hand;
# 2. **operator overloading**: the numbers do, while the program runs. They write down what
#    happens to them;
# 3. **source transformation**: a compiler does, before the program runs. It reads the text and
#    writes another text.
#
# We build all three, each on the rules of the one before, for the same functions and under the
# same check. Then we count what each of them does.

# %%
import ast
import inspect
import textwrap
from collections import Counter
from itertools import count
from types import SimpleNamespace

import numpy as np
from IPython.display import Code, Markdown

import tinyinfer as ti

# %% [markdown]
# ## Two functions, and one check
#
# The functions are written once. `sin`, `cos` and `exp` ask their argument first whether it has a
# method of that name: so the same function can be given floats, or objects of our own.


# %%
def elementary(name):
    return lambda x: getattr(x, name)() if hasattr(x, name) else getattr(np, name)(x)


sin, cos, exp = map(elementary, ("sin", "cos", "exp"))


def spring(x, y):
    a = x * y
    b = sin(a)
    c = a + b  # a is used twice, and so is b
    return c * b


def bump(x, y):
    x = x * x  # a name that is used again
    return exp(-x) / y


# %% [markdown]
# What is a right gradient? One that agrees with measured slopes. Go a small step $h$ both ways
# along one input; the error of this *central difference* is of the order $h^2$.
#
# Each of our ways will make from `f` a function that returns the value and all derivatives,
# `(f(x, y), (df/dx, df/dy))`, and `check` is the only judge.


# %%
def differences(f, xs, h=1e-6):
    steps = h * np.eye(len(xs))
    return [(f(*(xs + step)) - f(*(xs - step))) / (2 * h) for step in steps]


def check(f, gradient, points=20):
    """Does gradient(x, y) give f(x, y) and its derivatives, at some random points?"""
    for xs in np.random.default_rng(0).uniform(0.5, 2.0, (points, 2)):
        value, slopes = gradient(*xs)
        np.testing.assert_allclose(value, f(*xs), rtol=1e-12)
        np.testing.assert_allclose(slopes, differences(f, xs), rtol=1e-6, atol=1e-8)
    print(f"{f.__name__}: right at {points} points")


# %% [markdown]
# A check is worth as much as the mistakes it finds. Here is a gradient that forgets one of the
# two uses of `b`:


# %%
def forgetful(x, y):
    a = x * y
    slope = np.cos(a) * (a + np.sin(a))  # and where is sin(a) * (1 + cos(a)) ?
    return spring(x, y), (slope * y, slope * x)


try:
    check(spring, forgetful)
except AssertionError as error:
    print(str(error).strip().splitlines()[0], "...")
else:
    raise AssertionError("the check let a wrong gradient pass")

# %% [markdown]
# ## 1. An elemental library
#
# Each function returns two things: its value, and a *pullback*. The pullback takes $g$, the
# derivative of the final result by this value, and gives the derivatives by the inputs. In it
# stands the chain rule for this one step; what it needs to remember, the closure remembers.

# %%
lib = SimpleNamespace(
    add=lambda a, b: (a + b, lambda g: (g, g)),
    sub=lambda a, b: (a - b, lambda g: (g, -g)),
    mul=lambda a, b: (a * b, lambda g: (g * b, g * a)),
    div=lambda a, b: (a / b, lambda g: (g / b, -g * a / b / b)),
    neg=lambda a: (-a, lambda g: (-g,)),
    sin=lambda a: (sin(a), lambda g: (g * cos(a),)),
    exp=lambda a: ((y := exp(a)), lambda g: (g * y,)),
)


# %% [markdown]
# The composing is left to you. Forward, keep the pullbacks; back, call them in the opposite
# order, and add up where a value was used twice.


# %%
def spring_by_hand(x, y):
    a, pull_a = lib.mul(x, y)
    b, pull_b = lib.sin(a)
    c, pull_c = lib.add(a, b)
    result, pull_result = lib.mul(c, b)

    gc, gb = pull_result(1.0)
    ga, more = pull_c(gc)
    gb = gb + more
    (more,) = pull_b(gb)
    ga = ga + more
    return result, pull_a(ga)


def bump_by_hand(x, y):
    a, pull_a = lib.mul(x, x)
    b, pull_b = lib.neg(a)
    c, pull_c = lib.exp(b)
    result, pull_result = lib.div(c, y)

    gc, gy = pull_result(1.0)
    (gb,) = pull_c(gc)
    (ga,) = pull_b(gb)
    left, right = pull_a(ga)
    return result, (left + right, gy)


check(spring, spring_by_hand)
check(bump, bump_by_hand)

# %% [markdown]
# Two things were left to you, and only those: the *order*, and the *adding up*. Both are
# mechanical. The other two ways are two ways of not doing them by hand.
#
# (Why pullbacks and not derivatives? One could instead hand on pairs, value and derivative *by
# one input*, and they would compose by themselves. This is *forward mode*. But it needs one run
# for each input, and a network has as many inputs as it has weights.)
#
# ## 2. Operator overloading
#
# Now the numbers themselves do the writing down. A `Var` is a number that remembers which library
# function made it, from which `Var`s, and the pullback. Python lets us say what `+` and `*` mean
# for it, so `spring` itself runs on it unchanged.

# %%
clock = count()


class Var:
    def __init__(self, value, inputs=(), pull=None):
        self.value, self.inputs, self.pull, self.born = value, inputs, pull, next(clock)


def recorded(fn):
    def op(*args):
        inputs = [a if isinstance(a, Var) else Var(a) for a in args]
        value, pull = fn(*[a.value for a in inputs])
        return Var(value, inputs, pull)

    return op


Var.__add__ = Var.__radd__ = recorded(lib.add)
Var.__mul__ = Var.__rmul__ = recorded(lib.mul)
Var.__sub__, Var.__rsub__ = recorded(lib.sub), lambda a, b: recorded(lib.sub)(b, a)
Var.__truediv__, Var.__rtruediv__ = recorded(lib.div), lambda a, b: recorded(lib.div)(b, a)
Var.__neg__, Var.sin, Var.exp = map(recorded, (lib.neg, lib.sin, lib.exp))


# %% [markdown]
# The way back is what `spring_by_hand` did: from the youngest to the oldest, add up, call the
# pullback.


# %%
def tape(y):
    seen, todo = set(), [y]
    while todo:
        v = todo.pop()
        if v not in seen:
            seen.add(v)
            todo.extend(v.inputs)
    return sorted(seen, key=lambda v: v.born)


def by_tape(f):
    def gradient(*xs):
        xs = [Var(x) for x in xs]
        y = f(*xs)
        grads = {y: 1.0}
        for v in reversed(tape(y)):
            if v.pull:
                for a, ga in zip(v.inputs, v.pull(grads[v])):
                    grads[a] = grads[a] + ga if a in grads else ga
        return y.value, tuple(grads.get(x, 0.0) for x in xs)

    return gradient


check(spring, by_tape(spring))
check(bump, by_tape(bump))

# %% [markdown]
# That is a complete framework for scalars. tinyinfer is the same thing with arrays in the place
# of numbers, and three differences:
#
# | here | tinyinfer |
# |---|---|
# | `Var` is value, record and handle at once | a `Tensor` is a handle; the record is a `Node` |
# | the pullback is a closure, and opaque | the record names the op, and `op.vjp` is the rule: it can be printed, drawn, rewritten |
# | a rule computes with numbers | a rule is made of ops, so gradients have a tape too |
#
# The same functions, on tinyinfer's tape, under the same check:


# %%
def by_tinyinfer(f):
    def gradient(*xs):
        xs = [ti.tensor(x, requires_grad=True) for x in xs]
        y = f(*xs)
        return y.item(), [g.item() for g in ti.grad(y, xs)]

    return gradient


check(spring, by_tinyinfer(spring))
check(bump, by_tinyinfer(bump))

# %% [markdown]
# The package has a check of its own, `ti.testing.gradcheck`. It varies arrays along random
# directions, and goes on to gradients of gradients, which our closures, computing with plain
# numbers, cannot give:

# %%
for f in spring, bump:
    assert ti.testing.gradcheck(f, [np.array(1.3), np.array(0.7)], order=2)

# %% [markdown]
# ## 3. Source transformation
#
# The third way runs nothing. It takes the *text* of a function and writes the text of another
# one. Python's `ast` module turns text into a tree:

# %%
print(ast.dump(ast.parse("c = a + sin(b)").body[0], indent=2))

# %% [markdown]
# The rules are text as well. They are those of the library again: if $g$ arrives at $y$, what
# arrives at $a$ and at $b$?

# %%
RULES = {
    ast.Add: ("{g}", "{g}"),
    ast.Sub: ("{g}", "-{g}"),
    ast.Mult: ("{g} * {b}", "{g} * {a}"),
    ast.Div: ("{g} / {b}", "-{g} * {y} / {b}"),
    ast.USub: ("-{g}",),
    "sin": ("{g} * cos({a})",),
    "cos": ("-{g} * sin({a})",),
    "exp": ("{g} * {y}",),
}


# %% [markdown]
# First, make the function simple: one operation a line, and each name assigned once. (Compilers
# call this *static single assignment*.) `place` writes the lines that an expression needs, and
# returns the name of its value.


# %%
class Straight:
    """A function as lines (name, rule, arguments), each a step, in order."""

    def __init__(self, source):
        function = ast.parse(textwrap.dedent(source)).body[0]
        self.name, self.params = function.name, [p.arg for p in function.args.args]
        self.taken, self.lines, self.text = set(self.params), [], []
        self.now = {p: p for p in self.params}  # what a name of the source is called here
        for statement in function.body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self.now[name] = self.place(value, name)
                case ast.Return(value=value):
                    self.result = self.place(value, "result")
                case _:
                    self.refuse(statement)

    def place(self, e, name="t"):
        match e:
            case ast.Constant(value=value):
                return repr(value)
            case ast.Name(id=known):
                return self.now[known]
            case ast.BinOp(left=left, op=op, right=right):
                rule, args = type(op), [self.place(left), self.place(right)]
                step = ast.BinOp(ast.Name(args[0]), op, ast.Name(args[1]))
            case ast.UnaryOp(op=op, operand=operand):
                rule, args = type(op), [self.place(operand)]
                step = ast.UnaryOp(op, ast.Name(args[0]))
            case ast.Call(func=ast.Name(id=rule) as func, args=operands):
                args = [self.place(x) for x in operands]
                step = ast.Call(func, [ast.Name(x) for x in args], [])
            case _:
                self.refuse(e)
        if rule not in RULES:
            self.refuse(e)
        y = self.fresh(name)
        self.lines.append((y, rule, args))
        self.text.append(f"{y} = {ast.unparse(step)}")
        return y

    def fresh(self, name):
        names = (f"{name}{i or ''}" for i in count(name == "t"))
        new = next(n for n in names if n not in self.taken)
        self.taken.add(new)
        return new

    def refuse(self, node):
        text = ast.unparse(node).splitlines()[0]
        raise NotImplementedError(
            f"line {node.lineno}, {text!r}: only assignments and a return, of + - * / sin cos exp"
        )


print("\n".join(Straight(inspect.getsource(bump)).text))


# %% [markdown]
# Then walk the lines from the last to the first. For each, write down what its rule says; where
# something has arrived before, write a sum. Order and adding up again, but now decided *while
# writing*.
#
# And because the whole text can be looked at before anything runs, lines that nothing needs can
# be left out.


# %%
def differentiate(source, only=None):
    """The source of f(x, ...) -> the source of a function giving the value and the gradient; or,
    with the name of a parameter, giving the derivative by this one alone."""
    f = Straight(source)
    text, grads = [*f.text], {f.result: f.fresh(f"g_{f.result}")}
    text.append(f"{grads[f.result]} = 1.0")
    for y, rule, args in reversed(f.lines):
        for a, formula in zip(args, RULES[rule]) if y in grads else ():
            if a in f.taken:  # and is not a number
                arrives = formula.format(g=grads[y], y=y, a=args[0], b=args[-1])
                if a in grads:
                    arrives = f"{grads[a]} + {arrives}"
                else:
                    grads[a] = f.fresh(f"g_{a}")
                text.append(f"{grads[a]} = {arrives}")
    slopes = [grads.get(p, "0.0") for p in f.params]
    result = f"{f.result}, ({', '.join(slopes)})" if only is None else grads.get(only, "0.0")
    name = f"{f.name}_gradient" if only is None else f"{f.name}_by_{only}"
    body = "\n    ".join([*alive(text, result), f"return {result}"])
    return f"def {name}({', '.join(f.params)}):\n    {body}\n"


def alive(text, result):
    """The lines that the result depends on."""
    names = lambda code: {n.id for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Name)}
    needed, kept = names(result), []
    for line in reversed(text):
        if line.split()[0] in needed:
            needed |= names(line)
            kept.insert(0, line)
    return kept


spring_source = differentiate(inspect.getsource(spring))
Code(spring_source, language="python")

# %% [markdown]
# Compare it, line by line, with `spring_by_hand`. Nobody wrote this one. And it is ordinary code,
# which we can run:


# %%
def run(source):
    names = {"sin": sin, "cos": cos, "exp": exp}
    exec(source, names)
    return names[ast.parse(source).body[0].name]


check(spring, run(spring_source))
check(bump, run(differentiate(inspect.getsource(bump))))

# %% [markdown]
# Text in, text out: so it can be done twice. Here is $\partial^2 / \partial x^2$ of `bump`, from
# the text of $\partial / \partial x$.

# %%
once = differentiate(inspect.getsource(bump), only="x")
twice = differentiate(once, only="x")
print(once)
print(twice)

# %% [markdown]
# The second derivative of $e^{-x^2} / y$ is $(4x^2 - 2) \, e^{-x^2} / y$:

# %%
for x, y in (0.3, 0.8), (1.1, 2.0):
    np.testing.assert_allclose(run(twice)(x, y), (4 * x**2 - 2) * np.exp(-(x**2)) / y)


# %% [markdown]
# ## What each can see
#
# So far all three agree. They part where a program has control flow. How often this loop runs
# depends on the number it is given:


# %%
def grow(x, y):
    while x < 100.0:
        x = x * x + 1.0
    return x * y


# %% [markdown]
# *The tape* sees what happened. For it there are no loops, only the steps that were made; the
# next call makes another tape. (We teach `Var` and float to compare, and that is all.)

# %%
Var.__lt__ = lambda a, b: a.value < b

for x in 5.0, 1.5, 0.5:
    y = grow(Var(x), Var(1.0))
    print(f"from {x}: {sum(v.pull is not None for v in tape(y)):2} steps on the tape")

check(grow, by_tape(grow))
check(grow, by_tinyinfer(grow))

# %% [markdown]
# But it sees *only* what happened. The function below is $x^2$ for every $x$, by a shortcut at
# one point. There the tape has no step in it that depends on `x`, and the slope comes out as 0,
# not 2:


# %%
def square(x, y):
    return x * x * y if x < 1.0 or 1.0 < x else 1.0 * y


Var.__gt__ = lambda a, b: a.value > b
for x in 0.999, 1.0, 1.001:
    value, (slope, _) = by_tape(square)(x, 1.0)
    print(f"x = {x}: value {value:.3f}, slope {slope:.3f}")

assert by_tape(square)(1.0, 1.0)[1][0] == 0.0

# %% [markdown]
# *The compiler* has to understand everything it reads. Ours knows straight lines, and says so:

# %%
try:
    differentiate(inspect.getsource(grow))
except NotImplementedError as error:
    print(error)
else:
    raise AssertionError("this should have been refused")

# %% [markdown]
# A grown-up one (Tapenade, Enzyme, Zygote) writes a second loop that runs backwards, and a stack
# on which the first loop leaves its values. In exchange it sees branches that were not taken, and
# code that nobody needs. When only $\partial / \partial x$ is wanted, ours writes no line for
# $y$:

# %%
print(differentiate(inspect.getsource(spring), only="x"))


# %% [markdown]
# | | elemental library | operator overloading | source transformation |
# |---|---|---|---|
# | a loop, a branch | you write its way back | the steps and the branch that were taken | has to be understood, then all of it |
# | sees the whole program | no | when it has run | before it runs |
# | works for | what you write with it | all that goes through its objects | all that its compiler reads |
# | seen in | cuDNN, with a backward function beside each | PyTorch, HIPS autograd, tinyinfer's tape | Tapenade, Enzyme, Zygote |
#
# ## What each costs
#
# Counted, not timed. A float that counts what is done to it goes through every way unchanged:


# %%
class Counted(float):
    done = Counter()


def counting(name, of):
    def op(*args):
        Counted.done[name] += 1
        return Counted(of(*map(float, args)))

    return op


for name in "add radd sub rsub mul rmul truediv rtruediv neg".split():
    setattr(Counted, f"__{name}__", counting(name, getattr(float, f"__{name}__")))
for fn in np.sin, np.cos, np.exp:
    setattr(Counted, fn.__name__, counting(fn.__name__, fn))


def operations(fn, *xs):
    Counted.done.clear()
    fn(*map(Counted, xs))
    return Counted.done.total()


# %% [markdown]
# In tinyinfer every op knows what it costs, `flops`, and functions in the list `watchers` see
# every op that is computed:

# %%
from tinyinfer.core.autograd import ancestors
from tinyinfer.core.op import watchers
from tinyinfer.core.spec import spec_of


def operations_of_tinyinfer(fn, *xs):
    done = []
    watch = lambda op, arrays, result: done.append(op.flops(spec_of(result), *map(spec_of, arrays)))
    watchers.append(watch)
    try:
        fn(*xs)
    finally:
        watchers.remove(watch)
    return sum(done)


# %% [markdown]
# Two columns: the arithmetic for the value and both derivatives of `spring`, and how many objects
# each call makes to remember the way back.


# %%
def differences_of_spring(x, y, h=1e-6):
    by_x = (spring(x + h, y) - spring(x - h, y)) / (2 * h)
    by_y = (spring(x, y + h) - spring(x, y - h)) / (2 * h)
    return spring(x, y), (by_x, by_y)


at = 1.3, 0.7
ti_tape = ancestors([spring(*[ti.tensor(x, requires_grad=True) for x in at]).node], lambda n: True)
x_alone = run(differentiate(inspect.getsource(spring), only="x"))

rows = {
    "the function alone": (operations(spring, *at), 0),
    "differences": (operations(differences_of_spring, *at), 0),
    "1. elemental library, by hand": (
        operations(spring_by_hand, *at),
        inspect.getsource(spring_by_hand).count("= lib."),
    ),
    "2. overloading, `Var`": (operations(by_tape(spring), *at), len(tape(spring(*map(Var, at))))),
    "2. overloading, tinyinfer": (
        operations_of_tinyinfer(by_tinyinfer(spring), *at),
        len(ti_tape),
    ),
    "3. source transformation": (operations(run(spring_source), *at), 0),
    "3. the same, only by `x`": (operations(x_alone, *at), 0),
}
Markdown(
    "| | operations | objects to remember |\n|---|---:|---:|\n"
    + "\n".join(f"| {way} | {done} | {kept} |" for way, (done, kept) in rows.items())
)

# %% [markdown]
# The arithmetic of the three is the same, since the rules are. What differs is the remembering:
# the tape is made anew in every call, the text only once. And differences are dearer already with
# two inputs, besides being inexact.

# %%
ways = [rows[way][0] for way in rows if way[:2] in ("1.", "2.", "3.") and "only" not in way]
assert len(set(ways)) == 1
assert rows["3. the same, only by `x`"][0] < ways[0] < rows["differences"][0]


# %% [markdown]
# With more inputs the gap grows. Differences run the function twice for each input. The way back
# is one walk, however many inputs there are.


# %%
def chain(*xs):
    s = xs[0]
    for x in xs[1:]:
        s = s * x + sin(s)
    return s


text = "| inputs | function | gradient by tape | ratio | differences, at least |\n"
text += "|---:|---:|---:|---:|---:|\n"
for n in 2, 10, 100, 1000:
    xs = np.linspace(0.1, 0.9, n)
    once, back = operations(chain, *xs), operations(by_tape(chain), *xs)
    assert back <= 5 * once
    text += f"| {n} | {once:,} | {back:,} | {back / once:.1f} | {2 * n * once:,} |\n"
Markdown(text)

# %% [markdown]
# That the ratio stays below a small constant is called the *cheap gradient principle* (Baur and
# Strassen 1983). It is why networks with millions of weights can be trained.
#
# ## The best of two ways
#
# Overloading reads programs that no compiler understands; a text can be transformed before it
# runs. One can have both: run the program once on tensors *without numbers*, and the tape is a
# text. `ti.trace` does so, and since gradients are made of the same ops, they are in it too:


# %%
def spring_gradient(x, y):
    value = spring(x, y)
    gx, gy = ti.grad(value, [x, y])
    return value, gx, gy


examples = [ti.tensor(v, requires_grad=True) for v in at]
graph = ti.trace(spring_gradient, *examples)
print(graph)

# %% [markdown]
# It is the text of `spring_source` in other letters: first the function, then the way back.
# Nothing of it was parsed; rewriting, scheduling and compiling it is the business of the room
# `graph/`.

# %%
value, (gx, gy) = run(spring_source)(*at)
np.testing.assert_allclose(graph.run(*[x.numpy() for x in examples]), (value, gx, gy), rtol=1e-6)

# %% [markdown]
# The limit of overloading comes along. Where Python must look at a number to go on, there is none
# yet; the error says what to write instead.

# %%
try:
    ti.trace(grow, *examples)
except ti.GraphError as error:
    print(error)
else:
    raise AssertionError("this should have been refused")


# %% [markdown]
# A loop that is part of the graph is written as one:


# %%
def grow_in_graph(x, y):
    x = ti.while_loop(lambda x: x < 100.0, lambda x: x * x + 1.0, x)
    return x * y


graph = ti.trace(grow_in_graph, *examples)
print(graph)

# %% [markdown]
# ## To try
#
# 1. Add `log` to all three: one line in `lib`, one in `Var`, one in `RULES`. Then `check` it.
# 2. Give `Straight` an `if`: turn `a if p else b` into a rule with two arguments and a condition.
#    Which of the two gets the gradient?
# 3. In `by_tape`, walk `tape(y)` in another order. Which of the two functions does `check`
#    reject?
#
# Next: [an op, from the formula to the gradient](03_op_from_formula_to_gradient.ipynb).
