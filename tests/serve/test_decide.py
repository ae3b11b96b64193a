"""The gateway decides as the simulator does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from msgspec import structs

from wattshed import load_fleet, load_policy, read_workload
from wattshed.cli import main
from wattshed.errors import ParameterError
from wattshed.fleet import Fleet
from wattshed.records import Endpoint, Request, Served
from wattshed.replicas import engines_of
from wattshed.route.frugal import Frugal
from wattshed.serve.decide import Decider
from wattshed.serve.explain import weighed_of
from wattshed.simulate.engine import simulate_requests
from wattshed.simulate.external import Asked
from wattshed.simulate.naming import without_slo
from wattshed.simulate.scenario import Arrivals, in_order, promises_of

FLEET = in_order(load_fleet("mixed-70b"))


class Recorded:
    """A policy that keeps what it was asked, what it was told, and what it said."""

    def __init__(self, policy: Any) -> None:
        self.policy, self.asked = policy, []

    def decide(self, request: Request, endpoints: Any, now_s: float) -> Any:
        decision = self.policy.decide(request, endpoints, now_s)
        self.asked.append((request, list(endpoints), now_s, decision))
        return decision

    def finished(self, served: Served) -> None:
        self.asked.append(served)
        if hasattr(self.policy, "finished"):
            self.policy.finished(served)


def recorded(fleet: Fleet, policy: Any, rate: float, requests: int) -> list[Any]:
    """A run of the simulator with a policy that it calls."""
    workload = read_workload("azure-conv-2023")
    drawn = Arrivals(workload, requests, rate).draw(1)
    promises = promises_of(fleet, drawn, workload, forecast="histogram")
    engines = engines_of(fleet.deployments, drawn.input_tokens, drawn.output_tokens)
    asked = Recorded(policy)
    simulate_requests(
        engines,
        drawn,
        policy="external",
        decide=Asked(asked, engines, drawn, promises),
        promises=promises,
    )
    return asked.asked


@pytest.mark.parametrize("name", ["frugal", "packed", "least-loaded", "round-robin", "single"])
def test_the_same_states_give_the_same_decisions(name: str) -> None:
    """The simulator's requests and endpoints, played to the gateway's decider in their order."""
    fleet = structs.replace(
        FLEET, deployments=[structs.replace(d, replicas=2) for d in FLEET.deployments]
    )
    settings: dict[str, Any] = {"promises": fleet.slo} if name in {"frugal", "packed"} else {}
    text = name
    if name == "single":
        settings, text = {"deployment": "h100-tp4"}, "single:h100-tp4"
    policy = load_policy(name, fleet=without_slo(fleet), **settings)
    decider = Decider(fleet, text)
    played = recorded(fleet, policy, 8.0, 200)
    chosen = set()
    for entry in played:
        if isinstance(entry, Served):
            decider.finished(entry, text)
            continue
        request, endpoints, now_s, decision = entry
        assert decider.decide(request, endpoints, now_s).decision == decision
        chosen.add(decision.endpoint)
    assert sum(isinstance(entry, tuple) for entry in played) == 200
    assert len(chosen) > 1


def test_frugal_tells_what_it_decided_by() -> None:
    """Of what it says it predicted, the choice follows: the fewest joules that break no promise."""
    fleet = structs.replace(
        FLEET, deployments=[structs.replace(d, replicas=2) for d in FLEET.deployments]
    )
    decider = Decider(fleet, "frugal")
    policy = load_policy("frugal", fleet=without_slo(fleet), promises=fleet.slo)
    late = 0
    for entry in recorded(fleet, policy, 12.0, 200):
        if isinstance(entry, Served):
            decider.finished(entry, "frugal")
            continue
        request, endpoints, now_s, _ = entry
        choice = decider.decide(request, endpoints, now_s)
        assert choice.tell is not None
        found = weighed_of(choice.tell())
        assert set(found) == {e.name for e in endpoints}
        keeping = {n: w for n, w in found.items() if w.used <= 1}
        best = min(keeping, key=lambda n: found[n].joules) if keeping else ""
        least = min(found, key=lambda n: found[n].used)
        chosen = found[choice.decision.endpoint or ""]
        if keeping:
            assert chosen.joules == pytest.approx(found[best].joules)
        else:
            assert chosen.used == pytest.approx(found[least].used)
        late += len(keeping) < len(found)
    assert late > 0


ENDPOINTS = [Endpoint("a100-tp8/0", "a100-tp8", running=3), Endpoint("h100-tp4/0", "h100-tp4")]


def test_a_shadow_is_recorded_and_not_obeyed() -> None:
    decider = Decider(FLEET, "single:a100-tp8", shadow="least-loaded")
    choice = decider.decide(Request("1", 100, 50.0), ENDPOINTS, 0.0)
    assert choice.decision.endpoint == "a100-tp8/0"
    assert choice.shadow is not None
    assert choice.shadow.endpoint == "h100-tp4/0"


def test_the_switch_lets_the_default_decide() -> None:
    decider = Decider(FLEET, "single:a100-tp8", default="least-loaded")
    request = Request("1", 100, 50.0)
    decider.switch_off()
    choice = decider.decide(request, ENDPOINTS, 0.0)
    assert (choice.decision.endpoint, choice.policy) == ("h100-tp4/0", "least-loaded")
    decider.switch_on()
    assert decider.decide(request, ENDPOINTS, 0.0).decision.endpoint == "a100-tp8/0"


def test_a_threshold_is_named_as_in_simulations() -> None:
    decider = Decider(FLEET, "threshold:a100-tp8,h100-tp4,200")
    ends = [decider.decide(Request("1", m, 50.0), ENDPOINTS, 0.0) for m in (100, 300)]
    assert [e.decision.endpoint for e in ends] == ["a100-tp8/0", "h100-tp4/0"]


def test_prices_follow_a_plan(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="--plan"):
        Decider(FLEET, "prices")
    done = CliRunner().invoke(main, ["plan", "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    fleet = load_fleet("hybrid-2024")
    decider = Decider(fleet, "prices", plan=tmp_path / "out/plan.json")
    endpoints = [Endpoint("a", "a100"), Endpoint("m", "m1-pro")]
    ends = [decider.decide(Request("1", 16, n), endpoints, 0.0) for n in (32.0, 300.0)]
    assert [e.decision.endpoint for e in ends] == ["m", "a"]


@pytest.mark.parametrize("name", ["nonsense", "single:nowhere", "frugal:fast"])
def test_wrong_policies_are_refused(name: str) -> None:
    with pytest.raises(ParameterError):
        Decider(FLEET, name)


def ask_and_end(decider: Decider, number: int, ends: list[Endpoint], **became: Any) -> Any:
    """A request is sent somewhere, once for each time that it is decided, and ends there."""
    for _ in range(became.pop("times", 1)):
        choice = decider.decide(Request(str(number), 100, 50.0), ends, 0.0)
    assert choice.decision.endpoint is not None
    served = Served(str(number), choice.decision.endpoint, 1.0, **became)
    decider.finished(served, choice.policy, choice.shadow)
    return choice.shadow


def test_a_shadow_forgets_requests_that_are_over_wherever_they_went() -> None:
    fleet = structs.replace(
        FLEET, deployments=[structs.replace(d, accuracy=0.5) for d in FLEET.deployments]
    )
    decider = Decider(fleet, "single:a100-tp8", shadow="accumulated-coded")
    shadow: Any = decider._shadow
    for number in range(50):
        ask_and_end(decider, number, ENDPOINTS, times=1 + number % 3)
    assert not shadow._unfinished
    assert all(total == pytest.approx(0.0, abs=1e-9) for total in shadow._totals.values())


def test_a_shadow_learns_only_from_what_it_would_have_done_too() -> None:
    """Promises that others broke are not held against it."""
    same, kept = [], []
    for obeyed in ("a100-tp8", "h100-tp4"):
        decider = Decider(FLEET, f"single:{obeyed}", shadow="frugal")
        shadow: Any = decider._shadow
        for number in range(20):
            decision = ask_and_end(decider, number, ENDPOINTS, kept=False)
            same.append(decision.endpoint == f"{obeyed}/0")
        kept.append(shadow._keep)
    assert same == [True] * 20 + [False] * 20
    assert kept[0] < kept[1] == Frugal(FLEET)._keep
