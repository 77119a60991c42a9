"""All kernels in machine code. They are loaded when the first kernel is looked for: Numba takes a
while. Of several for one op the last one is asked first."""

from ..ops.conv import Conv2d
from ..ops.integer import QLinearConv, QLinearMatMul
from ..ops.layout import In
from ..ops.packed import Packed
from . import chain, direct, gemm, int8, lanes, norm, reduce, reorder, rows, softmax, winograd  # noqa: F401
from .kernel import ended, forms

forms(Conv2d, (In, Conv2d))(direct.forms)
forms(QLinearMatMul, QLinearConv, (In, QLinearConv))(int8.forms)
ended((In, Conv2d), pool=True)(lanes.find)
ended((Packed, Conv2d), (Packed, In, Conv2d))(direct.find)
