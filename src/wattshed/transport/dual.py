"""Find the prices of the constraints: damped projected Newton on the dual.

The dual g(price) = sum_q count_q min_k(cost_qk + price . usage_qk) - price . bound is
concave and bounds the optimum from below at any price >= 0. Its gradient is load minus
bound; its curvature is estimated from the queries that nearly tie, in a band that follows
the length of the last step. A step is taken only if g itself grows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wattshed.transport.model import Array, Model

FIRST_BAND = 0.05
"""Share of queries that count as near ties at the start."""
FIRST_TRUST = 0.5
"""Quantile of the leads: a change of prices that long makes about half of the queries move."""
FEW_TIES = 400
ENOUGH_TIES = 25
SETTLED = 2e-3
"""Relative imbalance of loads that the linear program over near ties can even out."""
NO_GAIN = 1e-12
BACKTRACKS = 5


@dataclass(frozen=True)
class Pricing:
    """Outcome of one pass at given prices.

    Attributes
    ----------
    price : array (J,)
    bound : float
        g(price), a lower bound of the optimum.
    excess : array (J,)
        Load minus bound of each constraint, relative to its scale: the gradient of g.
    curvature : array (J, J)
    ties : int
    choice, margin : arrays (Q,)
    """

    price: Array
    bound: float
    excess: Array
    curvature: Array
    ties: int
    choice: NDArray[np.int32]
    margin: Array


def evaluate(model: Model, price: Array, band: float = 0.0) -> Pricing:
    """Price out all queries."""
    from wattshed.transport.kernel import price_out  # numba: only where it is needed

    choice = np.empty(model.shape[0], np.int32)
    margin = np.empty(model.shape[0])
    value, totals, curvature, ties = price_out(
        model.cost,
        model.features,
        model.eligible,
        model.count,
        model.prices_by_deployment(price),
        model.reach,
        band,
        choice,
        margin,
    )
    flat = model.usage.reshape(len(model.bound), totals.size)
    return Pricing(
        price,
        float(value - price @ model.bound),
        model.loads(totals) - model.bound,
        flat @ curvature.reshape(totals.size, totals.size) @ flat.T,
        int(ties),
        choice,
        margin,
    )


def climb(
    model: Model,
    price: Array,
    ceiling: Array,
    rounds: int,
    on_bound: Callable[[float], None] | None = None,
) -> Pricing:
    """Raise g from `price` until only few queries tie, or `rounds` are used up.

    Parameters
    ----------
    model : Model
    price : array (J,)
    ceiling : array (J,)
        Prices stay in [0, ceiling].
    rounds : int
    on_bound : callable, optional
        Told each new lower bound.
    """
    start = evaluate(model, price)
    leads = start.margin[np.isfinite(start.margin)][:: max(1, len(start.margin) // 100_000)]
    if not len(leads):
        return start
    band, trust = (float(x) + 1e-300 for x in np.quantile(leads, [FIRST_BAND, FIRST_TRUST]))
    now = evaluate(model, price, band)
    for _ in range(rounds):
        if now.ties < ENOUGH_TIES and now.ties < model.shape[0]:
            band *= 8  # too few to tell how loads respond to prices
            now = evaluate(model, now.price, band)
            continue
        step, length = _trusted_step(model, now, ceiling, trust)
        if length == 0 or abs(step @ now.excess) < NO_GAIN * abs(now.bound):
            break
        better = _backtrack(model, now, step, ceiling, (band, length))
        if better is None:
            band *= 4 if now.ties < 0.2 * model.shape[0] else 0.2
            trust = 0.1 * length
            now = evaluate(model, now.price, band)
            continue
        now, band, taken = better
        trust = 3 * taken if taken < length else 4 * trust
        if on_bound:
            on_bound(now.bound)
        few = min(FEW_TIES, model.shape[0] // 200)
        if now.ties < few and _largest_excess(now) < SETTLED:
            break
    return now


def _largest_excess(now: Pricing) -> float:
    """By how much a load differs from where its price wants it, relative to its bound."""
    unbalanced = np.where(now.price > 0, np.abs(now.excess), now.excess)
    return float(unbalanced.max(initial=0.0))


def _trusted_step(model: Model, now: Pricing, ceiling: Array, trust: float) -> tuple[Array, float]:
    """Newton step, damped until no query's relative cost changes by more than `trust`."""
    level = float(np.trace(now.curvature)) / len(now.price)
    damping = 1e-10 * level + 1e-300
    while True:
        step = newton_step(now, ceiling, damping)
        length = _relative_length(model, step)
        if length <= trust:
            return step, length
        damping = max(4 * damping, 1e-8 * level)


def _backtrack(
    model: Model, now: Pricing, step: Array, ceiling: Array, sizes: tuple[float, float]
) -> tuple[Pricing, float, float] | None:
    """The first shortened step that raises g, its band and its length; None if none does."""
    band, length = sizes
    share = 1.0
    for _ in range(BACKTRACKS):
        new_band = max(min(share * length, 2 * band), 0.1 * band, 1e-300)
        trial = evaluate(model, np.clip(now.price + share * step, 0, ceiling), new_band)
        if trial.bound > now.bound:
            return trial, new_band, share * length
        share *= 0.3
    return None


def _relative_length(model: Model, step: Array) -> float:
    """Largest relative change of a query's cost that a step causes."""
    surcharge = np.abs(model.prices_by_deployment(step))
    used = model.reach > 0
    return float((surcharge[:, used] / model.reach[used]).max(initial=0.0))


def newton_step(now: Pricing, ceiling: Array, damping: float) -> Array:
    """Maximise the damped quadratic model of g over prices in [0, ceiling]."""
    price, gradient, curvature = now.price, now.excess, now.curvature
    count = len(price)
    free = ~((price <= 0) & (gradient < 0)) & ~((price >= ceiling) & (gradient > 0))
    step = np.zeros(count)
    ridge = damping * np.eye(count)
    for _ in range(count + 1):
        step[free] = 0.0
        if not free.any():
            break
        held = ~free
        pull = gradient[free] - curvature[np.ix_(free, held)] @ step[held]
        block = (curvature + ridge)[np.ix_(free, free)]
        step[free] = np.linalg.lstsq(block, pull, rcond=1e-13)[0]
        low = free & (price + step < 0)
        high = free & (price + step > ceiling)
        if not (low | high).any():
            break
        step[low], step[high] = -price[low], (ceiling - price)[high]
        free &= ~(low | high)
    return step
