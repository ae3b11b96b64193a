"""Deployments and requests made up for a test, and the step-by-step simulator beside ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from wattshed.engines.model import BatchingDeployment, Deployment, affine_steps
from wattshed.simulate.model import Requests
from wattshed.simulate.policies import make_routing, weights
from wattshed.simulate.reference import StepByStep
from wattshed.simulate.reference_parts import Found


@pytest.fixture
def make_batching() -> Callable[..., BatchingDeployment]:
    """Llama-3.3-70B on 4 H100 (time and energy by batch published; the rest made up)."""

    def build(name: str = "h100", replicas: int = 1, batch: int = 8, **limits: Any) -> Any:
        time = affine_steps(batch, 0.0161, 0.000137, 2e-8, 90e-6, 1e-9)
        energy = affine_steps(batch, 27.8, 0.381, 1e-5, 0.1, 1e-6)
        settings = {"idle_power_w": 480.0, "chunk_tokens": max(512, batch), **limits}
        return BatchingDeployment(name, replicas, time, energy, **settings)

    return build


@pytest.fixture
def make_requests() -> Callable[..., Requests]:
    """Poisson arrivals, lengths from 1 up."""

    def build(count: int, rate: float, seed: int = 0, longest: int = 200) -> Requests:
        rng = np.random.default_rng(seed)
        arrival = np.cumsum(rng.exponential(1 / rate, count))
        m, n = rng.integers(1, longest + 1, (2, count))
        return Requests(arrival, m, n)

    return build


@pytest.fixture
def by_step() -> Callable[..., Found]:
    """Run the specification with the same settings as `simulate_requests`."""

    def run(
        deployments: Sequence[Deployment],
        requests: Requests,
        policy: str,
        share: Any = None,
        seed: int = 0,
        *,
        cost: Any = None,
        controller: Any = None,
        promises: Any = None,
        outages: Any = (),
    ) -> Found:
        routing = make_routing(
            policy, deployments, requests, share=share, seed=seed, cost=cost, promises=promises
        )
        weight = weights(deployments, share)
        plain = StepByStep(deployments, requests, routing, weight, controller, promises, outages)
        plain.run()
        return plain.found

    return run
