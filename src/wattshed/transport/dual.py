"""Find the prices of the constraints: Newton's method on a smoothed dual that sharpens.

The dual g(price) = sum_q count_q min_k(cost_qk + price . usage_qk) - price . bound is
concave and bounds the optimum from below at any price >= 0, but it has kinks. With a soft
minimum -t_q log sum_k exp(-priced_qk / t_q), t_q = temperature * size_q, it is smooth: its
gradient is load minus bound for an assignment that spreads near ties, its curvature is how
that spreads. The temperature falls step by step, and the maximum is followed down to where
only few queries still tie (deterministic annealing; Rose 1998, doi 10.1109/5.726788).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wattshed.transport.model import Array, Model

EXACT_TIE = 1e-12
"""Part of the largest lead below which a lead tells nothing of how far prices have to move."""
COOLING = 0.2
SETTLED = 0.1
"""A step that gains less than this part of what smoothing costs is not worth a pass."""
SHARP = 1e-11
"""Smoothing that costs less than this part of the bound changes nothing any more."""
FIRST_TRUST = 30.0
"""How many temperatures a first step may change a query's cost by, relative to its size."""
GROWTH, CAREFUL = 10, 3
"""Factor on the next step after one that the curvature foresaw; once one has failed."""
MAX_STEPS = 40


@dataclass(frozen=True)
class Pricing:
    """Outcome of one pass at given prices.

    Attributes
    ----------
    price : array (J,)
    temperature : float
        Relative lead over which a query is spread; 0 for none.
    bound : float
        g(price), a lower bound of the optimum.
    soft : float
        The smoothed dual, at most `bound`.
    excess : array (J,)
        Load minus bound of each constraint, relative to its scale: the gradient of `soft`.
    curvature : array (J, J)
        Minus the second derivative of `soft`.
    ties : int
        Queries that lead by no more than a few temperatures.
    choice, rival, margin : arrays (Q,)
        The cheapest deployment, those that tie spread over them; the cheapest of another
        kind; and by how much the cheapest leads it, relative to the query's size.
    """

    price: Array
    temperature: float
    bound: float
    soft: float
    excess: Array
    curvature: Array
    ties: int
    choice: NDArray[np.int32]
    rival: NDArray[np.int32]
    margin: Array

    @property
    def smoothing(self) -> float:
        """What smoothing costs."""
        return self.bound - self.soft


def evaluate(model: Model, price: Array, temperature: float = 0.0) -> Pricing:
    """Price out all queries."""
    from wattshed.transport.kernel import price_out  # numba: only where it is needed

    choice, rival = np.empty((2, model.shape[0]), np.int32)
    margin = np.empty(model.shape[0])
    value, smoothing, totals, curvature, ties = price_out(
        model.cost,
        model.features,
        model.eligible,
        model.count,
        model.prices_by_deployment(price),
        model.reach,
        model.kind,
        temperature,
        choice,
        rival,
        margin,
    )
    flat = model.usage.reshape(len(model.bound), totals.size)
    bound = float(value - price @ model.bound)
    return Pricing(
        price,
        temperature,
        bound,
        bound - smoothing,
        model.loads(totals) - model.bound,
        flat @ curvature.reshape(totals.size, totals.size) @ flat.T,
        int(ties),
        choice,
        rival,
        margin,
    )


def first_temperature(model: Model, start: Pricing) -> float:
    """The median lead at the start, so that half of the queries are spread.

    Where all queries tie, a part of what one costs.
    """
    leads = start.margin[np.isfinite(start.margin)]
    leads = leads[leads > EXACT_TIE * leads.max(initial=0.0)]
    if len(leads):
        return float(np.median(leads))
    return 0.1 * abs(start.bound) / float(model.count.sum()) or 1.0


