"""What couples the queries of a plan, and the plan that respects it.

Shares, busy time, query and token caps of deployments; a budget of mean runtime and a
floor of accuracy for the whole workload. Each has a price in joules per unit, so that
argmin over deployments of priced cost is the plan, up to the few queries that tie.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from wattshed.errors import ParameterError
from wattshed.fit.forms import Array
from wattshed.fleet import Deployment
from wattshed.plan.assign import refuse_infeasible, spread
from wattshed.plan.cost import ACCURACY_MEASURES, accuracies
from wattshed.plan.problem import Problem
from wattshed.records import Price
from wattshed.transport.model import Constraint, make_model
from wattshed.transport.solve import solve

COUNT, RUNTIME, TOKENS = 0, 1, 2


@dataclass(frozen=True)
class Limits:
    """Limits on the whole workload; None for none.

    Attributes
    ----------
    horizon_s : float or None
        Time in which the workload must be served: replicas x horizon x utilisation is
        what a deployment may be busy.
    runtime_budget_s : float or None
        Largest mean runtime of a query.
    runtime_budget_ratio : float or None
        The same, as a multiple of the reference baseline's mean runtime.
    accuracy_floor : float or None
        Smallest accuracy in [0, 1], by `accuracy_measure`.
    accuracy_measure : {"query-mean", "token-weighted"}
    """

    horizon_s: float | None = None
    runtime_budget_s: float | None = None
    runtime_budget_ratio: float | None = None
    accuracy_floor: float | None = None
    accuracy_measure: str = "query-mean"

    def __post_init__(self) -> None:
        for name, value in (
            ("--horizon", self.horizon_s),
            ("--runtime-budget", self.runtime_budget_s),
            ("--runtime-budget", self.runtime_budget_ratio),
        ):
            if value is not None and not (value > 0 and np.isfinite(value)):
                raise ParameterError(name, f"{value:g}", "give a number above 0")
        if self.accuracy_floor is not None and not 0 <= self.accuracy_floor <= 1:
            raise ParameterError(
                "--accuracy-floor", f"{self.accuracy_floor:g} is outside [0, 1]", "give 0 to 1"
            )
        if self.accuracy_measure not in ACCURACY_MEASURES:
            raise ParameterError(
                "--accuracy-measure",
                f"{self.accuracy_measure!r} is unknown",
                f"use one of {', '.join(ACCURACY_MEASURES)}",
            )

    def against(self, reference_s: float) -> Limits:
        """The same limits, a relative runtime budget in seconds."""
        if self.runtime_budget_ratio is None:
            return self
        seconds = self.runtime_budget_ratio * reference_s
        return replace(self, runtime_budget_s=seconds, runtime_budget_ratio=None)


@dataclass(frozen=True)
class Constrained:
    """The cheapest assignment that keeps all limits.

    Attributes
    ----------
    shares : array (Q, K)
        Part of each distinct query's count that each deployment gets.
    bound : float
        No assignment costs less, in the unit of the cost.
    gap : float
        Relative distance of the assignment's cost to the bound.
    prices : list of Price
        One for each constraint, in J or J-equivalents.
    converged : bool
    """

    shares: Array
    bound: float
    gap: float
    prices: list[Price]
    converged: bool


def constraints_of(problem: Problem, limits: Limits) -> tuple[Constraint, ...]:
    """The coupling constraints of a problem; empty if every query is free to choose."""
    found: list[Constraint] = []
    k = len(problem.deployments)
    for index, deployment in enumerate(problem.deployments):
        for name, unit, column, sign, bound in _of_deployment(deployment, problem.total, limits):
            usage = np.zeros((k, 3))
            usage[index, column] = sign
            found.append(Constraint(f"{name} of {deployment.name}", unit, usage, sign * bound))
    if limits.runtime_budget_s is not None:
        usage = np.zeros((k, 3))
        usage[:, RUNTIME] = 1.0
        bound = limits.runtime_budget_s * problem.total
        found.append(Constraint("runtime budget", "s", usage, bound))
    if limits.accuracy_floor is not None:
        found.append(_accuracy_floor(problem, limits))
    return tuple(found)


def _of_deployment(
    deployment: Deployment, queries: int, limits: Limits
) -> list[tuple[str, str, int, float, float]]:
    """Name, unit, column, sign and bound of the limits that a deployment states."""
    busy_s = (
        None
        if limits.horizon_s is None
        else deployment.replicas * limits.horizon_s * deployment.utilisation
    )
    stated = [
        ("largest share", "queries", COUNT, 1.0, deployment.max_share, queries),
        ("smallest share", "queries", COUNT, -1.0, deployment.min_share, queries),
        ("query cap", "queries", COUNT, 1.0, deployment.max_queries, 1),
        ("token cap", "tokens", TOKENS, 1.0, deployment.max_tokens, 1),
        ("busy time", "s", RUNTIME, 1.0, busy_s, 1),
    ]
    return [
        (name, unit, column, sign, float(bound) * factor)
        for name, unit, column, sign, bound, factor in stated
        if bound is not None
    ]


def _accuracy_floor(problem: Problem, limits: Limits) -> Constraint:
    assert limits.accuracy_floor is not None
    usage = np.zeros((len(problem.deployments), 3))
    if limits.accuracy_measure == "query-mean":
        column, weight = COUNT, float(problem.total)
    else:
        tokens = problem.queries.m + problem.queries.n
        column, weight = TOKENS, float(tokens @ problem.queries.count)
    usage[:, column] = -accuracies(problem)
    return Constraint("accuracy floor", "", usage, -limits.accuracy_floor * weight)


def solve_constrained(
    problem: Problem,
    cost: Array,
    constraints: tuple[Constraint, ...],
    on_progress: Callable[[float, float], None] | None = None,
) -> Constrained:
    """Find the cheapest assignment that keeps the constraints.

    Parameters
    ----------
    problem : Problem
    cost : array (Q, K)
        In joules or J-equivalents; inf where a query may not go.
    constraints : tuple of Constraint
    on_progress : callable, optional
        Told the lower bound and the gap.

    Raises
    ------
    InfeasibleError
        If the constraints conflict; names them and the least relaxation.
    """
    tokens = np.broadcast_to((problem.queries.m + problem.queries.n)[:, None], cost.shape)
    uses_tokens = any((c.usage[:, TOKENS] != 0).any() for c in constraints)
    features = np.stack([problem.runtime_s, tokens] if uses_tokens else [problem.runtime_s])
    narrowed = tuple(
        Constraint(c.name, c.unit, c.usage[:, : len(features) + 1], c.bound) for c in constraints
    )
    model = make_model(
        np.where(problem.eligible, cost, 0.0),
        features,
        problem.eligible,
        problem.queries.count.astype(float),
        narrowed,
    )
    solution = solve(model, on_progress)
    refuse_infeasible(model, solution)
    prices = [
        Price(c.name, c.unit, float(price), bool(price > 0))
        for c, price in zip(constraints, solution.price, strict=True)
    ]
    return Constrained(
        spread(solution.choice, solution.splits, problem.queries.count, len(problem.deployments)),
        solution.bound,
        solution.gap,
        prices,
        solution.converged,
    )


def keeps(problem: Problem, constraints: tuple[Constraint, ...], shares: Array) -> bool:
    """Whether an assignment keeps all constraints, to 1e-9 of each bound."""
    counted = shares * problem.queries.count[:, None]
    tokens = (problem.queries.m + problem.queries.n)[:, None]
    totals = np.stack(
        [
            counted.sum(axis=0),
            (counted * problem.runtime_s).sum(axis=0),
            (counted * tokens).sum(axis=0),
        ],
        axis=1,
    )
    return all(
        float((c.usage * totals).sum()) <= c.bound + 1e-9 * abs(c.bound) + 1e-9 for c in constraints
    )
