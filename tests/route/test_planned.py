"""The prices of a plan, asked query by query, give the plan again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import polars as pl
import pytest
from msgspec import structs

from wattshed import InputError, load_fleet, load_policy, load_profile, plan_workload, read_workload
from wattshed.fleet import Deployment, Fleet, Slo
from wattshed.plan.baselines import one_hot, reference_single, single
from wattshed.plan.cost import Weights, cost_matrix, make_scales
from wattshed.plan.decide import Decision, decide
from wattshed.plan.limits import Bound, Limits
from wattshed.plan.planner import in_si_units
from wattshed.plan.problem import Choice, Problem, build_problem
from wattshed.plan.rule import choose, priced_cost
from wattshed.records import Endpoint, Request
from wattshed.route.policy import FilteredPolicy
from wattshed.workload.table import Workload

STUDY = ("falcon-7b", "mistral-7b")  # whose printed models cross among Alpaca's queries
ACCURATE = Limits(accuracy_floor=0.5705)
BY_TOKENS = Limits(accuracy_floor=0.5705, accuracy_measure="token-weighted")


@dataclass(frozen=True)
class Case:
    fleet: str = "hybrid-2024"
    weights: Weights = field(default_factory=Weights)
    limits: Limits = field(default_factory=Limits)
    settings: tuple[str, dict[str, float]] = ("", {})  # of one deployment
    classes: bool = False


CASES = {
    "free": Case(),
    "runtime has a weight": Case(weights=Weights(0.9)),
    "runtime budget": Case(limits=Limits(runtime=Bound(1.1, relative=True))),
    "busy time": Case(limits=Limits(horizon_s=20_000), settings=("m1-pro", {"utilisation": 0.5})),
    "busy time and runtime budget": Case(
        limits=Limits(horizon_s=25_700, runtime=Bound(1.4, relative=True))
    ),
    "largest share": Case(settings=("m1-pro", {"max_share": 0.25})),
    "smallest share": Case(settings=("v100", {"min_share": 0.05})),
    "query cap": Case(settings=("m1-pro", {"max_queries": 1000})),
    "token cap": Case(settings=("m1-pro", {"max_tokens": 100_000})),
    "energy budget": Case(weights=Weights(0.0), limits=Limits(energy=Bound(0.98, relative=True))),
    "SLO classes": Case(classes=True),
    "class budget": Case(
        limits=Limits(class_runtime={"batch": Bound(1.2, relative=True)}), classes=True
    ),
    "accuracy by queries": Case("offline-2024", limits=ACCURATE),
    "accuracy by tokens": Case("offline-2024", limits=BY_TOKENS),
    "accuracy has a weight": Case("offline-2024", weights=Weights(1.0, 0.3)),
    "largest of three sizes": Case("offline-2024", settings=("llama-2-7b", {"max_share": 0.5})),
}


def build(case: Case) -> tuple[Fleet, Workload]:
    fleet = load_fleet(case.fleet)
    workload = read_workload(
        "alpaca" if case.fleet == "hybrid-2024" else "alpaca-gpt4-reconstructed"
    )
    name, settings = case.settings
    deployments = [
        structs.replace(d, **settings) if d.name == name else d for d in fleet.deployments
    ]
    if case.classes:
        names = np.array(["batch", "interactive", ""])[np.arange(workload.table.height) % 3]
        workload = replace(workload, table=workload.table.with_columns(pl.Series("class", names)))
        fleet = structs.replace(fleet, slo={"interactive": Slo(ttft_s=1.0, tbt_s=0.2)})
    return structs.replace(fleet, deployments=deployments), workload


def planned(case: Case, fleet: Fleet, workload: Workload) -> tuple[Problem, Decision]:
    """The assignment itself, which a `Plan` holds only as totals."""
    problem = build_problem(fleet, workload)
    scales = make_scales(problem, case.weights)
    cost = cost_matrix(problem, case.weights, scales)
    index = reference_single(problem, cost)
    limits, sunk = in_si_units(case.limits, problem, single(problem, cost, index), index)
    return problem, decide(problem, case.weights, scales, limits, sunk)


def route(policy: FilteredPolicy, problem: Problem) -> Choice:
    """Ask for each distinct query, its true length as the forecast."""
    queries = problem.queries
    policy.outlooks.learn(queries)
    endpoints = [Endpoint(name, name) for name in problem.names]
    rows = zip(queries.m.tolist(), queries.n.tolist(), queries.group.tolist(), strict=True)
    chosen = [
        policy.decide(Request("", int(m), n, queries.classes[group]), endpoints, 0.0).endpoint
        for m, n, group in rows
    ]
    return np.array([problem.names.index(name or "") for name in chosen])


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_prices_reproduce_the_plan_up_to_the_queries_that_tie(name: str) -> None:
    """All but the ties, and the few queries that a plan moves so that none is split."""
    fleet, workload = build(CASES[name])
    problem, plan = planned(CASES[name], fleet, workload)
    policy = load_policy("prices", fleet=fleet, rule=plan.rule)
    assert isinstance(policy, FilteredPolicy)
    chosen = route(policy, problem)
    np.testing.assert_array_equal(chosen, choose(fleet, plan.rule, problem.queries))

    cost = priced_cost(problem, plan.rule)
    least, second = np.sort(cost, axis=1)[:, :2].T
    tied = second - least <= 1e-9 * np.abs(least)
    binding = sum(price.binding for price in plan.prices)
    assert tied.sum() <= binding

    shares = one_hot(chosen, len(problem.names))
    moved = np.abs(shares - plan.shares).sum(axis=1) / 2 * problem.queries.count
    assert moved[~tied].sum() <= 10 * binding  # of 51,924

    # By what it minimises the rule is the plan, ties or not.
    finite = np.where(problem.eligible, cost, 0.0)
    ours, theirs = (
        float((s * finite).sum(axis=1) @ problem.queries.count) for s in (shares, plan.shares)
    )
    assert ours == pytest.approx(theirs, rel=1e-7)

    # The energy is, too, once tied queries are shared out as the plan does; what remains are
    # the queries that it moved.
    shares[tied] = plan.shares[tied]
    ours, theirs = (
        float((s * problem.energy_j).sum(axis=1) @ problem.queries.count)
        for s in (shares, plan.shares)
    )
    assert ours == pytest.approx(theirs, rel=1e-4 if moved[~tied].any() else 1e-12)


def test_asked_one_at_a_time_it_decides_the_same() -> None:
    """Short arrays are summed by quadrature, to 1e-4: only what ties so closely may differ."""
    fleet, workload = build(CASES["largest share"])
    problem, plan = planned(CASES["largest share"], fleet, workload)
    some = np.random.default_rng(0).choice(len(problem.queries.m), 300, replace=False)
    policy = load_policy("prices", fleet=fleet, rule=plan.rule)
    endpoints = [Endpoint(name, name) for name in problem.names]
    cost = priced_cost(problem, plan.rule)
    for row in some:
        request = Request("", int(problem.queries.m[row]), float(problem.queries.n[row]))
        decision = policy.decide(request, endpoints, 0.0)
        assert decision.endpoint is not None
        chosen = cost[row, problem.names.index(decision.endpoint)]
        assert chosen == pytest.approx(cost[row].min(), rel=1e-4)
        expected = sorted(cost[row][problem.eligible[row]])
        assert list(decision.costs.values()) == pytest.approx(expected, rel=1e-4)


@pytest.fixture(scope="module")
def study() -> tuple[Fleet, Workload]:
    """Two deployments with bilinear models as the offline study printed them."""
    deployments = [
        Deployment(name, load_profile(f"wilkins-2024-ols/swing-a100/{name}")) for name in STUDY
    ]
    return Fleet("study", deployments), read_workload("alpaca")


@pytest.mark.parametrize("family", ["t-in", "t-out", "box", "product"])
def test_the_best_threshold_rule_is_a_policy_of_the_same_energy(
    study: tuple[Fleet, Workload], family: str
) -> None:
    fleet, workload = study
    baseline = [b for b in plan_workload(fleet, workload).baselines if b.family == family][-1]
    assert baseline.rule is not None
    policy = load_policy("threshold", fleet=fleet, **structs.asdict(baseline.rule))
    assert isinstance(policy, FilteredPolicy)
    problem = build_problem(fleet, workload)
    chosen = route(policy, problem)
    energy = problem.energy_j[np.arange(len(chosen)), chosen] @ problem.queries.count
    assert energy == pytest.approx(baseline.energy_j, rel=1e-12)


def test_with_bilinear_models_the_boundary_is_a_hyperbola(study: tuple[Fleet, Workload]) -> None:
    """Where a m + b n + c m n = 0, with the differences of the two systems' coefficients."""
    fleet, workload = study
    rule = plan_workload(fleet, workload).rule
    small, large = (
        d.profile.energy.coefficients for d in sorted(fleet.deployments, key=lambda d: d.name)
    )
    a, b, c = (small[key] - large[key] for key in ("m", "n", "mn"))
    queries = workload.distinct()
    difference = a * queries.m + b * queries.n + c * queries.m * queries.n
    assert rule is not None
    np.testing.assert_array_equal(choose(fleet, rule, queries), np.where(difference > 0, 1, 0))


