"""What every policy promises, those that others register included."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from wattshed import load_fleet, load_policy
from wattshed.fleet import Fleet, Slo
from wattshed.plan.rule import energy_rule
from wattshed.records import Endpoint, Request
from wattshed.route.policy import Policy
from wattshed.route.registry import POLICIES

FLEET: Fleet = structs.replace(
    load_fleet("hybrid-2024"), slo={"interactive": Slo(ttft_s=1.0, e2e_s=60.0)}
)
NAMES = sorted(d.name for d in FLEET.deployments)
SETTINGS: dict[str, dict[str, Any]] = {
    "prices": {"rule": energy_rule(FLEET)},
    "random": {"seed": 7},
    "single": {"deployment": "a100"},
    "threshold": {"small": "m1-pro", "large": "a100", "t_in": 32, "product": 4000},
}
every = pytest.mark.parametrize("name", POLICIES)

ENDPOINTS = st.lists(
    st.tuples(
        st.sampled_from([*NAMES, "elsewhere"]),
        st.integers(0, 3),
        st.integers(0, 3),
        st.booleans(),
    ),
    max_size=8,
).map(lambda rows: [Endpoint(f"e{k}", *row) for k, row in enumerate(rows)])
REQUESTS = st.builds(
    Request,
    st.just("r"),
    st.integers(1, 4000),
    st.floats(1, 3000),
    slo_class=st.sampled_from(["", "interactive"]),
    deadline_s=st.none() | st.floats(0.1, 100),
    max_output_tokens=st.none() | st.integers(1, 1000),
)


def make(name: str) -> Policy:
    return load_policy(name, fleet=FLEET, **SETTINGS.get(name, {}))


def may_serve(endpoint: Endpoint, request: Request, now_s: float) -> bool:
    """Asked of the policy that goes to a deployment if it may, with that endpoint alone."""
    if endpoint.deployment not in NAMES:
        return False
    policy = load_policy("single", fleet=FLEET, deployment=endpoint.deployment)
    return policy.decide(request, [endpoint], now_s).endpoint is not None


@every
@settings(max_examples=25)
@given(endpoints=ENDPOINTS, request_=REQUESTS, now_s=st.floats(0, 50))
def test_an_endpoint_that_may_serve_or_none_with_a_reason(
    name: str, endpoints: list[Endpoint], request_: Request, now_s: float
) -> None:
    decision = make(name).decide(request_, endpoints, now_s)
    by_name = {e.name: e for e in endpoints}
    if decision.endpoint is None:
        assert decision.reason
        assert not decision.costs
        assert not any(may_serve(e, request_, now_s) for e in endpoints)
        return
    chosen = by_name[decision.endpoint]
    assert chosen.healthy
    assert may_serve(chosen, request_, now_s)
    assert not decision.reason
    assert all(np.isfinite(cost) for cost in decision.costs.values())


@every
@settings(max_examples=25)
@given(
    endpoints=ENDPOINTS,
    requests=st.lists(REQUESTS, max_size=5),
    order=st.randoms(use_true_random=False),
)
def test_the_order_of_endpoints_plays_no_part_and_the_same_is_decided_again(
    name: str, endpoints: list[Endpoint], requests: list[Request], order: Any
) -> None:
    first, second = make(name), make(name)
    for request in requests:
        shuffled = order.sample(endpoints, len(endpoints))
        assert first.decide(request, endpoints, 0.0) == second.decide(request, shuffled, 0.0)


@every
def test_one_endpoint_is_enough_and_none_is_told(name: str) -> None:
    policy = make(name)
    request = Request("r", 16, 20.0)
    for deployment in NAMES:
        assert policy.decide(request, [Endpoint("only", deployment)], 0.0).endpoint == "only"
    assert policy.decide(request, [], 0.0).reason == "there are no endpoints"


@every
@pytest.mark.parametrize(
    ("request_", "healthy", "limit"),
    [
        (Request("r", 16, 600.0), True, "max_output_tokens is 512, the forecast 600"),
        (Request("r", 64, 400.0, "interactive"), True, "breaks the SLO ttft 1 s, e2e 60 s"),
        (Request("r", 16, 100.0, deadline_s=1.0), True, "the deadline is in -4 s"),
        (Request("r", 16, 20.0), False, "no healthy endpoint"),
        (Request("r", 16, 20.0, deadline_s=1.0), False, "no healthy endpoint"),
    ],
)
def test_a_request_that_fits_nowhere_is_told_the_limit(
    name: str, request_: Request, healthy: bool, limit: str
) -> None:
    endpoints = [Endpoint("m", "m1-pro", healthy=healthy), Endpoint("x", "elsewhere")]
    decision = make(name).decide(request_, endpoints, 5.0)
    assert decision.endpoint is None
    assert f"m1-pro: {limit}" in decision.reason or f"{limit}" in decision.reason
    assert "elsewhere: not in the fleet hybrid-2024" in decision.reason


@every
def test_a_request_asks_for_no_more_than_it_allows(name: str) -> None:
    endpoints = [Endpoint("m", "m1-pro")]
    long = Request("r", 16, 600.0, max_output_tokens=500)
    assert make(name).decide(long, endpoints, 0.0).endpoint == "m"


def test_no_policy_can_know_the_length_of_an_answer() -> None:
    assert "output_tokens" not in Request.__struct_fields__


def test_every_setting_is_by_name() -> None:
    for name, factory in POLICIES.items():
        first, *others = inspect.signature(factory).parameters.values()
        assert first.name == "fleet", name
        assert all(p.kind is p.KEYWORD_ONLY for p in others), name
