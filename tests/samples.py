"""One entry for every op and every public function: calls that are right, and calls refused.

Floats are float64 and lie away from corners and ties, so that gradients can be measured. A new op
is tested everywhere (inference, tracing, gradients, counts, dtypes) by adding one entry here.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import numpy as np

import tinyinfer as ti
from tinyinfer.errors import ArgumentError, DTypeError, RangeError, ShapeError, TinyinferError
from tinyinfer.ops import (
    activation,
    binary,
    conv,
    elementwise,
    index,
    integer,
    layout,
    linalg,
    norm,
    packed,
    pool,
    quantize,
    random,
    reduce,
    shape,
    sparse,
    winograd,
)

RNG = np.random.RandomState(0)
A = lambda *shape: np.asarray(RNG.standard_normal(shape))
P = lambda *shape: np.asarray(RNG.uniform(0.5, 1.5, shape))
I = lambda high, *shape: np.asarray(RNG.randint(0, high, shape))
M = lambda *shape: np.asarray(RNG.uniform(size=shape) < 0.5)


@dataclass(frozen=True, eq=False)
class Call:
    """A call of which the arrays can be taken out, for tensors or symbols to take their places."""

    fn: object
    args: tuple
    options: dict = field(default_factory=dict)

    @property
    def arrays(self) -> list:
        return [x for x in leaves((*self.args, *self.options.values())) if is_array(x)]

    def __call__(self, *given):
        return self.on(self.fn, *given)

    def on(self, fn, *given):
        """Another function, called in the same way."""
        given = iter(given)
        one = lambda x: next(given) if is_array(x) else x
        put = lambda x: [one(y) for y in x] if isinstance(x, list) else one(x)
        args = [put(x) for x in self.args]
        return fn(*args, **{k: put(x) for k, x in self.options.items()})

    def cast(self, dtype) -> list:
        """The arrays, the floats among them as `dtype`."""
        return [x.astype(dtype) if x.dtype.kind == "f" else x for x in self.arrays]

    def __repr__(self):
        shown = [f"{x.dtype}{list(x.shape)}" if is_array(x) else str(x) for x in leaves(self.args)]
        return f"{name(self.fn)}({', '.join(shown)}, **{self.options})"


def leaves(args):
    for x in args:
        yield from x if isinstance(x, list) else [x]


def is_array(x):
    return isinstance(x, np.ndarray)


def call(*args, **options) -> Call:
    return Call(None, args, options)


def of(op, *arrays) -> Call:
    """A call of an op with attributes."""
    return Call(op, arrays)


class Refused(NamedTuple):
    error: type[TinyinferError]
    words: str  # the message contains them
    call: Call


class Entry(NamedTuple):
    of: object  # the function, or the class of the op
    calls: list[Call]
    refused: list[Refused]
    smooth: bool  # it has a gradient, and the calls are no corners


ENTRIES: list[Entry] = []


def entry(of, *calls, refused=(), smooth=True):
    bound = lambda c: replace(c, fn=c.fn or of)
    refused = [Refused(error, words, bound(c)) for error, words, c in refused]
    ENTRIES.append(Entry(of, [bound(c) for c in calls], refused, smooth))


steps = partial(entry, smooth=False)  # whole numbers, masks, and what is constant between steps


def name(of) -> str:
    return getattr(of, "__name__", None) or of.name


# fmt: off

# Elementwise

SHAPES = (3,), (), (1, 5), (2, 1, 3), (0, 4)
of_numbers = (DTypeError, "astype('int64')", call(M(3)))
of_floats = (DTypeError, "astype('float32')", call(I(4, 3)))

for fn in ti.abs, ti.neg, ti.relu:
    entry(fn, *(call(A(*s)) for s in SHAPES), refused=[of_numbers])
for fn in (ti.exp, ti.sin, ti.cos, ti.tanh, ti.erf, ti.sigmoid, ti.silu, ti.softplus, ti.hardswish):
    entry(fn, *(call(A(*s)) for s in SHAPES), refused=[of_floats])
for fn in ti.log, ti.sqrt:
    entry(fn, *(call(P(*s)) for s in SHAPES), refused=[of_floats])
for fn in ti.sign, ti.floor, ti.ceil, ti.round:
    steps(fn, *(call(3 * A(*s)) for s in SHAPES), refused=[of_floats])

entry(ti.elu, call(A(7)), call(A(2, 3), alpha=0.5), refused=[of_floats])
entry(activation.Elu, of(activation.Elu(0.7), A(7)))
entry(ti.leaky_relu, call(A(7)), call(A(2, 3), 0.3), call(A(2, 3), negative_slope=0.0),
      refused=[of_floats])
entry(activation.LeakyRelu, of(activation.LeakyRelu(0.3), A(7)))
entry(ti.gelu, *(call(A(*s)) for s in SHAPES), call(A(7), approximate="tanh"),
      refused=[of_floats, (ArgumentError, 'gelu: approximate="none" or', call(A(3), "sigmoid"))])
entry(activation.Gelu, of(activation.Gelu(), A(7)))
entry(ti.identity, call(A(3)), call(A()), call(I(3, 0, 2)))
steps(ti.detach, call(A(3)), call(I(3, 2)))
entry(ti.cast, call(A(3), "float64"), call(A(2, 3), np.float64), call(I(5, 3), "float64"),
      call(M(3), "uint8"),
      refused=[(DTypeError, "no tensor of complex64", call(A(3), "complex64"))])
steps(elementwise.Cast, of(elementwise.Cast("int64"), 9 * A(3)), of(elementwise.Cast("bool"),
      I(3, 2)))
entry(ti.clip, call(A(9), -0.5, 0.5), call(A(9), min=0.1), call(A(9), max=0.1), call(I(9, 5), 2, 4),
      call(A(9), 0.5, -0.5), call(A(2, 3), -1, 1),
      refused=[(*of_numbers[:2], call(M(3), 0, 1)),
      (ArgumentError, "clip: give min, max or both", call(A(3))),
               (DTypeError, "clip: 0.5 is no int64", call(I(9, 5), 0.5, 4))])
entry(elementwise.Clip, of(elementwise.Clip(-0.4, 0.6), A(7)), of(elementwise.Clip(None, 0.6),
      A(7)))

PAIRS = ((2, 3), (3,)), ((2, 1), (1, 3)), ((), (2,)), ((3,), (3,)), ((2, 0), (1, 1)), ((), ())
apart = (ShapeError, "do not broadcast", call(A(2, 3), A(2)))
masks = (DTypeError, "of two masks", call(M(3), M(3)))
mixed = (DTypeError, "do not mix", call(A(3), I(3, 3)))

for fn in ti.add, ti.sub, ti.mul, ti.maximum, ti.minimum:
    entry(fn, *(call(A(*a), A(*b)) for a, b in PAIRS), call(I(5, 3), I(5, 2, 1)), call(A(3), M(3)),
          call(I(5, 2), M(2, 1)), call(A(3), 2), call(0.3, A(3)), refused=[apart, masks, mixed])
entry(ti.remainder, *(call(A(*a), P(*b)) for a, b in PAIRS), call(A(5), 0.7), call(I(9, 5), 3),
      refused=[apart, masks, mixed])
steps(ti.floor_divide, call(A(2, 3), P(3)), call(I(9, 4), I(3, 2, 1) + 1), call(A(3), 2),
      refused=[apart, masks, mixed])
entry(ti.div, *(call(A(*a), P(*b)) for a, b in PAIRS), call(1, P(3)), call(A(3), 3),
      refused=[apart, (DTypeError, "use //", call(I(3, 3), 2)),
      (DTypeError, "divide floats", call(A(3), M(3)))])
entry(ti.pow, *(call(P(*a), A(*b)) for a, b in PAIRS), call(A(4), 3), call(A(4), 0.0),
      call(P(4), -1),
      call(2, A(4)), call(P(4), 0.5), call(A(3), 2.0),
      refused=[apart, (DTypeError, "of floats", call(I(3, 3), I(3, 3)))])
for fn in ti.equal, ti.not_equal, ti.less, ti.less_equal, ti.greater, ti.greater_equal:
    steps(fn, *(call(A(*a), A(*b)) for a, b in PAIRS), call(I(3, 9), I(3, 9)), call(M(4), M(4)),
          call(I(3, 9), 1), call(A(3), 0), refused=[apart, mixed])
for fn in ti.logical_and, ti.logical_or:
    steps(fn, call(M(2, 3), M(3)), call(M(), M(1)),
          refused=[(DTypeError, "of masks", call(A(3), M(3))),
          (ShapeError, "broadcast", call(M(2), M(3)))])
steps(ti.logical_not, call(M(2, 3)), call(M()), refused=[(DTypeError, "of masks", call(I(2, 3)))])
entry(ti.where, call(M(2, 3), A(2, 3), A(3)), call(M(3), A(2, 1), A()), call(M(3), A(3), 0.1),
      call(M(3), 2, A(3)), call(M(2, 3), I(5, 3), 0), call(M(0), A(1), A()),
      refused=[(DTypeError, "must be a mask", call(A(3), A(3), A(3))),
               (DTypeError, "do not mix", call(M(3), A(3), I(3, 3))),
               (ShapeError, "do not broadcast", call(M(3), A(2), A(2)))])
steps(ti.fake_quantize, call(A(7), np.array(0.25), bits=4), call(A(2, 3), P(2, 1)),
      refused=[(ShapeError, "do not broadcast", call(A(2, 3), P(2)))])
steps(quantize.FakeQuantize, of(quantize.FakeQuantize(4), A(7), np.array(0.25)))

# Reductions

OVER = (call(A(2, 3, 4), 1), call(A(2, 3, 4), (0, -1)), call(A(2, 3), dim=-2), call(A(3, 1), [1]),
        call(A(2, 3, 2), dim=(1, 2), keepdim=True), call(A(2, 3), axis=0, keepdims=True))
ALL = call(A(2, 3)), call(A())
ALONG = (call(A(2, 3)), call(A(2, 3), 0), call(A(5)), call(A(2, 3, 4), axis=1), call(A(2, 3),
      (0, 1)),
         call(A(0, 3)))
there = (RangeError, "there is no dimension 2", call(A(2, 3), dim=2))
twice = (ArgumentError, "dimension 1 is named twice", call(A(2, 3), (1, -1)))
whole = (DTypeError, "astype('float32')", call(I(3, 4), dim=0))
some = (ShapeError, "of no elements", call(A(2, 0), dim=1))
spread = (ShapeError, "write correction=0", call(A(1, 3), 0))

entry(ti.sum, *OVER, *ALL, call(I(5, 2, 3), 1), call(M(2, 3)), call(M(2, 3), 0),
      call(A(2, 0, 3), 1), call(A(0)),
      refused=[there, twice])
entry(ti.prod, *OVER, *ALL, call(I(5, 2, 3), 1), call(A(2, 0, 3), 1),
      call(np.array([[2.0, 0, 3], [0, 0, 1]]), 1),
      refused=[there])
entry(ti.mean, *OVER, *ALL, refused=[there, twice, whole])
entry(ti.max, *OVER, *ALL, call(I(5, 2, 3), 1), call(A(0, 3), 1), refused=[there, some])
entry(ti.min, *OVER, *ALL, call(I(5, 2, 3), 1), call(A(0, 3), 1), refused=[there, some])
entry(ti.var, *OVER[:3], *OVER[4:], ALL[0], call(A(4, 3), 0, 0),
      call(A(3, 1), 1, correction=0), call(A(4), correction=2),
      refused=[there, whole, spread])
entry(ti.std, *OVER[:3], *OVER[4:], ALL[0], call(A(4, 3), 0, 0), call(A(4), correction=2),
      refused=[there, whole, (*spread[:2], call(A(1, 3), 0))])
entry(ti.logsumexp, *OVER, refused=[there, whole, some])
entry(ti.softmax, *ALONG, refused=[there, whole, some])
entry(ti.log_softmax, *ALONG, refused=[there, whole, some])
steps(ti.argmax, *ALL, call(A(3, 4), 0), call(A(3, 4), -1, keepdim=True), call(I(3, 4),
      axis=0), call(A(0, 3), 1),
      refused=[there, some, (ArgumentError, "one dimension", call(A(2, 3), (0, 1)))])

entry(reduce.Sum, of(reduce.Sum((0, 2)), A(2, 3, 4)), of(reduce.Sum(()), A(2)))
entry(reduce.Mean, of(reduce.Mean((1,)), A(2, 3)))
entry(reduce.Var, of(reduce.Var((1,), 1), A(2, 3)), of(reduce.Var((0, 1), 0), A(2, 3)))
entry(reduce.Max, of(reduce.Max((1,)), A(2, 3)))
entry(reduce.Min, of(reduce.Min((0,)), A(2, 3)))
entry(reduce.Prod, of(reduce.Prod((1,)), A(2, 3)))
entry(reduce.Others, of(reduce.Others((1,)), A(2, 3)), of(reduce.Others((0,)), A(4)))
entry(reduce.LogSumExp, of(reduce.LogSumExp((0,)), A(2, 3)))
entry(reduce.Softmax, of(reduce.Softmax((1,)), A(2, 3)))
entry(reduce.LogSoftmax, of(reduce.LogSoftmax((1,)), A(2, 3)))
steps(reduce.ArgMax, of(reduce.ArgMax((1,)), A(2, 3)))

# Shape

entry(ti.reshape, call(A(2, 3), 3, 2), call(A(2, 3), (3, -1)), call(A(6), [2, 3]),
      call(A(), 1, 1), call(A(2, 0), 0, 5),
      call(A(2, 3), np.int64(6)), call(A(4), -1), call(A(1), ()),
      refused=[(ShapeError, "has 6 elements, (4, 2) has 8", call(A(2, 3), 4, 2)),
               (ShapeError, "does not divide into (4, -1)", call(A(2, 3), 4, -1)),
               (ShapeError, "one size may be -1", call(A(1), -1, -1)),
               (ShapeError, "one size may be -1", call(A(2, 3), -2, -3))])
entry(ti.flatten, call(A(2, 3, 4)), call(A(2, 3, 4), 1), call(A(2, 3, 4), -2, -1),
      call(A(2, 3, 4), 0, 1), call(A()),
      refused=[(RangeError, "no dimension 2", call(A(2, 3), 2)),
      (ArgumentError, "flatten", call(A(2, 3), 1, 0))])
entry(ti.squeeze, call(A(1, 3, 1)), call(A(1, 3, 1), 0), call(A(1, 3, 1), -1), call(A(1, 3), 1),
      refused=[(RangeError, "no dimension 2", call(A(2, 3), 2))])
entry(ti.unsqueeze, call(A(2, 3), 0), call(A(2, 3), -1), call(A(2, 3), 1), call(A(), 0),
      refused=[(RangeError, "no dimension 3", call(A(2, 3), 3))])
entry(ti.permute, call(A(2, 3, 4), 0, 2, 1), call(A(2, 3, 4), (2, 0, 1)), call(A(2, 3), -1, 0),
      call(A()),
      refused=[(ShapeError, "does not name each axis", call(A(2, 3), 0, 0)),
               (ShapeError, "does not name each axis", call(A(2, 3), 0)),
               (RangeError, "permute", call(A(2, 3), 0, 2))])
entry(ti.transpose, call(A(2, 3, 4)), call(A(2, 3, 4), 0, -1), call(A(2, 3, 4), dim0=1, dim1=0),
      refused=[(RangeError, "no dimension -2", call(A(3)))])
entry(ti.movedim, call(A(2, 3, 4), 0, -1), call(A(2, 3, 4), 2, 0), call(A(2, 3, 4), 1, 1),
      refused=[(RangeError, "movedim", call(A(2, 3), 0, 2))])
entry(ti.broadcast_to, call(A(3), (2, 3)), call(A(2, 1), [2, 3]), call(A(), (2,)), call(A(1),
      (0,)), call(A(3), (3,)),
      refused=[(ShapeError, "does not fit", call(A(2, 3), (3,))),
      (ShapeError, "does not fit", call(A(3), (2,)))])
entry(ti.expand, call(A(3), 2, 3), call(A(2, 1), -1, 3), call(A(1), (4,)), call(A(), 2),
      refused=[(ShapeError, "does not fit", call(A(2, 3), 3)),
      (ShapeError, "does not fit", call(A(3), -1, 2))])
entry(ti.concat, call([A(2, 3), A(1, 3)]), call([A(2, 3), A(2, 1), A(2, 0)], -1), call([A(2),
      I(3, 2) > 0]), call([A(2)]),
      call([I(3, 2), M(2)], dim=0),
      refused=[(ShapeError, "of no tensors", call([])), (ShapeError, "must agree", call([A(2, 3),
      A(2, 2)])),
               (ShapeError, "must agree", call([A(2, 3), A(3)])),
               (RangeError, "no dimension 1", call([A(2)], 1)),
               (DTypeError, "do not mix", call([A(2), I(3, 2)]))])
entry(ti.stack, call([A(2, 3), A(2, 3)]), call([A(2), A(2)], -1), call([A(), A()]),
      call([A(2, 0), A(2, 0)], 1),
      refused=[(ShapeError, "stack", call([A(2), A(3)])), (ShapeError, "stack", call([])),
               (RangeError, "stack", call([A(2)], 2))])
entry(ti.split, call(A(5, 2), 2), call(A(2, 5), [1, 4], 1), call(A(2, 5), (2, 0, 3), -1),
      call(A(3), 5), call(A(6), 3, dim=0), call(A(2, 11), 1, 1), call(A(0, 2), 3),
      refused=[(ShapeError, "add up to 4", call(A(5), [1, 3])),
      (ShapeError, "split", call(A(5), 0)),
               (ShapeError, "split", call(A(5), [-1, 6])), (RangeError, "split", call(A(5), 1, 1))])
entry(ti.unbind, call(A(3, 2)), call(A(2, 3, 1), 1), call(A(1, 10), dim=-1), call(A(9)),
      refused=[(RangeError, "unbind", call(A(5), 1))])
entry(ti.pad, call(A(2, 3), (1, 2)), call(A(2, 3), (0, 1, 2, 0), 0.5), call(I(5, 3), (1, 1),
      value=2), call(A(2), ()),
      refused=[(ShapeError, "not pairs", call(A(2), (1, 1, 1, 1))),
      (ShapeError, "not pairs", call(A(2), (1,))),
               (ShapeError, "not pairs", call(A(2), (-1, 0)))])
entry(ti.flip, call(A(3), 0), call(A(2, 3), (0, -1)), call(A(2, 3), [-1]), call(A(2, 0), 1),
      refused=[(RangeError, "flip", call(A(3), 1))])
entry(shape.Reshape, of(shape.Reshape((3, 2)), A(2, 3)))
entry(shape.Transpose, of(shape.Transpose((1, 2, 0)), A(2, 3, 4)))
entry(shape.BroadcastTo, of(shape.BroadcastTo((2, 3)), A(3)))
entry(shape.Slice, of(shape.Slice(((0, 2, 1), (3, -1, -2))), A(2, 4)),
      of(shape.Slice(((-1, -1, -1),)), A(3)))
entry(shape.PutSlice, of(shape.PutSlice(((0, 2, 1), (3, -1, -2)), (2, 4)), A(2, 2)))
entry(shape.Concat, of(shape.Concat(1), A(2, 3), A(2, 1)))
entry(shape.Pad, of(shape.Pad(((1, 0), (0, 2)), 0.5), A(2, 3)))
entry(ti.ops.sum_to, call(A(2, 3), (3,)), call(A(2, 3), (2, 1)), call(A(2, 3), ()), call(A(2, 3),
      (2, 3)))

steps(ti.zeros, call(2, 3), call((2, 3), dtype="int64"), call())
steps(ti.ones, call(2, 3), call([2, 3], dtype=bool), call(0))
steps(ti.full, call((2, 3), 0.5), call(3, 7), call((2,), True), call((), 2, "float64"),
      call(2, 1.5, dtype="int8"))
steps(ti.zeros_like, call(A(2, 3)), call(I(3, 2)))
steps(ti.ones_like, call(A(2, 3)), call(M(2)))
steps(ti.arange, call(5), call(2, 5), call(0, 1, 0.25), call(5, 0, -2),
      call(3, dtype="float64"), call(3.0), call(0),
      refused=[(ArgumentError, "arange: the step", call(0, 5, 0)),
      (DTypeError, "no tensor of", call(3, dtype="complex64"))])

# Indices

key = lambda x, *keys: call(x, keys if len(keys) > 1 else keys[0])
entry(ti.ops.getitem, key(A(4, 3), 1), key(A(4, 3), -1, slice(None, None, -2)),
      key(A(4), slice(-9, None, -1)),
      key(A(2, 3, 4), ..., 0), key(A(2, 3), None, 0, None), key(A(3), slice(2, 2)), call(A(4, 3),
      I(4, 5)),
      key(A(4, 3), [0, -1, 0]), key(A(2, 3, 4), 0, slice(None), (1, 2)), call(A(4, 3), ()),
      refused=[(RangeError, "there is no 4 among 4", key(A(4), 4)),
      (RangeError, "2 indices into a tensor of 1", key(A(4), 0, 0)),
               (DTypeError, "index", key(A(4), 1.5)), (DTypeError, "index", key(A(4), "a")),
               (DTypeError, "index", call(A(4), A(2))),
               (RangeError, "there is no 9", call(A(4), np.array([9]))),
               (ArgumentError, "only one ...", key(A(4), ..., ...))])
entry(index.Index, of(ti.ops.index.pick, A(4, 3), I(4, 2, 2)), of(ti.ops.index.pick, A(4, 3),
      I(4, 2), I(3, 5, 1)),
      refused=[(DTypeError, "of integers", of(ti.ops.index.pick, A(4), A(2))),
               (ShapeError, "2 indices into", of(ti.ops.index.pick, A(4), I(2, 2), I(2, 2))),
               (ShapeError, "do not broadcast", of(ti.ops.index.pick, A(4, 4), I(2, 2), I(2, 3))),
               (RangeError, "there is no 7", of(ti.ops.index.pick, A(4), np.array([7]))),
               (RangeError, "there is no -1", of(ti.ops.index.pick, A(4), np.array([-1])))])
entry(index.IndexPut, of(index.IndexPut((4,)), A(6), I(4, 6)), of(index.IndexPut((4, 3)),
      A(2, 5, 3), I(4, 2, 5)),
      of(index.IndexPut((3, 4)), A(5), I(3, 5), I(4, 5)), of(index.IndexPut((4,)), I(9, 6),
      I(4, 6)),
      refused=[(ShapeError, "put where", of(index.IndexPut((4,)), A(5), I(4, 6)))])
entry(ti.take, call(A(2, 3), I(6, 4)), call(A(5), np.array([-1, 0])), call(A(5), I(5, 2, 2)),
      refused=[(RangeError, "there is no 6", call(A(2, 3), np.array([6])))])
entry(ti.gather, call(A(3, 4), 1, I(4, 3, 2)), call(A(3, 4), -2, I(3, 2, 4)),
      call(A(4), 0, I(4, 6)), call(A(3, 4), 1, I(4, 0, 2)),
      refused=[(ShapeError, "gather", call(A(3, 4), 1, I(2, 3))),
      (ShapeError, "gather", call(A(3, 4), 1, I(2, 4, 2))),
               (RangeError, "gather: there is no 4", call(A(3, 4), 1, np.array([[4]]))),
               (DTypeError, "gather: an index", call(A(3, 4), 1, A(1, 1))),
               (RangeError, "gather", call(A(3), 1, I(3, 3)))])
entry(ti.scatter_add, call(A(3, 4), 1, I(4, 3, 2), A(3, 2)), call(A(4), 0, I(4, 6), A(6)),
      call(A(3, 2), -2, I(3, 4, 2), A(4, 2)),
      refused=[(ShapeError, "scatter_add", call(A(3, 4), 1, I(4, 3, 2), A(3, 3))),
               (RangeError, "scatter_add: there is no 4", call(A(4), 0, np.array([4]), A(1)))])
steps(ti.one_hot, call(I(4, 3), 4), call(I(2, 2, 2), 5), call(I(3), 3), call(I(3, 0), 3),
      refused=[(DTypeError, "of integers", call(A(3), 4)),
      (RangeError, "there is no 4", call(np.array([4]), 4)),
               (ArgumentError, "one_hot", call(I(4, 3), 0))])
steps(index.OneHot, of(index.OneHot(4), I(4, 3)))
entry(ti.embedding, call(I(5, 3), A(5, 2)), call(I(5, 2, 3), A(5, 2)), call(I(5, 0), A(5, 2)),
      refused=[(RangeError, "embedding: there is no 5", call(np.array([5]), A(5, 2))),
               (DTypeError, "embedding: an index must be of integers", call(A(3), A(5, 2)))])

# Linear algebra

entry(ti.matmul, call(A(2, 3), A(3, 4)), call(A(3), A(3)), call(A(2, 3), A(3)), call(A(3),
      A(3, 4)), call(A(5, 2, 3), A(3, 4)),
      call(A(5, 2, 3), A(5, 3, 4)), call(A(2, 1, 2, 3), A(4, 3, 2)), call(A(0, 3), A(3, 4)),
      call(A(2, 0), A(0, 4)),
      call(I(5, 2, 3), I(5, 3, 2)), call(A(2, 3), A(5, 3, 2)),
      refused=[(ShapeError, "(64, 5) @ (12, 5). Did you mean x @ w.T ?", call(A(64, 5), A(12, 5))),
               (ShapeError, "inner sizes differ", call(A(2, 3), A(4))),
               (ShapeError, "use *", call(A(), A(3))),
               (ShapeError, "the batches of", call(A(2, 2, 3), A(3, 3, 2))),
               (DTypeError, "do not mix", call(A(2, 3), I(3, 3, 2)))])
entry(ti.ops.linalg.product, call(A(2, 3), A(3, 4)), call(A(2, 2, 3), A(1, 3, 2)),
      refused=[(ShapeError, "of matrices", call(A(3), A(3)))])
entry(ti.linear, call(A(2, 3), A(4, 3)), call(A(2, 3), A(4, 3), A(4)), call(A(3), A(4, 3),
      A(4)), call(A(2, 2, 3), A(4, 3), bias=A(4)),
      call(A(0, 3), A(4, 3), A(4)), call(A(2, 0, 3), A(4, 3)),
      refused=[(ShapeError, "x.flatten(1)", call(A(2, 1, 2, 2), A(3, 4))),
      (ShapeError, "wants 3", call(A(2, 4), A(4, 3))),
               (ShapeError, "linear: the bias", call(A(2, 3), A(4, 3), A(3))),
               (ShapeError, "linear: the weight", call(A(3), A(3)))])
EINSUMS = (
    ("ij,jk->ik", (2, 3), (3, 4)), ("ij->ji", (2, 3)), ("ii", (3, 3)), ("ii->i", (3, 3)),
    ("ij,ij->", (2, 3), (2, 3)), ("bik,bkj->bij", (2, 2, 3), (2, 3, 2)), ("i,j->ij", (2,), (3,)),
    ("ij,jk,kl->il", (2, 3), (3, 2), (2, 4)), ("...ij,...jk->...ik", (2, 5, 2, 3), (5, 3, 2)),
    ("b...d,d->b...", (2, 3, 4), (4,)), ("ij,j", (2, 3), (3,)), ("iji->j", (2, 3, 2)),
    ("ba", (2, 3)), (",i->i", (), (3,)), ("...->...", (2, 3)), ("ij->", (2, 0)),
    ("bhqd,bhkd->bhqk", (1, 2, 3, 2), (1, 2, 4, 2)), ("i...j->j...", (2, 2, 3)),
    ("iij,jk->ik", (2, 2, 3), (3, 2)), ("i j , j -> i", (2, 3), (3,)),
)
entry(ti.einsum, *(call(equation, *(A(*s) for s in shapes)) for equation, *shapes in EINSUMS),
      call("ij,j->i", I(5, 2, 3), I(5, 3)),
      refused=[(ArgumentError, "1 terms, 2 operands", call("ij->i", A(2, 3), A(3))),
      (ArgumentError, "'ij'", call("ij->i", A(3))),
               (ArgumentError, "each letter of the result once", call("ij->ii", A(2, 3))),
               (ShapeError, "j is 3 and 2", call("ij,jk->ik", A(2, 3), A(2, 3))),
               (ArgumentError, "from the terms", call("ij->k", A(2, 3)))])

# Convolution and pooling

CONVS = (
    ((2, 3, 5, 6), (4, 3, 3, 2), dict(bias=True)),
    ((1, 2, 5, 5), (2, 2, 3, 3), dict(stride=2, padding=1)),
    ((2, 2, 6, 5), (2, 2, 2, 3), dict(stride=(2, 1), padding=(0, 2), dilation=(1, 2))),
    ((1, 4, 5, 4), (6, 2, 3, 3), dict(groups=2, padding=1, bias=True)),
    ((2, 3, 4, 4), (3, 1, 2, 2), dict(groups=3, stride=2)),
    ((1, 1, 7, 8), (1, 1, 3, 3), dict(dilation=2, stride=3, padding=2)),
    ((2, 2, 3, 3), (3, 2, 1, 1), {}),
    ((0, 2, 3, 3), (3, 2, 2, 2), dict(bias=True)),
)


def convs():
    for x, w, options in CONVS:
        options = {**options, **({"bias": A(w[0])} if "bias" in options else {})}
        yield call(A(*x), A(*w), **options)


entry(ti.conv2d, *convs(), call(I(5, 1, 1, 4, 4), I(5, 1, 1, 2, 2)),
      refused=[(ShapeError, "channels differ", call(A(1, 3, 4, 4), A(2, 2, 3, 3))),
      (ShapeError, "(batch, channels", call(A(3, 4, 4), A(2, 3, 3, 3))),
               (ShapeError, "does not fit into an image", call(A(1, 1, 2, 2), A(1, 1, 3, 3))),
               (ArgumentError, "stride", call(A(1, 1, 4, 4), A(1, 1, 3, 3), stride=0)),
               (ArgumentError, "padding", call(A(1, 1, 4, 4), A(1, 1, 3, 3), padding=(1, 2, 3))),
               (ArgumentError, "groups", call(A(1, 1, 4, 4), A(1, 1, 3, 3), groups=0)),
               (ArgumentError, "padding", call(A(1, 1, 4, 4), A(1, 1, 3, 3), padding="same")),
               (ShapeError, "bias", call(A(1, 1, 4, 4), A(2, 1, 3, 3), A(3))),
               (DTypeError, "do not mix", call(A(1, 1, 4, 4), I(3, 1, 1, 3, 3)))])
entry(ti.conv1d, call(A(2, 3, 6), A(4, 3, 3), A(4)), call(A(1, 2, 7), A(2, 2, 3),
      stride=2, padding=1, dilation=2), call(A(1, 4, 5), A(4, 1, 2), groups=4),
      refused=[(ShapeError, "(batch, channels, time)", call(A(2, 3), A(4, 3, 3))),
      (ShapeError, "conv1d", call(A(1, 3, 6), A(4, 2, 3))),
               (ArgumentError, "stride", call(A(1, 1, 6), A(1, 1, 3), stride=0)),
               (ShapeError, "conv1d", call(A(1, 1, 2), A(1, 1, 3))),
               (ShapeError, "conv1d: bias", call(A(2, 3, 6), A(4, 3, 3), A(3)))])
entry(ti.conv_transpose2d, call(A(2, 3, 3, 4), A(3, 2, 3, 2), A(2)), call(A(1, 2, 3, 3),
      A(2, 2, 3, 3), stride=2, padding=1, output_padding=1),
      call(A(1, 4, 3, 3), A(4, 2, 2, 2), stride=2, groups=2), call(A(1, 1, 3, 4),
      A(1, 2, 3, 2), dilation=2, stride=(3, 1), padding=(2, 0)),
      call(A(0, 2, 3, 3), A(2, 3, 2, 2)),
      refused=[(ShapeError, "channels differ", call(A(1, 3, 4, 4), A(2, 3, 3, 3))),
      (ArgumentError, "output_padding", call(A(1, 1, 3, 3), A(1, 1, 2, 2), output_padding=-1)),
               (ShapeError, "conv_transpose2d", call(A(1, 1, 3, 3), A(1, 1, 2, 2),
               output_padding=1)), (ShapeError, "conv_transpose2d", call(A(1, 1, 1, 1),
               A(1, 1, 2, 2), padding=3))])
CONV = conv.Conv2d((2, 1), ((1, 0), (0, 1)), (1, 2), 2)
entry(conv.Conv2d, of(CONV, A(2, 4, 5, 6), A(2, 2, 2, 3)))
entry(conv.Conv2dInput, of(conv.Conv2dInput(CONV, (2, 4, 5, 6)), A(2, 2, 3, 3), A(2, 2, 2, 3)))
entry(conv.Conv2dWeight, of(conv.Conv2dWeight(CONV, (2, 2, 2, 3)), A(2, 2, 3, 3), A(2, 4, 5, 6)))

image = (ShapeError, "(batch, channels, rows, columns)", call(A(2, 4, 4), 2))
POOLS = (call(A(1, 2, 4, 6), 2), call(A(2, 1, 5, 5), 3, 2, 1), call(A(1, 1, 4, 5), (2, 3),
      stride=(1, 2)), call(A(1, 2, 5, 4), 2, padding=(1, 0)), call(A(0, 1, 4, 4), 2))
refused = [image, (ShapeError, "does not fit into an image", call(A(1, 1, 2, 2), 3)),
      (ArgumentError, "more than half", call(A(1, 1, 4, 4), 2, padding=2)),
           (ArgumentError, "kernel_size", call(A(1, 1, 4, 4), 0)),
           (DTypeError, "pool2d", call(M(1, 1, 4, 4), 2))]
entry(ti.max_pool2d, *POOLS, call(I(9, 1, 1, 4, 4), 2, 1, 1), refused=refused)
entry(ti.avg_pool2d, *POOLS,
      refused=[*refused, (DTypeError, "astype('float32')", call(I(9, 1, 1, 4, 4), 2))])
ADAPTIVE = (call(A(1, 2, 5, 7), 1), call(A(1, 2, 5, 7), (2, 3)), call(A(2, 1, 4, 4), 2),
            call(A(1, 1, 2, 3), (3, 4)))
refused = [image, (ArgumentError, "output_size", call(A(1, 1, 4, 4), 0))]
entry(ti.adaptive_avg_pool2d, *ADAPTIVE,
      refused=[*refused, (DTypeError, "astype('float32')", call(I(9, 1, 1, 4, 4), 2))])
entry(ti.adaptive_max_pool2d, *ADAPTIVE, refused=refused)
entry(pool.MaxPool2d, of(pool.MaxPool2d((2, 3), (1, 2), (1, 1)), A(1, 2, 4, 5)))
MAX, IMAGE = pool.MaxPool2d((2, 3), (1, 2), (1, 1)), A(1, 2, 4, 5)
MAXIMA = MAX.forward(IMAGE)
for op, like in (pool.MaxPool2dInput, MAXIMA), (pool.MaxPool2dAt, IMAGE):
    some = A(*like.shape)
    steps(op, of(op(MAX), some, IMAGE, MAXIMA), of(op(MAX), some, IMAGE, A(*MAXIMA.shape)),
          refused=[(ShapeError, "with maxima", of(op(MAX), some[:, :1], IMAGE, MAXIMA)),
                   (ShapeError, "with maxima", of(op(MAX), some, IMAGE[:, :1], MAXIMA))])
    like_g = lambda g, op=op: op(MAX)(g, *[x.astype(g.dtype) for x in (IMAGE, MAXIMA)])
    entry(op, of(like_g, some))
entry(pool.AvgPool2d, of(pool.AvgPool2d((2, 3), (1, 2), (1, 1)), A(1, 2, 4, 5)))
entry(pool.AvgPool2dInput, of(pool.AvgPool2dInput(pool.AvgPool2d((2, 3), (1, 2), (1, 1)),
      (1, 2, 4, 5)), A(1, 2, 5, 3)))

LAID = A(1, 2, 3, 3, 8)
entry(layout.Reorder, of(layout.Reorder("NCHW", "NHWC"), A(2, 3, 2, 4)),
      of(layout.Reorder("NHWC", "NCHW8c"), A(2, 2, 3, 9)),
      of(layout.Reorder("NCHW8c", "NCHW16c", 11), LAID), of(layout.Reorder("NCHW8c", "NCHW"), LAID),
      of(layout.Reorder("NCHW16c", "NHWC", 3), A(0, 1, 2, 2, 16)),
      of(layout.Reorder("NCHW", "NCHW16n"), A(3, 2, 1, 4)), of(layout.Reorder("NCHW16n", "NCHW8c", 18), A(2, 3, 2, 1, 16)),
      refused=[(ArgumentError, "NHWC, NCHW8c, NCHW16c, NCHW16n, not 'NCWH'", of(layout.Reorder("NCHW", "NCWH"), A(1, 2, 2, 2))),
               (ShapeError, "no image in NCHW8c, which has 5 axes", of(layout.Reorder("NCHW8c", "NCHW"), A(1, 2, 2, 2))),
               (ShapeError, "are not 7 channels", of(layout.Reorder("NCHW8c", "NCHW", 7), LAID))])
entry(layout.In, of(layout.In(conv.Conv2d(), "NHWC", 3), A(2, 4, 4, 3), A(2, 3, 2, 2)),
      of(layout.In(conv.Conv2d((2, 1), ((1, 0), (1, 1))), "NCHW8c", 11), LAID, A(9, 11, 3, 2)),
      of(layout.In(pool.MaxPool2d((2, 2), (1, 1)), "NCHW16c", 3), A(2, 1, 3, 3, 16)),
      of(layout.In(pool.AvgPool2d((2, 3), (1, 2), (1, 1)), "NHWC", 2), A(1, 4, 5, 2)),
      of(layout.In(conv.Conv2d(), "NCHW16n", 3), A(1, 2, 3, 3, 16), A(2, 2, 2, 2)),
      of(layout.In(conv.Conv2d((2, 2)), "NCHW16c", 3, "NCHW"), A(2, 3, 4, 5), A(2, 3, 2, 2)),
      of(layout.In(conv.Conv2dWeight(conv.Conv2d(), (2, 3, 2, 2)), "NCHW16n", 3), A(1, 2, 2, 3, 16), A(1, 3, 3, 4, 16)),
      refused=[(ShapeError, "channels differ", of(layout.In(conv.Conv2d(), "NHWC", 3), A(2, 4, 4, 3), A(2, 4, 2, 2))),
               (ShapeError, "are not 4 channels", of(layout.In(conv.Conv2d(), "NHWC", 4), A(2, 4, 4, 3), A(2, 4, 2, 2)))])
FORM = packed.Filters(1, 4)
steps(packed.Columns, of(packed.Columns(4), A(3, 6)), of(packed.Columns(16), A(2, 3)), of(packed.Columns(4), A(0, 5)))
steps(packed.Rows, of(packed.Rows(3), A(3, 2, 3, 3)), of(packed.Rows(2), A(0, 2, 1, 1)), of(packed.Rows(2), A(2, 16)),
      of(packed.Rows(4, 2), A(10, 2, 3, 3)))
steps(packed.Filters, of(packed.Filters(1), A(3, 2, 2, 3)), of(packed.Filters(2), A(33, 17, 1, 1)), of(FORM, A(3, 6, 2, 2)))
steps(packed.Turned, of(packed.Turned(FORM), A(3, 6, 2, 2)), of(packed.Turned(winograd.Winograd(2, (0, 1, -1), 1)), A(3, 2, 3, 3)))
steps(packed.Packed, of(packed.Packed(conv.Conv2d(), FORM, (3, 6, 2, 2)), A(2, 6, 3, 3), A(1, 2, 2, 2, 4, 16)),
      of(packed.Packed(linalg.MatMul(), packed.Columns(4), (3, 6)), A(2, 3), A(2, 3, 4)),
      refused=[(ShapeError, "packed: weights float64[3, 6] in the form", of(packed.Packed(linalg.MatMul(), packed.Columns(4), (3, 6)), A(2, 3), A(2, 3, 5)))])
steps(winograd.Winograd, of(winograd.Winograd(2, (0, 1, -1), 1), A(3, 2, 3, 3)),
      of(winograd.Winograd(4, (0, 1, -1, 0.5, -2), 2), A(33, 17, 3, 3)),
      of(winograd.Winograd(3, (0, 1, -1, 0.5, -2, 2), 3), A(1, 1, 5, 5)), of(winograd.Winograd(1, (), 1), A(2, 3, 1, 1)),
      of(winograd.Winograd(2, (0, 1, -1), 1), A(0, 2, 3, 3)),
      refused=[(ShapeError, "filters are (out, in, r, r)", of(winograd.Winograd(2, (0, 1, -1), 1), A(3, 2, 3, 2))),
               (DTypeError, "astype('float32')", of(winograd.Winograd(2, (0, 1, -1), 1), I(5, 3, 2, 3, 3))),
               (ArgumentError, "m + r - 2 different points", of(winograd.Winograd(2, (0, 1, 1), 1), A(3, 2, 3, 3))),
               (ArgumentError, "vectors is", of(winograd.Winograd(2, (0, 1, -1), 0), A(3, 2, 3, 3)))])

# Sparse matrices, and numbers of one bit

COLUMNS, STARTS = np.array([2, 0, 3, 3, 4, 0], "int32"), np.array([0, 2, 2, 5, 6])


def of_entries(op, *arrays):
    """The columns and the starts of the rows are known."""
    at = 0 if isinstance(op, sparse.CsrMatMulValues) else 1
    return Call(lambda *xs: op(*xs[:at], COLUMNS, STARTS, *xs[at:]), arrays)


TIMES = sparse.CsrMatMul((4, 5))
entry(sparse.CsrMatMul, of_entries(TIMES, A(6), A(5, 2)), of_entries(TIMES, A(6), A(5, 0)),
      of_entries(sparse.CsrMatMul((4, 5), True), A(6), A(3, 5)),
      refused=[(ShapeError, "one of 5 x k is wanted", of_entries(TIMES, A(6), A(2, 5))),
               (ShapeError, "one of k x 5 is wanted", of_entries(sparse.CsrMatMul((4, 5), True), A(6), A(5))),
               (ShapeError, "every value has one column", of_entries(TIMES, A(5), A(5, 2))),
               (ShapeError, "must be (4,), one number more", of_entries(sparse.CsrMatMul((3, 5)), A(6), A(5, 2))),
               (ShapeError, "must be (z,)", of(TIMES, A(6), I(4, 3, 2), STARTS, A(5, 2))),
               (DTypeError, "of integers", of(TIMES, A(6), A(6), STARTS, A(5, 2))),
               (RangeError, "no column 4 in a matrix (4, 3)", of_entries(sparse.CsrMatMul((4, 3)), A(6), A(3, 2))),
               (RangeError, "from 0 to 5: it must go from 0 to 6", of(sparse.CsrMatMul((1, 5)), A(6), COLUMNS, np.array([0, 5]), A(5, 2))),
               (RangeError, "falls from 7 to 6 at row 1", of(sparse.CsrMatMul((2, 5)), A(6), COLUMNS, np.array([0, 7, 6]), A(5, 2)))])
entry(sparse.CsrMatMulDense, of_entries(sparse.CsrMatMulDense((4, 5)), A(6), A(4, 2)),
      of_entries(sparse.CsrMatMulDense((4, 5), True), A(6), A(3, 4)),
      refused=[(ShapeError, "one of 4 x k is wanted", of_entries(sparse.CsrMatMulDense((4, 5)), A(6), A(5, 2)))])
entry(sparse.CsrMatMulValues, of_entries(sparse.CsrMatMulValues((4, 5)), A(4, 2), A(5, 2)),
      of_entries(sparse.CsrMatMulValues((4, 5), True), A(3, 4), A(3, 5)),
      refused=[(ShapeError, "equally many", of_entries(sparse.CsrMatMulValues((4, 5)), A(4, 2), A(5, 3)))])
steps(sparse.CooOrder, of(sparse.CooOrder((5, 5)), I(5, 2, 7)), of(sparse.CooOrder((3, 4)), I(3, 2, 0)),
      refused=[(RangeError, "no row 4 among 4", of(sparse.CooOrder((4, 5)), np.array([[4], [4]]))),
               (RangeError, "no column 4", of(sparse.CooOrder((5, 4)), np.array([[4], [4]]))),
               (ShapeError, "must be (2, z)", of(sparse.CooOrder((5, 4)), I(4, 3, 2))),
               (DTypeError, "of integers", of(sparse.CooOrder((5, 4)), A(2, 3)))])
steps(sparse.RowStarts, of(sparse.RowStarts(5), I(5, 7)), of(sparse.RowStarts(3), I(3, 0)),
      refused=[(RangeError, "no row 5 among 5", of(sparse.RowStarts(5), np.array([5]))),
               (DTypeError, "rows are integers", of(sparse.RowStarts(5), A(5)))])
steps(sparse.EntryRows, Call(lambda c: sparse.entry_rows(STARTS, c), (COLUMNS,)),
      refused=[(RangeError, "from 0 to 6: it must go from 0 to 5", Call(lambda c: sparse.entry_rows(STARTS, c), (I(5, 5),))),
               (DTypeError, "indptr is integers", of(sparse.entry_rows, A(3), COLUMNS))])
PACKED = lambda k, *shape: binary.PackBits(-1).forward(A(*shape, k))
steps(binary.PackBits, of(binary.PackBits(-1), A(2, 40)), of(binary.PackBits(1), A(2, 33, 3)),
      of(binary.PackBits(0), I(5, 5) - 2), of(binary.PackBits(-1), A(2, 0)),
      refused=[(DTypeError, "of signed numbers", of(binary.PackBits(0), M(3))),
               (RangeError, "no dimension 1", of(binary.PackBits(1), A(3)))])
steps(binary.BinaryMatMul, of(binary.BinaryMatMul(40), PACKED(40, 3), PACKED(40, 2)),
      of(binary.BinaryMatMul(7, "int32"), PACKED(7, 2, 1), PACKED(7, 17)),
      refused=[(ShapeError, "40 signs are 2 words", of(binary.BinaryMatMul(40), PACKED(32, 3), PACKED(32, 2))),
               (ShapeError, "(..., k) and (n, k)", of(binary.BinaryMatMul(9), PACKED(9, 3), PACKED(9))),
               (DTypeError, "pack_bits makes them", of(binary.BinaryMatMul(40), PACKED(40, 3), I(2, 4, 2)))])
steps(binary.BinaryConv2d, of(binary.BinaryConv2d(3), PACKED(3, 2, 4, 5), PACKED(3, 6, 3, 2)),
      of(binary.BinaryConv2d(33, (2, 1), ((1, 0), (3, 1)), (1, 2), "int32"), PACKED(33, 1, 5, 4), PACKED(33, 17, 2, 3)),
      refused=[(ShapeError, "does not fit into an image", of(binary.BinaryConv2d(3), PACKED(3, 1, 2, 2), PACKED(3, 1, 3, 3))),
               (ShapeError, "(batch, rows, columns, words)", of(binary.BinaryConv2d(3), PACKED(3, 2, 2), PACKED(3, 1, 1, 1)))])
steps(binary.WordPanels, of(binary.WordPanels(), PACKED(40, 17)), of(binary.WordPanels(), PACKED(3, 2, 3, 3)))
B = lambda *shape: np.asarray(RNG.randint(0, 256, shape), np.uint8)
S = lambda *shape: np.asarray(RNG.randint(-128, 128, shape), np.int8)
N = lambda *shape: np.asarray(RNG.randint(-99, 99, shape), np.int32)
TIMES8 = integer.QLinearMatMul(120, 3)
steps(integer.QLinearMatMul, of(TIMES8, B(4, 7), S(7, 5), P(5) / 99, N(5)), of(TIMES8, B(7), S(7, 0), P(), N(0)),
      of(integer.QLinearMatMul(-9, -128, "int8"), S(2, 3, 7), S(7, 5), P() / 99, N(5)),
      refused=[(ShapeError, "(..., k) times (k, n)", of(TIMES8, B(4, 7), S(5, 7), P(7), N(7))),
               (ShapeError, "want a scale () or (5,)", of(TIMES8, B(4, 7), S(7, 5), P(4), N(5))),
               (DTypeError, "quantize them first", of(TIMES8, A(4, 7), S(7, 5), P(5), N(5))),
               (DTypeError, "a bias of int32", of(TIMES8, B(4, 7), S(7, 5), P(5), A(5))),
               (DTypeError, "of uint8 or int8, not of int32", of(integer.QLinearMatMul(0, 0, "int32"), B(4, 7), S(7, 5), P(5), N(5))),
               (ArgumentError, "the zero point -1 is no uint8", of(integer.QLinearMatMul(-1, 3), B(4, 7), S(7, 5), P(5), N(5)))])
steps(integer.QLinearConv, of(integer.QLinearConv(CONV, 9, 3), B(2, 4, 5, 6), S(2, 2, 2, 3), P(2) / 99, N(2)),
      of(integer.QLinearConv(conv.Conv2d(), 9, -3, "int8"), B(2, 3, 4, 3), S(5, 3, 2, 2), P() / 99, N(5)),
      refused=[(ShapeError, "channels differ", of(integer.QLinearConv(CONV, 9, 3), B(2, 3, 5, 6), S(2, 2, 2, 3), P(2), N(2)))])
steps(integer.BytePanels, of(integer.BytePanels(2), S(33, 17, 3, 2)), of(integer.BytePanels(1, 4), S(16, 3, 1, 1)),
      of(integer.BytePanels(1), S(20, 33)), of(integer.BytePanels(1), S(0, 3, 1, 1)))

# Normalisation, dropout, random numbers

entry(ti.batch_norm, call(A(4, 3), A(3), P(3), P(3), A(3)), call(A(2, 3, 2, 2), A(3), P(3), A(3),
      A(3), eps=0.1), call(A(2, 3, 4), A(3), P(3)),
      call(A(2, 3, 4), A(3), P(3), weight=A(3)),
      refused=[(ShapeError, "batch_norm: the variance", call(A(4, 3), A(3), P(2), P(3), A(3))),
      (ShapeError, "one number a channel", call(A(1, 3), A(3), P(3), training=True)),
               (DTypeError, "batch_norm", call(I(4, 4, 3), I(3, 3), I(3, 3), I(3, 3), I(3, 3)))])
entry(norm.LayerNorm, of(norm.LayerNorm((1,), 1e-5), A(2, 3)), of(norm.LayerNorm((0, 2), 0.1), A(2, 3, 4)),
      refused=[(ShapeError, "of no elements", of(norm.LayerNorm((1,), 1e-5), A(2, 0)))])
entry(norm.BatchNorm, of(norm.BatchNorm(1e-5), A(2, 3, 2), A(3), P(3), A(3), A(3)))
entry(ti.layer_norm, call(A(2, 5), 5), call(A(2, 3, 4), (3, 4), A(3, 4), A(3, 4)),
      call(A(2, 3, 4), [4], weight=A(4)), call(A(4), (4,), eps=0.1),
      refused=[(ShapeError, "does not end in (4,)", call(A(2, 5), 4)),
      (DTypeError, "astype('float32')", call(I(3, 2, 5), 5))])


def seeded_dropout(x, p=0.5, training=True):
    ti.manual_seed(1)
    return ti.dropout(x, p, training)


drawn = lambda fn: lambda *shape: ti.manual_seed(1) or fn(*shape)
entry(ti.dropout, Call(seeded_dropout, (A(3, 4),)), Call(seeded_dropout, (A(5), 0.2)),
      call(A(3), 0.5, False), call(A(3), 0.0),
      refused=[(ArgumentError, "dropout: p", call(A(3), 1.5))])
steps(ti.rand, Call(drawn(ti.rand), (2, 3)), Call(drawn(ti.rand), ()), Call(drawn(ti.rand),
      ((0, 2),)))
steps(ti.randn, Call(drawn(ti.randn), (2, 3)), Call(drawn(ti.randn), ()))
steps(random.Uniform, of(random.Uniform((2, 3)), np.array([3, 4])))
steps(random.Normal, of(random.Normal((2, 3)), np.array([3, 4])))
steps(ti.manual_seed, Call(lambda: ti.manual_seed(2) or ti.rand(2), ()),
      refused=[(ArgumentError, "manual_seed", call(-1)),
      (ArgumentError, "manual_seed", call(1.5)), (ArgumentError, "manual_seed", call(2**70))])

# Losses

together = (ShapeError, "differ in shape", call(A(2, 3), A(3)))
reductions = (ArgumentError, 'reduction is "mean", "sum" or "none"', call(A(2, 3),
      A(2, 3), "average"))
PAIR = call(A(2, 3), A(2, 3)), call(A(2, 3), A(2, 3), "sum"), call(A(4), A(4), reduction="none")
entry(ti.mse_loss, *PAIR, refused=[together, reductions])
entry(ti.l1_loss, *PAIR, refused=[together, reductions])
entry(ti.binary_cross_entropy_with_logits, *(call(c.args[0],
      P(*c.args[1].shape) - 0.5, *c.args[2:], **c.options) for c in PAIR),
      refused=[together, reductions])
entry(ti.kl_div, *(call(c.args[0], P(*c.args[1].shape), *c.args[2:],
      **c.options) for c in PAIR), call(A(2, 3), A(2, 3), "batchmean", log_target=True),
      call(A(3), P(3), "batchmean"), refused=[together, reductions])
range_ = (RangeError, "there is no 3 among the 3", call(A(2, 3), np.array([0, 3])))
shapes = (ShapeError, "labels must be (2,)", call(A(2, 3), I(3, 2, 1)))
entry(ti.nll_loss, call(A(2, 3), I(3, 2)), call(A(2, 3, 4), I(3, 2, 4), "sum"), call(A(2, 3),
      I(3, 2), reduction="none"),
      refused=[range_, shapes, reductions[:2] + (call(A(2, 3), I(3, 2), "average"),),
      (DTypeError, "labels are integers", call(A(2, 3), A(2)))])
entry(ti.cross_entropy, call(A(2, 3), I(3, 2)), call(A(2, 3, 4), I(3, 2, 4), "sum"),
      call(A(2, 3), I(3, 2), reduction="none"), call(A(2, 3), P(2, 3)),
      call(A(2, 3), I(3, 2), label_smoothing=0.1), call(A(2, 3, 2), P(2, 3, 2),
      label_smoothing=0.2),
      refused=[range_, shapes, (DTypeError, "astype('int64')", call(A(2, 3),
      A(2))), reductions[:2] + (call(A(2, 3), I(3, 2), "average"),)])
# fmt: on
