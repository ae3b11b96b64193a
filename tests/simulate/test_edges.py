"""Edges: single tokens, single replicas, budgets of one tenant, policies that misbehave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from wattshed import load_fleet, read_workload
from wattshed.control.clocks import PhaseAwareClock
from wattshed.engines.model import (
    BatchingDeployment,
    ClockedSteps,
    OneQueryDeployment,
    affine_steps,
)
from wattshed.errors import ParameterError
from wattshed.records import Decision, Endpoint, Request, Served
from wattshed.replicas import engines_of
from wattshed.route.frugal_rule import Budgets
from wattshed.simulate.arrivals import draw_requests
from wattshed.simulate.engine import simulate_requests
from wattshed.simulate.external import Asked
from wattshed.simulate.model import Outage, Requests
from wattshed.simulate.policies import Promises
from wattshed.simulate.result import Simulation
from wattshed.simulate.scenario import in_order, promises_of

ALPACA = read_workload("alpaca")
MIXED = in_order(load_fleet("mixed-70b"))
FREE = structs.replace(MIXED, slo={})
POLICIES = ("round-robin", "random", "least-outstanding", "power-of-two", "frugal", "packed")


def equal(count: int, every_s: float, m: int = 50, n: int = 1) -> Requests:
    return Requests(every_s * np.arange(count), np.full(count, m), np.full(count, n))


def only_ttft(requests: Requests, limit_s: float) -> Promises:
    n, none = requests.output_tokens.astype(float), np.full(len(requests), np.inf)
    return Promises(np.full(len(requests), limit_s), none, n, n)


# ---------------------------------------------------------------- single tokens


def test_single_tokens_without_a_limit_between_tokens_are_kept_promises() -> None:
    # The slow clock is fast enough, as long as kept promises are not learned from as broken ones.
    fast, slow = affine_steps(4, 0.1), affine_steps(4, 0.2)
    joules, fewer = affine_steps(4, 100.0), affine_steps(4, 60.0)
    place = BatchingDeployment(
        "place", 1, fast, joules, 512, slower=(ClockedSteps(0.5, slow, fewer),)
    )
    requests = equal(300, 1.0)
    found = simulate_requests(
        [place], requests, promises=only_ttft(requests, 0.6), controller=PhaseAwareClock()
    )
    np.testing.assert_allclose(found.ttft_s, 0.2)
    np.testing.assert_allclose(found.request_energy_j, 60.0)


@pytest.mark.parametrize("policy", POLICIES)
def test_one_replica_one_place_and_chunks_shorter_than_prompts(
    policy: str, make_requests: Callable[..., Requests], make_batching: Callable[..., Any]
) -> None:
    place = make_batching(batch=1, chunk_tokens=16)
    requests = make_requests(60, 1.0)
    found = simulate_requests([place], requests, policy=policy, promises=only_ttft(requests, 1.0))
    assert (found.replica == 0).all()
    assert (np.diff(found.finish_s) > 0).all()  # one after the other
    assert (found.start_s[1:] >= found.finish_s[:-1]).all()
    assert abs(found.imbalance) < 1e-9


@pytest.mark.parametrize("policy", POLICIES)
def test_all_at_once_are_all_served(policy: str, make_batching: Callable[..., Any]) -> None:
    requests = equal(100, 0.0, n=7)
    place = make_batching(replicas=3)
    found = simulate_requests([place], requests, policy=policy, promises=only_ttft(requests, 1.0))
    assert found.served.all()
    assert found.time_s.sum(axis=1) == pytest.approx(np.full(3, found.end_s))


# ---------------------------------------------------------------- outages


def test_a_replica_that_is_off_from_the_start_gets_nothing_until_it_is_back(
    make_batching: Callable[..., Any],
) -> None:
    requests = equal(40, 0.1)
    place = make_batching(replicas=2)
    for drains in (True, False):
        outage = Outage(0, 0.0, 2.05, drains)
        found = simulate_requests([place], requests, policy="round-robin", outages=[outage])
        early = requests.arrival_s < 2.05
        assert (found.replica[early] == 1).all()
        assert set(found.replica[~early]) == {0, 1}
        assert found.served.all()
        assert abs(found.imbalance) < 1e-9


def test_outages_that_overlap_at_one_replica_are_refused(make_batching: Callable[..., Any]) -> None:
    drain, failure = Outage(0, 1.0, 5.0, drains=True), Outage(0, 3.0)
    with pytest.raises(ParameterError, match=r"outages\[1\]\.start_s: 3; let it begin after"):
        simulate_requests([make_batching()], equal(3, 1.0), outages=[drain, failure])
    with pytest.raises(ParameterError, match=r"outages\[0\]: from 4 to 4 s"):
        simulate_requests([make_batching()], equal(3, 1.0), outages=[Outage(0, 4.0, 4.0)])


def test_a_drain_that_ends_before_the_replica_is_empty_leaves_it_on(
    make_batching: Callable[..., Any],
) -> None:
    requests = equal(2, 1.0, n=200)
    outage = Outage(0, 0.5, 0.9, drains=True)
    found = simulate_requests([make_batching()], requests, outages=[outage])
    assert found.served.all()
    assert found.retries.sum() == 0
    assert found.energy_j[0, 6:].sum() == 0  # neither off nor booting


# ---------------------------------------------------------------- called policies


class Fixed:
    """Always the same endpoint."""

    def __init__(self, endpoint: str | None) -> None:
        self.endpoint = endpoint

    def decide(self, request: Request, endpoints: Sequence[Endpoint], now_s: float) -> Decision:
        return Decision(self.endpoint)


def called(deployments: list[Any], requests: Requests, endpoint: Any, **more: Any) -> Simulation:
    asked = Asked(Fixed(endpoint), deployments, requests, only_ttft(requests, 1.0))
    return simulate_requests(deployments, requests, policy="external", decide=asked, **more)


class Attending(Fixed):
    """Remembers what became of requests."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint)
        self.kept: dict[str, bool | None] = {}

    def finished(self, served: Served) -> None:
        self.kept[served.id] = served.kept


