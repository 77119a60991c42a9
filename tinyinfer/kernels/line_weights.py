"""The gradient of a convolution by its weights, a line of the image at a time.

    for image, strip in images, strips of lines of g:     # a strip of a tile's planes fits the first cache
        for o, c in tiles of filters and channels:        # threads share the work here
            for k in rows of the filters:
                for i, j in lines of the strip, vectors of a line:
                    for f, e, l in filters and channels of the tile, taps:         # unrolled
                        sums[f, e, l] += g[image, o + f, i, j] * x[image, c + e, s i + d k - p, s j + d l - p]
                w[o, c, k] += the sums of the lanes of `sums`

What the lanes are, and which taps lie inside the image, is as in `lines.py`. Tiles of which there is
no rest: twice the same would be added otherwise.
"""

from llvmlite import ir

from .host import HOST
from .lines import load_lanes, runs
from .native import inner, native, share
from .simd import (
    BYTES,
    LANES,
    Value,
    at,
    builder,
    f32,
    fill,
    first_lanes,
    fma,
    i32,
    loop,
    micro,
    read,
    registers,
    select,
    shuffled,
    store,
    zeros,
)
from .static import Static
from .tile import pace

CACHE = 48 * 1024  # bytes of the first one
SUMS = min(
    24, HOST.registers * HOST.lanes // LANES * 3 // 4
)  # of a tile; the rest holds what is loaded


def weight_tile(line, filters, channels) -> Static:
    f, c, piece = weight_tile_of(filters, channels, line.taps)
    return line.tiled(1, filters=f, channels=c, piece=piece, apart=1)


def weight_tile_of(filters, channels, taps):
    """(filters, channels, taps) of a tile."""
    piece = -(-taps // -(-taps // SUMS))

    def cost(tile):
        f, c = tile
        loads = f + c * piece
        return filters // f * (channels // c) * (pace(f * c, piece) + loads / 4)

    tiles = [
        (f, c)
        for f in range(1, SUMS + 1)
        for c in range(1, SUMS + 1)
        if f * c * piece <= SUMS and filters % f == channels % c == 0
    ]
    return *min(tiles, key=cost), piece


@micro
def add_lines(t, w, g, x, lines, g_plane, g_line, x_plane, x_line, w_filter, w_channel, real):
    """All taps of a row of the filters, from so many lines of g and x, of which `real` lanes count."""
    for tap in range(0, t.taps, t.piece):
        taps = range(tap, min(t.taps, tap + t.piece))
        places = [(f, c, l) for f in range(t.filters) for c in range(t.channels) for l in taps]
        sums = registers([zeros()] * len(places))
        for i in loop(lines):
            for run in runs(t, taps):
                add_run(t, run, sums, places, g + i * g_line, x + i * x_line, g_plane, x_plane)
        counted = [select(first_lanes(real), s, zeros()) for s in sums]
        add_totals(counted, [w + w_filter * f + w_channel * c + 4 * l for f, c, l in places])


def add_run(t, run, sums, places, g, x, g_plane, x_plane):
    lanes = run.vectors[0][1]
    for j in loop(run.count if run.pairs else 0):
        g_here = g + (j * (t.pixel * run.step) + t.pixel * run.first)
        x_here = x + (j * (t.pixel * run.seen_step) + t.pixel * run.seen)
        gs = [load_lanes(g_here + g_plane * f, 0, lanes) for f in range(t.filters)]
        for c in range(t.channels):
            for _, l, q, *some in run.pairs:
                seen = load_lanes(x_here + x_plane * c + t.pixel * q, *some)
                for f in range(t.filters):
                    s = places.index((f, c, l))
                    sums[s] = fma(gs[f], seen, sums[s])


def add_totals(vectors, addresses):
    """To the number at each address, the lanes of its vector."""
    for i in range(0, len(vectors), LANES):
        total = totals(vectors[i : i + LANES])
        for lane, address in enumerate(addresses[i : i + LANES]):
            number = Value(builder().extract_element(total.ir, ir.Constant(i32, lane)))
            store(address, read(address, f32) + number)


def totals(vectors):
    """Lane i is the sum of the lanes of vector i. In each round pairs of vectors become one, of half
    as many sums each."""
    vectors = vectors + [None] * (LANES - len(vectors))
    for step in 1, 2, 4, 8:
        one = [l if not l & step else LANES + l - step for l in range(LANES)]
        other = [l + step if not l & step else LANES + l for l in range(LANES)]
        pairs = [(a, b or zeros()) for a, b in zip(vectors[::2], vectors[1::2])]
        vectors = [a and shuffled(a, b, one) + shuffled(a, b, other) for a, b in pairs]
    return vectors[0]


@inner
def lines_at_a_time(t, height, stride):
    line = BYTES * (t.filters * t.columns + t.channels * t.seen * stride) * t.pixel // 64
    most = max(1, CACHE // line)
    return -(-height // max(1, -(-height // most)))


@native
def convolve_weights(t, part, parts, w, g, x, groups, stride, padding, dilation, images):
    """stride, padding, dilation: of rows; what lies where no image is does not count."""
    filters, height, h = g.shape[1] // groups, g.shape[2], x.shape[2]
    channels, kernel, pixel = w.shape[1], w.shape[2], t.pixel // 4
    strip, row = lines_at_a_time(t, height, stride), kernel * t.taps
    g_line, x_line, tiles = t.columns * pixel, t.seen * pixel, g.shape[1] // t.filters
    first, last = share(tiles, part, parts)
    first, last = first * t.filters, last * t.filters
    fill(at(w, first * channels * row), 0, 4 * (last - first) * channels * row)
    for b in range(g.shape[0]):
        for top in range(0, height, strip):
            for o in range(first, last, t.filters):
                plane = b * x.shape[1] + o // filters * channels
                for c in range(0, channels, t.channels):
                    for k in range(kernel):
                        shift = dilation * k - padding
                        i0 = max(top, -(shift // stride))  # the lines whose tap is inside the image
                        i1 = min(top + strip, height, (h - 1 - shift) // stride + 1)
                        add_lines(t, at(w, (o * channels + c) * row + k * t.taps),
                                  at(g, ((b * g.shape[1] + o) * height + i0) * g_line),
                                  at(x, ((plane + c) * h + stride * i0 + shift) * x_line),
                                  max(0, i1 - i0), 4 * height * g_line, 4 * g_line, 4 * h * x_line,
                                  4 * stride * x_line, 4 * channels * row, 4 * row, images - LANES * b)  # fmt: skip
