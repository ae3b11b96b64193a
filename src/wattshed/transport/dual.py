"""Find the prices of the constraints: Newton's method on a blurred dual that sharpens.

The dual g(price) = sum_q count_q min_k(cost_qk + price . usage_qk) - price . bound is
concave and bounds the optimum from below at any price >= 0, but it has kinks. With the
minimum blurred to -heat * size_q * log sum_k exp(-priced_qk / (heat * size_q)) it is smooth:
its gradient is load minus bound for an assignment that spreads near ties, its curvature is
how that spreads. The heat falls step by step, and the maximum is followed down to where only
few queries still tie (deterministic annealing; Rose 1998, doi 10.1109/5.726788).
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
"""A step that gains less than this part of what blurring costs is not worth a pass."""
SHARP = 1e-11
"""Blurring that costs less than this part of the bound changes nothing any more."""
FIRST_TRUST = 30.0
"""Relative change of a query's cost, in heats, that a first step may cause."""
GROWTH = 10
"""Factor on the next step after one that the curvature foresaw."""
MAX_STEPS = 40


@dataclass(frozen=True)
class Pricing:
    """Outcome of one pass at given prices.

    Attributes
    ----------
    price : array (J,)
    heat : float
    bound : float
        g(price), a lower bound of the optimum.
    soft : float
        The blurred dual, at most `bound`.
    excess : array (J,)
        Load minus bound of each constraint, relative to its scale: the gradient of `soft`.
    curvature : array (J, J)
        Minus the second derivative of `soft`.
    ties : int
    choice, margin : arrays (Q,)
    """

    price: Array
    heat: float
    bound: float
    soft: float
    excess: Array
    curvature: Array
    ties: int
    choice: NDArray[np.int32]
    margin: Array

    @property
    def blur(self) -> float:
        """What blurring costs."""
        return self.bound - self.soft


def evaluate(model: Model, price: Array, heat: float = 0.0) -> Pricing:
    """Price out all queries."""
    from wattshed.transport.kernel import price_out  # numba: only where it is needed

    choice = np.empty(model.shape[0], np.int32)
    margin = np.empty(model.shape[0])
    value, softening, totals, curvature, ties = price_out(
        model.cost,
        model.features,
        model.eligible,
        model.count,
        model.prices_by_deployment(price),
        model.reach,
        heat,
        choice,
        margin,
    )
    flat = model.usage.reshape(len(model.bound), totals.size)
    bound = float(value - price @ model.bound)
    return Pricing(
        price,
        heat,
        bound,
        bound - softening,
        model.loads(totals) - model.bound,
        flat @ curvature.reshape(totals.size, totals.size) @ flat.T,
        int(ties),
        choice,
        margin,
    )


def first_heat(start: Pricing) -> float:
    """The median lead at the start: half of the queries blur. 0 if all of them tie."""
    leads = start.margin[np.isfinite(start.margin)]
    leads = leads[leads > EXACT_TIE * leads.max(initial=0.0)]
    return float(np.median(leads)) if len(leads) else 0.0


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

    def follow(self, price: Array, heat: float, few: int) -> Pricing:
        """From `price`, follow the maximum as the heat falls until only `few` queries tie."""
        now = self._maximise(self._evaluate(price, heat))
        before: Pricing | None = None
        while now.ties > few and now.blur > SHARP * abs(now.bound):
            cooler = self._cool(before, now)
            before, now = now, self._maximise(cooler)
        return now

    def _evaluate(self, price: Array, heat: float) -> Pricing:
        found = evaluate(self.model, price, heat)
        if self.on_bound:
            self.on_bound(found.bound)
        return found

    def _cool(self, before: Pricing | None, now: Pricing) -> Pricing:
        """Lower the heat; prices go on along the line that they follow as it falls."""
        heat = COOLING * now.heat
        if before is not None:
            slope = (now.price - before.price) / (now.heat - before.heat)
            ahead = np.clip(now.price + slope * (heat - now.heat), 0, self.ceiling)
            found = self._evaluate(ahead, heat)
            if found.soft >= now.soft:
                return found
        return self._evaluate(now.price, heat)

    def _maximise(self, now: Pricing) -> Pricing:
        """Maximise the blurred dual at one heat by Newton's method with a trust region."""
        trust = FIRST_TRUST * now.heat
        for _ in range(MAX_STEPS):
            step, length = _trusted_step(self.model, now, self.ceiling, trust)
            slope = float(step @ now.excess)
            if slope <= SETTLED * now.blur:
                break
            trial = self._evaluate(now.price + step, now.heat)
            gain = trial.soft - now.soft
            expected = slope - 0.5 * float(step @ now.curvature @ step)
            if gain < 0.1 * expected:
                trust = 0.25 * length
            elif gain > 0.5 * expected:
                trust = max(trust, GROWTH * length)
            if gain > 0:
                now = trial
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
        damping = max(damping * max(4, length / trust), 1e-8 * level)


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
