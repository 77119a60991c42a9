"""What micro-kernels are made of, against NumPy: on whatever CPU Numba compiles for."""

import ctypes
import mmap
import re
import sys

import numpy as np
import pytest
from numba import types

from tinyinfer.errors import ArgumentError
from tinyinfer.kernels import simd, tile
from tinyinfer.kernels.dot import BY, dot4
from tinyinfer.kernels.host import HOST, Host
from tinyinfer.kernels.native import bound, inner, native
from tinyinfer.kernels.simd import (
    BYTES,
    LANES,
    Value,
    at,
    broadcast,
    cast,
    constant,
    copy,
    f32,
    f32x16,
    fill,
    i32,
    i32x16,
    i64,
    load,
    load_integers,
    load_one,
    load_some,
    loop,
    micro,
    narrow,
    nearest,
    number,
    prefetch,
    read,
    read_some,
    registers,
    relu,
    shuffled,
    splat,
    store,
    store_some,
    stream,
    streamed,
    to_bytes,
    to_float,
    total,
    transposed,
    u8x16,
    when,
    wide,
    zeros,
)
from tinyinfer.kernels.static import Static

RNG = np.random.default_rng(0)


def both(of_values, of_arrays):
    """The same by a micro-kernel and by NumPy."""
    given = lambda *xs: any(isinstance(x, Value) for x in xs)
    return lambda *xs: (of_values if given(*xs) else of_arrays)(*xs)


either = both(simd.select, np.where)
maximum, minimum = both(simd.maximum, np.maximum), both(simd.minimum, np.minimum)
above = both(simd.above, lambda a, b: np.where(a > b, a, b))
below = both(simd.below, lambda a, b: np.where(a < b, a, b))
is_nan = both(simd.is_nan, lambda a, b=0: np.isnan(a) | np.isnan(b))

# ---- arithmetic ------------------------------------------------------------------------------------

FLOATS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "minus": lambda a, b: -a,
    "left of it": lambda a, b: (1.5 + a) * 3 - (2 - b) * (0.5 * a) + 1 / b,
    "two roundings": lambda a, b: a * b + a,
    "nothing": lambda a, b: (a + 0) * 1 - 0,
    "<": lambda a, b: either(a < b, a, b),
    ">": lambda a, b: either(a > b, a, b),
    "<=": lambda a, b: either(a <= b, a, b),
    ">=": lambda a, b: either(a >= b, b, a),
    "both": lambda a, b: either((a > 0) & (b > 0), a, b),
    "neither": lambda a, b: either(~((a > 0) | (b > 0)), a, b),
    "one of them": lambda a, b: either((a > 0) ^ (b > 0), a, b),
    "maximum": maximum,
    "minimum": minimum,
    "above": above,
    "below": below,
    "is_nan": lambda a, b: either(is_nan(a), b, a),
    "is_nan of two": lambda a, b: either(is_nan(a, b), b - b, a),
    "a number beside": lambda a, b: either(a > 0, below(a, 0.25), above(-0.25, a)),
    "relu": lambda a, b: both(relu, lambda a: np.where(a < 0, np.float32(0), a))(a),
    "double": lambda a, b: both(
        lambda a, b: narrow(wide(a) * wide(b) - wide(b)),
        lambda a, b: (a.astype("f8") * b - b).astype("f4"),
    )(a, b),
}
INTEGERS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: (a & 127) // ((b & 7) + 1),
    "%": lambda a, b: (a & 127) % ((b & 7) + 1),
    "&": lambda a, b: a & b,
    "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b,
    "~": lambda a, b: ~a,
    "minus": lambda a, b: -a,
    "<<": lambda a, b: a << (b & 31),
    ">>": lambda a, b: a >> (b & 31),
    "left of it": lambda a, b: 3 * a + (7 - b) + (5 + a),
    "<": lambda a, b: either(a < b, a, b),
    ">": lambda a, b: either(a > b, a, b),
    "<=": lambda a, b: either(a <= b, a, b + 1),
    ">=": lambda a, b: either(a >= b, b - 1, a),
    "a number beside": lambda a, b: above(-100, below(a, 100)),
}
OPERATIONS = {"f": FLOATS, "i": INTEGERS}
KINDS = {"f4": f32x16, "i4": i32x16, "i8": i64}  # NumPy's, and of what each is computed at a time


