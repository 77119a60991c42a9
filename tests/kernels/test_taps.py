"""Which taps of a window meet what."""

import numpy as np
import pytest

from tinyinfer.kernels.taps import met, pieces, strips, taps_backward, taps_forward

WINDOWS = [(7, 7, 3, 1, 1, 1), (4, 9, 3, 2, 1, 1), (5, 6, 2, 3, 4, 9), (9, 5, 3, 1, 2, 5)]


def pairs(window):
    """(output, tap, input), by the definition."""
    outputs, inputs, size, stride, dilation, before = window
    each = np.ndindex(outputs, size)
    all_ = [(u, k, stride * u + dilation * k - before) for u, k in each]
    return {(u, k, i) for u, k, i in all_ if 0 <= i < inputs}


@pytest.mark.parametrize("window", WINDOWS)
def test_forward_and_backward_are_the_same_pairs(window):
    forward, backward = taps_forward(*window), taps_backward(*window)
    assert {(u, k, i) for u, some in enumerate(forward) for k, i in some} == pairs(window)
    assert {(u, k, i) for i, some in enumerate(backward) for k, u in some} == pairs(window)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("window", WINDOWS)
def test_strips_are_all_outputs(window, rows):
    taps = taps_forward(*window)
    seen = set()
    for many, u, tap, i, n in strips(taps, 1, rows):
        for r in range(rows if many else 1):
            seen.add(u + r)
            assert [k for k, _ in taps[u + r]] == [*range(tap, tap + n)]
            assert not n or taps[u + r][0] == (tap, i + window[3] * r)
    assert seen == {*range(window[0])}


@pytest.mark.parametrize("window", WINDOWS)
def test_pieces_are_all_taps(window):
    taps, size = taps_forward(*window), window[2]
    seen = []
    for many, k, u, i, n in pieces(taps, size, size):
        for l in range(size if many else 1):
            first = i + window[4] * l
            seen += [(u + r, k + l, first + window[3] * r) for r in range(n)]
    assert sorted(seen) == sorted(pairs(window))
    assert sum(met(taps, k)[2] for k in range(size)) == len(seen)
