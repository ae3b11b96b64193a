"""Blocks against single steps: the compiled simulator does what the plain one says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wattshed.control.clocks import BatchCap, PhaseAwareClock, PinnedMaximum, StaticClock
from wattshed.engines.model import (
    BatchingDeployment,
    Boot,
    ClockedSteps,
    Deployment,
    OneQueryDeployment,
    PromptCurve,
    Sleep,
    StepModel,
    interpolated_steps,
)
from wattshed.simulate.control import compile_control
from wattshed.simulate.engine import run_world, simulate_requests
from wattshed.simulate.layout import QUERY, lay_out
from wattshed.simulate.model import Outage, Requests
from wattshed.simulate.policies import Promises, make_routing
from wattshed.simulate.result import Simulation

ROUNDING_S = 1e-9
PLAIN = ("round-robin", "random", "share", "least-outstanding", "power-of-two", "ranked")
"""Policies that the plain simulator has, too."""


def assert_same(ours: Simulation, plain: Any) -> None:
    np.testing.assert_array_equal(ours.replica, plain.replica)
    np.testing.assert_array_equal(ours.fate, plain.fate)
    np.testing.assert_array_equal(ours.preemptions, plain.preemptions)
    np.testing.assert_array_equal(ours.retries, plain.retries)
    for mine, its in (
        (ours.start_s, plain.start),
        (ours.first_token_s, plain.first),
        (ours.finish_s, plain.finish),
        (ours.time_s, plain.time),
    ):
        np.testing.assert_allclose(mine, its, rtol=0, atol=ROUNDING_S)
    for mine, its in (
        (ours.prefill_energy_j, plain.prefill),
        (ours.decode_energy_j, plain.decode),
        (ours.static_energy_j, plain.static),
        (ours.energy_j, plain.energy),
    ):
        np.testing.assert_allclose(mine, its, rtol=1e-9, atol=1e-8)
    batched = ours.served & ~np.isin(ours.replica, alone(ours))
    longest = ours.longest_gap_s[batched]
    np.testing.assert_allclose(longest, plain.longest[batched], rtol=0, atol=ROUNDING_S)
    assert ours.gaps is not None
    assert ours.gaps.count == len(plain.gaps)
    if plain.gaps:
        for level in (0.0, 0.5, 0.9, 0.99, 1.0):
            exact = np.quantile(plain.gaps, level, method="inverted_cdf")
            assert ours.gaps.quantile_s(level) == pytest.approx(exact, rel=0, abs=ROUNDING_S)
        assert ours.gaps.mean_s == pytest.approx(np.mean(plain.gaps))
    assert abs(ours.imbalance) < 1e-9
    assert ours.timeline.by_state_j.sum() == pytest.approx(ours.total_energy_j, rel=1e-12)
    np.testing.assert_allclose(
        ours.timeline.by_replica_j.sum(axis=1), ours.energy_j.sum(axis=1), rtol=1e-9, atol=1e-8
    )


def alone(ours: Simulation) -> Any:
    return np.flatnonzero(ours.time_s[:, QUERY] > 0)


def random_steps(rng: np.random.Generator, batch: int) -> tuple[StepModel, StepModel]:
    """Time and energy of steps, some with a curve over the prompt tokens."""
    rates = rng.exponential([1e-4, 1e-4, 1e-6]) * (rng.random(3) < 0.7)
    time = StepModel(0.01 + 0.01 * rng.random(batch + 1), *rates)
    energy = interpolated_steps([0, batch], rng.exponential(5.0, 2), *rates)
    if rng.random() < 0.5:
        return time, energy
    starts = np.cumsum(rng.integers(1, 30, 3))
    curves = [PromptCurve(starts, *np.sort(rng.random((2, 3)) * 0.01)) for _ in range(2)]
    saved = rng.random(2) * [0.01, float(energy.by_batch.min())]
    return (
        replace(time, prompt=curves[0], saved=saved[0]),
        replace(energy, prompt=curves[1], saved=saved[1]),
    )


def slower(clock: float, time: StepModel, energy: StepModel) -> ClockedSteps:
    """The same steps at a lower clock."""
    stretch = replace(
        time,
        by_batch=time.by_batch / clock,
        per_prompt_token=time.per_prompt_token / clock,
        per_context_token=time.per_context_token / clock,
    )
    return ClockedSteps(
        clock,
        stretch,
        replace(energy, by_batch=energy.by_batch * clock, saved=energy.saved * clock),
    )


def random_fleet(rng: np.random.Generator, queries: int) -> list[Deployment]:
    """One to three deployments of either kind, some with little room in the KV cache."""
    fleet: list[Deployment] = []
    for i in range(rng.integers(1, 4)):
        replicas = int(rng.integers(1, 4))
        boot = Boot(*rng.exponential([0.5, 5.0])) if rng.random() < 0.7 else Boot()
        if rng.random() < 0.3:
            runtime = rng.exponential(1.0, queries)
            runtime[rng.random(queries) < 0.3] = np.inf
            joules = rng.exponential(10.0, queries)
            fleet.append(
                OneQueryDeployment(
                    f"one-{i}", replicas, runtime, joules, 0.3 * runtime, 3.0, boot=boot
                )
            )
            continue
        batch = int(rng.integers(1, 10))
        time, energy = random_steps(rng, batch)
        clocks = tuple(slower(c, time, energy) for c in (0.4, 0.7) if rng.random() < 0.7)
        fleet.append(
            BatchingDeployment(
                f"batch-{i}",
                replicas,
                time,
                energy,
                chunk_tokens=int(batch + rng.integers(0, 60)),
                kv_tokens=int(rng.integers(60, 400)),
                max_context_tokens=int(rng.integers(50, 200)),
                idle_power_w=float(rng.exponential(10.0)),
                slower=clocks,
                sleep=Sleep(*rng.exponential([0.3, 2.0, 0.2, 3.0])) if i % 2 else None,
                boot=boot,
            )
        )
    return fleet


def random_outages(rng: np.random.Generator, fleet: list[Deployment], span: float) -> list[Outage]:
    """At most two of each replica, one after the other."""
    boots = [d.boot.ready_s for d in fleet for _ in range(d.replicas)]
    outages = []
    for replica, boot_s in enumerate(boots):
        at = 0.0
        for _ in range(rng.integers(0, 3)):
            begin, length = at + rng.exponential(span / 3), rng.exponential(span / 3)
            last = rng.random() < 0.2
            end = np.inf if last else begin + length
            outages.append(Outage(replica, begin, end, bool(rng.random() < 0.5)))
            if last:
                break
            at = end + boot_s
    return outages


def random_case(seed: int, load: float) -> tuple[list[Deployment], Requests, Any]:
    rng = np.random.default_rng(seed)
    queries = int(rng.integers(0, 120))
    arrival = np.cumsum(rng.exponential(1 / load, queries))
    requests = Requests(arrival, *rng.integers(1, 90, (2, queries)))
    return random_fleet(rng, queries), requests, rng


@pytest.mark.parametrize("policy", PLAIN)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), load=st.sampled_from([0.3, 3.0, 30.0]))
def test_blocks_equal_single_steps(
    policy: str, seed: int, load: float, by_step: Callable[..., Any]
) -> None:
    fleet, requests, rng = random_case(seed, load)
    settings = {
        "policy": policy,
        "share": rng.random(len(fleet)) if policy == "share" else None,
        "cost": rng.exponential(1.0, (len(requests), len(fleet))) if policy == "ranked" else None,
        "seed": seed % 1000,
    }
    ours = simulate_requests(fleet, requests, **settings)
    assert_same(ours, by_step(fleet, requests, **settings))


CONTROLLERS = [
    PinnedMaximum(),
    StaticClock(0.5),
    PhaseAwareClock(0.1, 0.4),
    PhaseAwareClock(0.0, 0.0, hold_s=0.2),
    BatchCap(0.7, 1),
]


@pytest.mark.slow
@pytest.mark.parametrize("controller", CONTROLLERS, ids=str)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), load=st.sampled_from([0.3, 3.0, 30.0]))
def test_the_compiled_controllers_set_what_the_plain_ones_set(
    controller: Any, seed: int, load: float, by_step: Callable[..., Any]
) -> None:
    fleet, requests, rng = random_case(seed, load)
    limits = rng.exponential([1.0, 0.03], (len(requests), 2)).T + 1e-3
    lengths = np.ones((2, len(requests)))
    promises = Promises(*limits, *lengths, every_token=bool(seed % 2))
    settings = {"policy": "least-outstanding", "controller": controller, "promises": promises}
    ours = simulate_requests(fleet, requests, **settings)
    assert_same(ours, by_step(fleet, requests, **settings))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    load=st.sampled_from([0.3, 3.0, 30.0]),
    policy=st.sampled_from(["round-robin", "least-outstanding"]),
)
def test_outages_interrupt_blocks_as_they_interrupt_steps(
    seed: int, load: float, policy: str, by_step: Callable[..., Any]
) -> None:
    fleet, requests, rng = random_case(seed, load)
    span = float(requests.arrival_s.max(initial=1.0)) + 5.0
    outages = random_outages(rng, fleet, span)
    ours = simulate_requests(fleet, requests, policy=policy, outages=outages)
    assert_same(ours, by_step(fleet, requests, policy, outages=outages))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), coarse=st.sampled_from([2, 16, 64]))
def test_events_at_the_same_instant_come_in_the_same_order(
    seed: int, coarse: int, by_step: Callable[..., Any]
) -> None:
    # Steps and arrivals on a grid of binary fractions: everything is exact, and much coincides.
    rng = np.random.default_rng(seed)
    arrival = np.sort(rng.integers(0, 200 // coarse, 60)) * (coarse / 8)
    requests = Requests(arrival, *rng.integers(1, 40, (2, 60)))
    batch = int(rng.integers(1, 6))
    time = StepModel(0.125 + rng.integers(0, 2, batch + 1) / 8, *rng.integers(0, 3, 3) / 64)
    fleet = [
        BatchingDeployment("one", 3, time, time, chunk_tokens=16, kv_tokens=120),
        OneQueryDeployment("two", 1, rng.integers(1, 9, 60) / 8, np.ones(60)),
    ]
    ours = simulate_requests(fleet, requests)
    assert_same(ours, by_step(fleet, requests, "least-outstanding"))


def test_many_small_pieces_are_one_result(
    make_batching: Callable[..., Any], make_requests: Callable[..., Any]
) -> None:
    requests = make_requests(300, 20.0)

    def collected(room: int) -> Any:
        fleet = [make_batching(replicas=3)]
        world = lay_out(fleet, requests, np.ones(1))
        routing = make_routing("least-outstanding", fleet, requests)
        gaps, _ = run_world(world, routing, compile_control(None, fleet, None), room)
        return gaps.gap_s, gaps.steps, world.requests["finish_s"]

    for whole, pieces in zip(collected(10_000), collected(1), strict=True):
        np.testing.assert_array_equal(whole, pieces)


def test_longest_gaps_are_kept_apart_over_many_joins(
    make_batching: Callable[..., Any], by_step: Callable[..., Any]
) -> None:
    # One long answer beside prompts that grow shorter: each makes it wait less than the last.
    m = np.array([5, *range(400, 40, -10)])
    n = np.array([2_000, *([2, 3] * 18)])
    requests = Requests(np.arange(len(m)) * 0.5, m, n)
    fleet = [make_batching(batch=2)]
    assert_same(simulate_requests(fleet, requests), by_step(fleet, requests, "least-outstanding"))
