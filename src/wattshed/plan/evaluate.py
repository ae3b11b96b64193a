"""Judge a plan's rule on queries that it was not made on, with their output lengths unknown.

The rule is made on one workload: its scales, its prices and how long answers are. On the
other it decides by expected lengths and pays what each query really costs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from msgspec import structs

from wattshed.errors import ParameterError
from wattshed.fit.forms import Array
from wattshed.fleet import Deployment, Fleet
from wattshed.plan.baselines import one_hot, single
from wattshed.plan.capacity import constraints_of, tolerated, usages
from wattshed.plan.cost import least_cost
from wattshed.plan.curve import mean_accuracy
from wattshed.plan.forecast import least_expected_cost
from wattshed.plan.limits import Limits
from wattshed.plan.planner import in_si_units
from wattshed.plan.problem import Choice, Problem, build_problem, predict_problem
from wattshed.plan.rule import priced_cost, refuse_other_deployments
from wattshed.plan.totals import (
    is_significant,
    make_account,
    probability_saves,
    saving_interval,
    total,
)
from wattshed.records import LimitUse, OutOfSample, Plan, PriceRule
from wattshed.transport.model import Constraint
from wattshed.workload.lengths import PREDICTORS, train_histogram
from wattshed.workload.table import Workload

KNOWN = "known"
"""Decides by the true lengths: what a perfect predictor would reach."""
DISTRIBUTION = "distribution"
"""Decides by the expected cost over the lengths of past queries with alike inputs."""


@dataclass(frozen=True)
class _Decided:
    predictor: str
    choice: Choice
    displaced: int


def evaluate_out_of_sample(
    fleet: Fleet, train: Workload, test: Workload, plan: Plan, limits: Limits | None = None
) -> list[OutOfSample]:
    """Decide the test queries by a plan of the training queries, and pay the true cost.

    Parameters
    ----------
    fleet : Fleet
        That of the plan.
    train, test : Workload
        For example the two halves of `split_half`.
    plan : Plan
        Of `train`. Its rule decides, prices included.
    limits : Limits, optional
        Those of the plan: what it is told whether they were kept. A limit on a total is scaled
        with the number of queries; a multiple of the reference is one of the reference on the
        test queries.

    Returns
    -------
    list of OutOfSample
        Of known lengths, of each length predictor, and of the expected cost.

    Raises
    ------
    ParameterError, UnservableError
    """
    if plan.rule is None:
        raise ParameterError("plan", "has no rule", "plan the workload again")
    refuse_other_deployments(plan.rule, fleet)
    scale = test.queries / train.queries
    fleet = _scaled(fleet, scale)
    actual = build_problem(fleet, test)
    lengths = {name: make(train)(actual.queries.m) for name, make in PREDICTORS.items()}
    decided = [
        _decide(fleet, plan.rule, actual, name, n)
        for name, n in ((KNOWN, actual.queries.n), *lengths.items())
    ]
    wanted = least_expected_cost(fleet, plan.rule, actual, train_histogram(train))
    decided.append(_serve(actual, plan.rule, DISTRIBUTION, wanted))
    reference = [b.name for b in plan.baselines].index(plan.reference)
    cost = priced_cost(actual, plan.rule)
    alone = single(actual, cost, reference)
    within = in_si_units(_of_test(limits or Limits(), actual, scale), actual, alone, reference)
    return _pay(actual, cost, decided, reference, constraints_of(actual, *within))


def _scaled(fleet: Fleet, scale: float) -> Fleet:
    """The same fleet with limits on totals for as many queries as there are."""

    def scaled(deployment: Deployment) -> Deployment:
        totals = {"max_queries": deployment.max_queries, "max_tokens": deployment.max_tokens}
        return structs.replace(
            deployment, **{k: v if v is None else round(v * scale) for k, v in totals.items()}
        )

    return structs.replace(fleet, deployments=[scaled(d) for d in fleet.deployments])


def _of_test(limits: Limits, actual: Problem, scale: float) -> Limits:
    """Limits for as many queries as there are, of the classes that there are."""
    energy = limits.energy
    if energy is not None and not energy.relative:
        energy = replace(energy, value=energy.value * scale)
    return replace(
        limits,
        horizon_s=None if limits.horizon_s is None else limits.horizon_s * scale,
        energy=energy,
        class_runtime={
            name: bound
            for name, bound in limits.class_runtime.items()
            if name in actual.queries.classes
        },
    )


def _decide(fleet: Fleet, rule: PriceRule, actual: Problem, predictor: str, n: Array) -> _Decided:
    """Choose by expected lengths `n` (Q,); what cannot be served there goes elsewhere."""
    expected = predict_problem(fleet, replace(actual.queries, n=n))
    wanted = least_cost(priced_cost(expected, rule))
    nowhere = ~expected.eligible.any(axis=1)
    return _serve(actual, rule, predictor, np.where(nowhere, -1, wanted))


def _serve(actual: Problem, rule: PriceRule, predictor: str, wanted: Choice) -> _Decided:
    """Send queries where they are wanted (Q,), -1 for nowhere, or else to the cheapest."""
    served = (wanted >= 0) & actual.eligible[np.arange(len(wanted)), wanted]
    choice = np.where(served, wanted, least_cost(priced_cost(actual, rule)))
    return _Decided(predictor, choice, int(actual.queries.count[~served].sum()))


def _pay(
    actual: Problem,
    cost: Array,
    decided: list[_Decided],
    reference: int,
    constraints: tuple[Constraint, ...],
) -> list[OutOfSample]:
    """Energy, runtime and regret of decisions at the true lengths."""
    k = len(actual.deployments)
    shares = np.stack(
        [single(actual, cost, reference).shares, *(one_hot(d.choice, k) for d in decided)]
    )
    totals = total(actual, shares)
    runtime_s = totals.runtime_s.sum(axis=1)
    account = make_account(actual, float(totals.busy_s[0].sum()), reference, np.ones(k))
    energy = account.energy_j(totals.energy_j, totals.busy_s)
    found = []
    for row, each in enumerate(decided, start=1):
        saving, interval = saving_interval(totals, account, row, 0)
        parts = (actual.queries.count @ shares[row] / actual.total).tolist()
        accuracy = mean_accuracy(actual, shares[row])
        found.append(
            OutOfSample(
                predictor=each.predictor,
                energy_j=float(energy[row]),
                runtime_s_mean=float(runtime_s[row]) / actual.total,
                reference=f"all {actual.names[reference]}",
                saving_pct=saving,
                saving=interval,
                significant=is_significant(interval),
                probability_saves=probability_saves(totals, account, row, 0),
                regret_pct=_regret_pct(actual, cost, each.choice),
                displaced_queries=each.displaced,
                shares=dict(zip(actual.names, parts, strict=True)),
                busy_s=dict(zip(actual.names, totals.busy_s[row].tolist(), strict=True)),
                accuracy_query_mean=accuracy[0],
                accuracy_token_weighted=accuracy[1],
                limits=_limit_uses(actual, constraints, each.choice),
            )
        )
    return found


def _limit_uses(
    problem: Problem, constraints: tuple[Constraint, ...], choice: Choice
) -> list[LimitUse]:
    """What decisions use of each limit; floors, which are negative inside, turned round."""
    used = usages(problem, constraints, choice).sum(axis=1)
    kept = used <= tolerated(constraints)
    sign = [-1.0 if (c.usage < 0).any() else 1.0 for c in constraints]
    return [
        LimitUse(c.name, c.unit, s * float(u), s * c.bound, bool(k))
        for c, s, u, k in zip(constraints, sign, used, kept, strict=True)
    ]


def _regret_pct(problem: Problem, cost: Array, choice: Choice) -> float | None:
    least = float(cost.min(axis=1) @ problem.queries.count)
    paid = float(cost[np.arange(len(cost)), choice] @ problem.queries.count)
    return 100 * (paid - least) / least if least > 0 else None
