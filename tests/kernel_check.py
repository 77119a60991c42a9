"""Kernels against the definition of their op."""

import numpy as np

from tinyinfer.core.spec import spec_of


def carried_out(kernel, op, *xs):
    """What a kernel makes of these arrays, where nothing was before but what shows."""
    y, *scratch = map(poisoned, (op.infer(*map(spec_of, xs)), *kernel.scratch))
    kernel.run(y, *xs, *scratch)
    return y


def poisoned(spec):
    x = np.empty(spec.shape, spec.dtype)
    x.fill(np.nan if spec.dtype.kind == "f" else 77)
    return x


def agrees(find, op, *xs, error=2e-6, **options):
    """The kernel that `find` has for the op makes what its definition does: up to `error` of the
    largest number that wider floats find; NaN and infinity in their places. Returns the kernel."""
    kernel = find(op, op.infer(*map(spec_of, xs)), *map(spec_of, xs), **options)
    assert kernel is not None, f"no kernel for {op}"
    with np.errstate(all="ignore"):
        wide = [x.astype(np.float64) if x.dtype == np.float32 else x for x in xs]
        near(carried_out(kernel, op, *xs), op.forward(*wide), error)
    return kernel


def near(got, wanted, error):
    """The same numbers, up to `error` of the largest; NaN and infinity in their places."""
    wanted = np.asarray(wanted)
    assert got.shape == wanted.shape
    if got.dtype.kind != "f":
        assert (got == wanted).all()
        return
    assert (np.isnan(got) == np.isnan(wanted)).all()
    infinite = np.isinf(wanted)
    assert (got[infinite] == wanted[infinite]).all()
    finite = np.isfinite(wanted)
    if finite.any():
        far = np.abs(got[finite] - wanted[finite]).max()
        assert far <= error * max(1e-30, np.abs(wanted[finite]).max()), far
