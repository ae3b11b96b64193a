"""Plan a workload: the exact assignment, its baselines, its sensitivity and its λ curve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from msgspec import structs

from wattshed.fit.forms import Array
from wattshed.fleet import Fleet, with_idle_power
from wattshed.plan.baselines import Baseline, all_baselines, reference_single, single
from wattshed.plan.capacity import constraints_of, keeps
from wattshed.plan.caveats import find_caveats
from wattshed.plan.cost import Weights, cost_matrix, make_scales
from wattshed.plan.curve import mean_accuracy, shares_by_name, trace_curve
from wattshed.plan.decide import Decision, decide
from wattshed.plan.limits import Limits
from wattshed.plan.problem import Problem, build_problem
from wattshed.plan.progress import Progress
from wattshed.plan.risk import RobustDecision, judge
from wattshed.plan.robust import solver
from wattshed.plan.sensitivity import vary
from wattshed.plan.totals import (
    Account,
    Totals,
    is_significant,
    make_account,
    probability_saves,
    saving_interval,
    total,
)
from wattshed.plan.verdict import describe
from wattshed.records import Plan, Policy, Portion, Sensitivity
from wattshed.transport.model import Constraint
from wattshed.workload.table import Workload


@dataclass(frozen=True)
class Compared:
    """The plan and its baselines as assignments, with their totals; the plan is row 0."""

    baselines: list[Baseline]
    shares: Array
    totals: Totals
    account: Account
    reference: int


def plan_workload(  # noqa: PLR0913 - each is a question that a user asks of the same plan
    fleet: Fleet,
    workload: Workload,
    weights: Weights | None = None,
    *,
    limits: Limits | None = None,
    idle_power_w: dict[str, float] | None = None,
    robust: str | None = None,
    seed: int = 0,
    on_progress: Callable[[Progress], None] | None = None,
) -> Plan:
    """Assign each query of a workload to the deployment where it costs least.

    Parameters
    ----------
    fleet : Fleet
        From `load_fleet`.
    workload : Workload
        From `read_workload`.
    weights : Weights, optional
        λ, ζ and the normalisation; energy alone unless told.
    limits : Limits, optional
        Horizon, runtime budget and accuracy floor; those of single deployments are in the
        fleet.
    idle_power_w : dict, optional
        Idle power by deployment name, instead of the fleet's.
    robust : {"expected", "p90"}, optional
        Minimise the mean of the cost over the draws of the fits, or of its worst tenth.
    seed : int
        Of the random baseline.
    on_progress : callable, optional
        Told how far it is. A KeyboardInterrupt that it raises ends the search with the best
        plan so far, not proven, or leaves the sensitivity out.

    Returns
    -------
    Plan

    Raises
    ------
    ParameterError, UnservableError, InfeasibleError
    """
    weights = asked = weights or Weights()
    fleet = with_idle_power(fleet, idle_power_w or {})
    problem = build_problem(fleet, workload)
    scales = make_scales(problem, weights)
    cost = cost_matrix(problem, weights, scales)
    index = reference_single(problem, cost)
    alone = single(problem, cost, index)
    within = in_si_units(limits or Limits(), problem, alone, index)
    constraints = constraints_of(problem, *within)
    baselines = all_baselines(problem, cost, seed, constraints)
    # An energy budget counts the idle power that stays on while this reference serves.
    reference = index if within[0].energy else reference_single(problem, cost, constraints)
    solve = solver(robust, problem)
    decision = solve(problem, weights, scales, *within, _tell_bound(on_progress))
    if isinstance(decision, RobustDecision):
        nominal = decide(problem, weights, scales, *within)
        baselines.append(Baseline("plan for the fits alone", "nominal", nominal.shares))
    weights = decision.weights
    cost = cost_matrix(problem, weights, scales)
    compared = compare(problem, decision.shares, baselines, reference)
    policies = [
        _policy(problem, cost, compared, row, decision.constraints)
        for row in range(1, len(compared.baselines) + 1)
    ]
    accuracy = mean_accuracy(problem, compared.shares[0])
    mean_cost = _mean_cost(problem, cost, compared.shares[0])
    energy, runtime = compared.totals.energy_j[0], compared.totals.runtime_s[0]
    busy = compared.totals.busy_s[0]

    def solve_again(case: Problem) -> Array:
        found = solve(case, asked, scales, *in_si_units(limits or Limits(), case, alone, index))
        if not found.converged:
            raise KeyboardInterrupt
        return found.shares

    sensitivity, told = _vary(problem, compared, solve_again, decision, on_progress)
    plan = Plan(
        energy_j=float(compared.account.energy_j(energy, busy)),
        sunk_idle_j=compared.account.sunk_idle_j,
        runtime_s_total=float(runtime.sum()),
        runtime_s_mean=float(runtime.sum()) / problem.total,
        cost=mean_cost,
        queries=problem.total,
        energy_weight=weights.energy,
        accuracy_weight=weights.accuracy,
        normalisation=weights.normalisation,
        scales=asdict(scales),
        accuracy_query_mean=accuracy[0],
        accuracy_token_weighted=accuracy[1],
        reference=compared.baselines[compared.reference - 1].name,
        assignment=_assignment(problem, compared, within[0].horizon_s),
        baselines=policies,
        sensitivity=sensitivity,
        curve=[]
        if decision.constraints or robust
        else trace_curve(problem, weights, scales, compared.account),
        warnings=[
            *find_caveats(problem, compared.shares[0]),
            *told,
        ],
        verdict="",
        lower_bound_j=None
        if decision.bound_j is None
        else decision.bound_j + compared.account.sunk_idle_j,
        lower_bound_cost=mean_cost - decision.gap * abs(mean_cost)
        if decision.bound_j is None and not robust
        else None,
        gap=decision.gap,
        prices=decision.prices,
        rule=decision.rule,
        binding=[price.constraint for price in decision.prices if price.binding],
        iterations=decision.iterations,
        converged=decision.converged,
        robust=judge(problem, scales, decision, compared),
    )
    return structs.replace(plan, verdict=describe(plan))


def in_si_units(
    limits: Limits, problem: Problem, reference: Baseline, index: int
) -> tuple[Limits, float]:
    """Limits without multiples of the reference, and the idle energy that stays on anyway."""
    queries = problem.queries
    runtime, busy, energy = (
        (reference.shares * each).sum(axis=1)
        for each in (problem.runtime_s, problem.busy_s, problem.energy_j)
    )
    busy_s = float(busy @ queries.count)
    sunk = make_account(problem, busy_s, index, np.ones(len(problem.deployments))).sunk_idle_j
    by_class = {
        name: float(np.average(runtime[inside], weights=queries.count[inside]))
        for name, inside in ((c, queries.group == g) for g, c in enumerate(queries.classes))
    }
    total_j = float(energy @ queries.count) + sunk
    return limits.against(float(runtime @ queries.count) / problem.total, by_class, total_j), sunk


def _tell_bound(
    on_progress: Callable[[Progress], None] | None,
) -> Callable[[float, float], None] | None:
    """Listener to the solver's (lower bound in J, gap)."""
    if on_progress is None:
        return None
    return lambda bound, gap: on_progress(Progress("meeting limits", bound_j=bound, gap=gap))


