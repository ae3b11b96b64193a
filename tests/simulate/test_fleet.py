"""Contenders side by side, end to end: what holds for any of them, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from msgspec import structs

from wattshed import load_fleet, read_workload, simulate_fleet
from wattshed.errors import ParameterError
from wattshed.fleet import Fleet, Slo
from wattshed.records import Provenance, SimulatedPolicy, SimulationResults
from wattshed.simulate.fleet import CLOCKS
from wattshed.simulate.model import Outage
from wattshed.simulate.scenario import Arrivals, in_order
from wattshed.workload.rates import RateCurve
from wattshed.workload.table import Workload

ALPACA = read_workload("alpaca")
REQUESTS = 250
STEADY = Arrivals(ALPACA, REQUESTS, 20.0)
SLOW = Arrivals(ALPACA, 120, 1.0)
ACCURACY = {"a100-tp8": 0.7, "h100-tp8": 0.6, "h100-tp4": 0.65}
MIXED = load_fleet("mixed-70b")
MIXED = structs.replace(
    MIXED,
    deployments=[structs.replace(d, accuracy=ACCURACY[d.name]) for d in MIXED.deployments],
)
HYBRID = load_fleet("hybrid-2024")
HYBRID = structs.replace(
    HYBRID, deployments=[structs.replace(d, idle_power_w=10.0) for d in HYBRID.deployments]
)
COMPILED = ("random", "round-robin", "least-loaded", "power-of-two", "frugal", "packed")
CALLED = ("accumulated-coded", "accumulated-printed")
CONTROLLERS = ("pinned", "governor", "static:0.6", "phases", "phases:0.2", "batch-cap:3")


def changed(fleet: Fleet, **settings: Any) -> Fleet:
    """The same settings in all deployments."""
    return structs.replace(
        fleet, deployments=[structs.replace(d, **settings) for d in fleet.deployments]
    )


def promising(fleet: Fleet, **limits: float) -> Fleet:
    return structs.replace(fleet, slo={"default": Slo(**limits)})


def of(found: SimulationResults, policy: str, controller: str) -> SimulatedPolicy:
    (one,) = (p for p in found.policies if (p.name, p.controller) == (policy, controller))
    return one


def assert_sound(one: SimulatedPolicy) -> None:
    """What holds for every contender on whatever requests."""
    energy = one.energy_j
    assert one.balance_error < 1e-9
    assert one.completed + one.failed == one.requests
    assert one.rejected + one.lost + one.unfinished == one.failed
    parts = (energy.requests_dynamic, energy.requests_static, energy.idle, energy.transitions)
    assert energy.total == pytest.approx(sum(parts), rel=1e-9)
    assert energy.total == pytest.approx(sum(one.energy_by_state_j.values()), rel=1e-9)
    assert energy.total == pytest.approx(sum(d.energy_j for d in one.deployments), rel=1e-9)
    assert one.bound_j is None or one.bound_j <= energy.total


@pytest.fixture(scope="module")
def everything() -> SimulationResults:
    """All compiled policies with all controllers."""
    return simulate_fleet(MIXED, STEADY, policies=COMPILED, controllers=CONTROLLERS)


@pytest.fixture(scope="module")
def hybrid() -> SimulationResults:
    """Deployments that serve one query at a time, under policies of every kind."""
    policies = (*COMPILED, *CALLED, "prices", "single:a100", "threshold:m1-pro,a100,32")
    return simulate_fleet(HYBRID, SLOW, policies=policies)


# ---------------------------------------------------------------- all contenders


def test_all_contenders_are_sound_and_none_undercuts_the_bound(
    everything: SimulationResults,
) -> None:
    assert len(everything.policies) == len(COMPILED) * len(CONTROLLERS)
    for one in everything.policies:
        assert_sound(one)
        assert one.completed == REQUESTS
        assert one.bound_j is not None
        assert one.gap == pytest.approx(one.energy_j.total / one.bound_j - 1)
        assert one.gap >= 0


def test_all_contenders_serve_the_same_requests(everything: SimulationResults) -> None:
    assert everything.requests == REQUESTS
    assert everything.rate_per_s == pytest.approx(20.0, rel=0.4)
    tokens = {sum(d.output_tokens for d in one.deployments) for one in everything.policies}
    assert len(tokens) == 1


def test_the_governor_steps_as_the_pinned_clock(everything: SimulationResults) -> None:
    for policy in COMPILED:
        pinned, governor = (of(everything, policy, name) for name in ("pinned", "governor"))
        assert structs.replace(governor, controller="pinned") == pinned


def test_lower_clocks_change_something(everything: SimulationResults) -> None:
    names = ("pinned", "static:0.6", "phases")
    energies = [of(everything, "round-robin", name).energy_j.total for name in names]
    assert len(set(energies)) == 3


def test_what_rests_on_the_clock_is_said_where_it_is_lowered(
    everything: SimulationResults,
) -> None:
    for controller, lowered in {"pinned": False, "batch-cap:3": False, "static:0.6": True}.items():
        modelled = of(everything, "frugal", controller).modelled
        assert any("clock" in part for part in modelled) is lowered
        assert not any("boot" in part or "sleep" in part for part in modelled)


def test_single_queries_are_served_by_every_kind_of_policy(hybrid: SimulationResults) -> None:
    for one in hybrid.policies:
        assert_sound(one)
        assert one.completed == 120
        assert one.attainment is None
        assert one.energy_by_state_j["query"] > 0
    single = of(hybrid, "single:a100", "pinned")
    assert next(d for d in single.deployments if d.name == "a100").requests == 120
    assert of(hybrid, "frugal", "pinned").energy_j.total <= min(
        of(hybrid, name, "pinned").energy_j.total for name in ("random", "round-robin")
    )


@pytest.mark.slow
def test_orders_prices_and_called_policies_run_on_engines_that_batch() -> None:
    policies = ("prices", "single:h100-tp8", "threshold:h100-tp4,h100-tp8,20", *CALLED)
    found = simulate_fleet(MIXED, replace(STEADY, requests=100), policies=policies)
    for one in found.policies:
        assert_sound(one)
        assert one.completed == 100
    single = of(found, "single:h100-tp8", "pinned")
    assert [d.requests for d in single.deployments if d.name == "h100-tp8"] == [100]


def test_what_is_found_can_be_written_as_json(everything: SimulationResults) -> None:
    read = msgspec.json.decode(msgspec.json.encode(everything), type=SimulationResults)
    assert read.savings == everything.savings


@pytest.mark.slow
def test_the_same_seed_gives_the_same_and_another_another() -> None:
    def found(seed: int) -> SimulationResults:
        policies = ("random", "power-of-two", "accumulated-coded")
        return simulate_fleet(MIXED, replace(STEADY, requests=60), policies=policies, seed=seed)

    assert found(1) == found(1)
    for one, other in zip(found(1).policies, found(2).policies, strict=True):
        assert one.energy_j.total != other.energy_j.total


def test_replications_draw_anew_and_give_intervals() -> None:
    arrivals = replace(STEADY, requests=80)
    found = simulate_fleet(
        MIXED, arrivals, policies=("least-loaded", "frugal"), replications=3, seed=5
    )
    assert (found.seeds, found.replications) == ([5, 6, 7], 3)
    alone = [simulate_fleet(MIXED, arrivals, seed=seed).policies[0] for seed in (5, 6, 7)]
    energies = [one.energy_per_request_j for one in alone]
    together = of(found, "least-loaded", "pinned")
    assert together.energy_per_request_j == pytest.approx(np.mean(energies))
    interval = together.intervals["energy_per_request_j"]
    assert interval.low < min(energies) or interval.high > max(energies)
    assert interval.low <= together.energy_per_request_j <= interval.high
    assert found.savings[0].interval is not None


def test_a_replay_is_simulated_once_and_says_so() -> None:
    arrivals = Arrivals(read_workload("azure-code-2023"), 40)
    found = simulate_fleet(MIXED, arrivals, replications=3)
    assert (found.replications, found.arrivals) == (1, "replayed")
    assert any("simulated once" in note for note in found.notes)
    assert found.policies[0].intervals == {}


def test_tables_have_a_row_for_each_request_of_each_contender() -> None:
    tables: list[pl.DataFrame] = []
    arrivals = replace(STEADY, requests=30)
    policies = ("random", "frugal")
    simulate_fleet(MIXED, arrivals, policies=policies, replications=2, tables=tables.append)
    assert [table.height for table in tables] == [30, 30]
    assert [table["policy"][0] for table in tables] == list(policies)
    assert set(tables[0]["fate"]) == {"served"}


# ---------------------------------------------------------------- clocks


@pytest.mark.slow
def test_the_best_static_clock_is_no_worse_than_any_that_keeps_the_promises() -> None:
    fleet = promising(MIXED, ttft_s=1.0, tbt_s=0.08)  # the lowest clocks are too slow
    statics = [f"static:{clock:g}" for clock in CLOCKS]
    found = simulate_fleet(fleet, STEADY, controllers=["pinned", *statics, "static:best"])
    *each, best = found.policies
    assert best.settings["clock"] == "best"
    keeping = [one for one in each[1:] if (one.attainment or 0) >= 0.99]
    assert 0 < len(keeping) < len(statics)
    assert (best.attainment or 0) >= 0.99
    assert best.energy_per_request_j == min(one.energy_per_request_j for one in keeping)
    assert best.controller in {one.controller for one in keeping}


def test_where_no_clock_keeps_the_promises_the_highest_is_taken() -> None:
    fleet = promising(MIXED, ttft_s=1e-6)
    found = simulate_fleet(fleet, replace(STEADY, requests=30), controllers=["static:best"])
    assert found.policies[0].controller == "static:1"
    assert found.policies[0].attainment == 0


def test_a_static_clock_is_that_clock_and_no_other() -> None:
    found = simulate_fleet(
        MIXED, STEADY, controllers=["static:0.7", "static:0.75", "static:0.8", "static:0.2"]
    )
    energies = [one.energy_j.total for one in found.policies]
    assert len(set(energies)) == 4
    for one in found.policies:
        assert_sound(one)  # that of 0.2 holds for a clock that is not among the others


def test_a_static_clock_is_a_fraction_of_the_highest_whatever_the_fleet_is_set_to() -> None:
    slower = changed(MIXED, clock=0.8)
    controllers = ["pinned", "static:0.6", "static:0.8", "static:1"]
    whole, part = (
        simulate_fleet(fleet, STEADY, controllers=controllers) for fleet in (MIXED, slower)
    )

    def energy(found: SimulationResults, controller: str) -> float:
        return of(found, "least-loaded", controller).energy_j.total

    for controller in ("static:0.6", "static:0.8"):
        assert energy(part, controller) == pytest.approx(energy(whole, controller), rel=1e-12)
    # None is higher than that of the fleet.
    assert energy(part, "pinned") == energy(part, "static:0.8") == energy(part, "static:1")


@pytest.mark.parametrize(
    ("policy", "controller"), [("frugal", "pinned"), ("round-robin", "phases")]
)
def test_equal_attainment_reaches_the_target_or_says_that_it_does_not(
    policy: str, controller: str
) -> None:
    fleet = promising(MIXED, ttft_s=0.15, tbt_s=0.05)
    arrivals = replace(STEADY, requests=600)
    common: dict[str, Any] = {"policies": [policy], "controllers": [controller], "target": 0.9}
    plain, equal = (
        simulate_fleet(fleet, arrivals, **common, equal_attainment=flag).policies[0]
        for flag in (False, True)
    )
    assert plain.attainment is not None
    assert equal.attainment is not None
    if plain.attainment >= 0.9:
        assert equal == plain
    else:
        assert float(equal.settings["aim"]) > 0.9
    hopeless = simulate_fleet(
        promising(MIXED, ttft_s=1e-6), arrivals, **common, equal_attainment=True
    ).policies[0]
    assert hopeless.attainment == 0
    assert float(hopeless.settings["aim"]) > 0.99


# ---------------------------------------------------------------- sleep and outages


@pytest.mark.parametrize("after_s", [0.0, 0.5])
def test_replicas_sleep_and_wake_and_nothing_is_lost(after_s: float) -> None:
    fleet = changed(MIXED, sleep_after_s=after_s)
    arrivals = Arrivals(ALPACA, 100, 2.0)
    found = simulate_fleet(fleet, arrivals, policies=["least-loaded", "frugal", "random"])
    for one in found.policies:
        assert_sound(one)
        assert one.completed == 100
        assert one.energy_by_state_j["sleep"] > 0
        assert any("sleep" in part for part in one.modelled)
    assert found.policies[0].energy_by_state_j["wake"] > 0
    wake_j = found.policies[0].energy_by_state_j["wake"]
    assert found.policies[0].energy_j.transitions == pytest.approx(wake_j)
    awake = simulate_fleet(MIXED, arrivals).policies[0]
    assert found.policies[0].energy_j.idle < awake.energy_j.idle


OUTAGES = (
    Outage(4, 0.0, 4.0),
    Outage(5, 2.0),
    Outage(6, 3.0, 6.0, drains=True),
    Outage(7, 5.0, 9.0),
)


@pytest.mark.parametrize("retry", [True, False])
@pytest.mark.parametrize("policy", ["least-loaded", "accumulated-coded"])
def test_outages_lose_or_retry_and_every_request_is_counted(policy: str, retry: bool) -> None:
    (one,) = simulate_fleet(MIXED, STEADY, policies=[policy], outages=OUTAGES, retry=retry).policies
    assert_sound(one)
    assert one.lost > 0
    assert one.lost + one.rejected + one.completed == REQUESTS
    assert one.bound_j is not None
    assert any("boot" in part for part in one.modelled)
    if not retry:
        assert one.retries == 0


def test_a_failure_during_prompts_is_tried_again_elsewhere() -> None:
    long = Arrivals(read_workload("azure-conv-2023"), 150, 8.0)
    outages = [Outage(replica, 4.0) for replica in range(6)]
    with_retry, without = (
        simulate_fleet(MIXED, long, outages=outages, retry=retry).policies[0]
        for retry in (True, False)
    )
    assert with_retry.retries > 0
    assert with_retry.lost < without.lost
    assert without.retries == 0


def test_the_bound_holds_for_replicas_that_were_off() -> None:
    outages = [Outage(replica, 0.5) for replica in range(11)]
    (one,) = simulate_fleet(
        MIXED, replace(STEADY, requests=40), policies=["least-loaded"], outages=outages
    ).policies
    assert_sound(one)
    assert one.gap is not None
    assert one.gap >= 0


def test_while_all_replicas_are_off_requests_are_rejected() -> None:
    outages = [Outage(replica, 0.0) for replica in range(12)]
    (one,) = simulate_fleet(MIXED, replace(STEADY, requests=20), outages=outages).policies
    assert (one.rejected, one.completed, one.bound_j) == (20, 0, None)
    assert one.energy_j.total == 0
    assert one.balance_error == 0


# ---------------------------------------------------------------- limits and classes


def test_classes_are_held_to_their_own_promises(make_workload: Callable[..., Any]) -> None:
    workload = make_workload([100, 100], [20, 20])
    table = workload.table.with_columns(pl.Series("class", ["chat", "batch"]))
    workload = Workload("classes", table, workload.provenance, "")
    slo = {"chat": Slo(ttft_s=1e-6), "batch": Slo(ttft_s=1e6)}
    fleet = structs.replace(MIXED, slo=slo)
    (one,) = simulate_fleet(fleet, Arrivals(workload, 100, 10.0)).policies
    by_name = {c.name: c for c in one.classes}
    assert {c.requests for c in one.classes} <= set(range(101))
    assert sum(c.requests for c in one.classes) == 100
    assert (by_name["chat"].attainment, by_name["batch"].attainment) == (0, 1)
    assert one.attainment == pytest.approx(by_name["batch"].requests / 100)


@pytest.mark.parametrize("policy", ["least-loaded", "accumulated-coded", "frugal"])
def test_what_is_too_long_for_all_contexts_is_rejected_and_counted(
    policy: str, make_workload: Callable[..., Any]
) -> None:
    fleet = changed(MIXED, max_context_tokens=60)
    workload = make_workload([30, 30], [20, 50], [3, 1])  # on average they are short enough
    (one,) = simulate_fleet(fleet, Arrivals(workload, 60, 20.0), policies=[policy]).policies
    assert_sound(one)
    assert 0 < one.rejected < 60
    assert one.rejected + one.completed == 60


def test_nothing_that_can_be_served_is_an_answer_too() -> None:
    fleet = changed(MIXED, max_context_tokens=2)
    found = simulate_fleet(fleet, replace(STEADY, requests=20), policies=["least-loaded", "random"])
    for one in found.policies:
        assert_sound(one)
        assert (one.completed, one.rejected, one.attainment) == (0, 20, 0)
        assert one.energy_j.idle == pytest.approx(one.energy_j.total)
        assert one.energy_j.total > 0
    assert found.savings == []


# ---------------------------------------------------------------- stopping


class Stop:
    """Raises KeyboardInterrupt once, when it is told of a stage for the n-th time."""

    def __init__(self, stage: str, at: int = 1) -> None:
        self.stage, self.left = stage, at

    def __call__(self, stage: str, done: int, total: int) -> None:
        self.left -= stage.startswith(self.stage)
        if not self.left:
            self.left = -1
            raise KeyboardInterrupt


@pytest.mark.parametrize("policy", ["least-loaded", "accumulated-coded"])
@pytest.mark.parametrize("controller", ["pinned", "static:best", "phases"])
def test_a_stop_ends_everything_with_what_there_is(policy: str, controller: str) -> None:
    arrivals = Arrivals(ALPACA, 400, 200.0)
    found = simulate_fleet(
        MIXED,
        arrivals,
        policies=[policy, "random"],
        controllers=[controller, "governor"],
        replications=2,
        equal_attainment=True,
        report=Stop(policy, 2 if policy.startswith("acc") else 1),
    )
    assert found.partial
    (one,) = found.policies  # those that come after were not begun
    assert one.partial
    assert_sound(one)
    assert any("stopped" in note for note in found.notes)


def test_a_stop_leaves_requests_unfinished_and_the_balance_closed() -> None:
    found = simulate_fleet(
        MIXED, STEADY, policies=["accumulated-coded"], report=Stop("accumulated", 2)
    )
    (one,) = found.policies
    assert_sound(one)
    assert 0 < one.unfinished < REQUESTS
    assert one.bound_j is None


def test_progress_is_reported_for_called_policies_too() -> None:
    told: list[tuple[str, int, int]] = []
    simulate_fleet(
        MIXED,
        STEADY,
        policies=["accumulated-coded"],
        report=lambda *what: told.append(what),
    )
    done = [d for _, d, _ in told]
    assert len(told) > 2
    assert done == sorted(done)
    assert {(stage, total) for stage, _, total in told} == {
        ("accumulated-coded + pinned", REQUESTS)
    }


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"policies": ["fastest"]}, "policy: 'fastest' is unknown; use one of accumulated-coded"),
        ({"policies": []}, "policies: none"),
        ({"policies": ["frugal:2"]}, "policy: 'frugal:2'; leave out ':2'"),
        ({"policies": ["prices:1"]}, "policy: 'prices:1'; leave out ':1'"),
        ({"policies": ["single"]}, "policy single: no deployment ''; use one of"),
        ({"policies": ["single:x"]}, "policy single: no deployment 'x'"),
        ({"policies": ["threshold:a,b"]}, "give threshold:SMALL,LARGE,T_IN"),
        ({"policies": ["threshold:x,h100-tp4,3"]}, "policy threshold: no deployment 'x'"),
        ({"controllers": []}, "controllers: none"),
        ({"controllers": ["fast"]}, "controller: 'fast'; use one of pinned, governor"),
        ({"controllers": ["static"]}, "controller: 'static'"),
        ({"controllers": ["static:x"]}, "give a number after static:"),
        ({"controllers": ["static:1.5"]}, "controller clock: 1.5"),
        ({"controllers": ["pinned:1"]}, "controller: 'pinned:1'"),
        ({"clocks": [0.5, 1.2]}, "clocks: 1.2"),
        ({"replications": 0}, "replications: 0"),
        ({"forecast": "none"}, "forecast: 'none'"),
        ({"target": 0.0}, "target: 0"),
        ({"outages": [Outage(99, 0.0)]}, r"outages\[0\].replica: 99; give one from 0 to 11"),
        ({"outages": [Outage(0, 3.0), Outage(0, 4.0)]}, r"outages\[1\].start_s: 4"),
    ],
)
def test_bad_input_is_named(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ParameterError, match=match):
        simulate_fleet(MIXED, replace(STEADY, requests=3), **arguments)


def test_prices_say_that_no_plan_keeps_up_with_the_workload() -> None:
    few = [structs.replace(d, replicas=1, max_batch=1) for d in MIXED.deployments]
    with pytest.raises(ParameterError, match="policy prices: no plan serves the workload"):
        simulate_fleet(structs.replace(MIXED, deployments=few), STEADY, policies=["prices"])


def test_a_curve_on_which_nothing_comes_is_refused() -> None:
    made_up = Provenance("made-up", "", "", "", "modelled")
    rates = np.array([0.0, 1.0])
    curve = RateCurve("night", np.array([0.0, 60.0]), 120.0, rates, made_up, "")
    with pytest.raises(ParameterError, match="requests: none; give a longer time"):
        simulate_fleet(MIXED, Arrivals(ALPACA, curve=curve, end_s=60.0))


@pytest.mark.parametrize("policy", ["frugal", "packed", "prices", "random", "accumulated-coded"])
def test_fleets_of_single_queries_and_batches_are_sound(policy: str) -> None:
    given = [
        structs.replace(d, accuracy=0.5) for d in (*MIXED.deployments[1:], HYBRID.deployments[1])
    ]
    fleet = in_order(structs.replace(MIXED, deployments=given))
    arrivals = replace(SLOW, rate_per_s=5.0)
    (one,) = simulate_fleet(fleet, arrivals, policies=[policy], controllers=["phases"]).policies
    assert_sound(one)
    assert one.completed == 120
    if policy == "frugal":
        assert (one.attainment or 0) > 0.95


def test_names_are_looked_at_before_anything_is_simulated() -> None:
    told: list[Sequence[Any]] = []
    with pytest.raises(ParameterError, match="fastest"):
        simulate_fleet(
            MIXED,
            STEADY,
            policies=["random", "fastest"],
            report=lambda *what: told.append(what),
        )
    assert told == []


def test_contenders_are_held_against_one_bound_whatever_their_clocks() -> None:
    """Else a clock that saves energy would look further from what is possible than none."""
    one_policy = {"policies": ["round-robin"]}
    found = simulate_fleet(MIXED, STEADY, controllers=["pinned", "static:0.9"], **one_policy)
    pinned, static = found.policies
    assert pinned.bound_j == pytest.approx(static.bound_j, rel=0.02)  # static is on for longer
    alone = simulate_fleet(MIXED, STEADY, controllers=["pinned"], **one_policy).policies[0]
    assert alone.bound_j > pinned.bound_j
