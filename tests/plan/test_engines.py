"""Plans of engines that batch: full batches, busy time beside runtime, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from msgspec import structs

import wattshed as ws
from wattshed.errors import ParameterError, UnservableError
from wattshed.fleet import Deployment, Fleet, Slo
from wattshed.plan.cost import Weights
from wattshed.plan.limits import Limits
from wattshed.plan.problem import build_problem
from wattshed.plan.rule import choose
from wattshed.plan.service import full_batch, latencies, serve
from wattshed.records import Profile
from wattshed.serving import engine_settings
from wattshed.workload.table import Workload

PHASES = "splitwise/h100-80gb-tp4/llama-2-70b"
STEADY = "mlenergy-v3/h100x4-tp4/llama-3.3-70b-instruct/lm-arena-chat"
MakeWorkload = Callable[..., Workload]


def engine(profile: str = PHASES, name: str = "a", **settings: Any) -> Deployment:
    return Deployment(name, ws.load_iteration_profile(profile), **settings)


def one(value: float) -> np.ndarray:
    return np.array([float(value)])


@pytest.mark.parametrize("clock", [1.0, 0.7])
@pytest.mark.parametrize("batch", [1, 16])
def test_a_query_is_the_sum_of_its_steps(batch: int, clock: float) -> None:
    deployment = engine(max_batch=batch, chunk_tokens=512, clock=clock)
    profile = ws.load_iteration_profile(PHASES)
    m, n = 1200, 40
    found, latency = (what(deployment, one(m), one(n)) for what in (serve, latencies))
    prefill = ws.predict_steps(profile, 0, 0, [512, 512, 1200 - 1024], clock=clock)
    context = batch * (m + np.arange(1, n))
    decode = ws.predict_steps(profile, batch, context, clock=clock)
    assert found.energy_j[0] == pytest.approx(
        prefill.energy_j.sum() + decode.energy_j.sum() / batch
    )
    assert found.runtime_s[0] == pytest.approx(prefill.time_s.sum() + decode.time_s.sum())
    assert found.busy_s[0] == pytest.approx(prefill.time_s.sum() + decode.time_s.sum() / batch)
    assert latency.ttft_s[0] == pytest.approx(prefill.time_s.sum())
    assert latency.tbt_s[0] == pytest.approx(decode.time_s[-1])
    assert latency.e2e_s == found.runtime_s


def test_an_answer_of_one_token_is_its_prefill() -> None:
    found, latency = (what(engine(), one(512), one(1)) for what in (serve, latencies))
    prefill = ws.predict_steps(ws.load_iteration_profile(PHASES), 0, 0, 512)
    assert found.energy_j == pytest.approx(prefill.energy_j)
    assert found.runtime_s == found.busy_s == latency.ttft_s == latency.e2e_s
    assert latency.tbt_s == 0
    assert not found.extrapolated[0]


def test_steps_that_contain_their_prefill_are_counted_by_tokens() -> None:
    deployment = engine(STEADY, max_batch=100)
    found, latency = (what(deployment, one(300), one(50)) for what in (serve, latencies))
    step = ws.predict_steps(ws.load_iteration_profile(STEADY), 100)
    assert found.energy_j == pytest.approx(50 * step.energy_j / 100)
    assert found.runtime_s == pytest.approx(50 * step.time_s)
    assert found.busy_s == pytest.approx(50 * step.time_s / 100)
    assert latency.ttft_s == latency.tbt_s == pytest.approx(step.time_s)


def test_the_cache_limits_the_batch() -> None:
    settings = engine_settings(engine(kv_tokens=5_000))
    m, n = np.array([100.0, 900.0, 4000.0]), np.array([101.0, 101.0, 101.0])
    assert full_batch(settings, m, n).tolist() == [25, 5, 1]
    assert full_batch(engine_settings(engine()), m, n).tolist() == [64, 64, 64]
    tight, roomy = (serve(engine(kv_tokens=kv), m, n).energy_j for kv in (5_000, 500_000))
    assert (tight > roomy).all()


def test_larger_batches_and_lower_clocks_save_energy_and_take_time() -> None:
    m, n = np.array([500.0]), np.array([200.0])
    for less, more in (({"max_batch": 32}, {"max_batch": 16}), ({"clock": 0.7}, {"clock": 0.9})):
        frugal, fast = serve(engine(**less), m, n), serve(engine(**more), m, n)
        assert frugal.energy_j < fast.energy_j
        assert frugal.runtime_s > fast.runtime_s


def test_queries_outside_the_measured_steps_are_told() -> None:
    m = np.array([512.0, 512.0, 20.0, 8300.0])
    n = np.array([100.0, 1.0, 100.0, 300.0])
    assert serve(engine(), m, n).extrapolated.tolist() == [False, False, True, True]
    # The A100 was measured with energy up to a batch of 16.
    a100 = PHASES.replace("h100", "a100")
    assert serve(engine(a100), m, n).extrapolated.tolist() == [True, False, True, True]
    assert not serve(engine(a100, max_batch=16), m, n).extrapolated[0]


def test_a_query_profile_is_busy_for_its_runtime(make_profile: Callable[..., Profile]) -> None:
    found = serve(Deployment("q", make_profile("q", (1.0, 0.1), (0.1, 0.01))), one(9), one(9))
    assert found.busy_s is found.runtime_s


@pytest.fixture(scope="module")
def conversation() -> Workload:
    """Every fiftieth query, and so one of each kind that the plan of all treats differently."""
    whole = ws.read_workload("azure-conv-2023")
    return replace(whole, table=whole.table.gather_every(50))


@pytest.fixture(scope="module")
def mixed() -> Fleet:
    return ws.load_fleet("mixed-70b")


def test_idle_power_that_stays_on_is_taken_off_for_the_busy_time(
    mixed: Fleet, conversation: Workload
) -> None:
    power = {"h100-tp4": 200.0}
    problem = build_problem(mixed, conversation)
    k = problem.names.index("h100-tp4")
    idle = problem.with_idle_power(k, 200.0)
    taken = problem.energy_j[:, k] - idle.energy_j[:, k]
    assert taken == pytest.approx(200.0 * problem.busy_s[:, k])
    assert (problem.busy_s < problem.runtime_s)[problem.queries.n > 1].all()
    plan = ws.plan_workload(mixed, conversation, idle_power_w=power)
    reference = next(b for b in plan.baselines if b.name == plan.reference)
    assert plan.sunk_idle_j > 0
    assert reference.energy_j >= plan.energy_j


def test_hosts_are_charged_for_the_busy_time(mixed: Fleet, conversation: Workload) -> None:
    hosted = structs.replace(
        mixed, deployments=[structs.replace(d, host_power_w=500.0) for d in mixed.deployments]
    )
    with_host, without = (build_problem(fleet, conversation) for fleet in (hosted, mixed))
    more = with_host.gross_energy_j - without.gross_energy_j
    np.testing.assert_allclose(more, 500 * without.busy_s)


@pytest.mark.slow
def test_a_horizon_bounds_busy_time_and_its_price_gives_the_plan_again(
    mixed: Fleet, conversation: Workload
) -> None:
    plan = ws.plan_workload(mixed, conversation, limits=Limits(horizon_s=20.0))
    assert plan.binding == ["busy time of h100-tp4"]
    by_name = {portion.deployment: portion for portion in plan.assignment}
    assert 0.98 < by_name["h100-tp4"].busy_fraction <= 1.0  # type: ignore[operator]
    assert sum(p.busy_s for p in plan.assignment) < 0.1 * plan.runtime_s_total
    assert plan.rule is not None
    prices = plan.rule.deployments["h100-tp4"]
    assert prices.busy_j_per_s > 0
    assert prices.runtime_j_per_s == 0
    queries = conversation.distinct(by_class=True)
    choice = choose(mixed, plan.rule, queries)
    shares = np.bincount(choice, queries.count, 3) / conversation.queries
    for k, name in enumerate(sorted(by_name)):
        assert shares[k] == pytest.approx(by_name[name].share, abs=0.01)


def test_the_plan_says_what_is_modelled_and_that_batches_are_full(
    mixed: Fleet, conversation: Workload
) -> None:
    plan = ws.plan_workload(mixed, conversation)
    told = "\n".join(plan.warnings)
    assert "h100-tp4: modelled in the profile" in told
    assert "decode_energy_j, prefill_energy_j, context" in told
    assert "a100-tp8: energy of batches above 16" in told
    assert "served in steps outside the cells" in told
    assert "taken to be full at all times" in told
    slow = structs.replace(
        mixed, slo={}, deployments=[structs.replace(d, clock=0.9) for d in mixed.deployments]
    )
    assert "context, clock," in "\n".join(ws.plan_workload(slow, conversation).warnings)
    assert any(
        "taken to be full" in warning for warning in ws.find_pareto(mixed, conversation).warnings
    )


def test_no_plan_beats_the_least_energy_of_any_schedule(
    mixed: Fleet, conversation: Workload
) -> None:
    """The bound above idle power, without any, against the plan's full batches."""
    free = structs.replace(
        mixed, slo={}, deployments=[structs.replace(d, idle_power_w=0.0) for d in mixed.deployments]
    )
    plan = ws.plan_workload(free, conversation)
    bound = ws.energy_bound(free, conversation.distinct(), 1e6)
    assert 0.8 * plan.energy_j < bound.bound_j < plan.energy_j


