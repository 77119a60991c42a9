"""Equations, in tables. Those that only move data hold bit for bit, the others to rounding, but for
the sign of a zero. NaN, infinity and overflow stay what they are, unless the right side does
without an overflow of the left. What only whole numbers fulfil, as x * 0 = 0, asks for `exact`.
"""

# fmt: off
# isort: off
from dataclasses import replace
from math import isfinite, prod
from numbers import Real as Number

import numpy as np

from ...core.tensor import Node
from ...ops import abs, hardswish, log, neg, not_equal, relu, sigmoid, silu, softplus, where
from ...ops import equal as equals
from ...ops.activation import LeakyRelu, Relu, Sigmoid
from ...ops.conv import Conv2d
from ...ops.elementwise import (
    Abs, Add, Cast, Ceil, Clip, Div, Equal, Exp, Floor, Greater, Log, LogicalAnd, LogicalNot,
    LogicalOr, Maximum, Minimum, Mul, Neg, NotEqual, Pow, Round, Sign, Sqrt, Sub, Where,
)
from ...ops.linalg import MatMul, product
from ...ops.reduce import LogSoftmax, LogSumExp, Max, Mean, Min, Prod, Softmax, Sum
from ...ops.shape import BroadcastTo, Concat, Pad, PutSlice, Reshape, Slice, Transpose
from .rewrite import (
    equations, everywhere, expression, graph_pass, rewrite, settled, sliced, uniform,
)
from .rewrite import tensor_of as T


@graph_pass
def simplify(graph):
    """The equations of this file, from left to right, until none fits: x * 1 + 0 -> x"""
    tables = arithmetic, choices, intervals, curves, reductions, moves, repeats
    return settled(graph, lambda g: rewrite(g, equations(*tables)))


def arithmetic(n, step):
    match step:
        case Add(), x, 0:                             return x            # x + 0 -> x
        case Sub(), x, 0:                             return x            # x - 0 -> x
        case Mul(), x, 1:                             return x            # x * 1 -> x
        case Div(), x, 1:                             return x            # x / 1 -> x
        case Pow(), x, 1:                             return x            # x ** 1 -> x
        case Pow(), _, 0:                             return every(1, n)  # x ** 0 -> 1
        case Mul(), _, 0 if exact(n):                 return every(0, n)  # x * 0 -> 0
        case Sub(), x, y if x is y and exact(n):      return every(0, n)  # x - x -> 0
        case Sub(), 0, x:                             return neg(T(x))    # 0 - x -> -x
        case (Mul() | Div()), x, -1:                  return neg(T(x))    # x * -1 -> -x
        case Neg(), Node(Neg(), (x,)):                return x            # -(-x) -> x
        case Neg(), Node(Sub(), (x, y)):              return T(y) - T(x)  # -(x - y) -> y - x
        case Add(), x, Node(Neg(), (y,)):             return T(x) - T(y)  # x + (-y) -> x - y
        case Sub(), x, Node(Neg(), (y,)):             return T(x) + T(y)  # x - (-y) -> x + y
        case Abs(), Node(Neg(), (x,)) if signed(x):   return abs(T(x))    # |-x| -> |x|
        case Abs(), Node(Abs() | Relu()) as y:        return y            # ||x|| -> |x|
        case Sign(), Node(Sign()) as y:               return y            # sign(sign(x))

        # floor(round(x)) -> round(x)
        case (Floor() | Ceil() | Round()), Node(Floor() | Ceil() | Round()) as y:
            return y

        # (-x) * (-y) -> x * y
        case (Mul() | Div()) as f, Node(Neg(), (x,)), Node(Neg(), (y,)):
            return f(T(x), T(y))

        # (-x) * 2 -> x * -2
        case (Mul() | Div()) as f, Node(Neg(), (x,)), Number() as c:
            return f(T(x), -c)

        # (x + 2) + 3 -> x + 5
        case Add(), Node(Add(), (x, a)), Number() as b if known(a) and exact(n):
            return T(x) + (uniform(a) + b)

        # (x * 2) * 3 -> x * 6
        case Mul(), Node(Mul(), (x, a)), Number() as b if known(a) and tame(uniform(a) * b, n):
            return T(x) * (uniform(a) * b)


