"""One pass over all queries at given prices: compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from wattshed.transport.model import Array

NEGLIGIBLE = 16.0
"""Leads of so many heats leave the others a share below 1e-6."""
NEAR = 4.0
"""Leads of so many heats still count as near ties."""


# Compiled code takes plain arrays and is one loop: splitting it would only hide it.
@njit(cache=True)
def price_out(  # noqa: C901, PLR0912, PLR0913, PLR0914, PLR0915, PLR0917
    cost: Array,
    features: Array,
    eligible: Any,
    count: Array,
    price: Array,
    reach: Array,
    heat: float,
    choice: Any,
    margin: Array,
) -> tuple[float, float, Array, Array, int]:
    """Send each query to its cheapest deployment at the given prices, near ties to several.

    The share of a deployment falls by a factor e for each heat by which its relative priced
    cost exceeds the least.

    Parameters
    ----------
    cost, features, eligible, count
        As in `Model`.
    price : array (K, D + 1)
        Surcharge on the constant and on each feature.
    reach : array (D + 1,)
        Weights that make leads relative to a query's size, as in `Model`.
    heat : float
        Relative lead over which queries blur; 0 for none.
    choice, margin : arrays (Q,)
        Written: the cheapest deployment, and by how much it leads the second, relative.

    Returns
    -------
    value : float
        Total of the least priced costs.
    softening : float
        By how much blurring lowers `value`, at least 0.
    totals : array (K, D + 1)
        Queries and features by deployment.
    curvature : array (K, D + 1, K, D + 1)
        How totals respond to prices.
    ties : int
        Number of near ties.
    """
    q_count, k_count = cost.shape
    width = features.shape[0] + 1
    value, softening, ties = 0.0, 0.0, 0
    totals = np.zeros((k_count, width))
    curvature = np.zeros((k_count, width, k_count, width))
    priced = np.empty(k_count)
    where = np.empty(k_count, np.int64)
    share = np.empty(k_count)
    used = np.ones((k_count, width))
    for q in range(q_count):
        best, second = np.inf, np.inf
        first_k, places, size = 0, 0, 0.0
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
                    best, first_k = here, k
                elif here < second:
                    second = here
        n = count[q]
        value += n * best
        choice[q] = first_k
        size = max(reach[0] + size / places, 1e-300)
        lead = (second - best) / size
        margin[q] = lead
        if not lead < NEGLIGIBLE * heat:
            totals[first_k, 0] += n
            for d in range(1, width):
                totals[first_k, d] += n * features[d - 1, q, first_k]
            continue
        ties += lead < NEAR * heat
        unit = heat * size
        places, total = 0, 0.0
        for k in range(k_count):
            far = (priced[k] - best) / unit
            if far < NEGLIGIBLE:
                where[places] = k
                share[places] = np.exp(-far)
                total += share[places]
                for d in range(1, width):
                    used[places, d] = features[d - 1, q, k]
                places += 1
        softening += n * unit * np.log(total)
        for i in range(places):
            share[i] /= total
        for i in range(places):
            k = where[i]
            for a in range(width):
                amount = n * share[i] * used[i, a]
                totals[k, a] += amount
                for b in range(width):
                    curvature[k, a, k, b] += amount / unit * used[i, b]
                    for j in range(places):
                        curvature[k, a, where[j], b] -= amount / unit * share[j] * used[j, b]
    return value, softening, totals, curvature, ties
