"""Solve the assignment problem: prices, then the near ties exactly, then whole queries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from wattshed.transport.dual import Climb, Pricing, evaluate, first_temperature
from wattshed.transport.model import Array, Model
from wattshed.transport.polish import (
    Fractional,
    Restricted,
    hold,
    restrict,
    solve_fractional,
    solve_whole,
)
from wattshed.transport.whole import make_whole, round_shares

SMALL = 4_000
"""Up to so many queries, one linear program over all of them is the quickest way."""
NOISE = 0.02
"""Times the reciprocal of its size: relative error that a sample leaves in the bound."""
FEW_TIES = 700
"""Near ties down to which prices are searched for; a linear program does the rest."""
SAMPLES = ((2_000, 450), (60_000, 2_500))
"""Sizes, and near ties in them from where on prices follow the sample rather than the whole."""
NEAR_TIES = 2_000
ROUNDINGS = 8
SPLIT = 1e-6
"""Part of a query below which it counts as whole."""
LARGE, LUMP, LUMPS = 3e-5, 5.0, 4
"""A split query that costs so much, relative to all and to the median, is settled first."""
ENOUGH = 1e-6
"""Gap below which split queries are no longer shuffled."""
INTO_BOUNDS = (4_000, 32_000)
"""Near ties that may move to bring an interrupted search into the bounds."""
MOVABLE = 4_000
"""Near ties that may move when split queries are made whole."""
ROUGH = 1e-5
"""Gap of a small problem above which branch and bound is tried."""
REPAIR_SECONDS = 0.5
LP_GAP = 1e-10
EXCESS = 1e-9
CEILING = 1e3
"""First price of exceeding a bound by its own size, in spreads of the total cost."""

Progress = Callable[[float, float], None]


@dataclass(frozen=True)
class Solution:
    """An assignment with its proof.

    Attributes
    ----------
    choice : int array (Q,)
        Deployment of each query; of most of its count where that is split.
    splits : list of (query, deployment, count)
        Every part of the queries whose count is spread over several deployments.
    price : array (J,)
        Cost saved by one more unit of each constraint's bound.
    cost : float
        Of the whole-number assignment.
    bound : float
        No assignment costs less.
    lp_gap : float
        Relative gap between the fractional optimum found and `bound`.
    fractional : int
        Queries that the fractional optimum splits.
    passes : int
        Passes over all queries.
    excess : array (J,)
        By how much the least relaxation exceeds each bound, in its unit; all zero if the
        problem is feasible.
    converged : bool
        Whether the fractional optimum is proven and the assignment keeps all bounds.
    whole : bool
        Whether an assignment of whole queries within the bounds was found.
    interrupted : bool
        Whether Ctrl-C ended the search.
    """

    choice: NDArray[np.int32]
    splits: list[tuple[int, int, int]]
    price: Array
    cost: float
    bound: float
    lp_gap: float
    fractional: int
    passes: int
    excess: Array
    converged: bool
    whole: bool
    interrupted: bool

    @property
    def gap(self) -> float:
        """Relative gap between the assignment and the bound."""
        return max(0.0, self.cost - self.bound) / max(abs(self.cost), 1e-300)

    @property
    def feasible(self) -> bool:
        """Whether the bounds can be kept."""
        return not (self.excess > 0).any()


@dataclass
class _Search:
    """What is known so far; survives an interrupt."""

    model: Model
    ceiling: Array
    on_progress: Progress | None
    pricing: Pricing
    bound: float
    value: float = np.inf
    passes: int = 1
    exact: tuple[Restricted, Fractional] | None = None
    interrupted: bool = field(default=False)

    def saw(self, bound: float) -> None:
        """Keep the best lower bound and tell who listens."""
        self.passes += 1
        self.bound = max(self.bound, bound)
        if self.on_progress:
            self.on_progress(self.bound, self.gap)

    @property
    def gap(self) -> float:
        return (self.value - self.bound) / max(abs(self.value), 1e-300)


def solve(model: Model, on_progress: Progress | None = None, seed: int = 0) -> Solution:
    """Find the cheapest assignment of whole queries that keeps every bound.

    Parameters
    ----------
    model : Model
    on_progress : callable, optional
        Called with (lower bound, relative gap) while the search goes on.
    seed : int
        Of the samples that the first prices come from.

    Returns
    -------
    Solution
        An infeasible problem comes back with its least relaxation in `excess`; an
        interrupted search (Ctrl-C) with the best that it has, not converged; within the
        bounds if `whole`.
    """
    start = evaluate(model, np.zeros(len(model.bound)))
    search = _Search(model, _ceiling(model, CEILING), on_progress, start, start.bound)
    if len(model.bound) and (start.excess > 0).any():
        try:
            _find_prices(search, np.random.default_rng(seed))
            _close_gap(search)
            if search.exact is not None and (search.exact[1].excess > EXCESS).any():
                search.ceiling = _ceiling(model, 1e3 * CEILING)
                _close_gap(search)
        except KeyboardInterrupt:
            search.interrupted = True
            _into_bounds(search)
    return _finish(search)


def _ceiling(model: Model, factor: float) -> Array:
    worst = np.where(model.eligible, model.cost, -np.inf).max(axis=1)
    least = np.where(model.eligible, model.cost, np.inf).min(axis=1)
    spread = float(model.count @ (worst - least))
    return np.full(
        len(model.bound), factor * max(spread, 1e-3 * float(model.count @ np.abs(least)), 1e-300)
    )


def _find_prices(search: _Search, rng: np.random.Generator) -> None:
    """Good prices from samples, then from everything."""
    model, price = search.model, search.pricing.price
    queries = model.shape[0]
    if queries <= SMALL:
        return
    temperature = first_temperature(model, search.pricing)
    for size, few in SAMPLES:
        if size < queries / 2:
            part = model.sample(size, rng)
            found = Climb(part, search.ceiling).follow(price, temperature, few, NOISE / size)
            price, temperature = found.price, found.temperature
    search.pricing = Climb(model, search.ceiling, search.saw).follow(price, temperature, FEW_TIES)


def _close_gap(search: _Search) -> None:
    """Solve the near ties exactly, widening them until the prices prove the result."""
    model = search.model
    size = NEAR_TIES if model.shape[0] > SMALL else model.shape[0]
    search.value = np.inf
    while True:
        part = restrict(model, search.pricing, size)
        found = solve_fractional(part, search.pricing.price, search.ceiling)
        pricing = evaluate(model, found.price, search.pricing.temperature)
        better = pricing.bound >= search.bound
        search.exact, search.value = (part, found), found.value
        search.saw(pricing.bound)
        if search.gap < LP_GAP or size >= model.shape[0]:
            # Where queries tie, those outside the linear program stay where it held them.
            search.pricing = replace(pricing, choice=search.pricing.choice)
            break
        if better:
            search.pricing = pricing
        size = min(2 * size, model.shape[0])


def _into_bounds(search: _Search) -> None:
    """After an interrupt: the cheapest moves of near ties into the bounds, if they suffice."""
    for size in INTO_BOUNDS:
        part = restrict(search.model, search.pricing, min(size, search.model.shape[0]))
        found = solve_fractional(part, search.pricing.price, search.ceiling)
        if not (found.excess > EXCESS).any():
            search.exact, search.value = (part, found), found.value
            return
    search.exact = None


def _finish(search: _Search) -> Solution:
    model = search.model
    choice = search.pricing.choice.copy()
    splits: list[tuple[int, int, int]] = []
    fractional, whole = 0, not search.interrupted
    excess = np.zeros(len(model.bound))
    if search.exact is not None:
        part, found = search.exact
        excess = np.where(found.excess > EXCESS, found.excess, 0.0)
        fractional = _split_rows(part, found, model.count)
        if not excess.any():
            repaired = _repair(search, part, found, choice)
            whole = repaired is not None
            splits = repaired or []
    value = search.value if np.isfinite(search.value) else search.bound
    lp_gap = max(0.0, value - search.bound) / max(abs(value), 1e-300)
    cost = _total_cost(model, choice, splits)
    return Solution(
        choice=choice,
        splits=splits,
        price=search.pricing.price / model.scale,
        cost=cost,
        bound=min(search.bound, cost) if whole and not excess.any() else search.bound,
        lp_gap=lp_gap,
        fractional=fractional,
        passes=search.passes,
        excess=excess * model.scale,
        converged=whole and not search.interrupted and lp_gap < 1e-9 and not excess.any(),
        whole=whole,
        interrupted=search.interrupted,
    )


def _split_rows(part: Restricted, found: Fractional, count: Array) -> int:
    """How many queries have a count that the fractional optimum does not place whole."""
    amount = found.share * count[part.rows][part.owner]
    broken = np.abs(amount - np.round(amount)) > SPLIT
    return len(np.unique(part.owner[broken]))


def _repair(
    search: _Search, part: Restricted, found: Fractional, choice: NDArray[np.int32]
) -> list[tuple[int, int, int]] | None:
    """Make the free queries whole and write their choice; None if none is found.

    The fractional optimum is rounded. If that leads nowhere, so is one that keeps room, over
    more queries. A small problem may be so tight that neither does, and its gap is coarse:
    there a branch and bound over all queries gets its chance as well.
    """
    model = search.model
    count = model.count[part.rows]
    whole = _round(search, part, found)
    if whole is None and len(part.rows) < min(MOVABLE, model.shape[0]):
        part = restrict(model, search.pricing, MOVABLE)
        count = model.count[part.rows]
        found = solve_fractional(part, found.price, search.ceiling)
        whole = _round(search, part, found)
    if model.shape[0] <= SMALL and (whole is None or _rough(search, part, count, whole)):
        other = solve_whole(part, count, REPAIR_SECONDS)
        per_query = part.cost / count[part.owner]
        if whole is None or (other is not None and per_query @ other < per_query @ whole):
            whole = other
    return None if whole is None else _write_whole(part, whole, choice)


def _round(search: _Search, part: Restricted, found: Fractional) -> Array | None:
    """Round a fractional optimum; if need be, one that keeps room for its split queries."""
    price, count = found.price, search.model.count[part.rows]
    enough = search.bound + ENOUGH * abs(search.bound)
    reserve = np.zeros(len(part.room))
    for _ in range(ROUNDINGS):
        amount = _settle_lumps(search, part, found)
        whole, overrun = make_whole(part, count, amount, price, enough)
        if not overrun.any():
            return whole
        if reserve.any():
            split = np.abs(found.share * count[part.owner] - amount) > SPLIT
            one = np.abs(part.usage[:, split] / count[part.owner[split]])
            reserve = np.maximum(2 * reserve, one.sum(axis=1) / 2)
        else:
            reserve = 1.1 * overrun
        found = solve_fractional(replace(part, room=part.room - reserve), price, search.ceiling)
        if (found.excess > EXCESS).any():
            break
    return None


def _settle_lumps(search: _Search, part: Restricted, found: Fractional) -> Array:
    """Whole queries on each variable, (V,): large split queries first, one optimum for each.

    What rounding a large query leaves over or short, many others have to make up for: the
    linear program finds them better than single moves.
    """
    count = search.model.count[part.rows]
    worth = np.abs(found.price @ part.usage) / count[part.owner]
    large = worth > max(LARGE * abs(search.bound), LUMP * float(np.median(worth)))
    share, free = found.share, np.ones(len(part.rows), bool)
    for _ in range(LUMPS):
        amount = round_shares(part, count, share)
        split = np.abs(share * count[part.owner] - amount) > SPLIT
        lumps = split & large & free[part.owner]
        if not lumps.any():
            break
        free[part.owner[lumps]] = False
        if not free.any():
            break
        whole = amount / count[part.owner]
        rest = solve_fractional(hold(part, free, whole), found.price, search.ceiling)
        if (rest.excess > EXCESS).any():
            break
        share = whole
        share[free[part.owner]] = rest.share
    return round_shares(part, count, share)


def _rough(search: _Search, part: Restricted, count: Array, whole: Array) -> bool:
    cost = part.held_cost + float(part.cost / count[part.owner] @ whole)
    return cost - search.bound > ROUGH * abs(cost)


def _write_whole(
    part: Restricted, whole: Array, choice: NDArray[np.int32]
) -> list[tuple[int, int, int]]:
    used = whole > 0
    parts = np.bincount(part.owner[used], minlength=len(part.rows))
    order = np.argsort(whole[used], kind="stable")
    owner, deployment = part.owner[used][order], part.deployment[used][order]
    choice[part.rows[owner]] = deployment
    return [
        (int(part.rows[o]), int(k), int(w))
        for o, k, w in zip(owner, deployment, whole[used][order], strict=True)
        if parts[o] > 1
    ]


def _total_cost(
    model: Model, choice: NDArray[np.int32], splits: list[tuple[int, int, int]]
) -> float:
    rows = np.arange(len(choice))
    count = model.count.copy()
    count[[row for row, _, _ in splits]] = 0.0
    cost = float(count @ model.cost[rows, choice])
    return cost + sum(w * float(model.cost[row, k]) for row, k, w in splits)
