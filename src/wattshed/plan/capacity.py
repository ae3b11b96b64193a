"""What couples the queries of a plan, and the plan that respects it.

Shares, busy time, query and token caps of deployments; budgets of mean runtime and of
energy and a floor of accuracy for the whole workload. Each has a price in joules per
unit, so that argmin over deployments of priced cost is the plan, up to the few queries
that tie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from wattshed.fit.forms import Array
from wattshed.fleet import Deployment
from wattshed.plan.assign import refuse_infeasible, spread
from wattshed.plan.cost import Scales, Weights, accuracies
from wattshed.plan.limits import Limits
from wattshed.plan.problem import Choice, Problem
from wattshed.records import DeploymentPrices, Price, PriceRule
from wattshed.transport.model import Constraint, make_model
from wattshed.transport.solve import solve

COUNT, RUNTIME, TOKENS, ENERGY, BUSY, CLASSES = range(6)
"""What constraints add up: columns of their usage; from CLASSES on, one for each class."""


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
    iterations : int
        Passes over all queries.
    converged : bool
    """

    shares: Array
    bound: float
    gap: float
    prices: list[Price]
    iterations: int
    converged: bool


def constraints_of(
    problem: Problem, limits: Limits, sunk_idle_j: float = 0.0
) -> tuple[Constraint, ...]:
    """The coupling constraints of a problem; empty if every query is free to choose.

    Parameters
    ----------
    problem : Problem
    limits : Limits
        In SI units.
    sunk_idle_j : float
        Part of an energy budget that no decision changes.
    """
    found: list[Constraint] = []
    for index, deployment in enumerate(problem.deployments):
        for name, unit, column, bound, per in _of_deployment(deployment, problem.total, limits):
            usage = _no_usage(problem)
            usage[index, column] = np.sign(per)
            found.append(Constraint(f"{name} of {deployment.name}", unit, usage, bound * per, per))
    for name, unit, column, bound, queries in _of_workload(problem, limits, sunk_idle_j):
        usage = _no_usage(problem)
        usage[:, column] = 1.0
        found.append(Constraint(name, unit, usage, bound * queries, queries))
    if limits.accuracy_floor is not None:
        found.append(_accuracy_floor(problem, limits.accuracy_floor, limits.accuracy_measure))
    return tuple(found)


def _no_usage(problem: Problem) -> Array:
    return np.zeros((len(problem.deployments), CLASSES + len(problem.queries.classes)))


def _of_workload(
    problem: Problem, limits: Limits, sunk_idle_j: float
) -> list[tuple[str, str, int, float, float]]:
    """Name, unit, column, bound and what it is per, of the budgets of totals and means."""
    queries = problem.queries
    found = []
    if limits.runtime is not None:
        found.append(("runtime budget", "s", RUNTIME, limits.runtime.value, float(problem.total)))
    for name, bound in limits.class_runtime.items():
        group = queries.classes.index(name)
        number = float(queries.count[queries.group == group].sum())
        found.append((f"runtime budget of {name}", "s", CLASSES + group, bound.value, number))
    if limits.energy is not None:
        found.append(("energy budget", "J", ENERGY, limits.energy.value - sunk_idle_j, 1.0))
    return found


def _of_deployment(
    deployment: Deployment, queries: int, limits: Limits
) -> list[tuple[str, str, int, float, float]]:
    """Name, unit, column, bound and what it is per (negative for a floor), of one deployment."""
    busy_s = (
        None
        if limits.horizon_s is None
        else deployment.replicas * limits.horizon_s * deployment.utilisation
    )
    stated = [
        ("largest share", "queries", COUNT, deployment.max_share, float(queries)),
        ("smallest share", "queries", COUNT, deployment.min_share, -float(queries)),
        ("query cap", "queries", COUNT, deployment.max_queries, 1.0),
        ("token cap", "tokens", TOKENS, deployment.max_tokens, 1.0),
        ("busy time", "s", BUSY, busy_s, 1.0),
    ]
    return [
        (name, unit, column, float(bound), per)
        for name, unit, column, bound, per in stated
        if bound is not None
    ]


