"""The slots of the online study, compiled: who waits, and what its accumulators decide.

A restatement of a system with flaws, which is what the study's figures are of; the simulator
of this package is `wattshed.simulate`. Each model has a number of slots and a queue, first
come, first served. Queries come in groups at ticks, and those that have ended are noticed at
ticks only, after the group; or queries come one by one, and an end is noticed at once. A slot
is free again when its query leaves: any that has ended, or, as the study has it, only the one
that began first.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from wattshed.fit.forms import Array
from wattshed.route.accumulated import REMEMBERED, RESET_EVERY


class Queries(NamedTuple):
    """Queries in their order.

    Attributes
    ----------
    arrival_s : array (Q,)
        Never falling.
    energy_j, quality, runtime_s : arrays (Q, K)
        Of each query on each model. A runtime below 0, as the printed models have it for the
        shortest answers, keeps a slot for no time.
    """

    arrival_s: Array
    energy_j: Array
    quality: Array
    runtime_s: Array


class System(NamedTuple):
    """Where queries wait.

    Attributes
    ----------
    slots : int array (K,)
    head_of_line : bool
        Only the query that began first may leave.
    tick_s : float
        Ends are noticed at its multiples, at which queries then also come; 0 for at once.
    """

    slots: NDArray[np.int64]
    head_of_line: bool
    tick_s: float


class Weights(NamedTuple):
    """What the accumulators weigh: see `wattshed.route.accumulated`."""

    zeta: float
    queue_weight: float
    printed: bool


class Memory(NamedTuple):
    """What the accumulators hold.

    Attributes
    ----------
    total : array (K,)
    held : array (K, 2, 100)
        Energy and quality of the last queries of a model, in a ring.
    seen : int array (K,)
        Queries of a model that were ever held.
    scale : array (K, 2, 2)
        Least and most of `held`, or what stands for them until a query is held.
    """

    total: Array
    held: Array
    seen: NDArray[np.int64]
    scale: Array


class State(NamedTuple):
    """Of the slots.

    Attributes
    ----------
    leaving : list
        Heap of those that began: when each leaves, its number among them, model and query.
    busy : int array (K,)
        Slots that are taken.
    queue : int array (K, Q)
    ends : int array (K, 2)
        Places in `queue` of the first that waits, and after the last.
    begun : int array (1,)
        Queries that ever began.
    last_s : array (K,)
        When the last that began leaves, where only the first may.
    wait_s : array (Q,)
    """

    leaving: Any
    busy: NDArray[np.int64]
    queue: NDArray[np.int64]
    ends: NDArray[np.int64]
    begun: NDArray[np.int64]
    last_s: Array
    wait_s: Array


def make_memory(first: Array) -> Memory:
    """No query held yet.

    Parameters
    ----------
    first : array (K, 2)
        Energy and quality that count as the most until a query is held; the least is 0.
    """
    k = len(first)
    scale = np.stack([np.zeros((k, 2)), first], axis=2)
    return Memory(np.zeros(k), np.zeros((k, 2, REMEMBERED)), np.zeros(k, np.int64), scale)


@njit(cache=True)
def serve(queries: Queries, system: System, weights: Weights, memory: Memory, chosen: Any) -> Array:
    """Serve queries in order; how long each waits for a slot, array (Q,), in s.

    Parameters
    ----------
    queries : Queries
    system : System
    weights : Weights
    memory : Memory
        Written; its totals begin at 0.
    chosen : int array (Q,)
        Model of each query; -1 where the accumulators decide, which is then written. It stays
        -1 from where no total is finite: nothing more is served.
    """
    count, models = queries.runtime_s.shape
    memory.total[:] = 0.0
    state = State(
        [(0.0, 0, 0, 0)][1:],
        np.zeros(models, np.int64),
        np.empty((models, count), np.int64),
        np.zeros((models, 2), np.int64),
        np.zeros(1, np.int64),
        np.zeros(models),
        np.zeros(count),
    )
    for q in range(count):
        now = queries.arrival_s[q]
        if q > 0 and now > queries.arrival_s[q - 1]:
            until_s = queries.arrival_s[q - 1] if system.tick_s > 0 else now
            _leave(until_s, queries, system, weights, memory, state)
        if chosen[q] < 0:
            chosen[q] = _decide(q, queries, weights, memory, state)
            if chosen[q] < 0:
                return state.wait_s
        k = chosen[q]
        if state.busy[k] < system.slots[k]:
            _begin(now, k, q, queries, system, state)
        else:
            state.queue[k, state.ends[k, 1]] = q
            state.ends[k, 1] += 1
    until_s = queries.arrival_s[-1] if system.tick_s > 0 else np.inf
    while (state.ends[:, 0] < state.ends[:, 1]).any():
        _leave(until_s, queries, system, weights, memory, state)
        until_s += system.tick_s
    return state.wait_s


@njit(cache=True)
def _leave(
    until_s: float, queries: Queries, system: System, weights: Weights, memory: Memory, state: State
) -> None:
    """Let queries leave that have ended, and others begin in their slots."""
    while len(state.leaving) > 0 and state.leaving[0][0] <= until_s:
        left_s, _, k, gone = heappop(state.leaving)
        state.busy[k] -= 1
        if not weights.printed:
            memory.total[k] -= _cost(gone, k, queries, weights.zeta, memory)
        if state.ends[k, 0] < state.ends[k, 1]:
            q = state.queue[k, state.ends[k, 0]]
            state.ends[k, 0] += 1
            _begin(until_s if system.tick_s > 0 else left_s, k, q, queries, system, state)


@njit(cache=True)
def _begin(now_s: float, k: int, q: int, queries: Queries, system: System, state: State) -> None:
    state.wait_s[q] = now_s - queries.arrival_s[q]
    leaves_s = now_s + max(0.0, queries.runtime_s[q, k])
    if system.head_of_line:
        leaves_s = max(leaves_s, state.last_s[k])
        state.last_s[k] = leaves_s
    heappush(state.leaving, (leaves_s, state.begun[0], k, q))
    state.begun[0] += 1
    state.busy[k] += 1


@njit(cache=True)
def _decide(q: int, queries: Queries, weights: Weights, memory: Memory, state: State) -> int:
    """The model of least total, and what becomes of the totals; -1 if none is finite."""
    least, chosen = np.inf, -1
    for k in range(len(memory.total)):
        waiting = state.ends[k, 1] - state.ends[k, 0]
        own = _cost(q, k, queries, weights.zeta, memory)
        total = memory.total[k] + own + weights.queue_weight * waiting
        if total < least:
            least, chosen = total, k
    if not np.isfinite(least):
        return -1
    if weights.printed:
        memory.total[chosen] += least
    elif min(memory.seen[chosen], REMEMBERED) % RESET_EVERY == 0:
        memory.total[:] = 0.0
    else:
        memory.total[chosen] += _cost(q, chosen, queries, weights.zeta, memory)
    _hold(q, chosen, queries, memory)
    return chosen


@njit(cache=True)
def _cost(q: int, k: int, queries: Queries, zeta: float, memory: Memory) -> float:
    """ζ ê - (1 - ζ) â of a query, each scaled by what the model was sent last."""
    energy = _scaled(queries.energy_j[q, k], memory.scale[k, 0])
    quality = _scaled(queries.quality[q, k], memory.scale[k, 1])
    return zeta * energy - (1 - zeta) * quality


@njit(cache=True)
def _scaled(value: float, scale: Array) -> float:
    width = scale[1] - scale[0]
    return (value - scale[0]) / width if width != 0 else 0.0


@njit(cache=True)
def _hold(q: int, k: int, queries: Queries, memory: Memory) -> None:
    """Remember a query, and forget the one before the last 100."""
    place = memory.seen[k] % REMEMBERED
    memory.seen[k] += 1
    known = min(memory.seen[k], REMEMBERED)
    for quantity in range(2):
        value = (queries.energy_j if quantity == 0 else queries.quality)[q, k]
        held, scale = memory.held[k, quantity], memory.scale[k, quantity]
        forgotten = held[place]
        held[place] = value
        if known == 1 or (
            memory.seen[k] > REMEMBERED and (forgotten <= scale[0] or forgotten >= scale[1])
        ):
            scale[0], scale[1] = held[:known].min(), held[:known].max()
        else:
            scale[0], scale[1] = min(scale[0], value), max(scale[1], value)
