"""Each worker of pytest-xdist gets one thread of linear algebra; NumPy reads this when it loads."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
