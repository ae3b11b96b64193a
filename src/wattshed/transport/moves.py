"""The search for moves that save: compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from wattshed.transport.model import Array


@njit(cache=True)
def best_single(merit: Array, usage: Array, available: Array, room: Array) -> tuple[int, float]:
    """The move that is of most merit as often as it fits.

    Parameters
    ----------
    merit, available : arrays (P,)
        Of one query, and how many queries could move.
    usage : array (P, J)
    room : array (J,)

    Returns
    -------
    index : int
        -1 if no move of any merit fits.
    units : float
    """
    best, index, units = 0.0, -1, 0.0
    for i in range(len(merit)):
        fit = available[i]
        if merit[i] * fit <= best:
            continue
        for d in range(len(room)):
            if usage[i, d] > 0:
                fit = min(fit, np.floor(room[d] / usage[i, d]))
        if fit >= 1 and merit[i] * fit > best:
            best, index, units = merit[i] * fit, i, fit
    return index, units


@njit(cache=True)
def best_pair(  # noqa: PLR0913, PLR0917 - compiled code takes plain arrays
    cost: Array,
    penalty: Array,
    usage: Array,
    source: Any,
    room: Array,
    fine: Array,
    most: float,
    least: float,
) -> tuple[int, int]:
    """The one or two moves that save most, overrunning a bound being fined.

    Parameters
    ----------
    cost, penalty : arrays (P,)
        Moves in order of their penalty, what they cost beyond the price of what they use.
    usage : array (P, J)
    source : int array (P,)
    room : array (J,)
        Negative where a bound is overrun.
    fine : array (J,)
        More than the prices that penalties were reckoned with.
    most : float
        Worth of the room at the prices, and all fines: no moves save more than that less
        their penalties.
    least : float
        Savings up to which are not worth it.

    Returns
    -------
    first, second : int
        -1 if nothing saves enough; second is -1 if one move saves most.
    """
    fined = -np.sum(fine * np.minimum(room, 0.0))
    best, first, second = least, -1, -1
    left = np.empty(len(room))
    for i in range(len(cost)):
        if penalty[i] + min(penalty[i], 0.0) >= most - best:
            break
        for d in range(len(room)):
            left[d] = room[d] - usage[i, d]
        saving = fined - cost[i] + np.sum(fine * np.minimum(left, 0.0))
        if saving > best:
            best, first, second = saving, i, -1
        for j in range(i + 1, len(cost)):
            if penalty[i] + penalty[j] >= most - best:
                break
            saving = fined - cost[i] - cost[j]
            if saving > best and source[i] != source[j]:
                for d in range(len(room)):
                    saving -= fine[d] * max(usage[j, d] - left[d], 0.0)
                if saving > best:
                    best, first, second = saving, i, j
    return first, second
