"""The compiled policies decide as the policies of the room `route`, request by request."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from msgspec import structs

from wattshed import load_fleet, load_policy, read_workload
from wattshed.control.clocks import PhaseAwareClock
from wattshed.fleet import Fleet
from wattshed.plan.rule import energy_rule
from wattshed.replicas import engines_of
from wattshed.route.frugal import Aim
from wattshed.route.frugal_rule import Budgets
from wattshed.simulate.arrivals import draw_requests
from wattshed.simulate.engine import simulate_requests
from wattshed.simulate.external import Asked
from wattshed.simulate.model import Outage
from wattshed.simulate.naming import choose_policy, without_slo
from wattshed.simulate.policies import Promises
from wattshed.simulate.scenario import Arrivals, in_order, promises_of

REQUESTS = 150
BATCHING = in_order(load_fleet("mixed-70b"))
SLEEPY = structs.replace(
    BATCHING,
    deployments=[structs.replace(d, sleep_after_s=0.5, replicas=2) for d in BATCHING.deployments],
)
ALONE = structs.replace(
    in_order(load_fleet("hybrid-2024")), slo={"default": structs.replace(BATCHING.slo["default"])}
)
SCENES = {"batching": (BATCHING, 25.0), "sleepy": (SLEEPY, 40.0), "alone": (ALONE, 3.0)}


def play(fleet: Fleet, rate: float, name: str, policy: Any, **changed: Any) -> tuple[Any, Any]:
    """The same requests with the compiled and with the called policy."""
    workload = read_workload("alpaca")
    arrivals = Arrivals(workload, REQUESTS, rate)
    requests = arrivals.draw(3)
    promises = promises_of(fleet, requests, workload, forecast=changed.pop("forecast", "histogram"))
    for field, value in changed.pop("promises", {}).items():
        object.__setattr__(promises, field, value)
    deployments = engines_of(
        fleet.deployments, requests.input_tokens, requests.output_tokens, [0.5, 1.0]
    )
    how = choose_policy(name, fleet, requests, promises, arrivals)
    common = {"promises": promises, **changed}
    compiled = simulate_requests(deployments, requests, policy=how.code, cost=how.cost, **common)
    called = simulate_requests(
        deployments,
        requests,
        policy="external",
        decide=Asked(policy, deployments, requests, promises),
        **common,
    )
    return compiled, called


def assert_alike(compiled: Any, called: Any) -> None:
    np.testing.assert_array_equal(compiled.replica, called.replica)
    np.testing.assert_array_equal(compiled.finish_s, called.finish_s)
    assert len(np.unique(compiled.replica)) > 1


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize(
    "name",
    ["round-robin", "least-loaded", "frugal", pytest.param("packed", marks=pytest.mark.slow)],
)
def test_compiled_and_called_policies_decide_alike(name: str, scene: str) -> None:
    fleet, rate = SCENES[scene]
    settings = {"promises": fleet.slo} if name in {"frugal", "packed"} else {}
    policy = load_policy(name, fleet=without_slo(fleet), **settings)
    # What outgrows a limit is refused by its true length, and by the forecast: make them the same.
    forecast = "known" if scene == "alone" else "histogram"
    assert_alike(*play(fleet, rate, name, policy, forecast=forecast))


@pytest.mark.slow
@pytest.mark.parametrize("scene", ["batching", "alone"])
def test_orders_of_deployments_are_the_same(scene: str) -> None:
    fleet, rate = SCENES[scene]
    plain = without_slo(fleet)
    first, second = (d.name for d in fleet.deployments[:2])
    single = load_policy("single", fleet=plain, deployment=second)
    compiled, called = play(fleet, rate, f"single:{second}", single, forecast="known")
    np.testing.assert_array_equal(compiled.replica, called.replica)
    threshold = load_policy("threshold", fleet=plain, small=first, large=second, t_in=20)
    name = f"threshold:{first},{second},20"
    assert_alike(*play(fleet, rate, name, threshold, forecast="known"))
    by_output = load_policy("threshold", fleet=plain, small=first, large=second, t_out=40)
    name = f"threshold:{first},{second},out=40"
    assert_alike(*play(fleet, rate, name, by_output, forecast="known"))


def test_prices_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet, rate = SCENES["batching"]
    plain = without_slo(fleet)
    rule = energy_rule(fleet)
    prices = {"h100-tp4": 40.0, "h100-tp8": 3.0}
    rule = structs.replace(
        rule,
        deployments={
            name: structs.replace(p, runtime_j_per_s=prices.get(name, 0.0))
            for name, p in rule.deployments.items()
        },
    )
    monkeypatch.setattr("wattshed.simulate.naming._rule", lambda *_: rule)
    assert_alike(*play(fleet, rate, "prices", load_policy("prices", fleet=plain, rule=rule)))


def test_a_rule_that_learns_learns_the_same() -> None:
    fleet, rate = SCENES["batching"]
    tight = {"default": structs.replace(fleet.slo["default"], ttft_s=0.15, tbt_s=0.06)}
    fleet = structs.replace(fleet, slo=tight)
    policy = load_policy(
        "frugal", fleet=without_slo(fleet), promises=tight, aim=Aim(every_token=True)
    )
    compiled, called = play(fleet, rate, "frugal", policy, promises={"every_token": True})
    assert_alike(compiled, called)
    assert (compiled.longest_gap_s > 0.06).any()


def test_budgets_are_charged_the_same() -> None:
    fleet, rate = SCENES["batching"]
    unit = np.array([[[1.0, 2.0], [1.0, 2.0], [3.0, 0.5]], [[0.0, 0.0]] * 3])
    fixed = np.array([[0.0] * 3, [0.02, -0.05, 0.04]])

    def budgets() -> Budgets:
        return Budgets(
            unit,
            fixed,
            np.array([300.0, 0.0]),
            np.array([1e-3, 1e4]),
            np.array([-1, -1]),
            np.zeros(2),
            10.0,
        )

    policy = load_policy("frugal", fleet=without_slo(fleet), promises=fleet.slo, budgets=budgets())
    mine = budgets()
    assert_alike(*play(fleet, rate, "frugal", policy, promises={"budgets": mine}))


def test_an_outage_is_seen_by_both() -> None:
    fleet, rate = SCENES["batching"]
    outages = [Outage(4, 2.0, 9.0), Outage(5, 3.0, drains=True)]
    policy = load_policy("frugal", fleet=without_slo(fleet), promises=fleet.slo)
    compiled, called = play(
        fleet, rate, "frugal", policy, outages=outages, controller=PhaseAwareClock()
    )
    assert_alike(compiled, called)
    assert compiled.retries.sum() > 0


def test_energy_of_the_frugal_policy_is_marginal() -> None:
    """A prediction in closed form: an empty replica against one that already serves."""
    workload = read_workload("alpaca")
    requests = draw_requests(workload, 2, 1e9)
    fleet = structs.replace(BATCHING, deployments=BATCHING.deployments[1:2], slo={})
    deployments = engines_of(fleet.deployments, requests.input_tokens, requests.output_tokens)
    promises = Promises(*np.full((2, 2), np.inf), *np.full((2, 2), 100.0))
    found = simulate_requests(deployments, requests, policy="frugal", promises=promises)
    # The second joins the first: a batch of two needs less than two of one.
    assert found.replica[0] == found.replica[1]
