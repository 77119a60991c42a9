"""Which object each buffer has, where memory comes in pieces: the rules of the planners in SHARED.

`lives` is int64[3, buffers]: the sizes, the first and the last stages of buffers that are not empty, in
the order in which they have their turn. A rule gives each the number of an object.
"""

import numpy as np

from ..errors import ArgumentError

HUGE = np.iinfo(np.int64).max


def positional_maxima(lives):
    """Of each stage the living sizes, the largest first; of each position the largest."""
    size, first, last = lives
    largest = np.zeros_like(size)
    for stage in range(last.max(initial=-1) + 1):
        living = np.sort(size[(first <= stage) & (stage <= last)])[::-1]
        np.maximum(largest[: len(living)], living, out=largest[: len(living)])
    return largest


def side_by_side(size, number):
    """The offset of each buffer, if object lies after object."""
    room = np.zeros_like(size)
    np.maximum.at(room, number, size)
    return (room.cumsum() - room)[number]


def assign(lives, pick):
    """Each buffer in turn goes into an object that is free while it lives, or into a new one.

    `pick` chooses from the sizes of those that are free. An object grows to what it has to hold."""
    number, rooms, objects = np.zeros_like(lives[0]), np.zeros_like(lives[0]), 0
    for i, (size, first, last) in enumerate(lives.T):
        meets = (lives[1, :i] <= last) & (first <= lives[2, :i])
        free = np.ones(objects, bool)
        free[number[:i][meets]] = False
        free = np.flatnonzero(free)
        number[i] = free[pick(rooms[free], size)] if len(free) else objects
        rooms[number[i]] = max(rooms[number[i]], size)
        objects = max(objects, number[i] + 1)
    return number


def into_earliest(lives):
    return assign(lives, lambda rooms, size: 0)


def into_fittest(lives):
    """The smallest object that holds the buffer, else the largest."""
    fittest = lambda rooms, size: np.where(rooms >= size, rooms - size, HUGE - rooms).argmin()
    return assign(lives, fittest)


def inherit(lives):
    """Each buffer may take over the object of one that died before it, and leave it to one.

    To take over saves the smaller of both sizes. The pairs that save most are an assignment."""
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        raise ArgumentError("shared_min_cost_flow needs SciPy: pip install scipy") from None
    size, first, last = lives
    saved = np.minimum(size[:, None], size) * (last[:, None] < first)
    givers, takers = linear_sum_assignment(saved, maximize=True)
    number = np.arange(len(size))
    for giver, taker in sorted(zip(givers, takers), key=lambda pair: first[pair[1]]):
        if saved[giver, taker]:
            number[taker] = number[giver]
    return number
