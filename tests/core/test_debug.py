"""TINYINFER_DEBUG=1 tells of every step that is computed, 2 of every pass as well."""

import os
import subprocess
import sys


def test_steps_are_told():
    code = "import tinyinfer as ti; x = ti.tensor([1.0, 2.0], requires_grad=True); (x * 3.0).sum()"
    env = os.environ | {"TINYINFER_DEBUG": "1"}
    run = [sys.executable, "-c", code]
    told = subprocess.run(run, env=env, capture_output=True, text=True, check=True).stderr
    assert "mul(float32[2], float32[]) -> float32[2]\n" in told
    assert "sum(float32[2]) -> float32[1]\n" in told
    del env["TINYINFER_DEBUG"]
    assert not subprocess.run(run, env=env, capture_output=True, check=True).stderr


def test_passes_are_told():
    code = "import tinyinfer as ti; ti.optimize(ti.trace(lambda x: x * 1.0 + 2.0, ti.ones(3)))"
    for level, expected in ("1", False), ("2", True):
        run = [sys.executable, "-c", code]
        env = os.environ | {"TINYINFER_DEBUG": level}
        told = subprocess.run(run, env=env, capture_output=True, check=True).stderr.decode()
        assert ("simplify: 2 → 1 steps, FLOPs −50 %, bytes −50 %\n" in told) == expected
