"""From when to when each piece of memory is needed, and which values take turns in one.

    home ::= arena                  a buffer, for the planner to place
           | input i | constant     somebody else's: it is only read
           | output i               the result: it is made where it is given back
           | state                  what a State becomes, over what it was

A value moves into the home of one that it is made of in two cases: its step may write over that one,
and nothing else needs it any more; or they are the parts of a concatenation, which are made side by
side, so that nothing is left to copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..core.spec import Spec
from ..core.tensor import Node
from ..graph.graph import nbytes
from .memory import Buffer
from .order import Order, Work
from .values import Block


@dataclass(eq=False)
class Home:
    """The memory of one value, or of several that take turns."""

    kind: str
    key: object  # the number of the input or output; the State
    names: list[str]  # of the values, as in print(graph)
    size: int
    first: int  # stage
    last: int
    makers: set[Node]  # the steps that begin to write it
    users: set[Node]  # the steps that write or read it, but for those that one of them waits for
    within: Home | None = None  # what it is a part of,
    offset: int = 0  # and where that part begins

    @property
    def root(self) -> Home:
        home = self
        while home.within is not None:
            home = home.within
        return home

    @property
    def start(self) -> int:
        """Where in the root it begins, in bytes."""
        home, start = self, 0
        while home.within is not None:
            home, start = home.within, start + home.offset
        return start

    def serve(self, other: Home):
        """Be there for the users of another, too."""
        self.first, self.last = min(self.first, other.first), max(self.last, other.last)
        self.makers |= other.makers
        self.users |= other.users


class Copy(NamedTuple):
    """What is left to do when all steps are done."""

    node: Node
    kind: str  # "output" or "state"
    key: object  # which
    stash: int | None  # the buffer to go through, if what is copied is going to be overwritten


class Lifetimes:
    """`home[block]`; `buffers`, what has to lie in the arena, of which `number[home]` is that of a
    home and `scratch[step]` are those of the scratch arrays of a step; `over[step]`, the input that its
    result is written over; `joined[step]`, the inputs, by number, that are in place already;
    `copies`; and `waits[step]`, the steps that have to be done before it may write."""

    def __init__(self, work: Work, order: Order, alignment: int):
        self.work, self.values, self.graph = work, work.values, work.graph
        self.alignment, self.order = alignment, order
        self.at = {n: i for i, stage in enumerate(order.stages) for n in stage}
        self.end = len(order.stages)  # when the results are given back
        self.waits = {n: set() for n in order.steps}
        self.home = {b: self._own(b) for b in self.values.blocks}
        self._update_in_place()
        copies = [*self._results(), *self._updates()]
        self.joined = {n: self._join(n) for n in order.steps if joins(n)}
        self.over = {n: x for n in order.steps if (x := self._write_over(n))}
        self._make_buffers(copies)

    def _own(self, block: Block) -> Home:
        """A home for this block alone."""
        n, names = block.source, self.graph.names
        name, readers = names[n], block.readers
        if block.maker:
            users = {block.maker, *readers}
            first, last = self.at[n], max(self.at[m] for m in users)
            if self.values.block[n] is not block:
                name = f"{name}.{self.values.block[n].index(block)}"
            return Home("arena", None, [name], block.size, first, last, {n}, users)
        if n in self.graph.states:
            kind, key = "state", self.graph.states[n]
        elif n in self.graph.inputs:
            kind, key = "input", self.graph.inputs.index(n)
        else:
            kind, key = "constant", None
        return Home(kind, key, [name], block.size, 0, self.end, set(), set(readers))

    def _update_in_place(self):
        """What States become is written over what they were, if in this order nothing reads that
        later, and nothing can fail later."""
        symbols = {state: self.values.block[n] for n, state in self.graph.states.items()}
        failing = {n for n in self.at if n.op.raises}
        for block, state in self.work.into.items():
            old = symbols.get(state)
            first = (failing | {*(old.readers if old else ())}) - {block.maker}
            if all(self.at[m] < self.at[block.maker] for m in first):
                home = self.home[block]
                home.kind, home.key, home.last = "state", state, self.end
                self.waits[block.maker] |= first

    def _results(self):
        """An output is made where it is given back; else it is copied to there."""
        for i, n in enumerate(self.graph.outputs):
            block = self.values.block[n]
            home = self.home[block]
            home.last = self.end
            if home.kind == "arena" and self.values.fills(n):
                home.kind, home.key = "output", i
            else:
                yield n, "output", i

    def _updates(self):
        for state, n in self.graph.updates.items():
            block = self.values.block[n]
            home = self.home[block]
            in_place = block.maker and home.key is state
            if not in_place:
                home.last = self.end
                yield n, "state", state

    def _join(self, n) -> list[int]:
        """The inputs that are made side by side, where n would put them."""
        whole, start, found = self.home[self.values.block[n]], 0, []
        for i, x in enumerate(n.inputs):
            part = self.home[self.values.block[x]]
            free = part.kind == "arena" and part.within is None and part is not whole.root
            fits = part.size == nbytes(x.spec) and start % self.alignment == 0
            if whole.kind in ("arena", "output") and free and fits and self.values.fills(x):
                part.within, part.offset = whole, start
                whole.root.serve(part)
                found.append(i)
            start += nbytes(x.spec)
        return found

    def _write_over(self, n) -> Node | None:
        """The input whose home the result of n moves into."""
        if not isinstance(n.spec, Spec):
            return None
        block = self.values.block[n]
        mine = self.home[block]
        for x in (n.inputs[i] for i in self.work.kernels[n].over):
            there = self.values.block[x]
            if there not in self.work.over[n]:
                continue
            home = self.home[there]
            if mine.kind == "state":
                if home.kind == "state" and home.key is mine.key:
                    return x
            elif self._ends(home.root, n) and self._alone(home.root, there, n):
                # One home cannot be a part of two others, nor an output and a part.
                if home.within is None or mine.within is None and mine.kind == "arena":
                    self._move(n, mine, home)
                    self.home[block] = home
                    return x

    def _move(self, n, mine, home):
        """The result of n moves in, when all are done who used this memory up to now. Whoever waits for
        n has no need to wait for them; so the sets stay small where many move in one after the other."""
        before = home.root
        self.waits[n] |= before.users - {n}
        before.users, mine.makers = mine.users, set()
        if before is home:
            home.kind, home.key = mine.kind, mine.key
            home.within, home.offset = mine.within, mine.offset
        home.serve(mine)
        home.root.serve(home)
        home.names += mine.names

    def _ends(self, home, n) -> bool:
        """Does nothing need this memory when n has run, and only n while it runs?"""
        now = self.at[n]
        ends = home.kind == "arena" and home.last == now
        return ends and all(self.at[m] < now for m in home.users - {n})

    def _alone(self, home, block, n) -> bool:
        """Is this block all that n reads in this memory? A part of a concatenation lies in the whole."""
        return all(self.home[b].root is not home for b in self.values.reads(n) - {block})

    def _make_buffers(self, copies):
        self.buffers: list[Buffer] = []
        self.number: dict[Home, int] = {}
        self.makers: list[set[Node]] = []  # of each buffer
        self.users: list[set[Node]] = []
        self.scratch: dict[Node, list[int]] = {}
        for n in self.order.steps:
            for block in self.values.blocks_of(n):
                home = self.home[block].root
                if home.kind == "arena" and home not in self.number:
                    names = ", ".join(f"%{name}" for name in home.names)
                    self.number[home] = self._add(
                        names, home.size, home.first, home.last, home.makers, home.users
                    )
            name, i = f"%{self.graph.names[n]} scratch", self.at[n]
            specs = self.work.kernels[n].scratch
            self.scratch[n] = [self._add(name, nbytes(spec), i, i, {n}, {n}) for spec in specs]
        self.copies = [Copy(*c, self._stash(*c)) for c in copies]

    def _add(self, name, size, first, last, makers=(), users=()) -> int:
        self.buffers.append(Buffer(name, size, first, last))
        self.makers.append(makers)
        self.users.append(users)
        return len(self.buffers) - 1

    def _stash(self, n, kind, key) -> int | None:
        """If a State becomes what another one was, and that changes too: a buffer to go through."""
        block = self.values.block[n]
        home = self.home[block]
        old = home.kind == "state" and block.maker is None
        if kind == "state" and old and home.key in self.graph.updates:
            return self._add(f"%{self.graph.names[n]}", nbytes(n.spec), self.end, self.end)


def joins(n) -> bool:
    return n.op.joins(n.spec, *[x.spec for x in n.inputs])
