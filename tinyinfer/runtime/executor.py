"""Who carries out a plan: the caller, or several threads. Each call that is in flight has an arena."""

import os
from _thread import start_new_thread
from contextvars import copy_context
from functools import partial
from heapq import heappop, heappush
from operator import methodcaller
from queue import SimpleQueue
from sys import getrefcount
from threading import Lock, RLock
from weakref import finalize

import numpy as np

from ..core.op import watchers
from ..core.tensor import State
from ..graph.graph import flops, nbytes, traffic
from ..kernels.threads import chosen_threads
from .arena import Arena, tell, watched
from .machine import ASSUMED
from .order import users_of
from .plan import Plan

KEPT = 2  # arrays of a result: while the caller holds one, the next call writes into the other


class Executor:
    """Arrays in, a list of arrays out. It may be called from several threads at once; what States
    become is written into them, one call after the other."""

    def __init__(self, plan: Plan, threads: int = 1, arena=Arena):
        self.plan, self.threads, self.arena = plan, threads, arena
        self.idle: list[tuple[Arena, list]] = []  # arenas, with the results that they have written
        # All take them in the same order: or else two could wait for each other.
        self.locks = [lock_of(s) for s in sorted(plan.graph.updates, key=id)]
        if threads > 1:
            self.after = users_of(plan.order.steps, plan.before)
            self.urgency = urgency(plan, self.after)

    def __call__(self, inputs, watch=None) -> list[np.ndarray]:
        # All locks in one call, of C: between two steps of Python an interrupt may come, and leave one
        # of them locked for good.
        if not self.locks:
            return self._call(inputs, watch)
        taken, returned = map(take, self.locks), map(give_back, self.locks)
        try:
            all(taken)
            return self._call(inputs, watch)
        finally:
            try:
                any(returned)
            except RuntimeError:  # an interrupt came while it waited: the next one is not ours
                pass

    def _call(self, inputs, watch):
        graph = self.plan.graph
        graph.expect_states()
        arena, kept = self._idle_or_new()
        results = [writable(arrays, n.spec) for arrays, n in zip(kept, graph.outputs)]
        mine = dict(zip(graph.updates, map(own, graph.updates)))
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
            return self.arena(self.plan), [[] for _ in self.plan.graph.outputs]


LOCKS = {}  # by id of the State
take, give_back = methodcaller("acquire"), methodcaller("release")


def lock_of(state) -> RLock:
    """Whoever changes the State has it: several graphs may."""
    if id(state) not in LOCKS:
        finalize(state, LOCKS.pop, id(state), None)
    return LOCKS.setdefault(id(state), RLock())


def writable(arrays: list, spec) -> np.ndarray:
    """One of the arrays that nobody else holds; else a new one, which is kept among them."""
    for array in arrays:
        if getrefcount(array) == ALONE:
            return array
    arrays.append(np.empty(*spec))
    del arrays[:-KEPT]
    return arrays[-1]


def own(state: State) -> np.ndarray:
    """The array of the State, to be written to; if somebody else holds it, or a node with it, a copy:
    nothing that was recorded changes."""
    node = state.held
    value = node.value
    alone = getrefcount(node) == NODE and getrefcount(value) == VALUE
    return value if alone and value.base is None and value.flags.carray else value.copy()


def holders(things: list) -> int:
    """How many hold the first, and a few more, always as many."""
    for thing in things:
        return getrefcount(thing)


def holders_of(state) -> tuple[int, int]:
    """Of its node, and of the array in that."""
    node = state.held
    value = node.value
    return getrefcount(node), getrefcount(value)


ALONE = holders([np.empty(1)])
NODE, VALUE = holders_of(State(np.zeros(1)))


