"""Convolutions, and both their gradients, a line of the image at a time.

    for image, i in images, lines of y:              # threads share the work here
        for j in tiles of vectors of the line:
            for o in tiles of filters:
                for c, k in channels, rows of the filters inside the image:
                    for l, f, b in taps, filters and vectors of the tile:          # unrolled
                        sums[f, b] += w[o + f, c, k, l] * x[image, c, s i + d k - p, s (j + b) + d l - p]

A number of w stands in all lanes, as it is. The lanes of a vector are sixteen images (`images_in_lanes.py`) or
sixteen neighbouring columns (`columns_in_lanes.py`). Each line is a program of its own: how many columns there are,
and which taps of each lie inside the image, the compiler knows. So padding costs nothing. How many
lines, channels and images there are it is told when it runs. What would be beyond the image is not
multiplied, by infinite weights neither.

The gradient by x is the same sum with other places: of line h it takes the lines (h + p - d k) / s of g.
"""

from dataclasses import dataclass
from typing import NamedTuple

from llvmlite import ir

from .host import HOST
from .native import inner, native, share
from .simd import (
    ACTIVATIONS,
    BYTES,
    LANES,
    Value,
    above,
    at,
    below,
    broadcast,
    constant,
    f32x16,
    first_lanes,
    fma,
    i1,
    is_nan,
    load,
    loop,
    maximum,
    micro,
    read_masked,
    registers,
    select,
    shuffled,
    splat,
    store,
    store_some,
    when,
    zeros,
)
from .static import Static
from .tile import pace

MOST = 21  # sums of a tile: with more of them less tiles fit a line

