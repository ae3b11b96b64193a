"""The load that a fleet can bear: kept there, broken a little above."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from wattshed import load_fleet, read_workload, simulate_fleet
from wattshed.errors import InfeasibleError, ParameterError
from wattshed.fleet import Fleet, Slo
from wattshed.simulate import load
from wattshed.simulate.load import PRECISION, highest_rate
from wattshed.simulate.scenario import Arrivals, in_order

ALPACA = Arrivals(read_workload("alpaca"))
MIXED = load_fleet("mixed-70b")
FEW = 1_500
"""Requests by which rates are judged here."""


@pytest.fixture(autouse=True)
def fewer_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "REQUESTS", FEW)


def promising(**limits: float) -> Fleet:
    """One replica of each deployment."""
    few = [structs.replace(d, replicas=1) for d in MIXED.deployments]
    return structs.replace(MIXED, deployments=few, slo={"default": Slo(**limits)})


def kept(fleet: Fleet, arrivals: Arrivals, rate: float, target: float, **settings: Any) -> float:
    """Attainment by the whole simulation, and not by the function that is tested."""
    at = replace(arrivals, requests=FEW, rate_per_s=rate)
    found = simulate_fleet(
        fleet, at, forecast="known", target=target, bound=False, **settings
    ).policies[0]
    assert found.attainment is not None
    return found.attainment


@pytest.mark.parametrize(
    ("limits", "target", "cv", "every_token"),
    [
        ({"ttft_s": 1.0, "tbt_s": 0.1}, 0.99, 1.0, False),
        ({"ttft_s": 1.0}, 0.9, 3.0, False),
        ({"tbt_s": 0.1}, 0.95, 1.0, True),
        ({"e2e_s": 20.0}, 0.9, 1.0, False),
    ],
)
def test_the_target_is_kept_at_the_rate_and_not_a_little_above(
    limits: dict[str, float], target: float, cv: float, every_token: bool
) -> None:
    fleet, arrivals = promising(**limits), replace(ALPACA, cv=cv)
    rate = highest_rate(fleet, arrivals, target=target, every_token=every_token, seed=1)

    def at(factor: float) -> float:
        return kept(fleet, arrivals, factor * rate, target, every_token=every_token, seed=1)

    assert at(1.0) >= target
    assert at(1 + 2 * PRECISION) < target or at(1.05) < target


def test_more_is_borne_by_more_replicas_and_under_laxer_promises() -> None:
    strict, lax = promising(ttft_s=0.5, tbt_s=0.08), promising(ttft_s=2.0, tbt_s=0.2)
    more = structs.replace(
        strict, deployments=[structs.replace(d, replicas=2) for d in strict.deployments]
    )
    least = highest_rate(strict, ALPACA)
    assert highest_rate(lax, ALPACA) > least
    assert highest_rate(more, ALPACA) > 1.8 * least


def test_a_load_is_a_part_of_that_rate_and_says_of_which() -> None:
    fleet = promising(ttft_s=1.0, tbt_s=0.1)
    most = highest_rate(in_order(fleet), ALPACA, target=0.95)
    arrivals = replace(ALPACA, requests=FEW, load=0.5)
    found = simulate_fleet(fleet, arrivals, target=0.95, bound=False)
    assert found.arrivals == f"Poisson at {0.5 * most:g} requests/s"
    assert found.notes[0].startswith(f"load 50%: of the {most:.4g} requests/s")
    assert (found.policies[0].attainment or 0) >= 0.95


def test_progress_is_reported_and_a_stop_is_one() -> None:
    told: list[tuple[int, int]] = []
    highest_rate(promising(ttft_s=1.0), ALPACA, report=lambda *what: told.append(what))
    assert [step for step, _ in told] == list(range(len(told)))

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        highest_rate(promising(ttft_s=1.0), ALPACA, report=stop)


def test_without_promises_there_is_no_such_rate() -> None:
    with pytest.raises(ParameterError, match="load: the fleet promises nothing"):
        highest_rate(promising(), ALPACA)
    with pytest.raises(ParameterError, match="load: the fleet promises nothing"):
        highest_rate(structs.replace(MIXED, slo={}), ALPACA)


def test_promises_that_are_kept_at_any_rate_are_said_to_be() -> None:
    with pytest.raises(ParameterError, match="kept even if 1500 requests come at once"):
        highest_rate(promising(ttft_s=1e6), ALPACA)


def test_promises_that_nobody_made_are_kept_at_any_rate() -> None:
    fleet = structs.replace(MIXED, slo={"chat": Slo(ttft_s=1.0)})  # requests are of no class
    with pytest.raises(ParameterError, match="come at once"):
        highest_rate(fleet, ALPACA)


def test_promises_that_are_broken_even_alone_are_infeasible(
    make_workload: Callable[..., Any],
) -> None:
    with pytest.raises(
        InfeasibleError, match=r"0\.99 of the promises are kept at 0\.03 requests/s"
    ):
        highest_rate(promising(ttft_s=1e-6), ALPACA)
    fleet = promising(ttft_s=10.0)
    short = [structs.replace(d, max_context_tokens=5) for d in fleet.deployments]
    with pytest.raises(InfeasibleError):
        highest_rate(structs.replace(fleet, deployments=short), Arrivals(make_workload([9], [9])))
