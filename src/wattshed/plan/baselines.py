"""The rules that an exact plan is compared with, each at its best.

A rule is shares (Q, K): what part of each distinct query goes where. A rule that sends a
query where it may not go sends it to its other deployment instead, and failing that to
the cheapest eligible one; such queries are counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from wattshed.fit.forms import Array
from wattshed.plan.capacity import keeps, tolerated, usages
from wattshed.plan.cost import least_cost
from wattshed.plan.problem import Choice, Problem
from wattshed.plan.rule import within
from wattshed.records import Threshold
from wattshed.transport.model import Constraint

STUDY_THRESHOLD = 32.0
MAX_BOX_VALUES = 512
SYMBOLS = {"T_in": ("t_in", "t-in"), "T_out": ("t_out", "t-out"), "mn": ("product", "product")}
"""Bound of a `Threshold` and family of a baseline, by the symbol that people write."""


@dataclass(frozen=True)
class Baseline:
    """A rule applied to a problem.

    Attributes
    ----------
    shares : array (Q, K)
        Rows sum to 1.
    displaced : int
        Queries that could not go where the rule said.
    rule : Threshold or None
        What it is made of, where it is a threshold rule.
    """

    name: str
    family: str
    shares: Array
    displaced: int = 0
    rule: Threshold | None = None


def one_hot(choice: Choice, k: int) -> Array:
    """Shares (Q, K) of a choice (Q,)."""
    return np.eye(k)[choice]


def all_baselines(
    problem: Problem, cost: Array, seed: int, constraints: tuple[Constraint, ...] = ()
) -> list[Baseline]:
    """Every baseline, thresholds chosen to be as good as they can be at this cost.

    Thresholds are the best ones that keep the constraints, or if none does, of all.

    Parameters
    ----------
    problem : Problem
    cost : array (Q, K)
        Cost that the exact plan minimises; inf where a query may not go.
    seed : int
        Of the random assignment.
    constraints : tuple of Constraint, optional
        From `wattshed.plan.capacity.constraints_of`.
    """
    k = len(problem.deployments)
    singles = [single(problem, cost, index) for index in range(k)]
    spread = [_round_robin(problem, cost), _random(problem, cost, seed)]
    if k == 1:
        return singles
    return [
        *singles,
        *spread,
        *_study_thresholds(problem, cost),
        *_best_rules(problem, cost, constraints),
    ]


def single(problem: Problem, cost: Array, index: int) -> Baseline:
    """Everything on one deployment, as far as it may."""
    wanted = np.full(len(cost), index)
    shares, displaced = _place(problem, cost, one_hot(wanted, cost.shape[1]))
    return Baseline(f"all {problem.names[index]}", "single", shares, displaced)


def reference_single(
    problem: Problem, cost: Array, constraints: tuple[Constraint, ...] = ()
) -> int:
    """The deployment that savings are quoted against: the best one by itself.

    Of those that may serve everything within the constraints, or else of all, the one that
    needs the least energy.
    """

    def rank(index: int) -> tuple[bool, bool, float]:
        alone = single(problem, cost, index)
        energy = (alone.shares * problem.gross_energy_j).sum(axis=1)
        breaks = not keeps(problem, constraints, alone.shares)
        return alone.displaced > 0, breaks, float(energy @ problem.queries.count)

    return min(range(len(problem.deployments)), key=rank)


def _place(problem: Problem, cost: Array, wanted: Array) -> tuple[Array, int]:
    """Move the shares that may not go where they should to the cheapest deployment."""
    refused = np.where(problem.eligible, 0.0, wanted)
    moved = refused.sum(axis=1)
    shares = wanted - refused
    shares[np.arange(len(cost)), least_cost(cost)] += moved
    return shares, round(float(moved @ problem.queries.count))


def _round_robin(problem: Problem, cost: Array) -> Baseline:
    wanted = problem.round_robin / problem.queries.count[:, None]
    return Baseline("round robin", "round-robin", *_place(problem, cost, wanted))


def _random(problem: Problem, cost: Array, seed: int) -> Baseline:
    k = cost.shape[1]
    rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    counts = rng.multinomial(problem.queries.count, np.full(k, 1 / k))
    wanted = counts / problem.queries.count[:, None]
    return Baseline("random", "random", *_place(problem, cost, wanted))


@dataclass(frozen=True)
class _Pair:
    """Two deployments, and what each query costs when sent to either with its fallback.

    Attributes
    ----------
    gain : array (1 + J, Q)
        Cost, and usage of each constraint, that sending a row to `small` saves.
    base : array (1 + J,)
        Both when everything is sent to `large`.
    bound : array (1 + J,)
        Largest value of each; infinite for cost.
    """

    small: int
    large: int
    small_choice: Choice
    large_choice: Choice
    gain: Array
    base: Array
    bound: Array

    def choose(self, inside: NDArray[np.bool_]) -> Choice:
        return np.where(inside, self.small_choice, self.large_choice)


def _pair(
    problem: Problem,
    cost: Array,
    small: int,
    large: int,
    constraints: tuple[Constraint, ...] = (),
) -> _Pair:
    fallback = least_cost(cost)
    to_large = np.where(problem.eligible[:, large], large, fallback)
    other = np.where(problem.eligible[:, large], large, fallback)
    to_small = np.where(problem.eligible[:, small], small, other)
    rows = np.arange(len(cost))
    count = problem.queries.count
    at_small, at_large = (
        np.vstack([cost[rows, choice] * count, usages(problem, constraints, choice)])
        for choice in (to_small, to_large)
    )
    bound = np.append(np.inf, tolerated(constraints))
    return _Pair(small, large, to_small, to_large, at_large - at_small, at_large.sum(axis=1), bound)


Rank = tuple[bool, float]
"""Whether a rule breaks a bound, and its cost: the least is the best."""


def _best_threshold(pair: _Pair, key: Array) -> tuple[Rank, float]:
    """Rank and threshold T of the best rule key <= T, over 0 and every distinct value."""
    order = np.argsort(key, kind="stable")
    values = np.append(0.0, key[order])
    last = np.flatnonzero(np.append(np.diff(values) != 0, True))
    saved = np.hstack([np.zeros((len(pair.base), 1)), np.cumsum(pair.gain[:, order], axis=1)])
    rank, best = _best_of(pair, saved[:, last])
    return rank, float(values[last][best])


def _best_box(pair: _Pair, m: Array, n: Array) -> tuple[Rank, float, float]:
    """Rank, T_in and T_out of the best rule m <= T_in and n <= T_out.

    Over every distinct value, or 512 quantiles of them where there are more.
    """
    m_values, n_values = _candidates(m), _candidates(n)
    at = np.searchsorted(m_values, m), np.searchsorted(n_values, n)
    saved = []
    for gain in pair.gain:
        table = np.zeros((len(m_values) + 1, len(n_values) + 1))
        np.add.at(table, at, gain)
        saved.append(table[:-1, :-1].cumsum(axis=0).cumsum(axis=1).ravel())
    rank, best = _best_of(pair, np.array(saved))
    i, j = divmod(best, len(n_values))
    return rank, float(m_values[i]), float(n_values[j])


def _best_of(pair: _Pair, saved: Array) -> tuple[Rank, int]:
    """The best of N rules by what each saves, (1 + J, N): of those within the bounds if any."""
    totals = pair.base[:, None] - saved
    breaks = np.any(totals > pair.bound[:, None], axis=0)
    best = int(np.lexsort((totals[0], breaks))[0])
    return (bool((totals[:, best] > pair.bound).any()), float(totals[0, best])), best


def _candidates(values: Array) -> Array:
    distinct = np.unique(values)
    if len(distinct) <= MAX_BOX_VALUES:
        return distinct
    return np.unique(np.quantile(values, np.linspace(0, 1, MAX_BOX_VALUES), method="lower"))


def _study_thresholds(problem: Problem, cost: Array) -> list[Baseline]:
    """T_in = 32 and T_out = 32, the cut-offs of the e-Energy 2024 study.

    Short queries go to the deployment that is cheapest for the shortest query, the others
    to the cheapest for the whole workload.
    """
    large = int(np.argmin(_single_totals(problem)))
    shortest = int(np.argmin(problem.queries.m + problem.queries.n))
    ranking = np.argsort(cost[shortest])
    small = next(int(index) for index in ranking if index != large)
    pair = _pair(problem, cost, small, large)
    return [
        _threshold_baseline(problem, pair, "T_in", STUDY_THRESHOLD),
        _threshold_baseline(problem, pair, "T_out", STUDY_THRESHOLD),
    ]


def _single_totals(problem: Problem) -> Array:
    return np.where(problem.eligible, problem.energy_j, 1e30).T @ problem.queries.count


def _threshold_baseline(
    problem: Problem, pair: _Pair, symbol: str, threshold: float, prefix: str = ""
) -> Baseline:
    bound, family = SYMBOLS[symbol]
    words = f"{prefix}{symbol} <= {threshold:g}"
    return _pair_baseline(problem, pair, words, family, {bound: threshold})


def _pair_baseline(
    problem: Problem, pair: _Pair, words: str, family: str, bounds: dict[str, float]
) -> Baseline:
    small, large = problem.names[pair.small], problem.names[pair.large]
    rule = Threshold(small, large, **bounds)
    inside = within(rule, problem.queries.m, problem.queries.n)
    wanted = np.where(inside, pair.small, pair.large)
    choice = pair.choose(inside)
    displaced = int(problem.queries.count[wanted != choice].sum())
    shares = one_hot(choice, len(problem.deployments))
    return Baseline(f"{words} on {small}, else {large}", family, shares, displaced, rule)


def _best_rules(
    problem: Problem, cost: Array, constraints: tuple[Constraint, ...]
) -> list[Baseline]:
    """The best T_in, T_out, product and box rule over all ordered pairs of deployments."""
    m, n = problem.queries.m, problem.queries.n
    pairs = [
        _pair(problem, cost, small, large, constraints)
        for small, large in permutations(range(cost.shape[1]), 2)
    ]
    found = []
    for symbol, key in (("T_in", m), ("T_out", n), ("mn", m * n)):
        results = [(*_best_threshold(pair, key), index) for index, pair in enumerate(pairs)]
        _, threshold, index = min(results)
        found.append(_threshold_baseline(problem, pairs[index], symbol, threshold, "best "))
    boxes = [(*_best_box(pair, m, n), index) for index, pair in enumerate(pairs)]
    _, t_in, t_out, index = min(boxes)
    words = f"best box T_in <= {t_in:g}, T_out <= {t_out:g}"
    bounds = {"t_in": t_in, "t_out": t_out}
    found.append(_pair_baseline(problem, pairs[index], words, "box", bounds))
    return found
