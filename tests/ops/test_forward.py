"""What the functions compute, against NumPy or against the definition, written out in loops."""

import math

import numpy as np
import pytest
from samples import ENTRIES, name

import tinyinfer as ti
from tinyinfer.core.op import Op

each = lambda f: np.vectorize(f, otypes=[np.float64])
logistic = lambda x: 1 / (1 + np.exp(-x))
axis_of = lambda dim: tuple(dim) if isinstance(dim, list) else dim


def reduction(fn):
    return lambda x, dim=None, keepdim=False, axis=None, keepdims=False: fn(
        x, axis=axis_of(dim if axis is None else axis), keepdims=keepdim or keepdims
    )


def spread(fn):
    return lambda x, dim=None, correction=1, keepdim=False, axis=None, keepdims=False: fn(
        x,
        axis=axis_of(dim if axis is None else axis),
        ddof=correction,
        keepdims=keepdim or keepdims,
    )


def softmax(x, dim=-1, axis=None):
    e = np.exp(x)
    return e / e.sum(dim if axis is None else axis, keepdims=True)


def argmax(x, dim=None, keepdim=False, axis=None):
    return np.argmax(x, dim if axis is None else axis, keepdims=keepdim)


def both(n):
    return n if isinstance(n, tuple) else (n, n)


def row(b, ndim):
    return np.reshape(b, (-1, *[1] * (ndim - 2)))