def choices(n, step):
    *_, a, b = None, *n.inputs
    match step:
        case Where(), True, _, _:                     return a            # where(True, a, b) -> a
        case Where(), False, _, _:                    return b            # where(False, a, b) -> b
        case Where(), _, _, _ if a is b:              return a            # where(p, a, a) -> a
        case LogicalNot(), Node(LogicalNot(), (p,)):    return p            # ~~p -> p
        case LogicalAnd(), p, True:                   return p            # p & True -> p
        case LogicalAnd(), _, False:                  return every(False, n)  # p & False -> False
        case LogicalOr(), p, False:                   return p            # p | False -> p
        case LogicalOr(), _, True:                    return every(True, n)   # p | True -> True

        # p & p -> p
        case (LogicalAnd() | LogicalOr()), p, q if p is q:
            return p

        # p & ~p -> False
        case LogicalAnd(), p, Node(LogicalNot(), (q,)) if p is q:
            return every(False, n)

        # p | ~p -> True
        case LogicalOr(), p, Node(LogicalNot(), (q,)) if p is q:
            return every(True, n)

        # ~(x == y) -> x != y
        case LogicalNot(), Node(Equal(), (x, y)):
            return not_equal(T(x), T(y))

        # ~(x != y) -> x == y
        case LogicalNot(), Node(NotEqual(), (x, y)):
            return equals(T(x), T(y))

        # where(~p, a, b) -> where(p, b, a)
        case Where(), Node(LogicalNot(), (p,)), _, _:
            return where(T(p), T(b), T(a))

        # where(p, where(p, x, y), b) -> where(p, x, b)
        case Where(), p, Node(Where(), (q, x, _)), _ if p is q:
            return where(T(p), T(x), T(b))

        # where(p, a, where(p, x, y)) -> where(p, a, y)
        case Where(), p, _, Node(Where(), (q, _, y)) if p is q:
            return where(T(p), T(a), T(y))


def intervals(n, step):
    match step:
        case (Maximum() | Minimum()), x, y if x is y:   return x            # max(x, x) -> x
        case (Maximum(), x, 0) | (Maximum(), 0, x):     return relu(T(x))   # max(x, 0) -> relu(x)
        case Relu(), Node(Relu()) as y:               return y            # relu(relu(x)) -> relu(x)

        # clip(clip(x, 0, 6), 1, 9) -> clip(x, 1, 6); and so min(relu(x), 6) -> clip(x, 0, 6)
        case (Relu() | Clip() | Maximum() | Minimum()), *_ if ends := both_intervals(n):
            return Clip(*ends[1:])(T(ends[0]))


def curves(n, step):
    match step:
        # log(exp(x)) -> x, without overflow
        case Log(), Node(Exp(), (x,)):
            return x

        # sqrt(x * x) -> |x|, without overflow
        case Sqrt(), Node(Mul(), (x, y)) if x is y:
            return abs(T(x))

        # log(softmax(x)) -> log_softmax(x), which tells apart what softmax makes 0
        case Log(), Node(Softmax(axes), (x,)):
            return LogSoftmax(axes)(T(x))

        # log(sum(exp(x))) -> logsumexp(x), without overflow
        case Log(), Node(Sum(axes), (Node(Exp(), (x,)),)) if prod(x.spec.shape):
            return LogSumExp(axes)(T(x))
        case Log(), Node(Reshape(shape), (Node(Sum()) as y,)):
            return Reshape(shape)(log(T(y))) if isinstance(y.inputs[0].op, Exp) else None

        # exp(x) / sum(exp(x)) -> softmax(x), without overflow
        case Div(), Node(Exp(), (x,)), Node(Sum(axes), (Node(Exp(), (y,)),)) if x is y:
            return Softmax(axes)(T(x))

        # x - logsumexp(x) -> log_softmax(x)
        case Sub(), x, Node(LogSumExp(axes), (y,)) if x is y:
            return LogSoftmax(axes)(T(x))

        # softmax(x - max(x)) -> softmax(x), and so log_softmax
        case (Softmax() | LogSoftmax()) as f, Node(Sub(), (x, top)) if is_max(top, x, f):
            return f(T(x))

        # logsumexp(x - max(x)) + max(x) -> logsumexp(x)
        case Add(), Node(LogSumExp() as f, (Node(Sub(), (x, y)),)), top if y is top:
            return f(T(x)) if is_max(top, x, f) else None

        # 1 / (1 + exp(x)) -> sigmoid(-x), without overflow
        case Div(), 1, Node(Add()) as y if is_exp(y := beside(1, y)):
            return sigmoid(neg(T(y.inputs[0])))

        # log(1 + exp(x)) -> softplus(x), without overflow
        case Log(), Node(Add()) as y if is_exp(y := beside(1, y)):
            return softplus(T(y.inputs[0]))

        # x * sigmoid(x) -> silu(x)
        case Mul(), x, Node(Sigmoid(), (y,)) if x is y:
            return silu(T(x))

        # x * clip(x + 3, 0, 6) / 6 -> hardswish(x)
        case Div(), Node(Mul(), (x, Node(Clip(0, 6), (y,)))), 6 if beside(3, y) is x:
            return hardswish(T(x))

        # where(x > 0, x, 0.1 * x) -> leaky_relu(x)
        case Where(), Node(Greater(), (x, c)), y, Node(Mul(), (z, a)) if x is y is z and known(a):
            return LeakyRelu(uniform(a))(T(x)) if uniform(c) == 0 else None


