"""Every kernel against the definition of its op: the same bits, in memory that was given."""

import tracemalloc

import numpy as np
import pytest
from sample_steps import every_dtype, every_op, steps

import tinyinfer as ti
from tinyinfer.core.spec import spec_of
from tinyinfer.graph.in_place import InPlace
from tinyinfer.kernels.kernel import numpy_kernel_of
from tinyinfer.ops import (
    activation,
    conv,
    elementwise,
    linalg,
    norm,
    pool,
    random,
    reduce,
    shape,
    sparse,
)
from tinyinfer.ops.index import Index, IndexPut, OneHot


def garbage(spec):
    y = np.empty(spec.shape, spec.dtype)
    y.reshape(-1).view(np.uint8).fill(0xFF)
    return y


def kernel_for(op, xs):
    specs = [spec_of(x) for x in xs]
    y = op.infer(*specs)
    return numpy_kernel_of(op, y, *specs), y


def carried_out(op, xs, over=None):
    """What the kernel writes, into garbage or over an input; the other inputs stay as they are."""
    kernel, spec = kernel_for(op, xs)
    y = garbage(spec) if over is None else xs[over]
    others = [x for x in xs if x is not y]
    before = [x.copy() for x in others]
    run, more = kernel.bind([garbage(s) for s in kernel.scratch])
    run(y, *xs, *more)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(before, others))
    return y


def bits(x):
    """One NaN is as good as another."""
    x = np.ascontiguousarray(x)
    return (
        np.where(x == x, x, np.array(np.nan, x.dtype)).tobytes()
        if x.dtype.kind == "f"
        else x.tobytes()
    )


def same(a, b):
    return spec_of(a) == spec_of(b) and bits(a) == bits(b)


def defined(op, xs):
    return np.asarray(op.forward(*xs))


@every_dtype
@every_op
def test_the_same_bits_as_the_definition(name, dtype):
    for op, xs in steps(dtype)[name]:
        assert same(carried_out(op, xs), defined(op, xs)), op


@every_dtype
@every_op
def test_also_over_an_input(name, dtype):
    """Also where the same stands twice, as in x * x."""
    for op, xs in steps(dtype)[name]:
        for i in kernel_for(op, xs)[0].over:
            twice = [xs[i] if spec_of(x) == spec_of(xs[i]) else x for x in xs]
            with np.errstate(all="ignore"):  # x ** x
                for given in xs, twice:
                    copies = {id(x): np.array(x) for x in given}
                    mine = [copies[id(x)] for x in given]
                    assert same(carried_out(op, mine, i), defined(op, given)), op


SPECIAL = np.nan, np.inf, -0.0, -np.inf, 0.0, 1e-30


@every_op
def test_also_of_what_is_no_number(name):
    for op, xs in steps("float32")[name]:
        xs = [np.array(x) for x in xs]
        for i, x in enumerate(x for x in xs if x.dtype == np.float32):
            some = x.reshape(-1)[i::3][: len(SPECIAL)]
            some[:] = SPECIAL[: len(some)]
        with np.errstate(all="ignore"):
            assert same(carried_out(op, xs), defined(op, xs)), op


# Where NumPy adds up in the order in which the numbers stand in memory.
SUMS = (
    *(reduce.Sum, reduce.Mean, reduce.Var, reduce.LogSumExp, reduce.Softmax, reduce.LogSoftmax),
    *(linalg.MatMul, conv.Conv2d, conv.Conv2dInput, conv.Conv2dWeight, pool.AvgPool2d),
    norm.LayerNorm,
)


def spaced(x):
    big = np.zeros([2 * n for n in x.shape], x.dtype)
    view = big[(..., *[slice(None, None, 2)] * x.ndim)]
    view[...] = x
    return view


def backwards(x):
    turned = (slice(None, None, -1),) * x.ndim
    return x[(..., *turned)].copy()[(..., *turned)]


def repeated(x):
    return np.broadcast_to(x[:1] if x.ndim else x, x.shape)


def indices(op, x):
    """Of a sparse matrix: what they are cannot be chosen."""
    return isinstance(op, sparse.Trilinear | sparse.EntryRows) and x.dtype.kind == "i"


VIEWS = {
    "transposed": lambda x: x.T.copy().T,
    "spaced": spaced,
    "backwards": backwards,
    "repeated": repeated,
}