@pytest.mark.parametrize("every_token", [False, True])
def test_a_called_policy_is_told_what_was_kept(every_token: bool) -> None:
    # Nothing is known of each token of a single query: a limit on each is held against the mean.
    runtime = np.array([3.0, 3.0, 1.0, 1.0])
    place = OneQueryDeployment("place", 1, runtime, runtime, np.ones(4))
    requests = Requests(np.arange(4) * 10.0, np.ones(4, int), np.array([3, 5, 1, 1]))
    none = np.full(4, np.inf)
    tbt_s = np.array([0.6, 0.6, np.inf, 0.6])
    known = Promises(none, tbt_s, np.ones(4), np.ones(4), every_token=every_token)
    policy = Attending("place/0")
    asked = Asked(policy, [place], requests, known)
    simulate_requests([place], requests, policy="external", decide=asked)
    # Tokens come 1 s and 0.5 s apart; of a single one none is late, with a limit or without.
    assert policy.kept == {"0": False, "1": True, "2": True}  # of the last nobody asks any more


def test_a_policy_that_names_an_unknown_endpoint_is_told_so(
    make_batching: Callable[..., Any],
) -> None:
    message = (
        r"policy Fixed: sent request 0 to 'h100/7', an unknown endpoint; return one of the"
        r" endpoints that it is given, such as 'h100/0', or None"
    )
    with pytest.raises(ParameterError, match=message):
        called([make_batching()], equal(3, 1.0), "h100/7")


def test_a_policy_that_names_an_endpoint_that_is_down_is_told_so(
    make_batching: Callable[..., Any],
) -> None:
    with pytest.raises(
        ParameterError, match="sent request 2 to 'h100/0', an endpoint that is down"
    ):
        called([make_batching()], equal(4, 1.0), "h100/0", outages=[Outage(0, 1.5)])


def test_a_policy_that_names_none_rejects(make_batching: Callable[..., Any]) -> None:
    assert called([make_batching()], equal(3, 1.0), None).rejected == 3


def test_what_does_not_fit_where_it_is_sent_is_rejected(
    make_batching: Callable[..., Any],
) -> None:
    short = make_batching("short", max_context_tokens=100)
    little = make_batching("little", kv_tokens=100)
    never = OneQueryDeployment("never", 1, np.full(3, np.inf), np.ones(3))
    requests = Requests(np.arange(3.0), np.array([50, 90, 60]), np.array([5, 20, 5]))
    for name, rejected in (("short/0", 1), ("little/0", 1), ("never/0", 3)):
        found = called([short, little, never], requests, name)
        assert found.rejected == rejected
        assert found.served.sum() == 3 - rejected


# ---------------------------------------------------------------- budgets


def engines(requests: Requests) -> Any:
    return engines_of(FREE.deployments, requests.input_tokens, requests.output_tokens)


def frugal(requests: Requests, budgets: Budgets | None, tenant: Any = ()) -> Any:
    """Deployment of each request."""
    known = promises_of(FREE, requests, ALPACA, forecast="known")
    known = Promises(
        known.ttft_s,
        known.tbt_s,
        known.expected,
        known.late,
        alone=known.alone,
        tenant=np.array(tenant, np.int64),
        budgets=budgets,
    )
    found = simulate_requests(engines(requests), requests, policy="frugal", promises=known)
    return found.deployment[found.replica]


@pytest.mark.parametrize("least", [0.62, 0.66, 0.69])
def test_mean_accuracy_is_kept_but_for_a_part_that_shrinks_with_the_count(least: float) -> None:
    accuracy = np.array([0.7, 0.6, 0.65])
    owed = []
    for count in (300, 3_000):
        requests = draw_requests(ALPACA, count, 20.0, seed=1)
        zeros = np.zeros((1, 3, 1))
        shortfall = (least - accuracy)[None]
        price, whose = np.array([1e4]), np.array([-1])
        budgets = Budgets(zeros, shortfall, np.zeros(1), price, whose, np.zeros(1), np.inf)
        where = frugal(requests, budgets)
        owed.append((least - accuracy[where].mean()) * count)
        assert len(set(where)) > 1
    # What is missed in all does not grow with the count.
    assert owed[1] < 3 * max(owed[0], 0.2)


def test_a_budget_of_one_tenant_moves_only_its_requests() -> None:
    requests = draw_requests(ALPACA, 200, 0.005, cv=0.0, seed=4)  # each is alone
    tenant = np.arange(200) % 2
    plain = frugal(requests, None)
    favourite = int(np.bincount(plain).argmax())
    unit = np.zeros((1, 3, 1))
    unit[0, favourite] = 1.0  # joules there count
    allowance, price, whose = np.array([1.0]), np.array([1e3]), np.array([1])
    budgets = Budgets(unit, np.zeros((1, 3)), allowance, price, whose, np.zeros(1), np.inf)
    found = frugal(requests, budgets, tenant)
    np.testing.assert_array_equal(found[tenant == 0], plain[tenant == 0])
    assert (found[tenant == 1] != plain[tenant == 1]).mean() > 0.5
    nobody = Budgets(*budgets[:4], np.array([7]), np.zeros(1), np.inf)
    np.testing.assert_array_equal(frugal(requests, nobody, tenant), plain)