def reductions(n, step):
    match step:
        # the sum of one number is the number
        case (Sum() | Mean() | Max() | Min() | Prod() | LogSumExp()) as f, x if one(f, x):
            return x

        # x.sum(0).sum(1) -> x.sum((0, 1))
        case (Sum() | Mean() | Max() | Min()) as f, Node(g, (x,)) if type(f) is type(g):
            return type(f)(tuple(sorted({*f.axes, *g.axes})))(T(x))

        # the sum of n times x -> n * x; its mean, its largest and its smallest -> x
        case Sum() as f, Node(BroadcastTo(), (x,)) as y if along(f, x, y):
            many = f.count(y.spec)
            total = (T(x) * many).reshape(lengthened(x, y)).broadcast_to(n.spec.shape)
            return total if tame(many, n) else None
        case (Mean() | Max() | Min()) as f, Node(BroadcastTo(), (x,)) as y if along(f, x, y):
            return T(x).reshape(lengthened(x, y)).broadcast_to(n.spec.shape)


def moves(n, step):
    match step:
        # what is so already
        case (Reshape() | BroadcastTo() | Cast()), x if x.spec == n.spec:
            return x
        case Transpose(axes), x if [*axes] == sorted(axes):
            return x
        case (Slice(ranges) | PutSlice(ranges)), x if whole(ranges, x) and x.spec == n.spec:
            return x
        case Pad(widths), x if not np.any(widths):
            return x
        case Concat(), x:
            return x

        # x.reshape(6).reshape(2, 3) -> x.reshape(2, 3)
        case (Reshape() | BroadcastTo()) as f, Node(g, (x,)) if type(f) is type(g):
            return f(T(x))

        # x.unsqueeze(0).expand(4, 3) -> x.expand(4, 3)
        case BroadcastTo() as f, Node(Reshape(), (x,)) as y if y.spec.shape == lengthened(x, y):
            return f(T(x))

        # x.permute(0, 2, 1).reshape(6) -> x.reshape(6), if a size that moves is 1
        case Reshape() as f, Node(Transpose(axes), (x,)) if moves_ones(axes, x):
            return f(T(x))

        # x.mT.mT -> x
        case Transpose(p), Node(Transpose(q), (x,)):
            return Transpose(tuple([q[a] for a in p]))(T(x))

        # a.mT @ b.mT -> (b @ a).mT
        case MatMul(), Node(Transpose(p), (a,)), Node(Transpose(q), (b,)) if is_mT(p) and is_mT(q):
            return product(T(b), T(a)).mT

        # x[1:][2:5] -> x[3:6]
        case Slice(outer), Node(Slice(inner), (x,)):
            return Slice(tuple(map(sliced, inner, outer)))(T(x))

        # what is put in and taken out again
        case Slice(outer), Node(PutSlice(inner), (x,)) if outer == inner:
            return x

        # conv2d(pad(x, 1)) -> conv2d(x, padding=1)
        case Conv2d() as f, Node(Pad(widths, 0), (x,)), _ if not np.any(widths[:2]):
            added = tuple([(a + c, b + d) for (a, b), (c, d) in zip(f.padding, widths[2:])])
            return replace(f, padding=added)(T(x), T(n.inputs[1]))

        # x.double().float() -> x.float(), if the first loses nothing
        case Cast() as f, Node(Cast(), (x,)) as y if loses_nothing(x, y, n):
            return f(T(x))


