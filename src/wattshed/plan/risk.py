"""What assignments cost over the draws of the fits: mean, 90 % quantile and worst tenth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wattshed.fit.forms import Array
from wattshed.plan.cost import Scales, Weights, accuracy_tokens
from wattshed.plan.decide import Decision
from wattshed.plan.problem import Problem
from wattshed.records import DrawnCost, Robust

if TYPE_CHECKING:
    from wattshed.plan.planner import Compared

TAIL = 0.1
"""Part of the draws that is the worst tenth."""
ROUNDING = 1e-12
"""Gap that sums of rounding errors can make."""


@dataclass(frozen=True)
class RobustDecision(Decision):
    """A decision under the draws of the fits.

    Attributes
    ----------
    criterion : {"expected", "p90"}
    robust_bound_j : float
        No assignment within the limits has a lower mean (or CVaR) of its cost over the
        draws; in J or J-equivalents, without idle power that stays on.
    draw_weights : array (D,)
        Weights of the draws at which the plan is the cheapest assignment but for ties.
    """

    criterion: str
    robust_bound_j: float
    draw_weights: Array


def risk(cost: Array, criterion: str) -> float:
    """What a criterion minimises, of costs (D,) under the draws."""
    return float(cost.mean()) if criterion == "expected" else cvar(cost)


def cvar(cost: Array) -> float:
    """Mean of the worst tenth of the costs (D,); the last draw counts in part."""
    worst = np.sort(cost)[::-1]
    room = 1 / (TAIL * len(cost))
    weight = np.clip(1 - room * np.arange(len(cost)), 0, min(room, 1))
    return float(weight @ worst)


def cost_of_totals(
    problem: Problem,
    weights: Weights,
    scales: Scales,
    counted: Array,
    totals: tuple[Array, Array],
) -> Array:
    """Cost (D, P) of drawn totals of gross energy and runtime (D, P, K), counts (P, Q, K).

    The same as `cost_matrix` says for each query, times the scale of energy.
    """
    energy, runtime = totals
    net = (problem.energy_scale * energy - problem.idle_power_w * runtime).sum(axis=-1)
    per_s = scales.energy_j / scales.runtime_s
    cost = weights.energy * net + (1 - weights.energy) * per_s * runtime.sum(axis=-1)
    if weights.accuracy is None:
        return np.asarray(cost)
    quality = np.einsum("pqk,qk->p", counted, accuracy_tokens(problem))
    worth = (1 - weights.accuracy) * scales.energy_j / scales.accuracy_tokens
    return np.asarray(weights.accuracy * cost - worth * quality)


def judge(
    problem: Problem, scales: Scales, decision: Decision, compared: Compared
) -> Robust | None:
    """What a robust plan, the plan for the fits alone and the reference cost over the draws.

    Parameters
    ----------
    problem : Problem
    scales : Scales
    decision : Decision
        None is told of one that is not robust.
    compared : Compared
        The plan for the fits alone is its last baseline.
    """
    if not isinstance(decision, RobustDecision):
        return None
    totals = compared.totals
    assert totals.energy_draws_j is not None
    assert totals.runtime_draws_s is not None
    weights = decision.weights
    counted = compared.shares * problem.queries.count[:, None]
    cost_j = cost_of_totals(
        problem, weights, scales, counted, (totals.energy_draws_j, totals.runtime_draws_s)
    )
    part = 1.0 if weights.accuracy is None else weights.accuracy
    sunk_j = part * weights.energy * compared.account.sunk_idle_j
    bound_j = decision.robust_bound_j + sunk_j
    names = ["this plan", *(b.name for b in compared.baselines)]

    def over_draws(row: int) -> DrawnCost:
        cost = cost_j[:, row] + sunk_j
        value = risk(cost, decision.criterion)
        p90 = float(np.quantile(cost, 1 - TAIL, method="inverted_cdf"))
        gap = (value - bound_j) / abs(value)
        gap = 0.0 if abs(gap) < ROUNDING else gap
        return DrawnCost(names[row], float(cost.mean()), p90, cvar(cost), gap)

    return Robust(
        criterion=decision.criterion,
        draws=len(cost_j),
        bound_j=bound_j,
        draw_weights=decision.draw_weights.tolist(),
        plan=over_draws(0),
        nominal=over_draws(len(names) - 1),
        reference=over_draws(compared.reference),
    )
