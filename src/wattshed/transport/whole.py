"""Make a nearly whole assignment whole by a few moves: into the bounds, then cheaper.

The fractional optimum splits at most one query for each constraint. Rounding these
overruns some bounds a little and leaves room in others; queries that nearly tie move at
almost no cost, singly or in pairs, and even both out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wattshed.transport.model import Array
from wattshed.transport.polish import ROUNDING, Restricted, rank_within

MAX_MOVES = 3_000
PENALTY_WEIGHTS = (30.0, 3.0, 0.0)
MAX_MENDS, MAX_PAIRS = 50, 100
FEW, MANY = 600, 5_000
"""Moves of least penalty among which pairs are looked for, at first and at most."""
MAX_WIDE_PAIRS = 5
NEGLIGIBLE = 1e-8
"""Part of the cost that is not worth looking for the next pair."""
FINE, RISE, STRICT = 3.0, 3.0, 1e7
"""For overrunning a bound, in prices: at first, its growth, and what no saving pays for."""
MARGIN = 5e-7
"""Room, in parts of the cost, that is left free while aiming for the bounds."""


@dataclass(frozen=True)
class _Moves:
    """Every move of one query from one of its variables to another, in order of `penalty`.

    Attributes
    ----------
    source, target : int arrays (P,)
        Variables.
    route : int array (P,)
        Equal for moves between the same two deployments.
    cost, penalty : arrays (P,)
        Of the move itself, and with the price of the room that it takes.
    usage : array (P, J)
    """

    source: NDArray[np.int64]
    target: NDArray[np.int64]
    route: NDArray[np.int64]
    cost: Array
    penalty: Array
    usage: Array


@dataclass
class _Packing:
    """Whole queries on each variable, and the room that they leave; negative is an overrun."""

    moves: _Moves
    price: Array
    least: float
    amount: Array
    room: Array
    saved: float = 0.0

    @property
    def fits(self) -> bool:
        return bool((self.room >= 0).all())

    def take(self, index: int, units: float) -> None:
        """Make one move of so many queries."""
        moves = self.moves
        self.amount[moves.source[index]] -= units
        self.amount[moves.target[index]] += units
        self.room = self.room - units * moves.usage[index]
        self.saved -= units * float(moves.cost[index])

    def fill(self) -> None:
        """Fill the room that is left with moves that save, until none does.

        What a move saves is the price of the room that it takes less its penalty, the cost
        of leaving the fractional optimum. Moves of little penalty come first, so that room
        does not go to whichever query is merely large.
        """
        from wattshed.transport.moves import best_single  # numba: only where it is needed

        moves = self.moves
        for weight in PENALTY_WEIGHTS:
            merit = -moves.cost - weight * np.maximum(moves.penalty, 0)
            for _ in range(MAX_MOVES):
                index, units = best_single(merit, moves.usage, self.amount[moves.source], self.room)
                if index < 0:
                    break
                self.take(index, units)

    def take_pair(self, fine: Array, margin: float, width: int) -> bool:
        """Take the one or two moves that save most; False if none saves `least`.

        What exceeds the bounds less `margin` is fined.
        """
        from wattshed.transport.moves import best_pair  # numba: only where it is needed

        moves, room = self.moves, self.room - margin
        near = np.flatnonzero(self.amount[moves.source] >= 1)
        near = np.sort(near[np.argsort(rank_within(moves.route[near]), kind="stable")[:width]])
        pair = best_pair(
            moves.cost[near],
            moves.penalty[near],
            moves.usage[near],
            moves.source[near],
            room,
            fine,
            float(self.price @ room + fine @ np.clip(-room, 0, None)),
            self.least,
        )
        chosen = [int(near[i]) for i in pair if i >= 0]
        for index in chosen:
            self.take(index, 1.0)
        return bool(chosen)


def make_whole(
    part: Restricted, count: Array, amount: Array, price: Array, enough: float
) -> tuple[Array, Array]:
    """Move single queries and pairs until all is within bounds and can hardly be bettered.

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
    per_query = count[part.owner]
    cost, usage = part.cost / per_query, (part.usage / per_query).T
    packing = _Packing(
        _all_moves(part, cost, usage, price),
        price,
        NEGLIGIBLE * abs(enough),
        amount.copy(),
        part.room + ROUNDING - amount @ usage,
    )
    level = float(price.sum()) or abs(enough) or 1.0  # where nothing costs anything
    fine = FINE * (price + level / len(price))
    _into_bounds(packing, fine, MARGIN * abs(enough) / level)
    if packing.fits:
        _cheaper(packing, STRICT * fine, part.held_cost + float(cost @ amount) - enough)
    return packing.amount, np.clip(-packing.room, 0, None)


def _into_bounds(packing: _Packing, fine: Array, margin: float) -> None:
    """Move until all bounds are kept; aims lower, by a margin, for what is left over.

    Where nothing saves any more, fines for what is overrun rise, so that overruns wander to
    where there is room, and more moves are looked at.
    """
    width = FEW
    for _ in range(MAX_MENDS):
        if packing.fits:
            break
        if packing.take_pair(fine, margin, width):
            width = FEW
        elif width < MANY:
            fine = np.where(packing.room < margin, RISE * fine, fine)
            width *= 2
        else:
            break


def _cheaper(packing: _Packing, fine: Array, wanted: float) -> None:
    """Save within the bounds until nothing does, or as much as is wanted."""
    for width, pairs in ((FEW, MAX_PAIRS), (MANY, MAX_WIDE_PAIRS)):
        for _ in range(pairs):
            packing.fill()
            if packing.saved >= wanted or not packing.take_pair(fine, 0.0, width):
                break


def round_shares(part: Restricted, count: Array, share: Array) -> Array:
    """Largest remainder: whole queries on each variable, each query's count kept."""
    exact = share * count[part.owner]
    amount = np.floor(exact + 1e-9)
    missing = np.round(count - np.bincount(part.owner, amount, len(part.rows))).astype(np.int64)
    order = np.lexsort((-(exact - amount), part.owner))
    owner = part.owner[order]
    amount[order] += rank_within(owner) < missing[owner]
    return np.asarray(amount)


def _all_moves(part: Restricted, cost: Array, usage: Array, price: Array) -> _Moves:
    """Moves between the variables of the same query."""
    order = np.argsort(part.owner, kind="stable")
    owner = part.owner[order]
    width = int(np.bincount(part.owner).max(initial=1))
    sources, targets = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for offset in range(1, width):
        same = np.flatnonzero(owner[:-offset] == owner[offset:])
        first, second = order[same], order[same + offset]
        sources += [first, second]
        targets += [second, first]
    source, target = np.concatenate(sources), np.concatenate(targets)
    priced = cost + usage @ price
    penalty = priced[target] - priced[source]
    order = np.argsort(penalty, kind="stable")
    source, target = source[order], target[order]
    route = part.deployment[source] * (int(part.deployment.max()) + 1) + part.deployment[target]
    return _Moves(
        source,
        target,
        route,
        cost[target] - cost[source],
        penalty[order],
        usage[target] - usage[source],
    )
