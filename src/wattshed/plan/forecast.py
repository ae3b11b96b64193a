"""Decide while answers may still become any length: by the expected cost of a query.

Cost is not linear in the output length, and an answer that outgrows its deployment is dear.
So the cost at the expected length is not the expected cost, and a decision by the first can
lose more than the plan saves. This one takes the mean of the cost over past lengths.
"""

from __future__ import annotations

import numpy as np

from wattshed.fit.forms import Array
from wattshed.fleet import Fleet
from wattshed.plan.cost import least_cost
from wattshed.plan.problem import Choice, Problem, predict_problem
from wattshed.plan.rule import priced_cost
from wattshed.records import PriceRule
from wattshed.workload.lengths import Histogram
from wattshed.workload.table import Queries

QUANTILES = (np.arange(32) + 0.5) / 32
"""Where the lengths of past queries are taken from: each stands for as many of them."""


def least_expected_cost(fleet: Fleet, rule: PriceRule, actual: Problem, past: Histogram) -> Choice:
    """Deployment (Q,) of least expected cost, known input and unknown output given.

    Parameters
    ----------
    fleet : Fleet
    rule : PriceRule
    actual : Problem
        The queries; their output tokens are not looked at.
    past : Histogram
        Output lengths of past queries by input tokens.
    """
    queries = actual.queries
    arrived, index = np.unique(np.stack([queries.m, queries.group]), axis=1, return_inverse=True)
    m, group = arrived[0], arrived[1].astype(np.int64)
    cost = np.mean(
        [_cost_at(fleet, rule, queries, m, group, past.quantile(m, q)) for q in QUANTILES], 0
    )
    return least_cost(cost)[index]


def _cost_at(
    fleet: Fleet, rule: PriceRule, queries: Queries, m: Array, group: Choice, n: Array
) -> Array:
    """Cost (M, K) if answers turn out `n` (M,) long; elsewhere, where they may not be."""
    if_so = Queries(m, n, np.ones(len(m), np.int64), group, queries.classes)
    cost = priced_cost(predict_problem(fleet, if_so), rule)
    least = cost.min(axis=1, keepdims=True)
    return np.where(np.isfinite(cost), cost, np.where(np.isfinite(least), least, 0.0))
