"""A few kernels of each kind, and their building blocks, on other CPUs than this one: for each of them
a process in which Numba compiles for it."""

import os
import subprocess
import sys
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest
from kernel_check import agrees

from tinyinfer.core.spec import spec_of
from tinyinfer.kernels import (
    chain,
    depthwise,
    direct,
    gemm,
    images_in_lanes,
    int8,
    pool,
    winograd,
)
from tinyinfer.kernels.host import HOST
from tinyinfer.ops.conv import Conv2d
from tinyinfer.ops.elementwise import Exp, Tanh
from tinyinfer.ops.integer import QLinearMatMul
from tinyinfer.ops.layout import In, Reorder, pack
from tinyinfer.ops.linalg import MatMul
from tinyinfer.ops.packed import Packed
from tinyinfer.ops.pool import MaxPool2d
from tinyinfer.ops.winograd import Winograd, usual_points

RNG = np.random.default_rng(0)
SAME = Conv2d(padding=((1, 1), (1, 1)))
IN_BLOCKS = In(SAME, "NCHW16c", 20)


def floats(*shape):
    return RNG.standard_normal(shape, np.float32)


def integers(dtype, *shape):
    ends = np.iinfo(dtype)
    return RNG.integers(ends.min, ends.max + 1, shape, dtype)


def packed(op, x, w, *rest, forms=None, form=None):
    """With its weights in the form that kernels want."""
    specs = [spec_of(a) for a in (x, w, *rest)]
    form = form or next(iter(forms(op, op.infer(*specs), *specs)))
    return Packed(op, form, w.shape), x, form.forward(w), *rest


def in_blocks(x):
    return Reorder("NCHW", "NCHW16c").forward(x)


def in_blocks_and_filters(*size):
    return in_blocks(floats(1, 20, *size)), floats(33, 20, 3, 3)


def int8_product():
    op, w = QLinearMatMul(120, 3), integers("i1", 37, 40)
    scale, bias = np.full(40, 2**-9, "f4"), integers("i1", 40).astype("i4")
    return packed(op, integers("u1", 19, 37), w, scale, bias, forms=int8.forms)


def winograd_convolution():
    form = Winograd(2, usual_points(2, 3), gemm.VECTORS)
    return packed(IN_BLOCKS, *in_blocks_and_filters(9, 10), form=form)


# name: (find, () -> (op, arrays))
KERNELS = {
    "gemm": (gemm.find, lambda: (MatMul(), floats(33, 37), floats(37, 41))),
    "gemv": (gemm.find, lambda: (MatMul(), floats(1, 37), floats(37, 41))),
    "direct": (
        direct.find,
        lambda: packed(IN_BLOCKS, *in_blocks_and_filters(5, 7), forms=direct.forms),
    ),
    "winograd": (winograd.find, winograd_convolution),
    "lanes": (
        images_in_lanes.find,
        lambda: (In(SAME, "NCHW16n", 5), pack(floats(5, 3, 6, 7), "NCHW16n"), floats(7, 3, 3, 3)),
    ),
    "depthwise": (
        depthwise.find,
        lambda: (
            In(Conv2d((1, 1), SAME.padding, (1, 1), 19), "NCHW16c", 19),
            in_blocks(floats(1, 19, 9, 12)),
            floats(19, 1, 2, 3),
        ),
    ),
    "int8": (int8.find_product, int8_product),
    "pool": (
        pool.find,
        lambda: (
            In(MaxPool2d((2, 3), (2, 1), (0, 1)), "NCHW16c", 19),
            in_blocks(floats(2, 19, 9, 7)),
        ),
    ),
    "exp": (chain.one, lambda: (Exp(), floats(5, 33))),
    "tanh": (chain.one, lambda: (Tanh(), floats(5, 33))),
}


@pytest.mark.parametrize("name", KERNELS)
def test_as_defined(name):
    find, of = KERNELS[name]
    agrees(find, *of(), error=1e-5)


# what Numba is told: (what a CPU must have to run that, what we make of it, tests)
AVX2 = ["avx2", "fma", "bmi", "bmi2", "lzcnt", "movbe", "f16c"]
AVX512 = [*AVX2, *(f"avx512{x}" for x in ("f", "bw", "cd", "dq", "vl")), "adx", "clflushopt"]
ALL, OF_BYTES = "not elsewhere", "(bytes or int8 or tile or the_host) and not elsewhere"
CPUS = {
    ("generic", ""): ([], "4x16", ALL),
    ("haswell", ""): (AVX2, "8x16+", ALL),
    ("haswell", "+avxvnni"): ([*AVX2, "avxvnni"], "8x16+avxvnni", OF_BYTES),
    ("skylake-avx512", ""): (AVX512, "16x32+", ALL),
}


def test_this_is_the_host():
    assert HOST.name == os.environ.get("TINYINFER_TEST_HOST", HOST.name)


@pytest.mark.parametrize("cpu", CPUS, ids="".join)
def test_elsewhere(cpu):
    needs, name, tests = CPUS[cpu]
    if not llvm.get_default_triple().startswith("x86_64"):
        pytest.skip("this is no x86")
    if lacks := [f for f in needs if not llvm.get_host_cpu_features().get(f)]:
        pytest.skip(f"this CPU has no {', '.join(lacks)}")
    told = {"NUMBA_CPU_NAME": cpu[0], "NUMBA_CPU_FEATURES": cpu[1], "TINYINFER_TEST_HOST": name}
    here = Path(__file__)
    files = here, here.with_name("test_simd.py")
    call = [sys.executable, "-m", "pytest", "-n0", "-k", tests, *files]
    done = subprocess.run(
        call, env=os.environ | told, cwd=here.parents[2], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
