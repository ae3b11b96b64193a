"""Plan a workload: the exact assignment, its baselines, its sensitivity and its λ curve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
from msgspec import structs

from wattshed.errors import ParameterError
from wattshed.fit.forms import Array
from wattshed.fleet import Fleet
from wattshed.plan.baselines import Baseline, all_baselines, one_hot, reference_single
from wattshed.plan.capacity import keeps
from wattshed.plan.cost import (
    Scales,
    Weights,
    accuracies,
    cost_matrix,
    least_cost,
    make_scales,
)
from wattshed.plan.decide import decide
from wattshed.plan.limits import Limits
from wattshed.plan.problem import Problem, build_problem
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
from wattshed.records import CurvePoint, Plan, Policy, Portion
from wattshed.transport.model import Constraint
from wattshed.workload.table import Workload

# The optimum moves where energy and runtime trade, which is far from λ = 1/2 when one
# machine is much slower: equal steps in log(λ / (1 - λ)) find every part of the curve.
CURVE_WEIGHTS = np.concatenate([[0.0], 1 / (1 + np.geomspace(1e3, 1e-4, 57)), [1.0]])


@dataclass(frozen=True)
class Compared:
    """The plan and its baselines as assignments, with their totals; the plan is row 0."""

    baselines: list[Baseline]
    shares: Array
    totals: Totals
    account: Account
    reference: int


def plan_workload(
    fleet: Fleet,
    workload: Workload,
    weights: Weights | None = None,
    *,
    limits: Limits | None = None,
    idle_power_w: dict[str, float] | None = None,
    seed: int = 0,
    on_progress: Callable[[float, float], None] | None = None,
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
    seed : int
        Of the random baseline.
    on_progress : callable, optional
        Told (lower bound in J, relative gap) while limits are being met.

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
    baselines = all_baselines(problem, cost, seed)
    reference = reference_single(problem, cost)
    limits = limits or Limits()
    decision = decide(
        problem,
        weights,
        scales,
        *_in_si_units(limits, problem, baselines[reference], reference),
        on_progress,
    )
    weights = decision.weights
    cost = cost_matrix(problem, weights, scales)
    compared = compare(problem, decision.shares, baselines, reference)
    policies = [
        _policy(problem, cost, compared, row, decision.constraints)
        for row in range(1, len(compared.baselines) + 1)
    ]
    accuracy = _accuracy(problem, compared.shares[0])
    energy, runtime = compared.totals.energy_j[0], compared.totals.runtime_s[0]
    sensitivity, infeasible = vary(
        problem,
        compared,
        lambda case: (
            decide(
                case, asked, scales, *_in_si_units(limits, case, baselines[reference], reference)
            ).shares
        ),
    )
    plan = Plan(
        energy_j=float(compared.account.energy_j(energy, runtime)),
        sunk_idle_j=compared.account.sunk_idle_j,
        runtime_s_total=float(runtime.sum()),
        runtime_s_mean=float(runtime.sum()) / problem.total,
        cost=_mean_cost(problem, cost, compared.shares[0]),
        queries=problem.total,
        energy_weight=weights.energy,
        accuracy_weight=weights.accuracy,
        normalisation=weights.normalisation,
        scales=asdict(scales),
        accuracy_query_mean=accuracy[0],
        accuracy_token_weighted=accuracy[1],
        reference=compared.baselines[compared.reference - 1].name,
        assignment=_assignment(problem, compared, limits.horizon_s),
        baselines=policies,
        sensitivity=sensitivity,
        curve=[] if decision.constraints else _curve(problem, weights, scales, compared.account),
        warnings=[
            *_warnings(problem, compared.shares[0]),
            *(f"with {change} the limits cannot hold" for change in infeasible),
        ],
        verdict="",
        lower_bound_j=None
        if decision.bound_j is None
        else decision.bound_j + compared.account.sunk_idle_j,
        gap=decision.gap,
        prices=decision.prices,
        rule=decision.rule,
        binding=[price.constraint for price in decision.prices if price.binding],
        converged=decision.converged,
    )
    return structs.replace(plan, verdict=describe(plan))


def _in_si_units(
    limits: Limits, problem: Problem, reference: Baseline, index: int
) -> tuple[Limits, float]:
    """Limits without multiples of the reference, and the idle energy that stays on anyway."""
    queries = problem.queries
    runtime, energy = (
        (reference.shares * each).sum(axis=1) for each in (problem.runtime_s, problem.energy_j)
    )
    busy_s = float(runtime @ queries.count)
    sunk = make_account(problem, busy_s, index, np.ones(len(problem.deployments))).sunk_idle_j
    by_class = {
        name: float(np.average(runtime[inside], weights=queries.count[inside]))
        for name, inside in ((c, queries.group == g) for g, c in enumerate(queries.classes))
    }
    total_j = float(energy @ queries.count) + sunk
    return limits.against(busy_s / problem.total, by_class, total_j), sunk


def compare(
    problem: Problem, plan_shares: Array, baselines: list[Baseline], reference: int
) -> Compared:
    """Add up the plan and its baselines; the first baselines are the single deployments."""
    shares = np.stack([plan_shares, *(b.shares for b in baselines)])
    totals = total(problem, shares)
    busy = float(totals.runtime_s[reference + 1].sum())
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
        energy_j=float(compared.account.energy_j(totals.energy_j[row], totals.runtime_s[row])),
        runtime_s_total=float(runtime[row]),
        runtime_s_mean=float(runtime[row]) / problem.total,
        runtime_ratio=float(runtime[row] / runtime[compared.reference]),
        saving_pct=saving,
        saving=interval,
        significant=is_significant(interval),
        probability_saves=probability_saves(totals, compared.account, 0, row),
        cost=_mean_cost(problem, cost, compared.shares[row]),
        displaced_queries=baseline.displaced,
        shares=_shares(problem, compared.shares[row]),
        keeps_limits=keeps(problem, constraints, compared.shares[row]) if constraints else None,
    )


def _shares(problem: Problem, shares: Array) -> dict[str, float]:
    part = problem.queries.count @ shares / problem.total
    return dict(zip(problem.names, part.tolist(), strict=True))


def _assignment(problem: Problem, compared: Compared, horizon_s: float | None) -> list[Portion]:
    queries = problem.queries.count @ compared.shares[0]
    return [
        Portion(
            deployment=deployment.name,
            queries=round(float(queries[k])),
            share=float(queries[k]) / problem.total,
            energy_j=float(compared.totals.energy_j[0, k]),
            busy_s=float(compared.totals.runtime_s[0, k]),
            busy_fraction=None
            if horizon_s is None
            else float(compared.totals.runtime_s[0, k]) / (deployment.replicas * horizon_s),
        )
        for k, deployment in enumerate(problem.deployments)
    ]


def _accuracy(problem: Problem, shares: Array) -> tuple[float | None, float | None]:
    """Mean accuracy over queries and over tokens; None where a deployment states none."""
    try:
        accuracy = accuracies(problem)
    except ParameterError:
        return None, None
    per_query = shares @ accuracy
    count = problem.queries.count
    tokens = (problem.queries.m + problem.queries.n) * count
    return float(per_query @ count / count.sum()), float(per_query @ tokens / tokens.sum())


def _curve(
    problem: Problem, weights: Weights, scales: Scales, account: Account
) -> list[CurvePoint]:
    """Exact optima over λ; ζ, if given, stays."""
    points = []
    rows = np.arange(len(problem.queries.m))
    count = problem.queries.count
    for value in CURVE_WEIGHTS:
        cost = cost_matrix(problem, replace(weights, energy=float(value)), scales)
        choice = least_cost(cost)
        shares = one_hot(choice, cost.shape[1])
        net = float(problem.energy_j[rows, choice] @ count)
        points.append(
            CurvePoint(
                energy_weight=float(value),
                energy_j=net + account.sunk_idle_j,
                runtime_s_mean=float(problem.runtime_s[rows, choice] @ count) / problem.total,
                accuracy_token_weighted=_accuracy(problem, shares)[1],
                shares=_shares(problem, shares),
            )
        )
    return points


def _warnings(problem: Problem, shares: Array) -> list[str]:
    """What the reader of a plan must know about its predictions."""
    found = []
    count = problem.queries.count
    for k, deployment in enumerate(problem.deployments):
        profile = deployment.profile
        negative = int(count[problem.negative[:, k]].sum())
        if negative:
            found.append(
                f"{deployment.name}: the profile {profile.name} predicts a negative energy or"
                f" runtime for {negative} of {problem.total} queries"
                f" ({100 * negative / problem.total:.1f} %); its form is {profile.energy.form}"
            )
        outside = problem.extrapolated[:, k] & (shares[:, k] > 0)
        if outside.any():
            box = profile.domain
            assert box is not None
            found.append(
                f"{deployment.name}: {int(count[outside].sum())} of the queries it gets lie outside"
                f" the cells of its profile (m {box.input_tokens[0]} to {box.input_tokens[1]},"
                f" n {box.output_tokens[0]} to {box.output_tokens[1]}): extrapolated"
            )
        if profile.domain is None:
            found.append(f"{deployment.name}: the profile {profile.name} states no validity domain")
    if len({d.profile.boundary for d in problem.deployments}) > 1:
        parts = ", ".join(
            f"{d.name} {d.profile.boundary}"
            + (f" + {d.host_power_w:g} W" if d.host_power_w else "")
            for d in problem.deployments
        )
        found.append(f"energy boundaries differ: {parts}")
    return found


def with_idle_power(fleet: Fleet, idle_power_w: dict[str, float]) -> Fleet:
    """Change the idle power of deployments, by name.

    Parameters
    ----------
    fleet : Fleet
    idle_power_w : dict
        Watts of one idle replica that stays on; deployments that are not named keep theirs.

    Raises
    ------
    ParameterError
        If no deployment has that name, or a power is negative.
    """
    names = [d.name for d in fleet.deployments]
    for name, power in idle_power_w.items():
        if name not in names:
            raise ParameterError(
                "--idle-power", f"no deployment named {name!r}", f"use one of {', '.join(names)}"
            )
        if not power >= 0:
            raise ParameterError("--idle-power", f"{name}={power:g}", "give watts, 0 or more")
    changed = [
        structs.replace(d, idle_power_w=idle_power_w.get(d.name, d.idle_power_w))
        for d in fleet.deployments
    ]
    return structs.replace(fleet, deployments=changed)