def _accuracy_floor(problem: Problem, floor: float, measure: str) -> Constraint:
    usage = _no_usage(problem)
    if measure == "query-mean":
        column, unit, weight = COUNT, "query", float(problem.total)
    else:
        tokens = problem.queries.m + problem.queries.n
        column, unit, weight = TOKENS, "token", float(tokens @ problem.queries.count)
    usage[:, column] = -accuracies(problem)
    return Constraint("accuracy floor", unit, usage, -floor * weight, -weight)


def _features(problem: Problem) -> Iterator[Array]:
    """What constraints add up besides queries, arrays (Q, K) by column of their usage."""
    shape = problem.runtime_s.shape
    yield problem.runtime_s
    yield np.broadcast_to((problem.queries.m + problem.queries.n)[:, None], shape)
    yield problem.energy_j
    yield problem.busy_s
    for group in range(len(problem.queries.classes)):
        yield np.where(problem.queries.group[:, None] == group, problem.runtime_s, 0.0)


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
    used = [
        column
        for column in range(1, constraints[0].usage.shape[1])
        if any(c.usage[:, column].any() for c in constraints)
    ]
    narrowed = tuple(replace(c, usage=c.usage[:, [COUNT, *used]]) for c in constraints)
    features = [each for column, each in enumerate(_features(problem), 1) if column in used]
    model = make_model(
        np.where(problem.eligible, cost, 0.0),
        np.array(features).reshape(len(used), *cost.shape),
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
        solution.passes,
        solution.converged,
    )


def keeps(problem: Problem, constraints: tuple[Constraint, ...], shares: Array) -> bool:
    """Whether an assignment keeps all constraints, to 1e-9 of each bound."""
    counted = shares * problem.queries.count[:, None]
    columns = [counted.sum(axis=0)]
    columns += [(counted * feature).sum(axis=0) for feature in _features(problem)]
    totals = np.stack(columns, axis=1)
    loads = np.array([float((c.usage * totals).sum()) for c in constraints])
    return bool((loads <= tolerated(constraints)).all())


def tolerated(constraints: tuple[Constraint, ...]) -> Array:
    """Bounds (J,) with room for rounding: 1e-9 of each."""
    bound = np.array([c.bound for c in constraints])
    return np.asarray(bound + 1e-9 * np.abs(bound) + 1e-9)


def usages(problem: Problem, constraints: tuple[Constraint, ...], choice: Choice) -> Array:
    """What all queries of each row use of each constraint where they are sent, (J, Q)."""
    rows = np.arange(len(choice))
    used = [np.ones(len(choice)), *(feature[rows, choice] for feature in _features(problem))]
    found = [
        sum(c.usage[choice, column] * each for column, each in enumerate(used)) for c in constraints
    ]
    return np.reshape(found, (len(constraints), len(choice))) * problem.queries.count


def price_rule(
    problem: Problem,
    weights: Weights,
    scales: Scales,
    constraints: tuple[Constraint, ...] = (),
    prices: Array | None = None,
) -> PriceRule:
    """A plan's weights and prices as the cost of any query on any deployment.

    Parameters
    ----------
    problem : Problem
    weights : Weights
    scales : Scales
    constraints : tuple of Constraint, length J
    prices : array (J,), optional
        In J per unit of each constraint.
    """
    part = 1.0 if weights.accuracy is None else weights.accuracy
    names = problem.queries.classes
    surcharge = _no_usage(problem)
    for constraint, price in zip(constraints, () if prices is None else prices, strict=True):
        surcharge += price * constraint.usage
    if weights.accuracy is not None:
        worth_j = (1 - weights.accuracy) * scales.energy_j / scales.accuracy_tokens
        surcharge[:, TOKENS] -= worth_j * accuracies(problem)
    # A budget of the whole workload charges every deployment alike.
    energy = float(surcharge[:, ENERGY].max())
    by_class = surcharge[:, CLASSES:].max(axis=0)
    base_j_per_s = part * (1 - weights.energy) * scales.energy_j / scales.runtime_s
    return PriceRule(
        energy_weight=part * weights.energy + energy,
        class_runtime_j_per_s={
            name: float(price) for name, price in zip(names, by_class, strict=True) if price
        },
        deployments={
            name: DeploymentPrices(
                query_j=float(row[COUNT]),
                runtime_j_per_s=float(base_j_per_s + row[RUNTIME]),
                token_j=float(row[TOKENS]),
                busy_j_per_s=float(row[BUSY]),
            )
            for name, row in zip(problem.names, surcharge, strict=True)
        },
    )
