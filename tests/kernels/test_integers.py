"""Steps on whole numbers, one after the other: bit for bit what the definitions say."""

import numpy as np
import pytest
from kernel_check import carried_out

from tinyinfer.core.spec import Spec, spec_of
from tinyinfer.kernels.integers import WRITE, find
from tinyinfer.ops import elementwise as e

LOW, HIGH = np.iinfo(np.int64).min, np.iinfo(np.int64).max
A = np.array([0, 1, -1, 7, -7, LOW, HIGH, HIGH, 1 << 40, 3, 3])
B = np.array([0, 2, -1, 3, 3, -1, 1, HIGH, -5, 4, 3])
FLAGS = A > 0
UNARY = e.Neg, e.Abs
BINARY = [kind for kind in WRITE if kind not in (*UNARY, e.Cast, e.Where)]


def agrees(op, *xs):
    kernel = find(op, op.infer(*map(spec_of, xs)), *map(spec_of, xs))
    with np.errstate(all="ignore"):
        got, wanted = carried_out(kernel, op, *xs), np.asarray(op.forward(*xs))
    assert spec_of(got) == spec_of(wanted) and got.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("kind", WRITE, ids=lambda kind: kind.name)
def test_each_op_is_what_its_definition_says(kind):
    for n in (0, 1, len(A)):
        a, b, p = A[:n], B[:n], FLAGS[:n]
        if kind is e.Cast:
            for to in "float32", "bool", "int64":
                agrees(kind(to), a)
            agrees(kind("int64"), p)
        elif kind is e.Where:
            agrees(kind(), p, a, b)
            agrees(kind(), p, a, np.array(-5))
            agrees(kind(), np.array(True), a, b)
        elif kind in UNARY:
            agrees(kind(), a)
        else:
            agrees(kind(), a, b)
            agrees(kind(), a, np.array(3))
            agrees(kind(), np.array([[-3]]), a.reshape(1, n))


@pytest.mark.parametrize("kind", BINARY, ids=lambda kind: kind.name)
def test_a_result_over_an_operand(kind):
    a, b = A.copy(), B.copy()
    op = kind()
    kernel = find(op, op.infer(spec_of(a), spec_of(b)), spec_of(a), spec_of(b))
    for i in kernel.over:
        xs = [a.copy(), b.copy()]
        kernel.run(xs[i], *xs)
        with np.errstate(all="ignore"):
            assert (xs[i] == op.forward(a, b)).all()
    assert kernel.over == ((0, 1) if op.infer(spec_of(a), spec_of(b)).dtype == np.int64 else ())


def test_other_numbers_are_for_others():
    of = lambda dtype, *shape: Spec(shape, np.dtype(dtype))
    for x, y in (("int32", "int32"), ("float32", "float32"), ("bool", "bool"), ("uint8", "int64")):
        assert find(e.Add(), of(y, 3), of(x, 3), of(x, 3)) is None
    assert find(e.Cast("float64"), of("float64", 3), of("int64", 3)) is None
    assert find(e.Cast("int64"), of("int64", 3), of("float32", 3)) is None
    whole = of("int64", 2, 3), of("int64", 2, 3), of("int64", 3)
    assert find(e.Add(), *whole) is None  # rows are repeated