def repeats(n, _):
    """x + b.expand(x.shape) -> x + b, for that is how ops read smaller inputs"""
    if n.op.elementwise and n.op.broadcasts:
        for i, x in enumerate(n.inputs):
            if isinstance(x.op, BroadcastTo):
                inputs = (*n.inputs[:i], x.inputs[0], *n.inputs[i + 1:])
                if n.op.infer(*[x.spec for x in inputs]) == n.spec:
                    return n.op(*map(T, inputs))


# fmt: on
# What the tables ask


def every(number, n):
    return everywhere(number, n.spec)


def known(n):
    return uniform(n) is not None


def exact(n):
    return n.spec.dtype.kind != "f"


def signed(n):
    return n.spec.dtype.kind != "u"


def tame(c, n):
    """Is a product of two constants neither too large nor too small for the dtype?"""
    if exact(n):
        return True
    limits = np.finfo(n.spec.dtype)
    return c == 0 or limits.tiny <= np.abs(c) <= limits.max


def interval(n):
    """(x, low, high), if n is x, but nowhere below `low` nor above `high`."""
    match expression(n):
        case Relu(), x:
            return x, 0, None
        case Clip(low, high), x:
            return x, low, high
        case (Maximum(), x, Number() as c) | (Maximum(), Number() as c, x) if isfinite(c):
            return x, c, None
        case (Minimum(), x, Number() as c) | (Minimum(), Number() as c, x) if isfinite(c):
            return x, None, c


def both_intervals(n):
    """Of one interval in another, if they have something in common: (x, low, high)."""
    outer = interval(n)
    inner = outer and isinstance(outer[0], Node) and interval(outer[0])
    if inner and isinstance(inner[0], Node):
        lows, highs = ([c for c in ends if c is not None] for ends in list(zip(outer, inner))[1:])
        if all(low <= high for low in lows for high in highs):
            return inner[0], max(lows, default=None), min(highs, default=None)


def beside(c, n):
    """What is added to the number c."""
    match expression(n):
        case (Add(), x, Number() as d) | (Add(), Number() as d, x) if c == d:
            return x


def is_exp(n):
    return n is not None and isinstance(n.op, Exp)


def one(f, x):
    return f.count(x.spec) == 1


def is_max(top, x, f):
    return isinstance(top.op, Max) and top.inputs[0] is x and top.op.axes == f.axes


def lengthened(x, y):
    """The shape of x, with ones in front until it has as many axes as y."""
    return (1,) * (len(y.spec.shape) - len(x.spec.shape)) + x.spec.shape


def along(f, x, y):
    """Does f reduce only axes along which y repeats x?"""
    shape = lengthened(x, y)
    return f.count(y.spec) and all(shape[a] == 1 for a in f.axes)


def whole(ranges, x):
    return all(range(*r) == range(n) for r, n in zip(ranges, x.spec.shape))


def moves_ones(axes, x):
    order = [a for a in axes if x.spec.shape[a] != 1]
    return order == sorted(order)


def is_mT(axes):
    n = len(axes)
    return axes == (*range(n - 2), n - 1, n - 2)


def loses_nothing(*nodes):
    """Is a as b as c the same as a as c?"""
    a, b, c = (n.spec.dtype for n in nodes)
    long = a.kind in "iu" and a.itemsize == 8 and b.kind == "f"  # NumPy calls that safe
    return np.can_cast(a, b) and not long and (b.kind != "f" or c.kind in "fb" or np.can_cast(a, c))
