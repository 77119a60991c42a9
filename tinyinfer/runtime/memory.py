"""Where each buffer lies in memory, given from when to when it lives.

Draw stages across and addresses up: a buffer is a rectangle that may be moved up and down only, and
none may lie over another. To find the lowest such drawing is offline dynamic storage allocation
(strip packing with fixed x; colouring of a weighted interval graph). It is NP-hard (Garey & Johnson
1979, SR2). No drawing is lower than the buffers of one stage stacked up, and some is at most three
times that high (Gergov 1999, "Algorithms for compile-time memory optimization").

There are two families of planners. PLANNERS give *offsets* in one arena. SHARED give *shared objects*,
for memory that comes in pieces, such as textures: a buffer has an object for itself while it lives, and
an object is as large as its largest buffer. The greedy ones and their names are those of Pisarchyk & Lee
2020, "Efficient memory management for deep neural net inference" (arXiv 2001.03288).

A planner takes the lifetimes as they are: it moves no step and writes nothing in place. Sizes are
rounded up to the alignment before anything else, so that all sums below are exact.

    buffers = [Buffer("a", 100, 0, 1), Buffer("b", 80, 1, 2), Buffer("c", 60, 2, 3)]
    place(buffers, alignment=1)     # offsets (0, 100, 0) of 180 bytes: c lies where a was
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..errors import ArgumentError
from .objects import HUGE, inherit, into_earliest, into_fittest, positional_maxima, side_by_side

ALIGNMENT = 64  # bytes: a cache line, and the widest vector
FEW, MANY = 48, 256  # buffers: those that "best" has searched, those that can be


class Buffer(NamedTuple):
    """So many bytes, from the stage that first writes them to the last that needs them."""

    name: str
    size: int
    first: int
    last: int


class Placement(NamedTuple):
    planner: str
    offsets: tuple[int, ...]  # of each buffer, in bytes
    total: int  # bytes of the arena
    proven: bool = False  # that no planner of this family can need less


def place(buffers: Sequence[Buffer], planner="best", alignment=ALIGNMENT) -> Placement:
    """Give each buffer its place, by a planner from PLANNERS or SHARED or by the best of PLANNERS.

    `best` tries one after the other until the lower bound is met, and searches only if the buffers are
    few. `.planner` of the result says which one it was.

    Raises: ArgumentError for an unknown planner, an alignment that is no power of two, a buffer of
    negative size or one that ends before it begins.
    """
    planners = {"best": best} | PLANNERS | SHARED
    if not isinstance(planner, str) or planner not in planners:
        raise ArgumentError(f"no planner {planner!r}: there are {', '.join(planners)}")
    return planners[planner](buffers, alignment)


def lower_bound(buffers: Sequence[Buffer], alignment=ALIGNMENT) -> int:
    """Bytes that offsets in one arena need at least: the most that live in one stage."""
    return breadth_bound(lives_of(buffers, alignment))


def shared_lower_bound(buffers: Sequence[Buffer], alignment=ALIGNMENT) -> int:
    """Bytes that shared objects need at least: the sum of the positional maxima.

    Of each stage take the living buffers, the largest first. The k-th object in order of size is no
    smaller than the k-th of any stage. (Pisarchyk & Lee 2020)
    """
    return int(positional_maxima(lives_of(buffers, alignment)).sum())


def lives_of(buffers, alignment):
    """`lives` of all that follows: sizes rounded up, first stages, last stages; int64[3, buffers].

    Only stages in which some buffer begins are counted: in any other lives nothing new."""
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise ArgumentError(f"alignment: a power of two, such as 64, not {alignment!r}")
    for name, size, first, last in buffers:
        if size < 0:
            raise ArgumentError(f"buffer {name}: its size cannot be negative: {size} bytes")
        if last < first:
            raise ArgumentError(f"buffer {name}: it begins in stage {first}, but ends in {last}")
    size, first, last = np.array([b[1:] for b in buffers], np.int64).reshape(-1, 3).T
    begins = np.array(sorted(set(first.tolist())), np.int64)
    first, last = np.searchsorted(begins, first), np.searchsorted(begins, last, "right") - 1
    return np.stack([-(-size // alignment) * alignment, first, last])


def breadths(lives):
    """The bytes that live in each stage."""
    size, first, last = lives
    change = np.zeros(last.max(initial=-1) + 2, np.int64)
    np.add.at(change, first, size)
    np.subtract.at(change, last + 1, size)
    return change.cumsum()[:-1]


def breadth_bound(lives):
    return int(breadths(lives).max(initial=0))


def placement(planner, lives, offsets, bound, searched=False):
    total = int((offsets + lives[0]).max(initial=0))
    return Placement(planner, tuple(offsets.tolist()), total, searched or total == bound)


# The order in which greedy planners take the buffers. An empty one takes no place, so none has a turn.


def turns(lives, *keys):
    """The numbers of the buffers, by the last key, of equal ones by the one before, and so on."""
    order = np.lexsort(keys)
    return order[lives[0, order] > 0]


def in_order(lives):
    size, first, last = lives
    return turns(lives, first)


def by_size(lives):
    size, first, last = lives
    return turns(lives, first, -size)


def by_breadth(lives):
    """Stage after stage, the one where most bytes live first; in a stage the largest buffer first."""
    size, first, last = lives
    breadth = breadths(lives)
    broadest = [a + breadth[a : b + 1].argmax() for a, b in zip(first.tolist(), last.tolist())]
    broadest = np.array(broadest, np.int64)
    return turns(lives, first, -size, broadest, -breadth[broadest])


# Offsets in one arena.


def fill(lives, turn, pick):
    """Offsets: each buffer in turn lies below, between or on top of those that live while it does.

    `pick` chooses from the sizes of all gaps that are large enough, in order of address. A turn looks
    at all who have had theirs: n**2 in all, but in a few calls of NumPy each."""
    size, first, last = lives[:, turn]
    low, high = np.zeros((2, len(turn)), np.int64)
    for i, n in enumerate(size):
        meets = (first[:i] <= last[i]) & (first[i] <= last[:i])
        begins, ends = low[:i][meets], high[:i][meets]
        upward = begins.argsort()
        floors = np.maximum.accumulate(np.append(0, ends[upward]))  # under each gap
        gaps = begins[upward] - floors[:-1]
        fits = np.flatnonzero(gaps >= n)
        low[i] = floors[fits[pick(gaps[fits])]] if len(fits) else floors[-1]
        high[i] = low[i] + n
    offsets = np.zeros_like(lives[0])
    offsets[turn] = low
    return offsets


def filled(planner, buffers, alignment, order, pick):
    lives = lives_of(buffers, alignment)
    return placement(planner, lives, fill(lives, order(lives), pick), breadth_bound(lives))


lowest = lambda gaps: 0
tightest = np.argmin


def naive(buffers: Sequence[Buffer], alignment=ALIGNMENT) -> Placement:
    """Each buffer has bytes of its own: what it costs not to plan."""
    lives = lives_of(buffers, alignment)
    return placement("naive", lives, lives[0].cumsum() - lives[0], breadth_bound(lives))


def first_fit(buffers: Sequence[Buffer], alignment=ALIGNMENT) -> Placement:
    """In order of execution, the lowest gap that is large enough: what an allocator does at run time.

    It may need the logarithm of the number of buffers times the lower bound (Robson 1977, "Worst case
    fragmentation of first fit and best fit storage allocation strategies")."""
    return filled("first_fit", buffers, alignment, in_order, lowest)


def best_fit(buffers: Sequence[Buffer], alignment=ALIGNMENT) -> Placement:
    """In order of execution, the smallest gap that is large enough: it leaves the smallest rests.

    In the worst case it is far worse than first fit (Robson 1977)."""
    return filled("best_fit", buffers, alignment, in_order, tightest)


def greedy_by_size(buffers: Sequence[Buffer], alignment=ALIGNMENT) -> Placement:
    """The largest first, into the smallest gap that is large enough. (Pisarchyk & Lee 2020)"""
    return filled("greedy_by_size", buffers, alignment, by_size, tightest)


def greedy_by_breadth(buffers: Sequence[Buffer], alignment=ALIGNMENT) -> Placement:
    """The stage where most bytes live first, of these the largest, into the smallest gap that is large
    enough. (Pisarchyk & Lee 2020)"""
    return filled("greedy_by_breadth", buffers, alignment, by_breadth, tightest)


def squeaky_wheel(buffers: Sequence[Buffer], alignment=ALIGNMENT) -> Placement:
    """By size or by breadth, again and again: who lay above the lower bound comes earlier, where half
    as many are before it.

    Up to 30 rounds of each; fewer, if there are many buffers. (Joslin & Clements 1999, "Squeaky wheel
    optimization")"""
    lives = lives_of(buffers, alignment)
    bound, rounds = breadth_bound(lives), max(1, min(30, 4_000 // (len(buffers) + 1)))
    return smallest(
        placement("squeaky_wheel", lives, offsets, bound)
        for order in (by_size, by_breadth)
        for offsets in squeaks(lives, order(lives), bound, rounds)
    )


def squeaks(lives, turn, bound, rounds):
    for _ in range(rounds):
        offsets = fill(lives, turn, tightest)
        yield offsets
        above, now = (offsets + lives[0])[turn] > bound, np.arange(len(turn))
        turn = turn[np.where(above, now - 1, 2 * now).argsort(kind="stable")]


def smallest(placements):
    """The smallest; those after one that is proven are not even made."""
    tried = []
    for p in placements:
        tried.append(p)
        if p.proven:
            break
    return min(tried, key=lambda p: (p.total, not p.proven))


def heuristic(buffers, alignment):
    planners = greedy_by_size, greedy_by_breadth, best_fit, first_fit, squeaky_wheel
    return smallest(planner(buffers, alignment) for planner in planners)


def exact(buffers: Sequence[Buffer], alignment=ALIGNMENT, limit=20_000) -> Placement:
    """The smallest arena there is, by branch and bound, for some dozens of buffers.

    It begins with the best of the other planners, and ends when the lower bound is met, all is searched
    or `limit` states were visited; more than 256 buffers are not searched at all. `.proven` says whether
    nothing smaller exists; without it the result is the smallest that was found.
    """
    lives, known = lives_of(buffers, alignment), heuristic(buffers, alignment)
    if known.proven or len(buffers) > MANY:
        return known._replace(planner="exact")
    bound = breadth_bound(lives)
    offsets, searched = search(lives, np.array(known.offsets), bound, limit)
    return placement("exact", lives, offsets, bound, searched)


def search(lives, best, bound, limit):
    """Offsets that need less than `best`, if there are any; and whether all was searched.

    Of all smallest drawings take the one whose offsets sum up to the least, and build it from the bottom
    up, equal offsets by number. Then each buffer lies on top of those it meets that were built before
    it: `low`. What cannot be that drawing is not tried: a buffer so high that another one still fits
    below it, and a later twin before an earlier one. A state is given up when what is still to come
    makes some stage too high. (Compare MiniMalloc: Moffitt 2023, "A lightweight memory allocator for
    hardware-accelerated machine learning".)
    """
    size, first, last = lives
    numbers, stages = np.arange(len(size)), np.arange(last.max(initial=-1) + 1)
    living = (first <= stages[:, None]) & (stages[:, None] <= last)
    meets = (first <= last[:, None]) & (first[:, None] <= last)
    twins = (lives[:, :, None] == lives[:, None, :]).all(0) & (numbers < numbers[:, None])
    total = (best + size).max()

    def choices(low, rest, floor, latest):
        """The buffers that may come next, the one to try first last."""
        least, present = np.maximum(low, floor), living & rest
        begin = np.where(present, least, HUGE).min(1)  # of what is still to come in each stage
        height = begin + present @ size
        if max(height[begin < HUGE].max(), (least + size)[rest].max()) >= total:
            return []
        above = (low > floor) | (low == floor) & (numbers > latest)
        below = low < (low + size)[rest].min()
        nexts = np.flatnonzero(rest & above & below & ~(twins & rest).any(1))
        return nexts[np.lexsort((size[nexts], -low[nexts]))]

    rest, low = size > 0, np.zeros_like(size)
    states = [(low, rest, n) for n in choices(low, rest, 0, -1)]
    for _ in range(limit):
        if not states:
            return best, True
        low, rest, n = states.pop()
        high = low[n] + size[n]
        rest = rest & (numbers != n)
        low = np.where(rest & meets[n], np.maximum(low, high), low)
        if rest.any():
            states += [(low, rest, m) for m in choices(low, rest, low[n], n)]
        elif (low + size).max() < total:
            best, total = low, (low + size).max()
            if total == bound:
                return best, True
    return best, not states


def best(buffers, alignment=ALIGNMENT):
    """See place."""
    known = heuristic(buffers, alignment)
    if known.proven or len(buffers) > FEW:
        return known
    return smallest([known, exact(buffers, alignment, limit=4_000)])


# Shared objects.


def shared(planner, buffers, alignment, order, rule):
    lives = lives_of(buffers, alignment)
    turn = order(lives)
    offsets = np.zeros_like(lives[0])
    offsets[turn] = side_by_side(lives[0, turn], rule(lives[:, turn]))
    return placement(planner, lives, offsets, int(positional_maxima(lives).sum()))


def shared_in_order(buffers: Sequence[Buffer], alignment=ALIGNMENT) -> Placement:
    """In order of execution, the smallest free object that holds the buffer, else the largest.

    (Lee et al. 2019, "On-device neural net inference with mobile GPUs", arXiv 1907.01989)"""
    return shared("shared_in_order", buffers, alignment, in_order, into_fittest)


def shared_by_size(buffers: Sequence[Buffer], alignment=ALIGNMENT) -> Placement:
    """The largest first, into the earliest object that is free: so none has to grow.

    (Pisarchyk & Lee 2020)"""
    return shared("shared_by_size", buffers, alignment, by_size, into_earliest)


def shared_by_breadth(buffers: Sequence[Buffer], alignment=ALIGNMENT) -> Placement:
    """The stage where most bytes live first, of these the largest, into an object as in shared_in_order.

    (Pisarchyk & Lee 2020)"""
    return shared("shared_by_breadth", buffers, alignment, by_breadth, into_fittest)


def shared_min_cost_flow(buffers: Sequence[Buffer], alignment=ALIGNMENT) -> Placement:
    """Who takes over whose object, so that the objects grow least: a flow of least cost.

    A buffer pays for what it is larger than the one before it; how large the object was before that
    is not seen, so the result need not be the smallest. (Lee et al. 2019) It takes n**2 numbers and up
    to n**3 time: for some thousand buffers.

    Raises: ArgumentError without SciPy.
    """
    return shared("shared_min_cost_flow", buffers, alignment, in_order, inherit)


def by_name(*planners):
    return {planner.__name__: planner for planner in planners}


PLANNERS = by_name(
    naive, first_fit, best_fit, greedy_by_size, greedy_by_breadth, squeaky_wheel, exact
)
SHARED = by_name(shared_in_order, shared_by_size, shared_by_breadth, shared_min_cost_flow)
