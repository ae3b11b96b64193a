"""Decide where each query goes: freely, within a runtime budget, or within any limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from wattshed.fit.forms import Array
from wattshed.plan.baselines import one_hot
from wattshed.plan.capacity import constraints_of, price_rule, solve_constrained
from wattshed.plan.cost import Scales, Weights, cost_matrix, least_cost
from wattshed.plan.front import energy_at, next_prices, point_within_runtime
from wattshed.plan.limits import Limits
from wattshed.plan.pareto import runtime_front, runtime_weights
from wattshed.plan.problem import Problem
from wattshed.records import Price, PriceRule
from wattshed.transport.model import Constraint


@dataclass(frozen=True)
class Decision:
    """An assignment and its proof.

    Attributes
    ----------
    shares : array (Q, K)
    weights : Weights
        Those asked for; with a runtime budget alone, λ is the weight that gives this plan.
    bound_j : float or None
        Lower bound of the energy that is minimised; None if cost is not energy alone.
    gap : float
    prices : list of Price
    rule : PriceRule
        Weights and prices as a rule for single queries.
    constraints : tuple of Constraint
    iterations : int
        Passes over all queries that finding prices took, or cuts of a robust search.
    converged : bool
    """

    shares: Array
    weights: Weights
    bound_j: float | None
    gap: float
    prices: list[Price]
    rule: PriceRule
    constraints: tuple[Constraint, ...]
    iterations: int
    converged: bool


def decide(
    problem: Problem,
    weights: Weights,
    scales: Scales,
    limits: Limits,
    sunk_idle_j: float = 0.0,
    on_progress: Callable[[float, float], None] | None = None,
) -> Decision:
    """Find the cheapest assignment within the limits.

    Parameters
    ----------
    problem : Problem
    weights : Weights
    scales : Scales
    limits : Limits
        In SI units.
    sunk_idle_j : float
        Part of an energy budget that no decision changes.
    on_progress : callable, optional
        Told (lower bound in J, relative gap).

    Raises
    ------
    InfeasibleError
        If the limits conflict.
    ParameterError
        If a runtime budget alone is out of reach.
    """
    constraints = constraints_of(problem, limits, sunk_idle_j)
    if not constraints:
        return _free(problem, weights, scales)
    if len(constraints) == 1 and limits.runtime is not None and energy_alone(weights):
        return _within_budget(problem, weights, scales, limits.runtime.value, constraints)
    cost_j = cost_matrix(problem, weights, scales) * scales.energy_j
    found = solve_constrained(problem, cost_j, constraints, on_progress)
    bound = found.bound if energy_alone(weights) else None
    paid = np.array([price.price_j for price in found.prices])
    rule = price_rule(problem, weights, scales, constraints, paid)
    return Decision(
        found.shares,
        weights,
        bound,
        found.gap,
        found.prices,
        rule,
        constraints,
        found.iterations,
        found.converged,
    )


def energy_alone(weights: Weights) -> bool:
    """Whether cost is energy and nothing else."""
    return weights.energy == 1.0 and weights.accuracy is None


def _free(problem: Problem, weights: Weights, scales: Scales) -> Decision:
    choice = least_cost(cost_matrix(problem, weights, scales))
    shares = one_hot(choice, len(problem.deployments))
    bound = _energy(problem, shares) if energy_alone(weights) else None
    rule = price_rule(problem, weights, scales)
    return Decision(shares, weights, bound, 0.0, [], rule, (), 1, True)


def _within_budget(
    problem: Problem,
    weights: Weights,
    scales: Scales,
    budget_s: float,
    constraints: tuple[Constraint, ...],
) -> Decision:
    """The cheapest supported point within the budget: its λ gives the same plan again."""
    front = runtime_front(problem, 0.0)
    index = point_within_runtime(front, budget_s)
    found = replace(weights, energy=float(runtime_weights(problem, front, scales)[index]))
    price = float(next_prices(front)[index])
    decided = _free(problem, found, scales)
    energy = _energy(problem, decided.shares)
    bound = min(float(energy_at(front, np.array([budget_s]))[0]), energy)
    prices = [Price("runtime budget", "s", price, price > 0)]
    return replace(
        decided,
        bound_j=bound,
        gap=(energy - bound) / abs(energy),
        prices=prices,
        constraints=constraints,
    )


def _energy(problem: Problem, shares: Array) -> float:
    return float(((shares * problem.energy_j).sum(axis=1)) @ problem.queries.count)
