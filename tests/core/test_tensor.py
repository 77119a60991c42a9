"""Tensors and States: what they are made of, what they say, and that they do not change."""

import copy
import operator

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer import nn

# What they are made of


@pytest.mark.parametrize(
    "data, dtype",
    [
        (1, "int64"), (1.5, "float32"), (True, "bool"), ([1, 2], "int64"), ([1, 2.5], "float32"),
        ([[True], [False]], "bool"), (np.arange(3, dtype=np.int8), "int8"), (np.ones(2), "float64"),
        (np.float64(1), "float64"), (np.float32(1), "float32"), ([], "float32"), (range(3), "int64"),
        ([np.float32(1)], "float32"), (np.ones(2, ">f4"), "float32"), ((1, 2), "int64"),
    ],
)  # fmt: skip
def test_dtypes(data, dtype):
    t = ti.tensor(data)
    assert t.dtype == dtype and t.dtype.isnative and np.array_equal(t.numpy(), np.array(data))


def test_a_wanted_dtype():
    assert ti.tensor([1, 2], "float64").dtype == np.float64
    assert ti.tensor([1.7, -1.7], "int32").tolist() == [1, -1]
    assert ti.tensor(ti.tensor([1.0]), "int8").dtype == np.int8


@pytest.mark.parametrize(
    "data, error, words",
    [
        ([[1, 2], [3]], ti.ShapeError, "inhomogeneous"),
        (1j, ti.DTypeError, "no tensor of complex128"),
        (np.ones(2, np.complex64), ti.DTypeError, "no tensor of complex64"),
        (None, ti.DTypeError, "not numbers"),
        ([object()], ti.DTypeError, "ti.stack or ti.concat"),
        ("seven", ti.DTypeError, "no tensor of <U5"),
        (np.array(["2020-01-01"], "datetime64[D]"), ti.DTypeError, "no tensor of"),
    ],
)
def test_what_is_no_tensor(data, error, words):
    with pytest.raises(error, match=words):
        ti.tensor(data)


def test_a_number_too_large_for_its_dtype():
    with pytest.raises(ti.DTypeError, match="300"):
        ti.tensor(300, "uint8")


def test_an_integer_has_no_gradient():
    with pytest.raises(ti.DTypeError, match=r"a int64\[2\] has no gradient: only floats do"):
        ti.tensor([1, 2], requires_grad=True)
    state = ti.State([1, 2])
    with pytest.raises(ti.DTypeError, match="only floats"):
        state.requires_grad = True
    assert not state.requires_grad


def test_facts():
    t = ti.tensor(np.zeros((2, 3)))
    assert (t.shape, t.ndim, t.size, t.dtype, len(t)) == ((2, 3), 2, 6, np.float64, 2)
    assert not t.requires_grad and t.grad is None and str(t.spec) == "float64[2, 3]"


# They do not change


def test_the_data_is_copied():
    x = np.ones(3)
    t, state = ti.tensor(x), ti.State(x)
    y = t + x
    state.assign(x)
    x[:] = 7
    assert t.tolist() == state.tolist() == [1, 1, 1] and y.tolist() == [2, 2, 2]


@pytest.mark.parametrize("make", [ti.tensor, ti.State])
def test_values_are_read_only(make):
    t = make(np.ones(3))
    with pytest.raises(ti.ReadOnlyError, match="ti.where"):
        t[0] = 1
    for view in (
        t.numpy(),
        np.asarray(t),
        t[1:].numpy(),
        t.reshape(3, 1).numpy(),
        t.detach().numpy(),
    ):
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 1
    np.array(t)[0] = 7
    assert t.tolist() == [1, 1, 1]


@pytest.mark.parametrize("change", "iadd isub imul itruediv ipow imatmul".split())
def test_a_state_is_not_changed_in_place(change):
    p = ti.State(np.ones((2, 2)), requires_grad=True)
    with pytest.raises(ti.ReadOnlyError, match="p.assign"):
        getattr(operator, change)(p, 2.0)


def test_a_tensor_can_be_another():
    t = first = ti.tensor([1.0])
    t += 1
    assert t.tolist() == [2] and first.tolist() == [1]


def test_assign():
    p = ti.State([1.0, 2.0], requires_grad=True, name="p")
    before = p * 3.0
    p.assign(p + 1.0)
    assert p.tolist() == [2, 3] and p.requires_grad and before.tolist() == [3, 6]
    p.assign(np.array([5, 6], np.float32))
    assert p.tolist() == [5, 6]
    for wrong, error in (
        (ti.ones(3), ti.ShapeError),
        (1.0, ti.ShapeError),
        (ti.tensor([1, 2]), ti.DTypeError),
    ):
        with pytest.raises(error, match="p: a float32"):
            p.assign(wrong)
    with pytest.raises(ti.GraphError, match="ti.trace"):
        p.assign(ti.placeholder((2,)))
    assert p.tolist() == [5, 6]


def test_assigning_leaves_what_was_recorded():
    p = ti.State([2.0], requires_grad=True)
    y = (p * p).sum()
    p.assign(p * 0.0)
    y.backward()
    assert p.grad.tolist() == [4] and p.tolist() == [0]


