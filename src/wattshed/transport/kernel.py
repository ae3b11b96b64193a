"""One pass over all queries at given prices: compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from wattshed.transport.model import Array

NEGLIGIBLE = 16.0
"""Others that are dearer by so many temperatures get no share; it would be below 1e-6."""
NEAR = 4.0
"""Queries that lead by less than so many temperatures count as near ties."""


# Compiled code takes plain arrays and is one loop: splitting it would only hide it.
@njit(cache=True)
def price_out(  # noqa: C901, PLR0912, PLR0913, PLR0915, PLR0917
    cost: Array,
    features: Array,
    eligible: Any,
    count: Array,
    price: Array,
    reach: Array,
    kind: Any,
    temperature: float,
    choice: Any,
    rival: Any,
    margin: Array,
) -> tuple[float, float, Array, Array, int]:
    """Send each query to its cheapest deployment at the given prices, near ties to several.

    The share of a deployment falls by a factor e for each temperature by which its priced
    cost, relative to the query's size, exceeds the least.

    Parameters
    ----------
    cost, features, eligible, count, kind
        As in `Model`.
    price : array (K, D + 1)
        Surcharge on the constant and on each feature.
    reach : array (D + 1,)
        Weights that make leads relative to a query's size, as in `Model`.
    temperature : float
        Relative lead over which a query is spread; 0 for none.
    choice, rival, margin : arrays (Q,)
        Written: the cheapest deployment, or one of those that nearly tie, so that together
        they come near to the shares; the cheapest of another kind; and by how much the
        cheapest leads it, relative.

    Returns
    -------
    value : float
        Total of the least priced costs.
    smoothing : float
        By how much smoothing lowers `value`, at least 0.
    totals : array (K, D + 1)
        Queries and features by deployment.
    curvature : array (K, D + 1, K, D + 1)
        How totals respond to prices.
    ties : int
        Number of near ties.
    """
    q_count, k_count = cost.shape
    width = features.shape[0] + 1
    value, smoothing, ties = 0.0, 0.0, 0
    totals = np.zeros((k_count, width))
    curvature = np.zeros((k_count, width, k_count, width))
    priced = np.empty(k_count)
    where = np.empty(k_count, np.int64)
    share = np.empty(k_count)
    used = np.ones((k_count, width))
    owed = np.zeros(k_count)
    for q in range(q_count):
        best, second, other = np.inf, np.inf, np.inf
        first_k, other_k, places, size = 0, 0, 0, 0.0
        for k in range(k_count):
            priced[k] = np.inf
            if eligible[q, k]:
                here = cost[q, k] + price[k, 0]
                for d in range(1, width):
                    feature = features[d - 1, q, k]
                    here += price[k, d] * feature
                    size += reach[d] * abs(feature)
                places += 1
                priced[k] = here
                if here < best:
                    second = best
                    if kind[k] != kind[first_k]:
                        other, other_k = best, first_k
                    best, first_k = here, k
                else:
                    second = min(second, here)
                    if kind[k] != kind[first_k] and here < other:
                        other, other_k = here, k
        n = count[q]
        value += n * best
        choice[q], rival[q] = first_k, other_k
        size = max(reach[0] + size / places, 1e-300)
        lead = (second - best) / size
        margin[q] = (other - best) / size
        if not lead < NEGLIGIBLE * temperature:
            totals[first_k, 0] += n
            for d in range(1, width):
                totals[first_k, d] += n * features[d - 1, q, first_k]
            continue
        ties += lead < NEAR * temperature
        places, total = _spread(priced, best, temperature * size, where, share)
        smoothing += n * temperature * size * np.log(total)
        for i in range(places):
            k = where[i]
            owed[k] += n * size * share[i]
            if owed[k] > owed[first_k]:
                first_k = k
            for d in range(1, width):
                used[i, d] = features[d - 1, q, k]
        owed[first_k] -= n * size
        choice[q] = first_k
        _respond(
            where[:places], n * share, n / (temperature * size) * share, used, totals, curvature
        )
    return value, smoothing, totals, curvature, ties


@njit(cache=True)
def _spread(priced: Array, best: float, unit: float, where: Any, share: Array) -> Any:
    """Write the deployments that get any of a query, and their shares; return their number.

    Also returns the sum of the shares before they were divided by it.
    """
    places, total = 0, 0.0
    for k in range(len(priced)):
        far = (priced[k] - best) / unit
        if far < NEGLIGIBLE:
            where[places] = k
            share[places] = np.exp(-far)
            total += share[places]
            places += 1
    share[:places] /= total
    return places, total


@njit(cache=True)
def _respond(
    where: Any, amount: Array, rate: Array, used: Array, totals: Array, curvature: Array
) -> None:
    """Add one query's part of the totals, and of how they respond to prices."""
    width = used.shape[1]
    whole = rate[: len(where)].sum()
    for i in range(len(where)):
        k = where[i]
        for a in range(width):
            totals[k, a] += amount[i] * used[i, a]
            pull = rate[i] * used[i, a]
            for b in range(width):
                curvature[k, a, k, b] += pull * used[i, b]
                for j in range(len(where)):
                    curvature[k, a, where[j], b] -= pull * rate[j] / whole * used[j, b]