@dataclass(frozen=True)
class Climb:
    """Search for the best prices of one model.

    Attributes
    ----------
    model : Model
    ceiling : array (J,)
        Prices stay in [0, ceiling].
    on_bound : callable, optional
        Told the lower bound of each pass.
    """

    model: Model
    ceiling: Array
    on_bound: Callable[[float], None] | None = None

    def follow(self, price: Array, temperature: float, few: int, sharp: float = SHARP) -> Pricing:
        """From `price`, follow the maximum as the temperature falls.

        Ends where only `few` queries tie, or smoothing costs less than `sharp` of the bound.
        """
        now = self._maximise(self._evaluate(price, temperature))
        before: Pricing | None = None
        while now.ties > few and now.smoothing > sharp * abs(now.bound):
            cooler = self._cool(before, now)
            before, now = now, self._maximise(cooler)
        return now

    def _evaluate(self, price: Array, temperature: float) -> Pricing:
        found = evaluate(self.model, price, temperature)
        if self.on_bound:
            self.on_bound(found.bound)
        return found

    def _cool(self, before: Pricing | None, now: Pricing) -> Pricing:
        """Lower the temperature; prices go on along the line that they follow as it falls."""
        temperature = COOLING * now.temperature
        if before is not None:
            slope = (now.price - before.price) / (now.temperature - before.temperature)
            ahead = np.clip(now.price + slope * (temperature - now.temperature), 0, self.ceiling)
            found = self._evaluate(ahead, temperature)
            if found.soft >= now.soft:
                return found
        return self._evaluate(now.price, temperature)

    def _maximise(self, now: Pricing) -> Pricing:
        """Maximise the smoothed dual at one temperature by Newton's method with a trust region."""
        trust, growth = FIRST_TRUST * now.temperature, GROWTH
        for _ in range(MAX_STEPS):
            step, length = _trusted_step(self.model, now, self.ceiling, trust)
            slope = float(step @ now.excess)
            if slope <= SETTLED * now.smoothing:
                break
            trial = self._evaluate(now.price + step, now.temperature)
            gain = trial.soft - now.soft
            expected = slope - 0.5 * float(step @ now.curvature @ step)
            if gain > 0:
                now = trial
            if gain <= 0.1 * expected:
                trust, growth = 0.25 * length, CAREFUL
            elif gain > 0.5 * expected:
                trust = max(trust, growth * length)
        return now


def _trusted_step(model: Model, now: Pricing, ceiling: Array, trust: float) -> tuple[Array, float]:
    """Newton step, damped until no query's relative cost changes by more than `trust`."""
    level = float(np.trace(now.curvature)) / len(now.price)
    damping = 1e-10 * level + 1e-300
    while True:
        step = newton_step(now, ceiling, damping)
        length = _relative_length(model, step)
        if length <= trust:
            return step, length
        damping = max(damping * max(1.5, length / trust), 1e-8 * level)


def _relative_length(model: Model, step: Array) -> float:
    """Largest relative change of a query's cost that a step causes."""
    surcharge = np.abs(model.prices_by_deployment(step))
    used = model.reach > 0
    return float((surcharge[:, used] / model.reach[used]).max(initial=0.0))


def newton_step(now: Pricing, ceiling: Array, damping: float) -> Array:
    """Maximise the damped quadratic model of the smoothed dual over prices in [0, ceiling].

    Goes towards the maximum over the prices that are free, up to the first bound in the way;
    holds that price there, and so on.
    """
    price, gradient = now.price, now.excess
    curvature = now.curvature + damping * np.eye(len(price))
    free = ~((price <= 0) & (gradient < 0)) & ~((price >= ceiling) & (gradient > 0))
    step = np.zeros(len(price))
    while free.any():
        pull = gradient[free] - curvature[free] @ step
        change = np.linalg.lstsq(curvature[np.ix_(free, free)], pull, rcond=1e-13)[0]
        bound = np.where(change < 0, -price[free], (ceiling - price)[free])
        with np.errstate(divide="ignore", invalid="ignore"):
            reach = np.where(change != 0, (bound - step[free]) / change, np.inf)
        first = int(np.argmin(reach))
        if reach[first] >= 1:
            step[free] += change
            break
        step[free] += max(reach[first], 0.0) * change
        blocked = np.flatnonzero(free)[first]
        step[blocked] = bound[first]
        free[blocked] = False
    return step