def urgency(plan: Plan, after) -> dict:
    """{step: how long it takes from its beginning to the end of all that waits for it}, if nobody has
    to wait for a thread, and each step takes what an assumed machine would."""
    found = {}
    for n in reversed(plan.order.steps):
        moved = sum(traffic(n)) + 2 * sum(map(nbytes, plan.kernels[n].scratch))
        seconds = flops(n) / ASSUMED.peak + moved / ASSUMED.bandwidth
        found[n] = seconds + max((found[m] for m in after[n]), default=0)
    return found


class Crew:
    """The threads of one run. Each takes the step that is most urgent of those that are ready, and then
    another. Results do not depend on who does what: a step begins when all is done that it, or its
    memory, has to wait for. (Graham 1969, "Bounds on multiprocessing timing anomalies": with two
    threads such a list takes at most half as long again as the best schedule.)

    An error in one of them ends the run: the others finish what they have begun."""

    def __init__(self, executor, arena, watch):
        self.after, self.urgency = executor.after, executor.urgency
        self.arena, self.watch, self.threads = arena, watch, executor.threads
        self.missing = {n: len(before) for n, before in executor.plan.before.items()}
        self.calls = {n: (run, args) for n, run, args in arena.calls}
        self.ready, self.tickets = [], SimpleQueue()  # a heap; a ticket for each step in it
        self.lock, self.left, self.error = Lock(), len(self.calls), None
        self.helpers, self.over = 0, SimpleQueue()  # at work; a word from each that ends

    def run(self, inputs, results, states):
        self.arena.fill(inputs, results, states)
        try:
            if self.left:
                self._do_all()
            if self.error:
                tell(*self.error, self.arena.plan.graph)
            self.arena.finish(results, states)
        finally:
            self.error = ENDED  # another's traceback holds this crew, and the arrays of the call
            if not self.helpers:  # an interrupt may have come while they were waited for
                self.arena.empty()

    def _do_all(self):
        for n, count in self.missing.items():
            if not count:
                self._push(n)
        try:
            for lane in range(1, self.threads):  # with the caller's np.errstate
                helped(partial(copy_context().run, self.help, lane))
            self.work(0)
        except BaseException as error:  # KeyboardInterrupt, while it waited for a step
            self.error = error, None
        self._stop()
        while self.helpers:  # nobody may still be at work in this arena
            self.over.get()

    def help(self, lane):
        """Work, unless it is over: what is counted here is waited for."""
        with self.lock:
            if self.error or not self.left:
                return
            self.helpers += 1
        try:
            self.work(lane)
        except BaseException as error:
            self.error = self.error or (error, None)
            self._stop()
        finally:
            with self.lock:
                self.helpers -= 1
            self.over.put(lane)

    def work(self, lane):
        """Do what is ready, until it is over; after an error nothing more."""
        while self.tickets.get():
            with self.lock:
                n = self._pop()
            while n is not None and not self.error:
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
        """Tell those that waited for n. Whoever finds steps that are ready then goes on with one."""
        with self.lock:
            self.left -= 1
            found = 0
            for m in self.after[n]:
                self.missing[m] -= 1
                if not self.missing[m]:
                    self._push(m, ticket=found > 0)
                    found += 1
            if not self.left:
                self._stop()
            return self._pop() if found else None

    def _push(self, n, ticket=True):
        heappush(self.ready, (-self.urgency[n], n.born, n))
        if ticket:
            self.tickets.put(True)

    def _pop(self):
        return heappop(self.ready)[2]

    def _stop(self):
        for _ in range(self.threads):
            self.tickets.put(False)


# The threads that help, each with its queue of work. Only queues of C: in the locks of Python's own pool
# an interrupt may come when one is taken and nobody yet knows, and then it stays locked.
resting: list[SimpleQueue] = []
os.register_at_fork(after_in_child=resting.clear)
ENDED = "ended", None


def helped(work):
    """Let a thread that rests do it, or a new one."""
    try:
        queue = resting.pop()
    except IndexError:
        queue = SimpleQueue()
        start_new_thread(serve, (queue,))
    queue.put(work)


def serve(queue):
    while True:
        queue.get()()
        resting.append(queue)
