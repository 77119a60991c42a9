"""Who carries out a plan: the caller, or several threads. Each call that is in flight has an arena."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import copy_context
from functools import cache
from itertools import starmap
from queue import SimpleQueue
from sys import getrefcount
from threading import Lock
from weakref import finalize

import numpy as np

from ..core.op import watchers
from ..core.tensor import State
from ..errors import GraphError
from ..graph.verify import wrong_state
from ..kernels.threads import chosen_threads
from .arena import Arena, fail, watched
from .order import users_of
from .plan import Plan

KEPT = 2  # arrays of a result: while the caller holds one, the next call writes into the other


class Executor:
    """Arrays in, a list of arrays out. It may be called from several threads at once; what States
    become is written into them, one call after the other."""

    def __init__(self, plan: Plan, threads: int = 1):
        self.plan, self.threads = plan, threads
        self.idle: list[tuple[Arena, list]] = []  # arenas, with the results that they have written
        self.updating = [lock_of(s) for s in sorted(plan.graph.updates, key=id)]
        if threads > 1:
            self.after = users_of(plan.order.steps, plan.before)

    def __call__(self, inputs, watch=None) -> list[np.ndarray]:
        with ExitStack() as stack:
            for lock in self.updating:
                stack.enter_context(lock)
            return self._call(inputs, watch)

    def _call(self, inputs, watch):
        graph = self.plan.graph
        expect_states(graph)
        arena, kept = self._idle_or_new()
        results = [writable(arrays, n.spec) for arrays, n in zip(kept, graph.outputs)]
        mine = {s: own(s) for s in graph.updates}
        states = {s: s.node.value for s in graph.states.values()} | mine
        try:
            with chosen_threads:
                if self.threads > 1:
                    Crew(self, arena, watch).run(inputs, results, states)
                else:
                    arena.run(inputs, results, states, watch)
        finally:
            for s, array in mine.items():
                s.hold(array)
        self.idle.append((arena, kept))  # not after an error: who knows who is still at work in it
        return results

    def _idle_or_new(self):
        try:
            return self.idle.pop()
        except IndexError:
            return Arena(self.plan), [[] for _ in self.plan.graph.outputs]


LOCKS = {}


def lock_of(state) -> Lock:
    """Whoever changes the State has it: several graphs may."""
    if id(state) not in LOCKS:
        finalize(state, LOCKS.pop, id(state), None)
    return LOCKS.setdefault(id(state), Lock())


def expect_states(graph):
    if wrong := next(filter(None, starmap(wrong_state, graph.states.items())), ""):
        raise GraphError(f"this graph depends on {wrong}")


def writable(arrays: list, spec) -> np.ndarray:
    """One of the arrays that nobody else holds; else a new one, which is kept among them."""
    for i in range(len(arrays)):
        if holders(arrays, i) == ALONE:
            return arrays[i]
    arrays.append(np.empty(*spec))
    del arrays[:-KEPT]
    return arrays[-1]


def own(state: State) -> np.ndarray:
    """The array of the State, to be written to; if somebody else holds it, or a node with it, a copy:
    nothing that was recorded changes."""
    value = state.node.value
    mine = value.base is None and value.flags.carray
    del value
    return state.node.value if mine and alone(state) == ALONE_IN_STATE else state.node.value.copy()


def holders(things: list, i) -> int:
    """How many hold it, and a few more, always as many."""
    return getrefcount(things[i])


def alone(state) -> tuple[int, int]:
    """The holders of its node, and of the array in that."""
    node = state.node
    return holders([node], 0), holders([node.value], 0)


ALONE = holders([np.empty(1)], 0)
ALONE_IN_STATE = alone(State(np.zeros(1)))


class Crew:
    """The threads of one run. Each takes a step that is ready, and then another. Results do not depend
    on who does what: a step begins when all is done that it, or its memory, has to wait for.

    An error in one of them ends the run: the others finish what they have begun."""

    def __init__(self, executor, arena, watch):
        self.after, self.arena, self.watch = executor.after, arena, watch
        self.threads = executor.threads
        before = executor.plan.before
        self.missing = {n: len(before[n]) for n in before}
        self.calls = {n: (run, args) for n, run, args in arena.tape}
        self.ready, self.lock, self.left, self.error = SimpleQueue(), Lock(), len(self.calls), None

    def run(self, inputs, results, states):
        arena = self.arena
        arena.fill(inputs, results, states)
        try:
            if self.left:
                self._do_all()
            if self.error:
                fail(*self.error, arena.plan.graph)
            arena.finish(results, states)
        finally:
            self.error = None  # its traceback holds this crew, and the arrays of the call
            arena.empty()

    def _do_all(self):
        for n, count in self.missing.items():
            if not count:
                self.ready.put(n)
        helpers = []
        try:
            for lane in range(1, self.threads):  # with the caller's np.errstate
                helpers.append(crew().submit(copy_context().run, self.work, lane))
            self.work(0)
        except BaseException as error:  # KeyboardInterrupt, while it waited for a step
            self.error = error, None
        self._stop()
        for helper in helpers:  # nobody may still be at work in this arena
            if not helper.cancel():
                helper.result()

    def work(self, lane):
        """Steps from the queue, until there is None; after an error none of them."""
        while (n := self.ready.get()) is not None:
            while n is not None and not self.error:  # of what is ready then, one is done at once
                run, args = self.calls[n]
                try:
                    if self.watch or watchers:
                        watched(n, run, args, self.watch, lane)
                    else:
                        run(*args)
                except BaseException as error:
                    with self.lock:
                        self.error = self.error or (error, n)
                    return self._stop()
                n = self._done(n)

    def _done(self, n):
        """Tell the steps that waited for n; the next one to do."""
        found = None
        with self.lock:
            self.left -= 1
            for m in self.after[n]:
                self.missing[m] -= 1
                if not self.missing[m]:
                    if found is None:
                        found = m
                    else:
                        self.ready.put(m)
            if not self.left:
                self._stop()
            return found

    def _stop(self):
        for _ in range(self.threads):
            self.ready.put(None)


@cache
def crew() -> ThreadPoolExecutor:
    """The helpers of all runs. They wait for work; a run that gets none of them is done all the same."""
    return ThreadPoolExecutor(
        max_workers=max(32, os.cpu_count() or 1), thread_name_prefix="tinyinfer"
    )
