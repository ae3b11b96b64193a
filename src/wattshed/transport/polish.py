"""Finish exactly: a linear program over the queries that nearly tie, then whole numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_matrix, hstack

from wattshed.errors import WattshedError
from wattshed.transport.dual import Pricing
from wattshed.transport.model import Array, Model

TIGHT = 1e-10
FAR = 1e300
"""Stands for an infinite margin."""
CANDIDATES, EACH = 20, 20
"""So that any deployment can pass queries on to any other: how many at least, from where."""
LP_SECONDS = 60.0
ROUNDING = 1e-10
"""Relative part of a bound by which sums may differ in their last digits."""
NOTHING = 1e-12
"""Cost relative to the price of exceeding a bound; less makes no difference."""
SLACK = 2e-6
"""Kept free of each bound, in usages of one large query: HiGHS may exceed a row by 1e-6."""


@dataclass(frozen=True)
class Restricted:
    """The problem over some queries, all others held where prices send them.

    One variable for each (query, deployment) pair within reach of being cheapest.

    Attributes
    ----------
    rows : int array (T,)
        Queries that may move.
    owner : int array (V,)
        Index into `rows` of each variable.
    deployment : int array (V,)
    cost : array (V,)
        Of the query's whole count.
    usage : array (J, V)
        Of the query's whole count.
    room : array (J,)
        What the held queries leave of each bound.
    held_cost : float
    """

    rows: NDArray[np.int64]
    owner: NDArray[np.int64]
    deployment: NDArray[np.int64]
    cost: Array
    usage: Array
    room: Array
    held_cost: float

    def rows_sum_to_one(self) -> csr_matrix:
        """Matrix (T, V) that adds up the variables of each query."""
        shape = (len(self.rows), len(self.owner))
        return csr_matrix((np.ones(shape[1]), (self.owner, np.arange(shape[1]))), shape)


def restrict(model: Model, pricing: Pricing, size: int) -> Restricted:
    """Free about `size` queries that are nearest to a tie, on the deployments in reach."""
    queries = model.shape[0]
    everything = size >= queries
    rows = np.arange(queries) if everything else _nearest(pricing, size)
    priced = _priced(model, pricing.price, rows)
    near = np.isfinite(priced)
    if not everything:
        margin = pricing.margin[rows]
        width = np.minimum(2 * np.maximum(margin, margin[size - 1]), FAR) * model.sizes(rows)
        near &= priced - priced.min(axis=1, keepdims=True) <= width[:, None]
    owner, deployment = np.nonzero(near)
    query = rows[owner]
    count = model.count[query]
    totals, held_cost = _held(model, pricing.choice, rows)
    return Restricted(
        rows,
        owner,
        deployment,
        model.cost[query, deployment] * count,
        _usage(model, query, deployment) * count,
        model.bound - model.loads(totals),
        held_cost,
    )


def _nearest(pricing: Pricing, size: int) -> NDArray[np.int64]:
    """The `size` queries nearest to a tie, then the nearest between each two deployments."""
    many = min(CANDIDATES * size, len(pricing.margin)) - 1
    near = np.argpartition(pricing.margin, many)[:many]
    near = near[np.argsort(pricing.margin[near], kind="stable")]
    rank = rank_within(pricing.choice[near] * (int(pricing.rival.max()) + 1) + pricing.rival[near])
    return np.concatenate([near[:size], near[size:][rank[size:] < EACH]])


def rank_within(group: NDArray[Any]) -> NDArray[np.int64]:
    """How many of the same group come before each element."""
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    rank = np.empty(len(group), np.int64)
    rank[order] = np.arange(len(group)) - np.searchsorted(ordered, ordered)
    return rank


def hold(part: Restricted, free: NDArray[np.bool_], share: Array) -> Restricted:
    """The same with queries that are not `free`, (T,), held at their shares, (V,)."""
    kept = free[part.owner]
    return Restricted(
        part.rows[free],
        (np.cumsum(free) - 1)[part.owner[kept]],
        part.deployment[kept],
        part.cost[kept],
        part.usage[:, kept],
        part.room - part.usage[:, ~kept] @ share[~kept],
        part.held_cost + float(part.cost[~kept] @ share[~kept]),
    )


def _priced(model: Model, price: Array, rows: NDArray[np.int64]) -> Array:
    surcharge = model.prices_by_deployment(price)
    priced = model.cost[rows] + surcharge[:, 0]
    for d, feature in enumerate(model.features):
        priced = priced + surcharge[:, d + 1] * feature[rows]
    return np.where(model.eligible[rows], priced, np.inf)


def _usage(model: Model, query: NDArray[np.int64], deployment: NDArray[np.int64]) -> Array:
    """Usage (J, V) of single queries on deployments."""
    used = model.usage[:, deployment, 0].copy()
    for d, feature in enumerate(model.features):
        used += model.usage[:, deployment, d + 1] * feature[query, deployment]
    return used


def _held(model: Model, choice: NDArray[np.int32], rows: NDArray[np.int64]) -> tuple[Array, float]:
    """Totals by deployment (K, D + 1) and cost of the queries outside `rows`."""
    held = np.ones(model.shape[0], bool)
    held[rows] = False
    query = np.flatnonzero(held)
    where = choice[query]
    count = model.count[query]
    k = model.shape[1]
    columns = [np.bincount(where, count, k)]
    columns += [np.bincount(where, count * f[query, where], k) for f in model.features]
    return np.stack(columns, axis=1), float(count @ model.cost[query, where])


@dataclass(frozen=True)
class Fractional:
    """Optimum of a restricted problem; queries may be split.

    Attributes
    ----------
    share : array (V,)
    price : array (J,)
    value : float
        Cost, with excess over bounds paid at the ceiling prices.
    excess : array (J,)
        By how much each bound is exceeded, relative to its scale.
    """

    share: Array
    price: Array
    value: float
    excess: Array


def solve_fractional(part: Restricted, price: Array, ceiling: Array) -> Fractional:
    """Solve the linear program over the free queries (HiGHS dual simplex).

    Bounds may be exceeded at the ceiling prices, so there always is a solution; and the
    optimum is a vertex, so at most one query for each constraint is split.
    """
    j = len(part.room)
    # Beside queries that cost nothing the ceiling must not become infinite.
    least = max(NOTHING * float(ceiling.max(initial=0.0)), 1e-300)
    level = max(float(np.abs(part.cost).max(initial=0.0)), least)
    # Costs net of nearly right prices: what is left to decide is small and well scaled.
    net = part.cost + price @ part.usage
    base = np.full(len(part.rows), np.inf)
    np.minimum.at(base, part.owner, net)
    found = _linear_program(
        np.concatenate([part.cost - base[part.owner], ceiling]) / level,
        LinearConstraint(
            hstack([csr_matrix(part.usage), -csr_matrix(np.eye(j))], format="csr"), ub=part.room
        ),
        hstack([part.rows_sum_to_one(), csr_matrix((len(part.rows), j))], format="csr"),
    )
    share, excess = found.x[: len(part.owner)], found.x[len(part.owner) :]
    value = part.held_cost + float(part.cost @ share) + float(ceiling @ excess)
    return Fractional(share, np.clip(-found.ineqlin.marginals * level, 0, ceiling), value, excess)


def _linear_program(objective: Array, below: LinearConstraint, one: csr_matrix) -> Any:
    """Minimise over x >= 0 with `below` and rows of `one` summing to 1; tight, else as it can."""
    tight = {"primal_feasibility_tolerance": TIGHT, "dual_feasibility_tolerance": TIGHT}
    reason = ""
    for method, tolerances in (("highs-ds", tight), ("highs-ds", {}), ("highs-ipm", {})):
        found = linprog(
            objective,
            A_ub=below.A,
            b_ub=below.ub,
            A_eq=one,
            b_eq=np.ones(one.shape[0]),
            bounds=(0, None),
            method=method,
            options={"time_limit": LP_SECONDS, **tolerances},
        )
        if found.x is not None:
            return found
        reason = found.message
    message = f"the linear program over {one.shape[0]} queries was not solved: {reason}"
    raise WattshedError(message)


def solve_whole(part: Restricted, count: Array, seconds: float) -> Array | None:
    """Whole queries on each variable, within the bounds, at least cost (HiGHS).

    Parameters
    ----------
    part : Restricted
    count : array (T,)
        How often each free query occurs: that many may be spread over deployments.
    seconds : float
        Time limit; the best assignment found by then is taken.

    Returns
    -------
    whole : array (V,) or None
        Queries on each variable; None if none was found in time.
    """
    per_query = count[part.owner]
    cost = part.cost / per_query
    base = np.full(len(part.rows), np.inf)
    np.minimum.at(base, part.owner, cost)
    extra = cost - base[part.owner]
    usage = part.usage / per_query
    large = np.maximum(np.abs(usage).max(axis=1, initial=0.0), 1e-300)
    for slack in (0.0, SLACK):  # a bound may be met exactly, so try without slack first
        found = milp(
            extra / max(float(extra.max(initial=0.0)), 1e-300),
            integrality=np.ones(len(cost)),
            bounds=Bounds(0, per_query),
            constraints=[
                LinearConstraint(part.rows_sum_to_one(), count, count),
                LinearConstraint(usage / large[:, None], -np.inf, part.room / large - slack),
            ],
            options={"time_limit": seconds, "mip_rel_gap": 1e-9},
        )
        if found.x is not None:
            whole = np.round(found.x)
            if (usage @ whole <= part.room + ROUNDING).all():
                return np.asarray(whole)
    return None
