"""Fronts: exact against enumeration, grids of weights and linear programs, and as plans."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from wattshed import load_fleet, plan_workload, read_workload
from wattshed.errors import ParameterError
from wattshed.fleet import Fleet
from wattshed.plan.cost import Weights
from wattshed.plan.front import (
    Front,
    choice_at,
    energy_at,
    interior_prices,
    knee_by_distance,
    knee_by_rate,
    next_prices,
    point_with_accuracy,
    point_within_runtime,
    supported_front,
    thin,
)
from wattshed.plan.pareto import find_pareto
from wattshed.records import Pareto
from wattshed.workload.table import Workload

Maker = Callable[..., Fleet]
Queries = Callable[..., Workload]
Instance = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

RANDOM = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
SEEDS = st.integers(0, 10**6)
COST = st.tuples(
    st.floats(0.1, 10), st.floats(1e-4, 0.1), st.floats(1e-3, 1), st.floats(1e-6, 1e-3)
)
FLEETS = st.dictionaries(st.sampled_from("abcde"), COST, min_size=1, max_size=4)
QUERIES = st.lists(
    st.tuples(st.integers(1, 2000), st.integers(1, 1000), st.integers(1, 50)),
    min_size=1,
    max_size=30,
)


def instance(seed: int, queries: int, deployments: int, *, whole: bool = False) -> Instance:
    """Energies, runtimes, counts and eligibility; whole numbers make many exact ties."""
    rng = np.random.default_rng(seed)
    shape = (queries, deployments)
    energy, runtime = rng.uniform(1, 100, shape), rng.uniform(0.1, 10, shape)
    if whole:
        energy, runtime = rng.integers(-1, 5, shape), rng.integers(0, 5, shape)
    eligible = rng.random(shape) < 0.8
    eligible[np.arange(queries), rng.integers(0, deployments, queries)] = True
    return energy, runtime, rng.integers(1, 6, queries), eligible


def totals(energy: np.ndarray, runtime: np.ndarray, count: np.ndarray, choice: np.ndarray):
    rows = np.arange(len(count))
    return energy[rows, choice] @ count, runtime[rows, choice] @ count


def every_plan(energy: np.ndarray, runtime: np.ndarray, count: np.ndarray, eligible: np.ndarray):
    """(energy, runtime) of every assignment of whole rows."""
    choices = product(*(np.flatnonzero(row) for row in eligible))
    return np.array([totals(energy, runtime, count, np.array(c)) for c in choices])


# ---------------------------------------------------------------- the front itself


@RANDOM
@given(seed=SEEDS, deployments=st.integers(1, 8), whole=st.booleans())
def test_the_front_falls_and_is_convex(seed: int, deployments: int, whole: bool) -> None:
    front = supported_front(*instance(seed, 40, deployments, whole=whole))
    assert (np.diff(front.other) > 0).all()
    assert (np.diff(front.energy) < 0).all()
    assert (np.diff(front.rate) < 0).all()
    assert front.rate == pytest.approx(-np.diff(front.energy) / np.diff(front.other), rel=1e-6)


@RANDOM
@given(seed=SEEDS, whole=st.booleans())
def test_its_points_are_the_hull_of_all_plans(seed: int, whole: bool) -> None:
    """No plan lies below the front, and each point of it is a plan."""
    case = instance(seed, 5, 3, whole=whole)
    front, plans = supported_front(*case), every_plan(*case)
    below = energy_at(front, plans[:, 1] / front.weight) - plans[:, 0]
    assert below.max() <= 1e-9 * np.abs(front.energy).max()
    for point in zip(front.energy, front.other, strict=True):
        assert np.abs(plans - point).sum(axis=1).min() <= 1e-9 * np.abs(plans).max()


@RANDOM
@given(seed=SEEDS, whole=st.booleans())
def test_its_ends_are_lexicographic_optima(seed: int, whole: bool) -> None:
    case = instance(seed, 5, 3, whole=whole)
    front, plans = supported_front(*case), every_plan(*case)
    energy, runtime = plans.T
    thrifty = energy <= energy.min() + 1e-9
    fast = runtime <= runtime.min() + 1e-9
    assert front.energy[-1] == pytest.approx(energy.min(), abs=1e-9)
    assert front.other[-1] == pytest.approx(runtime[thrifty].min(), abs=1e-9)
    assert front.other[0] == pytest.approx(runtime.min(), abs=1e-9)
    assert front.energy[0] == pytest.approx(energy[fast].min(), abs=1e-9)


@RANDOM
@given(seed=SEEDS)
def test_no_weighted_optimum_lies_off_the_front(seed: int) -> None:
    energy, runtime, count, eligible = instance(seed, 50, 6)
    front = supported_front(energy, runtime, count, eligible)
    for price in np.geomspace(1e-4, 1e4, 300):
        cost = np.where(eligible, energy + price * runtime, np.inf)
        found = totals(energy, runtime, count, cost.argmin(axis=1))
        nearest = np.abs(front.energy - found[0]).argmin()
        assert found == pytest.approx((front.energy[nearest], front.other[nearest]), rel=1e-9)


@settings(max_examples=25)
@given(seed=SEEDS, share=st.floats(0, 1))
def test_a_linear_program_with_any_budget_ends_on_the_front(seed: int, share: float) -> None:
    energy, runtime, count, eligible = instance(seed, 12, 4)
    front = supported_front(energy, runtime, count, eligible)
    budget = front.other[0] + share * 1.2 * (front.other[-1] - front.other[0])
    rows, columns = np.nonzero(eligible)
    each = (rows == np.arange(len(count))[:, None]).astype(float)
    solved = linprog(
        (energy * count[:, None])[rows, columns],
        A_ub=[(runtime * count[:, None])[rows, columns]],
        b_ub=[budget * (1 + 1e-13)],
        A_eq=each,
        b_eq=np.ones(len(count)),
        method="highs-ds",
    )
    assert solved.status == 0
    assert solved.fun == pytest.approx(energy_at(front, budget / front.weight), rel=1e-9)


@RANDOM
@given(seed=SEEDS, deployments=st.integers(1, 6))
def test_a_price_inside_its_interval_gives_each_point(seed: int, deployments: int) -> None:
    energy, runtime, count, eligible = instance(seed, 30, deployments)
    front = supported_front(energy, runtime, count, eligible)
    prices = [np.inf, *interior_prices(front)[1:-1], 0.0] if len(front.rate) else [1.0]
    for index, price in enumerate(prices):
        choice = choice_at(energy, runtime, price, eligible)
        assert totals(energy, runtime, count, choice) == pytest.approx(
            (front.energy[index], front.other[index]), rel=1e-9
        )


@RANDOM
@given(seed=SEEDS)
def test_the_order_of_deployments_does_not_matter(seed: int) -> None:
    energy, runtime, count, eligible = instance(seed, 30, 5)
    order = np.random.default_rng(seed).permutation(5)
    first = supported_front(energy, runtime, count, eligible)
    second = supported_front(energy[:, order], runtime[:, order], count, eligible[:, order])
    assert np.array_equal(first.energy, second.energy)
    assert np.array_equal(first.other, second.other)


def test_many_blocks_of_queries_give_what_one_gives() -> None:
    """Copies of a small workload, more than are marched together."""
    energy, runtime, count, eligible = instance(3, 100, 4)
    copies = 200
    many = supported_front(
        *(np.tile(part, (copies, 1)) for part in (energy, runtime)),
        np.tile(count, copies),
        np.tile(eligible, (copies, 1)),
    )
    one = supported_front(energy, runtime, copies * count, eligible)
    assert many.energy == pytest.approx(one.energy, rel=1e-10)
    assert many.other == pytest.approx(one.other, rel=1e-10)


def test_queries_of_one_kind_move_together() -> None:
    front = supported_front(np.array([[10.0, 4.0]]), np.array([[1.0, 3.0]]), np.array([5]))
    assert front.energy.tolist() == [50, 20]
    assert front.mean.tolist() == [1, 3]
    assert front.rate.tolist() == [3]
    assert front.move.tolist() == [6]


def test_a_query_that_may_go_nowhere_is_refused() -> None:
    with pytest.raises(ParameterError, match="no deployment"):
        supported_front(np.ones((1, 1)), np.ones((1, 1)), np.ones(1, int), np.zeros((1, 1), bool))


# ---------------------------------------------------------------- choosing a point


def hand_made(energy: list[float], other: list[float]) -> Front:
    e, o = np.array(energy, float), np.array(other, float)
    return Front(e, o, -np.diff(e) / np.diff(o), -np.diff(e), 1.0)


def test_knees_of_a_front_made_by_hand() -> None:
    front = hand_made([100, 60, 40, 30, 28], [1, 2, 3, 6, 10])
    # Above the chord's parallel by 1 - x - y: 0.444, 0.611, 0.417.
    assert knee_by_distance(front) == 2
    # One percent of 1, 2, 3 s saves 0.4, 0.4, 0.1 J; of 100, 60, 40 J it is 1, 0.6, 0.4 J.
    assert knee_by_rate(front) == 0
    steep = hand_made([100, 20, 12, 10], [1, 2, 4, 9])
    # From 1 s: 0.8 of 1 J. Twice as fast a start: 1.6 of 1 J, then 0.08 of 0.2 J.
    assert knee_by_rate(steep) == 0
    assert knee_by_rate(hand_made([100, 20, 12, 10], [2, 3, 5, 10])) == 1


def test_two_points_have_no_knee_between_them() -> None:
    assert knee_by_distance(hand_made([2, 1], [1, 2])) is None


@RANDOM
@given(seed=SEEDS, share=st.floats(0, 3))
def test_a_budget_is_kept_and_used(seed: int, share: float) -> None:
    front = supported_front(*instance(seed, 20, 4))
    budget = front.mean[0] * (1 + share)
    index = point_within_runtime(front, budget)
    assert front.mean[index] <= budget
    assert index == len(front.energy) - 1 or front.mean[index + 1] > budget
    assert point_with_accuracy(front, -budget) == index
    assert next_prices(front)[-1] == 0


def test_what_is_out_of_reach_is_refused() -> None:
    front = hand_made([2, 1], [1, 2])
    with pytest.raises(ParameterError, match="allow at least the fastest plan's 1 s"):
        point_within_runtime(front, 0.99)
    accurate = hand_made([2, 1], [-0.8, -0.6])
    with pytest.raises(ParameterError, match=r"at most the most accurate plan's 0\.8"):
        point_with_accuracy(accurate, 0.9)


def test_thinning_keeps_ends_knees_and_the_sharpest_bend() -> None:
    x = np.linspace(0, 1, 2001)
    energy = np.where(x < 0.3, 10 - 30 * x, 1.3 - x) + 0.01 * (1 - x) ** 2
    front = hand_made((energy * 100).tolist(), (1 + x).tolist())
    kept = thin(front, 20, [7])
    assert {0, 7, 600, 2000} <= set(kept.tolist())
    assert len(kept) <= 20
    assert thin(front, 0, []).tolist() == list(range(2001))


# ---------------------------------------------------------------- as plans


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(costs=FLEETS, queries=QUERIES, normalisation=st.sampled_from(["ideal", "range", "none"]))
def test_planning_at_its_lambda_gives_each_point(
    make_fleet: Maker, make_workload: Queries, costs: dict, queries: list, normalisation: str
) -> None:
    fleet = make_fleet(costs, **{sorted(costs)[0]: {"idle_power_w": 0.05}})
    workload = make_workload(*(list(column) for column in zip(*queries, strict=True)))
    found = find_pareto(fleet, workload, normalisation=normalisation, points=4)
    for point in found.points:
        plan = plan_workload(fleet, workload, Weights(point.energy_weight, None, normalisation))
        assert plan.energy_j == pytest.approx(point.energy_j, rel=1e-9)
        assert plan.runtime_s_mean == pytest.approx(point.runtime_s_mean, rel=1e-9)
    assert plan.sunk_idle_j == pytest.approx(found.sunk_idle_j)
    assert plan.reference == found.reference


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(costs=FLEETS, queries=QUERIES)
def test_the_ends_are_the_plans_of_one_objective(
    make_fleet: Maker, make_workload: Queries, costs: dict, queries: list
) -> None:
    fleet = make_fleet(costs)
    workload = make_workload(*(list(column) for column in zip(*queries, strict=True)))
    found = find_pareto(fleet, workload, points=0)
    assert len(found.points) == found.total_points
    thrifty = plan_workload(fleet, workload, Weights(1.0))
    assert found.points[-1].energy_j == pytest.approx(thrifty.energy_j, rel=1e-9)
    fast = plan_workload(fleet, workload, Weights(0.0))
    assert found.points[0].runtime_s_mean == pytest.approx(fast.runtime_s_mean, rel=1e-9)
    assert all(rule.excess_pct >= 0 for rule in found.baselines)
    assert 0 <= found.gap.query_pct <= found.gap.step_pct * (1 + 1e-9)


def test_where_ties_would_decide_lambda_is_just_inside(
    make_fleet: Maker, make_workload: Queries
) -> None:
    """Both take the same energy; the first by name is the slower one."""
    fleet = make_fleet({"a": (1.0, 0.0, 2.0, 0.0), "b": (1.0, 0.0, 1.0, 0.0)})
    workload = make_workload([1], [10])
    (point,) = find_pareto(fleet, workload).points
    assert point.energy_weight < 1
    plan = plan_workload(fleet, workload, Weights(point.energy_weight))
    assert (plan.energy_j, plan.runtime_s_mean) == (10, 10)
    assert plan_workload(fleet, workload, Weights(1.0)).runtime_s_mean == 20


@pytest.mark.parametrize("measure", ["query-mean", "token-weighted"])
def test_the_accuracy_front_and_its_zeta(
    make_fleet: Maker, make_workload: Queries, measure: str
) -> None:
    costs = {
        "small": (1.0, 0.01, 0.1, 1e-3),
        "middle": (4.0, 0.02, 0.3, 1e-3),
        "large": (9.0, 0.05, 0.5, 2e-3),
    }
    accuracy = {"small": 0.5, "middle": 0.6, "large": 0.65}
    fleet = make_fleet(costs, **{name: {"accuracy": a} for name, a in accuracy.items()})
    workload = make_workload([10, 100, 1000, 50], [100, 50, 10, 400], [3, 2, 1, 7])
    found = find_pareto(fleet, workload, accuracy_measure=measure)
    points = found.accuracy_points
    assert points is not None
    assert found.total_accuracy_points == len(points) > 4
    assert (points[0].accuracy, points[-1].accuracy) == pytest.approx((0.65, 0.5))
    slope = np.diff([p.energy_j for p in points]) / np.diff([p.accuracy for p in points])
    per_point = slope / 100 / found.queries
    assert [p.price_j_per_point for p in points[:-1]] == pytest.approx(per_point, rel=1e-6)
    for point in points:
        if measure == "query-mean":
            assert point.zeta is None
            continue
        plan = plan_workload(fleet, workload, Weights(1.0, point.zeta))
        assert plan.energy_j == pytest.approx(point.energy_j, rel=1e-9)
        assert plan.accuracy_token_weighted == pytest.approx(point.accuracy, rel=1e-9)


def test_no_accuracy_front_without_differing_accuracies(
    make_fleet: Maker, make_workload: Queries
) -> None:
    costs = {"a": (1.0, 0.0, 2.0, 0.0), "b": (2.0, 0.0, 1.0, 0.0)}
    same = make_fleet(costs, a={"accuracy": 0.5}, b={"accuracy": 0.5})
    for fleet in (make_fleet(costs), same):
        found = find_pareto(fleet, make_workload([1], [10]))
        assert found.accuracy_points is None
        assert found.total_accuracy_points is None


@pytest.fixture(scope="module")
def hybrid() -> Pareto:
    return find_pareto(load_fleet("hybrid-2024"), read_workload("alpaca"))


def test_the_built_in_front(hybrid: Pareto) -> None:
    fleet, workload = load_fleet("hybrid-2024"), read_workload("alpaca")
    assert len(hybrid.points) <= 200 < hybrid.total_points
    assert hybrid.knee.distance in hybrid.points
    assert hybrid.knee.marginal in hybrid.points
    for point in (hybrid.points[0], hybrid.points[77], hybrid.knee.distance, hybrid.points[-1]):
        assert point is not None
        plan = plan_workload(fleet, workload, Weights(point.energy_weight))
        assert plan.energy_j == pytest.approx(point.energy_j, rel=1e-9)
        assert plan.runtime_s_mean == pytest.approx(point.runtime_s_mean, rel=1e-9)
    for budget in hybrid.budgets:
        assert budget.point.runtime_s_mean <= budget.max_runtime_s_mean
    study = next(r for r in hybrid.baselines if r.name.startswith("T_in <= 32"))
    assert study.excess_pct > 10
    assert hybrid.gap.query_pct < hybrid.gap.step_pct < 0.1
