"""Plans that allow for the uncertainty of the fits: least cost over the profiles' draws.

Costs are linear in an assignment x, so `expected` is the exact plan at each query's mean
cost over the draws. `p90` minimises the mean cost of the worst tenth of the draws, CVaR
(Rockafellar & Uryasev 2000, doi:10.21314/JOR.2000.038), which is convex and bounds the 90 %
quantile, which is not. Exchanging the minimum and the maximum gives its dual

    max over w of  min over x of  sum_d w_d cost_d(x),   0 <= w_d <= 1 / (0.1 D),  sum w = 1

whose inner problem is an ordinary plan at the mean costs under w. Its value bounds the CVaR
of every assignment from below; cutting planes (Kelley 1960) find the best w.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from wattshed.errors import ParameterError
from wattshed.fit.forms import Array
from wattshed.plan.baselines import one_hot
from wattshed.plan.capacity import constraints_of, keeps, price_rule, solve_constrained
from wattshed.plan.cost import Scales, Weights, cost_matrix, least_cost
from wattshed.plan.cuts import best_weights
from wattshed.plan.decide import Decision, decide
from wattshed.plan.draws import Draws, draws_of, number_of_draws
from wattshed.plan.limits import Limits
from wattshed.plan.problem import Problem
from wattshed.plan.risk import TAIL, RobustDecision, cost_of_totals, cvar, risk
from wattshed.records import Price
from wattshed.transport.model import Constraint

CRITERIA = ("expected", "p90")
ENOUGH = 1e-7
"""Relative distance of the dual's bounds at which the cutting planes stop."""
MAX_CUTS = 60
ROUNDINGS = 8
ROUNDED_VALUES = 2_000_000
"""Queries times deployments times roundings that are tried at once; rounding many queries
leaves little, so that fewer tries do."""

Solve = Callable[..., Decision]
Progress = Callable[[float, float], None]


@dataclass(frozen=True)
class _Task:
    """A problem with what is minimised over its draws, within which constraints."""

    problem: Problem
    weights: Weights
    scales: Scales
    constraints: tuple[Constraint, ...]
    draws: Draws


@dataclass(frozen=True)
class _Answer:
    """The cheapest assignment at the mean costs under some weights.

    `bound` is a lower bound of its mean cost, `cost_j` (D,) its cost under each draw.
    """

    weight: Array
    bound: float
    cost_j: Array
    shares: Array
    prices: list[Price]
    converged: bool = True


@dataclass(frozen=True)
class RobustSolver:
    """Decides a problem and its variations under one criterion; called like `decide`.

    Attributes
    ----------
    criterion : {"expected", "p90"}
    draws : Draws
        Of the problem's profiles; its variations have the same.
    """

    criterion: str
    draws: Draws

    def __call__(
        self,
        problem: Problem,
        weights: Weights,
        scales: Scales,
        limits: Limits,
        sunk_idle_j: float = 0.0,
        on_progress: Progress | None = None,
    ) -> RobustDecision:
        """Find the least mean or CVaR of the cost; limits hold for the fits themselves."""
        constraints = constraints_of(problem, limits, sunk_idle_j)
        task = _Task(problem, weights, scales, constraints, self.draws)
        search = {"expected": _least_mean, "p90": _least_cvar}[self.criterion]
        best, at, cuts = search(task, on_progress)
        value = risk(best.cost_j, self.criterion)
        paid = np.array([price.price_j for price in at.prices])
        return RobustDecision(
            shares=best.shares,
            weights=weights,
            bound_j=None,
            gap=max(0.0, value - at.bound) / abs(value),
            prices=at.prices,
            rule=price_rule(problem, weights, scales, constraints, paid),
            constraints=constraints,
            iterations=cuts,
            converged=at.converged,
            criterion=self.criterion,
            robust_bound_j=at.bound,
            draw_weights=at.weight,
        )


def solver(criterion: str | None, problem: Problem) -> Solve:
    """`decide`, or what takes its place under a robust criterion.

    Raises
    ------
    ParameterError
        If the criterion is unknown, or a profile has no draws.
    """
    if criterion is None:
        return decide
    if criterion not in CRITERIA:
        raise ParameterError("--robust", repr(criterion), f"use one of {', '.join(CRITERIA)}")
    draws = draws_of(problem)
    if draws is None:
        poor = next(d for d in problem.deployments if not number_of_draws(d.profile))
        raise ParameterError(
            "--robust",
            f"the profile {poor.profile.name} of deployment {poor.name} has no bootstrap draws",
            "fit it with `wattshed fit --draws 200`, or plan without --robust",
        )
    return RobustSolver(criterion, draws)


