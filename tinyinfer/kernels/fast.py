"""All kernels in machine code. They are loaded when the first kernel is looked for: Numba takes a
while. Of several for one op the last one is asked first."""

# ruff: noqa: F401
from . import chain, direct, gemm, lanes, reorder, winograd
from ..ops.conv import Conv2d
from ..ops.layout import In
from .kernel import forms

forms(Conv2d, (In, Conv2d))(direct.forms)
