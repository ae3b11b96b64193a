"""Total energy and runtime of assignments, for the fits and for each bootstrap draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wattshed.fit.forms import Array
from wattshed.plan.draws import draws_of
from wattshed.plan.problem import Problem
from wattshed.records import Interval


@dataclass(frozen=True)
class Totals:
    """Totals of P assignments by deployment.

    Attributes
    ----------
    energy_j, runtime_s, busy_s : arrays (P, K)
        Gross energy, runtime, and time of replicas.
    energy_draws_j, runtime_draws_s : arrays (B, P, K) or None
        None where a deployment in use has no bootstrap draws. Who has some serves one query
        at a time, so that runtimes are also busy times.
    """

    energy_j: Array
    runtime_s: Array
    busy_s: Array
    energy_draws_j: Array | None
    runtime_draws_s: Array | None


def total(problem: Problem, shares: Array) -> Totals:
    """Add up P assignments.

    Parameters
    ----------
    problem : Problem
    shares : array (P, Q, K)
    """
    counted = shares * problem.queries.count[None, :, None]
    energy, runtime, busy = (
        np.einsum("pqk,qk->pk", counted, each)
        for each in (problem.gross_energy_j, problem.runtime_s, problem.busy_s)
    )
    draws = draws_of(problem)
    return Totals(energy, runtime, busy, *(draws.totals(counted) if draws else (None, None)))


@dataclass(frozen=True)
class Account:
    """How totals become the energy that is compared: scaled, net of idle, plus sunk idle.

    Attributes
    ----------
    scale : array (K,)
        Factor on each deployment's gross energy (1 outside sensitivity studies).
    idle_power_w : array (K,)
        Idle power that stays on whatever is decided.
    sunk_idle_j : float
        What it draws over the horizon, the same for every policy.
    """

    scale: Array
    idle_power_w: Array
    sunk_idle_j: float

    def energy_j(self, energy_j: Array, busy_s: Array) -> Array:
        """Energy (..., ) of totals (..., K)."""
        net = self.scale * energy_j - self.idle_power_w * busy_s
        return np.asarray(net.sum(axis=-1) + self.sunk_idle_j)


def make_account(
    problem: Problem, reference_busy_s: float, reference: int, scale: Array
) -> Account:
    """Charge idle power for as long as the reference needs for the workload."""
    replicas = np.array([d.replicas for d in problem.deployments])
    horizon_s = reference_busy_s / replicas[reference]
    sunk = float((problem.idle_power_w * replicas).sum() * horizon_s)
    return Account(scale, problem.idle_power_w, sunk)


def saving_interval(
    totals: Totals, account: Account, plan: int, baseline: int
) -> tuple[float, Interval | None]:
    """Energy saved by assignment `plan` against `baseline`, in percent, with its interval.

    Both are evaluated under the same draws of the profiles, the plan held fixed.
    """
    energy = account.energy_j(totals.energy_j, totals.busy_s)
    saving = _saving_pct(energy[plan], energy[baseline])
    drawn = drawn_energy_j(totals, account)
    if drawn is None:
        return float(saving), None
    low, high = np.percentile(_saving_pct(drawn[:, plan], drawn[:, baseline]), [2.5, 97.5])
    method = f"bootstrap of the profiles, {len(drawn)} draws, plan held fixed"
    return float(saving), Interval(float(low), float(high), method)


def probability_saves(totals: Totals, account: Account, plan: int, baseline: int) -> float | None:
    """Part of the draws in which assignment `plan` needs less energy; None without draws.

    Equal but for rounding (1e-12) is not less.
    """
    drawn = drawn_energy_j(totals, account)
    if drawn is None:
        return None
    saved = drawn[:, baseline] - drawn[:, plan]
    return float(np.mean(saved > 1e-12 * np.abs(drawn[:, baseline])))


def drawn_energy_j(totals: Totals, account: Account) -> Array | None:
    """Energy (B, P) of the assignments under each draw; None without draws."""
    if totals.energy_draws_j is None or totals.runtime_draws_s is None:
        return None
    return account.energy_j(totals.energy_draws_j, totals.runtime_draws_s)


def _saving_pct(plan_j: Array, baseline_j: Array) -> Array:
    return np.asarray(100 * (baseline_j - plan_j) / baseline_j)


def is_significant(interval: Interval | None) -> bool | None:
    """Whether the interval of a saving excludes zero; None without an interval."""
    return None if interval is None else bool(interval.low > 0 or interval.high < 0)