def _drawn_cost_j(task: _Task, counted: Array) -> Array:
    """Cost (D, P) of P assignments under each draw, in J or J-equivalents; counts (P, Q, K)."""
    return cost_of_totals(
        task.problem, task.weights, task.scales, counted, task.draws.totals(counted)
    )


def _answer(task: _Task, weight: Array) -> _Answer:
    """Solve at the mean costs under weights (D,) of the draws."""
    problem, count = task.problem, task.problem.queries.count
    energy, runtime = task.draws.mean(weight)
    mean = problem.with_predictions(energy * problem.energy_scale, runtime)
    cost_j = cost_matrix(mean, task.weights, task.scales) * task.scales.energy_j
    prices: list[Price] = []
    converged = True
    if task.constraints:
        found = solve_constrained(problem, cost_j, task.constraints)
        shares, bound = found.shares, found.bound
        prices, converged = found.prices, found.converged
    else:
        shares = one_hot(least_cost(cost_j), cost_j.shape[1])
        bound = float(cost_j.min(axis=1) @ count)
    drawn = _drawn_cost_j(task, (shares * count[:, None])[None])[:, 0]
    return _Answer(weight, bound, drawn, shares, prices, converged)


def _least_mean(task: _Task, on_progress: Progress | None) -> tuple[_Answer, _Answer, int]:
    """The plan at the mean costs: both the plan and its own bound, in one cut."""
    found = _answer(task, np.full(task.draws.number, 1 / task.draws.number))
    _stopped(on_progress, found.bound, float(found.cost_j.mean()))
    return found, found, 1


def _stopped(on_progress: Progress | None, bound: float, value: float) -> bool:
    """Tell how far a search is; whether it was interrupted by who listens."""
    try:
        if on_progress:
            on_progress(bound, max(0.0, value - bound) / abs(value))
    except KeyboardInterrupt:
        return True
    return False


def _least_cvar(task: _Task, on_progress: Progress | None) -> tuple[_Answer, _Answer, int]:
    """The best assignment that was found, the answer with the highest bound, and the cuts."""
    number = task.draws.number
    answers: list[_Answer] = []
    weight = np.full(number, 1 / number)
    while True:
        new = _answer(task, weight)
        known = any(np.array_equal(new.cost_j, a.cost_j) for a in answers)
        answers.append(new)
        best, at = min(answers, key=_cvar_of), max(answers, key=lambda a: a.bound)
        worth = abs(_cvar_of(best))
        if _stopped(on_progress, at.bound, _cvar_of(best)):
            return best, replace(at, converged=False), len(answers)
        found = best_weights(np.array([a.cost_j for a in answers]), 1 / (TAIL * number))
        proven = found.ceiling - at.bound <= ENOUGH * worth
        if proven or known or not new.converged or len(answers) == MAX_CUTS:
            best = min([best, *_round_off(task, answers, found.mix)], key=_cvar_of)
            return best, at, len(answers)
        weight = found.weight


def _cvar_of(answer: _Answer) -> float:
    return cvar(answer.cost_j)


def _round_off(task: _Task, answers: list[_Answer], mix: Array) -> list[_Answer]:
    """Whole queries near the best mixture of assignments; none where no try keeps the limits.

    The mixture solves the problem where queries may be split. A regular sequence (multiples
    of the golden ratio) rounds each query's parts, so that the errors cancel.
    """
    problem, count = task.problem, task.problem.queries.count
    mixed = sum(part * a.shares for part, a in zip(mix, answers, strict=True))
    upto = np.cumsum(np.asarray(mixed) * count[:, None], axis=1)
    split = np.flatnonzero((np.abs(upto - upto.round()) > 1e-9).any(axis=1))
    if not len(split):
        return []
    tries = min(ROUNDINGS, max(1, ROUNDED_VALUES // upto.size))
    dither = np.outer(np.ones(tries), split) * (5**0.5 - 1) / 2
    dither += np.arange(tries)[:, None] / tries
    whole = np.repeat(upto.round()[None], tries, axis=0)
    whole[:, split, :-1] = np.floor(upto[split, :-1] + (dither % 1)[:, :, None])
    counted = np.diff(whole, axis=2, prepend=0.0)
    cost_j = _drawn_cost_j(task, counted)
    for index in sorted(range(tries), key=lambda i: cvar(cost_j[:, i])):
        shares = counted[index] / count[:, None]
        if not task.constraints or keeps(problem, task.constraints, shares):
            return [_Answer(answers[-1].weight, -np.inf, cost_j[:, index], shares, [])]
    return []
