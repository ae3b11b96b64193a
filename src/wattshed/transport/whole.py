"""Make a nearly whole assignment whole by single moves: first into the bounds, then cheaper.

The fractional optimum splits at most one query for each constraint. Rounding these
overruns some bounds a little and leaves room in others; queries that nearly tie move at
almost no cost and even both out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wattshed.transport.model import Array
from wattshed.transport.polish import ROUNDING, Restricted

MAX_MOVES = 3_000
PENALTY_WEIGHTS = (30.0, 3.0, 0.0)
MAX_PAIRS = 40
PAIR_MOVES = 600
"""Moves among which pairs are looked for."""


@dataclass(frozen=True)
class _Moves:
    """Every move of one query from one of its variables to another, arrays (P,)."""

    source: NDArray[np.int64]
    target: NDArray[np.int64]
    cost: Array
    usage: Array

    def units(self, amount: Array, room: Array) -> Array:
        """How many queries each move may take without overrunning a bound further."""
        with np.errstate(divide="ignore", invalid="ignore"):
            fit = np.where(self.usage > 0, np.floor(room / self.usage), np.inf).min(axis=1)
        return np.asarray(np.clip(np.minimum(amount[self.source], fit), 0, None))


def make_whole(
    part: Restricted, count: Array, amount: Array, price: Array, enough: float
) -> tuple[Array, Array]:
    """Move single queries until the assignment is within bounds and can hardly be bettered.

    Parameters
    ----------
    part : Restricted
    count : array (T,)
        How often each free query occurs.
    amount : array (V,)
        Whole queries on each variable, perhaps a little over some bounds.
    price : array (J,)
    enough : float
        Cost of the whole problem below which no further saving is looked for.

    Returns
    -------
    amount : array (V,)
    overrun : array (J,)
        By how much bounds are still exceeded when no move helps; zero if all is well.
    """
    amount = amount.copy()
    per_query = count[part.owner]
    cost, usage = part.cost / per_query, (part.usage / per_query).T
    moves = _all_moves(part, cost, usage)
    room = part.room + ROUNDING - amount @ usage
    penalty = moves.cost + moves.usage @ price
    room = _into_bounds(moves, amount, room, penalty)
    if (room < 0).any():
        return amount, np.clip(-room, 0, None)
    room = _cheaper(moves, amount, room, penalty)
    for _ in range(MAX_PAIRS):
        if part.held_cost + float(cost @ amount) <= enough:
            break
        better = _cheaper_pair(moves, amount, room, penalty)
        if better is None:
            break
        room = _cheaper(moves, amount, better, penalty)
    return amount, np.zeros(len(room))


def round_shares(part: Restricted, count: Array, share: Array) -> Array:
    """Largest remainder: whole queries on each variable, each query's count kept."""
    exact = share * count[part.owner]
    amount = np.floor(exact + 1e-9)
    missing = np.round(count - np.bincount(part.owner, amount, len(part.rows))).astype(np.int64)
    order = np.lexsort((-(exact - amount), part.owner))
    owner = part.owner[order]
    rank = np.arange(len(order)) - np.searchsorted(owner, owner)
    amount[order] += rank < missing[owner]
    return np.asarray(amount)


def _all_moves(part: Restricted, cost: Array, usage: Array) -> _Moves:
    """Moves between the variables of the same query."""
    order = np.argsort(part.owner, kind="stable")
    owner = part.owner[order]
    width = int(np.bincount(part.owner).max(initial=1))
    sources, targets = [], []
    for offset in range(1, width):
        same = np.flatnonzero(owner[:-offset] == owner[offset:])
        first, second = order[same], order[same + offset]
        sources += [first, second]
        targets += [second, first]
    source = np.concatenate(sources) if sources else np.empty(0, np.int64)
    target = np.concatenate(targets) if targets else np.empty(0, np.int64)
    return _Moves(source, target, cost[target] - cost[source], usage[target] - usage[source])


def _into_bounds(moves: _Moves, amount: Array, room: Array, penalty: Array) -> Array:
    """Take the move that costs least for what it relieves until no bound is overrun.

    A move may overrun another bound as long as the sum of all overruns falls.
    """
    for _ in range(MAX_MOVES):
        overrun = np.clip(-room, 0, None).sum()
        if overrun == 0:
            break
        relief = overrun - np.clip(moves.usage - room, 0, None).sum(axis=1)
        useful = (relief > 1e-6 * overrun) & (amount[moves.source] >= 1)
        if not useful.any():
            break
        rate = np.where(useful, np.maximum(penalty, 0) / np.maximum(relief, 1e-300), np.inf)
        best = int(np.argmin(rate))
        room = _take(moves, best, 1.0, amount, room)
    return room


def _cheaper(moves: _Moves, amount: Array, room: Array, penalty: Array) -> Array:
    """Fill the room that is left with moves that save, until none does.

    What a move saves is the price of the room that it takes less its penalty, the cost of
    leaving the fractional optimum. Moves of little penalty come first, so that room does
    not go to whichever query is merely large.
    """
    weights = iter(PENALTY_WEIGHTS)
    weight = next(weights)
    for _ in range(MAX_MOVES):
        units = moves.units(amount, room)
        merit = np.where(moves.cost < 0, -moves.cost - weight * np.maximum(penalty, 0), 0) * units
        best = int(np.argmax(merit)) if len(merit) else -1
        if best >= 0 and merit[best] > 0:
            room = _take(moves, best, float(units[best]), amount, room)
            continue
        following = next(weights, None)
        if following is None:
            break
        weight = following
    return room


def _cheaper_pair(moves: _Moves, amount: Array, room: Array, penalty: Array) -> Array | None:
    """Take the two moves that together save most and fit; None if no pair saves anything.

    Only pairs among the moves that cost least at the prices are tried.
    """
    open_moves = np.flatnonzero(amount[moves.source] >= 1)
    if len(open_moves) > PAIR_MOVES:
        nearest = np.argpartition(penalty[open_moves], PAIR_MOVES)[:PAIR_MOVES]
        open_moves = open_moves[nearest]
    cost, usage = moves.cost[open_moves], moves.usage[open_moves]
    saving = -(cost[:, None] + cost[None, :])
    same = moves.source[open_moves][:, None] == moves.source[open_moves][None, :]
    fits = (saving > 0) & ~same
    for j in range(len(room)):
        fits &= usage[:, None, j] + usage[None, :, j] <= room[j]
    if not fits.any():
        return None
    best = int(np.argmax(np.where(fits, saving, 0.0)))
    first, second = (int(open_moves[i]) for i in divmod(best, len(open_moves)))
    room = _take(moves, first, 1.0, amount, room)
    return _take(moves, second, 1.0, amount, room)


def _take(moves: _Moves, index: int, units: float, amount: Array, room: Array) -> Array:
    amount[moves.source[index]] -= units
    amount[moves.target[index]] += units
    return np.asarray(room - units * moves.usage[index])