@micro
def compute(t, y, a, b, size):
    """Every operation of every pair, one operation after the other."""
    kind = KINDS[t.kind]
    step = 8 if kind is i64 else BYTES
    for k in loop(size, 0, step):
        pair = read(a + k, kind), read(b + k, kind)
        for i, operation in enumerate(OPERATIONS[t.kind[0]].values()):
            store(y + size * i + k, operation(*pair))


@native
def compute_all(t, part, parts, y, a, b):
    compute(t, at(y, 0), at(a, 0), at(b, 0), a.size * a.itemsize)


def pairs_of(kind):
    """Each number that is special with each, and some others."""
    if kind[0] == "f":
        special = [0, -0.0, 1, -1, 1e-40, 3e38, -3e38, np.inf, -np.inf, np.nan, 2**-126, 1.5]
        others = RNG.standard_normal(2 * 112)
    else:
        ends = np.iinfo(kind)
        special = [0, 1, -1, ends.min, ends.max, ends.min + 1, 255, -256, 31, 32, 1 << 30, 7]
        others = RNG.integers(-1000, 1000, 2 * 112)
    a, b = (x.ravel() for x in np.meshgrid(special, special))
    return np.append(a, others[::2]).astype(kind), np.append(b, others[1::2]).astype(kind)


@pytest.fixture(scope="module")
def results():
    """Kind -> (a, b, operation -> what the machine makes of them)."""
    made = {}
    for kind in KINDS:
        a, b = pairs_of(kind)
        names = OPERATIONS[kind[0]]
        y = np.empty((len(names), len(a)), kind)
        bound(compute_all, Static(kind=kind))(y, a, b)
        made[kind] = a, b, dict(zip(names, y))
    return made


@pytest.mark.parametrize("kind, name", [(k, name) for k in KINDS for name in OPERATIONS[k[0]]])
def test_arithmetic(results, kind, name):
    a, b, made = results[kind]
    with np.errstate(all="ignore"):
        wanted = OPERATIONS[kind[0]][name](a, b)
    np.testing.assert_array_equal(made[name], wanted, strict=True)


@micro
def fused(t, y, a, b, c):
    store(y, simd.fma(load(a), load(b), load(c)))


@native
def fused_one(t, part, parts, y, a, b, c):
    fused(t, y, a, b, c)


def test_fma_rounds_once_where_the_cpu_can():
    a = np.full(LANES, 1 + 2**-12, "f4")
    y = np.empty_like(a)
    bound(fused_one)(y, a, a, -np.full(LANES, 1 + 2**-11, "f4"))
    assert (y == (2**-24 if HOST.fma else 0)).all()


# ---- lanes -----------------------------------------------------------------------------------------


def vectors(x, n=1):
    return [load(x + BYTES * i) for i in range(n)]


# what is made of an array of 16 x 16 floats: (by a micro-kernel, by NumPy)
MOVES = {
    "transposed": (lambda x: transposed(vectors(x, 16)), lambda x: x.T),
    "shuffled": (
        lambda x: [shuffled(*vectors(x, 2), reversed(range(8, 24)))],
        lambda x: x[:2].reshape(-1)[23:7:-1],
    ),
    "broadcast": (lambda x: [broadcast(x + 12)], lambda x: x[0, 3]),
    "broadcast four bytes": (
        lambda x: [cast(broadcast(x + 12, i32), f32x16)],
        lambda x: x[0, 3],
    ),
    "splat": (
        lambda x: [splat(load_one(x + 8)), splat(constant(f32, 7))],
        lambda x: [x[0, 2:3], [7]],
    ),
    "total": (lambda x: [splat(total(load(x)))], lambda x: np.float32(x[0].astype("f8").sum())),
    "zeros": (lambda x: [zeros(), load(x)], lambda x: [0 * x[0], x[0]]),
    "to_float": (lambda x: [to_float(cast(load(x), i32x16))], lambda x: x[0].view("i4")),
    "rounded": (lambda x: [to_float(nearest(load(x) * 64))], lambda x: np.rint(x[0] * 64)),
}


