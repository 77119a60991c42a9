"""All kernels in machine code. They are loaded when the first kernel is looked for: Numba takes a
while. Of several for one op the last one is asked first."""

from . import gemm, direct, lanes, reorder
