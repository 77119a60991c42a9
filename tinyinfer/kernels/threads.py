"""How many threads NumPy's products of matrices take. The library decides for itself, by the number
of cores: too many for the matrices of small networks, and disastrous where others use the cores."""

from ..core.check import whole

chosen = 1  # with one, the last bits of a sum do not depend on the number of cores either


def set_num_threads(n: int):
    """Let products of matrices take `n` threads from now on, in the whole process; training and
    evaluating, which take one by themselves, too. Raises ArgumentError unless n is 1 or more."""
    global chosen
    chosen = whole("set_num_threads", n, 1)
    chosen_threads()


def chosen_threads():
    """While it is open they take as many as were chosen: one, unless `set_num_threads` was told."""
    from threadpoolctl import threadpool_limits  # it looks through all libraries: not on import

    return threadpool_limits(chosen, "blas")