@micro
def move(t, y, x):
    for i, (made, _) in enumerate(MOVES.values()):
        for j, vector in enumerate(made(x)):
            store(y + BYTES * (LANES * i + j), vector)


@native
def all_moves(t, part, parts, y, x):
    move(t, y, x)


@pytest.fixture(scope="module")
def moved():
    x = RNG.integers(-9999, 9999, (LANES, LANES)).astype("f4") / 128  # the sum of 16 is exact
    y = np.zeros((len(MOVES), LANES, LANES), "f4")
    bound(all_moves)(y, x)
    return x, dict(zip(MOVES, y))


@pytest.mark.parametrize("name", MOVES)
def test_moves(moved, name):
    x, made = moved
    wanted = np.atleast_2d(np.asarray(MOVES[name][1](x), "f4"))
    wanted = np.broadcast_to(wanted, (len(wanted), LANES))
    np.testing.assert_array_equal(made[name][: len(wanted)], wanted)
    assert (made[name][len(wanted) :] == 0).all()


@micro
def round_all(t, y, low, x, n):
    for i in loop(n):
        whole = nearest(load(x + BYTES * i))
        store(y + BYTES * i, whole)
        store(low + LANES * i, to_bytes(whole))


@native
def rounding(t, part, parts, y, low, x):
    round_all(t, at(y, 0), at(low, 0), at(x, 0), x.size // LANES)


def test_nearest_integers_and_their_lowest_bytes():
    ties = np.arange(-200, 200) + 0.5
    ends = [2**21 - 1, 1 - 2**21, 2**21 - 1.5, 0.49999997, -0.49999997, 0.5000001, -0.0, 300]
    x = np.concatenate([ties, ends, RNG.uniform(-(2**20), 2**20, 400 + 8)]).astype("f4")
    y, low = np.empty(x.shape, "i4"), np.empty(x.shape, "u1")
    bound(rounding)(y, low, x)
    np.testing.assert_array_equal(y, np.rint(x).astype("i4"))
    np.testing.assert_array_equal(low, np.rint(x).astype("i4").astype("u1"))


# ---- memory ----------------------------------------------------------------------------------------

VECTORS = {"f4": f32x16, "i4": i32x16, "u1": u8x16}


@micro
def pass_some(t, y, x, n):
    """Some lanes from memory, and some lanes to it."""
    v = VECTORS[t.kind]
    store_some(y, read_some(x, n, v) + constant(v.ir, 1), n)


@micro
def whole_vector(t, y, x, n):
    """All lanes of what is there only in part: the others are zeros."""
    store(y, read_some(x, n, VECTORS[t.kind]))


@native
def some(t, part, parts, y, full, x, n):
    pass_some(t, y, x, n)
    whole_vector(t, full, x, n)


@pytest.fixture
def before_the_wall():
    """array(bytes): memory of that many, behind which none may be read or written."""
    if sys.platform == "win32":
        pytest.skip("there is no mprotect")
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    size, walls = mmap.PAGESIZE, []

    def array(count):
        pages = mmap.mmap(-1, 2 * size)
        memory = np.frombuffer(pages, np.uint8, size)
        wall = memory.ctypes.data + size
        assert protect(wall, size, 0) == 0
        walls.append(wall)
        memory[:] = 77
        return memory, memory[size - count :]

    yield array
    for wall in walls:
        protect(wall, size, mmap.PROT_READ | mmap.PROT_WRITE)


@pytest.mark.parametrize("kind", VECTORS)
def test_some_lanes_touch_nothing_else(before_the_wall, kind):
    one = np.dtype(kind).itemsize
    run_by = {n: bound(some, Static(kind=kind), (n,)) for n in (-3, *range(LANES + 1), 1000)}
    for n, run in run_by.items():
        there = min(max(n, 0), LANES)
        (_, x), (room, y) = before_the_wall(there * one), before_the_wall(there * one)
        x, y, full = x.view(kind), y.view(kind), np.full(LANES, 99, kind)
        x[:] = np.arange(1, there + 1)
        run(y, full, x)
        np.testing.assert_array_equal(y, x + x.dtype.type(1))
        np.testing.assert_array_equal(full, np.append(x, np.zeros(LANES - there, kind)))
        assert (room[: room.size - y.nbytes] == 77).all()


@micro
def move_bytes(t, y, x, n):
    copy(y, x, n)
    fill(y + n, number(300), n)


@micro
def odd_places(t, y, x):
    """Vectors from and to wherever they are."""
    prefetch(x)
    store(y + 3, load(x + 5))
    store(y + 3 + BYTES, load_integers(x + 1))
    store(y + 3 + 2 * BYTES, load_some(x + 7, number(2)))


@native
def bytes_of(t, part, parts, y, z, x, n):
    move_bytes(t, y, x, n)
    odd_places(t, z, x)


@pytest.mark.parametrize("n", [0, 1, 7, 100])
def test_bytes(n):
    x = RNG.integers(0, 256, 128, np.uint8)
    y, z = np.full(300, 77, np.uint8), np.full(300, 77, np.uint8)
    bound(bytes_of, numbers=(n,))(y, z, x)
    assert (y[:n] == x[:n]).all() and (y[n : 2 * n] == 300 % 256).all() and (y[2 * n :] == 77).all()
    wanted = np.concatenate([x[5:69], x[1:65], x[7:15], np.zeros(56, np.uint8)])
    assert (z[3:195] == wanted).all() and (z[:3] == 77).all() and (z[195:] == 77).all()


@micro
def stream_all(t, y, x, n):
    for k in loop(n, 0, BYTES):
        stream(y + k, load(x + k))
    streamed()


@native
def streaming(t, part, parts, y, x):
    stream_all(t, at(y, 0), at(x, 0), x.size * 4)


def test_streams():
    x, room = RNG.standard_normal((3, LANES), np.float32), np.zeros(3 * LANES + LANES, "f4")
    first = -room.ctypes.data % BYTES // 4
    y = room[first : first + 3 * LANES].reshape(3, LANES)
    bound(streaming)(y, x)
    assert (y == x).all()


# ---- loops -----------------------------------------------------------------------------------------


@micro
def turns(t, y, start, stop, step):
    """Every k, one after the other."""
    to = registers([y])
    for k in loop(stop, start, step):
        store(to[0], k)
        to[0] = to[0] + 8


@micro
def nest(t, y, n):
    """Pairs of k and less, and how many there are; a loop of Python in loops of the machine.
    Some k add a hundred."""
    count, sums = registers([constant(i64, 0)]), registers([zeros(i32x16)] * 3)
    for k in loop(n):
        for _ in loop(k):
            count[0] = count[0] + 1
            for i in range(3):
                sums[i] = sums[i] + (i + 1)
        for _ in loop(number(0)):
            count[0] = count[0] + 1_000_000
        with when(k > 2):
            with when(k < 5):
                count[0] = count[0] + 100
    store(y, count[0])
    for i, x in enumerate(sums):
        store(y + 8 + BYTES * i, x)


@micro
def counts_known(t, y):
    """Numbers of turns that the compiler knows."""
    seen = registers([constant(i64, 0)])
    for n in 0, 1, 3:
        for k in loop(n):
            seen[0] = seen[0] * 10 + k + 1
    for k in loop(9, 5, 4):
        seen[0] = seen[0] * 10 + k
    store(y, seen[0])


@native
def looping(t, part, parts, y, nested, known, start, stop, step):
    turns(t, y, start, stop, step)
    nest(t, nested, stop)
    counts_known(t, known)


@pytest.mark.parametrize(
    "start, stop, step",
    [(0, 5, 1), (0, 1, 1), (0, 0, 1), (0, -4, 1), (3, 20, 4), (-6, 7, 3), (5, 5, 2), (9, 5, 2)],
)
def test_loops(start, stop, step):
    y, nested, known = np.full(20, -99), np.zeros(1 + 3 * 8, "i8"), np.zeros(1, "i8")
    bound(looping, numbers=(start, stop, step))(y, nested, known)
    wanted = [*range(start, stop, step)]
    assert [*y] == wanted + [-99] * (20 - len(wanted))
    pairs = sum(range(stop))
    assert nested[0] == pairs + 100 * sum(2 < k < 5 for k in range(stop))
    sums = nested[1:].view("i4").reshape(3, LANES)
    assert (sums == np.array([[1], [2], [3]]) * pairs).all()
    assert known[0] == 11235


# ---- in compiled code ------------------------------------------------------------------------------


@micro(f32x16)
def twice(x):
    return x + x


@micro(f32x16)
def of_a_tuple(t, places, many):
    """A micro-kernel of others; tuples and text of what is known."""
    a, b = map(load, places)
    for _ in range(t.times[1]):
        a = twice(a)
    return a * splat(many) + (b if t.then == "more" else -b)


@micro(types.intp)
def shifted(n):
    return n << 3


@native
def compiled(t, part, parts, y, x, z, n, f):
    a, b = load(at(x, 0)), load(at(x, 1))
    store(at(y, 0), a + b * a - b / splat(2.0))
    store(at(y, 16), splat(total(a)))
    store(at(y, 32), of_a_tuple(t, (at(x, 16), at(x, 32)), f))
    store(at(y, 48), simd.maximum(a, splat(np.int32(n) * load_one(at(x, 3)))))
    store(at(z, 0), load_integers(at(z, 0)) * load_integers(at(z, 16)) - load_integers(at(z, 32)))
    z[16] = shifted(n) + t.count
    z[17] = shifted(n > 2)


def test_in_compiled_code():
    x, z = RNG.standard_normal(64, np.float32), RNG.integers(-99, 99, 48, "i4")
    y, before = np.empty((4, LANES), "f4"), z.copy().reshape(3, LANES)
    t = Static(times=(0, 2), then="more", count=5)
    bound(compiled, t, (3, 0.5))(y, x, z)
    a, b = x[:16], x[1:17]
    np.testing.assert_array_equal(y[0], a + b * a - b / 2)
    np.testing.assert_allclose(y[1], a.sum(), 1e-5)
    np.testing.assert_array_equal(y[2], x[16:32] * 4 * np.float32(0.5) + x[32:48])
    np.testing.assert_array_equal(y[3], np.maximum(a, 3 * x[3]))
    np.testing.assert_array_equal(z[:16], before[0] * before[1] - before[2])
    assert z[16] == 29 and z[17] == 8


def test_statics_of_the_same_numbers_are_the_same_type():
    a, b, c = Static(rows=1, how="x"), Static(rows=1, how="x"), Static(rows=2, how="x")
    assert a.type == b.type and hash(a.type) == hash(b.type) and a.type != c.type
    assert Static(a="1").type != Static(a=1).type
    assert repr(a) == "Static(rows=1, how='x')"


@pytest.mark.parametrize("taken", ["name", "key", "what"])
def test_a_static_says_which_names_are_taken(taken):
    with pytest.raises(ArgumentError, match=f"a '{taken}' already: rename {taken}=3"):
        Static(**{taken: 3})


# ---- products of bytes -----------------------------------------------------------------------------

HOWS = [how for how in BY if how in HOST.features or how == "plain" or how == "pairs" and HOST.x86]


@micro
def dot_all(t, y, acc, u, s, n):
    for k in loop(n, 0, BYTES):
        for i, how in enumerate([None, *HOWS]):
            x = load_integers(acc + k), load_integers(u + k), load_integers(s + k)
            store(y + n * i + k, dot4(*x, by=how))


@native
def dots(t, part, parts, y, acc, u, s):
    dot_all(t, at(y, 0), at(acc, 0), at(u, 0), at(s, 0), u.size)


@pytest.fixture(scope="module")
def products():
    """(how -> sums, what they are): of bytes at their ends and within."""
    n = 4 * LANES * 100
    u = RNG.choice(np.array([0, 1, 127, 128, 254, 255], "u1"), n)
    s = RNG.choice(np.array([-128, -127, -1, 0, 1, 126, 127], "i1"), n)
    u[: n // 2 : 3], s[1 : n // 2 : 3] = (
        RNG.integers(0, 256, n, "u1")[: len(u[: n // 2 : 3])],
    ) * 2
    u[:64], s[:64], u[64:128], s[64:128] = 255, -128, 255, 127
    acc = RNG.choice(np.array([0, 1, -1, 2**30, -(2**31), 2**31 - 1, 12345], "i4"), n // 4)
    y = np.empty((1 + len(HOWS), n // 4), "i4")
    bound(dots)(y, acc, u, s)
    wanted = (u.astype("i4") * s).reshape(-1, 4).sum(1, dtype="i4") + acc
    return dict(zip([None, *HOWS], y)), wanted


@pytest.mark.parametrize("how", [None, *HOWS])
def test_products_of_bytes(products, how):
    made, wanted = products
    np.testing.assert_array_equal(made[how], wanted)


# ---- tiles -----------------------------------------------------------------------------------------

HOSTS = [
    Host(lanes, registers, fma, True, frozenset([dot] if dot else []))
    for lanes, registers in [(4, 16), (8, 16), (16, 32)]
    for fma in (False, True)
    for dot in ("", "avx512vnni")
] + [Host(4, 32, True, False, frozenset(["dotprod"]))]


@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize("host", HOSTS, ids=lambda h: h.name)
def test_what_a_tile_needs_is_there(monkeypatch, host, integer):
    monkeypatch.setattr(tile, "HOST", host)
    per = LANES // host.lanes
    for width, blocks in [(1, 1), (1000, 1), (1000, 2), (7, 2), (14, 4), ((14, 13), 3)]:
        rows, n = tile.shape(width, blocks, integer)
        assert blocks % n == 0 and 1 <= rows <= np.max(width)
        room = rows * n * per + n * per + 1  # sums, vectors of a line, a number in every lane
        assert room <= host.registers or rows == 1
        assert tile.shape(width, blocks, integer, among=(1, 2, 4))[0] in (1, 2, 4)


def test_tiles_of_known_cpus(monkeypatch):
    """As many rows as hide what a sum takes; all of a line's, where they fit."""
    wide = Host(16, 32, True, True, frozenset())
    for host, width, shape in [
        (wide, 14, (14, 2)), (wide, 7, (7, 2)), (wide, 28, (14, 2)),
        (Host(8, 16, True, True, frozenset()), 1000, (6, 1)),
        (Host(4, 16, False, True, frozenset()), 1000, (2, 1)),
    ]:  # fmt: skip
        monkeypatch.setattr(tile, "HOST", host)
        assert tile.shape(width, 2) == shape, host


@micro
def multiply(t, c, a, b, n):
    sums = tile.none(t)
    for k in loop(n):
        tile.multiply(t, sums, a + 16 * k, b + t.steps * t.vectors * BYTES * k)
    tile.put(t, sums, c, BYTES * t.vectors, BYTES)


@native
def product(t, part, parts, c, a, b):
    multiply(t, at(c, 0), at(a, 0), at(b, 0), a.shape[1] // t.steps)


def best_tile(integer):
    rows, vectors = tile.shape(1000, 2, integer)
    return tile.tile(rows, vectors, step=64, integer=integer)


@pytest.mark.parametrize("integer", [False, True])
def test_a_tile_multiplies(integer):
    t = best_tile(integer)
    shapes = (t.rows, 16), (16, t.vectors * LANES)
    if integer:
        a, b = (
            RNG.integers(0, 256, (*shapes[0], 4), "u1"),
            RNG.integers(-128, 128, (*shapes[1], 4), "i1"),
        )
        wanted = np.einsum("rki,kvi->rv", a.astype("i4"), b.astype("i4"))
    else:
        a, b = (RNG.integers(-99, 99, s).astype("f4") for s in shapes)
        wanted = a @ b
    c = np.empty(wanted.shape, wanted.dtype)
    bound(product, t)(c, a, b)
    np.testing.assert_array_equal(c, wanted)


def product_there(t, c, a, b, n):
    multiply(t, c, a, b, n)


# Where bytes are multiplied as 16 bits their halves are kept on the stack: large tiles are faster.
@pytest.mark.parametrize("integer", [False, True] if HOST.dot else [False])
def test_the_sums_of_a_tile_stay_in_registers(integer):
    f = inner(product_there)
    f.compile((best_tile(integer).type, *[types.intp] * 4))
    [text] = f.inspect_asm().values()
    vector = {16: "zmm", 8: "ymm", 4: "xmm"}[HOST.lanes] if HOST.x86 else "q"
    assert f"%{vector}" in text or not HOST.x86
    spilled = rf"\(%rsp\).*%{vector}|%{vector}.*\(%rsp\)|\b{vector}\d+, .*\[sp"
    assert len(re.findall(spilled, text)) == 0
