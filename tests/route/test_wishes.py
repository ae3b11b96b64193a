"""What one request may ask for: a weight of energy, or the greenest endpoint."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from wattshed import load_fleet, load_policy
from wattshed.fleet import Fleet
from wattshed.records import Deployment, Endpoint, Provenance, Request, Signal, Site, Upstream
from wattshed.route.outlook import Outlooks
from wattshed.route.wishes import Greenest, carbon_factors, weighted
from wattshed.signals import intensity_at

FLEET = structs.replace(load_fleet("mixed-70b"), slo={})
ALONE = load_fleet("hybrid-2024")
ENDPOINTS = [Endpoint(f"{d.name}/0", d.name) for d in FLEET.deployments]
T0 = datetime(2026, 11, 21, tzinfo=UTC).timestamp()


def request(m: int = 100, n: float = 100.0, **wish: float | bool) -> Request:
    return Request("1", m, n, **wish)  # type: ignore[arg-type]


# ------------------------------------------------------------------ λ


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4000), st.integers(1, 1000))
def test_all_weight_on_one_of_them_is_the_least_of_it(m: int, n: int) -> None:
    endpoints = [Endpoint(f"{d.name}/0", d.name) for d in ALONE.deployments]
    outlook, policy = Outlooks(ALONE).of(request(m, float(n))), weighted(ALONE)
    for weight, least in ((1.0, outlook.cost_j), (0.0, outlook.runtime_s)):
        if not least:
            continue
        asked = request(m, float(n), energy_weight=weight)
        found = policy.decide(asked, endpoints, 0.0).endpoint
        assert found is not None
        assert least[found.removesuffix("/0")] == min(least.values())


def test_more_weight_never_costs_more_energy_nor_less_less_time() -> None:
    policy = weighted(ALONE)
    endpoints = [Endpoint(f"{d.name}/0", d.name) for d in ALONE.deployments]
    for m, n in ((8, 8.0), (32, 64.0), (500, 300.0)):
        outlook = Outlooks(ALONE).of(request(m, n))
        ends = [
            policy.decide(request(m, n, energy_weight=k / 20), endpoints, 0.0).endpoint
            for k in range(21)
        ]
        chosen = [str(end).removesuffix("/0") for end in ends]
        energy = [outlook.cost_j[name] for name in chosen]
        runtime = [outlook.runtime_s[name] for name in chosen]
        assert energy == sorted(energy, reverse=True)
        assert runtime == sorted(runtime)


# ------------------------------------------------------------------ the greenest


def test_the_greenest_is_what_frugal_takes_where_nothing_is_promised() -> None:
    frugal, greenest = load_policy("frugal", fleet=FLEET), Greenest(FLEET)
    for load in range(6):
        endpoints = [structs.replace(e, running=load * k) for k, e in enumerate(ENDPOINTS)]
        for m, n in ((10, 10.0), (1000, 50.0), (100, 900.0)):
            asked = request(m, n, greenest=True)
            found = greenest.decide(asked, endpoints, 0.0)
            assert found.endpoint == frugal.decide(asked, endpoints, 0.0).endpoint
            assert found.endpoint == f"{min(found.costs, key=found.costs.__getitem__)}/0"


def test_promises_play_no_part_and_health_does() -> None:
    fleet = load_fleet("mixed-70b")  # with an SLO that a full endpoint breaks
    greenest = Greenest(structs.replace(fleet, slo={}))
    best = greenest.decide(request(), ENDPOINTS, 0.0).endpoint
    busy = [
        structs.replace(e, waiting=50, prompt_tokens=10**6) for e in ENDPOINTS if e.name == best
    ]
    others = [structs.replace(e, healthy=False) for e in ENDPOINTS if e.name != best]
    assert greenest.decide(request(), [*busy, *others], 0.0).endpoint == best
    left = greenest.decide(request(), [structs.replace(busy[0], healthy=False), *others], 0.0)
    assert (left.endpoint, left.costs) == (None, {})
    assert left.reason


def test_what_cannot_be_over_by_the_deadline_is_left_out() -> None:
    asked = structs.replace(request(), deadline_s=0.001)
    assert Greenest(FLEET).decide(asked, ENDPOINTS, 0.0).endpoint is None


def at_sites(**sites: Site) -> Fleet:
    """The fleet with its deployments at some sites, in their order."""
    placed = [
        structs.replace(d, site=name) for d, name in zip(FLEET.deployments, sites, strict=True)
    ]
    return structs.replace(FLEET, deployments=placed, sites=sites)


def signal(*g_per_kwh: float | None, dated: bool = True) -> Signal:
    edges = tuple(3600.0 * k for k in range(len(g_per_kwh) + 1))
    origin = datetime(2026, 11, 21, tzinfo=UTC) if dated else None
    made = Provenance("made up", "test", "", "", "modelled")
    return Signal("s", edges, g_per_kwh, (), origin, made, "")


def test_carbon_decides_where_it_is_known() -> None:
    a, b, c = ("a", "b", "c")
    hourly = {"carbon_signal": signal(1.0, 9000.0)}
    fleet = at_sites(
        a=Site(a, **hourly), b=Site(b, carbon_g_per_kwh=400.0), c=Site(c, carbon_g_per_kwh=400.0)
    )
    names = [d.name for d in fleet.deployments]

    def chosen(at_s: float) -> str | None:
        policy = Greenest(fleet, lambda _: carbon_factors(fleet, at_s) or {})
        return policy.decide(request(), ENDPOINTS, 0.0).endpoint

    assert chosen(T0 + 10) == f"{names[0]}/0"
    assert chosen(T0 + 3610) != f"{names[0]}/0"
    factors = carbon_factors(fleet, T0 + 10)
    assert factors is not None
    assert factors[names[1]] == pytest.approx(400 / 3.6e6)
    assert carbon_factors(fleet, T0 + 7200) is None  # the signal has ended


def test_the_building_counts_and_only_what_has_engines() -> None:
    site = Site("a", pue=1.5, carbon_g_per_kwh=100.0)
    fleet = at_sites(a=site, b=site, c=Site("c"))
    assert carbon_factors(fleet, T0) is None
    reachable: list[Deployment] = [
        structs.replace(d, upstream=Upstream(["http://a:1"]) if d.site != "c" else None)
        for d in fleet.deployments
    ]
    found = carbon_factors(structs.replace(fleet, deployments=reachable), T0)
    assert found == {d.name: pytest.approx(150 / 3.6e6) for d in reachable[:2]}


def test_an_intensity_is_of_its_window_or_unknown() -> None:
    dated = Site("a", carbon_signal=signal(100.0, None, 300.0))
    asked = [T0 - 1, T0, T0 + 3599, T0 + 3600, T0 + 7200, T0 + 10800]
    assert [intensity_at(dated, at_s) for at_s in asked] == [None, 100, 100, None, 300, None]
    assert intensity_at(Site("a", carbon_signal=signal(1.0, dated=False)), T0) is None
    assert intensity_at(Site("a", carbon_signal=signal(1.0), signal_offset_s=0.0), T0) is None
    assert intensity_at(Site("a", carbon_g_per_kwh=7.0), T0) == 7.0
    assert intensity_at(Site("a"), T0) is None