@pytest.mark.slow
def test_a_plan_on_disk_is_the_same_policy(
    wattshed: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    """Its SLOs and idle power included, which the fleet's own file does not hold."""
    options: dict[str, Any] = {"--slo": "tbt=0.2", "--idle-power": "a100=20", "--horizon": "40000"}
    done = wattshed("plan", "-o", "out", *(word for pair in options.items() for word in pair))
    assert done.returncode == 0, done.stderr
    policy = load_policy("prices", fleet="hybrid-2024", plan=tmp_path / "out/plan.json")
    assert isinstance(policy, FilteredPolicy)
    assert {d.name: d.idle_power_w for d in policy.fleet.deployments}["a100"] == 20
    assert policy.fleet.slo["default"].tbt_s == 0.2
    workload = read_workload("alpaca")
    plan = plan_workload(policy.fleet, workload, limits=Limits(horizon_s=40_000))
    assert plan.rule is not None
    problem = build_problem(policy.fleet, workload)
    expected = choose(policy.fleet, plan.rule, problem.queries)
    np.testing.assert_array_equal(route(policy, problem), expected)


@pytest.mark.slow
def test_a_robust_plan_is_no_rule_for_the_fits(
    wattshed: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    done = wattshed("plan", "--robust", "expected", "-o", "out")
    assert done.returncode == 0, done.stderr
    with pytest.raises(InputError, match="--robust expected"):
        load_policy("prices", fleet="hybrid-2024", plan=tmp_path / "out/plan.json")
