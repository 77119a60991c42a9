import math

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer.core.check import number

# fmt: off
CASES = [  # interval, numbers in it, numbers that are not
    ("[0, 1)",   [0, 0.5, np.float32(0.25)], [1, 1.0, -1e-9, math.nan]),
    ("(0, inf)", [1e-300, 5],                [0, 0.0, math.inf]),
    ("[0, 180]", [0, 180],                   [180.1, True, "3", None, 1j]),
]
# fmt: on


@pytest.mark.parametrize("interval, inside, outside", CASES)
def test_number(interval, inside, outside):
    for x in inside:
        assert number("x", x, interval) == x and type(number("x", x, interval)) is float
    for x in outside:
        with pytest.raises(ti.ArgumentError) as error:
            number("Layer p", x, interval)
        assert str(error.value) == f"Layer p: a number in {interval}, not {x!r}"