def test_a_state_is_made_outside_of_a_trace():
    with pytest.raises(ti.GraphError, match="make it before"):
        ti.trace(lambda x: x + ti.State(1.0), ti.ones(1))


# What they say


def test_repr():
    assert repr(ti.tensor([1.0, 2.5])) == "tensor([1. , 2.5])"
    assert repr(ti.tensor([1, 2], "int8")) == "tensor([1, 2], dtype=int8)"
    assert repr(ti.tensor(np.ones(1))) == "tensor([1.], dtype=float64)"
    assert repr(ti.tensor(2.0, requires_grad=True)) == "tensor(2., requires_grad=True)"
    assert repr(ti.tensor(True)) == "tensor(True)" and repr(ti.tensor([])) == "tensor([])"
    assert repr(ti.placeholder((2, 3))) == "tensor(float32[2, 3], no value)"
    assert repr(ti.ones(2, 2)) == "tensor([[1., 1.],\n        [1., 1.]])"
    assert len(repr(ti.zeros(1000, 1000))) < 1000


def test_numbers():
    t = ti.tensor([[2.5]])
    assert (t.item(), float(t), int(t), bool(t)) == (2.5, 2.5, 2, True)
    assert type(t.item()) is float and type(ti.tensor(3).item()) is int
    assert [10, 20, 30][ti.tensor(1)] == 20 and not ti.tensor(0) and range(ti.tensor(2)) == range(2)
    assert ti.tensor([[1, 2]]).tolist() == [[1, 2]]


@pytest.mark.parametrize("read", [bool, float, int, operator.index, ti.Tensor.item])
def test_several_numbers_are_not_one(read):
    for several in ti.arange(2), ti.zeros(0):
        with pytest.raises(ti.ShapeError, match="is not one number"):
            read(several)


def test_a_float_is_no_index():
    with pytest.raises(TypeError):
        operator.index(ti.tensor(1.0))


@pytest.mark.parametrize(
    "read", [bool, float, int, ti.Tensor.item, ti.Tensor.numpy, ti.Tensor.tolist]
)
def test_what_has_no_value_yet(read):
    with pytest.raises(ti.GraphError, match="ti.where or ti.cond"):
        read(ti.placeholder(()))
    assert len(ti.placeholder((3, 2))) == 3


def test_iteration():
    rows = list(ti.tensor([[1, 2], [3, 4]]))
    assert [r.tolist() for r in rows] == [[1, 2], [3, 4]]
    a, b = ti.tensor([5.0, 6.0])
    assert a.item() == 5 and b.shape == ()
    with pytest.raises(ti.ShapeError, match="no length"):
        len(ti.tensor(1.0))
    with pytest.raises(ti.ShapeError, match="no length"):
        next(iter(ti.tensor(1.0)))


def test_iteration_has_gradients():
    x = ti.tensor([1.0, 2.0, 3.0], requires_grad=True)
    sum(v * v for v in x).backward()
    assert x.grad.tolist() == [2, 4, 6]


def test_comparing_gives_masks_and_hashing_identity():
    t = ti.tensor([1.0, 2.0])
    assert (t == t).tolist() == [True, True] and len({t, t, ti.tensor([1.0, 2.0])}) == 2
    with pytest.raises(ti.ShapeError, match="is not one number"):
        if t == t:
            pass


# Copies


def test_a_copy_of_a_tensor_is_the_tensor():
    t = ti.ones(2)
    assert copy.copy(t) is t and copy.deepcopy(t) is t


def test_a_deep_copy_of_a_model_trains_alone():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    model.tied = model[0].weight
    x = ti.tensor(np.random.RandomState(0).randn(5, 3), "float32")
    twin = copy.deepcopy(model)
    assert twin.tied is twin[0].weight is not model[0].weight
    assert np.array_equal(twin(x).numpy(), model(x).numpy())
    before = [p.numpy().copy() for p in model.parameters()]
    twin(x).sum().backward()
    assert all(p.grad is None for p in model.parameters())
    for p in twin.parameters():
        p.assign(p - 0.1)
    assert all(np.array_equal(a, p.numpy()) for a, p in zip(before, model.parameters()))
    assert {type(p) for p in twin.parameters()} == {nn.Parameter}
    assert [p.name for p in twin.parameters()] == [p.name for p in model.parameters()]


def test_numbers_of_numpy_are_numbers():
    x = ti.tensor([1.0, 2.0])
    for y in (x * np.int64(3), np.int64(3) * x, x * np.float64(3), np.float32(3) * x):
        assert y.dtype == np.float32 and y.tolist() == [3.0, 6.0]


def test_a_node_says_what_it_is():
    w = ti.State(np.ones(3, np.float32), True, name="w")
    y = w * 2.0
    assert repr(y.node) == "mul(float32[3], float32[]) -> float32[3]"
    assert [repr(n) for n in y.node.inputs] == ["w: float32[3]", "value: float32[]"]
    assert repr(ti.placeholder(3, name="x").node) == "x: float32[3]"
