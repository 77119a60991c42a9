"""All kernels in machine code. They are loaded when the first kernel is looked for: Numba takes a
while."""

from ..ops.conv import Conv2d, Conv2dInput
from ..ops.integer import QLinearConv, QLinearMatMul
from ..ops.layout import In
from ..ops.packed import Packed
from . import (  # noqa: F401
    bitpacked,
    chain,
    columns_in_lanes,
    depthwise,
    depthwise_columns,
    direct,
    gather,
    gemm,
    im2col,
    im2col_weights,
    images_in_lanes,
    indirect,
    int8,
    integers,
    norm,
    pool,
    reduce,
    reorder,
    softmax,
    sparse,
    winograd,
    winograd_filters,
    winograd_weights,
)
from .kernel import ended, forms

forms(Conv2d, (In, Conv2d))(direct.forms)
forms(Conv2d, (In, Conv2d), Conv2dInput, (In, Conv2dInput))(winograd.forms)
forms((In, Conv2d), (In, QLinearConv))(indirect.forms)
forms(QLinearMatMul, QLinearConv, (In, QLinearConv))(int8.forms)
ended((In, Conv2d), pool=True)(images_in_lanes.find)
ended((Packed, Conv2d), (Packed, In, Conv2d))(direct.find)
ended((Packed, Conv2d), (Packed, In, Conv2d))(winograd.find)
ended(Conv2d, pool=True)(columns_in_lanes.find)