def _vary(
    problem: Problem,
    compared: Compared,
    solve_again: Callable[[Problem], Array],
    decision: Decision,
    on_progress: Callable[[Progress], None] | None,
) -> tuple[list[Sensitivity], list[str]]:
    """Sensitivity of a plan, and what its reader must know of it; Ctrl-C leaves it out."""
    if not decision.converged:
        kept = keeps(problem, decision.constraints, compared.shares[0])
        state = (
            "it keeps the limits, and none that does is more than"
            f" {100 * decision.gap:.2g} % cheaper"
            if kept
            else "it breaks limits"
        )
        return [], [f"stopped before the plan was proven: {state}; there is no sensitivity"]
    try:
        found, infeasible = vary(problem, compared, solve_again, on_progress)
    except KeyboardInterrupt:
        return [], ["stopped before the sensitivity of the plan was found"]
    return found, [f"with {change} the limits cannot hold" for change in infeasible]


def compare(
    problem: Problem, plan_shares: Array, baselines: list[Baseline], reference: int
) -> Compared:
    """Add up the plan and its baselines; the first baselines are the single deployments."""
    shares = np.stack([plan_shares, *(b.shares for b in baselines)])
    totals = total(problem, shares)
    busy = float(totals.busy_s[reference + 1].sum())
    account = make_account(problem, busy, reference, np.ones(len(problem.deployments)))
    return Compared(baselines, shares, totals, account, reference + 1)


def _mean_cost(problem: Problem, cost: Array, shares: Array) -> float:
    used = np.where(shares > 0, cost, 0.0)
    return float((shares * used).sum(axis=1) @ problem.queries.count / problem.total)


def _policy(
    problem: Problem,
    cost: Array,
    compared: Compared,
    row: int,
    constraints: tuple[Constraint, ...],
) -> Policy:
    baseline, totals = compared.baselines[row - 1], compared.totals
    runtime = totals.runtime_s.sum(axis=1)
    saving, interval = saving_interval(totals, compared.account, 0, row)
    return Policy(
        name=baseline.name,
        family=baseline.family,
        energy_j=float(compared.account.energy_j(totals.energy_j[row], totals.busy_s[row])),
        runtime_s_total=float(runtime[row]),
        runtime_s_mean=float(runtime[row]) / problem.total,
        runtime_ratio=float(runtime[row] / runtime[compared.reference]),
        saving_pct=saving,
        saving=interval,
        significant=is_significant(interval),
        probability_saves=probability_saves(totals, compared.account, 0, row),
        cost=_mean_cost(problem, cost, compared.shares[row]),
        displaced_queries=baseline.displaced,
        shares=shares_by_name(problem, compared.shares[row]),
        rule=baseline.rule,
        keeps_limits=keeps(problem, constraints, compared.shares[row]) if constraints else None,
    )


def _assignment(problem: Problem, compared: Compared, horizon_s: float | None) -> list[Portion]:
    queries = problem.queries.count @ compared.shares[0]
    return [
        Portion(
            deployment=deployment.name,
            queries=round(float(queries[k])),
            share=float(queries[k]) / problem.total,
            energy_j=float(compared.totals.energy_j[0, k]),
            busy_s=float(compared.totals.busy_s[0, k]),
            busy_fraction=None
            if horizon_s is None
            else float(compared.totals.busy_s[0, k]) / (deployment.replicas * horizon_s),
        )
        for k, deployment in enumerate(problem.deployments)
    ]