@pytest.mark.parametrize("view", VIEWS)
@every_op
def test_also_of_views(name, view):
    for op, xs in steps("float32")[name]:
        xs = [x if indices(op, x) else VIEWS[view](x) for x in xs]
        got, wanted = carried_out(op, xs), defined(op, xs)
        if isinstance(op, SUMS):
            assert spec_of(got) == spec_of(wanted)
            assert np.allclose(got, wanted, rtol=1e-5, atol=1e-6), op
        else:
            assert same(got, wanted), op


# Errors


@pytest.mark.parametrize(
    "op, xs",
    [
        (elementwise.floor_divide, [np.arange(3), np.arange(3)]),
        (elementwise.remainder, [np.arange(3), np.array(0)]),
        (Index("gather"), [np.zeros((2, 3)), np.array([0, 2]), np.array([1, 1])]),
        (Index(), [np.zeros((2, 3)).T, np.array([-1])]),
        (IndexPut((4,)), [np.zeros(2), np.array([1, 4])]),
        (IndexPut((4, 2)), [np.zeros((1, 2)), np.array([7])]),
        (OneHot(3), [np.array([3])]),
    ],
)
def test_the_same_errors(op, xs):
    messages = []
    for run in carried_out, defined:
        with pytest.raises(ti.RangeError) as caught:
            run(op, xs)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


# No array is made


