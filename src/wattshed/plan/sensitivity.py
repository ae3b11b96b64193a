"""How the saving changes with what is least certain: each system's energy, and idle power."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from wattshed.errors import InfeasibleError
from wattshed.fit.forms import Array
from wattshed.plan.problem import Problem
from wattshed.plan.progress import Progress
from wattshed.plan.totals import (
    Account,
    is_significant,
    make_account,
    probability_saves,
    saving_interval,
    total,
)
from wattshed.records import Sensitivity

if TYPE_CHECKING:
    from wattshed.plan.planner import Compared

ENERGY_CHANGES_PCT = (-10, 10)
IDLE_POWERS_W = (5.0, 15.0, 30.0, 60.0)


def vary(
    problem: Problem,
    compared: Compared,
    solve: Callable[[Problem], Array],
    on_progress: Callable[[Progress], None] | None = None,
) -> tuple[list[Sensitivity], list[str]]:
    """Solve again with each deployment's energy 10 % off, and with sunk idle power.

    Parameters
    ----------
    problem : Problem
    compared : Compared
        The plan and its baselines.
    solve : callable
        Finds the shares (Q, K) of a changed problem, with the plan's weights and limits.
    on_progress : callable, optional
        Told before each case.

    Returns
    -------
    found : list of Sensitivity
        Savings against the same reference deployment under the same change.
    infeasible : list of str
        Changes under which the plan's limits cannot hold.
    """
    cases, solved, infeasible = [], [], []
    changed = [*_energy_cases(problem, compared), *_idle_cases(problem, compared)]
    for done, (label, case, account) in enumerate(changed):
        if on_progress:
            on_progress(Progress(label, done, len(changed)))
        try:
            solved.append(solve(case))
            cases.append((label, account))
        except InfeasibleError:
            infeasible.append(label)
    shares = np.stack([compared.shares[compared.reference], compared.shares[0], *solved])
    totals = total(problem, shares)
    found = []
    for row, (label, account) in enumerate(cases, start=2):
        saving, interval = saving_interval(totals, account, row, 0)
        fixed, _ = saving_interval(totals, account, 1, 0)
        part = problem.queries.count @ shares[row] / problem.total
        found.append(
            Sensitivity(
                change=label,
                saving_pct=saving,
                saving=interval,
                fixed_plan_saving_pct=fixed,
                significant=is_significant(interval),
                probability_saves=probability_saves(totals, account, row, 0),
                shares=dict(zip(problem.names, part.tolist(), strict=True)),
            )
        )
    return found, infeasible


def _energy_cases(problem: Problem, compared: Compared) -> list[tuple[str, Problem, Account]]:
    cases = []
    for index, name in enumerate(problem.names):
        for change in ENERGY_CHANGES_PCT:
            factor = 1 + change / 100
            scale = np.ones(len(problem.names))
            scale[index] = factor
            account = _account(problem, compared, scale)
            label = f"{name} energy {change:+d} %"
            cases.append((label, problem.with_energy_scaled(index, factor), account))
    return cases


def _idle_cases(problem: Problem, compared: Compared) -> list[tuple[str, Problem, Account]]:
    """Idle power of the reference deployment, as far as it draws more than that when busy."""
    index = compared.reference - 1
    least_busy_w = float((problem.gross_energy_j[:, index] / problem.busy_s[:, index]).min())
    cases = []
    for power in IDLE_POWERS_W:
        if power < least_busy_w:
            changed = problem.with_idle_power(index, power)
            account = _account(changed, compared, np.ones(len(problem.names)))
            cases.append((f"{problem.names[index]} idle {power:g} W sunk", changed, account))
    return cases


def _account(problem: Problem, compared: Compared, scale: Array) -> Account:
    busy = float(compared.totals.busy_s[compared.reference].sum())
    return make_account(problem, busy, compared.reference - 1, scale)
