"""Robust plans: against the whole linear program, against each other, and what draws say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs
from scipy.optimize import linprog

from wattshed import load_fleet, plan_workload, read_workload
from wattshed.errors import ParameterError
from wattshed.fleet import Fleet
from wattshed.plan.cost import Weights, cost_matrix, make_scales
from wattshed.plan.cuts import best_weights
from wattshed.plan.draws import Draws, draws_of
from wattshed.plan.limits import Bound, Limits
from wattshed.plan.problem import Problem, build_problem
from wattshed.plan.progress import Progress
from wattshed.plan.risk import cost_of_totals, cvar
from wattshed.plan.robust import solver
from wattshed.records import Plan, QueryModel
from wattshed.workload.table import Workload

Maker = Callable[..., Fleet]
Queries = Callable[..., Workload]
NUMBER = 20
COST = st.tuples(
    st.floats(0.1, 10), st.floats(1e-4, 0.1), st.floats(1e-3, 1), st.floats(1e-6, 1e-3)
)
FLEETS = st.dictionaries(st.sampled_from("abcd"), COST, min_size=2, max_size=3)
QUERIES = st.lists(
    st.tuples(st.integers(1, 2000), st.integers(1, 1000), st.integers(1, 50)),
    min_size=1,
    max_size=12,
)
SEEDS = st.integers(0, 10_000)
RANDOM = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def columns(queries: list[tuple[int, int, int]]) -> list[list[int]]:
    return [list(column) for column in zip(*queries, strict=True)]


def with_draws(fleet: Fleet, seed: int, spread: float | dict[str, float] = 0.3) -> Fleet:
    """The fleet with log-normal draws of every coefficient, the same whatever its order."""

    def drawn(model: QueryModel, rng: np.random.Generator, by: float) -> QueryModel:
        centre = np.array(list(model.coefficients.values()))
        factors = np.exp(by * rng.standard_normal((NUMBER, len(centre))))
        return structs.replace(model, draws=(centre * factors).tolist())

    found = []
    for each in fleet.deployments:
        rng = np.random.default_rng([seed, ord(each.name[0])])
        by = spread[each.name] if isinstance(spread, dict) else spread
        energy, runtime = (drawn(m, rng, by) for m in (each.profile.energy, each.profile.runtime))
        profile = structs.replace(each.profile, energy=energy, runtime=runtime)
        found.append(structs.replace(each, profile=profile))
    return structs.replace(fleet, deployments=found)


def energy_draws(problem: Problem) -> np.ndarray:
    """Energy (D, Q, K) of all counts of each query, net of idle power."""
    draws = draws_of(problem)
    assert draws is not None
    ((_, part),) = draws.parts()
    net = [e - i * r for (e, r), i in zip(part, problem.idle_power_w, strict=True)]
    return np.stack(net, axis=2) * problem.queries.count[None, :, None]


def least_cvar_by_one_program(
    cost: np.ndarray, usage: np.ndarray | None = None, bound: float = 0.0
) -> float:
    """min t + sum u / (0.1 D), u_d >= cost_d(x) - t: Rockafellar & Uryasev's program.

    At most `bound` of `usage` (Q, K).
    """
    number, rows, k = cost.shape
    wide = np.hstack([cost.reshape(number, -1), -np.ones((number, 1)), -np.eye(number)])
    once = np.hstack([np.kron(np.eye(rows), np.ones(k)), np.zeros((rows, 1 + number))])
    aim = np.concatenate([np.zeros(rows * k), [1.0], np.full(number, 10 / number)])
    free = [(0, 1)] * (rows * k) + [(None, None)] + [(0, None)] * number
    most = np.zeros(number)
    if usage is not None:
        wide = np.vstack([wide, np.append(usage.ravel(), np.zeros(1 + number))])
        most = np.append(most, bound)
    found = linprog(aim, wide, most, once, np.ones(rows), free, method="highs")
    return float(found.fun)


@RANDOM
@given(costs=FLEETS, queries=QUERIES, seed=SEEDS)
@pytest.mark.slow
def test_the_bound_is_the_optimum_of_the_whole_linear_program(
    make_fleet: Maker, make_workload: Queries, costs: dict, queries: list, seed: int
) -> None:
    fleet, workload = with_draws(make_fleet(costs), seed), make_workload(*columns(queries))
    plan = plan_workload(fleet, workload, robust="p90")
    assert plan.robust is not None
    cost = energy_draws(build_problem(fleet, workload))
    assert plan.robust.bound_j == pytest.approx(least_cvar_by_one_program(cost), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_under_a_cap_the_bound_holds_for_split_queries_too(
    make_fleet: Maker, make_workload: Queries, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    costs = {"a": (1.0, 0.01, 0.1, 1e-3), "b": (1.5, 0.008, 0.1, 1e-3), "c": (2, 0.009, 1, 1e-3)}
    count = rng.integers(1, 30, 40)
    cap = int(count.sum()) // 4
    fleet = with_draws(make_fleet(costs, b={"max_queries": cap}), seed)
    workload = make_workload(
        rng.integers(1, 900, 40).tolist(), rng.integers(1, 500, 40).tolist(), count.tolist()
    )
    plan = plan_workload(fleet, workload, robust="p90")
    assert plan.robust is not None
    assert next(a.queries for a in plan.assignment if a.deployment == "b") <= cap
    problem = build_problem(fleet, workload)
    usage = np.outer(problem.queries.count, [0, 1, 0])
    least = least_cvar_by_one_program(energy_draws(problem), usage, cap)
    assert plan.robust.bound_j <= least * (1 + 1e-9)
    assert plan.robust.bound_j == pytest.approx(least, rel=1e-6)
    assert plan.robust.plan.gap < 2e-3


@pytest.mark.slow
@RANDOM
@given(costs=FLEETS, queries=QUERIES, seed=SEEDS)
def test_no_assignment_is_below_the_bound(
    make_fleet: Maker, make_workload: Queries, costs: dict, queries: list, seed: int
) -> None:
    fleet, workload = with_draws(make_fleet(costs), seed), make_workload(*columns(queries))
    robust = plan_workload(fleet, workload, robust="p90").robust
    assert robust is not None
    assert robust.plan.worst_tenth_j == pytest.approx(robust.bound_j / (1 - robust.plan.gap))
    cost = energy_draws(build_problem(fleet, workload))
    rng = np.random.default_rng(seed)
    for _ in range(20):
        choice = rng.integers(cost.shape[2], size=cost.shape[1])
        drawn = cost[:, np.arange(len(choice)), choice].sum(axis=1)
        assert cvar(drawn) >= robust.bound_j * (1 - 1e-9)


@RANDOM
@given(costs=FLEETS, queries=QUERIES, seed=SEEDS, weight=st.floats(0.3, 1))
@pytest.mark.slow
def test_each_criterion_is_best_at_what_it_minimises(
    make_fleet: Maker, make_workload: Queries, costs: dict, queries: list, seed: int, weight: float
) -> None:
    fleet, workload = with_draws(make_fleet(costs), seed), make_workload(*columns(queries))
    plans = [plan_workload(fleet, workload, Weights(weight), robust=c) for c in ("expected", "p90")]
    mean, tail = (plan.robust for plan in plans)
    assert mean is not None
    assert tail is not None
    for other in (mean.nominal, tail.plan, mean.reference):
        assert mean.plan.mean_j <= other.mean_j * (1 + 1e-9)
    for other in (tail.nominal, mean.plan, tail.reference):
        slack = 1e-9 + abs(tail.plan.gap)
        assert tail.plan.worst_tenth_j <= other.worst_tenth_j * (1 + slack)
    for robust in (mean, tail):
        assert sum(robust.draw_weights) == pytest.approx(1, abs=1e-12)
        assert max(robust.draw_weights) <= 10 / NUMBER + 1e-12
        assert robust.plan.p90_j <= robust.plan.worst_tenth_j * (1 + 1e-12)


@RANDOM
@given(costs=FLEETS, queries=QUERIES, criterion=st.sampled_from(["expected", "p90"]))
def test_without_spread_the_robust_plan_is_the_plan(
    make_fleet: Maker, make_workload: Queries, costs: dict, queries: list, criterion: str
) -> None:
    fleet, workload = with_draws(make_fleet(costs), 0, 0.0), make_workload(*columns(queries))
    plan = plan_workload(fleet, workload, robust=criterion)
    assert plan.energy_j == pytest.approx(plan_workload(fleet, workload).energy_j, rel=1e-9)
    assert plan.gap <= 1e-9
    assert "changes nothing" in plan.verdict


@RANDOM
@given(costs=FLEETS, queries=QUERIES, seed=SEEDS)
@pytest.mark.slow
def test_permuting_deployments_changes_nothing(
    make_fleet: Maker, make_workload: Queries, costs: dict, queries: list, seed: int
) -> None:
    workload = make_workload(*columns(queries))
    order = np.random.default_rng(seed).permutation(sorted(costs))
    plans = [
        plan_workload(with_draws(make_fleet(each), seed), workload, robust="p90")
        for each in (costs, {k: costs[k] for k in order})
    ]
    assert plans[0] == plans[1]


def test_an_uncertain_deployment_loses_queries_in_the_tail(
    make_fleet: Maker, make_workload: Queries
) -> None:
    """`risky` is a little cheaper at the fits, and by far not as sure."""
    fleet = make_fleet({"risky": (0.95, 0.01, 0.1, 1e-3), "safe": (1.0, 0.01, 0.1, 1e-3)})
    fleet = with_draws(fleet, 1, {"risky": 0.5, "safe": 0.01})
    workload = make_workload([10, 50, 200, 1000], [100, 20, 50, 10], [9, 8, 7, 6])
    share = {}
    for criterion in (None, "p90"):
        plan = plan_workload(fleet, workload, robust=criterion)
        share[criterion] = next(a.share for a in plan.assignment if a.deployment == "risky")
    assert share[None] == 1
    assert share["p90"] < 0.5


@RANDOM
@given(costs=FLEETS, queries=QUERIES, seed=SEEDS)
def test_the_probability_is_a_count_of_draws(
    make_fleet: Maker, make_workload: Queries, costs: dict, queries: list, seed: int
) -> None:
    fleet, workload = with_draws(make_fleet(costs), seed), make_workload(*columns(queries))
    plan = plan_workload(fleet, workload)
    problem = build_problem(fleet, workload)
    cost = energy_draws(problem)
    choice = problem.energy_j.argmin(axis=1)
    ours = cost[:, np.arange(len(choice)), choice].sum(axis=1)
    for index, name in enumerate(problem.names):
        policy = next(b for b in plan.baselines if b.name == f"all {name}")
        theirs = cost[:, :, index].sum(axis=1)
        if policy.shares != {a.deployment: a.share for a in plan.assignment}:
            assert policy.probability_saves == np.mean(ours < theirs)
        else:
            assert policy.probability_saves == 0


def test_without_draws_there_is_no_probability(make_fleet: Maker, make_workload: Queries) -> None:
    plan = plan_workload(
        make_fleet({"a": (1, 0, 1, 0), "b": (2, 0, 1, 0)}), make_workload([5], [5])
    )
    assert all(b.probability_saves is None for b in plan.baselines)
    assert all(s.probability_saves is None for s in plan.sensitivity)


@pytest.mark.parametrize("zeta", [None, 0.6])
@pytest.mark.parametrize("weight", [1.0, 0.4])
def test_the_cost_of_a_draw_is_the_cost_of_its_queries(
    make_fleet: Maker, make_workload: Queries, weight: float, zeta: float | None
) -> None:
    """With draws that repeat the fits, idle and host power, λ and ζ."""
    costs = {"a": (20.0, 0.01, 0.5, 1e-3), "b": (9.0, 0.05, 0.2, 2e-3)}
    more = {"accuracy": 0.6, "idle_power_w": 3.0, "host_power_w": 2.0}
    fleet = with_draws(make_fleet(costs, a=more, b=more | {"accuracy": 0.7}), 0, 0.0)
    problem = build_problem(fleet, make_workload([10, 100], [100, 5], [3, 4]))
    problem = problem.with_energy_scaled(0, 1.1)
    weights = Weights(weight, zeta)
    scales = make_scales(problem, weights)
    draws = draws_of(problem)
    assert draws is not None
    counted = np.eye(2)[[[0, 1], [1, 1]]] * problem.queries.count[:, None]
    drawn = cost_of_totals(problem, weights, scales, counted, draws.totals(counted))
    expected = (counted * cost_matrix(problem, weights, scales)).sum(axis=(1, 2)) * scales.energy_j
    assert drawn == pytest.approx(np.tile(expected, (NUMBER, 1)), rel=1e-12)


def test_many_queries_are_drawn_in_parts(make_fleet: Maker) -> None:
    """More rows than are predicted at once, kept or made again."""
    fleet = with_draws(make_fleet({"a": (1, 0.01, 1, 0.1), "b": (2, 0.02, 1, 0.1)}), 3)
    problem = build_problem(fleet, read_workload("azure-conv-2023"))
    rows = np.resize(np.arange(len(problem.queries.m)), 70_000)
    queries = replace(problem.queries, m=problem.queries.m[rows], n=problem.queries.n[rows])
    draws = Draws(replace(problem, queries=queries, runtime_s=problem.runtime_s[rows]), NUMBER)
    counted = np.random.default_rng(0).random((2, 70_000, 2))
    energy, _ = draws.totals(counted)
    again, _ = draws.totals(counted)
    assert len(list(draws.parts())) > 1
    assert (energy == again).all()
    mean, runtime = draws.mean(np.full(NUMBER, 1 / NUMBER))
    assert mean.shape == runtime.shape == (70_000, 2)
    assert (counted * mean).sum(axis=1) == pytest.approx(energy.mean(axis=0), rel=1e-9)


@given(cost=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), shift=st.floats(-1e3, 1e3))
def test_cvar_is_the_best_of_all_allowed_weights(cost: list[float], shift: float) -> None:
    array = np.array(cost)
    worst = best_weights(array[None], 10 / len(cost))
    scale = np.abs(array).max() + 1
    assert cvar(array) == pytest.approx(worst.weight @ array, abs=1e-7 * scale)
    assert cvar(array + shift) == pytest.approx(cvar(array) + shift, abs=1e-9 * scale + 1e-9)
    assert array.mean() - 1e-9 * scale <= cvar(array) <= array.max() + 1e-9 * scale
    assert worst.weight.sum() == pytest.approx(1, abs=1e-12)


def hybrid(robust: str | None, limits: Limits | None = None, **share: float) -> Plan:
    fleet = load_fleet("hybrid-2024")
    capped = [
        structs.replace(d, max_share=share.get(d.name.replace("-", "_"), d.max_share))
        for d in fleet.deployments
    ]
    fleet = structs.replace(fleet, deployments=capped)
    return plan_workload(fleet, read_workload("alpaca"), robust=robust, limits=limits)


@pytest.mark.parametrize("criterion", ["expected", "p90"])
@pytest.mark.parametrize(
    ("limits", "share"),
    [
        (None, {}),
        (None, {"m1_pro": 0.25}),
        pytest.param(Limits(runtime=Bound(1.5, relative=True)), {}, marks=pytest.mark.slow),
        pytest.param(Limits(horizon_s=20_000.0), {"m1_pro": 0.3}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_the_built_in_plan_is_proven_under_limits(
    criterion: str, limits: Limits | None, share: dict[str, float]
) -> None:
    plan = hybrid(criterion, limits, **share)
    robust = plan.robust
    assert robust is not None
    assert robust.draws == 200
    assert 0 <= robust.plan.gap < 1e-5
    assert robust.nominal.gap >= -1e-9
    assert plan.lower_bound_j is None
    assert plan.curve == []
    if "m1_pro" in share:
        used = next(a.share for a in plan.assignment if a.deployment == "m1-pro")
        assert used <= share["m1_pro"] + 1e-9
    nominal = next(b for b in plan.baselines if b.family == "nominal")
    assert nominal.keeps_limits in (None, True)
    assert "Robust over 200 draws" in plan.verdict


def test_progress_is_told_and_bounds_rise() -> None:
    problem = build_problem(load_fleet("hybrid-2024"), read_workload("alpaca"))
    told: list[tuple[float, float]] = []
    scales = make_scales(problem, Weights())
    solver("p90", problem)(
        problem, Weights(), scales, Limits(), 0.0, lambda *each: told.append(each)
    )
    bounds, gaps = np.array(told).T
    assert len(told) > 1
    assert (np.diff(bounds) >= 0).all()
    assert gaps[-1] < 1e-5


def test_an_unknown_criterion_and_a_profile_without_draws_are_refused(
    make_fleet: Maker, make_workload: Queries
) -> None:
    fleet, workload = make_fleet({"a": (1, 0, 1, 0)}), make_workload([5], [5])
    with pytest.raises(ParameterError, match="'p95'; use one of expected, p90"):
        plan_workload(fleet, workload, robust="p95")
    with pytest.raises(ParameterError, match="deployment a has no bootstrap draws; fit it"):
        plan_workload(fleet, workload, robust="expected")


@pytest.mark.slow
def test_a_search_that_is_stopped_gives_the_best_so_far_and_its_gap() -> None:
    def stop(now: Progress) -> None:
        if now.bound_j is not None:
            raise KeyboardInterrupt

    fleet, workload = load_fleet("hybrid-2024"), read_workload("alpaca")
    plan = plan_workload(fleet, workload, robust="p90", on_progress=stop)
    proven = hybrid("p90")
    assert not plan.converged
    assert (plan.iterations, plan.sensitivity) == (1, [])
    assert plan.gap > proven.gap
    assert plan.robust is not None
    assert proven.robust is not None
    assert proven.iterations > 1
    (told,) = [warning for warning in plan.warnings if "stopped" in warning]
    assert "cheaper" in told