def F(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


CONV, WIDE = conv.Conv2d(), conv.Conv2d((2, 2), ((1, 1), (1, 1)))
MAX, AVG = pool.MaxPool2d((2, 2), (2, 2)), pool.AvgPool2d((2, 2), (2, 2), (1, 1))
IMAGES, MAPS, FILTERS, FEW = F(512, 6, 14, 14), F(512, 16, 10, 10), F(16, 6, 5, 5), F(512, 6, 7, 7)
MAXIMA = MAX.forward(IMAGES)
LOGITS, CLASSES, NUMBERS = F(60_000, 10), np.arange(60_000) % 10, np.arange(60_000)
HIDDEN, WEIGHT, BIAS = F(2000, 400), F(400, 300), F(400)

BUFFERS = 200_000  # through which NumPy walks, of 8192 numbers each

# fmt: off
STEPS = [
    (CONV,                                      IMAGES, FILTERS),
    (WIDE,                                      IMAGES, F(16, 6, 4, 4)),
    (conv.Conv2d(),                             IMAGES, F(16, 6, 1, 1)),
    (conv.Conv2dInput(CONV, IMAGES.shape),      MAPS, FILTERS),
    (conv.Conv2dInput(WIDE, IMAGES.shape),      F(512, 16, 7, 7), F(16, 6, 3, 3)),
    (conv.Conv2dWeight(CONV, FILTERS.shape),    MAPS, IMAGES),
    (MAX,                                       IMAGES),
    (pool.MaxPool2dInput(MAX),                  FEW, IMAGES, MAXIMA),
    (pool.MaxPool2dAt(MAX),                     IMAGES, IMAGES, MAXIMA),
    (AVG,                                       IMAGES),
    (pool.AvgPool2dInput(AVG, IMAGES.shape),    F(512, 6, 8, 8)),
    (linalg.product,                            HIDDEN, WEIGHT),
    (linalg.product,                            HIDDEN.T, HIDDEN),
    (Index(),                                   LOGITS, NUMBERS, CLASSES),
    (Index("embedding"),                        WEIGHT, np.arange(60_000) % 400),
    (IndexPut(LOGITS.shape),                    F(60_000), NUMBERS, CLASSES),
    (elementwise.add,                           HIDDEN, BIAS),
    (elementwise.mul,                           HIDDEN, HIDDEN),
    (elementwise.greater,                       HIDDEN, np.zeros((), np.float32)),
    (elementwise.exp,                           HIDDEN),
    (elementwise.neg,                           HIDDEN),
    (elementwise.Cast("float64"),               HIDDEN),
    (elementwise.Cast("int64"),                 HIDDEN),
    (elementwise.where,                         HIDDEN > 0, HIDDEN, BIAS),
    (activation.relu,                           HIDDEN),
    (activation.LeakyRelu(0.1),                 HIDDEN),
    (activation.sigmoid,                        HIDDEN),
    (activation.silu,                           HIDDEN),
    (reduce.Max((1,)),                          LOGITS),
    (reduce.ArgMax((1,)),                       LOGITS),
    (reduce.ArgMax((0,)),                       LOGITS.T),
    (norm.BatchNorm(1e-5),                      IMAGES, *[np.abs(F(6)) + 1] * 4),
    (random.Uniform((1000, 1000)),              np.array([3, 4])),
    (random.Normal((1000, 1000)),               np.array([3, 4])),
    (shape.Reshape((400, 2000)),                HIDDEN.T),
    (shape.Concat(1),                           HIDDEN, HIDDEN),
    (shape.Pad(((1, 1), (0, 2)), 0.5),          HIDDEN),
    (shape.PutSlice(((1, 2001, 1), (0, 400, 1)), (2002, 400)), HIDDEN),
    (reduce.Sum((0,)),                          HIDDEN),
    (reduce.Sum((0, 2, 3)),                     MAPS),
    (reduce.Mean((1,)),                         LOGITS),
    (reduce.Var((0,), 1),                       HIDDEN),
    (reduce.Softmax((1,)),                      LOGITS),
    (reduce.LogSoftmax((1,)),                   LOGITS),
    (reduce.LogSumExp((1,)),                    LOGITS),
    (norm.LayerNorm((1,), 1e-5),                HIDDEN),
    (elementwise.mul,                           HIDDEN, HIDDEN > 0),
    (OneHot(10),                                CLASSES),
]
# fmt: on


@pytest.mark.parametrize("step", STEPS, ids=lambda s: s[0].name)
def test_no_array_is_made(step):
    op, *xs = step
    kernel, spec = kernel_for(op, xs)
    y = garbage(spec)
    run, more = kernel.bind([garbage(s) for s in kernel.scratch])
    run(y, *xs, *more)
    tracemalloc.start()
    run(y, *xs, *more)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < BUFFERS < max(x.nbytes for x in (y, *xs)) / 4
    assert same(y, defined(op, xs))


@pytest.mark.parametrize(
    "size, stride, padding", [((2, 3), (1, 3), (0, 1)), ((3, 3), (2, 1), (1, 1))]
)
def test_the_place_of_what_may_be_no_maximum(size, stride, padding):
    rng = np.random.RandomState(0)
    op = pool.MaxPool2d(size, stride, padding)
    for among in (0, 1, 2, 3), (0, 1, np.nan, np.inf):
        x = rng.choice(among, (2, 3, 17, 8)).astype("float32")
        m = op.forward(x)
        for y in m, rng.choice(among, m.shape).astype("float32"):
            for way, g in (pool.MaxPool2dInput(op), m), (pool.MaxPool2dAt(op), x):
                assert same(carried_out(way, [g, x, y]), defined(way, [g, x, y]))


# Who carries out what


def test_which_ops_have_no_other_kernel_than_the_definition():
    left = {
        (op.name, *[str(x.dtype) for x in xs])
        for some in steps("float32").values()
        for op, xs in some
        if kernel_for(op, xs)[0].name == "definition"
    }
    assert left == {
        ("erf", "float32"),  # one number after the other in Python
        ("gelu", "float32"),
        ("in_layout", "float32"),
        ("in_layout", "float32", "float32"),
        ("reorder", "float32"),  # into blocks of channels
        ("columns", "float32"),  # packing runs once
        ("rows", "float32"),
        ("filters", "float32"),
        ("winograd", "float32"),
        ("turned", "float32"),
        ("packed", "float32", "float32"),
        ("byte_panels", "int8"),
        ("qlinear_conv", "uint8", "int8", "float32", "int32"),
        ("qlinear_matmul", "int8", "int8", "float32", "int32"),
        ("qlinear_matmul", "uint8", "int8", "float32", "int32"),
        ("pack_bits", "float32"),
        ("pack_bits", "int64"),
        ("word_panels", "uint32"),
        ("binary_matmul", "uint32", "uint32"),
        ("binary_conv2d", "uint32", "uint32"),
        ("coo_order", "int64"),
        ("row_starts", "int64"),
        ("entry_rows", "int64", "int32"),
        ("csr_matmul", "float32", "int32", "int64", "float32"),
        ("csr_matmul_dense", "float32", "int32", "int64", "float32"),
        ("csr_matmul_values", "int32", "int64", "float32", "float32"),
    }


def test_a_mark_changes_nothing():
    relu = activation.relu
    assert kernel_for(InPlace(relu, 0), [HIDDEN])[0].name == kernel_for(relu, [HIDDEN])[0].name
