"""The online study's accumulators: what they weigh, keep, take off and forget."""

from __future__ import annotations

import math
from typing import Any

import pytest

from wattshed import InputError, load_fleet, load_policy
from wattshed.records import Endpoint, Request, Served
from wattshed.route.accumulated import REMEMBERED, Accumulated, Past, Size
from wattshed.route.policy import Attentive

NAMES = [d.name for d in load_fleet("offline-2024").deployments]
ENDPOINTS = [Endpoint(name, name) for name in NAMES]


def load(variant: str, **settings: float) -> Accumulated:
    policy = load_policy(f"accumulated-{variant}", fleet="offline-2024", **settings)
    assert isinstance(policy, Accumulated)
    return policy


def ask(policy: Accumulated, name: str, m: int = 20, n: float = 160.0) -> Any:
    return policy.decide(Request(name, m, n), ENDPOINTS, 0.0)


def test_costs_are_scaled_by_the_last_queries_of_the_same_deployment() -> None:
    past = Past(Size(100.0, 50.0))
    assert past.cost(Size(25.0, 10.0), 0.5) == pytest.approx(0.5 * 0.25 - 0.5 * 0.2)
    past.hold(Size(25.0, 10.0))
    assert past.cost(Size(80.0, 40.0), 0.5) == 0  # the least is the most
    past.hold(Size(75.0, 30.0))
    assert past.cost(Size(50.0, 30.0), 1.0) == pytest.approx(0.5)
    assert past.cost(Size(50.0, 40.0), 0.0) == pytest.approx(-1.5)  # beyond what was seen
    for _ in range(REMEMBERED):
        past.hold(Size(1.0, 1.0))
    assert len(past) == REMEMBERED
    assert past.cost(Size(50.0, 30.0), 1.0) == 0


def test_the_first_goes_to_the_first_deployment_of_the_fleet_where_all_tie() -> None:
    decision = ask(load("coded", zeta=0.0), "1", m=2048, n=2048.0)
    assert decision.endpoint == NAMES[0]
    assert list(decision.costs.values()) == [-1.0, -1.0, -1.0]


def test_what_waits_counts_by_deployment() -> None:
    policy = load("coded", zeta=0.0, queue_weight=0.1)
    waiting = [Endpoint("a", NAMES[0], waiting=3), Endpoint("b", NAMES[0], waiting=4)]
    decision = policy.decide(Request("1", 2048, 2048.0), [*waiting, *ENDPOINTS[1:]], 0.0)
    assert decision.endpoint == NAMES[1]
    assert decision.costs[NAMES[0]] == pytest.approx(-1 + 0.7)


def test_the_printed_total_doubles_until_it_overflows() -> None:
    policy = load("printed", zeta=0.0)
    totals = []
    for index in range(2000):
        decision = ask(policy, str(index))
        if decision.endpoint is None:
            break
        totals.append(decision.costs[decision.endpoint])
    assert "overflowed" in decision.reason
    assert 1000 < len(totals) < 1100
    assert abs(totals[60]) > 1e14
    assert all(math.isfinite(total) for total in totals)
    assert totals[200] == pytest.approx(2 * totals[199])


def test_the_coded_total_returns_to_zero_at_every_tenth_and_then_at_each() -> None:
    policy = load("coded", zeta=1.0)
    only = [Endpoint("one", NAMES[0])]
    resets = []
    for index in range(120):
        n = 100.0 + index % 7
        policy.decide(Request(str(index), 20, n), only, 0.0)
        if policy._totals[NAMES[0]] == 0.0:
            resets.append(index)
    tens = [*range(0, 100, 10), *range(100, 120)]
    assert set(tens) <= set(resets)
    assert not {k for k in range(12, 100) if k % 10 not in {0, 1}} & set(resets)


def test_only_the_coded_variant_takes_a_finished_request_off_and_only_once() -> None:
    policy = load("coded", zeta=0.0)
    assert isinstance(policy, Attentive)
    only = [Endpoint("one", NAMES[0])]
    for index in range(6):
        policy.decide(Request(str(index), 20, 100.0 + index), only, 0.0)
    before = policy._totals[NAMES[0]]
    policy.finished(Served("4", "", 1.0))  # of the six, four were shorter and one longer
    after = policy._totals[NAMES[0]]
    assert after - before == pytest.approx(4 / 5)
    policy.finished(Served("4", "", 2.0))
    policy.finished(Served("unheard of", "", 2.0))
    assert policy._totals[NAMES[0]] == after
    printed = load("printed", zeta=0.0)
    ask(printed, "1")
    kept = dict(printed._totals)
    printed.finished(Served("1", "", 1.0))
    assert printed._totals == kept


def test_what_is_sent_once_more_counts_once() -> None:
    """An endpoint failed: the request is where it was sent last, and nowhere else."""
    policy = load("coded", zeta=0.0)
    for ends in (ENDPOINTS[:1], ENDPOINTS[1:2]):
        for n in (100.0, 102.0):
            policy.decide(Request(f"{ends[0].name} {n}", 20, n), ends, 0.0)
    before = dict(policy._totals)
    for ends in (ENDPOINTS[:1], ENDPOINTS[:1], ENDPOINTS[1:2]):
        policy.decide(Request("again", 20, 101.0), ends, 0.0)
    assert policy._totals[NAMES[0]] == pytest.approx(before[NAMES[0]])
    assert policy._totals[NAMES[1]] == pytest.approx(before[NAMES[1]] - 0.5)
    policy.finished(Served("again", NAMES[1], 1.0))
    assert policy._totals == pytest.approx(before)


def test_policies_without_memory_are_told_nothing() -> None:
    assert not isinstance(load_policy("least-loaded", fleet="offline-2024"), Attentive)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"zeta": 1.5}, "zeta: is 1.5; give a weight of energy from 0 to 1"),
        ({"queue_weight": -0.1}, "queue_weight: is -0.1; give 0 or more"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load("coded", **settings)
