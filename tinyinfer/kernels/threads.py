"""How many threads NumPy's products of matrices take. The library decides for itself, by the number
of cores: too many for the matrices of small networks, and disastrous where others use the cores."""

from contextlib import contextmanager


def set_num_threads(n: int):
    """Let products of matrices take `n` threads from now on, in the whole process."""
    from threadpoolctl import (
        threadpool_limits,  # it looks through all loaded libraries: not on import
    )

    threadpool_limits(n, "blas")


@contextmanager
def one_thread():
    """While it is open they take one. With one, the last bits of a sum do not depend on the number
    of cores either."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        yield