# ---- which columns meet which taps -----------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """Of y, so many columns; of x `seen`. `images`: whether these are in the lanes, or columns are.
    `back`: y is the gradient of the image, x that of the result."""

    columns: int
    seen: int
    taps: int
    stride: int
    padding: int
    dilation: int
    images: bool
    back: bool = False

    def tiled(self, width, **more) -> Static:
        """In tiles of so many vectors."""
        numbers = {k: int(v) for k, v in vars(self).items()}
        return Static(pixel=64 if self.images else 4, width=width, **numbers, **more)

    def tile(self, filters, bias=False, activation="", pool=False, padded=True, **more) -> Static:
        """For so many filters, in `padded` images. Of short lines two make a tile, as of those that
        are pooled: a number that is loaded is used for both. More: whether images are `flat`, one row
        that lies inside; and whether what a tile sees is `copied`, if it is one of a line."""
        vectors = self.columns if self.images else -(-self.columns // LANES)
        lines = 2 if pool or not self.images and vectors == 1 else 1
        multiple = self.images * (1 + pool) * (self.stride if self.back else 1) or 1
        f, b = tile_of(filters, vectors, multiple, lines)
        alone = int(padded or not pool)  # whether there are lines without another one like it
        return self.tiled(b, filters=f, lines=lines, alone=alone, apart=0, bias=int(bias),
                          activation=activation, pool=int(pool), **more)  # fmt: skip


def work_ratio(t) -> float:
    """How much more, or less, than the definition does."""
    done = sum(r.count * len(r.pairs) for r in runs(t)) * (1 if t.images else LANES)
    return done / max(1, (t.seen if t.back else t.columns) * t.taps)


def spanned(some_runs) -> int:
    """Columns of x that one of their tiles sees, at most."""
    return max((q + 1 for r in some_runs for _, _, q, *_ in r.pairs), default=0)


class Run(NamedTuple):
    """Tiles of a line that do the same, up to their places."""

    first: int  # column of y
    count: int
    step: int  # columns from tile to tile
    vectors: tuple  # (column from the first, lanes that are meant)
    pairs: tuple  # (vector of the tile, tap, column of x from `seen`, first lane, end of lanes)
    seen: int
    seen_step: int


def runs(t, taps=None) -> list[Run]:
    found = []
    vectors = vectors_of(t)
    for i in [*range(0, len(vectors) - t.width, t.width), len(vectors) - t.width]:
        tile = a_tile(t, vectors[i : i + t.width], range(t.taps) if taps is None else taps)
        if found and (longer := joined(found[-1], tile)):
            found[-1] = longer
        else:
            found.append(tile)
    return found


def vectors_of(t):
    """(column of y, lanes). The last vector of columns overlaps another, unless they are to be
    `apart`; as the last tile may, if the width does not divide them."""
    if t.images:
        return [(j, LANES) for j in range(t.columns)]
    if t.apart or t.columns < LANES:
        return [(j, min(LANES, t.columns - j)) for j in range(0, t.columns, LANES)]
    return [(min(j, t.columns - LANES), LANES) for j in range(0, t.columns, LANES)]


def a_tile(t, vectors, taps) -> Run:
    first = vectors[0][0]
    pairs = [(b, *met) for b, (j, n) in enumerate(vectors) for met in inside(t, j, n, taps)]
    seen = min((q for _, _, q, *_ in pairs), default=0)
    pairs = tuple((b, l, q - seen, *lanes) for b, l, q, *lanes in pairs)
    return Run(first, 1, 0, tuple((j - first, n) for j, n in vectors), pairs, seen, 0)


def inside(t, column, lanes, taps):
    """(tap, column of x, first lane, end of lanes) that a vector of y sums."""
    for l in taps:
        q, rest = t.stride * column + t.dilation * l - t.padding, 0
        if t.back:
            q, rest = divmod(column + t.padding - t.dilation * l, t.stride)
        if t.images:
            some = (0, LANES) if 0 <= q < t.seen else (0, 0)
        else:
            some = max(0, -q), min(lanes, t.seen - q)
        if not rest and some[0] < some[1]:
            yield l, q, *some


def joined(run, tile) -> Run | None:
    step, seen_step = tile.first - run.first, tile.seen - run.seen
    if run.count > 1:
        step, seen_step = run.step, run.seen_step
    next_one = run.first + run.count * step, run.seen + run.count * seen_step
    follows = next_one == (tile.first, tile.seen)
    if follows and (run.vectors, run.pairs) == (tile.vectors, tile.pairs):
        return run._replace(count=run.count + 1, step=step, seen_step=seen_step)


def tile_of(filters, vectors, multiple=1, lines=1):
    """(filters, vectors) of a tile. What is loaded takes some time too."""

    def cost(tile):
        f, b = tile
        tiles = -(-filters // f) * -(-vectors // b)
        return tiles * (pace(f, b * lines) + (f + b * lines) / 10)

    some = range(1, max(1, filters) + 1), range(1, vectors + 1)
    fits = lambda f, b: held(f, b * lines) and (b % multiple == 0 or b == vectors)
    tiles = [(f, b) for f in some[0] for b in some[1] if fits(f, b)]
    return min(tiles or [(1, min(multiple, vectors))], key=cost)


def held(numbers, vectors) -> bool:
    """Whether there are registers for sums, for the vectors, which are kept for the next number, and for
    a number; without a fused multiply-add, for a product too."""
    kept = vectors if numbers > 1 else 1
    room = HOST.registers - (1 if HOST.fma else 2)
    return numbers * vectors <= MOST and (numbers * vectors + kept) * (LANES // HOST.lanes) <= room


def load_lanes(address, first, end) -> Value:
    """Zeros in the others, which are not touched in memory."""
    if (first, end) == (0, LANES):
        return load(address)
    mask = ir.Constant(ir.VectorType(i1, LANES), [first <= l < end for l in range(LANES)])
    return read_masked(address, Value(mask))


# ---- a line ----------------------------------------------------------------------------------------


class Steps(NamedTuple):
    """In bytes."""

    y_filter: int
    y_line: int
    x_channel: int
    x_line: int  # from what a line of y sees to what the next one does
    x_row: int  # from a row of the filter, that lies inside the image, to the next
    w_filter: int
    w_channel: int
    w_row: int


@micro
def some_lines(t, alike, y, x, w, bias, room, filters, channels, rows, images, second, steps):
    """Of the filters so many rows lie inside the image. `alike`: for t.lines lines from here on; else
    for this one, perhaps the `second` of two that are pooled."""
    steps = Steps(*steps)
    if t.lines > 1:
        with when(alike > 0):
            tiles(t, t.lines, y, x, w, bias, room, filters, channels, rows, images, None, steps)
    if t.alone:
        with when(alike < 1):
            tiles(t, 1, y, x, w, bias, room, filters, channels, rows, images, second, steps)


def tiles(t, lines, y, x, w, bias, room, filters, channels, rows, images, second, steps):
    there = first_lanes(images)
    for run in runs(t):
        for i in loop(run.count):
            x_tile = x + (i * (t.pixel * run.seen_step) + t.pixel * run.seen)
            y_tile = y + (i * (t.pixel * run.step >> t.pool) + (t.pixel * run.first >> t.pool))
            x_tile, near = (
                gathered(run, x_tile, room, channels, steps) if t.copied else (x_tile, steps)
            )
            for j in loop((filters + (t.filters - 1)) // t.filters):
                f = below(j * t.filters, filters - t.filters)  # the last tile may overlap another
                sums = start(t, lines, bias + f * 4)
                add_taps(t, lines, run, sums, x_tile, w + f * steps.w_filter, channels, rows, near)
                for e in range(t.filters):
                    some = [sums[s] for s in range(e * lines * t.width, (e + 1) * lines * t.width)]
                    put(t, run, some, y_tile + (f + e) * steps.y_filter, steps, there, second)


def gathered(run, x, room, channels, steps):
    """What a tile of columns sees with its only tap, side by side."""
    span = BYTES * spanned([run])
    for c in loop(channels):
        for j in range(0, span, BYTES):
            store(room + c * span + j, load(x + c * steps.x_channel + j))
    return room, steps._replace(x_channel=span)


def start(t, lines, bias):
    numbers = [broadcast(bias + 4 * f) if t.bias else zeros() for f in range(t.filters)]
    return registers([x for x in numbers for _ in range(lines * t.width)])


def add_taps(t, lines, run, sums, x, w, channels, rows, steps):
    for c in loop(channels):
        for k in loop(1 if t.flat else rows):
            row, numbers = x + c * steps.x_channel + k * steps.x_row, w + c * steps.w_channel
            numbers, seen = numbers + k * steps.w_row, {}
            for l in range(t.taps):
                met = [
                    (r, b, tuple(q)) for r in range(lines) for b, tap, *q in run.pairs if tap == l
                ]
                for r, _, (q, *lanes) in met:
                    if (r, q, *lanes) not in seen:
                        there = row + steps.x_line * r + t.pixel * q
                        seen[r, q, *lanes] = load_lanes(there, *lanes)
                for f in range(t.filters if met else 0):
                    number = broadcast(numbers + steps.w_filter * f + 4 * l)
                    for r, b, q in met:
                        s = (f * lines + r) * t.width + b
                        sums[s] = fma(number, seen[r, *q], sums[s])


def put(t, run, sums, y, steps, there, second):
    """The lines of a filter. Images that do not exist are zeros, not what becomes of zeros."""
    lines = [sums[s : s + t.width] for s in range(0, len(sums), t.width)]
    places = [
        (y + steps.y_line * r + t.pixel * j, n) for r in range(len(lines)) for j, n in run.vectors
    ]
    if t.pool:
        places = [(y + (t.pixel * j >> 1), n if t.images else n // 2) for j, n in run.vectors]
        places = places[:: 2 if t.images else 1]
        sums = pooled([across(t, line) for line in lines], places, second)
    for (place, lanes), v in zip(places, sums):
        v = ACTIVATIONS[t.activation](v)
        if lanes < LANES:
            store_some(place, v, lanes)
        else:
            store(place, select(there, v, zeros()) if t.images else v)


def across(t, line):
    """Its even columns, and its odd ones."""
    if t.images:
        return [*zip(line[::2], line[1::2])]
    return [[shuffled(v, v, [*range(i, LANES, 2)] * 2) for i in (0, 1)] for v in line]


def pooled(lines, places, second):
    """The largest of 2 x 2, of two lines; or of a line, and in the second one of what is there."""
    if second is None:
        return [largest(*a, *b) for a, b in zip(*lines)]
    pairs = [maximum(a, b) for a, b in lines[0]]
    befores = [load_lanes(place, 0, lanes) for place, lanes in places]
    return [select(splat(second) > 0, maximum(v, old), v) for v, old in zip(pairs, befores)]


def largest(a, b, c, d):
    """NaN if one of them is, by as few instructions as that takes."""
    bad = is_nan(a, b) | is_nan(c, d)
    return select(bad, constant(f32x16.ir, float("nan")), above(above(a, b), above(c, d)))


# ---- all lines -------------------------------------------------------------------------------------


class Work(NamedTuple):
    images: int
    groups: int
    stride: int  # here, and in what follows, of rows
    padding: int
    dilation: int
    row: int  # rows of the filter from one that lies inside the image to the next
    seen: int  # rows of the image meanwhile


@inner
def rows_inside(t, i, kernel, height, work):
    """(how many rows of the filter line i sees, the first of them, and of the image)"""
    count = first = seen = 0
    for k in range(kernel):
        r = work.stride * i + work.dilation * k - work.padding
        if t.back:
            r = i + work.padding - work.dilation * k
            if r % work.stride:
                continue
            r //= work.stride
        if 0 <= r < height:
            if not count:
                first, seen = k, r
            count += 1
    return count, first, seen


@inner
def alike(t, first, end, kernel, height, work):
    """Whether lines see the same rows of the filter, and there are enough of them."""
    if t.lines == 1 or end - first < t.lines:
        return 0
    here = rows_inside(t, first, kernel, height, work)
    there = rows_inside(t, end - 1, kernel, height, work)
    return int(here[:2] == there[:2])


@native
def convolve(t, part, parts, y, x, w, bias, room, work):
    pixel, height, kernel = t.pixel // 4, x.shape[2], w.shape[2]
    filters, channels = y.shape[1] // work.groups, x.shape[1] // work.groups
    y_line, x_line, tap = y.shape[3] * pixel, t.seen * pixel, kernel * t.taps
    w_filter, w_channel = (tap, w.shape[1] * tap) if t.back else (w.shape[1] * tap, tap)
    steps = (4 * y.shape[2] * y_line, 4 * y_line, 4 * height * x_line,
             4 * (1 if t.back else work.stride) * x_line, 4 * work.seen * x_line,
             4 * w_filter, 4 * w_channel, 4 * work.row * t.taps)  # fmt: skip
    lines = y.shape[2] << t.pool
    strips = (lines + t.lines - 1) // t.lines
    for n in range(*share(y.shape[0] * strips, part, parts)):
        b, first = n // strips, n % strips * t.lines
        end = min(first + t.lines, lines)
        same = alike(t, first, end, kernel, height, work)
        for i in range(first, end, t.lines if same else 1):
            rows, k, r = rows_inside(t, i, kernel, height, work)
            for g in range(work.groups):
                some_lines(t, same,
                           at(y, ((b * y.shape[1] + g * filters) * y.shape[2] + (i >> t.pool)) * y_line),
                           at(x, ((b * x.shape[1] + g * channels) * height + r) * x_line),
                           at(w, g * (w.size // work.groups) + k * t.taps), at(bias, g * filters), at(room, part * room.shape[1]),
                           filters, channels, rows, work.images - 16 * b, i - first, steps)  # fmt: skip
