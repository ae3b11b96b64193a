"""What clients wish by headers, and who decides then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from msgspec import structs

from wattshed.fleet import load_fleet
from wattshed.records import Endpoint, Request, Site
from wattshed.serve.background import background
from wattshed.serve.canary import Canary
from wattshed.serve.decide import Decider
from wattshed.serve.refused import RefusedError
from wattshed.serve.simulated import simulated_app
from wattshed.serve.wishes import Wish, read_wish

CHAT = "/v1/chat/completions"
ASK = {"model": "llama", "max_tokens": 1, "messages": [{"role": "user", "content": "hello"}]}
FLEET = load_fleet("mixed-70b")
ENDPOINTS = [Endpoint(f"{d.name}/0", d.name) for d in FLEET.deployments]


@pytest.mark.parametrize(
    ("headers", "wish"),
    [
        ({}, Wish()),
        ({"x-wattshed-lambda": "0"}, Wish(0.0)),
        ({"x-wattshed-lambda": "0.25", "x-wattshed-greenest": "false"}, Wish(0.25)),
        ({"x-wattshed-greenest": "True"}, Wish(None, True)),
    ],
)
def test_wishes_are_read(headers: dict[str, str], wish: Wish) -> None:
    assert read_wish(headers) == wish


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"x-wattshed-lambda": "much"}, "x-wattshed-lambda: 'much'; give the weight"),
        ({"x-wattshed-lambda": "1.01"}, "x-wattshed-lambda: '1.01'; give the weight"),
        ({"x-wattshed-lambda": "nan"}, "from 0 to 1"),
        ({"x-wattshed-greenest": "very"}, "x-wattshed-greenest: 'very'; give true"),
        ({"x-wattshed-greenest": "true", "x-wattshed-lambda": "1"}, "send one of them"),
    ],
)
def test_wrong_wishes_name_header_value_and_cure(headers: dict[str, str], words: str) -> None:
    with pytest.raises(RefusedError, match=words) as refused:
        read_wish(headers)
    assert (refused.value.status, refused.value.code) == (400, "invalid_value")
    assert refused.value.param in headers


def test_who_wishes_is_in_no_group_and_the_switch_ends_wishes() -> None:
    canary = Canary("round-robin", 0.5)
    decider = Decider(FLEET, "single:a100-tp8", default="round-robin", canary=canary)
    wished = Request("1", 100, 50.0, greenest=True)
    found = decider.decide(wished, ENDPOINTS, 0.0)
    assert (found.policy, found.arm) == ("greenest:energy", None)
    assert found.decision.endpoint != "a100-tp8/0"
    weighted = decider.decide(Request("2", 100, 50.0, energy_weight=0.0), ENDPOINTS, 0.0)
    assert (weighted.policy, weighted.decision.endpoint) == ("weighted", "h100-tp8/0")
    decider.switch_off()
    assert decider.decide(wished, ENDPOINTS, 0.0).policy == "round-robin"


def test_carbon_decides_where_the_fleet_tells_it() -> None:
    sites = {name: Site(name, carbon_g_per_kwh=g) for name, g in (("east", 900.0), ("west", 5.0))}
    placed = [
        structs.replace(d, site="west" if d.name == "a100-tp8" else "east")
        for d in FLEET.deployments
    ]
    fleet = structs.replace(FLEET, deployments=placed, sites=sites)
    wished = Request("1", 100, 50.0, greenest=True)
    found = Decider(fleet, "round-robin").decide(wished, ENDPOINTS, 0.0)
    assert (found.policy, found.decision.endpoint) == ("greenest:carbon", "a100-tp8/0")


@pytest.fixture(scope="module")
def engines() -> Iterator[list[str]]:
    with (
        background(simulated_app(FLEET.deployments[0], 500)) as one,
        background(simulated_app(FLEET.deployments[1], 500)) as other,
    ):
        yield [one, other]


def test_wishes_are_in_the_ledger(live: Callable[..., Any], engines: list[str]) -> None:
    started = live(*engines, policy="single:a100-tp8")
    for headers in ({}, {"X-Wattshed-Lambda": "0.5"}, {"X-Wattshed-Greenest": "true"}):
        assert httpx.post(started.url + CHAT, json=ASK, headers=headers).status_code == 200
    bad = httpx.post(started.url + CHAT, json=ASK, headers={"X-Wattshed-Lambda": "2"})
    assert (bad.status_code, bad.json()["error"]["param"]) == (400, "x-wattshed-lambda")
    rows = started.rows()
    told = [(row["policy"], row["energy_weight"], row["greenest"]) for row in rows]
    assert told == [
        ("single:a100-tp8", None, 0),
        ("weighted", 0.5, 0),
        ("greenest:energy", None, 1),
        (None, None, None),
    ]
    assert rows[3]["reason"] == "invalid_value"
