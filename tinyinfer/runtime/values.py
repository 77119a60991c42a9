"""Which memory each value of a graph is in: a block of its own, or that of what it is a view of.

Whether a view is one, NumPy decides: to reshape what was transposed takes a copy. So every value has a
stand-in, an array with its strides: zeros in memory that is never touched.
"""

from functools import cached_property
from mmap import mmap

import numpy as np

from ..core.spec import Spec
from ..core.tensor import Node
from ..graph.control import TupleGet
from ..graph.graph import Graph, nbytes


class Block:
    """The memory of a value that is no view: an input's, a constant's, a State's, or of what a step
    makes, which has one block for each of its outputs."""

    __slots__ = ("maker", "readers", "size", "source", "spec")

    def __init__(self, source: Node, spec: Spec, maker: Node | None):
        self.source, self.spec, self.maker = source, spec, maker
        self.size = nbytes(spec)
        self.readers: list[Node] = []  # the steps that look at it, or at a view of it, by age


class Values:
    """`block[n]` is the memory of the value of n, or the blocks of a tuple; `own` are the nodes that
    are no views, and `work` the steps among them, by age: a view needs nobody to make it."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.blocks: list[Block] = []
        self.block: dict[Node, Block | tuple[Block, ...]] = {}
        self.stand_in: dict[Node, np.ndarray | tuple[np.ndarray, ...]] = {}
        self._zeros = untouched(max((nbytes(n.spec) for n in graph.nodes), default=0))
        for n in graph.sources:
            self._own(n, None)
        self.stand_in |= {n: n.value for n in graph.constants}  # one number may stand for all
        work = []
        for n in graph.steps:
            if not self._add_view(n):
                work.append(n)
                self._own(n, n)
                for block in self.reads(n):
                    block.readers.append(n)
        self.work = tuple(work)
        self.own = {*graph.sources, *work}

    def _own(self, n, maker):
        specs = [n.spec] if isinstance(n.spec, Spec) else n.spec
        made = tuple(Block(n, spec, maker) for spec in specs)
        arrays = tuple(carve(self._zeros, 0, spec) for spec in specs)
        single = isinstance(n.spec, Spec)
        self.blocks += made
        self.block[n], self.stand_in[n] = (made[0], arrays[0]) if single else (made, arrays)

    def _add_view(self, n) -> bool:
        """Note that it is another look at its input, if it is."""
        if not (n.op.view or n.op.alias):
            return False
        (x,) = n.inputs
        look = n.op.forward(self.stand_in[x])
        if isinstance(n.op, TupleGet):
            self.block[n] = self.block[x][n.op.index]
        elif isinstance(look, np.ndarray) and np.may_share_memory(look, self.stand_in[x]):
            self.block[n] = self.block[x]
        else:
            return False
        self.stand_in[n] = look
        return True

    def blocks_of(self, n) -> tuple[Block, ...]:
        found = self.block[n]
        return found if isinstance(found, tuple) else (found,)

    def reads(self, n) -> set[Block]:
        return {b for x in n.inputs for b in self.blocks_of(x)}

    def fills(self, n) -> bool:
        """Is its value all that is in its block, one number after the other?"""
        block, look = self.block[n], self.stand_in[n]
        return isinstance(block, Block) and look.nbytes == block.size and look.flags.c_contiguous

    def same_look(self, a, b) -> bool:
        """Are two values in one block the same numbers of it, in the same places?"""
        a, b = self.stand_in[a], self.stand_in[b]
        at = lambda x: (x.__array_interface__["data"], x.shape, x.strides)
        return at(a) == at(b)

    @cached_property
    def before(self) -> dict[Node, set[Node]]:
        """The steps whose results each step needs."""
        return {n: {b.maker for b in self.reads(n) if b.maker} for n in self.work}


def untouched(size) -> np.ndarray:
    """Bytes of which none is in memory before it is looked at. (`np.zeros` may write to what was freed.)"""
    return np.frombuffer(mmap(-1, max(size, 1)), np.uint8)


def carve(memory: np.ndarray, offset: int, spec: Spec) -> np.ndarray:
    """The array of this spec at so many bytes in the memory."""
    return memory[offset : offset + nbytes(spec)].view(spec.dtype).reshape(spec.shape)
