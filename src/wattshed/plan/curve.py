"""The exact optima over λ, and the figures of one assignment that they share with the plan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from wattshed.errors import ParameterError
from wattshed.fit.forms import Array
from wattshed.plan.baselines import one_hot
from wattshed.plan.cost import Scales, Weights, accuracies, cost_matrix, least_cost
from wattshed.plan.problem import Problem
from wattshed.plan.totals import Account
from wattshed.records import CurvePoint

# The optimum moves where energy and runtime trade, which is far from λ = 1/2 when one
# machine is much slower: equal steps in log(λ / (1 - λ)) find every part of the curve.
CURVE_WEIGHTS = np.concatenate([[0.0], 1 / (1 + np.geomspace(1e3, 1e-4, 57)), [1.0]])


def trace_curve(
    problem: Problem, weights: Weights, scales: Scales, account: Account
) -> list[CurvePoint]:
    """Exact optima over λ; ζ, if given, stays."""
    points = []
    rows = np.arange(len(problem.queries.m))
    count = problem.queries.count
    for value in CURVE_WEIGHTS:
        cost = cost_matrix(problem, replace(weights, energy=float(value)), scales)
        choice = least_cost(cost)
        shares = one_hot(choice, cost.shape[1])
        net = float(problem.energy_j[rows, choice] @ count)
        points.append(
            CurvePoint(
                energy_weight=float(value),
                energy_j=net + account.sunk_idle_j,
                runtime_s_mean=float(problem.runtime_s[rows, choice] @ count) / problem.total,
                accuracy_token_weighted=mean_accuracy(problem, shares)[1],
                shares=shares_by_name(problem, shares),
            )
        )
    return points


def mean_accuracy(problem: Problem, shares: Array) -> tuple[float | None, float | None]:
    """Mean accuracy over queries and over tokens; None where a deployment states none."""
    try:
        accuracy = accuracies(problem)
    except ParameterError:
        return None, None
    per_query = shares @ accuracy
    count = problem.queries.count
    tokens = (problem.queries.m + problem.queries.n) * count
    return float(per_query @ count / count.sum()), float(per_query @ tokens / tokens.sum())


def shares_by_name(problem: Problem, shares: Array) -> dict[str, float]:
    """Part of the queries that each deployment gets."""
    part = problem.queries.count @ shares / problem.total
    return dict(zip(problem.names, part.tolist(), strict=True))
