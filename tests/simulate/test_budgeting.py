"""Budgets that `frugal` keeps on average: reached, at little more than the least energy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from msgspec import structs

from wattshed import load_fleet, read_workload, simulate_fleet
from wattshed.errors import ParameterError
from wattshed.fleet import Fleet
from wattshed.profiles import load_profile, predict
from wattshed.records import SimulatedPolicy, Site
from wattshed.simulate.arrivals import draw_requests
from wattshed.simulate.scenario import Arrivals
from wattshed.workload.table import Workload

REQUESTS = 5000
ALPACA = read_workload("alpaca")
OWED = 20
"""Requests whose accuracy may be owed at the end, whatever their number."""
SIZES = {"llama-2-7b": 0.5097, "llama-2-13b": 0.5569, "llama-2-70b": 0.6452}


@pytest.fixture(scope="module")
def sizes() -> Fleet:
    """Three sizes of a model, each with machines enough that nobody waits long."""
    base = load_fleet("offline-2024")
    deployments = [
        structs.replace(
            each,
            profile=load_profile(f"wilkins-2024/swing-a100/{each.name}"),
            accuracy=SIZES[each.name],
            replicas=8,
            idle_power_w=0.0,
        )
        for each in base.deployments
    ]
    return structs.replace(base, deployments=deployments)


def frugal(
    fleet: Fleet, *budgets: str, workload: Workload = ALPACA, **settings: Any
) -> SimulatedPolicy:
    arrivals = Arrivals(workload, REQUESTS, 0.1)
    found = simulate_fleet(
        fleet, arrivals, policies=["frugal"], budgets=budgets, bound=False, **settings
    )
    return found.policies[0]


@pytest.mark.slow
@pytest.mark.parametrize("floor", [0.53, 0.5569, 0.6, 0.64])
def test_a_mean_accuracy_is_reached_at_nearly_the_least_energy(sizes: Fleet, floor: float) -> None:
    found = frugal(sizes, f"accuracy={floor}", forecast="known")
    assert found.accuracy == pytest.approx(floor, abs=OWED / REQUESTS)
    least_j = _least_j(sizes, found.accuracy)
    assert least_j * (1 - 1e-9) <= found.energy_j.requests_dynamic <= least_j * 1.03


def _least_j(fleet: Fleet, accuracy: float) -> float:
    """No choice of models for these requests reaches the accuracy with less (weak duality)."""
    drawn = draw_requests(ALPACA, REQUESTS, 0.1)
    m, n = drawn.input_tokens, drawn.output_tokens
    energy = np.stack([predict(d.profile, m, n).energy_j for d in fleet.deployments], axis=1)
    above = np.array([SIZES[d.name] for d in fleet.deployments]) - accuracy
    prices = np.geomspace(1e2, 1e7, 2000)
    return float(max((energy - price * above).min(axis=1).sum() for price in prices))


def test_each_run_begins_with_empty_queues(sizes: Fleet) -> None:
    arrivals = Arrivals(ALPACA, REQUESTS, 0.1)
    twice = simulate_fleet(
        sizes,
        arrivals,
        policies=["frugal"],
        controllers=["pinned", "governor"],
        budgets=["accuracy=0.6"],
        bound=False,
    )
    assert twice.policies[0].energy_j == twice.policies[1].energy_j


def test_a_class_keeps_its_energy_and_the_others_do_not_care(sizes: Fleet) -> None:
    """With a mean accuracy for all, the others take over the dear model."""
    names = np.where(np.arange(ALPACA.table.height) % 2 == 0, "batch", "chat")
    workload = replace(ALPACA, table=ALPACA.table.with_columns(pl.Series("class", names)))
    free = frugal(sizes, "accuracy=0.6", workload=workload)
    held = frugal(sizes, "accuracy=0.6", "energy:batch=900", workload=workload)
    before, after = (
        {c.name: c.dynamic_energy_per_request_j for c in one.classes} for one in (free, held)
    )
    assert min(before.values()) > 1500
    assert after["batch"] == pytest.approx(900, rel=0.05)
    assert after["chat"] > before["chat"]
    assert held.accuracy == pytest.approx(0.6, abs=OWED / REQUESTS)


def test_grams_of_carbon_move_requests_to_where_they_are_fewer(sizes: Fleet) -> None:
    """The cheapest model runs on dirty power, the next one on clean power."""
    sites = {
        "coal": Site("coal", carbon_g_per_kwh=900.0),
        "hydro": Site("hydro", carbon_g_per_kwh=10.0),
    }
    fleet = structs.replace(
        sizes,
        sites=sites,
        deployments=[
            structs.replace(d, site="coal" if d.name == "llama-2-7b" else "hydro")
            for d in sizes.deployments
        ],
    )
    free, held = frugal(fleet), frugal(fleet, "carbon=0.02")
    grams = [
        sum(impact.carbon_g for impact in one.impacts.values()) / one.completed
        for one in (free, held)
    ]
    assert grams[0] > 0.04
    assert 0.018 < grams[1] < 0.0202
    assert held.energy_per_request_j > free.energy_per_request_j


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ("speed=3", "give accuracy=PART"),
        ("accuracy", "give accuracy=PART"),
        ("accuracy=high", "give accuracy=PART"),
        ("energy=0", "give accuracy=PART"),
        ("carbon=inf", "give accuracy=PART"),
        ("accuracy=0.7", "at most 0.6452"),
        ("energy:nobody=3", "classes of the workload: none"),
        ("carbon=3", "llama-2-13b.site: has no carbon intensity"),
    ],
)
def test_budgets_that_cannot_be_kept_are_refused(sizes: Fleet, budget: str, words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        frugal(sizes, budget)


def test_an_accuracy_that_nobody_states_is_asked_for() -> None:
    with pytest.raises(ParameterError, match=r"a100-tp8.accuracy: is not stated"):
        frugal(load_fleet("mixed-70b"), "accuracy=0.5")
