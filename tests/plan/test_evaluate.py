"""Out of sample: no rule beats the optimum, true lengths reach it, and what is paid is true."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from wattshed import load_fleet, plan_workload, read_workload
from wattshed.errors import ParameterError
from wattshed.fleet import Fleet
from wattshed.plan.cost import Weights
from wattshed.plan.evaluate import DISTRIBUTION, KNOWN, evaluate_out_of_sample
from wattshed.plan.limits import Limits
from wattshed.records import DeploymentPrices, OutOfSample, PriceRule
from wattshed.workload.lengths import PREDICTORS
from wattshed.workload.split import split_half
from wattshed.workload.table import Workload

Maker = Callable[..., Fleet]
Queries = Callable[..., Workload]
COST = st.tuples(
    st.floats(0.1, 10), st.floats(1e-4, 0.1), st.floats(1e-3, 1), st.floats(1e-6, 1e-3)
)
ROWS = st.lists(
    st.tuples(st.integers(1, 2000), st.integers(1, 1000), st.integers(1, 50)),
    min_size=1,
    max_size=30,
)
# `early` is cheap for short answers only.
CROSSING = {"early": (0.1, 0.01, 1.0, 0.001), "late": (0.5, 0.001, 0.1, 0.001)}


def unlimited(fleet: Fleet) -> Fleet:
    limits = ("max_input_tokens", "max_output_tokens", "max_context_tokens")
    free = dict.fromkeys(limits)
    return structs.replace(
        fleet, deployments=[structs.replace(d, **free) for d in fleet.deployments]
    )


def judge(
    fleet: Fleet, train: Workload, test: Workload, weights: Weights | None = None
) -> list[OutOfSample]:
    plan = plan_workload(fleet, train, weights)
    return evaluate_out_of_sample(fleet, train, test, plan)


def by_name(found: list[OutOfSample]) -> dict[str, OutOfSample]:
    return {f.predictor: f for f in found}


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    costs=st.dictionaries(st.sampled_from("abcd"), COST, min_size=1),
    past=ROWS,
    future=ROWS,
    weight=st.floats(0, 1),
    cap=st.integers(1, 1000),
)
def test_true_lengths_have_no_regret_and_no_predictor_gains(
    make_fleet: Maker,
    make_workload: Queries,
    costs: dict,
    past: list,
    future: list,
    weight: float,
    cap: int,
) -> None:
    capped = sorted(costs)[0]
    settings = {capped: {"max_output_tokens": cap}} if len(costs) > 1 else {}
    train, test = (make_workload(*map(list, zip(*q, strict=True))) for q in (past, future))
    found = judge(make_fleet(costs, **settings), train, test, Weights(weight))
    assert [f.predictor for f in found] == [KNOWN, *PREDICTORS, DISTRIBUTION]
    assert found[0].regret_pct == 0
    assert found[0].displaced_queries == 0
    for each in found:
        assert each.regret_pct is not None
        assert each.regret_pct >= 0
        assert sum(each.shares.values()) == pytest.approx(1)


@pytest.mark.parametrize("trace", ["azure-conv-2023", "azure-code-2023"])
@pytest.mark.slow
def test_known_lengths_give_the_plan_of_the_test_half(trace: str) -> None:
    fleet = unlimited(load_fleet("hybrid-2024"))
    train, test = split_half(read_workload(trace))
    found = by_name(judge(fleet, train, test))
    plan = plan_workload(fleet, test)
    known = found[KNOWN]
    assert known.energy_j == pytest.approx(plan.energy_j, rel=1e-12)
    assert known.runtime_s_mean == pytest.approx(plan.runtime_s_mean, rel=1e-12)
    reference = next(b for b in plan.baselines if b.name == known.reference)
    assert known.saving_pct == pytest.approx(reference.saving_pct, abs=1e-9)
    assert known.saving == reference.saving
    for each in found.values():
        assert each.energy_j >= known.energy_j
        assert each.regret_pct == pytest.approx(100 * (each.energy_j / known.energy_j - 1))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    costs=st.dictionaries(st.sampled_from("abcd"), COST, min_size=2),
    m=st.integers(1, 2000),
    lengths=st.lists(st.integers(1, 1000), min_size=32, max_size=32),
)
@pytest.mark.slow
def test_the_expected_cost_is_never_beaten_on_lengths_as_they_were(
    make_fleet: Maker, make_workload: Queries, costs: dict, m: int, lengths: list
) -> None:
    """Thirty-two answers to one kind of input: no decision without the length costs less."""
    fleet, past = make_fleet(costs), make_workload([m] * 32, lengths, [1] * 32)
    found = by_name(judge(fleet, past, past))
    blind = found[DISTRIBUTION].energy_j
    for name in PREDICTORS:
        assert blind <= found[name].energy_j * (1 + 1e-12)
    singles = [b for b in plan_workload(fleet, past).baselines if b.family == "single"]
    assert blind == pytest.approx(min(b.energy_j for b in singles), rel=1e-12)
    assert found[DISTRIBUTION].displaced_queries == 0


def test_answers_that_outgrow_their_deployment_are_displaced(
    make_fleet: Maker, make_workload: Queries
) -> None:
    fleet = make_fleet(CROSSING, early={"max_output_tokens": 50})
    train = make_workload([10], [10], [100])
    test = make_workload([10, 10], [10, 51], [6, 4])
    found = by_name(judge(fleet, train, test))
    assert found["mean"].displaced_queries == 4
    assert found["mean"].shares == {"early": 0.6, "late": 0.4}
    assert found[KNOWN].displaced_queries == 0


def test_answers_that_seem_too_long_for_all_go_to_the_cheapest_that_may(
    make_fleet: Maker, make_workload: Queries
) -> None:
    limits = {name: {"max_output_tokens": 100} for name in CROSSING}
    fleet = make_fleet(CROSSING, **limits)
    train, test = make_workload([10], [90], [100]), make_workload([10], [5], [3])
    tight = structs.replace(
        fleet, deployments=[structs.replace(d, max_context_tokens=95) for d in fleet.deployments]
    )
    longer = make_workload([4], [90], [100])
    for each in judge(tight, longer, test):
        assert each.displaced_queries == (0 if each.predictor in {KNOWN, DISTRIBUTION} else 3)
        assert each.shares == {"early": 1.0, "late": 0.0}
    assert judge(fleet, train, test)[1].displaced_queries == 0


def test_prices_move_queries_and_are_in_the_regret(
    make_fleet: Maker, make_workload: Queries
) -> None:
    fleet = make_fleet(CROSSING)
    train = test = make_workload([10, 10], [5, 500], [30, 30])
    plan = plan_workload(fleet, train)
    free = evaluate_out_of_sample(fleet, train, test, plan)[0]
    assert free.shares == {"early": 0.5, "late": 0.5}
    for prices in (DeploymentPrices(query_j=1e6), DeploymentPrices(runtime_j_per_s=1e6)):
        rule = PriceRule(1.0, {}, {"early": prices, "late": DeploymentPrices()})
        priced = evaluate_out_of_sample(fleet, train, test, structs.replace(plan, rule=rule))[0]
        assert priced.shares == {"early": 0.0, "late": 1.0}
        assert priced.regret_pct == 0
        assert priced.energy_j > free.energy_j


def test_limits_on_totals_grow_with_the_queries(make_fleet: Maker, make_workload: Queries) -> None:
    """Twice as many of the same queries use twice as much of a cap that is twice as large."""
    fleet = make_fleet(CROSSING, early={"max_queries": 10, "max_share": 0.9})
    train, test = make_workload([10, 10], [5, 500], [30, 30]), make_workload([10], [5], [120])
    plan = plan_workload(fleet, train, limits=Limits(horizon_s=1e4))
    known = evaluate_out_of_sample(fleet, train, test, plan, Limits(horizon_s=1e4))[0]
    uses = {use.constraint: use for use in known.limits}
    assert uses["query cap of early"].bound == 20
    assert uses["largest share of early"].bound == pytest.approx(0.9 * 120)
    assert uses["busy time of early"].bound == pytest.approx(2e4)
    assert uses["busy time of late"].used == pytest.approx(known.busy_s["late"])
    queries = 120 * known.shares["early"]
    assert uses["query cap of early"].used == pytest.approx(queries)
    assert uses["query cap of early"].kept == (queries <= 20)


def test_a_rule_of_another_fleet_is_refused(make_fleet: Maker, make_workload: Queries) -> None:
    workload = make_workload([10], [5])
    plan = plan_workload(make_fleet(CROSSING), workload)
    other = make_fleet({"early": CROSSING["early"]})
    with pytest.raises(ParameterError, match="prices of early, late"):
        evaluate_out_of_sample(other, workload, workload, plan)


def test_regret_is_untold_where_a_cost_is_negative() -> None:
    fleet = load_fleet("hybrid-2024")
    accurate = structs.replace(
        fleet, deployments=[structs.replace(d, accuracy=0.9) for d in fleet.deployments]
    )
    train, test = split_half(read_workload("alpaca"))
    for each in judge(accurate, train, test, Weights(1.0, accuracy=0.0)):
        assert each.regret_pct is None
