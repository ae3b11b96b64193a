"""Plans: optimality against every baseline, invariances, conservation, and the built-in result."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from wattshed import load_fleet, load_profile, plan_workload, read_workload
from wattshed.errors import ParameterError, UnservableError
from wattshed.fleet import Fleet
from wattshed.plan.cost import Weights
from wattshed.plan.limits import Limits
from wattshed.records import Plan
from wattshed.workload.table import Workload

COST = st.tuples(
    st.floats(0.1, 10), st.floats(1e-4, 0.1), st.floats(1e-3, 1), st.floats(1e-6, 1e-3)
)
FLEETS = st.dictionaries(st.sampled_from("abcde"), COST, min_size=2, max_size=4)
QUERIES = st.lists(
    st.tuples(st.integers(1, 2000), st.integers(1, 1000), st.integers(1, 50)),
    min_size=1,
    max_size=30,
)
WEIGHTS = st.floats(0, 1)
RANDOM = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def columns(queries: list[tuple[int, int, int]]) -> list[list[int]]:
    return [list(column) for column in zip(*queries, strict=True)]


Maker = Callable[..., Fleet]
Queries = Callable[..., Workload]


@RANDOM
@given(costs=FLEETS, queries=QUERIES, weight=WEIGHTS, cap=st.integers(1, 1000))
def test_no_baseline_ever_beats_the_exact_optimum(
    make_fleet: Maker, make_workload: Queries, costs: dict, queries: list, weight: float, cap: int
) -> None:
    capped = sorted(costs)[0]
    fleet = make_fleet(costs, **{capped: {"max_output_tokens": cap}})
    plan = plan_workload(fleet, make_workload(*columns(queries)), Weights(weight))
    for baseline in plan.baselines:
        assert plan.cost <= baseline.cost * (1 + 1e-9), baseline.name


@RANDOM
@given(costs=FLEETS, queries=QUERIES, weight=WEIGHTS, seed=st.integers(0, 99))
def test_permuting_deployments_changes_nothing(
    make_fleet: Maker, make_workload: Queries, costs: dict, queries: list, weight: float, seed: int
) -> None:
    workload = make_workload(*columns(queries))
    order = np.random.default_rng(seed).permutation(sorted(costs))
    first = plan_workload(make_fleet(costs), workload, Weights(weight))
    second = plan_workload(make_fleet({k: costs[k] for k in order}), workload, Weights(weight))
    assert first == second


@RANDOM
@given(costs=FLEETS, queries=QUERIES)
def test_each_query_goes_somewhere_exactly_once_and_the_parts_add_up(
    make_fleet: Maker, make_workload: Queries, costs: dict, queries: list
) -> None:
    plan = plan_workload(make_fleet(costs), make_workload(*columns(queries)))
    assert sum(a.queries for a in plan.assignment) == sum(count for _, _, count in queries)
    assert sum(a.share for a in plan.assignment) == pytest.approx(1)
    assert sum(a.energy_j for a in plan.assignment) == pytest.approx(plan.energy_j, rel=1e-12)
    for baseline in plan.baselines:
        assert sum(baseline.shares.values()) == pytest.approx(1)


@RANDOM
@given(costs=FLEETS, queries=QUERIES)
def test_the_two_ends_of_lambda_are_the_two_single_objective_optima(
    make_fleet: Maker, make_workload: Queries, costs: dict, queries: list
) -> None:
    fleet, workload = make_fleet(costs), make_workload(*columns(queries))
    thrifty = plan_workload(fleet, workload, Weights(1.0))
    fast = plan_workload(fleet, workload, Weights(0.0))
    everything = [*thrifty.baselines, *fast.baselines]
    assert thrifty.energy_j <= min(b.energy_j for b in everything) * (1 + 1e-9)
    assert fast.runtime_s_total <= min(b.runtime_s_total for b in everything) * (1 + 1e-9)
    energies = [p.energy_j for p in thrifty.curve]
    runtimes = [p.runtime_s_mean for p in thrifty.curve]
    assert energies[-1] == pytest.approx(thrifty.energy_j)
    assert runtimes[0] == pytest.approx(fast.runtime_s_mean)
    assert (np.diff(energies) <= 1e-9 * energies[0]).all()
    assert (np.diff(runtimes) >= -1e-9 * runtimes[-1]).all()


@RANDOM
@given(costs=FLEETS, queries=QUERIES, key=st.sampled_from(["m", "n", "mn"]))
def test_best_thresholds_are_the_best_of_all_integers(
    make_fleet: Maker, make_workload: Queries, costs: dict, queries: list, key: str
) -> None:
    """Against trying every integer on every ordered pair of deployments."""
    fleet, workload = make_fleet(costs), make_workload(*columns(queries))
    plan = plan_workload(fleet, workload)
    family = {"m": "t-in", "n": "t-out", "mn": "product"}[key]
    ours = min(b.energy_j for b in plan.baselines if b.family == family)
    distinct = workload.distinct()
    value = {"m": distinct.m, "n": distinct.n, "mn": distinct.m * distinct.n}[key]
    singles = _energies(costs, distinct.m, distinct.n) * distinct.count
    best = min(
        singles[a][value <= t].sum() + singles[b][value > t].sum()
        for a in range(len(costs))
        for b in range(len(costs))
        for t in [0, *value]
    )
    assert ours == pytest.approx(best, rel=1e-9)


def _energies(costs: dict, m: np.ndarray, n: np.ndarray) -> np.ndarray:
    s1 = n * m + n * (n - 1) / 2
    return np.array([e0 * n + e1 * s1 for e0, e1, _, _ in costs.values()])


def test_output_limits_are_kept(make_fleet: Maker, make_workload: Queries) -> None:
    costs = {"cheap": (1.0, 1e-4, 1.0, 1e-3), "dear": (9.0, 1e-3, 0.1, 1e-4)}
    fleet = make_fleet(costs, cheap={"max_output_tokens": 100})
    plan = plan_workload(fleet, make_workload([10, 10], [100, 101]))
    assert {a.deployment: a.queries for a in plan.assignment} == {"cheap": 1, "dear": 1}
    assert next(b for b in plan.baselines if b.name == "all cheap").displaced_queries == 1


def test_a_query_that_fits_nowhere_is_refused(make_fleet: Maker, make_workload: Queries) -> None:
    fleet = make_fleet(
        {"a": (1, 0, 1, 0), "b": (1, 0, 1, 0)},
        a={"max_context_tokens": 50},
        b={"max_output_tokens": 9},
    )
    with pytest.raises(UnservableError, match="input_tokens=60, output_tokens=10"):
        plan_workload(fleet, make_workload([60], [10]))


def test_round_robin_deals_rows_in_turn(make_fleet: Maker, make_workload: Queries) -> None:
    costs = {name: (1.0, 0.01, 0.1, 0.001) for name in "abc"}
    plan = plan_workload(make_fleet(costs), make_workload([5, 6, 7, 8], [5, 5, 5, 5], [1, 4, 1, 1]))
    dealt = next(b for b in plan.baselines if b.family == "round-robin")
    assert dealt.shares == pytest.approx({"a": 3 / 7, "b": 2 / 7, "c": 2 / 7})


def test_zeta_trades_energy_for_accuracy(make_fleet: Maker, make_workload: Queries) -> None:
    costs = {"small": (1.0, 0.01, 0.1, 1e-3), "large": (9.0, 0.05, 0.5, 2e-3)}
    fleet = make_fleet(costs, small={"accuracy": 0.5}, large={"accuracy": 0.65})
    workload = make_workload([10, 100, 1000], [100, 50, 10])
    plans = [
        plan_workload(fleet, workload, Weights(1.0, zeta, "range"))
        for zeta in np.linspace(0, 1, 11)
    ]
    energies = [p.energy_j for p in plans]
    accuracies = [p.accuracy_token_weighted for p in plans]
    assert (np.diff(energies) <= 1e-9).all()
    assert (np.diff(accuracies) <= 1e-12).all()
    assert accuracies[0] == pytest.approx(0.65)
    assert accuracies[-1] == pytest.approx(0.5)


def test_accuracy_weight_needs_accuracies(make_fleet: Maker, make_workload: Queries) -> None:
    with pytest.raises(ParameterError, match="deployment a has no accuracy"):
        plan_workload(make_fleet({"a": (1, 0, 1, 0)}), make_workload([5], [5]), Weights(1.0, 0.5))


@pytest.fixture(scope="module")
def hybrid() -> Plan:
    return plan_workload(load_fleet("hybrid-2024"), read_workload("alpaca"))


def test_the_built_in_plan_saves_what_the_measurements_allow(hybrid: Plan) -> None:
    reference = next(b for b in hybrid.baselines if b.name == "all a100")
    assert hybrid.reference == "all a100"
    assert 1.5 <= reference.saving_pct <= 5.7
    assert reference.saving is not None
    assert 0 < reference.saving.low < reference.saving_pct < reference.saving.high


def test_the_studys_threshold_costs_more_than_no_threshold(hybrid: Plan) -> None:
    by_family = {b.family: b for b in hybrid.baselines if not b.name.startswith("best")}
    reference = next(b for b in hybrid.baselines if b.name == "all a100")
    assert by_family["t-in"].name == "T_in <= 32 on m1-pro, else a100"
    assert by_family["t-in"].energy_j > reference.energy_j
    assert by_family["t-out"].energy_j < reference.energy_j


def test_with_60_w_sunk_the_saving_is_not_significant(hybrid: Plan) -> None:
    sunk = next(s for s in hybrid.sensitivity if s.change == "a100 idle 60 W sunk")
    assert sunk.significant is False
    plan = plan_workload(
        load_fleet("hybrid-2024"), read_workload("alpaca"), idle_power_w={"a100": 60.0}
    )
    assert "not significant" in plan.verdict
    reference = next(b for b in plan.baselines if b.name == plan.reference)
    assert reference.significant is False


def test_sunk_idle_is_counted_once_in_every_policy(hybrid: Plan) -> None:
    """What all-A100 costs does not depend on how much of it is called idle."""
    plan = plan_workload(
        load_fleet("hybrid-2024"), read_workload("alpaca"), idle_power_w={"a100": 15.0}
    )
    before = next(b for b in hybrid.baselines if b.name == "all a100")
    after = next(b for b in plan.baselines if b.name == "all a100")
    assert after.energy_j == pytest.approx(before.energy_j, rel=1e-12)
    assert plan.energy_j > hybrid.energy_j
    net = sum(a.energy_j for a in plan.assignment) - 15.0 * next(
        a.busy_s for a in plan.assignment if a.deployment == "a100"
    )
    assert net + plan.sunk_idle_j == pytest.approx(plan.energy_j, rel=1e-9)


def test_idle_above_busy_power_is_refused() -> None:
    with pytest.raises(ParameterError, match="draws while it serves"):
        plan_workload(
            load_fleet("hybrid-2024"), read_workload("alpaca"), idle_power_w={"m1-pro": 60.0}
        )


def test_the_studys_own_models_warn_of_negative_energies() -> None:
    fleet = load_fleet("hybrid-2024")
    study = load_profile("wilkins-2024-ols/swing-a100/llama-2-7b")
    only = [structs.replace(d, profile=study) for d in fleet.deployments if d.name == "a100"]
    plan = plan_workload(structs.replace(fleet, deployments=only), read_workload("azure-code-2023"))
    assert any("negative energy" in warning for warning in plan.warnings)
    assert plan.baselines[0].saving is None


def test_a_plan_without_draws_says_that_it_has_no_interval() -> None:
    limits = Limits(accuracy_floor=0.57)
    workload = read_workload("alpaca-gpt4-reconstructed")
    plan = plan_workload(load_fleet("offline-2024"), workload, limits=limits)
    assert all(b.saving is None and b.significant is None for b in plan.baselines)
    assert "No interval" in plan.verdict


def test_a_plan_that_is_the_reference_says_so(make_fleet: Maker, make_workload: Queries) -> None:
    fleet = make_fleet({"cheap": (1.0, 1e-4, 0.1, 1e-3), "dear": (9.0, 1e-3, 1.0, 1e-2)})
    plan = plan_workload(fleet, make_workload([10, 50], [10, 50]))
    assert "That is what all cheap does" in plan.verdict
    assert "not significant" in plan.verdict