def test_an_slo_is_kept_in_the_full_batch(make_workload: MakeWorkload) -> None:
    workload = make_workload([500], [100])
    wide, narrow = (
        Fleet("f", [engine(max_batch=b)], {"default": Slo(tbt_s=0.04)}) for b in (64, 4)
    )
    with pytest.raises(UnservableError, match=r"relax the SLO tbt 0\.04 s"):
        build_problem(wide, workload)
    assert build_problem(narrow, workload).eligible.all()


def test_queries_that_the_cache_cannot_hold_go_elsewhere(make_workload: MakeWorkload) -> None:
    workload = make_workload([900, 901], [101, 101])
    small, large = engine(name="small", kv_tokens=1000), engine(name="large")
    problem = build_problem(Fleet("f", [small, large]), workload)
    assert problem.eligible.tolist() == [[True, True], [True, False]]
    with pytest.raises(UnservableError, match="raise max_input_tokens"):
        build_problem(Fleet("f", [small]), workload)


def test_engines_have_neither_draws_nor_accuracy(mixed: Fleet, make_workload: MakeWorkload) -> None:
    workload = make_workload([500], [100])
    with pytest.raises(ParameterError, match="no bootstrap draws"):
        ws.plan_workload(mixed, workload, robust="p90")
    with pytest.raises(ParameterError, match="a100-tp8 has no accuracy"):
        ws.plan_workload(mixed, workload, Weights(0.5, accuracy=0.5))
    stated = structs.replace(
        mixed, deployments=[structs.replace(d, accuracy=0.6) for d in mixed.deployments]
    )
    assert ws.plan_workload(stated, workload).accuracy_query_mean == pytest.approx(0.6)


def test_both_kinds_of_profiles_in_one_fleet(make_workload: MakeWorkload) -> None:
    workload = make_workload([20, 500], [20, 300])
    alone = Deployment("alone", ws.load_profile("wilkins-2024/swing-a100/llama-2-7b"))
    plan = ws.plan_workload(Fleet("f", [alone, engine(STEADY, "batch")]), workload)
    assert all(policy.saving is None for policy in plan.baselines)
    assert {portion.deployment for portion in plan.assignment} == {"alone", "batch"}


@pytest.mark.slow
def test_the_command_plans_the_built_in_fleet(
    wattshed_json: Callable[..., dict[str, Any]],
) -> None:
    found = wattshed_json("plan", "--fleet", "mixed-70b", "--workload", "azure-conv-2023")
    names = {source["name"] for source in found["provenance"]}
    assert {"splitwise-steps", "power-prior", "azure-conv-2023"} <= names
    assert sum(part["queries"] for part in found["results"]["assignment"]) == 19366
    assert "not significant" not in found["results"]["verdict"]
