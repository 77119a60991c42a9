"""How many threads NumPy's products of matrices take."""

from contextlib import nullcontext

try:
    from threadpoolctl import threadpool_limits
except ImportError:
    threadpool_limits = None


def one_thread():
    """A context in which they take one. The matrices of small networks are too small to share: on
    two cores that others use as well, LeNet takes seven times as long with two threads as with one.
    And with one, the last bits of a sum do not depend on the number of cores.
    """
    return threadpool_limits(1, "blas") if threadpool_limits else nullcontext()
