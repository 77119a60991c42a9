"""The planners: on published networks, on what is known to be hard, and on random buffers.

TINYINFER_EXAMPLES=10000 pytest tests/runtime/test_memory.py
"""

import os
import sys
from importlib.util import find_spec
from itertools import combinations, pairwise, permutations, product

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from tinyinfer.errors import ArgumentError
from tinyinfer.runtime import memory
from tinyinfer.runtime.memory import (
    MANY,
    PLANNERS,
    SHARED,
    Buffer,
    exact,
    lower_bound,
    place,
    shared_lower_bound,
)

EXAMPLES = int(os.environ.get("TINYINFER_EXAMPLES", 300))
PARTS = 4  # run side by side
MIB = 2**20
HEURISTIC = [name for name in PLANNERS if name != "exact"]

scipy = pytest.mark.skipif(not find_spec("scipy"), reason="SciPy is not installed")
SHARED_NAMES = [pytest.param(n, marks=scipy) if "flow" in n else n for n in SHARED]
ABLE = [n for n in SHARED if "flow" not in n or find_spec("scipy")]


def numbered(intervals):
    return [Buffer(f"b{i}", *interval) for i, interval in enumerate(intervals)]


def meet(a, b):
    return a.first <= b.last and b.first <= a.last


def assert_sound(buffers, placement, alignment):
    """Offsets are aligned, end with the total, and no two that live in one stage share a byte."""
    ends = [offset + b.size for b, offset in zip(buffers, placement.offsets)]
    assert all(offset >= 0 and offset % alignment == 0 for offset in placement.offsets)
    assert placement.total % alignment == 0
    assert 0 <= placement.total - max(ends, default=0) < alignment
    placed = [(b, o, e) for b, o, e in zip(buffers, placement.offsets, ends) if b.size]
    for (a, low, high), (b, lower, higher) in combinations(placed, 2):
        assert not meet(a, b) or high <= lower or higher <= low, (a, b)


# The networks of Pisarchyk & Lee 2020, arXiv 2001.03288: 224 x 224, batch 1, float32.
# Every layer is an operator, activations are fused. What the last one, the softmax, writes is not
# counted, and neither is the image. So the tail is: pooling, the 1001 logits, the same squeezed.


class Layers:
    """Writes down what operators produce. The result of one is a number."""

    def __init__(self, size):
        self.size, self.buffers = size, []

    def __call__(self, channels, *inputs, stride=1):
        now = len(self.buffers)
        self.size //= stride
        for i in inputs:
            self.buffers[i][2] = now
        self.buffers.append([4 * channels * self.size**2, now, now])
        return now

    def tail(self, channels, x):
        squeezed = self(1001, self(1001, self(channels, x, stride=self.size)))
        self.buffers[squeezed][2] = len(self.buffers)  # by the softmax
        return numbered(self.buffers)


def mobilenet_v1():
    layer = Layers(224)
    channels, x = 32, layer(32, stride=2)
    blocks = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
    blocks += [(512, 1)] * 5 + [(1024, 2), (1024, 1)]
    for wider, stride in blocks:
        x = layer(wider, layer(channels, x, stride=stride))
        channels = wider
    return layer.tail(channels, x)


