"""What energy can be bought for: the exact fronts of a workload on a fleet."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from wattshed.errors import ParameterError
from wattshed.fit.forms import Array
from wattshed.fleet import Fleet
from wattshed.plan.baselines import Baseline, all_baselines, reference_single
from wattshed.plan.caveats import engine_caveats, estimate_caveats
from wattshed.plan.cost import (
    ACCURACY_MEASURES,
    Scales,
    Weights,
    accuracies,
    accuracy_tokens,
    cost_matrix,
    least_cost,
    make_scales,
)
from wattshed.plan.front import (
    SAME_VALUE,
    Front,
    energy_at,
    energy_weight,
    interior_prices,
    knee_by_distance,
    knee_by_rate,
    next_prices,
    point_within_runtime,
    supported_front,
    thin,
)
from wattshed.plan.problem import Problem, build_problem
from wattshed.plan.totals import make_account
from wattshed.records import (
    AccuracyPoint,
    Budget,
    FrontPoint,
    Gap,
    Knees,
    Pareto,
    RulePoint,
)
from wattshed.workload.table import Workload

RUNTIME_FACTORS = (1.1, 1.5, 2.0, 3.0)
_SAME_TOTAL = 1e-10  # relative; beyond it two plans of one energy differ in runtime


def find_pareto(
    fleet: Fleet,
    workload: Workload,
    *,
    normalisation: str = "ideal",
    accuracy_measure: str = "query-mean",
    points: int = 200,
    seed: int = 0,
) -> Pareto:
    """Find all supported trade-offs of energy with runtime, and with accuracy.

    Parameters
    ----------
    fleet : Fleet
    workload : Workload
    normalisation : {"ideal", "range", "none"}
        Scales for which λ and ζ of the points hold.
    accuracy_measure : {"query-mean", "token-weighted"}
    points : int
        About how many points to keep of each front; 0 keeps all.
    seed : int
        Of the random baseline.

    Raises
    ------
    ParameterError, UnservableError
    """
    _refuse_parameters(accuracy_measure, points)
    weights = Weights(1.0, None, normalisation)
    problem = build_problem(fleet, workload)
    scales = make_scales(problem, weights)
    cost = cost_matrix(problem, weights, scales)
    rules = all_baselines(problem, cost, seed)
    reference = reference_single(problem, cost)
    sunk_idle_j = _sunk_idle_j(problem, rules[reference], reference)
    front = runtime_front(problem, sunk_idle_j)
    lambdas = runtime_weights(problem, front, scales)
    knees = knee_by_distance(front), knee_by_rate(front)
    shown = thin(front, points, [k for k in knees if k is not None])
    accuracy = _accuracy_points(problem, sunk_idle_j, accuracy_measure, normalisation, points)
    return Pareto(
        points=[_point(front, lambdas, i) for i in shown.tolist()],
        total_points=len(front.energy),
        knee=Knees(
            None if knees[0] is None else _point(front, lambdas, knees[0]),
            _point(front, lambdas, knees[1]),
        ),
        budgets=[_budget(front, lambdas, factor) for factor in RUNTIME_FACTORS],
        gap=_gap(front),
        baselines=_rule_points(problem, front, rules, sunk_idle_j),
        reference=rules[reference].name,
        accuracy_measure=accuracy_measure,
        accuracy_points=accuracy[0] if accuracy else None,
        total_accuracy_points=accuracy[1] if accuracy else None,
        queries=problem.total,
        sunk_idle_j=sunk_idle_j,
        normalisation=normalisation,
        scales={"energy_j": scales.energy_j, "runtime_s": scales.runtime_s},
        warnings=_warnings(problem),
    )


def runtime_front(problem: Problem, sunk_idle_j: float) -> Front:
    """Every supported point of energy against runtime, the sunk idle energy added."""
    front = supported_front(
        problem.energy_j, problem.runtime_s, problem.queries.count, problem.eligible
    )
    return replace(front, energy=front.energy + sunk_idle_j)


def runtime_weights(problem: Problem, front: Front, scales: Scales) -> Array:
    """λ (P,) of each point: 0 and 1 at the ends, or just inside where ties would decide."""
    found = energy_weight(interior_prices(front), scales.energy_j, scales.runtime_s)
    if _is_decided(problem, Weights(0.0), scales, problem.energy_j):
        found[0] = 0.0
    if _is_decided(problem, Weights(1.0), scales, problem.runtime_s):
        found[-1] = 1.0
    return found


def accuracy_front(problem: Problem, sunk_idle_j: float, measure: str) -> Front:
    """Every supported point of energy against accuracy; `other` is its negative.

    Raises
    ------
    ParameterError
        If a deployment has no accuracy.
    """
    queries = problem.queries
    if measure == "token-weighted":
        accuracy, weight = accuracy_tokens(problem), float((queries.m + queries.n) @ queries.count)
    else:
        accuracy = np.broadcast_to(accuracies(problem), problem.energy_j.shape)
        weight = float(queries.count.sum())
    front = supported_front(
        problem.energy_j, -accuracy, queries.count, problem.eligible, weight=weight
    )
    return replace(front, energy=front.energy + sunk_idle_j)


def accuracy_weights(problem: Problem, front: Front, normalisation: str) -> Array:
    """ζ (P,) of each point of a token-weighted accuracy front."""
    best, thrifty = (Weights(1.0, zeta, normalisation) for zeta in (0.0, 1.0))
    scales = make_scales(problem, best)
    found = energy_weight(interior_prices(front), scales.energy_j, scales.accuracy_tokens)
    if _is_decided(problem, best, scales, problem.energy_j):
        found[0] = 0.0
    if _is_decided(problem, thrifty, scales, -accuracy_tokens(problem)):
        found[-1] = 1.0
    return found


def _is_decided(problem: Problem, weights: Weights, scales: Scales, second: Array) -> bool:
    """Whether the plan at an extreme weight is also best, or as good, in the other quantity.

    `second` (Q, K) is that quantity. Where several deployments cost a query the same, a
    plan takes the first by name.
    """
    cost = cost_matrix(problem, weights, scales)
    least = cost.min(axis=1, keepdims=True)
    near = cost <= least + SAME_VALUE * np.abs(least)
    best = np.where(near, second, np.inf).min(axis=1) @ problem.queries.count
    taken = np.take_along_axis(second, least_cost(cost)[:, None], axis=1)[:, 0]
    return bool(np.isclose(taken @ problem.queries.count, best, rtol=_SAME_TOTAL, atol=0.0))


# ---------------------------------------------------------------- points


def _point(front: Front, lambdas: Array, index: int) -> FrontPoint:
    return FrontPoint(
        energy_j=float(front.energy[index]),
        runtime_s_mean=float(front.mean[index]),
        energy_weight=float(lambdas[index]),
        price_j_per_s=float(next_prices(front)[index]),
    )


def _budget(front: Front, lambdas: Array, factor: float) -> Budget:
    bound = factor * float(front.mean[0])
    return Budget(factor, bound, _point(front, lambdas, point_within_runtime(front, bound)))


def _accuracy_points(
    problem: Problem, sunk_idle_j: float, measure: str, normalisation: str, points: int
) -> tuple[list[AccuracyPoint], int] | None:
    """The accuracy front as points, and how many it has; None where there is none."""
    try:
        differ = len(set(accuracies(problem).tolist())) > 1
    except ParameterError:
        return None
    if not differ:
        return None
    front = accuracy_front(problem, sunk_idle_j, measure)
    weighted = measure == "token-weighted"
    zeta = accuracy_weights(problem, front, normalisation) if weighted else None
    price = next_prices(front) * front.weight / problem.total / 100
    knee = knee_by_distance(front)
    shown = thin(front, points, [] if knee is None else [knee]).tolist()
    found = [
        AccuracyPoint(
            energy_j=float(front.energy[i]),
            accuracy=float(-front.mean[i]),
            zeta=None if zeta is None else float(zeta[i]),
            price_j_per_point=float(price[i]),
        )
        for i in shown
    ]
    return found, len(front.energy)


def _gap(front: Front) -> Gap:
    if not len(front.rate):
        return Gap(0.0, 0.0)
    energy = front.energy[:-1]
    step, move = -np.diff(front.energy), front.move
    return Gap(float((100 * step / energy).max()), float((100 * move / energy).max()))


# ---------------------------------------------------------------- rules


def _sunk_idle_j(problem: Problem, rule: Baseline, reference: int) -> float:
    """Idle energy over the time that the reference needs, as a plan counts it."""
    busy_s = _total(problem, rule, problem.busy_s)
    return make_account(problem, busy_s, reference, np.ones(len(problem.deployments))).sunk_idle_j


def _total(problem: Problem, rule: Baseline, values: Array) -> float:
    return float(np.einsum("qk,qk,q->", rule.shares, values, problem.queries.count))


def _rule_points(
    problem: Problem, front: Front, rules: list[Baseline], sunk_idle_j: float
) -> list[RulePoint]:
    net = problem.energy_j
    energy = np.array([_total(problem, rule, net) for rule in rules]) + sunk_idle_j
    runtime = np.array([_total(problem, rule, problem.runtime_s) for rule in rules])
    runtime /= problem.total
    excess = 100 * (energy / energy_at(front, runtime) - 1)
    excess[np.abs(excess) < 100 * _SAME_TOTAL] = 0.0  # on the front, to rounding
    return [
        RulePoint(rule.name, rule.family, float(energy[i]), float(runtime[i]), float(excess[i]))
        for i, rule in enumerate(rules)
    ]


# ---------------------------------------------------------------- words


def _refuse_parameters(accuracy_measure: str, points: int) -> None:
    if accuracy_measure not in ACCURACY_MEASURES:
        raise ParameterError(
            "--accuracy-measure",
            f"{accuracy_measure!r} is unknown",
            f"use one of {', '.join(ACCURACY_MEASURES)}",
        )
    if points < 0:
        raise ParameterError("--points", f"{points} is negative", "give 0 for all, or more")


def _warnings(problem: Problem) -> list[str]:
    """Where predictions that a point may rest on are doubtful."""
    found = []
    count = problem.queries.count
    for k, deployment in enumerate(problem.deployments):
        for mask, words in (
            (problem.negative, "predicts a negative energy or runtime for"),
            (problem.extrapolated, "is extrapolated for"),
        ):
            queries = int(count[mask[:, k] & problem.eligible[:, k]].sum())
            if queries:
                found.append(
                    f"{deployment.name}: the profile {deployment.profile.name} {words} {queries}"
                    f" of the queries that it may serve ({100 * queries / problem.total:.1f} %)"
                )
    deployments = problem.deployments
    return found + estimate_caveats(deployments) + engine_caveats(deployments)
