"""Random graphs over the whole table of ops, with what passes look for strewn in.

Every choice is `pick(n)`, a whole number below n, and 0 is the simplest: so that whatever draws the
numbers (hypothesis, or chance) describes a graph by a list of them, and can shrink it.
"""

from functools import partial
from math import prod

import numpy as np
from samples import ENTRIES

import tinyinfer as ti
from tinyinfer.core.autograd import ancestors, on_tape
from tinyinfer.errors import DTypeError, GraphError, TinyinferError

SHAPES = (2, 3), (3,), (), (2, 3, 4), (3, 3), (1, 2, 4, 4), (1, 3), (2, 1), (0, 3), (2, 2, 3), (5,)
FLOATS = "float32", "float32", "float64", "float16"
OTHERS = "int64", "bool", "int32", "uint8", "int8", "float64", "float16"
SPECIAL = 1, 0, 2, -1, 0.5, 3, -0.0, 0.1, 10, 4
LARGEST = 300  # elements of what is used again
MOMENTS = 5  # States for which there is another of that shape
DEEPEST = 2  # graphs inside graphs


def random_graph(pick, most=12):
    """A traced graph: up to `most` things are done with its inputs."""
    dtype = FLOATS[pick(len(FLOATS))]
    shapes = enumerate(SHAPES + SHAPES[:MOMENTS])
    states = [ti.State(numbers(i, s, dtype), i % 2 == 0, f"s{i}") for i, s in shapes]
    kinds = [
        (SHAPES[pick(len(SHAPES))], [dtype, *OTHERS][pick(12) % 8]) for _ in range(1 + pick(4))
    ]

    def program(*inputs):
        pool = Pool(pick, [*inputs, *states[: pick(4)]], states, dtype)
        pool.grow(1 + pick(most))
        outputs = [pool.result() for _ in range(1 + pick(4))]
        return outputs + [pool.known((3,)), inputs[0], outputs[0]][: pick(6) % 4]

    examples = [ti.tensor(np.zeros(*kind), requires_grad=kind[1] in FLOATS) for kind in kinds]
    return ti.trace(program, *examples)


def arrays_for(graph, seed, among=(0.0, 1.0, -0.0, -1.0, 2.0)):
    """Inputs for it: tame numbers, and the exact ones that rules ask for among them."""
    return [numbers(seed + i, *n.spec, among) for i, n in enumerate(graph.inputs)]


def numbers(seed, shape, dtype, among=(0.0, 1.0, -1.0, 2.0)):
    rng, dtype = np.random.RandomState(seed), np.dtype(dtype)
    if dtype.kind != "f":
        return rng.randint(0, 2 if dtype.kind == "b" else 5, shape).astype(dtype)
    x, exact = np.asarray(rng.uniform(-2, 2, shape)), np.asarray(rng.choice(among, shape))
    return np.where(rng.uniform(size=shape) < 0.3, exact, x).astype(dtype)