def correlate(x, w, bias, stride, padding, dilation, groups):
    """The sum over c and k of x[n, c, stride i + dilation k - padding] w[o, c, k], term by term."""
    places = range(len(stride))
    room = [x.shape[2 + a] + 2 * padding[a] - dilation[a] * (w.shape[2 + a] - 1) for a in places]
    size = [(room[a] - 1) // stride[a] + 1 for a in places]
    y = np.zeros((len(x), len(w), *size), x.dtype)
    for n, o, *i in np.ndindex(y.shape):
        for c, *k in np.ndindex(w.shape[1:]):
            at = [stride[a] * i[a] + dilation[a] * k[a] - padding[a] for a in places]
            if all(0 <= at[a] < x.shape[2 + a] for a in places):
                channel = o // (len(w) // groups) * w.shape[1] + c
                y[n, o, *i] += x[n, channel, *at] * w[o, c, *k]
    return y if bias is None else y + row(bias, y.ndim)


def conv2d(x, w, bias=None, stride=1, padding=0, dilation=1, groups=1):
    return correlate(x, w, bias, both(stride), both(padding), both(dilation), groups)


def conv1d(x, w, bias=None, stride=1, padding=0, dilation=1, groups=1):
    return correlate(x, w, bias, [stride], [padding], [dilation], groups)


def conv_transpose2d(x, w, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Every number of x stamps its kernel, times itself, on y."""
    s, p, e, d = map(both, (stride, padding, output_padding, dilation))
    size = [
        (x.shape[2 + a] - 1) * s[a] - 2 * p[a] + d[a] * (w.shape[2 + a] - 1) + e[a] + 1
        for a in (0, 1)
    ]
    y = np.zeros((len(x), w.shape[1] * groups, *size))
    for n, c, i, j in np.ndindex(x.shape):
        for o, k, l in np.ndindex(w.shape[1:]):
            at = s[0] * i + d[0] * k - p[0], s[1] * j + d[1] * l - p[1]
            if 0 <= at[0] < size[0] and 0 <= at[1] < size[1]:
                channel = c // (x.shape[1] // groups) * w.shape[1] + o
                y[n, channel, *at] += x[n, c, i, j] * w[c, o, k, l]
    return y if bias is None else y + row(bias, 4)


def pooling(what, outside):
    def pool(x, kernel_size, stride=None, padding=0):
        k, p = both(kernel_size), both(padding)
        s = k if stride is None else both(stride)
        x = np.pad(
            x, ((0, 0), (0, 0), (p[0], p[0]), (p[1], p[1])), constant_values=outside(x.dtype)
        )
        size = [(x.shape[2 + a] - k[a]) // s[a] + 1 for a in (0, 1)]
        y = np.zeros((*x.shape[:2], *size), x.dtype)
        for n, c, i, j in np.ndindex(y.shape):
            y[n, c, i, j] = what(x[n, c, s[0] * i : s[0] * i + k[0], s[1] * j : s[1] * j + k[1]])
        return y

    return pool


def adaptive(what):
    def pool(x, output_size):
        (h, w), (a, b) = x.shape[2:], both(output_size)
        y = np.zeros((*x.shape[:2], a, b))
        for n, c, i, j in np.ndindex(y.shape):
            rows = slice(math.floor(i * h / a), math.ceil((i + 1) * h / a))
            columns = slice(math.floor(j * w / b), math.ceil((j + 1) * w / b))
            y[n, c, i, j] = what(x[n, c, rows, columns])
        return y

    return pool


def batch_norm(x, mean, var, weight=1.0, bias=0.0, eps=1e-5):
    given = mean, var, weight, bias
    mean, var, weight, bias = (row(v, x.ndim) if np.ndim(v) else v for v in given)
    return (x - mean) / np.sqrt(var + eps) * weight + bias


def layer_norm(x, shape, weight=1.0, bias=0.0, eps=1e-5):
    rows = x.reshape(-1, math.prod([shape] if isinstance(shape, int) else shape))
    rows = np.stack([(r - r.mean()) / np.sqrt(r.var() + eps) for r in rows])
    return rows.reshape(x.shape) * weight + bias


def scatter_add(x, dim, index, src):
    y = x.copy()
    for at in np.ndindex(index.shape):
        there = list(at)
        there[dim] = index[at]
        y[tuple(there)] += src[at]
    return y


def gather(x, dim, index):
    y = np.zeros(index.shape)
    for at in np.ndindex(index.shape):
        there = list(at)
        there[dim] = index[at]
        y[at] = x[tuple(there)]
    return y


def reduced(losses, reduction="mean"):
    return {"mean": np.mean, "sum": np.sum, "none": np.asarray}[reduction](losses)


def nll_loss(logp, target, reduction="mean"):
    losses = np.zeros(target.shape)
    for n, *at in np.ndindex(target.shape):
        losses[n, *at] = -logp[n, target[n, *at], *at]
    return reduced(losses, reduction)


def cross_entropy(x, target, reduction="mean", label_smoothing=0.0):
    classes = x.shape[1]
    if target.dtype.kind != "f":
        target = np.moveaxis(np.eye(classes)[target], -1, 1)
    target = (1 - label_smoothing) * target + label_smoothing / classes
    return reduced(-(target * np.log(softmax(x, 1))).sum(1), reduction)


def binary_cross_entropy(x, t, reduction="mean"):
    return reduced(-t * np.log(logistic(x)) - (1 - t) * np.log(1 - logistic(x)), reduction)


def kl_div(logp, target, reduction="mean", log_target=False):
    target = np.exp(target) if log_target else target
    losses = target * (np.log(target) - logp)
    return losses.sum() / len(logp) if reduction == "batchmean" else reduced(losses, reduction)


def fake_quantize(x, scale, bits=8):
    return np.clip(np.round(x / scale), -(2 ** (bits - 1)) + 1, 2 ** (bits - 1) - 1) * scale


def pad(x, widths, value=0.0):
    pairs = [widths[i : i + 2] for i in range(0, len(widths), 2)][::-1]
    pairs = [(0, 0)] * (x.ndim - len(pairs)) + pairs
    return np.pad(x, pairs, constant_values=value) if pairs else x


def split(x, size, dim=0):
    ends = range(size, x.shape[dim], size) if isinstance(size, int) else np.cumsum(size)[:-1]
    return np.split(x, ends, dim)


def flatten(x, start=0, end=-1):
    shape = list(x.shape) or [1]
    end = end % len(shape)
    start = start % len(shape)
    return x.reshape(*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])


def expand(x, *sizes):
    sizes = sizes[0] if isinstance(sizes[0], tuple) else sizes
    own = (1,) * (len(sizes) - x.ndim) + x.shape
    return np.broadcast_to(x, [m if n == -1 else n for n, m in zip(sizes, own)])


def sum_to(x, shape):
    return (
        np.einsum(x, [*range(x.ndim)], [*range(x.ndim)][x.ndim - len(shape) :]).sum(
            tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True
        )
        if shape
        else x.sum()
    )


def arange(*args, dtype=None):
    whole = all(isinstance(a, int) for a in args)
    return np.arange(*args).astype(dtype or ("int64" if whole else "float32"))


def permute(x, *dims):
    return np.transpose(x, dims[0] if dims and isinstance(dims[0], tuple) else dims)


def leaky_relu(x, slope=0.01, negative_slope=None):
    return np.where(x > 0, x, x * (slope if negative_slope is None else negative_slope))


def gelu(x, approximate="none"):
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * each(math.erfc)(-x / math.sqrt(2))


def squeeze(x, dim=None):
    return np.squeeze(x, dim) if dim is None or x.shape[dim] == 1 else x


def lowest(dtype):
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def mse_loss(x, target, reduction="mean"):
    return reduced((x - target) ** 2, reduction)


def l1_loss(x, target, reduction="mean"):
    return reduced(abs(x - target), reduction)


sizes = lambda shape: shape[0] if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
full = lambda shape, value, dtype=None: np.full(
    shape, value, dtype or (np.float32 if type(value) is float else None)
)

REFERENCE = dict(
    abs=np.abs,
    neg=np.negative,
    exp=np.exp,
    sin=np.sin,
    cos=np.cos,
    tanh=np.tanh,
    log=np.log,
    sqrt=np.sqrt,
    sign=np.sign,
    floor=np.floor,
    ceil=np.ceil,
    round=np.round,
    erf=each(math.erf),
    sigmoid=logistic,
    silu=lambda x: x * logistic(x),
    softplus=lambda x: np.log(1 + np.exp(x)),
    relu=lambda x: np.where(x > 0, x, 0),
    hardswish=each(lambda x: 0 if x <= -3 else x if x >= 3 else x * (x + 3) / 6),
    elu=lambda x, alpha=1.0: np.where(x > 0, x, alpha * (np.exp(x) - 1)),
    leaky_relu=leaky_relu,
    gelu=gelu,
    identity=np.asarray,
    detach=np.asarray,
    cast=lambda x, dtype: x.astype(dtype),
    clip=lambda x, min=None, max=None: np.clip(x, min, max),
    add=np.add,
    sub=np.subtract,
    mul=np.multiply,
    div=np.divide,
    pow=np.power,
    maximum=np.maximum,
    minimum=np.minimum,
    floor_divide=np.floor_divide,
    remainder=np.remainder,
    equal=np.equal,
    not_equal=np.not_equal,
    less=np.less,
    less_equal=np.less_equal,
    greater=np.greater,
    greater_equal=np.greater_equal,
    logical_and=np.logical_and,
    logical_or=np.logical_or,
    logical_not=np.logical_not,
    where=np.where,
    fake_quantize=fake_quantize,
    sum=reduction(np.sum),
    mean=reduction(np.mean),
    max=reduction(np.max),
    min=reduction(np.min),
    prod=reduction(np.prod),
    var=spread(np.var),
    std=spread(np.std),
    argmax=argmax,
    softmax=softmax,
    log_softmax=lambda x, *a, **k: np.log(softmax(x, *a, **k)),
    logsumexp=reduction(lambda x, **over: np.log(np.exp(x).sum(**over))),
    reshape=lambda x, *shape: x.reshape(sizes(shape)),
    flatten=flatten,
    squeeze=squeeze,
    unsqueeze=np.expand_dims,
    permute=permute,
    transpose=lambda x, dim0=-2, dim1=-1: np.swapaxes(x, dim0, dim1),
    movedim=np.moveaxis,
    broadcast_to=np.broadcast_to,
    expand=expand,
    concat=lambda xs, dim=0: np.concatenate(xs, dim),
    stack=np.stack,
    split=split,
    unbind=lambda x, dim=0: [*np.moveaxis(x, dim, 0)],
    pad=pad,
    flip=lambda x, dims: np.flip(x, tuple(dims) if isinstance(dims, list) else dims),
    sum_to=sum_to,
    zeros=lambda *shape, dtype="float32": np.zeros(sizes(shape), dtype),
    ones=lambda *shape, dtype="float32": np.ones(sizes(shape), dtype),
    zeros_like=np.zeros_like,
    ones_like=np.ones_like,
    full=full,
    arange=arange,
    getitem=lambda x, key: x[key],
    take=np.take,
    gather=gather,
    scatter_add=scatter_add,
    one_hot=lambda x, n: np.eye(n, dtype=np.int64)[x],
    embedding=lambda tokens, weight: weight[tokens],
    matmul=np.matmul,
    linear=lambda x, w, bias=0.0: np.inner(x, w) + bias,
    einsum=np.einsum,
    conv1d=conv1d,
    conv2d=conv2d,
    conv_transpose2d=conv_transpose2d,
    max_pool2d=pooling(np.max, lowest),
    avg_pool2d=pooling(np.mean, lambda dtype: 0),
    adaptive_avg_pool2d=adaptive(np.mean),
    adaptive_max_pool2d=adaptive(np.max),
    batch_norm=batch_norm,
    layer_norm=layer_norm,
    mse_loss=mse_loss,
    l1_loss=l1_loss,
    nll_loss=nll_loss,
    cross_entropy=cross_entropy,
    binary_cross_entropy_with_logits=binary_cross_entropy,
    kl_div=kl_div,
)
RANDOM = {"rand", "randn", "manual_seed", "dropout"}
PUBLIC = {id(vars(ti.ops)[n]) for n in ti.ops.__all__}
FUNCTIONS = {name(e.of): e for e in ENTRIES if id(e.of) in PUBLIC}


def test_every_function_has_a_definition():
    assert FUNCTIONS.keys() - REFERENCE.keys() == RANDOM
    assert not REFERENCE.keys() - FUNCTIONS.keys()


cases = [(f"{n}-{i}", n, c) for n in REFERENCE for i, c in enumerate(FUNCTIONS[n].calls)]


@pytest.mark.parametrize("function, call", [c[1:] for c in cases], ids=[c[0] for c in cases])
def test_forward(function, call):
    ours = call(*map(ti.tensor, call.arrays))
    defined = call.on(REFERENCE[function], *call.arrays)
    ours, defined = ([x] if not isinstance(x, list) else x for x in (ours, defined))
    for y, wanted in zip(ours, defined, strict=True):
        assert y.shape == np.shape(wanted)
        assert np.allclose(y.numpy(), wanted, 1e-11, 1e-12, equal_nan=True)


def test_batch_norm_in_training():
    x = np.random.RandomState(0).standard_normal((6, 3, 2, 2))
    mean, var = ti.State(np.zeros(3)), ti.State(np.ones(3))
    y = ti.batch_norm(ti.tensor(x), mean, var, training=True, momentum=0.3).numpy()
    assert np.allclose(y.mean((0, 2, 3)), 0) and np.allclose(y.var((0, 2, 3)), 1, atol=1e-4)
    assert np.allclose(mean.numpy(), 0.3 * x.mean((0, 2, 3)))
    assert np.allclose(var.numpy(), 0.7 + 0.3 * x.var((0, 2, 3), ddof=1))
    used = ti.batch_norm(ti.tensor(x), mean, var)
    assert np.allclose(used.numpy(), batch_norm(x, mean.numpy(), var.numpy()))


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 2)])
def test_batch_norm_in_training_has_a_gradient(shape):
    rng = np.random.RandomState(0)
    x, w, b = rng.standard_normal(shape), rng.standard_normal(3), rng.standard_normal(3)
    running = np.zeros(3), np.ones(3)

    def normed(x, w, b):
        return ti.batch_norm(x, *map(ti.State, running), w, b, training=True)

    assert ti.testing.gradcheck(normed, [x, w, b])


def test_dropout_keeps_the_mean():
    ti.manual_seed(0)
    y = ti.dropout(ti.ones(10_000), 0.25).numpy()
    assert {*np.unique(y)} == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((y == 0).mean() - 0.25) < 0.02 and abs(y.mean() - 1) < 0.02


def test_random_numbers():
    ti.manual_seed(7)
    first, second, normal = ti.rand(1000), ti.rand(1000), ti.randn(10_000)
    ti.manual_seed(7)
    assert np.array_equal(first.numpy(), ti.rand(1000).numpy())
    assert not np.array_equal(first.numpy(), second.numpy())
    assert (
        0 <= first.numpy().min()
        and first.numpy().max() < 1
        and abs(first.numpy().mean() - 0.5) < 0.05
    )
    assert abs(normal.numpy().mean()) < 0.05 and abs(normal.numpy().std() - 1) < 0.05
    ti.manual_seed(8)
    assert not np.array_equal(first.numpy(), ti.rand(1000).numpy())


def test_a_random_op_is_a_function_of_its_key():
    op = ti.ops.random.Normal((4,))
    assert np.array_equal(op(np.array([1, 2])).numpy(), op(np.array([1, 2])).numpy())
    assert not np.array_equal(op(np.array([1, 2])).numpy(), op(np.array([2, 1])).numpy())


def test_an_op_is_what_its_fields_say():
    assert ti.ops.pool.MaxPool2d((2, 2), (2, 2)) == ti.ops.pool.MaxPool2d((2, 2), (2, 2), (0, 0))
    assert isinstance(ti.relu, Op) and repr(ti.ops.activation.Elu(0.5)) == "Elu(alpha=0.5)"
