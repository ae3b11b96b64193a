"""The energy of a request is what the profile says of it, told apart from the idle power."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from msgspec import structs

from wattshed.fleet import load_fleet
from wattshed.plan.problem import predict_problem
from wattshed.profiles import predict_draws
from wattshed.records import Deployment, Fleet, IterationProfile, Profile
from wattshed.serve.answer import Usage
from wattshed.serve.receipt import Receipts
from wattshed.serving import engine_settings
from wattshed.workload.table import Queries

FLEETS = [load_fleet("mixed-70b"), load_fleet("hybrid-2024")]


@pytest.mark.parametrize("deployment", [d for f in FLEETS for d in f.deployments])
def test_a_full_batch_costs_what_a_plan_takes_it_to_cost(deployment: Deployment) -> None:
    deployment = structs.replace(deployment, idle_power_w=50.0, host_power_w=7.0)
    fleet = structs.replace(FLEETS[0], deployments=[deployment], slo={})
    one = np.ones(1, np.int64)
    problem = predict_problem(fleet, Queries(np.array([300.0]), np.array([80.0]), one, 0 * one))
    found = Receipts(deployment).of(Usage(300, 80), beside=1e9)
    assert found is not None
    assert found.joules == pytest.approx(problem.energy_j[0, 0])
    assert found.idle_joules == pytest.approx(50.0 * problem.busy_s[0, 0])
    assert (found.method, found.boundary) == ("modelled", deployment.profile.boundary)


@pytest.mark.parametrize("deployment", FLEETS[0].deployments)
def test_a_request_that_shares_its_steps_costs_less(deployment: Deployment) -> None:
    receipts = Receipts(deployment)
    used = Usage(300, 80)
    gross = []
    for beside in (1.0, 4.0, 16.0):
        found = receipts.of(used, beside)
        assert found is not None
        assert found.idle_joules is not None
        gross.append(found.joules + found.idle_joules)
    assert gross == sorted(gross, reverse=True)
    assert isinstance(deployment.profile, IterationProfile)
    assert receipts.of(used, 1e9) == receipts.of(used, engine_settings(deployment).max_batch)


def test_the_interval_is_that_of_the_draws() -> None:
    (deployment,) = (
        structs.replace(d, host_power_w=0.0) for d in FLEETS[1].deployments if d.name == "a100"
    )
    found = Receipts(deployment).of(Usage(64, 128), 1.0)
    assert isinstance(deployment.profile, Profile)
    draws = predict_draws(deployment.profile, np.array([64.0]), np.array([128.0]))
    assert found is not None
    assert draws is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.joules < found.high
    inside = (draws[0] > found.low) & (draws[0] < found.high)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.01)


def test_what_is_not_known_is_not_zero(
    make_fleet: Callable[..., Fleet],
) -> None:
    (deployment,) = make_fleet({"d": (1.0, 0.0, 0.1, 0.0)}).deployments
    found = Receipts(deployment).of(Usage(10, 5), 1.0)
    assert found is not None
    assert found.words()["idle_joules"] is None
    assert json.loads(found.json) == found.words()
    assert (found.low, found.high) == (None, None)
    assert not found.extrapolated
    far = Receipts(deployment).of(Usage(10, 5000), 1.0)
    assert far is not None
    assert far.extrapolated


def test_a_profile_that_predicts_less_than_nothing_gives_no_receipt(
    make_fleet: Callable[..., Fleet],
) -> None:
    (deployment,) = make_fleet({"d": (-1.0, 0.0, 0.1, 0.0)}).deployments
    assert Receipts(deployment).of(Usage(10, 5), 1.0) is None
