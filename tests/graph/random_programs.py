"""Random functions, as source: branches, loops and ways out of them, over integers and floats.

All variables have values from the start, loops end, and integers stay small."""

import random

import numpy as np

HELPER = """import tinyinfer as ti


def helper(z, k):
    if z > 0.2:
        return z * 0.5
    for j in range(2):
        if z < -0.5 and k > j:
            return z + 1.0
    return -z


def f(x, y, a, b, m):
    c = 2
"""


class Writer:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.lines, self.loops = [], 0
        self.integers, self.floats = ["a", "b", "c"], ["x", "y"]

    def program(self):
        for _ in range(4):
            self.statement(1, loop=False)
        self.write(1, "return x + y, a + b + c")
        return HELPER + "\n".join(self.lines) + "\n"

    def write(self, depth, line):
        self.lines.append("    " * depth + line)

    def one(self, *options):
        return self.random.choice(options)

    def some(self, low, high):
        return self.random.randint(low, high)

    # Expressions

    def integer(self):
        i = lambda: self.one(*self.integers)
        return self.one(
            f"{self.some(-3, 5)}",
            f"{i()}",
            f"({i()} * {self.some(2, 4)} + {i()}) % {self.some(5, 11)}",
            f"{i()} - {i()}",
            f"{i()} // {self.some(2, 3)}",
            f"({i()} if {self.simple()} else {i()})",
        )

    def real(self):
        x = lambda: self.one(*self.floats)
        return self.one(
            f"{x()}",
            f"{x()} * 0.5 + {x()}",
            f"{x()} * {self.one(0.3, -0.7)}",
            f"ti.tanh({x()} * {x()})",
            f"({x()} if {self.simple()} else {x()})",
            f"helper({x()}, {self.one(*self.integers)})",
        )

    def simple(self):
        i, x = (lambda: self.one(*self.integers)), (lambda: self.one(*self.floats))
        return self.one(
            f"{i()} {self.one('<', '>', '==', '!=')} {self.some(-1, 4)}",
            f"{i()} {self.one('<', '>')} {i()}",
            f"{x()} {self.one('<', '>')} {self.one(0.0, 0.5, -0.3)}",
            f"0 {self.one('<', '<=')} {i()} < {self.some(1, 5)}",
            f"{i()}",
        )

    def test(self):
        s = self.simple
        return self.one(
            s(), s(), f"{s()} and {s()}", f"{s()} or {s()} and {s()}", f"not ({s()} or {s()})"
        )

    # Statements

    def block(self, depth, loop):
        for _ in range(self.some(1, 3)):
            self.statement(depth, loop)

    def statement(self, depth, loop):
        kinds = [self.assign, self.assign, self.assign, self.leave]
        nested = [self.branch, self.branch, self.repeat, self.count, self.go_through]
        self.one(*kinds, *(nested if depth < 4 else []))(depth, loop)

    def assign(self, depth, loop):
        self.write(
            depth,
            self.one(
                f"{self.one('a', 'b', 'c')} = {self.integer()}",
                f"{self.one('x', 'y')} = {self.real()}",
                self.one("a += 1", "x *= 0.9", "b -= c", "y += x"),
            ),
        )

    def leave(self, depth, loop):
        if depth > 1 or self.some(0, 1):
            self.write(depth, f"if {self.test()}:")
            result = "return x + y * 0.5, a + 2 * b"
            self.write(depth + 1, self.one("break", "continue", result) if loop else result)

    def branch(self, depth, loop):
        for word in ("if", "elif")[: self.some(1, 2)]:
            self.write(depth, f"{word} {self.test()}:")
            self.block(depth + 1, loop)
        if self.some(0, 1):
            self.write(depth, "else:")
            self.block(depth + 1, loop)

    def repeat(self, depth, loop):
        self.loops += 1
        i, most = f"i{self.loops}", self.some(2, 4)
        endless = self.some(0, 3) == 0
        self.write(depth, f"{i} = {self.some(0, 1)}")
        self.write(depth, f"while {f'({self.test()}) and {i} < {most}' if not endless else True}:")
        self.write(depth + 1, f"{i} = {i} + 1")
        if endless:
            self.write(depth + 1, f"if {i} > {most} or {self.simple()}:")
            self.write(depth + 2, "break")
        self.body(depth, loop, self.integers, i)

    def count(self, depth, loop):
        self.loops += 1
        i, n = f"i{self.loops}", lambda: self.one("a", "b", "c")
        limits = self.one(
            f"{self.some(-1, 2)}, {self.some(0, 4)}",
            f"{self.some(0, 4)}, {self.some(-2, 2)}, {self.one(-1, -2)}",
            f"{n()} % 4",
            f"{n()} % 5, {n()} % 3, {self.one(-1, -2, 2)}",
        )
        self.write(depth, f"for {i} in range({limits}):")
        self.body(depth, loop, self.integers, i)

    def go_through(self, depth, loop):
        self.loops += 1
        if self.some(0, 1):
            self.write(depth, f"for r{self.loops} in m:")
            self.body(depth, loop, self.floats, f"r{self.loops}")
        else:
            numbers = [self.some(-2, 3) for _ in range(self.some(0, 3))]
            self.write(depth, f"for i{self.loops} in {numbers}:")
            self.body(depth, loop, self.integers, f"i{self.loops}")

    def body(self, depth, loop, variables, name):
        variables.append(name)
        self.block(depth + 1, True)
        variables.remove(name)
        if self.some(0, 4) == 0:
            self.write(depth, "else:")
            self.block(depth + 1, loop)


def load(seed, folder):
    """A random function, from a file in the folder."""
    path = folder / f"program{seed}.py"
    path.write_text(Writer(seed).program())
    names = {"__name__": path.stem}
    exec(compile(path.read_text(), str(path), "exec"), names)
    return names["f"]


def inputs_of(seed, i):
    r = np.random.RandomState(10 * seed + i)
    integers = [np.array(r.randint(-4, 6)) for _ in range(2)]
    return [np.array(r.randn()), np.array(r.randn()), *integers, r.randn(3)]