class Pool:
    """Tensors to go on from. What comes in is tame, so that no overflow decides a comparison."""

    def __init__(self, pick, tensors, states, dtype, depth=0):
        self.pick, self.states, self.dtype, self.depth = pick, states, np.dtype(dtype), depth
        self.tensors, self.results = list(tensors), []

    def grow(self, steps):
        for _ in range(steps):
            kinds = KINDS if self.depth < DEEPEST else FLAT
            made = self.choice(kinds)(self)
            for y in [made] if isinstance(made, ti.Tensor) else made:
                self.results.append(y)
                if y.size <= LARGEST:
                    self.tensors.append(self.tame(y))

    def inside(self, *tensors):
        """For a branch or a body, in which all of this can be used too."""
        pool = Pool(self.pick, [*self.tensors, *tensors], self.states, self.dtype, self.depth + 1)
        pool.grow(1 + self.pick(3))
        return pool

    # Choices

    def choice(self, xs):
        return xs[self.pick(len(xs))]

    def chance(self, n) -> bool:
        """True once in n times."""
        return self.pick(n) == n - 1

    def tensor(self):
        """The young ones more often: graphs get deep."""
        n = len(self.tensors)
        return self.tensors[-1 - self.pick(n if self.chance(3) else min(n, 3))]

    def result(self):
        found = self.results or self.tensors
        return found[-1 - self.pick(len(found))]

    def number(self):
        return self.choice(SPECIAL)

    def known(self, shape, dtype=None):
        """A constant: of one number, or of several."""
        dtype = dtype or self.dtype
        if self.chance(2):
            return ti.full(shape, self.number() if np.dtype(dtype).kind == "f" else 1, dtype)
        return ti.tensor(numbers(self.pick(9), shape, dtype))

    def float(self, shape=None):
        x = self.tensor()
        return self.fit(x, x.shape if shape is None else shape)

    def weight(self, shape):
        """What a layer has: a State, constants, or anything."""
        state = lambda: self.choice(self.states)
        return self.fit(self.choice([state, lambda: self.known(shape), self.tensor])(), shape)

    def flag(self):
        """One bool, which a pass may know or not."""
        return self.choice(
            [
                lambda: self.float().sum() > 0.0,
                lambda: ti.tensor(self.chance(2)),
                lambda: ti.tensor(float(self.number())) > 0.5,
                lambda: self.fit(self.tensor(), (), "bool"),
            ]
        )()

    # Fitting

    def fit(self, x, shape, dtype=None):
        return self.resized(converted(x, np.dtype(dtype or self.dtype)), tuple(shape))

    def resized(self, x, shape):
        n, m = x.size, prod(shape)
        if x.shape == shape:
            return x
        if n == m:
            return x.reshape(shape)
        if n == 0:
            return self.known(shape, x.dtype)
        if broadcastable(x.shape, shape):
            return x.expand(shape)
        if n > m:
            start = self.pick(2) * (n - m)
            return x.reshape(-1)[start : start + m].reshape(shape)
        if self.chance(2):
            return ti.concat([x.reshape(-1)] * -(-m // n))[:m].reshape(shape)
        return ti.take(x, np.arange(m).reshape(shape) % n)

    def instead_of(self, array):
        """A tensor that a call takes where its sample has this array."""
        kind, low, high = array.dtype.kind, *ends(array)
        dtype = self.dtype if kind == "f" else array.dtype
        if self.chance(4) or kind == "i" and low < 0:
            return ti.tensor(array.astype(dtype))
        if kind == "f" and self.chance(8):
            dtype = np.dtype(self.choice(FLOATS))
        x = self.fit(self.tensor(), array.shape, dtype)
        if kind == "i":
            low = min(low, 1)
            return ti.remainder(x, high - low + 1) + low
        return ti.sigmoid(x) + 0.5 if kind == "f" and 0.5 <= low else x

    def tame(self, y):
        if y.dtype.kind == "b":
            return y
        if y.dtype.kind != "f":
            return ti.remainder(y, 5)
        return self.choice([y, ti.clip(y, -3, 3), ti.tanh(y), y / (1 + ti.abs(y))])


def broadcastable(shape, to):
    try:
        return np.broadcast_shapes(shape, to) == to
    except ValueError:
        return False


def ends(array):
    return (array.min(), array.max()) if array.size else (0, 1)


def converted(x, dtype):
    """What a float becomes elsewhere than in signed integers, NumPy leaves open."""
    if x.dtype == dtype:
        return x
    if dtype.kind == "b":
        return x > x.dtype.type(0).item()
    if dtype.kind == "f":
        return x.astype(dtype)
    return (x * 4 if x.dtype.kind == "f" else x).astype("int64").astype(dtype)


# One op


def sample(p):
    """A call from the table, on what there is."""
    call = p.choice(p.choice(ENTRIES).calls)
    try:
        made = call(*[p.instead_of(x) for x in call.arrays])
    except TinyinferError:  # two kinds of float where one is wanted
        return []
    return made if isinstance(made, ti.Tensor) else [y for y in made if isinstance(y, ti.Tensor)]


# What passes look for. x, y and z have one shape and dtype; b is a mask of that shape.
# fmt: off

positive = lambda x: ti.abs(x) + 0.5

EQUATIONS = [
    lambda x, y, z, b: x * 1,
    lambda x, y, z, b: 0 + x,
    lambda x, y, z, b: x - 0,
    lambda x, y, z, b: 0 - x,
    lambda x, y, z, b: x * 0,
    lambda x, y, z, b: x + -0.0,
    lambda x, y, z, b: x / 1,
    lambda x, y, z, b: x / 4,
    lambda x, y, z, b: x / 3 + y / 3,
    lambda x, y, z, b: 1 / positive(x),
    lambda x, y, z, b: x / ti.full(x.shape, 0.1, x.dtype),
    lambda x, y, z, b: x ** 1,
    lambda x, y, z, b: x ** 2.0,
    lambda x, y, z, b: x ** 3,
    lambda x, y, z, b: x ** 0,
    lambda x, y, z, b: positive(x) ** -1,
    lambda x, y, z, b: positive(x) ** 0.5,
    lambda x, y, z, b: ti.abs(x) ** 0.5,
    lambda x, y, z, b: x * -1,
    lambda x, y, z, b: x + x,
    lambda x, y, z, b: x - x,
    lambda x, y, z, b: x * x,
    lambda x, y, z, b: x / x,
    lambda x, y, z, b: ti.neg(-x),
    lambda x, y, z, b: x + -y,
    lambda x, y, z, b: x - -y,
    lambda x, y, z, b: -x * -y,
    lambda x, y, z, b: -(x - y),
    lambda x, y, z, b: x * 2 * 3,
    lambda x, y, z, b: x + 2 + 0.1,
    lambda x, y, z, b: x * 2 / 3,
    lambda x, y, z, b: x + 1 - 1,
    lambda x, y, z, b: x * y + x * z,
    lambda x, y, z, b: (x * 0.5 + 1) * 2,
    lambda x, y, z, b: (x + y) - y,
    lambda x, y, z, b: ti.maximum(x, x),
    lambda x, y, z, b: ti.minimum(x, ti.maximum(x, y)),
    lambda x, y, z, b: ti.maximum(x, 0),
    lambda x, y, z, b: ti.abs(ti.abs(-x)),
    lambda x, y, z, b: ti.relu(ti.relu(x)),
    lambda x, y, z, b: ti.abs(ti.relu(x)),
    lambda x, y, z, b: ti.clip(ti.clip(x, -1, 1), -0.5, 2),
    lambda x, y, z, b: ti.clip(ti.clip(x, 0.5, 1), -1, 0),
    lambda x, y, z, b: ti.relu(ti.clip(x, -1, 1)),
    lambda x, y, z, b: ti.sign(ti.sign(x)),
    lambda x, y, z, b: ti.floor(ti.ceil(x)),
    lambda x, y, z, b: ti.exp(ti.log(positive(x))),
    lambda x, y, z, b: ti.log(ti.exp(x)),
    lambda x, y, z, b: ti.exp(x) * ti.exp(y),
    lambda x, y, z, b: ti.sqrt(x * x),
    lambda x, y, z, b: ti.sqrt(ti.abs(x)) ** 2.0,
    lambda x, y, z, b: 1 / (1 + ti.exp(-x)),
    lambda x, y, z, b: 1 / ti.sqrt(positive(x)),
    lambda x, y, z, b: x * ti.sigmoid(x),
    lambda x, y, z, b: ti.log(ti.sigmoid(x)),
    lambda x, y, z, b: ti.log(1 + ti.exp(x)),
    lambda x, y, z, b: ti.where(x > 0, x, 0),
    lambda x, y, z, b: ti.where(b, x, x),
    lambda x, y, z, b: ti.where(~b, x, y),
    lambda x, y, z, b: ti.where(b, ti.where(b, x, y), z),
    lambda x, y, z, b: ti.where(ti.ones_like(b), x, y),
    lambda x, y, z, b: ti.where(ti.zeros_like(b), x, y),
    lambda x, y, z, b: x * b,
    lambda x, y, z, b: ~(~b),
    lambda x, y, z, b: b & b,
    lambda x, y, z, b: b | ti.zeros_like(b),
    lambda x, y, z, b: b & ti.zeros_like(b),
    lambda x, y, z, b: ~(x < y),
    lambda x, y, z, b: (x == x) & (y >= y),
    lambda x, y, z, b: ti.identity(x.detach()),
    lambda x, y, z, b: x.astype("float64").astype(x.dtype),
    lambda x, y, z, b: x.astype("float16").astype(x.dtype),
    lambda x, y, z, b: b.astype("int64").astype("bool"),
    lambda x, y, z, b: b.astype("int8").astype(x.dtype),
    lambda x, y, z, b: ti.tanh(x * y) + ti.tanh(x * y),
    lambda x, y, z, b: ti.tanh(x + y) * ti.tanh(y + x),
    lambda x, y, z, b: ti.exp(ti.tensor(0.5, x.dtype)) * x + ti.sqrt(ti.full(x.shape, 2.0, x.dtype)),
    lambda x, y, z, b: ti.sin(ti.cos(ti.tanh(x * 0.3) + y) - 1) * z,
    lambda x, y, z, b: [x.sum(), ti.sum(x * 2), ti.sum(-x), (x / 3).mean()],
    lambda x, y, z, b: ti.sum(x) + ti.sum(y),
    lambda x, y, z, b: x.sum().expand(2, 3).sum(),
    lambda x, y, z, b: x.flatten().reshape(x.shape).flatten(),
    lambda x, y, z, b: x.reshape(-1).unsqueeze(0).squeeze(0).reshape(x.shape),
    lambda x, y, z, b: ti.tanh(ti.relu(x.reshape(-1)) * 2 + y.reshape(-1)).reshape(x.shape),
    lambda x, y, z, b: x.expand(2, *x.shape).sum(0),
    lambda x, y, z, b: ti.relu(x.expand(2, *x.shape)),
    lambda x, y, z, b: ti.stack([x, y])[1],
    lambda x, y, z, b: ti.stack([x, y, x])[:2] * 2,
    lambda x, y, z, b: ti.stack(ti.unbind(ti.stack([x, y]))),
    lambda x, y, z, b: ti.concat([x.reshape(-1), y.reshape(-1)])[: x.size],
    lambda x, y, z, b: ti.concat([ti.concat([x.reshape(-1), y.reshape(-1)]), z.reshape(-1)]),
    lambda x, y, z, b: ti.concat([x.reshape(-1)]),
    lambda x, y, z, b: ti.pad(x.reshape(-1), (1, 2))[1 : x.size + 1],
    lambda x, y, z, b: ti.pad(ti.pad(x.reshape(-1), (1, 0)), (0, 2)),
    lambda x, y, z, b: x.reshape(-1)[::2][1:],
    lambda x, y, z, b: x.reshape(-1)[:] + y.reshape(-1)[0 : y.size],
    lambda x, y, z, b: x.reshape(-1).flip(0).flip(0),
]

MATRICES = [  # of (2, 3), of (3, 3), of (2, 3, 4)
    lambda a, s, t: a.T.T,
    lambda a, s, t: t.permute(1, 2, 0).permute(2, 0, 1),
    lambda a, s, t: t.permute(1, 2, 0).permute(1, 2, 0),
    lambda a, s, t: ti.stack([s, s * 2, s + 1]).permute(1, 2, 0).permute(1, 2, 0),
    lambda a, s, t: ti.relu(ti.stack([s, s * 2, s + 1]).permute(1, 2, 0)).permute(1, 2, 0),
    lambda a, s, t: t.permute(0, 1, 2) + t.transpose(0, 1).transpose(0, 1),
    lambda a, s, t: (ti.relu(a.T * 2) + s[0].reshape(3, 1)).T,
    lambda a, s, t: ti.tanh(t.permute(2, 0, 1) + t.permute(2, 0, 1) * 0.5).permute(1, 2, 0),
    lambda a, s, t: (t.permute(2, 0, 1) * a).permute(1, 2, 0),
    lambda a, s, t: t.transpose().reshape(2, 12).reshape(2, 4, 3).transpose(),
    lambda a, s, t: ti.where(a.T > 0, a.T, a.T * 0.1).T,
    lambda a, s, t: t.permute(2, 1, 0).sum(0),
    lambda a, s, t: t.transpose().max(1, keepdim=True).transpose(),
    lambda a, s, t: ti.softmax(a.T, 0).T,
    lambda a, s, t: ti.concat([a.T, s], 1).T,
    lambda a, s, t: a.T[1:].T,
    lambda a, s, t: a.unsqueeze(0).expand(2, 2, 3).transpose(),
    lambda a, s, t: a[:, 1:][:, :1],
    lambda a, s, t: a @ s @ s,
    lambda a, s, t: s.T @ a.T,
    lambda a, s, t: (s.T @ a.T).T,
    lambda a, s, t: a @ np.eye(3, dtype=a.dtype),
    lambda a, s, t: a @ ti.zeros_like(s),
    lambda a, s, t: (a * 2) @ s * 0.5,
    lambda a, s, t: a @ s + a @ s,
    lambda a, s, t: a @ (s * 2) + s[0],
    lambda a, s, t: t.sum(0).sum(0),
    lambda a, s, t: t.sum(2).sum((0, 1)) + t.max(0).max(0).max(),
    lambda a, s, t: t.mean(2).mean(0),
    lambda a, s, t: a.sum(1, keepdim=True).expand(2, 3).sum(1),
    lambda a, s, t: ti.log(ti.softmax(a)),
    lambda a, s, t: ti.log(ti.softmax(t, 1)),
    lambda a, s, t: ti.exp(ti.log_softmax(a, 0)),
    lambda a, s, t: ti.softmax(a + 3),
    lambda a, s, t: ti.exp(a) / ti.exp(a).sum(-1, keepdim=True),
    lambda a, s, t: ti.log(ti.exp(a).sum(-1)),
    lambda a, s, t: ti.softmax(a @ s.T * (1 / 3**0.5)) @ s,
    lambda a, s, t: ti.layer_norm(a, 3),
    lambda a, s, t: ti.layer_norm(t, (3, 4)) * t + t,
    lambda a, s, t: ti.layer_norm(a, 3, s[0], s[1]),
    lambda a, s, t: ti.var(a, 1) + ti.std(a, 1),
    lambda a, s, t: (a - a.mean()) * (a - a.mean()),
    lambda a, s, t: ti.take(a.T, ti.tensor([0, 3])),
    lambda a, s, t: ti.take(s, np.arange(9)).reshape(3, 3),
    lambda a, s, t: s[ti.tensor([0, 1, 2])],
    lambda a, s, t: ti.einsum("ij,kj->ik", a, s),
    lambda a, s, t: ti.einsum("bij,bi->bj", t, a),
]
# fmt: on
ACTIVATIONS = [
    ti.relu,
    ti.tanh,
    ti.sigmoid,
    ti.silu,
    ti.gelu,
    ti.hardswish,
    lambda x: ti.leaky_relu(x, 0.1),
    lambda x: ti.clip(x, 0, 6),
    lambda x: ti.elu(x) * 2,
    lambda x: x,
]


def equation(p):
    x = p.float()
    y, z, b = p.float(x.shape), p.weight(x.shape), p.fit(p.tensor(), x.shape, "bool")
    return p.choice(EQUATIONS)(x, y, z, b)


def matrices(p):
    return p.choice(MATRICES)(p.float((2, 3)), p.weight((3, 3)), p.float((2, 3, 4)))


def small_graphs(dtype, held):
    """Each of those alone, with inputs or constants as its second and third argument; or with
    constants of one number."""
    xs = [ti.tensor(numbers(0, s, dtype)) for s in ((4, 6), (2, 3), (3, 3), (2, 3, 4))]
    if isinstance(held, int):
        xs[2:] = [ti.full(x.shape, held, dtype) for x in xs[2:]]
    x, *matrices = xs
    y = ti.full(x.shape, held, dtype) if isinstance(held, int) else x + x
    for rules, args in (EQUATIONS, (x, y, y, converted(y, np.dtype("bool")))), (MATRICES, matrices):
        kept = () if held == "inputs" else args[1:]
        for rule in rules:
            try:
                yield ti.trace(partial(with_last, rule, kept), *args[: len(args) - len(kept)])
            except DTypeError:  # not of this kind of number
                pass


def with_last(fn, last, *first):
    return fn(*first, *last)


def elementwise_chain(p):
    x = p.float()
    other = lambda: p.choice([p.float, p.weight, p.known])(x.shape)
    for _ in range(2 + p.pick(4)):
        x = p.choice(
            [
                lambda x: p.choice(ACTIVATIONS)(x),
                lambda x: x + other(),
                lambda x: other() * x,
                lambda x: other() - x,
                lambda x: x * p.number(),
            ]
        )(x)
    return x


def twice(p):
    """The same calls again: equal steps, but for random ones."""
    kind, choices = p.choice(FLAT), []

    def first(n):
        choices.append(p.pick(n))
        return choices[-1]

    again = iter(choices).__next__
    one, other = Pool(first, p.tensors, p.states, p.dtype), None
    made = kind(one)
    other = Pool(lambda n: again(), p.tensors, p.states, p.dtype)
    return [*([made] if isinstance(made, ti.Tensor) else made), *few(kind(other))]


def few(made):
    return [made] if isinstance(made, ti.Tensor) else [*made][:2]


# Layers


def convolution(p):
    """conv [+ bias] [+ batch_norm] [+ activation] [+ pool] [+ residual]"""
    groups = 1 + p.pick(2)
    x = p.float((1 + p.pick(2), 2, 4 + p.pick(2), 4))
    k, channels = p.choice([(3, 2), (1, 2), (2, 4)]), None
    size, channels = k
    bias = p.weight((channels,)) if p.chance(2) else None
    y = ti.conv2d(
        x,
        p.weight((channels, 2 // groups, size, size)),
        bias,
        padding=size // 2,
        stride=1 + p.pick(2),
        groups=groups,
    )
    if p.chance(2):
        y = y + p.weight(p.choice([(channels, 1, 1), (1, channels, 1, 1)]))
    y = normalized(p, y)
    y = p.choice(ACTIVATIONS)(y)
    if y.shape == x.shape and p.chance(2):
        y = p.choice([y + x, x + y, ti.relu(y + x)])
    if min(y.shape[2:]) >= 2:
        y = p.choice([ti.identity, pooled(ti.max_pool2d), pooled(ti.avg_pool2d)])(y)
    return p.choice([y, y.flatten(1), y.mean((2, 3)), y.permute(0, 2, 3, 1)])


def pooled(fn):
    return lambda x: fn(x, 2)


def linear(p):
    """linear [+ bias] [+ batch_norm] [+ activation] [+ residual]"""
    x, w = p.float((2, 3)), p.weight((3, 3))
    bias = p.weight((3,)) if p.chance(2) else None
    y = p.choice(
        [lambda: ti.linear(x, w, bias), lambda: x @ w, lambda: x @ w.T + w[0], lambda: (w @ x.T).T]
    )()
    y = p.choice(ACTIVATIONS)(normalized(p, y))
    return p.choice([y, y + x, y * x, [y, y + 1]])


def normalized(p, y):
    c = y.shape[1]
    mean, var, w, b = p.weight((c,)), positive(p.weight((c,))), p.weight((c,)), p.weight((c,))
    column = (c,) if y.ndim == 2 else (c, 1, 1)
    by_hand = lambda: (y - mean.reshape(column)) / ti.sqrt(var.reshape(column) + 1e-5)
    return p.choice(
        [
            lambda: y,
            lambda: ti.batch_norm(y, mean, var, w, b),
            lambda: ti.batch_norm(y, mean, var),
            lambda: y * w.reshape(column) + b.reshape(column),
            by_hand,
        ]
    )()


# States, gradients, control flow


def update(p):
    """A State becomes something else; what it was or is may be used."""
    s = p.choice(p.states)
    before = s * 1.0
    s.assign(p.choice([lambda x: x, lambda x: s * 0.5 + x, lambda x: s])(p.float(s.shape)))
    return p.choice([[], before, s + 0.0])


def momentum(p):
    """As optimizers do it."""
    i = p.pick(MOMENTS)
    s, m = p.states[i], p.states[len(SHAPES) + i]
    m.assign(m * 0.5 + p.float(s.shape))
    s.assign(s - m * 0.25)
    return p.choice([[], [], m + 0.0])


def gradient(p):
    """Of a part of what is there, by another part."""
    recorded = [x for x in p.tensors if x.requires_grad]
    if not recorded:
        return []
    y = recorded[-1 - p.pick(len(recorded))]
    behind = [x for x in recorded if x.node in past(y)]
    try:
        found = ti.grad((y * y).sum(), [p.choice(behind) for _ in range(1 + p.pick(2))])
    except GraphError:  # through a loop without a bound
        return []
    return [*found]


def past(x):
    return set(ancestors([x.node], through=on_tape))


def several(p):
    """1 or 2 tensors."""
    return [p.tensor() for _ in range(1 + p.pick(2))]


def as_before(p, xs):
    return [p.fit(p.tensor(), x.shape, x.dtype) for x in xs]


def stepped(p, carry, x):
    """What is carried on: into the next turn it goes changed by x, or as it is, or replaced."""
    mixed = lambda c: p.fit(p.tame(p.fit(c, c.shape) * 0.7 + p.fit(x, c.shape)), c.shape, c.dtype)
    replaced = lambda c: p.fit(p.tensor(), c.shape, c.dtype)
    return [p.choice([mixed, mixed, replaced, lambda c: c])(c) for c in carry]


def condition(p):
    like, assigned = several(p), p.choice([None, *p.states])

    def branch():
        inner = p.inside()
        if assigned is not None and p.chance(2):
            assigned.assign(inner.float(assigned.shape))
        return as_before(inner, like)

    return ti.cond(p.flag(), branch, branch)


def scanned(p):
    """Some of the last carries and stacked results: passes may drop the others."""
    like, turns = several(p), p.choice([1, 2, 3, 2])
    different = lambda x: [x, ~x, x] if x.dtype.kind == "b" else [x, -x, x + x]
    rows = [ti.stack(different(x)[:turns]) for x in several(p)]

    def body(carry, xs):
        inner = p.inside(*carry, *xs)
        return stepped(inner, carry, xs[0]), [inner.tensor() for _ in range(p.pick(3))]

    carry, ys = ti.scan(body, like, rows, reverse=p.chance(2))
    made = [*carry, *ys]
    return [p.choice(made) for _ in range(1 + p.pick(2))]


def repeated(p):
    like, turns = several(p), p.pick(4)
    known = ti.tensor(turns)
    until = known if p.chance(2) else ti.remainder(p.fit(p.tensor(), (), "int64"), 4)

    def body(i, *carry):
        return i + 1, *stepped(p.inside(*carry), carry, i)

    bound = [None, 1 + p.pick(3)][p.pick(2)]
    made = ti.while_loop(lambda i, *carry: i < until, body, ti.tensor(0), *like, bound=bound)
    return [p.choice(made) for _ in range(1 + p.pick(2))]


FLAT = [sample] * 8 + [equation] * 6 + [matrices] * 3 + [elementwise_chain, convolution, linear]
KINDS = (
    FLAT * 2 + [twice, update, momentum] * 2 + [gradient, condition] * 4 + [scanned, repeated] * 2
)
