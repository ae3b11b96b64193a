"""The engines of a fleet predict what its profiles predict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from msgspec import structs

import wattshed as ws
from wattshed.engines.model import (
    BatchingDeployment,
    ClockedSteps,
    OneQueryDeployment,
    StepModel,
    affine_steps,
)
from wattshed.errors import ParameterError
from wattshed.fleet import Deployment
from wattshed.iterations import load_iteration_profiles
from wattshed.profiles import predict
from wattshed.records import IterationProfile, Profile
from wattshed.replicas import batching, engines_of

PROFILES = load_iteration_profiles()
STEPS = ws.load_iteration_profile("splitwise/h100-80gb-tp4/llama-2-70b")
HYBRID = ws.load_fleet("hybrid-2024")
CLOCKS = (0.4, 0.75)
HOST_W = 150.0


def engine(profile: IterationProfile, **settings: Any) -> BatchingDeployment:
    deployment = Deployment("engine", profile, kv_tokens=10**6, **settings)
    return batching(deployment, profile, CLOCKS)


def cost(model: StepModel, b: int, context: int, prompt: int) -> float:
    """What `StepModel` says that a step costs."""
    total = model.by_batch[b] + model.per_context_token * context
    if prompt and model.prompt is not None:
        total += float(model.prompt.of(prompt)) - (model.saved if b else 0.0)
    return float(total)


def random_steps(seed: int, max_batch: int) -> Any:
    """Batches, context and prompt tokens (N, 3), all three kinds of steps among them."""
    rng = np.random.default_rng(seed)
    steps = np.stack(
        [
            rng.integers(0, max_batch + 1, 24),
            rng.integers(0, 200_000, 24),
            np.where(rng.random(24) < 0.4, 0, rng.integers(1, 20_000, 24)),
        ],
        axis=1,
    )
    steps[steps[:, 0] == 0, 1] = 0
    steps[(steps[:, 0] == 0) & (steps[:, 2] == 0), 2] = 1
    return steps


def assert_predicts(
    steps: ClockedSteps, profile: IterationProfile, host_w: float, which: Any
) -> None:
    for b, context, prompt in which.tolist():
        expected = ws.predict_steps(profile, b, context, prompt, clock=steps.clock)
        seconds = expected.time_s[0]
        assert cost(steps.time, b, context, prompt) == pytest.approx(seconds, rel=1e-9)
        joules = expected.energy_j[0] + host_w * seconds
        assert cost(steps.energy, b, context, prompt) == pytest.approx(joules, rel=1e-9)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_steps_are_those_of_the_profile_at_every_clock(profile: IterationProfile) -> None:
    found = engine(profile, host_power_w=HOST_W)
    which = random_steps(len(profile.name), found.max_batch)
    assert [steps.clock for steps in found.clocks] == [*CLOCKS, 1.0]
    for steps in found.clocks:
        assert_predicts(steps, profile, HOST_W, which)


def test_a_fleet_that_is_set_lower_has_its_clock_and_those_below() -> None:
    found = engine(STEPS, clock=0.75)
    assert [steps.clock for steps in found.clocks] == [0.4, 0.75]
    assert found.clock == 0.75
    for steps in found.clocks:
        assert_predicts(steps, STEPS, 0.0, random_steps(1, found.max_batch))


def test_clocks_that_do_not_rise_to_that_of_the_deployment_are_refused() -> None:
    one = affine_steps(2, 1.0)
    for clocks in ([0.5, 0.4], [0.8], [0.0]):
        slower = tuple(ClockedSteps(clock, one, one) for clock in clocks)
        with pytest.raises(ParameterError, match=r"x\.slower"):
            BatchingDeployment("x", 1, one, one, slower=slower, clock=0.8)
    with pytest.raises(ParameterError, match=r"x\.slower: clocks \[1\.5\]"):
        BatchingDeployment("x", 1, one, one, clock=1.5)


def test_the_host_is_paid_for_steps_and_not_for_idling() -> None:
    without, found = engine(STEPS), engine(STEPS, host_power_w=HOST_W)
    assert found.idle_power_w == without.idle_power_w
    b = np.arange(1, found.max_batch + 1)
    more = found.energy.by_batch[b] - without.energy.by_batch[b]
    np.testing.assert_allclose(more, HOST_W * found.time.by_batch[b])


def test_static_power_is_no_more_than_idling_draws() -> None:
    assert engine(STEPS, idle_power_w=10.0).static_power_w == 10.0
    assert engine(STEPS, idle_power_w=1e6).static_power_w == STEPS.clock.static_power_w


def test_sleep_and_boot_are_those_of_the_profile() -> None:
    found = engine(STEPS, sleep_after_s=3.0)
    assert engine(STEPS).sleep is None
    assert found.sleep is not None
    sleep, boot = STEPS.states["sleep"], STEPS.states["boot"]
    assert (found.sleep.after_s, found.sleep.power_w) == (3.0, sleep.power_w)
    assert (found.sleep.ready_s, found.boot.ready_s) == (sleep.ready_s, boot.ready_s)


def test_single_queries_are_those_of_the_profile_with_their_host() -> None:
    rng = np.random.default_rng(0)
    m, n = rng.integers(1, 500, (2, 40))
    n[0] = 1
    for d, found in zip(HYBRID.deployments, engines_of(HYBRID.deployments, m, n), strict=True):
        assert isinstance(found, OneQueryDeployment)
        assert isinstance(d.profile, Profile)
        expected = predict(d.profile, m, n)
        np.testing.assert_allclose(found.runtime_s, expected.runtime_s)
        energy_j = expected.energy_j + d.host_power_w * expected.runtime_s
        np.testing.assert_allclose(found.energy_j, energy_j)
        assert found.first_token_s is not None
        assert (found.first_token_s <= found.runtime_s).all()
        assert found.first_token_s[0] == found.runtime_s[0]  # the first token is the last


@pytest.fixture
def falling(make_profile: Callable[..., Profile]) -> Profile:
    """Energy that falls below 0 with more than 10 input tokens to an output token."""
    profile = make_profile("falling", (1.0, 0.0), (1.0, 0.0))
    coefficients = {"m": -0.1, "n": 1.0, "mn": 0.0}
    energy = structs.replace(profile.energy, form="bilinear", coefficients=coefficients)
    return structs.replace(profile, energy=energy)


def test_negative_predictions_are_refused(falling: Profile) -> None:
    m, n = np.array([5, 50]), np.array([1, 1])
    message = r"falling\.profile: falling predicts -4 J and 1 s for 50 input and 1 output tokens"
    with pytest.raises(ParameterError, match=message):
        engines_of([Deployment("falling", falling)], m, n)


def test_negative_predictions_do_not_matter_where_limits_keep_requests_away(
    falling: Profile,
) -> None:
    m, n = np.array([5, 50]), np.array([1, 1])
    limited = Deployment("falling", falling, max_input_tokens=20)
    (found,) = engines_of([limited], m, n)
    assert isinstance(found, OneQueryDeployment)
    np.testing.assert_array_equal(np.isfinite(found.runtime_s), [True, False])


def test_a_clock_that_cannot_be_is_refused() -> None:
    with pytest.raises(ParameterError, match="clock: 0"):
        engines_of([Deployment("a", STEPS)], np.ones(1, int), np.ones(1, int), [0.0])
