"""Blocks against single steps: the compiled simulator does what the plain one says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wattshed.simulate.engine import POLICIES, run_world, simulate_requests
from wattshed.simulate.layout import lay_out
from wattshed.simulate.model import (
    BatchingDeployment,
    Deployment,
    OneQueryDeployment,
    Requests,
    StepModel,
    interpolated_steps,
)
from wattshed.simulate.result import Simulation

ROUNDING_S = 1e-9


def assert_same(ours: Simulation, plain: Any) -> None:
    np.testing.assert_array_equal(ours.replica, plain.replica)
    np.testing.assert_array_equal(ours.preemptions, plain.preemptions)
    for mine, its in (
        (ours.start_s, plain.start),
        (ours.first_token_s, plain.first),
        (ours.finish_s, plain.finish),
        (ours.time_s[:, 1:], plain.time[:, 1:]),
    ):
        np.testing.assert_allclose(mine, its, rtol=0, atol=ROUNDING_S)
    for mine, its in (
        (ours.own_energy_j, plain.own),
        (ours.shared_energy_j, plain.shared),
        (ours.energy_j[:, 1:], plain.energy[:, 1:]),
    ):
        np.testing.assert_allclose(mine, its, rtol=1e-9, atol=1e-9)
    batched = (ours.replica >= 0) & ~np.isin(ours.replica, alone(ours))
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


def alone(ours: Simulation) -> Any:
    return np.flatnonzero(ours.time_s[:, 3] > 0)


def random_fleet(rng: np.random.Generator, queries: int) -> list[Deployment]:
    """One to three deployments of either kind, some with little room in the KV cache."""
    fleet: list[Deployment] = []
    for i in range(rng.integers(1, 4)):
        replicas = int(rng.integers(1, 4))
        if rng.random() < 0.3:
            runtime = rng.exponential(1.0, queries)
            runtime[rng.random(queries) < 0.3] = np.inf
            joules = rng.exponential(10.0, queries)
            fleet.append(OneQueryDeployment(f"one-{i}", replicas, runtime, joules, 0.3 * runtime))
            continue
        batch = int(rng.integers(1, 10))
        rates = rng.exponential([1e-4, 1e-4, 1e-6]) * (rng.random(3) < 0.7)
        time = StepModel(0.01 + 0.01 * rng.random(batch + 1), *rates)
        knots = interpolated_steps([0, batch], rng.exponential(5.0, 2), *rates)
        fleet.append(
            BatchingDeployment(
                f"batch-{i}",
                replicas,
                time,
                knots,
                chunk_tokens=int(batch + rng.integers(0, 60)),
                kv_tokens=int(rng.integers(60, 400)),
                max_context_tokens=int(rng.integers(50, 200)),
                idle_power_w=float(rng.exponential(10.0)),
            )
        )
    return fleet


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), load=st.sampled_from([0.3, 3.0, 30.0]))
def test_blocks_equal_single_steps(
    policy: str, seed: int, load: float, by_step: Callable[..., Any]
) -> None:
    rng = np.random.default_rng(seed)
    queries = int(rng.integers(0, 120))
    arrival = np.cumsum(rng.exponential(1 / load, queries))
    requests = Requests(arrival, *rng.integers(1, 90, (2, queries)))
    fleet = random_fleet(rng, queries)
    share = rng.random(len(fleet)) if policy == "share" else None
    ours = simulate_requests(fleet, requests, policy=policy, share=share, seed=seed % 1000)
    assert_same(ours, by_step(fleet, requests, policy, share, seed % 1000))


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
        world = lay_out([make_batching(replicas=3)], requests, np.ones(1), np.zeros((0, 2)))
        gaps = run_world(world, POLICIES["least-outstanding"], room)
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
