"""Judge a plan's rule on queries that it was not made on, with their output lengths unknown.

The rule is made on one workload: its scales, its prices and how long answers are. On the
other it decides by expected lengths and pays what each query really costs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from wattshed.fit.forms import Array
from wattshed.fleet import Fleet
from wattshed.plan.baselines import one_hot, reference_single, single
from wattshed.plan.cost import Scales, Weights, cost_matrix, least_cost, make_scales
from wattshed.plan.problem import Choice, Problem, build_problem, predict_problem
from wattshed.plan.totals import (
    is_significant,
    make_account,
    probability_saves,
    saving_interval,
    total,
)
from wattshed.records import OutOfSample
from wattshed.workload.lengths import PREDICTORS
from wattshed.workload.table import Workload

KNOWN = "known"
"""Decides by the true lengths: what a perfect predictor would reach."""


@dataclass(frozen=True)
class _Rule:
    """Sends a query where cost with prices (K,) is least; fixed on the training queries."""

    fleet: Fleet
    weights: Weights
    scales: Scales
    price_per_query: Array
    price_per_busy_s: Array

    def cost(self, problem: Problem) -> Array:
        """Cost (Q, K); inf where a query may not go."""
        priced = self.price_per_query + self.price_per_busy_s * problem.runtime_s
        return cost_matrix(problem, self.weights, self.scales) + priced


@dataclass(frozen=True)
class _Decided:
    predictor: str
    choice: Choice
    displaced: int


def evaluate_out_of_sample(
    fleet: Fleet,
    train: Workload,
    test: Workload,
    weights: Weights | None = None,
    price_per_query: Array | None = None,
    price_per_busy_s: Array | None = None,
) -> list[OutOfSample]:
    """Decide the test queries by a rule made on the training queries, and pay the true cost.

    Parameters
    ----------
    fleet : Fleet
    train, test : Workload
        For example the two halves of `split_half`.
    weights : Weights, optional
        Energy alone unless told; scales are those of `train`.
    price_per_query, price_per_busy_s : array (K,), optional
        Added to the cost of each query, and for each second of its runtime, on deployments
        sorted by name: the capacity prices of a plan of `train`, in the unit of its cost.

    Returns
    -------
    list of OutOfSample
        Of known lengths, then of each length predictor.

    Raises
    ------
    ParameterError, UnservableError
    """
    weights = weights or Weights()
    past, actual = build_problem(fleet, train), build_problem(fleet, test)
    free = np.zeros(len(past.deployments))
    rule = _Rule(
        fleet,
        weights,
        make_scales(past, weights),
        free if price_per_query is None else price_per_query,
        free if price_per_busy_s is None else price_per_busy_s,
    )
    lengths = {name: make(train)(actual.queries.m) for name, make in PREDICTORS.items()}
    decided = [
        _decide(rule, actual, name, n) for name, n in ((KNOWN, actual.queries.n), *lengths.items())
    ]
    return _pay(rule, actual, decided, reference_single(past, rule.cost(past)))


def _decide(rule: _Rule, actual: Problem, predictor: str, n: Array) -> _Decided:
    """Choose by expected lengths `n` (Q,); what cannot be served there goes elsewhere."""
    expected = predict_problem(
        rule.fleet, replace(actual.queries, n=n), np.zeros_like(actual.round_robin)
    )
    wanted = least_cost(rule.cost(expected))
    served = actual.eligible[np.arange(len(wanted)), wanted] & expected.eligible.any(axis=1)
    choice = np.where(served, wanted, least_cost(rule.cost(actual)))
    return _Decided(predictor, choice, int(actual.queries.count[~served].sum()))


def _pay(
    rule: _Rule, actual: Problem, decided: list[_Decided], reference: int
) -> list[OutOfSample]:
    """Energy, runtime and regret of decisions at the true lengths."""
    k = len(actual.deployments)
    cost = rule.cost(actual)
    shares = np.stack(
        [single(actual, cost, reference).shares, *(one_hot(d.choice, k) for d in decided)]
    )
    totals = total(actual, shares)
    busy_s = totals.runtime_s.sum(axis=1)
    account = make_account(actual, float(busy_s[0]), reference, np.ones(k))
    energy = account.energy_j(totals.energy_j, totals.runtime_s)
    found = []
    for row, each in enumerate(decided, start=1):
        saving, interval = saving_interval(totals, account, row, 0)
        parts = (actual.queries.count @ shares[row] / actual.total).tolist()
        found.append(
            OutOfSample(
                predictor=each.predictor,
                energy_j=float(energy[row]),
                runtime_s_mean=float(busy_s[row]) / actual.total,
                reference=f"all {actual.names[reference]}",
                saving_pct=saving,
                saving=interval,
                significant=is_significant(interval),
                probability_saves=probability_saves(totals, account, row, 0),
                regret_pct=_regret_pct(actual, cost, each.choice),
                displaced_queries=each.displaced,
                shares=dict(zip(actual.names, parts, strict=True)),
            )
        )
    return found


def _regret_pct(problem: Problem, cost: Array, choice: Choice) -> float | None:
    least = float(cost.min(axis=1) @ problem.queries.count)
    paid = float(cost[np.arange(len(cost)), choice] @ problem.queries.count)
    return 100 * (paid - least) / least if least > 0 else None
