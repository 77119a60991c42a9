"""The promotion rule, pair by pair, and numbers beside tensors."""

from itertools import product

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer.core.spec import DTYPES, Spec, Specs, as_dtype, broadcast

# Row with column; "." where they do not mix.
TABLE = """
         bool    int8    int16   int32   int64   uint8   uint16  uint32  uint64  float16 float32 float64
bool     bool    int8    int16   int32   int64   uint8   uint16  uint32  uint64  float16 float32 float64
int8     int8    int8    int16   int32   int64   int16   int32   int64   .       .       .       .
int16    int16   int16   int16   int32   int64   int16   int32   int64   .       .       .       .
int32    int32   int32   int32   int32   int64   int32   int32   int64   .       .       .       .
int64    int64   int64   int64   int64   int64   int64   int64   int64   .       .       .       .
uint8    uint8   int16   int16   int32   int64   uint8   uint16  uint32  uint64  .       .       .
uint16   uint16  int32   int32   int32   int64   uint16  uint16  uint32  uint64  .       .       .
uint32   uint32  int64   int64   int64   int64   uint32  uint32  uint32  uint64  .       .       .
uint64   uint64  .       .       .       .       uint64  uint64  uint64  uint64  .       .       .
float16  float16 .       .       .       .       .       .       .       .       float16 float32 float64
float32  float32 .       .       .       .       .       .       .       .       float32 float32 float64
float64  float64 .       .       .       .       .       .       .       .       float64 float64 float64
"""
COLUMNS, *ROWS = [line.split() for line in TABLE.strip().splitlines()]
PAIRS = {(row[0], b): wanted for row in ROWS for b, wanted in zip(COLUMNS, row[1:], strict=True)}
OPS = {"add": lambda a, b: a + b, "where": lambda a, b: ti.where(ti.tensor([True, False]), a, b),
       "concat": lambda a, b: ti.concat([a, b]), "matmul": lambda a, b: a @ b}  # fmt: skip


def test_the_table_is_whole():
    assert PAIRS.keys() == {*product(DTYPES.values(), repeat=2)} and len(PAIRS) == 144


@pytest.mark.parametrize("a, b", PAIRS, ids=str)
def test_promotion(a, b):
    x, y = (ti.tensor(np.ones(2), dtype) for dtype in (a, b))
    for name, op in OPS.items():
        if PAIRS[a, b] == ".":
            with pytest.raises(ti.DTypeError, match=f"{name}: {a} and {b} do not mix: convert one"):
                op(x, y)
        elif not (name == "add" and a == b == "bool"):
            assert op(x, y).dtype == op(x, y).numpy().dtype == PAIRS[a, b]


@pytest.mark.parametrize("dtype", [d for d in DTYPES.values() if d != "bool"])
@pytest.mark.parametrize("number", [True, 2, 2.5])
def test_numbers_beside_tensors(dtype, number):
    x = ti.ones(3, dtype=dtype)
    if isinstance(number, float) and "int" in dtype:
        with pytest.raises(ti.DTypeError, match=r"do not mix: convert one with .astype"):
            x * number
        return
    for y in x * number, number * x, ti.maximum(x, number), number - x, x * np.array(number, dtype):
        assert y.dtype == dtype
    assert (x * number).tolist() == [number] * 3


def test_numbers_beside_masks():
    mask = ti.tensor([True, False])
    assert (mask & True).tolist() == [True, False] and (mask == False).tolist() == [False, True]  # noqa: E712
    assert (mask * 2).tolist() == [2, 0] and (mask * 2).dtype == np.int64
    assert (mask * 0.5).dtype == np.float32


def test_numbers_that_do_not_fit():
    with pytest.raises(ti.DTypeError, match="300 does not fit into uint8"):
        ti.ones(2, dtype="uint8") + 300
    with pytest.raises(ti.DTypeError, match="-1 does not fit into uint8"):
        ti.ones(2, dtype="uint8") * -1


def test_numpy_numbers_beside_tensors():
    x = ti.ones(2)
    assert (np.float64(2.5) * x).dtype == (x * np.float64(2.5)).dtype == np.float32
    assert (x * np.float32(2.5)).dtype == np.float32 and isinstance(np.float32(2) * x, ti.Tensor)
    assert (ti.ones(2, dtype="float64") * np.float32(2)).dtype == np.float64
    assert (ti.arange(3) * np.int64(2)).tolist() == [0, 2, 4]


def test_arrays_beside_tensors_keep_their_dtype():
    assert (ti.ones(2) * np.ones(2)).dtype == np.float64
    assert (np.ones(2, np.float32) * ti.ones(2)).dtype == np.float32
    assert isinstance(np.ones(2) - ti.ones(2), ti.Tensor)
    with pytest.raises(ti.DTypeError, match="mul: float32 and int64 do not mix"):
        ti.ones(2) * np.arange(2)


def test_zero_has_a_sign():
    assert np.signbit((ti.ones(1) * -0.0).numpy()).all()
    assert not np.signbit((ti.ones(1) * 0.0).numpy()).any()


def test_as_dtype():
    assert as_dtype("float32") == as_dtype(np.float32) == as_dtype(np.dtype(">f4")) == np.float32
    assert [str(as_dtype(kind)) for kind in (float, int, bool)] == ["float64", "int64", "bool"]
    for wrong in "complex64", "float99", object, "<U3", "datetime64[s]":
        with pytest.raises(ti.DTypeError, match="choose from bool, int8"):
            as_dtype(wrong)


def test_broadcast():
    f, i = np.dtype("float32"), np.dtype("int8")
    assert broadcast(Spec((2, 1), f), Spec((3,), f), "add") == Spec((2, 3), f)
    assert broadcast(Spec((0, 1), i), Spec((), i), "add").shape == (0, 1)
    with pytest.raises(ti.ShapeError, match=r"add: shapes \(2,\) and \(3,\) do not broadcast"):
        broadcast(Spec((2,), f), Spec((3,), f), "add")


def test_specs_say_themselves():
    one = Spec((2, 3), np.dtype("float32"))
    assert str(one) == "float32[2, 3]" and one.floating
    both = Specs((one, Spec((), np.dtype(bool))))
    assert str(both) == "(float32[2, 3], bool[])" and both.floating
