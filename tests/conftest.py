"""Each worker of pytest-xdist gets one thread of linear algebra; NumPy reads this when it loads. And
what compiles functions to compare bits does so with NumPy's kernels: fast ones are asked for by name."""

import os

os.environ.setdefault("TINYINFER_KERNELS", "numpy")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
