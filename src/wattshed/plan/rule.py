"""A plan as a rule: what a query costs on each deployment once every limit has its price."""

from __future__ import annotations

from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from wattshed.errors import ParameterError
from wattshed.fit.forms import Array
from wattshed.fleet import Fleet
from wattshed.plan.cost import least_cost
from wattshed.plan.problem import Choice, Problem, predict_problem
from wattshed.records import DeploymentPrices, PriceRule, Threshold
from wattshed.workload.table import Queries


def priced_cost(problem: Problem, rule: PriceRule) -> Array:
    """Cost (Q, K) of each query on each deployment by a rule, in J; inf where it may not go.

    This is the only place where the formula of `PriceRule` is evaluated.

    Parameters
    ----------
    problem : Problem
    rule : PriceRule
        With prices of each of the problem's deployments.
    """
    queries = problem.queries
    prices = [rule.deployments[name] for name in problem.names]
    by_class = np.array([rule.class_runtime_j_per_s.get(name, 0.0) for name in queries.classes])
    per_second = np.array([p.runtime_j_per_s for p in prices]) + by_class[queries.group][:, None]
    cost = (
        rule.energy_weight * problem.energy_j
        + per_second * problem.runtime_s
        + np.array([p.busy_j_per_s for p in prices]) * problem.busy_s
        + np.array([p.query_j for p in prices])
        + np.array([p.token_j for p in prices]) * (queries.m + queries.n)[:, None]
    )
    return np.where(problem.eligible, cost, np.inf)


def choose(fleet: Fleet, rule: PriceRule, queries: Queries) -> Choice:
    """Where a rule sends queries: deployments (Q,) by their place among the sorted names.

    -1 where no deployment may serve a query. Equal costs go to the first name.

    Parameters
    ----------
    fleet : Fleet
    rule : PriceRule
    queries : Queries
        Their `count` plays no part.
    """
    problem = predict_problem(fleet, queries)
    return np.where(problem.eligible.any(axis=1), least_cost(priced_cost(problem, rule)), -1)


def energy_rule(fleet: Fleet) -> PriceRule:
    """The rule without prices: least energy."""
    return PriceRule(1.0, {}, {d.name: DeploymentPrices() for d in fleet.deployments})


@overload
def within(rule: Threshold, m: float, n: float) -> bool: ...
@overload
def within(rule: Threshold, m: Array, n: Array) -> NDArray[np.bool_]: ...
def within(rule: Threshold, m: Any, n: Any) -> Any:
    """Where queries are within every bound of a threshold rule, bool or bool array (Q,)."""
    found = m > 0
    for bound, value in ((rule.t_in, m), (rule.t_out, n), (rule.product, m * n)):
        if bound is not None:
            found = found & (value <= bound)
    return found


def refuse_other_deployments(rule: PriceRule, fleet: Fleet) -> None:
    """Demand a price for every deployment of a fleet, and no other.

    Raises
    ------
    ParameterError
    """
    names = {d.name for d in fleet.deployments}
    if names != set(rule.deployments):
        raise ParameterError(
            "rule",
            f"has prices of {', '.join(sorted(rule.deployments))}, but {fleet.name} consists of"
            f" {', '.join(sorted(names))}",
            "use the rule of a plan of this fleet",
        )
