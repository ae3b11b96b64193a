"""Figures of a simulation against what pencil, paper and numpy give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from wattshed import load_fleet, read_workload
from wattshed.engines.model import BatchingDeployment, OneQueryDeployment, affine_steps
from wattshed.fleet import Fleet, Slo
from wattshed.records import Provenance, Signal, Site
from wattshed.replicas import engines_of
from wattshed.simulate.engine import simulate_requests
from wattshed.simulate.layout import STATES
from wattshed.simulate.model import Outage, Requests
from wattshed.simulate.policies import Promises
from wattshed.simulate.result import Simulation
from wattshed.simulate.scenario import Arrivals, in_order, promises_of
from wattshed.simulate.summary import attained, rates_of, summarise
from wattshed.simulate.table import request_table
from wattshed.units import JOULES_PER_KWH

SITE = Site("north", pue=1.25, carbon_g_per_kwh=200.0, price_per_kwh=0.1, currency="EUR")
MIXED = in_order(load_fleet("mixed-70b"))
HYBRID = in_order(load_fleet("hybrid-2024"))
ALPACA = read_workload("alpaca")


def fleet_of(*engines: Any, **settings: Any) -> Fleet:
    """A fleet with the names and numbers of some engines."""
    some = MIXED.deployments[0]
    given = [structs.replace(some, name=e.name, replicas=e.replicas, site="north") for e in engines]
    return Fleet("small", given, sites={"north": SITE}, **settings)


def promises(ttft_s: Any, tbt_s: Any, e2e_s: Any = np.inf, **more: Any) -> Promises:
    limits = np.broadcast_arrays(*(np.asarray(v, float) for v in (ttft_s, tbt_s, e2e_s)))
    ones = np.ones(limits[0].shape)
    return Promises(limits[0], limits[1], ones, ones, limits[2], **more)


@pytest.fixture(scope="module")
def small() -> tuple[BatchingDeployment, Simulation]:
    """Two requests on one replica; `test_account` computes every joule of it by hand.

    Steps of 1 s and 10 J + 1 J per sequence + 0.5 J per context token + 2 J per prompt token.
    Prompts at 2-3 and 3-4 s; tokens of the first at 3, 4 and 5 s, of the second at 4 and 5 s.
    """
    energy = affine_steps(2, 10.0, 1.0, 0.5, 2.0)
    place = BatchingDeployment("place", 1, affine_steps(2, 1.0), energy, 4, idle_power_w=3.0)
    requests = Requests(np.array([2.0, 2.5]), np.array([3, 2]), np.array([3, 2]))
    return place, simulate_requests([place], requests)


@pytest.fixture(scope="module")
def large() -> tuple[Fleet, Simulation, Promises]:
    """Some hundred requests on engines that batch, some of which are rejected."""
    deployments = [
        structs.replace(d, max_context_tokens=400, sleep_after_s=0.3, site="north")
        for d in MIXED.deployments
    ]
    fleet = structs.replace(MIXED, deployments=deployments, sites={"north": SITE})
    requests = Arrivals(ALPACA, 600, 30.0).draw(1)
    known = promises_of(fleet, requests, ALPACA)
    engines = engines_of(fleet.deployments, requests.input_tokens, requests.output_tokens)
    return fleet, simulate_requests(engines, requests, promises=known, policy="random"), known


def assert_balanced(found: Simulation, fleet: Fleet, known: Promises) -> Any:
    one = summarise(found, fleet, known)
    energy = one.energy_j
    parts = (energy.requests_dynamic, energy.requests_static, energy.idle, energy.transitions)
    assert sum(parts) == pytest.approx(energy.total, rel=1e-9)
    assert one.balance_error < 1e-9
    assert sum(d.energy_j for d in one.deployments) == pytest.approx(energy.total, rel=1e-9)
    assert one.rejected + one.lost + one.unfinished + one.completed == one.requests
    return one


# ---------------------------------------------------------------- by hand


def test_figures_are_what_pencil_and_paper_give(small: Any) -> None:
    place, found = small
    one = summarise(found, fleet_of(place), promises([9.0] * 2, 9.0), name="mine")
    assert (one.name, one.controller) == ("mine", "pinned")
    assert (one.requests, one.completed, one.failed) == (2, 2, 0)
    assert one.duration_s == 5
    assert (one.throughput_per_s, one.goodput_per_s) == (pytest.approx(0.4), pytest.approx(0.4))
    assert one.output_tokens_per_s == pytest.approx(5 / 5)
    # Before 2 s it idles at 3 W; of each step 3 J are static.
    assert one.energy_j.idle == pytest.approx(6)
    assert one.energy_j.requests_static == pytest.approx(9)
    assert one.energy_j.requests_dynamic == pytest.approx(13 + 4 + 17 + 6)
    assert one.energy_j.transitions == 0
    assert one.energy_j.total == pytest.approx(6 + 9 + 40)
    assert one.energy_per_request_j == pytest.approx(55 / 2)
    assert one.energy_per_output_token_j == pytest.approx(55 / 5)
    assert one.net_energy_per_request_j == pytest.approx(40 / 2)
    assert one.net_energy_per_output_token_j == pytest.approx(40 / 5)
    assert one.ttft_s.mean == pytest.approx((1 + 1.5) / 2)
    assert (one.ttft_s.p50, one.ttft_s.p99, one.ttft_s.max) == (1, 1.5, 1.5)
    assert (one.tbt_s.mean, one.tbt_s.max, one.tpot_s.mean) == (1, 1, 1)
    assert one.e2e_s.mean == pytest.approx((3 + 2.5) / 2)
    (d,) = one.deployments
    assert (d.requests, d.output_tokens, d.energy_j) == (2, 5, pytest.approx(55))
    assert (d.busy, d.power_w) == (pytest.approx(3 / 5), pytest.approx(11))


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        ((1.2, np.inf), 0.5),  # TTFT of 1 and 1.5 s
        ((np.inf, 0.9), 0.0),
        ((np.inf, 1.0), 1.0),
        ((np.inf, np.inf, 2.7), 0.5),  # E2E of 3 and 2.5 s
        (([1.2, 2.0], 1.0), 1.0),  # each has its own
        ((np.inf, np.inf), None),
    ],
)
def test_attainment_is_the_part_within_all_limits(small: Any, limits: Any, kept: Any) -> None:
    place, found = small
    ttft, tbt, *e2e = limits
    known = promises(np.broadcast_to(ttft, 2), tbt, *e2e)
    one = summarise(found, fleet_of(place), known)
    assert one.attainment == kept
    assert one.goodput_per_s == pytest.approx((1.0 if kept is None else kept) * 0.4)


def test_the_mean_between_tokens_may_be_kept_and_one_of_them_not() -> None:
    # A prompt of 7 tokens comes beside the other, whose steps then last longer.
    time = affine_steps(2, 1.0, 0.0, 0.0, 0.1)
    place = BatchingDeployment("place", 1, time, time, 8)
    requests = Requests(np.array([0.0, 1.5]), np.array([1, 7]), np.array([6, 1]))
    found = simulate_requests([place], requests)
    assert found.longest_gap_s[0] == pytest.approx(1.7)
    assert found.tpot_s[0] == pytest.approx(5.7 / 5)
    by_mean, by_token = attained(found, promises([9.0, 9.0], 1.5))
    np.testing.assert_array_equal(by_mean, [True, True])
    np.testing.assert_array_equal(by_token, [False, True])  # one token: nobody waits for another
    for every, kept in ((False, 1.0), (True, 0.5)):
        one = summarise(found, fleet_of(place), promises([9.0, 9.0], 1.5, every_token=every))
        assert (one.attainment, one.attainment_every_token) == (kept, 0.5)


def test_single_tokens_need_no_limit_between_tokens() -> None:
    place = BatchingDeployment("place", 1, affine_steps(2, 1.0), affine_steps(2, 1.0))
    requests = Requests(np.arange(3.0), *np.ones((2, 3), int))
    found = simulate_requests([place], requests)
    one = summarise(found, fleet_of(place), promises([9.0] * 3, 1e-9))
    assert one.attainment == one.attainment_every_token == 1
    assert (one.tpot_s.mean, one.tbt_s.mean) == (None, None)
    assert one.cdf["tbt_s"].value == []


def test_what_a_deployment_does_not_say_does_not_count_against_it() -> None:
    runtime = np.array([3.0, 1.0])
    place = OneQueryDeployment("place", 1, runtime, runtime)
    found = simulate_requests([place], Requests(np.zeros(2), *np.full((2, 2), 2)))
    one = summarise(found, fleet_of(place), promises([0.1, 0.1], 0.1, [9.0, 3.5]))
    assert one.attainment == 0.5  # by E2E of 3 and 4 s alone
    assert one.ttft_s.p50 is None
    assert one.e2e_s.max == 4


def test_classes_are_counted_apart(small: Any) -> None:
    place, found = small
    requests = replace(found.requests, group=np.array([1, 0]), classes=("batch", "chat", "none"))
    slo = {"chat": Slo(ttft_s=0.5), "default": Slo(ttft_s=2.0)}
    one = summarise(
        replace(found, requests=requests), fleet_of(place, slo=slo), promises([0.5, 2.0], np.inf)
    )
    batch, chat = one.classes
    assert (batch.name, batch.requests, batch.attainment, batch.ttft_limit_s) == ("batch", 1, 1, 2)
    assert (chat.name, chat.completed, chat.attainment, chat.ttft_limit_s) == ("chat", 1, 0, 0.5)
    assert (batch.ttft_s.max, chat.ttft_s.max) == (1.5, 1.0)
    assert one.attainment == 0.5


# ---------------------------------------------------------------- at large


def test_the_account_closes_and_rates_are_over_what_was_served(large: Any) -> None:
    fleet, found, known = large
    one = assert_balanced(found, fleet, known)
    served = found.served
    assert 0 < one.rejected == (~served).sum()
    assert one.energy_per_request_j == pytest.approx(one.energy_j.total / served.sum())
    tokens = found.requests.output_tokens[served].sum()
    assert one.energy_per_output_token_j == pytest.approx(one.energy_j.total / tokens)
    net_j = found.dynamic_energy_j.sum()
    assert one.net_energy_per_output_token_j == pytest.approx(net_j / tokens)
    assert one.energy_j.transitions == pytest.approx(one.energy_by_state_j["wake"])
    assert sum(one.energy_by_state_j.values()) == pytest.approx(one.energy_j.total)
    assert sum(d.requests for d in one.deployments) == one.completed
    assert sum(d.output_tokens for d in one.deployments) == tokens
    power_w = sum(d.power_w * d.replicas for d in one.deployments)
    assert power_w * one.duration_s == pytest.approx(one.energy_j.total)


def test_quantiles_are_those_of_all_values(large: Any) -> None:
    fleet, found, known = large
    one = summarise(found, fleet, known)
    assert found.gaps is not None
    runs = zip(found.gaps.gap_s, found.gaps.growth_s, found.gaps.steps, strict=True)
    gaps = [gap + growth * np.arange(steps) for gap, growth, steps in runs]
    each = np.concatenate(
        [np.repeat(values, n) for values, n in zip(gaps, found.gaps.sequences, strict=True)]
    )
    served = found.served
    tpot = found.tpot_s[served & (found.requests.output_tokens > 1)]
    for latency, values in (
        (one.tbt_s, each),
        (one.tpot_s, tpot),
        (one.ttft_s, found.ttft_s[served]),
        (one.e2e_s, found.e2e_s[served]),
    ):
        assert latency.mean == pytest.approx(values.mean())
        levels = np.quantile(values, [0.5, 0.9, 0.99, 1.0], method="inverted_cdf")
        np.testing.assert_allclose([latency.p50, latency.p90, latency.p99, latency.max], levels)
    assert len(each) == (found.requests.output_tokens[served] - 1).sum()


def test_times_between_tokens_are_those_of_all_tokens_in_mixed_fleets() -> None:
    # One serves tokens every second, step by step; the other has two, 9 s apart.
    batch = BatchingDeployment("batch", 1, affine_steps(2, 1.0), affine_steps(2, 1.0))
    runtime = np.array([10.0, 10.0])
    alone = OneQueryDeployment("alone", 1, runtime, runtime, np.ones(2))
    requests = Requests(np.zeros(2), np.ones(2, int), np.array([4, 2]))
    found = simulate_requests([batch, alone], requests, policy="round-robin")
    one = summarise(found, fleet_of(batch, alone), promises([9.0] * 2, 9.0))
    assert one.tbt_s.mean == pytest.approx((3 * 1 + 9) / 4)
    assert (one.tbt_s.p50, one.tbt_s.max) == (pytest.approx(1), pytest.approx(9))
    assert one.cdf["tbt_s"].value[-1] == pytest.approx(9)
    single = simulate_requests([alone], requests)
    assert summarise(single, fleet_of(alone), promises([9.0] * 2, 9.0)).tbt_s.p50 == pytest.approx(
        3
    )


def test_distributions_rise_to_1_and_agree_with_the_quantiles(large: Any) -> None:
    fleet, found, known = large
    one = summarise(found, fleet, known)
    for name in ("ttft_s", "tbt_s", "e2e_s"):
        curve, latency = one.cdf[name], getattr(one, name)
        assert (np.diff(curve.value) >= 0).all()
        assert (np.diff(curve.part) >= 0).all()
        assert curve.part[-1] == pytest.approx(1)
        assert curve.value[-1] == pytest.approx(latency.max)
        assert np.interp(0.5, curve.part, curve.value) == pytest.approx(latency.p50, rel=0.1)


def test_power_over_time_integrates_to_the_energy_by_state_and_by_replica(large: Any) -> None:
    fleet, found, known = large
    one = summarise(found, fleet, known)
    stack = one.stack
    assert stack is not None
    width = np.diff(stack.edges_s)
    assert (stack.edges_s[0], stack.edges_s[-1]) == (0, pytest.approx(one.duration_s))
    for state, power_w in stack.by_state_w.items():
        assert power_w @ width == pytest.approx(one.energy_by_state_j[state], rel=1e-9)
    assert set(stack.by_state_w) == {s for s, j in one.energy_by_state_j.items() if j}
    by_replica = {name: power_w @ width for name, power_w in stack.by_replica_w.items()}
    assert sum(by_replica.values()) == pytest.approx(one.energy_j.total, rel=1e-9)
    for d in one.deployments:
        mine = sum(j for name, j in by_replica.items() if name.startswith(f"{d.name}/"))
        assert mine == pytest.approx(d.energy_j, rel=1e-9)
    assert summarise(found, fleet, known, series=False).stack is None


def test_what_rounding_puts_behind_the_end_is_drawn_before_it(small: Any) -> None:
    place, found = small
    line = found.timeline
    behind = line.by_state_j.copy()
    behind[:, -1] += 1.0  # in bins that begin after the end
    late = replace(found, timeline=replace(line, by_state_j=behind))
    known = promises([9.0] * 2, 9.0)
    stack = summarise(late, fleet_of(place), known).stack
    assert stack is not None
    drawn_j = sum(power_w @ np.diff(stack.edges_s) for power_w in stack.by_state_w.values())
    assert drawn_j == pytest.approx(found.total_energy_j + len(STATES))


def test_more_replicas_than_can_be_drawn_are_drawn_together(
    make_batching: Callable[..., Any], make_requests: Callable[..., Any]
) -> None:
    place = make_batching(replicas=65)
    requests = make_requests(20, 10.0)
    found = simulate_requests([place], requests)
    stack = summarise(found, fleet_of(place), promises(np.full(20, 9.0), 9.0)).stack
    assert stack is not None
    assert stack.by_replica_w == {}
    assert stack.by_state_w != {}


def test_one_row_for_each_request_and_nothing_where_nothing_is_known(large: Any) -> None:
    fleet, found, _ = large
    table = request_table(found, fleet, "random", "pinned")
    assert table.height == len(found.requests)
    rejected = table.filter(table["fate"] == "rejected")
    assert rejected.height == found.rejected
    assert rejected["endpoint"].is_null().all()
    assert rejected["e2e_s"].is_null().all()
    assert table["static_energy_j"].sum() == pytest.approx(found.static_energy_j.sum())
    assert table["endpoint"].drop_nulls().n_unique() > 3


# ---------------------------------------------------------------- impacts


def test_impacts_at_constant_factors_are_energy_times_factor(large: Any) -> None:
    fleet, found, known = large
    one = summarise(found, fleet, known)
    (impact,) = one.impacts.values()
    kwh = 1.25 * one.energy_j.total / JOULES_PER_KWH
    assert impact.energy_it_j == pytest.approx(one.energy_j.total, rel=1e-9)
    assert impact.carbon_g == pytest.approx(200 * kwh)
    assert impact.cost == pytest.approx(0.1 * kwh)
    assert impact.water_l is None


def test_sites_have_the_energy_of_their_own_deployments(large: Any) -> None:
    fleet, found, known = large
    names = [d.name for d in fleet.deployments]
    places = dict(zip(names, ("north", "south", None), strict=True))
    given = [structs.replace(d, site=places[d.name]) for d in fleet.deployments]
    sites = {name: structs.replace(SITE, name=name) for name in ("north", "south", "nowhere")}
    one = summarise(found, structs.replace(fleet, deployments=given, sites=sites), known)
    energy = {d.name: d.energy_j for d in one.deployments}
    assert set(one.impacts) == {"north", "south"}
    for name in names[:2]:
        assert one.impacts[places[name] or ""].energy_it_j == pytest.approx(energy[name], rel=1e-9)


def test_impacts_under_a_signal_are_energy_times_that_of_its_time(small: Any) -> None:
    place, found = small
    made_up = Provenance("made-up", "", "", "", "measured")
    edges, values = (0.0, 2.0, 1000.0), (100.0, 700.0)
    signal = Signal("grid", edges, values, (), None, made_up, "")
    site = Site("north", carbon_signal=signal)
    fleet = structs.replace(fleet_of(place), sites={"north": site})
    impact = summarise(found, fleet, promises([9.0] * 2, 9.0)).impacts["north"]
    # 6 J until 2 s, 49 J after; a bin of the timeline may lie across.
    expected = (6 * 100 + 49 * 700) / JOULES_PER_KWH
    across = (found.timeline.edges_s[1] * 20) * 600 / JOULES_PER_KWH
    assert impact.carbon_g == pytest.approx(expected, abs=across)
    assert impact.energy_it_j == pytest.approx(55)


# ---------------------------------------------------------------- when little is served


def test_what_is_rejected_altogether_balances(make_batching: Callable[..., Any]) -> None:
    place = make_batching(max_context_tokens=2)
    requests = Requests(np.array([1.0, 4.0]), *np.full((2, 2), 9))
    found = simulate_requests([place], requests)
    one = assert_balanced(found, fleet_of(place), promises([1.0] * 2, 1.0))
    assert (one.rejected, one.completed, one.attainment, one.goodput_per_s) == (2, 0, 0, 0)
    assert one.energy_j.idle == pytest.approx(one.energy_j.total) == pytest.approx(4 * 480)
    assert one.ttft_s.mean is None
    assert one.cdf["e2e_s"].value == []


def test_what_is_lost_altogether_balances(make_batching: Callable[..., Any]) -> None:
    place = make_batching()
    requests = Requests(np.zeros(4), *np.full((2, 4), 200))
    found = simulate_requests([place], requests, outages=[Outage(0, 1.0)], retry=False)
    one = assert_balanced(found, fleet_of(place), promises([9.0] * 4, 9.0))
    assert (one.lost, one.attainment) == (4, 0)
    assert one.energy_j.requests_dynamic > 0
    assert one.net_energy_per_request_j == pytest.approx(one.energy_j.requests_dynamic)
    assert one.deployments[0].output_tokens == 0


def test_nothing_at_all_balances(make_batching: Callable[..., Any]) -> None:
    place = make_batching()
    found = simulate_requests([place], Requests(*np.zeros((3, 0))))
    one = assert_balanced(found, fleet_of(place), promises(np.zeros(0), np.zeros(0)))
    assert (one.energy_j.total, one.attainment, one.duration_s) == (0, None, 0)


def test_a_run_that_was_stopped_balances_and_counts_the_unfinished(
    make_batching: Callable[..., Any], make_requests: Callable[..., Any]
) -> None:
    def stop(sent: int, total: int) -> None:
        if sent > 64:
            raise KeyboardInterrupt

    place, requests = make_batching(replicas=2), make_requests(400, 20.0)
    turns = iter(range(10**6))
    found = simulate_requests(
        [place],
        requests,
        policy="external",
        decide=lambda *_: next(turns) % 2,
        report=stop,
    )
    fleet = fleet_of(place, slo={"default": Slo(e2e_s=1e6)})
    one = assert_balanced(found, fleet, promises(np.full(400, 9.0), 9.0, 1e6))
    assert one.partial
    # What became of the others is not known, and does not count, nor in their class.
    assert one.attainment == one.classes[0].attainment == 1
    assert 0 < one.completed < 400
    assert one.unfinished == 400 - one.completed
    assert found.end_s < requests.arrival_s[-1]


def test_the_rate_of_arrivals_is_over_their_span() -> None:
    ones = np.ones(2, int)
    assert rates_of(Requests(np.array([0.0, 4.0]), ones, ones)) == 0.5
    assert rates_of(Requests(np.zeros(2), ones, ones)) == 0
    assert rates_of(Requests(*np.zeros((3, 0)))) == 0
