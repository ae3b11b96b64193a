"""One pass over all queries at given prices: the only code that is compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from wattshed.transport.model import Array


# Compiled code takes plain arrays and is one loop: splitting it would only hide it.
@njit(cache=True)
def price_out(  # noqa: C901, PLR0912, PLR0913, PLR0917
    cost: Array,
    features: Array,
    eligible: Any,
    count: Array,
    price: Array,
    reach: Array,
    band: float,
    choice: Any,
    margin: Array,
) -> tuple[float, Array, Array, int]:
    """Send each query to its cheapest deployment at the given prices.

    Parameters
    ----------
    cost, features, eligible, count
        As in `Model`.
    price : array (K, D + 1)
        Surcharge on the constant and on each feature.
    reach : array (D + 1,)
        Weights that make margins relative to a query's size.
    band : float
        Queries whose relative margin is below it count as near ties.
    choice, margin : arrays (Q,)
        Written: the cheapest deployment, and by how much it leads the second, relative.

    Returns
    -------
    value : float
        Total of the least priced costs.
    totals : array (K, D + 1)
        Queries and features by deployment.
    curvature : array (K, D + 1, K, D + 1)
        How totals respond to prices, estimated from the near ties.
    ties : int
        Number of near ties.
    """
    q_count, k_count = cost.shape
    width = features.shape[0] + 1
    value = 0.0
    ties = 0
    totals = np.zeros((k_count, width))
    curvature = np.zeros((k_count, width, k_count, width))
    one = np.ones(width)
    two = np.ones(width)
    for q in range(q_count):
        best, second = np.inf, np.inf
        first_k, second_k = 0, -1
        for k in range(k_count):
            if eligible[q, k]:
                priced = cost[q, k] + price[k, 0]
                for d in range(1, width):
                    priced += price[k, d] * features[d - 1, q, k]
                if priced < best:
                    second, second_k = best, first_k
                    best, first_k = priced, k
                elif priced < second:
                    second, second_k = priced, k
        n = count[q]
        value += n * best
        totals[first_k, 0] += n
        size = reach[0]
        for d in range(1, width):
            one[d] = features[d - 1, q, first_k]
            totals[first_k, d] += n * one[d]
            size += reach[d] * abs(one[d])
        choice[q] = first_k
        lead = (second - best) / max(size, 1e-300)
        margin[q] = lead
        if lead < band:
            ties += 1
            weight = n / (2.0 * band * size)
            for d in range(1, width):
                two[d] = features[d - 1, q, second_k]
            for a in range(width):
                for b in range(width):
                    curvature[first_k, a, first_k, b] += weight * one[a] * one[b]
                    curvature[second_k, a, second_k, b] += weight * two[a] * two[b]
                    curvature[first_k, a, second_k, b] -= weight * one[a] * two[b]
                    curvature[second_k, a, first_k, b] -= weight * two[a] * one[b]
    return value, totals, curvature, ties