def mobilenet_v2():
    layer = Layers(224)
    channels, x = 32, layer(32, stride=2)
    blocks = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)]
    blocks += [(6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expand, wider, repeats, stride in blocks:
        for i in range(repeats):
            y = layer(expand * channels, x) if expand > 1 else x
            y = layer(expand * channels, y, stride=1 if i else stride)
            y = layer(wider, y)
            x = layer(wider, x, y) if i else y
            channels = wider
    return layer.tail(1280, layer(1280, x))


# fmt: off
PUBLISHED = [  # tensors and MiB
    (mobilenet_v1, 30, dict(naive=19.248, lower=4.594, greedy_by_size=4.594, shared_lower=4.594,
                            shared_by_size=4.594, shared_by_breadth=4.594, shared_in_order=4.594)),
    (mobilenet_v2, 65, dict(naive=26.313, lower=5.742, greedy_by_size=5.742, shared_lower=6.604,
                            shared_by_size=7.178, shared_by_breadth=6.891, shared_in_order=8.039)),
]
# fmt: on


@pytest.mark.parametrize("alignment", [1, 64])
@pytest.mark.parametrize("network, tensors, published", PUBLISHED)
def test_the_published_networks(network, tensors, published, alignment):
    buffers, bounds = network(), dict(lower=lower_bound, shared_lower=shared_lower_bound)
    assert len(buffers) == tensors
    for name, mib in published.items():
        bytes = bounds[name](buffers, alignment) if name in bounds else None
        bytes = place(buffers, name, alignment).total if bytes is None else bytes
        assert round(bytes / MIB, 3) == mib, name


@scipy
@pytest.mark.parametrize("network", [mobilenet_v1, mobilenet_v2])
def test_the_flow_keeps_between_its_bound_and_what_is_naive(network):
    buffers = network()
    placement = place(buffers, "shared_min_cost_flow")
    assert_sound(buffers, placement, 64)
    assert shared_lower_bound(buffers) <= placement.total < place(buffers, "naive").total / 3


@pytest.mark.parametrize("planner", ["best", *PLANNERS, *SHARED_NAMES])
def test_the_gap_at_the_bottom_is_a_gap(planner):
    buffers = [Buffer("A", 100, 0, 1), Buffer("B", 80, 1, 2), Buffer("C", 60, 2, 3)]
    assert place(buffers, planner, 1).total == (240 if planner == "naive" else 180)


# What sets the rules apart: bytes, first and last stage.


def test_the_lowest_gap_and_the_smallest():
    buffers = numbered([(4, 0, 0), (1, 0, 9), (2, 0, 0), (1, 0, 9), (2, 1, 1)])
    assert place(buffers, "first_fit", 1).offsets == (0, 4, 5, 7, 0)
    assert place(buffers, "best_fit", 1).offsets == (0, 4, 5, 7, 5)


def test_the_largest_first_and_the_broadest_stage_first():
    buffers = numbered([(10, 0, 1), (6, 1, 2), (6, 2, 2), (6, 2, 2)])
    assert place(buffers, "greedy_by_size", 1).offsets == (0, 10, 0, 16)
    assert place(buffers, "greedy_by_breadth", 1).offsets == (6, 0, 6, 12)


@pytest.mark.parametrize("planner", ["shared_in_order", "shared_by_breadth"])
def test_the_object_that_grows_is_the_largest(planner):
    grown, broad = (6, 1, 1), [(1, 0, 0), (2, 0, 0), (4, 0, 0)]
    assert place(numbered([*broad, grown]), planner, 1).total == 1 + 2 + 6


# What is hard.

MISSED = numbered([(1, 3, 6), (2, 1, 2), (2, 2, 5), (3, 4, 6), (2, 2, 3)])
ABOVE = [(4, 0, 0), (5, 2, 5), (5, 0, 2), (4, 5, 6), (3, 3, 4), (2, 1, 4), (4, 4, 6), (2, 2, 3)]
ABOVE = numbered([*ABOVE, (4, 0, 0)])


def test_the_search_finds_what_all_others_miss():
    assert min(place(MISSED, name, 1).total for name in HEURISTIC) == 7
    found = exact(MISSED, 1)
    assert (found.total, found.proven) == (6, True)
    assert place(MISSED, alignment=1) == found


def test_the_smallest_arena_may_be_larger_than_the_lower_bound():
    assert lower_bound(ABOVE, 1) == 14
    assert min(place(ABOVE, name, 1).total for name in HEURISTIC) == 16
    found = exact(ABOVE, 1)
    assert (found.total, found.proven) == (15, True)


def test_a_search_that_was_cut_short_says_so():
    cut = exact(ABOVE, 1, limit=3)
    assert (cut.planner, cut.total, cut.proven) == ("exact", 16, False)
    assert_sound(ABOVE, cut, 1)


def copies(buffers, times):
    """The same again and again, later and later."""
    late = lambda b, k: b._replace(name=f"{b.name}-{k}", first=b.first + 9 * k, last=b.last + 9 * k)
    return [late(b, k) for k in range(times) for b in buffers]


def test_many_buffers_are_not_searched():
    buffers = copies(ABOVE, MANY // len(ABOVE) + 1)
    found = exact(buffers, 1)
    assert (found.total, found.proven) == (place(buffers, alignment=1).total, False)


@pytest.mark.parametrize("planner", ["best", *PLANNERS, *SHARED_NAMES])
def test_nothing_takes_nothing(planner):
    assert place([], planner)[1:] == ((), 0, True)
    assert place(numbered([(0, 0, 9), (0, 3, 4)]), planner)[1:] == ((0, 0), 0, True)


@pytest.mark.parametrize("planner", ["best", *PLANNERS, *SHARED_NAMES])
def test_what_is_empty_is_in_nobody_s_way(planner):
    solid = MISSED[:3]
    mixed = [Buffer("none", 0, 0, 9), *solid[:1], Buffer("none", 0, 2, 2), *solid[1:]]
    assert place(mixed, planner).total == place(solid, planner).total


def test_bounds_by_hand():
    buffers = numbered([(100, 0, 1), (80, 1, 2), (60, 2, 3), (70, 3, 3)])
    assert lower_bound(buffers, 1) == 180
    assert shared_lower_bound(buffers, 1) == 100 + 80
    assert lower_bound(buffers) == 128 + 128
    uneven = numbered([(9, 0, 0), (5, 1, 1), (5, 1, 1), (5, 1, 1)])
    assert (lower_bound(uneven, 1), shared_lower_bound(uneven, 1)) == (15, 9 + 5 + 5)


@pytest.mark.parametrize("shift", [-1000, 10**15])
@pytest.mark.parametrize("planner", ["best", *PLANNERS, *SHARED_NAMES])
def test_only_the_order_of_stages_counts(planner, shift):
    moved = [b._replace(first=7 * b.first + shift, last=7 * b.last + shift) for b in ABOVE]
    assert place(moved, planner) == place(ABOVE, planner)


# Errors.


def test_an_unknown_planner():
    with pytest.raises(ArgumentError, match="no planner 'beast': there are best, naive, first_fit"):
        place(MISSED, "beast")


@pytest.mark.parametrize("alignment", [0, -64, 48, 64.0, "64", None])
def test_an_alignment_that_is_none(alignment):
    for fails in (place, lower_bound, shared_lower_bound):
        with pytest.raises(ArgumentError, match="alignment: a power of two, such as 64, not "):
            fails(MISSED, alignment=alignment)


def test_buffers_that_cannot_be():
    with pytest.raises(ArgumentError, match="buffer x: its size cannot be negative: -4 bytes"):
        place([Buffer("x", -4, 0, 1)])
    with pytest.raises(ArgumentError, match="buffer x: it begins in stage 3, but ends in 2"):
        place([Buffer("x", 4, 3, 2)])


def test_the_flow_needs_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ArgumentError, match="pip install scipy"):
        place(MISSED, "shared_min_cost_flow")
    assert place(MISSED, "shared_by_size").total


# Random buffers.


@st.composite
def buffers(draw, most, stages=10):
    """Few sizes make equal buffers, many make odd gaps; empty ones are among them."""
    sizes = draw(
        st.sampled_from([st.integers(0, 4), st.integers(0, 100), st.sampled_from([1, 64])])
    )
    stage = st.integers(0, draw(st.integers(1, stages)))
    interval = st.tuples(stage, stage).map(sorted)
    drawn = draw(st.lists(st.tuples(sizes, interval), max_size=most))
    return numbered((size, *interval) for size, interval in drawn)


def on_random(examples, *strategies):
    """Run the test in parts, each with examples of its own."""

    def mark(test):
        def run(part):
            count = -(-examples // PARTS)
            once = settings(max_examples=count, deadline=None, database=None)
            seed(part)(once(given(*strategies)(test)))()

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        return pytest.mark.parametrize("part", range(PARTS))(run)

    return mark


alignments = st.sampled_from([1, 16, 64])


@on_random(EXAMPLES, buffers(most=14), alignments)
def test_offsets(drawn, alignment):
    bound = lower_bound(drawn, alignment)
    found = {name: place(drawn, name, alignment) for name in PLANNERS}
    for name, p in found.items():
        assert p.planner == name
        assert bound <= p.total <= found["naive"].total
        assert_sound(drawn, p, alignment)
    smallest = min(p.total for p in found.values())
    assert found["exact"].total == smallest
    assert all(p.total == smallest for p in found.values() if p.proven)
    best = place(drawn, alignment=alignment)
    assert best.total == smallest and best.planner in found
    assert_sound(drawn, best, alignment)


@on_random(EXAMPLES, buffers(most=14), alignments)
def test_shared_objects(drawn, alignment):
    bound, naive = shared_lower_bound(drawn, alignment), place(drawn, "naive", alignment).total
    assert lower_bound(drawn, alignment) <= bound <= naive
    for name in ABLE:
        p = place(drawn, name, alignment)
        assert p.planner == name
        assert bound <= p.total <= naive
        assert p.proven == (p.total == bound)
        assert_sound(drawn, p, alignment)
        objects = objects_of(drawn, p)
        largest = {low: max(b.size for b in held) for low, held in objects.items()}
        ends = [low + -(-size // alignment) * alignment for low, size in largest.items()]
        assert list(objects) == [0, *ends][: len(ends)] and p.total == max(ends, default=0)


def objects_of(drawn, placement):
    """{offset: its buffers in order of execution} of what is not empty."""
    held = {}
    for b, offset in sorted(zip(drawn, placement.offsets), key=lambda x: (x[1], x[0].first)):
        if b.size:
            held.setdefault(offset, []).append(b)
    return held


@on_random(EXAMPLES, buffers(most=24, stages=16), alignments)
def test_the_result_depends_on_the_lifetimes_alone(drawn, alignment):
    again = [b._replace(name="") for b in drawn]
    for name in [*HEURISTIC, *ABLE]:
        assert place(again, name, alignment) == place(drawn, name, alignment)


def smallest_of_all(drawn, alignment):
    """Some order in which each lies on top of all before it that it meets gives the least there is."""
    solid = [b._replace(size=-(-b.size // alignment) * alignment) for b in drawn if b.size]

    def height(order):
        top = {}
        for b in order:
            top[b] = b.size + max((high for a, high in top.items() if meet(a, b)), default=0)
        return max(top.values(), default=0)

    return min(map(height, permutations(solid)))


@on_random(EXAMPLES, buffers(most=6, stages=6), alignments)
def test_exact_is_the_smallest_of_all(drawn, alignment):
    found = exact(drawn, alignment)
    assert found.proven and found.total == smallest_of_all(drawn, alignment)


def test_the_smallest_of_all_of_what_the_others_miss():
    assert smallest_of_all(MISSED, 1) == 6


def cheapest(drawn):
    """What the objects grow by at least, if each takes over from one that is dead, or from none."""
    solid = [b for b in drawn if b.size]
    givers = [[None, *(a for a in solid if a.last < b.first)] for b in solid]
    once = lambda chosen: len(given := [a for a in chosen if a]) == len({*given})
    grown = lambda a, b: max(b.size - (a.size if a else 0), 0)
    every = filter(once, product(*givers))
    return min(sum(map(grown, chosen, solid)) for chosen in every)


@scipy
@on_random(EXAMPLES, buffers(most=6, stages=6))
def test_the_flow_is_the_cheapest(drawn):
    objects = objects_of(drawn, place(drawn, "shared_min_cost_flow", 1)).values()
    growth = [max(b.size - a.size, 0) for held in objects for a, b in pairwise(held)]
    assert sum(held[0].size for held in objects) + sum(growth) == cheapest(drawn)


@pytest.mark.parametrize("planner", ["best", *HEURISTIC, *SHARED_NAMES])
def test_a_thousand_buffers(planner):
    """As in a training graph: some live throughout, many until the backward step, most are short."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, 600, 1000)
    last = first + rng.geometric(0.4, 1000)
    kept, always = rng.random(1000) < 0.3, rng.random(1000) < 0.05
    last = np.where(kept, np.maximum(first, 600 - first), last)
    first, last = np.where(always, 0, first), np.where(always, 700, last)
    drawn = numbered(zip((4 ** rng.integers(1, 9, 1000)).tolist(), first.tolist(), last.tolist()))
    placement = place(drawn, planner)
    assert_sound(drawn, placement, 64)
    assert placement.total >= lower_bound(drawn)
    assert planner != "best" or placement.total <= 1.02 * lower_bound(drawn)


def test_best_stops_at_the_lower_bound(monkeypatch):
    def fails(buffers, alignment):
        raise AssertionError("asked for more than the best")

    for name in ("greedy_by_breadth", "first_fit", "squeaky_wheel", "exact"):
        monkeypatch.setattr(memory, name, fails)
    assert place(mobilenet_v2()).planner == "greedy_by_size"
