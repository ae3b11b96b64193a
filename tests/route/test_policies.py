"""What each policy does that others do not, and how policies are found."""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path

import pytest
from msgspec import structs

from wattshed import InputError, load_fleet, load_policy
from wattshed.plan.rule import energy_rule
from wattshed.records import DeploymentPrices, Endpoint, Request
from wattshed.route.outlook import Outlooks
from wattshed.route.policy import FilteredPolicy
from wattshed.route.registry import POLICIES

SHORT, LONG = Request("s", 16, 32.0), Request("l", 16, 200.0)
ENDPOINTS = [
    Endpoint("a0", "a100", running=2, waiting=1),
    Endpoint("a1", "a100", running=2),
    Endpoint("m0", "m1-pro", running=9),
    Endpoint("m1", "m1-pro", running=9, waiting=0),
]


def goes(policy: FilteredPolicy, request: Request, endpoints: list[Endpoint] = ENDPOINTS) -> str:
    found = policy.decide(request, endpoints, 0.0).endpoint
    assert found is not None
    return found


@pytest.fixture
def load():
    def build(name: str, **settings: object) -> FilteredPolicy:
        policy = load_policy(name, fleet="hybrid-2024", **settings)
        assert isinstance(policy, FilteredPolicy)
        return policy

    return build


def test_prices_go_to_the_least_loaded_endpoint_of_the_cheapest_deployment(load) -> None:
    fleet = load_fleet("hybrid-2024")
    policy = load("prices", rule=energy_rule(fleet))
    assert goes(policy, SHORT) == "m0"
    assert goes(policy, LONG) == "a1"
    decision = policy.decide(SHORT, ENDPOINTS, 0.0)
    assert list(decision.costs) == ["m1-pro", "a100"]
    assert list(decision.costs.values()) == sorted(decision.costs.values())


def test_a_price_moves_requests_and_so_does_that_of_their_class(load) -> None:
    rule = energy_rule(load_fleet("hybrid-2024"))
    dear = {**rule.deployments, "m1-pro": DeploymentPrices(query_j=1e6)}
    assert goes(load("prices", rule=structs.replace(rule, deployments=dear)), SHORT) == "a1"
    hurried = structs.replace(rule, class_runtime_j_per_s={"interactive": 1e6})
    policy = load("prices", rule=hurried)
    assert goes(policy, SHORT) == "m0"
    assert goes(policy, structs.replace(SHORT, slo_class="interactive")) == "a1"


def test_round_robin_takes_turns_by_name(load) -> None:
    policy = load("round-robin")
    assert [goes(policy, SHORT) for _ in range(6)] == ["a0", "a1", "m0", "m1", "a0", "a1"]
    away = [e for e in ENDPOINTS if e.name != "m0"]
    assert goes(policy, SHORT, away) == "m1"


def test_random_is_even(load) -> None:
    policy = load("random", seed=1)
    found = Counter(goes(policy, SHORT) for _ in range(4000))
    assert all(abs(found[e.name] - 1000) < 5 * 28 for e in ENDPOINTS)  # 5 standard deviations


def test_the_shortest_queue_is_joined(load) -> None:
    policy = load("least-loaded")
    assert goes(policy, SHORT) == "a1"
    assert policy.decide(SHORT, ENDPOINTS, 0.0).costs == {"a0": 3, "a1": 2, "m0": 9, "m1": 9}


def test_single_goes_elsewhere_only_if_it_must(load) -> None:
    policy = load("single", deployment="m1-pro")
    assert goes(policy, LONG) == "m0"
    assert goes(policy, structs.replace(LONG, expected_output_tokens=600.0)) == "a1"


@pytest.mark.parametrize(
    ("bounds", "short"),
    [
        ({"t_in": 16}, True),
        ({"t_in": 15}, False),
        ({"t_out": 32}, True),
        ({"t_in": 16, "t_out": 31}, False),
        ({"product": 512}, True),
    ],
)
def test_thresholds_are_inclusive(load, bounds: dict[str, float], short: bool) -> None:
    policy = load("threshold", small="m1-pro", large="a100", **bounds)
    assert goes(policy, SHORT) == ("m0" if short else "a1")


def test_an_outlook_is_remembered_until_there_are_too_many() -> None:
    outlooks = Outlooks(load_fleet("hybrid-2024"), remembered=3)
    first = outlooks.of(SHORT)
    assert outlooks.of(SHORT) is first
    for length in range(100, 103):
        outlooks.of(structs.replace(SHORT, expected_output_tokens=float(length)))
    assert outlooks.of(SHORT) is not first
    assert outlooks.of(SHORT) == first


def test_outlooks_are_shared_by_policies_that_rank_by_energy(load) -> None:
    fleet = load_fleet("hybrid-2024")
    shared, by_energy = Outlooks(fleet), load("least-loaded")
    choice = goes(by_energy, SHORT)
    priced = load("prices", rule=energy_rule(fleet))
    by_energy.share(shared)
    priced.share(shared)
    assert by_energy.outlooks is shared
    assert priced.outlooks is not shared
    assert goes(by_energy, SHORT) == choice


@pytest.mark.parametrize("name", ["least-loaded", "frugal"])
def test_a_policy_that_remembers_less_decides_the_same(load, name: str) -> None:
    asked = [structs.replace(SHORT, input_tokens=m) for m in range(1, 6)] * 2
    policy, forgetful = load(name), load(name)
    forgetful.remember(2)
    assert [goes(forgetful, r) for r in asked] == [goes(policy, r) for r in asked]
    assert policy.outlooks.of(asked[0]) is policy.outlooks.of(asked[0])
    first = forgetful.outlooks.of(asked[0])
    assert [forgetful.outlooks.of(r) for r in asked[1:4]]
    assert forgetful.outlooks.of(asked[0]) is not first


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "cheapest",
            {},
            "'cheapest' is unknown; use one of accumulated-coded, accumulated-printed",
        ),
        ("prices", {}, "missing a required argument: 'rule'; it takes rule; plan=PATH"),
        ("prices", {"rule": energy_rule(load_fleet("offline-2024"))}, "prices of llama-2-13b"),
        ("single", {"deployment": "h100"}, "no deployment 'h100'; use m1-pro, a100, v100"),
        ("threshold", {"small": "m1-pro", "large": "a100"}, "has no threshold"),
        ("least-loaded", {"seed": 1}, "got an unexpected keyword argument 'seed'; it takes none"),
    ],
)
def test_what_is_wrong_is_told(name: str, settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_policy(name, fleet="hybrid-2024", **settings)


def test_another_package_registers_its_own(tmp_path: Path, monkeypatch) -> None:
    """An installed distribution with the entry point, as pip would leave it."""
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[wattshed.policies]\nfirst = theirs:first\n")
    (tmp_path / "theirs.py").write_text(
        "from wattshed.records import Decision\n"
        "class First:\n"
        "    def decide(self, request, endpoints, now_s):\n"
        "        return Decision(min(e.name for e in endpoints))\n"
        "def first(fleet):\n"
        "    return First()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    assert "first" not in POLICIES
    policy = load_policy("first", fleet="hybrid-2024")
    assert policy.decide(SHORT, ENDPOINTS, 0.0).endpoint == "a0"
    with pytest.raises(InputError, match="accumulated-printed, first, frugal"):
        load_policy("second", fleet="hybrid-2024")
